"""Train the tiny tower of the explorable `tower` and write it as an ES module.

    python tools/explorable_tower.py

Learns from the first 1 400 (shuffled) of scikit-learn's 8 x 8 digits to name them and to complete
them, looks at the other 397, rounds every weight to one byte, and writes the same weights twice:
book/_static/explorables/tower_weights.js, with ten of the unseen digits and what was measured, and
src/amtutor/weights/ham_digits_small.safetensors, for `amtutor.network.towers.load("small")`.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amtutor import _weights
from amtutor.data import split_digits
from amtutor.network.ham import HAM
from amtutor.network.towers import ask, pixels, tower

FOLDER = Path(__file__).resolve().parents[1] / "book" / "_static" / "explorables"
TARGET = FOLDER / "tower_weights.js"
WEIGHTS = FOLDER.parents[2] / "src" / "amtutor" / "weights" / "ham_digits_small.safetensors"
SIZES = {"shape": (1, 8, 8), "channels": 12, "kernel_size": 3, "stride": 1, "hidden": 48}
LEARNED = 1400
STEPS = 920
BATCH = 48
# The parameters of a tower under the names they have in the page.
NAMES = {
    "synapses.Bias(image).bias": "imageBias",
    "synapses.Conv2d(image, features).weight": "conv",
    "synapses.Bias(features).bias": "featureBias",
    "synapses.Pool2d(features, pooled).strength": "pooling",
    "synapses.Bias(pooled).bias": "pooledBias",
    "synapses.Dense(hidden, pooled).weight": "up",
    "synapses.Bias(hidden).bias": "hiddenBias",
    "synapses.Dense(label, hidden).weight": "top",
    "synapses.Bias(label).bias": "labelBias",
    "layers.features.lagrangian.beta": "betaFeatures",
    "layers.pooled.lagrangian.beta": "betaPooled",
    "layers.hidden.lagrangian.beta": "betaHidden",
    "layers.label.lagrangian.beta": "betaLabel",
}


def halves() -> Tensor:
    """Four halves of a picture, and twice nothing: what may be seen of a digit."""
    seen = torch.zeros(6, 1, 8, 8, dtype=torch.bool)
    seen[0, :, :4], seen[1, :, 4:], seen[2, :, :, :4], seen[3, :, :, 4:] = (True,) * 4
    return seen


def loss_of(ham: HAM, x: Tensor, y: Tensor, g: torch.Generator) -> Tensor:
    """Names of whole digits, pixels of digits with a gap, names of digits with a gap."""
    sweeps = int(torch.randint(3, 7, (1,), generator=g))
    beta = ham.layers["label"].lagrangian.beta
    states, clamp = ask(ham, x[:BATCH])
    end = ham.settle(states, steps=sweeps, clamp=clamp).state
    loss = F.cross_entropy(beta * end["label"], y[:BATCH])
    x, y = x[BATCH:], y[BATCH:]
    seen = halves()[torch.randint(6, (BATCH,), generator=g)]
    told = (torch.rand(BATCH, generator=g) < 0.5) | ~seen.flatten(1).any(1)
    states, clamp = ask(ham, x, torch.where(told, y, -1), seen=seen)
    end = ham.settle(states, steps=sweeps, clamp=clamp).state
    loss = loss + 2 * F.binary_cross_entropy_with_logits(2 * end["image"][~seen], x[~seen])
    return loss + 0.3 * F.cross_entropy(beta * end["label"][~told], y[~told])


def train() -> HAM:
    """About a minute on one core."""
    g = torch.Generator().manual_seed(1)
    ham = tower(**SIZES, generator=g)
    optimiser = torch.optim.AdamW(ham.parameters(), lr=1e-2, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 1e-2, total_steps=STEPS, pct_start=0.2
    )
    x, y = split_digits("small")[0]
    for _ in range(STEPS):
        rows = torch.randint(LEARNED, (2 * BATCH,), generator=g)
        loss = loss_of(ham, x[rows], y[rows], g)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(ham.parameters(), 5.0)
        optimiser.step()
        schedule.step()
    return ham.requires_grad_(False)


def rounded(ham: HAM) -> dict[str, dict]:
    """Every parameter in one byte an entry and one scale; the tower is left with what they say."""
    out = {}
    for key, p in ham.state_dict().items():
        scale = float(p.abs().max()) / 127 or 1.0
        scale = float(f"{scale:.6g}")
        whole = (p / scale).round().clamp(-127, 127).to(torch.int8)
        p.copy_(whole.float() * scale)
        bits = base64.b64encode(whole.numpy().tobytes()).decode()
        out[NAMES[key]] = {"scale": scale, "bits": bits}
    return out


@torch.no_grad()
def measured(ham: HAM) -> dict[str, float]:
    """What the page may say of this tower, on the digits it has not learned from."""
    x, y = split_digits("small")[1]
    states, clamp = ask(ham, x)
    named = ham.settle(states, steps=12, clamp=clamp).state["label"].argmax(-1)
    seen = halves()[0]
    out = {"named": round(float((named == y).float().mean()), 4)}
    for key, labels in (("error", None), ("errorTold", y)):
        states, clamp = ask(ham, x, labels, seen=seen)
        found = pixels(ham, ham.settle(states, steps=12, clamp=clamp).state)
        out[key] = round(float((found - x)[..., 4:, :].square().mean()), 4)
    return out


def examples() -> list[list[int]]:
    """The first unseen digit of each name, 0 to 16 of ink a pixel."""
    x, y = split_digits("small")[1]
    firsts = [x[int((y == k).nonzero()[0])] for k in range(10)]
    return [(16 * one).round().int().flatten().tolist() for one in firsts]


def render(ham: HAM) -> str:
    weights = rounded(ham)
    return (
        "// Made by tools/explorable_tower.py; do not edit. A tower of five floors, trained on\n"
        "// 1 400 of scikit-learn's 8 x 8 digits, a byte a weight; and ten digits it never saw.\n\n"
        f"export const TOWER_WEIGHTS = {json.dumps(weights)};\n\n"
        f"export const TOWER_MEASURED = {json.dumps(measured(ham))};\n\n"
        f"export const TOWER_DIGITS = {json.dumps(examples(), separators=(',', ':'))};\n"
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    ham = train()
    TARGET.write_text(render(ham), "utf-8")
    about = "a small tower that learned scikit-learn's digits, one byte a weight"
    made = {"what": about, "made_by": "tools/explorable_tower.py", "config": SIZES}
    _weights.ship(WEIGHTS, ham.state_dict(), kind="tower", **made)
    text = TARGET.read_text("utf-8")
    print(f"{TARGET.name}: {len(text) / 1000:.0f} kB, {text.split('MEASURED = ')[1].split(';')[0]}")
