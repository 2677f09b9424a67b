"""Pages that anybody can use: axe-core finds nothing serious, light or dark."""

from __future__ import annotations

import pytest
from built_pages import soup

import vendor

RUN = """async (only) => {
  const options = {resultTypes: ['violations']};
  if (only) options.runOnly = {type: 'rule', values: only};
  const found = await axe.run(document, options);
  return found.violations.filter((v) => ['critical', 'serious'].includes(v.impact))
    .map((v) => [v.id, v.nodes.length, v.nodes[0].html.slice(0, 160)]);
}"""


@pytest.fixture(scope="session")
def axe() -> str:
    """The text of axe-core, or the reason why there is none."""
    if reason := vendor.fetch_all(vendor.TEST_PACKAGES, vendor.FOR_TESTS):
        pytest.skip(reason)
    return (vendor.FOR_TESTS / "axe.min.js").read_text("utf-8")


def test_axe_finds_nothing_serious(visit, path, axe):
    """All rules on the light page; on the dark one those that colours can change."""
    page = visit(path, color_scheme="light").page
    page.evaluate(axe)
    light = page.evaluate(RUN, None)
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.wait_for_timeout(300)
    dark = page.evaluate(RUN, ["color-contrast", "link-in-text-block"])
    assert (light, dark) == ([], [])


def test_one_title_and_no_level_left_out(html, path):
    levels = [int(e.name[1]) for e in soup(html / path).select("main :is(h1, h2, h3, h4, h5)")]
    assert levels.count(1) == 1 and levels[0] == 1
    steps = [b - a for a, b in zip(levels, levels[1:], strict=False)]
    assert max(steps, default=0) <= 1


def test_no_heading_of_a_table_is_empty(html, path):
    assert not [str(e) for e in soup(html / path).select("article th") if not e.text.strip()]


def test_what_is_wide_can_be_reached_by_tab(visit, path):
    phone = visit(path, viewport={"width": 390, "height": 844}).page
    stuck = phone.evaluate(
        """[...document.querySelectorAll('.bd-article *')].filter((e) =>
             e.scrollWidth > e.clientWidth + 6 && e.clientWidth &&
             ['auto', 'scroll'].includes(getComputedStyle(e).overflowX) &&
             e.tabIndex < 0 && !e.querySelector('a, button, input, [tabindex]'))
           .map((e) => e.outerHTML.slice(0, 90))"""
    )
    assert not stuck
