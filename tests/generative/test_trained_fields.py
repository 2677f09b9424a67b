"""Fields that ship: what the cards promise, and that they draw digits."""

from __future__ import annotations

import pytest
import torch

from amtutor.generative import trained_fields
from amtutor.generative.equilibrium import sample

NAMES = ("digits_eqm", "digits_eqm_scalar")


@pytest.mark.parametrize("name", NAMES)
def test_what_ships_is_a_field_of_digits_that_classes_steer(name):
    field = trained_fields.load(name)
    assert not field.training and not any(p.requires_grad for p in field.parameters())
    x = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    found = field(x, torch.tensor([0, 1, 7, field.null]))
    assert found.shape == x.shape and found.isfinite().all()
    other = field(x, torch.tensor([5, 1, 7, field.null]))
    assert not torch.equal(found[0], other[0])
    assert torch.allclose(found[1:], other[1:], atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_noise_becomes_ink_on_an_empty_page(name):
    """Most pixels of a digit are background; what is drawn is far from noise."""
    field, labels = trained_fields.load(name), torch.arange(10)
    start = torch.randn(10, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    end = sample(field, start, labels=labels, steps=25, step_size=0.016).state
    assert (end < -0.8).float().mean() > 0.5  # of noise: 0.21
    assert (end.flatten(1).amax(1) > 0.5).all()
    edge = torch.cat([end[..., 0].flatten(), end[..., -1].flatten()])
    assert (edge + 1).abs().mean() < 0.2


def test_the_scalars_field_is_the_slope_of_its_energy():
    field = trained_fields.load("digits_eqm_scalar")
    x = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([3, 8])
    watched = x.clone().requires_grad_()
    (want,) = torch.autograd.grad(field.energy(watched, labels).sum(), watched)
    assert torch.allclose(field(x, labels), want, rtol=1e-5, atol=1e-5)


def test_bad_input_gets_one_clear_line():
    with pytest.raises(ValueError, match="name = 'digits': expected one of .*digits_eqm"):
        trained_fields.load("digits")
    with pytest.raises(ValueError, match="model = 'unet': expected one of"):
        trained_fields.build("unet", (1, 4, 4))
