"""Writes notebooks in the one committed form: the same bytes after Papermill as after a save in JupyterLab.

python tests/baseline.py NOTEBOOK...           rewrites them, cells and outputs as they are
python tests/baseline.py --run NOTEBOOK...     executes them first, with their defaults
python tests/baseline.py --check NOTEBOOK...   only says what is not in that form

What is committed is what `make test` compares with, so it also refuses what would let a comparison pass
unseen or fail on another machine.
"""

import argparse
import base64
import copy
import os
import re
import sys
import tempfile
from functools import cache
from pathlib import Path
from unittest import mock

import nbformat
from nbformat import NotebookNode

from alexnet_lib.walkthrough import DEPENDENCIES, in_order, plan, run_notebook

IMAGE_BUDGET = 300_000  # bytes of pictures in a notebook
ADDED_BY_PAPERMILL = {"injected-parameters", "papermill-error-cell-tag"}
# nbval runs neither as Papermill does
REFUSED_TAGS = {"nbval-skip", "nbval-raises-exception", "raises-exception"}
FOLDED = {"outputs_hidden": True, "source_hidden": True}  # a cell tagged "check", in JupyterLab
HAND_WRITTEN_ID = re.compile(r"(?![0-9a-f]{8}(-|$))[a-z][a-z0-9]*(-[a-z0-9]+)*")
UNREPEATABLE = {
    "an absolute path": re.compile(r"(?<![\w.:/<>-])/[A-Za-z][\w.-]*/[\w.-]|\b[A-Z]:\\\w"),
    "an object's address": re.compile(r" at 0x[0-9a-f]{6}"),
    "a temporary folder": re.compile(r"(?<![\w.])/tmp/"),
}
# what checked outputs may depend on is the same wherever they are made; the folders are private besides
CHECKED_ENVIRONMENT = {"ALEXNET_PROGRESS": "none", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "TZ": "UTC"}


def private_folders(folder: Path) -> dict:
    """Variables that keep a reader's data and runs out of the notebooks, and the notebooks out of them."""
    return {"ALEXNET_RUNS": str(folder / "runs"), "ALEXNET_DATA": str(folder / "data"), "ALEXNET_STORES": ""}


def chains(names) -> list[list[str]]:
    """The notebooks in groups that read nothing of each other's, each in the order to run."""
    groups: list[set] = []
    for name in in_order(names):
        linked = [group for group in groups if group & set(DEPENDENCIES.get(name, ()))]
        groups = [group for group in groups if group not in linked] + [{name}.union(*linked)]
    return [in_order(group) for group in groups]


@cache
def chain_of(name: str) -> str:
    """The first notebook of the chain that a notebook belongs to."""
    names = {name, *DEPENDENCIES}.union(*DEPENDENCIES.values())
    return next(chain[0] for chain in chains(names) if name in chain)


def normal(notebook: NotebookNode) -> NotebookNode:
    """A copy in the committed form."""
    notebook = nbformat.v4.upgrade(copy.deepcopy(notebook))
    notebook.nbformat_minor = 5
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    notebook.metadata = nbformat.from_dict({"kernelspec": kernel, "language_info": {"name": "python"}})
    notebook.cells = [c for c in notebook.cells if not ADDED_BY_PAPERMILL & set(c.metadata.get("tags", []))]
    count = 0
    for cell in notebook.cells:
        tags = cell.metadata.get("tags")
        cell.metadata = NotebookNode({"tags": tags} if tags else {})
        if cell.cell_type == "code" and "check" in (tags or []):  # what it asserts is for the test, not for the reader
            cell.metadata["jupyter"] = NotebookNode(FOLDED)
        if cell.cell_type == "code":
            count += cell.execution_count is not None
            cell.execution_count = count if cell.execution_count is not None else None
            cell.outputs = normal_outputs(cell)
    return notebook


def normal_outputs(cell: NotebookNode) -> list[NotebookNode]:
    """Streams in one piece, pictures on one line, nothing that is random or the editor's own."""
    outputs: list[NotebookNode] = []
    for output in cell.outputs:
        last = outputs[-1] if outputs else None
        if output.output_type == "stream" and last and last.get("name") == output.name:
            last.text += output.text
            continue
        if "execution_count" in output:
            output.execution_count = cell.execution_count
        if "metadata" in output:
            output.metadata = descriptions(output.metadata)
        data = output.get("data", {})
        data.pop("application/vnd.jupyter.widget-view+json", None)
        for kind in data.keys() & {"image/png", "image/jpeg"}:
            data[kind] = data[kind].replace("\n", "")
        outputs.append(output)
    return outputs


def descriptions(metadata: dict) -> NotebookNode:
    """Of an output's metadata only the texts in place of its pictures."""
    kept = {kind: {"alt": about["alt"]} for kind, about in metadata.items() if "/" in kind and about.get("alt")}
    return nbformat.from_dict(kept)


def text_of(notebook: NotebookNode) -> str:
    """The bytes that are committed, as text."""
    return nbformat.writes(normal(notebook), 4) + "\n"


def problems(notebook: NotebookNode) -> list[str]:
    """What must not be committed, in words."""
    notebook = normal(notebook)
    ids = [cell.id for cell in notebook.cells]
    found = [f"cell {i!r}: an id is words and hyphens, by hand" for i in ids if not HAND_WRITTEN_ID.fullmatch(i)]
    found += [f"cell {i!r}: {ids.count(i)} cells have this id" for i in sorted(set(ids)) if ids.count(i) > 1]
    tagged = sum("parameters" in cell.metadata.get("tags", []) for cell in notebook.cells)
    if tagged != 1:
        found.append(f"{tagged} cells are tagged 'parameters'; it must be one")
    size = sum(len(base64.b64decode(picture)) for cell in notebook.cells for picture in pictures(cell))
    if size > IMAGE_BUDGET:
        found.append(f"pictures take {size:,} bytes; the budget is {IMAGE_BUDGET:,}")
    for cell in notebook.cells:
        found += [f"cell {cell.id!r}: {problem}" for problem in cell_problems(cell)]
    return found


def pictures(cell: NotebookNode) -> list[str]:
    """The raster pictures among a cell's outputs, in base64."""
    kinds = ("image/png", "image/jpeg")
    return [o.data[kind] for o in cell.get("outputs", []) for kind in kinds if kind in o.get("data", {})]


def cell_problems(cell: NotebookNode) -> list[str]:
    """What must not be committed in this cell."""
    found = [f"tag {tag!r} is not used here" for tag in sorted(REFUSED_TAGS & set(cell.metadata.get("tags", [])))]
    if cell.cell_type != "code":
        return found
    if not cell.source.strip():
        found.append("an empty code cell")
    elif cell.execution_count is None:
        found.append("no execution count, so that nothing would be compared")
    if re.search(r"^\s*#\s*NBVAL_", cell.source, re.MULTILINE):
        found.append("a comment speaks to nbval; that is what tags are for")
    for output in cell.outputs:
        for kind in ("image/png", "image/jpeg"):
            if kind in output.get("data", {}) and kind not in output.metadata:
                found.append("a picture without an alt text; draw it with a function that is `in_style`")
        if output.output_type == "error":
            found.append(f"an error was committed: {output.ename}: {output.evalue}")
        if output.get("name") == "stderr":
            found.append(f"something on stderr, a warning or a bar: {output.text[:80]!r}")
        shown = "\n".join(str(v) for k, v in output.get("data", {}).items() if not k.startswith("image/"))
        shown += output.get("text", "")
        for name, pattern in UNREPEATABLE.items():
            if match := pattern.search(shown):
                found.append(f"{name} in an output: {shown[match.start() : match.start() + 40]!r}")
    return found


def run(paths: list[Path]) -> list[str]:
    """Executes notebooks of one folder after what they build on, rewrites those named; gives the failures."""
    names, notebooks = [path.stem for path in paths], paths[0].parent
    todo = plan(notebooks, {"parameters": {}, "notebooks": {}}, {}, names)
    failures = []
    for chain in chains(todo):
        with tempfile.TemporaryDirectory() as folder:
            variables = CHECKED_ENVIRONMENT | private_folders(Path(folder))
            for name in chain:
                path, executed = notebooks / f"{name}.ipynb", Path(folder, f"{name}.ipynb")
                with mock.patch.dict(os.environ, variables):
                    problem = run_notebook(path, executed, {})
                if problem:
                    failures.append(f"{path}: {problem}")
                elif name in names:
                    path.write_text(text_of(nbformat.read(executed, 4)), encoding="utf-8")
    return failures


def main(arguments: list[str] | None = None) -> int:
    """The command; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--check", action="store_true", help="change nothing")
    parser.add_argument("--run", action="store_true", help="execute them first")
    chosen = parser.parse_args(arguments)
    found = run([path.resolve() for path in chosen.notebooks]) if chosen.run else []
    for path in chosen.notebooks:
        old = path.read_text(encoding="utf-8")
        notebook = nbformat.reads(old, 4)
        new = text_of(notebook)
        found += [f"{path}: {problem}" for problem in problems(notebook)]
        if new != old and chosen.check:
            found.append(f"{path}: not in the committed form; python tests/baseline.py {path}")
        elif new != old:
            path.write_text(new, encoding="utf-8")
            print(f"{path}: rewritten")
    print("\n".join(found) or f"{len(chosen.notebooks)} notebooks as they should be")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
