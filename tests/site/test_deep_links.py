"""Links with settings: each opens its live figure so, and a hand keeps them in the address."""

from __future__ import annotations

import html as markup
import re
import sys
from urllib.parse import parse_qsl

import pytest
from explorable_stage import ROOT, Stage

sys.path.insert(0, str(ROOT / "book" / "_ext"))

import site_pages

LIVE = re.compile(r"\{live\}`[^`<]*<(\w+)\?([^`>]*)>`")


def links() -> dict[str, list[str]]:
    """Of every figure, the addresses in explorables.yml and in the text of the book."""
    found = {
        name: [markup.unescape(where) for _, where in site_pages.deep_links(name, about)]
        for name, about in site_pages.moments().items()
    }
    for path in sorted((ROOT / "book").glob("*.md")):
        for name, settings in LIVE.findall(path.read_text("utf-8")):
            found.setdefault(name, []).append(f"#{name}?{settings}")
    return found


LINKS = links()
# Open at one address after the other, and touch: choose what is chosen already, or hold a slider
# where it is. From then on the figure writes its settings to the address.
VISIT = """async ([name, links]) => {
  const { readHash } = await import('/common.js');
  const figure = await import(`/${name}.js`);
  const place = document.getElementById('place');
  const found = [];
  for (const link of links) {
    history.replaceState(null, '', link);
    const hand = figure.mount(place);
    const opened = { settings: hand.settings(), hash: location.hash };
    const chosen = [...place.querySelectorAll('input[type=radio]:checked')]
      .find((e) => e.dataset.name in opened.settings);
    const touched = chosen ?? place.querySelector('input[type=range]');
    touched.dispatchEvent(new Event(chosen ? 'change' : 'input', { bubbles: true }));
    await new Promise((done) => setTimeout(done, 220));
    const now = hand.settings(), hash = location.hash;
    const again = figure.settingsFrom(readHash(name, hash) ?? {});
    hand.destroy();
    found.push({ ...opened, now, written: hash, again, slider: !chosen && touched.dataset.name });
  }
  return found;
}"""


def text(value) -> str:
    """A setting as an address has it: numbers without needless noughts."""
    flat = value if isinstance(value, list) else [value]
    flat = [x for v in flat for x in (v if isinstance(v, list) else [v])]
    return ",".join(f"{v:g}" if isinstance(v, int | float) else str(v) for v in flat)


def given(link: str) -> dict[str, str]:
    """What a link asks for, each number as `text` writes it."""
    found = {}
    for key, value in parse_qsl(link.partition("?")[2]):
        parts = [p.strip() for p in value.split(",")]
        number = re.compile(r"-?\d+(\.\d+)?$")
        found[key] = ",".join(f"{float(p):g}" if number.match(p) else p for p in parts)
    return found


@pytest.mark.parametrize("name", sorted(LINKS))
def test_every_link_opens_its_figure_and_a_hand_keeps_its_settings(chromium, base, name):
    stage = Stage(chromium, base)
    stage.page.goto(f"{base}/stage")
    visits = stage.page.evaluate(VISIT, [name, LINKS[name]])
    for link, seen in zip(LINKS[name], visits, strict=True):
        wanted = given(link)
        assert wanted, f"{link} asks for nothing"
        opened = {key: text(value) for key, value in seen["settings"].items()}
        assert wanted.items() <= opened.items(), link
        assert seen["hash"] == link, "nobody touched it"
        # A slider stands at one of its steps: the one that was touched may have moved to it.
        rest = {key: value for key, value in wanted.items() if key != seen["slider"]}
        kept = given(seen["written"])
        assert seen["written"].startswith(f"#{name}?") and rest.items() <= kept.items(), link
        assert wanted.keys() <= kept.keys(), link
        for key in kept:
            assert text(seen["again"][key]) == text(seen["now"][key]), (link, key)
    assert not stage.wrong
    stage.context.close()


def test_every_figure_of_the_gallery_has_settings_to_visit():
    assert all(len(LINKS[name]) > 1 for name in site_pages.moments())
    assert sum(map(len, LINKS.values())) > 40
