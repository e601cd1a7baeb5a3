"""§5: the run as a whole, on a handful of tiny pictures: it learns, it resumes bit for bit, it says what is wrong."""

import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import time
import warnings
from functools import cache
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from tqdm import tqdm

from alexnet_lib import ALLOCATOR, loader, progress, run_state, training
from alexnet_lib.dataset import load_dataset
from alexnet_lib.paths import REPOSITORY
from alexnet_lib.run_state import RunState
from alexnet_lib.runs import provenance
from alexnet_lib.runs.records import CHECKPOINTS, DamagedCheckpoint, Record, load_checkpoint, save_checkpoint
from alexnet_lib.runs.settings import resolve
from alexnet_lib.training import NonFiniteLoss, StallWarning, load_net, main, train
from tests.small_runs import NAME, on_mps, settings


def test_a_run_learns_and_leaves_a_record(place):
    seen = []
    record = train(settings(epochs=12, initialisation="fan_in"), on_epoch=seen.append)
    assert [len(history) for history in seen] == list(range(2, 26, 2))
    losses = record.history.query("split == 'train'")["loss"].tolist()
    assert losses[-1] < 0.5 * losses[0]
    summary = record.summary
    assert summary["metrics"]["val"]["1 view"]["top1"] < 0.2 > summary["metrics"]["val"]["10 views"]["top1"]
    assert summary["images"] == {"train": 48, "val": 48} and summary["epochs"] == 12
    assert summary["seconds"] > 0 and 0 <= summary["waiting_for_data"] < 1
    assert record.config["width"] == 0.05 and len(record.timing) == 12
    assert sorted(p.name for p in record.folder.iterdir()) == sorted(
        ["config.json", "history.csv", "losses.csv", "summary.json", "timing.csv", *CHECKPOINTS]
    )


def test_a_record_names_the_commit_that_its_run_began_with(place, monkeypatch):
    """Another may be checked out before it ends."""
    at = SimpleNamespace(stdout="began\n")
    monkeypatch.setattr(provenance.subprocess, "run", lambda *_, **__: at)
    monkeypatch.setattr(provenance, "code_commit", cache(provenance.code_commit.__wrapped__))
    monkeypatch.setattr(run_state, "code_commit", provenance.code_commit)
    record = train(settings(epochs=1), on_epoch=lambda _: vars(at).update(stdout="checked out meanwhile\n"))
    assert record.summary["commit"] == "began"


def test_the_trained_net_comes_back(place):
    record = train(settings())
    net = load_net(record)
    state = load_checkpoint(record.folder)
    assert all(torch.equal(value, state["net"][name]) for name, value in net.state_dict().items())
    assert not net.training


def test_a_finished_run_is_read_and_not_trained_again(place):
    first = train(settings())
    before = (first.folder / "checkpoint.pt").stat().st_mtime_ns
    assert train(settings()).summary == first.summary
    assert (first.folder / "checkpoint.pt").stat().st_mtime_ns == before


def test_every_parameter_makes_another_run(place):
    changes = [{}, {"seed": 1}, {"epochs": 4}, {"width": 0.06}, {"dropout": 0.2}, {"learning_rate": 0.5}]
    changes += [{"batch_size": 13}, {"image_size": 65}, {"initialisation": "printed"}, {"recipe": "paper"}]
    changes += [{"precision": "bf16"}]
    store = training.load_dataset(NAME)["train"]
    assert len({resolve(settings(**change), store).name for change in changes}) == len(changes)


def test_every_parameter_changes_the_weights(place):
    changes = [{}, {"seed": 1}, {"dropout": 0.2}, {"learning_rate": 0.5}, {"batch_size": 13}]
    changes += [
        {"initialisation": "printed"},
        {"recipe": "paper", "initialisation": "rescaled"},
        {"precision": "bf16"},
    ]
    weights = {weights_digest(train(settings(epochs=1, **change))) for change in changes}
    assert len(weights) == len(changes)


def weights_digest(record):
    return hashlib.sha256(load_net(record).fc7.weight.detach().numpy().tobytes()).hexdigest()


def test_a_device_without_float64_trains_and_is_tested(place):
    with on_mps() as tensors:
        assert train(settings(epochs=1)).summary["epochs"] == 1
    assert tensors.came > 2


def test_a_repeated_run_gives_the_same_bits(place, monkeypatch):
    first = train(settings())
    monkeypatch.setenv("ALEXNET_RUNS", str(place / "again"))
    torch.manual_seed(99)  # the state of the caller's generator plays no part, and is left alone
    expected = torch.rand(3, generator=torch.Generator().manual_seed(99))
    second = train(settings())
    assert torch.equal(torch.rand(3), expected)
    assert lasting_files(first.folder) == lasting_files(second.folder)


def lasting_files(folder):
    """Everything that does not tell the time."""
    return {name: (folder / name).read_bytes() for name in ("config.json", "history.csv", "checkpoint.pt")}


SLOW_TRAINING = """
import json, sys, time
import torch
torch.set_num_threads(1)
from alexnet_lib import loader, progress, training
before = training.train_step
def slowly(*arguments):
    time.sleep(float(sys.argv[3]))
    return before(*arguments)
training.train_step = slowly
training.CHECK_EVERY = 1
training.CHECKPOINT_SECONDS = float(sys.argv[2])
training.main([sys.argv[1]])
"""


def test_killed_training_goes_on_and_ends_with_the_same_bits(place):
    """Killed twice: with checkpoints at the ends of epochs alone, and after every step."""
    config = place / "config.json"
    config.write_text(json.dumps({"dataset": NAME, "width": 0.05, "epochs": 6, "batch_size": 8, "name": "killed"}))
    command = [sys.executable, "-c", SLOW_TRAINING, str(config)]
    run = {name: place / name / "train" / "killed" for name in ("whole", "broken")}
    whole, broken = (os.environ | {"ALEXNET_RUNS": str(place / name)} for name in run)
    subprocess.run([*command, "1e9", "0"], env=whole, check=True, capture_output=True)
    for wanted, between in ((1, "1e9"), (3, "0.0")):
        process = subprocess.Popen([*command, between, "0.2"], env=broken)
        while process.poll() is None and done_epochs(run["broken"]) < wanted:
            time.sleep(0.01)
        assert process.poll() is None, "the run ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run([*command, "0.0", "0"], env=broken, check=True, capture_output=True)
    assert lasting_files(run["whole"]) == lasting_files(run["broken"])
    assert len(Record.open(run["broken"]).timing) == 6


def done_epochs(folder):
    try:
        return int(pd.read_csv(folder / "history.csv")["epoch"].max())
    except (FileNotFoundError, pd.errors.EmptyDataError):
        return 0


def test_a_torn_checkpoint_gives_way_to_the_one_before(tmp_path):
    state_of = lambda epoch: {"net": {"w": torch.ones(100)}, "progress": json.dumps({"epoch": epoch})}  # noqa: E731
    newest_epoch = lambda: json.loads(load_checkpoint(tmp_path)["progress"])["epoch"]  # noqa: E731
    for epoch in (1, 2):
        save_checkpoint(tmp_path, state_of(epoch))
    assert newest_epoch() == 2
    newest, previous = (tmp_path / name for name in CHECKPOINTS)
    newest.write_bytes(newest.read_bytes()[:-200])
    with pytest.warns(UserWarning, match="checkpoint.pt is damaged: .* goes on from checkpoint.previous.pt"):
        assert newest_epoch() == 1
    good = previous.read_bytes()
    save_checkpoint(tmp_path, state_of(3))
    assert previous.read_bytes() == good and newest_epoch() == 3
    newest.unlink()
    assert newest_epoch() == 1
    assert load_checkpoint(tmp_path / "nowhere") is None


def test_a_checkpoint_of_another_version_is_left_alone_and_named(place):
    run = resolve(settings(epochs=2), store := load_dataset(NAME)["train"])
    state = RunState(run, len(store.classes))
    run.folder.mkdir(parents=True)
    state.save(run.folder)
    saved = load_checkpoint(run.folder)
    older = json.loads(saved["progress"]) | {"format": 1}
    save_checkpoint(run.folder, saved | {"progress": json.dumps(older)})
    with pytest.raises(ValueError, match="another version of this library.*remove that folder"):
        train(settings(epochs=2))
    assert json.loads(load_checkpoint(run.folder)["progress"]) == older


def test_checkpoints_hold_no_code(tmp_path):
    """weights_only refuses pickled objects, so a checkpoint from a stranger is data."""
    torch.save({"epoch": 1, "hidden": Record}, tmp_path / CHECKPOINTS[0])
    with pytest.raises(DamagedCheckpoint, match=r"it can't be read \(UnpicklingError\)"):
        load_checkpoint(tmp_path)


def test_a_loss_that_is_no_number_stops_with_the_step(place):
    with pytest.raises(
        NonFiniteLoss,
        match=r"step \d of epoch \d; a lower learning_rate than 1e\+06 may help; there is no checkpoint yet",
    ):
        train(settings(learning_rate=1e6, epochs=4))


def look(losses, step, told=False):
    """What the alarm says of a run of three classes with these last losses."""
    state = SimpleNamespace(recent=losses[-run_state.STALL_WINDOW :], warned=["before"] if told else [])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        training._warn_of_stall(state, step, 3)
    assert [str(warning.message) for warning in caught] == state.warned[told:]
    return state.warned[told:]


def test_stall_alarm():
    stalled, learning, late = [math.log(3) + 0.001] * 60, [0.9] * 60, training.STALL_STEPS
    (message,) = look(stalled, late)
    assert message.startswith("after 500 steps the loss is 1.100, still ln(3) = 1.099") and "Remedies" in message
    assert not look(stalled, late - 1) and not look(stalled, late, told=True) and not look(learning, late)


def test_the_printed_initialisation_stalls_a_narrow_net_and_the_alarm_says_so(place, monkeypatch):
    monkeypatch.setattr(training, "STALL_STEPS", 60)
    with pytest.warns(StallWarning) as caught:
        record = train(settings(initialisation="printed", learning_rate=0.001, epochs=20))
    assert len(caught) == 1 and record.summary["warnings"] == [str(caught[0].message)]


def test_a_run_that_was_cut_off_before_the_alarm_warns_as_the_whole_one_does(place, monkeypatch):
    """The losses that the alarm looks back on are saved with the rest; 14 epochs are 56 steps."""

    class Cut(Exception):
        pass

    def cut(history):
        if history["epoch"].max() == 14:
            raise Cut

    monkeypatch.setattr(training, "STALL_STEPS", 60)
    stalled = {"initialisation": "printed", "learning_rate": 0.001, "epochs": 20}
    with pytest.raises(Cut):
        train(settings(**stalled, name="cut"), cut)
    with pytest.warns(StallWarning):
        whole, resumed = (train(settings(**stalled, name=name)) for name in ("whole", "cut"))
    assert len(whole.summary["warnings"]) == 1 and resumed.summary["warnings"] == whole.summary["warnings"]
    assert (whole.folder / "checkpoint.pt").read_bytes() == (resumed.folder / "checkpoint.pt").read_bytes()


def test_a_checkpoint_from_before_losses_were_saved_goes_on(place):
    run = resolve(settings(epochs=2), store := load_dataset(NAME)["train"])
    run.folder.mkdir(parents=True)
    RunState(run, len(store.classes)).save(run.folder)
    saved = load_checkpoint(run.folder)
    progress = json.loads(saved["progress"])
    del progress["recent"]
    save_checkpoint(run.folder, saved | {"progress": json.dumps(progress)})
    assert len(train(settings(epochs=2)).history) == 4


def test_shell_and_notebook_share_a_configuration(place, capsys):
    record = train(settings())
    copy = place / "copy.json"
    copy.write_text(json.dumps(record.config | {"experiment": "shell"}))
    main([str(copy)])
    assert "1 view" in capsys.readouterr().out
    repeated = Record.open(place / "runs" / "shell" / record.folder.name)
    assert repeated.summary["metrics"] == record.summary["metrics"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ('{"epohcs": 3}', "'epohcs'"),
        ('{"dataset": "imagenet"}', "dataset = 'imagenet'"),
        ("{", "it isn't valid JSON: expecting property name"),
        ("{'epochs': 3}", "(line 1, column 2); accepted: names and texts in double quotes. Mend, restore or remove it"),
    ],
)
def test_the_command_names_what_is_wrong(place, capsys, config, message):
    (place / "config.json").write_text(config)
    with pytest.raises(SystemExit) as exit_:
        main([str(place / "config.json")])
    assert exit_.value.code == 2 and message in capsys.readouterr().err


def test_batches_ahead_are_the_same_batches(place):
    store = training.load_dataset(NAME)["train"]
    run = resolve(settings(), store)
    mean = training.mean_of(store, run.image_size)
    plain = list(loader.make_batches(run, store, mean, 2, 0))
    ahead = list(loader.ahead(loader.make_batches(run, store, mean, 2, 0)))
    later = list(loader.make_batches(run, store, mean, 2, 3))
    assert len(plain) == 4 and len(later) == 1
    for one, other in zip(plain, ahead, strict=True):
        assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
    assert torch.equal(plain[3][0], later[0][0])
    assert sorted(torch.cat([labels for _, labels in plain]).tolist()) == sorted(store.labels.tolist())


def test_a_run_shows_one_bar_to_a_person_who_watches(place, monkeypatch):
    """One for all its epochs; a new one for each would fill the notebook."""
    monkeypatch.setenv("ALEXNET_PROGRESS", "bar")
    made = []

    def bar(**options) -> tqdm:
        made.append(options)
        return tqdm(**options | {"disable": True})

    monkeypatch.setattr(progress, "notebook_tqdm", bar)
    train(settings(epochs=2))
    assert [(shown["total"], shown["disable"], shown["leave"]) for shown in made] == [(8, False, False)]


def test_a_run_on_a_cpu_does_not_load_torchs_compiler(place):
    """Nor on its way out, where a stopped run has ten seconds."""
    program = (
        "import sys\nfrom alexnet_lib import train\nfrom tests import small_runs\n"
        "train(small_runs.settings(epochs=1))\nprint('torch._dynamo' in sys.modules)"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=os.environ | ALLOCATOR, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["False"], done.stderr
