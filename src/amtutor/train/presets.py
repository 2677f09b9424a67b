"""Named configs: what there is to train, as JSON files in the folder beside this file."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amtutor.train.config import Settings, from_dict, parse_sets, read_json, unknown
from amtutor.train.task import find_task, known_task

__all__ = ["Preset", "import_tasks", "load_preset", "preset_names", "read_config"]

FOLDER = Path(__file__).parent / "presets"
_TEXTS = ("about", "source", "module", "base")


@dataclass(frozen=True)
class Preset:
    """A named config: what it is, where its numbers come from, and the numbers."""

    name: str
    about: str
    source: str
    config: Settings
    reported: dict[str, Any] = field(default_factory=dict)  # what the paper says came out


def preset_names() -> list[str]:
    """Return the names of all presets, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def load_preset(name: str, sets: list[str] | None = None) -> Preset:
    """Load a preset by name, or a JSON file of that shape by path, and apply ``--set`` words.

    ``"base"`` in it names another one whose settings it has, but for those it gives itself;
    ``"module"`` a Python module that registers the task.

    Raises:
        ValueError: no such preset or module, unknown key, a value of the wrong type or out of its
            range, or another task than the preset's.
    """
    path = _path(name)
    body = _with_base(path)
    config = read_config(path, body)
    cls = type(config)
    changes = parse_sets(cls, sets or [])
    if changes.get("task", config.task) != config.task:
        raise ValueError(
            f"task = {changes['task']!r}: {name} is of task {config.task!r}, expected a preset or "
            "a file of the other task"
        )
    if changes:
        config = from_dict(cls, {**config.to_dict(), **changes})
    said = body.get("reported", {})
    return Preset(path.stem, body.get("about", ""), body.get("source", ""), config, said)


def read_config(path: Path, body: dict[str, Any]) -> Settings:
    """Make the config that a JSON object from ``path`` describes."""
    values = body.get("config")
    if not isinstance(values, dict) or "task" not in values:
        raise ValueError(f"{path}: expected an object with 'config', and in it 'task'")
    for key in _TEXTS:
        if not isinstance(body.get(key, ""), str):
            raise ValueError(f"{path}: {key} = {body[key]!r}: expected text")
    if not isinstance(body.get("reported", {}), dict):
        raise ValueError(f"{path}: reported = {body['reported']!r}: expected an object")
    if body.get("module") and not known_task(values["task"]):
        import_tasks(body["module"])
    try:
        return from_dict(find_task(values["task"]).Config, values)
    except (ValueError, TypeError) as error:  # which of several files, the message cannot know
        raise type(error)(f"{path}: {error}") from None


def import_tasks(module: str) -> None:
    """Import a Python module that registers tasks.

    Raises:
        ValueError: there is no such module, or it cannot be imported.
    """
    try:
        importlib.import_module(module)
    except Exception as error:  # what a module of somebody else's may raise is not ours to know
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"module = {module!r}: cannot be imported ({reason})") from None


def _path(name: str, beside: Path = Path()) -> Path:
    """Find a preset by name, or a file by path."""
    if not isinstance(name, str):
        raise ValueError(f"preset = {name!r}: expected the name of one, or of a JSON file")
    path = FOLDER / f"{name}.json"
    if "/" not in name and path.is_file():
        return path
    path = beside / name
    if path.suffix != ".json" or not path.is_file():
        raise unknown(name, preset_names(), "preset")
    return path


def _with_base(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a preset; where it names a base, with the base's settings below its own."""
    body = read_json(path)
    base, own = body.get("base"), body.get("config")
    if base is None or not isinstance(own, dict):
        return body
    if path in seen:
        raise ValueError(f"{path}: its base has it as a base")
    below = _with_base(_path(base, path.parent), (*seen, path))
    return {**below, **body, "config": {**below.get("config", {}), **own}}
