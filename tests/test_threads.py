"""One thread inside, what was before outside, in every thread and however a block is left."""

from __future__ import annotations

import threading

import pytest
import torch

from amtutor._threads import SMALL, one_thread


@pytest.fixture
def three():
    """Three threads, whatever the machine has, and back."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_one_inside_and_what_was_outside(three):
    with one_thread():
        assert torch.get_num_threads() == 1
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3


def test_an_error_puts_it_back_too(three):
    with pytest.raises(KeyError), one_thread():
        raise KeyError
    assert torch.get_num_threads() == 3


def test_large_work_keeps_its_threads(three):
    with one_thread(SMALL + 1):
        assert torch.get_num_threads() == 3
    with one_thread(SMALL):
        assert torch.get_num_threads() == 1
    with one_thread(10, small=9):
        assert torch.get_num_threads() == 3


def test_another_thread_keeps_its_own(three):
    """Blocks that overlap in time, entered and left in either order."""
    inside, leave, seen = threading.Event(), threading.Event(), []

    def other():
        torch.set_num_threads(2)
        with one_thread():
            inside.set()
            leave.wait(60)
            seen.append(torch.get_num_threads())
        seen.append(torch.get_num_threads())

    worker = threading.Thread(target=other)
    worker.start()
    assert inside.wait(60)
    assert torch.get_num_threads() == 3
    with one_thread():
        leave.set()
        worker.join()
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3 and seen == [1, 2]


def test_it_is_nothing_inside_compile_and_vmap(three):
    def double(x):
        with one_thread():
            return 2 * x

    x = torch.arange(6.0).reshape(2, 3)
    whole = torch.compile(double, backend="eager", fullgraph=True)
    assert torch.equal(whole(x), 2 * x)
    assert torch.equal(torch.func.vmap(double)(x), 2 * x)
    assert torch.get_num_threads() == 3
