"""A run's folder: another run is refused, a second starter follows, damage is named, NaN is never scored."""

import json
import math
import multiprocessing
import shutil
import time

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from alexnet_lib import loader, training
from alexnet_lib.files import Damaged, at_work, in_work
from alexnet_lib.runs.records import CHECKPOINTS, DamagedCheckpoint, Record, load_checkpoint, save_checkpoint
from alexnet_lib.training import NonFiniteLoss, StallWarning, train
from alexnet_lib.training import train as train_cifar
from tests.small_runs import settings
from tests.test_cifar_training import place as cifar_place  # noqa: F401
from tests.test_cifar_training import settings as cifar_settings

FINISHED = {}


@pytest.fixture(params=["training", "cifar_training"])
def kind(request):
    """Both trainers: a call that trains a run of two epochs called "r", but for what is changed in it."""
    small = request.param == "cifar_training"
    place = request.getfixturevalue("cifar_place" if small else "place")

    def call(epochs=2, **changes):
        if small:
            return train_cifar(cifar_settings(**{"name": "r", "stages": ((epochs, 1.0),)} | changes))
        return train(settings(**{"name": "r", "epochs": epochs} | changes))

    call.name, call.folder = request.param, place / "runs" / ("cifar" if small else "train") / "r"
    return call


@pytest.fixture
def run(kind, tmp_path_factory):
    """A finished run, and the call that made it; trained once for all tests."""
    if kind.name not in FINISHED:
        FINISHED[kind.name] = tmp_path_factory.mktemp(kind.name) / "r"
        shutil.copytree(kind().folder, FINISHED[kind.name])
    elif not kind.folder.is_dir():
        shutil.copytree(FINISHED[kind.name], kind.folder)
    return kind.folder, kind


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ----------------------------------------------------------------------------------------------- one configuration


@pytest.mark.parametrize("finished", [True, False])
def test_a_folder_answers_only_for_its_configuration(run, finished):
    folder, again = run
    if not finished:
        (folder / "summary.json").unlink()
    before = files(folder)
    with pytest.raises(ValueError, match="holds another run.*seed = 0 there, and 5 asked for"):
        again(seed=5)
    with pytest.raises(
        ValueError, match="learning_rate = .* there, and 0.5 asked for; batch_size|batch_size = .*; learn"
    ):
        again(learning_rate=0.5, batch_size=11)
    assert files(folder) == before


def test_what_decides_nothing_may_differ(run):
    folder, again = run
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"device": "cuda:7", "devices": 2, "experiment": "other"}))
    assert again().folder == folder


@pytest.mark.parametrize("finished", [True, False])
def test_a_folder_answers_only_for_its_data(run, monkeypatch, finished):
    folder, again = run
    if not finished:
        (folder / "summary.json").unlink()
    for path in folder.parents[2].glob("data/prepared/*/train/meta.json"):
        meta = json.loads(path.read_text())
        path.write_text(json.dumps(meta | {"fingerprint": "of others"}))
    with pytest.raises(ValueError, match="data of train = '.*' there, and 'of others' asked for"):
        again()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "a list; accepted: named values"),
        ("null", "a NoneType"),
        ("3", "a int"),
        ('{"seed": 0, "epochs": 3, "seed": 0}', "'seed' is there more than once; accepted: each name once"),
        ("[" * 100_000, "it can't be read"),
        ("{", ""),
    ],
)
def test_a_damaged_configuration_is_named(run, text, message):
    folder, again = run
    (folder / "config.json").write_text(text)
    with pytest.raises(ValueError, match=rf"config\.json: {message}"):
        again()
    assert (folder / "config.json").read_text() == text


@pytest.mark.parametrize(("value", "shown"), [(math.nan, "nan"), (-3.0, "-3.0"), (1.5, "1.5"), (math.inf, "inf")])
def test_what_is_no_error_rate_is_not_read_as_one(run, value, shown):
    folder, _ = run
    summary = json.loads((folder / "summary.json").read_text())
    summary["metrics"]["val"]["1 view"]["top1"] = value
    (folder / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(Damaged, match=rf"summary\.json: metrics\.val\.1 view.* is .*{shown}"):
        Record.open(folder)


@pytest.mark.parametrize(
    ("file", "name"), [("config.json", "seed"), ("summary.json", "parameters"), ("history.csv", "train")]
)
def test_a_changed_digit_is_noticed(run, file, name):
    folder, _ = run
    text = (folder / file).read_text()
    at = next(i for i in range(text.index(name), len(text)) if text[i].isdigit())
    (folder / file).write_text(text[:at] + str((int(text[at]) + 1) % 9) + text[at + 1 :])
    with pytest.raises(Damaged, match=f"{file}: other content than was written"):
        Record.open(folder)


def test_records_from_before_there_were_digests_are_read(run):
    folder, _ = run
    summary = json.loads((folder / "summary.json").read_text())
    assert summary.pop("digests").keys() == {"config.json", "history.csv", "summary.json"}
    (folder / "summary.json").write_text(json.dumps(summary))
    assert Record.open(folder).summary == summary


# ------------------------------------------------------------------------------------------------------ checkpoints


def test_where_no_checkpoint_is_whole_the_run_is_refused(run):
    folder, again = run
    (folder / "summary.json").unlink()
    for name in CHECKPOINTS:
        (folder / name).write_bytes(b"")
    before = files(folder)
    with pytest.raises(DamagedCheckpoint, match=r"no checkpoint in .* is whole: checkpoint\.pt.*; .*move or delete"):
        again()
    assert {k: v for k, v in files(folder).items() if k in before} == before


@pytest.mark.parametrize("state", [{}, [], {"net": {"conv1.weight": torch.ones(3)}, "velocity": {}}])
def test_a_checkpoint_of_something_else_is_named(run, state):
    folder, again = run
    (folder / "summary.json").unlink()
    for name in CHECKPOINTS:
        (folder / name).unlink()
    torch.save(state, folder / CHECKPOINTS[0])
    with pytest.raises(ValueError, match="checkpoint"):
        again()


def test_a_checkpoint_of_another_net_is_named(run):
    folder, again = run
    (folder / "summary.json").unlink()
    state = load_checkpoint(folder)
    name = next(iter(state["net"]))
    state["net"][name] = torch.ones(7)
    torch.save(state, folder / CHECKPOINTS[0])
    with pytest.raises(DamagedCheckpoint, match=rf"of another net: {name} is \(7,\) in it"):
        again()


def test_a_damaged_newest_checkpoint_gives_way_and_the_run_ends_the_same(run):
    folder, again = run
    whole = files(folder)
    (folder / "summary.json").unlink()
    flip_a_weight(folder / CHECKPOINTS[0])
    with pytest.warns(UserWarning, match=r"content is not what was written.*the end of epoch 1; .*goes to epoch 2\)"):
        again()
    assert all(files(folder)[name] == whole[name] for name in ("history.csv", *CHECKPOINTS))


def flip_a_weight(path):
    state = torch.load(path, weights_only=True)
    weights = next(iter(state["net"].values()))
    data = path.read_bytes()
    at = data.index(weights.permute(0, 2, 3, 1).contiguous().numpy().tobytes()[:16])
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


def test_the_net_of_the_end_is_not_replaced_by_an_older_one(run):
    folder, _ = run
    (folder / CHECKPOINTS[0]).write_bytes(b"torn")
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(DamagedCheckpoint, match="is of epoch 1, and .* 2"):
        training.final_weights(Record.open(folder))


@pytest.mark.parametrize(
    ("change", "said"), [({"seed": 5}, "seed = 5 there"), ({"data": {"train": "x"}}, "data of train")]
)
def test_a_finished_run_has_no_other_runs_weights(run, change, said):
    folder, _ = run
    state = load_checkpoint(folder)
    progress = json.loads(state["progress"])
    assert progress["settings"]["seed"] != 5
    other = {"data": change["data"]} if "data" in change else {"settings": progress["settings"] | change}
    (folder / CHECKPOINTS[0]).unlink()
    save_checkpoint(folder, state | {"progress": json.dumps(progress | other)})
    with pytest.raises(DamagedCheckpoint, match=f"{folder} is another run's: {said}"):
        training.final_weights(Record.open(folder))


# ----------------------------------------------------------------------------------------------------------- tables


LARGE = "epoch,seconds,images_per_second,waiting_for_data\n18446744073709551616,1,1,0\n"


@pytest.mark.parametrize(
    "text", [None, "", "\n", "no,columns\n1,2\n", "epoch,seconds,images_per_second\nx,y,z\n", LARGE]
)
def test_times_are_not_worth_a_run(run, text):
    folder, again = run
    if text != "\n":  # else it is finished already
        (folder / "summary.json").unlink()
    (folder / "timing.csv").unlink() if text is None else (folder / "timing.csv").write_text(text)
    assert again().timing.empty
    json.loads((folder / "summary.json").read_text(), parse_constant=pytest.fail)


def test_a_torn_history_is_named_and_written_anew(run):
    folder, again = run
    whole = (folder / "history.csv").read_bytes()
    for torn in (b"", whole[: len(whole) // 2], whole[:-3]):
        (folder / "history.csv").write_bytes(torn)
        with pytest.raises(ValueError, match=r"history\.csv: .*; accepted: .* remove summary\.json"):
            again()
    (folder / "summary.json").unlink()
    assert len(again().history) == 4 and (folder / "history.csv").read_bytes() == whole


# --------------------------------------------------------------------------------------------------- not a number


@pytest.mark.parametrize("rate", [1e30, 1e12])
def test_a_net_that_is_no_numbers_after_its_only_step_is_not_scored(kind, rate):
    with pytest.raises(NonFiniteLoss, match="there is no checkpoint yet"):
        kind(epochs=1, batch_size=4096, learning_rate=rate)


def test_the_message_names_the_last_whole_checkpoint(run, monkeypatch):
    folder, again = run
    (folder / "summary.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    longer = {"epochs": 3} if "epochs" in config else {"stages": [[3, 1.0]]}
    (folder / "config.json").write_text(json.dumps(config | longer | {"learning_rate": 1e30, "bias_rate": 2e30}))
    forget_settings(folder)
    with pytest.raises(NonFiniteLoss, match="the last whole checkpoint is of the end of epoch 2, in "):
        again(epochs=3, learning_rate=1e30)
    assert json.loads(load_checkpoint(folder)["progress"])["epoch"] == 2


def forget_settings(folder):
    """As if the checkpoint were from before they were in it."""
    state = load_checkpoint(folder)
    progress = json.loads(state["progress"])
    save_checkpoint(folder, state | {"progress": json.dumps(progress | {"settings": None})})


def test_a_checkpoint_of_other_settings_is_not_gone_on_with(run):
    """Where a person has put it into the folder of a run of the same net."""
    folder, again = run
    (folder / "summary.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"seed": 5}))
    before = files(folder)
    with pytest.raises(ValueError, match="holds another run.*seed = 0 there, and 5 asked for"):
        again(seed=5)
    assert {name: data for name, data in files(folder).items() if name in before} == before


def test_a_run_that_ends_far_above_a_guess_warns(kind):
    with pytest.warns(StallWarning, match="far above the 1.1 of a guess"):
        kind(epochs=1, batch_size=4096, learning_rate=30.0)


# ------------------------------------------------------------------------------------- a device without float64


class OnApple(torch.Tensor):
    """A tensor of the processor that says it lies on Apple's "mps"."""


class Apple(TorchFunctionMode):
    """What is sent to "mps" stays here as OnApple, which is never float64 and comes back only by way of cpu()."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        there = "mps" in [value for value in (*args, *(kwargs or {}).values()) if isinstance(value, str)]
        here = lambda value: "cpu" if isinstance(value, str) and value == "mps" else value  # noqa: E731
        args, kwargs = [here(value) for value in args], {k: here(v) for k, v in (kwargs or {}).items()}
        if func is torch.Tensor.numpy and isinstance(args[0], OnApple):
            raise TypeError("can't convert mps:0 device type tensor to numpy")
        result = func(*args, **kwargs)
        if not isinstance(result, torch.Tensor):
            return result
        if func is torch.Tensor.cpu:
            return result.as_subclass(torch.Tensor)
        result = result.as_subclass(OnApple) if there and not isinstance(result, nn.Parameter) else result
        if isinstance(result, OnApple) and result.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")
        return result


def test_a_run_needs_no_float64_of_its_device(kind, monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(loader, "ahead", lambda items: items)  # another thread would not see this device
    with Apple():
        with pytest.raises(TypeError, match="float64"):
            torch.ones(3, device="mps").double()
        record = kind(epochs=1, device="mps")
    assert record.config["device"] == "mps" and record.history["loss"].gt(0).all()


# ------------------------------------------------------------------------------------------------ one at a time


@pytest.mark.parametrize("seen_at_once", [True, False])
def test_a_second_starter_follows_the_first(run, monkeypatch, seen_at_once):
    """Also where it sees the first one at work only when it is about to begin."""
    folder, again = run
    finished, before = folder.with_name("finished"), files(folder)
    folder.rename(finished)
    folder.mkdir()
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    first = context.Process(target=works, args=(folder, finished, ready))
    first.start()
    assert ready.wait(20)
    if not seen_at_once:
        asked = iter([False])
        monkeypatch.setattr(training, "in_work", lambda where: next(asked, None) is None and in_work(where))
    record = again()
    first.join()
    assert record.summary == json.loads(before["summary.json"])


def works(folder, finished, ready):
    """Another process that trains a run, and takes a while."""
    with at_work(folder):
        shutil.copy(finished / "config.json", folder)
        ready.set()
        time.sleep(0.3)
        for name in ("history.csv", "timing.csv", "summary.json"):
            shutil.copy(finished / name, folder)


def test_another_run_in_the_same_folder_is_not_followed(run):
    folder, again = run
    with at_work(folder):
        (folder / "summary.json").unlink()
        with pytest.raises(ValueError, match="seed = 0 there, and 3 asked"):
            again(seed=3)
