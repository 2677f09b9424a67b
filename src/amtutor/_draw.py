"""Random tensors by one rule: drawn where the generator lives, handed over where they are wanted.

So one generator on the CPU serves any device, with the same numbers on each.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from amtutor import _check


def normal(
    shape: Sequence[int],
    *,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Independent numbers of N(0, 1).

    >>> normal((2, 3), generator=torch.Generator().manual_seed(0)).shape
    torch.Size([2, 3])
    """
    where = _source(generator, device)
    return torch.randn(tuple(shape), generator=generator, dtype=dtype, device=where).to(device)


def uniform(
    shape: Sequence[int],
    *,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Independent numbers in [0, 1)."""
    where = _source(generator, device)
    return torch.rand(tuple(shape), generator=generator, dtype=dtype, device=where).to(device)


def integers(
    high: int,
    shape: Sequence[int],
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Independent whole numbers 0 .. high - 1, int64."""
    where = _source(generator, device)
    return torch.randint(high, tuple(shape), generator=generator, device=where).to(device)


def permutation(
    n: int,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """The numbers 0 .. n - 1 in random order, int64."""
    where = _source(generator, device)
    return torch.randperm(n, generator=generator, device=where).to(device)


def _source(generator: torch.Generator | None, device: torch.device | str) -> torch.device:
    _check.generator("generator", generator)
    return torch.device(device) if generator is None else generator.device
