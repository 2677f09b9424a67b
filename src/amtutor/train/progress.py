"""How far, how fast, how long still: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import os
import sys
import time

__all__ = ["Progress", "duration"]

_BETWEEN = 10.0  # seconds between two lines where there is no terminal


def duration(seconds: float) -> str:
    """Say a time as one would.

    >>> duration(42), duration(125), duration(3 * 3600 + 120), duration(200_000)
    ('42 s', '2 min 05 s', '3 h 02 min', '2 d 7 h')
    """
    s = round(seconds)
    if s < 60:
        return f"{s} s"
    if s < 3600:
        return f"{s // 60} min {s % 60:02d} s"
    if s < 86400:
        return f"{s // 3600} h {s % 3600 // 60:02d} min"
    return f"{s // 86400} d {s % 86400 // 3600} h"


class Progress:
    """Shows the step, the loss, images per second and the time left, on the error stream."""

    def __init__(self, steps: int, *, first: int = 0, batch_size: int = 1, show: bool = True):
        self.steps, self.step, self.batch_size = steps, first, batch_size
        self.first, self.began, self.paused = first, time.monotonic(), 0.0
        self._mark, self._told = (first, self.began, 0.0), 0.0
        self.bar = self._tqdm() if show and sys.stderr.isatty() else None
        self.plain = show and self.bar is None

    def _tqdm(self):
        from tqdm import tqdm

        # A pseudo-terminal may say that it has no columns at all; tqdm would then show nothing.
        known = os.get_terminal_size(sys.stderr.fileno()).columns > 0
        width = {"dynamic_ncols": True} if known else {"ncols": 100, "nrows": 20}
        # `--quiet` is how a training is told to be silent; TQDM_DISABLE is for libraries' bars.
        return tqdm(total=self.steps, initial=self.first, unit=" steps", disable=False, **width)

    def pause(self, seconds: float) -> None:
        """Leave time out of the speed (spent on samples, evaluation, checkpoints)."""
        self.paused += seconds

    def advance(self) -> None:
        """One more step is done."""
        self.step += 1
        if self.bar:
            self.bar.update(1)

    def speed(self) -> float:
        """Images per second since this was last asked."""
        step, then, paused = self._mark
        now = time.monotonic()
        busy = max(now - then - (self.paused - paused), 1e-9)
        self._mark = (self.step, now, self.paused)
        return (self.step - step) * self.batch_size / busy

    def tell(self, loss: float, speed: float) -> None:
        """Show the numbers."""
        if self.bar:
            self.bar.set_postfix_str(f"loss {loss:.4g}, {speed:.4g} images/s")
            return
        now = time.monotonic()
        last = self.step >= self.steps
        if not self.plain or (now - self._told < _BETWEEN and self._told and not last):
            return
        self._told = now
        left = (now - self.began) / max(self.step - self.first, 1) * (self.steps - self.step)
        line = f"step {self.step}/{self.steps}  loss {loss:.4g}  {speed:.4g} images/s"
        print(line if last else f"{line}  {duration(left)} left", file=sys.stderr, flush=True)

    def say(self, line: str) -> None:
        """Say a line without breaking the bar."""
        if self.bar:
            self.bar.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self.bar:
            self.bar.close()
