r"""One asynchronous sweep, hand-scheduled: the same bits as ``discrete.Sweeps.sweep``, sooner.

The plain sweep asks every memory at every visit. This one spends work only where a bit *changes*:

1. **A clear case needs no votes.** Where one memory outvotes all others together, and provably
   goes on doing so for the next s flips, all visits up to then copy that memory
   (:class:`_Strides`).
2. **A doubtful case goes from flip to flip.** The identity of ``discrete.Sweeps.margins``
   gives, from one matrix product, by how much every bit is held. That stays right until the next
   flip, so the first visit with a negative margin is found without making the visits before it
   (:class:`_Walk`). After 8, 32, 128, ... flips more, the case may have become clear: back to 1.
3. **No rounding decides.** Products run in float32 with a rigorous bound on their error; a visit
   whose margin is within the bound is decided by the plain vote (float64, then whole numbers).

Rows are queries, each with its own order; they are worked on in pieces that fit a core's cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from amtutor import _check
from amtutor.descent import Descent
from amtutor.memory.discrete import PIECE, DiscreteDenseAM, recall_by

__all__ = ["FastSweep", "recall"]


def recall(
    memory: DiscreteDenseAM,
    state: Any,
    *,
    rule: str = "exact",
    max_sweeps: int = 20,
    order: str | Tensor = "random",
    generator: torch.Generator | None = None,
    record: bool | int = False,
    callback: Callable[[int, Tensor], None] | None = None,
) -> Descent[Tensor]:
    r"""Recall as ``memory.recall(state, ...)`` does, sooner: the same bits, whatever rounding does.

    Arguments and result as there. The tables of the twin are kept with the memory.

    >>> from amtutor.memory.separations import RectifiedPolynomial
    >>> memory = DiscreteDenseAM([[1, 1, 1, 1, 1], [1, -1, 1, -1, 1]], RectifiedPolynomial(3))
    >>> recall(memory, [-1, 1, 1, 1, 1], order="sequential").state.tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0]
    """
    if not isinstance(memory, DiscreteDenseAM):
        raise TypeError(f"memory: got a {_check.describe(memory)}, expected a DiscreteDenseAM")
    if "twin" not in memory.kept:
        memory.kept["twin"] = FastSweep(memory)
    twin = memory.kept["twin"]
    return recall_by(twin, memory, state, rule, max_sweeps, order, generator, record, callback)


class FastSweep:
    """Twin of the plain sweep of one memory; prepares its tables on first use."""

    def __init__(self, memory):
        self.memory = memory
        self.piece = max(1, PIECE // memory.n_patterns)
        self.strides = strides_of(memory)
        self._weights: dict[str, _Tabulated | _Relative] = {}

    def sweep(self, state: Tensor, visits: Tensor, rule: str) -> Tensor:
        """Visit bits (Q, T), one per query at a time; ``state`` (Q, D) is updated in place.

        Returns (Q,): True where the row is known to rest now (False: nobody looked).
        """
        # a dummy bit, number D, takes what is to go nowhere
        board = torch.cat([state, state.new_ones(len(state), 1)], 1).to(torch.float32)
        made = visits.new_zeros(len(visits), 1)
        rests = visits.new_zeros(len(visits), dtype=torch.bool)
        rows = torch.arange(len(state), device=state.device)
        flips = 0 if self.strides else visits.shape[1]
        while len(rows):
            some = [x.index_select(0, rows) for x in (board, visits, made)]
            if flips:
                for part in zip(*(x.split(self.piece) for x in some), strict=True):
                    _Walk(self.memory, self.weights(rule), rule, *part).run(flips)
            if self.strides:
                rests[rows] = self.strides.run(*some, piece=self.piece)
            board[rows], made[rows] = some[0], some[2]
            rows = rows[some[2][:, 0] < visits.shape[1]]
            flips = max(8, 4 * flips)
        state.copy_(board[:, :-1])
        return rests

    def at_rest(self, state: Tensor, rule: str) -> Tensor:
        """Return (Q,): True where no visit would flip a bit; doubtful rows ask the plain form."""
        answer = torch.empty(len(state), dtype=torch.bool, device=state.device)
        for some in torch.arange(len(state), device=state.device).split(self.piece):
            if len(some):
                answer[some] = self._at_rest(state[some], rule)
        return answer

    def _at_rest(self, state: Tensor, rule: str) -> Tensor:
        weights = self.weights(rule)
        level, tilt, size = weights(weights.start(self.memory.sweeps.overlaps(state)))
        margins, noise = (level @ weights.patterns) * state + tilt, weights.noise(size, tilt)
        rests = (margins > noise).all(1)
        doubt = ~rests & ~(margins < -noise).any(1)
        if bool(doubt.any()):
            rests[doubt] = self.memory.sweeps.at_rest(state[doubt], rule)
        return rests

    def weights(self, rule: str) -> _Tabulated | _Relative:
        """Return the tables of one rule."""
        if rule not in self._weights:
            kind = _Relative if self.memory.separation.relative else _Tabulated
            self._weights[rule] = kind(self.memory, rule)
        return self._weights[rule]


# ------------------------------------------------------------------ clear cases


class _Strides:
    """Copies the strongest memory into a state, as far as the others are sure to be outvoted.

    Let memory a have the largest overlap, h_a. While its bits are copied, each flip adds 2 to h_a
    and at most 2 to every other overlap h. So at a visit after s flips the overlap without the
    bit is at least h_a + 2s - 1 for a, and at most h + 2s + 1 for any other. How long a's pull is
    sure to exceed that of all others together depends on F: see :meth:`certain` of each kind.
    """

    mirrored = False  # whether the negative of a memory pulls as one does

    def __init__(self, memory):
        self.dim, self.k = memory.dim, memory.n_patterns
        self.patterns = memory.patterns.to(torch.float32)
        self._room = None
        # an entry too small for the dtype may have become zero
        self.flushed = self.k * 64 * torch.finfo(torch.float32).tiny

    def certain(self, h: Tensor, leader: Tensor, lead: Tensor, spare: Tensor) -> Tensor:
        """Return for how many flips (Q, 1) the leader's victory is certain; -1: not even now.

        ``leader`` and its overlap ``lead`` are (Q, 1); ``h`` and ``spare`` (Q, K) may be spoilt.
        """
        raise NotImplementedError

    def flips(self, state: Tensor, leader: Tensor) -> tuple[Tensor, Tensor]:
        """Return how many flips are certain (Q, 1), as above, and what is copied then (Q, D).

        ``leader`` (Q, 1) says which memory; where it is -1 throughout, the leaders are found.
        """
        h, spare = self._space(len(state))
        torch.mm(state, self.patterns.T, out=h)
        if int(leader[0]) < 0:
            size = torch.abs(h, out=spare) if self.mirrored else h
            leader.copy_(size.argmax(1, keepdim=True))
        lead, goal = h.gather(1, leader), self.patterns.index_select(0, leader[:, 0])
        if self.mirrored:
            goal *= lead.sign()
            lead.abs_()
        return self.certain(h, leader, lead, spare), goal

    def _space(self, queries: int) -> Tensor:
        """Return room for two (Q, K) results, kept: asking for it costs more than filling it."""
        if self._room is None or self._room.shape[1] < queries:
            with torch.inference_mode(False):  # or it could not be written to in another mode
                self._room = torch.empty(2, queries, self.k, device=self.patterns.device)
        return self._room[:, :queries]

    def run(self, state: Tensor, visits: Tensor, made: Tensor, *, piece: int) -> Tensor:
        """Make visits (Q, T) for as long as they are certain; ``made`` (Q, 1) counts them.

        ``state`` (Q, D+1) and ``made`` change in place. Returns (Q,): True where the row is known
        to rest: it has become its leader, for whom the leader's certificate has only grown.
        """
        rests = made.new_zeros(len(made), dtype=torch.bool)
        leader = torch.full_like(made, -1)
        rows = torch.arange(len(made), device=made.device)
        while len(rows):
            parts = rows.split(piece)
            rows = torch.cat([self._stride(r, state, visits, made, leader, rests) for r in parts])
        return rests

    def _stride(self, rows, state, visits, made, leader, rests) -> Tensor:
        """Take these rows one stride further; return those that can go on."""
        here, order, now, who = (x.index_select(0, rows) for x in (state, visits, made, leader))
        flips, goal = self.flips(here[:, : self.dim], who)
        wish = goal.gather(1, order)
        steps = torch.arange(order.shape[1], device=order.device)
        wrong = (here.gather(1, order) != wish) & (steps >= now)
        # the flip after the last certain one is certain too, and so are all visits before it
        certain = (wrong.cumsum(1, dtype=torch.int32) <= flips + 1) & (flips >= 0)
        here.scatter_(1, torch.where(certain & wrong, order, self.dim), wish)
        now = torch.maximum(now, certain.sum(1, keepdim=True))
        over, sure = now[:, 0] == order.shape[1], flips[:, 0] >= 0
        state[rows], made[rows], leader[rows] = here, now, who
        rests[rows] = over & sure & (here[:, : self.dim] == goal).all(1)
        return rows[sure & ~over]


class _PowerStrides(_Strides):
    r"""F(m) = m^n, rectified or not. With r = n - 1, kappa = 2n (exact rule) or 1, and c >= 0:

    .. math:: \kappa c^r \le G(c) \le \kappa (c + 1)^r

    So the leader wins while (Minkowski, norms of order r)

    .. math:: h_a + 2s - 1 > \lVert h_{\text{rest}} \rVert_r + (2s + 2) K^{1/r}
    """

    def __init__(self, memory):
        super().__init__(memory)
        self.power = memory.separation.n - 1
        self.rectified = bool(memory.separation(torch.tensor(-1.0)) == 0)
        self.mirrored = not self.rectified and self.power % 2 == 1
        self.spread = self.k ** (1 / self.power)
        # rounding of h / D, of its power, and of a sum of K
        self.more = 1 + (self.k + 2 * self.power + 16) * torch.finfo(torch.float32).eps

    def certain(self, h: Tensor, leader: Tensor, lead: Tensor, spare: Tensor) -> Tensor:
        """Solve the bound for s."""
        h.scatter_(1, leader, 0)
        h = h.clamp_min_(0) if self.rectified else h.abs_()
        rest = self._power(h.mul_(1 / self.dim), spare).sum(1, keepdim=True).double()
        norm = self.dim * rest.mul_(self.more).add_(self.flushed).pow_(1 / self.power)
        room = lead - 1 - 1e-6 * self.dim - norm - 2 * self.spread
        return (room / (2 * self.spread - 2 + 1e-12)).floor_().clamp_min_(-1)

    def _power(self, x: Tensor, result: Tensor) -> Tensor:
        """Return x^r, r >= 2, by squaring, in the room of ``x`` and ``result`` alone."""
        for bit in range(self.power.bit_length()):
            if bit:
                x.square_()
            if self.power >> bit & 1:
                first = not self.power & ((1 << bit) - 1)
                result.copy_(x) if first else result.mul_(x)
        return result


class _ExponentialStrides(_Strides):
    r"""G(c) = e^(beta c) up to a factor: s falls out, and who wins now by enough always will.

    .. math:: 1 > \sum_{\text{rest}} e^{\beta (h - h_a + 2)}
    """

    def __init__(self, memory):
        super().__init__(memory)
        self.beta = memory.separation.beta
        # rounding of an exponent (-104 at the least, or its power is 0), and of a sum of K
        self.more = 1 + (self.k + 128) * torch.finfo(torch.float32).eps

    def certain(self, h: Tensor, leader: Tensor, lead: Tensor, spare: Tensor) -> Tensor:
        """Return infinity where the bound holds, else -1."""
        votes = h.sub_(lead - 2).mul_(self.beta).exp_().scatter_(1, leader, 0)
        rest = votes.sum(1, keepdim=True).double()
        return torch.where(rest * self.more + self.flushed < 1, math.inf, -1.0)


def strides_of(memory) -> _Strides | None:
    """Return the strides of a memory; None where a memory never outvotes many others for long."""
    if memory.separation.relative:
        return _ExponentialStrides(memory)
    return _PowerStrides(memory) if memory.separation.n > 2 else None


# ------------------------------------------------------------------ doubtful cases


class _Walk:
    """The queries of one piece, each at its own position in its own order.

    ``state`` (Q, D+1) and the number of visits ``made`` (Q, 1) of visits (Q, T) change in place.
    """

    def __init__(self, memory, weights, rule: str, state: Tensor, visits: Tensor, made: Tensor):
        self.memory, self.weights, self.rule = memory, weights, rule
        self.dim, (queries, self.end) = memory.dim, visits.shape
        self.reach = min(self.dim, self.end)
        # a product over all bits costs about 1 + D / 100 plain visits: too much for a near flip
        self.crowded = 1 / (1 + self.dim / 100)
        # the dummy bit is always held: it fills the orders up beyond their end
        dummy = visits.new_full((queries, self.reach), self.dim)
        self.visits = torch.cat([visits, dummy], 1)
        self.steps = torch.arange(self.reach, device=state.device)
        self.result = state, made
        self.state, self.pos = state.to(weights.dtype, copy=True), made.clone()
        self.rows = torch.arange(queries, device=state.device)
        self.h = weights.start(memory.sweeps.overlaps(state[:, : self.dim]))
        self.space = weights.space(queries)
        self.change = torch.empty_like(self.h)

    def run(self, flips: int) -> None:
        """Go on until every row has made so many flips more, one by one, or all its visits."""
        for _ in range(flips):
            self._to_next_flip()
            self._retire()
            if not len(self.rows):
                return
        self._hand_over(slice(None))

    def _ahead(self) -> Tensor:
        """Return the next visits of all rows."""
        return self.visits.gather(1, self.pos + self.steps)

    def _to_next_flip(self) -> None:
        """Move each row past its next visit that flips its bit (a doubtful one is decided)."""
        level, tilt, size = self.weights(self.h, self.space)
        margins = torch.empty_like(self.state)
        torch.mm(level, self.weights.patterns, out=margins[:, : self.dim])
        margins.mul_(self.state).add_(tilt)[:, self.dim] = math.inf
        noise = self.weights.noise(size, tilt)
        bits, held = self._ahead(), margins > noise
        waits = held.gather(1, bits)
        if float(waits.float().mean()) < 1 - self.crowded:
            self._visit_plainly(bits)
            return
        first = waits.view(torch.uint8).argmin(1, keepdim=True)  # 0 too where all of them wait
        here = bits.gather(1, first)
        margin = margins.gather(1, here)
        stops, flips = margin <= noise, margin < -noise
        doubt = stops ^ flips
        if bool(doubt.any()):
            for q in doubt[:, 0].nonzero()[:, 0].tolist():
                flips[q] = self._plain_decision(q, int(here[q]))
        onward = self.reach
        if self.end > self.reach:  # a row in which every bit is held has nothing left to do
            onward = torch.where(held.all(1, keepdim=True), self.end, self.reach)
        self._flip(here, flips)
        self.pos += torch.where(stops, first + 1, onward)

    def _flip(self, here: Tensor, flips: Tensor) -> None:
        """Flip the bit ``here`` of each row that asks for it; overlaps follow."""
        value = self.state.gather(1, here)
        code = torch.where(value > 0, here, here + self.dim).masked_fill_(~flips, 2 * self.dim)
        self.state.scatter_(1, here, torch.where(flips, -value, value))
        change = self.change[: len(self.h)]
        torch.index_select(self.weights.steps, 0, code[:, 0], out=change)
        self.h += change

    def _visit_plainly(self, bits: Tensor) -> None:
        """Where flips are dense, make the next visits the plain way."""
        rows = (self.pos[:, 0] < self.end).nonzero()[:, 0]
        block = min(64, self.reach, self.end - int(self.pos[rows].max()))
        spins = self.state[rows, : self.dim].to(self.memory.patterns.dtype)
        self.memory.sweeps.sweep(spins, bits[rows, :block], self.rule)
        self.state[rows, : self.dim] = spins.to(self.state.dtype)
        self.h[rows] = self.weights.start(self.memory.sweeps.overlaps(spins))
        self.pos[rows] += block

    def _plain_decision(self, row: int, bit: int) -> bool:
        """Return whether this visit flips its bit, by the plain vote."""
        xi = self.memory.sweeps.columns[bit][None]
        value = int(self.state[row, bit])
        clamped = self.weights.overlaps(self.h[row])[None] - xi * value
        vote = self.memory.sweeps.vote(xi, clamped, self.memory.sweeps.votes(self.rule), self.rule)
        return float(vote) * value < 0

    def _retire(self) -> None:
        """Hand over the rows whose visits are all made, once they are many."""
        self.pos.clamp_max_(self.end)
        over = self.pos[:, 0] == self.end
        if 4 * int(over.sum()) < len(over):
            return
        self._hand_over(over)
        stay = (~over).nonzero()[:, 0]
        self.rows, self.pos, self.state, self.visits, self.h = (
            x.index_select(0, stay) for x in (self.rows, self.pos, self.state, self.visits, self.h)
        )

    def _hand_over(self, some: Tensor | slice) -> None:
        """Write some rows where they came from."""
        state, made = self.result
        state[self.rows[some]] = self.state[some].to(state.dtype)
        made[self.rows[some]] = self.pos[some]


class _Shared:
    """What both kinds of weights have: float patterns, and a bound on rounding."""

    def __init__(self, memory, dtype: torch.dtype, whole: torch.dtype):
        self.memory, self.dtype, self.whole = memory, dtype, whole
        self.patterns, self.k = memory.patterns.to(dtype), memory.n_patterns
        # every entry is rounded twice, every sum of K terms at most K + 2 times
        self.gamma = (self.k + 8) * torch.finfo(dtype).eps
        # and an entry too small for the dtype may have become zero
        self.flushed = self.k * 64 * torch.finfo(dtype).tiny

    @cached_property
    def steps(self) -> Tensor:
        """What a flip adds to the overlaps: row i of bit i from +1, D+i from -1; row 2D: none."""
        step = 2 * self.memory.sweeps.columns.to(self.whole)
        return torch.cat([-step, step, step.new_zeros(1, self.k)])

    def noise(self, size: Tensor, tilt: Tensor) -> Tensor:
        """Bound a margin's rounding error: tilt is never positive, or |tilt| <= |level|."""
        return (size * (3 * self.gamma)).add_(self.flushed).sub_(tilt, alpha=self.gamma)

    def space(self, queries: int) -> tuple[Tensor, Tensor]:
        """Return room for two (Q, K) results, so that rounds need not ask for memory."""
        shape = (queries, self.k)
        return self.patterns.new_empty(shape), self.patterns.new_empty(shape)


class _Tabulated(_Shared):
    """Level and tilt of a polynomial, looked up by whole-number overlap (kept as table index).

    level, tilt = (G(h-1) +- G(h+1)) / 2; margin = sigma Xi^T level + tilt.
    """

    def __init__(self, memory, rule: str):
        dim, n = memory.dim, memory.separation.n
        # float32 holds 2**-126 .. 2**127: enough if a typical overlap sqrt(D) is not flushed away
        small = memory.n_patterns < 2**20 and (n - 1) / 2 * math.log2(dim + 2) < 180
        super().__init__(memory, torch.float32 if small else torch.float64, torch.int64)
        votes = memory.sweeps.votes(rule)
        scale = 2.0 ** (100 - math.frexp(float(votes.level.abs().max()))[1]) if small else 1.0
        self.level, self.tilt = ((x * scale).to(self.dtype) for x in (votes.level, votes.tilt))
        self.odd = bool(self.level[0] < 0)  # G odd: an opposite memory pulls to its negative
        self.offset = dim

    def start(self, overlaps: Tensor) -> Tensor:
        """Return kept overlaps: indices into the tables."""
        return overlaps.to(torch.int64).add_(self.offset)

    def overlaps(self, h: Tensor) -> Tensor:
        """Undo :meth:`start`."""
        return h - self.offset

    def __call__(self, h: Tensor, space=None) -> tuple[Tensor, Tensor, Tensor]:
        """Return level (Q, K), the sum of tilt (Q, 1), and the sum of |level| (Q, 1)."""
        level, tilt = (room[: len(h)] for room in space or self.space(len(h)))
        total = torch.gather(self.tilt.expand(len(h), -1), 1, h, out=tilt).sum(1, keepdim=True)
        torch.gather(self.level.expand(len(h), -1), 1, h, out=level)
        size = torch.abs(level, out=tilt) if self.odd else level
        return level, total, size.sum(1, keepdim=True)


class _Relative(_Shared):
    """Level and tilt of the exponential, relative to each row's largest overlap (kept as floats).

    G(c) = e^(beta c) up to a factor: level = w = e^(beta h), tilt = -tanh(beta) w, up to another.
    """

    def __init__(self, memory, rule: str):
        dtype = torch.float32 if memory.n_patterns < 2**20 else torch.float64
        super().__init__(memory, dtype, dtype)
        self.beta = memory.separation.beta
        self.slope = math.tanh(self.beta)

    def start(self, overlaps: Tensor) -> Tensor:
        """Return kept overlaps: floats, exact up to 2**24."""
        return overlaps.to(self.dtype)

    def overlaps(self, h: Tensor) -> Tensor:
        """Undo :meth:`start`."""
        return h.to(torch.int64)

    def __call__(self, h: Tensor, space=None) -> tuple[Tensor, Tensor, Tensor]:
        """Return level (Q, K), the sum of tilt (Q, 1), and the sum of |level| (Q, 1)."""
        level = (space or self.space(len(h)))[0][: len(h)]
        torch.sub(h, h.amax(1, keepdim=True), out=level).mul_(self.beta).exp_()
        size = level.sum(1, keepdim=True)
        return level, -self.slope * size, size
