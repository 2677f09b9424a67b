"""Points in the plane: a dinosaur of our own, and the reader of a famous one."""

from __future__ import annotations

import csv
import math

import numpy as np

from amtutor._check import count
from amtutor.data.files import DataCorrupt, DataNotFound, find, places

# Corners of the outline, drawn by hand on a sheet of 100 x 100, clockwise from the nose.
_OUTLINE = (
    ((4, 80), (6, 86), (11, 89), (17, 89), (21, 86), (23, 80), (25, 70), (29, 60))  # head, nape
    + ((36, 55), (46, 56), (56, 56), (65, 52), (72, 45), (80, 38), (89, 33), (99, 33))  # back
    + ((89, 28), (80, 29), (74, 30), (72, 22), (72, 12), (73, 4), (62, 4), (62, 14))  # tail, leg
    + ((60, 22), (52, 20), (46, 22), (45, 12), (46, 4), (35, 4), (35, 14), (33, 26))  # belly, leg
    + ((25, 36), (19, 48), (16, 60), (15, 71), (12, 75), (6, 75))  # chest, throat, jaw
)
DATASAURUS_POINTS = 142


def dinosaur(n: int = 142) -> np.ndarray:
    """Return ``n`` points on a dinosaur's outline, evenly spaced along it: (n, 2) float64.

    The outline is a closed Catmull-Rom curve through corners drawn by hand. The points are centred
    and scaled to a mean squared distance of 2 from the centre: about unit variance a coordinate.

    >>> points = dinosaur(100)
    >>> points.shape, bool(abs((points**2).sum(axis=1).mean() - 2) < 1e-12)
    ((100, 2), True)
    """
    n = count("n", n, least=3)
    curve = _catmull_rom(np.array(_OUTLINE, dtype=np.float64), per_piece=64)
    walked = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(curve, axis=0).T))])
    stops = np.arange(n) * (walked[-1] / n)
    points = np.stack([np.interp(stops, walked, axis) for axis in curve.T], axis=1)
    points -= points.mean(axis=0)
    return points * math.sqrt(2 / (points**2).sum(axis=1).mean())


def _catmull_rom(corners: np.ndarray, *, per_piece: int) -> np.ndarray:
    """Closed smooth curve through ``corners``, first point repeated at the end."""
    before, after = np.roll(corners, 1, axis=0), np.roll(corners, -1, axis=0)
    beyond = np.roll(corners, -2, axis=0)
    t = (np.arange(per_piece) / per_piece)[:, None]
    pieces = [
        0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2)
        + 0.5 * (3 * b - a - 3 * c + d) * t**3
        for a, b, c, d in zip(before, corners, after, beyond, strict=True)
    ]
    return np.concatenate([*pieces, corners[:1]])


def datasaurus() -> np.ndarray:
    """Read the Datasaurus (Cairo 2016), 142 points in the units of its drawing: (142, 2) float64.

    The file ``datasaurus/dino.csv`` (columns x and y) is sought in the folder ``AMTUTOR_DATA`` and
    in the cache. :func:`dinosaur` needs no file.

    Raises:
        DataNotFound: if the file is nowhere.
        DataCorrupt: if it is not a table of 142 pairs of numbers.
    """
    path = find("datasaurus/dino.csv", "dino.csv")
    if path is None:
        raise DataNotFound(
            f"datasaurus/dino.csv: not in {places()}; put it there, or use data.dinosaur(), which "
            "needs no file"
        )
    try:
        with path.open(newline="", encoding="utf-8") as file:
            points = np.array([(float(row["x"]), float(row["y"])) for row in csv.DictReader(file)])
    except (KeyError, TypeError, ValueError) as error:
        raise DataCorrupt(
            f"{path}: expected columns x and y of numbers ({type(error).__name__}: {error}); "
            "replace the file"
        ) from None
    if points.shape != (DATASAURUS_POINTS, 2) or not np.isfinite(points).all():
        raise DataCorrupt(
            f"{path}: expected {DATASAURUS_POINTS} pairs of finite numbers, got {len(points)} "
            "rows; replace the file"
        )
    return points
