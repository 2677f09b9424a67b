"""MyST becomes plain Markdown that says the same, numbered as the site numbers it."""

from __future__ import annotations

from pathlib import Path

import pytest

import plain

ONE = """# The first chapter

(start)=
## Where it starts

$$
a = b
$$ (eq-a)

:::{figure} _static/x.png
:name: fig-one
:alt: An x.
A caption.
:::
"""
TWO = """# The second chapter

$$ c = d $$ (eq-c)

:::{exercise-start} Too far (code)
:label: ex-two
:::
Try.
:::{exercise-end}
:::
"""
BIB = """
@article{one, author = {Hopfield, John}, year = {1982}, doi = {10.1/x}}
@article{two, author = {Ann Arbor and Bo Derek}, year = {2001}, journal = {arXiv:2107.06446}}
@article{many, author = {A. One and B. Two and C. Three}, year = {2020}, url = {https://x.y}}
"""
SITE = plain.addresses()["site"]


@pytest.fixture
def page(tmp_path) -> plain.Page:
    (tmp_path / "03_one.md").write_text(ONE, "utf-8")
    (tmp_path / "04_two.md").write_text(TWO, "utf-8")
    (tmp_path / "references.bib").write_text(BIB, "utf-8")
    live = tmp_path / "_static" / "explorables"
    live.mkdir(parents=True)
    (live / "ball.svg").write_text("<svg/>", "utf-8")
    return plain.Page(plain.Book(tmp_path), "04_two")


@pytest.mark.parametrize(
    ("myst", "markdown"),
    [
        ("By {eq}`eq-c`.", "By (4.1)."),
        ("By {eq}`eq-a`.", f"By [(3.1)]({SITE}/book/03_one.html#equation-eq-a)."),
        ("$$\na\n$$ (eq-c)", "$$\na\n\\tag{4.1}\n$$"),
        ("$$ c = d $$ (eq-c)", "$$ c = d  \\tag{4.1}$$"),
        ("$$\na\n$$", "$$\na\n$$"),
        ("See {numref}`fig-one`", f"See [Figure 3.1]({SITE}/book/03_one.html#fig-one)"),
        ("See {ref}`start`", f"See [Where it starts]({SITE}/book/03_one.html#start)"),
        ("See {ref}`there <start>`", f"See [there]({SITE}/book/03_one.html#start)"),
        ("See {doc}`03_one`", f"See [The first chapter]({SITE}/book/03_one.html)"),
        ("See {doc}`one <03_one>`", f"See [one]({SITE}/book/03_one.html)"),
        ("See [one](03_one.md#start)", f"See [one]({SITE}/book/03_one.html#start)"),
        ("See {ref}`ex-two`", "See Exercise 4.1"),
        ("So {cite}`one`", "So ([Hopfield, 1982](https://doi.org/10.1/x))"),
        ("So {cite:t}`two`", "So [Arbor and Derek (2001)](https://arxiv.org/abs/2107.06446)"),
        ("{cite}`many,one`", "([One et al., 2020](https://x.y); [Hopfield, 1982](https://doi.org/10.1/x))"),
        ("(a-label)=\n## Title", "## Title"),
        ("% a comment\ntext", "text"),
        (":::{note}\nText.\n:::", "> **Note.**\n>\n> Text."),
        (":::{admonition} Why?\nText.\n:::", "> **Why?**\n>\n> Text."),
        (":::{note}\n$$\na\n$$\n:::", "> **Note.**\n>\n> $$ a $$"),
        ("`{eq}` and ``{eq}`x` ``", "`{eq}` and ``{eq}`x` ``"),
        ("```python\n(x)=\n% y\n```", "```python\n(x)=\n% y\n```"),
        ("![alt](_static/x.png)", f"![alt]({plain.addresses()['raw']}/book/_static/x.png)"),
        ("[out](https://a.b/c)", "[out](https://a.b/c)"),
    ],
)  # fmt: skip
def test_plain_form(page, myst, markdown):
    assert page.cell(myst) == markdown


def test_exercise_and_solution_across_code_cells(page):
    opening = (
        ":::{exercise-start} Too far (code)\n:label: ex-two\n:::\nTry.\n:::{exercise-end}\n:::\n\n"
        ":::{solution-start} ex-two\n:class: dropdown\n:::\nFirst."
    )
    assert page.cell(opening, code_follows=True) == (
        "**Exercise 4.1 (code). Too far.**\nTry.\n\n<details>\n<summary><b>Solution 4.1, with the "
        "folded cell below</b></summary>\n\nFirst.\n\n</details>"
    )
    assert page.solution
    closing = page.cell("Then.\n:::{solution-end}\n:::\n\n## Next")
    assert closing == (
        "<details>\n<summary><b>Solution 4.1, continued</b></summary>\n\nThen.\n\n</details>\n\n"
        "## Next"
    )
    assert not page.solution


def test_a_solution_that_is_only_code_is_announced(page):
    text = page.cell(":::{solution-start} ex-two\n:class: dropdown\n:::", code_follows=True)
    assert "folded cell below" in text and text.count("<details>") == 1
    assert page.cell(":::{solution-end}\n:::") == ""


def test_an_explorable_is_its_picture_with_a_link(page):
    text = page.cell(":::{explorable} ball\n:alt: A ball.\nDrag it, by {eq}`eq-c`.\n:::")
    place = f"{SITE}/book/04_two.html#explorable-ball"
    assert text.startswith("[![A ball.](https://raw.githubusercontent.com/")
    assert f"]({place})" in text and text.endswith("Drag it, by (4.1).")


@pytest.mark.parametrize(
    ("myst", "said"),
    [
        ("{eq}`eq-none`", "nothing has the label 'eq-none'"),
        ("{doc}`none`", "there is no page 'none'"),
        ("{cite}`none`", "references.bib has no entry 'none'"),
        ("{term}`none`", "the glossary has no term 'none'"),
        ("{sound}`bell`", "no plain form is known for the role {sound}"),
        (":::{sound} bell\n:::", "no plain form is known for the directive {sound}"),
        (":::{note}\nnever closed", "nothing closes ':::{note}'"),
        (":::{explorable} none\n:alt: x\n:::", "the explorable none has no picture"),
    ],
)
def test_what_is_not_known_is_refused_in_one_line(page, myst, said):
    with pytest.raises(plain.PlainError) as caught:
        page.cell(myst)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_label_used_twice_is_told_with_both_places(tmp_path):
    (tmp_path / "03_one.md").write_text(ONE, "utf-8")
    (tmp_path / "05_copy.md").write_text(ONE, "utf-8")
    told = plain.Book(tmp_path).faults
    assert told[0] == ("05_copy.md: the label start is also in 03_one.md; give it another name")
    assert len(told) == 3


def test_pages_without_a_chapter_number_count_on(tmp_path):
    (tmp_path / "a.md").write_text("$$ x $$ (eq-x)\n", "utf-8")
    (tmp_path / "b.md").write_text("$$ y $$ (eq-y)\n", "utf-8")
    labels = plain.Book(tmp_path, toc=Path("none")).labels
    assert (labels["eq-x"].number, labels["eq-y"].number) == ("1", "2")


def test_terms_link_to_the_glossary(tmp_path):
    glossary = (
        "# Glossary\n\n```{glossary}\nEnergy landscape\n  A function.\n\nmemory\n  A place.\n```\n"
    )
    (tmp_path / "glossary.md").write_text(glossary, "utf-8")
    page = plain.Page(plain.Book(tmp_path), "01_x")
    address = f"{SITE}/book/glossary.html#term"
    assert (
        page.cell("{term}`energy landscape`") == f"[energy landscape]({address}-Energy-landscape)"
    )
    assert page.cell("{term}`places <memory>`") == f"[places]({address}-memory)"
