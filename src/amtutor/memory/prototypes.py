r"""Learning memories by lowering the energy of what is seen (chapter 14, EM).

With :math:`p(x) \propto e^{-\beta E(x)}` and the LSE energy of `amtutor.memory.dense`, the
partition function is the same wherever the memories lie,

.. math:: Z = K\,(2\pi/\beta)^{D/2},

so the likelihood of data grows exactly as their mean energy falls, and nothing has to be sampled.
:func:`learn` does that, and two costlier ways to compare with: contrastive divergence and training
through an unrolled retrieval. The task that trains at full scale (`amtutor train dinosaur`) is made
of the same pieces: :func:`mean_energy`, torch's Adam, :func:`after_step`.

Our beta multiplies :math:`\frac12\|x-\xi\|^2`; EM's multiplies the whole square, so EM's 30 is our
60. Functions that say "runs" work on several memory banks at once: leading dimensions \*runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from amtutor import _check, _draw, _weights
from amtutor.memory.dense import centred, lse_energy, middle, scores

__all__ = [
    "RULES",
    "Learned",
    "after_step",
    "anneal",
    "contrastive_gradient",
    "dead",
    "expectation_maximisation",
    "langevin_step",
    "learn",
    "load_digits",
    "log_likelihood",
    "log_partition",
    "log_partition_by_quadrature",
    "mean_energy",
    "memory_gradient",
    "replace",
    "responsibilities",
    "stand_in_digits",
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
    if not callable(energy):
        raise TypeError(f"energy: got a {_check.describe(energy)}, expected a function of (N, D)")
    low, high = _bounds(bounds)
    beta = _check.positive("beta", beta)
    if _check.count("dim", dim) > 3:
        raise _check.fail("dim", dim, "1, 2 or 3: a grid has points**dim cells")
    if _check.count("points", points) ** dim > 10**8:
        raise _check.fail("points", points, f"points**{dim} <= 100 000 000 cells")
    cell = (high - low) / points
    line = low + cell * (torch.arange(points, dtype=torch.float64) + 0.5)
    grid = torch.cartesian_prod(*[line] * dim).reshape(-1, dim)
    total = torch.logsumexp(-beta * energy(grid), dim=0)
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
    _check.positive("beta", beta)
    return -beta * lse_energy(x, memories, beta=beta) - log_partition(k, dim, beta=beta)


# ---------------------------------------------------------------------------- gradients


def responsibilities(x: Tensor, memories: Tensor, *, beta: float) -> Tensor:
    r"""How much each memory answers for each state, :math:`p_\mu(x)`, (\*runs, B, K).

    .. math:: p_\mu(x) = \mathrm{softmax}_\mu\bigl(-\tfrac\beta2\|x-\xi^\mu\|^2\bigr)

    Args:
        x: (\*runs, B, D); memories: (\*runs, K, D).

    Raises:
        ValueError, TypeError: shapes or dtypes that do not fit, beta that is not above 0. So do all
            functions of (x, memories) here.
    """
    return _shares(*centred(*_batch(x, memories, beta)), beta)


def _shares(at: Tensor, bank: Tensor, beta: float) -> Tensor:
    return scores(at, bank, beta).softmax(-1)


def mean_energy(x: Tensor, memories: Tensor, *, beta: float) -> Tensor:
    r"""Mean LSE energy of a batch, (\*runs): what is minimised (EM 5).

    Differentiable in the memories. Holds (B, K) scores, which `dense.lse_energy` does not.
    """
    at, bank = centred(*_batch(x, memories, beta))
    return (0.5 * at.square().sum(-1) - scores(at, bank, beta).logsumexp(-1) / beta).mean(-1)


def memory_gradient(x: Tensor, memories: Tensor, *, beta: float) -> Tensor:
    r"""Gradient of :func:`mean_energy` in the memories, (\*runs, K, D).

    .. math:: \frac{\partial}{\partial\xi^\mu}\,\langle E(x)\rangle
              = \langle p_\mu(x)\,(\xi^\mu - x)\rangle

    Each memory is drawn to the mean of the states that it answers for. It is zero where every
    memory *is* that mean, which is one step of expectation maximisation.
    """
    at, bank = centred(*_batch(x, memories, beta))
    p = _shares(at, bank, beta)
    return (p.sum(-2)[..., None] * bank - p.mT @ at) / x.shape[-2]


def _state_gradient(x: Tensor, memories: Tensor, beta: float) -> Tensor:
    """Gradient of the energy in the state, for several banks at once."""
    at, bank = centred(x, memories)
    return at - _shares(at, bank, beta) @ bank


def langevin_step(
    x: Tensor,
    memories: Tensor,
    *,
    beta: float,
    step_size: float,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""One step of a walk that visits states as often as :math:`e^{-\beta E}` says (small steps).

    .. math:: x \leftarrow x - \eta\nabla E(x) + \sqrt{2\eta/\beta}\;\epsilon

    Shapes as :func:`responsibilities`; returns (\*runs, B, D).
    """
    _batch(x, memories, beta)
    push = math.sqrt(2 * _check.positive("step_size", step_size) / beta)
    noise = _draw.normal(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    return x - step_size * _state_gradient(x, memories, beta) + push * noise


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

    .. math:: \partial_\Xi \langle E\rangle_{data} - \partial_\Xi \langle E\rangle_{x^-}

    The samples are ``steps`` of :func:`langevin_step` away from the data. For the LSE energy the
    second term is zero on average once they are samples of the model: it buys noise, and, before
    that, a bias that nearly cancels the first. Costs ``steps + 2`` passes over the memories.
    """
    pulled, negative = memory_gradient(x, memories, beta=beta), x
    for _ in range(_check.count("steps", steps, least=0)):
        negative = langevin_step(
            negative, memories, beta=beta, step_size=step_size, generator=generator
        )
    return pulled - memory_gradient(negative, memories, beta=beta)


def unrolled_gradient(
    x: Tensor, clean: Tensor, memories: Tensor, *, beta: float, steps: int, step_size: float = 0.2
) -> Tensor:
    r"""Gradient of the reconstruction error through the whole retrieval, (\*runs, K, D).

    .. math:: \partial_\Xi \bigl\langle\tfrac12\|x_T(x, \Xi) - x_{clean}\|^2\bigr\rangle, \qquad
              x_{t+1} = x_t - \eta\,\nabla E(x_t)

    Costs ``steps`` passes over the memories forwards and as many backwards, and keeps all of them.
    """
    _batch(x, memories, beta)
    _check.shape("clean", _check.floating("clean", clean), tuple(x.shape))
    _check.same_kind("clean", clean, x)
    _check.positive("step_size", step_size)
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
    shares = responsibilities(x, memories, beta=beta)
    return memories.shape[-2] * shares.mean(-2)


def dead(x: Tensor, memories: Tensor, *, beta: float, below: float = 0.05) -> Tensor:
    """Which memories answer for less than ``below`` of a fair share of the data, (\\*runs, K) bool.

    >>> bank = torch.tensor([[0.0], [9.0]])
    >>> dead(torch.zeros(5, 1), bank, beta=4.0).tolist()
    [False, True]
    """
    load, below = workload(x, memories, beta=beta), _check.non_negative("below", below)
    if load.isnan().any():  # NaN is less than nothing, and would pass for alive
        _check.finite("x", x)
        _check.finite("memories", memories)
    return load < below


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
    _crowd("x", x, memories, 1.0)
    who = _check.mask("who", who, memories[..., 0])
    rows = _draw.integers(len(x), memories.shape[:-1], generator=generator, device=x.device)
    noise = _draw.normal(memories.shape, generator=generator, dtype=x.dtype, device=x.device)
    return torch.where(
        who[..., None], x[rows] + _check.non_negative("jitter", jitter) * noise, memories
    )


def after_step(
    memories: Tensor,
    points: Tensor,
    step: int,
    *,
    steps: int,
    beta: float,
    langevin: float = 0.0,
    replace_every: int = 0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """What keeps memories alive once an optimiser has taken ``step`` of ``steps`` steps (EM A.1).

    Args:
        memories: (\\*runs, K, D); points: (N, D), the data.
        step: steps taken so far, from 1.
        langevin: std of what is added to the memories after the first step, falling to 0.
        replace_every: every so many steps of the first 80 %, dead memories move to data.
    """
    crowd = _crowd("points", points, memories, beta)
    _check.generator("generator", generator)
    _check.count("step", step, most=_check.count("steps", steps))
    _check.count("replace_every", replace_every, least=0)
    if _check.non_negative("langevin", langevin):
        push = anneal(langevin, 0.0, step - 1, steps)
        noise = _draw.normal(
            memories.shape, generator=generator, dtype=memories.dtype, device=memories.device
        )
        memories = memories + push * noise
    if replace_every and step % replace_every == 0 and step <= 0.8 * steps:
        who = dead(crowd, memories, beta=beta)
        memories = replace(memories, points, who, jitter=beta**-0.5, generator=generator)
    return memories


def anneal(start: float, end: float, step: int, steps: int) -> float:
    """Straight line from ``start`` at the first of ``steps`` steps to ``end`` at the last.

    >>> [anneal(1.0, 0.1, s, 4) for s in (0, 1, 3)]
    [1.0, 0.7, 0.1]
    """
    start, end = _check.real("start", start), _check.real("end", end)
    _check.count("step", step, least=0, most=max(0, _check.count("steps", steps) - 1))
    share = step / (steps - 1) if steps > 1 else 1.0
    return round(start + (end - start) * share, 12)


# ---------------------------------------------------------------------------- learning


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
    points, memories, noise = _check_learn(points, memories, beta, noise, rule)
    size = (*memories.shape[:-2], _check.count("batch_size", batch_size))
    care = partial(
        after_step,
        steps=_check.count("steps", steps),
        beta=beta,
        langevin=_check.non_negative("langevin", langevin),
        replace_every=_check.count("replace_every", replace_every, least=0),
        generator=_check.generator("generator", generator),
    )
    every, film = _check.count("record_every", record_every, least=0), _check.boolean("film", film)
    inner = _check.count("inner", inner, least=0)
    kept = _Kept(film)
    with torch.inference_mode(False), torch.no_grad():
        bank = nn.Parameter(memories)
        adam = torch.optim.Adam([bank], lr=_check.positive("lr", lr))
        for step in range(steps):
            clean = points[_draw.integers(len(points), size, generator=generator)]
            shake = _draw.normal(clean.shape, generator=generator, dtype=clean.dtype)
            x = clean + anneal(*noise, step, steps) * shake
            if every and step % every == 0:
                kept.note(step, x, bank, beta)
            bank.grad = _gradient(rule, x, clean, bank, beta, inner, generator)
            adam.step()
            bank.copy_(care(bank, points, step + 1))
        if every:
            kept.note(steps, x, bank, beta)
    passes = steps * {"energy": 1, "contrastive": inner + 2, "unrolled": 2 * inner}[rule]
    return Learned(bank.detach(), *kept.stacked(memories.new_zeros(0, *size[:-1])), passes)


class _Kept:
    """What `learn` keeps on its way: steps, energies of batches and, for a film, the memories."""

    def __init__(self, film: bool):
        self.film = film
        self.when: list[int] = []
        self.energies: list[Tensor] = []
        self.films: list[Tensor] = []

    def note(self, step: int, x: Tensor, bank: Tensor, beta: float) -> None:
        self.when.append(step)
        self.energies.append(mean_energy(x, bank, beta=beta))
        if self.film:
            self.films.append(bank.detach().clone())

    def stacked(self, nothing: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Energies, steps and memories as tensors; ``nothing`` where none were kept."""
        energies = torch.stack(self.energies) if self.energies else nothing
        films = torch.stack(self.films) if self.films else None
        return energies, torch.tensor(self.when, dtype=torch.int64), films


def _gradient(rule: str, x, clean, memories, beta, inner, generator) -> Tensor:
    """What the optimiser is told, by one of three rules."""
    if rule == "energy":
        return memory_gradient(x, memories, beta=beta)
    if rule == "contrastive":
        return contrastive_gradient(x, memories, beta=beta, steps=inner, generator=generator)
    return unrolled_gradient(x, clean, memories, beta=beta, steps=inner)


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

    Raises:
        ValueError, TypeError: a wrong shape, dtype or range, or a learned beta that has no end.
    """
    _batch(_check.matrix("points", points), _check.matrix("memories", memories), beta)
    _check.finite("points", points)
    _check.finite("memories", memories)
    tol, learn_beta = _check.non_negative("tol", tol), _check.boolean("learn_beta", learn_beta)
    at, bank = centred(points, memories)
    for _ in range(_check.count("steps", steps)):
        p = _shares(at, bank, beta)
        weight = p.sum(0)[:, None]
        moved = torch.where(weight > 1e-12, p.T @ at / weight.clamp(min=1e-12), bank)
        if learn_beta:
            spread = at.square().sum() - (weight * moved.square()).sum()
            if not spread > 0:
                raise ValueError(
                    "learn_beta: every memory lies on its points, so beta has no end; expected "
                    "fewer memories, or learn_beta=False"
                )
            beta = float(at.numel() / spread)
        gap, bank = (moved - bank).abs().max(), moved
        if gap <= tol:
            break
    return bank + middle(memories), beta


def load_digits() -> tuple[Tensor, Tensor]:
    """Give the 1000 prototypes learned from digits, (1000, 784), and what they are, (1000,) int64.

    Preset ``mnist-prototypes`` makes them (results/mnist-prototypes says how); they ship with the
    package in float16, sorted by class and, within a class, by slant.
    """
    tensors, _ = _weights.shipped("mnist_prototypes", kind="prototypes")
    return tensors["memories"].float(), tensors["labels"].long()


def stand_in_digits() -> tuple[Tensor, Tensor]:
    """Give 10 000 pictures for where MNIST cannot be had: each shipped prototype at ten places.

    Pixels as MNIST has them, uint8 (10 000, 28, 28) in 0..255, and what they are, (10 000,) int64,
    in an order that is always the same. Runs the code of a chapter; its numbers are others.

    >>> pictures, labels = stand_in_digits()
    >>> tuple(pictures.shape), pictures.dtype, len(labels.unique())
    ((10000, 28, 28), torch.uint8, 10)
    """
    memories, labels = load_digits()
    ink = (255 * memories.clamp(0, 1)).round().to(torch.uint8).reshape(-1, 28, 28)
    places = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)] + [(0, 2)]
    moved = torch.cat([torch.roll(ink, place, dims=(1, 2)) for place in places])
    order = torch.randperm(len(moved), generator=torch.Generator().manual_seed(0))
    return moved[order], labels.repeat(len(places))[order]


# ---------------------------------------------------------------------------- checks


def _bounds(bounds) -> tuple[float, float]:
    try:
        low, high = bounds
    except (TypeError, ValueError):
        raise _check.fail("bounds", bounds, "(low, high) with low < high") from None
    low, high = _check.real("bounds", low), _check.real("bounds", high)
    if not low < high:
        raise _check.fail("bounds", bounds, "(low, high) with low < high")
    return low, high


def _batch(x: Tensor, memories: Tensor, beta: float, name: str = "x") -> tuple[Tensor, Tensor]:
    """Check states (\\*runs, B, D) against memories (\\*runs, K, D), and return both."""
    _check.positive("beta", beta)
    _check.floating("memories", memories)
    if memories.ndim not in (2, 3) or 0 in memories.shape:
        raise ValueError(
            f"memories: got a {_check.describe(memories)}, expected (K, D) or (runs, K, D)"
        )
    _check.last_dim(name, _check.floating(name, x), memories.shape[-1])
    _check.same_kind(name, x, memories)
    if x.shape[:-2] != memories.shape[:-2] or x.ndim < 2 or 0 in x.shape:
        raise ValueError(
            f"{name}: got shape {tuple(x.shape)}, expected (*runs, B, D) with the runs of memories "
            f"{tuple(memories.shape)}"
        )
    return x, memories


def _crowd(name: str, points: Tensor, memories: Tensor, beta: float) -> Tensor:
    """Check data (N, D) against memories (\\*runs, K, D); return them as each run sees them."""
    _check.matrix(name, _check.floating(name, points))
    _check.floating("memories", memories)
    crowd = points.expand(*memories.shape[:-2], *points.shape)
    return _batch(crowd, memories, beta, name)[0]


def _check_learn(points: Tensor, memories: Tensor, beta, noise, rule):
    _check.finite("points", _check.floating("points", _check.matrix("points", points)))
    _check.finite("memories", _check.floating("memories", memories))
    _check.same_kind("points", points, memories)
    _crowd("points", points, memories, beta)
    try:
        first, last = noise
    except (TypeError, ValueError):
        raise _check.fail("noise", noise, "two numbers, at the first and the last step") from None
    _check.choice("rule", rule, RULES)
    ends = _check.non_negative("noise", first), _check.non_negative("noise", last)
    return points, memories.detach().clone(), ends
