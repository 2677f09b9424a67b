"""Two processes on one machine are one process with the same global batch, to rounding."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time

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


def together(words: list[str], cwd, *, when=None) -> list[tuple[str, str]]:
    """Run `amtutor ...` in two processes as torchrun would; `when` may signal them meanwhile."""
    common = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    common |= {"WORLD_SIZE": str(PROCESSES), "LOCAL_WORLD_SIZE": str(PROCESSES)}
    common |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
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


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    config = small("sample_every=12")
    fit(config, folder / "one", progress=False, device="cpu")
    sets = [*SMALL, "creatures=20", "n_memories=8", "sample_every=12"]
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
