"""Laws of the Lagrangians: activation = gradient, energy = Legendre dual, at every size of x."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import grad, hessian, vmap

from amtutor.network import lagrangians as lag

DIM = 7
DELTA = torch.linspace(-1, 1, DIM, dtype=torch.float64)
MAKERS = {
    "identity": lag.Identity,
    "relu": lag.ReLU,
    "power-2": lambda: lag.RectifiedPower(2),
    "power-5": lambda: lag.RectifiedPower(5),
    "exponential": lambda: lag.Exponential(beta=0.7),
    "tanh": lambda: lag.Tanh(beta=1.3),
    "tanh-sharp": lambda: lag.Tanh(beta=9.0),
    "sigmoid": lambda: lag.Sigmoid(beta=1.3),
    "softmax": lambda: lag.Softmax(beta=2.1),
    "layernorm": lambda: lag.LayerNorm(gamma=1.7),
    "layernorm-bias": lambda: lag.LayerNorm(DIM, gamma=1.7, delta=DELTA),
    "sphere": lambda: lag.SphericalNorm(gamma=0.6),
    "sphere-bias": lambda: lag.SphericalNorm(DIM, gamma=0.6, delta=DELTA),
}
LEARNABLE = {
    "exponential": lambda: lag.Exponential(beta=0.7, learnable=True),
    "tanh": lambda: lag.Tanh(beta=1.3, learnable=True),
    "sigmoid": lambda: lag.Sigmoid(beta=1.3, learnable=True),
    "softmax": lambda: lag.Softmax(beta=2.1, learnable=True),
    "layernorm": lambda: lag.LayerNorm(DIM, gamma=1.7, delta=DELTA, learnable=True),
    "sphere": lambda: lag.SphericalNorm(DIM, gamma=0.6, delta=DELTA, learnable=True),
}
every = pytest.mark.parametrize("name", MAKERS)


def draw(*shape, seed=0, scale=1.5):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)


def close(a, b, rtol=1e-10):
    scale = b.abs().max().clamp(min=1e-3)
    assert (a - b).abs().max() <= rtol * scale, f"{a} is not {b}"


# The Legendre laws (MM 3.3, 3.4)


@every
def test_activation_is_gradient_of_lagrangian(name):
    layer, x = MAKERS[name](), draw(3, 5, DIM)
    auto = grad(lambda u: layer(u, event_dims=2).sum())(x)
    close(layer.activation(x), auto)


@every
def test_energy_is_legendre_dual(name):
    layer, x = MAKERS[name](), draw(3, 5, DIM)
    dual = (x * layer.activation(x)).sum((-2, -1)) - layer(x, event_dims=2)
    assert layer.energy(x, event_dims=2).shape == (3,)
    close(layer.energy(x, event_dims=2), dual, 1e-9)


@every
def test_state_gradient_of_energy_is_hessian_times_state(name):
    layer, x = MAKERS[name](), draw(DIM)
    slope = grad(lambda u: layer.energy(u))(x)
    close(slope, hessian(lambda u: layer(u))(x) @ x, 1e-9)


@pytest.mark.parametrize("name", ["identity", "tanh", "sigmoid", "exponential"])
def test_activation_gradient_of_energy_is_state(name):
    """dE/dxhat = x (MM 3.4), by the chain rule through the inverse of the Jacobian."""
    layer, x = MAKERS[name](), draw(DIM)
    jacobian = torch.func.jacrev(layer.activation)(x)
    slope = torch.linalg.solve(jacobian.T, grad(lambda u: layer.energy(u))(x))
    close(slope, x, 1e-9)


def test_energy_as_function_of_activation_by_finite_difference():
    """The dual of tanh written in the activation alone: its slope is artanh(xhat) / beta = x."""
    layer, x = lag.Tanh(beta=1.3), draw(DIM)
    xhat = layer.activation(x)

    def energy_of(h):
        return layer.energy(torch.atanh(h) / 1.3)

    h = 1e-6
    for i in range(DIM):
        e = torch.zeros(DIM, dtype=torch.float64)
        e[i] = h
        slope = (energy_of(xhat + e) - energy_of(xhat - e)) / (2 * h)
        assert abs(float(slope - x[i])) < 1e-6 * max(1, abs(float(x[i])))


@every
@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_lagrangian_is_convex(name, seed):
    layer, x, y = MAKERS[name](), draw(DIM, seed=seed), draw(DIM, seed=seed + 1)
    gap = layer(y) - layer(x) - (layer.activation(x) * (y - x)).sum()
    assert gap >= -1e-10
    assert torch.linalg.eigvalsh(hessian(lambda u: layer(u))(x)).min() > -1e-10


@every
@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_fenchel_young_inequality(name, seed):
    """L(y) + E(xhat) >= <y, xhat>, with equality at y = x: the dual is a maximum."""
    layer, x, y = MAKERS[name](), draw(DIM, seed=seed), draw(DIM, seed=seed + 1)
    xhat = layer.activation(x)
    assert layer(y) + layer.energy(x) >= (y * xhat).sum() - 1e-9
    assert abs(float(layer(x) + layer.energy(x) - (x * xhat).sum())) < 1e-9


# Known answers


def test_known_values():
    x = torch.tensor([1.0, -2.0], dtype=torch.float64)
    assert float(lag.Identity()(x)) == 2.5
    assert float(lag.ReLU()(x)) == 0.5
    assert float(lag.RectifiedPower(4)(x)) == 0.25
    assert math.isclose(float(lag.Exponential()(x)), math.e + math.exp(-2))
    beta = 1.5
    logcosh = sum(math.log(math.cosh(beta * v)) for v in (1, 2)) / beta
    assert math.isclose(float(lag.Tanh(beta=beta)(x)), logcosh)
    softplus = sum(math.log1p(math.exp(beta * v)) for v in (1, -2)) / beta
    assert math.isclose(float(lag.Sigmoid(beta=beta)(x)), softplus)
    lse = math.log(math.exp(beta) + math.exp(-2 * beta)) / beta
    assert math.isclose(float(lag.Softmax(beta=beta)(x)), lse)
    assert math.isclose(float(lag.LayerNorm(eps=0.25)(x)), 2 * math.sqrt(1.5**2 + 0.25))
    assert math.isclose(float(lag.SphericalNorm(eps=0.25)(x)), math.sqrt(5.25))


def test_layernorm_matches_torch():
    x = draw(3, 5, DIM)
    mine = lag.LayerNorm(DIM, delta=DELTA).activation(x)
    close(mine, torch.nn.functional.layer_norm(x, (DIM,), bias=DELTA, eps=1e-5))


def test_bias_is_counted_once_per_token():
    """Two tokens of the same layer: the layer's value is the sum of the tokens' values."""
    for layer in (MAKERS["layernorm-bias"](), MAKERS["sphere-bias"](), lag.Softmax()):
        x = draw(2, DIM)
        close(layer(x, event_dims=2), layer(x).sum())
        close(layer.energy(x, event_dims=2), layer.energy(x).sum())


def test_energy_ranges():
    """Tanh in [0, log 2 / beta], sigmoid and softmax minus an entropy, norms at most 0."""
    x = draw(200, DIM, scale=20)
    assert lag.Tanh(beta=2.0).dual(x).min() >= 0
    assert lag.Tanh(beta=2.0).dual(x).max() <= math.log(2) / 2 + 1e-12
    assert lag.Sigmoid().dual(x).min() >= -math.log(2) - 1e-12
    assert lag.Softmax().dual(x).min() >= -math.log(DIM) - 1e-12
    assert max(float(f.dual(x).max()) for f in (lag.Softmax(), lag.LayerNorm())) <= 1e-12


@pytest.mark.parametrize("name", ["softmax", "layernorm", "layernorm-bias"])
def test_zero_mode(name):
    """Adding one number to every entry moves the state and not the activation."""
    layer, x = MAKERS[name](), draw(DIM)
    close(layer.activation(x + 3.7), layer.activation(x))
    curvature = hessian(lambda u: layer(u))(x) @ torch.ones(DIM, dtype=torch.float64)
    assert curvature.abs().max() < 1e-12


# Size: |x| up to 1e4, down to 1e-4, in every dtype


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("size", [1e4, 1e2, 1.0, 1e-4, 0.0])
def test_finite_at_every_size(name, dtype, size):
    layer = MAKERS[name]().to(dtype)
    x = (size * torch.tensor([1.0, -1.0, 0.5, 0.0, 1.0, -0.3, 1.0])).to(dtype).requires_grad_()
    values = (layer(x), layer.energy(x), layer.activation(x))
    for value in values:
        assert torch.isfinite(value).all()
        (slope,) = torch.autograd.grad(value.sum(), x, create_graph=True)
        assert torch.isfinite(slope).all()
        if slope.requires_grad:  # the slope of the identity is a constant
            (second,) = torch.autograd.grad(slope.sum(), x)
            assert torch.isfinite(second).all()
    assert values[2].dtype == dtype
    assert values[0].dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_only_the_answer_is_rounded(name, dtype):
    """The activation is that of the same numbers in float32, rounded once."""
    layer = MAKERS[name]().float()
    x = draw(40, DIM, scale=3).to(dtype)
    found = layer.activation(x)
    assert found.dtype == dtype and torch.equal(found, layer.activation(x.float()).to(dtype))
    assert torch.equal(layer.energy(x), layer.energy(x.float()))


@every
@pytest.mark.parametrize("size", [1e4, 1e2, 1.0, 1e-2, 1e-4])
def test_float32_agrees_with_float64(name, size):
    layer = MAKERS[name]()
    x32 = (size * draw(50, DIM, scale=1.0)).clamp(-1e4, 1e4).float()
    x64 = x32.double()
    if name.startswith(("power", "exponential")):
        x32, x64 = x32.clamp(max=30), x64.clamp(max=30)  # beyond lie the tangents, by dtype
    xhat, exact = layer.activation(x32).double(), layer.activation(x64)
    assert (xhat - exact).abs().max() <= 3e-4 * exact.abs().max().clamp(min=1e-30)
    value, exact = layer(x32).double(), layer(x64)
    assert ((value - exact).abs() <= 2e-5 * exact.abs().max()).all()
    energy, exact = layer.energy(x32).double(), layer.energy(x64)
    assert ((energy - exact).abs() <= 3e-4 * exact.abs().max() + 1e-37).all()


def test_small_and_large_numbers_known():
    small, large = torch.tensor([1e-4]), torch.tensor([1e4])
    assert math.isclose(float(lag.Tanh()(small)), 5e-9, rel_tol=1e-5)
    assert math.isclose(float(lag.Tanh().energy(small)), 5e-9, rel_tol=1e-5)
    assert math.isclose(float(lag.Tanh()(large)), 1e4 - math.log(2), rel_tol=1e-6)
    assert math.isclose(float(lag.Tanh().energy(large)), math.log(2), rel_tol=1e-6)
    assert math.isclose(float(lag.Sigmoid()(large)), 1e4, rel_tol=1e-6)
    assert float(lag.Sigmoid().energy(large)) == 0
    assert float(lag.Sigmoid()(-large)) == 0
    assert math.isclose(float(lag.Exponential(beta=-math.log(0.5))(small)), 1.44280, rel_tol=1e-4)


@pytest.mark.parametrize("z", [0.0, 1.0, -1.0, 1e-9])
def test_derivatives_of_tanh_where_its_branches_meet(z):
    """Derivatives of log cosh at the seams: tanh, 1 - tanh^2 and -2 tanh (1 - tanh^2)."""
    f = lag.Tanh()

    def value(u):
        return f(u, event_dims=0)

    u, t = torch.tensor(z, dtype=torch.float64), math.tanh(z)
    assert math.isclose(float(grad(value)(u)), t, rel_tol=1e-12, abs_tol=1e-15)
    assert math.isclose(float(grad(grad(value))(u)), 1 - t * t, rel_tol=1e-12)
    third = float(grad(grad(grad(value)))(u))
    assert math.isclose(third, -2 * t * (1 - t * t), rel_tol=1e-9, abs_tol=1e-12)
    energy = grad(grad(lambda v: f.energy(v, event_dims=0)))(u)
    assert math.isclose(float(energy), (1 - t * t) * (1 - 2 * z * t), rel_tol=1e-9)


def test_tails_are_tangents():
    """Beyond the cap: a straight line, a constant activation, a constant energy."""
    for layer in (lag.Exponential(), lag.RectifiedPower(30)):
        x = torch.tensor([5e3, 1e4])
        values, xhat, energy = layer.density(x), layer.slope(x), layer.dual(x)
        assert xhat[0] == xhat[1] and energy[0] == energy[1] and torch.isfinite(energy).all()
        assert math.isclose(float((values[1] - values[0]) / 5e3), float(xhat[0]), rel_tol=1e-3)


# Learnable numbers


@pytest.mark.parametrize("name", LEARNABLE)
@pytest.mark.parametrize("method", ["forward", "energy", "activation"])
def test_gradient_in_the_parameters(name, method):
    layer, x = LEARNABLE[name]().double(), draw(3, DIM)
    probe = draw(3, DIM, seed=9)

    def value():
        if method == "activation":
            return (layer.activation(x) * probe).sum()
        return (layer(x) if method == "forward" else layer.energy(x)).sum()

    for key, parameter in layer.named_parameters():
        (auto,) = torch.autograd.grad(value(), parameter, allow_unused=True, materialize_grads=True)
        h, flat = 1e-6, parameter.detach().view(-1)
        for i in range(flat.numel()):
            old = float(flat[i])
            flat[i] = old + h
            up = float(value().detach())
            flat[i] = old - h
            down = float(value().detach())
            flat[i] = old
            expected = (up - down) / (2 * h)
            assert abs(float(auto.view(-1)[i]) - expected) < 1e-6 * max(1, abs(expected)), key


def test_beta_moves_when_learned():
    layer = lag.Tanh(beta=1.0, learnable=True)
    layer(torch.tensor([1.0, 2.0])).backward()
    assert layer.beta.grad is not None and abs(float(layer.beta.grad)) > 0.1


def test_fixed_numbers_are_exact_in_float64():
    x = torch.ones(1, dtype=torch.float64)
    assert float(lag.Tanh(beta=0.1).activation(x)) == math.tanh(0.1)


def test_given_parameter_is_shared():
    beta = torch.nn.Parameter(torch.tensor(2.0))
    layers = lag.Tanh(beta=beta), lag.Softmax(beta=beta)
    assert layers[0].beta is beta and layers[1].beta is beta
    assert "beta" in lag.Tanh(beta=torch.tensor(2.0)).state_dict()


# Batches and transforms


@every
def test_batch_equals_loop(name):
    layer, x = MAKERS[name](), draw(3, 4, 5, DIM)
    for f in (lambda u: layer(u, event_dims=2), lambda u: layer.energy(u, event_dims=2)):
        loop = torch.stack([torch.stack([f(u) for u in row]) for row in x])
        assert loop.shape == (3, 4)
        close(f(x), loop, 1e-13)


@every
def test_vmap_no_grad_inference_compile(name):
    layer, x = MAKERS[name](), draw(3, 5, DIM)
    for f in (lambda u: layer(u, event_dims=2), layer.activation):
        plain = f(x)
        close(vmap(f)(x), plain, 1e-13)
        with torch.no_grad():
            close(f(x), plain, 1e-13)
        with torch.inference_mode():
            close(f(x.clone()), plain, 1e-13)
    close(vmap(grad(lambda u: layer.energy(u)))(x[0]), grad(lambda u: layer.energy(u).sum())(x[0]))


@pytest.mark.parametrize("name", ["tanh", "softmax", "layernorm-bias", "power-5"])
def test_compiled_equals_eager(name):
    layer, x = MAKERS[name](), draw(3, DIM)
    torch._dynamo.reset()
    fast = torch.compile(lambda u: (layer.energy(u), layer.activation(u)), backend="aot_eager")
    for got, expected in zip(fast(x), (layer.energy(x), layer.activation(x)), strict=True):
        close(got, expected, 1e-13)


# Your own


class Quartic(lag.Lagrangian):
    def density(self, x):
        return x**4 / 4 + x**2 / 2


class Norm(lag.Lagrangian):
    acts_on_last_dim = True

    def density(self, x):
        return (x.square().sum(-1) + 1).sqrt()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_own_lagrangian_needs_only_its_density(mode):
    x = draw(3, 5, DIM)
    with mode():
        x = x.clone()
        close(Quartic().activation(x), x**3 + x)
        close(Quartic().energy(x), (0.75 * x**4 + 0.5 * x**2).sum(-1))
        close(Norm().activation(x), x / (x.square().sum(-1, keepdim=True) + 1).sqrt())
        close(Norm().energy(x, event_dims=2), -Norm().density(x).reciprocal().sum(-1))


# Bad input


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: lag.Tanh(beta=0), "beta = 0.0: expected a finite number > 0"),
        (lambda: lag.Tanh(beta=-1.0), "beta = -1.0: expected"),
        (lambda: lag.LayerNorm(gamma=-1.0), "gamma = -1.0: expected"),
        (lambda: lag.LayerNorm(eps=0.0), "eps = 0.0: expected"),
        (lambda: lag.RectifiedPower(1), "n = 1: expected a number >= 2"),
        (lambda: lag.LayerNorm(3, delta=torch.zeros(4)), "delta: got a float32 tensor of shape"),
        (lambda: lag.Tanh()(torch.zeros(3), event_dims=2), "event_dims = 2: expected 0 to 1"),
        (lambda: lag.Softmax()(torch.zeros(3), event_dims=0), "event_dims = 0: expected 1 to 1"),
        (lambda: lag.LayerNorm(4)(torch.zeros(2, 3)), "expected last dimension 4"),
    ],
)
def test_bad_values(call, message):
    with pytest.raises(ValueError, match="^[^\n]*$") as caught:
        call()
    assert message in str(caught.value)


def test_bad_types():
    with pytest.raises(TypeError, match="x: got a int64 tensor of shape"):
        lag.Tanh().activation(torch.arange(3))
    with pytest.raises(TypeError):
        lag.LayerNorm(4, 4)  # eps is keyword-only: this trap is shut
