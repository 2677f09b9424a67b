"""The explorables: light, self-contained, and their numbers are the library's."""

from __future__ import annotations

import functools
import re
import sys

import numpy as np
import pytest
import torch
from explorable_stage import ALL, FOLDER, ROOT, Stage

from amtutor import data
from amtutor.memory.dense import DenseAM, lse_energy, lse_gradient, lse_weights
from amtutor.memory.discrete import DiscreteDenseAM, Exponential, Polynomial
from amtutor.show.style import THEMES

sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "book" / "_ext")]

import amtutor_site  # noqa: E402

import explorable_fallbacks  # noqa: E402
import explorable_sprites  # noqa: E402


@pytest.fixture(scope="module")
def maths(chromium, base):
    """One page for everything that only computes."""
    stage = Stage(chromium, base)
    yield stage
    stage.context.close()


# ------------------------------------------------------------------------- files, without a browser


@pytest.mark.parametrize("name", ALL)
def test_light_self_contained_and_one_piece(name):
    text = amtutor_site.bundle(FOLDER / f"{name}.js", [])
    assert len(text.encode()) < 100_000
    links = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"'`)]*", text))
    assert links <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"\b(fetch|XMLHttpRequest|importScripts|eval)\s*\(", text)


@pytest.mark.parametrize("name", ALL)
def test_fallback_picture(name):
    from PIL import Image

    assert name in explorable_fallbacks.MOMENTS
    with Image.open(FOLDER / f"{name}.png") as image:
        assert image.width == 2 * explorable_fallbacks.WIDTH and image.height > 500
        assert len(image.convert("RGB").getcolors(1 << 20)) > 50, "nothing is drawn"
    assert (FOLDER / f"{name}.png").stat().st_size < 200_000


def test_creatures_are_the_librarys_text():
    assert (FOLDER / "sprites.js").read_text("utf-8") == explorable_sprites.render(), (
        "run tools/explorable_sprites.py and tools/explorable_fallbacks.py"
    )


def test_palette_is_the_books():
    text = (FOLDER / "style.js").read_text("utf-8")
    light, dark = text.split('html[data-theme="dark"] .amx {')[:2]
    for theme, css in (("light", light), ("dark", dark)):
        for key in ("memory", "query", "trajectory", "energy", "wrong"):
            found = re.search(rf"--amx-{key}: (#\w{{6}});", css)[1]
            assert found.lower() == THEMES[theme][key].lower(), (theme, key)


# ------------------------------------------------------------------------------------- the numbers


def line_settings(count: int = 50) -> list[dict]:
    rng = np.random.default_rng(3)
    return [
        {
            "x": float(rng.uniform(-2.2, 2.2)),
            "m": rng.uniform(-1.8, 1.8, rng.integers(2, 5)).tolist(),
            "beta": float(np.exp(rng.uniform(np.log(0.3), np.log(30)))),
            "eta": float(rng.uniform(0.02, 2.5)),
        }
        for _ in range(count)
    ]


def plane_settings(count: int = 50) -> list[dict]:
    rng = np.random.default_rng(4)
    return [
        {
            "x": rng.uniform(-1.5, 1.5, 2).tolist(),
            "m": rng.uniform(-1.1, 1.1, (6, 2)).tolist(),
            "beta": float(np.exp(rng.uniform(np.log(0.5), np.log(100)))),
        }
        for _ in range(count)
    ]


def test_ball_has_the_librarys_numbers(maths):
    cases = line_settings()
    found = maths.call(
        "ball",
        """return a.map(({ x, m: memories, beta, eta }) => ({
             energy: m.energy(x, memories, beta), gradient: m.gradient(x, memories, beta),
             step: m.step(x, memories, beta, eta), weights: m.weights(x, memories, beta) }));""",
        cases,
    )
    for case, js in zip(cases, found, strict=True):
        x = torch.tensor([case["x"]], dtype=torch.float64)
        memories = torch.tensor(case["m"], dtype=torch.float64)[:, None]
        slope = float(lse_gradient(x, memories, beta=case["beta"]))
        assert js["energy"] == pytest.approx(
            float(lse_energy(x, memories, beta=case["beta"])), abs=1e-9
        )
        assert js["gradient"] == pytest.approx(slope, abs=1e-9)
        assert js["step"] == pytest.approx(case["x"] - case["eta"] * slope, abs=1e-9)
        assert js["weights"] == pytest.approx(
            lse_weights(x, memories, beta=case["beta"]).tolist(), abs=1e-9
        )


def test_ball_rolls_like_the_library_retrieves(maths):
    for case in line_settings(12):
        case["eta"] = min(case["eta"], 1.0)
        js = maths.call("ball", "return m.roll(a.x, a.m, a.beta, a.eta);", case)
        memory = DenseAM(torch.tensor(case["m"], dtype=torch.float64)[:, None], beta=case["beta"])
        steps = len(js["path"]) - 1
        x = torch.tensor([case["x"]], dtype=torch.float64)
        path = memory.recall(x, steps=max(1, steps), step_size=case["eta"], record=True).trajectory
        np.testing.assert_allclose(js["path"], path.states[: steps + 1, 0], atol=1e-8)
        np.testing.assert_allclose(js["energies"], path.energies[: steps + 1], atol=1e-8)


def test_ball_never_climbs_up_to_step_two(maths):
    """E'' <= 1 everywhere, so a step below 2 cannot raise the energy; above 2 it can."""
    cases = line_settings(200)
    rose = maths.call(
        "ball", "return a.map((s) => m.roll(s.x, s.m, s.beta, Math.min(s.eta, 1.99)).rose);", cases
    )
    assert set(rose) == {-1}
    assert maths.call("ball", "return m.roll(1.3, [-1, 1], 4, 2.2).rose;") > 0
    assert maths.call("ball", "return m.roll(2.1, [-0.1, 0.1], 4, 2.5).left;")


def test_ball_counts_valleys(maths):
    cases = line_settings(30)
    found = maths.call("ball", "return a.map((s) => m.landmarks(s.m, s.beta));", cases)
    for case, marks in zip(cases, found, strict=True):
        grid = torch.linspace(-1.9, 1.9, 20_001, dtype=torch.float64)[:, None]
        memories = torch.tensor(case["m"], dtype=torch.float64)[:, None]
        e = lse_energy(grid, memories, beta=case["beta"])
        low = grid[1:-1, 0][(e[1:-1] < e[:-2]) & (e[1:-1] <= e[2:])]
        np.testing.assert_allclose(marks["valleys"], low, atol=3e-4)
        assert len(marks["ridges"]) == len(marks["valleys"]) - 1


@pytest.mark.parametrize("a", [0.4, 1.0, 1.3])
def test_two_valleys_merge_at_one_over_a_squared(maths, a):
    said, found = maths.call("ball", "return [m.mergeBeta(-a, a), m.mergeBetas([-a, a])];", a)
    assert said == pytest.approx(1 / a**2)
    assert found == [pytest.approx(1 / a**2, rel=2e-3)]


def test_average_has_the_librarys_numbers(maths):
    cases = plane_settings()
    found = maths.call(
        "average",
        """const functions = ["energy", "gradient", "step", "weights", "curvature"];
           return a.map((s) =>
             Object.fromEntries(functions.map((f) => [f, m[f](s.x, s.m, s.beta)])));""",
        cases,
    )
    for case, js in zip(cases, found, strict=True):
        x = torch.tensor(case["x"], dtype=torch.float64)
        memories = torch.tensor(case["m"], dtype=torch.float64)
        slope = lse_gradient(x, memories, beta=case["beta"])
        one = DenseAM(memories, beta=case["beta"]).recall(x, steps=1, step_size=1.0).state
        energy = functools.partial(lse_energy, memories=memories, beta=case["beta"])
        bend = torch.autograd.functional.hessian(energy, x)
        assert js["energy"] == pytest.approx(
            float(lse_energy(x, memories, beta=case["beta"])), abs=1e-9
        )
        assert js["gradient"] == pytest.approx(slope.tolist(), abs=1e-9)
        assert js["step"] == pytest.approx(one.tolist(), abs=1e-9)
        assert js["weights"] == pytest.approx(
            lse_weights(x, memories, beta=case["beta"]).tolist(), abs=1e-9
        )
        assert js["curvature"] == pytest.approx(bend.flatten()[[0, 1, 3]].tolist(), abs=1e-7)


def brute_valleys(memories: list, beta: float) -> torch.Tensor:
    """End points of a long descent from a fine grid, those near one another counted once."""
    side = torch.linspace(-1.2, 1.2, 41, dtype=torch.float64) + 0.0137
    starts = torch.cartesian_prod(side, side)
    memory = DenseAM(torch.tensor(memories, dtype=torch.float64), beta=beta)
    ends = memory.recall(starts, steps=1500, step_size=1.0, tol=1e-11).state
    kept: list[torch.Tensor] = []
    for x in ends[torch.linalg.vector_norm(memory.gradient(ends), dim=-1) < 1e-9]:
        if all(torch.dist(x, y) > 1e-4 for y in kept):
            kept.append(x)
    return torch.stack(kept)


@pytest.mark.parametrize(
    ("beta", "count", "regime"),
    [
        (1, 1, "average"),
        (4, 2, "metastable"),
        (8, 3, "metastable"),
        (21, 7, "crowded"),
        (60, 6, "single"),
    ],
)
def test_average_finds_every_valley(maths, beta, count, regime):
    """The seven at beta 21 are no slip: the middle of three memories can be a valley of its own."""
    memories = maths.call("average", "return m.settingsFrom({}).m;")
    js = maths.call(
        "average",
        "const f = m.valleys(a.m, a.beta); return [f.map((v) => v.x), m.regime(f, 6)];",
        {"m": memories, "beta": beta},
    )
    brute = brute_valleys(memories, beta)
    assert len(js[0]) == count == len(brute)
    assert js[1] == regime
    assert max(torch.cdist(torch.tensor(js[0], dtype=torch.float64), brute).amin(1)) < 1e-6


def test_average_tells_the_story_of_its_question(maths):
    """At 60 six memories, at 8 two averages and F itself; the trio fuses near 21."""
    told = maths.call(
        "average",
        """const s = m.settingsFrom({});
           return [60, 8].map((b) => m.tell(m.valleys(s.m, b), s.m, b).join(' '));""",
    )
    assert told[0].startswith("Six single memories.")
    assert "the average of A+B+C, the average of D+E, and F itself" in told[1]
    trio = maths.call(
        "average",
        """const trio = m.settingsFrom({}).m.slice(0, 3);
           return [20.2, 22.1].map((b) => m.valleys(trio, b).length);""",
    )
    assert trio == [1, 3]


# ------------------------------------------------------------------------ capacity: the same bits

SEPARATION = {"2": Polynomial(2), "3": Polynomial(3), "4": Polynomial(4), "exp": Exponential()}
EXPERIMENT = """
const text = (spins) => [...spins].map((s) => (s > 0 ? '+' : '-')).join('');
return a.map((s) => {
  const rows = m.storedPatterns({ ...s, who: s.who - 1 });
  const cue = m.cueFrom(rows.subarray(0, m.D), s.noise / 100, s.seed);
  const order = m.visitOrder(s.seed);
  const run = m.recall(rows, s.k, cue, order, s.n);
  return { rows: text(rows), cue: text(cue), state: text(run.state), overlaps: [...run.overlaps],
    order: [...order.subarray(0, run.visits)], visits: run.visits, energies: run.energies };
});"""


def spins(text: str) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(text.encode(), np.uint8) == ord("+")).double() * 2 - 1


def capacity_settings() -> list[dict]:
    rng = np.random.default_rng(5)
    return [
        {
            "k": int(rng.choice([1, 2, 3, 4, 6, 12, 25, 50, 90, 140, 200])),
            "n": ["2", "3", "4", "exp"][i % 4],
            "crowd": ["creatures", "noise"][i // 4 % 2],
            "who": int(rng.integers(1, 201)),
            "noise": int(rng.choice([0, 5, 15, 30, 45, 50, 60])),
            "seed": i + 1,
        }
        for i in range(50)
    ]


def test_creatures_unpack_to_the_librarys(maths):
    js = maths.call("sprites", "return [m.SPRITE_NAMES, Array.from(m.unpackSprites())];")
    creatures = data.sprites(200)
    assert js[0] == creatures.names
    np.testing.assert_array_equal(np.reshape(js[1], (200, 576)), data.to_spins(creatures.images))


def test_recall_ends_in_the_librarys_bits(maths):
    """50 settings, the same order of visits: every bit, every overlap, both energies."""
    cases = capacity_settings()
    creatures = data.to_spins(data.sprites(200).images).double()
    failures = 0
    for case, js in zip(cases, maths.call("capacity", EXPERIMENT, cases), strict=True):
        patterns = spins(js["rows"]).reshape(case["k"], 576)
        assert torch.equal(patterns[0], creatures[case["who"] - 1])
        if case["crowd"] == "creatures":
            others = [i for i in range(200) if i != case["who"] - 1][: case["k"] - 1]
            assert torch.equal(patterns[1:], creatures[others])
        memory = DiscreteDenseAM(patterns, SEPARATION[case["n"]])
        cue = spins(js["cue"])
        assert int((cue != patterns[0]).sum()) == int(np.floor(case["noise"] / 100 * 576 + 0.5))
        out = memory.recall(cue, order=torch.tensor(js["order"]))
        assert torch.equal(out.state, spins(js["state"])), case
        assert js["overlaps"] == (patterns @ out.state).tolist()
        assert js["energies"][0] == pytest.approx(float(memory.energy(cue)), abs=1e-9)
        assert js["energies"][-1] == pytest.approx(float(out.energy), abs=1e-9)
        assert (np.diff(js["energies"]) <= 1e-9).all()
        assert out.converged or js["visits"] == 20 * 576
        failures += not torch.equal(out.state, patterns[0])
    assert 5 < failures < 45, "both outcomes must be among the settings"


def test_a_tie_keeps_its_bit(maths):
    """Two opposite patterns agree on every vote's size: nothing may flip, for any n."""
    body = """const one = m.storedPatterns({ k: 1, crowd: 'creatures', who: 0 });
      const rows = new Int8Array(2 * m.D);
      const half = Int8Array.from(one, (s, i) => (i % 2 ? s : -s));
      rows.set(one);
      rows.set(one.map((s) => -s), m.D);
      const flips = (n) => m.recall(rows, 2, half, m.visitOrder(1), n).flips.length;
      return ['2', '3', '4', 'exp'].map(flips);"""
    js = maths.call("capacity", body)
    creature = data.to_spins(data.sprites(1).images).double()[0]
    half = torch.where(torch.arange(576) % 2 == 1, creature, -creature)
    for n, flips in zip(SEPARATION, js, strict=True):
        memory = DiscreteDenseAM(torch.stack([creature, -creature]), SEPARATION[n])
        assert bool(memory.is_fixed_point(half)) == (flips == 0), n


def test_every_outcome_is_recognised(maths):
    body = """const rows = m.storedPatterns({ k: 9, crowd: 'noise', who: 4 });
      const row = (i) => rows.subarray(i * m.D, (i + 1) * m.D);
      const sum = (list, i) => list.reduce((s, mu) => s + rows[mu * m.D + i], 0);
      const vote = (list) => row(0).map((_, i) => (sum(list, i) >= 0 ? 1 : -1));
      const kind = (state) => m.recognise(rows, 9, state);
      const nearly = row(0).map((s, i) => (i < 9 ? -s : s));
      return { right: kind(nearly), swap: kind(row(3)), negative: kind(row(0).map((s) => -s)),
        mixture: kind(vote([1, 4, 7])), average: kind(vote([0, 1, 2, 3, 4, 5, 6, 7, 8])),
        nobody: kind(m.randomPatterns(1, 99)) };"""
    found = maths.call("capacity", body)
    assert {kind: found[kind]["kind"] for kind in found} == {kind: kind for kind in found}
    assert found["right"]["wrong"] == 9 and found["swap"]["who"] == [3]
    assert sorted(found["mixture"]["who"]) == [1, 4, 7]


def test_capacity_keeps_its_word(maths):
    """What the page says of its examples, whoever the creatures are."""
    kinds = maths.call(
        "capacity",
        """
      const kind = (s) => m.experiment(m.settingsFrom(s)).found.kind;
      const noise = (s) => kind({ crowd: 'noise', ...s });
      return { six: kind({}), twenty: kind({ k: 20 }), twenty3: kind({ k: 20, n: '3' }),
        limit: noise({ k: 100 }), limit3: noise({ k: 100, n: '3' }),
        all3: noise({ k: 200, n: '3' }),
        negative: kind({ k: 5, noise: 60 }), swap: kind({ n: 'exp', k: 200, noise: 45 }) };""",
    )
    assert kinds["six"] == kinds["twenty3"] == kinds["limit3"] == kinds["all3"] == "right"
    assert kinds["twenty"] not in ("right", "swap") and kinds["limit"] == "nobody"
    assert kinds["negative"] == "negative" and kinds["swap"] == "swap"


def test_curve_breaks_where_it_should(maths):
    """Among random patterns n = 2 holds at 0.09 D, fails at 0.22 D, and n = 3 holds to 200."""
    curves = maths.call(
        "capacity",
        """
      const run = (n, crowd) => {
        const work = m.measureCurve(n, crowd, 0.15);
        let step = work.next();
        while (!step.done) step = work.next();
        return step.value;
      };
      return { k: m.CURVE_K, noise2: run('2', 'noise'), noise3: run('3', 'noise'),
        creatures2: run('2', 'creatures') };""",
    )
    at = {key: dict(zip(curves["k"], curves[key], strict=True)) for key in curves}
    assert at["noise2"][50] < 0.01 < 0.1 < at["noise2"][125]
    assert max(at["noise3"].values()) < 0.01
    assert at["creatures2"][25] > 0.15, "creatures crowd each other far below 0.138 D = 79"


@pytest.mark.parametrize("name", ALL)
def test_runs_inline_as_the_book_writes_it(chromium, base, name):
    """The directive pours the modules into one inline script: that text runs as well."""
    script = amtutor_site.bundle(FOLDER / f"{name}.js", [])
    stage = Stage(chromium, base)
    stage.page.goto(f"{base}/stage")
    stage.page.evaluate(
        """(text) => document.body.append(Object.assign(document.createElement('script'),
             { type: 'module', textContent: text }))""",
        f"{script}\n${name}.mount(document.getElementById('place'), {{}});",
    )
    stage.page.wait_for_selector(".amx")
    assert len(stage.rest().said()) > 20
    assert not stage.wrong
    stage.context.close()
