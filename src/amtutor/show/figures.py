"""Still pictures: image grids, energy traces, landscapes, measured against theory."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, is_color_like
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.ticker import MaxNLocator

from .._check import boolean, count, describe, fail, positive, real, sizes
from . import style
from .style import PALETTE, WIDTH

_MARKERS = "os^DvP"
_DASHES = ("-", (0, (6, 2)), (0, (4, 1.5, 1, 1.5)), (0, (1.5, 1.5)))


def array(name: str, x: Any) -> np.ndarray:
    """Return a tensor, array or nested list as a float64 array."""
    try:
        if isinstance(x, (list, tuple)):
            x = np.stack([array(name, row) for row in x]) if x else np.empty(0)
        plain = np.asarray(x.detach().cpu() if isinstance(x, torch.Tensor) else x)
    except (TypeError, ValueError, RuntimeError):  # ragged, sparse, without data
        plain = np.empty(0, dtype=object)
    if plain.dtype.kind not in "biuf":
        raise TypeError(f"{name}: got a {describe(x)}, expected an array of numbers")
    return plain.astype(np.float64, copy=False)


def figure(
    columns: int = 1, *, rows: int = 1, width: float = WIDTH, height: float | None = None
) -> tuple[Figure, Any]:
    """Return a figure of the book's width and its axes: one, a row, or a grid of them."""
    count("columns", columns)
    count("rows", rows)
    width = positive("width", width)
    fig = style.new_figure(
        width, rows * min(3.6, 0.9 + 0.75 * width / columns) if height is None else height
    )
    return fig, fig.subplots(rows, columns)


def _axes(ax: Axes | None, width: float = WIDTH, height: float = 3.4) -> Axes:
    """Return the axes to draw on, made fresh where none was given."""
    if ax is None:
        return style.new_figure(width, height).subplots()
    if not isinstance(ax, Axes):
        raise TypeError(f"ax: got a {describe(ax)}, expected axes of matplotlib")
    return ax


def _levels_of_grey(x: np.ndarray, vmin: float | None, vmax: float | None) -> tuple[float, float]:
    """Return the values of paper and ink, by default the range of all images."""
    low = np.nanmin(x) if vmin is None else real("vmin", vmin)
    return low, np.nanmax(x) if vmax is None else real("vmax", vmax)


# --- images ---------------------------------------------------------------------------------


def as_grid(name: str, images: Any, shape: Sequence[int] | None) -> np.ndarray:
    """Return images as (n, H, W), (rows, n, H, W), or the same with 3 colours last.

    ``shape`` is (H, W) or (3, H, W); the last dimension, or the last ones, must match it.
    """
    x = array(name, images)
    if shape is not None:
        shape = sizes("shape", shape, dims=(2, 3), expected="(H, W) or (3, H, W)")
        if x.shape[-1:] == (int(np.prod(shape)),):
            x = x.reshape(*x.shape[:-1], *shape)
        if x.shape[-len(shape) :] != shape:
            raise ValueError(
                f"{name}: got shape {x.shape}, expected (..., {int(np.prod(shape))}) "
                f"or (..., {', '.join(map(str, shape))}) for shape={shape}"
            )
        if len(shape) == 3 and shape[0] == 3:
            x = np.moveaxis(x, -3, -1)
    colour = x.ndim > 3 if shape is None else len(shape) == 3
    tail = 3 if colour and x.shape[-1] == 3 else 2
    if x.ndim == tail:
        x = x[None]
    if x.ndim not in (tail + 1, tail + 2) or 0 in x.shape:
        raise ValueError(
            f"{name}: got shape {x.shape}, expected (n, H, W) or (rows, n, H, W); "
            "say shape=(H, W) for flat images"
        )
    return x


def image_grid(
    images: Any,
    *,
    shape: Sequence[int] | None = None,
    titles: Sequence | None = None,
    columns: int | None = None,
    row_titles: Sequence[str] | None = None,
    cmap: Any = None,
    vmin: float | None = None,
    vmax: float | None = None,
    scale: float = 1.0,
    into: SubFigure | None = None,
) -> Figure | SubFigure:
    """Show images side by side: high values are ink, low values paper, nothing smoothed.

    Args:
        images: (n, D) or (rows, n, D) with ``shape``; or (n, H, W), (rows, n, H, W).
        shape: (H, W) of a grey image, (3, H, W) of a colour one.
        titles: one per image; for (rows, n, ...) one per column, or a list per row.
        columns: images in a row where ``images`` has no rows; by default at most 10.
        row_titles: one per row, written to its left.
        vmin, vmax: the values of paper and of ink; by default the range of all images.
        scale: size of an image; 1.0 is 0.85 inch, less where the page is full.
        into: part of a figure (``fig.subfigures(...)``) that the grid fills, instead of a figure
            of its own.

    Raises:
        ValueError: if shapes or the number of titles do not fit.
    """
    x = as_grid("images", images, shape)
    colour = x.shape[-1] == 3 and x.ndim > 3
    gridded = x.ndim == (5 if colour else 4)
    if not gridded:
        even = math.ceil(len(x) / math.ceil(len(x) / 10))
        columns = even if columns is None else min(len(x), count("columns", columns))
        cells = [list(x[i : i + columns]) for i in range(0, len(x), columns)]
    else:
        cells = [list(row) for row in x]
    texts = _titles(titles, cells, gridded)
    if row_titles is not None and len(row_titles) != len(cells):
        raise ValueError(f"row_titles: got {len(row_titles)}, expected {len(cells)}, one per row")
    if colour:
        cells = [[np.clip(i / (255 if x.max() > 1 else 1), 0, 1) for i in row] for row in cells]
    low, high = _levels_of_grey(x, vmin, vmax)
    look = {"cmap": cmap or style.ink_on_paper(), "vmin": low, "vmax": high}
    return _draw_grid(cells, texts, row_titles, look, 0.85 * positive("scale", scale), into)


def _titles(titles: Sequence | None, cells: list[list], gridded: bool) -> list[list[str]]:
    """Return one title per cell, "" where there is none."""
    blank = [[""] * len(row) for row in cells]
    if titles is None:
        return blank
    wanted = len(cells[0]) if gridded else sum(map(len, cells))
    nested = gridded and all(not isinstance(t, str) for t in titles)
    if nested and [len(t) for t in titles] == [len(row) for row in cells]:
        return [list(map(str, row)) for row in titles]
    if nested or len(titles) != wanted:
        raise ValueError(f"titles: got {len(titles)}, expected {wanted}, one per image or column")
    words = iter(titles)
    if gridded:
        return [list(map(str, titles)), *blank[1:]]
    return [[str(next(words)) for _ in row] for row in cells]


def _draw_grid(cells, texts, row_titles, look, size: float, into) -> Figure | SubFigure:
    """Draw the cells; every image keeps its aspect and a hairline frame."""
    rows, columns = len(cells), max(map(len, cells))
    margin = 0.0 if row_titles is None else 0.085 * max(len(t) for t in row_titles) + 0.1
    room = WIDTH if into is None else into.bbox.width / into.dpi
    size = min(size if into is None else room, (room - margin) / columns - 0.08)
    if into is None:
        height, width = cells[0][0].shape[:2]
        words = sum(max(_lines(t, size) for t in row) * 0.19 for row in texts)
        tall = rows * (size * height / width + 0.08) + words
        into = style.new_figure(margin + columns * (size + 0.08), tall)
        into.get_layout_engine().set(w_pad=0.04, h_pad=0.04, wspace=0, hspace=0)
    axes = into.subplots(rows, columns, squeeze=False)
    for i, row in enumerate(axes):
        for j, ax in enumerate(row):
            if j >= len(cells[i]):
                ax.set_axis_off()
                continue
            _draw_image(ax, cells[i][j], look, _wrap(texts[i][j], size))
        if row_titles is not None:
            row[0].set_ylabel(row_titles[i], rotation=0, ha="right", va="center", fontsize=10.5)
    return into


def image(
    picture: Any,
    *,
    shape: Sequence[int] | None = None,
    ax: Axes | None = None,
    title: str = "",
    cmap: Any = None,
    vmin: float | None = None,
    vmax: float | None = None,
) -> Axes:
    """Show one image on its axes; arguments as in ``image_grid``.

    Raises:
        ValueError: if there is not exactly one image.
    """
    x = as_grid("picture", picture, shape)
    if len(x) != 1 or x.ndim != 3 + (x.shape[-1] == 3 and x.ndim > 3):
        raise ValueError(f"picture: got {len(x)} images, expected one")
    low, high = _levels_of_grey(x, vmin, vmax)
    if not isinstance(title, str):
        raise fail("title", title, "text")
    ax = _axes(ax, 2.6, 2.6)
    pixels = np.clip(x[0] / (255 if x.max() > 1 else 1), 0, 1) if x.ndim == 4 else x[0]
    _draw_image(
        ax, pixels, {"cmap": cmap or style.ink_on_paper(), "vmin": low, "vmax": high}, title
    )
    return ax


def _draw_image(ax: Axes, pixels: np.ndarray, look: dict[str, Any], title: str) -> None:
    """Draw an image with a hairline frame and no ticks."""
    ax.imshow(pixels, **look)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set(visible=True, color=PALETTE["grid"], linewidth=0.8)
    if title:
        ax.set_title(title, fontsize=10, loc="center", pad=4)


def _lines(text: str, inches: float) -> int:
    """Count the lines a title takes above an image."""
    return _wrap(text, inches).count("\n") + 1 if text else 0


def _wrap(text: str, inches: float) -> str:
    """Break a title into lines that fit above an image."""
    return "\n".join(
        textwrap.fill(line, max(6, int(inches / 0.083)), break_long_words=False)
        for line in text.split("\n")
    )


# --- energies -------------------------------------------------------------------------------


def energy_trace(
    energies: Any, *, ax: Axes | None = None, labels: Sequence[str] | None = None
) -> Axes:
    """Draw energy against the step of a descent.

    Args:
        energies: (T + 1,) for one descent or (T + 1, queries), as ``trajectory.energies``.
        labels: one per query.

    Raises:
        ValueError: if there is no step to draw or the number of labels does not fit.
    """
    e = array("energies", energies)
    if e.ndim not in (1, 2) or 0 in e.shape:
        raise ValueError(f"energies: got shape {e.shape}, expected (steps,) or (steps, queries)")
    e = e.reshape(len(e), -1)
    if labels is not None and len(labels) != e.shape[1]:
        raise ValueError(f"labels: got {len(labels)}, expected {e.shape[1]}, one per query")
    ax = _axes(ax)
    colours = [PALETTE["energy"]] * e.shape[1] if labels is None else style.shades(e.shape[1])
    for k, colour in enumerate(colours):
        ax.plot(
            e[:, k],
            color=colour,
            alpha=1 if labels or e.shape[1] < 4 else 0.6,
            label=None if labels is None else labels[k],
        )
        ax.plot(len(e) - 1, e[-1, k], "o", color=colour, markersize=5)
    ax.set(xlabel="step", ylabel="energy")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    if labels is not None:
        ax.legend()
    return ax


def _evaluate(energy: Callable, points: np.ndarray) -> np.ndarray:
    """Return ``energy`` at (N, d) points as N numbers; +inf becomes NaN."""
    if not callable(energy):
        raise TypeError(f"energy: got a {describe(energy)}, expected a function of points (N, d)")
    with torch.no_grad():
        values = energy(torch.as_tensor(points, dtype=torch.get_default_dtype()))
    values = array("energy", values)
    if values.size != len(points):
        raise ValueError(
            f"energy: returned shape {values.shape} for points of shape {points.shape}, "
            f"expected ({len(points)},)"
        )
    return np.where(np.isfinite(values), values, np.nan).reshape(-1)


def _bounds(bounds: Sequence, dims: int) -> list[tuple[float, float]]:
    """Return a (low, high) for each dimension."""
    flat = array("bounds", bounds).reshape(-1).tolist()
    pairs = list(zip(flat[::2], flat[1::2], strict=False))
    if len(flat) not in (2, 2 * dims) or any(not low < high for low, high in pairs):
        kinds = "(low, high)" + (" or (left, right, bottom, top)" if dims == 2 else "")
        raise ValueError(f"bounds = {bounds!r}: expected {kinds}, low < high")
    return pairs * (dims // len(pairs))


def landscape(
    energy: Callable,
    *,
    bounds: Sequence,
    resolution: int = 200,
    ax: Axes | None = None,
    memories: Any = None,
    paths: Any = None,
    levels: int | Sequence[float] = 14,
    ceiling: float | None = None,
    colourbar: bool = True,
) -> Axes:
    """Draw an energy over the plane: deep blue is low, pale is high, blank is infinite.

    Args:
        energy: maps points (N, 2) to energies (N,).
        bounds: (low, high) for both axes or (left, right, bottom, top).
        memories: (K, 2), drawn as blue discs.
        paths: one descent (T, 2) or several (T, queries, 2), as ``trajectory.states``; each
            starts at an orange disc.
        levels: number of contour lines, or their energies.
        ceiling: energies above it look alike, which leaves more shades for the valleys.

    Raises:
        ValueError: if the energy does not give one value per point, or is nowhere finite.
    """
    (left, right), (bottom, top) = _bounds(bounds, 2)
    n = count("resolution", resolution, least=2, most=10_000)
    boolean("colourbar", colourbar)
    u, v = np.meshgrid(np.linspace(left, right, n), np.linspace(bottom, top, n))
    z = _evaluate(energy, np.stack([u.ravel(), v.ravel()], axis=1)).reshape(n, n)
    if not np.isfinite(z).any():
        raise ValueError("energy: not finite anywhere within bounds, expected some finite values")
    high = np.nanmax(z) if ceiling is None else real("ceiling", ceiling)
    if ceiling is not None and not np.nanmin(z) < high:
        raise fail("ceiling", ceiling, f"more than the least energy, {np.nanmin(z):g}")
    ax = _axes(ax, 5.4, 4.4)
    shades = _shade(ax, u, v, z, high)
    _contours(ax, u, v, z, levels, high)
    ax.set(aspect="equal", xlim=(left, right), ylim=(bottom, top))
    if colourbar:
        _colourbar(ax, shades, cut=high < np.nanmax(z))
    for path in _paths(paths):
        _draw_path(ax, path)
    if memories is not None:
        xi = _places("memories", memories)
        rim: dict[str, Any] = {
            "markeredgecolor": PALETTE["paper"],
            "markeredgewidth": 1.5,
            "linestyle": "none",
        }
        ax.plot(*xi.T, "o", color=PALETTE["memory"], markersize=9, label="memory", zorder=5, **rim)
    return ax


def _places(name: str, x: Any) -> np.ndarray:
    """Return points of the plane as (N, 2)."""
    at = array(name, x)
    if at.shape[-1:] != (2,):
        raise ValueError(f"{name}: got shape {at.shape}, expected (N, 2)")
    return at.reshape(-1, 2)


def _shade(ax: Axes, u: np.ndarray, v: np.ndarray, z: np.ndarray, high: float) -> AxesImage:
    """Draw the energies as shades, each centred where it was taken."""
    dx, dy = (u[0, 1] - u[0, 0]) / 2, (v[1, 0] - v[0, 0]) / 2
    extent = (u[0, 0] - dx, u[0, -1] + dx, v[0, 0] - dy, v[-1, 0] + dy)
    look: dict[str, Any] = {"cmap": style.energy_map(), "vmax": high, "interpolation": "bilinear"}
    return ax.imshow(z, extent=extent, origin="lower", **look)


def _colourbar(ax: Axes, shades: AxesImage, *, cut: bool) -> None:
    """Put a thin scale of energies beside a landscape."""
    extend = "max" if cut else "neither"
    bar = ax.figure.colorbar(shades, ax=ax, shrink=0.8, aspect=24, extend=extend, label="energy")
    bar.outline.set_visible(False)
    bar.locator = MaxNLocator(5)
    bar.update_ticks()


def _contours(ax: Axes, u: np.ndarray, v: np.ndarray, z: np.ndarray, levels: Any, high: float):
    """Draw hairlines of equal energy: light ones in the valleys, dark ones on the hills."""
    low = np.nanmin(z)
    if np.ndim(levels) == 0:
        levels = MaxNLocator(count("levels", levels)).tick_values(low, high)
    at = np.unique(array("levels", levels).reshape(-1))
    at = at[(at > low) & (at <= high)]
    if at.size:
        middle = (low + high) / 2
        z = np.where(np.isnan(z), np.nanmax(z), z)  # lines do not fray where the energy ends
        colours = [PALETTE["paper"] + "80" if e < middle else PALETTE["ink"] + "40" for e in at]
        ax.contour(u, v, z, levels=at, colors=colours, linewidths=0.8, linestyles="solid")


def _paths(paths: Any) -> list[np.ndarray]:
    """Return a list of (T, 2) descents."""
    if paths is None:
        return []
    if isinstance(paths, (list, tuple)):
        return [p for path in paths for p in _paths(path)]
    x = array("paths", paths)
    if x.ndim not in (2, 3) or x.shape[-1] != 2:
        raise ValueError(f"paths: got shape {x.shape}, expected (T, 2) or (T, queries, 2)")
    return list(np.moveaxis(x.reshape(len(x), -1, 2), 1, 0))


def _draw_path(ax: Axes, path: np.ndarray) -> None:
    """Draw one descent from its orange start to a purple rest."""
    halo = [patheffects.Stroke(linewidth=4, foreground=PALETTE["paper"]), patheffects.Normal()]
    rim: dict[str, Any] = {
        "markeredgecolor": PALETTE["paper"],
        "markeredgewidth": 1.2,
        "linestyle": "none",
    }
    ax.plot(*path.T, color=PALETTE["trajectory"], linewidth=2, path_effects=halo, zorder=3)
    ax.plot(*path[0], "o", color=PALETTE["query"], markersize=8, zorder=4, **rim)
    ax.plot(*path[-1], "o", color=PALETTE["trajectory"], markersize=8, zorder=6, **rim)


def landscape_1d(
    energy: Callable,
    *,
    bounds: Sequence,
    resolution: int = 400,
    ax: Axes | None = None,
    memories: Any = None,
    balls: Any = None,
    paths: Any = None,
    label: str | None = None,
) -> Axes:
    """Draw an energy over a line, with balls that sit on it or roll down it.

    Args:
        energy: maps points (N, 1) to energies (N,).
        bounds: (low, high).
        memories: positions, marked by blue triangles on the axis.
        balls: positions of balls on the curve.
        paths: (T,), (T, queries) or (T, queries, 1), as ``trajectory.states``: each a ball that
            rolls from its orange start to a purple rest.

    Raises:
        ValueError: if the energy does not give one value per point.
    """
    ((low, high),) = _bounds(bounds, 1)
    x = np.linspace(low, high, count("resolution", resolution, least=2))
    ax = _axes(ax)
    ax.plot(x, _evaluate(energy, x[:, None]), color=PALETTE["energy"], label=label)
    ax.set(xlim=(low, high), ylabel="energy", xlabel="state")
    ax.margins(y=0.12)
    small = ax.bbox.width < 300  # a panel among others
    ball = {"markersize": 8 if small else 11, "markeredgecolor": PALETTE["paper"]}

    def sit(at: np.ndarray, look: str, colour: str, **options: Any) -> None:
        ax.plot(at, _evaluate(energy, at[:, None]), look, color=PALETTE[colour], **options)

    if paths is not None:
        rolls = array("paths", paths)
        if rolls.ndim not in (1, 2, 3):
            raise ValueError(f"paths: got shape {rolls.shape}, expected (T,) or (T, queries)")
        for path in rolls.reshape(len(rolls), -1).T:
            sit(path, "-", "trajectory", linewidth=9, alpha=0.4, zorder=1.5)
            sit(path[:1], "o", "query", zorder=4, **ball)
            sit(path[-1:], "o", "trajectory", zorder=5, **ball)
    if balls is not None:
        sit(array("balls", balls).reshape(-1), "o", "query", zorder=4, **ball)
    if memories is not None:
        mark_memories(memories, ax=ax)
    return ax


def mark_memories(positions: Any, *, ax: Axes) -> Axes:
    """Mark positions of memories along the x axis by blue triangles."""
    ax, at = _axes(ax), array("positions", positions).reshape(-1)
    foot: dict[str, Any] = {"transform": ax.get_xaxis_transform(), "clip_on": False, "zorder": 6}
    ax.plot(at, np.zeros(at.shape), "^", color=PALETTE["memory"], markersize=9, **foot)
    return ax


def thumbnails(
    ax: Axes,
    places: Any,
    images: Any,
    *,
    shape: Sequence[int] | None = None,
    size: float = 0.42,
    offset: Sequence[float] = (0.0, 0.0),
    frame: str = "memory",
) -> list[AnnotationBbox]:
    """Put small pictures on a plot, each centred at its place plus ``offset``.

    Args:
        places: (n, 2) in the units of the axes.
        images: grey ones, (n, D) with ``shape``, or (n, H, W).
        size: width of a picture in inches.
        offset: shift of all pictures in inches, (right, up).
        frame: colour of the frames, or its name in PALETTE.

    Raises:
        ValueError: if there is not one picture per place.
    """
    x, at = as_grid("images", images, shape), _places("places", places)
    colour = PALETTE.get(frame, frame) if isinstance(frame, str) else frame
    if not is_color_like(colour):
        raise fail("frame", frame, "a colour of matplotlib's, or one of " + ", ".join(PALETTE))
    shift = array("offset", offset)
    if shift.shape != (2,) or not np.isfinite(shift).all():
        raise fail("offset", offset, "(right, up) in inches")
    if len(x) != len(at) or x.ndim != 3:
        raise ValueError(
            f"images: got shape {x.shape}, expected {len(at)} grey images, one per place"
        )
    look: dict[str, Any] = {"cmap": style.ink_on_paper(), "norm": Normalize(x.min(), x.max())}
    zoom = 72 * positive("size", size) / x.shape[2]
    rim: dict[str, Any] = {"lw": 1.2, "ec": colour, "fc": PALETTE["paper"]}
    where: dict[str, Any] = {
        "xybox": tuple(72 * shift),
        "boxcoords": "offset points",
        "zorder": 6,
    }
    boxes = []
    ax = _axes(ax)
    for place, pixels in zip(at, x, strict=True):
        tile = OffsetImage(pixels, zoom=zoom, interpolation="nearest", resample=False, **look)
        box = AnnotationBbox(tile, tuple(place), pad=0.12, bboxprops=rim, **where)
        ax.add_artist(box)
        boxes.append(box)
    return boxes


# --- measured against theory ----------------------------------------------------------------


def measured(
    x: Any,
    y: Any,
    *,
    low: Any = None,
    high: Any = None,
    ax: Axes | None = None,
    label: str | None = None,
    colour: str | None = None,
    marker: str = "o",
) -> Axes:
    """Draw measured values as dots with their intervals from ``low`` to ``high``.

    Raises:
        ValueError: if lengths differ or an interval does not hold its value.
    """
    ax = _axes(ax)
    x, y = array("x", x).reshape(-1), array("y", y).reshape(-1)
    if x.shape != y.shape:
        raise ValueError(f"y: got {y.size} values, expected {x.size}, one for each x")
    bars = None
    if low is not None or high is not None:
        lo, hi = (y if v is None else array("interval", v).reshape(-1) for v in (low, high))
        if lo.shape != y.shape or hi.shape != y.shape or (lo > y).any() or (hi < y).any():
            raise ValueError("low, high: expected low <= y <= high, one of each per value")
        bars = np.stack([y - lo, hi - y])
    colour = PALETTE["ink"] if colour is None else colour
    ax.errorbar(
        x,
        y,
        yerr=bars,
        fmt=marker,
        color=colour,
        label=label,
        markersize=5.5,
        markeredgecolor=PALETTE["paper"],
        elinewidth=1.6,
        capsize=0,
        zorder=3,
    )
    return ax


def theory(
    x: Any,
    y: Any,
    *,
    ax: Axes | None = None,
    label: str | None = "theory",
    colour: str | None = None,
) -> Axes:
    """Draw what theory says as a dashed line."""
    ax, x, y = _axes(ax), array("x", x), array("y", y)
    if x.shape[:1] != y.shape[:1]:
        raise ValueError(f"y: got shape {y.shape}, expected one value for each x {x.shape}")
    colour = PALETTE["theory"] if colour is None else colour
    ax.plot(x, y, "--", color=colour, label=label, linewidth=1.6, zorder=2)
    return ax


def interval_band(
    x: Any,
    low: Any,
    high: Any,
    *,
    ax: Axes | None = None,
    label: str | None = None,
    colour: str | None = None,
) -> Axes:
    """Shade the band between ``low`` and ``high``."""
    ax, x = _axes(ax), array("x", x).reshape(-1)
    ends = {"low": array("low", low), "high": array("high", high)}
    for name, y in ends.items():
        if y.shape not in ((), x.shape):
            raise ValueError(f"{name}: got shape {y.shape}, expected {x.shape}, one for each x")
    colour = PALETTE["muted"] if colour is None else colour
    ax.fill_between(
        x,
        ends["low"],
        ends["high"],
        color=colour,
        alpha=0.22,
        linewidth=0,
        label=label,
        zorder=1,
    )
    return ax


def curves(
    x: Any,
    ys: Mapping[str, Any],
    *,
    ax: Axes | None = None,
    colours: Sequence[str] | None = None,
    legend: bool = True,
) -> Axes:
    """Draw several labelled curves over one x, told apart by shade, marker and dashes.

    Args:
        x: (N,).
        ys: label: values (N,), in their natural order (n = 2, 3, 4): shades go dark to light.
        colours: one per curve, colours or names in PALETTE.

    Raises:
        ValueError: if a curve has another length than ``x``.
    """
    x = array("x", x).reshape(-1)
    if not isinstance(ys, Mapping):
        raise TypeError(f"ys: got a {describe(ys)}, expected values by label")
    boolean("legend", legend)
    colours = style.shades(len(ys)) if colours is None else [PALETTE.get(c, c) for c in colours]
    if len(colours) != len(ys):
        raise ValueError(f"colours: got {len(colours)}, expected {len(ys)}, one per curve")
    ax = _axes(ax)
    for k, (label, y) in enumerate(ys.items()):
        y = array(label, y).reshape(-1)
        if y.shape != x.shape:
            raise ValueError(f"{label}: got {y.size} values, expected {x.size}, one for each x")
        ax.plot(
            x,
            y,
            color=colours[k],
            label=label,
            marker=_MARKERS[k % 6] if x.size < 40 else "",
            linestyle=_DASHES[k % 4],
            markeredgecolor=PALETTE["paper"],
        )
    if legend and ys:
        ax.legend()
    return ax
