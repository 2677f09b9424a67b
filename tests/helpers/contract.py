"""What every public callable owes to bad input: one clear line, or an answer that is right.

A call is made from samples: each parameter has a right value, found by the callable's name and the
parameter's, by the module's and the parameter's, or by the parameter's alone (the house has one
word for one thing). Then one parameter at a time is replaced by values that are wrong for its kind.
What comes back is one of

    clear      ValueError or TypeError (or a subclass) of one line that names the parameter or says
               what was expected
    passed     NaN went in and comes out (or a picture does, in which NaN is a blank)
    accepted   any other answer
    obscure    anything else: torch's own message, many lines, another type of error
    hung       no answer in `SECONDS` of the processor's time

`tests/test_contract.py` holds the numbers; `python tests/helpers/contract.py [room ...]` prints the
table, and `-v` every line that is not clear.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import inspect
import io
import pkgutil
import re
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from amtutor._extras import MissingExtra
from amtutor.data import DataNotFound

SECONDS = 5
LONGEST = 320  # characters of a line that still is one
ROOMS = (
    *("data", "descent", "evaluate", "fast", "generative"),
    *("memory", "network", "show", "train"),
)

# ------------------------------------------------------------------------ what is public


@dataclass
class Public:
    """A public callable: its name in the house, how to call it, and the parameters a user gives."""

    name: str
    call: Callable[..., Any]
    parameters: list[inspect.Parameter] = field(default_factory=list)


def modules(room: str) -> Iterator[Any]:
    """A room of the house: its own module, and those in it."""
    outer = importlib.import_module(f"amtutor.{room}")
    yield outer
    for found in pkgutil.walk_packages(getattr(outer, "__path__", []), f"amtutor.{room}."):
        if not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)


def exported(module: Any) -> list[str]:
    """The names that a module offers; without __all__, its own public functions and classes."""
    if (names := getattr(module, "__all__", None)) is not None:
        return list(names)
    return [n for n, v in vars(module).items() if not n.startswith("_") and callable(v)]


def public(room: str, make: dict[str, Callable[[], Any]]) -> Iterator[Public]:
    """Every public function, constructor and method; ``make`` builds the objects of methods."""
    for module in modules(room):
        if module.__name__.rpartition(".")[2].startswith("_") and room != "fast":
            continue
        for name in exported(module):
            thing = getattr(module, name)
            if getattr(thing, "__module__", "") != module.__name__ or not callable(thing):
                continue
            full = f"{module.__name__.removeprefix('amtutor.')}.{name}"
            if not inspect.isclass(thing):
                yield Public(full, thing, _parameters(thing))
            elif not issubclass(thing, BaseException) and not is_result(thing):
                yield Public(full, thing, _parameters(thing.__init__)[1:])
                yield from _methods(full, thing, make.get(full))


def is_result(thing: type) -> bool:
    """A plain record, which is handed out and not made by a user."""
    return dataclasses.is_dataclass(thing) and not hasattr(thing, "__post_init__")


def _methods(full: str, thing: type, make: Callable[[], Any] | None) -> Iterator[Public]:
    for key, method in vars(thing).items():
        if not key.startswith("_") and inspect.isfunction(method):
            yield Public(f"{full}.{key}", _bound(make, key), _parameters(method)[1:])


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())


def _bound(make: Callable[[], Any] | None, key: str) -> Callable[..., Any]:
    def call(*positional: Any, **keywords: Any) -> Any:
        if make is None:
            raise LookupError("nothing makes the object of this method")
        return getattr(make(), key)(*positional, **keywords)

    return call


# ------------------------------------------------------------------------ what is wrong

HUGE = 10**400


def wrong_values(name: str, right: Any, kind: str) -> Iterator[tuple[str, Any]]:
    """Pairs (kind of mistake, value) that are wrong wherever ``right`` is right.

    ``kind`` says what a number of this name may be; "" is above zero.
    """
    if isinstance(right, (bool, np.bool_)):
        yield from (("type", "yes"), ("type", 2), ("type", []), ("type", np.array([1.0, 2.0])))
    elif isinstance(right, torch.Generator):
        yield from (("type", 5), ("type", "x"), ("type", np.random.default_rng(0)))
    elif isinstance(right, Tensor):
        yield from _wrong_tensors(right)
    elif isinstance(right, np.ndarray):
        yield from _wrong_arrays(right)
    elif isinstance(right, (int, float)):
        yield from _wrong_numbers(right, kind)
    elif isinstance(right, (str, torch.device)):
        yield from (("type", "nope"), ("type", 5), ("type", {}), ("type", np.array(["a", "b"])))
    elif isinstance(right, dict):
        yield from _wrong_mappings(right)
    elif isinstance(right, tuple) and all(isinstance(v, (int, float)) for v in right):
        yield from _wrong_tuples(right)
    elif callable(right):
        yield from (("type", 5), ("type", "x"), ("type", None))
    else:
        yield from (("type", 5.5), ("type", object()))


def _wrong_numbers(right: float, kind: str) -> Iterator[tuple[str, Any]]:
    wrong = ["x", "2", {}, [1.0], np.array([1.0, 2.0]), torch.zeros(2), HUGE, 1j]
    if not isinstance(right, float):
        wrong += [2.5, torch.tensor(2.5), float("nan")]
    yield from (("type", v) for v in wrong)
    if isinstance(right, float):
        yield "range", float("nan")
    below, beyond = (-0.5, 1.5) if isinstance(right, float) else (-3, None)
    if kind != "signed":
        yield "range", below
    if kind == "":
        yield "range", type(right)(0)
    if kind == "share" and beyond:
        yield "range", beyond


def _wrong_tensors(right: Tensor) -> Iterator[tuple[str, Any]]:
    yield from (("type", v) for v in ("x", None, 5, {}, object()))
    yield "type", right.to(torch.complex64)
    yield "type", torch.empty(right.shape, dtype=right.dtype, device="meta")
    if right.ndim == 2 and right.is_floating_point():
        yield "type", right.to_sparse()
    if right.is_floating_point():
        yield "dtype", right.to(torch.int64)
        yield "nan", torch.full_like(right, float("nan"))
    else:
        yield "dtype", right.to(torch.float32)
    if right.ndim:
        yield "rank", right.flatten()[0]
        yield "shape", right[..., :0]
        yield "shape", torch.cat([right, right[..., :1]], -1)


def _wrong_arrays(right: np.ndarray) -> Iterator[tuple[str, Any]]:
    yield from (("type", v) for v in ("x", None, 5, {}, object()))
    yield "type", right.astype(complex)
    yield "type", right.astype(str)
    if right.dtype.kind == "f":
        yield "nan", np.full_like(right, np.nan)
    yield "rank", right.flatten()[0]
    yield "shape", right[..., :0]
    yield "shape", np.concatenate([right, right[..., :1]], -1)


def _wrong_tuples(right: tuple) -> Iterator[tuple[str, Any]]:
    rest = right[1:]
    yield from (("type", v) for v in (5.5, object(), "x", ("x", *rest), (1j, *rest)))
    yield "range", (float("nan"), *rest)
    yield "rank", right * 5
    if not any(isinstance(v, float) for v in right):
        yield "range", (0, *rest)
        yield "range", (-1, *rest)


def _wrong_mappings(right: dict) -> Iterator[tuple[str, Any]]:
    yield from (("type", v) for v in (5.5, object(), "x", {}))
    key = next(iter(right))
    yield "shape", {k: v for k, v in right.items() if k != key}
    if isinstance(right[key], Tensor):
        for kind, wrong in _wrong_tensors(right[key]):
            yield kind, {**right, key: wrong}


# ------------------------------------------------------------------------ what comes back


class _TooLong(Exception):
    pass


@contextlib.contextmanager
def limit(seconds: int) -> Iterator[None]:
    """Stop what runs too long, by the processor's clock: a busy machine makes nothing hang."""
    if not hasattr(signal, "setitimer"):  # Windows
        yield
        return

    def ring(*_: Any) -> None:
        raise _TooLong

    old = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, old)


def verdict(call: Callable[..., Any], arguments: dict[str, Any], name: str) -> tuple[str, str]:
    """Make the call; return what came back and the words that came with it."""
    positional = arguments.get("*", ())
    keywords = {k: v for k, v in arguments.items() if k != "*"}
    quiet = (contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()))
    try:
        with limit(SECONDS), quiet[0], quiet[1], warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer = call(*positional, **keywords)
    except _TooLong:
        return "hung", ""
    except (MissingExtra, DataNotFound) as error:
        return ("clear" if name else "not here"), _short(error)
    except (ValueError, TypeError, OSError, FloatingPointError, LookupError) as error:
        said = str(error)
        named = re.search(rf"\b{re.escape(name)}\b", said) or "expected" in said
        plain = "\n" not in said.strip() and 0 < len(said) <= LONGEST
        foreign = isinstance(error, (KeyError, IndexError)) or FOREIGN.search(said)
        return ("clear" if named and plain and not foreign else "obscure"), _short(error)
    except Exception as error:
        return "obscure", _short(error)
    return ("passed" if shows_nan(answer) else "accepted"), ""


def shows_nan(answer: Any) -> bool:
    """Whether NaN can be seen in an answer, or it holds no number at all."""
    found = list(_numbers(answer))
    return not found or any(bool(torch.isnan(x).any()) for x in found)


def _numbers(answer: Any) -> Iterator[Tensor]:
    if isinstance(answer, nn.Module):
        answer = answer.state_dict()
    if isinstance(answer, Tensor):
        yield torch.zeros(1) if answer.device.type == "meta" else answer.detach().to_dense()
    elif isinstance(answer, (np.ndarray, np.generic)) and answer.dtype.kind in "biufc":
        yield torch.as_tensor(np.asarray(answer))
    elif isinstance(answer, (bool, int, float)):
        yield torch.tensor(torch.nan if answer != answer else 0.0)
    elif isinstance(answer, Mapping):
        for value in answer.values():
            yield from _numbers(value)
    elif isinstance(answer, (list, tuple)):
        for value in answer:
            yield from _numbers(value)
    elif dataclasses.is_dataclass(answer) and not isinstance(answer, type):
        yield from _numbers(vars(answer))


# sentences of Python, torch and NumPy that happen to say "expected"
FOREIGN = re.compile(
    r"expected (all tensors|scalar type|m1 and m2|object of|Tensor as element|str, bytes|a sequence"
    r"|tensor of|self|input|np\.|an? \w+ but got|sequence)|argument 'input'|must be Tensor"
    r"|unsupported operand|has no attribute|not subscriptable|invalid combination|object is not"
)


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:110]}"


@dataclass
class Finding:
    """One call with one wrong value."""

    name: str
    parameter: str
    kind: str
    value: str
    what: str
    said: str


def walk(
    room: str,
    samples: Callable[[Public], dict[str, Any] | None],
    make: dict[str, Callable[[], Any]],
    ranges: dict[str, str],
    calls: dict[str, Callable[..., Any]],
) -> tuple[list[Finding], list[str]]:
    """Try every public callable of a room; returns findings, and callables without a right call."""
    findings, without = [], []
    for one in public(room, make):
        right = samples(one)
        if right is None:
            continue
        one.call = calls.get(one.name, one.call)
        what, said = verdict(one.call, right, "")
        if what == "not here":
            continue  # it asks for data or a package that this machine lacks
        if what not in ("accepted", "passed"):
            without.append(f"{one.name}: {what} {said}: give it a sample in tests/test_contract.py")
            continue
        optional = {p.name for p in one.parameters if p.default is None}
        for parameter, value in right.items():
            for kind, wrong in wrong_values(
                parameter, value, range_of(one.name, parameter, ranges)
            ):
                if parameter == "*" or (wrong is None and parameter in optional):
                    continue
                what, said = verdict(one.call, samples(one) | {parameter: wrong}, parameter)
                what = "accepted" if what == "passed" and kind != "nan" else what
                shown = f"{type(wrong).__name__} {' '.join(str(wrong)[:24].split())!r}"
                findings.append(Finding(one.name, parameter, kind, shown, what, said))
    return findings, without


def range_of(name: str, parameter: str, ranges: dict[str, str]) -> str:
    """What a number may be: said for the callable and the parameter, or for the parameter."""
    return ranges.get(f"{name}.{parameter}", ranges.get(parameter, ""))


COLUMNS = ("clear", "passed", "accepted", "obscure", "hung")


def table(findings: list[Finding]) -> str:
    """Counts of what came back, by kind of mistake."""
    count = Counter((f.kind, f.what) for f in findings)
    total = Counter(f.what for f in findings)
    lines = [f"{'':8}" + "".join(f"{c:>10}" for c in COLUMNS)]
    for kind in sorted({f.kind for f in findings}):
        lines.append(f"{kind:8}" + "".join(f"{count[kind, c]:10}" for c in COLUMNS))
    lines.append(f"{'all':8}" + "".join(f"{total[c]:10}" for c in COLUMNS))
    return "\n".join(lines)


def main(words: list[str]) -> None:
    """Print the table of the rooms named, or of all; -v adds every line that is not clear."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import test_contract as t

    every: list[Finding] = []
    for room in [w for w in words if w != "-v"] or ROOMS:
        findings, without = walk(room, t.samples, t.MAKE, t.RANGES, t.CALLS)
        every += findings
        print(f"\n{room}", table(findings), *without, sep="\n")
        for f in findings if "-v" in words else ():
            if f.what not in ("clear", "passed"):
                known = "right: " if t.is_right(f) else ""
                print(f"{known}{f.what} {f.name}.{f.parameter} {f.kind} {f.value} {f.said}")
    print("\nall rooms", table(every), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
