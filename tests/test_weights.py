"""Weights that ship: tensors with a card, believed only together."""

from __future__ import annotations

import pytest
import torch

from amtutor import _weights


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder of weights in the place of the package's own."""
    (tmp_path / "weights").mkdir()
    monkeypatch.setattr(_weights.resources, "files", lambda package: tmp_path)
    tensors = {"x": torch.arange(6.0).reshape(2, 3), "labels": torch.tensor([3, 200])}
    path = tmp_path / "weights" / "my_memory.safetensors"
    _weights.ship(path, tensors, kind="memory", config={"k": 2})
    return path, tensors


def test_what_ships_is_opened_by_its_name_and_its_kind(shelf):
    tensors, card = _weights.shipped("my-memory", kind="memory")
    assert card["config"] == {"k": 2} and tensors.keys() == shelf[1].keys()
    assert all(torch.equal(tensors[k], v) for k, v in shelf[1].items())
    with pytest.raises(ValueError, match="weights of tower"):
        _weights.shipped("my-memory", kind="tower")


def test_one_changed_number_is_not_what_the_card_speaks_of(shelf):
    raw = bytearray(shelf[0].read_bytes())
    raw[-1] ^= 1
    shelf[0].write_bytes(raw)
    with pytest.raises(ValueError, match="not the file that its card speaks of"):
        _weights.shipped("my-memory", kind="memory")


def test_numbers_become_halves_and_labels_stay_whole():
    """A half cannot hold 2049; a label must."""
    found = _weights.half({"x": torch.tensor([0.1]), "labels": torch.tensor([2049])})
    assert found["x"].dtype == torch.float16 and abs(float(found["x"]) - 0.1) < 1e-4
    assert found["labels"].dtype == torch.int64 and found["labels"].item() == 2049


def test_a_byte_a_number_is_off_by_half_a_step_of_its_row_at_most(tmp_path, monkeypatch):
    g = torch.Generator().manual_seed(0)
    kernel = torch.randn(5, 3, 2, 2, generator=g) * torch.logspace(-6, 3, 5)[:, None, None, None]
    kernel[3] = 0
    tensors = {"kernel": kernel, "bias": torch.randn(5, generator=g), "kept": kernel[0, :, 0]}
    packed = _weights.in_bytes(tensors | {"labels": torch.tensor([2049])}, keep=["kept"])
    assert packed["kernel"].dtype == torch.int8 and packed["kernel"].shape == kernel.shape
    assert packed["bias"].dtype == packed["kept"].dtype == torch.float16
    (tmp_path / "weights").mkdir()
    monkeypatch.setattr(_weights.resources, "files", lambda package: tmp_path)
    _weights.ship(tmp_path / "weights" / "lean.safetensors", packed, kind="memory")
    found, _ = _weights.shipped("lean", kind="memory")
    assert found.keys() == {*tensors, "labels"} and found["labels"].item() == 2049
    step = kernel.flatten(1).abs().amax(1) / 127
    error = (found["kernel"] - kernel).flatten(1).abs().amax(1)
    assert (error <= step * (0.5 + 1e-4)).all() and (error[step > 0] > 0).all()
    assert not found["kernel"][3].any()


@pytest.mark.parametrize("dtype", _weights.DTYPES.values(), ids=str)
def test_every_number_begins_where_its_dtype_wants_it(tmp_path, dtype):
    """Between tensors of odd sizes, each starts at a multiple of its own size; all come back."""
    tensors = {"a": torch.ones(3, dtype=torch.uint8), "b": torch.ones(5).to(dtype)}
    tensors |= {"c": torch.ones(1, dtype=torch.bool), "d": torch.ones(2, 3, dtype=torch.float64)}
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"".join(_weights.to_safetensors(tensors, {"why": "a test"})))
    found, metadata = _weights.read_with_metadata(path)
    assert metadata == {"format": "pt", "why": "a test"}
    assert all(torch.equal(found[k], v) and found[k].dtype == v.dtype for k, v in tensors.items())
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    assert length % 8 == 0
    for name, entry in _weights.json.loads(raw[8 : 8 + length]).items():
        if name != "__metadata__":
            assert entry["data_offsets"][0] % tensors[name].element_size() == 0, name
