"""The explorables answer to mouse, finger, keys and address, and say what happened."""

from __future__ import annotations

import pytest
from explorable_stage import ALL, NAMES

from amtutor.show.style import THEMES

# ---------------------------------------------------------------------------------------- the hands


@pytest.mark.parametrize("name", ALL)
def test_runs_by_itself_and_takes_the_place_of_the_fallback(stage, name):
    shown = stage(name).rest()
    assert shown.page.locator("#place img").count() == 0
    assert len(shown.said()) > 20, "it runs and says what happened, untouched"
    assert shown.page.url.endswith("/stage"), "no address before the first touch"
    assert shown.page.locator("[data-answer]:visible").count() >= 2, "a question comes first"


@pytest.mark.parametrize("name", ALL)
def test_every_slider_and_choice_moves_the_picture(stage, name):
    page = (shown := stage(name).rest()).page
    hands = page.locator(".amx input[type=range], .amx [role=slider]")
    assert hands.count() >= 1
    for i in range(hands.count()):
        before = shown.picture()
        hands.nth(i).focus()
        key = "ArrowLeft" if hands.nth(i).evaluate("e => e.value === e.max") else "ArrowRight"
        page.keyboard.press(key)
        page.keyboard.press(key)
        page.wait_for_timeout(60)
        assert shown.picture() != before, hands.nth(i).get_attribute("aria-label")
    radios = page.locator("input[type=radio]:not([data-name=brush])")
    for i in range(radios.count()):
        if radios.nth(i).is_checked():
            continue
        before = shown.picture()
        radios.nth(i).check(force=True)
        shown.rest()
        assert shown.picture() != before, radios.nth(i).get_attribute("value")


@pytest.mark.parametrize("name", ALL)
def test_hands_are_named_and_reachable(stage, name):
    page = stage(name).page
    names = page.evaluate(
        """() => [...document.querySelectorAll('.amx :is(input, button, [tabindex="0"])')]
             .map((e) => e.getAttribute('aria-label') || (e.labels?.[0] || e).textContent)"""
    )
    assert all(text and text.strip() for text in names)
    status = page.locator(".amx-say")
    assert status.get_attribute("role") == "status"
    assert status.get_attribute("aria-live") == "polite"


@pytest.mark.parametrize("name", ALL)
def test_focus_is_seen(stage, name):
    """Whatever Tab reaches looks different from when it is not reached."""
    page = stage(name).rest().page
    seen = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        here = page.evaluate_handle(
            """() => { const e = document.activeElement;
              return e.closest('.amx-choice label, .amx-slider, .cue') || e; }"""
        ).as_element()
        if not here.evaluate("e => e.closest('.amx') !== null"):
            break
        inside = here.evaluate("e => e.tagName + e.textContent + e.getAttribute('aria-label')")
        if inside in seen:
            continue
        seen.add(inside)
        box = here.bounding_box()
        frame = {
            "x": box["x"] - 6,
            "y": box["y"] - 6,
            "width": box["width"] + 12,
            "height": box["height"] + 12,
        }
        focused = page.screenshot(clip=frame)
        page.evaluate("window.kept = document.activeElement; kept.blur()")
        assert page.screenshot(clip=frame) != focused, inside
        page.evaluate("kept.focus({ focusVisible: true })")
    assert len(seen) > 6


CHANGED = {
    "ball": (
        "#ball?beta=2.5&eta=0.4&x=0.8&m=-1.2,0.1,1.4",
        {"beta": 2.5, "eta": 0.4, "x": 0.8, "m": [-1.2, 0.1, 1.4]},
    ),
    "capacity": (
        "#capacity?k=44&n=4&noise=30&crowd=noise&who=7",
        {"k": 44, "n": "4", "noise": 30, "crowd": "noise", "who": 7},
    ),
    "average": ("#average?beta=12.5&q=0.3,-0.2", {"beta": 12.5, "q": [0.3, -0.2]}),
}


@pytest.mark.parametrize("name", NAMES)
def test_settings_travel_in_the_address(stage, name):
    address, expected = CHANGED[name]
    shown = stage(name, address)
    assert expected.items() <= shown.settings().items()
    slider = shown.page.locator(".amx input[type=range]").first
    slider.focus()
    shown.page.keyboard.press("ArrowRight")
    shown.page.wait_for_timeout(300)
    written = shown.page.evaluate("location.hash")
    assert written.startswith(f"#{name}?") and written != address
    again = stage(name, written)
    assert again.settings() == shown.settings()
    assert again.page.evaluate("history.length") == 2, "nothing may be pushed"
    shown.page.get_by_role("button", name="Reset").click()
    shown.page.wait_for_timeout(300)
    assert shown.page.evaluate("location.hash") == ""
    assert shown.settings() == stage(name).settings()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    "rest", ["beta=nan&k=-3&x=1e9&m=1,2,oops&q=5", "beta=&n=7&crowd=bears&who=0.5&eta=-1&q=1,2,3"]
)
def test_nonsense_in_the_address_is_ignored(stage, name, rest):
    assert stage(name, f"#{name}?{rest}").settings() == stage(name).settings()


@pytest.mark.parametrize("name", NAMES)
def test_other_addresses_are_left_alone(stage, name):
    shown = stage(name, "#a-heading")
    assert shown.page.evaluate("location.hash") == "#a-heading"
    assert shown.settings() == stage(name).settings()
    shown.page.evaluate("(h) => { location.hash = h; }", CHANGED[name][0])
    shown.page.wait_for_timeout(200)
    assert CHANGED[name][1].items() <= shown.settings().items(), "a link in the text sets it"


@pytest.mark.parametrize("name", ALL)
def test_the_question_is_answered_and_nothing_shifts(stage, name):
    shown = stage(name).rest()
    height = "document.querySelector('.amx').offsetHeight"
    before, picture = shown.page.evaluate(height), shown.picture()
    shown.page.locator("[data-answer]").nth(1).click()
    shown.page.wait_for_timeout(500)
    shown.rest()
    assert shown.page.locator("[data-answer]:visible").count() == 0
    assert shown.page.locator(".amx-ask .amx-on").inner_text().strip()
    assert shown.picture() != picture
    assert shown.page.evaluate(height) == before
    shown.page.get_by_role("button", name="Ask me again").locator("visible=true").click()
    assert shown.page.locator("[data-answer]:visible").count() >= 2


SAYS = {
    "ball": {
        "a step that is too long": "no descent",
        "the very top of a ridge": "does not move",
        "four memories": "remembered",
    },
    "capacity": {
        "the limit of 0.138 D": "Nobody",
        "n = 3 at the same place": "Every pixel is back",
        "a negative": "negative of",
        "a swap": "not the one that was asked for",
    },
    "average": {
        "three clusters": "three clusters",
        "one average": "One average",
        "a valley too many": "More valleys than memories",
    },
}


@pytest.mark.parametrize("name", NAMES)
def test_each_thing_to_try_says_what_happened(stage, name):
    shown = stage(name).rest()
    tries = shown.page.locator(".amx-try button")
    assert tries.all_inner_texts() == list(SAYS[name])
    height = shown.page.evaluate("document.querySelector('.amx').offsetHeight")
    for i, words in enumerate(SAYS[name].values()):
        tries.nth(i).click()
        assert words in shown.said()
        assert shown.page.evaluate("document.querySelector('.amx').offsetHeight") == height
    shown.page.get_by_role("button", name="Reset").click()
    assert shown.settings() == stage(name).settings()


@pytest.mark.parametrize("name", ALL)
def test_dark_mode_recolours_at_once(stage, name):
    shown = stage(name).rest()
    look = """(key) => getComputedStyle(document.querySelector('.amx'))
        .getPropertyValue(`--amx-${key}`).trim()"""
    light = shown.page.locator(".amx").screenshot()
    assert shown.page.evaluate(look, "memory").lower() == THEMES["light"]["memory"].lower()
    canvases = (
        "() => [...document.querySelectorAll('.amx canvas')].map((e) => e.toDataURL()).join()"
    )
    drawn = shown.page.evaluate(canvases)
    shown.page.evaluate("document.documentElement.dataset.theme = 'dark'")
    shown.page.wait_for_timeout(150)
    assert shown.page.evaluate(look, "memory").lower() == THEMES["dark"]["memory"].lower()
    assert shown.page.locator(".amx").screenshot() != light
    assert not drawn or shown.page.evaluate(canvases) != drawn


@pytest.mark.parametrize("width", [350, 390])
@pytest.mark.parametrize("name", NAMES)
def test_fits_a_phone_and_obeys_a_finger(stage, name, width):
    shown = stage(
        name, viewport={"width": width, "height": 800}, has_touch=True, is_mobile=True
    ).rest()
    page = shown.page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    touch = "(s) => getComputedStyle(document.querySelector(s)).touchAction"
    grip = {"ball": ".marble", "capacity": ".cue", "average": ".query"}[name]
    assert page.evaluate(touch, grip) == "none"
    small = page.evaluate(
        """() => [...document.querySelectorAll('.amx :is(button, [type=range], .amx-choice label)')]
             .map((e) => [e.getBoundingClientRect(), e.textContent])
             .filter(([box]) => box.height && (box.height < 24 || box.width < 24))
             .map(([, text]) => text)"""
    )
    assert not small, "too small for a finger"
    place = page.locator({"ball": ".plot", "capacity": ".cue canvas", "average": ".plot svg"}[name])
    place.scroll_into_view_if_needed()
    box = place.bounding_box()
    before = shown.picture()
    page.touchscreen.tap(box["x"] + 0.4 * box["width"], box["y"] + 0.4 * box["height"])
    page.wait_for_timeout(200)
    assert shown.picture() != before


@pytest.mark.parametrize(
    ("name", "grip", "key"),
    [
        ("ball", ".marble", "x"),
        ("ball", ".memory >> nth=0", "m"),
        ("average", ".query", "q"),
        ("average", ".memory >> nth=5", "m"),
    ],
)
def test_drag_by_mouse(stage, name, grip, key):
    shown = stage(name)
    before = shown.settings()
    box = shown.page.locator(f"{grip} >> .dot").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    shown.page.mouse.move(x, y)
    shown.page.mouse.down()
    shown.page.mouse.move(x + 40, y - 20, steps=4)
    shown.page.mouse.up()
    shown.page.wait_for_timeout(200)
    after = shown.settings()
    assert after[key] != before[key]
    assert {k for k in after if after[k] != before[k]} == {key}


def test_rubbing_the_cue_erases_it(stage):
    shown = stage("capacity", "#capacity?noise=0&k=3")
    cue = shown.page.locator(".cue canvas")
    ink = """(e) => e.getContext('2d').getImageData(0, 0, 24, 24).data
        .reduce((n, value, i) => n + (i % 4 === 2 && value < 128), 0)"""
    before, box = cue.evaluate(ink), cue.bounding_box()
    shown.page.mouse.move(box["x"] + 10, box["y"] + box["height"] / 2)
    shown.page.mouse.down()
    shown.page.mouse.move(box["x"] + box["width"] - 10, box["y"] + box["height"] / 2, steps=5)
    shown.page.mouse.up()
    rubbed = cue.evaluate(ink)
    assert rubbed < before - 15
    cue.focus()
    for _ in range(4):
        for key in ("ArrowUp", "ArrowUp", "ArrowLeft", "Space"):
            shown.page.keyboard.press(key)
    assert cue.evaluate(ink) < rubbed
    assert "Every pixel is back" in shown.said()
    shown.page.get_by_role("button", name="Clean cue").click()
    assert cue.evaluate(ink) == before


@pytest.mark.parametrize("name", NAMES)
def test_motion_moves_and_comes_to_rest(stage, name):
    shown = stage(name, reduced_motion="no-preference")
    first = shown.picture()
    shown.page.wait_for_timeout(500)
    assert shown.picture() != first, "it already runs"
    shown.page.wait_for_function(
        "document.querySelector('.amx-say').textContent.trim().length > 20", timeout=20_000
    )
    shown.rest()
    rest = shown.picture()
    shown.page.wait_for_timeout(400)
    assert shown.picture() == rest


@pytest.mark.parametrize("name", ALL)
def test_destroy_leaves_nothing(stage, name):
    shown = stage(name)
    shown.page.evaluate("hand.destroy()")
    shown.page.evaluate("document.documentElement.dataset.theme = 'dark'")
    shown.page.wait_for_timeout(100)
    assert shown.page.locator("#place *").count() == 0
