"""Three names, two definitions: what moves them, what must not; the laws of walls and floors."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from amtutor.descent import descend
from amtutor.generative.phases import (
    GENERALISED,
    MEMORISED,
    SPURIOUS,
    classify,
    classify_on_ring,
    fractions,
    heights_along,
    join_wells,
    pooled,
    ring_wells,
    valley_around,
)
from amtutor.memory.capacity import wilson_interval
from amtutor.memory.dense import lse_energy, lse_gradient
from amtutor.memory.minima import lse_minima


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def on_circle(degrees):
    angle = torch.deg2rad(torch.as_tensor(degrees, dtype=torch.float64))
    return torch.stack([angle.cos(), angle.sin()], -1)


def valley_of(data, s):
    beta = s**-2
    path = valley_around(lambda x: -lse_gradient(x, data, beta=beta), dtype=torch.float64)
    return path, beta * lse_energy(path, data, beta=beta)


# ------------------------------------------------------------------------------ by distance


def by_definition(samples, data, memorised, repeated, crowd):
    out = []
    for i, x in enumerate(samples):
        others = torch.cat([samples[:i], samples[i + 1 :]])
        if (x - data).norm(dim=1).min() <= memorised:
            out.append(MEMORISED)
        else:
            near = int(((x - others).norm(dim=1) <= repeated).sum())
            out.append(SPURIOUS if near >= crowd else GENERALISED)
    return out


@pytest.mark.parametrize("crowd", [1, 3])
def test_classify_is_its_definition(crowd):
    samples, data = draw(80, 2), draw(30, 2, seed=1)
    found = classify(samples, data, memorised_within=0.2, repeated_within=0.25, crowd=crowd)
    assert found.label.tolist() == by_definition(samples, data, 0.2, 0.25, crowd)
    assert set(found.label.tolist()) == {0, 1, 2}
    assert_close(found.distance, torch.cdist(samples, data).min(1).values)


def test_the_edge_counts_and_a_copy_is_at_distance_zero():
    data = torch.tensor([[1e4, 0.0]])
    found = classify(data + 0.0, data, memorised_within=1e-6, repeated_within=1.0)
    assert found.distance.tolist() == [0.0] and found.others.tolist() == [0]
    at = classify(torch.tensor([[0.5], [2.0], [2.5]]), torch.tensor([[0.0]]),
                  memorised_within=0.5, repeated_within=0.5)  # fmt: skip
    assert at.label.tolist() == [MEMORISED, SPURIOUS, SPURIOUS]


def test_copies_in_the_data_are_one_source():
    data = torch.tensor([[5.0, 5.0], [1.0, 0.0], [1.0, 0.0], [1.001, 0.0]])
    samples = torch.tensor([[1.0, 0.01], [1.001, 0.01]])
    equal = classify(samples, data, memorised_within=0.1, repeated_within=0.1)
    assert equal.source.tolist() == [1, 3]
    alike = classify(samples, data, memorised_within=0.1, repeated_within=0.1, same_within=0.01)
    assert alike.source.tolist() == [1, 1]


def test_on_a_curve_more_samples_of_one_model_turn_generalised_into_spurious():
    """The weakness that the module's text names: a length alone cannot tell."""
    data, share = on_circle([0.0]), []
    for n in (20, 2000):
        angle = 30 + 300 * torch.rand(n, generator=torch.Generator().manual_seed(0))
        found = classify(on_circle(angle), data, memorised_within=0.01, repeated_within=0.01)
        share.append(float((found.label == SPURIOUS).double().mean()))
    assert share[0] < 0.3 and share[1] > 0.9


# ------------------------------------------------------------------------------ wells


def test_wells_of_a_wave():
    place = torch.arange(360, dtype=torch.float64) * math.pi / 180
    wells = ring_wells(3 * (1 - (4 * place).cos()) + 0.1 * place.sin())
    assert len(wells) == 4
    assert all(min(abs(b - c) for c in (0, 90, 180, 270, 360)) <= 1 for b in wells.bottom.tolist())
    assert (wells.wall - 6).abs().max() < 0.25
    assert torch.bincount(wells.well).tolist() == pytest.approx([90] * 4, abs=3)


@pytest.mark.parametrize("turn", [0, 1, 5, 11])
def test_where_the_circle_is_cut_does_not_matter(turn):
    height = draw(40)
    plain, moved = ring_wells(height), ring_wells(height.roll(turn))
    assert sorted(plain.wall.tolist()) == sorted(moved.wall.tolist())
    assert sorted((plain.bottom + turn).remainder(40).tolist()) == sorted(moved.bottom.tolist())
    same = plain.well[:, None] == plain.well
    again = moved.well.roll(-turn)
    assert torch.equal(same, again[:, None] == again)


def test_every_place_drains_to_the_bottom_below_it():
    height = draw(60, seed=3)
    wells = ring_wells(height)
    for start in range(60):
        i, seen = start, set()
        while i not in seen:  # walk down, step by step
            seen.add(i)
            i = min((i - 1) % 60, i, (i + 1) % 60, key=lambda j: float(height[j]))
        top = {int(wells.well[start])}
        if height[start] > max(height[start - 1], height[(start + 1) % 60]):
            top = {int(wells.well[start - 1]), int(wells.well[(start + 1) % 60])}
        assert wells.bottom.tolist().index(i) in top


def test_a_wall_is_as_high_as_its_lower_side():
    wells = ring_wells(torch.tensor([0.0, 2.0, 1.0, 3.0]))
    assert wells.bottom.tolist() == [0, 2] and wells.wall.tolist() == [2.0, 1.0]
    alone = ring_wells(torch.tensor([0.5, 2.0, 3.0]))
    assert alone.bottom.tolist() == [0] and alone.wall.tolist() == [2.5]


def test_flat_floors_and_flat_circles():
    wells = ring_wells(torch.tensor([0.0, 0.0, 2.0, 1.0, 1.0, 1.0, 2.0]))
    assert wells.bottom.tolist() == [0, 3] and wells.wall.tolist() == [2.0, 1.0]
    wraps = ring_wells(torch.tensor([0.0, 1.0, 2.0, 0.0]))
    assert wraps.bottom.tolist() == [3] and wraps.wall.tolist() == [2.0]
    flat = ring_wells(torch.ones(5))
    assert len(flat) == 0 and flat.well.tolist() == [-1] * 5
    data, samples = on_circle([0.0]), on_circle([10.0])
    assert classify_on_ring(samples, data, torch.ones(5), noise=0.1).tolist() == [GENERALISED]


def test_joined_wells_keep_high_walls_and_all_places():
    height = 2 * draw(200, seed=4)
    wells = ring_wells(height)
    for barrier in (0.5, 1.0, 3.0):
        joined = join_wells(wells, height, barrier=barrier)
        assert (joined.wall >= barrier).all() and 1 < len(joined) < len(wells)
        for i, bottom in enumerate(joined.bottom.tolist()):
            assert int(joined.well[bottom]) == i
            assert float(height[joined.well == i].min()) == float(height[bottom])
        # whoever was together stays together
        for i in range(len(wells)):
            assert len(joined.well[wells.well == i].unique()) == 1
    assert len(join_wells(wells, height, barrier=1e9)) == 1


# ------------------------------------------------------------------------------ by wells


def test_one_two_merged_and_many_points():
    """s = 0.1: alone; a pair at 3 s, one well; twelve at 3 s, a stretch of line."""
    data = on_circle([0, 90, 90 + 17.2, *[180 + 8.6 * i for i in range(12)]])
    _, height = valley_of(data, 0.1)
    samples = on_circle([3, 92, 98, 105, 185, 230, 270])
    label = classify_on_ring(samples, data, height, noise=0.1)
    assert label.tolist() == [MEMORISED] + [SPURIOUS] * 3 + [GENERALISED] * 3


def test_copies_and_turning_change_nothing():
    data, s = on_circle([0, 20, 90, 100, 230]), 0.15
    samples = on_circle(torch.linspace(1, 359, 77))
    plain = classify_on_ring(samples, data, valley_of(data, s)[1], noise=s)
    doubled = torch.cat([data, data])
    twice = classify_on_ring(samples, doubled, valley_of(doubled, s)[1], noise=s)
    assert torch.equal(plain, twice) and len(plain.unique()) > 1
    quarter = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    turned = classify_on_ring(
        samples @ quarter, data @ quarter, valley_of(data @ quarter, s)[1], noise=s
    )
    assert torch.equal(plain, turned)


def test_pairs_part_where_the_formula_says():
    """A wall of d^2/8s^2 - log 2 = 1 between two points: d = 3.68 s."""
    s = 0.05
    reach = math.sqrt(8 * (1 + math.log(2)))
    for factor, what in ((0.97, SPURIOUS), (1.03, MEMORISED)):
        data = on_circle([0, math.degrees(factor * reach * s)])
        label = classify_on_ring(on_circle([0.5]), data, valley_of(data, s)[1], noise=s)
        assert label.tolist() == [what]


def test_the_valley_has_the_wells_of_the_plane():
    data = on_circle(360 * torch.rand(14, generator=torch.Generator().manual_seed(3)))
    s = 0.15
    path, height = valley_of(data, s)
    wells, plane = ring_wells(height), lse_minima(data, beta=s**-2)
    assert plane.certain and len(plane) == len(wells)
    far = torch.cdist(path[wells.bottom], plane.positions).min(1).values
    assert far.max() < 0.02
    x = data.repeat(20, 1) + s * draw(280, 2)
    down = descend(
        lambda x: lse_energy(x, data, beta=s**-2), x, steps=2000, step_size=0.5, tol=1e-7
    ).state
    place = (torch.atan2(x[:, 1], x[:, 0]) / (2 * math.pi) * 720).round().long() % 720
    near = torch.cdist(down, path[wells.bottom]).argmin(1)
    assert (near == wells.well[place]).double().mean() > 0.95


def test_heights_read_off_a_score_are_those_of_the_energy():
    data, s = on_circle([0, 40, 90, 130, 200, 270]), 0.3
    path, height = valley_of(data, s)
    read, gap = heights_along(lambda x: -lse_gradient(x, data, beta=s**-2) / s**2, path)
    assert abs(gap) < 1e-3  # a slope comes back
    assert (read - (height - height.min())).abs().max() < 2e-3
    swirl = lambda x: torch.stack([-x[:, 1], x[:, 0]], -1)  # noqa: E731
    _, gap = heights_along(swirl, on_circle(torch.arange(360)))
    assert gap == pytest.approx(-2 * math.pi, rel=1e-3)


def test_the_valley_is_low_where_no_ring_is_left():
    bowl = valley_around(lambda x: -x, n=5, low=0.1)
    assert_close(bowl.norm(dim=1), torch.full((5,), 0.1))


# ------------------------------------------------------------------------------ shares


def test_shares_add_up_and_intervals_hold_them():
    label = torch.tensor([0] * 10 + [1] * 30 + [2] * 60)
    table = fractions(label)
    assert_close(table[:, 0], torch.tensor([0.1, 0.3, 0.6]))
    for row, hits in zip(table, (10, 30, 60), strict=True):
        assert row[1:].tolist() == pytest.approx(wilson_interval(hits, 100))


def test_models_that_differ_widen_the_interval():
    alike = torch.tensor([[0] * 50 + [2] * 50] * 4)
    apart = torch.tensor([[0] * 100, [0] * 100, [2] * 100, [2] * 100])
    narrow, wide = fractions(alike)[0], fractions(apart)[0]
    assert narrow[0] == wide[0] == 0.5
    assert narrow[1:].tolist() == pytest.approx(wilson_interval(200, 400))
    assert wide[1:].tolist() == pytest.approx(wilson_interval(2, 4))  # never below the models


def test_shares_of_models_are_the_shares_of_their_samples():
    label = torch.randint(3, (5, 40), generator=torch.Generator().manual_seed(0))
    each = torch.stack([(label == phase).double().mean(1) for phase in range(3)], -1)
    assert torch.equal(pooled(each, samples=40), fractions(label))
    with pytest.raises(ValueError, match="shares"):
        pooled(2 * each + 1, samples=40)
