"""A run's pictures: drawn in blocks, laid out in a grid, written as PNG."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from amtutor import _check
from amtutor.train.draws import seed_of
from amtutor.train.limits import check_pictures
from amtutor.train.task import Task

__all__ = ["BLOCK", "draw_samples", "grid", "save_grid"]

BLOCK = 100  # pictures that are drawn together unless another number is given


@torch.no_grad()
def draw_samples(
    task: Task, model: nn.Module, n: int, *, batch_size: int = BLOCK, seed: int = 0
) -> Tensor:
    """Draw ``n`` pictures, uint8 (n, C, H, W) on the CPU, block by block.

    Each block is drawn whole and has a seed of its own, so that the first pictures are the same
    however many are asked for: what `amtutor sample` shows is what `amtutor evaluate` measures.

    Raises:
        ValueError: the task draws no pictures, or so many do not fit into memory.
    """
    if not task.draws_pictures:
        raise ValueError(f"task {task.name!r} draws no pictures")
    _check.count("n", n)
    parts: list[Tensor] = []
    for first in range(0, n, _check.count("batch_size", batch_size)):
        part = task.sample(model, batch_size, seed=seed_of(seed, "sample", first) % 2**31)
        parts.append(part[: n - first].cpu())
        if not first:
            check_pictures(n, part)
    return torch.cat(parts)


def grid(images: Tensor, *, columns: int | None = None, gap: int = 2, tile: int = 48) -> np.ndarray:
    """Lay pictures (n, C, H, W) uint8, C = 1 or 3, side by side on white: (H', W', 3) uint8.

    Smaller pictures are enlarged, pixel by pixel, to about ``tile``; there are ``gap`` pixels
    between them, and as many rows as columns unless ``columns`` is given.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3) or images.dtype != torch.uint8:
        raise ValueError(
            f"images: got a {_check.describe(images)}, expected uint8 (n, 1 or 3, H, W)"
        )
    pixels = images.permute(0, 2, 3, 1).cpu().numpy()
    times = max(1, round(tile / max(pixels.shape[1:3])))
    pixels = pixels.repeat(times, 1).repeat(times, 2)
    n, height, width, channels = pixels.shape
    across = columns or min(n, max(1, math.ceil(math.sqrt(n))))
    down = math.ceil(n / across)
    shape = (down * (height + gap) - gap, across * (width + gap) - gap, 3)
    sheet = np.full(shape, 255, dtype=np.uint8)
    for i, picture in enumerate(pixels):
        y, x = (i // across) * (height + gap), (i % across) * (width + gap)
        sheet[y : y + height, x : x + width] = picture  # one channel spreads over three
    return sheet


def save_grid(images: Tensor, path: Path, *, columns: int | None = None) -> Path:
    """Write :func:`grid` as a PNG."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grid(images, columns=columns)).save(path, optimize=True)
    return path
