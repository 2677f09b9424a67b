"""How much work a frame of the explorables is, on this machine.

    python tools/explorable_speed.py [NAME ...]     # writes results/explorables.json

Work is what the page's main thread computes, in its own processor time: other programs make a film
jump, and do not change this. A frame has 16.7 ms at 60 a second; the browser's other threads want
theirs. For the first film, for the answer to the question, and for each slider that goes from end
to end in 40 steps, a step a frame: milliseconds a frame of scripts, and of all (style, layout and
painting as well). No test asserts these: they belong to a machine.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path

from shoot import browser, serve

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "book" / "_static" / "explorables"
RECORD = ROOT / "results" / "explorables.json"
PAGE = """<!doctype html><html data-theme="light"><meta charset="utf-8"><style>body{margin:0}
</style><div id="place"></div></html>"""
OPEN = """async (name) => {
  const { mount } = await import(`/${name}.js`);
  window.hand = mount(document.getElementById('place'));
}"""
FILM = """async () => {
  const frame = () => new Promise((next) => requestAnimationFrame(next));
  let frames = 0;
  for (; hand.state().phase !== 'rest' && frames < 3000; frames++) await frame();
  return frames;
}"""
STARTS = "document.querySelector('.amx').dataset.state === 'running'"
MOVE = """async (i) => {
  const frame = () => new Promise((next) => requestAnimationFrame(() => setTimeout(next, 0)));
  const range = document.querySelectorAll('.amx input[type=range]')[i];
  const [low, high] = [Number(range.min), Number(range.max)];
  for (let k = 0; k <= 40; k++) {
    range.value = low + (k / 40) * (high - low);
    range.dispatchEvent(new Event('input', { bubbles: true }));
    await frame();
  }
  return 41;
}"""
SLIDERS = (
    "() => [...document.querySelectorAll('.amx input[type=range]')].map((e) => e.dataset.name)"
)


class Meter:
    """Processor time of one page's main thread."""

    def __init__(self, page):
        self.page = page
        self.session = page.context.new_cdp_session(page)
        self.session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def now(self) -> dict[str, float]:
        """Seconds so far, by name."""
        found = self.session.send("Performance.getMetrics")["metrics"]
        return {row["name"]: row["value"] for row in found}

    def of(self, body: str, argument=None) -> dict[str, float]:
        """Milliseconds a frame that scripts, and that all, take while ``body`` counts frames."""
        before = self.now()
        frames = max(1, self.page.evaluate(body, argument))
        after = self.now()

        def a_frame(name: str) -> float:
            return round(1000 * (after[name] - before[name]) / frames, 2)

        return {
            "frames": frames,
            "scripts": a_frame("ScriptDuration"),
            "all": a_frame("TaskDuration"),
        }


def measure(page, name: str) -> dict[str, dict]:
    """One explorable, from its first film on."""
    meter = Meter(page)
    page.evaluate(OPEN, name)
    page.wait_for_function(STARTS)
    found = {"first film": meter.of(FILM)}
    for i, slider in enumerate(page.evaluate(SLIDERS)):
        found[f"slider {slider}"] = meter.of(MOVE, i)
    page.evaluate("document.querySelector('[data-answer]').click()")
    return found | {"answer": meter.of(FILM)}


def write(rows: dict, version: str) -> None:
    """All that is known by now, and where it was measured."""
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "browser": f"Chromium {version}",
    }
    out = {"command": "python tools/explorable_speed.py", "machine": machine}
    out["milliseconds a frame"] = dict(sorted(rows.items()))
    RECORD.write_text(json.dumps(out, indent=1) + "\n", "utf-8")


def main(names: list[str]) -> None:
    """Measure some or all, print them, and write them beside what is there."""
    every = [p.stem for p in sorted(FOLDER.glob("*.js")) if "function mount(" in p.read_text()]
    record = json.loads(RECORD.read_text("utf-8")) if RECORD.exists() and names else {}
    rows = record.get("milliseconds a frame", {})
    print("milliseconds a frame: scripts, all")
    with serve(FOLDER) as base, browser() as chromium:
        for name in names or every:
            page = chromium.new_page(viewport={"width": 760, "height": 1400})
            page.route("**/stage", lambda r: r.fulfill(body=PAGE, content_type="text/html"))
            page.goto(f"{base}/stage")
            rows[name] = measure(page, name)
            for what, row in rows[name].items():
                print(f"{name:14} {what:16} {row['scripts']:7.1f} {row['all']:7.1f}", flush=True)
            page.close()
            write(rows, chromium.version)


if __name__ == "__main__":
    main(sys.argv[1:])
