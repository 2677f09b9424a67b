"""An optional package that is missing gets one line, which says how to install it."""

from __future__ import annotations

import re
import sys

import pytest
import torch
from small_runs import small

from amtutor import cli, evaluate
from amtutor._extras import MissingExtra, need
from amtutor.network import inpainting
from amtutor.train import fit

COMMAND = r'pip install "amtutor\[train\]"'


@pytest.fixture
def without(monkeypatch):
    """Hide a package, as if it had never been installed."""

    def hide(name):
        for module in [m for m in sys.modules if m.startswith(f"{name}.")]:
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.setitem(sys.modules, name, None)

    return hide


def test_what_is_there_is_imported_and_what_is_not_is_one_line():
    assert need("json.decoder").JSONDecoder
    with pytest.raises(MissingExtra, match=f"^no_such_package is missing .*: {COMMAND}$") as found:
        need("no_such_package.part")
    assert "\n" not in str(found.value) and found.value.__suppress_context__


def test_filling_by_scikit_image(without):
    without("skimage")
    hidden = torch.tensor([[True, False, False, False]])
    with pytest.raises(MissingExtra, match=f"^skimage is missing .*: {COMMAND}$"):
        inpainting.biharmonic_fill(torch.zeros(1, 3, 8, 8), hidden)


@pytest.mark.parametrize("package", ["torchvision", "torch_fidelity"])
def test_distances_of_pictures(without, package):
    without(package)
    found = evaluate.Features(torch.randn(9, 2), torch.randn(9, 2), "")
    with pytest.raises(MissingExtra, match=f"^{package} is missing .*: {COMMAND}$"):
        evaluate.frechet(found, found)


def test_training_needs_accelerate_and_the_command_line_says_so(without, tmp_path, capsys):
    without("accelerate")
    with pytest.raises(MissingExtra, match=f"^accelerate is missing .*: {COMMAND}$"):
        fit(small(), tmp_path / "run", progress=False, device="cpu")
    assert cli.main(["train", "toy-smoke", "--out", str(tmp_path / "other")])
    said = capsys.readouterr().err
    assert re.fullmatch(f"amtutor: accelerate is missing .*: {COMMAND}\n", said)


def test_a_run_without_tensorboard_says_so_and_keeps_its_numbers(without, tmp_path):
    without("tensorboard")
    lines = []
    run = fit(small(), tmp_path / "run", progress=False, say=lines.append, device="cpu")
    assert run.finished and run.metrics()[-1]["step"] == small().steps
    told = [line for line in lines if "TensorBoard" in line]
    assert len(told) == 1 and re.search(f"tensorboard is missing .*: {COMMAND}$", told[0])
