"""The README shows a picture that the book made, and every chapter the table of contents has."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

import plain
import readme_picture

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def test_the_picture_is_the_chapters_own():
    assert readme_picture.PICTURE.read_bytes() == readme_picture.figure()
    shown = re.search(r'<img src="([^"]+)"', README)[1]
    assert shown == plain.picture_address("_static/readme.png")


def test_every_chapter_has_a_row_with_its_badge_and_its_minutes():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    files = [c["file"] for part in toc["parts"] for c in part["chapters"]]
    chapters = [f for f in files if re.match(r"book/[0-9]{2}_", f) and "00_" not in f]
    assert len(chapters) >= 3
    rows = [line for line in README.splitlines() if line.startswith("| ")]
    for chapter in chapters:
        there = [line for line in rows if f"({chapter}.md)" in line]
        assert len(there) == 1, f"{len(there)} rows for {chapter}.md in README's table; write one"
        row = there[0]
        opens = f"]({plain.addresses()['colab']}/{chapter}.ipynb)"
        assert opens in row, f"the badge of {chapter} opens another notebook"
        seconds = int(re.search(r"CPU: (\d+) s", (ROOT / f"{chapter}.md").read_text("utf-8"))[1])
        assert f"{seconds} s" in row, (
            f"README's row of {chapter} must say {seconds} s, as its badge"
        )
