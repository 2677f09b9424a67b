"""One energy of pixels: the field is its gradient, wherever and however it is asked."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from amtutor.generative import scalar_et
from amtutor.generative.equilibrium import sample
from amtutor.generative.et_eqm import EnergyTransformerField
from amtutor.generative.scalar_et import BlockEnergyModel, DecodedDistance, LocalEnergy

SMALL = {
    **{"patch_size": 2, "dim": 8, "n_heads": 2, "head_dim": 4, "n_memories": 6, "n_classes": 3},
    **{"stem": 2, "n_filters": 3, "filter_size": 3},
}
FORMS = (
    DecodedDistance,
    BlockEnergyModel,
    partial(DecodedDistance, mix_heads=True, class_in_blocks="placed"),
    partial(DecodedDistance, levels=2, exclude_self=False),  # at half the side there is one token
    partial(DecodedDistance, cone=0.3, stiffness=5.0, n_fine=2),
    partial(BlockEnergyModel, mix_heads=True),
)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def compiler():
    """A compiler that remembers nothing: it gives up on code that it has seen in many forms."""
    torch.compiler.reset()


def small(form, **more):
    net = form((1, 4, 4), **SMALL | more, generator=rng()).double()
    g = rng(1)
    with torch.no_grad():
        for p in net.parameters():
            p += 0.1 * torch.randn(p.shape, generator=g, dtype=p.dtype)
    return net


def pictures(n=3):
    return torch.randn(n, 1, 4, 4, generator=rng(2), dtype=torch.float64)


LABELS = torch.tensor([0, 2, 3])


@pytest.mark.parametrize("form", FORMS)
def test_the_field_is_the_slope_of_the_energy(form):
    """By finite differences, which know nothing of automatic derivatives."""
    net, x = small(form), pictures()
    field, h = net(x, LABELS).detach(), 1e-5
    for at in ((0, 0, 1, 2), (1, 0, 3, 3), (2, 0, 0, 0)):
        step = torch.zeros_like(x)
        step[at] = h
        rise = net.energy(x + step, LABELS) - net.energy(x - step, LABELS)
        assert rise[at[0]].item() / (2 * h) == pytest.approx(field[at].item(), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("form", FORMS)
def test_it_is_the_same_field_without_gradients(form):
    net, x = small(form), pictures()
    want = net(x, LABELS).detach()
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            got = net(pictures(), LABELS)
            assert torch.allclose(got, want, rtol=1e-12) and not got.requires_grad


@pytest.mark.parametrize("form", FORMS)
def test_its_jacobian_is_symmetric_and_that_of_the_free_field_is_not(form):
    def turned(net):
        def flat(v):
            return net(v.reshape(1, 1, 4, 4), LABELS[:1]).flatten()

        jacobian = torch.autograd.functional.jacobian(flat, pictures(1).flatten())
        return float((jacobian - jacobian.T).norm() / jacobian.norm())

    free = EnergyTransformerField(
        (1, 4, 4),
        patch_size=2,
        dim=8,
        n_heads=2,
        head_dim=4,
        n_memories=6,
        n_classes=3,
        generator=rng(),
    ).double()
    assert turned(small(form)) < 1e-13
    assert turned(free) > 0.1


@pytest.mark.parametrize("form", FORMS)
def test_energy_falls_along_the_sampler(form):
    net = small(form)
    walk = sample(
        net, pictures(), labels=LABELS, steps=60, step_size=0.01, energy=net.energy, record=True
    )
    assert (walk.trajectory.energies.diff(dim=0) < 0).all()


@pytest.mark.parametrize("form", FORMS)
def test_pictures_are_strangers_and_energies_are_not_averaged(form):
    net, x = small(form), pictures()
    alone = [net.energy(x[b : b + 1], LABELS[b : b + 1]) for b in range(3)]
    assert torch.allclose(net.energy(x, LABELS), torch.cat(alone), atol=1e-12)
    fields = [net(x[b : b + 1], LABELS[b : b + 1]) for b in range(3)]
    assert torch.allclose(net(x, LABELS), torch.cat(fields), atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_every_parameter_learns_through_the_gradient(form):
    net = small(form)
    net(pictures(), LABELS).square().sum().backward()
    still = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not still


@pytest.mark.parametrize("form", FORMS)
def test_the_gradient_of_the_gradient_is_right(form):
    """Against finite differences in one weight."""
    net, x, h = small(form), pictures(), 1e-5

    def loss():
        return net(x, LABELS).square().sum()

    weight = net.blocks[0].hopfield.memories
    (slope,) = torch.autograd.grad(loss(), weight)
    with torch.no_grad():
        weight[1, 2] += h
        up = loss().item()
        weight[1, 2] -= 2 * h
        down = loss().item()
    assert (up - down) / (2 * h) == pytest.approx(slope[1, 2].item(), rel=1e-5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_the_compiled_gradient_trains_as_the_plain_one(form, backend, compiler):
    net, x = small(form), pictures()
    params = list(net.parameters())
    plain = net(x, LABELS)
    want = torch.autograd.grad(plain.square().sum(), params)
    net.field_by = scalar_et.compiled_field(net, backend=backend)
    got = net(x, LABELS)
    assert torch.allclose(got, plain, atol=1e-11)
    for a, b in zip(torch.autograd.grad(got.square().sum(), params), want, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-10)


def test_where_compiling_fails_it_says_so_once_and_goes_on(compiler):
    def broken(graph, inputs):
        raise RuntimeError("no compiler here")

    net, x = small(DecodedDistance), pictures()
    plain = net(x, LABELS)
    net.field_by = scalar_et.compiled_field(net, backend=broken)
    with pytest.warns(UserWarning, match="not compiled, the plain gradient is taken"):
        assert torch.allclose(net(x, LABELS), plain)
    assert torch.allclose(net(x, LABELS), plain)


def test_the_local_energy_has_its_gradient_in_closed_form():
    local = LocalEnergy(2, n_filters=4, size=3, generator=rng()).double()
    with torch.no_grad():
        local.weight += torch.randn(4, generator=rng(1), dtype=torch.float64)
        local.bias += torch.randn(4, generator=rng(3), dtype=torch.float64)
    x = torch.randn(3, 2, 5, 6, generator=rng(2), dtype=torch.float64).requires_grad_()
    (slope,) = torch.autograd.grad(local(x).sum(), x)
    assert torch.allclose(local.gradient(x), slope, atol=1e-12)
    by_hand = torch.zeros(())
    u = torch.nn.functional.conv2d(x[:1], local.filters, padding=1)
    for k in range(4):
        by_hand = by_hand + local.weight[k] * (1 + (u[0, k] + local.bias[k]) ** 2).sqrt().sum()
    assert torch.allclose(local(x)[0], by_hand)


def test_the_distance_is_to_the_decoded_picture():
    net, x = small(DecodedDistance, n_filters=0), pictures()
    away = (x - net.decoded(x, LABELS)).square().flatten(1).sum(1)
    assert torch.allclose(net.energy(x, LABELS), 0.5 * net.stiffness * away)


def test_a_decoder_may_see_single_pixels():
    net, x = small(DecodedDistance, n_fine=2), pictures()
    plain = small(DecodedDistance)
    plain.load_state_dict({k: v for k, v in net.state_dict().items() if k in plain.state_dict()})
    assert torch.allclose(
        net.decoded(x, LABELS), plain.decoded(x, LABELS) + net.fine(x), atol=1e-12
    )


def test_with_a_cone_it_is_a_parabola_near_and_a_cone_far():
    net = small(DecodedDistance, n_filters=0, cone=0.3, stiffness=5.0)
    x, delta = pictures(), 0.3 * 4  # of 16 pixels
    rho = (x - net.decoded(x, LABELS)).flatten(1).norm(dim=1)
    want = net.stiffness * delta**2 * ((1 + (rho / delta) ** 2).sqrt() - 1)
    assert torch.allclose(net.energy(x, LABELS), want)
    far, near = small(DecodedDistance, n_filters=0, cone=1e-4), small(DecodedDistance, n_filters=0)
    wide = small(DecodedDistance, n_filters=0, cone=1e5)
    assert torch.allclose(wide.energy(x, LABELS), near.energy(x, LABELS), rtol=1e-5)
    slope = 4e-4 * far.stiffness  # of a cone: s delta, by distance
    assert torch.allclose(far.energy(x, LABELS), slope * rho, rtol=1e-3)


def test_two_resolutions_are_two_energies_under_one_sum():
    net, x = small(DecodedDistance, levels=2, exclude_self=False), pictures()
    halved = x.reshape(3, 1, 2, 2, 2, 2).mean((3, 5))
    alone = 0.5 * net.stiffness * (x - net.decoded(x, LABELS)).square().sum((1, 2, 3))
    alone = alone + net.local(x)
    want = alone + net.coarser.energy(halved, LABELS)
    assert torch.allclose(net.energy(x, LABELS), want, rtol=1e-12)
    assert net.coarser.coarser is None and net.coarser.shape == (1, 2, 2)


def test_what_cannot_be_halved_is_refused():
    with pytest.raises(ValueError, match="levels = 2: expected 1: a side of 3 cannot be halved"):
        DecodedDistance((1, 3, 3), **SMALL | {"patch_size": 3}, levels=2)


def test_far_away_the_second_form_is_a_cone():
    net = small(BlockEnergyModel, n_filters=0)
    x = 1e6 * pictures(1)
    found = net.energy(2 * x) - net.energy(x)  # the blocks see normalised tokens: they stay finite
    assert found.item() == pytest.approx((net.slope * x.norm()).item(), rel=1e-3)


def test_only_a_model_with_an_energy_is_compiled():
    with pytest.raises(TypeError, match="model: got .*expected a model with an energy"):
        scalar_et.compiled_field(torch.nn.Linear(2, 2))
