"""Memories in the space of the data, learned by energy minimisation (EM A.1 and A.2, chapter 14).

The dinosaur in the plane and the prototypes of MNIST are one task with different points.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from amtutor import _weights
from amtutor import data as amdata
from amtutor.data import split_digits
from amtutor.memory import prototypes as proto
from amtutor.memory.dense import DenseAM
from amtutor.train import Draws, Settings, Task, ranged, register
from amtutor.train.tasks._prototype_order import by_class_and_slant, nearest_label

MOMENTS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of a training, kept for EM Figs 1 and 6
PLANE = ("dinosaur", "datasaurus")
POINTS = (*PLANE, "mnist", "mnist-train", "mnist-8000")


@dataclass(frozen=True, kw_only=True)
class PrototypeSettings(Settings):
    """Settings of the dinosaur and of the prototypes."""

    # "mnist" is "mnist-train" (the official first 50 000) where it can be had, else "mnist-8000"
    # (8 000 of the 10 000 test digits, the other 2 000 held out).
    points: str = ranged("dinosaur", choices=POINTS)
    n_memories: int = ranged(120, least=1, most=10**7)
    beta: float = ranged(60.0, above=0, most=1e9)  # of half the square: EM's 30 is 60, its 0.6 1.2
    # Standard deviation of what is added to the data, first to last step.
    noise: tuple[float, float] = ranged((1.0, 0.1), least=0, most=1e6)
    clip: bool = False  # noisy data back into [0, 1]
    # Of memories at the start, around zero; 0: around the mean, as EM A.2.
    init_std: float = ranged(1.5, least=0, most=1e6)
    langevin: float = ranged(0.0, least=0, most=1e6)  # std added to the memories, falling to zero
    # Dead memories move to data every so many steps of the first 80 %.
    replace_every: int = ranged(0, least=0, most=10**10)


class Memories(nn.Module):
    """K memories of D numbers, and what they were at five moments of the training."""

    film: Tensor

    def __init__(self, k: int, dim: int):
        super().__init__()
        self.memories = nn.Parameter(torch.randn(k, dim))
        self.register_buffer("film", torch.zeros(len(MOMENTS), k, dim, dtype=torch.float16))


@register("prototypes")
class Prototypes(Task[PrototypeSettings, Memories]):
    r"""Minimise :math:`\langle E_{LSE}(x+\sigma\epsilon)\rangle` in the memories (EM 5)."""

    Config = PrototypeSettings

    def __init__(self, config: PrototypeSettings, device: torch.device | str = "cpu"):
        super().__init__(config, device)
        self.draws_pictures = config.points not in PLANE  # points in the plane are none

    def data(self) -> dict[str, Tensor]:
        """Points to learn from (n, D), and what is held out (or None in the plane)."""
        name, found = self.config.points, {}
        if name in PLANE:
            found["points"] = plane(name)
        else:
            (x, y), (held, held_y) = digits(name)
            found = {"points": x, "labels": y, "held": held, "held_labels": held_y}
        return {k: v.to(self.device) for k, v in found.items()}

    def build(self) -> Memories:
        """Memories, still without a place."""
        dim = 2 if self.config.points in PLANE else 784
        return Memories(self.config.n_memories, dim)

    def start(self, model: Memories, data: dict[str, Tensor], draws: Draws) -> None:
        """Scatter the memories around zero, or around the mean of the data as EM A.2 does."""
        if self.config.init_std:
            model.memories.mul_(self.config.init_std)
        else:
            mean, std = data["points"].mean(0), data["points"].std(0)
            model.memories.mul_((0.2 * std).clamp(0.02, 0.08)).add_(mean.clamp(0, 1))
        model.film[0] = model.memories

    def noisy(self, data: dict[str, Tensor], draws: Draws) -> Tensor:
        """The batch of this step, noise and all: drawn with replacement."""
        c, points = self.config, data["points"]
        x = points[draws.integers("rows", 0, len(points))]
        spread = proto.anneal(*c.noise, draws.step, c.steps)
        x = x + spread * draws.normal("noise", points.shape[1:])
        return x.clamp(0, 1) if c.clip else x

    def loss(
        self, model: Memories, data: dict[str, Tensor], draws: Draws
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean energy of the noisy batch."""
        x = self.noisy(data, draws)
        return proto.mean_energy(x, model.memories, beta=self.config.beta), {}

    def after_step(self, model: Memories, data: dict[str, Tensor], step: int, draws: Draws) -> None:
        """Keep memories alive where asked, and keep the film."""
        c, memories = self.config, model.memories
        if c.langevin or c.replace_every:
            kept = proto.after_step(
                memories,
                data["points"],
                step,
                steps=c.steps,
                beta=c.beta,
                langevin=c.langevin,
                replace_every=c.replace_every,
                generator=draws.shared("care"),
            )
            memories.copy_(kept)
        for frame, moment in enumerate(MOMENTS):
            if frame and step == round(moment * c.steps):
                model.film[frame] = memories

    def evaluate(self, model: Memories, data: dict[str, Tensor]) -> dict[str, float]:
        """Log-likelihood of held-out points, share of dead memories, error of retrieval."""
        held = held_out(data, self.config)
        memories, beta = model.memories, self.config.beta
        g = torch.Generator().manual_seed(1)
        clean = data.get("held", data["points"])[:1000]
        shaken = clean + 0.3 * torch.randn(clean.shape, generator=g).to(clean.device)
        back = DenseAM(memories, beta=beta).recall(shaken, steps=20).state
        likely = proto.log_likelihood(held, memories, beta=beta).mean()
        crowd = data["points"] if "held" in data else held  # many points a memory
        gone = proto.dead(crowd, memories, beta=beta).float().mean()
        return {
            "log_likelihood": float(likely),
            "dead_fraction": float(gone),
            "distance_noisy": float((shaken - clean).norm(dim=-1).mean()),
            "distance_retrieved": float((back - clean).norm(dim=-1).mean()),
        }

    def sample(self, model: Memories, n: int, *, seed: int) -> Tensor:
        """Start from noise, go downhill, (n, 1, 28, 28) uint8; points in the plane have none."""
        g = torch.Generator().manual_seed(seed)
        x = torch.rand(n, 784, generator=g).to(model.memories.device)
        x = DenseAM(model.memories, beta=self.config.beta).recall(x, steps=50).state
        return (255 * x.clamp(0, 1)).round().to(torch.uint8).reshape(n, 1, 28, 28)

    def figures(
        self, model: Memories, data: dict[str, Tensor], folder: Path, *, metrics: list[dict]
    ) -> list[Path]:
        """EM Figs 1 and 5 for points in the plane, EM Figs 6 and 7 for digits."""
        from amtutor.train.tasks import _prototype_figures as draw

        folder.mkdir(parents=True, exist_ok=True)
        energies = [(m["step"], m["loss"]) for m in metrics if "loss" in m]
        if model.memories.shape[1] == 2:
            return draw.plane(
                model.film.float(), data, folder, beta=self.config.beta, energies=energies
            )
        frames = [round(m * self.config.steps) for m in MOMENTS]
        shaken = [self._seen(data, max(0, step - 1)) for step in frames]
        return draw.digits(
            model.film.float(),
            model.memories,
            data,
            folder,
            beta=self.config.beta,
            energies=energies,
            seen=shaken,
            steps=frames,
        )

    def _seen(self, data: dict[str, Tensor], step: int) -> Tensor:
        return self.noisy(data, Draws(self.config.seed, step, self.config.batch_size))[:12]

    def finish(self, model: Memories, folder: Path) -> None:
        """Write the memories, float16, sorted by class and slant for digits, as they ship."""
        memories = model.memories.detach()
        extra: dict[str, Tensor] = {}
        if memories.shape[1] == 784:
            data = self.data()
            labels = nearest_label(memories, data["points"], data["labels"])
            order = by_class_and_slant(memories, labels)
            memories, extra = memories[order], {"labels": labels[order].to(torch.uint8)}
        _weights.ship(
            Path(folder) / "memories.safetensors",
            {"memories": memories.half(), **extra},
            kind="prototypes",
            what=f"memories of {self.config.points}, float16",
            config=self.config.to_dict(),
        )


# ---------------------------------------------------------------------------- data


def plane(name: str) -> Tensor:
    """Our dinosaur or the famous one, (142, 2), centred, mean squared length 2."""
    if name == "dinosaur":
        return torch.from_numpy(amdata.dinosaur()).float()
    points = torch.from_numpy(amdata.datasaurus())
    points = points - points.mean(0)
    return (points * (2 / points.square().sum(1).mean()).sqrt()).float()


def digits(name: str) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Digits to learn from and digits held out, (n, 784) in [0, 1] with their labels.

    The official training set gives 50 000 and the official test set 10 000; without it, 8 000 and
    2 000 of the test set.
    """
    if name in ("mnist", "mnist-train"):
        try:
            images, labels = amdata.mnist("train")
            return _flat(images[:50_000], labels[:50_000]), _flat(*amdata.mnist("test"))
        except amdata.DataNotFound:
            if name == "mnist-train":
                raise
    (x, y), (held, held_y) = split_digits()
    return (x.flatten(1), y), (held.flatten(1), held_y)


def _flat(images: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
    return amdata.to_unit(images).reshape(len(images), -1), torch.as_tensor(labels)


def held_out(data: dict[str, Tensor], config: PrototypeSettings) -> Tensor:
    """Digits held out; in the plane, 50 fresh jitters of each point, as wide as the last noise."""
    if "held" in data:
        return data["held"]
    points = data["points"]
    g = torch.Generator().manual_seed(2)
    jitter = torch.randn(50, *points.shape, generator=g).to(points.device)
    return (points + config.noise[1] * jitter).reshape(-1, points.shape[1])
