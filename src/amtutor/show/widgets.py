"""Sliders where there is a kernel, one picture where there is none."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
from IPython.display import display

from .._check import choice


def explore(draw: Callable[..., Any], **controls: Any) -> Any:
    """Let a reader turn the arguments of ``draw`` and see what it returns.

    A control is a range ``(low, high, step)`` or ``(low, high, step, default)``, a list of
    choices or ``([...], default)``, or True/False. Ranges without a default start in the middle,
    lists at their first entry. With the environment variable ``AMTUTOR_STATIC=1`` the picture
    at the defaults is all there is.

    Args:
        draw: takes the controls by name, returns a figure, axes or anything displayable.

    Returns:
        A widget, or what ``draw`` returned when static. End the cell with it.

    Raises:
        ValueError: if a control is none of the above. Errors of ``draw`` are never swallowed.
    """
    sliders = {name: _parse(name, spec) for name, spec in controls.items()}
    defaults = {name: spec["value"] for name, spec in sliders.items()}
    first = _drawn(draw, defaults)
    if os.environ.get("AMTUTOR_STATIC") == "1":
        return first
    return _live(draw, sliders, first)


def _drawn(draw: Callable[..., Any], values: dict[str, Any]) -> Any:
    """Return what ``draw`` returned, or the figure it left in pyplot."""
    before = set(plt.get_fignums())
    result = draw(**values)
    new = [n for n in plt.get_fignums() if n not in before]
    return plt.figure(new[-1]) if result is None and new else result


def _parse(name: str, spec: Any) -> dict[str, Any]:
    """Turn one control into the arguments of its widget."""
    expected = "(low, high, step[, default]), a list of choices[, default], or True/False"
    if isinstance(spec, bool):
        return {"kind": "Checkbox", "value": spec}
    if isinstance(spec, list) and spec:
        return {"kind": "Dropdown", "value": spec[0], "options": spec}
    if isinstance(spec, tuple) and len(spec) == 2 and isinstance(spec[0], list):
        value = choice(name, spec[1], tuple(spec[0]))
        return {"kind": "Dropdown", "value": value, "options": spec[0]}
    if not isinstance(spec, tuple) or len(spec) not in (3, 4):
        raise ValueError(f"{name} = {spec!r}: expected {expected}")
    if any(isinstance(v, bool) or not isinstance(v, (int, float)) for v in spec):
        raise ValueError(f"{name} = {spec!r}: expected numbers in (low, high, step[, default])")
    low, high, step = spec[:3]
    if not (low < high and step > 0):
        raise ValueError(f"{name} = {spec!r}: expected low < high and step > 0")
    whole = all(isinstance(v, int) for v in spec)
    middle = low + round((high - low) / 2 / step) * step
    value = spec[3] if len(spec) == 4 else middle
    if not low <= value <= high:
        raise ValueError(f"{name} = {spec!r}: expected a default between low and high")
    kind = "IntSlider" if whole else "FloatSlider"
    return {"kind": kind, "value": value, "min": low, "max": high, "step": step}


def _live(draw: Callable[..., Any], specs: dict[str, dict[str, Any]], first: Any) -> Any:
    """Build the widgets, show the first picture, redraw on every change."""
    import ipywidgets as ipw

    def build(name: str, spec: dict[str, Any]) -> ipw.Widget:
        options = {k: v for k, v in spec.items() if k != "kind"}
        if "min" in spec:
            options["continuous_update"] = False
        widget = getattr(ipw, spec["kind"])(description=name.replace("_", " "), **options)
        widget.style.description_width = "initial"
        return widget

    parts = {name: build(name, spec) for name, spec in specs.items()}
    picture = ipw.Output()

    def redraw(_change: Any = None) -> None:
        picture.clear_output(wait=True)
        with picture:  # an error inside is printed where the picture would be
            display(_drawn(draw, {name: part.value for name, part in parts.items()}))

    for part in parts.values():
        part.observe(redraw, names="value")
    with picture:
        display(first)
    return ipw.VBox([*parts.values(), picture])
