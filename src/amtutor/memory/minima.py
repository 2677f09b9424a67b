r"""Counting low places: where an energy has minima, and whose way down ends in which.

A minimum is a point where the gradient vanishes and every eigenvalue of the Hessian is above zero.
How sure a count of them is depends on how it was made, and every function here says so:

* **Certain** (:func:`lse_minima` in up to three dimensions, :func:`minima_1d` with bounds on the
  second and third derivative, :func:`lsr_minima_1d`): space is cut into cells, and each cell is
  shown to hold no minimum, or exactly one. What cannot be settled makes ``certain`` False.
* **Found** (:func:`find_minima`): whatever the starts lead to. Each point returned *is* a minimum,
  but in two or more dimensions the list can miss others, and no number of starts proves it whole.

All of it wants float64: a minimum is decided by the sign of small numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from amtutor import _check
from amtutor.descent import descend, distinct
from amtutor.memory.dense import centred, lse_energy, lse_gradient, lse_weights, scores

__all__ = [
    "Minima",
    "find_minima",
    "lse_hessian",
    "lse_minima",
    "lsr_minima_1d",
    "minima_1d",
    "minimum_reached",
]

Energy = Callable[[Tensor], Tensor]
Bound = float | Callable[[Tensor, float], Tensor]

_BLOCK = 2**22  # numbers held at a time
_SLACK = 256  # roundings that a gradient is trusted to lose
_REACH = 2.0  # a cell is called convex if a ball this many times its own is


@dataclass(frozen=True)
class Minima:
    """Minima of an energy, the lowest first.

    ``positions`` (M, D), ``energies`` (M,), ``curvature`` (M,), the smallest eigenvalue of the
    Hessian, above zero; ``label`` (N,) int64, which minimum each start ends in, -1 where it ends in
    none; ``certain``, whether the list is proved to hold every minimum of the region looked at.

    >>> found = lse_minima(torch.tensor([[0.0], [0.1], [3.0]]), beta=4.0)
    >>> len(found), found.positions[:, 0].float(), found.certain  # the pair lies lower
    (2, tensor([0.0500, 3.0000]), True)
    """

    positions: Tensor
    energies: Tensor
    curvature: Tensor
    label: Tensor
    certain: bool

    def __len__(self) -> int:
        """Count the minima."""
        return len(self.positions)


# ---------------------------------------------------------------------------- any energy, any D


def lse_hessian(x: Tensor, memories: Tensor, *, beta: float) -> Tensor:
    r"""Hessian of :func:`~amtutor.memory.dense.lse_energy`, (\*batch, D, D).

    .. math:: \nabla^2 E = 1 - \beta\,\mathrm{Cov}_p(\xi), \qquad p = \mathrm{softmax}_\mu
              \bigl(-\tfrac\beta2\|x-\xi^\mu\|^2\bigr)

    The more the memories that pull at x disagree, the more the ground bends down. Holds
    (\*batch, K) and (\*batch, D, D) numbers. Arguments and errors as ``lse_energy``.

    >>> lse_hessian(torch.zeros(1), torch.tensor([[-1.0], [1.0]]), beta=2.0)
    tensor([[-1.]])
    """
    weights = lse_weights(x, memories, beta=beta)
    rows = weights.reshape(-1, len(memories))
    spread = _covariance(rows, _middle(memories))
    eye = torch.eye(memories.shape[1], dtype=x.dtype, device=x.device)
    return (eye - beta * spread).reshape(*x.shape, memories.shape[1])


def _middle(memories: Tensor) -> Tensor:
    return memories - memories.mean(0)


def _covariance(weights: Tensor, memories: Tensor) -> Tensor:
    """Covariance of the memories under each row of weights, (n, D, D)."""
    mean = weights @ memories
    if memories.shape[1] <= 3:  # products of pairs are few: one matrix product
        pairs = (memories[:, :, None] * memories[:, None, :]).flatten(1)
        second = (weights @ pairs).reshape(len(weights), *[memories.shape[1]] * 2)
        return second - mean[:, :, None] * mean[:, None, :]
    return torch.stack([(m.T * w) @ m for w, m in _away(weights, mean, memories)])


def _away(weights, mean, memories):
    return ((w, memories - c) for w, c in zip(weights, mean, strict=True))


def find_minima(
    energy: Energy,
    starts: Tensor,
    *,
    gradient: Energy | None = None,
    hessian: Energy | None = None,
    steps: int = 1000,
    step_size: float = 0.5,
    merge: float = 1e-5,
) -> Minima:
    r"""Descend from many starts, polish by Newton, keep what is a minimum, count each once.

    Gradient descent, until a slope of 1e-4; then steps :math:`-|H|^{-1}\nabla E` (eigenvalues of
    the Hessian by size, so that no step climbs to a saddle), halved until the energy does not rise;
    then all eigenvalues must be above :math:`10^3` roundings of the largest.

    **Guaranteed**: every position is a minimum, to rounding, and no two are nearer than ``merge``.
    **Not guaranteed**: that these are all (``certain`` is False); that a start's label is the basin
    of the gradient *flow* (step size and polishing have a say). A start that ends on a saddle, on a
    flat ring or nowhere has label -1.

    Args:
        energy: maps (n, D) to (n,).
        starts: (N, D), best float64.
        gradient: maps (n, D) to (n, D); hessian: to (n, D, D). None differentiates ``energy``.
        steps, step_size: of the descent.
        merge: distance within which two ends are one minimum.

    Raises:
        ValueError, TypeError: an argument has the wrong range, type or shape.
        FloatingPointError: the descent meets a gradient that is not finite.

    >>> two_wells = lambda x: ((x**2 - 1) ** 2).sum(-1)
    >>> found = find_minima(two_wells, torch.tensor([[-2.0], [0.0], [0.5], [3.0]]), step_size=0.02)
    >>> found.positions.flatten().sort().values.round(decimals=4), found.label.tolist()[1]
    (tensor([-1.,  1.]), -1)
    """
    _check.matrix("starts", _check.finite("starts", _check.floating("starts", starts)))
    _check.positive("merge", merge)
    _check_callable("hessian", hessian)
    down = descend(
        energy, starts, steps=steps, step_size=step_size, gradient=gradient, tol=1e-4
    ).state
    ground = _Ground(energy, gradient, hessian)
    bend = ground.slopes(down)[1]
    if bend.shape != (*starts.shape, starts.shape[1]):
        raise ValueError(
            f"hessian: returned a {_check.describe(bend)} for starts of shape "
            f"{tuple(starts.shape)}, expected (N, D, D)"
        )
    ends, least, good = _polish(ground, down)
    return _collect(ground, ends, least, good, merge, certain=False)


def minimum_reached(
    energy: Energy,
    starts: Tensor,
    minima: Minima,
    *,
    gradient: Energy | None = None,
    steps: int = 1000,
    step_size: float = 0.5,
    reach: float = 1e-2,
) -> Tensor:
    r"""Say in which of the minima each start's descent ends, (N,) int64, or -1.

    Plain gradient descent, nothing else: the label is the basin of this step size, which near its
    border may differ from that of the gradient flow. -1 where the end is not within ``reach`` of
    any minimum on the list: too few steps, or a minimum that the list misses.

    >>> bowls = lambda x: lse_energy(x, torch.tensor([[-1.0], [1.0]]), beta=9.0)
    >>> found = find_minima(bowls, torch.tensor([[-1.0], [1.0]]))
    >>> ends = minimum_reached(bowls, torch.tensor([[-0.2], [0.3], [7.0]]), found)
    >>> found.positions[ends].flatten().sign()
    tensor([-1.,  1.,  1.])
    """
    _check.matrix("starts", _check.finite("starts", _check.floating("starts", starts)))
    if not isinstance(minima, Minima):
        raise TypeError(f"minima: got a {_check.describe(minima)}, expected Minima")
    _check.last_dim("starts", starts, minima.positions.shape[1])
    _check.positive("reach", reach)
    down = descend(energy, starts, steps=steps, step_size=step_size, gradient=gradient, tol=1e-6)
    return _nearest_of(down.state, minima.positions, reach)


def _nearest_of(ends: Tensor, positions: Tensor, reach: float) -> Tensor:
    if len(positions) == 0:
        return torch.full((len(ends),), -1, device=ends.device)
    far, label = torch.cdist(ends, positions).min(1)
    return label.masked_fill(far > reach, -1)


def _check_callable(name: str, f: Any) -> None:
    if f is not None and not callable(f):
        raise TypeError(f"{name}: got a {_check.describe(f)}, expected a function of states")


class _Ground:
    """An energy with its gradient and Hessian, by hand or by automatic differentiation."""

    def __init__(self, energy: Energy, gradient: Energy | None, hessian: Energy | None) -> None:
        self.energy, self.gradient, self.hessian = energy, gradient, hessian

    def slopes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient (n, D) and Hessian (n, D, D)."""
        if self.gradient is not None and self.hessian is not None:
            return self.gradient(x), self.hessian(x)
        with torch.enable_grad():
            x = x.detach().clone().requires_grad_()
            slope = self.gradient(x) if self.gradient is not None else self._differentiate(x)
            if self.hessian is not None:
                return slope.detach(), self.hessian(x.detach())
            rows = [
                torch.autograd.grad(slope[:, i].sum(), x, retain_graph=True, allow_unused=True)[0]
                for i in range(x.shape[1])
                if slope.requires_grad
            ]
        bends = [torch.zeros_like(x) if r is None else r for r in rows] or [torch.zeros_like(x)]
        bend = torch.stack(bends, 1).expand(-1, x.shape[1], -1).detach()
        return slope.detach(), 0.5 * (bend + bend.mT)

    def _differentiate(self, x: Tensor) -> Tensor:
        (slope,) = torch.autograd.grad(self.energy(x).sum(), x, create_graph=True)
        return slope


def _polish(ground: _Ground, x: Tensor, *, rounds: int = 60) -> tuple[Tensor, Tensor, Tensor]:
    """Newton with eigenvalues by size: ends (n, D), smallest eigenvalue (n,), whether a minimum."""
    eps = torch.finfo(x.dtype).eps
    for _ in range(rounds):
        slope, bend = ground.slopes(x)
        values, axes = torch.linalg.eigh(bend)
        size = values.abs().clamp(min=1e-8 * float(values.abs().amax().clamp(min=1e-30)))
        step = -(axes @ ((axes.mT @ slope[..., None]) / size[..., None]))[..., 0]
        if bool((step.norm(dim=1) <= 8 * eps * (1 + x.norm(dim=1))).all()):
            break
        x = _no_higher(ground.energy, x, step)
    slope, bend = ground.slopes(x)
    values = torch.linalg.eigvalsh(bend)
    least, most = values[:, 0], values.abs().amax(1).clamp(min=1e-30)
    # Newton's last step is the error of the end: it must be small, and the ground must curve up
    flat = slope.norm(dim=1) <= 1e3 * eps**0.75 * most * (1 + x.norm(dim=1))
    return x, least, flat & (least > 1e3 * eps * most)


def _no_higher(energy: Energy, x: Tensor, step: Tensor) -> Tensor:
    """Take each row's step, halved up to 20 times while it raises the energy beyond rounding."""
    with torch.no_grad():
        before = energy(x)
        allowed = before + 8 * torch.finfo(x.dtype).eps * (1 + before.abs())
        for _ in range(20):
            up = ~(energy(x + step) <= allowed)
            if not up.any():
                break
            step = torch.where(up[:, None], 0.5 * step, step)
        return torch.where((energy(x + step) <= allowed)[:, None], x + step, x)


def _collect(ground, ends: Tensor, least: Tensor, good: Tensor, merge: float, *, certain: bool):
    """Merge ends, sort them by energy, and give every start its label."""
    label = torch.full((len(ends),), -1, device=ends.device)
    if not good.any():
        empty = ends.new_empty(0)
        return Minima(ends[:0], empty, empty, label, certain)
    positions, which = distinct(ends[good], tol=merge)
    first = torch.stack([(which == i).int().argmax() for i in range(len(positions))])
    with torch.no_grad():
        energies = ground.energy(positions)
    order = energies.argsort()
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    label[good] = rank[which]
    return Minima(positions[order], energies[order], least[good][first][order], label, certain)


# ---------------------------------------------------------------------------- certain: LSE


def lse_minima(
    memories: Tensor, *, beta: float, resolution: float = 1e-6, most: int = 200_000
) -> Minima:
    r"""Find every minimum of the LSE energy in up to three dimensions, with proof.

    All of them lie among the memories (x = m(x) is a weighted mean), so the cube around the
    memories is cut into smaller and smaller cells, and a cell of centre c in a ball of radius r is
    settled by one look at c. With :math:`d_\mu = \xi^\mu - m(c)` and p the softmax weights at c,

    .. math:: p_\mu(x) \le p_\mu\,e^{\beta r\|d_\mu\|} \text{ in the ball, so there}\quad
              \|\mathrm{Cov}\| \le V = \sum_\mu p_\mu e^{\beta r\|d_\mu\|}\|d_\mu\|^2 ,

    (the normaliser can only grow: Jensen), and in the same way a third moment M. A cell holds no
    minimum if :math:`\|\nabla E(c)\| > r\max(1, \beta V-1)`, if along an axis of the Hessian at c,
    of eigenvalue h, the slope is above :math:`r|h| + \frac12\beta^2r^2M`, or if some h is below
    :math:`-\beta^2 r M`; it holds at most one if :math:`\beta V < 1` or if every h is above
    :math:`\beta^2 r M`, and Newton's way says which.

    ``label`` (K,) says in which minimum each *memory* ends, by descent.

    **Guaranteed** if ``certain``: these are all the minima, up to the rounding of float64. Cells
    smaller than ``resolution`` (of the cube), or more than ``most`` at once, are left unsettled:
    ``certain`` is then False, as near a bifurcation or on a ring that is flat to rounding, and what
    a polish from those cells finds is on the list all the same.

    Args:
        memories: (K, D), D <= 3; worked on in float64.
        beta: inverse temperature > 0, of :math:`\frac12\|x-\xi\|^2`.
        resolution: smallest cell, as a part of the cube, in (0, 1).
        most: most cells held at a time.

    Three memories on a triangle, and a fourth minimum in the middle (MM Fig 5.8 says never more
    minima than memories, which holds in one dimension):

    >>> turn = torch.arange(3) * 2 * torch.pi / 3
    >>> found = lse_minima(torch.stack([turn.cos(), turn.sin()], -1), beta=1.9)
    >>> len(found), found.certain
    (4, True)
    """
    _check.finite("memories", _check.floating("memories", _check.matrix("memories", memories)))
    if memories.shape[1] > 3:
        raise ValueError(
            f"memories: got {memories.shape[1]} dimensions, expected at most 3 (find_minima has no "
            "limit, and no proof)"
        )
    number = float(_check.positive("beta", beta))
    _check.between("resolution", resolution, 0, 1, ends="()")
    _check.count("most", most)
    centre = memories.double().mean(0)
    bank = memories.double() - centre
    ground = _Ground(
        lambda x: lse_energy(x, bank, beta=number),
        lambda x: lse_gradient(x, bank, beta=number),
        lambda x: lse_hessian(x, bank, beta=number),
    )
    with torch.no_grad():
        ends, open_cells = _settle(bank, number, ground, resolution, most)
        found = _certain(ground, bank, ends, certain=len(open_cells) == 0)
    return replace(found, positions=found.positions + centre)


def _certain(ground: _Ground, bank: Tensor, ends: Tensor, *, certain: bool) -> Minima:
    """Polish ends, count them, and let every memory go down to one of them."""
    scale = float(bank.norm(dim=1).max().clamp(min=1e-30))
    found = _collect(ground, *_polish(ground, ends), 1e-7 * scale, certain=certain)
    down = descend(
        ground.energy, bank, steps=1000, step_size=1.0, gradient=ground.gradient, tol=1e-5 * scale
    )
    ends, _, good = _polish(ground, down.state)
    label = _nearest_of(ends, found.positions, 1e-6 * scale).masked_fill(~good, -1)
    return replace(found, label=label)


def _settle(bank: Tensor, beta: float, ground: _Ground, resolution: float, most: int):
    """Cut the cube until every cell is settled: points to polish, and the cells left open."""
    dim = bank.shape[1]
    low, high = bank.amin(0), bank.amax(0)
    half = float(0.5 * (high - low).max()) * (1 + 1e-9)
    if half == 0:
        return bank[:1], bank[:0]
    cells, ends = (0.5 * (low + high))[None], [bank[:0]]
    corners = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5], dtype=bank.dtype)] * dim)
    smallest = resolution * half
    while len(cells):
        radius = half * math.sqrt(dim)
        one, unsure = _look_at(cells, radius, bank, beta)
        reached, settled = _one_each(cells[one], radius, ground)
        ends.append(reached[settled])
        left = torch.cat([cells[one][~settled], cells[unsure]])
        if half < smallest or len(left) * 2**dim > most:
            ends.append(left[:: max(1, len(left) // 2000)])
            return torch.cat(ends), left
        cells = (left[:, None] + half * corners.reshape(-1, dim)).reshape(-1, dim)
        half *= 0.5
    return torch.cat(ends), cells


def _look_at(cells: Tensor, radius: float, bank: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Which cells hold at most one minimum, and which may hold any number; the rest hold none."""
    size = max(1, _BLOCK // (len(bank) * bank.shape[1]))
    parts = [_look_at_some(c, radius, bank, beta) for c in cells.split(size)]
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])


def _look_at_some(cells: Tensor, radius: float, bank: Tensor, beta: float):
    log_p = scores(*centred(cells, bank), beta).log_softmax(-1)
    p = log_p.exp()
    mean = p @ bank
    away = torch.cdist(mean, bank)
    turn, axes = torch.linalg.eigh(_covariance(p, bank))
    along = ((cells - mean)[:, None] @ axes)[:, 0].abs()  # slope along each axis of the Hessian
    turn = 1 - beta * turn
    bend, twist = _bounds(log_p, away, radius, beta)
    rounding = _SLACK * torch.finfo(bank.dtype).eps * (1 + beta) * float(bank.abs().max())
    moves = turn.abs() * radius + 0.5 * (beta * radius) ** 2 * twist[:, None]
    steep = (along > moves + rounding).any(1)
    empty = steep | (along.norm(dim=1) > radius * (beta * bend - 1).clamp(min=1) + rounding)
    least = turn[:, -1]
    none = empty | (least + beta**2 * radius * twist < -rounding)
    wide = _REACH * radius
    bend, twist = _bounds(log_p, away, wide, beta)
    bowl = torch.maximum(1 - beta * bend, least - beta**2 * wide * twist) > rounding
    return ~none & bowl, ~none & ~bowl


def _bounds(log_p: Tensor, away: Tensor, radius: float, beta: float) -> tuple[Tensor, Tensor]:
    """V bounds the covariance in the ball, M the third moment about the mean there; may be inf."""
    tilted = (log_p + beta * radius * away).exp()
    bend = (tilted * away.square()).sum(-1)
    third = (tilted * away.pow(3)).sum(-1).pow(1 / 3)
    # the mean itself moves by at most beta * radius * V inside the ball
    return bend, (third + beta * radius * bend).pow(3)


def _one_each(cells: Tensor, radius: float, ground: _Ground) -> tuple[Tensor, Tensor]:
    """Newton from cells amid convex ground: the ends, and which lie in that ground.

    A cell whose way ends there is settled: its ground has that one minimum and no other.
    """
    x = cells
    if len(cells) == 0:
        return x, torch.zeros(0, dtype=torch.bool)
    for _ in range(12):
        slope, bend = ground.slopes(x)
        step = torch.linalg.solve_ex(bend, slope[..., None])[0][..., 0]
        x = torch.where(step.isfinite().all(-1, keepdim=True), x - step, x)
        x = cells + (x - cells).clamp(-1e3 * radius, 1e3 * radius)
    slope, bend = ground.slopes(x)
    scale = 1 + x.norm(dim=1)
    step = torch.linalg.solve_ex(bend, slope[..., None])[0][..., 0].norm(dim=1)
    return x, ((x - cells).norm(dim=1) < _REACH * radius) & (step <= 1e-9 * scale)


# ---------------------------------------------------------------------------- certain: 1-D


def lsr_minima_1d(memories: Tensor, *, beta: float) -> Minima:
    r"""Every minimum of the LSR energy in one dimension, exactly.

    Between two neighbouring ends :math:`\xi^\mu\pm\sqrt{2/\beta}` of supports the same memories are
    in reach, and the sum of ReLUs is a parabola, open below, about their mean: a minimum of the
    energy wherever that mean lies strictly between the two ends. At an end the slope of the sum
    jumps up, so no minimum sits there.

    Args:
        memories: (K, 1), worked on in float64.
        beta: inverse temperature > 0.

    Returns:
        ``label`` (K,) is the minimum whose stretch holds the memory, -1 if its stretch has none.
        ``certain`` is False if a mean is within rounding of an end.

    >>> found = lsr_minima_1d(torch.tensor([[0.0], [1.0]]), beta=2.2)
    >>> found.positions.flatten().sort().values
    tensor([0.0000, 0.5000, 1.0000], dtype=torch.float64)
    """
    _check.finite("memories", _check.floating("memories", _check.matrix("memories", memories)))
    _check.last_dim("memories", memories, 1)
    number = float(_check.positive("beta", beta))
    points = memories.double().flatten().sort().values
    reach = math.sqrt(2 / number)
    ends = torch.cat([points - reach, points + reach]).unique()
    low, high = ends[:-1], ends[1:]
    middle = 0.5 * (low + high)
    first = torch.searchsorted(points, middle - reach, right=True)
    last = torch.searchsorted(points, middle + reach)
    count = last - first
    sums = torch.cat([points.new_zeros(1), (points - points[0]).cumsum(0)])
    squares = torch.cat([points.new_zeros(1), (points - points[0]).square().cumsum(0)])
    n = count.clamp(min=1)
    mean = (sums[last] - sums[first]) / n
    spread = (squares[last] - squares[first]) / n - mean.square()
    mean = mean + points[0]
    inside = (count > 0) & (mean > low) & (mean < high)
    rounding = _SLACK * torch.finfo(points.dtype).eps * float(points.abs().max() + reach)
    close = (count > 0) & (torch.minimum((mean - low).abs(), (mean - high).abs()) < rounding)
    total = n * (1 - 0.5 * number * spread)
    stretch = torch.searchsorted(ends, memories.double().flatten(), right=True) - 1
    return _from_stretches(inside, mean, total, n, number, stretch, certain=not bool(close.any()))


def _from_stretches(inside, mean, total, n, beta, stretch, *, certain: bool) -> Minima:
    positions, total, count = mean[inside], total[inside], n[inside]
    energies = -total.log() / beta
    order = energies.argsort()
    rank = torch.full_like(inside, -1, dtype=torch.int64)
    rank[inside.nonzero().flatten()[order]] = torch.arange(len(order))
    label = rank[stretch.clamp(0, len(inside) - 1)]
    curvature = count / total  # of -log(sum)/beta at the top of a parabola -n beta x^2/2
    return Minima(positions[order, None], energies[order], curvature[order], label, certain)


def minima_1d(
    energy: Energy,
    low: float,
    high: float,
    *,
    curvature: Bound,
    jerk: Bound | None = None,
    resolution: float = 1e-9,
    most: int = 200_000,
) -> Minima:
    r"""Find every minimum of a smooth energy on an interval, with proof from bounds.

    With :math:`|E''| \le C` a piece of centre c and half-width h holds no stationary point if
    :math:`|E'(c)| > Ch`. With :math:`|E'''| \le J` it holds at most one if :math:`|E''(c)| > Jh`,
    and the signs of E' at its two ends say whether. Other pieces are halved.

    **Guaranteed** if ``certain``: these are all the minima inside (low, high), up to rounding, as
    far as the bounds are true. Pieces shorter than ``resolution`` (of the interval), or more than
    ``most`` at once, stay unsettled: each run of them counts as one minimum if E' goes from below
    to above zero across it, and ``certain`` is False. An end of the interval is never a minimum.

    Args:
        energy: maps (n, 1) to (n,), float64, twice differentiable by automatic differentiation.
        low, high: the interval, low < high.
        curvature: bound on :math:`|E''|`: a number, or a function of (c (n,), h) that gives one for
            each piece.
        jerk: bound on :math:`|E'''|`, the same; None never proves that a minimum is alone.
        resolution: shortest piece, as a part of the interval, in (0, 1).
        most: most pieces held at a time.

    >>> two_wells = lambda x: ((x**2 - 1) ** 2).sum(-1)
    >>> found = minima_1d(two_wells, -2.0, 2.0, curvature=44.0, jerk=48.0)
    >>> found.positions.flatten().sort().values, found.certain
    (tensor([-1.,  1.], dtype=torch.float64), True)
    """
    if not callable(energy):
        raise TypeError(f"energy: got a {_check.describe(energy)}, expected a function of states")
    low = _check.real("low", low)
    high = _check.real("high", high)
    if not low < high:
        raise ValueError(f"high = {high}: expected more than low = {low}")
    bends = _bound("curvature", curvature)
    twists = (lambda c, h: torch.full_like(c, torch.inf)) if jerk is None else _bound("jerk", jerk)
    _check.between("resolution", resolution, 0, 1, ends="()")
    _check.count("most", most)
    line = _Line(energy, low, high, min(50, math.ceil(-math.log2(resolution))))
    lone, rest, size = line.pieces(bends, twists, most)
    return line.minima(lone, rest, size)


def _bound(name: str, bound: Any) -> Callable[[Tensor, float], Tensor]:
    if callable(bound):
        return bound
    number = _check.non_negative(name, bound)
    return lambda c, h: torch.full_like(c, number)


class _Line:
    """An interval cut into 2**depth pieces at most; ends are known by whole numbers."""

    def __init__(self, energy: Energy, low: float, high: float, depth: int) -> None:
        self.ground = _Ground(energy, None, None)
        self.low, self.length, self.depth = low, high - low, depth

    def place(self, ticks: Tensor) -> Tensor:
        return self.low + self.length * (ticks.double() / 2**self.depth)

    def slopes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        parts = [self.ground.slopes(part[:, None]) for part in x.split(2**14)]
        slope = torch.cat([p[0] for p in parts])[:, 0]
        if not slope.isfinite().all():
            raise ValueError("energy: its slope is not finite in [low, high], expected it to be")
        return slope, torch.cat([p[1] for p in parts])[:, 0, 0]

    def pieces(self, bends, twists, most: int) -> tuple[Tensor, Tensor, int]:
        """Pieces (start, end) with at most one stationary point, and starts of unsettled ones."""
        left, lone = torch.zeros(1, dtype=torch.int64), []
        for level in range(self.depth + 1):
            size = 2 ** (self.depth - level)
            centre, half = (
                self.place(left.double() + 0.5 * size),
                0.5 * self.length * size / 2**self.depth,
            )
            slope, bend = self.slopes(centre)
            rounding = _SLACK * torch.finfo(slope.dtype).eps * (slope.abs() + bend.abs() * half)
            bounded = bends(centre, half)
            busy = ~(slope.abs() > bounded * half + rounding)
            alone = busy & (bend.abs() > twists(centre, half) * half)
            lone.append(torch.stack([left[alone], left[alone] + size], -1))
            left = left[busy & ~alone]
            if len(left) == 0 or level == self.depth or 2 * len(left) > most:
                break
            left = torch.stack([left, left + size // 2], -1).flatten()
        return torch.cat(lone), left, size

    def minima(self, lone: Tensor, rest: Tensor, size: int) -> Minima:
        """Look at the signs of the slope at the ends of every piece, each end once."""
        pieces = torch.cat([lone, self._runs(rest, size)])
        ticks, where = pieces.unique(return_inverse=True)
        up = (
            self.slopes(self.place(ticks))[0] >= 0
            if len(ticks)
            else torch.zeros(0, dtype=torch.bool)
        )
        rising = (
            ~up[where[:, 0]] & up[where[:, 1]] if len(pieces) else torch.zeros(0, dtype=torch.bool)
        )
        low, high = self.place(pieces[rising, 0]), self.place(pieces[rising, 1])
        for _ in range(60):
            if len(low) == 0:
                break
            middle = 0.5 * (low + high)
            above = self.slopes(middle)[0] >= 0
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        x = (0.5 * (low + high))[:, None]
        energies = self.ground.energy(x).detach() if len(x) else x[:, 0]
        order = energies.argsort()
        bend = self.slopes(x[:, 0])[1] if len(x) else x[:, 0]
        label = torch.empty(0, dtype=torch.int64)
        return Minima(x[order], energies[order], bend[order], label, len(rest) == 0)

    @staticmethod
    def _runs(rest: Tensor, size: int) -> Tensor:
        """Join unsettled neighbours: (start, end) of each run."""
        if len(rest) == 0:
            return torch.empty(0, 2, dtype=torch.int64)
        rest = rest.sort().values
        new = torch.cat([torch.tensor([True]), rest[1:] != rest[:-1] + size])
        last = torch.cat([new[1:], torch.tensor([True])])
        return torch.stack([rest[new], rest[last] + size], -1)
