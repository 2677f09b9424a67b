"""Weights that ship with the package: tensors in safetensors files, and a card of JSON beside each.

The format is simple enough to be read and written without its library, so that a chapter needs
torch only.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from amtutor._files import digest, write_whole

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
SCALE = "#scale"  # no name of a parameter has this sign


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file: eight bytes of length, a JSON header, then the numbers.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no safetensors file, or cut short.
    """
    return read_with_metadata(path)[0]


def read_with_metadata(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file and what its header says beside the tensors; errors as there."""
    raw = bytearray(path.read_bytes())
    try:
        (length,) = struct.unpack("<Q", raw[:8])
        header = json.loads(raw[8 : 8 + length])
        metadata = header.pop("__metadata__", {})
        body = memoryview(raw)[8 + length :]
        return {name: _tensor(body, entry) for name, entry in header.items()}, metadata
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:100]
        raise ValueError(f"{path}: expected a safetensors file ({reason})") from None


def _tensor(body: memoryview, entry: dict[str, Any]) -> Tensor:
    start, end = entry["data_offsets"]
    dtype, shape = DTYPES[entry["dtype"]], entry["shape"]
    if end > len(body):
        raise ValueError(f"ends after {len(body)} bytes of numbers, {end} were promised")
    if start == end:  # no numbers: the shape must say so, too
        return torch.zeros(0, dtype=dtype).reshape(shape)
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
        return unpacked(read_safetensors(path)), cards[stem]


def ship(
    path: Path,
    tensors: Mapping[str, Tensor],
    *,
    kind: str,
    metadata: Mapping[str, str] | None = None,
    **about: Any,
) -> dict[str, Any]:
    """Write weights as they ship, ``path`` (.safetensors) and the card beside it; return the card.

    ``about`` goes into the card as it is, ``metadata`` into the tensors' header. Each file is
    written whole or not at all.
    """
    write_whole(path, to_safetensors(tensors, metadata))
    card = {"kind": kind, **about, "sha256": digest(path), "licence": "MIT"}
    write_whole(path.with_suffix(".json"), json.dumps(card, indent=1) + "\n")
    return card


def half(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Round floating-point tensors to float16, as most weights ship."""
    return {k: v.detach().half() if v.is_floating_point() else v for k, v in tensors.items()}


def in_bytes(tensors: Mapping[str, Tensor], *, keep: Iterable[str] = ()) -> dict[str, Tensor]:
    """Round matrices and kernels to a byte a number, as the largest weights ship.

    Row i of ``w`` becomes whole numbers q with w ≈ s_i q, |q| <= 127, s_i = max |w_i| / 127 in
    float32 beside it (``w#scale``): off by at most s_i / 2. Vectors, and what ``keep`` names, go
    to float16. :func:`shipped` undoes it.
    """
    found = half(tensors)
    for name, x in tensors.items():
        if x.is_floating_point() and x.ndim > 1 and name not in set(keep):
            rows = x.detach().float().flatten(1)
            scale = rows.abs().amax(1) / 127
            safe = scale.where(scale > 0, torch.ones_like(scale))  # a row of zeros stays one
            found[name] = (rows / safe[:, None]).round().to(torch.int8).reshape(x.shape)
            found[name + SCALE] = scale
    return found


def unpacked(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undo :func:`in_bytes`, to float32; tensors that have no scales come back as they are."""
    found = {name: x for name, x in tensors.items() if not name.endswith(SCALE)}
    for name in found:
        if (scale := tensors.get(name + SCALE)) is not None:
            rows = found[name].float().flatten(1) * scale[:, None]
            found[name] = rows.reshape(found[name].shape)
    return found


def to_safetensors(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> Iterator[bytes]:
    """Yield a safetensors file in parts: the header, then tensor by tensor.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     path = Path(place) / "a.safetensors"
    ...     _ = path.write_bytes(b"".join(to_safetensors({"x": torch.arange(3.0)})))
    ...     read_safetensors(path)
    {'x': tensor([0., 1., 2.])}
    """
    names = {dtype: name for name, dtype in DTYPES.items()}
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    # As the safetensors package orders them: wide numbers first, so that all lie aligned.
    order = sorted(tensors, key=lambda n: (-tensors[n].element_size(), n))
    at = 0
    for name in order:
        x = tensors[name]
        end = at + x.numel() * x.element_size()
        header[name] = {"dtype": names[x.dtype], "shape": list(x.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield struct.pack("<Q", len(text)) + text
    for name in order:
        if tensors[name].numel():
            x = tensors[name].detach().cpu().contiguous().reshape(-1)
            yield x.view(torch.uint8).numpy().tobytes()
