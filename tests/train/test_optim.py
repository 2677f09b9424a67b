"""Schedules against their formulas, the average against a loop, clipping against torch's."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from amtutor.train import Settings, Task
from amtutor.train.optim import Average, gradient_norm, make_optimizer, pack, rate, set_rate, unpack


def settings(**values) -> Settings:
    return Settings(**{"task": "x", "steps": 101, "batch_size": 1, "lr": 2.0, **values})


def test_known_rates():
    assert [rate(settings(schedule="constant"), s) for s in (0, 50, 100)] == [2, 2, 2]
    linear = settings(schedule="linear", final_lr=0.1)
    assert [rate(linear, s) for s in (0, 50, 100)] == pytest.approx([2, 1.1, 0.2])
    cosine = settings(schedule="cosine", final_lr=0.1)
    assert [rate(cosine, s) for s in (0, 25, 100)] == pytest.approx(
        [2, 2 * (0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2), 0.2]
    )


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_warm_up_is_a_line_to_the_top_then_never_up(schedule):
    config = settings(schedule=schedule, warmup_steps=9)
    rates = [rate(config, s) for s in range(101)]
    assert rates[:10] == pytest.approx([2 * (s + 1) / 10 for s in range(10)])
    assert all(a >= b for a, b in zip(rates[9:], rates[10:], strict=False))


@pytest.mark.parametrize("warmup", [0, 20])
def test_one_cycle_is_torchs(warmup):
    config = settings(schedule="one-cycle", warmup_steps=warmup, steps=200)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    top = warmup or 60
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=2.0, total_steps=200, pct_start=(top + 1) / 200, cycle_momentum=False
    )
    for step in range(199):
        assert rate(config, step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        theirs.step()


def test_beyond_the_end_it_stays():
    assert rate(settings(final_lr=0.5), 500) == pytest.approx(1.0)


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def train(net, optimizer, steps, first=0):
    for step in range(first, first + steps):
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        net(x).square().mean().backward()
        set_rate(optimizer, 0.1 / (step + 1))
        optimizer.step()


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])
def test_packed_optimiser_goes_on_bit_for_bit(kind):
    config = settings(optimizer=kind, lr=0.1, weight_decay=0.01)
    net = model()
    optimizer = make_optimizer(config, Task(config), net)
    train(net, optimizer, 3)
    twin = copy.deepcopy(net)
    other = make_optimizer(config, Task(config), twin)
    unpack(other, *pack(optimizer))
    train(net, optimizer, 3, first=3)
    train(twin, other, 3, first=3)
    for a, b in zip(net.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)


def test_unpacked_state_has_the_layout_of_its_parameter():
    net = nn.Conv2d(4, 8, 3).to(memory_format=torch.channels_last)
    config = settings(lr=0.1)
    optimizer = make_optimizer(config, Task(config), net)
    net(torch.randn(2, 4, 8, 8)).sum().backward()
    optimizer.step()
    tensors, plain = pack(optimizer)
    unpack(optimizer, {k: v.clone().contiguous() for k, v in tensors.items()}, plain)
    assert optimizer.state[net.weight]["exp_avg"].stride() == net.weight.stride()


def test_scales_and_biases_do_not_decay_and_groups_may_scale_the_rate():
    config = settings(weight_decay=0.3)
    optimizer = make_optimizer(config, Task(config), model())
    decays = {p.ndim: g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert decays == {1: 0.0, 2: 0.3}
    optimizer.param_groups[1]["lr_scale"] = 5.0
    set_rate(optimizer, 0.2)
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.2, 1.0])


def test_gradient_norm_is_torchs_and_clips_like_it():
    net, twin = model(), None
    net(torch.randn(8, 3)).square().mean().backward()
    twin = copy.deepcopy(net)
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        q.grad = p.grad.clone()
    ours = gradient_norm(list(net.parameters()), clip=0.01)
    theirs = nn.utils.clip_grad_norm_(twin.parameters(), 0.01)
    torch.testing.assert_close(ours, theirs)
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)


def test_a_gradient_that_is_nan_is_seen_and_not_zeroed():
    p = nn.Parameter(torch.ones(2))
    p.grad = torch.tensor([torch.nan, 1.0])
    assert not gradient_norm([p], clip=1.0).isfinite()
    assert p.grad.isnan().any()


def test_average_is_the_loop_and_copies_buffers():
    net = model()
    average = Average(net, 0.9, ramp=False)
    expected = [p.detach().clone() for p in net.parameters()]
    for step in range(1, 4):
        with torch.no_grad():
            for p in net.parameters():
                p.add_(torch.randn_like(p))
            net(torch.randn(8, 3))  # moves the running statistics
        average.update(step)
        expected = [0.9 * e + 0.1 * p for e, p in zip(expected, net.parameters(), strict=True)]
    for e, p in zip(expected, average.model.parameters(), strict=True):
        torch.testing.assert_close(p, e)
    for a, b in zip(average.model.buffers(), net.buffers(), strict=True):
        assert torch.equal(a, b)


def test_the_ramp_forgets_the_first_weights():
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, 100.0)
    slow, ramped = Average(net, 0.999, ramp=False), Average(net, 0.999)
    nn.init.constant_(net.weight, 1.0)
    for step in range(1, 31):
        slow.update(step)
        ramped.update(step)
    assert float(slow.model.weight) > 90 and abs(float(ramped.model.weight) - 1) < 0.01
