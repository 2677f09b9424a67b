"""Laws of the continuous memory: exact gradients, falling energy, attention as one step of it."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from amtutor._threads import SMALL
from amtutor.descent import descend, distinct
from amtutor.memory.dense import (
    ENERGIES,
    DenseAM,
    EnergyForm,
    attention,
    attention_energy,
    attention_weights,
    distance_bias,
    kernel_energy,
    kernel_gradient,
    kernel_pull,
    log_density,
    lse_energy,
    lse_gradient,
    lse_weights,
    lsr_energy,
    lsr_gradient,
    lsr_pull,
    nearest,
    onto_support,
)
from amtutor.memory.kernels import KERNELS

FORMS = {"lse": 2.0, "lsr": 0.25}  # energy, and a beta that suits the random memories below


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def case(seed=0, k=11, d=7, dtype=torch.float64):
    """B = 3 x 5 states and K memories in D = 7 dimensions."""
    return draw(3, 5, d, seed=seed, dtype=dtype), draw(k, d, seed=seed + 1, dtype=dtype)


def half_squares(x, memories):
    return 0.5 * (x[..., None, :] - memories).square().sum(-1)


def by_definition(name, x, memories, beta):
    u = beta * half_squares(x, memories)
    if name == "lse":
        return -torch.logsumexp(-u, dim=-1) / beta
    return -(1 - u).relu().sum(-1).log() / beta


# ------------------------------------------------------------------ energy and gradient


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("chunk", [None, 1, 4])
def test_energy_equals_its_definition_in_any_chunks(name, chunk):
    x, memories = case()
    ours = ENERGIES[name].energy(x, memories, beta=FORMS[name], chunk=chunk)
    assert ours.shape == (3, 5)
    expected = by_definition(name, x, memories, FORMS[name])
    assert expected.isfinite().any()
    assert_close(ours, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("chunk", [None, 1, 4])
def test_gradient_equals_automatic_differentiation(name, chunk):
    x, memories = case()
    x.requires_grad_()
    form, beta = ENERGIES[name], FORMS[name]
    (auto,) = torch.autograd.grad(form.energy(x, memories, beta=beta, chunk=chunk).sum(), x)
    ours = form.gradient(x, memories, beta=beta, chunk=chunk)
    assert ours.abs().max() > 0.1
    assert_close(ours, auto, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", FORMS)
def test_gradient_through_the_energy_reaches_memories_and_beta(name):
    x, memories = case(k=4)
    x = x[0] * 0.1
    beta = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    memories = (memories * 0.3).requires_grad_()

    def energy(x, memories, beta):
        return ENERGIES[name].energy(x, memories, beta=beta, chunk=3)

    assert torch.autograd.gradcheck(energy, (x.requires_grad_(), memories, beta))
    assert torch.autograd.gradgradcheck(energy, (x, memories, beta))


@pytest.mark.parametrize("name", FORMS)
def test_batch_equals_loop(name):
    x, memories = case()
    form, beta = ENERGIES[name], FORMS[name]
    for function in (form.energy, form.gradient, form.pull):
        alone = [[function(row, memories, beta=beta) for row in line] for line in x]
        together = torch.stack([torch.stack(line) for line in alone])
        assert_close(function(x, memories, beta=beta), together, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", FORMS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_order_and_place_of_the_memories_do_not_matter(name, seed):
    x, memories = case(seed)
    order = torch.randperm(len(memories), generator=torch.Generator().manual_seed(seed))
    form, beta = ENERGIES[name], FORMS[name]
    energy = form.energy(x, memories, beta=beta)
    assert_close(form.energy(x, memories[order], beta=beta), energy, rtol=0, atol=1e-11)
    by = draw(7, seed=seed + 2)
    moved = form.gradient(x + by, memories + by, beta=beta)
    assert_close(moved, form.gradient(x, memories, beta=beta), rtol=1e-9, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), beta=st.floats(0.01, 100.0))
def test_lse_is_a_soft_minimum_of_bowls(seed, beta):
    x, memories = case(seed)
    least = half_squares(x, memories).amin(-1)
    energy = lse_energy(x, memories, beta=beta)
    assert (energy <= least + 1e-12).all()
    assert (energy >= least - math.log(len(memories)) / beta - 1e-12).all()


def test_one_memory_is_one_bowl():
    x, memories = case(k=1)
    assert_close(lse_energy(x, memories, beta=3.0), half_squares(x, memories)[..., 0])
    assert_close(lse_gradient(x, memories, beta=3.0), x - memories)


def test_weights_are_the_softmax_of_half_squares():
    x, memories = case()
    weights = lse_weights(x, memories, beta=0.7)
    assert_close(weights, torch.softmax(-0.7 * half_squares(x, memories), -1))
    assert_close(x - weights @ memories, lse_gradient(x, memories, beta=0.7))


def test_nearest_is_the_smallest_distance():
    x, memories = case(k=50)
    expected = half_squares(x, memories).argmin(-1)
    for chunk in (None, 7):
        assert torch.equal(nearest(x, memories, chunk=chunk), expected)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_modes_and_dtypes(name, mode, dtype):
    x, memories = case(dtype=dtype)
    with mode():
        memory = DenseAM(memories, name, beta=FORMS[name])
        assert memory.energy(x).dtype == memory.gradient(x).dtype == dtype
        end = memory.recall(x, steps=3, tol=1e-3)
    reference = DenseAM(memories.double(), name, beta=FORMS[name])
    assert_close(
        end.state.double(),
        reference.recall(x.double(), steps=3, tol=1e-3).state,
        rtol=0,
        atol=1e-5,
    )


# ------------------------------------------------------------------ extremes


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_float32_holds_at_beta_and_states_of_ten_thousand(scale):
    memories = draw(20, 64, dtype=torch.float32) * scale
    x = torch.cat([draw(6, 64, seed=5, dtype=torch.float32) * 1e4, memories[:3]])
    energy = lse_energy(x, memories, beta=1e4)
    truth = by_definition("lse", x.double(), memories.double(), 1e4)
    assert_close(energy.double(), truth, rtol=1e-6, atol=1e-3)
    assert (energy[-3:] == 0).all()  # on a memory, to the last bit
    slope = lse_gradient(x, memories, beta=1e4)
    assert_close(slope[-3:], torch.zeros(3, 64), rtol=0, atol=0)
    inside = lsr_energy(x, memories, beta=1e4)
    assert inside[:-3].isinf().all() and (inside[-3:] == 0).all()
    assert lsr_gradient(x, memories, beta=1e4).isfinite().all()


def test_tiny_beta_is_the_mean_and_huge_beta_the_nearest():
    x, memories = case()
    x = x.reshape(-1, 7)
    mean = memories.mean(0).expand(15, 7)
    assert_close(x - lse_gradient(x, memories, beta=1e-9), mean, rtol=0, atol=1e-7)
    closest = memories[nearest(x, memories)]
    assert_close(x - lse_gradient(x, memories, beta=1e9), closest, rtol=0, atol=1e-12)


class LargestOutput(TorchDispatchMode):
    """Remember the largest tensor any operation made (views of the memories aside)."""

    def __init__(self, spare):
        super().__init__()
        self.spare, self.numel = spare.untyped_storage().data_ptr(), 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for t in out if isinstance(out, tuple | list) else (out,):
            if isinstance(t, torch.Tensor) and t.untyped_storage().data_ptr() != self.spare:
                self.numel = max(self.numel, t.untyped_storage().nbytes() // t.element_size())
        return out


@pytest.mark.parametrize("name", FORMS)
def test_chunks_bound_every_intermediate(name):
    x, memories = draw(8, 7), draw(3000, 7, seed=1)
    form = ENERGIES[name]
    for function in (form.energy, form.gradient):
        with torch.no_grad(), LargestOutput(memories) as largest:
            function(x, memories, beta=FORMS[name], chunk=50)
        assert 8 * 50 <= largest.numel <= 2 * 8 * 50


def test_a_million_memories_are_recalled_in_blocks():
    memories = torch.empty(1_000_000, 64).normal_(generator=torch.Generator().manual_seed(0))
    asked = torch.arange(4) * 249_999
    x = memories[asked] + 0.3 * draw(4, 64, dtype=torch.float32)
    with torch.no_grad(), LargestOutput(memories) as largest:
        end = DenseAM(memories, beta=20.0).recall(x, steps=3, tol=1e-4)
        where = nearest(end.state, memories)
    assert largest.numel <= 64 * 2**20 / 4  # no tensor above 64 MB, isfinite's bytes included
    assert where.tolist() == asked.tolist() and end.converged.all()
    assert_close(end.state, memories[asked], rtol=0, atol=1e-5)


def test_many_queries_are_cut_too():
    x = draw(3000, 2, dtype=torch.float32)
    memories = draw(20_000, 2, seed=1, dtype=torch.float32)
    with torch.no_grad(), LargestOutput(memories) as largest:
        energy = lse_energy(x, memories, beta=5.0)
    assert largest.numel <= 2**22
    assert_close(energy[2990:], lse_energy(x[2990:], memories, beta=5.0), rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------ far from the origin

FUNCTIONS = {
    "lse_energy": lse_energy,
    "lse_gradient": lse_gradient,
    "lse_weights": lse_weights,
    "lsr_energy": lsr_energy,
    "lsr_gradient": lsr_gradient,
    "lsr_pull": lsr_pull,
}
fine = st.integers(-256, 256).map(lambda i: i / 64)  # on float32's grid, here and 10 000 away


@pytest.mark.parametrize("name", FUNCTIONS)
@settings(max_examples=40, deadline=None)
@given(
    memories=st.lists(st.tuples(fine, fine, fine), min_size=1, max_size=9),
    x=st.tuples(fine, fine, fine),
    by=st.tuples(*[st.integers(-10_000, 10_000)] * 3),
    beta=st.floats(0.02, 2.0),
)
def test_nothing_changes_where_all_is_moved(name, memories, x, by, beta):
    """Translation by what float32 holds exactly: the answer is the same to rounding *here*.

    Rounding is that of inner products from the middle: vectors of length 28 at most (x is no
    farther than 8 sqrt 3 from it along an axis), their products below 800, some ten operations.
    """
    memories, x, by = (torch.tensor(v, dtype=torch.float32) for v in (memories, x, by))
    here = FUNCTIONS[name](x, memories, beta=beta)
    there = FUNCTIONS[name](x + by, memories + by, beta=beta)
    truth = FUNCTIONS[name](x.double(), memories.double(), beta=beta)
    grain = 10 * 800 * 2.0**-24  # of a bowl
    if name.startswith("lsr"):  # steep at the edge of the support: stay away from it
        left = 1 - beta * half_squares(x.double(), memories.double())
        assume(left.abs().min() > 0.05)
        grain *= len(memories) * 28 / 0.05**2 * max(1.0, beta)
    elif name != "lse_energy":  # weights change by beta times the bowl, a mean by that times 28
        grain *= beta * 2 * 28
    for got in (here, there):
        assert_close(got.double(), truth, rtol=0, atol=grain)


def test_the_promises_hold_ten_thousand_away_in_float32():
    memories = draw(50, 64, dtype=torch.float32) + 1e4
    x = memories[:3]
    assert nearest(memories, memories).tolist() == list(range(50))
    for energy in (lse_energy, lsr_energy):
        assert energy(x, memories, beta=1.0).tolist() == [0, 0, 0]
    assert torch.equal(lse_gradient(x, memories, beta=1.0), torch.zeros(3, 64))
    near = torch.tensor([[1e4, 0], [1e4, 1], [10001, 0]])
    assert nearest(near, near).tolist() == [0, 1, 2]
    for energy in (lse_energy, lsr_energy):
        assert energy(near, near, beta=100.0).tolist() == [0, 0, 0]
    # with distances that a bowl can tell, and a temperature that mixes them
    truth = lse_energy(near.double(), near.double(), beta=1.0)
    assert_close(lse_energy(near, near, beta=1.0).double(), truth, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", FORMS)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), eta=st.floats(0.1, 1.9), offset=st.floats(-1e4, 1e4))
def test_energy_never_rises_far_away_save_by_the_grid(name, seed, eta, offset):
    """Each step lands on float32's grid near the offset: that is all that the energy may rise."""
    x, memories = case(seed, dtype=torch.float32)
    memories = memories + offset
    x = memories[:5] + 0.5 * x[0]
    memory = DenseAM(memories, name, beta=FORMS[name])
    path = memory.recall(x, steps=12, step_size=eta, record=True).trajectory
    off = 0.5 * 7**0.5 * 2.0**-23 * (abs(offset) + 8)  # from where the step led to where it lands
    steep = torch.stack([memory.gradient(s).norm(dim=-1) for s in path.states])
    bound = (steep[:-1] + steep[1:]) * off + off**2 + 1e-4
    rise = torch.where(path.energies[:-1].isinf(), 0.0, path.energies.diff(dim=0))
    if name == "lse":
        assert (rise <= bound).all()
    else:  # curvature is unbounded at the edge of the support, where a step may start but not end
        assert (rise[1:] <= 4 * bound[1:]).all()
    assert (path.energies[-1] <= path.energies[0] + bound[0]).all()


# ------------------------------------------------------------------ where nobody can look

EVERY = {**FUNCTIONS, "attention": attention, "attention_energy": attention_energy}
EVERY["nearest"] = lambda x, m, beta: nearest(x, m)


@pytest.mark.parametrize("name", EVERY)
def test_doors_open_under_vmap(name):
    x, memories = case()
    function, banks = EVERY[name], torch.stack([memories, memories + 1])
    here = function(x, memories, beta=0.25)
    assert_close(torch.func.vmap(lambda a: function(a, memories, beta=0.25))(x), here)
    by_bank = torch.func.vmap(lambda m: function(x, m, beta=0.25))(banks)
    assert_close(by_bank, torch.stack([function(x, m, beta=0.25) for m in banks]))
    betas = torch.tensor([0.25, 0.5], dtype=torch.float64)
    by_beta = torch.func.vmap(lambda b: function(x, memories, beta=b))(betas)
    assert_close(by_beta[0], here)


@pytest.mark.parametrize("name", FORMS)
def test_derivatives_per_example_equal_the_gradient(name):
    x, memories = case()
    form, beta = ENERGIES[name], FORMS[name]
    one = torch.func.grad(lambda a: form.energy(a, memories, beta=beta))
    rows = x.reshape(-1, 7)
    assert_close(torch.func.vmap(one)(rows), form.gradient(rows, memories, beta=beta))


@pytest.mark.parametrize("name", EVERY)
def test_doors_compile_whole(name):
    x, memories = case()
    torch._dynamo.reset()
    whole = torch.compile(EVERY[name], backend="eager", fullgraph=True)
    assert_close(whole(x, memories, beta=0.25), EVERY[name](x, memories, beta=0.25))
    beta = torch.tensor(0.25, dtype=torch.float64)
    assert_close(whole(x, memories, beta=beta), EVERY[name](x, memories, beta=0.25))


def test_the_module_compiles_whole():
    x, memories = case()
    memory = DenseAM(memories, beta=torch.tensor(2.0, dtype=torch.float64))
    torch._dynamo.reset()
    whole = torch.compile(memory.energy, backend="eager", fullgraph=True)
    assert_close(whole(x), memory.energy(x))


# ------------------------------------------------------------------ retrieval goes downhill


@pytest.mark.parametrize("name", FORMS)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), eta=st.floats(0.01, 1.99), hold=st.booleans())
def test_energy_never_rises_for_any_step_below_two(name, seed, eta, hold):
    x, memories = case(seed)
    x = memories[:5] + 0.5 * x[0]
    clamp = torch.arange(7) < 3 if hold else None
    memory = DenseAM(memories, name, beta=FORMS[name])
    path = memory.recall(x, steps=12, step_size=eta, clamp=clamp, record=True).trajectory
    fall = torch.where(path.energies[:-1].isinf(), 0.0, -path.energies.diff(dim=0))
    assert (fall >= -1e-12).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), eta=st.floats(0.01, 1.99), beta=st.floats(0.05, 50.0))
def test_lse_falls_at_least_as_the_proof_says(seed, eta, beta):
    # E(x - eta g) <= E(x) - eta (1 - eta/2) |g|^2: chapter 3, the concave-convex argument.
    x, memories = case(seed)
    slope = lse_gradient(x, memories, beta=beta)
    fall = lse_energy(x, memories, beta=beta) - lse_energy(x - eta * slope, memories, beta=beta)
    assert (fall >= eta * (1 - eta / 2) * slope.square().sum(-1) - 1e-11).all()


def test_step_two_is_too_far():
    # One memory: a step of 2 mirrors the state about it and gains nothing, 2.5 climbs.
    memory, x = DenseAM(torch.zeros(1, 2), beta=1.0), torch.tensor([1.0, 0.0])
    assert_close(memory.recall(x, steps=3, step_size=2.0).state, -x)
    assert memory.recall(x, steps=3, step_size=2.5).energy > memory.energy(x)


def test_retrieve_is_descent_with_the_exact_gradient():
    x, memories = case()
    memory = DenseAM(memories, beta=2.0)
    plain = descend(memory.energy, x, steps=6, step_size=0.7)
    assert_close(memory.recall(x, steps=6, step_size=0.7).state, plain.state, rtol=0, atol=1e-12)


def test_clamped_recall_completes_the_rest():
    memories = draw(30, 80)
    seen = torch.arange(80) < 60
    x = torch.where(seen, memories, 0.0)
    end = DenseAM(memories, beta=5.0).recall(x, steps=20, clamp=seen, tol=1e-9)
    assert_close(end.state, memories, rtol=0, atol=1e-6)
    assert torch.equal(end.state[:, seen], memories[:, seen])


def test_harder_queries_take_more_steps():
    """Ledger A3: with a stopping rule the number of steps follows the corruption."""
    memories = draw(200, 100)
    memory = DenseAM(memories, beta=0.3)
    steps = []
    for noise in (0.1, 1.0, 2.0, 3.0):
        x = memories + noise * draw(200, 100, seed=9)
        end = memory.recall(x, steps=500, tol=1e-6)
        assert end.converged.all()
        steps.append(end.steps_taken.double().mean().item())
    assert steps == sorted(steps) and steps[-1] > 1.5 * steps[0]


def test_reading_out_later_gives_the_same_answer():
    """Ledger A3, asymptotic stability: once converged, more steps change nothing."""
    memories = draw(50, 20)
    memory = DenseAM(memories, beta=1.0)
    x = memories + 0.5 * draw(50, 20, seed=4)
    early = memory.recall(x, steps=1000, tol=1e-12)
    assert early.converged.all()
    late = memory.recall(early.state, steps=500)
    assert_close(late.state, early.state, rtol=0, atol=1e-10)
    nudged = memory.recall(early.state + 1e-3 * draw(50, 20, seed=5), steps=500)
    assert_close(nudged.state, early.state, rtol=0, atol=1e-10)


# ------------------------------------------------------------------ minima, counted


def minima(memories, beta, *, steps=40_000, side=13):
    """Ends of descents from a grid whose Hessian is positive definite."""
    line = torch.linspace(-1.2, 1.2, side, dtype=torch.float64) + 1e-3
    grid = torch.cartesian_prod(*[line] * memories.shape[1]).reshape(-1, memories.shape[1])
    end = DenseAM(memories, beta=beta).recall(grid, steps=steps, tol=1e-10)
    found, _ = distinct(end.state[end.converged], tol=1e-4)

    def stable(x):
        weights = lse_weights(x, memories, beta=beta)
        spread = memories - weights @ memories
        hessian = torch.eye(len(x), dtype=x.dtype) - beta * spread.T @ (weights[:, None] * spread)
        return torch.linalg.eigvalsh(hessian)[0] > 0

    return [x for x in found if stable(x)]


@pytest.mark.parametrize("half", [0.5, 1.0])
def test_two_memories_part_at_four_over_their_distance_squared(half):
    # xi = -a and +a: grad E = x - a tanh(beta a x), one minimum up to beta = 1/a^2, then two.
    memories = torch.tensor([[-half], [half]], dtype=torch.float64)
    x = torch.linspace(-2, 2, 31, dtype=torch.float64)[:, None]
    slope = lse_gradient(x, memories, beta=1.3)
    assert_close(slope, x - half * torch.tanh(1.3 * half * x), rtol=0, atol=1e-12)
    critical = 1 / half**2
    assert len(minima(memories, 0.95 * critical)) == 1
    assert len(minima(memories, 1.05 * critical)) == 2


def test_three_memories_on_a_triangle_have_four_minima_between_1_83_and_2():
    angle = torch.arange(3, dtype=torch.float64) * 2 * math.pi / 3
    triangle = torch.stack([angle.cos(), angle.sin()], dim=1)
    counts = {beta: len(minima(triangle, beta)) for beta in (1.7, 1.86, 1.95, 2.1)}
    assert counts == {1.7: 1, 1.86: 4, 1.95: 4, 2.1: 3}


# ------------------------------------------------------------------ error after one step (D1)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), beta=st.floats(0.1, 30.0), noise=st.floats(0.0, 1.0))
def test_error_after_one_step_is_bounded_by_the_gap(seed, beta, noise):
    # |m(x) - xi| <= (1 - p) R <= (K - 1) exp(-beta gap) R, with R the largest distance from xi.
    memories = draw(11, 7, seed=seed)
    x = memories + noise * draw(11, 7, seed=seed + 1)
    bowls = half_squares(x, memories)
    own = bowls.diagonal()
    gap = (bowls + torch.diag(torch.full((11,), torch.inf, dtype=x.dtype))).amin(-1) - own
    error = (x - lse_gradient(x, memories, beta=beta) - memories).norm(dim=-1)
    reach = torch.cdist(memories, memories).amax(-1)
    p = lse_weights(x, memories, beta=beta).diagonal()
    assert (error <= (1 - p) * reach + 1e-12).all()
    assert (1 - p <= 10 * torch.exp(-beta * gap) + 1e-12).all()


# ------------------------------------------------------------------ attention (ledger D1)


def test_attention_is_one_retrieval_step_of_its_energy():
    x, memories = case()
    x.requires_grad_()
    (slope,) = torch.autograd.grad(attention_energy(x, memories, beta=0.6).sum(), x)
    assert_close(attention(x, memories, beta=0.6), x - slope, rtol=0, atol=1e-12)


def test_attention_equals_torch():
    query, keys = draw(4, 9), draw(6, 9, seed=1)
    values = draw(6, 5, seed=2)
    expected = F.scaled_dot_product_attention(query[None], keys[None], values[None])[0]
    assert_close(attention(query, keys, values), expected, rtol=0, atol=1e-12)


def test_with_the_distance_bias_attention_is_lse_retrieval_for_any_norms():
    x, memories = case()
    memories = memories * torch.linspace(0.2, 3.0, 11, dtype=torch.float64)[:, None]
    bias = distance_bias(memories)
    energy = attention_energy(x, memories, beta=0.8, bias=bias)
    assert_close(energy, lse_energy(x, memories, beta=0.8), rtol=0, atol=1e-12)
    step = attention(x, memories, beta=0.8, bias=bias)
    assert_close(step, x - lse_gradient(x, memories, beta=0.8), rtol=0, atol=1e-12)
    assert_close(
        attention_weights(x, memories, beta=0.8, bias=bias), lse_weights(x, memories, beta=0.8)
    )
    without = attention(x, memories, beta=0.8)
    assert (without - step).abs().max() > 0.1


def test_for_equal_norms_no_bias_is_needed_and_energies_differ_by_half_r_squared():
    x, memories = case()
    memories = 1.7 * F.normalize(memories, dim=-1)
    assert_close(
        attention_energy(x, memories, beta=0.8),
        lse_energy(x, memories, beta=0.8) - 1.7**2 / 2,
        rtol=0,
        atol=1e-12,
    )
    step = attention(x, memories, beta=0.8)
    assert_close(step, x - lse_gradient(x, memories, beta=0.8), rtol=0, atol=1e-12)


def test_without_bias_a_long_memory_counts_exponentially_often():
    x, memories = case()
    odds = attention_weights(x, memories, beta=0.8) / lse_weights(x, memories, beta=0.8)
    times = torch.exp(0.4 * memories.square().sum(-1))
    assert_close(odds / odds[..., :1], (times / times[0]).expand(3, 5, 11))


# ------------------------------------------------------------------ LSR


def test_lsr_off_the_support_is_infinite_flat_and_never_converged():
    memories = torch.zeros(1, 2)
    x = torch.tensor([[0.3, 0.0], [5.0, 0.0]], requires_grad=True)
    energy = lsr_energy(x, memories, beta=2.0)
    assert energy[1] == torch.inf and energy[0].isfinite()
    (auto,) = torch.autograd.grad(energy.sum(), x)
    for slope in (auto, lsr_gradient(x, memories, beta=2.0), lsr_pull(x, memories, beta=2.0)):
        assert slope[1].tolist() == [0.0, 0.0] and slope[0, 0] > 0
    end = DenseAM(memories, "lsr", beta=2.0).recall(x, steps=9, tol=1e-6)
    assert end.converged.tolist() == [True, False]
    assert end.energy[1] == torch.inf and torch.equal(end.state[1], x[1].detach())


def test_lsr_recalls_exactly_in_one_step_where_one_memory_is_in_reach():
    memories = 10 * torch.eye(4, dtype=torch.float64)
    x = memories + 0.3 * draw(4, 4)
    memory = DenseAM(memories, "lsr", beta=0.05)  # reach sqrt(2 / beta) = 6.3, half of 10 sqrt 2
    assert_close(memory.recall(x, steps=1).state, memories, rtol=0, atol=1e-14)


def test_lsr_pull_is_a_positive_multiple_of_the_gradient():
    x, memories = case()
    beta = FORMS["lsr"]
    left = (1 - beta * half_squares(x, memories)).relu()
    factor = left.sum(-1) / (left > 0).sum(-1).clamp(min=1)
    pull = lsr_pull(x, memories, beta=beta)
    assert (factor > 0).any()
    assert_close(pull, factor[..., None] * lsr_gradient(x, memories, beta=beta))


@pytest.mark.parametrize("beta", [1e-6, 1e-3, 0.05])
def test_lsr_is_half_the_square_where_beta_is_small(beta):
    """One memory: -log(1 - beta u) / beta = u + beta u^2 / 2 + ..., in float32 too."""
    x = torch.tensor([[4.0, 0.0], [0.0, 0.0]])
    truth = -math.log1p(-8 * beta) / beta
    assert_close(lsr_energy(x, torch.zeros(1, 2), beta=beta), torch.tensor([truth, 0.0]))


def test_a_memory_out_of_the_worlds_reach_disturbs_nobody():
    memories = torch.tensor([[0.0, 0.0], [3e19, 0.0]])  # half its square is no float32
    x = torch.tensor([[0.5, 0.0]])
    alone = lsr_energy(x, memories[:1], beta=1.0)
    memories[1, 0] = 1e18
    assert_close(lsr_energy(x, memories, beta=1.0), alone)


# ------------------------------------------------------------------ the module


def test_arrays_and_lists_will_do():
    x, memories = case()
    memory = DenseAM(memories.numpy(), beta=2.0)
    assert memory.memories.dtype == torch.float64
    assert torch.equal(memory.energy(x.numpy()), memory.energy(x))
    assert torch.equal(memory.recall(x.tolist(), steps=2).state, memory.recall(x, steps=2).state)
    small = DenseAM([[0.0, 1.0], [1.0, 0.0]], beta=20.0)
    assert small.recall([0.9, 0.2], steps=4).state.tolist() == pytest.approx([1.0, 0.0], abs=1e-5)


def test_beta_is_a_number_a_buffer_or_a_parameter():
    memories = draw(4, 3)
    assert DenseAM(memories, beta=2).beta == 2.0
    kept = DenseAM(memories, beta=torch.tensor(2.0, dtype=torch.float64))
    assert set(kept.state_dict()) == {"memories", "beta"} and not list(kept.parameters())
    assert kept.float().beta.dtype == torch.float32
    learned = DenseAM(memories, beta=torch.nn.Parameter(torch.tensor(2.0, dtype=torch.float64)))
    x = draw(5, 3, seed=1)
    learned.energy(x).sum().backward()
    h = 1e-6
    up, down = (DenseAM(memories, beta=2.0 + s * h).energy(x).sum() for s in (1, -1))
    assert learned.beta.grad.item() == pytest.approx(((up - down) / (2 * h)).item(), rel=1e-6)
    assert repr(learned) == "DenseAM(K=4, D=3, beta=2.0)"


@pytest.mark.parametrize("k, inside", [(10, 1), (SMALL // 7 + 1, 3)])
def test_small_memories_are_asked_on_one_thread(k, inside):
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(3)
    try:
        memory = DenseAM(torch.zeros(1, 7).expand(k, 7), beta=1.0)
        memory.recall(
            torch.ones(7), steps=1, callback=lambda *_: seen.append(torch.get_num_threads())
        )
        assert seen == [inside, inside] and torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_recall_calls_back_with_every_state():
    x, memories = case()
    steps, states = [], []
    run = DenseAM(memories, beta=2.0).recall(
        x, steps=4, record=True, callback=lambda t, s: (steps.append(t), states.append(s))
    )
    assert steps == [0, 1, 2, 3, 4]
    assert torch.equal(torch.stack(states), run.trajectory.states)


def test_training_moves_memories_towards_the_data():
    data = draw(200, 3) + 4
    memory = DenseAM(draw(5, 3, seed=3), beta=1.0, trainable=True)
    before = memory.energy(data).mean().item()
    optimiser = torch.optim.SGD(memory.parameters(), lr=0.5)
    for _ in range(50):
        optimiser.zero_grad()
        memory.energy(data).mean().backward()
        optimiser.step()
    assert memory.energy(data).mean().item() < before - 5
    assert torch.cdist(memory.memories, data.mean(0, keepdim=True)).min() < 0.5


def test_memories_are_buffer_or_parameter_and_survive_a_round_trip():
    memories = draw(4, 3)
    plain, trained = DenseAM(memories, beta=2.0), DenseAM(memories, beta=2.0, trainable=True)
    assert not list(plain.parameters()) and len(list(trained.parameters())) == 1
    parameter = torch.nn.Parameter(memories.clone())
    assert DenseAM(parameter, beta=2.0).memories is parameter
    other = DenseAM(torch.zeros(4, 3, dtype=torch.float64), beta=2.0)
    other.load_state_dict(trained.state_dict())
    x = draw(2, 3, seed=8)
    assert torch.equal(other.energy(x), trained.energy(x))
    assert trained.recall(x, steps=2).state.requires_grad is False
    with torch.no_grad():
        trained.memories.add_(1.0)  # as an optimiser does: what was given is not ours to move
    assert torch.equal(memories, draw(4, 3)) and torch.equal(plain.memories, memories)
    assert plain.float().memories.dtype == torch.float32
    assert repr(plain) == "DenseAM(K=4, D=3, beta=2.0)"


def test_any_energy_of_the_same_form_will_do():
    bowls = EnergyForm(  # one quadratic well at the mean: what chapter 3 breaks first
        energy=lambda x, memories, beta, chunk: half_squares(x, memories).mean(-1),
        gradient=lambda x, memories, beta, chunk: x - memories.mean(0),
        pull=lambda x, memories, beta, chunk: x - memories.mean(0),
    )
    x, memories = case()
    end = DenseAM(memories, bowls, beta=1.0).recall(x, steps=1)
    assert_close(end.state, memories.mean(0).expand_as(x))


def test_all_that_is_asked_is_asked_in_the_chunks_that_were_ordered():
    seen = []

    def spy(x, memories, *, beta, chunk):
        seen.append((beta, chunk))
        return x.sum(-1)

    x, memories = case()
    memory = DenseAM(memories, EnergyForm(spy, spy, spy), beta=2.0, chunk=3)
    for ask in (memory.energy, memory.gradient, memory.pull):
        ask(x)
    assert seen == [(2.0, 3)] * 3


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda x, m: lse_energy(x, m, beta=0.0), ValueError, "beta = 0.0: expected a finite num"),
        (lambda x, m: lse_energy(x, m, beta=-1), ValueError, "beta = -1.0: expected"),
        (lambda x, m: lse_energy(x[..., :2], m, beta=1), ValueError, "x: got .*last dimension 7"),
        (lambda x, m: lse_energy(x, m[0], beta=1), ValueError, r"memories: got .* \(K, D\) tensor"),
        (lambda x, m: lse_energy(x, m[:0], beta=1), ValueError, "memories: got .* K, D >= 1"),
        (lambda x, m: lse_energy(x.float(), m, beta=1), ValueError, "x: got torch.float32 on cpu"),
        (lambda x, m: lse_energy(x, m.long(), beta=1), TypeError, "memories: got a int64"),
        (lambda x, m: lse_energy(x.long(), m, beta=1), TypeError, "x: got a int64"),
        (lambda x, m: lse_energy(x * torch.nan, m, beta=1), ValueError, "x: 105 of 105 entries"),
        (lambda x, m: lse_energy(x, m * torch.nan, beta=1), ValueError, "memories: 77 of 77"),
        (lambda x, m: lse_energy(x * 1e200, m, beta=1), ValueError, "x: overflows in torch.float"),
        (lambda x, m: lsr_energy(x * torch.nan, m, beta=1), ValueError, "x: 105 of 105 entries"),
        (lambda x, m: lsr_energy(x, m * torch.nan, beta=1), ValueError, "memories: 77 of 77"),
        (lambda x, m: nearest(x * torch.nan, m), ValueError, "x: 105 of 105 entries"),
        (lambda x, m: nearest(x, m * torch.nan), ValueError, "memories: 77 of 77"),
        (
            lambda x, m: lse_weights(x.float(), m.float(), beta=1e39),
            ValueError,
            "x: overflows .* beta",
        ),
        (
            lambda x, m: attention(x.float(), m.float(), beta=1e39),
            ValueError,
            "query: overflows .* beta",
        ),
        (lambda x, m: DenseAM("memories", beta=1), TypeError, "memories: got a str 'memories'"),
        (
            lambda x, m: DenseAM(m, beta=1).energy("x"),
            TypeError,
            "x: got a str 'x'",
        ),
        (lambda x, m: lse_energy(x, m, beta=1, chunk=0), ValueError, "chunk = 0: expected a whol"),
        (lambda x, m: DenseAM(m, "lsx", beta=1), ValueError, "energy = 'lsx': expected one of 'ls"),
        (lambda x, m: DenseAM(m / 0, beta=1), ValueError, "memories: 77 of 77 entries are NaN"),
        (lambda x, m: DenseAM(m, beta=torch.ones(2)), ValueError, "beta: got a float32 tensor"),
        (lambda x, m: attention(x, m, m[:3]), ValueError, "values: got 3 rows, expected 11"),
        (lambda x, m: attention(x, m, bias=m[0]), ValueError, r"bias: got shape \(7,\), exp.*11"),
    ],
)
def test_bad_input_is_one_clear_line(call, kind, text):
    with pytest.raises(kind, match=text) as caught:
        call(*case())
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------ other kernels

OTHERS = ["triangle", "uniform", "cosine", "quartic", "triweight", "tricube"]


def kernel_by_definition(name, x, memories, beta):
    u = beta * half_squares(x, memories)
    z = u.sqrt()
    value = {
        "gaussian": (-u).exp(),
        "epanechnikov": 1 - u,
        "triangle": 1 - z,
        "uniform": torch.ones_like(u),
        "cosine": (math.pi * z / 2).cos(),
        "quartic": (1 - u) ** 2,
        "triweight": (1 - u) ** 3,
        "tricube": (1 - z**3) ** 3,
    }[name]
    end = math.inf if name == "gaussian" else 1.0
    return -value.where(u < end, 0.0).sum(-1).log() / beta


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("chunk", [None, 1, 4])
def test_kernel_energy_and_its_gradient(name, chunk):
    x, memories = case()
    x.requires_grad_()
    energy = kernel_energy(x, memories, kernel=name, beta=0.25, chunk=chunk)
    expected = kernel_by_definition(name, x, memories, 0.25)
    assert energy.shape == (3, 5) and expected.isfinite().any()
    assert_close(energy, expected, rtol=0, atol=1e-12)
    ours = kernel_gradient(x, memories, kernel=KERNELS[name], beta=0.25, chunk=chunk)
    if name == "uniform":
        assert (ours == 0).all()
    else:
        (auto,) = torch.autograd.grad(energy.sum(), x)
        assert ours.abs().max() > 0.1
        assert_close(ours, auto, rtol=1e-9, atol=1e-11)  # near an edge the slope has no bound


@pytest.mark.parametrize("name", OTHERS)
def test_rows_of_a_kernel_energy_are_strangers(name):
    x, memories = case()
    for f in (kernel_energy, kernel_gradient, kernel_pull):
        ask = partial(f, memories=memories, kernel=name, beta=0.25)
        one = torch.stack([ask(row) for row in x.reshape(15, 7)])
        assert_close(ask(x).reshape(one.shape), one, rtol=1e-12, atol=1e-12)
        both = torch.func.vmap(ask)(x.reshape(15, 7))
        assert_close(both, one, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("ask", [kernel_energy, kernel_gradient, kernel_pull])
def test_doors_of_other_kernels_compile_whole(name, ask):
    x, memories = case()
    torch._dynamo.reset()
    whole = torch.compile(partial(ask, kernel=name), backend="eager", fullgraph=True)
    expected = ask(x, memories, kernel=name, beta=0.25)
    assert_close(whole(x, memories, beta=0.25), expected)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("step_size", [0.3, 1.0, 1.9])
def test_recall_by_any_kernel_never_climbs(name, step_size):
    for seed in range(5):
        memories, x = draw(9, 2, seed=seed), draw(40, 2, seed=50 + seed)
        walk = DenseAM(memories, name, beta=1.0).recall(
            x, steps=30, step_size=step_size, record=True
        )
        energies = walk.trajectory.energies
        rise = energies.diff(dim=0)[:, energies[0].isfinite()]
        assert (rise <= 1e-12).all()
        assert name == "uniform" or rise.min() < -0.01


@pytest.mark.parametrize("name", [n for n in OTHERS if n != "uniform"])
def test_the_pull_is_the_gradient_at_another_length(name):
    memories, x = draw(9, 2), draw(60, 2, seed=5)
    slope = kernel_gradient(x, memories, kernel=name, beta=1.0)
    pull = kernel_pull(x, memories, kernel=name, beta=1.0)
    assert_close((slope * pull).sum(-1), slope.norm(dim=-1) * pull.norm(dim=-1))
    assert ((slope == 0) == (pull == 0)).all()


@pytest.mark.parametrize("name", ["epanechnikov", *(n for n in OTHERS if n != "uniform")])
def test_a_memory_that_is_felt_alone_comes_back_in_one_step(name):
    memories = torch.tensor([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0]], dtype=torch.float64)
    x = torch.nn.functional.normalize(draw(50, 3), dim=-1) * torch.linspace(0.01, 0.99, 50)[:, None]
    end = DenseAM(memories, name, beta=2.0).recall(x, steps=1).state
    assert_close(end, torch.zeros_like(end), rtol=0, atol=1e-15)


def test_a_gradient_step_of_the_right_size_is_exact_and_no_other_is():
    # alone in reach, the LSR slope is (x - xi) / S, S = exp(-beta E): step S, not 1
    memories, x, beta = draw(1, 7), draw(30, 7, seed=3), 0.05
    energy = lsr_energy(x, memories, beta=beta)
    step = (-beta * energy).exp()[:, None]
    slope = lsr_gradient(x, memories, beta=beta)
    assert (0 < step).all() and (step < 0.9).all()
    assert_close(x - step * slope, memories.expand_as(x), rtol=0, atol=1e-13)
    assert ((x - slope - memories).norm(dim=-1) > 0.1).all()


def test_the_cusp_of_the_triangle_holds_what_it_can():
    # three memories at the corners of a triangle pull on one in the middle: evenly, then unevenly
    angle = torch.arange(3, dtype=torch.float64) * 2 * math.pi / 3
    corners = torch.stack([angle.cos(), angle.sin()], 1)
    middle = torch.zeros(1, 2, dtype=torch.float64)
    ask = {"kernel": "triangle", "beta": 0.5}  # reach 2
    held = kernel_gradient(middle, torch.cat([middle, corners]), **ask)
    assert_close(held, torch.zeros_like(held), rtol=0, atol=1e-15)
    uneven = torch.cat([middle, corners[:1], corners[:1], corners[:1]])  # three against one
    slope = kernel_gradient(middle, uneven, **ask)
    e = [
        float(kernel_energy(middle + t * corners[:1], uneven, **ask)) for t in (0.0, 1e-6)
    ]  # the steepest way down, one-sided
    assert_close(float(slope[0, 0]), (e[1] - e[0]) / 1e-6, rtol=1e-5, atol=0)
    end = DenseAM(uneven, "triangle", beta=0.5).recall(middle, steps=200).state
    assert_close(end, corners[:1], rtol=0, atol=1e-9)


def test_the_two_old_energies_are_two_of_the_eight_kernels():
    assert ENERGIES["gaussian"] is ENERGIES["lse"]
    assert ENERGIES["epanechnikov"] is ENERGIES["lsr"]
    assert DenseAM(draw(3, 2), KERNELS["cosine"], beta=1.0).form is ENERGIES["cosine"]


@pytest.mark.parametrize("name", KERNELS)
def test_kernel_densities_have_integral_one(name):
    memories = 0.3 * draw(5, 2)
    grid = torch.linspace(-4, 4, 801, dtype=torch.float64)
    x = torch.cartesian_prod(grid, grid)
    mass = log_density(x, memories, kernel=name, bandwidth=0.8).exp().sum() * 0.01**2
    # cells of side s that an edge of length L crosses: at most about L s / 2, the jump times that
    jump = {"uniform": 2 * math.pi * 0.8 * 0.01 / 2 / (math.pi * 0.8**2)}
    assert float(mass) == pytest.approx(1, abs=jump.get(name, 1e-4))


@pytest.mark.parametrize("name", OTHERS)
def test_kernel_energies_keep_small_energies_and_large_distances(name):
    memories = torch.tensor([[5e3, 0.0], [5e3, 40.0]])
    x = memories[:1] + torch.tensor([[1e-3, 0.0]])
    shift = x.double() - memories[:1].double()
    exact = kernel_by_definition(name, shift, torch.zeros(1, 2).double(), 2.0)
    ours = kernel_energy(x, memories, kernel=name, beta=2.0).double()
    assert_close(ours, exact, rtol=2e-6, atol=0)
    at = kernel_energy(memories, memories, kernel=name, beta=1e9)
    assert (at == 0).all()


# ------------------------------------------------------------------ off the support


def test_states_off_the_support_are_handled_by_choice():
    memories = torch.tensor([[0.0, 0.0], [10.0, 0.0]], dtype=torch.float64)
    x = torch.tensor([[4.0, 3.0], [0.3, 0.4], [6.0, 0.0]], dtype=torch.float64)
    memory = DenseAM(memories, "quartic", beta=2.0)  # reach 1
    stay = memory.recall(x, steps=3, tol=1e-9)
    assert stay.converged.tolist() == [False, True, False]
    assert torch.equal(stay.state[[0, 2]], x[[0, 2]])
    start = memory.recall(x, steps=0, off_support="escape").state
    edge = torch.tensor([[0.792, 0.594], [0.3, 0.4], [9.01, 0.0]], dtype=torch.float64)
    assert_close(start, edge)
    for how in ("nearest", "escape"):
        end = memory.recall(x, steps=3, tol=1e-9, off_support=how)
        assert end.converged.all()
        assert_close(end.state, memories[[0, 0, 1]], rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="x: 2 of 3 states are off the support, expected"):
        memory.recall(x, steps=3, off_support="raise")
    assert memory.recall(x[1:2], steps=3, off_support="raise").state.shape == (1, 2)


def test_escape_ends_in_finite_energy_in_float32():
    memories, x = 100 + draw(20, 30, dtype=torch.float32), 90 + draw(50, 30, dtype=torch.float32)
    moved = onto_support(x, memories, beta=0.1, how="escape")
    assert lsr_energy(x, memories, beta=0.1).isinf().all()
    assert lsr_energy(moved, memories, beta=0.1).isfinite().all()


def test_off_support_is_refused_where_it_means_nothing():
    memories = draw(3, 2)
    held = torch.tensor([True, False])
    with pytest.raises(ValueError, match="off_support = 'nearest': expected 'stay'"):
        DenseAM(memories, beta=1.0).recall(memories, steps=1, off_support="nearest")
    with pytest.raises(ValueError, match="off_support = 'escape': expected .* clamp"):
        DenseAM(memories, "lsr", beta=1.0).recall(
            memories, steps=1, clamp=held, off_support="escape"
        )
    with pytest.raises(ValueError, match="off_support = 'away'"):
        DenseAM(memories, "lsr", beta=1.0).recall(memories, steps=1, off_support="away")
    with pytest.raises(ValueError, match="bandwidth"):
        log_density(memories, memories, kernel="cosine", bandwidth=1e-200)
