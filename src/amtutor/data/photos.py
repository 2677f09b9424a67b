"""Thirty small pictures cut from the two photographs that scikit-learn ships: always at hand."""

from __future__ import annotations

import numpy as np

SIZE, SHRINK = 32, 4


def photos() -> np.ndarray:
    """Return 30 pictures, uint8 (30, 3, 32, 32): a temple and a flower, shrunk and cut into tiles.

    They stand in where CIFAR-10 cannot be had. The photographs are scikit-learn's ``china.jpg`` and
    ``flower.jpg`` (CC BY).
    """
    from sklearn.datasets import load_sample_images

    tiles = []
    for photo in load_sample_images().images:
        rows, columns = (n // (SIZE * SHRINK) for n in photo.shape[:2])
        photo = photo[: rows * SIZE * SHRINK, : columns * SIZE * SHRINK].astype(np.float64)
        cells = photo.reshape(rows, SIZE, SHRINK, columns, SIZE, SHRINK, 3).mean((2, 5))
        tiles.append(cells.transpose(0, 2, 4, 1, 3).reshape(-1, 3, SIZE, SIZE))
    return np.concatenate(tiles).round().astype(np.uint8)
