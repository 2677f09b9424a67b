"""The Energy Transformer block obeys its laws: one energy, closed gradients, always downhill."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from amtutor.network.energy_transformer import (
    EnergyAttention,
    EnergyLayerNorm,
    EnergyTransformerBlock,
    HopfieldNetwork,
    MixedHeadAttention,
)
from amtutor.network.ham import HAM, NeuronLayer
from amtutor.network.lagrangians import Tanh

B, N, D = 3, 5, 7
ACTIVATIONS = ("relu", "power", "softmax")


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def make(*, dim=D, activation="relu", exclude_self=True, seed=0, scale=1.0, **more):
    generator = torch.Generator().manual_seed(seed)
    block = EnergyTransformerBlock(
        dim,
        n_heads=2,
        head_dim=4,
        n_memories=11,
        activation=activation,
        exclude_self=exclude_self,
        generator=generator,
        **more,
    ).double()
    with torch.no_grad():
        block.norm.gamma.fill_(1.3)
        if block.norm.delta is not None:
            block.norm.delta.copy_(0.2 * draw(dim, seed=seed + 1))
        for weight in (block.attention.W_query, block.attention.W_key, block.hopfield.memories):
            weight.mul_(scale)
    return block


def masks():
    """None, one for all, one for each sample; the last leaves some queries with nothing to see."""
    g = torch.Generator().manual_seed(7)
    each = torch.rand(B, N, N, generator=g) < 0.5
    each[0, 2] = False
    each[1] = False
    each[2] = torch.eye(N, dtype=torch.bool)
    return {"none": None, "causal": torch.ones(N, N).tril().bool(), "each": each}


def autograd(energy, g):
    return torch.func.grad(lambda a: energy(a).sum())(g)


def relative(a, b):
    return ((a - b).norm() / b.norm().clamp(min=1e-300)).item()


# ------------------------------------------------------------------ values by hand


@pytest.mark.parametrize("exclude_self", [True, False])
@pytest.mark.parametrize("name", ["none", "causal", "each"])
def test_attention_energy_is_its_formula_term_by_term(exclude_self, name):
    attention, mask = make(exclude_self=exclude_self).attention, masks()[name]
    g, want = draw(B, N, D), torch.zeros(B, dtype=torch.float64)
    for s in range(B):
        for h in range(2):
            for c in range(N):
                total = 0.0
                for b in range(N):
                    seen = True if mask is None else mask.expand(B, N, N)[s, c, b]
                    if not seen or (exclude_self and b == c):
                        continue
                    key, query = attention.W_key[h] @ g[s, b], attention.W_query[h] @ g[s, c]
                    total += math.exp(attention.beta * (key @ query).item())
                if total:
                    want[s] -= math.log(total) / attention.beta
    assert_close(attention.energy(g, mask).detach(), want, rtol=1e-12, atol=1e-12)


def mixed(*, exclude_self=True):
    attention = MixedHeadAttention(
        D, n_heads=3, head_dim=4, exclude_self=exclude_self, generator=torch.Generator()
    ).double()
    with torch.no_grad():
        attention.mix.add_(0.4 * draw(3, 3, seed=8))
    return attention


@pytest.mark.parametrize("exclude_self", [True, False])
@pytest.mark.parametrize("name", ["none", "causal", "each"])
def test_mixed_heads_have_their_energy_and_its_gradient(exclude_self, name):
    attention, mask, g = mixed(exclude_self=exclude_self), masks()[name], draw(B, N, D)
    overlaps = torch.einsum("hyd,sbd,hye,sce->shcb", attention.W_key, g, attention.W_query, g)
    overlaps = torch.einsum("hg,sgcb->shcb", attention.mix, overlaps)
    seen = torch.ones(B, N, N, dtype=torch.bool) if mask is None else mask.expand(B, N, N)
    if exclude_self:
        seen = seen & ~torch.eye(N, dtype=torch.bool)
    terms = (attention.beta * overlaps).exp() * seen[:, None]
    logs = torch.where(seen.any(-1)[:, None], terms.sum(-1), 1.0).log()
    assert_close(attention.energy(g, mask), -logs.sum((1, 2)) / attention.beta, rtol=1e-11, atol=0)
    want = autograd(lambda a: attention.energy(a, mask), g)
    assert_close(attention.gradient(g, mask), want, rtol=1e-11, atol=1e-11)
    if mask is None:
        (sent,) = attention.currents(g)
        assert_close(-sent, want, rtol=1e-11, atol=1e-11)


def test_heads_that_are_not_mixed_yet_are_plain_heads():
    sizes = {"n_heads": 2, "head_dim": 4}
    plain, new = (
        kind(D, **sizes, generator=torch.Generator().manual_seed(0)).double()
        for kind in (EnergyAttention, MixedHeadAttention)
    )
    g = draw(B, N, D)
    assert_close(new.energy(g), plain.energy(g), rtol=1e-14, atol=0)
    assert_close(new.gradient(g), plain.gradient(g), rtol=1e-13, atol=1e-14)


def test_a_block_of_mixed_heads_goes_down_one_energy():
    block = make(mix_heads=True)
    with torch.no_grad():
        block.attention.mix.add_(0.3 * draw(2, 2, seed=9))
    walk = block.descend(draw(B, N, D), steps=50, step_size=0.01, record=True)
    assert (walk.trajectory.energies.diff(dim=0) < 0).all()


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", ["none", "causal", "each"])
def test_a_tokens_share_is_what_it_asks_for_and_what_it_remembers(activation, name):
    block, mask, g = make(activation=activation), masks()[name], draw(B, N, D)
    shares = block.token_energies(g, mask).detach()
    assert shares.shape == (B, N)
    assert_close(shares.sum(-1), block.energy(g, mask).detach(), rtol=1e-12, atol=0)
    for c in range(N):  # forbid everybody but c to ask: what is left is c's share
        only = torch.zeros(B, N, N, dtype=torch.bool)
        only[:, c] = True if mask is None else mask.expand(B, N, N)[:, c]
        alone = block.attention.energy(g, only) + block.hopfield.energy(g[:, c : c + 1])
        assert_close(shares[:, c], alone.detach(), rtol=1e-12, atol=1e-12)


def test_beta_is_one_over_the_root_of_the_head_dimension_unless_given():
    assert EnergyAttention(D, n_heads=2, head_dim=16).beta == 0.25
    assert EnergyAttention(D, n_heads=2, head_dim=16, beta=3.0).beta == 3.0


@pytest.mark.parametrize("n", [2, 3, 5.5])
def test_hopfield_energies_are_their_formulas(n):
    g = draw(B, N, D)
    for activation, formula in {
        "relu": lambda h: 0.5 * h.relu() ** 2,
        "power": lambda h: h.relu() ** n / n,
        "softmax": lambda h: torch.logsumexp(2.0 * h, -1, keepdim=True) / 2.0,
    }.items():
        net = HopfieldNetwork(D, n_memories=11, activation=activation, n=n, beta=2.0).double()
        want = -formula(g @ net.memories.T).sum((-2, -1))
        assert_close(net.energy(g), want, rtol=1e-12, atol=0)


def test_any_lagrangian_of_the_overlaps_will_do():
    net, g = HopfieldNetwork(D, n_memories=11, activation=Tanh(beta=2.0)).double(), draw(B, N, D)
    assert relative(net.gradient(g), autograd(net.energy, g)) < 1e-12


def test_layer_norm_is_the_formula_of_the_paper():
    norm, x = make().norm, draw(B, N, D)
    centred = x - x.mean(-1, keepdim=True)
    root = (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt()
    assert_close(norm.activation(x), norm.gamma * centred / root + norm.delta, rtol=1e-13, atol=0)
    want = (D * norm.gamma * root.squeeze(-1) + (norm.delta * x).sum(-1)).sum(-1)
    assert_close(norm(x), want, rtol=1e-13, atol=0)


# ------------------------------------------------------------------ layer norm and its Lagrangian


def test_the_activation_is_the_gradient_of_the_lagrangian():
    norm, x = make().norm, draw(B, N, D)
    assert relative(norm.activation(x), autograd(norm, x)) < 1e-12


def test_the_neuron_energy_is_the_legendre_dual_and_of_order_eps():
    norm, x = make().norm, draw(B, N, D)
    dual = (x * norm.activation(x)).sum((-2, -1)) - norm(x)
    assert norm.energy(x).shape == (B,)
    assert_close(norm.energy(x), dual, rtol=0, atol=1e-12)
    assert norm.energy(x).abs().max() < 1e-3
    # the dual is the value of the maximum of <y, xhat> - L(y): no other y gives more
    g = norm.activation(x).detach()
    for seed in range(20):
        y = x + draw(B, N, D, seed=seed)
        assert ((y * g).sum((-2, -1)) - norm(y) <= dual + 1e-12).all()


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), size=st.floats(1e-4, 1e4))
def test_m_is_positive_semi_definite_and_symmetric(seed, size):
    norm, x = make().norm, size * draw(D, seed=seed)
    m = torch.func.jacrev(norm.activation)(x)  # M of Eq 3.21
    assert_close(m, m.T, rtol=1e-10, atol=1e-10 * m.abs().max().item())
    values = torch.linalg.eigvalsh(m)
    assert values.min() >= -1e-12 * values.max()
    assert (m @ torch.ones(D, dtype=m.dtype)).abs().max() <= 1e-12 * values.max()  # zero mode


def test_no_bias_means_no_delta():
    norm = EnergyLayerNorm(D, bias=False)
    assert norm.delta is None and [n for n, _ in norm.named_parameters()] == ["gamma"]
    assert norm.activation(torch.randn(N, D)).mean(-1).abs().max() < 1e-6


# ------------------------------------------------------------------ gradients


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("exclude_self", [True, False])
@pytest.mark.parametrize("name", ["none", "causal", "each"])
def test_closed_form_equals_automatic_differentiation(activation, exclude_self, name):
    block, mask = make(activation=activation, exclude_self=exclude_self), masks()[name]
    g = block.norm.activation(draw(B, N, D)).detach()
    for part in (block, block.attention):
        got, want = part.gradient(g, mask), autograd(lambda a, p=part: p.energy(a, mask), g)
        assert (got - want).norm() <= 1e-12 * max(want.norm(), 1.0)
    got, want = block.hopfield.gradient(g), autograd(block.hopfield.energy, g)
    assert relative(got, want) < 1e-12


@pytest.mark.parametrize("name", ["none", "each"])
def test_parameter_gradients_through_the_closed_form_equal_those_through_autograd(name):
    block, mask, v = make(activation="power"), masks()[name], draw(B, N, D, seed=3)
    x = draw(B, N, D)
    values = dict(block.named_parameters())

    def by_autograd(values):
        def energy(a):
            return torch.func.functional_call(
                Pair(block), {f"block.{n}": p for n, p in values.items()}, (a, mask)
            ).sum()

        y = x
        for _ in range(3):
            y = y - 0.1 * torch.func.grad(energy)(normalised(block, values, y))
        return (v * y).sum()

    want = torch.func.grad(by_autograd)(values)
    (v * block(x, steps=3, step_size=0.1, mask=mask)).sum().backward()
    for n, p in block.named_parameters():
        assert relative(p.grad, want[n]) < 1e-12, n


class Pair(torch.nn.Module):
    """The energy as a forward pass, for functional_call."""

    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, g, mask):
        return self.block.energy(g, mask)


def normalised(block, values, x):
    centred = x - x.mean(-1, keepdim=True)
    root = (centred.square().mean(-1, keepdim=True) + block.norm.eps).sqrt()
    return values["norm.gamma"] * centred / root + values["norm.delta"]


@pytest.mark.parametrize("name", ["none", "each"])
@pytest.mark.parametrize("activation", ["power", "softmax"])
def test_second_derivatives(activation, name):
    mask = masks()[name]
    mask = None if mask is None else mask[:2, :3, :3]
    block = make(dim=4, activation=activation, n=4)
    x = draw(2, 3, 4).requires_grad_()

    def walk(x, query, memories):
        weights = {"attention.W_query": query, "hopfield.memories": memories}
        return torch.func.functional_call(
            block, weights, (x,), {"steps": 2, "step_size": 0.1, "mask": mask}
        )

    inputs = x, block.attention.W_query, block.hopfield.memories
    assert torch.autograd.gradcheck(walk, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(walk, inputs, fast_mode=True)


# ------------------------------------------------------------------ symmetry, batches, masks


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_tokens_have_no_order(activation):
    block, mask, x = make(activation=activation), masks()["each"], draw(B, N, D)
    order = torch.tensor([3, 0, 4, 1, 2])
    moved = mask[:, order][:, :, order]
    g = block.norm.activation(x)
    assert_close(block.energy(g[:, order], moved), block.energy(g, mask), rtol=1e-12, atol=0)
    assert_close(
        block(x[:, order], steps=3, step_size=0.1, mask=moved),
        block(x, steps=3, step_size=0.1, mask=mask)[:, order],
        rtol=1e-12,
        atol=1e-12,
    )


def test_a_batch_is_a_loop_whatever_its_shape():
    block, mask, x = make(), masks()["each"], draw(2, B, N, D)
    whole = block.descend(x, steps=2, step_size=0.1, mask=mask, record=True)
    assert whole.energy.shape == (2, B) and whole.trajectory.states.shape == (3, 2, B, N, D)
    for i in range(2):
        for j in range(B):
            one = block.descend(x[i, j], steps=2, step_size=0.1, mask=mask[j], record=True)
            assert one.energy.shape == ()
            assert_close(one.state, whole.state[i, j], rtol=1e-12, atol=1e-13)
            assert_close(one.energy, whole.energy[i, j], rtol=1e-12, atol=1e-13)
    mapped = torch.func.vmap(lambda s, m: block(s, steps=2, step_size=0.1, mask=m))(x[0], mask)
    assert_close(mapped, whole.state[0], rtol=1e-12, atol=1e-13)


def test_what_may_not_be_seen_has_no_influence():
    block = make()
    mask = torch.ones(N, N, dtype=torch.bool)
    mask[:, 4] = False  # nobody may look at the last token
    mask[4] = False  # and it looks at nobody
    x, other = draw(B, N, D), draw(B, N, D, seed=1)
    other[:, :4] = x[:, :4]
    a = block(x, steps=4, step_size=0.2, mask=mask)
    b = block(other, steps=4, step_size=0.2, mask=mask)
    assert torch.equal(a[:, :4], b[:, :4]) and not torch.allclose(a[:, 4], b[:, 4])
    alone = block(x[:, :4], steps=4, step_size=0.2)
    assert_close(a[:, :4], alone, rtol=1e-12, atol=1e-13)
    assert_close(
        block.attention.energy(block.norm.activation(x), mask),
        block.attention.energy(block.norm.activation(x[:, :4])),
        rtol=1e-12,
        atol=0,
    )


@pytest.mark.parametrize("n_tokens", [1, 3])
def test_who_may_see_nothing_adds_nothing(n_tokens):
    attention = make().attention
    g = draw(B, n_tokens, D).requires_grad_()
    mask = torch.zeros(n_tokens, n_tokens, dtype=torch.bool)
    assert torch.equal(attention.energy(g, mask), torch.zeros(B, dtype=g.dtype))
    assert torch.equal(attention.gradient(g, mask), torch.zeros_like(g))
    (slope,) = torch.autograd.grad(attention.gradient(g, mask).sum(), g)
    assert torch.equal(slope, torch.zeros_like(g))
    if n_tokens == 1:
        assert torch.equal(attention.energy(g), torch.zeros(B, dtype=g.dtype))
        assert make(exclude_self=False).attention.energy(g).abs().min() > 0


def test_maps_are_what_they_are_called():
    attention, g = make().attention, draw(B, N, D)
    maps = attention.weights(g, masks()["causal"])
    assert maps.shape == (B, 2, N, N)
    assert_close(maps.sum(-1)[..., 1:], torch.ones(B, 2, N - 1, dtype=g.dtype))
    assert torch.equal(maps[:, :, 0], torch.zeros(B, 2, N, dtype=g.dtype))  # sees nobody
    assert maps.triu().abs().max() == 0


# ------------------------------------------------------------------ going downhill


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", ["none", "each"])
@pytest.mark.parametrize("step_size", [0.01, 0.05])
def test_energy_falls_at_every_step(activation, name, step_size):
    block = make(activation=activation)
    walk = block.descend(
        draw(B, N, D), steps=40, step_size=step_size, mask=masks()[name], record=True
    )
    energies = walk.trajectory.energies
    assert energies.shape == (41, B)
    assert (energies.diff(dim=0) < 0).all()
    g = block.norm.activation(walk.state)
    assert_close(energies[-1], block.energy(g, masks()[name]), rtol=1e-12, atol=0)
    assert walk.steps_taken.tolist() == [40] * B and not walk.converged.any()


def test_the_energy_falls_at_the_rate_of_eq_3_20():
    block, x, eta = make(activation="softmax"), draw(N, D), 1e-6
    g = block.norm.activation(x)
    slope = block.gradient(g)
    m = torch.func.vmap(torch.func.jacrev(block.norm.activation))(x)
    rate = -torch.einsum("ai,aij,aj->", slope, m, slope)
    after = block.energy(block.norm.activation(block.step(x, step_size=eta)))
    assert rate < 0
    assert_close((after - block.energy(g)) / eta, rate, rtol=1e-4, atol=0)


def test_no_steps_change_nothing_and_the_start_is_left_alone():
    block, x = make(), draw(B, N, D)
    kept = x.clone()
    assert torch.equal(block(x, steps=0, step_size=0.1), x)
    block(x, steps=2, step_size=0.1)
    assert torch.equal(x, kept)


def test_parts_add_up_to_the_energy():
    block, x = make(), draw(B, N, D)
    parts = block.energies(x)
    assert set(parts) == {"attention", "memories", "neurons"}
    total = parts["attention"] + parts["memories"]
    assert_close(total, block.energy(block.norm.activation(x)), rtol=1e-13, atol=0)


def test_the_same_block_in_the_grammar_of_ham():
    """Layer norm tokens with two synapses on them: HAM sends x - I, the block only -I."""
    block, x = make(), draw(B, N, D)
    ham = HAM(
        {"tokens": NeuronLayer(block.norm, (N, D))},
        [("tokens", block.attention), ("tokens", block.hopfield)],
    )
    energies = ham.energies({"tokens": x})
    assert_close(sum(energies.values()), sum(block.energies(x).values()), rtol=1e-12, atol=1e-12)
    slope = ham.gradient({"tokens": x})["tokens"]
    assert_close(slope - x, block.gradient(block.norm.activation(x)), rtol=1e-12, atol=1e-12)
    assert {c["detail"] for c in ham.describe()["connections"]} == {"2 heads", "K = 11"}


# ------------------------------------------------------------------ modes, precision, compile


def test_without_gradients_and_in_inference_mode():
    block, x = make(), draw(B, N, D)
    want = block(x, steps=2, step_size=0.1).detach()
    with torch.no_grad():
        assert torch.equal(block(x, steps=2, step_size=0.1), want)
    with torch.inference_mode():
        assert torch.equal(block(x, steps=2, step_size=0.1), want)


def test_float32_is_close_to_float64():
    block, x = make(scale=1.5), draw(B, N, D)
    want = block.descend(x, steps=12, step_size=0.1, record=True)
    got = block.float().descend(x.float(), steps=12, step_size=0.1, record=True)
    assert got.state.dtype == torch.float32
    assert relative(got.state.double(), want.state) < 1e-5
    assert_close(got.energy.double(), want.energy, rtol=1e-5, atol=1e-5)


def test_bf16_autocast_keeps_states_and_energies_in_float32():
    block = EnergyTransformerBlock(32, n_heads=4, head_dim=8, n_memories=64)
    x = draw(B, 40, 32, dtype=torch.float32)
    want = block.descend(x, steps=6, step_size=0.1, record=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = block.descend(x, steps=6, step_size=0.1, record=True)
    assert got.state.dtype == got.energy.dtype == torch.float32
    assert relative(got.state, want.state) < 2e-2
    assert relative(got.energy, want.energy) < 5e-3
    assert not torch.equal(got.state, want.state)  # it did use the short products
    half = block.bfloat16()
    g = half.norm.activation(x.bfloat16())
    assert half.energy(g).dtype == torch.float32 and half.gradient(g).dtype == torch.bfloat16
    assert relative(half.energy(g), want.trajectory.energies[0]) < 2e-2


def test_huge_tokens_and_sharp_attention_stay_finite():
    block, x = make(scale=30.0, beta=50.0), 1e4 * draw(B, N, D)
    block, x = block.float(), x.float()
    walk = block.descend(x, steps=2, step_size=0.1, record=True)
    assert walk.state.isfinite().all() and walk.trajectory.energies.isfinite().all()


def test_compiled_equals_eager():
    block, x = make(), draw(B, N, D)
    compiled = torch.compile(
        lambda a: block(a, steps=2, step_size=0.1), backend="aot_eager", fullgraph=True
    )
    assert_close(compiled(x), block(x, steps=2, step_size=0.1), rtol=1e-12, atol=1e-12)


def test_state_dict_keeps_the_energy():
    block, x = make(), draw(B, N, D)
    twin = make(seed=5)
    assert not torch.allclose(twin.energies(x)["memories"], block.energies(x)["memories"])
    twin.load_state_dict(block.state_dict())
    for part, value in block.energies(x).items():
        assert torch.equal(twin.energies(x)[part], value)
    assert set(block.state_dict()) == {
        "norm.gamma",
        "norm.delta",
        "attention.W_query",
        "attention.W_key",
        "hopfield.memories",
    }


def test_the_same_generator_draws_the_same_weights():
    a, b = make(seed=3), make(seed=3)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


# ------------------------------------------------------------------ bad input


def bad_mask():
    return torch.ones(N + 1, N + 1, dtype=torch.bool)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda b, x: b(x[..., :3], steps=1, step_size=0.1), ValueError, "x: got a float64 tensor"),
        (lambda b, x: b(x[0, 0], steps=1, step_size=0.1), ValueError, "N >= 1 tokens"),
        (lambda b, x: b(x[:, :0], steps=1, step_size=0.1), ValueError, "N >= 1 tokens"),
        (lambda b, x: b(x.long(), steps=1, step_size=0.1), TypeError, "x: got a int64 tensor"),
        (lambda b, x: b(x, steps=-1, step_size=0.1), ValueError, "steps = -1: expected a whole"),
        (lambda b, x: b(x, steps=1, step_size=0.0), ValueError, "step_size = 0.0: expected a fin"),
        (lambda b, x: b(x, steps=1, step_size=0.1, mask=bad_mask()), ValueError, "mask: got shape"),
        (lambda b, x: b.energy(x, torch.ones(N, N)), TypeError, "expected a bool tensor"),
        (lambda b, x: b.energy(x, torch.ones(2, B, N, N).bool()), ValueError, r"\(\*batch, N, N\)"),
        (lambda b, x: EnergyAttention(0, n_heads=1, head_dim=1), ValueError, "dim = 0"),
        (
            lambda b, x: EnergyAttention(7, n_heads=2, head_dim=4, beta=-1.0),
            ValueError,
            "beta = -1.0",
        ),
        (
            lambda b, x: HopfieldNetwork(7, n_memories=3, activation="tanh"),
            ValueError,
            "activation = 'tanh'",
        ),
        (
            lambda b, x: HopfieldNetwork(7, n_memories=3, activation="power", n=1),
            ValueError,
            "n = 1",
        ),
        (
            lambda b, x: HopfieldNetwork(7, n_memories=3, activation="softmax", beta=0),
            ValueError,
            "beta = 0",
        ),
        (lambda b, x: EnergyLayerNorm(7, gamma=-1.0), ValueError, "gamma = -1.0"),
        (lambda b, x: EnergyLayerNorm(7, eps=0), ValueError, "eps = 0"),
    ],
)
def test_bad_input_gets_one_clear_line(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call(make(), draw(B, N, D))
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------ half precision


def test_scores_of_half_precision_are_added_up_in_float32():
    """Products are rounded to bfloat16, and nothing else is: not what softmax and energies see.

    The reference takes the rounded products and goes on in float64. Scores are large (about 20),
    so one more rounding to 8 bits would change an attention by several percent.
    """
    attention = EnergyAttention(16, n_heads=2, head_dim=8, beta=0.7, exclude_self=False)
    attention.to(torch.bfloat16)
    g = 3 * draw(B, N, 16, dtype=torch.float32).to(torch.bfloat16)
    with torch.no_grad():
        q, k = (
            torch.nn.functional.linear(g, w.flatten(0, 1)).unflatten(-1, (2, 8)).transpose(-2, -3)
            for w in (attention.W_query, attention.W_key)
        )
        scores = 0.7 * (q @ k.transpose(-1, -2)).double()
        assert 5 < scores.abs().max() < 200
        energy = attention.energy(g)
        want = -torch.logsumexp(scores, -1).sum((-2, -1)) / 0.7
        assert energy.dtype == torch.float32
        assert ((energy.double() - want).abs() <= 1e-5 * want.abs()).all()
        seen = attention.weights(g).double()
        off = (seen - scores.softmax(-1)).abs()
        assert (off <= 2**-8 * scores.softmax(-1) + 1e-6).all()  # one rounding, of the result


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_energies_of_memories_in_half_precision_are_added_up_in_float32(activation):
    network = HopfieldNetwork(16, n_memories=300, activation=activation, n=3, beta=0.5)
    network.to(torch.bfloat16)
    g = draw(B, N, 16, dtype=torch.float32).to(torch.bfloat16)
    with torch.no_grad():
        overlaps = torch.nn.functional.linear(g, network.memories)
        want = -network.lagrangian(overlaps.double()).sum(-1)
        energy = network.energy(g)
    assert energy.dtype == torch.float32
    assert ((energy.double() - want).abs() <= 1e-5 * want.abs()).all()


@pytest.mark.parametrize("eps", [1e-5, 0.5, 40.0])
def test_a_block_normalises_with_the_eps_it_was_given(eps):
    """Mean square of a token after the norm: v / (v + eps), v its variance."""
    block = EnergyTransformerBlock(D, n_heads=2, head_dim=3, n_memories=4, eps=eps).double()
    x = 3 * draw(B, N, D)
    variance = x.var(-1, unbiased=False)
    assert_close(block.norm.activation(x).square().mean(-1), variance / (variance + eps))


@pytest.mark.parametrize("exclude_self", [True, False])
def test_a_block_looks_at_itself_only_where_asked(exclude_self):
    """The share of C = B in every map: zero, or the softmax of its own overlap among all."""
    sizes = {"n_heads": 2, "head_dim": 3, "n_memories": 4, "exclude_self": exclude_self}
    block = EnergyTransformerBlock(D, **sizes).double()
    own = block.attention.weights(draw(B, N, D)).diagonal(dim1=-2, dim2=-1)
    assert bool((own == 0).all()) is exclude_self and bool((own > 0).all()) is not exclude_self


def test_a_descent_tells_the_energy_of_where_it_ends_with_a_film_or_without():
    block = make()
    x = draw(B, N, D)
    for record in (False, True):
        down = block.descend(x, steps=3, step_size=0.1, record=record)
        assert_close(down.energy, block.energy(block.norm.activation(down.state)))
        assert (down.energy < block.energy(block.norm.activation(x))).all()
