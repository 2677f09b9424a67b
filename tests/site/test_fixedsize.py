"""The memory of fixed size in the page is the library's: list, noise, sums and energies."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from amtutor.memory.dense import lse_energy
from amtutor.memory.random_features import DistributedDenseAM, TrigonometricFeatures

EXPLORABLE = "fixedsize"
DOUBLE = torch.float64
XS, YS = [-1.4, -0.6, 0.2, 1.0], [1.0, 0.1, -0.8]  # evenly apart, as the cells of a picture


def given(seed, k=5):
    g = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(k, 2, generator=g, dtype=DOUBLE) - 1


def library(memories, beta, omega):
    features = TrigonometricFeatures(2, len(omega))
    features.omega = torch.tensor(omega, dtype=DOUBLE)
    memory = DistributedDenseAM(features, beta=beta)
    memory.add(memories)
    return memory


@pytest.mark.parametrize("seed", range(5))
def test_list_noise_sums_and_energies_are_the_librarys(module, seed):
    memories, beta, y = (
        given(seed),
        [2.0, 7.5, 12.0, 25.0, 40.0][seed],
        [10, 33, 100, 301, 1000][seed],
    )
    omega = module.evaluate("T.frequencies()")[:y]
    memory = library(memories, beta, omega)
    make = "([m, b, y, xs, ys]) => { const list = T.tensor(m, b, y); "
    back = (
        "const s = T.sums(list, b, xs, ys); "
        "return [[...list.cosines, ...list.sines], T.noise(list), [...s], "
        "[...T.energies(s, b, T.noise(list))], [...T.energies(T.exactSums(m, b, xs, ys), b)]]; }"
    )
    found = module.evaluate(make + back, [memories.tolist(), beta, y, XS, YS])
    tensor, noise, sums, energies, exact = (torch.tensor(v, dtype=DOUBLE) for v in found)
    grid = torch.tensor([[x, y] for y in YS for x in XS], dtype=DOUBLE)
    assert_close(tensor, memory.tensor, rtol=1e-10, atol=1e-10)
    assert float(noise) == pytest.approx(memory.noise, rel=1e-10)
    assert_close(sums, memory.sums(grid), rtol=1e-9, atol=1e-9)
    assert_close(energies, memory.energy(grid), rtol=1e-7, atol=1e-7)
    assert_close(exact, lse_energy(grid, memories, beta=beta), rtol=1e-9, atol=1e-9)


def test_frequencies_are_standard_normal(module):
    """Within four spreads of the mean and the variance of so many."""
    omega = torch.tensor(module.evaluate("T.frequencies()"), dtype=DOUBLE)
    n = omega.numel()
    assert omega.shape == (1000, 2)
    assert abs(float(omega.mean())) < 4 / math.sqrt(n)
    assert abs(float(omega.square().mean()) - 1) < 4 * math.sqrt(2 / n)


def test_low_cells_are_found_inside_and_flat_ground_has_none(module):
    code = "([v, xs, ys]) => T.lowCells(v, xs, ys)"
    xs, ys = [0, 1, 2, 3], [0, 1, 2, 3]
    flat = [1.0] * 16
    assert module.evaluate(code, [flat, xs, ys]) == []
    flat[5], flat[3] = 0.0, -1.0
    assert module.evaluate(code, [flat, xs, ys]) == [[1, 1]]
    wide = [1.0] * 35
    wide[8], wide[11] = 0.0, -0.5  # (1, 1) and (4, 1) of seven by five
    call = "([v, apart]) => T.lowCells(v, [0, 1, 2, 3, 4, 5, 6], [0, 1, 2, 3, 4], apart)"
    assert module.evaluate(call, [wide, 0]) == [[4, 1], [1, 1]]
    assert module.evaluate(call, [wide, 3.5]) == [[4, 1]]


def test_valleys_are_told_apart(module):
    found = module.evaluate("T.compare([[0, 0], [1, 1]], [[0.1, 0], [-1, 0]], 4)")
    assert found == {"nobodys": [[-1, 0]], "lost": [[1, 1]]}


def seen(module, settings):
    code = """(given) => {
      const s = T.settingsFrom(given);
      const cells = (n, w) => Float64Array.from({ length: n }, (_, i) => w * ((2 * i + 1) / n - 1));
      const found = T.look(s, cells(90, 1.5), cells(72, 1.2));
      return [found.wells.length, found.nobodys.length, found.lost.length, T.tell(found, s)];
    }"""
    return module.evaluate(code, settings)


def test_a_long_list_is_right_and_a_short_one_lies(module):
    wells, nobodys, lost, (lead, rest, kind) = seen(module, {"y": 1000})
    assert (wells, nobodys, lost, kind) == (6, 0, 0, "good")
    assert lead == "The list has the same 6 valleys." and rest.startswith("2000 numbers for 6")
    _, nobodys, lost, (lead, _, kind) = seen(module, {"y": 30})
    assert nobodys + lost > 0 and kind == "bad"
    assert ("that nobody stored" in lead) == (nobodys > 0) and ("lost" in lead) == (lost > 0)


def test_foreign_settings_are_ignored(module):
    start = module.evaluate("T.settingsFrom({})")
    for wrong in ({"y": 5}, {"beta": 99}, {"m": "1,2,3"}, {"m": "9,0"}, {"m": ""}):
        assert module.evaluate("(given) => T.settingsFrom(given)", wrong) == start


def test_hands_move_it_and_the_address_keeps_it(stage):
    shown = stage("fixedsize").rest()
    before = shown.picture()
    shown.page.locator('[aria-label^="Memory 1:"]').press("ArrowRight")
    assert shown.settings()["m"][0] == [-0.75, 0.7] and shown.picture() != before
    shown.page.get_by_text("+ memory").click()
    assert len(shown.settings()["m"]) == 7
    shown.page.locator('input[data-name="y"]').press("Home")
    assert shown.settings()["y"] == 10
    shown.page.wait_for_timeout(250)
    assert "#fixedsize?beta=16&y=10" in shown.page.url
    shown.page.locator('[data-answer="false"]').click()
    assert "Yes, it lies." in shown.page.locator(".amx-ask").inner_text()
    assert not shown.wrong
