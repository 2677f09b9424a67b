"""The pictures of EM A.1 and A.2, drawn from a run (`amtutor figures RUN`)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from amtutor import show
from amtutor.memory.dense import DenseAM
from amtutor.train.pictures import grid
from amtutor.train.tasks._prototype_order import by_class_and_slant, nearest_label

Energies = list[tuple[int, float]]


def _save(fig, path: Path) -> Path:
    fig.savefig(path, dpi=150)
    return path


def _training_curve(ax, energies: Energies, steps: list[int] | None = None) -> None:
    ax.plot(*zip(*energies, strict=True), color=show.PALETTE["energy"], lw=1.2)
    for step in steps or []:
        ax.axvline(step, ls=":", lw=1, color=show.PALETTE["muted"])
    ax.set(xlabel="step", ylabel="mean energy of a batch")


def plane(
    film: Tensor, data: dict[str, Tensor], folder: Path, *, beta: float, energies: Energies
) -> list[Path]:
    """EM Fig 1 (points, memories and energy at five moments) and Fig 5 (the training curve)."""
    show.use_style()
    points = data["points"].cpu()
    fig, axes = show.figure(5, width=12.0, height=2.8)
    for ax, memories in zip(axes, film.cpu(), strict=True):
        known = DenseAM(memories, beta=beta)
        show.landscape(
            known.energy, bounds=(-3, 3), resolution=120, ax=ax, colourbar=False, ceiling=0.4
        )
        ax.plot(*points.T, ".", ms=2.5, color=show.PALETTE["wrong"])
        ax.plot(*memories.T, "*", ms=4, color=show.PALETTE["memory"])
        ax.set(xlim=(-3, 3), ylim=(-3, 3), xticks=[], yticks=[])
    done = [_save(fig, folder / "fig1_memories.png")]
    fig, ax = show.figure(width=6.0, height=2.8)
    _training_curve(ax, energies)
    return [*done, _save(fig, folder / "fig5_energy.png")]


def digits(
    film: Tensor,
    memories: Tensor,
    data: dict[str, Tensor],
    folder: Path,
    *,
    beta: float,
    energies: Energies,
    seen: list[Tensor],
    steps: list[int],
) -> list[Path]:
    """EM Fig 6 (memories, noise, retrieval at five moments; energy) and Fig 7 (all, sorted)."""
    show.use_style()
    rows: list[Tensor] = []
    titles: list[str] = []
    for frame, noisy, step in zip(film, seen, steps, strict=True):
        back = DenseAM(frame, beta=beta).recall(noisy.float(), steps=20).state
        rows += [frame[:12].cpu(), noisy.cpu(), back.cpu()]
        titles += [f"memories {step}", "noisy", "retrieved"]
    fig = show.image_grid(torch.stack(rows), shape=(28, 28), vmin=0, vmax=1, row_titles=titles)
    done = [_save(fig, folder / "fig6_snapshots.png")]
    fig, ax = show.figure(width=6.0, height=2.8)
    _training_curve(ax, energies, steps)
    done.append(_save(fig, folder / "fig6_energy.png"))
    memories = memories.detach()
    labels = nearest_label(memories, data["points"], data["labels"])
    order = by_class_and_slant(memories, labels)
    pictures = (255 * memories[order].clamp(0, 1)).round().to(torch.uint8)
    wall = grid(pictures.reshape(-1, 1, 28, 28), columns=40, gap=0, tile=0)[..., 0] / 255
    fig, ax = show.figure(width=8.0, height=8.0 * wall.shape[0] / wall.shape[1])
    show.image(wall, ax=ax, vmin=0, vmax=1)
    return [*done, _save(fig, folder / "fig7_prototypes.png")]
