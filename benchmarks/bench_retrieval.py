"""LSE retrieval, K = 10 000 memories of dimension 784, 256 queries, 20 steps, float32.

Every way takes the same 20 gradient steps of size 1. Rounds go through all ways in turn, so that
noise of the machine falls on everybody; a ratio is the median over rounds of the ratios within a
round. Peak memory is measured in a process of its own, above memories and queries.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import torch
from benchmarks.report import row

from amtutor import fast
from amtutor.descent import descend
from amtutor.fast._matmul import reduced_precision
from amtutor.memory.dense import DenseAM, lse_energy, nearest

K, D, QUERIES, STEPS, BETA, ROUNDS = 10_000, 784, 256, 20, 1.0, 5
TARGET_TIME, TARGET_MB = 0.55, 60
HERE = Path(__file__).resolve().parent
STATUS = Path("/proc/self/status")  # Linux only; elsewhere peak memory is not measured


def problem(k: int = K) -> tuple[torch.Tensor, torch.Tensor]:
    """Uniform memories, and noisy versions of the first ones as queries."""
    rng = torch.Generator().manual_seed(0)
    memories = torch.empty(k, D).uniform_(generator=rng)
    noise = torch.empty(min(QUERIES, k), D).normal_(generator=rng)
    return memories, memories[:QUERIES] + 0.3 * noise


def textbook_energy(x, memories):
    """The energy as one would type it, with nothing kept in bounds."""
    scores = x @ memories.T - 0.5 * memories.square().sum(-1)
    return 0.5 * x.square().sum(-1) - torch.logsumexp(BETA * scores, -1) / BETA


def by_autograd(memories, x):
    return descend(lambda s: lse_energy(s, memories, beta=BETA), x, steps=STEPS, step_size=1.0)


def by_textbook_autograd(memories, x):
    return descend(lambda s: textbook_energy(s, memories), x, steps=STEPS, step_size=1.0)


def closed_form(memories, x):
    return DenseAM(memories, beta=BETA).recall(x, steps=STEPS)


def hurried(memories, x):
    return fast.retrieve(DenseAM(memories, beta=BETA), x, steps=STEPS)


def reduced(memories, x):
    can = hasattr(getattr(torch.backends.mkldnn, "matmul", None), "fp32_precision")
    with reduced_precision() if can else nullcontext():
        return closed_form(memories, x)


WAYS = {
    "automatic differentiation": by_autograd,
    "the same, energy typed in 2 lines": by_textbook_autograd,
    "closed form": closed_form,
    "fast.retrieve": hurried,
    "reduced_precision() (opt-in)": reduced,
}


def peak_megabytes(way: str) -> float:
    """Run one way in a fresh process and say how far its memory rose."""
    command = [sys.executable, "-m", f"benchmarks.{Path(__file__).stem}", way]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def measure_peak(way: str) -> None:
    """Child process: load every library on a small problem, then watch the large one."""
    WAYS[way](*problem(64))
    memories, x = problem()
    before = _status("VmRSS")
    WAYS[way](memories, x)
    print(_status("VmHWM") - before)


def _status(field: str) -> float:
    """Read a line of this process's memory status, in MB (a child's ru_maxrss is the parent's)."""
    line = next(s for s in STATUS.read_text().splitlines() if s.startswith(field))
    return int(line.split()[1]) * 1024 / 1e6


def main() -> None:
    """Print the table, and refuse to print numbers of ways that do not agree."""
    memories, x = problem()
    ends = {name: way(memories, x) for name, way in WAYS.items()}  # warm, and to compare
    times = {name: [] for name in WAYS}
    for _ in range(ROUNDS):
        for name, way in WAYS.items():
            start = time.perf_counter()
            way(memories, x)
            times[name].append(time.perf_counter() - start)

    base = next(iter(WAYS))
    print(
        f"K={K} D={D} queries={QUERIES} steps={STEPS} beta={BETA}: seconds are medians of "
        f"{ROUNDS} rounds"
    )
    print(f"{'':36s}{'seconds':>9s}{'ratio':>8s}{'extra MB':>10s}{'max |dx|':>11s}{'right':>7s}")
    shown = {}
    for name in WAYS:
        ratio = statistics.median(a / b for a, b in zip(times[name], times[base], strict=True))
        peak = peak_megabytes(name) if STATUS.exists() else float("nan")
        apart = (ends[name].state - ends[base].state).abs().max().item()
        right = (nearest(ends[name].state, memories) == torch.arange(QUERIES)).sum().item()
        shown[name] = (ratio, peak)
        seconds = statistics.median(times[name])
        print(f"{name:36s}{seconds:9.2f}{ratio:8.2f}{peak:10.0f}{apart:11.1e}{right:7d}")
        assert apart < 1e-4 or name.startswith("reduced"), f"{name} differs by {apart}"
        ours = name == "fast.retrieve"
        what = f"continuous recall, K = {K}, D = {D}, {QUERIES} queries, {STEPS} steps, {name}"
        if name != base:
            bound = TARGET_TIME if ours else None
            how = {"found": ratio, "unit": "of the time", "against": base}
            row(what, **how, at_most=bound, readme=ours)
        bound = TARGET_MB if ours else None
        against = f"memories of {4e-6 * K * D:.0f} MB"
        row(what, found=peak, unit="MB above them", against=against, at_most=bound, readme=ours)
    ratio, peak = shown["fast.retrieve"]
    met = ratio <= TARGET_TIME and not peak > TARGET_MB
    print(
        f"fast.retrieve: {ratio:.2f} of the time (target {TARGET_TIME}), {peak:.0f} MB "
        f"(target {TARGET_MB}): {'met' if met else 'NOT MET in this run'}"
    )


if __name__ == "__main__":
    measure_peak(sys.argv[1]) if len(sys.argv) > 1 else main()
