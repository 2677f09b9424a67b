"""The tasks that ship, one module each; a module is imported when its task is first asked for.

Task ``c10-features`` lives in ``c10_features.py``. A module that registers several tasks is named
in ``SEVERAL``.
"""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent
SEVERAL: dict[str, str] = {}  # task name -> module, where the two differ


def names() -> list[str]:
    """Return the names of all tasks that ship."""
    files = {path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_")}
    own = {stem.replace("_", "-") for stem in files - set(SEVERAL.values())}
    return sorted(own | set(SEVERAL))


def module_of(name: str) -> str | None:
    """Return the module of a task, or None where there is no such task."""
    stem = SEVERAL.get(name, name.replace("-", "_"))
    known = stem.isidentifier() and (HERE / f"{stem}.py").is_file()
    return f"{__name__}.{stem}" if known else None
