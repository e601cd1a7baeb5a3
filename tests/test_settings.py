"""Parameters: names, types and ranges are checked before any work, and every problem is named."""

import math
import re

import numpy as np
import pytest
from PIL import Image

from alexnet_lib import open_store
from alexnet_lib.data.preparation import write_store
from alexnet_lib.runs.cifar_settings import CifarSettings
from alexnet_lib.runs.fields import check
from alexnet_lib.runs.notebooks import (
    OF_NO_NOTEBOOK,
    ArchitectureSettings,
    AugmentationSettings,
    PoolingSettings,
    QualitativeSettings,
    ReluSettings,
    parameters,
)
from alexnet_lib.runs.settings import TrainSettings, find_device, resolve, share_out


def test_defaults_are_accepted():
    assert check(TrainSettings, {}) == TrainSettings()


@pytest.fixture
def store(tmp_path):
    images = np.zeros((2, 73, 73, 3), np.uint8)
    write_store(tmp_path / "store", images, np.arange(2), ["a", "b"], {"source": "test"})
    return open_store(tmp_path / "store")


@pytest.mark.parametrize("kind", [TrainSettings, CifarSettings])
@pytest.mark.parametrize("folder", ["a" * 190, "é" * 120, "a" * 100 + "猫" * 50, "ta\tb", "line\nbreak", "\x1b[2J"])
def test_a_run_has_a_name_whatever_the_folder_of_its_pictures_is_called(tmp_path, store, kind, folder):
    """It was refused when everything was prepared."""
    names = []
    for place in (tmp_path / folder, tmp_path / "other" / folder):
        place.mkdir(parents=True)
        names.append(resolve(kind(dataset=str(place), device="cpu"), store).name)
        assert check(kind, {"name": names[-1]}).name == names[-1]
    first, second = names
    assert first[:-8] == second[:-8] and first != second and first[:2] in (folder[:2], "\\x")


@pytest.mark.parametrize("folder", ["pictures", "é 猫 [x] {y} #", "-p", "a" * 150])
def test_an_ordinary_name_is_part_of_the_runs_as_it_is(tmp_path, store, folder):
    """Runs that were made are found by it."""
    (tmp_path / folder).mkdir()
    run = resolve(TrainSettings(dataset=str(tmp_path / folder), epochs=2, seed=3, device="cpu"), store)
    assert re.fullmatch(re.escape(f"{folder}-paper-small-2epochs-seed3-") + "[0-9a-f]{8}", run.name)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epohcs": 3}, "unknown parameter 'epohcs'; did you mean 'epochs'? accepted are dataset, net, width"),
        ({"xyz": 3}, "unknown parameter 'xyz'; accepted are dataset, net, width"),
        ({"epochs": 0}, "epochs = 0; accepted is 'auto', or greater than or equal to 1"),
        ({"epochs": "90"}, "epochs = '90'"),
        ({"epochs": 1.5}, "epochs = 1.5"),
        ({"epochs": True}, "epochs = True"),
        ({"net": "alexnet"}, "net = 'alexnet'; accepted is 'paper'"),
        ({"recipe": "adam"}, "recipe = 'adam'; accepted is 'auto', or 'paper'"),
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


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (TrainSettings, {"learning_rate": math.inf}, "learning_rate = inf; accepted is 'auto', or a finite number"),
        (TrainSettings, {"learning_rate": math.nan}, "learning_rate = nan; accepted is 'auto', or a finite number"),
        (TrainSettings, {"learning_rate": 1e300}, "learning_rate = 1e+300; accepted is 'auto', or at most 1e36"),
        (TrainSettings, {"learning_rate": 1e-300}, "'auto', or at least 1e-36, as less is zero in float32"),
        (TrainSettings, {"width": math.inf}, "width = inf; accepted is 'auto', or a finite number"),
        (TrainSettings, {"width": 1e300}, "width = 1e+300; accepted is 'auto', or less than or equal to 16"),
        (TrainSettings, {"width": 10**400}, "accepted is 'auto', or "),
        (TrainSettings, {"width": 1e9}, "less than or equal to 16"),
        (TrainSettings, {"dropout": math.nan}, "dropout = nan"),
        (TrainSettings, {"devices": 10**30}, "less than or equal to 4096"),
        (TrainSettings, {"columns": True}, "columns = True"),
        (TrainSettings, {"epochs": 10**30}, "less than or equal to 10000"),
        (TrainSettings, {"batch_size": 10**30}, "less than or equal to 1000000"),
        (TrainSettings, {"seed": 10**30}, "less than 4294967296"),
        (TrainSettings, {"dataset": ""}, "dataset = ''; accepted is a data set's name or the path of a folder"),
        (TrainSettings, {"dataset": " "}, "dataset = ' '"),
        (
            TrainSettings,
            {"experiment": "../x"},
            "experiment = '../x'; accepted is the name of one folder, without a path",
        ),
        (TrainSettings, {"name": "/tmp/x"}, "name = '/tmp/x'; accepted is the name of one folder"),
        (TrainSettings, {"name": ".."}, "name = '..'"),
        (TrainSettings, {"name": "."}, "name = '.'"),
        (TrainSettings, {"name": ""}, "name = ''"),
        (TrainSettings, {"name": "a\0"}, "name = 'a\\x00'"),
        (TrainSettings, {"name": "a\x1b[2Jb"}, "name = 'a\\x1b[2Jb'; accepted is the name of one folder, without con"),
        (TrainSettings, {"experiment": "a\nb"}, "accepted is the name of one folder, without control characters"),
        (CifarSettings, {"name": "a\x9bb"}, "name = 'a\\x9bb'; accepted is the name of one folder, without control"),
        (TrainSettings, {"name": "é" * 101}, "without a path, of at most 200 bytes"),
        (
            QualitativeSettings,
            {"run": "../../elsewhere"},
            "run = '../../elsewhere'; accepted is the name of one folder",
        ),
        (CifarSettings, {"stages": [[10**30, 1.0]]}, "less than or equal to 10000"),
        (CifarSettings, {"stages": [[1, math.inf]]}, "a finite number"),
        (CifarSettings, {"stages": [[10_000, 1.0]] * 1000}, "at most 10000 epochs in all stages together, not 10000"),
        (CifarSettings, {"learning_rate": math.inf}, "learning_rate = inf; accepted is a finite number"),
        (CifarSettings, {"weight_decay": -1.0}, "weight_decay = -1.0; accepted is greater than or equal to 0"),
        (CifarSettings, {"weight_decay": math.inf}, "weight_decay = inf; accepted is a finite number"),
        (CifarSettings, {"bias_rate": math.inf}, "bias_rate = inf"),
        (CifarSettings, {"target_error": math.nan}, "target_error = nan"),
        (CifarSettings, {"give_up_epochs": 10**30}, "give_up_epochs = 1"),
        (CifarSettings, {"experiment": "../x"}, "experiment = '../x'"),
        (CifarSettings, {"dataset": ""}, "dataset = ''"),
        (ReluSettings, {"relu_rate": math.inf}, "relu_rate = inf"),
        (ReluSettings, {"tanh_rate": math.nan}, "tanh_rate = nan"),
        (AugmentationSettings, {"steps": 10**30}, "less than or equal to 100"),
        (AugmentationSettings, {"noise_std": math.inf}, "noise_std = inf"),
        (AugmentationSettings, {"noise_std": 1e-300}, "greater than or equal to 0.0001"),
        (AugmentationSettings, {"epochs": 10**30}, "less than or equal to 10000"),
        (ArchitectureSettings, {"image_size": 20}, "image_size = 20; accepted is greater than or equal to 64"),
        (ArchitectureSettings, {"image_size": 10**30}, "less than or equal to 1024"),
        (ArchitectureSettings, {"width": 1e9}, "less than or equal to 4"),
        (ArchitectureSettings, {"num_classes": 10**30}, "less than or equal to 100000"),
    ],
)
def test_absurd_values_are_refused_with_what_is_accepted(kind, values, message):
    with pytest.raises(ValueError) as error:
        check(kind, values)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        ({"name": 2012}, "a word, not a number: after Papermill's -p 2012 is a number, after -r a word"),
        ({"dataset": 2012}, "after -r a word"),
        ({"learning_rate": "1e-3"}, "a number, not a word: 1.0e-3 in YAML"),
        ({"learning_rate": "1.5E-3"}, "a number, not a word: 1.5E-3 in YAML, without quotes"),
        ({"epochs": "90"}, "a number, not a word: 90 without quotes"),
        ({"epochs": "1e3"}, "accepted is 'auto', or a valid integer (a number, not a word: 1000 without quotes)"),
        ({"epochs": "null"}, "epochs = 'null'; accepted is 'auto', or a valid integer (left out, a parameter has its"),
        ({"seed": None}, "seed = None; accepted is a valid integer (left out, a parameter has its default)"),
        ({"without": "None"}, "without = 'None'; accepted is None (not the word 'None': None in Python"),
        (
            {"normalization": "null"},
            "accepted is 'own', 'lrn' or 'batch', or None (not the word 'null': None in Python",
        ),
    ],
)
def test_what_papermill_and_yaml_make_of_a_value_is_explained(values, hint):
    with pytest.raises(ValueError) as error:
        check(TrainSettings, values)
    assert hint in str(error.value)


def test_a_picture_of_ones_own_is_looked_at_before_any_work(tmp_path):
    assert check(QualitativeSettings, {"picture": None}).picture is None
    for name, content, reason in (("none.jpg", None, "No such file"), ("words.jpg", b"words", "not a picture of a k")):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}'; accepted is the path of a picture .*{reason}.*, or None"):
            check(QualitativeSettings, {"picture": str(tmp_path / name)})
    with pytest.raises(ValueError, match="the path of a picture"):
        check(QualitativeSettings, {"picture": str(tmp_path)})
    Image.new("RGB", (9, 8)).save(tmp_path / "mine.png")
    assert check(QualitativeSettings, {"picture": str(tmp_path / "mine.png")}).picture.endswith("mine.png")


def test_whole_numbers_of_devices_end_where_the_cores_do(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(ValueError, match="devices = 4001; on this machine there are cores for"):
        share_out(TrainSettings(device="cpu", devices=4001, columns=1))
    monkeypatch.setenv("WORLD_SIZE", "64")  # torchrun's, of many machines
    assert share_out(TrainSettings(device="cpu", devices=64, columns=1)).devices == 64


CELL = "dataset = 'embedded'\nepochs = 3\nseed = 1\ndevice = 'cpu'"
CALL = "settings = parameters(PoolingSettings, globals())"


def asked(*cells, kind=PoolingSettings, **leaked):
    """The settings that the last of these cells gets, after the others ran in a kernel."""
    namespace = {"In": ["", *cells]}
    for cell in cells[:-1]:
        if cell != CALL:
            exec(cell, namespace)
    return parameters(kind, namespace | leaked)


@pytest.mark.parametrize(
    ("cells", "epochs", "seed"),
    [
        ([CELL, CALL], 3, 1),
        ([CELL, "# Parameters\nepochs = 90", CALL], 90, 1),
        # run all twice, and edited in between
        ([CELL, CALL, "for epochs in (7, 8):\n    seed = 9", CELL, CALL], 3, 1),
        ([CELL, CALL, "for epochs in (7, 8):\n    seed = 9", CALL], 3, 1),
        ([CELL, CALL, "loss = 4\nnet = 5", CELL.replace("3", "4"), CALL], 4, 1),
        ([CELL, "# Parameters\nepochs = 90", CALL, CELL, CALL], 3, 1),
        ([CELL, "# Parameters\nepochs = 90", CALL, CELL, "# Parameters\nepochs = 91", CALL], 91, 1),
        ([CALL, CELL, CALL], 3, 1),
        # most of them injected: the others keep what the parameters cell says
        ([CELL, "# Parameters\ndataset = 'x'\nepochs = 4\ndevice = 'cpu'", CALL], 4, 1),
        # readers' own cells
        (["my_note = 3", CELL, "my_note = 4", CALL, "other = 5", CALL], 3, 1),
        (["seed = 5", CELL, CALL], 3, 1),
        ([CELL, "seed = 5", CALL], 3, 1),
        ([CELL, CALL, "epochs = 5\nprint(epochs)", CALL], 3, 1),
        ([CELL, CALL, "epochs, seed = 5, 6", CALL], 3, 1),
        # expressions, and names that the reader defined
        ([CELL.replace("3", "2 * 45"), CALL], 90, 1),
        (["base = 5", CELL.replace("3", "2 * base"), "epochs = 77", CALL], 10, 1),
        ([CELL + "\nepochs = seed + 1", CALL], 2, 1),
        (["epochs: int = 3\nseed: int = 1\ndevice = 'cpu'", CALL], 3, 1),
        # split by the reader, before and after a first run, one part edited, in either order
        (["dataset = 'embedded'\nepochs = 3", "seed = 1\ndevice = 'cpu'", CALL], 3, 1),
        ([CELL, CALL, "dataset = 'x'\nepochs = 4\ndevice = 'cpu'", "seed = 2", CALL], 4, 2),
        ([CELL, CALL, "seed = 2", "dataset = 'x'\nepochs = 4\ndevice = 'cpu'", CALL], 4, 2),
        (["dataset = 'x'\nepochs = 4\ndevice = 'cpu'", "seed = 2", CALL, "seed = 3", CALL], 4, 3),
        # everything in one cell
        ([CELL + "\nimport json\n" + CALL], 3, 1),
        # a line taken out: its default
        ([CELL, CALL, "dataset = 'x'\nseed = 1\ndevice = 'cpu'", CALL], PoolingSettings.epochs, 1),
    ],
)
def test_settings_come_from_the_parameters_cell_as_it_last_ran(cells, epochs, seed):
    settings = asked(*cells, experiment="leaked", epochs=111)
    assert (settings.epochs, settings.seed) == (epochs, seed)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([CELL, "# Parameters\nepohcs = 90", CALL], "unknown parameter 'epohcs'; did you mean 'epochs'?"),
        ([CELL.replace("epochs", "epohcs"), CALL], "unknown parameter 'epohcs'; did you mean 'epochs'?"),
        (
            [CELL, CALL, "loss = 4", CELL.replace("seed", "sead"), CALL],
            "unknown parameter 'sead'; did you mean 'seed'?",
        ),
        ([CELL, CALL, "# Parameters\nepohcs = 90", CALL], "unknown parameter 'epohcs'"),
        ([CELL.replace("3", "2 * bse"), CALL], "epochs = 2 * bse: name 'bse' is not defined"),
        ([CELL + "\nif seed:\n    epochs = 4", CALL], "epochs: accepted is a plain assignment, `name = value`"),
        ([CELL + "\nepochs += 4", CALL], "epochs: accepted is a plain assignment"),
        ([CELL.replace("3", "0"), CALL], "epochs = 0"),
    ],
)
def test_what_a_parameters_cell_must_not_say_is_an_error(cells, message):
    namespace = {"In": ["", *cells]}
    with pytest.raises(ValueError) as error:
        parameters(PoolingSettings, namespace)
    assert message in str(error.value)


CELL_07 = "\n".join(
    f"{n} = {getattr(TrainSettings, n)!r}" for n in TrainSettings.__annotations__ if n not in OF_NO_NOTEBOOK
)


@pytest.mark.parametrize(
    ("cells", "name", "augmentation"),
    [
        ([CELL_07, "for name in ('run 145 in thirty',):\n    pass", "augmentation = 'colour'", CALL], "auto", "all"),
        (["name = 'mine'", CELL_07, "experiment = 'mine'", CALL], "auto", "all"),
        ([CELL_07 + "\nname = f'run {seed}'\naugmentation = 'crops'", CALL], "run 0", "crops"),
        ([CELL_07, "# Parameters\nname = 'mine'", CALL], "mine", "all"),
    ],
)
def test_the_run_of_notebook_07_is_named_where_its_settings_are(cells, name, augmentation):
    settings = asked(*cells, kind=TrainSettings, experiment="leaked", name="leaked")
    assert (settings.name, settings.augmentation, settings.experiment) == (name, augmentation, "train")


def test_a_script_has_no_history():
    assert parameters(PoolingSettings, {"epochs": 7, "other": 1}).epochs == 7


def test_devices():
    assert find_device("cpu") == "cpu"
    with pytest.raises(ValueError, match="device = 'tpu'; on this machine are auto, "):
        find_device("tpu")
