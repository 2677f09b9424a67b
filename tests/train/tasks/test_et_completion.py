"""The completion task: what is hidden, what is counted, what a finished run exports."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch

from amtutor import _weights, data
from amtutor.network.masked_images import MaskedImageModel, PlainTransformer, build
from amtutor.train import Draws, find_task, load_preset
from amtutor.train.tasks import et_completion as ec

PRESETS = ["et-completion", "et-completion-large", "et-completion-smoke", "transformer-completion"]


@pytest.fixture
def photos(monkeypatch):
    """Pictures that are always at hand, in the place of CIFAR-10."""
    monkeypatch.setattr(data, "cifar10", lambda split: (data.photos(), None))


def task(*sets):
    preset = load_preset("et-completion-smoke", ["held_out=10", "fast=no", *sets])
    return find_task("et-completion")(preset.config, "cpu")


@pytest.mark.parametrize("name", PRESETS)
def test_presets_build_what_they_say(name):
    preset = load_preset(name)
    kind = {"energy": MaskedImageModel, "transformer": PlainTransformer}[preset.config.core]
    model = build(preset.config.to_dict())
    assert isinstance(model, kind) and preset.about and preset.source
    if name == "et-completion-large":
        assert model.dim >= 256
    if kind is MaskedImageModel:
        assert (model.descent_steps, model.step_size) == (
            preset.config.descent_steps,
            preset.config.step_size,
        )
        assert model.block.attention.exclude_self


def test_the_comparison_is_fair():
    energy, plain = (load_preset(n).config for n in ("et-completion", "transformer-completion"))
    sizes = [sum(p.numel() for p in build(c.to_dict()).parameters()) for c in (energy, plain)]
    assert abs(sizes[0] / sizes[1] - 1) < 0.01
    for key in ("steps", "batch_size", "fractions", "held_out", "schedule", "ema_decay", "seed"):
        assert getattr(energy, key) == getattr(plain, key)


def test_held_out_pictures_are_apart(photos):
    parts = task().data()
    assert len(parts["images"]) == 20 and len(parts["held_out"]) == 10
    assert torch.equal(torch.cat(list(parts.values())), torch.from_numpy(data.photos()))


def test_loss_counts_hidden_pixels_only(photos):
    """A guess that is right where something is hidden, and absurd elsewhere, costs nothing."""
    t = task()
    parts, seen = t.data(), {}

    class Oracle(torch.nn.Module):
        def __init__(self, offset):
            super().__init__()
            self.offset = offset

        def forward(self, images, hidden):
            seen["share"] = hidden.double().mean(1)
            right = ec.to_patches(images, 4)
            return torch.where(hidden[..., None], right + self.offset, torch.full_like(right, 99.0))

    for offset, expected in ((0.0, 0.0), (0.1, 0.01)):
        loss, metrics = t.loss(Oracle(offset), parts, Draws(0, 5, 32))
        assert float(metrics["mse"]) == pytest.approx(expected, abs=1e-6)
        assert float(loss) == pytest.approx(expected / 0.063, abs=1e-4)
    assert set(seen["share"].tolist()) == {0.5, 0.75}


def test_half_the_pictures_are_mirrored(photos):
    t = task("batch_size=20")
    parts, caught = t.data(), []

    class Spy(torch.nn.Module):
        def forward(self, images, hidden):
            caught.append(images)
            return ec.to_patches(images, 4)

    draws = Draws(0, 0, 20)
    t.loss(Spy(), parts, draws)
    true = parts["images"][draws.rows(20)].float() / 255
    plain = (caught[0] == true).flatten(1).all(1)
    mirrored = (caught[0] == true.flip(-1)).flatten(1).all(1)
    assert (plain ^ mirrored).all() and 3 <= int(plain.sum()) <= 17


def test_gamma_stays_positive(photos):
    t = task()
    model = t.build()
    with torch.no_grad():
        model.block.norm.gamma.fill_(-1.0)
        t.after_step(model, {}, 1, Draws(0, 0, 4))
        assert float(model.block.norm.gamma) > 0
        plain = build(load_preset("transformer-completion").config.to_dict())
        t.after_step(plain, {}, 1, Draws(0, 0, 4))  # has none, and needs none


@pytest.mark.parametrize(
    "sets, message",
    [
        ("core=what", "core = 'what'"),
        ("fractions=0.5,1.0", "fractions = "),
        ("held_out=0", "held_out = 0"),
    ],
)
def test_bad_settings(sets, message):
    with pytest.raises(ValueError, match=message):
        task(sets)


def test_learning_lowers_the_error_and_exports_what_it_measured(photos, tmp_path):
    pytest.importorskip("safetensors")
    t = task("dim=32", "n_memories=32", "batch_size=16", "precision=fp32")
    torch.manual_seed(0)
    model, parts = t.build(), t.data()
    before = t.evaluate(model, parts)
    optimizer = torch.optim.AdamW(t.groups(model), lr=3e-3)
    for step in range(60):
        loss, _ = t.loss(model, parts, Draws(0, step, 16))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval().requires_grad_(False)
    after = t.evaluate(model, parts)
    assert all(after[k] < 0.9 * before[k] for k in ("mse_50", "mse_75"))
    t.finish(model, tmp_path)
    path = tmp_path / "et_completion.safetensors"
    card = json.loads(path.with_suffix(".json").read_text("utf-8"))
    assert card["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert card["config"] == t.config.to_dict()
    assert card["metrics"]["held_out_mse_50"] == pytest.approx(after["mse_50"], rel=0.02)
    grid = t.sample(model, 9, seed=0)
    assert grid.shape == (9, 3, 32, 32) and grid.dtype == torch.uint8
    assert torch.equal(grid[2], parts["held_out"][0])


def test_what_is_measured_is_what_ships(photos, tmp_path, monkeypatch):
    """The model that the card speaks of has the numbers of the file, halves, to the last bit."""
    run_task = task()
    spoken_of = []
    monkeypatch.setattr(run_task, "card", lambda model: spoken_of.append(model) or {})
    run_task.finish(run_task.build(), tmp_path)
    shipped = _weights.read_safetensors(tmp_path / "et_completion.safetensors")
    own = spoken_of[0].state_dict()
    assert own.keys() == shipped.keys()
    assert all(torch.equal(own[k], v.float()) for k, v in shipped.items())


def test_figures_are_drawn_for_what_has_an_energy(photos, tmp_path):
    t = task()
    model = t.build().requires_grad_(False)
    paths = t.figures(model, t.data(), tmp_path / "figures", metrics=[])
    assert len(paths) == 2 and all(path.stat().st_size > 5_000 for path in paths)
    plain = task("core=transformer", "hidden=8")
    assert t.draws_figures and not plain.draws_figures
