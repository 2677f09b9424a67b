"""A page is light: what a first visit brings, before anybody scrolls, uncompressed."""

from __future__ import annotations

import shoot

MOST = 1_500_000


def test_a_first_visit_is_light(chromium, address, path):
    context = chromium.new_context(reduced_motion="reduce")
    page, weights = context.new_page(), {}
    page.on("requestfinished", lambda r: weights.update({r.url: len(r.response().body())}))
    page.goto(f"{address}/{path}", wait_until="load")
    page.evaluate(shoot.TYPESET)
    page.wait_for_load_state("networkidle")
    heaviest = sorted(weights.items(), key=lambda item: -item[1])[:5]
    context.close()
    assert f"{address}/{path}" in weights
    assert sum(weights.values()) < MOST, heaviest


def test_formulas_bring_their_script_and_others_do_not(html, path):
    text = (html / path).read_text("utf-8")
    assert ("katex.min.js" in text) == ("math notranslate" in text)
    assert "window.MathJax" not in text


def test_every_icon_is_drawn(visit, path):
    page = visit(path, viewport={"width": 1280, "height": 900}).page
    bare = page.evaluate(
        """[...document.querySelectorAll(':is(i, span)[class*="fa-"]')].filter((e) =>
             !getComputedStyle(e).maskImage.includes('svg')).map((e) => e.className)"""
    )
    assert not bare
