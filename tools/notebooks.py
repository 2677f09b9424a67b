"""Make the executed notebook beside each chapter: book/NN_slug.md -> book/NN_slug.ipynb.

One way only. The Markdown file is edited, the notebook is generated, and running this twice gives
the same bytes.

    python tools/notebooks.py book/02_binary_memories.md   # one chapter
    python tools/notebooks.py --all                        # every chapter, two at a time
    python tools/notebooks.py --check                      # no execution: are the twins in step?
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import os
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jupytext
import nbformat
import numpy as np
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from PIL import Image

BOOK = Path(__file__).resolve().parent.parent / "book"
GLUE_MIME = "application/vnd.amtutor.glue+json"
WIDGET_MIME = "application/vnd.jupyter.widget-view+json"
ADDRESS = re.compile(r" at 0x[0-9a-f]+")
GLUE_ROLE = re.compile(r"\{glue\}`([^`]+)`")
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


class NotebookError(Exception):
    """One line that says which notebook, which cell and what went wrong."""


def chapters() -> list[Path]:
    """Every page of the book that is a notebook: its front matter names a kernel."""
    return [p for p in sorted(BOOK.glob("*.md")) if "\nkernelspec:" in p.read_text("utf-8")[:600]]


def read_source(path: Path) -> nbformat.NotebookNode:
    """The chapter as a notebook without outputs, figure captions repeated as Markdown cells.

    The site draws captions from cell metadata, which GitHub and Colab do not show. So a copy
    follows the figure in a Markdown cell that the site leaves out (tag remove-cell).
    """
    notebook = jupytext.read(path, fmt="md:myst")
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        if caption := figure.get("caption", "").strip():
            copy = nbformat.v4.new_markdown_cell(f"*Figure.* {caption}")
            copy.metadata["tags"] = ["remove-cell", "caption"]
            cells.append(copy)
    return nbformat.v4.new_notebook(cells=cells, metadata=METADATA)


def set_ids(notebook: nbformat.NotebookNode) -> None:
    """Cell ids are hashes of the content, so they change only when the cell does."""
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        count = seen[digest] = seen.get(digest, 0) + 1
        cell.id = digest if count == 1 else f"{digest}-{count}"


# ------------------------------------------------------------------------------------ execution


def execute(notebook: nbformat.NotebookNode, path: Path, timeout: int) -> None:
    """Run every cell in the folder of the book; a failing cell becomes one line."""
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        record_timing=False,
        store_widget_state=False,
        extra_arguments=["--IPKernelApp.log_level=40"],
        resources={"metadata": {"path": str(BOOK)}},
    )
    try:
        client.execute()
    except CellExecutionError as error:
        where = next(i for i, c in enumerate(notebook.cells) if _error_of(c))
        line = f"{error.ename}: {(str(error.evalue).strip().splitlines() or [''])[0]}"
        raise NotebookError(f"{_place(path, notebook, where)}: {line}") from None
    except (CellTimeoutError, DeadKernelError) as error:
        done = [i for i, c in enumerate(notebook.cells) if c.get("execution_count")]
        where = (done or [0])[-1]
        line = str(error).strip().splitlines()[0]
        raise NotebookError(f"{_place(path, notebook, where)} or after: {line}") from None


def _error_of(cell: nbformat.NotebookNode) -> bool:
    expected = "raises-exception" in cell.metadata.get("tags", [])
    return not expected and any(o.output_type == "error" for o in cell.get("outputs", []))


def _place(path: Path, notebook: nbformat.NotebookNode, index: int) -> str:
    code = [line for line in notebook.cells[index].source.splitlines() if line.strip()]
    return f"{path.name}: cell {index + 1} ({(code or ['empty'])[0][:60]!r})"


# ---------------------------------------------------------------------------------- normalising


def collect_glue(notebook: nbformat.NotebookNode, path: Path) -> dict[str, str]:
    """Take the glued values out of the outputs; the cells lose those outputs."""
    values: dict[str, str] = {}
    for index, cell in enumerate(notebook.cells):
        kept = []
        for output in cell.get("outputs", []):
            if GLUE_MIME not in output.get("data", {}):
                kept.append(output)
                continue
            glued = output.data[GLUE_MIME]
            name, value = str(glued["name"]), str(glued["value"])
            if values.setdefault(name, value) != value:
                place = _place(path, notebook, index)
                raise NotebookError(f"{place}: glue {name!r} is {values[name]!r} and {value!r}")
        if "outputs" in cell:
            cell.outputs = kept
    return values


def fill_glue(notebook: nbformat.NotebookNode, values: dict[str, str], path: Path) -> None:
    """Write the values where the prose and the captions ask for them."""

    def fill(text: str, index: int) -> str:
        for name in GLUE_ROLE.findall(text):
            if name not in values:
                known = ", ".join(sorted(values)) or "none"
                place = _place(path, notebook, index)
                raise NotebookError(f"{place}: nothing is glued as {name!r} (known: {known})")
        return GLUE_ROLE.sub(lambda match: values[match[1]], text)

    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            cell.source = fill(cell.source, index)
        elif caption := cell.metadata.get("mystnb", {}).get("figure", {}).get("caption"):
            cell.metadata["mystnb"]["figure"]["caption"] = fill(caption, index)


def normalise_outputs(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Keep what a reader sees; drop what differs from run to run."""
    for index, cell in enumerate(notebook.cells):
        tags = cell.metadata.get("tags")
        cell.metadata.pop("execution", None)
        if tags is not None:
            cell.metadata["tags"] = list(tags)
        if cell.cell_type != "code":
            continue
        outputs: list[nbformat.NotebookNode] = []
        for output in cell.outputs:
            if output.output_type == "stream":
                if output.name == "stderr":
                    said = output.text.strip().splitlines()[0]
                    raise NotebookError(f"{_place(path, notebook, index)} warns: {said}")
                output.text = ADDRESS.sub("", output.text)
                if outputs and outputs[-1].output_type == "stream":
                    outputs[-1].text += output.text  # the split between two prints is an accident
                    continue
            elif output.output_type in ("display_data", "execute_result"):
                if not _normalise_data(output):
                    continue
            outputs.append(output)
        cell.outputs = outputs


def _normalise_data(output: nbformat.NotebookNode) -> bool:
    """Tidy one rich output in place; False when nothing of it is left."""
    data = output.data
    if data.pop(WIDGET_MIME, None) is not None and set(data) <= {"text/plain"}:
        return False
    for mime, value in data.items():
        if mime == "text/plain":
            data[mime] = ADDRESS.sub("", value)
        elif mime == "image/png":
            data[mime] = base64.b64encode(smaller_png(base64.b64decode(value))).decode() + "\n"
    return True


def smaller_png(png: bytes, tolerance: int = 12) -> bytes:
    """The same picture with a palette where no pixel then moves by more than `tolerance` of 255."""
    image = Image.open(io.BytesIO(png)).convert("RGBA")
    if image.getextrema()[3] == (255, 255):
        image = image.convert("RGB")
    method = Image.Quantize.FASTOCTREE if image.mode == "RGBA" else Image.Quantize.MEDIANCUT
    palette = image.quantize(256, method=method, dither=Image.Dither.NONE)
    shift = np.asarray(palette.convert(image.mode), int) - np.asarray(image, int)
    candidates = [palette] if abs(shift).max() <= tolerance else []
    packed = [png]
    for candidate in [image, *candidates]:
        buffer = io.BytesIO()
        candidate.save(buffer, "PNG", optimize=True)
        packed.append(buffer.getvalue())
    return min(packed[1:], key=len)


# ------------------------------------------------------------------------------------- the verbs


def make(path: Path, timeout: int = 600) -> str:
    """Generate, execute and write one twin; returns a line for the log."""
    start = time.perf_counter()
    notebook = read_source(path)
    execute(notebook, path, timeout)
    values = collect_glue(notebook, path)
    normalise_outputs(notebook, path)
    fill_glue(notebook, values, path)
    set_ids(notebook)
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    nbformat.validate(notebook)
    twin = path.with_suffix(".ipynb")
    text = nbformat.writes(notebook, version=nbformat.NO_CONVERT)
    twin.write_text(text.rstrip("\n") + "\n", "utf-8")
    took = time.perf_counter() - start
    return f"{twin.name}: {took:.1f} s, {len(text) / 1e6:.2f} MB, {len(values)} numbers glued"


def check(path: Path) -> list[str]:
    """What differs between a chapter and its twin, in words; empty when they are in step."""
    twin_path = path.with_suffix(".ipynb")
    if not twin_path.exists():
        return [f"{twin_path.name} is missing (make notebooks)"]
    source, twin = read_source(path), nbformat.read(twin_path, as_version=4)
    if len(source.cells) != len(twin.cells):
        return [f"{path.name} has {len(source.cells)} cells, its twin {len(twin.cells)}"]
    faults, values = [], {}
    for index, (wanted, found) in enumerate(zip(source.cells, twin.cells, strict=True)):
        same = wanted.cell_type == found.cell_type and (
            wanted.source == found.source
            if wanted.cell_type == "code"
            else matches(wanted.source, found.source, values)
        )
        same &= wanted.metadata.get("tags", []) == found.metadata.get("tags", [])
        pictures = [c.metadata.get("mystnb", {}).get("figure", {}) for c in (wanted, found)]
        same &= pictures[0].keys() == pictures[1].keys()
        same &= all(matches(str(pictures[0][k]), str(pictures[1][k]), values) for k in pictures[0])
        if not same:
            faults.append(f"{_place(path, source, index)} differs from its twin (make notebooks)")
    ids = [cell.get("id") for cell in twin.cells]
    set_ids(twin)
    if not faults and ids != [cell.id for cell in twin.cells]:
        faults.append(f"{twin_path.name} was edited by hand: its cell ids are not its contents'")
    return faults


def matches(source: str, found: str, values: dict[str, str]) -> bool:
    """Whether `found` is `source` with each glue role filled, one value for each name."""
    names = GLUE_ROLE.findall(source)
    parts = GLUE_ROLE.split(source)[::2]
    pattern = "(.+?)".join(re.escape(part) for part in parts)
    match = re.fullmatch(pattern, found, flags=re.DOTALL)
    if match is None:
        return False
    filled = zip(names, match.groups(), strict=True)
    return all(values.setdefault(name, value) == value for name, value in filled)


def prepare_environment() -> None:
    """What the kernels inherit: static figures, no progress bars, one thread, fixed hashes."""
    if data := os.environ.get("AMTUTOR_DATA"):
        os.environ["AMTUTOR_DATA"] = str(Path(data).resolve())  # kernels run inside book/
    os.environ["AMTUTOR_STATIC"] = "1"
    os.environ["TQDM_DISABLE"] = "1"
    os.environ["PYTHONHASHSEED"] = "0"
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, help="book/NN_slug.md")
    parser.add_argument("--all", action="store_true", help="every chapter")
    parser.add_argument("--check", action="store_true", help="compare only; nothing is run")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--timeout", type=int, default=600, help="seconds for one cell")
    options = parser.parse_args()
    paths = [p.resolve().with_suffix(".md") for p in options.files]
    if not paths and not (options.all or options.check):
        parser.error("name a chapter, or --all, or --check")
    paths = paths or chapters()
    for path in paths:
        if not path.exists():
            parser.error(f"{path} does not exist")
    if options.check:
        faults = [fault for path in paths for fault in check(path)]
        print("\n".join(faults) or f"{len(paths)} twins in step")
        return bool(faults)
    prepare_environment()

    def attempt(path: Path) -> bool:
        try:
            print(make(path, options.timeout), flush=True)
            return True
        except NotebookError as error:
            print(f"FAILED {error}", file=sys.stderr, flush=True)
            return False

    with ThreadPoolExecutor(max_workers=options.jobs) as pool:
        return 0 if all(list(pool.map(attempt, paths))) else 1


if __name__ == "__main__":
    sys.exit(main())
