"""Diffusion over stored points: two papers' energies, exact scores, ways back, a circle."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from amtutor.generative.diffusion import (
    OrnsteinUhlenbeck,
    Process,
    VarianceExploding,
    circle_energy,
    empirical_energy,
    empirical_log_density,
    empirical_score,
    log_bessel_i0,
    probability_flow,
    reverse_sde,
)
from amtutor.generative.fields import divergence
from amtutor.memory.dense import DenseAM, distance_bias, lse_energy

PROCESSES = [VarianceExploding(1.3), OrnsteinUhlenbeck(0.8, 1.4)]
each = pytest.mark.parametrize("process", PROCESSES, ids=["exploding", "forgetting"])


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def squares(x, memories):
    return (x[..., None, :] - memories).square().sum(-1)


def exact(memories, process):
    return lambda x, t: empirical_score(x, memories, process=process, t=t)


# ------------------------------------------------------------------ processes


@each
@pytest.mark.parametrize("t", [0.1, 1.0, 2.5])
def test_scale_and_width_are_what_drift_and_diffusion_make(process, t):
    """a' = f(a), and (width^2)' = 2 f(1) width^2 + g^2 (Ito), by central differences."""
    h = 1e-5
    pull = float(process.drift(torch.ones(1, dtype=torch.float64), t))
    slope = (process.scale(t + h) - process.scale(t - h)) / (2 * h)
    assert math.isclose(slope, pull * process.scale(t), abs_tol=1e-8)
    growth = (process.width(t + h) ** 2 - process.width(t - h) ** 2) / (2 * h)
    wanted = 2 * pull * process.width(t) ** 2 + process.diffusion(t) ** 2
    assert math.isclose(growth, wanted, rel_tol=1e-7)


@each
def test_numbers_and_tensors_of_times_agree(process):
    times = torch.tensor([0.0, 0.3, 4.0], dtype=torch.float64)
    for name in ("scale", "width", "diffusion", "time_of"):
        law = getattr(process, name)
        together = torch.as_tensor(law(times)) * torch.ones(3, dtype=torch.float64)
        alone = torch.tensor([law(t) for t in times.tolist()], dtype=torch.float64)
        assert_close(together, alone, rtol=1e-14, atol=0)


@each
def test_time_of_undoes_width_over_scale_and_times_fall_evenly(process):
    times = process.times(3.0, 1e-4, steps=7)
    assert times.dtype == torch.float64 and len(times) == 8
    assert times[0] == 3.0 and times[-1] == 1e-4
    ratio = process.width(times) / process.scale(times)
    steps = ratio[1:] / ratio[:-1]
    assert_close(steps, steps[:1].expand(7), rtol=1e-12, atol=0)
    assert_close(process.time_of(ratio), times, rtol=1e-12, atol=0)


@each
def test_perturbed_points_are_scaled_and_noisy(process):
    g = torch.Generator().manual_seed(3)
    y = draw(4, 5, 6)
    t = torch.rand(4, 5, generator=g, dtype=torch.float64)
    noisy, noise = process.perturb(y, t=t, generator=torch.Generator().manual_seed(1))
    again = [process.scale(s) * p + process.width(s) * e for s, p, e in _rows(t, y, noise)]
    assert_close(noisy.reshape(20, 6), torch.stack(again), rtol=1e-13, atol=1e-15)
    still, _ = process.perturb(y, t=0.0, generator=g)
    assert torch.equal(still, y)


def _rows(t, *tensors):
    flat = (v.reshape(-1, v.shape[-1]) for v in tensors)
    return zip(t.flatten().tolist(), *flat, strict=True)


@each
def test_prior_is_as_wide_as_the_noise_and_knows_no_data(process):
    x = process.prior(4000, 5, t=2.0, generator=torch.Generator().manual_seed(0))
    # 20 000 numbers: their variance is off by sqrt(2/20000) = 0.01 of it, one standard error
    assert abs(float(x.var()) / process.width(2.0) ** 2 - 1) < 0.05
    assert abs(float(x.mean())) < 5 * process.width(2.0) / math.sqrt(20_000)


# ------------------------------------------------------------------ the energies of both papers


@each
@pytest.mark.parametrize("chunk", [None, 3])
def test_energy_is_its_definition(process, chunk):
    x, memories, t = draw(3, 5, 7), draw(11, 7, seed=1), 0.6
    ours = empirical_energy(x, memories, process=process, t=t, chunk=chunk)
    assert ours.shape == (3, 5)
    variance = process.width(t) ** 2
    wanted = -variance * (-squares(x, process.scale(t) * memories) / (2 * variance)).logsumexp(-1)
    assert_close(ours, wanted, rtol=0, atol=1e-12)


def spread(energies):
    """How far a difference of two energies is from one number, over the size of the energies."""
    return float(energies.max() - energies.min())


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    dim=st.integers(1, 40),
    k=st.integers(1, 60),
    sigma=st.floats(0.2, 5.0),
    t=st.floats(0.01, 10.0),
)
def test_energies_of_both_papers_are_ours_up_to_scale_and_constant(seed, dim, k, sigma, t):
    x, memories = draw(20, dim, seed=seed), draw(k, dim, seed=seed + 1)
    process = VarianceExploding(sigma)
    ours = empirical_energy(x, memories, process=process, t=t)
    two = 2 * sigma**2 * t
    mm_4_7 = -two * (-squares(x, memories) / two).exp().sum(-1).clamp_min(1e-300).log()
    beta = 1 / two
    mm_4_8 = -(-beta * squares(x, memories)).logsumexp(-1) / beta
    shallow = squares(x, memories).amin(-1) / two < 600  # where the printed formula can be computed
    assert spread((mm_4_7 - 2 * ours)[shallow]) < 1e-6 if shallow.any() else True
    assert spread(mm_4_8 - 2 * ours) < 1e-6
    density = empirical_log_density(x, memories, process=process, t=t)
    assert_close(
        -density * two / 2,
        ours + (math.log(k) + dim / 2 * math.log(math.pi * two)) * two / 2,
        rtol=1e-9,
        atol=1e-6,
    )
    # MPS 17: patterns of one norm, and its two sides differ by the factor T - t, called t here
    equal = memories / memories.norm(dim=-1, keepdim=True)
    left = -(sigma**2) * ((-squares(x, equal) / two).logsumexp(-1) - math.log(k))
    right = -((beta * 2) * x @ equal.T).logsumexp(-1) / (2 * beta) + x.square().sum(-1) / 2
    ours = empirical_energy(x, equal, process=process, t=t)
    assert spread(t * left - ours) < 1e-6 and spread(right - ours) < 1e-6


def test_mps_17_needs_one_norm():
    """With other norms its right side is another energy: y counts exp(beta |y|^2/2) times."""
    x, memories = draw(40, 6), draw(9, 6, seed=1)
    process, t = VarianceExploding(0.7), 1.0
    beta = process.beta(t)
    right = x.square().sum(-1) / 2 - (beta * x @ memories.T).logsumexp(-1) / beta
    ours = empirical_energy(x, memories, process=process, t=t)
    assert spread(right - ours) > 1
    biased = (
        x.square().sum(-1) / 2
        - (beta * (x @ memories.T + distance_bias(memories))).logsumexp(-1) / beta
    )
    assert spread(biased - ours) < 1e-12


@each
def test_score_is_the_slope_of_the_log_density(process):
    x, memories = draw(3, 5, 7).requires_grad_(), draw(11, 7, seed=1)
    for t in (0.05, 0.6, 4.0):
        density = empirical_log_density(x, memories, process=process, t=t)
        (slope,) = torch.autograd.grad(density.sum(), x)
        score = empirical_score(x, memories, process=process, t=t)
        assert score.abs().max() > 0.1
        assert_close(score.detach(), slope, rtol=0, atol=1e-10)
        energy = empirical_energy(x, memories, process=process, t=t)
        (slope,) = torch.autograd.grad(energy.sum(), x)
        assert_close(score.detach(), -process.beta(t) * slope, rtol=0, atol=1e-10)


@each
def test_density_adds_up_to_one(process):
    line = torch.linspace(-12, 12, 601, dtype=torch.float64)
    x = torch.cartesian_prod(line, line)
    density = empirical_log_density(x, draw(4, 2), process=process, t=0.4).exp()
    assert abs(float(density.sum() * (line[1] - line[0]) ** 2) - 1) < 1e-9


def test_batch_equals_loop():
    x, memories = draw(3, 5, 7), draw(11, 7, seed=1)
    for law in (empirical_energy, empirical_score, empirical_log_density):
        alone = [law(row, memories, process=PROCESSES[1], t=0.3) for row in x.reshape(-1, 7)]
        together = law(x, memories, process=PROCESSES[1], t=0.3)
        assert_close(
            together.reshape(15, -1), torch.stack(alone).reshape(15, -1), rtol=0, atol=1e-12
        )


class LargestOutput(TorchDispatchMode):
    """Remember the largest tensor that any operation made, the memories aside."""

    def __init__(self, spare):
        super().__init__()
        self.spare, self.numel = spare.untyped_storage().data_ptr(), 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for t in out if isinstance(out, tuple | list) else (out,):
            if isinstance(t, torch.Tensor) and t.untyped_storage().data_ptr() != self.spare:
                self.numel = max(self.numel, t.numel())
        return out


@each
def test_memory_is_bounded_by_the_chunk_and_points_are_not_copied(process):
    x, memories = draw(8, 7), draw(3000, 7, seed=1)
    with LargestOutput(memories) as largest:
        empirical_score(x, memories, process=process, t=0.5, chunk=50)
    assert 8 * 50 <= largest.numel <= 2 * 8 * 50


# ------------------------------------------------------------------ the way back


@each
@pytest.mark.parametrize("method", ["euler", "heun"])
def test_one_point_is_approached_in_a_straight_line(process, method):
    """Known answer: with one memory x - a xi shrinks as the width does, whatever the steps."""
    point, x = draw(1, 5, seed=1), draw(3, 5)
    times = process.times(2.0, 1e-3, steps=6)
    path = probability_flow(
        exact(point, process), x, process=process, times=times, method=method, record=True
    )
    for t, state in zip(times.tolist(), path.states, strict=True):
        share = process.width(t) / process.width(2.0)
        wanted = process.scale(t) * point + share * (x - process.scale(2.0) * point)
        assert_close(state, wanted, rtol=0, atol=1e-12)


@each
def test_flow_solves_the_equation_as_the_papers_write_it(process):
    """MPS 8 with the drift: many small Euler steps in t, by hand."""
    memories, x = draw(4, 3, seed=1), 2 * draw(5, 3)
    score, steps = exact(memories, process), 5000
    grid = torch.linspace(1.0, 0.2, steps + 1, dtype=torch.float64).tolist()
    by_hand = x.clone()
    for t, after in zip(grid, grid[1:], strict=False):
        slope = process.drift(by_hand, t) - 0.5 * process.diffusion(t) ** 2 * score(by_hand, t)
        by_hand = by_hand + (after - t) * slope
    times = process.times(1.0, 0.2, steps=60)
    ours = probability_flow(score, x, process=process, times=times).state
    assert (by_hand - x).norm(dim=-1).max() > 0.5
    assert_close(ours, by_hand, rtol=0, atol=2e-3)


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2)])
def test_error_falls_with_the_order_of_the_method(method, order):
    process, memories, x = PROCESSES[1], draw(4, 3, seed=1), 2 * draw(5, 3)

    def end(steps):
        times = process.times(1.0, 0.1, steps=steps)
        score = exact(memories, process)
        return probability_flow(score, x, process=process, times=times, method=method).state

    best = end(3000)
    coarse, fine = ((end(n) - best).norm() for n in (60, 120))
    assert abs(math.log2(coarse / fine) - order) < 0.25


def test_an_euler_step_is_a_step_of_recall():
    process, memories, x = VarianceExploding(0.9), draw(6, 4, seed=1), draw(5, 4)
    t, after = 0.8, 0.35
    times = torch.tensor([t, after], dtype=torch.float64)
    flow = probability_flow(
        exact(memories, process), x, process=process, times=times, method="euler"
    )
    size = 1 - process.width(after) / process.width(t)
    step = DenseAM(memories, beta=process.beta(t)).recall(x, steps=1, step_size=size)
    assert_close(flow.state, step.state, rtol=0, atol=1e-12)
    for method in ("euler", "heun"):  # all the way to time 0: a whole step
        times = torch.tensor([t, 0.0], dtype=torch.float64)
        whole = probability_flow(
            exact(memories, process), x, process=process, times=times, method=method
        )
        jump = DenseAM(memories, beta=process.beta(t)).recall(x, steps=1)
        assert_close(whole.state, jump.state, rtol=0, atol=1e-12)


@each
def test_flow_carries_the_density(process):
    """Change of variables: along a path log p changes by minus the integral of the divergence."""
    memories, x = 2 * draw(5, 2, seed=1), draw(6, 2)
    times = process.times(1.5, 0.1, steps=400)
    score = exact(memories, process)
    path = probability_flow(score, x, process=process, times=times, record=True)

    def spreading(x, t):
        def speed(x):
            return process.drift(x, t) - 0.5 * process.diffusion(t) ** 2 * score(x, t)

        return divergence(speed, x)

    rates = [spreading(s, t) for s, t in zip(path.states, times.tolist(), strict=True)]
    gained = -torch.trapezoid(torch.stack(rates), times, dim=0)
    first, last = (
        empirical_log_density(path.states[i], memories, process=process, t=float(times[i]))
        for i in (0, -1)
    )
    assert (last - first).abs().min() > 0.1
    assert_close(last - first, gained, rtol=0, atol=1e-2)


def test_starts_from_the_prior_end_on_stored_points_and_on_all_of_them():
    process, memories = VarianceExploding(1.0), draw(8, 16, seed=1).float()
    x = process.prior(400, 16, t=400.0, generator=torch.Generator().manual_seed(0))
    times = process.times(400.0, 1e-4, steps=100)
    for end in (
        probability_flow(exact(memories, process), x, process=process, times=times).state,
        reverse_sde(
            exact(memories, process),
            x,
            process=process,
            times=times,
            generator=torch.Generator().manual_seed(1),
        ).state,
    ):
        gap, which = torch.cdist(end, memories).min(-1)
        assert gap.max() < 0.1  # ten widths of the noise that is left, over 16 directions
        counts = which.bincount(minlength=8)
        # 400 fair draws of 8: 50 each, five standard deviations are 33
        assert (counts - 50).abs().max() < 33


@each
def test_noisy_way_back_has_the_variance_of_its_recursion(process):
    """From the exact density, V -> V (1-d)^2 + d rho^2 a step, with d = 1 - (rho'/rho)^2."""
    point = torch.tensor([[2.0]], dtype=torch.float64)
    n, times = 40_000, process.times(2.0, 0.02, steps=12)
    x, _ = process.perturb(point.expand(n, 1), t=2.0, generator=torch.Generator().manual_seed(0))
    end = reverse_sde(
        exact(point, process),
        x,
        process=process,
        times=times,
        generator=torch.Generator().manual_seed(1),
    ).state
    ratio = (process.width(times) / process.scale(times)).tolist()
    variance = ratio[0] ** 2
    for now, then in zip(ratio, ratio[1:], strict=False):
        d = 1 - (then / now) ** 2
        variance = variance * (1 - d) ** 2 + d * now**2
    a = process.scale(0.02)
    measured = float(end.var()) / (a**2 * variance)
    assert abs(measured - 1) < 5 * math.sqrt(2 / n)
    assert abs(float(end.mean()) - 2 * a) < 5 * a * math.sqrt(variance / n)


def test_samplers_record_call_back_and_repeat():
    process, memories, x = PROCESSES[0], draw(4, 3, seed=1), draw(2, 5, 3)
    times, seen = process.times(1.0, 0.1, steps=4), []

    def go(seed, **more):
        g = torch.Generator().manual_seed(seed)
        return reverse_sde(
            exact(memories, process), x, process=process, times=times, generator=g, **more
        )

    kept = x.clone()
    path = go(1, record=True, callback=lambda step, state: seen.append((step, state)))
    assert torch.equal(x, kept) and path.states.shape == (5, 2, 5, 3)
    assert [step for step, _ in seen] == [0, 1, 2, 3, 4]
    assert all(torch.equal(s, f) for (_, s), f in zip(seen, path.states, strict=True))
    assert torch.equal(path.states[0], x) and torch.equal(path.states[-1], path.state)
    assert torch.equal(path.times, times)
    assert torch.equal(go(1).state, path.state) and not torch.equal(go(2).state, path.state)
    assert go(1).states is None


def test_samplers_say_what_is_wrong():
    process, x = VarianceExploding(), draw(3, 2)
    score, times = exact(draw(4, 2, seed=1), process), torch.tensor([1.0, 0.5])
    with pytest.raises(ValueError, match="times: got 0.5 .. 1, expected falling times"):
        probability_flow(score, x, process=process, times=times.flip(0))
    with pytest.raises(ValueError, match="times: got 1 .. -0.5"):
        probability_flow(score, x, process=process, times=torch.tensor([1.0, -0.5]))
    with pytest.raises(ValueError, match=r"score: its answer: got a .* expected shape \(3, 2\)"):
        probability_flow(lambda x, t: x[0], x, process=process, times=times)
    with pytest.raises(FloatingPointError, match="not finite at step 1, t = 0.5"):
        probability_flow(lambda x, t: x / 0, x, process=process, times=times)
    with pytest.raises(TypeError, match="process: got a str"):
        empirical_energy(x, x, process="ve", t=1.0)
    with pytest.raises(ValueError, match="end = 2.0: expected less than start = 1"):
        process.times(1.0, 2.0, steps=3)
    with pytest.raises(ValueError, match="t: got shape"):
        process.perturb(x, t=torch.ones(2))
    with pytest.raises(ValueError, match="t: got -1, expected numbers >= 0"):
        process.perturb(x, t=-torch.ones(3))


def test_a_process_of_ones_own_needs_five_lines():
    """A bridge of a reader: the general equation with its drift."""

    class Slowing(Process):
        def drift(self, x, t):
            return -x / (1 + t)

        def diffusion(self, t):
            return 1.0

        def scale(self, t):
            return 1 / (1 + t)

        def width(self, t):
            return (((1 + t) ** 3 - 1) / (3 * (1 + t) ** 2)) ** 0.5

        def time_of(self, ratio):
            return (3 * ratio**2 + 1) ** (1 / 3) - 1

    process, memories, x = Slowing(), draw(3, 2, seed=1), draw(4, 2)
    times = process.times(2.0, 1e-4, steps=60)
    end = probability_flow(exact(memories, process), x, process=process, times=times).state
    assert torch.cdist(end, process.scale(1e-4) * memories).amin(-1).max() < 0.05


# ------------------------------------------------------------------ data on a circle


def test_log_bessel_is_scipys_where_scipys_is_finite():
    x = torch.cat([torch.linspace(0, 3, 400), torch.logspace(-9, 2.85, 300)]).double()
    wanted = torch.from_numpy(special.i0e(x.numpy())).log() + x
    assert_close(log_bessel_i0(x), wanted, rtol=1e-13, atol=1e-14)
    assert torch.equal(log_bessel_i0(-x), log_bessel_i0(x))
    assert torch.special.i0(torch.tensor(720.0, dtype=torch.float64)).isinf()  # the naive way


def test_log_bessel_reaches_a_million_and_keeps_what_is_small():
    x = torch.tensor([1e3, 1e6], dtype=torch.float64)
    far = x - 0.5 * (2 * math.pi * x).log() + (1 / (8 * x)).log1p()  # Hankel, next term 9/(128 x^2)
    assert_close(log_bessel_i0(x), far, rtol=0, atol=1e-6)
    assert log_bessel_i0(torch.tensor(1e6)).isfinite()
    tiny = torch.tensor([1e-3, 1e-6], dtype=torch.float64)
    assert_close(log_bessel_i0(tiny), tiny**2 / 4 - tiny**4 / 64, rtol=1e-11, atol=0)


def test_log_bessel_has_a_slope():
    x = torch.tensor([0.0, 0.3, 0.99, 1.01, 40.0, 1e5], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(log_bessel_i0(x).sum(), x)
    wanted = special.i1e(x.detach().numpy()) / special.i0e(x.detach().numpy())
    assert_close(slope, torch.from_numpy(wanted), rtol=0, atol=1e-12)


@pytest.mark.parametrize("beta", [0.01, 1.0, 10.0, 200.0])
def test_circle_energy_is_the_integral_over_the_circle(beta):
    radius = torch.tensor([0.0, 0.3, 0.946, 1.0, 2.5], dtype=torch.float64)
    angle = torch.arange(2000, dtype=torch.float64) * (2 * math.pi / 2000)  # exact beyond rounding
    square = radius[:, None] ** 2 + 1 - 2 * radius[:, None] * angle.cos()
    wanted = -((-beta / 2 * square).logsumexp(1) - math.log(2000)) / beta
    assert_close(circle_energy(radius, beta=beta), wanted, rtol=0, atol=1e-9 / min(beta, 1))


def test_circle_energy_is_the_limit_of_many_memories_and_mms_in_its_scale():
    angle = torch.arange(400, dtype=torch.float64) * (2 * math.pi / 400)
    points = torch.stack([angle.cos(), angle.sin()], -1)
    x, beta = draw(20, 2), 30.0
    many = lse_energy(x, points, beta=beta) + math.log(400) / beta
    assert_close(circle_energy(x.norm(dim=-1), beta=beta), many, rtol=0, atol=1e-9)
    whole, r = 15.0, x.norm(dim=-1)
    mm_4_13 = r**2 + 1 - torch.special.i0(2 * whole * r).log() / whole
    assert_close(2 * circle_energy(r, beta=2 * whole), mm_4_13, rtol=0, atol=1e-12)


def test_circle_energy_is_finite_where_bessel_overflows():
    radius = torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)
    for beta in (2e3, 2e6):
        assert (beta * radius > 713).all()
        energy = circle_energy(radius, beta=beta)
        bound = 0.5 * (radius - 1) ** 2
        assert ((energy - bound) > 0).all()
        assert_close(
            energy - bound, (2 * math.pi * beta * radius).log() / (2 * beta), rtol=1e-3, atol=0
        )


def test_asymptotes_of_the_circle_at_mms_beta_100():
    """With its logarithm the asymptote is right to 1 % of itself; the bare parabola, both counted
    from R = 1, to 1 % of the height of the centre (MM's scale, R from 0.25 to 2)."""
    whole, r = 100.0, torch.linspace(0.25, 2, 300, dtype=torch.float64)
    energy = 2 * circle_energy(r, beta=2 * whole)
    two_terms = (r - 1) ** 2 + (4 * math.pi * whole * r).log() / (2 * whole)
    assert (energy / two_terms - 1).abs().max() < 0.01
    one = 2 * circle_energy(torch.ones(1, dtype=torch.float64), beta=2 * whole)
    off = (energy - one - (r - 1) ** 2).abs().max()
    assert 0.001 < off < 0.01
