"""Run records: atomic, readable, and the committed ones repeatable."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet_lib.files import write_file, write_json
from alexnet_lib.paths import REFERENCE
from alexnet_lib.runs.fields import check
from alexnet_lib.runs.records import (
    DamagedCheckpoint,
    Record,
    differences,
    keep,
    load_checkpoint,
    reference,
    save_checkpoint,
    write_table,
)
from alexnet_lib.training import kind_of

PROGRESS = json.dumps({"epoch": 1})
KEPT = sorted(path.parent.relative_to(REFERENCE).as_posix() for path in REFERENCE.rglob("config.json"))


CHOSEN = {"dataset": "embedded", "net": "paper", "image_size": 8, "seed": 0, "precision": "fp32", "epochs": 1}


@pytest.fixture
def finished(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    write_json(folder / "config.json", CHOSEN)
    about = {"metrics": {}, "epochs": 1, "classes": 3, "dataset": {}, "images": {"val": 3}, "parameters": 1}
    write_json(folder / "summary.json", about | {"versions": {"torch": "2.9.0"}, "commit": None})
    rows = [{"epoch": 1, "split": split, "loss": 0.1 + 0.2, "top1": 0.5} for split in ("train", "val")]
    write_table(folder / "history.csv", rows)
    write_table(folder / "timing.csv", [{"epoch": 1, "seconds": 2.0}])
    return folder


def test_numbers_come_back_exactly(finished):
    assert Record.open(finished).history["loss"][0] == 0.1 + 0.2


MISSING = object()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("versions", MISSING, "versions is missing"),
        ("versions", None, "versions is None"),
        ("versions", {}, "versions.torch is missing"),
        ("versions", {"torch": None}, "versions.torch is None"),
        ("commit", MISSING, "commit is missing"),
        ("commit", 5, "commit is 5"),
        ("warnings", 5, "warnings is 5"),
        ("warnings", None, "warnings is None"),
        ("warnings", [5], "warnings.0 is 5"),
        ("images", MISSING, "images is missing"),
        ("images", {"val": "many"}, "images.val is 'many'"),
        ("parameters", MISSING, "parameters is missing"),
        ("parameters", 0.5, "parameters is 0.5"),
    ],
)
def test_a_summary_without_what_is_told_of_a_run_is_named(finished, name, value, said):
    """The card of an exported net and one who reads a finished run again tell of them."""
    about = json.loads((finished / "summary.json").read_text())
    about.pop(name, None)
    write_json(finished / "summary.json", about if value is MISSING else about | {name: value})
    with pytest.raises(ValueError, match=f"summary.json: {said}; accepted: .*Where the checkpoint is whole, remove"):
        Record.open(finished)


@pytest.mark.parametrize("name", ["dataset", "net", "image_size", "seed", "precision"])
def test_a_configuration_without_what_every_run_has_is_named(finished, name):
    write_json(finished / "config.json", {field: value for field, value in CHOSEN.items() if field != name})
    with pytest.raises(ValueError, match=f"config.json: {name} is missing; accepted: a value.*Where the checkpoint"):
        Record.open(finished)


def test_an_unfinished_run_is_not_a_record(finished):
    (finished / "summary.json").unlink()
    with pytest.raises(FileNotFoundError, match="no finished run in .*run"):
        Record.open(finished)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_file(path, b"old")
    with pytest.raises(TypeError):
        write_file(path, "not bytes")
    assert path.read_bytes() == b"old"


def test_a_kept_run_says_how_to_repeat_it(finished, tmp_path):
    kept = keep(finished, "name", tmp_path / "reference")
    assert kept.summary["command"] == "python -m alexnet_lib.training results/reference/name/config.json"
    assert not (kept.folder / "checkpoint.pt").exists()


@pytest.mark.parametrize("name", ["../../../x", "a/b", "..", "."])
def test_a_run_is_kept_nowhere_else(tmp_path, name):
    with pytest.raises(ValueError, match="accepted is the name of one folder"):
        keep(tmp_path, name, tmp_path / "reference")


def test_the_first_layer_is_kept_when_asked_for(finished, tmp_path):
    weights = torch.arange(6.0).reshape(1, 6) / 8
    save_checkpoint(finished, {"net": {"conv1.weight": weights, "fc8.weight": weights}, "progress": PROGRESS})
    folder = keep(finished, "name", tmp_path / "reference", kernels=True).folder
    assert np.array_equal(np.load(folder / "conv1.npy"), weights.half().numpy())
    assert len(list(folder.iterdir())) == 5


def test_a_kept_run_of_other_settings_is_not_overwritten(finished, tmp_path):
    before = keep(finished, "name", tmp_path / "reference").folder / "config.json"
    write_json(finished / "config.json", CHOSEN | {"epochs": 2, "device": "mps"})
    with pytest.raises(ValueError, match="name holds another run .*: epochs = 1 there, and 2 asked for"):
        keep(finished, "name", tmp_path / "reference")
    assert json.loads(before.read_text()) == CHOSEN


@pytest.mark.parametrize(("field", "other"), [("augmentation", "none"), ("speed", "fast"), ("geometry", "ceil")])
def test_a_kept_run_from_before_there_was_a_choice_is_not_overwritten_by_another_choice(
    finished, tmp_path, field, other
):
    before = keep(finished, "name", tmp_path / "reference").folder / "config.json"
    written = before.read_bytes()
    write_json(finished / "config.json", CHOSEN | {field: other})
    with pytest.raises(ValueError, match=f"{field} = '.*' there, and '{other}' asked for"):
        keep(finished, "name", tmp_path / "reference")
    assert before.read_bytes() == written


def test_a_kept_run_of_other_data_is_not_overwritten(finished, tmp_path):
    summary, kept = json.loads((finished / "summary.json").read_text()), tmp_path / "reference" / "name"
    write_json(finished / "summary.json", summary | {"dataset": {"train": "first"}, "digests": {}})
    before = keep(finished, "name", tmp_path / "reference").summary
    write_json(finished / "summary.json", summary | {"dataset": {"train": "other"}, "digests": {}})
    with pytest.raises(ValueError, match="name holds another run .*: data of train = 'first' there, and 'other' asked"):
        keep(finished, "name", tmp_path / "reference")
    assert Record.open(kept).summary == before
    write_json(kept / "summary.json", {name: value for name, value in before.items() if name != "dataset"})
    assert keep(finished, "name", tmp_path / "reference").summary["dataset"] == {"train": "other"}  # of an old record


def test_kernels_of_an_earlier_record_are_not_left_beside_a_new_one(finished, tmp_path):
    save_checkpoint(finished, {"net": {"conv1.weight": torch.ones(1, 6)}, "progress": PROGRESS})
    folder = keep(finished, "name", tmp_path / "reference", kernels=True).folder
    assert (folder / "conv1.npy").is_file()
    keep(finished, "name", tmp_path / "reference")
    assert not (folder / "conv1.npy").exists()


@pytest.mark.parametrize("weight", [float("nan"), 1e5])
def test_kernels_that_float16_cannot_hold_are_not_kept(finished, tmp_path, weight):
    torch.save({"net": {"conv1.weight": torch.full((2, 2), weight)}, "progress": PROGRESS}, finished / "checkpoint.pt")
    with pytest.raises(ValueError, match="not finite|float16 can't hold"):
        keep(finished, "name", tmp_path / "reference", kernels=True)
    assert not (tmp_path / "reference").exists()


def test_kernels_of_a_net_without_conv1_are_refused_by_name(finished, tmp_path, monkeypatch):
    monkeypatch.setattr("alexnet_lib.runs.records.final_weights", lambda record: {"stem.weight": torch.zeros(2)})
    with pytest.raises(ValueError, match="has no conv1"):
        keep(finished, "name", tmp_path / "reference", kernels=True)
    assert not (tmp_path / "reference").exists()


@given(at=st.integers(0, 4 * 300 - 1), bit=st.integers(0, 7), tensor=st.sampled_from(["net", "velocity"]))
@settings(max_examples=40)
def test_any_bit_that_flips_in_a_tensor_is_noticed(at, bit, tensor):
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        weights = torch.arange(300.0).reshape(3, 100), -torch.arange(300.0)
        save_checkpoint(folder, {"net": {"w": weights[0]}, "velocity": {"w": weights[1]}, "progress": "{}"})
        assert load_checkpoint(folder)["net"]["w"][2, 99] == 299
        path = folder / "checkpoint.pt"
        data = bytearray(path.read_bytes())
        data[data.index(weights[tensor == "velocity"].numpy().tobytes()) + at] ^= 1 << bit
        path.write_bytes(data)
        with pytest.raises(DamagedCheckpoint, match="content is not what was written"):
            load_checkpoint(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_checkpoints_from_before_there_were_digests_load_unless_they_hold_nan(tmp_path, value):
    state = {"net": {"w": torch.ones(3), "count": torch.tensor(2)}, "progress": "{}"}
    torch.save(state, tmp_path / "checkpoint.pt")
    assert load_checkpoint(tmp_path).keys() == state.keys()
    state["net"]["w"][1] = value
    torch.save(state, tmp_path / "checkpoint.pt")
    with pytest.raises(DamagedCheckpoint, match="weights that are not finite.*move or delete"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("name", KEPT)
def test_reference_runs_are_whole_and_their_settings_are_accepted(name):
    record = reference(name)
    assert check(kind_of(record.config), record.config) and record.summary["command"].endswith(f"{name}/config.json")
    assert record.summary["epochs"] == record.history["epoch"].max() == len(record.timing)
    for row in record.history.to_dict("records"):
        assert 0 <= row["top5"] <= row["top1"] <= 1 and row["loss"] > 0
    assert "/" not in json.dumps(record.config)


def test_the_built_in_collection_is_neither_trivial_nor_noise():
    record = reference("embedded-quarter")
    errors = record.summary["metrics"]["val"]["1 view"]
    assert record.config["width"] == 0.25 and errors["top1"] < 0.22 and errors["top5"] < 0.09


def test_two_paths_of_one_folder_are_one_data_set(tmp_path, monkeypatch):
    """A run that was begun before paths were made absolute goes on."""
    (tmp_path / "own").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "own")
    monkeypatch.chdir(tmp_path)
    absolute = {"dataset": str(tmp_path / "own")}
    assert all(differences({"dataset": typed}, absolute) == {} for typed in ("own", "own/", "./own", "link"))
    assert "dataset" in differences({"dataset": "other"}, absolute)
    assert "dataset" in differences({"dataset": "cifar10"}, {"dataset": "embedded"})
