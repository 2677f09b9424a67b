"""What every explorable does by itself: words that fit its picture, sleep, names, room."""

from __future__ import annotations

import re

import pytest
from explorable_stage import ALL, AT_REST

# ------------------------------------------------------------------------- words during a film

# One line for each change of what is said or of what state the explorable is in.
RECORD = """
() => {
  const root = document.querySelector('.amx');
  const say = document.querySelector('.amx-say');
  window.seen = [];
  const note = () => seen.push([root.dataset.state, say.textContent.trim()]);
  new MutationObserver(note).observe(root,
    { attributes: true, attributeFilter: ['data-state'], childList: true, subtree: true });
}
"""
WATCHING = "document.querySelector('.amx-on').textContent === 'Watch.'"
CHANGES = {
    "reset": "document.querySelector('.amx-reset').click()",
    "answer": "document.querySelector('[data-answer]').click()",
    "slider": """(() => {
        const range = document.querySelector('.amx input[type=range]');
        range.value = Number(range.value) > Number(range.min) ? range.min : range.max;
        range.dispatchEvent(new Event('input', { bubbles: true }));
    })()""",
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ALL)
def test_no_sentence_outlives_its_picture(stage, name, change):
    """Empty from the change to the end of what it starts, at every moment; then a full one. The
    state can be asked at once, too."""
    shown = stage(name).rest()
    page = shown.page
    page.emulate_media(reduced_motion="no-preference")
    before = page.locator(".amx-say").inner_text()
    assert before.strip()
    page.evaluate(RECORD)
    state, text = page.evaluate(
        f"""() => {{ {CHANGES[change]}; hand.state();
          return [document.querySelector('.amx').dataset.state,
                  document.querySelector('.amx-say').textContent.trim()]; }}"""
    )
    assert (state == "rest") == bool(text), "said at once only where all is shown at once"
    page.wait_for_function(f"{AT_REST} && !({WATCHING})", timeout=30_000)
    assert page.locator(".amx-say").inner_text().strip()
    early = [said for phase, said in page.evaluate("seen") if phase != "rest" and said]
    assert not early, f"said before the end: {early[0]}"


def test_axes_are_never_empty(stage):
    """What is measured in the page takes its time; until then the picture says so."""
    page = stage("capacity").page
    shown = page.evaluate(
        """() => {
      const plot = document.querySelector('.amx-capacity .curve svg');
      const look = () => [plot.querySelectorAll('.mine, .other').length,
                          plot.textContent.includes('measuring')];
      const seen = [look()];
      return new Promise((done) => {
        const next = () => {
          seen.push(look());
          if (seen.at(-1)[0] === 4) done(seen); else requestAnimationFrame(next);
        };
        next();
      });
    }"""
    )
    assert [0, True] in shown and all((curves == 0) == said for curves, said in shown)


# ----------------------------------------------------------------------- words against numbers


def number(text: str) -> float:
    return float(text.replace("−", "-"))


def clock(hour: float) -> str:
    minutes = min(24 * 60 - 1, int(hour * 60 + 0.5))
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def ball_agrees(said, state):
    if said.startswith("It does not move."):
        assert state["step"] == 0 and all(abs(state["x"] - v) > 0.1 for v in state["valleys"])
        return
    place = re.search(r"settled at x = (−?[\d.]+)", said) or re.search(r"x = (−?[\d.]+)", said)
    assert abs(number(place[1]) - state["x"]) <= 0.0051


def average_agrees(said, state):
    count = len(state["valleys"])
    words = {1: "One average", 3: "Metastable: three clusters", 6: "Six single memories"}
    assert said.startswith(words[count])
    assert sum(state["held"]) == 140 and len(state["held"]) == count


def capacity_agrees(said, state):
    lead = {"right": "This is ", "negative": "This is the negative", "swap": "This is ",
            "mixture": "A mixture", "nobody": "Nobody.", "average": ""}[state["kind"]]  # fmt: skip
    assert said.startswith(lead) and state["share"] == 1
    assert ("Every pixel is back" in said) == (state["kind"] == "right" and state["wrong"] == 0)


def tinybrain_agrees(said, state):
    best = max(range(3), key=lambda k: state["overlaps"][k])
    if remembered := re.match(r"It remembered ([ABC])", said):
        assert remembered[1] == "ABC"[best] and state["overlaps"][best] > 0.85
    else:
        assert f"rose in {state['rises'] or 'none'} of {state['step']} steps" in said


def dinosaur_agrees(said, state):
    assert state["step"] == 3000
    if alive := re.search(r"(\d+) of (\d+) memories are alive", said):  # and too few to draw
        assert int(alive[2]) - int(alive[1]) == state["dead"]
        return
    counts = {0: "Every one", 1: "One is dead"}
    assert counts.get(state["dead"], f"{state['dead']} are dead") in said


def tower_agrees(said, state):
    if state["sweep"] == 0:
        assert said.startswith("Nothing has moved yet.")
        return
    rose = f"rose in {state['rises'] or 'none of'} {'of ' if state['rises'] else ''}"
    assert f"{rose}{state['jumps']} jumps" in said
    if sure := re.search(r"it says (\d).*It is (\d+) % sure", said):
        assert int(sure[1]) == state["name"]
        assert int(sure[2]) == int(100 * state["share"] + 0.5)
    assert state["sweep"] == 12 or f"after {state['sweep']:.0f} of 12 sweeps" in said


def lottery_agrees(said, state):
    most = max(range(6), key=lambda k: state["shares"][k])
    assert said.startswith(f"{'ABCDEF'[most]} is drawn most often")
    assert int(re.search(r"in (\d+) %", said)[1]) == int(100 * state["shares"][most] + 0.5)


def questions_agrees(said, state):
    assert clock(state["x"]) in said and f"{state['y']:.1f} m" in said
    valleys = len(state["valleys"])
    assert valleys == 0 or (f"{valleys} valleys" if valleys > 1 else "one valley") in said


def tokens_agrees(said, state):
    assert state["step"] == 150
    listed = [int(n) for n in re.findall(r"(\d+) tokens?", said)]
    sizes = sorted((heap["size"] for heap in state["heaps"]), reverse=True)
    assert listed == sizes[: len(listed)] and sum(sizes) == 12


def pasttime_agrees(said, state):
    if state["time"] > 1 and state["past"] == "hold":
        assert f"moved more than {state['moved']:.2f}" in said
    elif state["time"] > 1 and state["past"] == "on":
        assert f"{state['gap']:.2f} from any memory" in said
    else:
        assert f"{abs(state['width']):.2f} wide" in said
        assert re.search(rf"\b{state['same']} (are nearest|of 60 are nearest)", said)


def fixedsize_agrees(said, state):
    assert f"Noise {state['noise']:.2f}," in said
    if state["nobodys"] == state["lost"] == 0:
        assert said.startswith(f"The list has the same {state['exact']} valley")
    assert (f"{state['nobodys']} valley" in said and "nobody stored" in said) == (
        state["nobodys"] > 0
    )
    assert (f"{state['lost']} of {state['exact']} valley" in said) == (state["lost"] > 0)


TWO_TRIANGLES = "-0.9,0.28,-1.142,-0.14,-0.658,-0.14,0.9,0.28,0.658,-0.14,1.142,-0.14"


def twolandscapes_agrees(said, state):
    left, right = len(state["lse"]), len(state["lsr"])
    assert said.startswith(f"LSE has {left} valley{'s' * (left != 1)}, LSR has {right}.")
    if kept := re.search(r"(\d+) of (\d+) (is|are)", said):
        made = re.search(r"(\d+) nobody stored", said)
        assert int(kept[2]) == right == int(kept[1]) + int(made[1])
    assert ("LSE has more valleys than memories" in said) == (left > 6)


def cells_agrees(said, state):
    assert state["steps"] == 10
    if len(state["owners"]) == 1:
        assert said.startswith("One valley.")
        return
    share = float(re.match(r"([\d.]+) %", said)[1])
    assert abs(share - 100 * state["agreement"]) <= 0.51
    assert ("own" in said) == (len(state["owners"]) < 6)


def circle_agrees(said, state):
    points = int(re.match(r"(\d+) point", said)[1])
    assert f"{state['valleys']} valley" in said and abs(sum(state["shares"]) - 1) < 1e-9
    for share, name in zip(state["shares"], ("memorised", "spurious"), strict=False):
        if told := re.search(rf"(\d+) % {name}", said):
            assert int(told[1]) == int(100 * share + 0.5)
    assert points >= 1


def stirring_agrees(said, state):
    assert state["share"] == 1
    assert f"Up {state['up']:.2f}, down {state['down']:.2f}." in said
    if said.startswith("Back at the same height."):
        assert abs(state["left"]) < 1e-3
        return
    assert f"{abs(state['left']):.2f}" in said
    if "colour inside" in said:
        assert abs(state["inside"] - state["left"]) < 0.02


def noclock_agrees(said, state):
    assert f"within {state['gap']:.3f} of a point" in said
    if told := re.search(r"(\d+) of 40 stopped early; half took (\d+) steps", said):
        assert [int(told[1]), int(told[2])] == [state["stopped"], state["taken"]]


AGREES = {
    "ball": (ball_agrees, ["", "beta=0.5", "x=1.3&beta=9&m=-1.5,0,1.2", "x=0"]),
    "average": (average_agrees, ["", "beta=8", "beta=1"]),
    "capacity": (capacity_agrees, ["", "k=20", "k=100&crowd=noise", "k=5&noise=60"]),
    "tinybrain": (tinybrain_agrees, ["", "beta=0.1", "way=one&beta=3&tau=2"]),
    "dinosaur": (dinosaur_agrees, ["", "noise=0.1", "k=10", "beta=8"]),
    "tower": (tower_agrees, ["", "sweep=0", "sweep=1", "told=2", "way=once", "sweep=3&way=once"]),
    "lottery": (lottery_agrees, ["", "sigma=0.2", "sigma=10"]),
    "questions": (questions_agrees, ["", "ask=y&x=10.5&y=3", "ask=none&x=12&y=3"]),
    "pasttime": (pasttime_agrees, ["", "time=1.6&past=on", "time=1.3&past=again", "time=0.5"]),
    "cells": (cells_agrees, ["", "beta=1", "beta=3", "beta=100"]),
    "circle": (circle_agrees, ["", "k=40&sigma=0.05", "k=1", "sigma=0.9", "k=7&spread=even"]),
    "stirring": (
        stirring_agrees,
        ["", "field=slope", "data=one&x=0.1&y=0.9&r=0.8", "loop=hand", "data=moons"],
    ),
    "noclock": (
        noclock_agrees,
        ["", "corner=0.95&eta=0.01&tol=0.4", "data=moons&field=cosine", "field=slope", "steps=10"],
    ),
    "tokens": (tokens_agrees, ["", "m=0&beta=0.3", "a=0"]),
    "fixedsize": (fixedsize_agrees, ["", "y=30", "y=1000", "y=10&beta=40&m=0,0"]),
    "twolandscapes": (
        twolandscapes_agrees,
        ["", "beta=1", "beta=40", f"beta=24&m={TWO_TRIANGLES}"],
    ),
}


@pytest.mark.parametrize("name", ALL)
def test_what_it_says_are_the_numbers_it_shows(stage, name):
    assert name in AGREES, "say here how its sentence and its state() agree"
    agrees, cases = AGREES[name]
    for settings in cases:
        shown = stage(name, f"#{name}?{settings}" if settings else "").rest()
        state = shown.page.evaluate("hand.state()")
        assert state["phase"] == "rest"
        agrees(shown.said(), state)


def test_the_tower_speaks_of_the_sweep_that_it_shows(stage):
    shown = stage("tower").rest()
    shown.page.locator("input[data-name=sweep]").press("Home")
    assert "Nothing has moved yet. It has the upper half" in shown.said()
    assert shown.page.evaluate("hand.state().share") == pytest.approx(0.1)
    for sweep in (1, 2):
        shown.page.locator("input[data-name=sweep]").press("ArrowRight")
        tower_agrees(shown.said(), shown.page.evaluate("hand.state()"))
        assert shown.page.evaluate("hand.state().sweep") == sweep
    shown.page.locator("input[data-name=digit]").press("ArrowRight")
    shown.rest()
    assert shown.settings()["sweep"] == 12, "another question runs to its end"


# ---------------------------------------------------------------------------------- out of sight

AWAY = {
    "scrolled away": ("document.body.style.paddingBottom = '9000px'; scrollTo(0, 6000)",
                      "scrollTo(0, 0)"),
    "in a hidden tab": ("window.hide(true)", "window.hide(false)"),
}  # fmt: skip
HIDE = """() => { window.hide = (yes) => {
  Object.defineProperty(document, 'visibilityState',
    { configurable: true, get: () => (yes ? 'hidden' : 'visible') });
  document.dispatchEvent(new Event('visibilitychange')); }; }"""


@pytest.mark.parametrize("way", AWAY)
@pytest.mark.parametrize("name", ALL)
def test_sleeps_out_of_sight_and_goes_on_after(stage, name, way):
    shown = stage(name, reduced_motion="no-preference")
    page = shown.page
    page.evaluate(HIDE)
    page.wait_for_function("document.querySelector('.amx').dataset.state === 'running'")
    leave, come_back = AWAY[way]
    page.evaluate(leave)
    page.wait_for_timeout(150)
    asleep, picture = page.evaluate("hand.state()"), shown.picture()
    if asleep["phase"] == "rest":
        pytest.skip("the film was over before it could be left")
    page.wait_for_timeout(500)
    assert page.evaluate("hand.state()") == asleep and shown.picture() == picture
    page.evaluate(come_back)
    shown.rest()
    assert shown.picture() != picture and shown.said().strip()


# ------------------------------------------------------------------------------- who cannot see it


@pytest.mark.parametrize("name", ALL)
def test_the_name_of_a_slider_is_not_its_value(stage, name):
    """As a screen reader gets it: the name is the label alone, the value is the value's text."""
    shown = stage(name).rest()
    session = shown.context.new_cdp_session(shown.page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    sliders = [n for n in nodes if n.get("role", {}).get("value") == "slider"]
    ranges = shown.page.locator(".amx input[type=range]")
    names = [n["name"]["value"] for n in sliders]
    texts = [n.get("value", {}).get("value") for n in sliders]
    assert len(sliders) == shown.page.locator(".amx [role=slider]").count() + ranges.count()
    for i in range(ranges.count()):
        label = ranges.nth(i).evaluate("e => e.labels[0].textContent")
        value = ranges.nth(i).get_attribute("aria-valuetext")
        assert label in names and value not in label and value.strip()
    assert all(name and str(text) for name, text in zip(names, texts, strict=True))
    output = shown.page.locator(".amx-slider output").first
    assert output.get_attribute("aria-hidden") == "true", "or it is read twice"


# ------------------------------------------------------------------------------------ small screens

# Texts of pictures that lie upon one another, or that leave the card; a pixel of air is enough.
CROWDED = """
() => {
  const card = document.querySelector('.amx').getBoundingClientRect();
  const texts = [...document.querySelectorAll('.amx svg text, .amx-name > *, .amx-title')]
    .filter((e) => e.getBoundingClientRect().width && getComputedStyle(e).visibility !== 'hidden')
    .map((e) => [e.textContent, e.getBoundingClientRect(), e.closest('[role=slider]')]);
  const out = texts.filter(([, box]) => box.right > card.right - 2 || box.left < card.left + 2)
    .map(([text]) => `${text} leaves the card`);
  // A line of text is taller than its letters: 3 pixels above and below are air.
  const over = (p, q) => Math.min(p.right, q.right) - Math.max(p.left, q.left) > 1
    && Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top) > 3;
  texts.forEach(([a, p, held], i) => texts.slice(i + 1).forEach(([b, q, other]) => {
    if (!held && !other && over(p, q)) out.push(`${a} on ${b}`);
  }));
  return out;
}
"""


@pytest.mark.parametrize("width", [320, 390, 760])
@pytest.mark.parametrize("name", ALL)
def test_no_text_on_another_or_outside(stage, name, width):
    shown = stage(name, viewport={"width": width, "height": 1400}).rest()
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= width
    assert shown.page.evaluate(CROWDED) == []
