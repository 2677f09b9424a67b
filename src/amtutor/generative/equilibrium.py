r"""Equilibrium Matching: one field without a clock that leads from noise to data.

Draw a datum x, noise :math:`\epsilon \sim N(0, 1)` and a place :math:`\gamma` between them:

.. math:: x_\gamma = \gamma x + (1 - \gamma)\,\epsilon, \qquad
          f(x_\gamma) \to c(\gamma)\,(\epsilon - x), \qquad c(1) = 0

The field f sees :math:`x_\gamma` and never :math:`\gamma` (EQ 2). It points **uphill**, from data
to noise, everywhere in this library: if f is the gradient of an energy, that energy falls along

.. math:: x \leftarrow x - \eta\, f(x)

which is what `sample` does (EQ 4). Along the straight path to one datum the target is the gradient
of a bowl, see :func:`bowl`: a cone far away and a parabola near. So with a step size small enough
the distance to the datum falls in a straight line and then like an exponential, and only the *sum*
of the step sizes says how much noise is left, see :func:`noise_left`.

A field is a function ``field(x, labels)`` from pictures (B, \*shape) and int64 labels (B,), or
None, to (B, \*shape).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from amtutor import _check
from amtutor.descent import Descent, Film, Rows, Trajectory, go_down, watched_by

__all__ = [
    "SCHEDULES",
    "best_field",
    "bowl",
    "cosine_decay",
    "eqm_loss",
    "eqm_target",
    "guided_by_scale",
    "guided_by_weight",
    "linear_decay",
    "noise_left",
    "piecewise_decay",
    "sample",
    "sample_nesterov",
    "truncated_decay",
]

Field = Callable[[Tensor, Tensor | None], Tensor]
Energy = Callable[[Tensor, Tensor | None], Tensor]
Schedule = Callable[[Tensor], Tensor]

# ------------------------------------------------------------------------------ schedules c


def truncated_decay(gamma: Tensor, *, a: float = 0.8, scale: float = 4.0) -> Tensor:
    r"""Constant up to a, then a straight line to zero (EQ 3).

    .. math:: c(\gamma) = \lambda \min\Bigl(1, \frac{1-\gamma}{1-a}\Bigr)

    Args:
        gamma: (\*batch) in [0, 1], 0 is noise. a: where the line begins, in [0, 1).
        scale: lambda > 0.

    >>> truncated_decay(torch.tensor([0.0, 0.8, 0.9, 1.0]))
    tensor([4.0000, 4.0000, 2.0000, 0.0000])
    """
    a, scale = _check.between("a", a, 0, 1, ends="[)"), _check.positive("scale", scale)
    return scale * ((1 - _places(gamma)) / (1 - a)).clamp(max=1)


def linear_decay(gamma: Tensor, *, scale: float = 4.0) -> Tensor:
    r"""Fall evenly from the start, :math:`c(\gamma) = \lambda (1 - \gamma)`.

    >>> linear_decay(torch.tensor([0.0, 0.5, 1.0]))
    tensor([4., 2., 0.])
    """
    return _check.positive("scale", scale) * (1 - _places(gamma))


def piecewise_decay(
    gamma: Tensor, *, a: float = 0.8, start: float = 1.4, scale: float = 4.0
) -> Tensor:
    r"""Fall from ``start`` to 1 at a, then from 1 to zero, both in straight lines, times lambda.

    >>> piecewise_decay(torch.tensor([0.0, 0.8, 1.0]), start=1.5)
    tensor([6., 4., 0.])
    """
    a, scale = _check.between("a", a, 0, 1, ends="()"), _check.positive("scale", scale)
    start, gamma = _check.positive("start", start), _places(gamma)
    return scale * torch.where(
        gamma <= a, start - (start - 1) * gamma / a, (1 - gamma).clamp(min=0) / (1 - a)
    )


def cosine_decay(gamma: Tensor, *, scale: float = 4.0) -> Tensor:
    r"""Fall along a quarter of a cosine, :math:`c(\gamma) = \lambda\cos(\pi\gamma/2)`.

    >>> cosine_decay(torch.tensor([0.0, 2 / 3])).round(decimals=4)
    tensor([4., 2.])
    """
    wave = torch.cos(0.5 * torch.pi * _places(gamma))
    return _check.positive("scale", scale) * wave.clamp(min=0)  # cos(pi / 2) rounds below zero


SCHEDULES: dict[str, Callable[..., Tensor]] = {
    "truncated": truncated_decay,
    "linear": linear_decay,
    "piecewise": piecewise_decay,
    "cosine": cosine_decay,
}


def _places(gamma: Tensor) -> Tensor:
    _check.floating("gamma", gamma)
    if not ((gamma >= 0) & (gamma <= 1)).all():
        raise ValueError(
            f"gamma: got values from {float(gamma.min()):g} to {float(gamma.max()):g}, expected "
            "[0, 1]"
        )
    return gamma


# ------------------------------------------------------------------------------ what is learned


def eqm_target(
    x: Tensor, noise: Tensor, gamma: Tensor, *, schedule: Schedule = truncated_decay
) -> tuple[Tensor, Tensor]:
    r"""A place on the straight path and what the field should be there (EQ 2).

    Args:
        x, noise: (B, \*shape). gamma: (B,) in [0, 1]. schedule: c.

    Returns:
        :math:`x_\gamma = \gamma x + (1-\gamma)\epsilon` and :math:`c(\gamma)(\epsilon - x)`.

    Raises:
        ValueError, TypeError: wrong shapes, dtypes or range.

    >>> place, field = eqm_target(torch.ones(1, 2), -torch.ones(1, 2), torch.tensor([0.9]))
    >>> place, field
    (tensor([[0.8000, 0.8000]]), tensor([[-4.0000, -4.0000]]))
    """
    _check.floating("x", x)
    _check.same_kind("noise", _check.floating("noise", noise), x)
    if noise.shape != x.shape or x.ndim < 2:
        raise ValueError(
            f"noise: got a {_check.describe(noise)}, expected the shape of x, (B, ...), which is "
            f"{tuple(x.shape)}"
        )
    _check.same_kind("gamma", _check.shape("gamma", gamma, (len(x),)), x)
    if not callable(schedule):
        raise TypeError(f"schedule: got a {_check.describe(schedule)}, expected c(gamma)")
    wide = (len(x), *(1,) * (x.ndim - 1))
    g, c = gamma.reshape(wide), schedule(gamma).reshape(wide)
    return g * x + (1 - g) * noise, c * (noise - x)


def eqm_loss(
    field: Field,
    x: Tensor,
    noise: Tensor,
    gamma: Tensor,
    *,
    labels: Tensor | None = None,
    schedule: Schedule = truncated_decay,
) -> Tensor:
    r"""How far a field is from its target, a mean square over the numbers of each picture (EQ 2).

    .. math:: \ell_b = \frac1D \bigl\| f(x_\gamma) - c(\gamma)(\epsilon - x) \bigr\|^2

    One value for each picture, (B,), averaged over nobody. Much of it cannot be learned: whoever
    sees :math:`x_\gamma` does not know which datum and which noise it was made of.

    Args:
        field, x, noise, gamma, schedule: see the module's text. labels: (B,) int64, handed on.

    Raises:
        ValueError, TypeError: wrong shapes, dtypes or range.
    """
    if not callable(field):
        raise TypeError(f"field: got a {_check.describe(field)}, expected f(x, labels)")
    place, wanted = eqm_target(x, noise, gamma, schedule=schedule)
    if labels is not None:
        check_labels(labels, x)
    found = field(place, labels)
    if not isinstance(found, Tensor) or found.shape != x.shape:
        raise ValueError(
            f"field: returned a {_check.describe(found)}, expected shape {tuple(x.shape)}"
        )
    return (found - wanted).square().flatten(1).mean(1)


def bowl(distance: Tensor, reach: Any, *, a: float = 0.8, scale: float = 4.0) -> Tensor:
    r"""The energy whose gradient is the target with truncated decay, along the path to one datum.

    .. math:: E(\rho) = \begin{cases} \lambda\, \rho^2 / \bigl(2(1-a)\bigr) & \rho \le (1-a) R \\
              \lambda R\, \bigl(\rho - (1-a) R / 2\bigr) & \text{beyond} \end{cases},
              \qquad \rho = \|x_\gamma - x\|,\; R = \|\epsilon - x\|

    It is Huber's function: a parabola near the datum, a cone farther away. (On the path
    :math:`\rho = (1-\gamma) R`, so that :math:`E' = c(\gamma) R` is the target's length.)

    Args:
        distance: rho >= 0, any shape. reach: R > 0, a number or of that shape.
        a, scale: of :func:`truncated_decay`.

    >>> bowl(torch.tensor([0.0, 0.2, 1.0]), 1.0)
    tensor([0.0000, 0.4000, 3.6000])
    """
    a, scale = _check.between("a", a, 0, 1, ends="[)"), _check.positive("scale", scale)
    if not isinstance(reach, Tensor):
        reach = _check.positive("reach", reach)
    elif reach.shape != _check.floating("distance", distance).shape or not (reach > 0).all():
        raise ValueError(
            f"reach: got a {_check.describe(reach)}, expected a number > 0, or as many as distances"
        )
    if (_check.floating("distance", distance) < 0).any():
        raise ValueError(f"distance: got {float(distance.min()):g}, expected distances >= 0")
    near = (1 - a) * reach
    inside = scale * distance.square() / (2 * (1 - a))
    return torch.where(distance <= near, inside, scale * reach * (distance - near / 2))


def noise_left(travel: Any, *, a: float = 0.8, scale: float = 4.0) -> Tensor:
    r"""Share of the way to a lone datum that is still ahead after steps whose sizes sum to t.

    .. math:: 1 - \gamma = \begin{cases} 1 - \lambda t & t \le a / \lambda \\
              (1-a)\, e^{-(\lambda t - a)/(1-a)} & \text{beyond} \end{cases}

    It follows from :math:`\dot\rho = -c R` on the path, for steps that are small: neither the
    number of steps nor their size matters, only their sum. A trained field does not know its datum
    and is slower or faster; what sum is best must be measured.

    Args:
        travel: t >= 0, a number or a tensor. a, scale: of :func:`truncated_decay`.

    >>> noise_left(torch.tensor([0.0, 0.2, 0.4])).round(decimals=4)
    tensor([1.0000, 0.2000, 0.0037])
    """
    a, scale = _check.between("a", a, 0, 1, ends="[)"), _check.positive("scale", scale)
    if not isinstance(travel, Tensor):
        travel = torch.tensor(_check.non_negative("travel", travel))
    if not (_check.floating("travel", travel) >= 0).all():
        raise ValueError(f"travel: got {float(travel.min()):g}, expected sums >= 0")
    late = (1 - a) * torch.exp(-(scale * travel - a).clamp(min=0) / (1 - a))
    return torch.where(scale * travel <= a, 1 - scale * travel, late)


# ------------------------------------------------------------------------------ what is best

_DEEP = 40.0  # exp(-40) is below what rounding leaves of a sum in float64


def best_field(
    x: Tensor, points: Tensor, *, schedule: Schedule = truncated_decay, nodes: int = 64
) -> Tensor:
    r"""The field that no field beats, where the data are K given points: the mean target.

    A square is smallest at a mean. So the loss of EQ 2, with noise :math:`N(0, 1)` and
    :math:`\gamma` even on [0, 1], is smallest at each place z for the mean of the targets of all
    paths through z. Whoever stands at z and supposes :math:`\gamma` and the datum :math:`\xi^k`
    knows the noise, :math:`\epsilon = (z - \gamma \xi^k)/(1-\gamma)`, so that
    :math:`\epsilon - \xi^k = (z - \xi^k)/(1-\gamma)` and

    .. math:: f^*(z) = \frac{\sum_k\int_0^1 w_k\, c(\gamma)\,\frac{z-\xi^k}{1-\gamma}\,d\gamma}
              {\sum_k\int_0^1 w_k\,d\gamma}, \qquad
              w_k = (1-\gamma)^{-D}\exp\Bigl(-\frac{\|z-\gamma \xi^k\|^2}{2(1-\gamma)^2}\Bigr)

    With :math:`u = 1/(1-\gamma)` and :math:`d = z - \xi^k`, the weight :math:`w_k\,d\gamma` is
    :math:`u^{D-2}\exp(-\tfrac12\|u\,d + \xi^k\|^2)\,du`, :math:`u \ge 1`: a single hill. Its top is
    the root of a square equation, and its logarithm bends by at least :math:`\|d\|^2`. Outside a
    window that this gives, the hill is below exp(-40) of its top; inside, Gauss and Legendre's
    nodes are laid in :math:`\log u`. All in float64. At a datum the field is zero.

    It is the gradient of nothing, in general: a mean of slopes, with weights that change from place
    to place.

    Args:
        x: z, (B, \*shape). points: the data, (K, \*shape). schedule: c.
        nodes: of the integral over :math:`\gamma`. A smooth c is exact to about 1e-12; a corner in
            c leaves an error that falls as 1 / nodes^2 (64 nodes: some 1e-4 of the field).

    Returns:
        (B, \*shape), uphill as everything here. Derivatives go through.

    Raises:
        ValueError, TypeError: wrong shapes, dtypes or range, or NaN.

    >>> one = torch.zeros(1, 2)                  # a lone datum: the field leads straight to it
    >>> best_field(torch.tensor([[0.0, 0.0], [1e-3, 0.0]]), one, schedule=linear_decay)
    tensor([[0.0000, 0.0000],
            [0.0040, 0.0000]])
    """
    x, points = _clouds(x, points)
    if not callable(schedule):
        raise TypeError(f"schedule: got a {_check.describe(schedule)}, expected c(gamma)")
    rule = np.polynomial.legendre.leggauss(_check.count("nodes", nodes, most=10_000))
    knots, weights = (torch.from_numpy(part).to(x.device) for part in rule)
    z, data = (t.flatten(1).double() for t in (x, points))
    rows = max(1, 2**21 // (len(data) * max(nodes, data.shape[1])))  # 16 MB a block
    parts = [_best(part, data, schedule, knots, weights) for part in z.split(rows)]
    return torch.cat(parts).to(x.dtype).reshape(x.shape)


def _best(z: Tensor, data: Tensor, c: Schedule, knots: Tensor, weights: Tensor) -> Tensor:
    """The mean target at z (B, D); u is told by s = u |d|, the length that the noise would have."""
    dim, away = data.shape[1], z[:, None] - data
    far = away.norm(dim=-1)
    at_datum = (far == 0).any(1)
    far = far.clamp(min=1e-300)
    unit = away / far[..., None]
    along = (unit * data).sum(-1)
    with torch.no_grad():  # where the nodes lie changes no integral
        low, high = _window(far, along, dim)
    half = 0.5 * (high - low)
    t = low[..., None] + half[..., None] * (1 + knots)  # log u: (B, K, nodes)
    s = (t + far.log()[..., None]).exp()
    height = (dim - 1) * t - 0.5 * s.square() - s * along[..., None]
    height = height + (half.log() - 0.5 * data.square().sum(1))[..., None] + weights.log()
    share = height.flatten(1).softmax(1).view_as(height)
    length = (share * c((-torch.expm1(-t)).clamp(0, 1)) * s).sum(-1)
    field = torch.einsum("bk,bkd->bd", length, unit)
    return torch.where(at_datum[:, None], 0.0, field)


def _window(far: Tensor, along: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Between which log u the hill (dim - 1) log s - s^2/2 - s along, s >= far, is _DEEP high."""
    root = (along.square() + 4 * (dim - 1)).sqrt()
    top = torch.where(along > 0, 2 * (dim - 1) / (along + root), 0.5 * (root - along))
    top = torch.maximum(top, far)
    bend = 1 + (dim - 1) / top.square()  # at the top; more of it below, never under 1 above
    low = torch.maximum(top - (2 * _DEEP / bend).sqrt(), far)
    return (low / far).log(), ((top + math.sqrt(2 * _DEEP)) / far).log()


def _clouds(x: Any, points: Any) -> tuple[Tensor, Tensor]:
    if _check.finite("x", _check.floating("x", x)).ndim < 2:
        raise ValueError(f"x: got a {_check.describe(x)}, expected (B, ...)")
    _check.shape("points", _check.floating("points", points), (None, *x.shape[1:]))
    return x, _check.finite("points", _check.same_kind("points", points, x))


# ------------------------------------------------------------------------------ classes


def guided_by_weight(field: Field, weight: float, *, null: int) -> Field:
    r"""Guidance of Ho and Salimans: :math:`(1 + w) f(x, y) - w f(x, \varnothing)`.

    w = 0 is the conditional field. On all channels, and still uphill. EQ's Table 3 calls w = 0
    "no guidance", which fits this reading and not :func:`guided_by_scale`'s.

    Args:
        field: takes (x, labels). weight: w >= 0. null: the label that stands for no class.

    Raises:
        ValueError, TypeError: a wrong argument; the guided field refuses labels None.
    """
    return _guided(field, 1 + _check.non_negative("weight", weight), null)


def guided_by_scale(field: Field, scale: float, *, null: int) -> Field:
    r"""The other convention: :math:`f(x, \varnothing) + s\,[f(x, y) - f(x, \varnothing)]`.

    s = 1 is the conditional field, s = 0 the one without classes; s = 1 + w of
    :func:`guided_by_weight`.

    Args:
        field: takes (x, labels). scale: s >= 0. null: the label that stands for no class.

    Raises:
        ValueError, TypeError: a wrong argument; the guided field refuses labels None.
    """
    return _guided(field, _check.non_negative("scale", scale), null)


def _guided(field: Field, s: float, null: int) -> Field:
    if not callable(field):
        raise TypeError(f"field: got a {_check.describe(field)}, expected f(x, labels)")
    null = _check.count("null", null, least=0)

    def guided(x: Tensor, labels: Tensor | None) -> Tensor:
        if labels is None:
            raise ValueError("labels: got None, expected classes to be guided to")
        if s == 1:
            return field(x, labels)
        both = torch.cat([labels, torch.full_like(labels, null)])
        asked, plain = field(torch.cat([x, x]), both).chunk(2)
        return plain + s * (asked - plain)

    return guided


# ------------------------------------------------------------------------------ sampling


def sample(
    field: Field,
    start: Tensor,
    *,
    labels: Tensor | None = None,
    steps: int = 500,
    step_size: float = 8e-4,
    tol: float | None = None,
    energy: Energy | None = None,
    record: bool = False,
    callback: Callable[[int, Tensor], object] | None = None,
) -> Descent[Tensor]:
    r"""Go down the field: :math:`x \leftarrow x - \eta f(x)`, each picture for itself (EQ 4).

    Args:
        field: takes (x, labels), points uphill. start: (B, \*shape), usually noise; not modified.
        labels: (B,) int64, or None. steps, step_size: most steps, and eta; their product decides
            how much noise is left, see :func:`noise_left` (500 x 8e-4 = 0.4).
        tol: a picture stops once the norm of its field is <= tol; its steps are in ``steps_taken``.
        energy: takes (x, labels), gives (B,); what the field is the gradient of, if of anything.
            Without one, ``energy`` of the result is half the field's squared norm, which is zero at
            an equilibrium, and says nothing about up and down.
        record: keep every state. callback: is called with (step, state); step 0 is the start.

    Returns:
        A `Descent`.

    Raises:
        ValueError, TypeError: an argument has the wrong range, type or shape.
        FloatingPointError: the field is not finite; names the step and the picture.

    >>> to_one = lambda x, labels: x - 1
    >>> end = sample(to_one, torch.zeros(2, 3), steps=200, step_size=0.1, tol=1e-3)
    >>> end.steps_taken.tolist(), end.converged.tolist()
    ([71, 71], [True, True])
    """
    return _walk(field, start, labels, steps, step_size, 0.0, tol, energy, record, callback)


def sample_nesterov(
    field: Field,
    start: Tensor,
    *,
    labels: Tensor | None = None,
    steps: int = 500,
    step_size: float = 8e-4,
    momentum: float = 0.3,
    tol: float | None = None,
    energy: Energy | None = None,
    record: bool = False,
    callback: Callable[[int, Tensor], object] | None = None,
) -> Descent[Tensor]:
    r"""Go down with momentum, the field asked where momentum is about to lead.

    .. math:: v \leftarrow m v - \eta f(x + m v), \qquad x \leftarrow x + v

    The look-ahead is along the last *displacement* v. Momentum lengthens the way: the sum of steps
    is about :math:`\eta\,T/(1-m)`.

    Args:
        momentum: m in [0, 1). The others, the result and errors: see :func:`sample`.
    """
    momentum = _check.between("momentum", momentum, 0, 1, ends="[)")
    return _walk(field, start, labels, steps, step_size, momentum, tol, energy, record, callback)


def _walk(
    field, start, labels, steps, step_size, momentum, tol, energy, record, callback
) -> Descent[Tensor]:
    _check_walk(field, start, labels, energy)
    steps = _check.count("steps", steps, least=0)
    step_size = _check.positive("step_size", step_size)
    tol = None if tol is None else _check.non_negative("tol", tol)
    film = Film() if _check.boolean("record", record) else None
    watchers = watched_by(film, callback)

    def watch(t: int, rows: Rows) -> None:
        for look in watchers:
            look(t, rows["x"].clone())

    def slope(rows: Rows, t: int, who: Tensor) -> Rows:
        ahead = rows["x"] + momentum * rows["velocity"] if momentum else rows["x"]
        found = field(ahead, rows.get("labels"))
        if not isinstance(found, Tensor) or found.shape != ahead.shape:
            raise ValueError(
                f"field: returned a {_check.describe(found)}, expected shape {tuple(ahead.shape)}"
            )
        if not (fine := found.flatten(1).isfinite().all(1)).all():
            raise FloatingPointError(
                f"field: not finite at step {t} for picture {int(who[~fine][0])}: expected a "
                "smaller step_size, or a finite start"
            )
        return {"x": found.detach()}

    def move(rows: Rows, down: Rows, t: int, who: Tensor) -> Rows:
        change = -step_size * down["x"]
        if not momentum:
            return {"x": rows["x"] + change}
        change = change + momentum * rows["velocity"]
        return {"x": rows["x"] + change, "velocity": change}

    with torch.no_grad():
        rows = {"x": start.detach().clone()}
        if momentum:
            rows["velocity"] = torch.zeros_like(rows["x"])
        if labels is not None:
            rows["labels"] = labels.clone()
        rows, taken, arrived = go_down(
            rows, steps=steps, slope=slope, move=move, watch=watch, tol=tol
        )
        height = partial(_height, field, energy, labels)
        end = height(rows["x"])
        if film is None:
            return Descent(rows["x"], end, taken, arrived)
        heights = [height(x) for x in film.states[:-1]] + [end]
        trajectory = Trajectory(torch.stack(film.states), torch.stack(heights))
        return Descent(rows["x"], end, taken, arrived, trajectory)


def _height(field: Field, energy: Energy | None, labels: Tensor | None, x: Tensor) -> Tensor:
    if energy is None:
        return 0.5 * field(x, labels).detach().square().flatten(1).sum(1)
    found = energy(x, labels)
    if not isinstance(found, Tensor) or found.shape != (len(x),):
        raise ValueError(f"energy: returned a {_check.describe(found)}, expected shape {(len(x),)}")
    return found.detach()


def _check_walk(field: Any, start: Any, labels: Any, energy: Any) -> None:
    for name, f in (("field", field), ("energy", energy)):
        if not callable(f) and (f is not None or name == "field"):
            raise TypeError(f"{name}: got a {_check.describe(f)}, expected f(x, labels)")
    if _check.finite("start", _check.floating("start", start)).ndim < 2 or not len(start):
        raise ValueError(f"start: got a {_check.describe(start)}, expected (B, ...), B >= 1")
    if labels is not None:
        check_labels(labels, start)


def check_labels(labels: Any, x: Tensor, null: int | None = None) -> Tensor:
    """Return the labels (B,) of pictures (B, ...), in 0..null where that is known."""
    fits = isinstance(labels, Tensor) and labels.dtype == torch.int64 and labels.device == x.device
    if not fits or labels.shape != (len(x),):
        raise ValueError(
            f"labels: got a {_check.describe(labels)}, expected int64 of shape {(len(x),)} on "
            f"{x.device}"
        )
    # a compiler cannot look at numbers
    if null is None or torch.compiler.is_compiling() or ((labels >= 0) & (labels <= null)).all():
        return labels
    low, high = int(labels.min()), int(labels.max())
    raise ValueError(f"labels: got values from {low} to {high}, expected 0 to {null}")
