r"""HAM: neuron layers and hypersynapses, one total energy, one local rule (MM 3.1, 3.2).

.. math::

    E = \sum_\ell \big[\langle x_\ell, \hat x_\ell\rangle - L_\ell(x_\ell)\big]
      + \sum_s E_s(\hat x), \qquad
    \tau_\ell \frac{dx_\ell}{dt} = -\frac{\partial E}{\partial \hat x_\ell} = I_\ell - x_\ell

Every layer listens to the currents :math:`I_\ell` of its own synapses and forgets its own state;
nobody sees the whole, and yet the total energy cannot rise, because each Lagrangian is convex
(MM 3.5): :math:`dE/dt = -\sum_\ell \tau_\ell\, \dot x_\ell^\top \nabla^2 L_\ell\, \dot x_\ell`.

States are dicts from layer names to tensors ``(*batch, *shape)``. Everything is differentiable:
with gradients on, `HAM.descend` is an unrolled network. To recall only, use ``torch.no_grad()``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from amtutor import _check
from amtutor.descent import Descent, Trajectory
from amtutor.network import synapses
from amtutor.network.lagrangians import Lagrangian

__all__ = ["HAM", "Connection", "NeuronLayer"]

States = dict[str, Tensor]
Clamp = str | Iterable[str] | Mapping[str, "Tensor | bool"]
MOST_HALVINGS = 30


class NeuronLayer(nn.Module):
    r"""Neurons with an internal state x, and with activation and energy from one Lagrangian.

    Args:
        lagrangian: a `Lagrangian`. shape: an int or a tuple, without the batch.
        tau: time constant > 0; in a step dt the layer goes dt / tau of its way.
    """

    def __init__(self, lagrangian: Lagrangian, shape: int | Sequence[int], tau: float = 1.0):
        super().__init__()
        if not isinstance(lagrangian, Lagrangian):
            raise TypeError(f"lagrangian: got {lagrangian!r}, expected a Lagrangian such as Tanh()")
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        self.shape = tuple(_check.count("shape", n) for n in shape)
        if lagrangian.acts_on_last_dim and not self.shape:
            raise _check.fail("shape", self.shape, "at least one dimension to normalise over")
        self.lagrangian = lagrangian
        self.tau = float(_check.positive("tau", tau))

    def activation(self, x: Tensor) -> Tensor:
        r"""Activation :math:`\hat x = \nabla L(x)` (MM 3.3)."""
        return self.lagrangian.activation(x)

    def energy(self, x: Tensor) -> Tensor:
        r"""Energy :math:`\langle x, \hat x \rangle - L`, one value per batch element (MM 3.3)."""
        return self.lagrangian.energy(x, event_dims=len(self.shape))

    def extra_repr(self) -> str:
        """Name shape and time constant."""
        return f"shape={self.shape}, tau={self.tau:g}"


@dataclass(frozen=True)
class Connection:
    """A synapse, the names of the layers it connects, and its name in `HAM.energies`."""

    names: tuple[str, ...]
    synapse: Callable[..., Tensor]
    key: str


class HAM(nn.Module):
    r"""A hypergraph of neuron layers and synapses with one total energy (MM 3.1).

    Args:
        layers: name -> `NeuronLayer`.
        connections: pairs (names, synapse); the names, in the order of the synapse's arguments,
            may be any number and may repeat (a self-connection); the synapse may be any function
            of activations with one energy per batch element.

    >>> from amtutor.network.lagrangians import Identity, Tanh
    >>> from amtutor.network.synapses import Dense
    >>> brain = HAM(
    ...     {"v": NeuronLayer(Tanh(beta=2.0), 4), "m": NeuronLayer(Identity(), 3)},
    ...     [(("m", "v"), Dense(3, 4, weight=torch.ones(3, 4)))],
    ... )
    >>> x = brain.states(2, std=1.0, generator=torch.Generator().manual_seed(0))
    >>> {key: tuple(value.shape) for key, value in brain.energies(x).items()}
    {'v': (2,), 'm': (2,), 'Dense(m, v)': (2,)}
    >>> bool((brain.energy(brain.step(x, step_size=0.1)) < brain.energy(x)).all())
    True
    """

    def __init__(
        self,
        layers: Mapping[str, NeuronLayer],
        connections: Iterable[tuple[Sequence[str] | str, Callable[..., Tensor]]],
    ):
        super().__init__()
        if not isinstance(layers, Mapping) or not layers:
            raise TypeError(f"layers: got {layers!r}, expected a dict of at least one NeuronLayer")
        self.layers = nn.ModuleDict()
        for name, layer in layers.items():
            _add_layer(self.layers, name, layer)
        self.connections: list[Connection] = []
        for i, item in enumerate(connections):
            self._connect(i, item)
        modules = [c.synapse for c in self.connections if isinstance(c.synapse, nn.Module)]
        self.synapses = nn.ModuleList(dict.fromkeys(modules))

    # What it is made of

    def _connect(self, i: int, item) -> None:
        where = f"connections[{i}]"
        if not isinstance(item, tuple) or len(item) != 2 or not callable(item[1]):
            raise TypeError(f"{where}: got {item!r}, expected a pair (names, synapse)")
        names, synapse = item
        names = (names,) if isinstance(names, str) else tuple(names)
        for name in names:
            if name not in self.layers:
                known = ", ".join(map(repr, self.layers))
                raise ValueError(f"{where}: no layer named {name!r}, expected one of {known}")
        if hasattr(synapse, "check_shapes"):
            try:
                synapse.check_shapes(*(self.layers[n].shape for n in names))
            except ValueError as error:
                raise ValueError(f"{where}, layers {', '.join(names)}: {error}") from None
        key = f"{_label(synapse)}({', '.join(names)})"
        taken = sum(c.key == key or c.key.startswith(key + " #") for c in self.connections)
        key = f"{key} #{taken + 1}" if taken else key
        self.connections.append(Connection(names, synapse, key))

    def describe(self) -> dict:
        """Describe the hypergraph in plain words and numbers, for `amtutor.show.hypergraph`."""
        layers = [
            {"name": n, "label": _text(v.lagrangian), "shape": v.shape, "tau": v.tau}
            for n, v in self.layers.items()
        ]
        edges = [
            {"label": _label(c.synapse), "detail": _detail(c.synapse), "layers": c.names}
            for c in self.connections
        ]
        return {"layers": layers, "connections": edges}

    def states(
        self,
        *batch: int,
        std: float = 0.0,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> States:
        """Make a state for every layer: zeros, or N(0, std^2).

        Dtype and device are those of the first parameter unless given.
        """
        first = next(self.parameters(), torch.empty(0))
        options = {"dtype": dtype or first.dtype, "device": device or first.device}
        shapes = {n: (*batch, *layer.shape) for n, layer in self.layers.items()}
        if not _check.non_negative("std", std):
            return {n: torch.zeros(s, **options) for n, s in shapes.items()}
        return {n: std * torch.randn(s, generator=generator, **options) for n, s in shapes.items()}

    # Energies and signals

    def activations(self, states: States) -> States:
        r"""Activation :math:`\hat x = \nabla L(x)` of every layer."""
        self._batch(states)
        return self._activations(states)

    def energies(self, states: States) -> States:
        """Energy of every neuron layer and connection; their sum is `energy`."""
        return self._energies(states, self._batch(states))

    def energy(self, states: States) -> Tensor:
        """Total energy, one value per batch element (MM 3.1)."""
        return sum(self.energies(states).values())

    def currents(self, states: States) -> States:
        r"""Input current :math:`I_\ell = -\sum_s \partial E_s / \partial \hat x_\ell` (MM 3.2)."""
        self._batch(states)
        return self._currents(states, set(self.layers))

    def gradient(self, states: States) -> States:
        r"""Gradient with respect to the activations, :math:`x_\ell - I_\ell` (MM 3.2)."""
        currents = self.currents(states)
        return {n: states[n] - currents[n] for n in self.layers}

    def _activations(self, states: States) -> States:
        return {n: layer.activation(states[n]) for n, layer in self.layers.items()}

    def _energies(self, states: States, batch: tuple[int, ...]) -> States:
        active = self._activations(states)
        out = {n: layer.energy(states[n]) for n, layer in self.layers.items()}
        for c in self.connections:
            value = c.synapse(*(active[n] for n in c.names))
            if not isinstance(value, Tensor) or value.shape[: len(batch)] != torch.Size(batch):
                raise ValueError(
                    f"{c.key}: returned a {_check.describe(value)}, expected one energy for "
                    f"each element of batch shape {batch}"
                )
            out[c.key] = value.flatten(len(batch)).sum(-1) if value.ndim > len(batch) else value
        return out

    def _currents(self, states: States, wanted: set[str]) -> States:
        active, total = self._activations(states), {}
        for c in self.connections:
            flags = tuple(n in wanted for n in c.names)
            if not any(flags):
                continue
            signals = synapses.currents(c.synapse, *(active[n] for n in c.names), wanted=flags)
            for n, signal in zip(c.names, signals, strict=True):
                if signal is not None:
                    total[n] = total[n] + signal if n in total else signal
        in_order = [n for n in self.layers if n in wanted]
        return {n: total[n] if n in total else torch.zeros_like(states[n]) for n in in_order}

    # Dynamics

    def step(
        self, states: States, *, step_size: float, clamp: Clamp = (), guard: str | None = None
    ) -> States:
        r"""One Euler step, :math:`x \leftarrow x + \frac{dt}{\tau}(I - x)` (MM 3.2).

        Args:
            states: never modified.
            step_size: dt > 0. It lowers the energy if it is small enough; see ``guard``.
            clamp: names of layers to hold, or a dict name -> True or a bool mask that broadcasts
                to the layer's state (True entries are held). Where the Lagrangian ties entries
                together (softmax, layer norm, sphere) hold whole vectors: with half of one held
                the energy may rise, since the free half moves the activation of the other.
            guard: look at the energy after the step, for each batch element: "refuse" takes back
                a step that raised it, "halve" tries half of it, up to 30 times; None trusts it.
        """
        batch = self._batch(states)
        held = self.held(clamp, states)
        _check.positive("step_size", step_size)
        _check.choice("guard", guard, (None, "refuse", "halve"))
        currents = self._currents(states, self._free(held))
        if guard is None:
            return self._euler(states, currents, step_size, held)
        flat = partial(_flat, self.layers, len(batch))
        held = {n: m if m is True else flat({n: m})[n] for n, m in held.items()}
        new = self._guarded(flat(states), flat(currents), step_size, held, guard)
        return {n: x.reshape(states[n].shape) for n, x in new.items()}

    def descend(
        self,
        states: States,
        *,
        steps: int,
        step_size: float,
        clamp: Clamp = (),
        tol: float | None = None,
        guard: str | None = None,
        record: bool = False,
        callback: Callable[[int, States], object] | None = None,
    ) -> Descent:
        r"""Take many steps; differentiable through all of them when grad mode is on.

        Args:
            states, step_size, clamp, guard: as in `step`.
            steps: most steps any element may take, >= 0.
            tol: a batch element stops by itself when the norm of :math:`x - I` over all its free
                entries is <= tol, and costs nothing from then on.
            record: keep states and energies of every moment.
            callback: is called with (step, states) after every step; step 0 is the start.

        Returns:
            A `Descent` whose ``state`` is a dict like ``states``.

        Raises:
            FloatingPointError: the final energy is not finite.
        """
        batch = self._batch(states)
        _check.count("steps", steps, least=0)
        _check.positive("step_size", step_size)
        _check.choice("guard", guard, (None, "refuse", "halve"))
        if tol is not None:
            _check.non_negative("tol", tol)
        flat = partial(_flat, self.layers, len(batch))
        held = {n: m if m is True else flat({n: m})[n] for n, m in self.held(clamp, states).items()}
        walk = _Walk(self, flat(states), held)
        for t in range(steps + 1):
            if record:
                walk.record()
            if callback is not None:
                callback(t, {n: x.reshape(states[n].shape) for n, x in walk.x.items()})
            if t == steps and tol is None or not walk.move(step_size, tol, guard, last=t == steps):
                break
        return walk.result(batch)

    def fixed_point(
        self,
        states: States,
        *,
        steps: int,
        step_size: float,
        clamp: Clamp = (),
        tol: float = 1e-6,
        adjoint_steps: int | None = None,
    ) -> Descent:
        r"""Descend without a graph and differentiate the end point implicitly: O(1) memory.

        At rest :math:`x^* = g(x^*, \theta)`, g being one step, so for a loss with gradient v there
        :math:`dx^{*\top} v = (\partial g/\partial\theta)^\top u` with :math:`u = v + J_g^\top u`,
        found by iterating. Gradients reach parameters and clamped entries; the start has none.
        They are as exact as the rest is still, so look at ``converged``. No second derivative.

        Args:
            states, steps, step_size, clamp, tol: as in `descend`.
            adjoint_steps: most iterations for u; as many as ``steps`` unless given.
        """
        held = self.held(clamp, states)
        plain = {n: x.detach() for n, x in states.items()}
        with torch.no_grad():
            rest = self.descend(plain, steps=steps, step_size=step_size, clamp=clamp, tol=tol)
        start = {n: _mix(held.get(n), states[n], rest.state[n]) for n in self.layers}
        once = self.step(start, step_size=step_size, clamp=clamp)
        moving = [n for n in self.layers if held.get(n) is not True]
        solve = partial(
            self._adjoint, rest.state, step_size, held, moving, adjoint_steps or steps, tol
        )
        ends = _Implicit.apply(solve, *(once[n] for n in moving)) if moving else ()
        end = dict(states) | dict(zip(moving, ends, strict=True))
        end = {n: _mix(held.get(n), states[n], end[n]) for n in self.layers}
        return Descent(end, self.energy(end), rest.steps_taken, rest.converged)

    def floors(self) -> list[list[str]]:
        """Part the layers into sets in which nobody talks to each other; two for any tower.

        Raises:
            ValueError: a synapse connects a layer to itself.
        """
        level: dict[str, int] = {}
        for name in self.layers:
            neighbours = set()
            for c in self.connections:
                if c.names.count(name) > 1:
                    raise ValueError(
                        f"ham: {c.key} connects {name!r} to itself, expected no such loop"
                    )
                if name in c.names:
                    neighbours |= {level[n] for n in c.names if n in level}
            level[name] = min(set(range(len(self.layers))) - neighbours)
        return [[n for n in level if level[n] == k] for k in range(max(level.values()) + 1)]

    def settle(
        self,
        states: States,
        *,
        steps: int,
        step_size: float = 1.0,
        clamp: Clamp = (),
        record: bool = False,
        callback: Callable[[int, States], object] | None = None,
    ) -> Descent:
        r"""Go down the energy, one set of `floors` after the other.

        With everybody else frozen, and synapses that are linear in each activation, the energy
        along a layer's way from :math:`x` to :math:`I` falls all the way and is lowest at the end:
        :math:`dE/ds = -(1-s)\,(I-x)^\top \nabla^2 L\,(I-x) \le 0`. So step_size = tau jumps there
        at once, and any smaller one lowers the energy. Differentiable through all of it.

        Args:
            states, clamp: as in `step`. The guarantee needs synapses linear in each layer.
            steps: times that every set has its turn, >= 0. The sets go from the top down, so that
                a held picture meets quiet floors above it.
            step_size: at most the smallest tau.
            record: keep every moment, one per set and step.
            callback: is called with (moment, states) after every turn; 0 is the start.

        Returns:
            A `Descent` whose ``state`` is a dict like ``states``; ``converged`` is all False.
        """
        _check.count("steps", steps, least=0)
        _check.positive("step_size", step_size)
        slowest = min(layer.tau for layer in self.layers.values())
        if step_size > slowest:
            raise _check.fail("step_size", step_size, f"at most the smallest tau, {slowest:g}")
        held = self.held(clamp, states)
        turns = [
            held | dict.fromkeys(set(self.layers) - set(group), True)
            for group in reversed(self.floors())
        ]
        seen = [states]
        for t in range(steps * len(turns) + 1):
            if t:
                turn = turns[(t - 1) % len(turns)]
                states = self.step(states, step_size=step_size, clamp=turn)
                seen = [*seen, states] if record else seen
            if callback is not None:
                callback(t, states)
        energy = self.energy(states)
        trajectory = None
        if record:
            stacked = {n: torch.stack([s[n] for s in seen]) for n in self.layers}
            parts = self.energies(stacked)
            trajectory = Trajectory(stacked, sum(parts.values()), parts)
        taken = torch.full_like(energy, steps, dtype=torch.int64)
        return Descent(states, energy, taken, torch.zeros_like(taken, dtype=torch.bool), trajectory)

    def _adjoint(self, rest, step_size, held, moving, steps, tol, *v: Tensor) -> list[Tensor]:
        """Solve u = v + J^T u for the free entries, J being the Jacobian of one step at rest."""
        with torch.enable_grad():
            x = {n: rest[n].detach().requires_grad_(n in moving) for n in self.layers}
            y = self.step(x, step_size=step_size, clamp=held)
        inputs, outputs = [x[n] for n in moving], [y[n] for n in moving]
        v = [_free_part(held.get(n), w) for n, w in zip(moving, v, strict=True)]
        size = _norm(v)
        u = list(v)
        for _ in range(steps):
            pulled = torch.autograd.grad(
                outputs, inputs, u, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            pairs = zip(moving, pulled, strict=True)
            new = [w + _free_part(held.get(n), p) for w, (n, p) in zip(v, pairs, strict=True)]
            change = _norm([a - b for a, b in zip(new, u, strict=True)])
            u = new
            if change <= tol * size:
                break
        return u

    # One step, inside

    def _euler(self, states: States, currents: States, dt, held: Mapping) -> States:
        out = dict(states)
        for n in currents:
            x, share = states[n], dt / self.layers[n].tau
            if isinstance(share, Tensor):  # one step size per row
                share = share.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))
            out[n] = _mix(held.get(n), x, torch.lerp(x, currents[n].to(x.dtype), share))
        return out

    def _guarded(self, states: States, currents: States, dt: float, held, guard: str) -> States:
        """Step each row only as far as its energy does not rise, or not at all."""
        rows = (len(next(iter(states.values()))),)
        parts = torch.stack(list(self._energies(states, rows).values()))
        eps = torch.finfo(parts.dtype).eps
        limit = parts.sum(0) + 8 * eps * parts.abs().sum(0)  # rounding is not rising

        def rises(x: States) -> Tensor:
            return ~(sum(self._energies(x, rows).values()) <= limit)

        size = torch.full_like(limit, dt)
        new = self._euler(states, currents, size, held)
        bad = rises(new)
        for _ in range(MOST_HALVINGS if guard == "halve" else 0):
            if not bad.any():
                return new
            size = torch.where(bad, size / 2, size)
            new = self._euler(states, currents, size, held)
            bad = rises(new)
        return {
            n: torch.where(bad.reshape(-1, *[1] * (x.ndim - 1)), states[n], x)
            for n, x in new.items()
        }

    # Checks

    def _free(self, held: Mapping) -> set[str]:
        return {n for n in self.layers if held.get(n) is not True}

    def _batch(self, states: States) -> tuple[int, ...]:
        """Check the states and read off their batch shape."""
        if not isinstance(states, Mapping) or set(states) != set(self.layers):
            got = sorted(states) if isinstance(states, Mapping) else type(states).__name__
            raise ValueError(f"states: got {got}, expected a dict with keys {sorted(self.layers)}")
        batch, weight = None, next(self.synapses.parameters(), None)
        for n, layer in self.layers.items():
            x = _check.floating(f"states[{n!r}]", states[n])
            if weight is not None:
                _check.same_kind(f"states[{n!r}]", x, weight)
            lead = x.ndim - len(layer.shape)
            if lead < 0 or tuple(x.shape[lead:]) != layer.shape:
                raise ValueError(
                    f"states[{n!r}]: got a {_check.describe(x)}, expected (*batch, "
                    f"{', '.join(map(str, layer.shape))})"
                )
            if batch is not None and x.shape[:lead] != batch:
                raise ValueError(
                    f"states[{n!r}]: got batch shape {tuple(x.shape[:lead])}, "
                    f"expected {tuple(batch)} as in the layers before it"
                )
            batch = x.shape[:lead]
        return tuple(batch)

    def held(self, clamp: Clamp, states: States) -> dict[str, Tensor | bool]:
        """Read a clamp: layer name -> True, or a mask in the shape of the state."""
        if isinstance(clamp, str):
            clamp = (clamp,)
        if not isinstance(clamp, Mapping):
            clamp = dict.fromkeys(clamp, True)
        held: dict[str, Tensor | bool] = {}
        for n, mask in clamp.items():
            if n not in self.layers:
                known = ", ".join(map(repr, self.layers))
                raise ValueError(f"clamp: no layer named {n!r}, expected one of {known}")
            if isinstance(mask, Tensor) and mask.dtype == torch.bool:
                held[n] = _expand_mask(n, mask, states[n])
            elif isinstance(mask, bool):
                held |= {n: True} if mask else {}
            else:
                raise TypeError(
                    f"clamp[{n!r}]: got a {_check.describe(mask)}, expected True or a bool mask"
                )
        return held


class _Walk:
    """The working state of one descent: every row of every layer, and which rows still move."""

    def __init__(self, ham: HAM, states: States, held: dict[str, Tensor | bool]):
        self.ham, self.x, self.held = ham, states, held
        first = next(iter(states.values()))
        n = len(first)
        self.active = torch.arange(n, device=first.device)
        self.taken = torch.zeros(n, dtype=torch.int64, device=first.device)
        self.converged = torch.zeros(n, dtype=torch.bool, device=first.device)
        self.seen: list[tuple[States, States]] = []

    def record(self) -> None:
        self.seen.append((self.x, self.ham._energies(self.x, (len(self.taken),))))

    def move(self, dt: float, tol: float | None, guard: str | None, *, last: bool) -> bool:
        """Let rows that have arrived rest and move the others; say whether anybody moved."""
        everybody = len(self.active) == len(self.taken)
        rows = self.x if everybody else {n: x[self.active] for n, x in self.x.items()}
        held = {n: m if m is True or everybody else m[self.active] for n, m in self.held.items()}
        currents = self.ham._currents(rows, self.ham._free(held))
        if tol is not None:
            still = self._rest(rows, currents, held, tol)
            if last or len(self.active) == 0:
                return False
            if len(self.active) < len(still):
                everybody = False
                rows, currents = ({n: x[still] for n, x in d.items()} for d in (rows, currents))
                held = {n: m if m is True else m[still] for n, m in held.items()}
        if guard is None:
            new = self.ham._euler(rows, currents, dt, held)
        else:
            new = self.ham._guarded(rows, currents, dt, held, guard)
        if not everybody:
            new = {n: x.index_copy(0, self.active, new[n]) for n, x in self.x.items()}
        self.x = new
        self.taken[self.active] += 1
        return True

    def _rest(self, rows: States, currents: States, held: Mapping, tol: float) -> Tensor:
        square = torch.zeros(len(self.active), device=self.active.device)
        for n, current in currents.items():
            slope = (rows[n] - current).detach()
            slope = _free_part(held.get(n), slope)
            square = square + synapses._widen(slope).flatten(1).square().sum(1)
        still = square.sqrt() > tol
        self.converged[self.active[~still]] = True
        self.active = self.active[still]
        return still

    def result(self, batch: tuple[int, ...]) -> Descent:
        """Look at the energy where everybody ended, and hand over."""
        parts = self.ham._energies(self.x, (len(self.taken),))
        energy = sum(parts.values())
        if not energy.isfinite().all():
            worst = [k for k, e in parts.items() if not e.isfinite().all()]
            raise FloatingPointError(
                f"energy of {', '.join(worst) or 'the whole'} is not finite after "
                f"{int(self.taken.max())} steps: is step_size too large, or the "
                "energy not bounded below?"
            )
        trajectory = None
        if self.seen:
            states, components = (_stack(batch, self.seen, i) for i in (0, 1))
            trajectory = Trajectory(states, sum(components.values()), components)
        return Descent(
            state={n: x.reshape(*batch, *x.shape[1:]) for n, x in self.x.items()},
            energy=energy.reshape(batch),
            steps_taken=self.taken.reshape(batch),
            converged=self.converged.reshape(batch),
            trajectory=trajectory,
        )


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


def _add_layer(layers: nn.ModuleDict, name: str, layer: NeuronLayer) -> None:
    if not isinstance(layer, NeuronLayer):
        raise TypeError(f"layers[{name!r}]: got {layer!r}, expected a NeuronLayer")
    try:
        layers[name] = layer
    except (KeyError, TypeError):
        raise ValueError(
            f"layers: got the name {name!r}, expected a string without a dot that is no "
            "method of a dict"
        ) from None


def _expand_mask(name: str, mask: Tensor, x: Tensor) -> Tensor:
    try:
        return mask.to(x.device).expand(x.shape)
    except RuntimeError:
        raise ValueError(
            f"clamp[{name!r}]: got shape {tuple(mask.shape)}, expected one that broadcasts to "
            f"the state's {tuple(x.shape)}"
        ) from None


def _flat(layers: nn.ModuleDict, batch_dims: int, states: States) -> States:
    """Join all batch dimensions into one."""
    return {n: x.reshape(-1, *x.shape[batch_dims:]) for n, x in states.items() if n in layers}


def _stack(batch: tuple[int, ...], seen: list, i: int) -> States:
    """Stack one kind of record over time, in the caller's batch shape."""
    stacked = {k: torch.stack([moment[i][k] for moment in seen]) for k in seen[0][i]}
    return {k: s.reshape(len(seen), *batch, *s.shape[2:]) for k, s in stacked.items()}


def _mix(held: Tensor | bool | None, old: Tensor, new: Tensor) -> Tensor:
    """Old where held, new where free."""
    if held is None:
        return new
    return old if held is True else torch.where(held, old, new)


def _free_part(held: Tensor | bool | None, x: Tensor) -> Tensor:
    """Zero where held."""
    return x if held is None else x.masked_fill(held, 0)


def _norm(tensors: list[Tensor]) -> float:
    return math.sqrt(sum(float(t.double().square().sum()) for t in tensors))


def _label(synapse: Callable) -> str:
    """Name a synapse by its class or function."""
    if isinstance(synapse, nn.Module):
        return type(synapse).__name__
    name = getattr(synapse, "__name__", "")
    return name if name.isidentifier() else "synapse"


def _detail(synapse: Callable) -> str:
    return synapse.summary() if isinstance(synapse, synapses.Synapse) else ""


def _text(lagrangian: Lagrangian) -> str:
    numbers = [p for p in lagrangian.extra_repr().split(", ") if not p.startswith("eps")]
    inside = ", ".join(p for p in numbers if p and p not in ("beta=1", "gamma=1"))
    name = type(lagrangian).__name__
    return f"{name}({inside})" if inside else name
