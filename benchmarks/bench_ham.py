"""HAM against hamux (JAX): the same energies and steps, and the time of 100 steps at batch 256.

hamux is not a dependency. It gets an environment of its own, .bench-venv in the repository, made on
the first run; where that fails the comparison is skipped and says so. AMTUTOR_BENCH_PEER names the
python of another environment. Rounds go through all ways in turn on the same cores; a ratio is the
median over rounds of the ratios within a round. hamux counts with the better of its two ways, ours
with the better of one thread and all threads (small parallel regions can cost more than they save).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from benchmarks.report import row, skip

from amtutor import fast
from amtutor.fast._descend import _product
from amtutor.network import lagrangians as lag
from amtutor.network import synapses as syn
from amtutor.network.ham import HAM, NeuronLayer

BATCH, STEPS, DT, ROUNDS, TARGET = 256, 100, 0.1, 5, 0.7
HERE = Path(__file__).resolve().parent
PEER_ENV = HERE.parent / ".bench-venv"
PEER_PACKAGES = ["hamux==0.2.2", "fastcore", "jax"]  # hamux forgets to ask for fastcore
KINDS = {
    "Identity": lag.Identity(),
    "ReLU": lag.ReLU(),
    "RectifiedPower": lag.RectifiedPower(3),
    "Exponential": lag.Exponential(),
    "Tanh": lag.Tanh(),
    "Sigmoid": lag.Sigmoid(),
    "Softmax": lag.Softmax(),
    "LayerNorm": lag.LayerNorm(),
    "SphericalNorm": lag.SphericalNorm(),
}
Model = tuple[HAM, dict[str, torch.Tensor]]


def pair(visible: lag.Lagrangian, memory: lag.Lagrangian, dim: int, k: int, batch: int) -> Model:
    g = torch.Generator().manual_seed(0)
    layers = {"v": NeuronLayer(visible, dim), "m": NeuronLayer(memory, k)}
    ham = HAM(layers, [(("m", "v"), syn.Dense(k, dim, generator=g))])
    return ham, ham.states(batch, std=1.0, generator=g)


def conv() -> Model:
    g = torch.Generator().manual_seed(0)
    layers = {
        "x": NeuronLayer(lag.Tanh(), (1, 28, 28)),
        "y": NeuronLayer(lag.ReLU(), (16, 12, 12)),
        "z": NeuronLayer(lag.Softmax(), 10),
    }
    up = syn.Conv2d(1, 16, 5, stride=2, generator=g)
    top = syn.Dense((16, 12, 12), 10, generator=g)
    ham = HAM(layers, [(("x", "y"), up), (("y", "z"), top)])
    return ham, ham.states(BATCH, std=1.0, generator=g)


def models() -> dict[str, Model]:
    small = {n: pair(k, lag.Tanh(), 12, 7, 5) for n, k in KINDS.items()}
    return small | {"dense": pair(lag.Tanh(), lag.Softmax(), 784, 100, BATCH), "conv": conv()}


# The peer


def peer_python() -> str | None:
    """Return the python of an environment with hamux, made if need be; None says why not."""
    if given := os.environ.get("AMTUTOR_BENCH_PEER"):
        return given
    python = PEER_ENV / "bin" / "python"
    works = [str(python), "-c", "import hamux"]
    if python.exists() and subprocess.run(works, capture_output=True).returncode == 0:
        return str(python)
    print("making .bench-venv for hamux and JAX (a minute) ...", flush=True)
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    for command in ([sys.executable, "-m", "venv", str(PEER_ENV)], [*pip, *PEER_PACKAGES], works):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            skip(f"the comparison with hamux, it cannot be installed here: {reason}")
            return None
    return str(python)


class Peer:
    """hamux in a process of its own, answering one request a line."""

    def __init__(self, python: str, folder: Path):
        command = [python, str(HERE / "peer_hamux.py"), str(folder)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, text=True, **pipes)

    def ask(self, line: str) -> dict:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"hamux ended without an answer to {line!r}")
        return json.loads(answer)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def save(folder: Path, name: str, ham: HAM, states: dict[str, torch.Tensor]) -> None:
    weights = [c.synapse.weight.detach().numpy() for c in ham.connections]
    named = {"conv": weights[0], "dense": weights[1]} if name == "conv" else {"W": weights[0]}
    np.savez(folder / f"{name}.npz", **named, **{n: x.numpy() for n, x in states.items()})


def compare(folder: Path, name: str, ham: HAM, states: dict[str, torch.Tensor]) -> float:
    """Largest difference of energies, by component, and of one step, relative to their size."""
    theirs = np.load(folder / f"{name}.peer.npz")
    with torch.no_grad():
        energies, new = ham.energies(states), ham.step(states, step_size=DT)
    keys = [f"energy {n}" for n in ham.layers]
    keys += [f"synapse {i}" for i in range(len(ham.connections))]
    ours = dict(zip(keys, energies.values(), strict=True)) | new
    ours["total"] = sum(energies.values())
    gaps = [np.abs(theirs[k] - v.numpy()).max() / max(1, np.abs(v).max()) for k, v in ours.items()]
    return float(max(gaps))


# Our ways


def by_autograd(ham: HAM, states):
    """The same network with synapses as plain functions, so that nothing is in closed form."""
    plain = [(c.names, lambda *a, s=c.synapse: s(*a)) for c in ham.connections]
    return HAM(dict(ham.layers.items()), plain).descend(states, steps=STEPS, step_size=DT)


def closed_form(ham: HAM, states):
    return ham.descend(states, steps=STEPS, step_size=DT)


def hurried(ham: HAM, states):
    return fast.descend(ham, states, steps=STEPS, step_size=DT)


def products_alone(ham: HAM, states):
    """Nothing but the matrix products of 100 steps: the floor under any way of doing it."""
    (connection,) = ham.connections
    weight = connection.synapse.weight
    back = weight.T.contiguous()
    for _ in range(STEPS):
        _product(states["v"], weight)
        _product(states["m"], back)


WAYS = {
    "automatic differentiation": by_autograd,
    "HAM.descend": closed_form,
    "fast.descend": hurried,
}


def clock(run: Callable, ham: HAM, states) -> float:
    """Seconds of one run, with one thread or with all, whichever is sooner."""
    threads, seconds = torch.get_num_threads(), []
    for n in {1, threads}:
        torch.set_num_threads(n)
        start = time.perf_counter()
        with torch.no_grad():
            run(ham, states)
        seconds.append(time.perf_counter() - start)
    torch.set_num_threads(threads)
    return min(seconds)


def race(name: str, ham: HAM, states, peer: Peer | None) -> None:
    """Time all ways in turn and print seconds and ratios."""
    ways = WAYS | ({"matrix products alone": products_alone} if name == "dense" else {})
    base = "hamux" if peer else "automatic differentiation"
    rounds: list[dict[str, float]] = []
    for i in range(ROUNDS + 1):
        took = {way: clock(run, ham, states) for way, run in ways.items()}
        if peer:
            took |= {f"hamux, {way}": s for way, s in peer.ask(f"time {name}").items()}
            took["hamux"] = min(s for way, s in took.items() if way.startswith("hamux"))
        if i:  # the first round warms up
            rounds.append(took)
    sizes = " - ".join(str(layer.shape) for layer in ham.layers.values())
    print(f"\n{STEPS} steps and the final energy, batch {BATCH}: {sizes}")
    ratio = {way: statistics.median(r[way] / r[base] for r in rounds) for way in rounds[0]}
    for way in rounds[0]:
        if way != "hamux":
            seconds = statistics.median(r[way] for r in rounds)
            print(f"  {way:32s} {1e3 * seconds:8.1f} ms  {ratio[way]:5.2f} x {base}")
    way = min(("HAM.descend", "fast.descend"), key=ratio.get)
    best = ratio[way]
    row(
        f"a HAM {sizes}, {STEPS} steps, batch {BATCH}, {way}",
        found=best,
        unit="of the time",
        against="the JAX package hamux, jitted" if peer else base,
        at_most=TARGET if peer else None,
        readme=True,
    )
    if peer and best <= TARGET:
        print(f"  aim met by {way}: {best:.2f}, wanted {TARGET} x hamux")
    if peer and best > TARGET:
        print(f"  aim missed: {best:.2f}, wanted {TARGET} x hamux")
        if name == "dense":
            floor = ratio["matrix products alone"]
            print(
                f"  (the two matrix products of a step alone take {floor:.2f}: hamux does them too)"
            )


def main() -> None:
    """Compare, then race."""
    everything = models()
    python = peer_python()
    with tempfile.TemporaryDirectory() as name:
        folder, peer = Path(name), None
        if python:
            for key, model in everything.items():
                save(folder, key, *model)
            peer = Peer(python, folder)
            peer.ask("check")
            gaps = {key: compare(folder, key, *model) for key, model in everything.items()}
            worst = max(gaps, key=gaps.get)
            print(f"energies by component and one step, {len(gaps)} models: largest relative "
                  f"difference from hamux {gaps[worst]:.1e} ({worst})")  # fmt: skip
            if gaps[worst] > 1e-5:
                raise SystemExit(f"FAILED: {worst} differs from hamux by {gaps[worst]:.1e} > 1e-5")
        for key in ("dense", "conv"):
            race(key, *everything[key], peer)
        if peer:
            peer.close()


if __name__ == "__main__":
    main()
