"""Two processes on one machine are one process with the same global batch, to rounding."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
import torch
from small_runs import SMALL, numbers, small, weights

from amtutor.train import Run, fit
from amtutor.train import checkpoint as ck

PROCESSES = 2


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def together(words: list[str], cwd) -> subprocess.CompletedProcess:
    """Run `amtutor ...` in two processes, as torchrun would start them."""
    common = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    common |= {"WORLD_SIZE": str(PROCESSES), "LOCAL_WORLD_SIZE": str(PROCESSES)}
    common |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "amtutor", *words],
            env={**common, "RANK": str(r), "LOCAL_RANK": str(r)},
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for r in range(PROCESSES)
    ]
    said = [rank.communicate(timeout=300) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0] * PROCESSES, said
    return said


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    config = small("sample_every=12")
    fit(config, folder / "one", progress=False, device="cpu")
    sets = [*SMALL, "creatures=20", "memories=8", "sample_every=12"]
    command = ["train", "toy-smoke", "--out", str(folder / "two"), "--quiet", "--set", *sets]
    said = together(command, folder)
    assert [out for out, _ in said] == [
        f"{folder / 'two'}: 24 steps done; next: amtutor sample {folder / 'two'}\n",
        "",
    ]
    return folder


def test_two_processes_are_one_to_rounding(runs):
    one, two = Run(runs / "one", device="cpu"), Run(runs / "two", device="cpu")
    assert one.config == two.config
    for ema in (True, False):
        ours, theirs = (run.model(ema=ema).memories for run in (one, two))
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-5)
    for a, b in zip(numbers(runs / "one"), numbers(runs / "two"), strict=True):
        assert a.keys() == b.keys()
        for key in a:
            assert a[key] == pytest.approx(b[key], rel=1e-3, abs=1e-6), key


def test_only_the_first_process_writes(runs):
    steps = [line["step"] for line in numbers(runs / "two")]
    assert steps == sorted(set(steps))
    assert len(list((runs / "two" / "tensorboard").iterdir())) == 1
    assert len(ck.checkpoints(runs / "two" / "checkpoints")) >= 2
    assert weights(runs / "two", 24)
