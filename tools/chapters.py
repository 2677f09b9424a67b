"""How long a chapter is, as a reader meets it; the badge line says it.

    python tools/chapters.py                  # words, lines, cells and minutes of every chapter
    python tools/chapters.py --badge [FILE]   # write badge and reading time into the badge lines

Reading time: 200 words of prose a minute; ten lines of open code a minute (a line holds about ten
names and signs, so that is half the pace of prose); half a minute for a displayed equation. Rounded
up to five minutes, because nobody reads to the minute.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import notebooks
import plain

SOLUTION = re.compile(r":{3,}\{solution-start\}.*?:{3,}\{solution-end\}", re.DOTALL)
CODE_CELL = re.compile(r"^```\{code-cell\}[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
FOLDED = re.compile(r"hide-input|hide-cell|remove-")
NOT_PROSE = [
    re.compile(r"\A---.*?^---", re.DOTALL | re.MULTILINE),
    re.compile(r"```.*?```", re.DOTALL),
    SOLUTION,
    re.compile(r"\$\$.*?\$\$", re.DOTALL),
]
WORD = re.compile(r"[A-Za-z][A-Za-z'’-]*")
BADGE = re.compile(
    r"^\[!\[Open in Colab\]\([^)]*\)\]\([^)]*\)(?: · reading: \d+ min)?"
    r"(?P<costs> · .*?)(?: · first run downloads \d+ MB)?$",
    re.MULTILINE,
)
FIRST = re.compile(r"^You need first: \S.*$", re.MULTILINE)
DOWNLOADS = {"data.cifar10(": 162}  # MB, of what takes long enough to be told
WORDS, LONG_CHAPTERS = 2800, {"02": 3200, "15": 3200}
LINES, CELLS, CELL = 130, 12, 15


@dataclass(frozen=True)
class Measure:
    """What stands open on a page: words of prose, lines and cells of code, equations."""

    words: int
    lines: int
    cells: int
    longest: int
    equations: int

    @property
    def minutes(self) -> int:
        """To read it, rounded up to five."""
        minutes = self.words / 200 + self.lines / 10 + self.equations / 2
        return max(5, 5 * math.ceil(minutes / 5))


def measure(text: str) -> Measure:
    """Count a chapter's source."""
    solutions = [match.span() for match in SOLUTION.finditer(text)]
    open_cells = [
        match[1]
        for match in CODE_CELL.finditer(text)
        if not FOLDED.search(match[1])
        and not any(start < match.start() < end for start, end in solutions)
    ]
    prose = text
    for pattern in NOT_PROSE:
        prose = pattern.sub(" ", prose)
    return Measure(
        words=len(WORD.findall(prose)),
        lines=sum(map(_lines, open_cells)),
        cells=len(open_cells),
        longest=max((len(_seen(cell)) for cell in open_cells), default=0),
        equations=len(re.findall(r"^\$\$", SOLUTION.sub("", text), re.MULTILINE)) // 2,
    )


def _lines(cell: str) -> int:
    """Lines between the fences that are not empty; a caption counts, plain options do not."""
    return sum(1 for line in cell.split("\n") if line.strip() and not line.startswith((":", "---")))


def _seen(cell: str) -> list[str]:
    """The lines that a reader sees: no options, no bookkeeping, no empty lines."""
    code = re.sub(r"\A---\n.*?^---\n|\A(?::[^\n]*\n)+", "", cell, flags=re.DOTALL | re.MULTILINE)
    code = notebooks.CHECKED.sub("", notebooks.without_glue(code))
    return [line for line in code.split("\n") if line.strip()]


def badge(path: Path, text: str) -> str:
    """The badge line that a chapter should have: notebook, reading time, costs, downloads."""
    found = BADGE.search(text)
    costs = found["costs"] if found else " · CPU: 0 s · memory: 0 MB"
    link = f"{plain.addresses()['colab']}/book/{path.stem}.ipynb"
    minutes = measure(text).minutes
    size = sum(size for call, size in DOWNLOADS.items() if call in text)
    costs += f" · first run downloads {size} MB" if size else ""
    return f"[![Open in Colab](_static/colab.svg)]({link}) · reading: {minutes} min{costs}"


def faults(path: Path) -> list[str]:
    """What is too long or not said at the head of a chapter, with what to do about it."""
    text = path.read_text("utf-8")
    m, words = measure(text), LONG_CHAPTERS.get(path.stem[:2], WORDS)
    told = []
    if m.words > words:
        told.append(f"{m.words} words of prose, at most {words}: cut, or move to critical_reading")
    if m.lines > LINES or m.cells > CELLS:
        told.append(
            f"{m.lines} lines of open code in {m.cells} cells, at most {LINES} in {CELLS}: "
            "fold what draws or prints (tags: [hide-input]), cut the rest"
        )
    if m.longest > CELL:
        told.append(f"an open cell of {m.longest} lines, at most {CELL}: split or fold it")
    found = BADGE.search(text)
    if not found or found[0] != badge(path, text):
        told.append(f"the badge line is not right: python tools/chapters.py --badge {path.name}")
    if not FIRST.search(text[:3000]):
        told.append("below the badge line must stand 'You need first: ...', with links")
    return told


def write_badge(path: Path) -> str:
    """Put the right badge line in; returns what was done."""
    text = path.read_text("utf-8")
    wanted = badge(path, text)
    if not BADGE.search(text):
        return f"{path.name}: no badge line below its title (see book/00_template.md)"
    path.write_text(BADGE.sub(lambda _: wanted, text, count=1), "utf-8")
    return f"{path.name}: {wanted.rsplit(')', 1)[1].removeprefix(' · ')}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, help="book/NN_slug.md")
    parser.add_argument("--badge", action="store_true", help="write the badge lines")
    options = parser.parse_args()
    paths = [plain.BOOK / p.with_suffix(".md").name for p in options.files]
    for path in paths or sorted(plain.BOOK.glob("[0-9][0-9]_*.md")):
        if options.badge:
            print(write_badge(path))
            continue
        m = measure(path.read_text("utf-8"))
        print(
            f"{path.stem[:26]:27s}{m.words:5d} words {m.lines:4d} lines in {m.cells:2d} cells, "
            f"longest {m.longest:2d} {m.equations:3d} equations {m.minutes:3d} min"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
