"""The trainer of the latent memory against a plain loop with a DataLoader; the smoke preset.

Same model, same optimiser, same batch, same precision. The plain loop reads pictures through a
DataLoader (workers as given, pinned memory on a GPU), converts them, and steps. The trainer keeps
the pictures on the device, draws rows by number, logs, averages the weights. Both are timed over
the same number of steps after a warm-up, in turn, in one process; the trainer by the rate that it
writes into metrics.jsonl, without what it does before the first step and after the last.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import torch
from benchmarks.report import row, skip
from torch.utils.data import DataLoader, TensorDataset

from amtutor.data import DataNotFound
from amtutor.generative import latent
from amtutor.train import Run, find_task, fit, load_preset
from amtutor.train.run import build_model

CPU = {"preset": "latent-cpu", "steps": 60, "warm": 10, "rounds": 3, "workers": 0}
GPU = {"preset": "latent-4096", "steps": 200, "warm": 50, "rounds": 3, "workers": 4}
AIM = 1.3  # on a GPU: pictures per second over the plain loop's
QUIET = ["log_every=10", "log_gradients=no", "sample_every=0", "evaluate_every=0"]
QUIET += ["checkpoint_every=0", "warmup_steps=0"]


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def plain(config, task, images, device, *, steps: int, warm: int, workers: int) -> float:
    """Seconds of ``steps`` steps of the loop that one writes first."""
    model = build_model(task)
    optimiser = torch.optim.AdamW(
        model.parameters(), config.lr, betas=config.betas, weight_decay=config.weight_decay
    )
    loader = DataLoader(
        TensorDataset(images.cpu()),
        config.batch_size,
        shuffle=True,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        drop_last=True,
    )
    began = 0.0
    for step, (batch,) in enumerate(loader):
        if step == warm:
            synchronise(device)
            began = time.perf_counter()
        if step == warm + steps:
            break
        x = latent.to_pixels(batch.to(device, non_blocking=True))
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            energy, error = model(x, beta_whole=latent.beta_schedule(step))
        optimiser.zero_grad()
        (energy.mean() + error.mean()).backward()
        optimiser.step()
    synchronise(device)
    return time.perf_counter() - began


def ours(name: str, extra: list[str], device, folder: Path, *, steps: int, warm: int) -> float:
    """Seconds of ``steps`` steps of the trainer, by its own lines after the warm-up."""
    config = load_preset(name, [*QUIET, *extra, f"steps={warm + steps}"]).config
    run = fit(config, folder / f"run-{time.monotonic_ns()}", device=device)
    rates = [m["images_per_second"] for m in run.metrics() if m["step"] > warm]
    return steps * config.batch_size / statistics.harmonic_mean(rates)


def main() -> None:
    """Print pictures per second of both, their ratio, and the seconds of the smoke preset."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(2)
    plan = GPU if device.type == "cuda" else CPU
    extra = ["threads=2"] if device.type == "cpu" else []
    config = load_preset(plan["preset"], [*QUIET, *extra]).config
    task = find_task(config.task)(config, device)
    try:
        images = task.data()["images"]
    except DataNotFound as missing:
        skip(str(missing))
        return
    steps, warm = plan["steps"], plan["warm"]
    rates: dict[str, list[float]] = {"plain loop": [], "trainer": []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(plan["rounds"]):
            a = plain(config, task, images, device, steps=steps, warm=warm, workers=plan["workers"])
            b = ours(plan["preset"], extra, device, Path(folder), steps=steps, warm=warm)
            for way, seconds in (("plain loop", a), ("trainer", b)):
                rates[way].append(steps * config.batch_size / seconds)
        print(f"{plan['preset']} on {device.type}, batch {config.batch_size}, {config.precision}")
        for way, found in rates.items():
            print(f"  {way:12s} {statistics.median(found):10.0f} pictures a second")
        ratios = [b / a for a, b in zip(*rates.values(), strict=True)]
        aim = f" (aim {AIM})" if device.type == "cuda" else " (the aim of 1.3 is for a GPU)"
        print(f"  trainer over plain loop: {statistics.median(ratios):.2f}{aim}")
        row(
            f"training {plan['preset']} on {device.type}, pictures a second",
            found=statistics.median(ratios),
            unit="times as many",
            against="a plain loop with a DataLoader",
            at_least=AIM if device.type == "cuda" else None,
            readme=True,
        )
        began = time.perf_counter()
        fit(load_preset("latent-smoke").config, Path(folder) / "smoke", device=device)
        took = time.perf_counter() - began
        print(f"latent-smoke, everything: {took:.0f} s (aim: a minute)")
        row("latent-smoke, everything", found=took, unit="s", against="a minute", at_most=60)
        assert Run(Path(folder) / "smoke").finished


if __name__ == "__main__":
    main()
