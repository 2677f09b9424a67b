"""The smallest task: a few memories learn a flock of creatures by energy minimisation.

It is what the harness is tried on, and a model for a task of your own: a config, the data, a
model, a loss, and what to show.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from amtutor import data as amdata
from amtutor.memory.dense import lse_energy, lse_gradient
from amtutor.train import Draws, Settings, Task, ranged, register

SHAPE = (1, 24, 24)


@dataclass(frozen=True, kw_only=True)
class ToySettings(Settings):
    """Settings of the toy."""

    creatures: int = ranged(64, least=1, most=100_000)
    n_memories: int = ranged(32, least=1, most=10**7)
    beta: float = ranged(1.0, above=0, most=1e6)
    # Standard deviation of what is added to a creature, whose pixels are 0 and 1.
    noise: float = ranged(0.3, least=0, most=1e6)


class Memories(nn.Module):
    """K memories of D numbers, small and random at first."""

    def __init__(self, k: int, dim: int):
        super().__init__()
        self.memories = nn.Parameter(0.5 + 0.05 * torch.randn(k, dim))


@register("toy")
class Toy(Task[ToySettings, Memories]):
    r"""Minimise the mean energy of noisy creatures, :math:`E_{LSE}(x + \sigma\epsilon)`."""

    Config = ToySettings

    def data(self) -> dict[str, Tensor]:
        """All creatures as uint8 pictures."""
        images = amdata.sprites(self.config.creatures).images
        return {"images": torch.from_numpy(images).to(self.device)}

    def build(self) -> Memories:
        """Memories, a grey haze at first."""
        return Memories(self.config.n_memories, 24 * 24)

    def loss(
        self, model: Memories, data: dict[str, Tensor], draws: Draws
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean energy of the batch, and how many memories are nearest to somebody in it."""
        clean = data["images"][draws.rows(len(data["images"]))].flatten(1).to(model.memories)
        x = clean + self.config.noise * draws.normal("noise", clean.shape[1:])
        energy = lse_energy(x, model.memories, beta=self.config.beta).mean()
        return energy / clean.shape[1], {}

    def after_step(self, model: Memories, data: dict[str, Tensor], step: int, draws: Draws) -> None:
        """Ink cannot be less than none, or more than all."""
        model.memories.clamp_(0, 1)

    def evaluate(self, model: Memories, data: dict[str, Tensor]) -> dict[str, float]:
        """Share of memories that are nearest to no creature, and distance of creatures to them."""
        gaps = torch.cdist(data["images"].flatten(1).to(model.memories), model.memories)
        used = gaps.argmin(1).unique().numel()
        dead = 1 - used / len(model.memories)
        return {"dead_fraction": dead, "distance": float(gaps.min(1).values.mean())}

    def sample(self, model: Memories, n: int, *, seed: int) -> Tensor:
        """Start anywhere, far out, and go downhill: (n, 1, 24, 24) uint8."""
        generator = torch.Generator(device=self.device).manual_seed(seed)
        # Near the middle everything falls to the one memory that is most like the mean.
        x = 3 * torch.randn(n, 24 * 24, generator=generator, device=self.device)
        x = x.to(model.memories)
        for _ in range(5):
            x = x - lse_gradient(x, model.memories.detach(), beta=self.config.beta)
        return (255 * x.clamp(0, 1)).round().to(torch.uint8).reshape(n, *SHAPE)
