"""Write the first 200 creatures as book/_static/explorables/sprites.js (bits in base64).

    python tools/explorable_sprites.py

Run it again when `amtutor.data.sprites` draws other creatures (a test in tests/site tells).
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np

from amtutor import data

TARGET = Path(__file__).resolve().parents[1] / "book" / "_static" / "explorables" / "sprites.js"
COUNT = 200
TEMPLATE = """\
// Made by tools/explorable_sprites.py from amtutor.data.sprites({count}); do not edit.
// Each creature is 24 rows of its left half (12 pixels, first pixel in the highest bit); the right
// half is its mirror image. 1 is ink.

export const SPRITE_NAMES = {names}.split(" ");

/** Root mean square overlap of two different creatures (of two random patterns: 1/24). */
export const SPRITE_LIKENESS = {likeness:.4f};

const SPRITE_BITS = {bits};

/** All creatures as one Int8Array of +1 (ink) and -1: {count} rows of 576. */
export function unpackSprites() {{
  const bytes = Uint8Array.from(atob(SPRITE_BITS), (c) => c.charCodeAt(0));
  const spins = new Int8Array(2 * 8 * bytes.length);
  for (let p = 0; p < 8 * bytes.length; p++) {{
    const spin = (bytes[p >> 3] >> (7 - (p & 7))) & 1 ? 1 : -1;
    const row = Math.floor(p / 12) * 24;
    spins[row + (p % 12)] = spin;
    spins[row + 23 - (p % 12)] = spin;
  }}
  return spins;
}}
"""


def render(count: int = COUNT) -> str:
    """Return the module as text."""
    creatures = data.sprites(count)
    images = creatures.images
    if not np.array_equal(images, images[:, :, ::-1]):
        raise ValueError("creatures are no longer their own mirror images: store all 24 columns")
    if any(" " in name for name in creatures.names):
        raise ValueError("a name holds a space")
    spins = 2.0 * images.reshape(count, -1) - 1
    agree = (spins @ spins.T / spins.shape[1])[~np.eye(count, dtype=bool)]
    bits = base64.b64encode(np.packbits(images[:, :, :12].reshape(-1)).tobytes()).decode()
    return TEMPLATE.format(
        count=count,
        names=json.dumps(" ".join(creatures.names)),
        likeness=np.sqrt(np.mean(agree**2)),
        bits=json.dumps(bits),
    )


if __name__ == "__main__":
    TARGET.write_text(render(), "utf-8")
    print(f"{TARGET.name}: {TARGET.stat().st_size / 1000:.1f} kB")
