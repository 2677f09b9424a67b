"""Learning memories by energy minimisation: laws, known answers, bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amtutor import data
from amtutor.memory import prototypes as proto
from amtutor.memory.dense import lse_energy, lse_gradient, lsr_energy

DOUBLE = torch.float64


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed), dtype=DOUBLE)


X, BANK = normal(3, 7, seed=1), normal(5, 7, seed=2)


# -- the partition function ----------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(k=st.integers(1, 6), beta=st.floats(2.0, 40.0), dim=st.integers(1, 2), seed=st.integers(0))
def test_partition_function_does_not_see_the_memories(k, beta, dim, seed):
    memories = 4 * torch.rand(k, dim, generator=generator(seed), dtype=DOUBLE) - 2
    measured = proto.log_partition_by_quadrature(
        lambda x: lse_energy(x, memories, beta=beta), beta=beta, dim=dim, bounds=(-8, 8), points=300
    )
    assert measured == pytest.approx(proto.log_partition(k, dim, beta=beta), abs=1e-9)


def test_partition_function_of_the_epanechnikov_energy_does_not_see_them_either():
    found = [
        proto.log_partition_by_quadrature(
            lambda x, m=m: lsr_energy(x, m, beta=2.0), beta=2.0, dim=1, bounds=(-6, 6), points=4000
        )
        for m in (torch.tensor([[0.0], [0.2]]).double(), torch.tensor([[-3.0], [3.0]]).double())
    ]
    # one tooth: the integral of 1 - x^2 from -1 to 1 is 4/3
    assert found == pytest.approx([math.log(8 / 3)] * 2, abs=1e-5)


def test_a_box_cuts_valleys_and_then_z_does_see_them():
    at = [
        proto.log_partition_by_quadrature(
            lambda x, c=c: lse_energy(x, torch.tensor([[c]]).double(), beta=10.0),
            beta=10.0, dim=1, bounds=(0, 1),
        )
        for c in (0.5, 0.0)
    ]  # fmt: skip
    assert at[0] - at[1] == pytest.approx(math.log(2 * math.erf(0.5 * math.sqrt(5))), abs=0.05)


# -- likelihood ----------------------------------------------------------------------------------


def test_log_likelihood_is_that_of_the_gaussian_mixture():
    from sklearn.mixture import GaussianMixture

    beta = 3.0
    other = GaussianMixture(5, covariance_type="spherical")
    other.weights_, other.means_ = np.full(5, 0.2), BANK.numpy()
    other.covariances_ = np.full(5, 1 / beta)
    other.precisions_cholesky_ = np.full(5, math.sqrt(beta))
    ours = proto.log_likelihood(X, BANK, beta=beta)
    assert ours.numpy() == pytest.approx(other.score_samples(X.numpy()), abs=1e-10)


# -- gradients -----------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.5, 4.0, 200.0])
def test_memory_gradient_is_that_of_automatic_differentiation(beta):
    bank = BANK.clone().requires_grad_()
    (expected,) = torch.autograd.grad(lse_energy(X, bank, beta=beta).mean(), bank)
    assert torch.allclose(proto.memory_gradient(X, BANK, beta=beta), expected, atol=1e-12)
    (again,) = torch.autograd.grad(proto.mean_energy(X, bank, beta=beta), bank)
    assert torch.allclose(again, expected, atol=1e-12)


def test_several_banks_at_once_are_the_loop():
    x, banks = normal(4, 3, 7), normal(4, 5, 7, seed=3)
    for name in ("memory_gradient", "mean_energy", "workload"):
        one = getattr(proto, name)
        together = one(x, banks, beta=2.0)
        alone = torch.stack([one(a, b, beta=2.0) for a, b in zip(x, banks, strict=True)])
        assert torch.allclose(together, alone, atol=1e-12), name
    two = proto.unrolled_gradient(x, x, banks, beta=2.0, steps=3)
    one = torch.stack(
        [proto.unrolled_gradient(a, a, b, beta=2.0, steps=3) for a, b in zip(x, banks, strict=True)]
    )
    assert torch.allclose(two, one, atol=1e-12)


def test_order_of_memories_does_not_matter():
    order = torch.randperm(5, generator=generator())
    moved = proto.memory_gradient(X, BANK[order], beta=2.0)
    assert torch.allclose(moved, proto.memory_gradient(X, BANK, beta=2.0)[order], atol=1e-13)


def test_gradient_of_the_likelihood_is_zero_on_average_over_the_model():
    """Why nothing has to be sampled: the negative phase of EM 3 is zero for this energy."""
    beta, n = 6.0, 40_000
    bank = normal(4, 2, seed=5)
    who = torch.randint(4, (n,), generator=generator(1))
    samples = bank[who] + normal(n, 2, seed=6) / math.sqrt(beta)
    p = proto.responsibilities(samples, bank, beta=beta)
    each = p[..., None] * (bank - samples[:, None])
    error = each.std(0) / math.sqrt(n)
    assert (each.mean(0).abs() < 5 * error).all()
    # and it is not that everything is zero: samples of another model do pull
    off = proto.memory_gradient(samples + 0.5, bank, beta=beta)
    assert off.abs().max() > 20 * error.max()


def test_contrastive_divergence_without_steps_cancels_and_with_many_stays():
    zero = proto.contrastive_gradient(X, BANK, beta=2.0, steps=0)
    assert zero.abs().max() == 0
    x, bank = normal(4000, 2, seed=1) + 1.0, normal(3, 2, seed=2)
    pulled = proto.memory_gradient(x, bank, beta=5.0)
    left = [
        float(
            (
                proto.contrastive_gradient(
                    x, bank, beta=5.0, steps=n, step_size=0.02, generator=generator()
                )
                * pulled
            ).sum()
            / pulled.square().sum()
        )
        for n in (1, 10, 400)
    ]
    assert 0 < left[0] < left[1] < left[2] and left[0] < 0.2 and left[2] > 0.7


def test_unrolled_gradient_is_that_of_finite_differences():
    clean, noisy = X, X + 0.3 * normal(3, 7, seed=9)

    def error(bank):
        s = noisy
        for _ in range(4):
            s = s - 0.2 * lse_gradient(s, bank, beta=2.0)
        return 0.5 * (s - clean).square().sum(-1).mean()

    found = proto.unrolled_gradient(noisy, clean, BANK, beta=2.0, steps=4)
    way, h = normal(5, 7, seed=4), 1e-5
    slope = (error(BANK + h * way) - error(BANK - h * way)) / (2 * h)
    assert float((found * way).sum()) == pytest.approx(float(slope), rel=1e-6)
    with torch.inference_mode():  # it asks for gradients itself
        assert proto.unrolled_gradient(noisy, clean, BANK, beta=2.0, steps=4).shape == BANK.shape


# -- noise, death --------------------------------------------------------------------------------


def test_langevin_visits_one_bowl_as_widely_as_its_temperature_says():
    """x <- (1 - eta) x + sqrt(2 eta / beta) e ends with the variance 1 / (beta (1 - eta / 2))."""
    beta, eta, n = 4.0, 0.1, 20_000
    x, bank, g = torch.zeros(n, 1, dtype=DOUBLE), torch.zeros(1, 1, dtype=DOUBLE), generator(3)
    for _ in range(60):
        x = proto.langevin_step(x, bank, beta=beta, step_size=eta, generator=g)
    wanted = 1 / (beta * (1 - eta / 2))
    assert float(x.var()) == pytest.approx(wanted, abs=5 * wanted * math.sqrt(2 / n))
    assert abs(float(x.mean())) < 5 * math.sqrt(wanted / n)


def test_noise_on_the_memories_falls_to_nothing():
    bank, points = torch.zeros(400, 2, dtype=DOUBLE), X[:, :2]
    care = {"steps": 11, "beta": 2.0, "langevin": 0.3}
    jumps = [
        float(proto.after_step(bank, points, s, generator=generator(s), **care).std())
        for s in range(1, 12)
    ]
    line = [0.3 * (1 - s / 10) for s in range(11)]
    # a standard deviation of n numbers is known to 1 / sqrt(2 n) of itself
    assert jumps == [pytest.approx(std, abs=5 * std / math.sqrt(2 * 800)) for std in line]
    assert jumps[-1] == 0


def test_only_the_dead_move_only_when_it_is_time_and_onto_data():
    bank = torch.cat([X[:2], torch.full((1, 7), 40.0, dtype=DOUBLE)])
    care = {"steps": 10, "beta": 400.0, "replace_every": 3}
    for step in range(1, 11):
        moved = proto.after_step(bank, X[:2], step, generator=generator(step), **care)
        assert torch.equal(moved[:2], bank[:2])
        assert torch.equal(moved[2], bank[2]) == (step not in (3, 6)), step
        if step in (3, 6):  # a std of 1/20 beside a point, seven coordinates
            assert (moved[2] - X[:2]).norm(dim=1).min() < 0.05 * 6


def test_learning_is_ten_plain_lines():
    """Batches, the gradient of automatic differentiation, torch's SGD of Adam, care: the loop."""
    points, g = normal(20, 2, seed=1), generator(5)
    start = normal(6, 2, seed=2)
    how = {"beta": 9.0, "langevin": 0.2, "replace_every": 4}
    bank = torch.nn.Parameter(start.clone())
    adam = torch.optim.Adam([bank], lr=0.05)
    for step in range(12):
        clean = points[torch.randint(20, (8,), generator=g)]
        x = clean + (1 - 0.9 * step / 11) * torch.randn(8, 2, generator=g, dtype=DOUBLE)
        adam.zero_grad()
        lse_energy(x, bank, beta=9.0).mean().backward()
        adam.step()
        with torch.no_grad():
            bank.copy_(proto.after_step(bank, points, step + 1, steps=12, generator=g, **how))
    run = proto.learn(points, start, steps=12, lr=0.05, batch_size=8, generator=generator(5), **how)
    assert torch.allclose(run.memories, bank.detach(), atol=1e-9)


@pytest.mark.parametrize("by", [1e4, -3e3])
def test_far_from_the_origin_float32_answers_as_here(by):
    x, bank = (torch.round(64 * v) / 64 for v in (normal(40, 7).float(), BANK.float()))
    for name in ("responsibilities", "mean_energy", "memory_gradient", "workload"):
        function = getattr(proto, name)
        there = function(x + by, bank + by, beta=2.0)
        assert torch.allclose(there, function(x, bank, beta=2.0), atol=1e-5), name
    here, there = (
        proto.expectation_maximisation(x + o, bank + o, beta=2.0, steps=3, learn_beta=True)
        for o in (0.0, by)
    )
    assert torch.allclose(there[0] - by, here[0], atol=2e-3)  # the grid of float32 at 10 000
    assert there[1] == pytest.approx(here[1], rel=1e-4)


def test_loads_have_mean_one_and_the_far_one_is_dead():
    bank = torch.cat([BANK, torch.full((1, 7), 40.0, dtype=DOUBLE)])
    loads = proto.workload(X, bank, beta=2.0)
    assert float(loads.mean()) == pytest.approx(1)
    assert proto.dead(X, bank, beta=2.0).tolist()[-1] is True
    moved = proto.replace(bank, X, proto.dead(X, bank, beta=2.0), generator=generator())
    assert torch.equal(moved[:5][~proto.dead(X, bank, beta=2.0)[:5]],
                       bank[:5][~proto.dead(X, bank, beta=2.0)[:5]])  # fmt: skip
    assert (moved[-1] == X).all(1).any()


# -- learning ------------------------------------------------------------------------------------


def test_a_step_of_em_never_lowers_the_likelihood_and_ends_where_the_gradient_is_zero():
    x, bank, last = normal(200, 2, seed=1), normal(8, 2, seed=2), -math.inf
    for _ in range(30):
        bank, _ = proto.expectation_maximisation(x, bank, beta=8.0, steps=1)
        now = float(proto.log_likelihood(x, bank, beta=8.0).mean())
        assert now >= last - 1e-12
        last = now
    bank, _ = proto.expectation_maximisation(x, bank, beta=8.0, steps=5000, tol=1e-12)
    assert proto.memory_gradient(x, bank, beta=8.0).abs().max() < 1e-10


def test_em_finds_beta_too():
    bank = torch.tensor([[-3.0, 0.0], [3.0, 0.0]], dtype=DOUBLE)
    x = bank.repeat(4000, 1) + 0.5 * normal(8000, 2, seed=3)
    _, beta = proto.expectation_maximisation(x, bank, beta=1.0, steps=30, learn_beta=True)
    assert beta == pytest.approx(4.0, rel=0.03)


def test_learning_lowers_the_energy_and_is_the_same_for_the_same_seed():
    points = torch.from_numpy(data.dinosaur()).float()
    start = 1.5 * torch.randn(120, 2, generator=generator())
    runs = [
        proto.learn(points, start, beta=60.0, steps=600, lr=0.02, record_every=200, film=True,
                    generator=generator(1))
        for _ in range(2)
    ]  # fmt: skip
    assert torch.equal(runs[0].memories, runs[1].memories)
    assert runs[0].energies[-1] < runs[0].energies[0]
    assert runs[0].films.shape == (4, 120, 2) and torch.equal(runs[0].films[0], start)
    assert runs[0].steps.tolist() == [0, 200, 400, 600]
    before, after = (
        proto.log_likelihood(points, m, beta=60.0).mean() for m in (start, runs[0].memories)
    )
    assert after > before + 1


def test_passes_are_counted():
    points, start = torch.eye(3), torch.eye(3) + 0.1
    counted = {
        rule: proto.learn(points, start, beta=4.0, steps=5, lr=0.01, batch_size=4, rule=rule,
                          inner=3, generator=generator()).passes
        for rule in proto.RULES
    }  # fmt: skip
    assert counted == {"energy": 5, "contrastive": 25, "unrolled": 30}


# -- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: proto.log_partition(0, 2, beta=1.0), "n_memories = 0"),
        (lambda: proto.log_partition(2, 2, beta=-1.0), "beta = -1.0"),
        (lambda: proto.mean_energy(X, BANK[:, :6], beta=1.0), "x: got a .* expected last dim"),
        (lambda: proto.mean_energy(X[None], BANK, beta=1.0), "x: got shape .* the runs of"),
        (lambda: proto.learn(X, BANK, beta=1.0, steps=1, lr=0.1, rule="magic"), "rule = 'magic'"),
        (lambda: proto.learn(X / 0, BANK, beta=1.0, steps=1, lr=0.1), "points: .* NaN or infinite"),
        (lambda: proto.learn(X, BANK, beta=1.0, steps=1, lr=0.1, noise=(-1, 0)), "noise = -1.0"),
        (
            lambda: proto.learn(X, BANK, beta=1.0, steps=1, lr=0.1, noise=3),
            "noise = 3: expected two",
        ),
        (
            lambda: proto.learn(X, BANK, beta=1.0, steps=1, lr=0.1, langevin=math.nan),
            "langevin = n",
        ),
        (
            lambda: proto.learn(X, BANK, beta=1.0, steps=1, lr=0.1, replace_every=-5),
            "replace_every",
        ),
        (lambda: proto.responsibilities(X, BANK, beta=-1), "beta = -1.0: expected a finite number"),
        (lambda: proto.workload(X, BANK, beta=math.nan), "beta = nan: expected a finite number"),
        (lambda: proto.memory_gradient(X[:, :3], BANK, beta=1), "x: got a .* last dimension 7"),
        (lambda: proto.unrolled_gradient(X, X[:1], BANK, beta=1, steps=1), "clean: got a .*3, 7"),
        (lambda: proto.replace(BANK, X, torch.ones(4, dtype=torch.bool)), "who: got shape"),
        (
            lambda: proto.expectation_maximisation(X, X, beta=1e6, steps=3, learn_beta=True),
            "learn_beta: every memory lies on its points",
        ),
        (lambda: proto.anneal(1.0, 0.0, 5, 4), "step = 5: expected a whole number from 0 to 3"),
        (
            lambda: proto.log_partition_by_quadrature(
                lambda x: x[:, 0], beta=1.0, dim=1, bounds=(1, 0)
            ),
            "bounds = .* low < high",
        ),
        (
            lambda: proto.log_partition_by_quadrature(
                lambda x: x[:, 0], beta=1.0, dim=4, bounds=(0, 1)
            ),
            "dim = 4",
        ),
        (
            lambda: proto.log_partition_by_quadrature(
                lambda x: x[:, 0], beta=1.0, dim=3, bounds=(0, 1), points=10**5
            ),
            r"points = 100000: expected points\*\*3 <= 100 000 000",
        ),
    ],
)
def test_bad_input_is_one_clear_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
