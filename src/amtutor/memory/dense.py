r"""Dense associative memory with continuous states: a soft minimum over bowls, and attention.

Every memory :math:`\xi^\mu` digs a bowl :math:`\tfrac12\|x-\xi^\mu\|^2`; the energy is their soft
minimum at inverse temperature ``beta``:

.. math:: E_{\mathrm{LSE}}(x) = -\tfrac1\beta \log \sum_\mu \exp\bigl(-\tfrac\beta2
          \|x-\xi^\mu\|^2\bigr), \qquad
          E_{\mathrm{LSR}}(x) = -\tfrac1\beta \log \sum_\mu \mathrm{ReLU}\bigl(1-\tfrac\beta2
          \|x-\xi^\mu\|^2\bigr)

(MM 5.13 and 5.52 with the factor 1/beta in front, so that the LSE gradient is x minus a weighted
mean of memories whatever beta is). Shapes everywhere: ``x`` is (\*batch, D), ``memories`` is
(K, D), an energy is (\*batch).

Nothing of size (batch, K, D) is ever made, and nothing of size (batch, K) beyond ``chunk`` memories
at a time: a running maximum is carried from block to block, so a million memories are no problem.
Scores come from inner products; only the distance to the *nearest* memory, which carries the
energy's value, is taken by subtraction, so that a state on a memory has energy 0 and not a rounding
error of size :math:`\|x\|^2`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from amtutor import _check
from amtutor.descent import Descent, descend

__all__ = [
    "ENERGIES",
    "DenseAM",
    "EnergyForm",
    "attention",
    "attention_energy",
    "attention_weights",
    "distance_bias",
    "lse_energy",
    "lse_gradient",
    "lse_weights",
    "lsr_energy",
    "lsr_gradient",
    "lsr_pull",
    "nearest",
]

_BLOCK = 2**22  # scores held at a time: 16 MB in float32


# ---------------------------------------------------------------------------- the LSE energy


def lse_energy(x: Tensor, memories: Tensor, *, beta: float, chunk: int | None = None) -> Tensor:
    r"""Log-sum-exp energy :math:`-\frac1\beta\log\sum_\mu\exp(-\frac\beta2\|x-\xi^\mu\|^2)`.

    Args:
        x: (\*batch, D).
        memories: (K, D).
        beta: inverse temperature > 0, of :math:`\frac12\|x-\xi\|^2`.
        chunk: memories per block; None takes as many as keep a block of scores at 16 MB.

    Returns:
        (\*batch): between :math:`\min_\mu\frac12\|x-\xi^\mu\|^2 - \frac{\log K}\beta` and that
        minimum. It is negative near memories that lie together, and that means nothing: only
        differences of energies do.

    Raises:
        ValueError, TypeError: wrong shape, dtype, device, beta <= 0, or NaN.

    Source: MM 5.13, times 1/beta.

    >>> memories = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    >>> lse_energy(torch.tensor([[0.0, 0.0], [0.0, 1.0]]), memories, beta=10.0)
    tensor([0.0000, 0.5000])
    """

    def one(rows: Tensor, size: int) -> Tensor:
        closest, total, _ = _lse_pass(rows, memories, beta, size, want_mean=False)
        return 0.5 * (rows - closest).square().sum(-1) - total.log() / beta

    return _by_rows(one, x, memories, beta, chunk)


def lse_gradient(x: Tensor, memories: Tensor, *, beta: float, chunk: int | None = None) -> Tensor:
    r"""Gradient of :func:`lse_energy`: the state minus a weighted mean of the memories.

    .. math:: \nabla E = x - \sum_\mu p_\mu \xi^\mu, \qquad p = \mathrm{softmax}_\mu
              \bigl(-\tfrac\beta2\|x-\xi^\mu\|^2\bigr)

    Arguments as :func:`lse_energy`; returns (\*batch, D). A step of size 1 lands on the mean.
    """

    def one(rows: Tensor, size: int) -> Tensor:
        _, total, mean = _lse_pass(rows, memories, beta, size, want_mean=True)
        return rows - mean / total[:, None]

    return _by_rows(one, x, memories, beta, chunk)


def lse_weights(x: Tensor, memories: Tensor, *, beta: float) -> Tensor:
    r"""The softmax weights of :func:`lse_gradient`, (\*batch, K): how much each memory pulls.

    This one does hold (\*batch, K) numbers.
    """
    _check_pair(x, memories, beta)
    return torch.softmax(beta * _scores(x, memories), dim=-1)


def _lse_pass(x: Tensor, memories: Tensor, beta, chunk: int, *, want_mean: bool):
    """Go once over the memories in blocks, keeping sums of exp(score - best score so far).

    Returns the nearest memory of each row, the sum of these weights, and the sum of the memories
    with these weights (or None). Nothing overflows, for no exponent is ever positive.
    """
    best = x.new_full((len(x),), -torch.inf)
    total, closest = torch.zeros_like(best), torch.zeros_like(x)
    mean = torch.zeros_like(x) if want_mean else None
    for block in memories.split(chunk):
        score = beta * _scores(x, block)
        share = score.softmax(-1)
        top, where = score.max(-1)
        closest = torch.where((top > best)[:, None], block[where], closest)
        new = torch.maximum(best, top)
        fade = (best - new).exp()  # what the sums so far are worth from now on
        # The best memory of the block has weight exp(top - new), of which its share is a part.
        own = (top - new).exp() / share.gather(-1, where[:, None])[:, 0]
        total = total * fade + own
        if want_mean:
            mean = mean * fade[:, None] + own[:, None] * (share @ block)
        best = new
    return closest, total, mean


# ---------------------------------------------------------------------------- the LSR energy


def lsr_energy(x: Tensor, memories: Tensor, *, beta: float, chunk: int | None = None) -> Tensor:
    r"""Log-sum-ReLU energy :math:`-\frac1\beta\log\sum_\mu\mathrm{ReLU}(1-\frac\beta2\|x-\xi\|^2)`.

    Each memory is felt only inside a ball of radius :math:`\sqrt{2/\beta}`. Outside all of them
    (*off the support*) the energy is +inf and there is no gradient; one behaviour is fixed for
    that: :func:`lsr_gradient`, :func:`lsr_pull` and automatic differentiation all give **zero**
    there. A descent therefore leaves such a state where it is and does not call it converged.

    Arguments as :func:`lse_energy`. Source: MM 5.52, times 1/beta.

    >>> lsr_energy(torch.tensor([[0.0], [0.5], [9.0]]), torch.zeros(1, 1), beta=2.0)
    tensor([0.0000, 0.1438,    inf])
    """

    def one(rows: Tensor, size: int) -> Tensor:
        total, _, _ = _lsr_pass(rows, memories, beta, size, want_mean=False)
        inside = total > 0
        return torch.where(inside, 0.0 - total.where(inside, 1.0).log() / beta, torch.inf)

    return _by_rows(one, x, memories, beta, chunk, may_be_infinite=True)


def lsr_gradient(x: Tensor, memories: Tensor, *, beta: float, chunk: int | None = None) -> Tensor:
    r"""Gradient of :func:`lsr_energy`, zero off the support.

    .. math:: \nabla E = \frac{\sum_{\mu\in A}(x-\xi^\mu)}{\sum_{\mu\in A}
              (1-\frac\beta2\|x-\xi^\mu\|^2)}, \qquad A = \{\mu: \tfrac\beta2\|x-\xi^\mu\|^2 < 1\}

    It grows without bound towards the edge of the support, so a fixed step size overshoots there;
    :func:`lsr_pull` is the same direction at a length that never does.
    """

    def one(rows: Tensor, size: int) -> Tensor:
        total, count, away = _lsr_pass(rows, memories, beta, size, want_mean=True)
        return away / total.where(count > 0, 1.0)[:, None]

    return _by_rows(one, x, memories, beta, chunk)


def lsr_pull(x: Tensor, memories: Tensor, *, beta: float, chunk: int | None = None) -> Tensor:
    r"""The state minus the plain mean of the memories that feel it, zero off the support.

    This is :func:`lsr_gradient` times the positive number (sum of ReLUs)/(number of memories in
    reach). Going all the way (step size 1) lands on the mean: exactly on a memory if only one is
    in reach. Any step size in (0, 2) lowers the energy, because the ReLU is convex.
    """

    def one(rows: Tensor, size: int) -> Tensor:
        _, count, away = _lsr_pass(rows, memories, beta, size, want_mean=True)
        return away / count.clamp(min=1)[:, None]

    return _by_rows(one, x, memories, beta, chunk)


def _lsr_pass(x: Tensor, memories: Tensor, beta, chunk: int, *, want_mean: bool):
    """Go over the memories twice: who is nearest, then who is in reach.

    Returns the sum of ReLUs, the number of memories in reach, and the sum of x - xi over them.
    Distances are measured from the nearest memory's, which is exact, so that a state on a memory is
    always in its reach, however large beta and |x| are.
    """
    closest, score_of_closest = _closest(x, memories, chunk)
    least = 0.5 * (x - closest).square().sum(-1)
    total = torch.zeros_like(least)
    count, away = torch.zeros_like(least), torch.zeros_like(x)
    for block in memories.split(chunk):
        further = score_of_closest[:, None] - _scores(x, block)
        left = (1 - beta * (least[:, None] + further)).relu()
        total = total + left.sum(-1)
        if want_mean:
            reach = (left > 0).to(x.dtype)
            count = count + reach.sum(-1)
            away = away + x * reach.sum(-1, keepdim=True) - reach @ block
    return total, count, away


# ---------------------------------------------------------------------------- what both share


def nearest(x: Tensor, memories: Tensor, *, chunk: int | None = None) -> Tensor:
    r"""Index of the memory at the smallest Euclidean distance, (\*batch) int64.

    >>> nearest(torch.tensor([0.9, 0.1]), torch.eye(2))
    tensor(0)
    """

    def one(rows: Tensor, size: int) -> Tensor:
        best = rows.new_full((len(rows),), -torch.inf)
        index = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
        for start, block in _blocks(memories, size):
            top, where = _scores(rows, block).max(-1)
            index = torch.where(top > best, start + where, index)
            best = torch.maximum(best, top)
        return index

    return _by_rows(one, x, memories, 1.0, chunk)


def _scores(x: Tensor, block: Tensor) -> Tensor:
    """Inner product minus half the memory's square: -||x - xi||^2 / 2 up to a number of x alone."""
    return x @ block.T + distance_bias(block)


def distance_bias(memories: Tensor) -> Tensor:
    r"""The bias :math:`-\frac12\|\xi^\mu\|^2` that turns inner products into distances, (K,).

    With it, :func:`attention_energy` is :func:`lse_energy`; without it, long memories are favoured.
    """
    return -0.5 * torch.einsum("kd,kd->k", memories, memories)


def _closest(x: Tensor, memories: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """Nearest memory of each row, and its score."""
    best, closest = x.new_full((len(x),), -torch.inf), torch.zeros_like(x)
    for block in memories.split(chunk):
        top, where = _scores(x, block).max(-1)
        closest = torch.where((top > best)[:, None], block[where], closest)
        best = torch.maximum(best, top)
    return closest, best


def _blocks(memories: Tensor, size: int) -> Iterator[tuple[int, Tensor]]:
    for start in range(0, len(memories), size):
        yield start, memories[start : start + size]


def _by_rows(one: Callable, x: Tensor, memories, beta, chunk, may_be_infinite=False) -> Tensor:
    """Flatten the batch, cut it so that a block of scores stays small, and put it together."""
    _check_pair(x, memories, beta)
    rows = x.reshape(-1, x.shape[-1])
    if chunk is None:
        most = max(256, _BLOCK // len(memories))  # rows at a time
        chunk = min(2**14, max(1, _BLOCK // max(1, min(most, len(rows)))))
    else:
        most, chunk = max(1, len(rows)), _check.count("chunk", chunk)
    parts = [one(part, chunk) for part in rows.split(most)]
    out = torch.cat(parts) if len(parts) > 1 else parts[0]
    if out.isnan().any() or (out.isinf().any() and not may_be_infinite):
        _check.finite("x", x)
        _check.finite("memories", memories)
        raise ValueError(f"x: overflows in {x.dtype}, expected smaller entries or torch.float64")
    return out.reshape(x.shape[:-1] + out.shape[1:])


def _check_pair(x: Tensor, memories: Tensor, beta) -> None:
    _check.matrix("memories", memories)
    _check.floating("memories", memories)
    _check.last_dim("x", _check.floating("x", x), memories.shape[1])
    _check.same_kind("x", x, memories)
    _check.positive("beta", beta)


# ---------------------------------------------------------------------------- attention


def attention_weights(
    query: Tensor, keys: Tensor, *, beta: float | None = None, bias: Tensor | None = None
) -> Tensor:
    r"""Attention weights :math:`\mathrm{softmax}_\mu(\beta\,(k^\mu\cdot q + b_\mu))`, (\*batch, K).

    ``beta=None`` takes the transformer's :math:`1/\sqrt d`; ``bias`` is (K,) or None for zero.
    With ``bias=distance_bias(keys)`` these are :func:`lse_weights`.
    """
    beta = keys.shape[-1] ** -0.5 if beta is None else beta
    _check_pair(query, keys, beta)
    return torch.softmax(beta * _dots(query, keys, bias), dim=-1)


def attention(
    query: Tensor,
    keys: Tensor,
    values: Tensor | None = None,
    *,
    beta: float | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    r"""Softmax attention :math:`\mathrm{softmax}(\beta\,(q K^\top + b))\,V`.

    With ``values=None`` the values are the keys, and this is exactly one retrieval step of size 1
    on :func:`attention_energy`: x - grad E(x). With ``beta=None`` (that is :math:`1/\sqrt d`) it is
    ``torch.nn.functional.scaled_dot_product_attention``.

    Args:
        query: (\*batch, d); keys: (K, d); values: (K, d_v) or None.

    Source: MM 3.15-3.16 (the energy side); the step is ledger D1.

    >>> keys = torch.eye(2)
    >>> x = torch.tensor([1.0, 0.0], requires_grad=True)
    >>> (slope,) = torch.autograd.grad(attention_energy(x, keys, beta=1.0), x)
    >>> torch.equal(attention(x, keys, beta=1.0), x - slope)
    True
    """
    weights = attention_weights(query, keys, beta=beta, bias=bias)
    values = keys if values is None else values
    if _check.matrix("values", values).shape[0] != len(keys):
        raise ValueError(f"values: got {len(values)} rows, expected {len(keys)}, one for each key")
    return weights @ values


def attention_energy(
    x: Tensor, memories: Tensor, *, beta: float | None = None, bias: Tensor | None = None
) -> Tensor:
    r"""The energy of dot-product attention.

    .. math:: E(x) = \tfrac12\|x\|^2 - \tfrac1\beta \log \sum_\mu \exp\bigl(\beta\,(\xi^\mu\cdot x
              + b_\mu)\bigr)

    Conversion to :func:`lse_energy` at the same beta: with b = ``distance_bias(memories)`` the two
    are equal; with b = 0 and memories of one norm R, this is E_LSE - R^2/2 and the gradients are
    equal; with b = 0 and unequal norms it is the LSE energy in which memory mu counts
    :math:`\exp(\frac\beta2\|\xi^\mu\|^2)` times, which no beta mends.
    """
    beta = memories.shape[-1] ** -0.5 if beta is None else beta
    _check_pair(x, memories, beta)
    pulled = torch.logsumexp(beta * _dots(x, memories, bias), dim=-1) / beta
    return 0.5 * x.square().sum(-1) - pulled


def _dots(x: Tensor, memories: Tensor, bias: Tensor | None) -> Tensor:
    if bias is None:
        return x @ memories.T
    if bias.shape != memories.shape[:1]:
        raise ValueError(f"bias: got shape {tuple(bias.shape)}, expected ({len(memories)},)")
    return x @ memories.T + bias


# ---------------------------------------------------------------------------- the module


@dataclass(frozen=True)
class EnergyForm:
    """What :class:`DenseAM` needs of an energy: three functions of (x, memories, beta=, chunk=).

    ``energy`` gives (\\*batch); ``gradient`` its exact gradient; ``pull`` the displacement x - m(x)
    that retrieval follows, a positive multiple of the gradient that is safe at step size 1.
    """

    energy: Callable[..., Tensor]
    gradient: Callable[..., Tensor]
    pull: Callable[..., Tensor]


ENERGIES = {
    "lse": EnergyForm(lse_energy, lse_gradient, lse_gradient),
    "lsr": EnergyForm(lsr_energy, lsr_gradient, lsr_pull),
}


class DenseAM(nn.Module):
    r"""K memories in continuous space, and the descent that recalls them.

    Args:
        memories: (K, D) floating point, kept as given (a buffer that is not copied, or, if it is
            an ``nn.Parameter``, that parameter).
        energy: "lse", "lsr", or an :class:`EnergyForm`.
        beta: inverse temperature > 0.
        trainable: make ``memories`` an ``nn.Parameter`` (a copy); train them through ``.energy``.
        chunk: memories per block, None for blocks of 16 MB.

    >>> memory = DenseAM(torch.eye(3), beta=20.0)
    >>> memory.recall(torch.tensor([0.7, 0.2, 0.1]), steps=5).state.round(decimals=3)
    tensor([1., 0., 0.])
    """

    memories: Tensor

    def __init__(
        self,
        memories: Tensor,
        energy: str | EnergyForm = "lse",
        *,
        beta: float,
        trainable: bool = False,
        chunk: int | None = None,
    ):
        super().__init__()
        _check.finite("memories", _check.floating("memories", _check.matrix("memories", memories)))
        if trainable and not isinstance(memories, nn.Parameter):
            memories = nn.Parameter(memories.detach().clone())
        if isinstance(memories, nn.Parameter):
            self.register_parameter("memories", memories)
        else:
            self.register_buffer("memories", memories)
        if not isinstance(energy, EnergyForm):
            energy = ENERGIES[_check.choice("energy", energy, tuple(ENERGIES))]
        self.form = energy
        self.beta = _check.positive("beta", beta)
        self.chunk = None if chunk is None else _check.count("chunk", chunk)

    def energy(self, x: Tensor) -> Tensor:
        r"""Energy of each state, (\*batch)."""
        return self.form.energy(x, self.memories, beta=self.beta, chunk=self.chunk)

    def gradient(self, x: Tensor) -> Tensor:
        r"""Exact gradient of :meth:`energy` in closed form, (\*batch, D)."""
        return self.form.gradient(x, self.memories, beta=self.beta, chunk=self.chunk)

    def pull(self, x: Tensor) -> Tensor:
        r"""The displacement x - m(x) that :meth:`recall` follows, (\*batch, D)."""
        return self.form.pull(x, self.memories, beta=self.beta, chunk=self.chunk)

    def recall(
        self,
        x: Tensor,
        *,
        steps: int,
        step_size: float = 1.0,
        tol: float | None = None,
        clamp: Tensor | None = None,
        record: bool = False,
    ) -> Descent:
        r"""Recall: x <- x + step_size (m(x) - x), m(x) the weighted mean of the memories.

        For "lse" that is gradient descent with this step size; for "lsr" it is :func:`lsr_pull`,
        and a state off the support stays where it is with energy +inf, never converged. The energy
        never rises for any step size in (0, 2), clamped or not. ``tol`` is a length of x - m(x).

        Other arguments and the result: see :func:`amtutor.descent.descend`.
        """
        return descend(
            self.energy,
            x,
            steps=steps,
            step_size=step_size,
            gradient=self.pull,
            clamp=clamp,
            tol=tol,
            record=record,
        )

    def extra_repr(self) -> str:
        """Name the sizes and the temperature."""
        k, d = self.memories.shape
        return f"K={k}, D={d}, beta={self.beta}"
