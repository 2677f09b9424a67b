"""Two landscapes: the page's energies and valleys are the library's, and its words are true."""

from __future__ import annotations

import pytest
import torch
from explorable_stage import FOLDER

from amtutor.memory.dense import lse_energy, lsr_energy
from amtutor.memory.kernels import lsr_minima
from amtutor.memory.minima import lse_minima

EXPLORABLE = "twolandscapes"
DOUBLE = torch.float64
TRIANGLES = [-0.9, 0.28, -1.142, -0.14, -0.658, -0.14, 0.9, 0.28, 0.658, -0.14, 1.142, -0.14]


def memories(seed):
    if seed is None:
        return torch.tensor(TRIANGLES, dtype=DOUBLE).reshape(6, 2)
    return 0.6 * torch.randn(6, 2, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def places(found):
    return sorted((round(x, 6) + 0.0, round(y, 6) + 0.0) for x, y in found)


@pytest.mark.parametrize("name, energy", [("lse", lse_energy), ("lsr", lsr_energy)])
def test_energies_are_the_librarys(module, name, energy):
    bank = memories(0)
    x = torch.randn(60, 2, generator=torch.Generator().manual_seed(9), dtype=DOUBLE)
    code = (
        f"([xs, m]) => xs.map((x) => {{ const e = T.{name}(x, m, 5); return e < 1e9 ? e : 1e9; }})"
    )
    ours = module.evaluate(code, [x.tolist(), bank.tolist()])
    assert ours == pytest.approx(energy(x, bank, beta=5.0).clamp(max=1e9).tolist(), abs=1e-12)
    assert name == "lse" or 1e9 in ours


@pytest.mark.parametrize("seed", [None, 0, 1, 2, 3])
@pytest.mark.parametrize("beta", [0.5, 2, 6, 24, 45])
def test_valleys_are_the_librarys_and_all_of_them(module, seed, beta):
    bank = memories(seed)
    lse = module.evaluate("([m, beta]) => T.lseValleys(m, beta)", [bank.tolist(), beta])
    proved = lse_minima(bank, beta=beta)
    assert proved.certain and places(lse) == places(proved.positions.tolist())
    lsr = module.evaluate("([m, beta]) => T.lsrValleys(m, beta)", [bank.tolist(), beta])
    assert places(v["x"] for v in lsr) == places(lsr_minima(bank, beta=beta).tolist())


def test_words(module):
    say = """(given) => { const s = T.settingsFrom(given);
        return T.tell(T.lseValleys(s.m, s.beta), T.lsrValleys(s.m, s.beta), s.m); }"""
    lead, rest, _ = module.evaluate(say, {})
    assert lead == "LSE has 1 valley, LSR has 17."
    assert "6 of 17 are stored memories, 11 nobody stored" in rest
    lead, rest, kind = module.evaluate(say, {"beta": 40})
    assert lead == "LSE has 6 valleys, LSR has 6." and kind == "good" and "All six" in rest
    lead, rest, _ = module.evaluate(say, {"beta": 24, "m": TRIANGLES})
    assert lead.startswith("LSE has 8 valleys") and "more valleys than memories" in rest


def test_settings_from_nonsense(module):
    found = module.evaluate("T.settingsFrom({beta: 1e9, m: '1,2,x'})")
    assert found == module.evaluate("T.settingsFrom({})")


def test_hands(stage):
    """The slider answers at once, keys move a memory in either picture, the address keeps both."""
    shown = stage("twolandscapes", "#twolandscapes?beta=6").rest()
    assert "LSE has 1 valley, LSR has 17." in shown.said()
    shown.page.locator("input[data-name=beta]").press("End")
    assert "LSE has 6 valleys, LSR has 6." in shown.said()
    shown.page.wait_for_function("document.querySelectorAll('.ribbon span').length > 8")
    assert shown.page.locator(".ribbon").nth(1).inner_text().replace("\n", "").endswith("6")
    pegs = shown.page.locator(".memory")
    assert pegs.count() == 12
    pegs.nth(7).press("ArrowRight")
    shown.rest()
    assert shown.settings()["m"][1][0] == pytest.approx(0.07)
    shown.page.wait_for_timeout(300)
    assert "m=" in shown.page.url and not shown.wrong
    shown.page.get_by_role("button", name="Reset").click()
    shown.page.locator("button[data-answer=more]").click()
    shown.rest()
    assert "Yes, fifteen." in shown.page.locator(".amx-ask .amx-on").inner_text()
    assert len(shown.page.evaluate("hand.state().lsr")) == 15


def test_weight():
    assert (FOLDER / "twolandscapes.js").stat().st_size < 100_000
