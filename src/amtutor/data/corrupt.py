"""Ways to spoil a picture. Every function takes rows ``(..., D)`` and returns new rows."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from amtutor import _check, _draw
from amtutor._check import choice, describe, floating, non_negative, positive

PARTS = ("bottom", "top", "left", "right", "centre")


def flip_bits(x: Tensor, fraction: float, *, generator: torch.Generator | None = None) -> Tensor:
    """Flip the sign of exactly ``round(fraction * D)`` entries of every row.

    ``x`` has shape (..., D) and entries in {-1, +1}; ``fraction`` lies in [0, 1]. Which entries
    flip is drawn anew for each row, without replacement.

    Raises:
        ValueError: if an entry is not -1 or +1, or ``fraction`` is outside [0, 1].

    >>> flip_bits(torch.ones(3, 10), 0.2).sum(dim=-1).tolist()
    [6.0, 6.0, 6.0]
    """
    _rows(x)
    fraction = _check.between("fraction", fraction, 0, 1)
    wrong = x.is_complex() or x.dtype == torch.bool or not bool((x.abs() == 1).all())
    if wrong or not (x.dtype.is_signed or x.is_floating_point()):
        raise ValueError(f"x: got a {describe(x)}, expected entries -1 and +1 only")
    flips = round(fraction * x.shape[-1])
    if flips == 0:
        return x.clone()
    lottery = _draw.uniform(x.shape, generator=generator, device=x.device)
    chosen = lottery.topk(flips, dim=-1).indices
    return x.scatter(-1, chosen, -x.gather(-1, chosen))


def add_noise(x: Tensor, std: float, *, generator: torch.Generator | None = None) -> Tensor:
    """Add independent Gaussian noise of standard deviation ``std`` >= 0 to every entry."""
    floating("x", _rows(x))
    std = non_negative("std", std)
    noise = _draw.normal(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    return x + std * noise


def region(shape: tuple[int, ...], *, part: str = "bottom", fraction: float = 0.5) -> Tensor:
    """Mark a part of a picture: True on ``fraction`` of it, as a flat boolean row of length D.

    ``shape`` is (H, W) or (C, H, W). "bottom" and "top" take ``round(fraction * H)`` rows, "left"
    and "right" columns likewise, "centre" a rectangle with sides ``round(sqrt(fraction) * side)``.

    >>> region((2, 3), part="left", fraction=1 / 3).tolist()
    [True, False, False, True, False, False]
    """
    channels, height, width = _picture(shape)
    choice("part", part, PARTS)
    fraction = _check.between("fraction", fraction, 0, 1)
    hidden = torch.zeros(channels, height, width, dtype=torch.bool)
    rows, columns = round(fraction * height), round(fraction * width)
    if part == "top":
        hidden[:, :rows] = True
    elif part == "bottom":
        hidden[:, height - rows :] = True
    elif part == "left":
        hidden[..., :columns] = True
    elif part == "right":
        hidden[..., width - columns :] = True
    else:
        rows, columns = (round(math.sqrt(fraction) * side) for side in (height, width))
        above, before = (height - rows) // 2, (width - columns) // 2
        hidden[:, above : above + rows, before : before + columns] = True
    return hidden.flatten()


def mask(
    x: Tensor,
    shape: tuple[int, ...],
    *,
    part: str = "bottom",
    fraction: float = 0.5,
    fill: float | None = None,
) -> Tensor:
    """Cover a part of every picture (see :func:`region`) with the value ``fill``.

    ``fill=None`` paints paper: -1 if ``x`` has negative entries (spins), 0 if it has none.

    Raises:
        ValueError: if ``shape`` does not fit D, ``part`` is unknown or ``fraction`` not in [0, 1].
    """
    _fits(x, shape)
    hidden = region(shape, part=part, fraction=fraction).to(x.device)
    return x.masked_fill(hidden, _paper(x, fill))


def blur(x: Tensor, shape: tuple[int, ...], *, sigma: float) -> Tensor:
    """Smooth every picture with a Gaussian of width ``sigma`` > 0 pixels.

    The edge pixel is repeated outwards, so a constant picture stays what it is. Spins become
    grey; :func:`amtutor.data.binarise` makes spins of them again.
    """
    floating("x", _fits(x, shape))
    positive("sigma", sigma)
    channels, height, width = _picture(shape)
    radius = max(1, math.ceil(3 * sigma))
    offsets = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    pictures = x.reshape(-1, 1, height, width)
    padded = functional.pad(pictures, (radius,) * 4, mode="replicate")
    smooth = functional.conv2d(padded, kernel.view(1, 1, -1, 1))
    return functional.conv2d(smooth, kernel.view(1, 1, 1, -1)).reshape(x.shape)


def shift(
    x: Tensor,
    shape: tuple[int, ...],
    *,
    right: int = 0,
    down: int = 0,
    fill: float | None = None,
) -> Tensor:
    """Move every picture by whole pixels; what enters from outside is ``fill``.

    Negative numbers move left and up. ``fill=None`` is paper, as in :func:`mask`.
    """
    _fits(x, shape)
    channels, height, width = _picture(shape)
    right = _check.whole("right", right, "a whole number of pixels")
    down = _check.whole("down", down, "a whole number of pixels")
    pictures = x.reshape(*x.shape[:-1], channels, height, width)
    moved = torch.full_like(pictures, _paper(x, fill))
    to_rows, from_rows = _overlap(height, down)
    to_columns, from_columns = _overlap(width, right)
    moved[..., to_rows, to_columns] = pictures[..., from_rows, from_columns]
    return moved.reshape(x.shape)


def _overlap(side: int, step: int) -> tuple[slice, slice]:
    """Where the pixels that stay inside land, and where they come from."""
    step = max(-side, min(side, int(step)))
    return slice(max(step, 0), side + min(step, 0)), slice(max(-step, 0), side - max(step, 0))


def _paper(x: Tensor, fill: float | None) -> float:
    if fill is not None:
        return _check.real("fill", fill)
    return -1.0 if bool((x < 0).any()) else 0.0


def _rows(x: Tensor) -> Tensor:
    if _check.tensor("x", x).is_complex() or x.ndim == 0 or x.numel() == 0:
        raise ValueError(f"x: got a {describe(x)}, expected shape (..., D), nothing empty")
    return x


def _picture(shape: tuple[int, ...]) -> tuple[int, int, int]:
    sides = _check.sizes("shape", shape, dims=(2, 3), expected="(H, W) or (C, H, W)")
    channels, height, width = (1, *sides)[-3:]
    return channels, height, width


def _fits(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    size = math.prod(_picture(shape))
    if _rows(x).shape[-1] != size:
        raise ValueError(
            f"shape = {tuple(shape)!r}: expected {x.shape[-1]} pixels to fit x, got {size}"
        )
    return x
