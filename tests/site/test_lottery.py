"""The lottery in the page is the library's: same winners, same steps, same words for them."""

from __future__ import annotations

import pytest
import torch

from amtutor.generative import latent

EXPLORABLE = "lottery"
DOUBLE = torch.float64


def given(seed):
    g = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(6, 2, generator=g, dtype=DOUBLE) - 1


@pytest.mark.parametrize("seed", range(6))
def test_shares_and_steps_are_the_librarys(module, seed):
    memories, sigma = given(seed), [0.3, 1.0, 3.0, 10.0, 0.5, 6.0][seed]
    unit = torch.tensor(module.evaluate("T.noise()"), dtype=DOUBLE)
    assert len(unit) == 4000 and abs(float(unit.std()) - 1) < 0.03
    counts = latent.memory_counts(sigma * unit, memories)
    shares = module.evaluate("([m, s]) => T.shares(m, s)", [memories.tolist(), sigma])
    assert shares == pytest.approx((counts.double() / 4000).tolist(), abs=1e-12)
    z = sigma * unit[:20]
    walk = latent.sample_latents(memories, start=z, noise=0.0, steps=1)
    code = "([zs, m]) => zs.map((z) => T.step(z, m))"
    stepped = module.evaluate(code, [z.tolist(), memories.tolist()])
    torch.testing.assert_close(torch.tensor(stepped, dtype=DOUBLE), walk.state)


def test_wide_noise_draws_corners_only_and_says_so(module):
    settings = module.evaluate("T.settingsFrom({sigma: 10})")
    assert module.evaluate("(s) => T.corners(s.m)", settings) == [True] * 5 + [False]
    shares = module.evaluate("(s) => [1, 3, 10].map((w) => T.shares(s.m, w)[5])", settings)
    assert shares[0] > 2 * shares[1] > 4 * shares[2]
    lead, rest, _ = module.evaluate("(s) => T.tell(s.m, s.sigma)", settings)
    assert "drawn most often" in lead and "F" in rest
    even = [[1, 0], [0.5, 0.87], [-0.5, 0.87], [-1, 0], [-0.5, -0.87], [0.5, -0.87]]
    assert module.evaluate("(m) => T.tell(m, 3)", even)[2] == "good"


def test_foreign_settings_are_ignored(module):
    found = module.evaluate("T.settingsFrom({sigma: 99, m: '1,2,3'})")
    assert found == module.evaluate("T.settingsFrom({})")


def test_hands_move_it_and_the_address_keeps_it(stage):
    shown = stage("lottery").rest()
    before = shown.picture()
    shown.page.locator('[aria-label^="Memory F"]').press("ArrowRight")
    assert shown.settings()["m"][5] == [0.1, 0.05] and shown.picture() != before
    shown.page.locator('input[data-name="sigma"]').press("End")
    assert shown.settings()["sigma"] == 10
    shown.page.wait_for_timeout(250)
    assert "#lottery?sigma=10" in shown.page.url
    shown.page.locator('[data-answer="less"]').click()
    assert "Yes, less often" in shown.page.locator(".amx-ask").inner_text()
    assert not shown.wrong
