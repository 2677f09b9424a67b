"""A chapter begins as a copy of the template that clashes with nothing."""

from __future__ import annotations

import re

import pytest
import yaml

import chapters
import new_chapter
import plain

TEMPLATE = new_chapter.TEMPLATE.read_text("utf-8")
TOC = (plain.ROOT / "_toc.yml").read_text("utf-8")
README = (plain.ROOT / "README.md").read_text("utf-8")


def parts(toc: str) -> dict[str, list[str]]:
    tree = yaml.safe_load(toc)["parts"]
    return {p["caption"]: [c["file"] for c in p["chapters"]] for p in tree}


def test_a_copy_has_labels_of_its_own(tmp_path):
    (tmp_path / "00_template.md").write_text(TEMPLATE, "utf-8")
    text = new_chapter.copied(TEMPLATE, "18_my_subject")
    (tmp_path / "18_my_subject.md").write_text(text, "utf-8")
    book = plain.Book(tmp_path)
    assert not book.faults
    mine = {label for label, target in book.labels.items() if target.page == "18_my_subject"}
    assert len(mine) == len(book.labels) / 2 > 4
    assert all(re.match(r"(eq|fig|ex|sol)-my-subject-", label) for label in mine)
    assert "template" not in text and "\n# My subject\n" in text
    assert chapters.BADGE.search(text)[0] == chapters.badge(tmp_path / "18_my_subject.md", text)


@pytest.mark.parametrize(
    ("stem", "part", "place"),
    [
        ("18_new", "V · Training and scale", -1),
        ("07_new", "II · Building blocks", -1),
        ("08_new", "III · From memory to generation", 0),
    ],
)
def test_toc_line_stands_in_its_part(stem, part, place):
    toc = re.sub(r"      - file: book/07_\w+\n", "", TOC)
    toc = re.sub(r'  - caption: "III .*?(?=  - caption)', "", toc, flags=re.DOTALL)
    before, after = parts(toc), parts(new_chapter.with_toc_line(toc, stem))
    assert after[part][place] == f"book/{stem}"
    assert {**after, part: [f for f in after[part] if f != f"book/{stem}"]} == {part: [], **before}
    captions = [c for c in after if c in [text for _, text in new_chapter.PARTS]]
    assert captions == sorted(captions, key=[t for _, t in new_chapter.PARTS].index)


def test_plan_line_stands_in_its_part_once():
    text = (plain.BOOK / "plan.yml").read_text("utf-8")
    assert new_chapter.with_plan_line(text, "14_new", "New") == text
    before, after = (
        {p["part"]: [c["number"] for c in p["chapters"]] for p in yaml.safe_load(plan)}
        for plan in (text, new_chapter.with_plan_line(text, "99_new", "New"))
    )
    last = new_chapter.PARTS[-1][1]
    assert after == {**before, last: [*before[last], 99]}
    gap = re.sub(r"(?m)^    - \{number: 5,.*\n", "", text)
    mended = yaml.safe_load(new_chapter.with_plan_line(gap, "05_new", "New"))
    assert [c["number"] for c in mended[1]["chapters"]] == before[new_chapter.PARTS[1][1]]


def test_readme_row_stands_in_order():
    after = new_chapter.with_readme_row(README, "99_new", "New")
    (row,) = set(after.splitlines()) - set(README.splitlines())
    assert row.startswith("| 99 | [New](book/99_new.md) |") and row.endswith(" | 2 s |")
    assert after.replace(row + "\n", "") == README
    numbers = [int(n) for n in re.findall(r"^\| (\d+) \| \[", after, re.MULTILINE)]
    assert numbers == sorted(numbers)


@pytest.mark.parametrize(
    ("name", "full"), [("my_subject", "08_my_subject"), ("09_x", "09_x"), ("12_a_b2", "12_a_b2")]
)
def test_names(name, full):
    assert new_chapter.full_name(name, ["01_a", "07_b"]) == full


@pytest.mark.parametrize(
    "name", ["My subject", "my-subject", "01_again", "00_x", "8_x", "../x", ""]
)
def test_names_that_cannot_be(name):
    with pytest.raises(new_chapter.ChapterError) as caught:
        new_chapter.full_name(name, ["01_a", "07_b"])
    assert repr(name) in str(caught.value) and "\n" not in str(caught.value)
