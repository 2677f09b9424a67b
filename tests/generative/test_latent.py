"""The latent memory: energy, schedule, replacement, sampling, and the coupling of EM 7."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amtutor.generative import latent
from amtutor.memory.dense import lse_energy

DOUBLE = torch.float64
SMALL = {"width": 8, "multipliers": (1, 2), "blocks": 1, "attention": (4,), "groups": 4, "patch": 4}
Shape = latent.Shape


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0, dtype=DOUBLE):
    return torch.randn(shape, generator=generator(seed), dtype=dtype)


def system(memories=6, dim=16, seed=0, **more):
    torch.manual_seed(seed)
    model = latent.LatentMemory(memories, dim, shape=Shape(**{**SMALL, **more}))
    for part in model.modules():  # blocks start as nothing; give them something to do
        if isinstance(part, torch.nn.Conv2d):
            torch.nn.init.normal_(part.weight, std=0.1)
    return model


# -- the energy -----------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [1.25e-4, 0.3, 30.0])
def test_energy_is_em_4_and_twice_the_books_at_twice_beta(beta):
    z, memories = normal(3, 7), normal(5, 7, seed=1)
    plain = -torch.stack(
        [
            torch.log(sum(torch.exp(-beta * ((a - m) ** 2).sum()) for m in memories)) / beta
            for a in z
        ]
    )
    ours = latent.energy(z, memories, beta_whole=beta)
    torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(ours, 2 * lse_energy(z, memories, beta=2 * beta))


@pytest.mark.parametrize("beta", [1.25e-4, 0.3, 30.0])
def test_gradient_is_automatic_differentiation(beta):
    z, memories = normal(3, 7).requires_grad_(), normal(5, 7, seed=1)
    (slope,) = torch.autograd.grad(latent.energy(z, memories, beta_whole=beta).sum(), z)
    torch.testing.assert_close(latent.energy_gradient(z, memories, beta_whole=beta), slope)


def test_gradient_in_the_memories_is_what_chapter_15_derives():
    z, memories, beta = normal(4, 7), normal(5, 7, seed=1).requires_grad_(), 0.2
    (slope,) = torch.autograd.grad(latent.energy(z, memories, beta_whole=beta).mean(), memories)
    share = torch.softmax(-beta * torch.cdist(z, memories).square(), -1)
    expected = 2 * torch.einsum("bk,bkd->kd", share, memories - z[:, None]) / len(z)
    torch.testing.assert_close(slope, expected.detach())


def test_energy_keeps_its_precision_inside_autocast():
    z, memories = normal(8, 128, dtype=torch.float32), normal(9, 128, seed=1, dtype=torch.float32)
    plain = latent.energy(z, memories, beta_whole=30.0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(latent.energy(z, memories, beta_whole=30.0), plain)


def test_order_of_memories_and_batch_do_not_matter():
    z, memories = normal(3, 7), normal(5, 7, seed=1)
    whole = latent.energy(z, memories, beta_whole=2.0)
    shuffled = latent.energy(z, memories[torch.randperm(5, generator=generator())], beta_whole=2.0)
    torch.testing.assert_close(whole, shuffled)
    torch.testing.assert_close(
        whole, torch.stack([latent.energy(a, memories, beta_whole=2.0) for a in z])
    )


# -- schedules and memories -----------------------------------------------------------------------


def test_beta_goes_up_in_a_line_and_stays():
    beta = [latent.beta_schedule(s) for s in (0, 1, 25_000, 50_000, 799_999)]
    assert beta[0] == 1.25e-4 and beta[3] == beta[4] == 30.0
    assert beta[1] - beta[0] == pytest.approx((30 - 1.25e-4) / 50_000)
    assert latent.beta_schedule(0, steps=0) == 30.0
    with pytest.raises(ValueError, match="step = -1: expected a whole number >= 0"):
        latent.beta_schedule(-1)


def test_noise_scale_keeps_a_bowl_at_its_temperature():
    """A long Langevin walk in one bowl has variance 1 / (2 beta), up to the step's own error."""
    beta, eta = 30.0, 0.002
    walk = latent.sample_latents(
        torch.zeros(1, 4, dtype=DOUBLE),
        start=torch.zeros(2000, 4, dtype=DOUBLE),
        beta_whole=beta,
        steps=2000,
        step_size=eta,
        noise=latent.noise_scale(beta, eta),
        generator=generator(),
    )
    exact = (2 * eta / beta) / (1 - (1 - 2 * eta) ** 2)
    assert exact == pytest.approx(1 / (2 * beta), rel=5e-3)
    assert float(walk.state.var()) == pytest.approx(exact, rel=0.05)
    with pytest.raises(ValueError, match="beta_whole = 0.0: expected a finite number > 0"):
        latent.noise_scale(0.0, 0.05)


@settings(max_examples=30, deadline=None)
@given(k=st.integers(1, 30), fraction=st.floats(0, 1), seed=st.integers(0, 99))
def test_replacement_changes_exactly_a_fraction_and_takes_codes(k, fraction, seed):
    memories, codes = normal(k, 3, seed=seed), 100 + normal(40, 3, seed=seed + 1)
    new, gone = latent.replace_memories(
        memories, codes, fraction=fraction, generator=generator(seed)
    )
    assert len(gone) == len(gone.unique()) == round(fraction * k)
    kept = torch.ones(k, dtype=torch.bool)
    kept[gone] = False
    assert torch.equal(new[kept], memories[kept])
    assert all((codes == row).all(1).any() for row in new[gone])
    assert len(new[gone].unique(dim=0)) == len(gone)  # no code twice


def test_idle_memories_go_first():
    counts = torch.tensor([3, 0, 5, 0, 1, 0])
    _, gone = latent.replace_memories(
        normal(6, 2), normal(9, 2), fraction=0.5, counts=counts, generator=generator()
    )
    assert sorted(gone.tolist()) == [1, 3, 5]


def test_replacement_refuses_what_cannot_be():
    with pytest.raises(ValueError, match=r"latents: got 2 codes, expected at least 5"):
        latent.replace_memories(normal(10, 3), normal(2, 3), fraction=0.5)
    with pytest.raises(ValueError, match=r"fraction = 1.5: expected a number in \[0, 1\]"):
        latent.replace_memories(normal(10, 3), normal(20, 3), fraction=1.5)
    with pytest.raises(ValueError, match="expected last dimension 3"):
        latent.replace_memories(normal(10, 3), normal(20, 4))


def test_counts_are_of_the_nearest():
    z, memories = normal(50, 4), normal(6, 4, seed=1)
    counts = latent.memory_counts(z, memories)
    assert counts.sum() == 50
    assert torch.equal(counts, torch.bincount(torch.cdist(z, memories).argmin(1), minlength=6))


# -- sampling -------------------------------------------------------------------------------------


def test_sampling_is_em_8_step_by_step():
    memories, start = normal(5, 6), 10 * normal(3, 6, seed=1)
    walk = latent.sample_latents(memories, start=start, noise=0.0, steps=4, record=True)
    z = start.clone()
    for frame in walk.trajectory.states:
        torch.testing.assert_close(frame, z)
        share = torch.softmax(-30.0 * torch.cdist(z, memories).square(), -1)
        z = z - 0.05 * 2 * (z - share @ memories)
    energy = latent.energy(walk.state, memories, beta_whole=30.0)  # EM 4 of where it ends
    torch.testing.assert_close(walk.energy, energy)


def test_the_winner_of_the_first_step_wins():
    memories = normal(40, 24)
    walk = latent.sample_latents(memories, 300, generator=generator(), record=True)
    first = latent.winners(walk.trajectory.states[0], memories)
    assert torch.equal(latent.winners(walk.state, memories), first)
    away = (walk.state - memories[first]).std()
    assert float(away) == pytest.approx(0.005 / math.sqrt(1 - 0.9**2), rel=0.1)


def test_sampling_wants_a_number_or_a_start():
    with pytest.raises(ValueError, match="n, start: expected exactly one of them"):
        latent.sample_latents(normal(3, 2))
    with pytest.raises(ValueError, match="n = 0: expected a whole number >= 1"):
        latent.sample_latents(normal(3, 2), 0)


# -- the autoencoder ------------------------------------------------------------------------------


def test_codes_lie_on_the_shell():
    z = system().encode(torch.rand(4, 3, 32, 32, generator=generator()))
    assert z.shape == (4, 16)
    torch.testing.assert_close(z.norm(dim=1), torch.full((4,), 4.0), rtol=1e-4, atol=0)


@pytest.mark.parametrize("patch, multipliers", [(1, (1, 2, 2)), (2, (1, 2)), (4, (1,))])
def test_pictures_come_back_in_their_shape(patch, multipliers):
    model = system(patch=patch, multipliers=multipliers, attention=())
    images = torch.randint(0, 256, (3, 3, 32, 32), generator=generator(), dtype=torch.uint8)
    back = model.decode_images(model.encode_images(images, batch_size=2), batch_size=2)
    assert back.dtype == torch.uint8 and back.shape == images.shape
    assert torch.equal(latent.to_pictures(latent.to_pixels(images)), images)


def test_it_works_in_double_precision_and_without_gradient():
    model = system().double()
    x = torch.rand(3, 3, 32, 32, generator=generator(), dtype=DOUBLE)
    with torch.inference_mode():
        energy, error = model(x, beta_whole=0.5)
    assert energy.dtype == error.dtype == DOUBLE and energy.shape == error.shape == (3,)


def test_one_picture_does_not_see_the_others():
    model, x = system(), torch.rand(4, 3, 32, 32, generator=generator())
    torch.testing.assert_close(model.encode(x)[1:2], model.encode(x[1:2]), rtol=1e-4, atol=1e-5)


def test_sizes_of_em_a3_and_table_4():
    """Our reading of Tables 2 and 3; a memory costs 512 numbers, Table 4 says about 1 094."""
    with torch.device("meta"):
        counts = [latent.parameter_counts(latent.LatentMemory(k)) for k in (1536, 4096)]
    assert counts[0]["encoder"] == 35_825_792 and counts[0]["decoder"] == 40_257_920
    assert counts[1]["all"] - counts[0]["all"] == 512 * (4096 - 1536)
    low, high = ((67.4 - 64.6 + s * 0.1) * 1e6 / (4096 - 1536) for s in (-1, 1))
    assert 1054 < low < 1056 and 1132 < high < 1134  # neither 512 nor 2 * 512


def test_a_plan_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="groups = 32: expected a divisor of every level"):
        Shape(width=48, multipliers=(1, 2))
    with pytest.raises(ValueError, match=r"multipliers = \(1, 1, 1, 1, 1\): expected a number of"):
        Shape(width=32, multipliers=(1,) * 5, patch=4)
    with pytest.raises(ValueError, match="n_heads = 3: expected a divisor of the 8 channels"):
        latent.PixelAttention(8, n_heads=3, groups=4)


# -- the coupling ---------------------------------------------------------------------------------


def slopes(stop_gradient, term):
    model = system()
    x = torch.rand(4, 3, 32, 32, generator=generator()) * 2 - 1
    terms = model(x, beta_whole=0.1, stop_gradient=stop_gradient)
    parts = [list(model.encode.parameters()), list(model.decode.parameters()), [model.memories]]
    flat = [p for part in parts for p in part]
    found = iter(torch.autograd.grad(terms[term].mean(), flat, allow_unused=True))
    sizes = [[next(found) for _ in part] for part in parts]
    return [sum(float(s.norm()) for s in part if s is not None) for part in sizes]


def test_stop_gradient_keeps_the_energy_from_the_encoder():
    encoder, decoder, memories = slopes(True, 0)
    assert encoder == decoder == 0 and memories > 0
    encoder, decoder, memories = slopes(True, 1)
    assert encoder > 0 and decoder > 0 and memories == 0


def test_without_it_the_energy_pulls_the_encoder():
    encoder, decoder, memories = slopes(False, 0)
    assert encoder > 0 and decoder == 0 and memories > 0


def test_without_it_a_little_training_pulls_codes_together():
    spread = {}
    for stop in (True, False):
        model = system(memories=4, dim=8)
        optimiser = torch.optim.Adam(model.parameters(), 3e-3)
        x = torch.rand(32, 3, 32, 32, generator=generator()) * 2 - 1
        for _ in range(60):
            energy, error = model(x, beta_whole=1.0, stop_gradient=stop)
            optimiser.zero_grad()
            (energy.mean() + error.mean()).backward()
            optimiser.step()
        z, memories = model.encode(x).detach(), model.memories.detach()
        gap = (z - memories[latent.winners(z, memories)]).square().sum(-1)
        spread[stop] = float(gap.mean())
    assert spread[False] < 0.1 * spread[True]


# -- far away, elsewhere, and wrong ---------------------------------------------------------------


@pytest.mark.parametrize("away", [0.0, 1e3, 1e4])
def test_energy_far_from_the_origin_is_what_it_is_near(away):
    """Offsets that float32 holds exactly: 1e4 and 1e4 + 1 / 1024 are both its numbers."""
    z = (normal(4, 64) * 1024).round() / 1024
    memories = (normal(9, 64, seed=1) * 1024).round() / 1024
    near = latent.energy(z, memories, beta_whole=0.5)
    there = [(x + away).float() for x in (z, memories)]
    assert torch.equal(there[0].double() - away, z)
    found = latent.energy(*there, beta_whole=0.5)
    # 64 squares of size 1, each to 2^-24 of itself and of the centre's rounding at this offset
    torch.testing.assert_close(found.double(), near, atol=64 * 4 * max(away, 1) * 2**-24, rtol=1e-6)


def test_weights_are_a_function_of_the_generator():
    def made(seed):
        torch.manual_seed(99 + seed)  # torch's own numbers do not matter
        return latent.LatentMemory(3, 8, shape=Shape(**SMALL), generator=generator(seed))

    before = torch.random.get_rng_state()
    one, again, other = made(1), made(1), made(2)
    torch.random.set_rng_state(before)
    latent.LatentMemory(3, 8, shape=Shape(**SMALL), generator=generator(1))
    assert torch.equal(torch.random.get_rng_state(), before)
    for (name, a), b in zip(one.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert not torch.equal(one.memories, other.memories)
    assert not torch.equal(one.encode.out.weight, other.encode.out.weight)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no other device here")
def test_a_generator_on_the_cpu_serves_any_device():
    memories = normal(5, 6, dtype=torch.float32)
    walks = [
        latent.sample_latents(memories.to(d), 7, steps=3, generator=generator(1)).state.cpu()
        for d in ("cpu", "cuda")
    ]
    torch.testing.assert_close(*walks)


def test_weights_of_another_kind_are_refused_by_name():
    from amtutor.network import masked_images

    with pytest.raises(ValueError, match=r"name = 'et_completion': expected one of \['latent_cpu'"):
        latent.load("et_completion")
    with pytest.raises(ValueError, match="weights of masked images"):
        masked_images.load("latent_cpu")
    for name in ("../weights/latent_cpu", "nothing", None, 5):
        with pytest.raises(ValueError, match="expected one of"):
            latent.load(name)


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda z, m, x: latent.energy(z, m, beta_whole=0), "beta_whole"),
        (lambda z, m, x: latent.energy(z, m, beta_whole=float("nan")), "beta_whole"),
        (lambda z, m, x: latent.energy(z[:, :2], m, beta_whole=1.0), "z"),
        (lambda z, m, x: latent.energy(z, m[:0], beta_whole=1.0), "memories"),
        (lambda z, m, x: latent.energy(z * torch.nan, m, beta_whole=1.0), "z"),
        (lambda z, m, x: latent.memory_counts(z * torch.nan, m), "z"),
        (lambda z, m, x: latent.coupled_loss(z, x[:1], x, m, beta_whole=1.0), "decoded, x"),
        (lambda z, m, x: latent.coupled_loss(z, x, x, m, beta_whole=-1.0), "beta_whole"),
        (lambda z, m, x: latent.coupled_loss(z[:2], x, x, m, beta_whole=1.0), "decoded, x"),
        (lambda z, m, x: system().encode(x), "x"),
        (lambda z, m, x: system().decode(z), "z"),
        (lambda z, m, x: system().encode_images(x), "images"),
        (lambda z, m, x: latent.LatentMemory(3, 8, shape={"width": 8}), "shape"),
        (lambda z, m, x: Shape(patch=3), "patch"),
        (lambda z, m, x: Shape(groups=0), "groups"),
    ],
)
def test_bad_input_gets_one_line(call, said):
    with pytest.raises((ValueError, TypeError)) as caught:
        call(normal(5, 4), normal(3, 4, seed=1), normal(5, 7, seed=2))
    assert str(caught.value).startswith(said) and "\n" not in str(caught.value)
