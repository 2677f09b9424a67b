"""The explorables: their numbers are the library's, and they answer to every kind of hand."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from amtutor import data
from amtutor.dense import DenseAM, lse_energy, lse_gradient, lse_weights
from amtutor.discrete import DiscreteDenseAM, Exponential, Polynomial
from amtutor.show.style import THEMES

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "book" / "_static" / "explorables"
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "book" / "_ext")]

import amtutor_site  # noqa: E402
import explorable_fallbacks  # noqa: E402
import explorable_sprites  # noqa: E402
import shoot  # noqa: E402

NAMES = ("ball", "capacity", "average")
STAGE = """<!doctype html><html data-theme="light"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>stage</title>
<style>body { margin: 0; background: #fff } html[data-theme=dark] body { background: #14181e }</style>
<h2 id="a-heading">heading</h2><div id="place"><img alt="fallback"></div></html>"""
MOUNT = """async (name) => {
  const { mount } = await import(`/${name}.js`);
  window.hand = mount(document.getElementById('place'));
}"""
PICTURE = """() => [...document.querySelectorAll('.amx svg, .amx canvas')]
  .map((e) => e.tagName === 'CANVAS' ? e.toDataURL() : e.innerHTML).join()"""


@pytest.fixture(scope="module")
def base():
    with shoot.serve(FOLDER) as address:
        yield address


class Stage:
    """An empty page that holds one explorable, and everything that went wrong on it."""

    def __init__(self, chromium, base: str, **context):
        context = {"reduced_motion": "reduce", "viewport": {"width": 760, "height": 1400}, **context}
        self.context = chromium.new_context(**context)
        self.page = self.context.new_page()
        self.wrong: list[str] = []
        self.context.route("**/*", lambda route: self._gate(route, base))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.base = base

    def _gate(self, route, base: str) -> None:
        url = route.request.url
        if url == f"{base}/stage":
            route.fulfill(body=STAGE, content_type="text/html")
        elif url.startswith(base) or url.startswith("data:"):
            route.continue_()
        else:
            self.wrong.append(f"asks for {url}")
            route.abort()

    def mount(self, name: str, address: str = "") -> Stage:
        self.page.goto(f"{self.base}/stage{address}")
        self.page.evaluate(MOUNT, name)
        return self

    def rest(self) -> Stage:
        """Wait until the first run is over and nothing is left to be drawn."""
        self.page.wait_for_function("document.querySelector('.amx-say').textContent.trim().length > 9")
        self.page.evaluate("hand.measured?.()")
        self.page.wait_for_timeout(50)
        return self

    def call(self, name: str, body: str, argument=None):
        """Run `body` with the module `m` and `argument` `a`; returns its result."""
        if self.page.url == "about:blank":
            self.page.goto(f"{self.base}/stage")
        return self.page.evaluate(
            f"async ([name, a]) => {{ const m = await import(`/${{name}}.js`); {body} }}",
            [name, argument],
        )

    def settings(self) -> dict:
        return self.page.evaluate("hand.settings()")

    def picture(self) -> str:
        return self.page.evaluate(PICTURE)

    def said(self) -> str:
        self.page.wait_for_timeout(160)
        return self.page.locator(".amx-say").inner_text().replace("\u00a0", " ")


@pytest.fixture(scope="module")
def maths(chromium, base):
    """One page for everything that only computes."""
    stage = Stage(chromium, base)
    yield stage
    stage.context.close()


@pytest.fixture
def stage(chromium, base):
    made = []

    def open_stage(name: str, address: str = "", **context) -> Stage:
        made.append(Stage(chromium, base, **context))
        return made[-1].mount(name, address)

    yield open_stage
    for one in made:
        assert not one.wrong
        one.context.close()


# ------------------------------------------------------------------------- files, without a browser


@pytest.mark.parametrize("name", NAMES)
def test_light_self_contained_and_one_piece(name):
    text = amtutor_site.bundle(FOLDER / f"{name}.js", [])
    assert len(text.encode()) < 100_000
    links = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"'`)]*", text))
    assert links <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"\b(fetch|XMLHttpRequest|importScripts|eval)\s*\(", text)


@pytest.mark.parametrize("name", NAMES)
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
    text = (FOLDER / "common.js").read_text("utf-8")
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
        """return a.map((s) => ({ energy: m.energy(s.x, s.m, s.beta), gradient: m.gradient(s.x, s.m, s.beta),
             step: m.step(s.x, s.m, s.beta, s.eta), weights: m.weights(s.x, s.m, s.beta) }));""",
        cases,
    )
    for case, js in zip(cases, found, strict=True):
        x = torch.tensor([case["x"]], dtype=torch.float64)
        memories = torch.tensor(case["m"], dtype=torch.float64)[:, None]
        slope = float(lse_gradient(x, memories, beta=case["beta"]))
        assert js["energy"] == pytest.approx(float(lse_energy(x, memories, beta=case["beta"])), abs=1e-9)
        assert js["gradient"] == pytest.approx(slope, abs=1e-9)
        assert js["step"] == pytest.approx(case["x"] - case["eta"] * slope, abs=1e-9)
        assert js["weights"] == pytest.approx(lse_weights(x, memories, beta=case["beta"]).tolist(), abs=1e-9)


def test_ball_rolls_like_the_library_retrieves(maths):
    for case in line_settings(12):
        case["eta"] = min(case["eta"], 1.0)
        js = maths.call("ball", "return m.roll(a.x, a.m, a.beta, a.eta);", case)
        memory = DenseAM(torch.tensor(case["m"], dtype=torch.float64)[:, None], beta=case["beta"])
        steps = len(js["path"]) - 1
        x = torch.tensor([case["x"]], dtype=torch.float64)
        path = memory.retrieve(x, steps=max(1, steps), step_size=case["eta"], record=True).trajectory
        np.testing.assert_allclose(js["path"], path.states[: steps + 1, 0], atol=1e-8)
        np.testing.assert_allclose(js["energies"], path.energies[: steps + 1], atol=1e-8)


def test_ball_never_climbs_up_to_step_two(maths):
    """E'' <= 1 everywhere, so a step below 2 cannot raise the energy; above 2 it can."""
    cases = line_settings(200)
    rose = maths.call("ball", "return a.map((s) => m.roll(s.x, s.m, s.beta, Math.min(s.eta, 1.99)).rose);", cases)
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
        """return a.map((s) => Object.fromEntries(["energy", "gradient", "step", "weights", "curvature"]
             .map((f) => [f, m[f](s.x, s.m, s.beta)])));""",
        cases,
    )
    for case, js in zip(cases, found, strict=True):
        x = torch.tensor(case["x"], dtype=torch.float64)
        memories = torch.tensor(case["m"], dtype=torch.float64)
        slope = lse_gradient(x, memories, beta=case["beta"])
        one = DenseAM(memories, beta=case["beta"]).retrieve(x, steps=1, step_size=1.0).state
        bend = torch.autograd.functional.hessian(lambda y: lse_energy(y, memories, beta=case["beta"]), x)  # noqa: B023
        assert js["energy"] == pytest.approx(float(lse_energy(x, memories, beta=case["beta"])), abs=1e-9)
        assert js["gradient"] == pytest.approx(slope.tolist(), abs=1e-9)
        assert js["step"] == pytest.approx(one.tolist(), abs=1e-9)
        assert js["weights"] == pytest.approx(lse_weights(x, memories, beta=case["beta"]).tolist(), abs=1e-9)
        assert js["curvature"] == pytest.approx(bend.flatten()[[0, 1, 3]].tolist(), abs=1e-7)


def brute_valleys(memories: list, beta: float) -> torch.Tensor:
    """End points of a long descent from a fine grid, those near one another counted once."""
    side = torch.linspace(-1.2, 1.2, 41, dtype=torch.float64) + 0.0137
    starts = torch.cartesian_prod(side, side)
    memory = DenseAM(torch.tensor(memories, dtype=torch.float64), beta=beta)
    ends = memory.retrieve(starts, steps=1500, step_size=1.0, tol=1e-11).state
    kept: list[torch.Tensor] = []
    for x in ends[torch.linalg.vector_norm(memory.gradient(ends), dim=-1) < 1e-9]:
        if all(torch.dist(x, y) > 1e-4 for y in kept):
            kept.append(x)
    return torch.stack(kept)


@pytest.mark.parametrize(
    ("beta", "count", "regime"),
    [(1, 1, "average"), (4, 2, "metastable"), (8, 3, "metastable"), (21, 7, "crowded"), (60, 6, "single")],
)
def test_average_finds_every_valley(maths, beta, count, regime):
    """The seven at beta 21 are no slip: the middle of three memories can be a valley of its own."""
    memories = maths.call("average", "return m.settingsFrom({}).m;")
    js = maths.call("average", "const f = m.valleys(a.m, a.beta); return [f.map((v) => v.x), m.regime(f, 6)];",
                    {"m": memories, "beta": beta})
    brute = brute_valleys(memories, beta)
    assert len(js[0]) == count == len(brute)
    assert js[1] == regime
    assert max(torch.cdist(torch.tensor(js[0], dtype=torch.float64), brute).amin(1)) < 1e-6


def test_average_tells_the_story_of_its_question(maths):
    """At 60 six memories, at 8 the averages of A+B+C and D+E and F itself; the trio fuses near 21."""
    told = maths.call("average", "const s = m.settingsFrom({}); return [60, 8].map((b) => m.tell(m.valleys(s.m, b), s.m, b).join(' '));")
    assert told[0].startswith("Six single memories.")
    assert "the average of A+B+C, the average of D+E, and F itself" in told[1]
    trio = maths.call("average", "const s = m.settingsFrom({}); return [20.2, 22.1].map((b) => m.valleys(s.m.slice(0, 3), b).length);")
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
    order: [...order.subarray(0, run.visits)], visits: run.visits, energies: run.energies, flips: run.flips };
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
    body = """const a2 = m.storedPatterns({ k: 1, crowd: 'creatures', who: 0 }); const rows = new Int8Array(2 * m.D);
      const half = Int8Array.from(a2, (s, i) => (i % 2 ? s : -s));
      rows.set(a2); rows.set(Int8Array.from(a2, (s) => -s), m.D);
      return ['2', '3', '4', 'exp'].map((n) => m.recall(rows, 2, half, m.visitOrder(1), n).flips.length);"""
    js = maths.call("capacity", body)
    creature = data.to_spins(data.sprites(1).images).double()[0]
    half = torch.where(torch.arange(576) % 2 == 1, creature, -creature)
    for n, flips in zip(SEPARATION, js, strict=True):
        memory = DiscreteDenseAM(torch.stack([creature, -creature]), SEPARATION[n])
        assert bool(memory.is_fixed_point(half)) == (flips == 0), n


def test_every_outcome_is_recognised(maths):
    body = """const rows = m.storedPatterns({ k: 9, crowd: 'noise', who: 4 });
      const row = (i) => rows.subarray(i * m.D, (i + 1) * m.D);
      const vote = (list) => Int8Array.from({ length: m.D }, (_, i) => (list.reduce((s, mu) => s + rows[mu * m.D + i], 0) >= 0 ? 1 : -1));
      const kind = (state) => m.recognise(rows, 9, state);
      const nearly = Int8Array.from(row(0)); for (let i = 0; i < 9; i++) nearly[i] *= -1;
      return { right: kind(nearly), swap: kind(row(3)), negative: kind(row(0).map((s) => -s)), mixture: kind(vote([1, 4, 7])),
        average: kind(vote([0, 1, 2, 3, 4, 5, 6, 7, 8])), nobody: kind(m.randomPatterns(1, 99)) };"""
    found = maths.call("capacity", body)
    assert {kind: found[kind]["kind"] for kind in found} == {kind: kind for kind in found}
    assert found["right"]["wrong"] == 9 and found["swap"]["who"] == [3]
    assert sorted(found["mixture"]["who"]) == [1, 4, 7]


def test_capacity_keeps_its_word(maths):
    """What the page says of its examples, whoever the creatures are."""
    kinds = maths.call("capacity", """
      const kind = (s) => m.experiment(m.settingsFrom(s)).found.kind;
      return { six: kind({}), twenty: kind({ k: 20 }), twenty3: kind({ k: 20, n: '3' }), limit: kind({ crowd: 'noise', k: 100 }),
        limit3: kind({ crowd: 'noise', k: 100, n: '3' }), all3: kind({ crowd: 'noise', k: 200, n: '3' }),
        negative: kind({ k: 5, noise: 60 }), swap: kind({ n: 'exp', k: 200, noise: 45 }) };""")
    assert kinds["six"] == kinds["twenty3"] == kinds["limit3"] == kinds["all3"] == "right"
    assert kinds["twenty"] not in ("right", "swap") and kinds["limit"] == "nobody"
    assert kinds["negative"] == "negative" and kinds["swap"] == "swap"


def test_curve_breaks_where_it_should(maths):
    """Among random patterns n = 2 holds at 0.09 D, fails at 0.22 D, and n = 3 holds to 200."""
    curves = maths.call("capacity", """
      const run = (n, crowd) => { const work = m.measureCurve(n, crowd, 0.15); let s; do s = work.next(); while (!s.done); return s.value; };
      return { k: m.CURVE_K, noise2: run('2', 'noise'), noise3: run('3', 'noise'), creatures2: run('2', 'creatures') };""")
    at = {key: dict(zip(curves["k"], curves[key], strict=True)) for key in curves}
    assert at["noise2"][50] < 0.01 < 0.1 < at["noise2"][125]
    assert max(at["noise3"].values()) < 0.01
    assert at["creatures2"][25] > 0.15, "creatures crowd each other far below 0.14 D = 81"


# ---------------------------------------------------------------------------------------- the hands


@pytest.mark.parametrize("name", NAMES)
def test_runs_by_itself_and_takes_the_place_of_the_fallback(stage, name):
    shown = stage(name).rest()
    assert shown.page.locator("#place img").count() == 0
    assert len(shown.said()) > 20, "it runs and says what happened, untouched"
    assert shown.page.url.endswith("/stage"), "no address before the first touch"
    assert shown.page.locator("[data-answer]:visible").count() == 2, "a question comes first"


@pytest.mark.parametrize("name", NAMES)
def test_every_slider_and_choice_moves_the_picture(stage, name):
    page = (shown := stage(name).rest()).page
    hands = page.locator(".amx input[type=range], .amx [role=slider]")
    assert hands.count() >= 2
    for i in range(hands.count()):
        before = shown.picture()
        hands.nth(i).focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(60)
        assert shown.picture() != before, hands.nth(i).get_attribute("aria-label")
    for radio in page.locator("input[type=radio]:not(:checked):not([data-name=brush])").all():
        before = shown.picture()
        radio.check(force=True)
        page.wait_for_timeout(120)
        assert shown.picture() != before


@pytest.mark.parametrize("name", NAMES)
def test_hands_are_named_and_reachable(stage, name):
    page = stage(name).page
    names = page.evaluate(
        """() => [...document.querySelectorAll('.amx :is(input, button, [tabindex="0"])')].map((e) =>
             e.getAttribute('aria-label') || e.labels?.[0]?.textContent || e.textContent)"""
    )
    assert all(text and text.strip() for text in names)
    page.keyboard.press("Tab")
    for _ in range(8):
        ring = page.evaluate(
            """() => { const e = document.activeElement; const s = getComputedStyle(e);
              const inner = e.querySelector?.('.amx-ring'); const near = e.closest('.cue, .amx-choice label');
              return [s.outlineStyle, s.boxShadow, inner && getComputedStyle(inner).strokeWidth,
                e.matches('input[type=range]') && 'thumb', near && getComputedStyle(near).outlineStyle, e.matches('input[type=radio]') && 'span'].join(); }"""
        )
        assert re.search(r"solid|4px|thumb|span", ring), "no focus ring"
        page.keyboard.press("Tab")
    status = page.locator(".amx-say")
    assert status.get_attribute("role") == "status" and status.get_attribute("aria-live") == "polite"


CHANGED = {
    "ball": ("#ball?beta=2.5&eta=0.4&x=0.8&m=-1.2,0.1,1.4", {"beta": 2.5, "eta": 0.4, "x": 0.8, "m": [-1.2, 0.1, 1.4]}),
    "capacity": ("#capacity?k=44&n=4&noise=30&crowd=noise&who=7", {"k": 44, "n": "4", "noise": 30, "crowd": "noise", "who": 7}),
    "average": ("#average?beta=12.5&q=0.3,-0.2", {"beta": 12.5, "q": [0.3, -0.2]}),
}


@pytest.mark.parametrize("name", NAMES)
def test_settings_travel_in_the_address(stage, name):
    address, expected = CHANGED[name]
    shown = stage(name, address)
    assert expected.items() <= shown.settings().items()
    slider = shown.page.locator(".amx input[type=range]").first
    slider.focus()
    shown.page.keyboard.press("ArrowRight")
    shown.page.wait_for_timeout(300)
    written = shown.page.evaluate("location.hash")
    assert written.startswith(f"#{name}?") and written != address
    again = stage(name, written)
    assert again.settings() == shown.settings()
    assert again.page.evaluate("history.length") == 2  # the blank page and this one: nothing was pushed
    shown.page.get_by_role("button", name="Reset").click()
    shown.page.wait_for_timeout(300)
    assert shown.page.evaluate("location.hash") == ""
    assert shown.settings() == stage(name).settings()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rest", ["beta=nan&k=-3&x=1e9&m=1,2,oops&q=5", "beta=&n=7&crowd=bears&who=0.5&eta=-1&q=1,2,3"])
def test_nonsense_in_the_address_is_ignored(stage, name, rest):
    assert stage(name, f"#{name}?{rest}").settings() == stage(name).settings()


@pytest.mark.parametrize("name", NAMES)
def test_other_addresses_are_left_alone(stage, name):
    shown = stage(name, "#a-heading")
    assert shown.page.evaluate("location.hash") == "#a-heading"
    assert shown.settings() == stage(name).settings()
    shown.page.evaluate("(h) => { location.hash = h; }", CHANGED[name][0])
    shown.page.wait_for_timeout(200)
    assert CHANGED[name][1].items() <= shown.settings().items(), "a link in the text sets it"


@pytest.mark.parametrize("name", NAMES)
def test_the_question_is_answered_and_nothing_shifts(stage, name):
    shown = stage(name).rest()
    height = "document.querySelector('.amx').offsetHeight"
    before, picture = shown.page.evaluate(height), shown.picture()
    shown.page.locator("[data-answer]").nth(1).click()
    shown.page.wait_for_timeout(500)
    assert shown.page.locator("[data-answer]:visible").count() == 0
    assert shown.page.locator(".amx-ask .amx-on").inner_text().strip()
    assert shown.picture() != picture
    assert shown.page.evaluate(height) == before
    shown.page.get_by_role("button", name="Ask me again").locator("visible=true").click()
    assert shown.page.locator("[data-answer]:visible").count() == 2


SAYS = {
    "ball": {"a step that is too long": "no descent", "the very top of a ridge": "does not move", "four memories": "remembered"},
    "capacity": {"the limit of 0.14 D": "Nobody", "n = 3 at the same place": "Every pixel is back", "a negative": "negative of", "a swap": "not the one that was asked for"},
    "average": {"three clusters": "three clusters", "one average": "One average", "a valley too many": "More valleys than memories"},
}


@pytest.mark.parametrize("name", NAMES)
def test_each_thing_to_try_says_what_happened(stage, name):
    shown = stage(name).rest()
    tries = shown.page.locator(".amx-try button")
    assert tries.all_inner_texts() == list(SAYS[name])
    height = shown.page.evaluate("document.querySelector('.amx').offsetHeight")
    for i, words in enumerate(SAYS[name].values()):
        tries.nth(i).click()
        assert words in shown.said()
        assert shown.page.evaluate("document.querySelector('.amx').offsetHeight") == height
    shown.page.get_by_role("button", name="Reset").click()
    assert shown.settings() == stage(name).settings()


@pytest.mark.parametrize("name", NAMES)
def test_dark_mode_recolours_at_once(stage, name):
    shown = stage(name).rest()
    look = "(k) => getComputedStyle(document.querySelector('.amx')).getPropertyValue(`--amx-${k}`).trim()"
    light = shown.page.locator(".amx").screenshot()
    assert shown.page.evaluate(look, "memory").lower() == THEMES["light"]["memory"].lower()
    canvases = "() => [...document.querySelectorAll('.amx canvas')].map((e) => e.toDataURL()).join()"
    drawn = shown.page.evaluate(canvases)
    shown.page.evaluate("document.documentElement.dataset.theme = 'dark'")
    shown.page.wait_for_timeout(150)
    assert shown.page.evaluate(look, "memory").lower() == THEMES["dark"]["memory"].lower()
    assert shown.page.locator(".amx").screenshot() != light
    assert name == "ball" or shown.page.evaluate(canvases) != drawn


@pytest.mark.parametrize("width", [350, 390])
@pytest.mark.parametrize("name", NAMES)
def test_fits_a_phone_and_obeys_a_finger(stage, name, width):
    shown = stage(name, viewport={"width": width, "height": 800}, has_touch=True, is_mobile=True).rest()
    page = shown.page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    touch = "(s) => getComputedStyle(document.querySelector(s)).touchAction"
    grip = {"ball": ".marble", "capacity": ".cue", "average": ".query"}[name]
    assert page.evaluate(touch, grip) == "none"
    small = page.evaluate(
        """() => [...document.querySelectorAll('.amx :is(button, input[type=range], .amx-choice label)')]
             .filter((e) => { const b = e.getBoundingClientRect(); return b.height && (b.height < 24 || b.width < 24); }).map((e) => e.textContent)"""
    )
    assert not small, "too small for a finger"
    place = page.locator({"ball": ".plot", "capacity": ".cue canvas", "average": ".plot svg"}[name])
    place.scroll_into_view_if_needed()
    box = place.bounding_box()
    before = shown.picture()
    page.touchscreen.tap(box["x"] + 0.4 * box["width"], box["y"] + 0.4 * box["height"])
    page.wait_for_timeout(200)
    assert shown.picture() != before


@pytest.mark.parametrize(("name", "grip", "key"), [("ball", ".marble", "x"), ("ball", ".memory >> nth=0", "m"), ("average", ".query", "q"), ("average", ".memory >> nth=5", "m")])
def test_drag_by_mouse(stage, name, grip, key):
    shown = stage(name)
    before = shown.settings()
    box = shown.page.locator(f"{grip} >> .dot").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    shown.page.mouse.move(x, y)
    shown.page.mouse.down()
    shown.page.mouse.move(x + 40, y - 20, steps=4)
    shown.page.mouse.up()
    shown.page.wait_for_timeout(200)
    after = shown.settings()
    assert after[key] != before[key]
    assert {k for k in after if after[k] != before[k]} == {key}


def test_rubbing_the_cue_erases_it(stage):
    shown = stage("capacity", "#capacity?noise=0&k=3")
    cue = shown.page.locator(".cue canvas")
    ink = "(e) => { const d = e.getContext('2d').getImageData(0, 0, 24, 24).data; let n = 0; for (let i = 0; i < d.length; i += 4) n += d[i + 2] < 128; return n; }"
    before, box = cue.evaluate(ink), cue.bounding_box()
    shown.page.mouse.move(box["x"] + 10, box["y"] + box["height"] / 2)
    shown.page.mouse.down()
    shown.page.mouse.move(box["x"] + box["width"] - 10, box["y"] + box["height"] / 2, steps=5)
    shown.page.mouse.up()
    rubbed = cue.evaluate(ink)
    assert rubbed < before - 15
    cue.focus()
    for _ in range(4):
        for key in ("ArrowUp", "ArrowUp", "ArrowLeft", "Space"):
            shown.page.keyboard.press(key)
    assert cue.evaluate(ink) < rubbed
    assert "Every pixel is back" in shown.said()
    shown.page.get_by_role("button", name="Clean cue").click()
    assert cue.evaluate(ink) == before


@pytest.mark.parametrize("name", NAMES)
def test_motion_moves_and_comes_to_rest(stage, name):
    shown = stage(name, reduced_motion="no-preference")
    first = shown.picture()
    shown.page.wait_for_timeout(500)
    assert shown.picture() != first, "it already runs"
    shown.page.wait_for_function("document.querySelector('.amx-say').textContent.trim().length > 20", timeout=20_000)
    shown.rest()
    rest = shown.picture()
    shown.page.wait_for_timeout(400)
    assert shown.picture() == rest


@pytest.mark.parametrize("name", NAMES)
def test_destroy_leaves_nothing(stage, name):
    shown = stage(name)
    shown.page.evaluate("hand.destroy()")
    shown.page.evaluate("document.documentElement.dataset.theme = 'dark'")
    shown.page.wait_for_timeout(100)
    assert shown.page.locator("#place *").count() == 0


@pytest.mark.parametrize("name", NAMES)
def test_runs_inline_as_the_book_writes_it(chromium, base, name):
    """The directive pours the modules into one inline script: that text runs as well."""
    script = amtutor_site.bundle(FOLDER / f"{name}.js", [])
    stage = Stage(chromium, base)
    stage.page.goto(f"{base}/stage")
    stage.page.evaluate(
        "(text) => document.body.append(Object.assign(document.createElement('script'), { type: 'module', textContent: text }))",
        f"{script}\n${name}.mount(document.getElementById('place'), {{}});",
    )
    stage.page.wait_for_selector(".amx")
    assert len(stage.said()) > 20
    assert not stage.wrong
    stage.context.close()
