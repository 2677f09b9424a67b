"""Laws of patches, masks and the models that complete pictures."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amtutor import _weights, data, fast
from amtutor.network import inpainting
from amtutor.network.energy_transformer import EnergyTransformerBlock
from amtutor.network.masked_images import (
    MaskedImageModel,
    PlainTransformer,
    build,
    hide_patches,
    load,
    to_patches,
    to_pictures,
    wave_positions,
)

DOUBLE = torch.float64
HALF = torch.arange(16) % 2 == 0
SIZES = {"dim": 8, "n_heads": 1, "head_dim": 4, "n_memories": 2}


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def small():
    size = {"image_size": 12, "patch_size": 3, "generator": rng()}
    model = MaskedImageModel(dim=10, n_heads=2, head_dim=5, n_memories=7, descent_steps=3, **size)
    return model.double().requires_grad_(False)


@pytest.fixture
def plain():
    torch.manual_seed(0)
    model = PlainTransformer(dim=10, n_heads=2, hidden=12, depth=2, image_size=12, patch_size=3)
    return model.double().requires_grad_(False)


def pictures(n=4, size=12, seed=1):
    return torch.rand(n, 3, size, size, generator=rng(seed), dtype=DOUBLE)


# -- patches and masks ---------------------------------------------------------------------------


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 4), st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_patches_and_back(p, side, channels, batch):
    shape = (2,) * (batch > 0) + (channels, p * side, p * side)
    images = torch.rand(shape, generator=rng(p))
    patches = to_patches(images, p)
    assert patches.shape == (*shape[:-3], side**2, channels * p * p)
    assert torch.equal(to_pictures(patches, p, channels=channels), images)


def test_a_patch_is_a_square_of_the_picture():
    image = torch.rand(3, 32, 32)
    patch = to_patches(image, 4)[8 * 2 + 5].reshape(3, 4, 4)  # third row, sixth column
    assert torch.equal(patch, image[:, 8:12, 20:24])


@given(st.floats(0, 1), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_each_picture_has_its_share_hidden(fraction, n):
    hidden = hide_patches(n, 64, fraction, generator=rng())
    assert hidden.dtype == torch.bool and (hidden.sum(1) == int(64 * fraction)).all()


def test_masks_are_uniform():
    share = hide_patches(20_000, 16, 0.5, generator=rng()).double().mean(0)
    assert (share - 0.5).abs().max() < 0.02  # five standard deviations


def test_one_fraction_for_each_picture():
    hidden = hide_patches(3, 64, torch.tensor([0.25, 0.5, 0.75]), generator=rng())
    assert hidden.sum(1).tolist() == [16, 32, 48]


def test_places_are_all_different():
    places = wave_positions(8, 24)
    apart = torch.cdist(places, places) + 9 * torch.eye(64)
    assert places.shape == (64, 24) and apart.min() > 0.1


# -- models --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["small", "plain"])
def test_hidden_pixels_are_never_looked_at(kind, request):
    model, images = request.getfixturevalue(kind), pictures()
    hidden = hide_patches(4, 16, 0.5, generator=rng(2))
    spoilt = to_patches(images, 3).masked_fill(hidden[..., None], torch.nan)
    spoilt = to_pictures(spoilt, 3)
    assert torch.equal(model(images, hidden), model(spoilt, hidden))
    filled = model.complete(spoilt, hidden)
    assert filled.isfinite().all() and filled.min() >= 0 and filled.max() <= 1
    kept = ~hidden[..., None].expand(-1, -1, 27)
    assert torch.equal(to_patches(filled, 3)[kept], to_patches(images, 3)[kept])


def test_slopes_do_not_see_hidden_pixels_either(small):
    """Not even if those are no numbers: zero times NaN would be NaN in every slope."""
    images, hidden = pictures(), HALF.expand(4, 16)
    spoilt = to_pictures(to_patches(images, 3).masked_fill(HALF[:, None], torch.nan), 3)
    weight = small.encoder.weight.requires_grad_()
    slopes = [
        torch.autograd.grad(small(x, hidden).square().mean(), weight)[0] for x in (images, spoilt)
    ]
    assert slopes[0].abs().max() > 0 and torch.equal(*slopes)


def test_what_is_filled_in_stays_between_black_and_white(small):
    """However far beyond both a model's guess lies."""
    images, hidden = pictures(), HALF.expand(4, 16)
    guess = torch.linspace(-3, 4, 27, dtype=DOUBLE).expand(4, 16, 27)
    filled = to_patches(small.fill(images, hidden, guess), 3)
    assert torch.equal(filled[:, ~HALF], to_patches(images, 3)[:, ~HALF])
    assert torch.equal(filled[:, HALF], guess[:, HALF].clamp(0, 1))


@pytest.mark.parametrize("kind", ["small", "plain"])
def test_batch_is_loop(kind, request):
    model, images = request.getfixturevalue(kind), pictures()
    hidden = hide_patches(4, 16, 0.5, generator=rng(2))
    together = model.complete(images, hidden)
    alone = torch.stack([model.complete(x, h) for x, h in zip(images, hidden, strict=True)])
    assert (together - alone).abs().max() < 1e-12
    assert torch.equal(model.complete(images, hidden[0])[0], together[0])  # one mask for all


def test_tokens_know_no_order(small):
    images, hidden = pictures(), hide_patches(4, 16, 0.5, generator=rng(2))
    order = torch.randperm(16, generator=rng(3))
    x = small.embed(images, hidden)
    assert (small.move(x)[:, order] - small.move(x[:, order])).abs().max() < 1e-10


def test_walk_is_the_move_and_the_energy_falls(small):
    images, hidden = pictures(), hide_patches(4, 16, 0.5, generator=rng(2))
    down = small.walk(images, hidden, steps=3)
    walk, frames = down.trajectory, small.frames(images, hidden, down.trajectory.states)
    assert walk.states.shape == (4, 4, 16, 10) and walk.energies.shape == (4, 4)
    assert torch.equal(walk.states[-1], down.state)
    assert torch.equal(down.state, small.move(small.embed(images, hidden)))
    assert torch.equal(frames[-1], small.complete(images, hidden))
    assert (walk.energies.diff(dim=0) < 0).all()
    normalised = small.normalised(walk.states[1])
    assert torch.allclose(small.block.energy(normalised), walk.energies[1])


def test_several_blocks_walk_one_after_the_other():
    size = {"image_size": 12, "patch_size": 3, "generator": rng()}
    model = MaskedImageModel(
        dim=10, n_heads=2, head_dim=5, n_memories=7, descent_steps=2, depth=3, **size
    )
    images, hidden = pictures().float(), hide_patches(4, 16, 0.5, generator=rng(2))
    down = model.walk(images, hidden)
    assert len(down.trajectory.states) == len(down.trajectory.energies) == 7
    assert (down.steps_taken == 6).all()
    assert torch.allclose(down.state, model.move(model.embed(images, hidden)))
    assert not torch.equal(model.blocks[0].hopfield.memories, model.blocks[1].hopfield.memories)


def test_the_fast_twin_is_the_same_model(small):
    small = small.float().requires_grad_(True)
    images, hidden = pictures().float(), hide_patches(4, 16, 0.5, generator=rng(2))
    gradients = []
    for small.walk_by in (EnergyTransformerBlock.__call__, fast.walk):
        loss = small(images, hidden).square().mean()
        gradients.append(torch.autograd.grad(loss, [*small.parameters()]))
    for slow, quick in zip(*gradients, strict=True):
        assert (slow - quick).abs().max() <= 1e-4 * slow.abs().max() + 1e-7


def test_at_first_keys_are_nearly_queries_and_the_decoder_undoes_the_encoder(small):
    attention = small.block.attention
    assert (attention.W_query - attention.W_key).abs().max() < 0.2
    wide = MaskedImageModel(dim=64, n_heads=2, head_dim=5, n_memories=7, generator=rng())
    product = wide.decoder.weight @ wide.encoder.weight
    assert (product - torch.eye(48)).abs().max() < 1e-5


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda m: m(pictures(), torch.zeros(4, 16)), "hidden: got a float32 tensor"),
        (lambda m: m(pictures(), torch.zeros(4, 9, dtype=torch.bool)), r"expected a bool .* 16\)"),
        (lambda m: m(pictures(size=15), torch.zeros(4, 25, dtype=torch.bool)), "images: got 25"),
        (lambda m: m(pictures().mul(255).byte(), torch.zeros(4, 16).bool()), "floating-point"),
        (lambda m: to_patches(pictures(), 5), "sides that are multiples of 5"),
        (lambda m: to_pictures(torch.zeros(5, 27), 3), "with N a square"),
        (lambda m: hide_patches(2, 16, 1.5), "fraction = 1.5"),
        (
            lambda m: MaskedImageModel(dim=8, n_heads=1, head_dim=4, n_memories=2, patch_size=5),
            "a divi",
        ),
        (lambda m: PlainTransformer(dim=9, n_heads=2, hidden=4), "n_heads = 2: expected a divisor"),
        (lambda m: m.complete(255 * pictures(), HALF), "images: seen pixels go from .*to_unit"),
        (lambda m: m.walk(255 * pictures(), HALF), "images: seen pixels go from"),
        (lambda m: m.embed(255 * pictures(), HALF), "images: seen pixels go from"),
        (lambda m: m.walk(pictures(), HALF, steps=-1), "steps = -1: expected a whole number >= 0"),
        (lambda m: m.walk(pictures(), HALF, callback=3), r"callback: got a int 3, expected f\("),
        (lambda m: hide_patches(2, 4, -0.1), r"fraction = -0.1: expected a number in \[0, 1\]"),
        (lambda m: hide_patches(2, 4, 1.1), r"fraction = 1.1: expected a number in \[0, 1\]"),
        (lambda m: hide_patches(2, 4, torch.tensor([0.5, 2.0])), "fraction: got a"),
        (lambda m: MaskedImageModel(**SIZES, patch_size=0), "patch_size = 0"),
        (lambda m: MaskedImageModel(**SIZES, channels=0), "channels = 0"),
        (lambda m: PlainTransformer(dim=8, n_heads=2, hidden=0), "hidden = 0"),
        (lambda m: build({"core": "energy"}), "config: got no dim, n_heads"),
        (lambda m: load("nothing"), "name = 'nothing': expected one of"),
        (lambda m: build({"core": "what"}), "core = 'what'"),
    ],
)
def test_bad_input(small, call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call(small)


# -- what ships ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["et-completion", "transformer-completion"])
def test_shipped_model_is_what_its_card_says(name):
    model = load(name)
    card, folder = model.card, Path(_weights.__file__).parent / "weights"
    path = folder / f"{name.replace('-', '_')}.safetensors"
    assert path.stat().st_size <= 8_000_000
    assert hashlib.sha256(path.read_bytes()).hexdigest() == card["sha256"]
    assert card["licence"] == "MIT" and len(card["data_sha256"]) == 64
    assert sum(p.numel() for p in model.parameters()) == card["parameters"]
    assert not model.training and not any(p.requires_grad for p in model.parameters())


def test_both_shipped_models_are_of_equal_size_and_saw_the_same():
    energy, plain = load("et-completion").card, load("transformer-completion").card
    assert abs(energy["parameters"] / plain["parameters"] - 1) < 0.01
    for key in ("steps", "batch_size", "fractions", "held_out"):
        assert energy["config"][key] == plain["config"][key]
    assert energy["data_sha256"] == plain["data_sha256"]


def test_shipped_model_completes_photographs_it_has_not_seen():
    """On pictures that always are at hand, and are not of CIFAR-10."""
    model, images = load(), torch.from_numpy(data.photos()).float() / 255
    hidden = hide_patches(len(images), 64, 0.5, generator=rng(1))

    def error(filled):
        return (filled - images).square().sum() / hidden.sum()

    walk = model.walk(images, hidden).trajectory
    assert (walk.energies.diff(dim=0) < 0).all()
    assert error(model.complete(images, hidden)) < 0.6 * error(inpainting.mean_fill(images, hidden))


def test_safetensors_are_read_as_their_library_reads_them(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    given = {
        "a": torch.randn(3, 2),
        "b": torch.arange(5),
        "c": torch.randn(4).half(),
        "empty": torch.zeros(0, 3),
        "flag": torch.tensor([True, False, True]),
        "odd": torch.tensor(2.5, dtype=DOUBLE),
    }
    safetensors.save_file(given, tmp_path / "x.safetensors", metadata={"made": "here"})
    found = _weights.read_safetensors(tmp_path / "x.safetensors")
    assert found.keys() == given.keys()
    for name, value in given.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value)


@pytest.mark.parametrize("cut", [0, 4, 40, -1])
def test_a_cut_or_foreign_file_is_refused(tmp_path, cut):
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    whole = struct.pack("<Q", len(header)) + header + bytes(8)
    path = tmp_path / "x.safetensors"
    path.write_bytes(whole)
    assert torch.equal(_weights.read_safetensors(path)["a"], torch.zeros(2))
    path.write_bytes(whole[:cut])
    with pytest.raises(ValueError, match="expected a safetensors file"):
        _weights.read_safetensors(path)


# -- fills that learn nothing --------------------------------------------------------------------


def test_fills_leave_seen_pixels_and_never_look_at_hidden_ones():
    images = pictures(3, size=12).float()
    hidden = hide_patches(3, 9, 0.4, generator=rng(4))
    mask = inpainting.pixel_mask(hidden, 4).unsqueeze(1).expand_as(images)
    fills = [inpainting.mean_fill, inpainting.linear_fill]
    try:
        import skimage  # noqa: F401

        fills.append(inpainting.biharmonic_fill)
    except ImportError:
        pass
    for fill in fills:
        filled = fill(images, hidden)
        assert torch.equal(filled[~mask], images[~mask])
        other = fill(torch.where(mask, torch.rand_like(images), images), hidden)
        assert (filled - other).abs().max() < 1e-5
        assert filled.min() >= -1e-6 and filled.max() <= 1 + 1e-6


def test_mean_and_linear_fill_give_known_answers():
    ramp = torch.linspace(0, 1, 12).expand(1, 3, 12, 12)
    middle = torch.zeros(1, 9, dtype=torch.bool)
    middle[0, 4] = True
    assert (inpainting.linear_fill(ramp, middle) - ramp).abs().max() < 1e-5
    filled = inpainting.mean_fill(ramp, middle)[0, :, 4:8, 4:8]
    seen = (ramp.sum() - ramp[..., 4:8, 4:8].sum()) / (3 * 128)
    assert (filled - seen).abs().max() < 1e-6
    nothing = torch.zeros(1, 9, dtype=torch.bool)
    assert torch.equal(inpainting.linear_fill(ramp, nothing), ramp)


def test_photos_are_always_at_hand():
    photos = data.photos()
    assert photos.shape == (30, 3, 32, 32) and photos.dtype.name == "uint8"
    assert 80 < photos.mean() < 140 and photos.reshape(30, -1).std(1).min() > 2


def test_pixels_that_are_hidden_may_be_anything(small):
    images, hidden = pictures(), HALF.expand(4, 16)
    spoiled = to_pictures(
        to_patches(images, 3).masked_fill(hidden[..., None], 255.0), 3, channels=images.shape[1]
    )
    assert torch.equal(small.complete(images, hidden), small.complete(spoiled, hidden))


def test_no_step_is_no_step(small):
    images = pictures()
    down = small.walk(images, HALF, steps=0)
    assert torch.equal(down.state, small.embed(images, HALF)) and (down.steps_taken == 0).all()


def test_walk_calls_back_once_for_every_step_of_every_block():
    model = MaskedImageModel(
        **SIZES, descent_steps=2, depth=3, image_size=12, patch_size=3
    ).double()
    seen = []
    down = model.walk(pictures(), HALF, callback=lambda t, x: seen.append((t, x)))
    assert [t for t, _ in seen] == list(range(7))
    assert torch.equal(torch.stack([x for _, x in seen]), down.trajectory.states)


@pytest.mark.parametrize(
    "make",
    [
        lambda g: PlainTransformer(dim=8, n_heads=2, hidden=6, depth=2, image_size=8, generator=g),
        lambda g: MaskedImageModel(**SIZES, depth=2, image_size=8, generator=g),
    ],
)
def test_weights_are_a_function_of_the_generator(make):
    states = []
    for seed, noise in ((3, 0), (3, 1), (4, 0)):
        torch.manual_seed(noise)
        states.append(make(rng(seed)).state_dict())
    assert all(torch.equal(v, states[1][k]) for k, v in states[0].items())
    drawn = [k for k, v in states[0].items() if not torch.equal(v, states[2][k])]
    assert any("blocks.1" in k for k in drawn)


@pytest.mark.parametrize("fill", [inpainting.linear_fill, inpainting.biharmonic_fill])
def test_fills_need_something_to_go_by(fill):
    images, hidden = torch.rand(2, 3, 8, 8), torch.zeros(2, 4, dtype=torch.bool)
    hidden[1] = True
    with pytest.raises(ValueError, match="hidden: all of picture 1 is hidden"):
        fill(images, hidden)
    with pytest.raises(ValueError, match="images: got a float32 tensor"):
        fill(images[:1], hidden)
    with pytest.raises(TypeError, match="hidden: got a float32 tensor"):
        fill(images, hidden.float())


def test_one_pixel_is_enough_for_the_nearest():
    images = torch.rand(1, 3, 4, 4)
    hidden = torch.arange(16)[None] != 5
    filled = inpainting.linear_fill(images, hidden, patch_size=1)
    assert torch.equal(filled, images[..., 1:2, 1:2].expand_as(images))
