"""An order for a wall of digits: by class, and within a class by slant."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def nearest_label(memories: Tensor, points: Tensor, labels: Tensor, *, k: int = 5) -> Tensor:
    """Name each memory by a vote of the ``k`` nearest data, (K,) int64; ties go to the nearer."""
    near = torch.cdist(memories, points).topk(k, largest=False).indices
    votes = torch.zeros(len(memories), int(labels.max()) + 1, device=memories.device)
    weight = 1 + 0.01 * torch.arange(k, 0, -1.0, device=memories.device)
    votes.scatter_add_(1, labels[near], weight.expand(len(memories), k))
    return votes.argmax(1)


def by_class_and_slant(memories: Tensor, labels: Tensor) -> Tensor:
    """Order for a wall of digits: by class, and within a class by slant, (K,) int64."""
    slants = slant(memories)
    return torch.as_tensor(np.lexsort((slants.cpu().numpy(), labels.cpu().numpy())))


def slant(images: Tensor, *, side: int = 28) -> Tensor:
    r"""How far the ink leans to the right, :math:`-\mathrm{cov}(x, y)/\mathrm{var}(y)`, (n,).

    >>> line = torch.eye(28).flip(1)[None].reshape(1, -1)  # from bottom left to top right
    >>> slant(line).round(decimals=4)
    tensor([1.])
    """
    ink = images.reshape(-1, side, side).clamp(min=0)
    ink = ink / ink.sum((1, 2), keepdim=True).clamp(min=1e-9)
    at = torch.arange(side, dtype=ink.dtype, device=ink.device)
    down, right = ink.sum(2), ink.sum(1)
    row, column = down @ at, right @ at
    together = torch.einsum("nij,i,j->n", ink, at, at) - row * column
    return -together / (down @ at.square() - row.square()).clamp(min=1e-9)
