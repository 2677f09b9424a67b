"""The loop: resumed = uninterrupted bit for bit, stops that save, numbers that are none."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import signal
from dataclasses import replace

import pytest
import torch
from small_runs import numbers, small, weights

from amtutor import _weights
from amtutor.train import Draws, Run, fit, register
from amtutor.train import checkpoint as ck
from amtutor.train.run import build_model
from amtutor.train.stop import NonFinite
from amtutor.train.tasks.toy import Toy


def quietly(config, folder, **options):
    lines = []
    run = fit(config, folder, progress=False, say=lines.append, device="cpu", **options)
    return run, lines


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    quietly(small(), folder, about={"preset": "toy-smoke", "about": "a toy", "source": "ours"})
    return folder


@register("test-toy")
class TestToy(Toy):
    """The toy, with something that happens at one step."""

    __test__ = False
    at = None  # (step, what to do)

    def after_step(self, model, data, step, draws):
        super().after_step(model, data, step, draws)
        if self.at and step == self.at[0]:
            self.at[1](model)

    def finish(self, model, folder):
        (folder / "exported.txt").write_text(str(sum(p.numel() for p in model.parameters())))


@pytest.fixture
def happen(monkeypatch):
    def plan(step, what):
        monkeypatch.setattr(TestToy, "at", (step, what))
        return replace(small(), task="test-toy")

    return plan


def test_it_learns_and_the_folder_explains_itself(whole):
    lines = numbers(whole)
    assert [line["step"] for line in lines] == [5, 10, 12, 15, 20, 24]
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert set(lines[2]) == {"step", "eval/dead_fraction", "eval/distance"}
    record = json.loads((whole / "config.json").read_text("utf-8"))
    assert record["preset"] == "toy-smoke" and record["config"] == small().to_dict()
    told = (whole / "README.txt").read_text("utf-8")
    assert "amtutor train toy-smoke --out DIR" in told and "4 608 parameters" in told
    environment = (whole / "environment.txt").read_text("utf-8")
    assert f"torch: {torch.__version__}" in environment and "commit " in environment
    kept = sorted(p.name for p in (whole / "checkpoints").iterdir())
    assert kept == ["step-00000016", "step-00000024"]
    assert (whole / "samples" / "step-00000024.png").stat().st_size > 500
    assert list((whole / "tensorboard").iterdir())


def test_fit_is_a_loop_of_ten_lines(tmp_path):
    """Rate, clipping, decay, the clamp after a step and the average, each where it belongs."""
    sets = ("optimizer=sgd", "momentum=0.5", "lr=4000", "warmup_steps=4", "grad_clip=1e-3")
    config = small(*sets, "weight_decay=1e-4", "final_lr=0.1", "ema_decay=0.9", "seed=3")
    run, _ = quietly(config, tmp_path)
    task = Toy(config, "cpu")
    model, data = build_model(task), task.data()
    (memories,) = model.parameters()
    sgd = torch.optim.SGD([memories], momentum=0.5, nesterov=True, weight_decay=1e-4, lr=1.0)
    mean, norms, clamped = memories.detach().clone(), [], 0
    for step in range(24):
        t = max(step - 4, 0) / (23 - 4)
        down = 0.1 + 0.9 * (1 + math.cos(math.pi * t)) / 2
        sgd.param_groups[0]["lr"] = 4000 * ((step + 1) / 5 if step < 4 else down)
        sgd.zero_grad()
        task.loss(model, data, Draws(3, step, 16))[0].backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_([memories], 1e-3)))
        sgd.step()
        clamped += int(((memories < 0) | (memories > 1)).sum())
        memories.data.clamp_(0, 1)
        mean.lerp_(memories.detach(), 1 - min(0.9, (2 + step) / (11 + step)))
    assert min(norms) > 2e-3 and clamped > 100  # else nothing would notice these
    torch.testing.assert_close(run.model(ema=False).memories, memories.detach(), atol=1e-6, rtol=0)
    torch.testing.assert_close(run.model().memories, mean, atol=1e-6, rtol=0)
    last = [line for line in run.metrics() if "grad_norm" in line][-1]
    assert last["grad_norm"] == pytest.approx(sum(norms[20:]) / 4, rel=1e-5)


def test_a_run_opens(whole):
    run = Run(whole, device="cpu")
    assert run.step == 24 and run.finished and run.config == small()
    assert run.metrics()[-1]["step"] == 24
    averaged, last = run.model(), run.model(ema=False)
    assert not torch.equal(averaged.memories, last.memories)
    assert not averaged.training and not averaged.memories.requires_grad
    found = run.task.evaluate(averaged, run.data)
    assert found["distance"] == pytest.approx(run.metrics()[-1]["eval/distance"])
    assert run.task.sample(averaged, 3, seed=0).shape == (3, 1, 24, 24)


@pytest.mark.parametrize("steps", [(8,), (7, 13), (1, 2, 23)])
def test_resumed_is_uninterrupted_bit_for_bit(whole, tmp_path, happen, monkeypatch, steps):
    """SIGTERM at these steps: each time it saves, and the same call goes on."""
    for step in steps:
        config = happen(step, lambda model: os.kill(os.getpid(), signal.SIGTERM))
        run, lines = quietly(config, tmp_path)
        assert run.stopped == "SIGTERM" and run.step == step
        assert lines[-1] == (
            f"SIGTERM: saved step {step} of 24 in {tmp_path}; the same command goes on from there"
        )
        torch.rand(step)  # whatever else the process did with its random numbers
    monkeypatch.setattr(TestToy, "at", None)
    run, lines = quietly(replace(small(), task="test-toy"), tmp_path)
    assert lines == [f"{tmp_path}: goes on after step {steps[-1]} of 24"] and not run.stopped
    ours, theirs = weights(tmp_path, 24), weights(whole, 24)
    for name in ("model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json"):
        assert ours[name] == theirs[name], name
    assert numbers(tmp_path) == numbers(whole)
    assert (tmp_path / "exported.txt").read_text() == "4608"


def test_ctrl_c_saves_and_a_signal_before_the_first_step_has_nothing_to_save(tmp_path, happen):
    config = happen(3, lambda model: os.kill(os.getpid(), signal.SIGINT))
    before = signal.getsignal(signal.SIGINT)
    run, lines = quietly(config, tmp_path / "a")
    assert run.stopped == "Ctrl-C" and lines[-1].startswith("Ctrl-C: saved step 3 of 24")
    assert signal.getsignal(signal.SIGINT) == before

    class Early(TestToy):
        def data(self):
            os.kill(os.getpid(), signal.SIGTERM)
            return super().data()

    register("test-early")(Early)
    run, lines = quietly(replace(small(), task="test-early"), tmp_path / "b")
    assert run.step == 0 and "nothing to save yet" in lines[-1]


def test_killed_after_the_checkpoint_leaves_no_step_twice(whole, tmp_path, happen):
    """What was logged after the last checkpoint was never meant to be; a torn line goes too."""

    class Killed(BaseException):
        pass

    def kill(model):
        raise Killed

    with pytest.raises(Killed):
        quietly(happen(14, kill), tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 14, "loss": 0.1')
    assert [json.loads(s)["step"] for s in open(tmp_path / "metrics.jsonl").readlines()[:-1]] == [
        *(5, 10, 12)
    ]
    quietly(happen(99, kill), tmp_path)
    assert numbers(tmp_path) == numbers(whole)


def test_a_truncated_checkpoint_costs_its_steps_and_nothing_else(whole, tmp_path, happen):
    config = happen(20, lambda model: os.kill(os.getpid(), signal.SIGTERM))
    quietly(config, tmp_path)
    last = ck.checkpoints(tmp_path / "checkpoints")[-1]
    file = last / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    _, lines = quietly(happen(99, None), tmp_path)
    assert "step-00000020/optimizer.safetensors: truncated, 100 of" in lines[0]
    assert lines[1] == f"{tmp_path}: goes on after step 16 of 24"
    assert "kept as .refused-step-00000020" in lines[2]
    assert weights(tmp_path, 24)["model.safetensors"] == weights(whole, 24)["model.safetensors"]
    assert numbers(tmp_path) == numbers(whole)


def test_a_foreign_checkpoint_is_refused(whole, tmp_path):
    quietly(small("seed=1"), tmp_path / "other")
    mine = tmp_path / "mine"
    quietly(small("steps=16"), mine)
    (tmp_path / "other/checkpoints/step-00000024").rename(mine / "checkpoints/step-00000024")
    run, lines = quietly(small(), mine)
    refused = [line for line in lines if line.startswith("refused")]
    assert len(refused) == 1 and "of another run (seed = 1, here 0)" in refused[0]
    assert run.step == 24


def test_a_run_of_which_nothing_can_be_believed_is_never_started_over(tmp_path):
    """A hand-edited setting, another format, a copy cut short: one line, and not a byte changed."""

    def edited(home):
        path = home / "config.json"
        path.write_text(path.read_text().replace('"lr": 0.02', '"lr": 0.5'))

    def cut(home):
        for path in home.glob("checkpoints/*/model.safetensors"):
            os.truncate(path, 100)

    def another_format(home):
        for path in home.glob("checkpoints/*/manifest.json"):
            path.write_text(path.read_text().replace(ck.FORMAT, "amtutor-checkpoint-9"))

    def forgotten(home):  # and the new settings are others
        (home / "config.json").unlink()

    for n, harm in enumerate((edited, cut, another_format, forgotten)):
        home = tmp_path / str(n)
        quietly(small("steps=12", "checkpoint_every=6"), home)
        harm(home)
        kept = ("checkpoints/", "metrics.jsonl", "finished.txt")
        before = {
            p: p.read_bytes()
            for p in home.rglob("*")
            if p.is_file() and str(p.relative_to(home)).startswith(kept)
        }
        settings = {edited: "lr=0.5", forgotten: "n_memories=5"}.get(harm, "lr=0.02")
        lines = []
        with pytest.raises(ck.CheckpointError, match="not one checkpoint of 2") as caught:
            fit(small("steps=24", settings), home, progress=False, say=lines.append, device="cpu")
        assert "\n" not in str(caught.value) and "start over" in str(caught.value)
        assert sum(line.startswith("refused") for line in lines) == 2
        assert all(p.read_bytes() == body for p, body in before.items())


def test_a_stranger_with_a_high_number_pushes_nothing_out(whole, tmp_path, happen):
    quietly(happen(10, lambda model: os.kill(os.getpid(), signal.SIGTERM)), tmp_path)
    (tmp_path / "checkpoints" / "step-99999999").mkdir()
    assert Run(tmp_path, device="cpu").step == 10 and not Run(tmp_path, device="cpu").finished
    run, lines = quietly(happen(99, None), tmp_path)
    assert run.step == 24 and run.finished
    assert any("kept as .refused-step-99999999" in line for line in lines)
    assert weights(tmp_path, 24)["model.safetensors"] == weights(whole, 24)["model.safetensors"]
    names = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert names == [".refused-step-99999999", "step-00000016", "step-00000024"]


def test_damaged_ones_never_cost_what_is_written_after_them(tmp_path, happen):
    """Both newest are damaged; the sitting after them saves less far, and keeps what it saved."""
    stop = lambda model: os.kill(os.getpid(), signal.SIGTERM)  # noqa: E731
    quietly(happen(20, stop), tmp_path)  # 16 and 20 are there
    for path in (tmp_path / "checkpoints").glob("*/model.safetensors"):
        os.truncate(path, 100)
    (tmp_path / "checkpoints" / "step-00000016").rename(tmp_path / "older")  # 20 alone, damaged
    with pytest.raises(ck.CheckpointError):
        quietly(happen(99, None), tmp_path)
    (tmp_path / "checkpoints").rename(tmp_path / "away")  # as the line says
    run, _ = quietly(happen(10, stop), tmp_path)
    assert run.step == 10
    (tmp_path / "away" / "step-00000020").rename(tmp_path / "checkpoints" / "step-00000020")
    run, lines = quietly(happen(14, stop), tmp_path)
    assert run.step == 14 and Run(tmp_path, device="cpu").load().step == 14


def test_a_state_that_does_not_fit_is_a_refusal_too(whole, tmp_path, happen):
    """Whole and of this run by its manifest, and yet useless: text in sums, weights in float64."""
    for n, (name, change) in enumerate(
        {
            "state.json": lambda raw: raw.replace(b'"sums"', b'"smus"'),
            "model.safetensors": lambda raw: b"".join(
                _weights.to_safetensors({"memories": torch.zeros(8, 576, dtype=torch.float64)})
            ),
            "optimizer.safetensors": lambda raw: b"".join(
                _weights.to_safetensors({"0.exp_avg": torch.zeros(3)})
            ),
        }.items()
    ):
        home = tmp_path / str(n)
        quietly(happen(20, lambda model: os.kill(os.getpid(), signal.SIGTERM)), home)
        last = ck.checkpoints(home / "checkpoints")[-1]
        body = change((last / name).read_bytes())
        (last / name).write_bytes(body)
        manifest = json.loads((last / "manifest.json").read_text())
        digest = hashlib.sha256(body).hexdigest()
        manifest["files"][name] = {"bytes": len(body), "sha256": digest}
        (last / "manifest.json").write_text(json.dumps(manifest))
        _, lines = quietly(happen(99, None), home)
        assert lines[0].startswith("refused") and "step-00000020" in lines[0]
        assert "goes on after step 16" in lines[1]
        ours = weights(home, 24)["model.safetensors"]
        assert ours == weights(whole, 24)["model.safetensors"]


def test_metrics_that_are_damaged_lose_their_line_and_nothing_else(whole, tmp_path, happen):
    quietly(happen(20, lambda model: os.kill(os.getpid(), signal.SIGTERM)), tmp_path)
    path = tmp_path / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"\xff" + lines[1], b"[" * 100_000 + b"\n", *lines[2:]]))
    quietly(happen(99, None), tmp_path)
    assert numbers(tmp_path) == [n for n in numbers(whole) if n["step"] != 10]


def test_a_finished_run_stays_as_it_is_and_may_be_made_longer(tmp_path):
    quietly(small("steps=10"), tmp_path)
    before = weights(tmp_path, 10)
    _, lines = quietly(small("steps=10"), tmp_path)
    assert lines[-1] == f"{tmp_path}: all 10 steps were done before"
    assert weights(tmp_path, 10) == before
    run, lines = quietly(small("steps=12"), tmp_path)
    assert run.step == 12 and run.finished
    assert lines[0] == f"{tmp_path}: steps: 10 -> 12"
    assert lines[1] == f"{tmp_path}: the cosine schedule is now drawn for 12 steps"


def test_a_run_may_not_become_another(whole):
    with pytest.raises(ValueError) as caught:
        quietly(small("beta=2"), whole)
    assert str(caught.value) == (
        f"{whole}: started with beta = 1.0, now 2.0; leave it to resume, or train into another "
        "folder"
    )


@register("test-bad-loss")
class BadLoss(Toy):
    factor = torch.nan

    def loss(self, model, data, draws):
        loss, metrics = super().loss(model, data, draws)
        return loss * (self.factor if draws.step == 13 else 1.0), metrics


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_nan_stops_with_what_reproduces_it(tmp_path, monkeypatch, value):
    monkeypatch.setattr(BadLoss, "factor", value)
    with pytest.raises(NonFinite) as caught:
        quietly(replace(small(), task="test-bad-loss"), tmp_path)
    line = str(caught.value)
    assert "loss or gradient is NaN or infinite at step 14 (seed 0, rows " in line
    assert line.endswith(f"last good checkpoint: {tmp_path}/checkpoints/step-00000008")
    assert "\n" not in line
    report = json.loads((tmp_path / "nonfinite.json").read_text("utf-8"))
    assert report["step"] == 14 and report["draws_step"] == 13
    assert report["rows"] == {"20": Draws(0, 13, 16).rows(20).tolist()}
    assert report["last_good_checkpoint"] == "checkpoints/step-00000008"
    assert [ck.step_of(p) for p in ck.checkpoints(tmp_path / "checkpoints")] == [8]
    assert ck.load(tmp_path / report["last_good_checkpoint"]).step == 8


def test_weights_that_are_nan_are_never_saved(tmp_path, happen):
    config = happen(16, lambda model: model.memories[0].fill_(torch.nan))
    with pytest.raises(NonFinite, match="a weight is NaN or infinite at step 16"):
        quietly(config, tmp_path)
    assert [ck.step_of(p) for p in ck.checkpoints(tmp_path / "checkpoints")] == [8]


def test_a_check_inside_the_model_does_not_hide_it(tmp_path, happen):
    """`lse_energy` refuses memories that are NaN; the line still says step, seed and rows."""
    config = happen(13, lambda model: model.memories[0].fill_(torch.nan))
    with pytest.raises(NonFinite, match=r"a weight is NaN or infinite at step 14 \(seed 0"):
        quietly(config, tmp_path)
    assert json.loads((tmp_path / "nonfinite.json").read_text("utf-8"))["step"] == 14


def test_a_full_disk_stops_the_run_and_it_goes_on_when_there_is_space(whole, tmp_path, monkeypatch):
    write, calls = ck._write, []

    def full(folder, checkpoint):
        calls.append(checkpoint.step)
        if checkpoint.step == 16:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(folder, checkpoint)

    monkeypatch.setattr(ck, "_write", full)
    with pytest.raises(ck.CheckpointError, match="No space left on device.*00000008 is untouched"):
        quietly(small(), tmp_path)
    assert calls == [8, 16]
    monkeypatch.setattr(ck, "_write", write)
    quietly(small(), tmp_path)
    assert weights(tmp_path, 24)["model.safetensors"] == weights(whole, 24)["model.safetensors"]


def test_two_trainings_in_one_folder_are_one_too_many(tmp_path, happen):
    lines = []

    def second(model):
        with pytest.raises(ValueError, match="another training writes into it now"):
            fit(small(), tmp_path, progress=False)
        lines.append("refused")

    quietly(happen(2, second), tmp_path)
    assert lines == ["refused"]


def test_milestones_stay(tmp_path):
    quietly(small("checkpoint_every=4", "milestone_every=8", "keep_checkpoints=1"), tmp_path)
    assert [ck.step_of(p) for p in ck.checkpoints(tmp_path / "checkpoints")] == [8, 16, 24]


@pytest.mark.parametrize(
    "sets",
    [
        ("precision=bf16",),
        ("optimizer=sgd", "schedule=one-cycle"),
        ("ema_decay=0", "schedule=linear", "grad_clip=0"),
        ("threads=1", "schedule=constant"),
    ],
)
def test_other_settings_learn_too(tmp_path, sets):
    run, _ = quietly(small(*sets), tmp_path)
    lines = [line for line in run.metrics() if "loss" in line]
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert run.task.sample(run.model(), 2, seed=1).dtype == torch.uint8


def test_a_batch_that_processes_cannot_share_is_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr("amtutor.train.world.World.size", 3)
    monkeypatch.setattr(Toy, "data", lambda self: pytest.fail("data was read"))
    with pytest.raises(ValueError, match="batch_size = 16: expected a multiple of the 3"):
        quietly(small(), tmp_path)


def test_a_loss_that_is_not_one_number_is_refused(tmp_path):
    class Summed(Toy):
        def loss(self, model, data, draws):
            return super().loss(model, data, draws)[0].expand(16), {}

    register("test-summed")(Summed)
    with pytest.raises(ValueError, match=r"loss: got a float32 tensor of shape \(16,\), expected"):
        quietly(replace(small(), task="test-summed"), tmp_path)


def test_global_torch_is_left_as_it_was(tmp_path):
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    quietly(small("threads=2", "steps=2"), tmp_path)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_dropout_is_a_function_of_the_step(tmp_path):
    """The global generator is seeded by the step, so what draws from it resumes as well."""
    seen = []

    class Dropping(Toy):
        def loss(self, model, data, draws):
            seen.append((draws.step, float(torch.rand(()))))
            return super().loss(model, data, draws)

    register("test-dropping")(Dropping)
    quietly(replace(small("steps=8"), task="test-dropping"), tmp_path)
    quietly(replace(small("steps=10"), task="test-dropping"), tmp_path)
    quietly(replace(small("steps=10"), task="test-dropping"), tmp_path / "again")
    assert seen[:10] == seen[10:] and len({value for _, value in seen[:10]}) == 10


def test_compile_asks_the_task(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(Toy, "compile", lambda self, model: asked.append(type(model).__name__))
    quietly(small("compile=yes", "steps=2"), tmp_path)
    assert asked == ["Memories"]
