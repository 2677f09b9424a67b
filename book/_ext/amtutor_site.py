"""What the book adds to Jupyter Book. Here: its assets, live figures, a tidy document.

- Style sheets, typefaces and KaTeX come from the site itself (tools/vendor.py fetches them).
- A chapter is shown from its source, with the outputs of the notebook beside it.
- `{explorable} NAME` writes the figure book/_static/explorables/NAME.js into the page.

Beside it, by concern: site_numbers (a chapter has its file's number), site_pages (the ledger, the
plan, the galleries), site_map (the map), site_html (the last hand at a page: weight, access,
description), site_assets (icons and style sheets as small as the pages need), site_search,
site_project (addresses).
"""

from __future__ import annotations

import html
import re
import sys
from pathlib import Path

import site_assets
import site_html
import site_map
import site_pages
import site_search
from docutils import nodes
from docutils.parsers.rst import directives
from site_numbers import number_by_file
from site_project import repository, site
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util.docutils import SphinxDirective
from sphinx.util.osutil import relative_uri

BOOK = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(BOOK.parent / "tools"))

import notebooks  # noqa: E402 (it knows how a chapter and its notebook belong together)

EXPLORABLES = BOOK / "_static" / "explorables"
INSIDE_NUMBER = re.compile(r"(?<=\d) (?=\d{3}(?!\d)|[×±%])|(?<=[×±]) (?=\d)")

# ------------------------------------------------------------------------------------- modules

IMPORT = re.compile(
    r'^import\s+([^"\';]+?)\s+from\s+["\']\./([\w-]+)\.js["\'];?[ \t]*$', re.MULTILINE
)
EXPORT = re.compile(
    r"^export\s+((?:async\s+)?function\*?|const|let|class)\s+([A-Za-z_$][\w$]*)", re.MULTILINE
)


def bundle(path: Path, seen: list[Path] | None = None) -> str:
    """One script from an ES module and the sibling modules it imports.

    Each module becomes a constant that holds its exports, written in the order of need, so that the
    result runs inline, also from file:// where a browser refuses to import.

    Two patterns, no parser. It takes `import { a, b as c } from "./x.js"` (over several lines if
    need be) and `import * as d from "./x.js"`, and exports that are declarations of one name
    (function, async function, class, const, let), each at the beginning of a line. Any other line
    that begins with import or export raises (default exports, `export { a }`, `export ... from`,
    packages), so text in a template must not begin a line with these words. Not seen here: circles
    of modules, `import()` inside a line, and names that a module does not export. The tests load
    the modules as a browser does, which refuses the last.
    """
    seen = [] if seen is None else seen
    if path in seen:
        return ""
    if not path.exists():
        raise ValueError(f"{path.name} is not in {path.parent.name}/")
    text = path.read_text("utf-8")
    before = ""
    for _, name in IMPORT.findall(text):
        before += bundle(path.with_name(f"{name}.js"), seen)
    seen.append(path)
    names = [name for _, name in EXPORT.findall(text)]
    text = IMPORT.sub(lambda m: f"const {_pattern(m[1])} = {_variable(m[2])};", text)
    text = EXPORT.sub(r"\1 \2", text)
    if rest := re.search(r"^(import|export)\b.*|import\.meta.*", text, re.MULTILINE):
        raise ValueError(f"{path.name}: cannot be written into a page: {rest[0][:60]!r}")
    text = text.replace("</script", "<\\/script").rstrip()
    return (
        f"{before}const {_variable(path.stem)} = (() => {{\n{text}\n"
        f"return {{{', '.join(names)}}};\n}})();\n"
    )


def _variable(stem: str) -> str:
    return "$" + stem.replace("-", "_")


def _pattern(clause: str) -> str:
    """`{a, b as c}` and `* as d` as what stands left of the equals sign."""
    clause = " ".join(clause.split())
    return clause.removeprefix("* as ") if clause.startswith("*") else clause.replace(" as ", ": ")


class Explorable(SphinxDirective):
    """A live figure: `{explorable} NAME`, with `:alt:`, and a caption as its content."""

    required_arguments = 1
    has_content = True
    option_spec = {"alt": directives.unchanged_required, "height": directives.length_or_unitless}

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        module = EXPLORABLES / f"{name}.js"
        pictures = [p for s in ("svg", "png") if (p := EXPLORABLES / f"{name}.{s}").exists()]
        modules: list[Path] = []
        try:
            script = bundle(module, modules)
            if "mount" not in script.rsplit("return {", 1)[1]:
                raise ValueError(f"{name}.js exports no mount(element, options)")
            if not pictures:
                raise ValueError(f"{name} has no picture {name}.svg or {name}.png")
            if "alt" not in self.options:
                raise ValueError(f"{name} needs an :alt: text")
        except ValueError as fault:
            raise self.error(f"explorable: {fault}") from None
        for path in [*modules, *pictures]:
            self.env.note_dependency(str(path))
        node = explorable(
            name=name,
            script=script,
            picture=pictures[0].name,
            alt=self.options["alt"],
            height=self.options.get("height", ""),
        )
        self.set_source_info(node)
        node += self.parse_content_to_nodes() if self.content else []
        return [node]


class explorable(nodes.General, nodes.Element):
    """The place of a live figure; its children are the caption."""


def visit_explorable(writer, node: explorable) -> None:
    name, alt = node["name"], html.escape(node["alt"], quote=True)
    here = writer.builder.get_target_uri(writer.builder.current_docname)
    picture = relative_uri(here, f"_static/explorables/{node['picture']}")
    style = f' style="min-height:{node["height"]}"' if node["height"] else ""
    writer.body.append(
        f'<figure class="explorable" id="explorable-{name}">\n'
        f'<div class="explorable-body" role="group" aria-label="{alt}"{style}>'
        f'<img class="explorable-picture" src="{picture}" alt="{alt}"/></div>\n'
        f'<img class="explorable-print" src="{picture}" alt="" loading="lazy"/>\n<figcaption>'
    )


def depart_explorable(writer, node: explorable) -> None:
    name, variable = node["name"], _variable(node["name"])
    writer.body.append(
        "</figcaption>\n"
        "<noscript><p>This figure moves where scripts are allowed. The picture shows one of its"
        " moments.</p></noscript>\n</figure>\n"
        f'<script type="module">\n{node["script"]}'
        f'const body = document.querySelector("#explorable-{name} .explorable-body");\n'
        "const picture = [...body.childNodes];\n"
        "body.replaceChildren();\n"
        f"try {{ {variable}.mount(body, {{}}); body.dataset.mounted = 'yes'; }}\n"
        "catch (error) { body.replaceChildren(...picture); throw error; }\n"
        "</script>\n"
    )


def skip(writer, node: nodes.Element) -> None:
    raise nodes.SkipNode


# --------------------------------------------------------------------------------------- pages


def configure(app: Sphinx, config: Config) -> None:
    """Serve our assets; leave out every source whose twin is shown instead."""
    config.html_static_path.append(str(BOOK / "_static"))
    if (BOOK / "_vendor").exists():
        config.html_static_path.append(str(BOOK / "_vendor"))
    config.html_context.setdefault("default_mode", "auto")  # else the theme complains at first
    config.html_baseurl = site()
    config.html_theme_options["repository_url"] = repository()
    twins = [p.with_suffix(".md") for p in BOOK.glob("*.ipynb")]
    config.exclude_patterns += [f"book/{p.name}" for p in twins if p.exists()]
    for sheet in ["icons.css", *sorted(p.name for p in (BOOK / "_static").glob("*.css"))]:
        app.add_css_file(sheet, priority=900)
    for script in ("search.js", "site.js"):
        app.add_js_file(script, priority=900, loading_method="defer")


def weave(app: Sphinx, docname: str, source: list[str]) -> None:
    """Read a chapter's MyST where Sphinx has found its notebook, which is plain Markdown."""
    path = app.srcdir / f"{docname}.md"
    if path.exists() and path.with_suffix(".ipynb").exists():
        app.env.note_dependency(str(path))
        source[0] = notebooks.written(notebooks.woven(path))


def tidy_page(app: Sphinx, pagename, templatename, context, doctree) -> None:
    """Take out what the page must not load, and let "edit" open the source, not the twin."""
    kept = []
    for script in context.get("script_files", []):
        body = getattr(script, "attributes", {}).get("body") or ""
        name = str(getattr(script, "filename", script) or "")
        # No page starts a kernel, and Sphinx adds Thebe's line twice. KaTeX sets the formulas.
        if not re.search("THEBE_JS_URL|MathJax", body) and not re.search("thebe|mathjax", name):
            kept.append(script)
    context["script_files"] = kept
    for group in context.get("header_buttons", []):
        for button in group.get("buttons", []):
            url = button.get("url") or ""
            if "/edit/" in url and (app.srcdir / f"{pagename}.md").exists():
                button["url"] = url.removesuffix(".ipynb").removesuffix(".md") + ".md"


def tidy_document(app: Sphinx, doctree: nodes.document) -> None:
    """Keep lines whole; give every picture of a cell words for those who listen."""
    keep_together(doctree)
    keep_numbers(doctree)
    for image in doctree.findall(nodes.image):
        if not image.get("alt"):
            captions = image.parent.traverse(nodes.caption) if image.parent else []
            text = captions[0].astext() if captions else "Output of the code above"
            image["alt"] = " ".join(text.split())


def keep_together(doctree: nodes.document) -> None:
    """A comma or full stop after an inline formula stays on its line."""
    for formula in list(doctree.findall(nodes.math)):
        after = formula.next_node(siblings=True, descend=False)
        if not isinstance(after, nodes.Text) or not (mark := re.match(r"[-,.;:!?)’s]+", after)):
            continue
        parent, place = formula.parent, formula.parent.index(formula)
        together = nodes.inline(classes=["am-together"])
        parent[place : place + 2] = [together, nodes.Text(after[mark.end() :])]
        together += [formula, nodes.Text(mark[0])]


def keep_numbers(doctree: nodes.document) -> None:
    """No line ends inside 8 000, 28 × 28, 5 %, 1 ± 2 or a short name in code."""
    verbatim = (nodes.literal, nodes.literal_block, nodes.math, nodes.math_block, nodes.raw)
    for text in list(doctree.findall(nodes.Text)):
        whole = INSIDE_NUMBER.sub("\u00a0", text)
        if whole != text and not isinstance(text.parent, verbatim):
            text.parent.replace(text, nodes.Text(whole))
    for code in doctree.findall(nodes.literal):
        if len(code.astext()) <= 16 and " " not in code.astext():
            code["classes"].append("am-together")  # fd-c10 has a hyphen, not a hyphenation


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("explorable", Explorable)
    site_pages.add(app)
    site_map.add(app)
    app.add_node(
        explorable,
        html=(visit_explorable, depart_explorable),
        latex=(skip, None),
        text=(skip, None),
    )
    app.connect("config-inited", configure)
    app.connect("builder-inited", number_by_file)
    app.connect("source-read", weave)
    app.connect("builder-inited", site_html.wrap)
    app.connect("doctree-read", tidy_document)
    app.connect("html-page-context", tidy_page, priority=900)
    app.connect("html-page-context", site_html.add_meta)
    app.connect("build-finished", site_search.write)
    app.connect("build-finished", site_assets.shrink, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
