"""One energy, three questions: the page's numbers are the library's, and its words are true."""

from __future__ import annotations

import math

import pytest
import torch
from explorable_stage import FOLDER

from amtutor.descent import distinct
from amtutor.memory.prediction import mixed_energy, nadaraya_watson, recall

EXPLORABLE = "questions"
DOUBLE = torch.float64


@pytest.fixture(scope="module")
def notes(module):
    return torch.tensor(module.evaluate("T.NOTES"), dtype=DOUBLE)


def test_the_notebook_is_the_chapters(notes):
    """The same 72 notes that chapter 7 makes, as they are rounded there."""
    g = torch.Generator().manual_seed(7)
    hour = 24 * (torch.arange(72) + torch.rand(72, generator=g)) / 72
    height = 2.5 + 1.6 * torch.cos(2 * math.pi * (hour - 6.1) / 12.4)
    height = height + 0.12 * torch.randn(72, generator=g)
    assert notes[:, 0].tolist() == pytest.approx(hour.tolist(), abs=0.051)
    assert notes[:, 1].tolist() == pytest.approx(height.tolist(), abs=0.0051)


CASES = [
    (ask, beta, mix, x, y)
    for ask in ("x", "y", "none")
    for beta, mix, x, y in [(10, 0.3, 9, 4.2), (10, 0.3, 10.5, 3), (3, 0.1, 20, 0.5),
                            (80, 0.6, 3.3, 1.0)]
]  # fmt: skip


@pytest.mark.parametrize("ask, beta, mix, x, y", CASES)
def test_energy_and_descent_are_the_librarys(module, notes, ask, beta, mix, x, y):
    given = {"ask": ask, "beta": beta, "mix": mix, "x": x, "y": y}
    start = torch.tensor([x], dtype=DOUBLE), torch.tensor([y], dtype=DOUBLE)
    pairs = notes[:, :1], notes[:, 1:]
    energy = float(mixed_energy(*start, *pairs, beta=beta, mix=mix))
    assert module.evaluate("(s) => T.energy([s.x, s.y], s)", given) == pytest.approx(energy)
    path = module.evaluate("(s) => T.descend(s)", given)
    clamp = None if ask == "none" else ask
    found = recall(
        *start, *pairs, beta=beta, mix=mix, clamp=clamp, steps=len(path) - 1, record=True
    )
    assert path == [pytest.approx(row.tolist(), abs=1e-7) for row in found.trajectory.states]


@pytest.mark.parametrize("ask, beta, mix, x, y", [c for c in CASES if c[0] != "none"])
def test_valleys_and_averages_are_the_librarys(module, notes, ask, beta, mix, x, y):
    given = {"ask": ask, "beta": beta, "mix": mix, "x": x, "y": y}
    many = torch.linspace(0, 1, 61, dtype=DOUBLE)[:, None]
    one = torch.ones_like(many)
    start = (x * one, 5 * many) if ask == "x" else (24 * many, y * one)
    pairs = notes[:, :1], notes[:, 1:]
    found = recall(*start, *pairs, beta=beta, mix=mix, clamp=ask, steps=5000, tol=1e-9)
    free, width = (found.y, 0.05) if ask == "x" else (found.x, 0.24)
    ends = distinct(free, tol=width)[0].flatten().sort().values
    assert module.evaluate("(s) => T.answers(s)", given) == pytest.approx(ends.tolist(), abs=2e-2)
    a, b, share, held = (*pairs, mix, x) if ask == "x" else (*pairs[::-1], 1 - mix, y)
    mean = nadaraya_watson(torch.tensor([[held]], dtype=DOUBLE), a, b, beta=beta * share)
    assert module.evaluate("(s) => T.average(s)", given) == pytest.approx(float(mean))


@pytest.mark.parametrize("beta, mix", [(0.5, 0.5), (10, 0.3), (200, 0.02), (200, 0.98)])
def test_the_picture_has_the_energies_of_its_places(module, beta, mix):
    """Products instead of exponentials of sums: equal wherever the picture is not blank."""
    code = """([beta, mix]) => {
        const xs = [0, 3.1, 9, 14.2, 23.9], ys = [4.9, 2.6, 1, 0];
        const grid = [...T.energies({ xs, ys }, { beta, mix })];
        return [grid, ys.flatMap((y) => xs.map((x) => T.energy([x, y], { beta, mix })))];
    }"""
    grid, plain = module.evaluate(code, [beta, mix])
    drawn = [(a, b) for a, b in zip(grid, plain, strict=True) if b < 3]
    assert len(drawn) > 3
    assert [a for a, _ in drawn] == pytest.approx([b for _, b in drawn], abs=1e-9)
    assert all(a is None or a >= 3 for a, b in zip(grid, plain, strict=True) if b >= 3)


def test_words(module):
    say = "(s) => T.tell(T.descend(s), s)"
    base = {"beta": 10, "mix": 0.3}
    lead, rest, kind = module.evaluate(say, base | {"ask": "y", "x": 10.5, "y": 3})
    assert lead.startswith("It is 3.0 m high at 08:") and "One of 4 valleys" in rest
    assert "Their average is 12:36, when it stands at 0.9 m" in rest and kind == "good"
    lead, rest, _ = module.evaluate(say, base | {"ask": "x", "x": 6, "y": 1})
    assert lead == "At 06:00 the water stands at 4.1 m." and "one valley" in rest
    lead, _, _ = module.evaluate(say, base | {"ask": "none", "x": 12, "y": 3})
    assert lead.startswith("Did you mean")
    lead, _, kind = module.evaluate(say, base | {"ask": "none", "x": 6.2, "y": 4.1})
    assert (lead, kind) == ("This note looks right.", "good")


def test_settings_from_nonsense(module):
    found = module.evaluate("T.settingsFrom({ask: 'why', beta: -1, mix: 'x', x: 99, y: ''})")
    assert found == module.evaluate("T.settingsFrom({})")


def test_hands(stage):
    """Keys move the start, the choice changes the question, the address keeps both."""
    shown = stage("questions", "#questions?ask=y&x=10.5&y=3").rest()
    assert shown.settings()["ask"] == "y" and "One of 4 valleys" in shown.said()
    grip = shown.page.locator(".grip")
    grip.focus()
    for _ in range(14):
        grip.press("ArrowRight")
    grip.press("Enter")
    assert shown.settings()["x"] == pytest.approx(17.5)
    assert "at 16:" in shown.said()
    shown.page.locator("input[value=none]").check(force=True)
    assert "Did you mean" in shown.said()
    shown.page.wait_for_timeout(250)
    assert "ask=none" in shown.page.url and not shown.wrong
    shown.page.get_by_role("button", name="Some hour at low water").click()
    assert "vermilion cross" in shown.page.locator(".amx-ask .amx-on").inner_text()
    shown.page.get_by_role("button", name="Reset").click()
    assert shown.settings()["ask"] == "x"


def test_weight():
    assert (FOLDER / "questions.js").stat().st_size < 100_000
