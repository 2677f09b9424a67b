"""The tower and its twin as a task, on scikit-learn's 8 x 8 digits."""

from __future__ import annotations

import math

import pytest
import torch

pytest.importorskip("accelerate")

from amtutor import _weights
from amtutor.network.towers import ask, tower
from amtutor.train import Draws, fit, load_preset
from amtutor.train.run import build_model
from amtutor.train.tasks import tower as task_module
from amtutor.train.tasks.tower import Tower, halves, wobble

QUIET = {"progress": False, "say": lambda line: None, "device": "cpu"}


def task(*sets: str) -> Tower:
    return Tower(load_preset("tower-smoke", list(sets)).config, "cpu")


def test_presets_build_the_towers_that_ship():
    for name, stem in (("tower", "ham_mnist_tower"), ("tower-one-way", "ham_mnist_one_way")):
        config = load_preset(name).config
        tensors, card = _weights.shipped(stem, kind="tower")
        sizes = {k: list(v) if k == "shape" else v for k, v in config.sizes().items()}
        assert {**sizes, **card["config"]} == sizes
        model = Tower(config).build()
        assert {k: v.shape for k, v in model.state_dict().items()} == {
            k: v.shape for k, v in tensors.items()
        }
        assert config.steps * config.batch_size == 24 * 125 * 96  # as many digits as those saw


def test_even_dice_leave_a_digit_alone_and_extreme_ones_do_what_the_settings_allow():
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    c = task().config
    torch.testing.assert_close(wobble(x, c, torch.full((2, 5), 0.5)), x)
    moved = wobble(x, task("move=2").config, torch.tensor([[0.5, 0.5, 0.5, 1.0, 0.5]] * 2))
    torch.testing.assert_close(moved[..., :-2], x[..., 2:])  # the grid moves right by 2 pixels
    quarter = task(f"turn={math.pi / 2}").config
    turned = wobble(x, quarter, torch.tensor([[1.0, 0.5, 0.5, 0.5, 0.5]] * 2))
    torch.testing.assert_close(turned, torch.rot90(x, 1, (-2, -1)), atol=1e-5, rtol=0)


def test_the_loss_is_the_three_questions_of_a_step():
    t = task("completed=0.5", "completion_weight=2", "batch_size=16")
    data, model = t.data(), build_model(t)
    draws = Draws(1, 5, 16)
    loss, parts = t.loss(model, data, draws)
    whole = parts["name"] + 2 * parts["pixels"] + 0.3 * parts["name_half"]
    torch.testing.assert_close(loss.detach(), whole)
    rows = draws.rows(len(data["images"]))
    x, y = wobble(data["images"][rows], t.config, draws.uniform("wobble", (5,))), rows
    states, clamp = ask(model, x[:8])
    ends = [model.settle(states, steps=n, clamp=clamp).state["label"] for n in range(3, 7)]
    y = data["labels"][rows][:8]
    beta = model.layers["label"].lagrangian.beta
    losses = [torch.nn.functional.cross_entropy(beta * end, y).detach() for end in ends]
    assert any(torch.isclose(parts["name"], found) for found in losses)
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_who_sees_nothing_is_told_and_nobody_may_be_asked_for_a_name():
    """With all told there is no name to ask for, and no mean of nothing."""
    t = task()
    data, model = t.data(), build_model(t)
    x, y = data["images"][:4], data["labels"][:4]
    nothing = halves(8)[[5] * 4]
    found = task_module.completed(model, x, y, nothing, torch.zeros(4, dtype=torch.bool), 3)
    assert set(found) == {"pixels"} and found["pixels"].isfinite()


def test_rounds_are_drawn_from_the_fewest_to_the_most(monkeypatch):
    """Over forty steps each of three numbers comes; one is missed once in ten million."""
    t = task("rounds=2,4", "completed=0")
    data, model, drawn = t.data(), build_model(t), []

    def named(ham, x, y, rounds):
        drawn.append(rounds)
        return torch.zeros(())

    monkeypatch.setattr(task_module, "named", named)
    for step in range(40):
        t.loss(model, data, Draws(0, step, 16))
    assert set(drawn) == {2, 3, 4}


def test_who_sees_half_a_picture_is_not_told(monkeypatch):
    """Only of a picture that is hidden as a whole the name must be told."""
    t = task()
    data, model, asked = t.data(), build_model(t), []
    ask_of = task_module.ask
    monkeypatch.setattr(
        task_module, "ask", lambda ham, x, y, seen: asked.append(y) or ask_of(ham, x, y, seen=seen)
    )
    x, y = data["images"][:3], data["labels"][:3]
    told = torch.tensor([False, False, True])
    found = task_module.completed(model, x, y, halves(8)[[0, 5, 3]], told, 2)
    assert asked[0].tolist() == [-1, int(y[1]), int(y[2])]
    assert set(found) == {"pixels", "name_half"}


@pytest.mark.parametrize("which", ["tower", "one-way"])
def test_a_short_training_learns_and_ships(tmp_path, which):
    sets = [f"which={which}", "steps=60", "warmup_steps=10", "checkpoint_every=0"]
    run = fit(load_preset("tower-smoke", sets).config, tmp_path, **QUIET)
    lines = [line for line in run.metrics() if "loss" in line]
    assert lines[-1]["name"] < 0.8 * lines[0]["name"]
    assert lines[-1]["eval/accuracy"] > 0.3
    card = next(tmp_path.glob("ham_*.json"))
    tensors = _weights.read_safetensors(card.with_suffix(".safetensors"))
    about = __import__("json").loads(card.read_text("utf-8"))
    assert about["kind"] == "tower"
    ham = tower(**about["config"])
    ham.load_state_dict({k: v.float() for k, v in tensors.items()})
    if which == "tower":
        pictures = run.task.sample(run.model(), 5, seed=0)
        assert pictures.shape == (5, 1, 8, 8) and pictures.dtype == torch.uint8
        assert torch.equal(pictures[0, :, :4], pictures[2, :, :4])  # what is seen is left alone
    else:
        assert not run.task.draws_pictures


@pytest.mark.parametrize("word", ["kernel_size=8", "rounds=4,3", "which=up", "completed=1"])
def test_settings_that_build_no_tower_are_refused(word):
    with pytest.raises(ValueError, match=word.partition("=")[0]):
        task(word)
