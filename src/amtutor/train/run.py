"""A run folder, opened: its config, its model, its metrics."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from amtutor import _check
from amtutor.train import checkpoint as ck
from amtutor.train.config import Settings, read_json
from amtutor.train.draws import seed_of
from amtutor.train.folder import metrics_of
from amtutor.train.presets import read_config
from amtutor.train.task import Task, find_task

__all__ = ["Run", "build_model", "default_device", "latest_run", "stored_config"]


def default_device() -> torch.device:
    """Return the GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def build_model(task: Task) -> nn.Module:
    """Build the task's model on its device, the same numbers for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(task.config.seed, "build"))
        return task.build().to(task.device)


def complain(line: str) -> None:
    """Say one line on the error stream."""
    print(line, file=sys.stderr, flush=True)


def stored_config(folder: Path) -> tuple[Settings, dict[str, Any]] | None:
    """Return config and whole record of the run in ``folder``, or None where there is none."""
    path = folder / "config.json"
    if not path.is_file():
        return None
    record = read_json(path)
    return read_config(path, record), record


class Run:
    """A run folder.

    Args:
        folder: what `amtutor train` wrote.
        device: where task and model live; the GPU where there is one.
        say: what to do with a line of warning (a refused checkpoint).

    Raises:
        ValueError: no such folder, or it holds no run.
    """

    stopped = ""  # the signal that ended `fit` early, if one did

    def __init__(
        self,
        folder: str | Path,
        *,
        device: torch.device | str | None = None,
        say: Callable[[str], None] = complain,
    ):
        self.folder = Path(folder)
        self.device = default_device() if device is None else _check.device("device", device)
        self.say = say
        stored = stored_config(self.folder)
        if stored is None:
            raise ValueError(f"{self.folder}: no run there (it has no config.json)")
        self.config, self.record = stored

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, task={self.config.task!r})"

    @property
    def checkpoints(self) -> list[Path]:
        """Folders of the checkpoints that look whole, oldest first."""
        return ck.believed(self.folder / "checkpoints", settings=self.config.lasting())

    @property
    def step(self) -> int:
        """Updates in the newest checkpoint that can be believed; 0 where there is none."""
        try:
            return self._latest(parts=(), say=lambda line: None).step
        except ck.CheckpointError:
            return 0

    @property
    def finished(self) -> bool:
        """Whether the last step is done."""
        return self.step >= self.config.steps

    @cached_property
    def task(self) -> Task:
        """The task, on the device."""
        return find_task(self.config.task)(self.config, self.device)

    @cached_property
    def data(self) -> dict[str, Tensor]:
        """The training set of the task."""
        return self.task.data()

    def load(self, *, parts: tuple[str, ...] | None = None) -> ck.Checkpoint:
        """Return the newest checkpoint that can be believed.

        Raises:
            CheckpointError: there is none.
        """
        return self._latest(parts=parts, say=self.say)

    def _latest(self, **how: Any) -> ck.Checkpoint:
        home = self.folder / "checkpoints"
        found = ck.latest(home, settings=self.config.lasting(), **how)
        if found is None:
            raise ck.CheckpointError(f"{self.folder}: no usable checkpoint yet")
        return found

    def model(self, *, ema: bool = True) -> nn.Module:
        """Return the model in eval mode, by default the averaged one where there is one."""
        part = "ema" if ema and self.config.ema_decay > 0 else "model"
        tensors = self.load(parts=(part,)).parts[part]
        model = build_model(self.task)
        fill(model, tensors, where=str(self.folder))
        return model.eval().requires_grad_(False)

    def metrics(self) -> list[dict[str, Any]]:
        """Return the lines of metrics.jsonl, in order of step."""
        return sorted(metrics_of(self.folder), key=lambda line: line["step"])


def fill(model: nn.Module, tensors: dict[str, Tensor], *, where: str) -> None:
    """Load a state dict; what does not fit is said in one line."""
    own = model.state_dict()
    for name in own.keys() | tensors.keys():
        ours, theirs = own.get(name), tensors.get(name)
        if ours is None or theirs is None:
            side = "not in the model" if ours is None else "not in the checkpoint"
            raise ck.CheckpointError(f"{where}: {name} is {side}")
        if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
            raise ck.CheckpointError(
                f"{where}: {name} is a {_check.describe(theirs)}, expected a "
                f"{_check.describe(ours)}"
            )
    model.load_state_dict(tensors)


def latest_run(root: str | Path = "runs") -> Path:
    """Return the folder under ``root`` that was trained last.

    Raises:
        ValueError: there is none.
    """

    def touched(folder: Path) -> float:
        files = [folder / "metrics.jsonl", folder / "config.json"]
        return max(f.stat().st_mtime for f in files if f.is_file())

    runs = [path.parent for path in Path(root).glob("*/config.json")]
    if not runs:
        raise ValueError(f"{root}: no run there yet; `amtutor train PRESET` starts one")
    return max(runs, key=touched)
