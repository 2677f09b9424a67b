r"""Pictures with one true energy: the field is the gradient of a scalar, by automatic derivative.

Two forms. The first one asks how far a picture is from its own decoded self, and how its small
neighbourhoods look:

.. math:: E(x, y) = \frac s2\, \bigl\| x - D(x, y) \bigr\|^2
                    + \sum_k w_k \sum_p \sqrt{1 + (F_k * x + b_k)_p^2}

D is an Energy Transformer from picture to picture (`amtutor.generative.et_eqm`, with a
convolution in front), the second sum a convolutional synapse with a Lagrangian of its own, as in
chapter 4: its gradient is :math:`F^\top * \bigl(w\, u / \sqrt{1 + u^2}\bigr)`. The second form adds
the energies of the blocks themselves, and a cone that keeps far pictures from running away:

.. math:: E(x, y) = \sum_l \frac{\kappa_l}{N} E_l\bigl(g_l(x, y)\bigr)
                    + c \sqrt{\|x - m\|^2 + \delta^2} + \text{(the local sum)}

With ``cone`` the first form's parabola bends into a cone, the energy of a single datum (chapter 16)
with a round rim, at :math:`\delta = \text{cone} \cdot \sqrt{CHW}`:

.. math:: s\,\delta^2 \Bigl(\sqrt{1 + \|x - D(x, y)\|^2 / \delta^2} - 1\Bigr)
          + \text{(the local sum)}

Both are *one* energy of pixels and class: along ``x - eta * field(x, y)`` it falls, for eta small
enough, in ``no_grad`` as well. Training differentiates the gradient once more, two to three times
the arithmetic of a free field (chapter 17 counts it).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amtutor import _check
from amtutor.generative.et_eqm import (
    ClassHead,
    LocalField,
    PatchTokens,
    bend,
    filters,
    look_at,
    pulls,
    rounding,
    stack,
    stiff,
    through,
)
from amtutor.network.energy_transformer import EnergyTransformerBlock

__all__ = ["BlockEnergyModel", "DecodedDistance", "LocalEnergy", "compiled_field"]


class LocalEnergy(nn.Module):
    r"""Sum over places of :math:`w_k \sqrt{1 + (F_k * x + b_k)^2}`: (B, C, H, W) -> (B,).

    Convex bowls around what each filter likes not to see, where :math:`w_k > 0`; what it likes to
    see, where :math:`w_k < 0`. The weights start at zero.

    Args:
        channels: C. n_filters: k. size: odd, pixels a side.

    >>> LocalEnergy(1, n_filters=4)(torch.zeros(2, 1, 6, 6)).tolist()
    [0.0, 0.0]
    """

    def __init__(
        self,
        channels: int,
        *,
        n_filters: int = 48,
        size: int = 5,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        channels = _check.count("channels", channels)
        self.filters, self.bias = filters(channels, n_filters, size, generator=generator)
        self.weight = nn.Parameter(torch.zeros(len(self.filters)))

    def forward(self, x: Tensor) -> Tensor:
        """One value for each picture."""
        return self._energy(self._door(x))

    def _door(self, x: Tensor) -> Tensor:
        _check.same_kind("x", _check.floating("x", x), self.filters)
        return _check.shape("x", x, (None, self.filters.shape[1], None, None))

    def _energy(self, x: Tensor) -> Tensor:
        u = F.conv2d(x, self.filters, self.bias, padding="same")
        return ((1 + u.square()).sqrt().sum((-2, -1)) * self.weight).sum(-1)

    def gradient(self, x: Tensor) -> Tensor:
        r"""Closed form, :math:`F^\top * (w\,u/\sqrt{1 + u^2})`: (B, C, H, W) -> the same."""
        return self._gradient(self._door(x))

    def _gradient(self, x: Tensor) -> Tensor:
        u = F.conv2d(x, self.filters, self.bias, padding="same")
        back = self.weight[:, None, None, None] * self.filters
        return F.conv_transpose2d(bend(u), back, padding=self.filters.shape[-1] // 2)


class _Scalar(nn.Module):
    """What both forms share: stem, tokens, classes; a field that is the gradient of the energy."""

    def __init__(
        self,
        shape: Sequence[int],
        *,
        patch_size: int,
        dim: int,
        n_heads: int,
        head_dim: int,
        n_memories: int,
        depth: int,
        positions: str,
        n_classes: int,
        exclude_self: bool,
        mix_heads: bool,
        stem: int,
        n_filters: int,
        filter_size: int,
        generator: torch.Generator | None,
    ):
        super().__init__()
        self.null = _check.count("n_classes", n_classes)
        shape = _check.sizes("shape", shape, dims=(3,), expected="(C, H, H)")
        stem = _check.count("stem", stem, least=0)
        if stem:
            self.stem, self.stem_bias = filters(shape[0], stem, 3, generator=generator)
        self.tokens = PatchTokens(
            (shape[0] + stem, *shape[1:]),
            patch_size=patch_size,
            dim=dim,
            positions=positions,
            generator=generator,
        )
        self.shape = shape
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
        # What training may put in the gradient's place, see `compiled_field`.
        self.field_by: Callable[[Tensor, Tensor], Tensor] | None = None
        self.local = None
        if _check.count("n_filters", n_filters, least=0):
            self.local = LocalEnergy(
                shape[0], n_filters=n_filters, size=filter_size, generator=generator
            )

    def energy(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return one value for each picture, (B, C, H, H) -> (B,); labels None is "no class"."""
        return self._energy(x, look_at(x, labels, self.shape, self.null))

    def _energy(self, x: Tensor, labels: Tensor) -> Tensor:
        energy = self._far(x, labels)
        return energy if self.local is None else energy + self.local._energy(x)

    def _far(self, x: Tensor, labels: Tensor) -> Tensor:
        """Return the energy without its local part."""
        raise NotImplementedError  # of the two forms below

    def _seen(self, x: Tensor) -> Tensor:
        """Pixels and what the stem makes of them, as tokens."""
        if not hasattr(self, "stem"):
            return self.tokens(x)
        u = F.conv2d(x, self.stem, self.stem_bias, padding="same")
        return self.tokens(torch.cat([x, F.silu(u)], 1))

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        r"""The field :math:`\partial E / \partial x`; its own gradients flow where they are wanted.

        Under ``no_grad`` and ``inference_mode`` it is the same gradient.
        """
        labels = look_at(x, labels, self.shape, self.null)
        wanted = torch.is_grad_enabled()
        if wanted and self.field_by is not None:
            return self.field_by(x, labels)
        with torch.inference_mode(False), torch.enable_grad():
            z = x if wanted and x.requires_grad else x.detach().clone().requires_grad_()
            energy = self._far(z, labels.clone()).sum()
            (field,) = torch.autograd.grad(energy, z, create_graph=wanted)
        # The local part has a closed form, which is cheaper to differentiate again than its energy.
        return field if self.local is None else field + self.local._gradient(x)


class DecodedDistance(_Scalar):
    r"""The first form: half the squared distance to a decoded picture, and a local energy.

    Args:
        shape: (C, H, H), pixels in [-1, 1]. patch_size, dim, n_heads, head_dim, n_memories: sizes.
        depth: L blocks. descent_steps, step_size: T and alpha, of the tokens in each block.
        positions, n_classes, exclude_self: as `EnergyTransformerField`.
        mix_heads, class_in_blocks: as `EnergyTransformerField`.
        levels: 2 adds the same form, with weights of its own, of the picture at half its side; 3 a
            quarter's, too. All under one sum.
        cone: > 0 puts a cone with a round tip in the parabola's place, see the module's text.
        stiffness: s at the start.
        n_fine: filters of a local part of D itself, `LocalField`, which patches are blind to.
        stem: channels of a 3 x 3 convolution in front, 0 for none.
        n_filters, filter_size: of the local energy, 0 filters for none.

    Raises:
        ValueError: an argument has the wrong range.

    >>> net = DecodedDistance((1, 4, 4), patch_size=2, dim=8, n_heads=2, head_dim=4, n_memories=16)
    >>> x = torch.randn(3, 1, 4, 4)
    >>> net.energy(x).shape, net(x).shape
    (torch.Size([3]), torch.Size([3, 1, 4, 4]))
    """

    def __init__(
        self,
        shape: Sequence[int] = (3, 32, 32),
        *,
        patch_size: int = 4,
        dim: int = 96,
        n_heads: int = 4,
        head_dim: int = 16,
        n_memories: int = 384,
        depth: int = 2,
        descent_steps: int = 1,
        step_size: float = 1.0,
        positions: str = "sinusoidal",
        n_classes: int = 10,
        exclude_self: bool = True,
        mix_heads: bool = False,
        class_in_blocks: str = "no",
        levels: int = 1,
        cone: float = 0.0,
        stiffness: float = 1.0,
        n_fine: int = 0,
        stem: int = 16,
        n_filters: int = 48,
        filter_size: int = 5,
        generator: torch.Generator | None = None,
    ):
        sizes: dict[str, Any] = {
            "patch_size": patch_size,
            "dim": dim,
            "n_heads": n_heads,
            "head_dim": head_dim,
            "n_memories": n_memories,
            "depth": depth,
            "positions": positions,
            "n_classes": n_classes,
            "exclude_self": exclude_self,
            "mix_heads": mix_heads,
            "stem": stem,
            "n_filters": n_filters,
            "filter_size": filter_size,
            "generator": generator,
        }
        super().__init__(shape, **sizes)
        self.descent_steps = _check.count("descent_steps", descent_steps, least=0)
        self.step_size = _check.positive("step_size", step_size)
        self.head = ClassHead(
            dim,
            n_classes=n_classes,
            shape=self.shape,
            patch_size=patch_size,
            generator=generator,
        )
        self.cone = rounding(cone, self.shape)
        self.stiffness = nn.Parameter(stiff(stiffness))
        self.fine = None
        if _check.count("n_fine", n_fine, least=0):
            self.fine = LocalField(self.shape[0], n_fine, filter_size, generator=generator)
        self.pulls = pulls(class_in_blocks, depth, self.null, self.tokens.position)
        self.coarser = None
        if _check.count("levels", levels) > 1:
            side = self.shape[1]
            if side % 2:
                raise _check.fail("levels", levels, f"1: a side of {side} cannot be halved")
            self.coarser = DecodedDistance(
                (self.shape[0], side // 2, side // 2),
                descent_steps=descent_steps,
                step_size=step_size,
                class_in_blocks=class_in_blocks,
                levels=levels - 1,
                cone=cone,
                stiffness=stiffness,
                n_fine=n_fine,
                **sizes,
            )

    def decoded(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """D(x, y): what the tokens make of a picture, (B, C, H, H)."""
        return self._decoded(x, look_at(x, labels, self.shape, self.null))

    def _decoded(self, x: Tensor, labels: Tensor) -> Tensor:
        pull = None if self.pulls is None else self.pulls[:, labels]
        z = through(self.blocks, self._seen(x), self.descent_steps, self.step_size, pull)
        decoded = self.head(z, labels)
        return decoded if self.fine is None else decoded + self.fine(x)

    def _far(self, x: Tensor, labels: Tensor) -> Tensor:
        away = (x - self._decoded(x, labels)).square().flatten(1).sum(1)
        if self.cone:
            far = (1 + away / self.cone**2).sqrt() - 1
            away = 2 * self.cone**2 * far
        energy = 0.5 * self.stiffness * away
        if self.coarser is not None:
            energy = energy + self.coarser._energy(F.avg_pool2d(x, 2), labels)
        return energy


class BlockEnergyModel(_Scalar):
    r"""The second form: the blocks' own energies under one sum, a cone, and a local energy.

    The class is added to every token. Between blocks tokens take one step, as in the paper's model.

    Args:
        shape, patch_size, ..., filter_size: as `DecodedDistance`.
        corner: delta > 0, where the cone's tip is round, in units of :math:`\sqrt{CHW}`.

    Raises:
        ValueError: an argument has the wrong range.

    >>> small = {"dim": 16, "n_heads": 2, "head_dim": 8, "n_memories": 32, "n_filters": 4}
    >>> model = BlockEnergyModel((1, 8, 8), **small)
    >>> x, labels = torch.randn(2, 1, 8, 8), torch.tensor([3, 10])  # a three, and no class
    >>> model.energy(x, labels).shape, model(x, labels).shape  # the field is its gradient
    (torch.Size([2]), torch.Size([2, 1, 8, 8]))
    """

    def __init__(
        self,
        shape: Sequence[int] = (3, 32, 32),
        *,
        patch_size: int = 4,
        dim: int = 96,
        n_heads: int = 4,
        head_dim: int = 16,
        n_memories: int = 384,
        depth: int = 2,
        step_size: float = 1.0,
        positions: str = "sinusoidal",
        n_classes: int = 10,
        exclude_self: bool = True,
        mix_heads: bool = False,
        stem: int = 16,
        n_filters: int = 48,
        filter_size: int = 5,
        corner: float = 0.2,
        generator: torch.Generator | None = None,
    ):
        super().__init__(
            shape,
            patch_size=patch_size,
            dim=dim,
            n_heads=n_heads,
            head_dim=head_dim,
            n_memories=n_memories,
            depth=depth,
            positions=positions,
            n_classes=n_classes,
            exclude_self=exclude_self,
            mix_heads=mix_heads,
            stem=stem,
            n_filters=n_filters,
            filter_size=filter_size,
            generator=generator,
        )
        self.step_size = _check.positive("step_size", step_size)
        self.corner = _check.positive("corner", corner) * math.sqrt(math.prod(self.shape))
        self.classes = nn.Parameter(torch.zeros(self.null + 1, dim))
        self.share = nn.Parameter(torch.ones(len(self.blocks)))
        self.slope = nn.Parameter(torch.ones(()))
        self.middle = nn.Parameter(torch.zeros(self.shape))

    def _far(self, x: Tensor, labels: Tensor) -> Tensor:
        z = self._seen(x) + self.classes[labels][:, None]
        energy = self.slope * ((x - self.middle).square().flatten(1).sum(1) + self.corner**2).sqrt()
        for share, each in zip(self.share, self.blocks, strict=True):
            block = cast(EnergyTransformerBlock, each)
            g = block.norm.activation(z)
            energy = energy + share * block.energy(g) / z.shape[-2]
            z = z - self.step_size * block.gradient(g)
        return energy


def compiled_field(model: nn.Module, **options) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the field of a scalar model as one compiled function, for training.

    ``torch.compile(torch.func.grad(energy))``, of which an ordinary backward pass gives right
    second derivatives (`torch.autograd.grad` inside a compiled function does not). Where compiling
    fails a warning says so, and the same function is called as it is.

    Args:
        model: `DecodedDistance` or `BlockEnergyModel`. options: of ``torch.compile``.

    Raises:
        TypeError: the model has no energy.

    >>> small = {"dim": 16, "n_heads": 2, "head_dim": 8, "n_memories": 32, "n_filters": 4}
    >>> model = DecodedDistance((1, 8, 8), **small)
    >>> x, labels = torch.randn(2, 1, 8, 8), torch.tensor([3, 10])
    >>> field = compiled_field(model, backend="eager")  # leave backend out: then it is sooner
    >>> torch.allclose(field(x, labels), model(x, labels), atol=1e-5)
    True
    """
    if not isinstance(model, _Scalar):
        raise TypeError(f"model: got a {_check.describe(model)}, expected a model with an energy")
    gradient = torch.func.grad(lambda x, labels: model._energy(x, labels).sum())
    ways = [torch.compile(gradient, **options)]

    def field(x: Tensor, labels: Tensor) -> Tensor:
        try:
            return ways[0](x, labels)
        except Exception as error:  # what a compiler may raise is not ours to know
            if ways[0] is gradient:
                raise
            reason = " ".join(str(error).split())[:200]
            warnings.warn(f"not compiled, the plain gradient is taken: {reason}", stacklevel=2)
            ways[0] = gradient
            return gradient(x, labels)

    return field
