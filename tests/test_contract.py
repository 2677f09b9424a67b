"""Bad input at every public callable gets one clear line; nothing that is wrong is accepted.

A new function is met by this test on the day it is exported: its parameters take the values of
`BY_NAME` (the house has one word for one thing), or of `BY_CALL` where a word means something else.
What cannot be called like this stands in `APART`, with the reason.
"""

from __future__ import annotations

import fnmatch
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from contract import ROOMS, Finding, Public, table, walk

from amtutor import data
from amtutor.evaluate import c10, damage, features
from amtutor.generative import diffusion, et_eqm, latent, phases, scalar_et, score_networks, sit
from amtutor.memory import (
    capacity,
    clustering,
    dense,
    discrete,
    kernels,
    minima,
    prediction,
    prototypes,
    relocation,
    separations,
)
from amtutor.memory import random_features as rf
from amtutor.network import energy_transformer as et
from amtutor.network import ham as hm
from amtutor.network import lagrangians as lag
from amtutor.network import masked_images, synapses, towers
from amtutor.train.draws import Draws

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


def small_model() -> masked_images.MaskedImageModel:
    g = torch.Generator().manual_seed(0)
    sizes = {"dim": 8, "n_heads": 2, "head_dim": 4, "n_memories": 6, "image_size": 8}
    return masked_images.MaskedImageModel(**sizes, descent_steps=2, generator=g)


def small_hidden() -> torch.Tensor:
    return torch.tensor([[True, False, False, False]]).expand(2, 4)


def small_shape() -> latent.Shape:
    sizes = {"width": 4, "multipliers": (1, 1), "blocks": 1, "attention": (4,), "size": 8}
    return latent.Shape(**sizes, n_heads=2, groups=2)


FIELD_SIZES = {
    **{"patch_size": 2, "dim": 8, "n_heads": 2, "head_dim": 4, "n_memories": 6},
    **{"depth": 1, "n_classes": 3},
}


def small_field(kind: type = et_eqm.EnergyTransformerField, **more: Any) -> torch.nn.Module:
    g = torch.Generator().manual_seed(0)
    return kind((1, 4, 4), **FIELD_SIZES | more, generator=g)


def small_sit() -> sit.SiT:
    g = torch.Generator().manual_seed(0)
    sizes = {"patch_size": 2, "dim": 8, "n_heads": 2, "depth": 1, "n_classes": 3}
    return sit.SiT((1, 4, 4), **sizes, generator=g)


def grey() -> torch.Tensor:
    return draw(2, 1, 4, 4)


def small_latent() -> latent.LatentMemory:
    g = torch.Generator().manual_seed(0)
    return latent.LatentMemory(5, D, shape=small_shape(), generator=g)


def small_score(kind: Any) -> Any:
    g = torch.Generator().manual_seed(0)
    return kind(D, process=diffusion.VarianceExploding(), width=8, generator=g)


def small_memory(n: int = 2) -> discrete.DiscreteDenseAM:
    return discrete.DiscreteDenseAM(spins(K, 8), separations.Polynomial(n))


def distributed() -> rf.DistributedDenseAM:
    memory = rf.DistributedDenseAM(rf.TrigonometricFeatures(D, 20), beta=2.0, floor=0.1)
    memory.add(draw(K, D, seed=1))
    return memory


def pixels(n: int = 2, side: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 3, side, side), dtype=np.uint8)


def coloured(side: int = 8) -> torch.Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))


@cache
def tower() -> hm.HAM:
    return towers.tower(
        (1, 8, 8), channels=2, kernel_size=3, stride=1, hidden=5, generator=torch.Generator()
    )


def bowl(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * x.square().sum(-1)


def watch(step: int, state: Any) -> None:
    """Look at a descent and say nothing."""


def axes() -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(2, 2)).subplots()


def some_features() -> features.Features:
    return features.Features(draw(12, 3), draw(12, 10, seed=1), "0" * 64)


def blind() -> features.Extractor:
    """A way to features that costs nothing: the mean colours."""

    def run(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        colours = images.float().mean((2, 3))
        return colours, colours

    names = {name: name for name in ("fid", "is", "kid", "precision", "recall")}
    return features.Extractor(run, names, {"features": "mean colours"})


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
    "adjoint_steps": lambda: 2,
    "ax": lambda: axes(),
    "callback": lambda: watch,
    "clamp": lambda: torch.eye(B, D, dtype=torch.bool),
    "counts": lambda: torch.arange(K),
    "device": lambda: "cpu",
    "fill": lambda: 0.5,
    "guard": lambda: "refuse",
    "height": lambda: 3.0,
    "max_iter": lambda: 3,
    "order": lambda: "random",
    "random_state": lambda: 0,
    "vmax": lambda: 2.0,
    "vmin": lambda: -2.0,
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
    "samples": lambda: pixels(4),
    "sigma": lambda: 1.0,
    "std": lambda: 0.5,
    "targets": lambda: draw(K, 2, seed=2),
    "tau": lambda: 1.0,
    "tokens": lambda: draw(2, 4, D),
    "train": lambda: pixels(5),
    "trials": lambda: 2,
    "values": lambda: draw(K, D, seed=2),
    "who": lambda: torch.tensor([True, False, True, False, False]),
    "y": lambda: draw(B, 2, seed=4),
    "z": lambda: draw(B, D),
}

# Where a word means something else.
BY_CALL: dict[str, dict[str, Any]] = {
    "data.*": {"shape": lambda: (2, 2), "split": lambda: "test", "download": lambda: False},
    "data.corrupt.flip_bits": {"x": lambda: spins(B, D)},
    "data.convert.*": {"images": lambda: torch.rand(2, 4)},
    "data.creatures.sprites": {"n": lambda: 3},
    "data.idx.split_digits": {"which": lambda: "small"},
    "data.shapes.dinosaur": {"n": lambda: 5},
    "descent.distinct": {"states": lambda: draw(B, D)},
    "descent.descend": {"gradient": lambda: lambda x: x},
    "evaluate.*": {"images": pixels, "count": lambda: 2},
    "evaluate.c10.Block": {"width_in": lambda: 3, "width": lambda: 4},
    "evaluate.c10.Block.forward": {"x": lambda: draw(2, 3, 8, 8)},
    "evaluate.c10.Classifier": {"widths": lambda: (4, 4, 4)},
    "evaluate.c10.Classifier.*": {"images": lambda: torch.from_numpy(pixels(2, 32))},
    "evaluate.c10.extract": {
        "model": lambda: c10.Classifier((4, 4, 4)),
        "images": lambda: torch.from_numpy(pixels(2, 32)),
    },
    "evaluate.damage.drop_classes": {
        "labels": lambda: np.arange(30) % 10,
        "dropped": lambda: 2,
    },
    "evaluate.damage.floor_by_count": {
        "test": some_features,
        "train": some_features,
        "counts": lambda: (6,),
    },
    "evaluate.damage.jpeg": {"quality": lambda: 50},
    "evaluate.damage.measure": {
        "extract": blind,
        "train": some_features,
        "images": lambda: pixels(30),
        "labels": lambda: np.arange(30) % 10,
        "count": lambda: 4,
        "strengths": lambda: {"noise": (4,)},
    },
    "evaluate.fidelity.frechet": {"samples": some_features, "reference": some_features},
    "fast.*recall": {"memory": small_memory},
    "fast.*retrieve": {"memory": lambda: dense.DenseAM(draw(K, D), beta=2.0)},
    "fast._descend.descend": {"clamp": lambda: "v"},
    "fast._walk.walk": {
        "x": lambda: draw(B, N, D),
        "mask": lambda: torch.ones(N, N, dtype=torch.bool),
        "mode": lambda: "lean",
    },
    "generative.diffusion.*": {
        "end": lambda: 0.1,
        "method": lambda: "heun",
        "process": diffusion.VarianceExploding,
        "radius": lambda: draw(B).abs(),
        "rate": lambda: 0.5,
        "ratio": lambda: 0.5,
        "score": lambda: lambda x, t: -x,
        "start": lambda: 1.0,
        "t": lambda: 0.5,
        "times": lambda: torch.tensor([1.0, 0.5, 0.2]),
    },
    "generative.diffusion.Process*": {"n": lambda: 3},
    "generative.fields.*": {
        "field": lambda: torch.tanh,
        "nodes": lambda: 2,
        "panels": lambda: 2,
        "probes": lambda: 2,
        "score": lambda: torch.tanh,
        "start": lambda: draw(D, seed=1),
    },
    "generative.score_networks.*": {
        "centre": lambda: draw(D, seed=1),
        "process": diffusion.VarianceExploding,
        "score": lambda: lambda x, t: -x,
        "spread": lambda: 0.5,
        "t": lambda: 0.5,
        "weight": lambda: 1.0,
        "width": lambda: 8,
    },
    "generative.score_networks.load": {"name": lambda: "circle_9"},
    "generative.trained_fields.load": {"name": lambda: "digits_eqm"},
    "generative.score_networks.stored_points": {"name": lambda: "circle_9"},
    "generative.score_networks.denoising_loss": {
        "noise": lambda: draw(B, D),
        "y": lambda: draw(B, D, seed=4),
    },
    "generative.latent.*": {
        "shape": small_shape,
        "images": lambda: torch.from_numpy(pixels()),
    },
    "generative.latent.Decoder.forward": {"z": lambda: draw(2, D)},
    "generative.latent.Encoder.forward": {"x": coloured},
    "generative.latent.LatentMemory.forward": {"x": coloured},
    "generative.latent.PixelAttention": {"channels": lambda: 4, "groups": lambda: 2},
    "generative.latent.PixelAttention.forward": {"x": lambda: draw(2, 4, 3, 3)},
    "generative.latent.Residual": {
        "inputs": lambda: 4,
        "outputs": lambda: 6,
        "groups": lambda: 2,
    },
    "generative.latent.Residual.forward": {"x": lambda: draw(2, 4, 3, 3)},
    "generative.latent.Shape": {
        "width": lambda: 4,
        "multipliers": lambda: (1, 1),
        "attention": lambda: (4,),
        "n_heads": lambda: 2,
        "groups": lambda: 2,
        "size": lambda: 8,
    },
    "generative.latent.beta_schedule": {"step": lambda: 3},
    "generative.latent.coupled_loss": {"x": lambda: draw(B, 7, seed=5)},
    "generative.latent.parameter_counts": {"model": small_latent},
    "generative.latent.sample_latents": {"n": None, "start": lambda: draw(B, D)},
    "generative.equilibrium.*": {
        "field": lambda: lambda x, labels: 0.5 * x,
        "energy": lambda: lambda x, labels: 0.25 * x.square().sum(-1),
        "gamma": lambda: torch.tensor([0.2, 0.5, 0.9]),
        "x": lambda: draw(B, D),
        "noise": lambda: draw(B, D, seed=5),
        "start": lambda: draw(B, D),
        "points": lambda: draw(4, D, seed=6),
        "nodes": lambda: 16,
        "labels": lambda: torch.tensor([0, 1, 2]),
        "schedule": lambda: lambda gamma: 1 - gamma,
        "distance": lambda: draw(B).abs(),
        "reach": lambda: 2.0,
        "travel": lambda: 0.3,
        "step_size": lambda: 0.1,
        "null": lambda: 3,
    },
    "generative.equilibrium.piecewise_decay": {"start": lambda: 1.4},
    "generative.equilibrium.guided_by_weight": {"weight": lambda: 1.5},
    "generative.equilibrium.guided_by_scale": {"scale": lambda: 2.5},
    **{
        f"generative.{room}.*": {
            "shape": lambda: (1, 4, 4),
            "x": grey,
            "labels": lambda: torch.tensor([0, 3]),
            "positions": lambda: "learned",
            "gamma": None,
            "n_filters": lambda: 2,
            "filter_size": lambda: 3,
            "stem": lambda: 2,
            **{k: lambda v=v: v for k, v in FIELD_SIZES.items()},
        }
        for room in ("et_eqm", "sit", "scalar_et")
    },
    "generative.et_eqm.sinusoidal_positions": {"side": lambda: 2},
    "generative.scalar_et.LocalEnergy": {"channels": lambda: 1, "size": lambda: 3},
    "generative.phases.*": {
        "samples": lambda: draw(6, 2),
        "data": lambda: draw(K, 2, seed=1),
        "height": lambda: draw(12),
        "noise": lambda: 0.1,
        "memorised_within": lambda: 0.1,
        "repeated_within": lambda: 0.1,
        "same_within": lambda: 0.1,
        "score": lambda: lambda x: -x,
        "path": lambda: draw(12, 2),
        "label": lambda: torch.tensor([[0, 1, 2], [0, 0, 1]]),
        "wells": lambda: phases.ring_wells(draw(12)),
        "shares": lambda: torch.tensor([[0.5, 0.25, 0.25]]),
        "barrier": lambda: 1.0,
        "n": lambda: 5,
    },
    "generative.phases.pooled": {"samples": lambda: 20},
    "generative.phases.table": {"name": lambda: "circle_phases"},
    "generative.phases.valley_around": {"low": lambda: 0.1, "high": lambda: 2.0},
    "memory.capacity.*": {"dim": lambda: 20, "bits": lambda: 400, "guess": lambda: 3.0},
    "memory.capacity.measure_capacity": {
        "error": lambda: 0.1,
        "generator": lambda: torch.Generator().manual_seed(2),
    },
    "memory.capacity.sign_sum_moment": {"power": lambda: 4, "count": lambda: 9},
    "memory.capacity.weighted_fit": {
        "columns": lambda: [[1, 1, 1], [0, 1, 2]],
        "y": lambda: [1, 3, 5],
        "spread": lambda: [1, 1, 1],
    },
    "memory.capacity.wilson_interval": {"hits": lambda: 2, "total": lambda: 5, "z": lambda: 1.96},
    "memory.dense.attention*": {"bias": lambda: draw(K)},
    "memory.dense.DenseAM": {"energy": lambda: "lse"},
    "memory.dense.DenseAM.recall": {"off_support": lambda: "stay"},
    "memory.dense.kernel_*": {"kernel": lambda: "quartic"},
    "memory.dense.log_density": {"kernel": lambda: "quartic", "bandwidth": lambda: 2.0},
    "memory.dense.onto_support": {"how": lambda: "escape"},
    "memory.discrete.*recall": {"record": lambda: True},
    "memory.discrete.visit_by_definition": {
        "state": lambda: spins(8),
        "visits": lambda: torch.arange(8),
        "energy": lambda: lambda s: s.sum(),
    },
    "memory.kernels.*": {
        "form": lambda: "radial",
        "bandwidth": lambda: 0.5,
        "roughness": lambda: 1.0,
        "spread": lambda: 1.0,
        "starts": lambda: draw(B, D),
        "n_memories": lambda: 9,
    },
    "memory.kernels.Kernel": {"name": lambda: "quartic"},
    "memory.kernels.kernel_minima": {"memories": lambda: draw(K), "kernel": lambda: "quartic"},
    "memory.kernels.rule_of_thumb": {"kernel": lambda: "quartic", "rule": lambda: "normal"},
    "memory.minima.*": {
        "gradient": lambda: lambda x: x,
        "hessian": lambda: lambda x: torch.eye(D).expand(len(x), D, D),
        "starts": lambda: draw(B, D),
        "low": lambda: -1.0,
        "curvature": lambda: 1.0,
        "jerk": lambda: 1.0,
        "resolution": lambda: 0.01,
    },
    "memory.minima.minimum_reached": {
        "hessian": None,
        "minima": lambda: minima.find_minima(bowl, draw(2, D)),
    },
    "memory.minima.lse_minima": {"memories": lambda: draw(K, 2)},
    "memory.minima.lsr_minima_1d": {"memories": lambda: draw(K, 1)},
    "memory.clustering.ClAM": {
        "n_clusters": lambda: 3,
        "beta": lambda: (1.0, 9.0),
        "mask_fraction": lambda: 0.5,
        "init": lambda: "random",
        "random_state": None,  # scikit-learn's own check
    },
    "memory.deep_clustering.DeepClAM": {
        "n_clusters": lambda: 3,
        "beta": lambda: (1.0, 9.0),
        "augment": lambda: lambda x, generator: x,
        "hidden": lambda: (4,),
        "latent_dim": lambda: 2,
        "pretrain": lambda: 1,
        "random_state": None,
    },
    "memory.relocation.*": {
        "centres": lambda: draw(K, D, seed=1),
        "end": lambda: 2.0,
        "found": lambda: [0, 1, 1],
        "gamma": lambda: 1.0,
        "hidden": lambda: torch.tensor([[True, False, True, False]]).expand(B, D),
        "share": lambda: 0.5,
        "start": lambda: 1.0,
        "true": lambda: [1, 0, 1],
    },
    "memory.relocation.soft_kmeans": {"start": lambda: draw(K, D, seed=1)},
    "memory.prediction.Assoc*": {
        "n_memories": lambda: 3,
        "beta": lambda: 1.0,
        "random_state": None,  # scikit-learn's own check
    },
    "memory.prediction.recall": {"clamp": lambda: "x"},
    "memory.prediction.clamped_descent": {"pull": lambda: draw(B, K), "start": lambda: draw(B, 2)},
    "memory.prototypes.after_step": {"step": lambda: 1},
    "memory.prototypes.anneal": {
        "start": lambda: 1.0,
        "end": lambda: 0.1,
        "step": lambda: 1,
        "steps": lambda: 4,
    },
    "memory.prototypes.learn": {
        "batch_size": lambda: 4,
        "rule": lambda: "contrastive",
        "noise": lambda: (1.0, 0.1),
        "inner": lambda: 2,
    },
    "memory.prototypes.log_partition_by_quadrature": {"dim": lambda: 2, "points": lambda: 20},
    "memory.prototypes.replace": {"x": lambda: draw(9, D)},
    "memory.random_features.*Features": {"n_features": lambda: 20},
    "memory.random_features.*Features.*": {"y": lambda: draw(B, D, seed=2)},
    "memory.random_features.DistributedDenseAM": {
        "features": lambda: rf.PositiveFeatures(D, 20),
        "centre": lambda: draw(D),
        "floor": lambda: 0.1,
    },
    "memory.random_features.DistributedDenseAM.merge": {"other": distributed},
    "memory.separations.exact_sign": {
        "xi": lambda: torch.tensor([1, -1, 1]),
        "clamped": lambda: torch.tensor([2, -1, 1]),
    },
    "memory.separations.*": {
        "n": lambda: 3,
        "m": lambda: torch.tensor([0.5, -0.5]),
        "s": lambda: 4,
    },
    "network.energy_transformer.*": {
        "gamma": lambda: 1.0,
        "x": lambda: draw(B, N, D),
        "mask": lambda: torch.ones(N, N, dtype=torch.bool),
    },
    "network.ham.HAM": {
        "layers": lambda: {"v": hm.NeuronLayer(lag.Tanh(), 4)},
        "connections": lambda: [("v", synapses.Bias(4))],
    },
    "network.ham.HAM.*": {"clamp": lambda: "v", "device": lambda: "cpu"},
    "network.ham.HAM.states": {"*": lambda: (2,), "dtype": lambda: torch.float32},
    "network.ham.NeuronLayer": {"lagrangian": lag.Tanh, "shape": lambda: 4},
    "network.inpainting.pixel_mask": {"hidden": lambda: torch.eye(4, dtype=torch.bool)},
    "network.lagrangians.*Norm": {"delta": lambda: torch.zeros(D)},
    "network.lagrangians.RectifiedPower": {"n": lambda: 3.0},
    "network.masked_images.PlainTransformer": {"hidden": lambda: 8},
    "network.masked_images.*.move": {"tokens": lambda: draw(2, 4, 8)},
    "network.masked_images.*.normalised": {"tokens": lambda: draw(2, 4, 8)},
    "network.masked_images.*.decode": {"tokens": lambda: draw(2, 4, 8)},
    "network.masked_images.*.fill": {"patches": lambda: draw(2, 4, 48)},
    "network.masked_images.*frames": {"states": lambda: draw(3, 2, 4, 8)},
    "network.masked_images.to_pictures": {"patches": lambda: torch.rand(2, 4, 48)},
    "network.synapses.Attention": {"query_dim": lambda: D, "key_dim": lambda: D},
    "network.synapses.Attention.forward": {
        "queries": lambda: draw(B, N, D),
        "keys": lambda: draw(B, K, D),
    },
    "network.synapses.Attention.currents": {"*": lambda: (draw(B, N, D), draw(B, K, D))},
    "network.synapses.Bias.currents": {"*": lambda: (draw(D),)},
    "network.synapses.Hopfield.currents": {"*": lambda: (draw(D),)},
    "network.synapses.Bias": {"*": lambda: (D,), "bias": lambda: draw(D)},
    "network.synapses.Conv2d": {
        "in_channels": lambda: 1,
        "out_channels": lambda: 2,
        "kernel_size": lambda: 3,
        "weight": None,
    },
    "network.synapses.Dense": {"*": lambda: (3, 4), "weight": lambda: draw(3, 4)},
    "network.synapses.Dense.forward": {"*": lambda: (draw(D), draw(D))},
    "network.synapses.Dense.currents": {"*": lambda: (draw(D), draw(D))},
    "network.synapses.Hopfield": {"shape": lambda: D, "memories": None},
    "network.synapses.Pool2d": {"kernel_size": lambda: 2},
    "network.synapses.Synapse.currents": {"*": lambda: (draw(D), draw(D))},
    "network.synapses.currents": {
        "*": lambda: (synapses.Dense(D, D), draw(D), draw(D)),
    },
    "network.towers.*": {
        "images": lambda: torch.rand(B, 1, 8, 8),
        "ham": tower,
    },
    "network.towers.load": {"name": lambda: "small"},
    "network.towers.one_way": {"order": lambda: ("image", "features", "pooled")},
    "network.towers.tower": {
        "shape": lambda: (1, 8, 8),
        "channels": lambda: 2,
        "kernel_size": lambda: 3,
        "hidden": lambda: 5,
        "look": lambda: 0.4,
        "stride": lambda: 1,
        "pool": lambda: 2,
    },
    "network.towers.pixels": {"states": lambda: tower().states(2)},
    "show.*": {"shape": lambda: (2, 2), "fig": lambda: axes().figure, "title": lambda: "one"},
    "show.diagram.hypergraph": {
        "description": lambda: small_ham().describe(),
        "upwards": lambda: True,
    },
    "show.figures.curves": {"x": lambda: draw(4), "ys": lambda: {"a": draw(4), "b": draw(4)}},
    "show.figures.energy_trace": {"energies": lambda: draw(4, 2), "labels": lambda: ["a", "b"]},
    "show.figures.figure": {"width": lambda: 3.0},
    "show.figures.image": {"picture": lambda: draw(1, 4)},
    "show.figures.image_grid": {"images": lambda: draw(3, 4), "columns": lambda: 2},
    "show.figures.interval_band": {
        "x": lambda: draw(4),
        "low": lambda: torch.zeros(4),
        "high": lambda: torch.ones(4),
    },
    "show.figures.landscape*": {
        "resolution": lambda: 8,
        "memories": lambda: draw(3, 2),
        "paths": lambda: draw(4, 3, 2),
        "ceiling": lambda: 3.0,
    },
    "show.figures.landscape_1d": {
        "memories": lambda: draw(3),
        "balls": lambda: draw(3),
        "paths": lambda: draw(4, 3),
    },
    "show.figures.mark_memories": {"positions": lambda: draw(3)},
    "show.figures.measured": {
        "x": lambda: draw(4),
        "y": lambda: torch.zeros(4),
        "low": lambda: torch.full((4,), -1.0),
        "high": lambda: torch.ones(4),
    },
    "show.figures.theory": {"x": lambda: draw(4), "y": lambda: draw(4)},
    "show.figures.thumbnails": {
        "places": lambda: draw(3, 2),
        "images": lambda: draw(3, 4),
    },
    "show.glue.*": {"name": lambda: "rate", "value": lambda: 1.5},
    "show.movies.recall_movie": {
        "frames": lambda: draw(3, 2, 4),
        "energies": lambda: draw(3, 2),
        "max_frames": lambda: 5,
    },
    "show.style.shades": {"k": lambda: 3},
    "show.widgets.explore": {"draw": lambda: lambda: None},
    "train.config.Settings": {
        "task": lambda: "toy",
        "batch_size": lambda: 4,
    },
    "train.draws.*": {
        "step": lambda: 3,
        "batch_size": lambda: 4,
        "name": lambda: "noise",
        "shape": lambda: (2,),
        "low": lambda: 0,
        "high": lambda: 9,
        "device": lambda: "cpu",
    },
    "train.tasks.*": {"task": lambda: "toy", "batch_size": lambda: 4},
}

# Objects whose methods are called.
MAKE: dict[str, Any] = {
    "evaluate.c10.Block": lambda: c10.Block(3, 4),
    "evaluate.c10.Classifier": lambda: c10.Classifier((4, 4, 4)),
    "generative.diffusion.Process": diffusion.VarianceExploding,
    "generative.diffusion.VarianceExploding": diffusion.VarianceExploding,
    "generative.diffusion.OrnsteinUhlenbeck": diffusion.OrnsteinUhlenbeck,
    "generative.et_eqm.EnergyTransformerField": small_field,
    "generative.scalar_et.BlockEnergyModel": lambda: small_field(scalar_et.BlockEnergyModel),
    "generative.scalar_et.DecodedDistance": lambda: small_field(scalar_et.DecodedDistance),
    "generative.scalar_et.LocalEnergy": lambda: scalar_et.LocalEnergy(1, n_filters=2, size=3),
    "generative.sit.SiT": small_sit,
    "generative.et_eqm.PatchTokens": lambda: et_eqm.PatchTokens((1, 4, 4), patch_size=2, dim=8),
    "generative.latent.Decoder": lambda: latent.Decoder(D, shape=small_shape()),
    "generative.latent.Encoder": lambda: latent.Encoder(D, shape=small_shape()),
    "generative.latent.LatentMemory": small_latent,
    "generative.latent.PixelAttention": lambda: latent.PixelAttention(4, n_heads=2, groups=2),
    "generative.latent.Residual": lambda: latent.Residual(4, 6, groups=2),
    "generative.score_networks.ScoreNetwork": lambda: small_score(score_networks.ScoreNetwork),
    "generative.score_networks.EnergyNetwork": lambda: small_score(score_networks.EnergyNetwork),
    "memory.dense.DenseAM": lambda: dense.DenseAM(draw(K, D, seed=1), beta=2.0),
    "memory.discrete.DiscreteDenseAM": small_memory,
    "memory.kernels.Kernel": lambda: kernels.Kernel("quartic"),
    "memory.random_features.DistributedDenseAM": distributed,
    "memory.random_features.PositiveFeatures": lambda: rf.PositiveFeatures(D, 20),
    "memory.random_features.TrigonometricFeatures": lambda: rf.TrigonometricFeatures(D, 20),
    "memory.prediction.AssociativeMemoryClassifier": lambda: prediction.AssociativeMemoryClassifier(
        beta=1.0
    ).fit(draw(12, 3).numpy(), np.arange(12) % 2),
    "memory.prediction.AssociativeMemoryRegressor": lambda: prediction.AssociativeMemoryRegressor(
        beta=1.0
    ).fit(draw(12, 3).numpy(), draw(12).numpy()),
    "memory.relocation.Schedule": lambda: relocation.Schedule(1.0, 9.0),
    "memory.separations.Separation": lambda: separations.Polynomial(3),
    "memory.separations.Polynomial": lambda: separations.Polynomial(3),
    "memory.separations.RectifiedPolynomial": lambda: separations.RectifiedPolynomial(3),
    "memory.separations.Exponential": lambda: separations.Exponential(),
    "network.energy_transformer.EnergyTransformerBlock": small_block,
    "network.energy_transformer.EnergyAttention": lambda: small_block().attention,
    "network.energy_transformer.HopfieldNetwork": lambda: small_block().hopfield,
    "network.energy_transformer.EnergyLayerNorm": lambda: small_block().norm,
    "network.ham.HAM": small_ham,
    "network.ham.NeuronLayer": lambda: hm.NeuronLayer(lag.Tanh(), D),
    "network.lagrangians.Lagrangian": lag.Tanh,
    "network.masked_images.MaskedImageModel": small_model,
    "network.masked_images.PatchModel": small_model,
    "network.masked_images.PlainTransformer": lambda: masked_images.PlainTransformer(
        dim=8, n_heads=2, hidden=8, image_size=8, generator=torch.Generator()
    ),
    "network.synapses.Attention": lambda: synapses.Attention(D, D, n_heads=2, head_dim=3),
    "network.synapses.Bias": lambda: synapses.Bias(D),
    "network.synapses.Dense": lambda: synapses.Dense(D, D),
    "network.synapses.Hopfield": lambda: synapses.Hopfield(D, 6),
    "network.synapses.Synapse": lambda: synapses.Dense(D, D),
    "train.draws.Draws": lambda: Draws(seed=0, step=3, batch_size=4),
}

X, Y = draw(12, 3).numpy(), draw(12, seed=1).numpy()

# Called by way of something else: scikit-learn wants an estimator's settings looked at in fit.
CALLS: dict[str, Any] = {
    f"memory.prediction.{kind.__name__}": lambda kind=kind, **settings: kind(**settings).fit(
        X, Y > 0 if kind is prediction.AssociativeMemoryClassifier else Y
    )
    for kind in (prediction.AssociativeMemoryClassifier, prediction.AssociativeMemoryRegressor)
} | {
    f"memory.{room}.{kind.__name__}": lambda kind=kind, **settings: kind(**settings).fit(X)
    for room, kind in (("clustering", clustering.ClAM), ("deep_clustering", clustering.DeepClAM))
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
    "memory.*clustering.*ClAM.[a-z]*": "scikit-learn's words for X, which its checks ask for",
    "memory.prediction.Assoc*.[fp]*": "scikit-learn's words for X and y, which its checks ask for",
    "memory.random_features.*.save": "writes a file: tests/memory",
    "memory.random_features.*.load": "takes a file: tests/memory",
    "memory.separations.*.whole": "a kernel of the tables",
    "data.creatures.[!s]*": "how creatures are drawn; the door is sprites",
    "data.creatures.Sprites": "how creatures are drawn; the door is sprites",
    "data.files.*": "how files are found",
    "data.cifar.unpack": "how files are found",
    "data.cifar.read_cifar10_batch": "takes a file: tests/data",
    "data.idx.read_idx": "takes a file: tests/data",
    "data.idx.parse_idx": "takes the bytes of a file: tests/data",
    "generative.et_eqm.PatchTokens.forward": "a part of a field: the door is the field",
    "generative.et_eqm.ClassHead*": "a part of a field: the door is EnergyTransformerField",
    "generative.scalar_et.compiled_field": "compiles: tests/generative",
    "generative.score_networks.build": "takes what a file holds: tests/generative",
    "generative.trained_fields.build": "takes what a file holds: tests/generative",
    "generative.diffusion.*.drift": "a formula: the doors are the samplers",
    "evaluate.c10.save": "writes a file: tests/evaluate",
    "evaluate.c10.load": "takes a file: tests/evaluate",
    "evaluate.features.torch_fidelity": "imports a package",
    "evaluate.features.extractor": "takes a file: tests/evaluate",
    "evaluate.features.pictures": "a check itself",
    "evaluate.fidelity.fidelity": "torch-fidelity works for seconds: tests/evaluate",
    "evaluate.fidelity.compare": "torch-fidelity works for seconds: tests/evaluate",
    "evaluate.fidelity.self_check": "torch-fidelity works for seconds: tests/evaluate",
    "show.figures.array": "a check itself",
    "show.figures.as_grid": "a check itself",
    "show.style.png": "takes a figure of matplotlib's",
    "show.style.show_figure": "takes a figure of matplotlib's",
    **{
        f"train.{part}.*": "the training loop's own: tests/train"
        for part in (
            *("checkpoint", "evaluation", "folder", "limits", "loop", "optim", "pictures"),
            *("presets", "progress", "run", "stop", "task", "world"),
        )
    },
    "train.config.[!S]*": "reads text: tests/train",
    "train.config.Settings.*": "no arguments",
    "train.draws.seed_of": "takes anything",
    "train.tasks.names": "no arguments",
    "train.tasks.module_of": "tests/train",
    "train.tasks.*": "the tasks' own: tests/train/tasks",
}

KINDS = ("Process", "VarianceExploding", "OrnsteinUhlenbeck")
LAWS = ("diffusion", "scale", "width", "perturb")  # time 0 is a time

# What a number of this name may be: above zero (where nothing is said), of any sign, a share of 1.
RANGES = {
    **{f"generative.equilibrium.{f}.a": "least" for f in ("bowl", "noise_left", "truncated_decay")},
    "generative.equilibrium.noise_left.travel": "least",
    "generative.equilibrium.guided_by_weight.null": "least",
    "generative.equilibrium.guided_by_scale.null": "least",
    "generative.equilibrium.guided_by_weight.weight": "least",
    "generative.equilibrium.guided_by_scale.scale": "least",
    **{
        f"generative.{kind}.{count}": "least"
        for kind in (
            "et_eqm.EnergyTransformerField",
            "scalar_et.DecodedDistance",
            "scalar_et.BlockEnergyModel",
        )
        for count in ("n_filters", "n_fine", "cone", "stem", "descent_steps")
    },
    "seed": "least",
    "random_state": "least",
    "tol": "least",
    "descent.distinct.tol": "",
    "noise": "least",
    "momentum": "least",
    "std": "least",
    "evaluate.damage.noise.std": "least",
    "fraction": "share",
    "mix": "share",
    "mask_fraction": "share",
    "share": "share",
    "memory.relocation.Schedule.start": "",
    "memory.relocation.Schedule.end": "",
    "pretrain": "least",
    "memory.deep_clustering.DeepClAM.max_iter": "least",
    "gamma": "",
    "right": "signed",
    "down": "signed",
    "fill": "signed",
    "delta": "signed",
    "power": "least",
    "hits": "least",
    "jitter": "least",
    "eps": "least",
    "strength": "signed",
    "record": "least",
    "start": "signed",
    "end": "signed",
    **{f"generative.diffusion.{k}.times.{end}": "" for k in KINDS for end in ("start", "end")},
    **{f"generative.diffusion.{k}.{law}.t": "least" for k in KINDS for law in LAWS},
    **{f"generative.diffusion.{k}.time_of.ratio": "least" for k in KINDS},
    "generative.score_networks.denoising_loss.weight": "least",
    "generative.latent.beta_schedule.start": "",
    "generative.latent.beta_schedule.end": "",
    "step": "least",
    "below": "least",
    "langevin": "least",
    "replace_every": "least",
    "record_every": "least",
    "alpha": "least",
    "padding": "least",
    "steps": "least",
    "adjoint_steps": "least",
    "event_dims": "least",
    "inner": "least",
    "n_images": "least",
    "dropped": "least",
    "rank": "least",
    "low": "signed",
    "memory.minima.minima_1d.high": "signed",
    "generative.phases.valley_around.low": "",
    "generative.phases.classify_on_ring.noise": "",
    "curvature": "least",
    "jerk": "least",
    "memory.prediction.clamped_descent.kappa": "least",
    "memory_std": "least",
    "show.style.shades.k": "least",
    "ema_decay": "least",
    "final_lr": "least",
    "grad_clip": "least",
    "weight_decay": "least",
    "threads": "least",
    "warmup_steps": "least",
    "checkpoint_every": "least",
    "evaluate_every": "least",
    "milestone_every": "least",
    "sample_every": "least",
    "vmin": "signed",
    "vmax": "signed",
    "ceiling": "signed",
    "offset": "signed",
    "value": "signed",
    "memory.random_features.DistributedDenseAM.floor": "least",
    "memory.separations.Polynomial.whole.s": "signed",
    "memory.separations.RectifiedPolynomial.whole.s": "signed",
    "memory.capacity.sign_sum_moment.count": "least",
}

# What looks wrong and is right: callable.parameter, the kinds of mistake, and why.
RIGHT: dict[tuple[str, str], str] = {
    # masks and numbers that spread
    ("*.clamp", "rank"): "a mask spreads over the state",
    ("*.who", "rank"): "a mask spreads over the memories",
    ("network.ham.HAM.*.clamp", "type"): "nothing is held: an empty mapping",
    ("fast._descend.descend.clamp", "type"): "nothing is held: an empty mapping",
    ("network.masked_images.hide_patches.fraction", "type"): "one for each picture",
    # sizes that are free
    ("data.convert.binarise.x", "rank shape"): "any shape: it works entry by entry",
    ("data.convert.to_*.images", "dtype shape"): "bytes are pictures too, of any size",
    ("data.corrupt.add_noise.x", "shape"): "any D",
    ("data.corrupt.flip_bits.x", "dtype shape"): "whole numbers -1 and 1 are spins, of any D",
    ("data.corrupt.[ms]*.x", "dtype"): "whole numbers are pictures too",
    ("descent.distinct.states", "shape"): "any D",
    ("evaluate.c10.Classifier.*.images", "dtype shape"): "float pictures, and of another size",
    ("evaluate.c10.extract.images", "dtype shape"): "float pictures, and of another size",
    ("evaluate.c10.picture_hash.images", "shape"): "pictures of any size",
    ("evaluate.damage.*.images", "shape"): "pictures of any size",
    ("evaluate.damage.drop_classes.labels", "shape"): "labels of any number of pictures",
    ("evaluate.damage.floor_by_count.counts", "rank"): "any number of counts",
    ("evaluate.damage.measure.strengths", "type shape"): "no damage, no number",
    ("evaluate.nearest.*", "shape"): "pictures of any size",
    ("generative.score_networks.*.t", "type"): "one time for each state",
    ("generative.diffusion.*.t", "type"): "one time for each state",
    ("generative.diffusion.*.ratio", "type"): "a tensor of them",
    ("generative.diffusion.circle_energy.radius", "rank shape"): "any shape",
    ("generative.diffusion.log_bessel_i0.x", "rank shape"): "any shape",
    ("generative.diffusion.*.perturb.y", "shape"): "any D",
    ("generative.diffusion.[pr]*.x", "shape"): "any D: the score knows",
    ("generative.fields.*.x", "shape"): "any D: the field knows",
    ("generative.equilibrium.*_decay.gamma", "rank shape"): "any shape",
    ("generative.equilibrium.bowl.distance", "rank shape"): "any shape",
    ("generative.equilibrium.noise_left.travel", "type"): "a number or any tensor of them",
    ("generative.equilibrium.sample*.start", "shape"): "any D: the field knows",
    ("generative.scalar_et.LocalEnergy.*.x", "shape"): "any height and width",
    ("generative.latent.Shape.attention", "rank"): "any number of sides",
    ("generative.latent.replace_memories.counts", "dtype"): "only their order counts",
    ("generative.latent.rms_norm.z", "shape"): "any D",
    ("generative.latent.to_*", "rank shape"): "any shape: it works entry by entry",
    ("*.record", "type"): "a frame after every so many visits",
    ("fast._recall.recall.state", "dtype"): "whole numbers -1 and 1 are spins",
    ("memory.capacity.wilson_interval.*", "type"): "effective numbers need not be whole",
    ("memory.dense.DenseAM.memories", "shape"): "any D",
    ("generative.phases.*.height", "shape"): "any number of places",
    ("generative.phases.fractions.label", "shape"): "any number of samples",
    ("generative.phases.heights_along.path", "shape"): "points of any dimension",
    ("memory.minima.lse_minima.memories", "shape"): "any D up to 3",
    ("memory.discrete.*.patterns", "dtype shape"): "whole numbers -1 and 1 are spins, of any D",
    ("memory.discrete.*.state", "dtype shape"): "whole numbers -1 and 1 are spins, of any D",
    ("memory.discrete.visit_by_definition.visits", "shape"): "any number of visits",
    ("memory.kernels.kernel_minima.memories", "shape rank"): "any K, and one memory alone",
    ("memory.kernels.*.memories", "shape"): "any D",
    ("memory.*clustering.*ClAM.beta", "type"): "one number, or two",
    ("memory.deep_clustering.DeepClAM.hidden", "rank"): "any number of layers",
    ("memory.relocation.masked_loss.hidden", "rank"): "a mask spreads over the points",
    ("memory.prediction.nadaraya_watson.targets", "shape"): "targets of any length",
    ("memory.random_features.DistributedDenseAM.centre", "dtype"): "whole numbers are a place",
    ("memory.separations.*.m", "dtype rank shape type"): "any shape: F works entry by entry",
    ("memory.separations.exact_sign.*", "dtype"): "whole numbers, however they are kept",
    ("memory.dense.attention.values", "shape"): "values of any length",
    ("memory.dense.distance_bias.memories", "shape"): "any D",
    ("network.lagrangians.Lagrangian.*.x", "rank shape"): "layers of any shape, none too",
    ("network.masked_images.to_patches.images", "dtype"): "bytes are cut as well as floats",
    ("network.energy_transformer.*.n", "type"): "a power need not be whole",
    # numbers that are not used
    ("memory.prototypes.after_step.points", "nan"): "points count only where dead memories move",
    ("network.ham.HAM.held.states", "nan"): "a mask needs their shapes only",
    # figures
    ("show.*", "dtype"): "whole numbers are numbers",
    ("show.figures.curves.ys", "shape type"): "one curve less, or none",
    ("show.figures.interval_band.*", "rank type"): "one number for all x",
    ("show.figures.landscape.levels", "type"): "the levels themselves",
    ("show.figures.landscape_1d.*", "rank shape type"): "one, or none, or one more",
    ("show.figures.mark_memories.positions", "rank shape type"): "one, or none, or one more",
    ("show.figures.*.label", "type"): "matplotlib writes what it is given",
    ("show.figures.image.title", "type"): "any text",
    ("show.glue.glue.name", "type"): "any word",
    ("show.glue.*.value", "type"): "text, and whole numbers in full",
    # training
    ("train.config.Settings.task", "type"): "known tasks are looked up later",
    ("train.draws.Draws.*.name", "type"): "any word",
    ("train.draws.Draws.*.shape", "range rank"): "numbers of any shape, none too",
}


def is_right(found: Finding) -> bool:
    """Whether an answer to this is what we promise."""
    return any(
        found.kind in kinds.split() and fnmatch.fnmatch(f"{found.name}.{found.parameter}", pattern)
        for pattern, kinds in RIGHT
    )


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


@pytest.mark.parametrize("room", ROOMS)
def test_bad_input_gets_one_clear_line(room):
    findings, without = walk(room, samples, MAKE, RANGES, CALLS)
    assert not without, "\n".join(without)
    lines = {what: [f for f in findings if f.what == what] for what in ("hung", "obscure")}
    lines["accepted"] = [f for f in findings if f.what == "accepted" and not is_right(f)]
    plain = [f for f in lines["obscure"] if f.kind != "type"]
    rare = len(lines["obscure"]) <= 0.02 * len(findings)
    wrong = lines["hung"] + lines["accepted"] + (plain if rare else lines["obscure"])
    told = [f"{f.what}: {f.name}({f.parameter}={f.value}): {f.said} [{f.kind}]" for f in wrong]
    print(table(findings))
    assert not wrong, "\n".join(told)


NAN = torch.full((1, D), float("nan"))

# Slips that were once made and answered: each now meets these words.
SLIPS = [
    (lambda: data.binarise(torch.zeros(3, dtype=torch.uint8)), "x: got a uint8 tensor"),
    (lambda: data.shift(draw(1, 4), (2, 2), right=torch.tensor(1.5)), "right = float32 tensor"),
    (lambda: damage.jpeg(pixels(), 101), "quality = 101: expected a whole number from 1 to 95"),
    (lambda: damage.noise(pixels(), float("nan")), "std = nan: expected a finite number >= 0"),
    (lambda: latent.winners(NAN, draw(K, D)), "4 of 4 entries are NaN"),
    (lambda: latent.memory_counts(NAN, draw(K, D)), "4 of 4 entries are NaN"),
    (
        lambda: latent.coupled_loss(draw(5, 3), draw(1, 7), draw(5, 7), draw(2, 3), beta_whole=1.0),
        r"expected one shape \(5, ...\)",
    ),
    (lambda: capacity.wilson_interval(1, 0), "total = 0.0: expected a finite number > 0"),
    (lambda: capacity.wilson_interval(11, 10), r"hits = 11.0: expected a number in \[0, 10\]"),
    (lambda: capacity.weighted_fit([[1, 1], [0, 1]], [1, 2], [0, 1]), "1 of 2 are not above 0"),
    (lambda: capacity.weighted_fit([[1, 1], [1, 1]], [1, 2], [1, 1]), "expected independent ones"),
    (lambda: dense.lse_weights(draw(B, D), draw(K, D), beta=1e300), "x: overflows"),
    (lambda: dense.nearest(NAN, draw(K, D)), "x: 4 of 4 entries are NaN"),
    (
        lambda: discrete.visit_by_definition(bowl, spins(8), torch.tensor([-1])),
        r"visits: bits -1..-1, expected 0..7",
    ),
    (lambda: prototypes.dead(NAN, draw(K, D), beta=1.0), "x: 4 of 4 entries are NaN"),
    (
        lambda: prototypes.expectation_maximisation(NAN, draw(K, D), beta=1.0, steps=2),
        "points: 4 of 4 entries are NaN",
    ),
    (
        lambda: prediction.AssociativeMemoryRegressor(beta=np.array([0.01, 100.0])).fit(X, Y),
        r"beta = ndarray of float64 of shape \(2,\): expected",
    ),
    (
        lambda: prediction.AssociativeMemoryRegressor().fit(1e200 * X.astype(float), Y),
        "X: entries lie .* expected 1e-100 to",
    ),
    (
        lambda: prediction.AssociativeMemoryRegressor().fit(X, 1e200 * Y.astype(float)),
        "y: entries lie .* expected 1e-100 to",
    ),
    (lambda: masked_images.hide_patches(2, 4, 1.1), r"fraction = 1.1: expected a number in \[0, 1"),
    (lambda: synapses.Attention(4, key_dim=0), "key_dim = 0: expected a whole number >= 1"),
    (
        lambda: towers.tower((1, 8, 8), kernel_size=3, coupling=float("nan")),
        "coupling = nan: expected a finite number > 0",
    ),
    (lambda: small_model().complete(255 * coloured(), small_hidden()), "to_unit brings 0..255"),
    (lambda: Draws(0, 0, 4, rank=5), "rank = 5: expected a whole number from 0 to 0"),
    (lambda: Draws(0, 0, 4).rows(0), "n = 0: expected a whole number >= 1"),
]


@pytest.mark.parametrize(("slip", "words"), SLIPS)
def test_slips_that_were_answered_are_refused(slip, words):
    with pytest.raises((ValueError, TypeError), match=words) as caught:
        slip()
    assert "\n" not in str(caught.value)
