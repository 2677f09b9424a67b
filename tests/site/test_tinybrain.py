"""TinyBrain in the page is the library's HAM, to rounding; one-way synapses have no such twin."""

from __future__ import annotations

import pytest
import torch

from amtutor.network.ham import HAM, NeuronLayer
from amtutor.network.lagrangians import Softmax, Tanh
from amtutor.network.synapses import Dense

EXPLORABLE = "tinybrain"


def twin(beta: float, tau: float, weight: torch.Tensor) -> HAM:
    layers = {
        "visible": NeuronLayer(Tanh(), 8),
        "memory": NeuronLayer(Softmax(beta=beta), 3, tau=tau),
    }
    return HAM(layers, [(("memory", "visible"), Dense(3, 8, weight=weight))]).double()


@pytest.mark.parametrize("seed", range(10))
def test_energies_and_steps_are_the_librarys(module, seed):
    g = torch.Generator().manual_seed(seed)
    v = 4 * torch.rand(8, generator=g, dtype=torch.float64) - 2
    m = 20 * torch.rand(3, generator=g, dtype=torch.float64) - 10
    beta, tau = (
        0.1 + 5 * float(torch.rand((), generator=g)),
        0.2 + float(torch.rand((), generator=g)),
    )
    weight = torch.tensor(module.evaluate("T.synapse()"), dtype=torch.float64)
    ham = twin(beta, tau, weight)
    states = {"visible": v, "memory": m}
    given = [v.tolist(), m.tolist(), {"beta": beta, "tau": tau, "way": "both"}]

    found = module.evaluate("([v, m, s]) => T.energies(v, m, s.beta)", given)
    with torch.no_grad():
        assert found["total"] == pytest.approx(float(ham.energy(states)), abs=1e-9)
        assert found["visible"] == pytest.approx(float(ham.energies(states)["visible"]), abs=1e-9)
        assert found["memory"] == pytest.approx(float(ham.energies(states)["memory"]), abs=1e-9)
        after = ham.step(states, step_size=0.05)
    stepped = module.evaluate("([v, m, s]) => T.step(v, m, s)", given)
    assert stepped["v"] == pytest.approx(after["visible"].tolist(), abs=1e-12)
    assert stepped["m"] == pytest.approx(after["memory"].tolist(), abs=1e-12)


def test_both_ways_the_energy_never_rises(module):
    code = """() => [0.05, 0.2, 0.6, 2, 6].flatMap((beta) => [0.1, 1, 5].map((tau) =>
        T.run(T.settingsFrom({beta, tau})).rises.length))"""
    assert module.evaluate(code) == [0] * 15


def test_one_way_it_walks_in_a_circle_and_the_sum_rises(module):
    code = """() => {
        const s = T.settingsFrom({way: "one", beta: 3, tau: 2});
        const r = T.run(s);
        return {order: T.visits(r.states), rises: r.rises.length, rest: r.rest, told: T.tell(r, s)};
    }"""
    found = module.evaluate(code)
    order = found["order"]
    assert len(order) > 6 and all((b - a) % 3 == 1 for a, b in zip(order, order[1:], strict=False))
    assert found["rises"] > 50 and found["rest"] == -1
    assert "never rests" in found["told"][0]


@pytest.mark.parametrize(
    "name, cue", [("A", None), ("C", [-0.5, 0.6, 1, -0.8, -1, 0.4, 0.7, -0.9])]
)
def test_the_words_say_which_memory(module, name, cue):
    code = "(v) => { const s = T.settingsFrom({v}); return T.tell(T.run(s), s); }"
    assert module.evaluate(code, cue)[0].startswith(f"It remembered {name}")
