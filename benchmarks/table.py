"""results/bench.json as tables: one of everything, and the README's.

python -m benchmarks.table    # write the README's table anew
"""

from __future__ import annotations

import json
import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BEGIN = "<!-- made by python -m benchmarks.table from results/bench.json -->"
END = "<!-- end of the speeds -->"


def short(number: float | None) -> str:
    """Two digits that count, three of large ones.

    >>> [short(x) for x in (0.4444, 3.14, 41.4, 146.2, 4123.0, 0.0, None)]
    ['0.44', '3.1', '41', '146', '4 120', '0', 'not measured']
    """
    if number is None:
        return "not measured"
    if abs(number) < 10:
        return f"{number:.2g}"
    return f"{float(f'{number:.3g}'):,.0f}".replace(",", " ")


def found(row: dict) -> str:
    """What was found, and what was asked for."""
    words = f"{short(row['found'])} {row['unit']}"
    if row["asked"]:
        verdict = {True: "", False: ": **missed**", None: ""}[row["met"]]
        words += f" (asked: {row['asked']}{verdict})"
    return words


def whole_table(records: dict) -> str:
    """Every row of every bench, for a terminal."""
    lines = [f"{'bench':18s} {'found':>9s} {'unit':26s} {'asked':16s} what, against what"]
    for name, record in records.items():
        for row in record["rows"]:
            asked = f"{row['asked'] or ''}{'  MISSED' if row['met'] is False else ''}"
            what = f"{row['what']} | {row['against']}"
            lines.append(
                f"{name:18s} {short(row['found']):>9s} {row['unit']:26s} {asked:16s} {what}"
            )
        for reason in record["skipped"]:
            lines.append(f"{name:18s}   skipped: {reason}")
        if record["failed"]:
            lines.append(f"{name:18s}   FAILED: {record['failed']}")
    return "\n".join(lines)


def hardware(records: dict) -> str:
    """The machines of these records in one sentence."""
    said = set()
    for record in records.values():
        m = record["machine"]
        gpu = m["gpu"] or "no GPU"
        said.add(f"{m['processor']} ({m['can']}), {m['cores']} cores, {gpu}, torch {m['torch']}")
    loads = [v for r in records.values() for k, v in r["machine"].items() if k.startswith("load")]
    loads = [v for v in loads if v is not None]
    busy = f"; load {min(loads)} to {max(loads)}, the bench included" if loads else ""
    return "Measured on " + " and on ".join(sorted(said)) + busy + "."


def table(records: dict, benches: list[str]) -> str:
    """The README's table, between its two comments; it names the benches it knows nothing of."""
    rows = ["| what | against | found |", "|---|---|---|"]
    left_out = [f"{name} (not run)" for name in benches if name not in records]
    for name, record in records.items():
        if record["failed"]:
            left_out.append(f"{name} ({record['failed']})")
            continue
        left_out += [f"{name} ({reason})" for reason in record["skipped"]]
        shown = [row for row in record["rows"] if row["readme"]]
        rows += [f"| {row['what']} | {row['against']} | {found(row)} |" for row in shown]
    note = [f"\nLeft out: {'; '.join(left_out)}."] if left_out else []
    return "\n".join([BEGIN, hardware(records), "", *rows, *note, END])


def benches() -> list[str]:
    """The names of all benches, in order."""
    return sorted(p.stem.removeprefix("bench_") for p in HERE.glob("bench_*.py"))


def main() -> None:
    """Put the table where the README has its place."""
    records = json.loads((ROOT / "results" / "bench.json").read_text("utf-8"))
    path = ROOT / "README.md"
    text = path.read_text("utf-8")
    place = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    if len(place.findall(text)) != 1:
        raise SystemExit(f"{path}: expected one place for the table ({BEGIN} ... {END})")
    path.write_text(place.sub(lambda _: table(records, benches()), text), "utf-8")


if __name__ == "__main__":
    main()
