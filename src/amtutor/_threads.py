"""Small work on one thread.

Two threads that share a small product wait for each other at its end. Where another process is busy
beside them, one of them has been put aside by then, and the wait is a time slice: recall of 1000
queries on two cores took 30 times as long with two threads as with one. A large product gains from
every core, whatever stands beside it.
"""

from __future__ import annotations

from types import TracebackType

import torch

__all__ = ["SMALL", "one_thread"]

SMALL = 2**26
"""Multiply-adds of the largest single product up to which one thread is best: a millisecond or two
of one core, less than a time slice of the operating system."""


class one_thread:
    """Let torch use one thread inside the block, and put back what was.

    Costs two microseconds. The setting is of the calling thread alone, and blocks may lie in
    blocks; other threads keep theirs. (A thread that first calls torch while another one is inside
    such a block starts with one.) Inside ``torch.compile`` it does nothing.

    Args:
        work: multiply-adds of the largest single product inside; above ``small``, nothing is done.
        small: see :data:`SMALL`.

    >>> before = torch.get_num_threads()
    >>> with one_thread():
    ...     torch.get_num_threads()
    1
    >>> torch.get_num_threads() == before
    True
    """

    def __init__(self, work: float = 0, *, small: float = SMALL):
        self.wanted = work <= small
        self.before = 1

    def __enter__(self) -> None:
        if self.wanted and not torch.compiler.is_compiling():
            self.before = torch.get_num_threads()
            if self.before != 1:
                torch.set_num_threads(1)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.before != 1:
            torch.set_num_threads(self.before)
