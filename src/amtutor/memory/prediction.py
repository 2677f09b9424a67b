r"""Prediction by descent: hold what is known still, and let the energy fill in the rest.

A memory is a pair, features :math:`a^\mu` and target :math:`b^\mu`. With the mixed similarity
:math:`\lambda S_x + (1-\lambda) S_y` of two squared distances (MM 5.2.2) its energy is

.. math:: E(x, y) = -\tfrac1\beta \log \sum_\mu w_\mu \exp\Bigl(-\tfrac\beta2 \bigl[\lambda
          \|x-a^\mu\|^2 + (1-\lambda)\|y-b^\mu\|^2\bigr]\Bigr)

Clamping x turns the first distance into a number per memory, its *pull*; what is left is a dense
memory of targets alone, whose full step is a weighted mean of targets:

.. math:: y \leftarrow y + \eta\Bigl(\sum_\mu p_\mu b^\mu - y\Bigr), \qquad
          p = \mathrm{softmax}_\mu\bigl(\mathrm{pull}_\mu - \tfrac{\beta(1-\lambda)}2
          \|y-b^\mu\|^2\bigr)

At :math:`\lambda = 1` the start is forgotten and one step is kernel regression (Nadaraya-Watson).
The two estimators are scikit-learn's in every respect; scale features before them, in a pipeline.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.cluster import KMeans
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
from torch import Tensor

from amtutor import _check
from amtutor.descent import Descent, Trajectory, descend
from amtutor.memory.dense import centred, lse_energy, lse_gradient, middle, scores

__all__ = [
    "Answer",
    "AssociativeMemoryClassifier",
    "AssociativeMemoryRegressor",
    "clamped_descent",
    "recall",
    "mixed_energy",
    "mixed_gradient",
    "nadaraya_watson",
    "log_weights",
]

_BLOCK = 2**22  # scores held at a time, 32 MB in float64
_TINY = 1e-12
_SCALES = (1e-100, 1e100)  # of features and targets: squares and their inverses are doubles


# ---------------------------------------------------------------------------- one energy


def mixed_energy(
    x: Tensor, y: Tensor, features: Tensor, targets: Tensor, *, beta: float, mix: float
) -> Tensor:
    r"""Energy of a pair (x, y) under the mixed similarity.

    .. math:: E = -\tfrac1\beta\log\sum_\mu\exp\bigl(-\tfrac\beta2[\lambda\|x-a^\mu\|^2
              + (1-\lambda)\|y-b^\mu\|^2]\bigr)

    Args:
        x: (\*batch, d); y: (\*batch, k).
        features: (K, d), the a; targets: (K, k), the b.
        beta: inverse temperature > 0.
        mix: lambda in [0, 1], the share of the features in the similarity.

    Returns:
        (\*batch).

    Raises:
        ValueError, TypeError: a wrong shape, dtype or range.

    Source: MM 5.13 with the similarity of MM 5.2.2, times 1/beta.

    >>> one = torch.zeros(1, 1)
    >>> x, y = torch.tensor([2.0]), torch.tensor([4.0])
    >>> mixed_energy(x, y, one, one, beta=1.0, mix=0.25)
    tensor(6.5000)
    """
    state, memories, _ = _stretched(x, y, features, targets, mix)
    with _blaming(x=x, y=y, features=features, targets=targets):
        return lse_energy(state, memories, beta=beta)


def mixed_gradient(
    x: Tensor, y: Tensor, features: Tensor, targets: Tensor, *, beta: float, mix: float
) -> tuple[Tensor, Tensor]:
    r"""Both gradients of :func:`mixed_energy`, in closed form.

    .. math:: \nabla_x E = \lambda\bigl(x - \sum_\mu p_\mu a^\mu\bigr), \qquad
              \nabla_y E = (1-\lambda)\bigl(y - \sum_\mu p_\mu b^\mu\bigr)

    Arguments as there; returns tensors shaped like ``x`` and ``y``.
    """
    state, memories, _ = _stretched(x, y, features, targets, mix)
    with _blaming(x=x, y=y, features=features, targets=targets):
        slope = lse_gradient(state, memories, beta=beta)
    d = x.shape[-1]
    return math.sqrt(mix) * slope[..., :d], math.sqrt(1 - mix) * slope[..., d:]


@dataclass(frozen=True)
class Answer(Descent[Tensor]):
    """What :func:`recall` found: a descent, and its end taken apart.

    ``x`` and ``y`` as they came, filled in. ``state`` is (\\*batch, d+k), x and y together, and so
    are the states of ``trajectory``.
    """

    x: Tensor = field(kw_only=True)
    y: Tensor = field(kw_only=True)


def recall(
    x: Tensor,
    y: Tensor,
    features: Tensor,
    targets: Tensor,
    *,
    beta: float,
    mix: float,
    clamp: str | None,
    steps: int = 100,
    step_size: float = 1.0,
    tol: float | None = None,
    record: bool = False,
    callback: Callable[[int, Tensor], object] | None = None,
) -> Answer:
    r"""Ask one energy a question: hold x, hold y, or hold nothing, and go downhill.

    The descent runs in coordinates stretched by :math:`\sqrt\lambda` and :math:`\sqrt{1-\lambda}`;
    there a step of size 1 puts what is free on the weighted mean of the memories, and no step
    size in (0, 2) raises the energy.

    Args:
        x, y: where to start, (\*batch, d) and (\*batch, k); what is clamped stays.
        features, targets, beta, mix: as :func:`mixed_energy`, with 0 < mix < 1.
        clamp: "x", "y" or None.
        steps, tol, record, callback: as :func:`amtutor.descent.descend`; ``tol`` in stretched
            coordinates, and the states that a callback sees are x and y together.

    Source: MM 3.22 and 5.8-5.10; with clamp="x" MM 5.15-5.17.

    >>> notes = torch.tensor([[0.0], [1.0]])
    >>> x, y = torch.tensor([0.1]), torch.tensor([0.5])
    >>> recall(x, y, notes, 10 * notes, beta=50.0, mix=0.9, clamp="x").y
    tensor([0.])
    """
    _check.choice("clamp", clamp, ("x", "y", None))
    mix = _check.between("mix", mix, 0, 1, ends="()")
    start, memories, centre = _stretched(x, y, features, targets, mix)
    d = x.shape[-1]
    is_x = torch.arange(start.shape[-1], device=start.device) < d
    unit = start.new_full(is_x.shape, 1 / math.sqrt(1 - mix)).masked_fill(is_x, 1 / math.sqrt(mix))
    if callback is not None and not callable(callback):
        raise TypeError(f"callback: got a {_check.describe(callback)}, expected (step, state)")
    with _blaming(x=x, y=y, features=features, targets=targets):
        run = descend(
            lambda z: lse_energy(z, memories, beta=beta),
            start,
            steps=steps,
            step_size=step_size,
            gradient=lambda z: lse_gradient(z, memories, beta=beta),
            clamp={"x": is_x, "y": ~is_x, None: None}[clamp],
            tol=tol,
            record=record,
            callback=None if callback is None else lambda t, z: callback(t, z * unit + centre),
        )
    return _answer(run, unit, centre, x if clamp == "x" else None, y if clamp == "y" else None, d)


def _answer(
    run: Descent[Tensor], unit: Tensor, centre: Tensor, x: Tensor | None, y: Tensor | None, d: int
) -> Answer:
    """A stretched descent in the units of x and y; one that was held stays to the last bit."""
    end = run.state * unit + centre
    x = end[..., :d] if x is None else x.clone()
    y = end[..., d:] if y is None else y.clone()
    path = None
    if run.trajectory is not None:
        path = Trajectory(run.trajectory.states * unit + centre, run.trajectory.energies)
    parts = (run.energy, run.steps_taken, run.converged, path)
    return Answer(torch.cat([x, y], -1), *parts, x=x, y=y)


def _stretched(x: Tensor, y: Tensor, features: Tensor, targets: Tensor, mix: float):
    """Put pairs into states in which the mixed distance is the plain one.

    All are measured from the middle of the memories, which is returned too.
    """
    mix = _check.between("mix", mix, 0, 1)
    _paired(features, targets)
    _check.last_dim("x", _check.floating("x", x), features.shape[1])
    _check.last_dim("y", _check.floating("y", y), targets.shape[1])
    _check.same_kind("x", x, features)
    _check.same_kind("y", y, features)
    if x.shape[:-1] != y.shape[:-1]:
        raise ValueError(f"y: got shape {tuple(y.shape)}, expected x's batch {tuple(x.shape[:-1])}")
    at, level = middle(features)[0], middle(targets)[0]
    share, rest = math.sqrt(mix), math.sqrt(1 - mix)
    state = torch.cat([share * (x - at), rest * (y - level)], dim=-1)
    memories = torch.cat([share * (features - at), rest * (targets - level)], dim=-1)
    return state, memories, torch.cat([at, level])


@contextmanager
def _blaming(**parts: Tensor) -> Iterator[None]:
    """If something is refused inside, name the part in which NaN came."""
    try:
        yield
    except ValueError:
        for name, part in parts.items():
            _check.finite(name, part)
        raise


def _paired(features: Tensor, targets: Tensor) -> None:
    """Check pairs: one target for each row of features."""
    _check.floating("features", _check.matrix("features", features))
    _check.floating("targets", _check.matrix("targets", targets))
    _check.same_kind("targets", targets, features)
    if len(targets) != len(features):
        raise ValueError(
            f"targets: got {len(targets)} rows, expected {len(features)}, one for each of features"
        )


# ---------------------------------------------------------------------------- x is clamped


def log_weights(x: Tensor, features: Tensor, *, beta: float) -> Tensor:
    r"""How strongly clamped features call each memory: :math:`-\tfrac\beta2\|x-a^\mu\|^2`, (n, K).

    Up to a number of each x alone, which no softmax sees. For the mixed similarity pass
    beta * lambda.

    Args:
        x: (n, d); features: (K, d).

    Raises:
        ValueError, TypeError: a wrong shape, dtype or range.
    """
    beta = _check.positive("beta", beta)
    _check.floating("features", _check.matrix("features", features))
    _check.shape("x", _check.floating("x", x), ("n", features.shape[1]))
    return scores(*centred(_check.same_kind("x", x, features), features), beta)


def clamped_descent(
    pull: Tensor,
    targets: Tensor,
    start: Tensor,
    *,
    kappa: float,
    steps: int,
    step_size: float = 1.0,
) -> Tensor:
    r"""Descend on the targets alone, every memory weighted by its pull.

    .. math:: y \leftarrow y + \eta\Bigl(\sum_\mu p_\mu b^\mu - y\Bigr), \qquad
              p = \mathrm{softmax}_\mu\bigl(\mathrm{pull}_\mu - \tfrac\kappa2\|y-b^\mu\|^2\bigr)

    Args:
        pull: (n, K), from :func:`log_weights`, plus log weights where memories count differently.
        targets: (K, k); start: (n, k).
        kappa: :math:`\beta(1-\lambda)` >= 0; at 0 one full step forgets the start.
        steps: >= 1; step_size: eta, in units of the full step (of MM's eta, 1/kappa).

    Returns:
        (n, k).

    Raises:
        ValueError, TypeError: a wrong shape, dtype or range.

    Source: MM 5.15-5.17.

    >>> near_first = torch.tensor([[0.0, -1.0]])
    >>> y = clamped_descent(near_first, torch.tensor([[0.0], [1.0]]), torch.zeros(1, 1),
    ...                     kappa=0.0, steps=1)
    >>> y.round(decimals=4)
    tensor([[0.2689]])
    """
    _check.floating("targets", _check.matrix("targets", targets))
    _check.shape("pull", _check.floating("pull", pull), ("n", len(targets)))
    _check.shape("start", _check.floating("start", start), (len(pull), targets.shape[1]))
    _check.same_kind("pull", pull, targets)
    _check.same_kind("start", start, targets)
    kappa, eta = _check.non_negative("kappa", kappa), _check.positive("step_size", step_size)
    y, bank = centred(start, targets)
    for _ in range(_check.count("steps", steps)):
        y = _step(y, pull, bank, kappa, eta)
    return y + middle(targets)


def _step(y: Tensor, pull: Tensor, targets: Tensor, kappa: float | Tensor, eta: float) -> Tensor:
    p = torch.softmax(pull + scores(y, targets, kappa), dim=-1)
    return y + eta * (p @ targets - y)


def nadaraya_watson(x: Tensor, features: Tensor, targets: Tensor, *, beta: float) -> Tensor:
    r"""Kernel regression with a Gaussian kernel of width :math:`1/\sqrt\beta`.

    .. math:: \hat y(x) = \frac{\sum_\mu e^{-\frac\beta2\|x-a^\mu\|^2}\, b^\mu}
              {\sum_\mu e^{-\frac\beta2\|x-a^\mu\|^2}}

    Shapes as :func:`clamped_descent`: (n, d), (K, d), (K, k) give (n, k).
    """
    _paired(features, targets)
    return torch.softmax(log_weights(x, features, beta=beta), dim=-1) @ targets


# ---------------------------------------------------------------------------- learned memories


@dataclass(frozen=True)
class _Objective:
    """The loss of MM 5.18 and its gradient, for memories that are learned.

    A flat vector holds features (K, d), targets (K, k) and, where beta is learned, its logarithm.
    For classes, targets are a softmax of what the vector holds, so that y stays a distribution.
    """

    x: Tensor
    y: Tensor
    weight: Tensor  # of the examples, sums to one
    start: Tensor  # (k,)
    shape: tuple[int, int, int]  # K, d, k
    beta: float | None  # None: learned
    mix: float
    steps: int
    step_size: float
    alpha: float
    classes: bool

    def unpack(self, flat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features, targets and beta of a flat vector."""
        n_memories, d, k = self.shape
        features = flat[: n_memories * d].reshape(n_memories, d)
        targets = flat[n_memories * d : n_memories * (d + k)].reshape(n_memories, k)
        if self.classes:
            targets = targets.softmax(-1)
        beta = flat.new_tensor(self.beta) if self.beta else flat[-1].clamp(-30, 30).exp()
        return features, targets, beta

    def value(self, flat: Tensor) -> Tensor:
        """Where the clamped descent ends, judged; plus alpha times the mean length of a memory."""
        features, targets, beta = self.unpack(flat)
        pull = scores(self.x, features, beta * self.mix)
        y = self.start.expand(len(self.x), -1)
        for _ in range(self.steps):
            y = _step(y, pull, targets, beta * (1 - self.mix), self.step_size)
        if self.classes:
            loss = -(self.y * y.clamp_min(_TINY).log()).sum(-1)
        else:
            loss = 0.5 * (y - self.y).square().sum(-1)
        length = (features.square().sum(-1) + _TINY).sqrt()
        return self.weight @ loss + self.alpha * length.mean()

    def __call__(self, flat: np.ndarray) -> tuple[float, np.ndarray]:
        """Value and gradient, for L-BFGS."""
        with torch.inference_mode(False), torch.enable_grad():
            vector = torch.tensor(flat, dtype=torch.float64, requires_grad=True)
            value = self.value(vector)
            (slope,) = torch.autograd.grad(value, vector)
        return value.item(), slope.numpy()


# ---------------------------------------------------------------------------- the estimators


def _counted(x: np.ndarray, y: np.ndarray, weight):
    """The pairs that count at all, and how much; weights stay None where none were given."""
    if weight is None:
        return x, y, None
    weight = _check_sample_weight(weight, x, dtype=np.float64, ensure_non_negative=True)
    if not (weight > 0).any():  # the sentence of newer scikit-learns; older ones divide by zero
        raise ValueError("Sample weights must contain at least one non-zero number.")
    return x[weight > 0], y[weight > 0], weight[weight > 0]


def _of_this_world(name: str, values: np.ndarray, *, low: float = _SCALES[0]) -> None:
    """Refuse scales whose squares are no doubles."""
    size = float(np.abs(values).max())
    if size and not low <= size <= _SCALES[1]:
        raise ValueError(
            f"{name}: entries lie {size:.1e} from their mean, expected {_SCALES[0]} to {_SCALES[1]}"
            " (scale them first, in a pipeline)"
        )


@dataclass(frozen=True)
class _Places:
    """Different places x (n, d), some of them ``asked``; log weights and mean targets there."""

    x: Tensor
    asked: Tensor
    log_weight: Tensor
    targets: Tensor

    def blocks(self) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Numbers of asked places, and their squared distances to all; inf to themselves."""
        for rows in torch.arange(len(self.asked)).split(max(1, _BLOCK // len(self.x))):
            here = self.x[self.asked[rows]]
            apart = here.square().sum(-1, keepdim=True) - 2 * scores(here, self.x, 1.0)
            apart.clamp_(min=0)[torch.arange(len(rows)), self.asked[rows]] = torch.inf
            yield rows.numpy(), apart

    def range_of_precisions(self) -> tuple[float, float]:
        """From a tenth over the mean square of a distance to 20 over the median of the least."""
        closest, total = [], 0.0
        for _, apart in self.blocks():
            closest.append(apart.amin(1))
            total += float(apart.masked_fill(apart.isinf(), 0).sum())
        mean = total / (len(self.asked) * (len(self.x) - 1))
        near = max(float(torch.cat(closest).median()), _TINY * mean)
        return 0.1 / mean, 20.0 / near

    def guess(self, apart: Tensor, precision: float) -> Tensor:
        """What the others say at each asked place."""
        return torch.softmax(-0.5 * precision * apart + self.log_weight, -1) @ self.targets


class _AssociativeMemory(BaseEstimator):
    """What the classifier and the regressor share: settings, memories, beta, learning."""

    def __init__(
        self,
        n_memories=None,
        *,
        beta="auto",
        mix=1.0,
        steps=1,
        step_size=1.0,
        alpha=1e-3,
        max_iter=200,
        n_init=1,
        random_state=None,
    ):
        self.n_memories = n_memories
        self.beta = beta
        self.mix = mix
        self.steps = steps
        self.step_size = step_size
        self.alpha = alpha
        self.max_iter = max_iter
        self.n_init = n_init
        self.random_state = random_state

    def _check_settings(self) -> None:
        """Refuse settings that mean nothing, one line each."""
        if self.n_memories is not None:
            _check.count("n_memories", self.n_memories)
        if not (isinstance(self.beta, str) and self.beta == "auto"):
            try:
                _check.positive("beta", self.beta)
            except ValueError:
                raise _check.fail("beta", self.beta, "a finite number > 0 or 'auto'") from None
        _check.between("mix", self.mix, 0, 1, ends="(]")
        _check.between("step_size", self.step_size, 0, 2, ends="()")
        _check.count("steps", self.steps)
        _check.non_negative("alpha", self.alpha)
        _check.count("max_iter", self.max_iter)
        _check.count("n_init", self.n_init)

    def _learn(self, x: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> None:
        """Store or learn the memories of features x (m, d) and targets y (m, k)."""
        counts = np.ones(len(x)) if weight is None else weight
        with np.errstate(over="ignore", invalid="ignore"):  # said in a line below
            self._centre = np.average(x, axis=0, weights=counts)  # small numbers round better
            x = x - self._centre
        _of_this_world("X", x)
        self._start = self._neutral(y)
        if self.n_memories is None:
            self.memories_, self.targets_, self.n_iter_ = x + self._centre, y, 1
            self._log_weight = np.log(counts)
            self.beta_ = self._left_out(x, y, counts) if self._is_auto() else float(self.beta)
            return
        if self.n_memories > len(x):
            raise _check.fail("n_memories", self.n_memories, f"at most n_samples = {len(x)}")
        generator = check_random_state(self.random_state)
        tries = [self._descend_loss(x, y, counts, generator) for _ in range(self.n_init)]
        best = min(tries, key=lambda found: found[0])
        self.loss_, features, self.targets_, self.beta_, self.n_iter_ = best
        self.memories_, self._log_weight = features + self._centre, np.zeros(len(features))

    def _is_auto(self) -> bool:
        return isinstance(self.beta, str)

    def _left_out(self, x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> float:
        """The beta with the least loss when every place is predicted from all other places.

        Pairs at one place are left out together, so a weight of 2 and a repeated pair agree. Of
        many places some are asked: 2000, and 500 where each has 100 000 others. Their distances to
        all others are made a block at a time, twice.
        """
        x, place = np.unique(x, axis=0, return_inverse=True)
        place = place.reshape(-1)
        if len(x) == 1:
            return 1.0 / self.mix  # no width is better than another
        total = np.bincount(place, weight)
        mean = np.stack([np.bincount(place, weight * column) for column in y.T], 1) / total[:, None]
        n_asked = int(np.clip(6e7 / len(x), 500, 2000))
        asked = np.unique(np.linspace(0, len(x) - 1, n_asked).astype(int))
        places = _Places(*map(torch.from_numpy, (x, asked, np.log(total), mean)))
        low, high = places.range_of_precisions()
        precisions = np.geomspace(low, max(high, 10 * low), 30)
        pairs = np.flatnonzero(np.isin(place, asked))
        order = pairs[np.argsort(place[pairs], kind="stable")]  # pairs by the place they are at
        ends = np.searchsorted(place[order], asked, side="right")
        losses = np.zeros(len(precisions))
        for rows, apart in places.blocks():
            mine = order[ends[rows[0] - 1] if rows[0] else 0 : ends[rows[-1]]]
            row_of = torch.from_numpy(np.searchsorted(asked[rows], place[mine]))
            wanted, counts = torch.from_numpy(y[mine]), torch.from_numpy(weight[mine])
            for i, precision in enumerate(precisions):
                guess = places.guess(apart, precision)[row_of]
                losses[i] += float(counts @ self._left_out_loss(guess, wanted))
        return float(precisions[losses.argmin()]) / self.mix

    def _descend_loss(self, x, y, weight, generator):
        """One run of L-BFGS from memories that k-means found."""
        features, targets = self._first_memories(x, y, weight, generator)
        objective = _Objective(
            x=torch.from_numpy(x),
            y=torch.from_numpy(y),
            weight=torch.from_numpy(weight / weight.sum()),
            start=torch.from_numpy(self._start),
            shape=(len(features), x.shape[1], y.shape[1]),
            beta=None if self._is_auto() else float(self.beta),
            mix=float(self.mix),
            steps=self.steps,
            step_size=float(self.step_size),
            alpha=float(self.alpha),
            classes=self._is_classes,
        )
        flat = np.concatenate([features.ravel(), targets.ravel()])
        if self._is_auto():
            apart = torch.cdist(objective.x, torch.from_numpy(features)).square()
            spread = float(objective.weight @ apart.amin(1)) or float(apart.mean()) or 1.0
            flat = np.append(flat, math.log(x.shape[1] / (spread * self.mix)))
        end = minimize(
            objective, flat, jac=True, method="L-BFGS-B", options={"maxiter": self.max_iter}
        )
        learned, targets, beta = objective.unpack(torch.from_numpy(end.x))
        return end.fun, learned.numpy().copy(), targets.numpy().copy(), float(beta), end.nit

    def _blocks(self, x: np.ndarray) -> Iterator[Tensor]:
        """Pulls of the memories on rows of x, a block of rows at a time."""
        _of_this_world("X", x - self._centre, low=0.0)
        features = torch.from_numpy(self.memories_ - self._centre)
        bias = torch.from_numpy(self._log_weight)
        for rows in torch.from_numpy(x - self._centre).split(max(1, _BLOCK // len(features))):
            yield log_weights(rows, features, beta=self.beta_ * self.mix) + bias

    def _walk(self, pull: Tensor, targets: Tensor) -> Tensor:
        """The clamped descent from the neutral start."""
        start = torch.from_numpy(self._start).expand(len(pull), -1)
        kappa = self.beta_ * (1 - self.mix)
        return clamped_descent(
            pull, targets, start, kappa=kappa, steps=self.steps, step_size=self.step_size
        )


class AssociativeMemoryClassifier(ClassifierMixin, _AssociativeMemory):
    r"""Classify by descent: features are clamped, a distribution over the classes goes downhill.

    A memory's target is a corner of the simplex, 1 for its class; the start is 1/k everywhere.
    Without ``n_memories`` all training pairs are memories. Then the label is that of a kernel
    classifier whatever ``mix``, ``steps`` and ``step_size`` <= 1 are; they set how sure it is.
    With ``n_memories``, so many pairs are learned (targets in the simplex) by minimising the
    cross-entropy of where the descent ends, plus ``alpha`` times the mean length of a memory.

    Args:
        n_memories: None for all pairs, or how many to learn (at least one per class).
        beta: > 0, or "auto": the best at predicting left-out pairs, or learned with the memories.
        mix: lambda in (0, 1], the share of the features in the similarity; 1 is kernel regression.
        steps, step_size: of the descent, in units of the full step.
        alpha, max_iter, n_init: of learning; the best of ``n_init`` runs of L-BFGS is kept.
        random_state: for the first memories (k-means within each class).

    Attributes:
        ``classes_``, ``memories_`` (K, d), ``targets_`` (K, k), ``beta_``, and when learned
        ``loss_`` and ``n_iter_``.

    Source: MM 5.15-5.18.

    >>> model = AssociativeMemoryClassifier(beta=1.0).fit([[0.0], [1.0], [5.0]], ["a", "a", "b"])
    >>> model.predict([[0.5], [4.0]]).tolist()
    ['a', 'b']
    """

    _is_classes = True

    def fit(self, X, y, sample_weight=None):
        """Store or learn memories of X (m, d) with labels y (m,); weights count pairs."""
        self._check_settings()
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        X, y, sample_weight = _counted(X, y, sample_weight)
        self.classes_, label = np.unique(y, return_inverse=True)
        if self.n_memories is not None and self.n_memories < len(self.classes_):
            raise _check.fail(
                "n_memories", self.n_memories, f">= {len(self.classes_)}, one per class"
            )
        self._learn(X, np.eye(len(self.classes_))[label], sample_weight)
        return self

    def predict_proba(self, X) -> np.ndarray:
        """Where the descent ends, (n, k): a distribution over ``classes_``."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        corners = torch.eye(len(self.classes_), dtype=torch.float64)
        targets = torch.from_numpy(self.targets_)
        ends = []
        for pull in self._blocks(X):
            if (
                self.n_memories is None
            ):  # memories of one class share a target: add up their weights
                top = pull.amax(-1, keepdim=True)
                ends.append(self._walk(((pull - top).exp() @ targets).log(), corners))
            else:
                ends.append(self._walk(pull, targets))
        chances = torch.cat(ends).clamp_min(0).numpy()
        return chances / chances.sum(1, keepdims=True)

    def predict(self, X) -> np.ndarray:
        """The most likely class of each row, (n,)."""
        chances = self.predict_proba(X)
        return self.classes_[chances.argmax(1)]

    def _neutral(self, y: np.ndarray) -> np.ndarray:
        return np.full(y.shape[1], 1 / y.shape[1])

    def _left_out_loss(self, guess: Tensor, wanted: Tensor) -> Tensor:
        return -(guess * wanted).sum(-1).clamp_min(1e-6).log()

    def _first_memories(self, x, y, weight, generator):
        """Memories from k-means within each class, in numbers that follow its spread-out size."""
        share = weight @ y / weight.sum()
        room = (y > 0).sum(0)
        counts = np.ones(len(share), dtype=int)
        while counts.sum() < self.n_memories:
            counts[np.argmax(np.where(counts < room, share / counts, -1))] += 1
        features, logits = [], []
        for c, count in enumerate(counts):
            mine = y[:, c] > 0
            means = KMeans(int(count), n_init=1, random_state=generator).fit(
                x[mine], None, weight[mine]
            )
            features.append(means.cluster_centers_)
            logits.append(np.tile(3.0 * np.eye(len(share))[c], (count, 1)))
        return np.concatenate(features), np.concatenate(logits)


class AssociativeMemoryRegressor(RegressorMixin, _AssociativeMemory):
    r"""Predict numbers by descent: features are clamped, the target goes downhill from the mean.

    At ``mix=1`` this is kernel regression, the mean of what could be; below, and with ``steps``
    enough, it is one of the valleys of the slice: one of the things that could be. The target
    counts in units of its standard deviation. Arguments as :class:`AssociativeMemoryClassifier`;
    learned memories minimise half the squared error of where the descent ends.

    Attributes:
        ``memories_`` (K, d), ``targets_`` (K, k) in standard units, ``beta_``, and when learned
        ``loss_`` and ``n_iter_``.

    Source: MM 5.15-5.18.

    >>> model = AssociativeMemoryRegressor(beta=1.0).fit([[0.0], [1.0], [5.0]], [0.0, 1.0, 5.0])
    >>> model.predict([[0.5], [5.0]]).round(2).tolist()
    [0.5, 5.0]
    """

    _is_classes = False

    def fit(self, X, y, sample_weight=None):
        """Store or learn memories of X (m, d) and y (m,) or (m, k); weights count pairs."""
        self._check_settings()
        X, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
        self._is_flat = y.ndim == 1
        y = np.asarray(y, dtype=np.float64).reshape(len(y), -1)
        X, y, weight = _counted(X, y, sample_weight)
        with np.errstate(over="ignore", invalid="ignore"):  # said in a line below
            self._mean = np.average(y, axis=0, weights=weight)
            _of_this_world("y", y - self._mean)
        spread = np.sqrt(np.average((y - self._mean) ** 2, axis=0, weights=weight))
        self._scale = np.where(spread > 0, spread, 1.0)
        self._learn(X, (y - self._mean) / self._scale, weight)
        return self

    def predict(self, X) -> np.ndarray:
        """Where the descent ends, (n,) or (n, k), in the units of y."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        targets = torch.from_numpy(self.targets_)
        ends = torch.cat([self._walk(pull, targets) for pull in self._blocks(X)]).numpy()
        y = ends * self._scale + self._mean
        return y[:, 0] if self._is_flat else y

    def __sklearn_tags__(self):
        """Say that several targets at once are welcome."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _neutral(self, y: np.ndarray) -> np.ndarray:
        return np.zeros(y.shape[1])

    def _left_out_loss(self, guess: Tensor, wanted: Tensor) -> Tensor:
        return (guess - wanted).square().sum(-1)

    def _first_memories(self, x, y, weight, generator):
        """Memories from k-means on features and targets together."""
        both = np.concatenate([x, y * np.sqrt(x.var(0).sum() / y.shape[1])], axis=1)
        means = KMeans(self.n_memories, n_init=1, random_state=generator).fit(both, None, weight)
        label, pairs = means.labels_, np.concatenate([x, y], axis=1)
        first = np.stack(
            [
                np.average(pairs[label == c], axis=0, weights=weight[label == c])
                for c in np.unique(label)
            ]
        )
        first = first[np.arange(self.n_memories) % len(first)]  # twins where data repeat themselves
        return first[:, : x.shape[1]], first[:, x.shape[1] :]
