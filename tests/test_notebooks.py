"""What every notebook keeps to, read from the files; `make test` runs them afterwards."""

import ast
import dataclasses
import re
import statistics

import nbformat
import papermill
import pytest
from papermill.exceptions import PapermillExecutionError

from alexnet_lib import runs
from alexnet_lib.paths import NOTEBOOKS
from alexnet_lib.runs.notebooks import OF_NO_NOTEBOOK
from alexnet_lib.walkthrough import declared_parameters
from tests.baseline import problems, text_of

PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))


def test_there_are_notebooks():
    assert PATHS, f"no notebooks found in {NOTEBOOKS}"


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def code(path) -> list:
    return [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]


def test_it_is_in_the_committed_form(path):
    text = path.read_text(encoding="utf-8")
    assert problems(nbformat.reads(text, 4)) == []
    # by lines, so that a failure shows the first one that differs
    assert text.splitlines() == text_of(nbformat.reads(text, 4)).splitlines(), f"make baseline, or {path}"


def test_its_parameters_are_those_of_its_settings(path):
    kind = getattr(runs, re.search(r"parameters\((\w+), globals", path.read_text(encoding="utf-8"))[1])
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    assert declared_parameters(path) == {n: v for n, v in defaults.items() if n not in OF_NO_NOTEBOOK}


def test_its_cells_are_short(code):
    assert statistics.median(len(cell.source.splitlines()) for cell in code) <= 8


def test_its_main_line_is_short(path):
    """45 cells and 1,500 words before *Going deeper*, folded answers apart, and no long paragraph anywhere."""
    cells = nbformat.read(path, 4).cells
    deeper = [cell.cell_type == "markdown" and "# Going deeper" in cell.source for cell in cells]
    main = cells[: deeper.index(True) if any(deeper) else None]
    shown = [
        re.sub(r"<details>.*?</details>", "", c.source, flags=re.DOTALL) for c in main if c.cell_type == "markdown"
    ]
    assert len(main) <= 45 and sum(len(text.split()) for text in shown) <= 1500
    tables = [o.get("data", {}).get("text/html", "") for c in main for o in c.get("outputs", [])]
    assert max((len(re.findall("<tr[ >]", table)) for table in tables), default=0) <= 1 + 8  # with the head
    prose = [re.sub(r"(?s)```.*?```", "", cell.source) for cell in cells if cell.cell_type == "markdown"]
    parts = [part for text in prose for part in text.split("\n\n") if not part.startswith("|")]
    items = [item for part in parts for item in re.split(r"\n(?=- |\d\. )", part)]
    assert not [item for item in items if len(item.split()) > 80]


def test_what_it_prints_is_for_readers(code):
    """No dictionary as Python writes it."""
    said = [(c.id, o.get("text") or o.get("data", {}).get("text/plain", "")) for c in code for o in c.outputs]
    assert [name for name, text in said if re.search(r"(?m)^\{['\"\d]", text)] == []


def test_most_of_its_cells_are_checked(code):
    ignored = sum("nbval-ignore-output" in cell.metadata.get("tags", []) for cell in code)
    assert ignored <= len(code) / 2


@pytest.mark.parametrize(
    ("notebook", "parameters", "message"),
    [
        ("07_train", {"dataset": "imagenet"}, "dataset = 'imagenet'; accepted are auto, embedded"),
        ("07_train", {"epochs": 0}, "epochs = 0; accepted is 'auto', or greater than or equal to 1"),
        ("01_architecture", {"image_size": 20}, "image_size = 20; accepted is greater than or equal to 64"),
        ("02_relu_vs_tanh", {"tanh_rate": -1}, "tanh_rate = -1; accepted is greater than 0"),
        ("03_lrn", {"dataset": "embedded"}, "dataset = 'embedded'; accepted is 'auto', or 'embedded32' or 'cifar10'"),
    ],
)
def test_wrong_parameters_are_refused_before_any_work(notebook, parameters, message):
    """The cell after that of the parameters refuses them."""
    cells = nbformat.read(NOTEBOOKS / f"{notebook}.ipynb", 4).cells
    first, second, *_ = (cell.source for cell in cells if cell.cell_type == "code")
    names = {"__name__": "__main__"}
    exec(first, names)
    with pytest.raises(ValueError, match=re.escape(message)):
        exec(second, names | parameters)


def test_a_misspelt_parameter_ends_a_run_of_papermill(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    source, options = NOTEBOOKS / "07_train.ipynb", {"progress_bar": False, "cwd": tmp_path}
    message = "unknown parameter 'epohcs'; did you mean 'epochs'. accepted are dataset, net, width"
    with pytest.raises(PapermillExecutionError, match=message) as error:
        papermill.execute_notebook(source, tmp_path / "out.ipynb", {"epohcs": 3}, **options)
    assert error.value.exec_count <= 3


def test_it_defines_no_class(code):
    """What a reader writes is a few plain lines; a class belongs to the library."""
    for cell in code:
        lines = [line for line in cell.source.splitlines() if not line.lstrip().startswith(("%", "!"))]
        for node in ast.walk(ast.parse("\n".join(lines))):
            assert not isinstance(node, ast.ClassDef), f"cell {cell.id!r} defines class {node.name}"


def test_it_needs_no_front_end_of_its_own(path):
    """What it shows are words, tables and pictures, which VS Code, Colab, nbclient and a page on the web show, too."""
    kinds = {"text/plain", "text/html", "text/markdown", "image/png", "image/jpeg"}
    for cell in nbformat.read(path, 4).cells:
        assert not re.search(r"^%%?(javascript|html)|Javascript\(|<script|attachment:", cell.source, re.MULTILINE)
        for output in cell.get("outputs", []):
            assert output.get("data", {}).keys() <= kinds
            assert "<script" not in output.get("data", {}).get("text/html", "")


def test_it_opens_with_where_it_stands_how_long_it_takes_and_what_it_asks(path):
    """A minute, and five for the notebook that trains for itself: the run alone took nearly four on a slow machine."""
    opening = nbformat.read(path, 4).cells[0].source
    title, where, *_ = [line for line in opening.splitlines() if line]
    assert title.startswith(f"# {path.stem[:2]} · ")
    limit = "five minutes" if path.stem == "07_train" else "a minute"
    assert re.match(
        rf"\*\*Paper:\*\* .*\. \*\*Time:\*\* within {limit} on two cores[,;.].*\*\*Library:\*\* `\w+\.py`", where
    )
    questions = [line for line in opening.splitlines() if line.startswith("- ")]
    assert len(questions) >= 3 and any("?" in question for question in questions)


def test_papermill_can_explain_its_parameters(path):
    """It reads one line at a time: what is assigned over several lines is not found."""
    assert papermill.inspect_notebook(path).keys() == declared_parameters(path).keys()


def test_no_cell_gives_a_parameter_another_value(path):
    """Who runs the settings again later would be given it; what a function or a comprehension names is its own."""
    cells = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    (given,) = [ast.parse(cell.source) for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    names = {node.id for node in ast.walk(given) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    own = (ast.FunctionDef, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)

    def named(node) -> set[str]:
        if isinstance(node, own):
            return set()
        stored = {node.id} if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else set()
        return stored.union(*map(named, ast.iter_child_nodes(node)))

    for cell in cells:
        if "parameters" not in cell.metadata.get("tags", []):
            assert not named(ast.parse(cell.source)) & names, cell.id
