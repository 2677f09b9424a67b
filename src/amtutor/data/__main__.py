"""Fetch the data sets into the cache: ``python -m amtutor.data mnist cifar10``."""

from __future__ import annotations

import argparse
import sys

from amtutor import data


def main(arguments: list[str] | None = None) -> int:
    """Fetch and check what is named; print what is there, or the one line that says why not."""
    readers = {"mnist": data.mnist, "cifar10": data.cifar10}
    parser = argparse.ArgumentParser(prog="python -m amtutor.data", description=__doc__)
    parser.add_argument("dataset", nargs="+", choices=sorted(readers))
    for name in parser.parse_args(arguments).dataset:
        for split in ("train", "test"):
            try:
                images, _ = readers[name](split)
            except (data.DataNotFound, data.DataCorrupt) as error:
                print(f"error: {error}", file=sys.stderr)
                return 1
            print(f"{name} {split}: {len(images)} pictures")
    return 0


if __name__ == "__main__":
    sys.exit(main())
