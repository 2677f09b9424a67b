"""Equilibrium Matching: one training step of EQ's field and of one true energy, on one thread.

Both are the small rivals of chapter 17 (about 130 000 parameters, 4 x 4 patches of 32 x 32 pixels,
batch 64). A step is the loss and its gradient. A gradient of a gradient is two to three times
the arithmetic of the free field. Rounds go through all ways in turn; a ratio is their median.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from benchmarks.report import row
from torch import Tensor, nn

from amtutor.generative.equilibrium import eqm_loss
from amtutor.generative.scalar_et import compiled_field
from amtutor.train import load_preset
from amtutor.train.run import build_model
from amtutor.train.tasks.eqm import EquilibriumMatching

BATCH, ROUNDS, TARGET = 64, 5, 3.5


def model(preset: str) -> nn.Module:
    """A new field of a preset."""
    return build_model(EquilibriumMatching(load_preset(preset).config, "cpu"))


def stepper(net: nn.Module, field: Callable[..., Tensor]) -> Callable[[], float]:
    """One loss and its gradient, timed."""
    g = torch.Generator().manual_seed(0)
    x, noise = (torch.randn(BATCH, 3, 32, 32, generator=g) for _ in range(2))
    gamma, labels = torch.rand(BATCH, generator=g), torch.arange(BATCH) % 10
    weights = list(net.parameters())

    def step() -> float:
        began = time.perf_counter()
        torch.autograd.grad(eqm_loss(field, x, noise, gamma, labels=labels).mean(), weights)
        return time.perf_counter() - began

    return step


def main() -> None:
    """Print times and ratios, and that the compiled gradient is the plain one."""
    torch.set_num_threads(1)
    free, scalar = model("eqm-small-et"), model("eqm-small-scalar")
    compiled = compiled_field(scalar)
    x, labels = torch.randn(4, 3, 32, 32), torch.arange(4)
    with torch.no_grad():
        gap = float((compiled(x, labels) - scalar(x, labels)).norm() / scalar(x, labels).norm())
    assert gap < 1e-4, gap
    ways = {
        "EQ's field": stepper(free, free),
        "one energy": stepper(scalar, scalar),
        "one energy, compiled": stepper(scalar, compiled),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for step in ways.values():
        step()
    for _ in range(ROUNDS):
        for name, step in ways.items():
            seconds[name].append(step())
    base = seconds["EQ's field"]
    for name, times in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(times, base, strict=True))
        print(f"{name:22s}{statistics.median(times):8.3f} s{ratio:8.2f}")
        if name != "EQ's field":
            row(
                f"Equilibrium Matching, a training step of {name}",
                found=ratio,
                unit="times as long",
                against="EQ's field of that size",
                at_most=TARGET,
                readme=name == "one energy",
            )


if __name__ == "__main__":
    main()
