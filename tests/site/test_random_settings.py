"""Fifty settings of every explorable, drawn at random and given by address: numbers as the library.

The ball, the average and the capacity are asked so in test_explorables.py, the tower in
test_tower.py. The test file that has an explorable's name asks it for its corners, words and hands.
"""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest
import torch
from explorable_stage import Stage
from torch.testing import assert_close

from amtutor.generative import latent, phases
from amtutor.generative.diffusion import VarianceExploding, empirical_score, probability_flow
from amtutor.memory import prototypes as proto
from amtutor.memory.dense import DenseAM, lse_energy, lse_gradient, lsr_energy, nearest
from amtutor.memory.kernels import lsr_minima
from amtutor.memory.minima import lse_hessian, lse_minima
from amtutor.memory.prediction import mixed_energy, nadaraya_watson, recall
from amtutor.memory.random_features import DistributedDenseAM, TrigonometricFeatures
from amtutor.memory.relocation import basins, voronoi_agreement
from amtutor.network.energy_transformer import EnergyTransformerBlock
from amtutor.network.ham import HAM, NeuronLayer
from amtutor.network.lagrangians import Softmax, Tanh
from amtutor.network.synapses import Dense

COUNT = 50
ASK = """const { readHash } = await import('/common.js');
const numbers = (s) => {
  %s
};
return a.map((hash) => {
  const s = m.settingsFrom(readHash('%s', hash));
  return [s, numbers(s)];
});"""


@pytest.fixture(scope="module")
def maths(chromium, base):
    """One page for all of them."""
    stage = Stage(chromium, base)
    yield stage
    stage.context.close()


class Dice:
    """Settings as an address can have them: a few digits, inside the sliders' ranges."""

    def __init__(self, name: str):
        self.rng = np.random.default_rng(zlib.crc32(name.encode()))

    def real(self, low: float, high: float) -> float:
        return round(float(self.rng.uniform(low, high)), 3)

    def log(self, low: float, high: float) -> float:
        return float(f"{math.exp(self.rng.uniform(math.log(low), math.log(high))):.4g}")

    def whole(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def of(self, *values):
        return values[int(self.rng.integers(len(values)))]

    def places(self, count: int, wide: float, tall: float) -> list[list[float]]:
        return [[self.real(-wide, wide), self.real(-tall, tall)] for _ in range(count)]


def asked(maths, name: str, draw, body: str) -> list[tuple[dict, dict]]:
    """Settings and what the JavaScript `body` makes of them (`s`), for fifty addresses."""
    dice = Dice(name)
    cases = [draw(dice) for _ in range(COUNT)]
    hashes = [f"#{name}?{'&'.join(f'{k}={flat(v)}' for k, v in c.items())}" for c in cases]
    assert len(set(hashes)) == COUNT
    answers = maths.call(name, ASK % (body, name), hashes)
    for case, (settings, _) in zip(cases, answers, strict=True):
        assert case.items() <= settings.items(), "the address was not taken as it is"
    return answers


def flat(value) -> str:
    return ",".join(map(str, np.ravel(value)))


def doubles(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def pairs(values) -> torch.Tensor:
    return doubles(values).reshape(-1, 2)


def test_lottery_draws_what_the_library_draws(maths):
    cases = asked(
        maths,
        "lottery",
        lambda d: {"sigma": d.log(0.2, 10), "m": d.places(6, 1.5, 1.5)},
        "return [m.shares(s.m, s.sigma), m.noise(12).map(([x, y]) => m.step([x, y], s.m))];",
    )
    unit = doubles(maths.call("lottery", "return m.noise();"))
    for s, (shares, stepped) in cases:
        memories = doubles(s["m"])
        counts = latent.memory_counts(s["sigma"] * unit, memories)
        assert shares == pytest.approx((counts.double() / len(unit)).tolist(), abs=1e-12)
        walk = latent.sample_latents(memories, start=unit[:12], noise=0.0, steps=1)
        assert_close(doubles(stepped), walk.state)


def test_dinosaur_learns_as_the_library_learns(maths):
    """Six steps on the page's own batches, then loads and the dead of the memories they leave."""
    cases = asked(
        maths,
        "dinosaur",
        lambda d: {
            "noise": d.real(0.1, 1.5),
            "beta": d.log(5, 250),
            "k": d.whole(10, 200),
            "seed": d.whole(1, 999),
        },
        """const p = m.pupil(s), start = [...p.state.memories], batches = [], energies = [];
           for (let t = 0; t < 6; t++) {
             const b = p.batch(t), found = m.slope(b, p.state.memories, s.beta);
             batches.push([...b]), energies.push(found.energy);
             m.adam(p.state, found.gradient);
           }
           const end = p.state.memories;
           return { start, batches, energies, end: [...end],
             loads: [...m.loads(m.CROWD, end, s.beta)], dead: m.dead(end, s.beta) };""",
    )
    crowd = pairs(maths.call("dinosaur", "return [...m.CROWD];"))
    for s, js in cases:
        memories = torch.nn.Parameter(pairs(js["start"]))
        adam = torch.optim.Adam([memories], lr=0.014)
        for batch, energy in zip(js["batches"], js["energies"], strict=True):
            x, held = pairs(batch), memories.detach()
            assert energy == pytest.approx(
                float(proto.mean_energy(x, held, beta=s["beta"])), abs=1e-10
            )
            memories.grad = proto.memory_gradient(x, held, beta=s["beta"])
            adam.step()
        end = pairs(js["end"])
        assert len(end) == s["k"]
        assert_close(memories.detach(), end, rtol=0, atol=1e-7)
        loads = proto.workload(crowd, end, beta=s["beta"])
        assert js["loads"] == pytest.approx(loads.tolist(), abs=1e-9)
        assert js["dead"] == proto.dead(crowd, end, beta=s["beta"]).tolist()


def test_tinybrain_is_a_ham(maths):
    """Three moments of each run: energies there, and the next state."""
    cases = asked(
        maths,
        "tinybrain",
        lambda d: {
            "beta": d.log(0.05, 6),
            "tau": d.log(0.1, 5),
            "way": "both",
            "v": [d.real(-3, 3) for _ in range(8)],
        },
        """const { states, trace } = m.run(s);
           return [0, 40, 358].map((t) => [states[t], trace[t], states[t + 1]]);""",
    )
    weight = doubles(maths.call("tinybrain", "return m.synapse();"))
    for s, moments in cases:
        layers = {
            "visible": NeuronLayer(Tanh(), 8),
            "memory": NeuronLayer(Softmax(beta=s["beta"]), 3, tau=s["tau"]),
        }
        ham = HAM(layers, [(("memory", "visible"), Dense(3, 8, weight=weight))]).double()
        assert moments[0][0]["v"] == s["v"]
        for state, energies, after in moments:
            states = {"visible": doubles(state["v"]), "memory": doubles(state["m"])}
            with torch.no_grad():
                parts, total = ham.energies(states), float(ham.energy(states))
                stepped = ham.step(states, step_size=0.05)
            assert energies["total"] == pytest.approx(total, abs=1e-9)
            for layer in layers:
                assert energies[layer] == pytest.approx(float(parts[layer]), abs=1e-9)
                assert after[layer[0]] == pytest.approx(stepped[layer].tolist(), abs=1e-10)


def test_tokens_are_an_energy_transformer(maths):
    """Three moments of each run: both energies, and the next state."""
    cases = asked(
        maths,
        "tokens",
        lambda d: {
            "a": d.real(0, 2),
            "m": d.real(0, 4),
            "beta": d.log(0.1, 20),
            "self": d.of("no", "yes"),
            "t": [d.whole(0, 359) for _ in range(12)],
        },
        """const { states, trace } = m.run(s);
           return [0, 20, 149].map((t) => [states[t], trace[t], states[t + 1]]);""",
    )
    rows = doubles([[1.0, -1.0, 0.0], [1.0, 1.0, -2.0]])
    plane = rows / rows.norm(dim=1, keepdim=True)  # what layer norm leaves of three numbers
    memories = doubles(maths.call("tokens", "return m.memories();")) @ plane
    for s, moments in cases:
        block = EnergyTransformerBlock(
            3,
            n_heads=1,
            head_dim=2,
            n_memories=3,
            beta=s["beta"],
            exclude_self=s["self"] == "no",
            bias=False,
            eps=1e-30,
        )
        block = block.double().requires_grad_(False)
        block.attention.W_query[0] = block.attention.W_key[0] = plane
        block.hopfield.memories.copy_(memories)
        for state, energies, after in moments:
            x = doubles(state) @ plane
            g = block.norm.activation(x)
            near, known = s["a"] * block.attention.energy(g), s["m"] * block.hopfield.energy(g)
            assert energies["attention"] == pytest.approx(float(near), abs=1e-8)
            assert energies["memory"] == pytest.approx(float(known), abs=1e-8)
            assert energies["total"] == pytest.approx(float(near + known), abs=1e-8)
            slope = s["a"] * block.attention.gradient(g) + s["m"] * block.hopfield.gradient(g)
            assert_close(doubles(after), (x - 0.08 * slope) @ plane.T, rtol=0, atol=1e-9)


def test_questions_are_answered_as_by_the_library(maths):
    cases = asked(
        maths,
        "questions",
        lambda d: {
            "ask": d.of("x", "y", "none"),
            "beta": d.log(0.5, 200),
            "mix": d.real(0.02, 0.98),
            "x": d.real(0, 24),
            "y": d.real(0, 5),
        },
        "return [m.energy([s.x, s.y], s), m.descend(s).slice(0, 25), m.average(s)];",
    )
    notes = doubles(maths.call("questions", "return m.NOTES;"))
    stored = notes[:, :1], notes[:, 1:]
    for s, (energy, path, mean) in cases:
        start, how = (doubles([s["x"]]), doubles([s["y"]])), {"beta": s["beta"], "mix": s["mix"]}
        assert energy == pytest.approx(float(mixed_energy(*start, *stored, **how)), rel=1e-9)
        held = None if s["ask"] == "none" else s["ask"]
        found = recall(*start, *stored, **how, clamp=held, steps=len(path) - 1, record=True)
        assert_close(doubles(path), found.trajectory.states, rtol=0, atol=1e-7)
        known, sought = stored[::-1] if held == "y" else stored
        share = 1 - s["mix"] if held == "y" else s["mix"]
        cue = doubles([[s["y" if held == "y" else "x"]]])
        expected = nadaraya_watson(cue, known, sought, beta=s["beta"] * share)
        assert mean == pytest.approx(float(expected), rel=1e-9)


def test_cells_are_the_librarys(maths):
    cases = asked(
        maths,
        "cells",
        lambda d: {"beta": d.log(0.5, 100), "m": d.places(6, 1.6, 1.2)},
        """const f = m.measure(s.m, s.beta);
           return [f.agreement, f.owners, f.basin.join(''), f.cell.join('')];""",
    )
    grid = doubles(maths.call("cells", "return m.places();"))
    for s, (agreement, owners, basin, cell) in cases:
        memories = doubles(s["m"])
        into = basins(grid, memories, beta=s["beta"])
        digits = torch.tensor([int(k) for k in basin])
        # a pixel on the very ridge may fall either way in the last bit
        assert int((digits != into).sum()) <= 2
        # where two memories are equally far, rounding says which is nearest
        near = torch.tensor([int(k) for k in cell])
        apart = torch.linalg.vector_norm(grid[:, None] - memories, dim=-1)
        assert_close(apart.gather(1, near[:, None])[:, 0], apart.amin(1), rtol=0, atol=1e-12)
        ties = int((digits != into).sum() + (near != nearest(grid, memories)).sum())
        expected = voronoi_agreement(grid, memories, beta=s["beta"])
        assert agreement == pytest.approx(expected, abs=(ties + 0.1) / len(grid))
        assert owners == digits.unique().tolist()


def test_circle_is_the_librarys(maths):
    """The valley round the ring, its heights, what becomes of each point, and the lowest places."""
    cases = asked(
        maths,
        "circle",
        lambda d: {
            "k": d.of(1, 2, 3, 5, 9, 14, 20, 30, 60, 120),
            "sigma": d.log(0.05, 1),
            "seed": d.whole(0, 9999),
            "spread": "random",  # evenly spaced points make ties that rounding decides
        },
        """const f = m.look(s);
           return { ...f, r: [...f.way.radius], h: [...f.way.height] };""",
    )
    for s, js in cases:
        angle, beta = doubles(js["turns"]), s["sigma"] ** -2
        data = torch.stack([angle.cos(), angle.sin()], -1)
        assert len(data) == s["k"]
        path = phases.valley_around(
            lambda x, data=data, beta=beta: -lse_gradient(x, data, beta=beta),
            n=360,
            dtype=torch.float64,
        )
        height = lse_energy(path, data, beta=beta) * beta
        assert js["r"] == pytest.approx(path.norm(dim=1).tolist(), abs=1e-6)
        assert js["h"] == pytest.approx(height.tolist(), abs=1e-6)
        names = phases.classify_on_ring(data, data, height, noise=s["sigma"])
        assert js["kinds"] == names.tolist()
        counts = names.bincount(minlength=3)
        assert js["shares"] == pytest.approx((counts.double() / len(names)).tolist())
        bowls = doubles(js["bowls"])
        assert lse_gradient(bowls, data, beta=beta).abs().max() < 1e-6
        assert torch.linalg.eigvalsh(lse_hessian(bowls, data, beta=beta)).min() > 0


def test_pasttime_is_a_sampler_and_then_a_memory(maths):
    """Half-way, at the end of time, and at the end of the slider, by each of the three ways."""
    cases = asked(
        maths,
        "pasttime",
        lambda d: {
            "time": d.real(0, 2),
            "past": d.of("hold", "on", "again"),
            "m": d.places(5, 1.5, 1.5),
        },
        """const film = m.sampler(m.noise(), s.m, s.past);
           return [[0, 30, 60, 120, Math.round(60 * s.time)].map((k) => film[k]),
             m.shares(film[60], s.m), m.facts(film, s.m, s.time)];""",
    )
    process = VarianceExploding()
    times = process.times(9.0, 0.0009, steps=60)

    def flow(x, memories, times):
        def score(x, t):
            return empirical_score(x, memories, process=process, t=t)

        how = {"process": process, "times": times, "method": "euler", "record": True}
        return probability_flow(score, x, **how).states

    for s, (frames, shares, facts) in cases:
        memories = doubles(s["m"])
        start, half, end, last, now = map(doubles, frames)
        states = flow(start, memories, times)
        assert_close(half, states[30], rtol=0, atol=1e-9)
        assert_close(end, states[60], rtol=0, atol=1e-9)
        if s["past"] == "hold":
            cold = DenseAM(memories, beta=0.03**-2)
            rest = cold.recall(end, steps=60, step_size=0.1).state
            assert_close(last, rest, rtol=0, atol=1e-9)
        if s["past"] == "again":
            assert_close(last, flow(end, memories, times[:60])[-1], rtol=0, atol=1e-9)
        at, home = nearest(now, memories), nearest(end, memories)
        assert shares == home.bincount(minlength=5).tolist()
        assert facts["same"] == int((at == home).sum())
        gap = torch.cdist(now, memories, compute_mode="donot_use_mm_for_euclid_dist")
        assert facts["gap"] == pytest.approx(float(gap.min(1).values.max()), abs=1e-12)
        assert facts["moved"] == pytest.approx(float((now - end).norm(dim=1).max()), abs=1e-12)


def test_fixedsize_is_the_librarys_list(maths):
    xs, ys = [-1.4, -0.6, 0.2, 1.0], [1.0, 0.1, -0.8]  # evenly apart, as cells are
    cases = asked(
        maths,
        "fixedsize",
        lambda d: {
            "beta": d.log(2, 40),
            "y": round(d.log(10, 1000)),
            "m": d.places(d.whole(1, 12), 1.5, 1.2),
        },
        f"""const [xs, ys] = [{xs}, {ys}];
           const list = m.tensor(s.m, s.beta, s.y), sums = m.sums(list, s.beta, xs, ys);
           return [[...list.cosines, ...list.sines], m.noise(list), [...sums],
             [...m.energies(sums, s.beta, m.noise(list))],
             [...m.energies(m.exactSums(s.m, s.beta, xs, ys), s.beta)]];""",
    )
    omega = doubles(maths.call("fixedsize", "return m.frequencies();"))
    grid = doubles([[x, y] for y in ys for x in xs])
    for s, found in cases:
        features = TrigonometricFeatures(2, s["y"])
        features.omega = omega[: s["y"]]
        memory = DistributedDenseAM(features, beta=s["beta"])
        memory.add(doubles(s["m"]))
        listed, noise, sums, energies, exact = map(doubles, found)
        assert_close(listed, memory.tensor, rtol=1e-9, atol=1e-9)
        assert float(noise) == pytest.approx(memory.noise, rel=1e-9)
        assert_close(sums, memory.sums(grid), rtol=1e-9, atol=1e-9)
        assert_close(energies, memory.energy(grid), rtol=1e-7, atol=1e-7)
        assert_close(exact, lse_energy(grid, doubles(s["m"]), beta=s["beta"]), rtol=1e-9, atol=1e-9)


def test_twolandscapes_have_the_librarys_valleys(maths):
    """All valleys of both, and energies at places of the picture (1e9 where there is none)."""
    places = Dice("places").places(25, 1.3, 1.15)
    cases = asked(
        maths,
        "twolandscapes",
        lambda d: {"beta": d.log(0.5, 50), "m": d.places(6, 1.3, 1.15)},
        f"""const all = (f) => {places}.map((x) => Math.min(1e9, f(x, s.m, s.beta)));
           return [m.lseValleys(s.m, s.beta), m.lsrValleys(s.m, s.beta).map((v) => v.x),
             all(m.lse), all(m.lsr)];""",
    )
    x = doubles(places)
    for s, (lse, lsr, left, right) in cases:
        bank, beta = doubles(s["m"]), s["beta"]
        assert left == pytest.approx(lse_energy(x, bank, beta=beta).tolist(), abs=1e-10)
        wanted = lsr_energy(x, bank, beta=beta).clamp(max=1e9)
        assert right == pytest.approx(wanted.tolist(), abs=1e-10)
        proved = lse_minima(bank, beta=beta)
        assert proved.certain
        for found, valleys in ((lse, proved.positions), (lsr, lsr_minima(bank, beta=beta))):
            assert len(found) == len(valleys)
            assert torch.cdist(pairs(found), valleys).min(1).values.max() < 1e-5


def test_landscape_puts_things_where_they_belong(maths):
    """The kit below the pictures: places go there and back, contours are where they should."""
    dice = Dice("landscape")
    cases = [
        [[dice.real(-3, 0), dice.real(0.1, 3), dice.real(-3, 0), dice.real(0.1, 3)],
         [dice.whole(50, 900), dice.whole(50, 900)], [dice.real(0, 1), dice.real(0, 1)],
         [dice.real(0.5, 3), -dice.real(0.5, 3), dice.real(-3, 3)]]
        for _ in range(COUNT)
    ]  # fmt: skip
    body = """return a.map(([[x0, x1, y0, y1], [w, h], [u, v], [p, q, level]]) => {
      const plane = Object.assign(new m.Plane([x0, x1], [y0, y1]), { w, h });
      const element = { getBoundingClientRect: () => ({ left: 0, top: 0, width: w, height: h }) };
      const at = [x0 + u * (x1 - x0), y0 + v * (y1 - y0)], [clientX, clientY] = plane.to(at);
      const rise = (i) => p * (i % 9) + q * Math.floor(i / 9);
      const slope = Float64Array.from({ length: 63 }, (_, i) => rise(i));
      return [plane.to(at), plane.at({ clientX, clientY }, element),
        [...m.contour(m.field(slope, 9, 7), level)]];
    });"""
    drawn = 0
    for case, (to, back, lines) in zip(cases, maths.call("landscape", body, cases), strict=True):
        (x0, x1, y0, y1), (w, h), (u, v), (p, q, level) = case
        assert to == pytest.approx([u * w, (1 - v) * h], abs=1e-9)
        assert back == pytest.approx([x0 + u * (x1 - x0), y0 + v * (y1 - y0)], abs=1e-9)
        ends = pairs(lines)
        assert (p * ends[:, 0] + q * ends[:, 1]).tolist() == pytest.approx([level] * len(ends))
        drawn += len(ends) > 0
    assert drawn > COUNT / 2
