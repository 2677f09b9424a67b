"""The ledger lists every item of the five papers, and what it calls done exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROWS = yaml.safe_load((ROOT / "book" / "ledger.yml").read_text("utf-8"))
ITEMS = {"A": 4, "B": 8, "C": 7, "D": 6, "E": 6, "F": 10, "G": 5, "H": 7, "I": 5, "J": 7}
done = pytest.mark.parametrize(
    "row", [r for r in ROWS if r["status"] == "done"], ids=lambda r: r["id"]
)


def test_no_item_is_missing():
    wanted = [f"{group}{n}" for group, count in ITEMS.items() for n in range(1, count + 1)]
    assert [row["id"] for row in ROWS] == wanted
    assert {row["status"] for row in ROWS} <= {"done", "open"}
    assert all(row["title"] for row in ROWS)


def test_fields_are_known():
    fields = {field for row in ROWS for field in row}
    assert fields <= {"id", "title", "status", "chapter", "tests", "note"}


@done
def test_done_has_its_place(row):
    page, _, anchor = row["chapter"].partition("#")
    text = (ROOT / "book" / f"{page}.md").read_text("utf-8")
    assert anchor == f"ledger-{row['id'].lower()}"
    assert f"\n({anchor})=\n" in text, f"no ({anchor})= in {page}.md"


@done
def test_done_is_held_by_tests(row):
    assert row["tests"]
    for name in row["tests"]:
        path, _, test = name.partition("::")
        text = (ROOT / path).read_text("utf-8")
        last = test.split("::")[-1]
        assert re.search(rf"^\s*def {re.escape(last)}\(", text, re.MULTILINE), f"no {name}"
        assert last.startswith("test_")
