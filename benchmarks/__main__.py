"""`make bench`: run every benchmarks/bench_*.py in a process of its own, and show its tables.

python -m benchmarks            # all of them
python -m benchmarks recall     # those whose name contains "recall"
"""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent


def machine() -> str:
    """The processor, what it can do, and how busy it is: ratios are facts about these."""
    name, flags = platform.processor() or platform.machine(), ""
    with contextlib.suppress(OSError):
        told = dict(
            line.split(":", 1)
            for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines()
            if ":" in line
        )
        told = {key.strip(): value.strip() for key, value in told.items()}
        name = told.get("model name", name)
        known = set(told.get("flags", "").split())
        flags = " ".join(f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f in known)
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return (
        f"{name} ({flags or platform.machine()}), {os.cpu_count()} cores{load}, "
        f"{torch.get_num_threads()} torch threads, torch {torch.__version__}, "
        f"Python {platform.python_version()}"
    )


def main() -> int:
    wanted = sys.argv[1:]
    paths = sorted(HERE.glob("bench_*.py"))
    paths = [p for p in paths if not wanted or any(w in p.stem for w in wanted)]
    print(machine())
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
