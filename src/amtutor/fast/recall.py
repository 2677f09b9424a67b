r"""One asynchronous sweep, hand-scheduled: the same bits as ``DiscreteDenseAM._sweep``, sooner.

The plain sweep asks every memory at every visit. This one spends work only where a bit *changes*:

0. **A clear case needs no votes.** A cue near one memory is copied there in a few strides, each
   as long as the bound of 2. below is sure of (:class:`_Strides`). The rest walk:
1. **All margins at once.** The identity of ``DiscreteDenseAM.flip_gains`` gives, from one matrix
   product, by how much every bit is held. They stay right until the next flip, so the first
   visit with a negative margin is found without making the visits before it.
2. **Many flips at once.** Where one memory outvotes all others together, and provably goes on
   doing so for the next t flips (:meth:`_Tabulated.budget`), those visits copy that memory.
3. **No rounding decides.** Products run in float32 with a rigorous bound on their error; a visit
   whose margin is within the bound is decided by the plain vote (float64, then whole numbers).

Rows are queries, each with its own order; they are worked on in pieces that fit a core's cache.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

PIECE = 2**18  # overlaps (queries x memories) in one piece
NEVER = -1.0  # a budget of no certified visit at all


class FastSweep:
    """Twin of the plain sweep of one memory; prepares its tables on first use."""

    def __init__(self, memory):
        self.memory = memory
        self._weights: dict[str, _Tabulated | _Relative] = {}
        steep = not memory.separation.relative and memory.separation.n > 2
        self._strides = _Strides(memory) if steep else None

    def sweep(self, state: Tensor, visits: Tensor, rule: str) -> Tensor:
        """Visit bits (Q, T), one per query at a time; ``state`` (Q, D) is updated in place.

        Returns (Q,): True where the row is known to rest now (False: nobody looked).
        """
        made = visits.new_zeros(len(visits), 1)
        rests = visits.new_zeros(len(visits), dtype=torch.bool)
        rows = max(1, PIECE // self.memory.n_patterns)
        weights, rest = self._weights_of(rule), torch.arange(len(state), device=state.device)
        for flips in (0, 1, 2, 4) if self._strides else ():
            # after a flip or two, a row that was in doubt may be clear enough for strides
            some = [x.index_select(0, rest) for x in (state, visits, made, rests)]
            for part in zip(*(x.split(rows) for x in some[:3]), strict=True) if flips else ():
                _Walk(self.memory, weights, rule).take(flips, *part)
            self._strides.run(*some, piece=rows)
            state[rest], made[rest], rests[rest] = some[0], some[2], some[3]
            rest = rest[some[2][:, 0] < visits.shape[1]]
            if not len(rest):
                return rests
        for some in rest.split(rows):
            walk = _Walk(self.memory, weights, rule)
            state[some] = walk.run(state[some], visits[some], made[some])
        return rests

    def calm(self, state: Tensor, rule: str) -> Tensor:
        """Return (Q,): True where no visit would flip a bit; doubtful rows ask the plain form."""
        weights = self._weights_of(rule)
        answer = torch.empty(len(state), dtype=torch.bool, device=state.device)
        rows = max(1, PIECE // self.memory.n_patterns)
        for start in range(0, len(state), rows):
            some = state[start : start + rows]
            side, bend, size = weights(weights.start(self.memory._overlaps(some)))
            margins = (side @ weights.patterns)[:, :-1] * some + bend
            noise = weights.noise(size, bend)
            calm = (margins > noise).all(1)
            doubt = ~calm & ~(margins < -noise).any(1)
            if bool(doubt.any()):
                calm[doubt] = self.memory.calm(some[doubt], rule)
            answer[start : start + rows] = calm
        return answer

    def _weights_of(self, rule: str) -> _Tabulated | _Relative:
        if rule not in self._weights:
            kind = _Relative if self.memory.separation.relative else _Tabulated
            self._weights[rule] = kind(self.memory, rule)
        return self._weights[rule]


class _Walk:
    """The queries of one piece, each at its own position in its own order."""

    def __init__(self, memory, weights, rule: str):
        self.memory, self.weights, self.rule = memory, weights, rule
        self.dim = memory.dim
        # recounting overlaps after certified flips costs O(K D): worth it for this many flips
        self.worth = self.dim // 64
        # a product over all bits costs about 1 + D / 100 plain visits: too much for a near flip
        self.crowded = 1 / (1 + self.dim / 100)

    def run(self, state: Tensor, visits: Tensor, made: Tensor) -> Tensor:
        """Make the visits of all queries of this piece that are not ``made`` yet (Q, 1)."""
        self._start(state, visits, made)
        while len(self.rows):
            self._round()
            self._retire()
        return self.final[:, : self.dim].to(state.dtype)

    def take(self, flips: int, state: Tensor, visits: Tensor, made: Tensor) -> None:
        """Go on in place until every row has made ``flips`` flips more, one by one, or is done."""
        self._start(state, visits, made)
        for _ in range(flips):
            self._to_next_flip(None, *self.weights(self.h, self.space))
            self.pos.clamp_max_(self.end)
            if bool((self.pos == self.end).all()):
                break
        state.copy_(self.state[:, : self.dim])
        made.copy_(self.pos)

    def _start(self, state: Tensor, visits: Tensor, made: Tensor) -> None:
        queries, self.end = visits.shape
        self.reach = min(self.dim, self.end)
        # a dummy bit, number D, is always held: it fills the orders up beyond their end
        dummy = visits.new_full((queries, self.reach), self.dim)
        self.visits = torch.cat([visits, dummy], 1)
        self.steps = torch.arange(self.reach, device=state.device)
        self.state = torch.cat([state, state.new_ones(queries, 1)], 1).to(self.weights.dtype)
        self.rows = self.all = torch.arange(queries, device=state.device)
        self.pos = made.clone()
        self.h = self.weights.start(self.memory._overlaps(state))
        self.space = self.weights.space(queries)
        self.change = torch.empty_like(self.h)
        self.final = self.state.clone()

    def _round(self) -> None:
        """Take every query to its next flip, or as far as its certificate reaches."""
        side, bend, size = self.weights(self.h, self.space)
        budget = self.weights.budget(self.h, side, size)
        sure = None if budget is None else (budget >= self.worth).nonzero()[:, 0]
        if sure is None or not len(sure):
            self._to_next_flip(None, side, bend, size)
            return
        rest = (~(budget >= self.worth)).nonzero()[:, 0]
        if len(rest):
            self._to_next_flip(rest, *(x.index_select(0, rest) for x in (side, bend, size)))
        self._follow(sure, budget[sure])

    def _ahead(self, some: Tensor | None) -> Tensor:
        """Return the next visits of some rows (None: of all)."""
        visits, pos = self.visits, self.pos
        if some is not None:
            visits, pos = visits.index_select(0, some), pos.index_select(0, some)
        return visits.gather(1, pos + self.steps)

    def _follow(self, some: Tensor, budget: Tensor) -> None:
        """Let certified rows copy their strongest memory until the certificate is used up."""
        state, goal = self.state[some], self.weights.winner(self.h[some])
        bits = self._ahead(some)
        count = (state != goal).gather(1, bits).cumsum(1)
        certified = count <= budget[:, None] + 1  # the flip after the budget is certified too
        moved = torch.where(certified, bits, self.dim)
        self.state[some] = state = state.scatter(1, moved, goal.gather(1, moved))
        self.pos[some] = pos = self.pos[some] + certified.sum(1, keepdim=True)
        if bool((pos < self.end).any()):
            self.h[some] = self.weights.start(self.memory._overlaps(state[:, : self.dim]))

    def _to_next_flip(self, some: Tensor | None, side, bend, size) -> None:
        """Move each row past its next visit that flips its bit (a doubtful one is decided)."""
        state = self.state if some is None else self.state[some]
        margins = (side @ self.weights.patterns).mul_(state).add_(bend)
        margins[:, self.dim] = math.inf
        noise = self.weights.noise(size, bend)
        bits, held = self._ahead(some), margins > noise
        waits = held.gather(1, bits)
        if float(waits.float().mean()) < 1 - self.crowded:
            self._visit_plainly(some)
            return
        first = waits.view(torch.uint8).argmin(1, keepdim=True)  # 0 too where all of them wait
        here = bits.gather(1, first)
        margin = margins.gather(1, here)
        stops, flips = margin <= noise, margin < -noise
        doubt = stops ^ flips
        if bool(doubt.any()):
            for q in doubt[:, 0].nonzero()[:, 0].tolist():
                flips[q] = self._plain_decision(q if some is None else int(some[q]), int(here[q]))
        onward = self.reach
        if self.end > self.reach:  # a row in which every bit is held has nothing left to do
            onward = torch.where(held.all(1, keepdim=True), self.end, self.reach)
        self._flip(some, here, flips, torch.where(stops, first + 1, onward))

    def _flip(self, some: Tensor | None, here: Tensor, flips: Tensor, advance: Tensor) -> None:
        """Flip the bit ``here`` of each row that asks for it; overlaps and positions follow."""
        state = self.state if some is None else self.state[some]
        value = state.gather(1, here)
        code = torch.where(value > 0, here, here + self.dim).masked_fill_(~flips, 2 * self.dim)
        state.scatter_(1, here, torch.where(flips, -value, value))
        if some is None:
            self.pos += advance
        else:
            self.state[some] = state
            self.pos[some] += advance
            whole = code.new_full((len(self.rows), 1), 2 * self.dim)
            whole[some] = code
            code = whole
        change = self.change[: len(self.h)]
        torch.index_select(self.weights.steps, 0, code[:, 0], out=change)
        self.h += change

    def _visit_plainly(self, some: Tensor | None) -> None:
        """Where flips are dense, make the next visits the plain way."""
        rows = self.all[: len(self.rows)] if some is None else some
        rows = rows[self.pos[rows, 0] < self.end]
        block = min(64, self.reach, self.end - int(self.pos[rows].max()))
        state = self.state[rows]
        spins = state[:, : self.dim].to(self.memory.patterns.dtype).contiguous()
        self.memory.sweep(spins, self._ahead(rows)[:, :block], self.rule)
        state[:, : self.dim] = spins.to(state.dtype)
        self.state[rows] = state
        self.h[rows] = self.weights.start(self.memory._overlaps(spins))
        self.pos[rows] += block

    def _plain_decision(self, row: int, bit: int) -> bool:
        """Return whether this visit flips its bit, by the plain vote."""
        xi = self.memory._columns[bit][None]
        value = int(self.state[row, bit])
        clamped = self.weights.overlaps(self.h[row])[None] - xi * value
        vote = self.memory._vote(xi, clamped, self.memory._pull(self.rule), self.rule)
        return float(vote) * value < 0

    def _retire(self) -> None:
        """Hand over the rows whose visits are all made, once they are many."""
        self.pos.clamp_max_(self.end)
        over = self.pos[:, 0] >= self.end
        if 4 * int(over.sum()) < len(over):
            return
        self.final[self.rows[over]] = self.state[over]
        stay = (~over).nonzero()[:, 0]
        self.rows, self.pos, self.state, self.visits, self.h = (
            x.index_select(0, stay) for x in (self.rows, self.pos, self.state, self.visits, self.h)
        )


class _Strides:
    r"""Copies the strongest memory into a state, as far as the others are sure to be outvoted.

    With r = n - 1 and the strongest memory a: s flips later its overlap is h_a + 2s, that of any
    other at most h + 2s. Its pull at a visit is at least kappa (h_a + 2s - 1)^r, theirs at most
    kappa (h + 2s + 2)^r each, kappa = 2n (exact rule) or 1. So it wins while (Minkowski)

    .. math:: h_a + 2s - 1 > \lVert h_{\text{rest}} \rVert_r + (2s + 2) K^{1/r}
    """

    def __init__(self, memory):
        k, self.dim, self.power = memory.n_patterns, memory.dim, memory.separation.n - 1
        xi = memory.patterns.to(torch.float32)
        self.xi = torch.cat([xi, xi.new_zeros(k, 1)], 1)  # a dummy bit, as in a walk
        self.columns = self.xi.T.contiguous()
        self.rectified = bool(memory.separation(xi.new_tensor(-1.0)) == 0)
        self.spread, self._room = k ** (1 / self.power), None
        # rounding of h / D, of its power, and of a sum of K; and powers too small for a float
        self.more = 1 + (k + 2 * self.power + 16) * torch.finfo(torch.float32).eps
        self.flushed = k * 64 * torch.finfo(torch.float32).tiny

    def flips(self, state: Tensor, leader: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return how many flips to the leader are certain, and the leader, (Q, 1) each.

        One visit more than these is certain too; -1: not even the next one. The leader stays who
        it was, or is the memory with the largest overlap.
        """
        h, spare = (room[: len(state)] for room in self._space(state))
        torch.mm(state, self.columns, out=h)
        leader = h.argmax(1, keepdim=True) if leader is None else leader
        lead = h.gather(1, leader)
        h.scatter_(1, leader, 0)
        h = h.clamp_min_(0) if self.rectified else h.abs_()
        rest = self._power(h.mul_(1 / self.dim), spare).sum(1, keepdim=True).double()
        norm = self.dim * rest.mul_(self.more).add_(self.flushed).pow_(1 / self.power)
        room = lead - 1 - 1e-6 * self.dim - norm - 2 * self.spread
        return (room / (2 * self.spread - 2 + 1e-12)).floor_().clamp_(-1, 2 * self.dim), leader

    def _power(self, x: Tensor, result: Tensor) -> Tensor:
        """Return x^r, r >= 2, by squaring, in the room of ``x`` and ``result`` alone."""
        for bit in range(self.power.bit_length()):
            if bit:
                x.square_()
            if self.power >> bit & 1:
                first = not self.power & ((1 << bit) - 1)
                result.copy_(x) if first else result.mul_(x)
        return result

    def _space(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return room for two (Q, K) results, kept: asking for it costs more than filling it."""
        if self._room is None or len(self._room[0]) < len(state):
            self._room = tuple(self.columns.new_empty(len(state), len(self.xi)) for _ in "ab")
        return self._room

    def run(self, state: Tensor, visits: Tensor, made: Tensor, rests: Tensor, piece: int) -> None:
        """Make visits (Q, T) for as long as they are certain; change all but them in place.

        ``made`` (Q, 1) counts them; a row ``rests`` that has become its leader, for the leader's
        overlap, all that its certificate asks for, has only grown.
        """
        work = torch.cat([state, state.new_zeros(len(state), 1)], 1).to(torch.float32)
        leader = torch.empty_like(made)
        rows, first = torch.arange(len(state), device=state.device), True
        while len(rows):
            on = [
                self._stride(r, first, work, visits, leader, made, rests) for r in rows.split(piece)
            ]
            rows, first = torch.cat(on), False
        state.copy_(work[:, : self.dim])

    def _stride(self, rows, first, work, visits, leader, made, rests) -> Tensor:
        """Take these rows one stride further; return those that can go on."""
        state, order, now = (x.index_select(0, rows) for x in (work, visits, made))
        flips, follow = self.flips(state, None if first else leader[rows])
        goal = self.xi.index_select(0, follow[:, 0])
        wish = goal.gather(1, order)
        steps = torch.arange(order.shape[1], device=order.device)
        wrong = (state.gather(1, order) != wish) & (steps >= now)
        certain = (wrong.cumsum(1, dtype=torch.int32) <= flips + 1) & (flips >= 0)
        state.scatter_(1, torch.where(certain & wrong, order, self.dim), wish)
        state[:, self.dim] = 0
        now = torch.maximum(now, certain.sum(1, keepdim=True))
        over, sure = now[:, 0] == order.shape[1], flips[:, 0] >= 0
        work[rows], leader[rows], made[rows] = state, follow, now
        rests[rows] = over & sure & (state == goal).all(1)
        return rows[sure & ~over]


class _Shared:
    """What both kinds of weights have: float patterns, and a bound on rounding.

    ``patterns`` (K, D+1) ends in a column of zeros for the dummy bit; ``steps`` (2D+1, K) is what
    a flip of bit i adds to the overlaps: row i from +1, row D+i from -1, and row 2D no flip.
    """

    def __init__(self, memory, dtype: torch.dtype, whole: torch.dtype):
        self.dtype, self.dim, self.k = dtype, memory.dim, memory.n_patterns
        xi = memory.patterns.to(dtype)
        self.patterns = torch.cat([xi, xi.new_zeros(self.k, 1)], 1)
        step = 2 * memory._columns.to(whole)
        self.steps = torch.cat([-step, step, step.new_zeros(1, self.k)])
        # every entry is rounded twice, every sum of K terms at most K + 2 times
        self.gamma = (self.k + 8) * torch.finfo(dtype).eps
        # and an entry too small for the dtype may have become zero
        self.flushed = self.k * 64 * torch.finfo(dtype).tiny

    def noise(self, size: Tensor, bend: Tensor) -> Tensor:
        """Bound a margin's rounding error: bend is never positive, or |bend| <= |side|."""
        return (size * (3 * self.gamma)).add_(self.flushed).sub_(bend, alpha=self.gamma)

    def space(self, queries: int) -> tuple[Tensor, Tensor]:
        """Return room for two (Q, K) results, so that rounds need not ask for memory."""
        shape = (queries, self.k)
        return self.patterns.new_empty(shape), self.patterns.new_empty(shape)

    def _bits(self, a: Tensor) -> Tensor:
        """Return the pattern a of each row (Q, D+1), with the dummy bit at its value 1."""
        goal = self.patterns.index_select(0, a)
        goal[:, self.dim] = 1
        return goal


class _Tabulated(_Shared):
    """Side and bend of a polynomial, looked up by whole-number overlap (kept as table index).

    side = (G(h+1) + G(h-1)) / 2 and bend = (G(h-1) - G(h+1)) / 2; margin = sigma Xi^T side + bend.
    """

    def __init__(self, memory, rule: str):
        dim, n = memory.dim, memory.separation.n
        # float32 holds 2**-126 .. 2**127: enough if a typical overlap sqrt(D) is not flushed away
        small = memory.n_patterns < 2**20 and (n - 1) / 2 * math.log2(dim + 2) < 180
        super().__init__(memory, torch.float32 if small else torch.float64, torch.int64)
        pull = memory._pull(rule)
        side, bend = pull.side, pull.bend
        scale = 2.0 ** (100 - math.frexp(float(side.abs().max()))[1]) if small else 1.0
        self.side, self.bend = (side * scale).to(self.dtype), (bend * scale).to(self.dtype)
        self.odd = bool(side[0] < 0)  # G odd: an opposite memory pulls as well, to its negative
        self.two_sided = bool(side[0] != 0)  # not rectified
        self.offset, self.power = dim, n - 1
        self.top = float(side.abs().max() * scale)
        self.root = _root_of_top(memory.separation, dim, rule) if n > 1 else 0.0
        self.spread = self.k ** (1 / self.power) if n > 1 else math.inf

    def start(self, overlaps: Tensor) -> Tensor:
        """Return kept overlaps: indices into the tables."""
        return overlaps.to(torch.int64).add_(self.offset)

    def overlaps(self, h: Tensor) -> Tensor:
        """Undo :meth:`start`."""
        return h - self.offset

    def __call__(self, h: Tensor, space=None) -> tuple[Tensor, Tensor, Tensor]:
        """Return side (Q, K), the sum of bend (Q, 1), and the sum of |side| (Q, 1)."""
        side, bend = (room[: len(h)] for room in space or self.space(len(h)))
        total = torch.gather(self.bend.expand(len(h), -1), 1, h, out=bend).sum(1, keepdim=True)
        torch.gather(self.side.expand(len(h), -1), 1, h, out=side)
        size = torch.abs(side, out=bend) if self.odd else side
        return side, total, size.sum(1, keepdim=True)

    def budget(self, h: Tensor, side: Tensor, size: Tensor) -> Tensor | None:
        r"""Return for how many flips (Q,) the strongest memory is sure to win, -1: not for one.

        None if it is so for no row.

        With r = n-1 and kappa = 2n (exact rule) or 1: G(c) >= kappa c^r for the winner, whose
        overlap only grows, and G(c) <= kappa (c+1)^r for the others, whose overlaps grow by at
        most 2 a flip. So after s flips the winner wins while (Minkowski, norms of order r)

        .. math:: h_a + 2s - 1 > \lVert h_{\text{rest}} \rVert_r + (2s+2) K^{1/r},
                  \qquad \kappa \lVert h_{\text{rest}} \rVert_r^r \le \sum_{\text{rest}} |side|
        """
        size, top = size[:, 0], side.amax(1)
        if self.odd:
            top = torch.maximum(top, -side.amin(1))
        if not self.power or not bool((2 * top > size).any()):
            return None
        lead = h.amax(1) - self.offset
        if self.two_sided:  # G odd: the largest |h| leads; G even: only a positive h may
            other = self.offset - h.amin(1)
            lead = torch.maximum(lead, other) if self.odd else torch.where(other > lead, 0, lead)
        rest = (1 + 8 * self.gamma) * size.double() - top.double() + self.flushed
        norm = self.root * (rest / self.top) ** (1 / self.power)
        room = lead - 1 - 1e-6 * self.dim - norm - 2 * self.spread
        flips = (room / (2 * self.spread - 2 + 1e-12)).floor()
        return flips.clamp(NEVER, 2.0 * self.dim)

    def winner(self, h: Tensor) -> Tensor:
        """Return the bits (Q, D+1) that the strongest memory of each row wants."""
        h = h - self.offset
        a = (h.abs() if self.odd else h).argmax(1)
        goal = self._bits(a)
        if self.odd:
            goal[:, : self.dim] *= h.gather(1, a[:, None]).sign()
        return goal


class _Relative(_Shared):
    """Side and bend of the exponential, relative to each row's largest overlap (kept as floats).

    G(c) = e^(beta c) up to a factor, so side = w = e^(beta h), bend = -tanh(beta) w, up to another.
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
        """Return side (Q, K), the sum of bend (Q, 1), and the sum of |side| (Q, 1)."""
        side = (space or self.space(len(h)))[0][: len(h)]
        torch.sub(h, h.amax(1, keepdim=True), out=side).mul_(self.beta).exp_()
        size = side.sum(1, keepdim=True)
        return side, -self.slope * size, size

    def budget(self, h: Tensor, side: Tensor, size: Tensor) -> Tensor | None:
        """Return 2D where the strongest memory is sure to win for ever (Q,), else -1.

        The winner's pull is at least e^(beta (h_a + 2s - 1)) after s flips, that of each other at
        most e^(beta (h + 2s + 1)): if it wins by a factor e^(2 beta) now, it always will. Its own
        share of ``size`` is exactly 1.
        """
        rest = size[:, 0].double() * (1 + 8 * self.gamma) - 1 + self.flushed
        wins = 1 > math.exp(2 * self.beta) * rest
        return torch.where(wins, 2.0 * self.dim, NEVER) if bool(wins.any()) else None

    def winner(self, h: Tensor) -> Tensor:
        """Return the bits (Q, D+1) that the strongest memory of each row wants."""
        return self._bits(h.argmax(1))


def _root_of_top(separation, dim: int, rule: str) -> float:
    """Return (side(D) / kappa)^(1/r) in raw overlaps, a number a little above D."""
    n = separation.n
    if rule == "exact":
        top, kappa = separation.whole(dim + 2) - separation.whole(dim - 2), 4 * n
    else:
        top = separation.whole(dim + 1, slope=True) + separation.whole(dim - 1, slope=True)
        kappa = 2
    return math.exp((math.log(top) - math.log(kappa)) / (n - 1)) * (1 + 1e-9)
