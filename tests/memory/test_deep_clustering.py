"""DeepClAM: the estimator over points and pictures, its one loss, and what it must refuse."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits, make_blobs
from sklearn.exceptions import NotFittedError
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.estimator_checks import estimator_checks_generator
from torch import nn

from amtutor.memory.deep_clustering import DeepClAM
from amtutor.memory.relocation import relocate

SKIPPED = {"check_array_api_input"}


def pictures(n=200):
    """Four kinds of 4 x 4 pictures, a lit corner each, with noise."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(0, 0.1, (n, 1, 4, 4)), np.arange(n) % 4
    for i, c in enumerate(y):
        X[i, 0, 2 * (c // 2) : 2 * (c // 2) + 2, 2 * (c % 2) : 2 * (c % 2) + 2] += 1
    return X.astype(np.float32), y


def small(**settings):
    given = {"latent_dim": 3, "hidden": (16,), "pretrain": 15, "max_iter": 10, "random_state": 0}
    return DeepClAM(4, **{**given, "batch_size": 32, "learning_rate": 5e-3, **settings})


def test_check_estimator():
    """All of sklearn.utils.estimator_checks."""
    import unittest

    names, failed = [], {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for estimator, check in estimator_checks_generator(DeepClAM()):
            name = check.func.__name__
            names.append(name)
            try:
                check(estimator)
            except unittest.SkipTest:
                assert name in SKIPPED, name
            except Exception as error:  # collected, so that one run shows all
                failed[name] = str(error)[:300]
    assert not failed and len(names) > 45


def test_kinds_of_pictures_are_told_apart():
    X, y = pictures()
    model = small().fit(X)
    assert adjusted_rand_score(y, model.labels_) == 1.0
    assert model.prototypes().shape == (4, 1, 4, 4) and model.encode(X).shape == (200, 3)
    assert model.reconstruct(X).shape == X.shape
    # each prototype is the mean of its kind, and not of another
    means = np.stack([X[model.labels_ == c].mean(0) for c in range(4)]).reshape(4, -1)
    apart = np.linalg.norm(means[:, None] - model.prototypes().reshape(4, -1), axis=-1)
    assert (apart.argmin(1) == np.arange(4)).all()


def test_what_fit_says_is_true():
    X, _ = pictures()
    model = small(beta=(1.0, 3.0), steps=4, step_size=0.25).fit(X)
    z = torch.from_numpy(model.encode(X))
    memories = torch.from_numpy(model.memories_)
    end = relocate(z, memories, beta=3.0, steps=4, step_size=0.25)
    contracted = model.encode(X, contracted=True)
    torch.testing.assert_close(torch.from_numpy(contracted), end, rtol=1e-4, atol=1e-4)
    apart = torch.cdist(z, memories)
    torch.testing.assert_close(torch.from_numpy(model.transform(X)), apart, rtol=1e-3, atol=1e-3)
    assert model.inertia_ == pytest.approx(float(apart.amin(1).square().sum()), rel=1e-3)
    error = float(np.square(model.reconstruct(X) - X).mean())
    assert error == pytest.approx(model.loss_, rel=0.2)  # the weights moved within the epoch
    assert model.loss_curve_[14] < model.loss_curve_[0] and model.n_iter_ == 25
    np.testing.assert_array_equal(model.labels_, model.predict(X))


def test_with_the_full_step_a_code_is_forgotten_but_for_its_cluster():
    X, _ = pictures()
    spread = [
        small(step_size=eta, beta=100.0).fit(X).encode(X, contracted=True) for eta in (1.0, 0.1)
    ]
    different = [len(np.unique(z.round(4), axis=0)) for z in spread]
    assert different[0] <= 8 and different[1] > 150


def test_one_loss_moves_all_three():
    X, _ = pictures()
    model = small(pretrain=1, max_iter=1).fit(X)
    before = [model.memories_.copy(), *(p.detach().clone() for p in model.encoder_.parameters())]
    codes = model.encode(X)
    model.partial_fit(X[:50])
    after = [model.memories_, *(p.detach() for p in model.encoder_.parameters())]
    assert all((a != b).any() for a, b in zip(after, before, strict=True))
    assert np.abs(model.encode(X) - codes).max() > 0 and model.n_iter_ == 3


def test_without_epochs_of_memories_it_is_kmeans_on_codes():
    X, _ = pictures()
    model = small(max_iter=0, beta=1e4).fit(X)
    z = model.encode(X)
    means = np.stack([z[model.labels_ == c].mean(0) for c in range(4)])
    np.testing.assert_allclose(model.memories_, means, atol=1e-3 * z.std())
    with pytest.raises(ValueError, match="pretrain = 0: expected a whole number >= 1"):
        small(pretrain=0, max_iter=0).fit(X)


def test_own_networks_are_copied():
    torch.manual_seed(0)
    X, y = pictures()
    encoder = nn.Sequential(nn.Conv2d(1, 8, 2, 2), nn.SiLU(), nn.Flatten(), nn.Linear(32, 3))
    decoder = nn.Sequential(nn.Linear(3, 16), nn.Unflatten(1, (1, 4, 4)))
    untouched = encoder[0].weight.detach().clone()
    model = small(encoder=encoder, decoder=decoder, learning_rate=1e-2).fit(X)
    assert torch.equal(encoder[0].weight, untouched)
    assert not torch.equal(model.encoder_[0].weight, untouched)
    assert adjusted_rand_score(y, model.labels_) == 1.0
    assert isinstance(clone(model).encoder, nn.Module)


def test_what_augmentation_changes_leaves_the_codes():
    """The encoder sees pictures of any brightness, the decoder gives the plain one back."""
    X, _ = pictures()

    def brighter(x, generator):
        return x + torch.randn(len(x), 1, 1, 1, generator=generator)

    shift = []
    for augment in (None, brighter):
        model = small(augment=augment, pretrain=40).fit(X)
        moved = np.abs(model.encode(X + 1) - model.encode(X)).mean()
        shift.append(moved / np.abs(model.encode(X) - model.encode(X).mean(0)).mean())
    assert shift[1] < 0.5 * shift[0]


def test_partial_fit_from_the_first_batch():
    X, y = pictures(600)
    model = small()
    for _ in range(10):
        for first in range(0, 600, 60):
            model.partial_fit(X[first : first + 60])
    assert model.n_iter_ == 100 and model.loss_curve_[-1] < 0.5 * model.loss_curve_[0]
    assert adjusted_rand_score(y, model.predict(X)) > 0.9


def test_a_fit_is_a_function_of_the_seed_and_leaves_torchs_own():
    X, _ = pictures(60)
    torch.manual_seed(7)
    wanted = torch.rand(1)
    torch.manual_seed(7)
    a, b, c = (small(random_state=s, max_iter=2).fit(X).memories_ for s in (0, 0, 1))
    assert torch.rand(1) == wanted
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_units_do_not_count():
    X, y = make_blobs(120, 5, centers=4, random_state=0)
    for scale in (1e-6, 1.0, 1e6):
        model = small().fit(scale * X + 10 * scale)
        assert adjusted_rand_score(y, model.labels_) > 0.9
        assert model.loss_ < 0.5 * (scale * X).var()


def test_pickle():
    X, _ = pictures(60)
    model = small(max_iter=2).fit(X)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(model.predict(X), again.predict(X))
    assert again.partial_fit(X).n_iter_ == model.n_iter_ + 1


def test_digits_of_scikit_learn():
    X, y = load_digits(return_X_y=True)
    settings = {"latent_dim": 8, "hidden": (64,), "pretrain": 5, "max_iter": 5}
    model = DeepClAM(10, random_state=0, **settings).fit(X.astype(np.float32).reshape(-1, 8, 8))
    assert adjusted_rand_score(y, model.labels_) > 0.3
    assert model.loss_ < 0.6 * X.var()


# ---------------------------------------------------------------------------- bad input


def test_constant_points_and_one_point():
    model = DeepClAM(1, pretrain=1, max_iter=2, random_state=0).fit([[1.0, 2.0]])
    assert np.isfinite(model.memories_).all() and model.labels_.tolist() == [0]
    with pytest.raises(ValueError, match="n_samples = 1: expected at least n_clusters = 2"):
        DeepClAM(2).fit([[1.0, 2.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # k-means says that the codes are one
        model = small().fit(np.full((20, 3), 4.0))
    assert np.isfinite(model.reconstruct(np.full((2, 3), 4.0))).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"latent_dim": 0}, "latent_dim = 0: expected a whole number >= 1"),
        ({"hidden": 64}, "hidden = 64: expected a tuple of whole numbers >= 1"),
        ({"beta": 0}, "beta = 0: expected 'auto', a number > 0 or a pair"),
        ({"step_size": (0.1, 2)}, r"step_size = \(0.1, 2\): expected a number in \(0, 2\)"),
        ({"pretrain": -1}, "pretrain = -1: expected a whole number >= 0"),
        ({"augment": 3}, r"augment: got a int 3, expected None or a function \(x, generator\)"),
        ({"encoder": abs}, "encoder: got a builtin.*, expected None or a torch.nn.Module"),
        ({"encoder": nn.Identity()}, r"encoder: gave a .*, expected codes \(n, D\)"),
        ({"learning_rate": 1e30}, "loss = .*: expected a finite number; learning_rate = 1e.30"),
    ],
)
def test_bad_settings(settings, words):
    with pytest.raises((ValueError, TypeError, FloatingPointError), match=words) as caught:
        small(**settings).fit(pictures(40)[0])
    assert "\n" not in str(caught.value)


def test_bad_data():
    X, _ = pictures(40)
    with pytest.raises(NotFittedError):
        small().predict(X)
    model = small(max_iter=1, pretrain=1).fit(X)
    with pytest.raises(ValueError, match="X has 9 features, but DeepClAM is expecting 16"):
        model.predict(np.zeros((2, 3, 3)))
    X[0] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN"):
        small().fit(X)
