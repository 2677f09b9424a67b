"""The command line: presets, train, sample, evaluate, figures, data, damage."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import amtutor

__all__ = ["main"]

_ABOUT = """\
Train the memories of the book, and look at what they learned.

  amtutor presets                      what there is to train
  amtutor train toy-smoke              train it into runs/toy-smoke (again: go on there)
  amtutor sample                       pictures from the run that was trained last
  amtutor evaluate --features c10      how far its pictures are from the real ones
  amtutor figures runs/dinosaur-smoke  what the paper draws, of tasks that have figures
  amtutor data mnist cifar10           fetch the data sets into the cache, or say what is missing
"""
_SEVERAL = """\
On an existing DIR the run goes on after its last good checkpoint, with the settings that it was
started with; --set may then change how it is watched, how fast it is and `steps`, nothing else.
SIGTERM and Ctrl-C save first. Several GPUs, several nodes:

  torchrun --nproc-per-node 4 -m amtutor train PRESET
  accelerate launch -m amtutor train PRESET

A JSON file like those of `amtutor presets --json` is a preset too; "base" in it names another one
whose settings it has. A task of your own is a Python module: --import MODULE, or "module" in the
JSON; amtutor/train/tasks/toy.py is one to copy.
"""
_RUN = "folder of a run; without it the run under ./runs that was trained last"


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str):
        """Say what is wrong in one line, without the usage, and leave with 2."""
        print(f"{self.prog}: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    raw = argparse.RawDescriptionHelpFormatter
    top = _Parser(prog="amtutor", description=_ABOUT, formatter_class=raw)
    top.add_argument("--version", action="version", version=f"amtutor {amtutor.__version__}")
    commands = top.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=_Parser
    )
    _presets(commands)
    _train(commands, raw)
    _sample(commands)
    _evaluate(commands)
    _figures(commands)
    _data(commands)
    return top


def _presets(commands: Any) -> None:
    presets = commands.add_parser("presets", help="list what there is to train")
    presets.add_argument("--json", action="store_true", help="all settings, as JSON")
    presets.set_defaults(run=show_presets)


def _train(commands: Any, raw: Any) -> None:
    train = commands.add_parser(
        "train", help="train a preset, or go on", description=_SEVERAL, formatter_class=raw
    )
    train.add_argument("preset", metavar="PRESET", help="a name (amtutor presets) or a JSON file")
    train.add_argument("--out", type=_path, metavar="DIR", help="run folder (runs/PRESET)")
    train.add_argument(
        *("--set", "-s"), dest="sets", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
        help="change settings: --set steps=1000 lr=3e-4 betas=0.9,0.95",
    )  # fmt: skip
    train.add_argument("--device", help="cpu, cuda, cuda:1 (the GPU where there is one)")
    train.add_argument(
        *("--import", "-i"), dest="modules", action="append", default=[], metavar="MODULE",
        help="import a Python module that registers tasks, here or on Python's path",
    )  # fmt: skip
    train.add_argument("--quiet", action="store_true", help="no progress")
    train.set_defaults(run=train_preset)


def _sample(commands: Any) -> None:
    sample = commands.add_parser("sample", help="draw pictures from a run")
    _with_run(sample)
    sample.add_argument("--n", type=_count, default=64, help="how many (64)")
    sample.add_argument("--seed", type=int, default=0, help="of the first noise (0)")
    sample.add_argument("--batch-size", type=_batch, help="at a time (100)")
    sample.add_argument(
        "--out", type=_path, metavar="FILE.png", help="grid; .npy beside it (DIR/samples/...)"
    )
    sample.set_defaults(run=sample_run)


def _evaluate(commands: Any) -> None:
    evaluate = commands.add_parser("evaluate", help="measure a run's pictures against the data")
    _with_run(evaluate)
    evaluate.add_argument(
        "--features",
        default="inception",
        help="inception (FID), c10 (our own small classifier: fd-c10), or a weights file",
    )
    evaluate.add_argument("--n", type=_count, help="samples to draw (50 000; 5 000 on a CPU)")
    evaluate.add_argument("--batch-size", type=_batch, help="at a time (100)")
    evaluate.add_argument("--seed", type=int, help="of the first noise")
    evaluate.add_argument("--json", action="store_true", help="print all that is stored")
    evaluate.set_defaults(run=evaluate_run)


def _figures(commands: Any) -> None:
    figures = commands.add_parser("figures", help="draw what the paper draws")
    _with_run(figures)
    figures.add_argument("--out", type=_path, metavar="FOLDER", help="where to (DIR/figures)")
    figures.set_defaults(run=draw_figures)


def _data(commands: Any) -> None:
    data = commands.add_parser("data", help="fetch the data sets into the cache")
    data.add_argument("names", nargs="+", choices=("cifar10", "mnist"), metavar="NAME")
    data.set_defaults(run=fetch_data)
    damage = commands.add_parser("damage", help="how fd-c10 rises with damage, and its floor")
    damage.add_argument("--out", type=_path, default=Path("results/c10-features/damage.json"))
    damage.add_argument("--features", default="c10", help="c10, inception, or a path to weights")
    damage.add_argument("--n", type=_several, default=2000, help="pictures of each strength (2000)")
    damage.set_defaults(run=measure_damage)


def _with_run(command: argparse.ArgumentParser) -> None:
    command.add_argument("folder", type=_path, nargs="?", metavar="DIR", help=_RUN)
    command.add_argument("--device", help="cpu, cuda, cuda:1 (the GPU where there is one)")


def _path(text: str) -> Path:
    if not text:  # pathlib would take it for the current folder: a shell variable was not set
        raise argparse.ArgumentTypeError("'': expected a name ('.' is the current folder)")
    return Path(text)


def _count(text: str, least: int = 1, most: int = 10**9) -> int:
    try:
        number = int(text.replace("_", ""))
    except ValueError:
        number = 0
    if not least <= number <= most:
        expected = f"expected a whole number, {least} to {most}"
        raise argparse.ArgumentTypeError(f"{text[:40]!r}: {expected}")
    return number


def _several(text: str) -> int:
    return _count(text, least=2)


def _batch(text: str) -> int:
    return _count(text, most=10_000)


# ---------------------------------------------------------------------------- the commands


def show_presets(args: argparse.Namespace) -> None:
    """Print all presets with parameter counts and images seen."""
    from amtutor.train import find_task, load_preset, preset_names
    from amtutor.train.limits import count_parameters

    rows = []
    for name in preset_names():
        preset = load_preset(name)
        seen = preset.config.steps * preset.config.batch_size
        row: dict[str, Any] = {"name": name, "about": preset.about, "source": preset.source}
        task = find_task(preset.config.task)(preset.config)
        count = count_parameters(task) or count_parameters(task, device="cpu")
        row |= {"parameters": count, "images_seen": seen}
        if preset.reported:
            row["reported"] = preset.reported
        rows.append({**row, "config": preset.config.to_dict()})
    if args.json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    wide = max(len(row["name"]) for row in rows) + 32  # where the words begin
    left = max(shutil.get_terminal_size().columns - wide, 40)
    print(f"{'preset':{wide - 32}}  {'parameters':>13}  {'images seen':>13}  what it is")
    for row in rows:
        known = row["parameters"]
        parameters = "unknown" if known is None else f"{known:,}".replace(",", " ")
        images = f"{row['images_seen']:,}".replace(",", " ")
        told = f"{row['about']} ({row['source']})" if row["source"] else row["about"]
        first, *others = textwrap.wrap(told, left) or [""]
        print(f"{row['name']:{wide - 32}}  {parameters:>13}  {images:>13}  {first}")
        for words in others:
            print(f"{'':{wide}}{words}")


def train_preset(args: argparse.Namespace) -> None:
    """Train a preset, or go on in its folder."""
    from amtutor.train import fit, load_preset
    from amtutor.train.config import from_dict, parse_sets
    from amtutor.train.presets import import_tasks
    from amtutor.train.run import stored_config

    for module in args.modules:
        import_tasks(module)
    preset = load_preset(args.preset, args.sets)
    folder = args.out or Path("runs") / preset.name
    stored = stored_config(folder)
    config, about = preset.config, {}
    if stored is None:
        words = ["amtutor", "train", args.preset, *(["--set", *args.sets] if args.sets else [])]
        about = {"preset": preset.name, "about": preset.about, "source": preset.source}
        about["command"] = shlex.join(words) if Path(args.preset).suffix != ".json" else ""
    else:
        # A started run keeps its settings, whatever has become of the preset since.
        config, record = stored
        if (theirs := record.get("preset", preset.name)) != preset.name:
            raise ValueError(f"{folder}: a run of {theirs}; --out names another folder")
        changes = parse_sets(type(config), args.sets)
        config = from_dict(type(config), {**config.to_dict(), **changes})
    run = fit(config, folder, about=about, device=args.device, progress=not args.quiet)
    if not run.stopped and _main_process():
        can = {"sample": run.task.draws_pictures, "figures": run.task.draws_figures}
        word = next((word for word, known in can.items() if known), "evaluate")
        done = f"{folder}: {config.steps} steps done"
        print(f"{done}; next: amtutor {word} {shlex.quote(str(folder))}")


def sample_run(args: argparse.Namespace) -> None:
    """Write a grid and an array of samples."""
    import numpy as np

    from amtutor.train.pictures import BLOCK, draw_samples, save_grid

    run = _open(args)
    path = args.out or run.folder / "samples" / f"{args.n}-seed{args.seed}.png"
    if path.suffix != ".png":
        raise ValueError(f"--out {path}: expected a name that ends in .png")
    size = args.batch_size or BLOCK
    images = draw_samples(run.task, run.model(), args.n, batch_size=size, seed=args.seed)
    save_grid(images[:1024], path)
    np.save(path.with_suffix(".npy"), images.numpy())
    shown = " (the first 1024)" if len(images) > 1024 else ""
    print(f"{path}{shown}\n{path.with_suffix('.npy')}  {tuple(images.shape)} uint8")


def evaluate_run(args: argparse.Namespace) -> None:
    """Print and store the distance of a run's pictures to the data."""
    from amtutor.train import evaluation

    run = _open(args)
    chosen = {"n_samples": args.n, "batch_size": args.batch_size, "seed": args.seed}
    chosen = {k: v for k, v in chosen.items() if v is not None}
    if args.device:
        chosen["device"] = args.device
    report = evaluation.evaluate_run(run.folder, features=args.features, **chosen)
    print(json.dumps(report, indent=2) if args.json else run.folder / "evaluation.json")


def draw_figures(args: argparse.Namespace) -> None:
    """Draw the figures of a run's task and name the files."""
    run = _open(args)
    if not run.task.draws_figures:
        raise ValueError(f"task {run.config.task!r} draws no figures (with these settings)")
    folder = args.out or run.folder / "figures"
    model = run.model()
    folder.mkdir(parents=True, exist_ok=True)
    for path in run.task.figures(model, run.data, folder, metrics=run.metrics()):
        print(path)


def fetch_data(args: argparse.Namespace) -> None:
    """Fetch and check the data sets that are named, and say what is there."""
    from amtutor import data

    readers = {"mnist": data.mnist, "cifar10": data.cifar10}
    for name in args.names:
        for split in ("train", "test"):
            images, _ = readers[name](split)
            print(f"{name} {split}: {len(images)} pictures")


def measure_damage(args: argparse.Namespace) -> None:
    """Measure the floor of fd-c10, and how it rises with damage; write it as JSON."""
    from amtutor._files import write_whole
    from amtutor.evaluate import damage, extractor

    args.out.parent.mkdir(parents=True, exist_ok=True)
    found = damage.report(extractor(args.features), count=args.n)
    write_whole(args.out, json.dumps(found, indent=1) + "\n")
    print("floor by number of samples:", found["floor_by_count"])
    for kind, row in found["damages"].items():
        print(kind, row["strengths"], [round(x, 3) for x in row[found["measure"]]], row["rises"])
    print(args.out)


def _open(args: argparse.Namespace) -> Any:
    """Open the run that was named, or the last one, and say which."""
    from amtutor.train.run import Run, latest_run

    folder = args.folder
    if folder is None:
        folder = latest_run()
        print(f"run: {folder}", file=sys.stderr)
    return Run(folder, device=args.device)


def _main_process() -> bool:
    return int(os.environ.get("RANK", 0)) == 0


# ---------------------------------------------------------------------------- errors


def main(words: Sequence[str] | None = None) -> int:
    """Run a command line; return 0, 1 (a training had to stop) or 2 (what was asked cannot be).

    With AMTUTOR_DEBUG=1 in the environment, errors show where they come from.
    """
    args = parser().parse_args(words)
    try:
        with _modules_here():
            code = args.run(args)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code or 0
    except KeyboardInterrupt:
        print("amtutor: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has left
        _mute()
        return 0
    except Exception as error:
        code = _code(error)
        if code is None or os.environ.get("AMTUTOR_DEBUG"):
            raise
        if isinstance(error, OSError) and error.errno == errno.EBADF:
            error.filename = error.filename or "standard output"
            _mute()
        print(f"amtutor: {_one_line(error)}", file=sys.stderr)
        return code
    finally:
        _leave_processes()


@contextlib.contextmanager
def _modules_here() -> Iterator[None]:
    """Let modules of the current folder be imported, after all others."""
    here = os.getcwd()
    sys.path.append(here)
    try:
        yield
    finally:
        sys.path.remove(here)


def _mute() -> None:
    """Have nothing more written to standard output, where nobody reads."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _code(error: Exception) -> int | None:
    """Return the exit code of an error that a line explains, or None for one of ours."""
    from amtutor.train.checkpoint import CheckpointError
    from amtutor.train.stop import NonFinite

    if isinstance(error, NonFinite):
        return 1
    known = (ValueError, OSError, NotImplementedError, CheckpointError, ImportError, MemoryError)
    if type(error).__name__ == "SelfCheckError":  # of amtutor.evaluate, imported only if used
        return 1
    # torch has no error of its own for memory on a CPU
    full = isinstance(error, RuntimeError) and ("memory" in str(error) and "alloc" in str(error))
    return 2 if isinstance(error, known) or full else None


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def _leave_processes() -> None:
    """Take leave of the other processes, where there are some."""
    if "torch" in sys.modules:
        from torch import distributed

        if distributed.is_available() and distributed.is_initialized():
            distributed.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
