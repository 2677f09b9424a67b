"""How long a chapter is: counted on a page of which every number is known."""

from __future__ import annotations

import pytest

import chapters

PAGE = """---
jupytext: {}
---

# One two

[![Open in Colab](_static/colab.svg)](https://x) · CPU: 9 s · memory: 1 GB

Three {eq}`eq-x` four $five$.

$$
six
$$ (eq-x)

```{code-cell} ipython3
# NBVAL_CHECK_OUTPUT
a = 1

b = 2
show.glue("a", a)
```

```{code-cell} ipython3
:tags: [hide-input]
folded = 3
```

:::{solution-start} ex-x
:class: dropdown
:::
Seven.

```{code-cell} ipython3
solved = 4
```

$$
eight
$$
:::{solution-end}
:::
"""


def test_what_stands_open_is_counted():
    m = chapters.measure(PAGE)
    # One two, the badge line's words, Three eq eq-x four five
    badge = "Open in Colab static colab svg https x CPU s memory GB".split()
    assert m.words == 2 + len(badge) + 5 + 1  # and the eq-x of the label
    assert (m.lines, m.cells, m.longest, m.equations) == (4, 1, 2, 1)
    assert m.minutes == 5


@pytest.mark.parametrize(
    ("words", "lines", "equations", "minutes"),
    [(1000, 0, 0, 5), (1001, 0, 0, 10), (2800, 130, 16, 35), (200, 30, 2, 5)],
)
def test_minutes(words, lines, equations, minutes):
    assert chapters.Measure(words, lines, 1, 1, equations).minutes == minutes


def test_the_badge_line_is_written_once_and_stays(tmp_path):
    path = tmp_path / "06_page.md"
    path.write_text(PAGE.replace("a = 1", "a = data.cifar10()"), "utf-8")
    said = chapters.write_badge(path)
    assert said.endswith("reading: 5 min · CPU: 9 s · memory: 1 GB · first run downloads 162 MB")
    text = path.read_text("utf-8")
    chapters.write_badge(path)
    assert path.read_text("utf-8") == text
    assert not [fault for fault in chapters.faults(path) if "is not right" in fault]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("Three", "word " * 2801, "words of prose, at most 2800"),
        ("b = 2", "b = 2\n" * 20, "an open cell of 21 lines, at most 15"),
        ("b = 2", "b = 2\n" * 140, "lines of open code in 1 cells, at most 130 in 12"),
        ("Three", "Three", "'You need first: ...'"),
        ("Three", "Three", "the badge line is not right: python tools/chapters.py --badge"),
    ],
)
def test_what_is_too_long_is_told_with_what_to_do(tmp_path, old, new, said):
    path = tmp_path / "06_page.md"
    path.write_text(PAGE.replace(old, new, 1), "utf-8")
    assert any(said in fault for fault in chapters.faults(path))
