"""The plain transformer: parameters, parts by plain lines, a clock only where one is wanted."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from amtutor.generative.sit import SiT

SMALL = {"patch_size": 2, "dim": 8, "n_heads": 2, "depth": 2, "n_classes": 3}


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def small(**more):
    net = SiT((1, 4, 4), **SMALL | more, generator=rng()).double()
    g = rng(1)
    with torch.no_grad():
        for p in net.parameters():
            p += 0.2 * torch.randn(p.shape, generator=g, dtype=p.dtype)
    return net


def pictures(n=3):
    return torch.randn(n, 1, 4, 4, generator=rng(2), dtype=torch.float64)


@pytest.mark.parametrize("time, count", [(False, 32_229_132), (True, 32_475_660)])
def test_parameters_of_the_small_one(time, count):
    with torch.device("meta"):
        net = SiT(time=time)
    assert sum(p.numel() for p in net.parameters()) == count
    assert sum(p.numel() for p in net.blocks.parameters()) == 31_919_616


def test_a_block_is_attention_and_a_network_gated_by_the_class():
    net, y = small(), torch.randn(2, 1, 8, generator=rng(3), dtype=torch.float64)
    block, z = net.blocks[0], torch.randn(2, 4, 8, generator=rng(4), dtype=torch.float64)
    t1, s1, g1, t2, s2, g2 = block.modulation(y).chunk(6, -1)

    def norm(v):
        return (v - v.mean(-1, keepdim=True)) / (
            v.var(-1, unbiased=False, keepdim=True) + 1e-6
        ).sqrt()

    qkv = block.qkv(norm(z) * (1 + s1) + t1)
    heads = []
    for h in range(2):
        q, k, v = (qkv[..., 8 * part + 4 * h : 8 * part + 4 * h + 4] for part in range(3))
        heads.append(torch.softmax(q @ k.mT / 2, -1) @ v)
    wanted = z + g1 * block.mix(torch.cat(heads, -1))
    inner = F.gelu(block.up(norm(wanted) * (1 + s2) + t2), approximate="tanh")
    wanted = wanted + g2 * block.down(inner)
    assert torch.allclose(block(z, y), wanted, atol=1e-12)


def test_at_first_a_block_does_nothing():
    net = SiT((1, 4, 4), **SMALL, generator=rng())
    z = torch.randn(2, 4, 8, generator=rng(4))
    assert torch.equal(net.blocks[0](z, torch.randn(2, 1, 8)), z)


def test_every_parameter_learns_and_pictures_are_strangers():
    net, x, labels = small(time=True), pictures(), torch.tensor([0, 1, 2])
    gamma = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    out = net(x, labels, gamma)
    alone = [net(x[b : b + 1], labels[b : b + 1], gamma[b : b + 1]) for b in range(3)]
    assert torch.allclose(out, torch.cat(alone), atol=1e-12)
    out.square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in net.parameters())


def test_the_clock_tells_the_time():
    net, x = small(time=True), pictures()
    early, late = (net(x, None, torch.full((3,), t).double()) for t in (0.2, 0.2 + 1e-3))
    assert (early - late).abs().max() > 1e-6


def test_without_a_clock_no_time_is_taken_and_with_one_it_is_wanted():
    with pytest.raises(ValueError, match="gamma: got .*expected None"):
        small()(pictures(), None, torch.rand(3))
    with pytest.raises(ValueError, match=r"gamma: got None.*expected the time"):
        small(time=True)(pictures())
    with pytest.raises(ValueError, match="n_heads = 3: expected a divisor of dim = 8"):
        small(n_heads=3)


def test_waves_are_cosines_and_sines_of_many_frequencies():
    from amtutor.generative.sit import waves

    found = waves(torch.tensor([0.25]))
    assert found.shape == (1, 256)
    assert float(found[0, 0]) == pytest.approx(math.cos(250.0), abs=1e-4)
    assert float(found[0, 128]) == pytest.approx(math.sin(250.0), abs=1e-4)
