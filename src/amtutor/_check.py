"""One clear line for bad input: the argument, its value, what was expected.

Checks stand at the public doors; kernels below them have none, so that they compile and vmap. Every
check returns what it was given in the type that its name promises, so write ``k = count("k", k)``.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

MOST = 2**53  # no count above what a double holds exactly: such a number is a slip
_T = TypeVar("_T")


def fail(name: str, value: Any, expected: str) -> ValueError:
    """Build the error that most checks raise: ``name = value: expected ...``, on one line."""
    return ValueError(f"{name} = {shown(value)}: expected {expected}")


def shown(value: Any) -> str:
    """Write a value on one line, shortened; anything with a shape by type, dtype and shape."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return describe(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**40:
        return f"a whole number of {value.bit_length()} bits"
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:60]}... ({type(value).__name__})"


def describe(x: Any) -> str:
    """Name a value by what usually goes wrong with it (type, dtype, shape)."""
    if isinstance(x, Tensor):
        layout = "" if x.layout == torch.strided else "sparse "
        place = " on the meta device" if x.device.type == "meta" else ""
        dtype = str(x.dtype).removeprefix("torch.")
        return f"{layout}{dtype} tensor of shape {tuple(x.shape)}{place}"
    if hasattr(x, "shape") and hasattr(x, "dtype"):
        return f"{type(x).__name__} of {x.dtype} of shape {tuple(x.shape)}"
    return f"{type(x).__name__} {shown(x)}"


# ---------------------------------------------------------------------------------- numbers


def number_or_fail(name: str, value: Any, expected: str) -> float:
    """Return ``value`` as a float, or say that it is no number (text is none, nor is True)."""
    if isinstance(value, Tensor) and value.numel() == 1 and value.device.type != "meta":
        value = value.detach().item()
    ndim = getattr(value, "ndim", 0)
    if isinstance(value, bool) or ndim or not isinstance(value, (numbers.Real, _Scalar)):
        raise fail(name, value, expected)
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise fail(name, value, expected) from None


class _ScalarMeta(type):
    def __instancecheck__(cls, value: Any) -> bool:
        # NumPy's scalars and arrays without dimensions, without importing NumPy
        kind = getattr(getattr(value, "dtype", None), "kind", "")
        return kind in ("f", "i", "u") and getattr(value, "ndim", None) == 0


class _Scalar(metaclass=_ScalarMeta):
    """NumPy's numbers."""

    __float__: Callable[[], float]


def positive(name: str, value: Any) -> Any:
    """Return ``value`` as a float if it is finite and above zero.

    A tensor of one element stays a tensor: it may be learned.
    """
    expected = "a finite number > 0"
    if isinstance(value, Tensor) and value.numel() != 1:
        raise ValueError(f"{name}: got a {describe(value)}, expected one number > 0")
    if isinstance(value, torch.nn.Parameter) and value.device.type == "meta":
        return value  # of a model that is only counted: there is no number to look at
    number = number_or_fail(name, value, expected)
    if not math.isfinite(number) or number <= 0:
        raise fail(name, number, expected)
    return value if isinstance(value, Tensor) else number


def non_negative(name: str, value: Any) -> float:
    """Return ``value`` as a float if it is finite and at least zero."""
    expected = "a finite number >= 0"
    number = number_or_fail(name, value, expected)
    if not math.isfinite(number) or number < 0:
        raise fail(name, number, expected)
    return number


def between(name: str, value: Any, low: float, high: float, *, ends: str = "[]") -> float:
    """Return ``value`` as a float if it lies between two numbers; ``ends`` as in "[)"."""
    expected = f"a number in {ends[0]}{low:g}, {high:g}{ends[1]}"
    number = number_or_fail(name, value, expected)
    above = number >= low if ends[0] == "[" else number > low
    below = number <= high if ends[1] == "]" else number < high
    if not (above and below):
        raise fail(name, number, expected)
    return number


def real(name: str, value: Any) -> float:
    """Return ``value`` as a float if it is a finite number of either sign."""
    number = number_or_fail(name, value, "a finite number")
    if not math.isfinite(number):
        raise fail(name, number, "a finite number")
    return number


def count(name: str, value: Any, *, least: int = 1, most: int = MOST) -> int:
    """Return ``value`` as an int if it is a whole number from ``least`` to ``most``."""
    top = f"{most:.0e}" if most >= 10**20 else f"{most}"
    expected = f"a whole number >= {least}" + (f" and <= {top}" if most != MOST else "")
    whole = isinstance(value, numbers.Integral) or _is_whole_scalar(value)
    if isinstance(value, bool) or not whole:
        raise fail(name, value, expected)
    if int(value) < least:
        raise fail(name, int(value), expected)
    if int(value) > most:
        raise fail(name, int(value), f"a whole number from {least} to {top}")
    return int(value)


def whole(name: str, value: Any, what: str = "a whole number") -> int:
    """Return ``value`` as an int if it is a whole number of either sign."""
    if isinstance(value, bool) or not (
        isinstance(value, numbers.Integral) or _is_whole_scalar(value)
    ):
        raise fail(name, value, what)
    if abs(int(value)) > MOST:
        raise fail(name, int(value), f"{what} of size at most {MOST}")
    return int(value)


def sizes(name: str, value: Any, *, dims: Sequence[int], expected: str) -> tuple[int, ...]:
    """Return ``value`` as a tuple of whole numbers >= 1, if its length is one of ``dims``."""
    plain = isinstance(value, (tuple, list)) and len(value) in dims
    if not plain or any(
        isinstance(n, bool) or not isinstance(n, numbers.Integral) or not 1 <= int(n) <= MOST
        for n in value
    ):
        raise fail(name, value, expected)
    return tuple(int(n) for n in value)


def _is_whole_scalar(value: Any) -> bool:
    if isinstance(value, Tensor):
        whole = value.dtype != torch.bool and not value.is_floating_point()
        return whole and not value.is_complex() and value.ndim == 0 and value.device.type != "meta"
    letter = getattr(getattr(value, "dtype", None), "kind", "")
    return letter in ("i", "u") and getattr(value, "ndim", None) == 0


def boolean(name: str, value: Any) -> bool:
    """Return ``value`` if it is True or False, Python's or NumPy's."""
    if isinstance(value, bool) or type(value).__name__ in ("bool_", "bool"):
        return bool(value)
    raise fail(name, value, "True or False")


def choice(name: str, value: Any, options: Iterable[_T]) -> _T:
    """Return the one of ``options`` that ``value`` is (never an array, whatever it equals)."""
    options = tuple(options)
    if not hasattr(value, "shape"):
        for option in options:
            if type(value) is type(option) and value == option:
                return option
        for option in options:
            if not isinstance(value, bool) and not isinstance(option, bool) and value == option:
                return option
    raise fail(name, value, "one of " + ", ".join(repr(o) for o in options))


# ---------------------------------------------------------------------------------- tensors


def tensor(name: str, x: Any) -> Tensor:
    """Return ``x`` if it is a dense tensor that holds numbers."""
    if not isinstance(x, Tensor) or x.layout != torch.strided or x.device.type == "meta":
        raise TypeError(f"{name}: got a {describe(x)}, expected a tensor")
    return x


def array(name: str, x: Any, expected: str = "a tensor or an array of numbers") -> Tensor:
    """Return a tensor, array or nested list of real numbers as a tensor."""
    if isinstance(x, (bool, str, bytes, dict, set)) or x is None:
        raise TypeError(f"{name}: got a {describe(x)}, expected {expected}")
    if not isinstance(x, Tensor):
        try:
            x = torch.as_tensor(x)
        except Exception:  # NumPy and torch have many words for it
            raise TypeError(f"{name}: got a {describe(x)}, expected {expected}") from None
    if x.is_complex():
        raise TypeError(f"{name}: got a {describe(x)}, expected {expected}")
    return tensor(name, x)


def floating(name: str, x: Any) -> Tensor:
    """Return ``x`` if it is a floating-point tensor."""
    plain = isinstance(x, Tensor) and x.layout == torch.strided and x.device.type != "meta"
    if not plain or not x.is_floating_point():
        raise TypeError(f"{name}: got a {describe(x)}, expected a floating-point tensor")
    return x


def finite(name: str, x: Tensor) -> Tensor:
    """Return ``x`` if no entry is NaN or infinite."""
    tensor(name, x)
    # Smallest and largest carry any NaN or infinity, and cost no second tensor of x's size.
    if x.numel() and not all(torch.isfinite(end) for end in x.aminmax()):
        bad = int((~torch.isfinite(x)).sum())
        raise ValueError(f"{name}: {bad} of {x.numel()} entries are NaN or infinite")
    return x


def last_dim(name: str, x: Any, dim: int) -> Tensor:
    """Return ``x`` if its last dimension has length ``dim``."""
    if not isinstance(x, Tensor) or x.ndim == 0 or x.shape[-1] != dim:
        raise ValueError(f"{name}: got a {describe(x)}, expected last dimension {dim}")
    return x


def matrix(name: str, x: Any) -> Tensor:
    """Return ``x`` if it is a (rows, columns) tensor with at least one of each."""
    if not isinstance(x, Tensor) or x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"{name}: got a {describe(x)}, expected a (K, D) tensor, K, D >= 1")
    return x


def shape(name: str, x: Any, wanted: Sequence[int | str | None]) -> Tensor:
    """Return ``x`` if it has this shape; a name or None stands for any length of at least one.

    >>> shape("x", torch.zeros(2, 3), ("B", 3)).shape
    torch.Size([2, 3])
    """
    fits = isinstance(x, Tensor) and x.ndim == len(wanted)
    if fits:
        fits = all(
            n == w if isinstance(w, int) else n >= 1 for n, w in zip(x.shape, wanted, strict=True)
        )
    if not fits:
        text = ", ".join("*" if w is None else str(w) for w in wanted)
        raise ValueError(f"{name}: got a {describe(x)}, expected a tensor of shape ({text})")
    return x


def same_kind(name: str, x: Tensor, like: Tensor) -> Tensor:
    """Return ``x`` if it has the dtype and device of ``like``."""
    if x.dtype != like.dtype or x.device != like.device:
        raise ValueError(
            f"{name}: got {x.dtype} on {x.device}, expected {like.dtype} on {like.device}"
        )
    return x


def mask(name: str, m: Any, x: Tensor) -> Tensor:
    """Return a bool mask spread to the shape of ``x``, on its device."""
    if not isinstance(m, Tensor) or m.dtype != torch.bool or m.device.type == "meta":
        raise TypeError(f"{name}: got a {describe(m)}, expected a bool tensor")
    try:
        return m.to(x.device).expand(x.shape)
    except RuntimeError:
        raise ValueError(
            f"{name}: got shape {tuple(m.shape)}, expected one that broadcasts to {tuple(x.shape)}"
        ) from None


# ---------------------------------------------------------------------------------- torch


def generator(name: str, value: Any) -> torch.Generator | None:
    """Return ``value`` if it is None or a torch.Generator."""
    if value is not None and not isinstance(value, torch.Generator):
        raise TypeError(
            f"{name}: got a {describe(value)}, expected None or a torch.Generator, such as "
            "torch.Generator().manual_seed(0)"
        )
    return value


def device(name: str, value: Any) -> torch.device:
    """Return a torch.device that exists here and holds numbers."""
    try:
        found = torch.device(value)
    except (RuntimeError, TypeError, ValueError):
        raise fail(name, value, "a device such as 'cpu', 'cuda' or 'cuda:1'") from None
    try:
        torch.empty(1, device=found).add(1).cpu()
    except Exception:  # each backend has its own way to say that it is not there
        here = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
        here += ["mps"] if torch.backends.mps.is_available() else []
        raise fail(name, str(value), f"a device of this machine: {', '.join(here)}") from None
    return found
