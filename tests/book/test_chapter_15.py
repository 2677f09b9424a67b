"""What chapter 15 claims (ledger I4 and I5), held apart from the chapter's own run."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import pytest
import torch

import amtutor
from amtutor.generative import latent
from amtutor.memory import dense
from amtutor.train import load_preset
from amtutor.train.optim import rate

DOUBLE = torch.float64
WEIGHTS = Path(amtutor.__file__).parent / "weights"
RECORD = Path(__file__).resolve().parents[2] / "results" / "latent-cpu"


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0, dtype=DOUBLE):
    return torch.randn(shape, generator=generator(seed), dtype=dtype)


@pytest.fixture(scope="module")
def shipped():
    model = latent.load()
    return model, model.card


# -- I4: the stopped gradient ---------------------------------------------------------------------


def test_i4_what_is_removed_is_the_pull_of_codes_towards_memories():
    weight, x = normal(5, 7).requires_grad_(), normal(6, 7, seed=1)
    decoder, memories, beta = normal(5, 7, seed=2), normal(4, 5, seed=3), 0.3
    slopes = []
    for stop in (False, True):
        z = latent.rms_norm(x @ weight.T)
        terms = latent.coupled_loss(
            z, z @ decoder, x, memories, beta_whole=beta, stop_gradient=stop
        )
        slopes.append(torch.autograd.grad(sum(t.sum() for t in terms), weight)[0])
    z = latent.rms_norm(x @ weight.T)
    share = torch.softmax(-beta * torch.cdist(z, memories).square(), -1).detach()
    pull = 2 * (z.detach() - share @ memories)
    (removed,) = torch.autograd.grad(z, weight, grad_outputs=pull)
    torch.testing.assert_close(slopes[0] - slopes[1], removed, rtol=1e-5, atol=1e-6)


def test_i4_one_point_for_all_is_the_floor_of_the_free_energy():
    """With both ends free, equal codes and memories reach -log K / beta, and nothing is lower."""
    point = latent.rms_norm(normal(1, 8))
    floor = -math.log(5) / 30
    together = latent.energy(point.expand(9, 8), point.expand(5, 8), beta_whole=30.0)
    torch.testing.assert_close(together, torch.full((9,), floor, dtype=DOUBLE))
    apart = latent.energy(
        latent.rms_norm(normal(9, 8, seed=1)), normal(5, 8, seed=2), beta_whole=30.0
    )
    assert (apart > floor).all()


def test_i4_an_even_pull_is_radial_and_the_shell_deletes_it():
    u = normal(4, 16).requires_grad_()
    bank = normal(9, 16, seed=1)
    bank = bank - bank.mean(0)
    sizes = []
    for beta in (1e-9, 0.1):
        e = latent.energy(latent.rms_norm(u, eps=0), bank, beta_whole=beta).sum()
        sizes.append(float(torch.autograd.grad(e, u)[0].norm()))
    assert sizes[0] < 1e-6 < 1e-2 < sizes[1]


# -- I5: shell, schedule, replacement, decay ------------------------------------------------------


@pytest.mark.parametrize("n, c", [(1, 0.4), (3, 0.0), (8, 0.4), (50, 0.9)])
def test_i5_length_of_a_mean_of_n_codes_with_cosine_c(n, c):
    gram = (1 - c) * torch.eye(n, dtype=DOUBLE) + c
    codes = torch.linalg.cholesky(gram) * n**0.5  # rows of squared length n, cosines c
    assert float(codes.mean(0).square().sum() / n) == pytest.approx(c + (1 - c) / n)


def test_i5_the_schedule_is_hard_after_a_few_hundred_steps_of_fifty_thousand():
    z = latent.rms_norm(normal(30, 512, dtype=torch.float32))
    memories = normal(4096, 512, seed=1, dtype=torch.float32)
    felt = {}
    for step in (0, 30, 200, 1000):
        p = dense.lse_weights(z, memories, beta=2 * latent.beta_schedule(step))
        felt[step] = float((-(p * p.clamp(min=1e-30).log()).sum(1)).exp().mean())
    assert felt[0] > 4090 and 1500 < felt[30] < 3500 and felt[200] < 20 and felt[1000] < 2
    assert latent.beta_schedule(30) == pytest.approx(1 / (6 * 512) ** 0.5, rel=0.03)


def test_i5_during_the_soft_part_the_rates_add_up_to_nothing():
    config = load_preset("latent-4096").config
    assert sum(rate(config, s) for s in range(200)) < 3e-4


def test_i5_a_third_of_the_bank_escapes_ten_rounds_and_decay_shrinks_it_to_a_fiftieth():
    bank, codes = normal(1000, 2), normal(1000, 2, seed=1)
    g, untouched = generator(2), torch.ones(1000, dtype=torch.bool)
    for _ in range(10):
        bank, gone = latent.replace_memories(bank, codes, fraction=0.1, generator=g)
        untouched[gone] = False
    assert float(untouched.float().mean()) == pytest.approx(0.9**10, abs=0.04)
    config = load_preset("latent-4096").config
    total = sum(rate(config, s) for s in range(0, config.steps, 100)) * 100
    assert config.weight_decay * total == pytest.approx(4, rel=0.02)


# -- I5: the lottery ------------------------------------------------------------------------------


def test_i5_the_lead_is_affine_and_grows_to_the_distance():
    xi, other, z, a = (normal(7, seed=s) for s in range(4))
    a = 0.1

    def lead(y):
        return (y - other).square().sum() - (y - xi).square().sum()

    after = lead((1 - a) * z + a * xi)
    torch.testing.assert_close(after, (1 - a) * lead(z) + a * (xi - other).square().sum())


@pytest.mark.parametrize("seed", range(3))
def test_i5_who_leads_by_one_leads_for_ever(seed):
    """Starts with a lead from 1 to 3: at every later moment the same memory is nearest."""
    bank = 3 * normal(40, 6, seed=seed)
    assert torch.pdist(bank).square().min() > 1
    starts = 10 * normal(4000, 6, seed=seed + 10)
    two = torch.cdist(starts, bank).square().topk(2, largest=False)
    lead = two.values[:, 1] - two.values[:, 0]
    chosen = (lead >= 1) & (lead < 3)
    assert chosen.sum() > 20
    walk = latent.sample_latents(bank, start=starts[chosen], noise=0.0, record=True)
    for state in walk.trajectory.states:
        assert torch.equal(latent.winners(state, bank), two.indices[chosen, 0])


def test_i5_with_three_in_reach_the_nearest_can_be_outvoted():
    trio = torch.tensor([[-1.0, 0], [1, 0.01], [1, -0.01]], dtype=DOUBLE)
    start = torch.tensor([[-0.01, 0.0]], dtype=DOUBLE)
    assert latent.winners(start, trio).item() == 0
    ends = {
        beta: latent.sample_latents(trio, start=start, beta_whole=beta, noise=0.0).state[0, 0]
        for beta in (1.0, 30.0)
    }
    assert ends[1.0] > 0.5 and ends[30.0] < -0.99


def test_i5_two_memories_share_by_the_formula():
    pair = torch.zeros(2, 128)
    pair[0, 0], pair[1, 1] = 128**0.5, 0.6 * 128**0.5
    starts = 10 * normal(40_000, 128, dtype=torch.float32)
    drawn = float((latent.winners(starts, pair) == 0).float().mean())
    argument = -(128**0.5) * (1 - 0.36) / (20 * (1 + 0.36) ** 0.5)
    assert drawn == pytest.approx(0.5 * (1 + math.erf(argument / 2**0.5)), abs=0.01)


def test_i5_in_a_crowd_the_long_one_is_drawn_more_often():
    crowd = 0.6 * latent.rms_norm(normal(500, 128, dtype=torch.float32))
    crowd[0] /= 0.6
    ends = latent.winners(10 * normal(40_000, 128, seed=1, dtype=torch.float32), crowd)
    assert float((ends == 0).float().mean()) > 4 / 500


def test_i5_noise_of_the_paper_is_a_tenth_of_langevins():
    assert latent.noise_scale(30, 0.05) == pytest.approx(0.0577, abs=1e-4)
    walk = latent.sample_latents(
        torch.zeros(1, 50), start=torch.zeros(400, 50), generator=generator()
    )
    assert float(walk.state.std()) == pytest.approx(0.0115, abs=3e-4)


def test_i5_parts_come_nearer_than_wholes_and_are_more():
    """The nearest block of each part is together at least as near as the nearest whole."""
    bank, z = normal(50, 16), normal(300, 16, seed=1)
    whole = bank[latent.winners(z, bank)]
    pieces = [
        part[latent.winners(asked, part)]
        for asked, part in zip(z.chunk(4, 1), bank.chunk(4, 1), strict=True)
    ]
    parts = torch.cat(pieces, 1)
    near, nearer = ((z - y).square().sum(1) for y in (whole, parts))
    assert (nearer <= near + 1e-12).all() and nearer.mean() < 0.8 * near.mean()
    assert len(parts.unique(dim=0)) > 50 >= len(whole.unique(dim=0))


# -- I5: the run ----------------------------------------------------------------------------------


def test_i5_shipped_weights_are_what_their_card_says(shipped):
    model, card = shipped
    path = WEIGHTS / "latent_cpu.safetensors"
    assert path.stat().st_size < 4e6
    assert hashlib.sha256(path.read_bytes()).hexdigest() == card["sha256"]
    assert latent.parameter_counts(model) == card["parameters"]
    assert card["step"] == card["config"]["steps"] == load_preset("latent-cpu").config.steps
    assert card["metrics"] == json.loads((RECORD / "evaluation.json").read_text("utf-8"))


def test_i5_the_run_has_the_settings_of_the_preset(shipped):
    ours, run = load_preset("latent-cpu").config.to_dict(), shipped[1]["config"]
    assert ours == run == json.loads((RECORD / "config.json").read_text("utf-8"))["config"]


def test_i5_samples_of_the_run_are_decoded_memories_and_fewer_than_all(shipped):
    model, card = shipped
    walk = latent.sample_latents(model.memories, 200, generator=generator(), record=True)
    first = latent.winners(walk.trajectory.states[0], model.memories)
    assert torch.equal(latent.winners(walk.state, model.memories), first)
    K, d = model.memories.shape
    codes = torch.cat([10 * torch.randn(5000, d, generator=generator(s)) for s in range(10)])
    different = latent.winners(codes, model.memories).unique().numel()
    assert abs(different - card["metrics"]["distinct_of_50k"]) < 0.06 * K and different < 0.9 * K
    share = latent.memory_counts(codes, model.memories).double()
    length = model.memories.norm(dim=1).double()
    assert float(torch.corrcoef(torch.stack([share, length]))[0, 1]) > 0.4


def test_i5_who_never_met_a_picture_shrank_as_decay_says_and_is_never_drawn(shipped):
    model, card = shipped
    c = card["config"]
    rates = c["lr"] * c["steps"] / 2
    length = model.memories.norm(dim=1) / c["dim"] ** 0.5
    asleep = length < 0.1
    shrunk = math.exp(-c["weight_decay"] * c["memory_lr_scale"] * rates)
    assert float(length[asleep].median()) == pytest.approx(shrunk, rel=0.1)
    assert float(asleep.float().mean()) == pytest.approx(0.9**10, abs=0.03)  # never replaced
    ends = latent.winners(10 * normal(20_000, c["dim"], dtype=torch.float32), model.memories)
    assert not asleep[ends].any()


def test_i5_the_lottery_scores_better_than_fair_samples(shipped):
    found = {k.removeprefix("fd-c10"): v for k, v in shipped[1]["metrics"].items()}
    assert found["_floor"] < 0.1 * found["_reconstructions"]
    assert 2 * found["_reconstructions"] < 2 * found[""] < found["_owners"]


def test_i5_the_record_shows_falling_errors_and_the_jump_of_the_energy():
    lines = [json.loads(s) for s in (RECORD / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert lines[0]["energy"] < -100 and 50 < lines[-1]["energy"] < 256  # d: the centre's distance
    assert lines[-1]["reconstruction"] < 0.1 * lines[0]["reconstruction"]
    assert lines[-1]["gradient_memories"] > 10 * lines[-1]["gradient_encoder"]
