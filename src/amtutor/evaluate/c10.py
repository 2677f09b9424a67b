"""A small CIFAR-10 classifier: its answers are told in seconds, its features measure pictures.

Three blocks of two convolutions over a frozen whitening layer, after the recipe that K. Jordan
published as "94% on CIFAR-10 in 3.29 seconds" (2024); narrower here, so that it ships in 3 MB.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amtutor import _check, _weights

__all__ = ["Classifier", "extract", "load", "picture_hash", "save"]

#: Mean and standard deviation of the red, green and blue of CIFAR-10's training set, in [0, 1].
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)
CLASSES = 10
#: The weights that ship with the package, about 2.3 MB.
WEIGHTS = Path(__file__).parents[1] / "weights" / "c10_features.safetensors"
BLOCK = 250  # pictures in one forward pass: always the same, so that features do not depend on it


class Block(nn.Module):
    """Convolution, pooling and convolution, each with batch normalisation and a GELU."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.conv1 = _identity_conv(width_in, width)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = _identity_conv(width, width)
        self.norm2 = nn.BatchNorm2d(width)
        for norm in (self.norm1, self.norm2):
            norm.weight.requires_grad_(False)  # the scale is the next layer's to choose

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width_in, H, W) to (B, width, H // 2, W // 2)."""
        x = F.gelu(self.norm1(F.max_pool2d(self.conv1(x), 2)))
        return F.gelu(self.norm2(self.conv2(x)))


class Classifier(nn.Module):
    """Pictures uint8 (B, 3, 32, 32) to logits (B, 10); `features` is what the last layer sees.

    ``widths`` are the channels of the three blocks. `whiten` must see training pictures once
    before training: it sets the first layer, which is then frozen.

    >>> model, images = Classifier((8, 16, 16)), torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    >>> model(images).shape, model.features(images).shape
    (torch.Size([2, 10]), torch.Size([2, 16]))
    """

    mean: Tensor
    std: Tensor

    def __init__(self, widths: tuple[int, int, int] = (64, 192, 192)) -> None:
        super().__init__()
        if not isinstance(widths, tuple | list) or len(widths) != 3:
            raise _check.fail("widths", widths, "three numbers of channels")
        self.widths = tuple(_check.count("widths", w) for w in widths)
        self.whitening = nn.Conv2d(3, 24, 2, bias=False).requires_grad_(False)
        ins = (24, *self.widths[:2])
        self.blocks = nn.Sequential(*(Block(i, o) for i, o in zip(ins, self.widths, strict=True)))
        self.head = nn.Linear(self.widths[2], CLASSES, bias=False)
        self.register_buffer("mean", 255 * torch.tensor(MEAN).reshape(3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(STD).reshape(3, 1, 1), persistent=False)

    def features(self, images: Tensor) -> Tensor:
        """Return the last hidden layer, (B, widths[2]), of uint8 pictures (B, 3, 32, 32)."""
        x = ((_seen(images) - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        x = self.blocks(F.gelu(self.whitening(x)))
        return x.amax((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, 10); divided by nine, which suits label smoothing."""
        return self.head(self.features(images)) / 9

    @torch.no_grad()
    def whiten(self, images: Tensor, *, eps: float = 5e-4) -> None:
        r"""Set the first layer so that its outputs on 2 x 2 patches are uncorrelated.

        With the patches' covariance :math:`C = \sum_k \lambda_k u_k u_k^\top`, filter k is
        :math:`u_k/\sqrt{\lambda_k + \epsilon}` and filter k + 12 its negative.
        """
        x, eps = (_seen(images) - self.mean) / self.std, _check.positive("eps", eps)
        patches = F.unfold(x, 2).transpose(1, 2).reshape(-1, 12).double()
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (vectors / (values + eps).sqrt()).T.reshape(12, 3, 2, 2)
        self.whitening.weight.copy_(torch.cat((filters, -filters)))


def _seen(images: Tensor) -> Tensor:
    """Return pictures (B, 3, H, W) large enough for three poolings, or say what they are."""
    if _check.tensor("images", images).ndim != 4 or images.is_complex():
        raise ValueError(f"images: got a {_check.describe(images)}, expected (B, 3, 32, 32)")
    if images.shape[1] != 3 or min(images.shape[2:]) < 9:
        raise ValueError(f"images: got shape {tuple(images.shape)}, expected (B, 3, 32, 32)")
    return images


def _identity_conv(width_in: int, width: int) -> nn.Conv2d:
    """Make a 3 x 3 convolution whose first filters hand their input on."""
    conv = nn.Conv2d(width_in, width, 3, padding="same", bias=False)
    nn.init.dirac_(conv.weight.data[:width_in])
    return conv


# Weights that ship


def save(model: Classifier, path: str | Path, **about: Any) -> None:
    """Write the weights as float16 safetensors, ``widths`` in the header, and a card beside.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     save(Classifier((8, 16, 16)), Path(place) / "mine.safetensors", made_by="a test")
    ...     load(Path(place) / "mine.safetensors").widths
    (8, 16, 16)
    """
    state = _weights.half(model.state_dict())
    metadata = {"widths": json.dumps(model.widths)}
    _weights.ship(Path(path), state, metadata=metadata, kind="c10 features", **about)


def load(path: str | Path | None = None) -> Classifier:
    """Load a classifier in float32, in eval mode; the one that ships unless a path is given.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no classifier of this kind.

    >>> load().widths
    (64, 192, 192)
    """
    path = Path(path) if path is not None else WEIGHTS
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected weights of `amtutor.evaluate.c10`")
    try:
        state, metadata = _weights.read_with_metadata(path)
        model = Classifier(tuple(json.loads(metadata.get("widths", "null"))))
        model.load_state_dict(state)
    except (ValueError, TypeError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:100]
        raise ValueError(f"{path}: no weights of amtutor.evaluate.c10 ({reason})") from None
    return channels_last(model.float().eval().requires_grad_(False))


def channels_last(model: Classifier) -> Classifier:
    """Lay the weights out for pictures whose channels come last: sooner on a CPU."""
    move: Any = model.to  # torch's hints leave memory_format out
    return move(memory_format=torch.channels_last)


@torch.no_grad()
def extract(model: Classifier, images: np.ndarray | Tensor) -> tuple[Tensor, Tensor]:
    """Return features (N, F) and logits (N, 10), float32 on the CPU, of uint8 pictures.

    Always in blocks of 250, the last one filled up, so that a picture's numbers do not depend on
    how many others are asked for.

    >>> features, logits = extract(Classifier((8, 16, 16)), np.zeros((3, 3, 32, 32), np.uint8))
    >>> features.shape, logits.shape
    (torch.Size([3, 16]), torch.Size([3, 10]))
    """
    if not isinstance(model, Classifier):
        raise TypeError(f"model: got a {_check.describe(model)}, expected a Classifier")
    device = next(model.parameters()).device
    images = _check.array("images", images, "uint8 (N, 3, 32, 32)")
    if images.ndim != 4:
        raise ValueError(f"images: got a {_check.describe(images)}, expected (N, 3, 32, 32)")
    features = []
    for block in images.split(BLOCK):
        missing = BLOCK - len(block)
        full = torch.cat((block, block.new_zeros(missing, *block.shape[1:]))) if missing else block
        features.append(model.features(full.to(device)).float()[: len(block)].cpu())
    found = torch.cat(features) if features else torch.empty(0, model.widths[2])
    return found, found @ model.head.weight.T.float().cpu() / 9


def picture_hash(images: np.ndarray) -> str:
    """Return the sha256 of a set of pictures: of each one's hash, sorted, so of any order.

    >>> images = np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2)
    >>> picture_hash(images) == picture_hash(images[::-1])
    True
    """
    if not isinstance(images, np.ndarray) or not images.size or images.dtype.kind not in "biuf":
        raise TypeError(f"images: got a {_check.describe(images)}, expected an array of pictures")
    rows = np.ascontiguousarray(images).reshape(len(images), -1)
    each = sorted(hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows)
    return hashlib.sha256(b"".join(each)).hexdigest()
