"""The toy: its loss by the formula, and memories that stay pictures."""

from __future__ import annotations

import pytest
import torch

from amtutor.train import Draws, load_preset
from amtutor.train.run import build_model
from amtutor.train.tasks.toy import Toy


def test_the_loss_is_the_energy_of_a_pixel_in_the_mean():
    """-log sum exp(-beta |x - xi|^2 / 2) / beta / D, of a batch shaken by the noise of its step."""
    task = Toy(load_preset("toy-smoke", ["creatures=20", "n_memories=8", "noise=0.2"]).config)
    data, model = task.data(), build_model(task)
    draws = Draws(5, 3, 4)
    loss, _ = task.loss(model, data, draws)
    clean = data["images"][draws.rows(20)].flatten(1).double()
    x = clean + 0.2 * draws.normal("noise", (576,)).double()
    gaps = torch.cdist(x, model.memories.detach().double()).square()
    beta = task.config.beta
    energy = -torch.logsumexp(-beta * gaps / 2, 1) / beta
    assert loss.item() == pytest.approx(float(energy.mean()) / 576, rel=1e-5)


def test_memories_stay_between_paper_and_ink():
    task = Toy(load_preset("toy-smoke", ["n_memories=3"]).config)
    model = build_model(task)
    with torch.no_grad():
        model.memories[0], model.memories[1], model.memories[2] = -0.5, 1.5, 0.25
        task.after_step(model, {}, 1, Draws(0, 0, 2))
    assert model.memories.mean(1).tolist() == [0.0, 1.0, 0.25]
