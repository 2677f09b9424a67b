"""One visual language for the whole book: a palette with fixed meanings, one matplotlib style."""

from __future__ import annotations

import base64
import io
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from cycler import cycler
from IPython import get_ipython
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, ListedColormap, to_hex
from matplotlib.figure import Figure

from .._check import choice

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
    "trajectory": "#D584B2",
    "energy": "#1FBF93",
    "wrong": "#FF8D66",
    "theory": "#E6E9ED",
    "muted": "#A2A9B4",
    "ink": "#E6E9ED",
    "paper": "#121417",
    "grid": "#2B3036",
}
THEMES = {"light": _LIGHT, "dark": _DARK}

#: The colour of each meaning in the theme in use; ``use_style`` fills it.
PALETTE = dict(_LIGHT)

#: Low energy is deep blue, high energy is pale: equal steps look equal.
ENERGY_CMAP = LinearSegmentedColormap.from_list(
    "am_energy", ["#173A63", "#2F6A8F", "#5B97AE", "#92BFC7", "#C9E0DF", "#F7FAF6"]
)

WIDTH = 7.0  # inches: the text column of the book
_DENSITY = 1.5  # image pixels per page pixel, so that figures stay sharp on fine screens
_PAGE_DPI = 100  # page pixels per inch


def ink_on_paper() -> ListedColormap | LinearSegmentedColormap:
    """Return the grey map of the theme in use: low = paper, high = ink."""
    return LinearSegmentedColormap.from_list("am_ink", [PALETTE["paper"], PALETTE["ink"]])


def shades(k: int) -> list[str]:
    """Return ``k`` colours in order, dark to light: for n = 2, 3, 4 or growing D."""
    ramp = LinearSegmentedColormap.from_list("am_shades", ["#173A63", "#0072B2", "#3A9A8C"])
    return [to_hex(ramp(i / max(k - 1, 1))) for i in range(k)]


def use_style(theme: str = "light") -> None:
    """Set the book's matplotlib style and palette; call it once at the top of a chapter.

    Args:
        theme: "light" or "dark". The site turns light figures by itself in dark mode.

    Raises:
        ValueError: if ``theme`` is neither.
    """
    choice("theme", theme, tuple(THEMES))
    PALETTE.update(THEMES[theme])
    mpl.rcParams.update(_rc(PALETTE))
    _show_figures_once()


def _rc(p: dict[str, str]) -> dict[str, Any]:
    """Return the matplotlib settings for a palette."""
    series = [p[k] for k in ("memory", "query", "energy", "trajectory", "wrong", "muted")]
    return {
        "figure.figsize": (WIDTH, 3.6),
        "figure.dpi": _PAGE_DPI * _DENSITY,
        "savefig.dpi": _PAGE_DPI * _DENSITY,
        "savefig.bbox": "tight",
        "savefig.pad_inches": 0.08,
        "figure.constrained_layout.use": True,
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "mathtext.fontset": "dejavusans",
        "font.size": 11.0,
        "axes.labelsize": 11.5,
        "axes.titlesize": 12.0,
        "axes.titlelocation": "left",
        "axes.titlepad": 8.0,
        "axes.labelpad": 6.0,
        "xtick.labelsize": 10.5,
        "ytick.labelsize": 10.5,
        "legend.fontsize": 10.5,
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
    if get_ipython() is None:
        return Figure(figsize=(width, height), layout="constrained")
    return plt.figure(figsize=(width, height), layout="constrained")


def png(fig: Figure) -> bytes:
    """Return a figure as PNG bytes, the same bytes on every run."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _display_figure(fig: Figure) -> None:
    """Show a figure once, at page size, and let pyplot forget it."""
    data = png(fig)
    width = round(int.from_bytes(data[16:20], "big") / _DENSITY)
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
    formatter.for_type(Figure, _display_figure)
    formatter.for_type(Axes, lambda ax: _display_figure(ax.get_figure(root=True)))
