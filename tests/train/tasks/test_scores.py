"""The task behind the learned scores, through the harness."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("accelerate")

from amtutor import _weights
from amtutor.generative import score_networks as sn
from amtutor.generative.diffusion import VarianceExploding
from amtutor.train import Draws
from amtutor.train.loop import fit
from amtutor.train.presets import load_preset
from amtutor.train.run import build_model
from amtutor.train.tasks.scores import Scores, circle_points

QUIET = {"progress": False, "say": lambda line: None}


def config(*sets):
    return load_preset("circle-smoke", list(sets)).config


@pytest.mark.parametrize("kind", ["score", "energy"])
def test_the_smoke_run_learns_and_exports(tmp_path, kind):
    run = fit(config(f"kind={kind}"), tmp_path, **QUIET)
    last = run.metrics()[-1]
    assert last["step"] == 60
    assert 0 < last["eval/relative_error"] < 1  # 1 is the error of no arrows at all
    assert (last["eval/asymmetry"] < 1e-4) == (kind == "energy")
    several = "_energy" if kind == "energy" else ""
    path = tmp_path / f"circle_9{several}.safetensors"
    tensors = _weights.read_safetensors(path)
    assert torch.equal(tensors["points"], run.data["points"].half())
    again = sn.build(run.task.sizes(), tensors)
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(again(x, 1.0), run.model()(x, 1.0), atol=2e-2)


def test_a_run_in_two_parts_is_the_run_in_one(tmp_path):
    extra = ("steps=40", "checkpoint_every=20", "log_every=10", "kind=energy")
    whole = fit(config(*extra), tmp_path / "whole", **QUIET)
    fit(config(*extra), tmp_path / "parts", **QUIET)
    newest = sorted((tmp_path / "parts" / "checkpoints").iterdir())[-1]
    for file in newest.iterdir():
        file.unlink()
    newest.rmdir()
    (tmp_path / "parts" / "finished.txt").unlink(missing_ok=True)
    parts = fit(config(*extra), tmp_path / "parts", **QUIET)
    ours, theirs = whole.model().state_dict(), parts.model().state_dict()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.mark.parametrize("draw", ["log", "uniform"])
def test_the_loss_is_the_mean_of_a_noisy_batch(draw):
    c = config(f"time_draw={draw}", "weight=0.5", "t_min=0.01", "t_max=4.0")
    task = Scores(c)
    data, model, draws = task.data(), build_model(task), Draws(3, 5, 64)
    loss, _ = task.loss(model, data, draws)
    u = draws.uniform("times")
    t = 0.01 * 400**u if draw == "log" else 0.01 + 3.99 * u
    y = data["points"][draws.integers("rows", 0, 9)]
    wanted = sn.denoising_loss(
        model,
        y,
        t=t,
        process=VarianceExploding(1.0),
        noise=draws.normal("noise", (2,)),
        weight=0.5,
    )
    assert loss.item() == pytest.approx(wanted.mean().item(), rel=1e-6)


def test_points_and_sizes():
    assert torch.allclose(circle_points(50, seed=3).norm(dim=1), torch.ones(50))
    assert not torch.equal(circle_points(5, seed=0), circle_points(5, seed=1))
    digits = Scores(config("points=digits", "n_memories=12"))
    points = digits.data()["points"]
    assert points.shape == (12, 64) and 0 <= points.min() and points.max() <= 1
    model = build_model(digits)
    assert torch.equal(model.centre, points.mean(0))
    pictures = digits.sample(model, 3, seed=0)
    assert pictures.shape == (3, 1, 8, 8) and pictures.dtype == torch.uint8
    one = Scores(config("n_memories=1"))
    assert one.sizes()["spread"] == 1.0  # a single point has none of its own


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("t_max=1e-5", "t_min = 0.001: expected less than t_max"),
        ("kind=arrow", "kind = 'arrow': expected one of 'score', 'energy'"),
    ],
)
def test_settings_that_cannot_be(word, message):
    with pytest.raises(ValueError, match=message):
        config(word)
    with pytest.raises(ValueError, match="expected at most 1400 digits"):
        config("points=digits", "n_memories=1401")
