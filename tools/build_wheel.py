"""Build the wheel and the source distribution, the same bytes from the same files, and weigh them.

    python tools/build_wheel.py                 # into dist/
    python tools/build_wheel.py --out FOLDER

Times, rights and order of files do not reach the archives: hatchling sees to it. A
SOURCE_DATE_EPOCH of the caller would, so it is dropped. Same bytes need the same hatchling and
the same zlib: the versions of requirements.txt, and one build of Python.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ("src", "README.md", "CHANGELOG.md", "CITATION.cff", "LICENSE", "LICENSE-text")


def build(out: Path, root: Path = ROOT) -> tuple[Path, Path]:
    """Build both archives of the project in ``root``; return wheel and source distribution."""
    environment = {k: v for k, v in os.environ.items() if k != "SOURCE_DATE_EPOCH"}
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(out.resolve())]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"nothing was built:\n{done.stderr or done.stdout}")
    return next(out.glob("*.whl")), next(out.glob("*.tar.gz"))


def parts(wheel: Path) -> Counter[str]:
    """Bytes in the wheel of each file of weights, each room, and what lies outside of rooms."""
    sizes: Counter[str] = Counter()
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            path = Path(entry.filename)
            room = path.parts[1] if len(path.parts) > 2 else "the rest"
            heavy = path.suffix == ".safetensors"
            sizes[f"weights/{path.stem}" if heavy else room] += entry.compress_size
    return sizes


def uncommitted() -> str:
    """What of the shipped files is not as committed; nothing where git cannot say."""
    command = ["git", "status", "--porcelain", "--", *SHIPPED, "pyproject.toml"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.rstrip()


def main() -> None:
    """Build, then say what is in it and the SHA-256 of both."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--out", type=Path, default=ROOT / "dist")
    archives = build(words.parse_args().out)
    for name, size in parts(archives[0]).most_common():
        print(f"  {size / 1e6:6.2f} MB  {name}")
    for path in archives:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        print(f"{path.stat().st_size / 1e6:.2f} MB  {path.name}\n  sha256 {digest}")
    if changed := uncommitted():
        print(f"not as committed:\n{changed}")


if __name__ == "__main__":
    main()
