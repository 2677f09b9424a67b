"""What the project says of itself in pyproject.toml: its address stands there and nowhere else."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

BOOK = Path(__file__).resolve().parent.parent
BRANCH = "main"


@cache
def project() -> dict:
    """The table [project] of pyproject.toml."""
    return tomllib.loads((BOOK.parent / "pyproject.toml").read_text("utf-8"))["project"]


def repository() -> str:
    """The repository's address, without a slash at its end."""
    return project()["urls"]["Source"].rstrip("/")


def site() -> str:
    """The address at which the built site is published, with a slash at its end."""
    return project()["urls"]["Documentation"].rstrip("/") + "/"


def source(path: str) -> str:
    """The address of a file of the repository."""
    return f"{repository()}/blob/{BRANCH}/{path}"
