"""A run folder that explains itself: config, README, environment, metrics."""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import subprocess
from collections.abc import Iterator
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import amtutor
from amtutor._extras import MissingExtra, need
from amtutor._files import named, write_whole
from amtutor.train.config import FREE, Settings, read_json
from amtutor.train.task import Task

__all__ = ["Metrics", "alone", "metrics_of", "settle", "write_about"]

_OURS = "A training run of amtutor"
_README = """\
{head}
task {task}, {steps} steps of {batch_size} examples, {parameters} parameters

Go on where it stopped (nothing is lost but the steps since the last checkpoint):
    {command}
Then, from the same place:
{then}    tensorboard --logdir {out}/tensorboard

What is here:
    config.json        every setting, resolved; `amtutor train config.json` starts a twin
    environment.txt    versions, device and git commit of every start
    metrics.jsonl      one line per logged step
    tensorboard/       the same numbers
    samples/           pictures along the way
    checkpoints/       step-*/: safetensors, state.json, and a manifest with sizes and SHA-256
    finished.txt       there when the last step is done
"""


def settle(config: Settings, folder: Path) -> list[str]:
    """Compare a config with that of the run in ``folder``; return notes on what changed.

    Raises:
        ValueError: a setting differs that would make it another run, or the folder is no run's
            and has a README.txt, which would be lost.
    """
    path, told = folder / "config.json", folder / "README.txt"
    if not path.is_file():
        if told.is_file() and not told.read_bytes().startswith(_OURS.encode()):
            raise ValueError(f"{told}: of something else than a run; train into another folder")
        return []
    old = read_json(path).get("config", {})
    new = config.to_dict()
    changed = {k: old[k] for k in new if k in old and old[k] != new[k]}
    for key, value in changed.items():
        if key not in FREE:
            raise ValueError(
                f"{folder}: started with {key} = {json.dumps(value)}, now "
                f"{json.dumps(new[key])}; leave it to resume, or train into another folder"
            )
    notes = [f"{k}: {json.dumps(v)} -> {json.dumps(new[k])}" for k, v in changed.items()]
    if "steps" in changed and new["schedule"] != "constant":
        notes.append(f"the {new['schedule']} schedule is now drawn for {new['steps']} steps")
    return notes


def write_about(folder: Path, task: Task, about: dict[str, str], parameters: int) -> None:
    """Write config.json and README.txt, and add this start to environment.txt.

    The module of a task that is not of this package is kept, so that the run can be opened.
    """
    path, config = folder / "config.json", task.config
    before = read_json(path) if path.is_file() else {}
    if not type(task).__module__.startswith(("amtutor.", "__main__")):
        before = {"module": type(task).__module__, **before}
    about = {k: v for k, v in {**before, **about}.items() if k not in ("amtutor", "config")}
    record = {**about, "amtutor": amtutor.__version__, "config": config.to_dict()}
    write_whole(path, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    preset = about.get("preset", "config.json")
    head = [f"{_OURS}: {preset}", about.get("about"), about.get("source")]
    words = {
        **config.to_dict(),
        "head": "\n".join(filter(None, head)),
        "parameters": f"{parameters:,}".replace(",", " "),
        "command": f"amtutor train {preset} --out DIR",
        "out": "DIR",
        "then": "".join(f"    amtutor {word} DIR\n" for word in _commands(task)),
    }
    write_whole(folder / "README.txt", _README.format(**words))
    with (folder / "environment.txt").open("a", encoding="utf-8") as file:
        file.write(environment(about.get("command", "")))


def _commands(task: Task) -> list[str]:
    """Name what can be done with a run of this task."""
    can = {"sample": task.draws_pictures, "evaluate": True, "figures": task.draws_figures}
    return [word for word, known in can.items() if known]


def environment(command: str = "") -> str:
    """Describe this start: when, with what, on what; no names of machines or folders."""
    names = ("accelerate", "numpy", "torchvision", "torch-fidelity")
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    lines = {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": command,
        "amtutor": f"{amtutor.__version__}, {commit()}",
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "device": ", ".join(gpus) or f"CPU, {os.cpu_count()} cores",
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,  # its metadata would not tell a CUDA build from another
        **{name: version(name) for name in names},
    }
    return "".join(f"{k}: {v}\n" for k, v in lines.items() if v) + "\n"


def version(package: str) -> str:
    """Return a package's version, or nothing where it is not installed."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return ""


def commit() -> str:
    """Return the git commit of the code, and whether it was changed since."""
    here = Path(amtutor.__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        found = git("rev-parse", "HEAD") if git("ls-files", "__init__.py") else ""
        changed = found and git("status", "--porcelain", "--untracked-files=no", "--", str(here))
    except OSError:
        found, changed = "", ""
    if not found:
        return "commit unknown"
    return f"commit {found}" + (" with changes" if changed else "")


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the folder, so that no second training writes into it.

    Raises:
        ValueError: another one does.
    """
    try:
        import fcntl
    except ImportError:  # no such locks here (Windows)
        yield
        return
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{folder}: another training writes into it now") from None
        except OSError:
            pass  # a file system without locks
        yield


class Metrics:
    """metrics.jsonl and TensorBoard, without a step twice.

    Args:
        folder: of the run.
        step: what comes after it was never meant to be (the run was killed and resumes here).
    """

    def __init__(self, folder: Path, *, step: int):
        self.path = folder / "metrics.jsonl"
        kept = [line for line in metrics_of(folder) if line["step"] <= step]
        write_whole(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        self.file = self.path.open("a", encoding="utf-8")
        self.board, self.missing = None, ""
        try:
            self.board = _board(folder / "tensorboard", step)
        except MissingExtra as error:
            self.missing = f"{self.path} has the numbers, TensorBoard none: {error}"

    def write(self, step: int, values: dict[str, float]) -> None:
        """Add the line of a step."""
        line = {"step": step, **{k: _number(v) for k, v in values.items()}}
        with named(self.path):
            self.file.write(json.dumps(line) + "\n")
            self.file.flush()
        for name, value in values.items():
            if self.board and math.isfinite(value):
                self.board.add_scalar(name, value, step)

    def picture(self, name: str, pixels: Any, step: int) -> None:
        """Show a picture (H, W, 3) in TensorBoard."""
        if self.board:
            self.board.add_image(name, pixels, step, dataformats="HWC")

    def flush(self) -> None:
        """Have the disk hold all lines, before a checkpoint says that they are there."""
        with named(self.path):
            os.fsync(self.file.fileno())
        if self.board:
            self.board.flush()

    def close(self) -> None:
        """Close both."""
        self.file.close()
        if self.board:
            self.board.close()


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None


def metrics_of(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl that are whole; what was torn or damaged is left out."""
    path, kept = folder / "metrics.jsonl", []
    for line in path.read_bytes().split(b"\n") if path.is_file() else []:
        try:
            values = json.loads(line.decode())
            if isinstance(values["step"], int):
                kept.append(values)
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return kept


def _board(folder: Path, step: int) -> Any:
    """Open TensorBoard's writer."""
    need("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(folder, purge_step=step + 1 if step else None)
