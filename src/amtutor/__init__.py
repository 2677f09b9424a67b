"""Associative memory as energy descent: the library of the amtutor book.

A memory is a low place in an energy landscape, and remembering is going downhill. The house, from
the ground up; a room imports only from rooms below it:

============================  ====================================================================
``descent``                   the one idea: go down an energy
``data``, ``show``            arrays in, arrays out; figures, movies, widgets
``memory``                    patterns with an energy (chapters 1-3, 7, 10-14)
``network``                   layers and synapses with one energy (chapters 4-6)
``generative``                pictures out of noise (chapters 8, 9, 15-17)
``fast``                      twins of recall, retrieve, walk and descend: same answers, sooner
``evaluate``                  pictures against pictures
``train``, ``cli``            full-scale training, and the command line
============================  ====================================================================

The names that a reader needs first can be had from here; nothing is imported before it is asked
for.

>>> from amtutor import DenseAM, descend
"""

from importlib import import_module

__version__ = "0.1.0"

_DOORS = {
    "Descent": "descent",
    "descend": "descent",
    "DiscreteDenseAM": "memory.discrete",
    "Exponential": "memory.separations",
    "Polynomial": "memory.separations",
    "RectifiedPolynomial": "memory.separations",
    "capacity": "memory.capacity",
    "error_probability": "memory.capacity",
    "measure_error_rate": "memory.capacity",
    "noise_variance": "memory.capacity",
    "DenseAM": "memory.dense",
    "lse_energy": "memory.dense",
    "lsr_energy": "memory.dense",
    "KERNELS": "memory.kernels",
    "DistributedDenseAM": "memory.random_features",
    "PositiveFeatures": "memory.random_features",
    "TrigonometricFeatures": "memory.random_features",
    "AssociativeMemoryClassifier": "memory.prediction",
    "AssociativeMemoryRegressor": "memory.prediction",
    "ClAM": "memory.clustering",
    "DeepClAM": "memory.clustering",
    "HAM": "network.ham",
    "NeuronLayer": "network.ham",
    "Lagrangian": "network.lagrangians",
    "Synapse": "network.synapses",
    "EnergyTransformerBlock": "network.energy_transformer",
    "MaskedImageModel": "network.masked_images",
    "circle_energy": "generative.diffusion",
    "empirical_energy": "generative.diffusion",
    "empirical_score": "generative.diffusion",
    "LatentMemory": "generative.latent",
}
_ROOMS = ("data", "evaluate", "fast", "generative", "memory", "network", "show", "train")

__all__ = [*sorted(_DOORS), *_ROOMS, "__version__"]


def __getattr__(name: str) -> object:
    """Open a door: import what it leads to, once."""
    if name in _DOORS:
        found = getattr(import_module(f"amtutor.{_DOORS[name]}"), name)
        globals()[name] = found
        return found
    if name in _ROOMS:
        return import_module(f"amtutor.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
