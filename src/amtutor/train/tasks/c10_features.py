"""Train the small CIFAR-10 classifier whose features measure pictures (`amtutor.evaluate.c10`)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from amtutor import data
from amtutor.evaluate import c10
from amtutor.train import Draws, Settings, Task, ranged, register


@dataclass(frozen=True, kw_only=True)
class FeatureSettings(Settings):
    """Settings of the classifier; ``held_out`` > 0 keeps that many training pictures apart."""

    widths: tuple[int, int, int] = ranged((64, 192, 192), least=1, most=10**5)
    label_smoothing: float = ranged(0.2, least=0, below=1)
    translate: int = ranged(2, least=0, most=31)  # pixels, each way, with reflection
    # Of the biases of batch normalisation, which learn slowly.
    bias_lr_scale: float = ranged(64.0, above=0, most=1e6)
    # Training pictures to choose settings on; 0: train on all, test on the test pictures.
    held_out: int = ranged(0, least=0, most=49_999)
    train_images: int = ranged(0, least=0, most=50_000)  # use only so many of the rest; 0: all


@register("c10-features")
class C10Features(Task[FeatureSettings, c10.Classifier]):
    """Classify CIFAR-10: label smoothing, alternating flips, translations with reflection."""

    Config = FeatureSettings

    @cached_property
    def _data(self) -> dict[str, Tensor]:
        config = self.config
        train = tuple(torch.from_numpy(a) for a in data.cifar10("train"))
        kept = len(train[0]) - config.held_out
        if config.held_out:
            others = tuple(a[kept:] for a in train)
        else:
            others = tuple(torch.from_numpy(a) for a in data.cifar10("test"))
        if config.train_images:
            kept = min(kept, config.train_images)
        images, labels = (a[:kept] for a in train)
        flip = torch.randint(2, (kept,), generator=torch.Generator().manual_seed(config.seed))
        names = ("images", "labels", "flip", "test_images", "test_labels")
        parts = zip(names, (images, labels, flip, *others), strict=True)
        return {name: part.to(self.device) for name, part in parts}

    def data(self) -> dict[str, Tensor]:
        """Return training and evaluation pictures, their labels, and each one's first flip."""
        return self._data

    def build(self) -> c10.Classifier:
        """Return the network; `start` whitens its first layer."""
        model = c10.Classifier(self.config.widths).to(self.device)
        return c10.channels_last(model)

    def start(self, model: c10.Classifier, data: dict[str, Tensor], draws: Draws) -> None:
        """Set the first layer from the first 5 000 pictures."""
        model.whiten(data["images"][:5000])

    def loss(
        self, model: c10.Classifier, data: dict[str, Tensor], draws: Draws
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the cross-entropy with smoothed labels, and the share that was right."""
        rows = draws.rows(len(data["images"]))
        epoch = draws.step * self.config.batch_size // len(data["images"])
        flip = (data["flip"][rows] + epoch) % 2  # every other epoch, from a random first side
        reach = self.config.translate
        shift = draws.integers("shift", 0, 2 * reach + 1, (2,)) - reach
        logits = model(augment(data["images"], rows, flip, shift)).float()
        labels = data["labels"][rows]
        loss = F.cross_entropy(logits, labels, label_smoothing=self.config.label_smoothing)
        return loss, {"accuracy": (logits.detach().argmax(1) == labels).float().mean()}

    def groups(self, model: c10.Classifier) -> list[dict]:
        """Return two groups: biases of the normalisations, fast and undecayed; all the rest."""
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        biases = [p for n, p in named if ".norm" in n]
        rest = [p for n, p in named if ".norm" not in n]
        return [
            {"params": biases, "lr_scale": self.config.bias_lr_scale, "weight_decay": 0.0},
            {"params": rest},
        ]

    def evaluate(self, model: c10.Classifier, data: dict[str, Tensor]) -> dict[str, float]:
        """Return the accuracy on the pictures kept apart, plain and with the mirror image."""
        plain, flipped = accuracy(model, data["test_images"], data["test_labels"])
        split = "held_out" if self.config.held_out else "test"
        return {f"{split}_accuracy": plain, f"{split}_accuracy_flip": flipped}

    def finish(self, model: c10.Classifier, folder: str | Path) -> None:
        """Write ``c10_features.safetensors`` and ``.json``, as they ship in the package."""
        path = Path(folder) / "c10_features.safetensors"
        c10.save(model, path)
        shipped = c10.load(path)  # what ships is measured
        metrics = self.evaluate(shipped.to(self.device), self.data())
        images = self.data()["images"]
        about = {
            "what": "CIFAR-10 classifier of amtutor, float16; measures pictures as fd-c10",
            "made_by": "amtutor train c10-features",
            "config": self.config.to_dict(),
            "parameters": sum(p.numel() for p in model.parameters()),
            "training_images": len(images),
            "training_images_sha256": c10.picture_hash(images.cpu().numpy()),
            "metrics": metrics,
        }
        c10.save(model, path, **about)


def augment(images: Tensor, rows: Tensor, flip: Tensor, shift: Tensor) -> Tensor:
    """Gather pictures, mirrored and moved, what comes into view reflected at the border.

    ``images`` (N, C, H, W); ``rows`` (B,) indices; ``flip`` (B,) 0 or 1; ``shift`` (B, 2) pixels
    (down, right). Returns (B, C, H, W) of the same dtype: one gather, no arithmetic.
    """
    channels, height, width = images.shape[1:]
    across = torch.arange(width, device=images.device)
    across = torch.where(flip[:, None] == 1, width - 1 - across, across)
    down = torch.arange(height, device=images.device) - shift[:, :1]
    across = torch.where(flip[:, None] == 1, across + shift[:, 1:], across - shift[:, 1:])
    y, x = _reflect(down, height), _reflect(across, width)
    c = torch.arange(channels, device=images.device)
    return images[
        rows[:, None, None, None], c[:, None, None], y[:, None, :, None], x[:, None, None]
    ]


def _reflect(index: Tensor, size: int) -> Tensor:
    """Fold indices from outside 0..size-1 back in, the border itself not repeated."""
    return size - 1 - (size - 1 - index.abs()).abs()


@torch.no_grad()
def accuracy(
    model: c10.Classifier, images: Tensor, labels: Tensor, *, batch_size: int = 500
) -> tuple[float, float]:
    """Return the share of right answers: for the pictures, and averaged with their mirror image."""
    training = model.training
    model.eval()
    right = torch.zeros(2, dtype=torch.int64)
    for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        one = model(x).float()
        both = one + model(x.flip(-1)).float()
        right += torch.stack([(z.argmax(1) == y).sum() for z in (one, both)]).cpu()
    model.train(training)
    return tuple((right.double() / len(labels)).tolist())
