"""Start a chapter: a copy of the template with labels of its own, and its lines elsewhere.

    python tools/new_chapter.py 18_my_subject      # or: make chapter NAME=18_my_subject

Writes book/18_my_subject.md and its notebook, a line in _toc.yml, one in book/plan.yml if the plan
does not know the number, and a row in README.md. A name without a number gets the next free one.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import chapters
import notebooks
import plain

TEMPLATE = plain.BOOK / "00_template.md"
NAME = re.compile(r"(?:(\d\d)_)?([a-z][a-z0-9]*(?:_[a-z0-9]+)*)")
PARTS = [
    (1, "I · Memory as energy"),
    (4, "II · Building blocks"),
    (8, "III · From memory to generation"),
    (10, "IV · Memory as machine learning"),
    (14, "V · Training and scale"),
]


class ChapterError(Exception):
    """One line that says why there can be no such chapter."""


def full_name(name: str, there: list[str]) -> str:
    """`18_my_subject`, from that or from `my_subject`; `there` are the chapters that exist."""
    match = NAME.fullmatch(name)
    if not match:
        raise ChapterError(f"NAME = {name!r}: expected lower case like my_subject or 18_my_subject")
    taken = {stem[:2]: stem for stem in there}
    number = match[1] or f"{max(map(int, taken), default=0) + 1:02d}"
    if number in taken or number == "00":
        raise ChapterError(
            f"NAME = {name!r}: chapter {number} is {taken.get(number, 'a template')}"
        )
    return f"{number}_{match[2]}"


def copied(template: str, stem: str) -> str:
    """The template's text with the title, the badge and the labels of the new chapter."""
    slug = stem[3:]
    text = re.sub(r"\b(eq|fig|ex|sol)-template-", rf"\1-{slug.replace('_', '-')}-", template)
    text = re.sub(
        r"^# .*$", f"# {slug.replace('_', ' ').capitalize()}", text, flags=re.MULTILINE, count=1
    )
    text = re.sub(
        r"^\*This page is a chapter in miniature\..*?\*\n\n", "", text, flags=re.M | re.DOTALL
    )
    return chapters.BADGE.sub(lambda _: chapters.badge(Path(f"{stem}.md"), text), text, count=1)


def with_toc_line(toc: str, stem: str) -> str:
    """The table of contents with the chapter in its part, which is made if it has none yet."""
    line = f"      - file: book/{stem}\n"
    caption = next(text for first, text in reversed(PARTS) if int(stem[:2]) >= first)
    parts = re.split(r"(?m)(?=^  - caption: )", toc)
    for index, part in enumerate(parts):
        if part.startswith(f'  - caption: "{caption}"\n'):
            parts[index] = _in_order(part, stem, r"(?m)^      - file: book/(\d\d)_\w+\n", line)
            return "".join(parts)
    later = [text for _, text in PARTS][[text for _, text in PARTS].index(caption) + 1 :]
    heads = tuple(f'  - caption: "{text}"' for text in later) + ("  - caption: Back",)
    place = next(i for i, part in enumerate(parts) if part.startswith(heads))
    parts.insert(place, f'  - caption: "{caption}"\n    numbered: 2\n    chapters:\n{line}')
    return "".join(parts)


def with_plan_line(plan: str, stem: str, title: str) -> str:
    """The plan of the landing page with the chapter in its part, unless its number is planned."""
    number = int(stem[:2])
    if re.search(rf"(?m)^    - \{{number: {number},", plan):
        return plan
    caption = next(text for first, text in reversed(PARTS) if number >= first)
    line = f'    - {{number: {number}, title: "{title}", asks: "What does it ask?"}}\n'
    parts = re.split(r"(?m)(?=^- part: )", plan)
    index = next(i for i, part in enumerate(parts) if part.startswith(f'- part: "{caption}"\n'))
    later = re.finditer(r"(?m)^    - \{number: (\d+),", parts[index])
    place = next((m.start() for m in later if int(m[1]) > number), len(parts[index]))
    parts[index] = parts[index][:place] + line + parts[index][place:]
    return "".join(parts)


def with_readme_row(readme: str, stem: str, title: str) -> str:
    """The README with a row for the chapter, in the order of the numbers."""
    link = f"{plain.addresses()['colab']}/book/{stem}.ipynb"
    badge = plain.picture_address("_static/colab.svg")
    row = (
        f"| {int(stem[:2])} | [{title}](book/{stem}.md) | What it claims, in one sentence. "
        f"| [![Colab]({badge})]({link}) | 2 s |\n"
    )
    return _in_order(readme, stem, r"(?m)^\| \d+ \| \[[^\]]*\]\(book/(\d\d)_\w+\.md\) .*\n", row)


def _in_order(text: str, stem: str, pattern: str, line: str) -> str:
    """The text with a line before the first match whose number is larger, else after the last."""
    found = list(re.finditer(pattern, text))
    place = next((m.start() for m in found if m[1] > stem[:2]), found[-1].end())
    return text[:place] + line + text[place:]


def start(name: str) -> Path:
    """Write the chapter and its lines; returns its path."""
    there = [p.stem for p in plain.BOOK.glob("[0-9][0-9]_*.md") if p.stem[:2] != "00"]
    stem = full_name(name, there)
    path = plain.BOOK / f"{stem}.md"
    path.write_text(copied(TEMPLATE.read_text("utf-8"), stem), "utf-8")
    title = re.search(r"^# (.*)$", path.read_text("utf-8"), re.MULTILINE)[1]
    for file, change in (
        (plain.ROOT / "_toc.yml", lambda text: with_toc_line(text, stem)),
        (plain.BOOK / "plan.yml", lambda text: with_plan_line(text, stem, title)),
        (plain.ROOT / "README.md", lambda text: with_readme_row(text, stem, title)),
    ):
        file.write_text(change(file.read_text("utf-8")), "utf-8")
    return path


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1].startswith("-") or not sys.argv[1]:
        print(__doc__.strip())
        return 2
    try:
        path = start(sys.argv[1])
    except ChapterError as error:
        print(error, file=sys.stderr)
        return 1
    notebooks.prepare_environment()
    print(notebooks.make(path))
    name = f"book/{path.name}"
    print(f"""{name} is there, with its notebook, in _toc.yml, README.md and the plan. Next:
  write           {name}: your title, question, beats; CONTRIBUTING.md has the list
  say             in README.md what it claims; in book/plan.yml what it asks
  if it covers an item of the papers: (ledger-x1)= above that section, and in book/ledger.yml
                  chapter: "{path.stem}#ledger-x1", status: done, and the tests that hold it
  run             python tools/notebooks.py {name}
  check           python -m pytest tests/book -k {path.stem}
  look            make book
  keep            git add book/{path.stem}.md book/{path.stem}.ipynb""")
    return 0


if __name__ == "__main__":
    sys.exit(main())
