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

from .._check import count, positive, real, sizes
from .figures import array

_MAX_FRAMES = 120
_SCALE = 6  # page pixels per image pixel where no style sheet says otherwise


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
    shape = sizes("shape", shape, dims=(2, 3), expected="(H, W) or (3, H, W)")
    x, e = _queries(frames, energies, shape)
    queries = x.shape[1]
    titles = [""] * queries if titles is None else list(titles)
    if len(titles) != queries:
        raise ValueError(f"titles: got {len(titles)}, expected {queries}, one per query")
    last = len(x) - 1
    kept = min(len(x), count("max_frames", max_frames, least=2))
    steps = np.linspace(0, last, kept).round().astype(int)
    pixels = _to_bytes(x[steps], vmin, vmax)
    texts = _texts(e[steps])
    data = {
        "steps": steps.tolist(),
        "fps": positive("fps", fps),
        "size": list(pixels.shape[2:4]),
        "strips": [_png(pixels[:, q].reshape(-1, *pixels.shape[3:])) for q in range(queries)],
        "energies": [[row[q] for row in texts] for q in range(queries)],
    }
    curves = _curves(e[steps])
    cards = [_card(titles[q], pixels[-1, q], curves[q], texts[-1][q]) for q in range(queries)]
    return HTML(_page(cards, data, last, grey=pixels.ndim == 4))


def _queries(frames: Any, energies: Any, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return frames (T, queries, H, W[, 3]) and energies (T, queries)."""
    x, e = array("frames", frames), array("energies", energies)
    dim = int(np.prod(shape))
    if x.ndim not in (2, 3) or x.shape[-1] != dim or len(x) < 2:
        raise ValueError(
            f"frames: got shape {x.shape}, expected (T, {dim}) or (T, queries, {dim}) "
            f"for shape={shape}, T >= 2"
        )
    if e.shape != x.shape[:-1]:
        raise ValueError(f"energies: got shape {e.shape}, expected {x.shape[:-1]} as frames have")
    if not np.isfinite(x).all():
        bad = int((~np.isfinite(x)).sum())
        raise ValueError(f"frames: {bad} of {x.size} entries are NaN or infinite")
    x = x.reshape(len(x), -1, *shape)
    return (np.moveaxis(x, 2, -1) if len(shape) == 3 else x), e.reshape(len(e), -1)


def _to_bytes(x: np.ndarray, vmin: float | None, vmax: float | None) -> np.ndarray:
    """Return frames as bytes: grey ones as ink on paper (high is dark)."""
    low = np.nanmin(x) if vmin is None else real("vmin", vmin)
    high = np.nanmax(x) if vmax is None else real("vmax", vmax)
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


def _texts(e: np.ndarray) -> list[list[str]]:
    """Return the energies as the page shows them, all with the same number of decimals."""
    known = e[np.isfinite(e)]
    span = float(np.ptp(known) or np.abs(known).max()) if known.size else 0.0
    decimals = int(np.clip(np.ceil(2.5 - np.log10(span)), 0, 6)) if span else 0
    return [
        [f"{v:z.{decimals}f}".replace("-", "−") if np.isfinite(v) else "∞" for v in row]
        for row in e
    ]


def _curves(e: np.ndarray) -> list[list[str]]:
    """Return each query's curve in the 200 x 80 units of its SVG.

    All share one scale, so that deeper is lower; infinite values lie at the top.
    """
    known = e[np.isfinite(e)]
    low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
    share = np.where(np.isfinite(e), (e - low) / ((high - low) or 1.0), 1.0)
    across, down = 6 + 188 * np.linspace(0, 1, len(e)), 72 - 64 * share
    return [[f"{a:.1f},{b:.1f}" for a, b in zip(across, column, strict=True)] for column in down.T]


def _card(title: str, last: np.ndarray, curve: list[str], energy: str) -> str:
    """Return the HTML of one query: title, picture, curve, number."""
    name = html.escape(title)
    x, y = curve[-1].split(",")
    return (
        f'<figure class="am-movie-card">{f"<figcaption>{name}</figcaption>" if name else ""}'
        f'<img class="am-movie-frame" alt="{name or "state"} after the last step" '
        f'src="{_png(last)}" width="{_SCALE * last.shape[1]}">'
        '<svg class="am-movie-curve" viewBox="0 0 200 80" role="img" aria-label="energy by step">'
        f'<polyline points="{" ".join(curve)}"/><circle cx="{x}" cy="{y}" r="6"/></svg>'
        f'<p class="am-movie-energy">energy <span>{energy}</span></p></figure>'
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
        f'<label><span>step <span class="am-movie-step" style="min-width:{len(str(last))}ch">'
        f"{last}</span> of {last}</span>"
        f'<input type="range" min="0" max="{top}" step="1" value="{top}"></label></div>'
        f'<script type="application/json">{body}</script>'
    )
    key = "am-movie-" + hashlib.sha256((style + script + inner).encode()).hexdigest()[:12]
    kind = "am-movie" + " am-movie-grey" * grey + " am-movie-one" * (len(cards) == 1)
    return (
        f'<style>{style}</style><div class="{kind}" data-movie="{key}">{inner}</div>'
        f"<script>{script.replace('MOVIE_KEY', key)}</script>"
    )
