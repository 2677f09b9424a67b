"""SIGKILL at random moments: what is on the disk is always enough to end at the same bits."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import time

import pytest
from small_runs import numbers, small, weights

from amtutor.train import fit

CONFIG = ("steps=36", "checkpoint_every=3", "log_every=4", "evaluate_every=20")
MOMENTS = 5


def child(folder, say):
    fit(small(*CONFIG), folder, progress=False, say=say, device="cpu")


def start(folder):
    """Train in a process of its own; it writes a line where the parent can count them."""
    fork = multiprocessing.get_context("fork")
    process = fork.Process(target=child, args=(folder, lambda line: None))
    process.start()
    return process


def killed_at(process, folder, dice) -> bool:
    """Kill it a random moment after the next sign of life; False where it ended before."""
    seen = newest(folder)
    while process.is_alive() and newest(folder) == seen:
        time.sleep(0.001)
    time.sleep(dice.uniform(0, 0.02))
    alive = process.is_alive()
    if alive:
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    return alive


def newest(folder) -> list[str]:
    """What lies in the folder and among its checkpoints now."""
    return sorted(p.name for p in [*folder.glob("*"), *folder.glob("checkpoints/*")])


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_killed_at_random_moments_it_ends_bit_equal(tmp_path):
    """Each moment is counted from something that appears on the disk, not from a clock."""
    process = start(tmp_path / "whole")
    process.join()
    assert process.exitcode == 0
    dice, kills = random.Random(0), 0
    for _ in range(MOMENTS):
        process = start(tmp_path / "killed")
        for _ in range(dice.randrange(4)):  # some signs later
            seen = newest(tmp_path / "killed")
            while process.is_alive() and newest(tmp_path / "killed") == seen:
                time.sleep(0.001)
        kills += killed_at(process, tmp_path / "killed", dice)
        if process.exitcode == 0:
            break
    process = start(tmp_path / "killed")
    process.join()
    assert process.exitcode == 0 and kills >= 2
    assert numbers(tmp_path / "killed") == numbers(tmp_path / "whole")
    ours, theirs = weights(tmp_path / "killed", 36), weights(tmp_path / "whole", 36)
    assert ours == theirs
    names = [p.name for p in (tmp_path / "killed" / "checkpoints").iterdir()]
    assert sorted(names) == ["step-00000033", "step-00000036"]
