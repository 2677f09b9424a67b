"""Style sheets as small as the pages need: icons that are used, rules that can match."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote

from sphinx.application import Sphinx

ICON = re.compile(r"\bfa-([a-z0-9-]+)")
DEFINED = r'(?:"{name}"|\b{name}):\[(\d+),(\d+),\[[^\]]*\],"[0-9a-f]+","([^"]+)"\]'
ALIASES = {"pencil-alt": "pencil"}
NOT_ICONS = {"solid", "brands", "regular", "lg", "sm", "fw", "2x", "spin", "stack", "xs"}
OURS = {"site.css", "icons.css"}  # no rule in them is one too many
# classes that Bootstrap's script sets and no page contains
BY_SCRIPT = """show showing hide fade collapse collapsing collapsed dropdown dropdown-menu dropup
 tooltip tooltip-inner tooltip-arrow bs-tooltip-auto bs-tooltip-top bs-tooltip-bottom active
 disabled scrolled open html body""".split()


def shrink(app: Sphinx, exception: Exception | None) -> None:
    """After the build: write icons.css, and drop from the theme's sheets what matches nothing."""
    if exception or app.builder.format != "html":
        return
    static = Path(app.outdir) / "_static"
    pages = [p.read_text("utf-8") for p in Path(app.outdir).rglob("*.html")]
    scripts = [p.read_text("utf-8") for p in static.glob("*.js") if p.name != "search-index.js"]
    scripts += [
        (static / "scripts" / name).read_text("utf-8")
        for name in ("pydata-sphinx-theme.js", "sphinx-book-theme.js")
    ]
    names = used_names(pages) | set(re.findall(r"[\w-]+", "\n".join(scripts))) | set(BY_SCRIPT)
    font = static / "scripts" / "fontawesome.js"
    if font.exists():
        icons = {n for text in pages + scripts for n in ICON.findall(text)} - NOT_ICONS
        (static / "icons.css").write_text(icon_sheet(font.read_text("utf-8"), icons), "utf-8")
        for path in [font, *font.parent.glob("fontawesome.js.*")]:
            path.unlink()
    for sheet in [*(static / "styles").glob("*.css"), *static.glob("*.css")]:
        if sheet.name not in OURS:
            sheet.write_text(purge(sheet.read_text("utf-8"), names), "utf-8")
    for path in static.rglob("*.map"):
        path.unlink()


def icon_sheet(script: str, names: set[str]) -> str:
    """One rule for each icon: its outline as a mask, so that it takes the text's colour."""
    rules = [
        ':where(:is(i,span)[class*="fa-"]){display:inline-block}',
        ':is(i,span)[class*="fa-"]{width:1em;height:1em;background:currentColor;vertical-align:-.125em;'
        "-webkit-mask:var(--icon) center/contain no-repeat;"
        "mask:var(--icon) center/contain no-repeat}",
        ':is(i,span)[class*="fa-"]::before{content:none!important}',
    ]
    for name in sorted(names):
        wanted = re.escape(ALIASES.get(name, name))
        if found := re.findall(DEFINED.format(name=wanted), script):
            width, height, outline = found[-1]  # the solid one comes after the regular one
            picture = (
                f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}'>"
                f"<path d='{outline}'/></svg>"
            )
            rules.append(f'.fa-{name}{{--icon:url("data:image/svg+xml,{quote(picture)}")}}')
    return "\n".join(rules) + "\n"


def used_names(pages: list[str]) -> set[str]:
    """Every class, id and element that stands in a page."""
    found: set[str] = set()
    for text in pages:
        for value in re.findall(r'\b(?:class|id)="([^"]*)"', text):
            found.update(value.split())
        found.update(re.findall(r"<([a-z][a-z0-9-]*)", text))
    return found


def purge(sheet: str, names: set[str]) -> str:
    """A style sheet without rules for classes and ids that are nowhere.

    Blocks inside @media and @supports are purged as well; other @rules stay, but for the faces of
    an icon font that no page asks for.
    """
    out, place = [], 0
    sheet = re.sub(r"/\*.*?\*/", "", sheet, flags=re.DOTALL)
    while (start := sheet.find("{", place)) >= 0:
        head, end = sheet[place:start], _closing(sheet, start)
        body = sheet[start + 1 : end]
        *before, head = re.split(r"(?<=;)", head)  # an @import or @charset stands alone
        out += before
        place = end + 1
        if head.lstrip().startswith(("@media", "@supports", "@layer", "@container")):
            if inner := purge(body, names):
                out.append(f"{head}{{{inner}}}")
        elif head.lstrip().startswith("@"):
            if not ("font-face" in head and "Font Awesome" in body.replace("\\", "")):
                out.append(f"{head}{{{body}}}")
        elif kept := [s for s in _split(head) if _possible(s, names)]:
            out.append(f"{','.join(kept)}{{{body}}}")
    return "".join([*out, sheet[place:]])


def _closing(sheet: str, start: int) -> int:
    """Where the block that opens at `start` ends."""
    depth = 0
    for found in re.finditer(r"[{}]", sheet[start:]):
        depth += 1 if found[0] == "{" else -1
        if not depth:
            return start + found.start()
    return len(sheet)


def _split(selectors: str) -> list[str]:
    """The selectors of a rule; commas inside brackets do not count."""
    return re.split(r",(?![^(\[]*[)\]])", selectors)


def _possible(selector: str, names: set[str]) -> bool:
    """Whether every class and id that a selector demands is somewhere."""
    demanded = re.sub(r":(?:not|is|where|has)\((?:[^()]|\([^()]*\))*\)|\[[^\]]*\]", "", selector)
    wanted = re.findall(r"[.#]((?:[\w-]|\\.)+)", demanded)
    return all(re.sub(r"\\(.)", r"\1", name) in names for name in wanted)
