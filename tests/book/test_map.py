"""The map of the book is drawn from what chapters say they need."""

from __future__ import annotations

import re

import pytest
import site_map
import site_pages
import yaml

NUMBERS = list(site_map.titles())
WRITTEN = [n for n in NUMBERS if site_pages.chapter_file(n)]


@pytest.mark.parametrize("number", WRITTEN)
def test_a_chapter_says_what_it_needs_and_needs_nothing_later(number):
    assert site_map.NEEDS.search(site_map.text_of(number)), "no line 'You need first: ...'"
    assert all(n < number for n in site_map.needs(number))
    assert number == 1 or site_map.needs(number), "only the first chapter stands on nothing"
    assert site_map.minutes(number) > 0


def test_every_need_is_one_arc_and_every_chapter_one_stop():
    drawn = site_map.picture()
    arcs = {(int(a), int(b)) for a, b in re.findall(r'<path class="from(\d+) to(\d+)"', drawn)}
    assert arcs == {(a, b) for b in NUMBERS for a in site_map.needs(b)}
    assert drawn.count("<circle") == len(NUMBERS)
    links = re.findall(r'href="(\w+)\.html"', drawn)
    assert links == [site_pages.chapter_file(n).stem for n in WRITTEN]


def test_no_two_names_overlap_and_all_fit():
    drawn = site_map.picture()
    rows = [int(y) for y in re.findall(r'<circle cx="\d+" cy="(\d+)"', drawn)]
    assert min(b - a for a, b in zip(rows, rows[1:], strict=False)) >= site_map.ROW
    height = int(re.search(r'viewBox="-4 0 \d+ (\d+)"', drawn)[1])
    assert rows[-1] + 10 < height
    ends = [float(x) for x in re.findall(r"C(-?\d+),", drawn)]
    assert min(ends) >= 0


def test_the_way_to_a_chapter_is_closed_under_needs():
    for number in WRITTEN:
        way = site_map.way_to(number)
        assert way == sorted(set(way)) and number not in way
        assert all(set(site_map.needs(n)) <= set(way) for n in [*way, number][: len(way)])
        assert set(site_map.needs(number)) <= set(way)


def test_the_gallery_knows_only_figures_that_a_chapter_shows():
    for name, about in site_pages.moments().items():
        assert site_pages.place_of(name).exists()
        assert about["says"].endswith((".", "?")) and len(about["says"]) < 140
        assert about["moments"] and all(len(m) > 1 and m["words"] for m in about["moments"])
    with pytest.raises(ValueError, match="nobody"):
        site_pages.place_of("nobody")


def test_a_deep_link_is_an_address_that_the_figures_read():
    about = yaml.safe_load("{moments: [{words: w, m: [-1, 0.5], n: exp}, {words: v, x: 0}]}")
    links = site_pages.deep_links("ball", about)
    assert links == [("w", "#ball?m=-1,0.5&amp;n=exp"), ("v", "#ball?x=0")]
