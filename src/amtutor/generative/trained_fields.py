r"""Fields of Equilibrium Matching that were trained and ship with the package.

``load("digits_eqm")`` and ``load("digits_eqm_scalar")`` draw handwritten digits, class by class
(28 x 28 pixels in [-1, 1]). The first is free, EQ's model with a skip and the class in each block's
energy; the second is the gradient of one energy, see `amtutor.generative.scalar_et`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from amtutor import _check, _weights
from amtutor.generative.et_eqm import EnergyTransformerField
from amtutor.generative.scalar_et import BlockEnergyModel, DecodedDistance
from amtutor.generative.sit import SiT

__all__ = ["MODELS", "build", "load"]

MODELS: dict[str, Any] = {
    "et": EnergyTransformerField,
    "decoded-distance": DecodedDistance,
    "block-energies": BlockEnergyModel,
    "sit": SiT,
}


def build(model: str, shape: Sequence[int], **sizes: Any) -> nn.Module:
    """Return a new field by the name of its kind.

    Args:
        model: one of `MODELS`. shape: (C, H, H). sizes: of that class.

    Raises:
        ValueError: no such kind, or a size that does not fit.

    >>> build("sit", (1, 4, 4), patch_size=2, dim=8, n_heads=2, depth=1).null
    10
    """
    return MODELS[_check.choice("model", model, tuple(MODELS))](shape, **sizes)


def load(name: str) -> nn.Module:
    """Return a field that ships, in eval mode: ``field(x, labels)``, and its ``null`` label.

    Raises:
        ValueError: no field of this name ships (with the names of those that do).
    """
    tensors, card = _weights.shipped(name, kind="equilibrium field")
    generator = torch.Generator().manual_seed(0)
    field = build(**card["config"], generator=generator)
    field.load_state_dict({k: v.float() for k, v in tensors.items()})
    return field.eval().requires_grad_(False)
