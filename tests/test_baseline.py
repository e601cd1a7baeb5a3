"""There is one committed form of a notebook, and it hides nothing from a comparison."""

import base64
import copy
import os
import re

import nbformat
import pytest

from alexnet_lib.walkthrough import run_notebook
from tests import baseline
from tests.small_notebooks import write_notebook

FIGURE = """from alexnet_lib.figures import curves as figures
figures.curves({'line': ([1, 2], [3, 4])}, 'epoch', 'error (%)')"""


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """A notebook that Papermill has executed: streams, a value, a figure, a widget."""
    folder = tmp_path_factory.mktemp("executed")
    source = write_notebook(
        folder / "source.ipynb",
        "import sys\nprint(1, flush=True)\nprint(2, flush=True)",
        "{'b': 1}",
        (FIGURE, "nbval-ignore-output"),
        "import ipywidgets\nipywidgets.IntSlider(3)",
    )
    assert run_notebook(source, folder / "executed.ipynb", {}) is None
    return nbformat.read(folder / "executed.ipynb", 4)


def saved_by_jupyterlab(notebook):
    """The same content as JupyterLab writes it: more metadata, wrapped pictures, split streams, counts."""
    saved = copy.deepcopy(notebook)
    saved.metadata.pop("papermill", None)
    saved.metadata.language_info = {"name": "python", "version": "3.13.1", "pygments_lexer": "ipython3"}
    saved.metadata.widgets = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
    for cell in saved.cells:
        tags = cell.metadata.get("tags", [])
        cell.metadata = nbformat.from_dict({"tags": tags, "editable": True, "trusted": True})
        cell.execution_count += 40
        outputs = []
        for output in cell.outputs:
            if output.output_type == "stream":
                pieces = output.text.splitlines(keepends=True)
                outputs += [nbformat.from_dict({**output, "text": piece}) for piece in pieces]
                continue
            if "image/png" in output.data:
                raw = base64.b64decode(output.data["image/png"])
                output.data["image/png"] = base64.encodebytes(raw).decode()
                output.metadata["image/png"]["width"] = 200
            outputs.append(output)
        cell.outputs = outputs
    return saved


def test_papermill_and_jupyterlab_give_the_same_bytes(executed):
    saved = saved_by_jupyterlab(executed)
    assert nbformat.writes(saved) != nbformat.writes(executed)
    text = baseline.text_of(executed)
    assert baseline.text_of(saved) == text
    assert text.endswith("}\n") and "papermill" not in text and "widget-view" not in text


def test_the_form_keeps_outputs_and_is_its_own_form(executed):
    normal = baseline.normal(executed)
    assert [cell.execution_count for cell in normal.cells] == [1, 2, 3, 4, 5]
    assert normal.cells[1].outputs[0].text == "1\n2\n"
    assert normal.cells[2].outputs[0].data["text/plain"] == "{'b': 1}"
    assert len(baseline.pictures(normal.cells[3])) == 1 and "\n" not in baseline.pictures(normal.cells[3])[0]
    assert "IntSlider" in normal.cells[4].outputs[0].data["text/plain"]
    assert normal.cells[3].metadata == {"tags": ["nbval-ignore-output"]}
    assert baseline.text_of(nbformat.reads(baseline.text_of(executed), 4)) == baseline.text_of(executed)
    assert baseline.problems(executed) == []


def test_a_check_is_folded_and_nothing_else(executed):
    cells = [cell for cell in baseline.normal(executed).cells if cell.cell_type == "code"]
    cells[0].metadata = {"tags": [*cells[0].metadata.get("tags", []), "check"]}
    cells[1].metadata = {"jupyter": {"source_hidden": True}}
    notebook = nbformat.v4.new_notebook(cells=cells)
    kept = [cell.metadata.get("jupyter") for cell in baseline.normal(notebook).cells]
    assert kept[:2] == [baseline.FOLDED, None]


def test_what_papermill_adds_is_dropped(executed):
    with_more = baseline.normal(executed)
    for tag in ("injected-parameters", "papermill-error-cell-tag"):
        with_more.cells.insert(1, nbformat.v4.new_markdown_cell("added", metadata={"tags": [tag]}))
    assert baseline.text_of(with_more) == baseline.text_of(executed)


def printing(text):
    return lambda cell: cell.outputs.append(nbformat.v4.new_output("stream", text=text))


def showing(**data):
    about = {kind: {"alt": "a picture"} for kind in data if kind.startswith("image/")}
    return lambda cell: cell.outputs.append(nbformat.v4.new_output("display_data", data=data, metadata=about))


BIG = base64.b64encode(bytes(baseline.IMAGE_BUDGET + 1)).decode()
ERROR = nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[])
WARNING = nbformat.v4.new_output("stream", name="stderr", text="DeprecationWarning: old")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda cell: cell.update(execution_count=None), "no execution count"),
        (lambda cell: cell.update(source="  "), "an empty code cell"),
        (lambda cell: cell.outputs.append(ERROR), "an error was committed: ValueError: no"),
        (lambda cell: cell.outputs.append(WARNING), "on stderr.*DeprecationWarning"),
        (lambda cell: cell.update(id="cell-1"), "'cell-1': 2 cells have this id"),
        (lambda cell: cell.update(id="1a2b3c4d"), "by hand"),
        (lambda cell: cell.update(id="deadbeef"), "by hand"),
        (lambda cell: cell.update(id="deadbeef-0000-4000-8000-abcdefabcdef"), "by hand"),
        (lambda cell: cell.metadata.update(tags=["parameters"]), "2 cells are tagged"),
        (lambda cell: cell.metadata.update(tags=["nbval-skip"]), "tag 'nbval-skip'"),
        (lambda cell: cell.metadata.update(tags=["raises-exception"]), "tag 'raises-exception'"),
        (lambda cell: cell.update(source="# NBVAL_SKIP\n1"), "a comment speaks to nbval"),
        (showing(**{"image/png": BIG}), "pictures take 3..,... bytes; the budget is 300,000"),
        (printing("wrote /home/ann/runs/7"), "an absolute path.*/home/ann"),
        (printing(r"wrote C:\Users\ann"), "an absolute path"),
        (printing("in /tmp/"), "a temporary folder"),
        (showing(**{"text/plain": "<Net object at 0x7f0123456789>"}), "an object's address"),
    ],
)
def test_what_is_refused(executed, change, expected):
    notebook = baseline.normal(executed)
    change(notebook.cells[2])
    (problem,) = baseline.problems(notebook)
    assert re.search(expected, problem)


@pytest.mark.parametrize(
    "text",
    ["345 images/s", "<td>1</td>/<br/>", "see data/README.md", "a/b/c", "https://host/page", "1 / 2 / x"],
)
def test_what_is_no_absolute_path(executed, text):
    notebook = baseline.normal(executed)
    printing(text)(notebook.cells[2])
    assert baseline.problems(notebook) == []


def test_the_command_checks_without_writing_and_writes_otherwise(executed, tmp_path, capsys):
    path = tmp_path / "a.ipynb"
    nbformat.write(executed, path)
    before = path.read_bytes()
    assert baseline.main(["--check", str(path)]) == 1
    assert "not in the committed form" in capsys.readouterr().out
    assert path.read_bytes() == before
    assert baseline.main([str(path)]) == 0
    assert path.read_text(encoding="utf-8") == baseline.text_of(executed)
    assert baseline.main(["--check", str(path)]) == 0


def test_running_uses_private_folders_and_names_failures(tmp_path, capsys):
    tell = "import os\nprint(os.environ['ALEXNET_PROGRESS'], os.environ['ALEXNET_DATA'] != DATA)"
    data = f"DATA = {os.environ.get('ALEXNET_DATA', '')!r}"
    good = write_notebook(tmp_path / "good.ipynb", tell, parameters=data)
    bad = write_notebook(tmp_path / "bad.ipynb", "1 / 0")
    before = bad.read_text()
    assert baseline.main(["--run", str(good), str(bad)]) == 1
    said = capsys.readouterr().out
    assert "bad.ipynb: in cell 2 (cell-1): 1 / 0" in said and "ZeroDivisionError" in said
    assert nbformat.read(good, 4).cells[1].outputs[0].text == "none True\n"
    assert nbformat.read(bad, 4).cells[1].outputs == nbformat.reads(before, 4).cells[1].outputs == []


def test_chains_are_the_notebooks_that_read_from_each_other():
    names = ["00_dataset", "01_architecture", "07_train", "08_results"]
    assert sorted(baseline.chains(names)) == [["00_dataset", "07_train", "08_results"], ["01_architecture"]]
    assert [baseline.chain_of(name) for name in names] == [
        "00_dataset",
        "01_architecture",
        *["00_dataset"] * 2,
    ]


def test_the_alt_text_of_a_figure_is_kept_and_must_be_there(executed):
    """Without it a picture says nothing to those who cannot see it."""
    cell = next(cell for cell in baseline.normal(executed).cells if baseline.pictures(cell))
    assert cell.outputs[0].metadata == {"image/png": {"alt": cell.outputs[0].metadata["image/png"]["alt"]}}
    assert "Across: epoch. Up: error (%)." in cell.outputs[0].metadata["image/png"]["alt"]
    assert baseline.cell_problems(cell) == []
    cell.outputs[0].metadata = {}
    assert "a picture without an alt text" in baseline.cell_problems(cell)[0]
