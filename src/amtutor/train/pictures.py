"""Pictures as files: a grid of samples in one PNG."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from torch import Tensor

from amtutor import _check

__all__ = ["grid", "save_grid"]

_GAP = 2
_TILE = 48  # smaller pictures are enlarged, pixel by pixel, to about this


def grid(images: Tensor, *, columns: int | None = None) -> np.ndarray:
    """Lay pictures (n, C, H, W) uint8, C = 1 or 3, side by side on white: (H', W', 3) uint8."""
    if images.ndim != 4 or images.shape[1] not in (1, 3) or str(images.dtype) != "torch.uint8":
        raise ValueError(
            f"images: got a {_check.describe(images)}, expected uint8 (n, 1 or 3, H, W)"
        )
    pixels = images.permute(0, 2, 3, 1).cpu().numpy()
    times = max(1, round(_TILE / max(pixels.shape[1:3])))
    pixels = pixels.repeat(times, 1).repeat(times, 2)
    n, height, width, channels = pixels.shape
    across = columns or min(n, max(1, math.ceil(math.sqrt(n))))
    down = math.ceil(n / across)
    shape = (down * (height + _GAP) - _GAP, across * (width + _GAP) - _GAP, 3)
    sheet = np.full(shape, 255, dtype=np.uint8)
    for i, picture in enumerate(pixels):
        y, x = (i // across) * (height + _GAP), (i % across) * (width + _GAP)
        sheet[y : y + height, x : x + width] = picture  # one channel spreads over three
    return sheet


def save_grid(images: Tensor, path: Path, *, columns: int | None = None) -> Path:
    """Write :func:`grid` as a PNG."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grid(images, columns=columns)).save(path, optimize=True)
    return path
