"""Plant plausible faults in a copy of the package, one at a time, and see whether a test notices.

    python tools/faults.py              all of them, an hour or so
    python tools/faults.py NAME...      those whose name or file contains one of the words
    python tools/faults.py --jobs 2     two at a time

The table is tools/faults.toml. A fault counts as noticed if one of its tests fails, and that same
test passes without the fault. A run that takes too long counts as noticed, too (a loop that never
ends is a fault that shows), if it does end without the fault; the table says so. The exit code is 1
if less than 95 % are noticed.
"""

from __future__ import annotations

import argparse
import gc
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
        return [test for test in self.tests if (ROOT / test.split("::")[0]).is_file()]


def read_table() -> list[Fault]:
    """Read all faults, in the order of the table."""
    rows = tomllib.loads(TABLE.read_text("utf-8"))["fault"]
    return [Fault(**{**row, "tests": tuple(row["tests"])}) for row in rows]


def modules() -> list[str]:
    """Name all files of the package that have something to go wrong, below src/amtutor."""
    found = (path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
    return sorted(f for f in found if not f.endswith(("/__init__.py", "__main__.py")))


# ---------------------------------------------------------------------------- one fault


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

    def failures(self, tests: list[str], limit: float, *, first: bool = True) -> list[str]:
        """Run tests in a process of its own; name what failed, only the first if that is enough."""
        said = self.home / "said.txt"
        said.write_text("", "utf-8")
        process = _CONTEXT.Process(target=_run_tests, args=(str(self.home), tests, said, first))
        process.start()
        process.join(limit)
        if process.is_alive():
            os.killpg(process.pid, signal.SIGKILL)  # and what the tests have started
            process.join()
            return [f"{tests[0]} (did not end in {limit:.0f} s)"]
        text = said.read_text("utf-8", errors="replace")
        found = _FAILED.findall(text)
        if process.exitcode in (0, 5):  # 5: there was nothing to run
            return []
        if not found and process.exitcode > 0:  # not a test that failed, but this script
            raise RuntimeError(f"{' '.join(tests)}: exit code {process.exitcode}\n{text[-2000:]}")
        return found or [f"{tests[0]} (killed by signal {-process.exitcode})"]


def _run_tests(home: str, tests: list[str], said: Path, first: bool) -> None:
    """Run tests against a copy, in this process, which is thrown away afterwards."""
    import pytest

    gc.freeze()  # what is there already need not be looked through again and again
    os.setsid()
    with said.open("w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(ROOT)
    # Loading plugins that no test here asks for would take longer than most tests.
    os.environ |= {"PYTHONPATH": home, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    sys.path.insert(0, home)
    sys.dont_write_bytecode = True  # or a slip of equal length and time might not be read
    words = [*["-x"] * first, "-q", "--tb=line", "-p", "no:cacheprovider", *tests]
    sys.exit(pytest.main(words, plugins=[_Short()]))


class _Short:
    """A plugin of pytest."""

    def pytest_configure(self) -> None:
        """That an example fails is enough: it need not be made small."""
        from hypothesis import Phase, settings

        few = [Phase.explicit, Phase.generate]
        settings.register_profile("faults", settings.default, phases=few)
        settings.load_profile("faults")


def judge(fault: Fault, copy: Copy, limit: float) -> str:
    """Plant one fault and run its tests, one file after the other; name the first that fails."""
    with copy.with_fault(fault):
        found = (copy.failures([file], limit) for file in fault.known_tests())
        return next((failed[0] for failed in found if failed), "")


# ---------------------------------------------------------------------------- all of them


def chosen(words: list[str]) -> list[Fault]:
    """Choose the faults whose name or file contains one of the words; all of them without any."""
    faults = read_table()
    for word in words:
        if not any(word in f.name or word in f.file for f in faults):
            raise ValueError(f"{word}: no fault has it in its name or file")
    return [f for f in faults if not words or any(w in f.name or w in f.file for w in words)]


def judge_all(faults: list[Fault], *, jobs: int, limit: float) -> list[str]:
    """Name for every fault the test that noticed it, or nothing; a few faults at a time.

    Each is planted in a copy that no other uses meanwhile. In the end all tests that failed run
    once without any fault: one that fails there, too, has noticed nothing.
    """
    for fault in faults:  # before the long work
        fault.plant((PACKAGE / fault.file).read_text("utf-8"))
    with tempfile.TemporaryDirectory(prefix="amtutor-faults-") as home:
        copies: SimpleQueue[Copy] = SimpleQueue()
        for k in range(jobs):
            copies.put(Copy(Path(home) / str(k)))

        def one(fault: Fault) -> str:
            copy = copies.get()
            try:
                found = judge(fault, copy, limit)
            except RuntimeError as error:  # said aloud, and no reason to lose the rest
                print(f"{fault.name}: not judged: {error}", file=sys.stderr, flush=True)
                found = ""
            finally:
                copies.put(copy)
            print(line(fault, found), flush=True)
            return found

        quiet = {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        os.environ |= {**quiet, "OMP_WAIT_POLICY": "PASSIVE"}
        _CONTEXT.set_forkserver_preload(_SLOW.split())
        with ThreadPoolExecutor(jobs) as pool:
            verdicts = list(pool.map(one, faults))
        sound = copies.get()
        # By name only: what stands in brackets may itself come from what was changed.
        tests = sorted({_plain(v) for v in verdicts if v and " (" not in v})
        red = sound.failures(tests, 10 * limit, first=False) if tests else []
        always = {_plain(test) for test in red}
        for hung in sorted({v for v in verdicts if " (" in v}):
            if sound.failures([hung.split(" (")[0]], limit):
                always.add(_plain(hung))
    for test in sorted(always):
        print(f"{test} fails without any fault, too", file=sys.stderr)
    return ["" if _plain(v) in always else v for v in verdicts]


def _plain(test: str) -> str:
    """Return a test's name without the values that it was run with."""
    return test.split("[")[0]


def line(fault: Fault, found: str) -> str:
    """Write one row of the table."""
    word = "noticed " if found else "SURVIVED"
    return f"{word}  {fault.file:34} {fault.name:48} {found.removeprefix('tests/')}".rstrip()


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
    survived = [f for f, found in zip(faults, verdicts, strict=True) if not found]
    share = 1 - len(survived) / len(faults)
    print(f"\n{len(faults)} planted, {len(faults) - len(survived)} noticed ({share:.0%})")
    for fault in survived:
        print(f"survived: {fault.file}: {fault.name}")
    return int(share < ENOUGH)


if __name__ == "__main__":
    sys.exit(main())
