"""One way to draw: a function of the generator, and all that may come does come."""

from __future__ import annotations

import pytest
import torch

from amtutor import _draw

DRAWS = {
    "normal": lambda g: _draw.normal((4, 5), generator=g),
    "uniform": lambda g: _draw.uniform((4, 5), generator=g),
    "integers": lambda g: _draw.integers(1000, (4, 5), generator=g),
    "permutation": lambda g: _draw.permutation(40, generator=g),
}


@pytest.mark.parametrize("kind", DRAWS)
def test_a_draw_is_a_function_of_its_generator_and_of_nothing_else(kind):
    def draw(seed):
        return DRAWS[kind](torch.Generator().manual_seed(seed))

    before = torch.random.get_rng_state()
    first = draw(1)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(99)
    assert torch.equal(draw(1), first) and not torch.equal(draw(2), first)


def test_every_whole_number_below_high_comes_and_no_other():
    found = _draw.integers(3, (300,), generator=torch.Generator().manual_seed(0))
    assert set(found.tolist()) == {0, 1, 2}
    assert _draw.integers(1, (5,)).tolist() == [0] * 5


def test_a_permutation_has_everybody_once():
    order = _draw.permutation(50, generator=torch.Generator().manual_seed(0))
    assert sorted(order.tolist()) == list(range(50)) and order.tolist() != list(range(50))


def test_normal_and_uniform_numbers_have_their_moments_in_double_precision_too():
    """Means and variances of n draws stay within five of their standard deviations."""
    n, g = 20_000, torch.Generator().manual_seed(0)
    x = _draw.normal((n,), generator=g, dtype=torch.float64)
    u = _draw.uniform((n,), generator=g, dtype=torch.float64)
    assert x.dtype == u.dtype == torch.float64 and 0 <= u.min() and u.max() < 1
    assert abs(x.mean()) < 5 * n**-0.5 and abs(x.var() - 1) < 5 * (2 / n) ** 0.5
    assert abs(u.mean() - 1 / 2) < 5 * (12 * n) ** -0.5
    assert abs(u.var() - 1 / 12) < 5 * (180 * n) ** -0.5
