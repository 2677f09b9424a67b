"""Sizes that no machine has, refused before memory is taken."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from amtutor import _check
from amtutor.train.task import Task

__all__ = ["check_batch", "check_model", "check_pictures", "count_parameters", "memory"]

COPIES = 4  # of the weights while training: themselves, their gradient, two moments
PASSES = 3  # of a batch: itself, noise or a copy, what the model makes of it


def memory(device: torch.device) -> int | None:
    """Return the bytes of memory that a device has in all; None where nobody says."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return None


def count_parameters(task: Task, *, device: str = "meta") -> int | None:
    """Count the numbers that a task's model learns; None if it cannot be built on ``device``.

    On "meta" that takes no memory.
    """
    try:
        with torch.device(device), torch.random.fork_rng(devices=[]):
            model = type(task)(task.config, device).build()
    except (RuntimeError, NotImplementedError, OSError, TypeError, ValueError):
        return None
    return sum(p.numel() for p in model.parameters())


def check_model(task: Task) -> None:
    """Refuse a model that does not fit into the memory there is."""
    have, count = memory(task.device), count_parameters(task)
    if have and count and 4 * COPIES * count > have:
        raise ValueError(
            f"the model: {count:.3g} parameters, {_giga(4 * COPIES * count)} with gradient and "
            f"optimiser, expected at most the {_giga(have)} of this machine"
        )


def check_batch(task: Task, data: dict[str, Tensor], rows: int) -> None:
    """Refuse a batch (``rows`` of it on this process) that does not fit into memory."""
    have = memory(task.device)
    example = max((x[0].numel() for x in data.values() if x.ndim and len(x)), default=1)
    if have and 4 * PASSES * rows * example > have:
        most = have // (4 * PASSES * example)
        raise _check.fail("batch_size", task.config.batch_size, f"at most {most}: {_giga(have)}")


def check_pictures(n: int, part: Tensor) -> None:
    """Refuse ``n`` pictures like those of ``part`` that do not fit into memory together."""
    have = memory(torch.device("cpu"))
    each = part[0].numel() * part.element_size()
    if have and 2 * n * each > have:
        raise _check.fail("n", n, f"at most {have // (2 * each)}: {_giga(have)} of memory")


def _giga(size: int) -> str:
    return f"{size / 1e9:.3g} GB"
