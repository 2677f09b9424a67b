"""The Energy Transformer block by hand against the same block by automatic differentiation.

The baseline calls torch.func.grad on the block's energy in each update, which is how the block is
usually written. Every other way starts from the same tokens and weights and must end at the same
place. Times alternate in one process; peak memory comes from a fresh process each.

"compiled" is the baseline under torch.compile, the opponent that a reader with a compiler has (left
out, aloud, where there is none). "same library" is the baseline with its float32 products sent to
oneDNN, which the fast form uses where they stay float32: on a processor with AMX they become
bfloat16 there, the table says so, and the fast form keeps away.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from functools import cache, partial
from pathlib import Path

import torch
from benchmarks.report import row

from amtutor import fast
from amtutor.fast._matmul import reduced_precision
from amtutor.fast._walk import _stays_float32
from amtutor.network.energy_transformer import EnergyTransformerBlock

HERE = Path(__file__).resolve().parent
STATUS = Path("/proc/self/status")  # Linux only; elsewhere peak memory is not measured
THREADS = 2
ETA = 0.1
COMPILED = "compiled"
SIZES = {
    # name: dim, heads, head_dim, memories, tokens, batch, updates, rounds
    "full": (768, 12, 64, 3072, 256, 4, 12, 5),
    "long": (768, 12, 64, 3072, 4096, 1, 1, 3),
    "long, half": (768, 12, 64, 3072, 2048, 1, 1, 3),
    "teaching": (128, 4, 32, 512, 65, 32, 12, 15),
}
WAYS = {
    # name: how the update is made, products, largest share of the baseline's time and memory
    "inference": {
        "autograd": (None, "float32", None, None),
        "autograd, compiled": (COMPILED, "float32", None, None),
        "autograd, same library": (None, "onednn", None, None),
        "autograd, bf16": (None, "bf16", None, None),
        "closed form": (False, "float32", None, None),
        "fast": ("fast", "float32", 0.45, 0.35),
        "fast, bf16": ("fast", "bf16", 0.30, None),
    },
    "training": {
        "autograd": (None, "float32", None, None),
        "autograd, compiled": (COMPILED, "float32", None, None),
        "autograd, same library": (None, "onednn", None, None),
        "autograd, bf16": (None, "bf16", None, None),
        "closed form": (False, "float32", None, None),
        "fast": ("fast", "float32", 0.55, None),
        "lean": ("lean", "float32", 0.60, 0.20),
        "fast, bf16": ("fast", "bf16", 0.30, None),
        "lean, bf16": ("lean", "bf16", None, None),
    },
}
LONG = {
    "autograd": None,
    "autograd, compiled": None,
    "autograd, same library": None,
    "fast": 0.35,
    "fast, bf16": None,
}


README = {
    *(("full", job, way) for job in WAYS for way in ("fast", "lean", "fast, bf16")),
    ("full", "training", "autograd, same library"),
    ("long, half", "inference", "fast"),
}


def problem(size: str):
    dim, heads, depth, memories, tokens, batch, *_ = SIZES[size]
    g = torch.Generator().manual_seed(0)
    block = EnergyTransformerBlock(
        dim, n_heads=heads, head_dim=depth, n_memories=memories, generator=g
    )
    return block, torch.randn(batch, tokens, dim, generator=g)


def update(block, x):
    slope = torch.func.grad(lambda g: block.energy(g).sum())
    return x - ETA * slope(block.norm.activation(x))


def by_autograd(block, x, steps: int, take=update):
    for _ in range(steps):
        x = take(block, x)
    return x


@cache
def compiled_update():
    return torch.compile(update)


def once(size: str, job: str, way: str, block, x) -> list[torch.Tensor]:
    """Run one way once; what it returns is compared with the baseline's."""
    form, products, *_ = WAYS[job][way]
    steps = SIZES[size][6]
    setting = {
        "float32": nullcontext(),
        "onednn": reduced_precision(),
        "bf16": torch.autocast("cpu", dtype=torch.bfloat16),
    }[products]
    walk = partial(by_autograd, block, x, steps)
    if form == COMPILED:
        walk = partial(by_autograd, block, x, steps, compiled_update())
    elif form is not None:
        take = partial(fast.walk, mode=form) if form else EnergyTransformerBlock.__call__
        walk = partial(take, block, x, steps=steps, step_size=ETA)
    if job == "inference":
        with torch.no_grad(), setting:
            return [walk()]
    block.zero_grad(set_to_none=True)
    with setting:
        end = walk()
        end.float().square().mean().backward()
    return [end.detach(), *(p.grad for p in block.parameters())]


def peak_megabytes(size: str, job: str, way: str) -> float:
    """Run one way in a fresh process and say how far its memory rose above weights and tokens."""
    if not STATUS.exists() or WAYS[job][way][0] == COMPILED:  # a compiler needs memory of its own
        return float("nan")
    command = [sys.executable, "-m", f"benchmarks.{Path(__file__).stem}", size, job, way]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.split()[-1])


def measure_peak(size: str, job: str, way: str) -> None:
    torch.set_num_threads(THREADS)
    SIZES["warm"] = (32, 2, 16, 32, 16, 2, 2, 1)
    once("warm", job, way, *problem("warm"))
    block, x = problem(size)
    before = _status("VmRSS")
    once(size, job, way, block, x)
    print(json.dumps(_status("VmHWM") - before))


def _status(name: str) -> float:
    line = next(s for s in STATUS.read_text().splitlines() if s.startswith(name))
    return int(line.split()[1]) * 1024 / 1e6


def compare(size: str, job: str, ways: list[str], targets: dict) -> None:
    """Print one table: milliseconds an update, peak memory, ratios to the baseline, the error."""
    steps, rounds = SIZES[size][6:]
    block, x = problem(size)
    want = once(size, job, "autograd", block, x)
    times = {way: [] for way in ways}
    errors = {}
    for way in list(ways):  # warm, and right?
        try:
            errors[way] = _difference(once(size, job, way, block, x), want)
        except Exception as error:
            if WAYS[job][way][0] != COMPILED:
                raise
            reason = (str(error).strip().splitlines() or ["no reason given"])[0]
            print(f"  {way}: left out, torch.compile fails here ({reason[:120]})")
            ways.remove(way)
            del times[way]
            continue
        reduced = "bf16" in way or (WAYS[job][way][1] == "onednn" and not _stays_float32())
        limit = 5e-2 if reduced else 1e-4
        if errors[way] >= limit:
            raise SystemExit(f"FAILED: {size}, {job}, {way}: off by {errors[way]:.1e}")
    for _ in range(rounds):
        for way in ways:
            start = time.perf_counter()
            once(size, job, way, block, x)
            times[way].append(time.perf_counter() - start)
    base = times["autograd"]
    base_memory = peak_megabytes(size, job, "autograd")
    for way in ways:
        ratio = statistics.median(a / b for a, b in zip(times[way], base, strict=True))
        memory = base_memory if way == "autograd" else peak_megabytes(size, job, way)
        most = targets.get(way, (None, None))
        print(
            f"  {way:24s}{1e3 * statistics.median(times[way]) / steps:9.1f}"
            f"{ratio:8.2f}x{_goal(most[0])}{memory:9.0f}{memory / base_memory:8.2f}x"
            f"{_goal(most[1])}{errors[way]:10.0e}",
            flush=True,
        )
        if way != "autograd":
            tell(size, job, way, (ratio, memory / base_memory), most)


def tell(size: str, job: str, way: str, found: tuple[float, float], most) -> None:
    """Two rows: time and memory as shares of the baseline's."""
    dim, *_, tokens, batch, _, _ = SIZES[size]
    what = f"Energy Transformer, D = {dim}, {tokens} tokens, batch {batch}, {job}, {way}"
    for share, bound, unit in zip(found, most, ("of the time", "of the memory"), strict=True):
        shown = (size, job, way) in README and (unit == "of the time" or way in ("fast", "lean"))
        row(what, found=share, unit=unit, against="autograd", at_most=bound, readme=shown)


def _goal(most: float | None) -> str:
    return f" (<= {most:.2f})" if most else " " * 10


def _difference(got: list[torch.Tensor], want: list[torch.Tensor]) -> float:
    pairs = zip(got, want, strict=True)
    return max(((a.float() - b).norm() / b.norm()).item() for a, b in pairs)


def header(text: str) -> None:
    print(f"\n{text}")
    print(f"  {'':24s}{'ms':>9s}{'time':>9s}{'':10s}{'peak MB':>9s}{'memory':>9s}{'error':>20s}")


def main() -> None:
    """Print the tables; an update that does not end where the baseline does is refused."""
    torch.set_num_threads(THREADS)
    if not _stays_float32():
        print(
            'This processor reduces products of "same library" to bfloat16: its error is theirs, '
            "and the fast form stays with the usual library."
        )
    print(f"{THREADS} threads; medians; ms for one update; time and memory as shares of autograd's")
    for job, ways in WAYS.items():
        header(f"{job}, D = 768, 12 heads of 64, 3072 memories, 256 tokens, batch 4, 12 updates")
        compare("full", job, list(ways), {w: v[2:] for w, v in ways.items()})
    for size, tokens in (("long, half", 2048), ("long", 4096)):
        header(f"inference, one sequence of {tokens} tokens, 1 update")
        compare(size, "inference", list(LONG), {w: (v, None) for w, v in LONG.items()})
    for job, ways in WAYS.items():
        header(f"{job}, D = 128, 4 heads of 32, 512 memories, 65 tokens, batch 32, 12 updates")
        compare("teaching", job, list(ways), {})
    print("\n  (whole inference of 12 updates at the teaching size: at most 60 ms, 5 ms an update)")


if __name__ == "__main__":
    measure_peak(*sys.argv[1:]) if len(sys.argv) > 1 else main()
