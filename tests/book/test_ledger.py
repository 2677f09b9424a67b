"""The ledger lists every item of the five papers, and what it calls done exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import site_pages
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


placed = pytest.mark.parametrize(
    "row", [r for r in ROWS if r["status"] == "done" or "chapter" in r], ids=lambda r: r["id"]
)


@placed
def test_what_is_named_has_its_place(row):
    page, _, anchor = row["chapter"].partition("#")
    text = (ROOT / "book" / f"{page}.md").read_text("utf-8")
    assert anchor == f"ledger-{row['id'].lower()}"
    assert f"\n({anchor})=\n" in text, f"no ({anchor})= in {page}.md"


@done
def test_done_is_held_by_tests(row):
    assert row["tests"]


@pytest.mark.parametrize("row", [r for r in ROWS if "tests" in r], ids=lambda r: r["id"])
def test_every_test_named_is_there(row):
    assert len(set(row["tests"])) == len(row["tests"])
    for name in row["tests"]:
        path, _, test = name.partition("::")
        text = (ROOT / path).read_text("utf-8")
        last = test.split("::")[-1]
        assert re.search(rf"^\s*def {re.escape(last)}\(", text, re.MULTILINE), f"no {name}"
        assert last.startswith("test_")


@done
def test_the_page_links_every_test_at_its_line(row):
    links = site_pages.tests_of(row)
    assert len(links) == len(row["tests"])
    for name, (words, where) in zip(row["tests"], links, strict=True):
        path, *_, test = name.split("::")
        address, _, line = where.partition("#L")
        assert address.endswith(f"/blob/main/{path}")
        said = (ROOT / path).read_text("utf-8").splitlines()[int(line) - 1]
        assert said.strip().startswith(f"def {test}(")
        assert words.replace(" ", "_") == test.removeprefix("test_")
    assert site_pages.folded(links).count("<a ") == len(links)
