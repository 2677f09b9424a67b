"""What chapter 5 claims (ledger C6), held apart from the chapter's own run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from amtutor import data, show
from amtutor.data import split_digits
from amtutor.memory.dense import lse_weights
from amtutor.network import lagrangians as lag
from amtutor.network import synapses as syn
from amtutor.network import towers
from amtutor.network.ham import HAM, NeuronLayer
from amtutor.network.towers import ask, load, one_way, pixels

DOUBLE = torch.float64
RESULTS = Path(__file__).resolve().parents[2] / "results" / "ham-mnist"


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def top_half(side):
    return (torch.arange(side) < side // 2)[:, None].expand(side, side)


@pytest.fixture(scope="module")
def unseen():
    return split_digits("small")[1]


@pytest.fixture(scope="module")
def mnist():
    try:
        return split_digits()
    except data.DataNotFound as missing:
        pytest.skip(str(missing))


@torch.no_grad()
def names(ham, x, *, sweeps=5, seen=None):
    states, clamp = ask(ham, x, seen=seen)
    return ham.settle(states, steps=sweeps, clamp=clamp).state["label"].argmax(-1)


@torch.no_grad()
def lower_half(ham, x, told, *, sweeps=8):
    side = x.shape[-1]
    states, clamp = ask(ham, x, told, seen=top_half(side))
    end = ham.settle(states, steps=sweeps, clamp=clamp).state
    return pixels(ham, end)[:, 0, side // 2 :]


# -- going down ----------------------------------------------------------------------------------


@torch.no_grad()
def test_c6_a_jump_gains_the_height_of_the_lagrangian_above_its_tangent(unseen):
    """The gain of every turn of a trained tower, predicted before it is taken."""
    ham = load("small").double()
    states, clamp = ask(ham, unseen[0][:20].double(), seen=top_half(8))
    held = clamp["image"]
    for _ in range(4):
        for turn in (["features", "hidden"], ["image", "pooled", "label"]):
            before, heard, gain = ham.energy(states), ham.currents(states), 0.0
            new = dict(states)
            for floor in turn:
                layer, x = ham.layers[floor], states[floor]
                target = heard[floor]
                if floor == "image":
                    target = torch.where(held, x, target)
                dims = len(layer.shape)
                tangent = (layer.activation(x) * (target - x)).flatten(1).sum(1)
                rise = layer.lagrangian(target, event_dims=dims)
                gain = gain + rise - layer.lagrangian(x, event_dims=dims) - tangent
                new[floor] = target
            assert torch.allclose(before - ham.energy(new), gain, atol=1e-9)
            assert (gain >= -1e-12).all()
            states = new


@torch.no_grad()
def test_c6_all_at_once_rises_and_in_turns_never_does(unseen):
    ham = load("small").double()
    states, clamp = ask(ham, unseen[0][:40].double(), seen=top_half(8))
    together = ham.descend(states, steps=12, step_size=1.0, clamp=clamp, record=True).trajectory
    assert ((together.energies.diff(dim=0) > 1e-3).any(0)).double().mean() > 0.5
    turns = ham.settle(states, steps=12, clamp=clamp, record=True).trajectory
    assert float(turns.energies.diff(dim=0).max()) < 1e-9


@torch.no_grad()
def test_c6_news_travels_one_floor_a_jump_and_parts_may_rise(unseen):
    ham = load("small").double()
    states, clamp = ask(ham, unseen[0][:40].double())
    film = ham.settle(states, steps=6, clamp=clamp, record=True).trajectory
    # Two pictures: the floor at which their states part, moment by moment.
    other = ham.settle(
        states | {"image": states["image"].flip(0)}, steps=6, clamp=clamp, record=True
    )
    parted = {
        floor: [
            not torch.allclose(a, b)
            for a, b in zip(film.states[floor], other.trajectory.states[floor], strict=True)
        ].index(True)
        for floor in ("features", "pooled", "hidden", "label")
    }
    assert parted == {"features": 1, "pooled": 2, "hidden": 3, "label": 4}
    assert sum(film.components.values()).diff(dim=0).max() <= 1e-9
    assert any(float(part.diff(dim=0).max()) > 0.1 for part in film.components.values())


def test_c6_max_pooling_is_safe_for_positive_pooled_neurons_only():
    rise = {}
    for sign in (1.0, -1.0):
        layers = {
            "f": NeuronLayer(lag.Tanh(beta=3.0), (1, 2, 2)),
            "p": NeuronLayer(lag.Tanh(), (1, 1, 1)),
        }
        ham = HAM(layers, [(("f", "p"), syn.Pool2d(2, mode="max", strength=2.0))])
        x = ham.states(500, std=1.0, generator=generator(7))
        x["p"] = torch.full_like(x["p"], 2.0 * sign)
        rise[sign] = float(
            (ham.energy(ham.step(x, step_size=1.0, clamp="p")) - ham.energy(x)).max()
        )
    assert rise[1.0] <= 1e-5 and rise[-1.0] > 0.1


def test_c6_turns_of_quadratic_floors_are_block_gauss_seidel():
    w = 0.5 * torch.linalg.qr(torch.randn(6, 6, generator=generator(1), dtype=DOUBLE))[0]
    b = torch.arange(6, dtype=DOUBLE)
    layers = {n: NeuronLayer(lag.Identity(), 6) for n in "ab"}
    ham = HAM(layers, [(("a", "b"), syn.Dense(6, 6, weight=w)), ("a", syn.Bias(6, bias=b))])
    with torch.no_grad():
        end = ham.settle(ham.states(1, dtype=DOUBLE), steps=60).state
    assert torch.allclose(end["a"][0], torch.linalg.solve(torch.eye(6) - w @ w.T, b), atol=1e-9)
    assert torch.allclose(end["b"], end["a"] @ w, atol=1e-9)


def test_c6_two_gradients_agree_at_rest_and_not_before(unseen):
    ham = load("small").double().requires_grad_(True)
    states, clamp = ask(ham, unseen[0][:10].double())
    weights = [c.synapse.weight for c in ham.connections if c.key.startswith("Dense")]

    def gradient(run):
        loss = F.cross_entropy(run.state["label"], unseen[1][:10])
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights)])

    with torch.no_grad():
        rest = ham.settle(states, steps=200, clamp=clamp).state
    implicit = gradient(ham.fixed_point(rest, steps=500, step_size=0.4, clamp=clamp, tol=1e-9))
    gap = {
        k: float((gradient(ham.settle(states, steps=k, clamp=clamp)) - implicit).norm())
        / float(implicit.norm())
        for k in (3, 200)
    }
    assert gap[200] < 0.02 and gap[3] > 0.3


# -- parts and floors ----------------------------------------------------------------------------


@torch.no_grad()
def test_c6_eight_shared_strokes_keep_four_thousand_pictures():
    strokes = torch.randint(0, 2, (8, 16), generator=generator()) * 2.0 - 1.0
    layers = {f"place{i}": NeuronLayer(lag.Tanh(beta=64.0), 16) for i in range(4)}
    layers |= {f"part{i}": NeuronLayer(lag.Softmax(beta=20.0), 8) for i in range(4)}
    shared = torch.nn.Parameter(strokes / 16)
    ham = HAM(
        layers,
        [((f"part{i}", f"place{i}"), syn.Dense(8, 16, weight=shared)) for i in range(4)],
    )
    assert sum(p.numel() for p in ham.parameters()) == 8 * 16
    every = torch.cartesian_prod(*[torch.arange(8)] * 4)
    wanted = strokes[every]  # (4096, 4, 16)
    noisy = data.flip_bits(wanted, 0.1, generator=generator(1))
    start = ham.states(4096) | {f"place{i}": noisy[:, i] / 16 for i in range(4)}
    end = ham.settle(start, steps=10).state
    found = torch.stack([end[f"place{i}"].sign() for i in range(4)], 1)
    assert float((found == wanted).all(-1).all(-1).float().mean()) > 0.9


@torch.no_grad()
def test_c6_an_upper_floor_makes_a_lower_one_surer():
    weights = [torch.tensor([[v]], dtype=DOUBLE) for v in (0.5, 0.8)]
    chain = HAM(
        {n: NeuronLayer(lag.Identity(), 1) for n in "vhy"},
        [
            (("v", "h"), syn.Dense(1, 1, weight=weights[0])),
            (("h", "y"), syn.Dense(1, 1, weight=weights[1])),
        ],
    )
    start = chain.states(dtype=DOUBLE) | {"v": torch.ones(1, dtype=DOUBLE)}
    with_top = chain.settle(start, steps=100, clamp="v").state["h"]
    without = chain.settle(start, steps=100, clamp=("v", "y")).state["h"]
    assert float(with_top) == pytest.approx(0.5 / (1 - 0.8**2))
    assert float(without) == pytest.approx(0.5)


@torch.no_grad()
def test_c6_silence_a_floor_and_see_what_it_did(unseen):
    ham, (x, y) = load("small"), unseen

    def asked(silent, seen=None):
        states, clamp = ask(ham, x, seen=seen)
        if silent:
            states[silent], clamp[silent] = torch.zeros_like(states[silent]), True
        return ham.settle(states, steps=12, clamp=clamp).state

    names_of = {
        s: float((asked(s)["label"].argmax(-1) == y).float().mean()) for s in (None, "hidden")
    }
    assert names_of[None] > 0.9 and names_of["hidden"] < 0.2
    miss = [
        float((pixels(ham, asked(s, top_half(8))) - x)[..., 4:, :].square().mean())
        for s in (None, "hidden", "pooled")
    ]
    assert miss[0] < miss[1] < miss[2]


@torch.no_grad()
def test_c6_half_and_half_is_decided_not_blended(unseen):
    ham, (x, y) = load("small"), unseen
    apart = y != y.roll(7)
    states, clamp = ask(ham, torch.where(top_half(8), x, x.roll(7, 0))[apart])
    run = ham.settle(states, steps=20, clamp=clamp).state["label"]
    assert ham.layers["label"].activation(run).amax(-1).mean() > 0.85
    shares = [float((run.argmax(-1) == tags[apart]).float().mean()) for tags in (y, y.roll(7))]
    assert 0.2 < min(shares) and max(shares) < 0.5


# -- asking in three directions ------------------------------------------------------------------


def test_c6_the_small_tower_names_completes_and_draws(unseen):
    ham, (x, y) = load("small"), unseen
    assert float((names(ham, x, sweeps=12) == y).float().mean()) > 0.93
    error = [
        float((lower_half(ham, x, told) - x[:, 0, 4:]).square().mean())
        for told in (None, y, (y + 1) % 10)
    ]
    assert error[1] < 0.8 * error[0] and error[2] > 1.4 * error[0]
    learned, tags = split_digits("small")[0]
    means = torch.stack([learned[tags == k].mean(0)[0] for k in range(10)])
    with torch.no_grad():
        states, clamp = ask(ham, labels=torch.arange(10))
        drawn = pixels(ham, ham.settle(states, steps=12, clamp=clamp).state)[:, 0]
    near = (drawn[:, None] - means).square().sum((-1, -2)).argmin(-1)
    assert (near == torch.arange(10)).sum() >= 9


def test_c6_lower_halves_obey_the_name(unseen):
    learned, tags = split_digits("small")[0]
    means = torch.stack([learned[tags == k].mean(0)[0, 4:] for k in range(10)])
    x = unseen[0][:30].repeat_interleave(10, 0)
    lower = lower_half(load("small"), x, torch.arange(10).repeat(30))
    near = (lower[:, None] - means).square().sum((-1, -2)).argmin(-1)
    assert float((near == torch.arange(10).repeat(30)).float().mean()) > 0.85


def test_c6_at_least_96_of_100_by_descent_and_the_twin_names_better():
    last = {
        which: json.loads((RESULTS / f"metrics_{which}.jsonl").read_text("utf-8").splitlines()[-1])
        for which in ("tower", "one_way")
    }
    assert last["tower"]["after"] == last["one_way"]["after"] == "rounding to float16"
    assert 0.96 <= last["tower"]["accuracy"] < last["one_way"]["accuracy"]
    assert last["tower"]["accuracy_50_rounds"] >= 0.96


def test_c6_unknown_pixels_are_no_harm_to_the_tower_and_holes_are(mnist):
    x, y = (v[:300] for v in mnist[1])
    ham, twin = load("tower"), load("one_way")
    hole = torch.ones(28, 28, dtype=torch.bool)
    hole[9:19, 9:19] = False
    share = {}
    with torch.no_grad():
        for case, seen in (("half", top_half(28)), ("hole", hole)):
            fills = [one_way(twin, torch.where(seen, x, torch.tensor(v))) for v in (0.0, 0.5)]
            found = [names(ham, x, seen=seen), *(f.argmax(-1) for f in fills)]
            share[case] = [float((a == y).float().mean()) for a in found]
    assert share["half"][0] > 0.8 > max(share["half"][1:]) + 0.1
    assert share["hole"][0] < 0.6 and share["hole"][0] < share["hole"][2]


def test_c6_one_floor_breaks_when_the_picture_moves(mnist):
    (learned, tags), (x, y) = mnist[0], (v[:100] for v in mnist[1])
    copies = torch.cat([torch.roll(learned, s, dims=-1) for s in range(-2, 3)])
    ham, share = load("tower"), {}
    for shift in (0, 4):
        moved = torch.roll(x, shift, dims=-1)
        votes = [
            lse_weights(moved.flatten(1), store.flatten(1), beta=0.6)
            @ F.one_hot(tags.repeat(len(store) // len(tags)), 10).float()
            for store in (learned, copies)
        ]
        found = (votes[0].argmax(-1), names(ham, moved), votes[1].argmax(-1))
        share[shift] = [float((a == y).float().mean()) for a in found]
    assert min(share[0]) > 0.9
    assert share[4][0] < 0.4 < share[4][1] - 0.2
    assert share[4][0] + 0.2 < share[4][2] < share[4][1]  # copies help as far as they go


def test_c6_two_sweeps_are_enough_and_small_steps_find_other_valleys(mnist):
    x, y = (v[:100] for v in mnist[1])
    ham = load("tower")
    share = [float((names(ham, x, sweeps=k) == y).float().mean()) for k in (1, 2, 20)]
    assert share[0] < 0.3 and min(share[1:]) > 0.9
    states, clamp = ask(ham, x)
    with torch.no_grad():
        walked = ham.descend(states, steps=50, step_size=0.2, clamp=clamp, record=True)
    assert float(walked.trajectory.energies.diff(dim=0).max()) < 0.01
    with torch.no_grad():
        swept = ham.settle(states, steps=60, clamp=clamp)
        far = ham.descend(walked.state, steps=350, step_size=0.2, clamp=clamp)
    for run in (walked, far):
        right = (run.state["label"].argmax(-1) == y).float().mean()
        assert 0.2 < float(right) < share[2] - 0.1  # a tenth would be chance
    lower = far.energy < swept.energy - 0.1
    assert float(lower.float().mean()) > 0.3
    named = [(run.state["label"].argmax(-1) == y)[lower].float().mean() for run in (far, swept)]
    assert float(named[0]) < float(named[1]) - 0.1  # lower is not righter


def test_c6_the_drawing_shows_all_five_floors():
    drawn = show.hypergraph(load("tower").describe()).svg
    assert all(f">{floor}<" in drawn for floor in towers.FLOORS)
    assert "Conv2d" in drawn and "Pool2d" in drawn
