"""Run the checks of the project, one step after another, each announced with its time.

    python tools/check.py quick    # ruff, mypy, unit tests, doctests, notebooks in step
    python tools/check.py all      # also every notebook, the site, a browser
    python tools/check.py site     # only build the site

A failing step does not hide the ones after it. The last line counts, as pytest's does.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import notebooks as twins

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
COUNTED = re.compile(r"(\d+) (passed|failed|errors?|skipped)")


def run(*command: str, log: bool = True, **environment: str) -> tuple[bool, str]:
    """Run a command in the project; returns whether it went well and what it said."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = []
    for line in process.stdout:
        lines.append(line)
        if log:
            print("  " + line, end="", flush=True)
    return process.wait() == 0, "".join(lines)


def pytest(*arguments: str, **environment: str) -> tuple[bool, str]:
    """One run of pytest, each worker on one thread; threads that wait do not spin."""
    plain = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "TQDM_DISABLE": "1"}
    environment = {**plain, **environment}
    return run(PYTHON, "-m", "pytest", "-q", "--color=no", *arguments, **environment)


# --------------------------------------------------------------------------------------- steps


def lint() -> tuple[bool, str]:
    good, said = run(PYTHON, "-m", "ruff", "check", ".")
    tidy, says = run(PYTHON, "-m", "ruff", "format", "--check", ".")
    return good and tidy, said + says


def types() -> tuple[bool, str]:
    """Type hints of the package, under mypy: see ``[tool.mypy]`` in pyproject.toml."""
    return run(PYTHON, "-m", "mypy")


def lint_js() -> tuple[bool, str]:
    """ESLint and Prettier on the explorables; skipped, with its reason, where npm cannot be had."""
    return run(PYTHON, "tools/lint_js.py")


def unit() -> tuple[bool, str]:
    return pytest("tests", "--ignore=tests/site", "-n", "2", "--dist", "loadfile")


def doctests() -> tuple[bool, str]:
    return pytest("--doctest-modules", "src/amtutor")


def in_step() -> tuple[bool, str]:
    return run(PYTHON, "tools/notebooks.py", "--check")


def run_notebooks() -> tuple[bool, str]:
    """Every notebook through nbval, but for those whose data cannot be had here."""
    paths = []
    for source in twins.chapters():
        if missing := missing_data(source.read_text("utf-8")):
            print(f"  SKIPPED {source.stem}: {missing}")
        else:
            paths.append(str(source.with_suffix(".ipynb").relative_to(ROOT)))
    flags = "-n 2 --dist loadfile --nbval-lax --nbval-current-env --nbval-cell-timeout 600"
    good, said = pytest(*flags.split(), *paths, AMTUTOR_STATIC="0")
    skipped = len(twins.chapters()) - len(paths)
    return good, said + (f"\n{skipped} skipped" if skipped else "")


def missing_data(text: str) -> str:
    """Why the data that a chapter reads cannot be had; nothing if it can, or the chapter copes."""
    if "DataNotFound" in text:
        return ""
    for name in sorted(set(re.findall(r"\bdata\.(mnist|cifar10|datasaurus)\(", text))):
        code = (
            "from amtutor import data\n"
            f"try: data.{name}()\n"
            "except data.DataNotFound as error: print('not here:', error)"
        )
        _, said = run(PYTHON, "-c", code, log=False)
        if reason := re.search(r"^not here: (.+)$", said, re.MULTILINE):
            return reason[1]
    return ""


def site() -> tuple[bool, str]:
    """Build the site from the executed notebooks, warnings as errors."""
    if told := twins.faults():
        print("".join(f"  {line}\n" for line in told), end="")
        return False, ""
    run(PYTHON, "tools/vendor.py")
    book = str(Path(PYTHON).with_name("jupyter-book"))
    good, said = run(
        book, "build", ".", "--all", "-n", "-W", "--keep-going", log=False, PYTHONWARNINGS="ignore"
    )
    told = re.findall(r"^.*(?:WARNING|ERROR|Error|CRITICAL).*$", said, re.MULTILINE)
    for line in told if told or good else said.splitlines()[-30:]:
        print("  " + re.sub(r"\x1b\[[\d;]*m", "", line))
    return good, said


def in_browser() -> tuple[bool, str]:
    return pytest("tests/site", "-n", "2")


# ----------------------------------------------------------------------------------- the whole

Step = tuple[str, Callable[[], tuple[bool, str]]]
QUICK: list[Step] = [
    ("ruff", lint),
    ("type hints", types),
    ("explorables: ESLint, Prettier", lint_js),
    ("unit and property tests", unit),
    ("examples in docstrings", doctests),
    ("notebooks in step with their sources", in_step),
]
SITE: list[Step] = [("site, warnings as errors", site)]
ALL: list[Step] = [
    *QUICK,
    ("every notebook", run_notebooks),
    *SITE,
    ("site in a browser", in_browser),
]


def main() -> int:
    wanted = {"quick": QUICK, "all": ALL, "site": SITE}
    if len(sys.argv) != 2 or sys.argv[1] not in wanted:
        print(__doc__.strip())
        return 2
    if data := os.environ.get("AMTUTOR_DATA"):
        os.environ["AMTUTOR_DATA"] = str(Path(data).resolve())  # notebooks run inside book/
    steps = wanted[sys.argv[1]]
    count = {"passed": 0, "failed": 0, "skipped": 0}
    failures, begin = [], time.perf_counter()
    for name, step in steps:
        print(f"-- {name}", flush=True)
        start = time.perf_counter()
        good, said = step()
        took = time.perf_counter() - start
        found = {what.rstrip("s"): int(n) for n, what in COUNTED.findall(said[-400:])}
        count["passed"] += found.get("passed", int(good))
        count["skipped"] += found.get("skipped", 0)
        if not good:
            failures.append(name)
            count["failed"] += max(1, found.get("failed", 0) + found.get("error", 0))
        print(f"-- {name}: {'ok' if good else 'FAILED'} ({took:.0f} s)\n", flush=True)
    if sys.argv[1] == "site" and not failures:
        return 0
    print(f"{time.perf_counter() - begin:.0f} seconds in all")
    for name in failures:
        print(f"FAILED: {name}")
    print(", ".join(f"{n} {what}" for what, n in count.items() if n or what == "passed"))
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
