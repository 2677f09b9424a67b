"""Checkpoints that can be trusted: whole or not there, checked before they are believed.

A checkpoint is a folder ``checkpoints/step-00001000`` of safetensors files, a ``state.json`` and a
``manifest.json`` with the size and SHA-256 of each. It is written under a temporary name, flushed
to the disk and renamed, so a crash at any moment leaves the checkpoints that were there. Nothing
in it is ever executed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from amtutor.train.extras import need

__all__ = ["Checkpoint", "CheckpointError", "checkpoints", "latest", "load", "prune", "save"]

FORMAT = "amtutor-checkpoint-1"
_NAME = re.compile(r"step-(\d{8,})")


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written or believed; the message is one line."""


@dataclass
class Checkpoint:
    """What a run is at one step: tensors by part (``model``, ``ema``, ``optimizer``), and state."""

    step: int
    settings: dict[str, Any]  # what the run may never change (Settings.lasting)
    parts: dict[str, dict[str, Tensor]]
    state: dict[str, Any] = field(default_factory=dict)


def name_of(step: int) -> str:
    """Return the folder name of a step, so that names sort as steps do."""
    return f"step-{step:08d}"


def checkpoints(folder: Path) -> list[Path]:
    """Return all checkpoint folders, oldest step first, believed or not."""
    found = [p for p in folder.glob("step-*") if _NAME.fullmatch(p.name) and p.is_dir()]
    return sorted(found, key=step_of)


def step_of(path: Path) -> int:
    """Return the step in a checkpoint's name."""
    return int(_NAME.fullmatch(path.name)[1])


# ---------------------------------------------------------------------------- writing


def save(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint; on any failure what was written of it goes, all others stay.

    Raises:
        CheckpointError: no space, no permission and the like.
    """
    final = folder / name_of(checkpoint.step)
    temporary = folder / f".writing-{final.name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        _write(temporary, checkpoint)
        if final.exists():  # one that was refused: it makes room
            old = folder / f".refused-{final.name}"
            shutil.rmtree(old, ignore_errors=True)
            final.rename(old)
            shutil.rmtree(old, ignore_errors=True)
        temporary.rename(final)
        _flush(folder)
    except (OSError, need("safetensors").SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(_cannot_write(folder, checkpoint.step, error)) from None
    return final


def _write(folder: Path, checkpoint: Checkpoint) -> None:
    torch_io = need("safetensors.torch")
    sizes = {}
    for part, tensors in checkpoint.parts.items():
        path = folder / f"{part}.safetensors"
        # A copy each: tied weights may not share memory in a file.
        whole = {k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}
        torch_io.save_file(whole, path, metadata={"format": "pt"})
        sizes[path.name] = _entry(path)
    path = folder / "state.json"
    path.write_text(json.dumps(checkpoint.state, indent=1) + "\n", "utf-8")
    sizes[path.name] = _entry(path)
    about = {"format": FORMAT, "step": checkpoint.step, "settings": checkpoint.settings}
    path = folder / "manifest.json"
    path.write_text(json.dumps({**about, "files": sizes}, indent=1) + "\n", "utf-8")
    for file in folder.iterdir():
        _flush(file)
    _flush(folder)


def _entry(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": _digest(path)}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    """Have the disk hold what was written (a folder: its names)."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _cannot_write(folder: Path, step: int, error: Exception) -> str:
    kept = checkpoints(folder)
    kept_line = f"{kept[-1].name} is untouched" if kept else "there is no earlier one"
    reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
    return f"{folder / name_of(step)}: the checkpoint cannot be written ({reason}); {kept_line}"


def sweep(folder: Path) -> None:
    """Remove what a crash left half-written."""
    for path in [*folder.glob(".writing-*"), *folder.glob(".refused-*")]:
        shutil.rmtree(path, ignore_errors=True)


def prune(folder: Path, *, keep: int, milestone_every: int = 0) -> None:
    """Remove all but the last ``keep`` checkpoints and the milestones."""
    for path in checkpoints(folder)[:-keep]:
        if not (milestone_every and step_of(path) % milestone_every == 0):
            shutil.rmtree(path, ignore_errors=True)


# ---------------------------------------------------------------------------- reading


def load(
    path: Path, *, settings: dict[str, Any] | None = None, parts: tuple[str, ...] | None = None
) -> Checkpoint:
    """Read a checkpoint after checking every file of it against the manifest.

    Args:
        path: its folder.
        settings: those of the run; a checkpoint of another run is refused. None takes any.
        parts: what to read, of ``model``, ``ema`` and ``optimizer``; None reads all.

    Raises:
        CheckpointError: truncated, changed, of another run, or no checkpoint at all.
    """
    manifest = _read_manifest(path)
    _same_run(path, manifest["settings"], settings)
    for name, entry in manifest["files"].items():
        _check_file(path / name, entry)
    state = json.loads((path / "state.json").read_text("utf-8"))
    load_file = need("safetensors.torch").load_file
    names = [n.removesuffix(".safetensors") for n in manifest["files"] if n != "state.json"]
    wanted = [n for n in names if parts is None or n in parts]
    tensors = {name: load_file(path / f"{name}.safetensors") for name in wanted}
    return Checkpoint(manifest["step"], manifest["settings"], tensors, state)


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((path / "manifest.json").read_text("utf-8"))
        files, step = manifest["files"], manifest["step"]
        known = manifest["format"] == FORMAT and isinstance(manifest["settings"], dict)
        plain = "state.json" in files and all(Path(n).name == n for n in files)
    except (OSError, ValueError, KeyError, TypeError):
        raise CheckpointError(f"{path}: no checkpoint of amtutor (no readable manifest)") from None
    if not (known and plain):
        raise CheckpointError(f"{path}: no checkpoint of this version of amtutor")
    if step != step_of(path):
        raise CheckpointError(f"{path}: says step {step} inside, and step {step_of(path)} outside")
    return manifest


def _same_run(path: Path, theirs: dict[str, Any], ours: dict[str, Any] | None) -> None:
    """Refuse other settings; a setting that only one side knows is of another version, and fine."""
    for key in sorted(theirs.keys() & (ours or {}).keys()):
        if theirs[key] != ours[key]:
            found, own = json.dumps(theirs[key]), json.dumps(ours[key])
            raise CheckpointError(
                f"{path}: a checkpoint of another run ({key} = {found}, here {own})"
            )


def _check_file(path: Path, entry: dict[str, Any]) -> None:
    if not path.is_file():
        raise CheckpointError(f"{path}: missing")
    if (size := path.stat().st_size) != entry["bytes"]:
        raise CheckpointError(f"{path}: truncated, {size} of {entry['bytes']} bytes")
    if _digest(path) != entry["sha256"]:
        raise CheckpointError(f"{path}: damaged (its SHA-256 is not the manifest's)")


def latest(
    folder: Path,
    *,
    settings: dict[str, Any] | None = None,
    parts: tuple[str, ...] | None = None,
    say: Callable[[str], None] = print,
) -> Checkpoint | None:
    """Return the newest checkpoint that can be believed; say in one line why others cannot."""
    for path in reversed(checkpoints(folder)):
        try:
            return load(path, settings=settings, parts=parts)
        except CheckpointError as error:
            say(f"refused {error}; the one before it is used")
    return None
