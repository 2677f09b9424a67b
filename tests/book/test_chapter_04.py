"""What chapter 4 claims (ledger C1 to C5 and C7), held apart from the chapter's own run."""

from __future__ import annotations

import math

import pytest
import torch

from amtutor import data, show
from amtutor.memory.discrete import DiscreteDenseAM, Exponential, Polynomial, RectifiedPolynomial
from amtutor.network import lagrangians as lag
from amtutor.network import synapses as syn
from amtutor.network.ham import HAM, NeuronLayer

DOUBLE = torch.float64


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def spins(*shape, seed=0, dtype=DOUBLE):
    return (torch.randint(0, 2, shape, generator=generator(seed)) * 2 - 1).to(dtype)


def tiny_brain(xi, memory, *, beta=10.0, tau=0.5, more=()):
    n_memories, dim = xi.shape
    layers = {
        "v": NeuronLayer(lag.Tanh(beta=beta * dim), dim),
        "m": NeuronLayer(memory, n_memories, tau=tau),
    }
    joins = [(("m", "v"), syn.Dense(n_memories, dim, weight=xi / dim)), *more]
    return HAM(layers, joins).to(xi.dtype).requires_grad_(False)


def recalled(xi, memory, *, flipped=0.1, self_votes=True, asked=48):
    """Share of patterns that come back with at most 5 % of the pixels wrong and nearest."""
    n_memories, dim = xi.shape
    cue = data.flip_bits(xi[:asked], flipped, generator=generator(1))
    more = [] if self_votes else [("v", lambda v: n_memories / (2 * dim**2) * v.square().sum(-1))]
    brain = tiny_brain(xi, memory, more=more)
    start = {"v": cue / dim, "m": cue @ xi.T / dim}
    answer = brain.descend(start, steps=25, step_size=0.5).state["v"].sign()
    overlap, own = answer @ xi.T / dim, torch.arange(len(cue))
    good = (overlap[own, own] >= 0.9) & (overlap.argmax(-1) == own)
    return float(good.float().mean())


# -- C1: a neuron's price ------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.5, 1.5, 8.0])
def test_c1_price_and_lagrangian_are_two_areas_of_one_rectangle(beta):
    layer, x = lag.Tanh(beta=beta), 1.4
    below = torch.linspace(0, x, 20_001, dtype=DOUBLE)
    height = math.tanh(beta * x)
    beside = torch.linspace(0, height, 200_001, dtype=DOUBLE)[:-1]  # artanh has a pole at 1
    lagrangian = torch.trapezoid(layer.activation(below), below)
    price = torch.trapezoid(torch.atanh(beside) / beta, beside)
    value = torch.tensor(x, dtype=DOUBLE)
    assert abs(float(lagrangian - layer(value, event_dims=0))) < 1e-6
    assert abs(float(price - layer.energy(value, event_dims=0))) < 1e-3
    assert abs(float(lagrangian + price) - x * height) < 1e-3


def test_c1_agreement_alone_rises_and_the_price_mends_it():
    weights = torch.randn(60, 60, generator=generator(4), dtype=DOUBLE) / 60**0.5
    weights = 3 * (weights + weights.T) / 2**0.5 / 7
    ham = HAM(
        {"x": NeuronLayer(lag.Tanh(), 60)},
        [(("x", "x"), syn.Dense(60, 60, weight=weights / 2))],
    ).requires_grad_(False)
    start = ham.states(std=1.0, generator=generator())
    run = ham.descend(start, steps=200, step_size=0.05, record=True).trajectory
    agreement = run.components["Dense(x, x)"]
    assert (agreement.diff() > 0).float().mean() > 0.8
    assert (run.energies.diff() < 0).all()


def test_c1_price_never_falls_below_minus_the_lagrangian_of_zero():
    x = 10 * torch.randn(500, 5, generator=generator(), dtype=DOUBLE)
    for layer in (lag.Tanh(), lag.Sigmoid(), lag.Softmax(), lag.LayerNorm(), lag.SphericalNorm()):
        assert (layer.energy(x) >= -layer(torch.zeros(5, dtype=DOUBLE)) - 1e-12).all()


# -- C2: hypersynapses ---------------------------------------------------------------------------


def test_c2_a_synapse_nobody_ships_for_three_layers():
    a, b, c = torch.tensor([1.0, 2.0]), torch.tensor([0.0, 3.0]), torch.tensor([5.0, -1.0])
    found = syn.currents(lambda a, b, c: -(a * b * c).sum(-1), a, b, c)
    for current, expected in zip(found, (b * c, a * c, a * b), strict=True):
        assert torch.equal(current, expected)


def test_c2_pairs_cannot_tell_parity_and_a_synapse_of_three_legs_can():
    """The four wanted states and the others have the same mean of every spin and every pair."""
    state = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=DOUBLE)] * 3)
    wanted = state[:, 2] == state[:, 0] * state[:, 1]
    pairs = torch.stack([state[:, i] * state[:, j] for i, j in ((0, 1), (0, 2), (1, 2))], 1)
    features = torch.cat([state, pairs], 1)
    assert torch.equal(features[wanted].mean(0), features[~wanted].mean(0))
    level = -state.prod(1)
    assert level[wanted].max() < level[~wanted].min()


def test_c3_two_neurons_by_hand():
    """Held, free, and too strongly wired: what the chapter says of two identity neurons."""
    for weight, rate in ((0.5, -0.5), (1.5, 0.5)):
        wire = syn.Dense(1, 1, weight=torch.tensor([[weight]], dtype=DOUBLE))
        layers = {n: NeuronLayer(lag.Identity(), 1) for n in "ab"}
        ham = HAM(layers, [(("a", "b"), wire)]).requires_grad_(False)
        one, zero = torch.ones(1, dtype=DOUBLE), torch.zeros(1, dtype=DOUBLE)
        held = ham.descend({"a": one, "b": zero}, steps=800, step_size=0.05, clamp="a")
        assert abs(float(held.state["b"]) - weight) < 1e-9
        assert abs(float(held.energy) - (0.5 - weight**2 / 2)) < 1e-9
        x = {"a": one, "b": 0.2 * one}
        moved = ham.step(x, step_size=1e-3)
        assert float(moved["a"] + moved["b"]) == pytest.approx(1.2 * (1 + 1e-3 * rate))


# -- C3: the theorem, its conditions, zero modes -------------------------------------------------


def test_c3_one_way_wires_never_rest_and_two_way_wires_do():
    weights = 3.0 * torch.randn(60, 60, generator=generator(4)) / 60**0.5
    start = torch.randn(60, generator=generator(5))
    speed = []
    for w in (weights, (weights + weights.T) / 2**0.5):
        x = start
        for _ in range(1200):
            step = w @ x.tanh() - x
            x = x + 0.05 * step
        speed.append(float(step.norm()))
    assert speed[0] > 1 and speed[1] < 0.01


def test_c3_states_walk_along_a_trench_that_the_energy_cannot_see():
    bias = syn.Bias(2, bias=torch.tensor([2.9, 2.1], dtype=DOUBLE))
    extra = ("x", lambda x: 2.5 * (x**2).sum(-1))
    ham = HAM({"x": NeuronLayer(lag.Softmax(beta=2.0), 2)}, [extra, ("x", bias)])
    start = {"x": 4 * torch.rand(14, 2, generator=generator(3), dtype=DOUBLE) - 2}
    with torch.no_grad():
        run = ham.descend(start, steps=400, step_size=0.02, record=True).trajectory
    early, late = run.states["x"][75], run.states["x"][125]
    assert (late - early).norm(dim=-1).mean() > 0.1
    heard = ham.layers["x"].activation(late) - ham.layers["x"].activation(early)
    assert heard.abs().max() < 1e-3
    assert 0 <= float((run.energies[75] - run.energies[125]).mean()) < 1e-6


def test_c3_a_concave_lagrangian_climbs():
    """gamma < 0 is refused when asked for; forced upon a layer norm, it turns the sign of 3.5."""
    layer = lag.LayerNorm(eps=0.1)
    layer.gamma = -1.0
    ham = HAM(
        {"x": NeuronLayer(layer, 4)}, [("x", syn.Bias(4, bias=torch.tensor([1.0, 0.0, 2.0, -1.0])))]
    )
    x = ham.states(std=1.0, generator=generator())
    assert ham.energy(ham.step(x, step_size=0.01)) > ham.energy(x)


# -- C4: Exercise 3.1, run to its limit ----------------------------------------------------------


def spin_layer(xi, n, beta):
    dim = xi.shape[1]
    memories = ("x", lambda x: -dim / n * ((x @ xi.T / dim) ** n).sum(-1))
    return HAM({"x": NeuronLayer(lag.Tanh(beta=beta), dim)}, [memories])


def paper_rule(xi, n, sigma):
    """MM 2.3 for every neuron at once; a neuron that hears nothing stays."""
    m = sigma @ xi.T / xi.shape[1]
    others = m[:, :, None] - xi * sigma[:, None, :] / xi.shape[1]
    heard = (others ** (n - 1) * xi).sum(1)
    return torch.where(heard == 0, sigma, heard.sign())


@pytest.mark.parametrize("n", [2, 3, 4])
def test_c4_limit_of_exercise_31_is_the_sign_rule_with_self_term(n):
    sigma, xi = spins(50, 99, seed=1), spins(21, 99, seed=2)
    limit = ((sigma @ xi.T / 99) ** (n - 1) @ xi).sign()
    distance = []
    for beta in (1e2, 1e4, 1e8):
        ham = spin_layer(xi, n, beta)
        after = ham.step({"x": sigma}, step_size=1.0)
        distance.append(float((ham.activations(after)["x"] - limit).abs().mean()))
        assert ham.energies(after)["x"].max() <= 99 * math.log(2) / beta + 1e-12
    assert distance[0] > 10 * distance[1] and distance[2] < 1e-6
    assert (limit != paper_rule(xi, n, sigma)).double().mean() > 0.01


def test_c4_an_overloaded_network_with_self_votes_agrees_with_everything():
    sigma, store = spins(20, 99, seed=3), spins(30 * 99, 99, seed=4)
    assert torch.equal((sigma @ store.T @ store).sign(), sigma)
    assert abs(float((paper_rule(store, 2, sigma) == sigma).double().mean()) - 0.5) < 0.05


def test_c4_giant_steps_are_safe_for_concave_synapses_only():
    store, start = spins(40, 9, seed=1), spins(300, 9, seed=51)
    rises = {}
    for n in (2, 3, 4):
        ham, x, rises[n] = spin_layer(store, n, 5.0), {"x": start}, -math.inf
        for _ in range(8):
            before, x = ham.energy(x), ham.step(x, step_size=1.0)
            rises[n] = max(rises[n], float((ham.energy(x) - before).max()))
    assert rises[2] < 1e-9 and rises[4] < 1e-9 and rises[3] > 0.1


# -- C5: TinyBrain -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "memory, separation, factor",
    [
        (lag.Identity(), Polynomial(2), 2),
        (lag.RectifiedPower(3), RectifiedPolynomial(3), 3),
        (lag.RectifiedPower(10), RectifiedPolynomial(10), 10),
    ],
)
def test_c5_fast_memory_neurons_give_the_energies_of_chapter_2(memory, separation, factor):
    xi, sigma = spins(8, 50, seed=7), spins(30, 50, seed=8)
    brain = tiny_brain(xi, memory)
    states = {"v": sigma * 1e3, "m": sigma @ xi.T / 50}  # saturated spins, memories at rest
    felt = brain.energy(states) - brain.energies(states)["v"]
    expected = DiscreteDenseAM(xi, separation).energy(sigma) / factor
    assert (felt - expected).abs().max() < 1e-12


def test_c5_softmax_memory_neurons_are_attention():
    """Swapped for softmax neurons, the current to v is a softmax average of the memories."""
    xi, v = spins(8, 50, seed=7), torch.randn(3, 50, generator=generator(), dtype=DOUBLE)
    brain = tiny_brain(xi, lag.Softmax(beta=30.0))
    vhat = brain.layers["v"].activation(v)
    states = {"v": v, "m": vhat @ xi.T / 50}
    attended = torch.softmax(30.0 * vhat @ xi.T / 50, -1) @ xi / 50
    assert (brain.currents(states)["v"] - attended).abs().max() < 1e-12
    felt = brain.energy(states) - brain.energies(states)["v"]
    lse = -torch.logsumexp(30.0 * vhat @ xi.T / 50, -1) / 30.0
    assert (felt - lse).abs().max() < 1e-12


def test_c5_exponential_memory_neurons():
    xi, sigma = spins(8, 50, seed=7), spins(30, 50, seed=8)
    brain = tiny_brain(xi, lag.Exponential(beta=50.0))
    states = {"v": sigma * 1e3, "m": sigma @ xi.T / 50}
    felt = brain.energy(states) - brain.energies(states)["v"]
    expected = DiscreteDenseAM(xi, Exponential()).energy(sigma)  # -log of the same sum over D
    assert ((-50.0 * felt).log() / -50.0 - expected).abs().max() < 1e-12


def test_c5_the_sum_falls_while_components_do_as_they_please():
    creatures = data.to_spins(data.sprites(20).images)
    brain = tiny_brain(creatures, lag.RectifiedPower(3), beta=4.0, tau=0.2)
    cue = data.flip_bits(creatures[6], 0.3, generator=generator())
    start = brain.states() | {"v": cue / 576}
    run = brain.descend(start, steps=250, step_size=0.04, record=True)
    assert torch.equal(run.state["v"].sign(), creatures[6])
    assert (run.trajectory.energies.diff() <= 1e-6).all()
    assert all((part.diff() > 1e-4).any() for key, part in run.trajectory.components.items()
               if key != "Dense(m, v)")  # fmt: skip


def test_c5_time_constants_move_no_rest_but_the_choice_among_them():
    creatures = data.to_spins(data.sprites(20).images)
    cue = data.flip_bits(creatures.repeat(5, 1), 0.45, generator=generator())
    own, found = torch.arange(20).repeat(5), {}
    for tau in (0.05, 5.0):
        brain = tiny_brain(creatures, lag.Softmax(beta=60.0), beta=4.0, tau=tau)
        start = brain.states(100) | {"v": cue / 576}
        end = brain.descend(start, steps=2000, step_size=0.04).state["v"].sign()
        overlap, found[tau] = (end @ creatures.T / 576).max(-1)
        assert overlap.min() > 0.9999  # a creature, bit for bit, with both
    right = [float((who == own).float().mean()) for who in found.values()]
    assert right[0] > right[1] + 0.2


def test_c5_the_limit_of_110_random_patterns_and_its_end():
    coins = spins(1000, 784, seed=9, dtype=torch.float32)
    linear = lag.Identity()
    assert recalled(coins[:80], linear, self_votes=False) > 0.95
    assert recalled(coins[:170], linear, self_votes=False) < 0.3
    assert recalled(coins[:170], linear) > 0.4  # self-votes move the fall
    assert recalled(coins[:400], linear) < 0.1
    assert recalled(coins, lag.RectifiedPower(3)) > 0.95
    assert recalled(coins, lag.Softmax(beta=200.0)) > 0.95


def test_c5_digits_are_not_random_patterns():
    try:
        digits = data.to_spins(torch.as_tensor(data.mnist("test")[0]))
    except data.DataNotFound as missing:
        pytest.skip(str(missing))
    digits = digits[torch.randperm(len(digits), generator=generator())]
    assert recalled(digits[:2], lag.Identity()) == 1
    assert recalled(digits[:5], lag.Identity()) < 0.5
    assert recalled(digits[:110], lag.Identity()) < 0.1
    assert recalled(digits[:110], lag.RectifiedPower(10)) < 0.3
    assert recalled(digits, lag.Softmax(beta=200.0), flipped=0.2) > 0.95


# -- C7: diagrams --------------------------------------------------------------------------------


def test_c7_the_drawing_is_of_the_live_object():
    brain = tiny_brain(spins(20, 576), lag.RectifiedPower(3), tau=0.2)
    before = show.hypergraph(brain.describe()).svg
    for text in (">v<", ">m<", "RectifiedPower(n=3)", "20 × 576", "τ = 0.2"):
        assert text in before
    brain.layers["m"].tau = 5.0
    assert "τ = 5" in show.hypergraph(brain.describe()).svg
