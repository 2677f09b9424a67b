"""The training by hand and the harness come to the same weights, and the file stands alone."""

from __future__ import annotations

import ast
import importlib.util
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch

from amtutor import data
from amtutor.network.masked_images import MaskedImageModel

FILE = Path(__file__).resolve().parents[2] / "examples" / "energy_transformer_by_hand.py"


@pytest.fixture
def by_hand(monkeypatch):
    """The example, a few steps of it."""
    spec = importlib.util.spec_from_file_location("by_hand", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "STEPS", 6)
    monkeypatch.setattr(module, "WARMUP", 2)
    monkeypatch.setattr(module, "BATCH", 8)
    return module


@pytest.fixture
def photos(monkeypatch):
    g = np.random.default_rng(0)
    images = g.integers(0, 256, (40, 3, 32, 32), dtype=np.uint8)
    monkeypatch.setattr(data, "cifar10", lambda split: (images, np.zeros(40, np.int64)))
    return torch.from_numpy(images)


def test_it_needs_nothing_of_the_harness_and_is_a_sitting():
    text = FILE.read_text("utf-8")
    assert len(text.splitlines()) <= 125
    for node in ast.walk(ast.parse(text)):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += (
            [a.name for a in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        )
        assert not any("train" in name.split(".") for name in names)


def test_the_harness_equals_it(by_hand, photos, tmp_path):
    """The same first weights and batches; then rates, decay, clipping, clamp and average."""
    pytest.importorskip("accelerate")
    from amtutor.train import Draws, fit, load_preset
    from amtutor.train.run import build_model
    from amtutor.train.tasks.et_completion import Completion

    sets = ["steps=6", "warmup_steps=2", "batch_size=8", "held_out=10", "precision=fp32"]
    sets += ["fast=no", "evaluate_every=0", "checkpoint_every=0", "sample_every=0"]
    config = load_preset("et-completion-smoke", sets).config
    run = fit(config, tmp_path, progress=False, say=lambda line: None, device="cpu")
    task = Completion(config, "cpu")
    model = build_model(task)

    def batches():
        for step in count():
            yield task.batch(task.data(), Draws(config.seed, step, 8))

    by_hand.train(model, batches())
    mean = by_hand.train(again := build_model(task), batches())
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)
    )
    for name, p in run.model(ema=False).named_parameters():
        torch.testing.assert_close(dict(model.named_parameters())[name], p, atol=1e-6, rtol=0)
    for name, p in run.model().named_parameters():
        torch.testing.assert_close(mean[name], p, atol=1e-6, rtol=0)
    assert model.state_dict().keys() == MaskedImageModel(**by_hand.SIZES).state_dict().keys()


def test_its_own_batches_hide_what_they_say(by_hand, photos):
    x, hidden = next(by_hand.batches(photos))
    assert x.shape == (8, 3, 32, 32) and 0 <= x.min() and x.max() <= 1
    assert set(hidden.sum(1).tolist()) <= {32, 48}


def test_it_runs(by_hand, photos, monkeypatch, capsys):
    monkeypatch.setattr(by_hand, "HELD_OUT", 10)
    by_hand.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("step    1  error") and lines[-1].startswith("75% hidden")
