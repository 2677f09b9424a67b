r"""ClAM: clustering with associative memories, as scikit-learn does it.

K memories are learned so that relocating every point costs least,

.. math:: \min_\Xi \sum_x \|x - f_\Xi(x)\|^2 \qquad\text{(MM 5.21)}

by gradient steps through all T steps of the descent (:mod:`amtutor.memory.relocation`), while
beta rises: first all memories are heard, then only the nearest.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    ClusterMixin,
    TransformerMixin,
)
from sklearn.cluster import kmeans_plusplus
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from amtutor import _check
from amtutor.memory.deep_clustering import DeepClAM
from amtutor.memory.relocation import (
    Schedule,
    basins,
    kmeans_objective,
    loss_and_slope,
    masked_loss_and_slope,
    spread_of,
    square_distances,
)

__all__ = ["ClAM", "DeepClAM"]


@dataclass
class _Adam:
    """Adam on one matrix of memories; what it remembers is the estimator's."""

    mean: Tensor
    square: Tensor
    step: int = 0

    def move(self, memories: Tensor, slope: Tensor, rate: float) -> None:
        self.step += 1
        self.mean.lerp_(slope, 0.1)
        self.square.lerp_(slope.square(), 0.01)
        mean = self.mean / (1 - 0.9**self.step)
        square = self.square / (1 - 0.99**self.step)
        memories -= rate * mean / (square.sqrt() + 1e-12)


@dataclass
class _Run:
    """One training from one start, in standard units."""

    memories: Tensor
    beta: Schedule
    adam: _Adam
    losses: list[float] = field(default_factory=list)  # of epochs, per point


class ClAM(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):
    r"""Clustering with a dense associative memory.

    A cluster is what flows into one memory. The memories minimise the mean of
    :math:`\|x - f(x)\|^2`, how far the descent moves a point, by Adam through all steps of the
    descent; beta rises over the first half of the epochs, the learning rate falls over all.
    Scale features before it where their units differ, in a pipeline.

    Args:
        n_clusters: K, at most the number of points.
        beta: "auto", a number > 0, or (start, end). "auto" goes from 10 to 1000 over the median
            lead, the difference of the squared distances to the nearest two starting memories.
        steps: T, of the descent. step_size: eta in (0, 2) or (start, end), 1 is the full step.
        mask_fraction: in [0, 1). Above 0 entries are hidden with this chance, afresh in every
            epoch, and the loss is that of filling them in (:func:`~.relocation.masked_loss`).
        init: "k-means++", "random" (points), or an array (K, D).
        n_init: so many starts; the one with the least ``inertia_`` is kept.
        batch_size: of a gradient step. max_iter: epochs at most.
        learning_rate: of Adam, in units of the root mean square of X around its mean per entry.
        tol: stop when beta has arrived and ``patience`` epochs have not lowered the loss by this
            share; 0 never stops early.
        random_state: for starts, batches and masks.

    Attributes:
        ``memories_`` (K, D), ``labels_`` (n,), ``inertia_`` (MM 5.19 at the memories), ``beta_``,
        ``loss_`` (the last of ``loss_curve_``, per point), ``n_iter_``, ``n_features_in_``.

    Source: MM 5.19-5.23.

    >>> ClAM(2, random_state=0).fit_predict([[0.0], [0.2], [5.0], [5.2]]).tolist() in (
    ...     [0, 0, 1, 1], [1, 1, 0, 0])
    True
    """

    def __init__(
        self,
        n_clusters=8,
        *,
        beta="auto",
        steps=10,
        step_size=1.0,
        mask_fraction=0.0,
        init="k-means++",
        n_init=1,
        batch_size=1024,
        max_iter=200,
        learning_rate=0.1,
        tol=1e-6,
        patience=10,
        random_state=None,
    ):
        self.n_clusters = n_clusters
        self.beta = beta
        self.steps = steps
        self.step_size = step_size
        self.mask_fraction = mask_fraction
        self.init = init
        self.n_init = n_init
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.learning_rate = learning_rate
        self.tol = tol
        self.patience = patience
        self.random_state = random_state

    def fit(self, X, y=None):
        """Learn the memories of X (n, D); y is not used."""
        self._check_settings()
        X = validate_data(self, X, dtype=np.float64)
        if len(X) < self.n_clusters:
            raise ValueError(
                f"n_samples = {len(X)}: expected at least n_clusters = {self.n_clusters}"
            )
        x = self._standard(X)
        draw = check_random_state(self.random_state)
        runs = [self._train(x, draw) for _ in range(self.n_init)]
        best = min(runs, key=lambda run: float(kmeans_objective(x, run.memories)))
        self._keep(best)
        self.labels_ = self.predict(X)
        self.inertia_ = self._inertia(X)
        found = len(np.unique(self.labels_))
        if found < self.n_clusters and len(np.unique(X, axis=0)) < self.n_clusters:
            warnings.warn(
                f"{found} distinct clusters found, fewer than n_clusters = {self.n_clusters}: "
                "possibly there are duplicate points in X",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def partial_fit(self, X, y=None):
        """One gradient step on a batch X (n, D), at the last beta; the first batch sets the start.

        The first batch must have at least ``n_clusters`` points.
        """
        self._check_settings()
        first = not hasattr(self, "memories_")
        X = validate_data(self, X, dtype=np.float64, reset=first)
        if first:
            if len(X) < self.n_clusters:
                raise ValueError(
                    f"n_samples = {len(X)}: expected at least n_clusters = {self.n_clusters} "
                    "in the first batch"
                )
            x = self._standard(X)
            self._draw = check_random_state(self.random_state)
            self._run = self._start(x, self._draw)
        else:
            x = torch.from_numpy((X - self._centre) / self._scale)
            if not hasattr(self, "_draw"):
                self._draw = check_random_state(self.random_state)
        loss = self._step(self._run, x, self._draw, 1.0, self.learning_rate / 10)
        self._run.losses.append(loss / len(x))
        self._keep(self._run)
        self.labels_, self.inertia_ = self.predict(X), self._inertia(X)
        return self

    def predict(self, X) -> np.ndarray:
        """Into whose valley each row goes, (n,): :func:`~.relocation.basins`."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        at = torch.from_numpy((X - self._centre) / self._scale)
        eta = Schedule.of("step_size", self.step_size, most=2).end
        beta = self.beta_ * self._scale**2
        into = basins(at, self._bank(), beta=beta, steps=self.steps, step_size=eta)
        return into.numpy().astype(np.int32)

    def transform(self, X) -> np.ndarray:
        """Distances to the memories, (n, K)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        at = torch.from_numpy((X - self._centre) / self._scale)
        return square_distances(at, self._bank()).sqrt().numpy() * self._scale

    def score(self, X, y=None) -> float:
        """Minus the k-means objective of X, as KMeans says it."""
        check_is_fitted(self)
        return -self._inertia(validate_data(self, X, dtype=np.float64, reset=False))

    # -------------------------------------------------------------------- behind the doors

    @property
    def _n_features_out(self) -> int:
        return len(self.memories_)

    def _check_settings(self) -> None:
        """Refuse settings that mean nothing, one line each."""
        for name in ("n_clusters", "steps", "n_init", "batch_size", "max_iter", "patience"):
            _check.count(name, getattr(self, name))
        if not (isinstance(self.beta, str) and self.beta == "auto"):
            Schedule.of("beta", self.beta, also="'auto', ")
        Schedule.of("step_size", self.step_size, most=2)
        _check.between("mask_fraction", self.mask_fraction, 0, 1, ends="[)")
        _check.positive("learning_rate", self.learning_rate)
        _check.non_negative("tol", self.tol)
        if isinstance(self.init, str) or not hasattr(self.init, "__len__"):
            _check.choice("init", self.init, ("k-means++", "random"))

    def _standard(self, X: np.ndarray) -> Tensor:
        """X around its mean, in units of its root mean square."""
        self._centre, self._scale = spread_of(X)
        return torch.from_numpy((X - self._centre) / self._scale)

    def _bank(self) -> Tensor:
        return torch.from_numpy((self.memories_ - self._centre) / self._scale)

    def _inertia(self, X: np.ndarray) -> float:
        at = torch.from_numpy((X - self._centre) / self._scale)
        return float(kmeans_objective(at, self._bank())) * self._scale**2

    def _keep(self, run: _Run) -> None:
        """Say in the units of X what a run found."""
        self._run = run
        self.memories_ = run.memories.numpy() * self._scale + self._centre
        self.beta_ = run.beta.end / self._scale**2
        self.loss_curve_ = [loss * self._scale**2 for loss in run.losses]
        self.loss_, self.n_iter_ = self.loss_curve_[-1], len(run.losses)

    def _start(self, x: Tensor, draw: np.random.RandomState) -> _Run:
        """Starting memories, and a schedule for beta that fits them."""
        if isinstance(self.init, str) and self.init == "k-means++":
            first = kmeans_plusplus(x.numpy(), self.n_clusters, random_state=draw)[0]
        elif isinstance(self.init, str):
            first = x.numpy()[draw.permutation(len(x))[: self.n_clusters]]
        else:
            first = _check.array("init", self.init, "an array (K, D)").double()
            shape = (self.n_clusters, x.shape[1])
            first = _check.finite("init", _check.shape("init", first, shape)).numpy()
            first = (first - self._centre) / self._scale
        memories = torch.from_numpy(np.array(first, dtype=np.float64))
        if isinstance(self.beta, str):
            two = square_distances(x, memories).topk(min(2, len(memories)), largest=False)[0]
            lead = float((two[:, -1] - (two[:, 0] if len(memories) > 1 else 0)).median()) or 1.0
            beta = Schedule(10 / lead, 1000 / lead)
        else:
            given = Schedule.of("beta", self.beta)
            beta = Schedule(given.start * self._scale**2, given.end * self._scale**2)
        return _Run(memories, beta, _Adam(*torch.zeros(2, *memories.shape, dtype=torch.float64)))

    def _train(self, x: Tensor, draw: np.random.RandomState) -> _Run:
        """All epochs of one start, or fewer."""
        run, best, waited = self._start(x, draw), math.inf, 0
        for epoch in range(self.max_iter):
            share = min(1.0, 2 * epoch / self.max_iter)
            total = 0.0
            for rows, done in self._batches(len(x), draw):
                along = (epoch + done) / self.max_iter
                rate = self.learning_rate * 0.5 * (1 + math.cos(math.pi * along))
                total += self._step(run, x[rows] if len(rows) else x, draw, share, rate)
            run.losses.append(total / len(x))
            if share < 1 or not self.tol:
                continue
            waited = 0 if run.losses[-1] < best * (1 - self.tol) else waited + 1
            best = min(best, run.losses[-1])
            if waited >= self.patience:
                break
        return run

    def _batches(self, n: int, draw: np.random.RandomState) -> Iterator[tuple[Tensor, float]]:
        """Rows of each batch of an epoch (none: all of them), and the share that came before."""
        if n <= self.batch_size:
            yield torch.empty(0, dtype=torch.int64), 0.0
            return
        order = torch.from_numpy(draw.permutation(n))
        for first in range(0, n, self.batch_size):
            yield order[first : first + self.batch_size], first / n

    def _step(self, run: _Run, x: Tensor, draw, share: float, rate: float) -> float:
        """One gradient step; returns the summed loss before it."""
        eta = Schedule.of("step_size", self.step_size, most=2).at(share)
        walk = (run.beta.at(share), self.steps, eta)
        if self.mask_fraction:
            free = torch.from_numpy((draw.random_sample(x.shape) < self.mask_fraction) * 1.0)
            loss, slope = masked_loss_and_slope(x, run.memories, *walk, free)
        else:
            loss, slope = loss_and_slope(x, run.memories, *walk)
        run.adam.move(run.memories, slope / len(x), rate)
        return float(loss)
