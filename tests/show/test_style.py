"""The palette can be read by everybody, in both themes; figures appear once and are forgotten."""

from __future__ import annotations

import io
import itertools

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from PIL import Image

import kernels
from amtutor import show
from amtutor.show import style

MEANINGS = ("memory", "query", "trajectory", "energy", "wrong", "theory", "muted")

# CSS hue-rotate(180deg), W3C filter effects: what the site applies after inverting.
HUE_ROTATE = np.array([[-0.574, 1.43, 0.144], [0.426, 0.43, 0.144], [0.426, 1.43, -0.856]])
# Machado, Oliveira, Fernandes 2009, severity 1, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
         [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
         [-0.011820, 0.042940, 0.968881]]
    ),
}  # fmt: skip
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
     [0.0193339, 0.1191920, 0.9503041]]
)  # fmt: skip


def rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255


def linear(c: np.ndarray) -> np.ndarray:
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def contrast(a: np.ndarray, b: np.ndarray) -> float:
    """WCAG 2 contrast ratio of two sRGB colours."""
    light, dark = sorted((float(XYZ[1] @ linear(c)) for c in (a, b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def inverted(c: np.ndarray) -> np.ndarray:
    return np.clip(HUE_ROTATE @ (1 - c), 0, 1)


def lab(lin: np.ndarray) -> np.ndarray:
    t = XYZ @ np.clip(lin, 0, 1) / np.array([0.95047, 1.0, 1.08883])
    f = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def distance(a: np.ndarray, b: np.ndarray, eye: str) -> float:
    """CIE76 distance of two sRGB colours as seen by an eye."""
    return float(np.linalg.norm(lab(VISION[eye] @ linear(a)) - lab(VISION[eye] @ linear(b))))


@pytest.fixture(autouse=True)
def light_again():
    yield
    show.use_style("light")
    mpl.rcdefaults()


def test_the_known_answers_of_the_colour_tools():
    assert contrast(rgb("#000000"), rgb("#FFFFFF")) == pytest.approx(21)
    assert contrast(rgb("#777777"), rgb("#FFFFFF")) == pytest.approx(4.48, abs=0.01)
    assert inverted(rgb("#FFFFFF")) == pytest.approx(np.zeros(3), abs=1e-9)
    assert distance(rgb("#000000"), rgb("#FFFFFF"), "normal") == pytest.approx(100, abs=0.1)
    red, green = rgb("#C00000"), rgb("#577A00")  # the classical confusion
    assert distance(red, green, "deuteranopia") < distance(red, green, "normal") / 2


@pytest.mark.parametrize("meaning", MEANINGS)
def test_every_colour_stands_out_from_its_page(meaning):
    white, black = np.ones(3), np.zeros(3)
    light, dark = style.THEMES["light"], style.THEMES["dark"]
    assert light["paper"] == "#FFFFFF"
    assert contrast(rgb(light[meaning]), white) >= 3
    assert contrast(inverted(rgb(light[meaning])), black) >= 3  # the site's own dark mode
    assert contrast(rgb(dark[meaning]), rgb(dark["paper"])) >= 3


@pytest.mark.parametrize("eye", VISION)
def test_no_two_meanings_look_alike(eye):
    light, dark = ({m: rgb(t[m]) for m in MEANINGS} for t in style.THEMES.values())
    for colours in (light, {m: inverted(c) for m, c in light.items()}, dark):
        apart = {
            pair: distance(colours[pair[0]], colours[pair[1]], eye)
            for pair in itertools.combinations(MEANINGS, 2)
        }
        closest = min(apart, key=apart.get)
        assert apart[closest] >= 13, (closest, apart[closest])


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_shades_can_be_told_from_the_page_and_each_other(theme, k):
    show.use_style(theme)
    colours = [rgb(c) for c in show.shades(k)]
    assert len(colours) == k
    assert min(contrast(c, rgb(show.PALETTE["paper"])) for c in colours) >= 3
    for eye in VISION:
        steps = [distance(a, b, eye) for a, b in itertools.pairwise(colours)]
        assert all(step >= 10 for step in steps), (eye, steps)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_equal_steps_of_energy_look_equal(theme):
    show.use_style(theme)
    colours = [linear(c[:3]) for c in show.energy_map()(np.linspace(0, 1, 17))]
    lightness = np.array([lab(c)[0] for c in colours])
    steps = np.array([np.linalg.norm(lab(a) - lab(b)) for a, b in itertools.pairwise(colours)])
    rising = np.diff(lightness) * (1 if theme == "light" else -1)
    assert (rising > 0).all()  # low energy is deep in the light and glows in the dark
    assert steps.max() / steps.min() < 1.25
    for eye in ("protanopia", "deuteranopia"):
        seen = np.array([lab(VISION[eye] @ c)[0] for c in colours])
        assert (np.diff(seen) * (1 if theme == "light" else -1) > 0).all()


def test_the_palette_follows_the_theme():
    show.use_style("dark")
    assert show.PALETTE["paper"] == style.THEMES["dark"]["paper"] != "#FFFFFF"
    assert mpl.rcParams["figure.facecolor"] == show.PALETTE["paper"]
    assert show.ink_on_paper()(0.0)[:3] == pytest.approx(rgb(show.PALETTE["paper"]), abs=1e-6)
    show.use_style("light")
    assert show.PALETTE["paper"] == "#FFFFFF"
    with pytest.raises(ValueError, match=r"theme = 'sepia': expected one of 'light', 'dark'"):
        show.use_style("sepia")


def test_pictures_are_small_white_and_the_same_every_time():
    show.use_style()

    def draw():
        ax = show.landscape(lambda x: x.square().sum(-1), bounds=(-1, 1))
        return style.png(ax.figure)

    data = draw()
    assert data == draw()
    assert len(data) < 60_000
    image = Image.open(io.BytesIO(data))
    assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    assert "Software" not in image.info
    assert image.width < style.WIDTH * 100 * 1.5 + 20


def test_a_photograph_keeps_its_colours():
    show.use_style()
    noise = np.random.default_rng(0).random((1, 24, 24, 3))
    image = np.asarray(Image.open(io.BytesIO(style.png(show.image_grid(noise)))).convert("RGB"))
    seen = {tuple(c) for c in image.reshape(-1, 3)}
    wanted = {tuple(c) for c in (noise[0].reshape(-1, 3) * 255).astype(int)}
    near = [min(np.abs(np.subtract(c, s)).max() for s in seen) for c in list(wanted)[:40]]
    assert max(near) <= 2


def test_no_figure_is_left_behind():
    before = plt.get_fignums()
    show.image_grid(np.zeros((2, 4, 4)))
    show.energy_trace([1.0, 0.5])
    show.landscape_1d(lambda x: x.square().sum(-1), bounds=(-1, 1))
    show.figure(2)
    assert plt.get_fignums() == before


CELLS = {
    "figure": "show.image_grid(np.eye(4)[None])",
    "axes": "show.energy_trace([2, 1])",
    "not last": "show.energy_trace([2, 1]); x = 1",
    "two": "show.energy_trace([2, 1]); show.energy_trace([3, 1])",
    "own axes": "fig, ax = plt.subplots()\nshow.energy_trace([2, 1], ax=ax)",
    "own figure": "fig, ax = plt.subplots()\nax.plot([1, 2])\nfig",
    "panel": "fig, axes = show.figure(2)\nshow.energy_trace([2, 1], ax=axes[0]);",
    "static": "show.explore(lambda k: show.energy_trace([k, 1]), k=(1, 5, 1))",
    "glue": "show.glue('a', 0.5)",
    "live": "del os.environ['AMTUTOR_STATIC']\n"
    "w = show.explore(lambda k: show.energy_trace([k, 1]), k=(1, 5, 1))\nw",
    "turned": "w.children[0].value = 5",
    "left": "print(plt.get_fignums())",
}


def test_in_a_notebook_every_picture_shows_exactly_once():
    setup = (
        "import os; os.environ['AMTUTOR_STATIC'] = '1'\nimport numpy as np\n"
        "import matplotlib.pyplot as plt\nfrom amtutor import show\nshow.use_style()"
    )
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(c) for c in (setup, *CELLS.values())]
    kernels.Client(notebook, timeout=120, kernel_name="python3").execute()
    outputs = dict(zip(CELLS, (cell.outputs for cell in notebook.cells[1:]), strict=True))
    pictures = {
        name: sum("image/png" in o.get("data", {}) for o in found)
        for name, found in outputs.items()
    }
    others = {"two": 2, "glue": 0, "live": 0, "turned": 0, "left": 0}
    assert pictures == {name: others.get(name, 1) for name in CELLS}
    assert all(len(found) == max(pictures[name], 1) or name == "turned"
               for name, found in outputs.items())  # fmt: skip
    assert outputs["left"][0]["text"] == "[]\n"
    assert outputs["figure"][0]["metadata"]["image/png"]["width"] < 700
    assert "application/vnd.jupyter.widget-view+json" in outputs["live"][0]["data"]
    assert outputs["glue"][0]["data"]["text/plain"] == "a = 0.5"
    widgets = notebook.metadata["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    shown = [w["state"]["outputs"] for w in widgets.values() if w["model_name"] == "OutputModel"]
    assert [len(o) for o in shown] == [1]
    assert "image/png" in shown[0][0]["data"]
