"""Configs: typed, checked, refused in one line."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Literal

import pytest

from amtutor.train import Settings, find_task, load_preset, preset_names, ranged, tasks
from amtutor.train.config import Range, coerce, from_dict, hints, parse, parse_sets

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
        ({"lr": 1e300}, "lr = 1e+300: expected a finite number in (0, "),
        ({"lr": float("nan")}, "lr = nan: expected a finite number"),
        ({"scale": float("inf")}, "scale = inf: expected a finite number"),
        ({"betas": [0.9, 1]}, "betas = 1.0: expected a finite number in [0, 1)"),
        ({"seed": 10**30}, "expected a whole number in [0, "),
        ({"seed": -1}, "seed = -1: expected a whole number >= 0"),
        ({"batch_size": 10**13}, "batch_size = 10000000000000: expected a whole number in [1, "),
        ({"threads": 100_000}, "threads = 100000: expected a whole number in [0, 1024]"),
        ({"sizes": [1, -(10**60)]}, "sizes = "),
        ({"betas": [0.9]}, "betas = [0.9]: expected 2 values (a number, a number)"),
        ({"compile": "no"}, "compile = 'no': expected true or false"),
        ({"schedule": "cosin"}, "schedule = 'cosin': expected one of 'constant'"),
        ({"precision": "fp16"}, "precision = 'fp16': expected one of 'fp32', 'bf16'"),
        ({"ema_decay": 1.0}, "ema_decay = 1.0: expected a finite number in [0, 1)"),
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


@pytest.mark.parametrize("name", tasks.names())
def test_every_setting_of_every_task_has_a_range(name):
    """Numbers declare both ends, words what they may be; only names and switches need neither."""
    cls = find_task(name).Config
    for entry in dataclasses.fields(cls):
        kind = str(hints(cls)[entry.name])
        if "range" not in entry.metadata:
            assert "bool" in kind or entry.name == "task", f"{name}: {entry.name} has no range"


def test_a_range_has_two_ends():
    with pytest.raises(TypeError, match="expected least or above"):
        ranged(1, least=0)


@pytest.mark.parametrize("low, high", [("least", "most"), ("above", "below")])
def test_the_ends_of_a_range_are_in_it_where_it_says_so(low, high):
    """Once closed, once open: the ends themselves, and what is beside them."""
    allowed = Range(**{low: 2, high: 5})
    closed = low == "least"
    assert [allowed.holds(v) for v in (1.9, 2, 2.1, 4.9, 5, 5.1)] == [
        *(False, closed, True, True, closed, False),
    ]


BAD = {
    "toy": ["noise=-1", "creatures=0", "beta=nan", "n_memories=1e13", "beta=-1"],
    "latent": [
        *("beta_whole_start=0", "beta_whole_end=nan", "sigma=-1", "langevin=inf", "memory_std=-1"),
        *("replace_fraction=1.5", "descent_step_size=0", "dim=0", "width=-1", "blocks=0"),
        *("multipliers=1,0", "groups=7", "n_heads=5", "patch=3", "train_images=-1"),
    ],
    "et-completion": [
        *("dim=0", "n_heads=0", "head_dim=-1", "n_memories=0", "step_size=0", "depth=0"),
        *("descent_steps=0", "beta=-1", "patch_size=5", "fractions=0,1", "fractions=", "core=x"),
    ],
    "prototypes": ["points=cats", "beta=0", "noise=-1,0", "langevin=-1", "replace_every=-5"],
    "c10-features": ["widths=0,1,1", "label_smoothing=1", "translate=40", "bias_lr_scale=0"],
}
PRESET = {"toy": "toy-smoke", "latent": "latent-smoke", "et-completion": "et-completion-smoke"}
PRESET |= {"prototypes": "dinosaur-smoke", "c10-features": "c10-features-smoke"}


@pytest.mark.parametrize(("task", "word"), [(t, w) for t in BAD for w in BAD[t]])
def test_nonsense_is_refused_before_anything_is_read(task, word):
    with pytest.raises(ValueError) as caught:
        load_preset(PRESET[task], [word])
    assert word.partition("=")[0] in str(caught.value) and "expected" in str(caught.value)
    assert "\n" not in str(caught.value)


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
    path.write_text("[" * 100_000, "utf-8")
    with pytest.raises(ValueError, match="mine.json: cannot be read as JSON"):
        load_preset(str(path))
    for task in (5, None, [1], {}):
        path.write_text(json.dumps({"config": {**NEEDED, "task": task}}), "utf-8")
        with pytest.raises(ValueError, match="task = "):
            load_preset(str(path))
    path.write_text(json.dumps({"about": 5, "config": NEEDED}), "utf-8")
    with pytest.raises(ValueError, match="about = 5: expected text"):
        load_preset(str(path))
    with pytest.raises(ValueError, match="task = 'latent': toy-smoke is of task 'toy'"):
        load_preset("toy-smoke", ["task=latent"])
    assert load_preset("toy-smoke", ["task=toy"]).config.task == "toy"
    with pytest.raises(ValueError, match="'toy-smok' is no preset; did you mean toy-smoke"):
        load_preset("toy-smok")
    with pytest.raises(ValueError, match="'toi' is no task; did you mean toy"):
        find_task("toi")


def test_a_base_gives_what_a_preset_leaves_out(tmp_path):
    below, above = tmp_path / "below.json", tmp_path / "above.json"
    below.write_text(json.dumps({"base": "toy-smoke", "config": {"lr": 0.5, "beta": 2}}), "utf-8")
    above.write_text(json.dumps({"base": "below.json", "config": {"beta": 3}}), "utf-8")
    config, toy = load_preset(str(above)).config, load_preset("toy-smoke").config
    assert config == dataclasses.replace(toy, lr=0.5, beta=3.0)
    below.write_text(json.dumps({"base": "above.json", "config": {}}), "utf-8")
    with pytest.raises(ValueError, match="has it as a base"):
        load_preset(str(above))
    below.write_text(json.dumps({"base": "nothing", "config": {}}), "utf-8")
    with pytest.raises(ValueError, match="'nothing' is no preset"):
        load_preset(str(above))


def test_writing_a_task_needs_no_accelerate():
    code = (
        "import sys; from amtutor.train import Settings, Task, Draws, register, find_task; "
        "find_task('toy'); "
        "assert not {'accelerate', 'safetensors', 'tensorboard'} & set(sys.modules), 'too much'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
