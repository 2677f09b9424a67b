"""Thirty SIGKILLs at random moments of a training: does it end at the same bits, what does it cost?

Each start is a process of its own, `amtutor train toy-smoke`, as on a cluster that takes machines
away. Some kills fall into imports, some into a checkpoint being written, some into the last step.
Also: seconds that a checkpoint takes, beside the steps between two of them.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.report import row

from amtutor.train import checkpoint as ck

KILLS = 30
STEPS, EVERY = 4000, 20
WORDS = f"train toy-smoke --quiet --device cpu --set steps={STEPS} checkpoint_every={EVERY}".split()
WORDS += ["sample_every=0", "evaluate_every=500", "threads=1"]


def start(folder: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "amtutor", *WORDS, "--out", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, env=environment, **quiet)


def until_it_trains(process: subprocess.Popen, folder: Path) -> None:
    """Wait until the folder's metrics were opened in this start (or the process has ended)."""
    log, began = folder / "environment.txt", time.time()
    while process.poll() is None and not (log.is_file() and log.stat().st_mtime > began):
        time.sleep(0.01)


def state(folder: Path) -> dict[str, bytes]:
    home = folder / "checkpoints" / ck.name_of(STEPS)
    return {path.name: path.read_bytes() for path in home.iterdir()}


def steps(folder: Path) -> int:
    found = ck.checkpoints(folder / "checkpoints")
    return ck.step_of(found[-1]) if found else 0


def undisturbed(folder: Path) -> tuple[float, float]:
    """Return the seconds before training began, and those of training."""
    began = time.monotonic()
    process = start(folder)
    until_it_trains(process, folder)
    ready = time.monotonic()
    assert process.wait() == 0
    return ready - began, time.monotonic() - ready


def disturbed(folder: Path, *, warm: float, train: float) -> list[int]:
    """Kill `KILLS` times, then let it end; return the last saved step at each kill."""
    dice, at = random.Random(0), []
    while len(at) < KILLS:
        process = start(folder)
        if dice.random() < 0.1:
            time.sleep(dice.uniform(0, warm))  # before it trains
        else:
            until_it_trains(process, folder)
            # So that about thirty such pieces make up one training.
            time.sleep(dice.uniform(0, 1.6 * train / KILLS))
        if process.poll() is not None:
            break
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        at.append(steps(folder))
    assert start(folder).wait() == 0
    return at


def checkpoint_seconds(folder: Path) -> float:
    """Return the seconds that one checkpoint of this run takes to write."""
    last = ck.load(ck.checkpoints(folder / "checkpoints")[-1])
    with tempfile.TemporaryDirectory(dir=folder) as place:
        began = time.perf_counter()
        for step in range(10):
            ck.save(Path(place), ck.Checkpoint(step, last.settings, last.parts, last.state))
        return (time.perf_counter() - began) / 10


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        whole, killed = Path(place) / "whole", Path(place) / "killed"
        warm, train = undisturbed(whole)
        at = disturbed(killed, warm=warm, train=train)
        equal = state(whole) == state(killed)
        share = checkpoint_seconds(whole) * (STEPS / EVERY) / train
    print(f"undisturbed: {warm:.1f} s to start, {train:.1f} s for {STEPS} steps")
    print(f"SIGKILL {len(at)} times, last saved steps {at}")
    print(f"a checkpoint every {EVERY} steps takes {share:.0%} of the time (fsync included)")
    print(f"ends at the same bits: {'yes' if equal else 'NO'}")
    assert equal and len(at) >= KILLS * 2 // 3
    row(
        f"kills of a training of {STEPS} steps, ended at the same bits",
        found=len(at),
        unit="kills survived",
        against="an undisturbed training",
        at_least=KILLS * 2 // 3,
        readme=True,
    )
    share = {"found": 100 * share, "unit": "% of the time", "against": "the training itself"}
    row(f"a checkpoint every {EVERY} steps, flushed to disk", **share)


if __name__ == "__main__":
    main()
