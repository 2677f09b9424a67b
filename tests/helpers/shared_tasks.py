"""Tasks of which it is known what two processes must make of them."""

from __future__ import annotations

import torch
from torch import nn

from amtutor.train import Settings, Task, register
from amtutor.train.tasks.toy import Toy


@register("test-whole-numbers")
class WholeNumbers(Task):
    """Slopes are means of small whole numbers over 16 rows: exact, in whatever order they come."""

    Config = Settings

    def data(self):
        """Twenty rows of eight numbers."""
        g = torch.Generator().manual_seed(0)
        return {"x": torch.randint(-8, 9, (20, 8), generator=g).float()}

    def build(self):
        """One row of weights."""
        return nn.Linear(8, 1, bias=False)

    def loss(self, model, data, draws):
        """Linear in the weights, so that their slope does not depend on them."""
        shake = draws.integers("shake", -4, 5, (8,))
        return model(data["x"][draws.rows(20)] + shake).mean(), {}


@register("test-toy-64")
class Toy64(Toy):
    """The toy in float64."""

    def build(self):
        """Memories in float64."""
        return super().build().double()
