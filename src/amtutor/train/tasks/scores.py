"""A score learned by denoising (MM 4.3, chapters 8 and 9): points on a circle, or small digits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from amtutor import _weights
from amtutor.data import split_digits
from amtutor.generative import score_networks as sn
from amtutor.generative.diffusion import VarianceExploding, empirical_score, probability_flow
from amtutor.generative.fields import asymmetry
from amtutor.train import Draws, Settings, Task, ranged, register

ASKED = 400  # samples that a network is judged by
FLOW_STEPS = 100


@dataclass(frozen=True, kw_only=True)
class ScoreSettings(Settings):
    """Settings of a score network."""

    points: str = ranged("circle", choices=("circle", "digits"))
    n_memories: int = ranged(9, least=1, most=10**6)  # K, how many points are learned
    data_seed: int = ranged(0, least=0, most=2**63 - 1)  # which points of the circle
    kind: str = ranged("score", choices=("score", "energy"))  # free arrows, or a slope (MPS 18)
    width: int = ranged(128, least=1, most=4096)
    depth: int = ranged(3, least=1, most=64)
    sigma: float = ranged(1.0, above=0, most=1e6)
    t_min: float = ranged(1e-4, above=0, most=1e9)
    t_max: float = ranged(9.0, above=0, most=1e9)
    # "log": the width of the noise is drawn evenly in its logarithm. "uniform" is MM 4.3 as it
    # stands, which hardly ever draws a small time.
    time_draw: str = ranged("log", choices=("log", "uniform"))
    weight: float = ranged(1.0, least=0, most=4)  # the loss is weighted by width^(2 weight)

    def __post_init__(self) -> None:
        """See that time runs, and that there are so many digits."""
        super().__post_init__()
        if self.t_min >= self.t_max:
            raise ValueError(f"t_min = {self.t_min:g}: expected less than t_max = {self.t_max:g}")
        if self.points == "digits" and self.n_memories > 1400:
            raise ValueError(f"n_memories = {self.n_memories}: expected at most 1400 digits")


Network = sn.ScoreNetwork | sn.EnergyNetwork


@register("scores")
class Scores(Task[ScoreSettings, Network]):
    """Learn the score of K points at all widths of noise."""

    Config = ScoreSettings

    def __init__(self, config: ScoreSettings, device: torch.device | str = "cpu"):
        super().__init__(config, device)
        self.draws_pictures = config.points == "digits"

    @property
    def process(self) -> VarianceExploding:
        """The noise."""
        return VarianceExploding(self.config.sigma)

    def data(self) -> dict[str, Tensor]:
        """Points to learn, (K, D)."""
        return {"points": self.points().to(self.device)}

    def points(self) -> Tensor:
        """Return them on the CPU, whatever device a model is built or counted on."""
        c = self.config
        with torch.device("cpu"):
            if c.points == "circle":
                return circle_points(c.n_memories, seed=c.data_seed)
            return split_digits("small")[0][0][: c.n_memories].flatten(1)

    def sizes(self) -> dict:
        """Return what `score_networks.build` is called with, and ships on the card."""
        c, points = self.config, self.points()
        spread = (points - points.mean(0)).square().mean().sqrt()
        return {
            "kind": c.kind,
            "dim": points.shape[1],
            "sigma": c.sigma,
            "width": c.width,
            "depth": c.depth,
            "spread": float(spread) or 1.0,  # a single point has none
        }

    def build(self) -> Network:
        """A network that knows where the data lie, and how wide."""
        size = self.sizes()
        return sn.KINDS[size["kind"]](
            size["dim"],
            process=self.process,
            width=size["width"],
            depth=size["depth"],
            centre=self.points().mean(0),
            spread=size["spread"],
        )

    def loss(
        self, model: Network, data: dict[str, Tensor], draws: Draws
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Denoising score matching, the mean over the batch."""
        c, points = self.config, data["points"]
        y = points[draws.integers("rows", 0, len(points))]
        u = draws.uniform("times")
        if c.time_draw == "log":
            t = c.t_min * (c.t_max / c.t_min) ** u
        else:
            t = c.t_min + (c.t_max - c.t_min) * u
        noise = draws.normal("noise", points.shape[1:])
        loss = sn.denoising_loss(model, y, t=t, process=self.process, noise=noise, weight=c.weight)
        return loss.mean(), {}

    def evaluate(self, model: Network, data: dict[str, Tensor]) -> dict[str, float]:
        """How far the score is off where noisy data are, and on its own way; where that ends.

        Errors are relative to the exact score, each weighted by the width of its noise.
        """
        c, points, process = self.config, data["points"], self.process
        model.requires_grad_(False)
        times = process.times(c.t_max, c.t_min, steps=FLOW_STEPS)
        path = probability_flow(
            model, self._start(ASKED, seed=1), process=process, times=times, record=True
        )
        assert path.states is not None
        g = torch.Generator().manual_seed(2)
        wrong, whole, turns = torch.zeros(2), torch.zeros(2), 0.0
        seen = list(zip(times.tolist(), path.states, strict=True))[:: FLOW_STEPS // 20]
        for t, own in seen:
            rows = torch.randint(len(points), (ASKED,), generator=g).to(points.device)
            noisy, _ = process.perturb(points[rows], t=t, generator=g)
            for i, x in enumerate((noisy, own)):
                exact = empirical_score(x, points, process=process, t=t)
                wrong[i] += t * (model(x, t) - exact).square().sum().cpu()
                whole[i] += t * exact.square().sum().cpu()
            turns += float(asymmetry(partial(model, t=t), noisy[:20]).mean()) / len(seen)
        error = (wrong / whole).sqrt()
        gap = torch.cdist(path.state, points).amin(1)
        found = {
            "relative_error": float(error[0]),
            "relative_error_own_way": float(error[1]),
            "asymmetry": turns,
            "distance_to_points": float(gap.mean()),
        }
        if c.points == "circle":
            found["distance_to_circle"] = float((path.state.norm(dim=1) - 1).abs().mean())
        return found

    def _start(self, n: int, *, seed: int) -> Tensor:
        """From the prior, never from the data."""
        g = torch.Generator().manual_seed(seed)
        dim = 2 if self.config.points == "circle" else 64
        return self.process.prior(n, dim, t=self.config.t_max, generator=g).to(self.device)

    def sample(self, model: Network, n: int, *, seed: int) -> Tensor:
        """New digits, (n, 1, 8, 8) uint8; points of a circle are no pictures."""
        c = self.config
        times = self.process.times(c.t_max, c.t_min, steps=FLOW_STEPS)
        x = probability_flow(
            model, self._start(n, seed=seed), process=self.process, times=times
        ).state
        return (255 * x.clamp(0, 1)).round().to(torch.uint8).reshape(n, 1, 8, 8)

    def finish(self, model: Network, folder: Path) -> None:
        """Write the weights and the points they learned, float16, as they ship."""
        c, points = self.config, self.data()["points"]
        several = "" if c.kind == "score" else "_energy"
        _weights.ship(
            Path(folder) / f"{c.points}_{c.n_memories}{several}.safetensors",
            {**_weights.half(model.state_dict()), "points": points.half()},
            kind="score network",
            what=f"{c.kind} network of {c.n_memories} points ({c.points}), float16",
            config=self.sizes(),
            training=c.to_dict(),
        )


def circle_points(n: int, *, seed: int) -> Tensor:
    """Give n points anywhere on the unit circle, (n, 2).

    >>> float(circle_points(3, seed=0).norm(dim=1).max().round(decimals=5))
    1.0
    """
    g = torch.Generator().manual_seed(seed)
    angle = 2 * math.pi * torch.rand(n, generator=g, dtype=torch.float64)
    return torch.stack([angle.cos(), angle.sin()], -1).float()
