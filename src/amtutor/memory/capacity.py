r"""How many binary memories can you keep? The papers' formulas, and measurements (chapter 2).

A stored memory is spoilt where the noise of the others outvotes it (MM 2.5-2.17). The formulas
take that noise to be normal; :func:`measure_error_rate` and :func:`measure_capacity` look.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor

from amtutor import _check
from amtutor.memory.discrete import DiscreteDenseAM
from amtutor.memory.separations import RULES, Separation

__all__ = [
    "CapacityEstimate",
    "ErrorRate",
    "capacity",
    "error_probability",
    "measure_capacity",
    "measure_error_rate",
    "noise_variance",
    "sign_sum_moment",
    "weighted_fit",
    "wilson_interval",
]

MOST_POWER = 1000  # of a moment; beyond, whole numbers of 100 000 bits would be summed for minutes
MOST_BITS = 2**31  # of the patterns of one trial: 8 GB in float32

# ------------------------------------------------------------------ the formulas


def sign_sum_moment(power: int, count: int) -> int:
    r"""Return <X^power> of a sum X of ``count`` independent random signs, exactly.

    MM 2.10 says :math:`(2p-1)!!\, D^p` for power 2p, which is its limit at large count. ``power``
    is at most 1000.

    >>> sign_sum_moment(4, 9), sign_sum_moment(4, 10), 3 * 10**2
    (225, 280, 300)
    """
    _check.count("power", power, least=0, most=MOST_POWER)
    _check.count("count", count, least=0)
    if power % 2:
        return 0
    if count <= 4 * power:  # few signs: every number of minus signs k, one by one
        return (
            sum(math.comb(count, k) * (count - 2 * k) ** power for k in range(count + 1)) >> count
        )
    return _even_moments(power // 2, count)[-1]


@lru_cache(maxsize=1000)
def _even_moments(half: int, count: int) -> tuple[int, ...]:
    """<X^0>, <X^2>, ..., <X^2half>, each from those before it.

    cosh(t)^count makes these moments; its slope times cosh(t) is count sinh(t) times itself.
    """
    moments = [1]
    for k in range(1, half + 1):
        gain = sum(math.comb(2 * k - 1, 2 * j) * moments[j] for j in range(k))
        loss = sum(math.comb(2 * k - 1, 2 * j - 1) * moments[j] for j in range(1, k))
        moments.append(count * gain - loss)
    return tuple(moments)


def noise_variance(n: int, dim: int, n_patterns: int, *, exact: bool = False) -> float:
    r"""Return the variance of the noise that the other memories make at one bit, F = s^n / n.

    .. math:: \Sigma^2 = (2n-3)!!\, K D^{n-1} \quad\text{(MM 2.14, for large D and K)}, \qquad
              \Sigma^2 = (K-1) \langle \Xi_D^{2n-2} \rangle \quad\text{(exact)}

    with :math:`\Xi_D` the sum of D-1 random signs. Units are the paper's: raw overlaps, gradient
    rule. Rectified polynomials have half of it. inf where a float cannot hold it.

    >>> noise_variance(3, 10, 2), noise_variance(3, 10, 2, exact=True)
    (600.0, 225.0)
    """
    try:
        return float(_noise(n, dim, n_patterns, exact))
    except OverflowError:
        return math.inf


def error_probability(n: int, dim: int, n_patterns: int, *, exact: bool = False) -> float:
    r"""Return the probability that one bit of a stored memory is wrong after one update (MM 2.15).

    .. math:: P_{err} = g\left( (D-1)^{n-1} / \Sigma \right), \qquad
              g(z) = \int_z^\infty e^{-y^2/2} \frac{dy}{\sqrt{2\pi}}

    The noise is taken to be normal, with the variance of :func:`noise_variance`.

    >>> round(error_probability(2, 100, 14), 4)
    0.0041
    """
    noise = _noise(n, dim, n_patterns, exact)
    try:
        ratio = (dim - 1) ** (2 * n - 2) / noise
    except (ZeroDivisionError, OverflowError):  # no noise, or next to none
        return 0.0
    return 0.5 * math.erfc(math.sqrt(ratio / 2))


def capacity(n: int, dim: int, *, error: float = 0.01, exact: bool = False) -> float:
    r"""Return the number of memories at which P_err reaches ``error`` (MM 2.17).

    .. math:: K_{max} = \frac{D^{n-1}}{\alpha^2 (2n-3)!!}, \qquad g(\alpha) = \text{error}

    The tail of MM 2.15 is one-sided: alpha = 2.326 for 1 %. (MM prints 2.576, which leaves 1 % in
    *two* tails and belongs to ``error=0.005``.) ``exact=True`` solves MM 2.15 with the exact
    variance and the signal (D-1)^(n-1). ``error`` lies between 0 and 1/2. inf where a float cannot
    hold it.

    >>> round(capacity(2, 1000), 1), round(capacity(2, 1000, error=0.005), 1)
    (184.8, 150.7)
    """
    alpha = -NormalDist().inv_cdf(_level(error))
    exact = _check.boolean("exact", exact)
    one = _noise(n, dim, 2 if exact else 1, exact)  # the noise of a single other memory
    signal = (dim - 1) ** (2 * n - 2) if exact else dim ** (2 * n - 2)
    try:
        return signal / one / alpha**2 + (1 if exact else 0)
    except (ZeroDivisionError, OverflowError):
        return math.inf


def _level(error: float) -> float:
    return _check.between("error", error, 0, 0.5, ends="()")


def _noise(n: int, dim: int, n_patterns: int, exact: bool) -> int:
    """Check the arguments and return Sigma^2 as a whole number."""
    _check.count("n", n, most=MOST_POWER // 2)
    _check.count("dim", dim)
    _check.count("n_patterns", n_patterns, most=10**300)
    if _check.boolean("exact", exact):
        return (n_patterns - 1) * sign_sum_moment(2 * n - 2, dim - 1)
    return math.prod(range(1, 2 * n - 2, 2)) * n_patterns * dim ** (n - 1)


@dataclass(frozen=True)
class ErrorRate:
    """A measured error rate, with its 95 % interval.

    ``rate`` = ``errors`` / ``bits``; ``low`` and ``high`` are Wilson's interval for an effective
    number of bits, ``bits`` / ``design_effect``: bits of one memory share its overlaps, and the
    memories of one trial share each other, so errors come in clusters. The design effect >= 1 is
    the larger of two ratios: how much more than independent bits the errors of a memory, and of a
    trial, scatter. (A handful of trials cannot tell the second well: make 20 or more.)
    """

    rate: float
    low: float
    high: float
    errors: int
    bits: int
    design_effect: float


def measure_error_rate(
    separation: Separation,
    dim: int,
    n_patterns: int,
    *,
    trials: int,
    generator: torch.Generator | None = None,
    rule: str = "gradient",
    probes: int = 64,
) -> ErrorRate:
    """Measure how often one update spoils a bit of a stored random memory.

    Each trial draws K fresh patterns (MM 2.4), puts the network exactly on each of ``probes`` of
    them, and counts the bits that a single visit would flip, every bit visited from the intact
    memory (MM 2.6: "gradient" is its rule; "exact" compares energies). A tie is no error.

    Raises:
        ValueError, TypeError: a count is below 1 or asks for more than 2**31 bits at once, or the
            separation or the rule is unknown.

    >>> from amtutor.memory.separations import Polynomial
    >>> g = torch.Generator().manual_seed(0)
    >>> found = measure_error_rate(Polynomial(2), 100, 19, trials=50, generator=g)
    >>> found.low < error_probability(2, 100, 19, exact=True) < found.high
    True
    """
    if not isinstance(separation, Separation):
        raise TypeError(f"separation: got a {_check.describe(separation)}, expected a Separation")
    dim = _check.count("dim", dim, most=MOST_BITS)
    n_patterns = _check.count("n_patterns", n_patterns, most=MOST_BITS // dim)
    _check.choice("rule", rule, RULES)
    _check.generator("generator", generator)
    probes = min(_check.count("probes", probes), n_patterns)
    wrong = []
    for _ in range(_check.count("trials", trials)):
        device = "cpu" if generator is None else generator.device
        bits = torch.randint(
            0, 2, (n_patterns, dim), generator=generator, device=device, dtype=torch.int8
        )
        memory = DiscreteDenseAM(2 * bits.to(torch.float32) - 1, separation)
        sweeps = memory.sweeps
        for rows in sweeps.parts(memory.patterns[:probes]):
            margins = sweeps.margins(rows, sweeps.overlaps(rows), rule)
            wrong.append((margins < 0).sum(-1))
    return _error_rate(torch.cat(wrong).double().reshape(trials, probes), dim)


def _error_rate(wrong: Tensor, dim: int) -> ErrorRate:
    """Turn the wrong bits of each probed memory (trials, probes) into a rate with its interval."""
    errors, bits = int(wrong.sum()), wrong.numel() * dim
    rate, effect = errors / bits, 1.0
    if 0 < errors < bits:
        for cluster, size in ((wrong.flatten(), dim), (wrong.sum(1), dim * wrong.shape[1])):
            if len(cluster) > 1:
                effect = max(effect, float(cluster.var()) / (size * rate * (1 - rate)))
    low, high = wilson_interval(errors / effect, bits / effect)
    return ErrorRate(rate, low, high, errors, bits, effect)


@dataclass(frozen=True)
class CapacityEstimate:
    """The measured number of memories at which errors reach a level, with its 95 % interval.

    ``points`` holds the (K, ErrorRate) pairs it was read from.
    """

    n_patterns: float
    low: float
    high: float
    points: tuple[tuple[int, ErrorRate], ...]


def measure_capacity(
    separation: Separation,
    dim: int,
    *,
    guess: float,
    error: float = 0.01,
    bits: int = 40_000,
    generator: torch.Generator | None = None,
    rule: str = "gradient",
) -> CapacityEstimate:
    r"""Measure at how many memories one update spoils a fraction ``error`` of the bits.

    Error rates are measured at seven K from guess/2 to 2 guess, ``bits`` bits or more at each. If
    the noise were normal (MM 2.15), the normal quantile of the rate would be linear in
    :math:`K^{-1/2}`; near the crossing it is in any case, so a weighted line is fitted and solved.

    Raises:
        ValueError: guess is not positive, or fewer than three K showed any error.
    """
    guess = _check.positive("guess", guess)
    bits, dim = _check.count("bits", bits), _check.count("dim", dim, most=MOST_BITS)
    if 2 * guess * dim > MOST_BITS:
        raise _check.fail("guess", guess, f"a number <= {MOST_BITS // (2 * dim)} at this dim")
    alpha = -NormalDist().inv_cdf(_level(error))
    points = []
    for factor in (0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0):
        k = max(1, round(factor * guess))
        trials = max(20, math.ceil(bits / (dim * min(k, 32))))
        found = measure_error_rate(
            separation, dim, k, trials=trials, generator=generator, rule=rule, probes=32
        )
        points.append((k, found))
    seen = [(k, found) for k, found in points if 0 < found.rate < 0.5]
    if len({k for k, _ in seen}) < 3:
        raise ValueError(f"guess = {guess!r}: expected one within a factor 2 of the capacity")
    z, spread = zip(*(_quantile(found) for _, found in seen), strict=True)
    (a, b), cov = weighted_fit([[1] * len(seen), [k**-0.5 for k, _ in seen]], z, spread)
    root = float((alpha - a) / b)  # K^(-1/2) at the crossing
    here = torch.tensor([1, root], dtype=torch.float64)
    half = 1.96 * float((here @ cov @ here).sqrt() / b)
    best, low, high = (r**-2 if r > 0 else math.inf for r in (root, root + half, root - half))
    return CapacityEstimate(best, low, high, tuple(points))


def _quantile(found: ErrorRate) -> tuple[float, float]:
    """Return the normal quantile of an error rate (how many sigmas off), and its standard error."""
    z, high, low = (-NormalDist().inv_cdf(p) for p in (found.rate, found.low, found.high))
    return z, (high - low) / (2 * 1.96)


def weighted_fit(columns: Any, y: Any, spread: Any) -> tuple[Tensor, Tensor]:
    """Fit y = sum_c coefficient_c * columns[c] by weighted least squares.

    ``columns`` is (C, P), ``y`` and its standard errors ``spread`` are (P,). Returns the
    coefficients (C,) and their covariance (C, C), float64.

    Raises:
        ValueError: shapes that do not fit, an entry that is not finite, a standard error that is
            not above 0, or columns that depend on each other.

    >>> fit, cov = weighted_fit([[1, 1, 1], [0, 1, 2]], [1, 3, 5], [1, 1, 1])
    >>> [round(c, 6) + 0 for c in fit.tolist()], round(float(cov[1, 1]), 6)
    ([1.0, 2.0], 0.5)
    """
    columns, y, spread = (
        _numbers(name, v) for name, v in (("columns", columns), ("y", y), ("spread", spread))
    )
    _check.matrix("columns", columns)
    _check.shape("y", y, columns.shape[1:])
    _check.shape("spread", spread, columns.shape[1:])
    if not (spread > 0).all():
        raise ValueError(f"spread: {int((spread <= 0).sum())} of {len(spread)} are not above 0")
    design = (columns / spread).T
    if torch.linalg.matrix_rank(design) < len(columns):
        raise ValueError(
            f"columns: {len(columns)} that depend on each other at {len(y)} points, expected "
            "independent ones"
        )
    cov = torch.linalg.inv(design.T @ design)
    return cov @ design.T @ (y / spread), cov


def _numbers(name: str, values: Any) -> Tensor:
    try:
        found = torch.as_tensor(values, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise TypeError(f"{name}: got a {_check.describe(values)}, expected numbers") from None
    return _check.finite(name, found)


def wilson_interval(hits: float, total: float, *, z: float = 1.959964) -> tuple[float, float]:
    """Return Wilson's interval for a proportion; it holds hits / total and never leaves [0, 1].

    ``hits`` and ``total`` may be effective numbers, not whole.

    Raises:
        ValueError: total is not above 0, or hits not between 0 and total.

    >>> [round(end, 3) for end in wilson_interval(0, 10)]
    [0.0, 0.278]
    """
    total = _check.positive("total", total)
    hits, z = _check.between("hits", hits, 0, total), _check.positive("z", z)
    p, weight = hits / total, z * z / total
    centre = (p + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(p * (1 - p) / total + weight / (4 * total))
    return min(p, max(0.0, centre - half)), max(p, min(1.0, centre + half))
