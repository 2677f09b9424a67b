"""The plan of the house holds: floors go down, no circle of files or of folders, doors open."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import amtutor

SRC = Path(amtutor.__file__).resolve().parent
FLOORS = {
    "cli": 6,
    "__main__": 7,
    "train": 5,
    "evaluate": 4,
    "fast": 4,
    "generative": 3,
    "network": 2,
    "memory": 2,
    "descent": 1,
    "data": 1,
    "show": 1,
}
GROUND = {"__init__", "_check", "_draw", "_extras", "_files", "_threads", "_weights"}
MODULES = {
    ".".join(("amtutor", *p.relative_to(SRC).with_suffix("").parts)).removesuffix(".__init__"): p
    for p in sorted(SRC.rglob("*.py"))
}


def room(module: str) -> str:
    """amtutor.memory.dense -> memory; the package itself is __init__."""
    return (module.split(".") + ["__init__"])[1]


def floor(module: str) -> int:
    name = room(module)
    assert name in FLOORS or name in GROUND, f"{module}: on which floor? (tests/test_house.py)"
    return FLOORS.get(name, 0)


def imports(module: str, path: Path) -> dict[str, int]:
    """What a file imports of amtutor, anywhere in it, with the line; also behind TYPE_CHECKING."""
    found: dict[str, int] = {}
    package = module if path.stem == "__init__" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *filter(None, [base])])
            deeper = [f"{base}.{alias.name}" for alias in node.names]
            names = [d if d in MODULES else base for d in deeper]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "amtutor":
                found.setdefault(name if name in MODULES else name.rpartition(".")[0], node.lineno)
    found.pop(module, None)
    return found


ARROWS = {module: imports(module, path) for module, path in MODULES.items()}


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Every circle that a walk in depth meets, each as its stations."""
    found, done = [], set()

    def walk(at: str, way: list[str]) -> None:
        if at in way:
            found.append([*way[way.index(at) :], at])
        elif at not in done:
            for there in sorted(arrows.get(at, ())):
                walk(there, [*way, at])
            done.add(at)

    for start in sorted(arrows):
        walk(start, [])
    return found


def test_the_reader_of_imports_sees_them():
    assert "amtutor.descent" in ARROWS["amtutor.memory.dense"]
    assert "amtutor._check" in ARROWS["amtutor.network.ham"]
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == [["a", "b", "c", "a"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}}) == []


def test_floors_go_down():
    faults = [
        f"{MODULES[module].relative_to(SRC)}:{line} imports {target}, which is not below it"
        for module, targets in ARROWS.items()
        for target, line in targets.items()
        if target != "amtutor"  # its version; its doors are for readers
        and room(target) != room(module)
        and floor(target) >= floor(module) > 0
    ]
    assert not faults, "\n".join(faults)


def test_the_ground_imports_the_ground():
    faults = [
        f"{module}:{line} imports {target}"
        for module, targets in ARROWS.items()
        for target, line in targets.items()
        if floor(module) == 0 and floor(target) > 0
    ]
    assert not faults, "\n".join(faults)


def test_no_circle_of_files():
    # a package's own door opens its files; a file that wants a sibling names it
    arrows = {m: {t for t in targets if t != "amtutor"} for m, targets in ARROWS.items()}
    assert not circles(arrows), "\n".join(" -> ".join(c) for c in circles(arrows))


def test_no_circle_of_folders():
    rooms: dict[str, set[str]] = {}
    for module, targets in ARROWS.items():
        rooms.setdefault(room(module), set()).update(
            room(t) for t in targets if room(t) not in (room(module), "__init__")
        )
    rooms.pop("__init__", None)
    assert not circles(rooms), "\n".join(" -> ".join(c) for c in circles(rooms))


@pytest.mark.parametrize("name", sorted(amtutor._DOORS))
def test_every_door_opens(name):
    found = getattr(amtutor, name)
    home = importlib.import_module(f"amtutor.{amtutor._DOORS[name]}")
    assert found is getattr(home, name) and name in home.__all__ and name in dir(amtutor)


def test_doors_are_few_and_cost_nothing():
    assert 20 <= len(amtutor._DOORS) <= 32
    code = (
        "import sys, amtutor; dir(amtutor); print('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["False", "False"]


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'DenseMA'"):
        _ = amtutor.DenseMA


def test_tests_mirror_the_rooms():
    """A test file of a room is named after a file of that room."""
    tests = Path(__file__).resolve().parent
    stray = []
    for name in ("memory", "network", "generative", "fast", "evaluate", "train", "data", "show"):
        files = {p.stem.lstrip("_") for p in (SRC / name).rglob("*.py")} | {name}
        for path in sorted((tests / name).rglob("test_*.py")):
            what = path.stem.removeprefix("test_")
            if not any(what == f or what.startswith(f + "_") for f in files):
                stray.append(str(path.relative_to(tests)))
    assert not stray, f"no such file in src/amtutor: {stray}"
