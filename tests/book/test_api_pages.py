"""Every public name has its place in the API pages, and an example that runs."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import matplotlib
import matplotlib.pyplot
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "book").glob("api_*.md"))
TEXT = {page.stem: page.read_text("utf-8") for page in PAGES}
ALL = "\n".join(TEXT.values())
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MODULES = re.findall(r"automodule::\s*([\w.]+)", ALL)
EXAMPLES = "\n".join(FENCE.findall(ALL))
ROOMS = ("memory", "network", "generative")


def test_every_module_of_a_room_has_its_place():
    for room in ROOMS:
        for path in (ROOT / "src" / "amtutor" / room).glob("[!_]*.py"):
            name = f"amtutor.{room}.{path.stem}"
            module = importlib.import_module(name)
            assert name in MODULES or not hasattr(module, "__all__"), f"{name} is on no page"


def test_every_module_of_evaluate_has_its_place():
    for path in (ROOT / "src" / "amtutor" / "evaluate").glob("[!_]*.py"):
        assert f"amtutor.evaluate.{path.stem}" in MODULES, f"{path.stem} is on no page"


@pytest.mark.parametrize("room", ["data", "show", "fast", "train", "evaluate"])
def test_every_name_of_a_room_has_its_place(room):
    package = importlib.import_module(f"amtutor.{room}")
    if package.__name__ in MODULES and room != "train":
        return  # automodule takes all of __all__
    for name in package.__all__:
        home = getattr(package, name).__module__
        listed = re.search(rf"auto(class|function):: {re.escape(home)}\.{name}$", ALL, re.MULTILINE)
        assert home in MODULES or listed, f"{home}.{name} is on no page"


@pytest.mark.parametrize("name", [*dict.fromkeys(MODULES), "amtutor.evaluate"])
def test_every_public_function_and_class_has_an_example(name):
    module = importlib.import_module(name)
    lacking = []
    for public in getattr(module, "__all__", ()):
        found = getattr(module, public)
        if not callable(found):
            continue
        told = inspect.getdoc(found) or ""
        if inspect.isclass(found):
            told += "".join(str(getattr(v, "__doc__", "")) for v in vars(found).values())
        if ">>>" not in told and not re.search(rf"\b{public}\b", EXAMPLES):
            lacking.append(public)
    assert not lacking, f"{name}: no example of {lacking}; write one, or use it on book/api_*.md"


def test_every_command_has_its_row():
    from amtutor import cli

    (commands,) = [a for a in cli.parser()._actions if a.dest == "command"]
    for command in commands.choices:
        assert f"| `amtutor {command}" in TEXT["api_scale"]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_examples_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    names: dict = {"__name__": page.stem}
    for number, code in enumerate(FENCE.findall(TEXT[page.stem])):
        exec(compile(code, f"{page.name}, example {number + 1}", "exec"), names)
    matplotlib.pyplot.close("all")
