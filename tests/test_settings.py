"""Parameters: names, types and ranges are checked before any work, and every problem is named."""

import pytest

from alexnet_lib.settings import TrainSettings, assigned_names, check, find_device, parameters


def test_defaults_are_accepted():
    assert check(TrainSettings, {}) == TrainSettings()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epohcs": 3}, "unknown parameter 'epohcs'; accepted are dataset, net, width"),
        ({"epochs": 0}, "epochs = 0; accepted is 'auto', or greater than or equal to 1"),
        ({"epochs": "90"}, "epochs = '90'"),
        ({"epochs": 1.5}, "epochs = 1.5"),
        ({"epochs": True}, "epochs = True"),
        ({"net": "alexnet"}, "net = 'alexnet'; accepted is 'paper'"),
        ({"recipe": "adam"}, "accepted is 'auto', or 'paper', 'code2012', 'small', 'stepped' or 'googlenet'"),
        ({"precision": "fp16"}, "precision = 'fp16'; accepted is 'auto', or 'fp32' or 'bf16'"),
        ({"dropout": 1.0}, "dropout = 1.0; accepted is less than 1"),
        ({"learning_rate": -1.0}, "learning_rate = -1.0"),
        ({"seed": -1}, "seed = -1"),
    ],
)
def test_every_problem_is_named(values, message):
    with pytest.raises(ValueError) as error:
        check(TrainSettings, values)
    assert message in str(error.value)


def test_whole_numbers_are_rates_too():
    assert check(TrainSettings, {"width": 1, "learning_rate": 1}).width == 1.0


def test_assigned_names():
    assert assigned_names("a = 1\nb: int = 2\nc = d = 'x'\nif True:\n    e = 1") == ["a", "b", "c", "d"]
    assert assigned_names("%matplotlib inline") == []


def notebook(*cells):
    """What `globals()` holds in a notebook after these cells, the last of which asks for its parameters."""
    namespace = {"In": ["", *cells]}
    for cell in cells[:-1]:
        exec(cell, namespace)
    return namespace


def test_notebook_parameters_with_injected_values():
    settings = parameters(TrainSettings, notebook("epochs = 3\nseed = 1", "# Parameters\nepochs = 90", "ask()"))
    assert (settings.epochs, settings.seed) == (90, 1)


def test_a_misspelt_injected_name_is_an_error():
    with pytest.raises(ValueError, match="unknown parameter 'epohcs'"):
        parameters(TrainSettings, notebook("epochs = 3", "# Parameters\nepohcs = 90", "ask()"))


def test_names_of_later_cells_do_not_matter_when_a_cell_runs_again():
    namespace = notebook("epochs = 3", "ask = 1", "loss = 4", "ask = 1")
    assert parameters(TrainSettings, namespace).epochs == 3


def test_devices():
    assert find_device("cpu") == "cpu"
    with pytest.raises(ValueError, match="device = 'tpu'; on this machine are auto, "):
        find_device("tpu")
