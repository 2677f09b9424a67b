"""Configs: typed, checked, refused in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Literal

import pytest

from amtutor.train import Settings, find_task, load_preset, preset_names
from amtutor.train.config import coerce, from_dict, parse, parse_sets

NEEDED = {"task": "toy", "steps": 10, "batch_size": 4, "lr": 0.1}


@dataclass(frozen=True, kw_only=True)
class Rich(Settings):
    sizes: tuple[int, ...] = (1, 2)
    name: str | None = None
    mode: Literal["a", "b"] = "a"
    scale: float = 1.0
    on: bool = False


def rich(**values) -> Rich:
    return from_dict(Rich, {**NEEDED, **values})


def test_plain_values_take_their_declared_type():
    config = rich(lr=1, betas=[0.5, 0.9], sizes=[3], scale=2)
    assert config.lr == 1.0 and isinstance(config.lr, float)
    assert config.betas == (0.5, 0.9) and config.sizes == (3,) and isinstance(config.scale, float)


def test_a_config_survives_json():
    config = rich(sizes=[3, 4, 5], name="x", on=True)
    assert from_dict(Rich, json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"steps": 2.5}, "steps = 2.5: expected a whole number"),
        ({"steps": True}, "steps = True: expected a whole number"),
        ({"steps": 0}, "steps = 0: expected a whole number >= 1"),
        ({"lr": "big"}, "lr = 'big': expected a number"),
        ({"lr": 0}, "lr = 0.0: expected a finite number > 0"),
        ({"betas": [0.9]}, "betas = [0.9]: expected 2 values (a number, a number)"),
        ({"compile": "no"}, "compile = 'no': expected true or false"),
        ({"schedule": "cosin"}, "schedule = 'cosin': expected one of 'constant'"),
        ({"precision": "fp16"}, "precision = 'fp16': expected one of 'fp32', 'bf16'"),
        ({"ema_decay": 1.0}, "ema_decay = 1.0: expected a number in [0, 1)"),
        ({"grad_clip": -1}, "grad_clip = -1.0: expected a finite number >= 0"),
        ({"mode": "c"}, "mode = 'c': expected one of 'a', 'b'"),
        ({"name": 3}, "name = 3: expected text or null"),
        ({"sizes": [1, "x"]}, "sizes = 'x': expected a whole number"),
        ({"stesp": 1}, "'stesp' is no setting of task 'toy'; did you mean steps"),
    ],
)
def test_bad_values_get_one_line(values, line):
    with pytest.raises(ValueError) as caught:
        rich(**values)
    assert line in str(caught.value) and "\n" not in str(caught.value)


def test_missing_values_are_named():
    with pytest.raises(ValueError, match="config: batch_size, lr missing"):
        from_dict(Settings, {"task": "toy", "steps": 1})


def test_words_are_read_by_type():
    words = ["steps=8_000", "batch_size=1e2", "lr=3e-4", "compile=yes", "betas=(0.9, .95)"]
    words += ["sizes=4,5,6", "name=none", "mode=b", "on=false", "schedule=linear"]
    assert parse_sets(Rich, words) == {
        **{"steps": 8000, "batch_size": 100, "lr": 3e-4, "compile": True, "betas": (0.9, 0.95)},
        **{"sizes": (4, 5, 6), "name": None, "mode": "b", "on": False, "schedule": "linear"},
    }
    assert parse("name", "3", str | None) == "3"


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("steps=many", "steps = 'many': expected a whole number"),
        ("steps=2.5", "steps = '2.5': expected a whole number"),
        ("steps=inf", "steps = 'inf': expected a whole number"),
        ("on=maybe", "on = 'maybe': expected true or false"),
        ("betas=0.9", "betas = '0.9': expected 2 values"),
        ("mode=z", "mode = 'z': expected one of 'a', 'b'"),
        ("steps", "--set steps: expected key=value"),
        ("learning_rate=1", "'learning_rate' is no setting"),
        ("optimiser=sgd", "'optimiser' is no setting; did you mean optimizer"),
    ],
)
def test_bad_words_get_one_line(word, line):
    with pytest.raises(ValueError) as caught:
        parse_sets(Rich, [word])
    assert line in str(caught.value) and "\n" not in str(caught.value)


def test_coerce_takes_numbers_for_floats_but_no_bool():
    assert coerce("x", 3, float) == 3.0
    with pytest.raises(ValueError, match="x = True: expected a number"):
        coerce("x", True, float)


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_valid_and_says_what_it_is(name):
    preset = load_preset(name)
    assert preset.about and preset.source
    assert type(preset.config) is find_task(preset.config.task).Config


def test_presets_by_path_and_what_is_wrong_with_them(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"config": {**NEEDED, "n_memories": 7}}), "utf-8")
    assert load_preset(str(path), ["beta=2"]).config.n_memories == 7
    path.write_text("{", "utf-8")
    with pytest.raises(ValueError, match="mine.json: cannot be read as JSON"):
        load_preset(str(path))
    path.write_text("{}", "utf-8")
    with pytest.raises(ValueError, match="mine.json: expected an object with 'config'"):
        load_preset(str(path))
    with pytest.raises(ValueError, match="'toy-smok' is no preset; did you mean toy-smoke"):
        load_preset("toy-smok")
    with pytest.raises(ValueError, match="'toi' is no task; did you mean toy"):
        find_task("toi")


def test_writing_a_task_needs_no_accelerate():
    code = (
        "import sys; from amtutor.train import Settings, Task, Draws, register, find_task; "
        "find_task('toy'); "
        "assert not {'accelerate', 'safetensors', 'tensorboard'} & set(sys.modules), 'too much'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
