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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from amtutor import _check, _draw
from amtutor._threads import one_thread
from amtutor.descent import Descent, Film, Rows, Trajectory, go_down, watched_by
from amtutor.network import _ham_solvers as solvers
from amtutor.network import synapses
from amtutor.network.lagrangians import Lagrangian

__all__ = ["HAM", "Connection", "NeuronLayer"]

States = dict[str, Tensor]
Clamp = str | Iterable[str] | Mapping[str, "Tensor | bool"]
GUARDS = (None, "refuse", "halve")


class _Layers(Protocol):
    """What a HAM asks of its ``ModuleDict``, in which every module is a `NeuronLayer`."""

    def __getitem__(self, key: str, /) -> NeuronLayer: ...
    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...
    def __contains__(self, key: str, /) -> bool: ...
    def keys(self) -> Iterable[str]: ...
    def values(self) -> Iterable[NeuronLayer]: ...
    def items(self) -> Iterable[tuple[str, NeuronLayer]]: ...


class NeuronLayer(nn.Module):
    r"""Neurons with an internal state x, and with activation and energy from one Lagrangian.

    Args:
        lagrangian: a `Lagrangian`. shape: an int or a tuple, without the batch.
        tau: time constant > 0; in a step dt the layer goes dt / tau of its way.

    Raises:
        ValueError, TypeError: an argument has the wrong range or type.

    >>> from amtutor.network.lagrangians import Tanh
    >>> NeuronLayer(Tanh(), (2, 3)).energy(torch.zeros(5, 2, 3)).shape
    torch.Size([5])
    """

    def __init__(self, lagrangian: Lagrangian, shape: int | Sequence[int], tau: float = 1.0):
        super().__init__()
        if not isinstance(lagrangian, Lagrangian):
            got = _check.describe(lagrangian)
            raise TypeError(f"lagrangian: got a {got}, expected a Lagrangian such as Tanh()")
        self.shape = synapses._shape("shape", shape)
        if lagrangian.acts_on_last_dim and not self.shape:
            raise _check.fail("shape", self.shape, "at least one dimension to normalise over")
        self.lagrangian = lagrangian
        self.tau = float(_check.positive("tau", tau))

    def activation(self, x: Tensor) -> Tensor:
        r"""Activation :math:`\hat x = \nabla L(x)` (MM 3.3), (\*batch, \*shape)."""
        self._fits(x)
        return self.lagrangian.activation(x)

    def energy(self, x: Tensor) -> Tensor:
        r"""Energy :math:`\langle x, \hat x \rangle - L`, one value per batch element (MM 3.3)."""
        self._fits(x)
        return self.lagrangian.energy(x, event_dims=len(self.shape))

    def _fits(self, x: Tensor) -> None:
        lead = _check.floating("x", x).ndim - len(self.shape)
        if lead < 0 or tuple(x.shape[lead:]) != self.shape:
            got, want = _check.describe(x), ", ".join(map(str, self.shape))
            raise ValueError(f"x: got a {got}, expected shape (*batch, {want})")

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

    Attributes: ``layers`` by name; ``connections``, a list of `Connection`; ``synapses``, those of
    them that are modules, by the key of their (first) connection or by place.

    Raises:
        ValueError, TypeError: a name is unknown, a shape does not fit, or an item is neither a
            layer nor a synapse.

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
            got = _check.describe(layers)
            raise TypeError(f"layers: got a {got}, expected a dict of at least one NeuronLayer")
        modules = nn.ModuleDict()
        for name, layer in layers.items():
            _add_layer(modules, name, layer)
        self.layers = cast("_Layers", modules)
        self._names = tuple(layers)  # as `step` compiles: a ModuleDict is walked in few versions
        self.connections: list[Connection] = []
        if isinstance(connections, (str, bytes)) or not isinstance(connections, Iterable):
            got = _check.describe(connections)
            raise TypeError(f"connections: got a {got}, expected pairs (names, synapse)")
        for i, item in enumerate(connections):
            self._connect(i, item)
        self.synapses = _Synapses()
        for c in self.connections:  # one that is shared is stored once
            if isinstance(c.synapse, nn.Module) and c.synapse not in self.synapses.values():
                self.synapses[c.key] = c.synapse
        self._first = _first_weight(self.synapses)
        self._work_of_a_row = max(map(self._products, self.connections), default=0)

    # What it is made of

    def _connect(self, i: int, item) -> None:
        where = f"connections[{i}]"
        if not isinstance(item, tuple) or len(item) != 2 or not callable(item[1]):
            got = _check.shown(item)
            raise TypeError(f"{where}: got {got}, expected a pair (names, synapse)")
        names, synapse = item
        if not isinstance(names, (str, tuple, list)) or len(names) == 0:
            got = _check.describe(names)
            raise TypeError(f"{where}: got a {got}, expected the name of a layer or several")
        names = (names,) if isinstance(names, str) else tuple(names)
        for name in names:
            if name not in self._names:
                known = ", ".join(map(repr, self.layers))
                raise ValueError(
                    f"{where}: no layer named {_check.shown(name)}, expected one of {known}"
                )
        if hasattr(synapse, "check_shapes"):
            try:
                synapse.check_shapes(*(self.layers[n].shape for n in names))
            except ValueError as error:
                raise ValueError(f"{where}, layers {', '.join(names)}: {error}") from None
        key = f"{_label(synapse)}({', '.join(names)})"
        taken = sum(c.key == key or c.key.startswith(key + " #") for c in self.connections)
        key = f"{key} #{taken + 1}" if taken else key
        self.connections.append(Connection(names, synapse, key))

    def _products(self, c: Connection) -> int:
        """Multiply-adds of the largest product of a synapse for one row, or more than that."""
        shapes = [self.layers[n].shape for n in c.names]
        weights = 0
        if isinstance(c.synapse, nn.Module):
            weights = sum(p.numel() for p in c.synapse.parameters())
        each = [math.prod(shape[:-1]) * weights for shape in shapes]
        return max(*each, math.prod(map(math.prod, shapes)))

    def describe(self) -> dict:
        """Say what it is made of, as data for `amtutor.show.hypergraph`.

        >>> from amtutor.network.lagrangians import Tanh
        >>> HAM({"v": NeuronLayer(Tanh(beta=2.0), 4)}, []).describe()["layers"][0]["numbers"]
        {'beta': 2.0}
        """
        layers = [
            {
                "name": n,
                "label": type(v.lagrangian).__name__,
                "numbers": v.lagrangian.numbers(),
                "shape": v.shape,
                "tau": v.tau,
            }
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
        r"""Make a state for every layer, (\*batch, \*shape): zeros, or N(0, std^2).

        Dtype and device are those of the first parameter unless given.

        Raises:
            ValueError, TypeError: an argument has the wrong range or type.
        """
        batch = tuple(_check.count("batch", n, least=0) for n in batch)
        std = _check.non_negative("std", std)
        _check.generator("generator", generator)
        first = next(self.parameters(), torch.empty(0))
        dtype = first.dtype if dtype is None else dtype
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise _check.fail("dtype", dtype, "a floating-point dtype of torch")
        device = first.device if device is None else _check.device("device", device)
        shapes = {n: (*batch, *layer.shape) for n, layer in self.layers.items()}
        if not std:
            return {n: torch.zeros(s, dtype=dtype, device=device) for n, s in shapes.items()}
        draw = partial(_draw.normal, generator=generator, dtype=dtype, device=device)
        return {n: std * draw(s) for n, s in shapes.items()}

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
        return _sum(self.energies(states))

    def currents(self, states: States) -> States:
        r"""Input current :math:`I_\ell = -\sum_s \partial E_s / \partial \hat x_\ell` (MM 3.2).

        Each has the shape of its state.

        Raises:
            ValueError, TypeError: ``states`` is no dict of all layers' states with one batch shape.
        """
        self._batch(states)
        return self._currents(states, self._names)

    def gradient(self, states: States) -> States:
        r"""Gradient with respect to the activations, :math:`x_\ell - I_\ell` (MM 3.2)."""
        currents = self.currents(states)
        return {n: states[n] - currents[n] for n in self._names}

    def _activations(self, states: States) -> States:
        return {n: self.layers[n].activation(states[n]) for n in self._names}

    def _energies(self, states: States, batch: tuple[int, ...]) -> States:
        active = self._activations(states)
        out = {n: self.layers[n].energy(states[n]) for n in self._names}
        for c in self.connections:
            value = c.synapse(*(active[n] for n in c.names))
            if not isinstance(value, Tensor) or value.shape[: len(batch)] != torch.Size(batch):
                raise ValueError(
                    f"{c.key}: returned a {_check.describe(value)}, expected one energy for "
                    f"each element of batch shape {batch}"
                )
            out[c.key] = value.flatten(len(batch)).sum(-1) if value.ndim > len(batch) else value
        return out

    def _currents(self, states: States, wanted: tuple[str, ...]) -> States:
        active = self._activations(states)
        total: States = {}
        for c in self.connections:
            flags = tuple(n in wanted for n in c.names)
            if not any(flags):
                continue
            signals = synapses.currents(c.synapse, *(active[n] for n in c.names), wanted=flags)
            for n, signal in zip(c.names, signals, strict=True):
                if signal is not None:
                    total[n] = total[n] + signal if n in total else signal
        in_order = [n for n in self._names if n in wanted]
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

        Raises:
            ValueError, TypeError: an argument has the wrong range, type, shape or name.
        """
        batch, held = self._batch(states), self._held(clamp, states)
        step_size = _check.positive("step_size", step_size)
        _check.choice("guard", guard, GUARDS)
        if torch.compiler.is_compiling():
            return self._step(states, held, step_size, guard)
        with one_thread(self._work(batch)):
            return self._step(states, held, step_size, guard)

    def _step(self, states: States, held: Mapping, step_size, guard: str | None) -> States:
        free = self._free(held)
        if guard is None:
            new = self._euler(states, self._currents(states, free), step_size, held)
        else:
            rows = self._rows(states, held)
            new = self._moved(rows, self._currents(rows, free), step_size, guard)
        return {n: new[n].reshape(states[n].shape) if n in new else states[n] for n in self._names}

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
    ) -> Descent[States]:
        r"""Take many steps; differentiable through all of them when grad mode is on.

        Args:
            states, step_size, clamp, guard: as in `step`.
            steps: most steps any element may take, >= 0.
            tol: a batch element stops by itself when the norm of :math:`x - I` over all its free
                entries is <= tol, and costs nothing from then on.
            record: keep states, energies and components of every moment.
            callback: is called with (step, states) after every step; step 0 is the start.

        Returns:
            A `Descent` whose ``state`` is a dict like ``states``.

        Raises:
            ValueError, TypeError: an argument has the wrong range, type, shape or name.
            FloatingPointError: the final energy is not finite.
        """
        held = self.held(clamp, states)
        _check.choice("guard", guard, GUARDS)
        tol = None if tol is None else _check.non_negative("tol", tol)
        turns = [self._free(held)]
        return self._go(states, held, turns, steps, step_size, tol, guard, record, callback)

    def settle(
        self,
        states: States,
        *,
        steps: int,
        step_size: float = 1.0,
        clamp: Clamp = (),
        record: bool = False,
        callback: Callable[[int, States], object] | None = None,
    ) -> Descent[States]:
        r"""Go down the energy, one set of `floors` after the other (chapter 5).

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

        Raises:
            ValueError, TypeError: as `step`; also if a synapse connects a layer to itself.
            FloatingPointError: the final energy is not finite.
        """
        held = self.held(clamp, states)
        step_size = _check.positive("step_size", step_size)
        slowest = min(layer.tau for layer in self.layers.values())
        if step_size > slowest:
            raise _check.fail("step_size", step_size, f"at most the smallest tau, {slowest:g}")
        free = self._free(held)
        turns = [tuple(n for n in group if n in free) for group in reversed(self.floors())]
        return self._go(states, held, turns, steps, step_size, None, None, record, callback)

    def floors(self) -> list[list[str]]:
        """Part the layers into sets in which nobody talks to each other; two for any tower.

        Raises:
            ValueError: a synapse connects a layer to itself.
        """
        return solvers.floors(self._names, [(c.key, c.names) for c in self.connections])

    def fixed_point(
        self,
        states: States,
        *,
        steps: int,
        step_size: float,
        clamp: Clamp = (),
        tol: float = 1e-6,
        adjoint_steps: int | None = None,
    ) -> Descent[States]:
        r"""Descend without a graph and differentiate the end point implicitly: O(1) memory.

        Gradients reach parameters and clamped entries, the start has none (see
        `_ham_solvers.at_rest`). They are exact for a state at rest, so look at ``converged``: where
        it is False the state still moved, and they are wrong by as much. No second derivative.

        Args:
            states, steps, step_size, clamp, tol: as in `descend`.
            adjoint_steps: most iterations of the backward pass; as many as ``steps`` unless given.

        Raises:
            ValueError, TypeError, FloatingPointError: as `descend`.
        """
        held = self.held(clamp, states)
        if adjoint_steps is None:
            adjoint_steps = _check.count("steps", steps, least=0)
        adjoint_steps = _check.count("adjoint_steps", adjoint_steps, least=0)
        plain = {n: x.detach() for n, x in states.items()}
        with torch.no_grad():
            rest = self.descend(plain, steps=steps, step_size=step_size, clamp=clamp, tol=tol)
        once = partial(self.step, step_size=step_size, clamp=clamp)
        end = solvers.at_rest(once, states, rest.state, held, steps=adjoint_steps, tol=tol)
        return Descent(end, self.energy(end), rest.steps_taken, rest.converged)

    # Going down, inside: rows are {layer: (n, *shape)} and {("held", layer): mask}

    def _go(
        self, states, held, turns, steps, step_size, tol, guard, record, callback
    ) -> Descent[States]:
        """Let the layers of ``turns`` move in turn; ``steps`` times each of them."""
        batch = self._batch(states)
        steps = _check.count("steps", steps, least=0)
        step_size = _check.positive("step_size", step_size)
        film = Film() if _check.boolean("record", record) else None
        watchers = watched_by(film, callback)

        def watch(t: int, rows: Rows) -> None:
            for look in watchers:
                look(t, self._whole(rows, states))

        with one_thread(self._work(batch)):
            rows, taken, arrived = go_down(
                self._rows(states, held),
                steps=steps * len(turns),
                tol=tol,
                slope=lambda rows, t, who: self._currents(rows, turns[t % len(turns)]),
                move=lambda rows, currents, t, who: self._moved(rows, currents, step_size, guard),
                size=lambda rows, currents: solvers.unrest(rows, currents, _masks(rows)),
                watch=watch,
            )
        taken = taken.reshape(batch) // len(turns)
        state = {n: rows[n].reshape(states[n].shape) for n in self._names}
        return self._ended(state, batch, taken, arrived.reshape(batch), film)

    def _moved(self, rows: Rows, currents: States, step_size, guard: str | None) -> States:
        """New states of the layers that have currents."""
        step = partial(self._euler, rows, currents, held=_masks(rows))
        if guard is None:
            return step(step_size)
        states = {n: rows[n] for n in self._names}
        energies = partial(self._energies, batch=(len(states[self._names[0]]),))
        return solvers.guarded(step, energies, states, step_size, halve=guard == "halve")

    def _euler(self, states: Mapping, currents: States, step_size, held: Mapping) -> States:
        shares = {n: step_size / self.layers[n].tau for n in currents}
        return solvers.euler(states, currents, shares, held)

    def _ended(self, state: States, batch, taken, arrived, film: Film | None) -> Descent[States]:
        """Look at the energy where everybody ended, and hand over."""
        parts = self._energies(state, batch)
        energy = _sum(parts)
        if not energy.isfinite().all():
            worst = [k for k, e in parts.items() if not e.isfinite().all()]
            raise FloatingPointError(
                f"energy of {', '.join(worst) or 'the whole'} is not finite after "
                f"{int(taken.max())} steps: expected finite states at the start, a smaller "
                "step_size, or an energy that is bounded below"
            )
        trajectory = None
        if film is not None:
            moments = [self._energies(s, batch) for s in film.states]
            components = {k: torch.stack([m[k] for m in moments]) for k in parts}
            states = {n: torch.stack([s[n] for s in film.states]) for n in self._names}
            trajectory = Trajectory(states, _sum(components), components)
        return Descent(state, energy, taken, arrived, trajectory)

    def _rows(self, states: States, held: Mapping) -> Rows:
        """Join all batch dimensions into one; copies where a descent may write over them."""
        rows: Rows = {}
        for n in self._names:
            x = states[n].reshape(-1, *self.layers[n].shape)
            rows[n] = x if x.requires_grad else x.clone()
            if isinstance(held.get(n), Tensor):
                rows["held", n] = held[n].reshape(x.shape)
        return rows

    def _whole(self, rows: Rows, states: States) -> States:
        """States in the caller's shape, which a descent does not write over."""
        own = {n: rows[n].reshape(states[n].shape) for n in self._names}
        return {n: x if x.requires_grad else x.clone() for n, x in own.items()}

    def _work(self, batch: Sequence[int]) -> int:
        """Multiply-adds of the largest product of a step, or more than that."""
        return math.prod(batch) * self._work_of_a_row

    # Checks

    def _free(self, held: Mapping) -> tuple[str, ...]:
        return tuple(n for n in self._names if held.get(n) is not True)

    def _batch(self, states: States) -> tuple[int, ...]:
        """Check the states and read off their batch shape."""
        names = self._names
        known = isinstance(states, Mapping) and len(states) == len(names)
        if not known or not all(n in states for n in names):
            got = sorted(map(str, states)) if isinstance(states, Mapping) else type(states).__name__
            raise ValueError(f"states: got {got}, expected a dict with keys {sorted(names)}")
        batch: tuple[int, ...] | None = None
        weight = self._weight()
        for n in names:
            x, shape = _check.floating(f"states[{n!r}]", states[n]), self.layers[n].shape
            if weight is not None:
                _check.same_kind(f"states[{n!r}]", x, weight)
            lead = x.ndim - len(shape)
            if lead < 0 or tuple(x.shape[lead:]) != shape:
                raise ValueError(
                    f"states[{n!r}]: got a {_check.describe(x)}, expected (*batch, "
                    f"{', '.join(map(str, shape))})"
                )
            if batch is not None and tuple(x.shape[:lead]) != batch:
                raise ValueError(
                    f"states[{n!r}]: got batch shape {tuple(x.shape[:lead])}, "
                    f"expected {batch} as in the layers before it"
                )
            batch = tuple(x.shape[:lead])
        assert batch is not None  # a HAM has at least one layer
        return batch

    def _weight(self) -> Tensor | None:
        """The first parameter of the synapses, found without walking through modules."""
        if self._first is None:
            return None
        module, name = self._first
        return getattr(module, name)

    def held(self, clamp: Clamp, states: States) -> dict[str, Tensor | bool]:
        """Read a clamp, the only place that does: name -> True, or a mask shaped as its state.

        Args:
            clamp: a name, several names, or a mapping name -> True, False or a bool mask.
            states: what the masks broadcast to.

        Raises:
            ValueError, TypeError: a name is unknown, or a mask is none or does not fit.
        """
        self._batch(states)
        return self._held(clamp, states)

    def _held(self, clamp: Clamp, states: States) -> dict[str, Tensor | bool]:
        if isinstance(clamp, str):
            clamp = (clamp,)
        if not isinstance(clamp, Mapping):
            if not isinstance(clamp, Iterable) or isinstance(clamp, Tensor):
                got = _check.describe(clamp)
                raise TypeError(f"clamp: got a {got}, expected names of layers, or a dict of masks")
            clamp = dict.fromkeys(clamp, True)
        held: dict[str, Tensor | bool] = {}
        for n, mask in clamp.items():
            if n not in self._names:
                known = ", ".join(map(repr, self._names))
                raise ValueError(
                    f"clamp: no layer named {_check.shown(n)}, expected one of {known}"
                )
            if isinstance(mask, bool):
                held |= {n: True} if mask else {}
            elif isinstance(mask, Tensor):
                held[n] = _check.mask(f"clamp[{n!r}]", mask, states[n])
            else:
                got = _check.describe(mask)
                raise TypeError(f"clamp[{n!r}]: got a {got}, expected True or a bool mask")
        return held


class _Synapses(nn.ModuleDict):
    """Synapses by the key of their connection, or by place."""

    def __getitem__(self, key: str | int) -> nn.Module:
        return list(self.values())[key] if isinstance(key, int) else super().__getitem__(key)


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


def _sum(parts: States) -> Tensor:
    """Add up the parts of an energy, of which there is at least one."""
    first, *others = parts.values()
    return sum(others, first)


def _masks(rows: Rows) -> dict[str, Tensor]:
    return {k[1]: v for k, v in rows.items() if isinstance(k, tuple)}


def _first_weight(synapses: nn.Module) -> tuple[nn.Module, str] | None:
    """The place of the first parameter: its module and its name there."""
    for module in synapses.modules():
        for name, value in module.named_parameters(recurse=False):
            if value is not None:
                return module, name
    return None


def _label(synapse: Callable) -> str:
    """Name a synapse by its class or function."""
    if isinstance(synapse, nn.Module):
        return type(synapse).__name__
    name = getattr(synapse, "__name__", "")
    return name if name.isidentifier() else "synapse"


def _detail(synapse: Callable) -> str:
    return synapse.summary() if isinstance(synapse, synapses.Synapse) else ""
