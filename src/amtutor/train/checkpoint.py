"""Checkpoints that can be trusted: whole or not there, checked before they are believed.

A checkpoint is a folder ``checkpoints/step-00001000`` of safetensors files, a ``state.json`` and a
``manifest.json`` with the size and SHA-256 of each. It is written under a temporary name, flushed
to the disk and renamed, so a crash at any moment leaves the checkpoints that were there. Nothing
in it is ever executed. The name of a folder is believed by nobody: what is damaged, or of another
run, is never counted, and never removed.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from amtutor import _files, _weights

__all__ = ["Checkpoint", "CheckpointError", "believed", "checkpoints", "latest", "load"]
__all__ += ["prune", "save", "set_aside"]

FORMAT = "amtutor-checkpoint-1"
_NAME = re.compile(r"step-(\d{8,15})")
_MANIFEST = 2**24  # bytes; a manifest has a few lines


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
    found = _NAME.fullmatch(path.name)
    if found is None:
        raise CheckpointError(f"{path}: no checkpoint (expected a name like {name_of(1000)})")
    return int(found[1])


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
        if final.exists():
            set_aside(final)  # one that was refused: it makes room
        temporary.rename(final)
        _files.flush_folder(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(_cannot_write(folder, checkpoint, error)) from None
    return final


def _write(folder: Path, checkpoint: Checkpoint) -> None:
    bodies: dict[str, _files.Body] = {
        f"{part}.safetensors": _weights.to_safetensors(tensors)
        for part, tensors in checkpoint.parts.items()
    }
    bodies[STATE] = json.dumps(checkpoint.state, indent=1) + "\n"
    sizes = {name: _entry(folder / name, body) for name, body in bodies.items()}
    about = {"format": FORMAT, "step": checkpoint.step, "settings": checkpoint.settings}
    text = json.dumps({**about, "files": sizes}, indent=1) + "\n"
    _files.write_flushed(folder / "manifest.json", text)
    _files.flush_folder(folder)


STATE = "state.json"


def _entry(path: Path, body: _files.Body) -> dict[str, Any]:
    size, sha256 = _files.write_flushed(path, body)
    return {"bytes": size, "sha256": sha256}


def _cannot_write(folder: Path, checkpoint: Checkpoint, error: OSError) -> str:
    kept = believed(folder, settings=checkpoint.settings)
    kept_line = f"{kept[-1].name} is untouched" if kept else "there is no earlier one"
    reason = error.strerror or str(error).splitlines()[0]
    where = folder / name_of(checkpoint.step)
    return f"{where}: the checkpoint cannot be written ({reason}); {kept_line}"


def sweep(folder: Path) -> None:
    """Remove what a crash left half-written."""
    for path in folder.glob(".writing-*"):
        shutil.rmtree(path, ignore_errors=True)


def set_aside(path: Path) -> Path:
    """Rename a checkpoint that was refused, so that nothing counts it; its bytes stay."""
    for n in itertools.count():
        aside = path.with_name(f".refused-{path.name}" + (f"-{n}" if n else ""))
        if not aside.exists():
            return path.rename(aside)
    raise AssertionError("unreachable")


def prune(
    folder: Path,
    *,
    keep: int,
    milestone_every: int = 0,
    settings: dict[str, Any] | None = None,
    upto: int | None = None,
) -> None:
    """Remove all but the last ``keep`` checkpoints and the milestones.

    Only what can be believed, is of the run with these ``settings`` and no later than step
    ``upto`` is counted or removed. Damaged ones and those of others stay where they are.
    """
    known = [p for p in believed(folder, settings=settings) if upto is None or step_of(p) <= upto]
    for path in known[:-keep]:
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
        CheckpointError: truncated, changed, of another run, or no checkpoint at all; whatever
            goes wrong while reading.
    """
    with _refusing(path):
        manifest = _read_manifest(path)
        _same_run(path, manifest["settings"], settings)
        for name, entry in manifest["files"].items():
            _check_file(path / name, entry, digest=True)
        state = json.loads((path / STATE).read_text("utf-8"))
        if not isinstance(state, dict):
            raise CheckpointError(f"{path / STATE}: expected a JSON object")
        names = [n.removesuffix(".safetensors") for n in manifest["files"] if n != STATE]
        if missing := [n for n in parts or () if n not in names]:
            raise CheckpointError(f"{path}: it has no {' and no '.join(missing)}")
        wanted = names if parts is None else parts
        tensors = {n: _weights.read_safetensors(path / f"{n}.safetensors") for n in wanted}
    return Checkpoint(manifest["step"], manifest["settings"], tensors, state)


@contextlib.contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong inside into one line about the checkpoint."""
    try:
        yield
    except CheckpointError:
        raise
    except KeyError as error:  # its text is the key alone
        raise CheckpointError(f"{path}: cannot be read ({error} is missing)") from None
    except Exception as error:
        reason = " ".join(str(error).replace(f"{path}/", "").split())[:200] or type(error).__name__
        raise CheckpointError(f"{path}: cannot be read ({reason})") from None


def _read_manifest(path: Path) -> dict[str, Any]:
    file = path / "manifest.json"
    try:
        if file.stat().st_size > _MANIFEST:
            raise ValueError
        manifest = json.loads(file.read_text("utf-8"))
        files, step = manifest["files"], manifest["step"]
        known = manifest["format"] == FORMAT and isinstance(manifest["settings"], dict)
        plain = STATE in files and all(Path(n).name == n for n in files)
        sized = all(
            isinstance(e["bytes"], int) and isinstance(e["sha256"], str) for e in files.values()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CheckpointError(f"{path}: no checkpoint of amtutor (no readable manifest)") from None
    if not (known and plain and sized):
        raise CheckpointError(f"{path}: no checkpoint of this version of amtutor")
    if step != step_of(path):
        raise CheckpointError(f"{path}: says step {step} inside, and step {step_of(path)} outside")
    return manifest


def _same_run(path: Path, theirs: dict[str, Any], ours: dict[str, Any] | None) -> None:
    """Refuse other settings; a setting that only one side knows is of another version, and fine."""
    for key in sorted(theirs.keys() & (ours or {}).keys()):
        if theirs[key] != (ours or {})[key]:
            found, own = json.dumps(theirs[key]), json.dumps((ours or {})[key])
            raise CheckpointError(
                f"{path}: a checkpoint of another run ({key} = {found}, here {own})"
            )


def _check_file(path: Path, entry: dict[str, Any], *, digest: bool) -> None:
    if not path.is_file():
        raise CheckpointError(f"{path}: missing")
    if (size := path.stat().st_size) != entry["bytes"]:
        raise CheckpointError(f"{path}: truncated, {size} of {entry['bytes']} bytes")
    if digest and _files.digest(path) != entry["sha256"]:
        raise CheckpointError(f"{path}: damaged (its SHA-256 is not the manifest's)")


def believed(folder: Path, *, settings: dict[str, Any] | None = None) -> list[Path]:
    """Return the checkpoints that look whole and are of this run, oldest step first.

    By the manifest and the sizes of the files: quick, and enough to count by. `load` also looks
    at every byte.
    """
    found = []
    for path in checkpoints(folder):
        with contextlib.suppress(CheckpointError), _refusing(path):
            manifest = _read_manifest(path)
            _same_run(path, manifest["settings"], settings)
            for name, entry in manifest["files"].items():
                _check_file(path / name, entry, digest=False)
            found.append(path)
    return found


def latest(
    folder: Path,
    *,
    settings: dict[str, Any] | None = None,
    parts: tuple[str, ...] | None = None,
    use: Callable[[Checkpoint], None] = lambda found: None,
    say: Callable[[str], None] = print,
) -> Checkpoint | None:
    """Return the newest checkpoint that can be believed; say in one line why others cannot.

    ``use`` may try what it is for: what goes wrong there is a refusal too. None: there is no
    checkpoint at all.

    Raises:
        CheckpointError: there are some, and none of them can be believed.
    """
    paths = checkpoints(folder)[::-1]
    for path, before in itertools.zip_longest(paths, paths[1:]):
        try:
            found = load(path, settings=settings, parts=parts)
            with _refusing(path):
                use(found)
        except CheckpointError as error:
            why = error
            then = "the one before it is tried" if before else "there is none before it"
            say(f"refused {error}; {then}")
            continue
        return found
    if not paths:
        return None
    raise CheckpointError(
        f"{folder}: not one checkpoint of {len(paths)} can be believed (the last: {why}); mend "
        "it, or move that folder away to start over"
    )
