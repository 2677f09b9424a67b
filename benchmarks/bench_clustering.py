"""ClAM: fit 10 clusters to 10 000 points in 64 dimensions, T = 10 steps, float64, one thread.

The same training twice: with the way back in closed form, and with each gradient step by automatic
differentiation through the steps of the formula as it stands in the book. Rounds go through both in
turn; a ratio is the median over rounds. Beside them scikit-learn's MiniBatchKMeans, for size.
"""

from __future__ import annotations

import statistics
import time
from unittest import mock

import numpy as np
import torch
from benchmarks.report import row
from sklearn.cluster import MiniBatchKMeans
from sklearn.datasets import make_blobs

from amtutor.memory import clustering
from amtutor.memory.clustering import ClAM

POINTS, D, K, STEPS, EPOCHS, ROUNDS, TARGET = 10_000, 64, 10, 10, 10, 3, 0.6


def by_autograd(x, memories, beta, steps, eta):
    """Loss and slope as anyone would write them first."""
    memories = memories.detach().requires_grad_()
    v = x
    for _ in range(steps):
        score = beta * (v @ memories.T - 0.5 * memories.square().sum(-1))
        v = v + eta * (torch.softmax(score, dim=-1) @ memories - v)
    loss = (x - v).square().sum()
    return loss.detach(), torch.autograd.grad(loss, memories)[0]


def fit(X: np.ndarray) -> ClAM:
    model = ClAM(K, steps=STEPS, max_iter=EPOCHS, tol=0.0, random_state=0)
    return model.fit(X)


def main() -> None:
    """Print times, the ratio, and that both learned the same."""
    torch.set_num_threads(1)
    X, _ = make_blobs(POINTS, D, centers=K, cluster_std=6.0, random_state=0)
    seconds: dict[str, list[float]] = {"closed form": [], "autograd": [], "MiniBatchKMeans": []}
    for _ in range(ROUNDS):
        began = time.perf_counter()
        closed = fit(X)
        seconds["closed form"].append(time.perf_counter() - began)
        with mock.patch.object(clustering, "loss_and_slope", by_autograd):
            began = time.perf_counter()
            slow = fit(X)
            seconds["autograd"].append(time.perf_counter() - began)
        began = time.perf_counter()
        MiniBatchKMeans(K, n_init=1, random_state=0).fit(X)
        seconds["MiniBatchKMeans"].append(time.perf_counter() - began)
    print(f"{POINTS} x {D} points, {K} clusters, T = {STEPS}, {EPOCHS} epochs, one thread")
    for name, times in seconds.items():
        print(f"{name:16s}{statistics.median(times):8.3f} s")
    gap = np.abs(closed.memories_ - slow.memories_).max() / X.std()
    print(f"largest difference of the memories: {gap:.1e} spreads")
    assert gap < 1e-6
    pairs = zip(seconds["closed form"], seconds["autograd"], strict=True)
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"target {TARGET}: {'reached' if ratio <= TARGET else 'MISSED'} ({ratio:.2f})")
    what = f"clustering, {POINTS} points in {D} dimensions, T = {STEPS}"
    row(
        what,
        found=ratio,
        unit="of the time",
        against="the same by automatic differentiation",
        at_most=TARGET,
        readme=True,
    )
    pairs = zip(seconds["closed form"], seconds["MiniBatchKMeans"], strict=True)
    apart = statistics.median(a / b for a, b in pairs)
    row(what, found=apart, unit="times as long", against="scikit-learn's MiniBatchKMeans")


if __name__ == "__main__":
    main()
