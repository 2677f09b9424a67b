"""Sliders are made from plain values, and errors are never swallowed."""

from __future__ import annotations

import ipywidgets as ipw
import matplotlib.pyplot as plt
import pytest

from amtutor import show
from amtutor.show import widgets


@pytest.fixture
def live(monkeypatch):
    monkeypatch.delenv("AMTUTOR_STATIC", raising=False)
    shown = []
    monkeypatch.setattr(widgets, "display", shown.append)
    return shown


@pytest.fixture
def static(monkeypatch):
    monkeypatch.setenv("AMTUTOR_STATIC", "1")


def test_static_is_the_picture_at_the_defaults_and_nothing_else(static, monkeypatch):
    monkeypatch.setattr(ipw.Widget, "__init__", lambda *a, **k: pytest.fail("a widget was made"))
    picture = object()
    calls = []

    def draw(**values):
        calls.append(values)
        return picture

    result = show.explore(
        draw, beta=(0.0, 8.0, 0.5), K=(1, 200, 1, 12), n=[2, 3, 4], rule=(["a", "b"], "b"), on=True
    )
    assert result is picture
    assert calls == [{"beta": 4.0, "K": 12, "n": 2, "rule": "b", "on": True}]


def test_static_returns_the_figure_left_in_pyplot(static):
    made = []
    result = show.explore(lambda k: made.append(plt.subplots()[0]), k=(0, 4, 1))
    assert result is made[0]
    plt.close(result)


def test_live_sliders_carry_ranges_and_wait_for_the_hand_to_rest(live):
    box = show.explore(
        lambda **values: values, beta_step=(0.0, 1.0, 0.25, 0.75), K=(1, 9, 2), n=[2, 3], on=False
    )
    beta, k, n, on, picture = box.children
    assert [type(w).__name__ for w in box.children] == [
        "FloatSlider", "IntSlider", "Dropdown", "Checkbox", "Output",
    ]  # fmt: skip
    assert (beta.min, beta.max, beta.step, beta.value) == (0, 1, 0.25, 0.75)
    assert (k.min, k.max, k.step, k.value) == (1, 9, 2, 5)
    assert not beta.continuous_update and not k.continuous_update
    assert beta.description == "beta step"
    assert (n.options, n.value, on.value) == ((2, 3), 2, False)
    assert isinstance(picture, ipw.Output)
    assert live == [{"beta_step": 0.75, "K": 5, "n": 2, "on": False}]


def test_turning_a_slider_draws_again(live):
    box = show.explore(lambda k, n: (k, n), k=(0, 10, 1), n=["x", "y"])
    box.children[0].value = 7
    box.children[1].value = "y"
    assert live == [(5, "x"), (7, "x"), (7, "y")]


def test_errors_of_draw_are_never_swallowed(live):
    def draw(k):
        if k in (5, 7):
            raise ArithmeticError(f"cannot draw {k}")
        return k

    with pytest.raises(ArithmeticError, match="cannot draw 5"):
        show.explore(draw, k=(0, 10, 1))
    box = show.explore(draw, k=(0, 10, 1, 1))
    with pytest.raises(ArithmeticError, match="cannot draw 7"):
        box.children[0].value = 7
    box.children[0].value = 3
    assert live == [1, 3]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ((1, 2), r"k = \(1, 2\): expected \(low, high, step\[, default\]\), a list"),
        ([], r"k = \[\]: expected"),
        ("abc", r"k = 'abc': expected"),
        (3, r"k = 3: expected"),
        ((3, 1, 1), r"k = \(3, 1, 1\): expected low < high and step > 0"),
        ((1, 3, 0), r"expected low < high and step > 0"),
        ((1, 3, 1, 9), r"expected a default between low and high"),
        ((1, 3, "a"), r"expected numbers in \(low, high, step\[, default\]\)"),
        ((1, 3, True), r"expected numbers in"),
        ((["a", "b"], "c"), r"k = 'c': expected one of 'a', 'b'"),
    ],
)
def test_bad_controls_are_one_clear_line(static, spec, message):
    with pytest.raises(ValueError, match=message):
        show.explore(lambda k: k, k=spec)
