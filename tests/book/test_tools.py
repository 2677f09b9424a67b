"""The tools that make notebooks and pages: what they keep, what they refuse."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import amtutor_site
import docutils.nodes
import docutils.utils
import nbformat
import numpy as np
import pytest
from PIL import Image

import notebooks

HEAD = (notebooks.BOOK / "00_template.md").read_text("utf-8").split("---")[1]
PAGE = f"""---{HEAD}---

# A page

It is {{glue}}`a`, so $x = {{glue}}`a`$.

```{{code-cell}} ipython3
---
mystnb:
  figure:
    name: fig-a
    caption: The value {{glue}}`a`.
---
from IPython.display import display
def glue(name, value):
    data = {{"application/vnd.amtutor.glue+json": {{"name": name, "value": value}}}}
    display(data, raw=True)
glue("a", "0.125")
print(object())
```
"""


@pytest.fixture
def page(tmp_path) -> Path:
    path = tmp_path / "page.md"
    path.write_text(PAGE, "utf-8")
    return path


@pytest.fixture(scope="module")
def twin_text(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("twin") / "page.md"
    path.write_text(PAGE, "utf-8")
    notebooks.make(path)
    return path.with_suffix(".ipynb").read_text("utf-8")


def test_notebook_is_deterministic_and_filled(page, twin_text):
    notebooks.make(page)
    assert page.with_suffix(".ipynb").read_text("utf-8") == twin_text
    twin = nbformat.reads(twin_text, as_version=4)
    assert twin.cells[0].source.endswith("It is 0.125, so $x = 0.125$.")
    assert twin.cells[2].source == "*Figure 1.* The value 0.125."
    assert [o.output_type for o in twin.cells[1].outputs] == ["stream"]
    assert notebooks.check(page) == []


def test_the_site_gets_the_source_with_the_outputs(page, twin_text):
    page.with_suffix(".ipynb").write_text(twin_text, "utf-8")
    woven = notebooks.woven(page)
    assert woven.cells[1].metadata["mystnb"]["figure"]["caption"] == "The value 0.125."
    assert woven.cells[1].outputs == nbformat.reads(twin_text, as_version=4).cells[1].outputs


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"0.125"', '"0.25"', "its code has changed since it was run"),
        ("It is", "It was", "differs from its notebook"),
        ("caption: The", "caption: A", "differs from its notebook"),
        ("{glue}`a`.", "{glue}`b`.", "nothing is glued as 'b' (known: a)"),
    ],
)
def test_check_sees_an_edit(page, twin_text, old, new, said):
    page.with_suffix(".ipynb").write_text(twin_text, "utf-8")
    page.write_text(PAGE.replace(old, new), "utf-8")
    (fault,) = notebooks.check(page)
    assert said in fault


def test_check_sees_an_edited_or_missing_notebook(page, twin_text):
    assert "is missing" in notebooks.check(page)[0]
    page.with_suffix(".ipynb").write_text(twin_text.replace("It is 0.125", "It is 0.126"), "utf-8")
    assert "differs from its notebook" in notebooks.check(page)[0]
    page.with_suffix(".ipynb").write_text(twin_text.replace("0.125", "0.126"), "utf-8")
    assert "edited by hand" in notebooks.check(page)[0]
    other = twin_text.replace("object object", "another object")
    assert other != twin_text
    page.with_suffix(".ipynb").write_text(other, "utf-8")
    assert "edited by hand" in notebooks.check(page)[0]


def test_words_are_rendered_anew_without_a_run(page, twin_text):
    page.with_suffix(".ipynb").write_text(twin_text, "utf-8")
    page.write_text(PAGE.replace("It is", "It was"), "utf-8")
    notebooks.render(page)
    assert notebooks.check(page) == []
    text = page.with_suffix(".ipynb").read_text("utf-8")
    assert "It was 0.125" in text
    renamed = PAGE.replace("print(object())", "print(object( ))")
    page.write_text(renamed, "utf-8")
    with pytest.raises(notebooks.NotebookError, match="its code has changed"):
        notebooks.render(page)
    notebooks.render(page, keep_outputs=True)
    assert notebooks.check(page) == []
    page.write_text(renamed + "\n```{code-cell} ipython3\n1\n```\n", "utf-8")
    with pytest.raises(notebooks.NotebookError, match="2 code cells, 1 were run"):
        notebooks.render(page, keep_outputs=True)


@pytest.mark.parametrize(
    ("code", "left"),
    [
        ("x = 1\nshow.glue('a', x)", "x = 1"),
        ("show.glue('a', 1)\nshow.glue('b',\n    2)", ""),
        ("for n in x:\n    if n:\n        show.glue(n, 1)\ny = 2", "y = 2"),
        ("for n in x:\n    y = n\n    show.glue(n, y)", "for n in x:\n    y = n"),
        ("ax.plot(1)\nshow.glue('a', 1)", "ax.plot(1);"),
        ("print(1)\nshow.glue('a', 1)", "print(1)"),
        ("show.glue('a', 1)\nfig", "fig"),
        ("def f():\n    show.glue('a', 1)\n    return 2", "def f():\n    return 2"),
        ("%pip install x", "%pip install x"),
    ],
)
def test_bookkeeping_leaves_no_trace_in_the_code(code, left):
    assert notebooks.without_glue(code) == left


BOOKKEEPING = """percent = lambda x: f"{x} %"
twin = 3
for name in taught:
    key = name
def said(x):
    return percent(x)
drawn = torch.rand(3, generator=g)
# a comment"""


@pytest.mark.parametrize(
    ("tags", "left"),
    [
        ([], BOOKKEEPING),
        (["remove-cell"], "twin = 3\ndrawn = torch.rand(3, generator=g)\n# a comment"),
    ],
)
def test_what_only_glue_has_read_goes_with_it(tags, left):
    cell = nbformat.v4.new_code_cell(BOOKKEEPING, metadata={"tags": tags})
    later = nbformat.v4.new_code_cell("%pip list\nassert twin == 3")
    alone = nbformat.v4.new_code_cell("# rounds\nrounded = round(1.5)", metadata={"tags": tags})
    notebooks.without_husks([cell, later, alone])
    assert cell.source == left and later.source == "%pip list\nassert twin == 3"
    assert alone.source == ("" if tags else "# rounds\nrounded = round(1.5)")


def test_the_site_folds_what_is_left_of_bookkeeping(page, twin_text):
    """Else the claims would speak of names that no cell of the page makes."""
    hidden = "```{code-cell} ipython3\n:tags: [remove-cell]\nseen = 1\n```\n"
    read = "\n```{code-cell} ipython3\nassert seen == 1\n```\n"
    page.write_text(PAGE + "\n" + hidden + read, "utf-8")
    notebooks.make(page)
    tags = [c.metadata.get("tags") for c in notebooks.woven(page).cells if c.cell_type == "code"]
    assert tags[-2:] == [["hide-input", "remove-output"], None]


def test_glue_must_have_a_line_of_its_own():
    with pytest.raises(notebooks.NotebookError, match="a line of its own"):
        notebooks.without_glue("x = 1; show.glue('a', x)")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("{glue}`a`.", "{glue}`b`.", "nothing is glued as 'b'"),
        ("print(object())", "1 / 0", "ZeroDivisionError: division by zero"),
        ("print(object())", "glue('a', '1')", "glue 'a' is '0.125' and '1'"),
        ("print(object())", "import warnings; warnings.warn('hot')", "warns: "),
    ],
)
def test_faults_become_one_line(page, old, new, said):
    page.write_text(PAGE.replace(old, new), "utf-8")
    with pytest.raises(notebooks.NotebookError) as caught:
        notebooks.make(page)
    line = str(caught.value)
    assert said in line and line.startswith("page.md: cell ") and "\n" not in line


def test_small_pictures_stay_true():
    rng = np.random.default_rng(0)
    few = rng.integers(0, 4, (40, 40, 3), dtype=np.uint8) * 60
    many = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
    for pixels in (few, many):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        small = notebooks.smaller_png(buffer.getvalue())
        back = np.asarray(Image.open(io.BytesIO(small)).convert("RGB"), int)
        assert abs(back - pixels).max() <= 12


def test_bundle_runs_like_the_modules(tmp_path):
    (tmp_path / "common.js").write_text(
        "export const two = 2;\nexport function f(x) { return x; }\n"
    )
    (tmp_path / "a.js").write_text(
        'import { two, f as g } from "./common.js";\nimport * as c from "./common.js";\n'
        "export function mount(e) { return g(two) + c.two; }\n"
    )
    script = amtutor_site.bundle(tmp_path / "a.js")
    assert script.count("const $common") == 1
    said = subprocess.run(
        ["node", "-e", script + "console.log($a.mount(null))"], capture_output=True, text=True
    )
    assert said.stdout == "4\n", said.stderr


@pytest.mark.parametrize(
    "text",
    ['import x from "https://elsewhere/x.js";', 'export * from "./common.js";', "import.meta.url;"],
)
def test_bundle_refuses_what_it_cannot_inline(tmp_path, text):
    (tmp_path / "a.js").write_text(text + "\n")
    with pytest.raises(ValueError, match="cannot be written into a page"):
        amtutor_site.bundle(tmp_path / "a.js")


def test_no_line_ends_inside_a_number():
    document = docutils.utils.new_document("page")
    code = docutils.nodes.literal("", "8 000")
    text = docutils.nodes.Text("8 000 of 12 × 12, 5 % or 1 ± 2; in 2021 12 000 000, not 3 4567")
    document += docutils.nodes.paragraph("", "", text, code)
    amtutor_site.keep_numbers(document)
    wanted = "8~000 of 12~×~12, 5~% or 1~±~2; in 2021 12~000~000, not 3 4567"
    assert document.astext() == wanted.replace("~", "\u00a0") + "8 000"
