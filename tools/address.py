"""The repository's address stands in pyproject.toml; this writes it wherever else it is needed.

python tools/address.py           # after [project.urls] has changed
python tools/address.py --check   # say which files have another address
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "book" / "_ext"))

from site_project import project, repository, site  # noqa: E402 (they read pyproject.toml)

NAME = project()["name"]
# badges, installs and links; Colab names the repository after its own address
HOSTS = r"github\.com|raw\.githubusercontent\.com|colab\.research\.google\.com/github"
CODE = re.compile(rf"((?:{HOSTS})/)[\w.-]+/{NAME}(?![\w-])")
PAGES = re.compile(rf"https://[\w-]+\.github\.io/{NAME}/")
TEXT = {".md", ".ipynb", ".yml", ".toml", ".cff", ".py", ".json", ".txt"}


def tracked() -> list[Path]:
    """Every text file that git knows or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [ROOT / name for name in said.stdout.splitlines()]
    return [p for p in paths if p.suffix in TEXT and p.is_file() and p != ROOT / "pyproject.toml"]


def rewritten(text: str) -> str:
    """The text with the address that pyproject.toml has."""
    owner = repository().removeprefix("https://github.com/")
    return PAGES.sub(site(), CODE.sub(rf"\g<1>{owner}", text))


def main() -> int:
    differ = []
    for path in tracked():
        text = path.read_text("utf-8")
        if (new := rewritten(text)) != text:
            differ.append(path.relative_to(ROOT).as_posix())
            if "--check" not in sys.argv:
                path.write_text(new, "utf-8")
    for name in differ:
        print(name)
    return bool(differ) and "--check" in sys.argv


if __name__ == "__main__":
    sys.exit(main())
