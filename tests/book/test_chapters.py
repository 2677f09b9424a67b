"""Every chapter has the anatomy that DESIGN and the template promise."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

import chapters
import notebooks
import plain

BOOK = Path(__file__).resolve().parents[2] / "book"
TEMPLATE = BOOK / "00_template.md"
CHAPTERS = sorted(BOOK.glob("[0-9][0-9]_*.md"))
FILLER = (
    r"delv(?:e|es|ing)|crucial(?:ly)?|seamless(?:ly)?|leverag(?:e|es|ing)|in essence"
    r"|it is worth noting|it can be shown|plays? an? \w+ role"
)

chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
notebook = pytest.mark.parametrize("path", notebooks.chapters(), ids=lambda p: p.stem)


def code_cells(path: Path) -> list:
    return [c for c in plain.read(path).cells if c.cell_type == "code"]


def front_matter(path: Path) -> str:
    return path.read_text("utf-8").split("---")[1]


def test_there_are_chapters():
    assert TEMPLATE in CHAPTERS and len(CHAPTERS) > 1


@chapter
def test_shape(path):
    """Length, reading time, what is needed first, long cells and claims folded."""
    faults = chapters.faults(path)
    for cell in code_cells(path):
        tags = set(cell.metadata.get("tags", []))
        lines, head = len(cell.source.splitlines()), cell.source.split("\n")[0]
        figure = "hide-input" in tags and "figure" in cell.metadata.get("mystnb", {})
        limit = 40 if figure else 25
        if lines > limit:
            faults.append(f"{lines} lines in the cell {head!r}, at most {limit}: split it")
        if head == notebooks.CLAIMS and not tags & {"hide-input", "hide-cell"}:
            faults.append("the claims stand open: give their cell the tag hide-input")
    assert not faults, "\n".join(["", *faults])


@chapter
def test_opening(path):
    """Front matter, title, badge line with the costs, install cell."""
    text = path.read_text("utf-8")
    assert front_matter(path) == front_matter(TEMPLATE), "copy the front matter of 00_template.md"
    address = f"{plain.addresses()['colab']}/book/{path.stem}.ipynb"
    badge = re.escape(f"[![Open in Colab](_static/colab.svg)]({address})")
    costs = r"(?: · reading: \d+ min)? · CPU: \d+ s · memory: [\d.]+ [MG]B"
    opening = rf"\A---.+?\n---\n\n# [^\n]+\n\n{badge}{costs}(?: · first run downloads \d+ MB)?\n"
    assert re.match(opening, text, re.DOTALL), (
        "after the title comes the badge line, with this chapter's own notebook:\n"
        f"[![Open in Colab](_static/colab.svg)]({address}) · CPU: 10 s · memory: 500 MB"
    )
    first, wanted = code_cells(path)[0], code_cells(TEMPLATE)[0]
    assert first.source == wanted.source and first.metadata["tags"] == ["remove-cell"], (
        "the first cell is the install cell of 00_template.md"
    )


@chapter
def test_exercises_have_solutions(path):
    text = path.read_text("utf-8")
    directive = r"\{%s(?:-start)?\}[^\n]*\n((?::\w+:[^\n]*\n)+)"
    options = re.findall(directive % "exercise", text)
    exercises = [re.search(r":label: (\S+)", block)[1] for block in options]
    solved = re.findall(r"\{solution(?:-start)?\} (\S+)\n((?::\w+:[^\n]*\n)+)", text)
    least = 1 if path == TEMPLATE else 4
    assert len(exercises) >= least, f"{len(exercises)} exercises; write {least} to 6"
    assert sorted(exercises) == sorted(label for label, _ in solved), (
        "each exercise has one solution: solution-start names the exercise's label"
    )
    assert all(":class: dropdown" in block for _, block in solved), (
        "each solution is folded: write :class: dropdown below its solution-start"
    )


@chapter
def test_last_cell_holds_the_claims(path):
    last = code_cells(path)[-1].source
    assert last.startswith(notebooks.CLAIMS), f"the last cell starts with {notebooks.CLAIMS!r}"
    asserts = re.findall(r"^assert ", last, re.MULTILINE)
    assert len(asserts) >= 3, f"{len(asserts)} claims asserted in the last cell; 3 at least"


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
    live = len(re.findall(r"^:::\{explorable\} \w+$", path.read_text("utf-8"), re.MULTILINE))
    assert live == 1, (
        f"{live} explorables; a chapter has one: write :::{{explorable}} NAME and its NAME.js "
        "(book/_static/explorables/common.js says how)"
    )
    assert any("show.explore(" in cell.source for cell in code_cells(path)), (
        "a chapter has one widget: show.explore(draw, name=(low, high, step))"
    )


@notebook
def test_figures_are_named_and_quoted_names_exist(path):
    text = path.read_text("utf-8")
    figures = [c.metadata.get("mystnb", {}).get("figure") for c in code_cells(path)]
    for figure in filter(None, figures):
        named = re.fullmatch(r"fig-[a-z0-9-]+", figure.get("name", ""))
        assert figure.get("caption") and named, (
            f"a figure has a caption and a name fig-...: {figure}"
        )
    labels = re.findall(r"^\$\$ ?\((\S+?)\)$", text, re.MULTILINE)
    others = [label for label in labels if not label.startswith("eq-")]
    assert not others, f"labels of equations start with eq-: {others}"


@notebook
def test_notebook_was_executed_without_error(path):
    twin = nbformat.read(path.with_suffix(".ipynb"), as_version=4)
    for cell in twin.cells:
        if cell.cell_type == "code":
            assert cell.execution_count, f"not executed: {cell.source[:60]!r}"
            kinds = {output.output_type for output in cell.outputs}
            assert "error" not in kinds or "raises-exception" in cell.metadata.get("tags", [])


@notebook
def test_notebook_is_in_step(path):
    assert not notebooks.check(path)


@notebook
def test_notebook_reads_as_a_notebook(path):
    """Plain Markdown, addresses that resolve anywhere, no bookkeeping, solutions folded."""
    twin = nbformat.read(path.with_suffix(".ipynb"), as_version=4)
    page = plain.Book().address(path.stem)
    assert twin.cells[0].source.startswith(f"[Read this chapter as a page]({page})")
    for cell in twin.cells:
        if cell.cell_type == "code":
            assert "show.glue(" not in cell.source and "NBVAL_CHECK_OUTPUT" not in cell.source
            assert "mystnb" not in cell.metadata
            continue
        text = plain.without_code(cell.source)
        assert not (left := plain.LEFT.search(text)), f"MyST is left in {path.stem}: {left}"
        relative = re.findall(r"\]\((?!https://)[^)]*\)|src=\"(?!https://)[^\"]*", text)
        assert not relative, f"does not resolve anywhere: {relative}"
        assert text.count("<details>") == text.count("</details>")
    solved = [c.source for c in twin.cells if "<summary><b>Solution" in c.source]
    exercises = [c.source for c in twin.cells if "**Exercise " in c.source]
    assert bool(solved) == bool(exercises)


def test_labels_are_unique_in_the_whole_book():
    assert not plain.Book().faults


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
