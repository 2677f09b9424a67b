"""The hurried descent of a HAM ends where the plain one does."""

from __future__ import annotations

import pytest
import torch

from amtutor import fast
from amtutor.network import lagrangians as lag
from amtutor.network import synapses as syn
from amtutor.network.ham import HAM, NeuronLayer


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def pair(beta=1.5):
    layers = {"v": NeuronLayer(lag.Tanh(beta=beta), 40, 0.7), "m": NeuronLayer(lag.Softmax(), 9)}
    return HAM(layers, [(("m", "v"), syn.Dense(9, 40, generator=rng())), ("v", own)])


def own(v):
    return 0.05 * v.square().sum(-1)


def image():
    layers = {
        "x": NeuronLayer(lag.Tanh(), (1, 9, 9)),
        "y": NeuronLayer(lag.ReLU(), (4, 4, 4), 2.0),
        "p": NeuronLayer(lag.Sigmoid(), (4, 2, 2)),
        "z": NeuronLayer(lag.Softmax(beta=2.0), 5),
        "alone": NeuronLayer(lag.Tanh(), 3),
    }
    synapses = [
        (("x", "y"), syn.Conv2d(1, 4, 3, stride=2, generator=rng())),
        (("y", "p"), syn.Pool2d(2)),
        (("p", "z"), syn.Dense((4, 2, 2), 5, generator=rng(1))),
        (("z", "z"), syn.Dense(5, 5, generator=rng(2))),
        ("x", syn.Bias(1, 9, 9, bias=torch.randn(1, 9, 9, generator=rng(3)))),
    ]
    return HAM(layers, synapses)


MASK = torch.arange(40) < 15


@pytest.mark.parametrize(
    "make, clamp",
    [
        (pair, {}),
        (pair, "v"),
        (pair, "m"),
        (pair, {"v": MASK, "m": True}),
        (pair, {"v": MASK}),
        (image, {}),
        (image, ("x",)),
        (image, ("x", "z")),
        (image, {"x": torch.arange(81).reshape(1, 9, 9) % 2 == 0}),
        (image, ("x", "y", "p", "z", "alone")),
    ],
)
@pytest.mark.parametrize("batch, dtype", [((32,), torch.float32), ((2, 3), torch.float64)])
def test_equals_the_plain_descent(make, clamp, batch, dtype):
    ham = make().to(dtype)
    states = ham.states(*batch, std=1.0, generator=rng(7))
    copy = {n: v.clone() for n, v in states.items()}
    with torch.no_grad():
        plain = ham.descend(states, steps=25, step_size=0.1, clamp=clamp)
    quick = fast.descend(ham, states, steps=25, step_size=0.1, clamp=clamp)
    tolerance = 1e-12 if dtype == torch.float64 else 2e-5
    for n, v in plain.state.items():
        assert quick.state[n].shape == v.shape
        assert (quick.state[n] - v).abs().max() <= tolerance * v.abs().max().clamp(min=1)
        assert torch.equal(states[n], copy[n])
    assert (quick.energy - plain.energy).abs().max() <= 10 * tolerance * plain.energy.abs().max()
    assert torch.equal(quick.steps_taken, plain.steps_taken) and not quick.converged.any()


@pytest.mark.parametrize("make, clamp", [(pair, {"v": MASK}), (image, ("x",))])
def test_a_callback_sees_what_the_plain_film_holds(make, clamp):
    ham = make().double()
    states = ham.states(2, 3, std=1.0, generator=rng(7))
    with torch.no_grad():
        plain = ham.descend(states, steps=6, step_size=0.1, clamp=clamp, record=True)
    seen = []
    quick = fast.descend(
        ham, states, steps=6, step_size=0.1, clamp=clamp, callback=lambda *what: seen.append(what)
    )
    assert [step for step, _ in seen] == list(range(7))
    for n, film in plain.trajectory.states.items():
        shown = torch.stack([state[n] for _, state in seen])
        assert shown.shape == film.shape and (shown - film).abs().max() < 1e-11
        assert torch.equal(shown[-1], quick.state[n])


def test_no_batch_and_no_steps():
    ham = pair()
    states = ham.states(std=1.0, generator=rng(7))
    assert torch.equal(fast.descend(ham, states, steps=0, step_size=0.1).state["v"], states["v"])
    with torch.no_grad():
        plain = ham.descend(states, steps=5, step_size=0.1).state["v"]
    assert torch.allclose(
        fast.descend(ham, states, steps=5, step_size=0.1).state["v"], plain, atol=1e-6
    )


def test_without_the_private_route(monkeypatch):
    ham = pair()
    states = ham.states(64, std=1.0, generator=rng(7))
    direct = fast.descend(ham, states, steps=9, step_size=0.1).state["v"]
    monkeypatch.delattr(torch.ops.mkldnn, "_linear_pointwise", raising=False)
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    assert torch.allclose(
        fast.descend(ham, states, steps=9, step_size=0.1).state["v"], direct, atol=1e-6
    )


def test_bad_input_and_divergence():
    with pytest.raises(ValueError, match="step_size = 0.0: expected a finite number > 0"):
        fast.descend(pair(), pair().states(2), steps=3, step_size=0)
    runaway = HAM(
        {"x": NeuronLayer(lag.Identity(), 3)}, [(("x", "x"), syn.Dense(3, 3, weight=torch.eye(3)))]
    )
    with pytest.raises(FloatingPointError, match="energy is not finite after 3000 steps"):
        fast.descend(runaway, runaway.states(2, std=1.0), steps=3000, step_size=0.1)
