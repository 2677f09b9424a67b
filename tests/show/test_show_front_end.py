"""Sliders in a real front end: Voila serves a notebook, a browser turns the slider."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

pytest.importorskip(
    "playwright", reason="a browser is driven by playwright (pip install playwright)"
)

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

NOTEBOOK = """
import matplotlib.pyplot as plt
from amtutor import show
def draw(n):
    plt.plot([0, 1, n])
show.explore(draw, n=(0, 10, 1))
"""
PICTURES = "(images) => images.map((image) => image.src)"


def give_up(reason: str) -> None:
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"{reason}; CI needs it", pytrace=False)
    pytest.skip(reason)


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


@pytest.fixture
def address(tmp_path):
    """A notebook with one slider, served by Voila on loopback."""
    if importlib.util.find_spec("voila") is None:
        give_up("voila is not installed")
    cell = nbformat.v4.new_code_cell(NOTEBOOK.strip())
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(
        nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel}),
        tmp_path / "slider.ipynb",
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "voila", "slider.ipynb", "--no-browser", f"--port={port}"]
    folders = ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")
    env = {**os.environ, "AMTUTOR_STATIC": "0"} | {f: str(tmp_path / f) for f in folders}
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=log, stderr=log)
        try:
            while not answers(port):  # however long it takes, as long as it lives
                assert server.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}/"
        finally:
            server.terminate()
            server.wait()


def test_a_slider_moves_and_one_picture_changes(address):
    import shoot

    start = shoot.browser()
    try:
        browser = start.__enter__()
    except Exception as error:  # whatever keeps a browser from starting
        give_up(f"no browser starts here ({(str(error).strip().splitlines() or ['?'])[0]})")
    try:
        page = browser.new_page()
        page.set_default_timeout(300_000)  # a loaded machine starts a kernel slowly
        inside = re.compile(rf"^(?!{re.escape(address)}).*")
        page.route(inside, lambda route: route.abort())  # Voila asks a CDN for its icons
        page.goto(address)
        picture = page.locator("img[src^='data:image/png']")
        picture.first.wait_for(timeout=120_000)
        (before,) = picture.evaluate_all(PICTURES)
        page.locator(".noUi-handle").first.focus()
        for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
            page.keyboard.press(key)
            page.wait_for_function(
                "(old) => [...document.querySelectorAll('img')].every((image) => image.src !== old)"
                " && document.querySelectorAll('img').length > 0",
                arg=before,
                timeout=60_000,
            )
            (after,) = picture.evaluate_all(PICTURES)
            assert after != before
            before = after
    finally:
        start.__exit__(None, None, None)
