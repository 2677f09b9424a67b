"""How long the explorables take to answer a hand, on this machine, as it is loaded now.

    python tools/explorable_speed.py [NAME ...]

Moves each slider from end to end in 40 steps, a step a frame, and prints the milliseconds from
the hand to the end of the frame that shows its answer, and how many of them scripts take; and of
the first film, and of the answer to the question, the time from one frame to the next. No test
asserts these: they belong to a machine and its load.
"""

from __future__ import annotations

import os
import statistics
import sys
from pathlib import Path

from shoot import browser, serve

FOLDER = Path(__file__).resolve().parents[1] / "book" / "_static" / "explorables"
PAGE = """<!doctype html><html data-theme="light"><meta charset="utf-8"><style>body{margin:0}
</style><div id="place"></div></html>"""
FRAMES = """async () => {
  const frames = [];
  const frame = () => new Promise((next) => requestAnimationFrame(next));
  let before = await frame();
  while (hand.state().phase !== 'rest' && frames.length < 2000) {
    const now = await frame();
    frames.push(now - before);
    before = now;
  }
  return frames;
}"""
OPEN = """async (name) => {
  const { mount } = await import(`/${name}.js`);
  const began = performance.now();
  window.hand = mount(document.getElementById('place'));
  return performance.now() - began;
}"""
MOVES = """async () => {
  const frame = () => new Promise((next) => requestAnimationFrame(() => setTimeout(next, 0)));
  const found = {};
  for (const range of document.querySelectorAll('.amx input[type=range]')) {
    const [low, high] = [Number(range.min), Number(range.max)];
    const script = [], whole = [];
    for (let i = 0; i <= 40; i++) {
      await frame();
      range.value = low + (i / 40) * (high - low);
      const began = performance.now();
      range.dispatchEvent(new Event('input', { bubbles: true }));
      script.push(performance.now() - began);
      await frame();
      whole.push(performance.now() - began);
    }
    found[range.dataset.name] = { script, whole };
  }
  return found;
}"""


def summary(values: list[float]) -> str:
    """Median, 95th percentile and worst, in milliseconds."""
    if not values:
        return "-"
    p95 = statistics.quantiles(values, n=20)[-1] if len(values) > 1 else values[0]
    return f"{statistics.median(values):6.1f} {p95:6.1f} {max(values):6.1f}"


def main(names: list[str]) -> None:
    every = [p.stem for p in sorted(FOLDER.glob("*.js")) if "function mount(" in p.read_text()]
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; median, p95, worst in ms")
    with serve(FOLDER) as base, browser() as chromium:
        for name in names or every:
            page = chromium.new_page(viewport={"width": 760, "height": 1400})
            page.route("**/stage", lambda r: r.fulfill(body=PAGE, content_type="text/html"))
            page.goto(f"{base}/stage")
            print(f"{name:10} opens in {page.evaluate(OPEN, name):.0f}")
            print(f"  first film's frames   {summary(page.evaluate(FRAMES))}")
            for slider, ms in page.evaluate(MOVES).items():
                script, whole = summary(ms["script"]), summary(ms["whole"])
                print(f"  {slider:8} scripts {script}   to the end of the frame {whole}")
            page.evaluate("document.querySelector('[data-answer]').click()")
            print(f"  the answer's frames   {summary(page.evaluate(FRAMES))}")
            page.close()


if __name__ == "__main__":
    main(sys.argv[1:])
