r"""What can be asked of a field of arrows, learned or known: does it spread, does it turn, whose
slope is it?

A field gives an arrow at every place, ``field(x)`` with x (B, D) and the answer (B, D), each row by
itself. It is the slope of some energy if, and only if, its Jacobian
:math:`J_{ij} = \partial f_i/\partial x_j` is symmetric everywhere (in a space without holes). A
network that was trained to be a score owes nobody such a symmetry; `asymmetry` says how much it
lacks, and `line_energy` what energy one would read off it along a straight way.

Everything is by automatic differentiation, exact, or, where D is large, by random probes
(Hutchinson). It works under ``no_grad`` and ``inference_mode``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from amtutor import _check, _draw

__all__ = ["LineEnergy", "asymmetry", "curl", "divergence", "jacobian", "line_energy"]

Field = Callable[[Tensor], Tensor]


def jacobian(field: Field, x: Tensor) -> Tensor:
    r"""All derivatives of a field, :math:`J_{ij} = \partial f_i/\partial x_j`.

    Args:
        field: maps (B, D) to (B, D), each row by itself.
        x: (B, D).

    Returns:
        (B, D, D), by D backward passes.

    Raises:
        ValueError, TypeError: wrong shape or type, NaN, or a field that cannot be differentiated.

    >>> jacobian(lambda x: torch.stack([-x[:, 1], x[:, 0]], -1), torch.zeros(1, 2))
    tensor([[[ 0., -1.],
             [ 1.,  0.]]])
    """
    with torch.inference_mode(False), torch.enable_grad():
        x, out = _watched(field, x)
        rows = [_back(out[:, i], x) for i in range(x.shape[1])]
    return torch.stack(rows, dim=1).detach()


def curl(field: Field, x: Tensor) -> Tensor:
    r"""What a field turns, :math:`J - J^\top`, (B, D, D); zero where it is a slope.

    In the plane the entry [1, 0] is the curl that one knows, :math:`\partial_1 f_2-\partial_2 f_1`.
    Arguments as `jacobian`.

    >>> float(curl(lambda x: torch.stack([-x[:, 1], x[:, 0]], -1), torch.zeros(1, 2))[0, 1, 0])
    2.0
    """
    j = jacobian(field, x)
    return j - j.mT


def divergence(
    field: Field,
    x: Tensor,
    *,
    probes: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Divergence :math:`\sum_i\partial f_i/\partial x_i`, (B,): the trace of the Jacobian.

    Args:
        field, x: as `jacobian`.
        probes: None is exact, D backward passes. A number n takes the mean of :math:`v\cdot J v`
            over n vectors v of random signs (Hutchinson): right on average, off by about
            :math:`\sqrt{2/n}` times the root of the sum of squares of J's symmetric part off the
            diagonal.
        generator: source of the signs.
    """
    _check.generator("generator", generator)
    if probes is None:
        return torch.einsum("bii->b", jacobian(field, x))
    with torch.inference_mode(False), torch.enable_grad():
        x, out = _watched(field, x)
        total = torch.zeros_like(x[:, 0])
        for v in _signs(x, _check.count("probes", probes), generator):
            total = total + (_back((v * out).sum(-1), x) * v).sum(-1)
    return (total / probes).detach()


def asymmetry(
    field: Field,
    x: Tensor,
    *,
    probes: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Share of a field's Jacobian that turns, (B,): 0 for the slope of an energy, 1 for a whirl.

    .. math:: \frac{\|J - J^\top\|}{2\,\|J\|} \in [0, 1]

    in Frobenius norms. Where J = 0 it is 0.

    Args:
        field, x: as `jacobian`.
        probes: None is exact. A number n takes both norms from n vectors of random signs, as
            :math:`\|A\|^2=\langle\|Av\|^2\rangle`, by two backward passes each; the field must have
            second derivatives.
        generator: source of the signs.

    Source: MPS Observation 4, as a number.
    """
    _check.generator("generator", generator)
    if probes is None:
        j = jacobian(field, x)
        turns, whole = (j - j.mT).square().sum((1, 2)), j.square().sum((1, 2))
    else:
        with torch.inference_mode(False), torch.enable_grad():
            x, out = _watched(field, x)
            turns = whole = torch.zeros_like(x[:, 0])
            for v in _signs(x, _check.count("probes", probes), generator):
                down = _back((v * out).sum(-1), x)  # v J
                # J v: differentiate u J, which is linear in u, by u
                u = torch.zeros_like(out, requires_grad=True)
                (uj,) = torch.autograd.grad((u * out).sum(), x, create_graph=True)
                along = _back((uj * v).sum(-1), u)
                turns = turns + (along - down).square().sum(-1)
                whole = whole + along.square().sum(-1)
        turns, whole = turns.detach(), whole.detach()
    nothing = whole == 0
    return (turns / whole.masked_fill(nothing, 1)).sqrt() / 2


@dataclass(frozen=True)
class LineEnergy:
    r"""Energies (\*batch), and about how far the quadrature may be off (\*batch).

    >>> found = line_energy(lambda x: -x, torch.tensor([[3.0, 4.0], [0.0, 1.0]]), torch.zeros(2))
    >>> found.energy, found.error.max() < 1e-4
    (tensor([12.5000,  0.5000]), tensor(True))
    """

    energy: Tensor
    error: Tensor


def line_energy(
    score: Field, x: Tensor, start: Tensor, *, panels: int = 8, nodes: int = 8
) -> LineEnergy:
    r"""Energy read off a score along the straight way from ``start`` to ``x``.

    .. math:: E(x) - E(\text{start}) = -\int_0^1 s\bigl(x_\lambda\bigr)\cdot(x-\text{start})\,
              d\lambda, \qquad x_\lambda = \text{start}+\lambda\,(x-\text{start})

    In the scale of MM 4.4: it is a difference of :math:`-\log p`. A score that is no slope gives
    another number along another way, which the error does not know; compare two ways.

    Args:
        score: maps (n, D) to (n, D).
        x: (\*batch, D); start: (D,) or (\*batch, D).
        panels, nodes: Gauss-Legendre with ``nodes`` and with ``2 nodes`` places in each panel; the
            finer is the answer, their difference the error.

    Raises:
        ValueError, TypeError: wrong shape or type, NaN, a count below 1.

    >>> line_energy(lambda x: -x, torch.tensor([[3.0, 4.0]]), torch.zeros(2)).energy
    tensor([12.5000])
    """
    _function("score", score)
    _check.finite("x", _check.floating("x", x))
    _check.finite("start", _check.same_kind("start", _check.floating("start", start), x))
    if x.ndim == 0 or 0 in x.shape or start.shape not in (x.shape, x.shape[-1:]):
        raise ValueError(
            f"start: got shape {tuple(start.shape)} beside x {tuple(x.shape)}, expected (D,) or "
            "the shape of x, (*batch, D), nothing empty"
        )
    panels, nodes = _check.count("panels", panels), _check.count("nodes", nodes, most=64)
    way = (x - start).reshape(-1, x.shape[-1])
    begin = start.expand(x.shape).reshape(way.shape)
    with torch.no_grad():
        coarse, fine = (_gauss(score, begin, way, panels, n) for n in (nodes, 2 * nodes))
    energy, error = -fine, (fine - coarse).abs()
    return LineEnergy(energy.reshape(x.shape[:-1]), error.reshape(x.shape[:-1]))


def _gauss(score: Field, begin: Tensor, way: Tensor, panels: int, nodes: int) -> Tensor:
    """Integral of score . way along begin + share * way, share from 0 to 1."""
    places, weights = np.polynomial.legendre.leggauss(nodes)
    total = torch.zeros_like(way[:, 0])
    for panel, (place, weight) in itertools.product(
        range(panels), zip(places.tolist(), weights.tolist(), strict=True)
    ):
        share = (panel + 0.5 + 0.5 * place) / panels
        arrow = _arrows(score(begin + share * way), way, "score")
        total = total + weight / (2 * panels) * (arrow * way).sum(-1)
    return total


def _watched(field: Field, x: Tensor) -> tuple[Tensor, Tensor]:
    """A copy of x that remembers, and the field there."""
    _function("field", field)
    x = _check.finite("x", _check.matrix("x", _check.floating("x", x)))
    x = x.detach().clone().requires_grad_()
    out = _arrows(field(x), x, "field")
    if not out.requires_grad:
        raise ValueError(
            "field: its answer cannot be differentiated with respect to x, expected "
            "differentiable operations on x"
        )
    return x, out


def _function(name: str, field: object) -> None:
    if not callable(field):
        raise TypeError(f"{name}: got a {_check.describe(field)}, expected f(x)")


def _arrows(out: object, x: Tensor, name: str) -> Tensor:
    if not isinstance(out, Tensor) or out.shape != x.shape:
        raise ValueError(
            f"{name}: gave a {_check.describe(out)}, expected an arrow of shape {tuple(x.shape)}"
        )
    return out


def _back(values: Tensor, x: Tensor) -> Tensor:
    """Derivative of each row's value by its x; zero where it does not depend on it."""
    (slope,) = torch.autograd.grad(values.sum(), x, retain_graph=True, allow_unused=True)
    return torch.zeros_like(x) if slope is None else slope


def _signs(x: Tensor, n: int, generator: torch.Generator | None) -> Iterator[Tensor]:
    for _ in range(n):
        signs = 2 * _draw.integers(2, x.shape, generator=generator, device=x.device) - 1
        yield signs.to(x)
