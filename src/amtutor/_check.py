"""One clear line for bad input: the argument, its value, what was expected."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


def fail(name: str, value: Any, expected: str) -> ValueError:
    """Build the error every check raises: ``name = value: expected ...``."""
    return ValueError(f"{name} = {value!r}: expected {expected}")


def describe(x: Any) -> str:
    """Name a value by what usually goes wrong with it (type, dtype, shape)."""
    if isinstance(x, Tensor):
        return f"{str(x.dtype).removeprefix('torch.')} tensor of shape {tuple(x.shape)}"
    return f"{type(x).__name__} {x!r}"


def positive(name: str, value: float) -> float:
    """Return ``value`` if it is a finite number above zero."""
    if isinstance(value, Tensor):
        if value.numel() != 1:
            raise ValueError(f"{name}: got a {describe(value)}, expected one number > 0")
        number = float(value.detach())
    else:
        number = number_or_fail(name, value, "a finite number > 0")
    if not math.isfinite(number) or number <= 0:
        raise fail(name, number, "a finite number > 0")
    return value


def non_negative(name: str, value: float) -> float:
    """Return ``value`` if it is a finite number of at least zero."""
    number = number_or_fail(name, value, "a finite number >= 0")
    if not math.isfinite(number) or number < 0:
        raise fail(name, number, "a finite number >= 0")
    return value


def number_or_fail(name: str, value: Any, expected: str) -> float:
    """Return ``value`` as a float, or say that it is no number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise fail(name, value, expected) from None


def count(name: str, value: int, *, least: int = 1) -> int:
    """Return ``value`` if it is a whole number of at least ``least``."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or int(value) < least:
        raise fail(name, value, f"a whole number >= {least}")
    return int(value)


def choice(name: str, value: Any, options: tuple) -> Any:
    """Return ``value`` if it is one of ``options``."""
    if value not in options:
        raise fail(name, value, "one of " + ", ".join(repr(o) for o in options))
    return value


def floating(name: str, x: Tensor) -> Tensor:
    """Return ``x`` if it is a floating-point tensor."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise TypeError(f"{name}: got a {describe(x)}, expected a floating-point tensor")
    return x


def finite(name: str, x: Tensor) -> Tensor:
    """Return ``x`` if no entry is NaN or infinite."""
    # Smallest and largest carry any NaN or infinity, and cost no second tensor of x's size.
    if x.numel() and not all(torch.isfinite(end) for end in x.aminmax()):
        bad = int((~torch.isfinite(x)).sum())
        raise ValueError(f"{name}: {bad} of {x.numel()} entries are NaN or infinite")
    return x


def last_dim(name: str, x: Tensor, dim: int) -> Tensor:
    """Return ``x`` if its last dimension has length ``dim``."""
    if not isinstance(x, Tensor) or x.ndim == 0 or x.shape[-1] != dim:
        raise ValueError(f"{name}: got a {describe(x)}, expected last dimension {dim}")
    return x


def matrix(name: str, x: Tensor) -> Tensor:
    """Return ``x`` if it is a (rows, columns) tensor with at least one of each."""
    if not isinstance(x, Tensor) or x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"{name}: got a {describe(x)}, expected a (K, D) tensor, K, D >= 1")
    return x


def same_kind(name: str, x: Tensor, like: Tensor) -> Tensor:
    """Return ``x`` if it has the dtype and device of ``like``."""
    if x.dtype != like.dtype or x.device != like.device:
        raise ValueError(
            f"{name}: got {x.dtype} on {x.device}, expected {like.dtype} on {like.device}"
        )
    return x
