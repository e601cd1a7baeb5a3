"""GoogLeNet against AlexNet: what the runs are, what is kept of them, and what is read from it."""

import re
from types import SimpleNamespace

import pytest

from alexnet_lib.architecture import skeleton as alexnet_skeleton
from alexnet_lib.experiments import ablations, sequel
from alexnet_lib.runs.records import Record
from alexnet_lib.runs.settings import resolve
from alexnet_lib.training import load_dataset
from tests.small_runs import NAME, prepare_place


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Both nets' short runs with two seeds, of one epoch on tiny pictures."""
    folder = tmp_path_factory.mktemp("sequel")
    with pytest.MonkeyPatch.context() as patch:
        prepare_place(folder, patch)
        sequel.run_all(NAME, 1, (0, 1), ("AlexNet, fewer epochs", "GoogLeNet, fewer epochs"), folder / "kept")
        yield folder / "kept"


def test_a_net_costs_the_same_at_any_rate():
    """The names of NETS say how a net is trained, too."""
    assert [name for name in sequel.NETS if sequel.is_alexnet(name)] == ["AlexNet", "AlexNet, 5 × rate"]
    for net in ("AlexNet", "GoogLeNet"):
        assert sequel.work_of(f"{net}, 5 × rate") == sequel.work_of(net)
    table = sequel.comparison(sequel.kept_runs("embedded")).set_index("")
    sizes = table[["parameters", "million multiply-adds"]]
    for net in ("AlexNet", "GoogLeNet"):
        assert sizes.loc[f"{net}, 5 × rate, fewer epochs"].equals(sizes.loc[f"{net}, fewer epochs"])
    assert sizes["parameters"]["AlexNet"] > 3 * sizes["parameters"]["GoogLeNet, fewer epochs"]


def test_equal_compute_means_a_quarter_of_the_epochs():
    ratio = sequel.work_of("GoogLeNet") / sequel.work_of("AlexNet")
    assert 3.8 < ratio < 4.0
    epochs = {run: sequel.settings_of(run, "embedded", 45, 0).epochs for run in sequel.RUNS}
    assert set(epochs.values()) == {45, 12}
    assert abs(epochs["GoogLeNet, fewer epochs"] * ratio / epochs["AlexNet"] - 1) < 0.05


def test_the_runs_differ_in_the_net_alone(place):
    store = load_dataset(NAME)["train"]
    one, other = (resolve(sequel.settings_of(run, NAME, 4, 3), store) for run in ("AlexNet", "GoogLeNet"))
    different = {name for name in vars(one) if getattr(one, name) != getattr(other, name)}
    assert different == {"net", "without", "initialisation", "name"}
    assert (one.width, one.image_size) == (other.width, other.image_size) == (0.25, 64)


def test_each_variant_changes_one_thing(place):
    store = load_dataset(NAME)["train"]
    plain, *others = (
        resolve(sequel.settings_of(f"GoogLeNet{variant}", NAME, 4, 3), store)
        for variant in ("", ", no auxiliaries", ", batch norm", ", batch norm, 5 × rate")
    )
    different = [{n for n in vars(plain) if getattr(plain, n) != getattr(run, n)} - {"name"} for run in others]
    assert different == [{"without"}, {"normalization"}, {"normalization", "learning_rate"}]
    assert len({path.name for run in sequel.RUNS for path in [sequel.folder_of(run, "embedded", 0)]}) == len(
        sequel.RUNS
    )


def test_a_race_is_of_small_nets_on_small_pictures_and_one_rate_but_the_fast(place):
    store = load_dataset(NAME)["train"]
    runs = {name: resolve(run, store) for name, run in sequel.race(NAME, 1, 2).items()}
    assert list(runs) == list(sequel.NETS)
    assert {(run.width, run.image_size, run.seed, run.experiment) for run in runs.values()} == {
        (0.125, 64, 2, "sequel")
    }
    plain, fast = (
        {run.learning_rate for name, run in runs.items() if ("5 ×" in name) == five} for five in (False, True)
    )
    assert len(plain) == len(fast) == 1 and fast.pop() == pytest.approx(5 * plain.pop())


def test_a_race_on_large_pictures_leaves_out_no_pool(monkeypatch):
    monkeypatch.setattr(sequel, "load_dataset", lambda name: {"train": SimpleNamespace(crop=224)})
    runs = sequel.race("somewhere", 1)
    assert runs["GoogLeNet"].without is None and runs["GoogLeNet, no auxiliaries"].without == "auxiliaries"
    assert {run.width for run in runs.values()} == {1.0}


def test_the_long_runs_of_alexnet_are_those_of_the_ablations():
    assert sequel.folder_of("AlexNet", "embedded", 1).name == "ablation-baseline-embedded-seed1"
    assert sequel.folder_of("AlexNet", "cifar10", 1).name == "sequel-alexnet-long-cifar10-seed1"
    runs = sequel.kept_runs("embedded")
    assert list(runs["AlexNet"]) == [0, 1, 2] and runs["AlexNet"][0].config["epochs"] == 45


def test_runs_are_kept_once_and_read_again(kept, monkeypatch):
    runs = sequel.kept_runs(NAME, kept)
    assert {name: list(by_seed) for name, by_seed in runs.items()} == {
        "AlexNet, fewer epochs": [0, 1],
        "GoogLeNet, fewer epochs": [0, 1],
    }
    monkeypatch.setattr(sequel, "train", lambda *_: pytest.fail("trained again"))
    sequel.run_all(NAME, 1, (0, 1), tuple(runs), kept)
    assert sequel.compared(kept).keys() == {"built-in pictures"}


def test_a_kept_run_of_other_settings_is_not_taken_for_the_one_that_is_asked_for(kept):
    with pytest.raises(ValueError, match="epochs = 1 there, and . asked for"):
        sequel.run_all(NAME, 20, (0,), ("GoogLeNet, fewer epochs",), kept)


def test_a_run_is_not_kept_beside_a_series_of_other_settings(kept, monkeypatch):
    monkeypatch.setattr(sequel, "train", lambda *_: pytest.fail("trained"))
    with pytest.raises(ValueError, match=r"sequel-alexnet-short-embedded-seed\d holds .*epochs = 1 there, and . asked"):
        sequel.run_all(NAME, 20, (2, 1), ("GoogLeNet",), kept)


def test_a_seed_of_alexnet_has_the_tables_by_which_ablations_compare_it(kept, tmp_path):
    sequel.run_all(NAME, 1, [3], ["AlexNet"], tmp_path)
    assert list(ablations.results(NAME, ["baseline"], tmp_path).index) == [("baseline", 3)]
    assert list(ablations.silenced_errors(NAME, "baseline", tmp_path)) == [3]


def test_a_net_that_is_not_kept_is_named_with_its_command(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="no run of GoogLeNet on embedded is kept; `python -m .* --only googlenet"
    ):
        sequel.gain("GoogLeNet", "AlexNet", folder=tmp_path)


def test_the_command_for_what_is_not_kept_is_of_the_series_that_is(kept, monkeypatch):
    """One of other epochs would be refused."""
    with pytest.raises(FileNotFoundError) as told:
        sequel.gain("GoogLeNet, batch norm", "AlexNet, fewer epochs", NAME, kept)
    epochs = int(re.search("--epochs ([0-9]+) --only googlenet-batch-norm-long`", str(told.value))[1])
    monkeypatch.setattr(sequel, "train", lambda *_: pytest.skip("begun"))
    with pytest.raises(pytest.skip.Exception):
        sequel.run_all(NAME, epochs, [0], ["GoogLeNet, batch norm"], kept)
    of_photographs = sequel.kept_runs("imagenette73")
    assert sequel.long_epochs(of_photographs) == 15 and sequel.long_epochs(sequel.kept_runs("embedded")) == 45
    short = {name: runs for name, runs in of_photographs.items() if name.endswith("fewer epochs")}
    assert sequel.settings_of("AlexNet, fewer epochs", "imagenette73", sequel.long_epochs(short), 0).epochs == 4


def test_errors_are_compared_by_seed(kept):
    runs = {name: list(by_seed.values()) for name, by_seed in sequel.kept_runs(NAME, kept).items()}
    points = [[100 * r.summary["metrics"]["val"]["1 view"]["top1"] for r in records] for records in runs.values()]
    mean, _, count = sequel.gain("GoogLeNet, fewer epochs", "AlexNet, fewer epochs", NAME, kept)
    assert count == 2 and mean == pytest.approx(sum(points[0]) / 2 - sum(points[1]) / 2)


def test_errors_by_epoch_are_those_of_the_histories(kept):
    tables = sequel.errors_by_epoch(NAME, "short", kept)
    assert list(tables) == ["AlexNet", "GoogLeNet"] and not sequel.errors_by_epoch(NAME, "long", kept)
    record = Record.open(kept / "sequel-googlenet-short-embedded-seed1")
    assert tables["GoogLeNet"].loc[1, 1] == 100 * record.history.query("split == 'val'")["top1"].item()


def test_the_table_has_the_net_that_answers_and_all_its_work(kept):
    table = sequel.comparison(sequel.kept_runs(NAME, kept)).set_index("")
    own = table.loc["GoogLeNet, fewer epochs"]
    record = Record.open(kept / "sequel-googlenet-short-embedded-seed0")
    assert own["parameters"] < record.summary["parameters"] and own["seeds"] == 2
    small = alexnet_skeleton("paper", 3, width=0.25, image_size=64)
    assert table.loc["AlexNet, fewer epochs", "parameters"] == sum(p.numel() for p in small.parameters())
    work = sequel.curve(record)["work"]
    assert work.tolist() == pytest.approx([3 * sequel.work_of("GoogLeNet", 3) * 48 / 1e12])


def test_work_is_that_of_the_crops_that_are_seen(kept):
    assert sequel.work_of("AlexNet", 10, 224) > 10 * sequel.work_of("AlexNet", 10)
    ratio = sequel.work_of("GoogLeNet", 10, 224) / sequel.work_of("AlexNet", 10, 224)
    assert 3.7 < ratio < 3.9
    short = sequel.settings_of("GoogLeNet, fewer epochs", NAME, 100, 0, 224).epochs
    assert short == round(100 / ratio)
    record = Record.open(kept / "sequel-googlenet-short-embedded-seed0")
    larger = SimpleNamespace(history=record.history, summary=record.summary, config=record.config | {"image_size": 224})
    expected = 3 * sequel.work_of("GoogLeNet", 3, 224) * 48 / 1e12
    assert sequel.curve(larger)["work"].tolist() == pytest.approx([expected])


def test_kept_runs_are_named_and_trained_again_beside_them(kept, monkeypatch, capsys):
    real, run = sequel.folder_of, "GoogLeNet, fewer epochs"
    monkeypatch.setattr(sequel, "folder_of", lambda run, dataset, seed, *_: real(run, dataset, seed, kept))
    command = f"--dataset {NAME} --epochs 1 --only {sequel.SHORT_NAMES[run]} --seeds"
    sequel.main([*command.split(), "0", "1"])
    names = [f"sequel-googlenet-short-{NAME}-seed{seed}" for seed in (0, 1)]
    assert [line.split(" is kept in ")[0] for line in capsys.readouterr().out.splitlines()] == names
    sequel.main([*command.split(), "1", "--again"])
    error = f"{sequel.error_of(sequel.kept_runs(NAME, kept)[run][1]):.2f} %"
    assert f"{names[1]}: top-1 error {error} as it is kept, {error} again, in " in capsys.readouterr().out
