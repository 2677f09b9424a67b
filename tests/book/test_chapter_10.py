"""What chapter 10 claims (ledger G1 to G4), held apart from the chapter's own run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from amtutor.memory.dense import DenseAM, nearest
from amtutor.memory.relocation import (
    basins,
    kmeans_objective,
    masked_loss,
    relocate,
    relocation_loss,
    soft_kmeans,
    soft_kmeans_objective,
    voronoi_agreement,
)

RECORD = Path(__file__).resolve().parents[2] / "results" / "clustering" / "tables.json"
DOUBLE = torch.float64
FIVE = torch.tensor([[-0.7, 0.5], [0.1, 0.8], [0.75, 0.1], [-0.2, -0.2], [0.3, -0.8]], dtype=DOUBLE)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def plane(n=301):
    side = torch.linspace(-1.2, 1.2, n, dtype=DOUBLE)
    return torch.cartesian_prod(side, side)


# -- G1: contraction ------------------------------------------------------------------------------


@pytest.mark.parametrize("beta_a2", [0.5, 2.0, 9.0])
def test_g1_valleys_contract_and_ridges_tear(beta_a2):
    """Between two memories the derivative of a step is beta a^2; beside one it vanishes."""
    pair = torch.tensor([[-1.0], [1.0]], dtype=DOUBLE)
    close = torch.tensor([[-1e-6], [1e-6]], dtype=DOUBLE)
    end = relocate(close, pair, beta=beta_a2, steps=1)
    assert float(end.diff(dim=0) / close.diff(dim=0)) == pytest.approx(beta_a2, rel=1e-6)
    beside = relocate(1 + close, pair, beta=beta_a2, steps=1)
    torch.testing.assert_close(
        (beside.diff(dim=0) / close.diff(dim=0)).squeeze(),
        torch.tensor(beta_a2 / np.cosh(beta_a2) ** 2, dtype=DOUBLE),
        rtol=1e-4,
        atol=1e-9,
    )


def test_g1_ten_steps_gather_a_crowd():
    crowd = FIVE.repeat_interleave(60, 0) + 0.15 * draw(300, 2)
    into = basins(crowd, FIVE, beta=30.0)
    ends = relocate(crowd, FIVE, beta=30.0)
    for c in range(5):
        assert ends[into == c].std(0).max() < 0.1 * crowd[into == c].std(0).max()
    assert torch.pdist(ends).max() > 1


# -- G2: objectives, basins and cells -------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_g2_the_soft_objective_is_above_and_collapses_when_hot(seed):
    x, start = draw(80, 2, seed=seed), draw(4, 2, seed=seed + 10)
    assert soft_kmeans_objective(x, start, gamma=0.7) >= kmeans_objective(x, start)
    hot = soft_kmeans(x, start, gamma=1e-6, steps=500)
    assert (hot - x.mean(0)).abs().max() < 1e-3


def test_g2_basins_become_cells_at_the_chapters_figure():
    found = [voronoi_agreement(plane(), FIVE, beta=b) for b in (0.001, 10.0, 100.0)]
    assert found[0] < 0.3 < 0.98 < found[1] < found[2] and found[2] >= 0.995
    # the hot basin is one, and its share is the cell of the memory nearest to the mean
    owner = nearest(FIVE.mean(0), FIVE)
    assert found[0] == pytest.approx(float((nearest(plane(), FIVE) == owner).double().mean()))


def test_g2_wrong_places_sit_in_corners_and_shrink_like_beta_squared():
    fine = plane(801)
    betas = np.array([16.0, 24.0, 36.0, 54.0])
    wrong = [1 - voronoi_agreement(fine, FIVE, beta=b) for b in betas]
    slope = np.polyfit(np.log(betas), np.log(wrong), 1)[0]
    assert -2.5 < slope < -1.8
    off = fine[basins(fine, FIVE, beta=16.0) != nearest(fine, FIVE)]
    third = [
        torch.cdist(p, FIVE).square().sort(dim=1).values[:, [0, 2]].diff() for p in (off, fine)
    ]
    assert third[0].median() < 0.3 * third[1].median()


@pytest.fixture(scope="module")
def record():
    return json.loads(RECORD.read_text("utf-8"))["sets"]


def test_g2_the_record_keeps_what_the_chapter_says(record):
    """ClAM within 2 % of ten restarts of k-means everywhere, and better on at least two."""
    means = {
        name: np.mean(s["ways"]["ClAM"]["inertia"]) / np.mean(s["ways"]["KMeans"]["inertia"])
        for name, s in record.items()
    }
    assert len(means) == 7 and max(means.values()) < 1.02
    assert sum(ratio < 1 - 1e-6 for ratio in means.values()) >= 2


# -- G3: masks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_g3_as_printed_it_is_zero_for_any_memories(seed):
    x, memories = draw(20, 6, seed=seed), draw(4, 6, seed=seed + 5)
    shown = torch.rand(20, 6, generator=torch.Generator().manual_seed(seed)) < 0.6
    end = DenseAM(memories, beta=2.0).recall(x * shown, steps=10, clamp=shown).state
    assert (shown * (x - end)).square().sum() == 0
    assert (masked_loss(x, memories, ~shown, beta=2.0)[(~shown).any(1)] > 0).all()


def test_g3_the_masked_variant_is_in_the_record(record):
    for s in record.values():
        masked = s["ways"]["ClAM, masked"]
        assert all(len(masked[what]) == 10 for what in ("inertia", "ARI", "NMI", "silhouette"))
        assert np.mean(masked["inertia"]) >= 0.999 * np.mean(s["ways"]["ClAM"]["inertia"])


# -- G4: four columns -----------------------------------------------------------------------------


def test_g4_relocation_draws_the_lines_of_k_means():
    x = FIVE.repeat_interleave(10, 0) + 0.1 * draw(50, 2, seed=3)
    to = relocate(x, FIVE, beta=200.0)
    torch.testing.assert_close(to, FIVE[nearest(x, FIVE)], rtol=0, atol=1e-6)
    lengths = relocation_loss(x, FIVE, beta=200.0).sum()
    torch.testing.assert_close(lengths, kmeans_objective(x, FIVE), rtol=1e-5, atol=0)
    partly = relocate(x, FIVE, beta=200.0, steps=3, step_size=0.2)
    kept = (partly - FIVE[nearest(x, FIVE)]).norm(dim=1) / (x - FIVE[nearest(x, FIVE)]).norm(dim=1)
    torch.testing.assert_close(kept, torch.full_like(kept, 0.8**3), rtol=1e-4, atol=0)
