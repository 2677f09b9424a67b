"""The loop: the same few lines for every task, killed or not, on one process or many."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from amtutor import _check
from amtutor._files import write_whole
from amtutor.train import checkpoint as ck
from amtutor.train import folder as fd
from amtutor.train import optim
from amtutor.train.config import Settings
from amtutor.train.draws import Draws, seed_of
from amtutor.train.limits import check_batch, check_model
from amtutor.train.pictures import grid, save_grid
from amtutor.train.progress import Progress
from amtutor.train.run import Run, build_model, complain, fill
from amtutor.train.stop import NonFinite, Signals
from amtutor.train.task import Task, find_task
from amtutor.train.world import World

__all__ = ["fit"]

_SAMPLES = 64  # pictures in a grid along the way
_NEVER = 2**62


def fit(
    config: Settings,
    folder: str | Path,
    *,
    about: dict[str, str] | None = None,
    device: torch.device | str | None = None,
    progress: bool = True,
    say: Callable[[str], None] = complain,
) -> Run:
    """Train into ``folder``, or go on there, and return the run.

    Args:
        config: what to train; on an existing run only what ``amtutor.train.config.FREE`` names
            may differ from its own.
        folder: of the run; made where it is not there.
        about: kept in config.json: ``preset``, ``about``, ``source``, ``command``.
        device: the GPU of this process where there is one, unless given.
        progress: show how far and how fast, on the error stream.
        say: what to do with a line (a refused checkpoint, an early stop).

    SIGTERM and Ctrl-C save a checkpoint and return; ``Run.stopped`` then names the signal.

    Raises:
        ValueError: settings that differ from the run's own, or a batch the processes cannot share.
        CheckpointError: a checkpoint cannot be written; earlier ones are untouched.
        NonFinite: loss, gradient or weights are; nonfinite.json has what reproduces it.
    """
    folder = Path(folder)
    task_class = find_task(config.task)
    world = World(device, unused=task_class.unused_parameters)
    say = say if world.main else lambda line: None
    if world.main:
        folder.mkdir(parents=True, exist_ok=True)
    hold = fd.alone(folder) if world.main else contextlib.nullcontext()
    with Signals() as signals, hold, _torch_as(config, world):
        notes = fd.settle(config, folder)
        world.wait()
        for note in notes:
            say(f"{folder}: {note}")
        task = task_class(config, world.device)
        trainer = _Trainer(task, folder, world, progress=progress, say=say)
        trainer.begin(about or {})
        stopped = trainer.train(signals)
    run = Run(folder, device=world.device, say=say)
    run.stopped = stopped
    return run


@contextlib.contextmanager
def _torch_as(config: Settings, world: World) -> Iterator[None]:
    """Set threads and determinism for this run; leave torch as it was found."""
    threads, was = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    deterministic: Any = torch.utils.deterministic  # torch's own hints leave its switch out
    fills = deterministic.fill_uninitialized_memory
    random, tunes = torch.random.get_rng_state(), torch.backends.cudnn.benchmark
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.backends.cudnn.benchmark = not config.deterministic
    if config.deterministic and world.device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        deterministic.fill_uninitialized_memory = False  # slow, and changes nothing
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.cudnn.benchmark = tunes
        torch.use_deterministic_algorithms(was)
        deterministic.fill_uninitialized_memory = fills
        torch.random.set_rng_state(random)


class _Loss(nn.Module):
    """The task's loss as a module, so that several processes can share its gradient.

    What DistributedDataParallel wraps is the whole loss: a task may call any part of its model.
    """

    def __init__(self, task: Task, model: nn.Module, data: dict[str, Tensor]):
        super().__init__()
        self.model, self.task, self.examples = model, task, data
        self.bf16 = task.config.precision == "bf16"

    def forward(self, draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        """Return loss and metrics of the local batch, in float32."""
        with torch.autocast(self.task.device.type, torch.bfloat16, enabled=self.bf16):
            loss, metrics = self.task.loss(self.model, self.examples, draws)
        if loss.ndim:
            raise ValueError(
                f"loss: got a {_check.describe(loss)}, expected one number (the batch's mean)"
            )
        return loss.float(), {k: self._scalar(v) for k, v in metrics.items()}

    def _scalar(self, value: Tensor | float) -> Tensor:
        return torch.as_tensor(value, device=self.task.device).detach().float()


class _Window:
    """Means of metrics since they were last written; sums stay on the device until then."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self, world: World) -> dict[str, float]:
        means = {k: world.gather(v).mean() / self.counts[k] for k, v in self.sums.items()}
        self.sums, self.counts = {}, {}
        return {k: float(v) for k, v in means.items()}

    def state(self, world: World) -> dict[str, Any]:
        sums = {k: float(world.gather(v).mean()) for k, v in self.sums.items()}
        return {"sums": sums, "counts": dict(self.counts)}

    def restore(self, state: dict[str, Any], device: torch.device) -> None:
        sums = {k: torch.tensor(float(v), device=device) for k, v in state["sums"].items()}
        counts = {k: int(state["counts"][k]) for k in sums}
        self.sums, self.counts = sums, counts


class _Trainer:
    """Everything that changes while a run goes on."""

    def __init__(
        self, task: Task, folder: Path, world: World, *, progress: bool, say: Callable[[str], None]
    ):
        self.task, self.config, self.folder, self.world = task, task.config, folder, world
        self.show = progress and world.main
        self.say = say
        self.home = folder / "checkpoints"
        self.draws(0)  # refuses a batch that the processes cannot share, before the work
        check_model(task)
        self.data = task.data()
        check_batch(task, self.data, self.draws(0).local_size)
        self.model = build_model(task)
        self.step = 0
        self.window = _Window()
        self.bad = torch.tensor(_NEVER, device=world.device)  # first step that was not finite

    def draws(self, step: int, *, whole: bool = False) -> Draws:
        """Random numbers of a step, for this process or for all of them."""
        rank, size = (0, 1) if whole else (self.world.rank, self.world.size)
        c = self.config
        return Draws(c.seed, step, c.batch_size, rank, size, self.world.device)

    # ------------------------------------------------------------------------ begin and resume

    def begin(self, about: dict[str, str]) -> None:
        """Start from nothing, or from the last good checkpoint."""
        parts = ("model", "optimizer", *(["ema"] if self.config.ema_decay > 0 else []))
        settings = self.config.lasting()
        saved = ck.latest(self.home, settings=settings, parts=parts, use=self._resume, say=self.say)
        if saved is None:
            with torch.no_grad():
                self.task.start(self.model, self.data, self.draws(-1))
            self._optimise()
        else:
            self.say(f"{self.folder}: goes on after step {self.step} of {self.config.steps}")
        self.parameters = [p for g in self.optimizer.param_groups for p in g["params"]]
        if self.config.compile:
            self.task.compile(self.model)
        self._agree()
        self.loss = self.world.share(_Loss(self.task, self.model, self.data))
        self.metrics: fd.Metrics | None = None
        if self.world.main:
            ck.sweep(self.home)
            for path in ck.checkpoints(self.home):
                if ck.step_of(path) > self.step:  # refused above: nothing may count it
                    self.say(f"{path}: kept as {ck.set_aside(path).name}")
            count = sum(p.numel() for p in self.model.parameters())
            fd.write_about(self.folder, self.task, about, count)
            self.metrics = fd.Metrics(self.folder, step=self.step)
            if self.metrics.missing:
                self.say(self.metrics.missing)

    def _optimise(self) -> None:
        """Make optimiser and average for the model as it is now."""
        c = self.config
        self.optimizer = optim.make_optimizer(c, self.task, self.model)
        wanted = c.ema_decay > 0 and self.world.main
        self.average = optim.Average(self.model, c.ema_decay, ramp=c.ema_ramp) if wanted else None

    def _resume(self, saved: ck.Checkpoint) -> None:
        """Become what a checkpoint says; what does not fit is an error, and nothing is done yet."""
        where = str(self.home / ck.name_of(saved.step))
        fill(self.model, saved.parts["model"], where=where)
        self._optimise()
        optim.unpack(self.optimizer, saved.parts["optimizer"], saved.state["optimizer"])
        if self.average:
            fill(self.average.model, saved.parts["ema"], where=where)
        self.window.restore(saved.state["window"], self.world.device)
        self.step = saved.step

    def _agree(self) -> None:
        steps = self.world.gather(torch.tensor(self.step, device=self.world.device)).tolist()
        if len(set(steps)) > 1:
            raise ck.CheckpointError(
                f"{self.home}: the processes see different checkpoints (steps {steps}); "
                "all nodes need the same folder"
            )

    # ------------------------------------------------------------------------ the steps

    def train(self, signals: Signals) -> str:
        """Do the remaining steps; return the name of a signal that ended them early, or ''."""
        c = self.config
        self.progress = Progress(c.steps, first=self.step, batch_size=c.batch_size, show=self.show)
        resumed = saved = self.step
        try:
            while self.step < c.steps:
                if self._told_to_stop(signals):
                    return self._stop_early(signals.caught, already=saved == self.step)
                self._update()
                self._tell()
                if self._due(c.checkpoint_every):
                    self._save()
                    saved = self.step
            self._finish(new=self.step > resumed)
        finally:
            self.progress.close()
            if self.metrics:
                self.metrics.close()
        return ""

    def _update(self) -> None:
        """One update of the model; its random numbers are those of its step."""
        c, step = self.config, self.step
        self._seed(seed_of(c.seed, step, "torch", self.world.rank))  # dropout and the like
        self.model.train()
        optim.set_rate(self.optimizer, optim.rate(c, step))
        draws = self.draws(step)
        self.asked = draws.asked
        try:
            loss, metrics = self.loss(draws)
        except ValueError:  # a check inside the model may be the first to see a NaN
            self._check_finite(alone=True)
            self._check_weights(step + 1)
            raise
        self.optimizer.zero_grad(set_to_none=True)
        self.world.accelerator.backward(loss)
        norm = optim.gradient_norm(self.parameters, clip=c.grad_clip)
        self.optimizer.step()
        self.step = step + 1
        with torch.no_grad():
            self.task.after_step(self.model, self.data, self.step, draws)
            if self.average:
                self.average.update(self.step)
            loss = loss.detach()
            finite = loss.isfinite() & norm.isfinite()
            self.bad = self.bad.where(finite, self.bad.clamp(max=self.step))
        self.window.add({"loss": loss, **metrics, "grad_norm": norm})
        self.progress.advance()
        if self.world.device.type == "cpu" and self.world.size == 1:
            self._check_finite()  # costs nothing there; elsewhere it waits for the log

    def _seed(self, seed: int) -> None:
        # Not torch.manual_seed: where CUDA is not started, it keeps a note of every call for good.
        torch.default_generator.manual_seed(seed)
        if self.world.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _due(self, every: int) -> bool:
        return self.step == self.config.steps or (every > 0 and self.step % every == 0)

    def _told_to_stop(self, signals: Signals) -> bool:
        # Several processes must stop at the same step: they ask each other now and then.
        if self.world.size > 1 and self.step % 10:
            return False
        return self.world.any(bool(signals.caught))

    # ------------------------------------------------------------------------ telling

    def _tell(self) -> None:
        """Write what is due at this step: numbers, evaluation, samples."""
        c, line = self.config, {}
        if self._due(c.log_every):
            self._check_finite()
            line = self.window.means(self.world)
            line |= {"lr": optim.rate(c, self.step - 1), "images_per_second": self.progress.speed()}
            if self.world.main:
                self.progress.tell(line["loss"], line["images_per_second"])
        began = time.monotonic()
        if self._due(c.evaluate_every):
            self._check_finite()
            line |= self._evaluate()
        if line and self.metrics:
            self.metrics.write(self.step, line)
        if self._due(c.sample_every):
            self._check_finite()
            self._sample()
        self.progress.pause(time.monotonic() - began)

    @property
    def best(self) -> nn.Module:
        """The model to show: the average where there is one, in eval mode."""
        return self.average.model if self.average else self.model.eval()

    @torch.no_grad()
    def _evaluate(self) -> dict[str, float]:
        found = self.task.evaluate(self.best, self.data) if self.world.main else {}
        self.world.wait()
        return {f"eval/{k}": float(v) for k, v in found.items()}

    def _sample(self) -> None:
        if self.metrics and self.task.draws_pictures:
            with torch.no_grad():
                pictures = self.task.sample(self.best, _SAMPLES, seed=self.config.seed)
                save_grid(pictures, self.folder / "samples" / f"{ck.name_of(self.step)}.png")
                self.metrics.picture("samples", grid(pictures), self.step)
        self.world.wait()

    # ------------------------------------------------------------------------ saving, stopping

    def _save(self) -> None:
        """Write a checkpoint, after making sure that it is worth one."""
        began = time.monotonic()
        self._check_finite()
        window = self.window.state(self.world)
        if self.metrics:  # on the first process
            self._check_weights(self.step)
            self.metrics.flush()
            tensors, plain = optim.pack(self.optimizer)
            parts = {"model": self.model.state_dict(), "optimizer": tensors}
            if self.average:
                parts["ema"] = self.average.model.state_dict()
            state = {"window": window, "optimizer": plain}
            c, lasting = self.config, self.config.lasting()
            ck.save(self.home, ck.Checkpoint(self.step, lasting, parts, state))
            limits = {"keep": c.keep_checkpoints, "milestone_every": c.milestone_every}
            ck.prune(self.home, **limits, settings=lasting, upto=self.step)
        self.world.wait()
        self.progress.pause(time.monotonic() - began)

    def _stop_early(self, name: str, *, already: bool) -> str:
        if not already:
            self._save()
        name = name or "a signal to another process"
        where = f"saved step {self.step} of {self.config.steps} in {self.folder}"
        if not self.step:
            where = f"nothing to save yet in {self.folder}"
        self.say(f"{name}: {where}; the same command goes on from there")
        return name

    def _finish(self, *, new: bool) -> None:
        """Export what a finished run exports, once."""
        mark = self.folder / "finished.txt"
        if self.world.main and (new or not mark.is_file()):
            with torch.no_grad():
                self.task.finish(self.best, self.folder)
            write_whole(mark, f"{self.step} steps done\n")
        elif self.world.main:
            self.say(f"{self.folder}: all {self.step} steps were done before")
        self.world.wait()

    def _check_finite(self, *, alone: bool = False) -> None:
        """Stop if any loss or gradient so far was not finite, here or on any process."""
        bad = int(self.bad if alone else self.world.gather(self.bad).min())
        if bad != _NEVER:
            self._not_finite(bad, "loss or gradient")

    def _check_weights(self, step: int) -> None:
        sums = [p.detach().float().sum() for p in self.parameters]
        if not math.isfinite(float(torch.stack(sums).sum())):
            finite = all(bool(p.detach().isfinite().all()) for p in self.parameters)
            if not finite:
                self._not_finite(step, "a weight")

    def _not_finite(self, step: int, what: str) -> None:
        """Store what reproduces it, and stop: it is never zeroed."""
        c = self.config
        kept = ck.believed(self.home, settings=c.lasting())
        last = f"checkpoints/{kept[-1].name}" if kept else None
        draws = self.draws(step - 1, whole=True)
        rows = {str(n): draws.rows(n).tolist() for n in sorted(set(self.asked))}
        report = {"step": step, "what": what, "seed": c.seed, "draws_step": step - 1}
        report |= {"rows": rows, "batch_size": c.batch_size, "last_good_checkpoint": last}
        line = (
            f"{what} is NaN or infinite at step {step} (seed {c.seed}, rows "
            f"{_some(rows)}; all in {self.folder / 'nonfinite.json'}); "
            f"last good checkpoint: {self.folder / last if last else 'none yet'}"
        )
        if self.world.main:
            write_whole(self.folder / "nonfinite.json", json.dumps(report, indent=1) + "\n")
        raise NonFinite(line)


def _some(rows: dict[str, list[int]]) -> str:
    first = next(iter(rows.values()), [])
    return ", ".join(map(str, first[:6])) + (", ..." if len(first) > 6 else "") or "unknown"
