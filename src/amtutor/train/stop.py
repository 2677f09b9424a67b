"""Ways to end early: a signal that waits for the step to end, and a number that is none."""

from __future__ import annotations

import signal
import threading
from typing import Any

__all__ = ["NonFinite", "Signals"]


class NonFinite(RuntimeError):
    """Loss, gradient or weights are NaN or infinite; the message is one line."""


class Signals:
    """Within it SIGTERM and Ctrl-C only set ``caught``; a second one acts as it always does."""

    def __init__(self) -> None:
        self.caught = ""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():  # Python allows it only there
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._catch)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _catch(self, number: int, _frame: object) -> None:
        self.caught = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        self.__exit__()
