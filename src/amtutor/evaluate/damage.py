"""Does fd-c10 rise with what the eye sees? Noise, blur, JPEG and missing classes, more and more.

``amtutor damage`` measures it and the floor, and writes damage.json.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from amtutor import _check
from amtutor.evaluate.features import (
    Extractor,
    Features,
    check_features_of,
    check_seed,
    pictures,
)
from amtutor.evaluate.fidelity import frechet, versions

__all__ = ["STRENGTHS", "blur", "drop_classes", "floor_by_count", "jpeg", "measure", "noise"]

#: What is measured: std of the noise (of 255), std of the blur (pixels), JPEG quality, classes left
#: out of ten. Each from little to much.
STRENGTHS: dict[str, tuple[float, ...]] = {
    "noise": (4, 8, 16, 32, 64),
    "blur": (0.4, 0.6, 0.8, 1.2, 2.0),
    "jpeg": (90, 75, 50, 25, 10),
    "classes_dropped": (1, 2, 4, 6, 8),
}


def noise(images: np.ndarray, std: float, *, seed: int = 0) -> np.ndarray:
    """Add Gaussian noise of ``std`` grey levels to uint8 pictures (N, 3, H, W).

    >>> grey = np.full((1, 3, 64, 64), 128, np.uint8)
    >>> bool(abs(noise(grey, 8.0).std() - 8.0) < 0.5)
    True
    """
    images, seed = pictures("images", images), check_seed(seed)
    std = _check.non_negative("std", std)
    shaken = images + np.random.default_rng(seed).normal(0, std, images.shape).astype(np.float32)
    return np.clip(np.rint(shaken), 0, 255).astype(np.uint8)


def blur(images: np.ndarray, sigma: float) -> np.ndarray:
    """Blur uint8 pictures (N, 3, H, W) by a Gaussian of ``sigma`` pixels, borders reflected.

    >>> point = np.zeros((1, 3, 9, 9), np.uint8)
    >>> point[:, :, 4, 4] = 255
    >>> blur(point, 1.0)[0, 0, 4, 3:6].tolist()  # 255 / 2 pi in the middle
    [25, 41, 25]
    """
    images, sigma = pictures("images", images), _check.positive("sigma", sigma)
    reach = min(int(np.ceil(4 * sigma)), images.shape[-1] - 1)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2).astype(np.float32)
    kernel /= kernel.sum()
    soft = images.astype(np.float32)
    for axis in (2, 3):
        size = images.shape[axis]
        where = np.arange(size)[:, None] + np.arange(-reach, reach + 1)
        where = size - 1 - np.abs(size - 1 - np.abs(where))
        matrix = np.zeros((size, size), np.float32)
        np.add.at(matrix, (np.arange(size)[:, None], where), kernel)
        soft = np.moveaxis(np.moveaxis(soft, axis, -1) @ matrix.T, -1, axis)
    return np.clip(np.rint(soft), 0, 255).astype(np.uint8)


def jpeg(images: np.ndarray, quality: int) -> np.ndarray:
    """Store uint8 pictures (N, 3, H, W) as JPEG of this quality, 1 to 95, and read them again.

    >>> grey = np.full((1, 3, 8, 8), 100, np.uint8)
    >>> jpeg(grey, 50).shape
    (1, 3, 8, 8)
    """
    from PIL import Image

    images, quality = pictures("images", images), _check.count("quality", quality, most=95)
    out = np.empty_like(images)
    for k, image in enumerate(images.transpose(0, 2, 3, 1)):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        out[k] = np.asarray(Image.open(file)).transpose(2, 0, 1)
    return out


def drop_classes(labels: np.ndarray, dropped: int, *, count: int, seed: int = 0) -> np.ndarray:
    """Return indices of ``count`` pictures of classes >= ``dropped`` only (mode drop).

    Raises:
        ValueError: there are not so many.

    >>> drop_classes(np.array([0, 3, 1, 2, 0]), 2, count=2).tolist()
    [1, 3]
    """
    count, seed = _check.count("count", count), check_seed(seed)
    dropped = _check.count("dropped", dropped, least=0)
    rows = np.flatnonzero(_check.array("labels", labels).numpy() >= dropped)
    if len(rows) < count:
        raise _check.fail("count", count, f"at most {len(rows)}, the pictures that are left")
    return np.sort(np.random.default_rng(seed).permutation(rows)[:count])


DAMAGES: dict[str, Callable[[np.ndarray, Any], np.ndarray]] = {
    "noise": noise,
    "blur": blur,
    "jpeg": jpeg,
}


def floor_by_count(
    test: Features, train: Features, counts: tuple[int, ...] = (500, 1000, 2000, 5000, 10_000)
) -> dict[str, float]:
    """Return the distance of n real test pictures from the training set, for every n.

    It falls with n: with few samples the covariance is misjudged, always towards more distance.
    Where several disjoint sets of n pictures fit, their mean (of at most 5).
    """
    check_features_of("test", test)
    check_features_of("train", train)
    if not isinstance(counts, tuple | list):
        raise _check.fail("counts", counts, "a list of whole numbers >= 1")
    counts = tuple(_check.count("counts", n) for n in counts)
    result = {}
    for n in (n for n in counts if n <= len(test)):
        starts = range(0, len(test) - n + 1, n)[:5]
        result[str(n)] = float(np.mean([frechet(test[s : s + n], train) for s in starts]))
    return result


def measure(
    extract: Extractor,
    train: Features,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    count: int,
    strengths: dict[str, tuple[float, ...]] = STRENGTHS,
    known: Features | None = None,
) -> dict[str, Any]:
    """Measure the distance from ``train`` of ``count`` held-out pictures, more and more damaged.

    Returns for each damage its strengths and distances, "whole" the distance of the same pictures
    untouched, "rises" whether every distance is above the one before, from "whole" on, and
    "rank_correlation", Spearman's between strength and distance (1: it rises).
    ``known`` may be the features of all ``images``, where they are at hand.
    """
    images = pictures("images", images)
    if not callable(extract):
        raise TypeError(f"extract: got a {_check.describe(extract)}, expected an Extractor")
    if not isinstance(strengths, Mapping):
        raise TypeError(f"strengths: got a {_check.describe(strengths)}, expected values by damage")
    count = _counted(count, len(images))
    _check.shape("labels", _check.array("labels", labels), (len(images),))
    every = extract(images) if known is None else known
    rows = np.sort(np.random.default_rng(0).permutation(len(images))[:count])
    whole, start = images[rows], frechet(every[rows], train)
    result: dict[str, Any] = {"count": count, "whole": start, "damages": {}}
    for kind, values in strengths.items():
        distances = []
        for value in values:
            if kind == "classes_dropped":
                some = every[drop_classes(labels, int(value), count=count)]
            else:
                some = extract(DAMAGES[kind](whole, value))
            distances.append(frechet(some, train))
        steps = [start, *distances]
        ranks = np.argsort(np.argsort(steps))  # strengths come in the order of their damage
        rises = bool(np.all(np.diff(steps) > 0))
        result["damages"][kind] = {
            "strengths": list(values),
            extract.names["fid"]: distances,
            "rises": rises,
            "rank_correlation": float(np.corrcoef(ranks, np.arange(len(steps)))[0, 1]),
        }
    return result


def _counted(count: int, most: int) -> int:
    """Check how many of ``most`` pictures: two at least, since one has no covariance."""
    return _check.count("count", count, least=2, most=most)


def report(extract: Extractor, *, count: int = 2000) -> dict[str, Any]:
    """Measure floor and damages on all of CIFAR-10, with what the numbers depend on."""
    from amtutor import data

    (train_images, _), (test_images, labels) = data.cifar10("train"), data.cifar10("test")
    _counted(count, len(test_images))  # before features take minutes
    train = extract(train_images, cache=True)
    test = extract(test_images, cache=True)
    order = np.random.default_rng(0).permutation(len(train))
    a, b = (train[np.sort(half)] for half in np.split(order, 2))
    return {
        "measure": extract.names["fid"],
        "reference": f"{len(train)} training pictures of CIFAR-10",
        "reference_sha256": train.sha256,
        **extract.protocol,
        "floor_by_count": floor_by_count(test, train),
        "train_half_against_half": frechet(a, b),
        **measure(extract, train, test_images, labels, count=count, known=test),
        "versions": versions(),
    }
