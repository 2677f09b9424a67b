"""An Energy Transformer learns to complete pictures: the whole training, by hand, in one sitting.

    python examples/energy_transformer_by_hand.py

Half or three quarters of the 4 x 4 patches of a CIFAR-10 picture are hidden; the model goes down
its energy from what is left, and the error on what was hidden is pushed down. This is what
`amtutor train et-completion` does, without resuming, several processes, checkpoints and logs: a
test holds that both come to the same weights. 300 steps of a small model take a minute or two on
one core.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from amtutor import data
from amtutor.network.masked_images import STD, MaskedImageModel, hide_patches, to_patches

STEPS, BATCH, WARMUP = 300, 32, 50
LR, DECAY, CLIP, EMA = 6e-3, 0.01, 1.0, 0.99
SIZES = {"dim": 64, "n_heads": 4, "head_dim": 16, "n_memories": 128, "descent_steps": 4}
SIZES |= {"step_size": 0.4, "patch_size": 4}
HELD_OUT = 500  # pictures that are never learned from
VARIANCE = STD**2  # of CIFAR-10's pixels: an error of 1 is that of guessing grey
Batch = tuple[Tensor, Tensor]


def batches(images: Tensor, *, seed: int = 0) -> Iterator[Batch]:
    """Pictures (B, 3, 32, 32) in [0, 1], half of them mirrored, and what is hidden (B, 64)."""
    g = torch.Generator().manual_seed(seed)
    while True:
        for rows in torch.randperm(len(images), generator=g).split(BATCH):
            x = images[rows].float() / 255
            x = torch.where(torch.rand(len(x), 1, 1, 1, generator=g) < 0.5, x, x.flip(-1))
            share = torch.tensor([0.5, 0.75])[torch.randint(2, (len(x),), generator=g)]
            yield x, hide_patches(len(x), 64, share, generator=g)


def rate(step: int) -> float:
    """Warm up in a line, then go down a cosine."""
    if step < WARMUP:
        return LR * (step + 1) / (WARMUP + 1)
    through = (step - WARMUP) / (STEPS - 1 - WARMUP)
    return LR * 0.5 * (1 + math.cos(math.pi * through))


def loss_of(model: MaskedImageModel, x: Tensor, hidden: Tensor) -> Tensor:
    """Mean squared error of the hidden patches, in units of the pixels' variance."""
    error = (model(x, hidden) - to_patches(x, model.patch_size)).square().mean(-1)
    return (error * hidden).sum() / hidden.sum() / VARIANCE


def optimiser_of(model: nn.Module) -> torch.optim.Optimizer:
    """AdamW; matrices decay, biases and scales do not."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    flat = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices}, {"params": flat, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.95), weight_decay=DECAY)


def train(model: MaskedImageModel, batches: Iterable[Batch]) -> dict[str, Tensor]:
    """Train the model in place; return the running average of its weights."""
    optimiser = optimiser_of(model)
    mean = {name: p.detach().clone() for name, p in model.named_parameters()}
    for step, (x, hidden) in zip(range(STEPS), batches, strict=False):
        for group in optimiser.param_groups:
            group["lr"] = rate(step)
        loss = loss_of(model, x, hidden)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimiser.step()
        with torch.no_grad():
            for block in model.blocks:  # the energy falls only while gamma is positive
                block.norm.gamma.clamp_(min=1e-3)
            keep = min(EMA, (2 + step) / (11 + step))  # early weights are soon forgotten
            for name, p in model.named_parameters():
                mean[name].lerp_(p, 1 - keep)
        if step % 20 == 0 or step == STEPS - 1:
            print(f"step {step + 1:4}  error {loss.item():.3f}", flush=True)
    return mean


def main() -> None:
    """Train on all pictures but the last few, and measure those."""
    images = torch.from_numpy(data.cifar10("train")[0])
    model = MaskedImageModel(**SIZES, generator=torch.Generator().manual_seed(0))
    model.load_state_dict(train(model, batches(images[:-HELD_OUT])))
    x = images[-HELD_OUT:].float() / 255
    for share in (0.5, 0.75):
        hidden = hide_patches(len(x), 64, share, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            error = VARIANCE * loss_of(model, x, hidden)
        print(f"{share:.0%} hidden: mean squared error {error:.4f}, grey {VARIANCE:.4f}")


if __name__ == "__main__":
    main()
