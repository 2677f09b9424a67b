"""The loop (first version: one process, no checkpoints yet)."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from amtutor.train import checkpoint as ck
from amtutor.train.config import Settings
from amtutor.train.draws import Draws
from amtutor.train.optim import Average, gradient_norm, make_optimizer, rate, set_rate
from amtutor.train.run import Run, build_model, default_device
from amtutor.train.task import find_task


def fit(config: Settings, folder: str | Path, *, device=None) -> Run:
    """Train in this process and return the run."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"config": config.to_dict()}, indent=1))
    device = device or default_device()
    task = find_task(config.task)(config, device)
    data, model = task.data(), build_model(task)
    if config.threads:
        torch.set_num_threads(config.threads)

    def draws(step):
        return Draws(config.seed, step, config.batch_size, device=device)

    with torch.no_grad():
        task.start(model, data, draws(-1))
    optimizer = make_optimizer(config, task, model)
    average = Average(model, config.ema_decay, ramp=config.ema_ramp) if config.ema_decay else None
    parameters = [p for g in optimizer.param_groups for p in g["params"]]
    with (folder / "metrics.jsonl").open("w") as log:
        for step in range(config.steps):
            set_rate(optimizer, rate(config, step))
            bf16 = config.precision == "bf16"
            with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bf16):
                loss, metrics = task.loss(model, data, draws(step))
            optimizer.zero_grad(set_to_none=True)
            loss.float().backward()
            norm = gradient_norm(parameters, clip=config.grad_clip)
            optimizer.step()
            with torch.no_grad():
                task.after_step(model, data, step + 1, draws(step))
            if average:
                average.update(step + 1)
            if (step + 1) % config.log_every == 0:
                line = {"step": step + 1, "loss": float(loss.detach()), "grad_norm": float(norm)}
                line |= {k: float(v.detach()) for k, v in metrics.items()}
                log.write(json.dumps(line) + "\n")
                print(line, flush=True)
    parts = {"model": model.state_dict()}
    if average:
        parts["ema"] = average.model.state_dict()
    ck.save(folder / "checkpoints", ck.Checkpoint(config.steps, config.task, parts))
    return Run(folder, device=device)
