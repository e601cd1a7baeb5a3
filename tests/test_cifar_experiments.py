"""§3.1 and §3.3: the runs behind Figure 1, on tables made by hand, the settings of notebooks 02 and 03, four slopes."""

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from alexnet_lib.cifar_nets import ACTIVATIONS, activation_table
from alexnet_lib.experiments import cifar_experiments
from alexnet_lib.experiments.cifar_experiments import (
    at_best_rate,
    epochs_by_run,
    speedup,
    speedup_table,
    training_curves,
)
from alexnet_lib.experiments.lrn_records import LRN_PAIRS, lrn_pair
from alexnet_lib.figures import curves as figures
from alexnet_lib.files import write_json
from alexnet_lib.runs.fields import check
from alexnet_lib.runs.notebooks import LrnSettings


class FakeStore(list):
    meta = {}


RUN = ["net", "initialisation", "activation", "learning_rate", "seed", "precision"]
KINDS = [*RUN, "ended", "epoch", "training_error"]


def runs(*rows) -> pd.DataFrame:
    """A table of runs, each (activation, rate, seed, how it ended, training errors)."""
    expanded = [
        ("19pct", "published", activation, rate, seed, "fp32", ended, epoch, error)
        for activation, rate, seed, ended, errors in rows
        for epoch, error in enumerate(errors, start=1)
    ]
    return pd.DataFrame(expanded, columns=KINDS)


@pytest.fixture
def table():
    """ReLU needs 2 epochs at its best rate, 0.01, and 3 with another seed; tanh needs 8 and does not get there."""
    return runs(
        ("tanh", 0.001, 0, "target", [0.9] * 6 + [0.35, 0.25]),
        ("tanh", 0.001, 1, "schedule", [0.9, 0.8]),
        ("relu", 0.001, 0, "target", [0.9, 0.8, 0.45, 0.25]),
        ("relu", 0.01, 0, "target", [0.5, 0.25]),
        ("relu", 0.01, 1, "target", [0.5, 0.4, 0.25]),
        ("relu", 0.03, 0, "diverged", [math.nan]),
    )


@pytest.mark.parametrize("ask", [lambda: cifar_experiments.lrn(3, [7]), lambda: cifar_experiments.figure1(["19pct"])])
def test_generated_pictures_never_stand_in_for_cifar10(ask, tmp_path, monkeypatch):
    """What is kept under its name counts as evidence."""
    monkeypatch.setenv("ALEXNET_DATA", str(tmp_path))
    monkeypatch.setenv("ALEXNET_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(cifar_experiments, "keep", lambda *_: pytest.fail("kept"))
    with pytest.raises(FileNotFoundError, match="cifar10"):
        ask()


def test_epochs_are_counted_by_run(table):
    found = epochs_by_run(table).set_index(["activation", "learning_rate", "seed"])["epochs"]
    assert found["relu", 0.01, 0] == 2 and found["relu", 0.001, 0] == 4 and found["tanh", 0.001, 0] == 8
    assert np.isinf(found["tanh", 0.001, 1]) and np.isinf(found["relu", 0.03, 0])


def test_the_best_rate_is_that_of_seed_0(table):
    best = at_best_rate(epochs_by_run(table))
    assert best[["activation", "seed"]].values.tolist() == [["relu", 0], ["relu", 1], ["tanh", 0], ["tanh", 1]]
    assert set(best[best["activation"] == "relu"]["learning_rate"]) == {0.01}


def test_where_no_rate_got_there_the_nearest_counts(table):
    near = runs(("tanh", 0.01, 0, "gave up", [0.6, 0.3]), ("tanh", 0.03, 0, "gave up", [0.5, 0.4]))
    best = at_best_rate(epochs_by_run(pd.concat([table[table["activation"] == "relu"], near])))
    assert set(best[best["activation"] == "tanh"]["learning_rate"]) == {0.01}


def test_the_speedup_pairs_seeds_and_counts_a_miss_as_the_longest_run(table):
    mean, deviation, n = speedup(table, "19pct", "published")
    assert (mean, n) == (pytest.approx(np.mean([8 / 2, 40 / 3])), 2) and math.isnan(deviation)
    longer = pd.concat([table, runs(("tanh", 0.001, 2, "gave up", [0.9] * 57), ("relu", 0.01, 2, "target", [0.25]))])
    assert speedup(longer, "19pct", "published")[0] == pytest.approx(np.mean([8 / 2, 40 / 3, 57]))
    reached = table[(table["activation"] == "relu") | (table["seed"] == 0)]
    both = pd.concat([reached, runs(("tanh", 0.001, 1, "target", [0.9, 0.8, 0.7, 0.6, 0.5, 0.25]))])
    assert speedup(both, "19pct", "published") == pytest.approx((3.0, np.std([4, 2], ddof=1), 2))


def test_a_relu_that_did_not_get_there_is_no_measure(table):
    never = runs(("relu", 0.01, 2, "gave up", [0.9] * 60), ("tanh", 0.001, 2, "target", [0.9, 0.25]))
    with pytest.raises(ValueError, match="a run with ReLU of net 19pct .* didn't get to 0.25"):
        speedup(pd.concat([table, never]), "19pct", "published")


def test_the_speedup_wants_both_activations(table):
    with pytest.raises(ValueError, match="runs of relu, tanh with net 19pct .* want logistic, relu"):
        speedup(table, "19pct", "published", "logistic")


def test_the_table_for_people_says_what_was_missed(table):
    shown = speedup_table(table).set_index("units")
    assert shown.loc["relu", "epochs"] == "2.5 ± 0.7" and shown.loc["relu", "times ReLU's"] == ""
    assert shown["best rate"].to_dict() == {"relu": "0.01", "tanh": ""}
    assert set(shown["precision"]) == {"fp32"}
    assert shown.loc["tanh", "epochs"] == "more than 40" and shown.loc["tanh", "times ReLU's"].startswith(
        "more than 8.7"
    )


def test_curves_are_those_of_the_training_split():
    history = pd.DataFrame({"split": ["train", "val"], "epoch": [1, 1], "top1": [0.5, 0.6], "saturated1": [0.1, None]})
    assert training_curves(history).to_dict("records") == [{"saturated1": 0.1, "epoch": 1, "training_error": 0.5}]


def test_each_of_several_nets_is_trained(tmp_path, monkeypatch):
    trained = []

    def train(run):
        trained.append((run.net, run.seed))
        return SimpleNamespace(folder=None, summary={"metrics": {"val": {}}})

    monkeypatch.setattr(cifar_experiments, "train_cifar", train)
    monkeypatch.setattr(cifar_experiments, "keep", lambda *_: None)
    monkeypatch.setattr(cifar_experiments, "REFERENCE", tmp_path)
    nets = ("conv-local-13pct", "conv-local-11pct-first")
    cifar_experiments.main(["lrn", "--epochs", "520", "--seeds", "0", "1", "--only", *nets])
    assert trained == [(net, seed) for seed in (0, 1) for net in nets]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["lrn", "--only", "published"], "lrn has no run of published"),
        (["figure1", "--only", "relu", "tanh"], "no run has all"),
        (["crossed", "--only", "conv-local-13pct"], "no run has all"),
    ],
)
def test_what_no_run_has_is_named(monkeypatch, capsys, asked, told):
    monkeypatch.setattr(cifar_experiments, "train_cifar", lambda *_: pytest.fail("trained"))
    with pytest.raises(SystemExit):
        cifar_experiments.main(asked)
    assert told in capsys.readouterr().err


def test_weights_and_scale_are_crossed(monkeypatch, tmp_path):
    asked = []

    def trained(run):
        asked.append(run)
        return SimpleNamespace(history=pd.DataFrame({"split": ["train"], "epoch": [4], "top1": [run.learning_rate]}))

    monkeypatch.setattr(cifar_experiments, "train_cifar", trained)
    monkeypatch.setattr(cifar_experiments, "resolve", lambda run, store: run)
    monkeypatch.setattr(cifar_experiments, "load_dataset", lambda name: {"train": FakeStore()})
    monkeypatch.setattr(cifar_experiments, "REFERENCE", tmp_path)
    cifar_experiments.crossed(["tanh"])
    assert not list(tmp_path.iterdir())  # a part of them is not kept
    asked.clear()
    cifar_experiments.crossed()
    kinds = {(run.initialisation, run.input_divisor, run.activation) for run in asked}
    assert kinds == set(cifar_experiments.BEGIN)
    assert {run.epochs for run in asked} == {cifar_experiments.CROSSED_EPOCHS}
    assert {(run.weight_decay, run.target_error, run.normalization) for run in asked} == {(0.0, None, None)}
    kept = pd.read_csv(tmp_path / "figure1-crossed" / "runs.csv")
    assert len(kept) == len(asked) and set(kept["learning_rate"]) == {run.learning_rate for run in asked}
    lowest = kept.groupby(cifar_experiments.CROSSED)["learning_rate"].min()
    assert set(lowest) == {cifar_experiments.CROSSED_RATES[0]}  # the lower the better here


def test_the_four_combinations_are_kept():
    kept = cifar_experiments.crossed_reference()
    rates = kept.groupby(cifar_experiments.CROSSED)["learning_rate"]
    assert len(rates) == 8 and rates.size().min() >= 3 and kept["training_error"].dropna().between(0, 1).all()


def test_slopes_are_those_of_the_formulas():
    x = torch.tensor([-2.0, 0.5, 3.0], dtype=torch.float64)
    found = activation_table(x).pivot(index="x", columns="activation", values="slope")
    tanh, logistic = np.tanh(x.numpy()), 1 / (1 + np.exp(-x.numpy()))
    expected = {"relu": x.numpy() > 0, "tanh": 1 - tanh**2, "logistic": logistic * (1 - logistic)}
    expected["abs_tanh"] = np.sign(x.numpy()) * (1 - tanh**2)
    for name in ACTIVATIONS:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-12)


def test_the_smallest_speedup(table):
    scaled = table[table["activation"] == "relu"].assign(initialisation="fan_in")
    faster = runs(("tanh", 0.01, 0, "target", [0.25])).assign(initialisation="fan_in")
    both = pd.concat([table, scaled, faster], ignore_index=True)
    assert speedup(both, "19pct", "fan_in")[0] == cifar_experiments.smallest_speedup(both)[0] == 0.5


def test_runs_in_two_precisions_are_not_mixed(table):
    other = table.assign(precision="bf16" if (table["precision"] == "fp32").all() else "fp32")
    assert speedup(pd.concat([table, other]), "19pct", table["initialisation"].iloc[0]) == speedup(
        table, "19pct", table["initialisation"].iloc[0]
    )


def test_a_summary_replaces_the_runs_that_were_done_again_and_keeps_the_others(monkeypatch, tmp_path, table):
    measured = [*("training_loss", "error"), *(f"saturated{i}" for i in (1, 2, 3, 4))]
    table = table.assign(**dict.fromkeys(measured, math.nan))
    again = runs(("tanh", 0.001, 1, "target", [0.25])).assign(**dict.fromkeys(measured, math.nan))
    monkeypatch.setattr(cifar_experiments, "REFERENCE", tmp_path)
    monkeypatch.setattr(cifar_experiments, "load_dataset", lambda name: {"train": FakeStore()})
    for written in (table, again):
        monkeypatch.setattr(cifar_experiments, "figure1_table", lambda small, written=written: written)
        cifar_experiments.summary(small=True)
    kept = epochs_by_run(cifar_experiments.figure1_reference("figure1-small"))
    kept = kept.set_index(["activation", "learning_rate", "seed"])
    assert len(kept) == 6 and kept.loc[("tanh", 0.001, 1), "ended"] == "target"
    assert kept["epochs"].drop(("tanh", 0.001, 1)).to_dict() == (
        epochs_by_run(table).set_index(kept.index.names)["epochs"].drop(("tanh", 0.001, 1)).to_dict()
    )


def test_the_bracket_stands_between_the_curves(table):
    seeds = {unit: [rows] for unit, rows in table[table["learning_rate"] == 0.001].groupby("activation")}
    place = figures.figure_1({"raw": seeds}, 0.25, {"raw": (4, 8, "twice")}).axes[0]
    assert [text.get_text() for text in place.get_legend().get_texts()] == ["ReLU", "tanh"]
    assert "twice" in [text.get_text() for text in place.texts]
    assert [4, 8] in [list(line.get_xdata()) for line in place.lines]


def test_the_best_rate_is_filled(table):
    last = table[table["ended"] == "target"].groupby(["activation", "learning_rate", "seed"]).nth(1).reset_index()
    place = figures.error_by_rate({"raw": last}, 2).axes[0]
    filled = [line for line in place.lines if line.get_linestyle() == "None"]
    assert [line.get_xdata().tolist() for line in filled] == [[0.01, 0.01], [0.001]]


def test_batches_are_averaged():
    place = figures.by_batch({"": {"relu": [1.0, 0.0, 1.0, 0.0], "mine": [0.5] * 4}}, 0.9, over=2).axes[0]
    lines = {line.get_label(): line for line in place.lines}
    assert lines["ReLU"].get_xdata().tolist() == [2, 3, 4] and lines["ReLU"].get_ydata().tolist() == [50, 50, 50]
    assert lines["mine"].get_linestyle() != lines["ReLU"].get_linestyle()


def test_saturated_outputs_stand_at_the_ends():
    place = figures.outputs({"net": np.array([-1.0, -0.99, 0.0, 1.0])}, 0.97).axes[0]
    heights = [bar.get_height() for bar in place.containers[0]]
    assert (heights[0], heights[-1], sum(heights)) == (50, 25, 100)


def test_the_notebooks_two_nets_differ_in_the_normalisation_only():
    asked = lrn_pair(check(LrnSettings, {"dataset": "embedded32", "epochs": 3, "seed": 7}))
    assert dataclasses.replace(asked["without"], net=LRN_PAIRS["clean"][1]) == asked["with"]
    assert (asked["with"].stages, asked["with"].seed, asked["with"].image_size) == (((3, 1.0),), 7, 16)
    large = lrn_pair(LrnSettings(dataset="cifar10"))["without"]
    assert (large.stages, large.image_size, large.batch_size) == (((20, 1.0),), 24, 128)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dataset": "embedded"}, "dataset = 'embedded'; accepted is 'auto', or 'embedded32' or 'cifar10'"),
        ({"image_size": 40}, "image_size = 40; accepted is 'auto', or less than or equal to 32"),
        (
            {"epohcs": 3},
            "unknown parameter 'epohcs'; did you mean 'epochs'? accepted are dataset, seed, device, image_size",
        ),
    ],
)
def test_the_notebooks_parameters_are_checked(values, message):
    with pytest.raises(ValueError) as error:
        check(LrnSettings, values)
    assert message in str(error.value)


def test_a_table_of_other_pictures_is_left_alone(monkeypatch, tmp_path, table):
    """As on a machine without CIFAR-10, where "auto" means the generated pictures."""
    (folder := tmp_path / "figure1").mkdir()
    table.to_csv(folder / "runs.csv", index=False)
    write_json(folder / "about.json", {"dataset": "cifar10", "images": 50_000, "lossy_pictures": True})
    before = (folder / "runs.csv").read_bytes()
    monkeypatch.setattr(cifar_experiments, "REFERENCE", tmp_path)
    monkeypatch.setattr(cifar_experiments, "pictures_of", lambda small: "embedded32")
    with pytest.raises(ValueError, match="figure1 is of other pictures: {'dataset': 'cifar10', .*; move it away first"):
        cifar_experiments.summary()
    assert (folder / "runs.csv").read_bytes() == before
