"""Training: one config, one loop, one run folder, for every task of the book.

>>> from amtutor.train import Settings, ranged, Task, Draws, register  # for a task of your own
>>> from amtutor.train import fit, Run  # to train it, and to open what came of it

Importing this package costs nothing beyond torch; ``fit`` brings 🤗 Accelerate when it is called.
"""

from __future__ import annotations

from amtutor.train.config import Settings, ranged
from amtutor.train.draws import Draws
from amtutor.train.presets import Preset, load_preset, preset_names
from amtutor.train.task import Task, find_task, register

__all__ = [
    "Draws",
    "Preset",
    "Run",
    "Settings",
    "Task",
    "evaluate_run",
    "find_task",
    "fit",
    "load_preset",
    "preset_names",
    "ranged",
    "register",
]


def __getattr__(name: str):
    """Bring ``fit``, ``Run`` and ``evaluate_run`` when they are asked for."""
    if name == "fit":
        from amtutor.train.loop import fit

        return fit
    if name == "Run":
        from amtutor.train.run import Run

        return Run
    if name == "evaluate_run":
        from amtutor.train.evaluation import evaluate_run

        return evaluate_run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
