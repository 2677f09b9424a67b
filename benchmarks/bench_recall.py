"""Asynchronous binary recall against a plain NumPy loop that computes both energies at each visit.

Same patterns, same queries, same order of visits, and the final bits are compared. Where the loop
would take minutes it does a part of the work and is scaled; the table says which part. Each case is
measured twice: as the machine is, and with one process beside it that never rests, as on a hosted
notebook or a laptop in use.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
from benchmarks.report import row

from amtutor import fast
from amtutor.memory.discrete import DiscreteDenseAM, Exponential, RectifiedPolynomial

HERE = Path(__file__).resolve().parent
STATUS = Path("/proc/self/status")  # Linux only; elsewhere peak memory is not measured
ROUNDS = 5


def problem(k: int, dim: int, queries: int, visits: int):
    """Random patterns, some of them with a fifth of their bits flipped, and an order of visits."""
    g = torch.Generator().manual_seed(0)
    patterns = 2.0 * torch.randint(0, 2, (k, dim), generator=g) - 1
    cues = patterns[:queries].clone()
    cues[torch.rand(cues.shape, generator=g) < 0.2] *= -1
    if visits == dim:
        order = torch.rand(len(cues), dim, generator=g).argsort(-1)
    else:
        order = torch.randint(0, dim, (len(cues), visits), generator=g)
    return patterns, cues, order


def rectified_energy(patterns: np.ndarray, state: np.ndarray) -> float:
    return -(np.maximum(patterns @ state / len(state), 0) ** 10).sum()


def log_sum_exp_energy(patterns: np.ndarray, state: np.ndarray) -> float:
    s = patterns @ state
    return -(s.max() + np.log(np.exp(s - s.max()).sum()))


def naive(energy, patterns: np.ndarray, state: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The loop one would write first: flip, look at both energies, keep the lower one."""
    state = state.copy()
    for i in order:
        before = energy(patterns, state)
        state[i] = -state[i]
        if energy(patterns, state) >= before:
            state[i] = -state[i]
    return state


CASES = {
    # name: separation, energy of the loop, K, D, queries, visits, loop's share, ratios to reach
    "n = 10, 20 queries": (
        RectifiedPolynomial(10), rectified_energy, 1000, 100, 20, 100, (20, 100), (20, 15)
    ),
    "n = 10, 1000 queries": (
        RectifiedPolynomial(10), rectified_energy, 1000, 100, 1000, 100, (20, 100), (150, 100)
    ),
    "sprite size, 25 queries": (
        Exponential(), log_sum_exp_energy, 1024, 2304, 25, 16_000, (2, 100), (200, 200)
    ),
}  # fmt: skip


def peak_megabytes(name: str) -> float:
    """Run our side in a fresh process and say how far its memory rose above patterns and cues."""
    command = [sys.executable, "-m", f"benchmarks.{Path(__file__).stem}", name]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def measure_peak(name: str) -> None:
    separation, _, k, dim, queries, visits, *_ = CASES[name]
    patterns, cues, order = problem(k, dim, queries, visits)
    small = problem(8, 16, 2, 16)
    fast.recall(DiscreteDenseAM(small[0], separation), small[1], order=small[2])
    before = _status("VmRSS")
    fast.recall(DiscreteDenseAM(patterns, separation), cues, order=order)
    print(_status("VmHWM") - before)


def _status(field: str) -> float:
    line = next(s for s in STATUS.read_text().splitlines() if s.startswith(field))
    return int(line.split()[1]) * 1024 / 1e6


def seconds(run) -> float:
    """Seconds of one call: the mean over as many calls as fill a twentieth of a second."""
    start, calls = time.perf_counter(), 0
    while calls == 0 or time.perf_counter() - start < 0.05:
        run()
        calls += 1
    return (time.perf_counter() - start) / calls


@contextmanager
def busy_neighbour() -> Iterator[None]:
    """One process beside this one that never rests."""
    beside = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        beside.kill()
        beside.wait()


def measure(name: str) -> None:
    """Print two lines: our time, the loop's, the ratio; and refuse bits that do not agree."""
    separation, energy, k, dim, queries, visits, (some, part), targets = CASES[name]
    patterns, cues, order = problem(k, dim, queries, visits)
    memory = DiscreteDenseAM(patterns, separation)
    xi, start, steps = patterns.numpy(), cues.numpy(), order.numpy()

    def loop():
        return [naive(energy, xi, start[q], steps[q, :part]) for q in range(some)]

    def ours():
        return fast.recall(memory, cues, order=order)

    same = torch.equal(
        torch.tensor(np.stack(loop())),
        fast.recall(memory, cues[:some], order=order[:some, :part]).state,
    )
    same &= torch.equal(ours().state, memory.recall(cues, order=order).state)
    assert same, f"{name}: final bits differ"
    scale = queries * visits / (some * part)
    peak = peak_megabytes(name) if STATUS.exists() else float("nan")
    for beside, target in zip(("", "one busy"), targets, strict=True):
        with busy_neighbour() if beside else nullcontext():
            pairs = [(seconds(loop), seconds(ours)) for _ in range(ROUNDS)]
        ratio = statistics.median(scale * a / b for a, b in pairs)
        loop_time, our_time = (statistics.median(t) for t in zip(*pairs, strict=True))
        print(
            f"{name:25s}{beside:>9s}{1e6 * our_time / queries:12.1f}"
            f"{1e6 * loop_time / some / part * visits:14.0f}{ratio:8.0f}x{target:8d}x{peak:9.0f}"
            f"  {1 / scale:9.2%}  {'met' if ratio >= target else 'NOT MET in this run'}"
        )
        busy = ", a busy process beside both" if beside else ""
        row(
            f"binary recall, {name}, K = {k}, D = {dim}, {visits} visits{busy}",
            found=ratio,
            unit="times faster",
            against="a NumPy loop with two energies a visit, same final bits",
            at_least=target,
            readme=True,
        )
    size = f"binary recall, {name}, K = {k}, D = {dim}"
    row(size, found=peak, unit="MB", against=f"patterns of {4e-6 * k * dim:.1f} MB")


def main() -> None:
    """Print the table; numbers of runs whose bits differ are refused."""
    print(f"exact rule, medians of {ROUNDS} rounds; the loop's time is scaled from its share")
    print(
        f"{'':25s}{'beside':>9s}{'us a query':>12s}{'loop, us':>14s}{'ratio':>9s}{'target':>9s}"
        f"{'MB':>9s}  {'loop did':>9s}"
    )
    for name in CASES:
        measure(name)


if __name__ == "__main__":
    measure_peak(sys.argv[1]) if len(sys.argv) > 1 else main()
