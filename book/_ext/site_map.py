"""The book as a picture: chapters, and arcs from what a reader needs first to what needs it.

Nothing is typed: parts and titles are those of plan.yml and of the chapters, arcs those of the line
"You need first:" of each chapter. A chapter that is not there yet is pale and has no link.
"""

from __future__ import annotations

import html
import re

import yaml
from site_pages import BOOK, Markdown, chapter_file

WIDTH, NODE, ROW, PART = 424, 92, 31, 42
NEEDS = re.compile(r"^You need first:.*$", re.MULTILINE)
READS = re.compile(r"reading: (\d+) min")


def parts() -> list[dict]:
    """plan.yml: parts with their chapters."""
    return yaml.safe_load((BOOK / "plan.yml").read_text("utf-8"))


def text_of(chapter: int) -> str:
    path = chapter_file(chapter)
    return path.read_text("utf-8") if path else ""


def needs(chapter: int) -> list[int]:
    """The chapters that its line "You need first" links to."""
    line = NEEDS.search(text_of(chapter))
    return sorted({int(n) for n in re.findall(r"<(\d\d)_\w+>", line[0])}) if line else []


def way_to(chapter: int) -> list[int]:
    """All chapters before it that it stands on, in order."""
    before: set[int] = set()
    for need in needs(chapter):
        before |= {need, *way_to(need)}
    return sorted(before)


def minutes(chapter: int) -> int:
    """The reading time of its badge line; 0 where there is none."""
    found = READS.search(text_of(chapter))
    return int(found[1]) if found else 0


def titles() -> dict[int, str]:
    """The title of each chapter's page, or the planned one."""
    found = {c["number"]: c["title"] for part in parts() for c in part["chapters"]}
    for number in found:
        if heading := re.search(r"^# (.+)$", text_of(number), re.MULTILINE):
            found[number] = heading[1]
    return found


def heights() -> tuple[dict[int, int], list[tuple[int, str]], int]:
    """Where each chapter stands, where each part's name does, and the height of it all."""
    place, names, y = {}, [], 0
    for part in parts():
        names.append((y + 24, part["part"]))
        y += PART
        for chapter in part["chapters"]:
            place[chapter["number"]] = y + ROW // 2 - 4
            y += ROW
    return place, names, y


def arc(a: int, b: int, top: int, bottom: int) -> str:
    """One line from chapter a down to chapter b, the further to the left the longer it is."""
    reach = 16 + 74 * min(1, (bottom - top) / 480) ** 0.7
    x = NODE - reach
    path = f"M{NODE},{top}C{x:.0f},{top} {x:.0f},{bottom} {NODE},{bottom}"
    return f'<path class="from{a} to{b}" d="{path}"/>'


def picture() -> str:
    """The map as SVG; its colours are those of the page, by day and by night."""
    place, names, height = heights()
    called = titles()
    arcs = [arc(a, b, place[a], place[b]) for b in place for a in needs(b)]
    lit = "".join(
        f"svg:has(.n{n}:is(:hover,:focus)) .am-arcs .to{n}{{stroke:var(--am-query);opacity:1}}"
        f"svg:has(.n{n}:is(:hover,:focus)) .am-arcs .from{n}{{stroke:var(--am-memory);opacity:1}}"
        for n in place
    )
    words = [
        f'<text class="am-part" x="{NODE + 17}" y="{y}">{html.escape(name)}</text>'
        for y, name in names
    ]
    for number, y in place.items():
        words.append(_stop(number, y, called[number]))
    told = f"A map of the book: {len(place)} chapters in {len(names)} parts, from top to bottom. "
    told += (
        "An arc leads from each chapter to those that build on it; the table below says the same."
    )
    return (
        f'<svg class="am-map" viewBox="-4 0 {WIDTH + 4} {height}" role="group" '
        f'aria-label="{told}"><style>{lit}</style><g class="am-arcs">{"".join(arcs)}</g>'
        f"{''.join(words)}</svg>"
    )


def _stop(number: int, y: int, title: str) -> str:
    path = chapter_file(number)
    shape = (
        f'<circle cx="{NODE}" cy="{y}" r="10"/>'
        f'<text class="am-number" x="{NODE}" y="{y + 4}">{number}</text>'
        f'<text x="{NODE + 17}" y="{y + 5}">{html.escape(title)}</text>'
    )
    if not path:
        return f'<g class="am-planned">{shape}</g>'
    return f'<a class="n{number}" href="{path.stem}.html">{shape}</a>'


class Map(Markdown):
    """The map of the book."""

    sources = ("plan.yml",)

    def lines(self) -> list[str]:
        for chapter in titles():
            if path := chapter_file(chapter):
                self.env.note_dependency(str(path))
        return ["```{raw} html", picture(), "```"]


class Ways(Markdown):
    """For each chapter the shortest way to it: what it stands on, and how long that takes."""

    sources = ("plan.yml",)

    def lines(self) -> list[str]:
        rows = ["| to read | you need | minutes, all of it |", "|---|---|---|"]
        for number, title in titles().items():
            if not (path := chapter_file(number)):
                continue
            self.env.note_dependency(str(path))
            way = way_to(number)
            links = [f"[{n}](./{chapter_file(n).stem}.md)" for n in way]
            time = sum(map(minutes, [*way, number]))
            name = f"{number} · [{title}](./{path.stem}.md)"
            rows.append(f"| {name} | {', '.join(links) or 'nothing'} | {time} |")
        return rows


def add(app) -> None:
    """Tell Sphinx of the directives of this file."""
    app.add_directive("map-of-the-book", Map)
    app.add_directive("ways", Ways)
