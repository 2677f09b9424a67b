r"""Separation functions F, and how strongly a memory pulls at one bit, without rounding errors.

A bit compares two energies (MM 2.2), so only the *sign* of a sum over memories matters:

.. math:: \mathrm{sign} \sum_\mu \xi^\mu_i\, G(c_\mu), \qquad G(c) = F(c+1) - F(c-1),
          \qquad c_\mu = \sum_{j \ne i} \xi^\mu_j \sigma_j

Overlaps c are whole numbers between -D and D, so G is a table. Sums over it run in float64, with a
bound on their error; where rounding could decide, :func:`exact_sign` does it in whole numbers.
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
    result = None
    while n:
        if n & 1:
            result = x if result is None else result * x
        n >>= 1
        x = x * x if n else x
    return result


@dataclass(frozen=True)
class Polynomial:
    r"""Separation function :math:`F(m) = m^n`, :math:`f(m) = n\,m^{n-1}` (MM 2.13).

    n = 2 is the Hopfield network. For even n a pattern and its negative have the same energy.

    Raises:
        ValueError: n is not a whole number >= 1.

    >>> Polynomial(3)(torch.tensor([0.5, -1.0])).tolist()
    [0.125, -1.0]
    """

    n: int
    relative = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", _check.count("n", self.n))

    def __call__(self, m: Tensor) -> Tensor:
        """Return F(m)."""
        return power(m, self.n)

    def derivative(self, m: Tensor) -> Tensor:
        """Return f(m) = F'(m)."""
        return self.n * m ** (self.n - 1)

    def energy(self, m: Tensor, dim: int) -> Tensor:
        """Return -sum F(m) over the last dimension (``dim`` plays no part here)."""
        return -self(m).sum(-1)

    def whole(self, s: int, *, slope: bool = False) -> int:
        """Return F (or f / n) at a raw overlap ``s`` as a Python integer, whatever its size."""
        return s ** (self.n - 1) if slope else s**self.n


@dataclass(frozen=True)
class RectifiedPolynomial(Polynomial):
    r"""Separation function :math:`F(m) = \max(m, 0)^n`: only agreement counts, no inverted twins.

    Raises:
        ValueError: n is not a whole number >= 1.

    >>> RectifiedPolynomial(3)(torch.tensor([0.5, -1.0])).tolist()
    [0.125, 0.0]
    """

    def __call__(self, m: Tensor) -> Tensor:
        """Return F(m)."""
        return power(m.clamp_min(0), self.n)

    def derivative(self, m: Tensor) -> Tensor:
        """Return f(m) = F'(m), and 0 at m = 0."""
        return self.n * m.clamp_min(0) ** (self.n - 1) * (m > 0)

    def whole(self, s: int, *, slope: bool = False) -> int:
        """Return F (or f / n) at a raw overlap ``s`` as a Python integer, whatever its size."""
        return super().whole(s, slope=slope) if s > 0 else 0


@dataclass(frozen=True)
class Exponential:
    r"""Separation function :math:`F = e^{\beta D m}`, with the energy in log space (MM 2.22, 2.23).

    .. math:: E = -\frac{1}{\beta D} \log \sum_\mu e^{\beta D m_\mu}

    The logarithm is monotone: it changes no decision, and keeps D = 10 000 finite in float32.
    ``beta`` > 0 multiplies the raw overlap; the paper has beta = 1.

    Raises:
        ValueError: beta is not a finite number > 0.

    >>> m = torch.tensor([[1.0, -0.2], [0.5, 0.5]])
    >>> Exponential().energy(m, 10_000).tolist()
    [-1.0, -0.5000693202018738]
    """

    beta: float = 1.0
    relative = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "beta", float(_check.positive("beta", self.beta)))

    def energy(self, m: Tensor, dim: int) -> Tensor:
        """Return -(1 / beta D) logsumexp(beta D m) over the last dimension."""
        scale = self.beta * dim
        return -torch.logsumexp(scale * m, -1) / scale


Separation = Polynomial | RectifiedPolynomial | Exponential


# ------------------------------------------------------------------ pulls and exact signs


@dataclass(frozen=True)
class Pull:
    """How strongly a memory pulls at a bit, tabulated in float64 over whole-number overlaps.

    ``vote`` is G(c) at clamped overlaps c: F(c+1) - F(c-1) by the exact rule, f(c) by the gradient
    rule; a bit's vote is sum xi G(c). ``side`` and ``bend`` are (G(h-1) +- G(h+1)) / 2 at full
    overlaps h, see ``_margins``. ``slack`` bounds the relative rounding error of a sum over the
    memories (0: it is exact), and one unit of the tables is ``unit`` in energy. ``relative``
    tables are scaled by the largest overlap of each row.
    """

    vote: Tensor
    side: Tensor
    bend: Tensor
    offset: int
    relative: bool
    slack: float
    unit: float

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

    def to(self, device: torch.device) -> Pull:
        """Return the same tables on another device."""
        if self.vote.device == device:
            return self
        moved = {name: getattr(self, name).to(device) for name in ("vote", "side", "bend")}
        return replace(self, **moved)


@lru_cache(maxsize=32)
def tabulate(separation: Separation, dim: int, n_patterns: int, rule: str) -> Pull:
    """Tabulate G over every clamped overlap -(D+1)..D+1 that can occur."""
    slack = (n_patterns + 4) * 2.0**-52
    if separation.relative:  # G(c) = 2 sinh(beta) e^(beta c) by either rule, so tabulate e^(...)
        steps = separation.beta * torch.arange(-2 * dim - 4, 3, dtype=torch.float64)
        pull, unit, offset = steps.exp(), 2 * math.sinh(separation.beta), 2 * dim + 3
    else:
        whole = [_whole_pull(separation, c, rule) for c in range(-dim - 1, dim + 2)]
        top = max(1, *map(abs, whole))
        shift = max(0, top.bit_length() - 900)  # a power of two keeps small whole numbers exact
        values = [g / (1 << shift) for g in whole]  # Python rounds the true quotient correctly
        pull, unit = torch.tensor(values, dtype=torch.float64), (1 << shift) / dim**separation.n
        offset = dim
        slack = 0.0 if 4 * top * n_patterns < 2**53 else slack
    below, above = pull[:-2], pull[2:]
    side, bend = (below + above) / 2, (below - above) / 2
    return Pull(pull[1:-1].clone(), side, bend, offset, separation.relative, slack, unit)


def _whole_pull(separation: Polynomial, c: int, rule: str) -> int:
    """Return G(c) of a polynomial as a whole number of any size."""
    if rule == "gradient":
        return separation.whole(c, slope=True)
    return separation.whole(c + 1) - separation.whole(c - 1)


def exact_sign(separation: Separation, xi: Tensor, clamped: Tensor, rule: str) -> int:
    """Return the sign of sum xi G(clamped) over one row of K memories, without any rounding.

    Equal overlaps of opposite votes cancel first. What is left of a polynomial is summed in whole
    numbers; what is left of an exponential cannot be zero (e^beta is transcendental) and is
    summed with as many digits as its sign needs.
    """
    votes: Counter[int] = Counter()
    for want, overlap in zip(xi.tolist(), clamped.tolist(), strict=True):
        votes[overlap] += want
    votes = Counter({c: v for c, v in votes.items() if v})
    if not votes:
        return 0
    if not separation.relative:
        total = sum(v * _whole_pull(separation, c, rule) for c, v in votes.items())
        return (total > 0) - (total < 0)
    top, digits = max(votes), 40
    while True:
        with localcontext() as context:
            context.prec = digits
            beta = Decimal(separation.beta)
            terms = [v * (beta * (c - top)).exp() for c, v in votes.items()]
            total, size = sum(terms), sum(map(abs, terms))
            if abs(total) > size * Decimal(10) ** (len(terms).bit_length() + 2 - digits):
                return 1 if total > 0 else -1
        digits *= 2
