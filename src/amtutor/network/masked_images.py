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
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amtutor import _check, _draw, _weights
from amtutor.descent import Descent, Trajectory, watched_by
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
    if (
        _check.tensor("images", images).is_complex()
        or images.numel() == 0
        or images.ndim < 3
        or images.shape[-1] % p
        or images.shape[-2] % p
    ):
        raise ValueError(
            f"images: got a {_check.describe(images)}, expected (..., C, H, W) with sides that "
            f"are multiples of {p}"
        )
    tiles = images.unflatten(-1, (-1, p)).unflatten(-3, (-1, p))  # (..., C, h, p, w, p)
    return tiles.movedim((-4, -2), (-5, -4)).flatten(-3).flatten(-3, -2)


def to_pictures(patches: Tensor, patch_size: int, *, channels: int = 3) -> Tensor:
    r"""Put patches (\*batch, N, C * p * p) of square pictures together, (\*batch, C, H, W)."""
    p, channels = _check.count("patch_size", patch_size), _check.count("channels", channels)
    n = patches.shape[-2] if _check.floating("patches", patches).ndim > 1 else 0
    side = math.isqrt(n)
    if not n or side**2 != patches.shape[-2] or patches.shape[-1] != channels * p * p:
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

    ``fraction`` is one number in [0, 1] or one for each picture; the count is rounded down.

    Raises:
        ValueError, TypeError: a count or a fraction is out of range.

    >>> hide_patches(2, 64, 0.75).sum(1).tolist()
    [48, 48]
    """
    n_images = _check.count("n_images", n_images, least=0)
    n_patches = _check.count("n_patches", n_patches)
    if not isinstance(fraction, Tensor):
        fraction = torch.tensor(_check.between("fraction", fraction, 0, 1), dtype=torch.float64)
    fraction = _check.finite("fraction", fraction).double()
    if fraction.shape not in ((), (1,), (n_images,)) or ((fraction < 0) | (fraction > 1)).any():
        raise ValueError(
            f"fraction: got a {_check.describe(fraction)}, expected numbers in [0, 1], one or "
            f"{n_images}"
        )
    count = (fraction * n_patches).long().expand(n_images)
    return _lowest(_draw.uniform((n_images, n_patches), generator=generator), count.cpu())


def _lowest(scores: Tensor, count: Tensor) -> Tensor:
    """Mark the ``count`` lowest scores of each row."""
    return scores.argsort(-1).argsort(-1) < count[:, None]


class PatchModel(nn.Module):
    """Pictures to tokens and back; a subclass says how tokens `move` and how they are normalised.

    Args:
        dim: D. image_size, channels, patch_size: N = (image_size / patch_size)^2 patches.
        generator: source of the first weights.
    """

    card: dict[str, Any]  # of a model that ships

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
        patch_size = _check.count("patch_size", patch_size)
        channels = _check.count("channels", channels)
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
        r"""Make the first tokens, (\*batch, N, D), from pictures in [0, 1] and what is hidden.

        Raises:
            ValueError, TypeError: as `complete`.
        """
        self._look_at(images, hidden)
        return self._embed(images, hidden)

    def _embed(self, images: Tensor, hidden: Tensor) -> Tensor:
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
        r"""Guess all patches, (\*batch, N, C * p * p), from those that are not hidden.

        The way that training takes: nothing looks at a pixel, so that it compiles and a GPU need
        not wait. Pictures of 0..255 pass here; `complete`, `embed` and `walk` refuse them.
        """
        return self.decode(self.move(self._embed(images, hidden)))

    def complete(self, images: Tensor, hidden: Tensor) -> Tensor:
        r"""Fill the hidden patches of pictures (\*batch, C, H, W) in [0, 1]; the others stay.

        Raises:
            ValueError, TypeError: shapes do not fit, or what is seen is not in [0, 1].
        """
        self._look_at(images, hidden)
        return self.fill(images, hidden, self.forward(images, hidden))

    def fill(self, images: Tensor, hidden: Tensor, patches: Tensor) -> Tensor:
        """Put guessed patches, cut to [0, 1], where the picture is hidden."""
        given = to_patches(_check.floating("images", images), self.patch_size)
        where = self._hidden(given, hidden)
        if _check.floating("patches", patches).shape[-2:] != given.shape[-2:]:
            raise ValueError(
                f"patches: got a {_check.describe(patches)}, expected shape {tuple(given.shape)}"
            )
        filled = torch.where(where, patches.clamp(0, 1), given)
        return to_pictures(filled, self.patch_size, channels=self.channels)

    def _look_at(self, images: Tensor, hidden: Tensor) -> None:
        """Refuse pictures that are not in [0, 1] where they are seen: 0..255 is the usual slip."""
        patches = to_patches(_check.floating("images", images), self.patch_size)
        seen = patches.masked_fill(self._hidden(patches, hidden), 0.0)
        low, high = (float(end) for end in seen.aminmax()) if seen.numel() else (0.0, 0.0)
        if not -1e-3 <= low <= high <= 1 + 1e-3:
            raise ValueError(
                f"images: seen pixels go from {low:g} to {high:g}, expected [0, 1]: "
                "amtutor.data.to_unit brings 0..255 there"
            )

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
            or hidden.device.type == "meta"
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
        super().__init__(
            dim=dim,
            image_size=image_size,
            channels=channels,
            patch_size=patch_size,
            generator=generator,
        )
        self.descent_steps = _check.count("descent_steps", descent_steps)
        self.walk_by = EnergyTransformerBlock.__call__
        self.step_size = float(_check.positive("step_size", step_size))
        blocks = [
            EnergyTransformerBlock(
                dim,
                n_heads=n_heads,
                head_dim=head_dim,
                n_memories=n_memories,
                beta=beta,
                exclude_self=exclude_self,
                activation=activation,
                generator=generator,
            )
            for _ in range(_check.count("depth", depth))
        ]
        self.blocks = cast("Sequence[EnergyTransformerBlock]", nn.ModuleList(blocks))
        for block in blocks:
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

    def walk(
        self,
        images: Tensor,
        hidden: Tensor,
        *,
        steps: int | None = None,
        callback: Callable[[int, Tensor], object] | None = None,
    ) -> Descent[Tensor]:
        r"""Complete pictures and keep every moment of the tokens on their way down.

        Args:
            images, hidden: as in `complete`.
            steps: of each block, >= 0; the ``descent_steps`` it learned with unless given.
            callback: is called with (step, tokens) after every step; step 0 is the start.

        Returns:
            A `Descent` of tokens with its trajectory: states (T+1, \*batch, N, D), energies (T+1,
            \*batch). With several blocks, each one's energy while it is gone down on. What `frames`
            makes of the states are pictures.

        Raises:
            ValueError, TypeError: as `complete`; also for a bad ``steps`` or callback.
        """
        self._look_at(images, hidden)
        steps = self.descent_steps if steps is None else _check.count("steps", steps, least=0)
        watchers = watched_by(callback)
        x, states, energies = self._embed(images, hidden), [], []
        for i, block in enumerate(self.blocks):

            def watch(t: int, y: Tensor, i: int = i) -> None:
                if t or not i:  # where one block ends the next one begins
                    for look in watchers:
                        look(i * steps + t, y)

            down = block.descend(
                x, steps=steps, step_size=self.step_size, record=True, callback=watch
            )
            assert down.trajectory is not None  # it was recorded
            states.append(down.trajectory.states[:-1])
            energies.append(down.trajectory.energies[:-1])
            x = down.state
        path = torch.cat([*states, x[None]]), torch.cat([*energies, down.energy[None]])
        taken = down.steps_taken * len(self.blocks)
        return Descent(x, down.energy, taken, down.converged, Trajectory(*path))

    def frames(self, images: Tensor, hidden: Tensor, states: Tensor) -> Tensor:
        r"""Decode every moment of the tokens, (T+1, \*batch, N, D), to pictures.

        They are (T+1, \*batch, C, H, W); where nothing is hidden the given ones stay.
        """
        _check.floating("states", states)
        if states.ndim < 3 or len(states) == 0:
            got = _check.describe(states)
            raise ValueError(f"states: got a {got}, expected (T+1, ..., N, {self.dim})")
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
        self.blocks = nn.ModuleList(
            StandardBlock(dim, n_heads=n_heads, hidden=hidden, generator=generator)
            for _ in range(_check.count("depth", depth))
        )
        self.norm = nn.LayerNorm(dim)

    def move(self, tokens: Tensor) -> Tensor:
        """Go through the blocks, each once."""
        self._check_tokens(tokens)
        for block in self.blocks:
            tokens = block(tokens)
        return tokens

    def normalised(self, tokens: Tensor) -> Tensor:
        """Return the tokens after a last layer norm."""
        self._check_tokens(tokens)
        return self.norm(tokens)

    def _check_tokens(self, tokens: Tensor) -> None:
        dim = self.norm.normalized_shape[0]
        if _check.floating("tokens", tokens).ndim < 2 or tokens.shape[-1] != dim:
            raise ValueError(f"tokens: got a {_check.describe(tokens)}, expected (..., N, {dim})")


class StandardBlock(nn.Module):
    """A pre-norm Transformer block: attention with values, then a two-layer network, both added.

    Args:
        dim: D. n_heads: a divisor of D. hidden: width of the network. generator: of the weights.
    """

    def __init__(
        self, dim: int, *, n_heads: int, hidden: int, generator: torch.Generator | None = None
    ):
        super().__init__()
        self.n_heads, hidden = _check.count("n_heads", n_heads), _check.count("hidden", hidden)
        if _check.count("dim", dim) % self.n_heads:
            raise _check.fail("n_heads", n_heads, f"a divisor of dim = {dim}")
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.up, self.down = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        for layer in (self.qkv, self.out, self.up, self.down):
            _draw_linear(layer, generator)

    def forward(self, x: Tensor) -> Tensor:
        r"""Return tokens (\*batch, N, D) after one block."""
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (3, self.n_heads, -1))
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


@torch.no_grad()
def _draw_linear(layer: nn.Linear, generator: torch.Generator | None) -> None:
    """Draw uniformly within 1 / sqrt(fan-in), as torch does, but from our generator."""
    for p in (layer.weight, layer.bias):
        p.copy_((2 * _draw.uniform(p.shape, generator=generator) - 1) * layer.in_features**-0.5)


def _orthogonal(size: int, generator: torch.Generator | None) -> Tensor:
    return torch.linalg.qr(_draw.normal((size, size), generator=generator))[0]


@torch.no_grad()
def _look_at_the_like(block: EnergyTransformerBlock, generator: torch.Generator | None) -> None:
    """Start with keys equal to queries, so that a token first looks at tokens like itself.

    Together the heads then hold one rotation of the token (where Y H = D), and what they add to a
    hidden token is a mean of its neighbours: the descent starts as an interpolation.
    """
    query, key = block.attention.W_query, block.attention.W_key
    heads, depth, dim = query.shape
    shared = _orthogonal(max(heads * depth, dim), generator)[: heads * depth, :dim]
    query.copy_(shared.view_as(query) + 0.02 * _draw.normal(query.shape, generator=generator))
    key.copy_(shared.view_as(key) + 0.02 * _draw.normal(key.shape, generator=generator))
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
    if not isinstance(config, Mapping):
        raise TypeError(f"config: got a {_check.describe(config)}, expected a dict")
    kind = _check.choice("core", config.get("core"), tuple(kinds))
    shared = ("dim", "n_heads", "depth", "patch_size")
    own = {
        "energy": ("head_dim", "n_memories", "descent_steps", "beta", "exclude_self", "step_size"),
        "transformer": ("hidden",),
    }
    missing = [k for k in (*shared, *own[kind]) if k not in config]
    if missing:
        raise ValueError(f"config: got no {', '.join(missing)}, expected what {kind} needs")
    given = {k: config[k] for k in (*shared, *own[kind])}
    return kinds[kind](**given, generator=generator)
