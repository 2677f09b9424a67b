"""Ship a latent run: weights (a byte a number) and card into the package, a record in results/.

    amtutor train latent-cpu --out runs/latent-cpu
    python tools/ship_latent.py runs/latent-cpu

The record also says how far samples are from photographs, by the features of our classifier.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from pathlib import Path

import torch

from amtutor import _weights, data
from amtutor.evaluate import extractor, frechet, nearest_training_images
from amtutor.generative import latent
from amtutor.train import Run
from amtutor.train.pictures import draw_samples

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = "step energy reconstruction gradient_memories gradient_encoder gradient_decoder".split()


def thin(lines: list[dict], most: int = 150) -> list[dict]:
    """At most about ``most`` lines, dense at the start where much happens."""
    lines = [m for m in lines if COLUMNS[1] in m]
    every = max(1, len(lines) // most)
    return [m for i, m in enumerate(lines) if i < 20 or (i + 1) % every == 0 or m is lines[-1]]


def measure(run: Run, model, n: int, features: str) -> dict:
    """Numbers of the finished run: the task's own, copies, and fd-c10 with n pictures a side."""
    found = run.task.evaluate(model, run.data)
    train = run.data["images"]
    with torch.no_grad():
        samples = draw_samples(run.task, model, n)
        back = model.decode_images(model.encode_images(train[-n:]))
        owner = latent.winners(run.task.codes(model, train), model.memories)
        owners = model.decode_images(model.memories[owner[-n:]])
    near = nearest_training_images(samples[:2000], train)
    held_out = nearest_training_images(run.data["test"][:1000], train)
    found |= {
        "samples": n,
        "memorised_fraction": float((near.ratio < 1 / 3).mean()),
        "memorised_fraction_of_test": float((held_out.ratio < 1 / 3).mean()),
        "dead_fraction_of_all": 1 - len(owner.unique()) / len(model.memories),
    }
    if features == "none":
        return found
    look = extractor(features)
    train = train[torch.randperm(len(train), generator=torch.Generator().manual_seed(0))]
    sets = {
        "fd-c10": samples,
        "fd-c10_owners": owners,  # of n photographs, the memory that each is nearest to
        "fd-c10_reconstructions": back,
        "fd-c10_floor": run.data["test"][:n],
    }
    reference = look(train[:n])
    return found | {k: float(frechet(look(v), reference)) for k, v in sets.items()}


def main() -> None:
    """Read the run, measure it, write weights, card and record."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("run", type=Path)
    words.add_argument("--samples", type=int, default=10_000)
    words.add_argument("--features", default="c10", help="c10, or none")
    words = words.parse_args()
    run = Run(words.run)
    model = run.model()
    metrics = measure(run, model, words.samples, words.features)
    lines = thin(run.metrics())
    path = ROOT / "src" / "amtutor" / "weights" / "latent_cpu.safetensors"
    about = {
        "what": "autoencoder and memories of CIFAR-10 (EM section 4); "
        "memories in float16, the rest in bytes",
        "made_by": "amtutor train latent-cpu, then tools/ship_latent.py",
        "config": run.config.to_dict(),
        "step": run.step,
        "parameters": latent.parameter_counts(model),
        "data_sha256": hashlib.sha256(data.cifar10("train")[0].tobytes()).hexdigest(),
        "metrics": metrics,
        "curve_columns": COLUMNS,
        "curve": [[float(f"{m.get(c, float('nan')):.4g}") for c in COLUMNS] for m in lines],
    }
    packed = _weights.in_bytes(model.state_dict(), keep=["memories"])
    _weights.ship(path, packed, kind="latent memory", **about)
    record = ROOT / "results" / "latent-cpu"
    record.mkdir(parents=True, exist_ok=True)
    shutil.copy(words.run / "config.json", record / "config.json")
    starts = (words.run / "environment.txt").read_text("utf-8").strip().split("\n\n")
    kept = starts if len(starts) == 1 else [starts[0], starts[-1]]
    (record / "environment.txt").write_text("\n\n".join(kept) + "\n", "utf-8")
    (record / "metrics.jsonl").write_text("".join(json.dumps(m) + "\n" for m in lines), "utf-8")
    (record / "evaluation.json").write_text(json.dumps(metrics, indent=1) + "\n", "utf-8")
    from amtutor.train.tasks._latent_figures import sheet

    with torch.no_grad():
        sheet(run.task.sample(model, 64, seed=1), 16).savefig(record / "samples.png", dpi=100)


if __name__ == "__main__":
    main()
