"""Randomness as a function: no state to store, none to lose.

Every number that a training step uses is a function of (seed, step, name, row of the global batch).
So a run that was killed and resumed draws what it would have drawn, and two processes that share a
batch draw, between them, what one process would have drawn alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

from amtutor import _check

__all__ = ["Draws", "seed_of"]


def seed_of(*parts: object) -> int:
    """Return a 63-bit seed that belongs to ``parts``, the same on every machine and in every run.

    >>> seed_of(0, 7, "noise") == seed_of(0, 7, "noise"), seed_of(0, 7) == seed_of(0, 8)
    (True, False)
    """
    text = "\x1f".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


@lru_cache(maxsize=8)
def _permutation(seed: int, epoch: int, n: int, device: torch.device) -> Tensor:
    """Order of ``n`` examples in one epoch."""
    generator = torch.Generator().manual_seed(seed_of(seed, "epoch", epoch))
    return torch.randperm(n, generator=generator).to(device)


@dataclass(frozen=True)
class Draws:
    """The random numbers of one training step, each a function of (seed, step, name, global row).

    Args:
        seed: of the run.
        step: number of updates done before this one, from 0.
        batch_size: rows of the global batch; ``rank`` of ``world`` has its part of them, in order.
        rank, world: this process and the number of processes.
        device: where the numbers are made and used.

    Every process makes the whole global draw and keeps its rows. A name may be used once a step
    for one shape; the same name gives the same numbers again. Numbers of a CPU and of a GPU differ.

    >>> draws = Draws(seed=0, step=3, batch_size=4)
    >>> draws.normal("noise", (2,)).shape
    torch.Size([4, 2])
    >>> halves = [Draws(0, 3, 4, rank=r, world=2).normal("noise", (2,)) for r in (0, 1)]
    >>> torch.equal(torch.cat(halves), draws.normal("noise", (2,)))
    True
    """

    seed: int
    step: int
    batch_size: int
    rank: int = 0
    world: int = 1
    device: torch.device | str = "cpu"
    asked: list[int] = field(default_factory=list, compare=False, repr=False)  # every n of `rows`

    def __post_init__(self) -> None:
        """Refuse a batch that does not divide among the processes, and a process that is none."""
        _check.count("batch_size", self.batch_size)
        _check.count("world", self.world)
        _check.count("rank", self.rank, least=0, most=self.world - 1)
        _check.count("step", self.step, least=-1)  # -1: before the first
        _check.count("seed", self.seed, least=0, most=2**63 - 1)
        if not isinstance(self.device, torch.device):
            _check.device("device", self.device)
        if self.batch_size % self.world:
            raise ValueError(
                f"batch_size = {self.batch_size}: expected a multiple of the {self.world} processes"
            )

    @property
    def local_size(self) -> int:
        """Rows of the batch that this process has."""
        return self.batch_size // self.world

    def _mine(self, whole: Tensor) -> Tensor:
        return whole[self.rank * self.local_size : (self.rank + 1) * self.local_size]

    def shared(self, name: str) -> torch.Generator:
        """Return a generator that is the same on all processes, for what is not per example."""
        if not isinstance(name, str):
            raise _check.fail("name", name, "text")
        seed = seed_of(self.seed, self.step, name)
        return torch.Generator(device=self.device).manual_seed(seed)

    def rows(self, n: int) -> Tensor:
        """Return which of ``n`` examples are in this process's part of the batch, (local,) int64.

        Each epoch is a permutation of its own, from (seed, epoch); a batch may reach over the end.
        """
        self.asked.append(_check.count("n", n))
        first = self.step * self.batch_size + self.rank * self.local_size
        parts, wanted, device = [], self.local_size, torch.device(self.device)
        while wanted:
            epoch, at = divmod(first, n)
            part = _permutation(self.seed, epoch, n, device)[at : at + wanted]
            parts.append(part)
            first, wanted = first + len(part), wanted - len(part)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _size(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Check the shape of one row's numbers; return that of the whole batch's."""
        if not isinstance(shape, tuple | list):
            raise _check.fail("shape", shape, "a list of whole numbers >= 0")
        return (self.batch_size, *(_check.count("shape", n, least=0) for n in shape))

    def normal(self, name: str, shape: Sequence[int] = ()) -> Tensor:
        """Standard normal numbers, (local, \\*shape)."""
        size = self._size(shape)
        return self._mine(torch.randn(size, generator=self.shared(name), device=self.device))

    def uniform(self, name: str, shape: Sequence[int] = ()) -> Tensor:
        """Uniform numbers in [0, 1), (local, \\*shape)."""
        size = self._size(shape)
        return self._mine(torch.rand(size, generator=self.shared(name), device=self.device))

    def integers(self, name: str, low: int, high: int, shape: Sequence[int] = ()) -> Tensor:
        """Whole numbers in low..high-1, (local, \\*shape) int64."""
        size = self._size(shape)
        low, high = _check.whole("low", low), _check.whole("high", high)
        if high <= low:
            raise _check.fail("high", high, f"more than low = {low}")
        generator = self.shared(name)
        return self._mine(torch.randint(low, high, size, generator=generator, device=self.device))
