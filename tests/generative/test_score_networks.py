"""Learned scores: what they are before training, what the loss asks, and energies behind slopes."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from amtutor import _weights
from amtutor.generative.diffusion import (
    OrnsteinUhlenbeck,
    VarianceExploding,
    empirical_score,
    probability_flow,
)
from amtutor.generative.fields import asymmetry, line_energy
from amtutor.generative.score_networks import (
    EnergyNetwork,
    ScoreNetwork,
    build,
    denoising_loss,
    load,
    stored_points,
)

PROCESSES = [VarianceExploding(1.3), OrnsteinUhlenbeck(0.8, 1.4)]
each = pytest.mark.parametrize("process", PROCESSES, ids=["exploding", "forgetting"])
kinds = pytest.mark.parametrize("kind", [ScoreNetwork, EnergyNetwork])


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def make(kind, process=PROCESSES[0], dim=4, spread=0.7):
    g = torch.Generator().manual_seed(2)
    centre = draw(dim, seed=3).float()
    return kind(
        dim, process=process, width=16, depth=3, centre=centre, spread=spread, generator=g
    ).double()


@each
def test_score_of_the_energy_network_is_minus_the_slope_of_its_energy(process):
    network, x = make(EnergyNetwork, process), draw(3, 5, 4)
    for t in (0.01, torch.rand(3, 5, generator=torch.Generator().manual_seed(0)).double() + 0.1):
        y = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(network.energy(y, t).sum(), y)
        score = network(x, t)
        assert network.energy(x, t).shape == (3, 5) and score.abs().max() > 0.1
        assert_close(score, -slope, rtol=0, atol=1e-10)


@each
def test_energy_and_score_are_those_of_mps_18_and_19(process):
    """With f read off the network: E = |x - f|^2 / 2 sigma^2, and both terms of the score."""
    network, x, t = make(EnergyNetwork, process), draw(5, 4), 0.3
    scale, width = process.scale(t), process.width(t)

    def f(x):
        u = x / scale - network.centre
        rho = torch.tensor([width / scale], dtype=torch.float64)
        size = (rho**2 + network.spread**2).sqrt()
        return x - width * (u / size - network.body(u / size, rho.log()))

    wanted = (x - f(x)).square().sum(-1) / (2 * width**2)
    assert_close(network.energy(x, t), wanted, rtol=1e-10, atol=0)
    jacobian = torch.stack([torch.autograd.functional.jacobian(f, row) for row in x])
    rest = (x - f(x)) / width**2
    first = torch.einsum("bi,bij->bj", rest, jacobian)
    assert first.abs().max() > 0.1
    assert_close(network(x, t), first - rest, rtol=0, atol=1e-10)


@each
def test_score_network_points_at_its_denoised_state(process):
    network, x = make(ScoreNetwork, process), draw(3, 5, 4)
    for t in (0.01, 3.0):
        back = process.scale(t) * network.denoised(x, t)
        wanted = (back - x) / process.width(t) ** 2
        assert_close(network(x, t), wanted, rtol=1e-9, atol=1e-9)


@each
def test_untrained_score_network_is_nearly_one_round_gaussian(process):
    network, x, t = make(ScoreNetwork, process), draw(200, 4), 0.5
    network.body.last.weight.detach().zero_()
    scale, width = process.scale(t), process.width(t)
    wanted = -(x - scale * network.centre) / ((scale * network.spread) ** 2 + width**2)
    assert_close(network(x, t), wanted, rtol=0, atol=1e-12)


def test_only_the_energy_network_is_a_slope():
    x = draw(6, 4)
    free, slope = make(ScoreNetwork), make(EnergyNetwork)
    assert asymmetry(lambda z: free(z, 0.1), x).min() > 1e-3
    assert asymmetry(lambda z: slope(z, 0.1), x).max() < 1e-12
    energies = line_energy(lambda z: slope(z, 0.1), x, torch.zeros(4).double(), panels=16)
    wanted = slope.energy(x, 0.1) - slope.energy(torch.zeros(4).double(), 0.1)
    assert_close(energies.energy, wanted, rtol=1e-7, atol=1e-8)


@kinds
def test_batch_equals_loop_and_times_may_differ(kind):
    network, x = make(kind), draw(3, 5, 4)
    t = torch.rand(3, 5, generator=torch.Generator().manual_seed(0)).double() + 0.05
    together = network(x, t).reshape(15, 4)
    rows = zip(x.reshape(15, 4), t.flatten().tolist(), strict=True)
    assert_close(together, torch.stack([network(r, s) for r, s in rows]), rtol=0, atol=1e-10)


@kinds
def test_weights_are_a_function_of_the_generator(kind):
    one, two = make(kind).state_dict(), make(kind).state_dict()
    assert all(torch.equal(one[k], two[k]) for k in one)
    sizes = [sum(p.numel() for p in make(k).parameters()) for k in (ScoreNetwork, EnergyNetwork)]
    assert sizes[0] == sizes[1]


@kinds
def test_answers_where_nobody_tracks_gradients(kind):
    network, x = make(kind), draw(3, 4)
    wanted = network(x, 0.2)
    with torch.no_grad():
        held = network(x, 0.2)
    with torch.inference_mode():
        inside = network(x, 0.2)
    assert not held.requires_grad and not inside.requires_grad
    assert_close(held, wanted.detach(), rtol=0, atol=1e-12)
    assert_close(inside.clone(), wanted.detach(), rtol=0, atol=1e-12)


@kinds
def test_loss_reaches_every_weight(kind):
    """Also through the slope of an energy, by second derivatives: against finite differences."""
    network, y, noise = make(kind), draw(6, 4, seed=5), draw(6, 4, seed=6)

    def loss():
        return denoising_loss(network, y, t=0.4, process=PROCESSES[0], noise=noise).sum()

    slopes = torch.autograd.grad(loss(), list(network.parameters()))
    for weight, slope in zip(network.parameters(), slopes, strict=True):
        where, h = (0,) * weight.ndim, 1e-5
        with torch.no_grad():
            weight[where] += h
            up = loss().item()
            weight[where] -= 2 * h
            down = loss().item()
            weight[where] += h
        if weight is not network.body.last.bias or kind is ScoreNetwork:
            assert slope.abs().max() > 0
        assert float(slope[where]) == pytest.approx((up - down) / (2 * h), rel=1e-5, abs=1e-7)


@each
@pytest.mark.parametrize("weight", [0.0, 1.0, 0.5])
def test_loss_is_its_formula(process, weight):
    y, noise = draw(5, 4), draw(5, 4, seed=1)
    t = torch.rand(5, generator=torch.Generator().manual_seed(0)).double() + 0.1
    ours = denoising_loss(
        lambda x, t: torch.sin(x), y, t=t, process=process, noise=noise, weight=weight
    )
    for i, s in enumerate(t.tolist()):
        x = process.scale(s) * y[i] + process.width(s) * noise[i]
        conditional = -(x - process.scale(s) * y[i]) / process.width(s) ** 2  # MM 4.3's target
        wanted = process.width(s) ** (2 * weight) * (x.sin() - conditional).square().sum()
        assert_close(ours[i], wanted, rtol=1e-10, atol=0)


def test_nothing_beats_the_exact_score():
    """Its loss is lowest: bending it either way costs, by the square of the bend."""
    process, points, t = PROCESSES[0], draw(6, 3, seed=1), 0.5
    g = torch.Generator().manual_seed(0)
    y = points[torch.randint(6, (20_000,), generator=g)]
    noise = draw(20_000, 3, seed=2)

    def loss(bend):
        def score(x, t):
            exact = empirical_score(x, points, process=process, t=t)
            return exact + bend * torch.cos(2 * x)

        return float(denoising_loss(score, y, t=t, process=process, noise=noise).mean())

    best = loss(0.0)
    up, down = loss(0.3) - best, loss(-0.3) - best
    x = y + process.width(t) * noise
    wanted = 0.09 * t * 1.3**2 * float(torch.cos(2 * x).square().sum(-1).mean())
    assert min(up, down) > 0
    assert (up + down) / 2 == pytest.approx(wanted, rel=1e-9)  # what is odd in the bend cancels


def test_what_is_wrong_is_said():
    network, x = make(ScoreNetwork), draw(3, 4)
    with pytest.raises(ValueError, match="t: got 0, expected numbers > 0"):
        network(x, 0.0)
    with pytest.raises(ValueError, match="expected last dimension 4"):
        network(draw(3, 5), 0.1)
    with pytest.raises(ValueError, match=r"noise: got a .* expected shape \(3, 4\)"):
        denoising_loss(network, x, t=0.1, process=PROCESSES[0], noise=x[:2])
    with pytest.raises(ValueError, match="t: got 0, expected numbers > 0"):
        denoising_loss(network, x, t=0.0, process=PROCESSES[0], noise=x)
    with pytest.raises(ValueError, match="weights of score network"):
        load("nobody")


@kinds
def test_a_network_is_built_again_from_what_is_kept(kind, tmp_path):
    g = torch.Generator().manual_seed(0)
    network = kind(3, process=VarianceExploding(2.0), width=8, spread=0.5, generator=g)
    config = {"kind": "score" if kind is ScoreNetwork else "energy", "dim": 3, "sigma": 2.0}
    config |= {"width": 8, "depth": 3, "spread": 0.5}
    tensors = {**_weights.half(network.state_dict()), "points": torch.zeros(2, 3).half()}
    again, x = build(config, tensors), draw(4, 3).float()
    assert_close(again(x, 0.7), network(x, 0.7).detach(), rtol=2e-2, atol=2e-2)  # float16
    assert not again.training and not any(p.requires_grad for p in again.parameters())


@pytest.mark.parametrize(("name", "most"), [("circle_2", 0.1), ("circle_9", 0.1)])
def test_shipped_circle_scores_are_within_a_tenth_of_the_exact_ones(name, most):
    """Relative error, weighted by the width of the noise, where noisy data are."""
    network, points = load(name), stored_points(name)
    process, g = VarianceExploding(), torch.Generator().manual_seed(9)
    wrong = whole = 0.0
    for t in process.times(9.0, 1e-3, steps=20).tolist():
        rows = torch.randint(len(points), (500,), generator=g)
        x, _ = process.perturb(points[rows], t=t, generator=g)
        exact = empirical_score(x, points, process=process, t=t)
        wrong += t * float((network(x, t) - exact).square().sum())
        whole += t * float(exact.square().sum())
    assert (wrong / whole) ** 0.5 < most


def test_samples_of_a_thousand_points_lie_on_the_circle():
    """From the prior, which knows no circle."""
    process = VarianceExploding()
    x = process.prior(300, 2, t=9.0, generator=torch.Generator().manual_seed(4))
    times = process.times(9.0, 1e-3, steps=100)
    end = probability_flow(load("circle_1000"), x, process=process, times=times).state
    assert float((end.norm(dim=1) - 1).abs().mean()) < 0.05
    angle = torch.atan2(end[:, 1], end[:, 0])
    assert torch.histc(angle, bins=6, min=-3.1416, max=3.1416).min() > 20  # all around: 50 each
