"""Checkpoints: whole or not there, believed only after a look at every byte."""

from __future__ import annotations

import errno
import json
import resource
import subprocess
import sys

import pytest
import torch

from amtutor.train import checkpoint as ck

SETTINGS = {"task": "toy", "lr": 0.1}


def some(step: int, **state) -> ck.Checkpoint:
    parts = {"model": {"w": torch.arange(1000.0) + step, "n": torch.tensor(step)}}
    return ck.Checkpoint(step, dict(SETTINGS), parts, state)


def saved(folder, *steps):
    return [ck.save(folder, some(step)) for step in steps]


def test_what_is_written_is_read(tmp_path):
    tied = torch.randn(4, 3).t()
    parts = {"model": {"a": tied, "b": tied, "h": torch.randn(2).bfloat16()}, "ema": {}}
    path = ck.save(tmp_path, ck.Checkpoint(7, SETTINGS, parts, {"x": [1.5, None]}))
    again = ck.load(path, settings=SETTINGS)
    assert again.step == 7 and again.state == {"x": [1.5, None]} and again.parts["ema"] == {}
    for name, value in parts["model"].items():
        assert torch.equal(again.parts["model"][name], value)
    assert list(ck.load(path, parts=("ema",)).parts) == ["ema"]


def damage_truncate(path):
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def damage_bit(path):
    file = path / "model.safetensors"
    body = bytearray(file.read_bytes())
    body[-50] ^= 1
    file.write_bytes(bytes(body))


def damage_settings(path):
    file = path / "manifest.json"
    body = json.loads(file.read_text())
    body["settings"]["lr"] = 0.2
    file.write_text(json.dumps(body))


def damage_version(path):
    file = path / "manifest.json"
    file.write_text(file.read_text().replace(ck.FORMAT, "somebody-elses-1"))


def damage_place(path):
    file = path / "manifest.json"
    body = json.loads(file.read_text())
    body["files"]["../step-00000001/state.json"] = body["files"]["state.json"]
    file.write_text(json.dumps(body))


DAMAGE = {
    damage_truncate: "model.safetensors: truncated, ",
    damage_bit: "model.safetensors: damaged (its SHA-256 is not the manifest's)",
    damage_settings: "a checkpoint of another run (lr = 0.2, here 0.1)",
    damage_version: "no checkpoint of this version of amtutor",
    damage_place: "no checkpoint of this version of amtutor",
    lambda p: (p / "state.json").unlink(): "state.json: missing",
    lambda p: (p / "manifest.json").write_text("{"): "no readable manifest",
    lambda p: (p / "manifest.json").unlink(): "no readable manifest",
    lambda p: (p / "manifest.json").write_text("[]"): "no readable manifest",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_refused_in_one_line_and_the_one_before_is_used(tmp_path, damage):
    first, second = saved(tmp_path, 1, 2)
    damage(second)
    with pytest.raises(ck.CheckpointError) as caught:
        ck.load(second, settings=SETTINGS)
    assert DAMAGE[damage] in str(caught.value) and "\n" not in str(caught.value)
    lines = []
    found = ck.latest(tmp_path, settings=SETTINGS, say=lines.append)
    assert found.step == 1 and len(lines) == 1
    assert lines[0].startswith("refused ") and lines[0].endswith("; the one before it is used")


def test_a_checkpoint_under_another_name_is_refused(tmp_path):
    (first,) = saved(tmp_path, 1)
    first.rename(tmp_path / "step-00000009")
    with pytest.raises(ck.CheckpointError, match="says step 1 inside, and step 9 outside"):
        ck.load(tmp_path / "step-00000009")


def test_none_good_is_none(tmp_path):
    (only,) = saved(tmp_path, 1)
    damage_bit(only)
    assert ck.latest(tmp_path, say=lambda line: None) is None
    assert ck.latest(tmp_path / "nowhere") is None


def test_saving_over_a_damaged_one_replaces_it(tmp_path):
    (path,) = saved(tmp_path, 3)
    damage_bit(path)
    saved(tmp_path, 3)
    assert ck.load(path).step == 3
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000003"]


@pytest.mark.parametrize("at", ["_write", "_flush", "_entry"])
def test_a_full_disk_loses_no_earlier_checkpoint(tmp_path, monkeypatch, at):
    saved(tmp_path, 1)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ck, at, full)
    with pytest.raises(ck.CheckpointError) as caught:
        ck.save(tmp_path, some(2))
    assert "step-00000002: the checkpoint cannot be written (No space left on device)" in str(
        caught.value
    )
    assert str(caught.value).endswith("step-00000001 is untouched")
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_a_file_that_may_not_grow_is_a_full_disk(tmp_path):
    """The operating system refuses, not a stand-in: files may have 20 000 bytes, no more."""
    code = f"""
import resource, sys, torch
from pathlib import Path
from amtutor.train import checkpoint as ck
home = Path({str(tmp_path)!r})
ck.save(home, ck.Checkpoint(1, {{}}, {{"model": {{"w": torch.zeros(100)}}}}))
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    ck.save(home, ck.Checkpoint(2, {{}}, {{"model": {{"w": torch.zeros(100_000)}}}}))
except ck.CheckpointError as error:
    print(error)
"""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "cannot be written" in done.stdout and "step-00000001 is untouched" in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]


def test_the_last_and_the_milestones_stay(tmp_path):
    saved(tmp_path, 5, 10, 15, 20, 25)
    ck.prune(tmp_path, keep=2, milestone_every=10)
    assert [ck.step_of(p) for p in ck.checkpoints(tmp_path)] == [10, 20, 25]
    ck.prune(tmp_path, keep=1)
    assert [ck.step_of(p) for p in ck.checkpoints(tmp_path)] == [25]


def test_sweep_takes_only_what_was_half_written(tmp_path):
    saved(tmp_path, 1)
    (tmp_path / ".writing-step-00000002").mkdir()
    (tmp_path / "notes").mkdir()
    ck.sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes", "step-00000001"]
    assert [p.name for p in ck.checkpoints(tmp_path)] == ["step-00000001"]
