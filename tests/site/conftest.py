"""The built site, served on loopback, and a real browser that opens it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from explorable_stage import FOLDER, Stage

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "book" / "_ext")]

import shoot  # noqa: E402 (tools/shoot.py knows how to start the browser)

PAGES = sorted(p.relative_to(HTML).as_posix() for p in (HTML / "book").glob("*.html"))
STEADY = """
() => {
  const picture = (root) => [...root.querySelectorAll('svg, canvas, img')].map((e) => {
    const style = getComputedStyle(e);
    const what = e.tagName === 'CANVAS' ? e.toDataURL() : e.tagName === 'IMG' ? e.src : e.outerHTML;
    const shown = [style.display, style.visibility, style.opacity].join();
    return shown + what.replace(/ aria-[a-z]+="[^"]*"/g, '');
  }).join();
  window.picture = picture;
}
"""


def skip_or_fail(reason: str) -> None:
    """No browser, no test: said aloud, and refused where CI is true."""
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"{reason}; CI needs it", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def html() -> Path:
    if not PAGES:
        skip_or_fail("the site is not built (make book)")
    return HTML


@pytest.fixture(scope="session")
def address(html):
    with shoot.serve(html) as base:
        yield base


@pytest.fixture(scope="session")
def chromium():
    start = shoot.browser()
    try:
        browser = start.__enter__()
    except Exception as error:  # whatever keeps a browser from starting
        line = (str(error).strip().splitlines() or ["?"])[0]
        skip_or_fail(f"no browser starts here ({line})")
    yield browser
    start.__exit__(None, None, None)


@pytest.fixture(scope="module")
def base():
    """The explorables, served on loopback."""
    with shoot.serve(FOLDER) as served:
        yield served


@pytest.fixture(scope="module")
def module(chromium, base, request):
    """A page of which `window.T` is the explorable that the test file names."""
    page = chromium.new_page()
    page.goto(f"{base}/common.js")  # any address of this server will do
    page.evaluate(
        "async (n) => { window.T = await import(`./${n}.js`); }", request.module.EXPLORABLE
    )
    yield page
    page.close()


@pytest.fixture
def stage(chromium, base):
    """Open an explorable on an empty page; nothing may have gone wrong there in the end."""
    made = []

    def open_stage(name: str, address: str = "", **context) -> Stage:
        made.append(Stage(chromium, base, **context))
        return made[-1].mount(name, address)

    yield open_stage
    for one in made:
        assert not one.wrong
        one.context.close()


class Visit:
    """A page in the browser, with everything that went wrong while it was open."""

    def __init__(self, browser, base: str, **context):
        self.base = base
        self.context = browser.new_context(reduced_motion="reduce", **context)
        self.page = self.context.new_page()
        self.outside: list[str] = []
        self.errors: list[str] = []
        self.context.route("**/*", self._gate)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._said)
        self.page.on("response", self._answered)

    def _gate(self, route) -> None:
        url = route.request.url
        if url.startswith((self.base, "file:", "data:", "blob:")):
            route.continue_()
        else:
            self.outside.append(url)
            route.abort()

    def _said(self, message) -> None:
        if message.type in ("error", "warning") and "ERR_FAILED" not in message.text:
            self.errors.append(message.text)  # what the gate aborted is in self.outside

    def _answered(self, response) -> None:
        if response.status >= 400:
            self.errors.append(f"{response.status} for {response.url}")

    def open(self, url: str) -> None:
        self.page.goto(url, wait_until="load")
        self.page.evaluate(shoot.TYPESET)
        self.page.evaluate(STEADY)


@pytest.fixture
def visit(chromium, address):
    """Open a page by its path; more arguments go to the browser's context."""
    visits = []

    def open_page(path: str, base: str | None = None, **context) -> Visit:
        made = Visit(chromium, base or address, **context)
        visits.append(made)
        made.open(f"{base or address}/{path}")
        return made

    yield open_page
    for made in visits:
        made.context.close()


def pytest_generate_tests(metafunc):
    if "path" in metafunc.fixturenames:
        metafunc.parametrize("path", PAGES or ["none"], ids=lambda p: Path(p).stem)
