"""Processes and devices by 🤗 Accelerate: one process, several GPUs or nodes, one config."""

from __future__ import annotations

from datetime import timedelta

import torch
from torch import Tensor, nn

from amtutor import _check
from amtutor._extras import need

__all__ = ["World"]

_PATIENCE = timedelta(hours=3)  # others wait while the first process evaluates


class World:
    """What a training needs to know of the processes that share it.

    `torchrun -m amtutor train ...` and `accelerate launch -m amtutor train ...` start several. The
    precision is the config's business, so that what Accelerate was configured for cannot change
    a run.
    """

    def __init__(self, device: torch.device | str | None = None, *, unused: bool = False):
        if device is not None:
            device = _check.device("device", device)
        accelerate = need("accelerate")
        cpu = device.type == "cpu" if device is not None else not torch.cuda.is_available()
        state = accelerate.state.AcceleratorState
        if state._shared_state and state._shared_state.get("_cpu") != cpu:
            state._reset_state(reset_partial_state=True)
        handlers = [
            accelerate.DistributedDataParallelKwargs(find_unused_parameters=unused),
            accelerate.InitProcessGroupKwargs(timeout=_PATIENCE),
        ]
        self.accelerator = accelerate.Accelerator(
            cpu=cpu, mixed_precision="no", kwargs_handlers=handlers
        )
        own = self.accelerator.device
        self.device = device if device is not None and self.size == 1 else own

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        return self.accelerator.process_index

    @property
    def size(self) -> int:
        """Number of processes."""
        return self.accelerator.num_processes

    @property
    def main(self) -> bool:
        """Whether this process writes the folder."""
        return self.accelerator.is_main_process

    def share(self, module: nn.Module) -> nn.Module:
        """Have gradients averaged over the processes, where there are several."""
        return self.accelerator.prepare_model(module) if self.size > 1 else module

    def gather(self, x: Tensor) -> Tensor:
        """Return the values of all processes, (size, \\*shape)."""
        return self.accelerator.gather(x[None]) if self.size > 1 else x[None]

    def any(self, flag: bool) -> bool:
        """Whether it is true on any process."""
        if self.size == 1:
            return flag
        return bool(self.gather(torch.tensor(float(flag), device=self.device)).any())

    def wait(self) -> None:
        """Wait until all processes are here."""
        self.accelerator.wait_for_everyone()
