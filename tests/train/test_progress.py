"""Progress: lines now and then where there is no terminal, a bar where there is one."""

from __future__ import annotations

import os
import pty
import re
import sys

import pytest

from amtutor.train import progress as pg


def test_lines_tell_speed_and_time_left_now_and_then(capsys, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(pg.time, "monotonic", lambda: clock[0])
    bar = pg.Progress(100, first=20, batch_size=8)
    for _ in range(80):
        clock[0] += 1.0
        bar.advance()
        bar.tell(0.25, bar.speed())
    bar.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "step 21/100  loss 0.25  8 images/s  1 min 19 s left"
    assert lines[1] == "step 31/100  loss 0.25  8 images/s  1 min 09 s left"
    assert lines[-1] == "step 100/100  loss 0.25  8 images/s"
    assert len(lines) == 9


def test_pauses_do_not_slow_the_speed(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(pg.time, "monotonic", lambda: clock[0])
    bar = pg.Progress(10, batch_size=4, show=False)
    clock[0] += 2.0
    bar.advance()
    clock[0] += 50.0
    bar.pause(50.0)
    assert bar.speed() == pytest.approx(2.0)


def test_silence_is_silent(capsys):
    bar = pg.Progress(2, show=False)
    bar.advance()
    bar.tell(1.0, 1.0)
    bar.close()
    assert capsys.readouterr().err == ""


def everything(ours: int) -> str:
    """Read a pseudo-terminal to its end: one read may return a part of what was written."""
    parts = []
    while True:
        try:
            part = os.read(ours, 10_000)
        except OSError:  # how Linux says that the other side is closed
            part = b""
        if not part:
            os.close(ours)
            return b"".join(parts).decode()
        parts.append(part)


def test_a_terminal_gets_a_bar(monkeypatch):
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        bar = pg.Progress(3, batch_size=4)
        bar.advance()
        bar.tell(0.125, 40.0)
        bar.say("a line")
        bar.close()
    shown = everything(ours)
    assert re.search(r"1/3 .*loss 0.125, 40 images/s", shown) and "a line" in shown
