"""Files that are whole or not there."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

__all__ = ["write_whole"]


def write_whole(path: Path, body: str | bytes) -> None:
    """Write a file so that a crash at any moment leaves the old one or the new one.

    It is written beside its place under another name, flushed to the disk through the handle that
    wrote it, and renamed. Text is UTF-8. The folder must be there.

    Raises:
        OSError: it cannot be written; it carries the file's name, and nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.writing")
    try:
        with temporary.open("wb") as file:
            file.write(body.encode() if isinstance(body, str) else body)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        # A write that fails (a full disk) does not say where.
        error.filename = error.filename or str(path)
        raise
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
