"""The whole book as one file, printed from the built site by a headless browser.

    python tools/pdf.py                              # _build/amtutor.pdf
    python tools/pdf.py --print code,solutions       # with folded code and with the solutions
    python tools/pdf.py out.pdf --only 02_binary_memories

A cover, contents with page numbers, the pages in the order of _toc.yml, bookmarks, page numbers.
Links from one page of the book to another lead to that page of the file.
"""

from __future__ import annotations

import argparse
import html
import io
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urldefrag

import yaml
from playwright.sync_api import Page
from pypdf import PdfReader, PdfWriter
from pypdf.generic import ArrayObject, NameObject, TextStringObject

import shoot

ROOT = Path(__file__).resolve().parent.parent
HTML = ROOT / "_build" / "html"
LEFT_OUT = re.compile(r"book/00_")  # the template is no chapter
PAPER = {"format": "A4", "print_background": True, "prefer_css_page_size": True}
STYLE = """<style>
@page { size: A4; margin: 22mm }
body { font: 11pt/1.5 Charter, Georgia, serif }
h1 { font-size: 34pt; line-height: 1.15; margin: 60mm 0 4mm }
h2 { font-size: 20pt }
img { width: 100%; margin-top: 12mm }
.part { font-weight: bold; margin-top: 1em }
.line { display: flex; gap: 1em }
.line span:first-child { flex: 1 }
.quiet { color: #444 }
</style>"""


@dataclass
class Part:
    """Some pages of the book under one heading of the contents."""

    caption: str
    pages: list[str]
    titles: dict[str, str] = field(default_factory=dict)


def contents(toc: dict) -> list[Part]:
    """The pages of _toc.yml, in order: docnames, under their parts."""
    parts = [Part("", [toc["root"]])]
    for part in toc["parts"]:
        pages = []
        for chapter in part["chapters"]:
            pages.append(chapter["file"])
            pages += [section["file"] for section in chapter.get("sections", [])]
        parts.append(Part(part["caption"], [p for p in pages if not LEFT_OUT.match(p)]))
    return parts


def printed(page: Page, address: str) -> bytes:
    """One page of the site on paper, once its formulas are set and its pictures are there."""
    page.goto(address, wait_until="load")
    page.evaluate(shoot.TYPESET)
    page.evaluate("window.amToPaper && window.amToPaper()")
    page.evaluate(shoot.LOADED)
    return page.pdf(**PAPER)


def title_of(page: Page) -> str:
    """The heading of the page that is open, with its number."""
    heading = page.locator("main h1").first.inner_text()
    return " ".join(heading.replace("#", "").split())


def written(page: Page, body: str) -> bytes:
    """A page of our own as PDF."""
    page.set_content(f"<!doctype html><meta charset='utf-8'>{STYLE}{body}")
    return page.pdf(**PAPER)


def cover(picture: str, wants: str) -> str:
    """The first sheet."""
    extra = {"code": "folded code", "solutions": "solutions"}
    told = " and ".join(extra[w] for w in wants.split(",") if w in extra)
    return (
        "<h1>A memory is a low place</h1><p style='font-size:15pt'>Associative memory you can read,"
        f" run and scale</p><p class='quiet'>The amtutor authors{', with ' + told if told else ''}"
        f". Text CC BY 4.0, code MIT.</p><img src='{picture}' alt=''>"
    )


def list_of(entries: list[tuple[str, str, int]]) -> str:
    """The contents: (caption of a new part or nothing, title, page)."""
    lines = ["<h2>Contents</h2>"]
    for caption, title, number in entries:
        if caption:
            lines.append(f"<p class='part'>{html.escape(caption)}</p>")
        lines.append(
            f"<div class='line'><span>{html.escape(title)}</span><span>{number}</span></div>"
        )
    return "\n".join(lines)


def numbered(page: Page, writer: PdfWriter, first: int) -> None:
    """Write a number at the foot of every sheet from `first` on."""
    count = len(writer.pages) - first
    sheets = "".join(
        f"<div style='height:297mm;position:relative;break-after:page'><p style='position:absolute;"
        f"bottom:9mm;width:100%;text-align:center;margin:0;font:9pt sans-serif;color:#444'>"
        f"{first + i + 1}</p></div>"
        for i in range(count)
    )
    style = "<style>@page{size:A4;margin:0}body{margin:0}</style>"
    page.set_content(f"<!doctype html>{style}{sheets}")
    numbers = PdfReader(io.BytesIO(page.pdf(**PAPER)))
    for i in range(count):
        writer.pages[first + i].merge_page(numbers.pages[i])
        writer.pages[first + i].compress_content_streams()


def lead_inside(writer: PdfWriter, base: str, starts: dict[str, int], public: str) -> None:
    """Links to pages of the book jump there; other links of the site go to the published one."""
    for sheet in writer.pages:
        for reference in sheet.get("/Annots", []):
            note = reference.get_object()
            target = str(note.get("/A", {}).get("/URI", ""))
            if not target.startswith(base):
                continue
            name = urldefrag(target).url.removeprefix(base)
            if name in starts:
                del note["/A"]
                place = [writer.pages[starts[name]].indirect_reference, NameObject("/Fit")]
                note[NameObject("/Dest")] = ArrayObject(place)
            else:
                address = TextStringObject(public + target.removeprefix(base))
                note["/A"][NameObject("/URI")] = address


def bound(front: list[bytes], parts: list[Part], sheets: dict[str, PdfReader]) -> PdfWriter:
    """Cover and contents, then the pages of every part, with bookmarks."""
    writer = PdfWriter()
    for piece in front:
        writer.append(io.BytesIO(piece))
    for part in parts:
        heading = None
        for name in part.pages:
            start = len(writer.pages)
            writer.append(sheets[name], import_outline=False)
            if part.caption and heading is None:
                heading = writer.add_outline_item(title=part.caption, page_number=start)
            title = part.titles[name]
            writer.add_outline_item(title=title, page_number=start, parent=heading)
    writer.add_metadata({"/Title": "A memory is a low place", "/Author": "The amtutor authors"})
    return writer


def make(out: Path, wants: str, only: list[str]) -> int:
    """Write the file; returns how many sheets it has."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    public = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))["html"]["baseurl"]
    parts = contents(toc)
    for part in parts:
        part.pages = [n for n in part.pages if not only or Path(n).name in only]
    with shoot.serve(HTML) as base, shoot.browser() as chromium:
        page = chromium.new_context(reduced_motion="reduce").new_page()
        sheets = {}
        for part in parts:
            for name in part.pages:
                address = f"{base}/{name}.html?print={wants}"
                sheets[name] = PdfReader(io.BytesIO(printed(page, address)))
                part.titles[name] = title_of(page)
                print(f"  {part.titles[name]}: {len(sheets[name].pages)}", flush=True)
        first = written(page, cover(f"{base}/_static/readme.png", wants))
        starts: dict[str, int] = {}
        place = 1 + len(PdfReader(io.BytesIO(listed(page, parts, starts))).pages)
        for name, reader in sheets.items():
            starts[f"/{name}.html"] = place
            place += len(reader.pages)
        writer = bound([first, listed(page, parts, starts)], parts, sheets)
        lead_inside(writer, base, starts, public.rstrip("/"))
        numbered(page, writer, min(starts.values()))
    writer.compress_identical_objects()
    out.parent.mkdir(parents=True, exist_ok=True)
    writer.write(out)
    return len(writer.pages)


def listed(page: Page, parts: list[Part], starts: dict[str, int]) -> bytes:
    """The contents as PDF; the numbers are those at the feet of the sheets."""
    entries = []
    for part in parts:
        for number, name in enumerate(part.pages):
            start = starts.get(f"/{name}.html", 0) + 1
            entries.append(("" if number else part.caption, part.titles[name], start))
    return written(page, list_of(entries))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, nargs="?", default=ROOT / "_build" / "amtutor.pdf")
    parser.add_argument("--print", default="", help="code, solutions, or both with a comma")
    parser.add_argument("--only", nargs="*", default=[], help="pages by their file's name")
    options = parser.parse_args()
    unknown = set(options.print.split(",")) - {"", "code", "solutions"}
    if unknown:
        parser.error(f"--print {options.print!r}: expected code, solutions or code,solutions")
    if not (HTML / "book").exists():
        parser.error("the site is not built (make book)")
    count = make(options.out, options.print, options.only)
    print(f"{options.out}: {count} pages, {options.out.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
