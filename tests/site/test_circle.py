"""The circle in the page is the library's: same valleys, same heights, same names of points."""

from __future__ import annotations

import math

import pytest
import torch

from amtutor.generative import phases
from amtutor.memory.dense import lse_energy, lse_gradient
from amtutor.memory.minima import lse_hessian, lse_minima

EXPLORABLE = "circle"
CASES = [
    {"k": k, "sigma": sigma, "seed": seed, "spread": spread}
    for seed, (k, sigma, spread) in enumerate(
        [(1, 0.2, "random"), (2, 0.3, "random"), (3, 0.722, "even"), (5, 0.12, "random"),
         (9, 0.12, "random"), (9, 0.5, "random"), (9, 0.12, "even"), (14, 0.05, "random"),
         (14, 0.2, "random"), (30, 0.1, "random"), (30, 0.1, "even"), (60, 0.1, "random"),
         (100, 0.1, "random"), (120, 0.05, "random"), (6, 0.8, "random"), (40, 0.9, "even")]
    )
]  # fmt: skip


def points(turns):
    angle = torch.tensor(turns, dtype=torch.float64)
    return torch.stack([angle.cos(), angle.sin()], -1)


def valley(data, sigma):
    path = phases.valley_around(
        lambda x: -lse_gradient(x, data, beta=sigma**-2), n=360, dtype=torch.float64
    )
    return path, lse_energy(path, data, beta=sigma**-2) / sigma**2


@pytest.mark.parametrize("case", CASES)
def test_energy_slope_and_curvature_are_the_librarys(module, case):
    turns = module.evaluate("(s) => T.angles(s)", case)
    data, sigma = points(turns), case["sigma"]
    for place in ([0.2, -0.4], [1.1, 0.3], [0.0, 0.0]):
        x = torch.tensor(place, dtype=torch.float64)
        energy, mean, bend = module.evaluate(
            "([x, a, s]) => T.ground(x, a, s)", [place, turns, sigma]
        )
        assert energy == pytest.approx(float(lse_energy(x, data, beta=sigma**-2)), abs=1e-9)
        slope = x - torch.tensor(mean, dtype=torch.float64)
        assert slope.tolist() == pytest.approx(
            lse_gradient(x, data, beta=sigma**-2).tolist(), abs=1e-9
        )
        h = lse_hessian(x, data, beta=sigma**-2)
        assert bend == pytest.approx([float(h[0, 0]), float(h[0, 1]), float(h[1, 1])], abs=1e-7)


@pytest.mark.parametrize("case", CASES)
def test_heights_and_names_are_the_librarys(module, case):
    code = """(s) => {
      const f = T.look(s);
      return { ...f, h: [...f.way.height], r: [...f.way.radius] };
    }"""
    found = module.evaluate(code, case)
    data, sigma = points(found["turns"]), case["sigma"]
    path, height = valley(data, sigma)
    assert found["r"] == pytest.approx(path.norm(dim=1).tolist(), abs=1e-6)
    assert found["h"] == pytest.approx(height.tolist(), abs=1e-6)
    names = phases.classify_on_ring(data, data, height, noise=sigma)
    if case["spread"] == "random":  # evenly spaced points make ties that rounding decides
        assert found["kinds"] == names.tolist()
    assert found["shares"] == pytest.approx(
        [found["kinds"].count(kind) / len(data) for kind in range(3)]
    )


@pytest.mark.parametrize("case", CASES)
def test_valleys_are_all_there_are(module, case):
    found = module.evaluate("(s) => T.look(s)", case)
    proved = lse_minima(points(found["turns"]), beta=case["sigma"] ** -2)
    assert proved.certain
    places = torch.tensor(found["bowls"], dtype=torch.float64)
    assert len(places) == len(proved)
    assert torch.cdist(places, proved.positions).min(1).values.max() < 1e-5


def test_settings_from_anything(module):
    good = {"k": 9, "sigma": 0.12, "seed": 5, "spread": "random"}
    for bad in ({}, {"k": "x", "sigma": -1}, {"k": 1e9, "seed": "-3", "spread": "square"}):
        assert module.evaluate("(s) => T.settingsFrom(s)", bad) == good
    given = module.evaluate(
        "(s) => T.settingsFrom(s)", {"k": "40", "sigma": "0.3", "spread": "even"}
    )
    assert given == {"k": 40, "sigma": 0.3, "seed": 5, "spread": "even"}


def test_words(module):
    say = "(s) => T.tell(T.look(s), s)"
    lead, rest, kind = module.evaluate(say, {"k": 5, "sigma": 0.05, "seed": 1, "spread": "even"})
    assert lead == "5 points, 5 valleys." and "memorised" in rest and kind == "good"
    lead, rest, _ = module.evaluate(say, {"k": 40, "sigma": 0.9, "seed": 1, "spread": "even"})
    assert lead == "40 points, 1 valley." and "middle" in rest
    lead, rest, _ = module.evaluate(say, {"k": 120, "sigma": 0.15, "seed": 1, "spread": "random"})
    assert "generalised" in rest
    shares = module.evaluate("(s) => T.look(s).shares", CASES[8])
    assert math.isclose(sum(shares), 1)


def test_a_slider_changes_picture_sentence_and_address(stage):
    shown = stage("circle").rest()
    before = shown.picture()
    shown.page.locator("input[data-name=sigma]").press("End")
    assert shown.settings()["sigma"] == 1 and shown.picture() != before
    assert "middle" in shown.said()
    shown.page.wait_for_timeout(250)
    assert "#circle?" in shown.page.url and not shown.wrong
