"""Checkpoints: whole or not there, believed only after a look at every byte."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import pickle
import resource
import subprocess
import sys

import pytest
import torch

from amtutor import _files, _weights
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


def manifest(change):
    """A damage: the manifest, changed by ``change``."""

    def damage(path):
        file = path / "manifest.json"
        body = json.loads(file.read_text())
        change(body)
        file.write_text(json.dumps(body))

    return damage


def damage_place(body):
    body["files"]["../step-00000001/state.json"] = body["files"]["state.json"]


def replaced(name, content):
    """A damage: another file in the place of one, and a manifest that says so."""

    def damage(path):
        (path / name).write_bytes(content)
        entry = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        manifest(lambda body: body["files"].update({name: entry}))(path)

    return damage


DAMAGE = {
    damage_truncate: "model.safetensors: truncated, ",
    damage_bit: "model.safetensors: damaged (its SHA-256 is not the manifest's)",
    damage_settings: "a checkpoint of another run (lr = 0.2, here 0.1)",
    damage_version: "no checkpoint of this version of amtutor",
    manifest(damage_place): "no checkpoint of this version of amtutor",
    manifest(lambda b: b["files"].update({"model.safetensors": None})): "no readable manifest",
    manifest(lambda b: b["files"].update({"model.safetensors": "x"})): "no readable manifest",
    manifest(lambda b: b["files"]["model.safetensors"].pop("bytes")): "no readable manifest",
    manifest(lambda b: b["files"]["model.safetensors"].pop("sha256")): "no readable manifest",
    manifest(lambda b: b.update(files=["state.json"])): "no readable manifest",
    manifest(lambda b: b["files"].pop("model.safetensors")): "has no model",
    replaced("model.safetensors", pickle.dumps({"w": 1})): "expected a safetensors file",
    replaced("model.safetensors", b""): "expected a safetensors file",
    replaced("state.json", b"[1]"): "state.json: expected a JSON object",
    replaced("state.json", b"\xff\xfe"): "cannot be read",
    replaced("state.json", b"[" * 100_000): "cannot be read",
    lambda p: (p / "manifest.json").write_text("[" * 100_000): "no readable manifest",
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
        ck.load(second, settings=SETTINGS, parts=("model",))
    assert DAMAGE[damage] in str(caught.value) and "\n" not in str(caught.value)
    lines = []
    found = ck.latest(tmp_path, settings=SETTINGS, parts=("model",), say=lines.append)
    assert found.step == 1 and len(lines) == 1
    assert lines[0].startswith("refused ") and lines[0].endswith("; the one before it is tried")


def test_a_checkpoint_under_another_name_is_refused(tmp_path):
    (first,) = saved(tmp_path, 1)
    first.rename(tmp_path / "step-00000009")
    with pytest.raises(ck.CheckpointError, match="step 1 inside, and step 9 outside"):
        ck.load(tmp_path / "step-00000009")


def test_none_there_is_none_and_none_good_is_an_error(tmp_path):
    assert ck.latest(tmp_path / "nowhere") is None
    for path in saved(tmp_path, 1, 2):
        damage_bit(path)
    lines = []
    with pytest.raises(ck.CheckpointError, match="not one checkpoint of 2") as caught:
        ck.latest(tmp_path, say=lines.append)
    assert "step-00000001/model.safetensors: damaged" in str(caught.value)
    assert len(lines) == 2 and lines[1].endswith("there is none before it")


def test_what_cannot_be_used_is_refused_like_what_cannot_be_read(tmp_path):
    saved(tmp_path, 1, 2)
    lines, tried = [], []

    def use(found):
        tried.append(found.step)
        if found.step == 2:
            raise KeyError("window")

    assert ck.latest(tmp_path, use=use, say=lines.append).step == 1
    assert tried == [2, 1] and "step-00000002: cannot be read ('window' is missing)" in lines[0]


def test_saving_over_a_damaged_one_keeps_its_bytes(tmp_path):
    for _ in range(2):
        (path,) = saved(tmp_path, 3)
        damage_bit(path)
    saved(tmp_path, 3)
    assert ck.load(path).step == 3
    names = [".refused-step-00000003", ".refused-step-00000003-1", "step-00000003"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names


@pytest.mark.parametrize("at", [(ck, "_write"), (_files, "flush_folder"), (ck, "_entry")])
def test_a_full_disk_loses_no_earlier_checkpoint(tmp_path, monkeypatch, at):
    saved(tmp_path, 1)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*at, full)
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
from amtutor import _files, _weights
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


def test_what_cannot_be_believed_is_neither_counted_nor_removed(tmp_path):
    saved(tmp_path, 5, 10, 15, 20)
    damage_truncate(tmp_path / "step-00000015")
    (tmp_path / "step-99999999").mkdir()
    other = ck.Checkpoint(30, {"task": "toy", "lr": 0.7}, {"model": {}}, {})
    ck.save(tmp_path, other)
    ck.prune(tmp_path, keep=2, settings=SETTINGS)
    left = [ck.step_of(p) for p in ck.checkpoints(tmp_path)]
    assert left == [10, 15, 20, 30, 99999999]
    assert [ck.step_of(p) for p in ck.believed(tmp_path, settings=SETTINGS)] == [10, 20]
    ck.prune(tmp_path, keep=1, settings=SETTINGS, upto=10)  # nothing older than that
    assert [ck.step_of(p) for p in ck.checkpoints(tmp_path)] == left


def test_folders_are_not_flushed_where_that_is_an_error(tmp_path, monkeypatch):
    """Windows refuses to open a folder, and to flush through a handle that only reads."""
    real_open, real_fsync = os.open, os.fsync

    def windows_open(path, flags, *more, **options):
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real_open(path, flags, *more, **options)

    def windows_fsync(handle):
        flags = fcntl.fcntl(handle, fcntl.F_GETFL)
        if flags & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        real_fsync(handle)

    monkeypatch.setattr(_files, "WINDOWS", True)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", windows_open)
        patch.setattr(os, "fsync", windows_fsync)
        (path,) = saved(tmp_path, 5)
    assert ck.load(path).step == 5


def test_the_files_are_those_of_the_safetensors_package(tmp_path):
    """Ours are read by it (a part without tensors too, from 0.4.4 on), and its by us."""
    theirs = pytest.importorskip("safetensors.torch")
    tensors = {"a": torch.randn(3, 2), "b": torch.arange(5), "c": torch.zeros(0, 4)}
    tensors |= {"d": torch.tensor(True), "e": torch.randn(2).half(), "f": torch.tensor(2.5)}
    for part in (tensors, {}):
        ours, other = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
        ours.write_bytes(b"".join(_weights.to_safetensors(part)))
        theirs.save_file(part, other, metadata={"format": "pt"})
        for one, two in (
            (theirs.load_file(ours), part),
            (_weights.read_safetensors(other), part),
            (_weights.read_safetensors(ours), part),
        ):
            assert one.keys() == two.keys()
            assert all(torch.equal(one[k], two[k]) and one[k].dtype == two[k].dtype for k in one)


def test_sweep_takes_only_what_was_half_written(tmp_path):
    saved(tmp_path, 1)
    (tmp_path / ".writing-step-00000002").mkdir()
    (tmp_path / "notes").mkdir()
    ck.sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes", "step-00000001"]
    assert [p.name for p in ck.checkpoints(tmp_path)] == ["step-00000001"]
