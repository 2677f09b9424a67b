"""The landing page's plan names every chapter that is there, under its part."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


def test_every_chapter_of_the_contents_is_in_the_plan():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    plan = yaml.safe_load((ROOT / "book" / "plan.yml").read_text("utf-8"))
    planned = {(part["part"], c["number"]) for part in plan for c in part["chapters"]}
    for part in toc["parts"]:
        for chapter in part["chapters"]:
            if (found := re.match(r"book/(\d\d)_", chapter["file"])) and int(found[1]):
                place = (part["caption"], int(found[1]))
                assert place in planned, f"add {chapter['file']} to book/plan.yml"


def test_numbers_rise_and_every_chapter_asks():
    plan = yaml.safe_load((ROOT / "book" / "plan.yml").read_text("utf-8"))
    chapters = [c for part in plan for c in part["chapters"]]
    assert [c["number"] for c in chapters] == list(range(1, len(chapters) + 1))
    assert all(c["asks"].endswith("?") and c["title"] for c in chapters)
