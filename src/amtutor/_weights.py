"""Weights that ship with the package: tensors in safetensors files, and a card of JSON beside each.

The format is simple enough to be read without its library, so that a chapter needs torch only.
"""

from __future__ import annotations

import json
import struct
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

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


def shipped(name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the card of weights that ship: ``weights/<name>.safetensors, .json``.

    Raises:
        ValueError: there are no such weights in this package, with the names of those there are.
    """
    with resources.as_file(resources.files("amtutor") / "weights") as folder:
        path = Path(folder) / f"{name}.safetensors"
        if not path.is_file():
            known = sorted(p.stem for p in Path(folder).glob("*.safetensors"))
            raise ValueError(f"name = {name!r}: expected one of {known}")
        return read_safetensors(path), json.loads(path.with_suffix(".json").read_text("utf-8"))
