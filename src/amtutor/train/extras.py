"""The packages that only training needs, asked for when they are needed."""

from __future__ import annotations

import importlib
from types import ModuleType

__all__ = ["MissingExtra", "need"]


class MissingExtra(ImportError):
    """A package of the ``train`` extra is not installed."""


def need(name: str) -> ModuleType:
    """Import a package of the ``train`` extra, or say in one line how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtra(
            f'{name.split(".")[0]} is missing ({error}): pip install "amtutor[train]"'
        ) from None
