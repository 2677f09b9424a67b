"""Turn the npz weights of earlier versions into safetensors with a card, bit for bit.

    git show bf51383:src/amtutor/weights/ham_mnist_tower.npz > old/ham_mnist_tower.npz   (and so on)
    python tools/convert_weights.py old

Reads what it finds of the four files in the folder, writes them into src/amtutor/weights, reads
them back, compares every bit, and puts the new SHA-256 where the records name the old one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import torch

from amtutor import _weights

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = ROOT / "src" / "amtutor" / "weights"
RECORDS = (ROOT / "results/ham-mnist/config.json", ROOT / "results/mnist-prototypes/README.md")
MNIST = {"shape": [1, 28, 28], "channels": 32, "kernel_size": 6, "stride": 2, "hidden": 256}
SMALL = {"shape": [1, 8, 8], "channels": 12, "kernel_size": 3, "stride": 1, "hidden": 48}
CARDS = {
    "ham_mnist_tower": {
        "kind": "tower",
        "what": "a tower of five floors that learned digits of MNIST, float16",
        "made_by": "tools/train_ham_mnist.py --which tower (of version 0.1.0; results/ham-mnist)",
        "config": MNIST,
    },
    "ham_mnist_one_way": {
        "kind": "tower",
        "what": "the tower's feed-forward twin, float16",
        "made_by": "tools/train_ham_mnist.py --which one_way (of version 0.1.0; results/ham-mnist)",
        "config": MNIST,
    },
    "ham_digits_small": {
        "kind": "tower",
        "what": "a small tower that learned scikit-learn's digits, one byte a weight",
        "made_by": "tools/explorable_tower.py",
        "config": SMALL,
    },
    "mnist_prototypes": {
        "kind": "prototypes",
        "what": "1000 prototypes of digits and what they are, by class and slant, float16",
        "made_by": "amtutor train mnist-prototypes (results/mnist-prototypes)",
        "config": {"n_memories": 1000, "beta": 1.2},
    },
}


def convert(old: Path) -> tuple[str, str]:
    """Write one file anew; return both SHA-256, the old one first."""
    with np.load(old) as arrays:
        tensors = {k: torch.from_numpy(arrays[k]) for k in arrays}
    path = WEIGHTS / f"{old.stem}.safetensors"
    card = _weights.ship(path, tensors, **CARDS[old.stem])
    again = _weights.read_safetensors(path)
    for name, value in tensors.items():
        same = again[name].numpy().tobytes() == value.numpy().tobytes()
        assert same and again[name].dtype == value.dtype, (old, name)
    return hashlib.sha256(old.read_bytes()).hexdigest(), card["sha256"]


def main() -> None:
    """Convert what is there."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("folder", type=Path)
    folder = words.parse_args().folder
    for old in sorted(folder.glob("*.npz")):
        before, after = convert(old)
        for record in RECORDS:
            text = record.read_text("utf-8").replace(before, after)
            record.write_text(text.replace(f"{old.stem}.npz", f"{old.stem}.safetensors"), "utf-8")
        print(json.dumps({"file": old.stem, "before": before, "after": after}))


if __name__ == "__main__":
    main()
