"""`make bench`: run every benchmarks/bench_*.py in a process of its own, and show its tables.

python -m benchmarks            # all of them
python -m benchmarks recall     # those whose name contains "recall"
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent


def main() -> int:
    wanted = sys.argv[1:]
    paths = sorted(HERE.glob("bench_*.py"))
    paths = [p for p in paths if not wanted or any(w in p.stem for w in wanted)]
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} torch threads, torch {torch.__version__}, "
        f"Python {platform.python_version()}"
    )
    failures = []
    for path in paths:
        print(f"\n== {path.stem.removeprefix('bench_')}", flush=True)
        command = [sys.executable, "-c", f"from benchmarks import {path.stem} as b; b.main()"]
        if subprocess.run(command, cwd=HERE.parent).returncode:
            failures.append(path.stem)
    for name in failures:
        print(f"FAILED: {name}", file=sys.stderr)
    return bool(failures) or not paths


if __name__ == "__main__":
    sys.exit(main())
