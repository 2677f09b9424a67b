r"""Hypersynapses: energies that say how well the activations of some layers fit together.

A synapse is any function of activations with one energy per batch element. Nothing else is asked
of it, so a plain Python function will do. The signal it sends to each of its layers is

.. math:: I_\ell = -\partial E / \partial \hat x_\ell,

to all of them, always: a synapse has no direction (MM 3.2, Fig 3.2). The classes below give these
signals in closed form through ``currents(*activations)``; for any other function `currents` finds
them by automatic differentiation.

Shapes. A synapse uses the trailing dimensions it was made for and returns one value for each of
the leading ones: ``Hopfield(D, K)`` on ``(*batch, N, D)`` gives ``(*batch, N)``. A `HAM` sums those
that belong to the layer. In half precision products stay there and energies are added in float32.
"""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amtutor import _check, _draw
from amtutor.network.lagrangians import Lagrangian, ReLU, _widen

__all__ = ["Attention", "Bias", "Conv2d", "Dense", "Hopfield", "Pool2d", "Synapse", "currents"]

Shape = tuple[int, ...]


def currents(
    synapse: Callable[..., Tensor], *activations: Tensor, wanted: Sequence[bool] | None = None
) -> tuple[Tensor | None, ...]:
    r"""Signals :math:`-\partial E/\partial\hat x` of a synapse to each of its layers.

    In closed form where the synapse has a ``currents`` method, else by automatic differentiation
    (also under ``no_grad``, ``inference_mode`` and ``vmap``). Each has the shape of its activation;
    those that are not ``wanted`` are None.

    >>> energy = lambda x, y: -(x * y).sum(-1) ** 2
    >>> currents(energy, torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]))
    (tensor([66., 88.]), tensor([22., 44.]))
    """
    if hasattr(synapse, "currents"):
        return synapse.currents(*activations, wanted=wanted)
    return _differentiate(synapse, activations, wanted)


def _differentiate(synapse, activations, wanted) -> tuple[Tensor | None, ...]:
    """Find the wanted currents of any function by automatic differentiation."""
    indices = [i for i in range(len(activations)) if wanted is None or wanted[i]]
    result: list[Tensor | None] = [None] * len(activations)
    if not indices:
        return tuple(result)
    slope = torch.func.grad(lambda *a: -synapse(*a).sum(), argnums=tuple(indices))
    if torch.is_inference_mode_enabled() or any(a.is_inference() for a in activations):
        # such tensors can be no part of a graph: take copies that can
        with torch.inference_mode(False):
            found = slope(*(a.clone() for a in activations))
    else:
        found = slope(*activations)
    for i, value in zip(indices, found, strict=True):
        result[i] = value
    return tuple(result)


class Synapse(nn.Module):
    """Base of the shipped synapses; a subclass needs only ``forward(*activations) -> energy``.

    >>> class Agree(Synapse):
    ...     def forward(self, a, b):
    ...         return -(a * b).sum(-1)
    >>> Agree().currents(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]))
    (tensor([3., 4.]), tensor([1., 2.]))
    """

    def currents(self, *activations: Tensor, wanted: Sequence[bool] | None = None):
        r"""Signals :math:`-\partial E/\partial\hat x`, here by automatic differentiation."""
        return _differentiate(self, activations, wanted)

    def check_shapes(self, *shapes: Shape) -> None:
        """Raise ValueError where layers of these shapes cannot be connected."""

    def summary(self) -> str:
        """Say in a few characters what a diagram should show beside the name."""
        return ""


class Dense(Synapse):
    r"""Dense synapse of any arity: :math:`E = -\sum W_{ij\dots}\,\hat x_i \hat y_j \cdots`.

    For two layers :math:`E = -\hat m^\top W \hat v` (MPS 13), which sends :math:`W \hat v` to m and
    :math:`W^\top \hat m` to v. On one layer twice it is a self-connection and sends
    :math:`(W + W^\top)\hat x`.

    Args:
        shapes: size of each layer, an int or the shape of its trailing dimensions (flattened).
        weight: W with one dimension per layer; drawn from N(0, 1/largest size) unless given.
            A Parameter is shared, a plain tensor is copied into a new Parameter.

    >>> synapse = Dense(2, 3, weight=torch.arange(6.0).reshape(2, 3))
    >>> synapse(torch.tensor([1.0, 1.0]), torch.tensor([1.0, 0.0, 1.0])).item()
    -10.0
    """

    def __init__(
        self,
        *shapes: int | Shape,
        weight: Tensor | None = None,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        if not shapes:
            raise ValueError("shapes: got none, expected the size of at least one layer")
        self.shapes = tuple(_shape("shapes", s) for s in shapes)
        sizes = tuple(math.prod(s) for s in self.shapes)
        self.weight = _weight(weight, sizes, 1 / math.sqrt(max(sizes)), generator)

    def forward(self, *activations: Tensor) -> Tensor:
        """Energy, one value per leading index."""
        *first, last = self._flat(activations)
        return -(_widen(self._contract([*first, None])) * _widen(last)).sum(-1)

    def currents(self, *activations: Tensor, wanted: Sequence[bool] | None = None):
        """Contract the weight with all layers but one, for each of them."""
        flat = self._flat(activations)
        out: list[Tensor | None] = [None] * len(flat)
        for i, shape in enumerate(self.shapes):
            if wanted is None or wanted[i]:
                current = self._contract([*flat[:i], None, *flat[i + 1 :]])
                out[i] = current.reshape(*current.shape[:-1], *shape).expand_as(activations[i])
        return tuple(out)

    def _flat(self, activations: Sequence[Tensor]) -> list[Tensor]:
        _arity(self, activations, len(self.shapes))
        pairs = zip(activations, self.shapes, strict=True)
        return [_flatten(f"activation {i}", a, s) for i, (a, s) in enumerate(pairs)]

    def _contract(self, flat: list[Tensor | None]) -> Tensor:
        """Contract the weight with every activation but the one that is None."""
        if len(flat) == 1:
            return self.weight
        if len(flat) == 2:
            first, last = flat
            if last is not None:
                return F.linear(last, self.weight)
            if first is not None:
                return first @ self.weight
        letters = string.ascii_lowercase[: len(flat)]
        given = [(f"...{k}", a) for k, a in zip(letters, flat, strict=True) if a is not None]
        missing = letters[flat.index(None)]
        equation = ",".join([letters, *(k for k, _ in given)]) + f"->...{missing}"
        return torch.einsum(equation, self.weight, *(a for _, a in given))

    def check_shapes(self, *shapes: Shape) -> None:
        """Each layer must end in its size, and what comes before must be the same for all."""
        _arity(self, shapes, len(self.shapes))
        pairs = list(zip(shapes, self.shapes, strict=True))
        ends = [have[len(have) - len(want) :] for have, want in pairs]
        fits = all(
            e == s or (len(s) == 1 and e == s) for e, s in zip(ends, self.shapes, strict=True)
        )
        if not fits or len({have[: len(have) - len(want)] for have, want in pairs}) > 1:
            raise _misfit(self, shapes, self.shapes)

    def summary(self) -> str:
        """Sizes of the weight."""
        return " × ".join(map(str, self.weight.shape))

    def extra_repr(self) -> str:
        """Name the sizes."""
        return ", ".join(_size(s) for s in self.shapes)


class Bias(Synapse):
    r"""Constant input: :math:`E = -\sum_i b_i \hat x_i`; b is broadcast to the layer.

    ``Bias(8, 1, 1)`` gives a layer of eight channels one number per channel.

    >>> Bias(2, bias=torch.tensor([1.0, 2.0]))(torch.tensor([3.0, 4.0])).item()
    -11.0
    """

    def __init__(self, *shape: int, bias: Tensor | None = None):
        super().__init__()
        self.shape = _shape("shape", shape)
        start = torch.zeros(self.shape, device="cpu") if bias is None else bias
        self.bias = _weight(start, self.shape, 0, None)

    def forward(self, x: Tensor) -> Tensor:
        """Energy, one value per leading index."""
        self._fits(x)
        return -(_widen(self.bias) * _widen(x)).sum(tuple(range(-len(self.shape), 0)))

    def currents(self, *activations: Tensor, wanted: Sequence[bool] | None = None):
        """The bias itself."""
        _arity(self, activations, 1)
        if wanted is not None and not wanted[0]:
            return (None,)
        (x,) = activations
        self._fits(x)
        return (self.bias.expand_as(x),)

    def _fits(self, x: Tensor) -> None:
        self.check_shapes(tuple(_check.floating("x", x).shape))

    def check_shapes(self, *shapes: Shape) -> None:
        """The bias must broadcast to the layer."""
        _arity(self, shapes, 1)
        have = shapes[0][max(0, len(shapes[0]) - len(self.shape)) :]
        if len(have) != len(self.shape) or any(
            b not in (1, n) for b, n in zip(self.shape, have, strict=True)
        ):
            raise _misfit(self, shapes, (self.shape,))

    def extra_repr(self) -> str:
        """Name the size."""
        return _size(self.shape)


class _ImagePair(Synapse):
    r"""A linear map A between two image layers: :math:`E = -\langle \hat y, A\hat x \rangle`."""

    def up(self, x: Tensor) -> Tensor:
        """Map the lower activation upwards, batch (n, C, H, W)."""
        raise NotImplementedError

    def down(self, x: Tensor, y: Tensor) -> Tensor:
        """Map the upper activation downwards, to the size of x."""
        raise NotImplementedError

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Energy of (..., C, H, W) and (..., C', H', W'), one value per leading index."""
        self._fit(x, y)
        signal = self.up(_rows(x)).reshape(y.shape)
        return -(_widen(y) * _widen(signal)).sum((-3, -2, -1))

    def currents(self, *activations: Tensor, wanted: Sequence[bool] | None = None):
        """The map applied to x, and its transpose applied to y."""
        _arity(self, activations, 2)
        x, y = activations
        self._fit(x, y)
        want_x, want_y = (True, True) if wanted is None else wanted
        return (
            self.down(_rows(x), _rows(y)).reshape(x.shape) if want_x else None,
            self.up(_rows(x)).reshape(y.shape) if want_y else None,
        )

    def _output(self, shape: Shape) -> Shape:
        """Shape of the upper layer over a lower layer of this shape."""
        raise NotImplementedError

    def _fit(self, x: Tensor, y: Tensor) -> None:
        """Check activations: one leading shape, and sizes that meet."""
        shapes = [tuple(_check.floating(n, a).shape) for n, a in (("x", x), ("y", y))]
        if len({s[:-3] for s in shapes}) > 1:
            raise ValueError(
                f"{self._get_name()}: got activations of shapes {shapes[0]} and {shapes[1]}, "
                "expected (..., C, H, W) and (..., C', H', W') with one batch shape"
            )
        self.check_shapes(*(s[-3:] for s in shapes))

    def check_shapes(self, *shapes: Shape) -> None:
        """The upper layer must have the size that the map gives."""
        _arity(self, shapes, 2)
        low, high = shapes
        expected = self._output(low) if len(low) == 3 else ()
        if len(low) != 3 or high != expected or min(expected) < 1:
            raise ValueError(
                f"{self._get_name()}: got layer shapes {low} and {high}, expected (C, H, W) and "
                + (f"{expected}" if expected else "(C', H', W')")
            )


class Conv2d(_ImagePair):
    r"""Convolutional synapse: :math:`E = -\langle \hat y,\; W * \hat x \rangle`.

    The upper layer y receives a convolution of x, the lower layer x the transposed convolution
    of y. A bias is a synapse of its own: `Bias`.

    Args:
        in_channels, out_channels, kernel_size: sizes; the weight is (out, in, k, k).
        stride, padding: as in torch.
        weight: given weight, else drawn from N(0, 1/(in k^2)).

    >>> synapse = Conv2d(1, 1, 2, weight=torch.ones(1, 1, 2, 2))
    >>> synapse(torch.ones(1, 3, 3), torch.ones(1, 2, 2)).item()
    -16.0
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        weight: Tensor | None = None,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        k = _check.count("kernel_size", kernel_size)
        size = _check.count("out_channels", out_channels), _check.count("in_channels", in_channels)
        self.kernel_size, self.stride = k, _check.count("stride", stride)
        self.padding = _check.count("padding", padding, least=0)
        self.weight = _weight(weight, (*size, k, k), 1 / (k * math.sqrt(in_channels)), generator)

    def up(self, x: Tensor) -> Tensor:
        """Convolve."""
        return F.conv2d(x, self.weight, stride=self.stride, padding=self.padding)

    def down(self, x: Tensor, y: Tensor) -> Tensor:
        """Convolve transposed."""
        return _transposed(y, self.weight, x, self.stride, self.padding)

    def _output(self, shape: Shape) -> Shape:
        out, inside = self.weight.shape[:2]
        image = (_windows(n, self.kernel_size, self.stride, self.padding) for n in shape[1:])
        return (out, *image) if shape[0] == inside else (-1,)

    def check_shapes(self, *shapes: Shape) -> None:
        """Channels and sizes must meet."""
        _arity(self, shapes, 2)
        if len(shapes[0]) == 3 and shapes[0][0] != self.weight.shape[1]:
            raise ValueError(
                f"Conv2d: got a lower layer of shape {shapes[0]}, "
                f"expected {self.weight.shape[1]} channels"
            )
        super().check_shapes(*shapes)

    def summary(self) -> str:
        """Window and step."""
        return f"{self.kernel_size} × {self.kernel_size}" + f", stride {self.stride}" * (
            self.stride > 1
        )

    def extra_repr(self) -> str:
        """Name the sizes."""
        out, inside = self.weight.shape[:2]
        return f"{inside}, {out}, {self.kernel_size}, stride={self.stride}, padding={self.padding}"


class Pool2d(_ImagePair):
    r"""Pooling synapse: :math:`E = -s\,\langle \hat y,\; \mathrm{pool}(\hat x) \rangle`.

    The upper layer receives the average (or the maximum) of each window. The lower one receives y
    back: shared out over the window, or given to the largest entry, which makes the max energy
    continuous but not smooth.

    Args:
        kernel_size: side of the window. stride: its step, kernel_size unless given.
        mode: "average" or "max". strength: s > 0, or a Parameter to be learned.

    >>> Pool2d(2)(torch.arange(4.0).reshape(1, 2, 2), torch.ones(1, 1, 1))
    tensor(-1.5000)
    """

    def __init__(
        self,
        kernel_size: int,
        *,
        stride: int | None = None,
        mode: str = "average",
        strength: float | Tensor = 1.0,
    ):
        super().__init__()
        self.kernel_size = _check.count("kernel_size", kernel_size)
        self.stride = self.kernel_size if stride is None else _check.count("stride", stride)
        self.mode = _check.choice("mode", mode, ("average", "max"))
        _check.positive("strength", strength)
        self.strength = strength if isinstance(strength, nn.Parameter) else float(strength)

    def up(self, x: Tensor) -> Tensor:
        """Pool."""
        pool = F.avg_pool2d if self.mode == "average" else F.max_pool2d
        return self.strength * pool(x, self.kernel_size, self.stride)

    def down(self, x: Tensor, y: Tensor) -> Tensor:
        """Give each window its y back."""
        if self.mode == "average":
            n, c = x.shape[:2]
            k = self.kernel_size
            window = torch.full((1, 1, k, k), 1 / k**2, dtype=x.dtype, device=x.device)
            planes = x.reshape(n * c, 1, *x.shape[2:]), y.reshape(n * c, 1, *y.shape[2:])
            shared = _transposed(planes[1], window, planes[0], self.stride, 0).reshape(x.shape)
        else:
            winners = F.max_pool2d(x, self.kernel_size, self.stride, return_indices=True)[1]
            empty = torch.zeros_like(x).flatten(2)
            shared = empty.scatter_add(2, winners.flatten(2), y.flatten(2)).reshape(x.shape)
        return self.strength * shared

    def _output(self, shape: Shape) -> Shape:
        return shape[0], *(_windows(n, self.kernel_size, self.stride, 0) for n in shape[1:])

    def summary(self) -> str:
        """Mode and window."""
        return f"{self.mode} {self.kernel_size} × {self.kernel_size}"

    def extra_repr(self) -> str:
        """Name the window."""
        return f"{self.kernel_size}, stride={self.stride}, mode={self.mode!r}"


class Attention(Synapse):
    r"""Attention synapse between queries and keys, or within one layer (MM 3.15, 3.16).

    .. math:: E = -\frac1\beta \sum_h \sum_C \log \sum_B \exp(\beta\, Q_{hC} \cdot K_{hB}),
              \qquad Q = W^Q \hat q,\; K = W^K \hat k.

    It is low where every query finds a key that points its way. There is no value matrix: the
    queries receive a softmax average of the keys, and the keys of the queries. Queries are
    (..., C, D), keys (..., B, D'), energies (...).

    Args:
        query_dim, key_dim: last dimension of the two layers; one layer if ``key_dim`` is None.
        n_heads, head_dim: H and Y.
        beta: > 0, :math:`1/\sqrt{Y}` unless given.
        exclude_self: leave out B = C (one layer only).

    Raises:
        ValueError: an argument has the wrong range, or ``exclude_self`` with two layers.

    >>> attention = Attention(6, 5, n_heads=2, head_dim=3)
    >>> attention(torch.randn(4, 7, 6), torch.randn(4, 2, 5)).shape
    torch.Size([4])
    """

    def __init__(
        self,
        query_dim: int,
        key_dim: int | None = None,
        *,
        n_heads: int = 1,
        head_dim: int = 16,
        beta: float | None = None,
        exclude_self: bool = False,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        self.arity = 1 if key_dim is None else 2
        self.exclude_self = _check.boolean("exclude_self", exclude_self)
        if self.exclude_self and self.arity == 2:
            raise ValueError("exclude_self = True: expected one layer, not queries and keys of two")
        heads, depth = _check.count("n_heads", n_heads), _check.count("head_dim", head_dim)
        query_dim = _check.count("query_dim", query_dim)
        dims = query_dim, query_dim if key_dim is None else _check.count("key_dim", key_dim)
        self.beta = depth**-0.5 if beta is None else float(_check.positive("beta", beta))
        sizes = [(heads, depth, d) for d in dims]
        self.W_query, self.W_key = (_weight(None, s, s[2] ** -0.5, generator) for s in sizes)

    def forward(self, queries: Tensor, keys: Tensor | None = None) -> Tensor:
        """Energy of (..., C, D) and (..., B, D'), one value per leading index."""
        _arity(self, [a for a in (queries, keys) if a is not None], self.arity)
        return self._query_energies(*self._heads(queries, keys), None).sum(-1)

    def currents(self, *activations: Tensor, wanted: Sequence[bool] | None = None):
        """To each query its average of keys, to each key the queries that chose it."""
        _arity(self, activations, self.arity)
        want = (True,) * self.arity if wanted is None else wanted
        q, k = self._heads(*activations)
        p = self._softmax(q, k, None)
        if self.arity == 1:
            return (self._to_queries(p, k) + self._to_keys(p, q) if want[0] else None,)
        return (
            self._to_queries(p, k) if want[0] else None,
            self._to_keys(p, q) if want[1] else None,
        )

    def _heads(self, queries: Tensor, keys: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Queries and keys of each head, (..., H, N, Y)."""
        names = ("queries", "keys") if self.arity == 2 else ("tokens", "tokens")
        pairs = zip(names, (queries, keys), (self.W_query, self.W_key), strict=True)
        found = []
        for name, x, weight in pairs:
            x = tokens(queries if x is None else x, weight.shape[2], name)
            flat = F.linear(x, weight.flatten(0, 1))
            found.append(flat.unflatten(-1, weight.shape[:2]).transpose(-2, -3))
        return found[0], found[1]

    def _query_energies(self, q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
        """Terms of the energy by query, heads added up: (..., C)."""
        scores, lonely = self._scores(q, k, mask)
        best = torch.logsumexp(scores, -1)  # (..., H, C)
        if lonely is not None:
            best = best.masked_fill(lonely, 0.0)
        return -best.sum(-2) / self.beta

    def _to_queries(self, p: Tensor, k: Tensor) -> Tensor:
        """What the queries receive."""
        return torch.einsum("...hny,hyd->...nd", p @ k, self.W_query)

    def _to_keys(self, p: Tensor, q: Tensor) -> Tensor:
        """What the keys receive."""
        return torch.einsum("...hny,hyd->...nd", p.transpose(-1, -2) @ q, self.W_key)

    def _overlaps(self, q: Tensor, k: Tensor) -> Tensor:
        """Beta Q K, (..., H, C, B)."""
        return self.beta * _widen(q @ k.transpose(-1, -2))

    def _scores(self, q: Tensor, k: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Beta Q K, -inf where not allowed; and which queries see nothing (their scores are 0)."""
        scores = self._overlaps(q, k)
        allowed = allowed_pairs(scores[..., 0, :, :], mask, exclude_self=self.exclude_self)
        if allowed is None:
            return scores, None
        allowed = allowed.unsqueeze(-3)
        scores = scores.masked_fill(~allowed, -math.inf)
        if mask is None and scores.shape[-1] > 1:
            return scores, None
        lonely = ~allowed.any(-1)
        return scores.masked_fill(lonely.unsqueeze(-1), 0.0), lonely

    def _softmax(self, q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
        """Where each query looks, (..., H, C, B); zero for those that may see nothing."""
        scores, lonely = self._scores(q, k, mask)
        p = torch.softmax(scores, -1)
        return (p if lonely is None else p.masked_fill(lonely.unsqueeze(-1), 0.0)).to(q.dtype)

    def check_shapes(self, *shapes: Shape) -> None:
        """Layers must be tokens times the dimension that the weights were made for."""
        _arity(self, shapes, self.arity)
        dims = [w.shape[2] for w in (self.W_query, self.W_key)][: self.arity]
        good = all(len(s) >= 2 and s[-1] == d for s, d in zip(shapes, dims, strict=True))
        if not good or len({s[:-2] for s in shapes}) > 1:
            raise _misfit(self, shapes, [(-1, d) for d in dims])
        if self.exclude_self and shapes[0][-2] < 2:
            raise ValueError("Attention: exclude_self needs at least two tokens, got one")

    def summary(self) -> str:
        """Number of heads."""
        return f"{len(self.W_query)} heads" if len(self.W_query) > 1 else ""

    def extra_repr(self) -> str:
        """Name the sizes."""
        heads, depth, dim = self.W_query.shape
        dims = f"{dim}, {self.W_key.shape[2]}" if self.arity == 2 else f"{dim}"
        numbers = f"{dims}, n_heads={heads}, head_dim={depth}, beta={self.beta:.4g}"
        return f"{numbers}, exclude_self={self.exclude_self}"


def allowed_pairs(like: Tensor, mask: Tensor | None, *, exclude_self: bool) -> Tensor | None:
    r"""Which query C may see which key B: broadcasts to ``like``, (\*batch, C, B); None: all."""
    if mask is not None:
        bits = isinstance(mask, Tensor) and mask.dtype == torch.bool
        if not bits or mask.device.type == "meta" != like.device.type:
            raise TypeError(f"mask: got a {_check.describe(mask)}, expected a bool tensor")
        try:
            fits = torch.broadcast_shapes(mask.shape, like.shape) == like.shape and mask.ndim >= 2
        except RuntimeError:
            fits = False
        if not fits:
            raise ValueError(
                f"mask: got shape {tuple(mask.shape)}, expected one that broadcasts to "
                f"{tuple(like.shape)}, (*batch, N, N)"
            )
    if not exclude_self:
        return mask
    others = ~torch.eye(like.shape[-1], dtype=torch.bool, device=like.device)
    return others if mask is None else mask & others


def tokens(x: Tensor, dim: int, name: str = "g") -> Tensor:
    """Return ``x`` if it is a floating-point tensor of tokens (..., N, dim)."""
    _check.floating(name, x)
    if x.ndim < 2 or x.shape[-1] != dim or x.shape[-2] == 0:
        raise ValueError(
            f"{name}: got a {_check.describe(x)}, expected (..., N, {dim}) with N >= 1 tokens"
        )
    return x


class Hopfield(Synapse):
    r"""Memories without a layer of their own: :math:`E = -L(\Xi \hat x)` (MM 3.7, 3.17).

    It is what a dense synapse to a layer of K memory neurons with Lagrangian L becomes when that
    layer is infinitely fast. `ReLU` gives MM 3.17's classical form, `RectifiedPower` and
    `Exponential` dense memories, `Softmax` the log-sum-exp energy.

    Args:
        shape: size of the layer, an int or the shape of its trailing dimensions (flattened).
        n_memories: K. lagrangian: L, `ReLU` unless given.
        memories: Xi (K, size), else drawn from N(0, 1/size).

    Activations are (..., shape), energies (...).

    Raises:
        ValueError, TypeError: an argument has the wrong range, type or shape.

    >>> xi = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    >>> Hopfield(2, 2, memories=xi)(torch.tensor([3.0, 1.0])).item()     # -(3^2 + 2^2) / 2
    -6.5
    """

    def __init__(
        self,
        shape: int | Shape,
        n_memories: int,
        *,
        lagrangian: Lagrangian | None = None,
        memories: Tensor | None = None,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        self.shape = _shape("shape", shape)
        size = _check.count("n_memories", n_memories), math.prod(self.shape)
        self.memories = _weight(memories, size, size[1] ** -0.5, generator)
        self.lagrangian = ReLU() if lagrangian is None else lagrangian
        if not isinstance(self.lagrangian, Lagrangian):
            got = _check.describe(lagrangian)
            raise TypeError(f"lagrangian: got a {got}, expected a Lagrangian such as ReLU()")

    def forward(self, x: Tensor) -> Tensor:
        """Energy, one value per leading index."""
        return -self.lagrangian(self.overlaps(x))

    def overlaps(self, x: Tensor) -> Tensor:
        r"""Overlaps :math:`h_\mu = \xi^\mu \cdot \hat x`, (..., K)."""
        return F.linear(_flatten("x", x, self.shape), self.memories)

    def currents(self, *activations: Tensor, wanted: Sequence[bool] | None = None):
        r""":math:`\Xi^\top \nabla L(\Xi \hat x)`: overlaps, separation, memories added up."""
        _arity(self, activations, 1)
        if wanted is not None and not wanted[0]:
            return (None,)
        (x,) = activations
        return ((self.lagrangian.activation(self.overlaps(x)) @ self.memories).reshape(x.shape),)

    def check_shapes(self, *shapes: Shape) -> None:
        """The layer must end in the shape that the memories were made for."""
        _arity(self, shapes, 1)
        if shapes[0][len(shapes[0]) - len(self.shape) :] != self.shape:
            raise _misfit(self, shapes, (self.shape,))

    def summary(self) -> str:
        """Number of memories."""
        return f"K = {len(self.memories)}"

    def extra_repr(self) -> str:
        """Name the sizes."""
        return f"{_size(self.shape)}, n_memories={len(self.memories)}"


def _shape(name: str, shape: int | Sequence[int]) -> Shape:
    """Read a layer's shape from an int or a sequence of ints."""
    sizes = shape if isinstance(shape, (tuple, list, torch.Size)) else (shape,)
    return tuple(_check.count(name, n) for n in sizes)


def _size(shape: Shape) -> str:
    return str(shape[0]) if len(shape) == 1 else "×".join(map(str, shape))


def _weight(given, shape: Shape, std: float, generator) -> nn.Parameter:
    """Share a Parameter, copy a tensor, or draw from N(0, std^2)."""
    _check.generator("generator", generator)
    if given is None:
        dtype = torch.get_default_dtype()
        return nn.Parameter(std * _draw.normal(shape, generator=generator, dtype=dtype))
    if not isinstance(given, Tensor) or given.shape != torch.Size(shape):
        raise ValueError(f"weight: got a {_check.describe(given)}, expected shape {tuple(shape)}")
    _check.floating("weight", given)
    return given if isinstance(given, nn.Parameter) else nn.Parameter(given.detach().clone())


def _arity(synapse: nn.Module, given: Sequence, expected: int) -> None:
    if len(given) != expected:
        name = type(synapse).__name__
        raise ValueError(f"{name}: got {len(given)} layers, expected {expected}")


def _misfit(synapse: nn.Module, shapes: Sequence[Shape], expected: Sequence[Shape]) -> ValueError:
    def show(many: Sequence[Shape]) -> str:
        return " and ".join(str(tuple(s)).replace("-1", "N") for s in many)

    return ValueError(
        f"{type(synapse).__name__}: got layer shapes {show(shapes)}, expected {show(expected)}"
    )


def _flatten(name: str, x: Tensor, shape: Shape) -> Tensor:
    """Join the trailing dimensions that a dense weight sees as one."""
    _check.floating(name, x)
    if x.shape[x.ndim - len(shape) :] != torch.Size(shape):
        raise ValueError(
            f"{name}: got a {_check.describe(x)}, expected trailing dimensions {shape}"
        )
    return x if len(shape) == 1 else x.flatten(-len(shape))


def _rows(x: Tensor) -> Tensor:
    """Join all leading dimensions: (..., C, H, W) -> (n, C, H, W)."""
    return x.reshape(-1, *x.shape[-3:])


def _windows(n: int, kernel: int, stride: int, padding: int) -> int:
    """Count the windows along a side of length n."""
    return (n + 2 * padding - kernel) // stride + 1


def _transposed(y: Tensor, weight: Tensor, like: Tensor, stride: int, padding: int) -> Tensor:
    """Transposed convolution of y, to the image size of ``like``."""
    k = weight.shape[-1]
    if weight.shape[1] * k * k <= 32 and y.device.type == "cpu":
        # for few channels PyTorch's own is several times slower than this, its definition:
        # every upper neuron paints its kernel, and overlapping paint is added up
        kernels = weight.flatten(1).T.expand(len(y), -1, -1)
        paint = torch.bmm(kernels, y.flatten(2))
        return F.fold(paint, like.shape[-2:], k, stride=stride, padding=padding)
    extra = [
        n - ((m - 1) * stride - 2 * padding + k)
        for n, m in zip(like.shape[-2:], y.shape[-2:], strict=True)
    ]
    return F.conv_transpose2d(y, weight, stride=stride, padding=padding, output_padding=extra)
