"""Teach a dinosaur in the page learns by the library's gradient, Adam and count of the dead."""

from __future__ import annotations

import pytest
import torch

from amtutor import data
from amtutor.memory import prototypes as proto

EXPLORABLE = "dinosaur"


def pairs(flat):
    return torch.tensor(flat, dtype=torch.float64).reshape(-1, 2)


def test_its_points_are_our_dinosaur(module):
    found = pairs(module.evaluate("[...T.POINTS]"))
    assert (found - torch.from_numpy(data.dinosaur())).abs().max() <= 5.01e-4


@pytest.mark.parametrize("beta, k", [(60, 120), (8, 30), (200, 50)])
def test_thirty_steps_are_the_librarys(module, beta, k):
    """Same start, same batches (the page's own, from its seed): same memories, same energies."""
    code = """([beta, k]) => {
        const s = T.settingsFrom({beta, k, seed: 3});
        const p = T.pupil(s), start = [...p.state.memories], batches = [], energies = [];
        for (let t = 0; t < 30; t++) {
            const b = p.batch(t), found = T.slope(b, p.state.memories, beta);
            batches.push([...b]);
            energies.push(found.energy);
            T.adam(p.state, found.gradient);
        }
        return {start, batches, energies, end: [...p.state.memories]};
    }"""
    found = module.evaluate(code, [beta, k])
    memories = torch.nn.Parameter(pairs(found["start"]))
    adam = torch.optim.Adam([memories], lr=0.014)
    for flat, energy in zip(found["batches"], found["energies"], strict=True):
        x = pairs(flat)
        assert float(proto.mean_energy(x, memories.detach(), beta=beta)) == pytest.approx(
            energy, abs=1e-12
        )
        memories.grad = proto.memory_gradient(x, memories.detach(), beta=beta)
        adam.step()
    assert (memories - pairs(found["end"])).abs().max() < 1e-9


def test_learning_draws_the_batches_that_were_tested(module):
    code = """() => {
        const s = T.settingsFrom({seed: 5}), a = T.pupil(s), b = T.pupil(s);
        a.learn(10);
        for (let t = 0; t < 10; t++) T.adam(b.state, T.slope(b.batch(t), b.state.memories, s.beta).gradient);
        return [[...a.state.memories], [...b.state.memories]];
    }"""  # noqa: E501
    a, b = module.evaluate(code)
    assert a == b


def test_noise_falls_in_a_line_and_the_die_is_normal(module):
    steps = module.evaluate("[0, 1499, T.STEPS - 1].map((t) => T.noiseAt(1, t))")
    expected = [proto.anneal(1.0, 0.1, t, 3000) for t in (0, 1499, 2999)]
    assert steps == pytest.approx(expected, abs=1e-9)
    code = """async () => {
        const c = await import('./common.js');
        return [...T.normals(20000, c.random(4))];
    }"""
    z = torch.tensor(module.evaluate(code), dtype=torch.float64)
    assert abs(float(z.mean())) < 0.03 and abs(float(z.std()) - 1) < 0.03
    assert abs(float((z**4).mean()) - 3) < 0.3 and abs(float((z[::2] * z[1::2]).mean())) < 0.03


def test_loads_and_the_dead_are_the_librarys(module):
    code = """() => {
        const p = T.pupil(T.settingsFrom({seed: 2, noise: 0.1}));
        p.learn(300);
        const m = p.state.memories;
        return {m: [...m], crowd: [...T.CROWD], loads: [...T.loads(T.CROWD, m, 60)], dead: T.dead(m, 60)};
    }"""  # noqa: E501
    found = module.evaluate(code)
    crowd, memories = pairs(found["crowd"]), pairs(found["m"])
    loads = proto.workload(crowd, memories, beta=60.0)
    assert loads.tolist() == pytest.approx(found["loads"], abs=1e-9)
    assert proto.dead(crowd, memories, beta=60.0).tolist() == found["dead"]
    assert 5 < sum(found["dead"]) < 115


@pytest.mark.parametrize("beta", [5, 60, 250])
def test_the_picture_has_the_librarys_energies(module, beta):
    code = """(beta) => {
        const m = T.pupil(T.settingsFrom({seed: 2})).state.memories;
        const at = [-3, -1.1, 0.2, 1.7];
        return {m: [...m], at, grid: [...T.energies({xs: at, ys: at}, m, beta)]};
    }"""
    found = module.evaluate(code, beta)
    at = torch.tensor(found["at"], dtype=torch.float64)
    places = torch.stack(torch.meshgrid(at, at, indexing="xy"), dim=-1).reshape(-1, 2)
    energies = [float(proto.mean_energy(x[None], pairs(found["m"]), beta=beta)) for x in places]
    drawn = [(a, b) for a, b in zip(found["grid"], energies, strict=True) if b < 1]
    assert len(drawn) > 3
    assert [a for a, _ in drawn] == pytest.approx([b for _, b in drawn], abs=1e-9)


def test_what_the_question_says_is_so(module):
    """No extra noise: about thirty of 120 dead. With it: under five per cent."""
    code = """(noise) => [1, 2, 3].map((seed) => {
        const s = T.settingsFrom({seed, noise}), p = T.pupil(s);
        p.learn(T.STEPS);
        const n = T.dead(p.state.memories, s.beta).filter(Boolean).length;
        return [n, T.tell(n, s, T.farthest(p.state.memories))];
    })"""
    without, with_noise = (module.evaluate(code, noise) for noise in (0.1, 1))
    assert all(20 <= n <= 42 and told[2] == "bad" for n, told in without)
    assert all(n <= 6 and told[2] == "good" for n, told in with_noise)


@pytest.mark.parametrize(
    ("settings", "said"), [({"beta": 5}, "gather"), ({"k": 10}, "too few"), ({"beta": 20}, "drew")]
)
def test_no_dinosaur_is_claimed_where_none_is_drawn(module, settings, said):
    told, legs = module.evaluate(
        """(settings) => {
        const s = T.settingsFrom(settings), p = T.pupil(s), m = p.state.memories;
        p.learn(T.STEPS);
        const near = (b) => Math.min(...Array.from({length: s.k}, (_, i) =>
          Math.hypot(T.POINTS[2 * b] - m[2 * i], T.POINTS[2 * b + 1] - m[2 * i + 1])));
        const far = T.farthest(m), n = T.dead(m, s.beta).filter(Boolean).length;
        const all = Array.from({length: T.POINTS.length / 2}, (_, b) => near(b));
        return [T.tell(n, s, far).join(" "), Math.abs(Math.max(...all) - far)];
    }""",
        settings,
    )
    assert said in told and legs < 1e-12


@pytest.mark.parametrize("noise", ["9", "x", ""])
def test_a_wrong_address_is_the_start(module, noise):
    assert module.evaluate("(noise) => T.settingsFrom({noise}).noise", noise) == 1
