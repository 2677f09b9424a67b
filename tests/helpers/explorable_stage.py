"""An empty page for one explorable, on loopback, in the session's browser."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "book" / "_static" / "explorables"
ALL = sorted(
    p.stem for p in FOLDER.glob("*.js") if "export function mount(" in p.read_text("utf-8")
)
NAMES = ("ball", "capacity", "average")  # those whose examples and grips test files describe
STAGE = """<!doctype html><html data-theme="light"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>stage</title>
<style>body { margin: 0 } html[data-theme=dark] body { background: #14181e }</style>
<h2 id="a-heading">heading</h2><div id="place"><img alt="fallback"></div></html>"""
MOUNT = """async (name) => {
  const { mount } = await import(`/${name}.js`);
  window.hand = mount(document.getElementById('place'));
}"""
AT_REST = "document.querySelector('.amx').dataset.state === 'rest'"
PICTURE = """() => [...document.querySelectorAll('.amx svg, .amx canvas')]
  .map((e) => e.tagName === 'CANVAS' ? e.toDataURL() : e.innerHTML).join()"""


class Stage:
    """An empty page that holds one explorable, and everything that went wrong on it."""

    def __init__(self, chromium, base: str, **context):
        context = {
            "reduced_motion": "reduce",
            "viewport": {"width": 760, "height": 1400},
            **context,
        }
        self.context = chromium.new_context(**context)
        self.page = self.context.new_page()
        self.wrong: list[str] = []
        self.context.route("**/*", lambda route: self._gate(route, base))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.base = base

    def _gate(self, route, base: str) -> None:
        url = route.request.url
        if url == f"{base}/stage":
            route.fulfill(body=STAGE, content_type="text/html")
        elif url.startswith(base) or url.startswith("data:"):
            route.continue_()
        else:
            self.wrong.append(f"asks for {url}")
            route.abort()

    def mount(self, name: str, address: str = "") -> Stage:
        self.page.goto(f"{self.base}/stage{address}")
        self.page.evaluate(MOUNT, name)
        return self

    def rest(self) -> Stage:
        """Wait until the first run is over and nothing is left to be drawn."""
        self.page.wait_for_function(AT_REST, timeout=20_000)
        self.page.evaluate("window.hand?.measured?.()")
        self.page.wait_for_timeout(50)
        return self

    def call(self, name: str, body: str, argument=None):
        """Run `body` with the module `m` and `argument` `a`; returns its result."""
        if self.page.url == "about:blank":
            self.page.goto(f"{self.base}/stage")
        return self.page.evaluate(
            f"async ([name, a]) => {{ const m = await import(`/${{name}}.js`); {body} }}",
            [name, argument],
        )

    def settings(self) -> dict:
        return self.page.evaluate("hand.settings()")

    def picture(self) -> str:
        return self.page.evaluate(PICTURE)

    def said(self) -> str:
        self.page.wait_for_timeout(160)
        return self.page.locator(".amx-say").inner_text().replace("\u00a0", " ")
