"""An index of sections for the search of the site: plain words, no TeX, no code.

`search-index.js` holds one entry a section: the page, the anchor, the headings above it and its
text. book/_static/search.js loads it when somebody searches; as a script it works from file://.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

SILENT = (
    nodes.literal_block,
    nodes.doctest_block,
    nodes.math_block,
    nodes.raw,
    nodes.comment,
    nodes.target,
    nodes.image,
    nodes.system_message,
)
GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "varepsilon": "ε",
    "eta": "η", "theta": "θ", "kappa": "κ", "lambda": "λ", "mu": "μ", "nu": "ν", "xi": "ξ",
    "pi": "π", "sigma": "σ", "tau": "τ", "phi": "φ", "varphi": "φ", "omega": "ω", "Xi": "Ξ",
    "Sigma": "Σ", "Delta": "Δ", "Omega": "Ω", "approx": "≈", "le": "≤", "ge": "≥", "times": "×",
    "cdot": "·", "to": "→", "infty": "∞", "pm": "±", "sum": "Σ", "propto": "∝", "ne": "≠",
    "sqrt": "√", "leftarrow": "←", "nabla": "∇", "dots": "…", "ll": "≪", "gg": "≫",
}  # fmt: skip


def readable(tex: str) -> str:
    """A short formula in plain signs: `\\beta = 4/\\ell^2` as β = 4/ℓ^2; what is long becomes …"""
    text = re.sub(r"\\(?:text|mathrm|mathcal|mathbf|operatorname)\{([^}]*)\}", r"\1", tex)
    text = re.sub(r"\\[tdc]?frac\s*(\w|\{[^{}]*\})\s*(\w|\{[^{}]*\})", r"\1/\2", text)
    text = re.sub(r"\\([A-Za-z]+)", lambda m: GREEK.get(m[1], " "), text)
    text = re.sub(r"\\.|[{}$&]", " ", text)
    text = " ".join(text.split())
    return text if len(text) <= 60 else "…"


def plain(node: nodes.Node) -> str:
    """The words of a node."""
    if isinstance(node, nodes.math):
        return readable(node.astext())
    if isinstance(node, nodes.Text):
        return str(node)
    if isinstance(node, SILENT) or "cell_output" in getattr(node, "attributes", {}).get(
        "classes", ()
    ):
        return " "
    if isinstance(node, (nodes.section, nodes.title, addnodes.desc)):
        return ""  # an entry of its own
    gap = "" if isinstance(node, nodes.Inline) else " "
    return gap + "".join(plain(child) for child in node.children) + gap


def tidy(text: str) -> str:
    return re.sub(r"\s+([,.;:!?)])", r"\1", " ".join(text.split()))


def sections(doctree: nodes.document) -> list[tuple[str, list[str], str]]:
    """For every section its anchor, the headings that lead to it, and its own text.

    A function or class of the library counts as a section.
    """
    found = []

    def walk(node: nodes.Element, trail: list[str]) -> None:
        for child in node.children:
            here, body = trail, child
            if isinstance(child, nodes.section):
                title = next(iter(child.findall(nodes.title)), None)
                here = [*trail, tidy(_words(title))] if title is not None else trail
                anchor = child["ids"][0] if child["ids"] else ""
            elif isinstance(child, addnodes.desc) and child[0]["ids"]:
                anchor, body = child[0]["ids"][0], child[-1]
                here = [*trail, anchor.removeprefix("amtutor.")]
            else:
                if isinstance(child, nodes.Element):
                    walk(child, trail)
                continue
            found.append((anchor, here, tidy(_words(body))))
            walk(body, here)

    walk(doctree, [])
    return found


def _words(node: nodes.Element) -> str:
    return "".join(plain(child) for child in node.children)


def write(app: Sphinx, exception: Exception | None) -> None:
    """After the build: write search-index.js."""
    if exception or app.builder.format != "html":
        return
    entries = []
    for docname in sorted(app.env.found_docs):
        number = app.env.toc_secnumbers.get(docname, {}).get("", ())
        for place, (anchor, trail, text) in enumerate(sections(app.env.get_doctree(docname))):
            if trail:
                head = f"{'.'.join(map(str, number))} {trail[0]}".strip() if number else trail[0]
                where = f"{docname}.html" + (f"#{anchor}" if place else "")
                entries.append([where, [head, *trail[1:]], text])
    body = json.dumps(entries, ensure_ascii=False, separators=(",", ":"))
    path = Path(app.outdir) / "_static" / "search-index.js"
    path.write_text(f"window.amSections={body};\n", "utf-8")
