r"""A latent memory: an autoencoder, and a dense associative memory among its codes.

An encoder :math:`f_\theta` turns a picture x into a code z of d numbers, a decoder
:math:`g_\phi` turns a code into a picture, and K memories :math:`\xi^\mu` live among the codes.
They are trained together (EM 7),

.. math:: \mathcal L(\theta,\phi,\Xi) = E_\Xi(\Omega(z)) + \tfrac1N\|g_\phi(z)-x\|^2,
          \qquad z = f_\theta(x), \qquad
          E_\Xi(z) = -\tfrac1\beta\log\sum_\mu e^{-\beta\|z-\xi^\mu\|^2},

where :math:`\Omega` stops the gradient. A new picture is a descent of :math:`E_\Xi` from noise,
decoded (EM 8).

**On beta.** EM's beta multiplies the whole square :math:`\|z-\xi\|^2`, the ``beta`` of the rest of
this library half of it. Here it is called ``beta_whole``, half our beta: EM's energy is *twice*
`lse_energy` at ``beta=2 * beta_whole``, and its gradient at the same place is twice as long. A step
of EM of size 0.05 goes a tenth of the way to the memory.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amtutor import _check, _draw, _weights
from amtutor.descent import Descent, descend
from amtutor.memory.dense import centred, lse_energy, lse_gradient, nearest, scores

__all__ = [
    "Decoder",
    "Encoder",
    "LatentMemory",
    "Shape",
    "beta_schedule",
    "coupled_loss",
    "energy",
    "energy_gradient",
    "load",
    "memory_counts",
    "noise_scale",
    "parameter_counts",
    "replace_memories",
    "rms_norm",
    "sample_latents",
    "to_pictures",
    "to_pixels",
    "winners",
]

# ---------------------------------------------------------------------------- the energy


def energy(z: Tensor, memories: Tensor, *, beta_whole: float | Tensor) -> Tensor:
    r"""The Gaussian-kernel energy, :math:`-\frac1\beta\log\sum_\mu e^{-\beta\|z-\xi^\mu\|^2}`.

    The plain form that training differentiates with respect to the memories. It works in the
    precision of its arguments, outside autocast.

    Args:
        z: (\*batch, d). memories: (K, d).
        beta_whole: > 0; multiplies the whole square; our beta is twice this number.

    Returns:
        (\*batch).

    Raises:
        TypeError, ValueError: shapes or dtypes that do not fit, beta_whole that is not above 0.

    Source: EM 4.

    >>> bank = torch.tensor([[0.0, 0.0], [9.0, 9.0]])
    >>> energy(torch.tensor([[0.0, 1.0]]), bank, beta_whole=30.0)
    tensor([1.])
    """
    _codes("z", z, memories)
    return _energy(z, memories, _check.positive("beta_whole", beta_whole))


def _energy(z: Tensor, memories: Tensor, beta: float | Tensor) -> Tensor:
    with torch.autocast(z.device.type, enabled=False):
        at, bank = centred(z.reshape(-1, z.shape[-1]), memories)
        pulled = scores(at, bank, 2 * beta).logsumexp(-1) / beta
        return (at.square().sum(-1) - pulled).reshape(z.shape[:-1])


def energy_gradient(z: Tensor, memories: Tensor, *, beta_whole: float) -> Tensor:
    r"""Gradient of :func:`energy` in z, :math:`2\,(z - \sum_\mu p_\mu\xi^\mu)`.

    Here :math:`p = \mathrm{softmax}_\mu(-\beta\|z-\xi^\mu\|^2)`. Shapes and errors as there.

    >>> energy_gradient(torch.tensor([3.0, 4.0]), torch.zeros(1, 2), beta_whole=30.0)
    tensor([6., 8.])
    """
    _codes("z", z, memories)
    return 2 * lse_gradient(z, memories, beta=2 * _check.positive("beta_whole", beta_whole))


def beta_schedule(
    step: int, *, start: float = 1.25e-4, end: float = 30.0, steps: int = 50_000
) -> float:
    """Inverse temperature at ``step`` (from 0): linear from ``start`` to ``end``, then constant.

    ``start`` and ``end`` are of the whole square, > 0; with ``steps`` = 0 it is ``end`` from the
    first step on.

    Source: EM A.3.

    >>> beta_schedule(0), beta_schedule(25_000), beta_schedule(800_000)
    (0.000125, 15.0000625, 30.0)
    """
    _check.count("step", step, least=0)
    _check.positive("start", start)
    _check.positive("end", end)
    if _check.count("steps", steps, least=0) == 0:
        return float(end)
    return start + (end - start) * min(1.0, step / steps)


def noise_scale(beta_whole: float, step_size: float) -> float:
    r"""Standard deviation per step with which Langevin dynamics samples :math:`e^{-\beta E}`.

    Here E and beta are EM's, of the whole square.

    A step :math:`-\eta\nabla E` needs the noise :math:`\sqrt{2\eta/\beta}`.

    >>> round(noise_scale(30.0, 0.05), 4)  # EM A.3 adds 0.005
    0.0577
    """
    step_size = _check.positive("step_size", step_size)
    return math.sqrt(2 * step_size / _check.positive("beta_whole", beta_whole))


# ---------------------------------------------------------------------------- the memories


def winners(z: Tensor, memories: Tensor) -> Tensor:
    r"""Index of the nearest memory of each code, (\*batch) int64; see :func:`dense.nearest`."""
    _codes("z", z, memories)
    return nearest(z, memories)


def memory_counts(z: Tensor, memories: Tensor) -> Tensor:
    """How many of the codes ``z`` (N, d) each memory is nearest to, (K,) int64.

    A memory with count 0 is *dead*: at large beta nothing pulls it.

    >>> memory_counts(torch.tensor([[0.1], [0.2], [5.0]]), torch.tensor([[0.0], [4.0], [99.0]]))
    tensor([2, 1, 0])
    """
    return torch.bincount(winners(z, memories).flatten(), minlength=len(memories))


def replace_memories(
    memories: Tensor,
    latents: Tensor,
    *,
    fraction: float = 0.1,
    counts: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Replace a fraction of the memories by codes of data.

    EM A.3 replaces 10 % of the memories at random and does not say by what; here it is by codes,
    drawn from ``latents`` without repetition.

    Args:
        memories: (K, d), not modified.
        latents: (N, d), at least ``round(fraction * K)`` of them.
        fraction: in [0, 1].
        counts: (K,) of :func:`memory_counts`: then the memories with the smallest counts go, ties
            in random order. None: any memory may go, as in EM.

    Returns:
        ``(new memories (K, d), indices of the replaced ones)``.
    """
    _codes("latents", _check.matrix("latents", latents), memories)
    fraction = _check.between("fraction", fraction, 0, 1)
    n = round(fraction * len(memories))
    if len(latents) < n:
        raise ValueError(f"latents: got {len(latents)} codes, expected at least {n} to replace by")
    order = _draw.permutation(len(memories), generator=generator, device=memories.device)
    if counts is not None:
        _check.shape("counts", _check.array("counts", counts), (len(memories),))
        order = order[counts[order].argsort(stable=True)]
    gone = order[:n]
    source = _draw.permutation(len(latents), generator=generator, device=memories.device)[:n]
    new = memories.clone()
    new[gone] = latents[source].to(memories.dtype)
    return new, gone


def coupled_loss(
    z: Tensor,
    decoded: Tensor,
    x: Tensor,
    memories: Tensor,
    *,
    beta_whole: float | Tensor,
    stop_gradient: bool = True,
) -> tuple[Tensor, Tensor]:
    r"""The two terms of EM 7 for each picture: :math:`E_\Xi(\Omega(z))` and the mean square error.

    With ``stop_gradient=False`` the energy also pulls the encoder, which the paper warns of.

    Args:
        z: (B, d) codes; decoded, x: (B, \*shape) pictures; memories: (K, d).
        beta_whole: > 0, of the whole square.

    Returns:
        ``(energy, reconstruction)``, each (B,); their sum is the loss.

    Raises:
        TypeError, ValueError: shapes or dtypes that do not fit, beta_whole that is not above 0.
    """
    _check.positive("beta_whole", beta_whole)
    _check.boolean("stop_gradient", stop_gradient)
    _codes("z", _full(_check.floating("z", z)), memories)
    for name, pictures in (("x", x), ("decoded", decoded)):
        _check.finite(name, _check.floating(name, pictures))
    _check.same_kind("decoded", _full(decoded), x)
    if decoded.shape != x.shape or x.shape[:1] != z.shape[:1]:
        raise ValueError(
            f"decoded, x: got shapes {tuple(decoded.shape)} and {tuple(x.shape)}, expected one "
            f"shape ({z.shape[0]}, ...)"
        )
    return _coupled_loss(z, decoded, x, memories, beta_whole, stop_gradient)


def _coupled_loss(z, decoded, x, memories, beta, stop_gradient) -> tuple[Tensor, Tensor]:
    code = z.detach() if stop_gradient else z
    error = (_full(decoded) - x).square().flatten(1).mean(1)
    return _energy(_full(code), memories, beta), error


def _codes(name: str, z: Tensor, memories: Tensor) -> None:
    """Refuse codes that are none of these memories' kind, and what is not finite."""
    _check.floating("memories", _check.matrix("memories", memories))
    _check.last_dim(name, _check.floating(name, z), memories.shape[1])
    _check.same_kind(name, z, memories)
    _check.finite("memories", memories)
    _check.finite(name, z)


def _full(x: Tensor) -> Tensor:
    """Bring what autocast left in half precision to float32."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


# ---------------------------------------------------------------------------- sampling


def sample_latents(
    memories: Tensor,
    n: int | None = None,
    *,
    start: Tensor | None = None,
    beta_whole: float = 30.0,
    sigma: float = 10.0,
    steps: int = 100,
    step_size: float = 0.05,
    noise: float = 0.005,
    generator: torch.Generator | None = None,
    record: bool = False,
) -> Descent:
    r"""Go downhill from noise: ``n`` codes that start at :math:`N(0, \sigma^2 I)`.

    .. math:: z \leftarrow z - \eta\,\nabla E_\Xi(z) + s\,\epsilon

    Args:
        memories: (K, d).
        n: number of codes; or give ``start`` (n, d) yourself.
        beta_whole, sigma, steps, step_size, noise: as in EM A.3.
        generator: of the start and of the noise; one on the CPU serves any device.
        record: keep the whole way.

    Returns:
        A :class:`amtutor.descent.Descent`; ``state`` is (n, d).

    Raises:
        TypeError, ValueError: both or neither of n and start, or what :func:`energy` refuses.

    Source: EM 8 and A.3.
    """
    _check.floating("memories", _check.matrix("memories", memories))
    _check.positive("beta_whole", beta_whole)
    sigma = _check.positive("sigma", sigma)
    if (n is None) == (start is None):
        raise ValueError("n, start: expected exactly one of them")
    if start is None:
        size = (_check.count("n", n), memories.shape[1])
        drawn = _draw.normal(
            size, generator=generator, dtype=memories.dtype, device=memories.device
        )
        start = drawn * sigma
    _codes("start", start, memories)
    return descend(
        lambda z: 2 * lse_energy(z, memories, beta=2 * beta_whole),
        start,
        gradient=lambda z: energy_gradient(z, memories, beta_whole=beta_whole),
        steps=steps,
        step_size=step_size,
        noise=noise,
        generator=generator,
        record=record,
    )


def to_pixels(images: Tensor) -> Tensor:
    """Bring uint8 pictures 0..255 to float32 in [-1, 1]."""
    if _check.tensor("images", images).dtype != torch.uint8:
        raise ValueError(f"images: got a {_check.describe(images)}, expected uint8")
    return images.float() / 127.5 - 1


def to_pictures(x: Tensor) -> Tensor:
    """Bring decoded pictures, about [-1, 1], back to uint8."""
    _check.finite("x", _check.floating("x", x))
    return ((x.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


# ---------------------------------------------------------------------------- the autoencoder


def rms_norm(z: Tensor, *, eps: float = 1e-6) -> Tensor:
    r"""Bring codes to the shell of radius :math:`\sqrt d`: :math:`z / \sqrt{\mathrm{mean}(z^2)}`.

    There is no gain: EM A.3 wants the codes "within a certain scale", and a learned gain would be
    free to leave it.

    >>> rms_norm(torch.tensor([3.0, -3.0]))
    tensor([ 1.0000, -1.0000])
    """
    if not _check.floating("z", z).ndim or not z.shape[-1]:
        raise ValueError(f"z: got a {_check.describe(z)}, expected last dimension d >= 1")
    eps = _check.non_negative("eps", eps)
    return z * (z.square().mean(-1, keepdim=True) + eps).rsqrt()


def _conv(inputs: int, outputs: int, *, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)


class Residual(nn.Module):
    """GroupNorm, swish, 3x3 convolution, twice, around a shortcut (EM Table 2).

    The second convolution starts at zero, so that a new block does nothing (as in DDPM).
    """

    def __init__(self, inputs: int, outputs: int, groups: int = 32):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(groups, inputs), _conv(inputs, outputs)
        self.norm2, self.conv2 = nn.GroupNorm(groups, outputs), _conv(outputs, outputs)
        same = inputs == outputs
        self.skip = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, bias=False)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W)."""
        h = self.conv1(F.silu(self.norm1(x)))
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))


class PixelAttention(nn.Module):
    """Every place of the picture looks at every other, in several heads."""

    def __init__(self, channels: int, *, n_heads: int = 4, groups: int = 32):
        super().__init__()
        if _check.count("channels", channels) % _check.count("n_heads", n_heads):
            raise _check.fail("n_heads", n_heads, f"a divisor of the {channels} channels")
        self.n_heads, self.norm = n_heads, nn.GroupNorm(groups, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.out = nn.Conv2d(channels, channels, 1, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        b, c, h, w = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, 3, self.n_heads, c // self.n_heads, h * w)
        q, k, v = qkv.transpose(-1, -2).unbind(1)
        seen = F.scaled_dot_product_attention(q, k, v).transpose(-1, -2)
        return x + self.out(seen.reshape(b, c, h, w))


class Upsample(nn.Module):
    """Every pixel becomes four; a convolution smooths them."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = _conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, 2H, 2W)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What `Encoder` and `Decoder` are made of; the defaults are EM A.3's.

    Attributes:
        width: channels of the first level; ``multipliers`` times it are those of all levels.
        blocks: residual blocks in each level. attention: sides of the levels that have it.
        n_heads: of the attention. groups: of the group normalisation.
        patch: 1 as in EM; with 2 every 2 x 2 square of pixels is one place from the start.
        size: side of a picture.

    Raises:
        ValueError: a count below 1, or numbers that do not divide.
    """

    width: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2, 4)
    blocks: int = 4
    attention: tuple[int, ...] = (16, 8)
    n_heads: int = 4
    groups: int = 32
    patch: int = 1
    size: int = 32

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        for name in ("width", "blocks", "n_heads", "groups", "patch", "size"):
            _check.count(name, getattr(self, name), most=10**6)
        for name in ("multipliers", "attention"):
            if not isinstance(getattr(self, name), tuple | list):
                raise _check.fail(name, getattr(self, name), "a tuple of whole numbers")
            for m in getattr(self, name):
                _check.count(name, m, most=10**6)
        if self.size % self.patch:
            raise _check.fail("patch", self.patch, f"a divisor of size = {self.size}")
        if not self.multipliers or self.sides[-1] * 2 ** (len(self.sides) - 1) * self.patch != (
            self.size
        ):
            wanted = f"a number of levels that {self.size // self.patch} pixels can halve"
            raise _check.fail("multipliers", tuple(self.multipliers), wanted)
        if any(c % self.groups for c in self.channels):
            raise _check.fail(
                "groups", self.groups, f"a divisor of every level's channels {self.channels}"
            )
        seen = [c for c, s in zip(self.channels, self.sides, strict=True) if s in self.attention]
        if any(c % self.n_heads for c in seen):
            raise _check.fail("n_heads", self.n_heads, f"a divisor of the channels {seen}")

    @property
    def channels(self) -> list[int]:
        """Channels of every level, first to last."""
        return [self.width * m for m in self.multipliers]

    @property
    def sides(self) -> list[int]:
        """Side of every level in places, first to last."""
        return [self.size // self.patch // 2**i for i in range(len(self.multipliers))]

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Shape:
        """Take from a training config what is about the shape."""
        known: dict[str, Any] = {f.name: config[f.name] for f in fields(cls) if f.name in config}
        for name, value in known.items():
            known[name] = tuple(value) if isinstance(value, list) else value
        return cls(**known)


def _levels(shape: Shape, *, up: bool) -> nn.Sequential:
    """Stack levels of residual blocks, a change of resolution between every two."""
    levels = list(zip(shape.channels, shape.sides, strict=True))
    levels = levels[::-1] if up else levels
    parts: list[nn.Module] = []
    here = levels[0][0]
    for i, (c, side) in enumerate(levels):
        for _ in range(shape.blocks):
            parts.append(Residual(here, c, shape.groups))
            here = c
            if side in shape.attention:
                parts.append(PixelAttention(c, n_heads=shape.n_heads, groups=shape.groups))
        if i < len(levels) - 1:
            parts.append(Upsample(c) if up else _conv(c, c, stride=2))
    return nn.Sequential(*parts)


class Encoder(nn.Module):
    r"""Pictures to codes on the shell, :math:`f_\theta`: (B, 3, S, S) to (B, d).

    EM A.3: the ResNet of DDPM without time; per level a few residual blocks, attention at some
    resolutions, and half the resolution after every level but the last; then flattened, projected
    to d numbers, and RMS-normalised.

    Args:
        dim: d. shape: all else.
    """

    def __init__(self, dim: int = 512, *, shape: Shape | None = None):
        super().__init__()
        shape = _shape(shape)
        self.patch, self.size, last = shape.patch, shape.size, shape.channels[-1]
        self.stem = _conv(3 * shape.patch**2, shape.channels[0])
        self.levels = _levels(shape, up=False)
        self.norm = nn.GroupNorm(shape.groups, last)
        self.out = nn.Linear(last * shape.sides[-1] ** 2, _check.count("dim", dim))

    def forward(self, x: Tensor) -> Tensor:
        """Return codes of length sqrt(d), in float32 at least."""
        _batch("x", x, (self.stem.in_channels // self.patch**2, self.size, self.size))
        h = self.levels(self.stem(F.pixel_unshuffle(x, self.patch)))
        return rms_norm(_full(self.out(F.silu(self.norm(h)).flatten(1))))


class Decoder(nn.Module):
    r"""Codes to pictures, :math:`g_\phi`: (B, d) to (B, 3, S, S), about [-1, 1].

    The encoder backwards; arguments as there.
    """

    def __init__(self, dim: int = 512, *, shape: Shape | None = None):
        super().__init__()
        shape = _shape(shape)
        self.patch = shape.patch
        self.first = (shape.channels[-1], shape.sides[-1], shape.sides[-1])
        self.stem = nn.Linear(_check.count("dim", dim), math.prod(self.first))
        self.levels = _levels(shape, up=True)
        self.norm = nn.GroupNorm(shape.groups, shape.channels[0])
        self.out = _conv(shape.channels[0], 3 * shape.patch**2)

    def forward(self, z: Tensor) -> Tensor:
        """Return pictures; the range is not enforced."""
        _batch("z", z, (self.stem.in_features,))
        h = self.stem(z).unflatten(1, self.first)
        if self.out.weight.is_contiguous(memory_format=torch.channels_last):
            h = h.contiguous(memory_format=torch.channels_last)
        h = self.levels(h)
        return F.pixel_shuffle(self.out(F.silu(self.norm(h))), self.patch)


class LatentMemory(nn.Module):
    r"""The whole system of EM section 4: encoder, decoder, and K memories of d numbers.

    The memories start as ``memory_std`` times standard normal numbers: with 1, near the shell that
    the codes live on. `encode` and `decode` work on floats in [-1, 1] and are differentiable;
    `encode_images` and `decode_images` on uint8 pictures, in parts and without gradient.

    Args:
        n_memories: K. dim: d. shape: of encoder and decoder. memory_std: >= 0.
        generator: source of all first weights; without one, torch's own.

    >>> shape = Shape(width=8, multipliers=(1, 1), blocks=1, attention=(), groups=4)
    >>> model = LatentMemory(6, 16, shape=shape)
    >>> x = torch.zeros(5, 3, 32, 32)
    >>> z = model.encode(x)
    >>> z.shape, model.decode(z).shape, model(x, beta_whole=1.0)[0].shape
    (torch.Size([5, 16]), torch.Size([5, 3, 32, 32]), torch.Size([5]))
    """

    card: dict[str, Any]  # of weights that ship, see `load`

    def __init__(
        self,
        n_memories: int,
        dim: int = 512,
        *,
        shape: Shape | None = None,
        memory_std: float = 1.0,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        size = (_check.count("n_memories", n_memories), _check.count("dim", dim))
        memory_std = _check.non_negative("memory_std", memory_std)
        _check.generator("generator", generator)
        with _drawing_from(generator):
            self.encode, self.decode = Encoder(dim, shape=shape), Decoder(dim, shape=shape)
            self.memories = nn.Parameter(memory_std * torch.randn(size))

    def forward(
        self, x: Tensor, *, beta_whole: float | Tensor, stop_gradient: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Return the two terms of :func:`coupled_loss`, each (B,), for pictures x in [-1, 1]."""
        _check.boolean("stop_gradient", stop_gradient)
        if not isinstance(beta_whole, Tensor):
            beta_whole = _check.positive("beta_whole", beta_whole)
        elif beta_whole.numel() != 1:  # its value is the trainer's business: to look is to wait
            got = _check.describe(beta_whole)
            raise ValueError(f"beta_whole: got a {got}, expected one number > 0")
        z = self.encode(x)
        return _coupled_loss(z, self.decode(z), x, self.memories, beta_whole, stop_gradient)

    @torch.no_grad()
    def encode_images(self, images: Tensor, *, batch_size: int = 500) -> Tensor:
        """Encode uint8 pictures (N, 3, S, S) in parts: (N, d)."""
        parts = _pictures("images", images).split(_check.count("batch_size", batch_size))
        return torch.cat([self.encode(to_pixels(part)) for part in parts])

    @torch.no_grad()
    def decode_images(self, z: Tensor, *, batch_size: int = 500) -> Tensor:
        """Decode codes (N, d) in parts: uint8 (N, 3, S, S)."""
        _check.last_dim("z", _check.floating("z", z), self.memories.shape[1])
        parts = _check.finite("z", z).split(_check.count("batch_size", batch_size))
        return torch.cat([to_pictures(self.decode(part)) for part in parts])


def _shape(shape: Shape | None) -> Shape:
    if shape is not None and not isinstance(shape, Shape):
        raise TypeError(f"shape: got a {_check.describe(shape)}, expected a Shape")
    return shape or Shape()


def _batch(name: str, x: Tensor, shape: tuple[int, ...]) -> None:
    """Refuse what is no batch (B, *shape) of floats. It looks at no number, so it compiles."""
    if _check.floating(name, x).shape[1:] != shape or not x.ndim:
        wanted = ", ".join(map(str, ("B", *shape)))
        raise ValueError(f"{name}: got a {_check.describe(x)}, expected shape ({wanted})")


def _pictures(name: str, images: Tensor) -> Tensor:
    good = isinstance(images, Tensor) and images.dtype == torch.uint8 and images.ndim == 4
    if not good or images.shape[1] != 3:
        raise ValueError(f"{name}: got a {_check.describe(images)}, expected uint8 (N, 3, S, S)")
    return images


@contextlib.contextmanager
def _drawing_from(generator: torch.Generator | None) -> Iterator[None]:
    """Have torch's layers draw their first weights from ``generator``, where one is given."""
    if generator is None:
        yield
        return
    where = generator.device
    seed = int(torch.randint(2**62, (), generator=generator, device=where))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def load(name: str = "latent_cpu") -> LatentMemory:
    """Return a trained system that ships, in eval mode, its card in ``model.card``.

    Raises:
        ValueError: no such system ships.
    """
    tensors, card = _weights.shipped(name, kind="latent memory")
    c = card["config"]
    model = LatentMemory(c["n_memories"], c["dim"], shape=Shape.of(c))
    model.load_state_dict({k: v.float() for k, v in tensors.items()})
    model.card = card
    return channels_last(model).eval().requires_grad_(False)


def channels_last(model: LatentMemory) -> LatentMemory:
    """Lay the weights out for pictures whose channels come last: three times as fast on a CPU."""
    move: Any = model.to  # torch's hints leave memory_format out
    return move(memory_format=torch.channels_last)


def parameter_counts(model: LatentMemory) -> dict[str, int]:
    """Numbers in the encoder, the decoder and the memories, and in all of them."""
    if not isinstance(model, LatentMemory):
        raise TypeError(f"model: got a {_check.describe(model)}, expected a LatentMemory")
    counts = {
        "encoder": sum(p.numel() for p in model.encode.parameters()),
        "decoder": sum(p.numel() for p in model.decode.parameters()),
        "memories": model.memories.numel(),
    }
    return counts | {"all": sum(counts.values())}
