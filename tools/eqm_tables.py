"""Measure runs of the task `eqm` and write the tables and pictures of chapters 16 and 17.

    amtutor train digits-eqm --out RUN               # and so on, any of eqm-small-*, eqm-medium-*
    python tools/eqm_tables.py RUN [RUN ...]         # adds them to results/eqm-tables/
    python tools/eqm_tables.py --curve RUN           # no samples: seconds in place of minutes
    python tools/eqm_tables.py --ship RUN            # a field of digits: its weights, float16, too

Each run goes into the table by what its settings are; runs measured before stay. What is measured:

- the curve of the loss on pictures held out, from the run's own metrics;
- one walk down the field from fresh noise, looked at after every few steps: which sum of steps is
  best (photographs: fd-c10 against 5000 test photographs, so for comparison among these only;
  digits: the share that our own classifier names as asked, guided and not);
- fresh samples at that sum: photographs fd-c10, precision, recall; digits, guided, the share named
  and copies;
- the asymmetry of the Jacobian, by random probes, at noisy pictures;
- where training left the stiffness, if the field has one.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from amtutor import _weights
from amtutor._files import write_whole
from amtutor.evaluate import features, nearest
from amtutor.evaluate.fidelity import compare, frechet
from amtutor.generative import fields, trained_fields
from amtutor.generative.equilibrium import guided_by_weight, sample
from amtutor.generative.latent import to_pictures, to_pixels
from amtutor.train import Run, load_preset
from amtutor.train.tasks.eqm import FIFTHS, named_as_asked

ROOT = Path(__file__).resolve().parents[1]
RESULTS, WEIGHTS = ROOT / "results", ROOT / "src" / "amtutor" / "weights"
FOLDER = RESULTS / "eqm-tables"
STEP = 0.01  # of every walk: a hundred lead through the sum 1
LOOKS = tuple(round(0.01 * k, 2) for k in (16, 20, 24, 28, 32, 36, 40, 46, 52, 60))
SWEPT, COUNTED, REFERENCE = 250, 1000, 5000
SHOWN = 10  # of the photographs that a field draws
DIGITS, GUIDANCE = 500, 1.5  # the weight w of EQ's Table 3
PROBES, PLACES = 8, (0.3, 0.6, 0.9)  # gammas at which the Jacobian is looked at
QUESTIONS = ("mixed", "classes", "levels")


def walk(field: nn.Module, n: int, shape: tuple[int, ...], looks, *, seed: int) -> list[Tensor]:
    """Pictures (n, *shape) uint8 after each sum of steps in ``looks``, classes 0, 1, ..., 9, ..."""
    wanted = {round(t / STEP): [] for t in looks}
    g = torch.Generator().manual_seed(seed)
    start, labels = torch.randn(n, *shape, generator=g), torch.arange(n) % 10

    def keep(step: int, x: Tensor) -> None:
        if step in wanted:
            wanted[step].append(to_pictures(x))

    for x, y in zip(start.split(250), labels.split(250), strict=True):
        sample(field, x, labels=y, steps=max(wanted), step_size=STEP, callback=keep)
    return [torch.cat(parts) for parts in wanted.values()]


def curve(run: Run) -> list[dict[str, Any]]:
    """Loss on pictures held out, whole and by fifths of gamma, over pictures seen."""
    keys = [f"eval/loss_{k}_{FIFTHS}" for k in range(FIFTHS)]
    return [
        {
            "images": line["step"] * run.config.batch_size,
            "loss": line["eval/loss"],
            "fifths": [line[key] for key in keys],
        }
        for line in run.metrics()
        if "eval/loss" in line
    ]


def turning(field: nn.Module, held: Tensor, labels: Tensor, shape) -> dict[str, float]:
    """Asymmetry of the Jacobian at four noisy pictures, for each gamma."""
    g = torch.Generator().manual_seed(5)
    x, y, found = to_pixels(held[:4]), labels[:4], {}
    for gamma in PLACES:
        z = gamma * x + (1 - gamma) * torch.randn(x.shape, generator=g)

        def flat(v: Tensor) -> Tensor:
            return field(v.reshape(-1, *shape), y).flatten(1)

        with sdpa_kernel(SDPBackend.MATH):  # fused attention has no second derivative
            parts = fields.asymmetry(flat, z.flatten(1), probes=PROBES, generator=g)
        found[str(gamma)] = float(parts.mean())
    return found


def photographs(run: Run, field: nn.Module, pictures: dict[str, np.ndarray]) -> dict[str, Any]:
    """Everything that is measured of a field of photographs."""
    shape = (3, 32, 32)
    extract = features.extractor("c10")
    reference = extract(run.data["held"][:REFERENCE].numpy())
    sweep = [
        {"travel": t, "fd_c10": frechet(extract(x.numpy()), reference)}
        for t, x in zip(LOOKS, walk(field, SWEPT, shape, LOOKS, seed=1), strict=True)
    ]
    best = min(sweep, key=lambda line: line["fd_c10"])["travel"]
    (end,) = walk(field, COUNTED, shape, (best,), seed=2)
    final = compare(extract, extract(end.numpy()), reference)
    columns = {"fd_c10": "fid", "precision": "precision", "recall": "recall"}
    depth = f"-depth{run.config.depth}" if place_of(run)[0] == "depth" else ""
    pictures[f"{key_of(run)}{depth}-{run.config.seed}"] = end[:SHOWN].numpy()
    return {
        "curve": curve(run),
        "sweep": sweep,
        "best_travel": best,
        **{k: final[extract.names[v]] for k, v in columns.items()},
        "asymmetry": turning(field, run.data["held"], run.data["held_labels"], shape),
    }


def digits(run: Run, field: nn.Module, pictures: dict[str, np.ndarray]) -> dict[str, Any]:
    """Everything that is measured of a field of digits."""
    shape = (1, 28, 28)
    train, held = run.data["images"], run.data["held"]
    guided = guided_by_weight(field, GUIDANCE, null=field.null)
    sweep = [
        {
            "travel": t,
            "named_as_asked": named_as_asked(to_pixels(x), 10),
            "unguided": named_as_asked(to_pixels(y), 10),
        }
        for t, x, y in zip(
            LOOKS,
            walk(guided, DIGITS, shape, LOOKS, seed=1),
            walk(field, DIGITS, shape, LOOKS, seed=1),
            strict=True,
        )
    ]
    best = max(sweep, key=lambda line: line["named_as_asked"])["travel"]
    (end,) = walk(guided, DIGITS, shape, (best,), seed=2)
    near = nearest.nearest_training_images(end, train)
    own = nearest.nearest_training_images(held[:DIGITS], train)
    key = key_of(run) + ("-head-only" if run.config.class_in_blocks == "no" else "")
    pictures[key] = end[:60, 0].numpy()
    pictures[f"{key}-nearest"] = train[near.index[:60, 0], 0].numpy()
    return {
        "parameters": sum(p.numel() for p in field.parameters()),
        "images": run.step * run.config.batch_size,
        **{k: curve(run)[-1][k] for k in ("loss", "fifths")},
        "guidance": GUIDANCE,
        "sweep": sweep,
        "best_travel": best,
        "named_as_asked": named_as_asked(to_pixels(end), 10),
        "copies": nearest.memorised_fraction(near),
        "copies_among_held_out": nearest.memorised_fraction(own),
        "distance_to_nearest": float(np.median(near.distance[:, 0])),
        "distance_of_held_out": float(np.median(own.distance[:, 0])),
        "asymmetry": turning(field, held, run.data["held_labels"], shape),
    }


def key_of(run: Run) -> str:
    """The preset that a run was started from."""
    return json.loads((run.folder / "config.json").read_text("utf-8"))["preset"]


def place_of(run: Run) -> tuple[str, ...]:
    """Where a run stands in the tables."""
    key, c = key_of(run), run.config
    if c.pictures == "mnist":
        return ("head_only" if c.class_in_blocks == "no" else "digits", key)
    short = key.removeprefix("eqm-small-")
    if short in QUESTIONS:
        return ("questions", short)
    if key.startswith("eqm-medium"):
        return ("larger", key)
    if c.depth != load_preset(key).config.depth:
        return ("depth", short, str(c.depth))
    return ("cifar", key)


def left(field: nn.Module) -> dict[str, float]:
    """The stiffness of a bowl as training left it."""
    stiffness = getattr(field, "stiffness", None)
    return {} if stiffness is None else {"stiffness": float(stiffness)}


def measured(run: Run, field: nn.Module, pictures: dict[str, np.ndarray]) -> dict[str, Any]:
    """Of open questions the curve, of all others everything."""
    if run.config.pictures == "mnist":
        return digits(run, field, pictures)
    if place_of(run)[0] == "questions":
        return {"curve": curve(run)}
    return photographs(run, field, pictures)


def kept(tables: dict[str, Any], run: Run) -> dict[str, Any]:
    """What the tables have of a run of photographs by now."""
    rows = tables
    for name in place_of(run):
        rows = rows.get(name, {})
    return rows.get("seeds", {}).get(str(run.config.seed), {})


def put(tables: dict[str, Any], run: Run, found: dict[str, Any], parameters: int) -> None:
    """Put what was found where it belongs; photographs by seed."""
    where = place_of(run)
    rows = tables
    for name in where[:-1]:
        rows = rows.setdefault(name, {})
    if run.config.pictures == "mnist":
        rows[where[-1]] = found
        return
    row = rows.setdefault(where[-1], {})
    row["parameters"] = parameters
    row.setdefault("seeds", {})[str(run.config.seed)] = found


def ship(run: Run, field: nn.Module) -> nn.Module:
    """Write weights, card and record of a field of digits; return it as it ships."""
    key = key_of(run)
    stem = key.replace("-", "_")
    _weights.ship(
        WEIGHTS / f"{stem}.safetensors",
        _weights.half(field.state_dict()),
        kind="equilibrium field",
        what=f"{run.config.model}: digits from noise, float16",
        config=run.task.sizes(),
        made_by=f"amtutor train {key}, then tools/eqm_tables.py --ship (results/{key})",
    )
    record = RESULTS / key
    record.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "metrics.jsonl", "environment.txt"):
        shutil.copyfile(run.folder / name, record / name)
    return trained_fields.load(stem)


def read(table: Path) -> dict[str, Any]:
    """What was found so far."""
    return json.loads(table.read_text("utf-8")) if table.exists() else {}


def main() -> None:
    """Measure, and add to what is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--ship", action="store_true")
    parser.add_argument("--curve", action="store_true", help="the curve alone: no samples")
    given = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    table, album = FOLDER / "tables.json", FOLDER / "pictures.npz"
    for folder in given.runs:
        run = Run(folder, device="cpu")
        field = run.model().eval().requires_grad_(False)
        if given.ship:
            field = ship(run, field)
        if given.curve and "fd_c10" in kept(read(table), run):
            parser.error(f"{folder}: its samples were measured before, --curve would lose them")
        new: dict[str, np.ndarray] = {}
        found = {"curve": curve(run)} if given.curve else measured(run, field, new)
        # Minutes have passed: what others wrote meanwhile stays.
        tables = read(table)
        put(tables, run, found | left(field), sum(p.numel() for p in field.parameters()))
        write_whole(table, json.dumps(_round(tables), indent=1, sort_keys=True) + "\n")
        bound = io.BytesIO()
        np.savez_compressed(bound, **(dict(np.load(album)) if album.exists() else {}) | new)
        write_whole(album, bound.getvalue())
        print(folder, json.dumps(_round({k: v for k, v in found.items() if k != "curve"})))


def _round(x: Any) -> Any:
    """Four digits are more than the noise allows."""
    if isinstance(x, dict):
        return {k: _round(v) for k, v in x.items()}
    if isinstance(x, list):
        return [_round(v) for v in x]
    return float(f"{x:.4g}") if isinstance(x, float) else x


if __name__ == "__main__":
    main()
