"""The repository's address stands in pyproject.toml and is the same wherever else it is written."""

from __future__ import annotations

import pytest
import yaml
from site_project import repository, site

import address


def test_every_file_has_the_address_of_pyproject():
    others = [
        p.name
        for p in address.tracked()
        if address.rewritten(p.read_text("utf-8")) != p.read_text("utf-8")
    ]
    assert not others, "python tools/address.py writes it into them"


def test_the_configuration_of_the_site_agrees():
    config = yaml.safe_load((address.ROOT / "_config.yml").read_text("utf-8"))
    assert config["repository"]["url"] == repository()
    assert config["html"]["baseurl"] == site()


@pytest.mark.parametrize(
    "text",
    [
        "git+https://github.com/{owner}/{name}",
        "https://colab.research.google.com/github/{owner}/{name}/blob/main/x.ipynb",
        "https://github.com/{owner}/{name}/issues",
        "https://raw.githubusercontent.com/{owner}/{name}/main/x.png",
    ],
)
def test_a_new_owner_is_written_everywhere(text):
    here = text.format(owner=repository().split("/")[3], name=address.NAME)
    assert address.rewritten(text.format(owner="somebody-else", name=address.NAME)) == here
    other = text.format(owner="somebody-else", name="another")
    assert address.rewritten(other) == other
