"""A tower of floors: jumps never raise the energy, questions are what they say, it can learn."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from amtutor import data
from amtutor.data import split_digits
from amtutor.network import lagrangians as lag
from amtutor.network import synapses as syn
from amtutor.network import towers
from amtutor.network.ham import HAM, NeuronLayer
from amtutor.network.towers import ask, load, one_way, pixels, tower

DOUBLE = torch.float64
ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "shape": (1, 8, 8),
    "channels": 3,
    "kernel_size": 3,
    "stride": 1,
    "hidden": 5,
    "classes": 4,
}


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def small(seed=0, size=3.0, **changes):
    """A small tower in float64 with weights and biases strong enough to have several valleys."""
    ham = tower(**(SMALL | changes), generator=rng(seed)).double().requires_grad_(False)
    for p in ham.synapses.parameters():
        p.copy_(
            size * p.abs().mean().clamp(min=0.05) * torch.randn(p.shape, generator=rng(seed + 1))
        )
    return ham


def pictures(n, seed=3, side=8):
    return torch.rand(n, 1, side, side, generator=rng(seed), dtype=DOUBLE)


# -- going down ----------------------------------------------------------------------------------


def test_every_second_floor_has_its_turn():
    assert tower().floors() == [["image", "pooled", "label"], ["features", "hidden"]]


def test_three_layers_on_one_synapse_take_turns_one_by_one():
    layers = {n: NeuronLayer(lag.Tanh(), 2) for n in "abcd"}
    ham = HAM(layers, [(("a", "b", "c"), syn.Dense(2, 2, 2)), (("c", "d"), syn.Dense(2, 2))])
    assert ham.floors() == [["a", "d"], ["b"], ["c"]]


def random_memory(seed, n_layers, arity):
    """Layers of all bounded kinds joined at random by synapses that are linear in each of them."""
    g = rng(seed)
    kinds = [lambda: lag.Tanh(beta=2.0), lag.Softmax, lag.Sigmoid, lambda: lag.LayerNorm(eps=0.1)]
    pick = torch.randint(len(kinds), (n_layers,), generator=g).tolist()
    taus = (0.5 + torch.rand(n_layers, generator=g)).tolist()
    layers = {
        f"l{i}": NeuronLayer(kinds[k](), 3 + i % 2, tau)
        for i, (k, tau) in enumerate(zip(pick, taus, strict=True))
    }
    names = list(layers)
    connections = []
    for i in range(1, n_layers):
        others = torch.randperm(i, generator=g)[: arity - 1].tolist()
        ends = (names[i], *(names[j] for j in others))
        weight = 2 * torch.randn([layers[n].shape[0] for n in ends], generator=g, dtype=DOUBLE)
        connections.append((ends, syn.Dense(*weight.shape, weight=weight)))
    return HAM(layers, connections)


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n_layers=st.integers(2, 6),
    arity=st.integers(2, 3),
    share=st.floats(0.05, 1.0),
    held=st.integers(0, 2),
)
@torch.no_grad()
def test_energy_never_rises_however_far_towards_the_jump(seed, n_layers, arity, share, held):
    ham = random_memory(seed, n_layers, arity)
    x = ham.states(4, std=2.0, generator=rng(seed + 1), dtype=DOUBLE)
    dt = share * min(layer.tau for layer in ham.layers.values())
    clamp = [f"l{i}" for i in range(min(held, n_layers - 1))]
    film = ham.settle(x, steps=6, step_size=dt, clamp=clamp, record=True).trajectory
    assert float(film.energies.diff(dim=0).max()) <= 1e-9 * float(film.energies.abs().max())
    for name in clamp:
        assert torch.equal(film.states[name], x[name].expand_as(film.states[name]))


@pytest.mark.parametrize("seed", range(4))
@torch.no_grad()
def test_energy_of_a_tower_never_rises_from_random_states_with_half_a_picture_held(seed):
    ham = small(seed)
    x = ham.states(6, std=2.0, generator=rng(seed), dtype=DOUBLE)
    seen = torch.zeros(1, 8, 8, dtype=torch.bool)
    seen[:, :4] = True
    film = ham.settle(x, steps=15, clamp={"image": seen}, record=True).trajectory
    assert len(film.energies) == 31
    fall = film.energies.diff(dim=0)
    assert float(fall.max()) <= 1e-9 and float(fall[0].max()) < -1e-3
    assert torch.equal(film.states["image"][-1][..., :4, :], x["image"][..., :4, :])
    assert torch.allclose(sum(film.components.values()), film.energies, atol=1e-10)


@torch.no_grad()
def test_everybody_at_once_can_rise_where_turns_cannot():
    """The full jump needs frozen neighbours: two units that want to be alike swap for ever."""
    one = {n: NeuronLayer(lag.Tanh(beta=4.0), 1) for n in "ab"}
    ham = HAM(one, [(("a", "b"), syn.Dense(1, 1, weight=torch.ones(1, 1)))])
    x = {"a": torch.tensor([1.0]), "b": torch.tensor([-1.0])}
    swapped = ham.step(x, step_size=1.0)
    assert swapped["a"] < -0.9 and swapped["b"] > 0.9
    together = ham.step({"a": torch.tensor([1.0]), "b": torch.tensor([-0.2])}, step_size=1.0)
    assert ham.energy(together) > ham.energy({"a": torch.tensor([1.0]), "b": torch.tensor([-0.2])})
    end = ham.settle(x, steps=3).state
    assert end["a"].sign() == end["b"].sign()


@torch.no_grad()
def test_slope_along_the_way_to_the_jump():
    """dE/ds = -(1 - s) (I - x)^T L'' (I - x), so the bottom is at s = 1."""
    ham = small(5)
    x = ham.states(2, std=1.0, generator=rng(1), dtype=DOUBLE)
    current = ham.currents(x)
    for name in ("features", "hidden", "label"):
        way = current[name] - x[name]

        def energy(s, name=name, way=way):
            return ham.energy(x | {name: x[name] + s * way})

        for s in (0.0, 0.3, 0.9, 1.0, 1.4):
            slope = torch.func.jvp(
                energy, (torch.tensor(s, dtype=DOUBLE),), (torch.tensor(1.0).double(),)
            )[1]
            here = x[name] + s * way
            bent = torch.func.jvp(ham.layers[name].activation, (here,), (way,))[1]
            expected = -(1 - s) * (way * bent).flatten(1).sum(1)
            assert torch.allclose(slope, expected, atol=1e-9)


@torch.no_grad()
def test_where_jumps_end_nothing_moves():
    ham = small(2, size=1.0)
    states, clamp = ask(ham, pictures(5))
    end = ham.settle(states, steps=300, clamp=clamp).state
    left = {n: g for n, g in ham.gradient(end).items() if n != "image"}
    assert max(float(g.abs().max()) for g in left.values()) < 1e-9
    on = ham.descend(end, steps=50, step_size=0.2, clamp=clamp).state
    assert all(torch.allclose(on[n], end[n], atol=1e-8) for n in end)


@torch.no_grad()
def test_batch_equals_loop():
    ham, x = small(1), pictures(4)
    seen = torch.rand(4, 1, 8, 8, generator=rng(2)) < 0.5
    names = torch.tensor([0, -1, 3, -1])
    states, clamp = ask(ham, x, names, seen=seen)
    whole = ham.settle(states, steps=4, clamp=clamp)
    for i in range(4):
        states, clamp = ask(ham, x[i : i + 1], names[i : i + 1], seen=seen[i : i + 1])
        single = ham.settle(states, steps=4, clamp=clamp)
        assert torch.allclose(single.energy, whole.energy[i : i + 1], atol=1e-10)
        for n, value in single.state.items():
            assert torch.allclose(value, whole.state[n][i : i + 1], atol=1e-10)


def test_gradient_through_the_sweeps_equals_the_implicit_one_at_rest():
    ham = small(4, size=0.6).requires_grad_(True)
    states, clamp = ask(ham, pictures(3))
    target = torch.tensor([0, 1, 2])
    gradients = []
    for run in (
        lambda: ham.settle(states, steps=80, clamp=clamp),
        lambda: ham.fixed_point(states, steps=400, step_size=0.5, clamp=clamp, tol=1e-12),
    ):
        loss = F.cross_entropy(run().state["label"], target)
        gradients.append(
            torch.autograd.grad(loss, list(ham.synapses.parameters()), allow_unused=True)
        )
    compared = 0
    for a, b in zip(*gradients, strict=True):
        if a is not None and float(a.abs().max()) > 1e-8:
            assert torch.allclose(a, b, rtol=1e-6, atol=1e-9)
            compared += 1
    assert compared >= 6


# -- the same weights, one way -------------------------------------------------------------------


@torch.no_grad()
def test_one_way_is_a_plain_convolutional_network():
    ham, x = small(6), pictures(5)
    conv, pool, up, top = (c.synapse for c in ham.connections if len(c.names) == 2)
    biases = {c.names[0]: c.synapse.bias for c in ham.connections if len(c.names) == 1}
    beta = {n: ham.layers[n].lagrangian.beta for n in towers.FLOORS}
    h = towers.INK * (2 * x - 1)
    h = torch.tanh(beta["features"] * (F.conv2d(h, conv.weight) + biases["features"]))
    h = torch.tanh(beta["pooled"] * (pool.strength * F.avg_pool2d(h, 2) + biases["pooled"]))
    h = torch.tanh(beta["hidden"] * (h.flatten(1) @ up.weight.T + biases["hidden"]))
    assert torch.allclose(one_way(ham, x), h @ top.weight.T + biases["label"], atol=1e-10)


# -- questions -----------------------------------------------------------------------------------


@torch.no_grad()
def test_a_picture_comes_back_as_it_was_put_in():
    ham, x = small(), pictures(3)
    states, clamp = ask(ham, x)
    assert clamp == {"image": True}
    assert torch.allclose(pixels(ham, states), x, atol=1e-12)
    assert all(not states[n].any() for n in ("features", "pooled", "hidden", "label"))
    flat, _ = ask(ham, x[:, 0])
    assert torch.equal(flat["image"], states["image"])


@torch.no_grad()
def test_unknown_pixels_and_names_say_nothing_and_are_free():
    ham, x = small(), pictures(2)
    seen = torch.zeros(1, 8, 8, dtype=torch.bool)
    seen[:, :, :3] = True
    states, clamp = ask(ham, x, torch.tensor([2, -1]), seen=seen)
    assert not states["image"][..., 3:].any() and states["image"][..., :3].any()
    assert torch.equal(clamp["image"], seen.expand(2, 1, 8, 8))
    assert clamp["label"].tolist() == [[True], [False]]
    said = ham.layers["label"].activation(states["label"])
    assert said[0, 2] > 0.99 and torch.allclose(said[1], torch.full((4,), 0.25).double())
    _, named = ask(ham, labels=torch.tensor([0, 1, 2]))
    assert named == {"label": True}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda h: ask(h), "images, labels: got neither, expected at least one"),
        (lambda h: ask(h, torch.zeros(2, 1, 9, 8)), "images: got a float32 tensor of shape"),
        (lambda h: ask(h, torch.full((1, 8, 8), 255.0)), r"expected \[0, 1\]"),
        (lambda h: ask(h, torch.full((1, 8, 8), float("nan"))), "images: 64 of 64 entries are NaN"),
        (lambda h: ask(h, labels=torch.tensor([4])), "labels: got .*expected -1 to 3"),
        (lambda h: ask(h, labels=torch.tensor([1.0])), "labels: got a float32 tensor"),
        (lambda h: ask(h, torch.zeros(2, 8, 8), torch.tensor([1])), r"expected an int64 .*\(2,\)"),
        (lambda h: ask(h, torch.zeros(2, 8, 8), seen=torch.ones(3, 8, 8) > 0), "seen: got shape"),
        (lambda h: h.settle(h.states(1), steps=-1), "steps = -1: expected a whole number >= 0"),
        (
            lambda h: h.settle(h.states(1), steps=1, step_size=1.5),
            "step_size = 1.5: expected at most the sm",
        ),
        (lambda h: h.settle(h.states(1), steps=1, clamp="cellar"), "no layer named 'cellar'"),
        (lambda h: tower(coupling=0.0), "coupling = 0.0: expected a finite number > 0"),
        (lambda h: tower(look=float("nan")), "look = nan: expected a finite number > 0"),
        (lambda h: tower((1, 6, 6)), r"shape = \(1, 6, 6\): expected sides of at least 8"),
        (lambda h: tower((28, 28)), r"shape = \(28, 28\): expected \(C, H, W\)"),
        (lambda h: one_way(h, torch.zeros(1, 8, 8), order=("image", "roof")), "no floor 'roof'"),
        (lambda h: load("attic"), "name = 'attic': expected one of 'tower', 'one_way', 'small'"),
    ],
)
def test_bad_input_gets_one_clear_line(wrong, message):
    with pytest.raises(ValueError, match=message) as error:
        wrong(tower(**SMALL))
    assert "\n" not in str(error.value)


def test_bad_types_get_one_clear_line():
    with pytest.raises(TypeError, match="seen: got a float32 tensor .* expected a bool tensor"):
        ask(tower(**SMALL), torch.zeros(1, 8, 8), seen=torch.ones(8, 8))
    with pytest.raises(TypeError, match="images: got a uint8 tensor .* floating-point"):
        ask(tower(**SMALL), torch.zeros(1, 8, 8, dtype=torch.uint8))


def test_a_layer_that_talks_to_itself_cannot_jump():
    ham = HAM({"x": NeuronLayer(lag.Tanh(), 2)}, [(("x", "x"), syn.Dense(2, 2))])
    with pytest.raises(ValueError, match="connects 'x' to itself, expected no such loop"):
        ham.floors()


# -- C6: it learns -------------------------------------------------------------------------------


def test_c6_a_small_tower_learns_digits_by_backpropagation_through_its_descent():
    images, labels = data.digits()
    x = data.to_unit(images).reshape(-1, 1, 8, 8)
    y = torch.as_tensor(labels, dtype=torch.int64)
    order = torch.randperm(len(x), generator=rng(0))
    x, y = x[order], y[order]
    ham = tower((1, 8, 8), channels=8, kernel_size=3, stride=1, hidden=32, generator=rng(1))
    optimiser = torch.optim.Adam(ham.parameters(), lr=5e-3)
    for step in range(150):
        rows = torch.arange(50 * step, 50 * step + 50) % 1400
        states, clamp = ask(ham, x[rows])
        loss = F.cross_entropy(ham.settle(states, steps=3, clamp=clamp).state["label"], y[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        states, clamp = ask(ham, x[1400:])
        run = ham.settle(states, steps=3, clamp=clamp, record=True)
    assert float((run.state["label"].argmax(-1) == y[1400:]).float().mean()) > 0.9
    assert float(run.trajectory.energies.diff(dim=0).max()) < 1e-4


# -- C6: the trained weights ---------------------------------------------------------------------


def run_settings():
    return json.loads((ROOT / "results" / "ham-mnist" / "config.json").read_text("utf-8"))


def last_line(which):
    text = (ROOT / "results" / "ham-mnist" / f"metrics_{which}.jsonl").read_text("utf-8")
    return json.loads(text.splitlines()[-1])


@pytest.mark.parametrize("which", ["tower", "one_way"])
def test_c6_weights_are_those_of_the_run_that_is_described(which):
    said = run_settings()[which]
    file = ROOT / said["weights"]
    assert file.stat().st_size < 2_000_000
    assert hashlib.sha256(file.read_bytes()).hexdigest() == said["sha256"]
    assert sum(p.numel() for p in load(which).parameters()) == said["parameters"]


def test_c6_recorded_accuracy_of_the_tower_and_of_its_twin():
    assert last_line("tower")["accuracy"] >= 0.96
    assert last_line("one_way")["accuracy"] >= 0.96
    assert run_settings()["tower"]["parameters"] == run_settings()["one_way"]["parameters"]


@pytest.fixture(scope="module")
def held_out():
    try:
        return split_digits()[1]
    except data.DataNotFound as missing:
        pytest.skip(str(missing))


@torch.no_grad()
def test_c6_digits_are_named_by_clamped_descent_and_the_energy_never_rises(held_out):
    x, y = held_out[0][:400], held_out[1][:400]
    ham = load()
    states, clamp = ask(ham, x)
    run = ham.settle(states, steps=10, clamp=clamp, record=True)
    named = run.state["label"].argmax(-1)
    assert float((named == y).float().mean()) >= 0.95
    scale = float(run.trajectory.energies.abs().max())
    assert float(run.trajectory.energies.diff(dim=0).max()) <= 1e-6 * scale
    walked = ham.descend(
        {n: v[:100] for n, v in states.items()}, steps=60, step_size=0.2, clamp=clamp, record=True
    )  # another way down, and for many digits another valley: chapter 5
    assert float((walked.state["label"].argmax(-1) == y[:100]).float().mean()) >= 0.2
    assert float(walked.trajectory.energies.diff(dim=0).max()) <= 1e-6 * scale


@torch.no_grad()
def test_c6_the_name_above_changes_the_pixels_below(held_out):
    """Top-down: the same upper half, ten names, ten different lower halves."""
    ham, x = load(), held_out[0][:20]
    seen = torch.zeros(1, 28, 28, dtype=torch.bool)
    seen[:, :14] = True
    rows = x.repeat_interleave(10, 0)
    told = torch.arange(10).repeat(20)
    states, clamp = ask(ham, rows, told, seen=seen)
    end = ham.settle(states, steps=10, clamp=clamp).state
    lower = pixels(ham, end)[..., 14:, :].reshape(20, 10, -1)
    assert torch.allclose(pixels(ham, end)[..., :14, :], rows[..., :14, :], atol=1e-4)
    assert float((lower[:, 0] - lower[:, 1]).abs().mean()) > 0.05
