r"""Completing pictures: patches become tokens, tokens go downhill, tokens become patches again.

A picture is cut into N patches. A patch that is seen becomes a token by a linear map, a hidden one
gets the mask token, and each token is told its place:

.. math:: x_A = \begin{cases} U p_A + u & \text{seen} \\ z & \text{hidden} \end{cases} \;+\; r_A

`MaskedImageModel` then takes T steps down the energy of an Energy Transformer block (MM 3.5.1) and
reads the patches off the normalised tokens by one more linear map. `PlainTransformer` puts a stack
of standard pre-norm blocks in the place of the descent and is the same otherwise.

Pictures are (\*batch, C, H, W) floats in [0, 1]; ``hidden`` is bool (\*batch, N) or (N,), True
where a patch is hidden, patches counted row by row. Hidden pixels are never looked at.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amtutor import _check, _weights
from amtutor.descent import Descent, Trajectory
from amtutor.network.energy_transformer import EnergyTransformerBlock

__all__ = [
    "MaskedImageModel",
    "PatchModel",
    "PlainTransformer",
    "hide_patches",
    "load",
    "to_patches",
    "to_pictures",
]

MEAN, STD = 0.473, 0.251  # of all CIFAR-10 training pixels; tokens see (pixel - MEAN) / STD


def to_patches(images: Tensor, patch_size: int) -> Tensor:
    r"""Cut pictures (\*batch, C, H, W) into patches (\*batch, N, C * p * p), row by row.

    >>> to_patches(torch.arange(16.0).reshape(1, 4, 4), 2)[1]
    tensor([2., 3., 6., 7.])
    """
    p = _check.count("patch_size", patch_size)
    if images.ndim < 3 or images.shape[-1] % p or images.shape[-2] % p:
        raise ValueError(
            f"images: got a {_check.describe(images)}, expected (..., C, H, W) with sides that "
            f"are multiples of {p}"
        )
    tiles = images.unflatten(-1, (-1, p)).unflatten(-3, (-1, p))  # (..., C, h, p, w, p)
    return tiles.movedim((-4, -2), (-5, -4)).flatten(-3).flatten(-3, -2)


def to_pictures(patches: Tensor, patch_size: int, *, channels: int = 3) -> Tensor:
    r"""Put patches (\*batch, N, C * p * p) of square pictures together, (\*batch, C, H, W)."""
    p, side = _check.count("patch_size", patch_size), math.isqrt(patches.shape[-2])
    if side**2 != patches.shape[-2] or patches.shape[-1] != channels * p * p:
        raise ValueError(
            f"patches: got a {_check.describe(patches)}, expected (..., N, {channels * p * p}) "
            "with N a square"
        )
    tiles = patches.unflatten(-1, (channels, p, p)).unflatten(-4, (side, side))
    return tiles.movedim((-5, -4), (-4, -2)).flatten(-4, -3).flatten(-2)


def hide_patches(
    n_images: int,
    n_patches: int,
    fraction: float | Tensor,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Choose patches to hide: bool (n_images, n_patches), in each row the same share of True.

    ``fraction`` is one number or one for each picture; the count is rounded down.

    >>> hide_patches(2, 64, 0.75).sum(1).tolist()
    [48, 48]
    """
    count = torch.as_tensor(fraction, dtype=torch.float64).mul(n_patches).long().expand(n_images)
    if (count < 0).any() or (count > n_patches).any():
        raise _check.fail("fraction", fraction, "numbers from 0 to 1")
    return _lowest(torch.rand(n_images, n_patches, generator=generator), count)


def _lowest(scores: Tensor, count: Tensor) -> Tensor:
    """Mark the ``count`` lowest scores of each row."""
    return scores.argsort(-1).argsort(-1) < count[:, None]


class PatchModel(nn.Module):
    """Pictures to tokens and back; a subclass says how tokens `move` and how they are normalised.

    Args:
        dim: D. image_size, channels, patch_size: N = (image_size / patch_size)^2 patches.
        generator: source of the first weights.
    """

    def __init__(
        self,
        *,
        dim: int,
        image_size: int = 32,
        channels: int = 3,
        patch_size: int = 4,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        side, left = divmod(_check.count("image_size", image_size), patch_size)
        if left:
            raise _check.fail("patch_size", patch_size, f"a divisor of image_size = {image_size}")
        self.dim, self.channels, self.patch_size = _check.count("dim", dim), channels, patch_size
        self.n_patches, width = side**2, channels * patch_size**2
        self.encoder, self.decoder = nn.Linear(width, dim), nn.Linear(dim, width)
        basis = _orthogonal(max(dim, width), generator)[:dim, :width]
        with torch.no_grad():  # at first the decoder undoes the encoder
            self.encoder.weight.copy_(basis)
            self.decoder.weight.copy_(basis.T)
            self.encoder.bias.zero_()
            self.decoder.bias.zero_()
        self.position = nn.Parameter(wave_positions(side, dim))
        self.mask_token = nn.Parameter(torch.zeros(dim))

    def move(self, tokens: Tensor) -> Tensor:
        r"""Let the tokens find out about each other, (\*batch, N, D) -> (\*batch, N, D)."""
        raise NotImplementedError(f"{type(self).__name__} must define move(tokens)")

    def normalised(self, tokens: Tensor) -> Tensor:
        """Normalise tokens as the decoder sees them."""
        raise NotImplementedError(f"{type(self).__name__} must define normalised(tokens)")

    def embed(self, images: Tensor, hidden: Tensor) -> Tensor:
        r"""Make the first tokens, (\*batch, N, D), from pictures in [0, 1] and what is hidden."""
        _check.floating("images", images)
        patches = to_patches((images - MEAN) / STD, self.patch_size)
        hidden = self._hidden(patches, hidden)
        patches = patches.masked_fill(hidden, 0.0)  # also keeps NaN in hidden pixels out
        seen = self.encoder(patches).to(self.position.dtype)
        return torch.where(hidden, self.mask_token, seen) + self.position

    def decode(self, tokens: Tensor) -> Tensor:
        r"""Read patches off tokens: (\*batch, N, D) -> (\*batch, N, C * p * p), about 0 to 1."""
        return self.decoder(self.normalised(tokens)).to(self.position.dtype) * STD + MEAN

    def forward(self, images: Tensor, hidden: Tensor) -> Tensor:
        r"""Guess all patches, (\*batch, N, C * p * p), from those that are not hidden."""
        return self.decode(self.move(self.embed(images, hidden)))

    def complete(self, images: Tensor, hidden: Tensor) -> Tensor:
        r"""Fill the hidden patches of pictures (\*batch, C, H, W) in [0, 1]; the others stay."""
        return self.fill(images, hidden, self.forward(images, hidden))

    def fill(self, images: Tensor, hidden: Tensor, patches: Tensor) -> Tensor:
        """Put guessed patches, cut to [0, 1], where the picture is hidden."""
        given = to_patches(images, self.patch_size)
        filled = torch.where(self._hidden(given, hidden), patches.clamp(0, 1), given)
        return to_pictures(filled, self.patch_size, channels=self.channels)

    def _hidden(self, patches: Tensor, hidden: Tensor) -> Tensor:
        r"""Check the mask; return it as (\*batch, N, 1)."""
        n, width = self.position.shape[0], self.encoder.in_features
        if patches.shape[-2:] != (n, width):
            raise ValueError(
                f"images: got {patches.shape[-2]} patches of {patches.shape[-1]} numbers, "
                f"expected {n} of {width}"
            )
        if (
            not isinstance(hidden, Tensor)
            or hidden.dtype != torch.bool
            or hidden.shape[-1:] != (n,)
        ):
            raise ValueError(
                f"hidden: got a {_check.describe(hidden)}, expected a bool tensor (..., {n})"
            )
        return hidden.unsqueeze(-1)


class MaskedImageModel(PatchModel):
    r"""Complete pictures by going down the energy of Energy Transformer blocks.

    With one block, ``depth=1``, the whole computation is T steps down one energy. Several blocks
    go down one after the other, T steps each.

    Args:
        dim: D. n_heads, head_dim, beta, exclude_self: of the attention. n_memories: K, and its
        activation. descent_steps: T. step_size: eta. depth: L.

    ``walk_by(block, tokens, steps=, step_size=)`` takes the steps; a trainer may put a sooner twin
    there, such as `amtutor.fast.walk`.

    >>> model = MaskedImageModel(dim=16, n_heads=2, head_dim=8, n_memories=32, image_size=8)
    >>> hidden = hide_patches(3, 4, 0.5)
    >>> model.complete(torch.rand(3, 3, 8, 8), hidden).shape
    torch.Size([3, 3, 8, 8])
    """

    def __init__(
        self,
        *,
        dim: int,
        n_heads: int,
        head_dim: int,
        n_memories: int,
        descent_steps: int = 8,
        step_size: float = 0.2,
        depth: int = 1,
        beta: float | None = None,
        exclude_self: bool = True,
        activation: str = "relu",
        image_size: int = 32,
        channels: int = 3,
        patch_size: int = 4,
        generator: torch.Generator | None = None,
    ):
        sizes = {"image_size": image_size, "channels": channels, "patch_size": patch_size}
        super().__init__(dim=dim, **sizes, generator=generator)
        self.descent_steps = _check.count("descent_steps", descent_steps)
        self.walk_by = EnergyTransformerBlock.__call__
        self.step_size = float(_check.positive("step_size", step_size))
        block = {"n_heads": n_heads, "head_dim": head_dim, "n_memories": n_memories, "beta": beta}
        block |= {"exclude_self": exclude_self, "activation": activation}
        self.blocks = nn.ModuleList(
            EnergyTransformerBlock(dim, **block, generator=generator)
            for _ in range(_check.count("depth", depth))
        )
        for block in self.blocks:
            _look_at_the_like(block, generator)

    @property
    def block(self) -> EnergyTransformerBlock:
        """The only block, or the last of several."""
        return self.blocks[-1]

    def move(self, tokens: Tensor) -> Tensor:
        """Take T steps down each block's energy."""
        for block in self.blocks:
            tokens = self.walk_by(block, tokens, steps=self.descent_steps, step_size=self.step_size)
        return tokens

    def normalised(self, tokens: Tensor) -> Tensor:
        """The block's own layer norm: what its energy sees."""
        return self.block.norm.activation(tokens)

    def walk(self, images: Tensor, hidden: Tensor, *, steps: int | None = None) -> Descent:
        r"""Complete pictures and keep every moment of the tokens on their way down.

        Args:
            images, hidden: as in `complete`.
            steps: of each block, the ``descent_steps`` it learned with unless given.

        Returns:
            A `Descent` of tokens with its trajectory: states (T+1, \*batch, N, D), energies (T+1,
            \*batch). With several blocks, each one's energy while it is gone down on; what
            `frames` makes of the states are pictures.
        """
        x, tokens, energies = self.embed(images, hidden), [], []
        taken = self.descent_steps if steps is None else steps
        for block in self.blocks:
            down = block.descend(x, steps=taken, step_size=self.step_size, record=True)
            tokens.append(down.trajectory.states[:-1])
            energies.append(down.trajectory.energies[:-1])
            x = down.state
        states = torch.cat([*tokens, x[None]])
        trajectory = Trajectory(states, torch.cat([*energies, down.energy[None]]))
        total = down.steps_taken * len(self.blocks)
        return Descent(x, down.energy, total, down.converged, trajectory)

    def frames(self, images: Tensor, hidden: Tensor, states: Tensor) -> Tensor:
        r"""Decode every moment of the tokens, (T+1, \*batch, N, D), to pictures.

        They are (T+1, \*batch, C, H, W); where nothing is hidden the given ones stay.
        """
        return torch.stack([self.fill(images, hidden, self.decode(x)) for x in states])


class PlainTransformer(PatchModel):
    """The same pictures and tokens, moved by standard pre-norm Transformer blocks.

    Each block adds attention with queries, keys and values, then adds a two-layer network.

    Args:
        dim: D. n_heads: of D / n_heads numbers each. hidden: width of the two-layer networks.
        depth: number of blocks.
    """

    def __init__(
        self,
        *,
        dim: int,
        n_heads: int,
        hidden: int,
        depth: int = 1,
        image_size: int = 32,
        channels: int = 3,
        patch_size: int = 4,
        generator: torch.Generator | None = None,
    ):
        sizes = {"image_size": image_size, "channels": channels, "patch_size": patch_size}
        super().__init__(dim=dim, **sizes, generator=generator)
        if dim % _check.count("n_heads", n_heads):
            raise _check.fail("n_heads", n_heads, f"a divisor of dim = {dim}")
        self.blocks = nn.ModuleList(
            StandardBlock(dim, n_heads, hidden) for _ in range(_check.count("depth", depth))
        )
        self.norm = nn.LayerNorm(dim)

    def move(self, tokens: Tensor) -> Tensor:
        """Go through the blocks, each once."""
        for block in self.blocks:
            tokens = block(tokens)
        return tokens

    def normalised(self, tokens: Tensor) -> Tensor:
        """Return the tokens after a last layer norm."""
        return self.norm(tokens)


class StandardBlock(nn.Module):
    """A pre-norm Transformer block: attention with values, then a two-layer network, both added."""

    def __init__(self, dim: int, heads: int, hidden: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.up, self.down = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        r"""Return tokens (\*batch, N, D) after one block."""
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = (part.transpose(-2, -3) for part in qkv.unbind(-3))  # (*batch, H, N, Y)
        seen = F.scaled_dot_product_attention(q, k, v).transpose(-2, -3).flatten(-2)
        x = x + self.out(seen)
        return x + self.down(F.gelu(self.up(self.norm2(x))))


def wave_positions(side: int, dim: int) -> Tensor:
    """Return places of a square grid as waves along its two axes, (side^2, dim): a first guess."""
    at = torch.arange(side, dtype=torch.get_default_dtype())
    places = torch.cartesian_prod(at, at)  # (N, 2): row, column
    waves = -(-dim // 4)
    pace = math.pi / 2 ** torch.linspace(1, 1 + math.log2(side), waves)  # 4 patches to 4 * side
    angles = (places[:, :, None] * pace).flatten(1)
    return torch.cat([angles.sin(), angles.cos()], 1)[:, :dim].contiguous()


def _orthogonal(size: int, generator: torch.Generator | None) -> Tensor:
    return torch.linalg.qr(torch.randn(size, size, generator=generator))[0]


@torch.no_grad()
def _look_at_the_like(block: EnergyTransformerBlock, generator: torch.Generator | None) -> None:
    """Start with keys equal to queries, so that a token first looks at tokens like itself.

    Together the heads then hold one rotation of the token (where Y H = D), and what they add to a
    hidden token is a mean of its neighbours: the descent starts as an interpolation.
    """
    query, key = block.attention.W_query, block.attention.W_key
    heads, depth, dim = query.shape
    shared = _orthogonal(max(heads * depth, dim), generator)[: heads * depth, :dim]
    query.copy_(shared.view_as(query) + 0.02 * torch.randn(query.shape, generator=generator))
    key.copy_(shared.view_as(key) + 0.02 * torch.randn(key.shape, generator=generator))
    block.hopfield.memories.mul_(0.2)


def load(name: str = "et-completion") -> PatchModel:
    """Return a trained model that ships, in eval mode, its card in ``model.card``.

    The card says what it is, its config, the hash of the pictures it learned from, how well it
    does and its licence.

    Raises:
        ValueError: no such model ships.
    """
    tensors, card = _weights.shipped(name, kind="masked images")
    model = build(card["config"])
    model.load_state_dict({k: v.to(torch.get_default_dtype()) for k, v in tensors.items()})
    model.card = card
    return model.eval().requires_grad_(False)


def build(config: dict[str, Any], generator: torch.Generator | None = None) -> PatchModel:
    """Build the model that a training config describes; what is not about the model is ignored."""
    kinds = {"energy": MaskedImageModel, "transformer": PlainTransformer}
    kind = _check.choice("core", config["core"], tuple(kinds))
    shared = ("dim", "n_heads", "depth", "patch_size")
    own = {
        "energy": ("head_dim", "n_memories", "descent_steps", "beta", "exclude_self", "step_size"),
        "transformer": ("hidden",),
    }
    given = {k: config[k] for k in (*shared, *own[kind])}
    return kinds[kind](**given, generator=generator)
