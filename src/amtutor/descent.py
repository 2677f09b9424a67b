r"""Remembering is going downhill: gradient descent on an energy, one stopping time per query.

.. math:: v \leftarrow m\,v - \eta\,\nabla E(x), \qquad x \leftarrow x + v + s\,\epsilon,
          \qquad \epsilon \sim N(0, 1)

Three rules hold everywhere:

* **Rows are strangers.** The state is what remains of ``x0`` after the batch shape, which is read
  from ``energy(x0)``. Neither the energy nor the noise of one row may depend on another, so an
  answer never depends on who else is in the batch.
* **Whoever has arrived, rests.** With ``tol`` an element stops once the L2 norm of its gradient
  over the free entries is <= ``tol``, and is dropped from the work. The others are then handed to
  ``energy`` and ``gradient`` as rows (n, \*state). With ``noise`` a stop is only the first visit to
  a flat place: to draw samples, leave ``tol`` out.
* **Nothing infinite is followed.** A NaN or infinite gradient, and an energy of NaN or -inf, end
  the descent with an error. An energy of +inf is accepted only where the gradient is exactly zero
  (no way leads down, as off the support of the LSR energy): that element stays where it is and does
  not count as converged.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from amtutor import _check, _draw

__all__ = ["Descent", "Trajectory", "descend", "distinct"]

Energy = Callable[[Tensor], Tensor]
Gradient = Callable[[Tensor], Tensor]
Callback = Callable[[int, Any], object]
Rows = dict[Any, Tensor]
State = TypeVar("State", Tensor, dict[str, Tensor])  # one tensor, or a HAM's by layer


@dataclass(frozen=True)
class Trajectory(Generic[State]):
    """Every state a descent went through, and its energy.

    ``states`` is (T+1, \\*batch, \\*state) and ``energies`` (T+1, \\*batch), where T is the most
    steps any element took. An element that stopped early repeats its last state. A `HAM` has
    ``states`` by layer, and ``components``: the energy of each layer and connection by name, which
    add up to ``energies``.
    """

    states: State
    energies: Tensor
    components: dict[str, Tensor] | None = None


@dataclass(frozen=True)
class Descent(Generic[State]):
    """Where a descent ended.

    ``state`` has the shape of ``x0``; ``energy``, ``steps_taken`` (int64) and ``converged`` (bool)
    have the batch shape. ``converged`` is True where the gradient norm fell to ``tol`` at a finite
    energy; without ``tol`` nothing is claimed and all are False. ``trajectory`` is None unless
    ``record=True`` was asked for.
    """

    state: State
    energy: Tensor
    steps_taken: Tensor
    converged: Tensor
    trajectory: Trajectory[State] | None = None


def descend(
    energy: Energy,
    x0: Tensor,
    *,
    steps: int,
    step_size: float,
    gradient: Gradient | None = None,
    clamp: Tensor | None = None,
    momentum: float = 0.0,
    noise: float = 0.0,
    tol: float | None = None,
    generator: torch.Generator | None = None,
    record: bool = False,
    callback: Callable[[int, Tensor], object] | None = None,
) -> Descent[Tensor]:
    r"""Walk downhill on an energy: x <- x - step_size * grad E(x), each batch element for itself.

    Args:
        energy: maps (\*batch, \*state) to one value per batch element.
        x0: start, floating point; a 1-D tensor is a single state. Never modified.
        steps: most steps any element may take, >= 0.
        step_size: eta > 0.
        gradient: maps (\*batch, \*state) to the same shape; None differentiates ``energy``.
        clamp: bool, broadcast to ``x0``; True entries are held at their start.
        momentum: m in [0, 1).
        noise: s >= 0, standard deviation of what is added to each free entry in each step.
        tol: gradient norm at which an element stops; None runs all the steps.
        generator: source of the noise.
        record: keep every state and energy.
        callback: is called with (step, state) after every step; step 0 is the start.

    Raises:
        ValueError, TypeError: an argument has the wrong range, type or shape.
        FloatingPointError: an energy or gradient is not finite; names the step and the element.

    Source: MM 5.8-5.10. The module's text has the rules for stopping, noise and infinities.

    >>> bowl = lambda x: 0.5 * (x**2).sum(-1)
    >>> x0 = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    >>> rest = descend(bowl, x0, steps=99, step_size=0.5, tol=1e-2)
    >>> rest.steps_taken.tolist(), rest.converged.tolist()
    ([9, 0], [True, True])
    """
    _check_functions(energy, gradient)
    _check_settings(x0, steps, step_size, momentum, noise, tol, generator)
    with torch.no_grad():
        x0 = x0.detach()
        way = _Way(energy, gradient, x0, clamp, step_size, momentum, noise, generator)
        film = Film() if _check.boolean("record", record) else None
        watchers = watched_by(film, callback)

        def watch(t: int, rows: Rows) -> None:
            for look in watchers:
                look(t, rows["x"].reshape(x0.shape).clone())

        rows, taken, arrived = go_down(
            way.start(), steps=steps, tol=tol, slope=way.slope, move=way.move, watch=watch
        )
        return way.result(rows["x"], taken, arrived, film)


def distinct(states: Tensor, *, tol: float) -> tuple[Tensor, Tensor]:
    r"""Count where many descents ended: group states that lie within ``tol`` of each other.

    Args:
        states: (N, D), the ends of N descents.
        tol: > 0, well above the error of an end and well below the distance between two minima.

    Returns:
        ``(found, label)``: found (M, D), the first state of each group; label (N,) int64, the group
        of each state.

    Raises:
        ValueError, TypeError: ``states`` is no finite (N, D) tensor, ``tol`` no number > 0.

    >>> found, label = distinct(torch.tensor([[1.0], [5.0], [1.001]]), tol=0.1)
    >>> len(found), label.tolist()
    (2, [0, 1, 0])
    """
    _check.matrix("states", _check.finite("states", _check.floating("states", states)))
    _check.positive("tol", tol)
    label = torch.full((len(states),), -1, device=states.device)
    first: list[int] = []
    while (label < 0).any():
        seed = int((label < 0).int().argmax())
        near = (states - states[seed]).norm(dim=1) <= tol
        label[near & (label < 0)] = len(first)
        first.append(seed)
    return states[first], label


# The loop behind everything here that goes down


def go_down(
    rows: Rows,
    *,
    steps: int,
    slope: Callable[[Rows, int, Tensor], Rows],
    move: Callable[[Rows, Rows, int, Tensor], Rows],
    watch: Callable[[int, Rows], None],
    tol: float | None = None,
    size: Callable[[Rows, Rows], Tensor] | None = None,
) -> tuple[Rows, Tensor, Tensor]:
    """Let rows go down until each has arrived; the only place that knows who still moves.

    Args:
        rows: everything that belongs to a row, by name, tensors (n, ...): where it is and whatever
            goes with it (what of it is held, its velocity). Written over where nothing needs its
            gradient, so hand over copies.
        steps: most steps any row may take.
        slope: ``slope(rows, step, who)`` gives tensors (m, ...) for the m rows that still move;
            ``who`` (m,) are their places among the n.
        move: ``move(rows, slope, step, who)`` gives what has changed of these rows.
        watch: ``watch(step, rows)`` sees all n rows at every moment, the start included.
        tol: a row rests once its ``size(rows, slope)`` (m,), the norm unless given, is <= tol.

    Returns:
        All rows, the steps each took (int64) and whether it arrived (bool), (n,) each.
    """
    first = next(iter(rows.values()))
    n, size = len(first), size or (lambda rows, slope: _norm(slope))
    who = torch.arange(n, device=first.device)
    taken = torch.zeros_like(who)
    arrived = torch.zeros_like(who, dtype=torch.bool)
    for t in range(steps + 1):
        watch(t, rows)
        if t == steps and tol is None:
            break
        here = rows if len(who) == n else _pick(rows, who)
        down = slope(here, t, who)
        if tol is not None:
            moving = size(here, down) > tol
            arrived[who[~moving]] = True
            if not moving.all():
                here, down, who = _pick(here, moving), _pick(down, moving), who[moving]
        if t == steps or len(who) == 0:
            break
        new = move(here, down, t, who)
        rows = rows | (new if len(who) == n else {k: _put(rows[k], who, new[k]) for k in new})
        taken[who] += 1
    return rows, taken, arrived


class Film:
    """The callback that ``record=True`` is: it keeps every state."""

    def __init__(self) -> None:
        self.states: list[Any] = []

    def __call__(self, step: int, state: Any) -> None:
        self.states.append(state)


def watched_by(*watchers: Callback | None) -> list[Callback]:
    """Leave out those that are None; refuse what cannot be called."""
    there = [w for w in watchers if w is not None]
    for w in there:
        if not callable(w):
            raise TypeError(f"callback: got a {_check.describe(w)}, expected f(step, state)")
    return there


def _pick(rows: Rows, which: Tensor) -> Rows:
    return {k: v[which] for k, v in rows.items()}


def _put(all_rows: Tensor, who: Tensor, new: Tensor) -> Tensor:
    if all_rows.requires_grad or new.requires_grad:
        return all_rows.index_copy(0, who, new)
    return all_rows.index_copy_(0, who, new)


def _norm(slope: Rows) -> Tensor:
    """Length of each row's slope, over all its parts."""
    parts = [v.flatten(1).norm(dim=1) for v in slope.values()]
    return parts[0] if len(parts) == 1 else torch.stack(parts).norm(dim=0)


class _Way:
    """What `descend` walks on: an energy, its gradient and a rule for a step."""

    def __init__(
        self, energy, gradient, x0: Tensor, clamp, step_size, momentum, noise, generator
    ) -> None:
        self.energy, self.gradient, self.x0 = energy, gradient, x0
        self.step_size, self.momentum, self.noise = step_size, momentum, noise
        self.generator = generator
        self.batch = _batch_shape(energy(x0), x0)
        self.n = math.prod(self.batch)
        self.shape = self.n, *x0.shape[len(self.batch) :]
        self.held = None if clamp is None else _check.mask("clamp", clamp, x0).reshape(self.shape)

    def start(self) -> Rows:
        """All rows where they begin, with what belongs to each."""
        rows = {"x": self.x0.reshape(self.shape).clone()}
        if self.held is not None:
            rows["held"] = self.held
        if self.momentum:
            rows["velocity"] = torch.zeros_like(rows["x"])
        return rows

    def slope(self, rows: Rows, step: int, who: Tensor) -> Rows:
        """Gradient of these rows, zero where held."""
        x = rows["x"]
        if len(x) == self.n:  # as long as nobody stopped, keep the caller's batch shape
            x = x.reshape(self.x0.shape)
        slope = _differentiate(self.energy, x) if self.gradient is None else self.gradient(x)
        if not isinstance(slope, Tensor) or slope.shape != x.shape:
            raise ValueError(
                f"gradient: returned a {_check.describe(slope)}, expected shape {tuple(x.shape)}"
            )
        slope = slope.reshape(rows["x"].shape)
        if "held" in rows:
            slope = slope.masked_fill(rows["held"], 0)
        self._refuse("gradient", ~slope.flatten(1).isfinite().all(1), who, step)
        return {"x": slope}

    def move(self, rows: Rows, slope: Rows, step: int, who: Tensor) -> Rows:
        """One step of these rows."""
        new: Rows = {}
        change = -self.step_size * slope["x"]
        if self.momentum:
            change = new["velocity"] = change + self.momentum * rows["velocity"]
        if self.noise:  # drawn for every row, so that nobody's noise depends on who has stopped
            like, g = self.x0, self.generator
            kick = _draw.normal(self.shape, generator=g, dtype=like.dtype, device=like.device)[who]
            kick = kick.masked_fill(rows["held"], 0) if "held" in rows else kick
            change = change + self.noise * kick
        return new | {"x": rows["x"] + change}

    def result(self, x: Tensor, taken: Tensor, arrived: Tensor, film: Film | None) -> Descent:
        """Look at the energy where everybody ended, and hand over."""
        state = x.reshape(self.x0.shape)
        end = self.energy(state).detach().reshape(-1)
        everyone = torch.arange(self.n, device=x.device)
        bad = end.isnan() | end.isneginf()
        if end.isposinf().any():  # fine only where no way leads down
            rows = self.start() | {"x": x}
            steep = self.slope(rows, int(taken.max()), everyone)["x"].flatten(1).abs().amax(1) > 0
            bad = bad | (end.isposinf() & steep)
        if bad.any():
            self._refuse("energy", bad, everyone, int(taken[bad][0]))
        trajectory = None
        if film is not None:
            energies = torch.stack([self.energy(x) for x in film.states]).detach()
            trajectory = Trajectory(torch.stack(film.states), energies)
        return Descent(
            state=state,
            energy=end.reshape(self.batch),
            steps_taken=taken.reshape(self.batch),
            converged=(arrived & end.isfinite()).reshape(self.batch),
            trajectory=trajectory,
        )

    def _refuse(self, what: str, bad: Tensor, who: Tensor, step: int) -> None:
        """Stop at the first bad row, naming the step and the element."""
        if not bad.any():
            return
        row = who[bad][0].cpu()
        where = tuple(int(i) for i in torch.unravel_index(row, self.batch or (1,)))
        element = f"batch element {where}" if self.batch else "the state"
        raise FloatingPointError(
            f"{what} of {element} is not finite at step {step}: expected finite values "
            "(is step_size too large?)"
        )


def _differentiate(energy: Energy, x: Tensor) -> Tensor:
    """Exact gradient of each row's energy, whatever gradient mode the caller is in."""
    with torch.inference_mode(False), torch.enable_grad():
        x = x.clone().requires_grad_()
        try:
            values = energy(x)
            slope = None
            if values.requires_grad:
                (slope,) = torch.autograd.grad(values.sum(), x, allow_unused=True)
        except RuntimeError as error:
            if "nference tensor" not in str(error):
                raise
            raise ValueError(
                "energy: uses tensors made under torch.inference_mode(), expected tensors made "
                "outside it (automatic differentiation cannot keep the others), or gradient="
            ) from None
    if slope is not None:
        return slope
    raise ValueError(
        "energy: its values cannot be differentiated with respect to x, "
        "expected differentiable operations on x, or pass gradient="
    )


def _batch_shape(values: Tensor, x0: Tensor) -> tuple[int, ...]:
    """Read the batch shape off the energy of the start."""
    shape = tuple(values.shape) if isinstance(values, Tensor) else None
    lead = None if shape is None else tuple(x0.shape[: len(shape)])
    if shape is None or shape != lead or len(shape) >= x0.ndim or (shape == () and x0.ndim > 1):
        got = f"shape {shape}" if shape is not None else f"a {type(values).__name__}"
        raise ValueError(
            f"energy returned {got}, expected one value per batch element: a leading part of "
            f"x0's shape {tuple(x0.shape)} (give a single many-dimensional state as x0[None])"
        )
    return shape


def _check_functions(energy, gradient) -> None:
    for name, f in (("energy", energy), ("gradient", gradient)):
        if not callable(f) and not (name == "gradient" and f is None):
            raise TypeError(f"{name}: got a {_check.describe(f)}, expected a function of states")


def _check_settings(x0, steps, step_size, momentum, noise, tol, generator) -> None:
    """Refuse what cannot be a descent, one clear line each."""
    _check.finite("x0", _check.floating("x0", x0))
    if x0.ndim == 0:
        raise ValueError("x0: got a 0-dimensional tensor, expected shape (*batch, *state)")
    _check.count("steps", steps, least=0)
    _check.positive("step_size", step_size)
    _check.non_negative("noise", noise)
    _check.between("momentum", momentum, 0, 1, ends="[)")
    _check.generator("generator", generator)
    if tol is not None:
        _check.non_negative("tol", tol)
