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

import torch
from torch import Tensor

from amtutor import _check

__all__ = ["Descent", "Trajectory", "descend", "distinct"]

Energy = Callable[[Tensor], Tensor]
Gradient = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Trajectory:
    """Every state a descent went through, and its energy.

    ``states`` is (T+1, \\*batch, \\*state) and ``energies`` (T+1, \\*batch), where T is the most
    steps any element took. An element that stopped early repeats its last state. A `HAM` has
    ``states`` by layer, and ``components``: the energy of each layer and connection by name, which
    add up to ``energies``.
    """

    states: Tensor | dict[str, Tensor]
    energies: Tensor
    components: dict[str, Tensor] | None = None


@dataclass(frozen=True)
class Descent:
    """Where a descent ended.

    ``state`` has the shape of ``x0``; ``energy``, ``steps_taken`` (int64) and ``converged`` (bool)
    have the batch shape. ``converged`` is True where the gradient norm fell to ``tol`` at a finite
    energy; without ``tol`` nothing is claimed and all are False. ``trajectory`` is None unless
    ``record=True`` was asked for.
    """

    state: Tensor
    energy: Tensor
    steps_taken: Tensor
    converged: Tensor
    trajectory: Trajectory | None = None


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
) -> Descent:
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
    _check_settings(x0, steps, step_size, momentum, noise, tol)
    with torch.no_grad():
        walk = _Walk(energy, gradient, x0.detach(), clamp)
        for t in range(steps + 1):
            if record:
                walk.record()
            if callback is not None:
                callback(t, walk.whole.clone())
            if t == steps and tol is None:
                break
            slope = walk.slope(t)
            if tol is not None:
                slope = walk.let_rest(slope, tol)
            if t == steps or walk.nobody_moves:
                break
            walk.move(slope, step_size, momentum, noise, generator)
        return walk.result(record)


def distinct(states: Tensor, *, tol: float) -> tuple[Tensor, Tensor]:
    r"""Count where many descents ended: group states that lie within ``tol`` of each other.

    Args:
        states: (N, D), the ends of N descents.
        tol: > 0, well above the error of an end and well below the distance between two minima.

    Returns:
        ``(found, label)``: found (M, D), the first state of each group; label (N,) int64, the group
        of each state.

    >>> found, label = distinct(torch.tensor([[1.0], [5.0], [1.001]]), tol=0.1)
    >>> len(found), label.tolist()
    (2, [0, 1, 0])
    """
    _check.matrix("states", _check.floating("states", states))
    _check.positive("tol", tol)
    label = torch.full((len(states),), -1, device=states.device)
    first = []
    while (label < 0).any():
        seed = int((label < 0).int().argmax())
        near = (states - states[seed]).norm(dim=1) <= tol
        label[near & (label < 0)] = len(first)
        first.append(seed)
    return states[first], label


class _Walk:
    """The working state of one descent: every row, and which rows still move."""

    def __init__(self, energy: Energy, gradient: Gradient | None, x0: Tensor, clamp):
        self.energy, self.gradient, self.shape = energy, gradient, x0.shape
        self.batch = _batch_shape(energy(x0), x0)
        n = math.prod(self.batch)
        self.x = x0.reshape(n, *x0.shape[len(self.batch) :]).clone()
        self.held = _held(clamp, x0, self.x.shape)
        self.velocity = torch.zeros_like(self.x)
        self.active = torch.arange(n, device=x0.device)
        self.taken = torch.zeros(n, dtype=torch.int64, device=x0.device)
        self.converged = torch.zeros(n, dtype=torch.bool, device=x0.device)
        self.seen: list[tuple[Tensor, Tensor]] = []

    @property
    def whole(self) -> Tensor:
        """All rows, in the caller's shape."""
        return self.x.reshape(self.shape)

    @property
    def nobody_moves(self) -> bool:
        return len(self.active) == 0

    def record(self) -> None:
        self.seen.append((self.whole.clone(), self.energy(self.whole)))

    def slope(self, step: int) -> Tensor:
        """Gradient of the rows that still move, zero where held."""
        rows = self.x[self.active]
        if len(rows) == len(self.x):  # as long as nobody stopped, keep the caller's batch shape
            rows = rows.reshape(self.shape)
        if self.gradient is None:
            slope = _differentiate(self.energy, rows)
        else:
            slope = self.gradient(rows)
            if slope.shape != rows.shape:
                raise ValueError(
                    f"gradient: returned shape {tuple(slope.shape)}, expected {tuple(rows.shape)}"
                )
        slope = slope.reshape(-1, *self.x.shape[1:])
        if self.held is not None:
            slope = slope.masked_fill(self.held[self.active], 0)
        self.refuse("gradient", ~slope.flatten(1).isfinite().all(1), self.active, step)
        return slope

    def let_rest(self, slope: Tensor, tol: float) -> Tensor:
        """Drop the rows that have arrived; return the slope of the others."""
        moving = slope.flatten(1).norm(dim=1) > tol
        self.converged[self.active[~moving]] = True
        self.active = self.active[moving]
        return slope[moving]

    def move(self, slope: Tensor, step_size: float, momentum: float, noise: float, generator):
        """Take one step with the rows that still move."""
        change = -step_size * slope
        if momentum:
            change = change + momentum * self.velocity[self.active]
            self.velocity[self.active] = change
        if noise:  # drawn for every row, so that nobody's noise depends on who has stopped
            kick = torch.randn(
                self.x.shape, dtype=self.x.dtype, device=self.x.device, generator=generator
            )
            kick = kick if self.held is None else kick.masked_fill(self.held, 0)
            change = change + noise * kick[self.active]
        self.x[self.active] += change
        self.taken[self.active] += 1

    def result(self, record: bool) -> Descent:
        """Look at the energy where everybody ended, and hand over."""
        end = self.energy(self.whole).detach().reshape(-1)
        everyone = torch.arange(len(self.x), device=self.x.device)
        bad = end.isnan() | end.isneginf()
        if end.isposinf().any():  # fine only where no way leads down
            self.active = everyone
            steep = self.slope(int(self.taken.max())).flatten(1).abs().amax(1) > 0
            bad = bad | (end.isposinf() & steep)
        self.refuse("energy", bad, everyone, None)
        trajectory = None
        if record:
            states, energies = zip(*self.seen, strict=True)
            trajectory = Trajectory(torch.stack(states), torch.stack(energies).detach())
        return Descent(
            state=self.whole,
            energy=end.reshape(self.batch),
            steps_taken=self.taken.reshape(self.batch),
            converged=(self.converged & end.isfinite()).reshape(self.batch),
            trajectory=trajectory,
        )

    def refuse(self, what: str, bad: Tensor, rows: Tensor, step: int | None) -> None:
        """Stop at the first bad row, naming the step and the element."""
        if not bad.any():
            return
        row = int(rows[bad][0])
        step = int(self.taken[row]) if step is None else step
        where = tuple(int(i) for i in torch.unravel_index(torch.tensor(row), self.batch or (1,)))
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


def _held(clamp: Tensor | None, x0: Tensor, rows: torch.Size) -> Tensor | None:
    """Broadcast the clamp mask to every row."""
    if clamp is None:
        return None
    if not isinstance(clamp, Tensor) or clamp.dtype != torch.bool:
        raise TypeError(f"clamp: got a {_check.describe(clamp)}, expected a bool tensor")
    try:
        return clamp.to(x0.device).expand(x0.shape).reshape(rows)
    except RuntimeError:
        raise ValueError(
            f"clamp: got shape {tuple(clamp.shape)}, expected one that broadcasts to x0's "
            f"{tuple(x0.shape)}"
        ) from None


def _check_settings(x0, steps, step_size, momentum, noise, tol) -> None:
    """Refuse what cannot be a descent, one clear line each."""
    _check.finite("x0", _check.floating("x0", x0))
    if x0.ndim == 0:
        raise ValueError("x0: got a 0-dimensional tensor, expected shape (*batch, *state)")
    _check.count("steps", steps, least=0)
    _check.positive("step_size", step_size)
    _check.non_negative("noise", noise)
    if not 0 <= _check.number_or_fail("momentum", momentum, "a number in [0, 1)") < 1:
        raise _check.fail("momentum", momentum, "a number in [0, 1)")
    if tol is not None:
        _check.non_negative("tol", tol)
