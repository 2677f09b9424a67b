"""Draws are functions of (seed, step, name, row); nothing else may change them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from amtutor.train import Draws
from amtutor.train.draws import seed_of

KINDS = {
    "normal": lambda d: d.normal("a", (3, 2)),
    "uniform": lambda d: d.uniform("a", (3,)),
    "integers": lambda d: d.integers("a", 2, 9, (3,)),
    "rows": lambda d: d.rows(10),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("world", [2, 3, 6])
def test_processes_share_one_draw(kind, world):
    draw = KINDS[kind]
    whole = draw(Draws(5, 7, 12))
    parts = [draw(Draws(5, 7, 12, rank=r, world=world)) for r in range(world)]
    assert all(len(part) == 12 // world for part in parts)
    assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("kind", ["normal", "uniform", "integers"])
def test_seed_step_and_name_matter_and_global_randomness_does_not(kind):
    draw = KINDS[kind]
    first = draw(Draws(5, 7, 12))
    torch.manual_seed(99)
    assert torch.equal(draw(Draws(5, 7, 12)), first)
    assert not torch.equal(draw(Draws(6, 7, 12)), first)
    assert not torch.equal(draw(Draws(5, 8, 12)), first)
    other = getattr(Draws(5, 7, 12), kind)
    same_shape = other("b", 2, 9, (3,)) if kind == "integers" else other("b", first.shape[1:])
    assert not torch.equal(same_shape, first)


@given(st.integers(1, 40), st.integers(1, 25), st.integers(0, 2**40))
def test_an_epoch_sees_every_example_once(n, batch, seed):
    steps = -(-2 * n // batch)
    seen = torch.cat([Draws(seed, s, batch).rows(n) for s in range(steps)])
    assert sorted(seen[:n].tolist()) == list(range(n))
    assert sorted(seen[n : 2 * n].tolist()) == list(range(n))


def test_seeds_know_where_one_part_ends_and_the_next_begins():
    """Step 23 of seed 1 is not step 3 of seed 12: eight ways to cut the same characters."""
    cuts = [(1, 23), (12, 3), (123,), (1, 2, 3), ("1", 2, "3x"), (12, "3x"), ("123x",), (1, "23x")]
    assert len({seed_of(*parts) for parts in cuts}) == len(cuts)
    assert seed_of(1, "23") == seed_of("1", 23) and 0 <= seed_of(1) < 2**63


def test_epochs_differ():
    orders = {tuple(Draws(0, epoch, 30).rows(30).tolist()) for epoch in range(5)}
    assert len(orders) == 5


def test_ranges_and_moments():
    draws = Draws(0, 0, 20_000)
    u, z, k = draws.uniform("u"), draws.normal("z"), draws.integers("k", -1, 3)
    assert u.shape == (20_000,) and float(u.min()) >= 0 and float(u.max()) < 1
    assert abs(float(z.mean())) < 0.03 and abs(float(z.std()) - 1) < 0.03
    assert k.unique().tolist() == [-1, 0, 1, 2] and k.dtype == torch.int64


def test_shared_is_the_same_on_all():
    first, second = (
        torch.rand(3, generator=Draws(0, 4, 8, rank=r, world=2).shared("x")) for r in (0, 1)
    )
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    "wrong", [{"rank": 2, "world": 2}, {"rank": -1}, {"world": 0}, {"step": -5}, {"step": "x"}]
)
def test_a_process_or_a_step_that_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} = "):
        Draws(**{"seed": 0, "step": 0, "batch_size": 4, **wrong})
    with pytest.raises(ValueError, match="n = 0"):
        Draws(0, 0, 4).rows(0)


def test_a_batch_must_divide_among_the_processes():
    with pytest.raises(ValueError, match="batch_size = 10: expected a multiple of the 4 processes"):
        Draws(0, 0, 10, rank=0, world=4)
