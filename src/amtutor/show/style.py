"""One visual language for the whole book: a palette with fixed meanings, one matplotlib style."""

from __future__ import annotations

import base64
import io
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from IPython import get_ipython
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from PIL import Image, ImageChops

from .._check import choice, count, positive

# Okabe and Ito's colours; orange, vermilion and grey are darkened until each has contrast 3
# with the page in both themes and every pair stays apart for colour-blind eyes (tests/show).
_LIGHT = {
    "memory": "#0072B2",
    "query": "#C98400",
    "trajectory": "#CC79A7",
    "energy": "#009E73",
    "wrong": "#A82A00",
    "theory": "#1B1F24",
    "muted": "#565D68",
    "ink": "#1B1F24",
    "paper": "#FFFFFF",
    "grid": "#E3E6EA",
}
# What the site makes of the colours above: invert(1) hue-rotate(180deg).
_DARK = {
    "memory": "#42B4F4",
    "query": "#D99A2B",
    "trajectory": "#CC6FA6",
    "energy": "#1FBF93",
    "wrong": "#FF8D66",
    "theory": "#E6E9ED",
    "muted": "#B4BBC6",
    "ink": "#E6E9ED",
    "paper": "#121417",
    "grid": "#2B3036",
}
THEMES = {"light": _LIGHT, "dark": _DARK}

#: The colour of each meaning in the theme in use; ``use_style`` fills it.
PALETTE = dict(_LIGHT)

# Low energy first: deep blue to paper, in equal steps of CIELAB. In the dark it glows instead.
_ENERGY = {
    "light": (
        ["#173A63", "#245279", "#306B90", "#4984A1", "#649DB2"]
        + ["#85B5C1", "#A9CDD1", "#D0E4E2", "#F7FAF6"]
    ),
    "dark": (
        ["#A9D0FA", "#84BADF", "#66A2C0", "#4E8A9F", "#41737F"]
        + ["#335B61", "#274444", "#1D2E2E", "#14191B"]
    ),
}
_SHADES = {
    "light": ["#173A63", "#0072B2", "#3A9A8C"],
    "dark": ["#D3E7FC", "#42B4F4", "#3A9A8C"],
}
_theme = "light"

WIDTH = 5.5  # inches: on a phone, 390 pixels wide, a letter of 10 points is then still 9 pixels
_DENSITY = 1.5  # image pixels per page pixel, so that figures stay sharp on fine screens
_PAGE_DPI = 100  # page pixels per inch
_UNSEEN = 8  # of 255: a change of colour nobody notices, which a palette of 256 may make


def ink_on_paper() -> LinearSegmentedColormap:
    """Return the grey map of the theme in use: low = paper, high = ink."""
    return LinearSegmentedColormap.from_list("am_ink", [PALETTE["paper"], PALETTE["ink"]])


def energy_map() -> LinearSegmentedColormap:
    """Return the map of the theme in use for energies: low = deep, high fades into the page."""
    return LinearSegmentedColormap.from_list("am_energy", _ENERGY[_theme])


def shades(k: int) -> list[str]:
    """Return ``k`` colours in order, for n = 2, 3, 4 or growing D; strongest first."""
    k = count("k", k, least=0, most=10_000)
    ramp = LinearSegmentedColormap.from_list("am_shades", _SHADES[_theme])
    return [to_hex(ramp(i / max(k - 1, 1))) for i in range(k)]


def use_style(theme: str = "light") -> None:
    """Set the book's matplotlib style and palette; call it once at the top of a chapter.

    Args:
        theme: "light" or "dark". The site turns light figures by itself in dark mode.

    Raises:
        ValueError: if ``theme`` is neither.
    """
    global _theme
    _theme = choice("theme", theme, tuple(THEMES))
    PALETTE.update(THEMES[theme])
    mpl.rcParams.update(_rc(PALETTE))
    _show_figures_once()


def _rc(p: dict[str, str]) -> dict[Any, Any]:
    """Return the matplotlib settings for a palette."""
    series = [p[k] for k in ("memory", "query", "energy", "trajectory", "wrong", "muted")]
    return {
        "figure.figsize": (WIDTH, 3.6),
        "figure.dpi": _PAGE_DPI * _DENSITY,
        "savefig.dpi": _PAGE_DPI * _DENSITY,
        "savefig.bbox": "tight",
        "savefig.pad_inches": 0.08,
        "figure.constrained_layout.use": True,
        "figure.constrained_layout.w_pad": 0.07,
        "figure.constrained_layout.wspace": 0.03,
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "mathtext.fontset": "dejavusans",
        "font.size": 11.5,
        "axes.labelsize": 12.0,
        "axes.titlesize": 12.5,
        "axes.titlelocation": "left",
        "axes.titlepad": 8.0,
        "axes.labelpad": 6.0,
        "xtick.labelsize": 11.0,
        "ytick.labelsize": 11.0,
        "legend.fontsize": 11.0,
        "legend.frameon": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.8,
        "xtick.major.width": 0.8,
        "ytick.major.width": 0.8,
        "axes.grid": False,
        "grid.color": p["grid"],
        "grid.linewidth": 0.8,
        "lines.linewidth": 2.0,
        "lines.markersize": 6.0,
        "lines.solid_capstyle": "round",
        "axes.prop_cycle": cycler(color=series),
        "image.interpolation": "nearest",
        "figure.facecolor": p["paper"],
        "savefig.facecolor": p["paper"],
        "axes.facecolor": p["paper"],
        "text.color": p["ink"],
        "axes.labelcolor": p["ink"],
        "axes.titlecolor": p["ink"],
        "axes.edgecolor": p["muted"],
        "xtick.color": p["muted"],
        "ytick.color": p["muted"],
        "xtick.labelcolor": p["ink"],
        "ytick.labelcolor": p["ink"],
        "legend.labelcolor": p["ink"],
        "svg.hashsalt": "amtutor",
    }


def new_figure(width: float = WIDTH, height: float = 3.6) -> Figure:
    """Return an empty figure: pyplot knows it in a notebook, nobody but you outside one."""
    size = positive("width", width), positive("height", height)
    if get_ipython() is None:
        return Figure(figsize=size, layout="constrained")
    return plt.figure(figsize=size, layout="constrained")


def png(fig: Figure) -> bytes:
    """Return a figure as small PNG bytes, the same on every run."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", metadata={"Software": None})
    full = Image.open(buffer).convert("RGB")
    few = full.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    change = ImageChops.difference(full, few.convert("RGB"))
    unseen = int(np.asarray(change).max()) <= _UNSEEN
    buffer = io.BytesIO()
    (few if unseen else full).save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def show_figure(fig: Figure) -> None:
    """Show a figure once, at page size, and let pyplot forget it."""
    data = png(fig)
    density = _DENSITY if mpl.rcParams["savefig.dpi"] == _PAGE_DPI * _DENSITY else 1
    width = round(int.from_bytes(data[16:20], "big") / density)
    display(
        {"image/png": base64.b64encode(data).decode(), "text/plain": f"<Figure {width} px wide>"},
        metadata={"image/png": {"width": width}},
        raw=True,
    )
    plt.close(fig)


def _show_figures_once() -> None:
    """In IPython, let a figure or axes that ends a cell appear as one picture, never two."""
    shell = get_ipython()
    if shell is None or shell.display_formatter is None:
        return
    formatter = shell.display_formatter.ipython_display_formatter
    formatter.for_type(Figure, show_figure)
    formatter.for_type(Axes, lambda ax: show_figure(ax.get_figure(root=True)))
