"""Sliders are made from plain values, and errors are never swallowed."""

from __future__ import annotations

import ast
import os

import ipywidgets as ipw
import matplotlib.pyplot as plt
import nbformat
import pytest

import kernels
from amtutor import show
from amtutor.show import widgets

WIDGET = "application/vnd.jupyter.widget-view+json"


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
    assert result is made[0] and plt.get_fignums() == []


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


@pytest.mark.parametrize("low, high, step", [(0, 9, 2), (1, 12, 4), (0.0, 1.0, 0.3), (-1, 1, 0.15)])
def test_a_slider_starts_on_a_step_of_its_own_next_to_the_middle(low, high, step):
    start = widgets._parse("k", (low, high, step))["value"]
    assert (start - low) / step == pytest.approx(round((start - low) / step), abs=1e-9)
    assert abs(start - (low + high) / 2) <= step / 2 + 1e-9


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


# ------------------------------------------------------------------------ in a kernel, with a hand

DRAWS = """
import matplotlib, os
matplotlib.use({backend!r})
import matplotlib.pyplot as plt
from IPython.display import Markdown
from amtutor import show
{style}
def figure(n):
    fig, ax = plt.subplots(); ax.plot([0, 1, n]); return fig
def axes(n):
    fig, ax = plt.subplots(); ax.plot([0, 1, n]); return ax
def many_axes(n):
    fig, axes = plt.subplots(1, 2); axes[0].plot([0, 1, n]); return axes
def lines(n):
    plt.figure(); return plt.plot([0, 1, n])
def nothing_returned(n):
    plt.plot([0, 1, n])
def shown(n):
    plt.plot([0, 1, n]); plt.show()
def shown_and_returned(n):
    fig, ax = plt.subplots(); ax.plot([0, 1, n]); plt.show(); return None
def nothing(n):
    n + 1
def words(n):
    return Markdown(f"n is {{n}}")
def printed(n):
    print("n is", n)
""".strip()
PICTURES = [
    "figure", "axes", "many_axes", "lines", "nothing_returned", "shown", "shown_and_returned"
]  # fmt: skip
KERNELS = {
    "inline, book's style": ("module://matplotlib_inline.backend_inline", "show.use_style()"),
    "inline, no style": ("module://matplotlib_inline.backend_inline", ""),
    "agg": ("agg", ""),
}


def run(*cells: str, **environment: str) -> nbformat.NotebookNode:
    """Execute the cells in a fresh kernel."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    env = {**os.environ, "AMTUTOR_STATIC": "0", **environment}
    client = kernels.Client(notebook, timeout=120, kernel_name="python3", store_widget_state=True)
    client.execute(env=env)
    return notebook


def shown_in(outputs: list) -> list[str]:
    """What each output is: its richest form."""
    kinds = ("image/png", WIDGET, "text/markdown", "text/plain")
    return [
        next(k for k in kinds if k in o["data"]) if "data" in o else o.get("text", "")
        for o in outputs
    ]


def in_the_widget(notebook: nbformat.NotebookNode, cell: nbformat.NotebookNode) -> tuple:
    """What the widget shows that the cell names, and the figures that pyplot still holds."""
    states = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
    model, still_open = ast.literal_eval(cell.outputs[0].data["text/plain"])
    return states[model]["state"]["outputs"], still_open


@pytest.mark.parametrize("kernel", KERNELS)
def test_one_picture_that_follows_the_slider(kernel):
    """However often it moves: one picture in the widget, none elsewhere, no figure left open."""
    backend, style = KERNELS[kernel]
    draws = [*PICTURES, "nothing", "words", "printed"]
    cells = [DRAWS.format(backend=backend, style=style)]
    for name in draws:
        cells += [
            f"w = show.explore({name}, n=(0, 100, 1, 50)); w",
            f"for n in range({25 if name == 'nothing_returned' else 3}): w.children[0].value = n",
            "(w.children[-1].model_id, plt.get_fignums())",
        ]
    cells += ["w = show.explore(figure, n=(0, 100, 1, 90)); w", "(w.children[-1].model_id, [])"]
    notebook = run(*cells)
    pictures = {}
    for k, name in enumerate(draws):
        first, moves, after = notebook.cells[1 + 3 * k : 4 + 3 * k]
        assert shown_in(first.outputs) == [WIDGET], f"{name}: something beside the widget"
        assert moves.outputs == [], f"{name}: something below the moves"
        outputs, still_open = in_the_widget(notebook, after)
        assert still_open == [], f"{name} leaves figures open"
        wanted = {"nothing": [], "words": ["text/markdown"], "printed": ["n is 2\n"]}
        assert shown_in(outputs) == wanted.get(name, ["image/png"]), name
        pictures[name] = outputs
    moved, (unmoved, _) = pictures["figure"], in_the_widget(notebook, notebook.cells[-1])
    assert moved[0]["data"]["image/png"] != unmoved[0]["data"]["image/png"]


@pytest.mark.parametrize("kernel", KERNELS)
def test_static_is_one_picture(kernel):
    backend, style = KERNELS[kernel]
    names = [n for n in PICTURES if kernel != "agg"]
    cells = [f"show.explore({name}, n=(0, 10, 1))" for name in names]
    notebook = run(
        DRAWS.format(backend=backend, style=style), *cells, "plt.get_fignums()", AMTUTOR_STATIC="1"
    )
    for name, cell in zip(names, notebook.cells[1:-1], strict=True):
        assert shown_in(cell.outputs) == ["image/png"], name
    assert notebook.cells[-1].outputs[0].data["text/plain"] == "[]"
