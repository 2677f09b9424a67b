r"""Diffusion with a known answer: noise added to stored points, and the way back.

A process turns data y into noise, :math:`x_t = a_t\,y + \sigma_t\,\epsilon` (MM 4.1). If the data
are K stored points, the density of :math:`x_t` is a sum of K bells, and its score is known exactly:
it is the pull of a dense associative memory. With :math:`\beta_t = 1/\sigma_t^2`,

.. math:: E_t(x) = -\tfrac1{\beta_t}\log\sum_\mu\exp\bigl(-\tfrac{\beta_t}2\|x-a_t\,\xi^\mu\|^2
          \bigr), \qquad \nabla\log p_t(x) = -\beta_t\,\nabla E_t(x)

**On scales.** Three energies go by this name, with one set of valleys. Ours, `empirical_energy`, is
`amtutor.memory.dense.lse_energy` at :math:`\beta_t`, which multiplies *half* the squared distance.
For the variance-exploding process, :math:`\sigma_t^2=\sigma^2 t`:

* MM 4.7 is twice ours. It equals MM 4.8 at that paper's :math:`\beta = 1/(2\sigma^2 t)`, half our
  :math:`\beta_t`, for MM's beta multiplies the whole square.
* MM 4.4 calls :math:`-\log p_t` the energy, whose slope is minus the score. It is
  :math:`\beta_t` times ours, plus a number: see `empirical_log_density`.
* MPS 17 is ours divided by its time T - t, plus a number.

What is learned instead of known is in `amtutor.generative.score_networks`; what can be asked of any
field of arrows (is it a slope? of what?) in `amtutor.generative.fields`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from amtutor import _check, _draw
from amtutor._threads import one_thread
from amtutor.descent import Film, watched_by
from amtutor.memory.dense import lse_energy, lse_gradient

__all__ = [
    "OrnsteinUhlenbeck",
    "Path",
    "Process",
    "VarianceExploding",
    "circle_energy",
    "empirical_energy",
    "empirical_log_density",
    "empirical_score",
    "log_bessel_i0",
    "probability_flow",
    "reverse_sde",
]

Score = Callable[[Tensor, float], Tensor]

# ---------------------------------------------------------------------------- processes


class Process:
    r"""A forward process :math:`dx = f(x,t)\,dt + g(t)\,dw` whose drift f is linear in x (MM 4.1).

    A subclass says four things, each for a number or a tensor of times: `drift`, `diffusion`, and
    what they make of a point by time t, :math:`x_t = a_t\,y+\sigma_t\,\epsilon`: `scale`
    :math:`a_t` and `width` :math:`\sigma_t`. And `time_of`, which finds the time at which the noise
    is so many times as wide as the data are large, :math:`\sigma_t/a_t`.
    """

    def drift(self, x: Tensor, t: float) -> Tensor:
        """f(x, t), shaped as x."""
        raise NotImplementedError

    def diffusion(self, t: Any) -> Any:
        """g(t)."""
        raise NotImplementedError

    def scale(self, t: Any) -> Any:
        """What is left of a point at time t >= 0: the factor a_t."""
        raise NotImplementedError

    def width(self, t: Any) -> Any:
        """Standard deviation of the noise at time t >= 0, in each direction."""
        raise NotImplementedError

    def time_of(self, ratio: Any) -> Any:
        """The time at which width / scale is ``ratio`` >= 0."""
        raise NotImplementedError

    def beta(self, t: float) -> float:
        r"""Inverse temperature of the memory that the process is at time t > 0: 1/width^2.

        >>> VarianceExploding(2.0).beta(0.25)
        1.0
        """
        return float(1 / self.width(float(_check.positive("t", t))) ** 2)

    def perturb(
        self, y: Tensor, *, t: float | Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        r"""Let points run forward to time t: :math:`x_t = a_t\,y + \sigma_t\,\epsilon`.

        Args:
            y: (\*batch, D).
            t: a number >= 0, or one for each point, (\*batch).
            generator: source of the noise.

        Returns:
            x_t and the noise epsilon, both (\*batch, D).
        """
        _check.finite("y", _check.floating("y", y))
        t = times_like("t", t, y)
        noise = _draw.normal(y.shape, generator=generator, dtype=y.dtype, device=y.device)
        return self.scale(t) * y + self.width(t) * noise, noise

    def prior(
        self,
        n: int,
        dim: int,
        *,
        t: float,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        r"""Starts for the way back: n draws of N(0, width^2), (n, dim), which know nothing of data.

        It is the density at time t only as far as the noise hides the data; how far, is told by
        the size of the data over ``width(t)``.
        """
        shape = _check.count("n", n), _check.count("dim", dim)
        wide = self.width(float(_check.positive("t", t)))
        return wide * _draw.normal(shape, generator=generator, dtype=dtype)

    def times(self, start: float, end: float, *, steps: int) -> Tensor:
        """Times from ``start`` down to ``end`` > 0, (steps + 1,) float64: width/scale falls evenly.

        Each step divides it by the same number.

        >>> VarianceExploding().times(1.0, 0.01, steps=2)
        tensor([1.0000, 0.1000, 0.0100], dtype=torch.float64)
        """
        start, end = float(_check.positive("start", start)), float(_check.positive("end", end))
        if end >= start:
            raise _check.fail("end", end, f"less than start = {start:g}")
        first, last = (math.log(self.width(t) / self.scale(t)) for t in (start, end))
        ratio = torch.linspace(first, last, _check.count("steps", steps) + 1, dtype=torch.float64)
        times = self.time_of(ratio.exp())
        times[0], times[-1] = start, end  # as they were asked for, to the last bit
        return times


@dataclass(frozen=True)
class VarianceExploding(Process):
    r"""Noise and nothing else, :math:`dx = \sigma\,dw` (MM 4.14): a = 1, width sigma sqrt(t)."""

    sigma: float = 1.0

    def __post_init__(self) -> None:
        """A width above zero."""
        object.__setattr__(self, "sigma", float(_check.positive("sigma", self.sigma)))

    def drift(self, x: Tensor, t: float) -> Tensor:
        """Nothing pulls."""
        return torch.zeros_like(x)

    def diffusion(self, t: Any) -> Any:
        """The same at all times."""
        return self.sigma + 0 * _moment("t", t)

    def scale(self, t: Any) -> Any:
        """A point stays where it is."""
        return 1.0 + 0 * _moment("t", t)

    def width(self, t: Any) -> Any:
        """It grows with the root of time."""
        return self.sigma * _moment("t", t) ** 0.5

    def time_of(self, ratio: Any) -> Any:
        """(ratio / sigma)^2."""
        return (_moment("ratio", ratio) / self.sigma) ** 2


@dataclass(frozen=True)
class OrnsteinUhlenbeck(Process):
    r"""Noise and a pull to the origin, :math:`dx = -\tfrac r2 x\,dt + \sigma\sqrt r\,dw`.

    It forgets: :math:`a_t = e^{-rt/2}` and :math:`\sigma_t^2 = \sigma^2(1-e^{-rt})`. With sigma = 1
    it is the variance-preserving process of diffusion models at a constant rate.
    """

    rate: float = 1.0
    sigma: float = 1.0

    def __post_init__(self) -> None:
        """Both above zero."""
        for name in ("rate", "sigma"):
            object.__setattr__(self, name, float(_check.positive(name, getattr(self, name))))

    def drift(self, x: Tensor, t: float) -> Tensor:
        """Towards the origin."""
        return -0.5 * self.rate * x

    def diffusion(self, t: Any) -> Any:
        """The same at all times."""
        return self.sigma * self.rate**0.5 + 0 * _moment("t", t)

    def scale(self, t: Any) -> Any:
        """exp(-rate t / 2)."""
        return _exp(-0.5 * self.rate * _moment("t", t))

    def width(self, t: Any) -> Any:
        """Sigma sqrt(1 - exp(-rate t))."""
        return self.sigma * (-_expm1(-self.rate * _moment("t", t))) ** 0.5

    def time_of(self, ratio: Any) -> Any:
        """log(1 + (ratio / sigma)^2) / rate."""
        square = (_moment("ratio", ratio) / self.sigma) ** 2
        return (square.log1p() if isinstance(square, Tensor) else math.log1p(square)) / self.rate


def times_like(name: str, t: Any, x: Tensor) -> Tensor:
    """One time for all states (\\*batch, D) or one for each (\\*batch), as (..., 1) beside them."""
    if x.ndim == 0:
        raise ValueError("y: got a number, expected (*batch, D)")
    if not isinstance(t, Tensor):
        t = x.new_tensor(_check.non_negative(name, t))
    if t.ndim and t.shape != x.shape[:-1]:
        raise ValueError(
            f"{name}: got shape {tuple(t.shape)}, expected one time or {tuple(x.shape[:-1])}"
        )
    return _moment(name, t).to(x)[..., None]


def _moment(name: str, t: Any) -> Any:
    """A number >= 0 as a float, or a tensor of them as it is."""
    if not isinstance(t, Tensor):
        return _check.non_negative(name, t)
    _check.finite(name, _check.floating(name, t))
    if (t < 0).any():
        raise ValueError(f"{name}: got {float(t.min()):g}, expected numbers >= 0")
    return t


def _exp(u: Any) -> Any:
    return u.exp() if isinstance(u, Tensor) else math.exp(u)


def _expm1(u: Any) -> Any:
    return u.expm1() if isinstance(u, Tensor) else math.expm1(u)


def _is_process(process: Any) -> Process:
    if not isinstance(process, Process):
        raise TypeError(
            f"process: got a {_check.describe(process)}, expected a Process such as "
            "VarianceExploding(1.0)"
        )
    return process


# ---------------------------------------------------------------------------- stored points


def empirical_energy(
    x: Tensor, memories: Tensor, *, process: Process, t: float, chunk: int | None = None
) -> Tensor:
    r"""Energy of a diffusion whose data are these points: a dense memory at beta = 1/width(t)^2.

    .. math:: E_t(x) = -\sigma_t^2\log\sum_\mu\exp\Bigl(-\frac{\|x-a_t\,\xi^\mu\|^2}{2\sigma_t^2}
              \Bigr)

    Args:
        x: (\*batch, D).
        memories: (K, D), the data; only blocks of (rows, ``chunk``) are held, so a million is fine.
        process: the noise; t: its time, > 0.
        chunk: memories per block, None for blocks of 16 MB.

    Returns:
        (\*batch). MM 4.7 is twice this; the module's text has all the scales.

    Raises:
        ValueError, TypeError: wrong shape, dtype or device, t <= 0, or NaN.

    Source: MM 4.7-4.8, MPS 17.

    >>> points, noise = torch.tensor([[-1.0], [1.0]]), VarianceExploding()
    >>> empirical_energy(torch.tensor([[0.0], [1.0]]), points, process=noise, t=1.0)
    tensor([-0.1931, -0.1269])
    """
    u, ratio, scale, _ = _beside(x, process, t)
    with one_thread(_work(u, memories)):
        return scale**2 * lse_energy(u, memories, beta=ratio**-2, chunk=chunk)


def empirical_score(
    x: Tensor, memories: Tensor, *, process: Process, t: float, chunk: int | None = None
) -> Tensor:
    r"""Score of the noisy stored points, in closed form: minus a dense memory's pull, scaled.

    .. math:: \nabla\log p_t(x) = \frac{m_t(x) - x}{\sigma_t^2}, \qquad
              m_t(x) = a_t \sum_\mu p_\mu\,\xi^\mu

    with the weights :math:`p_\mu` of `amtutor.memory.dense.lse_weights`. So a jump along the score
    of length :math:`\sigma_t^2` is one whole step of recall. Arguments as `empirical_energy`;
    returns (\*batch, D).

    Source: MM 4.4-4.6.
    """
    u, ratio, scale, width = _beside(x, process, t)
    with one_thread(_work(u, memories)):
        return (-scale / width**2) * lse_gradient(u, memories, beta=ratio**-2, chunk=chunk)


def _work(x: Tensor, memories: Any) -> int:
    """Multiply-adds of the product of states and memories; a sampler makes thousands of them."""
    return x.numel() * len(memories) if isinstance(memories, Tensor) and memories.ndim else 0


def empirical_log_density(
    x: Tensor, memories: Tensor, *, process: Process, t: float, chunk: int | None = None
) -> Tensor:
    r"""Logarithm of the density of the noisy stored points (MM 4.6), with all its constants.

    .. math:: \log p_t(x) = -\frac{E_t(x)}{\sigma_t^2} - \log K - \frac D2\log(2\pi\sigma_t^2)

    Arguments as `empirical_energy`; returns (\*batch).
    """
    energy = empirical_energy(x, memories, process=process, t=t, chunk=chunk)
    width, (k, dim) = process.width(float(t)), memories.shape
    return -energy / width**2 - math.log(k) - 0.5 * dim * math.log(2 * math.pi * width**2)


def _beside(x: Any, process: Any, t: Any) -> tuple[Tensor, float, float, float]:
    """The state in the scale of the data, width over scale, and both.

    |x - a xi| = a |x/a - xi|: so the memories, of which there may be a million, are not copied.
    """
    t = float(_check.positive("t", t))
    scale, width = _is_process(process).scale(t), process.width(t)
    x = _check.floating("x", x)
    return (x if scale == 1 else x / scale), width / scale, scale, width


# ---------------------------------------------------------------------------- the way back


@dataclass(frozen=True)
class Path:
    r"""Where a sampler went: ``state`` (\*batch, D) at the end, ``times`` (T+1,) float64.

    ``states`` (T+1, \*batch, D) is None unless ``record=True`` was asked for.
    """

    state: Tensor
    times: Tensor
    states: Tensor | None = None


def probability_flow(
    score: Score,
    x: Tensor,
    *,
    process: Process,
    times: Tensor,
    method: str = "heun",
    record: bool = False,
    callback: Callable[[int, Tensor], object] | None = None,
) -> Path:
    r"""Go back without noise: the probability-flow equation (MPS 8-9).

    .. math:: \frac{dx}{dt} = f(x,t) - \tfrac12 g(t)^2\,\nabla\log p_t(x)

    It is walked in the variables :math:`u = x/a_t` and :math:`\rho = \sigma_t/a_t`, where every
    process with a linear drift is :math:`du/d\rho = -\rho\,a_t\,\nabla\log p_t(x)`. There an Euler
    step from :math:`\rho` to :math:`\rho'` is a step of recall with step size
    :math:`1-\rho'/\rho`, and the one to :math:`\rho'=0` is a whole one.

    Args:
        score: ``score(x, t)`` with x (\*batch, D) and t a float; gives (\*batch, D).
        x: (\*batch, D), where to begin: draws of ``process.prior``, or a cue. Never modified.
        process: the noise that is undone.
        times: falling, (T+1,), T >= 1, none below 0; see `Process.times`.
        method: "euler", or "heun", which asks the score twice a step and errs by its square (where
            a step ends at time 0, where there is no score, it is Euler's).
        record: keep every state.
        callback: is called with (step, state) after every step; step 0 is the start.

    Raises:
        ValueError, TypeError: an argument has the wrong shape, type or range.
        FloatingPointError: a state is not finite; names the step and the time.

    >>> points = torch.tensor([[-1.0], [1.0]])
    >>> noise = VarianceExploding()
    >>> def score(x, t):
    ...     return empirical_score(x, points, process=noise, t=t)
    >>> times = noise.times(9.0, 1e-4, steps=60)
    >>> end = probability_flow(score, torch.tensor([[2.0], [-5.0]]), process=noise, times=times)
    >>> end.state.round(decimals=1)
    tensor([[ 1.],
            [-1.]])
    """
    _check.choice("method", method, ("euler", "heun"))

    def move(u: Tensor, ratio: float, to: float, t: float, after: float) -> Tensor:
        pull = _unscaled(score, u, process, t)
        new = u + (ratio - to) * ratio * pull
        if method == "euler" or to == 0:
            return new
        return u + (ratio - to) / 2 * (ratio * pull + to * _unscaled(score, new, process, after))

    return _go_back(score, x, process, times, move, record, callback)


def reverse_sde(
    score: Score,
    x: Tensor,
    *,
    process: Process,
    times: Tensor,
    generator: torch.Generator | None = None,
    record: bool = False,
    callback: Callable[[int, Tensor], object] | None = None,
) -> Path:
    r"""Go back with fresh noise at every step: the reverse equation (MM 4.2).

    .. math:: dx = \bigl[f(x,t) - g(t)^2\,\nabla\log p_t(x)\bigr]\,dt + g(t)\,d\bar w

    Euler-Maruyama in the variables of `probability_flow`: u moves by :math:`(\rho^2-\rho'^2)` times
    the score and by noise of that variance. Its last step, too, adds noise, so end at a small time
    and not at 0. Arguments as there, and

    Args:
        generator: source of the noise.
    """
    _check.generator("generator", generator)

    def move(u: Tensor, ratio: float, to: float, t: float, after: float) -> Tensor:
        variance = ratio**2 - to**2
        kick = _draw.normal(u.shape, generator=generator, dtype=u.dtype, device=u.device)
        return u + variance * _unscaled(score, u, process, t) + variance**0.5 * kick

    return _go_back(score, x, process, times, move, record, callback)


def _unscaled(score: Score, u: Tensor, process: Process, t: float) -> Tensor:
    """Score of u = x/a, from that of x."""
    scale = process.scale(t)
    return scale * _shaped(score(scale * u, t), u)


def _go_back(score, x, process, times, move, record, callback) -> Path:
    """The loop of both samplers: they differ in ``move`` only."""
    if not callable(score):
        raise TypeError(f"score: got a {_check.describe(score)}, expected f(x, t)")
    _is_process(process)
    _check.finite("x", _check.floating("x", x))
    _shaped(x, x)
    moments = _falling(times)
    film = Film() if _check.boolean("record", record) else None
    watchers = watched_by(film, callback)
    with torch.no_grad():
        x = x.detach().clone()
        for step, t in enumerate(moments):
            if step:
                before = moments[step - 1]
                now, then = ((process.width(s) / process.scale(s)) for s in (before, t))
                x = process.scale(t) * move(x / process.scale(before), now, then, before, t)
                if not x.isfinite().all():
                    raise FloatingPointError(
                        f"state is not finite at step {step}, t = {t:g}: expected a finite score"
                    )
            for look in watchers:
                look(step, x.clone())
    states = None if film is None else torch.stack(film.states)
    return Path(x, torch.tensor(moments, dtype=torch.float64), states)


def _falling(times: Any) -> list[float]:
    expected = "falling times, (T+1,) with T >= 1, none below 0"
    _check.finite("times", _check.floating("times", times))
    if times.ndim != 1 or len(times) < 2:
        raise ValueError(f"times: got a {_check.describe(times)}, expected {expected}")
    if (times.diff() >= 0).any() or times[-1] < 0:
        raise ValueError(
            f"times: got {float(times[0]):g} .. {float(times[-1]):g}, expected {expected}"
        )
    return times.tolist()


def _shaped(out: Any, x: Tensor) -> Tensor:
    """A state (\\*batch, D), or what a score gives for it."""
    if not isinstance(out, Tensor) or out.shape != x.shape or x.ndim == 0 or x.shape[-1] == 0:
        shape = f"expected shape {tuple(x.shape)}" if x.numel() else "expected shape (*batch, D)"
        what = "x" if out is x else "score: its answer"
        raise ValueError(f"{what}: got a {_check.describe(out)}, {shape}")
    return out


# ---------------------------------------------------------------------------- data on a circle


def log_bessel_i0(x: Tensor) -> Tensor:
    r"""Logarithm of the modified Bessel function :math:`I_0`, for any argument without overflow.

    :math:`I_0(x) = \frac1{2\pi}\int_0^{2\pi}e^{x\cos\varphi}d\varphi` grows like e^x and leaves
    float64 at x = 713; its logarithm does not. Near 0 it is summed as a series, so that a small
    answer is right to rounding, too.

    Args:
        x: floating point, any shape and sign.

    Raises:
        TypeError, ValueError: not a floating-point tensor, or NaN.

    >>> log_bessel_i0(torch.tensor([0.0, 1.0, 1e6], dtype=torch.float64))
    tensor([0.0000e+00, 2.3591e-01, 9.9999e+05], dtype=torch.float64)
    """
    x = _check.finite("x", _check.floating("x", x)).abs()
    small, near, far = _log_i0(x)
    return torch.where(small, near, x + far)


def _log_i0(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Which x >= 0 are small; log I0 of those; log(exp(-x) I0(x)) of the others."""
    small = x < 1
    quarter = x.where(small, 0.0).square() / 4
    term, series = torch.ones_like(x), torch.zeros_like(x)
    for k in range(1, 11):  # I0 - 1 = sum of (x^2/4)^k / (k!)^2, below 1e-19 of it after ten terms
        term = term * quarter / k**2
        series = series + term
    return small, series.log1p(), torch.special.i0e(x.where(~small, 1.0)).log()


def circle_energy(radius: Tensor, *, beta: float) -> Tensor:
    r"""Energy at a distance from the centre of a unit circle that is full of data.

    .. math:: E(R) = \tfrac12(R^2+1) - \tfrac1\beta\log I_0(\beta R)

    It is the limit of `lse_energy` plus :math:`\frac1\beta\log K` for K points, evenly spaced, as K
    grows. For large :math:`\beta R` it is :math:`\frac12(R-1)^2 + \frac1{2\beta}\log(2\pi\beta R)`.
    MM 4.13 writes the whole square: it is twice this, at the ``beta`` that is twice MM's.

    Args:
        radius: (\*batch), >= 0, floating point.
        beta: inverse temperature > 0, of half the squared distance, as everywhere.

    Returns:
        (\*batch), finite at any radius and beta that float can hold the product of.

    Raises:
        ValueError, TypeError: a negative radius, NaN, beta <= 0.

    >>> circle_energy(torch.tensor([0.0, 1.0]), beta=4.0)
    tensor([0.5000, 0.3938])
    """
    _check.finite("radius", _check.floating("radius", radius))
    if (radius < 0).any():
        raise ValueError(f"radius: got {float(radius.min()):g}, expected numbers >= 0")
    beta = _check.positive("beta", beta)
    small, near, far = _log_i0(beta * radius)
    # (R^2+1)/2 - R is a whole square: no difference of large numbers is left
    bowl = torch.where(small, radius.square() + 1, (radius - 1).square())
    return 0.5 * bowl - torch.where(small, near, far) / beta
