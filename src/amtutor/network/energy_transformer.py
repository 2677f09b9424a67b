r"""The Energy Transformer block: a transformer block that is the gradient of one energy (MM 3.5.1).

.. math::

    g = \nabla L(x), \qquad E(g) = E^{ATT}(g) + E^{HN}(g), \qquad
    x \leftarrow x - \eta\, \frac{\partial E}{\partial g}

Tokens ``x`` are (\*batch, N, D): N tokens of D numbers. `EnergyLayerNorm` makes the normalised
tokens g from them, `EnergyAttention` is low where every token finds others that point its way,
`HopfieldNetwork` is low where every token looks like the memories. The two are not applied one
after the other: they are two terms of a sum. Because :math:`\nabla^2 L` has no negative eigenvalue,
a small step cannot raise E (MM 3.20).

Energies are one value per sample, (\*batch), never a mean over samples or tokens. All gradients
with respect to tokens are closed forms, so everything runs under ``no_grad``, ``inference_mode``
and ``torch.func.vmap``, and can be differentiated twice. In half precision (parameters or autocast)
products stay there; softmax and sums of energies are computed in float32.

Where ``mask`` is accepted it is a bool tensor that broadcasts to (\*batch, N, N): entry (C, B) is
True where query C may see key B, in all heads alike. A query that may see nothing adds no energy
and receives nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amtutor import _check
from amtutor.descent import Descent, Film, Rows, Trajectory, go_down, watched_by
from amtutor.network.lagrangians import Lagrangian, LayerNorm, RectifiedPower, ReLU, Softmax
from amtutor.network.synapses import Attention, Hopfield, tokens

__all__ = [
    "EnergyAttention",
    "EnergyLayerNorm",
    "EnergyTransformerBlock",
    "HopfieldNetwork",
    "MixedHeadAttention",
]


class EnergyLayerNorm(LayerNorm):
    r"""Layer norm with one learnable scale gamma and a bias delta (MM 3.13, 3.14).

    .. math:: g_i = \gamma \frac{x_i - \bar x}{\sqrt{\frac1D \sum_j (x_j - \bar x)^2 + \epsilon}}
              + \delta_i = \frac{\partial L}{\partial x_i}

    A `LayerNorm` Lagrangian with parameters: ``norm.activation(x)`` is g, ``norm(x)`` is L and
    ``norm.energy(x)`` the neurons' own energy, which is of order eps. Gamma must stay positive:
    with a negative one L is not convex and nothing goes downhill any more.

    Args:
        dim: D. gamma: its start, > 0. bias: learn delta (from 0), or leave it out.

    >>> EnergyLayerNorm(2).activation(torch.tensor([[1.0, 3.0]])).detach()
    tensor([[-1.0000,  1.0000]])
    """

    dim: int
    gamma: nn.Parameter

    def __init__(self, dim: int, *, gamma: float = 1.0, bias: bool = True, eps: float = 1e-5):
        super().__init__(dim, gamma=gamma, eps=eps, learnable=True)
        if not _check.boolean("bias", bias):
            self.delta = None

    def forward(self, x: Tensor, *, event_dims: int = 2) -> Tensor:
        r"""Lagrangian summed over tokens: (\*batch, N, D) -> (\*batch)."""
        return super().forward(x, event_dims=event_dims)

    def slope(self, x: Tensor) -> Tensor:
        r"""g, by PyTorch's own layer norm, which is this very function in one piece."""
        gamma = self.gamma.to(x.dtype).expand(self.dim)
        delta = None if self.delta is None else self.delta.to(x.dtype)
        return F.layer_norm(x, (self.dim,), gamma, delta, self.eps)

    def energy(self, x: Tensor, *, event_dims: int = 2) -> Tensor:
        r"""Neuron energy, of order eps, summed over tokens (MM 3.18)."""
        return super().energy(x, event_dims=event_dims)


class EnergyAttention(Attention):
    r"""Multi-head energy attention: no values, only queries and keys (MM 3.15, 3.16).

    .. math:: E = -\frac1\beta \sum_h \sum_C \log \sum_{B \ne C} \exp(\beta\, Q_{hC} \cdot K_{hB}),
              \qquad Q = W^Q g,\; K = W^K g

    With :math:`P_{hCB}` the softmax over B of :math:`\beta\, Q_{hC} \cdot K_{hB}` the gradient is

    .. math:: -\sum_h \Big[ W^{Q\top} \sum_B P_{hCB} K_{hB} + W^{K\top} \sum_B P_{hBC} Q_{hB} \Big]

    at token C: first what it looks for, the average of the keys it attends to; then what others
    look for in it, which a standard transformer does not have. It is the `Attention` synapse within
    one layer, with masks and with names for its parts.

    Args:
        dim: D.
        n_heads, head_dim: H and Y.
        beta: > 0, :math:`1/\sqrt{Y}` unless given.
        exclude_self: leave out B = C (as in MM; without it a token may attend to itself).

    Raises:
        ValueError: an argument has the wrong range.

    >>> attention = EnergyAttention(6, n_heads=2, head_dim=3)
    >>> attention.energy(torch.randn(5, 4, 6)).shape, attention.gradient(torch.randn(4, 6)).shape
    (torch.Size([5]), torch.Size([4, 6]))
    """

    def __init__(
        self,
        dim: int,
        *,
        n_heads: int,
        head_dim: int,
        beta: float | None = None,
        exclude_self: bool = True,
        generator: torch.Generator | None = None,
    ):
        super().__init__(
            _check.count("dim", dim),
            n_heads=n_heads,
            head_dim=head_dim,
            beta=beta,
            exclude_self=exclude_self,
            generator=generator,
        )

    def forward(self, g: Tensor, mask: Tensor | None = None) -> Tensor:
        """Energy of normalised tokens, one value per sample; `energy` by the name of a synapse."""
        return self.energy(g, mask)

    def energy(self, g: Tensor, mask: Tensor | None = None) -> Tensor:
        r"""Energy of (\*batch, N, D), one value per sample (MM 3.15)."""
        return self.token_energies(g, mask).sum(-1)

    def token_energies(self, g: Tensor, mask: Tensor | None = None) -> Tensor:
        r"""Each token's terms of `energy`, those in which it is the query: (\*batch, N)."""
        return self._query_energies(*self._heads(g), mask)

    def gradient(self, g: Tensor, mask: Tensor | None = None) -> Tensor:
        r"""Gradient of `energy`, in closed form: (\*batch, N, D) -> (\*batch, N, D)."""
        q, k = self._heads(g)
        p = self._softmax(q, k, mask)
        return -(self._to_queries(p, k) + self._to_keys(p, q)).to(g.dtype)

    def weights(self, g: Tensor, mask: Tensor | None = None) -> Tensor:
        r"""Attention maps P, (\*batch, H, N, N): row C says where query C looks; it sums to one."""
        return self._softmax(*self._heads(g), mask)

    def summary(self) -> str:
        """Number of heads."""
        return f"{len(self.W_query)} heads"


class MixedHeadAttention(EnergyAttention):
    r"""Heads that hear each other and keep one energy: overlaps are mixed before the logarithm.

    .. math:: E = -\frac1\beta \sum_h \sum_C \log \sum_{B \ne C}
              \exp\Bigl(\beta \sum_{h'} M_{hh'}\, Q_{h'C} \cdot K_{h'B}\Bigr)

    A standard transformer mixes what its heads found, by an output matrix, and has no energy for
    it. Here M mixes what they look for. The gradient is that of `EnergyAttention` with
    :math:`\sum_h M_{hh'} P_h` in the place of :math:`P_{h'}`. M starts as the identity, where the
    two are one. Arguments, errors: see there; ``mix`` is M, (H, H).

    Source: asked for, not built, in EQ 5 ("energy-compatible head mixing"); this form is ours.

    >>> attention = MixedHeadAttention(6, n_heads=2, head_dim=3)
    >>> attention.energy(torch.randn(5, 4, 6)).shape, attention.mix.shape
    (torch.Size([5]), torch.Size([2, 2]))
    """

    def __init__(self, dim: int, *, n_heads: int, head_dim: int, **options):
        super().__init__(dim, n_heads=n_heads, head_dim=head_dim, **options)
        self.mix = nn.Parameter(torch.eye(n_heads))

    def _overlaps(self, q: Tensor, k: Tensor) -> Tensor:
        apart = super()._overlaps(q, k)
        return torch.einsum("hg,...gcb->...hcb", self.mix.to(apart.dtype), apart)

    def _to_queries(self, p: Tensor, k: Tensor) -> Tensor:
        return super()._to_queries(self._shared(p), k)

    def _to_keys(self, p: Tensor, q: Tensor) -> Tensor:
        return super()._to_keys(self._shared(p), q)

    def _shared(self, p: Tensor) -> Tensor:
        """What each head's overlaps do to all logarithms."""
        return torch.einsum("hg,...hcb->...gcb", self.mix.to(p.dtype), p)


class HopfieldNetwork(Hopfield):
    r"""Memories that every token should look like (MM 3.17).

    .. math:: E = -\sum_B \sum_\mu G(\xi^\mu \cdot g_B), \qquad
              \frac{\partial E}{\partial g_B} = -\sum_\mu \xi^\mu\, r(\xi^\mu \cdot g_B),
              \qquad r = G'

    ==============  =============================================  ===============================
    ``activation``  energy of one token with overlaps h            r
    ==============  =============================================  ===============================
    ``"relu"``      :math:`-\frac12 \sum_\mu \max(h_\mu, 0)^2`     :math:`\max(h, 0)`
    ``"power"``     :math:`-\frac1n \sum_\mu \max(h_\mu, 0)^n`     :math:`\max(h, 0)^{n-1}`
    ``"softmax"``   :math:`-\frac1\beta\log\sum_\mu e^{\beta h}`   softmax of :math:`\beta h`
    ==============  =============================================  ===============================

    Any `Lagrangian` L of the overlaps may stand in their place: then :math:`E = -L(\Xi g)`. It is
    an MLP whose second weight is the transpose of the first, and the `Hopfield` synapse of one
    token, summed over tokens: (\*batch, N, D) -> (\*batch).

    Args:
        dim: D. n_memories: K. activation: as above. n: >= 2, for "power". beta: > 0, for "softmax".

    Raises:
        ValueError: an argument has the wrong range.

    >>> hopfield = HopfieldNetwork(2, n_memories=2)
    >>> _ = hopfield.memories.data.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
    >>> hopfield.energy(torch.tensor([[3.0, 1.0]])).item()          # -(3^2 + 2^2) / 2
    -6.5
    """

    def __init__(
        self,
        dim: int,
        *,
        n_memories: int,
        activation: str | Lagrangian = "relu",
        n: float = 3,
        beta: float = 1.0,
        generator: torch.Generator | None = None,
    ):
        kinds = {"relu": ReLU(), "softmax": Softmax(beta=beta), "power": RectifiedPower(n)}
        if not isinstance(activation, Lagrangian):
            activation = kinds[_check.choice("activation", activation, tuple(kinds))]
        dim = _check.count("dim", dim)
        super().__init__(dim, n_memories, lagrangian=activation, generator=generator)

    def forward(self, g: Tensor) -> Tensor:
        """Energy of normalised tokens, one value per sample; `energy` by the name of a synapse."""
        return self.energy(g)

    def energy(self, g: Tensor) -> Tensor:
        r"""Energy of (\*batch, N, D), one value per sample (MM 3.17)."""
        return self.token_energies(g).sum(-1)

    def token_energies(self, g: Tensor) -> Tensor:
        r"""Each token's share of `energy`, (\*batch, N)."""
        return super().forward(tokens(g, self.memories.shape[1]))

    def gradient(self, g: Tensor) -> Tensor:
        r"""Gradient of `energy`, in closed form: (\*batch, N, D) -> (\*batch, N, D)."""
        (sent,) = self.currents(tokens(g, self.memories.shape[1]))
        return -sent.to(g.dtype)


class EnergyTransformerBlock(nn.Module):
    r"""One energy for a set of tokens, and the way down (MM 3.18-3.20).

    .. math:: E(g) = E^{ATT}(g) + E^{HN}(g), \qquad g = \nabla L(x), \qquad
              x \leftarrow x - \eta\, \frac{\partial E}{\partial g}

    ``block(x, steps=12, step_size=0.1)`` takes 12 steps with the same weights. Gradients flow
    through all of them when grad mode is on.

    Args:
        dim: D. n_heads, head_dim, beta, exclude_self: see `EnergyAttention`.
        n_memories: K; activation, n, memory_beta: see `HopfieldNetwork`.
        bias, eps: see `EnergyLayerNorm`. generator: source of the weights.
        mix_heads: take a `MixedHeadAttention`.

    Attributes: ``norm``, ``attention``, ``hopfield``.

    >>> g = torch.Generator().manual_seed(0)
    >>> block = EnergyTransformerBlock(8, n_heads=2, head_dim=4, n_memories=16, generator=g)
    >>> x = torch.randn(3, 5, 8, generator=g)
    >>> walk = block.descend(x, steps=10, step_size=0.1, record=True)
    >>> walk.trajectory.energies.shape, bool((walk.trajectory.energies.diff(dim=0) < 0).all())
    (torch.Size([11, 3]), True)
    """

    def __init__(
        self,
        dim: int,
        *,
        n_heads: int,
        head_dim: int,
        n_memories: int,
        beta: float | None = None,
        exclude_self: bool = True,
        activation: str | Lagrangian = "relu",
        n: float = 3,
        memory_beta: float = 1.0,
        bias: bool = True,
        eps: float = 1e-5,
        mix_heads: bool = False,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        self.norm = EnergyLayerNorm(dim, bias=bias, eps=eps)
        kind = MixedHeadAttention if _check.boolean("mix_heads", mix_heads) else EnergyAttention
        self.attention = kind(
            dim,
            n_heads=n_heads,
            head_dim=head_dim,
            beta=beta,
            exclude_self=exclude_self,
            generator=generator,
        )
        self.hopfield = HopfieldNetwork(
            dim,
            n_memories=n_memories,
            activation=activation,
            n=n,
            beta=memory_beta,
            generator=generator,
        )

    def energy(self, g: Tensor, mask: Tensor | None = None) -> Tensor:
        r"""Energy of normalised tokens, :math:`E^{ATT} + E^{HN}`: (\*batch, N, D) -> (\*batch)."""
        return self.attention.energy(g, mask) + self.hopfield.energy(g)

    def token_energies(self, g: Tensor, mask: Tensor | None = None) -> Tensor:
        r"""Each token's share of `energy`, (\*batch, N); they sum to it.

        A pair of tokens belongs to the one that asks, so a share may rise while the sum falls.
        """
        return self.attention.token_energies(g, mask) + self.hopfield.token_energies(g)

    def gradient(self, g: Tensor, mask: Tensor | None = None) -> Tensor:
        r"""Gradient of `energy` with respect to g, in closed form, (\*batch, N, D)."""
        return self.attention.gradient(g, mask) + self.hopfield.gradient(g)

    def energies(self, x: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        r"""Energy of tokens x (not g) by part, (\*batch) each: "attention", "memories", "neurons".

        The neurons' part is of order eps and is not what the steps go down on (MM 3.18).
        """
        g = self.norm.activation(x)
        return {
            "attention": self.attention.energy(g, mask),
            "memories": self.hopfield.energy(g),
            "neurons": self.norm.energy(x),
        }

    def step(self, x: Tensor, *, step_size: float, mask: Tensor | None = None) -> Tensor:
        r"""One step :math:`x - \eta\, \partial E / \partial g` (MM 3.19): (\*batch, N, D)."""
        step_size = _check.positive("step_size", step_size)
        return self._step(tokens(x, self.norm.dim, "x"), step_size, mask)

    def _step(self, x: Tensor, step_size: float, mask: Tensor | None) -> Tensor:
        return x - step_size * self.gradient(self.norm.activation(x), mask)

    def forward(
        self, x: Tensor, *, steps: int, step_size: float, mask: Tensor | None = None
    ) -> Tensor:
        r"""Take ``steps`` steps of size eta and return where the tokens are, (\*batch, N, D).

        Args:
            x: tokens (\*batch, N, D), never modified. steps: >= 0. step_size: eta > 0.
            mask: see the module's text; None lets every token see every other one.

        Raises:
            ValueError, TypeError: an argument has the wrong range, type or shape.

        Source: MM 3.19.
        """
        x = self._start(x, steps, step_size)
        for _ in range(steps):
            x = self._step(x, step_size, mask)
        return x

    def descend(
        self,
        x: Tensor,
        *,
        steps: int,
        step_size: float,
        mask: Tensor | None = None,
        record: bool = False,
        callback: Callable[[int, Tensor], object] | None = None,
    ) -> Descent[Tensor]:
        r"""Take the steps of ``block(x, ...)`` and say how the energy fell; gradients flow through.

        Args:
            x, steps, step_size, mask: as in `forward`.
            record: keep all states (T+1, \*batch, N, D) and all energies E(g) (T+1, \*batch).
            callback: is called with (step, tokens) after every step, step 0 is the start.

        Returns:
            A `Descent`. Nothing stops early, so ``converged`` is all False.

        Raises:
            ValueError, TypeError: an argument has the wrong range, type or shape.
        """
        x = self._start(x, steps, step_size)
        film = Film() if _check.boolean("record", record) else None
        watchers = watched_by(film, callback)

        def watch(t: int, rows: Rows) -> None:
            for look in watchers:
                look(t, rows["x"].reshape(x.shape).clone())

        def slope(rows: Rows, t: int, who: Tensor) -> Rows:
            g = self.norm.activation(rows["x"].reshape(x.shape))
            return {"g": self.gradient(g, mask).reshape(rows["x"].shape)}

        def move(rows: Rows, down: Rows, t: int, who: Tensor) -> Rows:
            return {"x": rows["x"] - step_size * down["g"]}

        start = {"x": x.reshape(-1, *x.shape[-2:])}
        rows, taken, arrived = go_down(start, steps=steps, slope=slope, move=move, watch=watch)
        end = rows["x"].reshape(x.shape)
        taken, arrived = taken.reshape(x.shape[:-2]), arrived.reshape(x.shape[:-2])
        if film is None:
            return Descent(end, self.energy(self.norm.activation(end), mask), taken, arrived)
        energies = torch.stack([self.energy(self.norm.activation(y), mask) for y in film.states])
        trajectory = Trajectory(torch.stack(film.states), energies)
        return Descent(end, energies[-1], taken, arrived, trajectory)

    def _start(self, x: Tensor, steps: int, step_size: float) -> Tensor:
        tokens(x, self.norm.dim, "x")
        _check.count("steps", steps, least=0)
        _check.positive("step_size", step_size)
        # under autocast the tokens stay wide, whoever made them
        narrow = x.dtype in (torch.bfloat16, torch.float16)
        return x.float() if narrow and self.norm.gamma.dtype == torch.float32 else x
