"""What an installation gets, and one address for the repository everywhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

import plain

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
URLS = PROJECT["project"]["urls"]
README = (ROOT / "README.md").read_text("utf-8")


def test_licences_of_code_and_text_are_in_the_package():
    files = PROJECT["project"]["license-files"]
    assert sorted(files) == sorted(p.name for p in ROOT.glob("LICENSE*"))


def test_the_source_distribution_holds_what_is_installed_and_no_tests_that_cannot_run():
    included = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert all(name.startswith("/") and (ROOT / name[1:]).exists() for name in included)
    assert {f"/{name}" for name in PROJECT["project"]["license-files"]} <= set(included)
    assert {"/src", "/README.md", "/pyproject.toml"} <= set(included)
    assert not any("tests" in name for name in included)


def test_pictures_of_the_readme_show_on_the_package_index():
    pictures = re.findall(r'<img src="([^"]+)"|!\[[^\]]*\]\(([^)]+)\)', README)
    addresses = {a or b for a, b in pictures}
    assert addresses
    for address in addresses:
        path = address.removeprefix(plain.addresses()["raw"] + "/").removesuffix("?sanitize=true")
        assert (ROOT / path).is_file(), f"{address} is no picture of this repository"


def test_the_address_of_the_repository_is_the_same_everywhere():
    """Who moves the repository changes pyproject.toml, and sees here what is left."""
    source = URLS["Source"]
    assert URLS["Issues"] == f"{source}/issues" and URLS["Homepage"] == URLS["Documentation"]
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    assert config["repository"]["url"] == source
    assert config["html"]["baseurl"] == URLS["Documentation"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))["url"] == source
    owner = re.escape(source.removeprefix("https://github.com/").split("/")[0])
    told = re.compile(rf"(?:github\.com|github|githubusercontent\.com)/({owner}/[\w-]+)")
    name = source.removeprefix("https://github.com/")
    for path in [*ROOT.glob("*.md"), *plain.BOOK.glob("*.md")]:
        others = {found for found in told.findall(path.read_text("utf-8")) if found != name}
        assert not others, f"{path.name} names another repository: {others}"
