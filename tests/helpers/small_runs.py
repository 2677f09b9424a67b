"""A tiny training that runs in a moment, and ways to compare two runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from amtutor.train import fit, load_preset

pytest.importorskip("accelerate", reason='training needs pip install "amtutor[train]"')

SMALL = ["steps=24", "checkpoint_every=8", "log_every=5", "evaluate_every=12", "sample_every=0"]


def small(*sets: str):
    """The config of toy-smoke, a few steps of it."""
    return load_preset("toy-smoke", [*SMALL, "creatures=20", "n_memories=8", *sets]).config


def train(folder: Path, sets: tuple[str, ...]) -> None:
    """Train it, without a word."""
    fit(small(*sets), folder, progress=False, say=lambda line: None, device="cpu")


def numbers(folder: Path) -> list[dict]:
    """The lines of metrics.jsonl without what depends on the clock."""
    lines = [json.loads(s) for s in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [{k: v for k, v in line.items() if k != "images_per_second"} for line in lines]


def weights(folder: Path, step: int) -> dict[str, bytes]:
    """All files of a checkpoint, byte for byte."""
    home = folder / "checkpoints" / f"step-{step:08d}"
    files = {p.name: p.read_bytes() for p in home.iterdir()}
    assert {"model.safetensors", "optimizer.safetensors", "manifest.json"} <= files.keys()
    return files
