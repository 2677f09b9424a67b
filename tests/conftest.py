"""What all tests share: one thread, the same random numbers on every run."""

from __future__ import annotations

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("amtutor", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("amtutor")


@pytest.fixture(autouse=True)
def same_numbers():
    torch.manual_seed(0)
