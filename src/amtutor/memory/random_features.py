r"""Distributed memory: all memories added up in one tensor whose size does not depend on K.

A random feature map :math:`\Phi:\mathbb R^D\to\mathbb R^S` has inner products that are, on average,
the Gaussian kernel. A sum over memories then needs the memories only once:

.. math:: \sum_\mu e^{-\frac12\|x-\xi^\mu\|^2} = \mathbb E\,\langle\Phi(x),\Phi(\xi^\mu)\rangle
          \text{ summed} = \mathbb E\,\langle\Phi(x), T\rangle, \qquad T = \sum_\mu \Phi(\xi^\mu)

(MM 5.28 to 5.45). A kernel of inverse temperature beta is the same kernel of the scaled points
:math:`\sqrt\beta\,x` and :math:`\sqrt\beta\,\xi`: **both** must be scaled, memories when they are
added and states when they ask. Only :class:`DistributedDenseAM` knows beta, and it does both.

**What is kept, what is drawn again.** Frequencies are a function of the seed, block by block. With
``stored=False`` they are drawn anew in every call and never held, so that a memory is its tensor
and a seed. Numbers of a seed are those of torch's CPU generator; a saved memory carries a few of
them, and loading refuses where they come out otherwise.

**The floor.** A sum of trigonometric features is an estimate and can fall to zero and below, where
it has no logarithm. Where nothing is stored it still swings with the width
:math:`\|T\|/\sqrt{2Y}` (``noise``); sums below the floor, that width unless given, are read as the
floor: the energy is flat there and the gradient zero. Far from all memories the sum is nearly
normal, so one place in six still lies above that floor by chance, one in forty above twice as much;
a memory alone adds 1, and is not heard where the floor is higher than what is left of that.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from amtutor import _check, _draw, _weights
from amtutor._threads import one_thread
from amtutor.descent import Descent, descend

__all__ = ["DistributedDenseAM", "PositiveFeatures", "TrigonometricFeatures"]

_ROWS = 1024  # frequencies that one seed makes (a multiple of dim near it, if orthogonal)
_HELD = 2**18  # angles held at a time: 1 MB in float32, which a core's cache holds

# ---------------------------------------------------------------------------- features


class _Features(nn.Module):
    """Y random frequencies, a function of a seed, and what both families do with them."""

    kind = ""
    omega: Tensor | None
    offsets: Tensor | None

    def __init__(self, dim: int, n_features: int, *, seed: int, orthogonal: bool, stored: bool):
        super().__init__()
        self.dim = _check.count("dim", dim)
        self.n_features = _check.count("n_features", n_features)
        self.seed = _check.count("seed", seed, least=0)
        self.orthogonal = _check.boolean("orthogonal", orthogonal)
        self.stored = _check.boolean("stored", stored)
        self.block = self.dim * max(1, _ROWS // self.dim) if self.orthogonal else _ROWS
        omega = offsets = None
        if self.stored:
            omega, offsets = map(torch.cat, zip(*self._drawn(), strict=True))
        # Made by the seed: they follow the module to its device, and are never saved.
        self.register_buffer("omega", omega, persistent=False)
        self.register_buffer("offsets", offsets, persistent=False)

    @property
    def size(self) -> int:
        """How many numbers a feature vector has."""
        return self.n_features

    def frequencies(self) -> Tensor:
        r"""All frequencies :math:`\omega`, (Y, D) float32: rows of N(0, I), each by itself.

        With ``orthogonal``, every D rows in turn are at right angles to each other.
        """
        if self.omega is not None:
            return self.omega
        return torch.cat([omega for omega, _ in self._drawn()])

    def forward(self, x: Any) -> Tensor:
        r"""Features of points (\*batch, D), (\*batch, size)."""
        x = self._points("x", x)
        return self._map(x.reshape(-1, self.dim)).reshape(*x.shape[:-1], self.size)

    def kernel(self, x: Any, y: Any) -> Tensor:
        r"""The estimate :math:`\langle\Phi(x),\Phi(y)\rangle` of
        :math:`e^{-\frac12\|x-y\|^2}`, (\*batch), of points that broadcast.
        """
        x, y = self._pair(x, y)
        return (self(x) * self(y)).sum(-1)

    def variance(self, x: Any, y: Any) -> Tensor:
        r"""Variance of :meth:`kernel` over seeds, (\*batch) float64, in closed form.

        With Y independent frequencies it is the variance of one, over Y. Frequencies at right
        angles add Y (D - 1) covariances over Y squared; :func:`_at_right_angles` has them.
        """
        x, y = (v.double() for v in self._pair(x, y))
        alone, together = self._variance(x, y)
        if not self.orthogonal:
            return alone / self.n_features
        whole, rest = divmod(self.n_features, self.dim)
        pairs = whole * self.dim * (self.dim - 1) + rest * (rest - 1)
        return (self.n_features * alone + pairs * together) / self.n_features**2

    def extra_repr(self) -> str:
        """Name the sizes and the seed."""
        words = [w for w in ("orthogonal", "stored") if getattr(self, w)]
        return ", ".join([f"D={self.dim}, Y={self.n_features}, seed={self.seed}", *words])

    # Kernels for the memory: rows (n, D), scaled and centred; T (size,)

    def _map(self, rows: Tensor) -> Tensor:
        raise NotImplementedError

    def _variance(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Variance of one frequency's part, and covariance of two at right angles."""
        raise NotImplementedError

    def _config(self) -> dict[str, Any]:
        names = ("dim", "n_features", "seed", "orthogonal")
        return {"features": self.kind} | {name: getattr(self, name) for name in names}

    def _drawn(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Frequencies and offsets block by block, each block from a seed of its own."""
        for number, start in enumerate(range(0, self.n_features, self.block)):
            n = min(self.block, self.n_features - start)
            # torch's generator looks at 32 bits of a seed; neighbours must not share them.
            text = hashlib.sha256(f"{self.seed} {number}".encode()).digest()
            g = torch.Generator().manual_seed(int.from_bytes(text[:4], "big"))
            omega = _draw.normal((self.block, self.dim), generator=g)
            if self.orthogonal:
                omega = _orthogonal(omega, g)
            offsets = 2 * math.pi * _draw.uniform((self.block,), generator=g)
            yield omega[:n], offsets[:n]

    def _blocks(self, like: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Where a block stands, its frequencies and offsets, as ``like`` has its numbers."""
        start = 0
        kept: Iterator[tuple[Tensor, Tensor]] = self._drawn()
        if self.omega is not None and self.offsets is not None:
            kept = zip(self.omega.split(self.block), self.offsets.split(self.block), strict=True)
        for omega, offsets in kept:
            at = slice(start, start + len(omega))
            yield at, omega.to(like), offsets.to(like)
            start = at.stop

    def _points(self, name: str, x: Any) -> Tensor:
        x = _check.array(name, x)
        return _check.finite(name, _check.last_dim(name, _check.floating(name, x), self.dim))

    def _pair(self, x: Any, y: Any) -> tuple[Tensor, Tensor]:
        x, y = self._points("x", x), self._points("y", y)
        _check.same_kind("y", y, x)
        try:
            x, y = torch.broadcast_tensors(x, y)
        except RuntimeError:
            raise ValueError(
                f"y: got shape {tuple(y.shape)}, expected one that broadcasts to {tuple(x.shape)}"
            ) from None
        return x, y


class TrigonometricFeatures(_Features):
    r"""Cosines and sines at random frequencies; their kernel is right for points anywhere.

    .. math:: \Phi(x) = \tfrac1{\sqrt Y}\bigl(\cos\omega^1\!\cdot x, \dots, \cos\omega^Y\!\cdot x,
              \sin\omega^1\!\cdot x, \dots, \sin\omega^Y\!\cdot x\bigr),
              \qquad \omega^j \sim N(0, \mathbf I)

    One frequency's part of the kernel is :math:`\cos\omega\cdot(x-y)`, of variance
    :math:`\frac12(1-\kappa^2)^2`, with :math:`\kappa = e^{-\frac12\|x-y\|^2}`: largest far away,
    where the kernel is nothing.

    With ``phases`` it is :math:`\sqrt{2/Y}\,\cos(\omega^j\!\cdot x+b^j)` with b uniform on
    :math:`[0, 2\pi)`: half as many numbers, and a variance larger by 1/2.

    Args:
        dim: D >= 1. n_features: Y >= 1.
        seed: >= 0, makes the frequencies.
        orthogonal: draw each D frequencies at right angles, with lengths as before. That lowers the
            variance where the points are near each other, and everywhere if D = 2.
        phases: one cosine a frequency instead of a cosine and a sine.
        stored: hold the frequencies (Y D numbers), or draw them in every call.

    Source: MM 5.30 and 5.36, with the factor and the range of b that make the first map unbiased.

    >>> features = TrigonometricFeatures(2, 10_000, seed=0)
    >>> x, y = torch.zeros(2), torch.tensor([1.0, 0.0])
    >>> print(f"{features.kernel(x, y):.2f} for {math.exp(-0.5):.2f}")
    0.61 for 0.61
    """

    kind = "trigonometric"

    def __init__(
        self,
        dim: int,
        n_features: int,
        *,
        seed: int = 0,
        orthogonal: bool = False,
        phases: bool = False,
        stored: bool = True,
    ):
        super().__init__(dim, n_features, seed=seed, orthogonal=orthogonal, stored=stored)
        self.phases = _check.boolean("phases", phases)

    @property
    def size(self) -> int:
        """How many numbers a feature vector has: 2 Y, or Y with phases."""
        return self.n_features * (1 if self.phases else 2)

    def _config(self) -> dict[str, Any]:
        return super()._config() | {"phases": self.phases}

    def _parts(self, rows: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Angles (n, block) of each block of frequencies, with its place and frequencies."""
        for at, omega, offsets in self._blocks(rows):
            angle = rows @ omega.T
            yield at, omega, angle + offsets if self.phases else angle

    @property
    def _scale(self) -> float:
        return math.sqrt((2 if self.phases else 1) / self.n_features)

    def _map(self, rows: Tensor) -> Tensor:
        angle = torch.cat([a for _, _, a in self._parts(rows)], -1)
        waves = [angle.cos()] if self.phases else [angle.cos(), angle.sin()]
        return self._scale * torch.cat(waves, -1)

    def _total(self, rows: Tensor) -> Tensor:
        """Sum of the features of the rows, float64: T."""
        total = torch.zeros(self.size, dtype=torch.float64, device=rows.device)
        cosines, sines = total[: self.n_features], total[self.n_features :]
        for at, _, angle in self._parts(rows):
            cosines[at] = angle.cos().sum(0)
            if not self.phases:
                sines[at] = angle.sin_().sum(0)
        return self._scale * total

    def _sum(self, rows: Tensor, T: Tensor) -> Tensor:
        """The estimate of the kernel sum, (n,)."""
        y = self.n_features
        cosines, sines = T[:y].to(rows.dtype), T[y:].to(rows.dtype)
        value = rows.new_zeros(len(rows))
        for at, _, angle in self._parts(rows):
            value = value + angle.cos() @ cosines[at]
            if not self.phases:
                value = value + angle.sin() @ sines[at]
        return self._scale * value

    def _log(self, rows: Tensor, T: Tensor, floor: Tensor) -> Tensor:
        """Logarithm of the sum, or of the floor below it, (n,)."""
        value = self._sum(rows, T)
        above = ~(value <= floor)  # NaN is above, and so shows
        return torch.where(above, value.where(above, 1.0).log(), floor.log())

    def _log_slope(self, rows: Tensor, T: Tensor, floor: Tensor) -> Tensor:
        """Gradient of :meth:`_log`, (n, D): of the sum, over the sum; zero below the floor."""
        y = self.n_features
        cosines, sines = T[:y].to(rows.dtype), T[y:].to(rows.dtype)
        value, slope = rows.new_zeros(len(rows)), torch.zeros_like(rows)
        for at, omega, angle in self._parts(rows):
            c, s = angle.cos(), angle.sin()
            value = value + c @ cosines[at]
            turned = s * -cosines[at]
            if not self.phases:
                value = value + s @ sines[at]
                turned = turned + c * sines[at]
            slope = slope + turned @ omega
        above = ~(self._scale * value <= floor)
        return (slope / value.where(above, 1.0)[:, None]).where(above[:, None], 0.0)

    def _noise(self, T: Tensor) -> Tensor:
        """Width of the sum over states far from everything, where all angles are random."""
        return self._scale * T.norm() / math.sqrt(2)

    def _variance(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        square = (x - y).square().sum(-1)
        alone = 0.5 * (-torch.expm1(-square)).square() + (0.5 if self.phases else 0.0)
        return alone, _at_right_angles(-square, self.dim) - (-square).exp()


class PositiveFeatures(_Features):
    r"""Exponentials at random frequencies; their kernel is never negative.

    .. math:: \Phi(x) = \tfrac{e^{-\|x\|^2}}{\sqrt Y}\bigl(e^{\omega^1\cdot x}, \dots,
              e^{\omega^Y\cdot x}\bigr), \qquad \omega^j \sim N(0, \mathbf I)

    One frequency's part of the kernel has the variance
    :math:`\kappa^2\,(e^{\|x+y\|^2}-1)`: small where the kernel is, and without bound in the
    length of the points, which therefore want to be measured from a centre amid them.

    Args: as :class:`TrigonometricFeatures`. Orthogonal frequencies lower the variance always.

    Source: MM 5.44.

    >>> features = PositiveFeatures(2, 10_000, seed=0)
    >>> x, y = torch.tensor([0.5, 0.0]), torch.tensor([0.0, 0.5])
    >>> print(f"{features.kernel(x, y):.2f} for {math.exp(-0.25):.2f}")
    0.77 for 0.78
    """

    kind = "positive"

    def __init__(
        self,
        dim: int,
        n_features: int,
        *,
        seed: int = 0,
        orthogonal: bool = False,
        stored: bool = True,
    ):
        super().__init__(dim, n_features, seed=seed, orthogonal=orthogonal, stored=stored)

    def _exponents(self, rows: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
        square = rows.square().sum(-1, keepdim=True)
        for at, omega, _ in self._blocks(rows):
            yield at, omega, rows @ omega.T - square

    def _map(self, rows: Tensor) -> Tensor:
        every = torch.cat([e for _, _, e in self._exponents(rows)], -1)
        return every.exp() / math.sqrt(self.n_features)

    def _total(self, rows: Tensor) -> Tensor:
        total = torch.zeros(self.size, dtype=torch.float64, device=rows.device)
        for at, _, e in self._exponents(rows):
            total[at] = e.double().exp().sum(0)  # exponents of -100 are nothing in float32
        return total / math.sqrt(self.n_features)

    def _voices(self, rows: Tensor, T: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithms of the terms of the sum, (n, Y), and all frequencies."""
        logs = T.clamp(min=0).log().to(rows.dtype)
        parts = [(e + logs[at], omega) for at, omega, e in self._exponents(rows)]
        voices, omega = zip(*parts, strict=True)
        return torch.cat(voices, -1) - 0.5 * math.log(self.n_features), torch.cat(omega)

    def _sum(self, rows: Tensor, T: Tensor) -> Tensor:
        return self._voices(rows, T)[0].logsumexp(-1).exp()

    def _log(self, rows: Tensor, T: Tensor, floor: Tensor) -> Tensor:
        value = self._voices(rows, T)[0].logsumexp(-1)
        return torch.maximum(value, floor.log())

    def _log_slope(self, rows: Tensor, T: Tensor, floor: Tensor) -> Tensor:
        voices, omega = self._voices(rows, T)
        above = ~(voices.logsumexp(-1) <= floor.log())
        slope = voices.softmax(-1) @ omega - 2 * rows
        return slope.where(above[:, None], 0.0)

    def _noise(self, T: Tensor) -> Tensor:
        return T.new_zeros(())

    def _variance(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        # kappa^2 e^{|x+y|^2} in one exponent, or it overflows where the kernel is nothing
        length, lengths = (x + y).square().sum(-1), 2 * (x.square() + y.square()).sum(-1)
        alone = (2 * length - lengths).exp() - (length - lengths).exp()
        together = _at_right_angles(length, self.dim) * (-lengths).exp()
        return alone, together - (length - lengths).exp()


def _orthogonal(normal: Tensor, generator: torch.Generator) -> Tensor:
    """Rows at right angles, D by D, in directions that are uniform and lengths of N(0, I)."""
    dim = normal.shape[1]
    q, r = torch.linalg.qr(normal.reshape(-1, dim, dim))
    q = q * torch.diagonal(r, dim1=-2, dim2=-1).sign()[:, None, :]  # uniform among rotations
    lengths = _draw.normal(normal.shape, generator=generator).norm(dim=-1, keepdim=True)
    return q.reshape(-1, dim) * lengths


def _at_right_angles(square: Tensor, dim: int) -> Tensor:
    r"""Mean of :math:`e^{(\omega+\omega')\cdot v}` over two frequencies at right angles.

    Their sum has a uniform direction and the length :math:`r`, :math:`r^2` a chi-square of 2D, so
    the mean is :math:`\sum_m \frac{(D)_m}{(D/2)_m}\frac{(\|v\|^2/2)^m}{m!}`, against
    :math:`e^{\|v\|^2}` if they were independent: each term is at most that one's. ``square`` is
    :math:`\|v\|^2`, negative for an imaginary v, whose exponential is a cosine. float64.
    """
    # For negative arguments by Kummer's transformation: its terms do not cancel as these would.
    u, half = (0.5 * square).clamp(-600, 300), 0.5 * dim
    top = torch.where(u < 0, -half, float(dim))
    term, total = torch.ones_like(u), torch.ones_like(u)
    for m in range(2000):
        term = term * (top + m) / (half + m) * u.abs() / (m + 1)
        total = total + term
        if (term.abs() <= 1e-17 * total.abs()).all():
            break
    return torch.where(u < 0, u.exp() * total, total)


# ---------------------------------------------------------------------------- the memory


class DistributedDenseAM(nn.Module):
    r"""A dense associative memory that holds one tensor, however many memories it was given.

    .. math:: \tilde E(x) = -\tfrac1\beta\log\bigl\langle\Phi(\sqrt\beta\,(x-c)), T\bigr\rangle,
              \qquad T = \sum_\mu \Phi(\sqrt\beta\,(\xi^\mu-c))

    an estimate of :func:`~amtutor.memory.dense.lse_energy` at the same beta.

    Args:
        features: :class:`TrigonometricFeatures` or :class:`PositiveFeatures`.
        beta: inverse temperature > 0; fixed, for it is inside the tensor.
        centre: (D,), where states and memories are measured from; None is the origin. Amid the
            memories is best: see :meth:`of`.
        floor: sums below it are read as it; >= 0, None for :attr:`noise`.

    ``tensor`` (size,) is T in float64, whatever the states are, so that 100 000 additions leave no
    trace of their order.

    Raises:
        ValueError, TypeError: an argument has the wrong range, type or shape.

    Source: MM 5.45, times 1/beta.

    >>> features = TrigonometricFeatures(2, 4000, seed=0)
    >>> memory = DistributedDenseAM(features, beta=2.0)
    >>> memory.add(torch.tensor([[2.0, 0.0], [-2.0, 0.0]]))
    >>> end = memory.recall(torch.tensor([1.5, 0.5]), steps=50).state
    >>> bool((end - torch.tensor([2.0, 0.0])).norm() < 0.1)
    True
    """

    tensor: Tensor
    centre: Tensor
    count: Tensor

    def __init__(
        self,
        features: TrigonometricFeatures | PositiveFeatures,
        *,
        beta: float,
        centre: Any = None,
        floor: float | None = None,
    ):
        super().__init__()
        if not isinstance(features, _Features):
            raise TypeError(
                f"features: got a {_check.describe(features)}, expected TrigonometricFeatures or "
                "PositiveFeatures"
            )
        self.features = features
        self.beta = float(_check.positive("beta", beta))
        self.floor = None if floor is None else _check.non_negative("floor", floor)
        if centre is None:
            centre = torch.zeros(features.dim)
        centre = _check.shape("centre", _check.array("centre", centre), (features.dim,))
        centre = _check.finite("centre", centre).detach().double().clone()
        self.register_buffer("centre", centre)
        self.register_buffer(
            "tensor", torch.zeros(features.size, dtype=torch.float64, device=centre.device)
        )
        self.register_buffer("count", torch.zeros((), dtype=torch.int64, device=centre.device))

    @classmethod
    def of(
        cls, memories: Any, features: TrigonometricFeatures | PositiveFeatures, *, beta: float
    ) -> DistributedDenseAM:
        """Make a memory of these memories (K, D), measured from their mean."""
        bank = _check.floating("memories", _check.array("memories", memories))
        _check.finite("memories", _check.matrix("memories", bank))
        made = cls(features, beta=beta, centre=_centre(bank, features)).to(bank.device)
        made.add(bank)
        return made

    @property
    def n_memories(self) -> int:
        """How many memories were added, less those removed."""
        return int(self.count)

    @property
    def noise(self) -> float:
        r"""Width of the sum where nothing is stored, :math:`\|T\|/\sqrt{2Y}`.

        With phases :math:`\|T\|/\sqrt Y`; 0 for positive features. A memory by itself adds 1 to
        the sum at its place, so beyond a width of 1 single memories drown.
        """
        return float(self.features._noise(self.tensor))

    def add(self, memories: Any) -> None:
        """Add memories (K, D) to the tensor; they can be forgotten."""
        bank = self._rows("memories", memories)
        self.tensor += self._of_rows(bank)
        self.count += len(bank)

    def remove(self, memories: Any) -> None:
        """Take out memories (K, D) that were added; nothing can tell if they were not.

        Raises:
            ValueError: more than were added.
        """
        bank = self._rows("memories", memories)
        if len(bank) > self.n_memories:
            raise ValueError(
                f"memories: got {len(bank)} to remove, expected at most {self.n_memories}, as many "
                "as were added"
            )
        self.tensor -= self._of_rows(bank)
        self.count -= len(bank)

    def merge(self, other: DistributedDenseAM) -> DistributedDenseAM:
        """Give a new memory of both: the sum of two tensors.

        Raises:
            ValueError: they differ in features, beta, centre or floor.
        """
        if not isinstance(other, DistributedDenseAM):
            raise TypeError(f"other: got a {_check.describe(other)}, expected a DistributedDenseAM")
        mine, theirs = self._config(), other._config()
        apart = [f"{k} = {theirs.get(k)} for {v}" for k, v in mine.items() if theirs.get(k) != v]
        if not torch.equal(self.centre.cpu(), other.centre.cpu()):
            apart.append("another centre")
        if apart:
            raise ValueError(f"other: has {apart[0]}, expected what this memory has")
        both = DistributedDenseAM(
            self.features, beta=self.beta, centre=self.centre, floor=self.floor
        )
        both.tensor += self.tensor + other.tensor.to(self.tensor.device)
        both.count += self.n_memories + other.n_memories
        return both

    def sums(self, x: Any) -> Tensor:
        r"""The estimate of :math:`\sum_\mu e^{-\frac\beta2\|x-\xi^\mu\|^2}`, (\*batch).

        Before any floor: with trigonometric features it may be negative.
        """
        return self._ask(lambda rows: self.features._sum(rows, self.tensor), x)

    def energy(self, x: Any) -> Tensor:
        r"""Energy of each state, (\*batch); +inf where the sum is not above a floor of 0."""
        floor = self._floor()
        return self._ask(lambda r: self.features._log(r, self.tensor, floor) / -self.beta, x)

    def gradient(self, x: Any) -> Tensor:
        r"""Exact gradient of :meth:`energy` in closed form, (\*batch, D); zero below the floor.

        For cosines and sines

        .. math:: \nabla\tilde E = -\frac{1}{\sqrt\beta}\,\frac{\sum_j \omega^j\,
                  (-T_j\sin\omega^j\!\cdot x' + T_{Y+j}\cos\omega^j\!\cdot x')}{\sum_j
                  (T_j\cos\omega^j\!\cdot x' + T_{Y+j}\sin\omega^j\!\cdot x')},
                  \qquad x' = \sqrt\beta\,(x-c)

        and for positive features, with weights :math:`q_j` that are the shares of the terms in the
        sum, :math:`2(x-c) - \frac1{\sqrt\beta}\sum_j q_j\,\omega^j`.
        """
        floor, scale = self._floor(), -1 / math.sqrt(self.beta)
        return self._ask(lambda r: scale * self.features._log_slope(r, self.tensor, floor), x)

    def recall(
        self,
        x: Any,
        *,
        steps: int,
        step_size: float = 0.5,
        tol: float | None = None,
        clamp: Tensor | None = None,
        record: bool = False,
        callback: Callable[[int, Tensor], object] | None = None,
    ) -> Descent[Tensor]:
        r"""Recall by gradient descent, without tracking gradients.

        Unlike the exact memory's, this energy may rise in a step, for it has bumps of its own. A
        state below the floor stays where it is, and does not count as converged.

        Other arguments and the result: see :func:`amtutor.descent.descend`.
        """
        x = _check.finite("x", self._state("x", x))
        with torch.no_grad(), one_thread(x.numel() * self.features.n_features):
            run = descend(
                self.energy,
                x,
                steps=steps,
                step_size=step_size,
                gradient=self.gradient,
                clamp=clamp,
                tol=tol,
                record=record,
                callback=callback,
            )
            return replace(run, converged=run.converged & (self.sums(run.state) > self._floor()))

    def save(self, path: str | Path) -> None:
        """Write tensor, centre and count as safetensors, and a card beside: not one memory."""
        probe = self.features.frequencies()[[0, -1]]
        _weights.ship(
            _path(path),
            {"tensor": self.tensor, "centre": self.centre, "count": self.count, "probe": probe},
            kind=_KIND,
            metadata={"config": json.dumps(self._config())},
            config=self._config(),
        )

    @classmethod
    def load(cls, path: str | Path, *, stored: bool = True) -> DistributedDenseAM:
        """Read what :meth:`save` wrote; ``stored`` as for the features.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no distributed memory, or its seed makes other frequencies here.
        """
        path, stored = _path(path), _check.boolean("stored", stored)
        if not path.is_file():
            raise FileNotFoundError(f"path: {path} is no file, expected one that save wrote")
        tensors, metadata = _weights.read_with_metadata(path)
        try:
            config = json.loads(metadata["config"])
            beta, floor = config.pop("beta"), config.pop("floor")
            make = {f.kind: f for f in (TrigonometricFeatures, PositiveFeatures)}
            features = make[config.pop("features")](**config, stored=stored)
            made = cls(features, beta=beta, centre=tensors["centre"], floor=floor)
            made.tensor.copy_(tensors["tensor"])
            made.count.copy_(tensors["count"])
            probe = tensors["probe"]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:100]
            raise ValueError(f"path: {path}, expected a distributed memory ({reason})") from None
        if not torch.allclose(features.frequencies()[[0, -1]], probe, rtol=1e-3, atol=1e-3):
            raise ValueError(
                f"path: {path}, expected frequencies that this torch ({torch.__version__}) draws "
                f"otherwise from seed {features.seed}"
            )
        return made

    def extra_repr(self) -> str:
        """Name what was added and the temperature."""
        return f"n_memories={self.n_memories}, beta={self.beta}"

    def _apply(self, fn: Any, recurse: bool = True) -> DistributedDenseAM:
        """Move to a device; the tensor stays in float64 also where ``float()`` is asked for."""
        before = {n: getattr(self, n) for n in ("tensor", "centre")}
        super()._apply(fn, recurse)
        for name, old in before.items():
            setattr(self, name, old.to(getattr(self, name).device))
        return self

    # What stands before the kernels

    def _config(self) -> dict[str, Any]:
        return self.features._config() | {"beta": self.beta, "floor": self.floor}

    def _floor(self) -> Tensor:
        if self.floor is None:
            return self.features._noise(self.tensor)
        return self.tensor.new_tensor(self.floor)

    def _state(self, name: str, x: Any) -> Tensor:
        """A tensor as it is; an array or a list in float32."""
        if not isinstance(x, Tensor):
            x = _check.array(name, x)
            x = x if x.is_floating_point() else x.float()
            x = x.to(self.tensor.device)
        x = _check.last_dim(name, _check.floating(name, x), self.features.dim)
        if x.device != self.tensor.device:
            raise ValueError(f"{name}: got {x.device}, expected {self.tensor.device}")
        return x

    def _rows(self, name: str, x: Any) -> Tensor:
        return _check.finite(name, _check.matrix(name, self._state(name, x)))

    def _scaled(self, rows: Tensor) -> Tensor:
        """Rows as the features see them: from the centre, times the root of beta."""
        # The difference first, and in float64: far from the origin float32 has no places left.
        return ((rows.double() - self.centre) * math.sqrt(self.beta)).to(rows.dtype)

    def _of_rows(self, bank: Tensor) -> Tensor:
        """Sum of the features of memories, a piece at a time."""
        with torch.no_grad():
            size = max(1, _HELD // min(_ROWS, self.features.n_features))
            if not self.features.stored:  # rather more angles than the same frequencies again
                size = max(size, 16 * _HELD // _ROWS)
            parts = (self.features._total(self._scaled(part)) for part in bank.split(size))
            return sum(parts, torch.zeros_like(self.tensor))

    def _ask(self, kernel: Callable[[Tensor], Tensor], x: Any) -> Tensor:
        """The door of every question: check, cut in pieces, look at the end."""
        x = self._state("x", x)
        if not self.n_memories:
            raise ValueError("x: asks an empty memory, expected memories to be added first")
        rows = self._scaled(x).reshape(-1, self.features.dim)
        parts = [kernel(part) for part in rows.split(max(1, _HELD // _ROWS))]
        out = torch.cat(parts) if len(parts) > 1 else parts[0]
        if not torch.compiler.is_compiling() and out.isnan().any():
            _check.finite("x", x)
            raise ValueError("x: overflows, expected states nearer to the centre, or torch.float64")
        return out.reshape(x.shape[:-1] + out.shape[1:])


_KIND = "distributed memory"


def _centre(bank: Tensor, features: _Features) -> Tensor:
    if not isinstance(features, _Features) or bank.shape[1] != features.dim:
        raise ValueError(
            f"features: got {_check.shown(features)}, expected some of dim {bank.shape[1]}"
        )
    return bank.detach().double().mean(0)


def _path(path: Any) -> Path:
    if not isinstance(path, (str, Path)):
        raise TypeError(f"path: got a {_check.describe(path)}, expected a path")
    return Path(path)
