"""Train score networks on K handwritten digits, two on different ones each, and see what they make.

    python tools/digit_phases.py             # writes results/digit-phases/, six minutes of a core
    python tools/digit_phases.py 16 32       # these K anew; the others stay as they are written
    python tools/digit_phases.py pack        # as it ships: weights/digit_phases.*

MNIST's 10 000 test digits, made 14 x 14 pixels by averaging. For every K network A learns K of them
and network B K others; both start from the same noise. A last one learns 512 of which one digit is
there sixty-four times. Distances are judged against `scale`: half the median distance of a digit
to the nearest other one.
"""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from amtutor import _weights, data
from amtutor.generative import diffusion, phases
from amtutor.generative.score_networks import ScoreNetwork, denoising_loss

FOLDER = Path(__file__).parents[1] / "results" / "digit-phases"
COUNTS, COPIES, SAMPLES, SHOWN = (4, 8, 16, 32, 64, 512, 4096), 64, 300, 8
TRAINING = {"width": 320, "depth": 3, "steps": 2200, "batch_size": 128, "lr": 2e-3}
WIDEST, NARROWEST = 20.0, 0.05
PROCESS = diffusion.VarianceExploding(1.0)


def digits() -> Tensor:
    """All of them, (10000, 196), between 0 and 1."""
    pictures = data.to_unit(data.mnist("test")[0]).reshape(-1, 1, 28, 28)
    return torch.nn.functional.avg_pool2d(pictures, 2).flatten(1)


def train(points: Tensor, *, width: int, depth: int, steps: int, batch_size: int, lr: float):
    """Denoising score matching, noise log-uniform; weights averaged over the last steps."""
    g = torch.Generator().manual_seed(0)
    spread = float((points - points.mean(0)).square().mean().sqrt())
    net = ScoreNetwork(
        points.shape[1], process=PROCESS, width=width, depth=depth, centre=points.mean(0),
        spread=spread, generator=g,
    )  # fmt: skip
    optim = torch.optim.Adam(net.parameters(), lr=lr)
    plan = torch.optim.lr_scheduler.OneCycleLR(optim, lr, total_steps=steps, pct_start=0.05)
    low, high = 2 * math.log(NARROWEST), 2 * math.log(WIDEST)
    for _ in range(steps):
        y = points[torch.randint(len(points), (batch_size,), generator=g)]
        t = (low + (high - low) * torch.rand(batch_size, generator=g)).exp()
        noise = torch.randn(y.shape, generator=g)
        loss = denoising_loss(net, y, t=t, process=PROCESS, noise=noise).mean()
        optim.zero_grad()
        loss.backward()
        optim.step()
        plan.step()
    return net.eval().requires_grad_(False)


def sample(net: ScoreNetwork) -> Tensor:
    """From the prior, the same noise for every network; the last step goes to noise zero."""
    start = PROCESS.prior(SAMPLES, 196, t=WIDEST**2, generator=torch.Generator().manual_seed(5))
    times = PROCESS.times(WIDEST**2, NARROWEST**2, steps=50)
    times = torch.cat([times, times.new_zeros(1)])
    return diffusion.probability_flow(net, start, process=PROCESS, times=times).state


def look(made: Tensor, points: Tensor, scale: float) -> phases.Phases:
    """Phases by distance, both lengths the same."""
    return phases.classify(
        made, points, memorised_within=scale, repeated_within=scale, same_within=1e-3
    )


def to_bytes(x: Tensor) -> np.ndarray:
    """Pictures as they are stored."""
    return (255 * x.clamp(0, 1)).round().to(torch.uint8).numpy().reshape(-1, 14, 14)


def compare(k: int, everyone: Tensor, order: Tensor, scale: float, settings: dict):
    """Networks A and B on K digits each: their record, and some of their pictures."""
    halves = everyone[order[:k]], everyone[order[5000 : 5000 + k]]
    made = [sample(train(half, **settings)) for half in halves]
    found = [look(x, half, scale) for x, half in zip(made, halves, strict=True)]
    record = {
        "K": k,
        "labels": [f.label.tolist() for f in found],
        "distance": round(float(found[0].distance.median()), 3),
        "unseen": round(float(torch.cdist(everyone[order[9500:]], halves[0]).amin(1).median()), 3),
        "between": round(float((made[0] - made[1]).norm(dim=1).median()), 3),
        "sources": len(found[0].source[found[0].label == 0].unique()),
    }
    pictures = {}
    for name, x, half, f in zip("AB", made, halves, found, strict=True):
        pictures[f"{name}{k}"] = to_bytes(x[:SHOWN])
        pictures[f"{name}{k}_nearest"] = to_bytes(half[f.source[:SHOWN]])
    return record, pictures


def copies(everyone: Tensor, order: Tensor, scale: float, settings: dict):
    """One network on 512 digits, one of which is there many times."""
    one = everyone[order[:1]]
    pile = torch.cat([everyone[order[: 512 - COPIES + 1]], one.repeat(COPIES - 1, 1)])
    found = look(sample(train(pile, **settings)), pile, scale)
    copied = (found.label == phases.MEMORISED) & (found.source == 0)
    labels, picture = [found.label.tolist()], {"copied": to_bytes(one)}
    return {"K": "copies", "labels": labels, "copied": int(copied.sum())}, picture


def main(words: list[str]) -> None:
    """Train, sample, look, write."""
    everyone = digits()
    order = torch.randperm(len(everyone), generator=torch.Generator().manual_seed(0))
    few = everyone[order[:2000]]
    scale = 0.5 * float(torch.cdist(few, everyone).topk(2, largest=False).values[:, 1].median())
    wanted: list[int | str] = [int(w) for w in words if w.isdigit()] or [*COUNTS, "copies"]
    runs: dict[str, dict] = {}
    pictures: dict[str, np.ndarray] = {}
    if (FOLDER / "phases.json").exists():
        runs = {str(r["K"]): r for r in json.loads((FOLDER / "phases.json").read_text())["runs"]}
        pictures = dict(np.load(FOLDER / "pictures.npz"))
    begin = time.process_time()
    for k in wanted:
        rest = everyone, order, scale, TRAINING
        record, some = copies(*rest) if isinstance(k, str) else compare(k, *rest)
        runs[str(k)] = record
        pictures |= some
        print(k, [phases.fractions(torch.tensor(x))[:, 0].tolist() for x in record["labels"]])
    print(f"{time.process_time() - begin:.0f} s of processor")
    FOLDER.mkdir(parents=True, exist_ok=True)
    ordered = [runs[str(k)] for k in (*COUNTS, "copies") if str(k) in runs]
    out = {"scale": round(scale, 4), "samples": SAMPLES, "training": TRAINING, "runs": ordered}
    (FOLDER / "phases.json").write_text(json.dumps(out, separators=(",", ":")) + "\n")
    np.savez_compressed(FOLDER / "pictures.npz", **pictures)


def pack() -> None:
    """Make tensors of the record, as the package ships them."""
    record, pictures = (
        json.loads((FOLDER / "phases.json").read_text()),
        np.load(FOLDER / "pictures.npz"),
    )
    runs = [r for r in record["runs"] if r["K"] != "copies"]
    pile = next(r for r in record["runs"] if r["K"] == "copies")

    def stack(name: str, after: str = "") -> Tensor:
        return torch.stack([torch.from_numpy(pictures[f"{name}{k}{after}"]) for k in COUNTS])

    tensors = {
        "counts": torch.tensor(COUNTS),
        "labels": torch.tensor([r["labels"] for r in runs]).to(torch.uint8),
        **{
            key: torch.tensor([r[key] for r in runs])
            for key in ("distance", "unseen", "between", "sources")
        },
        "scale": torch.tensor(record["scale"]),
        "copied": torch.tensor(pile["copied"]),
        "copies": torch.tensor(pile["labels"][0]).to(torch.uint8),
        "A": stack("A"),
        "A_nearest": stack("A", "_nearest"),
        "B": stack("B"),
        "copied_digit": torch.from_numpy(pictures["copied"]),
    }
    _weights.ship(
        Path(_weights.__file__).parent / "weights" / "digit_phases.safetensors",
        tensors,
        kind="phase table",
        what="samples of networks that learned K digits of MNIST, 14 x 14: labels by phase, "
        "pictures, nearest training digits",
        training=record["training"],
        command="python tools/digit_phases.py",
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:] == ["pack"]:
        pack()
    else:
        main(sys.argv[1:])
