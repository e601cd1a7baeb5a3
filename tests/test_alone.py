"""Cheap notebooks by themselves, as `tests/alone.py` runs all of them."""

import pytest

from alexnet_lib.paths import NOTEBOOKS
from tests import alone
from tests.small_notebooks import write_notebook


@pytest.mark.parametrize(
    "parameters", [{"width": 0.05, "num_classes": 1, "image_size": 64}, {"net": "owt2014", "width": 0.1}]
)
def test_the_architecture_notebook_shows_any_net(parameters):
    assert alone.failures(NOTEBOOKS / "01_architecture.ipynb", parameters) == []


def test_every_failing_cell_is_told(tmp_path, monkeypatch, capsys):
    write_notebook(
        tmp_path / "a.ipynb",
        "assert epochs > 1",
        "import os\nassert epochs and not os.path.exists(os.environ['ALEXNET_RUNS'])",
        parameters="epochs = 3",
    )
    monkeypatch.setattr(alone, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(alone, "DONE", tmp_path / "build" / "alone.json")
    assert alone.main(["a", "--only", "least"]) == 1
    shown = capsys.readouterr().out
    assert "| a | epochs = 1 |" in shown and "cell-1: AssertionError" in shown and "cell-2" not in shown
