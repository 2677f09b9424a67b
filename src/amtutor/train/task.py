"""What is trained: data, a model, a loss. The loop knows nothing else about it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from amtutor.train import tasks
from amtutor.train.config import Settings, unknown
from amtutor.train.draws import Draws

__all__ = ["Task", "find_task", "known_task", "register"]

C = TypeVar("C", bound=Settings)
M = TypeVar("M", bound=nn.Module)
T = TypeVar("T", bound="type[Task]")


class Task(Generic[C, M]):
    """Base of all tasks: subclass, set ``Config``, write ``data``, ``build`` and ``loss``.

    ``Task[MySettings, MyModel]`` tells a type checker what ``config`` and the models are.

    All that training changes must live in the model's parameters and buffers: they, the optimiser
    and the step are what a checkpoint holds. Random numbers come from ``draws``, so that a resumed
    run and a run on several processes see the same ones.
    """

    Config: type[Settings] = Settings
    name: str = ""  # set by `register`
    unused_parameters: bool = False  # True where some parameters get no gradient in some steps
    # Set by writing `sample` and `figures`; a task may unset them where its config has none.
    draws_pictures: bool = False
    draws_figures: bool = False

    def __init_subclass__(cls, **options: Any) -> None:
        """Note what the class can draw."""
        super().__init_subclass__(**options)
        cls.draws_pictures = cls.draws_pictures or "sample" in vars(cls)
        cls.draws_figures = cls.draws_figures or "figures" in vars(cls)

    def __init__(self, config: C, device: torch.device | str = "cpu"):
        """Keep the config and the device; override to prepare more, but read no data here."""
        self.config = config
        self.device = torch.device(device)

    def data(self) -> dict[str, Tensor]:
        """Return the whole training set, on the device (images as uint8, moved once)."""
        raise NotImplementedError(f"task {self.name!r} has no data")

    def build(self) -> M:
        """Return a new model; torch's random numbers are seeded from ``config.seed`` before."""
        raise NotImplementedError(f"task {self.name!r} builds no model")

    def start(self, model: M, data: dict[str, Tensor], draws: Draws) -> None:
        """Set the model up from the data, once, before the first step (without gradient)."""

    def loss(
        self, model: M, data: dict[str, Tensor], draws: Draws
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss, mean over the local batch, and scalars to log."""
        raise NotImplementedError(f"task {self.name!r} has no loss")

    def groups(self, model: M) -> list[dict[str, Any]]:
        """Return optimiser groups: by default no weight decay for biases, scales and the like.

        A group may set ``weight_decay`` and ``lr_scale`` (a factor on the schedule's rate).
        """
        trained = [p for p in model.parameters() if p.requires_grad]
        flat = [p for p in trained if p.ndim <= 1]
        thick = [p for p in trained if p.ndim > 1]
        groups: list[dict[str, Any]] = [{"params": thick}, {"params": flat, "weight_decay": 0.0}]
        return [group for group in groups if group["params"]]

    def after_step(self, model: M, data: dict[str, Tensor], step: int, draws: Draws) -> None:
        """Change the model after update number ``step`` (from 1), without gradient.

        Runs on every process and must do the same on each: use ``draws.shared``.
        """

    def compile(self, model: M) -> None:
        """Compile in place what ``loss`` calls; by default the model's ``forward``."""
        model.compile()

    def evaluate(self, model: M, data: dict[str, Tensor]) -> dict[str, float]:
        """Return numbers to log as ``eval/...``, from the averaged model in eval mode."""
        return {}

    def sample(self, model: M, n: int, *, seed: int) -> Tensor:
        """Return ``n`` pictures, (n, C, H, W) uint8."""
        raise NotImplementedError(f"task {self.name!r} draws no samples")

    def figures(
        self,
        model: M,
        data: dict[str, Tensor],
        folder: Path,
        *,
        metrics: list[dict[str, Any]],
    ) -> list[Path]:
        """Draw into ``folder`` what the paper draws, and return the files.

        ``metrics`` are the lines of metrics.jsonl.
        """
        raise NotImplementedError(f"task {self.name!r} draws no figures")

    def finish(self, model: M, folder: Path) -> None:
        """Write what a finished run exports."""


_TASKS: dict[str, type[Task]] = {}


def register(name: str) -> Callable[[T], T]:
    """Give a task class its name, the ``task`` of its configs."""

    def keep(cls: T) -> T:
        cls.name = name
        _TASKS[name] = cls
        return cls

    return keep


def find_task(name: str) -> type[Task]:
    """Return the task class of this name; its module is imported when first asked for.

    Raises:
        ValueError: there is no such task.
    """
    if not known_task(name):
        raise unknown(str(name), sorted({*_TASKS, *tasks.names()}), "task")
    return _TASKS[name]


def known_task(name: Any) -> bool:
    """Whether there is a task of this name, registered or shipped."""
    if not isinstance(name, str):
        raise ValueError(f"task = {name!r}: expected the name of one")
    if name not in _TASKS and (module := tasks.module_of(name)):
        importlib.import_module(module)
    return name in _TASKS
