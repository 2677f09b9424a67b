"""Photographs: upright, each colour in its place."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_sample_images

from amtutor import data


def test_tiles_are_squares_of_the_photographs_four_pixels_into_one():
    """Every tile by its definition: the mean of 4 x 4 pixels, rows down, columns to the right."""
    expected = []
    for photo in load_sample_images().images:
        for top in range(0, photo.shape[0] - 127, 128):
            for left in range(0, photo.shape[1] - 127, 128):
                tile = photo[top : top + 128, left : left + 128].astype(float)
                small = sum(tile[i::4, j::4] for i in range(4) for j in range(4)) / 16
                expected.append(np.moveaxis(small, 2, 0))
    assert np.array_equal(data.photos(), np.round(expected).astype(np.uint8))
