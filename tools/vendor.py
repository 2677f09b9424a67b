"""Fetch what the site serves from itself: KaTeX and two typefaces, into book/_vendor.

    python tools/vendor.py          # for the site
    python tools/vendor.py tests    # axe-core, for the tests of the site, into _build/vendor

Uses `npm pack` (nothing is installed, no script of a package runs). Without npm the site takes
KaTeX from a public CDN and the reader's own typefaces, and this says so.
"""

from __future__ import annotations

import fnmatch
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENDOR = ROOT / "book" / "_vendor"
FOR_TESTS = ROOT / "_build" / "vendor"
# package: what is taken out of it, and where it goes
PACKAGES = {
    "katex@0.19.1": {
        "package/dist/katex.min.js": "katex/katex.min.js",
        "package/dist/katex.min.css": "katex/katex.min.css",
        "package/dist/fonts/*.woff2": "katex/fonts/",
        "package/LICENSE": "katex/LICENSE",
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
TEST_PACKAGES = {
    "axe-core@4.14.1": {"package/axe.min.js": "axe.min.js", "package/LICENSE": "LICENSE-axe"}
}


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
                    if member.isfile() and fnmatch.fnmatch(member.name, source):
                        path = folder / (target + Path(member.name).name * target.endswith("/"))
                        path.parent.mkdir(parents=True, exist_ok=True)
                        path.write_bytes(archive.extractfile(member).read())


def fetch_all(packages: dict[str, dict[str, str]], folder: Path) -> str:
    """Fill `folder` unless it holds these packages; returns why that could not be, or nothing."""
    stamp, wanted = folder / "packages.txt", "\n".join(packages) + "\n"
    if stamp.exists() and stamp.read_text("utf-8") == wanted:
        return ""
    if shutil.which("npm") is None:
        return "npm is not installed (Debian: apt install npm)"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        for package, files in packages.items():
            fetch(package, files, folder)
    except (OSError, subprocess.TimeoutExpired, tarfile.TarError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        return f"npm could not fetch {', '.join(packages)} ({error})"
    stamp.write_text(wanted, "utf-8")
    print(f"fetched into {folder.relative_to(ROOT)}: {', '.join(packages)}")
    return ""


def main() -> int:
    if sys.argv[1:] == ["tests"]:
        if reason := fetch_all(TEST_PACKAGES, FOR_TESTS):
            print(reason)
    elif reason := fetch_all(PACKAGES, VENDOR):
        print(f"{reason}: the site loads KaTeX from cdn.jsdelivr.net, its formulas need a network")
    return 0


if __name__ == "__main__":
    sys.exit(main())
