"""What must never be committed, and the examples a reader meets first."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import matplotlib

ROOT = Path(__file__).resolve().parents[2]
MACHINE = re.compile(r"(?<![\w.:/~-])/(?:work|root|home|opt|Users|mnt)/[\w.]+")
BINARY = {".png", ".webp", ".ico", ".woff2", ".gz", ".npz", ".safetensors"}


def tracked() -> list[Path]:
    said = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [p for name in said.stdout.splitlines() if (p := ROOT / name).is_file()]


def test_no_path_of_a_machine():
    found = {}
    for path in tracked():
        if path.suffix not in BINARY:
            if hits := MACHINE.findall(path.read_text("utf-8")):
                found[path.relative_to(ROOT).as_posix()] = hits[:2]
    assert not found


def test_colab_links_open_committed_notebooks():
    names = {path.relative_to(ROOT).as_posix() for path in tracked()}
    pattern = r"colab\.research\.google\.com/github/([^\s)\"'>]+)"
    links = {
        link
        for path in tracked()
        if path.suffix == ".md"
        for link in re.findall(pattern, path.read_text("utf-8"))
    }
    assert links
    for link in links:
        name = link.removeprefix("amtutor/amtutor/blob/main/")
        assert name.endswith(".ipynb") and name in names, f"git add {name} (a Colab link opens it)"


def test_no_large_file():
    large = [p.name for p in tracked() if p.stat().st_size > 4_000_000]
    assert not large


def test_requirements_pin_exactly():
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert pins and all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins)
    assert "torch==2.13.0" in pins
    assert any(pin.startswith("jupyter-book==1.") for pin in pins)


def test_readme_examples_run(monkeypatch):
    matplotlib.use("agg")
    monkeypatch.setenv("AMTUTOR_STATIC", "1")
    text = (ROOT / "README.md").read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert blocks, "the README shows no code"
    names: dict = {"__name__": "readme"}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
