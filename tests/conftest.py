"""What all tests share: few threads, the same random numbers on every run, an order of its own.

AMTUTOR_TEST_THREADS=2 gives torch more threads than one. AMTUTOR_TEST_ORDER=7 shuffles the files,
and the tests of each file, by that seed; "random" draws one and says which.
"""

from __future__ import annotations

import os
import random

import pytest
import torch
from hypothesis import settings

ORDER = os.environ.get("AMTUTOR_TEST_ORDER", "")
if ORDER == "random":  # one seed for all workers of pytest-xdist, who inherit it
    ORDER = os.environ["AMTUTOR_TEST_ORDER"] = str(random.SystemRandom().randrange(10**6))

torch.set_num_threads(int(os.environ.get("AMTUTOR_TEST_THREADS", "1")))
settings.register_profile("amtutor", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("amtutor")


def pytest_report_header() -> str:
    order = f"shuffled by AMTUTOR_TEST_ORDER={ORDER}" if ORDER else "as written"
    return f"torch {torch.__version__}, {torch.get_num_threads()} threads; order: {order}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Shuffle files, and tests inside files; a file stays together, for its fixtures' sake."""
    if not ORDER:
        return
    dice = random.Random(int(ORDER))
    files: dict[object, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    groups = [files[path] for path in sorted(files, key=str)]
    dice.shuffle(groups)
    for group in groups:
        dice.shuffle(group)
    items[:] = [item for group in groups for item in group]


@pytest.fixture(autouse=True)
def same_numbers():
    torch.manual_seed(0)
