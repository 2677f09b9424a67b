r"""How a `HAM` goes down: Euler steps, steps that are watched, layers that take turns, rest.

Pure functions of states, currents and energies; `amtutor.network.ham` hands them in. Nothing is
checked here. A ``held`` maps layer names to True (the whole layer is held) or to a bool mask.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from amtutor.network.lagrangians import _widen

States = dict[str, Tensor]
Held = Mapping[str, "Tensor | bool"]
MOST_HALVINGS = 30


def euler(
    states: Mapping, currents: States, shares: Mapping[str, float | Tensor], held: Held
) -> States:
    r"""New states :math:`x + \frac{dt}{\tau}(I - x)` of the layers that have currents.

    ``shares`` has dt / tau of each layer: a number, or one for each row.
    """
    new = {}
    for n, current in currents.items():
        x, share = states[n], shares[n]
        if isinstance(share, Tensor) and share.ndim:
            share = _per_row(share.to(x.dtype), x)
        new[n] = mix(held.get(n), x, torch.lerp(x, current.to(x.dtype), share))
    return new


def guarded(
    step: Callable[[float | Tensor], States],
    energies: Callable[[States], dict[str, Tensor]],
    states: States,
    step_size: float | Tensor,
    *,
    halve: bool,
) -> States:
    """Take each row only as far as its energy does not rise, or not at all.

    ``step(size)`` gives new states of the layers that move, ``size`` being one number for each row.
    With ``halve`` a row that rises tries half of its own step, up to `MOST_HALVINGS` times.
    """
    parts = torch.stack(list(energies(states).values()))
    eps = torch.finfo(parts.dtype).eps
    limit = parts.sum(0) + 8 * eps * parts.abs().sum(0)  # rounding is not rising

    def rises(new: States) -> Tensor:
        return ~(torch.stack(list(energies(states | new).values())).sum(0) <= limit)

    size = torch.ones_like(limit) * step_size
    new = step(size)
    bad = rises(new)
    for _ in range(MOST_HALVINGS if halve else 0):
        if not bad.any():
            return new
        size = torch.where(bad, size / 2, size)
        new = step(size)
        bad = rises(new)
    return {n: torch.where(_per_row(bad, x), states[n], x) for n, x in new.items()}


def unrest(states: Mapping, currents: States, held: Held) -> Tensor:
    r"""Norm of :math:`x - I` over the free entries of each row, (n,)."""
    rows = next(iter(states.values()))
    square = torch.zeros(len(rows), device=rows.device)
    for n, current in currents.items():
        slope = _widen(_free_part(held.get(n), states[n] - current))
        square = square + slope.flatten(1).square().sum(1)
    return square.sqrt()


def floors(names: Iterable[str], ties: Sequence[tuple[str, Sequence[str]]]) -> list[list[str]]:
    """Part names into sets in which nobody is tied to another; ``ties`` are pairs (key, names)."""
    names = list(names)
    level: dict[str, int] = {}
    for name in names:
        taken = set()
        for key, ends in ties:
            if list(ends).count(name) > 1:
                raise ValueError(f"ham: {key} connects {name!r} to itself, expected no such loop")
            if name in ends:
                taken |= {level[n] for n in ends if n in level}
        level[name] = min(set(range(len(names))) - taken)
    return [[n for n in names if level[n] == k] for k in range(max(level.values()) + 1)]


def at_rest(
    step: Callable[[States], States],
    start: States,
    rest: States,
    held: Held,
    *,
    steps: int,
    tol: float,
) -> States:
    r"""Hang gradients on a state at rest, :math:`x^* = g(x^*, \theta)` with g one ``step``.

    For a loss with gradient v there, :math:`dx^{*\top} v = (\partial g/\partial\theta)^\top u` with
    :math:`u = v + J_g^\top u`, found by iterating at most ``steps`` times, until u changes by less
    than ``tol`` of v. Entries that are held keep the gradient of ``start``.
    """
    once = step({n: mix(held.get(n), start[n], rest[n]) for n in rest})
    moving = [n for n in rest if held.get(n) is not True]

    def solve(*v: Tensor) -> list[Tensor]:
        with torch.enable_grad():
            x = {n: rest[n].detach().requires_grad_(n in moving) for n in rest}
            y = step(x)
        return _solve([x[n] for n in moving], [y[n] for n in moving], held, moving, v, steps, tol)

    ends = _Implicit.apply(solve, *(once[n] for n in moving)) if moving else ()
    end = dict(start) | dict(zip(moving, ends, strict=True))
    return {n: mix(held.get(n), start[n], end[n]) for n in rest}


def _solve(inputs, outputs, held: Held, moving, v: Sequence[Tensor], steps: int, tol: float):
    """Iterate u = v + J^T u over the free entries, J the Jacobian of outputs by inputs."""
    v = [_free_part(held.get(n), w) for n, w in zip(moving, v, strict=True)]
    size, u = _length(v), list(v)
    for _ in range(steps):
        back = torch.autograd.grad(
            outputs, inputs, u, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        terms = zip(moving, v, back, strict=True)
        new = [w + _free_part(held.get(n), b) for n, w, b in terms]
        change = _length([a - b for a, b in zip(new, u, strict=True)])
        u = new
        if change <= tol * size:
            break
    return u


class _Implicit(torch.autograd.Function):
    """The identity, whose backward pass solves for the adjoint of a fixed point."""

    @staticmethod
    def forward(ctx, solve, *x):
        ctx.solve = solve
        return tuple(a.clone() for a in x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *v):
        return None, *ctx.solve(*v)


def mix(held: Tensor | bool | None, old: Tensor, new: Tensor) -> Tensor:
    """Old where held, new where free."""
    if isinstance(held, Tensor):
        return torch.where(held, old, new)
    return old if held else new


def _free_part(held: Tensor | bool | None, x: Tensor) -> Tensor:
    """Zero where held."""
    if isinstance(held, Tensor):
        return x.masked_fill(held, 0)
    return torch.zeros_like(x) if held else x


def _per_row(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (like.ndim - 1))


def _length(tensors: Sequence[Tensor]) -> float:
    """Norm of all entries together; no float64 on the way, which some devices do not have."""
    return math.sqrt(sum(float(_widen(t).square().sum()) for t in tensors))
