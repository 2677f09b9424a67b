"""Laws, known answers and bad input of the binary dense associative memory."""

from __future__ import annotations

import copy
import itertools
import math
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amtutor.memory.capacity import (
    _even_moments,
    capacity,
    error_probability,
    measure_capacity,
    measure_error_rate,
    noise_variance,
    sign_sum_moment,
    weighted_fit,
    wilson_interval,
)
from amtutor.memory.discrete import (
    DiscreteDenseAM,
    Exponential,
    Polynomial,
    RectifiedPolynomial,
    visit_by_definition,
)
from amtutor.memory.separations import exact_sign

SEPARATIONS = [
    Polynomial(1),
    Polynomial(2),
    Polynomial(3),
    Polynomial(10),
    RectifiedPolynomial(2),
    RectifiedPolynomial(3),
    RectifiedPolynomial(10),
    Exponential(),
    Exponential(0.1),
]
separations = st.sampled_from(SEPARATIONS)


def spins(*shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, shape, generator=g).float() * 2 - 1


def random_visits(dim, steps, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randint(0, dim, (steps,), generator=g)


def oracle_force(separation, xi, overlaps):
    """Exact sum of F over Python integers; exponentials in 60-digit Fractions of e."""
    if isinstance(separation, Exponential):
        e = Fraction(math.exp(separation.beta))  # any number > 1 has the same laws
        return sum(e ** int(h) for h in overlaps)
    return sum(separation.whole(int(h)) for h in overlaps)


def oracle_recall(separation, xi, state, visits, rule):
    """MM 2.2 and 2.3 read literally, in exact arithmetic, one state, everything recomputed."""
    xi, state = xi.int().numpy(), state.int().numpy().copy()
    for i in visits.tolist():
        up, down = state.copy(), state.copy()
        up[i], down[i] = 1, -1
        if rule == "exact":
            vote = oracle_force(separation, xi, xi @ up) - oracle_force(separation, xi, xi @ down)
        else:
            clamped = xi @ up - xi[:, i]
            if isinstance(separation, Exponential):
                e = Fraction(math.exp(separation.beta))
                vote = sum(int(x) * e ** int(c) for x, c in zip(xi[:, i], clamped, strict=True))
            else:
                vote = sum(
                    int(x) * separation.whole(int(c), slope=True)
                    for x, c in zip(xi[:, i], clamped, strict=True)
                )
        if vote:
            state[i] = 1 if vote > 0 else -1
    return torch.from_numpy(state).float()


# ---------------------------------------------------------------- B1: energy and both flip rules


@pytest.mark.parametrize("separation", SEPARATIONS, ids=repr)
def test_energy_is_the_formula(separation):
    xi, sigma = spins(5, 7, seed=1).double(), spins(3, 7, seed=2).double()
    raw = sigma @ xi.T
    if isinstance(separation, Exponential):
        scale = separation.beta * 7
        expected = -torch.log((separation.beta * raw).exp().sum(-1)) / scale
    else:  # MM 2.1 with F(s) = s^n / n, over its constant factor D^n / n
        n = separation.n
        s = raw.clamp_min(0) if isinstance(separation, RectifiedPolynomial) else raw
        expected = -(s**n / n).sum(-1) / (7**n / n)
    assert torch.allclose(DiscreteDenseAM(xi, separation).energy(sigma), expected, atol=1e-12)


def test_minus_one_is_one_memory_matched_perfectly():
    xi = spins(3, 400, seed=3)
    for separation in (RectifiedPolynomial(20), Exponential()):
        assert DiscreteDenseAM(xi, separation).energy(xi) == pytest.approx([-1] * 3, abs=1e-6)


@settings(max_examples=150, deadline=None)
@given(separations, st.integers(1, 6), st.integers(1, 9), st.integers(0, 10**6), st.booleans())
def test_recall_is_the_definition_in_exact_arithmetic(separation, k, dim, seed, gradient):
    """Ties are common at this size: every one of them must keep its bit."""
    rule = "gradient" if gradient else "exact"
    xi, sigma = spins(k, dim, seed=seed), spins(dim, seed=seed + 1)
    visits = random_visits(dim, 2 * dim, seed=seed)
    answer = DiscreteDenseAM(xi, separation).recall(sigma, order=visits, rule=rule)
    assert torch.equal(answer.state, oracle_recall(separation, xi, sigma, visits, rule))


@settings(max_examples=100, deadline=None)
@given(separations, st.integers(1, 8), st.integers(0, 10**6), st.booleans())
def test_exact_sign_of_small_sums(separation, k, seed, gradient):
    g = torch.Generator().manual_seed(seed)
    xi = torch.randint(0, 2, (k,), generator=g) * 2 - 1
    clamped = torch.randint(-4, 5, (k,), generator=g)
    pairs = list(zip(xi.tolist(), clamped.tolist(), strict=True))
    if isinstance(separation, Exponential):
        total = sum(x * Fraction(math.exp(separation.beta)) ** c for x, c in pairs)
    elif gradient:
        total = sum(x * separation.whole(c, slope=True) for x, c in pairs)
    else:
        total = sum(x * (separation.whole(c + 1) - separation.whole(c - 1)) for x, c in pairs)
    rule = "gradient" if gradient else "exact"
    assert exact_sign(separation, xi, clamped, rule) == (total > 0) - (total < 0)


def test_exact_sign_needs_many_digits():
    """Large votes that cancel leave e^-701 - e^-700, far below float64."""
    xi = torch.tensor([1, -1, -1, 1] + [1, -1] * 500)
    clamped = torch.tensor([8, 8, -700, -701] + [5] * 1000)
    assert exact_sign(Exponential(), xi, clamped, "exact") == -1
    xi = torch.tensor([1] + [-1] * 2981)
    clamped = torch.tensor([8] + [0] * 2981)  # e^8 = 2980.958
    assert exact_sign(Exponential(), xi, clamped, "exact") == -1
    assert exact_sign(Exponential(), xi[:-1], clamped[:-1], "exact") == 1


@pytest.mark.parametrize("separation", SEPARATIONS, ids=repr)
def test_the_literal_definition_agrees(separation):
    xi, sigma = spins(6, 11, seed=4).double(), spins(11, seed=5).double()
    memory, visits = DiscreteDenseAM(xi, separation), random_visits(11, 30, seed=6)
    literal = visit_by_definition(memory.energy, sigma, visits)
    answer = memory.recall(sigma, order=visits).state
    gap = (memory.energy(literal) - memory.energy(answer)).abs()
    assert torch.equal(literal, answer) or gap < 1e-12  # rounding may decide ties in the literal


@pytest.mark.parametrize("separation", [Polynomial(2), Exponential(), Exponential(0.3)], ids=repr)
def test_both_rules_agree_where_the_pull_is_proportional_to_f(separation):
    memory, query = DiscreteDenseAM(spins(30, 64, seed=7), separation), spins(40, 64, seed=8)
    order = torch.stack([torch.randperm(64) for _ in range(40)])
    exact = memory.recall(query, order=order, rule="exact")
    gradient = memory.recall(query, order=order, rule="gradient")
    assert torch.equal(exact.state, gradient.state)
    assert not torch.equal(exact.state, query)


def test_gradient_rule_can_raise_the_energy_for_n_3():
    """MM says 2.3 lowers the energy at each step. One vote of 3^2 against eight of 1^2 shows no."""
    others = 9  # neurons besides bit 0, all +1: a memory with k of them at -1 has overlap 9 - 2k
    sigma = torch.ones(others + 1)
    sigma[0] = -1
    strong = torch.ones(others + 1)
    strong[1:4] = -1  # overlap 3 and a vote for +1
    weak = torch.ones(8, others + 1)
    weak[:, 1:5] = -1  # overlap 1
    weak[:, 0] = -1  # and a vote for -1
    memory = DiscreteDenseAM(torch.cat([strong[None], weak]).double(), Polynomial(3))
    bit = torch.tensor([0])
    gradient = memory.recall(sigma, order=bit, rule="gradient", record=True)
    exact = memory.recall(sigma, order=bit, rule="exact")
    # gradient: 3^2 - 8 = +1 > 0, the bit flips. Energies: F(4)-F(2) = 56 against 8 (F(2)-F(0)) = 64
    assert gradient.state[0] == 1 and exact.state[0] == -1
    rise = gradient.trajectory.energies.diff().item() * 10**3
    assert rise == pytest.approx(64 - 56)


def test_permuting_memories_changes_nothing():
    xi, query = spins(40, 50, seed=9), spins(10, 50, seed=10)
    shuffled = xi[torch.randperm(40, generator=torch.Generator().manual_seed(1))]
    order = torch.stack([torch.randperm(50) for _ in range(10)])
    for separation in SEPARATIONS:
        one = DiscreteDenseAM(xi, separation).recall(query, order=order)
        two = DiscreteDenseAM(shuffled, separation).recall(query, order=order)
        assert torch.equal(one.state, two.state)


@settings(max_examples=60, deadline=None)
@given(separations, st.integers(1, 20), st.integers(1, 25), st.integers(0, 10**6))
def test_exact_energy_never_rises_and_recall_converges(separation, k, dim, seed):
    xi, query = spins(k, dim, seed=seed).double(), spins(3, dim, seed=seed + 1)
    g = torch.Generator().manual_seed(seed)
    memory = DiscreteDenseAM(xi, separation)
    answer = memory.recall(query, generator=g, max_sweeps=200, record=1)
    size = answer.trajectory.energies.abs().max()
    assert (answer.trajectory.energies.diff(dim=0) <= 1e-13 * size).all()
    assert answer.converged.all() and memory.is_fixed_point(answer.state).all()


def test_batch_equals_loop():
    memory, query = DiscreteDenseAM(spins(20, 30, seed=11), Polynomial(3)), spins(2, 3, 30, seed=12)
    order = torch.stack([torch.randperm(30) for _ in range(6)]).reshape(2, 3, 30)
    whole = memory.recall(query, order=order)
    assert whole.state.shape == (2, 3, 30) and whole.energy.shape == (2, 3)
    for b in itertools.product(range(2), range(3)):
        alone = memory.recall(query[b], order=order[b])
        assert torch.equal(alone.state, whole.state[b])
        assert alone.energy == pytest.approx(whole.energy[b].item(), abs=1e-6)
        assert alone.converged == whole.converged[b] and alone.steps_taken == whole.steps_taken[b]
        assert torch.equal(memory.flip_gains(query[b]), memory.flip_gains(query)[b])


def test_a_row_does_not_depend_on_who_has_finished():
    """A batch with fixed points beside a hard query: same orders drawn, same answer."""
    xi = spins(5, 40, seed=13)
    memory, hard = DiscreteDenseAM(xi, RectifiedPolynomial(4)), spins(1, 40, seed=14)
    runs = []
    for easy in (xi[:3], spins(3, 40, seed=15)):
        g = torch.Generator().manual_seed(3)
        runs.append(memory.recall(torch.cat([easy, hard]), generator=g).state[-1])
    assert torch.equal(*runs)


def test_every_query_has_its_own_random_order():
    """One cue far from all memories, 64 times: the order decides which of them turns up."""
    xi, cue = spins(20, 60, seed=16), spins(60, seed=43)
    memory = DiscreteDenseAM(xi, RectifiedPolynomial(3))
    g = torch.Generator().manual_seed(0)
    ends = memory.recall(cue.expand(64, -1), generator=g).state
    assert 2 <= len(ends.unique(dim=0)) < 64
    again = memory.recall(cue.expand(64, -1), generator=torch.Generator().manual_seed(0)).state
    assert torch.equal(ends, again)


# ---------------------------------------------------------------- all gains from one product


@pytest.mark.parametrize("separation", SEPARATIONS, ids=repr)
def test_flip_gains_are_energy_differences(separation):
    xi, sigma = spins(9, 13, seed=17).double(), spins(4, 13, seed=18).double()
    memory = DiscreteDenseAM(xi, separation)
    flipped = sigma[:, None] * (1 - 2 * torch.eye(13).double())
    brute = memory.energy(sigma)[:, None] - memory.energy(flipped)
    assert torch.allclose(memory.flip_gains(sigma), brute, atol=1e-12)


def gain_with_many_digits(separation, xi, sigma):
    """E - E(flipped) for every bit, in whole numbers or with 200 digits."""
    xi, sigma = xi.int().tolist(), sigma.int().tolist()
    dim, gains = len(sigma), []
    overlaps = [sum(a * b for a, b in zip(row, sigma, strict=True)) for row in xi]
    with localcontext() as context:
        context.prec = 200
        for i in range(dim):
            flipped = [h - 2 * row[i] * sigma[i] for h, row in zip(overlaps, xi, strict=True)]
            if isinstance(separation, Exponential):
                beta = Decimal(separation.beta)
                there, here = (
                    beta * max(hs) + sum((beta * (h - max(hs))).exp() for h in hs).ln()
                    for hs in (flipped, overlaps)
                )
                gains.append(float((there - here) / (beta * dim)))
            else:
                whole = sum(map(separation.whole, flipped)) - sum(map(separation.whole, overlaps))
                gains.append(float(Fraction(whole, dim**separation.n)))
    return torch.tensor(gains, dtype=torch.float64)


def sign_of_the_strongest(xi, sigma):
    """Where e^(2 beta) > K, the largest clamped overlap whose votes do not cancel decides."""
    gains = []
    for i, bit in enumerate(sigma):
        votes = {}
        for row in xi:
            c = sum(a * b for a, b in zip(row, sigma, strict=True)) - row[i] * bit
            votes[c] = votes.get(c, 0) - row[i] * bit
        left = [v for _, v in sorted(votes.items()) if v]
        gains.append(math.copysign(1, left[-1]) if left else 0.0)
    return torch.tensor(gains, dtype=torch.float64)


@pytest.mark.parametrize(
    "separation",
    [
        *SEPARATIONS,
        Polynomial(100),
        RectifiedPolynomial(99),
        Exponential(1e-6),
        *map(Exponential, (5.0, 8.0, 10.0, 15.0, 20.0, 100.0, 299.0, 400.0, 800.0, 1e6)),
    ],
    ids=repr,
)
@settings(max_examples=10, deadline=None)
@given(k=st.integers(1, 9), dim=st.integers(1, 9), seed=st.integers(0, 10**6), on=st.booleans())
def test_flip_gains_are_right_to_rounding(separation, k, dim, seed, on):
    """Of the terms that are summed: K terms F(h - 2p) - F(h), or log S near 0 and far from it."""
    xi = spins(k, dim, seed=seed).double()
    sigma = xi[0] if on else spins(dim, seed=seed + 1).double()
    found = DiscreteDenseAM(xi, separation).flip_gains(sigma)
    truth = gain_with_many_digits(separation, xi, sigma)
    eps = 2.0**-50 * (k + 8)
    if isinstance(separation, Exponential):
        # log S: a relative error of S is an absolute one of the logarithm, at most that of itself
        size = truth.abs() + torch.expm1((truth * separation.beta * dim).abs().clamp_max(1)) / (
            separation.beta * dim
        )
        p = xi * sigma
        weight = torch.softmax(separation.beta * (xi @ sigma), 0)
        terms = torch.expm1(-2 * min(separation.beta, 1.0) * p).abs()
        size = size + (weight[:, None] * terms).sum(0) / (separation.beta * dim)
    else:
        h = (xi @ sigma).int().tolist()
        rows = (xi * sigma).int().tolist()
        size = torch.tensor(
            [
                float(
                    Fraction(
                        sum(
                            abs(separation.whole(a - 2 * r[i]) - separation.whole(a))
                            for a, r in zip(h, rows, strict=True)
                        ),
                        dim**separation.n,
                    )
                )
                for i in range(dim)
            ],
            dtype=torch.float64,
        )
    assert ((found - truth).abs() <= eps * size).all(), (found, truth)
    if isinstance(separation, Exponential) and separation.beta >= 5:
        truth = sign_of_the_strongest(xi.int().tolist(), sigma.int().tolist())
    assert torch.equal(found.sign(), truth.sign())


def test_the_gain_of_leaving_a_memory_is_two_over_d():
    xi = spins(6, 8, seed=0)
    for beta in (5.0, 8.0, 10.0, 15.0, 20.0, 100.0, 1e5, 1e300):
        memory = DiscreteDenseAM(xi, Exponential(beta))
        gains = memory.flip_gains(xi)
        assert gains[0].tolist() == pytest.approx(
            gain_with_many_digits(memory.separation, xi, xi[0]).tolist(), rel=1e-14
        )
        assert memory.recall(xi, order="sequential").energy.isfinite().all()
        assert memory.is_fixed_point(xi).tolist() == (gains <= 0).all(-1).tolist()


def tied(seed, k=12, dim=15):
    """A state, a bit of it, and memories whose votes at that bit cancel exactly, in mixed order.

    For each memory there is one that wants the opposite at the bit and has its other columns
    permuted where the state is the same: its overlap without the bit is alike. Rounding decides
    such a tie if it may: two sums of the same large terms, in another order.
    """
    g = torch.Generator().manual_seed(seed)
    base, bit = spins(k, dim, seed=seed), int(torch.randint(dim, (1,), generator=g))
    others = torch.tensor([i for i in range(dim) if i != bit])
    twin = base.clone()
    twin[:, others] = base[:, others[torch.randperm(dim - 1, generator=g)]]
    twin[:, bit] *= -1
    sigma = spins(dim, seed=seed + 1)
    xi = torch.cat([base, twin])[torch.randperm(2 * k, generator=g)]
    return xi * sigma, sigma, bit


LARGE = [Polynomial(21), RectifiedPolynomial(20), Exponential(), Exponential(0.05)]


@pytest.mark.parametrize("rule", ["exact", "gradient"])
@pytest.mark.parametrize("separation", LARGE, ids=repr)
def test_ties_between_unequal_overlaps_keep_their_bits(separation, rule):
    for seed in range(60):
        xi, sigma, bit = tied(seed)
        memory = DiscreteDenseAM(xi, separation)
        for start in (sigma, torch.where(torch.arange(15) == bit, -sigma, sigma)):
            visit = memory.recall(start, order=torch.tensor([bit]), rule=rule)
            assert torch.equal(visit.state, start), seed
            at_once = memory.recall(start, order="synchronous", max_sweeps=1, rule=rule)
            assert at_once.state[bit] == start[bit], seed
            if rule == "exact":
                assert memory.flip_gains(start)[bit] == 0, seed


@pytest.mark.parametrize("rule", ["exact", "gradient"])
@pytest.mark.parametrize("separation", SEPARATIONS, ids=repr)
def test_fixed_point_means_that_no_visit_flips(separation, rule):
    memory = DiscreteDenseAM(spins(4, 12, seed=19), separation)
    states = torch.cat([spins(40, 12, seed=20), memory.patterns])
    visits = torch.arange(12)
    one_visit = [
        all(torch.equal(memory.recall(s, order=i[None], rule=rule).state, s) for i in visits)
        for s in states
    ]
    assert memory.is_fixed_point(states, rule=rule).tolist() == one_visit


def test_each_rule_has_fixed_points_of_its_own():
    """Of all 128 states: a sweep that visits every bit leaves just those alone that rest."""
    states = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 7)
    memory = DiscreteDenseAM(spins(3, 7, seed=3), RectifiedPolynomial(3))
    rest = {}
    for rule in ("exact", "gradient"):
        swept = memory.recall(states, rule=rule, order="sequential", max_sweeps=1).state
        rest[rule] = memory.is_fixed_point(states, rule=rule)
        assert torch.equal(rest[rule], (swept == states).all(-1))
    assert (rest["exact"] != rest["gradient"]).any()


# ---------------------------------------------------------------- synchronous, orders, frames


def test_synchronous_update_falls_into_a_two_cycle():
    """Two negatives of one another, each the other's answer: n = 1 memory cannot, n = 2 can."""
    xi = torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, -1.0]])
    memory = DiscreteDenseAM(xi, Polynomial(2))
    start = torch.tensor([1.0, -1.0])
    run = memory.recall(start, order="synchronous", max_sweeps=6, record=True)
    frames = run.trajectory.states
    assert torch.equal(frames[0], frames[2]) and torch.equal(frames[1], -frames[0])
    assert not run.converged
    calm = memory.recall(start, order="sequential")
    assert calm.converged and calm.energy < run.energy


def test_synchronous_equals_visiting_every_bit_of_the_same_state():
    for separation in SEPARATIONS:
        for rule in ("exact", "gradient"):
            memory, query = DiscreteDenseAM(spins(6, 10, seed=21), separation), spins(10, seed=22)
            at_once = memory.recall(query, order="synchronous", max_sweeps=1, rule=rule).state
            one_by_one = [
                memory.recall(query, order=torch.tensor([i]), rule=rule).state[i] for i in range(10)
            ]
            assert at_once.tolist() == [b.item() for b in one_by_one]


def test_frames():
    xi = spins(4, 20, seed=23)
    memory, query = DiscreteDenseAM(xi, RectifiedPolynomial(3)), spins(3, 20, seed=24)
    order = torch.arange(20)
    coarse = memory.recall(query, order=order, record=True).trajectory
    fine = memory.recall(query, order=order, record=6).trajectory
    assert coarse.states.shape == (2, 3, 20) and coarse.energies.shape == (2, 3)
    assert fine.states.shape == (1 + 4, 3, 20)
    assert torch.equal(coarse.states[0], query) and torch.equal(coarse.states[-1], fine.states[-1])
    moved = (fine.states[1] != fine.states[0]).any(0).nonzero()
    assert moved.max() < 6  # the first frame saw bits 0..5 only
    assert torch.allclose(fine.energies, memory.energy(fine.states))
    assert memory.recall(query, order=order).trajectory is None


def test_sweeps_count_the_sweeps_that_changed_something():
    xi = spins(3, 50, seed=25)
    memory = DiscreteDenseAM(xi, RectifiedPolynomial(5))
    cue = xi.clone()
    cue[1, :8] *= -1
    run = memory.recall(cue, generator=torch.Generator().manual_seed(0))
    assert run.steps_taken.tolist() == [0, 1, 0] and run.converged.all()
    assert torch.equal(run.state, xi)


# ---------------------------------------------------------------- numbers that overflow elsewhere


def test_exponential_at_digit_size_does_not_overflow():
    xi = spins(10_000, 784, seed=26)
    memory = DiscreteDenseAM(xi, Exponential())
    cue = xi[:3].clone()
    cue[:, :150] *= -1
    assert torch.isinf((xi[:3] @ xi[:3].T).exp()).any()  # the naive energy in float32
    with np.errstate(over="ignore"):
        assert np.isinf(np.exp(np.float64(784)))  # and in float64
    run = memory.recall(cue, order=torch.arange(784))
    assert torch.equal(run.state, xi[:3]) and run.converged.all()
    assert run.energy == pytest.approx([-1] * 3, abs=1e-5)


@pytest.mark.parametrize(
    "separation", [Exponential(), Polynomial(100), RectifiedPolynomial(100)], ids=repr
)
def test_ten_thousand_neurons_in_float32(separation):
    xi = spins(20, 10_000, seed=27)
    memory = DiscreteDenseAM(xi, separation)
    cue = xi[0].clone()
    cue[:2000] *= -1
    assert torch.equal(memory.recall(cue, order=torch.arange(2000)).state, xi[0])
    far = spins(10_000, seed=28)  # all overlaps are tiny: m^100 underflows, decisions do not
    gains = memory.flip_gains(far)
    assert torch.isfinite(gains).all() and torch.isfinite(memory.energy(far))
    run = memory.recall(far, order=torch.arange(300))
    assert 50 < (run.state != far).sum() < 250


# ---------------------------------------------------------------- dtypes and modes


def test_whole_numbers_booleans_arrays_and_halves_are_accepted():
    xi = spins(4, 15, seed=29)
    query, order = spins(15, seed=30), torch.arange(15)
    expected = DiscreteDenseAM(xi, Polynomial(3)).recall(query, order=order).state
    for patterns in (xi.int(), xi.to(torch.int8), xi > 0, xi.numpy(), xi.half(), xi.double()):
        for state in (query, query.long(), query > 0, query.numpy()):
            found = DiscreteDenseAM(patterns, Polynomial(3)).recall(state, order=order).state
            assert torch.equal(found.float(), expected)
    assert DiscreteDenseAM(xi.int(), Polynomial(3)).energy(query).dtype == torch.float32
    assert DiscreteDenseAM(xi.double(), Polynomial(3)).energy(query).dtype == torch.float64


def test_inference_mode_and_untouched_input():
    xi, query = spins(4, 15, seed=31), spins(2, 15, seed=32)
    keep = query.clone()
    with torch.inference_mode():
        inside = DiscreteDenseAM(xi, Exponential()).recall(query, order=torch.arange(15))
    outside = DiscreteDenseAM(xi, Exponential()).recall(query, order=torch.arange(15))
    assert torch.equal(inside.state, outside.state) and torch.equal(query, keep)


# ---------------------------------------------------------------- bad input

GOOD = torch.tensor([[1.0, -1.0, 1.0]])


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (
            torch.tensor([[0, 1, 1]]),
            r"patterns: 1 of 3 entries are not -1 or \+1 \(first: 0\).*2 \* x",
        ),
        (torch.tensor([[1.0, float("nan")]]), r"patterns: 1 of 2 .*\(first: nan\)"),
        (
            torch.tensor([[1.0, 2.0]]),
            r"patterns: 1 of 2 .*\(first: 2.0\), expected only -1 and \+1$",
        ),
        (torch.zeros(3, 0), r"patterns: got a float32 tensor of shape \(3, 0\)"),
        (torch.ones(0, 3), r"patterns: got a float32 tensor of shape \(0, 3\)"),
        (torch.ones(3), r"patterns: got a float32 tensor of shape \(3,\), expected a \(K, D\)"),
    ],
)
def test_bad_patterns(patterns, message):
    with pytest.raises(ValueError, match=message):
        DiscreteDenseAM(patterns, Polynomial(2))


def test_bad_kinds():
    with pytest.raises(TypeError, match="patterns: got a str 'ab', expected a tensor or array"):
        DiscreteDenseAM("ab", Polynomial(2))
    with pytest.raises(TypeError, match="patterns: got a complex64 tensor"):
        DiscreteDenseAM(GOOD + 0j, Polynomial(2))
    with pytest.raises(TypeError, match=r"separation: got a int 2, expected Polynomial\(n\)"):
        DiscreteDenseAM(GOOD, 2)


@pytest.mark.parametrize("kind", [Polynomial, RectifiedPolynomial])
@pytest.mark.parametrize("n", [0, -1, 2.5, True, "2", 1001])
def test_bad_power(kind, n):
    with pytest.raises(ValueError, match=r"n = .*: expected a whole number"):
        kind(n)


@pytest.mark.parametrize("beta", [0, -1, float("nan"), float("inf"), 1e301, "2"])
def test_bad_beta(beta):
    with pytest.raises(ValueError, match=r"beta = .*: expected a number in \[1e-30, 1e\+300\]"):
        Exponential(beta)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "fast"}, "rule = 'fast': expected one of 'exact', 'gradient'"),
        ({"order": "any"}, "order = 'any': expected one of 'random'"),
        ({"max_sweeps": 0}, "max_sweeps = 0: expected a whole number >= 1"),
        ({"record": -2}, "record = -2: expected a whole number >= 1"),
        ({"order": torch.tensor([0.5])}, "order: got a float32 tensor"),
        ({"order": torch.tensor([3])}, r"order: bits 3..3, expected 0..2"),
        ({"order": torch.zeros(5, 2, dtype=torch.long)}, r"order: got a int64 tensor .*\(2, 'T'\)"),
    ],
)
def test_bad_options(options, message):
    memory = DiscreteDenseAM(GOOD, Polynomial(2))
    with pytest.raises(ValueError, match=message):
        memory.recall(torch.ones(2, 3), **options)


def test_bad_states():
    memory = DiscreteDenseAM(GOOD, Polynomial(2))
    for call in (memory.energy, memory.recall, memory.flip_gains, memory.is_fixed_point):
        with pytest.raises(ValueError, match=r"state: got a .*shape \(4,\), expected last dim.* 3"):
            call(torch.ones(4))
        with pytest.raises(ValueError, match="state: 3 of 3 entries are not -1"):
            call(torch.zeros(3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: capacity(2, 100, error=0.5), r"error = 0.5: expected a number in \(0, 0.5\)"),
        (lambda: capacity(2, 100, error=0), r"error = 0.0: expected a number in \(0, 0.5\)"),
        (lambda: capacity(0, 100), "n = 0: expected a whole number >= 1"),
        (lambda: noise_variance(10**9, 10, 4), "n = 1000000000: expected a whole number from 1"),
        (lambda: capacity(3, 10**200), "dim = a whole number of 665 bits: expected"),
        (lambda: sign_sum_moment(10**6, 3), "power = 1000000: expected a whole number from 0"),
        (lambda: wilson_interval(1, 0), "total = 0.0: expected a finite number > 0"),
        (lambda: wilson_interval(1, -3), "total = -3.0"),
        (lambda: wilson_interval(11, 10), r"hits = 11.0: expected a number in \[0, 10\]"),
        (lambda: weighted_fit([[1, 1]], [1, 2], [1, 0]), "spread: 1 of 2 are not above 0"),
        (lambda: weighted_fit([[1, 1], [2, 2]], [1, 2], [1, 1]), "columns: 2 that depend on"),
        (lambda: weighted_fit([[1, 1]], [1, 2, 3], [1, 1]), "y: got a float64 tensor of shape"),
        (lambda: measure_capacity(Polynomial(2), 0, guess=3), "dim = 0"),
        (lambda: measure_capacity(Polynomial(2), 10, guess=3, bits=-5), "bits = -5"),
        (lambda: measure_capacity(Polynomial(2), 10**4, guess=1e9), "guess = 1000000000.0: exp"),
        (lambda: measure_error_rate(Polynomial(2), 10**5, 10**6, trials=1), "n_patterns = 1000000"),
        (lambda: noise_variance(2, 0, 5), "dim = 0"),
        (lambda: error_probability(2, 10, 1.5), "n_patterns = 1.5"),
        (lambda: measure_error_rate(Polynomial(2), 10, 5, trials=0), "trials = 0"),
        (lambda: measure_error_rate(Polynomial(2), 10, 5, trials=1, rule="x"), "rule = 'x'"),
        (lambda: sign_sum_moment(-1, 3), "power = -1"),
    ],
)
def test_bad_statistics(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ---------------------------------------------------------------- B2-B5: signal, noise, capacity


@pytest.mark.parametrize("count", [0, 1, 2, 5, 9])
@pytest.mark.parametrize("power", [0, 1, 2, 4, 6, 8])
def test_moments_of_a_sum_of_signs_by_enumeration(count, power):
    sums = [sum(signs) for signs in itertools.product((-1, 1), repeat=count)]
    assert sign_sum_moment(power, count) == Fraction(sum(s**power for s in sums), 2**count)


def test_moments_are_derivatives_of_the_generating_function():
    """MM 2.8-2.10: the Taylor coefficients of cosh(tau)^N, from repeated multiplication."""
    terms, count = 7, 12
    cosh = [Fraction(1, math.factorial(2 * p)) for p in range(terms)]
    power = [Fraction(1)] + [Fraction(0)] * (terms - 1)
    for _ in range(count):
        power = [sum(power[j] * cosh[p - j] for j in range(p + 1)) for p in range(terms)]
    found = [power[p] * math.factorial(2 * p) for p in range(terms)]
    assert found == [sign_sum_moment(2 * p, count) for p in range(terms)]


def test_moments_tend_to_those_of_a_normal_variable():
    for p, odd in ((1, 1), (2, 3), (3, 15), (4, 105)):
        ratios = [sign_sum_moment(2 * p, d) / (odd * d**p) for d in (10, 100, 1000)]
        assert ratios == sorted(ratios) and 1 - ratios[-1] < 0.006 * p
    assert (sign_sum_moment(4, 9), sign_sum_moment(4, 10)) == (225, 280)  # MM 2.10 says 300


def test_noise_variance_against_the_noise_itself():
    dim, k, n = 12, 6, 4
    exact = noise_variance(n, dim, k, exact=True)
    xi = spins(20_000, k, dim, seed=33).double()
    clamped = (xi[:, 1:, 1:] * xi[:, :1, 1:]).sum(-1)  # overlaps with memory 1, bit 1 left out
    noise = (xi[:, 1:, 0] * clamped ** (n - 1)).sum(-1)
    error = noise.square().std() / math.sqrt(len(noise))
    assert abs(noise.square().mean() - exact) < 4 * error
    assert noise_variance(n, dim, k) == 15 * k * dim**3  # MM 2.14
    assert noise_variance(100, 10_000, 5) == math.inf


def test_error_probability_and_capacity_are_inverse():
    for n, exact in itertools.product((2, 3, 4, 5), (False, True)):
        k = capacity(n, 200, error=0.01, exact=True)
        assert error_probability(n, 200, round(k), exact=True) == pytest.approx(0.01, rel=0.05)
        assert capacity(n, 2000, exact=exact) == pytest.approx(capacity(n, 2000), rel=0.005)


def test_capacity_uses_the_one_sided_quantile():
    assert capacity(2, 1000) == pytest.approx(1000 / 2.3263479**2)
    assert capacity(4, 100, error=0.005) == pytest.approx(100**3 / 2.5758293**2 / 15)
    assert capacity(1, 50) == pytest.approx(1 / 2.3263479**2)
    assert capacity(3, 1, exact=True) == math.inf


def test_error_probability_never_overflows():
    assert error_probability(100, 10_000, 10**6) == 0.0
    assert error_probability(2, 10, 1, exact=True) == 0.0
    assert 0 < error_probability(100, 50, 10**200) <= 0.5


@pytest.mark.parametrize("rule", ["exact", "gradient"])
@pytest.mark.parametrize(
    ("separation", "dim"), [(Polynomial(3), 11), (Exponential(), 5)], ids=["n=3", "exp"]
)
def test_measured_errors_are_single_visits_of_stored_memories(separation, dim, rule):
    k = 14
    g = torch.Generator().manual_seed(5)
    found = measure_error_rate(separation, dim, k, trials=2, generator=g, rule=rule, probes=4)
    g, wrong = torch.Generator().manual_seed(5), 0
    for _ in range(2):
        xi = torch.randint(0, 2, (k, dim), generator=g, dtype=torch.int8).float() * 2 - 1
        memory = DiscreteDenseAM(xi, separation)
        for probe, i in itertools.product(range(4), range(dim)):
            end = memory.recall(xi[probe], order=torch.tensor([i]), rule=rule).state
            wrong += int(end[i] != xi[probe, i])
    assert (found.errors, found.bits) == (wrong, 2 * 4 * dim) and wrong > 0


@pytest.mark.parametrize(("n", "dim"), [(2, 101), (3, 60), (4, 32)])
def test_measured_error_rate_is_near_the_theory(n, dim):
    g = torch.Generator().manual_seed(0)
    k = round(capacity(n, dim, exact=True))
    found = measure_error_rate(Polynomial(n), dim, k, trials=60, generator=g)
    assert 0.008 < found.rate < 0.0135
    assert found.low < found.rate < found.high and found.high - found.low < 0.003


def test_measured_capacity_is_near_the_theory_and_honest_about_it():
    g = torch.Generator().manual_seed(3)
    found = measure_capacity(Polynomial(2), 128, guess=25, generator=g)
    assert found.low < capacity(2, 128, exact=True) < found.high
    assert found.high / found.low < 1.15 and len(found.points) == 7
    wide = measure_capacity(Polynomial(2), 128, guess=40, generator=g, bits=4000)
    assert wide.high / wide.low > found.high / found.low
    assert wide.low < found.high and found.low < wide.high


def test_measured_capacity_refuses_a_bad_guess():
    with pytest.raises(ValueError, match=r"guess = 1.0: expected one within a factor 2"):
        measure_capacity(Polynomial(3), 100, guess=1)
    with pytest.raises(ValueError, match="guess = 0.0: expected a finite number > 0"):
        measure_capacity(Polynomial(3), 100, guess=0)


def test_rectified_memory_has_half_the_noise():
    g = torch.Generator().manual_seed(1)
    k = round(2 * capacity(3, 64, exact=True))
    found = measure_error_rate(RectifiedPolynomial(3), 64, k, trials=60, generator=g)
    assert 0.008 < found.rate < 0.0135


def test_wilson_interval_known_values():
    low, high = wilson_interval(10, 100)
    assert (low, high) == pytest.approx((0.05522914, 0.17436566), abs=1e-6)
    low, high = wilson_interval(0, 50)
    assert low == 0 and high == pytest.approx(0.0713476, abs=1e-6)


def test_the_interval_covers_as_often_as_it_says():
    """200 small experiments around a rate known from a large one; clusters included."""
    g = torch.Generator().manual_seed(2)
    truth = measure_error_rate(Polynomial(3), 20, 25, trials=2000, generator=g, probes=25).rate
    runs = [
        measure_error_rate(Polynomial(3), 20, 25, trials=12, generator=g, probes=8)
        for _ in range(200)
    ]
    covered = sum(r.low <= truth <= r.high for r in runs)
    assert 180 <= covered <= 199
    assert sum(r.design_effect for r in runs) / 200 > 1.1


# ---------------------------------------------------------------- B6, B7, B8: what the book shows


def test_hopfield_energy_is_hebbs_matrix():
    xi, sigma = spins(5, 12, seed=34).double(), spins(12, seed=35).double()
    hebb = xi.T @ xi  # T_ij of MM 2.18
    expected = -0.5 * sigma @ hebb @ sigma
    assert DiscreteDenseAM(xi, Polynomial(2)).energy(sigma) * 12**2 / 2 == pytest.approx(expected)


def test_even_powers_remember_the_negative_and_rectified_ones_do_not():
    xi = spins(3, 200, seed=36)
    for n in (2, 4):
        assert DiscreteDenseAM(xi, Polynomial(n)).is_fixed_point(-xi).all()
        memory = DiscreteDenseAM(xi, RectifiedPolynomial(n))
        assert not torch.equal(memory.recall(-xi, order="sequential").state, -xi)
    assert not DiscreteDenseAM(xi, Polynomial(3)).is_fixed_point(-xi).any()


def test_a_mixture_of_three_is_a_minimum_of_powers_but_not_of_the_exponential():
    """Where two memories outvote the third, only G(h+1) / G(h-1) > 2 overrules them: e^2 is."""
    xi = spins(3, 501, seed=37)
    blend = xi.sum(0).sign()
    for separation in (Polynomial(2), Polynomial(3), RectifiedPolynomial(4)):
        end = DiscreteDenseAM(xi, separation).recall(blend, order="sequential").state
        assert (end * xi).mean(-1).min() > 0.4 and (end * blend).mean() > 0.9
    sharp = DiscreteDenseAM(xi, Exponential()).recall(blend, order="sequential").state
    assert (sharp == xi).all(-1).any()


def test_hopfield_breaks_where_the_cubic_memory_holds():
    xi = spins(40, 100, seed=38)  # 0.4 D
    cue = xi.clone()
    cue[:, :5] *= -1
    quadratic = DiscreteDenseAM(xi, Polynomial(2)).recall(cue, order="sequential").state
    cubic = DiscreteDenseAM(xi, Polynomial(3)).recall(cue, order="sequential").state
    assert (quadratic == xi).all(-1).float().mean() < 0.1
    assert (cubic == xi).all(-1).float().mean() > 0.9


def test_exponential_memory_keeps_all_until_two_are_one_bit_apart():
    """Two memories one bit apart compete for that bit: exactly one of them must give way."""
    xi = spins(64, 24, seed=39)
    memory = DiscreteDenseAM(xi, Exponential())
    assert memory.is_fixed_point(xi).all()
    twin = xi[0].clone()
    twin[5] *= -1
    both = torch.cat([xi, twin[None]])
    fixed = DiscreteDenseAM(both, Exponential()).is_fixed_point(both)
    assert fixed[1:-1].all() and fixed[0] != fixed[-1]


def test_general_family_a_monotone_q_changes_no_decision():
    """MM 2.23: -log sum exp, -sum exp and a distance instead of the overlap, all one memory."""
    xi, sigma = spins(5, 12, seed=40).double(), spins(12, seed=41).double()
    visits = random_visits(12, 40, seed=42)
    ends = [
        visit_by_definition(energy, sigma, visits)
        for energy in (
            lambda s: -(xi @ s).exp().sum(),
            lambda s: -(xi @ s).exp().sum().log(),
            lambda s: -(-0.5 * (xi - s).square().sum(-1)).exp().sum(),
            DiscreteDenseAM(xi, Exponential()).energy,
        )
    ]
    assert all(torch.equal(ends[0], end) for end in ends[1:])
    assert not torch.equal(ends[0], sigma)


# ------------------------------------------------------------------ a module like others


def test_it_moves_casts_and_is_saved_as_a_module():
    """`.to`, `state_dict` and a copy keep the answers; what old patterns gave is forgotten."""
    first, second = spins(7, 20, seed=1), spins(7, 20, seed=2)
    memory, other = (DiscreteDenseAM(x, Polynomial(3)) for x in (first, second))
    state = spins(5, 20, seed=3)
    wanted = memory.recall(state, order="sequential").state
    assert not torch.equal(other.recall(state, order="sequential").state, wanted)
    other.load_state_dict(memory.state_dict())
    assert torch.equal(other.recall(state, order="sequential").state, wanted)
    wide = copy.deepcopy(memory).to(torch.float64)
    assert wide.patterns.dtype == torch.float64
    assert torch.equal(wide.recall(state, order="sequential").state, wanted.double())
    bad = {"patterns": torch.zeros(7, 20)}
    with pytest.raises(ValueError, match="patterns: 140 of 140 entries are not -1 or"):
        memory.load_state_dict(bad)


@pytest.mark.parametrize("record", [False, True, 4])
def test_a_callback_sees_the_frames_that_record_would_keep(record):
    """Step 0 is the query, the last one the answer; what is handed over is a copy."""
    memory, state = DiscreteDenseAM(spins(7, 20, seed=1), Polynomial(3)), spins(2, 3, 20, seed=3)
    seen = []

    def look(step, x):
        seen.append((step, x.clone()))
        x.zero_()

    run = memory.recall(state, order="sequential", record=record, callback=look)
    kept = memory.recall(state, order="sequential", record=record or True).trajectory.states
    assert [step for step, _ in seen] == list(range(len(kept)))
    assert torch.equal(torch.stack([x for _, x in seen]), kept)
    assert torch.equal(run.state, kept[-1])


def test_statistics_at_their_ends():
    assert error_probability(50, 10**9, 1) == 0.0
    assert capacity(300, 10**6) == math.inf
    assert noise_variance(500, 10, 4, exact=True) > 0
    for hits, total in ((0, 5000), (10, 10), (0.0, 0.3), (1, 1)):
        low, high = wilson_interval(hits, total)
        assert 0 <= low <= hits / total <= high <= 1
    assert wilson_interval(0, 5000)[0] == 0 and wilson_interval(10, 10)[1] == 1


@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_moments_by_both_ways(count):
    """Few signs are counted one by one, many by a recurrence: here both, against brute force."""
    for half in range(1, 9):
        brute = sum(math.comb(count, k) * (count - 2 * k) ** (2 * half) for k in range(count + 1))
        assert sign_sum_moment(2 * half, count) == Fraction(brute, 2**count)
        assert _even_moments(half, count)[-1] == Fraction(brute, 2**count)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e, s: visit_by_definition(e, s, torch.tensor([[0, 1]])), "visits: got a int64"),
        (lambda e, s: visit_by_definition(e, s, torch.tensor([-1])), r"visits: bits -1..-1, exp"),
        (lambda e, s: visit_by_definition(e, s, torch.tensor([0.5])), "visits: got a float32"),
        (lambda e, s: visit_by_definition(e, s[None], torch.tensor([0])), "state: got a float32"),
        (
            lambda e, s: visit_by_definition(lambda x: x.sum() * math.nan, s, torch.tensor([2])),
            "energy: NaN at the visit of bit 2",
        ),
        (lambda e, s: exact_sign(Polynomial(2), s, s, "nope"), "rule = 'nope': expected one of"),
        (lambda e, s: exact_sign(Polynomial(2), s, s[:1], "exact"), "clamped: got a float32"),
    ],
)
def test_bad_visits_and_signs(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call(lambda x: -x.sum(), torch.ones(3))
    assert "\n" not in str(caught.value)


def test_every_separation_speaks_one_protocol():
    """F, f and -sum F (or its monotone image): f is the slope of F, the energies agree."""
    m = torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None].requires_grad_()
    for separation in SEPARATIONS:
        value = separation(m, 5)
        (slope,) = torch.autograd.grad(value.sum(), m)
        torch.testing.assert_close(separation.derivative(m, 5), slope)
        energy = separation.energy(m, 5)
        if isinstance(separation, Exponential):
            energy = -(-separation.beta * 5 * energy).exp()
        torch.testing.assert_close(energy, -value.sum(-1))
