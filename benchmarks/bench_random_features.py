"""Energy and gradient of one tensor that holds 100 000 memories, against the memories themselves.

K = 100 000 memories of dimension 64, 256 states, float32, one thread for every way. The distributed
memory has Y = 10 000 frequencies, a cosine and a sine of each. The exact ones are ours, which goes
over the memories in chunks, and the formula typed with one big difference (state, memory, entry), a
few states at a time because all of it would be 6.5 GB. Rounds go through all ways in turn; a ratio
is the median over rounds of the ratios within a round (the last way, which takes long and leads by
far, goes through the first round only).

What the distributed memory says is an estimate. Its errors stand beside: of the energy, times beta
(so it is the error of a logarithm); of the gradient, over the gradient's length.
"""

from __future__ import annotations

import statistics
import time

import torch
from benchmarks.report import row

from amtutor.memory.dense import lse_energy, lse_gradient
from amtutor.memory.random_features import DistributedDenseAM, TrigonometricFeatures

K, D, Y, STATES, ROUNDS = 100_000, 64, 10_000, 256, 3
BETAS = (0.1, 0.05, 0.02)  # the last is timed; the others show what beta does to the errors
OURS, BROADCAST, SECONDS = 6, 30, 5.0


def problem() -> tuple[torch.Tensor, torch.Tensor]:
    """Memories in 100 crowds, and states near some of them."""
    g = torch.Generator().manual_seed(0)
    crowds = torch.randn(100, D, generator=g)
    memories = crowds.repeat(K // 100, 1) + 0.5 * torch.randn(K, D, generator=g)
    return memories, memories[:STATES] + 0.5 * torch.randn(STATES, D, generator=g)


def chunked(memories, x, beta):
    return lse_energy(x, memories, beta=beta), lse_gradient(x, memories, beta=beta)


def broadcast(memories, x, beta, at_once: int = 4):
    energies, slopes = [], []
    for part in x.split(at_once):
        apart = part[:, None] - memories
        score = -0.5 * beta * apart.square().sum(-1)
        energies.append(-score.logsumexp(-1) / beta)
        slopes.append((score.softmax(-1)[..., None] * apart).sum(1))
    return torch.cat(energies), torch.cat(slopes)


def build(memories, beta) -> tuple[DistributedDenseAM, float, float]:
    """A memory, and the seconds it took, frequencies included: of the clock, of the processor."""
    start, worked = time.perf_counter(), time.process_time()
    features = TrigonometricFeatures(D, Y, seed=1)
    memory = DistributedDenseAM.of(memories, features, beta=beta)
    return memory, time.perf_counter() - start, time.process_time() - worked


def main() -> None:
    """Print the table and whether the numbers to reach are reached."""
    memories, x = problem()
    threads = torch.get_num_threads()
    memory, seconds, worked = build(memories, BETAS[-1])
    torch.set_num_threads(1)
    beta = BETAS[-1]
    ways = {
        "distributed": lambda: (memory.energy(x), memory.gradient(x)),
        "exact, in chunks": lambda: chunked(memories, x, beta),
        "exact, broadcast": lambda: broadcast(memories, x, beta),
    }
    ends = {name: way() for name, way in ways.items()}  # warm, and to compare
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            if name == "exact, broadcast" and times[name]:
                continue
            start = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - start)
    print(f"K={K} D={D} Y={Y} states={STATES} beta={beta}: medians of {ROUNDS} rounds, one thread")
    print(f"{'':20s}{'seconds':>9s}{'ratio':>8s}{'error E':>9s}{'error dE':>10s}")
    base, exact = times["distributed"], ends["exact, in chunks"]
    ratios = {}
    for name, took in times.items():
        ratios[name] = statistics.median(a / b for a, b in zip(took, base, strict=False))
        off, slope = errors(ends[name], exact, beta)
        print(f"{name:20s}{statistics.median(took):9.3f}{ratios[name]:8.1f}{off:9.1e}{slope:10.1e}")
    met = ratios["exact, in chunks"] >= OURS and ratios["exact, broadcast"] >= BROADCAST
    print(
        f"exact takes {ratios['exact, in chunks']:.1f} times as long in chunks (target {OURS}), "
        f"{ratios['exact, broadcast']:.0f} times as broadcast (target {BROADCAST}); built in "
        f"{seconds:.1f} s on {threads} threads, {worked:.1f} s of the processor (target "
        f"{SECONDS:.0f} s): "
        f"{'met' if met and seconds <= SECONDS else 'NOT MET in this run'}"
    )
    numbers = memory.tensor.numel(), memories.numel()
    what = f"a memory of {numbers[0]} numbers for {K} memories, D = {D}, {STATES} states"
    for name, least in (("exact, in chunks", OURS), ("exact, broadcast", BROADCAST)):
        row(
            what,
            found=ratios[name],
            unit="times faster",
            against=f"the memories themselves, {name}",
            at_least=least,
            readme=True,
        )
    off = 100 * errors(ends["distributed"], exact, beta)[1]
    row(what, found=off, unit="% off in slope", against=f"exact, beta = {beta}", readme=True)
    row(what, found=seconds, unit="s to build", against="nothing", at_most=SECONDS)
    print(f"it holds {numbers[0]} numbers in place of {numbers[1]}; errors by beta:")
    for other in BETAS[:-1]:
        torch.set_num_threads(threads)
        made = build(memories, other)[0]
        both = (made.energy(x), made.gradient(x))
        off, slope = errors(both, chunked(memories, x, other), other)
        print(f"  beta={other:<6g} energy {off:.1e}, gradient {slope:.1e}, noise {made.noise:.0f}")


def errors(both, exact, beta) -> tuple[float, float]:
    off = beta * (both[0] - exact[0]).square().mean().sqrt()
    slope = (both[1] - exact[1]).norm() / exact[1].norm()
    return float(off), float(slope)


if __name__ == "__main__":
    main()
