"""Laws of a HAM: the parts add up, the step is local, the energy never rises."""

from __future__ import annotations

import math
import random
from types import MappingProxyType

import pytest
import torch
from torch.func import functional_call, jvp, vmap
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from amtutor.network import lagrangians as lag
from amtutor.network import synapses as syn
from amtutor.network.ham import HAM, NeuronLayer

DOUBLE = torch.float64


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def close(a, b, rtol=1e-10):
    assert a.shape == b.shape
    assert (a - b).abs().max() <= rtol * b.abs().max().clamp(min=1e-3)


# Random hypergraphs

VECTOR = [
    lag.Identity,
    lag.ReLU,
    lambda: lag.RectifiedPower(3),
    lambda: lag.Exponential(beta=0.5),
    lambda: lag.Tanh(beta=1.5),
    lag.Sigmoid,
    lambda: lag.Softmax(beta=2.0),
    lambda: lag.LayerNorm(gamma=1.2, eps=1e-2),
    lambda: lag.SphericalNorm(eps=1e-2),
]


def alignment(*xs):
    """A user's own synapse for any number of layers of any shape."""
    total = 0.0
    for i, x in enumerate(xs):
        total = total + (0.3 + 0.2 * i) * x.sin().flatten(1).sum(1)
    return -total.tanh() + 0.1 * sum(x.square().flatten(1).sum(1) for x in xs)


def random_synapse(pick: random.Random, layers: dict, seed: int):
    """Draw a synapse that fits, and the names of the layers it connects."""
    names = list(layers)
    a, b, c = (pick.choice(names) for _ in range(3))
    shape = {n: layers[n].shape for n in names}
    images = [n for n in names if len(shape[n]) == 3]
    tokens = [n for n in names if len(shape[n]) == 2]
    kind = pick.choice(["pair", "triple", "bias", "hopfield", "attention", "image", "own"])
    g = rng(seed)
    if kind == "attention" and tokens:
        t = pick.choice(tokens)
        return (t,), syn.Attention(shape[t][-1], n_heads=2, head_dim=3, generator=g)
    if kind == "image" and images:
        i = pick.choice(images)
        ch, h, w = shape[i]
        key = f"up{seed}"
        if pick.random() < 0.5:
            layers[key] = NeuronLayer(lag.ReLU(), (2, h - 1, w - 1), pick.uniform(0.5, 2))
            return (i, key), syn.Conv2d(ch, 2, 2, generator=g)
        layers[key] = NeuronLayer(lag.Tanh(), (ch, h // 2, w // 2), pick.uniform(0.5, 2))
        return (i, key), syn.Pool2d(2, mode=pick.choice(["average", "max"]))
    if kind == "triple":
        return (a, b, c), syn.Dense(shape[a], shape[b], shape[c], generator=g)
    if kind == "bias":
        bias = torch.randn(shape[a], generator=g)
        return a, syn.Bias(*shape[a], bias=bias)
    if kind == "hopfield":
        own = lag.RectifiedPower(2) if pick.random() < 0.5 else lag.Softmax()
        return a, syn.Hopfield(shape[a], 4, lagrangian=own, generator=g)
    if kind == "own":
        return tuple(pick.sample(names, pick.randint(1, len(names)))), alignment
    return (a, b), syn.Dense(shape[a], shape[b], generator=g)


def random_ham(seed: int):
    """Draw a HAM, states for three and a clamp."""
    pick = random.Random(seed)
    layers = {}
    for i in range(pick.randint(1, 4)):
        shape = pick.choice([(5,), (3, 4), (2, 4, 4), (6,)])
        layers[f"x{i}"] = NeuronLayer(pick.choice(VECTOR)(), shape, math.exp(pick.uniform(-1, 1)))
    connections = [random_synapse(pick, layers, seed * 10 + i) for i in range(pick.randint(1, 5))]
    dtype = pick.choice([torch.float32, DOUBLE])
    ham = HAM(layers, connections).to(dtype)
    states = ham.states(3, std=1.0, generator=rng(seed), dtype=dtype)
    clamp = {}
    for n, x in states.items():
        kind = pick.choice(["free", "free", "layer", "mask"])
        if kind == "layer" and len(clamp) < len(layers) - 1:
            clamp[n] = True
        elif kind == "mask":
            unit = layers[n].lagrangian.acts_on_last_dim  # held as a whole: see the test below
            shape = (*x.shape[:-1], 1) if unit else x.shape
            clamp[n] = (torch.rand(shape, generator=rng(seed + 1)) < 0.5).expand(x.shape)
    return ham, states, clamp


SEEDS = range(240)
in_groups = pytest.mark.parametrize("group", range(8))


def seeds_of(group):
    return SEEDS[group::8]


def test_random_hypergraphs_cover_what_they_should():
    seen, arities, dtypes, clamps = set(), set(), set(), set()
    for seed in SEEDS:
        ham, states, clamp = random_ham(seed)
        seen |= {type(layer.lagrangian).__name__ for layer in ham.layers.values()}
        seen |= {c.key.split("(")[0] for c in ham.connections}
        arities |= {len(c.names) for c in ham.connections}
        dtypes.add(states["x0"].dtype)
        clamps |= {type(m).__name__ for m in clamp.values()}
    assert len(SEEDS) >= 200
    assert set(lag.__all__) - {"Lagrangian"} <= seen
    assert {"Dense", "Bias", "Conv2d", "Pool2d", "Attention", "Hopfield", "alignment"} <= seen
    assert {1, 2, 3, 4} <= arities and len(dtypes) == 2 and clamps == {"bool", "Tensor"}


@in_groups
def test_energy_never_rises(group):
    """MM 3.5 with finite steps: ten small steps of 240 random hypergraphs."""
    fell = 0
    for seed in seeds_of(group):
        ham, x, clamp = random_ham(seed)
        with torch.no_grad():
            before = first = ham.energy(x)
            size = sum(e.abs() for e in ham.energies(x).values())
            for _ in range(10):
                x = ham.step(x, step_size=1e-3, clamp=clamp)
                after = ham.energy(x)
                slack = 1e-12 if after.dtype == DOUBLE else 2e-6
                assert (after <= before + slack * size).all(), f"seed {seed}"
                before = after
            fell += int((before < first).all())
    assert fell >= 25  # a test that everything stands still would be no test


@in_groups
def test_rate_of_fall_is_the_quadratic_form(group):
    r"""MM 3.5 exactly: dE/dt = - sum tau xdot^T Hessian xdot, by automatic differentiation."""
    for seed in seeds_of(group)[::3]:
        ham, x, _ = random_ham(seed)
        ham, x = ham.double(), {n: v.double() for n, v in x.items()}
        slope = ham.gradient(x)
        speed = {n: -slope[n] / ham.layers[n].tau for n in x}
        _, rate = jvp(ham.energy, (x,), (speed,))
        expected = 0.0
        for n, layer in ham.layers.items():
            _, bent = jvp(layer.activation, (x[n],), (speed[n],))  # Hessian times velocity
            form = layer.tau * (speed[n] * bent).flatten(1).sum(1)
            assert (form >= -1e-10).all()
            expected = expected - form
        close(rate, expected, 1e-9)


@in_groups
def test_currents_equal_autograd(group):
    for seed in seeds_of(group)[::2]:
        ham, x, _ = random_ham(seed)
        ham, x = ham.double(), {n: v.double() for n, v in x.items()}
        active = {n: v.requires_grad_() for n, v in ham.activations(x).items()}
        total = sum(c.synapse(*(active[n] for n in c.names)).sum() for c in ham.connections)
        slopes = torch.autograd.grad(
            total, list(active.values()), allow_unused=True, materialize_grads=True
        )
        currents = ham.currents(x)
        assert list(currents) == list(active)
        for current, slope in zip(currents.values(), slopes, strict=True):
            close(current, -slope)


@in_groups
def test_batch_equals_loop(group):
    for seed in seeds_of(group)[::2]:
        ham, x, clamp = random_ham(seed)
        ham, x = ham.double(), {n: v.double() for n, v in x.items()}
        with torch.no_grad():
            parts, new = ham.energies(x), ham.step(x, step_size=0.05, clamp=clamp)
            for b in range(3):
                own = {n: m if m is True else m[b : b + 1] for n, m in clamp.items()}
                one = {n: v[b : b + 1] for n, v in x.items()}
                for key, value in ham.energies(one).items():
                    close(value[0], parts[key][b], 1e-12)
                for n, v in ham.step(one, step_size=0.05, clamp=own).items():
                    close(v[0], new[n][b], 1e-12)


@in_groups
def test_parts_add_up_and_clamps_hold(group):
    for seed in seeds_of(group):
        ham, x, clamp = random_ham(seed)
        with torch.no_grad():
            parts, new = ham.energies(x), ham.step(x, step_size=0.1, clamp=clamp)
            assert list(parts) == [*ham.layers, *(c.key for c in ham.connections)]
            assert torch.equal(sum(parts.values()), ham.energy(x))
            free = ham.step(x, step_size=0.1)
        for n, mask in clamp.items():
            held = torch.ones_like(x[n], dtype=torch.bool) if mask is True else mask
            assert torch.equal(new[n][held], x[n][held])
            assert torch.equal(new[n][~held], free[n][~held])


def test_half_a_softmax_cannot_be_held():
    """Holding entries of a layer whose Hessian is not diagonal voids MM 3.5.

    With P the projection on the free entries the rate is -g^T H P g, which has a sign only if H
    and P commute. Two neurons, bias (4, 1), state (0, 0): x_1 held, x_2 free and pulled up by its
    own current 1, which takes activation from neuron 1 that the bias wants more.
    """
    bias = torch.tensor([4.0, 1.0], dtype=DOUBLE)
    ham = HAM({"x": NeuronLayer(lag.Softmax(), 2)}, [("x", syn.Bias(2, bias=bias))])
    x = ham.states(dtype=DOUBLE)
    half = {"x": torch.tensor([True, False])}  # the rate: 0.25 * (4 - 1) * 1
    assert (
        ham.energy(ham.step(x, step_size=1e-3, clamp=half)) > ham.energy(x) + 1e-4
    )  # rate 0.25 * (4 - 1) * 1
    assert ham.energy(ham.step(x, step_size=1e-3)) < ham.energy(x)
    safe = ham.step(x, step_size=1e-3, clamp=half, guard="refuse")
    assert torch.equal(safe["x"], x["x"])


# A model to look at closely


def tiny_brain(beta=1.0, *, d=6, k=4, dtype=DOUBLE, tau=(1.0, 0.5), memory=None, seed=0):
    weight = torch.randn(k, d, generator=rng(seed), dtype=DOUBLE).to(dtype)
    return HAM(
        {
            "v": NeuronLayer(lag.Tanh(beta=beta), d, tau[0]),
            "m": NeuronLayer(memory or lag.Softmax(beta=2.0), k, tau[1]),
        },
        [(("m", "v"), syn.Dense(k, d, weight=weight))],
    ).to(dtype)


def test_tiny_brain_is_the_papers():
    """MPS 12-16: energies, currents and one step written out by hand."""
    ham = tiny_brain(beta=1.3)
    w = ham.synapses[0].weight.detach()
    x = ham.states(3, std=1.0, generator=rng(1))
    v, m = x["v"], x["m"]
    vh, mh = torch.tanh(1.3 * v), torch.softmax(2 * m, -1)
    parts = ham.energies(x)
    close(parts["v"].detach(), (v * vh).sum(-1) - torch.log(torch.cosh(1.3 * v)).sum(-1) / 1.3)
    close(parts["m"].detach(), (m * mh).sum(-1) - torch.logsumexp(2 * m, -1) / 2)
    close(parts["Dense(m, v)"].detach(), -torch.einsum("bm,mv,bv->b", mh, w, vh))
    new = ham.step(x, step_size=0.1)
    close(new["v"].detach(), v + 0.1 / 1.0 * (mh @ w - v))
    close(new["m"].detach(), m + 0.1 / 0.5 * (vh @ w.T - m))
    close(ham.gradient(x)["v"].detach(), v - mh @ w)


def test_state_gradient_of_the_total_energy():
    """With respect to the state: Hessian times (x - I); so the energy is flat where x = I."""
    ham = tiny_brain()
    x = {n: v.requires_grad_() for n, v in ham.states(2, std=1.0, generator=rng(1)).items()}
    slopes = torch.autograd.grad(ham.energy(x).sum(), list(x.values()))
    for (n, v), slope in zip(x.items(), slopes, strict=True):
        _, bent = jvp(ham.layers[n].activation, (v.detach(),), (ham.gradient(x)[n].detach(),))
        close(slope, bent)


def test_neurons_alone_decay_exponentially():
    """MM 3.4: without input the state shrinks by (1 - dt / tau) a step."""
    ham = HAM({"x": NeuronLayer(lag.Tanh(), 5, tau=2.0)}, [])
    x = ham.states(std=1.0, generator=rng())
    close(ham.step(x, step_size=0.5)["x"], 0.75 * x["x"], 1e-6)


def test_many_batch_dimensions_and_none():
    ham = tiny_brain()
    x = ham.states(2, 3, std=1.0, generator=rng())
    one = {n: v[1, 2] for n, v in x.items()}
    assert ham.energy(x).shape == (2, 3) and ham.energy(one).shape == ()
    close(ham.energy(x)[1, 2], ham.energy(one), 1e-12)
    rest = ham.descend(x, steps=5, step_size=0.1, record=True, tol=1e-9)
    assert rest.trajectory.energies.shape == (6, 2, 3)
    assert rest.trajectory.states["v"].shape == (6, 2, 3, 6)
    alone = ham.descend(one, steps=5, step_size=0.1)
    close(rest.state["v"][1, 2], alone.state["v"], 1e-12)
    assert alone.energy.shape == alone.steps_taken.shape == ()


def test_states_follow_dtype_std_and_generator():
    ham = tiny_brain()
    assert ham.states(2)["v"].dtype == DOUBLE and ham.states()["v"].shape == (6,)
    assert float(ham.states(2)["v"].abs().sum()) == 0
    assert ham.float().states(2)["v"].dtype == torch.float32
    a, b = (ham.states(4, std=2.0, generator=rng(5))["m"] for _ in range(2))
    assert torch.equal(a, b)


# Descent


def test_descend_equals_a_loop_of_steps():
    ham = tiny_brain()
    x = ham.states(3, std=1.0, generator=rng(2))
    rest = ham.descend(x, steps=20, step_size=0.1, clamp={"v": torch.arange(6) < 2}, record=True)
    for t in range(20):
        close(rest.trajectory.states["v"][t], x["v"], 1e-12)
        x = ham.step(x, step_size=0.1, clamp={"v": torch.arange(6) < 2})
    close(rest.state["m"], x["m"], 1e-12)
    close(rest.energy, ham.energy(x), 1e-12)
    assert rest.steps_taken.tolist() == [20] * 3 and not rest.converged.any()
    assert (rest.trajectory.energies.diff(dim=0) <= 1e-12).all()
    total = sum(rest.trajectory.components.values())
    close(rest.trajectory.energies, total, 1e-12)


def test_rows_stop_by_themselves_and_alone_means_the_same():
    ham = tiny_brain(beta=0.5)
    x = ham.states(4, std=2.0, generator=rng(2))
    x = {n: torch.cat([v, torch.zeros_like(v[:1])]) for n, v in x.items()}
    x["m"][-1] = 0.0
    with torch.no_grad():
        rest = ham.descend(x, steps=500, step_size=0.2, tol=1e-4)
        assert rest.converged.all() and len(set(rest.steps_taken.tolist())) > 1
        for b in range(5):
            one = ham.descend({n: v[b] for n, v in x.items()}, steps=500, step_size=0.2, tol=1e-4)
            assert int(one.steps_taken) == int(rest.steps_taken[b])
            close(one.state["v"], rest.state["v"][b], 1e-12)
        slope = ham.gradient(rest.state)
        assert (sum(s.square().sum(-1) for s in slope.values()).sqrt() <= 1e-4).all()


def test_zero_steps_and_arrived_at_the_last_step():
    ham = tiny_brain(beta=0.5)
    x = ham.states(2, std=1.0, generator=rng())
    rest = ham.descend(x, steps=0, step_size=0.1)
    assert torch.equal(rest.state["v"], x["v"])
    need = int(ham.descend(x, steps=500, step_size=0.2, tol=1e-3).steps_taken.max())
    assert ham.descend(x, steps=need, step_size=0.2, tol=1e-3).converged.all()
    assert not ham.descend(x, steps=need - 1, step_size=0.2, tol=1e-3).converged.all()


def stiff():
    """A memory layer so sharp that dt = 1 overshoots."""
    return tiny_brain(beta=8.0, memory=lag.RectifiedPower(4), seed=3)


@pytest.mark.parametrize("guard", [None, "refuse", "halve"])
@pytest.mark.parametrize("held", [False, True])
def test_what_belongs_to_a_row_stays_with_it_when_others_rest(guard, held):
    """Rows differ in what is held of them and in how far they dare to step, and the first rest."""
    ham, rows = stiff(), 8
    x = ham.states(rows, std=1.0, generator=rng(1))
    mask = torch.rand(rows, 6, generator=rng(5)) < 0.4
    size = 0.05 if guard is None else 0.45
    how = {"steps": 120, "step_size": size, "tol": 0.05, "guard": guard}
    hold = (lambda i: {"clamp": {"v": mask[i]}}) if held else (lambda i: {})
    with torch.no_grad():
        done = ham.descend(x, steps=400, step_size=0.05, **hold(slice(None))).state
        x = {n: torch.cat([done[n][:3], v[3:]]) for n, v in x.items()}
        whole = ham.descend(x, **how, **hold(slice(None)))
        assert whole.steps_taken[:3].max() == 0 < whole.steps_taken[3:].min()
        for b in range(rows):
            one = ham.descend({n: v[b] for n, v in x.items()}, **how, **hold(b))
            assert one.steps_taken == whole.steps_taken[b]
            assert one.converged == whole.converged[b]
            close(one.energy, whole.energy[b], 1e-10)
            for n in x:
                close(one.state[n], whole.state[n][b], 1e-10)
    assert not held or torch.equal(whole.state["v"][mask], x["v"][mask])


def test_each_row_halves_its_own_step():
    ham, x = stiff(), stiff().states(16, std=1.0, generator=rng(1))
    with torch.no_grad():
        bad = ham.energy(ham.step(x, step_size=0.45)) > ham.energy(x)
        assert bad.any() and not bad.all()
        new = ham.step(x, step_size=0.45, guard="halve")
        plain = ham.step(x, step_size=0.45)
        for n in x:
            close(new[n][~bad], plain[n][~bad], 1e-12)
            assert not torch.allclose(new[n][bad], plain[n][bad])


def test_callback_sees_what_record_keeps_and_cannot_spoil_it():
    ham = tiny_brain()
    x = {n: v.reshape(2, 2, -1) for n, v in ham.states(4, std=1.0, generator=rng(3)).items()}
    for go in (ham.descend, ham.settle):
        seen = []

        def look(step, states, seen=seen):
            seen.append((step, {n: v.clone() for n, v in states.items()}))
            for v in states.values():
                v.fill_(torch.nan)

        how = {"steps": 6, "step_size": 0.5}
        with torch.no_grad():
            run = go(x, **how, record=True, callback=look)
            alone = go(x, **how)
        moments = len(run.trajectory.energies)
        assert [t for t, _ in seen] == list(range(moments)) and moments in (7, 13)
        for n in x:
            assert torch.equal(torch.stack([s[n] for _, s in seen]), run.trajectory.states[n])
            assert torch.equal(alone.state[n], run.state[n])
        assert run.steps_taken.tolist() == [[6, 6], [6, 6]]


@pytest.mark.parametrize("guard", ["refuse", "halve"])
def test_guard_never_lets_the_energy_rise(guard):
    ham = stiff()
    x = ham.states(16, std=1.0, generator=rng(1))
    with torch.no_grad():
        bare = ham.descend(x, steps=30, step_size=0.45, record=True).trajectory.energies.diff(dim=0)
        safe = ham.descend(
            x, steps=30, step_size=0.45, guard=guard, record=True
        ).trajectory.energies
        assert (bare > 1e-6).any()  # without it the energy does rise
        assert (safe.diff(dim=0) <= 1e-10 * safe.abs().max()).all()
        once = ham.step(x, step_size=0.45, guard=guard)
        close(ham.energy(once), safe[1], 1e-12)


def test_halving_gets_further_than_refusing():
    ham, x = stiff(), stiff().states(16, std=1.0, generator=rng(1))
    with torch.no_grad():
        refuse, halve = (
            ham.descend(x, steps=30, step_size=0.45, guard=g).energy for g in ("refuse", "halve")
        )
    assert halve.mean() < refuse.mean()


def test_guard_changes_nothing_where_steps_are_small():
    ham = tiny_brain()
    x = ham.states(3, std=1.0, generator=rng(1))
    for guard in ("refuse", "halve"):
        for n, v in ham.step(x, step_size=0.01, guard=guard).items():
            close(v, ham.step(x, step_size=0.01)[n], 1e-13)


def test_unbounded_energy_is_reported():
    """Identity neurons and a strong self-connection: no lower bound (MM 3.3's 'any synapse')."""
    ham = HAM(
        {"x": NeuronLayer(lag.Identity(), 3)}, [(("x", "x"), syn.Dense(3, 3, weight=torch.eye(3)))]
    )
    x = ham.states(2, std=1.0, generator=rng())
    fall = ham.descend(x, steps=50, step_size=0.1, record=True)
    assert (fall.trajectory.energies.diff(dim=0) < 0).all()  # it falls, and will never stop
    assert (fall.energy < -1e3).all()
    with pytest.raises(FloatingPointError, match=r"energy of x, Dense\(x, x\) is not finite after"):
        ham.descend(x, steps=3000, step_size=0.1)


# Gradients through the descent


def end_loss(rest):
    return rest.state["v"].square().sum() + rest.state["m"].sin().sum() + rest.energy.sum()


def test_unrolled_gradient_by_finite_difference():
    ham = tiny_brain()
    x = ham.states(2, std=1.0, generator=rng(4))
    w = ham.synapses[0].weight

    def loss():
        return end_loss(ham.descend(x, steps=15, step_size=0.2, clamp={"v": torch.arange(6) < 2}))

    (slope,) = torch.autograd.grad(loss(), w)
    with torch.no_grad():
        for i, j in ((0, 0), (1, 3), (3, 5)):
            h, old = 1e-6, float(w[i, j])
            w[i, j] = old + h
            up = float(loss())
            w[i, j] = old - h
            down = float(loss())
            w[i, j] = old
            assert abs(float(slope[i, j]) - (up - down) / (2 * h)) < 1e-6


@pytest.mark.parametrize("clamped", ["nothing", "layer", "mask"])
def test_implicit_gradient_equals_unrolled(clamped):
    ham = tiny_brain(beta=0.8)
    x = ham.states(3, std=1.0, generator=rng(4))
    clamp = {"nothing": {}, "layer": {"v": True}, "mask": {"v": torch.arange(6) < 3}}[clamped]
    leaf = x["v"].requires_grad_()
    inputs = [ham.synapses[0].weight, leaf]
    settings = {"steps": 800, "step_size": 0.3, "clamp": clamp}
    unrolled = torch.autograd.grad(end_loss(ham.descend(x, **settings)), inputs)
    rest = ham.fixed_point(x, tol=1e-12, **settings)
    assert rest.converged.all()
    implicit = torch.autograd.grad(
        end_loss(rest), inputs, allow_unused=True, materialize_grads=True
    )
    close(implicit[0], unrolled[0], 1e-6)
    if clamped != "nothing":
        close(implicit[1], unrolled[1], 1e-6)


def saved_bytes(run):
    """Bytes that autograd keeps for the backward pass, parameters not counted."""
    kept = {}

    def pack(t):
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        run()
    return sum(kept.values())


class Float64(TorchDispatchMode):
    """Some devices have no float64: here its appearance is an error."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        found = [t for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        assert all(t.dtype != torch.float64 for t in found), function
        return out


def test_float32_stays_float32_on_the_whole_way():
    ham = tiny_brain(dtype=torch.float32)
    x = ham.states(3, std=1.0, generator=rng(4))
    with Float64():
        how = {"steps": 40, "step_size": 0.3, "tol": 1e-4}
        ham.descend(x, **how, guard="halve", record=True)
        ham.settle(x, steps=3, step_size=0.5)
        end_loss(ham.fixed_point(x, **how)).backward()
    assert ham.synapses[0].weight.grad.abs().max() > 0


def test_any_mapping_is_a_clamp_for_everything_that_takes_one():
    ham = tiny_brain()
    x = ham.states(3, std=1.0, generator=rng(4))
    half = torch.arange(6) < 3
    clamp = MappingProxyType({"v": half, "m": False})
    for go in (
        lambda: ham.step(x, step_size=0.1, clamp=clamp),
        lambda: ham.descend(x, steps=2, step_size=0.1, clamp=clamp).state,
        lambda: ham.settle(x, steps=2, step_size=0.5, clamp=clamp).state,
        lambda: ham.fixed_point(x, steps=2, step_size=0.1, clamp=clamp).state,
    ):
        new = go()
        assert torch.equal(new["v"][:, half], x["v"][:, half])
        assert not torch.isclose(new["v"][:, ~half], x["v"][:, ~half]).any()
        assert not torch.isclose(new["m"], x["m"]).any()


def test_small_work_is_done_on_one_thread(monkeypatch):
    before, seen = torch.get_num_threads(), []
    ham = tiny_brain()
    plain = type(ham.layers["v"].lagrangian).slope

    def slope(self, x):
        seen.append(torch.get_num_threads())
        return plain(self, x)

    monkeypatch.setattr(lag.Tanh, "slope", slope)
    x = ham.states(3, std=1.0, generator=rng(4))
    try:
        torch.set_num_threads(2)
        ham.step(x, step_size=0.1)
        ham.descend(x, steps=1, step_size=0.1)
        assert seen and seen[:2] == [1, 1] and torch.get_num_threads() == 2
        assert ham._work((10**9,)) > 2**26 > ham._work((3,)) > 0
    finally:
        torch.set_num_threads(before)


def test_implicit_memory_does_not_grow_with_steps():
    ham = tiny_brain()
    x = ham.states(64, std=1.0, generator=rng(4))
    keep = []
    unrolled = [
        saved_bytes(lambda n=n: keep.append(ham.descend(x, steps=n, step_size=0.1)))
        for n in (10, 100)
    ]
    implicit = [
        saved_bytes(lambda n=n: keep.append(ham.fixed_point(x, steps=n, step_size=0.1, tol=0)))
        for n in (10, 100)
    ]
    per_step = (unrolled[1] - unrolled[0]) / 90
    assert per_step >= 64 * (6 + 4) * 8  # at least one copy of every state
    assert implicit[1] == implicit[0] < unrolled[0]


# Modes and transforms


def test_no_grad_inference_vmap_compile():
    ham = tiny_brain()
    x = ham.states(3, std=1.0, generator=rng(1))
    plain = ham.step(x, step_size=0.1)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            new = ham.step({n: v.clone() for n, v in x.items()}, step_size=0.1)
            close(new["v"], plain["v"].detach(), 1e-13)
            assert ham.descend(x, steps=3, step_size=0.1, tol=1e-9, guard="halve").energy.shape == (
                3,
            )
    close(vmap(lambda s: ham.step(s, step_size=0.1))(x)["m"], plain["m"], 1e-13)
    close(vmap(ham.energy)(x), ham.energy(x), 1e-13)
    torch._dynamo.reset()
    fast = torch.compile(lambda s: ham.step(s, step_size=0.1), backend="aot_eager", fullgraph=True)
    close(fast(x)["v"], plain["v"], 1e-13)


def test_many_hams_at_once():
    """vmap over parameters: five weight matrices, one call."""
    ham = tiny_brain()
    x = ham.states(3, std=1.0, generator=rng(1))
    many = torch.randn(5, 4, 6, generator=rng(2), dtype=DOUBLE)
    energy = vmap(lambda w: functional_call(ham, {"synapses.Dense(m, v).weight": w}, (x,)))

    class Energy(HAM):
        forward = HAM.energy

    ham.__class__ = Energy
    for i, value in enumerate(energy(many)):
        ham.synapses[0].weight.data = many[i]
        close(value, ham.energy(x), 1e-12)


def test_state_dict_round_trip_and_shared_synapse_stored_once():
    shared = syn.Dense(5, 5, generator=rng())
    layers = {n: NeuronLayer(lag.Tanh(beta=1.0, learnable=True), 5) for n in "abc"}
    ham = HAM(layers, [(("a", "b"), shared), (("b", "c"), shared)])
    weights = [k for k in ham.state_dict() if k.endswith("weight")]
    assert len(weights) == 1 and len(ham.state_dict()) == 4
    other = HAM(
        {n: NeuronLayer(lag.Tanh(beta=1.0, learnable=True), 5) for n in "abc"},
        [((p, q), s) for s in [syn.Dense(5, 5, generator=rng(1))] for p, q in ("ab", "bc")],
    )
    x = ham.states(2, std=1.0, generator=rng())
    assert not torch.equal(ham.energy(x), other.energy(x))
    other.load_state_dict(ham.state_dict())
    assert torch.equal(ham.energy(x), other.energy(x))


def test_to_reaches_everything():
    ham = tiny_brain(dtype=torch.float32).to(DOUBLE)
    assert ham.energy(ham.states(2)).dtype == DOUBLE
    low = tiny_brain(dtype=torch.float32).to(torch.bfloat16)
    x = low.states(2, std=1.0, generator=rng())
    assert low.step(x, step_size=0.1)["v"].dtype == torch.bfloat16
    assert low.energy(x).dtype == torch.float32


def test_inputs_are_never_modified():
    ham = tiny_brain()
    x = ham.states(3, std=1.0, generator=rng(1))
    copy = {n: v.clone() for n, v in x.items()}
    with torch.no_grad():
        ham.step(x, step_size=0.1, guard="halve")
        ham.descend(x, steps=5, step_size=0.1, tol=1e-3)
        ham.fixed_point(x, steps=5, step_size=0.1)
    assert all(torch.equal(x[n], copy[n]) for n in x)


def test_names_and_description():
    ham = HAM(
        {"x": NeuronLayer(lag.Tanh(beta=2.0), (3, 4), tau=0.5), "y": NeuronLayer(lag.Softmax(), 5)},
        [
            (("x", "y"), alignment),
            ("x", syn.Bias(4)),
            ("x", syn.Bias(3, 4)),
            (("y",), lambda y: -y.sum(-1)),
        ],
    )
    keys = ["x", "y", "alignment(x, y)", "Bias(x)", "Bias(x) #2", "synapse(y)"]
    assert list(ham.energies(ham.states(2))) == keys
    told = ham.describe()
    assert told["layers"][0] == {
        "name": "x",
        "label": "Tanh",
        "numbers": {"beta": 2.0},
        "shape": (3, 4),
        "tau": 0.5,
    }
    assert told["layers"][1]["label"] == "Softmax"
    assert [c["label"] for c in told["connections"]] == ["alignment", "Bias", "Bias", "synapse"]
    assert told["connections"][1]["detail"] == ""
    assert told["connections"][0]["layers"] == ("x", "y")


# Exercise 3.1 and its limit (MM 3.6-3.12)


def exercise(beta, patterns, n):
    """Tanh neurons that see themselves through F(m) = m^n of their overlaps."""
    k, d = patterns.shape

    def dense_memory(x):
        return -((x @ patterns.T / d) ** n).sum(-1) * d / n

    return HAM({"x": NeuronLayer(lag.Tanh(beta=beta), d)}, [("x", dense_memory)])


@pytest.mark.parametrize("n", [2, 3, 4])
def test_exercise_limit_is_the_sign_rule(n):
    """At dt = tau = 1 and large beta, the activation after a step is Sign(sum xi f(overlap))."""
    d, k = 31, 5
    xi = torch.randn(k, d, generator=rng(n), dtype=DOUBLE).sign()
    sigma = torch.randn(40, d, generator=rng(9), dtype=DOUBLE).sign()
    field = (sigma @ xi.T / d) ** (n - 1) @ xi
    sigma, field = (t[field.abs().amin(1) > 1e-6] for t in (sigma, field))
    assert len(sigma) > 20
    ham = exercise(1e9, xi, n)
    new = ham.activations(ham.step({"x": sigma}, step_size=1.0))["x"]
    assert torch.equal(new, field.sign())
    neuron = ham.energies({"x": field})["x"]
    assert neuron.abs().max() < 1e-6  # the layer's own energy vanishes: at most D log 2 / beta


def test_exercise_keeps_the_self_term():
    """A pattern stored twice: Exercise 3.1 freezes a state that the exact rule moves on from.

    With F(m) = m^2 a spin i also votes for itself with K / D; MM 2.3 leaves that out.
    """
    d = 8
    xi = torch.ones(1, d, dtype=DOUBLE).repeat(d, 1)  # K = D equal patterns: self term as large
    noise = torch.eye(d, dtype=DOUBLE) * 2 - 1  # as anything one spin can hear
    xi = torch.cat([xi, noise])
    sigma = -torch.ones(d, dtype=DOUBLE)
    sigma[:4] = 1  # overlap zero with the repeated pattern
    with_self = xi.T @ (xi @ sigma)
    without = with_self - (xi**2).sum(0) * sigma
    ham = exercise(1e9, xi, 2)
    got = ham.activations(ham.step({"x": sigma}, step_size=1.0))["x"]
    assert torch.equal(got, with_self.sign())
    assert (with_self.sign() != without.sign()).any()


# Bad input


def two(names=("x", "y"), synapse=None):
    layers = {"x": NeuronLayer(lag.Tanh(), 3), "y": NeuronLayer(lag.Tanh(), 4)}
    return HAM(layers, [(names, synapse or syn.Dense(3, 4))])


def zeros(**shapes):
    return {n: torch.zeros(s) for n, s in shapes.items()}


GOOD = {"x": (2, 3), "y": (2, 4)}


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: two(("x", "z")), "connections[0]: no layer named 'z', expected one of 'x', 'y'"),
        (lambda: two(("y", "x")), "connections[0], layers y, x: Dense: got layer shapes (4,)"),
        (lambda: two("x"), "Dense: got 1 layers, expected 2"),
        (lambda: HAM({"keys": NeuronLayer(lag.Tanh(), 3)}, []), "layers: got the name 'keys'"),
        (lambda: HAM({"a.b": NeuronLayer(lag.Tanh(), 3)}, []), "layers: got the name 'a.b'"),
        (lambda: NeuronLayer(lag.Tanh(), 0), "shape = 0: expected a whole number >= 1"),
        (lambda: NeuronLayer(lag.Softmax(), ()), "shape = (): expected at least one dimension"),
        (lambda: NeuronLayer(lag.Tanh(), 3, tau=0), "tau = 0.0: expected a finite number > 0"),
        (lambda: two().energy(zeros(x=(2, 3))), "states: got ['x'], expected a dict with keys"),
        (lambda: two().energy(zeros(x=(2, 3), y=(2, 5))), "states['y']: got a float32 tensor of"),
        (lambda: two().energy(zeros(x=(2, 3), y=(4,))), "states['y']: got batch shape (), expec"),
        (
            lambda: two().energy({n: x.double() for n, x in zeros(**GOOD).items()}),
            "states['x']: got torch.float64 on cpu, expected torch.float32 on cpu",
        ),
        (
            lambda: two().step(zeros(**GOOD), step_size=0.1, clamp="z"),
            "clamp: no layer named 'z', expected one",
        ),
        (
            lambda: two().step(
                zeros(**GOOD), step_size=0.1, clamp={"x": torch.ones(4, dtype=torch.bool)}
            ),
            "clamp['x']: got shape (4,), expected one that broadcasts to (2, 3)",
        ),
        (
            lambda: two().step(zeros(**GOOD), step_size=-0.1),
            "step_size = -0.1: expected a finite number > 0",
        ),
        (
            lambda: two().step(zeros(**GOOD), step_size=0.1, guard="stop"),
            "guard = 'stop': expected one of",
        ),
        (
            lambda: two().descend(zeros(**GOOD), steps=-1, step_size=0.1),
            "steps = -1: expected a whole number",
        ),
        (
            lambda: two().descend(zeros(**GOOD), steps=1, step_size=0.1, tol=-1),
            "tol = -1.0: expected",
        ),
        (
            lambda: two(synapse=lambda x, y: x.sum() * y.sum()).energy(zeros(**GOOD)),
            "synapse(x, y): returned a float32 tensor of shape (), expected one energy for each",
        ),
    ],
)
def test_bad_values(call, message):
    with pytest.raises(ValueError, match="^[^\n]*$") as caught:
        call()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: HAM({}, []), "layers: got a dict {}, expected a dict of at least one NeuronLayer"),
        (lambda: HAM({"x": lag.Tanh()}, []), "layers['x']: got Tanh(beta=1), expected a Neuron"),
        (lambda: NeuronLayer(torch.tanh, 3), "expected a Lagrangian such as Tanh()"),
        (lambda: two(synapse="Dense"), "connections[0]: got (('x', 'y'), 'Dense'), expected a"),
        (
            lambda: two().step(zeros(**GOOD), step_size=0.1, clamp={"x": 1.0}),
            "clamp['x']: got a float 1.0, exp",
        ),
        (lambda: two().energy({"x": 1, "y": 2}), "states['x']: got a int 1, expected a floating"),
    ],
)
def test_bad_types(call, message):
    with pytest.raises(TypeError, match="^[^\n]*$") as caught:
        call()
    assert message in str(caught.value)
