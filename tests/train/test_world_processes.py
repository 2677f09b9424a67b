"""Two processes on one machine are one process with the same global batch, to rounding."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import shared_tasks
import torch
from small_runs import numbers, small, weights

from amtutor.train import Run, Settings, fit
from amtutor.train import checkpoint as ck

PROCESSES = 2


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def together(words: list[str], cwd, *, when=None) -> list[tuple[str, str]]:
    """Run `amtutor ...` in two processes as torchrun would; `when` may signal them meanwhile."""
    common = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    common |= {"WORLD_SIZE": str(PROCESSES), "LOCAL_WORLD_SIZE": str(PROCESSES)}
    common |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    there = [str(Path(shared_tasks.__file__).parent), os.environ.get("PYTHONPATH", "")]
    common["PYTHONPATH"] = os.pathsep.join(filter(None, there))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": cwd}
    command = [sys.executable, "-m", "amtutor", *words]
    ranks = [
        subprocess.Popen(command, env={**common, "RANK": str(r), "LOCAL_RANK": str(r)}, **pipes)
        for r in range(PROCESSES)
    ]
    if when:
        when(ranks)
    said = [rank.communicate(timeout=300) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0] * PROCESSES, said
    return said


def one_and_two(folder, config):
    """Train it in this process, and in two others."""
    file = folder / "config.json"
    about = {"module": "shared_tasks", "config": config.to_dict()}
    file.write_text(json.dumps(about), "utf-8")
    fit(config, folder / "one", progress=False, device="cpu")
    said = together(["train", str(file), "--out", str(folder / "two"), "--quiet"], folder)
    assert "24 steps done" in said[0][0] and "steps done" not in said[1][0]
    return [Run(folder / name, device="cpu") for name in ("one", "two")]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    sgd = small("sample_every=12", "optimizer=sgd", "lr=20", "grad_clip=0")
    one_and_two(folder, dataclasses.replace(sgd, task="test-toy-64"))
    return folder


def test_two_processes_are_one_bit_for_bit_where_sums_are_exact(tmp_path):
    """Rows, numbers drawn, the mean of gradients, clipping, momentum, average: all of it."""
    common = {"steps": 24, "batch_size": 16, "checkpoint_every": 8, "log_every": 5}
    config = Settings(
        **{"task": "test-whole-numbers", "lr": 0.1, "optimizer": "sgd", "grad_clip": 2.0},
        **{"ema_decay": 0.9, "weight_decay": 0.01, **common},
    )
    one, two = one_and_two(tmp_path, config)
    for ema in (True, False):
        ours, theirs = (run.model(ema=ema).weight for run in (one, two))
        assert torch.equal(ours, theirs)
    for a, b in zip(numbers(tmp_path / "one"), numbers(tmp_path / "two"), strict=True):
        assert a["grad_norm"] == b["grad_norm"] and a["lr"] == b["lr"]


def test_two_processes_are_one_to_rounding(runs):
    """The toy by plain descent in float64.

    A gradient is a mean of 16 products, |g| < 1 here, and the order of its sum is worth at most
    16 roundings of 2^-53. A step carries them on by lr, and stretches what was there by 1 + lr L
    with L < 1 / 576 times a few (the energy is divided by its 576 pixels): in 24 steps of at most
    20 that is 24 * 20 * 16 * 2^-53 * e^(a few), below 1e-10. A row that is missing, a noise that
    is another's, or a sum in the place of a mean, is seen in the second digit.
    """
    one, two = (Run(runs / name, device="cpu") for name in ("one", "two"))
    assert one.config == two.config
    start = 0.5
    for ema in (True, False):
        ours, theirs = (run.model(ema=ema).memories for run in (one, two))
        assert ours.dtype == torch.float64 and (ours - start).abs().mean() > 0.05  # it moved
        torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=0)
    for a, b in zip(numbers(runs / "one"), numbers(runs / "two"), strict=True):
        assert a.keys() == b.keys()
        for key in a:  # logged in float32
            assert a[key] == pytest.approx(b[key], rel=1e-5, abs=1e-6), key


def test_only_the_first_process_writes(runs):
    steps = [line["step"] for line in numbers(runs / "two")]
    assert steps == sorted(set(steps))
    assert len(list((runs / "two" / "tensorboard").iterdir())) == 1
    assert len(ck.checkpoints(runs / "two" / "checkpoints")) >= 2
    assert weights(runs / "two", 24)


def test_sigterm_finds_both_at_the_same_step(tmp_path):
    log = tmp_path / "metrics.jsonl"

    def terminate(ranks):
        deadline = time.monotonic() + 240
        while not (log.is_file() and log.stat().st_size) and time.monotonic() < deadline:
            assert ranks[0].poll() is None
            time.sleep(0.05)
        ranks[1].send_signal(signal.SIGTERM)  # one of them is enough

    words = ["train", "toy-smoke", "--out", str(tmp_path), "--quiet", "--set", "log_every=1"]
    (_, err), (_, silent) = together([*words, "steps=1000000"], tmp_path, when=terminate)
    saved = re.search(r"a signal to another process: saved step (\d+) of 1000000", err)
    assert saved and int(saved[1]) % 10 == 0 and "saved" not in silent
    assert Run(tmp_path, device="cpu").load().step == int(saved[1])
