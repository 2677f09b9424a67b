"""Distances between sets of pictures: torch-fidelity's formulas on features computed once."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import amtutor
from amtutor import _check
from amtutor.evaluate.features import (
    Extractor,
    Features,
    check_features_of,
    check_seed,
    extractor,
    pictures,
    torch_fidelity,
)

__all__ = ["SelfCheckError", "compare", "fidelity", "frechet", "self_check"]

KID_SUBSETS, KID_SIZE = 100, 1000
PRC_IMAGES, PRC_NEIGHBOUR = 10_000, 3


class SelfCheckError(RuntimeError):
    """The measure failed where the answer is known, so it would say nothing elsewhere."""


def fidelity(
    samples: np.ndarray | Tensor,
    reference: np.ndarray | Tensor,
    *,
    features: str | Path | Extractor = "c10",
    seed: int = 0,
) -> dict[str, Any]:
    r"""Compare two sets of pictures, uint8 (N, 3, H, W) each, by torch-fidelity's formulas.

    With features of mean :math:`\mu` and covariance :math:`\Sigma` the Fréchet distance is

    .. math:: \lVert\mu_1-\mu_2\rVert^2
              + \operatorname{tr}\bigl(\Sigma_1+\Sigma_2-2(\Sigma_1\Sigma_2)^{1/2}\bigr).

    Returns the numbers by name, and under "protocol" all they depend on. With Inception features
    the names are fid, is, kid, precision, recall. With ours they are fd-c10, is-c10, kd-c10,
    precision-c10, recall-c10: these compare with each other, never with any published FID.

    Raises:
        ValueError: not pictures, or fewer than 10 of them.
    """
    seed = check_seed(seed)
    extract = extractor(features)
    sets = [extract(pictures(n, x)) for n, x in (("samples", samples), ("reference", reference))]
    return compare(extract, *sets, seed=seed)


def compare(
    extract: Extractor, samples: Features, reference: Features, *, seed: int = 0
) -> dict[str, Any]:
    """Do what `fidelity` does, from features that are there already."""
    seed = check_seed(seed)
    if not isinstance(extract, Extractor):
        raise TypeError(f"extract: got a {_check.describe(extract)}, expected an Extractor")
    for name, x in (("samples", samples), ("reference", reference)):
        _check.count(f"number of {name}", len(check_features_of(name, x)), least=10)
    size = min(KID_SIZE, len(samples), len(reference))
    a, b = samples.features.double(), reference.features.double()
    isc = torch_fidelity("metric_isc").isc_features_to_metric(samples.logits, rng_seed=seed)
    kid = torch_fidelity("metric_kid").kid_features_to_metric(
        a, b, kid_subsets=KID_SUBSETS, kid_subset_size=size, rng_seed=seed, verbose=False
    )
    parts = [_some(x.features, seed) for x in (samples, reference)]
    prc = torch_fidelity("metric_prc").prc_features_to_metric(
        *parts,
        prc_batch_size=1000,
        prc_neighborhood=PRC_NEIGHBOUR,
        save_cpu_ram=True,
        verbose=False,
    )
    n = extract.names
    return {
        n["fid"]: frechet(samples, reference),
        n["is"]: isc["inception_score_mean"],
        f"{n['is']}-std": isc["inception_score_std"],
        n["kid"]: kid["kernel_inception_distance_mean"],
        f"{n['kid']}-std": kid["kernel_inception_distance_std"],
        n["precision"]: prc["precision"],
        n["recall"]: prc["recall"],
        "protocol": {
            **extract.protocol,
            "samples": len(samples),
            "samples_sha256": samples.sha256,
            "reference": len(reference),
            "reference_sha256": reference.sha256,
            n["is"]: "10 splits, shuffled",
            n["kid"]: f"{KID_SUBSETS} subsets of {size}, polynomial kernel of degree 3",
            n["precision"]: f"{len(parts[0])} against {len(parts[1])} pictures, "
            f"neighbour {PRC_NEIGHBOUR}",
            "seed": seed,
            "versions": versions(),
        },
    }


def frechet(samples: Features, reference: Features) -> float:
    """Return the Fréchet distance between the Gaussians fitted to two sets, in float64."""
    check_features_of("samples", samples)
    check_features_of("reference", reference)
    metric = torch_fidelity("metric_fid").fid_statistics_to_metric
    found = metric(samples.moments, reference.moments, verbose=False)
    return found["frechet_inception_distance"]


def versions() -> dict[str, str]:
    """Return the versions of what computes the numbers; "unknown" where a package says none."""
    found = {"amtutor": amtutor.__version__, "torch": torch.__version__}
    for package in ("torch-fidelity", "numpy"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "unknown"
    return found


def _some(features: Tensor, seed: int) -> Tensor:
    """Take at most 10 000 rows: precision and recall look at all pairs."""
    if len(features) <= PRC_IMAGES:
        return features
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed))
    return features[order[:PRC_IMAGES]]


def self_check(
    extract: Extractor, train: Features, test: Features, test_images: np.ndarray
) -> dict[str, float]:
    """Measure what must come out: nothing, a little, and more.

    Train against train is zero to rounding; test against train is the floor, what a perfect
    generator would get with that many samples; 2 000 test pictures with visible noise are farther
    from the training set than the same pictures without.

    Raises:
        SelfCheckError: one of these does not hold.
    """
    some = pictures("test_images", test_images)[:2000]
    noise = np.random.default_rng(0).normal(0, 16, some.shape)
    noisy = np.clip(np.rint(some + noise), 0, 255).astype(np.uint8)
    name = extract.names["fid"]
    same, floor = frechet(train, train), frechet(test, train)
    clean, spoilt = frechet(extract(some), train), frechet(extract(noisy), train)
    size = float(train.features.double().var(0).sum())
    if not abs(same) <= 1e-6 * size:
        raise SelfCheckError(f"self-check: {name} of train against train = {same:.3g}, expected 0")
    if not 0 < floor < 0.1 * size:
        raise SelfCheckError(
            f"self-check: {name} of test against train = {floor:.3g}, expected more than 0 and "
            f"less than a tenth of the features' variance, {0.1 * size:.3g}"
        )
    if not clean < spoilt:
        raise SelfCheckError(
            f"self-check: {name} of {len(some)} test pictures = {clean:.3g}, with noise "
            f"{spoilt:.3g}; expected noise to be farther away"
        )
    return {
        "train-train": same,
        "test-train": floor,
        f"{len(some)}-test-train": clean,
        f"{len(some)}-noisy-test-train": spoilt,
    }
