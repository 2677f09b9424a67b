"""ClAM: the estimator, what it learns, and what it must refuse."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris, make_blobs
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import adjusted_rand_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from amtutor.memory import clustering
from amtutor.memory.clustering import ClAM
from amtutor.memory.relocation import kmeans_objective, relocation_gradient, relocation_loss

SKIPPED = {"check_array_api_input"}


def blobs(n=200, k=4, d=3, seed=0):
    return make_blobs(n, d, centers=k, cluster_std=0.5, random_state=seed)


@pytest.mark.parametrize("model", [ClAM(), ClAM(mask_fraction=0.3, batch_size=16)], ids=str)
def test_check_estimator(model):
    """All of sklearn.utils.estimator_checks."""
    import unittest

    names, failed = [], {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for estimator, check in estimator_checks_generator(model):
            name = check.func.__name__
            names.append(name)
            try:
                check(estimator)
            except unittest.SkipTest:
                assert name in SKIPPED, name
            except Exception as error:  # collected, so that one run shows all
                failed[name] = str(error)[:300]
    assert not failed and len(names) > 45


@pytest.mark.parametrize("init", ["k-means++", "random", "array"])
def test_well_separated_clusters_are_found(init):
    X, y = blobs()
    X = 1000 * X + 5e5  # no unit is special
    first = np.stack([X[y == c][0] for c in range(4)]) if init == "array" else init
    model = ClAM(4, init=first, n_init=10, random_state=0).fit(X)
    assert adjusted_rand_score(y, model.labels_) == 1.0
    means = np.stack([X[model.labels_ == c].mean(0) for c in range(4)])
    best = KMeans(4, n_init=10, random_state=0).fit(X).inertia_
    assert model.inertia_ <= 1.001 * best and model.memories_.shape == (4, 3)
    np.testing.assert_allclose(model.memories_, means, atol=0.05 * X.std())


def test_where_k_means_rests_a_cold_memory_rests():
    """At large beta the slope of the loss at k-means' centres is zero: the same fixed points."""
    X = load_iris().data
    x = torch.from_numpy(X)
    centres = torch.from_numpy(KMeans(3, n_init=5, tol=0, random_state=0).fit(X).cluster_centers_)
    slope = relocation_gradient(x, centres, beta=1e4)[1]
    aside = relocation_gradient(x, centres + 0.1, beta=1e4)[1]
    assert slope.abs().max() < 1e-6 * aside.abs().max()
    loss = relocation_loss(x, centres, beta=1e4).sum()
    assert float(loss) == pytest.approx(float(kmeans_objective(x, centres)), rel=1e-9)


def test_what_fit_says_is_true():
    X, _ = blobs(seed=3)
    model = ClAM(4, beta=(0.5, 20.0), steps=7, random_state=1).fit(X)
    x, memories = torch.from_numpy(X), torch.from_numpy(model.memories_)
    assert model.inertia_ == pytest.approx(float(kmeans_objective(x, memories)))
    assert model.beta_ == pytest.approx(20.0) and model.n_iter_ == len(model.loss_curve_)
    np.testing.assert_array_equal(model.labels_, model.predict(X))
    apart = np.linalg.norm(X[:, None] - model.memories_, axis=-1)
    np.testing.assert_allclose(model.transform(X), apart, rtol=1e-6)
    assert model.score(X) == pytest.approx(-model.inertia_)
    loss = relocation_loss(x, memories, beta=20.0, steps=7).mean()
    assert model.loss_ == pytest.approx(float(loss), rel=0.01)
    assert model.get_feature_names_out().tolist() == [f"clam{i}" for i in range(4)]


def test_a_soft_memory_finds_fewer_clusters():
    """Where memories share a valley, one answers for all: predict tells basins, not cells."""
    X, _ = blobs()
    hot = ClAM(4, beta=1e-6, random_state=0).fit(X)
    assert len(set(hot.labels_)) == 1


def test_more_starts_cost_no_more_inertia():
    X, _ = make_blobs(300, 2, centers=12, random_state=1)
    one, many = (ClAM(12, n_init=n, random_state=0).fit(X).inertia_ for n in (1, 6))
    assert many <= one


def test_the_loss_falls_and_stops_early():
    X, _ = blobs()
    long = ClAM(4, beta=50.0, tol=0.0, max_iter=80, random_state=0).fit(X)
    short = ClAM(4, beta=50.0, tol=1e-3, patience=3, max_iter=80, random_state=0).fit(X)
    assert long.n_iter_ == 80 > short.n_iter_ > 40  # never before beta has arrived
    assert long.loss_ <= long.loss_curve_[0] and long.loss_ <= short.loss_ * (1 + 1e-9)


def test_mini_batches_come_to_the_same():
    X, y = blobs(n=600)
    model = ClAM(4, batch_size=64, n_init=3, max_iter=60, random_state=0).fit(X)
    whole = ClAM(4, n_init=3, random_state=0).fit(X)
    assert adjusted_rand_score(y, model.labels_) == adjusted_rand_score(y, whole.labels_) == 1
    assert model.inertia_ == pytest.approx(whole.inertia_, rel=0.01)


def test_partial_fit_learns_batch_by_batch():
    X, y = blobs(n=1200, seed=2)
    model = ClAM(4, random_state=0)
    for first in range(0, 1200, 60):
        model.partial_fit(X[first : first + 60])
    assert model.n_iter_ == 20
    assert adjusted_rand_score(y, model.predict(X)) > 0.95
    best = KMeans(4, n_init=5, random_state=0).fit(X).inertia_
    assert best <= -model.score(X) < 1.2 * best
    after = clone(model).fit(X[:200])
    after.partial_fit(X[200:])
    assert after.n_features_in_ == 3


def test_masks_still_find_the_clusters():
    X, y = blobs(n=300, d=8)
    model = ClAM(4, mask_fraction=0.3, n_init=3, random_state=0).fit(X)
    assert adjusted_rand_score(y, model.labels_) == 1.0
    plain = ClAM(4, n_init=3, random_state=0).fit(X)
    assert model.loss_ != plain.loss_ and model.inertia_ >= plain.inertia_ * (1 - 1e-6)


def test_a_fit_is_a_function_of_the_seed():
    X, _ = blobs(n=100)
    settings = {"batch_size": 32, "mask_fraction": 0.2, "max_iter": 20}
    a, b, c = (ClAM(4, random_state=s, **settings).fit(X).memories_ for s in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_pipeline_and_pickle():
    X, _ = blobs()
    pipe = make_pipeline(StandardScaler(), ClAM(4, random_state=0)).fit(X)
    again = pickle.loads(pickle.dumps(pipe))
    np.testing.assert_array_equal(pipe.predict(X), again.predict(X))


# ---------------------------------------------------------------------------- bad input


def test_constant_and_repeated_points():
    with pytest.warns(ConvergenceWarning, match="1 distinct clusters found, fewer than n_cl"):
        model = ClAM(3, random_state=0).fit(np.full((9, 2), 4.0))
    assert model.inertia_ == 0 and np.isfinite(model.memories_).all()
    with pytest.warns(ConvergenceWarning, match="2 distinct clusters"):
        model = ClAM(3, random_state=0).fit(np.repeat([[0.0], [1.0]], 5, axis=0))
    assert set(model.labels_[:5]).isdisjoint(model.labels_[5:])
    X, y = blobs(d=2)
    X = np.column_stack([X, np.full(len(X), 3.0)])  # a constant feature is no harm
    model = ClAM(4, n_init=5, random_state=0).fit(X)
    assert adjusted_rand_score(y, model.labels_) == 1
    assert np.allclose(model.memories_[:, 2], 3.0)


def test_one_point():
    model = ClAM(1).fit([[1.0, 2.0]])
    np.testing.assert_allclose(model.memories_, [[1.0, 2.0]])
    with pytest.raises(ValueError, match="n_samples = 1: expected at least n_clusters = 2"):
        ClAM(2).fit([[1.0, 2.0]])
    with pytest.raises(ValueError, match="n_samples = 1: .* in the first batch"):
        ClAM(2).partial_fit([[1.0, 2.0]])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"n_clusters": 0}, "n_clusters = 0: expected a whole number >= 1"),
        ({"beta": "hot"}, "beta = 'hot': expected 'auto', a number > 0 or a pair"),
        ({"beta": (1, -1)}, r"beta = \(1, -1\): expected 'auto', a number > 0 or a pair"),
        ({"step_size": 2}, r"step_size = 2: expected a number in \(0, 2\) or a pair"),
        ({"mask_fraction": 1.0}, r"mask_fraction = 1.0: expected a number in \[0, 1\)"),
        ({"init": "best"}, "init = 'best': expected one of 'k-means\\+\\+', 'random'"),
        ({"init": np.zeros((2, 3))}, r"init: got a float64 tensor of shape \(2, 3\), expected a"),
        ({"init": np.full((3, 3), np.nan)}, "init: 9 of 9 entries are NaN"),
        ({"learning_rate": 0}, "learning_rate = 0.0: expected a finite number > 0"),
        ({"steps": 1.5}, "steps = 1.5: expected a whole number"),
        ({"tol": -1}, "tol = -1.0: expected a finite number >= 0"),
    ],
)
def test_bad_settings(settings, words):
    with pytest.raises(ValueError, match=words) as caught:
        ClAM(**{"n_clusters": 3, **settings}).fit(blobs()[0])
    assert "\n" not in str(caught.value)


def test_bad_data():
    X, _ = blobs()
    model = ClAM(3)
    with pytest.raises(NotFittedError):
        model.predict(X)
    X[0, 0] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN"):
        model.fit(X)
    with pytest.raises(ValueError, match="X: entries lie .* expected 1e-100"):
        model.fit(1e200 * blobs()[0])


def test_doors():
    assert clustering.__all__ == ["ClAM", "DeepClAM"]
