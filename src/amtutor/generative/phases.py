r"""Memorised, spurious or generalised: names for what a generator gave, and two ways to tell.

**By distance** (:func:`classify`), the definition in circulation, made for pictures: a sample
within ``memorised_within`` of a training point is memorised; else, if at least ``crowd`` other
samples lie within ``repeated_within`` of it, spurious (the model repeats something that it never
saw); else generalised. Both lengths are the caller's. On a curve, where everything has neighbours,
it tells more about the lengths than about the model: with enough samples nothing is generalised,
and with enough data everything is memorised.

**By wells** (:func:`classify_on_ring`), the words of MM 4 made exact for data on a closed curve:
training points are isolated minima of the energy; or there are low places that are not in the data;
or the low places form a line. Walk along the valley at the height :math:`h=-\log p`, where noise
easily climbs a difference of 1. Wells with a lower wall than ``barrier`` are joined to their
neighbour. A sample in a well with exactly one *distinct* training point is memorised; else, in one
whose floor is no longer than that of ``bells`` noisy points side by side, spurious; else
generalised: its well is no place, it is a stretch of the curve.

Copies in the data count once in both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from amtutor import _check, _weights
from amtutor.descent import distinct
from amtutor.memory.capacity import wilson_interval

__all__ = [
    "GENERALISED",
    "MEMORISED",
    "NAMES",
    "SPURIOUS",
    "Phases",
    "Wells",
    "classify",
    "classify_on_ring",
    "fractions",
    "heights_along",
    "join_wells",
    "pooled",
    "ring_wells",
    "table",
    "valley_around",
]

MEMORISED, SPURIOUS, GENERALISED = 0, 1, 2
NAMES = ("memorised", "spurious", "generalised")
_BLOCK = 2**24  # distances held at a time


@dataclass(frozen=True)
class Phases:
    """What each of N samples is, and the evidence.

    ``label`` (N,) int64, one of MEMORISED, SPURIOUS, GENERALISED; ``source`` (N,) int64, its
    nearest training point (of several copies the first); ``distance`` (N,) to it; ``others`` (N,)
    int64, how many other samples lie within ``repeated_within``.

    >>> samples, data = torch.tensor([[0.5], [4.0]]), torch.tensor([[9.0], [0.0]])
    >>> found = classify(samples, data, memorised_within=1.0, repeated_within=1.0)
    >>> found.source.tolist(), found.distance.tolist(), found.others.tolist()
    ([1, 1], [0.5, 4.0], [0, 0])
    """

    label: Tensor
    source: Tensor
    distance: Tensor
    others: Tensor


# ---------------------------------------------------------------------------- by distance


def classify(
    samples: Tensor,
    data: Tensor,
    *,
    memorised_within: float,
    repeated_within: float,
    crowd: int = 1,
    same_within: float | None = None,
) -> Phases:
    """Tell memorised, spurious and generalised samples apart by two distances.

    Args:
        samples: (N, D); data: (K, D), the training set.
        memorised_within: > 0, Euclidean distance to a training point that still is a copy.
        repeated_within: > 0, distance at which two samples say the same thing.
        crowd: how many others must be so near that a sample is a repetition. Chance makes
            neighbours, too: on a curve ask for more than it would.
        same_within: training points this near to each other are one, so that ``source`` counts
            what is stored and not how often; None: only equal ones.

    Raises:
        ValueError, TypeError: shapes or dtypes that do not fit, NaN, a number out of range.

    >>> data = torch.tensor([[0.0], [1.0], [1.0]])
    >>> samples = torch.tensor([[0.01], [1.01], [5.0], [5.02], [9.0]])
    >>> found = classify(samples, data, memorised_within=0.1, repeated_within=0.1)
    >>> [NAMES[i] for i in found.label], found.source[:2].tolist()
    (['memorised', 'memorised', 'spurious', 'spurious', 'generalised'], [0, 1])
    """
    _check.finite("samples", _check.floating("samples", _check.matrix("samples", samples)))
    _check.finite("data", _check.floating("data", _check.matrix("data", data)))
    _check.last_dim("samples", samples, data.shape[1])
    _check.same_kind("samples", samples, data)
    memorised_within = float(_check.positive("memorised_within", memorised_within))
    repeated_within = float(_check.positive("repeated_within", repeated_within))
    crowd = _check.count("crowd", crowd)
    first = _first_copies(data, same_within)
    rows = max(1, _BLOCK // max(len(samples), len(data)))
    near, source, others = [], [], []
    for part in samples.split(rows):
        far, which = _distances(part, data).min(1)
        near.append(far)
        source.append(first[which])
        others.append((_distances(part, samples) <= repeated_within).sum(1) - 1)
    distance, count = torch.cat(near), torch.cat(others)
    label = torch.where(count >= crowd, SPURIOUS, GENERALISED)
    label = label.masked_fill(distance <= memorised_within, MEMORISED)
    return Phases(label, torch.cat(source), distance, count)


def _distances(x: Tensor, y: Tensor) -> Tensor:
    # differences, not inner products: a copy is at distance zero exactly
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def _first_copies(data: Tensor, same_within: float | None) -> Tensor:
    """For each training point the index of the first that is the same."""
    if same_within is not None:
        _check.positive("same_within", same_within)
        _, label = distinct(data, tol=same_within)
    else:
        label = data.unique(dim=0, return_inverse=True)[1]
    index = torch.arange(len(data), device=data.device)
    first = torch.full_like(index, len(data)).scatter_reduce(0, label, index, "amin")
    return first[label]


# ---------------------------------------------------------------------------- by wells


@dataclass(frozen=True)
class Wells:
    """Wells along a closed curve of n places.

    ``bottom`` (M,), the place of each; ``well`` (n,), which well a place drains to, -1 if the curve
    is flat; ``wall`` (M,), from the bottom up to the lower of its two passes.

    >>> wells = ring_wells(torch.tensor([0.0, 5.0, 1.0, 3.0]))
    >>> len(wells), wells.bottom.tolist(), wells.wall.tolist()
    (2, [0, 2], [3.0, 2.0])
    """

    bottom: Tensor
    well: Tensor
    wall: Tensor

    def __len__(self) -> int:
        """Count the wells."""
        return len(self.bottom)


def ring_wells(height: Tensor) -> Wells:
    """Cut a closed curve at its passes.

    Args:
        height: (n,), n >= 3, at places in order round the curve; the last is beside the first.

    >>> wells = ring_wells(torch.tensor([0.0, 2.0, 1.0, 3.0]))
    >>> wells.bottom.tolist(), wells.wall.tolist()
    ([0, 2], [2.0, 1.0])
    """
    _check.finite("height", _check.floating("height", height))
    if height.ndim != 1 or len(height) < 3:
        raise ValueError(f"height: got a {_check.describe(height)}, expected (n,) with n >= 3")
    n, values = len(height), height.tolist()
    bottoms = _floors(values)
    if not bottoms:
        none = torch.empty(0, dtype=torch.int64)
        return Wells(none, torch.full((n,), -1), height.new_empty(0))
    passes = []  # after each bottom, on the way to the next
    for i, low in enumerate(bottoms):
        span = (bottoms[(i + 1) % len(bottoms)] - low) % n or n
        passes.append(max(range(low, low + span), key=lambda j: values[j % n]) % n)
    well = torch.empty(n, dtype=torch.int64)
    walls = []
    for i, low in enumerate(bottoms):
        left, right = passes[i - 1], passes[i]
        walls.append(min(values[left], values[right]) - values[low])
        reach = torch.arange(left, left + ((right - left) % n or n)) % n
        well[reach] = i
    return Wells(torch.tensor(bottoms), well, height.new_tensor(walls))


def _floors(values: list[float]) -> list[int]:
    """First places of all floors: lower than what comes before, and the way out goes up."""
    n, found = len(values), []
    for i in range(n):
        if values[i] >= values[i - 1]:
            continue
        j = i
        while values[(j + 1) % n] == values[i]:
            j += 1
        if values[(j + 1) % n] > values[i]:
            found.append(i)
    return found


def join_wells(wells: Wells, height: Tensor, *, barrier: float) -> Wells:
    """Join every well whose wall is below ``barrier`` to its neighbour, the shallowest first.

    Args:
        wells: what :func:`ring_wells` gave for ``height`` (n,).
        barrier: > 0. The last well is never joined, whatever its wall.

    >>> h = torch.tensor([0.0, 3.0, 1.0, 1.2, 1.1, 5.0])
    >>> join_wells(ring_wells(h), h, barrier=1.0).bottom.tolist()
    [0, 2]
    """
    if not isinstance(wells, Wells):
        raise TypeError(f"wells: got a {_check.describe(wells)}, expected Wells")
    _check.finite("height", _check.floating("height", height))
    _check.shape("height", height, (len(wells.well),))
    barrier = float(_check.positive("barrier", barrier))
    bottoms, values, well = wells.bottom.tolist(), height.tolist(), wells.well.clone()
    while True:
        ends = zip(bottoms, bottoms[1:] + bottoms[:1], strict=True)
        passes = [_highest(values, a, b) for a, b in ends]  # after each bottom
        walls = [min(passes[i - 1], passes[i]) - values[b] for i, b in enumerate(bottoms)]
        i = min(range(len(walls)), key=walls.__getitem__, default=0)
        if len(bottoms) < 2 or walls[i] >= barrier:
            break
        well[well == i] = (i + 1 if passes[i] <= passes[i - 1] else i - 1) % len(bottoms)
        well[well > i] -= 1  # the wells after it move up, the one it joined among them
        bottoms.pop(i)
    return Wells(torch.tensor(bottoms, dtype=torch.int64), well, height.new_tensor(walls))


def _highest(values: list[float], start: int, end: int) -> float:
    """Highest value on the way from one place to another, which may be once round."""
    n = len(values)
    return max(values[j % n] for j in range(start, start + ((end - start) % n or n)))


def classify_on_ring(
    samples: Tensor,
    data: Tensor,
    height: Tensor,
    *,
    noise: float,
    barrier: float = 1.0,
    bells: float = 2.5,
) -> Tensor:
    r"""Tell memorised, spurious and generalised apart by the wells of the energy, (N,) int64.

    Args:
        samples: (N, 2), data: (K, 2), around the origin; only their angles count.
        height: (n,), :math:`-\log p` along the valley at angles :math:`2\pi i/n`, such as
            ``beta * lse_energy(valley)`` or :func:`heights_along`.
        noise: width s of the noise at which p is meant, as an angle. The floor of one noisy point
            alone, where it is lower than the bottom plus ``barrier``, is
            :math:`2s\sqrt{2\,\text{barrier}}` long.
        barrier: wall, in units of what noise climbs easily, below which a well holds nothing.
        bells: longest floor that is one place, in floors of one noisy point: two joined points make
            at most 2.3 (for barrier = 1).

    Raises:
        ValueError, TypeError: wrong shapes, NaN, a number not above zero.

    >>> h = 5 * (1 - torch.cos(torch.arange(360) * torch.pi / 90))  # wells at 0 and 180 degrees
    >>> data = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.1], [-1.0, -0.1]])
    >>> samples = torch.tensor([[1.0, 0.1], [-1.0, 0.2]])
    >>> classify_on_ring(samples, data, h, noise=0.2).tolist()
    [0, 1]
    """
    for name, x in (("samples", samples), ("data", data)):
        _check.finite(name, _check.floating(name, _check.matrix(name, x)))
        _check.last_dim(name, x, 2)
    barrier = float(_check.positive("barrier", barrier))
    noise, bells = float(_check.positive("noise", noise)), float(_check.positive("bells", bells))
    wells, n = ring_wells(height), len(height)
    if len(wells) == 0:
        return torch.full((len(samples),), GENERALISED)
    wells = join_wells(wells, height, barrier=barrier)
    held = torch.bincount(wells.well[_place(data.unique(dim=0), n)], minlength=len(wells))
    low = height < height[wells.bottom][wells.well] + barrier
    floor = torch.bincount(wells.well[low], minlength=len(wells)) * (2 * math.pi / n)
    longest = bells * 2 * noise * math.sqrt(2 * barrier)
    label = torch.where(floor > longest, GENERALISED, SPURIOUS).masked_fill(held == 1, MEMORISED)
    return label[wells.well[_place(samples, n)]]


def _place(x: Tensor, n: int) -> Tensor:
    """The place among n, evenly round the circle, at each point's angle."""
    return (torch.atan2(x[:, 1], x[:, 0]) / (2 * math.pi) * n).round().long() % n


def valley_around(
    score: Callable[[Tensor], Tensor],
    *,
    n: int = 720,
    low: float = 0.05,
    high: float = 2.0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    r"""Go round the origin along the floor of the valley: (n, 2), at angles :math:`2\pi i/n`.

    On each ray the place where the score turns from outwards to inwards, by halving between radius
    ``low`` and ``high``; ``low`` where it points inwards all the way, as it does when no ring is
    left. If it turns more than once, one of the turns is found.

    Args:
        score: maps (n, 2) to (n, 2), or minus the gradient of an energy.

    >>> ring = lambda x: x * (1 / x.norm(dim=1, keepdim=True) - 1)
    >>> valley_around(ring, n=4).norm(dim=1)
    tensor([1.0000, 1.0000, 1.0000, 1.0000])
    """
    if not callable(score):
        raise TypeError(f"score: got a {_check.describe(score)}, expected f(x)")
    low, high = float(_check.positive("low", low)), float(_check.positive("high", high))
    if high <= low:
        raise _check.fail("high", high, f"more than low = {low:g}")
    angle = torch.arange(_check.count("n", n, least=3), dtype=dtype) * (2 * math.pi / n)
    ray = torch.stack([angle.cos(), angle.sin()], -1)
    inner, outer = torch.full_like(angle, low), torch.full_like(angle, high)
    for _ in range(30):
        middle = 0.5 * (inner + outer)
        x = middle[:, None] * ray
        outwards = (_arrows(score, x) * ray).sum(-1) > 0
        inner, outer = torch.where(outwards, middle, inner), torch.where(outwards, outer, middle)
    return inner[:, None] * ray


def _arrows(score: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.no_grad():
        out = score(x)
    if not isinstance(out, Tensor) or out.shape != x.shape:
        raise ValueError(f"score: gave a {_check.describe(out)}, expected shape {tuple(x.shape)}")
    return out


def heights_along(score: Callable[[Tensor], Tensor], path: Tensor) -> tuple[Tensor, float]:
    r"""Heights :math:`-\log p` along a closed path, read off a score, and what does not close.

    .. math:: h_{i+1} - h_i = -\tfrac12\bigl(s(x_i)+s(x_{i+1})\bigr)\cdot(x_{i+1}-x_i)

    A score that is a slope comes back to where it began; a learned one need not. The gap after one
    round is returned, and shared out evenly over the way.

    Args:
        score: maps (n, D) to (n, D), the gradient of log p.
        path: (n, D), closed: the last place is beside the first.

    Returns:
        (n,), lowest zero, and the gap.
    """
    _check.finite("path", _check.floating("path", _check.matrix("path", path)))
    if not callable(score):
        raise TypeError(f"score: got a {_check.describe(score)}, expected f(x)")
    arrows = _arrows(score, path)
    step = path.roll(-1, 0) - path
    rise = -(0.5 * (arrows + arrows.roll(-1, 0)) * step).sum(-1)
    gap = rise.sum()
    height = torch.cat([rise.new_zeros(1), (rise - gap / len(rise)).cumsum(0)[:-1]])
    return height - height.min(), float(gap)


# ---------------------------------------------------------------------------- shares


def fractions(label: Tensor) -> Tensor:
    """Share of each phase with a 95 % interval: (3, 3), rows by phase, columns share, low, high.

    Args:
        label: (N,) int64 of one model, or (S, N) of S models trained alike. Then samples of one
            model are not independent: Wilson's interval is taken at the number of independent ones
            that would scatter as the models do, at most S N and at least S. Where all models agree
            on 0 or 1 there is no scatter to see, and it is S N.

    >>> fractions(torch.tensor([0, 0, 0, 2]))[:, 0]
    tensor([0.7500, 0.0000, 0.2500])
    """
    if not isinstance(label, Tensor) or label.dtype != torch.int64 or label.device.type == "meta":
        raise TypeError(f"label: got a {_check.describe(label)}, expected an int64 tensor")
    if label.ndim not in (1, 2) or 0 in label.shape or ((label < 0) | (label > 2)).any():
        raise ValueError(f"label: got a {_check.describe(label)}, expected (N,) or (S, N) of 0..2")
    rows = label[None] if label.ndim == 1 else label
    each = torch.stack([(rows == phase).double().mean(1) for phase in range(3)], -1)
    return pooled(each, samples=rows.shape[1])


def pooled(shares: Tensor, *, samples: int) -> Tensor:
    """Mean share of each phase over models, with the interval of :func:`fractions`: (3, 3).

    Args:
        shares: (S, 3), what share of each model's samples is in each phase.
        samples: how many samples each model gave.

    >>> pooled(torch.tensor([[1.0, 0.0, 0.0]] * 4), samples=100)[0].round(decimals=3)
    tensor([1.0000, 0.9900, 1.0000])
    """
    _check.finite("shares", _check.floating("shares", _check.matrix("shares", shares)))
    _check.last_dim("shares", shares, 3)
    if (shares < 0).any() or (shares > 1).any():
        raise ValueError("shares: got numbers outside [0, 1], expected shares")
    samples = _check.count("samples", samples)
    out = []
    for each in shares.double().T:
        p, total = float(each.mean()), float(samples * len(each))
        if len(each) > 1 and float(each.var()) > 0:
            alone = p * (1 - p) / (float(each.var()) / len(each))
            total = min(max(alone, float(len(each))), total)
        out.append((p, *wilson_interval(min(p * total, total), total)))
    return torch.tensor(out)


def table(name: str) -> dict[str, Tensor]:
    """Numbers of a run that ship with the package; the card beside them has the command.

    ``"circle_phases"``: ``counts`` (14,), ``noise`` (9,), shares of the three phases, ``learned``
    and ``exact`` (counts, seeds, noise, 3), ``error`` of the learned score, ``off_circle``,
    ``gap``, ``wells`` (..., learned and exact); networks of four sizes: ``numbers`` of weights
    (4,), ``few`` counts (7,), ``kept`` (4, few, seeds, 3).
    ``"digit_phases"``: see results/digit-phases.

    Raises:
        ValueError: no table of this name ships.

    >>> found = table("circle_phases")
    >>> found["counts"].shape, found["noise"].shape
    (torch.Size([14]), torch.Size([9]))
    """
    return _weights.shipped(name, kind="phase table")[0]
