"""Bad input at every public callable gets one clear line; nothing that is wrong is accepted.

A new function is met by this test on the day it is exported: its parameters take the values of
`BY_NAME` (the house has one word for one thing), or of `BY_CALL` where a word means something else.
What cannot be called like this stands in `APART`, with the reason.
"""

from __future__ import annotations

import fnmatch
from typing import Any

import numpy as np
import torch
from contract import Public

from amtutor.memory import dense, discrete, prediction, separations
from amtutor.network import energy_transformer as et
from amtutor.network import ham as hm
from amtutor.network import lagrangians as lag
from amtutor.network import masked_images, synapses, towers

B, D, K, N = 3, 4, 5, 3


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def spins(*shape: int) -> torch.Tensor:
    return draw(*shape).sign()


def small_ham() -> hm.HAM:
    g = torch.Generator().manual_seed(0)
    layers = {"v": hm.NeuronLayer(lag.Tanh(), 4), "m": hm.NeuronLayer(lag.Softmax(), 3)}
    return hm.HAM(layers, [(("m", "v"), synapses.Dense(3, 4, generator=g))])


def small_block() -> et.EnergyTransformerBlock:
    g = torch.Generator().manual_seed(0)
    return et.EnergyTransformerBlock(D, n_heads=2, head_dim=3, n_memories=6, generator=g)


def bowl(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * x.square().sum(-1)


# One word for one thing: what a parameter of this name is given, wherever it stands.
BY_NAME: dict[str, Any] = {
    "x": lambda: draw(B, D),
    "x0": lambda: draw(B, D),
    "memories": lambda: draw(K, D, seed=1),
    "patterns": lambda: spins(K, 8),
    "state": lambda: spins(B, 8),
    "states": lambda: small_ham().states(2, std=1.0, generator=torch.Generator().manual_seed(0)),
    "energy": lambda: bowl,
    "g": lambda: draw(B, N, D),
    "images": lambda: torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)),
    "beta": lambda: 2.0,
    "steps": lambda: 2,
    "step_size": lambda: 0.1,
    "tol": lambda: 0.1,
    "noise": lambda: 0.1,
    "momentum": lambda: 0.5,
    "generator": lambda: torch.Generator().manual_seed(0),
    "dim": lambda: D,
    "n": lambda: 3,
    "n_memories": lambda: 6,
    "n_patterns": lambda: 4,
    "n_heads": lambda: 2,
    "head_dim": lambda: 3,
    "chunk": lambda: 2,
    "seed": lambda: 1,
    "ham": small_ham,
    "block": small_block,
    "separation": lambda: separations.Polynomial(2),
    "rule": lambda: "exact",
}

BY_NAME |= {
    "activations": lambda: draw(B, D),
    "alpha": lambda: 0.5,
    "below": lambda: 0.05,
    "beta_whole": lambda: 2.0,
    "bounds": lambda: (-2.0, 2.0),
    "channels": lambda: 3,
    "classes": lambda: 10,
    "clean": lambda: draw(B, D, seed=2),
    "coupling": lambda: 1.0,
    "decoded": lambda: draw(B, 7),
    "depth": lambda: 1,
    "descent_steps": lambda: 2,
    "error": lambda: 0.01,
    "features": lambda: draw(K, D, seed=1),
    "fraction": lambda: 0.5,
    "head_dim": lambda: 3,
    "hidden": lambda: torch.tensor([[True, False, True, False]]).expand(2, 4),
    "high": lambda: 1.0,
    "image_size": lambda: 8,
    "jitter": lambda: 0.1,
    "kappa": lambda: 1.0,
    "keys": lambda: draw(K, D, seed=1),
    "labels": lambda: torch.arange(B),
    "latents": lambda: draw(9, D),
    "lr": lambda: 0.01,
    "mix": lambda: 0.5,
    "n_images": lambda: 2,
    "n_patches": lambda: 4,
    "patch_size": lambda: 4,
    "points": lambda: draw(9, D, seed=3),
    "query": lambda: draw(B, D),
    "samples": lambda: np.zeros((4, 3, 32, 32), np.uint8),
    "sigma": lambda: 1.0,
    "std": lambda: 0.5,
    "targets": lambda: draw(K, 2, seed=2),
    "tau": lambda: 1.0,
    "tokens": lambda: draw(2, 4, D),
    "train": lambda: np.zeros((4, 3, 32, 32), np.uint8),
    "trials": lambda: 2,
    "values": lambda: draw(K, D, seed=2),
    "who": lambda: torch.tensor([True, False, True, False, False]),
    "y": lambda: draw(B, 2, seed=4),
    "z": lambda: draw(B, D),
}

# Where a word means something else.
BY_CALL: dict[str, dict[str, Any]] = {
    "data.*": {"shape": lambda: (2, 2), "split": lambda: "test"},
    "data.corrupt.flip_bits": {"x": lambda: spins(B, D)},
    "data.convert.*": {"images": lambda: torch.rand(2, 4)},
    "data.shapes.dinosaur": {"n": lambda: 5},
    "descent.distinct": {"states": lambda: draw(B, D)},
    "fast.*recall": {
        "memory": lambda: discrete.DiscreteDenseAM(spins(K, 8), separations.Polynomial(2))
    },
    "fast.*retrieve": {"memory": lambda: dense.DenseAM(draw(K, D), beta=2.0)},
    "fast._walk.walk": {"x": lambda: draw(B, N, D)},
    "memory.capacity.*": {"dim": lambda: 20, "bits": lambda: 400, "guess": lambda: 3.0},
    "memory.capacity.sign_sum_moment": {"power": lambda: 4, "count": lambda: 9},
    "memory.capacity.weighted_fit": {
        "columns": lambda: [[1, 1, 1], [0, 1, 2]],
        "y": lambda: [1, 3, 5],
        "spread": lambda: [1, 1, 1],
    },
    "memory.capacity.wilson_interval": {"hits": lambda: 2, "total": lambda: 5, "z": lambda: 1.96},
    "memory.dense.DenseAM": {"energy": lambda: "lse"},
    "memory.discrete.visit_by_definition": {
        "state": lambda: spins(8),
        "visits": lambda: torch.arange(8),
        "energy": lambda: lambda s: s.sum(),
    },
    "memory.prediction.Assoc*.fit": {
        "y": lambda: np.arange(12) % 2,
        "X": lambda: draw(12, 3).numpy(),
    },
    "memory.prediction.Assoc*.predict*": {"X": lambda: draw(12, 3).numpy()},
    "memory.prediction.recall": {"clamp": lambda: "x"},
    "memory.prediction.clamped_descent": {"pull": lambda: draw(B, K), "start": lambda: draw(B, 2)},
    "memory.prototypes.anneal": {
        "start": lambda: 1.0,
        "end": lambda: 0.1,
        "step": lambda: 1,
        "steps": lambda: 4,
    },
    "memory.prototypes.learn": {"batch_size": lambda: 4, "rule": lambda: "push down"},
    "memory.prototypes.log_partition_by_quadrature": {"dim": lambda: 2, "points": lambda: 20},
    "memory.prototypes.replace": {"x": lambda: draw(9, D)},
    "memory.separations.*": {
        "n": lambda: 3,
        "m": lambda: torch.tensor([0.5, -0.5]),
        "s": lambda: 4,
    },
    "network.energy_transformer.*": {"gamma": lambda: 1.0, "x": lambda: draw(B, N, D)},
    "network.ham.HAM.states": {"*": lambda: (2,)},
    "network.ham.NeuronLayer": {"lagrangian": lag.Tanh, "shape": lambda: 4},
    "network.lagrangians.*": {"delta": lambda: 0.0},
    "network.lagrangians.RectifiedPower": {"n": lambda: 3.0},
    "network.masked_images.PlainTransformer": {"hidden": lambda: 8},
    "network.masked_images.*frames": {"states": lambda: draw(3, 2, 4, 8)},
    "network.masked_images.to_pictures": {"patches": lambda: torch.rand(2, 4, 48)},
    "network.inpainting.pixel_mask": {"hidden": lambda: torch.eye(4, dtype=torch.bool)},
    "network.synapses.Attention": {"query_dim": lambda: D, "key_dim": lambda: D},
    "network.synapses.Attention.forward": {
        "queries": lambda: draw(B, N, D),
        "keys": lambda: draw(B, K, D),
    },
    "network.synapses.Bias": {"*": lambda: (D,)},
    "network.synapses.Conv2d": {
        "in_channels": lambda: 1,
        "out_channels": lambda: 2,
        "kernel_size": lambda: 3,
        "weight": None,
    },
    "network.synapses.Dense": {"*": lambda: (3, 4)},
    "network.synapses.Hopfield": {"*": lambda: (D, 6), "memories": None},
    "network.synapses.Pool2d": {"kernel_size": lambda: 2, "strength": None},
    "network.towers.*": {
        "images": lambda: torch.rand(B, 1, 8, 8),
        "ham": lambda: towers.load("small"),
    },
    "network.towers.tower": {
        "shape": lambda: (1, 8, 8),
        "channels": lambda: 2,
        "kernel_size": lambda: 3,
        "hidden": lambda: 5,
        "look": lambda: 0.4,
        "stride": lambda: 1,
        "pool": lambda: 2,
    },
    "network.towers.pixels": {"states": lambda: towers.load("small").states(2)},
}

# Objects whose methods are called.
MAKE: dict[str, Any] = {
    "memory.dense.DenseAM": lambda: dense.DenseAM(draw(K, D, seed=1), beta=2.0),
    "memory.discrete.DiscreteDenseAM": lambda: discrete.DiscreteDenseAM(
        spins(K, 8), separations.Polynomial(2)
    ),
    "memory.prediction.AssociativeMemoryClassifier": lambda: prediction.AssociativeMemoryClassifier(
        beta=1.0
    ).fit(draw(12, 3).numpy(), np.arange(12) % 2),
    "memory.prediction.AssociativeMemoryRegressor": lambda: prediction.AssociativeMemoryRegressor(
        beta=1.0
    ).fit(draw(12, 3).numpy(), draw(12).numpy()),
    "memory.separations.Polynomial": lambda: separations.Polynomial(3),
    "memory.separations.RectifiedPolynomial": lambda: separations.RectifiedPolynomial(3),
    "memory.separations.Exponential": lambda: separations.Exponential(),
    "network.energy_transformer.EnergyTransformerBlock": small_block,
    "network.energy_transformer.EnergyAttention": lambda: small_block().attention,
    "network.energy_transformer.HopfieldNetwork": lambda: small_block().hopfield,
    "network.energy_transformer.EnergyLayerNorm": lambda: small_block().norm,
    "network.ham.HAM": small_ham,
    "network.ham.NeuronLayer": lambda: hm.NeuronLayer(lag.Tanh(), D),
    "network.masked_images.MaskedImageModel": lambda: masked_images.MaskedImageModel(
        dim=8, n_heads=2, head_dim=4, n_memories=6, image_size=8
    ),
    "network.synapses.Attention": lambda: synapses.Attention(D, D, n_heads=2, head_dim=3),
    "network.synapses.Bias": lambda: synapses.Bias(D),
    "network.synapses.Dense": lambda: synapses.Dense(D),
    "network.synapses.Hopfield": lambda: synapses.Hopfield(D, 6),
}

# Not called with wrong values, and why.
APART = {
    "*.extra_repr": "no arguments",
    "*.summary": "no arguments",
    "network.lagrangians.*.density": "a kernel: the doors are forward, activation and energy",
    "network.lagrangians.*.slope": "a kernel",
    "network.lagrangians.*.dual": "a kernel",
    "network.energy_transformer.EnergyLayerNorm.slope": "a kernel",
    "network.synapses.*.up": "a kernel of the synapse",
    "network.synapses.*.down": "a kernel of the synapse",
    "*.check_shapes": "a check itself",
    "fast._recall.FastSweep*": "a kernel: the door is fast.recall",
    "fast._retrieve.FastLSE*": "a kernel: the door is fast.retrieve",
    "fast._matmul.*": "kernels",
    "memory.discrete.DiscreteDenseAM.sweep": "a kernel: the door is recall",
    "memory.discrete.DiscreteDenseAM.calm": "a kernel: the door is is_fixed_point",
    "data.creatures.*": "how creatures are drawn; the door is sprites",
    "data.files.*": "how files are found",
    "data.cifar.unpack": "how files are found",
    "train.*": "settings and the command line: tests/train and tests/test_cli.py",
    "cli.*": "tests/test_cli.py",
}

# What a number of this name may be: above zero (where nothing is said), of any sign, a share of 1.
RANGES = {
    "seed": "least",
    "random_state": "least",
    "steps": "least",
    "tol": "least",
    "noise": "least",
    "momentum": "least",
    "std": "least",
    "fraction": "share",
    "mix": "share",
    "right": "signed",
    "down": "signed",
    "fill": "signed",
    "delta": "signed",
    "power": "least",
    "count": "least",
    "hits": "least",
    "jitter": "least",
    "eps": "least",
    "strength": "signed",
    "record": "least",
    "start": "signed",
    "end": "signed",
    "step": "least",
    "below": "least",
    "langevin": "least",
    "replace_every": "least",
    "alpha": "least",
    "padding": "least",
    "std": "least",
}


def samples(one: Public) -> dict[str, Any] | None:
    """A right call of ``one``; None for what stands apart."""
    if any(fnmatch.fnmatch(one.name, pattern) for pattern in APART):
        return None
    special: dict[str, Any] = {}
    for pattern, values in BY_CALL.items():
        if fnmatch.fnmatch(one.name, pattern):
            special |= values
    right = {"*": special["*"]()} if "*" in special else {}
    for p in one.parameters:
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            continue
        if p.name in special:
            if special[p.name] is not None:
                right[p.name] = special[p.name]()
        elif p.name in BY_NAME and not ("*" in right and p.kind is p.POSITIONAL_OR_KEYWORD):
            right[p.name] = BY_NAME[p.name]()
        elif isinstance(p.default, (bool, int, float, str)):
            right[p.name] = p.default
    return right
