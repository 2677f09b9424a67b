"""A frozen dataclass is the only definition of a config; a preset is one of them, as JSON."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from amtutor import _check

__all__ = ["Settings", "from_dict", "parse_sets", "ranged"]


@dataclass(frozen=True, kw_only=True)
class Range:
    """What values a setting may have, beside its type; ``least`` and ``most`` are allowed."""

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """A range of numbers has two ends: a setting without an upper one is an open door."""
        ends = (
            (self.least is None) != (self.above is None),
            (self.most is None) != (self.below is None),
        )
        if not self.choices and not all(ends):
            raise TypeError(f"{self}: expected least or above, and most or below")

    def words(self, kind: str, value: Any) -> str:
        """Say what is expected where ``value`` was given."""
        if self.choices:
            return "one of " + ", ".join(map(repr, self.choices))
        low, high = (
            float(next(end for end in ends if end is not None))
            for ends in ((self.above, self.least), (self.below, self.most))
        )
        if high >= _HUGE and not value > high:
            return f"{kind} {'>' if self.least is None else '>='} {low:g}"
        ends = ("(" if self.least is None else "[") + (")" if self.most is None else "]")
        return f"{kind} in {ends[0]}{low:g}, {high:g}{ends[1]}"

    def holds(self, value: float) -> bool:
        """Whether a number is one of these."""
        return (
            (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
        )


_HUGE = 1e6  # limits from here on are against slips, and not worth naming beside the other end
_ANY = Range(least=-(2**53), most=2**53)


def ranged(default: Any = MISSING, **limits: Any) -> Any:
    """Declare a setting with its default and its `Range`; of a tuple, each entry has it.

    >>> @dataclass(frozen=True, kw_only=True)
    ... class Mine(Settings):
    ...     n_memories: int = ranged(32, least=1, most=10**7)
    >>> Mine(task="mine", steps=1, batch_size=1, lr=0.1, n_memories=0)
    Traceback (most recent call last):
        ...
    ValueError: n_memories = 0: expected a whole number >= 1
    """
    return field(default=default, metadata={"range": Range(**limits)})


def whole(default: Any = MISSING, *, least: int = 1, most: int = 10**7) -> Any:
    """Declare a count."""
    return ranged(default, least=least, most=most)


def choice(default: str, *options: str) -> Any:
    """Declare one of several words."""
    return ranged(default, choices=options)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What every training has; a task adds its own fields in a subclass.

    Values are plain JSON types or tuples of them. A wrong type, or a value out of the range that
    its field declares (`ranged`), is refused when the config is made, in one line. A number
    without a declared range must be finite.
    """

    task: str
    steps: int = whole(most=10**10)
    batch_size: int = whole(most=2**20)  # global: the same whatever the number of processes
    lr: float = ranged(above=0, most=1e6)
    # "constant" | "linear" | "cosine" | "one-cycle", after the warm-up
    schedule: str = choice("cosine", "constant", "linear", "cosine", "one-cycle")
    warmup_steps: int = whole(0, least=0, most=10**10)
    final_lr: float = ranged(0.0, least=0, most=1)  # fraction of lr at the end
    optimizer: str = choice("adamw", "adam", "adamw", "sgd")  # sgd with Nesterov momentum
    betas: tuple[float, float] = ranged((0.9, 0.999), least=0, below=1)
    momentum: float = ranged(0.9, least=0, below=1)
    weight_decay: float = ranged(0.0, least=0, most=1e6)
    grad_clip: float = ranged(0.0, least=0, most=1e12)  # largest norm of the gradient; 0: none
    # 0: none; sampling and evaluation use the average where there is one
    ema_decay: float = ranged(0.0, least=0, below=1)
    ema_ramp: bool = True  # early on the average forgets faster: decay <= (1 + t) / (10 + t)
    precision: str = choice("fp32", "fp32", "bf16")  # bf16: autocast
    compile: bool = False
    deterministic: bool = True  # on a GPU: the same bits in every run, a little slower
    seed: int = ranged(0, least=0, most=2**63 - 1)
    threads: int = whole(0, least=0, most=1024)  # torch threads on a CPU; 0: leave
    log_every: int = whole(50, most=10**10)
    sample_every: int = whole(0, least=0, most=10**10)  # 0: only at the end
    evaluate_every: int = whole(0, least=0, most=10**10)  # 0: only at the end
    checkpoint_every: int = whole(1000, least=0, most=10**10)  # 0: only at the end
    keep_checkpoints: int = whole(2)
    # checkpoints at multiples of this stay for good; 0: none
    milestone_every: int = whole(0, least=0, most=10**10)

    def __post_init__(self) -> None:
        """Bring every value to its declared type, then look at its range."""
        for name, kind in hints(type(self)).items():
            object.__setattr__(self, name, coerce(name, getattr(self, name), kind))
        for entry in dataclasses.fields(self):
            check_range(entry.name, getattr(self, entry.name), entry.metadata.get("range", _ANY))

    def to_dict(self) -> dict[str, Any]:
        """Return the values as JSON would have them."""
        return {k: _plain(v) for k, v in dataclasses.asdict(self).items()}

    def lasting(self) -> dict[str, Any]:
        """Return the values that a run may never change: they make it the run that it is."""
        return {k: v for k, v in self.to_dict().items() if k not in FREE}


def check_range(name: str, value: Any, allowed: Range) -> None:
    """Refuse a value, or an entry of a tuple, that is out of its range or not finite."""
    if isinstance(value, tuple):
        for entry in value:
            check_range(name, entry, allowed)
    elif isinstance(value, str) and allowed.choices and value not in allowed.choices:
        raise _check.fail(name, value, allowed.words("", value))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        kind = "a whole number" if isinstance(value, int) else "a finite number"
        if not math.isfinite(value) or not allowed.holds(value):
            raise _check.fail(name, value, kind if allowed is _ANY else allowed.words(kind, value))


# These change how a run is watched or how fast it is, not what it computes: a resumed run may
# have others. `steps` too: a run may be made longer; the schedule is drawn for the new length.
FREE = frozenset(
    "steps compile threads log_every sample_every evaluate_every checkpoint_every "
    "keep_checkpoints milestone_every".split()
)


def _plain(value: Any) -> Any:
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


_HINTS: dict[type, dict[str, Any]] = {}


def hints(cls: type[Settings]) -> dict[str, Any]:
    """Return the declared type of every field."""
    if cls not in _HINTS:
        found = get_type_hints(cls)
        _HINTS[cls] = {f.name: found[f.name] for f in dataclasses.fields(cls)}
    return _HINTS[cls]


# ---------------------------------------------------------------------------- values


def coerce(name: str, value: Any, kind: Any) -> Any:
    """Return ``value`` as ``kind``: whole numbers become floats, lists tuples, nothing else."""
    origin = get_origin(kind)
    if isinstance(value, int) and abs(value) >= 2**1000:
        raise _check.fail(name, value, describe(kind))
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
        return _whole(text) if kind is int else kind(text)
    except (ValueError, OverflowError):
        raise _check.fail(name, text, describe(kind)) from None


def _whole(text: str) -> int:
    """Read ``800_000`` or ``8e5``; a number with a fraction is none."""
    try:
        return int(text)
    except ValueError:
        number = float(text)
    if number != int(number):
        raise ValueError(text)
    return int(number)


def _parse_any(name: str, text: str, kind: Any) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    return coerce(name, value, kind)


def _parse_bool(name: str, text: str) -> bool:
    known = {"true": True, "yes": True, "1": True, "on": True}
    known |= {"false": False, "no": False, "0": False, "off": False}
    if text.lower() not in known:
        raise _check.fail(name, text, "true or false")
    return known[text.lower()]


def _parse_tuple(name: str, text: str, kind: Any) -> tuple:
    stripped = text.strip().strip("()[]").strip()
    words = [w.strip() for w in stripped.split(",") if w.strip()] if stripped else []
    inner = get_args(kind) or (str, ...)
    if len(inner) == 2 and inner[1] is Ellipsis:
        inner = (inner[0],) * len(words)
    if len(inner) != len(words):
        raise _check.fail(name, text, describe(kind))
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
            raise unknown(str(key), kinds, f"setting of task {values.get('task', cls.__name__)!r}")
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


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object, or say in one line what is wrong with the file."""
    try:
        body = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(body, dict):
        raise ValueError(f"{path}: expected a JSON object")
    return body
