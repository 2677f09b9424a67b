"""What cannot fit is refused before the work, in numbers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from amtutor.train import find_task, limits, load_preset, preset_names


@pytest.fixture
def kilobyte(monkeypatch):
    """A machine with 1200 bytes."""
    monkeypatch.setattr(limits, "memory", lambda device: 1200)


TASK = SimpleNamespace(device=torch.device("cpu"), config=SimpleNamespace(batch_size=7))


def test_a_batch_is_counted_three_times_in_float32(kilobyte):
    """Rows of 10 numbers take 3 * 4 * 10 bytes each: ten of them fit in 1200 bytes."""
    data = {"x": torch.zeros(50, 10), "y": torch.zeros(50)}
    limits.check_batch(TASK, data, 10)
    with pytest.raises(ValueError, match="batch_size = 7: expected at most 10"):
        limits.check_batch(TASK, data, 11)


def test_pictures_are_counted_twice(kilobyte):
    """When blocks are joined all pictures are there twice."""
    part = torch.zeros(2, 3, 2, 2, dtype=torch.uint8)
    limits.check_pictures(50, part)
    with pytest.raises(ValueError, match="n = 51: expected at most 50"):
        limits.check_pictures(51, part)


def test_weights_are_counted_four_times(kilobyte):
    class Task:
        def __init__(self, config, device):
            self.config, self.device = config, torch.device(device)

        def build(self):
            return nn.Linear(self.config, 1, bias=False)

    assert limits.count_parameters(Task(75, "cpu")) == 75
    limits.check_model(Task(75, "cpu"))
    with pytest.raises(ValueError, match="the model: 76 parameters"):
        limits.check_model(Task(76, "cpu"))


@pytest.mark.parametrize("name", preset_names())
def test_every_model_that_ships_can_be_counted_before_it_takes_memory(name):
    config = load_preset(name).config
    assert limits.count_parameters(find_task(config.task)(config)) > 0
