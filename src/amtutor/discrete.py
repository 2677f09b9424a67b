r"""Binary dense associative memory: K patterns of D bits, one energy, one bit at a time.

.. math:: E(\sigma) = -\sum_{\mu=1}^{K} F(m_\mu), \qquad m_\mu = \tfrac1D\, \xi^\mu \cdot \sigma,
          \qquad \sigma, \xi^\mu \in \{-1, +1\}^D

**Scale.** MM 2.1 sums F over raw overlaps :math:`\xi \cdot \sigma`, with :math:`F(s) = s^n/n`. We
divide overlaps by D, so that :math:`E = -1` reads as "one memory matched perfectly" and nothing
overflows. The factor :math:`D^n/n` is the same for every state, so every decision is the paper's.

**Exact.** A bit compares two energies (MM 2.2), so only a *sign* matters, and that sign is computed
without error: overlaps are whole numbers, F is tabulated over them, sums run in float64, and where
rounding could decide (a tie, or nearly one) the sum is repeated in whole-number arithmetic. On a
tie the bit stays as it is.

**Cheap.** Recall keeps the K overlaps and updates them: O(K) a visit instead of O(K D).
:meth:`DiscreteDenseAM.flip_gains` gets the gain of all D flips from one matrix product, which
is how a fixed point is certified.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor

from amtutor import _check
from amtutor.descent import Trajectory

__all__ = [
    "DiscreteDenseAM",
    "ErrorRate",
    "Exponential",
    "Polynomial",
    "Recall",
    "RectifiedPolynomial",
    "capacity",
    "error_probability",
    "measure_error_rate",
    "noise_variance",
    "sign_sum_moment",
    "visit_by_definition",
    "wilson_interval",
]

RULES = ("exact", "gradient")
ORDERS = ("random", "sequential", "synchronous")
CHUNK = 2**16  # overlaps (queries x memories) worked on at once: they fit a core's cache


# ------------------------------------------------------------------ separation functions


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
        return m**self.n

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
        return m.clamp_min(0) ** self.n

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


# ------------------------------------------------------------------ the definition, and the class


def visit_by_definition(
    energy: Callable[[Tensor], Tensor], state: Tensor, visits: Tensor
) -> Tensor:
    r"""Visit bits in order; each takes the value of the lower energy (MM 2.2, read literally).

    Slow, and works for *any* energy of a binary state, such as Q[sum F(S)] of MM 2.23. On a tie,
    the bit stays.

    Args:
        energy: maps (D,) to one value; called twice a visit.
        state: (D,), entries -1 and +1. Not modified.
        visits: (T,) whole numbers in 0..D-1.

    >>> agree = lambda s: -(s @ torch.tensor([1.0, -1.0, 1.0])) ** 2
    >>> visit_by_definition(agree, torch.tensor([1.0, 1.0, 1.0]), torch.arange(3)).tolist()
    [1.0, -1.0, 1.0]
    """
    state = state.clone()
    for i in visits.tolist():
        flipped = state.clone()
        flipped[i] = -state[i]
        if energy(flipped) < energy(state):
            state = flipped
    return state


@dataclass(frozen=True)
class Recall:
    """Where a recall ended.

    ``state`` has the shape and values (-1, +1) of the query; ``energy``, ``sweeps`` (int64: sweeps
    in which at least one bit flipped) and ``converged`` (bool: no single visit would flip a bit)
    have the batch shape. ``trajectory`` is None unless asked for; then its first frame is the
    query and its last the answer.
    """

    state: Tensor
    energy: Tensor
    sweeps: Tensor
    converged: Tensor
    trajectory: Trajectory | None = None


class DiscreteDenseAM:
    r"""Dense associative memory over binary states, E = -sum F(m) (MM 2.1).

    Args:
        patterns: (K, D) of -1 and +1 (bool: False is -1); a tensor or array of any real dtype.
        separation: ``Polynomial(n)``, ``RectifiedPolynomial(n)`` or ``Exponential()``.

    States may be of any real dtype too; answers come in the dtype of ``patterns`` (float32 where
    those are whole numbers) and on their device.

    Raises:
        ValueError, TypeError: patterns of a wrong shape, empty, or other than -1 and +1.

    >>> xi = torch.tensor([[1, 1, 1, 1, 1], [1, -1, 1, -1, 1]])
    >>> memory = DiscreteDenseAM(xi, RectifiedPolynomial(3))
    >>> answer = memory.recall(torch.tensor([-1, 1, 1, 1, 1]), order="sequential")
    >>> answer.state.tolist(), answer.sweeps.item(), answer.converged.item()
    ([1.0, 1.0, 1.0, 1.0, 1.0], 1, True)
    """

    def __init__(self, patterns: Any, separation: Separation):
        if not isinstance(separation, Separation):
            raise TypeError(
                f"separation: got {_check.describe(separation)}, expected Polynomial(n), "
                "RectifiedPolynomial(n) or Exponential()"
            )
        self.patterns = _check.matrix("patterns", _spins("patterns", patterns))
        self.separation = separation
        self.n_patterns, self.dim = self.patterns.shape
        self._columns = self.patterns.T.to(torch.int8).contiguous()  # (D, K)
        self._twin = None

    def __repr__(self) -> str:
        return f"DiscreteDenseAM(K={self.n_patterns}, D={self.dim}, {self.separation})"

    def energy(self, state: Any) -> Tensor:
        r"""Return E (\*batch) of states (\*batch, D); -1: one memory matched perfectly (MM 2.1)."""
        rows, batch = self._rows(state)
        parts = [
            self.separation.energy(
                self._overlaps(part).to(self.patterns.dtype) / self.dim, self.dim
            )
            for part in rows.split(self._chunk)
        ]
        return torch.cat(parts).reshape(batch)

    def flip_gains(self, state: Any) -> Tensor:
        r"""Return how much flipping each bit would lower the energy, all D of them at once.

        With whole-number overlaps h and p = xi * sigma = +-1, F(h - 2p) is F(h-2) or F(h+2), so

        .. math:: E(\sigma) - E(\text{bit } i \text{ flipped}) = A + \sigma_i (\Xi^T b)_i, \quad
            A = \sum_\mu \tfrac{F(h-2) + F(h+2)}{2} - F(h), \quad b_\mu = \tfrac{F(h-2) - F(h+2)}{2}

        where A and b do not know i: one matrix product gives every gain. A state is a fixed point
        when none is positive. For ``Exponential`` the gain is that of the log-space energy.

        ``state`` is (\*batch, D), and so is the answer, float64. Source: MM 2.2, rearranged.
        """
        rows, batch = self._rows(state)
        pull = self._pull("exact")
        gains = []
        for part in rows.split(self._chunk):
            h = self._overlaps(part)
            drop = -self._margins(part, h, "exact")
            if self.separation.relative:
                depth = self.separation.beta * (h - h.amax(-1, keepdim=True)).double()
                total = depth.exp().sum(-1, keepdim=True)
                drop = torch.log1p(drop * (pull.unit / total)) / (self.separation.beta * self.dim)
            else:
                drop = drop * pull.unit
            gains.append(drop)
        return torch.cat(gains).reshape(*batch, self.dim)

    def is_fixed_point(self, state: Any, *, rule: str = "exact") -> Tensor:
        r"""Return (\*batch): True where no visit would flip a bit (no positive ``flip_gains``)."""
        _check.choice("rule", rule, RULES)
        rows, batch = self._rows(state)
        return self.calm(rows, rule).reshape(batch)

    def recall(
        self,
        state: Any,
        *,
        rule: str = "exact",
        max_sweeps: int = 20,
        order: str | Tensor = "random",
        generator: torch.Generator | None = None,
        record: bool | int = False,
        fast: bool = False,
    ) -> Recall:
        r"""Let every query run downhill until no flip helps, or ``max_sweeps`` are over.

        Args:
            state: (\*batch, D) queries of -1 and +1. Never modified.
            rule: "exact" compares two energies (MM 2.2): the energy never rises. "gradient" is
                the first-order rule Sign[sum xi f(overlap without the bit)] (MM 2.3): it may.
            max_sweeps: a sweep visits every bit once.
            order: "random" (a new permutation for each sweep and query), "sequential",
                "synchronous" (all bits at once: may fall into a two-cycle), or a whole-number
                tensor (T,) or (\*batch, T) of bits to visit, once through, whatever max_sweeps.
            generator: source of the random order.
            record: True keeps a frame after every sweep; a whole number k one after k visits.
            fast: use the hand-scheduled twin in ``amtutor.fast.recall``: the same bits, sooner.

        Raises:
            ValueError, TypeError: a query of the wrong shape or values, or an unknown option.
        """
        _check.choice("rule", rule, RULES)
        _check.count("max_sweeps", max_sweeps)
        every = _check.count("record", record) if record is not True and record else int(record)
        rows, batch = self._rows(state)
        run = _Run(self, rows.clone(), batch, rule, self._engine(fast), record, every)
        if isinstance(order, Tensor):
            run.sweep(self._visits(order, batch))
        else:
            _check.choice("order", order, ORDERS)
            for _ in range(max_sweeps):
                if order == "synchronous":
                    run.flip_all()
                else:
                    run.sweep(self._permutations(order, len(rows), generator))
                if not run.restless.any():
                    break
        return run.result()

    # -------------------------------------------------------------- what recall is made of

    @property
    def _chunk(self) -> int:
        return max(1, CHUNK // self.n_patterns)

    def _rows(self, state: Any) -> tuple[Tensor, torch.Size]:
        """Check queries and return them as (Q, D) rows, with their batch shape."""
        spins = _check.last_dim("state", _spins("state", state), self.dim).to(self.patterns)
        return spins.reshape(-1, self.dim), spins.shape[:-1]

    def _overlaps(self, rows: Tensor) -> Tensor:
        """Return xi . sigma as whole numbers, (Q, K) int32."""
        work = torch.promote_types(self.patterns.dtype, torch.float32)  # exact up to D = 2**24
        return (rows.to(work) @ self.patterns.to(work).T).to(torch.int32)

    def _pull(self, rule: str) -> _Pull:
        return _pull(self.separation, self.dim, self.n_patterns, rule).to(self.patterns.device)

    def sweep(self, state: Tensor, visits: Tensor, rule: str) -> None:
        """Visit bits (Q, T), one per query at a time; ``state`` (Q, D) is updated in place.

        This is MM 2.2 with kept overlaps: the bit is taken out of all K overlaps, the memories
        vote, and the winner is put back in.
        """
        pull = self._pull(rule)
        for start in range(0, len(state), self._chunk):
            some = slice(start, start + self._chunk)
            overlaps = self._overlaps(state[some])
            for i in visits[some].T:
                xi = self._columns.index_select(0, i)  # (Q, K): what each memory wants here
                bit = state[some].gather(1, i[:, None]).to(torch.int8)
                clamped = overlaps - xi * bit
                vote = self._vote(xi, clamped, pull, rule)[:, None]
                winner = torch.where(vote == 0, bit, vote.sign().to(torch.int8))
                overlaps = clamped + xi * winner
                state[some].scatter_(1, i[:, None], winner.to(state))

    def calm(self, state: Tensor, rule: str) -> Tensor:
        """Return (Q,): True where no visit would flip a bit of rows (Q, D)."""
        parts = state.split(self._chunk)
        return torch.cat([(self._margins(x, self._overlaps(x), rule) >= 0).all(-1) for x in parts])

    def _vote(self, xi: Tensor, clamped: Tensor, pull: _Pull, rule: str) -> Tensor:
        """Return sum xi G(clamped) per row, with its sign (and a tie's 0) beyond doubt."""
        reference = clamped.amax(-1, keepdim=True) if pull.relative else 0
        strength = pull(clamped, reference)
        vote = (xi * strength).sum(-1)
        if pull.slack:
            doubt = vote.abs() <= pull.slack * strength.abs().sum(-1)
            for q in doubt.nonzero()[:, 0].tolist():
                vote[q] = exact_sign(self.separation, xi[q], clamped[q], rule)
        return vote

    def _margins(self, rows: Tensor, overlaps: Tensor, rule: str) -> Tensor:
        """Return by how much each bit is held, (Q, D) float64: negative entries want to flip.

        The identity of :meth:`flip_gains`, in units of the table; signs beyond doubt.
        """
        pull = self._pull(rule)
        reference = overlaps.amax(-1, keepdim=True) if pull.relative else 0
        below, above = pull(overlaps - 1, reference), pull(overlaps + 1, reference)
        side, bend = (below + above) / 2, (below - above) / 2
        margins = rows * self._project(side) + bend.sum(-1, keepdim=True)
        if pull.slack:
            noise = 2 * pull.slack * (side.abs() + bend.abs()).sum(-1, keepdim=True)
            for q, i in (margins.abs() <= noise).nonzero().tolist():
                xi, bit = self._columns[i], int(rows[q, i])
                sign = bit * exact_sign(self.separation, xi, overlaps[q] - xi * bit, rule)
                margins[q, i] = sign * margins[q, i].abs().clamp_min(5e-324) if sign else 0.0
        return margins

    def _project(self, weights: Tensor) -> Tensor:
        """Return weights @ patterns in float64 without a float64 copy of all patterns."""
        total = weights.new_zeros(len(weights), self.dim)
        rows = max(1, CHUNK // self.dim)
        for start in range(0, self.n_patterns, rows):
            block = slice(start, start + rows)
            total += weights[:, block] @ self.patterns[block].double()
        return total

    def _engine(self, fast: bool) -> Any:
        """Return who sweeps and certifies: this memory itself, or its fast twin."""
        if not fast:
            return self
        if self._twin is None:
            from amtutor.fast.recall import FastSweep

            self._twin = FastSweep(self)
        return self._twin

    def _permutations(self, order: str, queries: int, generator) -> Tensor:
        """Return one sweep's visits (Q, D). Drawn for every query, so none depends on another."""
        device = self.patterns.device
        if order == "sequential":
            return torch.arange(self.dim, device=device).expand(queries, -1)
        source = device if generator is None else generator.device
        lots = torch.rand(queries, self.dim, generator=generator, device=source)
        return lots.argsort(dim=-1, stable=True).to(device)

    def _visits(self, order: Tensor, batch: torch.Size) -> Tensor:
        """Check explicit visits and return them as (Q, T)."""
        whole = not (order.is_floating_point() or order.is_complex() or order.dtype == torch.bool)
        if not whole or order.ndim == 0 or order.shape[:-1] not in (torch.Size(), batch):
            raise ValueError(
                f"order: got a {_check.describe(order)}, expected whole numbers of shape (T,) or "
                f"{(*batch, 'T')}, or one of {', '.join(map(repr, ORDERS))}"
            )
        if order.numel() and not 0 <= int(order.min()) <= int(order.max()) < self.dim:
            raise ValueError(
                f"order: bits {int(order.min())}..{int(order.max())}, expected 0..{self.dim - 1}"
            )
        steps = order.shape[-1]
        return order.expand(*batch, steps).reshape(-1, steps).to(self.patterns.device).long()


class _Run:
    """The working state of one recall: all queries, and which of them still move."""

    def __init__(self, memory, rows, batch, rule, engine, record, every):
        self.memory, self.state, self.batch, self.rule = memory, rows, batch, rule
        self.engine, self.recording, self.every = engine, bool(record), every
        self.per_sweep = record is True
        self.restless = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
        self.sweeps = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
        self.frames = [rows.clone()] if record else []

    def sweep(self, visits: Tensor) -> None:
        """Let every restless query make its visits, some at a time if frames are wanted."""
        before = self.state.clone()
        pieces = visits.split(self.every, 1) if self.recording and not self.per_sweep else [visits]
        active = self.restless.nonzero()[:, 0]
        for piece in pieces:
            state = self.state[active]
            self.engine.sweep(state, piece[active], self.rule)
            self.state[active] = state
            self._keep_frame()
        self._take_stock(before)

    def flip_all(self) -> None:
        """Let all bits of every restless query choose at the same moment."""
        before = self.state.clone()
        for some in self.restless.nonzero()[:, 0].split(self.memory._chunk):
            state = self.state[some]
            margins = self.memory._margins(state, self.memory._overlaps(state), self.rule)
            self.state[some] = torch.where(margins < 0, -state, state)
        self._keep_frame()
        self._take_stock(before)

    def _keep_frame(self) -> None:
        if self.recording:
            self.frames.append(self.state.clone())

    def _take_stock(self, before: Tensor) -> None:
        """Count the sweep where it changed something; certify who has arrived."""
        self.sweeps += (self.state != before).any(-1)
        active = self.restless.nonzero()[:, 0]
        self.restless[active] = ~self.engine.calm(self.state[active], self.rule)

    def result(self) -> Recall:
        shape = (*self.batch, self.memory.dim)
        trajectory = None
        if self.recording:
            states = torch.stack(self.frames).reshape(-1, *shape)
            energies = torch.stack([self.memory.energy(s) for s in states])
            trajectory = Trajectory(states, energies)
        return Recall(
            state=self.state.reshape(shape),
            energy=self.memory.energy(self.state.reshape(shape)),
            sweeps=self.sweeps.reshape(self.batch),
            converged=~self.restless.reshape(self.batch),
            trajectory=trajectory,
        )


# ------------------------------------------------------------------ exact signs


@dataclass(frozen=True)
class _Pull:
    """How strongly a memory pulls at a bit: G(c) at clamped overlaps c, as a float64 table.

    G(c) = F(c+1) - F(c-1) by the exact rule, f(c) by the gradient rule; the bit's vote is
    sum xi G(c). ``slack`` bounds the relative rounding error of such a sum (0: it is exact), and
    one unit of the table is ``unit`` in energy. ``relative`` tables are scaled by the row's
    largest overlap, ``reference``.
    """

    table: Tensor
    offset: int
    relative: bool
    slack: float
    unit: float

    def __call__(self, clamped: Tensor, reference: Tensor | int = 0) -> Tensor:
        index = (clamped - reference + self.offset).long()
        if self.relative:
            index = index.clamp_min(0)
        return self.table.expand(len(index), -1).gather(1, index)

    def to(self, device: torch.device) -> _Pull:
        if self.table.device == device:
            return self
        return _Pull(self.table.to(device), self.offset, self.relative, self.slack, self.unit)


@lru_cache(maxsize=32)
def _pull(separation: Separation, dim: int, n_patterns: int, rule: str) -> _Pull:
    """Tabulate G over every clamped overlap -(D+1)..D+1 that can occur."""
    slack = (n_patterns + 4) * 2.0**-52
    if separation.relative:  # G(c) = 2 sinh(beta) e^(beta c) by either rule, so tabulate e^(...)
        steps = separation.beta * torch.arange(-2 * dim - 4, 3, dtype=torch.float64)
        return _Pull(steps.exp(), 2 * dim + 4, True, slack, 2 * math.sinh(separation.beta))
    whole = [_whole_pull(separation, c, rule) for c in range(-dim - 1, dim + 2)]
    top = max(1, *map(abs, whole))
    shift = max(0, top.bit_length() - 900)  # a power of two, so that small whole numbers stay exact
    values = [g / (1 << shift) for g in whole]  # Python rounds the true quotient correctly
    exact = 4 * top * n_patterns < 2**53
    unit = (1 << shift) / dim**separation.n
    table = torch.tensor(values, dtype=torch.float64)
    return _Pull(table, dim + 1, False, 0.0 if exact else slack, unit)


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


def _spins(name: str, x: Any) -> Tensor:
    """Return -1/+1 entries as a floating-point tensor, or say what is wrong with them."""
    try:
        x = torch.as_tensor(x).detach()
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{name}: got a {type(x).__name__}, expected a tensor or array") from None
    if x.dtype == torch.bool:
        x = 2 * x.to(torch.float32) - 1
    if x.is_complex():
        raise TypeError(f"{name}: got a {_check.describe(x)}, expected real entries -1 and +1")
    wrong = x.abs() != 1 if x.is_floating_point() or x.dtype.is_signed else x != 1
    if wrong.any():
        hint = "; make spins of 0 and 1 by 2 * x - 1" if ((x == 0) | (x == 1)).all() else ""
        raise ValueError(
            f"{name}: {int(wrong.sum())} of {x.numel()} entries are not -1 or +1 "
            f"(first: {x[wrong][0].item()!r}), expected only -1 and +1{hint}"
        )
    return x if x.is_floating_point() else x.to(torch.float32)


# ------------------------------------------------------------------ how many can you keep?


def sign_sum_moment(power: int, count: int) -> int:
    r"""Return <X^power> of a sum X of ``count`` independent random signs, exactly.

    MM 2.10 says :math:`(2p-1)!!\, D^p` for power 2p, which is its limit at large count. With one
    sign s taken apart, <X g(X)> = count <s g(Y + s)>, Y having count - 1 signs; expand the power.

    >>> sign_sum_moment(4, 9), sign_sum_moment(4, 10), 3 * 10**2
    (225, 280, 300)
    """
    _check.count("power", power, least=0)
    _check.count("count", count, least=0)
    if power % 2:
        return 0
    return _even_moment(power // 2, count)


@lru_cache(maxsize=100_000)
def _even_moment(half: int, count: int) -> int:
    if half == 0 or count == 0:
        return int(half == 0)
    below = (math.comb(2 * half - 1, 2 * j) * _even_moment(j, count - 1) for j in range(half))
    return count * sum(below)


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
    if noise == 0:
        return 0.0
    return 0.5 * math.erfc(math.sqrt((dim - 1) ** (2 * n - 2) / noise / 2))


def capacity(n: int, dim: int, *, error: float = 0.01, exact: bool = False) -> float:
    r"""Return the number of memories at which P_err reaches ``error`` (MM 2.17).

    .. math:: K_{max} = \frac{D^{n-1}}{\alpha^2 (2n-3)!!}, \qquad g(\alpha) = \text{error}

    The tail of MM 2.15 is one-sided: alpha = 2.326 for 1 %. (MM prints 2.576, which leaves 1 % in
    *two* tails and belongs to ``error=0.005``.) ``exact=True`` solves MM 2.15 with the exact
    variance and the signal (D-1)^(n-1). ``error`` lies between 0 and 1/2.

    >>> round(capacity(2, 1000), 1), round(capacity(2, 1000, error=0.005), 1)
    (184.8, 150.7)
    """
    if not 0 < _check.number_or_fail("error", error, "a number between 0 and 0.5") < 0.5:
        raise _check.fail("error", error, "a number between 0 and 0.5")
    alpha = NormalDist().inv_cdf(1 - error)
    signal = (dim - 1) ** (2 * n - 2) if exact else dim ** (2 * n - 2)
    one = _noise(n, dim, 2 if exact else 1, exact)  # the noise of a single other memory
    if one == 0:
        return math.inf
    return signal / one / alpha**2 + (1 if exact else 0)


def _noise(n: int, dim: int, n_patterns: int, exact: bool) -> int:
    """Check the arguments and return Sigma^2 as a whole number."""
    _check.count("n", n)
    _check.count("dim", dim)
    _check.count("n_patterns", n_patterns)
    if exact:
        return (n_patterns - 1) * sign_sum_moment(2 * n - 2, dim - 1)
    return math.prod(range(1, 2 * n - 2, 2)) * n_patterns * dim ** (n - 1)


@dataclass(frozen=True)
class ErrorRate:
    """A measured error rate, with its 95 % interval.

    ``rate`` = ``errors`` / ``bits``; ``low`` and ``high`` are Wilson's interval for an effective
    number of bits, ``bits`` / ``design_effect``: bits of one memory share its overlaps, so
    their errors come in clusters (design effect >= 1, estimated from the spread between memories).
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
        ValueError: a count is below 1 (n_patterns below 1), or the rule is unknown.

    >>> g = torch.Generator().manual_seed(0)
    >>> found = measure_error_rate(Polynomial(2), 100, 19, trials=50, generator=g)
    >>> found.low < 0.012 < found.high
    True
    """
    for name, value in (("dim", dim), ("n_patterns", n_patterns), ("trials", trials)):
        _check.count(name, value)
    _check.choice("rule", rule, RULES)
    probes = min(_check.count("probes", probes), n_patterns)
    wrong = []
    for _ in range(trials):
        device = "cpu" if generator is None else generator.device
        bits = torch.randint(
            0, 2, (n_patterns, dim), generator=generator, device=device, dtype=torch.int8
        )
        memory = DiscreteDenseAM(2 * bits.to(torch.float32) - 1, separation)
        for rows in memory.patterns[:probes].split(memory._chunk):
            margins = memory._margins(rows, memory._overlaps(rows), rule)
            wrong.append((margins < 0).sum(-1))
    return _error_rate(torch.cat(wrong).double(), dim)


def _error_rate(wrong: Tensor, dim: int) -> ErrorRate:
    """Turn the wrong bits of each probed memory into a rate with its interval."""
    errors, bits = int(wrong.sum()), len(wrong) * dim
    rate, effect = errors / bits, 1.0
    if len(wrong) > 1 and 0 < errors < bits:
        effect = max(1.0, float(wrong.var()) / (dim * rate * (1 - rate)))
    low, high = wilson_interval(errors / effect, bits / effect)
    return ErrorRate(rate, low, high, errors, bits, effect)


def wilson_interval(hits: float, total: float, *, z: float = 1.959964) -> tuple[float, float]:
    """Return Wilson's interval for a proportion; it never leaves [0, 1] and is wide at 0 hits."""
    p, weight = hits / total, z * z / total
    centre = (p + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(p * (1 - p) / total + weight / (4 * total))
    return max(0.0, centre - half), min(1.0, centre + half)
