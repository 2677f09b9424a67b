"""Numbers reach the prose as a reader should see them."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from amtutor import show
from amtutor.show.glue import number_text


@pytest.fixture
def shown(monkeypatch):
    calls = []
    module = sys.modules["amtutor.show.glue"]
    monkeypatch.setattr(module, "display", lambda data, **options: calls.append((data, options)))
    return calls


def test_glue_shows_name_and_value(shown):
    assert show.glue("capacity_2", 0.13812) is None
    show.glue("share", "62 %")
    assert shown == [
        (
            {
                "application/vnd.amtutor.glue+json": {"name": "capacity_2", "value": "0.1381"},
                "text/plain": "capacity_2 = 0.1381",
            },
            {"raw": True},
        ),
        (
            {
                "application/vnd.amtutor.glue+json": {"name": "share", "value": "62 %"},
                "text/plain": "share = 62 %",
            },
            {"raw": True},
        ),
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0, "0"),
        (-0.0, "0"),
        (3, "3"),
        (-12, "−12"),
        (9999, "9999"),
        (-60000, "−60\xa0000"),
        (123456789, "123\xa0456\xa0789"),
        (0.138, "0.138"),
        (0.13816, "0.1382"),
        (2.0, "2"),
        (99.999, "100"),
        (-1.5, "−1.5"),
        (12345.6, "12\xa0350"),
        (999950.0, "1 × 10⁶"),
        (1.2345e8, "1.234 × 10⁸"),
        (0.00012345, "0.0001234"),
        (-2.5e-7, "−2.5 × 10⁻⁷"),
        (np.float32(0.5), "0.5"),
        (np.int64(7), "7"),
        (torch.tensor(0.25), "0.25"),
        ("as it is, -1", "as it is, -1"),
    ],
)
def test_numbers_as_text(value, text):
    assert number_text(value) == text


def test_fewer_digits():
    assert [number_text(0.02468, digits=k) for k in (1, 2, 3, 4)] == [
        "0.02",
        "0.025",
        "0.0247",
        "0.02468",
    ]
    assert number_text(1234.5, digits=1) == "1000"
    assert number_text(3.2e-6, digits=1) == "3 × 10⁻⁶"
    assert number_text(1234, digits=1) == "1234"  # whole numbers stay whole
    with pytest.raises(ValueError, match="digits = 5: expected one of 1, 2, 3, 4"):
        show.glue("x", 1.0, digits=5)


@given(st.floats(1e-300, 1e300) | st.floats(-1e300, -1e-300))
def test_the_text_is_right_to_four_digits(x):
    text = number_text(x)
    plain = (
        text.replace("−", "-")
        .replace("\xa0", "")
        .translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))
    )
    mantissa, _, power = plain.partition(" × 10")
    assert float(f"{mantissa}e{power or 0}") == pytest.approx(x, rel=5.001e-4)
    assert len(mantissa.lstrip("-0.").replace(".", "").rstrip("0")) <= 4


@pytest.mark.parametrize("value", [True, None, [1.0], 1j, torch.ones(2)])
def test_only_text_and_numbers(value):
    with pytest.raises(TypeError, match="value = .*: expected text or one real number"):
        show.glue("x", value)


@pytest.mark.parametrize("value", [math.nan, math.inf, torch.tensor(-math.inf)])
def test_no_result_is_infinite(value):
    with pytest.raises(ValueError, match="expected a finite number"):
        show.glue("x", value)


@pytest.mark.parametrize("name", ["", "two words", "3rd", "a`b", None, "a.b"])
def test_names_are_plain_words(name):
    with pytest.raises(ValueError, match="expected letters, digits, - and _, a letter first"):
        show.glue(name, 1)
