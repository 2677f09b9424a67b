"""Numbers that travel from a code cell into the prose."""

from __future__ import annotations

import math
import re
from typing import Any

from IPython.display import display

from .._check import choice, shown

MIME = "application/vnd.amtutor.glue+json"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_SPACE = "\N{NO-BREAK SPACE}"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def glue(name: str, value: Any, *, digits: int = 4) -> None:
    """Give ``value`` the name by which prose can quote it: ``{glue}`name```.

    Text is taken as it is, whole numbers in full, other numbers with at most ``digits`` (1 to 4)
    significant digits.

    Raises:
        ValueError: if the name is no plain word, or the number is not finite.
        TypeError: if the value is neither text nor a number.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"name = {name!r}: expected letters, digits, - and _, a letter first")
    text = number_text(value, digits=digits)
    display(
        {MIME: {"name": name, "value": text}, "text/plain": f"{name} = {text}"},
        raw=True,
    )


def number_text(value: Any, *, digits: int = 4) -> str:
    """Return the text a reader sees for a number.

    >>> number_text(0.13812), number_text(-2.51e-7), number_text(-2.51e-7, digits=1)
    ('0.1381', '−2.51 × 10⁻⁷', '−3 × 10⁻⁷')
    """
    digits = choice("digits", digits, (1, 2, 3, 4))
    if isinstance(value, str):
        return value
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"value = {shown(value)}: expected text or one real number")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"value = {value!r}: expected a finite number")
    text = _grouped(value) if isinstance(value, int) else _short(value, digits)
    return text.replace("-", "−", 1) if text.startswith("-") else text


def _grouped(value: int) -> str:
    """Write a whole number, from 10 000 on in groups of three."""
    return str(value) if abs(value) < 10_000 else f"{value:,}".replace(",", _SPACE)


def _short(value: float, digits: int) -> str:
    """Write a float with at most so many significant digits, a power of ten where it is far off."""
    if value == 0:
        return "0"
    rounded = f"{value:.{digits - 1}e}"
    mantissa, power = rounded.split("e")[0], int(rounded.split("e")[1])
    if not -4 <= power <= 5:
        return f"{_bare(mantissa)} × 10{str(power).translate(_SUPERSCRIPT)}"
    decimals = digits - 1 - power
    return (
        _bare(f"{float(rounded):.{decimals}f}") if decimals > 0 else _grouped(int(float(rounded)))
    )


def _bare(text: str) -> str:
    """Drop the zeros that end a decimal fraction."""
    return text.rstrip("0").rstrip(".") if "." in text else text
