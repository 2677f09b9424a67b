"""The fast twin of LSE retrieval gives the plain form's numbers, whatever the shapes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from amtutor import fast
from amtutor.fast._matmul import (
    long_times_transpose,
    onednn_route,
    reduced_precision,
    transpose_times_long,
)
from amtutor.fast._retrieve import FastLSE
from amtutor.memory.dense import DenseAM, lse_energy, lse_gradient


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


sizes = st.integers(1, 70)


# ------------------------------------------------------------------ products


@settings(max_examples=40, deadline=None)
@given(n=sizes, m=sizes, c=sizes)
def test_products_equal_matmul_in_float32(n, m, c):
    a, b, p = draw(n, c), draw(m, c, seed=1), draw(n, m, seed=2)
    exact = (a.double() @ b.double().T, p.double().T @ a.double())
    ours = (long_times_transpose(a, b), transpose_times_long(p, a))
    for got, want, terms in zip(ours, exact, (c, n), strict=True):
        assert got.shape == want.shape
        assert_close(got.double(), want, rtol=0, atol=3e-6 * terms**0.5 + 1e-6)


def test_large_products_are_as_exact_as_matmul():
    a, b, p = draw(3001, 200), draw(64, 200, seed=1), draw(3001, 64, seed=2)
    for got, plain, want in (
        (long_times_transpose(a, b), a @ b.T, a.double() @ b.double().T),
        (transpose_times_long(p, a), p.T @ a, p.double().T @ a.double()),
    ):
        error = (got - want).abs().max()
        assert error <= 6 * (plain - want).abs().max()
        assert error <= 1e-5 * want.abs().max()


def test_the_route_is_float32_on_a_cpu_with_plain_rows():
    a, b = draw(40, 5), draw(3, 5)
    assert onednn_route(a, b) == torch.backends.mkldnn.is_available()
    assert not onednn_route(a.double(), b.double())
    assert not onednn_route(a.T.contiguous().T, b)
    assert not onednn_route(a[:10], b)
    assert not onednn_route(a, b[:0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_and_strides_fall_back(dtype):
    a, b, p = draw(40, 6, dtype=dtype), draw(3, 6, dtype=dtype), draw(40, 3, dtype=dtype)
    assert torch.equal(long_times_transpose(a, b), a @ b.T)
    assert torch.equal(transpose_times_long(p, a), p.T @ a)
    strided = draw(80, 6)[::2]
    assert_close(long_times_transpose(strided, b.float()), strided @ b.float().T)
    assert_close(transpose_times_long(p.float(), strided), p.float().T @ strided)


def test_a_slice_of_a_larger_tensor_is_read_from_the_right_place():
    whole = draw(100, 6)
    part, b = whole[33:97], draw(3, 6, seed=1)
    assert_close(long_times_transpose(part, b), part @ b.T, rtol=1e-5, atol=1e-5)
    assert_close(
        transpose_times_long(draw(64, 3), part), draw(64, 3).T @ part, rtol=1e-5, atol=1e-5
    )


@pytest.mark.skipif(
    not hasattr(torch.backends.mkldnn, "matmul"), reason="this setting came with torch 2.9"
)
def test_reduced_precision_is_off_puts_the_setting_back_and_says_if_it_cannot(monkeypatch):
    setting = torch.backends.mkldnn.matmul
    before = setting.fp32_precision
    assert before not in ("bf16", "tf32")  # importing the library switches nothing on
    with pytest.raises(KeyError), reduced_precision():
        assert setting.fp32_precision == "bf16"
        a, b = draw(40, 30), draw(20, 30, seed=1)
        assert_close(a @ b.T, (a.double() @ b.double().T).float(), rtol=0, atol=0.3)
        raise KeyError
    assert setting.fp32_precision == before
    monkeypatch.setattr(torch.backends.mkldnn, "matmul", None)
    with pytest.raises(RuntimeError, match="fp32_precision, expected torch >= 2.9"):
        with reduced_precision():
            pass


# ------------------------------------------------------------------ energy and gradient


@settings(max_examples=40, deadline=None)
@given(
    k=st.integers(1, 90),
    d=st.integers(1, 40),
    batch=st.integers(1, 9),
    beta=st.sampled_from([0.01, 1.0, 50.0]),
)
def test_energy_and_gradient_equal_the_plain_form(k, d, batch, beta):
    memories, x = draw(k, d), draw(batch, d, seed=1)
    twin = FastLSE(memories, beta=beta)
    truth = lse_energy(x.double(), memories.double(), beta=beta)
    atol = 1e-5 * (1 + 1 / beta)
    assert_close(twin.energy(x).double(), truth, rtol=1e-5, atol=atol)
    slope = lse_gradient(x.double(), memories.double(), beta=beta)
    assert_close(twin.gradient(x).double(), slope, rtol=0, atol=2e-4)


def test_many_blocks_equal_one():
    # 300 queries: blocks of 3488 memories, the last of them short and not a multiple of 16.
    memories, x = draw(7001, 20), draw(300, 20, seed=1)
    twin = FastLSE(memories, beta=0.7)
    assert_close(twin.energy(x), lse_energy(x, memories, beta=0.7), rtol=1e-5, atol=1e-4)
    assert_close(twin.gradient(x), lse_gradient(x, memories, beta=0.7), rtol=0, atol=1e-4)


def test_float64_agrees_to_rounding():
    memories, x = draw(50, 9, dtype=torch.float64), draw(2, 3, 9, seed=1, dtype=torch.float64)
    twin = FastLSE(memories, beta=2.0)
    assert_close(twin.energy(x), lse_energy(x, memories, beta=2.0), rtol=0, atol=1e-12)
    assert_close(twin.gradient(x), lse_gradient(x, memories, beta=2.0), rtol=0, atol=1e-12)


def test_extremes_stay_finite():
    memories = draw(40, 16) * 1e4
    twin = FastLSE(memories, beta=1e4)
    assert (twin.energy(memories[:5]) == 0).all()
    assert_close(twin.gradient(memories[:5]), torch.zeros(5, 16))
    assert twin.energy(draw(5, 16) * 1e4).isfinite().all()


def test_the_promises_hold_ten_thousand_away():
    memories = draw(50, 64) + 1e4
    twin = FastLSE(memories, beta=1.0)
    assert twin.energy(memories).tolist() == [0] * 50
    assert_close(twin.gradient(memories), torch.zeros(50, 64))
    x = draw(9, 64, seed=3) + 1e4
    assert_close(twin.gradient(x), lse_gradient(x, memories, beta=1.0), rtol=1e-4, atol=1e-4)
    many = draw(5000, 4) + 1e4
    plain = lse_energy(many[:300].double(), many.double(), beta=3.0)
    assert_close(FastLSE(many, beta=3.0).energy(many[:300]).double(), plain, rtol=0, atol=1e-5)


# ------------------------------------------------------------------ the caller's choice


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_retrieve_fast_equals_retrieve(mode):
    memories = draw(500, 30)
    x = memories[:40] + 0.8 * draw(40, 30, seed=1)
    clamp = torch.arange(30) < 5
    memory = DenseAM(memories, beta=0.5)
    with mode():
        plain = memory.recall(x, steps=60, tol=1e-4, clamp=clamp, record=True)
        sooner = fast.retrieve(memory, x, steps=60, tol=1e-4, clamp=clamp, record=True)
    assert_close(sooner.state, plain.state, rtol=0, atol=1e-3)
    assert_close(sooner.energy, plain.energy, rtol=1e-4, atol=1e-4)
    assert torch.equal(sooner.converged, plain.converged) and sooner.converged.any()
    assert (sooner.steps_taken - plain.steps_taken).abs().max() <= 1
    assert (sooner.trajectory.energies.diff(dim=0) <= 1e-4).all()


def test_trained_memories_need_no_detaching():
    memory = DenseAM(draw(30, 4), beta=1.0, trainable=True)
    x = draw(3, 4, seed=1)
    assert_close(fast.retrieve(memory, x, steps=5).state, memory.recall(x, steps=5).state)


def test_only_the_lse_energy_is_fast():
    with pytest.raises(ValueError, match="memory: got another energy, expected 'lse'"):
        fast.retrieve(DenseAM(draw(30, 4), "lsr", beta=1.0), draw(3, 4), steps=1)


def test_bad_input():
    with pytest.raises(ValueError, match="beta = 0.0: expected a finite number > 0"):
        FastLSE(draw(3, 2), beta=0)
    with pytest.raises(ValueError, match="x: got .*expected last dimension 2"):
        FastLSE(draw(3, 2), beta=1).gradient(draw(3, 4))
    with pytest.raises(ValueError, match="x: got torch.float64"):
        FastLSE(draw(3, 2), beta=1).energy(draw(3, 2).double())
