"""Laws of counting: every minimum is one, and none is missed where that is promised."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from amtutor.memory.dense import lse_energy, lse_gradient, lsr_energy
from amtutor.memory.minima import (
    Minima,
    find_minima,
    lse_hessian,
    lse_minima,
    lsr_minima_1d,
    minima_1d,
    minimum_reached,
)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ring(k, *, turn=0.0):
    angle = torch.arange(k, dtype=torch.float64) * 2 * math.pi / k + turn
    return torch.stack([angle.cos(), angle.sin()], -1)


def low_points_of_a_grid(energy, low, high, n=801):
    """Count the interior points of a grid in the plane that lie below their eight neighbours."""
    line = torch.linspace(low, high, n, dtype=torch.float64)
    e = energy(torch.cartesian_prod(line, line)).reshape(n, n).numpy()
    inner, count = e[1:-1, 1:-1], np.ones((n - 2, n - 2), dtype=bool)
    for i in (-1, 0, 1):
        for j in (-1, 0, 1):
            if (i, j) != (0, 0):
                count &= inner < e[1 + i : n - 1 + i, 1 + j : n - 1 + j]
    return int(count.sum())


# ------------------------------------------------------------------------------ the Hessian


@pytest.mark.parametrize("dim", [1, 2, 7])
def test_hessian_equals_automatic_differentiation(dim):
    x, memories = draw(3, 5, dim), draw(11, dim, seed=1)
    ours = lse_hessian(x, memories, beta=1.3)
    for i, j in ((0, 0), (2, 4)):
        auto = torch.autograd.functional.hessian(
            lambda v: lse_energy(v, memories, beta=1.3), x[i, j]
        )
        assert_close(ours[i, j], auto, rtol=0, atol=1e-10)


def test_hessian_far_from_the_origin_is_the_same():
    x, memories = draw(4, 2), draw(6, 2, seed=1)
    near, far = (lse_hessian(x + c, memories + c, beta=2.0) for c in (0.0, 1e4))
    assert_close(far, near, rtol=0, atol=1e-6)  # 1e4 squared costs 8 of 16 digits


# ------------------------------------------------------------------------------ any energy


def test_two_memories_meet_the_equation_of_the_pitchfork():
    """MM 4.9 with both points at +-1 and MM's beta = 1: x = tanh(2 x), which is not 1."""
    memories = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    found = lse_minima(memories, beta=2.0)
    x = float(found.positions.max())
    assert found.certain and len(found) == 2
    assert x == pytest.approx(math.tanh(2 * x), abs=1e-12) and x == pytest.approx(0.9575, abs=1e-4)
    assert len(lse_minima(memories, beta=0.99)) == 1  # one bowl below beta = 1


def test_found_minima_are_minima_sorted_and_distinct():
    memories = draw(9, 3)
    energy = lambda x: lse_energy(x, memories, beta=6.0)  # noqa: E731
    found = find_minima(energy, torch.cat([memories, draw(40, 3, seed=2)]))
    assert not found.certain and len(found) > 3
    slope = lse_gradient(found.positions, memories, beta=6.0)
    assert slope.abs().max() < 1e-9
    bend = torch.linalg.eigvalsh(lse_hessian(found.positions, memories, beta=6.0))[:, 0]
    assert_close(found.curvature, bend, rtol=0, atol=1e-8)
    assert (found.curvature > 0).all()
    assert (found.energies.diff() >= 0).all()
    assert_close(found.energies, energy(found.positions), rtol=0, atol=1e-12)
    apart = torch.cdist(found.positions, found.positions) + torch.eye(len(found))
    assert apart.min() > 1e-5
    assert (found.label >= 0).all() and set(found.label.tolist()) == set(range(len(found)))


def test_gradient_and_hessian_by_hand_or_not_find_the_same():
    memories = draw(6, 2)
    energy = lambda x: lse_energy(x, memories, beta=5.0)  # noqa: E731
    by_hand = {
        "gradient": lambda x: lse_gradient(x, memories, beta=5.0),
        "hessian": lambda x: lse_hessian(x, memories, beta=5.0),
    }
    starts = torch.cat([memories, draw(20, 2, seed=5)])
    plain = find_minima(energy, starts)
    for keys in (["gradient"], ["hessian"], ["gradient", "hessian"]):
        other = find_minima(energy, starts, **{k: by_hand[k] for k in keys})
        assert_close(other.positions, plain.positions, rtol=0, atol=1e-8)
        assert torch.equal(other.label, plain.label)


def test_a_saddle_a_ring_and_a_slope_are_no_minima():
    saddle = lambda x: x[:, 0] ** 2 + (x[:, 1] ** 2 - 1) ** 2  # noqa: E731
    starts = torch.tensor([[0.5, 0.0], [0.5, 0.3], [0.5, -0.3]], dtype=torch.float64)
    found = find_minima(saddle, starts, step_size=0.05)
    assert len(found) == 2 and found.label[0] == -1 and found.label[1] != found.label[2]
    circle = lambda x: (x.norm(dim=-1) - 1) ** 2  # noqa: E731
    assert len(find_minima(circle, starts[1:], step_size=0.1)) == 0
    slope = lambda x: x.sum(-1)  # noqa: E731
    none = find_minima(slope, starts, steps=3)
    assert len(none) == 0 and none.label.tolist() == [-1] * 3


def test_basins_are_where_descent_goes_and_a_missed_minimum_is_minus_one():
    memories = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, 3.0]], dtype=torch.float64)
    energy = lambda x: lse_energy(x, memories, beta=9.0)  # noqa: E731
    found = find_minima(energy, memories[:2])
    starts = memories + 0.3 * draw(3, 2)
    label = minimum_reached(energy, starts, found)
    assert label[2] == -1
    assert torch.equal(found.label, label[:2])
    assert_close(found.positions[label[:2]], memories[:2], rtol=0, atol=1e-3)


# ------------------------------------------------------------------------------ certain: LSE


@pytest.mark.parametrize("beta, many", [(1.7, 1), (1.82, 1), (1.84, 4), (1.99, 4), (2.01, 3)])
def test_triangle_has_four_minima_between_two_temperatures(beta, many):
    found = lse_minima(ring(3, turn=0.3), beta=beta)
    assert found.certain and len(found) == many


@pytest.mark.parametrize("k", [4, 5, 8])
def test_equal_points_on_a_circle_keep_one_minimum_each_until_the_centre_holds_all(k):
    """The centre's Hessian is 1 - beta/2: a ring of k minima above beta = 2, one below."""
    assert len(lse_minima(ring(k), beta=1.95)) == 1
    beta = 2.2 if k < 8 else 4.0  # the ring of eight is flat to rounding close above 2
    found = lse_minima(ring(k), beta=beta)
    assert found.certain and len(found) == k
    assert sorted(found.label.tolist()) == list(range(k))
    assert_close(found.energies, found.energies[:1].expand(k), rtol=0, atol=1e-10)


@pytest.mark.parametrize("seed", range(6))
def test_count_equals_a_fine_grid_in_the_plane(seed):
    memories, beta = draw(12, 2, seed=seed), 3.0 + 2 * seed
    found = lse_minima(memories, beta=beta)
    assert found.certain
    grid = low_points_of_a_grid(lambda x: lse_energy(x, memories, beta=beta), -4.0, 4.0)
    assert len(found) == grid


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_many_starts_find_nothing_that_the_proof_missed(dim):
    for seed in range(3):
        memories = draw(10, dim, seed=10 * dim + seed) + 7
        found = lse_minima(memories, beta=5.0)
        energy = lambda x, m=memories: lse_energy(x, m, beta=5.0)  # noqa: E731
        starts = torch.cat([memories, 7 + draw(200, dim, seed=seed)])
        tried = find_minima(energy, starts)
        assert found.certain and len(tried) <= len(found)
        assert torch.cdist(tried.positions, found.positions).min(1).values.max() < 1e-6
        assert torch.equal(found.label, tried.label[:10]) or len(tried) < len(found)


def test_certain_says_no_at_a_bifurcation_and_yes_without_memories_apart():
    at_the_fork = lse_minima(torch.tensor([[-1.0], [1.0]]), beta=1.0)
    assert not at_the_fork.certain
    assert not lse_minima(ring(5), beta=30.0, most=4).certain
    alone = lse_minima(torch.ones(4, 2), beta=3.0)
    assert alone.certain and len(alone) == 1 and alone.label.tolist() == [0] * 4
    assert_close(alone.positions, torch.ones(1, 2, dtype=torch.float64))


def test_moved_turned_and_scaled_memories_have_the_same_minima():
    memories = draw(9, 2)
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
    plain = lse_minima(memories, beta=4.0)
    moved = lse_minima(10 * memories @ turn + 50, beta=0.04)
    assert len(plain) == len(moved) and plain.certain and moved.certain
    assert_close(10 * plain.positions @ turn + 50, moved.positions, rtol=0, atol=1e-6)


def test_four_dimensions_have_no_proof():
    with pytest.raises(ValueError, match="memories: got 4 dimensions, expected at most 3"):
        lse_minima(draw(3, 4), beta=1.0)


# ------------------------------------------------------------------------------ certain: 1-D


def test_wells_of_a_cosine():
    """E = 1 - cos x on (-10, 10): minima at multiples of 2 pi, of curvature 1."""
    found = minima_1d(lambda x: (1 - x.cos()).sum(-1), -10, 10, curvature=1, jerk=1)
    assert found.certain
    where = 2 * math.pi * torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    assert_close(found.positions[:, 0].sort().values, where, rtol=0, atol=1e-12)
    assert_close(found.curvature, torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-10)


def test_a_double_zero_and_a_missing_bound_are_not_certain():
    quartic = lambda x: x.pow(4).sum(-1)  # noqa: E731
    found = minima_1d(quartic, -1.1, 1, curvature=15, jerk=27)
    assert len(found) == 1 and not found.certain
    inflection = minima_1d(lambda x: x.pow(3).sum(-1), -1.1, 1, curvature=8, jerk=6)
    assert len(inflection) == 0 and not inflection.certain
    parabola = minima_1d(lambda x: x.square().sum(-1), -1.1, 1, curvature=2)
    assert len(parabola) == 1 and not parabola.certain
    slope = minima_1d(lambda x: x.sum(-1), 0, 1, curvature=0)
    assert len(slope) == 0 and slope.certain


def test_a_minimum_on_a_cut_counts_once():
    """0 is the first cut of (-1, 1), and E' is exactly zero there."""
    found = minima_1d(lambda x: x.cosh().sum(-1), -1, 1, curvature=1.6, jerk=0.9)
    assert len(found) == 1
    twice = minima_1d(lambda x: (x**2 - 0.25).square().sum(-1), -1, 1, curvature=11.5, jerk=24)
    assert twice.certain and len(twice) == 2
    assert_close(twice.positions[:, 0].abs(), torch.full((2,), 0.5).double(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("beta", [0.5, 3.0, 40.0, 900.0])
def test_two_ways_to_count_agree_on_a_line(beta):
    memories = draw(14, 1)
    width = float(memories.max() - memories.min())
    # |E''| <= max(1, beta w^2/4), |E'''| <= beta^2 w^3/4: moments of weights on a width w
    found = minima_1d(
        lambda x: lse_energy(x, memories, beta=beta),
        float(memories.min()) - 1,
        float(memories.max()) + 1,
        curvature=max(1.0, beta * width**2 / 4),
        jerk=beta**2 * width**3 / 4,
        most=2_000_000,
    )
    other = lse_minima(memories, beta=beta)
    assert other.certain and len(found) == len(other) <= 14
    ours, theirs = (f.positions.sort(0).values for f in (found, other))
    assert_close(ours, theirs, rtol=0, atol=1e-7)


@pytest.mark.parametrize("beta", [0.05, 0.7, 8.0, 300.0])
def test_lsr_minima_are_the_low_points_of_a_fine_line(beta):
    memories = draw(9, 1, seed=4)
    found = lsr_minima_1d(memories, beta=beta)
    assert found.certain
    line = torch.linspace(-6, 6, 400_001, dtype=torch.float64)
    e = lsr_energy(line[:, None], memories, beta=beta)
    low = ((e[1:-1] < e[:-2]) & (e[1:-1] < e[2:])).nonzero()[:, 0] + 1
    assert len(found) == len(low)
    gap = line[1] - line[0]
    assert_close(found.positions[:, 0].sort().values, line[low], rtol=0, atol=float(gap))
    at = lsr_energy(found.positions, memories, beta=beta)
    assert_close(found.energies, at, rtol=0, atol=1e-9)
    count = ((found.positions - memories.T).square() < 2 / beta).sum(1)
    depth = (1 - 0.5 * beta * (found.positions - memories.T).square()).relu().sum(1)
    assert_close(found.curvature, count / depth, rtol=1e-9, atol=0)


def test_lsr_has_more_minima_than_memories_where_supports_overlap():
    found = lsr_minima_1d(torch.tensor([[0.0], [1.0], [50.0]]), beta=2.2)
    assert len(found) == 4 and found.label[0] != found.label[1]
    assert_close(found.positions[found.label[2]], torch.tensor([50.0]).double())
    same = lsr_minima_1d(torch.zeros(5, 1), beta=1.0)
    assert len(same) == 1 and same.label.tolist() == [0] * 5
    exact = lsr_minima_1d(torch.tensor([[0.0], [1.0]]), beta=2.0)  # a support ends on a memory
    assert not exact.certain


def test_length_is_the_number_of_minima():
    assert len(Minima(torch.zeros(3, 2), *[torch.zeros(3)] * 2, torch.zeros(0), True)) == 3


def test_an_energy_that_is_not_finite_is_said_so():
    with pytest.raises(ValueError, match="energy: its slope is not finite"):
        minima_1d(lambda x: x.log().sum(-1), -1, 1, curvature=1.0)
