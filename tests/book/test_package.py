"""What an installation gets."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import yaml

import amtutor
import plain

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
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


def test_type_hints_are_part_of_the_package():
    (package,) = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert (ROOT / package / "py.typed").is_file()
    assert "Typing :: Typed" in PROJECT["project"]["classifiers"]


def test_a_wrong_type_is_noticed_and_a_right_one_is_not(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "from amtutor._check import shown\nright: str = shown(1.0)\nwrong: int = shown(1.0)\n"
    )
    said = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", str(program)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert said.returncode == 1, said.stderr
    assert re.findall(r":(\d+): error: .*\[(.*)\]$", said.stdout, re.M) == [("3", "assignment")]


def test_one_version_everywhere():
    version = PROJECT["project"]["version"]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    first = re.search(r"^## (\S+) · (\S+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert amtutor.__version__ == version == cited["version"] == first[1]
    assert first[2] == cited["date-released"]
    assert cited["license"] == PROJECT["project"]["license"]
    assert [a["name"] for a in cited["authors"]] == [
        a["name"] for a in PROJECT["project"]["authors"]
    ]


def test_what_the_package_imports_is_declared_or_comes_with_what_is():
    """Where it is needed at once, and where an extra is asked for by `need`."""
    project = PROJECT["project"]
    declared = {name_of(line) for line in project["dependencies"]}
    extra = {name_of(line) for line in project["optional-dependencies"]["train"]}
    brought = {name_of(line) for name in declared for line in metadata.requires(name) or []}
    homes = metadata.packages_distributions()
    for path in (ROOT / "src").rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        asked = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        asked |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and not n.level}
        wanted = {name.split(".")[0] for name in asked} - sys.stdlib_module_names - {"amtutor"}
        for name in wanted:
            homes_of_it = {name_of(home) for home in homes[name]}
            assert homes_of_it & (declared | brought), f"{path.name} imports {name}"
        for name in re.findall(r"\bneed\(f?\"(\w+)", path.read_text("utf-8")):
            assert {name_of(home) for home in homes[name]} & extra, f"{path.name} needs {name}"


def name_of(requirement: str) -> str:
    """The name of a requirement, as the index knows it."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


def test_every_file_of_weights_is_named_where_it_is_said_what_ships():
    said = (ROOT / "book" / "using.md").read_text("utf-8")
    for path in (ROOT / "src" / "amtutor" / "weights").glob("*.safetensors"):
        assert f"`{path.stem}`" in said, f"book/using.md, 'What ships': nothing of {path.stem}"
