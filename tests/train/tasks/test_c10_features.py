"""The task behind fd-c10, on made-up pictures: augmentation, groups, training, export."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from amtutor import data
from amtutor.evaluate import c10
from amtutor.train import Draws, fit, load_preset
from amtutor.train.tasks.c10_features import C10Features, accuracy, augment

SMALL = ["batch_size=20", "held_out=0", "train_images=0", "log_every=2", "checkpoint_every=0"]


@pytest.fixture
def splits(monkeypatch):
    """A CIFAR-10 of 60 and 30 pictures; returns the names of the splits that were asked for."""
    g, asked = np.random.default_rng(0), []
    sizes = {"train": 60, "test": 30}
    made = {k: g.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8) for k, n in sizes.items()}

    def cifar10(split):
        asked.append(split)
        return made[split], np.arange(sizes[split]) % 10

    monkeypatch.setattr(data, "cifar10", cifar10)
    return asked


def task(*sets: str) -> C10Features:
    return C10Features(load_preset("c10-features-smoke", [*SMALL, *sets]).config, "cpu")


def test_augmentation_is_mirror_then_move_with_reflection():
    g = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (9, 3, 6, 8), generator=g, dtype=torch.uint8)
    rows = torch.tensor([4, 0, 8, 4, 2])
    flip = torch.tensor([0, 1, 1, 0, 1])
    shift = torch.tensor([[0, 0], [1, -2], [-2, 2], [2, 1], [0, -1]])
    found = augment(images, rows, flip, shift)
    for k in range(5):
        one = images[rows[k]].numpy()
        one = one[:, :, ::-1] if flip[k] else one
        padded = np.pad(one, ((0, 0), (2, 2), (2, 2)), mode="reflect")
        down, right = shift[k].tolist()
        expected = padded[:, 2 - down : 8 - down, 2 - right : 10 - right]
        np.testing.assert_array_equal(found[k].numpy(), expected)
    assert found.dtype == torch.uint8


def test_a_picture_is_mirrored_every_other_epoch(splits):
    t = task("translate=0")
    seen: dict[int, list[torch.Tensor]] = {}
    model = Recorder()
    for step in range(9):  # three epochs of 60 pictures
        draws = Draws(t.config.seed, step, 20)
        t.loss(model, t.data(), draws)
        for row, image in zip(draws.rows(60).tolist(), model.last, strict=True):
            seen.setdefault(row, []).append(image)
    starts = set()
    for row, (first, second, third) in seen.items():
        assert torch.equal(first, third) and torch.equal(first.flip(-1), second)
        starts.add(torch.equal(first, t.data()["images"][row]))
    assert starts == {True, False}


class Recorder(torch.nn.Module):
    def forward(self, images):
        self.last = images
        return torch.zeros(len(images), 10)


def test_every_parameter_that_learns_is_in_one_group(splits):
    t = task()
    model = t.build()
    groups = t.groups(model)
    grouped = [id(p) for g in groups for p in g["params"]]
    learning = [id(p) for p in model.parameters() if p.requires_grad]
    assert sorted(grouped) == sorted(learning)
    assert groups[0]["lr_scale"] == 64 and groups[0]["weight_decay"] == 0
    assert all(p.ndim == 1 for p in groups[0]["params"]) and len(groups[0]["params"]) == 6
    assert not model.whitening.weight.requires_grad


def test_settings_are_chosen_without_the_test_pictures(splits):
    t = task("held_out=10")
    assert len(t.data()["images"]) == 50 and len(t.data()["test_images"]) == 10
    assert splits == ["train"]
    assert set(t.evaluate(t.build(), t.data())) == {"held_out_accuracy", "held_out_accuracy_flip"}
    assert len(task("train_images=25").data()["images"]) == 25


def test_accuracy_counts_right_answers():
    class Brightest(torch.nn.Module):
        def forward(self, images):
            return images[:, 0, 0, :10].float()  # the mirror image has another corner

    images = torch.zeros(8, 3, 4, 24, dtype=torch.uint8)
    labels = torch.arange(8)
    images[torch.arange(8), 0, 0, labels] = 200
    images[:4, 0, 0, 23] = 250  # seen at 0 in the mirror, brighter than the answer
    model = Brightest().train()
    plain, both = accuracy(model, images, labels, batch_size=3)
    assert plain == 1.0 and both == 0.625 and model.training


def test_a_short_training_learns_and_exports_weights_that_load(splits, tmp_path):
    pytest.importorskip("accelerate", reason='training needs pip install "amtutor[train]"')
    config = load_preset("c10-features-smoke", [*SMALL, "steps=8", "warmup_steps=2"]).config
    run = fit(config, tmp_path / "run", progress=False)
    losses = [line["loss"] for line in run.metrics()]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]
    before = C10Features(config, "cpu")
    fresh = before.build()
    before.start(fresh, before.data(), None)
    model = run.model()
    assert torch.equal(model.whitening.weight, fresh.whitening.weight)
    (path,) = run.folder.rglob("c10_features.safetensors")
    loaded = c10.load(path)
    for name, value in loaded.state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[name], rtol=1e-3, atol=1e-3)
    about = json.loads(path.with_suffix(".json").read_text("utf-8"))
    assert about["training_images"] == 60 and 0 <= about["metrics"]["test_accuracy"] <= 1
    assert about["config"]["widths"] == [16, 32, 32]


def test_the_network_of_the_preset_fits_in_three_megabytes():
    config = load_preset("c10-features").config
    model = c10.Classifier(config.widths)
    count = sum(v.numel() for v in model.state_dict().values())
    assert 2 * count < 3_000_000 and config.held_out == 0 and config.train_images == 0
