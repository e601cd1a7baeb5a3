"""Runs that were begun before there was one trainer: their folders in tests/begun hold a checkpoint in their midst.

`whole.csv` is the history with which the trainer of that time would have ended.
"""

import shutil

import numpy as np
import pandas as pd
import pytest

from alexnet_lib.files import read_json
from alexnet_lib.paths import REPOSITORY
from alexnet_lib.runs.fields import check
from alexnet_lib.runs.records import Record, load_checkpoint
from alexnet_lib.training import kind_of, train
from tests.test_cifar_training import place as cifar_place  # noqa: F401

BEGUN = sorted((REPOSITORY / "tests" / "begun").iterdir())


@pytest.fixture(params=BEGUN, ids=lambda folder: folder.name[:16])
def begun(request):
    """A copy of such a run where it belongs, and its settings without its name."""
    place = request.getfixturevalue("cifar_place" if request.param.name.startswith("embedded32") else "place")
    config = read_json(request.param / "config.json")
    folder = place / "runs" / config["experiment"] / config["name"]
    shutil.copytree(request.param, folder)
    return folder, check(kind_of(config), config | {"name": "auto"})


def alike(history, expected):
    """On another processor than the one that such a run was begun on, the last digits may differ."""
    assert list(history) == list(expected) and list(history["split"]) == list(expected["split"])
    numbers = [table.drop(columns="split") for table in (history, expected)]
    np.testing.assert_allclose(*numbers, rtol=1e-3, atol=1e-3)


def test_it_is_found_under_the_name_that_it_has_always_had(begun):
    folder, settings = begun
    assert train(settings).folder == folder


def test_it_goes_on_from_its_checkpoint_to_the_end_that_it_would_have_had(begun):
    folder, settings = begun
    expected, before = pd.read_csv(folder / "whole.csv"), (folder / "history.csv").read_text()
    known = load_checkpoint(folder)["net"]
    record = train(settings)
    assert (folder / "history.csv").read_text().startswith(before)
    assert len(record.timing) == record.summary["epochs"]
    np.testing.assert_allclose(
        record.history.drop(columns="split"), expected.drop(columns="split"), rtol=1e-3, atol=1e-3
    )
    assert any(not np.array_equal(known[name], new) for name, new in load_checkpoint(folder)["net"].items())


def test_it_is_the_same_run_when_it_is_begun_anew(begun):
    folder, settings = begun
    expected = pd.read_csv(folder / "whole.csv")
    shutil.rmtree(folder)
    alike(Record.open(train(settings).folder).history, expected)
