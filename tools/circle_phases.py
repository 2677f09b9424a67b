"""Train score networks on K points of a circle, for many K and seeds, and see what they make.

    python tools/circle_phases.py            # writes results/circle-phases/phases.json, two minutes
    python tools/circle_phases.py capacity   # the same for networks of four sizes: capacity.json
    python tools/circle_phases.py pack       # both, as they ship: weights/circle_phases.*

All networks (every K, five seeds) are trained at once, as one batch of small matrices. Samples
start from the prior, wide noise that knows nothing of the circle. At every noise level the same
question goes to the learned score and to the exact one: in what kind of well does each sample lie?
"""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from amtutor import _weights
from amtutor.generative import diffusion, phases
from amtutor.generative.score_networks import ScoreNetwork
from amtutor.memory.dense import lse_energy

FOLDER = Path(__file__).parents[1] / "results" / "circle-phases"
COUNTS = (2, 3, 5, 9, 14, 21, 32, 48, 72, 110, 170, 260, 400, 1000)
NOISE = (0.02, 0.03, 0.045, 0.07, 0.1, 0.15, 0.22, 0.33, 0.5)  # below 0.71, where the ring goes
SEEDS, SAMPLES, WIDEST = 5, 400, 4.0
FEW, WIDTHS = (3, 5, 9, 14, 21, 32, 48), (12, 24, 48, 96)
TRAINING = {"width": 48, "depth": 3, "steps": 6000, "batch_size": 128, "lr": 4e-3}
PROCESS = diffusion.VarianceExploding(1.0)


def points(k: int, seed: int) -> Tensor:
    """K points at random on the unit circle; the first K of one list per seed."""
    angle = torch.rand(max(COUNTS), generator=torch.Generator().manual_seed(seed))[:k] * 2 * math.pi
    return torch.stack([angle.cos(), angle.sin()], -1)


class Many:
    """Score networks of one shape, run side by side: x (M, N, 2) at time t."""

    def __init__(self, n: int, *, width: int, depth: int, seed: int = 0) -> None:
        g = torch.Generator().manual_seed(seed)
        nets = [
            ScoreNetwork(2, process=PROCESS, width=width, depth=depth, spread=0.7, generator=g)
            for _ in range(n)
        ]
        self.spread, self.body = nets[0].spread, nets[0].body
        self.weights, _ = stack_module_state([net.body for net in nets])

    def guess(self, x: Tensor, width: Tensor, which: slice = slice(None)) -> Tensor:
        """Minus the noise in x, as `ScoreNetwork.forward` has it, times the width."""
        weights = {k: w[which] for k, w in self.weights.items()}
        size = (width**2 + self.spread**2).sqrt()
        call = vmap(lambda w, v, r: functional_call(self.body, w, (v, r)))
        out = call(weights, x / size, width.log().expand(*x.shape[:-1], 1))
        return self.spread / size * out - width / size**2 * x

    def score(self, x: Tensor, t: float, which: slice = slice(None)) -> Tensor:
        """Score at one time for all."""
        width = torch.full((), PROCESS.width(t))
        return self.guess(x, width, which) / width


def train(data: list[Tensor], *, width: int, depth: int, steps: int, batch_size: int, lr: float):
    """Denoising score matching (weight 1) of all networks at once, noise log-uniform."""
    many, g = Many(len(data), width=width, depth=depth), torch.Generator().manual_seed(1)
    longest = max(map(len, data))
    bank = torch.stack([d[torch.arange(longest) % len(d)] for d in data])  # copies fill the rows
    counts = torch.tensor([len(d) for d in data])[:, None]
    optim = torch.optim.Adam(many.weights.values(), lr=lr)
    plan = torch.optim.lr_scheduler.OneCycleLR(optim, lr, total_steps=steps, pct_start=0.05)
    low, high = math.log(min(NOISE) / 1.5), math.log(WIDEST * 1.2)
    for _ in range(steps):
        pick = (torch.rand(len(data), batch_size, generator=g) * counts).long()
        y = bank.gather(1, pick[..., None].expand(-1, -1, 2))
        wide = (low + (high - low) * torch.rand(len(data), batch_size, 1, generator=g)).exp()
        noise = torch.randn(y.shape, generator=g)
        loss = (many.guess(y + wide * noise, wide) + noise).square().sum(-1).mean(1).sum()
        optim.zero_grad()
        loss.backward()
        optim.step()
        plan.step()
    return many


@torch.no_grad()
def look(many: Many, data: list[Tensor], noise: tuple[float, ...] = NOISE) -> list[list[dict]]:
    """For every network and noise level: shares of phases, learned and exact, and the errors."""
    g = torch.Generator().manual_seed(2)
    start = WIDEST * torch.randn(len(data), SAMPLES, 2, generator=g)
    levels = sorted(NOISE, reverse=True)
    ladder = [float(t) for t in PROCESS.times(WIDEST**2, levels[0] ** 2, steps=40)]
    for high, low in zip(levels, levels[1:], strict=False):
        ladder += [float(t) for t in PROCESS.times(high**2, low**2, steps=8)][1:]
    states = diffusion.probability_flow(
        many.score, start, process=PROCESS, times=torch.tensor(ladder), record=True
    ).states
    rows: list[list[dict]] = [[] for _ in data]
    for s in noise:
        step = min(range(len(ladder)), key=lambda i: abs(ladder[i] - s * s))
        for m, memories in enumerate(data):
            rows[m].append(one(many, m, memories, states[step, m], s, g))
    return rows


def one(many: Many, m: int, memories: Tensor, x: Tensor, s: float, g: torch.Generator) -> dict:
    """What network m makes at noise s, beside what the exact score would."""

    def learned(at: Tensor) -> Tensor:
        return many.score(at[None], s * s, slice(m, m + 1))[0]

    def exact(at: Tensor) -> Tensor:
        return diffusion.empirical_score(at, memories, process=PROCESS, t=s * s)

    truth, size = exact(x), x.norm(dim=1)
    error = (learned(x) - truth).norm() / truth.norm()
    path = phases.valley_around(learned)
    height, gap = phases.heights_along(learned, path)
    label = phases.classify_on_ring(x, memories, height, noise=s)
    way = phases.valley_around(exact)
    true_height = lse_energy(way, memories, beta=s**-2) / s**2
    drawn = memories[torch.randint(len(memories), (SAMPLES,), generator=g)]
    drawn = drawn + s * torch.randn(drawn.shape, generator=g)
    true_label = phases.classify_on_ring(drawn, memories, true_height, noise=s)
    return {
        "learned": shares(label),
        "exact": shares(true_label),
        "error": round(float(error), 4),
        "off_circle": round(float((size - 1).abs().mean()), 4),
        "gap": round(gap, 3),
        "wells": [len(phases.ring_wells(height)), len(phases.ring_wells(true_height))],
    }


def shares(label: Tensor) -> list[float]:
    """Share of each phase."""
    return [round(float((label == p).float().mean()), 4) for p in range(3)]


def phase_diagram(*, quick: bool) -> None:
    """Train, look, write."""
    data = [points(k, seed) for k in COUNTS for seed in range(SEEDS)]
    begin = time.process_time()
    many = train(data, **(TRAINING | {"steps": 300} if quick else TRAINING))
    trained = time.process_time() - begin
    rows = look(many, data)
    out = {
        "counts": COUNTS,
        "noise": NOISE,
        "seeds": SEEDS,
        "samples": SAMPLES,
        "widest": WIDEST,
        "training": TRAINING,
        "runs": [rows[i * SEEDS : (i + 1) * SEEDS] for i in range(len(COUNTS))],
    }
    print(f"{trained:.0f} s of processor to train, {time.process_time() - begin:.0f} s in all")
    write("phases.json", out)


def capacity() -> None:
    """Networks of four widths: how many points do they still keep apart at the least noise?"""
    data = [points(k, seed) for k in FEW for seed in range(SEEDS)]
    out: dict = {"counts": FEW, "widths": WIDTHS, "noise": NOISE[0], "seeds": SEEDS, "runs": []}
    begin = time.process_time()
    for width in WIDTHS:
        many = train(data, **TRAINING | {"width": width})
        rows = [row[0] for row in look(many, data, NOISE[:1])]
        numbers = sum(w[0].numel() for w in many.weights.values())
        runs = [rows[i * SEEDS : (i + 1) * SEEDS] for i in range(len(FEW))]
        out["runs"].append({"numbers": numbers, "rows": runs})
        share = [sum(r["learned"][0] for r in row) / SEEDS for row in runs]
        print(width, numbers, [round(v, 2) for v in share], f"{time.process_time() - begin:.0f} s")
    write("capacity.json", out)


def write(name: str, out: dict) -> None:
    """One line of JSON."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / name).write_text(json.dumps(out, separators=(",", ":")) + "\n")


def pack() -> None:
    """Make tensors of the records, as the package ships them."""
    main_run = json.loads((FOLDER / "phases.json").read_text())
    sizes = json.loads((FOLDER / "capacity.json").read_text())

    def of(key: str) -> Tensor:
        return torch.tensor([[[row[key] for row in run] for run in k] for k in main_run["runs"]])

    tensors = {
        "counts": torch.tensor(main_run["counts"]),
        "noise": torch.tensor(main_run["noise"]),
        **{key: of(key) for key in ("learned", "exact", "error", "off_circle", "gap", "wells")},
        "few": torch.tensor(sizes["counts"]),
        "numbers": torch.tensor([run["numbers"] for run in sizes["runs"]]),
        "kept": torch.tensor(
            [[[row["learned"] for row in k] for k in run["rows"]] for run in sizes["runs"]]
        ),
    }
    _weights.ship(
        Path(_weights.__file__).parent / "weights" / "circle_phases.safetensors",
        tensors,
        kind="phase table",
        what="shares of memorised, spurious and generalised samples on a circle; "
        "counts x seeds x noise x phases (learned, exact), widths x few x seeds x phases (kept)",
        training=main_run["training"],
        command="python tools/circle_phases.py",
    )


def main(words: list[str]) -> None:
    """Do what was asked."""
    if "pack" in words:
        pack()
    elif "capacity" in words:
        capacity()
    else:
        phase_diagram(quick="quick" in words)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1:])
