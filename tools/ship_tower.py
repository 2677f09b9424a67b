"""Ship the tower and its twin: weights (float16) and cards, and the record in results/.

    amtutor train tower --out runs/tower && amtutor train tower-one-way --out runs/tower-one-way
    python tools/ship_tower.py runs/tower runs/tower-one-way

What is measured on the digits held out is measured with the weights that ship.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from amtutor.network.towers import load
from amtutor.train import Run

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "results" / "ham-mnist"
WEIGHTS = ROOT / "src" / "amtutor" / "weights"


def ship(folder: Path) -> dict:
    """Copy weights and curve of one run; return what its settings were and what came out."""
    run = Run(folder, device="cpu")
    which = run.config.which.replace("-", "_")
    stem = f"ham_mnist_{which}"
    card = json.loads((folder / f"{stem}.json").read_text("utf-8"))
    settings = json.loads((folder / "config.json").read_text("utf-8"))
    card["made_by"] = f"{settings['command']}, then tools/ship_tower.py (results/ham-mnist)"
    del card["training"]  # it stands in the record
    shutil.copy(folder / f"{stem}.safetensors", WEIGHTS)
    (WEIGHTS / f"{stem}.json").write_text(json.dumps(card, indent=1) + "\n", "utf-8")
    ham = load(which)
    found = run.task.evaluate(ham, run.data)
    lines = [*run.metrics(), {"step": run.step, "after": "rounding to float16", **found}]
    curve = "".join(json.dumps(line) + "\n" for line in lines)
    (RECORD / f"metrics_{which}.jsonl").write_text(curve, "utf-8")
    shutil.copy(folder / "environment.txt", RECORD / f"environment_{which}.txt")
    return settings | {
        "parameters": sum(p.numel() for p in ham.parameters()),
        "weights": f"src/amtutor/weights/{stem}.safetensors",
        "sha256": card["sha256"],
    }


def main() -> None:
    """Ship both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tower", type=Path)
    parser.add_argument("twin", type=Path)
    given = parser.parse_args()
    record = {"tower": ship(given.tower), "one_way": ship(given.twin)}
    (RECORD / "config.json").write_text(json.dumps(record, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
