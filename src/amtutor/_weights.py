"""Weights that ship with the package: tensors in safetensors files, and a card of JSON beside each.

The format is simple enough to be read and written without its library, so that a chapter needs
torch only.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from amtutor._files import write_whole

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file: eight bytes of length, a JSON header, then the numbers.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no safetensors file, or cut short.
    """
    raw = bytearray(path.read_bytes())
    try:
        (length,) = struct.unpack("<Q", raw[:8])
        header = json.loads(raw[8 : 8 + length])
        body = memoryview(raw)[8 + length :]
        return {
            name: _tensor(body, entry) for name, entry in header.items() if name != "__metadata__"
        }
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected a safetensors file ({error})") from None


def _tensor(body: memoryview, entry: dict[str, Any]) -> Tensor:
    start, end = entry["data_offsets"]
    dtype, shape = DTYPES[entry["dtype"]], entry["shape"]
    if end > len(body):
        raise ValueError(f"ends after {len(body)} bytes of numbers, {end} were promised")
    if start == end:
        return torch.zeros(shape, dtype=dtype)
    # a copy: slices of a file need not lie where their dtype wants them
    return torch.frombuffer(bytearray(body[start:end]), dtype=dtype).reshape(shape)


def shipped(name: str, *, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the card of weights that ship.

    They are ``weights/<name>.safetensors`` and ``.json``; "-" and "_" in a name are one. The card
    says what they are (``kind``), how to build what they fit (``config``), the SHA-256 of the
    tensors, how they were made and their licence.

    Raises:
        ValueError: no weights of this name and kind ship (with the names of those that do), or
            the file is not the one that the card speaks of.
    """
    with resources.as_file(resources.files("amtutor") / "weights") as folder:
        cards = {
            path.stem: card
            for path in sorted(Path(folder).glob("*.json"))
            if (card := json.loads(path.read_text("utf-8"))).get("kind") == kind
        }
        stem = name.replace("-", "_") if isinstance(name, str) else None
        if stem not in cards:
            raise ValueError(f"name = {name!r}: expected one of {[*cards]}, weights of {kind}")
        path = Path(folder) / f"{stem}.safetensors"
        if digest(path) != cards[stem]["sha256"]:
            raise ValueError(f"{path}: not the file that its card speaks of (SHA-256)")
        return read_safetensors(path), cards[stem]


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def ship(path: Path, tensors: Mapping[str, Tensor], *, kind: str, **about: Any) -> dict[str, Any]:
    """Write weights as they ship, ``path`` (.safetensors) and the card beside it; return the card.

    ``about`` goes into the card as it is. Each file is written whole or not at all.
    """
    write_whole(path, to_safetensors(tensors))
    card = {"kind": kind, **about, "sha256": digest(path), "licence": "MIT"}
    write_whole(path.with_suffix(".json"), json.dumps(card, indent=1) + "\n")
    return card


def half(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Round floating-point tensors to float16, as most weights ship."""
    return {k: v.detach().half() if v.is_floating_point() else v for k, v in tensors.items()}


def to_safetensors(tensors: Mapping[str, Tensor]) -> bytes:
    """Return the bytes of a safetensors file, names in order, each tensor on its own.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     path = Path(place) / "a.safetensors"
    ...     _ = path.write_bytes(to_safetensors({"x": torch.arange(3.0)}))
    ...     read_safetensors(path)
    {'x': tensor([0., 1., 2.])}
    """
    names = {dtype: name for name, dtype in DTYPES.items()}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    parts, at = [], 0
    # As the safetensors package orders them: wide numbers first, so that all lie aligned.
    for name in sorted(tensors, key=lambda n: (-tensors[n].element_size(), n)):
        x = tensors[name].detach().cpu().contiguous()
        raw = x.reshape(-1).view(torch.uint8).numpy().tobytes() if x.numel() else b""
        header[name] = {"dtype": names[x.dtype], "shape": list(x.shape)}
        header[name]["data_offsets"] = [at, at + len(raw)]
        parts.append(raw)
        at += len(raw)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(parts)
