"""MNIST handwritten digits in the official IDX files, and scikit-learn's small digits."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from amtutor._check import boolean, choice
from amtutor.data import files
from amtutor.data.convert import to_unit
from amtutor.data.files import DataCorrupt, DataNotFound

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)
# name: md5 of the decompressed bytes, md5 of the gzip file that the mirrors have
OFFICIAL = {
    "train-images-idx3-ubyte": (
        "6bbc9ace898e44ae57da46a324031adb",
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    ),
    "train-labels-idx1-ubyte": (
        "a25bea736e30d166cdddb491f175f624",
        "d53e105ee54ea40749a09fcbcd1e9432",
    ),
    "t10k-images-idx3-ubyte": (
        "2646ac647ad5339dbf082846283269ea",
        "9fb629c4189551a2d022fa330f9573f3",
    ),
    "t10k-labels-idx1-ubyte": (
        "27ae3e4e09519cfbb04c329615203637",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
}


def mnist(split: str = "test", *, download: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Return MNIST's digits and what they are: uint8 (N, 28, 28) in 0..255 and int64 (N,).

    ``split`` is "test" (10 000 digits) or "train" (60 000). The four IDX files, gzipped or not,
    are sought under ``mnist/`` in the folder ``AMTUTOR_DATA``, then in the cache, then downloaded.
    The decompressed bytes must have the official checksums.

    Raises:
        DataNotFound: if a file is nowhere, with the command that fetches it.
        DataCorrupt: if a file is truncated, damaged, or not the official one.
    """
    choice("split", split, ("train", "test"))
    boolean("download", download)
    stem = {"train": "train", "test": "t10k"}[split]
    images = _official(f"{stem}-images-idx3-ubyte", download)
    labels = _official(f"{stem}-labels-idx1-ubyte", download)
    return images, labels.astype(np.int64)


def _official(name: str, download: bool) -> np.ndarray:
    """Find one of the four files, check that it is the official one, and parse it."""
    raw_md5, gzip_md5 = OFFICIAL[name]
    homes = ("mnist/", "MNIST/raw/", "")
    path = files.find(*(f"{home}{name}{end}" for home in homes for end in (".gz", "")))
    if path is None:
        packed = f"mnist/{name}.gz"
        if not download:
            raise DataNotFound(files.missing(packed, "mnist"))
        urls = [f"{mirror}{name}.gz" for mirror in MIRRORS]
        path = files.download(packed, urls, md5=gzip_md5, dataset="mnist")
    content = _unpacked(path)
    array = parse_idx(content, path)
    files.check_md5(path, content, raw_md5)
    return array


def read_idx(path: str | Path) -> np.ndarray:
    """Read an IDX file of bytes, gzipped or not, into a uint8 array of the shape it declares.

    Layout: two zero bytes, 0x08 for unsigned bytes, the number of axes, each length as a
    big-endian 32-bit number, then the bytes.

    Raises:
        DataNotFound: if there is no such file.
        DataCorrupt: if the gzip, the magic number or the length is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise DataNotFound(f"{path}: no such file; expected an IDX file")
    return parse_idx(_unpacked(path), path)


def _unpacked(path: Path) -> bytes:
    content = path.read_bytes()
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataCorrupt(
            f"{path}: expected a whole gzip file ({error}); {files.REPLACE}"
        ) from None


def parse_idx(content: bytes, path: str | Path) -> np.ndarray:
    """Turn the bytes of an IDX file into an array; ``path`` is only for the message."""
    magic = content[:4]
    if len(magic) < 4 or magic[:3] != b"\x00\x00\x08" or not 1 <= magic[3] <= 4:
        raise DataCorrupt(
            f"{path}: expected an IDX file of bytes (magic 0x000008 and the number of axes), "
            f"got 0x{magic.hex()}; {files.REPLACE}"
        )
    start = 4 + 4 * magic[3]
    header = content[4:start].ljust(start - 4, b"\0")
    shape = tuple(int(length) for length in np.frombuffer(header, dtype=">u4"))
    size = start + math.prod(shape)
    if len(content) < start or len(content) != size:
        raise DataCorrupt(
            f"{path}: expected {size} bytes for the shape {shape} it declares, got "
            f"{len(content)}; {files.REPLACE}"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape).copy()


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return scikit-learn's small digits: float32 (1797, 8, 8) in [0, 1] and int64 labels.

    They come with scikit-learn; no file is sought.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return (bunch.images / 16).astype(np.float32), bunch.target.astype(np.int64)


def split_digits(which: str = "mnist") -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Part digits in those to learn from and those held out: (images, labels) twice.

    "mnist": the 10 000 test digits, 8 000 and 2 000, images (n, 1, 28, 28) in [0, 1]. The 60 000
    training digits are not used, so no number compares with those that others print for MNIST.
    "small": scikit-learn's 1 797 digits, 1 400 and 397, images (n, 1, 8, 8).

    Raises:
        DataNotFound: if the digits of MNIST are neither at hand nor to be had.
    """
    choice("which", which, ("mnist", "small"))
    images, labels = mnist("test") if which == "mnist" else digits()
    learned, seed = (8000, 5) if which == "mnist" else (1400, 0)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    x = to_unit(images).reshape(-1, 1, *images.shape[1:])[order]
    y = torch.as_tensor(labels, dtype=torch.int64)[order]
    return (x[:learned], y[:learned]), (x[learned:], y[learned:])
