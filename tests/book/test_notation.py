"""Notation keeps its word: one symbol, one meaning."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

TEXT = (Path(__file__).resolve().parents[2] / "book" / "notation.md").read_text("utf-8")
BOOK, LOCAL = TEXT.split("## Letters of one chapter")


def rows(text: str) -> list[list[str]]:
    """The cells of every row of a table that begins with a formula or a chapter's number."""
    lines = [line for line in text.splitlines() if re.match(r"\| (\$|\d)", line)]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def symbols(cell: str) -> list[str]:
    """`$i, j$` and `$a$, $b$` are two symbols each; a comma inside braces or an index is none."""
    found = []
    for formula in re.findall(r"\$([^$]+)\$", cell):
        found += re.split(r",\s*(?![^{(]*[})])", formula)
    return [symbol.strip() for symbol in found]


def test_no_symbol_of_the_book_has_two_rows():
    found = Counter(s for row in rows(BOOK) for s in symbols(row[0]))
    assert len(found) > 40
    assert [s for s, count in found.items() if count > 1] == []


def test_a_chapters_letter_is_no_symbol_of_the_book():
    whole = {s for row in rows(BOOK) for s in symbols(row[0])}
    local = [
        (int(chapter), s)
        for row in rows(LOCAL.split("## ")[0])
        for chapter in row[0].split(",")
        for s in symbols(row[1])
    ]
    assert len(local) > 15
    assert [s for _, s in local if s in whole] == []
    assert [s for s, count in Counter(local).items() if count > 1] == []
