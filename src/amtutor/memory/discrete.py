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

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from amtutor import _check
from amtutor.descent import Descent, Trajectory
from amtutor.memory.separations import (
    RULES,
    Exponential,
    Polynomial,
    Pull,
    RectifiedPolynomial,
    Separation,
    exact_sign,
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

    def __init__(self, patterns: Any, separation: Separation):
        if not isinstance(separation, Separation):
            raise TypeError(
                f"separation: got {_check.describe(separation)}, expected Polynomial(n), "
                "RectifiedPolynomial(n) or Exponential()"
            )
        super().__init__()
        patterns = _check.matrix("patterns", _spins("patterns", patterns))
        self.register_buffer("patterns", patterns)
        self.separation = separation
        self._kept: dict[str, Any] = {}  # what was made of the patterns, until they change
        self.n_patterns, self.dim = self.patterns.shape

    def extra_repr(self) -> str:
        """Name the sizes and the separation."""
        return f"K={self.n_patterns}, D={self.dim}, {self.separation}"

    def energy(self, state: Any) -> Tensor:
        r"""Return E (\*batch) of states (\*batch, D); -1: one memory matched perfectly (MM 2.1)."""
        rows, batch = self._rows(state)
        parts = [
            self.separation.energy(self._products(part).to(self.patterns) / self.dim, self.dim)
            for part in self._parts(rows)
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
        for part in self._parts(rows):
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
        callback: Callable[[int, Tensor], None] | None = None,
    ) -> Descent:
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
            callback: called with (step, state) at the moments that ``record`` names, or without it
                after every sweep; step 0 is the query. The state is a copy, of the query's shape.

        Returns:
            A :class:`~amtutor.descent.Descent`. ``steps_taken`` counts the sweeps in which at least
            one bit flipped; ``converged`` is True where no single visit would flip a bit. The first
            frame of ``trajectory`` is the query, its last the answer.

        Raises:
            ValueError, TypeError: a query of the wrong shape or values, or an unknown option.
        """
        return self._recall_by(self, state, rule, max_sweeps, order, generator, record, callback)

    def _recall_by(
        self, engine, state, rule, max_sweeps, order, generator, record, callback
    ) -> Descent:
        """Recall with ``engine`` making the sweeps: this memory itself, or a twin of it."""
        _check.choice("rule", rule, RULES)
        _check.count("max_sweeps", max_sweeps)
        every = _check.count("record", record) if record is not True and record else int(record)
        rows, batch = self._rows(state)
        run = _Run(self, rows.clone(), batch, rule, engine, record, every, callback)
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
    def _columns(self) -> Tensor:
        """The patterns by bit, (D, K) int8."""
        if "columns" not in self._kept:
            self._kept["columns"] = self.patterns.T.to(torch.int8).contiguous()
        return self._kept["columns"]

    def _apply(self, fn, recurse: bool = True):
        """Move or cast as every module does, and forget what was made of the old patterns."""
        self._kept.clear()
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        """Take patterns from a file, if they are some."""
        if prefix + "patterns" in state_dict:
            _spins("patterns", state_dict[prefix + "patterns"])
        self._kept.clear()
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _parts(self, rows: Tensor) -> tuple[Tensor, ...]:
        return rows.split(max(1, PRODUCT // self.n_patterns))

    def _rows(self, state: Any) -> tuple[Tensor, torch.Size]:
        """Check queries and return them as (Q, D) rows, with their batch shape."""
        spins = _check.last_dim("state", _spins("state", state), self.dim).to(self.patterns)
        return spins.reshape(-1, self.dim), spins.shape[:-1]

    def _overlaps(self, rows: Tensor) -> Tensor:
        """Return xi . sigma as whole numbers, (Q, K) int32."""
        return self._products(rows).to(torch.int32)

    def _products(self, rows: Tensor) -> Tensor:
        work = torch.promote_types(self.patterns.dtype, torch.float32)  # exact up to D = 2**24
        return rows.to(work) @ self.patterns.to(work).T

    def _pull(self, rule: str) -> Pull:
        return tabulate(self.separation, self.dim, self.n_patterns, rule).to(self.patterns.device)

    def sweep(self, state: Tensor, visits: Tensor, rule: str) -> Tensor:
        """Visit bits (Q, T), one per query at a time; ``state`` (Q, D) is updated in place.

        Returns (Q,): True where the row is known to rest now, which nobody knows here.

        This is MM 2.2 with kept overlaps: the bit is taken out of all K overlaps, the memories
        vote, and the winner is put back in.
        """
        pull = self._pull(rule)
        chunk = max(1, CHUNK // self.n_patterns)
        for start in range(0, len(state), chunk):
            some = slice(start, start + chunk)
            overlaps = self._overlaps(state[some])
            for i in visits[some].T:
                xi = self._columns.index_select(0, i)  # (Q, K): what each memory wants here
                bit = state[some].gather(1, i[:, None]).to(torch.int8)
                clamped = overlaps - xi * bit
                vote = self._vote(xi, clamped, pull, rule)[:, None]
                winner = torch.where(vote == 0, bit, vote.sign().to(torch.int8))
                overlaps = clamped + xi * winner
                state[some].scatter_(1, i[:, None], winner.to(state))
        return torch.zeros(len(state), dtype=torch.bool, device=state.device)

    def calm(self, state: Tensor, rule: str) -> Tensor:
        """Return (Q,): True where no visit would flip a bit of rows (Q, D)."""
        calm = [
            (self._margins(x, self._overlaps(x), rule) >= 0).all(-1) for x in self._parts(state)
        ]
        return torch.cat(calm)

    def _vote(self, xi: Tensor, clamped: Tensor, pull: Pull, rule: str) -> Tensor:
        """Return sum xi G(clamped) per row, with its sign (and a tie's 0) beyond doubt."""
        strength = pull.look_up(pull.vote, pull.index(clamped))
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
        index = pull.index(overlaps)
        side, bend = pull.look_up(pull.side, index), pull.look_up(pull.bend, index)
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

    def __init__(self, memory, rows, batch, rule, engine, record, every, callback):
        self.memory, self.state, self.batch, self.rule = memory, rows, batch, rule
        self.engine, self.recording, self.every = engine, bool(record), every
        self.callback, self.moment = callback, 0
        self.per_sweep = record is True
        self.restless = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
        self.sweeps = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
        self.frames: list[Tensor] = []
        self._keep_frame()

    def sweep(self, visits: Tensor) -> None:
        """Let every restless query make its visits, some at a time if frames are wanted."""
        before = self.state.clone()
        pieces = visits.split(self.every, 1) if self.recording and not self.per_sweep else [visits]
        active = self.restless.nonzero()[:, 0]
        for piece in pieces:
            state = self.state[active]
            rests = self.engine.sweep(state, piece[active], self.rule)
            self.state[active] = state
            self._keep_frame()
        self.restless[active] = ~rests
        self._take_stock(before)

    def flip_all(self) -> None:
        """Let all bits of every restless query choose at the same moment."""
        before = self.state.clone()
        for some in self.memory._parts(self.restless.nonzero()[:, 0]):
            state = self.state[some]
            margins = self.memory._margins(state, self.memory._overlaps(state), self.rule)
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
        self.sweeps += (self.state != before).any(-1)
        active = self.restless.nonzero()[:, 0]
        self.restless[active] = ~self.engine.calm(self.state[active], self.rule)

    def result(self) -> Descent:
        shape = (*self.batch, self.memory.dim)
        trajectory = None
        if self.recording:
            states = torch.stack(self.frames).reshape(-1, *shape)
            energies = torch.stack([self.memory.energy(s) for s in states])
            trajectory = Trajectory(states, energies)
        return Descent(
            state=self.state.reshape(shape),
            energy=self.memory.energy(self.state.reshape(shape)),
            steps_taken=self.sweeps.reshape(self.batch),
            converged=~self.restless.reshape(self.batch),
            trajectory=trajectory,
        )


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
