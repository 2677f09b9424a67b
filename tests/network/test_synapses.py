"""Laws of the synapses: closed-form currents = minus the gradient of the energy."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.func import vmap

from amtutor.network import lagrangians as lag
from amtutor.network import synapses as syn
from amtutor.network.energy_transformer import EnergyAttention, HopfieldNetwork

DOUBLE = torch.float64


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=rng(seed), dtype=DOUBLE)


def conv(**options):
    return lambda: syn.Conv2d(2, 3, 3, generator=rng(), **options)


def attention(**options):
    return lambda: syn.Attention(7, n_heads=2, head_dim=4, generator=rng(), **options)


# name -> (maker, shapes of the layers, leading shape of the energy beyond the batch)
CASES = {
    "dense-1": (lambda: syn.Dense(5, generator=rng()), [(5,)], ()),
    "dense-2": (lambda: syn.Dense(5, 7, generator=rng()), [(5,), (7,)], ()),
    "dense-3": (lambda: syn.Dense(5, 7, 3, generator=rng()), [(5,), (7,), (3,)], ()),
    "dense-4": (lambda: syn.Dense(2, 7, 3, 4, generator=rng()), [(2,), (7,), (3,), (4,)], ()),
    "dense-image": (lambda: syn.Dense((2, 4, 4), 7, generator=rng()), [(2, 4, 4), (7,)], ()),
    "dense-tokens": (lambda: syn.Dense(7, 3, generator=rng()), [(5, 7), (5, 3)], (5,)),
    "bias": (lambda: syn.Bias(7, bias=draw(7)), [(7,)], ()),
    "bias-channels": (lambda: syn.Bias(2, 1, 1, bias=draw(2, 1, 1)), [(2, 4, 4)], ()),
    "bias-tokens": (lambda: syn.Bias(7, bias=draw(7)), [(5, 7)], (5,)),
    "conv": (conv(), [(2, 6, 5), (3, 4, 3)], ()),
    "conv-strided": (conv(stride=2), [(2, 8, 7), (3, 3, 3)], ()),
    "conv-padded": (conv(stride=3, padding=1), [(2, 8, 7), (3, 3, 3)], ()),
    "conv-wide": (
        lambda: syn.Conv2d(5, 3, 3, stride=2, padding=1, generator=rng()),
        [(5, 8, 7), (3, 4, 4)],
        (),
    ),
    "pool": (lambda: syn.Pool2d(2, strength=1.5), [(3, 6, 5), (3, 3, 2)], ()),
    "pool-overlap": (lambda: syn.Pool2d(3, stride=2), [(3, 8, 7), (3, 3, 3)], ()),
    "pool-max": (lambda: syn.Pool2d(2, mode="max"), [(3, 6, 5), (3, 3, 2)], ()),
    "pool-max-overlap": (lambda: syn.Pool2d(3, stride=2, mode="max"), [(3, 8, 7), (3, 3, 3)], ()),
    "self-attention": (attention(), [(5, 7)], ()),
    "self-attention-other": (attention(exclude_self=True, beta=2.0), [(5, 7)], ()),
    "cross-attention": (attention(key_dim=3), [(5, 7), (4, 3)], ()),
    "hopfield": (lambda: syn.Hopfield(7, 6, generator=rng()), [(7,)], ()),
    "hopfield-tokens": (
        lambda: syn.Hopfield(7, 6, lagrangian=lag.Softmax(beta=2.0), generator=rng()),
        [(5, 7)],
        (5,),
    ),
    "hopfield-image": (
        lambda: syn.Hopfield((2, 4, 4), 6, lagrangian=lag.RectifiedPower(3), generator=rng()),
        [(2, 4, 4)],
        (),
    ),
}
every = pytest.mark.parametrize("name", CASES)


def make(name, batch=(3,), seed=1):
    maker, shapes, lead = CASES[name]
    xs = [draw(*batch, *s, seed=seed + i) for i, s in enumerate(shapes)]
    return maker().double(), xs, (*batch, *lead)


def close(a, b, rtol=1e-10):
    assert a.shape == b.shape
    assert (a - b).abs().max() <= rtol * b.abs().max().clamp(min=1e-3)


@every
def test_currents_are_minus_the_gradient(name):
    synapse, xs, _ = make(name)
    leaves = [x.requires_grad_() for x in xs]
    slopes = torch.autograd.grad(synapse(*leaves).sum(), leaves)
    for current, slope, x in zip(synapse.currents(*xs), slopes, xs, strict=True):
        assert current.shape == x.shape
        close(current, -slope)


@every
def test_one_energy_per_batch_element(name):
    synapse, xs, lead = make(name)
    energy = synapse(*xs)
    assert energy.shape == lead
    loop = torch.stack([synapse(*(x[b] for x in xs)) for b in range(3)])
    close(energy, loop, 1e-12)
    for b in range(3):
        for whole, one in zip(
            synapse.currents(*xs), synapse.currents(*(x[b] for x in xs)), strict=True
        ):
            close(whole[b], one, 1e-12)


@every
def test_only_what_is_wanted(name):
    synapse, xs, _ = make(name)
    full = synapse.currents(*xs)
    for i in range(len(xs)):
        wanted = [j == i for j in range(len(xs))]
        some = synapse.currents(*xs, wanted=wanted)
        assert [s is not None for s in some] == wanted
        close(some[i], full[i], 1e-13)
    assert all(s is None for s in synapse.currents(*xs, wanted=[False] * len(xs)))


@every
def test_weight_gradient_through_currents(name):
    """Backpropagation through a closed-form current equals that through automatic ones."""
    synapse, xs, _ = make(name)
    parameters = [p for p in synapse.parameters() if p.requires_grad]
    probes = [draw(*x.shape, seed=7) for x in xs]

    def loss(signals):
        return sum((s * p).sum() for s, p in zip(signals, probes, strict=True))

    def slopes(signals):
        value = loss(signals)
        if not value.requires_grad:
            return []
        return torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True)

    closed = slopes(synapse.currents(*xs))
    auto = slopes(syn._differentiate(synapse, xs, None))
    for a, b in zip(closed, auto, strict=True):
        close(a, b)
    assert len(closed) == len(parameters)


@every
def test_vmap_no_grad_inference(name):
    synapse, xs, _ = make(name)
    energy, signals = synapse(*xs), synapse.currents(*xs)
    close(vmap(synapse)(*xs), energy, 1e-12)
    for a, b in zip(vmap(lambda *u: synapse.currents(*u))(*xs), signals, strict=True):
        close(a, b, 1e-12)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            clones = [x.clone() for x in xs]
            close(synapse(*clones), energy, 1e-12)
            for a, b in zip(syn.currents(synapse, *clones), signals, strict=True):
                close(a, b, 1e-12)


@every
def test_bfloat16_energy_is_added_in_float32(name):
    synapse, xs, _ = make(name)
    exact = synapse(*xs)
    low = synapse.bfloat16()(*(x.bfloat16() for x in xs))
    assert low.dtype == torch.float32
    assert (low - exact).abs().max() < 0.05 * exact.abs().max() + 0.5


# Any function is a synapse


def triangle(x, y, z):
    return -(x * y * z).sum(-1).tanh() + (x - y).square().sum(-1)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_any_function(mode):
    xs = [draw(3, 5, seed=i).requires_grad_() for i in range(3)]
    slopes = torch.autograd.grad(triangle(*xs).sum(), xs)
    with mode():
        found = syn.currents(triangle, *(x.detach().clone() for x in xs))
        first = syn.currents(triangle, *(x.detach() for x in xs), wanted=[True, False, False])
    for current, slope in zip(found, slopes, strict=True):
        close(current, -slope)
    assert first[1] is None and first[2] is None
    close(first[0], -slopes[0])


def test_own_module_inherits_currents():
    class Cubic(syn.Synapse):
        def __init__(self):
            super().__init__()
            self.a = nn.Parameter(torch.tensor(2.0, dtype=DOUBLE))

        def forward(self, x):
            return -self.a * (x**3).sum(-1)

    cubic, x = Cubic(), draw(3, 5)
    (current,) = cubic.currents(x)
    close(current, 6 * x**2)
    current.sum().backward()
    close(cubic.a.grad, (3 * x**2).sum())


# Known answers


def test_undirected():
    """One weight, two signals: W v to m and W^T m to v (MM Fig 3.2, MPS 16)."""
    w, m, v = draw(3, 4), draw(3), draw(4, seed=2)
    synapse = syn.Dense(3, 4, weight=w)
    to_m, to_v = synapse.currents(m, v)
    close(to_m, w @ v, 1e-14)
    close(to_v, w.T @ m, 1e-14)
    close(synapse(m, v), -(m @ w @ v), 1e-14)


def test_self_connection_is_symmetrised():
    w, x = draw(4, 4), draw(4, seed=2)
    close(sum(syn.Dense(4, 4, weight=w).currents(x, x)), (w + w.T) @ x, 1e-13)


def test_aligned_pair_has_energy_minus_norm():
    x = torch.nn.functional.normalize(draw(6), dim=0)
    close(syn.Dense(6, 6, weight=torch.eye(6, dtype=DOUBLE))(x, x), -torch.ones((), dtype=DOUBLE))


def test_hopfield_is_a_memory_layer_at_rest():
    """Dense synapse + memory layer with m = Xi x (the infinitely fast one) = Hopfield."""
    xi, x = draw(6, 7), draw(3, 7, seed=2)
    for lagrangian in (lag.Identity(), lag.ReLU(), lag.RectifiedPower(4), lag.Softmax(beta=3.0)):
        m = x @ xi.T
        two = syn.Dense(6, 7, weight=xi)(lagrangian.activation(m), x) + lagrangian.energy(m)
        close(syn.Hopfield(7, 6, memories=xi, lagrangian=lagrangian)(x), two)


def test_classical_hopfield_energy():
    xi, x = draw(6, 7).sign(), draw(3, 7, seed=2).sign()
    energy = syn.Hopfield(7, 6, memories=xi, lagrangian=lag.Identity())(x)
    close(energy, -0.5 * torch.einsum("bi,ij,bj->b", x, xi.T @ xi, x))


def test_memories_may_be_permuted():
    xi, x = draw(6, 7), draw(3, 7, seed=2)
    for lagrangian in (lag.ReLU(), lag.Softmax()):
        a = syn.Hopfield(7, 6, memories=xi, lagrangian=lagrangian)(x)
        close(syn.Hopfield(7, 6, memories=xi.flip(0), lagrangian=lagrangian)(x), a, 1e-13)


def test_attention_by_loops():
    """MM 3.15 written out."""
    for exclude in (False, True):
        layer = syn.Attention(
            7, n_heads=2, head_dim=4, beta=0.8, exclude_self=exclude, generator=rng()
        ).double()
        layer.requires_grad_(False)
        x, total = draw(5, 7, seed=3), 0.0
        for h in range(2):
            q, k = x @ layer.W_query[h].T, x @ layer.W_key[h].T
            for c in range(5):
                terms = [math.exp(0.8 * k[b] @ q[c]) for b in range(5) if not (exclude and b == c)]
                total -= math.log(sum(terms)) / 0.8
        assert math.isclose(float(layer(x)), total, rel_tol=1e-12)


def test_attention_is_equivariant():
    layer, x = attention(exclude_self=True)().double(), draw(5, 7)
    order = torch.tensor([3, 0, 4, 1, 2])
    close(layer(x[order]), layer(x), 1e-13)
    close(layer.currents(x[order])[0], layer.currents(x)[0][order], 1e-13)


def test_default_beta_is_one_over_root_of_head_dim():
    assert attention()().beta == 0.5


def test_conv_is_dense_with_its_own_matrix():
    synapse, (x, y), _ = make("conv-padded", batch=())
    unit = torch.eye(x.numel(), dtype=DOUBLE).reshape(-1, *x.shape)
    matrix = synapse.up(unit).reshape(x.numel(), -1).T
    same = syn.Dense(y.shape, x.shape, weight=matrix.detach())
    close(synapse(x, y), same(y, x), 1e-12)
    close(synapse.currents(x, y)[0], same.currents(y, x)[1], 1e-12)


def test_max_pool_gives_to_the_winner():
    x = torch.tensor([[[1.0, 4.0], [3.0, 2.0]]])
    to_x, to_y = syn.Pool2d(2, mode="max").currents(x, torch.tensor([[[5.0]]]))
    assert to_x.tolist() == [[[0.0, 5.0], [0.0, 0.0]]]
    assert to_y.tolist() == [[[4.0]]]


def test_given_parameter_is_shared_and_tensor_is_copied():
    w = nn.Parameter(draw(3, 4))
    assert syn.Dense(3, 4, weight=w).weight is w
    t = draw(3, 4)
    synapse = syn.Dense(3, 4, weight=t)
    t.zero_()
    assert synapse.weight.abs().min() > 0


def test_random_weights_follow_the_generator_and_keep_size():
    a, b = (syn.Dense(400, 100, generator=rng(3)).weight for _ in range(2))
    a, b = a.detach(), b.detach()
    assert torch.equal(a, b)
    assert 1.2 < float(torch.linalg.matrix_norm(a, 2)) < 1.8  # 1 + sqrt(100 / 400)


@pytest.mark.parametrize(
    "weight",
    [
        lambda g: syn.Conv2d(16, 50, 5, generator=g).weight.flatten(1),
        lambda g: syn.Hopfield(400, 50, generator=g).memories,
        lambda g: syn.Attention(400, 9, n_heads=2, head_dim=25, generator=g).W_query.flatten(0, 1),
        lambda g: syn.Attention(9, 400, n_heads=2, head_dim=25, generator=g).W_key.flatten(0, 1),
    ],
    ids=["kernels", "memories", "queries", "keys"],
)
def test_what_listens_to_400_numbers_begins_with_unit_length(weight):
    """50 normal vectors: the mean of their squared lengths is 1 within five of its deviations."""
    rows = weight(rng(4)).detach()
    assert rows.shape == (50, 400)
    assert abs(float(rows.square().sum(1).mean()) - 1) < 5 * math.sqrt(2 / (50 * 400))


# Bad input


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: syn.Dense(), "shapes: got none, expected"),
        (lambda: syn.Dense(0, 3), "shapes = 0: expected a whole number >= 1"),
        (lambda: syn.Dense(3, 4, weight=torch.zeros(4, 3)), "weight: got a float32 tensor"),
        (lambda: syn.Dense(3, 4)(torch.zeros(3)), "Dense: got 1 layers, expected 2"),
        (lambda: syn.Dense(3, 4)(torch.zeros(3), torch.zeros(5)), "activation 1: got a float32"),
        (lambda: syn.Dense(3, 4).check_shapes((3,), (5,)), "got layer shapes (3,) and (5,)"),
        (lambda: syn.Dense(3, 4).check_shapes((2, 3), (4,)), "expected (3,) and (4,)"),
        (lambda: syn.Bias(3).check_shapes((4,)), "Bias: got layer shapes (4,), expected (3,)"),
        (lambda: syn.Conv2d(1, 2, 3).check_shapes((3, 8, 8), (2, 6, 6)), "expected 1 channels"),
        (lambda: syn.Conv2d(1, 2, 3).check_shapes((1, 8, 8), (2, 5, 6)), "and (2, 6, 6)"),
        (lambda: syn.Pool2d(2).check_shapes((8, 8), (4, 4)), "expected (C, H, W) and (C', H', W')"),
        (lambda: syn.Pool2d(2, mode="mean"), "mode = 'mean': expected one of 'average', 'max'"),
        (lambda: syn.Pool2d(2, strength=0), "strength = 0.0: expected"),
        (lambda: syn.Attention(4, 4, exclude_self=True), "exclude_self = True: expected one layer"),
        (lambda: syn.Attention(4, exclude_self=True).check_shapes((1, 4)), "at least two tokens"),
        (lambda: syn.Attention(4).check_shapes((5, 3)), "got layer shapes (5, 3), expected (N, 4)"),
        (lambda: syn.Hopfield(4, 0), "n_memories = 0: expected"),
        (lambda: syn.Hopfield(4, 2)(torch.zeros(5)), "x: got a float32 tensor of shape (5,)"),
    ],
)
def test_bad_values(call, message):
    with pytest.raises(ValueError, match="^[^\n]*$") as caught:
        call()
    assert message in str(caught.value)


# One formula each


def test_the_two_attentions_are_one():
    """The block's attention is the synapse within one layer; also where there is one token."""
    how = {"n_heads": 2, "head_dim": 4, "beta": 0.8}
    for tokens in (1, 5):
        x = draw(3, tokens, 7)
        for own in (False, True):
            a = syn.Attention(7, **how, exclude_self=own, generator=rng(1)).double()
            b = EnergyAttention(7, **how, exclude_self=own, generator=rng(1)).double()
            close(a(x), b.energy(x), 0)
            close(a.currents(x)[0], -b.gradient(x), 0)


def test_the_two_memories_are_one():
    x = draw(3, 5, 7)
    a = syn.Hopfield(7, 6, generator=rng(1)).double()
    b = HopfieldNetwork(7, n_memories=6, generator=rng(1)).double()
    close(a(x), b.token_energies(x), 0)
    close(a(x).sum(-1), b.energy(x), 0)
    close(a.currents(x)[0], -b.gradient(x), 0)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: syn.Attention(4, key_dim=0), "key_dim = 0: expected a whole number >= 1"),
        (lambda: syn.Attention(4)(torch.ones(2, 3, 5)), "tokens: got a float32 tensor"),
        (lambda: syn.Attention(4, 5)(torch.ones(2, 3, 4), torch.ones(2, 3, 4)), "keys: got a"),
        (lambda: syn.Bias(4)(torch.ones(2, 3)), r"Bias: got layer shapes \(2, 3\)"),
        (lambda: syn.Bias(4, 1)(torch.ones(4)), "Bias: got layer shapes"),
        (lambda: syn.Conv2d(1, 2, 3)(torch.ones(1, 4, 4), torch.ones(2, 3, 3)), "Conv2d: got"),
        (lambda: syn.Conv2d(1, 2, 3)(torch.ones(2, 4, 4), torch.ones(2, 2, 2)), "expected 1 chan"),
        (lambda: syn.Pool2d(2)(torch.ones(3, 1, 4, 4), torch.ones(2, 1, 2, 2)), "one batch shape"),
        (lambda: syn.Pool2d(2)(torch.ones(4, 4), torch.ones(2, 2)), "Pool2d: got layer shapes"),
        (lambda: syn.Hopfield(4, 2, lagrangian="relu"), "lagrangian: got a str 'relu', expected"),
        (lambda: syn.Hopfield(4, 2)(5), "x: got a int 5, expected a floating-point tensor"),
        (lambda: syn.Dense(4)(torch.ones(3, 4, device="meta")), "on the meta device, expected"),
    ],
)
def test_bad_shapes_get_one_clear_line(call, message):
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("memories", [1, 3])
def test_tensors_of_inference_mode_outside_of_it(memories):
    """A Lagrangian or synapse without closed forms takes copies that can be part of a graph."""

    class Quartic(lag.Lagrangian):
        def density(self, x):
            return x**4 / 4

    synapse = syn.Hopfield(4, memories, lagrangian=Quartic(), generator=rng())
    x = draw(2, 4).float()
    want = synapse.currents(x)[0].detach()
    with torch.inference_mode():
        inside = x.clone()
        close(synapse.currents(x)[0], want, 1e-6)
    with torch.no_grad():
        close(synapse.currents(inside)[0], want, 1e-6)
        close(syn.currents(lambda a: -(a**4).sum(-1), inside)[0], 4 * x**3, 1e-6)


@pytest.mark.parametrize(
    "make, shapes",
    [
        (lambda: syn.Attention(6, 5, generator=rng()), ((2, 3, 6), (2, 4, 5))),
        (lambda: syn.Attention(6, exclude_self=True, generator=rng()), ((2, 3, 6),)),
        (lambda: syn.Hopfield(6, 3, generator=rng()), ((2, 6),)),
        (lambda: syn.Conv2d(1, 2, 2, generator=rng()), ((2, 1, 4, 4), (2, 2, 3, 3))),
        (lambda: syn.Pool2d(2), ((2, 1, 4, 4), (2, 1, 2, 2))),
        (lambda: syn.Bias(3), ((2, 3),)),
    ],
)
def test_currents_compile_in_one_piece_for_all_their_checks(make, shapes):
    synapse = make().double().requires_grad_(False)
    given = [draw(*shape, seed=i) for i, shape in enumerate(shapes)]
    torch._dynamo.reset()
    compiled = torch.compile(lambda *a: synapse.currents(*a), backend="aot_eager", fullgraph=True)
    for a, b in zip(compiled(*given), synapse.currents(*given), strict=True):
        close(a, b, 1e-12)
