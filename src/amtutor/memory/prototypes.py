r"""Learning memories by lowering the energy of what is seen (chapter 14, EM).

With :math:`p(x) \propto e^{-\beta E(x)}` and the LSE energy of `amtutor.memory.dense`, the
partition function is the same wherever the memories lie,

.. math:: Z = K\,(2\pi/\beta)^{D/2},

so the likelihood of data grows exactly as their mean energy falls, and nothing has to be sampled.
:func:`learn` does that, and two costlier ways to compare with: contrastive divergence and training
through an unrolled retrieval.

Our beta multiplies :math:`\frac12\|x-\xi\|^2`; EM's multiplies the whole square, so EM's 30 is our
60. Functions that say "runs" work on several memory banks at once: leading dimensions \*runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from amtutor import _check, _weights
from amtutor.memory.dense import lse_energy

__all__ = [
    "RULES",
    "Adam",
    "Learned",
    "anneal",
    "contrastive_gradient",
    "dead",
    "expectation_maximisation",
    "learn",
    "load_digits",
    "log_likelihood",
    "log_partition",
    "log_partition_by_quadrature",
    "mean_energy",
    "memory_gradient",
    "replace",
    "responsibilities",
    "unrolled_gradient",
    "workload",
]

# ---------------------------------------------------------------------------- likelihood


def log_partition(n_memories: int, dim: int, *, beta: float) -> float:
    r"""Logarithm of :math:`Z = \int e^{-\beta E_{LSE}(x)}\,dx = K\,(2\pi/\beta)^{D/2}` (EM 6).

    >>> round(log_partition(1, 2, beta=2 * math.pi), 12)
    0.0
    """
    _check.count("n_memories", n_memories)
    _check.count("dim", dim)
    return math.log(n_memories) + 0.5 * dim * math.log(2 * math.pi / _check.positive("beta", beta))


def log_partition_by_quadrature(
    energy: Callable[[Tensor], Tensor],
    *,
    beta: float,
    dim: int,
    bounds: tuple[float, float],
    points: int = 400,
) -> float:
    r"""Measure :math:`\log\int_{[a,b]^D} e^{-\beta E(x)}\,dx` on a grid, in float64.

    The midpoint rule with ``points`` cells a side. For an energy that is smooth and high at the
    border this is exact to rounding once a cell is smaller than a valley is wide; ``bounds`` that
    cut valleys off measure the partition function of the box.

    Args:
        energy: maps (N, D) to (N,); +inf is allowed and weighs nothing.
        bounds: (a, b), the same for each of ``dim`` coordinates (1, 2 or 3 of them).

    >>> bowl = lambda x: 0.5 * x.square().sum(-1)
    >>> round(log_partition_by_quadrature(bowl, beta=2 * math.pi, dim=2, bounds=(-5, 5)), 9)
    0.0
    """
    low, high = map(float, bounds)
    if not low < high:
        raise _check.fail("bounds", bounds, "(low, high) with low < high")
    if _check.count("dim", dim) > 3:
        raise _check.fail("dim", dim, "1, 2 or 3: a grid has points**dim cells")
    cell = (high - low) / _check.count("points", points)
    line = low + cell * (torch.arange(points, dtype=torch.float64) + 0.5)
    grid = torch.cartesian_prod(*[line] * dim).reshape(-1, dim)
    total = torch.logsumexp(-_check.positive("beta", beta) * energy(grid), dim=0)
    return float(total) + dim * math.log(cell)


def log_likelihood(x: Tensor, memories: Tensor, *, beta: float) -> Tensor:
    r"""Log-density of each state under its energy, (\*batch).

    .. math:: \log p(x) = -\beta E_{LSE}(x) - \log Z

    It is a mixture of K normal distributions with equal weights, means :math:`\xi^\mu` and the
    covariance :math:`\beta^{-1} I`.

    >>> one = torch.zeros(1, 1)
    >>> round(float(log_likelihood(one, one, beta=1.0)), 4)
    -0.9189
    """
    k, dim = _check.matrix("memories", memories).shape
    return -beta * lse_energy(x, memories, beta=beta) - log_partition(k, dim, beta=beta)


# ---------------------------------------------------------------------------- gradients


def responsibilities(x: Tensor, memories: Tensor, *, beta: float) -> Tensor:
    r"""How much each memory answers for each state, :math:`p_\mu(x)`, (\*runs, B, K).

    .. math:: p_\mu(x) = \mathrm{softmax}_\mu\bigl(-\tfrac\beta2\|x-\xi^\mu\|^2\bigr)

    Args:
        x: (\*runs, B, D); memories: (\*runs, K, D).
    """
    return torch.softmax(_scores(x, memories, beta), dim=-1)


def _scores(x: Tensor, memories: Tensor, beta: float) -> Tensor:
    """Exponents of the softmax, up to a number of each state alone."""
    bias = -0.5 * beta * memories.square().sum(-1)
    if x.ndim == 2:
        return torch.addmm(bias, x, memories.T, alpha=beta)
    return torch.baddbmm(bias[:, None], x, memories.mT, alpha=beta)


def mean_energy(x: Tensor, memories: Tensor, *, beta: float) -> Tensor:
    r"""Mean LSE energy of a batch, (\*runs): what is minimised (EM 5).

    Differentiable in the memories. Holds (B, K) scores, which `dense.lse_energy` does not.
    """
    _check_batch(x, memories, beta)
    pulled = torch.logsumexp(_scores(x, memories, beta), dim=-1) / beta
    return (0.5 * x.square().sum(-1) - pulled).mean(-1)


def memory_gradient(x: Tensor, memories: Tensor, *, beta: float) -> Tensor:
    r"""Gradient of :func:`mean_energy` in the memories, (\*runs, K, D).

    .. math:: \frac{\partial}{\partial\xi^\mu}\,\langle E(x)\rangle
              = \langle p_\mu(x)\,(\xi^\mu - x)\rangle

    Each memory is drawn to the mean of the states that it answers for. It is zero where every
    memory *is* that mean, which is one step of expectation maximisation.
    """
    p = responsibilities(x, memories, beta=beta)
    return (p.sum(-2)[..., None] * memories - p.mT @ x) / x.shape[-2]


def _state_gradient(x: Tensor, memories: Tensor, beta: float) -> Tensor:
    """Gradient of the energy in the state, for several banks at once."""
    return x - responsibilities(x, memories, beta=beta) @ memories


def contrastive_gradient(
    x: Tensor,
    memories: Tensor,
    *,
    beta: float,
    steps: int,
    step_size: float = 0.1,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Contrastive divergence (EM 3): data pull the memories, samples of the model push them.

    .. math:: \partial_\Xi \langle E\rangle_{data} - \partial_\Xi \langle E\rangle_{x^-}, \qquad
              x^- \leftarrow x^- - \eta\nabla E(x^-) + \sqrt{2\eta/\beta}\;\epsilon

    with ``steps`` Langevin steps that start from the data. For the LSE energy the second term is
    zero on average once the samples are samples of the model: it buys noise, and, before that, a
    bias that nearly cancels the first. Costs ``steps + 2`` passes over the memories.
    """
    negative = x
    push = math.sqrt(2 * _check.positive("step_size", step_size) / beta)
    for _ in range(_check.count("steps", steps, least=0)):
        noise = torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=generator)
        negative = negative - step_size * _state_gradient(negative, memories, beta) + push * noise
    pulled = memory_gradient(x, memories, beta=beta)
    return pulled - memory_gradient(negative, memories, beta=beta)


def unrolled_gradient(
    x: Tensor, clean: Tensor, memories: Tensor, *, beta: float, steps: int, step_size: float = 0.2
) -> Tensor:
    r"""Gradient of the reconstruction error through the whole retrieval, (\*runs, K, D).

    .. math:: \partial_\Xi \bigl\langle\tfrac12\|x_T(x, \Xi) - x_{clean}\|^2\bigr\rangle, \qquad
              x_{t+1} = x_t - \eta\,\nabla E(x_t)

    Costs ``steps`` passes over the memories forwards and as many backwards, and keeps all of them.
    """
    with torch.inference_mode(False), torch.enable_grad():
        # Clones: what was made under inference_mode is not differentiated.
        bank, state = memories.detach().clone().requires_grad_(True), x.clone()
        for _ in range(_check.count("steps", steps)):
            state = state - step_size * _state_gradient(state, bank, beta)
        error = 0.5 * (state - clean.clone()).square().sum(-1).mean(-1)
        return torch.autograd.grad(error.sum(), bank)[0]


# ---------------------------------------------------------------------------- life and death


def workload(x: Tensor, memories: Tensor, *, beta: float) -> Tensor:
    r"""What each memory answers for, in fair shares: (\*runs, K).

    .. math:: K\,\langle p_\mu(x)\rangle, \qquad \text{1 on average over the memories}
    """
    return memories.shape[-2] * responsibilities(x, memories, beta=beta).mean(-2)


def dead(x: Tensor, memories: Tensor, *, beta: float, below: float = 0.05) -> Tensor:
    """Which memories answer for less than ``below`` of a fair share of the data, (\\*runs, K) bool.

    >>> bank = torch.tensor([[0.0], [9.0]])
    >>> dead(torch.zeros(5, 1), bank, beta=4.0).tolist()
    [False, True]
    """
    return workload(x, memories, beta=beta) < below


def replace(
    memories: Tensor,
    x: Tensor,
    who: Tensor,
    *,
    jitter: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Put the memories in ``who`` on data drawn at random, ``jitter`` (a std) beside them.

    Args:
        memories: (\\*runs, K, D); who: (\\*runs, K) bool; x: (N, D), the data.
    """
    rows = torch.randint(len(x), memories.shape[:-1], generator=generator, device=x.device)
    noise = torch.randn(memories.shape, dtype=x.dtype, device=x.device, generator=generator)
    return torch.where(who[..., None], x[rows] + jitter * noise, memories)


def anneal(start: float, end: float, step: int, steps: int) -> float:
    """Straight line from ``start`` at the first of ``steps`` steps to ``end`` at the last.

    >>> [anneal(1.0, 0.1, s, 4) for s in (0, 1, 3)]
    [1.0, 0.7, 0.1]
    """
    share = step / (steps - 1) if steps > 1 else 1.0
    return round(start + (end - start) * share, 12)


# ---------------------------------------------------------------------------- learning


@dataclass
class Adam:
    """Adam (Kingma and Ba 2015) on one tensor, without automatic differentiation.

    >>> adam = Adam(lr=0.1)
    >>> round(float(adam.step(torch.zeros(1), torch.full((1,), 5.0))), 6)
    -0.1
    """

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    steps: int = 0
    moments: tuple[Tensor, Tensor] | None = field(default=None, repr=False)

    def step(self, x: Tensor, gradient: Tensor) -> Tensor:
        """Return ``x`` after one step against ``gradient``."""
        a, b = self.betas
        if self.moments is None:
            self.moments = torch.zeros_like(x), torch.zeros_like(x)
        first, second = self.moments
        self.steps += 1
        first.lerp_(gradient, 1 - a)
        second.mul_(b).addcmul_(gradient, gradient, value=1 - b)
        size = (second / (1 - b**self.steps)).sqrt_().add_(self.eps)
        return torch.addcdiv(x, first, size, value=-self.lr / (1 - a**self.steps))


@dataclass(frozen=True)
class Learned:
    """What :func:`learn` returns.

    ``memories`` is (\\*runs, K, D); ``energies`` (T, \\*runs) mean energies of noisy batches and
    ``steps`` (T,) when they were taken; ``films`` (T, \\*runs, K, D) the memories then, or None;
    ``passes`` counts passes of a batch over all memories, the unit of cost.
    """

    memories: Tensor
    energies: Tensor
    steps: Tensor
    films: Tensor | None
    passes: int


RULES = ("energy", "contrastive", "unrolled")


def learn(
    points: Tensor,
    memories: Tensor,
    *,
    beta: float,
    steps: int,
    lr: float,
    batch_size: int = 64,
    noise: tuple[float, float] = (1.0, 0.1),
    rule: str = "energy",
    inner: int = 10,
    langevin: float = 0.0,
    replace_every: int = 0,
    record_every: int = 0,
    film: bool = False,
    generator: torch.Generator | None = None,
) -> Learned:
    r"""Learn memories from data: batches with noise, a gradient, a step of Adam (EM A.1).

    Args:
        points: (N, D) data. Batches are drawn with replacement.
        memories: (\*runs, K, D) to start from; several banks see batches of their own.
        beta: inverse temperature, of half the square. steps, lr, batch_size: of Adam.
        noise: std of what is added to the data at the first and the last step, a line between.
        rule: "energy" (:func:`memory_gradient`), "contrastive" or "unrolled", the two costly ones
            with ``inner`` steps each.
        langevin: std of what is added to the memories after the first step, falling to 0.
        replace_every: every so many steps of the first 80 %, dead memories move to data.
        record_every: keep the batch energy (and with ``film`` the memories) every so many steps.

    >>> g = torch.Generator().manual_seed(0)
    >>> ring = torch.stack([torch.arange(6.0).sin(), torch.arange(6.0).cos()], 1)
    >>> start = torch.randn(6, 2, generator=g)
    >>> done = learn(ring, start, beta=60.0, steps=400, lr=0.02, generator=g)
    >>> bool(mean_energy(ring, done.memories, beta=60.0) < mean_energy(ring, start, beta=60.0))
    True
    """
    points, memories = _check_learn(points, memories, beta, noise, rule)
    adam = Adam(_check.positive("lr", lr))
    size = (*memories.shape[:-2], _check.count("batch_size", batch_size))
    kept = []
    for step in range(_check.count("steps", steps)):
        clean = points[torch.randint(len(points), size, generator=generator)]
        shake = torch.randn(clean.shape, dtype=clean.dtype, generator=generator)
        x = clean + anneal(*noise, step, steps) * shake
        if record_every and step % record_every == 0:
            kept.append((step, mean_energy(x, memories, beta=beta), memories if film else None))
        gradient = _GRADIENTS[rule](x, clean, memories, beta, inner, generator)
        memories = adam.step(memories, gradient)
        if langevin:
            push = torch.randn(memories.shape, dtype=x.dtype, generator=generator)
            memories = memories + anneal(langevin, 0.0, step, steps) * push
        if replace_every and (step + 1) % replace_every == 0 and step < 0.8 * steps:
            who = dead(points.expand(*size[:-1], -1, -1), memories, beta=beta)
            memories = replace(memories, points, who, jitter=beta**-0.5, generator=generator)
    if record_every:
        kept.append((steps, mean_energy(x, memories, beta=beta), memories if film else None))
    when, energies, films = zip(*kept, strict=True) if kept else ((), (), ())
    return Learned(
        memories,
        torch.stack(energies) if kept else memories.new_zeros(0, *size[:-1]),
        torch.tensor(when, dtype=torch.int64),
        torch.stack(films) if film and kept else None,
        steps * _PASSES[rule](inner),
    )


_GRADIENTS: dict[str, Callable[..., Tensor]] = {
    "energy": lambda x, clean, memories, beta, inner, g: memory_gradient(x, memories, beta=beta),
    "contrastive": lambda x, clean, memories, beta, inner, g: contrastive_gradient(
        x, memories, beta=beta, steps=inner, generator=g
    ),
    "unrolled": lambda x, clean, memories, beta, inner, g: unrolled_gradient(
        x, clean, memories, beta=beta, steps=inner
    ),
}
_PASSES: dict[str, Callable[[int], int]] = {
    "energy": lambda inner: 1,
    "contrastive": lambda inner: inner + 2,
    "unrolled": lambda inner: 2 * inner,
}


def expectation_maximisation(
    points: Tensor,
    memories: Tensor,
    *,
    beta: float,
    steps: int,
    learn_beta: bool = False,
    tol: float = 0.0,
) -> tuple[Tensor, float]:
    r"""Fit the same mixture by EM (Dempster, Laird and Rubin 1977): memories, and beta if asked.

    .. math:: \xi^\mu \leftarrow \frac{\langle p_\mu(x)\,x\rangle}{\langle p_\mu(x)\rangle},
              \qquad \frac1\beta \leftarrow \frac1D\Bigl\langle\sum_\mu p_\mu(x)
              \|x-\xi^\mu\|^2\Bigr\rangle

    One step sets :func:`memory_gradient` to zero with the answers p held still. It stops early
    when no memory moves by more than ``tol``. Returns the memories and beta.
    """
    _check_batch(points, memories, beta)
    for _ in range(_check.count("steps", steps)):
        p = responsibilities(points, memories, beta=beta)
        weight = p.sum(0)[:, None]
        moved = torch.where(weight > 1e-12, p.T @ points / weight.clamp(min=1e-12), memories)
        if learn_beta:
            spread = points.square().sum() - (weight * moved.square()).sum()
            beta = float(points.numel() / spread)
        gap, memories = (moved - memories).abs().max(), moved
        if gap <= tol:
            break
    return memories, beta


def load_digits() -> tuple[Tensor, Tensor]:
    """Give the 1000 prototypes learned from digits, (1000, 784), and what they are, (1000,) int64.

    Preset ``mnist-prototypes`` makes them (results/mnist-prototypes says how); they ship with the
    package in float16, sorted by class and, within a class, by slant.
    """
    tensors, _ = _weights.shipped("mnist_prototypes", kind="prototypes")
    return tensors["memories"].float(), tensors["labels"].long()


# ---------------------------------------------------------------------------- checks


def _check_batch(x: Tensor, memories: Tensor, beta: float) -> None:
    _check.positive("beta", beta)
    _check.floating("memories", memories)
    if memories.ndim not in (2, 3) or 0 in memories.shape:
        raise ValueError(
            f"memories: got a {_check.describe(memories)}, expected (K, D) or (runs, K, D)"
        )
    _check.last_dim("x", _check.floating("x", x), memories.shape[-1])
    _check.same_kind("x", x, memories)
    if x.shape[:-2] != memories.shape[:-2] or x.ndim < 2:
        raise ValueError(
            f"x: got shape {tuple(x.shape)}, expected (*runs, B, D) with the runs of memories "
            f"{tuple(memories.shape)}"
        )


def _check_learn(points: Tensor, memories: Tensor, beta, noise, rule) -> tuple[Tensor, Tensor]:
    _check.finite("points", _check.floating("points", _check.matrix("points", points)))
    _check.finite("memories", _check.floating("memories", memories))
    runs = memories.shape[:-2]
    _check_batch(points.expand(*runs, *points.shape), memories, beta)
    _check.same_kind("points", points, memories)
    for end in noise:
        _check.non_negative("noise", end)
    _check.choice("rule", rule, RULES)
    return points, memories.detach().clone()
