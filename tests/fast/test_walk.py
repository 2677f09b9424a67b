"""The fast twin of the Energy Transformer block gives the plain block's numbers and gradients."""

from __future__ import annotations

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils import stateless

from amtutor import fast
from amtutor.fast import _walk as twin
from amtutor.network.energy_transformer import EnergyTransformerBlock
from amtutor.network.lagrangians import Softmax, Tanh

B, N, D = 3, 5, 7
MODES = ("fast", "lean")


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def make(*, dim=D, heads=2, depth=4, memories=11, seed=0, **more):
    generator = torch.Generator().manual_seed(seed)
    block = EnergyTransformerBlock(
        dim, n_heads=heads, head_dim=depth, n_memories=memories, generator=generator, **more
    ).double()
    with torch.no_grad():
        block.norm.gamma.fill_(1.3)
        if block.norm.delta is not None:
            block.norm.delta.copy_(0.2 * draw(dim, seed=seed + 1))
    return block


def make_mask(name, n=N):
    if name == "none":
        return None
    if name == "causal":
        return torch.ones(n, n).tril().bool()
    each = torch.rand(B, n, n, generator=torch.Generator().manual_seed(7)) < 0.5
    each[0, 2] = False
    each[1] = False
    return each


def relative(a, b):
    return ((a - b).norm() / b.norm().clamp(min=1e-300)).item()


def run(block, x, *, mode=None, **how):
    """The plain form, or its twin where a mode is named."""
    return block(x, **how) if mode is None else fast.walk(block, x, mode=mode, **how)


def outcome(block, x, **settings):
    """Where the tokens end, and the gradients of one number made of them."""
    x = x.detach().requires_grad_()
    end = run(block, x, **settings)
    v = draw(*end.shape, seed=5).to(end)
    wanted = [x, *(p for p in block.parameters() if p.requires_grad)]
    return [end.detach(), *torch.autograd.grad((v * end).sum(), wanted)]


def assert_same(got, want, limit):
    errors = [relative(a, b) for a, b in zip(got, want, strict=True)]
    assert max(errors) < limit, errors


# ------------------------------------------------------------------ equal to the plain form


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("activation", ["relu", "power", "softmax"])
@pytest.mark.parametrize("exclude_self", [True, False])
@pytest.mark.parametrize("mask", ["none", "causal", "each"])
@pytest.mark.parametrize("at_a_time", [2**20, 60, 12])  # all, some heads, some rows of scores
def test_values_and_gradients_equal_the_plain_form(
    monkeypatch, mode, activation, exclude_self, mask, at_a_time
):
    monkeypatch.setattr(twin, "_SCORES", at_a_time)
    monkeypatch.setattr(twin, "_OVERLAPS", at_a_time)
    block = make(activation=activation, exclude_self=exclude_self, n=3.5, memory_beta=2.0)
    how = {"steps": 3, "step_size": 0.1, "mask": make_mask(mask)}
    x = draw(B, N, D)
    want, got = outcome(block, x, **how), outcome(block, x, mode=mode, **how)
    assert_same(got, want, 1e-12)
    with torch.no_grad():
        assert relative(fast.walk(block, x, mode=mode, **how), want[0]) < 1e-12


@settings(max_examples=25)
@given(
    batch=st.lists(st.integers(1, 3), max_size=2),
    n=st.integers(1, 40),
    heads=st.integers(1, 3),
    depth=st.integers(1, 9),
    memories=st.integers(1, 90),
    mode=st.sampled_from(MODES),
    at_a_time=st.sampled_from([30, 300, 3000]),
)
def test_all_shapes(batch, n, heads, depth, memories, mode, at_a_time):
    block = make(heads=heads, depth=depth, memories=memories)
    x = draw(*batch, n, D)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(twin, "_SCORES", at_a_time)
        patch.setattr(twin, "_OVERLAPS", at_a_time)
        got = outcome(block, x, steps=2, step_size=0.1, mode=mode)
    assert got[0].shape == x.shape
    assert_same(got, outcome(block, x, steps=2, step_size=0.1), 1e-11)


@pytest.mark.parametrize("mode", MODES)
def test_many_tokens_in_blocks_of_rows_with_their_diagonal_left_out(mode):
    """300 tokens of one head do not fit at a time into 2^14 scores."""
    block, x = make(heads=1), draw(300, D)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(twin, "_SCORES", 2**14)
        got = outcome(block, x, steps=1, step_size=0.1, mode=mode)
    assert_same(got, outcome(block, x, steps=1, step_size=0.1), 1e-11)
    kept = make(heads=1, exclude_self=False)
    assert relative(outcome(kept, x, steps=1, step_size=0.1)[0], got[0]) > 1e-6


@pytest.mark.parametrize("mode", MODES)
def test_gradients_equal_finite_differences(mode):
    block = make(dim=4, activation="power", n=4)
    x = draw(2, 3, 4).requires_grad_()

    def walk(x, query, key, memories, gamma, delta):
        names = (
            "attention.W_query",
            "attention.W_key",
            "hopfield.memories",
            "norm.gamma",
            "norm.delta",
        )
        weights = dict(zip(names, (query, key, memories, gamma, delta), strict=True))
        with stateless._reparametrize_module(block, weights):
            return fast.walk(block, x, steps=2, step_size=0.1, mode=mode)

    inputs = (
        x,
        block.attention.W_query,
        block.attention.W_key,
        block.hopfield.memories,
        block.norm.gamma,
        block.norm.delta,
    )
    assert torch.autograd.gradcheck(walk, inputs)


@pytest.mark.parametrize("mode", MODES)
def test_float32_is_as_exact_as_the_plain_form(mode):
    block = make(dim=96, heads=3, depth=16, memories=200)
    x, how = draw(4, 50, 96), {"steps": 6, "step_size": 0.1}
    exact = outcome(block, x, **how)
    block = block.float()
    plain, ours = outcome(block, x.float(), **how), outcome(block, x.float(), mode=mode, **how)
    for a, b, e in zip(ours, plain, exact, strict=True):
        assert a.dtype == torch.float32
        assert relative(a.double(), e) < max(4 * relative(b.double(), e), 2e-6)


@pytest.mark.parametrize("mode", MODES)
def test_bf16_autocast_is_as_close_as_the_plain_form(mode):
    block = make(dim=96, heads=3, depth=16, memories=200).float()
    x, how = draw(4, 50, 96, dtype=torch.float32), {"steps": 6, "step_size": 0.1}
    exact = outcome(block, x, **how)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plain, ours = outcome(block, x, **how), outcome(block, x, mode=mode, **how)
    for a, b, e in zip(ours, plain, exact, strict=True):
        assert a.dtype == torch.float32
        assert 1e-6 < relative(a, e) < max(2 * relative(b, e), 2e-2)


def test_tokens_in_bf16_under_autocast_are_widened():
    block, x = make().float(), draw(B, N, D, dtype=torch.float32).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        for mode in (None, *MODES):
            end = run(block, x, steps=2, step_size=0.1, mode=mode)
            assert end.dtype == torch.float32
            assert relative(end, block.float()(x.float(), steps=2, step_size=0.1)) < 5e-2


def test_without_bias_and_with_frozen_parts():
    block, x, how = make(bias=False), draw(B, N, D), {"steps": 2, "step_size": 0.1}
    for p in (block.attention.W_key, block.norm.gamma):
        p.requires_grad_(False)
    for mode in MODES:
        assert_same(outcome(block, x, mode=mode, **how), outcome(block, x, **how), 1e-12)


def test_a_backward_pass_can_be_repeated_and_the_start_is_left_alone():
    block, x = make(), draw(B, N, D).requires_grad_()
    before = x.detach().clone()
    loss = fast.walk(block, x, steps=2, step_size=0.1).square().sum()
    (a,) = torch.autograd.grad(loss, x, retain_graph=True)
    (b,) = torch.autograd.grad(loss, x)
    assert torch.equal(a, b) and torch.equal(x.detach(), before)


def test_two_walks_at_once_do_not_share_buffers():
    block, x, y = make(), draw(B, N, D), draw(B, N, D, seed=1)
    how = {"steps": 2, "step_size": 0.1}
    want = [outcome(block, s, **how)[0] for s in (x, y)]
    got = [fast.walk(block, s, **how) for s in (x, y)]
    assert_same(got, want, 1e-12)


def test_without_gradients_and_in_inference_mode():
    block, x, how = make(), draw(B, N, D), {"steps": 2, "step_size": 0.1}
    want = block(x, **how).detach()
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            end = fast.walk(block, x, **how)
            assert not end.requires_grad and relative(end, want) < 1e-12
    for p in block.parameters():
        p.requires_grad_(False)
    assert relative(fast.walk(block, x, **how), want) < 1e-12


def test_second_derivatives_are_refused_not_wrong():
    block, x = make(), draw(B, N, D).requires_grad_()
    end = fast.walk(block, x, steps=1, step_size=0.1)
    (slope,) = torch.autograd.grad(end.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


@pytest.mark.parametrize("mode", [None, *MODES])
def test_a_callback_sees_every_step_and_changes_nothing(mode):
    block, x, how = make(), draw(B, N, D), {"steps": 3, "step_size": 0.1}
    film = block.descend(x, record=True, **how).trajectory.states
    seen = []

    def spoil(step, tokens):
        seen.append((step, tokens.clone()))
        tokens.zero_()

    want = outcome(block, x, mode=mode or "fast", **how)
    got = outcome(block, x, mode=mode or "fast", callback=spoil, **how)
    assert_same(got, want, 1e-12)
    assert [step for step, _ in seen] == [0, 1, 2, 3]
    assert not any(tokens.requires_grad for _, tokens in seen)
    assert relative(torch.stack([tokens for _, tokens in seen]), film) < 1e-12


def test_no_steps():
    block, x = make(), draw(B, N, D)
    for mode in MODES:
        end, slope, *rest = outcome(block, x, steps=0, step_size=0.1, mode=mode)
        assert torch.equal(end, x) and torch.equal(slope, draw(B, N, D, seed=5))
        assert all(torch.equal(r, torch.zeros_like(r)) for r in rest)


# ------------------------------------------------------------------ memory and settings


def test_lean_keeps_the_tokens_only():
    block, x = make(memories=400), draw(B, N, D).requires_grad_()

    def kept(mode):
        end = fast.walk(block, x, steps=4, step_size=0.1, mode=mode)
        node = end.grad_fn
        while not hasattr(node, "kept"):
            node = node.next_functions[0][0]
        return sum(t.numel() for step in node.kept for t in step.values())

    assert kept("lean") == 4 * x.numel()
    per_step = x.numel() + B * N * (2 * 2 * 4 + 400 + 2 * N)  # tokens, Q and K, overlaps, scores
    assert kept("fast") == 4 * per_step


@settings(max_examples=40)
@given(b=st.integers(1, 5), heads=st.integers(1, 5), n=st.integers(1, 200))
def test_scores_are_cut_into_pieces_that_cover_all_once_and_are_bounded(b, heads, n):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(twin, "_SCORES", 1000)
        plan = twin._plan(make(heads=heads), draw(b, n, D), 1, 0.1, None, keep=False)
        seen = torch.zeros(b, heads, n, dtype=torch.int64)
        for some, rows in twin._chunks(plan):
            part = seen[some][..., rows]
            part += 1
            assert part.numel() * n <= max(1000, 16 * n)
        assert (seen == 1).all()


def test_the_switch_to_the_faster_library_is_put_back():
    products = getattr(torch.backends.mkldnn, "matmul", None)
    before = getattr(products, "fp32_precision", None)
    block, x = make().float(), draw(B, N, D, dtype=torch.float32)
    outcome(block, x, steps=1, step_size=0.1, mode="fast")
    with pytest.raises(ValueError):
        fast.walk(block, x, steps=1, step_size=0.1, mask=torch.ones(2, 2, dtype=torch.bool))
    assert getattr(products, "fp32_precision", None) == before


# ------------------------------------------------------------------ where it is compiled


class Backend:
    """A compiler that runs what it is given, and counts; or one that is broken."""

    def __init__(self, broken=False):
        self.broken, self.calls = broken, 0

    def __call__(self, graph, inputs):
        self.calls += 1
        if self.broken:
            raise RuntimeError("no compiler\nin this house")
        return graph.forward


@pytest.fixture
def backend(monkeypatch):
    def use(broken=False):
        found = Backend(broken)
        torch._dynamo.reset()
        monkeypatch.setattr(twin, "_choose", lambda device: "compiled")
        monkeypatch.setattr(twin, "_compiled_step", twin._CompiledStep(found))
        return found

    yield use
    torch._dynamo.reset()


def test_a_gpu_takes_the_compiled_form_and_nothing_else_does():
    assert twin._choose(torch.device("cuda:1")) == "compiled"
    assert twin._choose(torch.device("cpu")) == twin._choose(torch.device("mps")) == "fast"


@pytest.mark.parametrize("name", ["none", "causal", "each"])
def test_the_compiled_form_is_the_plain_one(backend, name):
    counted, block = backend(), make()
    how = {"steps": 4, "step_size": 0.1, "mask": make_mask(name)}
    want = outcome(block, draw(B, N, D), **how)
    got = outcome(block, draw(B, N, D), mode="compiled", **how)
    assert counted.calls == 1  # one step is compiled, whatever their number
    for a, b in zip(got, want, strict=True):
        assert relative(a, b) < 1e-12
    with torch.no_grad():
        assert relative(fast.walk(block, draw(B, N, D), **how), want[0]) < 1e-12


def test_memories_without_a_form_by_hand_can_be_compiled(backend):
    backend()
    block, x = make(activation=Tanh()), draw(B, N, D)
    want = block(x, steps=2, step_size=0.1)
    assert relative(fast.walk(block, x, steps=2, step_size=0.1), want) < 1e-12


def test_where_compiling_fails_it_says_so_once_and_goes_on(backend):
    counted, block, x = backend(broken=True), make(), draw(B, N, D)
    want = block(x, steps=3, step_size=0.1)
    with pytest.warns(RuntimeWarning, match="fast.walk: torch.compile failed") as said:
        got = fast.walk(block, x, steps=3, step_size=0.1)
    assert relative(got, want) < 1e-12 and len(said) == 1 and "\n" not in str(said[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert relative(fast.walk(block, x, steps=3, step_size=0.1), want) < 1e-12
    assert counted.calls == 1


def test_compiled_callers_get_the_same():
    block, x = make(), draw(B, N, D)
    compiled = torch.compile(
        lambda a: 2 * fast.walk(block, a, steps=2, step_size=0.1), backend="eager"
    )
    with torch.no_grad():
        assert relative(compiled(x), 2 * block(x, steps=2, step_size=0.1)) < 1e-12


@pytest.mark.parametrize(
    ("block", "how", "message"),
    [
        (
            {},
            {"mode": "quick"},
            r"mode = 'quick': expected one of None, 'compiled', 'fast', 'lean'",
        ),
        ({"activation": Tanh()}, {}, r"block: its memories use Tanh\(beta=1\)"),
        ({"activation": Softmax(learnable=True)}, {}, "fixed beta"),
    ],
)
def test_bad_input_gets_one_clear_line(block, how, message):
    with pytest.raises(ValueError, match=message) as caught:
        fast.walk(make(**block), draw(B, N, D), steps=1, step_size=0.1, **how)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"steps": -1}, "steps = -1"),
        ({"step_size": 0.0}, "step_size = 0.0"),
        ({"mode": "slow"}, "mode = 'slow': expected one of None, 'compiled', 'fast', 'lean'"),
        ({"x": torch.ones(N, D + 1)}, "x: got a float32 tensor"),
    ],
)
def test_bad_input_to_the_twin_itself(how, message):
    how = {"x": draw(N, D), "steps": 1, "step_size": 0.1} | how
    with pytest.raises(ValueError, match=message):
        fast.walk(make(), how.pop("x"), **how)


def test_tokens_of_another_dtype_are_refused():
    with pytest.raises(ValueError, match="x: got torch.float32 on cpu, expected torch.float64"):
        fast.walk(make(), draw(B, N, D).float(), steps=1, step_size=0.1)


@pytest.mark.parametrize("mode", ["fast", "lean"])
def test_mixed_heads_are_refused_by_hand(mode):
    """The twin knows the plain energy only, and would go down that one without a word."""
    with pytest.raises(ValueError, match=f"mode = '{mode}': expected 'compiled'.*heads are mixed"):
        fast.walk(make(mix_heads=True), draw(2, N, D), steps=1, step_size=0.1, mode=mode)
