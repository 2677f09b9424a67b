"""What chapter 1 claims (ledger A1 to A4), held apart from the chapter's own run."""

import math

import pytest
import torch

from amtutor import data
from amtutor.descent import descend
from amtutor.memory.capacity import measure_error_rate
from amtutor.memory.dense import lse_energy, lse_gradient
from amtutor.memory.discrete import DiscreteDenseAM, Exponential, Polynomial

SHAPE, D = (24, 24), 576


@pytest.fixture(scope="module")
def creatures():
    return data.to_spins(data.sprites(200).images)


@pytest.fixture(scope="module")
def village(creatures):
    return creatures[:4]


def generator(seed):
    return torch.Generator().manual_seed(seed)


def all_at_once(weights, state, steps):
    film = [state]
    for _ in range(steps):
        film.append(data.binarise(weights @ film[-1]))
    return torch.stack(film)


# -- A1: association, content addressing, error correction ---------------------------------------


@pytest.mark.parametrize(
    "spoil",
    [
        lambda x, g: data.flip_bits(x, 0.3, generator=g),
        lambda x, g: data.mask(x, SHAPE, part="bottom"),
        lambda x, g: data.mask(x, SHAPE, part="right"),
        lambda x, g: data.binarise(data.blur(x, SHAPE, sigma=2.0)),
    ],
    ids=["noise", "lower half", "right half", "blur"],
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a1_four_creatures_are_recalled_exactly_from_spoilt_cues(village, spoil, seed):
    g = generator(seed)
    answer = DiscreteDenseAM(village, Polynomial(2)).recall(spoil(village, g), generator=g)
    assert torch.equal(answer.state, village) and answer.converged.all()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a1_a_step_aside_makes_a_stranger_of_a_creature(creatures, village, seed):
    aside = data.shift(creatures, SHAPE, right=4, down=2)
    strangers = (creatures @ creatures.T / D)[~torch.eye(200, dtype=torch.bool)].mean()
    assert abs((aside * creatures).mean() - strangers) < 0.06
    found = (aside @ creatures.T).argmax(-1) == torch.arange(200)
    assert found.float().mean() < 0.1
    memory = DiscreteDenseAM(village, Polynomial(2))
    end = memory.recall(aside[:4], generator=generator(seed)).state
    assert (end == village).all(-1).sum() < 3


def test_a1_an_address_forgives_nothing(creatures):
    table = {row.numpy().tobytes(): k for k, row in enumerate(creatures)}
    for k in range(0, 200, 20):
        off = creatures[k].clone()
        off[k] *= -1
        assert table[creatures[k].numpy().tobytes()] == k
        assert off.numpy().tobytes() not in table


# -- A2: descent as computation, and a system without an energy ----------------------------------


@pytest.mark.parametrize("beta", [0.3, 1.0, 4.0, 50.0])
@pytest.mark.parametrize("eta", [0.1, 1.0, 1.9])
def test_a2_every_step_below_two_gains_what_the_chapter_promises(beta, eta):
    g = generator(3)
    memories = torch.randn(7, 5, generator=g, dtype=torch.float64)
    x = 3 * torch.randn(50, 5, generator=g, dtype=torch.float64)
    for _ in range(10):
        slope = lse_gradient(x, memories, beta=beta)
        promised = lse_energy(x, memories, beta=beta) - eta * (1 - eta / 2) * slope.square().sum(-1)
        x = x - eta * slope
        assert (lse_energy(x, memories, beta=beta) <= promised + 1e-12).all()


def test_a2_a_step_above_two_can_climb():
    memories = torch.zeros(1, 1, dtype=torch.float64)
    x = torch.ones(1, 1, dtype=torch.float64)
    energies = [lse_energy(x, memories, beta=1.0)]
    x = x - 2.1 * lse_gradient(x, memories, beta=1.0)
    assert lse_energy(x, memories, beta=1.0) > energies[0]


def test_a2_two_valleys_become_one_at_beta_one_over_a_squared():
    for a in (0.5, 1.0, 2.0):
        memories = torch.tensor([[-a], [a]], dtype=torch.float64)
        for factor, valleys in ((0.9, 1), (1.2, 2)):
            beta = factor / a**2
            start = torch.linspace(-1.5 * a, 1.5 * a, 10, dtype=torch.float64)[:, None]
            end = descend(
                lambda x, m=memories, b=beta: lse_energy(x, m, beta=b),
                start,
                gradient=lambda x, m=memories, b=beta: lse_gradient(x, m, beta=b),
                steps=600,
                step_size=0.5,
            ).state
            assert len(torch.unique((end / a * 1e3).round())) == valleys


def test_a2_a_flip_changes_the_energy_by_four_sigma_h_over_d_squared():
    g = generator(4)
    xi = 2.0 * torch.randint(0, 2, (3, 11), generator=g) - 1
    memory = DiscreteDenseAM(xi.double(), Polynomial(2))
    weights = (xi.T @ xi).fill_diagonal_(0).double()
    state = (2.0 * torch.randint(0, 2, (11,), generator=g) - 1).double()
    flipped = state * (1 - 2 * torch.eye(11, dtype=torch.float64))
    change = memory.energy(flipped) - memory.energy(state)
    assert torch.allclose(change, 4 / 11**2 * state * (weights @ state), atol=1e-12)


def test_a2_energy_never_rises_and_the_walk_ends_in_a_fixed_point(village):
    memory = DiscreteDenseAM(village, Polynomial(2))
    g = generator(5)
    cue = 2.0 * torch.randint(0, 2, (20, D), generator=g) - 1
    run = memory.recall(cue, generator=g, record=16)
    assert (run.trajectory.energies.diff(dim=0) <= 1e-6).all()
    assert run.converged.all() and memory.is_fixed_point(run.state).all()


def test_a2_asymmetric_weights_go_round_for_ever_where_symmetric_ones_rest(village):
    cue = data.flip_bits(village[0], 0.3, generator=generator(5))
    rest = all_at_once(village.T @ village, cue, 12)
    assert all(torch.equal(frame, village[0]) for frame in rest[2:])
    ride = all_at_once(village.roll(-1, 0).T @ village, cue, 12)
    assert torch.equal(ride[1:], village.roll(-1, 0).repeat(3, 1))


def test_a2_a_pair_of_one_sided_wishes_never_rests():
    state, history = [1, 1], []
    for turn in range(40):
        i = turn % 2
        state[i] = (1, -1)[i] * state[1 - i]
        history.append(tuple(state))
    assert history[:-4] == history[4:] and len(set(history)) == 4


# -- A3: adaptive depth, and reading out whenever one likes --------------------------------------


@pytest.fixture(scope="module")
def crowd(creatures):
    dozen, beta, g = creatures[:12], 10 / D, generator(6)
    damage = torch.tensor([0.05, 0.15, 0.25, 0.35, 0.42, 0.46])
    rows = dozen.repeat(4, 1)
    cues = torch.stack([data.flip_bits(rows, float(c), generator=g) for c in damage])
    run = descend(
        lambda x: lse_energy(x, dozen, beta=beta),
        cues,
        gradient=lambda x: lse_gradient(x, dozen, beta=beta),
        steps=2000,
        step_size=0.1,
        tol=0.01,
    )
    return damage, run, dozen, beta


def test_a3_harder_questions_take_longer(crowd):
    damage, run, _, _ = crowd
    steps = run.steps_taken.double().mean(1)
    assert run.converged.all() and (steps.diff() > 0).all()
    alone = (2 * (damage * D).sqrt() / 0.01).log() / -math.log(0.9)
    assert (steps[:3] - alone[:3]).abs().max() < 3  # easy: the way home, nothing more
    assert steps[-1] > alone[-1] + 15  # hard: the way home and a hesitation


def test_a3_a_factor_of_ten_nearer_the_ridge_costs_a_fixed_number_of_steps():
    two = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    start = 10.0 ** -torch.arange(2, 8, dtype=torch.float64)[:, None]
    run = descend(
        lambda x: lse_energy(x, two, beta=4.0),
        start,
        gradient=lambda x: lse_gradient(x, two, beta=4.0),
        steps=1000,
        step_size=0.1,
        tol=1e-9,
    )
    wait = run.steps_taken.double().diff().mean()
    assert abs(wait - math.log(10) / math.log(1 + 0.1 * 3)) < 0.15


def test_a3_read_out_time_does_not_matter_once_converged(crowd, village):
    _, run, dozen, beta = crowd
    later = descend(
        lambda x: lse_energy(x, dozen, beta=beta),
        run.state,
        gradient=lambda x: lse_gradient(x, dozen, beta=beta),
        steps=200,
        step_size=0.1,
    ).state
    assert (later - run.state).abs().max() < 0.02
    assert torch.equal(later.sign(), run.state.sign())
    memory, g = DiscreteDenseAM(village, Polynomial(2)), generator(7)
    assert torch.equal(memory.recall(village, generator=g).state, village)
    kicked = data.flip_bits(village, 0.1, generator=g)
    assert torch.equal(memory.recall(kicked, generator=g).state, village)


# -- A4: the two tables of the summary -----------------------------------------------------------


def test_a4_a_cubic_memory_holds_d_squared_and_not_d_cubed():
    rate = {
        power: [
            measure_error_rate(
                Polynomial(3),
                dim,
                round(16 * (dim / 16) ** power),
                trials=max(1, 4096 // round(16 * (dim / 16) ** power)),
                generator=generator(8),
            ).rate
            for dim in (16, 32, 64, 128)
        ]
        for power in (2, 3)
    }
    assert all(0.007 < r < 0.02 for r in rate[2])
    assert rate[3] == sorted(rate[3]) and rate[3][-1] > 0.15


@pytest.mark.parametrize("dim", [16, 20])
def test_a4_exponential_memories_hold_two_to_the_half_d(dim):
    g = generator(9)
    xi = 2.0 * torch.randint(0, 2, (2 ** (dim // 2), dim), generator=g) - 1
    lost = DiscreteDenseAM(xi, Exponential()).flip_gains(xi[:64]) > 0
    assert lost.float().mean() < 0.01
    x = xi[:64]
    for _ in range(10):
        x = x - lse_gradient(x, xi, beta=1.0)
    assert (x.sign() == xi[:64]).all(-1).float().mean() > 0.9


def test_a4_more_creatures_need_a_sharper_energy(creatures):
    def kept(separation, K):
        g = generator(10)
        cue = data.flip_bits(creatures[:K], 0.3, generator=g)
        end = DiscreteDenseAM(creatures[:K], separation).recall(cue, max_sweeps=5, generator=g)
        return (end.state == creatures[:K]).all(-1).float().mean()

    assert kept(Polynomial(2), 4) == 1 and kept(Polynomial(2), 12) < 0.5
    assert kept(Polynomial(3), 12) == 1 and kept(Polynomial(3), 100) < 0.2
    assert kept(Exponential(), 200) == 1


def test_a4_transformer_parts_are_the_pulls_that_the_table_says():
    g = generator(11)
    keys = torch.randn(9, 16, generator=g, dtype=torch.float64)
    keys = keys / keys.norm(dim=-1, keepdim=True)
    x = torch.randn(5, 16, generator=g, dtype=torch.float64)
    pull = -lse_gradient(x, keys, beta=4.0)
    assert torch.allclose(x + pull, torch.softmax(4.0 * x @ keys.T, -1) @ keys, atol=1e-12)

    at = x.clone().requires_grad_()
    (-0.5 * (at @ keys.T).relu().square().sum()).backward()
    assert torch.allclose(-at.grad, (x @ keys.T).relu() @ keys, atol=1e-12)

    at = x.clone().requires_grad_()
    torch.distributions.Normal(keys, 0.3).log_prob(at[:, None]).sum(-1).logsumexp(
        -1
    ).sum().backward()
    assert torch.allclose(0.09 * at.grad, -lse_gradient(x, keys, beta=1 / 0.09), atol=1e-12)

    longer = keys.clone()
    longer[0] *= 2  # keys of unequal length: the first row's clause matters
    one_step = x - lse_gradient(x, longer, beta=4.0)
    assert not torch.allclose(one_step, torch.softmax(4.0 * x @ longer.T, -1) @ longer, atol=1e-3)
