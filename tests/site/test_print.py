"""On paper: light, numbered, folds and solutions as wished, no half-started figure."""

from __future__ import annotations

import io

import pytest
from pypdf import PdfReader

import pdf
import shoot

CHAPTER = "book/02_binary_memories.html"
WIDER = """() => [...document.querySelectorAll('.bd-article pre')].filter((e) => e.offsetParent &&
  e.scrollWidth > e.clientWidth + 2).map((e) => e.textContent.slice(0, 60))"""

LOADED = """() => [...document.querySelectorAll('.explorable-print')].every((e) => e.complete &&
  e.naturalWidth)"""


@pytest.fixture
def paper(visit):
    """Open a page as it is printed."""

    def open_page(path: str, wants: str = "", **context):
        page = visit(
            f"{path}?print={wants}", viewport={"width": 720, "height": 1000}, **context
        ).page
        page.emulate_media(media="print")
        page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        page.wait_for_function(LOADED)  # a browser that prints waits for these by itself
        return page

    return open_page


def test_paper_is_light_whatever_the_screen_is(paper):
    page = paper(CHAPTER, color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.querySelector('.bd-article h1')).color") in (
        "rgb(0, 0, 0)",
        "rgb(27, 31, 36)",
    )
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    assert page.evaluate("getComputedStyle(document.querySelector('article img')).filter") == "none"
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark", (
        "the screen is as before"
    )


def test_the_title_keeps_its_number(paper):
    page = paper(CHAPTER)
    title = page.locator("main h1")
    assert title.count() == 1 and title.is_visible()
    assert title.inner_text().startswith("2. ")


@pytest.mark.parametrize("wants", ["", "code", "solutions", "code,solutions"])
def test_folds_and_solutions_as_wished(paper, wants):
    page = paper(CHAPTER, wants)
    folded = page.locator(".bd-article section > .cell details.hide pre").first
    assert folded.is_visible() == ("code" in wants.split(","))
    assert page.locator("section#claims > h2").is_visible() == ("code" in wants.split(","))
    inside = page.locator(".solution p:not(.admonition-title)").first
    assert inside.is_visible() == ("solutions" in wants.split(","))
    assert page.locator(".bd-article summary:visible, .copybtn:visible").count() == 0


def test_no_line_of_code_is_cut(paper):
    assert not paper(CHAPTER, "code,solutions").evaluate(WIDER)


def test_what_is_opened_for_paper_is_there_at_once(paper):
    """A fold that fades in while the sheet is drawn would be printed pale."""
    page = paper(CHAPTER, "code,solutions")
    pale = page.evaluate(
        """() => [...document.querySelectorAll('details.hide pre')].filter((e) => {
          for (let p = e; p; p = p.parentElement) {
            if (getComputedStyle(p).opacity < 1 || p.getAnimations().length) return true;
          }
        }).length"""
    )
    assert pale == 0


def test_a_movie_prints_where_it_ended(paper):
    page = paper(CHAPTER)
    step = page.locator(".am-movie-step").first
    last = page.locator(".am-movie input[type=range]").first.get_attribute("max")
    assert step.inner_text() == last != "0"
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert step.inner_text() == "0"


def test_a_live_figure_prints_its_picture(paper, path):
    page = paper(path)
    pictures = page.locator(".explorable-print")
    for i in range(pictures.count()):
        assert pictures.nth(i).is_visible()
        assert pictures.nth(i).evaluate("(e) => e.complete && e.naturalWidth > 0")
    assert page.locator(".explorable-body:visible").count() == 0


def test_the_button_asks_before_it_prints(visit):
    page = visit(CHAPTER, viewport={"width": 1280, "height": 900}).page
    page.evaluate("window.print = () => { window.printed = true; }")
    page.locator(".dropdown-download-buttons > button").click()
    page.locator(".btn-download-pdf-button").click()
    dialog = page.locator("dialog.am-print")
    assert dialog.is_visible()
    dialog.get_by_label("with the solutions").check()
    dialog.get_by_role("button", name="Print").click()
    page.wait_for_function("window.printed")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("document.documentElement.dataset.printSolutions") == "open"
    assert page.evaluate("document.documentElement.dataset.printCode") == "out"


def test_every_page_of_the_contents_goes_into_the_book(html):
    toc = pdf.yaml.safe_load((pdf.ROOT / "_toc.yml").read_text("utf-8"))
    names = [name for part in pdf.contents(toc) for name in part.pages]
    built = {f"book/{p.stem}" for p in (html / "book").glob("*.html")}
    assert set(names) == {name for name in built if not pdf.LEFT_OUT.match(name)}
    assert len(names) == len(set(names)) and names[0] == "book/intro"


def test_the_book_as_one_file(html, chromium, tmp_path, monkeypatch):
    """Three pages of it: numbers agree, bookmarks and links lead to their sheets."""

    class Ours:
        def __enter__(self):
            return chromium

        def __exit__(self, *error):
            return None

    monkeypatch.setattr(shoot, "browser", Ours)  # the session's, where one is running already
    out = tmp_path / "book.pdf"
    count = pdf.make(out, "", ["intro", "ledger", "bibliography"])
    reader = PdfReader(io.BytesIO(out.read_bytes()))
    assert count == len(reader.pages) >= 6
    bookmarks = {item.title: item for item in flat(reader.outline)}
    start = reader.get_destination_page_number(bookmarks["Where each result is"])
    sheet = reader.pages[start].extract_text()
    assert "Where each result is" in sheet
    assert sheet.split()[-1] == str(start + 1), "the number at its foot"
    listed = reader.pages[1].extract_text()
    assert str(start + 1) in listed.split()
    addresses = [
        str(note.get_object().get("/A", {}).get("/URI", ""))
        for sheet in reader.pages
        for note in sheet.get("/Annots", [])
    ]
    assert any(a.startswith("https://doi.org/") for a in addresses)
    assert not [a for a in addresses if "127.0.0.1" in a]


def flat(outline: list) -> list:
    """Bookmarks and those below them, in one list."""
    found = []
    for item in outline:
        found += flat(item) if isinstance(item, list) else [item]
    return found
