"""SIGKILL at random moments: what is on the disk is always enough to end at the same bits."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import sys
import time

import pytest
import small_runs
from small_runs import numbers, weights

CONFIG = ("steps=36", "checkpoint_every=3", "log_every=4", "evaluate_every=20")
MOMENTS = 5


def start(folder):
    """Train in a process of its own.

    A fork of a process that has no threads yet: a fork of this one would wait for ever for
    threads that were not forked with it, once torch has used two.
    """
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["small_runs", "amtutor.train.loop", "accelerate"])
    process = server.Process(target=small_runs.train, args=(folder, CONFIG))
    process.start()
    return process


def killed_at(process, folder, dice) -> bool:
    """Kill it a random moment after the next sign of life; False where it ended before."""
    seen = newest(folder)
    while process.is_alive() and newest(folder) == seen:
        time.sleep(0.001)
    time.sleep(dice.uniform(0, 0.02))
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    return process.exitcode == -signal.SIGKILL


def newest(folder) -> list[str]:
    """What lies in the folder and among its checkpoints now."""
    return sorted(p.name for p in [*folder.glob("*"), *folder.glob("checkpoints/*")])


@pytest.mark.skipif(sys.platform == "win32", reason="no forkserver")
def test_killed_at_random_moments_it_ends_bit_equal(tmp_path):
    """Each moment is counted from something that appears on the disk, not from a clock."""
    process = start(tmp_path / "whole")
    process.join()
    assert process.exitcode == 0
    dice, kills, killed = random.Random(0), 0, tmp_path / "killed"
    while kills < MOMENTS:
        process = start(killed)
        for _ in range(dice.randrange(4)):  # some signs later
            seen = newest(killed)
            while process.is_alive() and newest(killed) == seen:
                time.sleep(0.001)
        if killed_at(process, killed, dice):
            kills += 1
            continue
        assert process.exitcode == 0
        if kills >= 2:
            break
        shutil.rmtree(killed)  # a busy machine looked too late: a run that ended shows nothing
        kills = 0
    process = start(killed)
    process.join()
    assert process.exitcode == 0
    assert numbers(killed) == numbers(tmp_path / "whole")
    ours, theirs = weights(killed, 36), weights(tmp_path / "whole", 36)
    assert ours == theirs
    names = [p.name for p in (killed / "checkpoints").iterdir()]
    assert sorted(names) == ["step-00000033", "step-00000036"]
