"""Separations: whole numbers and tensors tell one story, also at zero and at the power one."""

from __future__ import annotations

import math

import pytest
import torch

from amtutor.memory.separations import Exponential, Polynomial, RectifiedPolynomial

POWERS = [kind(n) for kind in (Polynomial, RectifiedPolynomial) for n in (1, 2, 3, 6)]
OVERLAPS = torch.arange(-4, 5, dtype=torch.float64)


@pytest.mark.parametrize("separation", POWERS, ids=repr)
def test_whole_numbers_are_the_values_and_n_times_them_the_slopes(separation):
    whole = [int(s) for s in OVERLAPS]
    assert [separation.whole(s) for s in whole] == separation(OVERLAPS).tolist()
    slopes = [separation.n * separation.whole(s, slope=True) for s in whole]
    assert slopes == separation.derivative(OVERLAPS).tolist()


@pytest.mark.parametrize("separation", [*POWERS, Exponential(0.3)], ids=repr)
def test_the_derivative_is_that_of_automatic_differentiation_away_from_the_bend(separation):
    m = OVERLAPS[OVERLAPS != 0].clone().requires_grad_()
    (slope,) = torch.autograd.grad(separation(m).sum(), m)
    torch.testing.assert_close(separation.derivative(m.detach()), slope)


def test_powers_are_products():
    x = torch.tensor([-1.5, 0.0, 2.0], dtype=torch.float64)
    for n in range(1, 20):
        expected = [math.prod([v] * n) for v in x.tolist()]
        assert Polynomial(n)(x).tolist() == pytest.approx(expected, rel=1e-14)
