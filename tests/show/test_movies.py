"""A recall movie is one small, self-contained, repeatable piece of HTML."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from amtutor import show

VOID = {"img", "input", "br"}


class Page(HTMLParser):
    """Checks that tags nest, and keeps them with their attributes and text."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict, list[str]]] = []
        self.feed(html)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs), []))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs), []))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if self.tags and self.open:
            self.tags[-1][2].append(data)

    def all(self, tag):
        return [(attributes, "".join(text)) for name, attributes, text in self.tags if name == tag]

    @property
    def data(self):
        (body,) = [t for a, t in self.all("script") if a.get("type") == "application/json"]
        return json.loads(body)


def pixels(uri: str) -> np.ndarray:
    head, body = uri.split(",")
    assert head == "data:image/png;base64"
    image = Image.open(io.BytesIO(base64.b64decode(body)))
    return np.asarray(image.convert("RGB" if image.mode == "RGB" else "L"))


def recall(steps=5, queries=3, shape=(4, 6)):
    g = torch.Generator().manual_seed(1)
    states = torch.randn(steps + 1, queries, int(np.prod(shape)), generator=g).sign()
    return states, torch.rand(steps + 1, queries, generator=g).cumsum(0).flip(0)


def html_of(*arguments, **options) -> str:
    return show.recall_movie(*arguments, **options).data


def test_the_same_recall_gives_the_same_bytes():
    a, b = (html_of(*recall(), shape=(4, 6), titles=list("abc")) for _ in range(2))
    assert a == b
    other = html_of(*recall(steps=6), shape=(4, 6))
    key = re.compile(r'data-movie="(am-movie-[0-9a-f]{12})"')
    assert key.search(a)[1] != key.search(other)[1]
    assert a.count(key.search(a)[1]) == 2  # on the root and in its script, nowhere else


def test_nothing_is_fetched_from_outside():
    html = html_of(*recall(), shape=(4, 6))
    assert not re.search(r"https?:|//[a-z]|@import|url\(|\bimport\b|fetch|XMLHttp", html)
    for name, attributes, _ in Page(html).tags:
        assert name not in ("link", "iframe", "object")
        assert attributes.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")
    assert not re.search(r'\sid="', html)  # classes only: two on a page do not clash


def test_frames_are_stored_exactly():
    states, energies = recall()
    data = Page(html_of(states, energies, shape=(4, 6))).data
    assert data["size"] == [4, 6]
    for q, strip in enumerate(data["strips"]):
        got = pixels(strip).reshape(6, 4, 6)
        np.testing.assert_array_equal(got, np.where(states[:, q].reshape(6, 4, 6) > 0, 0, 255))


def test_without_scripts_the_last_frame_and_energy_show():
    states, energies = recall()
    html = html_of(states, energies, shape=(4, 6), titles=["x", "<y>", "z & z"])
    page = Page(html)
    for q, (attributes, _) in enumerate(page.all("img")):
        last = np.where(states[-1, q].reshape(4, 6) > 0, 0, 255)
        np.testing.assert_array_equal(pixels(attributes["src"]), last)
        assert attributes["alt"] == ["x", "<y>", "z & z"][q] + " after the last step"
    assert [t for _, t in page.all("figcaption")] == ["x", "<y>", "z & z"]
    shown = re.findall(r"energy <span>(.*?)</span>", html)
    numbers = [float(t.replace("−", "-")) for t in shown]
    np.testing.assert_allclose(numbers, energies[-1], atol=0.0051)
    hands = [a for a, _ in page.all("div") if a.get("class") == "am-movie-hands"]
    assert "hidden" in hands[0]


def test_the_slider_is_native_labelled_and_ends_at_the_last_frame():
    page = Page(html_of(*recall(steps=7), shape=(4, 6)))
    ((slider, _),) = page.all("input")
    assert (slider["type"], slider["min"], slider["max"], slider["value"]) == (
        "range",
        "0",
        "7",
        "7",
    )
    names = [name for name, *_ in page.tags]
    assert names.index("label") < names.index("input")
    assert not set(names) & {"output", "select", "meter"}  # the label's first control is the slider
    assert len(page.all("label")) == len(page.all("button")) == 1
    assert "prefers-reduced-motion" in html_of(*recall(), shape=(4, 6))


def test_curves_fall_as_the_energies_do():
    states, energies = recall()
    page = Page(html_of(states, energies, shape=(4, 6)))
    lines = [a["points"] for a, _ in page.all("polyline")]
    y = np.array([[float(p.split(",")[1]) for p in line.split()] for line in lines]).T
    x = np.array([[float(p.split(",")[0]) for p in line.split()] for line in lines]).T
    fit = np.polyfit(energies.ravel(), y.ravel(), 1)
    assert fit[0] < 0  # up on the page is down in its numbers
    np.testing.assert_allclose(np.polyval(fit, energies), y, atol=0.1)  # one scale for all
    assert (np.diff(x, axis=0) > 0).all()
    assert x.min() >= 0 and x.max() <= 200 and y.min() >= 0 and y.max() <= 80
    ends = [(float(a["cx"]), float(a["cy"])) for a, _ in page.all("circle")]
    np.testing.assert_allclose(ends, np.stack([x[-1], y[-1]], 1))


@settings(max_examples=20)
@given(steps=st.integers(1, 400), most=st.integers(2, 60))
def test_long_recalls_are_thinned_evenly(steps, most):
    states = torch.ones(steps + 1, 4)
    data = Page(html_of(states, torch.zeros(steps + 1), shape=(2, 2), max_frames=most)).data
    kept = data["steps"]
    assert (kept[0], kept[-1], len(kept)) == (0, steps, min(steps + 1, most))
    gaps = np.diff(kept)
    assert gaps.min() >= 1 and gaps.max() - gaps.min() <= 1
    assert pixels(data["strips"][0]).shape == (2 * len(kept), 2)


def test_one_query_without_its_dimension():
    states, energies = recall(queries=1)
    a = html_of(states, energies, shape=(4, 6))
    assert a == html_of(states[:, 0].numpy(), energies[:, 0].tolist(), shape=(4, 6))
    assert "am-movie-one" in Page(a).all("div")[0][0]["class"]


def test_grey_and_colour():
    grey = torch.tensor([[0.0, 0.5, 1.0, 0.25], [0, 0, 0, 0]])
    data = Page(html_of(grey, [1.0, 0.0], shape=(2, 2))).data
    assert pixels(data["strips"][0])[:2].ravel().tolist() == [255, 128, 0, 191]
    half = Page(html_of(grey, [1.0, 0.0], shape=(2, 2), vmin=0, vmax=2)).data
    assert pixels(half["strips"][0])[:2].ravel().tolist() == [255, 191, 128, 223]
    colour = torch.rand(3, 2, 12)
    html = html_of(colour, torch.zeros(3, 2), shape=(3, 2, 2), vmin=0, vmax=1)
    strip = pixels(Page(html).data["strips"][1]).reshape(3, 2, 2, 3)
    wanted = colour[:, 1].reshape(3, 3, 2, 2).movedim(1, -1).numpy() * 255
    np.testing.assert_allclose(strip, wanted, atol=0.51)
    assert "am-movie-grey" not in Page(html).all("div")[0][0]["class"]


def test_flat_and_infinite_energies():
    states = torch.ones(3, 4)
    page = Page(html_of(states, [np.inf, 2.0, 1.0], shape=(2, 2)))
    assert page.data["energies"] == [["∞", "2.000", "1.000"]]
    flat = Page(html_of(states, [0.0, 0.0, -0.0], shape=(2, 2)))
    assert flat.data["energies"] == [["0", "0", "0"]]
    never = Page(html_of(states, [np.inf] * 3, shape=(2, 2)))
    assert never.data["energies"] == [["∞"] * 3]
    tiny = Page(html_of(states, [-0.5, -0.50001, -0.50002], shape=(2, 2)))
    assert len(set(tiny.data["energies"][0])) == 3


def test_a_typical_movie_is_small():
    g = torch.Generator().manual_seed(0)
    states = torch.randn(61, 4, 576, generator=g).sign()  # noise: as bad as it gets
    assert len(html_of(states, torch.rand(61, 4), shape=(24, 24))) < 100_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": (5, 5)}, r"frames: got shape \(6, 3, 24\), expected \(T, 25\) or"),
        ({"shape": (24,)}, r"shape = \(24,\): expected \(H, W\) or \(3, H, W\)"),
        ({"energies": np.zeros(6)}, r"energies: got shape \(6,\), expected \(6, 3\) as frames"),
        ({"titles": ["a"]}, r"titles: got 1, expected 3, one per query"),
        ({"fps": 0}, r"fps = 0.0: expected a finite number > 0"),
        ({"max_frames": 1}, r"max_frames = 1: expected a whole number >= 2"),
        ({"frames": np.full((6, 3, 24), np.nan)}, r"frames: 432 of 432 entries are NaN"),
        ({"frames": np.zeros((1, 3, 24)), "energies": np.zeros((1, 3))}, r"T >= 2"),
    ],
)
def test_bad_movies_are_one_clear_line(options, message):
    frames, energies = recall()
    options = {"frames": frames, "energies": energies, "shape": (4, 6)} | options
    with pytest.raises(ValueError, match=message) as error:
        html_of(options.pop("frames"), options.pop("energies"), **options)
    assert "\n" not in str(error.value)
