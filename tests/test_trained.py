"""What is asked of finished runs: the tables that are kept, what is read from them, and the commands where none are."""

import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest
from small_runs import NAME, prepare_place, settings

from alexnet_lib.architecture import ACTIVATIONS, NETS, skeleton
from alexnet_lib.dataset import load_dataset
from alexnet_lib.experiments import ablations, trained
from alexnet_lib.experiments.common import RISK
from alexnet_lib.files import read_json, write_json
from alexnet_lib.training import train


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        yield prepare_place(tmp_path_factory.mktemp("trained"), patch)


@pytest.fixture(scope="module")
def record(place):
    return train(settings(epochs=2))


def keep_table(folder, name, rows):
    path = trained.folder_of("embedded", folder)
    path.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(path / f"{name}.csv", index=False)


def test_every_choice_of_nets_is_averaged():
    labels = np.random.default_rng(0).integers(0, 4, 200)
    nets = {seed: np.random.default_rng(seed).dirichlet(np.ones(4), 200) for seed in (0, 1, 2)}
    table = pd.DataFrame(trained.ensemble(nets, labels))
    assert table.query("kind == 'single'")["seeds"].tolist() == ["0", "1", "2"]
    assert table.query("kind == 'average'")["nets"].tolist() == [2, 2, 2, 3]
    halves = table.set_index("kind")["top1"]
    assert halves["fitted, same half"] <= halves["equal, same half"]


def test_kernels_are_told_by_column(record):
    table = pd.DataFrame(trained.kernels(record, 7))
    assert table["column"].value_counts().to_dict() == {1: len(table) // 2, 2: len(table) // 2}
    assert table["column"].is_monotonic_increasing and table["colourfulness"].between(0, 1).all()


def test_retrieval_has_a_row_for_each_way_to_compare(record, monkeypatch):
    monkeypatch.setattr(trained, "BITS", (8,))
    monkeypatch.setattr(trained, "QUERIES", 12)
    table = pd.DataFrame(trained.retrieval(record, 0, load_dataset(NAME)))
    ways = table.query("of != 'both'")[["of", "code", "bits"]].agg(tuple, axis=1).tolist()
    codes = [(of, code, 8) for of in ("features", "pixels") for code in ("autoencoder", "random planes")]
    assert ways == [("features", "none", 0), ("pixels", "none", 0), *codes]
    assert table["precision"].dropna().between(0, 1).all() and 0 <= table["shared"].dropna().item() <= 1
    # plain colours with noise: their pixels give the classes away
    assert table.set_index(["of", "code"])["precision"]["pixels", "none"] == 1


@pytest.mark.parametrize("epochs", [1, 2])
def test_the_run_to_look_at_is_notebook_07s_whatever_it_changed(record, monkeypatch, epochs):
    """The run here is narrower and shorter than the defaults."""
    monkeypatch.setattr(trained, "train", lambda run: pytest.fail("it trains another"))
    assert trained.run_to_look_at(NAME, epochs=epochs, device="cpu").folder == record.folder


def test_a_run_that_is_too_short_or_of_other_pictures_is_not_looked_at(record, monkeypatch):
    monkeypatch.setattr(trained, "train", lambda run: run)
    assert trained.run_to_look_at(NAME, epochs=3, device="cpu").epochs == 3
    stores = {
        split: dataclasses.replace(s, meta=s.meta | {"fingerprint": "other"}) for split, s in load_dataset(NAME).items()
    }
    monkeypatch.setattr(trained, "load_dataset", lambda name: stores)
    assert trained.run_to_look_at(NAME, epochs=1, device="cpu").epochs == 1


def test_tables_that_are_not_kept_are_named_with_their_command(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="`python -m alexnet_lib.experiments.trained --dataset embedded` makes it"
    ):
        trained.precisions("embedded", tmp_path)


def test_the_command_for_tables_is_of_the_baselines_that_are_kept(place, tmp_path):
    ablations.run_all("dropout", settings(epochs=1), (0,), ("baseline",), tmp_path)
    told = f"experiments.trained --dataset {NAME} --epochs 1 --width 0.05 --batch-size 12"
    with pytest.raises(FileNotFoundError, match=f"{told}` makes it"):
        trained.table("labels", NAME, tmp_path)
    keep_table(tmp_path, "ensemble", [{"kind": "single", "nets": 1, "top1": 40, "top5": 10}])
    with pytest.raises(FileNotFoundError, match=f"1 nets are kept; `.*{told} --seeds 0 1 2 3 4` makes more"):
        trained.ensemble_gain(dataset=NAME, folder=tmp_path)
    write_json(trained.folder_of(NAME, tmp_path) / "about.json", {"command": "as it was made --seeds 0"})
    with pytest.raises(FileNotFoundError, match="`as it was made --seeds 0` makes it"):
        trained.table("labels", NAME, tmp_path)
    with pytest.raises(FileNotFoundError, match="`as it was made --seeds 0 1 2 3 4` makes more"):
        trained.ensemble_gain(dataset=NAME, folder=tmp_path)


def test_precisions_are_read_from_tables(tmp_path):
    rows = []
    for seed, better in ((0, 0.5), (1, 0.6)):
        for of, level in (("features", better), ("pixels", 0.2)):
            rows.append({"seed": seed, "of": of, "code": "none", "bits": 0, "precision": level})
            rows.append({"seed": seed, "of": of, "code": "autoencoder", "bits": 64, "precision": level / 2})
        rows.append({"seed": seed, "of": "both", "code": "none", "bits": 0, "shared": 0.1})
    keep_table(tmp_path, "retrieval", rows)
    found = trained.precisions("embedded", tmp_path)
    assert found.loc["features", "none", 0].tolist() == [50, 60]
    assert found.loc["pixels", "autoencoder", 64].tolist() == [10, 10]


def test_an_ensemble_wants_five_nets(tmp_path):
    single = [{"kind": "single", "nets": 1, "top1": 40 + i, "top5": 10} for i in range(5)]
    keep_table(tmp_path, "ensemble", [*single[:3], {"kind": "average", "nets": 3, "top1": 39, "top5": 9}])
    with pytest.raises(FileNotFoundError, match="3 nets are kept; `python -m alexnet_lib.experiments.trained"):
        trained.ensemble_gain(dataset="embedded", folder=tmp_path)
    keep_table(tmp_path, "ensemble", [*single, {"kind": "average", "nets": 5, "top1": 39, "top5": 9}])
    assert trained.ensemble_gain(dataset="embedded", folder=tmp_path)[::2] == (3, 5)


def test_runs_whose_columns_differ_are_counted(tmp_path):
    rows = [
        {"seed": seed, "map": i, "column": 1 + (i >= 12), "colourfulness": (i >= 12) * seed + 0.01 * (i % 5)}
        for seed in (0, 1)
        for i in range(24)
    ]
    keep_table(tmp_path, "kernels", rows)
    table = trained.column_differences("embedded", tmp_path)
    assert table["difference"].round(3).tolist() == [0.003, 1.003]
    assert (table["p"] < RISK).tolist() == [False, True]


def test_a_run_to_look_at_is_named_found_or_trained(place, record, monkeypatch):
    assert trained.run_to_look_at(NAME, record.folder.name).folder == record.folder
    asked = []
    monkeypatch.setattr(trained, "train", lambda run: asked.append(run))
    trained.run_to_look_at(NAME, epochs=3)
    assert asked[0].epochs == 3 and asked[0].dataset == NAME
    with pytest.raises(FileNotFoundError, match="no finished run"):
        trained.run_to_look_at(NAME, "nowhere")
    with pytest.raises(ValueError, match="is of 'embedded', and dataset = 'imagenette'"):
        trained.run_to_look_at("imagenette", record.folder.name)


def test_a_folder_is_the_same_however_its_path_is_written(place, record, tmp_path, monkeypatch):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "link").symlink_to("pictures")
    of = dataclasses.replace(record, config=record.config | {"dataset": str(tmp_path / "pictures")})
    monkeypatch.setattr(trained.Record, "open", lambda folder: of)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for written in (f"{tmp_path}/pictures", f"{tmp_path}/pictures/", "pictures", "./link", "~/pictures", "auto"):
        assert trained.run_to_look_at(written, "named") is of
    for other in (str(tmp_path), f"{tmp_path}/elsewhere", "embedded", "~nobody-here/pictures"):
        with pytest.raises(ValueError, match="the run named is of .*pictures', and dataset = "):
            trained.run_to_look_at(other, "named")


def test_a_folder_called_as_a_data_set_is_not_that_data_set(record, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / NAME).mkdir()
    with pytest.raises(ValueError, match=f"is of '{NAME}', and dataset = './{NAME}'"):
        trained.run_to_look_at(f"./{NAME}", record.folder.name)


NO_LAST_HIDDEN = ({"without": "fc7"}, {"activation": "tanh"}, {"net": "googlenet"}, {"net": "19pct"})


@pytest.mark.parametrize("changes", NO_LAST_HIDDEN)
def test_a_run_without_the_hidden_layer_is_not_looked_at(record, monkeypatch, changes):
    """Notebook 07 can train it, and the notebook of its pictures asks that layer."""
    other = dataclasses.replace(record, config=record.config | {"epochs": 90} | changes)
    monkeypatch.setattr(trained.Record, "open", lambda folder: other)
    monkeypatch.setattr(trained, "train", lambda run: run)
    assert trained.run_to_look_at(NAME, epochs=1, device="cpu").epochs == 1  # another is trained
    with pytest.raises(ValueError, match=r"run = 'named', whose net has no layer relu7; accepted are runs of paper, "):
        trained.run_to_look_at(NAME, "named")


def test_which_nets_have_the_hidden_layer():
    kinds = [{"net": net} for net in NETS]
    kinds += [{"net": "paper", "without": w} for w in ("conv1", "conv3", "conv5", "fc6", "fc7")]
    kinds += [{"net": "paper", "activation": a} for a in ACTIVATIONS]
    kinds += [{"net": "paper", "normalization": None}, {"net": "paper", "geometry": "ceil"}]
    for kind in kinds:
        changes = {name: value for name, value in kind.items() if name != "net"}
        layers = [name for name, _ in skeleton(kind["net"], **changes).named_children()]
        assert trained._has_last_hidden(kind) == (trained.ask.LAST_HIDDEN in layers), kind


def test_times_and_bytes_of_searches():
    known = np.random.default_rng(0).standard_normal((200, 16)).astype(np.float32)
    codes = {64: [np.zeros((3, 1), np.uint64), np.zeros((200, 1), np.uint64)]}
    table = trained.search_seconds(known[:3], known, codes)
    assert table["bytes an image"].tolist() == [64, 64, 8] and (table["milliseconds"] >= 0).all()


def test_a_search_of_few_questions_took_what_it_took(monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(trained.time, "perf_counter", lambda: next(clock))  # a second between two looks
    known = np.random.default_rng(0).standard_normal((200, 16)).astype(np.float32)
    for questions, tree in ((3, 1000), (200, 2000)):
        assert trained.search_seconds(known[:questions], known, {})["milliseconds"].tolist() == [1000, tree]


def test_a_search_of_less_than_a_millisecond_took_some_of_it(monkeypatch):
    """Notebook 09 divides by it."""
    clock = itertools.count()
    monkeypatch.setattr(trained.time, "perf_counter", lambda: 2**-13 * next(clock))
    known = np.random.default_rng(0).standard_normal((50, 16)).astype(np.float32)
    assert trained.search_seconds(known[:3], known, {})["milliseconds"].tolist() == [1000 / 2**13] * 2


def test_by_product_the_nearest_are_found():
    known = np.random.default_rng(0).standard_normal((200, 16)).astype(np.float32)
    assert trained.by_product(known, known).tolist() == trained.ask.neighbours(known, known, trained.NEAREST).tolist()


@pytest.mark.parametrize(("epochs", "seeds"), [(15, [0, 1]), (45, [1])])
def test_tables_of_other_epochs_or_of_more_seeds_are_not_overwritten(place, tmp_path, epochs, seeds):
    keep_table(tmp_path, "kernels", [{"seed": 0}, {"seed": 1}])
    kept = trained.folder_of(NAME, tmp_path)
    command = f"python -m alexnet_lib.experiments.trained --dataset {NAME} --epochs 45"
    write_json(kept / "about.json", {"command": f"{command} --seeds 0 1"})
    before = (kept / "kernels.csv").read_bytes()
    with pytest.raises(ValueError, match=f"made, and `.* --epochs {epochs} --seeds .*` would overwrite it"):
        trained.measure(NAME, epochs, seeds, folder=tmp_path)
    assert (kept / "kernels.csv").read_bytes() == before


def test_tables_of_another_precision_are_not_overwritten(place, tmp_path, monkeypatch, record):
    """What "fast" means is the machine's."""
    monkeypatch.setattr(trained, "run_variant", lambda settings, variant: record)
    monkeypatch.setattr(trained, "retrieval", lambda *_: [])
    for bf16 in (True, False):
        monkeypatch.setattr("alexnet_lib.runs.settings.computes_in_bf16", lambda device, bf16=bf16: bf16)
        if bf16:
            trained.measure(NAME, 2, [0, 1], folder=tmp_path, speed="fast")
            continue
        with pytest.raises(ValueError, match="precision = 'bf16' there, and 'fp32' here"):
            trained.measure(NAME, 2, [0, 1], folder=tmp_path, speed="fast")


def test_the_epochs_are_those_of_the_kept_runs(monkeypatch):
    asked = []
    monkeypatch.setattr(trained, "measure", lambda *given, **_: asked.append(given[:2]))
    for more in ([], ["--dataset", "embedded"], ["--dataset", "other"], ["--dataset", "embedded", "--epochs", "7"]):
        trained.main(more)
    assert asked == [("imagenette73", 15), ("embedded", 45), ("other", 15), ("embedded", 7)]
    for name in ("embedded", "imagenette73"):
        command = read_json(trained.folder_of(name) / "about.json")["command"]
        assert f"--epochs {trained.EPOCHS[name]} " in command


OPTIONS = "--width 0.1 --recipe small --batch-size 8 --learning-rate 0.01 --speed fast --epochs 3 --seeds 2"


def test_the_nets_are_the_runs_of_ablations_with_the_same_options(place, tmp_path, monkeypatch):
    """So an ensemble of finished runs trains nothing anew."""
    store, runs = load_dataset(NAME)["train"], []

    def run_variant(settings, variant):
        runs.append(ablations.variant_of(settings, variant, store).folder)
        raise KeyboardInterrupt

    for module in (ablations, trained):
        monkeypatch.setattr(module, "run_variant", run_variant)
    monkeypatch.setattr(trained, "folder_of", lambda dataset, folder: tmp_path / "trained")
    monkeypatch.setattr(ablations, "REFERENCE", tmp_path)
    for main, more in ((ablations.main, "worth --only baseline"), (trained.main, "")):
        with pytest.raises(SystemExit):
            main([*more.split(), "--dataset", NAME, *OPTIONS.split()])
    assert len(runs) == 2 and runs[0] == runs[1]


def test_the_command_that_is_kept_repeats_the_whole(place, tmp_path, monkeypatch, record):
    monkeypatch.setattr(trained, "run_variant", lambda settings, variant: record)
    monkeypatch.setattr(trained, "retrieval", lambda *_: [])
    trained.measure(NAME, 2, [0, 1], folder=tmp_path, width=0.05, recipe="small")
    about = read_json(trained.folder_of(NAME, tmp_path) / "about.json")
    told = f"python -m alexnet_lib.experiments.trained --dataset {NAME} --epochs 2 --width 0.05 --recipe small"
    assert about["command"] == f"{told} --seeds 0 1" and about["config"]["width"] == 0.05
    with pytest.raises(ValueError, match="made, and `.* --epochs 2 --seeds .*` would overwrite it"):
        trained.measure(NAME, 2, [0, 1], folder=tmp_path)
