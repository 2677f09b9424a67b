"""The wheel: the same bytes from the same files, all that is needed in it, as heavy as is said."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import build_wheel
from amtutor import __version__

pytest.importorskip("hatchling", reason="hatchling builds the wheel (requirements.txt has it)")

ROOT = Path(__file__).resolve().parents[2]
BESIDE = ("pyproject.toml", ".gitignore", "tools/build_wheel.py")
DAY_IN_2001 = 1_000_000_000


def files() -> list[Path]:
    """What a build may read, relative to the project, sorted."""
    found = [ROOT / name for name in BESIDE]
    for name in build_wheel.SHIPPED:
        path = ROOT / name
        found += [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    return sorted(p.relative_to(ROOT) for p in found if "__pycache__" not in p.parts)


def copy(names: list[Path], place: Path, *, mode: int) -> None:
    for name in names:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, place / name)
        (place / name).chmod(mode)


def built(tree: Path, **environment: str) -> tuple[Path, Path]:
    """Build as ``make wheel`` does, with the tool of that tree."""
    subprocess.run(
        [sys.executable, "tools/build_wheel.py", "--out", "made"],
        cwd=tree,
        env={**os.environ, **environment},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return next((tree / "made").glob("*.whl")), next((tree / "made").glob("*.tar.gz"))


@pytest.fixture(scope="module")
def archives(tmp_path_factory) -> tuple[Path, Path]:
    tree = tmp_path_factory.mktemp("one")
    copy(files(), tree, mode=0o644)
    return built(tree)


def test_two_trees_of_other_times_rights_and_orders_give_the_same_bytes(archives, tmp_path):
    tree = tmp_path / "another-name"
    copy(files()[::-1], tree, mode=0o600)
    for path in tree.rglob("*"):
        os.utime(path, (DAY_IN_2001, DAY_IN_2001))
    cache = tree / "src" / "amtutor" / "__pycache__"
    cache.mkdir()
    (cache / "cli.cpython-311.pyc").write_bytes(b"what an import leaves behind")
    odd = {"SOURCE_DATE_EPOCH": "1234567890", "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7"}
    for first, second in zip(archives, built(tree, **odd), strict=True):
        assert first.name == second.name and first.read_bytes() == second.read_bytes()


def test_the_source_distribution_builds_the_same_wheel(archives, tmp_path):
    wheel, source = archives
    with tarfile.open(source) as archive:
        archive.extractall(tmp_path, filter="data")
    again, _ = build_wheel.build(tmp_path / "made", tmp_path / f"amtutor-{__version__}")
    assert again.read_bytes() == wheel.read_bytes()


def test_it_holds_the_package_and_the_licences_and_nothing_else(archives):
    with zipfile.ZipFile(archives[0]) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        told = archive.read(f"amtutor-{__version__}.dist-info/METADATA").decode()
        licences = [n for n in archive.namelist() if "/licenses/" in n]
    assert names == {p.relative_to("src").as_posix() for p in files() if p.parts[0] == "src"}
    assert len(licences) == 2 and f"Version: {__version__}\n" in told


def test_it_runs_where_it_is_installed(archives, tmp_path):
    """Unpacked alone, away from the repository: presets and weights are found."""
    place = tmp_path / "place"
    with zipfile.ZipFile(archives[0]) as archive:
        archive.extractall(place)
    program = (
        "import amtutor; from amtutor.generative import latent; from amtutor import cli\n"
        "latent.load(); cli.main(['presets'])\n"
        "print(amtutor.__file__)"
    )
    said = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(place)},
        capture_output=True,
        text=True,
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout.splitlines()[-1].startswith(str(place)) and "toy-smoke" in said.stdout


def test_it_is_as_heavy_as_the_page_says(archives):
    """Megabytes in book/using.md are those of the wheel, to their last digit and a little zlib."""
    page = (ROOT / "book" / "using.md").read_text("utf-8")
    for name in ("README.md", "CHANGELOG.md"):
        (said,) = re.findall(r"(\d+) MB(?: wheel| in all)", (ROOT / name).read_text("utf-8"))
        assert abs(archives[0].stat().st_size / 1e6 - float(said)) < 0.6, name
    said = {
        name: float(mb) for name, mb in re.findall(r"^\| `?([\w ]+)`? .*\| ([\d.]+) MB", page, re.M)
    }
    sizes = build_wheel.parts(archives[0])
    found = {k.removeprefix("weights/"): v / 1e6 for k, v in sizes.items()}
    heavy = [k for k in sizes if k.startswith("weights/")]
    found["the whole wheel"] = archives[0].stat().st_size / 1e6
    found["all weights"] = sum(sizes[k] for k in heavy) / 1e6
    assert {"the whole wheel", "all weights", "latent_cpu"} <= set(said)
    for name, mb in said.items():
        assert abs(mb - found[name]) < 0.06 + 0.02 * found[name], f"{name}: {found[name]:.2f} MB"
