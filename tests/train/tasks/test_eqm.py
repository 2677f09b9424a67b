"""Equilibrium Matching as a task: presets, loss, every model trained a little and drawn from."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("accelerate")

from amtutor.generative.equilibrium import eqm_loss
from amtutor.generative.latent import to_pixels
from amtutor.network import towers
from amtutor.train import Draws, fit, load_preset
from amtutor.train.limits import count_parameters
from amtutor.train.run import build_model
from amtutor.train.tasks import eqm
from amtutor.train.tasks.eqm import EquilibriumMatching

QUIET = {"progress": False, "say": lambda line: None, "device": "cpu"}
# EQ Tables 1-3: FID, IS, parameters (cut to two decimals of a million there)
PAPER = {
    "et-eqm-l1-learned": (74.65, 4.77, 4_945_165),
    "et-eqm-l1": (75.83, 4.76, 4_748_557),
    "et-eqm-l4-learned": (32.04, 6.83, 15_564_304),
    "et-eqm-l4": (30.49, 6.95, 15_367_696),
    "et-eqm-l8-learned": (31.39, 6.62, 29_723_156),
    "et-eqm-l8": (28.56, 6.78, 29_526_548),
    "et-eqm-l2-t1": (45.32, 6.15, None),
    "et-eqm-l2-t2": (56.61, 5.24, None),
    "et-eqm-l2-t3": (42.81, 6.00, None),
    "et-eqm-l1-unguided": (79.72, 4.27, 4_945_165),
    "eqm-sit-s2": (8.07, 8.80, None),
}


def task(*sets: str) -> EquilibriumMatching:
    return EquilibriumMatching(load_preset("et-eqm-smoke", list(sets)).config, "cpu")


@pytest.mark.parametrize("name", PAPER)
def test_presets_have_the_papers_numbers_beside_them(name):
    preset = load_preset(name)
    fid, score, count = PAPER[name]
    assert (preset.reported["fid"], preset.reported["is"]) == (fid, score)
    c = preset.config
    assert c.steps * c.batch_size == pytest.approx(1000 * 50_000, rel=1e-5)
    assert (c.lr, c.weight_decay, c.a, c.scale, c.sample_steps) == (1e-4, 0.0, 0.8, 4.0, 500)
    assert c.guidance == preset.reported.get("w", 1.5)
    if count:
        assert count_parameters(EquilibriumMatching(c)) == count


RACE = ("et", "control", "scalar", "cone", "cone-control")
SMALL = (*RACE, "fine", "blocks", "sit", "mixed", "classes", "levels")


def test_the_small_rivals_are_of_one_size():
    counts = {
        n: count_parameters(EquilibriumMatching(load_preset(f"eqm-small-{n}").config))
        for n in SMALL
    }
    assert max(counts.values()) < 1.08 * min(counts.values()), counts
    larger = {
        n: count_parameters(EquilibriumMatching(load_preset(f"eqm-medium-{n}").config))
        for n in RACE
    }
    assert max(larger.values()) < 1.002 * min(larger.values()), larger
    assert min(larger.values()) > 10 * min(counts.values())


def test_the_loss_is_eq_2_with_a_label_in_ten_left_out():
    t = task("batch_size=64", "drop_label=0.25")
    data, model = t.data(), build_model(t)
    with torch.no_grad():  # at first all classes are alike
        model.head.modulation.weight += 0.5
        model.head.classes += torch.arange(11.0)[:, None]
    draws = Draws(3, 5, 64)
    loss, _ = t.loss(model, data, draws)
    rows = draws.rows(len(data["images"]))
    x, y = to_pixels(data["images"][rows]), data["labels"][rows].clone()
    gone = draws.uniform("drop") < 0.25
    assert 0 < gone.sum() < 64
    y[gone] = 10
    noise, gamma = draws.normal("noise", x.shape[1:]), draws.uniform("gamma")
    torch.testing.assert_close(loss, eqm_loss(model, x, noise, gamma, labels=y).mean())


def test_only_photographs_are_mirrored(monkeypatch):
    pictures = torch.arange(2 * 3 * 32 * 32).reshape(2, 3, 32, 32).remainder(251).byte()
    data = {"images": pictures, "labels": torch.tensor([0, 1])}
    seen = []
    monkeypatch.setattr(eqm, "eqm_loss", lambda f, x, *a, **k: seen.append(x) or x.mean((1, 2, 3)))
    t = task("pictures=cifar10", "batch_size=16", "patch_size=4")
    draws = Draws(0, 0, 16)
    t.loss(build_model(t), data, draws)
    mirrored = draws.uniform("flip", (1, 1, 1)).flatten() >= 0.5
    assert 0 < mirrored.sum() < 16
    plain = to_pixels(pictures[draws.rows(2)])
    for b in range(16):
        assert torch.equal(seen[0][b], plain[b].flip(-1) if mirrored[b] else plain[b])


@pytest.mark.parametrize(
    "sets",
    [
        ["model=et", "skip=yes", "n_filters=4", "positions=learned", "descent_steps=2"],
        ["model=et", "mix_heads=yes", "class_in_blocks=everywhere"],
        ["model=decoded-distance", "n_filters=4", "stem=2"],
        ["model=decoded-distance", "levels=2", "mix_heads=yes", "class_in_blocks=placed"],
        ["model=block-energies", "n_filters=4", "nesterov=0.3"],
        ["model=sit", "c=cosine", "guidance=1"],
    ],
)
def test_every_model_trains_measures_and_draws(tmp_path, sets):
    run = fit(
        load_preset("et-eqm-smoke", ["steps=40", "lr=5e-3", *sets]).config,
        tmp_path / "run",
        **QUIET,
    )
    losses = [line["loss"] for line in run.metrics() if "loss" in line]
    assert losses[-1] < losses[0]
    model, found = run.model(), run.task.evaluate(run.model(), run.data)
    assert found["loss"] == pytest.approx(sum(found[f"loss_{k}_5"] for k in range(5)) / 5, rel=1e-3)
    pictures = run.task.sample(model, 12, seed=3)
    assert pictures.shape == (12, 1, 8, 8) and pictures.dtype == torch.uint8
    assert torch.equal(pictures, run.task.sample(model, 12, seed=3))
    assert not torch.equal(pictures, run.task.sample(model, 12, seed=4))
    assert all(p.is_file() for p in run.task.figures(model, run.data, tmp_path, metrics=[]))


def test_samples_come_class_after_class_and_guidance_leads_further():
    t = task("guidance=2")
    asked = []

    class Spy(torch.nn.Module):
        null = 10

        def forward(self, x, labels):
            asked.append(labels)
            return x * 0.01

    t.draw(Spy(), 12, seed=0)
    wanted = torch.arange(12) % 10
    assert torch.equal(asked[0], torch.cat([wanted, torch.full((12,), 10)]))


def test_the_sum_of_steps_is_the_travel_whatever_their_number():
    class Still(torch.nn.Module):
        null = 10

        def forward(self, x, labels):
            return torch.ones_like(x)

    ends = [task(f"sample_steps={n}", "travel=0.3").draw(Still(), 3, seed=0) for n in (5, 60)]
    start = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert all(torch.allclose(end, start - 0.3, atol=1e-5) for end in ends)
    # with momentum m it is one step times m / (1 - m) behind, for the velocity starts at zero
    pushed = task("sample_steps=60", "travel=0.3", "nesterov=0.5").draw(Still(), 3, seed=0)
    assert torch.allclose(pushed, start - 0.3 + 0.3 / 60, atol=1e-5)


def test_true_digits_are_named_as_asked():
    from amtutor import data

    try:
        (_, _), (x, y) = data.split_digits("mnist")
    except data.DataNotFound as why:
        pytest.skip(f"MNIST: {why}")
    order = torch.cat([torch.where(y == k)[0][:20] for k in range(10)])
    order = order.reshape(10, 20).T.flatten()  # 0, 1, ... 9, 0, ...
    assert eqm.named_as_asked(2 * x[order] - 1, 10) > 0.95
    assert eqm.named_as_asked(2 * x[order.roll(1)] - 1, 10) < 0.1


@pytest.mark.parametrize(
    "sets, message",
    [
        (["patch_size=3"], "patch_size = 3: expected a divisor of the side 8"),
        (["dim=30"], "dim = 30: expected a multiple of 4"),
        (["model=sit", "n_heads=3"], "n_heads = 3: expected a divisor of dim = 32"),
        (["model=sit", "skip=yes"], "skip = True: expected False: it is a setting of 'et'"),
        (["model=sit", "mix_heads=yes"], "mix_heads = True: expected False: it is a setting of"),
        (
            ["model=block-energies", "class_in_blocks=placed"],
            "class_in_blocks = 'placed': expected no",
        ),
        (["levels=2"], "levels = 2: expected 1: it is a setting of 'decoded-distance'"),
        (["model=decoded-distance", "patch_size=8", "levels=2"], "levels = 2: expected halvings"),
        (["travel=0"], "travel = 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(sets, message):
    with pytest.raises(ValueError, match=message):
        task(*sets)


def test_tower_for_naming_is_the_one_that_ships():
    assert towers.load("one_way").layers["image"].shape == (1, 28, 28)
