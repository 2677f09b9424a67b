"""A frozen dataclass is the only definition of a config; a preset is one of them, as JSON."""

from __future__ import annotations

import dataclasses
import difflib
import json
import types
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from amtutor import _check

__all__ = ["Preset", "Settings", "from_dict", "load_preset", "parse_sets", "preset_names"]

PRESETS = Path(__file__).parent / "presets"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What every training has; a task adds its own fields in a subclass.

    Values are plain JSON types or tuples of them. A wrong type or value is refused when the
    config is made, in one line.
    """

    task: str
    steps: int
    batch_size: int  # global: the same whatever the number of processes
    lr: float
    schedule: str = "cosine"  # "constant" | "linear" | "cosine" | "one-cycle", after the warm-up
    warmup_steps: int = 0
    final_lr: float = 0.0  # fraction of lr at the end
    optimizer: str = "adamw"  # "adam" | "adamw" | "sgd" (with Nesterov momentum)
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.9
    weight_decay: float = 0.0
    grad_clip: float = 0.0  # largest norm of the gradient; 0: none
    ema_decay: float = 0.0  # 0: none; sampling and evaluation use the average where there is one
    ema_ramp: bool = True  # early on the average forgets faster: decay <= (1 + t) / (10 + t)
    precision: str = "fp32"  # or "bf16" (autocast)
    compile: bool = False
    deterministic: bool = True  # on a GPU: the same bits in every run, a little slower
    seed: int = 0
    threads: int = 0  # torch threads on a CPU; 0: leave
    log_every: int = 50
    sample_every: int = 0  # 0: only at the end
    evaluate_every: int = 0  # 0: only at the end
    checkpoint_every: int = 1000  # 0: only at the end
    keep_checkpoints: int = 2
    milestone_every: int = 0  # checkpoints at multiples of this stay for good; 0: none

    def __post_init__(self) -> None:
        """Bring every value to its declared type, then check the common ones."""
        for name, kind in hints(type(self)).items():
            object.__setattr__(self, name, coerce(name, getattr(self, name), kind))
        for name in ("steps", "batch_size", "log_every", "keep_checkpoints"):
            _check.count(name, getattr(self, name))
        for name in _NON_NEGATIVE:
            _check.non_negative(name, getattr(self, name))
        _check.positive("lr", self.lr)
        for name, options in _CHOICES.items():
            _check.choice(name, getattr(self, name), options)
        for name, value in (("ema_decay", self.ema_decay), ("momentum", self.momentum)):
            if value >= 1:
                raise _check.fail(name, value, "a number in [0, 1)")

    def to_dict(self) -> dict[str, Any]:
        """Return the values as JSON would have them."""
        return {k: _plain(v) for k, v in dataclasses.asdict(self).items()}

    def lasting(self) -> dict[str, Any]:
        """Return the values that a run may never change: they make it the run that it is."""
        return {k: v for k, v in self.to_dict().items() if k not in FREE}


_CHOICES = {
    "schedule": ("constant", "linear", "cosine", "one-cycle"),
    "optimizer": ("adam", "adamw", "sgd"),
    "precision": ("fp32", "bf16"),
}
_NON_NEGATIVE = (
    *("warmup_steps", "final_lr", "momentum", "weight_decay", "grad_clip", "ema_decay", "threads"),
    *("sample_every", "evaluate_every", "checkpoint_every", "milestone_every", "seed"),
)
# These change how a run is watched or how fast it is, not what it computes: a resumed run may
# have others. `steps` too: a run may be made longer; the schedule is drawn for the new length.
FREE = frozenset(
    "steps compile threads log_every sample_every evaluate_every checkpoint_every "
    "keep_checkpoints milestone_every".split()
)


def _plain(value: Any) -> Any:
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


@lru_cache
def hints(cls: type[Settings]) -> dict[str, Any]:
    """Return the declared type of every field."""
    found = get_type_hints(cls)
    return {f.name: found[f.name] for f in dataclasses.fields(cls)}


# ---------------------------------------------------------------------------- values


def coerce(name: str, value: Any, kind: Any) -> Any:
    """Return ``value`` as ``kind``: whole numbers become floats, lists tuples, nothing else."""
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _coerce_union(name, value, kind)
    if origin is Literal:
        return _check.choice(name, value, get_args(kind))
    if origin is tuple or kind is tuple:
        return _coerce_tuple(name, value, kind)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is Any or (isinstance(value, kind) and not (kind is int and isinstance(value, bool))):
        return value
    raise _check.fail(name, value, describe(kind))


def _coerce_union(name: str, value: Any, kind: Any) -> Any:
    for option in get_args(kind):
        try:
            return coerce(name, value, option)
        except (TypeError, ValueError):
            continue
    raise _check.fail(name, value, describe(kind))


def _coerce_tuple(name: str, value: Any, kind: Any) -> tuple:
    inner = get_args(kind)
    if not isinstance(value, list | tuple):
        raise _check.fail(name, value, describe(kind))
    if not inner:
        return tuple(value)
    if len(inner) == 2 and inner[1] is Ellipsis:
        inner = (inner[0],) * len(value)
    if len(inner) != len(value):
        raise _check.fail(name, value, describe(kind))
    return tuple(coerce(name, v, k) for v, k in zip(value, inner, strict=True))


_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def describe(kind: Any) -> str:
    """Say in words what a value of this type looks like."""
    if kind is type(None):
        return "null"
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(describe(k) for k in get_args(kind))
    if get_origin(kind) is tuple:
        inner = get_args(kind)
        if inner[-1] is Ellipsis:
            return f"a list, each {describe(inner[0])}"
        return f"{len(inner)} values ({', '.join(describe(k) for k in inner)})"
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(repr, get_args(kind)))
    return _WORDS.get(kind, str(kind))


def parse(name: str, text: str, kind: Any) -> Any:
    """Read what was typed after ``--set name=`` as a value of type ``kind``."""
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        options = get_args(kind)
        if type(None) in options and text.lower() in ("none", "null", ""):
            return None
        kinds = [k for k in options if k is not type(None)]
        return parse(name, text, kinds[0]) if len(kinds) == 1 else _parse_any(name, text, kind)
    if origin is Literal:
        return _parse_any(name, text, kind)
    if origin is tuple or kind is tuple:
        return _parse_tuple(name, text, kind)
    if kind is str:
        return text
    if kind is bool:
        return _parse_bool(name, text)
    try:
        number = float(text)
        return int(text) if kind is int and number != int(number) else kind(_whole(text, kind))
    except (ValueError, OverflowError):
        raise ValueError(f"{name} = {text!r}: expected {describe(kind)}") from None


def _whole(text: str, kind: Any) -> Any:
    """Read ``800_000``, ``8e5`` or ``0.1``."""
    if kind is not int:
        return text
    try:
        return int(text)
    except ValueError:
        return float(text)


def _parse_any(name: str, text: str, kind: Any) -> Any:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = text
    return coerce(name, value, kind)


def _parse_bool(name: str, text: str) -> bool:
    known = {"true": True, "yes": True, "1": True, "on": True}
    known |= {"false": False, "no": False, "0": False, "off": False}
    if text.lower() not in known:
        raise ValueError(f"{name} = {text!r}: expected true or false")
    return known[text.lower()]


def _parse_tuple(name: str, text: str, kind: Any) -> tuple:
    stripped = text.strip().strip("()[]").strip()
    words = [w.strip() for w in stripped.split(",") if w.strip()] if stripped else []
    inner = get_args(kind) or (str, ...)
    if len(inner) == 2 and inner[1] is Ellipsis:
        inner = (inner[0],) * len(words)
    if len(inner) != len(words):
        raise ValueError(f"{name} = {text!r}: expected {describe(kind)}")
    return tuple(parse(name, w, k) for w, k in zip(words, inner, strict=True))


# ---------------------------------------------------------------------------- whole configs


def unknown(key: str, known: Mapping | list, what: str) -> ValueError:
    """Build the error for a name that is not there, with the nearest ones that are."""
    close = difflib.get_close_matches(key, list(known), n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join(close)}?" if close else f"; there are {', '.join(known)}"
    return ValueError(f"{key!r} is no {what}{hint if known else ''}")


def from_dict(cls: type[Settings], values: Mapping[str, Any]) -> Settings:
    """Make a config from plain values; an unknown key or a missing one is refused in one line."""
    kinds = hints(cls)
    for key in values:
        if key not in kinds:
            raise unknown(key, kinds, f"setting of task {values.get('task', cls.__name__)!r}")
    needed = [f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING]
    needed = [n for n in needed if _no_factory(cls, n)]
    if missing := [n for n in needed if n not in values]:
        raise ValueError(f"config: {', '.join(missing)} missing")
    return cls(**values)


def _no_factory(cls: type[Settings], name: str) -> bool:
    return cls.__dataclass_fields__[name].default_factory is dataclasses.MISSING


def parse_sets(cls: type[Settings], sets: list[str]) -> dict[str, Any]:
    """Read ``key=value`` words by the types of ``cls``.

    >>> parse_sets(Settings, ["steps=2e3", "betas=0.9,0.95", "compile=yes"])
    {'steps': 2000, 'betas': (0.9, 0.95), 'compile': True}
    """
    kinds, values = hints(cls), {}
    for word in sets:
        key, sign, text = word.partition("=")
        if not sign:
            raise ValueError(f"--set {word}: expected key=value")
        if key not in kinds:
            raise unknown(key, kinds, "setting")
        values[key] = parse(key, text, kinds[key])
    return values


# ---------------------------------------------------------------------------- presets


@dataclass(frozen=True)
class Preset:
    """A named config: what it is, where its numbers come from, and the numbers."""

    name: str
    about: str
    source: str
    config: Settings


def preset_names() -> list[str]:
    """Return the names of all presets, sorted."""
    return sorted(path.stem for path in PRESETS.glob("*.json"))


def load_preset(name: str, sets: list[str] | None = None) -> Preset:
    """Load a preset by name, or a JSON file of that shape by path, and apply ``--set`` words.

    Raises:
        ValueError: no such preset, unknown key, or a value of the wrong type.
    """
    path = PRESETS / f"{name}.json"
    if not path.is_file():
        path = Path(name)
        if path.suffix != ".json" or not path.is_file():
            raise unknown(name, preset_names(), "preset")
    body = read_json(path)
    values = body.get("config")
    if not isinstance(values, dict) or "task" not in values:
        raise ValueError(f"{path}: expected an object with 'config', and in it 'task'")
    from amtutor.train.task import find_task

    cls = find_task(values["task"]).Config
    config = from_dict(cls, {**values, **parse_sets(cls, sets or [])})
    return Preset(path.stem, body.get("about", ""), body.get("source", ""), config)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object, or say in one line what is wrong with the file."""
    try:
        body = json.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(body, dict):
        raise ValueError(f"{path}: expected a JSON object")
    return body
