r"""The LSE energy and its gradient, scheduled for a CPU: same numbers, about half the time.

The plain form is :func:`amtutor.memory.dense.lse_energy`. Three things differ here, none of them a
formula. Products go through :mod:`amtutor.fast._matmul`, with the memories as the long matrix, so
scores are (memories, queries) and the memories are never transposed, and copied only where they lie
far from the origin, a block at a time. Half the square of each memory is computed once. And a block
of scores is small enough to stay in the processor's cache, where it is turned into weights in
place.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from amtutor import _check
from amtutor._threads import one_thread
from amtutor.descent import Descent, descend
from amtutor.fast._matmul import long_times_transpose, transpose_times_long
from amtutor.memory.dense import ENERGIES, DenseAM, centre_of, distance_bias, seen_from

__all__ = ["FastLSE", "retrieve"]

_BLOCK = 2**20  # scores held at a time: 4 MB in float32


def retrieve(
    memory: DenseAM,
    x: Tensor,
    *,
    steps: int,
    step_size: float = 1.0,
    tol: float | None = None,
    clamp: Tensor | None = None,
    record: bool = False,
    callback: Callable[[int, Tensor], object] | None = None,
) -> Descent[Tensor]:
    r"""Take the steps of ``memory.recall(x, ...)``, sooner; equal to rounding.

    For the LSE energy in float32 on a CPU. Arguments and result as there; no gradients.

    Raises:
        ValueError: the memory has another energy than "lse".

    >>> memory = DenseAM(torch.eye(3), beta=10.0)
    >>> retrieve(memory, torch.tensor([[0.9, 0.2, 0.0]]), steps=3).state.round(decimals=3)
    tensor([[1., 0., 0.]])
    """
    if not isinstance(memory, DenseAM):
        raise TypeError(f"memory: got a {_check.describe(memory)}, expected a DenseAM")
    if memory.form is not ENERGIES["lse"]:
        raise ValueError("memory: got another energy, expected 'lse', the only one with a twin")
    x = _check.last_dim("x", memory._state(x), memory.memories.shape[1])
    _check.finite("x", _check.floating("x", x))
    twin = FastLSE(memory.memories, beta=float(memory.beta))
    with one_thread(x.numel() * len(memory.memories)):
        return descend(
            twin.energy,
            x,
            steps=steps,
            step_size=step_size,
            gradient=twin.gradient,
            clamp=clamp,
            tol=tol,
            record=record,
            callback=callback,
        )


class FastLSE:
    """Energy and gradient of K memories (K, D) at one beta, for states (\\*batch, D).

    Meant for calls without gradient tracking (its results carry none). Change the memories in
    place and you need a new one. :func:`retrieve` makes one for each call.
    """

    def __init__(self, memories: Tensor, *, beta: float):
        _check.floating("memories", _check.matrix("memories", memories))
        self.memories = memories.detach()
        self.beta = float(_check.positive("beta", beta))
        self.centre = centre_of(self.memories)
        blocks = self.memories.split(max(1, _BLOCK // memories.shape[1]))
        self.bias = torch.cat(
            [self.beta * distance_bias(seen_from(self.centre, b)) for b in blocks]
        )

    @torch.no_grad()
    def energy(self, x: Tensor) -> Tensor:
        r"""Equal to :func:`amtutor.memory.dense.lse_energy` to rounding, (\*batch)."""
        rows = self._rows(x)
        total, _, closest = self._stream(rows, want_mean=False)
        least = 0.5 * (rows - self.memories[closest]).square().sum(-1)
        return (least - total.log() / self.beta).reshape(x.shape[:-1])

    @torch.no_grad()
    def gradient(self, x: Tensor) -> Tensor:
        r"""Equal to :func:`amtutor.memory.dense.lse_gradient` to rounding, (\*batch, D)."""
        rows = self._rows(x)
        total, mean, _ = self._stream(rows, want_mean=True)
        return (seen_from(self.centre, rows) - mean / total[:, None]).reshape(x.shape)

    def _rows(self, x: Tensor) -> Tensor:
        _check.last_dim("x", _check.floating("x", x), self.memories.shape[1])
        return _check.same_kind("x", x, self.memories).reshape(-1, x.shape[-1])

    def _stream(self, x: Tensor, *, want_mean: bool):
        """One pass over the memories; sums carry the weight exp(score - best score so far)."""
        x = seen_from(self.centre, x)
        best = x.new_full((len(x),), -torch.inf)
        total = torch.zeros_like(best)
        closest = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        mean = torch.zeros_like(x) if want_mean else x.new_empty(0)
        query = self.beta * x
        # Below this exponent a weight is lost in rounding, and exp() is ten times slower.
        least = math.log(torch.finfo(x.dtype).tiny)
        size = max(16, _BLOCK // max(1, len(x)) // 16 * 16)
        for start in range(0, len(self.memories), size):
            block = seen_from(self.centre, self.memories[start : start + size])
            score = long_times_transpose(block, query)
            score += self.bias[start : start + size, None]
            if want_mean:
                top = score.amax(0)
            else:
                top, where = score.max(0)
                closest = torch.where(top > best, start + where, closest)
            new = torch.maximum(best, top)
            weight = score.sub_(new).clamp_(min=least).exp_()
            fade = (best - new).exp()
            total = total * fade + weight.sum(0)
            if want_mean:
                mean.mul_(fade[:, None]).add_(transpose_times_long(weight, block))
            best = new
        return total, mean, closest
