"""The latent memory of EM section 4 and A.3: autoencoder and memories trained together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from amtutor import _weights
from amtutor import data as amdata
from amtutor.generative import latent
from amtutor.memory.dense import lse_energy
from amtutor.train import Draws, Settings, Task, ranged, register


@dataclass(frozen=True, kw_only=True)
class LatentSettings(Settings):
    """Settings of the latent memory; the defaults are EM A.3's, or our choice where it has none."""

    n_memories: int = ranged(4096, least=1, most=10**7)  # K
    dim: int = ranged(512, least=1, most=10**5)  # d
    width: int = ranged(128, least=1, most=10**4)  # channels of the first level
    multipliers: tuple[int, ...] = ranged((1, 2, 2, 4), least=1, most=1024)
    blocks: int = ranged(4, least=1, most=1000)  # residual blocks per level
    attention: tuple[int, ...] = ranged((16, 8), least=1, most=32)  # resolutions
    n_heads: int = ranged(4, least=1, most=10**4)
    groups: int = ranged(32, least=1, most=10**4)
    patch: int = ranged(1, least=1, most=32)  # ours: 2 halves the resolution before the first level
    # Both of the whole square, as in EM 4.
    beta_whole_start: float = ranged(1.25e-4, above=0, most=1e9)
    beta_whole_end: float = ranged(30.0, above=0, most=1e9)
    beta_steps: int = ranged(50_000, least=0, most=10**10)
    replace_every: int = ranged(5000, least=0, most=10**10)  # only during the first beta_steps
    replace_fraction: float = ranged(0.1, least=0, most=1)
    replace_idle: bool = False  # ours: replace the memories that nobody is nearest to first
    stop_gradient: bool = True  # EM 7; false shows what happens without it
    memory_std: float = ranged(1.0, least=0, most=1e6)  # EM does not say how the memories start
    memory_lr_scale: float = ranged(1.0, above=0, most=1e6)  # ours: for the memories of short runs
    decay_memories: bool = True  # AdamW's decay, which EM does not restrict
    sigma: float = ranged(10.0, above=0, most=1e6)  # sampling: where noise starts,
    descent_steps: int = ranged(100, least=1, most=10**6)
    descent_step_size: float = ranged(0.05, above=0, most=1e3)
    langevin: float = ranged(0.005, least=0, most=1e3)  # and what is added in every step
    train_images: int = ranged(0, least=0, most=50_000)  # 0: all of them
    log_gradients: bool = True  # norms of the three gradients at every logged step (EM Fig 9)

    def __post_init__(self) -> None:
        """See that encoder and decoder can be built."""
        super().__post_init__()
        self.shape()

    def shape(self) -> latent.Shape:
        """Return what encoder and decoder are made of."""
        return latent.Shape.of(self.to_dict())


@register("latent")
class Latent(Task[LatentSettings, latent.LatentMemory]):
    r"""Minimise :math:`E_\Xi(\Omega(z)) + \frac1N\|g_\phi(z)-x\|^2` (EM 7) on CIFAR-10."""

    Config = LatentSettings

    def data(self) -> dict[str, Tensor]:
        """Training and test pictures, uint8, on the device."""
        n = self.config.train_images or None
        parts = {"images": amdata.cifar10("train")[0][:n], "test": amdata.cifar10("test")[0]}
        return {k: torch.from_numpy(v).to(self.device) for k, v in parts.items()}

    def build(self) -> latent.LatentMemory:
        """The system, channels last (three times as fast on a CPU)."""
        c = self.config
        model = latent.LatentMemory(c.n_memories, c.dim, shape=c.shape(), memory_std=c.memory_std)
        return latent.channels_last(model)

    def loss(
        self, model: latent.LatentMemory, data: dict[str, Tensor], draws: Draws
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """EM 7, its two terms, beta, and now and then how hard each part is pulled."""
        c = self.config
        x = latent.to_pixels(data["images"][draws.rows(len(data["images"]))])
        x = x.contiguous(memory_format=torch.channels_last)
        beta = self.beta(draws.step)
        energy, error = (
            term.mean() for term in model(x, beta_whole=beta, stop_gradient=c.stop_gradient)
        )
        loss = energy + error
        metrics = {"energy": energy.detach(), "reconstruction": error.detach(), "beta": beta}
        logged = (draws.step + 1) % c.log_every == 0
        if c.log_gradients and logged and torch.is_grad_enabled() and not c.compile:
            metrics |= gradient_norms(model, loss)
        return loss, metrics

    def beta(self, step: int) -> Tensor:
        """Return beta at a step, as a tensor: a compiled model must not be compiled anew for it."""
        c = self.config
        value = latent.beta_schedule(
            step, start=c.beta_whole_start, end=c.beta_whole_end, steps=c.beta_steps
        )
        return torch.tensor(value, dtype=torch.float32).to(self.device)

    def groups(self, model: latent.LatentMemory) -> list[dict]:
        """Weights with decay, biases and scales without, memories at their own rate."""
        c, memories = self.config, model.memories
        rest = [p for p in model.parameters() if p is not memories]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in rest if p.ndim > 1]},
            {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
            {"params": [memories], "lr_scale": c.memory_lr_scale},
        ]
        if not c.decay_memories:
            groups[2]["weight_decay"] = 0.0
        return groups

    def after_step(
        self, model: latent.LatentMemory, data: dict[str, Tensor], step: int, draws: Draws
    ) -> None:
        """Replace a tenth of the memories by codes of training pictures (EM A.3)."""
        c = self.config
        if not c.replace_every or step % c.replace_every or step > c.beta_steps:
            return
        generator = draws.shared("replace")
        # As many codes as are needed, or enough to count who is idle.
        n = 8 * c.n_memories if c.replace_idle else round(c.replace_fraction * c.n_memories)
        n = min(n, len(data["images"]))
        rows = torch.randperm(len(data["images"]), generator=generator, device=self.device)[:n]
        codes = self.codes(model, data["images"][rows])
        counts = latent.memory_counts(codes, model.memories) if c.replace_idle else None
        new, _ = latent.replace_memories(
            model.memories, codes, fraction=c.replace_fraction, counts=counts, generator=generator
        )
        model.memories.copy_(new)

    def codes(self, model: latent.LatentMemory, images: Tensor) -> Tensor:
        """Encode in the precision of the run."""
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"
        ):
            return model.encode_images(images).float()

    def evaluate(self, model: latent.LatentMemory, data: dict[str, Tensor]) -> dict[str, float]:
        """Test error, and what became of the memories.

        ``dead_fraction``: memories that none of (at most) 20 000 training pictures is nearest to;
        ``distinct_of_50k``: how many different memories 50 000 samples end at.
        """
        test = data["test"][:2000]
        with torch.no_grad():
            z = self.codes(model, test)
            error = latent.to_pixels(model.decode_images(z)) - latent.to_pixels(test)
            counts = latent.memory_counts(
                self.codes(model, data["images"][:20_000]), model.memories
            )
            g = torch.Generator(device=self.device).manual_seed(0)
            ends = winners_of_noise(model.memories, 50_000, self.config.sigma, g)
        return {
            "reconstruction": float(error.square().mean()),
            "energy": float(
                2 * lse_energy(z, model.memories, beta=2 * self.config.beta_whole_end).mean()
            ),
            "dead_fraction": float((counts == 0).float().mean()),
            "distinct_of_50k": float(ends.unique().numel()),
        }

    def sample(self, model: latent.LatentMemory, n: int, *, seed: int) -> Tensor:
        """Descend from noise and decode (EM 8): (n, 3, 32, 32) uint8."""
        c = self.config
        generator = torch.Generator(device=self.device).manual_seed(seed)
        parts = []
        for at in range(0, n, 2000):
            walk = latent.sample_latents(
                model.memories.detach(),
                min(2000, n - at),
                beta_whole=c.beta_whole_end,
                sigma=c.sigma,
                steps=c.descent_steps,
                step_size=c.descent_step_size,
                noise=c.langevin,
                generator=generator,
            )
            parts.append(model.decode_images(walk.state))
        return torch.cat(parts)

    def figures(
        self,
        model: latent.LatentMemory,
        data: dict[str, Tensor],
        folder: Path,
        *,
        metrics: list[dict],
    ) -> list[Path]:
        """Draw what EM shows in Figs 2, 3, 4, 8, 9, 10 and 11."""
        from amtutor.train.tasks import _latent_figures

        return _latent_figures.draw(self, model, data, Path(folder), metrics)

    def finish(self, model: latent.LatentMemory, folder: str | Path) -> None:
        """Write ``latent.safetensors`` (float16) and ``latent.json``, as the book's run ships."""
        _weights.ship(
            Path(folder) / "latent.safetensors",
            _weights.half(model.state_dict()),
            kind="latent memory",
            what="autoencoder and memories of CIFAR-10 (EM section 4), float16",
            config=self.config.to_dict(),
            parameters=latent.parameter_counts(model),
        )


def winners_of_noise(memories: Tensor, n: int, sigma: float, generator) -> Tensor:
    r"""Return the memory that each of ``n`` samples ends at, (n,): the nearest to its start."""
    memories, parts = memories.detach(), []
    for at in range(0, n, 5000):
        size = (min(5000, n - at), memories.shape[1])
        start = sigma * torch.randn(size, generator=generator, device=memories.device)
        parts.append(latent.winners(start, memories))
    return torch.cat(parts)


def gradient_norms(model: latent.LatentMemory, loss: Tensor) -> dict[str, Tensor]:
    """L2 norms of the gradients of memories, encoder and decoder (EM Fig 9)."""
    model = getattr(model, "module", model)  # inside DistributedDataParallel
    parts = {
        "memories": [model.memories],
        "encoder": list(model.encode.parameters()),
        "decoder": list(model.decode.parameters()),
    }
    flat = [p for group in parts.values() for p in group]
    slopes = iter(torch.autograd.grad(loss, flat, retain_graph=True, allow_unused=True))
    norms = {}
    for name, group in parts.items():
        found = [s.float().norm() for _, s in zip(group, slopes, strict=False) if s is not None]
        norms[f"gradient_{name}"] = torch.stack(found).norm()
    return norms
