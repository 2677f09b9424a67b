"""The README's table of trainings is what the records in results/ say."""

from __future__ import annotations

import json
from pathlib import Path

import readme_trainings
from amtutor.train import load_preset, preset_names

ROOT = Path(__file__).resolve().parents[2]


def test_the_table_is_that_of_the_records():
    assert readme_trainings.table() in (ROOT / "README.md").read_text("utf-8"), (
        "run python tools/readme_trainings.py"
    )


def test_every_record_of_a_run_is_of_its_preset_and_has_its_row():
    records = {
        path.parent.name
        for path in ROOT.glob("results/*/config.json")
        if path.parent.name in preset_names()
    }
    assert records == set(readme_trainings.RUNS)
    for name in records:
        kept = json.loads((ROOT / "results" / name / "config.json").read_text("utf-8"))["config"]
        assert kept == load_preset(name).config.to_dict(), name
