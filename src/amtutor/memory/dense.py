r"""Dense associative memory with continuous states: a soft minimum over bowls, and attention.

Every memory :math:`\xi^\mu` digs a bowl :math:`\tfrac12\|x-\xi^\mu\|^2`; the energy is their soft
minimum at inverse temperature ``beta``:

.. math:: E_{\mathrm{LSE}}(x) = -\tfrac1\beta \log \sum_\mu \exp\bigl(-\tfrac\beta2
          \|x-\xi^\mu\|^2\bigr), \qquad
          E_{\mathrm{LSR}}(x) = -\tfrac1\beta \log \sum_\mu \mathrm{ReLU}\bigl(1-\tfrac\beta2
          \|x-\xi^\mu\|^2\bigr)

(MM 5.13 and 5.52 with the factor 1/beta in front, so that the LSE gradient is x minus a weighted
mean of memories whatever beta is). Six more kernels make energies in the same way, see
:mod:`amtutor.memory.kernels`. Shapes everywhere: ``x`` is (\*batch, D), ``memories`` is
(K, D), an energy is (\*batch).

Nothing of size (batch, K, D) is ever made, and nothing of size (batch, K) beyond ``chunk`` memories
at a time: a running maximum is carried from block to block, so a million memories are no problem.

**What rounding leaves.** All inner products are taken from one centre amid the memories, so
that it does not matter how far from the origin they lie. The distance to the *nearest* memory,
which carries the energy's value, is a difference: a state on a memory has energy 0. Still, a number
format has a grid. Float32 cannot hold a state near 10 000 more finely than 0.001, and cannot tell
which of two memories is nearer where half their squared distances differ by less than about
1e-7 times the largest squared distance from the centre. Where that matters, take float64.

**Doors and kernels.** The functions without an underscore check what they are given and look for
NaN. Under ``torch.func.vmap`` and inside ``torch.compile``, where nobody can look at a number,
they leave out what looks at numbers. Below them are kernels, which check nothing and are not in
``__all__``; :func:`scores` is the formula that all of them share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from amtutor import _check
from amtutor._threads import one_thread
from amtutor.descent import Descent, descend
from amtutor.memory.kernels import KERNELS, Kernel, as_kernel

__all__ = [
    "ENERGIES",
    "DenseAM",
    "EnergyForm",
    "attention",
    "attention_energy",
    "attention_weights",
    "distance_bias",
    "kernel_energy",
    "kernel_gradient",
    "kernel_pull",
    "log_density",
    "lse_energy",
    "lse_gradient",
    "lse_weights",
    "lsr_energy",
    "lsr_gradient",
    "lsr_pull",
    "nearest",
    "onto_support",
]

# Kernels for other modules: scores, centred, middle, centre_of, seen_from.

_BLOCK = 2**22  # numbers held at a time, scores or moved memories: 16 MB in float32
_T = TypeVar("_T")

# ---------------------------------------------------------------------------- the formula


def scores(x: Tensor, memories: Tensor, beta: Any, bias: Tensor | None = None) -> Tensor:
    r"""Exponents of the softmax over memories, :math:`-\frac\beta2\|x-\xi\|^2` up to a number of x.

    .. math:: s_\mu = \beta\,(x\cdot\xi^\mu + b_\mu), \qquad b_\mu = -\tfrac12\|\xi^\mu\|^2
              \text{ unless given}

    A kernel: no checks, no look at any number. Its rounding is that of an inner product, so hand it
    what :func:`centred` gives.

    Args:
        x: (\*runs, B, D); memories: (\*runs, K, D); bias: (\*runs, K).

    Returns:
        (\*runs, B, K).

    >>> scores(torch.tensor([[1.0, 0.0]]), torch.eye(2), 2.0)
    tensor([[ 1., -1.]])
    """
    bias = _half_squares(memories) if bias is None else bias
    return (beta * x) @ memories.mT + (beta * bias)[..., None, :]


def distance_bias(memories: Tensor) -> Tensor:
    r"""The bias :math:`-\frac12\|\xi\|^2` that turns inner products into distances, (\*runs, K).

    With it, :func:`attention_energy` is :func:`lse_energy`; without it, long memories are favoured.
    """
    if _check.floating("memories", memories).ndim < 2 or 0 in memories.shape:
        raise ValueError(
            f"memories: got a {_check.describe(memories)}, expected (*runs, K, D), nothing empty"
        )
    return _half_squares(memories)


def _half_squares(memories: Tensor) -> Tensor:
    return -0.5 * torch.einsum("...kd,...kd->...k", memories, memories)


def centred(x: Tensor, memories: Tensor) -> tuple[Tensor, Tensor]:
    r"""Measure states (\*runs, B, D) and memories (\*runs, K, D) from the middle of the memories.

    Distances stay as they are, and inner products become small enough to be summed.

    >>> centred(torch.tensor([[7.0]]), torch.tensor([[4.0], [6.0]]))
    (tensor([[2.]]), tensor([[-1.],
            [ 1.]]))
    """
    centre = middle(memories)
    return x - centre, memories - centre


def middle(memories: Tensor) -> Tensor:
    """A point amid the memories, (\\*runs, 1, D): the mean of some, which costs nothing."""
    return _some(memories).mean(-2, keepdim=True)


def _some(memories: Tensor) -> Tensor:
    """At most 32 of the memories, evenly spaced."""
    return memories.detach()[..., :: -(-memories.shape[-2] // 32), :]


# ---------------------------------------------------------------------------- the LSE energy


def lse_energy(x: Tensor, memories: Tensor, *, beta: float, chunk: int | None = None) -> Tensor:
    r"""Log-sum-exp energy :math:`-\frac1\beta\log\sum_\mu\exp(-\frac\beta2\|x-\xi^\mu\|^2)`.

    Args:
        x: (\*batch, D).
        memories: (K, D).
        beta: inverse temperature > 0, of :math:`\frac12\|x-\xi\|^2`.
        chunk: memories per block; None takes as many as keep a block of scores at 16 MB.

    Returns:
        (\*batch): between :math:`\min_\mu\frac12\|x-\xi^\mu\|^2 - \frac{\log K}\beta` and that
        minimum. It is negative near memories that lie together, and that means nothing: only
        differences of energies do.

    Raises:
        ValueError, TypeError: wrong shape, dtype, device, beta <= 0, or NaN.

    Source: MM 5.13, times 1/beta.

    >>> memories = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    >>> lse_energy(torch.tensor([[0.0, 0.0], [0.0, 1.0]]), memories, beta=10.0)
    tensor([0.0000, 0.5000])
    """

    return _answer(_lse_energy, x, memories, beta, chunk)


def _lse_energy(x: Tensor, memories: Tensor, beta: Any, centre: Tensor | None, chunk: int):
    total, closest, _ = _lse_pass(x, memories, beta, centre, chunk, want_mean=False)
    return 0.5 * (x - memories[closest]).square().sum(-1) - total.log() / beta


def lse_gradient(x: Tensor, memories: Tensor, *, beta: float, chunk: int | None = None) -> Tensor:
    r"""Gradient of :func:`lse_energy`: the state minus a weighted mean of the memories.

    .. math:: \nabla E = x - \sum_\mu p_\mu \xi^\mu, \qquad p = \mathrm{softmax}_\mu
              \bigl(-\tfrac\beta2\|x-\xi^\mu\|^2\bigr)

    Arguments as :func:`lse_energy`; returns (\*batch, D). A step of size 1 lands on the mean.
    """

    return _answer(_lse_gradient, x, memories, beta, chunk)


def _lse_gradient(x: Tensor, memories: Tensor, beta: Any, centre: Tensor | None, chunk: int):
    total, _, mean = _lse_pass(x, memories, beta, centre, chunk, want_mean=True)
    return seen_from(centre, x) - mean / total[:, None]


def lse_weights(x: Tensor, memories: Tensor, *, beta: float) -> Tensor:
    r"""The softmax weights of :func:`lse_gradient`, (\*batch, K): how much each memory pulls.

    This one does hold (\*batch, K) numbers.
    """
    x, memories, beta = _checked(x, memories, beta)
    weights = torch.softmax(scores(*centred(x.reshape(-1, x.shape[-1]), memories), beta), dim=-1)
    return _seen(weights, x, memories).reshape(*x.shape[:-1], -1)


def _lse_pass(x: Tensor, memories: Tensor, beta, centre: Tensor | None, chunk, *, want_mean: bool):
    """Go once over the memories in blocks, keeping sums of exp(score - best score so far).

    Returns the sum of these weights, the index of the nearest memory of each row, and the sum of
    the memories from the centre with these weights, if wanted. Nothing overflows, for no exponent
    is ever positive.
    """
    at = seen_from(centre, x)
    best = at.new_full((len(at),), -torch.inf)
    total, closest = torch.zeros_like(best), torch.zeros_like(best, dtype=torch.int64)
    mean = torch.zeros_like(at) if want_mean else at.new_empty(0)
    for start, block in _blocks(memories, centre, chunk):
        score = scores(at, block, beta)
        share = score.softmax(-1)
        top, where = score.max(-1)
        closest = torch.where(top > best, start + where, closest)
        new = torch.maximum(best, top)
        fade = (best - new).exp()  # what the sums so far are worth from now on
        # The best memory of the block has weight exp(top - new), of which its share is a part.
        own = (top - new).exp() / share.gather(-1, where[:, None])[:, 0]
        total = total * fade + own
        if want_mean:
            mean = mean * fade[:, None] + own[:, None] * (share @ block)
        best = new
    return total, closest, mean


# ---------------------------------------------------------------------------- the LSR energy


def lsr_energy(x: Tensor, memories: Tensor, *, beta: float, chunk: int | None = None) -> Tensor:
    r"""Log-sum-ReLU energy :math:`-\frac1\beta\log\sum_\mu\mathrm{ReLU}(1-\frac\beta2\|x-\xi\|^2)`.

    Each memory is felt only inside a ball of radius :math:`\sqrt{2/\beta}`. Outside all of them
    (*off the support*) the energy is +inf and there is no gradient; one behaviour is fixed for
    that: :func:`lsr_gradient`, :func:`lsr_pull` and automatic differentiation all give **zero**
    there. A descent therefore leaves such a state where it is and does not call it converged.

    Arguments as :func:`lse_energy`. Source: MM 5.52, times 1/beta.

    >>> lsr_energy(torch.tensor([[0.0], [0.5], [9.0]]), torch.zeros(1, 1), beta=2.0)
    tensor([0.0000, 0.1438,    inf])
    """

    return _answer(_lsr_energy, x, memories, beta, chunk, infinite=True)


def _lsr_energy(x: Tensor, memories: Tensor, beta: Any, centre: Tensor | None, chunk: int):
    """The logarithm of n ReLUs that add up to n - u: log n + log(1 - u/n), u near 0 or near n."""
    total, count, depth = _lsr_pass(x, memories, beta, centre, chunk, _depth)
    off = count == 0
    n = count.masked_fill(off, 1)
    u = beta * depth / n
    near = u < 0.5
    left = torch.where(near, torch.log1p(-u.where(near, 0.0)), (total / n).where(~near, 1.0).log())
    return torch.where(off, torch.inf, 0.0 - (n.log() + left) / beta)


def lsr_gradient(x: Tensor, memories: Tensor, *, beta: float, chunk: int | None = None) -> Tensor:
    r"""Gradient of :func:`lsr_energy`, zero off the support.

    .. math:: \nabla E = \frac{\sum_{\mu\in A}(x-\xi^\mu)}{\sum_{\mu\in A}
              (1-\frac\beta2\|x-\xi^\mu\|^2)}, \qquad A = \{\mu: \tfrac\beta2\|x-\xi^\mu\|^2 < 1\}

    It grows without bound towards the edge of the support, so a fixed step size overshoots there;
    :func:`lsr_pull` is the same direction at a length that never does.
    """

    return _answer(_lsr_gradient, x, memories, beta, chunk)


def _lsr_gradient(x: Tensor, memories: Tensor, beta: Any, centre: Tensor | None, chunk: int):
    total, count, away = _lsr_pass(x, memories, beta, centre, chunk, _away)
    return away / total.masked_fill(count == 0, 1.0)[:, None]


def lsr_pull(x: Tensor, memories: Tensor, *, beta: float, chunk: int | None = None) -> Tensor:
    r"""The state minus the plain mean of the memories that feel it, zero off the support.

    This is :func:`lsr_gradient` times the positive number (sum of ReLUs)/(number of memories in
    reach). Going all the way (step size 1) lands on the mean: exactly on a memory if only one is
    in reach. Any step size in (0, 2) lowers the energy, because the ReLU is convex.
    """

    return _answer(_lsr_pull, x, memories, beta, chunk)


def _lsr_pull(x: Tensor, memories: Tensor, beta: Any, centre: Tensor | None, chunk: int):
    _, count, away = _lsr_pass(x, memories, beta, centre, chunk, _away)
    return away / count.clamp(min=1)[:, None]


def _lsr_pass(x: Tensor, memories: Tensor, beta, centre: Tensor | None, chunk: int, what):
    """Go over the memories twice: who is nearest, then who is in reach.

    Returns the sum of ReLUs, the number of memories in reach, and the sum of ``what`` over them.
    Distances are measured from the nearest memory's, which is exact, so that a state on a memory is
    always in its reach, however large beta and |x| are.
    """
    at = seen_from(centre, x)
    closest, score_of_closest = _nearest(at, memories, centre, chunk)
    least = 0.5 * (x - memories[closest]).square().sum(-1)
    total, count, wanted = torch.zeros_like(least), torch.zeros_like(least), 0.0
    for _, block in _blocks(memories, centre, chunk):
        bowls = least[:, None] + (score_of_closest[:, None] - scores(at, block, 1.0))
        left = (1 - beta * bowls).relu()
        reach = ~(left <= 0)  # NaN is in reach, and so shows
        total, count = total + left.sum(-1), count + reach.sum(-1)
        wanted = wanted + what(at, block, bowls, reach)
    return total, count, wanted


def _depth(at: Tensor, block: Tensor, bowls: Tensor, reach: Tensor) -> Tensor:
    """Sum of half the squared distances to the memories in reach."""
    return bowls.where(reach, 0.0).sum(-1)


def _away(at: Tensor, block: Tensor, bowls: Tensor, reach: Tensor) -> Tensor:
    """Sum of x - xi over the memories in reach."""
    return at * reach.sum(-1, keepdim=True) - reach.to(at.dtype) @ block


# ---------------------------------------------------------------------------- other kernels


def kernel_energy(
    x: Tensor, memories: Tensor, *, kernel: Kernel | str, beta: float, chunk: int | None = None
) -> Tensor:
    r"""Energy of any kernel, :math:`-\frac1\beta\log\sum_\mu\kappa(z_\mu)`.

    With :math:`z_\mu^2 = \frac\beta2\|x-\xi^\mu\|^2`. All kernels but the Gaussian end at z = 1;
    off the support of all memories the energy is +inf, as :func:`lsr_energy` says. "gaussian" is
    :func:`lse_energy` and "epanechnikov" is :func:`lsr_energy`.

    Args:
        kernel: one of :data:`amtutor.memory.kernels.KERNELS`, or its name.

    Other arguments as :func:`lse_energy`; returns (\*batch). Source: MM 5.46, times -1/beta in the
    logarithm; the kernels of MM Fig 5.7.

    >>> kernel_energy(torch.tensor([[0.0], [0.5]]), torch.zeros(1, 1), kernel="triangle", beta=2.0)
    tensor([0.0000, 0.3466])
    """
    return form_of(kernel).energy(x, memories, beta=beta, chunk=chunk)


def kernel_gradient(
    x: Tensor, memories: Tensor, *, kernel: Kernel | str, beta: float, chunk: int | None = None
) -> Tensor:
    r"""Gradient of :func:`kernel_energy` in closed form, zero off the support.

    .. math:: \nabla E = \frac{\sum_\mu w_\mu\,(x-\xi^\mu)}{\sum_\mu \kappa(z_\mu)},
              \qquad w_\mu = -\frac{d\kappa}{d(z^2)}(z_\mu)

    The triangle has a cusp at each memory. There, this is the steepest way down: zero if the memory
    is a minimum. The uniform kernel is flat, and its gradient is zero everywhere.
    Arguments as :func:`kernel_energy`; returns (\*batch, D).
    """
    return form_of(kernel).gradient(x, memories, beta=beta, chunk=chunk)


def kernel_pull(
    x: Tensor, memories: Tensor, *, kernel: Kernel | str, beta: float, chunk: int | None = None
) -> Tensor:
    r"""The displacement that recall follows: safe for any step size in (0, 2).

    For kernels that are convex in :math:`z^2` (all but "uniform" and "tricube") it is x minus the
    mean of the memories with weights w of :func:`kernel_gradient`; the proof is that of the LSE
    energy, a bowl that touches. For "tricube", which is flat on top, it is the gradient over a
    bound of its curvature, or x minus the memory if only one is in reach. For "uniform" it is zero:
    a flat bowl pulls nobody. Arguments as :func:`kernel_energy`; returns (\*batch, D).
    """
    return form_of(kernel).pull(x, memories, beta=beta, chunk=chunk)


def log_density(
    x: Tensor, memories: Tensor, *, kernel: Kernel | str, bandwidth: float, chunk: int | None = None
) -> Tensor:
    r"""Logarithm of the kernel density estimate with one radial kernel on each memory.

    .. math:: \log \hat p(x) = -\beta E(x) + \log c - \log K - D \log b, \qquad \beta = 2/b^2

    Args:
        bandwidth: b > 0, the radius of a kernel (the Gaussian: sqrt(2) standard deviations).

    Other arguments as :func:`kernel_energy`; returns (\*batch), -inf off the support.
    Source: MM 5.46, which has h in place of :math:`h^D`.
    """
    kernel = as_kernel("kernel", kernel)
    b = float(_check.positive("bandwidth", bandwidth))
    beta = 2 / b**2 if 1e-150 < b < 1e150 else 0.0
    if not beta > 0:
        raise _check.fail("bandwidth", b, "a number between 1e-150 and 1e150")
    energy = form_of(kernel).energy(x, memories, beta=beta, chunk=chunk)
    k, dim = memories.shape
    return kernel.log_normaliser(dim=dim) - math.log(k) - dim * math.log(b) - beta * energy


def _kernel_energy(x: Tensor, memories: Tensor, beta, centre, chunk, *, kernel: Kernel):
    """The same logarithm as that of LSR, of kernels that add up to n - u."""
    total, count, lack = _kernel_pass(x, memories, beta, centre, chunk, kernel, _lack)
    off = count == 0
    n = count.masked_fill(off, 1)
    u = lack / n
    near = u < 0.5
    left = torch.where(near, torch.log1p(-u.where(near, 0.0)), (total / n).where(~near, 1.0).log())
    return torch.where(off, torch.inf, 0.0 - (n.log() + left) / beta)


def _kernel_gradient(x: Tensor, memories: Tensor, beta, centre, chunk, *, kernel: Kernel):
    total, count, drag = _kernel_pass(x, memories, beta, centre, chunk, kernel, _drag)
    away, _, on = _unpack(drag, beta)
    return _past_the_cusp(away, on) / total.masked_fill(count == 0, 1.0)[:, None]


def _kernel_pull(x: Tensor, memories: Tensor, beta, centre, chunk, *, kernel: Kernel):
    _, count, drag = _kernel_pass(x, memories, beta, centre, chunk, kernel, _drag)
    away, weight, on = _unpack(drag, beta)
    if kernel.name == "tricube":
        safe = 2 / _STEEPEST * away / count.clamp(min=1)[:, None]
        alone = _lsr_pull(x, memories, beta, centre, chunk)
        return torch.where((count == 1)[:, None], alone, safe)
    return _past_the_cusp(away, on) / weight.where(weight > 0, 1.0)[:, None]


#: largest curvature of the tricube kernel upside down, 18 z (1 - z^3)(1 - 4 z^3) at its peak
_STEEPEST = 5.0461


def _kernel_pass(x: Tensor, memories: Tensor, beta, centre, chunk: int, kernel: Kernel, what):
    """The two walks of :func:`_lsr_pass`, with another kernel."""
    at = seen_from(centre, x)
    closest, score_of_closest = _nearest(at, memories, centre, chunk)
    least = 0.5 * (x - memories[closest]).square().sum(-1)
    total, count, wanted = torch.zeros_like(least), torch.zeros_like(least), 0.0
    for _, block in _blocks(memories, centre, chunk):
        bowls = least[:, None] + (score_of_closest[:, None] - scores(at, block, 1.0))
        u = beta * bowls.clamp(min=0)  # z squared
        reach = ~(u >= 1)  # NaN is in reach, and so shows
        inside = u.where(reach, 0.0)
        total = total + kernel.shape.value(inside).where(reach, 0.0).sum(-1)
        count = count + reach.sum(-1)
        wanted = wanted + what(at, block, inside, reach, kernel)
    return total, count, wanted


def _lack(at: Tensor, block: Tensor, u: Tensor, reach: Tensor, kernel: Kernel) -> Tensor:
    """What the kernels in reach lack to 1, added up."""
    return kernel.shape.deficit(u).where(reach, 0.0).sum(-1)


def _drag(at: Tensor, block: Tensor, u: Tensor, reach: Tensor, kernel: Kernel) -> Tensor:
    """Sum of w (x - xi), sum of w, and how many cusps we stand on, side by side."""
    weight = kernel.shape.weight(u).where(reach, 0.0)
    share = weight.sum(-1, keepdim=True)
    cusp = reach & (u == 0) if kernel.name == "triangle" else torch.zeros_like(reach)
    return torch.cat([at * share - weight @ block, share, cusp.sum(-1, keepdim=True)], -1)


def _unpack(drag: Tensor, beta: Any) -> tuple[Tensor, Tensor, Tensor]:
    """The sums of `_drag`; the cusps as the length of pull that each of them resists."""
    return drag[:, :-2], drag[:, -2], drag[:, -1] * (0.5 / beta) ** 0.5


def _past_the_cusp(away: Tensor, holds: Tensor) -> Tensor:
    """Shorten a pull by what the cusp holds; zero if it holds it all."""
    length = torch.linalg.vector_norm(away, dim=-1)
    free = (1 - holds / length.where(length > 0, 1.0)).relu()
    return away * free[:, None]


# ---------------------------------------------------------------------------- off the support


OFF_SUPPORT = ("stay", "raise", "nearest", "escape")


def onto_support(
    x: Tensor, memories: Tensor, *, beta: float, how: str, chunk: int | None = None
) -> Tensor:
    r"""Move states that no kernel reaches to where the energy is finite; leave all others.

    Args:
        x: (\*batch, D); memories: (K, D); beta: kernels end at distance :math:`\sqrt{2/\beta}`.
        how: "nearest" puts such a state on the nearest memory; "escape" takes it straight towards
            that memory and stops at 99/100 of its radius, just inside the nearest support; "raise"
            raises ValueError if there is one; "stay" does nothing.

    Returns:
        (\*batch, D).

    >>> onto_support(torch.tensor([[3.0], [0.5]]), torch.zeros(1, 1), beta=2.0, how="escape")
    tensor([[0.9900],
            [0.5000]])
    """
    x, memories, beta = _checked(x, memories, beta)
    if _check.choice("how", how, OFF_SUPPORT) == "stay":
        return x
    closest = memories[nearest(x, memories, chunk=chunk)]
    away = x - closest
    lengths = torch.linalg.vector_norm(away, dim=-1, keepdim=True)
    radius = (2 / beta) ** 0.5
    off = lengths >= radius
    if how == "raise" and off.any():
        raise ValueError(
            f"x: {int(off.sum())} of {off.numel()} states are off the support, expected each "
            f"within {float(radius):.3g} of a memory, or another choice of what to do"
        )
    edge = closest if how == "nearest" else closest + away * (0.99 * radius / lengths)
    return torch.where(off, edge, x)


# ---------------------------------------------------------------------------- what both share


def nearest(x: Tensor, memories: Tensor, *, chunk: int | None = None) -> Tensor:
    r"""Index of the memory at the smallest Euclidean distance, (\*batch) int64.

    >>> nearest(torch.tensor([0.9, 0.1]), torch.eye(2))
    tensor(0)
    """

    def index(x: Tensor, memories: Tensor, _: Any, centre: Tensor | None, chunk: int) -> Tensor:
        found, score = _nearest(seen_from(centre, x), memories, centre, chunk)
        return found.masked_fill(score.isnan(), -1)

    return _answer(index, x, memories, 1.0, chunk)


def _nearest(at: Tensor, memories: Tensor, centre: Tensor | None, chunk: int):
    """Index of the nearest memory of each row, measured from the centre, and its score."""
    best = at.new_full((len(at),), -torch.inf)
    index = torch.zeros_like(best, dtype=torch.int64)
    for start, block in _blocks(memories, centre, chunk):
        top, where = scores(at, block, 1.0).max(-1)
        index = torch.where(top > best, start + where, index)
        best = torch.maximum(best, top)
    return index, best


def _blocks(memories: Tensor, centre: Tensor | None, size: int) -> Iterator[tuple[int, Tensor]]:
    for start in range(0, len(memories), size):
        yield start, seen_from(centre, memories[start : start + size])


def seen_from(centre: Tensor | None, x: Tensor) -> Tensor:
    """Measure from the centre; None is the origin."""
    return x if centre is None else x - centre


def centre_of(memories: Tensor) -> Tensor | None:
    """Where to measure from: amid the memories, or None if the origin is about as near to them."""
    some = _some(memories)
    centre = some.mean(0)

    def matters() -> bool:  # |centre| > 2 spreads, as mean square = |centre|^2 + spread^2
        square = torch.linalg.vector_norm(some).item() ** 2 / len(some)
        return 5 * torch.linalg.vector_norm(centre).item() ** 2 > 4 * square

    return centre if _look(matters, True) else None


def _answer(
    kernel: Callable[..., Tensor], x: Tensor, memories, beta, chunk, *, infinite: bool = False
) -> Tensor:
    """The door of every function of (x, memories): check, cut the work in pieces, look at the end.

    ``kernel(rows, memories, beta, centre, chunk)`` maps (n, D) to (n, ...).
    """
    x, memories, beta = _checked(x, memories, beta)
    rows = x.reshape(-1, x.shape[-1])
    most = max(1, len(rows))  # rows at a time
    if chunk is None:
        most = min(most, max(256, _BLOCK // len(memories)))
        chunk = min(2**14, max(1, _BLOCK // max(most, x.shape[-1])))
    else:
        chunk = _check.count("chunk", chunk)
    centre = centre_of(memories)
    parts = [kernel(part, memories, beta, centre, chunk) for part in rows.split(most)]
    out = torch.cat(parts) if len(parts) > 1 else parts[0]
    return _seen(out, x, memories, infinite=infinite).reshape(x.shape[:-1] + out.shape[1:])


def _checked(x: Tensor, memories: Tensor, beta: Any, names=("x", "memories")):
    """Check a pair and its temperature, and return them."""
    state, bank = names
    _check.floating(bank, _check.matrix(bank, memories))
    _check.last_dim(state, _check.floating(state, x), memories.shape[1])
    _check.same_kind(state, x, memories)
    return x, memories, _look(lambda: _check.positive("beta", beta), beta)


def _seen(
    out: Tensor, x: Tensor, memories: Tensor, *, infinite=False, names=("x", "memories")
) -> Tensor:
    """Return what came out of a kernel if it is an answer; NaN went through it and shows here."""

    def good() -> bool:
        if not out.is_floating_point():
            return bool((out >= 0).all())
        return bool((~out.isnan() if infinite else out.isfinite()).all())

    if not _look(good, True):
        _check.finite(names[0], x)
        _check.finite(names[1], memories)
        raise ValueError(
            f"{names[0]}: overflows in {x.dtype}, expected smaller entries, a moderate beta or "
            "torch.float64"
        )
    return out


def _look(ask: Callable[[], _T], otherwise: _T) -> _T:
    """Ask something of numbers; inside torch.compile and vmap, where nobody can, take the other."""
    if torch.compiler.is_compiling():
        return otherwise
    try:
        return ask()
    except RuntimeError as error:
        if "vmap" in str(error):
            return otherwise
        raise


# ---------------------------------------------------------------------------- attention


def attention_weights(
    query: Tensor, keys: Tensor, *, beta: float | None = None, bias: Tensor | None = None
) -> Tensor:
    r"""Attention weights :math:`\mathrm{softmax}_\mu(\beta\,(k^\mu\cdot q + b_\mu))`, (\*batch, K).

    ``beta=None`` takes the transformer's :math:`1/\sqrt d`; ``bias`` is (K,) or None for zero.
    With ``bias=distance_bias(keys)`` these are :func:`lse_weights`.
    """
    query, keys, beta, bias = _checked_attention(("query", query), ("keys", keys), beta, bias)
    weights = scores(query.reshape(-1, query.shape[-1]), keys, beta, bias).softmax(-1)
    return _seen(weights, query, keys, names=("query", "keys")).reshape(*query.shape[:-1], -1)


def attention(
    query: Tensor,
    keys: Tensor,
    values: Tensor | None = None,
    *,
    beta: float | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    r"""Softmax attention :math:`\mathrm{softmax}(\beta\,(q K^\top + b))\,V`.

    With ``values=None`` the values are the keys, and this is exactly one retrieval step of size 1
    on :func:`attention_energy`: x - grad E(x). With ``beta=None`` (that is :math:`1/\sqrt d`) it is
    ``torch.nn.functional.scaled_dot_product_attention``.

    Args:
        query: (\*batch, d); keys: (K, d); values: (K, d_v) or None.

    Source: MM 3.15-3.16 (the energy side); the step is ledger D1.

    >>> keys = torch.eye(2)
    >>> x = torch.tensor([1.0, 0.0], requires_grad=True)
    >>> (slope,) = torch.autograd.grad(attention_energy(x, keys, beta=1.0), x)
    >>> torch.equal(attention(x, keys, beta=1.0), x - slope)
    True
    """
    weights = attention_weights(query, keys, beta=beta, bias=bias)
    values = keys if values is None else _check.floating("values", _check.matrix("values", values))
    if values.shape[0] != len(keys):
        raise ValueError(f"values: got {len(values)} rows, expected {len(keys)}, one for each key")
    return weights @ _check.same_kind("values", values, keys)


def attention_energy(
    x: Tensor, memories: Tensor, *, beta: float | None = None, bias: Tensor | None = None
) -> Tensor:
    r"""The energy of dot-product attention.

    .. math:: E(x) = \tfrac12\|x\|^2 - \tfrac1\beta \log \sum_\mu \exp\bigl(\beta\,(\xi^\mu\cdot x
              + b_\mu)\bigr)

    Conversion to :func:`lse_energy` at the same beta: with b = ``distance_bias(memories)`` the two
    are equal; with b = 0 and memories of one norm R, this is E_LSE - R^2/2 and the gradients are
    equal; with b = 0 and unequal norms it is the LSE energy in which memory mu counts
    :math:`\exp(\frac\beta2\|\xi^\mu\|^2)` times, which no beta mends.
    """
    x, memories, beta, bias = _checked_attention(("x", x), ("memories", memories), beta, bias)
    rows = x.reshape(-1, x.shape[-1])
    energy = 0.5 * rows.square().sum(-1) - scores(rows, memories, beta, bias).logsumexp(-1) / beta
    return _seen(energy, x, memories).reshape(x.shape[:-1])


def _checked_attention(query: tuple[str, Tensor], keys: tuple[str, Tensor], beta: Any, bias: Any):
    """Check what attention is made of, each with its name, and fill in what was left out."""
    _check.matrix(*keys)
    beta = keys[1].shape[-1] ** -0.5 if beta is None else beta
    q, k, beta = _checked(query[1], keys[1], beta, names=(query[0], keys[0]))
    if bias is None:
        return q, k, beta, k.new_zeros(len(k))
    if _check.floating("bias", bias).shape != k.shape[:1]:
        raise ValueError(f"bias: got shape {tuple(bias.shape)}, expected ({len(k)},)")
    return q, k, beta, _check.same_kind("bias", bias, k)


# ---------------------------------------------------------------------------- the module


@dataclass(frozen=True)
class EnergyForm:
    """What :class:`DenseAM` needs of an energy: three functions of (x, memories, beta=, chunk=).

    ``energy`` gives (\\*batch); ``gradient`` its exact gradient; ``pull`` the displacement x - m(x)
    that retrieval follows, a positive multiple of the gradient that is safe at step size 1.
    """

    energy: Callable[..., Tensor]
    gradient: Callable[..., Tensor]
    pull: Callable[..., Tensor]


_LSE = EnergyForm(lse_energy, lse_gradient, lse_gradient)
_LSR = EnergyForm(lsr_energy, lsr_gradient, lsr_pull)


def _form(kernel: Kernel) -> EnergyForm:
    """The three functions of a kernel, each with its door."""

    def door(inner: Callable[..., Tensor], *, infinite: bool = False) -> Callable[..., Tensor]:
        inner = partial(inner, kernel=kernel)

        def outer(x: Tensor, memories: Tensor, *, beta: float, chunk: int | None = None) -> Tensor:
            return _answer(inner, x, memories, beta, chunk, infinite=infinite)

        return outer

    energy = door(_kernel_energy, infinite=True)
    return EnergyForm(energy, door(_kernel_gradient), door(_kernel_pull))


ENERGIES = {"lse": _LSE, "lsr": _LSR} | {name: _form(kernel) for name, kernel in KERNELS.items()}
ENERGIES |= {"gaussian": _LSE, "epanechnikov": _LSR}


def form_of(kernel: Kernel | str) -> EnergyForm:
    """The :class:`EnergyForm` of a kernel or its name."""
    return ENERGIES[as_kernel("kernel", kernel).name]


class DenseAM(nn.Module):
    r"""K memories in continuous space, and the descent that recalls them.

    Args:
        memories: (K, D) floating point, a tensor or an array, kept as given (a buffer that is not
            copied, or, if it is an ``nn.Parameter``, that parameter).
        energy: "lse", "lsr", a kernel or its name, or an :class:`EnergyForm`.
        beta: inverse temperature > 0; a tensor becomes a buffer, an ``nn.Parameter`` is learned.
        trainable: make ``memories`` an ``nn.Parameter`` (a copy); train them through ``.energy``.
        chunk: memories per block, None for blocks of 16 MB.

    >>> memory = DenseAM(torch.eye(3), beta=20.0)
    >>> memory.recall(torch.tensor([0.7, 0.2, 0.1]), steps=5).state.round(decimals=3)
    tensor([1., 0., 0.])
    """

    memories: Tensor

    def __init__(
        self,
        memories: Any,
        energy: str | Kernel | EnergyForm = "lse",
        *,
        beta: float | Tensor,
        trainable: bool = False,
        chunk: int | None = None,
    ):
        super().__init__()
        memories = _as_tensor("memories", memories)
        _check.finite("memories", _check.floating("memories", _check.matrix("memories", memories)))
        if _check.boolean("trainable", trainable) and not isinstance(memories, nn.Parameter):
            memories = nn.Parameter(memories.detach().clone())
        if isinstance(memories, nn.Parameter):
            self.register_parameter("memories", memories)
        else:
            self.register_buffer("memories", memories)
        if isinstance(energy, Kernel):
            energy = form_of(energy)
        if not isinstance(energy, EnergyForm):
            energy = ENERGIES[_check.choice("energy", energy, tuple(ENERGIES))]
        self.form = energy
        beta = _check.positive("beta", beta)
        if isinstance(beta, nn.Parameter):
            self.register_parameter("beta", beta)
        elif isinstance(beta, Tensor):
            self.register_buffer("beta", beta)
        else:
            self.beta = beta
        self.chunk = None if chunk is None else _check.count("chunk", chunk)

    def energy(self, x: Any) -> Tensor:
        r"""Energy of each state, (\*batch)."""
        return self.form.energy(self._state(x), self.memories, beta=self.beta, chunk=self.chunk)

    def gradient(self, x: Any) -> Tensor:
        r"""Exact gradient of :meth:`energy` in closed form, (\*batch, D)."""
        return self.form.gradient(self._state(x), self.memories, beta=self.beta, chunk=self.chunk)

    def pull(self, x: Any) -> Tensor:
        r"""The displacement x - m(x) that :meth:`recall` follows, (\*batch, D)."""
        return self.form.pull(self._state(x), self.memories, beta=self.beta, chunk=self.chunk)

    def recall(
        self,
        x: Any,
        *,
        steps: int,
        step_size: float = 1.0,
        tol: float | None = None,
        clamp: Tensor | None = None,
        record: bool = False,
        callback: Callable[[int, Tensor], object] | None = None,
        off_support: str = "stay",
    ) -> Descent[Tensor]:
        r"""Recall, without tracking gradients: x <- x + step_size (m(x) - x), m the weighted mean.

        For "lse" that is gradient descent with this step size; for "lsr" it is :func:`lsr_pull`,
        for other kernels :func:`kernel_pull`. The energy
        never rises for any step size in (0, 2), clamped or not. ``tol`` is a length of x - m(x).
        Small memories are asked on one thread.

        A kernel that ends leaves places that no memory reaches. With ``off_support="stay"`` a state
        there stays, with energy +inf, never converged; "raise" refuses it; "nearest" and "escape"
        move it first, see :func:`onto_support`, and the descent starts from there. They move whole
        states, so nothing may be clamped.

        Other arguments and the result: see :func:`amtutor.descent.descend`.
        """
        x = _check.last_dim("x", self._state(x), self.memories.shape[1])
        _check.finite("x", _check.floating("x", x))
        if _check.choice("off_support", off_support, OFF_SUPPORT) != "stay":
            x = self._onto_support(x, off_support, clamp)
        with one_thread(x.numel() * len(self.memories)):
            return descend(
                self.energy,
                x,
                steps=steps,
                step_size=step_size,
                gradient=self.pull,
                clamp=clamp,
                tol=tol,
                record=record,
                callback=callback,
            )

    def _onto_support(self, x: Tensor, how: str, clamp: Tensor | None) -> Tensor:
        if self.form is _LSE:
            raise ValueError(f"off_support = {how!r}: expected 'stay', as this energy ends nowhere")
        if clamp is not None and how != "raise":
            raise ValueError(f"off_support = {how!r}: expected 'stay' or 'raise' beside a clamp")
        with torch.no_grad():
            return onto_support(x, self.memories, beta=self.beta, how=how, chunk=self.chunk)

    def _state(self, x: Any) -> Tensor:
        """A tensor as it is; an array or a list in the dtype of the memories."""
        if isinstance(x, Tensor):
            return x
        return _as_tensor("x", x, self.memories.dtype).to(self.memories.device)

    def extra_repr(self) -> str:
        """Name the sizes and the temperature."""
        k, d = self.memories.shape
        beta = self.beta.item() if isinstance(self.beta, Tensor) else self.beta
        return f"K={k}, D={d}, beta={beta}"


def _as_tensor(name: str, x: Any, dtype: torch.dtype | None = None) -> Tensor:
    """A tensor as it is; an array or nested lists of numbers as a tensor."""
    if isinstance(x, Tensor):
        return x
    try:
        return torch.as_tensor(x, dtype=dtype)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise TypeError(
            f"{name}: got a {_check.describe(x)}, expected a tensor or an array of numbers"
        ) from None
