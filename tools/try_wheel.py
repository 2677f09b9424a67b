"""Try what is installed, away from the sources: run this with the Python that has the wheel.

    python -m venv /tmp/bare
    /tmp/bare/bin/pip install dist/amtutor-*.whl
    /tmp/bare/bin/python tools/try_wheel.py

Nothing but the package and what it brings is needed: every module is imported, every example of a
docstring and of the README runs, every command of the command line is asked; without the extra
"train", training must say in one line what is missing. The last line counts what failed.
"""

from __future__ import annotations

import doctest
import importlib
import importlib.metadata
import importlib.util
import os
import pkgutil
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = ("torch", "numpy", "scikit-learn", "matplotlib", "ipywidgets", "tqdm", "pooch")
MISSING = re.compile(r"^amtutor( \w+)?: accelerate is missing .*pip install \"amtutor\[train\]\"$")


def modules() -> Iterator[str]:
    """Import every module of the package."""
    import amtutor

    for entry in pkgutil.walk_packages(amtutor.__path__, "amtutor."):
        if entry.name == "amtutor.__main__":
            continue  # to import it is to run it
        try:
            importlib.import_module(entry.name)
        except Exception as error:
            yield f"import {entry.name}: {error!r}"


def docstrings() -> Iterator[str]:
    """Run the examples of every module, as pytest --doctest-modules does."""
    for name in sorted(n for n in sys.modules if n.startswith("amtutor")):
        found = doctest.testmod(sys.modules[name])
        if found.failed:
            yield f"{name}: {found.failed} of {found.attempted} examples"


def readme() -> Iterator[str]:
    """Run the README's Python, one block after the other."""
    names: dict = {"__name__": "readme"}
    text = (ROOT / "README.md").read_text("utf-8")
    for block in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        try:
            exec(compile(block, "README.md", "exec"), names)
        except Exception as error:
            yield f"README.md: {error!r} in\n{block}"


def commands() -> Iterator[str]:
    """Ask the command line for help, presets and a run; the run needs the extra."""
    training = importlib.util.find_spec("accelerate") is not None
    asked = ["--version", "--help", "presets", "presets --json", "train --help"]
    for line in [*asked, "train toy-smoke --out run", *(["sample run"] if training else [])]:
        command = [sys.executable, "-m", "amtutor", *line.split()]
        done = subprocess.run(command, capture_output=True, text=True)
        said = done.stderr.strip()
        if line.startswith("train toy") and not training:
            print(f"    {said}")
            if not (done.returncode and MISSING.match(said)):
                yield f"amtutor {line}: one line should say what is missing, not\n{said}"
        elif done.returncode or "Traceback" in said:
            yield f"amtutor {line}: {done.returncode}\n{said}"


def main() -> int:
    """Run all, say what failed."""
    found = importlib.util.find_spec("amtutor")
    if found is None or not found.origin or Path(found.origin).is_relative_to(ROOT):
        raise SystemExit(f"{sys.executable}: expected an installed wheel, found {found}")
    version = importlib.metadata.version
    print(f"Python {platform.python_version()}, amtutor {version('amtutor')},", end=" ")
    print(", ".join(f"{name} {version(name)}" for name in LIBRARIES))
    os.environ["MPLBACKEND"] = "agg"
    failures = []
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        for step in (modules, docstrings, readme, commands):
            told = list(step())
            print(f"  {'FAILED' if told else 'ok':6}  {step.__doc__}")
            failures += told
        os.chdir(ROOT)
    for line in failures:
        print(line)
    print(f"{len(failures)} failed")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
