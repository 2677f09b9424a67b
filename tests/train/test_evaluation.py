"""What a run's evaluation compares with what, and what it keeps."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("accelerate", reason='training needs pip install "amtutor[train]"')

from amtutor.train import evaluation


def test_one_measurement_leaves_the_others(tmp_path):
    evaluation._add(tmp_path, "c10", {"a": 1})
    evaluation._add(tmp_path, "inception", {"a": 2})
    evaluation._add(tmp_path, "/far/away/mine.pth", {"a": 3})
    evaluation._add(tmp_path, "c10", {"a": 4})
    found = json.loads((tmp_path / "evaluation.json").read_text("utf-8"))
    assert found == {"c10": {"a": 4}, "inception": {"a": 2}, "mine.pth": {"a": 3}}


@pytest.mark.parametrize("split, other", [("train", "test"), ("test", "train")])
def test_samples_meet_their_split_and_the_floor_is_the_other_split(monkeypatch, split, other):
    """Sets of numbers stand for features; `compare` and `frechet` say who met whom."""
    sets = {"train": np.arange(8), "test": np.arange(10, 16)}
    met = []
    monkeypatch.setattr(
        evaluation, "compare", lambda extract, a, b, seed: met.append(b) or {"protocol": {}}
    )
    monkeypatch.setattr(evaluation, "frechet", lambda a, b: met.append((a, b)) or 0.5)
    samples = np.zeros(3)
    found = evaluation._distances(samples, 0, extract=len, checks={}, split=split, **sets)
    assert np.array_equal(met[0], sets[split])
    assert np.array_equal(met[1][0], sets[other][:3]) and np.array_equal(met[1][1], sets[split])
    assert found["protocol"]["split"] == f"CIFAR-10 {split}" and found["floor"]["value"] == 0.5
