"""The task of chapter 15 on made-up pictures: schedules, replacement, groups, a run."""

from __future__ import annotations

import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from amtutor import data
from amtutor.generative import latent
from amtutor.train import Draws, fit, load_preset, preset_names
from amtutor.train.tasks import _latent_figures
from amtutor.train.tasks.latent import Latent, winners_of_noise

SMALL = [
    *(
        "batch_size=8",
        "n_memories=12",
        "dim=8",
        "width=8",
        "groups=4",
        "train_images=0",
        "steps=12",
    ),
    *("beta_steps=10", "replace_every=2", "log_every=3", "sample_every=0", "checkpoint_every=0"),
]


@pytest.fixture(autouse=True)
def pictures(monkeypatch):
    """A CIFAR-10 of 60 and 30 pictures."""
    g = np.random.default_rng(0)
    made = {
        "train": g.integers(0, 256, (60, 3, 32, 32), dtype=np.uint8),
        "test": g.integers(0, 256, (30, 3, 32, 32), dtype=np.uint8),
    }
    monkeypatch.setattr(data, "cifar10", lambda split: (made[split], None))


def task(*sets):
    return Latent(load_preset("latent-smoke", [*SMALL, *sets]).config, "cpu")


def built(t):
    torch.manual_seed(0)
    return t.build()


@pytest.mark.parametrize("k", [1536, 3072, 4096])
def test_presets_have_the_settings_of_em_a3(k):
    c = load_preset(f"latent-{k}").config
    assert (c.n_memories, c.dim, c.steps, c.batch_size) == (k, 512, 800_000, 64)
    assert (c.lr, c.betas, c.weight_decay, c.warmup_steps) == (2e-4, (0.9, 0.95), 0.05, 20_000)
    assert (c.optimizer, c.schedule, c.final_lr, c.precision) == ("adamw", "cosine", 0.0, "bf16")
    assert (c.width, c.multipliers, c.blocks, c.attention, c.n_heads) == (
        *(128, (1, 2, 2, 4), 4, (16, 8), 4),
    )
    assert (c.beta_whole_start, c.beta_whole_end, c.beta_steps) == (1.25e-4, 30.0, 50_000)
    assert (c.replace_every, c.replace_fraction, c.stop_gradient) == (5000, 0.1, True)
    assert (c.sigma, c.descent_steps, c.descent_step_size, c.langevin) == (10.0, 100, 0.05, 0.005)
    assert c.ema_decay > 0 and c.memory_lr_scale == 1 and c.patch == 1 and not c.replace_idle


def test_all_latent_presets_load():
    names = [n for n in preset_names() if n.startswith("latent-")]
    assert {"latent-1536", "latent-3072", "latent-4096", "latent-cpu", "latent-smoke"} <= set(names)
    for name in names:
        assert load_preset(name).config.task == "latent"


def test_memories_are_replaced_ten_times_by_codes_and_then_no_more():
    t = task("beta_steps=20", "replace_every=2", "precision=fp32")
    model, pictures = built(t), t.data()
    codes = model.encode_images(pictures["images"])
    changed = []
    for step in range(1, 31):
        with torch.no_grad():
            model.memories.normal_()
            before = model.memories.detach().clone()
            t.after_step(model, pictures, step, Draws(0, step - 1, 8))
        rows = (model.memories != before).any(1)
        changed.append(int(rows.sum()))
        for row in model.memories[rows]:
            assert (codes - row).abs().amax(1).min() < 1e-5
    assert changed == [1 if s % 2 == 0 and s <= 20 else 0 for s in range(1, 31)]


def test_replacement_is_the_same_on_every_process_and_idle_ones_go_first():
    t = task("replace_every=1", "replace_idle=yes", "replace_fraction=0.5", "precision=fp32")
    model, pictures = built(t), t.data()
    before = model.memories.detach().clone()
    counts = latent.memory_counts(model.encode_images(pictures["images"]), before)
    ends = []
    for rank in (0, 1):
        with torch.no_grad():
            model.memories.copy_(before)
            t.after_step(model, pictures, 1, Draws(0, 0, 8, rank=rank, world=2))
        ends.append(model.memories.detach().clone())
    assert torch.equal(*ends)
    gone = (ends[0] != before).any(1)
    assert gone.sum() == 6 and counts[gone].max() <= counts[~gone].min()


def test_loss_is_em_7_and_beta_follows_the_schedule():
    t = task("precision=fp32")
    model, pictures = built(t), t.data()
    draws = Draws(0, 4, 8)
    loss, metrics = t.loss(model, pictures, draws)
    x = latent.to_pixels(pictures["images"][draws.rows(60)])
    energy, error = model(x, beta_whole=latent.beta_schedule(4, steps=10))
    torch.testing.assert_close(loss, energy.mean() + error.mean())
    assert float(metrics["beta"]) == pytest.approx(12.0, rel=1e-3)
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_gradient_norms_are_those_of_the_loss_and_only_where_a_line_is_logged():
    t = task("precision=fp32")
    model, pictures = built(t), t.data()
    assert "gradient_memories" not in t.loss(model, pictures, Draws(0, 0, 8))[1]
    loss, metrics = t.loss(model, pictures, Draws(0, 2, 8))
    loss.backward()
    norms = {
        "memories": model.memories.grad.norm(),
        "encoder": torch.stack([p.grad.norm() for p in model.encode.parameters()]).norm(),
        "decoder": torch.stack([p.grad.norm() for p in model.decode.parameters()]).norm(),
    }
    for name, norm in norms.items():
        torch.testing.assert_close(metrics[f"gradient_{name}"], norm, rtol=1e-4, atol=1e-6)


def test_every_parameter_is_in_one_group():
    t = task("memory_lr_scale=7", "decay_memories=no")
    model = built(t)
    groups = t.groups(model)
    grouped = [id(p) for g in groups for p in g["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())
    assert groups[2]["params"] == [model.memories] and groups[2]["lr_scale"] == 7
    assert groups[2]["weight_decay"] == 0 and "weight_decay" not in groups[0]
    assert "weight_decay" not in task().groups(model)[2]


def test_samples_are_decoded_memories():
    t = task("langevin=0", "precision=fp32")
    model = built(t)
    samples = t.sample(model, 5, seed=3)
    assert samples.dtype == torch.uint8 and samples.shape == (5, 3, 32, 32)
    assert torch.equal(samples, t.sample(model, 5, seed=3))
    decoded = model.decode_images(model.memories.detach()).int()
    gaps = (samples[:, None].int() - decoded[None]).abs().flatten(2).amax(2).amin(1)
    assert gaps.max() <= 1
    g = torch.Generator().manual_seed(0)
    ends = winners_of_noise(model.memories, 7000, 10.0, g)
    assert ends.shape == (7000,) and ends.unique().numel() <= 12


def test_a_run_says_what_became_of_its_memories_and_exports_weights(tmp_path):
    pytest.importorskip("accelerate")
    run = fit(task("evaluate_every=6", "steps=12").config, tmp_path / "run", device="cpu")
    last = run.metrics()[-1]
    assert last["step"] == 12 and last["beta"] == pytest.approx(
        29.0, rel=1e-3
    )  # mean of 27, 30, 30
    assert 0 <= last["eval/dead_fraction"] < 1 and 1 <= last["eval/distinct_of_50k"] <= 12
    assert {"energy", "reconstruction", "gradient_memories", "gradient_encoder"} <= last.keys()
    card = json.loads((tmp_path / "run" / "latent.json").read_text("utf-8"))
    assert card["parameters"]["memories"] == 12 * 8 and card["config"]["n_memories"] == 12
    assert (tmp_path / "run" / "latent.safetensors").stat().st_size > 2 * card["parameters"]["all"]


class Mirror:
    """A decoder that paints every code as one grey: its first number."""

    def __init__(self, memories):
        self.memories = memories

    def decode_images(self, z):
        return z[:, 0].round().to(torch.uint8).reshape(-1, 1, 1, 1).expand(-1, 3, 4, 4)


@pytest.fixture
def panels(monkeypatch):
    """What is placed in a figure, by title."""
    placed = {}
    monkeypatch.setattr(
        _latent_figures, "_place", lambda ax, picture, title="": placed.update({title: picture})
    )
    return placed


def greys(n):
    return torch.arange(n, dtype=torch.uint8).reshape(-1, 1, 1, 1).expand(-1, 3, 4, 4)


def test_the_lowest_energies_lie_left_and_the_highest_right(panels):
    """Codes that lie ever farther from all memories, in a shuffled order."""
    memories = torch.tensor([[200.0, 0.0], [210.0, 0.0], [220.0, 0.0]])
    far = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    codes = torch.stack([torch.full((20,), 200.0), 1.0 + far], 1)
    fig = _latent_figures.energies(Mirror(memories), memories, codes, greys(20), task().config)
    plt.close(fig)
    low, high = (panels[f"{t}: picture, two nearest memories"] for t in ("low", "high"))
    order = far.argsort().tolist()
    # sheets of six columns with a gap of one: picture, two memories, picture, two memories
    for sheet, rows in ((low, order[:6]), (high, order[-6:])):
        firsts = [int(sheet[5 * i, 15 * j, 0]) for i in range(3) for j in range(2)]
        assert firsts == rows
        assert (int(sheet[0, 5, 0]), int(sheet[0, 10, 0])) == (200, 210)


def test_memories_that_nobody_is_nearest_to_are_not_shown_with_neighbours(panels):
    memories = torch.tensor([[10.0, 0.0], [20.0, 0.0], [30.0, 0.0], [250.0, 0.0]])
    codes = torch.tensor([[11.0, 0.0], [12.0, 0.0], [22.0, 0.0], [33.0, 0.0], [34.0, 0.0]])
    fig = _latent_figures.memories_and_neighbours(Mirror(memories), memories, codes, greys(5))
    plt.close(fig)
    sheet = panels["a memory, and its three nearest"]
    assert {int(v) for v in sheet[::5, 0, 0]} == {10, 20, 30}
    first = [int(v) for v in sheet[0, ::5, 0]]
    assert first == [10, 0, 1, 2]  # the closest of all: its nearest pictures in order


def test_figures_of_the_paper_come_from_a_run(tmp_path):
    pytest.importorskip("accelerate")
    run = fit(task("precision=fp32").config, tmp_path / "run", device="cpu")
    files = run.task.figures(run.model(), run.data, tmp_path / "figures", metrics=run.metrics())
    names = "02_samples 03_memories 04_energies 08_losses 09_gradients 10_memories 11_samples"
    assert [f.stem for f in files] == [f"fig{n}" for n in names.split()]
    assert all(f.stat().st_size > 2000 for f in files)
