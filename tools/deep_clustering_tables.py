"""Deep clustering of MNIST digits and CIFAR-10 against an autoencoder and k-means of equal size.

    python tools/deep_clustering_tables.py       # writes results/deep-clustering/, two minutes

Pictures are halved in size first. All ways have one encoder, one decoder and as many epochs; the
plain ones take them all without memories and run k-means with ten starts on the codes. `warped`
ways see every picture bent a little, and must give the straight one back. Five seeds.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import sklearn
import torch
import torch.nn.functional as F
from sklearn import metrics
from sklearn.cluster import KMeans

from amtutor import data
from amtutor.memory.clustering import DeepClAM
from amtutor.memory.relocation import matched_accuracy

FOLDER = Path(__file__).resolve().parents[1] / "results" / "deep-clustering"
SEEDS, PICTURES, EPOCHS = 5, 3000, 15
SIZES = {"latent_dim": 10, "hidden": (256, 64), "batch_size": 128}


def pictures(name: str) -> tuple[np.ndarray, np.ndarray]:
    """So many pictures at half size, and their classes."""
    if name == "MNIST":
        images, labels = data.mnist("test")
        x = data.to_unit(images).reshape(-1, 1, 28, 28)[:PICTURES]
    else:
        images, labels = data.cifar10("test")
        x = data.to_unit(images[:PICTURES]).reshape(-1, 3, 32, 32)
    return F.avg_pool2d(x.float(), 2).numpy(), np.asarray(labels)[:PICTURES]


def warp(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Turn, lean, shrink and shift each picture a little."""
    turn, size, lean, right, down = (torch.rand(5, len(x), generator=generator) - 0.5).mul(0.3)
    size = 1 + 0.7 * size
    first = torch.stack([size * (2 * turn).cos(), 2 * lean - size * (2 * turn).sin(), right], 1)
    second = torch.stack([size * (2 * turn).sin(), size * (2 * turn).cos(), down], 1)
    grid = F.affine_grid(torch.stack([first, second], 1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def ways(x: np.ndarray, seed: int) -> dict:
    """Each way to a fitted model, or to labels; the number says which epochs have memories."""
    plain = {**SIZES, "random_state": seed, "pretrain": 2 * EPOCHS, "max_iter": 0}
    both = {**plain, "pretrain": EPOCHS, "max_iter": EPOCHS}
    return {
        "pixels + k-means": None,
        "autoencoder + k-means": plain,
        "DeepClAM": both,
        "warped autoencoder + k-means": {**plain, "augment": warp},
        "warped DeepClAM": {**both, "augment": warp},
        "DeepClAM, nothing kept": {**both, "step_size": 1.0},
    }


def measured(x: np.ndarray, y: np.ndarray, settings: dict | None, seed: int) -> tuple[dict, object]:
    """Fit one way; what its labels and its pictures are worth."""
    means, model = KMeans(10, n_init=10, random_state=seed), None
    if settings is None:
        label, error = means.fit_predict(x.reshape(len(x), -1)), float("nan")
    else:
        model = DeepClAM(10, **settings).fit(x)
        plain = settings["max_iter"] == 0
        label = means.fit_predict(model.encode(x)) if plain else model.labels_
        error = float(np.square(model.reconstruct(x, contracted=not plain) - x).mean())
    found = {
        "NMI": metrics.normalized_mutual_info_score(y, label),
        "ARI": metrics.adjusted_rand_score(y, label),
        "accuracy": matched_accuracy(y, label),
        "error": error,
        "clusters": len(np.unique(label)),
    }
    if model is not None:
        again = means.fit_predict(model.encode(x))
        found["NMI of k-means on its codes"] = metrics.normalized_mutual_info_score(y, again)
    return {k: round(v, 5) for k, v in found.items()}, model


def main() -> None:
    """Both sets, all ways, all seeds; prototypes of the first seed."""
    warnings.simplefilter("ignore")
    record: dict = {"scikit_learn": sklearn.__version__, "pictures": PICTURES, "sets": {}}
    for name in ("MNIST", "CIFAR-10"):
        x, y = pictures(name)
        found: dict = {"ways": {}, "prototypes": {}}
        for seed in range(SEEDS if name == "MNIST" else 3):
            began = time.time()
            for way, settings in ways(x, seed).items():
                if name != "MNIST" and ("warped" in way or "kept" in way):
                    continue
                numbers, model = measured(x, y, settings, seed)
                into = found["ways"].setdefault(way, {})
                for what, number in numbers.items():
                    into.setdefault(what, []).append(number)
                if seed == 0 and model is not None and "auto" not in way:
                    shown = model.prototypes().clip(0, 1)
                    found["prototypes"][way] = np.rint(shown * 255).astype(int).tolist()
            print(f"{name}, seed {seed}: {time.time() - began:.0f} s", file=sys.stderr, flush=True)
        record["sets"][name] = found
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "tables.json").write_text(json.dumps(record) + "\n", "utf-8")


if __name__ == "__main__":
    main()
