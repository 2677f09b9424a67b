"""Pages that are made from data: the ledger, the plan of the book, the gallery of live figures."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from docutils import nodes
from docutils.statemachine import StringList
from site_project import BOOK, project, repository, source
from sphinx.util.docutils import SphinxDirective

EXPLORABLES = BOOK / "_static" / "explorables"
PLACE = re.compile(r"^:::\{explorable\} (\w+)\n(?::alt: (.*)\n)?", re.MULTILINE)
TITLE = re.compile(r'\btitle: "([^"]+)"')


def chapter_file(number: int) -> Path | None:
    """book/NN_slug.md, if that chapter is there."""
    return next(iter(sorted(BOOK.glob(f"{number:02}_*.md"))), None)


class Markdown(SphinxDirective):
    """A directive that writes Markdown, which then is read as if it stood in the page."""

    sources: tuple[str, ...] = ()

    def run(self) -> list[nodes.Node]:
        for name in self.sources:
            self.env.note_dependency(str(BOOK / name))
        container = nodes.container(classes=[type(self).__name__.lower()])
        self.state.nested_parse(StringList(self.lines()), self.content_offset, container)
        return [container]

    def lines(self) -> list[str]:
        """The Markdown of the directive."""
        raise NotImplementedError

    def found(self, path: Path) -> bool:
        """Whether the site has a page of this file."""
        return f"book/{path.stem}" in self.env.found_docs


class Ledger(Markdown):
    """Every item of the papers, where the book keeps it, and the tests that hold it."""

    sources = ("ledger.yml",)

    def lines(self) -> list[str]:
        listed = yaml.safe_load((BOOK / "ledger.yml").read_text("utf-8"))
        done = sum(row["status"] == "done" for row in listed)
        rows = [
            f"{done} of {len(listed)} are done.",
            "",
            "| item | of the papers | kept in | held by |",
            "|---|---|---|---|",
        ]
        for row in listed:
            place, tests = self._place(row.get("chapter")), tests_of(row)
            here = place if row["status"] == "done" else f"{place} (open)".removeprefix("open ")
            rows.append(f"| {row['id']} | {row['title']} | {here} | {folded(tests)} |")
        return rows

    def _place(self, chapter: str | None) -> str:
        page, _, anchor = (chapter or "").partition("#")
        if not chapter or not self.found(BOOK / page):
            return "open"
        number = page.split("_")[0].lstrip("0") or page
        return f"[chapter {number}](#{anchor})" if anchor else f"{{doc}}`{page}`"


def tests_of(row: dict) -> list[tuple[str, str]]:
    """The tests of a row of the ledger: their names as words, and the address of their lines."""
    found = []
    for name in row.get("tests") or []:
        file, *_, test = name.split("::")
        lines = (BOOK.parent / file).read_text("utf-8").splitlines()
        at = next(n for n, line in enumerate(lines, 1) if line.lstrip().startswith(f"def {test}("))
        found.append((test.removeprefix("test_").replace("_", " "), f"{source(file)}#L{at}"))
    return found


def folded(links: list[tuple[str, str]]) -> str:
    """A list of links that opens where it stands, in one line, as a cell of a table needs it."""
    if not links:
        return ""
    items = "".join(f'<li><a href="{where}">{words}</a></li>' for words, where in links)
    count = f"{len(links)} test" + "s" * (len(links) > 1)
    return f"<details><summary>{count}</summary><ul>{items}</ul></details>"


class Plan(Markdown):
    """The plan of the book: chapters that are there as links, the others by their names."""

    sources = ("plan.yml",)

    def lines(self) -> list[str]:
        rows = ["| | chapter | its question |", "|---|---|---|"]
        for part in yaml.safe_load((BOOK / "plan.yml").read_text("utf-8")):
            rows.append(f"| | **{part['part']}** | |")
            for chapter in part["chapters"]:
                path = chapter_file(chapter["number"])
                here = path is not None and self.found(path)
                name = f"[](./{path.stem}.md)" if here else f"{chapter['title']} *(planned)*"
                rows.append(f"| {chapter['number']} | {name} | {chapter['asks']} |")
        return rows


class Gallery(Markdown):
    """The picture of every live figure, a link to its place in the book."""

    def lines(self) -> list[str]:
        cards = []
        for path in sorted(BOOK.glob("[0-9][0-9]_*.md")):
            for name, alt in PLACE.findall(path.read_text("utf-8")) if self.found(path) else ():
                cards += self._card(path, name, alt)
        head = ["::::{grid} 1 2 3 3", ":gutter: 3", ":class-container: am-gallery", ""]
        return [*head, *cards, "::::"]

    def _card(self, path: Path, name: str, alt: str) -> list[str]:
        module = EXPLORABLES / f"{name}.js"
        self.env.note_dependency(str(module))
        chapter = int(path.stem[:2])
        return [
            f":::{{grid-item-card}} {title_of(name)}",
            f":link: {path.stem}.html#explorable-{name}",
            f":img-top: _static/explorables/{name}.png",
            f":img-alt: {alt}",
            "",
            f"Chapter {chapter}",
            ":::",
        ]


class Moments(Gallery):
    """The gallery at length: a sentence for each live figure, and links to settings of interest."""

    sources = ("explorables.yml",)

    def lines(self) -> list[str]:
        seen, cards = set(), []
        for path in sorted(BOOK.glob("[0-9][0-9]_*.md")):
            for name, alt in PLACE.findall(path.read_text("utf-8")) if self.found(path) else ():
                if name not in seen:  # a figure that two chapters show is told once
                    seen.add(name)
                    cards += self._card(path, name, alt)
        head = ["::::{grid} 1 1 2 2", ":gutter: 3", ":class-container: am-gallery am-moments", ""]
        return [*head, *cards, "::::"]

    def _card(self, path: Path, name: str, alt: str) -> list[str]:
        about = moments().get(name, {"says": alt, "moments": []})
        picture = super()._card(path, name, alt)
        titled, rest = picture[0], picture[2:4]
        links = "".join(
            f'<li><a href="{path.stem}.html{where}">{words}</a></li>'
            for words, where in deep_links(name, about)
        )
        home = f"{{live}}`Chapter {int(path.stem[:2])} <{name}>`"
        return [titled, *rest, "", f"{about['says']} {home}", "", f"<ul>{links}</ul>", ":::"]


def moments() -> dict:
    """explorables.yml: sentences and settings by the name of a live figure."""
    return yaml.safe_load((BOOK / "explorables.yml").read_text("utf-8"))


def deep_links(name: str, about: dict) -> list[tuple[str, str]]:
    """Words, and the address part that opens the figure with these settings."""
    found = []
    for moment in about["moments"]:
        parts = {key: value for key, value in moment.items() if key != "words"}
        texts = [
            f"{key}={','.join(map(str, v)) if isinstance(v, list) else v}"
            for key, v in parts.items()
        ]
        found.append((moment["words"], f"#{name}?{'&amp;'.join(texts)}"))
    return found


def title_of(name: str) -> str:
    """What a live figure calls itself: the last title in its module, where it is mounted."""
    return (TITLE.findall((EXPLORABLES / f"{name}.js").read_text("utf-8")) or [name])[-1]


def place_of(name: str) -> Path:
    """The chapter that shows a live figure first."""
    for path in sorted(BOOK.glob("[0-9][0-9]_*.md")):
        if name in (found for found, _ in PLACE.findall(path.read_text("utf-8"))):
            return path
    raise ValueError(f"no chapter shows the live figure {name!r}")


def live(role, rawtext, text, lineno, inliner, options=None, content=None):
    """`{live}` and a figure's name, or `words <name?beta=2>`: a link that opens it so."""
    words, _, target = text.rpartition("<") if text.endswith(">") else ("", "", text)
    target = target.rstrip(">")
    name = target.split("?")[0]
    try:
        page = place_of(name)
    except ValueError as fault:
        message = inliner.reporter.error(f"live: {fault}", line=lineno)
        return [inliner.problematic(rawtext, rawtext, message)], [message]
    part = target if "?" in target else f"explorable-{name}"
    words = words.strip() or title_of(name)
    return [nodes.reference(rawtext, words, refuri=f"{page.stem}.html#{part}", internal=True)], []


class Cite(Markdown):
    """The book as a BibTeX entry, to be copied."""

    def lines(self) -> list[str]:
        version = project()["version"]
        return [
            "```bibtex",
            "@misc{amtutor,",
            "  title  = {amtutor: associative memory you can read, run and scale},",
            f"  author = {{{{{project()['authors'][0]['name']}}}}},",
            f"  note   = {{Version {version}}},",
            "  year   = {2026},",
            f"  url    = {{{repository()}}}",
            "}",
            "```",
        ]


def add(app) -> None:
    """Tell Sphinx of the directives of this file."""
    directives = {
        "ledger": Ledger,
        "plan": Plan,
        "gallery": Gallery,
        "bibtex-of-the-book": Cite,
        "moments": Moments,
    }
    for name, directive in directives.items():
        app.add_directive(name, directive)
    app.add_role("live", live)
