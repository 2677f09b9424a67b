"""Sliders where there is a kernel, one picture where there is none."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from IPython.utils.capture import CapturedIO, capture_output
from matplotlib.artist import Artist
from matplotlib.figure import Figure, SubFigure

from .._check import choice, describe
from .style import show_figure


def explore(draw: Callable[..., Any], **controls: Any) -> Any:
    """Let a reader turn the arguments of ``draw`` and see what it returns.

    A control is a range ``(low, high, step)`` or ``(low, high, step, default)``, a list of
    choices or ``([...], default)``, or True/False. Ranges without a default start in the middle,
    lists at their first entry. With the environment variable ``AMTUTOR_STATIC=1`` the picture
    at the defaults is all there is. Figures become pictures and are closed, whatever the style and
    the backend, so there is one picture and it follows the sliders.

    Args:
        draw: takes the controls by name; returns a figure, axes or anything displayable, or
            nothing and leaves a figure in pyplot (``plt.plot(...)``, also with ``plt.show()``).

    Returns:
        A widget; when static the figure, or whatever else ``draw`` returned. End the cell with it.

    Raises:
        ValueError: if a control is none of the above. Errors of ``draw`` are never swallowed.
    """
    if not callable(draw):
        raise TypeError(f"draw: got a {describe(draw)}, expected a function of the controls")
    sliders = {name: _parse(name, spec) for name, spec in controls.items()}
    defaults = {name: spec["value"] for name, spec in sliders.items()}
    if os.environ.get("AMTUTOR_STATIC") == "1":
        return _drawn(draw, defaults)
    return _live(draw, sliders, _captured(draw, defaults))


def _drawn(draw: Callable[..., Any], values: dict[str, Any]) -> Any:
    """Return the figure that ``draw`` made, closed, or whatever else it returned."""
    before = set(plt.get_fignums())
    with warnings.catch_warnings():  # plt.show() where there is no window: we show it
        warnings.filterwarnings("ignore", "FigureCanvas.* is non-interactive")
        result = draw(**values)
    left = [plt.figure(number) for number in plt.get_fignums() if number not in before]
    figure = _figure_of(result) or (left[-1] if left and result is None else None)
    for one in [*left, figure]:
        if one is not None:
            plt.close(one)  # or the backend would draw it a second time below the cell
    return result if figure is None else figure


def _figure_of(result: Any) -> Figure | None:
    """Return the figure of a figure, of axes, of lines, or of a list or array of those."""
    if isinstance(result, (list, tuple, np.ndarray)) and len(result):
        return _figure_of(np.ravel(result)[0] if isinstance(result, np.ndarray) else result[0])
    figure = result.figure if isinstance(result, Artist) else None
    return (
        figure.figure if isinstance(figure, SubFigure) else figure
    )  # of a figure inside a figure, the outer one


def _captured(draw: Callable[..., Any], values: dict[str, Any]) -> tuple[CapturedIO, Any]:
    """Call ``draw`` and keep what it printed or displayed by itself, and what it made."""
    with capture_output() as said:
        result = _drawn(draw, values)
    return said, result


def _show(said: CapturedIO, result: Any) -> None:
    """Show what ``draw`` said, then its picture; nothing for None."""
    said.show()
    if isinstance(result, Figure):
        show_figure(result)
    elif result is not None:
        display(result)


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


def _live(
    draw: Callable[..., Any], specs: dict[str, dict[str, Any]], first: tuple[CapturedIO, Any]
) -> Any:
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
            _show(*_captured(draw, {name: part.value for name, part in parts.items()}))

    for part in parts.values():
        part.observe(redraw, names="value")
    with picture:
        _show(*first)
    return ipw.VBox([*parts.values(), picture])
