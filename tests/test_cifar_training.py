"""§3.1 and §3.3: runs of the CIFAR nets on a handful of pictures; they learn, resume bit for bit, and end when told."""

import json
import math
import multiprocessing
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from alexnet_lib import load_dataset, training
from alexnet_lib.augmentation import VIEWS
from alexnet_lib.colours import ColourPCA
from alexnet_lib.data.preparation import write_store
from alexnet_lib.dataset import Store
from alexnet_lib.evaluation import mean_of, predict, to_input, top_k_error
from alexnet_lib.experiments import cifar_experiments
from alexnet_lib.loader import batches, in_memory
from alexnet_lib.runs.cifar_settings import PLATEAU, CifarSettings, choose_pictures, published_stages
from alexnet_lib.runs.launch import torchrun
from alexnet_lib.runs.records import CHECKPOINTS, Record, keep
from alexnet_lib.runs.settings import resolve
from alexnet_lib.training import NonFiniteLoss, load_net, main
from alexnet_lib.training import train as train_cifar

COUNT = 40


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Private folders with a prepared store of 40 small pictures of three plain colours and noise."""
    for split, seed in (("train", 0), ("val", 1)):
        generator, labels = np.random.default_rng(seed), np.arange(COUNT) % 3
        images = generator.integers(0, 90, (COUNT, 32, 32, 3), np.uint8)
        images[np.arange(COUNT), :, :, labels] += 120
        folder = tmp_path / "data" / "prepared" / "embedded32-32" / split
        write_store(folder, images, labels, ["red", "green", "blue"], {"source": "test", "lossy": True})
    for name in ("DATA", "RUNS"):
        monkeypatch.setenv(f"ALEXNET_{name}", str(tmp_path / name.lower()))
    monkeypatch.setenv("ALEXNET_PROGRESS", "none")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(threads)


def settings(**changes):
    """A run of a second: fan-in weights, inputs of unit variance, small crops."""
    usual = {"initialisation": "fan_in", "input_divisor": 64.0, "image_size": 12, "batch_size": 16, "device": "cpu"}
    return CifarSettings(**usual | {"learning_rate": 0.01, "weight_decay": 0.0, "stages": ((3, 1.0),)} | changes)


def lasting_files(folder):
    """Everything that does not tell the time."""
    return {name: (folder / name).read_bytes() for name in ("config.json", "history.csv", "checkpoint.pt")}


# ------------------------------------------------------------------------------------------------------ the pictures


@pytest.fixture
def store():
    """Ten pictures of noise."""
    generator = np.random.default_rng(2)
    images, pca = generator.integers(0, 256, (10, 32, 32, 3), np.uint8), ColourPCA(np.ones(3), np.eye(3))
    mean = np.full((32, 32, 3), 100, np.float32)
    return Store(Path(), images, np.arange(10) % 3, mean, pca, ["a", "b", "c"], {"fingerprint": "noise"})


def epoch(store, number=0, first=0, **changes):
    """The inputs and labels of an epoch, from a step on."""
    run = resolve(settings(**{"dataset": "noise", "image_size": 24, "input_divisor": 2.0} | changes), store)
    parts = list(batches(run, store, mean_of(store, run.image_size), number, first))
    return torch.cat([x for x, _ in parts]), torch.cat([labels for _, labels in parts])


def test_pictures_in_memory_give_the_batches_of_those_on_disk(store):
    here = in_memory({"train": store}, "cpu")["train"]
    for one, other in zip(epoch(store), epoch(here), strict=True):
        assert torch.equal(one, other) and one.stride() == other.stride()


def test_batches_depend_on_seed_epoch_and_image_alone(store):
    (x, labels), (same, same_labels) = epoch(store, batch_size=3), epoch(store, batch_size=10)
    assert torch.equal(x, same) and torch.equal(labels, same_labels)
    assert sorted(labels.tolist()) == sorted(store.labels)
    assert not torch.equal(x, epoch(store, seed=1)[0])
    assert not torch.equal(x, epoch(store, number=1)[0])


def test_an_epoch_goes_on_from_a_step(store):
    assert torch.equal(epoch(store, batch_size=3, first=2)[0], epoch(store, batch_size=3)[0][6:])


def test_without_augmentation_a_batch_is_centres_less_the_mean(store):
    rows = np.random.default_rng([0, 0]).permutation(10)
    expected = (store.images[rows, 4:28, 4:28].astype(np.float32) - 100) / 2
    x = epoch(store, augmentation=False)[0]
    np.testing.assert_array_equal(x.permute(0, 2, 3, 1).numpy(), expected)
    assert x.is_contiguous(memory_format=torch.channels_last)


def test_nine_shifts_are_all_corners_edges_and_the_centre():
    assert set(VIEWS[9]) == {(top, left, False) for top in (0, 0.5, 1) for left in (0, 0.5, 1)}


def test_probabilities_are_averaged_over_the_views(store):
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 24 * 24, 3)).eval()
    mean = mean_of(store, 24)
    crops = np.stack([store.images[:, t : t + 24, f : f + 24] for t in (0, 4, 8) for f in (0, 4, 8)], 1)
    with torch.no_grad():
        seen = net(to_input(crops.reshape(-1, 24, 24, 3), mean)).softmax(1).unflatten(0, (10, 9)).mean(1)
    torch.testing.assert_close(predict(net, store.images, mean, 9), seen)


# ----------------------------------------------------------------------------------------------------------- the loop


def test_a_run_learns_and_leaves_a_record(place):
    seen = []
    record = train_cifar(settings(stages=((8, 1.0), (2, 0.1))), on_epoch=seen.append)
    assert [len(history) for history in seen] == list(range(2, 22, 2))
    train = record.history.query("split == 'train'")
    assert train["loss"].iloc[-1] < 0.5 * train["loss"].iloc[0]
    np.testing.assert_allclose(train["learning_rate"], [0.01] * 8 + [0.001] * 2)
    assert all(train[f"saturated{i}"].between(0, 1, inclusive="neither").all() for i in (1, 2, 3))
    summary = record.summary
    assert list(summary["metrics"]["val"]) == ["1 view", "9 shifts", "10 views"]
    assert summary["metrics"]["val"]["10 views"]["top1"] < 0.2 and summary["ended"] == "schedule"
    assert summary["images"] == {"train": COUNT, "val": COUNT} and summary["lossy_pictures"] is True
    assert sorted(p.name for p in record.folder.iterdir()) == sorted(
        ["checkpoint.epoch8.pt", "config.json", "history.csv", "losses.csv", "summary.json", "timing.csv", *CHECKPOINTS]
    )


def test_the_net_sees_the_pixels_of_the_whole_picture_in_one_view(place):
    record = train_cifar(settings(net="19pct", image_size=32, stages=((1, 1.0),)))
    assert list(record.summary["metrics"]["val"]) == ["1 view"]


class PowerCut(Exception):
    pass


@pytest.mark.parametrize("step", [1, 3, 4, 8])  # in the first, at the end of it, in the second, in the third epoch
def test_an_interrupted_run_goes_on_and_ends_with_the_same_bits(place, monkeypatch, step):
    changing = settings(net="18pct", stages=((2, 1.0), (1, 0.1)))
    whole = lasting_files(train_cifar(changing).folder)
    monkeypatch.setenv("ALEXNET_RUNS", str(place / "again"))
    steps = iter(range(99))
    original = training.train_step

    def fails(*arguments):
        if next(steps) == step:
            raise PowerCut
        return original(*arguments)

    monkeypatch.setattr(training, "train_step", fails)
    with pytest.raises(PowerCut):
        train_cifar(changing)
    assert next(steps) == step + 1
    record = train_cifar(changing)
    assert lasting_files(record.folder) == whole and len(record.timing) == 3


def test_a_killed_run_goes_on_and_ends_with_the_same_bits(place, monkeypatch):
    asked = settings(stages=((4, 1.0),), name="killed")
    whole = lasting_files(train_cifar(asked).folder)
    monkeypatch.setenv("ALEXNET_RUNS", str(place / "broken"))
    original, folder = training.train_step, place / "broken" / "cifar" / "killed"

    def slowly(*arguments):
        time.sleep(0.1)
        return original(*arguments)

    with monkeypatch.context() as slow:
        slow.setattr(training, "train_step", slowly)
        process = multiprocessing.get_context("fork").Process(target=train_cifar, args=(asked,))
        process.start()
        while process.is_alive() and not (folder / "checkpoint.previous.pt").exists():
            time.sleep(0.01)
        assert process.is_alive(), "the run ended before it could be killed"
        process.kill()
        process.join()
    assert not (folder / "summary.json").exists()
    assert lasting_files(train_cifar(asked).folder) == whole


def test_the_trained_net_comes_back_and_a_finished_run_is_not_repeated(place):
    record = train_cifar(settings(net="conv-local-11pct-final", activation="tanh"))
    stores = load_dataset("embedded32")
    scores = predict(load_net(record), stores["val"].images, mean_of(stores["train"], 12), divisor=64.0)
    assert top_k_error(scores, stores["val"].labels)[1] == record.summary["metrics"]["val"]["1 view"]["top1"]
    before = (record.folder / "checkpoint.pt").stat().st_mtime_ns
    assert train_cifar(settings(net="conv-local-11pct-final", activation="tanh")).summary == record.summary
    assert (record.folder / "checkpoint.pt").stat().st_mtime_ns == before


def test_two_processes_train_what_one_does_and_the_record_counts_them(place):
    """Of 40 images the last batch has one, which one process gets and the other doesn't."""
    one, two = (settings(dataset="embedded32", batch_size=39, name=name) for name in ("one", "two"))
    torchrun(2, "training", config=asdict(two))
    alone, both = train_cifar(one), Record.open(place / "runs" / "cifar" / "two")
    assert (alone.summary["devices"], both.summary["devices"]) == (1, 2)
    pd.testing.assert_frame_equal(both.history, alone.history, rtol=1e-3)


def test_the_pictures_that_a_job_waits_for_are_those_that_auto_means(place, monkeypatch):
    """Of AlexNet's the second process would wait for ever: nobody prepares them."""
    waited = []
    monkeypatch.setattr(training, "wait_until_prepared", waited.append)
    train_cifar(settings(stages=((1, 1.0),)))
    assert waited == ["embedded32"]


def test_every_parameter_makes_another_run(place):
    changes = [{}, {"net": "18pct"}, {"activation": "tanh"}, {"initialisation": "published"}, {"normalization": "lrn"}]
    changes += [{"image_size": 16}, {"input_divisor": 1.0}, {"augmentation": False}, {"stages": ((2, 1.0),)}]
    changes += [{"batch_size": 8}, {"learning_rate": 0.02}, {"bias_rate": 0.01}, {"weight_decay": 1.0}, {"seed": 1}]
    changes += [{"target_error": 0.2}, {"give_up_epochs": 2}, {"precision": "bf16"}, {"compiled": True}]
    store = load_dataset("embedded32")["train"]
    assert len({resolve(settings(**change), store).name for change in changes}) == len(changes)


def test_bfloat16_trains_too(place):
    usual = {"net": "conv-local-11pct-first", "learning_rate": 0.001}
    runs = [train_cifar(settings(precision=precision, **usual)) for precision in ("bf16", "fp32")]
    losses = [run.history["loss"].to_numpy() for run in runs]
    np.testing.assert_allclose(*losses, rtol=0.05)
    assert not np.array_equal(*losses)


def test_a_run_ends_at_its_target(place):
    record = train_cifar(settings(stages=((30, 1.0),), target_error=0.1))
    errors = record.history.query("split == 'train'")["top1"].tolist()
    assert record.summary["ended"] == "target" and 1 < len(errors) < 30 and errors[-1] <= 0.1 < min(errors[:-1])


def test_a_run_that_will_not_get_there_gives_up(place):
    record = train_cifar(settings(stages=((30, 1.0),), target_error=0.25, give_up_epochs=3, learning_rate=1e-9))
    assert record.summary["ended"] == "gave up" and record.summary["epochs"] == 3 * PLATEAU


@pytest.mark.parametrize(
    ("errors", "hopeless"),
    [
        ([0.9, 0.8, 0.7], False),  # 0.7 - 7 · 0.1 is below the target
        ([0.9, 0.85, 0.84], True),
        ([0.9, 0.9, 0.8], False),  # has just begun to learn
        ([0.5, 0.31, 0.3], False),  # steady pace suffices, the last alone would not
        ([0.3], False),  # too early to say
    ],
)
def test_hopeless_is_judged_by_the_pace(errors, hopeless):
    run = settings(stages=((10, 1.0),), target_error=0.25, give_up_epochs=2)
    history = [{"split": "train", "top1": error, "loss": 2.0} for error in errors]
    assert run.ending(history, classes=10) == ("gave up" if hopeless else "")


@pytest.mark.parametrize(
    ("losses", "hopeless"),
    [
        ([2.3] * 5, False),  # a plateau, which it may leave
        ([2.3] * 6, True),
        ([9.0, 30.0], True),  # burst
        ([9.0, 6.0], False),  # on its way back
        ([9.0], False),
    ],
)
def test_a_net_that_guesses_is_waited_for_unless_it_burst(losses, hopeless):
    run = settings(stages=((10, 1.0),), target_error=0.25, give_up_epochs=2)
    history = [{"split": "train", "top1": 0.9, "loss": loss} for loss in losses]
    assert run.ending(history, classes=10) == ("gave up" if hopeless else "")


def test_a_loss_that_is_no_number_is_an_error(place):
    with pytest.raises(NonFiniteLoss, match=r"step \d of epoch \d; a lower learning_rate than 1e\+08"):
        train_cifar(settings(learning_rate=1e8))


# -------------------------------------------------------------------------------------------------- settings, schedule


@pytest.mark.parametrize("epochs", [3, 10, 50, 520])
def test_the_published_schedule_keeps_its_shape(epochs):
    stages = published_stages(epochs)
    assert [factor for _, factor in stages] == [1.0, 0.1, 0.01] and sum(n for n, _ in stages) == epochs
    assert epochs != 520 or [n for n, _ in stages] == [500, 10, 10]  # as in the file
    run = settings(stages=stages)
    rates = [run.rate(epoch) for epoch in range(run.epochs)]
    assert rates == sorted(rates, reverse=True) and rates[0] == 0.01 and rates[-1] == pytest.approx(0.0001)


def test_auto_takes_cifar10_where_it_is_prepared(place):
    assert choose_pictures("auto") == "embedded32"
    (place / "data" / "prepared" / "embedded32-32").rename(place / "data" / "prepared" / "cifar10-32")
    assert choose_pictures("auto") == "cifar10"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ('{"net": "19pct", "stagess": []}', "unknown parameter 'stagess'"),
        ('{"net": "17pct"}', "net = '17pct'; accepted is '19pct'"),
        ('{"stages": []}', "stages = []"),
        ('{"stages": [[0, 1.0]]}', "stages = [[0, 1.0]]"),
        ('{"net": "19pct", "image_size": 40}', "image_size = 40; the stored images have 32"),
    ],
)
def test_the_command_names_what_is_wrong(place, capsys, config, message):
    (place / "config.json").write_text(config)
    with pytest.raises(SystemExit) as exit_:
        main([str(place / "config.json")])
    assert exit_.value.code == 2 and message in capsys.readouterr().err


def test_a_configuration_can_be_repeated_from_the_shell(place, capsys):
    record = train_cifar(settings())
    (place / "copy.json").write_text(json.dumps(record.config | {"experiment": "shell"}))
    main([str(place / "copy.json")])
    assert "1 view" in capsys.readouterr().out
    repeated = Record.open(place / "runs" / "shell" / record.folder.name)
    assert repeated.summary["metrics"] == record.summary["metrics"]


# ------------------------------------------------------------------------------------------------------- experiments


NUMBERLESS = (math.inf, math.inf)  # the loss stopped being a number


@pytest.mark.parametrize(
    ("found", "best", "tried"),
    [
        ({0.001: 9, 0.003: 5, 0.01: 7, 0.0003: 20}, (0.003, 5), [0.001, 0.003, 0.01, 0.0003]),
        ({0.001: NUMBERLESS, 0.0003: 30, 0.0001: math.inf}, (0.0003, 30), [0.001, 0.0003, 0.0001]),
        ({0.003: NUMBERLESS}, (0.001, math.inf), [0.001, 0.003, 0.0003, 0.0001, 0.00003]),
        # none reaches the target: two in a row that do worse end a side, one does not
        (
            {0.001: (math.inf, 0.5), 0.003: (math.inf, 0.6), 0.01: (math.inf, 0.4)},
            (0.01, math.inf),
            [0.001, 0.003, 0.01, 0.03, 0.1, 0.0003, 0.0001],
        ),
        ({0.001: (math.inf, 0.4)}, (0.001, math.inf), [0.001, 0.003, 0.01, 0.0003, 0.0001]),
        # and rates that do no better than a guess end none
        ({0.1: (math.inf, 0.5)}, (0.1, math.inf), [0.001, 0.003, 0.01, 0.03, 0.1, 0.0003, 0.0001]),
    ],
)
def test_the_fastest_rate_is_found_by_a_search(found, best, tried):
    asked = []

    def measure(run, limit):
        asked.append(run.learning_rate)
        needed = found.get(run.learning_rate, (math.inf, 0.9))
        needed = needed if isinstance(needed, tuple) else (needed, 0.25)
        return (math.inf, 0.3) if limit < needed[0] < math.inf else needed

    assert cifar_experiments.fastest_rate(settings(learning_rate=0.001), measure) == best
    assert asked == tried


def test_figure1_is_skipped_where_it_is_finished_and_becomes_a_table(place, monkeypatch, capsys):
    monkeypatch.setattr(cifar_experiments, "CIFAR10", "embedded32")
    monkeypatch.setattr(cifar_experiments, "RATES", (0.01, 0.1, 1e8))
    monkeypatch.setattr(cifar_experiments, "LONGEST", 6)
    monkeypatch.setattr(cifar_experiments, "TARGET", 0.6)
    monkeypatch.setattr(cifar_experiments, "REFERENCE", place / "reference")
    small = {"image_size": 12, "batch_size": 8, "device": "cpu"}
    only = ("19pct", "fan_in", "relu")
    cifar_experiments.figure1(only, **small)
    printed = capsys.readouterr().out
    folders = sorted((place / "runs" / "figure1").iterdir())
    times = [(folder / "config.json").stat().st_mtime_ns for folder in folders]
    cifar_experiments.figure1(only, **small)
    assert capsys.readouterr().out == printed and printed.startswith("19pct fan_in relu: rate 0.")
    assert [(folder / "config.json").stat().st_mtime_ns for folder in folders] == times
    cifar_experiments.main(["summary"])
    table = pd.read_csv(place / "reference" / "figure1" / "runs.csv")
    assert {"target"} <= set(table["ended"]) <= {"target", "gave up", "schedule", "diverged"}
    assert set(table["seed"]) == {0, 1, 2} and table["training_error"].dropna().between(0, 1).all()
    about = json.loads((place / "reference" / "figure1" / "about.json").read_text())
    assert about["lossy_pictures"] is True and about["command"].endswith("figure1")
    # the same runs in another precision are others, and those of other pictures are not in the table
    cifar_experiments.figure1(only, precision="bf16", **small)
    both = cifar_experiments.figure1_table()
    assert set(both["precision"]) == {"fp32", "bf16"}
    for path in (place / "runs" / "figure1").glob("*/summary.json"):
        record = json.loads(path.read_text())
        if json.loads(path.with_name("config.json").read_text())["precision"] == "bf16":
            altered = record | {"dataset": record["dataset"] | {"train": "0" * 64}}
            path.write_text(json.dumps({name: value for name, value in altered.items() if name != "digests"}))
    assert cifar_experiments.figure1_table().query("ended != 'diverged'")["precision"].unique().tolist() == ["fp32"]


def test_where_no_rate_gets_there_the_nearest_goes_on(place, monkeypatch, capsys):
    monkeypatch.setattr(cifar_experiments, "CIFAR10", "embedded32")
    for name, value in {"RATES": (0.0001, 0.01), "LONGEST": 1, "BEYOND": 2, "TARGET": 0.001, "PACE": 9}.items():
        monkeypatch.setattr(cifar_experiments, name, value)
    cifar_experiments.figure1(("19pct", "fan_in", "relu"), image_size=12, batch_size=8, device="cpu")
    assert "rate 0.01, inf epochs" in capsys.readouterr().out
    table = cifar_experiments.figure1_table()
    longest = table.groupby(["learning_rate", "seed"])["epoch"].agg(["max", "size"])
    assert longest.to_dict("index") == {
        (0.0001, 0): {"max": 1, "size": 1},
        **{(0.01, seed): {"max": 2, "size": 2} for seed in (0, 1, 2)},
    }


def test_the_normalisation_runs_are_kept(place, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cifar_experiments, "CIFAR10", "embedded32")
    kept = tmp_path / "kept"
    monkeypatch.setattr(cifar_experiments, "REFERENCE", kept)
    monkeypatch.setattr(cifar_experiments, "keep", lambda folder, name: keep(folder, name, kept))
    command = ["lrn", "--epochs", "3", "--only", "conv-local-11pct-first", "--seeds", "0"]
    cifar_experiments.main([*command, "1"])
    names = [f"lrn-conv-local-11pct-first-3epochs-seed{seed}" for seed in (0, 1)]
    assert sorted(path.name for path in kept.iterdir()) == names
    assert "9 shifts" in capsys.readouterr().out
    monkeypatch.setattr(cifar_experiments, "train_cifar", lambda *_: pytest.fail("trained"))
    cifar_experiments.main(command)
    assert capsys.readouterr().out == f"{names[0]} is kept in {kept}; --again trains it anew, into runs/ only\n"
    with pytest.raises(SystemExit):
        cifar_experiments.main([*command, "--precision", "bf16"])
    assert "precision = 'fp32' there, and 'bf16' asked for" in capsys.readouterr().err
    for more in (["--precision", "bf16"], ["--compiled"]):  # another net, or another seed: they would be compared
        for other in (["conv-local-13pct", "--seeds", "0"], ["conv-local-11pct-first", "--seeds", "2"]):
            with pytest.raises(SystemExit):
                cifar_experiments.main(["lrn", "--epochs", "3", *more, "--only", *other])
            assert f"{names[0]} holds another run than the one that is asked for" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cifar_experiments.main(["figure1", "--only", "tan"])
