"""``python -m amtutor.evaluate damage``: the floor of fd-c10, and how it rises with damage."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from amtutor.evaluate import damage
from amtutor.evaluate.features import extractor


def main(words: list[str] | None = None) -> None:
    """Read the words of the command and do it."""
    parser = argparse.ArgumentParser(prog="python -m amtutor.evaluate", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("damage", help="measure floor and damages on CIFAR-10, write JSON")
    one.add_argument("--out", type=Path, default=Path("results/c10-features/damage.json"))
    one.add_argument("--features", default="c10", help="c10, inception, or a path to weights")
    one.add_argument("--count", type=int, default=2000, help="damaged pictures of each strength")
    options = parser.parse_args(words)
    found = damage.report(extractor(options.features), count=options.count)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    print("floor by number of samples:", found["floor_by_count"])
    for kind, row in found["damages"].items():
        print(kind, row["strengths"], [round(x, 3) for x in row[found["measure"]]], row["rises"])


if __name__ == "__main__":
    main()
