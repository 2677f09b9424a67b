"""What a shared link shows, and that one address is not told as another."""

from __future__ import annotations

from built_pages import soup
from site_project import site


def meta(page) -> dict[str, str]:
    tags = page.find_all("meta")
    return {tag.get("property") or tag.get("name", ""): tag.get("content", "") for tag in tags}


def test_a_shared_link_has_words_and_a_picture(html, path):
    found = meta(soup(html / path))
    assert 40 <= len(found["description"]) <= 210
    assert found["og:description"] == found["description"]
    assert "\\" not in found["description"] + found["og:title"]
    assert found["og:title"].strip()
    assert found["og:url"] == site() + path
    picture = found["og:image"].removeprefix(site())
    assert (html / picture).is_file(), picture


def test_descriptions_tell_pages_apart(html):
    pages = list((html / "book").glob("[0-9][0-9]_*.html"))
    assert len({meta(soup(p))["description"] for p in pages}) == len(pages) > 3
