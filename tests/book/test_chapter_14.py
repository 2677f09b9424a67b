"""What chapter 14 claims (ledger I1 to I3), held apart from the chapter's own run."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from amtutor import data
from amtutor.data import split_digits
from amtutor.memory import prototypes as proto
from amtutor.memory.dense import DenseAM, attention_energy, lse_energy, lsr_energy, nearest

ROOT = Path(__file__).resolve().parents[2]
DOUBLE = torch.float64


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def dinosaur():
    return torch.from_numpy(data.dinosaur()).float()


def jitters(points, copies=50, seed=9):
    noise = torch.randn(copies, *points.shape, generator=generator(seed))
    return (points + 0.1 * noise).flatten(0, 1)


@pytest.fixture(scope="module")
def taught():
    """Two banks learned with falling noise, with constant noise, and with replacement."""
    start = 1.5 * torch.randn(2, 120, 2, generator=generator(11))
    recipes = {
        "falling": {"noise": (1.0, 0.1)},
        "constant": {"noise": (0.1, 0.1)},
        "replaced": {"noise": (0.1, 0.1), "replace_every": 250},
    }
    # half of the paper's steps at twice its rate
    return {
        name: proto.learn(
            dinosaur(), start, beta=60.0, steps=3000, lr=0.014, generator=generator(5), **how
        ).memories
        for name, how in recipes.items()
    }


def deaths(banks):
    crowd = jitters(dinosaur())
    return float(torch.stack([proto.dead(crowd, m, beta=60.0) for m in banks]).float().mean())


def likelihood(banks, beta=60.0):
    held = jitters(dinosaur(), seed=77)
    return float(
        torch.stack([proto.log_likelihood(held, m, beta=beta).mean() for m in banks]).mean()
    )


# -- I1: the partition function ------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_i1_quadrature_in_the_plane_gives_one_number_for_all_memories(seed):
    memories = 4 * torch.rand(7, 2, generator=generator(seed), dtype=DOUBLE) - 2
    found = proto.log_partition_by_quadrature(
        lambda x: lse_energy(x, memories, beta=4.0), beta=4.0, dim=2, bounds=(-6, 6), points=300
    )
    assert found == pytest.approx(math.log(7) + math.log(2 * math.pi / 4), abs=1e-10)


def test_i1_energies_for_which_it_fails():
    def log_z(energy, bounds=(-12, 12)):
        return proto.log_partition_by_quadrature(
            energy, beta=4.0, dim=1, bounds=bounds, points=6000
        )

    near, far = (torch.tensor([[-0.5], [b]], dtype=DOUBLE) for b in (0.0, 2.0))
    grown = log_z(lambda x: attention_energy(x, far, beta=4.0)) - log_z(
        lambda x: attention_energy(x, near, beta=4.0)
    )
    lengths = [torch.logsumexp(2 * m.square().sum(1), 0) for m in (near, far)]
    assert grown == pytest.approx(float(lengths[1] - lengths[0]), abs=1e-6)
    box = [log_z(lambda x, m=m: lse_energy(x, m, beta=4.0), (-1.5, 1.5)) for m in (near, far)]
    assert box[1] < box[0] - 0.3
    teeth = [log_z(lambda x, m=m: lsr_energy(x, m, beta=4.0)) for m in (near, far)]
    assert teeth[0] == pytest.approx(teeth[1], abs=1e-3)


def test_i1_pushing_the_attention_energy_down_makes_data_less_probable():
    points, start = dinosaur(), 1.5 * torch.randn(30, 2, generator=generator(1))
    energies, likely = [], []
    for energy, steep in ((lse_energy, 0.0), (attention_energy, 1.0)):
        bank = torch.nn.Parameter(start.clone())
        adam = torch.optim.Adam([bank], lr=0.02)
        for step in range(200):
            mean = energy(points, bank, beta=4.0).mean()
            log_z = torch.logsumexp(steep * 2 * bank.detach().square().sum(1), 0)
            log_z = log_z + math.log(math.pi / 2)
            if step in (0, 199):
                energies.append(float(mean.detach()))
                likely.append(float(-4 * mean.detach() - log_z))
            adam.zero_grad()
            mean.backward()
            adam.step()
    assert energies[1] < energies[0] and likely[1] > likely[0]
    assert energies[3] < energies[2] - 5 and likely[3] < likely[2] - 5


def test_i1_hebb_is_the_first_step_of_maximum_likelihood_and_then_overshoots():
    states = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 8).double()
    patterns = torch.randint(0, 2, (2, 8), generator=generator(3)).double() * 2 - 1
    seen = 0.64 * patterns.T @ patterns / 2
    seen.fill_diagonal_(0)

    def likely(weights):
        score = 0.5 * ((states @ weights) * states).sum(1)
        return 0.5 * (weights * seen).sum() - torch.logsumexp(score, 0)

    weights = torch.zeros(8, 8, dtype=DOUBLE, requires_grad=True)
    (slope,) = torch.autograd.grad(likely(weights), weights)
    slope = slope + slope.T  # T_ij and T_ji are one number
    off = ~torch.eye(8, dtype=torch.bool)
    assert torch.allclose(slope[off], seen[off], atol=1e-12)
    grown = [float(likely(s * seen)) for s in (0.0, 0.3, 6.0)]
    assert grown[1] > grown[0] > grown[2]


def test_i1_hebb_with_memories_is_power_iteration():
    points = dinosaur().double()
    bank = torch.randn(20, 2, generator=generator(2), dtype=DOUBLE)
    overlaps = bank @ points.T
    bank_ = bank.clone().requires_grad_()
    energy = -0.5 * (bank_ @ points.T).square().sum(0).mean()
    (slope,) = torch.autograd.grad(energy, bank_)
    assert torch.allclose(-slope, overlaps @ points / len(points), atol=1e-12)
    second = points.T @ points / len(points)
    for _ in range(3000):
        bank = bank + 0.01 * bank @ second
        bank = bank / bank.norm(dim=1, keepdim=True)
    top = torch.linalg.eigh(second)[1][:, -1]
    assert ((bank @ top).abs() > 0.999).all()


def test_i1_at_equal_passes_the_costly_ways_lose():
    points, held = dinosaur(), jitters(dinosaur(), seed=7)
    start = 1.5 * torch.randn(120, 2, generator=generator(2))
    found, spent = {}, set()
    for rule, steps, lr in (("energy", 3000, 0.014), ("contrastive", 250, 0.03),
                            ("unrolled", 150, 0.06)):  # fmt: skip
        run = proto.learn(
            points, start, beta=60.0, steps=steps, lr=lr, rule=rule, generator=generator(1)
        )
        found[rule] = float(proto.log_likelihood(held, run.memories, beta=60.0).mean())
        spent.add(run.passes)
    assert spent == {3000}
    assert found["energy"] > found["unrolled"] + 0.1 > found["contrastive"] + 0.1


# -- I2: the dinosaur ----------------------------------------------------------------------------


def test_i2_falling_noise_keeps_memories_alive_and_constant_noise_does_not(taught):
    assert deaths(taught["falling"]) < 0.05 < 0.15 < deaths(taught["constant"])
    assert deaths(taught["replaced"]) < 0.02


def test_i2_what_is_called_dead_hardly_depends_on_the_border(taught):
    crowd = jitters(dinosaur())
    loads = torch.stack([proto.workload(crowd, m, beta=60.0) for m in taught["constant"]])
    between = ((loads > 0.01) & (loads < 0.25)).float().mean()
    assert between < 0.02


def test_i2_the_dead_cost_what_they_own(taught):
    lost = likelihood(taught["falling"]) - likelihood(taught["constant"])
    assert lost == pytest.approx(-math.log(1 - deaths(taught["constant"])), abs=0.1)


def test_i2_within_two_per_cent_of_expectation_maximisation(taught):
    from sklearn.cluster import KMeans

    crowd = jitters(dinosaur(), copies=20, seed=3)
    found = KMeans(120, n_init=1, random_state=0).fit(crowd.numpy()).cluster_centers_
    means = torch.from_numpy(found)
    means, _ = proto.expectation_maximisation(crowd, means, beta=60.0, steps=60)
    theirs, ours = likelihood([means]), likelihood(taught["falling"])
    assert ours >= theirs - 0.02 * abs(theirs)


def test_i2_the_datasaurus_has_142_points():
    try:
        points = data.datasaurus()
    except data.DataNotFound as missing:
        pytest.skip(str(missing))
    assert len(points) == 142 != 135


def test_i2_a_compact_kernel_leaves_points_that_pull_nobody():
    points = dinosaur()
    bank = (1.5 * torch.randn(120, 2, generator=generator(1))).requires_grad_()
    energy = lsr_energy(points, bank, beta=60.0)
    out = energy.isinf()
    assert 0.1 < float(out.float().mean()) < 0.9
    alone = lsr_energy(points[out], bank, beta=60.0)
    slope = torch.autograd.grad(alone.nan_to_num(posinf=0.0).sum(), bank, allow_unused=True)[0]
    assert slope is None or slope.abs().max() == 0


def test_i2_the_committed_run_reached_its_numbers():
    lines = (ROOT / "results" / "dinosaur" / "metrics.jsonl").read_text("utf-8").splitlines()
    last = json.loads(lines[-1])
    assert last["step"] == 6000 and last["eval/dead_fraction"] < 0.05
    assert last["eval/log_likelihood"] > -1.72


# -- I3: prototypes of digits --------------------------------------------------------------------


def test_i3_a_thousand_prototypes_ship_sorted_by_class():
    wall, names = proto.load_digits()
    assert wall.shape == (1000, 784) and names.shape == (1000,)
    assert (names.diff() >= 0).all() and names.unique().numel() == 10
    assert wall.isfinite().all() and wall.mean() == pytest.approx(0.13, abs=0.03)
    size = (ROOT / "src" / "amtutor" / "weights" / "mnist_prototypes.safetensors").stat().st_size
    assert size < 2_000_000


def test_i3_retrieval_before_and_after_on_digits_held_out():
    try:
        (x, _), (held, truth) = split_digits()
    except data.DataNotFound as missing:
        pytest.skip(str(missing))
    x, held, truth = x.flatten(1), held.flatten(1)[:300], truth[:300]
    wall, names = proto.load_digits()
    g = generator(4)
    before = x.mean(0) + (0.2 * x.std(0)).clamp(0.02, 0.08) * torch.randn(1000, 784, generator=g)
    noisy = (held + 0.5 * torch.randn(held.shape, generator=g)).clamp(0, 1)
    ends = [DenseAM(bank, beta=1.2).recall(noisy, steps=20).state for bank in (before, wall)]
    one_valley = torch.pdist(ends[0]).max()
    assert one_valley < 0.5  # before learning everything is drawn to one mean
    far = [float((end - held).norm(dim=1).mean()) for end in ends]
    assert far[1] < 0.8 * far[0]
    assert float((names[nearest(ends[1], wall)] == truth).float().mean()) > 0.85
    assert float(proto.dead(x, wall, beta=1.2).float().mean()) < 0.05
    assert float((torch.cdist(wall, x).min(1).values < 0.5).float().mean()) < 0.02


def test_i3_clipped_noise_is_not_centred():
    normal = torch.distributions.Normal(0.0, 1.0)
    phi = [float(normal.log_prob(torch.tensor(u)).exp()) for u in (0.0, 1.0)]
    grey = phi[0] - phi[1] + 1 - float(normal.cdf(torch.tensor(1.0)))
    drawn = torch.randn(400_000, generator=generator(), dtype=DOUBLE).clamp(0, 1).mean()
    assert grey == pytest.approx(0.316, abs=1e-3) and float(drawn) == pytest.approx(grey, abs=3e-3)
