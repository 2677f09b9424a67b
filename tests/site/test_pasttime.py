"""Past the end of time: the sampler in the page is the library's, and so is what it says."""

from __future__ import annotations

import re

import pytest
import torch

from amtutor.generative.diffusion import VarianceExploding, empirical_score, probability_flow
from amtutor.memory.dense import DenseAM

EXPLORABLE = "pasttime"
DOUBLE = torch.float64
PROCESS = VarianceExploding()


def given(seed):
    g = torch.Generator().manual_seed(seed)
    memories = 2 * torch.rand(5, 2, generator=g, dtype=DOUBLE) - 1
    return memories, 3 * torch.randn(7, 2, generator=g, dtype=DOUBLE)


def exact(memories):
    return lambda x, t: empirical_score(x, memories, process=PROCESS, t=t)


def film(module, starts, memories, past):
    code = "([s, m, p]) => T.sampler(s, m, p)"
    return torch.tensor(
        module.evaluate(code, [starts.tolist(), memories.tolist(), past]), dtype=DOUBLE
    )


@pytest.mark.parametrize("seed", range(4))
def test_up_to_the_end_it_is_the_librarys_flow(module, seed):
    memories, starts = given(seed)
    widths = torch.tensor(module.evaluate("T.widths('hold')"), dtype=DOUBLE)
    assert len(widths) == 121 and widths[0] == 3 and abs(float(widths[60]) - 0.03) < 1e-15
    times = PROCESS.times(9.0, 0.0009, steps=60)
    torch.testing.assert_close(widths[:61], times.sqrt(), rtol=1e-12, atol=0)
    wanted = probability_flow(
        exact(memories), starts, process=PROCESS, times=times, method="euler", record=True
    ).states
    found = film(module, starts, memories, "hold")
    torch.testing.assert_close(found[:61], wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_a_held_clock_and_a_cold_memory_are_recall(module, seed):
    memories, starts = given(seed)
    cold = DenseAM(memories, beta=0.03**-2)
    found = film(module, starts, memories, "hold")
    walk = cold.recall(found[60], steps=60, step_size=0.1, record=True).trajectory.states
    torch.testing.assert_close(found[60:], walk, rtol=0, atol=1e-9)
    code = "([s, m]) => T.memory(s, m)"
    states = torch.tensor(module.evaluate(code, [starts.tolist(), memories.tolist()]), dtype=DOUBLE)
    walk = cold.recall(starts, steps=120, step_size=0.1, record=True).trajectory.states
    torch.testing.assert_close(states, walk, rtol=0, atol=1e-9)


def test_a_clock_that_runs_on_comes_out_as_the_mirror_image(module):
    """One memory, five times: x - xi is in proportion to the width, through zero and beyond."""
    _, starts = given(1)
    memories = torch.tensor([[0.3, -0.4]] * 5, dtype=DOUBLE)
    widths = torch.tensor(module.evaluate("T.widths('on')"), dtype=DOUBLE)
    assert (widths[61:] < 0).all() and abs(float(widths[61]) + 0.03) < 1e-12
    found = film(module, starts, memories, "on")
    wanted = memories[0] + (starts - memories[0]) * (widths / 3)[:, None, None]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9)


def test_a_clock_that_starts_again_is_the_flow_from_where_it_was(module):
    memories, starts = given(2)
    found = film(module, starts, memories, "again")
    torch.testing.assert_close(found[61], found[60], rtol=0, atol=0)
    times = PROCESS.times(9.0, 0.0009, steps=60)[:60]
    wanted = probability_flow(
        exact(memories), found[61], process=PROCESS, times=times, method="euler", record=True
    ).states
    torch.testing.assert_close(found[61:], wanted, rtol=0, atol=1e-9)


def test_counts_are_of_the_nearest_memory(module):
    memories, starts = given(3)
    wanted = torch.cdist(starts, memories).argmin(1).bincount(minlength=5).tolist()
    code = "([s, m]) => T.shares(s, m)"
    assert module.evaluate(code, [starts.tolist(), memories.tolist()]) == wanted


def test_noise_is_as_wide_as_it_says(module):
    starts = torch.tensor(module.evaluate("T.noise()"), dtype=DOUBLE)
    assert starts.shape == (60, 2)
    # 120 numbers: their standard deviation is off by about 3 / sqrt(240)
    assert abs(float(starts.std()) - 3) < 4 * 3 / 240**0.5


def test_words(module):
    code = """(given) => {
      const s = T.settingsFrom(given);
      const film = T.sampler(T.noise(), s.m, s.past);
      return [T.tell(film, s), T.facts(film, s.m, s.time)];
    }"""
    (lead, rest, kind), facts = module.evaluate(code, {"time": 1.5})
    assert lead == "They rest." and kind == "good" and facts["moved"] < 0.2
    (lead, rest, kind), facts = module.evaluate(code, {"time": 1.9, "past": "on"})
    assert lead == "They drown again." and kind == "bad" and facts["gap"] > 1
    (lead, rest, kind), facts = module.evaluate(code, {"time": 1.4, "past": "again"})
    assert f"{facts['same']} of 60" in rest and facts["same"] < 60
    (lead, rest, _), facts = module.evaluate(code, {"time": 0.5})
    assert re.search(rf"of 60 samples, {facts['same']} are", rest, re.IGNORECASE)
    assert module.evaluate(code, {"time": 1})[0][0] == "Time is up."


def test_foreign_settings_are_ignored(module):
    found = module.evaluate("T.settingsFrom({time: 9, past: 'never', m: '1,2,3'})")
    assert found == module.evaluate("T.settingsFrom({})")


def test_hands_move_it_and_the_address_keeps_it(stage):
    shown = stage("pasttime").rest()
    before = shown.picture()
    shown.page.locator('[aria-label^="Memory A"]').press("ArrowRight")
    assert shown.settings()["m"][0] == [1.0, 0.3] and shown.picture() != before
    shown.page.locator('input[data-name="time"]').press("End")
    assert shown.settings()["time"] == 2
    shown.page.wait_for_timeout(250)
    assert "#pasttime?time=2" in shown.page.url
    shown.page.locator('[data-answer="leave"]').click()
    assert "Yes, they leave" in shown.page.locator(".amx-ask").inner_text()
    assert not shown.wrong
