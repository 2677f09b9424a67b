"""What every public callable owes to bad input: one clear line, or an answer that is right.

A call is made from samples: each parameter has a right value, found by the callable's name and the
parameter's, by the module's and the parameter's, or by the parameter's alone (the house has one
word for one thing). Then one parameter at a time is replaced by values that are wrong for its kind. What
comes back is one of

    clear      ValueError or TypeError (or a subclass) of one line that names the parameter or says
               what was expected
    accepted   an answer
    obscure    anything else: torch's own message, many lines, another type of error
    hung       no answer in `SECONDS`

`tests/test_contract.py` holds the numbers; `python tests/helpers/contract.py` prints the table.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import pkgutil
import re
import signal
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

import amtutor

SECONDS = 5
LONGEST = 320  # characters of a line that still is one

# ------------------------------------------------------------------------ what is public


@dataclass
class Public:
    """A public callable: its name in the house, how to call it, and the parameters a user gives."""

    name: str
    call: Callable[..., Any]
    parameters: list[inspect.Parameter] = field(default_factory=list)


def modules() -> Iterator[Any]:
    for found in pkgutil.walk_packages(amtutor.__path__, "amtutor."):
        if not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)


def exported(module: Any) -> list[str]:
    """The names that a module offers; without __all__, its own public functions and classes."""
    if (names := getattr(module, "__all__", None)) is not None:
        return list(names)
    return [n for n, v in vars(module).items() if not n.startswith("_") and callable(v)]


def public(make: dict[str, Callable[[], Any]]) -> Iterator[Public]:
    """Every public function, constructor and method; ``make`` builds the objects of methods."""
    seen = set()
    for module in modules():
        if module.__name__.rpartition(".")[2].startswith("_") and ".fast." not in module.__name__:
            continue
        for name in exported(module):
            thing = getattr(module, name)
            home = getattr(thing, "__module__", "")
            if home != module.__name__ or not callable(thing) or thing in seen:
                continue
            seen.add(thing)
            full = f"{module.__name__.removeprefix('amtutor.')}.{name}"
            if not inspect.isclass(thing):
                yield Public(full, thing, _parameters(thing))
                continue
            if issubclass(thing, BaseException):
                continue
            yield Public(full, thing, _parameters(thing.__init__)[1:])
            for key, method in vars(thing).items():
                if key.startswith("_") or not inspect.isfunction(method):
                    continue
                yield Public(f"{full}.{key}", _bound(make.get(full), key), _parameters(method)[1:])


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


def wrong_values(name: str, right: Any, ranges: dict[str, str]) -> Iterator[tuple[str, Any]]:
    """Pairs (kind of mistake, value) that are wrong wherever ``right`` is right."""
    kind = ranges.get(name, "")
    if isinstance(right, bool):
        yield from (("type", "yes"), ("type", 2), ("type", []), ("type", np.array([1.0, 2.0])))
    elif isinstance(right, torch.Generator) or name == "generator":
        yield from (("type", 5), ("type", "x"), ("type", np.random.default_rng(0)))
    elif isinstance(right, Tensor):
        yield from _wrong_tensors(right)
    elif isinstance(right, (int, np.integer)):
        wrong = ["x", "2", 2.5, float("nan"), {}, np.array([1, 2]), torch.tensor(2.5), HUGE]
        yield from (("type", v) for v in wrong)
        if kind != "signed":
            yield "range", -3
        if kind in ("", "positive"):
            yield "range", 0
    elif isinstance(right, float):
        wrong = ["x", "2", {}, [1.0], np.array([1.0, 2.0]), torch.zeros(2), HUGE, 1j]
        yield from (("type", v) for v in wrong)
        yield "range", float("nan")
        if kind != "signed":
            yield "range", -0.5
        if kind in ("", "positive"):
            yield "range", 0.0
        if kind == "share":
            yield "range", 1.5
    elif isinstance(right, str):
        yield from (("type", "nope"), ("type", 5), ("type", {}), ("type", np.array(["a", "b"])))
    elif callable(right):
        yield from (("type", 5), ("type", "x"), ("type", None))
    else:
        yield from (("type", 5.5), ("type", object()))


def _wrong_tensors(right: Tensor) -> Iterator[tuple[str, Any]]:
    yield from (("type", v) for v in ("x", None, 5, {}, object()))
    yield "type", right.to(torch.complex64)
    yield "type", torch.empty(right.shape, dtype=right.dtype, device="meta")
    if right.ndim == 2 and right.is_floating_point():
        yield "type", right.to_sparse()
    if right.is_floating_point():
        yield "dtype", right.to(torch.int64)
        yield "nan", torch.full_like(right, float("nan"))
    if right.ndim:
        yield "rank", right.flatten()[0]
        yield "shape", right[..., :0]
        yield "shape", torch.cat([right, right[..., :1]], -1)


# ------------------------------------------------------------------------ what comes back


class _TooLong(Exception):
    pass


@contextlib.contextmanager
def limit(seconds: int) -> Iterator[None]:
    def ring(*_: Any) -> None:
        raise _TooLong

    old = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)


def verdict(call: Callable[..., Any], arguments: dict[str, Any], name: str) -> tuple[str, str]:
    """Make the call; return what came back and the words that came with it."""
    positional = arguments.get("*", ())
    keywords = {k: v for k, v in arguments.items() if k != "*"}
    quiet = (contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()))
    try:
        with limit(SECONDS), quiet[0], quiet[1], warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call(*positional, **keywords)
    except _TooLong:
        return "hung", ""
    except (ValueError, TypeError, OSError, FloatingPointError, LookupError) as error:
        said = str(error)
        named = re.search(rf"\b{re.escape(name)}\b", said) or "expected" in said
        plain = "\n" not in said.strip() and 0 < len(said) <= LONGEST
        foreign = isinstance(error, (KeyError, IndexError)) or FOREIGN.search(said)
        return ("clear" if named and plain and not foreign else "obscure"), _short(error)
    except Exception as error:
        return "obscure", _short(error)
    return "accepted", ""


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
    samples: Callable[[Public], dict[str, Any] | None],
    make: dict[str, Callable[[], Any]],
    ranges: dict[str, str],
) -> tuple[list[Finding], list[str]]:
    """Try every public callable; returns the findings and the callables without a right call."""
    findings, without = [], []
    for one in public(make):
        right = samples(one)
        if right is None:
            continue
        what, said = verdict(one.call, right, "")
        if what != "accepted":
            without.append(f"{one.name}: {what} {said}")
            continue
        for parameter, value in right.items():
            if parameter == "*":
                continue
            for kind, wrong in wrong_values(parameter, value, ranges):
                given = samples(one) | {parameter: wrong}
                what, said = verdict(one.call, given, parameter)
                shown = f"{type(wrong).__name__} {str(wrong)[:24]!r}"
                findings.append(Finding(one.name, parameter, kind, shown, what, said))
    return findings, without


def table(findings: list[Finding]) -> str:
    """Counts of what came back, by kind of mistake."""
    count = Counter((f.kind, f.what) for f in findings)
    kinds = sorted({f.kind for f in findings})
    columns = ("clear", "accepted", "obscure", "hung")
    lines = [f"{'':8}" + "".join(f"{c:>10}" for c in columns)]
    for kind in kinds:
        lines.append(f"{kind:8}" + "".join(f"{count[kind, c]:10}" for c in columns))
    total = Counter(f.what for f in findings)
    lines.append(f"{'all':8}" + "".join(f"{total[c]:10}" for c in columns))
    return "\n".join(lines)
