r"""Hierarchical memories: floors of neurons, pixels at the bottom, a name at the top (chapter 5).

`tower` builds a five-floor memory for pictures from the parts of `amtutor.network.ham`; `ask` puts
a question to it (pixels, a name, or any part of them, to be held) and `HAM.settle` goes down its
energy by jumps: given their neighbours, the best state of a set of layers that do not talk to each
other is known in one step. `one_way` uses the same weights upwards only, as a feed-forward network
does.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from amtutor import _check, _weights
from amtutor.network import synapses
from amtutor.network.ham import HAM, NeuronLayer, States
from amtutor.network.lagrangians import Softmax, Tanh
from amtutor.network.synapses import Bias, Conv2d, Dense, Pool2d

__all__ = [
    "FLOORS",
    "ask",
    "load",
    "one_way",
    "pixels",
    "tower",
]

#: The layers of `tower`, from the ground up.
FLOORS = ("image", "features", "pooled", "hidden", "label")
INK = 0.95  # activation of a pixel that is held at full ink: a tanh never quite gets to 1
SURE = 8.0  # state of a name that is held: a softmax of it is 0.997 sure of one in ten


def tower(
    shape: tuple[int, int, int] = (1, 28, 28),
    *,
    channels: int = 32,
    kernel_size: int = 6,
    stride: int = 2,
    pool: int = 2,
    hidden: int = 128,
    classes: int = 10,
    coupling: float = 1.0,
    look: float = 0.4,
    generator: torch.Generator | None = None,
) -> HAM:
    r"""Build the five-floor memory: image, features, pooled, hidden, label.

    .. math:: E = \sum_\ell E_\ell - \langle\hat f, W * \hat v\rangle
              - s\,\langle\hat p, \mathrm{pool}(\hat f)\rangle - \hat h^\top U \hat p
              - \hat y^\top V \hat h - \text{biases}

    All floors are tanh but the last, a softmax; their inverse temperatures (the image's apart) and
    the pooling strength s are learned with the weights. Every synapse is linear in each of its
    layers, so `HAM.settle` can never raise the energy. Activations are bounded, so E is (MM 3.2).

    Args:
        shape: (C, H, W) of a picture. channels, kernel_size, stride: of the convolution.
        pool: side of a pooling window. hidden, classes: units on the upper floors.
        coupling: spectral norm of the dense synapse to the hidden floor, at the start.
        look: scale of the convolution at the start; features begin with inverse temperature 1/look.
        generator: draws the weights.

    Raises:
        ValueError, TypeError: an argument has the wrong range or type, or the pictures are too
            small for one pooling window.

    >>> [layer.shape for layer in tower((1, 8, 8), kernel_size=3, hidden=16).layers.values()]
    [(1, 8, 8), (32, 3, 3), (32, 1, 1), (16,), (10,)]
    """
    c, h, w = _check.sizes("shape", shape, dims=(3,), expected="(C, H, W), whole numbers >= 1")
    shape = (c, h, w)
    kernel_size, stride = _check.count("kernel_size", kernel_size), _check.count("stride", stride)
    pool, hidden = _check.count("pool", pool), _check.count("hidden", hidden)
    coupling, look = _check.positive("coupling", coupling), _check.positive("look", look)
    maps, cells = _maps(shape, channels, kernel_size, stride, pool)
    conv = Conv2d(shape[0], channels, kernel_size, stride=stride, generator=generator)
    pooling = Pool2d(pool, strength=nn.Parameter(torch.tensor(1.0)))
    layers = {
        "image": NeuronLayer(Tanh(), shape),
        "features": NeuronLayer(Tanh(beta=1 / look, learnable=True), maps),
        "pooled": NeuronLayer(Tanh(learnable=True), cells),
        "hidden": NeuronLayer(Tanh(learnable=True), hidden),
        "label": NeuronLayer(Softmax(learnable=True), classes),
    }
    up = Dense(hidden, cells, generator=generator)
    conv.weight.data *= look
    blank = INK * conv.weight.detach().sum((1, 2, 3)).reshape(channels, 1, 1)
    up.weight.data *= coupling / coupling_norm(up, (hidden,), cells)
    connections = [
        ("image", Bias(*shape)),
        (("image", "features"), conv),
        ("features", Bias(channels, 1, 1, bias=blank)),
        (("features", "pooled"), pooling),
        ("pooled", Bias(*cells)),
        (("hidden", "pooled"), up),
        ("hidden", Bias(hidden)),
        (("label", "hidden"), Dense(classes, hidden, generator=generator)),
        ("label", Bias(classes)),
    ]
    return HAM(layers, connections)


def _maps(shape: tuple[int, ...], channels: int, kernel_size: int, stride: int, pool: int):
    """Shapes of the features and of what is pooled of them."""
    least = (pool - 1) * stride + kernel_size
    if min(shape[1:]) < least:
        raise _check.fail("shape", shape, f"sides of at least {least}, for one pooling window")
    maps = (channels, *((n - kernel_size) // stride + 1 for n in shape[1:]))
    return maps, (channels, *(n // pool for n in maps[1:]))


@torch.no_grad()
def coupling_norm(synapse, *shapes: tuple[int, ...], rounds: int = 100) -> float:
    r"""Measure the spectral norm of a bilinear synapse :math:`-\hat y^\top W\hat x`, W as a matrix.

    By power iteration: what goes up and comes down again grows by :math:`\lVert W\rVert^2`.
    """
    weight = next(synapse.parameters())
    g = torch.Generator().manual_seed(0)
    a = torch.randn(shapes[0], generator=g, device="cpu").to(weight)  # where the generator is
    b = weight.new_zeros(shapes[1])
    size = 0.0
    for _ in range(rounds):
        b = synapse.currents(a / a.norm(), b, wanted=(False, True))[1]
        size = float(b.norm())
        a = synapse.currents(a, b / b.norm(), wanted=(True, False))[0]
    return size


# Questions and answers


def ask(
    ham: HAM,
    images: Tensor | None = None,
    labels: Tensor | None = None,
    *,
    seen: Tensor | None = None,
) -> tuple[States, dict[str, Tensor | bool]]:
    """Turn what is known into states and a clamp; what is not known starts at zero and is free.

    Args:
        ham: a memory with floors "image" and "label", such as a `tower`.
        images: (B, C, H, W) or (B, H, W) in [0, 1], 1 is ink.
        labels: (B,) whole numbers; -1 where the name is not known.
        seen: bool, True where a pixel is known; broadcasts to the images. All unless given.

    Returns:
        ``states, clamp`` as `HAM.settle`, `HAM.descend` and `HAM.step` take them.

    Raises:
        ValueError: if nothing is given, or shapes, sizes or values do not fit.
    """
    if images is None and labels is None:
        raise ValueError("images, labels: got neither, expected at least one of them")
    _floors_of(ham, ("image", "label"))
    given = _check.tensor("labels", labels) if images is None else _check.tensor("images", images)
    if given.ndim == 0:
        raise ValueError(f"images, labels: got a {_check.describe(given)}, expected a batch")
    states = ham.states(len(given))
    clamp: dict[str, Tensor | bool] = {}
    if images is not None:
        x = _images(images, ham.layers["image"].shape)
        state = torch.atanh(INK * (2 * x - 1))
        clamp["image"] = True
        if seen is not None:
            held = _seen(seen, images.shape).reshape(x.shape)
            state = torch.where(held, state, 0.0)
            clamp["image"] = held
        states["image"] = state.to(states["image"].dtype)
    if labels is not None:
        classes = ham.layers["label"].shape[0]
        known = _labels(labels, classes, len(states["label"])) >= 0
        one_hot = nn.functional.one_hot(labels.clamp(min=0), classes) * known[:, None]
        states["label"] = (SURE * one_hot).to(states["label"].dtype)
        clamp["label"] = True if bool(known.all()) else known[:, None]
    return states, clamp


def pixels(ham: HAM, states: States) -> Tensor:
    """Read the picture on the ground floor: (B, C, H, W), in [0, 1]."""
    _floors_of(ham, ("image",))
    if not isinstance(states, dict) or "image" not in states:
        raise TypeError(f"states: got a {_check.describe(states)}, expected a dict with 'image'")
    _check.floating("states['image']", states["image"])
    return (1 + ham.layers["image"].activation(states["image"]) / INK).div(2).clamp(0, 1)


def one_way(ham: HAM, images: Tensor, *, order: tuple[str, ...] = FLOORS) -> Tensor:
    """Go up the floors once, listening only downstairs: a feed-forward network, (B, classes).

    It has the weights of the memory and none of its loops; the result is the state of the top
    floor. Train it by itself for a network of equal size, or use it to see what loops add.

    Raises:
        ValueError, TypeError: ``images`` or a floor of ``order`` does not fit.

    >>> net = tower((1, 8, 8), kernel_size=3, hidden=16)
    >>> one_way(net, torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """
    _floors_of(ham, order)
    x = torch.atanh(INK * (2 * _images(images, ham.layers[order[0]].shape) - 1))
    activation = ham.layers[order[0]].activation(x)
    for lower, upper in zip(order, order[1:], strict=False):
        silent = activation.new_zeros(len(x), *ham.layers[upper].shape)
        heard = {lower: activation, upper: silent}
        total = silent
        for c in ham.connections:
            if upper in c.names and set(c.names) <= set(heard):
                wanted = tuple(n == upper for n in c.names)
                sent = synapses.currents(c.synapse, *(heard[n] for n in c.names), wanted=wanted)
                signal = sent[c.names.index(upper)]
                assert signal is not None  # it was wanted
                total = total + signal
        x, activation = total, ham.layers[upper].activation(total)
    return x


# Weights that ship with the package


def load(name: str = "tower") -> HAM:
    """Give a tower that has learned: its weights ship with the package.

    "tower" learned from 8 000 digits of MNIST (preset ``tower``; settings, metrics and
    checksums in ``results/ham-mnist``); "one_way" is its feed-forward twin, for `one_way`; "small"
    learned from 1 400 of scikit-learn's 8 x 8 digits (``tools/explorable_tower.py``).
    """
    _check.choice("name", name, tuple(_FILES))
    tensors, card = _weights.shipped(_FILES[name], kind="tower")
    ham = tower(**card["config"])
    ham.load_state_dict({k: v.float() for k, v in tensors.items()})
    return ham.requires_grad_(False)


_FILES = {"tower": "ham_mnist_tower", "one_way": "ham_mnist_one_way", "small": "ham_digits_small"}


# Checks


def _floors_of(ham: HAM, names: Sequence[str]) -> None:
    if not isinstance(ham, HAM):
        raise TypeError(f"ham: got a {_check.describe(ham)}, expected a HAM such as a tower")
    known = tuple(ham.layers)
    if not isinstance(names, (tuple, list)) or not names:
        raise _check.fail("order", names, f"names of floors, some of {known}")
    missing = [n for n in names if n not in known]
    if missing:
        raise ValueError(f"ham: has no floor {missing[0]!r} among {known}, expected one")


def _images(images: Tensor, shape: tuple[int, ...]) -> Tensor:
    _check.finite("images", _check.floating("images", images))
    if images.ndim < 3 or tuple(images.shape[1:]) not in (shape, shape[1:]):
        raise ValueError(f"images: got a {_check.describe(images)}, expected shape (B, {shape})")
    if images.min() < 0 or images.max() > 1:
        raise ValueError(
            f"images: got values from {float(images.min()):g} to {float(images.max()):g}, "
            "expected [0, 1]"
        )
    return images.reshape(-1, *shape)


def _seen(seen: Tensor, shape: torch.Size) -> Tensor:
    if not isinstance(seen, Tensor) or seen.dtype != torch.bool:
        raise TypeError(f"seen: got a {_check.describe(seen)}, expected a bool tensor")
    return _check.mask("seen", seen, seen.new_empty(()).expand(shape))


def _labels(labels: Tensor, classes: int, batch: int) -> Tensor:
    _check.tensor("labels", labels)
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64 or labels.shape != (batch,):
        raise ValueError(
            f"labels: got a {_check.describe(labels)}, expected an int64 tensor of shape ({batch},)"
        )
    if labels.min() < -1 or labels.max() >= classes:
        raise ValueError(f"labels: got {labels.tolist()[:5]}..., expected -1 to {classes - 1}")
    return labels
