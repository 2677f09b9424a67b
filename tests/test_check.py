"""The checks themselves: every kind of wrong value gets one short line, right ones pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from amtutor import _check, _draw

NUMBERS = [
    "2",
    "x",
    None,
    True,
    {},
    [1.0],
    np.array([1.0, 2.0]),
    torch.tensor([1.0, 2.0]),
    torch.empty(1, device="meta"),
    float("nan"),
    float("inf"),
    10**400,
    1j,
    object(),
]
COUNTS = [*NUMBERS, 2.0, 2.5, torch.tensor(2.5), np.float64(2.0), np.array([3]), -1, 2**60]


def label(value: object) -> str:
    """A name for a case that is the same in every process, as pytest-xdist wants."""
    shown = _check.shown(value)
    return type(value).__name__ if " at 0x" in shown else shown[:30]


def one_line(error: Exception, name: str) -> None:
    said = str(error)
    assert "\n" not in said and len(said) < 240, said
    assert said.startswith(name) and "expected" in said, said


@pytest.mark.parametrize("value", [*NUMBERS, 0, 0.0, -1], ids=label)
def test_positive_refuses(value):
    with pytest.raises((ValueError, TypeError)) as caught:
        _check.positive("beta", value)
    one_line(caught.value, "beta")


@pytest.mark.parametrize("value", [*NUMBERS, -1e-9], ids=label)
@pytest.mark.parametrize("check", [_check.non_negative, lambda n, v: _check.between(n, v, 0, 1)])
def test_ranges_refuse(check, value):
    with pytest.raises((ValueError, TypeError)) as caught:
        check("fraction", value)
    one_line(caught.value, "fraction")


@pytest.mark.parametrize("value", COUNTS, ids=label)
def test_count_refuses(value):
    with pytest.raises(ValueError) as caught:
        _check.count("steps", value, least=0)
    one_line(caught.value, "steps")


@pytest.mark.parametrize("one", [3, np.int64(3), torch.tensor(3), np.array(3)])
def test_whole_numbers_of_any_make_are_counts(one):
    found = _check.count("n", one)
    assert found == 3 and type(found) is int


@pytest.mark.parametrize("one", [2, 2.0, np.float32(2), np.array(2.0), torch.tensor(2)])
def test_numbers_of_any_make_are_numbers(one):
    assert float(_check.positive("beta", one)) == 2.0
    assert type(_check.non_negative("beta", one)) is float


def test_a_learned_number_stays_a_tensor():
    beta = torch.tensor(2.0, requires_grad=True)
    assert _check.positive("beta", beta) is beta


def test_between_names_its_ends():
    assert _check.between("mix", 0.5, 0, 1, ends="()") == 0.5
    for value in (0, 1):
        with pytest.raises(ValueError, match=r"mix = .*expected a number in \(0, 1\)"):
            _check.between("mix", value, 0, 1, ends="()")


@pytest.mark.parametrize("value", ["no", None, np.array(["a", "b"]), torch.zeros(2), True, 1.5, []])
def test_choice_refuses(value):
    with pytest.raises(ValueError) as caught:
        _check.choice("rule", value, ("exact", 1, "gradient"))
    one_line(caught.value, "rule")


def test_choice_knows_true_from_one():
    assert _check.choice("x", True, (False, True)) is True
    assert _check.choice("x", 1, (1, 2)) == 1


BAD_TENSORS = [
    None,
    "x",
    [1.0],
    np.zeros((2, 3)),
    torch.zeros(2, 3, dtype=torch.int64),
    torch.zeros(2, 3, device="meta"),
    torch.eye(3).to_sparse(),
    torch.zeros(2, dtype=torch.complex64),
]


@pytest.mark.parametrize("value", BAD_TENSORS, ids=lambda v: type(v).__name__)
def test_floating_refuses(value):
    with pytest.raises(TypeError) as caught:
        _check.floating("x", value)
    one_line(caught.value, "x")


def test_finite_counts_what_is_wrong():
    with pytest.raises(ValueError, match="2 of 3 entries are NaN or infinite"):
        _check.finite("x", torch.tensor([1.0, float("nan"), float("-inf")]))
    with pytest.raises(TypeError, match="x: got a .*meta"):
        _check.finite("x", torch.zeros(2, device="meta"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_one_entry_that_is_no_number_is_enough(value):
    """Each kind by itself: a NaN among them would betray an infinity that nobody looks for."""
    with pytest.raises(ValueError, match="1 of 3 entries are NaN or infinite"):
        _check.finite("x", torch.tensor([1.0, value, -1.0]))


@pytest.mark.parametrize("wanted", [(2,), (2, 4), ("B", 3, 1), (3, 3)])
def test_shape_refuses(wanted):
    with pytest.raises(ValueError) as caught:
        _check.shape("x", torch.zeros(2, 3), wanted)
    one_line(caught.value, "x")
    assert _check.shape("x", torch.zeros(2, 3), (None, "D")) is not None


def test_masks():
    x = torch.zeros(2, 3)
    assert _check.mask("clamp", torch.tensor([True, False, True]), x).shape == (2, 3)
    for bad in (torch.ones(2), "x", [True, False, True], torch.ones(2, dtype=torch.bool)):
        with pytest.raises((TypeError, ValueError)) as caught:
            _check.mask("clamp", bad, x)
        one_line(caught.value, "clamp")


@pytest.mark.parametrize("value", [5, "x", np.random.default_rng(0), torch.zeros(1)])
def test_generators(value):
    with pytest.raises(TypeError) as caught:
        _draw.normal((2,), generator=value)
    one_line(caught.value, "generator")


@pytest.mark.parametrize("value", ["nope", "", "CPU!", "meta", 5.5, None, "cuda:99"])
def test_devices(value):
    with pytest.raises(ValueError) as caught:
        _check.device("device", value)
    one_line(caught.value, "device")
    assert _check.device("device", "cpu") == torch.device("cpu")


def test_nothing_is_shown_on_more_than_one_line():
    assert "\n" not in _check.describe(np.zeros((50, 50)))
    assert "(50, 50)" in _check.describe(np.zeros((50, 50)))
    assert "\n" not in _check.shown("a\nb" * 100) and len(_check.shown("ab" * 100)) < 100


def test_one_generator_serves_every_device():
    g = torch.Generator().manual_seed(3)
    h = torch.Generator().manual_seed(3)
    assert torch.equal(_draw.normal((4,), generator=g), torch.randn(4, generator=h))
    assert torch.equal(_draw.uniform((4,), generator=g), torch.rand(4, generator=h))
    assert torch.equal(_draw.integers(9, (4,), generator=g), torch.randint(9, (4,), generator=h))
    assert torch.equal(_draw.permutation(9, generator=g), torch.randperm(9, generator=h))
    assert _draw.normal((4,), generator=g, device="meta").device.type == "meta"
