r"""`HAM.descend` for recall only: the same end point, sooner.

Three things are done that the plain form leaves undone:

* what comes from clamped layers alone never changes, so it is computed once;
* float32 products on a CPU go through oneDNN where PyTorch offers it (see `matmul`);
* :math:`\tanh z = 2\sigma(2z) - 1`, which PyTorch computes five times as fast, to 1e-7.

No gradients, no guard, no film. Any HAM will do; what is not known here is asked of the synapse.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from amtutor import _check
from amtutor._threads import one_thread
from amtutor.descent import Descent, watched_by
from amtutor.fast._matmul import long_times_transpose, onednn_route
from amtutor.network.ham import HAM, Clamp, NeuronLayer, States
from amtutor.network.lagrangians import Tanh
from amtutor.network.synapses import Dense, currents

__all__ = ["descend"]

# What one synapse sends: which layers it hears, and the currents it makes of their activations.
Term = tuple[set[str], Callable[[States], list[tuple[str, Tensor]]]]


@torch.no_grad()
def descend(
    ham: HAM,
    states: States,
    *,
    steps: int,
    step_size: float,
    clamp: Clamp = (),
    callback: Callable[[int, States], object] | None = None,
) -> Descent[States]:
    """Take ``steps`` steps of `HAM.descend`; agrees with it to rounding.

    Arguments and result as there; nothing stops early, so ``converged`` is all False. Small work is
    done on one thread.

    Raises:
        ValueError, TypeError: an argument has the wrong range, type, shape or name.
        FloatingPointError: the final energy is not finite.
    """
    if not isinstance(ham, HAM):
        raise TypeError(f"ham: got a {_check.describe(ham)}, expected a HAM")
    held = ham.held(clamp, states)
    batch = ham._batch(states)
    steps = _check.count("steps", steps, least=0)
    step_size = _check.positive("step_size", step_size)
    watchers = watched_by(callback)
    with one_thread(ham._work(batch)):
        return _descend(ham, states, steps, step_size, held, batch, watchers)


def _descend(
    ham: HAM, states: States, steps: int, step_size, held, batch, watchers
) -> Descent[States]:
    rows = {n: states[n].reshape(-1, *layer.shape) for n, layer in ham.layers.items()}
    x = {n: v.clone() for n, v in rows.items()}
    masks = {n: m.reshape(x[n].shape) for n, m in held.items() if m is not True}
    start = {n: x[n].clone() for n in masks}
    free = [n for n in ham.layers if held.get(n) is not True]
    activation = {n: _activation(layer) for n, layer in ham.layers.items()}
    active = {n: activation[n](x[n], torch.empty_like(x[n])) for n in ham.layers}
    terms = [t for c in ham.connections for t in _terms(c, set(free))]
    fixed = _add_up([t for t in terms if not t[0] & set(free)], active)
    terms = [t for t in terms if t[0] & set(free)]
    _show(0, x, states, watchers)
    for step in range(1, steps + 1):
        signal = _add_up(terms, active)
        for n in free:
            total = signal.get(n)
            if n in fixed:
                total = fixed[n] if total is None else total + fixed[n]
            share = step_size / ham.layers[n].tau
            if total is None:
                x[n].mul_(1 - share)
            else:
                x[n].lerp_(total, share)
            if n in masks:
                x[n] = torch.where(masks[n], start[n], x[n])
            active[n] = activation[n](x[n], active[n])
        _show(step, x, states, watchers)
    end = {n: v.reshape(states[n].shape) for n, v in x.items()}
    energy = ham.energy(end)
    if not energy.isfinite().all():
        raise FloatingPointError(
            f"energy is not finite after {steps} steps: expected finite states at the start, a "
            "smaller step_size, or an energy that is bounded below"
        )
    taken = torch.full(batch, steps, dtype=torch.int64, device=energy.device)
    return Descent(end, energy, taken, torch.zeros_like(taken, dtype=torch.bool))


def _show(step: int, x: States, states: States, watchers: list[Callable[..., object]]) -> None:
    """Hand out copies in the shape of the start: ``x`` is written over in the next step."""
    for watcher in watchers:
        watcher(step, {n: v.reshape(states[n].shape).clone() for n, v in x.items()})


def _activation(layer: NeuronLayer) -> Callable[[Tensor, Tensor], Tensor]:
    """Choose the sooner of two equal ways; the second argument may be written over."""
    lagrangian = layer.lagrangian
    minus_one = torch.tensor(-1.0)

    def plain(x: Tensor, out: Tensor) -> Tensor:
        if type(lagrangian) is not Tanh or x.dtype != torch.float32:
            return lagrangian.activation(x)
        torch.mul(x, 2 * lagrangian.beta, out=out).sigmoid_()
        return torch.add(minus_one.to(out), out, alpha=2, out=out)

    return plain


def _terms(connection, free: set[str]) -> list[Term]:
    """List what a connection sends to layers that can move."""
    names, synapse = connection.names, connection.synapse
    if type(synapse) is Dense and len(names) == 2:
        ways = [(0, 1, synapse.weight), (1, 0, synapse.weight.T.contiguous())]
        sizes = synapse.shapes
        return [
            ({names[j]}, partial(_dense, names[i], names[j], sizes[i], sizes[j], weight))
            for i, j, weight in ways
            if names[i] in free
        ]
    wanted = tuple(n in free for n in names)

    def ask(active: States) -> list[tuple[str, Tensor]]:
        found = currents(synapse, *(active[n] for n in names), wanted=wanted)
        return [(n, v) for n, v in zip(names, found, strict=True) if v is not None]

    return [(set(names), ask)] if any(wanted) else []


def _dense(to: str, source: str, shape, shape_in, weight: Tensor, active: States):
    """Send weight @ source to one layer."""
    x = active[source].flatten(-len(shape_in))
    return [(to, _product(x, weight).reshape(*x.shape[:-1], *shape))]


def _product(x: Tensor, weight: Tensor) -> Tensor:
    """x @ weight.T by the fastest exact float32 route there is."""
    if x.ndim == 2 and onednn_route(x, weight):
        direct = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
        if direct is None:
            return long_times_transpose(x, weight)
        return direct(x, weight, None, "none", [], "")
    return torch.nn.functional.linear(x, weight)


def _add_up(terms: list[Term], active: States) -> States:
    total: States = {}
    for _, send in terms:
        for n, signal in send(active):
            total[n] = total[n] + signal if n in total else signal
    return total
