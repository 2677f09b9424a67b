"""Where files are sought: the folder ``AMTUTOR_DATA``, the cache, then the official sources."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pooch
from tqdm import tqdm

MAX_REASON = 80  # characters of a mirror's excuse that are worth repeating


class DataNotFound(FileNotFoundError):
    """A data file is nowhere; the message says where it was sought and how to get it."""


class DataCorrupt(ValueError):
    """A data file is not what it should be; the message says what was expected."""


def cache() -> Path:
    """Return the folder that downloads go to (``pooch``'s own; ``AMTUTOR_CACHE`` overrides it)."""
    return Path(os.environ.get("AMTUTOR_CACHE") or pooch.os_cache("amtutor"))


def folders() -> list[Path]:
    """Return the folders that are looked in, first one first.

    Raises:
        DataNotFound: if ``AMTUTOR_DATA`` is set to something that is not a folder.
    """
    named = os.environ.get("AMTUTOR_DATA")
    if not named:
        return [cache()]
    try:
        folder = Path(named).expanduser()
    except RuntimeError:  # ~somebody, and there is no such person
        raise DataNotFound(f"AMTUTOR_DATA = {named!r}: no such home; correct or unset it") from None
    if not folder.is_dir():
        what = "it is a file" if folder.exists() else "no such folder"
        raise DataNotFound(f"AMTUTOR_DATA = {named!r}: {what}; correct or unset it")
    return [folder, cache()]


def places() -> str:
    """Name those folders for a message."""
    named = os.environ.get("AMTUTOR_DATA")
    return (f"{named} (AMTUTOR_DATA) or in " if named else "") + f"{cache()} (cache)"


def find(*names: str) -> Path | None:
    """Return the first file called one of ``names`` (paths relative to a folder), or None."""
    for folder in folders():
        for name in names:
            if (folder / name).is_file():
                return folder / name
    return None


def download(name: str, urls: Sequence[str], *, md5: str, dataset: str) -> Path:
    """Fetch ``name`` into the cache from the first mirror that has it, with a progress bar.

    ``urls`` are tried in order; a file with another md5 counts as a mirror that failed.

    Raises:
        DataNotFound: if no mirror delivers; the message has each mirror's reason.
    """
    path = Path(name)
    reasons = []
    for url in urls:
        try:
            with _progress(path.name) as bar:
                got = pooch.retrieve(
                    url,
                    known_hash=f"md5:{md5}",
                    fname=path.name,
                    path=cache() / path.parent,
                    downloader=pooch.HTTPDownloader(progressbar=bar, timeout=30),
                )
            return Path(got)
        except Exception as error:  # requests has many; whichever it is, the next mirror may work
            excuse = f"{type(error).__name__}: {' '.join(str(error).split())}"
            reasons.append(f"{urlsplit(url).netloc}: {excuse[:MAX_REASON]}")
    raise DataNotFound(missing(name, dataset) + f" [{' | '.join(reasons)}]")


@contextlib.contextmanager
def _progress(name: str) -> Iterator[tqdm]:
    """A bar for one download, once it has taken a second; pooch's own announcements are held back.

    In a notebook it stands among the output: what is written to the error stream looks like one.
    """
    log = pooch.get_logger()
    level = log.level
    log.setLevel(logging.ERROR)
    stream = sys.stderr if sys.stderr.isatty() else sys.stdout
    bar = tqdm(desc=name, total=1, unit="B", unit_scale=True, ncols=79, file=stream, delay=1.0)
    try:
        yield bar
    finally:
        bar.close()
        log.setLevel(level)


def missing(name: str, dataset: str) -> str:
    """Say that a file is nowhere, and the two ways to get it."""
    return (
        f"{name}: not in {places()}; run `amtutor data {dataset}` where there is a "
        "network, or set AMTUTOR_DATA to a folder that has it"
    )


def check_md5(path: Path, content: bytes, expected: str) -> None:
    """Refuse content whose md5 is not the official one."""
    got = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if got != expected:
        raise DataCorrupt(f"{path}: expected md5 {expected} of its content, got {got}; {REPLACE}")


REPLACE = "delete it and fetch it again"
