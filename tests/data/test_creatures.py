"""The creatures: many, mirrored, named, unlike each other, and the same everywhere."""

import hashlib

import numpy as np
import pytest

from amtutor import data
from amtutor.data import creatures as drawing

N = 200


@pytest.fixture(scope="module")
def flock():
    return data.sprites(N)


def test_two_hundred_creatures_of_one_bit(flock):
    assert flock.images.shape == (N, 24, 24) and flock.images.dtype == np.uint8
    assert set(np.unique(flock.images)) == {0, 1}


def test_every_creature_is_its_own_mirror_image(flock):
    assert (flock.images == flock.images[:, :, ::-1]).all()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_any_two_creatures_differ_in_a_quarter_of_their_pixels(seed):
    flat = data.sprites(N, seed=seed).images.reshape(N, -1).astype(int)
    distance = (flat[:, None] != flat[None]).sum(axis=-1)
    least = distance[~np.eye(N, dtype=bool)].min()
    assert least >= drawing.MIN_DISTANCE == 24 * 24 // 4


def test_ink_is_near_balance(flock):
    ink = flock.images.mean(axis=(1, 2))
    assert ink.min() > 0.35 and ink.max() < 0.57
    assert 0.42 < ink.mean() < 0.50


def test_names_are_unique_and_can_be_said_aloud(flock):
    assert len(set(flock.names)) == N
    for name in flock.names:
        low = name.lower()
        assert name == low.capitalize() and low.isalpha() and low.isascii() and 4 <= len(low) <= 10
        sounds = "".join("v" if c in "aeiou" else "c" for c in low)
        assert "ccc" not in sounds and "vvv" not in sounds


def test_the_seed_gives_the_same_creatures_on_every_machine(flock):
    assert hashlib.sha256(flock.images.tobytes()).hexdigest() == (
        "49021982f78ca9f7852685b69389866948552abceff074722ae8598607ddb44b"
    )
    assert flock.names[:4] == ["Tatulo", "Voodap", "Zoobron", "Braflip"]


def test_the_first_creatures_do_not_depend_on_how_many_are_drawn(flock):
    few = data.sprites(17)
    assert (few.images == flock.images[:17]).all() and few.names == flock.names[:17]


def test_another_seed_draws_others(flock):
    assert (data.sprites(5, seed=1).images != flock.images[:5]).any(axis=(1, 2)).all()


def test_what_is_returned_may_be_changed_without_harm():
    first = data.sprites(2)
    first.images[:] = 7
    first.names.clear()
    again = data.sprites(2)
    assert again.images.max() == 1 and len(again.names) == 2


def test_every_species_has_a_face_of_both_colours():
    for species in drawing.SPECIES:
        for seed in range(20):
            picture = drawing.draw(drawing.Dice(seed), species)
            assert picture.shape == (24, 24) and 0.15 < picture.mean() < 0.85, (species, seed)


def test_dice_follow_the_published_splitmix64_sequence():
    dice = drawing.Dice(1234567)
    assert [dice.bits() for _ in range(3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


@pytest.mark.parametrize("n", [0, -1, 2.5, True, "many"])
def test_sprites_refuses_what_is_no_count(n):
    with pytest.raises(ValueError, match="n = .*: expected a whole number >= 1"):
        data.sprites(n)


def test_sprites_says_when_no_unlike_creature_is_left(monkeypatch):
    monkeypatch.setattr(drawing, "MIN_DISTANCE", 400)
    with pytest.raises(ValueError, match=r"n = 5: expected at most \d creatures of seed 987"):
        data.sprites(5, seed=987)
