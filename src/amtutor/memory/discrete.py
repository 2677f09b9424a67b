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

**Cheap.** Recall keeps the K overlaps and updates them: O(K) a visit instead of O(K D). All D bits
are asked at once by matrix products, which is how a fixed point is certified.

The definition comes first, then the memory; below them are the sweeps and their tables.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from amtutor import _check, _draw
from amtutor._threads import one_thread
from amtutor.descent import Descent, Trajectory
from amtutor.memory.separations import (
    RULES,
    Exponential,
    Polynomial,
    RectifiedPolynomial,
    Separation,
    Votes,
    sign_of,
    steps_of,
    tabulate,
)

__all__ = [
    "DiscreteDenseAM",
    "Exponential",
    "Polynomial",
    "RectifiedPolynomial",
    "visit_by_definition",
]

ORDERS = ("random", "sequential", "synchronous")
CHUNK = 2**16  # overlaps (queries x memories) worked on at once: they fit a core's cache
PRODUCT = 2**17  # the same where one product serves them all
PIECE = 2**18  # the same in the twin
# Multiply-adds of a product up to which recall takes one thread: more than for others, because
# next to the products there are ten small operations that two threads would only wait in.
SMALL = 2**28


# ------------------------------------------------------------------ the definition, and the memory


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

    Raises:
        ValueError, TypeError: a wrong shape, a bit that is not there, or an energy that is NaN.

    >>> agree = lambda s: -(s @ torch.tensor([1.0, -1.0, 1.0])) ** 2
    >>> visit_by_definition(agree, torch.tensor([1.0, 1.0, 1.0]), torch.arange(3)).tolist()
    [1.0, -1.0, 1.0]
    """
    if not callable(energy):
        raise TypeError(f"energy: got a {_check.describe(energy)}, expected a function of (D,)")
    state = _check.shape("state", _check.array("state", state), ("D",)).clone()
    for i in _bits("visits", _check.shape("visits", visits, (None,)), len(state)).tolist():
        flipped = state.clone()
        flipped[i] = -state[i]
        here, there = float(energy(state)), float(energy(flipped))
        if here != here or there != there:
            raise ValueError(f"energy: NaN at the visit of bit {i}, expected a number")
        if there < here:
            state = flipped
    return state


class DiscreteDenseAM(nn.Module):
    r"""Dense associative memory over binary states, E = -sum F(m) (MM 2.1).

    Args:
        patterns: (K, D) of -1 and +1 (bool: False is -1); a tensor or array of any real dtype.
        separation: ``Polynomial(n)``, ``RectifiedPolynomial(n)`` or ``Exponential()``.

    States may be of any real dtype too; answers come in the dtype of ``patterns`` (float32 where
    those are whole numbers) and on their device. ``patterns`` is a buffer of this module: ``.to``
    moves it, ``state_dict`` has it.

    Raises:
        ValueError, TypeError: patterns of a wrong shape, empty, or other than -1 and +1.

    >>> xi = torch.tensor([[1, 1, 1, 1, 1], [1, -1, 1, -1, 1]])
    >>> memory = DiscreteDenseAM(xi, RectifiedPolynomial(3))
    >>> answer = memory.recall(torch.tensor([-1, 1, 1, 1, 1]), order="sequential")
    >>> answer.state.tolist(), answer.steps_taken.item(), answer.converged.item()
    ([1.0, 1.0, 1.0, 1.0, 1.0], 1, True)
    """

    patterns: Tensor

    def __init__(self, patterns: Any, separation: Separation):
        super().__init__()
        if not isinstance(separation, Separation):
            raise TypeError(
                f"separation: got a {_check.describe(separation)}, expected Polynomial(n), "
                "RectifiedPolynomial(n) or Exponential()"
            )
        patterns = _check.matrix("patterns", _spins("patterns", patterns))
        self.register_buffer("patterns", patterns)
        self.separation = separation
        self.n_patterns, self.dim = patterns.shape
        self.kept: dict[str, Any] = {}  # what was made of the patterns, until they change

    def energy(self, state: Any) -> Tensor:
        r"""Return E (\*batch) of states (\*batch, D); -1: one memory matched perfectly (MM 2.1)."""
        rows, batch = self.rows(state)
        parts = [
            self.separation.energy(self.sweeps.products(part).to(rows) / self.dim, self.dim)
            for part in self.sweeps.parts(rows)
        ]
        return torch.cat(parts).reshape(batch)

    def flip_gains(self, state: Any) -> Tensor:
        r"""Return how much flipping each bit would lower the energy, all D of them at once.

        With whole-number overlaps h and p = xi * sigma = +-1,

        .. math:: E(\sigma) - E(\text{bit } i \text{ flipped}) = \sum_{\mu: p = 1} \bigl[F(h-2) -
            F(h)\bigr] + \sum_{\mu: p = -1} \bigl[F(h+2) - F(h)\bigr]

        Matrix products with zeros and ones give every gain to rounding. A state is a fixed point
        when none is positive. For ``Exponential`` the gain is that of the log-space energy.

        ``state`` is (\*batch, D), and so is the answer, float64. Source: MM 2.2, rearranged.
        """
        rows, batch = self.rows(state)
        gains = [self.sweeps.gains(part) for part in self.sweeps.parts(rows)]
        return torch.cat(gains).reshape(*batch, self.dim)

    def is_fixed_point(self, state: Any, *, rule: str = "exact") -> Tensor:
        r"""Return (\*batch): True where no visit would flip a bit (no positive ``flip_gains``)."""
        _check.choice("rule", rule, RULES)
        rows, batch = self.rows(state)
        return self.sweeps.at_rest(rows, rule).reshape(batch)

    def recall(
        self,
        state: Any,
        *,
        rule: str = "exact",
        max_sweeps: int = 20,
        order: str | Tensor = "random",
        generator: torch.Generator | None = None,
        record: bool | int = False,
        callback: Callable[[int, Tensor], object] | None = None,
    ) -> Descent[Tensor]:
        r"""Let every query run downhill until no flip helps, or ``max_sweeps`` are over.

        Args:
            state: (\*batch, D) queries of -1 and +1. Never modified.
            rule: "exact" compares two energies (MM 2.2): the energy never rises. "gradient" is
                the first-order rule Sign[sum xi f(overlap without the bit)] (MM 2.3): it may.
            max_sweeps: a sweep visits every bit once.
            order: "random" (a new permutation for each sweep and query), "sequential",
                "synchronous" (all bits at once: may fall into a two-cycle), or a whole-number
                tensor (T,) or (\*batch, T) of bits to visit, once through, whatever max_sweeps.
            generator: source of the random order; one on the CPU serves any device.
            record: True keeps a frame after every sweep; a whole number k one after k visits.
            callback: called with (step, state) at the moments that ``record`` names, or without it
                after every sweep; step 0 is the query. The state is a copy, of the query's shape.

        Returns:
            A :class:`~amtutor.descent.Descent`. ``steps_taken`` counts the sweeps in which at least
            one bit flipped; ``converged`` is True where no single visit would flip a bit. The first
            frame of ``trajectory`` is the query, its last the answer.

        Raises:
            ValueError, TypeError: a query of the wrong shape or values, or an unknown option.
        """
        return recall_by(
            self.sweeps, self, state, rule, max_sweeps, order, generator, record, callback
        )

    def extra_repr(self) -> str:
        """Name the sizes and the separation."""
        return f"K={self.n_patterns}, D={self.dim}, {self.separation}"

    # -------------------------------------------------------------- as a module, and its tables

    @property
    def sweeps(self) -> Sweeps:
        """How this memory is asked; made once."""
        if "sweeps" not in self.kept:
            self.kept["sweeps"] = Sweeps(self)
        return self.kept["sweeps"]

    def rows(self, state: Any) -> tuple[Tensor, torch.Size]:
        """Check queries and return them as (Q, D) rows, with their batch shape."""
        spins = _check.last_dim("state", _spins("state", state), self.dim).to(self.patterns)
        return spins.reshape(-1, self.dim), spins.shape[:-1]

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Move or cast as every module does, and forget what was made of the old patterns."""
        self.kept.clear()
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """Take patterns from a file, if they are some."""
        if prefix + "patterns" in state_dict:
            _spins("patterns", state_dict[prefix + "patterns"])
        self.kept.clear()
        super()._load_from_state_dict(state_dict, prefix, *args)


# ------------------------------------------------------------------ sweeps


class Sweeps:
    """How a memory is asked, in rows of queries (Q, D) of -1 and +1. Nothing here is checked.

    The words are those of :mod:`amtutor.memory.separations`.
    """

    def __init__(self, memory: DiscreteDenseAM):
        self.patterns, self.separation = memory.patterns, memory.separation
        self.n_patterns, self.dim = memory.n_patterns, memory.dim
        self.columns = self.patterns.T.to(torch.int8).contiguous()  # by bit, (D, K)

    def sweep(self, state: Tensor, visits: Tensor, rule: str) -> Tensor:
        """Visit bits (Q, T), one per query at a time; ``state`` (Q, D) is updated in place.

        This is MM 2.2 with kept overlaps: the bit is taken out of all K overlaps, the memories
        vote, and the winner is put back in. Returns (Q,): True where a row is known to rest now; a
        sweep by itself knows of none.
        """
        votes = self.votes(rule)
        chunk = max(1, CHUNK // self.n_patterns)
        for start in range(0, len(state), chunk):
            some = slice(start, start + chunk)
            overlaps = self.overlaps(state[some])
            for i in visits[some].T:
                xi = self.columns.index_select(0, i)  # (Q, K): what each memory wants here
                bit = state[some].gather(1, i[:, None]).to(torch.int8)
                clamped = overlaps - xi * bit
                vote = self.vote(xi, clamped, votes, rule)[:, None]
                winner = torch.where(vote == 0, bit, vote.sign().to(torch.int8))
                overlaps = clamped + xi * winner
                state[some].scatter_(1, i[:, None], winner.to(state))
        return torch.zeros(len(state), dtype=torch.bool, device=state.device)

    def at_rest(self, state: Tensor, rule: str) -> Tensor:
        """Return (Q,): True where no visit would flip a bit."""
        rest = [(self.margins(x, self.overlaps(x), rule) >= 0).all(-1) for x in self.parts(state)]
        return torch.cat(rest)

    def vote(self, xi: Tensor, clamped: Tensor, votes: Votes, rule: str) -> Tensor:
        """Return sum xi G(clamped) per row, with its sign (and a tie's 0) beyond doubt."""
        strength = votes.look_up(votes.clamped, votes.index(clamped))
        vote = (xi * strength).sum(-1)
        if votes.slack:
            doubt = vote.abs() <= votes.slack * strength.abs().sum(-1)
            for q in doubt.nonzero()[:, 0].tolist():
                vote[q] = sign_of(self.separation, xi[q].tolist(), clamped[q].tolist(), rule)
        return vote

    def margins(self, rows: Tensor, overlaps: Tensor, rule: str) -> Tensor:
        r"""Return by how much each bit is held, (Q, D) float64: negative entries want to flip.

        .. math:: \sum_\mu p\,G(h_\mu - p) = \sigma_i (\Xi^T \mathrm{level})_i + \sum_\mu
                  \mathrm{tilt}_\mu, \qquad p = \xi^\mu_i \sigma_i

        The second sum does not know i: one product asks every bit. Signs are beyond doubt.
        """
        votes = self.votes(rule)
        index = votes.index(overlaps)
        level, tilt = votes.look_up(votes.level, index), votes.look_up(votes.tilt, index)
        margins = rows * self.project(level) + tilt.sum(-1, keepdim=True)
        if votes.slack:
            noise = 2 * votes.slack * (level.abs() + tilt.abs()).sum(-1, keepdim=True)
            self._settle(margins, noise, rows, overlaps, rule, 1)
        return margins

    def gains(self, rows: Tensor) -> Tensor:
        """Return the gain of every flip (Q, D), as :meth:`DiscreteDenseAM.flip_gains` says."""
        h = self.overlaps(rows)
        if self.separation.relative:
            return self._gains_in_log_space(rows, h)
        *tables, unit = steps_of(self.separation, self.dim)
        index = h.long() + self.dim
        steps = [unit * Votes.look_up(table.to(rows.device), index) for table in tables]
        gains, size = self._flips(rows, *steps)
        self._settle(gains, (self.n_patterns + 8) * 2.0**-51 * size, rows, h, "exact", -1)
        return gains

    def _gains_in_log_space(self, rows: Tensor, h: Tensor) -> Tensor:
        """Gains of an exponential: log(S) / (beta D), S = sum w e^(-2 beta p), w = softmax(beta h).

        Near a tie log(1 + (S - 1)) of a sum of differences is exact; elsewhere log S is.
        """
        beta, few = self.separation.beta, (self.n_patterns + 8) * 2.0**-51
        depth = beta * (h - h.amax(-1, keepdim=True)).double()
        if beta < 300:
            weight = depth.softmax(-1)
            less, size = self._flips(
                rows, math.expm1(-2 * beta) * weight, math.expm1(2 * beta) * weight
            )
            near, noise = (less > -0.5) & (less < 1), few * size
        else:  # exp(2 beta) is no double, or soon will not be
            less = torch.zeros_like(rows, dtype=torch.float64)
            near, noise = less != 0, torch.full_like(less, few + beta * 2.0**-48)
        logs = less.clamp_min(-0.5).log1p()
        if not near.all():
            logs = torch.where(near, logs, self._log_of_flips(rows, depth))
        scale = beta * self.dim
        gains = logs / scale
        self._settle(
            gains, torch.where(near | (beta >= 300), noise / scale, 0), rows, h, "exact", -1
        )
        return gains

    def _flips(self, rows: Tensor, down: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum, over memories that agree, of ``down`` plus, over the others, of ``up``.

        For every bit (Q, D); and the same sum of sizes.
        """
        sums = [torch.zeros_like(rows, dtype=torch.float64) for _ in range(2)]
        for block in self._blocks():
            yes = self.patterns[block] > 0
            plus, minus = yes.double(), (~yes).double()
            for total, d, u in zip(sums, (down, down.abs()), (up, up.abs()), strict=True):
                d, u = d[:, block], u[:, block]
                total += torch.where(rows > 0, d @ plus + u @ minus, d @ minus + u @ plus)
        return sums[0], sums[1]

    def _log_of_flips(self, rows: Tensor, depth: Tensor) -> Tensor:
        """Return log sum e^(depth - 2 beta p) - log sum e^depth for every bit (Q, D)."""
        logs = []
        for row, d in zip(rows.double(), depth, strict=True):
            total = row.new_full(row.shape, -torch.inf)
            for block in self._blocks():
                p = self.patterns[block] * row
                part = (d[block, None] - 2 * self.separation.beta * p).logsumexp(0)
                total = torch.logaddexp(total, part)
            logs.append(total - d.logsumexp(0))
        return torch.stack(logs) if logs else torch.zeros_like(rows, dtype=torch.float64)

    def _settle(self, sums: Tensor, noise: Tensor, rows, overlaps, rule: str, way: int) -> None:
        """Give ``way`` times the sign of a bit's margin to sums (Q, D) that rounding may decide."""
        for q, i in (sums.abs() <= noise).nonzero().tolist():
            xi, bit = self.columns[i], int(rows[q, i])
            clamped = (overlaps[q] - xi * bit).tolist()
            sign = way * bit * sign_of(self.separation, xi.tolist(), clamped, rule)
            sums[q, i] = sign * sums[q, i].abs().clamp_min(5e-324) if sign else 0.0

    # -------------------------------------------------------------- products

    def parts(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Cut rows so that one product's overlaps fit a cache."""
        return rows.split(max(1, PRODUCT // self.n_patterns))

    def overlaps(self, rows: Tensor) -> Tensor:
        """Return xi . sigma as whole numbers, (Q, K) int32."""
        return self.products(rows).to(torch.int32)

    def products(self, rows: Tensor) -> Tensor:
        """Return xi . sigma, (Q, K)."""
        work = torch.promote_types(self.patterns.dtype, torch.float32)  # exact up to D = 2**24
        return rows.to(work) @ self.patterns.to(work).T

    def project(self, weights: Tensor) -> Tensor:
        """Return weights @ patterns in float64 without a float64 copy of all patterns."""
        total = weights.new_zeros(len(weights), self.dim)
        for block in self._blocks():
            total += weights[:, block] @ self.patterns[block].double()
        return total

    def _blocks(self) -> list[slice]:
        rows = max(1, CHUNK // self.dim)
        return [slice(start, start + rows) for start in range(0, self.n_patterns, rows)]

    def votes(self, rule: str) -> Votes:
        """Return the tables of a rule, on the patterns' device."""
        found = tabulate(self.separation, self.dim, self.n_patterns, rule)
        return found.to(self.patterns.device)


# ------------------------------------------------------------------ recall


def recall_by(
    sweeps: Any,
    memory: DiscreteDenseAM,
    state: Any,
    rule: str,
    max_sweeps: int,
    order: str | Tensor,
    generator: torch.Generator | None,
    record: bool | int,
    callback: Callable[[int, Tensor], object] | None,
) -> Descent[Tensor]:
    """Recall with ``sweeps`` to sweep and to see who rests: the memory's own, or a twin of them."""
    _check.choice("rule", rule, RULES)
    _check.count("max_sweeps", max_sweeps)
    _check.generator("generator", generator)
    every = int(record) if isinstance(record, bool) else _check.count("record", record)
    if callback is not None and not callable(callback):
        raise TypeError(f"callback: got a {_check.describe(callback)}, expected None or a function")
    rows, batch = memory.rows(state)
    if isinstance(order, Tensor):
        visits = _visits(order, batch, memory)
    else:
        _check.choice("order", order, ORDERS)
    run = _Run(memory, rows.clone(), batch, rule, sweeps, record, every, callback)
    with one_thread(min(len(rows) * memory.n_patterns, PIECE) * memory.dim, small=SMALL):
        if isinstance(order, Tensor):
            run.sweep(visits)
        else:
            for _ in range(max_sweeps):
                if order == "synchronous":
                    run.flip_all()
                else:
                    run.sweep(_permutations(order, len(rows), memory, generator))
                if not run.moving.any():
                    break
        return run.result()


def _permutations(order: str, queries: int, memory: DiscreteDenseAM, generator) -> Tensor:
    """Return one sweep's visits (Q, D). Drawn for every query, so none depends on another."""
    device = memory.patterns.device
    if order == "sequential":
        return torch.arange(memory.dim, device=device).expand(queries, -1)
    lots = _draw.uniform((queries, memory.dim), generator=generator, device=device)
    return lots.argsort(dim=-1, stable=True)


def _visits(order: Tensor, batch: torch.Size, memory: DiscreteDenseAM) -> Tensor:
    """Check explicit visits and return them as (Q, T)."""
    if order.ndim == 0 or order.shape[:-1] not in (torch.Size(), batch):
        raise ValueError(
            f"order: got a {_check.describe(order)}, expected whole numbers of shape (T,) or "
            f"{(*batch, 'T')}, or one of {', '.join(map(repr, ORDERS))}"
        )
    steps = order.shape[-1]
    visits = _bits("order", order, memory.dim).to(memory.patterns.device)
    return visits.expand(*batch, steps).reshape(-1, steps)


def _bits(name: str, order: Tensor, dim: int) -> Tensor:
    """Return numbers of bits as int64, or say what is wrong with them."""
    _check.tensor(name, order)
    if order.is_floating_point() or order.is_complex() or order.dtype == torch.bool:
        raise ValueError(f"{name}: got a {_check.describe(order)}, expected whole numbers")
    if order.numel() and not 0 <= int(order.min()) <= int(order.max()) < dim:
        raise ValueError(
            f"{name}: bits {int(order.min())}..{int(order.max())}, expected 0..{dim - 1}"
        )
    return order.long()


class _Run:
    """The working state of one recall: all queries, and which of them still move."""

    def __init__(self, memory, rows, batch, rule, sweeps, record, every, callback):
        self.memory, self.state, self.batch, self.rule = memory, rows, batch, rule
        self.sweeps, self.recording, self.every = sweeps, bool(record), every
        self.callback, self.moment = callback, 0
        self.per_sweep = record is True
        self.moving = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
        self.taken = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
        self.frames: list[Tensor] = []
        self._keep_frame()

    def sweep(self, visits: Tensor) -> None:
        """Let every moving query make its visits, some at a time if frames are wanted."""
        before = self.state.clone()
        pieces = visits.split(self.every, 1) if self.recording and not self.per_sweep else [visits]
        active = self.moving.nonzero()[:, 0]
        for piece in pieces:
            state = self.state[active]
            rests = self.sweeps.sweep(state, piece[active], self.rule)
            self.state[active] = state
            self._keep_frame()
        self.moving[active] = ~rests
        self._take_stock(before)

    def flip_all(self) -> None:
        """Let all bits of every moving query choose at the same moment."""
        before = self.state.clone()
        plain = self.memory.sweeps
        for some in plain.parts(self.moving.nonzero()[:, 0]):
            state = self.state[some]
            margins = plain.margins(state, plain.overlaps(state), self.rule)
            self.state[some] = torch.where(margins < 0, -state, state)
        self._keep_frame()
        self._take_stock(before)

    def _keep_frame(self) -> None:
        if self.recording:
            self.frames.append(self.state.clone())
        if self.callback is not None:
            self.callback(self.moment, self.state.reshape(*self.batch, self.memory.dim).clone())
        self.moment += 1

    def _take_stock(self, before: Tensor) -> None:
        """Count the sweep where it changed something; certify who has arrived."""
        self.taken += (self.state != before).any(-1)
        active = self.moving.nonzero()[:, 0]
        self.moving[active] = ~self.sweeps.at_rest(self.state[active], self.rule)

    def result(self) -> Descent[Tensor]:
        shape = (*self.batch, self.memory.dim)
        trajectory = None
        if self.recording:
            states = torch.stack(self.frames).reshape(-1, *shape)
            energies = torch.stack([self.memory.energy(s) for s in states])
            trajectory = Trajectory(states, energies)
        return Descent(
            state=self.state.reshape(shape),
            energy=self.memory.energy(self.state.reshape(shape)),
            steps_taken=self.taken.reshape(self.batch),
            converged=~self.moving.reshape(self.batch),
            trajectory=trajectory,
        )


def _spins(name: str, x: Any) -> Tensor:
    """Return -1/+1 entries as a floating-point tensor, or say what is wrong with them."""
    x = _check.array(name, x, "a tensor or array of -1 and +1").detach()
    if x.dtype == torch.bool:
        x = 2 * x.to(torch.float32) - 1
    wrong = x.abs() != 1 if x.is_floating_point() or x.dtype.is_signed else x != 1
    if wrong.any():
        hint = "; make spins of 0 and 1 by 2 * x - 1" if ((x == 0) | (x == 1)).all() else ""
        raise ValueError(
            f"{name}: {int(wrong.sum())} of {x.numel()} entries are not -1 or +1 "
            f"(first: {x[wrong][0].item()!r}), expected only -1 and +1{hint}"
        )
    return x if x.is_floating_point() else x.to(torch.float32)
