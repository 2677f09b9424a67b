"""The tower in the page is the library's: same states, same energies, same answers."""

from __future__ import annotations

import random
import sys

import pytest
import torch
from explorable_stage import ROOT

sys.path.insert(0, str(ROOT / "tools"))

import explorable_tower
from amtutor.data import split_digits
from amtutor.network.towers import ask, load, pixels, tower

EXPLORABLE = "tower"
DOUBLE = torch.float64
SEEN = {"whole": None, "top": 0, "left": 2, "none": 4}


@pytest.fixture(scope="module")
def ham(module):
    """The library's tower with the weights that the page has."""
    found = module.evaluate("T.parameters()")
    made = tower(**explorable_tower.SIZES).double()
    state = made.state_dict()
    for key, name in explorable_tower.NAMES.items():
        state[key].copy_(torch.tensor(found[name], dtype=DOUBLE).reshape(state[key].shape))
    for key, p in load("small").state_dict().items():
        assert torch.allclose(state[key].float(), p, rtol=1e-6), "page and package differ"
    return made.requires_grad_(False)


@pytest.fixture(scope="module")
def ten(module):
    found = module.evaluate("import('./tower_weights.js').then((w) => w.TOWER_DIGITS)")
    return torch.tensor(found, dtype=DOUBLE).reshape(10, 1, 8, 8) / 16


def question(ham, ten, settings):
    """The same question for the library."""
    seen = torch.ones(1, 8, 8, dtype=torch.bool)
    if SEEN[settings["seen"]] is not None:
        seen = explorable_tower.halves()[SEEN[settings["seen"]]]
    told = torch.tensor([settings["told"]])
    x = ten[settings["digit"]][None]
    return ask(ham, x, told if settings["told"] >= 0 else None, seen=seen)


DICE = random.Random(12)
CASES = [
    {"digit": d, "seen": seen, "told": told}
    for d, seen, told in [(3, "top", -1), (3, "top", 2), (7, "left", -1), (0, "whole", -1),
                          (5, "none", 8), (4, "left", 9), (6, "none", -1)]
] + [
    {"digit": DICE.randrange(10), "seen": DICE.choice(list(SEEN)), "told": DICE.randrange(-1, 10)}
    for _ in range(50)
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(map(str, c.values())))
def test_states_and_energies_are_the_librarys(module, ham, ten, case):
    js = module.evaluate(
        """(s) => { const r = T.run(T.settingsFrom(s));
             return { end: r.film.at(-1), trace: r.trace, rises: r.rises,
                      drawn: T.pixels(r.film.at(-1)) }; }""",
        case,
    )
    states, clamp = question(ham, ten, case)
    run = ham.settle(states, steps=12, clamp=clamp, record=True)
    energies = torch.tensor([e["total"] for e in js["trace"]], dtype=DOUBLE)
    assert torch.allclose(energies, run.trajectory.energies[:, 0], atol=1e-8)
    for floor, x in run.state.items():
        assert torch.allclose(torch.tensor(js["end"][floor], dtype=DOUBLE), x.flatten(), atol=1e-8)
    parts = {"look": "Conv2d(image, features)", "pool": "Pool2d(features, pooled)",
             "up": "Dense(hidden, pooled)", "top": "Dense(label, hidden)"}  # fmt: skip
    for short, key in parts.items():
        found = torch.tensor([e[short] for e in js["trace"]], dtype=DOUBLE)
        assert torch.allclose(found, run.trajectory.components[key][:, 0], atol=1e-8)
    assert js["rises"] == []
    drawn = torch.tensor(js["drawn"], dtype=DOUBLE)
    assert torch.allclose(drawn, pixels(ham, run.state).flatten(), atol=1e-9)


@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(map(str, c.values())))
def test_all_at_once_is_the_librarys_giant_step(module, ham, ten, case):
    code = "(s) => { const r = T.run(T.settingsFrom({...s, way: 'once'})); return r.trace; }"
    trace = module.evaluate(code, case)
    states, clamp = question(ham, ten, case)
    film = ham.descend(states, steps=12, step_size=1.0, clamp=clamp, record=True).trajectory
    jumps = torch.tensor([e["total"] for e in trace[::2]], dtype=DOUBLE)
    assert torch.allclose(jumps, film.energies[:, 0], atol=1e-7)


def test_in_turns_no_question_of_the_page_raises_the_energy_and_at_once_some_do(module):
    code = """(way) => T && [...Array(10).keys()].flatMap((digit) =>
        ["whole", "top", "left", "none"].flatMap((seen) => [-1, 2].map((told) =>
          T.run(T.settingsFrom({digit, seen, told, way})).rises.length)))"""
    assert set(module.evaluate(code, "turns")) == {0}
    once = module.evaluate(code, "once")
    assert sum(n > 0 for n in once) > 0.8 * len(once)


def test_told_a_name_it_draws_that_name(module):
    """What the question of the page says, for all its digits: the lower half obeys the name."""
    (x, y), _ = split_digits("small")
    means = torch.stack([x[y == k].mean(0)[0, 4:] for k in range(10)]).double()
    code = """() => [...Array(10).keys()].flatMap((digit) => [...Array(10).keys()].map((told) =>
        T.pixels(T.run(T.settingsFrom({digit, told, seen: "top"})).film.at(-1))))"""
    drawn = torch.tensor(module.evaluate(code), dtype=DOUBLE).reshape(10, 10, 8, 8)[:, :, 4:]
    near = (drawn[:, :, None] - means).square().sum((-1, -2)).argmin(-1)
    obeyed = near == torch.arange(10)
    assert obeyed.double().mean() > 0.9
    assert bool(obeyed[3, 2]), "the question of the page"


def test_the_digits_were_never_learned_and_most_are_named(module, ten):
    (x, _), _ = split_digits("small")
    assert (ten[:, None].float() - x).abs().amax((2, 3, 4)).amin(1).min() > 0.1
    code = """() => [...Array(10).keys()].map((digit) => {
        const said = T.activations(T.run(T.settingsFrom({digit, seen: "whole"})).film.at(-1)).label;
        return said.indexOf(Math.max(...said)); })"""
    named = module.evaluate(code)
    assert sum(k == name for k, name in enumerate(named)) >= 9


def test_what_it_says_of_itself_was_measured(module, ham):
    said = module.evaluate("import('./tower_weights.js').then((w) => w.TOWER_MEASURED)")
    assert said == explorable_tower.measured(ham.float())
    ham.double()
    assert said["named"] > 0.93 and said["errorTold"] < said["error"]


def test_words(module):
    code = "(s) => { const g = T.settingsFrom(s); return T.tell(T.run(g), g); }"
    assert module.evaluate(code, {"told": 2})[0] == "It drew the rest as if it were a 2."
    assert (
        module.evaluate(code, {"seen": "none", "told": 8})[0]
        == "This is its picture of the name 8."
    )
    assert module.evaluate(code, {"way": "once"})[2] == "bad"
    assert "rose in none of 24" in module.evaluate(code, {})[1]


def test_foreign_settings_are_put_right(module):
    found = module.evaluate(
        "T.settingsFrom({digit: '12', seen: 'all', told: 'x', way: 'up', sweep: '-3'})"
    )
    assert found == {"digit": 3, "seen": "top", "told": -1, "way": "turns", "sweep": 12}


@pytest.mark.parametrize("width", [390, 760])
def test_every_hand_moves_the_picture_and_it_fits(stage, width):
    shown = stage("tower", viewport={"width": width, "height": 1400})
    page = shown.rest().page
    assert "it says 3" in shown.said()
    for name, key in (("sweep", "ArrowLeft"), ("digit", "ArrowRight"), ("told", "ArrowRight")):
        before = shown.picture()
        page.locator(f"input[data-name={name}]").focus()
        page.keyboard.press(key)
        page.wait_for_timeout(60)
        assert shown.picture() != before, name
    for value in ("whole", "left", "none", "once"):
        before = shown.picture()
        page.locator(f"input[value={value}]").check(force=True)
        page.wait_for_timeout(60)
        assert shown.picture() != before, value
    assert shown.settings()["way"] == "once" and "rose in" in shown.said()
    page.locator("[data-answer=two]").click()
    page.wait_for_timeout(60)
    assert "Yes: the foot of a 2" in page.locator(".amx-ask .amx-on").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.wait_for_timeout(200)
    assert "told=2" in page.url
    assert not shown.wrong
