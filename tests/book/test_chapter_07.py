"""What chapter 7 claims (ledger E1 to E6), held apart from the chapter's own run."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from amtutor.descent import distinct
from amtutor.memory.prediction import (
    AssociativeMemoryClassifier,
    AssociativeMemoryRegressor,
    clamped_descent,
    log_weights,
    mixed_energy,
    nadaraya_watson,
    recall,
)

DOUBLE = torch.float64
RULE = {"beta": 10.0, "mix": 0.3}
RECORD = Path(__file__).resolve().parents[2] / "results" / "prediction" / "tables.json"


def tide(t):
    return 2.5 + 1.6 * np.cos(2 * np.pi * (t - 6.1) / 12.4)


def notes(seed=0, n=72, noise=0.12):
    """Another day in the same harbour."""
    rng = np.random.default_rng(seed)
    hour = 24 * (np.arange(n) + rng.random(n)) / n
    pair = hour, tide(hour) + noise * rng.normal(size=n)
    return [torch.from_numpy(v)[:, None] for v in pair]


def column(*values):
    return torch.tensor(values, dtype=DOUBLE)[:, None]


# -- E1: three questions -------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_e1_one_energy_answers_three_questions(seed):
    hour, height = notes(seed)
    ask = RULE | {"steps": 3000, "tol": 1e-9}
    high = recall(column(9.0), column(4.2), hour, height, clamp="x", **ask)
    assert abs(float(high.y) - tide(9.0)) < 0.4
    guesses = column(5.0, 10.0, 14.5, 22.0)
    when = recall(guesses, torch.full_like(guesses, 3.0), hour, height, clamp="y", **ask)
    times = when.x[:, 0].sort().values
    assert (times.diff() > 3).all() and (np.abs(tide(times.numpy()) - 3) < 0.5).all()
    slip = recall(column(12.0), column(3.0), hour, height, clamp=None, **ask)
    assert abs(float(slip.y) - tide(float(slip.x))) < 0.4 and slip.converged.all()


@pytest.mark.parametrize("seed", range(5))
def test_e1_the_average_of_right_answers_is_low_water(seed):
    hour, height = notes(seed)
    averaged = float(nadaraya_watson(column(3.0), height, hour, beta=7.0))
    assert tide(averaged) < 1.6


def test_e1_the_descent_finds_a_low_point_and_not_the_lowest():
    hour, height = notes()
    guesses = column(5.0, 10.0, 14.5, 22.0)
    three = torch.full_like(guesses, 3.0)
    when = recall(guesses, three, hour, height, clamp="y", steps=3000, **RULE)
    line = torch.linspace(0, 24, 4001, dtype=DOUBLE)[:, None]
    lowest = mixed_energy(line, torch.full_like(line, 3.0), hour, height, **RULE).min()
    assert when.energy.min() == pytest.approx(float(lowest), abs=1e-4)
    assert (when.energy > lowest + 1e-3).sum() >= 2


# -- E2: energy and loss -------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_e2_training_lowers_the_loss_and_may_raise_the_energy(seed):
    hour, height = notes(seed)
    X, y = hour.numpy(), height[:, 0].numpy()
    loss, energy = [], []
    for rounds in (1, 100):
        model = AssociativeMemoryRegressor(
            6, beta=0.3, mix=0.5, steps=5, alpha=0.0, random_state=0, max_iter=rounds
        ).fit(X, y)
        loss.append(model.loss_)
        seen = torch.from_numpy((y - y.mean()) / y.std())[:, None]
        where = torch.from_numpy(model.memories_), torch.from_numpy(model.targets_)
        energy.append(float(mixed_energy(hour, seen, *where, beta=0.3, mix=0.5).mean()))
    assert loss[1] < 0.5 * loss[0] and energy[1] > energy[0]


def test_e2_asking_changes_no_memory():
    hour, height = notes()
    model = AssociativeMemoryRegressor(6, mix=0.8, steps=9, random_state=0)
    model.fit(hour.numpy(), height[:, 0].numpy())
    before = model.memories_.copy(), model.targets_.copy()
    model.predict(hour.numpy())
    assert np.array_equal(before[0], model.memories_) and np.array_equal(before[1], model.targets_)


# -- E3: three parts of the error ----------------------------------------------------------------


def test_e3_approximation_falls_and_stopping_early_can_win():
    day = np.linspace(0, 24, 200)[:, None]

    def risk(model):
        return float(np.mean((model.predict(day) - tide(day[:, 0])) ** 2))

    def few(k, **more):
        return AssociativeMemoryRegressor(k, alpha=0, random_state=1, **more)

    best = [risk(few(k, n_init=3, max_iter=120).fit(day, tide(day[:, 0]))) for k in (1, 2, 6)]
    assert best[0] > best[1] > best[2] and best[0] > 1 and best[2] < 0.01
    parts = []
    for seed in range(100, 108):  # other draws than the chapter's
        rng = np.random.default_rng(seed)
        t = 24 * rng.random((40, 1))
        y = tide(t[:, 0]) + 0.5 * rng.normal(size=40)
        long, short = (risk(few(12, max_iter=n).fit(t, y)) for n in (100, 5))
        parts.append(short - long)
    assert np.mean(parts) < 0


# -- E4: the model -------------------------------------------------------------------------------


def test_e4_stretched_coordinates_are_the_energy_of_chapter_3():
    from amtutor.memory.dense import DenseAM

    hour, height = notes()
    joint = torch.cat([0.3**0.5 * hour, 0.7**0.5 * height], 1)
    x, y = column(3.0, 9.0), column(0.5, 4.0)
    state = torch.cat([0.3**0.5 * x, 0.7**0.5 * y], 1)
    memory = DenseAM(joint, beta=10.0)
    torch.testing.assert_close(memory.energy(state), mixed_energy(x, y, hour, height, **RULE))
    held = memory.recall(state, steps=5, clamp=torch.tensor([True, False])).state
    ours = recall(x, y, hour, height, clamp="x", steps=5, **RULE)
    torch.testing.assert_close(held[:, 1:] / 0.7**0.5, ours.y)


@pytest.mark.parametrize("eta", [0.3, 1.0, 1.9])
def test_e4_clamped_or_not_no_step_below_two_climbs(eta):
    hour, height = notes()
    g = torch.Generator().manual_seed(0)
    x, y = (s * torch.rand(200, 1, generator=g, dtype=DOUBLE) for s in (24, 5))
    for held in ("x", "y", None):
        run = recall(x, y, hour, height, clamp=held, steps=25, step_size=eta, record=True, **RULE)
        path = run.trajectory.states
        level = mixed_energy(path[..., :1], path[..., 1:], hour, height, **RULE)
        assert level.diff(dim=0).max() <= 1e-12


# -- E5: counting minima -------------------------------------------------------------------------


def test_e5_beta_sets_the_number_of_valleys_from_one_to_all():
    hour, height = notes()
    counts = []
    for beta in (0.02, 6.0, 2000.0):
        rest = recall(
            hour, height, hour, height, beta=beta, mix=0.3, clamp=None, steps=6000, tol=1e-6
        )
        ends = torch.cat([0.3**0.5 * rest.x, 0.7**0.5 * rest.y], 1)[rest.converged]
        counts.append(len(distinct(ends, tol=2e-3)[0]))
    assert counts[0] == 1 < counts[1] < 40 and counts[2] > 60


def test_e5_two_memories_two_valleys_and_a_continuum_of_answers():
    pair, cross = column(-1.0, 1.0), torch.linspace(-2, 2, 400, dtype=DOUBLE)[:, None]
    ask = {"beta": 1.6, "mix": 0.5, "steps": 4000}
    free = recall(cross, 0 * cross, pair, pair, clamp=None, tol=1e-10, **ask)
    tied = recall(cross, 0 * cross, pair, pair, clamp="x", **ask)
    assert free.converged.all()
    assert len(distinct(torch.cat([free.x, free.y], 1), tol=1e-3)[0]) == 2
    assert (tied.y.diff(dim=0) > 0).all()  # 400 questions, 400 answers


# -- E6: the limits, and tables ------------------------------------------------------------------


def test_e6_the_gap_to_kernel_regression_obeys_its_bound():
    hour, height = notes()
    pull, start = log_weights(height, height, beta=7.0), torch.full_like(hour, 12.0)
    width = float(hour.max() - hour.min())
    average = nadaraya_watson(height, height, hour, beta=7.0)
    for kappa in (1e-5, 1e-4, 1e-3, 1e-2):
        for steps in (1, 3, 30):
            y = clamped_descent(pull, hour, start, kappa=kappa, steps=steps)
            gap = float((y - average).abs().max())
            assert 0 < gap <= width * math.expm1(kappa * width**2 / 2)


def test_e6_at_mix_1_the_printed_recursion_never_moves():
    """MM 5.16: the slope in y has the factor 1 - lambda; only the full step has a limit."""
    hour, height = notes()
    x, y = column(9.0), column(4.2).requires_grad_()
    energy = mixed_energy(x, y, hour, height, beta=10.0, mix=1.0).sum()
    (slope,) = torch.autograd.grad(energy, y)
    assert slope.abs().max() == 0


def test_e6_no_label_of_the_digits_changes():
    X, y = load_digits(return_X_y=True)
    plain = AssociativeMemoryClassifier(beta=4.0).fit(X[:600] / 16, y[:600])
    deep = AssociativeMemoryClassifier(beta=40.0, mix=0.1, steps=40, step_size=0.5)
    deep.fit(X[:600] / 16, y[:600])
    new = X[600:1000] / 16
    assert (plain.predict(new) == deep.predict(new)).all()
    assert deep.predict_proba(new).max(1).mean() > plain.predict_proba(new).max(1).mean() + 0.01


def test_e6_corners_agree_with_the_search_over_all_labels():
    X, y = load_digits(return_X_y=True)
    features, targets = torch.from_numpy(X[:300] / 16), torch.eye(10, dtype=DOUBLE)[y[:300]]
    model = AssociativeMemoryClassifier(beta=8.0, mix=0.5, steps=10).fit(X[:300] / 16, y[:300])
    new = torch.from_numpy(X[300:350] / 16)
    corners = torch.eye(10, dtype=DOUBLE).expand(50, 10, 10)
    energy = mixed_energy(
        new[:, None].expand(50, 10, 64), corners, features, targets, beta=8.0, mix=0.5
    )
    assert (energy.argmin(1).numpy() == model.predict(new.numpy())).all()


def test_e6_real_tables():
    """Good on all of them, and a support vector machine is better on digits."""
    X, y = load_breast_cancer(return_X_y=True)
    few = AssociativeMemoryClassifier(2, alpha=0.03, max_iter=30, random_state=0)
    for model in (AssociativeMemoryClassifier(), few):
        assert cross_val_score(make_pipeline(StandardScaler(), model), X, y, cv=5).mean() > 0.94
    X, y = load_diabetes(return_X_y=True)
    two = make_pipeline(StandardScaler(), AssociativeMemoryRegressor(2, random_state=0))
    assert cross_val_score(two, X, y, cv=5).mean() > 0.45
    X, y = load_digits(return_X_y=True)
    score = [
        cross_val_score(make_pipeline(StandardScaler(), model), X, y, cv=3).mean()
        for model in (AssociativeMemoryClassifier(), SVC(C=10))
    ]
    assert 0.94 < score[0] < score[1]


def test_e6_the_record_of_the_heavier_run_says_what_the_chapter_says():
    tables = json.loads(RECORD.read_text("utf-8"))["tables"]
    assert set(tables) == {"wine", "breast_cancer", "digits", "diabetes"}
    lost = won = 0
    for table in tables.values():
        for name in ("memory, all pairs", "memory, learned"):
            low, high = table[name]["minus_best_interval"]
            assert low <= table[name]["minus_best_baseline"] <= high
            lost, won = lost + (low > 0), won + (high < 0)
    assert won == 0 and lost >= 3
    assert tables["digits"]["best_baseline"] == "SVM"
