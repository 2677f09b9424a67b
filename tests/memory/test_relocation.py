"""Relocation: the way and the way back, the masked loss, cells against basins, and baselines."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amtutor.memory import relocation as rel
from amtutor.memory.dense import DenseAM, nearest

DOUBLE = torch.float64


def problem(n=3, k=5, d=7, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(s, generator=g, dtype=DOUBLE) for s in ((n, d), (k, d))]


def plain_walk(x, memories, beta, steps, eta, free=1.0):
    """The formula of the module, with distances and nothing clever."""
    v = x
    for _ in range(steps):
        apart = (v[:, None] - memories).square().sum(-1)
        v = v + eta * free * (torch.softmax(-beta / 2 * apart, -1) @ memories - v)
    return v


WALKS = [(1.7, 1, 1.0), (0.4, 6, 1.0), (0.4, 6, 0.3), (1.0, 5, 1.6)]  # beta, steps, step_size


# ---------------------------------------------------------------------------- the way, and back


@pytest.mark.parametrize(("beta", "steps", "eta"), WALKS)
def test_relocation_is_the_formula(beta, steps, eta):
    x, memories = problem()
    found = rel.relocate(x, memories, beta=beta, steps=steps, step_size=eta)
    torch.testing.assert_close(found, plain_walk(x, memories, beta, steps, eta))
    with_slopes = rel.relocate(x, memories.requires_grad_(), beta=beta, steps=steps, step_size=eta)
    torch.testing.assert_close(with_slopes.detach(), found)


def test_relocation_is_recall():
    x, memories = problem(n=6)
    recalled = DenseAM(memories, beta=0.8).recall(x, steps=4, step_size=0.5).state
    found = rel.relocate(x, memories, beta=0.8, steps=4, step_size=0.5)
    torch.testing.assert_close(found, recalled)


@pytest.mark.parametrize(("beta", "steps", "eta"), WALKS)
def test_slopes_are_automatic_differentiation(beta, steps, eta):
    x, memories = (t.requires_grad_() for t in problem())
    pull = torch.randn(3, 7, generator=torch.Generator().manual_seed(5), dtype=DOUBLE)
    plain = (plain_walk(x, memories, beta, steps, eta) * pull).sum()
    closed = (rel.relocate(x, memories, beta=beta, steps=steps, step_size=eta) * pull).sum()
    for a, b in zip(
        torch.autograd.grad(closed, (x, memories)),
        torch.autograd.grad(plain, (x, memories)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("beta", "steps", "eta"), WALKS)
def test_gradient_of_the_loss(beta, steps, eta):
    x, memories = problem()
    walk = {"beta": beta, "steps": steps, "step_size": eta}
    loss, slope = rel.relocation_gradient(x + 50, memories + 50, **walk)
    memories.requires_grad_()
    plain = (x - plain_walk(x, memories, beta, steps, eta)).square().sum()
    torch.testing.assert_close(loss, plain.detach(), rtol=1e-9, atol=0)
    wanted = torch.autograd.grad(plain, memories)[0]
    torch.testing.assert_close(slope, wanted, rtol=1e-8, atol=1e-10)
    moved = rel.relocation_loss(x, memories.detach(), **walk).sum()
    torch.testing.assert_close(moved, plain.detach())


@pytest.mark.parametrize(("beta", "steps", "eta"), WALKS)
def test_gradient_of_the_masked_loss(beta, steps, eta):
    x, memories = problem()
    free = (torch.rand(3, 7, generator=torch.Generator().manual_seed(1)) < 0.4).double()
    loss, slope = rel.masked_loss_and_slope(x, memories, beta, steps, eta, free)
    memories.requires_grad_()
    end = plain_walk(x * (1 - free), memories, beta, steps, eta, free)
    plain = (free * (x - end)).square().sum()
    torch.testing.assert_close(loss, plain.detach())
    wanted = torch.autograd.grad(plain, memories)[0]
    torch.testing.assert_close(slope, wanted, rtol=1e-9, atol=1e-11)


def test_batch_equals_loop_and_order_does_not_count():
    x, memories = problem(n=6)
    together = rel.relocate(x.reshape(2, 3, 7), memories, beta=0.7)
    turned = rel.relocate(x, memories.flip(0), beta=0.7)
    for i in range(6):
        alone = rel.relocate(x[i], memories, beta=0.7)
        torch.testing.assert_close(together.reshape(6, 7)[i], alone)
        torch.testing.assert_close(turned[i], alone)


def test_far_from_the_origin_in_float32():
    x, memories = (t.float() for t in problem(n=20))
    near = rel.relocate(x, memories, beta=1.0, steps=3)
    far = rel.relocate(x + 1e4, memories + 1e4, beta=1.0, steps=3) - 1e4
    # 1e4 is kept to 2**-10 by float32; three steps may pass that on a few times over
    assert (near - far).abs().max() < 32 * 2**-10


@settings(max_examples=25, deadline=None)
@given(st.floats(0.05, 1.95), st.floats(0.05, 20.0), st.integers(1, 12), st.integers(0, 10**6))
def test_a_share_of_the_point_stays(eta, beta, steps, seed):
    """v_T - (1 - eta)^T x lies in the span of the memories: with one, it is known exactly."""
    x, memories = problem(k=1, seed=seed)
    found = rel.relocate(x, memories, beta=beta, steps=steps, step_size=eta)
    share = (1 - eta) ** steps
    torch.testing.assert_close(found, share * x + (1 - share) * memories, rtol=1e-9, atol=1e-9)


# ---------------------------------------------------------------------------- masks


def test_masked_loss_is_the_complement_and_the_printed_one_is_zero():
    """MM 5.23 as printed scores what was held: zero, whatever the memories."""
    x, memories = problem(n=8)
    hidden = torch.rand(8, 7, generator=torch.Generator().manual_seed(2)) < 0.5
    centre = memories.mean(0)
    end = plain_walk((x - centre) * ~hidden, memories - centre, 0.7, 10, 1.0, hidden.double())
    rest = (x - centre - end).square()
    found = rel.masked_loss(x, memories, hidden, beta=0.7)
    torch.testing.assert_close(found, (rest * hidden).sum(-1))
    assert (rest * ~hidden).sum() == 0 and (found[hidden.any(-1)] > 0).all()


def test_masked_loss_of_a_batch_is_that_of_its_points():
    x, memories = problem(n=6)
    hidden = torch.rand(6, 7, generator=torch.Generator().manual_seed(3)) < 0.5
    together = rel.masked_loss(x.reshape(2, 3, 7), memories, hidden.reshape(2, 3, 7), beta=0.7)
    for i in range(6):
        alone = rel.masked_loss(x[i], memories, hidden[i], beta=0.7)
        torch.testing.assert_close(together.reshape(6)[i], alone)


def test_nothing_hidden_costs_nothing():
    x, memories = problem()
    assert not rel.masked_loss(x, memories, torch.tensor(False), beta=1.0).any()


# ---------------------------------------------------------------------------- cells and basins


def test_basins_become_cells():
    x, memories = problem(n=4000, k=4, d=2)
    grow = [rel.voronoi_agreement(x, memories, beta=b) for b in (0.001, 3.0, 1000.0)]
    assert grow[0] < 0.6 and grow[0] < grow[1] < grow[2] and grow[2] > 0.99


def test_two_memories_share_the_plane_fairly_where_they_have_two_valleys():
    """By symmetry the ridge is the bisector, at every beta above 1 / a^2 (chapter 3)."""
    x, _ = problem(n=300, d=2)
    pair = torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=DOUBLE)
    x = x[x[:, 0].abs() > 1e-3]
    for beta in (1.5, 4.0, 100.0):
        assert rel.voronoi_agreement(x, pair, beta=beta, steps=200) == 1.0


def test_one_valley_has_one_answer():
    x, memories = problem(n=50, k=4, d=2)
    assert len(rel.basins(x, memories, beta=1e-3).unique()) == 1
    assert (rel.basins(x, memories, beta=1e4) == nearest(x, memories)).double().mean() > 0.95


# ---------------------------------------------------------------------------- what others minimise


def test_kmeans_objective_by_hand():
    x, centres = problem(n=9)
    wanted = sum(min(float((p - c).square().sum()) for c in centres) for p in x)
    assert float(rel.kmeans_objective(x, centres)) == pytest.approx(wanted, rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.floats(1e-3, 50.0), st.floats(1.0, 4.0), st.integers(0, 10**6))
def test_soft_objective_is_above_and_falls_with_gamma(gamma, factor, seed):
    """MM 5.20 bounds 5.19, and its slope in gamma is minus a variance."""
    x, centres = problem(n=6, seed=seed)
    hard = float(rel.kmeans_objective(x, centres))
    soft = float(rel.soft_kmeans_objective(x, centres, gamma=gamma))
    softer = float(rel.soft_kmeans_objective(x, centres, gamma=gamma / factor))
    assert hard <= soft * (1 + 1e-12) <= softer * (1 + 1e-11)


def test_soft_kmeans_goes_down_to_a_place_without_slope():
    x, start = problem(n=60, k=4, d=2)
    x = x + 30
    end = rel.soft_kmeans(x, start + 30, gamma=0.8, steps=500)
    before, after = (rel.soft_kmeans_objective(x, c, gamma=0.8) for c in (start + 30, end))
    assert after < before
    end.requires_grad_()
    slope = torch.autograd.grad(rel.soft_kmeans_objective(x, end, gamma=0.8), end)[0]
    start = (start + 30).requires_grad_()
    first = torch.autograd.grad(rel.soft_kmeans_objective(x, start, gamma=0.8), start)[0]
    assert slope.abs().max() < 1e-3 * first.abs().max()


def test_matched_accuracy_tries_every_naming():
    rng = np.random.default_rng(0)
    true, found = rng.integers(0, 4, 40), rng.integers(0, 4, 40)
    by_force = max(
        np.mean(np.array(order)[found] == true) for order in itertools.permutations(range(4))
    )
    assert rel.matched_accuracy(true, found) == pytest.approx(by_force)
    assert rel.matched_accuracy([3, 3, 8], torch.tensor([1, 1, 0])) == 1.0
    assert rel.matched_accuracy([0, 0, 1, 1], [0, 1, 2, 3]) == 0.5


# ---------------------------------------------------------------------------- numbers that change


def test_schedule_goes_by_equal_factors():
    way = rel.Schedule(2.0, 32.0)
    assert [way.at(s) for s in (0, 0.25, 0.5, 1)] == pytest.approx([2, 4, 8, 32])
    assert rel.Schedule.of("beta", 3) == rel.Schedule(3.0, 3.0)
    assert rel.Schedule.of("beta", (1, 2)) == rel.Schedule(1.0, 2.0)


@pytest.mark.parametrize("value", ["x", None, 0, -1, (1,), (1, 2, 3), (1, 0), float("nan"), True])
def test_schedules_that_mean_nothing(value):
    with pytest.raises(ValueError, match=r"beta = .*: expected a number > 0 or a pair"):
        rel.Schedule.of("beta", value)
    with pytest.raises(ValueError, match=r"eta = 2: expected a number in \(0, 2\)"):
        rel.Schedule.of("eta", 2, most=2)


def test_spread_of_constants_is_one():
    centre, scale = rel.spread_of(np.full((4, 2), 7.0))
    assert scale == 1.0 and (centre == 7).all()
    x = np.random.default_rng(0).normal(size=(50, 3)) * 1e90
    assert rel.spread_of(x)[1] == pytest.approx(np.sqrt(((x - x.mean(0)) ** 2).mean()), rel=1e-12)
    with pytest.raises(ValueError, match="X: entries lie .* from their mean, expected 1e-100"):
        rel.spread_of(1e200 * x)
