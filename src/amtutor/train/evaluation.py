"""Evaluate a run folder: samples against the training set, the protocol beside every number."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from amtutor import _check, data
from amtutor._files import write_whole
from amtutor.evaluate.features import NAMED, check_features, extractor, torch_fidelity
from amtutor.evaluate.fidelity import compare, frechet, self_check
from amtutor.evaluate.nearest import Nearest, memorised_fraction, nearest_training_images
from amtutor.train.pictures import BLOCK, draw_samples, save_grid
from amtutor.train.run import Run, complain

__all__ = ["evaluate_run", "summary"]

MANY, FEW = 50_000, 5_000  # samples by default: on a GPU as in the papers, on a CPU what it can do
MOST = 10**7
SEARCHED = 10_000  # samples whose nearest training pictures are looked for, at most
CIFAR = (3, 32, 32)


def evaluate_run(
    folder: str | Path,
    *,
    features: str | Path = "inception",
    n_samples: int | None = None,
    batch_size: int = BLOCK,
    seed: int = 0,
    split: str = "train",
    device: torch.device | str | None = None,
    say: Callable[[str], None] = complain,
) -> dict[str, Any]:
    """Evaluate a run and write ``evaluation.json`` into its folder (one entry per ``features``).

    What the task measures itself; then ``n_samples`` pictures (50 000 on a GPU, 5 000 on a CPU
    unless given) against CIFAR-10's ``split`` by `fidelity`, after `self_check`, with the floor
    (test pictures, as many as samples where there are) beside it; then the fraction of samples
    that are copies of training pictures of this run, with that of test pictures beside it. A task
    that draws no pictures gets the first part only. ``say`` gets a line at a time.

    What the end will need (a place to write, packages, the features) is asked for before the
    long work.

    Raises:
        ValueError: no such run, split or features; a folder that cannot be written.
        SelfCheckError: the measure fails where the answer is known; nothing is written.
    """
    _check.choice("split", split, ("train", "test"))
    check_features(features)
    run = Run(folder, device=device, say=say)
    if n_samples is None:
        n_samples = MANY if run.device.type == "cuda" else FEW
    n_samples = _check.count("n_samples", n_samples, least=10, most=MOST)
    _add(run.folder, "", None)  # that it can be written
    saved = run.load(parts=())
    model, pictures = run.model(), run.task.draws_pictures
    train = _training_pictures(run.data) if pictures else None
    fits = train is not None and tuple(train.shape[1:]) == CIFAR
    ready = _reference(str(features), split, run.device, say) if fits else None
    result: dict[str, Any] = {"task": run.config.task, "step": saved.step}
    with torch.no_grad():
        result["numbers"] = run.task.evaluate(model, run.data)
    if not pictures:
        result["note"] = f"task {run.config.task!r} draws no pictures: its own numbers only"
    else:
        drawn = draw_samples(run.task, model, n_samples, batch_size=batch_size, seed=seed)
        samples = drawn.numpy()
        if ready is None:
            result["note"] = "not CIFAR-10: no reference for distances"
        else:
            result |= _distances(samples, seed, **ready)
        if train is not None:
            result |= _copies(samples, train, run.folder, run.device)
    _add(run.folder, str(features), result)
    for line in summary(result):
        say(line)
    return result


def summary(result: dict[str, Any]) -> list[str]:
    """Say an evaluation in a few lines."""
    lines = [f"{name}: {value:.4g}" for name, value in result["numbers"].items()]
    lines += [result["note"]] if "note" in result else []
    if "protocol" in result:
        p = result["protocol"]
        lines.append(
            f"{p['samples']} samples against {p['reference']} pictures ({p['split']}), "
            f"{p['features']}, resize {p['resize']}"
        )
        values = {k: v for k, v in result["distances"].items() if not k.endswith("-std")}
        lines += [f"{name}: {value:.4g}" for name, value in values.items()]
        floor = result["floor"]
        lines.append(f"floor: {floor['value']:.4g} ({floor['what']})")
    if "memorised" in result:
        m = result["memorised"]
        lines.append(
            f"memorised: {m['fraction']:.2%} of {m['samples']} samples ({m['definition']})"
        )
        if m["of_test_pictures"] is not None:
            lines[-1] += f"; of test pictures {m['of_test_pictures']:.2%}"
    return lines


def _training_pictures(found: dict[str, Tensor]) -> Tensor | None:
    """Return the run's training pictures: "images", or the first that look like pictures."""
    looks = {k: v for k, v in found.items() if v.dtype == torch.uint8 and v.ndim == 4}
    return looks.get("images", next(iter(looks.values()), None))


def _reference(features: str, split: str, device: torch.device, say) -> dict[str, Any]:
    """Compute (or read) the features of CIFAR-10 and let the measure check itself."""
    torch_fidelity()  # asked for before the long work, not after it
    extract = extractor(features, device=device)
    say(f"self-checks of {extract.names['fid']} (features of CIFAR-10 are kept for the next time)")
    pictures = {name: data.cifar10(name)[0] for name in ("train", "test")}
    found = {name: extract(images, cache=True) for name, images in pictures.items()}
    checks = self_check(extract, found["train"], found["test"], pictures["test"])
    say("; ".join(f"{name} {value:.4g}" for name, value in checks.items()))
    return {"extract": extract, "checks": checks, "split": split, **found}


def _distances(samples: np.ndarray, seed: int, *, extract, checks, split, train, test) -> dict:
    reference, other = (train, test) if split == "train" else (test, train)
    measured = compare(extract, extract(samples), reference, seed=seed)
    protocol = {"split": f"CIFAR-10 {split}", **measured.pop("protocol")}
    n = min(len(samples), len(other))
    floor = {
        "value": frechet(other[:n], reference),
        "what": f"{n} real pictures of the other split against the same reference",
    }
    found = {"distances": measured, "floor": floor, "self_checks": checks, "protocol": protocol}
    return found


def _copies(samples: np.ndarray, train: Tensor, folder: Path, device) -> dict[str, Any]:
    samples, train = samples[:SEARCHED], train.cpu()
    if samples.shape[1:] != tuple(train.shape[1:]):
        return {}
    nearest = nearest_training_images(samples, train, device=device)
    found: dict[str, Any] = {
        "definition": "nearest training picture less than a third as far as the second nearest",
        "fraction": memorised_fraction(nearest),
        "samples": len(samples),
        "training_pictures": len(train),
        "distance_quartiles": np.quantile(nearest.distance[:, 0], (0.25, 0.5, 0.75)).tolist(),
        "of_test_pictures": None,
    }
    draw_nearest(folder / "nearest.png", samples, train.numpy(), nearest)
    if tuple(train.shape[1:]) == CIFAR:
        test = data.cifar10("test")[0][: len(samples)]
        found["of_test_pictures"] = memorised_fraction(
            nearest_training_images(test, train, device=device)
        )
    return {"memorised": found}


def draw_nearest(
    path: Path, samples: np.ndarray, train: np.ndarray, nearest: Nearest, *, n: int = 10
) -> None:
    """Draw the ``n`` samples most like copies, above each its two nearest training pictures."""
    worst = np.argsort(nearest.ratio, kind="stable")[:n]
    rows = [samples[worst], *(train[nearest.index[worst, k]] for k in (0, 1))]
    save_grid(torch.from_numpy(np.concatenate(rows)), path, columns=len(worst))


def _add(folder: Path, key: str, result: dict[str, Any] | None) -> None:
    """Add a result to evaluation.json, replacing the file whole; None only tries the place."""
    path = folder / "evaluation.json"
    if result is None:
        probe = folder / ".evaluation.probe"
        write_whole(probe, "")
        probe.unlink()
        return
    try:
        known = json.loads(path.read_text("utf-8"))
        known = known if isinstance(known, dict) else {}
    except (OSError, ValueError, RecursionError):
        known = {}
    key = key if key in NAMED else Path(key).name
    write_whole(path, json.dumps({**known, key: result}, indent=1) + "\n")
