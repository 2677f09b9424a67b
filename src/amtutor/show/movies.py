"""Recall as a movie: stored frames under a slider, the falling energy beside them.

Plain HTML, SVG and a few lines of script: no kernel, no outside file, the same bytes on every
run. Without scripts the last frame shows.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np
from IPython.display import HTML
from PIL import Image

from .._check import count, positive
from .figures import array

_MAX_FRAMES = 120


def recall_movie(
    frames: Any,
    energies: Any,
    *,
    shape: Sequence[int],
    titles: Sequence[str] | None = None,
    fps: float = 8.0,
    vmin: float | None = None,
    vmax: float | None = None,
    max_frames: int = _MAX_FRAMES,
) -> HTML:
    """Return a movie of one recall, or of several side by side, beside their energies.

    Args:
        frames: (T + 1, D) or (T + 1, queries, D), as ``trajectory.states``.
        energies: (T + 1,) or (T + 1, queries), as ``trajectory.energies``.
        shape: (H, W) of a grey image (high is ink), (3, H, W) of a colour one.
        titles: one per query.
        fps: frames a second when played.
        vmin, vmax: the values of paper and ink; by default the range of all frames.
        max_frames: longer recalls are thinned evenly; first and last frame always stay.

    Raises:
        ValueError: if shapes, lengths or the number of titles do not fit.
    """
    x, e = _queries(frames, energies, tuple(shape))
    queries = x.shape[1]
    titles = [""] * queries if titles is None else list(titles)
    if len(titles) != queries:
        raise ValueError(f"titles: got {len(titles)}, expected {queries}, one per query")
    last = len(x) - 1
    steps = np.unique(np.linspace(0, last, min(len(x), count("max_frames", max_frames, least=2)))
                      .round().astype(int))
    pixels = _to_bytes(x[steps], vmin, vmax)
    data = {
        "steps": steps.tolist(),
        "fps": positive("fps", fps),
        "size": list(pixels.shape[2:4]),
        "strips": [_png(pixels[:, q].reshape(-1, *pixels.shape[3:])) for q in range(queries)],
        "energies": [[None if not np.isfinite(v) else float(f"{v:.5g}") for v in e[steps, q]]
                     for q in range(queries)],
    }
    cards = [_card(titles[q], pixels[-1, q], data["energies"][q], e[-1, q])
             for q in range(queries)]
    return HTML(_page(cards, data, last, grey=pixels.ndim == 4))


def _queries(frames: Any, energies: Any, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return frames (T, queries, H, W[, 3]) and energies (T, queries)."""
    x, e = array("frames", frames), array("energies", energies)
    dim = int(np.prod(shape))
    if len(shape) not in (2, 3) or dim == 0:
        raise ValueError(f"shape = {shape!r}: expected (H, W) or (3, H, W)")
    if x.ndim not in (2, 3) or x.shape[-1] != dim or len(x) < 2:
        raise ValueError(f"frames: got shape {x.shape}, expected (T, {dim}) or (T, queries, {dim}) "
                         f"for shape={shape}, T >= 2")
    if e.shape != x.shape[:-1]:
        raise ValueError(f"energies: got shape {e.shape}, expected {x.shape[:-1]} as frames have")
    x = x.reshape(len(x), -1, *shape)
    return (np.moveaxis(x, 2, -1) if len(shape) == 3 else x), e.reshape(len(e), -1)


def _to_bytes(x: np.ndarray, vmin: float | None, vmax: float | None) -> np.ndarray:
    """Return frames as bytes: grey ones as ink on paper (high is dark)."""
    low, high = (np.nanmin(x) if vmin is None else vmin), (np.nanmax(x) if vmax is None else vmax)
    share = np.clip((x - low) / max(high - low, 1e-12), 0, 1)
    return np.round(255 * (share if x.ndim == 5 else 1 - share)).astype(np.uint8)


def _png(pixels: np.ndarray) -> str:
    """Return an image as a data URI."""
    image = Image.fromarray(pixels)
    if pixels.ndim == 2 and set(np.unique(pixels)) <= {0, 255}:
        image = image.convert("1", dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    image.save(buffer, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _number(value: float) -> str:
    """Return an energy as the page shows it."""
    return f"{value:.4g}".replace("-", "−") if np.isfinite(value) else "∞"


def _curve(energies: list[float | None]) -> list[list[float]]:
    """Return the energy curve in the 200 x 80 units of its SVG, infinite values at the top."""
    known = [v for v in energies if v is not None]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    span = (high - low) or 1.0
    n = len(energies) - 1
    return [[round(6 + 188 * i / n, 2), 6.0 if v is None else round(74 - 68 * (v - low) / span, 2)]
            for i, v in enumerate(energies)]


def _card(title: str, last: np.ndarray, energies: list[float | None], final: float) -> str:
    """Return the HTML of one query: title, picture, curve, number."""
    points = _curve(energies)
    name = html.escape(title)
    path = " ".join(f"{a:g},{b:g}" for a, b in points)
    return (
        f'<figure class="am-movie-card"><figcaption>{name}</figcaption>'
        f'<img class="am-movie-frame" alt="{name or "state"} after the last step" '
        f'src="{_png(last)}" width="{6 * last.shape[1]}">'
        f'<svg class="am-movie-curve" viewBox="0 0 200 80" role="img" aria-label="energy by step">'
        f'<polyline points="{path}"/>'
        f'<circle cx="{points[-1][0]:g}" cy="{points[-1][1]:g}" r="5"/></svg>'
        f'<p class="am-movie-energy">energy <output>{_number(final)}</output></p></figure>'
    )


def _page(cards: list[str], data: dict[str, Any], last: int, *, grey: bool) -> str:
    """Join the cards, the slider, the style and the script."""
    room = resources.files(__package__)
    style, script = ((room / f"movie.{kind}").read_text("utf8") for kind in ("css", "js"))
    body = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    top = len(data["steps"]) - 1
    inner = (
        f'<div class="am-movie-cards">{"".join(cards)}</div>'
        '<div class="am-movie-hands" hidden><button type="button">Play</button>'
        f'<label><span>step <output>{last}</output> of {last}</span>'
        f'<input type="range" min="0" max="{top}" step="1" value="{top}"></label></div>'
        f'<script type="application/json">{body}</script>'
    )
    key = "am-movie-" + hashlib.sha256((style + script + inner).encode()).hexdigest()[:12]
    kind = "am-movie am-movie-grey" if grey else "am-movie"
    return (
        f'<style>{style}</style><div class="{kind}" data-movie="{key}">{inner}</div>'
        f'<script>{script.replace("MOVIE_KEY", key)}</script>'
    )
