"""Filling hidden patches without learning: what a completion model must beat.

Pictures are (n, C, H, W) floats in [0, 1], ``hidden`` is bool (n, N), patches counted row by row.
Each function returns pictures with the hidden patches filled and everything else untouched.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from amtutor import _check
from amtutor._extras import need

__all__ = ["biharmonic_fill", "linear_fill", "mean_fill", "pixel_mask"]


def pixel_mask(hidden: Tensor, patch_size: int) -> Tensor:
    """Spread a mask of patches (..., N) of a square picture over its pixels, (..., H, W).

    Raises:
        ValueError, TypeError: N is no square, or ``hidden`` no bool tensor.

    >>> pixel_mask(torch.tensor([True, False, False, False]), 2).int().tolist()
    [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    """
    patch_size = _check.count("patch_size", patch_size)
    if _check.tensor("hidden", hidden).dtype != torch.bool or hidden.ndim == 0:
        raise TypeError(f"hidden: got a {_check.describe(hidden)}, expected bool (..., N)")
    side = math.isqrt(hidden.shape[-1])
    if not side or side**2 != hidden.shape[-1]:
        raise ValueError(f"hidden: got {hidden.shape[-1]} patches, expected a square number")
    tiles = hidden.unflatten(-1, (side, side))
    return tiles.repeat_interleave(patch_size, -1).repeat_interleave(patch_size, -2)


def mean_fill(images: Tensor, hidden: Tensor, *, patch_size: int = 4) -> Tensor:
    """Fill with the mean colour of the pixels that are seen (black where none is).

    Raises:
        ValueError, TypeError: shapes do not fit.
    """
    mask = _masks(images, hidden, patch_size).unsqueeze(-3)
    seen = images.masked_fill(mask, 0.0).sum((-2, -1), keepdim=True)
    mean = seen / (~mask).sum((-2, -1), keepdim=True).clamp(min=1)
    return torch.where(mask, mean, images)


def linear_fill(images: Tensor, hidden: Tensor, *, patch_size: int = 4) -> Tensor:
    """Interpolate linearly between the nearest pixels that are seen, by SciPy's ``griddata``.

    Seen pixels are joined to triangles (Delaunay). Outside of them the nearest seen pixel counts.

    Raises:
        ValueError, TypeError: shapes do not fit, or a picture has nothing that is seen.
    """
    from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator
    from scipy.spatial import QhullError

    masks = _something_seen(_masks(images, hidden, patch_size)).cpu().numpy()
    filled = images.detach().cpu().numpy().copy()
    for picture, mask in zip(filled, masks, strict=True):
        seen, asked = np.argwhere(~mask), np.argwhere(mask)
        if not len(asked):
            continue
        colours = picture[:, ~mask].T
        values = NearestNDInterpolator(seen, colours)(asked)
        try:
            inner = LinearNDInterpolator(seen, colours)(asked)
        except QhullError:  # too few pixels for a triangle
            inner = np.full_like(values, np.nan)
        values = np.where(np.isnan(inner), values, inner)
        picture[:, mask] = values.T
    return torch.as_tensor(filled, dtype=images.dtype, device=images.device)


def biharmonic_fill(images: Tensor, hidden: Tensor, *, patch_size: int = 4) -> Tensor:
    """Fill with the smoothest surface, by scikit-image's ``inpaint_biharmonic``, cut to [0, 1].

    Raises:
        ValueError, TypeError: shapes do not fit, or a picture has nothing that is seen.
        MissingExtra: scikit-image is not installed.
    """
    fill = need("skimage.restoration").inpaint_biharmonic
    mask = _something_seen(_masks(images, hidden, patch_size))
    masks = mask.cpu().numpy()
    pictures = images.detach().cpu().numpy().transpose(0, 2, 3, 1)
    filled = [fill(x, m, channel_axis=-1) for x, m in zip(pictures, masks, strict=True)]
    result = torch.as_tensor(np.stack(filled), dtype=images.dtype).movedim(-1, 1).clamp(0, 1)
    return torch.where(mask.unsqueeze(-3), result.to(images), images)


def _masks(images: Tensor, hidden: Tensor, patch_size: int) -> Tensor:
    """Check pictures and mask; return the mask of pixels, (n, H, W)."""
    mask = pixel_mask(hidden, patch_size)
    shape = tuple(_check.floating("images", images).shape)
    if len(shape) != 4 or mask.ndim != 3 or (shape[0], *shape[2:]) != tuple(mask.shape):
        raise ValueError(
            f"images: got a {_check.describe(images)}, expected (n, C, H, W) that the mask covers, "
            f"with n, H, W = {tuple(mask.shape)}"
        )
    return mask


def _something_seen(mask: Tensor) -> Tensor:
    blind = mask.flatten(1).all(1)
    if blind.any():
        first = int(blind.int().argmax())
        raise ValueError(f"hidden: all of picture {first} is hidden, expected something to be seen")
    return mask
