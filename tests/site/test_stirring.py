"""Stirring the field: walks, colours and words of the page against the library's field."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from amtutor.generative.equilibrium import best_field, bowl
from amtutor.generative.fields import asymmetry, line_energy

EXPLORABLE = "stirring"
DOUBLE = torch.float64
SETS = ("one", "three", "moons")


def settings(count: int = 60) -> list[dict]:
    """Circles and loops by hand, over all fields and data, from one seed."""
    rng = np.random.default_rng(17)
    found = []
    for i in range(count):
        # the corners of a loop in order of their angles, at random distances
        angles = np.sort(rng.uniform(0, 2 * math.pi, rng.integers(3, 9)))
        far = rng.uniform(0.3, 2.2, len(angles))
        corners = np.stack([far * np.cos(angles), far * np.sin(angles)], 1).round(2)
        found.append(
            {
                "data": SETS[i % 3],
                "field": ("best", "best", "slope")[(i // 3) % 3],
                "loop": ("circle", "hand")[i % 2],
                "x": float(rng.uniform(-1.5, 1.5)),
                "y": float(rng.uniform(-1.5, 1.5)),
                "r": float(rng.uniform(0.2, 1.5)),
                "hand": corners.flatten().tolist(),
            }
        )
    return found


@pytest.fixture(scope="module")
def data(module):
    found = module.evaluate("T.DATA")
    return {name: torch.tensor(points, dtype=DOUBLE) for name, points in found.items()}


def soft_minimum(z, points):
    """The energy of the slope, by the library's bowls: beta 0.5, reach 2."""
    bowls = bowl(torch.linalg.vector_norm(z[:, None] - points, dim=-1), 2.0)
    return -2 * (-0.5 * bowls).logsumexp(1)


def field_of(case, data, nodes=128):
    points = data[case["data"]]
    if case["field"] == "best":
        return lambda z: best_field(z, points, nodes=nodes)  # right to about 1 / nodes^2

    def slope(z):
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            return torch.autograd.grad(soft_minimum(z, points).sum(), z)[0]

    return slope


def stops(case):
    """The loop as straight pieces; a circle has a corner every three degrees."""
    if case["loop"] == "hand":
        corners = torch.tensor(case["hand"], dtype=DOUBLE).reshape(-1, 2)
    else:
        turn = torch.linspace(0, 2 * math.pi, 121, dtype=DOUBLE)[:-1]
        corners = torch.stack([turn.cos(), turn.sin()], 1) * case["r"]
        corners = corners + torch.tensor([case["x"], case["y"]], dtype=DOUBLE)
    return corners, corners.roll(-1, 0)


@pytest.mark.parametrize("case", settings(), ids=lambda c: f"{c['data']}-{c['field']}-{c['loop']}")
def test_a_walk_is_the_librarys_line_integral(module, data, case):
    heights = module.evaluate("(s) => T.climbs(s)", case)
    begin, end = stops(case)
    panels = 1 if case["loop"] == "circle" else 12
    walk = line_energy(field_of(case, data), end, begin, panels=panels, nodes=2)
    left = -float(walk.energy.sum())
    length = float((end - begin).norm(dim=1).sum())
    # A polygon of 120 sides has 1 / 2190 less inside than its circle, and curls add up to some at
    # most. At the rim of a bowl a slope bends by 20 at once: a piece of 0.04 is off by
    # 20 * 0.04^2 / 8.
    close = {"best": 2e-3 + 1e-4 * length, "slope": 0.02}[case["field"]]
    assert heights[0] == 0 and heights[-1] == pytest.approx(left, abs=close)
    if case["field"] == "slope":
        assert abs(heights[-1]) < 0.02


@pytest.mark.parametrize("name", SETS)
def test_arrows_are_the_librarys(module, data, name):
    z = 1.5 * torch.randn(20, 2, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    for field, off in (("best", 1e-4), ("slope", 1e-12)):
        case = {"data": name, "field": field}
        code = "([places, s]) => places.map((z) => T.arrow(z, s))"
        found = torch.tensor(module.evaluate(code, [z.tolist(), case]), dtype=DOUBLE)
        wanted = field_of(case, data, nodes=600)(z)
        torch.testing.assert_close(found, wanted, rtol=0, atol=off)
    code = "([places, p]) => places.map((z) => T.energy(z, p))"
    points = data[name]
    found = torch.tensor(module.evaluate(code, [z.tolist(), points.tolist()]), dtype=DOUBLE)
    torch.testing.assert_close(found, soft_minimum(z, points), rtol=0, atol=1e-12)


FEW = [c for c in settings(40) if c["loop"] == "circle" and c["data"] != "moons"]


@pytest.mark.parametrize("case", FEW)
def test_the_colour_inside_is_what_is_left(module, case):
    """Stokes: the curl in a disc adds up to the climb round it."""
    left, inside = module.evaluate("(s) => [T.climbs(s).at(-1), T.inside(s)]", case)
    assert inside == pytest.approx(left, abs=0.02)


def test_a_lone_point_aside_turns_its_field_though_all_arrows_lead_to_it(module, data):
    case = {"data": "one", "field": "best"}
    points = data["one"]
    z = torch.tensor([[0.1, 0.9], [0.4, 1.3], [1.0, -0.4]], dtype=DOUBLE)
    arrows = field_of(case, data)(z)
    away = z - points
    cross = arrows[:, 0] * away[:, 1] - arrows[:, 1] * away[:, 0]
    assert (cross.abs() < 1e-9).all()
    assert (asymmetry(lambda y: best_field(y, points), z) > 0.01).all()
    turned = module.evaluate(
        "([places, s]) => places.map((z) => T.turning(z, s))", [z.tolist(), case]
    )
    assert all(abs(t) > 0.1 for t in turned)


def test_words(module):
    code = """(given) => {
      const s = T.settingsFrom(given);
      const f = T.facts(T.climbs(s));
      return [T.tell(f, s), f, T.inside(s)];
    }"""
    (lead, rest, kind), facts, inside = module.evaluate(code, {})
    assert f"{abs(facts['left']):.2f} higher" in lead and kind == "bad"
    assert f"Up {facts['up']:.2f}, down {facts['down']:.2f}." in rest and f"{inside:.2f}" in rest
    (lead, rest, kind), facts, _ = module.evaluate(code, {"field": "slope"})
    assert lead == "Back at the same height." and kind == "good" and abs(facts["left"]) < 1e-3
    (lead, rest, kind), facts, _ = module.evaluate(code, {"loop": "hand"})
    assert "colour inside" not in rest and abs(facts["up"] - facts["down"]) > 0
    assert module.evaluate(code, {"r": 0.1, "x": 0, "y": 2.3})[0][0] == "Nearly the same height."


def test_foreign_settings_are_ignored(module):
    for bad in ({"data": "two", "r": 9, "hand": "1,2,3"}, {"hand": "1,2,3,4,5,9"}, {"x": "no"}):
        assert module.evaluate("(s) => T.settingsFrom(s)", bad) == module.evaluate(
            "T.settingsFrom({})"
        )


def test_a_hand_draws_a_loop_and_the_address_keeps_it(stage):
    shown = stage("stirring", "#stirring?loop=hand").rest()
    before = shown.settings()["hand"]
    box = shown.page.locator(".amx-stirring .plot svg").bounding_box()
    mouse = shown.page.mouse
    mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.3 * box["height"])
    mouse.down()
    for u, v in ((0.7, 0.3), (0.7, 0.7), (0.3, 0.7)):
        mouse.move(box["x"] + u * box["width"], box["y"] + v * box["height"], steps=6)
    mouse.up()
    shown.rest()
    hand = shown.settings()["hand"]
    assert hand != before and len(hand) > 10
    shown.page.wait_for_timeout(250)
    assert "loop=hand" in shown.page.url and "hand=" in shown.page.url
    state = shown.page.evaluate("hand.state()")
    assert f"{abs(state['left']):.2f}" in shown.said()
    again = stage("stirring", shown.page.evaluate("location.hash")).rest()
    assert again.settings() == shown.settings()


def test_the_question(stage):
    shown = stage("stirring").rest()
    shown.page.locator('[data-answer="no"]').click()
    shown.rest()
    assert "No, it does not" in shown.page.locator(".amx-ask").inner_text()
    assert shown.settings()["data"] == "one" and not shown.wrong
