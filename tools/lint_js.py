"""Check the JavaScript of the explorables: ESLint for what is wrong, Prettier for the layout.

    python tools/lint_js.py          # as `make test` does
    python tools/lint_js.py --fix    # lay it out, and mend what can be mended by a tool

Both are installed once by npm, as tools/eslint/package-lock.json pins them, under _build/eslint;
their own install scripts do not run. Without npm, or without a network the first time, the check is
skipped and says so; where CI is true that is a failure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RULES = ROOT / "tools" / "eslint"
INSTALLED = ROOT / "_build" / "eslint"
SCRIPTS = ROOT / "book" / "_static" / "explorables"
LOCK = "package-lock.json"
WIDTH = 110


def install() -> str:
    """Have ESLint and Prettier as pinned; returns why not, or nothing."""
    npm = shutil.which("npm")
    if npm is None:
        return "npm is not installed (Debian: apt install npm)"
    wanted = (RULES / LOCK).read_bytes()
    stamp = INSTALLED / "installed.json"
    if stamp.exists() and stamp.read_bytes() == wanted:
        return ""
    shutil.rmtree(INSTALLED, ignore_errors=True)
    INSTALLED.mkdir(parents=True)
    for name in ("package.json", LOCK):
        shutil.copy(RULES / name, INSTALLED / name)
    command = [npm, "ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        run = subprocess.run(command, cwd=INSTALLED, capture_output=True, text=True, timeout=180)
    except subprocess.TimeoutExpired:
        return "npm could not fetch ESLint within three minutes"
    if run.returncode:
        said = (run.stderr or run.stdout).strip().splitlines() or ["no reason given"]
        return f"npm could not fetch ESLint ({said[0]})"
    stamp.write_bytes(wanted)
    return ""


def call(tool: str, *arguments: str) -> bool:
    """Run one of the two in the project; returns whether all is well."""
    program = INSTALLED / "node_modules" / ".bin" / tool
    return subprocess.run([str(program), *arguments], cwd=ROOT).returncode == 0


def written_by_hand() -> list[str]:
    """The scripts that no tool of ours makes."""
    made = "// Made by tools/"
    paths = sorted(SCRIPTS.glob("*.js"))
    return [str(p.relative_to(ROOT)) for p in paths if not p.read_text("utf-8").startswith(made)]


def main() -> int:
    if sys.argv[1:] not in ([], ["--fix"]):
        print(__doc__.strip())
        return 2
    if reason := install():
        print(f"the JavaScript is not checked: {reason}\n1 skipped")
        return int(os.environ.get("CI", "").lower() in ("1", "true"))
    fix = bool(sys.argv[1:])
    config = str((RULES / "eslint.config.mjs").relative_to(ROOT))
    folder = str(SCRIPTS.relative_to(ROOT))
    lint = call("eslint", "--config", config, *(["--fix"] if fix else []), folder)
    how = ["--write" if fix else "--check", "--log-level", "warn", "--print-width", str(WIDTH)]
    tidy = call("prettier", *how, *written_by_hand())
    return int(not (lint and tidy))


if __name__ == "__main__":
    sys.exit(main())
