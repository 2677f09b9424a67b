"""The five-floor memory of chapter 5 and its feed-forward twin: digits named and completed.

Each step settles what it asked, a few rounds of it, and pushes the weights by what came out: the
name of a whole digit; the pixels, and the name, of a digit with a gap.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from amtutor import _check, _weights
from amtutor.data import split_digits
from amtutor.network.ham import HAM, States
from amtutor.network.lagrangians import Softmax
from amtutor.network.towers import ask, one_way, pixels, tower
from amtutor.train import Draws, Settings, Task, ranged, register

ASKED = 10  # rounds that a digit gets when it is measured
_WORDS = {
    "tower": "a tower of five floors",
    "one-way": "the feed-forward twin of a tower of five floors",
}
NAME_OF_HALF = 0.3  # weight of the name of a digit with a gap


@dataclass(frozen=True, kw_only=True)
class TowerSettings(Settings):
    """Settings of tower and twin."""

    # "tower", or "one-way": its twin, that listens downstairs only and completes nothing.
    which: str = ranged("tower", choices=("tower", "one-way"))
    digits: str = ranged("mnist", choices=("mnist", "small"))  # small: scikit-learn's 8 x 8
    held_out: int = ranged(0, least=0, most=4000)  # 0: measure on the digits held out for good
    channels: int = ranged(32, least=1, most=512)
    kernel_size: int = ranged(6, least=1, most=28)
    stride: int = ranged(2, least=1, most=28)
    hidden: int = ranged(256, least=1, most=4096)
    coupling: float = ranged(1.0, above=0, most=1e3)
    completed: float = ranged(1 / 3, least=0, below=1)  # share of a batch that has a gap
    completion_weight: float = ranged(1.0, least=0, most=1e6)
    rounds: tuple[int, int] = ranged((3, 6), least=1, most=1000)  # each step draws one of them
    turn: float = ranged(0.22, least=0, most=3.2)  # radians, most either way
    zoom: float = ranged(0.12, least=0, below=1)
    shear: float = ranged(0.2, least=0, below=1)
    move: float = ranged(2.0, least=0, most=28)  # pixels

    def __post_init__(self) -> None:
        """See that the tower can be built."""
        super().__post_init__()
        if self.rounds[0] > self.rounds[1]:
            raise ValueError(f"rounds = {self.rounds}: expected (fewest, most)")
        side = self.sizes()["shape"][-1]
        if (side - self.kernel_size) // self.stride < 1:
            raise _check.fail(
                "kernel_size", self.kernel_size, f"2 or more windows a side in {side} pixels"
            )

    def sizes(self) -> dict:
        """Return what `tower` is called with."""
        names = ("channels", "kernel_size", "stride", "hidden", "coupling")
        side = {"mnist": 28, "small": 8}[self.digits]
        return {"shape": (1, side, side), **{name: getattr(self, name) for name in names}}


@register("tower")
class Tower(Task[TowerSettings, HAM]):
    """Name digits, and complete them; the twin names them only."""

    Config = TowerSettings

    def __init__(self, config: TowerSettings, device: torch.device | str = "cpu"):
        super().__init__(config, device)
        self.draws_pictures = config.which == "tower"
        # The twin's reading of its floors leaves the way down unused.
        self.unused_parameters = config.which == "one-way"

    def data(self) -> dict[str, Tensor]:
        """Digits to learn from and digits to look at, (n, 1, S, S) in [0, 1], with their names."""
        (x, y), (held, held_y) = split_digits(self.config.digits)
        if n := self.config.held_out:
            x, y, held, held_y = x[:-n], y[:-n], x[-n:], y[-n:]
        found = {"images": x, "labels": y, "held": held, "held_labels": held_y}
        return {k: v.to(self.device) for k, v in found.items()}

    def build(self) -> HAM:
        """A tower that knows nothing."""
        return tower(**self.config.sizes())

    def loss(
        self, model: HAM, data: dict[str, Tensor], draws: Draws
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy of names, of pixels in the gaps, and of names of digits with a gap."""
        c, rows = self.config, draws.rows(len(data["images"]))
        x, y = wobble(data["images"][rows], c, draws.uniform("wobble", (5,))), data["labels"][rows]
        if c.which == "one-way":
            loss = F.cross_entropy(logits(model, one_way(model, x)), y)
            return loss, {"name": loss.detach()}
        n = len(x) - round(c.completed * len(x))
        low, high = c.rounds
        generator = draws.shared("rounds")
        drawn = torch.randint(low, high + 1, (), generator=generator, device=generator.device)
        losses = {"name": named(model, x[:n], y[:n], int(drawn))}
        if n < len(x):
            seen = halves(x.shape[-1])[draws.integers("gap", 0, 6)[n:].cpu()].to(x.device)
            told = draws.uniform("told")[n:] < 0.5
            losses |= completed(model, x[n:], y[n:], seen, told, int(drawn))
        weights = {"name": 1.0, "pixels": c.completion_weight, "name_half": NAME_OF_HALF}
        loss = torch.stack([weights[k] * v for k, v in losses.items()]).sum()
        return loss, {k: v.detach() for k, v in losses.items()}

    def evaluate(self, model: HAM, data: dict[str, Tensor]) -> dict[str, float]:
        """Share of held-out digits named; the error of lower halves completed from upper ones."""
        x, y = data["held"], data["held_labels"]
        found = {"accuracy": accuracy(model, x, y, self.config.which, ASKED)}
        if self.config.which == "tower":
            found["accuracy_50_rounds"] = accuracy(model, x, y, "tower", 50)
            found["mse_lower_half"] = float(gap_error(x, lower(model, x)))
            found["mse_lower_half_named"] = float(gap_error(x, lower(model, x, y)))
        return found

    def sample(self, model: HAM, n: int, *, seed: int) -> Tensor:
        """Digits held out, three tiles each: the upper half, completed, true."""
        data = self.data()
        g = torch.Generator().manual_seed(seed)
        true = data["held"][torch.randint(len(data["held"]), (-(-n // 3),), generator=g)]
        half = true.clone()
        half[..., true.shape[-2] // 2 :, :] = 0.5
        rows = torch.stack([half, lower(model, true), true], 1).flatten(0, 1)
        return (255 * rows[:n]).round().byte()

    def finish(self, model: HAM, folder: Path) -> None:
        """Write the weights, float16, and their card, as they ship in the package."""
        c = self.config
        size = {k: v for k, v in c.sizes().items() if k != "coupling"}
        small = {"mnist": f"ham_mnist_{c.which.replace('-', '_')}", "small": "ham_digits_small"}
        _weights.ship(
            Path(folder) / f"{small[c.digits]}.safetensors",
            _weights.half(model.state_dict()),
            kind="tower",
            what=f"{_WORDS[c.which]} that learned digits ({c.digits}), float16",
            config=size,
            training=c.to_dict(),
        )


# ---------------------------------------------------------------------------- what is asked


def wobble(x: Tensor, config: TowerSettings, dice: Tensor) -> Tensor:
    """Turn, zoom, shear and move every digit (B, 1, S, S) by its own amounts.

    ``dice`` (B, 5) in [0, 1) says how much of what the settings allow, from all one way to all
    the other: turn, zoom, shear, right, down.
    """
    a, s, k, *move = ((2 * dice - 1) * dice.new_tensor(_most(config, x.shape[-1]))).unbind(1)
    rows = (
        torch.stack([(1 + s) * a.cos(), (1 + s) * (k - a.sin()), move[0]], 1),
        torch.stack([(1 + s) * a.sin(), (1 + s) * a.cos(), move[1]], 1),
    )
    grid = F.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False).clamp(0, 1)


def _most(config: TowerSettings, side: int) -> list[float]:
    c, move = config, config.move / (side / 2)
    return [c.turn, c.zoom, c.shear, move, move]


def halves(side: int) -> Tensor:
    """What may be seen of a digit: four halves, the upper one twice, or nothing; bool (6, 1, S, S).

    >>> halves(4).float().mean((1, 2, 3)).tolist()
    [0.5, 0.5, 0.5, 0.5, 0.5, 0.0]
    """
    seen, half = torch.zeros(6, 1, side, side, dtype=torch.bool), side // 2
    seen[0, :, :half], seen[1, :, half:] = True, True
    seen[2, ..., :half], seen[3, ..., half:] = True, True
    seen[4, :, :half] = True
    return seen


def named(ham: HAM, x: Tensor, y: Tensor, rounds: int) -> Tensor:
    """Cross-entropy of the names that whole digits get."""
    states, clamp = ask(ham, x)
    end = settled(ham, states, rounds, clamp)
    return F.cross_entropy(logits(ham, end["label"]), y)


def completed(
    ham: HAM, x: Tensor, y: Tensor, seen: Tensor, told: Tensor, rounds: int
) -> dict[str, Tensor]:
    """Losses of digits of which only ``seen`` is shown; those who see nothing are told the name."""
    told = told | ~seen.flatten(1).any(1)
    states, clamp = ask(ham, x, torch.where(told, y, -1), seen=seen)
    end = settled(ham, states, rounds, clamp)
    losses = {"pixels": F.binary_cross_entropy_with_logits(2 * end["image"][~seen], x[~seen])}
    if not bool(told.all()):
        losses["name_half"] = F.cross_entropy(logits(ham, end["label"][~told]), y[~told])
    return losses


def settled(ham: HAM, states: States, rounds: int, clamp: dict) -> States:
    """Return the states after so many rounds."""
    return ham.settle(states, steps=rounds, clamp=clamp).state


def logits(ham: HAM, label: Tensor) -> Tensor:
    """Turn the top floor's state into logits."""
    softmax = ham.layers["label"].lagrangian
    assert isinstance(softmax, Softmax)  # of a `tower`
    return softmax.beta * label


# ---------------------------------------------------------------------------- what is measured


@torch.no_grad()
def accuracy(ham: HAM, x: Tensor, y: Tensor, which: str, rounds: int) -> float:
    """Share of digits whose name comes out right, the picture held and all else let go."""
    right = 0
    for a, b in zip(x.split(500), y.split(500), strict=True):
        if which == "one-way":
            top = one_way(ham, a)
        else:
            states, clamp = ask(ham, a)
            top = settled(ham, states, rounds, clamp)["label"]
        right += int((top.argmax(-1) == b).sum())
    return right / len(y)


@torch.no_grad()
def lower(ham: HAM, x: Tensor, y: Tensor | None = None) -> Tensor:
    """Complete lower halves from upper ones, told the name or not: (B, 1, S, S) in [0, 1]."""
    states, clamp = ask(ham, x, y, seen=halves(x.shape[-1])[0])
    return pixels(ham, settled(ham, states, ASKED, clamp))


def gap_error(x: Tensor, found: Tensor) -> Tensor:
    """Mean squared error of the lower half."""
    return (found - x)[..., x.shape[-2] // 2 :, :].square().mean()
