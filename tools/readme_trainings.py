"""Write the README's table of trainings from the records in results/.

    python tools/readme_trainings.py

One row a run of ours: the command, the time that its pictures took at the speed that it logged (or,
where a thinned record has no speeds, what its README says), the loss at the end, and what was
measured then.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BEGIN = "<!-- made by tools/readme_trainings.py from results/ -->"
END = "<!-- end of the table -->"
# The run, what is measured (key of the last line, its format, its words), and, for records without
# speeds, the words of results/<run>/README.md.
RUNS = {
    "dinosaur": ("eval/log_likelihood", "{:.2f}", "log-likelihood of held-out points", "seconds"),
    "mnist-prototypes": ("eval/dead_fraction", "{:.0%}", "dead memories", "three minutes"),
    "c10-features": ("eval/test_accuracy", "{:.1%}", "test accuracy", ""),
    "transformer-completion": ("eval/mse_50", "{:.4f}", "error, half hidden", ""),
    "et-completion": ("eval/mse_50", "{:.4f}", "error, half hidden", ""),
    **{
        f"circle-{k}": ("eval/distance_to_circle", "{:.3f}", "distance to the circle", "")
        for k in (2, 9, 1000)
    },
    "digits-40": ("eval/relative_error", "{:.0%}", "error of the score", ""),
    "digits-40-energy": ("eval/relative_error", "{:.0%}", "error of the score", ""),
    **{
        f"digits-eqm{form}": ("eval/loss", "{:.3f}", "loss on digits held out", "")
        for form in ("", "-scalar")
    },
    "latent-cpu": ("reconstruction", "{:.4f}", "reconstruction error", ""),
}


def lines_of(run: str) -> list[dict]:
    """The record's lines that have a loss."""
    text = (ROOT / "results" / run / "metrics.jsonl").read_text("utf-8")
    return [
        line for line in map(json.loads, text.splitlines()) if "loss" in line or "energy" in line
    ]


def minutes(run: str) -> float | None:
    """Minutes that the pictures took, by the speed of each stretch; None where none was logged."""
    batch = json.loads((ROOT / "results" / run / "config.json").read_text("utf-8"))["config"]
    seconds, before = 0.0, 0
    for line in lines_of(run):
        if "images_per_second" not in line:
            return None
        seconds += (line["step"] - before) * batch["batch_size"] / line["images_per_second"]
        before = line["step"]
    return seconds / 60


def time_of(run: str, words: str) -> str:
    """Say how long it took."""
    found = minutes(run)
    if found is not None:
        return f"{found:.0f} minutes"
    if words not in (ROOT / "results" / run / "README.md").read_text("utf-8"):
        raise ValueError(f"results/{run}/README.md does not say {words!r}")
    return words


def row(run: str) -> str:
    """One line of the table."""
    key, shape, what, words = RUNS[run]
    last = lines_of(run)[-1]
    link = f"[`amtutor train {run}`](results/{run}/README.md)"
    measured = f"{shape.format(last[key])} {what}"
    return f"| {link} | {time_of(run, words)} | {last['loss']:.4g} | {measured} |"


def table() -> str:
    """The whole table, between its two comments."""
    head = ["| command | time, one core | loss at the end | measured then |", "|---|---|---|---|"]
    return "\n".join([BEGIN, *head, *(row(run) for run in RUNS), END])


def main() -> None:
    """Put the table where the README has its place."""
    path = ROOT / "README.md"
    text = path.read_text("utf-8")
    place = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    if len(place.findall(text)) != 1:
        raise SystemExit(f"{path}: expected one place for the table ({BEGIN} ... {END})")
    path.write_text(place.sub(lambda _: table(), text), "utf-8")


if __name__ == "__main__":
    main()
