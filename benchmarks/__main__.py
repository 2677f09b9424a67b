"""`make bench`: every benchmarks/bench_*.py in a process of its own, then one table of all.

python -m benchmarks              # all of them
python -m benchmarks recall ham   # those whose name contains one of these words
python -m benchmarks --missing    # those that results/bench.json has no good run of

What they find goes to results/bench.json after each bench, so nothing is lost where a run is cut
short. A bench that fails is named, the others run, and the command ends with code 1.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.report import PLACE, load, machine
from benchmarks.table import whole_table

from amtutor._files import write_whole

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "results" / "bench.json"
START = "import runpy, sys; runpy.run_path(sys.argv.pop(), run_name='__main__')"


def name_of(path: Path) -> str:
    return path.stem.removeprefix("bench_")


def read(out: Path) -> dict:
    """What is known so far: a record of each bench."""
    return json.loads(out.read_text("utf-8")) if out.is_file() else {}


def measure(path: Path) -> dict:
    """Run one bench and return its record: machine, seconds, rows, and how it ended."""
    before, began = machine(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "rows"
        place.touch()
        command = [sys.executable, "-c", START, str(path)]
        done = subprocess.run(command, cwd=HERE.parent, env={**os.environ, PLACE: str(place)})
        lines = [json.loads(line) for line in place.read_text("utf-8").splitlines()]
    reasons = [line["skipped"] for line in lines if "skipped" in line]
    rows = [line for line in lines if "skipped" not in line]
    failed = f"ended with code {done.returncode}" if done.returncode else None
    if not failed and not lines:
        failed = "told no row"
    return {
        "day": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": before | {"load after": load()},
        "seconds": round(time.monotonic() - began),
        "failed": failed,
        "skipped": reasons,
        "rows": rows,
    }


def run_all(paths: list[Path], out: Path) -> list[str]:
    """Run benches, put each record into ``out`` as soon as it is there, return who failed."""
    failures = []
    for path in paths:
        print(f"\n== {name_of(path)}", flush=True)
        record = measure(path)
        write_whole(out, json.dumps(read(out) | {name_of(path): record}, indent=1) + "\n")
        if record["failed"]:
            failures.append(name_of(path))
            print(f"FAILED: {name_of(path)} {record['failed']}", file=sys.stderr, flush=True)
    return failures


def main(words: list[str] | None = None, folder: Path = HERE) -> int:
    ask = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.split("\n")[0])
    ask.add_argument("name", nargs="*", help="a word of its name; all where none is given")
    ask.add_argument("--missing", action="store_true", help="only where no good run is kept")
    ask.add_argument("--out", type=Path, default=OUT, help="where the numbers go")
    told = ask.parse_args(words)
    known = read(told.out)
    paths = [
        path
        for path in sorted(folder.glob("bench_*.py"))
        if (not told.name or any(word in name_of(path) for word in told.name))
        and not (told.missing and known.get(name_of(path), {"failed": "never"})["failed"] is None)
    ]
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    if not paths:
        print("no bench to run", file=sys.stderr)
        return int(not told.missing)
    failures = run_all(paths, told.out)
    ran = {name_of(path) for path in paths}
    print("\n" + whole_table({k: v for k, v in read(told.out).items() if k in ran}))
    print(f"\nkept in {told.out}; python -m benchmarks.table writes the README's table")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
