"""From pictures to vectors: grey levels to spins, to the unit interval, and back to signs."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from amtutor._check import array, describe, floating, positive


def to_unit(images: np.ndarray | Tensor, *, high: float | None = None) -> Tensor:
    """Flatten pictures to float32 rows with entries in [0, 1].

    ``x = images / high``. Shapes: ``(N, ...)`` to ``(N, D)``; the first axis counts pictures.
    ``high`` is the value of full ink; by default 1 for booleans, for floats and for whole numbers
    that are all 0 or 1, and 255 for any other whole numbers.

    Raises:
        ValueError: if there is no picture, or an entry lies outside [0, high].

    >>> to_unit(np.array([[[0, 51], [255, 0]]], dtype=np.uint8)).tolist()
    [[0.0, 0.20000000298023224, 1.0, 0.0]]
    """
    x = array("images", images)
    if x.ndim < 2 or x.numel() == 0:
        raise ValueError(f"images: got a {describe(x)}, expected (N, ...) with N >= 1")
    if high is None:
        whole = not x.is_floating_point() and x.dtype != torch.bool
        high = 255.0 if whole and int(x.max()) > 1 else 1.0
    high = float(positive("high", high))
    low, top = float(x.min()), float(x.max())
    if not (0.0 <= low and top <= high):  # also false for NaN
        raise ValueError(f"images: entries run from {low:g} to {top:g}, expected [0, {high:g}]")
    return x.reshape(len(x), -1).to(torch.float32) / high


def to_spins(images: np.ndarray | Tensor, *, high: float | None = None) -> Tensor:
    """Turn pictures into float32 spins: +1 where a pixel has at least half the ink, else -1.

    Shapes: ``(N, ...)`` to ``(N, D)``. ``high`` as in :func:`to_unit`.

    Raises:
        ValueError: if there is no picture, or an entry lies outside [0, high].

    >>> to_spins(np.array([[[0, 127], [128, 255]]], dtype=np.uint8)).tolist()
    [[-1.0, -1.0, 1.0, 1.0]]
    """
    return binarise(to_unit(images, high=high) - 0.5)


def binarise(x: Tensor) -> Tensor:
    """Return the signs of real numbers as spins: +1 where ``x >= 0``, else -1 (NaN is refused).

    >>> binarise(torch.tensor([-0.2, 0.0, 3.0])).tolist()
    [-1.0, 1.0, 1.0]
    """
    floating("x", x)
    if torch.isnan(x).any():
        raise ValueError(f"x: {int(torch.isnan(x).sum())} of {x.numel()} entries are NaN")
    one = torch.ones((), dtype=x.dtype, device=x.device)
    return torch.where(x >= 0, one, -one)
