"""CIFAR-10 in its official binary version: 60 000 colour pictures of ten things."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np

from amtutor._check import boolean, choice, count
from amtutor.data import files
from amtutor.data.files import DataCorrupt, DataNotFound

MIRRORS = (
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "https://cave.cs.toronto.edu/kriz/cifar-10-binary.tar.gz",
    "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/cifar-10-binary.tar.gz",
)
ARCHIVE_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
FOLDER = "cifar-10-batches-bin"
BATCHES = {
    "train": tuple(f"data_batch_{k}.bin" for k in range(1, 6)),
    "test": ("test_batch.bin",),
}
CLASSES = ("airplane", "automobile", "bird", "cat", "deer") + (
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
RECORD = 1 + 3 * 32 * 32  # a label byte, then red, green and blue, each row by row
PER_BATCH = 10_000
# Sums of all red, green and blue bytes of each class: the same for every order of the pictures, and
# other ones where channels, layout or labels are.
COLOUR_SUMS = {
    "train": (
        (686_295_703, 731_566_020, 768_876_731),
        (615_178_006, 593_433_608, 583_862_551),
        (638_764_688, 641_672_407, 553_632_867),
        (646_901_913, 595_891_654, 542_527_243),
        (615_708_732, 607_372_603, 493_787_257),
        (652_703_247, 606_629_751, 543_842_524),
        (613_706_498, 572_366_784, 450_718_021),
        (655_356_835, 626_510_238, 544_286_361),
        (640_038_968, 685_955_214, 724_197_578),
        (651_059_614, 633_661_901, 624_176_486),
    ),
    "test": (
        (139_387_531, 149_356_594, 158_238_050),
        (122_899_202, 118_702_518, 117_096_781),
        (127_932_854, 129_245_166, 111_821_153),
        (128_833_699, 118_878_668, 108_626_696),
        (121_425_885, 119_947_886, 96_776_178),
        (133_001_994, 123_909_272, 111_010_554),
        (124_012_578, 115_484_287, 90_349_730),
        (131_887_291, 126_240_550, 111_110_965),
        (129_154_860, 136_994_558, 144_350_771),
        (131_956_434, 128_015_584, 126_727_345),
    ),
}


def cifar10(split: str = "train", *, download: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Return CIFAR-10: pictures uint8 (N, 3, 32, 32) in 0..255 and labels int64 (N,).

    ``split`` is "train" (50 000) or "test" (10 000); ``amtutor.data.CIFAR10_CLASSES`` names the
    labels. The folder ``cifar-10-batches-bin`` is sought in ``AMTUTOR_DATA``, then in the cache,
    then downloaded (162 MB, official md5). Files may hold the pictures in any order: what is
    checked is the length of every file, the number of each label, and the sums of red, green and
    blue in each class (so pixels in another layout or colour order, or labels of others, are seen).

    Raises:
        DataNotFound: if a file is nowhere, with the command that fetches it.
        DataCorrupt: if a file is truncated or the split is not CIFAR-10.
    """
    choice("split", split, ("train", "test"))
    boolean("download", download)
    paths = [_batch(name, download) for name in BATCHES[split]]
    images = np.empty((PER_BATCH * len(paths), 3, 32, 32), dtype=np.uint8)
    labels = np.empty(len(images), dtype=np.int64)
    for k, path in enumerate(paths):
        here = slice(k * PER_BATCH, (k + 1) * PER_BATCH)
        images[here], labels[here] = read_cifar10_batch(path)
    counts = np.bincount(labels, minlength=10)
    if (counts != len(labels) // 10).any():
        raise DataCorrupt(
            f"{paths[0].parent}: expected {len(labels) // 10} {split} pictures of each class, got "
            f"{counts.tolist()}; {files.REPLACE}"
        )
    colours = images.reshape(len(images), 3, -1).sum(-1, dtype=np.int64)
    sums = [colours[labels == k].sum(0).tolist() for k in range(10)]
    for name, got, known in zip(CLASSES, sums, COLOUR_SUMS[split], strict=True):
        if got != list(known):
            raise DataCorrupt(
                f"{paths[0].parent}: expected red, green and blue of the {split} pictures of "
                f"{name!r} to sum to {list(known)}, got {got}; {files.REPLACE}"
            )
    return images, labels


def read_cifar10_batch(
    path: str | Path, *, records: int | None = PER_BATCH
) -> tuple[np.ndarray, np.ndarray]:
    """Read one file of the binary version: uint8 (records, 3, 32, 32) and int64 labels.

    ``records=None`` takes any whole number of pictures.

    Raises:
        DataNotFound: if there is no such file.
        DataCorrupt: if its length is wrong or a label is above 9.
    """
    path = Path(path)
    if not path.is_file():
        raise DataNotFound(f"{path}: no such file; expected a CIFAR-10 binary batch")
    if records is not None:
        records = count("records", records)
    size = path.stat().st_size
    expected = RECORD * (records if records is not None else max(1, size // RECORD))
    if size != expected:
        raise DataCorrupt(
            f"{path}: expected {expected} bytes ({expected // RECORD} pictures of {RECORD}), got "
            f"{size}; {files.REPLACE}"
        )
    table = np.fromfile(path, dtype=np.uint8).reshape(-1, RECORD)
    labels = table[:, 0].astype(np.int64)
    if labels.max() > 9:
        raise DataCorrupt(
            f"{path}: expected labels 0 to 9, got {labels.max()} in picture {labels.argmax()}; "
            f"{files.REPLACE}"
        )
    return table[:, 1:].reshape(-1, 3, 32, 32), labels


def _batch(name: str, download: bool) -> Path:
    """Find one batch file; fetch and unpack the archive if it is nowhere."""
    path = files.find(f"{FOLDER}/{name}", name)
    if path is not None:
        return path
    archive = files.find("cifar-10-binary.tar.gz")  # unpacking one that lies there is no download
    if archive is None:
        if not download:
            raise DataNotFound(files.missing(f"{FOLDER}/{name}", "cifar10"))
        archive = files.download(
            "cifar-10-binary.tar.gz", MIRRORS, md5=ARCHIVE_MD5, dataset="cifar10"
        )
    unpack(archive, files.cache())
    return files.cache() / FOLDER / name


def unpack(archive: Path, folder: Path) -> None:
    """Take the six batch files out of the archive, and nothing else; each appears whole."""
    wanted = {f"{FOLDER}/{name}" for names in BATCHES.values() for name in names}
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(archive) as tar:
            members = {m.name.removeprefix("./"): m for m in tar.getmembers() if m.isfile()}
            for name in sorted(wanted):
                part = folder / f"{name}.part"
                content = tar.extractfile(members[name])
                part.write_bytes(content.read() if content else b"")
                part.replace(folder / name)
    except (tarfile.TarError, EOFError, OSError, KeyError) as error:
        raise DataCorrupt(
            f"{archive}: expected the six files of {FOLDER}/ ({type(error).__name__}: {error}); "
            f"{files.REPLACE}"
        ) from None
