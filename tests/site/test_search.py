"""Search leads to sections, shows words, and finds numbers."""

from __future__ import annotations

import json

import pytest
from built_pages import anchors


@pytest.fixture(scope="module")
def index(html) -> list:
    text = (html / "_static" / "search-index.js").read_text("utf-8")
    return json.loads(text.removeprefix("window.amSections=").rstrip().removesuffix(";"))


def test_every_entry_leads_to_a_section(html, index):
    assert len(index) > 60
    for where, trail, _ in index:
        page, _, anchor = where.partition("#")
        assert (html / page).exists() and trail
        assert not anchor or anchor in anchors(html / page), where


def test_texts_are_words(index):
    """No TeX, no code, no roles."""
    for where, trail, text in index:
        for part in (*trail, text) if "/api" not in where else ():
            for sign in ("\\", "$", "`", "{", "torch.", "plt.", "==", "NBVAL"):
                assert sign not in part, (where, part[max(0, part.find(sign) - 30) :][:80])


@pytest.mark.parametrize(
    ("question", "page", "among"),
    [
        ("0.138", "02_", 3),
        ("stop gradient", "1", 3),
        ("capacity", "02_", 5),
        ("softmax attention", "03_", 5),
        ("Lagrangian", "04_", 5),
        ("hypersynapse", "", 5),
    ],
)
def test_the_place_is_among_the_first(visit, question, page, among):
    opened = visit("book/intro.html").page
    found = opened.evaluate("(q) => window.amSearch(q)", question)
    assert found, question
    assert any("#" in where for where in found[:among])
    assert any(where.startswith(f"book/{page}") for where in found[:among]), found[:among]


def test_the_dialog_answers_and_leads_there(visit):
    page = visit("book/intro.html").page
    page.keyboard.press("Control+k")
    page.locator("#pst-search-dialog input").fill("double factorial")
    first = page.locator(".am-hits li a").first
    first.wait_for()
    text = page.locator(".am-hits").inner_text()
    assert "\\" not in text and "factorial" in text
    target = first.get_attribute("href")
    first.click()
    page.wait_for_url(f"**/{target.split('/')[-1]}")


def test_the_page_of_search_answers_from_a_file(visit, html):
    page = visit("search.html?q=crosstalk", base=html.as_uri()).page
    hits = page.locator(".bd-search-container .am-hits")
    hits.locator("li a").first.wait_for()
    assert "crosstalk" in hits.inner_text().lower()


def test_nothing_is_said_to_be_nothing(visit):
    page = visit("search.html?q=zzyzx").page
    hits = page.locator(".bd-search-container .am-hits")
    hits.locator("p").first.wait_for()
    assert "Nothing" in hits.inner_text()
