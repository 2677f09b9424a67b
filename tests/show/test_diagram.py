"""Diagrams: everything of the description is in the picture, and nothing overlaps."""

from __future__ import annotations

import itertools
import random
import re
import xml.etree.ElementTree as ET

import pytest
import torch

from amtutor import show
from amtutor.network import lagrangians as lag
from amtutor.network import synapses as syn
from amtutor.network.ham import HAM, NeuronLayer
from amtutor.show.diagram import hypergraph

SVG = "{http://www.w3.org/2000/svg}"


def describe(n_layers, edges):
    return {
        "layers": [
            {"name": f"layer{i}", "label": "Tanh(beta=2)", "shape": (7 + i,), "tau": 1.0 + i}
            for i in range(n_layers)
        ],
        "connections": [
            {"label": f"S{j}", "detail": "5 × 5", "layers": tuple(f"layer{i}" for i in ends)}
            for j, ends in enumerate(edges)
        ],
    }


def parse(diagram):
    root = ET.fromstring(diagram.svg)
    texts = [t.text for t in root.iter(f"{SVG}text")]
    boxes = [tuple(float(r.get(k)) for k in ("x", "y", "width", "height"))
             for r in root.iter(f"{SVG}rect")]  # fmt: skip
    paths = [p.get("d") for p in root.iter(f"{SVG}path")]
    return root, texts, boxes[1:], paths  # the first box is the paper


def draw_cases():
    yield 1, [(0,)]
    yield 1, [(0, 0), (0,), (0, 0, 0)]
    yield 2, [(0, 1), (1, 0), (0, 1)]
    yield 3, [(0, 1), (1, 2), (0, 2), (0, 1, 2), (1,), (1, 1)]
    yield 7, [(i, i + 1) for i in range(6)]
    yield 4, []
    pick = random.Random(0)
    for _ in range(40):
        n = pick.randint(1, 7)
        arities = [pick.choice([1, 2, 2, 2, 3, 4]) for _ in range(pick.randint(0, 9))]
        yield n, [tuple(pick.randrange(n) for _ in range(a)) for a in arities]


CASES = list(draw_cases())


@pytest.mark.parametrize("n, edges", CASES)
@pytest.mark.parametrize("upwards", [None, False, True])
def test_everything_is_there_and_nothing_overlaps(n, edges, upwards):
    root, texts, boxes, paths = parse(hypergraph(describe(n, edges), upwards=upwards))
    assert len(boxes) == n + len(edges)
    for i in range(n):
        assert f"layer{i}" in texts
        assert f"{7 + i}" + (f",  τ = {1 + i}" if i else "") in texts
    assert texts.count("Tanh(β = 2)") == n
    assert [t for t in texts if re.fullmatch(r"S\d+", t)] == [f"S{j}" for j in range(len(edges))]
    assert len(paths) == sum(map(len, edges))  # a line for every end, repeated ends too
    for (a, b, w, h), (x, y, v, g) in itertools.combinations(boxes, 2):
        assert a + w <= x or x + v <= a or b + h <= y or y + g <= b, "two boxes overlap"
    left, top, width, height = map(float, root.get("viewBox").split())
    numbers = [float(v) for p in paths for v in re.findall(r"-?[\d.]+", p)]
    spots = list(zip(numbers[::2], numbers[1::2], strict=True))
    corners = [(x + dx, y + dy) for x, y, w, h in boxes for dx, dy in ((0, 0), (w, h))]
    for x, y in spots + corners:
        assert left <= x <= left + width and top <= y <= top + height


@pytest.mark.parametrize("n, edges", CASES)
def test_every_line_ends_at_its_layer_and_its_synapse(n, edges):
    _, _, boxes, paths = parse(hypergraph(describe(n, edges)))

    def touches(point, box):
        (x, y), (a, b, w, h) = point, box
        return a - 0.2 <= x <= a + w + 0.2 and b - 0.2 <= y <= b + h + 0.2

    found = []
    for path in paths:
        numbers = [float(v) for v in re.findall(r"-?[\d.]+", path)]
        start, end = numbers[:2], numbers[-2:]
        layer = [i for i in range(n) if touches(start, boxes[i])]
        knot = [j for j in range(len(edges)) if touches(end, boxes[n + j])]
        assert len(layer) == len(knot) == 1
        found.append((knot[0], layer[0]))
    assert sorted(found) == sorted((j, i) for j, ends in enumerate(edges) for i in ends)


def test_a_row_where_it_fits_and_a_tower_where_not():
    def size(n):
        root = parse(hypergraph(describe(n, [(i, i + 1) for i in range(n - 1)])))[0]
        return float(root.get("width")), float(root.get("height"))

    assert size(2)[0] > size(2)[1] and size(3)[0] > size(3)[1]
    assert size(6)[0] < size(6)[1] and size(6)[0] < 390  # a phone


def test_live_object():
    ham = HAM(
        {
            "image": NeuronLayer(lag.Tanh(beta=2.0), (1, 8, 8)),
            "features": NeuronLayer(lag.ReLU(), (4, 3, 3), tau=0.5),
        },
        [
            (("image", "features"), syn.Conv2d(1, 4, 3, stride=2)),
            ("features", syn.Hopfield((4, 3, 3), 6)),
            (("image", "image"), lambda a, b: -(a * b).flatten(-3).sum(-1)),
        ],
    )
    diagram = show.hypergraph(ham.describe())
    _, texts, _, paths = parse(diagram)
    for text in ("image", "1 × 8 × 8", "Tanh(β = 2)", "ReLU", "4 × 3 × 3,  τ = 0.5", "Conv2d",
                 "3 × 3, stride 2", "Hopfield", "K = 6", "synapse"):  # fmt: skip
        assert text in texts
    assert len(paths) == 5
    assert torch.isfinite(ham.energy(ham.states(2))).all()


def test_said_in_words_and_escaped():
    told = describe(2, [(0, 1)])
    told["layers"][0]["name"] = "<v & w>"
    told["connections"][0]["layers"] = ("<v & w>", "layer1")
    root, texts, _, _ = parse(hypergraph(told))
    title = root.find(f"{SVG}title").text
    assert "<v & w>" in texts and root.get("role") == "img"
    assert title.startswith("Neuron layers <v & w> (Tanh(β = 2), 7), layer1")
    assert title.endswith("Synapses: S0 5 × 5 on <v & w> and layer1.")


def test_notebooks_show_it_and_bytes_repeat():
    told = describe(3, [(0, 1), (0, 2)])
    assert hypergraph(told)._repr_svg_() == hypergraph(told).svg


@pytest.mark.parametrize(
    "told, message",
    [
        ({"layers": []}, "description: got keys ['layers'], expected 'connections'"),
        ({"layers": [], "connections": []}, "description: got no layers"),
        (
            {**describe(1, []), "connections": [{"label": "S", "layers": ("z",)}]},
            "connections[0]: got the layer 'z', expected some of 'layer0'",
        ),
        (
            {**describe(1, []), "connections": [{"label": "S", "layers": ()}]},
            "connections[0]: got no layers, expected some of 'layer0'",
        ),
    ],
)
def test_bad_descriptions(told, message):
    with pytest.raises(ValueError, match="^[^\n]*$") as caught:
        hypergraph(told)
    assert message in str(caught.value)
