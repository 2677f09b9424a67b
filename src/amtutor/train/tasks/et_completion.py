"""Learn to complete CIFAR-10 pictures of which half or three quarters of the patches are hidden."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from amtutor import _check, _weights, data, fast
from amtutor.network.masked_images import (
    STD,
    MaskedImageModel,
    PatchModel,
    _lowest,
    build,
    hide_patches,
    to_patches,
)
from amtutor.train import Draws, Settings, Task, ranged, register

__all__ = ["Completion", "CompletionSettings", "masks", "mean_errors", "patch_error"]


@dataclass(frozen=True, kw_only=True)
class CompletionSettings(Settings):
    """Settings of the model and of what is hidden from it.

    ``core`` is "energy" (an Energy Transformer) or "transformer" (the plain one, for comparison).
    """

    core: str = ranged("energy", choices=("energy", "transformer"))
    dim: int = ranged(128, least=1, most=10**5)
    n_heads: int = ranged(4, least=1, most=10**4)
    head_dim: int = ranged(32, least=1, most=10**4)  # energy
    n_memories: int = ranged(512, least=1, most=10**7)  # energy
    descent_steps: int = ranged(8, least=1, most=10**4)  # energy: T, steps down in each block
    step_size: float = ranged(0.2, above=0, most=1e3)  # energy: eta
    beta: float | None = ranged(None, above=0, most=1e6)  # energy; none: 1 / sqrt(head_dim)
    exclude_self: bool = True  # energy: B != C
    hidden: int = ranged(512, least=1, most=10**6)  # transformer: width of the two-layer network
    depth: int = ranged(1, least=1, most=1000)  # blocks
    patch_size: int = ranged(4, least=1, most=32)
    # Of the patches are hidden; each picture gets one of these shares.
    fractions: tuple[float, ...] = ranged((0.5, 0.75), above=0, below=1)
    fast: bool = False  # energy: train by the hand-scheduled twin
    # Training pictures that are never learned from; settings are chosen there.
    held_out: int = ranged(2000, least=1, most=49_999)

    def __post_init__(self) -> None:
        """See that the patches fit the picture."""
        super().__post_init__()
        if 32 % self.patch_size:
            raise _check.fail("patch_size", self.patch_size, "a divisor of 32, the pictures' side")
        if not self.fractions:
            raise _check.fail("fractions", self.fractions, "at least one")
        if self.core == "transformer" and self.dim % self.n_heads:
            raise _check.fail("n_heads", self.n_heads, f"a divisor of dim = {self.dim}")


@register("et-completion")
class Completion(Task[CompletionSettings, PatchModel]):
    """Mean squared error of hidden patches; flips; a fresh mask for every picture and step."""

    Config = CompletionSettings

    def __init__(self, config: CompletionSettings, device: torch.device | str = "cpu"):
        super().__init__(config, device)
        self.draws_figures = config.core == "energy"  # the other has no energy to draw
        self._data: dict[str, Tensor] | None = None

    def data(self) -> dict[str, Tensor]:
        """Return the pictures to learn from, and the last ``held_out`` ones apart."""
        if self._data is None:
            images = torch.from_numpy(data.cifar10("train")[0]).to(self.device)
            kept = len(images) - self.config.held_out
            self._data = {"images": images[:kept], "held_out": images[kept:]}
        return self._data

    def build(self) -> PatchModel:
        """Return a new model."""
        model = build(self.config.to_dict()).to(self.device)
        if self.config.core == "energy":
            model.walk_by = fast.walk if self.config.fast else model.walk_by
        return model

    def loss(
        self, model: PatchModel, data: dict[str, Tensor], draws: Draws
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean squared error on hidden patches, in units of the pixels' variance."""
        images, hidden = self.batch(data, draws)
        error = patch_error(model(images, hidden), images, self.config.patch_size)
        mse = (error * hidden).sum() / hidden.sum()
        return mse / STD**2, {"mse": mse.detach()}

    def batch(self, data: dict[str, Tensor], draws: Draws) -> tuple[Tensor, Tensor]:
        """Return pictures (B, 3, 32, 32) in [0, 1], half of them mirrored, and what is hidden."""
        rows = draws.rows(len(data["images"]))
        images = data["images"][rows]
        images = torch.where(draws.uniform("flip", (1, 1, 1)) < 0.5, images, images.flip(-1))
        images = images.float() / 255
        n = (images.shape[-1] // self.config.patch_size) ** 2
        fractions = torch.tensor(self.config.fractions, device=images.device)
        chosen = fractions[draws.integers("fraction", 0, len(fractions))]
        return images, _lowest(draws.uniform("hidden", (n,)), (chosen * n).long())

    def after_step(self, model: PatchModel, data: dict, step: int, draws: Draws) -> None:
        """Keep the layer norms' gamma positive: the energy falls only as long as it is."""
        for block in getattr(model, "blocks", []):
            if hasattr(block, "attention"):
                block.norm.gamma.clamp_(min=1e-3)

    def evaluate(self, model: PatchModel, data: dict[str, Tensor]) -> dict[str, float]:
        """Return the error on the pictures kept apart, by share of hidden patches."""
        return {
            f"mse_{round(100 * f)}": float(mean_errors(model, data["held_out"], f).mean())
            for f in (0.5, 0.75)
        }

    def sample(self, model: PatchModel, n: int, *, seed: int) -> Tensor:
        """Return pictures kept apart, four tiles each: masked, completed, true, what is off."""
        true = self.data()["held_out"][: -(-n // 4)].float() / 255
        hidden = masks(len(true), model.n_patches, 0.5, seed=seed).to(true.device)
        masked = model.fill(true, hidden, torch.full_like(to_patches(true, model.patch_size), 0.5))
        guess = model.complete(true, hidden)
        rows = torch.stack([masked, guess, true, (guess - true).abs()], 1).flatten(0, 1)
        return (255 * rows[:n]).round().byte()

    def figures(
        self, model: PatchModel, data: dict[str, Tensor], folder: Path, *, metrics: list[dict]
    ) -> list[Path]:
        """MM Fig 3.3, right: pictures kept apart going downhill, and their energy."""
        from matplotlib.figure import Figure

        from amtutor import show

        true = data["held_out"][:8].float() / 255
        hidden = masks(len(true), model.n_patches, 0.5).to(true.device)
        assert isinstance(model, MaskedImageModel)  # the other draws no figures
        walk = model.walk(true, hidden).trajectory
        assert walk is not None  # it was recorded
        frames = model.frames(true, hidden, walk.states)
        show.use_style()
        rows = torch.cat([frames, true[None]]).cpu()
        titles = [f"step {t}" for t in range(len(frames))] + ["the truth"]
        grid = show.image_grid(rows, shape=tuple(true.shape[1:]), row_titles=titles)
        trace = show.energy_trace(walk.energies.cpu()).figure
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / "fig3_3.png", folder / "fig3_3_energy.png"]
        for path, figure in zip(paths, (grid, trace), strict=True):
            assert isinstance(figure, Figure)  # a whole one: no axes were handed in
            figure.savefig(path)
        return paths

    def finish(self, model: PatchModel, folder: str | Path) -> None:
        """Write the weights, float16, and their card, as they ship in the package."""
        name = {"energy": "et_completion", "transformer": "transformer_completion"}
        path = Path(folder) / f"{name[self.config.core]}.safetensors"
        state = _weights.half(model.state_dict())
        shipped = copy.deepcopy(model)
        shipped.load_state_dict({k: v.float() for k, v in state.items()})  # what ships is measured
        _weights.ship(path, state, kind="masked images", **self.card(shipped))

    def card(self, model: PatchModel) -> dict[str, Any]:
        """Return what one must know about these weights."""
        images = self.data()["images"].cpu().numpy()
        return {
            "what": "masked CIFAR-10 pictures completed by an Energy Transformer, float16"
            if self.config.core == "energy"
            else "masked CIFAR-10 pictures completed by a plain Transformer, float16",
            "config": self.config.to_dict(),
            "parameters": sum(p.numel() for p in model.parameters()),
            "data": "CIFAR-10, training split without its last "
            f"{self.config.held_out} pictures; no test picture was seen",
            "data_sha256": hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest(),
            "metrics": {
                f"held_out_{k}": round(v, 6)
                for k, v in self.evaluate(model.eval(), self.data()).items()
            },
        }


def masks(n_images: int, n_patches: int, fraction: float, *, seed: int = 1) -> Tensor:
    """Return the masks that everything is measured with: the same for every method."""
    generator = torch.Generator().manual_seed(seed)
    return hide_patches(n_images, n_patches, fraction, generator=generator)


def patch_error(guessed: Tensor, images: Tensor, patch_size: int) -> Tensor:
    """Return the mean squared error of each patch, (B, N)."""
    return (guessed - to_patches(images, patch_size)).square().mean(-1)


@torch.no_grad()
def mean_errors(
    model: PatchModel, images: Tensor, fraction: float, *, batch_size: int = 250
) -> Tensor:
    """Return the mean squared error on hidden pixels for each picture of uint8 ``images``, (n,).

    Guesses are cut to [0, 1], as `PatchModel.complete` does.
    """
    hidden = masks(len(images), model.n_patches, fraction).to(images.device)
    errors = []
    for x, h in zip(images.split(batch_size), hidden.split(batch_size), strict=True):
        x = x.float() / 255
        error = patch_error(model(x, h).clamp(0, 1), x, model.patch_size)
        errors.append((error * h).sum(1) / h.sum(1))
    return torch.cat(errors)
