"""EQ's field: its parameters to the integer, its parts by plain lines, classes that matter."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from amtutor.generative import et_eqm
from amtutor.generative.et_eqm import EnergyTransformerField, sinusoidal_positions
from amtutor.network.masked_images import to_patches, to_pictures

# EQ Table 1, cut there to two decimals of a million
TABLE_1 = {
    (1, "learned"): 4_945_165,
    (1, "sinusoidal"): 4_748_557,
    (4, "learned"): 15_564_304,
    (4, "sinusoidal"): 15_367_696,
    (8, "learned"): 29_723_156,
    (8, "sinusoidal"): 29_526_548,
}
SMALL = {"patch_size": 2, "dim": 8, "n_heads": 2, "head_dim": 4, "n_memories": 6, "n_classes": 3}


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def small(**more):
    """A field in which nothing is zero."""
    net = EnergyTransformerField((1, 4, 4), **SMALL | more, generator=rng()).double()
    g = rng(1)
    with torch.no_grad():
        for p in net.parameters():
            p += 0.1 * torch.randn(p.shape, generator=g, dtype=p.dtype)
    return net


def pictures(n=3, seed=2):
    return torch.randn(n, 1, 4, 4, generator=rng(seed), dtype=torch.float64)


@pytest.mark.parametrize("depth, positions", TABLE_1)
def test_parameters_of_table_1(depth, positions):
    with torch.device("meta"):
        net = EnergyTransformerField(depth=depth, positions=positions)
    assert sum(p.numel() for p in net.parameters()) == TABLE_1[depth, positions]
    block = sum(p.numel() for p in net.blocks[0].parameters())
    assert block == 2 * 768**2 + 768 * 3072 + 1 + 768


def test_the_forward_pass_is_ten_plain_lines():
    net, x, labels = (
        small(depth=2, descent_steps=2, step_size=0.3),
        pictures(),
        torch.tensor([0, 2, 3]),
    )
    z = to_patches(x, 2) @ net.tokens.linear.weight.T + net.tokens.linear.bias
    z = z + sinusoidal_positions(2, 8).double()
    for block in net.blocks:
        for _ in range(2):
            z = z - 0.3 * block.gradient(block.norm.activation(z))
    y = F.silu(net.head.classes[labels])[:, None]
    shift, scale = (net.head.modulation(y)[..., :8], net.head.modulation(y)[..., 8:])
    z = (z - z.mean(-1, keepdim=True)) / (z.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt()
    z = z * (1 + scale) + shift
    wanted = to_pictures(z @ net.head.out.weight.T + net.head.out.bias, 2, channels=1)
    assert torch.allclose(net(x, labels), wanted, atol=1e-12)


def test_classes_start_alike_and_one_is_nobody():
    net, x = EnergyTransformerField((1, 4, 4), **SMALL, generator=rng()), pictures().float()
    same = [net(x, torch.full((3,), k)) for k in range(4)]
    assert all(torch.equal(same[0], other) for other in same)
    net, x = small(), pictures()
    assert torch.equal(net(x), net(x, torch.full((3,), 3)))
    assert (net(x, torch.tensor([0, 0, 0])) - net(x)).abs().max() > 1e-3


def test_pictures_are_strangers():
    net, x, labels = (
        small(skip=True, n_filters=4, filter_size=3),
        pictures(),
        torch.tensor([1, 0, 2]),
    )
    together = net(x, labels)
    alone = torch.cat([net(x[b : b + 1], labels[b : b + 1]) for b in range(3)])
    assert torch.allclose(together, alone, atol=1e-12)


def test_every_parameter_learns():
    net, labels = (
        small(skip=True, n_filters=4, filter_size=3, positions="learned"),
        torch.tensor([0, 1, 2]),
    )
    net(pictures(), labels).square().sum().backward()
    grads = {n: p.grad.abs().sum() for n, p in net.named_parameters()}
    assert all(g > 0 for g in grads.values()), grads
    assert net.head.classes.grad[3].abs().sum() == 0  # nobody asked for "no class"


def test_places_tell_rows_from_columns():
    places = sinusoidal_positions(5, 16)
    assert len(places.unique(dim=0)) == 25
    grid = places.reshape(5, 5, 16)
    assert torch.equal(grid[2, :, :8], grid[2, :1, :8].expand(5, 8))
    assert torch.equal(grid[:, 3, 8:], grid[:1, 3, 8:].expand(5, 8))
    assert torch.equal(grid[1, 0, :8], grid[0, 1, 8:])
    moved = EnergyTransformerField((1, 4, 4), **SMALL, generator=rng())
    x = pictures(1).float()
    assert not torch.allclose(moved(x.flip(-1)).flip(-1), moved(x))


@pytest.mark.parametrize("kind, places", [("everywhere", 1), ("placed", 4)])
def test_a_class_in_a_blocks_energy_pulls_its_tokens(kind, places):
    """One step down E(g) - sum_B c_y . g_B, by automatic differentiation of that sum."""
    net, x, labels = small(class_in_blocks=kind, step_size=0.3), pictures(), torch.tensor([0, 2, 3])
    assert net.pulls.shape == (1, 4, places, 8)
    z = net.tokens(x).detach()
    block, c = net.blocks[0], net.pulls[0, labels].detach()

    def energy(g):
        return (block.energy(g) - (c * g).sum((1, 2))).sum()

    down = torch.func.grad(energy)(block.norm.activation(z))
    want = net.head(z - 0.3 * down, labels)
    assert torch.allclose(net(x, labels), want, atol=1e-12)
    plain = EnergyTransformerField((1, 4, 4), **SMALL, generator=rng())
    asked = EnergyTransformerField((1, 4, 4), **SMALL, class_in_blocks=kind, generator=rng())
    x = x.float()
    assert torch.equal(plain(x, labels), asked(x, labels))  # at first no class pulls


def test_the_control_is_the_field_plus_a_skip_and_filters():
    net, x = small(skip=True, n_filters=4, filter_size=3), pictures()
    bare = small()
    bare.load_state_dict({k: v for k, v in net.state_dict().items() if k in bare.state_dict()})
    u = F.conv2d(x, net.local.filters, net.local.bias, padding=1)
    local = F.conv_transpose2d(u / (1 + u**2).sqrt(), net.local.back, padding=1)
    assert torch.allclose(net(x), bare(x) + net.slope * x + local, atol=1e-12)


def test_with_a_cone_arrows_point_away_from_the_guess():
    """Their length is that of the slope of a cone with a round tip."""
    net, bare, x = small(cone=0.3, stiffness=5.0), small(), pictures()
    bare.load_state_dict({k: v for k, v in net.state_dict().items() if k in bare.state_dict()})
    away = x - bare(x)
    rho = away.flatten(1).norm(dim=1)[:, None, None, None]
    want = net.stiffness * away / (1 + (rho / 1.2) ** 2).sqrt()  # 0.3 times the root of 16 pixels
    assert torch.allclose(net(x), want, atol=1e-12)
    assert net.stiffness.item() == pytest.approx(5.0, abs=0.5)  # `small` moves it by a little


@pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")  # torch's own
def test_the_bend_has_all_its_derivatives():
    """By finite differences: once, twice, forward, and many at a time; far out as well."""
    u = torch.tensor([-30.0, -1.0, 0.0, 0.5, 4.0], dtype=torch.float64, requires_grad=True)
    assert torch.allclose(et_eqm.bend(u), u / (1 + u**2).sqrt(), rtol=1e-15)
    assert torch.autograd.gradcheck(et_eqm.bend, u)
    assert torch.autograd.gradgradcheck(et_eqm.bend, u)
    slope = (1 + u.detach() ** 2) ** -1.5
    rows = torch.func.vmap(torch.func.grad(lambda v: et_eqm.bend(v).sum()))(u.detach()[:, None])
    assert torch.allclose(rows[:, 0], slope, rtol=1e-14)
    along = torch.func.jvp(et_eqm.bend, (u.detach(),), (2 * torch.ones(5).double(),))[1]
    assert torch.allclose(along, 2 * slope, rtol=1e-14)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda: sinusoidal_positions(2, 6), "dim = 6: expected a multiple of 4"),
        (lambda: EnergyTransformerField((1, 5, 5), **SMALL), "patch_size = 2: expected a divisor"),
        (lambda: EnergyTransformerField((1, 4, 6), **SMALL), "shape"),
        (lambda: small()(pictures()[:, :, :3]), "x: got"),
        (lambda: small()(pictures(), torch.zeros(3)), "labels: got"),
        (lambda: small(n_filters=2, filter_size=4), "filter_size = 4: expected an odd"),
        (lambda: small(cone=-0.1), "cone = -0.1: expected a number, 0"),
        (lambda: small(cone=0.1, stiffness=0.0), "stiffness = 0.0: expected"),
        (lambda: et_eqm.PatchTokens((1, 4, 4), patch_size=2, dim=8, positions="3d"), "positions"),
    ],
)
def test_bad_input_gets_one_clear_line(wrong, message):
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        wrong()
    assert "\n" not in str(caught.value)
