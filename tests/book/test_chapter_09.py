"""What chapter 9 claims (ledger F7 to F10), held apart from the chapter's own run."""

from __future__ import annotations

import math

import pytest
import torch

from amtutor.generative import diffusion, phases, score_networks
from amtutor.memory.dense import lse_energy, lse_gradient
from amtutor.memory.minima import lse_minima

DOUBLE = torch.float64
NOISE = diffusion.VarianceExploding(1.0)
REACH = math.sqrt(8 * (1 + math.log(2)))  # two points closer than this many widths are joined


def scattered(k, seed):
    turn = 2 * math.pi * torch.rand(k, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)
    return torch.stack([turn.cos(), turn.sin()], -1)


def walk(name, n=2000):
    """States of a shipped network's samples, from the prior, with their widths of noise."""
    net = score_networks.load(name)
    start = NOISE.prior(n, 2, t=9.0, generator=torch.Generator().manual_seed(11))
    times = NOISE.times(9.0, 0.001, steps=60)
    path = diffusion.probability_flow(net, start, process=NOISE, times=times, record=True)
    return (
        net,
        score_networks.stored_points(name),
        list(zip(times.tolist(), path.states, strict=True))[::6],
    )


# ------------------------------------------------------------------------------ F7


@pytest.mark.parametrize("k", [2, 9])
def test_f7_networks_of_two_and_nine_points_are_the_memory(k):
    """Under 10 % where noisy data lie, at every width of noise and on the whole."""
    net, points = score_networks.load(f"circle_{k}"), score_networks.stored_points(f"circle_{k}")
    g = torch.Generator().manual_seed(1)
    for t in NOISE.times(9.0, 0.001, steps=10).tolist():
        rows = torch.randint(k, (2000,), generator=g)
        x, _ = NOISE.perturb(points[rows], t=t, generator=g)
        exact = diffusion.empirical_score(x, points, process=NOISE, t=t)
        assert (net(x, t) - exact).norm() < 0.1 * exact.norm()
    assert len(points) == k


def test_f7_a_thousand_points_become_the_circle():
    _, points, seen = walk("circle_1000")
    assert len(points) == 1000 and seen[0][1].norm(dim=1).mean() > 3  # it began far out
    assert (seen[-1][1].norm(dim=1) - 1).abs().mean() < 0.05
    angle = torch.atan2(seen[-1][1][:, 1], seen[-1][1][:, 0])
    assert torch.histc(angle, 8, -math.pi, math.pi).min() > 75  # all round


def test_f7_the_ring_lies_inside_and_needs_beta_above_two():
    radius = torch.linspace(0, 1.5, 30001, dtype=DOUBLE)
    for beta in (5.0, 10.0, 100.0, 1e4):
        lowest = float(radius[diffusion.circle_energy(radius, beta=beta).argmin()])
        assert abs(lowest - (1 - 1 / (2 * beta))) < 1 / beta**2 + 1e-4
    assert diffusion.circle_energy(radius, beta=1.99).argmin() == 0
    assert diffusion.circle_energy(radius, beta=2.01).argmin() > 0


# ------------------------------------------------------------------------------ F8


def valley(points, sigma, n=720):
    path = phases.valley_around(
        lambda x: -lse_gradient(x, points, beta=sigma**-2), n=n, dtype=DOUBLE
    )
    return path, lse_energy(path, points, beta=sigma**-2) / sigma**2


@pytest.mark.parametrize("k, sigma", [(16, 0.1), (12, 0.2)])
def test_f8_walls_between_even_points_follow_the_bessel_ratio(k, sigma):
    turn = 2 * math.pi * torch.arange(k, dtype=DOUBLE) / k
    path, height = valley(torch.stack([turn.cos(), turn.sin()], -1), sigma, n=40 * k)
    wells = phases.ring_wells(height)
    z = float(path.norm(dim=1).mean()) / sigma**2
    wave = torch.linspace(0, math.pi, 20001, dtype=DOUBLE)
    i0, ik = (
        torch.trapezoid((z * (wave.cos() - 1)).exp() * (m * wave).cos(), wave) for m in (0, k)
    )
    q = float(ik / i0)
    assert len(wells) == k
    assert wells.wall.tolist() == pytest.approx([math.log((1 + 2 * q) / (1 - 2 * q))] * k, 0.05)
    assert q == pytest.approx(math.exp(-0.5 * (k * sigma) ** 2), rel=0.25)


def test_f8_random_points_have_valleys_that_stop():
    found = [lse_minima(scattered(200, seed), beta=100.0) for seed in range(6)]
    assert all(f.certain for f in found)
    mean = sum(len(f) for f in found) / 6
    assert mean == pytest.approx(math.sqrt(1.5) / 0.1, rel=0.15)
    few = [len(lse_minima(scattered(4, seed), beta=100.0)) for seed in range(6)]
    assert max(few) <= 4


@pytest.mark.parametrize("k, sigma", [(20, 0.02), (10, 0.06), (40, 0.03)])
def test_f8_exact_shares_follow_the_formula(k, sigma):
    shares = []
    for seed in range(60):
        points = scattered(k, seed)
        height = valley(points, sigma)[1]
        kinds = phases.classify_on_ring(points, points, height, noise=sigma)
        shares.append(float((kinds == phases.MEMORISED).double().mean()))
    spread = torch.tensor(shares).std() / math.sqrt(60)
    formula = (1 - REACH * sigma / math.pi) ** (k - 1)
    assert abs(sum(shares) / 60 - formula) < 3 * float(spread) + 0.03


def test_f8_the_networks_border_leaves_the_diagonal():
    table = phases.table("circle_phases")
    assert len(table["counts"]) >= 12 and table["learned"].shape[1] == 5
    counts = table["counts"].tolist()
    for name in ("learned", "exact"):
        torch.testing.assert_close(table[name].sum(-1), torch.ones(table[name].shape[:-1]),
                                   rtol=0, atol=1e-3)  # fmt: skip
    mean = {name: table[name].mean(1) for name in ("learned", "exact")}
    at = counts.index(21)
    assert mean["exact"][at, 0, 0] > 0.5 and mean["learned"][at, 0, 0] < 0.1
    wide = table["noise"] > 0.2
    assert (mean["learned"] - mean["exact"])[:, wide].abs().mean() < 0.06


# ------------------------------------------------------------------------------ F9, F10


def test_f9_digits_pass_through_three_phases():
    table = phases.table("digit_phases")
    share = torch.stack([phases.fractions(x.long())[:, 0] for x in table["labels"]])
    counts = table["counts"].tolist()
    assert counts == sorted(counts) and table["labels"].shape[1:] == (2, 300)
    assert share[0, 0] > 0.8 and share[:, 1].max() > 0.1 and share[-1, 2] > 0.9
    assert table["between"][-1] < 0.5 * table["between"][0]
    # the labels say what the pictures show: draws that are copies look like their nearest digit
    gap = (table["A"].float() - table["A_nearest"].float()).flatten(2).norm(dim=2) / 255
    copies = table["labels"][:, 0, : gap.shape[1]] == phases.MEMORISED
    scale = float(table["scale"])
    assert copies.any() and (gap[copies] < scale + 0.1).all() and (gap[~copies] > scale - 0.1).all()


def test_f10_larger_networks_keep_more_apart():
    table = phases.table("circle_phases")
    kept = table["kept"][..., 0].double().mean((1, 2))
    assert table["numbers"].diff().min() > 0
    assert kept.diff().min() > -0.02 and kept[-1] > kept[0] + 0.05
