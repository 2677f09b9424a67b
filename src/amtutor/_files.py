"""Files that are whole or not there, and what the disk holds of them."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["digest", "flush_folder", "named", "write_flushed", "write_whole"]

WINDOWS = os.name == "nt"
Body = str | bytes | Iterable[bytes]


def write_whole(path: Path, body: Body) -> None:
    """Write a file so that a crash at any moment leaves the old one or the new one.

    It is written beside its place under another name, flushed to the disk and renamed. Text is
    UTF-8. The folder must be there.

    Raises:
        OSError: it cannot be written; it carries the file's name, and nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.writing")
    try:
        with named(path):
            write_flushed(temporary, body)
            temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_flushed(path: Path, body: Body) -> tuple[int, str]:
    """Write a file and have the disk hold it; return its size and SHA-256, of what was meant.

    Flushed through the handle that wrote it: Windows refuses any other.
    """
    known, size = hashlib.sha256(), 0
    with named(path), path.open("wb") as file:
        for part in _parts(body):
            file.write(part)
            known.update(part)
            size += len(part)
        flush(file)
    return size, known.hexdigest()


def _parts(body: Body) -> Iterable[bytes]:
    if isinstance(body, str):
        return (body.encode(),)
    return [bytes(body)] if isinstance(body, bytes | bytearray | memoryview) else body


def flush(file: BinaryIO) -> None:
    """Have the disk hold what was written to an open file."""
    file.flush()
    os.fsync(file.fileno())


def flush_folder(path: Path) -> None:
    """Have the disk hold the names in a folder; Windows has no such thing and needs none."""
    if WINDOWS:
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """Have an OSError inside say which file it was: a full disk does not."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
