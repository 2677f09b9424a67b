"""Train chapter 5's five-floor memory and its feed-forward twin; one command, one core.

    python tools/train_ham_mnist.py --which tower      (and again with --which one_way)

Writes the weights to src/amtutor/weights/ and settings, metrics and environment to
results/ham-mnist/. Same seed, same machine, same numbers. `--dev` trains on 7 000 digits and looks
at the 1 000 after them; that is how the settings were chosen, so the 2 000 held out stay unseen.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import math
import platform
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amtutor.data import split_digits
from amtutor.network.ham import HAM
from amtutor.network.towers import ask, one_way, pixels, tower

ROOT = Path(__file__).resolve().parents[1]


@dataclasses.dataclass(frozen=True)
class Config:
    which: str = "tower"  # or "one_way", the feed-forward twin
    epochs: int = 24
    channels: int = 32
    hidden: int = 256
    coupling: float = 1.0
    batch: int = 64  # digits to be named in a step
    to_complete: int = 32  # digits to be completed in a step, tower only
    lr: float = 3e-3
    weight_decay: float = 1e-3
    warm_up: float = 0.15  # share of all steps
    completion_weight: float = 1.0
    sweeps: tuple[int, int] = (3, 6)  # each step draws one of them
    turn: float = 0.22  # radians, most either way
    zoom: float = 0.12
    shear: float = 0.2
    move: float = 2.0  # pixels
    seed: int = 1


def wobble(x: Tensor, config: Config, g: torch.Generator) -> Tensor:
    """Turn, zoom, shear and move every digit by its own random amounts."""
    a, s, k = (2 * torch.rand(3, len(x), generator=g) - 1) * torch.tensor(
        [[config.turn], [config.zoom], [config.shear]]
    )
    t = (2 * torch.rand(2, len(x), generator=g) - 1) * config.move / (x.shape[-1] / 2)
    rows = (
        [(1 + s) * a.cos(), (1 + s) * (k - a.sin()), t[0]],
        [
            (1 + s) * a.sin(),
            (1 + s) * a.cos(),
            t[1],
        ],
    )
    matrix = torch.stack([torch.stack(r, 1) for r in rows], 1)
    grid = F.affine_grid(matrix, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False).clamp(0, 1)


def gaps(n: int, g: torch.Generator) -> Tensor:
    """What is seen of n digits: a half (the upper one twice as often) of five in six."""
    seen = torch.zeros(6, 1, 28, 28, dtype=torch.bool)
    seen[0, :, :14], seen[1, :, 14:], seen[2, :, :, :14], seen[3, :, :, 14:] = (True,) * 4
    seen[4, :, :14] = True
    return seen[torch.randint(6, (n,), generator=g)]


def loss_of(ham: HAM, x: Tensor, y: Tensor, config: Config, g: torch.Generator) -> dict:
    """Losses of one step: names of whole digits; pixels (and names) of digits with a gap."""
    if config.which == "one_way":
        return {
            "name": F.cross_entropy(logits(ham, one_way(ham, x[: config.batch])), y[: config.batch])
        }
    low, high = config.sweeps
    sweeps = int(torch.randint(low, high + 1, (1,), generator=g))
    n = config.batch
    states, clamp = ask(ham, x[:n])
    end = ham.settle(states, steps=sweeps, clamp=clamp).state
    losses = {"name": F.cross_entropy(logits(ham, end["label"]), y[:n])}
    x, y = x[n:], y[n:]
    seen = gaps(len(x), g)
    told = (torch.rand(len(x), generator=g) < 0.5) | ~seen.flatten(1).any(1)
    states, clamp = ask(ham, x, torch.where(told, y, -1), seen=seen)
    end = ham.settle(states, steps=sweeps, clamp=clamp).state
    losses["pixels"] = F.binary_cross_entropy_with_logits(2 * end["image"][~seen], x[~seen])
    losses["name_half"] = F.cross_entropy(logits(ham, end["label"][~told]), y[~told])
    return losses


def logits(ham: HAM, label: Tensor) -> Tensor:
    return ham.layers["label"].lagrangian.beta * label


@torch.no_grad()
def accuracy(ham: HAM, x: Tensor, y: Tensor, config: Config, sweeps: int = 10) -> float:
    """Share of digits whose name comes out right, the picture held and all else let go."""
    right = 0
    for a, b in zip(x.split(500), y.split(500), strict=True):
        if config.which == "one_way":
            top = one_way(ham, a)
        else:
            states, clamp = ask(ham, a)
            top = ham.settle(states, steps=sweeps, clamp=clamp).state["label"]
        right += int((top.argmax(-1) == b).sum())
    return right / len(y)


@torch.no_grad()
def completion_error(ham: HAM, x: Tensor, y: Tensor, *, told: bool) -> float:
    """Mean squared error of the lower half, completed from the upper half."""
    seen = torch.zeros(1, 1, 28, 28, dtype=torch.bool)
    seen[..., :14, :] = True
    states, clamp = ask(ham, x, y if told else None, seen=seen)
    found = pixels(ham, ham.settle(states, steps=10, clamp=clamp).state)
    return float((found - x)[..., 14:, :].square().mean())


def train(config: Config, learn, look, log, *, every: int = 4) -> HAM:
    """Train on the digits ``learn``; ``look`` is only looked at."""
    g = torch.Generator().manual_seed(config.seed)
    ham = tower(
        channels=config.channels, hidden=config.hidden, coupling=config.coupling, generator=g
    )
    decay = [p for p in ham.parameters() if p.ndim > 1]
    rest = [p for p in ham.parameters() if p.ndim <= 1]
    groups = [{"params": decay}, {"params": rest, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay)
    size = config.batch + (config.to_complete if config.which == "tower" else 0)
    steps = len(learn[0]) // config.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, config.lr, total_steps=config.epochs * steps, pct_start=config.warm_up
    )
    start = time.process_time()
    for epoch in range(1, config.epochs + 1):
        order = torch.randperm(len(learn[0]), generator=g)
        order = torch.cat([order, order[:size]])
        totals: dict[str, float] = {}
        for i in range(steps):
            rows = order[i * config.batch :][:size]
            x = wobble(learn[0][rows], config, g)
            losses = loss_of(ham, x, learn[1][rows], config, g)
            weights = {"pixels": config.completion_weight}
            loss = sum(weights.get(k, 1.0 if k == "name" else 0.3) * v for k, v in losses.items())
            if not math.isfinite(loss.item()):
                raise FloatingPointError(f"loss is {loss.item()} in epoch {epoch}, step {i}")
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(ham.parameters(), 5.0)
            optimiser.step()
            schedule.step()
            totals = {k: totals.get(k, 0.0) + v.item() / steps for k, v in losses.items()}
        line = {"epoch": epoch, "cpu_seconds": round(time.process_time() - start, 1)}
        line |= {f"loss_{k}": round(v, 4) for k, v in totals.items()}
        if epoch % every == 0 or epoch == config.epochs:
            line |= report(ham, look, config)
        log(line)
    return ham


def report(ham: HAM, look, config: Config) -> dict:
    """Accuracy on the digits ``look``; for the tower also after many sweeps, and completion."""
    out = {"accuracy": accuracy(ham, *look, config)}
    if config.which == "tower":
        out["accuracy_50_sweeps"] = accuracy(ham, *look, config, sweeps=50)
        out["mse_lower_half"] = round(completion_error(ham, *look, told=False), 4)
        out["mse_lower_half_named"] = round(completion_error(ham, *look, told=True), 4)
    return out


def save(ham: HAM, config: Config, lines: list[dict], look) -> None:
    """Weights in float16 into the package, everything else into results/ham-mnist."""
    weights = ROOT / "src" / "amtutor" / "weights" / f"ham_mnist_{config.which}.npz"
    weights.parent.mkdir(exist_ok=True)
    arrays = {k: v.numpy().astype(np.float16) for k, v in ham.state_dict().items()}
    np.savez(weights, **arrays)
    ham.load_state_dict({k: torch.from_numpy(v.astype(np.float32)) for k, v in arrays.items()})
    lines.append({"after": "rounding to float16"} | report(ham, look, config))
    folder = ROOT / "results" / "ham-mnist"
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / f"metrics_{config.which}.jsonl").write_text(text)
    path = folder / "config.json"
    configs = json.loads(path.read_text()) if path.exists() else {}
    configs[config.which] = dataclasses.asdict(config) | {
        "command": f"python tools/train_ham_mnist.py --which {config.which}",
        "parameters": sum(p.numel() for p in ham.parameters()),
        "weights": weights.relative_to(ROOT).as_posix(),
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
    }
    path.write_text(json.dumps(configs, indent=2) + "\n")
    (folder / "environment.txt").write_text(
        f"python {platform.python_version()}\ntorch {torch.__version__}\n"
        f"numpy {np.__version__}\n{platform.machine()}, one thread, no GPU\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--which", choices=("tower", "one_way"), default="tower")
    parser.add_argument("--dev", action="store_true", help="7 000 digits, 1 000 to look at")
    parser.add_argument("--keep", help="with --dev, a file for the weights")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    changes = {k: json.loads(v) for k, v in (s.split("=") for s in options.set)}
    config = dataclasses.replace(Config(which=options.which), **changes)
    torch.set_num_threads(1)
    learn, look = split_digits()
    if options.dev:
        learn, look = tuple(v[:7000] for v in learn), tuple(v[7000:] for v in learn)
    lines: list[dict] = []

    def log(line: dict) -> None:
        lines.append(line)
        print(json.dumps(line), flush=True)

    ham = train(config, learn, look, log)
    if options.keep:
        torch.save(ham.state_dict(), options.keep)
    if not options.dev:
        save(ham, config, lines, look)
        print(json.dumps(lines[-1]))


if __name__ == "__main__":
    main()
