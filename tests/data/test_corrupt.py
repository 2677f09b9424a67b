"""Spoiled pictures: exact counts, shapes, devices and clear refusals."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amtutor import data

SHAPE = (4, 6)


def spins(*shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, shape, generator=g).to(torch.float32) * 2 - 1


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.floats(0, 1), st.integers(0, 2**32))
def test_flip_bits_flips_exactly_the_rounded_count_in_every_row(dim, fraction, seed):
    x = spins(2, 3, dim, seed=seed)
    flipped = data.flip_bits(x, fraction, generator=generator(seed))
    assert flipped.shape == x.shape and flipped.dtype == x.dtype
    assert ((flipped != x).sum(dim=-1) == round(fraction * dim)).all()
    assert (flipped.abs() == 1).all()


def test_flip_bits_leaves_its_input_alone_and_repeats_with_the_seed():
    x = spins(5, 30)
    before = x.clone()
    first = data.flip_bits(x, 0.3, generator=generator(7))
    second = data.flip_bits(x, 0.3, generator=generator(7))
    other = data.flip_bits(x, 0.3, generator=generator(8))
    assert torch.equal(x, before) and torch.equal(first, second) and not torch.equal(first, other)
    zero = data.flip_bits(x, 0.0)
    zero[0, 0] = 5
    assert torch.equal(x, before)


def test_flip_bits_hits_every_position_equally_often():
    flips = (data.flip_bits(torch.ones(20_000, 10), 0.3, generator=generator()) < 0).float()
    assert (flips.mean(dim=0) - 0.3).abs().max() < 5 * math.sqrt(0.3 * 0.7 / 20_000)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int8, torch.int64])
def test_flip_bits_keeps_the_dtype(dtype):
    assert data.flip_bits(spins(2, 8).to(dtype), 0.5, generator=generator()).dtype == dtype


@pytest.mark.parametrize(
    ("x", "fraction", "message"),
    [
        (torch.zeros(3), 0.1, "expected entries -1 and"),
        (torch.tensor([1.0, float("nan")]), 0.1, "expected entries -1 and"),
        (torch.ones(3), 1.5, r"fraction = 1\.5: expected a number in \[0, 1\]"),
        (torch.ones(3), -0.1, "fraction = -0.1: expected a number in"),
        (torch.ones(3), float("nan"), "fraction = nan"),
        (torch.ones(3), "half", "fraction = 'half'"),
        (torch.tensor(1.0), 0.1, r"expected shape \(\.\.\., D\)"),
        (np.ones(3), 0.1, r"x: got a ndarray .* expected a tensor"),
    ],
)
def test_flip_bits_refuses_bad_input_in_one_line(x, fraction, message):
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        data.flip_bits(x, fraction)
    assert "\n" not in str(caught.value)


def test_add_noise_has_the_variance_asked_for():
    x = torch.full((400, 300), 0.5, dtype=torch.float64)
    noise = data.add_noise(x, 0.2, generator=generator()) - x
    assert noise.dtype == torch.float64
    assert abs(float(noise.std()) - 0.2) < 0.2 * 5 / math.sqrt(2 * noise.numel())
    assert abs(float(noise.mean())) < 0.2 * 5 / math.sqrt(noise.numel())
    assert torch.equal(data.add_noise(x, 0.0), x)


def test_add_noise_refuses_a_negative_std_and_whole_numbers():
    with pytest.raises(ValueError, match=r"std = -1(.0)?: expected a finite number >= 0"):
        data.add_noise(torch.zeros(2), -1)
    with pytest.raises(TypeError, match="expected a floating-point tensor"):
        data.add_noise(torch.zeros(2, dtype=torch.int64), 0.1)


@pytest.mark.parametrize(
    ("part", "fraction", "rows", "columns"),
    [
        ("top", 0.5, range(2), range(6)),
        ("bottom", 0.5, range(2, 4), range(6)),
        ("bottom", 0.25, range(3, 4), range(6)),
        ("left", 0.5, range(4), range(3)),
        ("right", 1 / 3, range(4), range(4, 6)),
        ("centre", 0.25, range(1, 3), range(1, 4)),
        ("top", 0.0, range(0), range(6)),
        ("right", 1.0, range(4), range(6)),
    ],
)
def test_mask_covers_exactly_the_part_named(part, fraction, rows, columns):
    x = spins(3, 24)
    hidden = torch.zeros(SHAPE, dtype=torch.bool)
    for r in rows:
        for c in columns:
            hidden[r, c] = True
    hidden = hidden.flatten()
    assert torch.equal(data.region(SHAPE, part=part, fraction=fraction), hidden)
    covered = data.mask(x, SHAPE, part=part, fraction=fraction)
    assert (covered[:, hidden] == -1).all() and torch.equal(covered[:, ~hidden], x[:, ~hidden])


def test_mask_paints_paper_or_what_it_is_told():
    assert (data.mask(torch.ones(24).neg(), SHAPE) == -1).all()
    assert (data.mask(torch.ones(24), SHAPE)[12:] == 0).all()
    assert (data.mask(torch.ones(24), SHAPE, fill=0.5)[12:] == 0.5).all()


def test_mask_of_a_colour_picture_covers_every_channel():
    covered = data.mask(torch.ones(2, 3 * 24), (3, 4, 6), part="top").reshape(2, 3, 4, 6)
    assert (covered[:, :, :2] == 0).all() and (covered[:, :, 2:] == 1).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: data.mask(x, (5, 5)), r"shape = \(5, 5\): expected 24 pixels to fit x, got 25"),
        (lambda x: data.mask(x, (24,)), r"shape = \(24,\): expected \(H, W\) or \(C, H, W\)"),
        (lambda x: data.mask(x, (4, 0)), "expected"),
        (lambda x: data.mask(x, SHAPE, part="middle"), "part = 'middle': expected one of 'bottom'"),
        (
            lambda x: data.mask(x, SHAPE, fraction=2),
            r"fraction = 2.0: expected a number in \[0, 1\]",
        ),
        (lambda x: data.blur(x, SHAPE, sigma=0), "sigma = 0.0: expected a finite number > 0"),
        (lambda x: data.shift(x, SHAPE, right=0.5), "right = 0.5: expected a whole number"),
    ],
)
def test_picture_corruptions_refuse_bad_input_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call(torch.ones(2, 24))
    assert "\n" not in str(caught.value)


def test_blur_is_the_gaussian_average_written_out():
    x = torch.randn(2, 24, generator=generator(), dtype=torch.float64)
    sigma, (height, width) = 0.8, SHAPE
    radius = math.ceil(3 * sigma)
    weight = [math.exp(-0.5 * (k / sigma) ** 2) for k in range(-radius, radius + 1)]
    expected = torch.zeros(2, height, width, dtype=torch.float64)
    picture = x.reshape(2, height, width)
    for r in range(height):
        for c in range(width):
            for a, wa in enumerate(weight):
                for b, wb in enumerate(weight):
                    rr = min(max(r + a - radius, 0), height - 1)
                    cc = min(max(c + b - radius, 0), width - 1)
                    expected[:, r, c] += wa * wb * picture[:, rr, cc]
    expected = expected.reshape(2, 24) / sum(weight) ** 2
    assert torch.allclose(data.blur(x, SHAPE, sigma=sigma), expected, atol=1e-12)


def test_blur_keeps_a_constant_and_mirror_symmetry():
    flat = torch.full((3, 24), 0.7)
    assert torch.allclose(data.blur(flat, SHAPE, sigma=2.0), flat, atol=1e-6)
    creature = data.to_spins(data.sprites(1).images)
    blurred = data.blur(creature, (24, 24), sigma=1.5).reshape(24, 24)
    assert torch.allclose(blurred, blurred.flip(-1), atol=1e-6)


def test_shift_moves_pixels_and_lets_paper_in():
    x = torch.arange(24.0).reshape(1, 24)
    moved = data.shift(x, SHAPE, right=2, down=-1, fill=-9).reshape(SHAPE)
    assert torch.equal(moved[:3, 2:], x.reshape(SHAPE)[1:, :4])
    assert (moved[3] == -9).all() and (moved[:, :2] == -9).all()
    assert (data.shift(x, SHAPE, right=60) == 0).all()
    assert torch.equal(data.shift(x, SHAPE), x)


@settings(max_examples=30, deadline=None)
@given(st.integers(-3, 3), st.integers(-5, 5))
def test_shift_there_and_back_restores_what_stayed_inside(down, right):
    x = spins(2, 24)
    back = data.shift(data.shift(x, SHAPE, right=right, down=down), SHAPE, right=-right, down=-down)
    inside = data.shift(torch.ones(24), SHAPE, right=right, down=down, fill=0)
    inside = data.shift(inside, SHAPE, right=-right, down=-down, fill=0) > 0
    assert torch.equal(back[:, inside], x[:, inside])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda x: data.mask(x, SHAPE, part="centre"),
        lambda x: data.blur(x, SHAPE, sigma=1.0),
        lambda x: data.shift(x, SHAPE, right=1),
    ],
)
def test_a_batch_is_spoiled_like_its_rows_one_by_one(spoil):
    x = spins(2, 3, 24)
    x[..., 0] = -1  # so that every row has a spin of each sign and paper means -1
    looped = torch.stack([torch.stack([spoil(row) for row in block]) for block in x])
    assert torch.allclose(spoil(x), looped, atol=1e-7)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_corruptions_stay_on_the_device_with_a_cpu_generator():
    x = spins(2, 24).cuda()
    for y in (
        data.flip_bits(x, 0.2, generator=generator()),
        data.add_noise(x, 0.2, generator=generator()),
        data.mask(x, SHAPE),
        data.blur(x, SHAPE, sigma=1.0),
        data.shift(x, SHAPE, down=1),
    ):
        assert y.device == x.device


def test_to_unit_and_to_spins_know_the_three_kinds_of_pictures():
    bytes_ = np.array([[[0, 127], [128, 255]]], dtype=np.uint8)
    assert data.to_unit(bytes_).tolist()[0] == pytest.approx([0, 127 / 255, 128 / 255, 1])
    assert data.to_spins(bytes_).tolist() == [[-1, -1, 1, 1]]
    bits = np.array([[[0, 1], [1, 0]]], dtype=np.uint8)
    assert data.to_spins(bits).tolist() == [[-1, 1, 1, -1]]
    assert data.to_spins(bits.astype(bool)).tolist() == [[-1, 1, 1, -1]]
    assert data.to_spins(np.array([[0.4, 0.5]])).tolist() == [[-1, 1]]
    assert data.to_spins(np.array([[7, 8]]), high=16).tolist() == [[-1, 1]]
    assert data.to_spins(bits).dtype == data.to_unit(bytes_).dtype == torch.float32


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.array([[0.0, 1.5]]), r"entries run from 0 to 1.5, expected \[0, 1\]"),
        (np.array([[-1.0, 1.0]]), "entries run from -1 to 1"),
        (np.array([[0.0, np.nan]]), "entries run from"),
        (np.array([[0, 300]]), r"expected \[0, 255\]"),
        (np.zeros((0, 2, 2)), "expected \\(N, \\.\\.\\.\\)"),
        (np.zeros(3), "expected \\(N, \\.\\.\\.\\)"),
    ],
)
def test_to_unit_refuses_what_is_no_picture(images, message):
    with pytest.raises(ValueError, match=message):
        data.to_unit(images)


def test_binarise_breaks_ties_upwards_and_refuses_nan():
    assert data.binarise(torch.tensor([-1e-9, 0.0, -0.0, 2.0])).tolist() == [-1, 1, 1, 1]
    with pytest.raises(ValueError, match="1 of 2 entries are NaN"):
        data.binarise(torch.tensor([0.0, float("nan")]))
