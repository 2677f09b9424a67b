r"""SiT, the plain transformer that EQ compares with: no energy anywhere.

Pre-norm blocks of attention and a two-layer network, each scaled, shifted and gated as the class
asks (adaLN-zero):

.. math:: z \leftarrow z + g_1\,\mathrm{MHA}\bigl((1 + s_1)\,\mathrm{LN}(z) + t_1\bigr), \qquad
          z \leftarrow z + g_2\,\mathrm{MLP}\bigl((1 + s_2)\,\mathrm{LN}(z) + t_2\bigr)

For Equilibrium Matching it is not told the time. With ``time=True`` it is, as in flow matching.

The S/2 of EQ's Table 1 has 32 229 132 parameters here, 32 475 660 with the time input; the table
says 32.00 M. The twelve blocks alone have 31 919 616. What the table leaves out cannot be told from
the paper; places are fixed here and there and count nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amtutor import _check, _draw
from amtutor.generative.et_eqm import PatchTokens, linear, look_at
from amtutor.network.masked_images import to_pictures

__all__ = ["SiT"]

_WAVES = 256  # numbers that tell the time


class SiT(nn.Module):
    r"""A transformer on patches, ``field(x, labels)``: (B, C, H, H), (B,) -> (B, C, H, H).

    Args:
        shape: (C, H, H). patch_size, dim, n_heads (a divisor of dim), depth, mlp_ratio: sizes.
        n_classes: labels 0..n-1; n is "no class". time: whether ``forward`` takes gamma, too.

    Raises:
        ValueError: an argument has the wrong range.

    >>> sum(p.numel() for p in SiT().parameters())
    32229132
    """

    def __init__(
        self,
        shape: Sequence[int] = (3, 32, 32),
        *,
        patch_size: int = 2,
        dim: int = 384,
        n_heads: int = 6,
        depth: int = 12,
        mlp_ratio: int = 4,
        n_classes: int = 10,
        time: bool = False,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        self.null = _check.count("n_classes", n_classes)
        self.tokens = PatchTokens(shape, patch_size=patch_size, dim=dim, generator=generator)
        self.shape = self.tokens.shape
        if dim % _check.count("n_heads", n_heads):
            raise _check.fail("n_heads", n_heads, f"a divisor of dim = {dim}")
        self.classes = nn.Parameter(0.02 * _draw.normal((n_classes + 1, dim), generator=generator))
        width = _check.count("mlp_ratio", mlp_ratio) * dim
        self.blocks = nn.ModuleList(
            _Block(dim, n_heads, width, generator=generator)
            for _ in range(_check.count("depth", depth))
        )
        self.modulation = linear(dim, 2 * dim, zero=True)
        self.out = linear(dim, self.shape[0] * patch_size**2, gain=0.02, generator=generator)
        self.clock = None
        if _check.boolean("time", time):
            self.clock = nn.Sequential(
                linear(_WAVES, dim, generator=generator),
                nn.SiLU(),
                linear(dim, dim, generator=generator),
            )

    def forward(
        self, x: Tensor, labels: Tensor | None = None, gamma: Tensor | None = None
    ) -> Tensor:
        """Evaluate the field; labels None is "no class" for all; gamma (B,) only with a clock."""
        labels = look_at(x, labels, self.shape, self.null)
        if (self.clock is None) != (gamma is None):
            wanted = "None, for there is no clock" if self.clock is None else "the time, (B,)"
            raise ValueError(f"gamma: got {_check.describe(gamma)}, expected {wanted}")
        y = self.classes[labels]
        if self.clock is not None and gamma is not None:
            y = y + self.clock(waves(_check.shape("gamma", gamma, (len(x),))).to(x.dtype))
        y, z = F.silu(y)[:, None], self.tokens(x)
        for block in self.blocks:
            z = block(z, y)
        z = _modulated(z, *self.modulation(y).chunk(2, -1))
        return to_pictures(self.out(z), self.tokens.patch_size, channels=self.shape[0])


class _Block(nn.Module):
    """Attention and a two-layer network, gated by the class."""

    def __init__(self, dim: int, n_heads: int, width: int, *, generator=None):
        super().__init__()
        self.n_heads = n_heads
        self.qkv = linear(dim, 3 * dim, generator=generator)
        self.mix = linear(dim, dim, generator=generator)
        self.up = linear(dim, width, generator=generator)
        self.down = linear(width, dim, generator=generator)
        self.modulation = linear(dim, 6 * dim, zero=True)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        t1, s1, g1, t2, s2, g2 = self.modulation(y).chunk(6, -1)
        q, k, v = self.qkv(_modulated(z, t1, s1)).unflatten(-1, (3, self.n_heads, -1)).unbind(-3)
        heads = (part.transpose(-2, -3) for part in (q, k, v))
        seen = F.scaled_dot_product_attention(*heads).transpose(-2, -3).flatten(-2)
        z = z + g1 * self.mix(seen)
        return z + g2 * self.down(F.gelu(self.up(_modulated(z, t2, s2)), approximate="tanh"))


def _modulated(z: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return F.layer_norm(z, z.shape[-1:], eps=1e-6) * (1 + scale) + shift


def waves(gamma: Tensor) -> Tensor:
    """Tell the time by cosines and sines of many frequencies, (B, 256)."""
    omega = torch.exp(
        -math.log(10_000) * torch.arange(_WAVES // 2, device=gamma.device) / (_WAVES // 2)
    )
    phase = 1000 * gamma[:, None] * omega
    return torch.cat([phase.cos(), phase.sin()], 1)
