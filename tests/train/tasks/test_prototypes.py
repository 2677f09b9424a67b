"""The task behind the dinosaur and the prototypes of digits, through the harness."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("accelerate")

from amtutor import _weights
from amtutor import data as amdata
from amtutor.memory import prototypes as proto
from amtutor.train import Draws
from amtutor.train.loop import fit
from amtutor.train.presets import load_preset
from amtutor.train.tasks import _prototype_figures as figures
from amtutor.train.tasks import _prototype_order as order
from amtutor.train.tasks import prototypes as task_module

QUIET = {"progress": False, "say": lambda line: None}


def config(*sets):
    return load_preset("dinosaur-smoke", list(sets)).config


def test_presets_are_those_of_the_paper():
    dino, digits = (load_preset(n).config for n in ("dinosaur", "mnist-prototypes"))
    assert (dino.n_memories, dino.beta, dino.lr, dino.batch_size, dino.steps) == (
        *(120, 2 * 30, 0.007, 64, 6000),
    )
    assert dino.noise == (1.0, 0.1) and dino.init_std == 1.5
    assert (digits.n_memories, digits.beta, digits.lr, digits.batch_size, digits.steps) == (
        *(1000, 2 * 0.6, 2e-3, 256, 8000),
    )
    assert digits.noise == (1.0, 0.01) and digits.clip and not digits.langevin
    assert {dino.schedule, dino.optimizer, digits.schedule, digits.optimizer} == {
        *("constant", "adam"),
    }


def test_the_smoke_run_draws_a_dinosaur_and_exports_it(tmp_path):
    run = fit(config(), tmp_path, **QUIET)
    last = run.metrics()[-1]
    assert last["step"] == 600 and last["eval/dead_fraction"] < 0.3
    assert last["eval/log_likelihood"] > -2.2
    memories = _weights.read_safetensors(tmp_path / "memories.safetensors")["memories"]
    assert memories.shape == (120, 2) and memories.dtype == torch.float16
    model = run.model()
    assert torch.equal(memories, model.memories.half())
    assert torch.equal(model.film[-1], model.memories.half())  # the film ends with the training
    assert not torch.equal(model.film[0], model.film[1])
    drawn = run.task.figures(model, run.data, tmp_path / "figures", metrics=run.metrics())
    assert [p.name for p in drawn] == ["fig1_memories.png", "fig5_energy.png"]
    assert all(p.stat().st_size > 10_000 for p in drawn)


def test_a_run_in_two_parts_is_the_run_in_one(tmp_path):
    extra = ("checkpoint_every=20", "replace_every=15", "langevin=0.01", "log_every=10")
    whole = fit(config("steps=40", *extra), tmp_path / "whole", **QUIET)
    fit(config("steps=40", *extra), tmp_path / "parts", **QUIET)
    again = sorted((tmp_path / "parts" / "checkpoints").iterdir())[-1]
    for file in again.iterdir():
        file.unlink()
    again.rmdir()
    (tmp_path / "parts" / "finished.txt").unlink(missing_ok=True)
    parts = fit(config("steps=40", *extra), tmp_path / "parts", **QUIET)
    assert torch.equal(whole.model().memories, parts.model().memories)


def test_the_loss_is_the_mean_energy_of_a_noisy_batch():
    c = config()
    task = task_module.Prototypes(c)
    data, model = task.data(), task.build()
    draws = Draws(c.seed, 0, c.batch_size)
    with torch.no_grad():
        task.start(model, data, Draws(c.seed, -1, c.batch_size))
    loss, _ = task.loss(model, data, draws)
    x = task.noisy(data, draws)
    assert loss.item() == pytest.approx(
        float(proto.mean_energy(x, model.memories.detach(), beta=c.beta))
    )
    (slope,) = torch.autograd.grad(loss, model.memories)
    closed = proto.memory_gradient(x, model.memories.detach(), beta=c.beta)
    assert torch.allclose(slope, closed, atol=1e-6)
    gaps = torch.cdist(x, data["points"]).min(1).values
    assert gaps.mean() > 0.2  # noise of std 1 at the first step
    late = task.noisy(data, Draws(c.seed, c.steps - 1, c.batch_size))
    assert torch.cdist(late, data["points"]).min(1).values.mean() < 0.15


def test_replacement_and_langevin_change_memories_only_where_asked():
    c = config("replace_every=10", "langevin=0.02")
    task = task_module.Prototypes(c)
    data, model = task.data(), task.build()
    with torch.no_grad():
        task.start(model, data, Draws(c.seed, -1, c.batch_size))
        model.memories[:5] = 50.0
        before = model.memories.clone()
        task.after_step(model, data, 10, Draws(c.seed, 9, c.batch_size))
    assert (model.memories[:5].abs() < 5).all()
    assert not torch.equal(model.memories[5:], before[5:])
    plain = task_module.Prototypes(config())
    with torch.no_grad():
        before = model.memories.clone()
        plain.after_step(model, data, 10, Draws(c.seed, 9, c.batch_size))
    assert torch.equal(model.memories, before)


ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("name", ["dinosaur", "datasaurus"])
def test_points_in_the_plane_have_one_scale(name):
    try:
        points = task_module.plane(name)
    except amdata.DataNotFound as missing:
        pytest.skip(str(missing))
    assert points.shape == (142, 2) and points.mean(0).abs().max() < 1e-5
    assert float(points.square().sum(1).mean()) == pytest.approx(2, abs=1e-4)


def test_digits_are_learned_and_sampled(tmp_path):
    try:
        task_module.digits("mnist-8000")
    except amdata.DataNotFound as missing:
        pytest.skip(str(missing))
    c = load_preset(
        "mnist-prototypes-smoke", ["steps=40", "n_memories=40", "checkpoint_every=0"]
    ).config
    run = fit(c, tmp_path, **QUIET)
    first, last = run.metrics()[0], run.metrics()[-1]
    assert last["loss"] < first["loss"]
    saved = _weights.read_safetensors(tmp_path / "memories.safetensors")
    assert saved["memories"].shape == (40, 784) and (saved["labels"].int().diff() >= 0).all()
    picture = run.task.sample(run.model(), 3, seed=0)
    assert picture.shape == (3, 1, 28, 28) and picture.dtype == torch.uint8


def test_every_panel_has_the_landscape_of_its_own_frame(tmp_path, monkeypatch):
    """Each energy that is drawn is lowest, of all frames' memories, at its own."""
    drawn, draw = [], figures.show.landscape

    def spy(energy, **how):
        drawn.append(energy)
        return draw(energy, **{**how, "resolution": 8})

    monkeypatch.setattr(figures.show, "landscape", spy)
    film = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]).reshape(5, 1, 1).expand(5, 3, 2)
    data = {"points": torch.zeros(4, 2)}
    figures.plane(film, data, tmp_path, beta=60.0, energies=[(1, 0.5), (2, 0.25)])
    energies = torch.stack([energy(film[:, 0]) for energy in drawn])
    assert energies.argmin(1).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("clip", [True, False])
def test_noisy_data_are_brought_back_between_paper_and_ink_only_where_asked(clip):
    c = load_preset("mnist-prototypes-smoke", [f"clip={clip}"]).config
    points = torch.rand(20, 784, generator=torch.Generator().manual_seed(0))
    x = task_module.Prototypes(c).noisy({"points": points}, Draws(0, 0, 8))
    assert x.shape == (8, 784) and (bool(x.min() < 0), bool(x.max() > 1)) == (not clip, not clip)


def test_what_ships_is_sorted_and_every_memory_keeps_its_name(tmp_path, monkeypatch):
    """Points of one ink each, named by it; memories beside them in a shuffled order."""
    named = torch.tensor([2, 0, 3, 1])
    ink = torch.arange(4.0).repeat_interleave(6)[:, None].expand(24, 784)
    data = {"points": ink, "labels": torch.arange(4).repeat_interleave(6)}
    task = task_module.Prototypes(load_preset("mnist-prototypes-smoke", ["n_memories=4"]).config)
    monkeypatch.setattr(task, "data", lambda: data)
    model = task.build()
    with torch.no_grad():
        model.memories.copy_(named[:, None].float().expand(4, 784))
    task.finish(model, tmp_path)
    saved = _weights.read_safetensors(tmp_path / "memories.safetensors")
    assert saved["labels"].tolist() == [0, 1, 2, 3] == saved["memories"][:, 0].tolist()


def test_slant_and_order():
    upright = torch.zeros(28, 28)
    upright[:, 14] = 1
    left = torch.eye(28)
    images = torch.stack([left.flip(1), upright, left]).flatten(1)
    assert order.slant(images).tolist() == pytest.approx([1, 0, -1], abs=1e-4)
    found = order.by_class_and_slant(images, torch.tensor([1, 1, 0]))
    assert found.tolist() == [2, 1, 0]


def test_names_by_vote():
    points = torch.tensor([[0.0], [0.1], [0.2], [5.0], [5.1]])
    labels = torch.tensor([1, 2, 2, 7, 7])
    named = order.nearest_label(torch.tensor([[0.0], [5.0]]), points, labels, k=3)
    assert named.tolist() == [2, 7]


@pytest.mark.parametrize(
    "word, message",
    [
        ("points=cats", "points = 'cats'"),
        ("beta=0", "beta = 0.0"),
        ("n_memories=0", "n_memories = 0"),
        ("noise=-1,0", "noise = -1.0"),
        ("langevin=-1", "langevin = -1.0"),
    ],
)
def test_bad_settings_are_refused_in_one_line(word, message):
    with pytest.raises(ValueError, match=message):
        config(word)


def test_the_committed_runs_are_of_the_presets():
    for name in ("dinosaur", "mnist-prototypes"):
        kept = json.loads((ROOT / "results" / name / "config.json").read_text("utf-8"))["config"]
        assert kept == load_preset(name).config.to_dict()
