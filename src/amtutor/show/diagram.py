"""A hypergraph of neuron layers and synapses, drawn as SVG from a plain description.

Layers are boxes in a row, or in a tower from the bottom up where a row would be too wide. A synapse
is a coloured knot with a line to each of its layers and no arrowhead: signals run both ways. One
between neighbours sits between them; one that reaches further or has three or more ends arches
over; one of a single layer, or of a layer with itself, hangs on the other side.

Places are kept as (along, across): along the row, and across it with the arches at negative values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

from .._check import boolean, describe
from .style import PALETTE

__all__ = ["Diagram", "hypergraph"]

GAP, ROOM, MARGIN = 26.0, 14.0, 10.0  # page pixels: a visible line, between neighbours, around all
WIDEST_ROW = 720.0
_GREEK = {"beta": "β", "gamma": "γ", "delta": "δ"}
# size, weight and colour of each line of text, and its distance to the line before
_BOX_TEXT = [(16, "bold", "ink", 0), (13, "normal", "ink", 20), (12.5, "normal", "muted", 18)]
_KNOT_TEXT = [(13, "normal", "paper", 0), (12, "normal", "paper", 16)]


@dataclass(frozen=True)
class Diagram:
    """An SVG picture that a notebook shows by itself; ``svg`` is its text."""

    svg: str

    def _repr_svg_(self) -> str:
        return self.svg


@dataclass
class _Item:
    """A layer or a synapse: its text, its size on the page and where it stands."""

    lines: list[str]
    width: float
    height: float
    ends: list[int] = field(default_factory=list)  # of a synapse
    hanging: list[_Item] = field(default_factory=list)  # on a layer
    at: tuple[float, float] = (0.0, 0.0)  # centre: (along, across)


@dataclass
class _Frame:
    """Direction of the row: to the right, with arches above; or upwards, with arches right."""

    upwards: bool

    def size(self, item: _Item) -> tuple[float, float]:
        """Return the size along and across."""
        return (item.height, item.width) if self.upwards else (item.width, item.height)

    def page(self, place: tuple[float, float]) -> tuple[float, float]:
        """Turn (along, across) into (x, y)."""
        along, across = place
        return (-across, -along) if self.upwards else (along, across)


def hypergraph(description: Mapping[str, Any], *, upwards: bool | None = None) -> Diagram:
    """Draw a hypergraph.

    Args:
        description: ``layers``, a list of dicts with ``name``, ``label``, ``shape``, ``tau`` and
            ``numbers``, a dict of what shapes the label's function (numbers that say nothing new,
            such as beta = 1, are left out);
            ``connections``, a list of dicts with ``label``, ``detail`` and ``layers``, the names at
            the ends of the synapse. `HAM.describe` gives one.
        upwards: build a tower (True) or a row (False); by default a row where it fits the page.

    Raises:
        ValueError: a key is missing, or a connection names a layer that is not there.

    >>> tanh = {"label": "tanh", "shape": (3,), "tau": 1.0, "numbers": {}}
    >>> ends = [{"name": "a", **tanh}, {"name": "b", **tanh}]
    >>> wire = {"label": "Dense", "detail": "3 x 3", "layers": ["a", "b"]}
    >>> hypergraph({"layers": ends, "connections": [wire]}).svg[:4]
    '<svg'
    """
    if not isinstance(description, Mapping):
        raise TypeError(f"description: got a {describe(description)}, expected a mapping")
    if upwards is not None:
        boolean("upwards", upwards)
    layers, synapses = _read(description)
    inline, arched = _sort(layers, synapses)
    if upwards is None:
        upwards = _stand(_Frame(False), layers, inline) > WIDEST_ROW
    frame = _Frame(upwards)
    _stand(frame, layers, inline)
    edge = max(frame.size(b)[1] for b in layers) / 2
    _arch(frame, layers, arched, edge)
    for layer in layers:
        _hang(frame, layer, edge)
    parts = [_lines(frame, layers, synapses, inline)]
    parts += [_draw(frame, b, "paper", "ink", 10, _BOX_TEXT) for b in layers]
    parts += [_draw(frame, k, "memory", "memory", 15, _KNOT_TEXT) for k in synapses]
    return Diagram(_svg(frame, layers + synapses, parts, _say(layers, synapses)))


# Reading

_USUAL = (("beta", 1), ("gamma", 1))


def _read(description: Mapping[str, Any]) -> tuple[list[_Item], list[_Item]]:
    """Turn the description into boxes and knots."""
    for key in ("layers", "connections"):
        if key not in description:
            raise ValueError(f"description: got keys {sorted(description)}, expected {key!r}")
    layers, place = [], {}
    for i, layer in enumerate(description["layers"]):
        place[layer["name"]] = i
        size = " × ".join(map(str, layer["shape"])) or "1"
        size += f",  τ = {layer['tau']:g}" if layer.get("tau", 1) != 1 else ""
        lines = [str(layer["name"]), _greek(_function(layer)), size]
        layers.append(_Item(lines, max(86.0, 22 + _widest(lines)), 74.0))
    if not layers:
        raise ValueError("description: got no layers, expected at least one")
    synapses = []
    for i, edge in enumerate(description["connections"]):
        unknown = [n for n in edge["layers"] if n not in place]
        if unknown or not edge["layers"]:
            known = ", ".join(map(repr, place))
            what = f"the layer {unknown[0]!r}" if unknown else "no layers"
            raise ValueError(f"connections[{i}]: got {what}, expected some of {known}")
        lines = [t for t in (str(edge["label"]), _greek(edge.get("detail", ""))) if t]
        height = 30.0 if len(lines) == 1 else 44.0
        ends = [place[n] for n in edge["layers"]]
        synapses.append(_Item(lines, max(48.0, 22 + _widest(lines)), height, ends))
    return layers, synapses


def _function(layer: Mapping[str, Any]) -> str:
    """Write a layer's function with the numbers that tell it from the usual one."""
    numbers = layer.get("numbers", {})
    told = [f"{k}={v:.4g}" for k, v in numbers.items() if k != "eps" and (k, v) not in _USUAL]
    return f"{layer['label']}({', '.join(told)})" if told else str(layer["label"])


def _sort(layers: list[_Item], synapses: list[_Item]) -> tuple[dict[int, _Item], list[_Item]]:
    """Decide which knots sit between neighbours, which arch over and which hang."""
    inline: dict[int, _Item] = {}
    arched = []
    for layer in layers:
        layer.hanging = []
    for knot in synapses:
        ends = sorted(set(knot.ends))
        if len(ends) == 1:
            layers[ends[0]].hanging.append(knot)
        elif len(knot.ends) == 2 and ends[1] == ends[0] + 1 and ends[0] not in inline:
            inline[ends[0]] = knot
        else:
            arched.append(knot)
    return inline, arched


# Placing


def _stand(frame: _Frame, layers: list[_Item], inline: dict[int, _Item]) -> float:
    """Set the layers in a row, and the knots between neighbours; return the length."""

    def cell(layer: _Item) -> float:
        below = sum(frame.size(k)[0] + ROOM for k in layer.hanging) - ROOM
        return max(frame.size(layer)[0], below)

    front = 0.0
    for i, layer in enumerate(layers):
        layer.at = (front + cell(layer) / 2, 0.0)
        front += cell(layer)
        if i == len(layers) - 1:
            continue
        after = layers[i + 1]
        spare = (cell(layer) - frame.size(layer)[0] + cell(after) - frame.size(after)[0]) / 2
        if i not in inline:
            front += max(GAP - spare, ROOM)
            continue
        gap = max(frame.size(inline[i])[0] + 2 * GAP - spare, ROOM)
        left = layer.at[0] + frame.size(layer)[0] / 2
        right = front + gap + (cell(after) - frame.size(after)[0]) / 2
        inline[i].at = ((left + right) / 2, 0.0)
        front += gap
    return front


def _arch(frame: _Frame, layers: list[_Item], arched: list[_Item], edge: float) -> None:
    """Give each arch the nearest lane that is free over its span."""
    lanes: list[list[tuple[float, float]]] = []
    thick = max((frame.size(k)[1] for k in arched), default=0.0)
    for knot in sorted(arched, key=lambda k: max(k.ends) - min(k.ends)):
        low, high = (layers[f(knot.ends)].at[0] for f in (min, max))
        half = frame.size(knot)[0] / 2 + ROOM / 2
        middle = (low + high) / 2
        a, b = min(low, middle - half), max(high, middle + half)
        free = [all(q <= a or b <= p for p, q in lane) for lane in lanes]
        lane = free.index(True) if True in free else len(lanes)
        if lane == len(lanes):
            lanes.append([])
        lanes[lane].append((a, b))
        knot.at = (middle, -(edge + GAP + thick / 2 + lane * (thick + ROOM)))


def _hang(frame: _Frame, layer: _Item, edge: float) -> None:
    """Line up what hangs on a layer."""
    sizes = [frame.size(k) for k in layer.hanging]
    front = layer.at[0] - (sum(a for a, _ in sizes) + ROOM * (len(sizes) - 1)) / 2
    for knot, (along, across) in zip(layer.hanging, sizes, strict=True):
        knot.at = (front + along / 2, edge + GAP + across / 2)
        front += along + ROOM


# Drawing


def _lines(frame: _Frame, layers, synapses: list[_Item], inline: dict[int, _Item]) -> str:
    """Draw a line from every knot to each of its ends; a repeated end gets a line each."""
    paths = []
    between = [id(k) for k in inline.values()]
    for i, layer in enumerate(layers):
        for side in (-1, 1):  # arches, then what hangs: ports spread along that side of the box
            mine = [
                k
                for k in synapses
                for _ in range(k.ends.count(i))
                if id(k) not in between and k.at[1] * side > 0
            ]
            mine.sort(key=lambda k: (k.at[0], -abs(k.at[1])))
            for j, knot in enumerate(mine):
                step = min(14.0, 0.6 * frame.size(layer)[0] / max(len(mine), 1))
                port = layer.at[0] + step * (j - (len(mine) - 1) / 2)
                twins = [m for m in range(len(mine)) if mine[m] is knot]
                shift = step * (j - sum(twins) / len(twins))
                paths.append(_curve(frame, layer, knot, port, side, shift))
    for i, knot in inline.items():
        paths += [_segment(frame, layers[j].at, knot.at) for j in (i, i + 1)]
    look = f'fill="none" stroke="{PALETTE["memory"]}" stroke-width="2.2"'
    return "\n".join([f"<g {look}>", *(f'<path d="{p}"/>' for p in paths), "</g>"])


def _curve(frame, layer: _Item, knot: _Item, port: float, side: int, shift: float) -> str:
    """Leave the box squarely and reach the knot squarely, or from its end if it is far off."""
    start = side * frame.size(layer)[1] / 2
    along, across = knot.at[0] + shift, knot.at[1]
    bend = (start + across) / 2
    if side < 0 and abs(port - along) > frame.size(knot)[0]:
        points = [(port, start), (port, across), (port, across), (along, across)]
    else:
        points = [(port, start), (port, bend), (along, bend), (along, across)]
    (a, b), *rest = (frame.page(p) for p in points)
    return f"M{a:.1f} {b:.1f}C" + " ".join(f"{x:.1f} {y:.1f}" for x, y in rest)


def _segment(frame: _Frame, start: tuple[float, float], end: tuple[float, float]) -> str:
    (a, b), (x, y) = frame.page(start), frame.page(end)
    return f"M{a:.1f} {b:.1f}L{x:.1f} {y:.1f}"


def _draw(frame: _Frame, item: _Item, fill: str, stroke: str, radius: float, looks) -> str:
    """Draw one box or knot with its lines of text, centred."""
    x, y = frame.page(item.at)
    w, h = item.width, item.height
    parts = [
        f'<rect x="{x - w / 2:.1f}" y="{y - h / 2:.1f}" width="{w:.1f}" height="{h:.1f}" '
        f'rx="{radius}" fill="{PALETTE[fill]}" stroke="{PALETTE[stroke]}" stroke-width="1.6"/>'
    ]
    looks = looks[: len(item.lines)]
    base = y - sum(look[3] for look in looks) / 2 + 0.35 * looks[0][0]
    for text, (size, weight, colour, down) in zip(item.lines, looks, strict=True):
        base += down
        parts.append(
            f'<text x="{x:.1f}" y="{base:.1f}" font-size="{size}" fill="{PALETTE[colour]}" '
            f'font-weight="{weight}" text-anchor="middle">{escape(text)}</text>'
        )
    return "\n".join(parts)


def _svg(frame: _Frame, items: list[_Item], parts: list[str], says: str) -> str:
    """Wrap the parts up in a page just large enough."""
    spots = [(*frame.page(item.at), item.width / 2, item.height / 2) for item in items]
    left = min(x - w for x, _, w, _ in spots) - MARGIN
    top = min(y - h for _, y, _, h in spots) - MARGIN
    width = max(x + w for x, _, w, _ in spots) + MARGIN - left
    height = max(y + h for _, y, _, h in spots) + MARGIN - top
    view = f"{left:.0f} {top:.0f} {width:.0f} {height:.0f}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="{view}" role="img" style="max-width: 100%; height: auto" '
            'font-family="DejaVu Sans, Verdana, sans-serif">',
            f"<title>{escape(says)}</title>",
            f'<rect x="{left:.0f}" y="{top:.0f}" width="{width:.0f}" height="{height:.0f}" '
            f'fill="{PALETTE["paper"]}"/>',
            *parts,
            "</svg>",
        ]
    )


def _say(layers: list[_Item], synapses: list[_Item]) -> str:
    """Tell the picture in words."""
    boxes = ", ".join(f"{b.lines[0]} ({', '.join(b.lines[1:])})" for b in layers)
    knots = "; ".join(
        f"{' '.join(k.lines)} on {' and '.join(layers[i].lines[0] for i in k.ends)}"
        for k in synapses
    )
    return f"Neuron layers {boxes}. Synapses: {knots or 'none'}."


def _greek(text: str) -> str:
    for word, letter in _GREEK.items():
        text = text.replace(f"{word}=", f"{letter} = ")
    return text


def _widest(lines: list[str]) -> float:
    """Estimate the width of the widest of some lines of text of size 13."""
    return max(
        sum(4.5 if c in "il.,:;()[]'| " else 11.5 if c in "mwMW@" else 8.2 for c in text)
        for text in lines
    )
