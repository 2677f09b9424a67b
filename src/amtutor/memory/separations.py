r"""Separation functions F, and how strongly a memory votes at one bit, without rounding errors.

A bit compares two energies (MM 2.2), so only the *sign* of a sum over memories matters:

.. math:: \mathrm{sign} \sum_\mu \xi^\mu_i\, G(c_\mu), \qquad G(c) = F(c+1) - F(c-1),
          \qquad c_\mu = \sum_{j \ne i} \xi^\mu_j \sigma_j

Overlaps c are whole numbers between -D and D, so G is a table. Sums over it run in float64, with a
bound on their error; where rounding could decide, :func:`exact_sign` does it in whole numbers.

The words that go with it, here and in :mod:`amtutor.fast`:

======== ===========================================================================================
clamped  an overlap c without the bit that is asked; with the bit it is h = c + p, p = xi sigma
vote     xi G(c), what a memory says at a bit; the sum of all votes decides
level    and *tilt* are the two halves of G as a function of h, G(h - p) = level(h) + p tilt(h), so
         that all bits are asked by one matrix product (``margins``)
margin   the sum of votes times the bit: by how much the bit is held; negative, it wants to flip
slack    a bound on the rounding error of such a sum; inside it, whole numbers decide
======== ===========================================================================================
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from decimal import Decimal, localcontext
from functools import lru_cache

import torch
from torch import Tensor

from amtutor import _check

__all__ = ["RULES", "Exponential", "Polynomial", "RectifiedPolynomial", "Separation", "exact_sign"]

RULES = ("exact", "gradient")


def power(x: Tensor, n: int) -> Tensor:
    """Return x^n, n >= 1, by squaring: some five times faster than ``torch.pow``, and as exact.

    >>> power(torch.tensor([-1.5, 2.0]), 5).tolist()
    [-7.59375, 32.0]
    """
    result: Tensor | None = None
    while n:
        if n & 1:
            result = x if result is None else result * x
        n >>= 1
        x = x * x if n else x
    if result is None:
        raise _check.fail("n", n, "a whole number >= 1")
    return result


def _overlaps(m: Tensor, dim: int) -> Tensor:
    """Check what every formula of F is given; return the overlaps."""
    _check.count("dim", dim)
    return _check.array("m", m)


def _of_memories(m: Tensor, dim: int) -> Tensor:
    """Check what an energy is given: at least one memory's overlap, in the last dimension."""
    _check.floating("m", _overlaps(m, dim))
    if m.ndim == 0 or m.shape[-1] == 0:
        raise ValueError(f"m: got a {_check.describe(m)}, expected overlaps (..., K), K >= 1")
    return m


class Separation:
    """What a binary memory needs of F, a function of the overlap m = xi . sigma / D.

    ``F(m, dim)`` and ``F.derivative(m, dim)`` are plain formulas; ``F.energy(m, dim)`` is -sum F,
    or a monotone function of it that cannot overflow. ``dim`` is D, which only the exponential
    needs. ``relative``: only ratios of votes matter, so tables are scaled by the largest.
    """

    relative = False
    n: int  # of one that is not: overlaps s count as F(s / D) = whole(s) / D^n
    beta: float  # of a relative one: votes go as e^(beta c)

    def __call__(self, m: Tensor, dim: int = 1) -> Tensor:
        """Return F(m)."""
        raise NotImplementedError

    def derivative(self, m: Tensor, dim: int = 1) -> Tensor:
        """Return f(m) = F'(m)."""
        raise NotImplementedError

    def energy(self, m: Tensor, dim: int) -> Tensor:
        """Return -sum F(m) over the last dimension."""
        return -self(_of_memories(m, dim), dim).sum(-1)

    def whole(self, s: int, *, slope: bool = False) -> int:
        """Return F (or f / n) at a raw overlap ``s`` as a whole number; no relative one has it."""
        raise NotImplementedError


@dataclass(frozen=True)
class Polynomial(Separation):
    r"""Separation function :math:`F(m) = m^n`, :math:`f(m) = n\,m^{n-1}` (MM 2.13).

    n = 2 is the Hopfield network. For even n a pattern and its negative have the same energy.

    Raises:
        ValueError: n is not a whole number from 1 to 1000.

    >>> Polynomial(3)(torch.tensor([0.5, -1.0])).tolist()
    [0.125, -1.0]
    """

    n: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", _check.count("n", self.n, most=1000))

    def __call__(self, m: Tensor, dim: int = 1) -> Tensor:
        """Return F(m)."""
        return power(_overlaps(m, dim), self.n)

    def derivative(self, m: Tensor, dim: int = 1) -> Tensor:
        """Return f(m) = F'(m)."""
        return self.n * _overlaps(m, dim) ** (self.n - 1)

    def whole(self, s: int, *, slope: bool = False) -> int:
        """Return F (or f / n) at a raw overlap ``s`` as a Python integer, whatever its size."""
        return s ** (self.n - 1) if slope else s**self.n


@dataclass(frozen=True)
class RectifiedPolynomial(Polynomial):
    r"""Separation function :math:`F(m) = \max(m, 0)^n`: only agreement counts, no inverted twins.

    Raises:
        ValueError: n is not a whole number from 1 to 1000.

    >>> RectifiedPolynomial(3)(torch.tensor([0.5, -1.0])).tolist()
    [0.125, 0.0]
    """

    def __call__(self, m: Tensor, dim: int = 1) -> Tensor:
        """Return F(m)."""
        return power(_overlaps(m, dim).clamp_min(0), self.n)

    def derivative(self, m: Tensor, dim: int = 1) -> Tensor:
        """Return f(m) = F'(m), and 0 at m = 0."""
        return self.n * _overlaps(m, dim).clamp_min(0) ** (self.n - 1) * (m > 0)

    def whole(self, s: int, *, slope: bool = False) -> int:
        """Return F (or f / n) at a raw overlap ``s`` as a Python integer, whatever its size."""
        return super().whole(s, slope=slope) if s > 0 else 0


@dataclass(frozen=True)
class Exponential(Separation):
    r"""Separation function :math:`F = e^{\beta D m}`, with the energy in log space (MM 2.22, 2.23).

    .. math:: E = -\frac{1}{\beta D} \log \sum_\mu e^{\beta D m_\mu}

    The logarithm is monotone: it changes no decision, and keeps D = 10 000 finite in float32.
    ``beta`` multiplies the raw overlap; the paper has beta = 1.

    Raises:
        ValueError: beta is not a number from 1e-30 to 1e300.

    >>> m = torch.tensor([[1.0, -0.2], [0.5, 0.5]])
    >>> Exponential().energy(m, 10_000).tolist()
    [-1.0, -0.5000693202018738]
    """

    beta: float = 1.0
    relative = True

    def __post_init__(self) -> None:
        beta = _check.between("beta", self.beta, 1e-30, 1e300)
        object.__setattr__(self, "beta", beta)

    def __call__(self, m: Tensor, dim: int = 1) -> Tensor:
        """Return F(m); inf where the dtype cannot hold it, which :meth:`energy` never meets."""
        return (_overlaps(m, dim) * (self.beta * dim)).exp()

    def derivative(self, m: Tensor, dim: int = 1) -> Tensor:
        """Return f(m) = F'(m)."""
        return self(m, dim) * (self.beta * dim)

    def energy(self, m: Tensor, dim: int) -> Tensor:
        """Return -(1 / beta D) logsumexp(beta D m) over the last dimension."""
        m = _of_memories(m, dim)
        scale = min(self.beta * dim, torch.finfo(m.dtype).max / 8)  # |m - top| is at most 2
        top = m.amax(-1, keepdim=True)
        return -(top[..., 0] + torch.logsumexp(scale * (m - top), -1) / scale)


# ------------------------------------------------------------------ votes and exact signs


@dataclass(frozen=True)
class Votes:
    """G of one separation, tabulated in float64 over whole-number overlaps.

    ``clamped`` is G(c) at overlaps without the bit: F(c+1) - F(c-1) by the exact rule, f(c) by the
    gradient rule. ``level`` and ``tilt`` are (G(h-1) +- G(h+1)) / 2 at full overlaps h. ``slack``
    bounds the relative rounding error of a sum over the memories (0: it is exact). ``relative``
    tables are scaled by the largest overlap of each row.
    """

    clamped: Tensor
    level: Tensor
    tilt: Tensor
    offset: int
    relative: bool
    slack: float

    def index(self, overlaps: Tensor) -> Tensor:
        """Return where the overlaps (Q, K) of each row lie in the tables."""
        index = overlaps.long() + self.offset
        if self.relative:
            index = (index - overlaps.amax(-1, keepdim=True)).clamp_min_(0)
        return index

    @staticmethod
    def look_up(table: Tensor, index: Tensor) -> Tensor:
        """Return table[index] (gather is several times faster here than indexing)."""
        return table.expand(len(index), -1).gather(1, index)

    def to(self, device: torch.device) -> Votes:
        """Return the same tables on another device."""
        if self.clamped.device == device:
            return self
        moved = {name: getattr(self, name).to(device) for name in ("clamped", "level", "tilt")}
        return replace(self, **moved)


@lru_cache(maxsize=32)
def tabulate(separation: Separation, dim: int, n_patterns: int, rule: str) -> Votes:
    """Tabulate G over every clamped overlap -(D+1)..D+1 that can occur."""
    slack = (n_patterns + 4) * 2.0**-52
    if separation.relative:  # G(c) = 2 sinh(beta) e^(beta c) by either rule; the top one counts 1
        steps = separation.beta * torch.arange(-2 * dim - 3, 2, dtype=torch.float64).clamp_max(0)
        table = steps.exp()  # level and tilt are cosh(beta) and -sinh(beta) times it: over cosh
        tilt = -math.tanh(separation.beta) * table
        return Votes(table, table, tilt, 2 * dim + 3, True, slack)
    table, _ = _scaled([_whole_vote(separation, c, rule) for c in range(-dim - 1, dim + 2)])
    slack = 0.0 if 4 * float(table.abs().max()) * n_patterns < 2**53 else slack
    below, above = table[:-2], table[2:]
    return Votes(table[1:-1].clone(), (below + above) / 2, (below - above) / 2, dim, False, slack)


def _scaled(whole: list[int]) -> tuple[Tensor, int]:
    """Return whole numbers of any size as float64, over a power of two, and that power.

    The power is 0 wherever doubles hold the numbers; Python rounds the true quotient correctly.
    """
    shift = max(0, max(1, *map(abs, whole)).bit_length() - 900)
    return torch.tensor([g / (1 << shift) for g in whole], dtype=torch.float64), shift


@lru_cache(maxsize=32)
def steps_of(separation: Separation, dim: int) -> tuple[Tensor, Tensor, float]:
    """Return F(h-2) - F(h) and F(h+2) - F(h) at h = -D..D, and their unit: what a flip changes.

    A memory cannot lose at -D nor gain at D: zero there.
    """
    whole = [separation.whole(h) for h in range(-dim, dim + 1)]
    down = [0, 0, *(a - b for a, b in zip(whole[:-2], whole[2:], strict=True))]
    up = [*(b - a for a, b in zip(whole[:-2], whole[2:], strict=True)), 0, 0]
    table, shift = _scaled(down + up)
    return table[: 2 * dim + 1], table[2 * dim + 1 :], (1 << shift) / dim**separation.n


def _whole_vote(separation: Separation, c: int, rule: str) -> int:
    """Return G(c) of a polynomial as a whole number of any size."""
    if rule == "gradient":
        return separation.whole(c, slope=True)
    return separation.whole(c + 1) - separation.whole(c - 1)


def exact_sign(separation: Separation, xi: Tensor, clamped: Tensor, rule: str) -> int:
    """Return the sign of sum xi G(clamped) over one row of K memories, without any rounding.

    Equal overlaps of opposite votes cancel first. What is left of a polynomial is summed in whole
    numbers; what is left of an exponential cannot be zero (e^beta is transcendental) and is
    summed with as many digits as its sign needs.

    Args:
        xi: (K,) of -1 and +1, what each memory wants; clamped: (K,) whole numbers.
        rule: "exact" or "gradient".

    Raises:
        ValueError, TypeError: an unknown separation or rule, shapes that do not fit.

    >>> wants, overlaps = torch.tensor([1, -1, -1]), torch.tensor([1000, 999, 999])
    >>> exact_sign(Exponential(), wants, overlaps, "exact")  # e^1000 - 2 e^999 > 0: e > 2
    1
    """
    if not isinstance(separation, Separation):
        raise TypeError(f"separation: got {_check.describe(separation)}, expected a Separation")
    _check.choice("rule", rule, RULES)
    _check.shape("xi", _check.array("xi", xi), ("K",))
    _check.shape("clamped", _check.array("clamped", clamped), tuple(xi.shape))
    return sign_of(separation, xi.tolist(), clamped.tolist(), rule)


def sign_of(separation: Separation, xi: list, clamped: list, rule: str) -> int:
    """The kernel of :func:`exact_sign`."""
    votes: Counter[int] = Counter()
    for want, overlap in zip(xi, clamped, strict=True):
        votes[int(overlap)] += int(want)
    votes = Counter({c: v for c, v in votes.items() if v})
    if not votes:
        return 0
    if not separation.relative:
        whole = sum(v * _whole_vote(separation, c, rule) for c, v in votes.items())
        return (whole > 0) - (whole < 0)
    top, digits = max(votes), 40
    while True:
        with localcontext() as context:
            context.prec = digits
            beta = Decimal(separation.beta)
            terms = [v * (beta * (c - top)).exp() for c, v in votes.items()]
            total, size = sum(terms, Decimal(0)), sum(map(abs, terms), Decimal(0))
            if abs(total) > size * Decimal(10) ** (len(terms).bit_length() + 2 - digits):
                return 1 if total > 0 else -1
        digits *= 2
