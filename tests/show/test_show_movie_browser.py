"""The movie in a real browser, from file://, twice on one page."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from amtutor import show

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

STEPS, SHAPE = 4, (2, 3)
INK = """(canvas) => Array.from(
  canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data
).filter((_, i) => i % 4 === 0)"""


@pytest.fixture(scope="module")
def states():
    return torch.randn(STEPS + 1, 2, 6, generator=torch.Generator().manual_seed(0)).sign()


@pytest.fixture(scope="module")
def open_page(states, tmp_path_factory):
    pytest.importorskip("playwright", reason="playwright drives the browser")
    import shoot

    energies = torch.arange(2 * STEPS + 2.0).flip(0).reshape(STEPS + 1, 2)
    movie = show.recall_movie(states, energies, shape=SHAPE, titles=["a", "b"], fps=50).data
    path = tmp_path_factory.mktemp("movie") / "page.html"
    path.write_text(f"<!doctype html><html><meta charset=utf8><body>{movie}{movie}", "utf8")
    start = shoot.browser()
    try:
        browser = start.__enter__()
    except Exception as error:  # whatever keeps a browser from starting
        line = (str(error).strip().splitlines() or ["?"])[0]
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(f"no browser starts here ({line}); CI needs it", pytrace=False)
        pytest.skip(f"no browser starts here ({line})")

    def opened(**options):
        page = browser.new_page(**options)
        page.faults = []
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.on("request", lambda r: r.url.startswith(("file:", "data:")) or page.faults.append(r))
        page.goto(path.as_uri())
        return page

    yield opened
    start.__exit__(None, None, None)


def shown(page, movie: int, query: int) -> list[int]:
    return page.locator(".am-movie").nth(movie).locator("canvas").nth(query).evaluate(INK)


def wanted(states, step: int, query: int) -> list[int]:
    return np.where(states[step, query] > 0, 0, 255).tolist()


def test_slider_keys_and_play(open_page, states):
    page = open_page(viewport={"width": 390, "height": 800})
    page.wait_for_function("document.querySelectorAll('canvas').length === 4")
    first, second = (page.locator(".am-movie").nth(i) for i in (0, 1))
    assert shown(page, 0, 1) == wanted(states, 0, 1)
    slider = first.get_by_role("slider", name="step")
    slider.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert [shown(page, 0, q) for q in (0, 1)] == [wanted(states, 2, q) for q in (0, 1)]
    assert first.locator(".am-movie-energy span").all_inner_texts() == ["5.00", "4.00"]
    assert first.locator(".am-movie-step").inner_text() == "2"
    assert shown(page, 1, 0) == wanted(states, 0, 0)  # the other movie has not moved
    second.get_by_role("button", name="Play").click()
    page.wait_for_function("[...document.querySelectorAll('input')][1].value === '4'")
    page.wait_for_function("[...document.querySelectorAll('button')][1].textContent === 'Play'")
    assert shown(page, 1, 1) == wanted(states, STEPS, 1)
    y = [float(c.get_attribute("cy")) for c in second.locator("circle").all()]
    points = second.locator("polyline").first.get_attribute("points").split()
    assert f"{y[0]:.1f}" == points[-1].split(",")[1]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.faults == []


@pytest.mark.parametrize(("motion", "pause"), [("reduce", 500), ("no-preference", 20)])
def test_reduced_motion_plays_slowly(open_page, motion, pause):
    page = open_page(reduced_motion=motion)
    page.add_init_script("window.setInterval = (f, ms) => { window.pause = ms; return 1; }")
    page.reload()
    page.get_by_role("button", name="Play").first.click()
    assert page.evaluate("window.pause") == pause


def test_without_scripts_the_last_frame_is_a_picture(open_page):
    page = open_page(java_script_enabled=False)
    assert page.locator("img.am-movie-frame").count() == 4
    assert not page.get_by_role("button", name="Play").first.is_visible()
    assert page.locator(".am-movie-energy span").first.inner_text() == "1.00"
