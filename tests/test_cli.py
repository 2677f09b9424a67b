"""The command line: what a user types, and the one line they get for what cannot be."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from amtutor import cli
from amtutor.train import load_preset, preset_names

pytest.importorskip("accelerate", reason='training needs pip install "amtutor[train]"')

ROOT = Path(__file__).resolve().parents[1]
QUICK = ["--quiet", "--device", "cpu", "--set", "steps=6", "checkpoint_every=3", "sample_every=0"]
QUICK += ["n_memories=8", "creatures=20"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AMTUTOR_DEBUG", raising=False)
    return tmp_path


def say(capsys, *words: str) -> tuple[int, str, str]:
    """Run a command line; return exit code, output and errors."""
    try:
        code = cli.main(list(words))
    except SystemExit as left:
        code = left.code
    out, err = capsys.readouterr()
    return code, out, err


def test_train_sample_figures_without_naming_the_run(here, capsys):
    code, out, _ = say(capsys, "train", "toy-smoke", *QUICK)
    assert (
        code == 0 and out == "runs/toy-smoke: 6 steps done; next: amtutor sample runs/toy-smoke\n"
    )
    record = json.loads((here / "runs/toy-smoke/config.json").read_text("utf-8"))
    assert record["command"].startswith("amtutor train toy-smoke --set steps=6")
    code, out, err = say(capsys, "sample", "--n", "5", "--seed", "2", "--batch-size", "3")
    assert code == 0 and err == "run: runs/toy-smoke\n"
    images = np.load(here / "runs/toy-smoke/samples/5-seed2.npy")
    assert images.shape == (5, 1, 24, 24) and images.dtype == np.uint8
    assert (here / "runs/toy-smoke/samples/5-seed2.png").is_file() and "5-seed2.npy" in out
    three = ["--n", "2", "--seed", "2", "--batch-size", "3", "--out", "two.png"]
    assert say(capsys, "sample", *three)[0] == 0
    assert np.array_equal(np.load(here / "two.npy"), images[:2])
    code, _, err = say(capsys, "figures")
    assert code == 2 and "task 'toy' draws no figures" in err


def test_the_latest_run_is_the_one_trained_last(here, capsys):
    for name in ("b", "a"):
        say(capsys, "train", "toy-smoke", "--out", f"runs/{name}", *QUICK)
        os.utime(here / "runs" / name / "metrics.jsonl", (1e9, 1e9 if name == "b" else 1e9 + 5))
        os.utime(here / "runs" / name / "config.json", (1e9, 1e9))
    assert say(capsys, "sample", "--n", "1")[2] == "run: runs/a\n"
    os.utime(here / "runs/b/metrics.jsonl", (1e9, 1e9 + 9))
    assert say(capsys, "sample", "--n", "1")[2] == "run: runs/b\n"


def test_the_same_command_goes_on_and_set_may_lengthen(here, capsys):
    say(capsys, "train", "toy-smoke", *QUICK)
    code, _, err = say(capsys, "train", "toy-smoke", "--quiet")
    assert code == 0 and "all 6 steps were done before" in err
    code, out, err = say(capsys, "train", "toy-smoke", "--quiet", "--set", "steps=8")
    assert code == 0 and "goes on after step 6 of 8" in err and "8 steps done" in out
    code, _, err = say(capsys, "train", "toy-smoke", "--set", "lr=1")
    assert code == 2 and "started with lr = 0.02, now 1.0; leave it to resume" in err


def test_a_twin_starts_from_the_stored_config(here, capsys):
    say(capsys, "train", "toy-smoke", *QUICK)
    code, _, _ = say(capsys, "train", "runs/toy-smoke/config.json", "--out", "twin", "--quiet")
    assert code == 0
    pair = [here / "runs/toy-smoke", here / "twin"]
    ours, theirs = ((p / "checkpoints/step-00000006/model.safetensors") for p in pair)
    assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["train", "toy-smok"], "'toy-smok' is no preset; did you mean toy-smoke"),
        (["train", "nothing.json"], "'nothing.json' is no preset"),
        (["train", "toy-smoke", "--set", "stesp=3"], "'stesp' is no setting; did you mean steps"),
        (["train", "toy-smoke", "--set", "steps=x"], "steps = 'x': expected a whole number"),
        (["train", "toy-smoke", "--set", "steps"], "--set steps: expected key=value"),
        (["train", "toy-smoke", "--set", "batch_size=0"], "batch_size = 0: expected a whole"),
        (["train"], "the following arguments are required: PRESET (see amtutor train --help)"),
        (["sample"], "runs: no run there yet; `amtutor train PRESET` starts one"),
        (["sample", "nowhere"], "nowhere: no run there (it has no config.json)"),
        (["sample", "--n", "0"], "argument --n: '0': expected a whole number"),
        (["sample", "--n", "99999999999999"], "argument --n: '99999999999999': expected a whole"),
        (["sample", "--batch-size", "10000000"], "argument --batch-size: '10000000': expected"),
        (["train", "toy-smoke", "--device", "nope"], "device = 'nope': expected a device"),
        (["train", "toy-smoke", "--device", "CPU"], "device = 'CPU': expected a device"),
        (["train", "toy-smoke", "--device", "meta"], "device = 'meta': expected a device of"),
        (["train", "toy-smoke", "--device", ""], "device = '': expected a device"),
        (["train", "toy-smoke", "--set", "task=latent"], "task = 'latent': toy-smoke is of task"),
        (["train", "toy-smoke", "--set", "n_memories=-2"], "n_memories = -2: expected"),
        (["train", "toy-smoke", "--set", "n_memories=1e13"], "n_memories = 10000000000000: exp"),
        (["train", "toy-smoke", "--set", "n_memories=1e7", "creatures=9"], "the model: 5.76e+09"),
        (["train", "toy-smoke", "--set", "lr=1e300"], "lr = 1e+300: expected"),
        (["train", "toy-smoke", "--set", "threads=100000"], "threads = 100000: expected"),
        (["train", "toy-smoke", "--import", "no_such"], "module = 'no_such': cannot be imported"),
        (["train", "toy-smoke", "--out", ""], "argument --out: '': expected a name"),
        (["sample", ""], "argument DIR: '': expected a name"),
        (["damage", "--n", "1"], "argument --n: '1': expected a whole number, 2 to"),
        (["data", "cifar"], "invalid choice: 'cifar'"),
        (["evaluate", "nowhere"], "nowhere: no run there"),
        (["figures", "nowhere"], "nowhere: no run there"),
        (["trian"], "invalid choice: 'trian'"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_errors_are_one_line_and_exit_2(here, capsys, words, line):
    code, out, err = say(capsys, *words)
    assert code == 2 and out == "" and line in err
    assert err.count("\n") == 1 and err.startswith("amtutor") and "Traceback" not in err


def test_a_folder_that_holds_something_else_is_left_alone(here, capsys):
    (here / "mine").mkdir()
    (here / "mine/config.json").write_text('{"other": 1}', "utf-8")
    for words in (["sample", "mine"], ["train", "toy-smoke", "--out", "mine"]):
        code, _, err = say(capsys, *words)
        assert code == 2 and "config.json: expected an object with 'config'" in err
    assert (here / "mine/config.json").read_text("utf-8") == '{"other": 1}'


def test_a_readme_of_something_else_is_left_alone(here, capsys):
    (here / "README.txt").write_text("my notes", "utf-8")
    code, _, err = say(capsys, "train", "toy-smoke", "--out", ".", *QUICK)
    assert code == 2 and err.startswith("amtutor: README.txt: of something else than a run")
    assert (here / "README.txt").read_text("utf-8") == "my notes"
    assert not (here / "config.json").exists()


def test_a_run_of_another_preset_is_refused(here, capsys):
    say(capsys, "train", "toy-smoke", "--out", "a", *QUICK)
    other = next(n for n in preset_names() if n != "toy-smoke")
    code, _, err = say(capsys, "train", other, "--out", "a")
    assert code == 2 and err == "amtutor: a: a run of toy-smoke; --out names another folder\n"


def test_a_folder_without_a_checkpoint_says_so(here, capsys):
    say(capsys, "train", "toy-smoke", *QUICK)
    for path in (here / "runs/toy-smoke/checkpoints").iterdir():
        (path / "manifest.json").unlink()
    code, _, err = say(capsys, "sample")
    assert code == 2 and "not one checkpoint of 2 can be believed" in err.splitlines()[-1]


def test_nan_exits_1_with_one_line(here, capsys, monkeypatch):
    from amtutor.train.tasks.toy import Toy

    monkeypatch.setattr(Toy, "after_step", lambda self, m, *_: m.memories.fill_(torch.nan))
    code, _, err = say(capsys, "train", "toy-smoke", *QUICK)
    assert code == 1 and "NaN or infinite at step 2 (seed 0, rows " in err
    assert err.count("\n") == 1


def test_a_missing_extra_says_what_to_install(here, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    code, _, err = say(capsys, "train", "toy-smoke", *QUICK)
    assert code == 2 and err.count("\n") == 1
    assert err.startswith("amtutor: accelerate is missing")
    assert err.endswith('pip install "amtutor[train]"\n')


def test_a_bug_of_ours_is_not_dressed_up(here, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(cli, "show_presets", broken)
    with pytest.raises(ZeroDivisionError):
        cli.main(["presets"])


def test_debug_shows_where_an_error_comes_from(here, monkeypatch):
    monkeypatch.setenv("AMTUTOR_DEBUG", "1")
    with pytest.raises(ValueError, match="is no preset"):
        cli.main(["train", "toy-smok"])


def test_presets_are_listed_with_exact_counts(here, capsys):
    code, out, _ = say(capsys, "presets", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert code == 0 and sorted(rows) == preset_names()
    toy = rows["toy-smoke"]
    assert toy["parameters"] == 32 * 576 and toy["images_seen"] == 400 * 16
    assert toy["config"] == load_preset("toy-smoke").config.to_dict()
    assert all(row["parameters"] and row["about"] and row["source"] for row in rows.values())
    code, out, _ = say(capsys, "presets")
    (line,) = [line for line in out.splitlines() if line.startswith("toy-smoke")]
    assert code == 0 and "18 432" in line and "6 400" in line


def test_evaluate_passes_on_what_was_asked(here, capsys, monkeypatch):
    evaluation = pytest.importorskip("amtutor.train.evaluation")
    asked = []

    def stub(folder, **chosen):
        asked.append((folder, chosen))
        return {"fd-c10": 1.5}

    monkeypatch.setattr(evaluation, "evaluate_run", stub, raising=False)
    say(capsys, "train", "toy-smoke", *QUICK)
    words = ["evaluate", "--features", "c10", "--n", "100", "--seed", "3"]
    code, out, _ = say(capsys, *words, "--json")
    assert code == 0 and json.loads(out) == {"fd-c10": 1.5}
    assert say(capsys, *words)[1] == "runs/toy-smoke/evaluation.json\n"
    chosen = {"features": "c10", "n_samples": 100, "seed": 3}
    assert asked == [(Path("runs/toy-smoke"), chosen)] * 2


def test_evaluate_the_toy(here, capsys):
    pytest.importorskip("amtutor.train.evaluation")
    say(capsys, "train", "toy-smoke", *QUICK)
    code, out, err = say(capsys, "evaluate", "--features", "c10", "--n", "20")
    assert code == 0 and out == "runs/toy-smoke/evaluation.json\n" and "dead_fraction" in err
    assert (here / out.strip()).is_file()


MINE = """
from dataclasses import dataclass
from amtutor.train import register
from amtutor.train.tasks.toy import Toy, ToySettings

@dataclass(frozen=True, kw_only=True)
class Mine(ToySettings):
    pass

@register("mine")
class MyTask(Toy):
    Config = Mine
"""


def test_a_task_of_ones_own(here):
    """In a process of its own: here it would stay registered."""
    (here / "my_tasks.py").write_text(MINE, "utf-8")
    config = {**load_preset("toy-smoke", ["steps=4", "sample_every=0"]).config.to_dict()}
    config["task"] = "mine"
    (here / "a.json").write_text(json.dumps({"config": config}), "utf-8")
    (here / "b.json").write_text(json.dumps({"module": "my_tasks", "config": config}), "utf-8")

    def run(*words):
        command = [
            sys.executable,
            "-c",
            "import sys; from amtutor.cli import main; sys.exit(main())",
        ]
        return subprocess.run([*command, *words], capture_output=True, text=True, cwd=here)

    without = run("train", "a.json", "--quiet")
    assert without.returncode == 2 and "'mine' is no task" in without.stderr
    quick = ["--quiet", "--device", "cpu"]
    for words in (["a.json", "--import", "my_tasks", "--out", "one"], ["b.json", "--out", "two"]):
        done = run("train", *words, *quick)
        assert done.returncode == 0, done.stderr
    assert run("sample", "one", "--n", "2").returncode == 0  # the run knows its module
    assert run("train", "a.json", "--import", "my_tasks", "--out", "one", *quick).returncode == 0


def test_what_is_sampled_is_what_is_measured(here, capsys, monkeypatch):
    from amtutor.train import evaluation

    say(capsys, "train", "toy-smoke", *QUICK)
    seen, draw = [], evaluation.draw_samples

    def spy(*words, **options):
        seen.append(draw(*words, **options).numpy())
        return torch.from_numpy(seen[-1])

    monkeypatch.setattr(evaluation, "draw_samples", spy)
    assert say(capsys, "evaluate", "--features", "c10", "--n", "120", "--seed", "3")[0] == 0
    assert say(capsys, "sample", "--n", "7", "--seed", "3", "--out", "seven.png")[0] == 0
    assert np.array_equal(np.load(here / "seven.npy"), seen[0][:7])


def test_features_that_are_none_are_refused_before_anything_is_computed(here, capsys, monkeypatch):
    from amtutor.train.tasks.toy import Toy

    say(capsys, "train", "toy-smoke", *QUICK)
    monkeypatch.setattr(Toy, "sample", lambda *_, **__: pytest.fail("pictures were drawn"))
    code, out, err = say(capsys, "evaluate", "--features", "nope")
    assert code == 2 and out == "" and "features = 'nope': expected" in err.splitlines()[-1]


@pytest.mark.parametrize("module", ["amtutor", "amtutor.cli"])
def test_the_command_line_is_a_module_too(module):
    command = [sys.executable, "-m", module, "--version"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("amtutor ")


def test_nobody_reads_what_is_printed(here):
    """A closed standard output is said in a line; a reader who left early is no error."""
    main = f"{shlex.quote(sys.executable)} -m amtutor presets"
    done = subprocess.run(f"{main} >/dev/full", shell=True, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "No space" in done.stderr
    done = subprocess.run(f"{main} | head -1", shell=True, capture_output=True, text=True)
    assert done.stderr == ""


@pytest.mark.parametrize("words", [[], ["train"], ["sample"], ["evaluate"], ["figures"]])
def test_help_fits_a_terminal_and_names_every_command(capsys, monkeypatch, words):
    monkeypatch.setenv("COLUMNS", "100")
    code, out, _ = say(capsys, *words, "--help")
    assert code == 0 and max(map(len, out.splitlines())) <= 100
    if not words:
        assert all(name in out for name in ("presets", "train", "sample", "evaluate", "figures"))


def test_sigterm_saves_and_exits_0(tmp_path):
    """A process of its own, ended as a cluster would end it; then the same command again."""
    command = [sys.executable, "-m", "amtutor", "train", "toy-smoke", "--device", "cpu"]
    command += ["--set", "steps=1000000", "log_every=1", "n_memories=8"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    log = tmp_path / "runs/toy-smoke/metrics.jsonl"
    deadline = time.monotonic() + 240
    while not (log.is_file() and log.stat().st_size) and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    saved = re.search(r"SIGTERM: saved step (\d+) of 1000000 in runs/toy-smoke; the same", err)
    step = int(saved[1])
    assert (tmp_path / f"runs/toy-smoke/checkpoints/step-{step:08d}/manifest.json").is_file()
    assert "Traceback" not in err and "images/s" in err


def test_readme_commands_run(here, capsys):
    """Every `amtutor` line of README's section Training parses; those of the toy are run."""
    text = (ROOT / "README.md").read_text("utf-8")
    section = re.search(r"^## Training\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)[1]
    lines = re.findall(r"^amtutor (.*?)(?:\s+#.*)?$", section, re.MULTILINE)
    assert len(lines) >= 6
    ran = 0
    for line in lines:
        words = line.split()
        args = cli.parser().parse_args(words)
        if args.command == "train":
            load_preset(args.preset, args.sets)
        if args.command in ("presets", "sample") or "toy-smoke" in words:
            code, _, err = say(capsys, *words, *(QUICK if args.command == "train" else []))
            assert code == 0, err
            ran += 1
    assert ran >= 3
    tree = re.search(r"^```text\nruns/(.*?)^```", section, re.MULTILINE | re.DOTALL)[1]
    for name in re.findall(r"^  ([\w.-]+)/?\s", tree, re.MULTILINE):
        assert (here / "runs/toy-smoke" / name).exists(), name
