"""What EM shows of the latent memory, drawn from a run: Figs 2, 3, 4, 8, 9, 10 and 11."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

from amtutor import show
from amtutor.generative import latent
from amtutor.generative.latent import LatentMemory
from amtutor.memory.dense import lse_energy
from amtutor.train.pictures import grid

CODES = 20_000  # training pictures that are encoded, at most


def mosaic(images: Tensor, columns: int) -> np.ndarray:
    """Lay uint8 pictures (n, 3, H, W) out in rows as they are: (height, width, 3)."""
    return grid(images, columns=columns, gap=1, tile=0)


def draw(task: Any, model: LatentMemory, data: dict, folder: Path, metrics: list) -> list[Path]:
    """Draw all figures of a `latent` task into ``folder`` and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    show.use_style()
    with torch.no_grad():
        images = data["images"][:CODES]
        codes, memories = task.codes(model, images), model.memories.detach()
        sheets = {
            "fig02_samples": lambda: samples_and_noise(task, model),
            "fig03_memories": lambda: memories_and_neighbours(model, memories, codes, images),
            "fig04_energies": lambda: energies(model, memories, codes, images, task.config),
            "fig08_losses": lambda: losses(metrics),
            "fig09_gradients": lambda: gradients(metrics),
            "fig10_memories": lambda: sheet(model.decode_images(memories[:384]), 24),
            "fig11_samples": lambda: sheet(task.sample(model, 384, seed=2), 24),
        }
        files = []
        for name, make in sheets.items():
            fig = make()
            files.append(folder / f"{name}.png")
            fig.savefig(files[-1], dpi=120)
            plt.close(fig)
    return files


def sheet(images: Tensor, columns: int):
    """Show one mosaic."""
    picture = mosaic(images, columns)
    width = 8.0
    fig, ax = show.figure(width=width, height=width * picture.shape[0] / picture.shape[1])
    _place(ax, picture)
    return fig


def _place(ax, picture: np.ndarray, title: str = "") -> None:
    ax.imshow(picture, interpolation="nearest")
    ax.set_axis_off()
    ax.set_title(title)


def samples_and_noise(task: Any, model: LatentMemory):
    """EM Fig 2: samples, and the noise they came from, decoded."""
    c, device = task.config, task.device
    g = torch.Generator(device=device).manual_seed(1)
    start = c.sigma * torch.randn(64, c.dim, generator=g, device=device)
    walk = latent.sample_latents(
        model.memories.detach(),
        start=start,
        beta_whole=c.beta_whole_end,
        steps=c.descent_steps,
        step_size=c.descent_step_size,
        noise=c.langevin,
        generator=g,
    )
    fig, (a, b) = show.figure(2, width=8.0, height=4.3)
    _place(a, mosaic(model.decode_images(walk.state), 8), "samples")
    _place(b, mosaic(model.decode_images(start), 8), "their starts, decoded")
    return fig


def memories_and_neighbours(model, memories: Tensor, codes: Tensor, images: Tensor):
    """EM Fig 3: decoded memories, and eight of them with the three nearest training pictures.

    EM chose by hand; here they are, of the memories in use, four that lie nearest to a code and
    four that lie farthest from all.
    """
    used = latent.memory_counts(codes, memories) > 0
    gaps, nearest = torch.cdist(memories, codes).topk(3, largest=False)
    order = gaps[:, 0].masked_fill(~used, torch.inf).argsort()[: int(used.sum())]
    chosen = torch.cat([order[:4], order[-4:]])
    decoded = model.decode_images(memories[chosen])
    rows = [torch.cat([d[None], images[n]]) for d, n in zip(decoded, nearest[chosen], strict=True)]
    fig, (a, b) = show.figure(2, width=8.0, height=5.0)
    _place(a, mosaic(model.decode_images(memories[:64]), 8), "memories, decoded")
    _place(b, mosaic(torch.cat(rows), 4), "a memory, and its three nearest")
    return fig


def energies(model, memories: Tensor, codes: Tensor, images: Tensor, config):
    """EM Fig 4: energies of training pictures; the lowest and highest with their two memories."""
    level = 2 * lse_energy(codes, memories, beta=2 * config.beta_whole_end)
    order = level.argsort()
    fig = plt.figure(figsize=(8.0, 6.2), layout="constrained")
    (top,), (bottom,) = fig.subfigures(2, 1, squeeze=False, height_ratios=(1.0, 1.5))
    ax = top.subplots()
    ax.hist(level.cpu(), bins=80, density=True, color=show.PALETTE["energy"])
    ax.set(xlabel="energy of a training picture's code", ylabel="density")
    pair = bottom.subplots(1, 2)
    for ax, rows, title in zip(pair, (order[:6], order[-6:]), ("low", "high"), strict=True):
        two = torch.cdist(codes[rows], memories).topk(2, largest=False).indices
        shown = [
            torch.cat([image[None], model.decode_images(memories[pick])])
            for image, pick in zip(images[rows], two, strict=True)
        ]
        _place(ax, mosaic(torch.cat(shown), 6), f"{title}: picture, two nearest memories")
    return fig


def losses(metrics: list[dict]):
    """EM Fig 8: the two terms of the loss."""
    lines = [m for m in metrics if "energy" in m]
    steps = [m["step"] for m in lines]
    fig, (a, b) = show.figure(2, width=8.0, height=3.0)
    a.plot(steps, [m["energy"] for m in lines], color=show.PALETTE["energy"])
    b.plot(steps, [m["reconstruction"] for m in lines], color=show.PALETTE["ink"])
    a.set(xlabel="step", ylabel="energy", yscale="symlog")
    b.set(xlabel="step", ylabel="reconstruction error", yscale="log")
    return fig


def gradients(metrics: list[dict]):
    """EM Fig 9: how hard memories, encoder and decoder are pulled."""
    lines = [m for m in metrics if "gradient_memories" in m]
    if not lines:
        raise ValueError("metrics.jsonl has no gradient norms (log_gradients was off)")
    fig, ax = show.figure(width=8.0, height=3.2)
    colours = {"memories": "memory", "encoder": "query", "decoder": "trajectory"}
    for name, colour in colours.items():
        pairs = [(m["step"], m[f"gradient_{name}"]) for m in lines]
        ax.plot(*zip(*pairs, strict=True), color=show.PALETTE[colour], label=name)
    ax.set(xlabel="step", ylabel="norm of the gradient", yscale="log")
    ax.legend()
    return fig
