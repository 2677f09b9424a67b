"""Every paper that the book names can be opened."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pybtex.database import parse_file

ENTRIES = parse_file(str(Path(__file__).resolve().parents[2] / "book" / "references.bib")).entries
DOI = re.compile(r"10\.\d{4,9}/\S+")
ARXIV = re.compile(r"\d{4}\.\d{4,5}")


@pytest.mark.parametrize("name", ENTRIES)
def test_entry_has_a_link_that_is_well_formed(name):
    fields = ENTRIES[name].fields
    doi, eprint, url = (fields.get(field, "") for field in ("doi", "eprint", "url"))
    assert doi or eprint or url, f"{name} in book/references.bib needs a doi, eprint or url"
    assert not doi or DOI.fullmatch(doi), f"{name}: {doi} is no DOI"
    assert not eprint or ARXIV.fullmatch(eprint), f"{name}: {eprint} is no arXiv number"
    assert not url or url.startswith("https://"), f"{name}: {url}"


def test_a_link_belongs_to_one_entry():
    for field in ("doi", "eprint"):
        links = [e.fields[field] for e in ENTRIES.values() if field in e.fields]
        assert len(set(links)) == len(links)
