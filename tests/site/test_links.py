"""Every link inside the site leads somewhere; every Colab link opens a committed notebook."""

from __future__ import annotations

import subprocess
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from built_pages import anchors, soup
from site_project import project

ROOT = Path(__file__).resolve().parents[2]
GITHUB = project()["urls"]["Source"] + "/"
COLAB = GITHUB.replace("github.com", "colab.research.google.com/github") + "blob/main/"


@pytest.fixture(scope="session")
def tracked() -> set[str]:
    said = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(said.stdout.splitlines())


def links(path: Path) -> list[str]:
    page = soup(path)
    found = [e["href"] for e in page.find_all(href=True)] + [
        e["src"] for e in page.find_all(src=True)
    ]
    return [link for link in found if not link.startswith(("data:", "mailto:", "javascript:"))]


def test_links_inside_the_site(html, path):
    page = html / path
    for link in links(page):
        parts = urlsplit(link)
        if parts.scheme or parts.netloc or link.startswith("#") and len(link) == 1:
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        assert target.is_relative_to(html) and target.exists(), f"{link} leads nowhere"
        if parts.fragment and target.suffix == ".html":
            name = unquote(parts.fragment)
            if "?" in name:  # settings of a live figure
                name = f"explorable-{name.split('?')[0]}"
            assert name in anchors(target), f"{link}: no such anchor"


def test_links_to_the_repository(html, path, tracked):
    for link in links(html / path):
        if link.startswith(COLAB):
            name = link.removeprefix(COLAB)
            assert name.endswith(".ipynb") and name in tracked, f"{link}: no such notebook in git"
        elif "colab.research" in link:
            pytest.fail(f"{link} does not point at the main branch of this book")
        elif link.startswith(f"{GITHUB}edit/main/"):
            name = link.removeprefix(f"{GITHUB}edit/main/")
            assert name.endswith(".md") and name in tracked, f"{link}: edits no source"
        elif link.startswith(f"{GITHUB}blob/main/"):
            name, _, line = link.removeprefix(f"{GITHUB}blob/main/").partition("#L")
            assert name in tracked, f"{link}: no such file"
            if line:  # only the ledger names lines, and they are those of tests
                said = (ROOT / name).read_text("utf-8").splitlines()[int(line) - 1]
                assert said.lstrip().startswith("def test_"), f"{link}: no test"


def test_every_picture_has_words_of_its_own(html, path):
    """A picture that says nothing new (the print twin of a live figure) says so by alt=""."""
    pictures = soup(html / path).select("article img:not(.explorable-print)")
    silent = [str(e)[:90] for e in pictures if not (e.get("alt") or "").strip()]
    assert not silent
    lazy = [str(e)[:90] for e in pictures if e["alt"] == "Output of the code above"]
    assert not lazy, "say what it shows (mystnb: image: alt)"


def test_every_chapter_has_a_colab_button(html, path):
    if (ROOT / path).with_suffix(".ipynb").exists():
        wanted = COLAB + path.removesuffix(".html") + ".ipynb"
        assert wanted in links(html / path)


def test_a_chapter_has_the_number_of_its_file(html):
    for path in html.glob("book/[0-9][0-9]_*.html"):
        number = int(path.stem[:2])
        if number:
            heading = soup(path).select_one("h1 .section-number")
            assert heading and heading.text.strip() == f"{number}.", path.stem
            figures = [e.text for e in soup(path).select("figcaption .caption-number")]
            assert figures and all(f.split()[1].startswith(f"{number}.") for f in figures)
