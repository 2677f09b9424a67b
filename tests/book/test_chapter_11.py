"""What chapter 11 claims (ledger G5), held apart from the chapter's own run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from amtutor.memory.clustering import DeepClAM
from amtutor.memory.dense import nearest
from amtutor.memory.relocation import relocate

RECORD = Path(__file__).resolve().parents[2] / "results" / "deep-clustering" / "tables.json"


@pytest.mark.parametrize(("steps", "eta"), [(1, 0.3), (5, 0.2), (9, 0.1)])
def test_g5_partial_contraction_keeps_a_share_and_can_be_undone(steps, eta):
    g = torch.Generator().manual_seed(0)
    memories = 6 * torch.randn(10, 8, generator=g, dtype=torch.float64)
    z = memories.repeat_interleave(20, 0) + 0.5 * torch.randn(200, 8, generator=g).double()
    end = relocate(z, memories, beta=50.0, steps=steps, step_size=eta)
    share = (1 - eta) ** steps
    xi = memories[nearest(z, memories)]
    torch.testing.assert_close(end, share * z + (1 - share) * xi, rtol=1e-9, atol=1e-9)
    undone = (end - (1 - share) * memories[nearest(end, memories)]) / share
    torch.testing.assert_close(undone, z, rtol=1e-8, atol=1e-8)


def test_g5_a_hot_memory_collapses_to_the_mean_picture():
    X = (load_digits().data / 16).astype(np.float32)[:600]
    settings = {"latent_dim": 6, "hidden": (64,), "pretrain": 5, "max_iter": 15}
    hot = DeepClAM(10, **settings, beta=1e-6, step_size=1.0, random_state=0).fit(X)
    assert len(set(hot.labels_)) == 1
    assert hot.loss_ == pytest.approx(float(X.var(0).mean()), rel=0.1)
    assert np.ptp(hot.reconstruct(X), axis=0).max() < 0.05
    safe = DeepClAM(10, **settings, random_state=0).fit(X)
    assert len(set(safe.labels_)) > 5 and safe.loss_ < 0.7 * hot.loss_


def test_g5_the_record_says_what_the_chapter_says():
    record = json.loads(RECORD.read_text("utf-8"))["sets"]
    ways = record["MNIST"]["ways"]
    gap = np.array(ways["DeepClAM"]["NMI"]) - np.array(ways["autoencoder + k-means"]["NMI"])
    assert len(gap) == 5
    half = 2.776 * gap.std(ddof=1) / 5**0.5
    assert gap.mean() - half < 0  # no gain beyond the interval
    warp = np.array(ways["warped autoencoder + k-means"]["NMI"])
    assert warp.mean() > np.mean(ways["autoencoder + k-means"]["NMI"])
    cifar = record["CIFAR-10"]["ways"]
    assert max(np.mean(v["NMI"]) for v in cifar.values()) < 0.2
    assert np.shape(record["CIFAR-10"]["prototypes"]["DeepClAM"]) == (10, 3, 16, 16)
