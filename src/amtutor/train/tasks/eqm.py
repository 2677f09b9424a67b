"""Equilibrium Matching (EQ): a field without a clock, free or the gradient of one energy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from amtutor import _check
from amtutor import data as amdata
from amtutor.generative import trained_fields
from amtutor.generative.equilibrium import (
    SCHEDULES,
    Schedule,
    eqm_loss,
    guided_by_weight,
    sample,
    sample_nesterov,
)
from amtutor.generative.et_eqm import PULLS
from amtutor.generative.latent import to_pictures, to_pixels
from amtutor.generative.scalar_et import BlockEnergyModel, DecodedDistance, compiled_field
from amtutor.network import towers
from amtutor.train import Draws, Settings, Task, ranged, register

MODELS = tuple(trained_fields.MODELS)
SHAPES = {"cifar10": (3, 32, 32), "mnist": (1, 28, 28), "small": (1, 8, 8)}
FIFTHS = 5
OWNERS = {  # settings that only some models have
    "skip": ("et",),
    "mix_heads": ("et", "decoded-distance", "block-energies"),
    "class_in_blocks": ("et", "decoded-distance"),
    "levels": ("decoded-distance",),
    "cone": ("et", "decoded-distance"),
    "n_fine": ("decoded-distance",),
    "stiffness": ("et", "decoded-distance"),
}


@dataclass(frozen=True, kw_only=True)
class EqmSettings(Settings):
    """Settings of the field, of what it learns and of how it draws.

    EQ gives the sizes, a, lambda, the guidance and 500 steps. It does not say alpha
    (``token_step``), eta (``travel`` / ``sample_steps``), whether weights are averaged, how often a
    label is dropped, or T in Table 1: those here are ours.
    """

    pictures: str = ranged("cifar10", choices=tuple(SHAPES))
    # "et": the paper's; "decoded-distance", "block-energies": gradients of one scalar; "sit".
    model: str = ranged("et", choices=MODELS)
    patch_size: int = ranged(2, least=1, most=32)
    dim: int = ranged(768, least=4, most=10**5)
    n_heads: int = ranged(12, least=1, most=10**4)
    head_dim: int = ranged(64, least=1, most=10**4)  # not of sit
    n_memories: int = ranged(3072, least=1, most=10**7)  # not of sit
    depth: int = ranged(1, least=1, most=1000)  # L
    descent_steps: int = ranged(1, least=1, most=1000)  # T; of et and decoded-distance
    token_step: float = ranged(1.0, above=0, most=1e3)  # alpha; not of sit
    positions: str = ranged("sinusoidal", choices=("sinusoidal", "learned"))  # not of sit
    mix_heads: bool = False  # not of sit
    class_in_blocks: str = ranged("no", choices=PULLS)  # of et and decoded-distance
    levels: int = ranged(1, least=1, most=5)  # of decoded-distance: resolutions under one sum
    cone: float = ranged(0.0, least=0, most=1e3)  # of et and decoded-distance: a round cone
    stiffness: float = ranged(1.0, above=0, most=1e6)  # s at the start
    skip: bool = False  # of et: a x beside it
    n_filters: int = ranged(0, least=0, most=10**4)  # of a local term, free (et) or an energy
    n_fine: int = ranged(0, least=0, most=10**4)  # of decoded-distance: filters inside the decoder
    stem: int = ranged(0, least=0, most=10**4)  # of scalars: channels of a convolution in front
    c: str = ranged("truncated", choices=tuple(SCHEDULES))
    a: float = ranged(0.8, above=0, below=1)  # of c truncated or piecewise
    scale: float = ranged(4.0, above=0, most=1e4)  # lambda
    drop_label: float = ranged(0.1, least=0, below=1)
    flip: bool = True  # mirror half of the photographs
    guidance: float = ranged(0.0, least=0, most=100)  # w: (1 + w) f(x, y) - w f(x)
    sample_steps: int = ranged(500, least=1, most=10**6)
    travel: float = ranged(0.4, above=0, most=100)  # sum of the step sizes
    nesterov: float = ranged(0.0, least=0, below=1)  # momentum, of steps as long in all

    def __post_init__(self) -> None:
        """See that the sizes fit."""
        super().__post_init__()
        side = SHAPES[self.pictures][-1]
        if side % self.patch_size:
            raise _check.fail("patch_size", self.patch_size, f"a divisor of the side {side}")
        if self.dim % 4:
            raise _check.fail("dim", self.dim, "a multiple of 4")
        if self.model == "sit" and self.dim % self.n_heads:
            raise _check.fail("n_heads", self.n_heads, f"a divisor of dim = {self.dim}")
        for name, owners in OWNERS.items():
            value, plain = getattr(self, name), type(self).__dataclass_fields__[name].default
            if value != plain and self.model not in owners:
                names = " and ".join(map(repr, owners))
                raise _check.fail(name, value, f"{plain}: it is a setting of {names}")
        if side % 2 ** (self.levels - 1) or (side >> (self.levels - 1)) % self.patch_size:
            raise _check.fail("levels", self.levels, f"halvings of {side} that patches divide")

    def decay(self) -> Schedule:
        """Return c as a function of gamma."""
        ends = {"a": self.a} if self.c in ("truncated", "piecewise") else {}
        return partial(SCHEDULES[self.c], scale=self.scale, **ends)


@register("eqm")
class EquilibriumMatching(Task[EqmSettings, nn.Module]):
    """Mean squared error of a field between noise and pictures (EQ 2)."""

    Config = EqmSettings

    def data(self) -> dict[str, Tensor]:
        """Pictures as uint8 with their classes, to learn from and held out (CIFAR-10: test)."""
        name = self.config.pictures
        if name == "cifar10":
            arrays = (*amdata.cifar10("train"), *amdata.cifar10("test"))
            x, y, held, held_y = (torch.from_numpy(array) for array in arrays)
        else:
            (x, y), (held, held_y) = amdata.split_digits(name)
            x, held = (255 * x).round(), (255 * held).round()
        return {
            "images": x.to(self.device, torch.uint8),
            "labels": y.to(self.device, torch.int64),
            "held": held.to(self.device, torch.uint8),
            "held_labels": held_y.to(self.device, torch.int64),
        }

    def build(self) -> nn.Module:
        """Return a new field."""
        return trained_fields.build(**self.sizes())

    def sizes(self) -> dict[str, Any]:
        """Return what `trained_fields.build` takes: the kind of field, and its sizes."""
        c = self.config
        names = ["patch_size", "dim", "n_heads", "depth"]
        if c.model != "sit":
            names += ["head_dim", "n_memories", "n_filters", "positions", "mix_heads"]
        names += {
            "et": ["descent_steps", "skip", "class_in_blocks", "cone", "stiffness"],
            "decoded-distance": [
                *(
                    "descent_steps",
                    "stem",
                    "class_in_blocks",
                    "levels",
                    "cone",
                    "stiffness",
                    "n_fine",
                ),
            ],
            "block-energies": ["stem"],
            "sit": [],
        }[c.model]
        sizes = {name: getattr(c, name) for name in names}
        if c.model != "sit":
            sizes["step_size"] = c.token_step
        return {"model": c.model, "shape": SHAPES[c.pictures], **sizes}

    def loss(
        self, model: nn.Module, data: dict[str, Tensor], draws: Draws
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """EQ 2, a label in ten left out."""
        c, rows = self.config, draws.rows(len(data["images"]))
        x, y = data["images"][rows], data["labels"][rows]
        if c.flip and c.pictures == "cifar10":
            x = torch.where(draws.uniform("flip", (1, 1, 1)) < 0.5, x, x.flip(-1))
        y = torch.where(draws.uniform("drop") < c.drop_label, _null(model), y)
        x = to_pixels(x)
        noise, gamma = draws.normal("noise", x.shape[1:]), draws.uniform("gamma")
        loss = eqm_loss(model, x, noise, gamma, labels=y, schedule=c.decay()).mean()
        return loss, {}

    def after_step(self, model: nn.Module, data: dict, step: int, draws: Draws) -> None:
        """Keep the layer norms' gamma positive: tokens go downhill only as long as it is."""
        for name, p in model.named_parameters():
            if name.endswith("norm.gamma"):
                p.clamp_(min=1e-3)

    def compile(self, model: nn.Module) -> None:
        """A scalar's gradient is compiled as one function; the others as they are."""
        if isinstance(model, DecodedDistance | BlockEnergyModel):
            model.field_by = compiled_field(model)
        else:
            model.compile()

    @torch.no_grad()
    def evaluate(self, model: nn.Module, data: dict[str, Tensor]) -> dict[str, float]:
        """Loss on pictures held out, by fifths of gamma; of digits, the share named as asked."""
        n = min(len(data["held"]) // FIFTHS * FIFTHS, 1000)
        g = torch.Generator().manual_seed(0)
        x, y = to_pixels(data["held"][:n]), data["held_labels"][:n]
        gamma = ((torch.arange(n) + torch.rand(n, generator=g)) / n).to(x.device)  # evenly spread
        noise = torch.randn(x.shape, generator=g).to(x.device)
        losses = torch.cat(
            [
                eqm_loss(model, *part[:3], labels=part[3], schedule=self.config.decay())
                for part in zip(*(t.split(250) for t in (x, noise, gamma, y)), strict=True)
            ]
        )
        found = {"loss": float(losses.mean())}
        for k, part in enumerate(losses.tensor_split(FIFTHS)):
            found[f"loss_{k}_{FIFTHS}"] = float(part.mean())
        if self.config.pictures == "mnist":
            found["named_as_asked"] = named_as_asked(self.draw(model, 100, seed=0), 10)
        return found

    def sample(self, model: nn.Module, n: int, *, seed: int) -> Tensor:
        """Go down from noise, class after class (EQ 4): (n, C, H, W) uint8."""
        return to_pictures(self.draw(model, n, seed=seed))

    def draw(self, model: nn.Module, n: int, *, seed: int) -> Tensor:
        """Return pixels (n, C, H, W) of classes 0, 1, ... 9, 0, ...; about [-1, 1]."""
        c, null = self.config, _null(model)
        g = torch.Generator().manual_seed(seed)
        start = torch.randn(n, *SHAPES[c.pictures], generator=g).to(self.device)
        labels = (torch.arange(n) % null).to(self.device)
        field = guided_by_weight(model, c.guidance, null=null)
        go, step = sample, c.travel / c.sample_steps
        if c.nesterov:
            go, step = partial(sample_nesterov, momentum=c.nesterov), step * (1 - c.nesterov)
        parts = zip(start.split(500), labels.split(500), strict=True)
        walks = [go(field, x, labels=y, steps=c.sample_steps, step_size=step) for x, y in parts]
        return torch.cat([walk.state for walk in walks])

    def figures(
        self, model: nn.Module, data: dict[str, Tensor], folder: Path, *, metrics: list[dict]
    ) -> list[Path]:
        """Pictures on their way down, and the norm of the field."""
        from matplotlib.figure import Figure

        from amtutor import show

        c = self.config
        start = torch.randn(10, *SHAPES[c.pictures], generator=torch.Generator().manual_seed(1))
        field = guided_by_weight(model, c.guidance, null=_null(model))
        labels = torch.arange(10, device=self.device) % _null(model)
        walk = sample(
            field,
            start.to(self.device),
            labels=labels,
            steps=c.sample_steps,
            step_size=c.travel / c.sample_steps,
            record=True,
        ).trajectory
        assert walk is not None  # it was recorded
        at = [round(k * c.sample_steps / 6) for k in range(7)]
        rows = (walk.states[at].clamp(-1, 1).cpu() + 1) / 2
        shape = SHAPES[c.pictures]
        rows = rows if shape[0] == 3 else rows[:, :, 0]
        show.use_style()
        shape = SHAPES[c.pictures]
        titles = [f"step {t}" for t in at]
        colour = shape if shape[0] == 3 else None
        grid = show.image_grid(rows, shape=colour, row_titles=titles, vmin=0, vmax=1)
        norm = show.energy_trace((2 * walk.energies).sqrt().cpu() / math.sqrt(math.prod(shape)))
        norm.set_ylabel("length of the field, per number")
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / "going_down.png", folder / "field_norm.png"]
        for path, figure in zip(paths, (grid, norm.figure), strict=True):
            assert isinstance(figure, Figure)  # a whole one: no axes were handed in
            figure.savefig(path)
        return paths


def named_as_asked(pixels: Tensor, n_classes: int) -> float:
    """Share of digits, asked for as 0, 1, ..., 9, 0, ..., that our own classifier names so.

    It is the feed-forward tower of chapter 5 (MNIST digits only).
    """
    ham = towers.load("one_way")
    top = towers.one_way(ham, (pixels.detach().cpu().clamp(-1, 1) + 1) / 2)
    return float((top.argmax(-1) == torch.arange(len(pixels)) % n_classes).float().mean())


def _null(model: nn.Module) -> int:
    """The label that stands for no class; a model in its wrappers has it inside."""
    inner: Any = model
    while hasattr(inner, "module"):
        inner = inner.module
    return int(inner.null)
