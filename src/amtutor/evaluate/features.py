"""What pictures are compared by: features and logits of a network, from one place for all metrics.

``"c10"`` is our own classifier (`amtutor.evaluate.c10`); ``"inception"`` the network of the FID, as
torch-fidelity has it. The two measure different things: their numbers have different names.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from amtutor import _check, _weights
from amtutor._extras import need
from amtutor._files import digest, write_whole
from amtutor.data import files
from amtutor.evaluate import c10

__all__ = ["Extractor", "Features", "extractor"]

NAMED = ("c10", "inception")
INCEPTION = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{INCEPTION}"
INCEPTION_BLOCK = 50  # pictures in one forward pass: the last bits of Inception depend on it


@dataclass(frozen=True)
class Features:
    """Features (N, F) and logits (N, C) of one set of pictures, and the set's hash."""

    features: Tensor
    logits: Tensor
    sha256: str

    def __len__(self) -> int:
        return len(self.features)

    @cached_property
    def moments(self) -> dict[str, np.ndarray]:
        """Mean and covariance in float64, by torch-fidelity."""
        features = _check.finite("features", self.features.double())
        return torch_fidelity("metric_fid").fid_features_to_statistics(features)

    def __getitem__(self, rows: slice | Tensor | np.ndarray) -> Features:
        """Take some of the rows; the hash is then that of the whole with a mark."""
        return Features(self.features[rows], self.logits[rows], f"part of {self.sha256}")


@dataclass(frozen=True)
class Extractor:
    """A way from pictures uint8 (N, 3, H, W) to `Features`; called with pictures it returns them.

    ``names`` maps torch-fidelity's metrics (fid, is, kid, precision, recall) to what they are
    called with these features; ``protocol`` says all that a number depends on.
    """

    run: Callable[[Tensor], tuple[Tensor, Tensor]]
    names: dict[str, str]
    protocol: dict[str, str] = field(default_factory=dict)

    def __call__(self, images: np.ndarray | Tensor, *, cache: bool = False) -> Features:
        """Compute the features; with ``cache``, keep them on disk for the next time."""
        images = pictures("images", images)
        sha256 = c10.picture_hash(images)
        path = self._cached(images) if cache else None
        if path is not None and (kept := _read(path, len(images))) is not None:
            return Features(*kept, sha256)
        found = Features(*self.run(torch.from_numpy(images)), sha256)
        if path is not None:
            _write(path, found)
        return found

    def _cached(self, images: np.ndarray) -> Path:
        """Name the file by the network's weights and the pictures *in their order*.

        Features are kept row by row: the same pictures in another order are other features.
        """
        key = hashlib.sha256()
        for part in ("features", "features_sha256", "resize"):
            key.update(f"{self.protocol[part]}\n".encode())
        key.update(f"{images.shape}\n".encode())
        key.update(images.data)
        return files.cache() / "features" / f"{key.hexdigest()[:24]}.safetensors"


def pictures(name: str, images: np.ndarray | Tensor) -> np.ndarray:
    """Return pictures as a contiguous uint8 array (N, 3, H, W), or say what they are instead."""
    if not isinstance(images, Tensor | np.ndarray):
        raise TypeError(f"{name}: got a {_check.describe(images)}, expected uint8 (N, 3, H, W)")
    images = images.detach().cpu().numpy() if isinstance(images, Tensor) else images
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != 3 or not images.size:
        raise ValueError(
            f"{name}: got {images.dtype} of shape {images.shape}, "
            "expected uint8 (N, 3, H, W) with values 0..255"
        )
    return np.ascontiguousarray(images)


def check_seed(seed: int) -> int:
    """Return a seed that NumPy's generators take."""
    return _check.count("seed", seed, least=0, most=2**32 - 1)


def check_features_of(name: str, x: Features) -> Features:
    """Return ``x`` if it is `Features`."""
    if not isinstance(x, Features):
        raise TypeError(f"{name}: got a {_check.describe(x)}, expected Features")
    return x


def extractor(
    features: str | Path | Extractor = "c10", *, device: torch.device | str | None = None
) -> Extractor:
    """Return what `fidelity` compares by.

    ``features`` is "c10"; "inception" (weights by download); or a path: ``.safetensors`` of a
    c10 classifier, ``.pth`` of Inception as torch-fidelity has it.

    Raises:
        ValueError: neither of these, or a file that does not hold such weights.
        FileNotFoundError: there is no such file, or no network to download from.
        ImportError: torch-fidelity is missing.
    """
    if isinstance(features, Extractor):
        return features
    check_features(features)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if features == "c10":
        return _c10(c10.WEIGHTS, device)
    if features == "inception":
        return _inception(_download_inception(), device)
    path = Path(features)
    return (_c10 if path.suffix == ".safetensors" else _inception)(path, device)


def check_features(features: str | Path) -> None:
    """Refuse what is no name of features and no path to weights, before anything is computed."""
    if not isinstance(features, str | Path):
        got = _check.describe(features)
        raise TypeError(f"features: got a {got}, expected 'c10', 'inception', or a path")
    if features in NAMED:
        return
    path = Path(features)
    if path.suffix not in (".safetensors", ".pth", ".pt"):
        raise ValueError(
            f"features = {str(features)!r}: expected 'c10', 'inception', or a path to weights "
            "(.safetensors of c10, .pth of Inception)"
        )
    if not path.is_file():
        raise FileNotFoundError(f"features = {str(path)!r}: no such file")


def _c10(path: Path, device: torch.device) -> Extractor:
    model = c10.load(path).to(device)
    names = {"fid": "fd-c10", "is": "is-c10", "kid": "kd-c10"}
    names |= {"precision": "precision-c10", "recall": "recall-c10"}
    protocol = {
        "features": f"amtutor c10 classifier, last hidden layer ({model.widths[2]}), float32",
        "features_sha256": digest(path),
        "resize": "none (32 x 32)",
    }

    def run(images: Tensor) -> tuple[Tensor, Tensor]:
        if images.shape[2:] != (32, 32):
            raise ValueError(f"images: got {tuple(images.shape)}, expected (N, 3, 32, 32) for c10")
        return c10.extract(model, images)

    return Extractor(run, names, protocol)


def _inception(path: Path, device: torch.device) -> Extractor:
    try:
        # Read it without running code first: torch-fidelity itself would unpickle anything.
        torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = " ".join(str(error).split())[:80]
        raise ValueError(f"{path}: no weights of Inception ({reason})") from None
    module = torch_fidelity("feature_extractor_inceptionv3")
    try:
        model = module.FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=path
        ).to(device)
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:80]
        raise ValueError(f"{path}: no weights of Inception ({reason})") from None
    names = {name: name for name in ("fid", "is", "kid", "precision", "recall")}
    protocol = {
        "features": "torch-fidelity inception-v3-compat: 2048 and logits_unbiased, float32",
        "features_sha256": digest(path),
        "resize": "bilinear to 299 x 299 like TensorFlow 1 (torch-fidelity)",
    }

    @torch.no_grad()
    def run(images: Tensor) -> tuple[Tensor, Tensor]:
        parts = []
        for block in images.split(INCEPTION_BLOCK):
            missing = block.new_zeros(INCEPTION_BLOCK - len(block), *block.shape[1:])
            out = model(torch.cat((block, missing)).to(device))
            parts.append([x[: len(block)].float().cpu() for x in out])
        features, logits = (torch.cat(column) for column in zip(*parts, strict=True))
        return features, logits

    return Extractor(run, names, protocol)


def _download_inception() -> Path:
    """Return the file that torch-fidelity would use, fetched once (91 MB) into torch's cache."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = path.stem.rpartition("-")[2]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            torch.hub.download_url_to_file(INCEPTION_URL, str(path), hash_prefix=prefix)
    except (OSError, RuntimeError) as error:
        raise FileNotFoundError(
            f"the Inception weights could not be downloaded ({error}); fetch {INCEPTION_URL} "
            "elsewhere and pass --features PATH, or use --features c10 (fd-c10, which is no FID)"
        ) from None
    return path


def torch_fidelity(module: str = ""):
    """Import (a module of) torch-fidelity, or say how to install it."""
    _import_torchvision()
    return need(f"torch_fidelity.{module}".rstrip("."))


def _import_torchvision() -> None:
    """Import torchvision; where its operators are a CUDA build beside a CPU torch, mend that.

    There ``import torchvision`` fails for two operators that it expects to be declared. Nothing
    here calls them, so declaring them is enough. Nothing is done where the import works.
    """
    try:
        need("torchvision")
        return
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    for name in [m for m in sys.modules if m.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
    for operator in ("nms", "qnms"):
        torch.library.define(f"torchvision::{operator}", signature)
    need("torchvision")


# The cache of features


def _read(path: Path, count: int) -> tuple[Tensor, Tensor] | None:
    """Read cached features; anything that is wrong with the file means: compute them again."""
    if not path.is_file():
        return None
    try:
        tensors = _weights.read_safetensors(path)
        found = tensors["features"], tensors["logits"]
    except (OSError, ValueError, KeyError):
        return None
    return found if len(found[0]) == len(found[1]) == count else None


def _write(path: Path, found: Features) -> None:
    """Write cached features whole or not at all; a full or read-only disk is no reason to stop."""
    tensors = {"features": found.features, "logits": found.logits}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, _weights.to_safetensors(tensors))
    except OSError as error:
        print(f"features not cached: {error}", file=sys.stderr)
