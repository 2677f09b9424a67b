"""Measure generated pictures: distances by torch-fidelity, copies of training pictures.

Two kinds of features: "inception", whose distance is the FID, and "c10", a small classifier of
ours, whose distance is ``fd-c10`` and compares with no published FID. Importing this needs torch
only; torch-fidelity is asked for when something is measured.
"""

from __future__ import annotations

from amtutor.evaluate.features import Extractor, Features, extractor
from amtutor.evaluate.fidelity import SelfCheckError, compare, fidelity, frechet, self_check
from amtutor.evaluate.nearest import Nearest, memorised_fraction, nearest_training_images

__all__ = [
    "Extractor",
    "Features",
    "Nearest",
    "SelfCheckError",
    "compare",
    "extractor",
    "fidelity",
    "frechet",
    "memorised_fraction",
    "nearest_training_images",
    "self_check",
]
