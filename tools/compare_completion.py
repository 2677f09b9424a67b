"""Compare ways to complete masked CIFAR-10 test pictures, which nothing here has learned from.

    python tools/compare_completion.py

Measures the weights that ship (`masked_images.load`) and fills that learn nothing, with the
same masks for all, and writes results/et-completion/comparison.json; the numbers of each model also
go into the card of its weights. About three minutes on one core.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path

import torch

from amtutor import data
from amtutor.network import inpainting
from amtutor.network.masked_images import hide_patches, load, to_patches

ROOT = Path(__file__).resolve().parents[1]
MODELS = {"energy_transformer": "et-completion", "plain_transformer": "transformer-completion"}
FILLS = {
    "mean_fill": inpainting.mean_fill,
    "linear_interpolation": inpainting.linear_fill,
    "biharmonic": inpainting.biharmonic_fill,
}
SUBSET = 1000  # pictures for the fill that is slow; every method is also measured on these alone
SEED = 1


def errors(complete, images, hidden, batch_size=250):
    """Mean squared error on hidden pixels, one value for each picture."""
    found = []
    for x, h in zip(images.split(batch_size), hidden.split(batch_size), strict=True):
        x = x.float() / 255
        off = (to_patches(complete(x, h), 4) - to_patches(x, 4)).square().mean(-1)
        found.append((off * h).sum(1) / h.sum(1))
    return torch.cat(found).double()


def summary(values):
    return {"mse": float(values.mean()), "standard_error": float(values.std() / len(values) ** 0.5)}


@torch.no_grad()
def compare() -> dict:
    images = torch.from_numpy(data.cifar10("test")[0])
    ways = {name: load(shipped).complete for name, shipped in MODELS.items()} | FILLS
    report = {}
    for fraction in (0.5, 0.75):
        g = torch.Generator().manual_seed(SEED)
        hidden = hide_patches(len(images), 64, fraction, generator=g)
        table = {}
        for name, complete in ways.items():
            count = SUBSET if name == "biharmonic" else len(images)
            found = errors(complete, images[:count], hidden[:count])
            table[name] = {"first_1000": summary(found[:SUBSET])}
            if count == len(images):
                table[name] = {"all_10000": summary(found)} | table[name]
            print(f"{fraction:4} {name:22} {table[name]}", flush=True)
        report[f"{round(100 * fraction)} % hidden"] = table
    return report


def main() -> None:
    torch.set_num_threads(1)
    report = {
        "what": "mean squared error on hidden pixels, in units of (0..1)^2; CIFAR-10 test pictures",
        "command": "python tools/compare_completion.py",
        "masks": f"4 x 4 patches, hide_patches(10000, 64, fraction) with seed {SEED}",
        "torch": torch.__version__,
        "machine": platform.machine(),
        **compare(),
    }
    path = ROOT / "results" / "et-completion" / "comparison.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    for name, shipped in MODELS.items():
        card = ROOT / "src" / "amtutor" / "weights" / f"{shipped.replace('-', '_')}.json"
        body = json.loads(card.read_text("utf-8"))
        for share in (50, 75):
            for key, other in {name: "test", **dict.fromkeys(FILLS)}.items():
                label = f"test_mse_{share}" if other else f"test_mse_{share}_{key}"
                found = report[f"{share} % hidden"][key]
                which = "all_10000" if "all_10000" in found else "first_1000"
                body["metrics"][label] = round(found[which]["mse"], 6)
        card.write_text(json.dumps(body, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
