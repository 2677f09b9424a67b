"""The pages of the built site, parsed once."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from bs4 import BeautifulSoup


@lru_cache
def soup(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text("utf-8"), "html.parser")


@lru_cache
def anchors(path: Path) -> set[str]:
    page = soup(path)
    return {e["id"] for e in page.find_all(id=True)} | {
        e["name"] for e in page.find_all("a", attrs={"name": True})
    }
