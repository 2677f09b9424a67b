"""Copy the picture that opens the README out of the chapter that made it.

python tools/readme_picture.py          # write book/_static/readme.png
"""

from __future__ import annotations

import base64
from pathlib import Path

import notebooks

BOOK = Path(__file__).resolve().parent.parent / "book"
CHAPTER, FIGURE = "02_binary_memories", "fig-b-forgetting"
PICTURE = BOOK / "_static" / "readme.png"


def figure(chapter: str = CHAPTER, name: str = FIGURE) -> bytes:
    """Return a figure of an executed chapter as PNG bytes."""
    for cell in notebooks.woven(BOOK / f"{chapter}.md").cells:
        if cell.metadata.get("mystnb", {}).get("figure", {}).get("name") != name:
            continue
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                return base64.b64decode(output.data["image/png"])
    raise LookupError(f"{chapter}.ipynb has no picture named {name}")


if __name__ == "__main__":
    PICTURE.write_bytes(figure())
    print(f"{PICTURE.relative_to(BOOK.parent)}: {FIGURE} of {CHAPTER}")
