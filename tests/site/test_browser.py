"""Each page in a real browser: quiet, typeset, alive, and fit for a phone."""

from __future__ import annotations

import shoot

HANDS = ":is(.explorable, .am-movie) :is(input[type=range], [role=slider])"
LOOK = "e => window.picture(e.closest('.am-movie, .explorable'))"
TOO_WIDE = """
[...document.querySelectorAll('.bd-article *')]
  .filter((e) => e.getBoundingClientRect().right > 391 && !e.closest('pre, .math, .output'))
  .slice(0, 3).map((e) => e.outerHTML.slice(0, 90))
"""

# formulas that go on to the right, and neither fade nor can be reached by Tab
CUT = """
[...document.querySelectorAll('.math .am-formula')]
  .filter((e) => e.scrollWidth > e.clientWidth + 6 && !(e.matches('.am-more-right') && e.tabIndex === 0))
  .map((e) => e.textContent.slice(0, 60))
"""  # noqa: E501
# and the other way round: formulas that fit are no stop for Tab
STOPS = """
[...document.querySelectorAll('.math .am-formula')]
  .filter((e) => e.scrollWidth <= e.clientWidth + 2 && e.tabIndex === 0).length
"""
# drawings that were made for more than 560 pixels and are shown in fewer than that
SHRUNK = """
[...document.querySelectorAll('.bd-article .cell_output img')]
  .filter((e) => e.offsetParent && !e.closest('.am-movie, .explorable'))
  .filter((e) => {
    const made = parseFloat(e.style.width || e.getAttribute('width'));
    return !made || (made >= 560 && e.getBoundingClientRect().width < 558);
  })
  .map((e) => e.alt.slice(0, 60))
"""
# pictures that are stretched or squeezed
BENT = """
[...document.querySelectorAll('.bd-article img')]
  .filter((e) => e.offsetParent && e.naturalWidth && getComputedStyle(e).objectFit === 'fill')
  .filter((e) => {
    const edge = parseFloat(getComputedStyle(e).paddingLeft) * 2; // the paper around photographs
    const shown = (e.clientWidth - edge) / (e.clientHeight - edge);
    return Math.abs((shown * e.naturalHeight) / e.naturalWidth - 1) > 0.03;
  })
  .map((e) => e.outerHTML.slice(0, 90))
"""
# titles of solutions that run under the button which opens them
UNDER = """
[...document.querySelectorAll('.admonition > button.toggle-button')].filter((button) => {
  const words = document.createRange();
  words.selectNodeContents(button.parentElement.querySelector('.admonition-title'));
  const b = button.getBoundingClientRect();
  return [...words.getClientRects()].some((w) =>
    w.right > b.left && w.left < b.right && w.bottom > b.top && w.top < b.bottom);
}).map((button) => button.parentElement.textContent.trim().slice(0, 60))
"""


def assert_typeset(page) -> None:
    """Every formula was typeset, none as an error."""
    formulas = page.locator(".math.notranslate").count()
    typeset = page.locator(".math.notranslate:has(.katex)").count()
    assert typeset == formulas, f"{formulas - typeset} of {formulas} formulas are not typeset"
    wrong = page.locator(".katex-error").all_inner_texts()
    assert not wrong, f"KaTeX refuses {wrong}"


def assert_mounted(page) -> None:
    """Every live figure took the place of its picture."""
    dead = page.evaluate(
        "[...document.querySelectorAll('.explorable')]"
        ".filter(e => !e.querySelector('[data-mounted]') || e.querySelector('.explorable-picture'))"
        ".map(e => e.id)"
    )
    assert not dead, f"not mounted: {dead}"


def assert_quiet(opened) -> None:
    """No script failed, nothing was missing, nothing was asked of the network."""
    assert not opened.errors
    assert not opened.outside, "the page asks the network (is npm there? tools/vendor.py tells)"


def at_rest(page, hand) -> str:
    """The picture beside a slider once it has not changed for half a second; else nothing."""
    last = ""
    for _ in range(40):
        now = hand.evaluate(LOOK)
        if now == last:
            return now
        last = now
        page.wait_for_timeout(500)
    return ""


def assert_sliders_move(page) -> None:
    """Every slider changes the picture beside it, and the picture rests when nobody touches it."""
    hands = page.locator(HANDS)
    for number in range(hands.count()):
        hand = hands.nth(number)
        name = hand.evaluate("e => e.name || e.id || e.getAttribute('aria-label') || e.outerHTML")
        hand.scroll_into_view_if_needed()
        hand.focus()
        before = at_rest(page, hand)
        assert before, f"the picture of {name} never rests, so no slider can be seen to move it"
        seen = {before}
        for key in ("ArrowRight", "ArrowLeft", "End", "Home"):
            hand.press(key)
            page.wait_for_timeout(150)
            seen.add(hand.evaluate(LOOK))
        assert len(seen) > 1, f"slider {number} ({name}) moves nothing"


def test_page_is_quiet_typeset_and_alive(visit, path):
    opened = visit(path)
    assert_mounted(opened.page)
    assert_typeset(opened.page)
    assert not opened.page.evaluate(UNDER)
    assert_sliders_move(opened.page)
    assert_quiet(opened)


def test_page_from_a_file(visit, path, html):
    opened = visit(path, base=html.as_uri())
    assert_mounted(opened.page)
    assert_typeset(opened.page)
    assert_quiet(opened)


def test_page_on_a_phone_in_the_dark(visit, path):
    phone = {"width": 390, "height": 844}
    opened = visit(path, viewport=phone, has_touch=True, color_scheme="dark")
    wide = opened.page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 390, f"{wide} px wide: {opened.page.evaluate(TOO_WIDE)}"
    assert not opened.page.evaluate(CUT), "a formula is cut and nothing shows that it goes on"
    assert opened.page.evaluate(STOPS) == 0
    opened.page.evaluate(shoot.LOADED)
    assert not opened.page.evaluate(BENT)
    assert not opened.page.evaluate(SHRUNK), "figures too small to be read"
    assert not opened.page.evaluate(UNDER)
    paper = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert sum(int(c) for c in paper.strip("rgba()").split(",")[:3]) < 120, f"{paper} is not dark"
    assert_mounted(opened.page)
    assert_quiet(opened)
