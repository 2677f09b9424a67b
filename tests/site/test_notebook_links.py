"""What the notebooks print and link is what the built site prints and has."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import notebooks  # noqa: E402 (in tools/, which is no package)
import plain  # noqa: E402

BOOK = plain.Book()


@pytest.mark.parametrize("notebook", [p.stem for p in notebooks.chapters()])
def test_links_to_the_site_lead_somewhere(html, notebook):
    twin = nbformat.read(plain.BOOK / f"{notebook}.ipynb", as_version=4)
    text = "\n".join(c.source for c in twin.cells if c.cell_type == "markdown")
    links = set(re.findall(rf"\({re.escape(plain.addresses()['site'])}/([^)]+)\)", text))
    assert links
    for link in links:
        page, _, anchor = link.partition("#")
        assert (html / page).is_file(), f"{notebook}.ipynb links to {page}, which is not built"
        if anchor:
            assert f'id="{anchor}"' in (html / page).read_text("utf-8"), f"no {link}"


def test_numbers_are_the_site_s(html):
    """Equations, figures, exercises, theorems: each label, where it is and what is printed."""
    seen = 0
    pages = {page: html / "book" / f"{page}.html" for page in BOOK.titles}
    texts = {page: path.read_text("utf-8") for page, path in pages.items() if path.exists()}
    for label, target in BOOK.labels.items():
        if target.page not in texts or target.kind in ("section", "place", "solution"):
            continue
        anchor = f"equation-{label}" if target.kind == "equation" else label
        if target.kind == "term":
            anchor = plain.term_anchor(target.title)
        _, _, after = texts[target.page].partition(f'id="{anchor}"')
        assert after, f"the page {target.page} has no {anchor}"
        printed = re.search(r'class="(?:eqno|caption-number)">\s*([^<]*?)\s*<', after)
        if target.number:
            assert printed[1] == target.name, f"{label}: {printed[1]} on the site"
            seen += 1
    assert seen > 100
