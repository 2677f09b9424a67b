"""The last hand at every page, once its template is filled: light, described, accessible.

Each step is a function from HTML to HTML. `finish` is all of them; `wrap` puts it behind the
template engine, so that no file is read again.
"""

from __future__ import annotations

import html
import re
from pathlib import Path
from urllib.parse import unquote

from docutils import nodes
from PIL import Image
from site_project import BOOK, repository, site
from sphinx.application import Sphinx

HEAVY = ("fontawesome.js", "searchtools.js", "language_data.js", "searchindex.js")
KATEX = "katex/katex.min.js"
KATEX_CDN = "https://cdn.jsdelivr.net/npm/katex@0.19.1/dist/katex.min.js"
DESCRIPTION = (
    "A textbook on associative memory that you can read, run and pull apart: a memory is a low"
    " place in an energy landscape, and remembering is going downhill."
)


def finish(text: str, context: dict, images: Pictures) -> str:
    """A page as it goes to the reader."""
    for step in (without_heavy_scripts, without_second_title, accessible):
        text = step(text)
    root = context.get("content_root", "./")
    text = with_lazy_pictures(text, images)
    text = with_formulas(text, root)
    return text.replace("</title>", f"</title>\n{meta_tags(context)}", 1)


# ------------------------------------------------------------------------------------- weight


def without_heavy_scripts(text: str) -> str:
    """Icons are drawn by icons.css, and search loads its index when somebody searches."""
    names = "|".join(map(re.escape, HEAVY))
    return re.sub(rf'<script[^>]*src="[^"]*(?:{names})[^"]*"[^>]*></script>', "", text)


def with_formulas(text: str, root: str) -> str:
    """Load KaTeX where there are formulas, and only there."""
    if 'class="math' not in text and "math notranslate" not in text:
        return text
    here = f"{root}_static/{KATEX}" if (BOOK / "_vendor" / KATEX).exists() else KATEX_CDN
    sheet = here.removesuffix(".js") + ".css"
    tags = f'<link rel="stylesheet" href="{sheet}"/>\n<script defer src="{here}"></script>\n'
    # before our own sheet and script, which come last
    return re.sub(r'(?=<link[^>]*href="[^"]*site\.css)', tags, text, count=1)


class Pictures:
    """Where the pictures of the pages lie: their copies come into the site last of all."""

    def __init__(self, app: Sphinx):
        self.app = app

    def file(self, name: str) -> Path:
        """The file behind `_images/name`."""
        sources = self.app.builder.images
        source = next((s for s, copy in sources.items() if copy == name), f"_images/{name}")
        return Path(self.app.srcdir) / source


def with_lazy_pictures(text: str, images: Pictures) -> str:
    """Pictures have their size, so that nothing jumps, and all but the first load when needed."""
    count = 0

    def one(found: re.Match) -> str:
        nonlocal count
        tag, source = found[0], found[1]
        if source.startswith("data:"):
            return tag
        count += 1
        late = ' loading="lazy" decoding="async"' if count > 1 else ""
        size = _size(tag, images.file(unquote(source.split("?")[0].rsplit("/", 1)[-1])))
        tag = re.sub(r' style="width: \d+px;"', "", tag) if size else tag
        return tag.replace("<img ", f"<img{size}{late} ", 1)

    head, body, rest = text.partition('<article class="bd-article"')
    return head + body + re.sub(r'<img [^>]*?src="([^"]+)"[^>]*>', one, rest)


def _size(tag: str, path: Path) -> str:
    """Width and height as attributes, in the page's pixels; nothing where they are not known."""
    known = {".png", ".webp", ".jpg", ".svg"}
    if "width=" in tag or path.suffix not in known or not path.exists():
        return ""
    if path.suffix == ".svg":
        sides = dict(re.findall(r'\b(width|height)="(\d+)"', path.read_text("utf-8")[:1000]))
        return "".join(f' {side}="{pixels}"' for side, pixels in sides.items())
    with Image.open(path) as picture:
        width, height = picture.size
    shown = re.search(r'style="width: (\d+)px;"', tag)
    if not shown and "style=" in tag:
        return ""
    wide = int(shown[1]) if shown else width
    return f' width="{wide}" height="{round(wide * height / width)}"'


# -------------------------------------------------------------------------------------- access


def without_second_title(text: str) -> str:
    """One h1 a page: the theme's second title and contents, for print only, go."""
    return re.sub(
        r'<div id="jb-print-docs-body".*?(?=<div id="searchbox">)', "", text, flags=re.DOTALL
    )


def accessible(text: str) -> str:
    """Names that contain what is seen, roles that are allowed, landmarks, no empty heading."""
    text = re.sub(r'(<button class="btn search-button-field[^>]*?) title="[^"]*"', r"\1", text)
    text = re.sub(r'(<button class="btn search-button-field[^>]*?) aria-label="[^"]*"', r"\1", text)
    text = re.sub(r'(<summary)\s+aria-label="[^"]*"', r"\1", text)
    text = re.sub(
        r'<summary>(?=<span class="toctree-toggle")', '<summary aria-label="its pages">', text
    )
    text = re.sub(r' role="(?:list|doc-biblioentry|doc-backlink|doc-noteref)"', "", text)
    text = re.sub(r'<th class="head[^"]*">(?:<p>\s*</p>)?\s*</th>', "<td></td>", text)
    text = text.replace(
        '<div id="pst-primary-sidebar" class=',
        '<div id="pst-primary-sidebar" role="complementary" aria-label="The book" class=',
    )
    return text.replace(
        '<div id="pst-secondary-sidebar" class=',
        '<div id="pst-secondary-sidebar" role="complementary" aria-label="This page" class=',
    )


# ---------------------------------------------------------------------------------------- meta


def describe(doctree: nodes.document | None, length: int = 200) -> str:
    """The first words of a page, without its badge and its formulas' source."""
    for paragraph in doctree.findall(nodes.paragraph) if doctree else ():
        if any(paragraph.findall(nodes.image)) or any(paragraph.findall(nodes.math)):
            continue
        text = " ".join(paragraph.astext().split())
        if len(text) > 60 and "CPU:" not in text:
            return text if len(text) <= length else text[:length].rsplit(" ", 1)[0] + " …"
    return DESCRIPTION


def first_picture(app: Sphinx, doctree: nodes.document | None) -> str:
    """Where the first picture of a page is on the site; the book's own where it has none."""
    for image in doctree.findall(nodes.image) if doctree else ():
        name = app.builder.images.get(image["uri"], "")
        if name.endswith((".png", ".jpg", ".webp")):
            return f"{app.builder.imagedir}/{name}"
    return "_static/readme.png"


def add_meta(app: Sphinx, pagename, templatename, context, doctree) -> None:
    """Leave in the context what `meta_tags` writes."""
    context["am_description"] = describe(doctree)
    context["am_picture"] = site() + first_picture(app, doctree)
    context["am_page"] = f"{site()}{pagename}.html"


def meta_tags(context: dict) -> str:
    """What a shared link shows: title, words, picture."""
    title = re.sub(r"<[^>]+>", "", html.unescape(context.get("title") or "amtutor"))
    title = re.sub(r"\\\((.*?)\\\)", r"\1", title)
    pairs = {
        "og:type": "article",
        "og:site_name": "amtutor",
        "og:title": title,
        "og:description": context.get("am_description", DESCRIPTION),
        "og:url": context.get("am_page", site()),
        "og:image": context.get("am_picture", ""),
        "og:see_also": repository(),
    }
    lines = [f'<meta name="description" content="{html.escape(pairs["og:description"])}"/>']
    lines += [f'<meta property="{k}" content="{html.escape(v)}"/>' for k, v in pairs.items() if v]
    lines.append('<meta name="twitter:card" content="summary_large_image"/>')
    return "\n".join(lines)


def wrap(app: Sphinx) -> None:
    """Let every page that the builder's templates render go through `finish`."""
    if app.builder.format != "html":
        return
    templates, images = app.builder.templates, Pictures(app)
    render = templates.render
    templates.render = lambda name, context: finish(render(name, context), context, images)
