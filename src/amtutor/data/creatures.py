"""Small friendly creatures, drawn by rules from a seed: named, mirrored, 24 x 24, one bit a pixel.

Only whole numbers are used, and the dice are our own, so the same seed gives the same creatures
on every machine and with every version of every library. A creature is drawn as its right half
(columns 0 to 11 counted from the axis) and mirrored at the end. 1 is ink, 0 is paper.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from amtutor._check import count

SIDE = 24
MIN_DISTANCE = 144  # pixels in which any two creatures of one seed differ: a quarter of 576
INK = (208, 322)  # fewest and most inked pixels of a creature, of 576

_T = TypeVar("_T")
# 64 bits wherever it runs: powers below reach 1.3e11, and some platforms count in 32 bits
_Y, _X = np.indices((SIDE, SIDE // 2), dtype=np.int64)


class Sprites(NamedTuple):
    """Creatures as pictures ``images`` (n, 24, 24) uint8 of 0 and 1, and their ``names``."""

    images: np.ndarray
    names: list[str]


def sprites(n: int = 200, *, seed: int = 0) -> Sprites:
    """Draw ``n`` different creatures; the first ones do not depend on how many are drawn.

    Each is its own mirror image, has between 208 and 322 inked pixels of 576, and differs from
    every other in at least 144. Names are unique. No file is read.

    Raises:
        ValueError: if ``n`` is not a whole number >= 1 or so large that no room is left.

    >>> creatures = sprites(3)
    >>> creatures.images.shape, len(set(creatures.names))
    ((3, 24, 24), 3)
    """
    count("n", n)
    count("seed", seed, least=0)
    images, names = _flock(int(n), int(seed))
    return Sprites(images.copy(), list(names))


@functools.lru_cache(maxsize=8)
def _flock(n: int, seed: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Draw until ``n`` creatures are found that are well inked and unlike all before them."""
    dice = Dice(seed)
    names = _names(n, Dice(seed + 0x5EED))
    kept = np.zeros((n, SIDE, SIDE), dtype=np.uint8)
    found, misses = 0, 0
    while found < n:
        picture = draw(dice, SPECIES[(found + misses // 40) % len(SPECIES)])
        misses += 1
        if misses > 4000:
            raise ValueError(f"n = {n}: expected at most {found} creatures of seed {seed}")
        if not INK[0] <= picture.sum() <= INK[1]:
            continue
        if found and (kept[:found] != picture).sum(axis=(1, 2)).min() < MIN_DISTANCE:
            continue
        kept[found] = picture
        found, misses = found + 1, 0
    return kept, tuple(names)


class Dice:
    """SplitMix64: whole random numbers that are the same everywhere and for ever."""

    def __init__(self, seed: int) -> None:
        self._state = seed & (2**64 - 1)

    def bits(self) -> int:
        """Return the next 64 random bits as a whole number."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & (2**64 - 1)
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
        return z ^ (z >> 31)

    def between(self, low: int, high: int) -> int:
        """Return a whole number from ``low`` to ``high``, both included."""
        return low + self.bits() % (high - low + 1)

    def pick(self, options: Sequence[_T]) -> _T:
        """Return one of ``options``."""
        return options[self.bits() % len(options)]

    def one_in(self, n: int) -> bool:
        """Return True once in ``n`` throws, on average."""
        return self.bits() % n == 0


# -- shapes on the half canvas: boolean arrays (24, 12), measured in pixels ----------------------


def box(left: int, right: int, top: int, bottom: int) -> np.ndarray:
    """Pixels of columns left..right-1 and rows top..bottom-1."""
    return (left <= _X) & (right > _X) & (top <= _Y) & (bottom > _Y)


def oval(cx: int, cy: int, rx: int, ry: int, *, square: bool = False) -> np.ndarray:
    """Ellipse in half pixels: centre (cx, cy), radii (rx, ry); ``square`` bulges its corners."""
    power = 4 if square else 2
    across, along = np.abs(2 * _X + 1 - cx) * ry, np.abs(2 * _Y + 1 - cy) * rx
    return across**power + along**power <= (rx * ry) ** power


def line(points: Sequence[tuple[int, int]], *, thick: int = 1) -> np.ndarray:
    """Polyline through pixels (column, row), drawn with a square pen."""
    drawn = np.zeros((SIDE, SIDE // 2), dtype=bool)
    for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
        steps = max(abs(x1 - x0), abs(y1 - y0), 1)
        for t in range(steps + 1):
            x = (2 * (x0 * (steps - t) + x1 * t) + steps) // (2 * steps)
            y = (2 * (y0 * (steps - t) + y1 * t) + steps) // (2 * steps)
            drawn |= box(x, x + thick, y, y + thick)
    return drawn


def triangle(a: tuple[int, int], b: tuple[int, int], c: tuple[int, int]) -> np.ndarray:
    """Filled triangle with corners at pixels (column, row), edges included."""
    sides = [
        (q[0] - p[0]) * (_Y - p[1]) - (q[1] - p[1]) * (_X - p[0])
        for p, q in ((a, b), (b, c), (c, a))
    ]
    return np.all([s >= 0 for s in sides], axis=0) | np.all([s <= 0 for s in sides], axis=0)


def inner(shape: np.ndarray) -> np.ndarray:
    """Take one pixel off the rim of a shape (the axis is no rim: the mirror continues it)."""
    wide = np.pad(shape, ((1, 1), (0, 1)))
    left = np.concatenate([shape[:, :1], shape[:, :-1]], axis=1)
    return shape & left & wide[1:-1, 1:] & wide[:-2, :-1] & wide[2:, :-1]


# -- a creature: limbs behind, a body with a coat, a face ---------------------------------------


@dataclass
class Sketch:
    """What a species decides: where body, limbs and face are."""

    body: np.ndarray  # gets the coat
    limbs: np.ndarray  # plain ink, behind the body
    face_row: int  # top row of the eyes


def draw(dice: Dice, species: str) -> np.ndarray:
    """Draw one creature as a (24, 24) uint8 picture of 0 and 1."""
    sketch = _SPECIES[species](dice)
    coat = _COATS[dice.pick(tuple(_COATS))](dice)
    dark_face = dice.one_in(2)
    ink = sketch.body | sketch.limbs
    ink &= ~(inner(sketch.body) & coat)
    half = _face(dice, ink.astype(np.uint8), sketch, dark_face)
    return np.concatenate([half[:, ::-1], half], axis=1)


EYES = {
    "bead": ["##", "##"],
    "tall": ["##", "##", "##"],
    "shiny": [" ## ", "##-#", "####", " ## "],
    "ring": [" ## ", "#--#", "#--#", " ## "],
    "stare": ["####", "#--#", "#--#", "####"],
    "squint": [" ### ", "#####", "--###", "--###", " ### "],
    "happy": [" # ", "# #"],
    "sleepy": ["# #", " # "],
    "moon": [" ##", "###", "#--"],
}
MOUTHS = {
    "smile": ["  #", "## "],
    "grin": ["   #", "### "],
    "oh": ["#", "#"],
    "fangs": ["###", " # "],
    "cat": ["#  ", " ##"],
    "beak": ["##", "#"],
    "line": ["##"],
    "teeth": ["####", "-#-#", "####"],
}


def _stamp(half: np.ndarray, art: list[str], x: int, y: int, *, colour: int) -> None:
    """Print text art at column x, row y: '#' in ``colour``, '-' in the other, ' ' nothing."""
    for dy, row in enumerate(art):
        for dx, mark in enumerate(row):
            if mark != " " and 0 <= y + dy < SIDE and 0 <= x + dx < SIDE // 2:
                half[y + dy, x + dx] = colour if mark == "#" else 1 - colour


def _face(dice: Dice, half: np.ndarray, sketch: Sketch, dark: bool) -> np.ndarray:
    """Clear a patch of one colour on the body and print eyes and a mouth on it."""
    room = int(inner(sketch.body)[sketch.face_row : sketch.face_row + 4].sum(axis=1).min())
    eyes = EYES[dice.pick([name for name, art in EYES.items() if len(art[0]) < max(room, 4)])]
    mouth = MOUTHS[dice.pick(tuple(MOUTHS))]
    wide, tall = len(eyes[0]), len(eyes)
    gap = dice.between(1, max(1, min(4, room - wide)))
    top, right = sketch.face_row - 1, gap + wide + 1
    bottom = sketch.face_row + tall + len(mouth) + 2
    patch = oval(0, top + bottom, 2 * right + 2, bottom - top + 1, square=True) & inner(sketch.body)
    half[patch] = int(dark)
    _stamp(half, eyes, gap, sketch.face_row, colour=1 - dark)
    _stamp(half, mouth, 0, sketch.face_row + tall + 1, colour=1 - dark)
    return half


def _stripes(dice: Dice) -> np.ndarray:
    period, phase = dice.pick((4, 4, 6)), dice.between(0, 5)
    return (_Y + phase) % period < period // 2


def _pinstripes(dice: Dice) -> np.ndarray:
    return (_X + dice.between(0, 2)) % 3 == 0


def _bars(dice: Dice) -> np.ndarray:
    return (_X + dice.between(0, 3)) % 4 < 2


def _chevrons(dice: Dice) -> np.ndarray:
    way = dice.pick((1, -1))
    return (_Y + way * _X + dice.between(0, 5)) % 6 < 3


def _spots(dice: Dice) -> np.ndarray:
    a, b = dice.between(0, 3), dice.between(0, 3)
    rows = (_Y + b) // 4
    return ((_X + a + 2 * (rows % 2)) % 4 < 2) & ((_Y + b) % 4 < 2)


def _checks(dice: Dice) -> np.ndarray:
    size = dice.pick((2, 3))
    return ((_X + dice.between(0, 2)) // size + (_Y + dice.between(0, 2)) // size) % 2 == 0


def _belly(dice: Dice) -> np.ndarray:
    return oval(0, 2 * dice.between(14, 19), 2 * dice.between(3, 7), 2 * dice.between(3, 7))


def _rings(dice: Dice) -> np.ndarray:
    middle, phase = dice.between(8, 16), dice.between(0, 3)
    return (np.maximum(_X, np.abs(_Y - middle)) + phase) % 4 < 2


def _fur(dice: Dice) -> np.ndarray:
    return np.array([[dice.one_in(3) for _ in range(SIDE // 2)] for _ in range(SIDE)])


def _plain(dice: Dice) -> np.ndarray:
    return np.zeros_like(_X, dtype=bool)


def _hollow(dice: Dice) -> np.ndarray:
    return np.ones_like(_X, dtype=bool)


def _dipped(dice: Dice) -> np.ndarray:
    edge = dice.between(9, 15)
    return _Y < edge if dice.one_in(2) else _Y > edge


_COATS = {
    "stripes": _stripes,
    "pinstripes": _pinstripes,
    "bars": _bars,
    "chevrons": _chevrons,
    "spots": _spots,
    "checks": _checks,
    "belly": _belly,
    "rings": _rings,
    "plain": _plain,
    "hollow": _hollow,
    "dipped": _dipped,
    "fur": _fur,
}


# -- parts ---------------------------------------------------------------------------------------


def _nothing() -> np.ndarray:
    return np.zeros_like(_X, dtype=bool)


def _topper(dice: Dice, row: int, width: int) -> np.ndarray:
    """Something on the head, whose crown is at ``row`` and about ``width`` columns wide."""
    kind = dice.between(0, 8)
    x = max(2, width - dice.between(2, 4))
    up = dice.between(4, 7)
    if kind == 0:  # antennae with knobs
        knob = box(x - 1, x + 2, row - up - 1, row - up + 2)
        return knob | line([(x - 2, row + 2), (x, row - up)])
    if kind == 1:  # pointed ears
        return triangle((x - 3, row + 3), (x + 3, row + 5), (x + 2, row - up + 1))
    if kind == 2:  # round ears
        return oval(2 * x, 2 * row, 8, 8) & ~oval(2 * x, 2 * row, 3, 3)
    if kind == 3:  # long ears
        centre = (2 * x - 2, 2 * row - up)
        return oval(*centre, 5, 2 * up + 2) & ~oval(*centre, 2, 2 * up - 3)
    if kind == 4:  # horns
        return line([(x - 1, row + 3), (x + 2, row), (x + 1, row - up + 1)], thick=2)
    if kind == 5:  # a tuft
        return line([(0, row + 1), (0, row - up + 1)]) | line([(1, row + 1), (3, row - up + 2)])
    if kind == 6:  # a crown
        return (box(0, x + 1, row - 2, row + 2)) | ((_X % 3 == 0) & box(0, x + 1, row - 5, row))
    if kind == 7:  # antlers
        return line([(x - 2, row + 2), (x, row - up), (x, row - up - 1)]) | line(
            [(x - 1, row - 1), (x + 3, row - 3), (x + 3, row - 5)]
        )
    return _nothing()


def _feet(dice: Dice, row: int, width: int) -> np.ndarray:
    """Something to stand on under a body that ends at ``row``."""
    kind = dice.between(0, 4)
    x = dice.between(1, max(1, width - 3))
    if kind == 0:  # two legs with shoes
        return box(x, x + 2, row - 2, 23) | box(x, x + 4, 22, 24)
    if kind == 1:  # four legs
        return box(0, 1, row - 2, 24) | box(x + 1, x + 3, row - 2, 24)
    if kind == 2:  # big flat feet
        return oval(2 * x + 5, 46, 8, 5)
    if kind == 3:  # wheels
        return oval(2 * x + 4, 42, 6, 6) & ~oval(2 * x + 4, 42, 2, 2)
    return (_X % 3 != 2) & box(0, width - 1, row - 2, 24)  # many little feet


def _arms(dice: Dice, row: int, width: int) -> np.ndarray:
    """Something at the sides, from the shoulder at ``row``."""
    kind = dice.between(0, 6)
    reach = dice.between(2, 5)
    if kind == 0:  # cheering
        return line([(width - 2, row), (11, row - reach), (11, row - reach - 2)], thick=2)
    if kind == 1:  # hanging
        return line([(width - 2, row), (10, row + 1), (10, row + reach + 1)], thick=2)
    if kind == 2:  # wings
        return triangle((width - 3, row), (11, row - 5), (11, row + 5))
    if kind == 3:  # feathered wings
        return triangle((width - 3, row - 3), (11, row - 4), (11, row + 6)) & ((_Y + row) % 3 != 0)
    if kind == 4:  # claws
        claw = oval(21, 2 * row - 8, 6, 7) & ~box(10, 11, row - 9, row - 4)
        return claw | line([(width - 2, row + 1), (10, row - 2)], thick=2)
    if kind == 5:  # fins
        return oval(2 * width, 2 * row + 2, 8, 5)
    return _nothing()


# -- species -------------------------------------------------------------------------------------


def _blob(dice: Dice) -> Sketch:
    width, top, bottom = dice.between(8, 11), dice.between(3, 7), dice.between(19, 22)
    body = oval(0, top + bottom, 2 * width, bottom - top, square=dice.one_in(2))
    limbs = _topper(dice, top, width) | _feet(dice, bottom, width) | _arms(dice, 14, width)
    return Sketch(body, limbs, dice.between(top + 3, top + 6))


def _ghost(dice: Dice) -> Sketch:
    width, top = dice.between(8, 11), dice.between(1, 4)
    dome = oval(0, 2 * (top + width), 2 * width, 2 * width) | box(0, width, top + width, 24)
    period = dice.pick((3, 4, 5))
    hem = box(0, 12, 24 - dice.between(2, 3), 24) & ((_X + dice.between(0, 4)) % period == 0)
    return Sketch(dome & ~hem, _arms(dice, 14, width), dice.between(top + 4, top + 7))


def _jelly(dice: Dice) -> Sketch:
    width, top, rim = dice.between(9, 12), dice.between(1, 4), dice.between(11, 15)
    bell = oval(0, 2 * rim, 2 * width, 2 * (rim - top)) & (rim > _Y)
    bell |= box(0, width, rim - 1, rim + 1)
    limbs = _nothing()
    for x in range(dice.between(0, 1), width - 1, dice.pick((3, 4))):
        bend, end = dice.between(-1, 2), dice.between(19, 23)
        limbs |= line([(x, rim), (x + bend, (rim + end) // 2), (x, end)], thick=dice.pick((1, 2)))
    return Sketch(bell, limbs, max(top + 3, rim - 7))


def _crab(dice: Dice) -> Sketch:
    width, middle, tall = dice.between(7, 9), dice.between(13, 15), dice.between(5, 6)
    body = oval(0, 2 * middle, 2 * width, 2 * tall, square=True)
    limbs = _nothing()
    for k in range(dice.between(2, 3)):
        y = middle + 1 + 2 * k
        limbs |= line([(width - 3, y), (10, y), (11, y + 3)])
    lift, size = dice.between(3, 8), dice.between(6, 9)
    claw = oval(18, 2 * lift, size, size) & ~triangle((8, lift - 5), (11, lift - 5), (9, lift))
    limbs |= claw | line([(width - 2, middle - 2), (10, lift + 3)], thick=2)
    stalk = dice.between(0, 4)
    limbs |= line([(stalk + 1, middle - 4), (stalk + 1, 5)]) | oval(2 * stalk + 3, 7, 5, 5)
    limbs &= ~oval(2 * stalk + 3, 7, 2, 2)
    return Sketch(body, limbs, middle - 3)


def _bear(dice: Dice) -> Sketch:
    head, waist = dice.between(8, 11), dice.between(5, 8)
    top, chin = dice.between(3, 6), dice.between(14, 16)
    body = oval(0, top + chin, 2 * head, chin - top, square=dice.one_in(3))
    trunk = oval(0, 2 * chin + 8, 2 * waist, 14)
    limbs = _topper(dice, top, head) | _arms(dice, chin + 3, waist + 1)
    limbs |= _feet(dice, 22, waist + 2)
    return Sketch(body | trunk, limbs, dice.between(top + 3, top + 5))


def _robot(dice: Dice) -> Sketch:
    head, chest = dice.between(6, 9), dice.between(5, 10)
    top, neck = dice.between(3, 5), dice.between(12, 14)
    body = box(0, head, top, neck) | box(0, chest, neck + 1, 21)
    limbs = box(0, dice.between(2, 4), neck, neck + 1) | _feet(dice, 21, chest)
    limbs |= _arms(dice, 16, chest) | _topper(dice, top, head)
    limbs |= box(head, head + 2, top + 3, top + 7)
    return Sketch(body, limbs, top + 2)


def _bird(dice: Dice) -> Sketch:
    width, top = dice.between(6, 8), dice.between(3, 5)
    body = oval(0, top + 22, 2 * width, 22 - top, square=dice.one_in(2))
    low, high = dice.between(15, 20), dice.between(2, 9)
    joint = (width - 3, 9)
    wing = triangle(joint, (11, high), (11, low)) | triangle(joint, (width - 2, 19), (11, low))
    feathers = (_X + _Y) % 3 != 0 if dice.one_in(2) else (_Y % 3 != 0) | (width + 1 > _X)
    limbs = (wing & feathers) | _topper(dice, top, width) | box(2, 5, 22, 24)
    return Sketch(body, limbs, top + 3)


def _moth(dice: Dice) -> Sketch:
    trunk = dice.between(3, 4)
    upper = oval(13, 2 * dice.between(6, 8), 11, 2 * dice.between(5, 6))
    lower = oval(12, 2 * dice.between(15, 18), 2 * dice.between(4, 5), 2 * dice.between(4, 6))
    slim = oval(0, 26, 2 * trunk, 20)
    face = oval(0, 15, 12, 11)
    feelers = line([(1, 4), (dice.between(2, 4), 1), (dice.between(4, 6), 0)])
    return Sketch(upper | lower | face, slim | feelers, 5)


def _beetle(dice: Dice) -> Sketch:
    width, top = dice.between(7, 9), dice.between(6, 8)
    shell = oval(0, top + 23, 2 * width, 23 - top)
    head = oval(0, 2 * top, 2 * dice.between(5, 7), 10)
    limbs = line([(2, top - 3), (dice.between(3, 7), top - 7)], thick=dice.pick((1, 2)))
    for y in (top + 4, top + 8, top + 12):
        limbs |= line([(width - 3, y), (10, y - 1), (11, min(23, y + dice.pick((-2, 3))))])
    return Sketch(shell | head, limbs, top - 2)


def _octopus(dice: Dice) -> Sketch:
    width, top = dice.between(6, 9), dice.between(1, 3)
    head = oval(0, top + 16, 2 * width, 16 - top, square=dice.one_in(3))
    limbs = _nothing()
    for x in (1, 4, 7, 10):
        out, end = x + dice.between(0, 1), dice.between(18, 22)
        curl = dice.pick((-2, 2))
        limbs |= line([(x // 2, 13), (out, 16), (out, end), (out + curl, end + 1)], thick=2)
    return Sketch(head, limbs, top + 4)


def _mushroom(dice: Dice) -> Sketch:
    cap, rim = dice.between(9, 12), dice.between(9, 12)
    top = oval(0, 2 * rim, 2 * cap, 2 * rim - 2 * dice.between(0, 3)) & (rim >= _Y)
    stem = box(0, dice.between(5, 8), rim, 22) | oval(0, 40, 2 * dice.between(6, 9), 8)
    limbs = _arms(dice, 17, 7) | _feet(dice, 22, 6)
    return Sketch(top | stem, limbs, rim + 2)


def _alien(dice: Dice) -> Sketch:
    brow, jaw = dice.between(9, 12), dice.between(3, 6)
    skull = oval(0, 14, 2 * brow, 12) | box(0, jaw, 6, 15)
    skull |= triangle((0, 18), (0, 6), (brow - 1, 7))
    trunk = triangle((0, 13), (0, 23), (jaw + 4, 23)) | box(0, jaw, 14, 22)
    limbs = _topper(dice, 2, brow) | _arms(dice, 18, jaw + 2) | _feet(dice, 22, jaw + 2)
    return Sketch(skull | trunk, limbs, dice.between(5, 7))


def _urchin(dice: Dice) -> Sketch:
    radius, middle = dice.between(6, 8), dice.between(11, 12)
    body = oval(0, 2 * middle, 2 * radius, 2 * radius)
    limbs = _nothing()
    for x, y in ((0, 0), (4, 0), (8, 2), (11, 6), (11, 11), (11, 16), (8, 21), (4, 23), (0, 23)):
        if not dice.one_in(5):
            limbs |= line([(0, middle), (x, y)], thick=dice.pick((1, 2)))
    return Sketch(body, limbs, middle - 3)


_SPECIES = {
    "blob": _blob,
    "ghost": _ghost,
    "jelly": _jelly,
    "crab": _crab,
    "bear": _bear,
    "robot": _robot,
    "bird": _bird,
    "moth": _moth,
    "beetle": _beetle,
    "octopus": _octopus,
    "mushroom": _mushroom,
    "alien": _alien,
    "urchin": _urchin,
}
SPECIES = tuple(_SPECIES)


# -- names ---------------------------------------------------------------------------------------

_ONSETS = ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "br", "fl", "pl")
_VOWELS = ("a", "e", "i", "o", "u", "oo", "ee")
_ENDINGS = ("", "", "", "n", "x", "p", "lo", "bi", "mi", "na", "to", "ki", "zu")


def _names(n: int, dice: Dice) -> list[str]:
    """Make ``n`` different names that one can say aloud."""
    names: dict[str, None] = {}
    while len(names) < n:
        word = "".join(dice.pick(p) for p in (_ONSETS, _VOWELS, _ONSETS, _VOWELS, _ENDINGS))
        names[word.capitalize()] = None
    return list(names)
