"""Signals: the first is noted, the second acts at once, and afterwards all is as it was."""

from __future__ import annotations

import signal

import pytest

from amtutor.train.stop import Signals


@pytest.mark.parametrize("number, name", [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "Ctrl-C")])
def test_the_first_is_noted_and_the_second_acts_as_before(number, name):
    heard = []
    before = signal.signal(number, lambda *_: heard.append("ours"))
    try:
        with Signals() as signals:
            assert signals.caught == ""
            signal.raise_signal(number)
            assert signals.caught == name and heard == []
            signal.raise_signal(number)
            assert heard == ["ours"]
        signal.raise_signal(number)
        assert heard == ["ours"] * 2
    finally:
        signal.signal(number, before)


def test_without_a_signal_the_handlers_come_back_all_the_same():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with Signals():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
