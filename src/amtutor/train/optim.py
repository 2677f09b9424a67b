"""Optimisers, schedules and the running average of the weights."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from amtutor.train.config import Settings
from amtutor.train.task import Task

__all__ = ["Average", "gradient_norm", "make_optimizer", "rate"]


def rate(config: Settings, step: int) -> float:
    r"""Learning rate of update ``step`` (from 0), by ``config.schedule``.

    The warm-up is a straight line up to ``lr``. After it, with t from 0 to 1 and f = ``final_lr``:
    constant 1; linear :math:`1 - (1-f)t`; cosine :math:`f + (1-f)(1+\cos\pi t)/2`; one-cycle, a
    cosine from lr/25 up to lr in the first 30 % of all steps (or in ``warmup_steps`` where that is
    set) and a cosine down to f (or lr/250 000 where f is 0) after it.

    >>> c = Settings(task="x", steps=11, batch_size=1, lr=1.0)
    >>> [round(rate(c, s), 3) for s in (0, 5, 10)]
    [1.0, 0.5, 0.0]
    """
    if config.schedule == "one-cycle":
        return config.lr * _one_cycle(config, step)
    if step < config.warmup_steps:
        return config.lr * (step + 1) / (config.warmup_steps + 1)
    t = _through(step, config.warmup_steps, config.steps - 1)
    f = config.final_lr
    if config.schedule == "constant":
        return config.lr
    if config.schedule == "linear":
        return config.lr * (1 - (1 - f) * t)
    return config.lr * (f + (1 - f) * _half_cosine(t))


def _one_cycle(config: Settings, step: int) -> float:
    top = config.warmup_steps or 0.3 * config.steps
    if step < top:
        return 1 - (1 - 1 / 25) * _half_cosine(step / top)
    end = config.final_lr or 1 / 250_000
    return end + (1 - end) * _half_cosine(_through(step, top, config.steps - 1))


def _through(step: float, first: float, last: float) -> float:
    return min(max((step - first) / max(last - first, 1e-9), 0.0), 1.0)


def _half_cosine(t: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * t))


def make_optimizer(config: Settings, task: Task, model: nn.Module) -> torch.optim.Optimizer:
    """Build the optimiser over the task's groups."""
    groups = [{"lr_scale": 1.0, **group} for group in task.groups(model)]
    common: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay}
    if task.device.type == "cuda":
        common["fused"] = True  # one kernel a step
    if config.optimizer == "sgd":
        nesterov = config.momentum > 0
        return torch.optim.SGD(groups, momentum=config.momentum, nesterov=nesterov, **common)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, betas=config.betas, **common)


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group its rate, ``lr`` times the group's ``lr_scale``."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]


def gradient_norm(parameters: list[nn.Parameter], *, clip: float) -> Tensor:
    """Return the norm of the whole gradient; scale the gradient down to ``clip`` where it is > 0.

    A gradient that is not finite is left as it is: the caller stops, nothing is zeroed.
    """
    grads = [p.grad for p in parameters if p.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack([g.float().norm() for g in grads]))
    if clip > 0:
        torch._foreach_mul_(grads, (clip / (norm + 1e-6)).clamp(max=1.0))
    return norm


class Average:
    r"""Running average of a model: :math:`\bar\theta \leftarrow d\,\bar\theta + (1-d)\,\theta`.

    With ``ramp``, :math:`d = \min(d, (1+t)/(10+t))`, so that the first weights are soon forgotten.
    Buffers and whole numbers are copied, not averaged.
    """

    def __init__(self, model: nn.Module, decay: float, *, ramp: bool = True):
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay, self.ramp = decay, ramp
        self._pairs = list(zip(self.model.parameters(), model.parameters(), strict=True))
        self._buffers = list(zip(self.model.buffers(), model.buffers(), strict=True))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the model after update number ``step`` (from 1)."""
        decay = min(self.decay, (1 + step) / (10 + step)) if self.ramp else self.decay
        own, new = [p.data for p, _ in self._pairs], [q.detach() for _, q in self._pairs]
        torch._foreach_lerp_(own, new, 1 - decay)
        for ours, theirs in self._buffers:
            ours.copy_(theirs)


# ---------------------------------------------------------------------------- as tensors and JSON


def _fit(optimizer: torch.optim.Optimizer, state: dict[int, dict[str, Any]]) -> None:
    """Refuse a state of other parameters; torch would take it and fail some steps later."""
    own = [p for group in optimizer.param_groups for p in group["params"]]
    for index, values in state.items():
        for key, value in values.items():
            if not 0 <= index < len(own):
                raise ValueError(f"optimizer: {key} of parameter {index} of {len(own)}")
            shape = own[index].shape
            if isinstance(value, Tensor) and value.ndim and value.shape != shape:
                got = f"{key} of parameter {index} has shape {tuple(value.shape)}"
                raise ValueError(f"optimizer: {got}, expected {tuple(shape)}")


def pack(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split an optimiser's state into tensors by name and plain values."""
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {}
    for index, values in state["state"].items():
        for key, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{key}"] = value
            else:
                plain[f"{index}.{key}"] = value
    return tensors, {"plain": plain, "groups": state["param_groups"]}


@torch.no_grad()
def unpack(
    optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], plain: dict[str, Any]
) -> None:
    """Put back what :func:`pack` took apart."""
    state: dict[int, dict[str, Any]] = {}
    for name, value in {**tensors, **plain["plain"]}.items():
        index, _, key = name.partition(".")
        own = value.clone() if isinstance(value, Tensor) else value
        state.setdefault(int(index), {})[key] = own
    _fit(optimizer, state)
    groups = [{k: tuple(v) if k == "betas" else v for k, v in g.items()} for g in plain["groups"]]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    for parameter, values in optimizer.state.items():
        for key, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                # The layout of the parameter (channels last, say), or every step is slower.
                values[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
