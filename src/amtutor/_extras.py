"""Optional packages, asked for when they are needed."""

from __future__ import annotations

import importlib
from types import ModuleType

__all__ = ["MissingExtra", "need"]


class MissingExtra(ImportError):
    """A package of an extra is not installed; the message is one line with the command."""


def need(name: str, *, extra: str = "train") -> ModuleType:
    """Import a module of an optional package.

    Raises:
        MissingExtra: it is not installed, or one that it needs.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtra(
            f'{name.split(".")[0]} is missing ({error}): pip install "amtutor[{extra}]"'
        ) from None
