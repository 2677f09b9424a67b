"""Every chapter has the anatomy that DESIGN and the template promise."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

import notebooks

BOOK = Path(__file__).resolve().parents[2] / "book"
TEMPLATE = BOOK / "00_template.md"
CHAPTERS = sorted(BOOK.glob("[0-9][0-9]_*.md"))
COLAB = "https://colab.research.google.com/github/amtutor/amtutor/blob/main/book"
CLAIMS = "# Claims of this chapter, checked"
FILLER = (
    r"delv(?:e|es|ing)|crucial(?:ly)?|seamless(?:ly)?|leverag(?:e|es|ing)|in essence"
    r"|it is worth noting|it can be shown|plays? an? \w+ role"
)

chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
notebook = pytest.mark.parametrize("path", notebooks.chapters(), ids=lambda p: p.stem)


def code_cells(path: Path) -> list:
    return [c for c in notebooks.read_source(path).cells if c.cell_type == "code"]


def front_matter(path: Path) -> str:
    return path.read_text("utf-8").split("---")[1]


def test_there_are_chapters():
    assert TEMPLATE in CHAPTERS and len(CHAPTERS) > 1


@chapter
def test_opening(path):
    """Front matter, title, badge line with the costs, install cell."""
    text = path.read_text("utf-8")
    assert front_matter(path) == front_matter(TEMPLATE)
    badge = re.escape(f"[![Open in Colab](_static/colab.svg)]({COLAB}/{path.stem}.ipynb)")
    opening = rf"\A---.+?\n---\n\n# [^\n]+\n\n{badge} · CPU: \d+ s · memory: [\d.]+ [MG]B\n"
    assert re.match(opening, text, re.DOTALL), "after the title comes the badge line"
    first, wanted = code_cells(path)[0], code_cells(TEMPLATE)[0]
    assert first.source == wanted.source and first.metadata["tags"] == ["remove-cell"]


@chapter
def test_exercises_have_solutions(path):
    text = path.read_text("utf-8")
    directive = r"\{%s(?:-start)?\}[^\n]*\n((?::\w+:[^\n]*\n)+)"
    options = re.findall(directive % "exercise", text)
    exercises = [re.search(r":label: (\S+)", block)[1] for block in options]
    solved = re.findall(r"\{solution(?:-start)?\} (\S+)\n((?::\w+:[^\n]*\n)+)", text)
    assert len(set(exercises)) == len(exercises) >= (1 if path == TEMPLATE else 4)
    assert sorted(exercises) == sorted(label for label, _ in solved)
    assert all(":class: dropdown" in block for _, block in solved)


@chapter
def test_last_cell_holds_the_claims(path):
    last = code_cells(path)[-1].source
    assert last.startswith(CLAIMS)
    assert len(re.findall(r"^assert ", last, re.MULTILINE)) >= 3


@notebook
def test_cells_are_short(path):
    for cell in code_cells(path):
        folded = {"hide-input", "hide-cell", "remove-cell"} & set(cell.metadata.get("tags", []))
        lines = len(cell.source.splitlines())
        limit = 40 if folded else 25
        assert lines <= limit, f"{lines} lines, at most {limit}: {cell.source[:60]!r}"


@chapter
def test_one_live_figure_and_one_widget(path):
    if path == TEMPLATE:
        return
    assert len(re.findall(r"^:::\{explorable\} \w+$", path.read_text("utf-8"), re.MULTILINE)) == 1
    assert any("show.explore(" in cell.source for cell in code_cells(path))


@notebook
def test_figures_are_named_and_quoted_names_exist(path):
    text = path.read_text("utf-8")
    figures = [c.metadata.get("mystnb", {}).get("figure") for c in code_cells(path)]
    for figure in filter(None, figures):
        assert figure.get("caption") and re.fullmatch(r"fig-[a-z0-9-]+", figure.get("name", ""))
    labels = re.findall(r"^\$\$ ?\((\S+?)\)$", text, re.MULTILINE)
    assert len(labels) == len(set(labels))
    assert all(label.startswith("eq-") for label in labels)


@notebook
def test_twin_was_executed_without_error(path):
    twin = nbformat.read(path.with_suffix(".ipynb"), as_version=4)
    for cell in twin.cells:
        assert "{glue}" not in cell.source or cell.cell_type == "code"
        if cell.cell_type == "code":
            assert cell.execution_count, f"not executed: {cell.source[:60]!r}"
            kinds = {output.output_type for output in cell.outputs}
            assert "error" not in kinds or "raises-exception" in cell.metadata.get("tags", [])


@notebook
def test_twin_is_in_step(path):
    assert not notebooks.check(path)


@pytest.mark.parametrize("path", sorted(BOOK.glob("*.md")), ids=lambda p: p.stem)
def test_page_cites_what_exists_and_uses_no_filler(path):
    text = path.read_text("utf-8")
    known = set(re.findall(r"^@\w+\{(\S+),", (BOOK / "references.bib").read_text("utf-8"), re.M))
    cited = {
        k.strip()
        for keys in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", text)
        for k in keys.split(",")
    }
    assert cited <= known, f"not in references.bib: {sorted(cited - known)}"
    prose = re.sub(r"“[^”]*”|\"[^\"]*\"|`[^`]*`", "", text)
    assert not re.findall(rf"\b(?:{FILLER})\b", prose, re.IGNORECASE)
