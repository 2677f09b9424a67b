"""Is a sample new, or a copy? The nearest training pictures, and what fraction is too near."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from amtutor import _check

__all__ = ["Nearest", "memorised_fraction", "nearest_training_images"]

CANDIDATES = 8  # looked at again exactly: float32 cannot tell a copy from its neighbour


@dataclass(frozen=True)
class Nearest:
    """For N samples: indices (N, 2) of the two nearest training pictures, distances (N, 2)."""

    index: np.ndarray
    distance: np.ndarray

    @property
    def ratio(self) -> np.ndarray:
        """Distance to the nearest over distance to the second, (N,); 0 for an exact copy."""
        d1, d2 = self.distance.T
        return np.where(d1 == 0, 0.0, d1 / np.where(d2 == 0, 1.0, d2))


@torch.no_grad()
def nearest_training_images(
    samples: np.ndarray | Tensor,
    train: np.ndarray | Tensor,
    *,
    chunk: int = 2000,
    device: torch.device | str = "cpu",
) -> Nearest:
    """Find the two nearest training pictures of every sample.

    Both uint8 (N, C, H, W) and (M, C, H, W), M >= 2. The distance is Euclidean over all pixels of
    pictures scaled to [0, 1], exact (whole numbers inside) for the pictures found. Memory holds
    ``chunk`` x ``chunk`` distances and as many pictures as floats, whatever N and M.

    >>> train = np.arange(4 * 12, dtype=np.uint8).reshape(4, 3, 2, 2)
    >>> nearest_training_images(train[2:3], train).index.tolist()
    [[2, 1]]

    Raises:
        ValueError: shapes that do not fit, or not uint8.
    """
    chunk, device = _check.count("chunk", chunk, most=10**6), _check.device("device", device)
    samples, train = _flat("samples", samples), _flat("train", train)
    _check.count("number of training pictures", len(train), least=2)
    if samples.shape[1] != train.shape[1]:
        raise ValueError(
            f"samples: got {samples.shape[1]} numbers a picture, expected {train.shape[1]} as in "
            "train"
        )
    parts = [_search(part, train, chunk, device) for part in samples.split(chunk)]
    index, square = (torch.cat(x) for x in zip(*parts, strict=True))
    return Nearest(index.numpy(), square.double().sqrt().div(255).numpy())


def memorised_fraction(
    samples: np.ndarray | Tensor | Nearest, train: np.ndarray | Tensor | None = None, *, ratio=1 / 3
) -> float:
    r"""Return the fraction of samples that are copies: :math:`d_1 < \tfrac13 d_2`.

    :math:`d_1` and :math:`d_2` are the distances to the nearest and second nearest training
    picture (Yoon et al. 2023, "Diffusion probabilistic models generalize when they fail to
    memorize"). Give samples and ``train`` as in `nearest_training_images`, or what that returned.
    Where a training picture is there twice, a copy of it has :math:`d_1 \approx d_2` and goes
    unseen, unless it is exact. So compare with what the same count says of held-out pictures.
    """
    _check.positive("ratio", ratio)
    if not isinstance(samples, Nearest):
        if train is None:
            raise ValueError("train: got None, expected the training pictures")
        samples = nearest_training_images(samples, train)
    return float((samples.ratio < ratio).mean())


def _flat(name: str, images: np.ndarray | Tensor) -> Tensor:
    images = _check.array(name, images, "uint8 (N, C, H, W)")
    if images.dtype != torch.uint8 or images.ndim != 4 or not len(images):
        raise ValueError(f"{name}: got a {_check.describe(images)}, expected uint8 (N, C, H, W)")
    return images.detach().cpu().flatten(1)


def _search(samples: Tensor, train: Tensor, chunk: int, device) -> tuple[Tensor, Tensor]:
    """Return indices and squared distances (n, 2), exact whole numbers."""
    x = samples.to(device).float().sub_(127.5)
    best = torch.full((len(x), 0), 0.0, device=device)
    index = torch.zeros((len(x), 0), dtype=torch.int64, device=device)
    for start in range(0, len(train), chunk):
        t = train[start : start + chunk].to(device).float().sub_(127.5)
        # ||x - t||^2 without ||x||^2, which is the same for all t
        score = torch.addmm((t * t).sum(1), x, t.T, alpha=-2)
        here, at = score.topk(min(CANDIDATES, len(t)), largest=False)
        best, index = torch.cat((best, here), 1), torch.cat((index, at + start), 1)
        best, keep = best.topk(min(CANDIDATES, best.shape[1]), largest=False)
        index = index.gather(1, keep)
    index = index.cpu().sort(dim=1).values  # of equals the first
    parts = []
    for rows, candidates in zip(samples.split(64), index.split(64), strict=True):
        difference = rows[:, None].int() - train[candidates].int()
        parts.append(difference.square_().sum(2))
    square, order = torch.cat(parts).sort(dim=1, stable=True)
    return index.gather(1, order)[:, :2], square[:, :2]
