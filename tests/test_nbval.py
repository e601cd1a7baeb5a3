"""The comparison with the committed outputs fails when it should, and only then."""

import base64
import io
import os
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import pytest
from PIL import Image

from alexnet_lib.paths import NOTEBOOKS, REPOSITORY
from tests.baseline import run, text_of
from tests.small_notebooks import write_notebook

LINE = """import matplotlib.pyplot as plt
figure, axes = plt.subplots(figsize=(3, 2))
axes.plot([0, 1], [0, 1])
axes.set_title("digits 1234");"""
OTHER_LINE, OTHER_DIGIT = LINE.replace("[0, 1])", "[1, 0])"), LINE.replace("1234", "1235")
# a thread of the kernel reads what a subprocess prints, and the end of a cell does not wait for it
SUBPROCESS = """import subprocess, sys, time
_ = subprocess.run([sys.executable, '-c', 'print(6 * 7)'])
time.sleep(1)"""
ENVIRONMENT = """from os import environ, name as system
from ipykernel.connect import get_connection_info
assert get_connection_info(unpack=True)["transport"] == ("tcp" if system == "nt" else "ipc")
names = "ALEXNET_PROGRESS", "OMP_NUM_THREADS", "MALLOC_MMAP_MAX_"
assert [environ.get(name) for name in names] == ["none", "1", "0"]
assert environ["ALEXNET_DATA"] == environ["ALEXNET_RUNS"].removesuffix("runs") + "data" != "data"
"""
IGNORED = (LINE, "nbval-ignore-output")
CELLS = {
    "number": "print(6 * 7)",
    "figure": LINE,
    "digit": LINE,
    "pixel": LINE,
    "missing figure": LINE,
    "more figures": LINE,
    "no count": "y = 1",
    "ignored figure": IGNORED,
    "semicolon": "1 + 1;",
    "subprocess": SUBPROCESS,
    "environment": ENVIRONMENT,
    "other line": (OTHER_LINE, "nbval-ignore-output"),
    "other digit": (OTHER_DIGIT, "nbval-ignore-output"),
    "death": "y = 2",
    "after death": "y = 3",
}
SLOW_TO_DIE = 120  # seconds; nbval alone waits for the timeout of the cell, here 300


def change(cells) -> None:
    """What somebody might do to the committed outputs, and a kernel that dies near the end."""
    cells["number"].outputs[0].text = "43\n"
    cells["figure"].outputs = cells["other line"].outputs
    cells["digit"].outputs = cells["other digit"].outputs
    cells["ignored figure"].outputs = cells["other line"].outputs
    second = nbformat.v4.new_output("display_data", {"image/png": cells["figure"].outputs[0].data["image/png"]})
    cells["missing figure"].outputs.append(second)
    cells["more figures"].outputs = []
    cells["no count"].execution_count = None
    cells["death"].source = "import os\nos._exit(1)"
    picture = cells["pixel"].outputs[0].data
    picture["image/png"] = with_another_pixel(picture["image/png"])


def with_another_pixel(png: str) -> str:
    """The picture with one pixel inverted, in base64."""
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    picture.putpixel((60, 60), tuple(255 - level for level in picture.getpixel((60, 60))))
    picture.save(written := io.BytesIO(), "png")
    return base64.b64encode(written.getvalue()).decode()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """One run of nbval over an executed notebook and a changed copy.

    Gives {(notebook, cell): why it failed, or ""} and the seconds taken.
    """
    folder = tmp_path_factory.mktemp("nbval")
    source = write_notebook(folder / "untouched.ipynb", *CELLS.values())
    assert run([source]) == []
    notebook = nbformat.read(source, 4)
    change(dict(zip(CELLS, notebook.cells[1:], strict=True)))
    (folder / "changed.ipynb").write_text(text_of(notebook))
    said, seconds = nbval(folder)
    assert len(said) == 2 * (len(CELLS) + 1)
    return said, seconds


def nbval(folder: Path) -> tuple[dict, float]:
    """Run nbval over a folder: {(notebook, cell): why it failed, or ""}, and the seconds taken."""
    command = [sys.executable, "-m", "pytest", "-p", "conftest", f"--rootdir={folder}", "-c", os.devnull]
    command += ["--nbval", "--nbval-current-env", "--nbval-cell-timeout=300", "--color=no"]
    command += ["-pno:xdist", "-pno:cacheprovider", "--junitxml=report.xml", "."]
    variables = {**os.environ, "PYTHONPATH": str(REPOSITORY), "MPLBACKEND": "Agg"}
    began = time.monotonic()
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)
    seconds = time.monotonic() - began
    said = {}
    assert (folder / "report.xml").is_file(), done.stdout + done.stderr
    for case in ElementTree.parse(folder / "report.xml").iter("testcase"):
        # cell 0 is the parameters cell
        said[Path(case.get("classname")).stem, int(case.get("name").split()[1]) - 1] = "".join(
            part.text for part in case
        )
    return said, seconds


@pytest.mark.parametrize("name", CELLS)
def test_an_untouched_notebook_passes(report, name):
    """Also where nbval alone fails: a closing `;`, what a subprocess prints, MPLBACKEND from outside."""
    said, _ = report
    assert said["untouched", list(CELLS).index(name)] == ""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("number", "- 42\n  + 43"),
        ("figure", "figure 1 differs"),
        ("digit", "figure 1 differs"),
        ("missing figure", "2 figures are committed, 1 were drawn"),
        ("more figures", "Unexpected output fields"),
        ("no count", "committed without an execution count"),
        ("pixel", ""),
        ("ignored figure", ""),
    ],
)
def test_a_changed_notebook_fails_where_it_was_changed(report, name, expected):
    said, _ = report
    found = said["changed", list(CELLS).index(name)]
    assert expected in found if expected else not found


def test_a_dead_kernel_is_named_at_once(report):
    said, seconds = report
    assert "the kernel died in this cell" in said["changed", list(CELLS).index("death")]
    assert "Kernel dead" in said["changed", list(CELLS).index("after death")]
    assert seconds < SLOW_TO_DIE


def test_one_changed_digit_of_a_real_notebook_is_found(tmp_path):
    notebook = nbformat.read(NOTEBOOKS / "01_architecture.ipynb", 4)
    last = [cell.id for cell in notebook.cells].index("slips-check")
    notebook.cells = [cell for cell in notebook.cells[: last + 1] if cell.cell_type == "code"]
    changed = [cell.id for cell in notebook.cells].index("printed-table")
    table = notebook.cells[changed].outputs[0].data
    assert "253,440" in table["text/html"]
    table["text/html"] = table["text/html"].replace("253,440", "253,441")
    (tmp_path / "copy.ipynb").write_text(text_of(notebook))
    said, _ = nbval(tmp_path)
    assert [cell for (_, cell), why in said.items() if why] == [changed - 1]  # cell 0 is the parameters cell
    assert "253,441" in said["copy", changed - 1]
