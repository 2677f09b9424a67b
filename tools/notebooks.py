"""Make the notebook beside each chapter: book/NN_slug.md -> book/NN_slug.ipynb.

One way only. The Markdown file is edited and has two renderings: the notebook, which is committed
and holds plain Markdown (tools/plain.py), and the site, for which `woven` joins the MyST of the
source with the outputs of the notebook. Running this twice gives the same bytes.

    python tools/notebooks.py book/02_binary_memories.md   # run one chapter and write its notebook
    python tools/notebooks.py --all                        # every chapter, two at a time
    python tools/notebooks.py --render                     # words changed, code not: nothing is run
    python tools/notebooks.py --check                      # nothing is run: are they in step?
"""

from __future__ import annotations

import argparse
import ast
import base64
import hashlib
import io
import json
import os
import re
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import numpy as np
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from PIL import Image

import kernels
import plain

BOOK = plain.BOOK
GLUE_MIME = "application/vnd.amtutor.glue+json"
WIDGET_MIME = "application/vnd.jupyter.widget-view+json"
ADDRESS = re.compile(r" at 0x[0-9a-f]+")
GLUE_ROLE = re.compile(r"\{glue\}`([^`]+)`")
CHECKED = re.compile(r"^# NBVAL_CHECK_OUTPUT[ \t]*\n")
EQUATION_IN_COMMENT = re.compile(r"(#[^\n]*?)\b(eq-[\w-]+)")
INSTALL = "except ImportError:\n    %pip install"
CHANGES = {"generator", "g", "append", "extend", "insert", "pop", "update", "step", "backward"}
CLAIMS = "# Claims of this chapter, checked"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
Outputs = list[nbformat.NotebookNode]


class NotebookError(Exception):
    """One line that says which notebook, which cell and what went wrong."""


def chapters() -> list[Path]:
    """Every page of the book that is a notebook: its front matter names a kernel."""
    return [p for p in sorted(BOOK.glob("*.md")) if "\nkernelspec:" in p.read_text("utf-8")[:600]]


def set_ids(notebook: nbformat.NotebookNode) -> None:
    """Cell ids are hashes of the content, so they change only when the cell does."""
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        count = seen[digest] = seen.get(digest, 0) + 1
        cell.id = digest if count == 1 else f"{digest}-{count}"


# ------------------------------------------------------------------------- what a reader meets


def lean(source: nbformat.NotebookNode, path: Path, book: plain.Book) -> list[int]:
    """Take the bookkeeping out of the code cells, in place; returns which code cells are left.

    `show.glue` lines have done their work when the chapter has run: their values stand in the
    prose. What only they read goes with them. `# NBVAL_CHECK_OUTPUT` becomes a tag, a label in a
    comment the number of its equation.
    """
    for index, cell in enumerate(source.cells):
        if cell.cell_type == "code":
            try:
                cell.source = without_glue(cell.source)
            except (SyntaxError, NotebookError) as error:
                raise NotebookError(f"{_place(path, source, index)}: {error}") from None
    without_husks([cell for cell in source.cells if cell.cell_type == "code"])
    kept, cells, count = [], [], 0
    for cell in source.cells:
        if cell.cell_type != "code":
            cells.append(cell)
            continue
        code = cell.source
        if CHECKED.match(code):
            code = CHECKED.sub("", code)
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "nbval-check-output"]
        cell.source = EQUATION_IN_COMMENT.sub(
            lambda m: m[1] + (book.labels[m[2]].name if m[2] in book.labels else m[2]), code
        )
        if code:
            kept.append(count)
            cells.append(cell)
        count += 1
    source.cells = cells
    return kept


def without_glue(code: str) -> str:
    """The code without its `show.glue(...)` statements and loops that hold nothing else."""
    if "show.glue(" not in code:
        return code
    body = ast.parse(code).body
    lines = code.split("\n")
    gone = [s for s in _all_statements(body) if _only_glues(s)]
    others = [s for s in _all_statements(body) if not _only_glues(s) and not hasattr(s, "body")]
    drop = {n for s in gone for n in range(s.lineno, s.end_lineno + 1)}
    for other in others:
        if drop & set(range(other.lineno, other.end_lineno + 1)):
            raise NotebookError(f"give show.glue a line of its own: {lines[other.lineno - 1]!r}")
    left = [line for number, line in enumerate(lines, 1) if number not in drop]
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(left)).strip("\n")
    rest = [s for s in body if s not in gone]
    if rest and body[-1] in gone and isinstance(rest[-1], ast.Expr) and not text.endswith(";"):
        value = rest[-1].value
        printed = isinstance(value, ast.Call) and getattr(value.func, "id", "") == "print"
        text += "" if printed else ";"  # it was not the last of its cell, so it showed nothing
    ast.parse(text)
    return text


def without_husks(cells: list[nbformat.NotebookNode]) -> None:
    """Drop from cells tagged `remove-cell`, in place, what no code that is left reads.

    Only what makes a name and does nothing else: a statement that draws random numbers or changes
    an object stays, or the notebook would count differently from the chapter.
    """
    trees = [_statements(cell.source) for cell in cells]
    hidden = [is_bookkeeping(cell) for cell in cells]
    while True:
        read = Counter(name for tree in trees for s in tree for name in _read(s))
        gone = [
            (index, s)
            for index, tree in enumerate(trees)
            for s in tree
            if hidden[index] and _only_names(s) and not (_made(s) & set(read - Counter(_read(s))))
        ]
        if not gone:
            return
        for index, statement in reversed(gone):
            lines = cells[index].source.split("\n")
            del lines[statement.lineno - 1 : statement.end_lineno]
            left = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")
            cells[index].source = left if _statements(left) else ""  # a comment alone says nothing
        trees = [_statements(cell.source) for cell in cells]


def is_bookkeeping(cell: nbformat.NotebookNode) -> bool:
    """Whether a code cell is for the book and not for its reader, and does not install it."""
    return "remove-cell" in cell.metadata.get("tags", []) and INSTALL not in cell.source


def _statements(code: str) -> list[ast.stmt]:
    """The statements at the top of a cell; a magic command counts as none."""
    return ast.parse(re.sub(r"^(\s*)[%!].*$", r"\1pass", code, flags=re.MULTILINE)).body


def _read(statement: ast.stmt) -> set[str]:
    names = (n for n in ast.walk(statement) if isinstance(n, ast.Name))
    return {name.id for name in names if isinstance(name.ctx, ast.Load)}


def _made(statement: ast.stmt) -> set[str]:
    """The names that a statement binds for the code after it."""
    if isinstance(statement, ast.FunctionDef):
        return {statement.name}
    names = (n for n in ast.walk(statement) if isinstance(n, ast.Name))
    return {name.id for name in names if isinstance(name.ctx, ast.Store)}


def _only_names(statement: ast.stmt) -> bool:
    """Whether a statement makes names and, as far as can be seen, does nothing else."""
    if isinstance(statement, ast.FunctionDef):
        return not statement.decorator_list
    if isinstance(statement, (ast.For, ast.If)):
        body = [*statement.body, *statement.orelse]
        return all(isinstance(s, ast.Pass) or _only_names(s) for s in body)
    if not isinstance(statement, ast.Assign):
        return False
    for node in ast.walk(statement):
        if isinstance(node, (ast.Attribute, ast.Subscript)) and isinstance(node.ctx, ast.Store):
            return False
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            words = {k.arg for k in node.keywords} | {called} | _read(node)
            if called.endswith("_") or words & CHANGES or "rand" in called:
                return False
    return True


def _only_glues(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr):
        call = statement.value
        return isinstance(call, ast.Call) and ast.unparse(call.func) == "show.glue"
    if isinstance(statement, (ast.For, ast.If, ast.With)):
        return all(map(_only_glues, [*statement.body, *getattr(statement, "orelse", [])]))
    return False


def _all_statements(body: list[ast.stmt]) -> list[ast.stmt]:
    return [s for top in body for s in ast.walk(top) if isinstance(s, ast.stmt)]


def fill(text: str, values: dict[str, str], where: str) -> str:
    """Write the glued values where the prose asks for them."""
    for name in GLUE_ROLE.findall(text):
        if name not in values:
            known = ", ".join(sorted(values)) or "none"
            raise NotebookError(f"{where}: nothing is glued as {name!r} (known: {known})")
    return GLUE_ROLE.sub(lambda match: values[match[1]], text)


def filled(path: Path, values: dict[str, str], book: plain.Book) -> nbformat.NotebookNode:
    """The source without bookkeeping and with its numbers: what both renderings start from."""
    source = plain.read(path)
    lean(source, path, book)
    for index, cell in enumerate(source.cells):
        where = _place(path, source, index)
        if cell.cell_type == "markdown":
            cell.source = fill(cell.source, values, where)
        elif caption := cell.metadata.get("mystnb", {}).get("figure", {}).get("caption"):
            cell.metadata["mystnb"]["figure"]["caption"] = fill(caption, values, where)
    return source


def rendered(
    path: Path, outputs: list[Outputs], values: dict[str, str], book: plain.Book | None = None
) -> nbformat.NotebookNode:
    """The notebook that is committed: plain Markdown, folded bookkeeping, the given outputs."""
    book = book or plain.Book(path.parent)
    source, page = filled(path, values, book), plain.Page(book, path.stem)
    if len(outputs) != (count := sum(cell.cell_type == "code" for cell in source.cells)):
        run = f"python tools/notebooks.py book/{path.name}"
        raise NotebookError(f"{path.name}: {count} code cells, {len(outputs)} were run ({run})")
    cells, given = [], iter(outputs)
    for index, cell in enumerate(source.cells):
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        try:
            if cell.cell_type == "code":
                folded = _folded(cell, inside=bool(page.solution))
                count = 1 + sum(c.cell_type == "code" for c in cells)
                made = nbformat.v4.new_code_cell(cell.source, metadata=folded)
                made.outputs, made.execution_count = next(given), count
                cells.append(made)
                if figure.get("caption"):
                    told = page.caption(figure["caption"], figure.get("name", ""))
                    cells.append(nbformat.v4.new_markdown_cell(told))
                continue
            follows = source.cells[index + 1 : index + 2]
            text = page.cell(cell.source, code_follows=bool(follows))
        except plain.PlainError as error:
            raise NotebookError(f"{_place(path, source, index)}: {error}") from None
        if not cells:
            address = book.address(path.stem)
            text = f"[Read this chapter as a page]({address}), with figures that move.\n\n{text}"
        if text:
            cells.append(nbformat.v4.new_markdown_cell(text))
    if page.is_open:
        raise NotebookError(f"{path.name}: nothing ends {page.is_open}")
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=nbformat.from_dict(METADATA))
    notebook.metadata["amtutor"] = {
        "code": code_digest(path),
        "glue": dict(sorted(values.items())),
        "outputs": _digest([outputs, values]),
    }
    set_ids(notebook)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    nbformat.validate(notebook)
    return notebook


def _folded(cell: nbformat.NotebookNode, *, inside: bool) -> dict:
    """Metadata by which JupyterLab and Colab fold a code cell."""
    tags = set(cell.metadata.get("tags", []))
    metadata: dict = {}
    hidden = inside or "hide-cell" in tags or is_bookkeeping(cell)
    if hidden or tags & {"hide-input", "remove-input"} or cell.source.startswith(CLAIMS):
        metadata["jupyter"] = {"source_hidden": True}
        metadata["cellView"] = "form"
    if hidden:
        metadata["jupyter"]["outputs_hidden"] = True
    if kept := sorted(tags & {"nbval-check-output", "raises-exception"}):
        metadata["tags"] = kept
    return metadata


def woven(path: Path, book: plain.Book | None = None) -> nbformat.NotebookNode:
    """What the site is built from: the MyST of the source, the outputs of its notebook.

    What is left of a cell tagged `remove-cell` is code that a reader meets the names of, in the
    claims at the latest. So it is folded there, and its output left out.
    """
    outputs, values, _ = read_twin(path)
    notebook = filled(path, values, book or plain.Book(path.parent))
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for count, (cell, given) in enumerate(zip(code, outputs, strict=True), 1):
        cell.outputs, cell.execution_count = given, count
        if is_bookkeeping(cell):
            cell.metadata["tags"] = ["hide-input", "remove-output"]
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    set_ids(notebook)
    return notebook


def read_twin(path: Path) -> tuple[list[Outputs], dict[str, str], dict]:
    """Outputs of the code cells, glued values and our metadata, from the committed notebook."""
    twin_path = path.with_suffix(".ipynb")
    if not twin_path.exists():
        raise NotebookError(f"{twin_path.name} is missing (python tools/notebooks.py {path.name})")
    twin = nbformat.read(twin_path, as_version=4)
    outputs = [cell.outputs for cell in twin.cells if cell.cell_type == "code"]
    ours = twin.metadata.get("amtutor", {})
    return outputs, dict(ours.get("glue", {})), ours


def code_digest(path: Path) -> str:
    """Of all code of the source, bookkeeping included."""
    return _digest([c.source for c in plain.read(path).cells if c.cell_type == "code"])


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


# ------------------------------------------------------------------------------------ execution


def execute(notebook: nbformat.NotebookNode, path: Path, timeout: int) -> None:
    """Run every cell in the folder of the book; a failing cell becomes one line."""
    client = kernels.Client(
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
    except (CellTimeoutError, RuntimeError) as error:  # or the kernel has died, or never started
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
    """Generate, execute and write one notebook; returns a line for the log."""
    start = time.perf_counter()
    notebook = plain.read(path)
    notebook = nbformat.v4.new_notebook(cells=notebook.cells, metadata=METADATA)
    execute(notebook, path, timeout)
    values = collect_glue(notebook, path)
    normalise_outputs(notebook, path)
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    kept = lean(notebook, path, book := plain.Book(path.parent))
    size = write(path, rendered(path, [outputs[k] for k in kept], values, book))
    took = time.perf_counter() - start
    return f"{path.stem}.ipynb: {took:.1f} s, {size / 1e6:.2f} MB, {len(values)} numbers glued"


def render(path: Path, *, keep_outputs: bool = False) -> str:
    """Write the notebook anew from its source and the outputs that it has; nothing is run."""
    outputs, values, ours = read_twin(path)
    if not keep_outputs and ours.get("code") != code_digest(path):
        raise NotebookError(
            f"{path.stem}: its code has changed (python tools/notebooks.py book/{path.name})"
        )
    size = write(path, rendered(path, outputs, values))
    return f"{path.stem}.ipynb: rendered, {size / 1e6:.2f} MB"


def write(path: Path, notebook: nbformat.NotebookNode) -> int:
    """Write the notebook beside its source; returns how long it is."""
    text = written(notebook)
    path.with_suffix(".ipynb").write_text(text, "utf-8")
    return len(text)


def written(notebook: nbformat.NotebookNode) -> str:
    return nbformat.writes(notebook, version=nbformat.NO_CONVERT).rstrip("\n") + "\n"


def check(path: Path, book: plain.Book | None = None) -> list[str]:
    """What differs between a chapter and its notebook, in words; empty when they are in step."""
    run, again = f"python tools/notebooks.py book/{path.name}", "python tools/notebooks.py --render"
    book = book or plain.Book(path.parent)
    try:
        outputs, values, ours = read_twin(path)
        if ours.get("code") != code_digest(path):
            return [f"{path.name}: its code has changed since it was run ({run})"]
        wanted = rendered(path, outputs, values, book)
    except NotebookError as error:
        return [str(error)]
    text = path.with_suffix(".ipynb").read_text("utf-8")
    if ours.get("outputs") != _digest([outputs, values]):
        return [f"{path.stem}.ipynb: its outputs were edited by hand ({run})"]
    if text == written(wanted):
        return []
    found = nbformat.reads(text, as_version=4)
    for index, (a, b) in enumerate(zip(wanted.cells, found.cells, strict=False)):
        if a != b:
            return [f"{_place(path, wanted, index)} differs from its notebook ({again})"]
    return [f"{path.name} differs from its notebook ({again})"]


def faults() -> list[str]:
    """What would keep the site from being built, one line each."""
    book = plain.Book()
    told = list(book.faults)
    for path in chapters():
        try:
            outputs, values, _ = read_twin(path)
            rendered(path, outputs, values, book)
        except NotebookError as error:
            told.append(str(error))
    return told


def prepare_environment() -> None:
    """What the kernels inherit: static figures, no progress bars, one thread, fixed hashes."""
    if data := os.environ.get("AMTUTOR_DATA"):
        os.environ["AMTUTOR_DATA"] = str(Path(data).resolve())  # kernels run inside book/
    os.environ["AMTUTOR_STATIC"] = "1"
    os.environ["TQDM_DISABLE"] = "1"
    os.environ["PYTHONHASHSEED"] = "0"
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a busy machine: waiting must not spin


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, help="book/NN_slug.md")
    parser.add_argument("--all", action="store_true", help="every chapter")
    parser.add_argument("--check", action="store_true", help="compare only; nothing is run")
    parser.add_argument("--render", action="store_true", help="write the words anew, run nothing")
    parser.add_argument(
        "--keep-outputs", action="store_true", help="with --render: also where code was renamed"
    )
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--timeout", type=int, default=600, help="seconds for one cell")
    options = parser.parse_args()
    paths = [p.resolve().with_suffix(".md") for p in options.files]
    if not paths and not (options.all or options.check or options.render):
        parser.error("name a chapter, or --all, --render or --check")
    paths = paths or chapters()
    for path in paths:
        if not path.exists():
            parser.error(f"{path} does not exist")
    book = plain.Book()
    if options.check:
        faults = [*book.faults, *(fault for path in paths for fault in check(path, book))]
        print("\n".join(faults) or f"{len(paths)} notebooks in step")
        return bool(faults)
    if book.faults:
        print("\n".join(book.faults), file=sys.stderr)
        return 1
    prepare_environment()

    def attempt(path: Path) -> bool:
        try:
            if options.render:
                print(render(path, keep_outputs=options.keep_outputs), flush=True)
            else:
                print(make(path, options.timeout), flush=True)
            return True
        except NotebookError as error:
            print(f"FAILED {error}", file=sys.stderr, flush=True)
            return False

    with ThreadPoolExecutor(max_workers=options.jobs) as pool:
        return 0 if all(list(pool.map(attempt, paths))) else 1


if __name__ == "__main__":
    sys.exit(main())
