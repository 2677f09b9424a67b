"""What the page of live figures says of their speed is what was measured, of all of them."""

from __future__ import annotations

import json
import re

from explorable_stage import ALL, ROOT

RECORD = json.loads((ROOT / "results" / "explorables.json").read_text("utf-8"))
FRAMES = RECORD["milliseconds a frame"]


def test_every_explorable_was_measured():
    assert sorted(FRAMES) == ALL
    assert all({"first film", "answer"} < set(rows) for rows in FRAMES.values())


def test_the_page_names_the_slowest():
    text = (ROOT / "book" / "explorables.md").read_text("utf-8")
    said = float(re.search(r"takes ([\d.]+) of them", text)[1])
    slowest = max(row["all"] for rows in FRAMES.values() for row in rows.values())
    assert round(slowest, 1) == said < 1000 / 60
