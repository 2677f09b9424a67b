"""What the three how-tos say works: their files are written, their commands and code are run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "book").glob("howto_*.md"))
FENCE = re.compile(r"^```(python|console|json)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"as `([\w.]+)`")


def script(page: Path, folder: Path) -> list[list[str]]:
    """Write a page's files into ``folder``; return its commands in order.

    A fence after "as `name`:" or with "# name.py" on top is that file. All other Python of a page
    is one program, since later parts use what earlier ones made; it runs where it ends.
    """
    text, program, commands = page.read_text("utf-8"), [], []
    for fence in FENCE.finditer(text):
        kind, code = fence.groups()
        before = text[: fence.start()].rstrip().rsplit("\n\n", 1)[-1]
        named = re.match(r"# ([\w.]+\.py)\n", code) or (kind == "json" and FILE.search(before))
        if named:
            (folder / named[1]).write_text(code, "utf-8")
        elif kind == "console":
            commands += [[sys.executable, "-m", *shlex.split(line)] for line in code.splitlines()]
        else:
            program.append(code)
    (folder / "page.py").write_text("\n".join(program), "utf-8")
    return [*commands, [sys.executable, "-W", "error::UserWarning", "page.py"]]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_the_page_runs_as_it_stands(page, tmp_path):
    here = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "MPLBACKEND": "Agg"}
    for command in script(page, tmp_path):
        done = subprocess.run(command, cwd=tmp_path, env=here, capture_output=True, text=True)
        assert done.returncode == 0, f"{command[2:]}\n{done.stdout[-500:]}{done.stderr[-2000:]}"


def test_there_are_three_and_each_has_code():
    assert [p.stem for p in PAGES] == ["howto_data", "howto_memory", "howto_task"]
    for page in PAGES:
        assert len(FENCE.findall(page.read_text("utf-8"))) >= 3
        assert "# doctest: +SKIP" not in page.read_text("utf-8")
