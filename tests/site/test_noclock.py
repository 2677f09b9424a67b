"""A field with no clock: the arrows and the ways in the page are the library's."""

from __future__ import annotations

import random
import re
from functools import partial

import pytest
import torch
from explorable_stage import FOLDER

from amtutor.generative.equilibrium import best_field, cosine_decay, sample, truncated_decay
from amtutor.memory.dense import lse_energy

EXPLORABLE = "noclock"
DOUBLE = torch.float64


def settings(seed):
    dice = random.Random(seed)
    return {
        "data": dice.choice(["circle", "moons", "three"]),
        "field": dice.choice(["corner", "corner", "cosine"]),
        "corner": dice.choice([0, 0.8, round(0.95 * dice.random(), 2)]),
        "steps": dice.randint(5, 40),
        "eta": round(0.002 + 0.02 * dice.random(), 3),
        "tol": dice.choice([0, 0, round(dice.random(), 2)]),
        "x": round(dice.uniform(-2, 2), 2),
        "y": round(dice.uniform(-2, 2), 2),
    }


def decay(given):
    return (
        cosine_decay if given["field"] == "cosine" else partial(truncated_decay, a=given["corner"])
    )


def data(module, name):
    return torch.tensor(module.evaluate(f"T.DATA['{name}']"), dtype=DOUBLE)


@pytest.mark.parametrize("seed", range(60))
def test_arrows_are_those_of_the_best_field(module, seed):
    given = settings(seed)
    points = data(module, given["data"])
    g = torch.Generator().manual_seed(seed)
    places = 1.2 * torch.randn(6, 2, generator=g, dtype=DOUBLE)
    code = "([s, places]) => places.map(T.fieldOf(T.settingsFrom(s)))"
    found = torch.tensor(module.evaluate(code, [given, places.tolist()]), dtype=DOUBLE)
    wanted = best_field(places, points, schedule=decay(given), nodes=512)
    # The page leaves out shares of noise below 1e-3, and has the corner between two panels; the
    # library's error at the corner falls as 1 / nodes^2: 64^2 / 512^2 of 1e-4 of the field.
    assert (found - wanted).abs().max() < 2e-3 * wanted.abs().max()


@pytest.mark.parametrize("seed", range(200, 220))
def test_arrows_that_are_drawn_are_near_enough(module, seed):
    """Fewer nodes for the 225 of the picture: half a pixel off at most, where a unit is 0.86."""
    code = """([s, n]) => {
      const place = (_, i) => [(i % 15) / 3.5 - 2, i / 15 / 3.5 - 2];
      const places = Array.from({ length: 225 }, place);
      return places.map(T.fieldOf(T.settingsFrom(s), n));
    }"""
    few = int(re.search(r"const FEW = (\d+)", (FOLDER / "noclock.js").read_text("utf-8"))[1])
    drawn, fine = (torch.tensor(module.evaluate(code, [settings(seed), n])) for n in (few, 48))
    assert 0.86 * (drawn - fine).norm(dim=1).max() < 0.5


@pytest.mark.parametrize("seed", range(100, 106))
def test_ways_are_the_samplers(module, seed):
    given = settings(seed)
    points = data(module, given["data"])
    code = """(s) => {
      const now = T.settingsFrom(s);
      return T.walk([now.x, now.y], T.fieldOf(now), now);
    }"""
    states = torch.tensor(module.evaluate(code, given), dtype=DOUBLE)
    walk = sample(
        lambda x, labels: best_field(x, points, schedule=decay(given), nodes=256),
        states[:1],
        steps=given["steps"],
        step_size=given["eta"],
        tol=given["tol"] or None,
        record=True,
    )
    assert len(states) == int(walk.steps_taken) + 1
    # each step adds at most eta times the error of an arrow, and bowls pull errors together
    torch.testing.assert_close(states[-1:], walk.state, rtol=0, atol=5e-3)


def test_the_slope_is_that_of_an_energy(module):
    points = data(module, "three")
    x = torch.randn(9, 2, generator=torch.Generator().manual_seed(1), dtype=DOUBLE).requires_grad_()
    (wanted,) = torch.autograd.grad(4 * lse_energy(x, points, beta=16.0).sum(), x)
    code = "([places, points]) => places.map((z) => T.slope(z, points))"
    found = module.evaluate(code, [x.tolist(), points.tolist()])
    torch.testing.assert_close(torch.tensor(found, dtype=DOUBLE), wanted, rtol=1e-9, atol=1e-9)


def test_the_plane_fails_with_the_settings_of_pictures_and_not_with_a_late_corner(module):
    code = """(s) => {
      const now = T.settingsFrom(s);
      const walks = T.noise().map((z) => T.walk(z, T.fieldOf(now), now));
      return [T.facts(walks, now), T.tell(T.facts(walks, now), now)];
    }"""
    facts, (lead, rest, kind) = module.evaluate(code, {"eta": 0.02})
    assert facts["gap"] > 0.08 and kind == "bad" and "beside the data" in rest
    assert lead == "80 steps of 0.020: t = 1.60."
    facts, (_, _, kind) = module.evaluate(code, {"corner": 0.95, "steps": 100, "eta": 0.01})
    assert facts["gap"] < 0.03 and kind == "good"
    _, (_, rest, _) = module.evaluate(code, {"corner": 0.95, "eta": 0.05})
    assert "too long" in rest
    facts, (_, rest, _) = module.evaluate(code, {"data": "three", "tol": 0.3, "steps": 150})
    assert facts["stopped"] > 0 and f"{facts['stopped']} of 40 stopped early" in rest


def test_noise_is_as_wide_as_it_says(module):
    starts = torch.tensor(module.evaluate("T.noise()"), dtype=DOUBLE)
    assert starts.shape == (40, 2)
    # 80 numbers: their root mean square is off by about 1 / sqrt(160)
    assert abs(float(starts.square().mean().sqrt()) - 1) < 4 / 160**0.5


def test_foreign_settings_are_ignored(module):
    found = module.evaluate("T.settingsFrom({data: 'stars', corner: 2, steps: -1, x: 'no'})")
    assert found == module.evaluate("T.settingsFrom({})")


def test_hands_move_it_and_the_address_keeps_it(stage):
    shown = stage("noclock").rest()
    before = shown.picture()
    shown.page.locator('[aria-label^="A start of your own"]').press("ArrowRight")
    assert shown.settings()["x"] == 1.75 and shown.picture() != before
    shown.page.locator('input[data-name="corner"]').press("End")
    assert shown.settings()["corner"] == 0.95
    shown.page.wait_for_timeout(250)
    assert "#noclock?data=circle" in shown.page.url and "corner=0.95" in shown.page.url
    shown.page.locator('[data-answer="inside"]').click()
    assert "Yes, inside" in shown.page.locator(".amx-ask").inner_text()
    assert not shown.wrong
