"""What a bench tells `make bench`: rows, or why it was left out; and the machine it ran on.

    row("clustering, 10 000 points", found=0.36, unit="of the time", against="...", at_most=0.6)

A bench prints what it likes for whoever watches. What it tells here is kept in results/bench.json,
one line of JSON a row, written at once, so that a bench that dies half way keeps its first half.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
from pathlib import Path

import torch

PLACE = "AMTUTOR_BENCH_ROWS"  # a file; where it is not named, rows are only returned


def row(
    what: str,
    *,
    found: float,
    unit: str,
    against: str,
    at_most: float | None = None,
    at_least: float | None = None,
    readme: bool = False,
) -> dict:
    """Tell one number: what was measured, against what, and what was asked for (if anything).

    ``readme`` puts it into the README's table. A number that cannot be had here is not a number.
    """
    if at_most is not None and at_least is not None:
        raise ValueError("at_most, at_least: expected one of them at most")
    told = {
        "what": what,
        "against": against,
        "found": float(found) if math.isfinite(found) else None,
        "unit": unit,
        "asked": None,
        "met": None,
        "readme": readme,
    }
    for word, bound in (("at most", at_most), ("at least", at_least)):
        if bound is not None:
            good = found <= bound if word == "at most" else found >= bound
            told |= {"asked": f"{word} {bound:g}", "met": bool(good) if told["found"] else None}
    return _tell(told)


def skip(reason: str) -> None:
    """Say why nothing is measured here."""
    print(f"SKIPPED: {reason}")
    _tell({"skipped": reason})


def _tell(line: dict) -> dict:
    if place := os.environ.get(PLACE):
        with Path(place).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    return line


def machine() -> dict:
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
    return {
        "processor": name,
        "can": flags or platform.machine(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load": load(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def load() -> float | None:
    """Processes that wanted a core during the last minute, ours included."""
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
