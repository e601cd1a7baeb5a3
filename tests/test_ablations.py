"""The runs behind §3.4 and §4.2: what they keep, what they skip, and what is read from them."""

import dataclasses
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from small_runs import NAME, prepare_place, settings

from alexnet_lib.architecture import layer_shapes, skeleton
from alexnet_lib.dataset import load_dataset
from alexnet_lib.evaluation import evaluate, mean_of
from alexnet_lib.experiments import ablations, sequel, trained
from alexnet_lib.experiments.variants import changes
from alexnet_lib.runs.records import load_checkpoint
from alexnet_lib.runs.settings import TrainSettings, resolve
from alexnet_lib.training import load_net


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Two seeds of the two dropout runs, with the folder that keeps them."""
    folder = tmp_path_factory.mktemp("ablations")
    with pytest.MonkeyPatch.context() as patch:
        prepare_place(folder, patch)
        ablations.run_all("dropout", settings(epochs=2), seeds=(0, 1), folder=folder / "kept")
        yield folder / "kept"


def test_variants_are_settings_of_a_run():
    for variant in ablations.VARIANTS:
        TrainSettings(**changes(variant, epochs=15))
    assert {v for variants in ablations.QUESTIONS.values() for v in variants} == set(ablations.VARIANTS)


@pytest.mark.parametrize("variant", ablations.VARIANTS)
def test_a_variant_differs_from_the_baseline_in_what_it_names_alone(variant):
    """At the size of the runs on photographs: 73 pixels, crops of 64, a quarter of the width, ten classes."""
    usual = TrainSettings(width=0.25, image_size=64)
    asked = changes(variant, epochs=15)
    run = dataclasses.replace(usual, **asked)
    changed = {f.name for f in dataclasses.fields(run) if getattr(run, f.name) != getattr(usual, f.name)}
    assert changed == set(asked) and bool(asked) == (variant != "baseline")
    net = skeleton(run.net, 10, **run.changes())
    layers = [name for name, _ in net.named_children()]
    assert layer_shapes(net, 64)["fc8"] == (10,)
    assert (run.without or "no layer") not in layers
    assert ("norm1" in layers) == (variant not in ("no-lrn", "without-conv1"))


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("variant", ablations.VARIANTS)
def test_a_variant_is_its_baseline_less_its_part_or_is_refused(variant, many, kept, monkeypatch):
    """Many pictures have the paper's recipe, whose weights are as printed, and which nothing is derived from."""
    monkeypatch.setattr("alexnet_lib.runs.settings.FEW", 1 if many else 10**6)
    asked, store = settings(epochs="auto", batch_size="auto"), load_dataset(NAME)["train"]
    base = resolve(asked, store)
    assert base.recipe == ("paper" if many else "small")
    if many and variant in ("no-decay", "steady-rate", "init-printed"):
        with pytest.raises(ValueError, match="less one thing; found recipe = 'paper'|changes nothing"):
            ablations.variant_of(asked, variant, store)
        return
    run = ablations.variant_of(asked, variant, store)
    unlike = {f.name for f in dataclasses.fields(run) if getattr(run, f.name) != getattr(base, f.name)} - {"name"}
    assert unlike == set(changes(variant, base.epochs))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["decay", "--recipe", "stepped"], "no-decay is the recipe 'small' less one thing; found recipe = 'stepped'"),
        (["dropout", "--epochs", "0"], "argument --epochs: 0; accepted are whole numbers from 1 to 4,294,967,295"),
    ],
)
def test_no_run_begins_where_a_question_cannot_be_answered(asked, said, kept, monkeypatch, capsys):
    monkeypatch.setattr(ablations, "run_variant", lambda *_: pytest.fail("trained"))
    with pytest.raises(SystemExit):
        ablations.main(asked)
    assert re.search(said, capsys.readouterr().err)


def test_what_has_no_dropout_cannot_lose_it(kept):
    said = "no-dropout should change dropout of the baseline, and changes nothing: dropout is 0.0 already"
    with pytest.raises(ValueError, match=re.escape(said)):
        ablations.variant_of(settings(dropout=0.0), "no-dropout", load_dataset(NAME)["train"])


def test_averaged_weights_are_tested_on_training_images_too(kept):
    asked = settings(
        recipe="googlenet", initialisation="rescaled", epochs=4, learning_rate=0.01, experiment="ablations"
    )
    record = ablations.run_variant(asked, "baseline")
    store = load_dataset(NAME)["train"]
    expected = evaluate(load_net(record), store, mean_of(store, 64))
    last = pd.read_csv(record.folder / ablations.AS_THEY_ARE).iloc[-1]
    assert all(last[name] == pytest.approx(value, rel=1e-5) for name, value in expected.items())
    state = load_checkpoint(record.folder)
    net = load_net(record)
    net.load_state_dict(state["net"])
    assert evaluate(net, store, mean_of(store, 64))["loss"] != pytest.approx(expected["loss"], rel=1e-3)


def test_a_run_on_a_folder_bears_the_folders_name():
    assert ablations.name_of("baseline", "/pictures/of/mine", 0) == "ablation-baseline-mine-seed0"
    assert sequel.folder_of("GoogLeNet", "/pictures/of/mine", 0).name == "sequel-googlenet-long-mine-seed0"
    assert trained.folder_of("/pictures/of/mine").name == "trained-mine"


def test_every_run_is_kept_with_its_tables(kept):
    names = {ablations.name_of(v, NAME, s) for v in ("baseline", "no-dropout") for s in (0, 1)}
    assert {path.name for path in kept.iterdir()} == names
    for path in kept.iterdir():
        files = {file.name for file in path.iterdir()}
        assert {"config.json", "history.csv", ablations.AS_THEY_ARE, ablations.SILENCED} <= files
        assert pd.read_csv(path / ablations.AS_THEY_ARE)["epoch"].tolist() == [1, 2]


def test_finished_runs_are_skipped(kept, monkeypatch):
    monkeypatch.setattr(ablations, "run_variant", lambda *_: pytest.fail("trained again"))
    ablations.run_all("dropout", settings(epochs=2), seeds=(0, 1), folder=kept)
    ablations.run_all("pooling", settings(epochs=2), seeds=(0,), only=("baseline",), folder=kept)


COMMAND = ["dropout", "--only", "baseline", "--epochs", "2", "--width", "0.05", "--batch-size", "12", "--seeds", "0"]


def test_a_kept_run_is_named_and_trained_again_beside_it(kept, monkeypatch, capsys):
    monkeypatch.setattr(ablations, "REFERENCE", kept)
    name = ablations.name_of("baseline", NAME, 0)
    before = {path: path.read_bytes() for path in kept.rglob("*.*")}
    ablations.main(COMMAND)
    assert capsys.readouterr().out == f"{name} is kept in {kept}; --again trains it anew, into runs/ only\n"
    ablations.main([*COMMAND, "--again"])
    error = f"{100 * ablations.kept_runs(NAME, 'baseline', kept)[0].summary['metrics']['val']['1 view']['top1']:.2f} %"
    again = rf"{name}: top-1 error {error} as it is kept, {error} again, in .*runs.again.{NAME}-paper-small-2epochs-.*"
    assert re.fullmatch(again, capsys.readouterr().out.strip())
    assert {path: path.read_bytes() for path in kept.rglob("*.*")} == before


def test_a_kept_run_of_other_settings_is_not_trained_again(kept, monkeypatch, capsys):
    monkeypatch.setattr(ablations, "REFERENCE", kept)
    monkeypatch.setattr(ablations.common, "train", lambda *_: pytest.fail("trained"))
    with pytest.raises(SystemExit):
        ablations.main([*COMMAND, "--again", "--recipe", "stepped"])
    told = capsys.readouterr()
    assert "recipe = 'small' there, and 'stepped' asked for" in told.err and told.out == ""


def test_a_variant_that_the_question_does_not_ask_for_is_named(tmp_path):
    with pytest.raises(ValueError, match="dropout doesn't ask for one-gpu; its variants are baseline, no-dropout"):
        ablations.run_all("dropout", settings(epochs=2), seeds=(0,), only=("one-gpu",), folder=tmp_path)


def test_a_folder_whose_name_only_begins_like_a_series_is_not_of_it(kept, tmp_path):
    series = ablations.kept_runs(NAME, "no-dropout", kept)
    for record in series.values():
        shutil.copytree(record.folder, tmp_path / record.folder.name)
    shutil.copytree(series[0].folder, tmp_path / f"{series[0].folder.name}-again")
    found = ablations.kept_runs(NAME, "no-dropout", tmp_path)
    assert [record.folder.name for record in found.values()] == [record.folder.name for record in series.values()]


def test_a_kept_run_of_other_settings_is_not_taken_for_the_one_that_is_asked_for(kept):
    with pytest.raises(ValueError, match="epochs = 2 there, and 4 asked for"):
        ablations.run_all("dropout", settings(epochs=4), seeds=(0,), folder=kept)


def test_a_variant_is_not_kept_beside_a_series_of_other_settings(kept, monkeypatch):
    monkeypatch.setattr(ablations, "run_variant", lambda *_: pytest.fail("trained"))
    for question, variant in (("parts", "no-lrn"), ("schedule", "shorter")):
        with pytest.raises(ValueError, match=r"ablation-baseline-.*-seed\d holds .*epochs = 2 there, and 3 asked for"):
            ablations.run_all(question, settings(epochs=3), seeds=(2, 1), only=(variant,), folder=kept)


def test_another_seed_of_other_settings_does_not_join_a_series(kept, monkeypatch):
    """It would count in every mean."""
    monkeypatch.setattr(ablations, "run_variant", lambda *_: pytest.fail("trained"))
    with pytest.raises(ValueError, match=r"ablation-baseline-.* holds .*epochs = 2 there, and 1 asked for"):
        ablations.run_all("dropout", settings(epochs=1), seeds=(7,), folder=kept)


def test_a_folder_that_holds_no_more_than_other_settings_is_refused_before_the_work(kept, tmp_path, monkeypatch):
    monkeypatch.setattr(ablations, "run_variant", lambda *_: pytest.fail("trained"))
    (half := tmp_path / ablations.name_of("baseline", NAME, 0)).mkdir()
    shutil.copy(kept / half.name / "config.json", half)
    with pytest.raises(ValueError, match="epochs = 2 there, and 1 asked for"):
        ablations.run_all("dropout", settings(epochs=1), seeds=(0,), folder=tmp_path)


def test_a_series_of_several_settings_has_no_mean(kept, tmp_path):
    ablations.run_all("schedule", settings(epochs=1), seeds=(9,), only=("baseline",), folder=tmp_path)
    shutil.copytree(kept / (name := ablations.name_of("baseline", NAME, 0)), tmp_path / name)
    with pytest.raises(
        ValueError, match="-seed0 and .*-seed9 differ in more than the seed: epochs = 2 there, and 1 in"
    ):
        ablations.kept_runs(NAME, "baseline", tmp_path)


def test_a_run_that_is_still_being_kept_hides_no_other(kept, tmp_path):
    shutil.copytree(kept, tmp_path / "kept")
    before = ablations.gains(NAME, "no-dropout", folder=tmp_path / "kept")
    (half := tmp_path / "kept" / ablations.name_of("no-dropout", NAME, 8)).mkdir()
    shutil.copy(kept / ablations.name_of("no-dropout", NAME, 0) / "config.json", half)
    assert ablations.gains(NAME, "no-dropout", folder=tmp_path / "kept").equals(before)


def test_what_is_not_kept_is_named_with_its_command(tmp_path):
    for asked in (ablations.histories, ablations.silenced_errors, ablations.averaged_errors, ablations.tinted_errors):
        with pytest.raises(FileNotFoundError, match="no run of no-dropout on .* is kept; `python -m .* --dataset"):
            asked(NAME, "no-dropout", folder=tmp_path)


def test_one_who_follows_a_run_leaves_the_epochs_that_its_trainer_has_tested(kept):
    run = ablations.variant_of(settings(epochs=2, experiment="ablations"), "baseline", load_dataset(NAME)["train"])
    path = ablations.run_variant(run, "baseline").folder / ablations.AS_THEY_ARE
    table = pd.read_csv(path)
    pd.concat([table, table.tail(1).assign(epoch=3)]).to_csv(path, index=False)
    ablations.tester(run, load_dataset(NAME)["train"])()
    assert pd.read_csv(path)["epoch"].tolist() == [1, 2, 3]
    table.to_csv(path, index=False)


def test_a_baseline_is_not_kept_beside_variants_of_other_settings(kept, tmp_path, monkeypatch):
    monkeypatch.setattr(ablations, "run_variant", lambda *_: pytest.fail("trained"))
    name = ablations.name_of("no-dropout", NAME, 0)
    shutil.copytree(kept / name, tmp_path / name)
    with pytest.raises(ValueError, match="ablation-no-dropout-.* holds .*epochs = 2 there, and 1 asked for"):
        ablations.run_all("pooling", settings(epochs=1), seeds=(0,), only=("baseline",), folder=tmp_path)


def test_nets_without_a_part_are_trained_and_kept(kept, tmp_path):
    ablations.run_all("parts", settings(epochs=1), seeds=(0,), only=("one-gpu", "without-conv1"), folder=tmp_path)
    table = ablations.results(NAME, ("one-gpu", "without-conv1"), tmp_path)
    assert len(table) == 2 and table.notna().all(axis=None)


def test_the_baseline_is_half_as_long_again_as_the_shorter_run(tmp_path):
    ablations.run_all("schedule", settings(epochs=3), seeds=(0,), only=("shorter",), folder=tmp_path)
    assert ablations.kept_runs(NAME, "shorter", tmp_path)[0].config["epochs"] == 2


def test_training_images_are_tested_as_they_are(kept):
    record = ablations.run_variant(settings(epochs=2, experiment="ablations", seed=1), "no-dropout")
    store = load_dataset(NAME)["train"]
    expected = evaluate(load_net(record), store, mean_of(store, 64))
    last = pd.read_csv(record.folder / ablations.AS_THEY_ARE).iloc[-1]
    assert all(last[name] == pytest.approx(value, rel=1e-5) for name, value in expected.items())
    assert ablations.final_errors(record)["training"] == pytest.approx(100 * expected["top1"])


def test_an_epoch_whose_test_was_stopped_is_tested_when_the_run_is_asked_for_again(kept, monkeypatch):
    asked, calls, real = settings(epochs=3, experiment="ablations", seed=7), [], ablations.evaluate
    whole = ablations.run_variant(dataclasses.replace(asked, seed=8), "baseline")

    def stopped_at_the_last(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(ablations, "evaluate", stopped_at_the_last)
    with pytest.raises(KeyboardInterrupt):
        ablations.run_variant(asked, "baseline")
    record = ablations.run_variant(asked, "baseline")
    for each in (whole, record):
        rows = pd.read_csv(each.folder / ablations.AS_THEY_ARE)
        assert rows["epoch"].tolist() == [1, 2, 3]
        expected = real(load_net(each), (store := load_dataset(NAME)["train"]), mean_of(store, 64))
        assert rows["loss"].iloc[-1] == pytest.approx(expected["loss"], rel=1e-5)


def test_what_is_tested_bears_the_epoch_of_its_checkpoint(kept):
    """The history is written first, and another process may read it before there is a checkpoint."""
    record = ablations.run_variant(settings(epochs=2, experiment="ablations"), "baseline")
    before = (record.folder / ablations.AS_THEY_ARE).read_bytes()
    early = pd.concat([record.history, record.history.assign(epoch=record.history["epoch"] + 1)])
    ablations.tester(TrainSettings(**record.config), load_dataset(NAME)["train"])(early)
    assert (record.folder / ablations.AS_THEY_ARE).read_bytes() == before


def test_another_runs_table_is_left_alone(kept):
    asked = settings(epochs=2, experiment="ablations", name="mine")
    table = ablations.run_variant(asked, "baseline").folder / ablations.AS_THEY_ARE
    before = table.read_bytes()
    for variant in ("no-dropout", "one-gpu"):
        with pytest.raises(ValueError, match="another run"):
            ablations.run_variant(asked, variant)
    assert table.read_bytes() == before


def test_a_row_of_an_epoch_that_is_repeated_is_written_once(kept):
    record = ablations.run_variant(settings(epochs=2, experiment="ablations"), "baseline")
    run = TrainSettings(**record.config)
    before = (record.folder / ablations.AS_THEY_ARE).read_bytes()
    ablations.tester(run, load_dataset(NAME)["train"])(record.history)
    assert (record.folder / ablations.AS_THEY_ARE).read_bytes() == before


def test_results_and_gains(kept):
    table = ablations.results(NAME, ("baseline", "no-dropout"), kept)
    assert table.index.tolist() == [(v, s) for v in ("baseline", "no-dropout") for s in (0, 1)]
    np.testing.assert_allclose(table["gap"], table["validation"] - table["training"])
    saved = ablations.gains(NAME, "no-dropout", folder=kept)
    by_hand = table.loc["no-dropout", 1]["training"] - table.loc["baseline", 1]["training"]
    assert saved.loc[1, "training"] == pytest.approx(by_hand)
    mean, deviation, count = ablations.spread_of(saved["gap"])
    assert count == 2 and mean == pytest.approx(saved["gap"].mean()) and deviation >= 0


def test_runs_that_are_not_kept_are_named_with_their_command(kept):
    with pytest.raises(
        FileNotFoundError, match="no run of run147 on .*; `python -m alexnet_lib.experiments.ablations pooling"
    ):
        ablations.gains(NAME, "run147", folder=kept)


def test_the_command_for_what_is_not_kept_is_of_the_series_that_is(kept, monkeypatch):
    """One without its settings would be refused."""
    with pytest.raises(FileNotFoundError) as told:
        ablations.gains(NAME, "run147", folder=kept)
    command = re.search("`python -m alexnet_lib.experiments.ablations (.*)` trains them", str(told.value))[1]
    assert command == f"pooling --dataset {NAME} --epochs 2 --width 0.05 --batch-size 12 --only run147"
    begun = []
    monkeypatch.setattr(ablations, "REFERENCE", kept)
    monkeypatch.setattr(ablations, "run_variant", lambda run, variant: begun.append(variant) or pytest.skip("begun"))
    with pytest.raises(pytest.skip.Exception):
        ablations.main(command.split())
    assert begun == ["run147"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"recipe": "stepped", "batch_size": 64}, " --epochs 2 --width 0.05 --recipe stepped --batch-size 64"),
        ({"recipe": "stepped", "batch_size": 32, "learning_rate": 0.003}, " --epochs 2 --width 0.05 --recipe stepped"),
        ({"speed": "fast", "width": 0.25}, " --epochs 2 --batch-size 12 --speed fast --precision fp32"),
        ({"precision": "bf16", "width": 0.25}, " --epochs 2 --batch-size 12 --precision bf16"),
    ],
)
def test_a_command_says_the_settings_that_no_default_run_has(kept, changes, said):
    record = ablations.any_kept(NAME, kept)
    config = record.config | changes
    if "learning_rate" not in changes and "recipe" in changes:
        said += " --learning-rate 0.006"
    assert ablations.common.options_of(dataclasses.replace(record, config=config)) == said


def test_the_command_for_a_long_run_keeps_it_with_the_others(tmp_path):
    with pytest.raises(FileNotFoundError, match="ablations augmentation --dataset tiny_imagenet --long` trains them"):
        ablations.tinted_errors("tiny_imagenet", folder=ablations.LONG)
    assert ablations.any_kept("imagenette73", tmp_path) is None


def test_histories_and_silenced_errors_by_seed(kept):
    table = ablations.histories(NAME, "baseline", kept)
    assert table["seed"].tolist() == [0, 0, 1, 1] and table.notna().all(axis=None)
    errors = ablations.silenced_errors(NAME, "baseline", kept)
    assert list(errors) == [0, 1] and errors.index[0] == 0
    assert errors.loc[0.0, 0] == pytest.approx(table.query("seed == 0")["validation error"].iloc[-1], abs=1e-5)


def test_units_are_silenced_while_the_net_sees_the_validation_images(kept):
    asked = settings(epochs=4, initialisation="fan_in", learning_rate=0.01, experiment="ablations")
    record = ablations.run_variant(asked, "baseline")
    error = ablations.silencing(record).set_index("share").loc[0.0, "error"]
    assert error == pytest.approx(record.summary["metrics"]["val"]["1 view"]["top1"]) and error < 0.5


def falling(stretch, seeds=(0, 1)):
    """A table of runs whose error falls by a tenth in `stretch` epochs."""
    rows = [{"seed": s, "epoch": e, "error": 1 - 0.1 * e / stretch} for s in seeds for e in range(1, 8 * stretch + 1)]
    return pd.DataFrame(rows)


def test_slowdown_of_a_run_twice_as_slow_is_two():
    ratios = ablations.slowdowns(falling(2), falling(1), "error")
    assert list(ratios) == [0, 1] and len(ratios) > 10
    np.testing.assert_allclose(ratios, 2)


def test_command_names_what_is_wrong(capsys):
    with pytest.raises(SystemExit):
        ablations.main(["dropout", "--dataset", "nowhere"])
    assert "dataset = 'nowhere'" in capsys.readouterr().err
