r"""Lagrangians: one convex function per neuron layer gives its activation and its energy.

A layer with internal state :math:`x` has a convex Lagrangian :math:`L(x)`. Its gradient is the
activation :math:`\hat x = \nabla L(x)`, its Legendre dual
:math:`E = \langle x, \hat x\rangle - L(x)` is the energy of the layer, and
:math:`\partial E / \partial \hat x = x` (MM 3.3, 3.4).

Shapes. A state is ``(*batch, *layer)``; ``event_dims`` says how many trailing dimensions are the
layer (1 unless told). Values are summed over the layer and never over the batch. `Softmax`,
`LayerNorm` and `SphericalNorm` act on the last dimension as one unit and are summed over the
layer's other dimensions, so a layer of N tokens has N normalised vectors and one energy.

States in half precision are computed in float32, and so are the values that come back: a sum of
thousands of terms deserves more than eight bits. Activations keep the dtype of the state.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amtutor import _check

__all__ = [
    "Exponential",
    "Identity",
    "Lagrangian",
    "LayerNorm",
    "ReLU",
    "RectifiedPower",
    "Sigmoid",
    "Softmax",
    "SphericalNorm",
    "Tanh",
]


class Lagrangian(nn.Module):
    r"""A convex function :math:`L(x)`; subclass it and write `density` to make your own.

    ``density(x)`` gives one value per entry of ``x``, or one per last dimension where
    ``acts_on_last_dim`` is True. What a subclass does not write in closed form is found by
    automatic differentiation (`activation`) and from the definition (`dual`).

    >>> class Quartic(Lagrangian):
    ...     def density(self, x):
    ...         return x**4 / 4
    >>> Quartic().activation(torch.tensor([2.0]))
    tensor([8.])
    >>> Quartic().energy(torch.tensor([2.0]))          # x * x^3 - x^4 / 4
    tensor(12.)
    """

    acts_on_last_dim = False
    _shaped_by: tuple[str, ...] = ()

    def density(self, x: Tensor) -> Tensor:
        """Give the Lagrangian of each unit: ``x``'s shape, or that without its last dimension."""
        raise NotImplementedError(f"{type(self).__name__} must define density(x)")

    def slope(self, x: Tensor) -> Tensor:
        r"""Give :math:`\nabla L`, the activation, here by automatic differentiation."""
        slope = torch.func.grad(lambda u: self.density(u).sum())
        if torch.is_inference_mode_enabled() or x.is_inference():
            # such tensors can be no part of a graph: take a copy that can
            with torch.inference_mode(False):
                return slope(x.clone())
        return slope(x)

    def dual(self, x: Tensor) -> Tensor:
        r"""Give the Legendre dual of each unit, here as :math:`\langle x, \hat x\rangle - L`."""
        product = x * self.slope(x)
        return (product.sum(-1) if self.acts_on_last_dim else product) - self.density(x)

    def forward(self, x: Tensor, *, event_dims: int = 1) -> Tensor:
        """Lagrangian, one value per batch element: ``(*batch, *layer) -> (*batch)``."""
        self._check_state(x, event_dims)
        return self._sum(self.density(_widen(x)), event_dims)

    def activation(self, x: Tensor) -> Tensor:
        r"""Activation :math:`\hat x = \nabla L(x)`, in the shape and dtype of ``x`` (MM 3.3)."""
        self._check_state(x, int(self.acts_on_last_dim))
        return self.slope(_widen(x)).to(x.dtype)

    def energy(self, x: Tensor, *, event_dims: int = 1) -> Tensor:
        r"""Layer energy :math:`\langle x, \hat x\rangle - L(x)`, one per batch element (MM 3.3).

        Its gradient with respect to the activation is ``x``; with respect to the state it is
        :math:`\nabla^2 L \, x`, and automatic differentiation gives just that.
        """
        self._check_state(x, event_dims)
        return self._sum(self.dual(_widen(x)), event_dims)

    def _check_state(self, x: Tensor, event_dims: int) -> None:
        _check.floating("x", x)
        least = int(self.acts_on_last_dim)
        event_dims = _check.count("event_dims", event_dims, least=0)
        if not least <= event_dims <= x.ndim:
            raise ValueError(
                f"event_dims = {event_dims}: expected {least} to {x.ndim} "
                f"for {type(self).__name__} on a state of shape {tuple(x.shape)}"
            )

    def _sum(self, values: Tensor, event_dims: int) -> Tensor:
        dims = event_dims - int(self.acts_on_last_dim)
        return values.sum(tuple(range(-dims, 0))) if dims else values

    def _number(self, name: str, value: float | Tensor, learnable: bool) -> None:
        # A plain float is exact in every dtype; a float32 buffer would put 0.1 off by 1.5e-9.
        value = _check.positive(name, value)
        self._shaped_by = (*self._shaped_by, name)
        if _check.boolean("learnable", learnable) or isinstance(value, Tensor):
            value = torch.as_tensor(value, dtype=getattr(value, "dtype", torch.get_default_dtype()))
            if learnable and not isinstance(value, nn.Parameter):
                value = nn.Parameter(value.detach().clone())
            if isinstance(value, nn.Parameter):
                self.register_parameter(name, value)
            else:
                self.register_buffer(name, value)
        else:
            setattr(self, name, float(value))

    def numbers(self) -> dict[str, float]:
        """Give the numbers that shape the function, by name.

        >>> Tanh(beta=2.0).numbers()
        {'beta': 2.0}
        """
        values = {n: getattr(self, n) for n in self._shaped_by}
        return {n: float(v.detach() if isinstance(v, Tensor) else v) for n, v in values.items()}

    def extra_repr(self) -> str:
        """Name the numbers that shape the function."""
        return ", ".join(f"{n}={v:.4g}" for n, v in self.numbers().items())


class Identity(Lagrangian):
    r"""Linear neurons: :math:`L = \tfrac12 x^2`, activation :math:`x`, energy :math:`\tfrac12 x^2`.

    >>> Identity().energy(torch.tensor([[3.0, 4.0]]))
    tensor([12.5000])
    """

    def density(self, x: Tensor) -> Tensor:
        r""":math:`\tfrac12 x^2`."""
        return 0.5 * x * x

    def slope(self, x: Tensor) -> Tensor:
        """``x``."""
        return x.clone()

    def dual(self, x: Tensor) -> Tensor:
        r""":math:`\tfrac12 x^2`."""
        return 0.5 * x * x


class ReLU(Lagrangian):
    r"""Rectified neurons: :math:`L = \tfrac12 \max(x, 0)^2`, activation :math:`\max(x, 0)`.

    >>> ReLU().activation(torch.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """

    def density(self, x: Tensor) -> Tensor:
        r""":math:`\tfrac12 \max(x, 0)^2`."""
        return 0.5 * torch.relu(x) ** 2

    def slope(self, x: Tensor) -> Tensor:
        r""":math:`\max(x, 0)`."""
        return torch.relu(x)

    def dual(self, x: Tensor) -> Tensor:
        r""":math:`\tfrac12 \max(x, 0)^2`."""
        return 0.5 * torch.relu(x) ** 2


class RectifiedPower(Lagrangian):
    r"""Rectified power: :math:`L = \frac1n r^n` of :math:`r = \max(x, 0)`.

    The activation is :math:`r^{n-1}`, the energy :math:`(1 - \frac1n) r^n`. Where :math:`r^n`
    would leave the number range, above :math:`c = \mathrm{max}^{0.7/n}` (beyond 1e4 for n <= 6 in
    float32), the function goes on as its tangent: it stays convex and finite, and the energy
    stays at its value in c.

    >>> RectifiedPower(3).activation(torch.tensor([-1.0, 2.0]))
    tensor([0., 4.])
    """

    def __init__(self, n: float):
        super().__init__()
        self.n = _check.number_or_fail("n", n, "a number >= 2")
        if not 2 <= self.n < math.inf:
            raise _check.fail("n", n, "a number >= 2")
        self._shaped_by = ("n",)

    def _capped(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r = torch.relu(x)
        return r, r.clamp(max=torch.finfo(x.dtype).max ** (0.7 / self.n))

    def density(self, x: Tensor) -> Tensor:
        r""":math:`\frac1n r^n`, its tangent above c."""
        r, c = self._capped(x)
        return c**self.n / self.n + c ** (self.n - 1) * (r - c)

    def slope(self, x: Tensor) -> Tensor:
        r""":math:`r^{n-1}`, constant above c."""
        return self._capped(x)[1] ** (self.n - 1)

    def dual(self, x: Tensor) -> Tensor:
        r""":math:`(1 - \frac1n) r^n`, constant above c."""
        return (1 - 1 / self.n) * self._capped(x)[1] ** self.n


class Exponential(Lagrangian):
    r"""Exponential neurons: :math:`L = \frac1\beta e^{\beta x}`, activation :math:`e^{\beta x}`.

    Above :math:`\beta x = c` (62 in float32, 497 in float64: 0.7 of where the numbers end) the
    function goes on as its tangent, so it stays convex and finite and the energy stays constant.

    >>> Exponential().energy(torch.tensor([0.0]))
    tensor(-1.)
    """

    beta: float | Tensor

    def __init__(self, *, beta: float | Tensor = 1.0, learnable: bool = False):
        super().__init__()
        self._number("beta", beta, learnable)

    def _capped(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = self.beta * x
        return z, z.clamp(max=0.7 * math.log(torch.finfo(x.dtype).max))

    def density(self, x: Tensor) -> Tensor:
        r""":math:`\frac1\beta e^{\beta x}`, its tangent above c."""
        z, c = self._capped(x)
        return torch.exp(c) * (1 + z - c) / self.beta

    def slope(self, x: Tensor) -> Tensor:
        r""":math:`e^{\beta x}`, constant above c."""
        return torch.exp(self._capped(x)[1])

    def dual(self, x: Tensor) -> Tensor:
        r""":math:`\frac1\beta e^{\beta x} (\beta x - 1)`, constant above c."""
        c = self._capped(x)[1]
        return torch.exp(c) * (c - 1) / self.beta


class Tanh(Lagrangian):
    r"""Tanh neurons: :math:`L = \frac1\beta \log\cosh \beta x`, activation :math:`\tanh \beta x`.

    MM 3.6. Smooth spins: at large beta the activation is a sign.

    >>> Tanh(beta=2.0)(torch.tensor([1e4]))            # |x| - log(2) / beta
    tensor(9999.6533)
    """

    beta: float | Tensor

    def __init__(self, *, beta: float | Tensor = 1.0, learnable: bool = False):
        super().__init__()
        self._number("beta", beta, learnable)

    def density(self, x: Tensor) -> Tensor:
        r""":math:`\frac1\beta \log\cosh \beta x`."""
        return _log_cosh(self.beta * x) / self.beta

    def slope(self, x: Tensor) -> Tensor:
        r""":math:`\tanh \beta x`."""
        return torch.tanh(self.beta * x)

    def dual(self, x: Tensor) -> Tensor:
        r""":math:`x \tanh \beta x - \frac1\beta \log\cosh \beta x`, at most log(2) / beta."""
        z = self.beta * x
        near, small, large = _near_and_far(z)
        direct = small * torch.tanh(small) - 0.5 * torch.log1p(torch.sinh(small) ** 2)
        # far out both terms grow like |z| and only what is left over may be computed
        left_over = math.log(2) - 2 * large * torch.sigmoid(-2 * large) + F.logsigmoid(2 * large)
        return torch.where(near, direct, left_over) / self.beta


class Sigmoid(Lagrangian):
    r"""Sigmoid neurons: :math:`L = \frac1\beta \log(1 + e^{\beta x})`.

    The activation is :math:`\sigma(\beta x)`; the energy is minus the entropy of a coin that lands
    heads with chance :math:`\hat x`, over beta.

    >>> Sigmoid().activation(torch.tensor([0.0]))
    tensor([0.5000])
    """

    beta: float | Tensor

    def __init__(self, *, beta: float | Tensor = 1.0, learnable: bool = False):
        super().__init__()
        self._number("beta", beta, learnable)

    def density(self, x: Tensor) -> Tensor:
        r""":math:`\frac1\beta \log(1 + e^{\beta x})`."""
        return -F.logsigmoid(-self.beta * x) / self.beta

    def slope(self, x: Tensor) -> Tensor:
        r""":math:`\sigma(\beta x)`."""
        return torch.sigmoid(self.beta * x)

    def dual(self, x: Tensor) -> Tensor:
        r""":math:`\frac1\beta [\hat x \log \hat x + (1 - \hat x) \log(1 - \hat x)]`."""
        z = self.beta * x
        right = -z * torch.sigmoid(-z) + F.logsigmoid(z)
        left = z * torch.sigmoid(z) + F.logsigmoid(-z)
        return torch.where(z > 0, right, left) / self.beta


class Softmax(Lagrangian):
    r"""Softmax: :math:`L = \frac1\beta \log\sum_i e^{\beta x_i}` over the last dimension.

    The activation is the softmax, the energy minus its entropy over beta. Adding one number to
    all entries changes nothing: the Hessian is zero in that direction (a zero mode).

    >>> Softmax()(torch.tensor([1e4, 1e4]))            # 1e4 + log(2)
    tensor(10000.6934)
    """

    beta: float | Tensor

    acts_on_last_dim = True

    def __init__(self, *, beta: float | Tensor = 1.0, learnable: bool = False):
        super().__init__()
        self._number("beta", beta, learnable)

    def density(self, x: Tensor) -> Tensor:
        r""":math:`\frac1\beta \log\sum_i e^{\beta x_i}`."""
        return torch.logsumexp(self.beta * x, -1) / self.beta

    def slope(self, x: Tensor) -> Tensor:
        r""":math:`e^{\beta x_i} / \sum_j e^{\beta x_j}`."""
        return torch.softmax(self.beta * x, -1)

    def dual(self, x: Tensor) -> Tensor:
        r""":math:`\frac1\beta \sum_i \hat x_i \log \hat x_i`."""
        log_p = torch.log_softmax(self.beta * x, -1)
        return (log_p.exp() * log_p).sum(-1) / self.beta


class _Normalised(Lagrangian):
    """What the two normalising Lagrangians share: gamma > 0, a bias delta, eps > 0."""

    acts_on_last_dim = True
    gamma: float | Tensor
    delta: Tensor | None
    dim: int | None

    def __init__(
        self,
        dim: int | None = None,
        *,
        gamma: float | Tensor = 1.0,
        delta: Tensor | None = None,
        eps: float = 1e-5,
        learnable: bool = False,
    ):
        super().__init__()
        self._number("gamma", gamma, learnable)
        self.eps = float(_check.positive("eps", eps))
        self._shaped_by = (*self._shaped_by, "eps")
        self.dim = None if dim is None else _check.count("dim", dim)
        if delta is None and self.dim is not None and learnable:
            delta = torch.zeros(self.dim)  # ours, and on whatever device a model is built on
        elif delta is not None and _check.floating("delta", delta).shape != (self.dim,):
            raise ValueError(f"delta: got a {_check.describe(delta)}, expected shape ({dim},)")
        if delta is not None and learnable and not isinstance(delta, nn.Parameter):
            delta = nn.Parameter(delta.detach().clone())
        if isinstance(delta, nn.Parameter):
            self.register_parameter("delta", delta)
        else:
            self.register_buffer("delta", delta)

    def _check_state(self, x: Tensor, event_dims: int) -> None:
        super()._check_state(x, event_dims)
        if self.dim is not None:
            _check.last_dim("x", x, self.dim)

    def _parts(self, x: Tensor) -> tuple[float, Tensor, Tensor]:
        """Return the factor, the vector under the root and the root."""
        raise NotImplementedError

    def density(self, x: Tensor) -> Tensor:
        r"""Factor times gamma times the root, plus :math:`\sum_j \delta_j x_j`."""
        factor, _, root = self._parts(x)
        value = factor * self.gamma * root.squeeze(-1)
        return value if self.delta is None else value + (self.delta * x).sum(-1)

    def slope(self, x: Tensor) -> Tensor:
        r"""Gamma times the vector over its root, plus :math:`\delta`."""
        _, vector, root = self._parts(x)
        value = self.gamma * vector / root
        return value if self.delta is None else value + self.delta

    def dual(self, x: Tensor) -> Tensor:
        r"""Minus factor times gamma times eps over the root: all that does not cancel."""
        factor, _, root = self._parts(x)
        return -factor * self.gamma * self.eps / root.squeeze(-1)


class LayerNorm(_Normalised):
    r"""Layer normalisation over the last dimension, MM 3.13 and 3.14 (gamma must be positive).

    :math:`L = D\gamma \sqrt{\frac1D \sum_j (x_j - \bar x)^2 + \varepsilon} + \sum_j \delta_j x_j`,
    activation :math:`\gamma (x_i - \bar x) / \sqrt{\cdot} + \delta_i`, energy
    :math:`-D \gamma \varepsilon / \sqrt{\cdot}`. Adding one number to all entries changes nothing
    but the term in delta: a zero mode; eps alone keeps the length of x from being another.

    ``dim`` is needed for a bias delta only. ``learnable`` makes gamma, and with ``dim`` delta too,
    parameters.

    >>> LayerNorm().activation(torch.tensor([1.0, 3.0]))
    tensor([-1.0000,  1.0000])
    """

    def _parts(self, x: Tensor) -> tuple[float, Tensor, Tensor]:
        centred = x - x.mean(-1, keepdim=True)
        return x.shape[-1], centred, (centred.square().mean(-1, keepdim=True) + self.eps).sqrt()


class SphericalNorm(_Normalised):
    r"""Normalisation to a sphere over the last dimension (gamma must be positive).

    :math:`L = \gamma \sqrt{\sum_j x_j^2 + \varepsilon} + \sum_j \delta_j x_j`, activation
    :math:`\gamma x_i / \sqrt{\cdot} + \delta_i`, energy :math:`-\gamma\varepsilon / \sqrt{\cdot}`.

    >>> SphericalNorm().activation(torch.tensor([3.0, 4.0]))
    tensor([0.6000, 0.8000])
    """

    def _parts(self, x: Tensor) -> tuple[float, Tensor, Tensor]:
        return 1, x, (x.square().sum(-1, keepdim=True) + self.eps).sqrt()


def _widen(x: Tensor) -> Tensor:
    """Return float16 and bfloat16 as float32, anything else as it is."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _near_and_far(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Split at |z| = 1; each branch sees a harmless 1 where the other one is used."""
    size = z.abs()
    near = size < 1
    return near, torch.where(near, z, 1.0), torch.where(near, 1.0, size)


def _log_cosh(z: Tensor) -> Tensor:
    """Log cosh: 0.5 log(1 + sinh^2) near zero (where it is z^2 / 2), |z| - log 2 + ... far out."""
    near, small, large = _near_and_far(z)
    direct = 0.5 * torch.log1p(torch.sinh(small) ** 2)
    return torch.where(near, direct, large - math.log(2) - F.logsigmoid(2 * large))
