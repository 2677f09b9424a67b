"""Samples in blocks, and sheets of them."""

from __future__ import annotations

import pytest
import torch

from amtutor.train import pictures


class Painter:
    """A task that paints noise, and remembers what it was asked."""

    name, draws_pictures = "painter", True

    def __init__(self):
        self.asked = []

    def sample(self, model, n, *, seed):
        self.asked.append((n, seed))
        g = torch.Generator().manual_seed(seed)
        return torch.randint(256, (n, 3, 4, 4), generator=g, dtype=torch.uint8)


def draw(n, **options):
    return pictures.draw_samples(Painter(), None, n, **options)


def test_every_block_has_noise_of_its_own():
    found = draw(25, batch_size=10)
    assert found.shape == (25, 3, 4, 4)
    assert len({picture.numpy().tobytes() for picture in found}) == 25


def test_samples_are_a_function_of_the_seed_and_the_first_of_more_are_those_of_fewer():
    found = draw(25, batch_size=10, seed=3)
    assert torch.equal(found[:12], draw(12, batch_size=10, seed=3))
    assert not torch.equal(found, draw(25, batch_size=10, seed=4))


def test_all_blocks_are_of_one_size():
    """Or the last pictures would depend on how many there are."""
    task = Painter()
    pictures.draw_samples(task, None, 25, batch_size=10)
    assert [n for n, _ in task.asked] == [10, 10, 10]


def test_a_task_without_pictures_is_refused():
    task = Painter()
    task.draws_pictures = False
    with pytest.raises(ValueError, match="task 'painter' draws no pictures"):
        pictures.draw_samples(task, None, 3)


def test_pictures_lie_row_by_row_with_paper_between():
    tiles = torch.arange(1, 6, dtype=torch.uint8).reshape(5, 1, 1, 1).expand(5, 1, 2, 3) * 10
    sheet = pictures.grid(tiles, columns=3, gap=1, tile=0)
    assert sheet.shape == (2 * 3 - 1, 3 * 4 - 1, 3)
    assert (sheet[:2, :3] == 10).all() and (sheet[:2, 8:] == 30).all()
    assert (sheet[3:, 4:7] == 50).all() and (sheet[3:, 8:] == 255).all()
    assert (sheet[2] == 255).all() and (sheet[:, 3] == 255).all()
