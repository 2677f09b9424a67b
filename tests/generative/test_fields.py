"""Fields of arrows: Jacobians, what turns and what spreads, and the energy along a line."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from amtutor.generative.fields import asymmetry, curl, divergence, jacobian, line_energy
from amtutor.memory.dense import lse_energy, lse_gradient


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


MATRIX = draw(7, 7, seed=5)


def linear(x):
    return x @ MATRIX.T


def bent(x):
    """A field with a Jacobian of its own at each place, no slope of anything."""
    return torch.tanh(x @ MATRIX.T) * x.roll(1, -1)


def memory_pull(x):
    return lse_gradient(x, draw(11, 7, seed=1), beta=2.0)


def test_jacobian_is_torchs_row_by_row():
    x = draw(3, 7)
    wanted = [torch.autograd.functional.jacobian(lambda y: bent(y[None])[0], row) for row in x]
    assert_close(jacobian(bent, x), torch.stack(wanted), rtol=0, atol=1e-12)
    assert_close(jacobian(linear, x), MATRIX.expand(3, 7, 7), rtol=0, atol=1e-12)


def test_curl_of_a_whirl_and_of_a_slope():
    def whirl(x):
        return 3 * torch.stack([-x[:, 1], x[:, 0]], -1)

    x = draw(4, 2)
    assert_close(curl(whirl, x)[:, 1, 0], torch.full((4,), 6.0, dtype=torch.float64))
    assert_close(asymmetry(whirl, x), torch.ones(4, dtype=torch.float64))
    assert curl(memory_pull, draw(3, 7)).abs().max() < 1e-12
    assert asymmetry(memory_pull, draw(3, 7)).max() < 1e-12


def test_asymmetry_of_a_matrix_is_its_formula():
    wanted = float((MATRIX - MATRIX.T).norm() / (2 * MATRIX.norm()))
    assert 0.3 < wanted < 0.9
    assert_close(asymmetry(linear, draw(2, 7)), torch.full((2,), wanted, dtype=torch.float64))
    assert (asymmetry(lambda x: 0 * x, draw(2, 7)) == 0).all()


def test_divergence_is_the_trace():
    x = draw(3, 7)
    wanted = jacobian(bent, x).diagonal(dim1=1, dim2=2).sum(-1)
    assert_close(divergence(bent, x), wanted, rtol=0, atol=1e-12)


def test_probes_agree_with_what_is_exact():
    x, n = draw(3, 7), 4000
    symmetric = jacobian(bent, x)
    symmetric = (symmetric + symmetric.mT) / 2
    off = symmetric - torch.diag_embed(symmetric.diagonal(dim1=1, dim2=2))
    deviation = (2 * off.square().sum((1, 2)) / n).sqrt()  # of Hutchinson with random signs
    g = torch.Generator().manual_seed(0)
    gap = divergence(bent, x, probes=n, generator=g) - divergence(bent, x)
    assert (gap.abs() < 5 * deviation).all() and (gap.abs() > 1e-6).any()
    # both norms have a relative error of about sqrt(2/n); five of them
    ratio = asymmetry(bent, x, probes=n, generator=g) / asymmetry(bent, x)
    assert (ratio - 1).abs().max() < 5 * math.sqrt(2 / n)


def test_one_sign_probe_is_exact_where_the_jacobian_is_diagonal():
    x = draw(3, 7)
    exact = (3 * x**2).sum(-1)
    one = divergence(lambda x: x**3, x, probes=1, generator=torch.Generator().manual_seed(0))
    assert_close(one, exact, rtol=1e-12, atol=0)


def test_it_works_where_nobody_tracks_gradients():
    x = draw(3, 7)
    with torch.inference_mode():
        inside = divergence(bent, x.clone())
    with torch.no_grad():
        held = asymmetry(bent, x, probes=3, generator=torch.Generator().manual_seed(0))
    assert_close(inside, divergence(bent, x), rtol=0, atol=1e-12)
    assert not held.requires_grad and not inside.requires_grad


def test_line_energy_is_the_energy_of_a_memory():
    memories, beta = draw(9, 5, seed=1), 3.0
    x, start = 2 * draw(4, 3, 5), draw(5, seed=2)

    def score(x):
        return -beta * lse_gradient(x, memories, beta=beta)

    energy = line_energy(score, x, start).energy
    wanted = beta * (lse_energy(x, memories, beta=beta) - lse_energy(start, memories, beta=beta))
    assert energy.shape == (4, 3) and wanted.abs().max() > 5
    assert_close(energy, wanted, rtol=0, atol=1e-8)
    each = line_energy(score, x, start.expand(4, 3, 5))
    assert_close(each.energy, energy, rtol=0, atol=1e-12)


def test_the_error_says_how_far_a_coarse_rule_is_off():
    memories, beta = draw(9, 2, seed=1), 50.0  # sharp ridges: hard for few nodes
    x, start = 2 * draw(50, 2), torch.zeros(2, dtype=torch.float64)

    def score(x):
        return -beta * lse_gradient(x, memories, beta=beta)

    wanted = beta * (lse_energy(x, memories, beta=beta) - lse_energy(start, memories, beta=beta))
    coarse = line_energy(score, x, start, panels=8, nodes=3)
    fine = line_energy(score, x, start, panels=64, nodes=8)
    off = (coarse.energy - wanted).abs()
    assert off.max() > 0.1 and (fine.energy - wanted).abs().max() < 1e-3
    assert (off <= 3 * coarse.error + 1e-6).float().mean() > 0.9
    assert fine.error.max() < 0.01 * coarse.error.max()


def test_a_whirl_gives_another_energy_along_another_way():
    def whirl(x):
        return torch.stack([-x[:, 1], x[:, 0]], -1)

    origin, right = torch.zeros(2).double(), torch.tensor([1.0, 0.0]).double()
    corner = torch.tensor([[1.0, 1.0]]).double()
    straight = line_energy(whirl, corner, origin)
    bent_way = line_energy(whirl, right[None], origin).energy
    bent_way = bent_way + line_energy(whirl, corner, right).energy
    assert float(straight.energy) == 0 and float(straight.error) < 1e-12
    assert abs(float(bent_way) + 1) < 1e-12  # twice the triangle between the two ways


def test_fields_say_what_is_wrong():
    x = draw(3, 2)
    with pytest.raises(ValueError, match=r"field: gave a .* expected an arrow of shape \(3, 2\)"):
        jacobian(lambda x: x.sum(-1), x)
    with pytest.raises(ValueError, match="cannot be differentiated"):
        divergence(lambda x: torch.ones_like(x), x)
    with pytest.raises(ValueError, match=r"start: got shape \(3,\)"):
        line_energy(lambda x: x, x, draw(3))
    with pytest.raises(TypeError, match="field: got a int"):
        curl(5, x)
