"""What README says of the project is so."""

import re
from pathlib import Path

import numpy as np
import pytest

import alexnet_lib
from alexnet_lib.dataset import STORE_SIZES
from alexnet_lib.paths import REPOSITORY

README = (REPOSITORY / "README.md").read_text()


def rows_after(heading):
    """The cells of the first table below a heading."""
    lines = README.split(heading)[1].splitlines()
    table = [line for line in lines if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def test_links_lead_somewhere():
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    assert targets and [t for t in targets if not (REPOSITORY / t).exists()] == []


def test_every_notebook_is_in_the_table():
    named = set(re.findall(r"\[(\d\d_\w+)\]", README))
    assert named == {path.stem for path in (REPOSITORY / "notebooks").glob("*.ipynb")}


def test_every_module_is_named():
    modules = {path.stem for path in Path(alexnet_lib.__file__).parent.glob("*.py")} - {"__init__"}
    small = {"paths", "progress", "notebook", "baselines", "embedded_shapes"}
    assert modules - small <= set(re.findall(r"(\w+)\.py", README))


def test_names_of_the_example_are_importable():
    names = re.search(r"from alexnet_lib import (.+)", README)[1].split(", ")
    assert all(getattr(alexnet_lib, name) for name in names)
    with pytest.raises(AttributeError, match="no attribute 'AlexNet'"):
        _ = alexnet_lib.AlexNet


@pytest.mark.parametrize(
    ("row", "images", "size", "unit"),
    [
        ("built-in", 2016 + 600, STORE_SIZES["embedded"], "MB"),
        ("CIFAR-10", 60_000, STORE_SIZES["cifar10"], "GB"),
        ("ten classes", 9469 + 3925, 256, "GB"),
        ("ILSVRC", 1_281_167 + 50_000, 256, "GB"),
    ],
)
def test_sizes_on_disk_are_those_of_the_arrays(row, images, size, unit):
    disk = next(cells[2] for cells in rows_after("## What each scale needs") if cells[0].startswith(row))
    stated = float(re.search(rf"([\d.]+) {unit} prepared", disk)[1])
    exact = images * size * size * 3 / {"MB": 1e6, "GB": 1e9}[unit]
    assert np.isclose(stated, exact, rtol=0.1)
