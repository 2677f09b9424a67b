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
        rows = ["| item | of the papers | kept in, held by |", "|---|---|---|"]
        for row in yaml.safe_load((BOOK / "ledger.yml").read_text("utf-8")):
            where = " ".join([self._place(row.get("chapter")), *self._tests(row)])
            rows.append(f"| {row['id']} | {row['title']} | {where} |")
        return rows

    def _place(self, chapter: str | None) -> str:
        page, _, anchor = (chapter or "").partition("#")
        if not chapter or not self.found(BOOK / page):
            return "open"
        number = page.split("_")[0].lstrip("0") or page
        return f"[chapter {number}](#{anchor})" if anchor else f"{{doc}}`{page}`"

    @staticmethod
    def _tests(row: dict) -> list[str]:
        """One link for each file of tests."""
        files = sorted({name.split("::")[0] for name in row.get("tests") or []})
        names = [Path(file).stem.removeprefix("test_").replace("_", " ") for file in files]
        return [f"[tests: {n}]({source(f)})" for n, f in zip(names, files, strict=True)]


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
        title = TITLE.search(module.read_text("utf-8"))
        chapter = int(path.stem[:2])
        return [
            f":::{{grid-item-card}} {title[1] if title else name}",
            f":link: {path.stem}.html#explorable-{name}",
            f":img-top: _static/explorables/{name}.png",
            f":img-alt: {alt}",
            "",
            f"Chapter {chapter}",
            ":::",
        ]


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
    directives = {"ledger": Ledger, "plan": Plan, "gallery": Gallery, "bibtex-of-the-book": Cite}
    for name, directive in directives.items():
        app.add_directive(name, directive)
