"""`make bench` goes on where one bench fails, keeps what is known, and the README shows it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from benchmarks import __main__ as bench
from benchmarks import report, table

ROOT = Path(__file__).resolve().parents[2]
ROW = "from benchmarks.report import row, skip\n"
GOOD = ROW + "row('ours', found=0.5, unit='of the time', against='plain', at_most=0.4)\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "bench_a.py").write_text(GOOD + "raise SystemExit('off by 1')\n")
    (tmp_path / "bench_b.py").write_text(GOOD.replace("0.4", "0.6"))
    (tmp_path / "bench_c.py").write_text("print('nothing to tell')\n")
    (tmp_path / "bench_d.py").write_text(ROW + "skip('no data here')\n")
    return tmp_path


def test_one_that_fails_stops_no_other_and_the_command_fails(folder, capfd):
    out = folder / "bench.json"
    assert bench.main(["--out", str(out)], folder) == 1
    kept = json.loads(out.read_text("utf-8"))
    assert {name: record["failed"] for name, record in kept.items()} == {
        "a": "ended with code 1",
        "b": None,
        "c": "told no row",
        "d": None,
    }
    assert [kept[name]["rows"][0]["met"] for name in "ab"] == [False, True]
    assert kept["a"]["machine"]["torch"] and kept["d"]["skipped"] == ["no data here"]
    said = capfd.readouterr()
    assert "FAILED: a" in said.err and "FAILED: c" in said.err and "MISSED" in said.out


def test_what_is_known_stays_and_missing_runs_the_rest(folder):
    out = folder / "bench.json"
    assert bench.main(["--out", str(out), "b"], folder) == 0
    first = out.read_bytes()
    assert list(json.loads(first)) == ["b"]
    (folder / "bench_c.py").write_text(GOOD)
    (folder / "bench_a.py").unlink()
    (folder / "bench_b.py").write_text("raise SystemExit('must not run again')\n")
    assert bench.main(["--out", str(out), "--missing"], folder) == 0
    kept = json.loads(out.read_text("utf-8"))
    assert list(kept) == ["b", "c", "d"] and kept["b"] == json.loads(first)["b"]
    assert bench.main(["--out", str(out), "--missing"], folder) == 0  # nothing left to do
    assert bench.main(["--out", str(out), "nobody"], folder) == 1


def test_a_row_says_whether_what_was_asked_is_met():
    how = {"unit": "", "against": "", "what": "x"}
    assert report.row(found=2.0, at_least=2.0, **how)["met"] is True
    assert report.row(found=2.0, at_most=1.0, **how)["met"] is False
    assert report.row(found=2.0, **how)["asked"] is None
    lost = report.row(found=math.nan, at_most=1.0, **how)
    assert lost["found"] is None and lost["met"] is None
    with pytest.raises(ValueError, match="one of them"):
        report.row(found=1.0, at_most=1.0, at_least=1.0, **how)


def test_every_bench_tells_rows():
    for path in (ROOT / "benchmarks").glob("bench_*.py"):
        assert "    row(" in path.read_text("utf-8"), f"{path.name} calls no report.row"


def test_the_table_says_what_was_missed_and_what_was_left_out():
    machine = report.machine()
    told = report.row("ours", found=4123.0, unit="times", against="it", at_least=1e4, readme=True)
    good = {"machine": machine, "failed": None, "skipped": [], "rows": [told]}
    text = table.table({"x": good, "y": {**good, "failed": "code 1"}}, ["x", "y", "z"])
    assert "| ours | it | 4 120 times (asked: at least 10000: **missed**) |" in text
    assert text.count("| ours |") == 1 and "Left out: z (not run); y (code 1)." in text
    assert machine["processor"] in text


def test_the_readme_has_the_table_of_the_record():
    kept = json.loads((ROOT / "results" / "bench.json").read_text("utf-8"))
    assert table.table(kept, table.benches()) in (ROOT / "README.md").read_text("utf-8"), (
        "run python -m benchmarks.table"
    )
