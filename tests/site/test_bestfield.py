"""The best field in the page: a mean over all that led to a place, and how much it turns."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from amtutor.generative.equilibrium import truncated_decay
from amtutor.generative.fields import curl

EXPLORABLE = "bestfield"
DOUBLE = torch.float64


def given(seed):
    """Up to five points, and places where their noise may be; one of them very near a point."""
    g = torch.Generator().manual_seed(seed)
    points = 1.5 * torch.randn(1 + seed % 5, 2, generator=g, dtype=DOUBLE)
    gamma = torch.rand(7, 1, generator=g, dtype=DOUBLE)
    noise = torch.randn(7, 2, generator=g, dtype=DOUBLE)
    x = points[torch.randint(len(points), (7,), generator=g)]
    gamma[0] = 0.99
    return gamma * x + (1 - gamma) * noise, points


def by_definition(z, points, *, a=0.8, panels=60):
    """Sum over gamma and points, panel by panel in the logarithm of 1 - gamma."""
    knots, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(20))
    ends = torch.cat(
        [
            torch.linspace(math.log(1e-6), math.log(1 - a), panels + 1, dtype=DOUBLE)[:-1],
            torch.linspace(math.log(1 - a), 0, panels + 1, dtype=DOUBLE),
        ]
    )
    half = ends.diff()[:, None] / 2
    u = (ends[:-1, None] + half * (1 + knots)).flatten()
    left, weight = u.exp()[:, None], (half * weights).flatten().exp().log()[:, None]
    gap = (z[:, None, None] - (1 - left[..., None]) * points).square().sum(-1)
    # d gamma = left du, and each bell has the height left^-2
    height = weight.log() - left.log() - gap / (2 * left.square())
    share = height.flatten(1).softmax(1).view_as(height)
    pull = share * truncated_decay(1 - left, a=a) / left
    return pull.sum((1, 2))[:, None] * z - torch.einsum("bgk,kd->bd", pull, points)


def found(module, z, points):
    code = """([places, points]) => {
      const [plain, turned] = [false, true].map((t) => T.bestFieldOf(points, T.quadrature(), t));
      return places.map((z) => {
        const { field, curl, left } = turned(z);
        return [...field, curl, left, ...plain(z).field];
      });
    }"""
    return torch.tensor(module.evaluate(code, [z.tolist(), points.tolist()]), dtype=DOUBLE)


@pytest.mark.parametrize("seed", range(50))
def test_field_and_curl_are_those_of_the_definition(module, seed):
    z, points = given(seed)
    numbers = found(module, z, points)
    wanted = by_definition(z, points)
    torch.testing.assert_close(numbers[:, :2], wanted, rtol=0, atol=1e-6)
    torch.testing.assert_close(numbers[:, 4:], numbers[:, :2], rtol=0, atol=0)
    turn = curl(lambda y: by_definition(y, points), z)[:, 1, 0]
    # near a point answers change within the width of the noise: 1e-8 of the field over 1e-4
    torch.testing.assert_close(numbers[:, 2], turn, rtol=1e-4, atol=1e-4)
    assert ((numbers[:, 3] > 0) & (numbers[:, 3] < 1)).all()


def test_a_point_in_the_middle_of_the_noise_has_a_slope_and_one_aside_has_none(module):
    z, _ = given(4)
    middle, aside = (
        found(module, z, torch.tensor([x], dtype=DOUBLE)) for x in ([0, 0], [1.2, 0.6])
    )
    assert middle[:, 2].abs().max() < 1e-9
    assert aside[:, 2].abs().max() > 0.1


def test_nodes_are_gauss_and_legendres(module):
    knots, weights = np.polynomial.legendre.leggauss(48)
    mine = np.array(module.evaluate("T.legendre(48)"))
    order = np.argsort(mine[:, 0])
    np.testing.assert_allclose(mine[order], np.stack([knots, weights], 1), rtol=0, atol=1e-13)
    nodes = module.evaluate("T.quadrature()")
    # all gammas are even: their weights have the sum of the way between the ends
    assert abs(sum(node["weight"] for node in nodes) - (1 - 1e-4)) < 1e-9
    c = truncated_decay(torch.tensor([node["gamma"] for node in nodes], dtype=DOUBLE))
    torch.testing.assert_close(torch.tensor([n["c"] for n in nodes], dtype=DOUBLE), c)
