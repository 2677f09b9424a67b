"""The hand-scheduled sweep gives the plain sweep's bits, whatever it is asked."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amtutor import fast
from amtutor.fast import _recall as twin
from amtutor.memory.discrete import DiscreteDenseAM, Exponential, Polynomial, RectifiedPolynomial

SEPARATIONS = [
    Polynomial(1),
    Polynomial(2),
    Polynomial(3),
    Polynomial(4),
    Polynomial(11),
    RectifiedPolynomial(1),
    RectifiedPolynomial(2),
    RectifiedPolynomial(10),
    RectifiedPolynomial(60),
    Exponential(),
    Exponential(0.05),
]


def spins(*shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, shape, generator=g).float() * 2 - 1


def corrupted(xi, fraction, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.where(torch.rand(xi.shape, generator=g) < fraction, -xi, xi)


def both(memory, query, **options):
    runs = []
    for fast_too in (False, True):
        g = torch.Generator().manual_seed(7)
        recall = fast.recall if fast_too else DiscreteDenseAM.recall
        runs.append(recall(memory, query, generator=g, **options))
    return runs


def assert_same(plain, quick):
    assert torch.equal(plain.state, quick.state) and torch.equal(plain.energy, quick.energy)
    assert torch.equal(plain.steps_taken, quick.steps_taken)
    assert torch.equal(plain.converged, quick.converged)


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from(SEPARATIONS),
    st.sampled_from(["exact", "gradient"]),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 6),
    st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.9, 1.0]),
    st.integers(0, 10**6),
)
def test_same_bits_on_small_problems_full_of_ties(separation, rule, k, dim, queries, noise, seed):
    xi = spins(k, dim, seed=seed)
    memory = DiscreteDenseAM(xi, separation)
    g = torch.Generator().manual_seed(seed)
    of = torch.randint(0, k, (queries,), generator=g)
    query = corrupted(xi[of], noise, seed=seed + 1)
    assert_same(*both(memory, query, rule=rule, max_sweeps=2))
    order = torch.randint(0, dim, (queries, 2 * dim), generator=g)  # repeats, and longer than D
    assert_same(*both(memory, query, rule=rule, order=order))


@pytest.mark.parametrize("rule", ["exact", "gradient"])
@pytest.mark.parametrize("separation", SEPARATIONS, ids=repr)
def test_same_bits_at_working_size(separation, rule):
    """Several hundred memories: certificates, single flips, and rows that finish early mix."""
    xi = spins(300, 130, seed=1)
    memory = DiscreteDenseAM(xi, separation)
    query = torch.cat([corrupted(xi[:40], 0.25), spins(40, 130, seed=2), xi[:3], -xi[:3]])
    assert_same(*both(memory, query, rule=rule, max_sweeps=2))


@pytest.mark.parametrize("separation", [Polynomial(4), Exponential(0.05)], ids=repr)
def test_same_bits_with_correlated_memories(separation):
    """Memories that share most bits: margins are small and rounding is tempted."""
    base = spins(1, 90, seed=3)
    xi = corrupted(base.expand(200, -1), 0.1, seed=4)
    memory = DiscreteDenseAM(xi, separation)
    assert_same(*both(memory, corrupted(xi[:30], 0.2, seed=5), max_sweeps=3))


@pytest.mark.parametrize("record", [True, 37])
def test_same_frames(record):
    memory = DiscreteDenseAM(spins(50, 80, seed=6), RectifiedPolynomial(6))
    plain, quick = both(memory, spins(9, 80, seed=7), record=record)
    assert torch.equal(plain.trajectory.states, quick.trajectory.states)


def test_pieces_do_not_matter(monkeypatch):
    memory = DiscreteDenseAM(spins(50, 60, seed=8), RectifiedPolynomial(6))
    query = spins(30, 60, seed=9)
    plain, whole = both(memory, query)
    monkeypatch.setattr(twin, "PIECE", 200)  # four queries at a time
    assert_same(whole, both(memory, query)[1])
    assert_same(plain, whole)


def test_ten_thousand_neurons_and_large_powers():
    xi = spins(12, 10_000, seed=10)
    order = torch.arange(0, 10_000, 9)
    for separation in (Exponential(), RectifiedPolynomial(100), Polynomial(50)):
        memory = DiscreteDenseAM(xi, separation)
        cue = torch.cat([corrupted(xi[:2], 0.2, seed=11), spins(1, 10_000, seed=12)])
        assert_same(*both(memory, cue, order=order))


def test_float64_patterns_and_inference_mode():
    memory = DiscreteDenseAM(spins(20, 33, seed=13).double(), Polynomial(3))
    with torch.inference_mode():
        plain, quick = both(memory, spins(5, 33, seed=14))
    assert_same(plain, quick)
    assert quick.state.dtype == torch.float64


def test_inference_mode_first_and_any_mode_later():
    """Room and tables made in inference mode serve outside of it."""
    for separation in (RectifiedPolynomial(6), Polynomial(2), Exponential()):
        memory = DiscreteDenseAM(spins(50, 60, seed=19), separation)
        with torch.inference_mode():
            fast.recall(memory, spins(9, 60, seed=20))
        assert_same(*both(memory, spins(9, 60, seed=21)))


def test_a_very_steep_exponential():
    memory = DiscreteDenseAM(spins(20, 30, seed=22), Exponential(500.0))
    assert_same(*both(memory, spins(5, 30, seed=23)))


STRIDING = [s for s in SEPARATIONS if s.relative or s.n > 2]


def unknown(queries):
    """Say that the leaders are to be found."""
    return torch.full((queries, 1), -1)


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from(STRIDING),
    st.integers(2, 60),
    st.integers(4, 40),
    st.sampled_from([1, -1]),
    st.integers(0, 10**6),
)
def test_a_stride_is_never_too_long(separation, k, dim, sign, seed):
    """Whatever the next flips are, visits within the stride copy the strongest memory."""
    xi = spins(k, dim, seed=seed)
    memory = DiscreteDenseAM(xi, separation)
    state = corrupted(sign * xi[:1], 0.15, seed=seed)
    flips, goal = twin.strides_of(memory).flips(state, unknown(1))
    order = torch.randperm(dim, generator=torch.Generator().manual_seed(seed))
    made = 0
    for i in order:
        if made > float(flips):
            break
        end = memory.recall(state, order=i[None]).state
        assert end[0, i] == goal[0, i]
        made += int((end != state).sum())
        state = end


def test_certificates_are_given_out():
    """A test of certificates means nothing where there are none; even energies have twins."""
    xi = spins(200, 100, seed=15)
    steep = (RectifiedPolynomial(10), Polynomial(10), Polynomial(7), Exponential())
    for separation, sign in [*((s, 1) for s in steep), (Polynomial(10), -1)]:
        strides = twin.strides_of(DiscreteDenseAM(xi, separation))
        flips, goal = strides.flips(corrupted(sign * xi[:20], 0.1, seed=16), unknown(20))
        assert (flips >= 3).float().mean() > 0.8
        assert torch.equal(goal, sign * xi[:20])


@pytest.mark.parametrize("separation", [RectifiedPolynomial(10), Exponential()], ids=repr)
def test_strides_do_the_work_and_say_who_rests(separation):
    xi = spins(500, 100, seed=17)
    memory = DiscreteDenseAM(xi, separation)
    board = torch.cat([corrupted(xi[:50], 0.1, seed=18), torch.ones(50, 1)], 1)
    visits, made = torch.arange(100).expand(50, 100), torch.zeros(50, 1, dtype=torch.int64)
    rests = twin.strides_of(memory).run(board, visits, made, piece=7)
    state = board[:, :100]
    assert (made == 100).float().mean() > 0.9 and torch.equal(rests, made[:, 0] == 100)
    assert torch.equal(state[rests], xi[:50][rests])
    assert memory.is_fixed_point(state[rests]).all()


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


@pytest.mark.parametrize("rule", ["exact", "gradient"])
@pytest.mark.parametrize(
    "separation", [Polynomial(21), RectifiedPolynomial(20), Exponential(), Exponential(0.05)],
    ids=repr,
)  # fmt: skip
def test_ties_between_unequal_overlaps_are_left_as_they_are(separation, rule):
    for seed in range(60):
        xi, sigma, bit = tied(seed)
        memory = DiscreteDenseAM(xi, separation)
        others = torch.arange(15)[torch.arange(15) != bit]
        order = torch.cat([torch.tensor([bit]), others])
        for start in (sigma, torch.where(torch.arange(15) == bit, -sigma, sigma)):
            assert_same(*both(memory, start, rule=rule, order=order))
            rests = twin.FastSweep(memory).at_rest(start[None], rule)
            assert torch.equal(rests, memory.is_fixed_point(start[None], rule=rule))


@pytest.mark.parametrize("recall", [fast.recall, DiscreteDenseAM.recall])
def test_recall_takes_one_thread_and_gives_the_others_back(recall):
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(3)
    try:
        memory = DiscreteDenseAM(spins(5, 9), Polynomial(2))
        recall(memory, spins(2, 9), callback=lambda *_: seen.append(torch.get_num_threads()))
        assert set(seen[1:]) == {1} and len(seen) > 1 and torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_the_twin_asks_for_a_binary_memory():
    with pytest.raises(TypeError, match="memory: got a int 3, expected a DiscreteDenseAM"):
        fast.recall(3, spins(2, 9))


def test_the_twin_follows_the_memory_when_it_changes():
    memory, other = (DiscreteDenseAM(spins(7, 20, seed=s), Polynomial(3)) for s in (1, 2))
    query = spins(5, 20, seed=3)
    assert_same(*both(memory, query))
    memory.load_state_dict(other.state_dict())
    assert_same(*both(memory, query))
    assert_same(*both(memory.double(), query))
