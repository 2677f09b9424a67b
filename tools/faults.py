"""Plant plausible faults in a copy of the package, one at a time, and see whether a test notices.

    python tools/faults.py              all of them, an hour or so
    python tools/faults.py NAME...      those whose name or file contains one of the words
    python tools/faults.py --jobs 2     two at a time

The table is tools/faults.toml. A fault counts as noticed if one of its tests fails, and that same
test passes on the copy without the fault. A run that takes too long counts as noticed too (a loop
that never ends is a fault that shows), and the table says so. The exit code is 1 if less than 95 %
are noticed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "amtutor"
TABLE = Path(__file__).with_suffix(".toml")
ENOUGH = 0.95
_FAILED = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", re.MULTILINE)
# Processes are copies of one that has imported what takes long, and never the package itself.
_CONTEXT = multiprocessing.get_context("forkserver")
_SLOW = "torch pytest hypothesis.strategies scipy.stats sklearn.cluster PIL.Image matplotlib.pyplot"


@dataclass(frozen=True)
class Fault:
    """One slip: in a file below src/amtutor, `old` becomes `new`, and one of `tests` fails."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def plant(self, source: str) -> str:
        """Return the source with the slip; `old` must stand there exactly once."""
        if (n := source.count(self.old)) != 1:
            raise ValueError(f"{self.name}: its old text occurs {n} times in {self.file}, not once")
        if self.old == self.new:
            raise ValueError(f"{self.name}: its new text is the old one")
        return source.replace(self.old, self.new)

    def known_tests(self) -> list[str]:
        """Those of its tests that there are (not every module has a mirror of its own)."""
        return [test for test in self.tests if (ROOT / test).is_file()]


def read_table() -> list[Fault]:
    """Read all faults, in the order of the table."""
    rows = tomllib.loads(TABLE.read_text("utf-8"))["fault"]
    return [Fault(**{**row, "tests": tuple(row["tests"])}) for row in rows]


def modules() -> list[str]:
    """Name all files of the package that have something to go wrong, below src/amtutor."""
    found = (path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
    return sorted(f for f in found if not f.endswith(("/__init__.py", "__main__.py")))


# ---------------------------------------------------------------------------- one fault


@dataclass(frozen=True)
class Verdict:
    """What became of a fault: noticed, and by which test, or in which way."""

    noticed: bool
    by: str


class Copy:
    """A copy of the package of its own, for one fault after the other."""

    def __init__(self, home: Path):
        self.home, self.package = home, home / "amtutor"
        shutil.copytree(PACKAGE, self.package, ignore=shutil.ignore_patterns("__pycache__"))

    @contextmanager
    def with_fault(self, fault: Fault) -> Iterator[None]:
        """Plant a fault for a while."""
        path = self.package / fault.file
        sound = path.read_text("utf-8")
        path.write_text(fault.plant(sound), "utf-8")
        try:
            yield
        finally:
            path.write_text(sound, "utf-8")

    def fails(self, test: str, limit: float) -> str:
        """Run a file or a test in a process of its own; name what failed, or return nothing."""
        said = self.home / "said.txt"
        process = _CONTEXT.Process(target=_run_tests, args=(str(self.home), test, str(said)))
        process.start()
        process.join(limit)
        if process.is_alive():
            os.killpg(process.pid, signal.SIGKILL)  # and what the tests have started
            process.join()
            return f"{test} (did not end in {limit:.0f} s)"
        if process.exitcode in (0, 5):  # 5: there was nothing to run
            return ""
        found = _FAILED.search(said.read_text("utf-8", errors="replace"))
        return found[1] if found else f"{test} (exit code {process.exitcode})"


def _run_tests(home: str, test: str, said: str) -> None:
    """Run tests against the copy, in this process, which is thrown away afterwards."""
    import pytest

    os.setsid()
    with open(said, "w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(ROOT)
    os.environ |= {"PYTHONPATH": home}
    sys.path.insert(0, home)
    # Nothing compiled is kept: a slip of equal length and time might not be read.
    sys.dont_write_bytecode = True
    sys.exit(pytest.main(["-x", "-q", "-p", "no:cacheprovider", test]))


def judge(fault: Fault, copy: Copy, limit: float) -> Verdict:
    """Plant one fault and run its tests, one file after the other, until one fails."""
    for file in fault.known_tests():
        with copy.with_fault(fault):
            failed = copy.fails(file, limit)
        if not failed:
            continue
        test = failed.split(" (")[0]
        if " (did not end" in failed or passes_without(copy, test, limit):
            return Verdict(True, failed)
        print(f"{fault.name}: {test} fails without the fault, too", file=sys.stderr, flush=True)
    return Verdict(False, "")


@cache
def passes_without(copy: Copy, test: str, limit: float) -> bool:
    """Tell whether a test passes on the sound copy."""
    return not copy.fails(test, limit)


# ---------------------------------------------------------------------------- all of them


def chosen(words: list[str]) -> list[Fault]:
    """Choose the faults whose name or file contains one of the words; all of them without any."""
    faults = read_table()
    for word in words:
        if not any(word in f.name or word in f.file for f in faults):
            raise ValueError(f"{word}: no fault has it in its name or file")
    return [f for f in faults if not words or any(w in f.name or w in f.file for w in words)]


def judge_all(faults: list[Fault], *, jobs: int, limit: float) -> list[Verdict]:
    """Judge every fault, a few at a time, each on a copy that no other uses meanwhile."""
    for fault in faults:  # before the long work
        fault.plant((PACKAGE / fault.file).read_text("utf-8"))
    with tempfile.TemporaryDirectory(prefix="amtutor-faults-") as home:
        copies: SimpleQueue[Copy] = SimpleQueue()
        for k in range(jobs):
            copies.put(Copy(Path(home) / str(k)))

        def one(fault: Fault) -> Verdict:
            copy = copies.get()
            try:
                verdict = judge(fault, copy, limit)
            finally:
                copies.put(copy)
            print(line(fault, verdict), flush=True)
            return verdict

        quiet = {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        os.environ |= {**quiet, "OMP_WAIT_POLICY": "PASSIVE"}
        _CONTEXT.set_forkserver_preload(_SLOW.split())
        with ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(one, faults))


def line(fault: Fault, verdict: Verdict) -> str:
    """Write one row of the table."""
    return f"{'noticed ' if verdict.noticed else 'SURVIVED'}  {fault.file:34} {fault.name:48} " + (
        verdict.by.removeprefix("tests/")
    )


def main() -> int:
    """Plant the faults that were asked for, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="parts of names or files; all without any")
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time (1)")
    parser.add_argument("--limit", type=float, default=600, help="seconds for one test file (600)")
    parser.add_argument("--list", action="store_true", help="name them, and plant nothing")
    args = parser.parse_args()
    try:
        faults = chosen(args.names)
        if args.list:
            print("\n".join(f"{f.file:34} {f.name}" for f in faults))
            return 0
        verdicts = judge_all(faults, jobs=max(1, args.jobs), limit=args.limit)
    except ValueError as error:
        print(f"faults: {error}", file=sys.stderr)
        return 2
    survived = [f for f, v in zip(faults, verdicts, strict=True) if not v.noticed]
    share = 1 - len(survived) / len(faults)
    print(f"\n{len(faults)} planted, {len(faults) - len(survived)} noticed ({share:.0%})")
    for fault in survived:
        print(f"survived: {fault.file}: {fault.name}")
    return int(share < ENOUGH)


if __name__ == "__main__":
    sys.exit(main())
