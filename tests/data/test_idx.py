"""Digits, shuffled once for all: every picture keeps its label."""

from __future__ import annotations

import numpy as np

from amtutor import data


def test_a_shuffled_digit_keeps_its_label_and_nobody_is_lost():
    images, labels = data.digits()
    known = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    (x, y), (held, held_y) = data.split_digits("small")
    assert len(x) == 1400 and len(x) + len(held) == len(images)
    both = np.concatenate([x.numpy(), held.numpy()])[:, 0]
    found = [known[image.tobytes()] for image in both]
    assert found == [*y.tolist(), *held_y.tolist()]
    assert len({image.tobytes() for image in both}) == len(known)
    assert found != labels.tolist()
