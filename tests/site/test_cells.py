"""Basins and cells in the page are the library's: same steps, same maps, same words for them."""

from __future__ import annotations

import pytest
import torch
from explorable_stage import FOLDER

from amtutor.memory.dense import nearest
from amtutor.memory.relocation import basins, relocate, voronoi_agreement

EXPLORABLE = "cells"
DOUBLE = torch.float64


def given(seed):
    g = torch.Generator().manual_seed(seed)
    return (2 * torch.rand(6, 2, generator=g, dtype=DOUBLE) - 1) * torch.tensor([1.6, 1.2]).double()


@pytest.mark.parametrize(("seed", "beta"), [(0, 0.7), (1, 5.0), (2, 20.0), (3, 100.0)])
def test_maps_are_the_librarys(module, seed, beta):
    memories = given(seed)
    grid = torch.tensor(module.evaluate("T.places()"), dtype=DOUBLE)
    assert len(grid) == 160 * 120 and float(grid[0, 0]) == pytest.approx(-1.6 + 0.01)
    found = module.evaluate(
        "([m, b]) => { const f = T.measure(m, b);"
        " return [f.agreement, f.owners, [...f.basin], [...f.cell]]; }",
        [memories.tolist(), beta],
    )
    into = basins(grid, memories, beta=beta)
    # a pixel on the very ridge may fall either way in the last bit
    assert sum(a != b for a, b in zip(found[2], into.tolist(), strict=True)) <= 2
    assert found[3] == nearest(grid, memories).tolist()
    assert found[0] == pytest.approx(voronoi_agreement(grid, memories, beta=beta), abs=1.1e-4)
    assert found[1] == into.unique().tolist()
    stepped = module.evaluate(
        "([xs, m, b]) => xs.map((x) => T.step(x, m, b))",
        [grid[::400].tolist(), memories.tolist(), beta],
    )
    one = relocate(grid[::400], memories, beta=beta, steps=1)
    torch.testing.assert_close(torch.tensor(stepped, dtype=DOUBLE), one)


def test_words_follow_the_numbers(module):
    tell = "(f) => T.tell(f)"
    lead, rest, kind = module.evaluate(tell, {"agreement": 0.21, "owners": [4]})
    assert lead == "One valley." and "E, nearest to it" in rest and "21 %" in rest and kind == "bad"
    lead, rest, _ = module.evaluate(tell, {"agreement": 0.7, "owners": [0, 1, 2, 5]})
    assert lead.startswith("70 %") and rest.startswith("D and E have no valleys of their own")
    lead, rest, _ = module.evaluate(tell, {"agreement": 0.7, "owners": [0, 1, 2, 3, 5]})
    assert rest.startswith("E has no valley of its own")
    everyone = list(range(6))
    lead, rest, _ = module.evaluate(tell, {"agreement": 0.981, "owners": everyone})
    assert lead.startswith("98.1 %") and "three cells meet" in rest
    lead, _, kind = module.evaluate(tell, {"agreement": 0.99999, "owners": everyone})
    assert lead.startswith("99.99 %") and kind == "good"


def test_its_question_is_answered_by_the_map(module):
    """At the start places are red; at beta = 100 less than one in 200 is, and at corners."""
    settings = module.evaluate("T.settingsFrom({})")
    memories = torch.tensor(settings["m"], dtype=DOUBLE)
    grid = torch.tensor(module.evaluate("T.places()"), dtype=DOUBLE)
    before = voronoi_agreement(grid, memories, beta=settings["beta"])
    after = voronoi_agreement(grid, memories, beta=100.0)
    assert before < 0.97 and after > 0.995
    wrong = grid[basins(grid, memories, beta=20.0) != nearest(grid, memories)]
    third = [torch.cdist(x, memories).sort(dim=1).values[:, [0, 2]].diff() for x in (wrong, grid)]
    assert len(wrong) and third[0].median() < 0.4 * third[1].median()


def test_nonsense_in_the_address(module):
    plain = module.evaluate("T.settingsFrom({})")
    assert module.evaluate("T.settingsFrom({beta: 'x', m: '1,2'})") == plain
    assert module.evaluate("T.settingsFrom({beta: 1000})")["beta"] == plain["beta"]


def test_weight():
    assert (FOLDER / "cells.js").stat().st_size < 100_000
