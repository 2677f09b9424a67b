r"""The field of an Energy Transformer, read off as pixels (EQ 2.1).

A picture (B, C, H, W), pixels in [-1, 1], is cut into patches, which become tokens that know their
place. L blocks follow, each T steps down its own energy. Then the tokens are normalised, scaled and
shifted as the class asks (adaLN-zero), and read off as patches of the field:

.. math:: z = U p + u + r, \qquad z \leftarrow z - \alpha\, \partial E_l / \partial g
          \;\;(T \text{ times}, l = 1 \ldots L), \qquad
          f = V\bigl[(1 + s_y)\,\mathrm{LN}(z) + t_y\bigr] + v

What goes downhill here are the tokens of one block. The field of the pixels that comes out is not
the gradient of anything, see chapter 17 and `amtutor.generative.scalar_et`.

``skip`` and ``n_filters`` are ours: they give the field what the scalar models get for free,
:math:`a\,x` and a local term :math:`G * \phi(F * x + b)`, :math:`\phi(u) = u / \sqrt{1 + u^2}`.
It is the control that the scalar is compared with. With ``cone`` the head's picture h is a guess of
the datum, and the field points away from it, as long as the slope of a cone with a round tip,

.. math:: f = \frac{s\,(x - h)}{\sqrt{1 + \|x - h\|^2 / \delta^2}} + \ldots,
          \qquad \delta = \text{cone} \cdot \sqrt{CHW}.

``mix_heads`` and ``class_in_blocks`` answer two
questions that EQ leaves open: heads that share their overlaps (`MixedHeadAttention`), and a class
that pulls tokens within each block's energy, :math:`E_l(g, y) = E_l(g) - \sum_B c_{l,y} \cdot g_B`
("everywhere" alike), or with a :math:`c_{l,y,B}` for each place ("placed").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amtutor import _check, _draw
from amtutor.generative.equilibrium import check_labels
from amtutor.network.energy_transformer import EnergyTransformerBlock
from amtutor.network.masked_images import to_patches, to_pictures

__all__ = ["ClassHead", "EnergyTransformerField", "PatchTokens", "sinusoidal_positions"]

PULLS = ("no", "everywhere", "placed")


def sinusoidal_positions(side: int, dim: int) -> Tensor:
    r"""Fixed places of a square of patches, (side^2, dim): half tells the row, half the column.

    .. math:: \bigl(\sin \omega_k i,\; \cos \omega_k i,\; \sin \omega_k j,\; \cos \omega_k j\bigr),
              \qquad \omega_k = 10000^{-4k/D}, \quad k = 0 \ldots D/4 - 1

    Args:
        side: patches a side. dim: D, a multiple of 4.

    Raises:
        ValueError: dim is no multiple of 4.

    >>> sinusoidal_positions(2, 4)[1].round(decimals=3)      # row 0, column 1
    tensor([0.0000, 1.0000, 0.8410, 0.5400])
    """
    side, dim = _check.count("side", side), _check.count("dim", dim)
    if dim % 4:
        raise _check.fail("dim", dim, "a multiple of 4")
    omega = 10_000.0 ** (-torch.arange(dim // 4) * 4 / dim)
    wave = torch.arange(side)[:, None] * omega
    one = torch.cat([wave.sin(), wave.cos()], 1)  # (side, dim / 2)
    return torch.cat([one.repeat_interleave(side, 0), one.repeat(side, 1)], 1)


class PatchTokens(nn.Module):
    r"""Pictures to tokens that know their place: (B, C, H, H) -> (B, N, D).

    Args:
        shape: (C, H, H). patch_size: a divisor of H. dim: D.
        positions: "sinusoidal" (fixed) or "learned".

    Raises:
        ValueError: an argument has the wrong range.

    >>> PatchTokens((3, 8, 8), patch_size=4, dim=16)(torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 4, 16])
    """

    position: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        *,
        patch_size: int,
        dim: int,
        positions: str = "sinusoidal",
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        self.shape = _picture(shape)
        self.patch_size = _check.count("patch_size", patch_size)
        if self.shape[1] % self.patch_size:
            raise _check.fail("patch_size", patch_size, f"a divisor of the side {self.shape[1]}")
        dim, side = _check.count("dim", dim), self.shape[1] // self.patch_size
        self.linear = linear(self.shape[0] * self.patch_size**2, dim, generator=generator)
        _check.choice("positions", positions, ("sinusoidal", "learned"))
        if positions == "learned":
            start = 0.02 * _draw.normal((side**2, dim), generator=generator)
            self.position = nn.Parameter(start)
        else:
            self.register_buffer("position", sinusoidal_positions(side, dim), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Cut, embed, place."""
        return self.linear(to_patches(x, self.patch_size)) + self.position


class ClassHead(nn.Module):
    r"""Tokens to pictures, as the class asks: adaLN-zero on the output (EQ 2.1).

    Scale and shift start at zero for every class, so that at first classes make no difference.

    Args:
        dim: D. n_classes: one more row stands for "no class". shape, patch_size: of the pictures.

    >>> head = ClassHead(16, n_classes=10, shape=(3, 8, 8), patch_size=4)
    >>> tokens, labels = torch.randn(2, 4, 16), torch.tensor([3, 10])  # a three, and no class
    >>> head(tokens, labels).shape, torch.equal(head(tokens, labels), head(tokens, labels.flip(0)))
    (torch.Size([2, 3, 8, 8]), True)
    """

    def __init__(
        self,
        dim: int,
        *,
        n_classes: int,
        shape: Sequence[int],
        patch_size: int,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        self.channels, self.patch_size = shape[0], patch_size
        n_classes = _check.count("n_classes", n_classes)
        self.classes = nn.Parameter(0.02 * _draw.normal((n_classes + 1, dim), generator=generator))
        self.modulation = linear(dim, 2 * dim, zero=True)
        self.out = linear(dim, shape[0] * patch_size**2, gain=0.02, generator=generator)

    def forward(self, tokens: Tensor, labels: Tensor) -> Tensor:
        """Normalise, scale and shift, read off: (B, N, D), (B,) -> (B, C, H, H)."""
        y = F.silu(self.classes[labels])[:, None]
        shift, scale = self.modulation(y).chunk(2, -1)
        tokens = F.layer_norm(tokens, tokens.shape[-1:], eps=1e-6) * (1 + scale) + shift
        return to_pictures(self.out(tokens), self.patch_size, channels=self.channels)


class EnergyTransformerField(nn.Module):
    r"""EQ's model, ``field(x, labels)``: (B, C, H, H), (B,) int64 -> (B, C, H, H).

    Args:
        shape: (C, H, H). patch_size, dim, n_heads, head_dim, n_memories: sizes.
        depth: L blocks. descent_steps: T in each. step_size: alpha > 0, of a block's step; EQ does
            not say which.
        positions: "sinusoidal" or "learned". n_classes: labels 0..n-1; n is "no class".
        exclude_self: B != C in the attention.
        mix_heads, class_in_blocks: see the module's text.
        skip, n_filters, filter_size: see the module's text.
        cone: > 0 reads the head's picture h as a guess of the datum, see the module's text.
        stiffness: s at the start, of a cone.

    Raises:
        ValueError: an argument has the wrong range.

    >>> net = EnergyTransformerField((1, 4, 4), patch_size=2, dim=8, n_heads=2, head_dim=4,
    ...                              n_memories=16, depth=2)
    >>> net(torch.zeros(3, 1, 4, 4), torch.tensor([0, 5, net.null])).shape
    torch.Size([3, 1, 4, 4])
    """

    def __init__(
        self,
        shape: Sequence[int] = (3, 32, 32),
        *,
        patch_size: int = 2,
        dim: int = 768,
        n_heads: int = 12,
        head_dim: int = 64,
        n_memories: int = 3072,
        depth: int = 1,
        descent_steps: int = 1,
        step_size: float = 1.0,
        positions: str = "sinusoidal",
        n_classes: int = 10,
        exclude_self: bool = True,
        mix_heads: bool = False,
        class_in_blocks: str = "no",
        skip: bool = False,
        cone: float = 0.0,
        stiffness: float = 1.0,
        n_filters: int = 0,
        filter_size: int = 5,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        self.shape, self.null = _picture(shape), _check.count("n_classes", n_classes)
        self.descent_steps = _check.count("descent_steps", descent_steps, least=0)
        self.step_size = _check.positive("step_size", step_size)
        self.tokens = PatchTokens(
            self.shape, patch_size=patch_size, dim=dim, positions=positions, generator=generator
        )
        self.blocks = stack(
            depth,
            dim,
            n_heads=n_heads,
            head_dim=head_dim,
            n_memories=n_memories,
            exclude_self=exclude_self,
            mix_heads=mix_heads,
            generator=generator,
        )
        self.pulls = pulls(class_in_blocks, depth, self.null, self.tokens.position)
        self.head = ClassHead(
            dim, n_classes=n_classes, shape=self.shape, patch_size=patch_size, generator=generator
        )
        self.slope = nn.Parameter(torch.zeros(())) if _check.boolean("skip", skip) else None
        self.cone, start = rounding(cone, self.shape), stiff(stiffness)
        self.stiffness = nn.Parameter(start) if self.cone else None
        n_filters = _check.count("n_filters", n_filters, least=0)
        self.local = None
        if n_filters:
            self.local = LocalField(self.shape[0], n_filters, filter_size, generator=generator)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Evaluate the field; labels None is "no class" for all."""
        labels = look_at(x, labels, self.shape, self.null)
        pull = None if self.pulls is None else self.pulls[:, labels]
        z = through(self.blocks, self.tokens(x), self.descent_steps, self.step_size, pull)
        field = self.head(z, labels)
        if self.stiffness is not None:
            away = x - field
            far = 1 + away.square().flatten(1).sum(1) / self.cone**2
            field = self.stiffness * away * far.rsqrt()[:, None, None, None]
        if self.slope is not None:
            field = field + self.slope * x
        return field if self.local is None else field + self.local(x)


class LocalField(nn.Module):
    r"""Filters, a bend, other filters: :math:`G * \phi(F * x + b)`, a gradient only if G = F^T."""

    def __init__(self, channels: int, n_filters: int, size: int, *, generator=None):
        super().__init__()
        self.filters, self.bias = filters(channels, n_filters, size, generator=generator)
        self.back = nn.Parameter(torch.zeros_like(self.filters))

    def forward(self, x: Tensor) -> Tensor:
        r"""Map pictures (B, C, H, H) to arrows of that shape; :math:`\phi(u)=u/\sqrt{1+u^2}`."""
        u = F.conv2d(x, self.filters, self.bias, padding="same")
        pad = self.filters.shape[-1] // 2
        return F.conv_transpose2d(bend(u), self.back, padding=pad)


class _Bend(torch.autograd.Function):
    """Left to itself, autograd keeps and reads four arrays of the size of u: one is enough."""

    generate_vmap_rule = True

    @staticmethod
    def forward(u: Tensor) -> Tensor:
        return u.square().add_(1).rsqrt_().mul_(u)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, slope: Tensor) -> Tensor:
        (u,) = ctx.saved_tensors
        return slope * (1 + u.square()).rsqrt() ** 3

    jvp = backward


def rounding(cone: float, shape: Sequence[int]) -> float:
    """Return the radius of the bowl at a cone's tip, given in units of the root of CHW; 0: none."""
    if not isinstance(cone, int | float) or not 0 <= cone < math.inf:
        raise _check.fail("cone", cone, "a number, 0 (none) or above")
    return cone * math.sqrt(math.prod(shape))


def stiff(stiffness: float) -> Tensor:
    """Return how steep a bowl is at the start."""
    return torch.tensor(_check.positive("stiffness", stiffness), dtype=torch.get_default_dtype())


def bend(u: Tensor) -> Tensor:
    r"""Bend a line at the unit scale, :math:`\phi(u) = u / \sqrt{1 + u^2}`: the slope of a cone."""
    return _Bend.apply(u)


# ------------------------------------------------------------------------------ small parts


def stack(depth: int, dim: int, **options) -> nn.ModuleList:
    """Return ``depth`` blocks of one make."""
    depth = _check.count("depth", depth)
    return nn.ModuleList(EnergyTransformerBlock(dim, **options) for _ in range(depth))


def pulls(kind: str, depth: int, n_classes: int, like: Tensor) -> nn.Parameter | None:
    """Return what a class adds to each block's energy, (L, classes and none, 1 or N, D): zero."""
    if _check.choice("class_in_blocks", kind, PULLS) == "no":
        return None
    places = len(like) if kind == "placed" else 1
    return nn.Parameter(torch.zeros(depth, n_classes + 1, places, like.shape[1]))


def through(
    blocks: nn.ModuleList, z: Tensor, steps: int, step_size: float, pull: Tensor | None = None
) -> Tensor:
    """Take tokens down one block's energy after another; ``pull`` (L, B, 1 or N, D) of classes."""
    for level, block in enumerate(blocks):
        for _ in range(steps):
            z = cast(EnergyTransformerBlock, block)._step(z, step_size, None)
            if pull is not None:
                z = z + step_size * pull[level]
    return z


def linear(
    fan_in: int, fan_out: int, *, gain: float = 1.0, zero: bool = False, generator=None
) -> nn.Linear:
    """Return a linear map with weights of variance gain^2 / fan_in, and no bias at first."""
    layer = nn.Linear(fan_in, fan_out)
    with torch.no_grad():
        layer.bias.zero_()
        layer.weight.zero_()
        if not zero:
            draw = _draw.normal((fan_out, fan_in), generator=generator)
            layer.weight.copy_(gain / math.sqrt(fan_in) * draw)
    return layer


def filters(
    channels: int, n: int, size: int, *, generator=None
) -> tuple[nn.Parameter, nn.Parameter]:
    """Return n filters (n, channels, size, size) of length about one, and their biases."""
    size = _check.count("filter_size", size)
    if size % 2 == 0:
        raise _check.fail("filter_size", size, "an odd number of pixels")
    shape = (_check.count("n_filters", n), channels, size, size)
    draw = _draw.normal(shape, generator=generator)
    return nn.Parameter(draw / math.sqrt(channels * size**2)), nn.Parameter(torch.zeros(n))


def look_at(x: Tensor, labels: Tensor | None, shape: Sequence[int], null: int) -> Tensor:
    """Check pictures and labels; return the labels, "no class" for None."""
    _check.shape("x", _check.floating("x", x), (None, *shape))
    if labels is None:
        return torch.full((len(x),), null, device=x.device)
    return check_labels(labels, x, null)


def _picture(shape: Sequence[int]) -> tuple[int, ...]:
    shape = _check.sizes("shape", shape, dims=(3,), expected="(C, H, H)")
    if shape[1] != shape[2]:
        raise _check.fail("shape", shape, "(C, H, H), a square")
    return shape
