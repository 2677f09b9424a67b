"""Take a picture of a page in a real browser, once its mathematics is typeset.

    python tools/shoot.py _build/html/intro.html intro.png --width 390 --dark --full

A file under a folder `html` is served from that folder on loopback, with the whole site around it.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import http.server
import io
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TYPESET = """async () => {
  const until = performance.now() + 20000;
  const page = document.documentElement.dataset;
  while (document.querySelector('script[src*="site.js"]') && !page.ready) {
    if (performance.now() > until) throw new Error("the page is not typeset");
    await new Promise((done) => setTimeout(done, 20));
  }
}"""  # book/_static/site.js says when its work is done

LOADED = """() => Promise.all([...document.images].map((picture) => {
  picture.loading = "eager";
  return picture.decode().catch(() => {});
}))"""  # pictures far below load only when somebody comes near


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve a folder on loopback for as long as the block runs; yields its address."""
    handler = functools.partial(_Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """A headless Chromium: the machine's own where there is one, else Playwright's."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        try:
            yield chromium
        finally:
            chromium.close()


def shoot(
    url: str, out: Path, *, width: int, height: int, dark: bool, full: bool, wait: int
) -> None:
    """Open `url` and write what it looks like to `out`."""
    with browser() as chromium:
        scheme = "dark" if dark else "light"
        context = chromium.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            reduced_motion="reduce",
            device_scale_factor=2 if width < 600 else 1,
        )
        context.add_init_script(f"localStorage.setItem('mode', '{scheme}')")
        page = context.new_page()
        page.on("pageerror", lambda error: print(f"script error: {error}"))
        page.goto(url, wait_until="load")
        page.evaluate(TYPESET)
        page.wait_for_timeout(wait)
        if full:
            photograph_all(page, out)
        else:
            page.screenshot(path=str(out))


def photograph_all(page: Page, out: Path, slice_height: int = 4000) -> None:
    """The whole page in slices: a browser paints no picture taller than 16384 pixels."""
    page.evaluate(LOADED)
    size = page.evaluate("[innerWidth, document.documentElement.scrollHeight]")
    slices = []
    for top in range(0, size[1], slice_height):
        clip = {"x": 0, "y": top, "width": size[0], "height": min(slice_height, size[1] - top)}
        slices.append(Image.open(io.BytesIO(page.screenshot(full_page=True, clip=clip))))
    whole = Image.new("RGB", (slices[0].width, sum(s.height for s in slices)))
    for index, part in enumerate(slices):
        whole.paste(part, (0, sum(s.height for s in slices[:index])))
    whole.save(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", help="an address, or a file such as _build/html/intro.html#top")
    parser.add_argument("out", type=Path)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=900)
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--full", action="store_true", help="the whole page, not one screen")
    parser.add_argument("--wait", type=int, default=500, help="milliseconds after typesetting")
    options = vars(parser.parse_args())
    address = options.pop("page")
    if address.startswith(("http:", "https:", "file:")):
        shoot(address, **options)
        return
    name, _, anchor = address.partition("#")
    path = Path(name).resolve()
    if not path.exists():
        parser.error(f"{name} does not exist")
    root = next((p for p in path.parents if p.name == "html"), path.parent)
    with serve(root) as base:
        shoot(f"{base}/{path.relative_to(root)}" + (f"#{anchor}" if anchor else ""), **options)


if __name__ == "__main__":
    main()
