"""The record behind chapters 16 and 17: whole, of the sizes it names, of the weights that ship."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from amtutor.generative import trained_fields
from amtutor.generative.equilibrium import guided_by_weight, sample
from amtutor.generative.latent import to_pictures

RECORD = Path(__file__).parents[2] / "results" / "eqm-tables"
TABLES = json.loads((RECORD / "tables.json").read_text("utf-8"))
DIGITS = ("digits-eqm", "digits-eqm-scalar")


@pytest.mark.parametrize("name", DIGITS)
def test_digits_reach_what_was_asked(name):
    found = TABLES["digits"][name]
    assert found["named_as_asked"] >= 0.9
    assert found["copies"] < 0.05


@pytest.mark.parametrize("name", DIGITS)
def test_pictures_of_digits_are_those_of_the_weights_that_ship(name):
    """The first twenty, drawn again: same noise, same sum of steps; a pixel may round elsewhere."""
    found, kept = TABLES["digits"][name], np.load(RECORD / "pictures.npz")[name]
    field = trained_fields.load(name)
    start = torch.randn(500, 1, 28, 28, generator=torch.Generator().manual_seed(2))[:20]
    guided = guided_by_weight(field, found["guidance"], null=field.null)
    steps = round(found["best_travel"] / 0.01)
    end = sample(guided, start, labels=torch.arange(20) % 10, steps=steps, step_size=0.01).state
    apart = (to_pictures(end)[:, 0].int() - torch.from_numpy(kept[:20]).int()).abs()
    assert (apart <= 2).float().mean() > 0.99


def test_parameters_are_those_of_the_presets():
    pytest.importorskip("accelerate")
    from amtutor.train import load_preset
    from amtutor.train.limits import count_parameters
    from amtutor.train.tasks.eqm import EquilibriumMatching

    def count(name, *sets):
        return count_parameters(EquilibriumMatching(load_preset(name, list(sets)).config))

    for name, found in {**TABLES["digits"], **TABLES["cifar"], **TABLES.get("larger", {})}.items():
        assert found["parameters"] == count(name), name
    for kind, rows in TABLES.get("depth", {}).items():
        for depth, found in rows.items():
            assert found["parameters"] == count(f"eqm-small-{kind}", f"depth={depth}")
    for name, found in TABLES["questions"].items():
        assert found["parameters"] == count(f"eqm-small-{name}")


def test_all_rivals_saw_equally_many_pictures_and_are_asked_at_the_same_times():
    parts = [TABLES.get(part, {}) for part in ("cifar", "larger", "questions")]
    groups = (*parts, *TABLES.get("depth", {}).values())
    curves = [
        [point["images"] for point in seed["curve"]]
        for rows in groups
        for row in rows.values()
        for seed in row["seeds"].values()
    ]
    assert all(curve == curves[0] for curve in curves) and len(curves[0]) >= 4
