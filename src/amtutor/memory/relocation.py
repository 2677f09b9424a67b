r"""Relocation: a memory moves every point to the bottom of its valley.

A point goes down the energy of K memories (the energy of chapter 3), T steps of size :math:`\eta`:

.. math:: v \leftarrow v + \eta\Bigl(\sum_\mu p_\mu \xi^\mu - v\Bigr), \qquad
          p = \mathrm{softmax}_\mu\bigl(-\tfrac\beta2\|v - \xi^\mu\|^2\bigr), \qquad f(x) = v_T

Where the valleys are the cells of the nearest memory, the way it went is the distance that k-means
sums, and it has a slope: memories learn by minimising :math:`\sum_x \|x - f(x)\|^2` (MM 5.21).

**The way in numbers.** Every v is :math:`a_t x + \sum_\mu c_\mu \xi^\mu` with
:math:`a_t = (1-\eta)^t`, so after one table of :math:`x\cdot\xi` and one of :math:`\xi\cdot\xi` a
step costs n K K multiplications, whatever D is; and so does a step of the way back, which is
written out below (:func:`relocation_gradient`) and equals automatic differentiation.

MM 5.22 has no half before the square: its beta is half of ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment, minimize
from torch import Tensor

from amtutor import _check
from amtutor.memory.dense import middle, nearest

__all__ = [
    "Schedule",
    "basins",
    "kmeans_objective",
    "masked_loss",
    "matched_accuracy",
    "relocate",
    "relocation_gradient",
    "relocation_loss",
    "soft_kmeans",
    "soft_kmeans_objective",
    "voronoi_agreement",
]

_SCALES = (1e-100, 1e100)  # squares and their inverses are doubles
_ROWS = 2**14  # points that walk together


@dataclass(frozen=True)
class Schedule:
    """A number that changes over a training: from ``start`` to ``end``, by equal factors.

    >>> Schedule(1.0, 100.0).at(0.5)
    10.0
    """

    start: float
    end: float

    def __post_init__(self) -> None:
        _check.positive("start", self.start)
        _check.positive("end", self.end)

    @staticmethod
    def of(name: str, value: Any, *, most: float = math.inf, also: str = "") -> Schedule:
        """From a number, or from a pair of numbers, below ``most``; ``also`` goes in the error."""
        pair = value if isinstance(value, (tuple, list)) and len(value) == 2 else (value, value)
        ends = "> 0" if most == math.inf else f"in (0, {most:g})"
        for end in pair:
            try:
                number = _check.number_or_fail(name, end, "")
            except ValueError:
                number = math.nan
            if not 0 < number < most:
                raise _check.fail(name, value, f"{also}a number {ends} or a pair (start, end)")
        return Schedule(float(pair[0]), float(pair[1]))

    def at(self, share: float) -> float:
        """Its value after this share of the way, in [0, 1]."""
        share = _check.between("share", share, 0, 1)
        return self.start * (self.end / self.start) ** share


def spread_of(X: np.ndarray) -> tuple[np.ndarray, float]:
    """Mean of the rows and root mean square of the entries around it (1 if that is zero).

    A kernel, but for scales whose squares are no doubles.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # said in a line below
        centre = X.mean(0, dtype=np.float64)
        at = X - centre
        size = float(np.abs(at).max())
    if size and not _SCALES[0] <= size <= _SCALES[1]:
        raise ValueError(
            f"X: entries lie {size:.1e} from their mean, expected {_SCALES[0]} to {_SCALES[1]}"
            " (scale them first, in a pipeline)"
        )
    return centre, size * math.sqrt(float(((at / size) ** 2).mean())) if size else 1.0


# ------------------------------------------------------------------------- the way of a point


@dataclass(frozen=True)
class _Way:
    """T steps of n points, in coefficients of the K memories; what the way back needs."""

    cross: Tensor  # (n, K), x . xi
    gram: Tensor  # (K, K), xi . xi
    coefficients: list[Tensor]  # T + 1 of (n, K): v_t = a_t x + c_t Xi
    weights: list[Tensor]  # T of (n, K)

    @staticmethod
    def of(x: Tensor, memories: Tensor, beta: float, steps: int, eta: float) -> _Way:
        """Walk, and keep every step."""
        cross, gram = x @ memories.T, memories @ memories.T
        level = -0.5 * beta * gram.diagonal()
        c, share, cs, ps = torch.zeros_like(cross), 1.0, [], []
        for _ in range(steps):
            score = torch.addmm(level, c, gram, alpha=beta)
            if share:
                score.add_(cross, alpha=beta * share)
            p = torch.softmax(score, dim=-1)
            cs.append(c)
            ps.append(p)
            c = p if eta == 1 else torch.lerp(c, p, eta)
            share *= 1 - eta
        return _Way(cross, gram, [*cs, c], ps)

    def back(
        self, slope: Tensor, x: Tensor, memories: Tensor, beta: float, eta: float
    ) -> tuple[Tensor, Tensor]:
        r"""From the slope at the end to the slopes in x and in the memories.

        With h the slope in c_{t+1}: q = eta p (h - sum p h), then the slope in c_t is
        (1 - eta) h + beta q G, and q passes beta a_t to x . xi and beta c_t^T q to G.
        """
        h = slope @ memories.T
        on_cross, on_gram = None, torch.zeros_like(self.gram)
        for t in reversed(range(len(self.weights))):
            p, share = self.weights[t], (1 - eta) ** t
            q = p * (h - (p * h).sum(-1, keepdim=True))
            q *= beta * eta
            if t:  # c_0 is zero
                on_gram.addmm_(self.coefficients[t].T, q)
            on_gram.diagonal().sub_(0.5 * q.sum(0))
            if share:
                on_cross = share * q if on_cross is None else on_cross.add_(q, alpha=share)
            if t:
                h = q @ self.gram if eta == 1 else torch.addmm(h, q, self.gram, beta=1 - eta)
        on_x = (1 - eta) ** len(self.weights) * slope
        on_memories = self.coefficients[-1].T @ slope + (on_gram + on_gram.T) @ memories
        if on_cross is not None:
            on_x = on_x + on_cross @ memories
            on_memories = on_memories + on_cross.T @ x
        return on_x, on_memories


class _Relocate(torch.autograd.Function):
    """The end of the way, with its slopes in closed form."""

    @staticmethod
    def forward(ctx, x, memories, beta, steps, eta):
        way = _Way.of(x, memories, beta, steps, eta)
        ctx.way, ctx.beta, ctx.eta = way, beta, eta
        ctx.save_for_backward(x, memories)
        return (1 - eta) ** steps * x + way.coefficients[-1] @ memories

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, slope):
        on_x, on_memories = ctx.way.back(slope, *ctx.saved_tensors, ctx.beta, ctx.eta)
        return on_x, on_memories, None, None, None


def _walk(x: Tensor, memories: Tensor, beta: float, steps: int, eta: float) -> Tensor:
    """The end of the way, for flat x and no slopes: nothing is kept."""
    cross, gram = x @ memories.T, memories @ memories.T
    level = -0.5 * beta * gram.diagonal()
    c, share = torch.zeros_like(cross), 1.0
    for _ in range(steps):
        score = torch.addmm(level, c, gram, alpha=beta).add_(cross, alpha=beta * share)
        c = torch.lerp(c, torch.softmax(score, dim=-1), eta)
        share *= 1 - eta
    return share * x + c @ memories


def _held_walk(x, memories, beta, steps, eta, free):
    """As the formula says, entry by entry: only ``free`` (0 or 1, like x) moves."""
    level = -0.5 * beta * memories.square().sum(-1)
    v, states, weights = x, [], []
    for _ in range(steps):
        p = torch.softmax(torch.addmm(level, v, memories.T, alpha=beta), dim=-1)
        states.append(v)
        weights.append(p)
        v = v + eta * free * (p @ memories - v)
    return v, states, weights


def _held_back(slope, states, weights, memories, beta, eta, free):
    """The way back of :func:`_held_walk`: slopes in x and in the memories."""
    on_memories, g = torch.zeros_like(memories), slope
    for v, p in zip(reversed(states), reversed(weights), strict=True):
        u = eta * free * g
        h = u @ memories.T
        q = beta * p * (h - (p * h).sum(-1, keepdim=True))
        on_memories += p.T @ u + q.T @ v - q.sum(0)[:, None] * memories
        g = g - u + q @ memories
    return g, on_memories


def relocate(
    x: Tensor, memories: Tensor, *, beta: float, steps: int = 10, step_size: float = 1.0
) -> Tensor:
    r"""Where points end after some steps down the energy of the memories, :math:`f(x)`.

    .. math:: v \leftarrow v + \eta\Bigl(\sum_\mu p_\mu \xi^\mu - v\Bigr), \qquad
              p = \mathrm{softmax}_\mu\bigl(-\tfrac\beta2\|v - \xi^\mu\|^2\bigr)

    Differentiable once, in x and in the memories, by the closed form of the module.

    Args:
        x: (\*batch, D).
        memories: (K, D).
        beta: inverse temperature > 0.
        steps: T >= 1; step_size: eta in (0, 2), 1 is the full step.

    Raises:
        ValueError, TypeError: a wrong shape, dtype or range, NaN.

    Source: the f of MM 5.21, with the energy MM 5.22.

    >>> relocate(torch.tensor([[0.8], [4.0]]), torch.tensor([[0.0], [5.0]]), beta=9.0)
    tensor([[0.],
            [5.]])
    """
    beta, steps, eta = _checked(x, memories, beta, steps, step_size)
    return contract(x.reshape(-1, x.shape[-1]), memories, beta, steps, eta).reshape(x.shape)


def contract(x: Tensor, memories: Tensor, beta: float, steps: int, eta: float) -> Tensor:
    """:func:`relocate` for rows (n, D): a kernel, no checks."""
    centre = middle(memories.detach())
    at, bank = x - centre, memories - centre
    if torch.is_grad_enabled() and (x.requires_grad or memories.requires_grad):
        return _Relocate.apply(at, bank, beta, steps, eta) + centre
    blocks = [_walk(rows, bank, beta, steps, eta) for rows in at.split(_ROWS)]
    return (torch.cat(blocks) if blocks else at) + centre


def relocation_loss(
    x: Tensor, memories: Tensor, *, beta: float, steps: int = 10, step_size: float = 1.0
) -> Tensor:
    r"""How far points move when they are relocated: :math:`\|x - f(x)\|^2`, (\*batch).

    Arguments as :func:`relocate`. Source: MM 5.21; its sum over points is what ClAM minimises.

    >>> relocation_loss(torch.tensor([1.0]), torch.tensor([[0.0], [5.0]]), beta=9.0)
    tensor(1.)
    """
    end = relocate(x, memories, beta=beta, steps=steps, step_size=step_size)
    return (x - end).square().sum(-1)


def relocation_gradient(
    x: Tensor, memories: Tensor, *, beta: float, steps: int = 10, step_size: float = 1.0
) -> tuple[Tensor, Tensor]:
    r"""The sum of :func:`relocation_loss` and its slope in the memories, in closed form.

    With :math:`r = x - f(x)`, weights :math:`p_t`, coefficients :math:`c_t` and
    :math:`G = \Xi\Xi^T`, from :math:`h_T = -2 r \Xi^T` backwards

    .. math:: q_t = \beta\eta\, p_t \odot (h_{t+1} - \langle p_t, h_{t+1}\rangle), \qquad
              h_t = (1-\eta) h_{t+1} + q_t G

    Args:
        x: (n, D). Others as :func:`relocate`.

    Returns:
        The loss, a number, and its gradient, (K, D).
    """
    beta, steps, eta = _checked(x, memories, beta, steps, step_size)
    _check.shape("x", x, ("n", memories.shape[1]))
    centre = middle(memories)
    return loss_and_slope(x - centre, memories - centre, beta, steps, eta)


def loss_and_slope(x: Tensor, memories: Tensor, beta: float, steps: int, eta: float):
    """Do what `relocation_gradient` does, unchecked and about the origin as it is."""
    way = _Way.of(x, memories, beta, steps, eta)
    rest = (1 - (1 - eta) ** steps) * x - way.coefficients[-1] @ memories
    return rest.square().sum(), way.back(-2 * rest, x, memories, beta, eta)[1]


def masked_loss(
    x: Tensor,
    memories: Tensor,
    hidden: Tensor,
    *,
    beta: float,
    steps: int = 10,
    step_size: float = 1.0,
) -> Tensor:
    r"""Hide entries, fill them in with what is known held still, and compare with the truth.

    .. math:: \bigl\|\bar m \odot \bigl(x - f^{m}(m \odot x)\bigr)\bigr\|^2, \qquad
              \bar m = 1 - m \text{ is } \texttt{hidden}

    The walk starts with the mean of the memories in the hidden entries.

    Args:
        x: (\*batch, D).
        hidden: a bool mask that spreads over x, True where an entry is hidden.
        memories, beta, steps, step_size: as :func:`relocate`.

    Returns:
        (\*batch).

    Source: MM 5.23, which as printed compares the entries that were held, and is always zero.

    >>> memories = torch.tensor([[0.0, 0.0], [5.0, 5.0]])
    >>> hidden = torch.tensor([False, True])
    >>> masked_loss(torch.tensor([5.0, 4.0]), memories, hidden, beta=9.0).round(decimals=4)
    tensor(1.)
    """
    beta, steps, eta = _checked(x, memories, beta, steps, step_size)
    hidden = _check.mask("hidden", hidden, x)
    centre = memories.detach().mean(0)
    at = (x - centre).reshape(-1, x.shape[-1])
    free = hidden.to(x.dtype).reshape(at.shape)
    end, _, _ = _held_walk(at * (1 - free), memories - centre, beta, steps, eta, free)
    return (free * (at - end)).square().sum(-1).reshape(x.shape[:-1])


def masked_loss_and_slope(x, memories, beta, steps, eta, free):
    """The sum of masked losses and its slope in the memories; hidden entries start at zero."""
    end, states, weights = _held_walk(x * (1 - free), memories, beta, steps, eta, free)
    rest = free * (x - end)
    return rest.square().sum(), _held_back(-2 * rest, states, weights, memories, beta, eta, free)[1]


def _checked(x, memories, beta, steps, step_size) -> tuple[float, int, float]:
    _check.floating("memories", _check.matrix("memories", memories))
    _check.last_dim("x", _check.floating("x", x), memories.shape[1])
    _check.finite("x", _check.same_kind("x", x, memories))
    _check.finite("memories", memories)
    eta = _check.between("step_size", step_size, 0, 2, ends="()")
    return float(_check.positive("beta", beta)), _check.count("steps", steps), eta


# ------------------------------------------------------------------------- cells and basins


def basins(
    x: Tensor, memories: Tensor, *, beta: float, steps: int = 10, step_size: float = 1.0
) -> Tensor:
    r"""Into whose valley each point goes: the memory nearest to :math:`f(x)`, (\*batch).

    Arguments as :func:`relocate`. Where memories share a valley, one of them answers for all.
    Source: MM Fig 5.4.

    >>> basins(torch.tensor([[0.8], [4.0]]), torch.tensor([[0.0], [5.0]]), beta=9.0)
    tensor([0, 1])
    """
    with torch.no_grad():
        end = relocate(x, memories, beta=beta, steps=steps, step_size=step_size)
        return nearest(end, memories)


def voronoi_agreement(
    x: Tensor, memories: Tensor, *, beta: float, steps: int = 10, step_size: float = 1.0
) -> float:
    """The share of points that end at the memory they were nearest to: basins against cells.

    Arguments as :func:`relocate`. Source: MM Fig 5.4, as a number.

    >>> voronoi_agreement(torch.tensor([[0.8], [4.0]]), torch.tensor([[0.0], [5.0]]), beta=9.0)
    1.0
    """
    into = basins(x, memories, beta=beta, steps=steps, step_size=step_size)
    if not into.numel():
        raise ValueError(f"x: got a {_check.describe(x)}, expected at least one point")
    return float((into == nearest(x, memories)).double().mean())


# ------------------------------------------------------------------------- what others minimise


def kmeans_objective(x: Tensor, centres: Tensor) -> Tensor:
    r"""Sum of squared distances to the nearest centre, :math:`\sum_i\min_j\|x^i-c^j\|^2`.

    Args:
        x: (n, D); centres: (K, D).

    Source: MM 5.19.

    >>> kmeans_objective(torch.tensor([[1.0], [4.0]]), torch.tensor([[0.0], [5.0]]))
    tensor(2.)
    """
    return _apart(x, centres).amin(-1).sum()


def soft_kmeans_objective(x: Tensor, centres: Tensor, *, gamma: float) -> Tensor:
    r"""The k-means objective with soft assignments, never below it.

    .. math:: \sum_i \sum_j p_{ij} \|x^i - c^j\|^2, \qquad
              p_{ij} = \mathrm{softmax}_j(-\gamma\|x^i - c^j\|^2)

    A mean of distances is at least the smallest of them.

    Args:
        x: (n, D); centres: (K, D); gamma: > 0.

    Source: MM 5.20.

    >>> soft_kmeans_objective(torch.tensor([[1.0]]), torch.tensor([[0.0], [3.0]]), gamma=0.01)
    tensor(2.4775)
    """
    gamma = _check.positive("gamma", gamma)
    apart = _apart(x, centres)
    return (torch.softmax(-gamma * apart, -1) * apart).sum()


def soft_kmeans(x: Tensor, start: Tensor, *, gamma: float, steps: int = 200) -> Tensor:
    """Centres that minimise :func:`soft_kmeans_objective`, by L-BFGS from a start, (K, D).

    Args:
        x: (n, D); start: (K, D); gamma: > 0; steps: at most so many.

    >>> points, start = torch.tensor([[0.0], [4.0]]), torch.tensor([[1.0], [3.0]])
    >>> soft_kmeans(points, start, gamma=5.0).round(decimals=4).abs()
    tensor([[0.],
            [4.]])
    """
    gamma, steps = float(_check.positive("gamma", gamma)), _check.count("steps", steps)
    _apart(x, start, "start")  # says what is wrong with them
    at, shape = middle(start).double(), start.shape
    points = x.detach().double() - at

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        c = torch.from_numpy(flat).reshape(shape)
        apart = square_distances(points, c)
        p = torch.softmax(-gamma * apart, -1)
        mean = (p * apart).sum(-1, keepdim=True)
        q = 2 * p * (1 - gamma * (apart - mean))
        slope = q.sum(0)[:, None] * c - q.T @ points
        return float(mean.sum()), slope.numpy().ravel()

    first = (start.detach().double() - at).numpy().ravel()
    end = minimize(objective, first, jac=True, method="L-BFGS-B", options={"maxiter": steps})
    return (torch.from_numpy(end.x).reshape(shape) + at).to(start.dtype)


def _apart(x: Tensor, centres: Tensor, name: str = "centres") -> Tensor:
    """Squared distances (n, K) of checked points and centres."""
    _check.floating(name, _check.matrix(name, centres))
    _check.shape("x", _check.floating("x", x), ("n", centres.shape[1]))
    _check.finite("x", _check.same_kind("x", x, centres))
    _check.finite(name, centres)
    return square_distances(x, centres)


def square_distances(x: Tensor, centres: Tensor) -> Tensor:
    """Return ``||x_i - c_k||^2``, (n, K), measured from the centres' middle; nothing is checked."""
    at = middle(centres.detach())
    x, centres = x - at, centres - at
    apart = torch.addmm(centres.square().sum(-1), x, centres.T, alpha=-2)
    return (apart + x.square().sum(-1, keepdim=True)).clamp_min(0)


def matched_accuracy(true, found) -> float:
    """The share of points that are right under the best naming of clusters by classes.

    Args:
        true: (n,) classes; found: (n,) clusters, whole numbers in arrays or tensors.

    Returns:
        Accuracy in [0, 1]; the naming is one to one and is found by the Hungarian method.

    >>> matched_accuracy([0, 0, 1, 1], [1, 1, 0, 1])
    0.75
    """
    true, found = (_names(n, v) for n, v in (("true", true), ("found", found)))
    if len(true) != len(found):
        raise ValueError(f"found: got {len(found)} labels, expected {len(true)}, one per point")
    table = np.zeros((true.max() + 1, found.max() + 1), dtype=np.int64)
    np.add.at(table, (true, found), 1)
    return float(table[linear_sum_assignment(-table)].sum() / len(true))


def _names(name: str, labels) -> np.ndarray:
    """Labels as 0, 1, ... in the order of their names."""
    labels = _check.array(name, labels, "a list of whole numbers")
    if labels.ndim != 1 or not len(labels) or labels.is_floating_point():
        raise ValueError(f"{name}: got a {_check.describe(labels)}, expected whole numbers (n,)")
    return np.unique(labels.cpu().numpy(), return_inverse=True)[1]
