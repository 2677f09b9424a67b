"""The lottery in the page is the library's: same winners, same steps, same words for them."""

from __future__ import annotations

import pytest
import torch
from scipy.spatial import ConvexHull

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


@pytest.mark.parametrize("seed", range(4))
def test_borders_are_exact_and_none_is_missing(module, seed):
    """Along any line across the picture the winner changes at the borders, and only there."""
    memories, edge = given(seed).tolist(), [-2.0, 2.0]
    pieces = module.evaluate("([m, e]) => T.borders(m, e, e)", [memories, edge])
    points = torch.tensor(memories, dtype=DOUBLE)
    for i, j, p, q in pieces:
        ends = torch.tensor([p, q, [(a + b) / 2 for a, b in zip(p, q, strict=True)]], dtype=DOUBLE)
        gaps = torch.cdist(ends, points)
        assert (gaps[:, i] - gaps[:, j]).abs().max() < 1e-12
        assert (gaps.min(dim=1).values - gaps[:, i]).abs().max() < 1e-12
    x = torch.linspace(*edge, 4001, dtype=DOUBLE)
    for y in torch.linspace(-1.93, 1.91, 23, dtype=DOUBLE).tolist():
        row = torch.cdist(torch.stack([x, torch.full_like(x, y)], dim=1), points).argmin(dim=1)
        changes = (row[1:] != row[:-1]).nonzero().flatten()
        crossings = sorted(
            p[0] + (y - p[1]) / (q[1] - p[1]) * (q[0] - p[0])
            for _, _, p, q in pieces
            if min(p[1], q[1]) <= y < max(p[1], q[1])
        )
        assert len(crossings) == len(changes)
        for at, k in zip(crossings, changes.tolist(), strict=True):
            assert float(x[k]) - 1e-9 <= at <= float(x[k + 1]) + 1e-9


@pytest.mark.parametrize("seed", range(6))
def test_corners_are_those_of_the_convex_hull(module, seed):
    memories = given(20 + seed)
    hull = set(ConvexHull(memories.numpy()).vertices.tolist())
    found = module.evaluate("(m) => T.corners(m)", memories.tolist())
    assert {i for i, corner in enumerate(found) if corner} == hull


def test_equal_and_collinear_memories_have_corners_too(module):
    line = [[-1, 0], [0, 0], [1, 0], [1, 0]]
    assert module.evaluate("(m) => T.corners(m)", line) == [True, False, True, True]
    pieces = module.evaluate("(m) => T.borders(m, [-2, 2], [-1, 1])", line)
    assert [(i, j) for i, j, _, _ in pieces] == [(0, 1), (1, 2)]
    assert {tuple(p) for _, _, *ends in pieces for p in ends} == {
        (x, y) for x in (-0.5, 0.5) for y in (-1, 1)
    }


def test_narrow_noise_is_said_to_be_narrow(module):
    """In the middle of the others F is drawn by narrow noise, and the words say why."""
    lead, rest, _ = module.evaluate("T.tell(T.settingsFrom({}).m, 0.2)")
    assert lead.startswith("F is drawn most often, in 9")
    assert "narrow enough to start inside" in rest and "wider noise starts outside" in rest
    lead, rest, _ = module.evaluate("T.tell(T.settingsFrom({}).m, 1)")
    assert rest.startswith("F (13 %) has a small cell with borders on all sides.")


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
