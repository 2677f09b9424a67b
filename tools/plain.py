"""Plain Markdown out of MyST, for notebooks: GitHub, Colab and JupyterLab know no MyST.

`Book` knows what the site would print for every label: "(2.3)", "Figure 2.4", a title, an address.
`Page` turns the Markdown cells of one chapter, in their order, into Markdown that shows the same
anywhere. A role or directive that it does not know is refused, so nothing of MyST can slip through.
"""

from __future__ import annotations

import functools
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jupytext
import yaml
from pybtex.database import Entry, parse_file

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"
sys.path.insert(0, str(BOOK / "_ext"))

from site_project import BRANCH, repository, site, source  # noqa: E402 (they read pyproject.toml)

FENCE = re.compile(r"^ {0,3}(:{3,}|`{3,}|~{3,})(?:\{([\w:-]+)\})?[ \t]*(.*?)[ \t]*$")
OPTION = re.compile(r"^:([\w-]+):[ \t]*(.*)$")
LABEL = re.compile(r"^\(([\w-]+)\)=[ \t]*$")
SPAN = re.compile(r"(\{[\w:-]+\})?(`+)(?!`)(.+?)(?<!`)\2(?!`)", re.DOTALL)
DISPLAY = re.compile(r"\$\$(.+?)\$\$(?:[ \t]*\(([\w-]+)\))?", re.DOTALL)
MATH = re.compile(r"\$\$.+?\$\$|\$[^$]+\$", re.DOTALL)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\]\([^)]*\))*)\]\(([^()\s]+)\)")
TARGET = re.compile(r"(.*?)\s*<([^<>]+)>\s*", re.DOTALL)
LEFT = re.compile(
    r"\{[\w:-]+\}`|^\s*:{3,}|^\s*`{3,}\s*\{|^\([\w-]+\)=\s*$|\$\$\s*\([\w-]+\)|\]\{[.#]|^%|^\+\+\+",
    re.MULTILINE,
)

ADMONITIONS = {
    name: name.capitalize()
    for name in "note tip warning important hint attention caution danger error".split()
} | {"seealso": "See also", "admonition": "", "margin": "", "sidebar": "", "topic": "", "card": ""}
PLAIN_BOXES = {"grid", "grid-item", "container", "div", "tab-set"}
QUOTES = {"epigraph", "pull-quote", "highlights"}


class PlainError(Exception):
    """One line that says what could not be written as plain Markdown."""


@dataclass(frozen=True)
class Target:
    """What a label stands for on the site."""

    page: str
    kind: str  # equation, figure, table, exercise, solution, theorem..., section, term
    number: str
    title: str = ""

    @property
    def name(self) -> str:
        """As the site prints a reference to it."""
        if self.kind == "equation":
            return f"({self.number})"
        if self.kind in ("section", "place", "term"):
            return self.title
        return f"{self.kind.capitalize()} {self.number}"


# ------------------------------------------------------------------------------------- the book


@functools.cache
def addresses() -> dict[str, str]:
    """The repository, the site, raw files and Colab, from the one address in pyproject.toml."""
    path = repository().removeprefix("https://github.com/")
    return {
        "repository": repository(),
        "site": site().rstrip("/"),
        "raw": f"https://raw.githubusercontent.com/{path}/{BRANCH}",
        "colab": f"https://colab.research.google.com/github/{path}/blob/{BRANCH}",
    }


def picture_address(path: str) -> str:
    """Where a file of the book's folder shows as a picture on any host."""
    suffix = "?sanitize=true" if path.endswith(".svg") else ""  # else GitHub sends it as text
    return f"{addresses()['raw']}/book/{path.removeprefix('./')}{suffix}"


class Book:
    """Every label of every page, numbered as the site numbers them."""

    def __init__(self, folder: Path = BOOK, toc: Path = ROOT / "_toc.yml"):
        self.folder = folder
        self.labels: dict[str, Target] = {}
        self.titles: dict[str, str] = {}
        self.faults: list[str] = []
        self._counts: Counter[tuple[str, str]] = Counter()
        for page in self._pages(toc):
            self._index(page)

    def _pages(self, toc: Path) -> list[str]:
        """The pages in the order of the table of contents, then what is not in it."""
        listed = []
        if toc.exists():
            tree = yaml.safe_load(toc.read_text("utf-8"))
            files = [tree["root"], *(c["file"] for p in tree["parts"] for c in p["chapters"])]
            listed = [Path(file).name for file in files]
        there = sorted(path.stem for path in self.folder.glob("*.md"))
        return [p for p in listed if p in there] + [p for p in there if p not in listed]

    def _index(self, page: str) -> None:
        text = (self.folder / f"{page}.md").read_text("utf-8")
        title = re.search(r"^# (.+)$", text, re.MULTILINE)
        self.titles[page] = title[1] if title else page
        found = re.match(r"(\d\d)_", page)
        chapter = str(int(found[1])) if found and found[1] != "00" else ""
        for kind, label, title in _labelled(text):
            number = ""
            if kind not in ("section", "place", "solution", "term", "proof"):
                self._counts[kind, chapter] += 1
                number = f"{chapter}.".lstrip(".") + str(self._counts[kind, chapter])
            if not label:
                continue
            if label in self.labels:
                other = self.labels[label].page
                where = "twice" if other == page else f"also in {other}.md"
                self.faults.append(f"{page}.md: the label {label} is {where}; give it another name")
                continue
            self.labels[label] = Target(page, kind, number, title)

    def address(self, page: str, anchor: str = "") -> str:
        """Of a page on the site."""
        return f"{addresses()['site']}/book/{page}.html" + (f"#{anchor}" if anchor else "")

    @functools.cached_property
    def citations(self) -> dict[str, tuple[str, str, str]]:
        """Key to authors, year and address, from references.bib."""
        path = self.folder / "references.bib"
        return {key: _citation(e) for key, e in parse_file(path).entries.items()}


def _labelled(text: str) -> Iterator[tuple[str, str, str]]:
    """Everything on a page that has a number or a label: (kind, label or "", title)."""
    waiting: list[str] = []
    fenced = ""
    lines = text.split("\n")
    for index, line in enumerate(lines):
        if fenced:
            if line.strip() == fenced:
                fenced = ""
            elif match := re.match(r"^    name: (fig-[\w-]+)", line):
                yield "figure", match[1], ""
            continue
        if match := LABEL.match(line):
            waiting.append(match[1])
        elif match := re.match(r"^#+ (.+)$", line):
            yield from (("section", label, match[1]) for label in waiting)
            waiting = []
        elif match := re.search(r"\$\$[ \t]*\(([\w-]+)\)[ \t]*$", line):
            yield "equation", match[1], ""
        elif (match := FENCE.match(line)) and match[2]:
            options = _options(lines[index + 1 :])[0]
            label = options.get("label") or options.get("name", "")
            kind = match[2].removeprefix("prf:").removesuffix("-start")
            if match[2] == "figure" or match[2] in ("table", "list-table"):
                yield kind.removeprefix("list-"), label, ""
            elif kind == "math" and label:
                yield "equation", label, ""
            elif kind in ("exercise", "solution") or match[2].startswith("prf:"):
                yield kind, label, match[3]
            elif kind == "glossary":
                terms = [t for t in lines[index + 1 :] if t and not t[0].isspace()]
                for term in terms[: next((i for i, t in enumerate(terms) if FENCE.match(t)), 0)]:
                    yield "term", f"term:{term.strip().lower()}", term.strip()
            if match[1][0] == "`":
                fenced = match[1]
        elif match and match[1][0] in "`~":
            fenced = match[1]
        elif line.strip() and not line.startswith("%"):
            yield from (("place", label, "") for label in waiting)
            waiting = []


def _options(lines: list[str]) -> tuple[dict[str, str], int]:
    """The options at the head of a directive, and how many lines they take."""
    options = {}
    for count, line in enumerate(lines):
        if not (match := OPTION.match(line.strip())):
            return options, count
        options[match[1]] = match[2]
    return options, len(lines)


def _citation(entry: Entry) -> tuple[str, str, str]:
    """Authors, year and address of one entry of the bibliography."""
    people = entry.persons.get("author") or entry.persons.get("editor") or []
    names = [
        " ".join(str(part) for part in [*p.rich_prelast_names, *p.rich_last_names]) for p in people
    ]
    if len(names) > 2 or "others" in names[1:]:
        who = f"{names[0]} et al."
    else:
        who = " and ".join(names) or entry.fields.get("title", entry.key)
    fields = entry.fields
    arxiv = re.search(r"arXiv:(\d{4}\.\d{4,5})", fields.get("journal", ""))
    if "doi" in fields:
        address = f"https://doi.org/{fields['doi']}"
    elif "eprint" in fields or arxiv:
        address = f"https://arxiv.org/abs/{fields['eprint'] if 'eprint' in fields else arxiv[1]}"
    else:
        address = fields.get("url") or f"{addresses()['site']}/book/bibliography.html"
    return who, fields.get("year", "n.d."), address


# ------------------------------------------------------------------------------------- one page


@dataclass
class Page:
    """The Markdown cells of one chapter, given one after another, as plain Markdown."""

    book: Book
    name: str
    solution: str = ""  # the number of the solution that is open
    told: bool = False  # whether that solution has said something
    exercise: str = ""  # the number of the exercise that is open

    @property
    def is_open(self) -> str:
        """What has begun and not ended."""
        if self.exercise or self.solution:
            return f"exercise {self.exercise}" if self.exercise else f"solution {self.solution}"
        return ""

    def cell(self, source: str, *, code_follows: bool = False) -> str:
        """One cell. A solution may begin in one cell and end in a later one."""
        pieces: list[str] = []
        run: list[str] = []

        def flush(last: bool = False) -> None:
            text = self._render(run).strip("\n")
            run.clear()
            if not self.solution:
                pieces.append(text)
                return
            into_code = last and code_follows
            if not text and not (into_code and not self.told):
                return
            summary = f"Solution {self.solution}" + (", continued" if self.told else "")
            summary += ", with the folded cell below" if into_code else ""
            body = text or "The solution is the folded cell below."
            pieces.append(f"<details>\n<summary><b>{summary}</b></summary>\n\n{body}\n\n</details>")
            self.told = True

        lines = source.split("\n")
        index = 0
        while index < len(lines):
            match = FENCE.match(lines[index])
            if match and match[2] in ("solution-start", "solution-end", "solution"):
                flush()
                end = _closing(lines, index)
                if match[2] != "solution-end" and self.is_open:
                    raise PlainError(f"{match[0]!r} begins, but nothing ends {self.is_open}")
                if match[2] != "solution-end":
                    target = match[3].split()[0]
                    self.solution, self.told = self._target(target, match[0]).number, False
                if match[2] == "solution":
                    _, skip = _options(lines[index + 1 : end])
                    run += lines[index + 1 + skip : end]
                    flush()
                if match[2] != "solution-start":
                    self.solution, self.told = "", False
                index = end + 1
                continue
            run.append(lines[index])
            index += 1
        flush(last=True)
        plain = re.sub(r"\n{3,}", "\n\n", "\n\n".join(filter(None, pieces)))
        if left := LEFT.search(without_code(plain)):
            raise PlainError(f"MyST is left in the notebook: {_line_at(plain, left)!r}")
        return plain

    def caption(self, text: str, name: str) -> str:
        """Below a figure that a code cell draws."""
        number = f" {self._target(name, name).number}" if name else ""
        return f"*Figure{number}.* {self._inline(text.strip())}"

    # ----------------------------------------------------------------------------- blocks

    def _render(self, lines: list[str]) -> str:
        out: list[str] = []
        prose: list[str] = []

        def flush() -> None:
            if prose:
                out.append(self._inline("\n".join(prose)))
                prose.clear()

        index = 0
        while index < len(lines):
            line = lines[index]
            match = FENCE.match(line)
            if match and (match[2] or match[1][0] != ":"):
                flush()
                end = _closing(lines, index)
                body = lines[index + 1 : end]
                if match[2]:
                    out.append(self._directive(match[2], match[3], body))
                else:
                    out.append("\n".join(lines[index : end + 1]))
                index = end + 1
                continue
            if not (LABEL.match(line) or line.startswith("%") or line.startswith("+++")):
                prose.append(line)
            index += 1
        flush()
        return "\n".join(out)

    def _directive(self, name: str, argument: str, body: list[str]) -> str:
        options, skip = _options(body)
        body = body[skip:]
        label = options.get("label") or options.get("name", "")
        title = self._inline(argument)
        if name in ("exercise-start", "exercise"):
            if self.is_open:
                raise PlainError(f"exercise {argument!r} begins, but nothing ends {self.is_open}")
            number = self._target(label, f"{{{name}}} {argument}").number
            self.exercise = number if name == "exercise-start" else ""
            match = re.fullmatch(r"(.*?)\s*(\([^()]+\))", title)
            name, kind = (match[1], f" {match[2]}") if match else (title, "")
            stop = "" if name.endswith(("?", "!", ".")) or not name else "."
            head = f"**Exercise {number}{kind}.{' ' * bool(name)}{name}{stop}**"
            text = self._render(body).strip()
            return f"{head} {text}".rstrip() if text else head
        if name == "exercise-end":
            self.exercise = ""
            return ""
        if name.startswith("prf:"):
            target = self.book.labels.get(label)
            kind = name.removeprefix("prf:").capitalize()
            head = f"{kind} {target.number}" if target and target.number else kind
            return _quoted(head + (f" ({title})" if title else ""), self._render(body))
        if name in ADMONITIONS or name in QUOTES or name in ("dropdown", "grid-item-card"):
            return _quoted(ADMONITIONS.get(name) or title, self._render(body))
        if name in PLAIN_BOXES or name == "tab-item":
            return "\n\n".join(filter(None, [f"**{title}.**" if title else "", self._render(body)]))
        if name in ("figure", "image"):
            picture = f"![{options.get('alt', '')}]({self._local(argument, picture=True)})"
            caption = self._render(body).strip()
            return f"{picture}\n\n" + (self.caption(caption, label) if caption else "")
        if name == "table":
            number = f" {self._target(label, name).number}" if label else ""
            return f"**Table{number}.** {title}\n\n{self._render(body)}"
        if name == "math":
            return self._inline("$$\n" + "\n".join(body) + "\n$$" + (f" ({label})" * bool(label)))
        if name in ("code", "code-block"):
            return f"```{argument}\n" + "\n".join(body) + "\n```"
        if name == "explorable":
            return self._explorable(argument, options.get("alt", ""), self._render(body).strip())
        raise PlainError(f"no plain form is known for the directive {{{name}}} (tools/plain.py)")

    def _explorable(self, name: str, alt: str, caption: str) -> str:
        folder = self.book.folder / "_static" / "explorables"
        kind = next((s for s in ("svg", "png") if (folder / f"{name}.{s}").exists()), None)
        if kind is None:
            raise PlainError(f"the explorable {name} has no picture {name}.svg or {name}.png")
        place = self.book.address(self.name, f"explorable-{name}")
        picture = picture_address(f"_static/explorables/{name}.{kind}")
        said = f"[Open this figure in the page]({place}): there it moves and answers to your hand."
        return f"[![{alt}]({picture})]({place})\n\n{said} {caption}".rstrip()

    # ----------------------------------------------------------------------------- inline

    def _inline(self, text: str) -> str:
        text = DISPLAY.sub(self._equation, text)
        text = SPAN.sub(lambda m: self._role(m[1][1:-1], m[3]) if m[1] else m[0], text)
        return _outside_code(text, lambda part: LINK.sub(self._link, part))

    def _equation(self, match: re.Match) -> str:
        body, label = match[1], match[2]
        if not label:
            return match[0]
        tag = rf"\tag{{{self._target(label, label).number}}}"
        return f"$${body.rstrip()}\n{tag}\n$$" if body.startswith("\n") else f"$${body} {tag}$$"

    def _role(self, role: str, content: str) -> str:
        content = " ".join(content.split())
        match = TARGET.fullmatch(content)
        text, target = (match[1], match[2]) if match else ("", content)
        if role.split(":")[0] == "cite":
            return self._cite(role, content)
        if role == "doc":
            page = Path(target).name
            if page not in self.book.titles:
                raise PlainError(f"there is no page {target!r} for {{doc}}`{content}`")
            shown = text or self._inline(self.book.titles[page])
            return f"[{shown}]({self.book.address(page)})"
        if role == "term":
            found = self.book.labels.get(f"term:{target.lower()}")
            if not found:
                raise PlainError(f"the glossary has no term {target!r}")
            place = self.book.address(found.page, term_anchor(found.title))
            return f"[{text or target}]({place})"
        if role == "math":
            return f"${content}$"
        if role in ("code", "kbd", "py", "samp", "file"):
            return f"`{content}`"
        if role in ("sub", "sup"):
            return f"<{role}>{content}</{role}>"
        if role in ("abbr", "index"):
            return text or content
        if role in ("eq", "numref", "ref", "prf:ref"):
            return self._reference(role, text, target)
        raise PlainError(f"no plain form is known for the role {{{role}}} (tools/plain.py)")

    def _reference(self, role: str, text: str, label: str) -> str:
        target = self._target(label, f"{{{role}}}`{label}`")
        shown = text.replace("%s", target.number).replace("{number}", target.number)
        shown = shown.replace("{name}", target.title) or self._inline(target.name)
        if not shown:
            raise PlainError(f"{{{role}}}`{label}` needs a text: the label is at no heading")
        if target.page == self.name:
            return f"*{shown}*" if target.kind == "section" else shown
        anchor = f"equation-{label}" if target.kind == "equation" else label
        return f"[{shown}]({self.book.address(target.page, anchor)})"

    def _cite(self, role: str, keys: str) -> str:
        shown = []
        for key in (k.strip() for k in keys.split(",")):
            if key not in self.book.citations:
                raise PlainError(f"references.bib has no entry {key!r}")
            who, year, address = self.book.citations[key]
            if role in ("cite:t", "cite:ts"):
                shown.append(f"[{who} ({year})]({address})")
            else:
                shown.append(f"[{who}, {year}]({address})")
        return ", ".join(shown) if role in ("cite:t", "cite:ts") else f"({'; '.join(shown)})"

    def _link(self, match: re.Match) -> str:
        mark, text, to = match.groups()
        text = LINK.sub(self._link, text)
        return f"{mark}[{text}]({self._local(to, picture=mark == '!')})"

    def _local(self, to: str, *, picture: bool) -> str:
        """An address that resolves anywhere, for one that is relative to the book's folder."""
        if re.match(r"[a-z]+:", to):
            return to
        if picture:
            return picture_address(to)
        path, _, anchor = to.partition("#")
        target = self.book.labels.get(anchor)
        if not path and target:
            anchor = f"equation-{anchor}" if target.kind == "equation" else anchor
            return self.book.address(target.page, anchor)
        page = Path(path).stem if path else self.name
        if page in self.book.titles:
            return self.book.address(page, anchor)
        return source(f"book/{path}")

    def _target(self, label: str, where: str) -> Target:
        if label not in self.book.labels:
            raise PlainError(f"nothing has the label {label!r} ({where.strip()})")
        return self.book.labels[label]


def term_anchor(term: str) -> str:
    """Where Sphinx puts a term of the glossary."""
    return "term-" + re.sub(r"[^A-Za-z0-9]+", "-", term).strip("-")


def _closing(lines: list[str], start: int) -> int:
    """The line that closes the fence which opens at `start`."""
    fence = FENCE.match(lines[start])[1]
    for index in range(start + 1, len(lines)):
        mark = lines[index].strip()
        if set(mark) == {fence[0]} and len(mark) >= len(fence):
            return index
    raise PlainError(f"nothing closes {lines[start].strip()!r}")


def _quoted(title: str, body: str) -> str:
    """A box as a quotation with a bold title."""
    text = f"**{title}.**\n\n{body.strip()}" if title else body.strip()
    text = text.replace("?.**", "?**", 1)
    text = MATH.sub(lambda m: " ".join(m[0].split()), text)  # JupyterLab would typeset the "> "
    return "\n".join(f"> {line}".rstrip() for line in text.split("\n"))


def _outside_code(text: str, change) -> str:
    """Change what is not inside backticks."""
    parts, last = [], 0
    for span in SPAN.finditer(text):
        parts += [change(text[last : span.start()]), span[0]]
        last = span.end()
    return "".join(parts) + change(text[last:])


def without_code(text: str) -> str:
    """The text without fenced code and code spans; roles stay, they are not code."""
    text = re.sub(r"^(`{3,}|~{3,})(?!\{)[^\n]*\n.*?^\1[ \t]*$", "", text, flags=re.M | re.DOTALL)
    return SPAN.sub(lambda m: m[0] if m[1] else "", text)


def _line_at(text: str, match: re.Match) -> str:
    found = match[0].strip()
    return next((line.strip()[:80] for line in text.split("\n") if found in line), found)


def read(path: Path):
    """A page of the book as a notebook of MyST cells, as Jupytext reads it."""
    return jupytext.read(path, fmt="md:myst")
