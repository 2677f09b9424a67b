r"""Scores that are learned: a network that points, and one that has an energy to point down.

Both are trained on the same sum (denoising score matching, MM 4.3),

.. math:: \lambda(t)\,\bigl\|s_\theta(x_t,t) - \nabla\log p_t(x_t\mid y)\bigr\|^2, \qquad
          \nabla\log p_t(x_t\mid y) = -\frac{\epsilon}{\sigma_t},

whose best answer is the score of the noisy data. `ScoreNetwork` gives an arrow and owes nobody that
it is a slope. `EnergyNetwork` gives one number (MPS 18) and takes its slope (MPS 19):

.. math:: E_\theta(x;t) = \frac{\|x-f_\theta(x;t)\|^2}{2\sigma_t^2}, \qquad
          -\nabla E_\theta = \underbrace{\frac{(x-f_\theta)^\top}{\sigma_t^2}\,
          \frac{\partial f_\theta}{\partial x}}_{\text{what makes it a slope}}
          - \frac{x-f_\theta}{\sigma_t^2}

Without the first term this is a `ScoreNetwork`, and there :math:`f_\theta` is the best guess at
the clean data. In an `EnergyNetwork` it is not: its :math:`f_\theta` is whatever makes the *sum* of
the two right. (MPS prints :math:`\sigma(t)` where the units want its square.)

Both see the state as :math:`u=x/a_t` with noise of width :math:`\rho=\sigma_t/a_t`, from the centre
of the data and divided by :math:`\sqrt{\rho^2+s^2}`, s the spread of the data, so that the network
meets numbers of one size at all times.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from amtutor import _check, _draw, _weights
from amtutor.generative.diffusion import Process, VarianceExploding, times_like

__all__ = ["EnergyNetwork", "ScoreNetwork", "build", "denoising_loss", "load", "stored_points"]

FREQUENCIES = (0.5, 1.0, 2.0)  # of the logarithm of the noise, which spans about ten


class _Body(nn.Module):
    """Layers from a state and the logarithm of its noise to a state."""

    def __init__(self, dim: int, width: int, depth: int, generator: torch.Generator | None):
        super().__init__()
        inputs = dim + 1 + 2 * len(FREQUENCIES)
        self.first = _linear(inputs, width, generator)
        self.middle = nn.ModuleList(_linear(width, width, generator) for _ in range(depth - 1))
        self.last = _linear(width, dim, generator, gain=0.1)

    def forward(self, v: Tensor, log_ratio: Tensor) -> Tensor:
        """(\\*batch, D) and (\\*batch, 1) to (\\*batch, D)."""
        log_ratio = log_ratio.expand(*v.shape[:-1], 1)
        waves = [w(f * log_ratio) for f in FREQUENCIES for w in (torch.sin, torch.cos)]
        h = nn.functional.silu(self.first(torch.cat([v, log_ratio / 4, *waves], -1)))
        for layer in self.middle:
            h = h + nn.functional.silu(layer(h))
        return self.last(h)


def _linear(n: int, m: int, generator: torch.Generator | None, gain: float = 1.0) -> nn.Linear:
    """A layer whose weights are a function of the generator."""
    layer = nn.utils.skip_init(nn.Linear, n, m)
    with torch.no_grad():
        layer.weight.copy_(gain / math.sqrt(n) * _draw.normal((m, n), generator=generator))
        layer.bias.zero_()
    return layer


class _Network(nn.Module):
    """What the two have in common: sizes, where the data lie, and the layers."""

    centre: Tensor

    def __init__(
        self,
        dim: int,
        *,
        process: Process,
        width: int = 128,
        depth: int = 3,
        centre: Tensor | None = None,
        spread: float = 1.0,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        dim = _check.count("dim", dim)
        if not isinstance(process, Process):
            raise TypeError(f"process: got a {_check.describe(process)}, expected a Process")
        self.process = process
        self.spread = float(_check.positive("spread", spread))
        centre = torch.zeros(dim) if centre is None else centre
        _check.shape("centre", _check.finite("centre", _check.floating("centre", centre)), (dim,))
        self.register_buffer("centre", centre.detach().clone())
        width, depth = _check.count("width", width), _check.count("depth", depth)
        self.body = _Body(dim, width, depth, _check.generator("generator", generator))

    def _seen(self, x: Tensor, t: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Check x and t; give u from the centre, what it is divided by, rho and a_t."""
        like = self.body.first.weight
        _check.same_kind("x", _check.floating("x", x), like)
        _check.last_dim("x", x, len(self.centre))
        t = times_like("t", t, x)
        if not torch.compiler.is_compiling() and not bool((t > 0).all()):
            raise ValueError(f"t: got {float(t.min()):g}, expected numbers > 0")
        scale = torch.as_tensor(self.process.scale(t)).to(x)
        ratio = torch.as_tensor(self.process.width(t)).to(x) / scale
        return x / scale - self.centre, (ratio**2 + self.spread**2).sqrt(), ratio, scale

    def extra_repr(self) -> str:
        """Name the sizes and the noise."""
        return f"D={len(self.centre)}, process={self.process}, spread={self.spread:.3g}"


class ScoreNetwork(_Network):
    r"""A network that points: ``network(x, t)`` is the score, and need not be any slope.

    .. math:: s_\theta(x,t) = -\frac{x-f_\theta(x;t)}{\sigma_t^2}

    the second term of MPS 19 alone. Before any training it is the score of one round Gaussian of
    width ``spread`` around ``centre``, but for small numbers.

    Args:
        dim: D.
        process: the noise.
        width, depth: of the layers.
        centre: (D,), where the data lie; None is the origin.
        spread: how wide they lie in each direction.
        generator: the weights are a function of it.

    >>> g = torch.Generator().manual_seed(0)
    >>> network = ScoreNetwork(2, process=VarianceExploding(), generator=g)
    >>> network(torch.zeros(3, 2), 0.5).shape
    torch.Size([3, 2])
    """

    def forward(self, x: Tensor, t: float | Tensor) -> Tensor:
        r"""Score (\*batch, D) of states x (\*batch, D) at time t > 0, one or one each (\*batch)."""
        u, size, ratio, scale = self._seen(x, t)
        out = self.body(u / size, ratio.log())
        # (f - u)/rho^2 with f = centre + (spread/size)^2 u + rho spread/size * out: no differences
        return (self.spread / (ratio * size) * out - u / size**2) / scale

    def denoised(self, x: Tensor, t: float | Tensor) -> Tensor:
        r"""Best guess at the clean data, :math:`(x + \sigma_t^2 s_\theta)/a_t`, (\*batch, D)."""
        u, _, ratio, scale = self._seen(x, t)
        return u + self.centre + ratio**2 * scale * self(x, t)


class EnergyNetwork(_Network):
    r"""A network with an energy; ``network(x, t)`` is minus its slope, the score.

    .. math:: E_\theta(x;t) = \tfrac1{2\sigma_t^2}\|x-f_\theta(x;t)\|^2, \qquad
              s_\theta = -\nabla_x E_\theta

    (MPS 18-19), in the scale of MM 4.4: an estimate of :math:`-\log p_t`, up to a number for each
    t. The slope costs a backward pass, and training it a second one. The same number of weights as
    a `ScoreNetwork` of the same sizes; arguments as there.
    """

    def energy(self, x: Tensor, t: float | Tensor) -> Tensor:
        r"""E(x; t), (\*batch): 0 or more."""
        rest, _, _ = self._rest(*self._seen(x, t))
        return 0.5 * rest.square().sum(-1)

    def forward(self, x: Tensor, t: float | Tensor) -> Tensor:
        r"""Score (\*batch, D): MPS 19, its first term by automatic differentiation.

        Works under ``no_grad`` and ``inference_mode``; tracks gradients only where they are wanted.
        """
        learned = any(p.requires_grad for p in self.parameters())
        wanted = torch.is_grad_enabled() and (learned or x.requires_grad)
        with torch.inference_mode(False), torch.enable_grad():
            u, size, ratio, scale = self._seen(x, t)
            u = u.clone() if wanted and u.requires_grad else u.detach().clone().requires_grad_()
            rest, out, v = self._rest(u, size, ratio, scale)
            held = rest if wanted else rest.detach()
            (first,) = torch.autograd.grad(out, v, held, create_graph=wanted)
            score = (first - rest) / (size * scale)
        return score if wanted else score.detach()

    def _rest(self, u: Tensor, size: Tensor, ratio: Tensor, scale: Tensor):
        """(u - f)/rho, what the layers gave, and what they saw; f = u - rho (u/size - out)."""
        v = u / size
        out = self.body(v, ratio.log())
        return v - out, out, v


def denoising_loss(
    score: Any,
    y: Tensor,
    *,
    t: float | Tensor,
    process: Process,
    noise: Tensor,
    weight: float = 1.0,
) -> Tensor:
    r"""Denoising score matching of each example, (\*batch): never averaged (MM 4.3).

    .. math:: \sigma_t^{2w}\Bigl\|s_\theta(x_t,t)+\frac\epsilon{\sigma_t}\Bigr\|^2, \qquad
              x_t = a_t\,y+\sigma_t\,\epsilon

    Args:
        score: ``score(x, t)``, a network.
        y: (\*batch, D), clean data.
        t: a time > 0 or one for each, (\*batch).
        process: the noise.
        noise: epsilon, (\*batch, D) of N(0, 1): handed in, so that a step can be repeated.
        weight: w >= 0. With 1, the weighting lambda is :math:`\sigma_t^2` and the sum is how far
            the noise was guessed wrong, of one size at all times.

    Raises:
        ValueError, TypeError: wrong shapes, a time that is not above 0, NaN in ``y`` or ``noise``.

    >>> y, e = torch.zeros(1, 2), torch.ones(1, 2)
    >>> denoising_loss(lambda x, t: 0 * x, y, t=0.5, process=VarianceExploding(), noise=e)
    tensor([2.])
    """
    if not callable(score):
        raise TypeError(f"score: got a {_check.describe(score)}, expected f(x, t)")
    if not isinstance(process, Process):
        raise TypeError(f"process: got a {_check.describe(process)}, expected a Process")
    _check.finite("y", _check.floating("y", y))
    _check.finite("noise", _check.same_kind("noise", _check.floating("noise", noise), y))
    if noise.shape != y.shape or y.ndim == 0:
        raise ValueError(f"noise: got a {_check.describe(noise)}, expected shape {tuple(y.shape)}")
    beside = times_like("t", t, y)
    if not bool((beside > 0).all()):
        raise ValueError(f"t: got {float(beside.min()):g}, expected numbers > 0")
    weight = _check.non_negative("weight", weight)
    width = torch.as_tensor(process.width(beside)).to(y)
    out = score(process.scale(beside) * y + width * noise, t)
    if not isinstance(out, Tensor) or out.shape != y.shape:
        raise ValueError(f"score: gave a {_check.describe(out)}, expected shape {tuple(y.shape)}")
    return (width ** (weight - 1) * (width * out + noise)).square().sum(-1)


KINDS: dict[str, type[ScoreNetwork] | type[EnergyNetwork]] = {
    "score": ScoreNetwork,
    "energy": EnergyNetwork,
}


def load(name: str) -> ScoreNetwork | EnergyNetwork:
    """Give a network that ships with the package, in eval mode.

    Their cards (``weights/<name>.json``) say what they learned and by which command; the points
    that they learned are in the same file, see `stored_points`.

    Raises:
        ValueError: no network of this name ships (with the names of those that do).

    >>> network = load("circle_9")
    >>> network(torch.zeros(5, 2), 0.5).shape
    torch.Size([5, 2])
    """
    tensors, card = _weights.shipped(name, kind="score network")
    return build(card["config"], tensors)


def stored_points(name: str) -> Tensor:
    """The points (K, D) that a shipped network learned; errors as `load`.

    >>> points = stored_points("circle_9")
    >>> points.shape, bool((points.norm(dim=1) - 1).abs().max() < 1e-3)
    (torch.Size([9, 2]), True)
    """
    return _weights.shipped(name, kind="score network")[0]["points"].float()


def build(config: dict[str, Any], tensors: dict[str, Tensor]) -> ScoreNetwork | EnergyNetwork:
    """Make a network from what `amtutor._weights` keeps of it, in eval mode.

    Args:
        config: of its card: kind, dim, sigma, width, depth, spread. tensors: its weights by name;
            the points that it learned may be among them.

    >>> made = ScoreNetwork(2, process=VarianceExploding(2.0), width=8, depth=1)
    >>> about = {"kind": "score", "dim": 2, "sigma": 2.0, "width": 8, "depth": 1, "spread": 1.0}
    >>> again = build(about, made.state_dict())
    >>> x = torch.ones(3, 2)
    >>> torch.equal(again(x, 0.5), made(x, 0.5))
    True
    """
    network = KINDS[config["kind"]](
        config["dim"],
        process=VarianceExploding(config["sigma"]),
        width=config["width"],
        depth=config["depth"],
        spread=config["spread"],
        generator=torch.Generator().manual_seed(0),
    )
    network.load_state_dict({k: v.float() for k, v in tensors.items() if k != "points"})
    return network.eval().requires_grad_(False)
