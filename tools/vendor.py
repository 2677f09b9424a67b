"""Fetch what the site serves from itself: MathJax and two typefaces, into book/_vendor.

Uses `npm pack` (nothing is installed, no script of a package runs). Without npm the site takes
MathJax from a public CDN and the reader's own typefaces, and this says so.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

VENDOR = Path(__file__).resolve().parent.parent / "book" / "_vendor"
# package: what is taken out of it, and where it goes
PACKAGES = {
    "mathjax@3.2.2": {
        "package/es5/tex-chtml.js": "mathjax/tex-chtml.js",
        "package/es5/output/chtml/fonts/woff-v2/": "mathjax/output/chtml/fonts/woff-v2/",
        "package/LICENSE": "mathjax/LICENSE",
    },
    "@fontsource-variable/source-serif-4@5.3.1": {
        "package/files/source-serif-4-latin-wght-normal.woff2": "fonts/serif.woff2",
        "package/files/source-serif-4-latin-wght-italic.woff2": "fonts/serif-italic.woff2",
        "package/LICENSE": "fonts/LICENSE-source-serif",
    },
    "@fontsource-variable/inter@5.3.0": {
        "package/files/inter-latin-wght-normal.woff2": "fonts/sans.woff2",
        "package/LICENSE": "fonts/LICENSE-inter",
    },
}
STAMP = VENDOR / "packages.txt"


def fetch(package: str, wanted: dict[str, str], folder: Path) -> None:
    """Unpack the wanted files of one package under `folder`."""
    with tempfile.TemporaryDirectory() as temporary:
        command = ["npm", "pack", "--silent", "--ignore-scripts", package]
        run = subprocess.run(command, cwd=temporary, capture_output=True, text=True, timeout=120)
        if run.returncode:
            raise OSError((run.stderr or run.stdout).strip().splitlines()[-1:] or ["npm failed"])
        with tarfile.open(next(Path(temporary).glob("*.tgz"))) as archive:
            for member in archive:
                for source, target in wanted.items():
                    if member.isfile() and member.name.startswith(source):
                        path = folder / (target + member.name[len(source) :])
                        path.parent.mkdir(parents=True, exist_ok=True)
                        path.write_bytes(archive.extractfile(member).read())


def main() -> int:
    wanted = "\n".join(PACKAGES) + "\n"
    if STAMP.exists() and STAMP.read_text("utf-8") == wanted:
        return 0
    fallback = "the site will load MathJax from cdn.jsdelivr.net, so its formulas need a network"
    if shutil.which("npm") is None:
        print(f"npm is not installed: {fallback} (Debian: apt install npm)")
        return 0
    shutil.rmtree(VENDOR, ignore_errors=True)
    try:
        for package, files in PACKAGES.items():
            fetch(package, files, VENDOR)
    except (OSError, subprocess.TimeoutExpired, tarfile.TarError) as error:
        shutil.rmtree(VENDOR, ignore_errors=True)
        print(f"npm could not fetch the site's scripts ({error}): {fallback}")
        return 0
    STAMP.write_text(wanted, "utf-8")
    print(f"fetched into book/_vendor: {', '.join(PACKAGES)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
