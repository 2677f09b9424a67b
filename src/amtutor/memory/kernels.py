r"""Kernels: eight shapes of bowl, how well each estimates a density, and where its sums have peaks.

A kernel :math:`\kappa` is a bump. Put one on every memory, add them up, and the sum is at once an
estimate of the density the memories came from and, after :math:`-\frac1\beta\log`, an energy:

.. math:: \hat p_b(x) = \frac{c}{K b^D} \sum_\mu \kappa\Bigl(\frac{\|x-\xi^\mu\|}{b}\Bigr),
          \qquad E(x) = -\tfrac1\beta \log \sum_\mu \kappa\Bigl(\frac{\|x-\xi^\mu\|}{b}\Bigr),
          \qquad b = \sqrt{2/\beta}

(MM 5.46 with the power of b that it lacks). Kernels are written as in MM Fig 5.7, without any
scale: :math:`\kappa(0) = 1`, and all but the Gaussian :math:`e^{-z^2}` are zero from z = 1 on. So
:math:`z^2 = \frac\beta2\|x-\xi\|^2` is what the energies call the bowl, the Gaussian gives the
LSE energy and Epanechnikov's kernel :math:`1-z^2` the LSR energy. *Radial* kernels take the length
of a vector, *product* kernels multiply over its entries.

The energies are in :mod:`amtutor.memory.dense`: ``DenseAM(memories, "quartic", beta=2.0)``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from amtutor import _check

__all__ = ["KERNELS", "Kernel", "kernel_minima", "lsr_minima", "normal_roughness", "rule_of_thumb"]

_HALF_PI = math.pi / 2
FORMS = ("radial", "product")

# ---------------------------------------------------------------------------- the eight shapes


class Shape(NamedTuple):
    """A kernel as functions of u = z^2 in [0, 1), and its moments.

    ``deficit`` is 1 - value without the rounding of that difference, ``weight`` is -d value / du.
    ``log_moment(m, power)`` is the logarithm of the integral of z^m value^power over z > 0.
    """

    value: Callable[[Tensor], Tensor]
    deficit: Callable[[Tensor], Tensor]
    weight: Callable[[Tensor], Tensor]
    log_moment: Callable[[float, int], float]


def _root(u: Tensor) -> Tensor:
    """The square root, with slope zero at zero."""
    at = u > 0
    return u.where(at, 1.0).sqrt().where(at, 0.0)


def _power_moment(p: float, q: float) -> Callable[[float, int], float]:
    """Moments of (1 - z^p)^q: a beta function."""

    def log_moment(m: float, power: int) -> float:
        a, b = (m + 1) / p, q * power + 1
        return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b) - math.log(p)

    return log_moment


def _gaussian_moment(m: float, power: int) -> float:
    a = (m + 1) / 2
    return math.lgamma(a) - math.log(2) - a * math.log(power)


def _cosine_moment(m: float, power: int) -> float:
    """Moments of cos(pi z/2), and of its square (1 + cos(pi z))/2, by the series of the cosine."""

    def of_cosine(a: float) -> float:
        terms, term = [], 1.0
        for j in range(30):
            terms.append(term / (m + 2 * j + 1))
            term *= -(a**2) / ((2 * j + 1) * (2 * j + 2))
        return math.fsum(terms)

    if power == 1:
        return math.log(of_cosine(_HALF_PI))
    return math.log((1 / (m + 1) + of_cosine(math.pi)) / 2)


def _tricube_weight(u: Tensor) -> Tensor:
    return 4.5 * _root(u) * (1 - u * _root(u)).square()


def _sine_ratio(u: Tensor) -> Tensor:
    """(pi/4) sin(pi z/2) / z, which is smooth in u."""
    return (math.pi**2 / 8) * torch.sinc(_root(u) / 2)


SHAPES = {
    "gaussian": Shape(
        lambda u: (-u).exp(), lambda u: -torch.expm1(-u), lambda u: (-u).exp(), _gaussian_moment
    ),
    "epanechnikov": Shape(lambda u: 1 - u, lambda u: u, torch.ones_like, _power_moment(2, 1)),
    "triangle": Shape(
        lambda u: 1 - _root(u),
        _root,
        lambda u: (0.5 / u.where(u > 0, 1.0).sqrt()).where(u > 0, 0.0),
        _power_moment(1, 1),
    ),
    "uniform": Shape(torch.ones_like, torch.zeros_like, torch.zeros_like, _power_moment(1, 0)),
    "cosine": Shape(
        lambda u: (_HALF_PI * _root(u)).cos(),
        lambda u: 2 * (_HALF_PI / 2 * _root(u)).sin().square(),
        _sine_ratio,
        _cosine_moment,
    ),
    "quartic": Shape(
        lambda u: (1 - u).square(),
        lambda u: u * (2 - u),
        lambda u: 2 * (1 - u),
        _power_moment(2, 2),
    ),
    "triweight": Shape(
        lambda u: (1 - u) ** 3,
        lambda u: u * (3 - u * (3 - u)),
        lambda u: 3 * (1 - u).square(),
        _power_moment(2, 3),
    ),
    "tricube": Shape(
        lambda u: (1 - u * _root(u)) ** 3,
        lambda u: u * _root(u) * (3 - u * _root(u) * (3 - u * _root(u))),
        _tricube_weight,
        _power_moment(3, 3),
    ),
}

# ---------------------------------------------------------------------------- their numbers


class Kernel:
    r"""One of the eight kernels of MM Fig 5.7, with what density estimation wants to know of it.

    Everything is in closed form, for radial and for product kernels in any dimension. Bandwidths
    belong to the kernel as written, of radius 1 (the Gaussian: :math:`e^{-z^2}`, whose standard
    deviation is :math:`b/\sqrt2`).

    Args:
        name: "gaussian", "epanechnikov", "triangle", "uniform", "cosine", "quartic", "triweight" or
            "tricube".

    >>> round(KERNELS["gaussian"].efficiency(), 3)
    0.951
    """

    def __init__(self, name: str):
        self.name = _check.choice("name", name, tuple(SHAPES))
        self.shape = SHAPES[name]
        self.support = math.inf if name == "gaussian" else 1.0  #: its radius

    def __repr__(self) -> str:
        return f"Kernel({self.name!r})"

    def __call__(self, x: Tensor, *, form: str = "radial") -> Tensor:
        r"""The normalised kernel :math:`c\,\kappa(\|x\|)`, or :math:`\prod_i c_1 \kappa(|x_i|)`.

        Args:
            x: (\*batch, D) in units of the bandwidth.

        Returns:
            (\*batch): a density, with integral 1.
        """
        if _check.floating("x", x).ndim == 0 or x.shape[-1] == 0:
            raise ValueError(f"x: got a {_check.describe(x)}, expected (*batch, D), D >= 1")
        _check.choice("form", form, FORMS)
        u = x.square()
        u = u.sum(-1) if form == "radial" else u
        value = self.shape.value(u).where(~(u >= self.support), 0.0)  # NaN goes through
        value = value if form == "radial" else value.prod(-1)
        return value * self.normaliser(dim=x.shape[-1], form=form)

    def log_normaliser(self, *, dim: int = 1, form: str = "radial") -> float:
        r"""Logarithm of c, for which :math:`c\,\kappa` has integral 1 in ``dim`` dimensions."""
        dim = _check.count("dim", dim)
        moment = self.shape.log_moment
        if _check.choice("form", form, FORMS) == "product":
            return -dim * (math.log(2) + moment(0, 1))
        return -_log_sphere(dim) - moment(dim - 1, 1)

    def normaliser(self, *, dim: int = 1, form: str = "radial") -> float:
        """The number c itself; infinite where a float cannot hold it (see `log_normaliser`)."""
        return _exp(self.log_normaliser(dim=dim, form=form))

    def scale(self, *, dim: int = 1, form: str = "radial") -> float:
        r"""Scale :math:`\mu_\kappa = \int x_1^2\,\kappa(x)\,dx` of the normalised kernel.

        Its variance along any axis. Source: MM 5.47.
        """
        dim = _check.count("dim", dim)
        if _check.choice("form", form, FORMS) == "product":
            dim = 1
        moment = self.shape.log_moment
        return math.exp(moment(dim + 1, 1) - moment(dim - 1, 1)) / dim

    def regularity(self, *, dim: int = 1, form: str = "radial") -> float:
        r"""Regularity :math:`\sigma_\kappa = \int \kappa(x)^2\,dx` of the normalised kernel.

        The lower, the smoother. Source: MM 5.47.
        """
        return _exp(self._log_regularity(_check.count("dim", dim), form))

    def _log_regularity(self, dim: int, form: str) -> float:
        one = self.shape.log_moment
        if _check.choice("form", form, FORMS) == "product":
            return dim * (one(0, 2) - 2 * one(0, 1) - math.log(2))
        return one(dim - 1, 2) - 2 * one(dim - 1, 1) - _log_sphere(dim)

    def efficiency(self, *, dim: int = 1, form: str = "radial") -> float:
        r"""Share of the samples that Epanechnikov's kernel would need for the same best error.

        .. math:: \mathrm{eff}(\kappa) = \frac{\sigma_e\,\mu_e^{D/2}}{\sigma_\kappa\,
                  \mu_\kappa^{D/2}}

        with the radial Epanechnikov kernel above the line, so that nothing is above 1 among the
        radial ones. Source: the ratio under MM 5.51, which stands there upside down.
        """

        def log_cost(kernel: Kernel, form: str) -> float:
            scale = kernel.scale(dim=dim, form=form)
            return kernel._log_regularity(dim, form) + dim / 2 * math.log(scale)

        dim = _check.count("dim", dim)
        return math.exp(log_cost(KERNELS["epanechnikov"], "radial") - log_cost(self, form))

    def mise(
        self,
        bandwidth: float,
        *,
        n_memories: int,
        roughness: float,
        dim: int = 1,
        form: str = "radial",
    ) -> float:
        r"""Mean integrated squared error of the density estimate, to leading order.

        .. math:: \mathrm{MISE}(b) \approx \tfrac14 \mu_\kappa^2\, R\, b^4
                  + \frac{\sigma_\kappa}{K b^D}

        squared bias and variance, for small b and large :math:`K b^D`.

        Args:
            bandwidth: b > 0.
            n_memories: K, how many independent samples.
            roughness: :math:`R = \int (\nabla^2 p)^2 > 0` of the density they come from; in one
                dimension :math:`\int (p'')^2`. :func:`normal_roughness` has that of a normal one.

        Source: MM 5.49, in D dimensions.
        """
        b, n = _check.positive("bandwidth", bandwidth), _check.count("n_memories", n_memories)
        b, rough = float(b), float(_check.positive("roughness", roughness))
        variance = self._log_regularity(_check.count("dim", dim), form) - dim * math.log(b)
        return self.scale(dim=dim, form=form) ** 2 * rough * b**4 / 4 + _exp(variance) / n

    def optimal_bandwidth(
        self, *, n_memories: int, roughness: float, dim: int = 1, form: str = "radial"
    ) -> float:
        r"""The bandwidth at which :meth:`mise` is least.

        .. math:: b^* = \Bigl(\frac{D\,\sigma_\kappa}{\mu_\kappa^2\,R\,K}\Bigr)^{1/(D+4)}

        At it the variance is 4/D times the squared bias: the two are *not* equal. MM 5.50 sets them
        equal (a further factor 4 under the root, for D = 1), which is :math:`4^{1/5} = 1.32` times
        as wide. Arguments as :meth:`mise`.
        """
        n, dim = _check.count("n_memories", n_memories), _check.count("dim", dim)
        rough = float(_check.positive("roughness", roughness))
        log = math.log(dim / n) - math.log(rough) + self._log_regularity(dim, form)
        return math.exp((log - 2 * math.log(self.scale(dim=dim, form=form))) / (dim + 4))


def _log_sphere(dim: int) -> float:
    """Logarithm of the surface of the unit ball; in one dimension, two points."""
    return math.log(2) + dim / 2 * math.log(math.pi) - math.lgamma(dim / 2)


def _exp(x: float) -> float:
    return math.exp(x) if x < 709 else math.inf


KERNELS = {name: Kernel(name) for name in SHAPES}


def as_kernel(name: str, kernel: Any) -> Kernel:
    """Return the kernel that this is, or has this name."""
    return kernel if isinstance(kernel, Kernel) else KERNELS[_check.choice(name, kernel, KERNELS)]


# ---------------------------------------------------------------------------- bandwidths


def normal_roughness(dim: int = 1, *, spread: float = 1.0) -> float:
    r"""Roughness :math:`\int(\nabla^2 p)^2` of a round normal density in ``dim`` dimensions.

    .. math:: R = \frac{D(D+2)}{4}\,(2\sqrt\pi)^{-D}\,\mathrm{spread}^{-(D+4)}

    >>> round(normal_roughness(), 4)  # 3 / (8 sqrt(pi))
    0.2116
    """
    dim, spread = _check.count("dim", dim), float(_check.positive("spread", spread))
    log = -dim * math.log(2 * math.sqrt(math.pi)) - (dim + 4) * math.log(spread)
    return _exp(log + math.log(dim * (dim + 2) / 4))


def rule_of_thumb(
    memories: Tensor, *, kernel: Any = "epanechnikov", rule: str = "normal", form: str = "radial"
) -> float:
    r"""A bandwidth for these memories, as if they came from a round normal density.

    Args:
        memories: (K, D), K >= 2.
        kernel: a :class:`Kernel` or its name.
        rule: "normal" takes the root mean square of the standard deviations for the spread;
            "silverman" the smaller of that and the interquartile range / 1.349 (the mean over the
            entries), times 0.9/1.06: narrower, for densities with more than one hill.

    Returns:
        :meth:`Kernel.optimal_bandwidth` at that spread. It fails, and is too wide, where the
        density has many hills: it sees one.

    Raises:
        ValueError, TypeError: fewer than two memories, or no spread.
    """
    _check.finite("memories", _check.floating("memories", _check.matrix("memories", memories)))
    kernel = as_kernel("kernel", kernel)
    _check.choice("rule", rule, ("normal", "silverman"))
    points = memories.detach().double()
    n, dim = points.shape
    spread = float(points.var(0).mean().sqrt()) if n > 1 else 0.0
    if rule == "silverman" and n > 1:
        ends = torch.quantile(points, torch.tensor([0.25, 0.75]).to(points), dim=0)
        spread = min(spread, float((ends[1] - ends[0]).mean()) / 1.349) * 0.9 / 1.06
    if not spread > 0:
        raise ValueError(f"memories: got {n} of spread {spread:g}, expected two or more, apart")
    rough = normal_roughness(dim)  # at spread 1: powers of a small spread overflow
    return spread * kernel.optimal_bandwidth(n_memories=n, roughness=rough, dim=dim, form=form)


# ---------------------------------------------------------------------------- minima, for certain


def kernel_minima(memories: Tensor, *, kernel: Any = "epanechnikov", beta: float) -> Tensor:
    r"""All minima of a kernel energy on a line, for certain.

    The places where a memory comes into reach or leaves it cut the line into at most 2K + 1 pieces
    (3K + 1 for "tricube" and "triangle", which have a break at the memory itself), and on each the
    sum of kernels is one polynomial or one cosine. Its slope changes sign where we can say for
    certain: the peaks of the sum are the minima of the energy. A flat floor (between two memories
    of a triangle kernel, on every step of the uniform one) counts as one minimum, at its middle.

    Args:
        memories: (K,) or (K, 1) floating point.
        kernel: a :class:`Kernel` or its name; not "gaussian", which has no pieces.
        beta: > 0; memories are felt up to :math:`b = \sqrt{2/\beta}`.

    Returns:
        (M,) float64, sorted. Certain up to rounding: a minimum that a change of the memories in
        the 13th digit would make or unmake may be missed.

    >>> kernel_minima(torch.tensor([0.0, 1.2]), beta=2.0)  # one each, and one between
    tensor([0.0000, 0.6000, 1.2000], dtype=torch.float64)
    """
    _check.floating("memories", memories)
    if memories.numel() == 0 or memories.ndim not in (1, 2) or memories.shape[1:] not in ((), (1,)):
        raise ValueError(f"memories: got a {_check.describe(memories)}, expected (K,) or (K, 1)")
    _check.finite("memories", memories)
    kernel = as_kernel("kernel", kernel)
    if kernel.name == "gaussian":
        raise ValueError("kernel = 'gaussian': expected a kernel that ends at z = 1")
    b = math.sqrt(2 / float(_check.positive("beta", beta)))
    places = np.sort(memories.detach().reshape(-1).double().cpu().numpy())
    centre = places[len(places) // 2]
    z = (places - centre) / b
    found = _steps(z) if kernel.name == "uniform" else _peaks(z, kernel.name)
    return torch.tensor(found, dtype=torch.float64) * b + centre


def _pieces(z: np.ndarray, *, at_memories: bool):
    """Yield the ends of each piece and the memories in reach of it; z is sorted, the radius 1."""
    cuts = np.unique(np.concatenate([z - 1, z + 1, *([z] if at_memories else [])]))
    for low, high in itertools.pairwise(cuts):
        middle = (low + high) / 2
        yield low, high, z[np.searchsorted(z, middle - 1) : np.searchsorted(z, middle + 1)]


def _steps(z: np.ndarray) -> list[float]:
    """Middles of the steps of the uniform kernel that are higher than both their neighbours."""
    runs: list[list[float]] = [[-math.inf, z[0] - 1, 0]]
    for low, high, near in _pieces(z, at_memories=False):
        if runs[-1][2] == len(near):
            runs[-1][1] = high
        else:
            runs.append([low, high, len(near)])
    runs.append([z[-1] + 1, math.inf, 0])
    three = zip(runs, runs[1:], runs[2:], strict=False)
    return [(low + high) / 2 for (*_, a), (low, high, n), (*_, c) in three if a < n > c]


def _peaks(z: np.ndarray, name: str) -> list[float]:
    """Where the slope of the sum of kernels goes from above zero to below."""
    found, rising, since = [], False, 0.0
    for low, high, near in _pieces(z, at_memories=name in ("triangle", "tricube")):
        for start, sign in _signs(low, high, near, name):
            if sign > 0:
                rising, since = True, math.nan
            elif sign < 0:
                if rising:  # a floor, if there was one, lies between since and start
                    found.append(start if math.isnan(since) else (since + start) / 2)
                rising = False
            elif rising and math.isnan(since):
                since = start
    return found


def _signs(low: float, high: float, near: np.ndarray, name: str) -> list[tuple[float, int]]:
    """Signs of the slope on one piece, each with the place from which it holds."""
    middle, half = (low + high) / 2, (high - low) / 2
    if len(near) == 0:
        return [(low, 0)]
    if name == "triangle":
        return [(low, int(np.sign((near > middle).sum() - (near < middle).sum())))]
    if name == "epanechnikov":
        roots = [float((near - middle).mean())]
    elif name == "cosine":
        angle = _HALF_PI * (near - middle)
        roots = [math.atan2(np.sin(angle).sum(), np.cos(angle).sum()) / _HALF_PI]
    else:
        slope = _slope_polynomial(near - middle, name)
        roots = _roots(slope, half)
        ends = [-half, *roots, half]
        values = [np.polynomial.polynomial.polyval((a + c) / 2, slope) for a, c in _pairs(ends)]
        return [(middle + e, int(np.sign(v))) for e, v in zip(ends, values, strict=False)]
    if roots[0] <= -half:
        return [(low, -1)]
    return [(low, 1)] + ([(middle + roots[0], -1)] if roots[0] < half else [])


def _pairs(ends: list[float]) -> list[tuple[float, float]]:
    return list(itertools.pairwise(ends))


#: the kernels that are polynomials, as {power of z: coefficient}
_POLYNOMIALS = {
    "quartic": {0: 1, 2: -2, 4: 1},
    "triweight": {0: 1, 2: -3, 4: 3, 6: -1},
    "tricube": {0: 1, 3: -3, 6: 3, 9: -1},
}


def _slope_polynomial(at: np.ndarray, name: str) -> np.ndarray:
    """Slope of sum kappa(|t - at|) as a polynomial in t, lowest power first."""
    powers = _POLYNOMIALS[name]
    out = np.zeros(max(powers) + 1)
    side = np.where(at < 0, 1.0, -1.0)  # |t - at| = side (t - at) on the whole piece
    for k, c in powers.items():
        for j in range(k + 1):
            out[j] += c * math.comb(k, j) * (side**k * (-at) ** (k - j)).sum()
    return np.polynomial.polynomial.polyder(out)


def _roots(poly: np.ndarray, half: float) -> list[float]:
    """Where a polynomial changes sign in (-half, half): between its extrema, by halving."""
    if len(poly) < 2:
        return []
    ends = [-half, *_roots(np.polynomial.polynomial.polyder(poly), half), half]
    value = np.polynomial.polynomial.polyval(ends, poly)
    least = 1e-13 * np.abs(poly * np.float64(half) ** np.arange(len(poly))).sum()
    found = []
    for (a, c), (va, vc) in zip(_pairs(ends), itertools.pairwise(value), strict=True):
        if min(va, vc) < -least and max(va, vc) > least:
            for _ in range(60):
                m = (a + c) / 2
                vm = np.polynomial.polynomial.polyval(m, poly)
                a, c = (m, c) if (vm > 0) == (va > 0) else (a, m)
            found.append((a + c) / 2)
    return found


def lsr_minima(memories: Tensor, *, beta: float, starts: Tensor | None = None) -> Tensor:
    r"""Minima of the LSR energy: every mean of memories that is felt by just those memories.

    Where the set A of memories in reach stays the same, the sum of ReLUs is one bowl upside down
    with its top at the mean of A; where a memory comes into reach the sum only gains. So x is a
    minimum if and only if it is the mean of the memories in reach of x, and each is strict.

    * In one and two dimensions **all** are found: every set A is met on a piece of the line, or at
      a crossing of two circles of radius :math:`\sqrt{2/\beta}`, or on a circle nobody crosses.
    * In more dimensions those are found that a descent by full steps reaches from ``starts`` (the
      memories and the middles of two and of three neighbours unless given). Each is certain; their
      number is a lower bound.

    Args:
        memories: (K, D) floating point.
        beta: > 0.
        starts: (N, D), used from three dimensions on.

    Returns:
        (M, D) float64.

    Source: MM 5.52 and Fig 5.8.
    """
    _check.finite("memories", _check.floating("memories", _check.matrix("memories", memories)))
    reach = 2 / float(_check.positive("beta", beta))
    points = memories.detach().double().unique(dim=0)
    copies = _copies(points, memories.detach().double())
    if starts is not None:
        _check.last_dim("starts", _check.floating("starts", starts), points.shape[1])
        starts = _check.finite("starts", _check.matrix("starts", starts)).detach().double()
    if points.shape[1] == 1:
        return kernel_minima(memories, beta=beta)[:, None]
    if points.shape[1] == 2:
        sets = _sets_in_the_plane(points, reach)
    else:
        begin = _middles(points, reach) if starts is None else starts.to(points.device)
        sets = _climb(begin, points, copies, reach)
    sets = sets[sets.any(1)].unique(dim=0)
    means = _means(sets, points, copies)
    good = torch.cat(
        [
            (_felt(m, points, reach) == s).all(1)
            for m, s in zip(means.split(2048), sets.split(2048), strict=True)
        ]
    )
    return means[good]


def _copies(points: Tensor, memories: Tensor) -> Tensor:
    _, label = memories.unique(dim=0, return_inverse=True)
    return label.bincount(minlength=len(points)).double()


def _felt(x: Tensor, points: Tensor, reach: float) -> Tensor:
    """Which points are nearer than the radius, (N, K)."""
    # not by matrix products: these distances decide, and rounding must not
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cdist(x, points, compute_mode=exact) < math.sqrt(reach)


def _means(sets: Tensor, points: Tensor, copies: Tensor) -> Tensor:
    weights = sets * copies
    centre = points.mean(0)
    return weights @ (points - centre) / weights.sum(1, keepdim=True) + centre


def _climb(x: Tensor, points: Tensor, copies: Tensor, reach: float) -> Tensor:
    """Jump to the mean of the points in reach until that set stays the same; return the sets."""
    out = []
    for part in x.split(1024):
        felt = _felt(part, points, reach)
        felt = felt[felt.any(1)]
        while len(felt):  # the sum rises with every jump, and there are finitely many sets
            new = _felt(_means(felt, points, copies), points, reach)
            moved = (new != felt).any(1)
            out.append(felt[~moved])
            felt = new[moved].unique(dim=0)
    return torch.cat(out) if out else points.new_zeros(0, len(points), dtype=torch.bool)


def _middles(points: Tensor, reach: float) -> Tensor:
    """The memories, and the middles of two and of three neighbours."""
    order = torch.cdist(points, points).argsort(1)[:, : 1 + min(8, len(points) - 1)]
    near = points[order]  # each with its nearest
    pairs = (near[:, :1] + near[:, 1:]) / 2
    threes = [
        (near[:, 0] + near[:, i] + near[:, j]) / 3
        for i, j in itertools.combinations(range(1, near.shape[1]), 2)
    ]
    return torch.cat([points, pairs.reshape(-1, points.shape[1]), *threes])


def _sets_in_the_plane(points: Tensor, reach: float) -> Tensor:
    """Every set of memories that some point of the plane feels (and a few that none does)."""
    first, second = torch.triu_indices(len(points), len(points), 1)
    across = points[second] - points[first]
    quarter = across.square().sum(1) / 4
    meet = quarter <= reach
    first, second, across = first[meet], second[meet], across[meet]
    side = torch.stack([-across[:, 1], across[:, 0]], 1) / across.norm(dim=1, keepdim=True)
    side = side * (reach - quarter[meet]).sqrt()[:, None]
    middle = points[first] + across / 2
    own = points + points.new_tensor([reach**0.5, 0.0])  # a point on each circle
    corners = torch.cat([middle + side, middle - side, own])
    out = []
    for part in corners.split(2048):
        square = (part[:, None] - points).square().sum(-1)
        edge = (square - reach).abs() <= 1e-9 * reach  # circles through this corner
        inside = (square < reach) & ~edge
        out.append(_with_any_of(inside, edge))
    return torch.cat(out)


def _with_any_of(inside: Tensor, edge: Tensor) -> Tensor:
    """Each set with every subset of its edge (of the first ten, should more circles meet)."""
    out = []
    for n in edge.sum(1).unique().tolist():
        rows = edge.sum(1) == n
        base, rim = inside[rows], edge[rows].nonzero()[:, 1].reshape(int(rows.sum()), n)[:, :10]
        for choice in itertools.product((False, True), repeat=rim.shape[1]):
            picks = torch.tensor(choice, dtype=torch.bool, device=base.device)
            out.append(base.scatter(1, rim, picks.expand(len(rim), -1)))
    return torch.cat(out)
