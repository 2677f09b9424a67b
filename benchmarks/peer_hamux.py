"""The peer's side of bench_ham: runs in an environment of its own, with hamux, without torch.

    python peer_hamux.py FOLDER      # then one request a line: "check" or "time MODEL"

Weights and states come from FOLDER/<model>.npz. "check" writes energies and one step beside them;
"time" answers with the seconds that 100 steps and the final energy took, compiled and warm.
"""

import json
import sys
import time
from functools import partial
from pathlib import Path

import equinox as eqx
import hamux
import jax
import jax.numpy as jnp
import numpy as np

DT, STEPS = 0.1, 100
LAGRANGIANS = {
    "Identity": hamux.lagr_identity,
    "ReLU": hamux.lagr_relu,
    "RectifiedPower": partial(hamux.lagr_repu, n=3),
    "Exponential": hamux.lagr_exp,
    "Tanh": hamux.lagr_tanh,
    "Sigmoid": hamux.lagr_sigmoid,
    "Softmax": hamux.lagr_softmax,
    "LayerNorm": hamux.lagr_layernorm,
    "SphericalNorm": hamux.lagr_spherical_norm,
}


class FlatDense(eqx.Module):
    """Dense synapse between a picture (H, W, C) and a vector."""

    W: jax.Array

    def __call__(self, picture, vector):
        return -(vector * (picture.reshape(-1) @ self.W)).sum()


def pictures_last(x):
    """Our (..., C, H, W) as the peer's (..., H, W, C)."""
    return np.moveaxis(x, -3, -1)


def build(name, file):
    """Return the vectorised HAM and its states."""
    if name == "conv":
        channels, side = file["y"].shape[1], file["y"].shape[-1]
        flat = file["dense"].reshape(channels, side, side, -1).transpose(1, 2, 0, 3)
        layers = {"x": ("Tanh", (28, 28, 1)), "y": ("ReLU", (side, side, channels)),
                  "z": ("Softmax", (10,))}  # fmt: skip
        conv = hamux.ConvSynapse(jnp.array(file["conv"]), window_strides=(2, 2), padding="VALID")
        synapses = {"c": conv, "d": FlatDense(jnp.array(flat.reshape(-1, 10)))}
        joins = [(("x", "y"), "c"), (("y", "z"), "d")]
        states = {"x": pictures_last(file["x"]), "y": pictures_last(file["y"]), "z": file["z"]}
    else:
        kind = "Tanh" if name == "dense" else name
        memory = "Softmax" if name == "dense" else "Tanh"
        layers = {"v": (kind, file["v"].shape[1:]), "m": (memory, file["m"].shape[1:])}
        synapses = {"s": hamux.LinearSynapse(jnp.array(file["W"]))}
        joins = [(("m", "v"), "s")]
        states = {"v": file["v"], "m": file["m"]}
    neurons = {n: hamux.NeuronLayer(LAGRANGIANS[k], s) for n, (k, s) in layers.items()}
    ham = hamux.HAM(neurons, synapses, joins)
    return ham.vectorize(), {n: jnp.array(x) for n, x in states.items()}


def step(ham, x):
    slope = ham.dEdact(ham.activations(x), x)
    return {n: x[n] - DT * slope[n] for n in x}


def energy(ham, x):
    return ham.energy(ham.activations(x), x)


def check(folder, models):
    for name, (ham, x) in models.items():
        parts = ham.energy_tree(ham.activations(x), x)
        new = step(ham, x)
        if name == "conv":
            new = {n: jnp.moveaxis(v, -1, 1) if v.ndim == 4 else v for n, v in new.items()}
        out = {f"energy {n}": e for n, e in parts["neurons"].items()}
        out |= {f"synapse {i}": e for i, e in enumerate(parts["connections"])}
        np.savez(folder / f"{name}.peer.npz", total=energy(ham, x), **out, **new)


def runners(ham):
    """Give two ways to take all steps: one compiled loop, and a loop of compiled steps."""
    one, last = jax.jit(partial(step, ham)), jax.jit(partial(energy, ham))

    @jax.jit
    def whole(x):
        x = jax.lax.fori_loop(0, STEPS, lambda _, x: step(ham, x), x)
        return x, energy(ham, x)

    def stepwise(x):
        for _ in range(STEPS):
            x = one(x)
        return x, last(x)

    return {"one compiled loop": whole, "a loop of compiled steps": stepwise}


def main():
    folder = Path(sys.argv[1])
    files = sorted(p for p in folder.glob("*.npz") if not p.stem.endswith(".peer"))
    models = {p.stem: build(p.stem, np.load(p)) for p in files}
    ready = {}
    for line in sys.stdin:
        what, *rest = line.split()
        if what == "check":
            check(folder, models)
            print("{}", flush=True)
            continue
        ham, x = models[rest[0]]
        if rest[0] not in ready:
            ready[rest[0]] = runners(ham)
            for run in ready[rest[0]].values():
                jax.block_until_ready(run(x))
        seconds = {}
        for way, run in ready[rest[0]].items():
            start = time.perf_counter()
            jax.block_until_ready(run(x))
            seconds[way] = time.perf_counter() - start
        print(json.dumps(seconds), flush=True)


if __name__ == "__main__":
    main()
