"""ClAM beside k-means and others on seven sets, ten seeds each.

    python tools/clustering_tables.py            # writes results/clustering/, minutes on one core

KMeans and ClAM have ten starts each, of which they keep the one with the least inertia; the masked
ClAM has one, and hides a fifth of the entries. Numbers of a set are per seed; the page makes
intervals of them. Sets whose columns have different units are standardised first; nobody sees a
label.
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
from sklearn import datasets, metrics
from sklearn.cluster import KMeans, SpectralClustering, kmeans_plusplus
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler

from amtutor.memory.clustering import ClAM
from amtutor.memory.dense import nearest
from amtutor.memory.relocation import kmeans_objective, soft_kmeans

FOLDER = Path(__file__).resolve().parents[1] / "results" / "clustering"
SEEDS, STARTS, EPOCHS, HIDDEN = 10, 10, 100, 0.2
MANY = 1500  # from so many points on, fewer epochs of smaller batches


def tables() -> dict:
    """Points, classes and the number of clusters of each set."""
    scaled = StandardScaler().fit_transform
    iris, wine, cancer = (
        load(return_X_y=True)
        for load in (datasets.load_iris, datasets.load_wine, datasets.load_breast_cancer)
    )
    digits = datasets.load_digits(return_X_y=True)
    widths = np.random.default_rng(0).uniform(0.3, 1.5, 20)
    return {
        "iris": (scaled(iris[0]), iris[1], 3),
        "wine": (scaled(wine[0]), wine[1], 3),
        "breast cancer": (scaled(cancer[0]), cancer[1], 2),
        "digits": (digits[0] / 16, digits[1], 10),
        "moons": (*datasets.make_moons(500, noise=0.08, random_state=0), 2),
        "varied blobs": (
            *datasets.make_blobs(500, cluster_std=[1.0, 2.5, 0.5], random_state=170),
            3,
        ),
        "many blobs": (
            *datasets.make_blobs(1000, centers=20, cluster_std=widths, random_state=0),
            20,
        ),
    }


def by_soft_kmeans(X: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Soft k-means with gamma one over the mean squared distance to the starting centres."""
    first = kmeans_plusplus(X, k, random_state=seed)[0]
    x, start = torch.from_numpy(X), torch.from_numpy(first)
    gamma = 1 / (float(kmeans_objective(x, start)) / len(X))
    return nearest(x, soft_kmeans(x, start, gamma=gamma)).numpy()


def ways(X: np.ndarray, k: int, seed: int) -> dict:
    """Each way to labels, for one seed."""
    one = {"n_init": STARTS, "random_state": seed}
    clam = {**one, "max_iter": EPOCHS, "tol": 0.0}
    if len(X) >= MANY:
        clam |= {"max_iter": EPOCHS // 3, "batch_size": 256}
    spectral = SpectralClustering(k, affinity="nearest_neighbors", random_state=seed)
    return {
        "KMeans": lambda: KMeans(k, **one).fit_predict(X),
        "ClAM": lambda: ClAM(k, **clam).fit_predict(X),
        "ClAM, masked": lambda: ClAM(k, **{**clam, "n_init": 1}, mask_fraction=HIDDEN).fit_predict(
            X
        ),
        "ClAM, one start": lambda: ClAM(k, **{**clam, "n_init": 1}).fit_predict(X),
        "soft k-means": lambda: by_soft_kmeans(X, k, seed),
        "Gaussian mixture": lambda: GaussianMixture(
            k, reg_covar=1e-3, random_state=seed
        ).fit_predict(X),
        "spectral": lambda: spectral.fit_predict(X),
    }


def inertia(X: np.ndarray, label: np.ndarray) -> float:
    """The k-means objective of a partition: squared distances to its own means."""
    return float(
        sum(((X[label == c] - X[label == c].mean(0)) ** 2).sum() for c in np.unique(label))
    )


def scores(X: np.ndarray, y: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """What is asked of a partition."""
    several = len(np.unique(label)) > 1
    return {
        "inertia": inertia(X, label),
        "ARI": metrics.adjusted_rand_score(y, label),
        "NMI": metrics.normalized_mutual_info_score(y, label),
        "silhouette": float(metrics.silhouette_score(X, label)) if several else 0.0,
    }


def main() -> None:
    """All sets, all ways, all seeds."""
    warnings.simplefilter("ignore")
    found: dict[str, dict] = {}
    for name, (X, y, k) in tables().items():
        found[name] = {"points": len(X), "dim": X.shape[1], "clusters": k, "ways": {}}
        began = time.time()
        for seed in range(SEEDS):
            for way, run in ways(X, k, seed).items():
                into = found[name]["ways"].setdefault(way, {})
                for what, number in scores(X, y, run()).items():
                    into.setdefault(what, []).append(round(number, 7))
        print(f"{name}: {time.time() - began:.0f} s", file=sys.stderr, flush=True)
    record = {
        "scikit_learn": sklearn.__version__,
        "starts": STARTS,
        "epochs": EPOCHS,
        "hidden": HIDDEN,
        "sets": found,
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "tables.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
