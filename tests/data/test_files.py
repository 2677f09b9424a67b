"""Readers of official formats: real files where there are any, small damaged ones everywhere."""

import gzip
import hashlib
import http.server
import os
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest

from amtutor import cli, data
from amtutor.data import cifar, files, idx

needs_data = pytest.mark.skipif(
    not os.environ.get("AMTUTOR_DATA"), reason="AMTUTOR_DATA names no folder with the real files"
)


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """A data folder and a cache with nothing in them."""
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("AMTUTOR_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("AMTUTOR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "data"


def idx_bytes(array):
    shape = b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    return b"\x00\x00\x08" + bytes([array.ndim]) + shape + array.tobytes()


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def one_line(caught) -> str:
    text = str(caught.value)
    assert "\n" not in text
    return text


# -- the real files ------------------------------------------------------------------------------


@needs_data
def test_mnist_test_digits_are_the_official_ones():
    images, labels = data.mnist("test", download=False)
    assert images.shape == (10_000, 28, 28) and images.dtype == np.uint8
    assert labels.shape == (10_000,) and labels.dtype == np.int64
    assert labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(labels).tolist() == counts
    assert images.mean() / 255 == pytest.approx(0.1325, abs=1e-4)


@needs_data
@pytest.mark.parametrize(
    ("split", "n", "means"),
    [("train", 50_000, (0.49140, 0.48216, 0.44653)), ("test", 10_000, (0.4942, 0.4851, 0.4504))],
)
def test_cifar10_has_its_classes_and_its_known_colours(split, n, means):
    images, labels = data.cifar10(split, download=False)
    assert images.shape == (n, 3, 32, 32) and images.dtype == np.uint8
    assert np.bincount(labels).tolist() == [n // 10] * 10
    measured = images.mean(axis=(0, 2, 3)) / 255
    assert measured == pytest.approx(means, abs=1e-4)


@needs_data
def test_datasaurus_has_its_142_points():
    points = data.datasaurus()
    assert points.shape == (142, 2)
    assert points.mean(axis=0) == pytest.approx([54.26, 47.83], abs=0.01)
    assert points.std(axis=0, ddof=1) == pytest.approx([16.77, 26.94], abs=0.01)


def test_digits_come_with_scikit_learn():
    images, labels = data.digits()
    assert images.shape == (1797, 8, 8) and images.dtype == np.float32
    assert images.min() == 0 and images.max() == 1
    assert labels.dtype == np.int64 and set(labels) == set(range(10))
    assert data.to_spins(images).shape == (1797, 64)


# -- IDX -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 4)])
@pytest.mark.parametrize("packed", [True, False])
def test_read_idx_returns_what_was_written(tmp_path, shape, packed):
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    content = idx_bytes(array)
    path = write(tmp_path / "x", gzip.compress(content) if packed else content)
    read = data.read_idx(path)
    assert (read == array).all() and read.shape == shape
    read[...] = 0  # writable


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda c: c[:-1], r"expected 40 bytes for the shape \(2, 3, 4\) it declares, got 39"),
        (lambda c: c + b"!", "expected 40 bytes .* got 41"),
        (lambda c: c[:9], "it declares, got 9"),
        (lambda c: b"\x89PNG" + c[4:], "expected an IDX file of bytes .* got 0x89504e47"),
        (lambda c: b"\x00\x00\x0d" + c[3:], "got 0x00000d03"),
        (lambda c: b"\x00\x00", "got 0x0000"),
        (lambda c: b"", "expected an IDX file"),
        (lambda c: gzip.compress(c)[:-6], "expected a whole gzip file"),
        (lambda c: gzip.compress(c)[:12] + b"zzzz" + gzip.compress(c)[16:], "a whole gzip file"),
    ],
)
def test_a_damaged_idx_file_ends_in_one_clear_line(tmp_path, spoil, message):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    path = write(tmp_path / "digits.idx", spoil(idx_bytes(array)))
    with pytest.raises(data.DataCorrupt, match=message) as caught:
        data.read_idx(path)
    text = one_line(caught)
    assert str(path) in text and "delete it and fetch it again" in text


def test_read_idx_of_a_missing_file_says_so(tmp_path):
    with pytest.raises(data.DataNotFound, match="nowhere.idx: no such file; expected an IDX file"):
        data.read_idx(tmp_path / "nowhere.idx")


@pytest.mark.parametrize("home", ["mnist/", "MNIST/raw/", ""])
def test_mnist_refuses_a_sound_file_that_is_not_the_official_one(empty, home):
    fake = idx_bytes(np.zeros((10_000, 28, 28), dtype=np.uint8))
    path = write(empty / f"{home}t10k-images-idx3-ubyte", fake)
    with pytest.raises(data.DataCorrupt, match="expected md5 2646ac647ad5339dbf0828") as caught:
        data.mnist("test")
    assert str(path) in one_line(caught)


def test_mnist_accepts_exactly_the_checksums_it_names(empty, monkeypatch):
    import hashlib

    images = np.arange(2 * 784, dtype=np.uint8).reshape(2, 28, 28)
    labels = np.array([3, 8], dtype=np.uint8)
    contents = {
        "t10k-images-idx3-ubyte": idx_bytes(images),
        "t10k-labels-idx1-ubyte": idx_bytes(labels),
    }
    for name, content in contents.items():
        write(empty / "mnist" / f"{name}.gz", gzip.compress(content))
        monkeypatch.setitem(idx.OFFICIAL, name, (hashlib.md5(content).hexdigest(), ""))
    read, digits = data.mnist("test", download=False)
    assert (read == images).all() and digits.tolist() == [3, 8]


# -- CIFAR-10 ------------------------------------------------------------------------------------


def cifar_bytes(n, *, label=None, seed=0):
    table = np.random.default_rng(seed).integers(0, 256, (n, cifar.RECORD)).astype(np.uint8)
    table[:, 0] = np.arange(n) % 10 if label is None else label
    return table.tobytes()


def small_cifar(folder, monkeypatch, **change):
    """Ten-picture batches in the official layout, and a reader that expects them."""
    monkeypatch.setattr(cifar, "PER_BATCH", 10)
    pictures = []
    for k, name in enumerate((*cifar.BATCHES["train"], *cifar.BATCHES["test"])):
        content = change.get(name.removesuffix(".bin"), cifar_bytes(10, seed=k))
        write(folder / cifar.FOLDER / name, content)
        pictures.append(np.frombuffer(content, np.uint8)[: 10 * cifar.RECORD])
    splits = {"train": np.concatenate(pictures[:5]), "test": pictures[5]}
    sums = {}
    for split, table in splits.items():
        table = table.reshape(-1, cifar.RECORD)
        colours = table[:, 1:].reshape(-1, 3, 1024).sum(-1, dtype=np.int64)
        sums[split] = tuple(tuple(colours[table[:, 0] == k].sum(0).tolist()) for k in range(10))
    monkeypatch.setattr(cifar, "COLOUR_SUMS", sums)
    return pictures


@pytest.fixture
def reader(monkeypatch):
    """Let the default of ``records`` follow the patched batch size."""
    plain = cifar.read_cifar10_batch
    monkeypatch.setattr(
        cifar, "read_cifar10_batch", lambda path: plain(path, records=cifar.PER_BATCH)
    )


def test_cifar10_reads_label_red_green_blue_in_the_order_of_the_batches(empty, reader, monkeypatch):
    pictures = small_cifar(empty, monkeypatch)
    images, labels = data.cifar10("train")
    assert images.shape == (50, 3, 32, 32)
    assert labels.tolist() == list(range(10)) * 5
    third = pictures[2].reshape(10, cifar.RECORD)
    assert (images[24].ravel() == third[4, 1:]).all()
    assert images[24, 1, 0, 5] == third[4, 1 + 1024 + 5]  # green, first row, column 5
    assert data.cifar10("test")[0].shape == (10, 3, 32, 32)


def test_cifar10_refuses_one_changed_pixel(empty, reader, monkeypatch):
    small_cifar(empty, monkeypatch)
    path = empty / cifar.FOLDER / "data_batch_4.bin"
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    with pytest.raises(data.DataCorrupt, match="expected red, green and blue of the train"):
        data.cifar10("train")


@pytest.mark.parametrize("slip", ["pixels by pixel", "blue first", "shuffled labels"])
def test_cifar10_refuses_another_layout_colour_order_or_labels(empty, reader, monkeypatch, slip):
    small_cifar(empty, monkeypatch)
    path = empty / cifar.FOLDER / "test_batch.bin"
    table = np.frombuffer(path.read_bytes(), np.uint8).reshape(10, cifar.RECORD).copy()
    planes = table[:, 1:].reshape(10, 3, 1024)
    if slip == "pixels by pixel":
        table[:, 1:] = planes.transpose(0, 2, 1).reshape(10, -1)
    elif slip == "blue first":
        table[:, 1:] = planes[:, ::-1].reshape(10, -1)
    else:
        table[:, 0] = np.roll(table[:, 0], 1)
    path.write_bytes(table.tobytes())
    with pytest.raises(data.DataCorrupt, match="expected red, green and blue of the test"):
        data.cifar10("test")


def test_cifar10_refuses_a_split_with_missing_classes(empty, reader, monkeypatch):
    small_cifar(empty, monkeypatch, test_batch=cifar_bytes(10, label=3))
    message = r"expected 1 test pictures of each class, got \[0, 0, 0, 10"
    with pytest.raises(data.DataCorrupt, match=message):
        data.cifar10("test")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (cifar_bytes(10)[:-1], "expected 30730 bytes .10 pictures of 3073., got 30729"),
        (cifar_bytes(11), "expected 30730 bytes .* got 33803"),
        (b"", "got 0"),
        (cifar_bytes(10, label=10), "expected labels 0 to 9, got 10 in picture 0"),
    ],
)
def test_a_damaged_batch_ends_in_one_clear_line(tmp_path, content, message):
    path = write(tmp_path / "data_batch_1.bin", content)
    with pytest.raises(data.DataCorrupt, match=message) as caught:
        data.read_cifar10_batch(path, records=10)
    assert str(path) in one_line(caught)


def test_a_batch_of_any_length_is_read_when_asked(tmp_path):
    path = write(tmp_path / "few.bin", cifar_bytes(3))
    images, labels = data.read_cifar10_batch(path, records=None)
    assert images.shape == (3, 3, 32, 32) and labels.tolist() == [0, 1, 2]
    with pytest.raises(data.DataNotFound, match="expected a CIFAR-10 binary batch"):
        data.read_cifar10_batch(tmp_path / "none.bin")
    with pytest.raises(ValueError, match="records = 0: expected a whole number >= 1"):
        data.read_cifar10_batch(path, records=0)


def test_cifar10_unpacks_the_archive_it_finds_and_nothing_else_from_it(
    empty, reader, tmp_path, monkeypatch
):
    small_cifar(tmp_path / "source", monkeypatch)
    with tarfile.open(empty / "cifar-10-binary.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "source" / cifar.FOLDER, arcname=cifar.FOLDER)
        write(tmp_path / "evil", b"no")
        tar.add(tmp_path / "evil", arcname="../evil")
    images, _ = data.cifar10("train", download=False)  # it lies there: nothing is downloaded
    assert len(images) == 50
    found = sorted(p.name for p in (tmp_path / "cache").rglob("*") if p.is_file())
    assert found == sorted((*cifar.BATCHES["train"], *cifar.BATCHES["test"]))
    assert not list((tmp_path / "cache").rglob("evil"))


def test_a_damaged_archive_ends_in_one_clear_line(empty):
    write(empty / "cifar-10-binary.tar.gz", b"not an archive")
    with pytest.raises(data.DataCorrupt, match="expected the six files of cifar-10-batches-bin/"):
        data.cifar10("test")


# -- found, fetched, or told how -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("read", "file", "name"),
    [
        (lambda **k: data.mnist("train", **k), "mnist/train-images-idx3-ubyte.gz", "mnist"),
        (lambda **k: data.cifar10("test", **k), "cifar-10-batches-bin/test_batch.bin", "cifar10"),
    ],
)
def test_missing_files_name_the_folder_and_the_command(empty, read, file, name):
    with pytest.raises(data.DataNotFound) as caught:
        read(download=False)
    text = one_line(caught)
    assert text.startswith(f"{file}: not in {empty} (AMTUTOR_DATA) or in ")
    assert f"run `amtutor data {name}`" in text and "set AMTUTOR_DATA" in text
    assert isinstance(caught.value, FileNotFoundError)


def test_every_mirror_is_tried_and_its_reason_told(empty, monkeypatch):
    tried = []

    def fail(url, **options):
        tried.append(url)
        raise OSError(f"no route\nto {len(tried)}")

    monkeypatch.setattr(files.pooch, "retrieve", fail)
    with pytest.raises(data.DataNotFound) as caught:
        data.mnist("test")
    assert tried == [mirror + "t10k-images-idx3-ubyte.gz" for mirror in idx.MIRRORS]
    assert all(f"no route to {k}" in one_line(caught) for k in (1, 2, 3))


def test_the_second_mirror_serves_when_the_first_fails(empty, tmp_path, monkeypatch):
    good = write(tmp_path / "good", b"here")

    def retrieve(url, *, known_hash, fname, path, downloader):
        assert known_hash == "md5:abc" and fname == "x.gz" and Path(path).name == "set"
        if "first" in url:
            raise ValueError("hash of downloaded file does not match")
        return str(good)

    monkeypatch.setattr(files.pooch, "retrieve", retrieve)
    urls = ["https://first.example/x.gz", "https://second.example/x.gz"]
    assert files.download("set/x.gz", urls, md5="abc", dataset="set") == good


def test_a_download_writes_nothing_to_the_error_stream(empty, tmp_path, monkeypatch, capfd):
    """Neither one that succeeds nor one that fails: in a notebook it would look like an error."""
    content = b"0123456789" * 1000

    class Quiet(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    url = f"http://127.0.0.1:{server.server_port}/x"
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    try:
        got = files.download("set/x", [url], md5=md5, dataset="set")
        assert got.read_bytes() == content
        with pytest.raises(files.DataNotFound):
            files.download("set/y", [url], md5="0" * 32, dataset="set")
    finally:
        server.shutdown()
        server.server_close()
    assert capfd.readouterr().err == ""


def test_the_data_folder_is_looked_in_before_the_cache(empty, tmp_path):
    write(tmp_path / "cache" / "a.txt", b"cache")
    assert files.find("a.txt").read_bytes() == b"cache"
    write(empty / "a.txt", b"data")
    assert files.find("a.txt").read_bytes() == b"data"
    assert files.find("b.txt") is None


def test_a_data_folder_that_is_none_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("AMTUTOR_DATA", str(tmp_path / "typo"))
    with pytest.raises(data.DataNotFound, match="AMTUTOR_DATA = .*typo': no such folder"):
        data.mnist("test")


def test_unknown_splits_are_refused():
    for read in (data.mnist, data.cifar10):
        with pytest.raises(ValueError, match="split = 'val': expected one of 'train', 'test'"):
            read("val")


def test_the_command_prints_one_line_and_fails_where_nothing_can_be_had(empty, capsys, monkeypatch):
    def fail(url, **options):
        raise OSError("offline")

    monkeypatch.setattr(files.pooch, "retrieve", fail)
    assert cli.main(["data", "mnist"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("amtutor: mnist/train-images") and captured.err.count("\n") == 1


@needs_data
def test_the_command_reports_what_is_there(capsys):
    assert cli.main(["data", "cifar10"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "cifar10 train: 50000 pictures",
        "cifar10 test: 10000 pictures",
    ]


# -- points --------------------------------------------------------------------------------------


def test_the_dinosaur_is_a_closed_evenly_sampled_outline():
    for n in (10, 142, 1000):
        points = data.dinosaur(n)
        assert points.shape == (n, 2) and points.dtype == np.float64
        assert np.abs(points.mean(axis=0)).max() < 1e-12
        assert (points**2).sum(axis=1).mean() == pytest.approx(2)
    steps = np.hypot(*np.diff(np.concatenate([points, points[:1]]), axis=0).T)
    assert steps.max() < 1.01 * steps.mean() and np.median(steps) > 0.99 * steps.mean()


def test_the_dinosaur_has_a_high_small_head_a_long_tail_and_two_pairs_of_legs():
    points = data.dinosaur(2000)
    x, y = points.T
    top, tip = points[y.argmax()], points[x.argmax()]
    assert top[0] < -0.8  # the head is at the left, above everything
    assert tip[0] > 1.8 and abs(tip[1]) < 0.6  # the tail ends at the right, half-way up
    ground = np.sort(x[y < y.min() + 0.1])
    assert (np.diff(ground) > 0.3).sum() == 1  # two feet with a gap between
    neck = x[(y > 0.9) & (y < 1.1)]
    belly = x[(y > -0.1) & (y < 0.1)]
    assert np.ptp(neck) < 0.5 < 1.8 < np.ptp(belly)


def test_the_dinosaur_turns_once_and_never_crosses_itself():
    points = data.dinosaur(200)
    z = points[:, 0] + 1j * points[:, 1]
    edges = np.roll(z, -1) - z
    turning = np.angle(np.roll(edges, -1) / edges).sum()
    assert abs(turning) == pytest.approx(2 * np.pi, abs=1e-9)

    def side(start, edge, point):
        return np.sign((np.conj(edge) * (point - start)).imag)

    ends = np.roll(z, -1)
    apart = side(z[:, None], edges[:, None], z[None]) * side(z[:, None], edges[:, None], ends[None])
    assert not ((apart < 0) & (apart.T < 0)).any()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y\n1,2\n", "expected 142 pairs of finite numbers, got 1 rows"),
        ("x,y\n" + "1,2\n" * 141 + "nan,2\n", "expected 142 pairs of finite"),
        ("a,b\n1,2\n", "expected columns x and y of numbers"),
        ("x,y\n1,two\n", "expected columns x and y of numbers"),
        ("x,y\n1\n", "expected columns x and y of numbers"),
        ("", "got 0 rows"),
    ],
)
def test_a_damaged_datasaurus_ends_in_one_clear_line(empty, text, message):
    write(empty / "datasaurus" / "dino.csv", text.encode())
    with pytest.raises(data.DataCorrupt, match=message) as caught:
        data.datasaurus()
    assert "dino.csv" in one_line(caught)


def test_a_missing_datasaurus_points_to_our_own(empty):
    with pytest.raises(data.DataNotFound, match=r"use data\.dinosaur\(\), which needs no file"):
        data.datasaurus()
