"""Files on disk: whole or as they were, with the size and the hash of all their parts."""

from __future__ import annotations

import hashlib

import pytest

from amtutor import _files

PARTS = [b"one", b"", b"and two", b"three"]


def test_parts_are_counted_and_hashed_together(tmp_path):
    size, sha256 = _files.write_flushed(tmp_path / "a", PARTS)
    whole = b"".join(PARTS)
    assert (tmp_path / "a").read_bytes() == whole
    assert size == len(whole) and sha256 == hashlib.sha256(whole).hexdigest()
    assert _files.digest(tmp_path / "a") == sha256


@pytest.mark.parametrize("body", ["Hopfield, für immer", "für".encode(), bytearray(b"abc"), PARTS])
def test_text_bytes_and_parts_are_written_as_they_are(tmp_path, body):
    _files.write_whole(tmp_path / "a", body)
    plain = body.encode() if isinstance(body, str) else body
    wanted = b"".join(plain) if isinstance(plain, list) else bytes(plain)
    assert (tmp_path / "a").read_bytes() == wanted


def test_a_write_that_breaks_off_changes_nothing(tmp_path):
    """The old file stays, and nothing half written lies beside it."""

    def breaks_off():
        yield b"new"
        raise RuntimeError("the source is gone")

    path = tmp_path / "a.txt"
    _files.write_whole(path, "old")
    with pytest.raises(RuntimeError, match="the source is gone"):
        _files.write_whole(path, breaks_off())
    assert path.read_text("utf-8") == "old" and list(tmp_path.iterdir()) == [path]


def test_an_error_names_the_file_that_was_meant(tmp_path):
    with pytest.raises(OSError) as found:
        _files.write_whole(tmp_path / "nowhere" / "a.txt", "x")
    assert "a.txt" in str(found.value.filename)
