"""Filling hidden patches without learning: what a completion model must beat.

Pictures are (n, C, H, W) floats in [0, 1], ``hidden`` is bool (n, N), patches counted row by row.
Each function returns pictures with the hidden patches filled and everything else untouched.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["biharmonic_fill", "linear_fill", "mean_fill", "pixel_mask"]


def pixel_mask(hidden: Tensor, patch_size: int) -> Tensor:
    """Spread a mask of patches (..., N) of a square picture over its pixels, (..., H, W).

    >>> pixel_mask(torch.tensor([True, False, False, False]), 2).int().tolist()
    [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    """
    side = round(hidden.shape[-1] ** 0.5)
    if side**2 != hidden.shape[-1]:
        raise ValueError(f"hidden: got {hidden.shape[-1]} patches, expected a square number")
    tiles = hidden.unflatten(-1, (side, side))
    return tiles.repeat_interleave(patch_size, -1).repeat_interleave(patch_size, -2)


def mean_fill(images: Tensor, hidden: Tensor, *, patch_size: int = 4) -> Tensor:
    """Fill with the mean colour of the pixels that are seen."""
    mask = pixel_mask(hidden, patch_size).unsqueeze(-3)
    seen = images.masked_fill(mask, 0.0).sum((-2, -1), keepdim=True)
    mean = seen / (~mask).sum((-2, -1), keepdim=True).clamp(min=1)
    return torch.where(mask, mean, images)


def linear_fill(images: Tensor, hidden: Tensor, *, patch_size: int = 4) -> Tensor:
    """Interpolate linearly between the nearest pixels that are seen, by SciPy's ``griddata``.

    Seen pixels are joined to triangles (Delaunay). Outside of them the nearest seen pixel counts.
    """
    from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator

    filled = images.detach().cpu().numpy().copy()
    for picture, mask in zip(filled, pixel_mask(hidden, patch_size).cpu().numpy(), strict=True):
        seen, asked = np.argwhere(~mask), np.argwhere(mask)
        if not len(asked):
            continue
        colours = picture[:, ~mask].T
        values = LinearNDInterpolator(seen, colours)(asked)
        outside = np.isnan(values[:, 0])
        values[outside] = NearestNDInterpolator(seen, colours)(asked[outside])
        picture[:, mask] = values.T
    return torch.as_tensor(filled, dtype=images.dtype, device=images.device)


def biharmonic_fill(images: Tensor, hidden: Tensor, *, patch_size: int = 4) -> Tensor:
    """Fill with the smoothest surface, by scikit-image's ``inpaint_biharmonic``, cut to [0, 1]."""
    from skimage.restoration import inpaint_biharmonic

    masks = pixel_mask(hidden, patch_size).cpu().numpy()
    pictures = images.detach().cpu().numpy().transpose(0, 2, 3, 1)
    filled = [
        inpaint_biharmonic(x, m, channel_axis=-1) for x, m in zip(pictures, masks, strict=True)
    ]
    result = torch.as_tensor(np.stack(filled), dtype=images.dtype).movedim(-1, 1).clamp(0, 1)
    mask = pixel_mask(hidden, patch_size).unsqueeze(-3)
    return torch.where(mask, result.to(images.device), images)
