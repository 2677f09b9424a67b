"""Chapter 17: what has an energy and what has none, and what it costs, on small fields."""

from __future__ import annotations

import math

import pytest
import torch

from amtutor.generative.equilibrium import best_field, guided_by_weight, truncated_decay
from amtutor.generative.et_eqm import EnergyTransformerField
from amtutor.generative.fields import asymmetry, curl
from amtutor.generative.scalar_et import DecodedDistance
from amtutor.generative.sit import SiT

DOUBLE = torch.float64
TINY = {"patch_size": 2, "dim": 8, "n_heads": 2, "depth": 1}
SIZES = {"head_dim": 4, "n_memories": 16}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def stirred(net):
    """The network in float64, all its weights off the zeros they begin with."""
    g = seeded(1)
    for weights in net.double().parameters():
        weights.data += 0.2 * torch.randn(weights.shape, generator=g, dtype=DOUBLE)
    return net


def flat(net, labels=None):
    return lambda x: net(x.reshape(-1, *net.shape), labels).flatten(1)


def scalar(**switches):
    net = DecodedDistance((1, 4, 4), **TINY, **SIZES, **switches, generator=seeded(0))
    return stirred(net)


def test_j6_a_network_of_energies_is_no_slope_of_pixels_and_a_scalar_is():
    x = torch.randn(6, 16, generator=seeded(2), dtype=DOUBLE)
    et = EnergyTransformerField((1, 4, 4), **TINY, **SIZES, generator=seeded(0))
    sit = SiT((1, 4, 4), **TINY, generator=seeded(0))
    assert all((asymmetry(flat(stirred(net)), x) > 0.1).all() for net in (et, sit))
    assert (asymmetry(flat(scalar()), x) < 1e-12).all()


def parts_of(z, points, n=4000):
    """Over gamma: weights at z, slopes of Phi, slopes of log p, by the formulas of the page."""
    u = (torch.arange(n, dtype=DOUBLE) + 0.5) / n * math.log(1e4)
    left = (-u).exp()  # 1 - gamma, even in its logarithm
    gamma = (1 - left)[:, None]
    gaps = z - gamma[..., None] * points  # (n, K, 2)
    logs = -gaps.square().sum(-1) / (2 * left[:, None] ** 2) - 2 * left.log()[:, None]
    share = logs.softmax(1)
    slope = -(share[..., None] * gaps).sum(1) / left[:, None] ** 2  # of log p_gamma
    weight = (logs.logsumexp(1) + left.log()).softmax(0)  # d gamma = left du
    c = truncated_decay(1 - left)[:, None]
    return weight, -c / gamma * (left[:, None] * slope + z), slope


@pytest.mark.parametrize("seed", range(4))
def test_j6_the_best_field_turns_by_the_covariance_that_the_page_derives(seed):
    g = seeded(seed)
    points = torch.randn(1 + seed, 2, generator=g, dtype=DOUBLE)
    for z in torch.randn(5, 2, generator=g, dtype=DOUBLE):
        weight, phi, slope = parts_of(z, points)
        mean = (weight[:, None] * phi).sum(0)
        torch.testing.assert_close(best_field(z[None], points)[0], mean, rtol=0, atol=5e-3)
        joint = torch.einsum("g,gi,gj->ij", weight, phi, slope)
        covariance = joint - torch.outer(mean, (weight[:, None] * slope).sum(0))
        found = curl(lambda y: best_field(y, points, nodes=400), z[None])[0]
        # the sum over gamma forgets what is nearer to the data than 1e-4
        torch.testing.assert_close(covariance - covariance.T, found, rtol=0, atol=0.02)


def test_j6_a_lone_datum_turns_unless_the_noise_is_centred_at_it():
    x = torch.randn(20, 2, generator=seeded(3), dtype=DOUBLE)
    lone = torch.tensor([[1.2, 0.6]], dtype=DOUBLE)
    assert asymmetry(lambda z: best_field(z, 0 * lone), x).max() < 1e-9
    assert asymmetry(lambda z: best_field(z, lone), x).mean() > 0.01


def test_j6_a_guided_slope_is_the_slope_of_a_difference_of_energies():
    net, w = scalar(), 1.5
    x = torch.randn(3, 1, 4, 4, generator=seeded(4), dtype=DOUBLE, requires_grad=True)
    y = torch.tensor([0, 3, 9])
    energy = (1 + w) * net.energy(x, y) - w * net.energy(x, None)
    (slope,) = torch.autograd.grad(energy.sum(), x)
    with torch.no_grad():
        found = guided_by_weight(net, w, null=net.null)(x.detach(), y)
    torch.testing.assert_close(found, slope, rtol=1e-10, atol=1e-10)


SWITCHES = [
    {"mix_heads": True},
    {"class_in_blocks": "everywhere"},
    {"class_in_blocks": "placed"},
    {"levels": 2},
]


@pytest.mark.parametrize("switch", SWITCHES)
def test_j7_every_switch_keeps_one_energy(switch):
    """With its weights off zero each changes the field, and the field stays a slope."""
    shape = {"patch_size": 1} if "levels" in switch else {}
    net = DecodedDistance((1, 4, 4), **{**TINY, **shape}, **SIZES, **switch, generator=seeded(0))
    base = DecodedDistance((1, 4, 4), **{**TINY, **shape}, **SIZES, generator=seeded(0))
    x, y = torch.randn(4, 16, generator=seeded(5), dtype=DOUBLE), torch.tensor([0, 1, 2, 9])
    more, fewer = ({n: p.numel() for n, p in m.named_parameters()} for m in (net, base))
    assert set(fewer) < set(more), "the switch has weights of its own"
    assert (asymmetry(flat(stirred(net), y), x) < 1e-12).all()


def test_the_bill_is_two_to_three_times():
    """Products of an arrow and of a training step, against the free field's."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import flop_registry

    class Products(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, f, types, args=(), kwargs=None):
            out = f(*args, **(kwargs or {}))
            if (kind := f._overloadpacket) in flop_registry:
                self.count += flop_registry[kind](*args, **(kwargs or {}), out_val=out)
            return out

    x, bill = torch.randn(2, 1, 8, 8, generator=seeded(6)), []
    for kind, bare in (
        (EnergyTransformerField, {}),
        (DecodedDistance, {"stem": 0, "n_filters": 0}),
    ):
        sizes = {**TINY, **SIZES, **bare, "dim": 32}
        net = kind((1, 8, 8), **sizes, generator=seeded(0))
        with Products() as arrow, torch.no_grad():
            net(x)
        with Products() as training:
            net(x).square().sum().backward()
        bill.append((arrow.count, training.count))
    assert all(2 < slope / free < 3 for free, slope in zip(*bill, strict=True))
