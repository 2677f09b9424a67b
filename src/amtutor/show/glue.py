"""Numbers that travel from a code cell into the prose."""

from __future__ import annotations

import math
import re
from typing import Any

from IPython.display import display

MIME = "application/vnd.amtutor.glue+json"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def glue(name: str, value: Any) -> None:
    """Give ``value`` the name by which prose can quote it: ``{glue}`name```.

    Text is taken as it is, whole numbers in full, other numbers with at most four significant
    digits.

    Raises:
        ValueError: if the name is no plain word, or the number is not finite.
        TypeError: if the value is neither text nor a number.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"name = {name!r}: expected letters, digits, - and _, a letter first")
    text = number_text(value)
    display(
        {MIME: {"name": name, "value": text}, "text/plain": f"{name} = {text}"},
        raw=True,
    )


def number_text(value: Any) -> str:
    """Return the text a reader sees for a number.

    >>> number_text(0.13812), number_text(10_000), number_text(-2.5e-7)
    ('0.1381', '10000', '−2.5 × 10⁻⁷')
    """
    if isinstance(value, str):
        return value
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"value = {value!r}: expected text or one real number")
    if not math.isfinite(value):
        raise ValueError(f"value = {value!r}: expected a finite number")
    text = str(value) if isinstance(value, int) else _four_digits(value)
    return text.replace("-", "−", 1) if text.startswith("-") else text


def _four_digits(value: float) -> str:
    """Format a float with at most four significant digits, in words a reader knows."""
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.3e}".split("e")
    power = int(exponent)
    if -4 <= power <= 5:
        return (
            f"{float(f'{value:.3e}'):.{max(0, 3 - power)}f}".rstrip("0").rstrip(".")
            if power < 3
            else f"{float(f'{value:.3e}'):.0f}"
        )
    mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa} × 10{str(power).translate(_SUPERSCRIPT)}"
