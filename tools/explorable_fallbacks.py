"""Make the picture that stands in for each explorable where there are no scripts.

    python tools/explorable_fallbacks.py [NAME ...]

Opens the explorable itself in a headless browser at an interesting moment, without its controls,
and writes book/_static/explorables/NAME.png. Letters are those of the site (tools/vendor.py
fetches them), so that two machines with one Chromium write the same bytes.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

from PIL import Image

from shoot import browser, serve

FOLDER = Path(__file__).resolve().parents[1] / "book" / "_static" / "explorables"
FONT = FOLDER.parents[1] / "_vendor" / "fonts" / "sans.woff2"
WIDTH = 720  # page pixels: the text column of the book
MOMENTS = {
    "ball": {"beta": 4, "x": -0.1},
    "capacity": {"k": 20},
    "average": {"beta": 8},
    "tinybrain": {"beta": 0.6},
    "dinosaur": {"noise": 0.2},
    "tower": {"digit": 3, "told": 2},
    "lottery": {"sigma": 1.5},
    "questions": {"ask": "y", "x": 10.5, "y": 3},
    "tokens": {"m": 1.5},
    "pasttime": {"time": 1.45, "past": "on"},
    "fixedsize": {"y": 40},
    "twolandscapes": {"beta": 6},
    "cells": {"beta": 9},
    "circle": {"k": 14, "sigma": 0.1},
    "stirring": {"data": "three"},
    "noclock": {"steps": 80, "eta": 0.02},
}
# A light page in the colours of the book.
PAGE = """
<!doctype html><html data-theme="light"><meta charset="utf-8"><style>
@font-face { font-family: Sans; src: url(/sans.woff2); font-weight: 100 900; }
body { margin: 0; background: #fff; font-family: Sans, sans-serif;
  --pst-color-text-base: #1b1f24; --pst-color-text-muted: #565d68; }
</style><div id="place"></div></html>
"""
MOUNT = """
async ([name, settings]) => {
  const { mount } = await import(`/explorables/${name}.js`);
  const handle = mount(document.getElementById('place'), { still: true, settings });
  if (handle.measured) await handle.measured();
}
"""


def picture(chromium, base: str, name: str) -> bytes:
    """Return the explorable at its moment as PNG bytes."""
    context = chromium.new_context(
        viewport={"width": WIDTH, "height": 900}, device_scale_factor=2, reduced_motion="reduce"
    )
    page = context.new_page()
    page.route("**/stage", lambda route: route.fulfill(body=PAGE, content_type="text/html"))
    page.route("**/sans.woff2", lambda route: route.fulfill(path=FONT, content_type="font/woff2"))
    page.goto(f"{base}/stage")
    page.evaluate("document.fonts.load('12px Sans')")
    page.evaluate(MOUNT, [name, MOMENTS[name]])
    page.wait_for_selector('.amx[data-state="rest"]')
    page.wait_for_timeout(400)
    shot = page.locator("#place").screenshot()
    context.close()
    packed = io.BytesIO()
    full = Image.open(io.BytesIO(shot)).convert("RGB")
    full.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.FLOYDSTEINBERG).save(
        packed, "PNG", optimize=True
    )
    return packed.getvalue()


def main(names: list[str]) -> None:
    unknown = [name for name in names if name not in MOMENTS]
    if unknown:
        sys.exit(f"{unknown[0]}: expected one of {', '.join(MOMENTS)}")
    if not FONT.exists():
        sys.exit("the site's letters are not here: run tools/vendor.py first (it needs npm)")
    with serve(FOLDER.parent) as base, browser() as chromium:
        for name in names or MOMENTS:
            target = FOLDER / f"{name}.png"
            target.write_bytes(picture(chromium, base, name))
            print(
                f"{target.name} {json.dumps(MOMENTS[name])}: {target.stat().st_size / 1000:.0f} kB"
            )


if __name__ == "__main__":
    main(sys.argv[1:])
