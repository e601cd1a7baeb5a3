"""The chain of pre-training: which pictures, which weights are carried over, and what is kept."""

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest
import torch
from small_runs import NAME, prepare_place, settings

from alexnet_lib.dataset import load_dataset
from alexnet_lib.experiments import pretraining
from alexnet_lib.files import read_json, write_json
from alexnet_lib.runs.settings import resolve
from alexnet_lib.training import build_net


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        prepare_place(tmp_path_factory.mktemp("pretraining"), patch)
        stores = load_dataset(NAME)
        yield stores, resolve(settings(net="six_conv"), stores["train"])


def test_classes_are_divided_and_renumbered(place):
    stores, _ = place
    many, few = pretraining.divided(stores, few=1, images=4)
    assert many["train"].classes == ["green", "blue"] and few["train"].classes == ["red"]
    assert len(few["train"]) == 4 and len(few["val"]) == 16
    assert np.bincount(many["train"].labels).tolist() == [16, 16]
    for part in (many["train"], few["val"]):
        colour = np.asarray(part.images).mean((1, 2)).argmax(1)
        assert [["red", "green", "blue"][c] for c in colour] == [part.classes[label] for label in part.labels]


def test_the_many_images_stay_on_disk_and_no_class_is_left_out(place):
    """95,000 of 73 pixels would take 1.5 GB."""
    stores, _ = place
    many, few = pretraining.divided(stores, few=1)
    assert many["train"].images.images is stores["train"].images and few["val"].images.images is stores["val"].images
    for wrong in (0, 3):
        with pytest.raises(ValueError, match=f"few = {wrong} of 3 classes; accepted are 1 to 2"):
            pretraining.divided(stores, few=wrong)


def test_a_net_computes_in_the_precision_of_its_run(place):
    stores, run = place
    seen = {}
    for precision in ("fp32", "bf16"):
        net = build_net(run, 3)
        net.conv2.register_forward_hook(lambda layer, x, y, precision=precision: seen.update({precision: y.dtype}))
        pretraining.fit(net, dataclasses.replace(run, precision=precision), stores["train"], 1)
        assert net.conv2.weight.dtype == torch.float32
    assert seen == {"fp32": torch.float32, "bf16": torch.bfloat16}


def test_all_weights_but_the_last_layers_are_carried_over(place):
    _, run = place
    net = build_net(dataclasses.replace(run, seed=5), 2)
    new = pretraining.with_new_classes(net, run, 3)
    old, carried = net.state_dict(), new.state_dict()
    assert all(torch.equal(carried[name], old[name]) for name in old if not name.startswith("fc8"))
    assert len(carried["fc8.bias"]) == 3 and "conv6.weight" in carried


def test_the_first_layer_learns_at_its_own_rate(place):
    stores, run = place
    start = build_net(run, 3)
    moved = []
    for first_rate in (0.0, 0.1, 1.0):
        net = pretraining.fit(build_net(run, 3), run, stores["train"], 1, first_rate)
        moved.append((net.conv1.weight - start.conv1.weight).abs().max().item())
    assert moved[0] == 0 < moved[1] < moved[2]


def test_biases_and_the_first_layer_learn_as_the_recipe_says(place, monkeypatch):
    """Of the program of 2012: at the end biases are 200 times as fast as weights and never decay, conv1 is frozen."""
    stores, run = place
    run = dataclasses.replace(run, recipe="code2012")
    optimizers, real = [], pretraining.update
    monkeypatch.setattr(pretraining, "update", lambda net, sgd, *rest: (optimizers.append(sgd), real(net, sgd, *rest)))
    pretraining.fit(build_net(run, 3), run, stores["train"], 8, 0.1)
    last = {group["name"]: (group["lr"], group["weight_decay"]) for group in optimizers[-1].param_groups}
    rate = run.learning_rate / 1000
    assert last["weights"] == pytest.approx((rate, 5e-4)) and last["biases"] == pytest.approx((200 * rate, 0))
    assert last["conv1 weights"][0] == last["conv1 biases"][0] == 0


def test_a_schedule_that_needs_validation_errors_is_refused(place):
    stores, run = place
    with pytest.raises(ValueError, match="recipe = 'paper'; its schedule, 'plateau', is neither"):
        pretraining.fit(build_net(run, 3), dataclasses.replace(run, recipe="paper"), stores["train"], 1)


@pytest.mark.parametrize("steps", [3, 5, 11])
def test_a_killed_chain_goes_on_with_the_same_bits(steps, place, tmp_path, monkeypatch):
    """After so many steps: in the last epoch of the many classes' net and of fine-tuning, and in the longest."""
    stores, run = place
    many, few = pretraining.divided(stores, few=2, images=6)
    last, done, real = [], [], pretraining.update
    errors = {"top1": 0, "top5": 0}
    monkeypatch.setattr(pretraining, "evaluate", lambda net, *_: last.append(net.state_dict()) or errors)

    def chain(folder):
        return pretraining.chains(run, many, few, (2, 2), folder)

    rows, whole = chain(tmp_path / "whole"), [*last]
    assert [row["chain"] for row in rows] == list(pretraining.CHAINS) and len(whole) == 3

    def killed(*given):
        done.append(given)
        if len(done) == steps + 1:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(pretraining, "update", killed)
    with pytest.raises(KeyboardInterrupt):
        chain(tmp_path / "killed")
    assert len(done) == steps + 1
    last.clear()
    assert chain(tmp_path / "killed") == rows
    for net, same in zip(last, whole, strict=True):
        assert all(torch.equal(net[name], value) for name, value in same.items())
    monkeypatch.setattr(pretraining, "update", lambda *_: pytest.fail("trained what was finished"))
    assert chain(tmp_path / "killed") == rows


def test_a_chain_of_other_images_or_epochs_has_its_own_checkpoints(place):
    stores, run = place
    many, few = pretraining.divided(stores, few=1, images=4)
    others = [
        (run, many, few, (1, 3)),
        (run, *pretraining.divided(stores, few=1, images=5), (1, 2)),
        (run, *pretraining.divided(stores, few=2, images=4), (1, 2)),
        (dataclasses.replace(run, name="another"), many, few, (1, 2)),
    ]
    folders = [pretraining.checkpoints_of(*asked) for asked in [(run, many, few, (1, 2)), *others]]
    assert len(set(folders)) == 5 and folders[0] == pretraining.checkpoints_of(run, many, few, (1, 2))


def test_gains_are_read_from_what_is_kept(tmp_path):
    for dataset, more in (("embedded", ""), ("other", " --dataset other")):
        with pytest.raises(FileNotFoundError, match=f"`python -m alexnet_lib.experiments.pretraining{more} --keep`"):
            pretraining.gain(dataset=dataset, folder=tmp_path)
        (tmp_path / f"pretraining-{dataset}").mkdir()
    errors = dict(zip(pretraining.CHAINS, (0.3, 0.5, 0.2), strict=True))
    rows = [{"chain": c, "seed": s, "top1": e + 0.1 * s, "top5": 0} for c, e in errors.items() for s in (0, 1)]
    pd.DataFrame(rows).to_csv(tmp_path / "pretraining-embedded" / "chains.csv", index=False)
    pd.DataFrame(rows[:2]).assign(top1=[0.1, 0.2]).to_csv(tmp_path / "pretraining-other" / "chains.csv", index=False)
    assert pretraining.gain(folder=tmp_path) == (pytest.approx(20), pytest.approx(0), 2)
    assert pretraining.gain(pretraining.CHAINS[2], folder=tmp_path)[0] == pytest.approx(-10)
    assert pretraining.kept_errors("other", tmp_path)["top1"].tolist() == [10, 20]


def test_what_waits_for_validation_errors_gives_way_to_the_programs_recipe(place, monkeypatch):
    """ILSVRC's own recipe is the paper's; the chain of run 146 divides the rate at fixed epochs."""
    seen = []
    monkeypatch.setattr(
        pretraining, "chains", lambda run, *_: seen.append(run) or [{"chain": "pre-trained", "seed": 0}]
    )
    real = pretraining.settings_of
    monkeypatch.setattr(pretraining, "settings_of", lambda *a, **changes: real(*a, **{"recipe": "paper"} | changes))
    pretraining.main(["--many", NAME, "--few", NAME, "--seeds", "0"])
    assert [run.recipe for run in seen] == ["code2012"]


def test_the_built_in_pictures_are_divided_for_a_narrow_net(place, monkeypatch):
    seen = []
    monkeypatch.setattr(pretraining, "divided", lambda stores, *few: (stores, few))
    monkeypatch.setattr(pretraining, "checkpoints_of", lambda *_: "nowhere")
    rows = [{"chain": "from scratch", "seed": None}]
    monkeypatch.setattr(pretraining, "chains", lambda *given: seen.append(given) or rows)
    pretraining.main(["--seeds", "3", "4", "--epochs", "1", "2"])
    assert [(run.dataset, run.width, run.seed) for run, *_ in seen] == [(NAME, 0.125, 3), (NAME, 0.125, 4)]
    assert all((many.keys(), few, epochs) == ({"train", "val"}, (6, 20), (1, 2)) for _, many, few, epochs, _ in seen)


COMMAND = ["--few-classes", "1", "--few-images", "9", "--width", "0.1", "--batch-size", "8", "--learning-rate", "0.01"]


def test_a_killed_command_goes_on_with_the_seeds_that_are_missing(place, tmp_path, monkeypatch, capsys):
    folder, seen, killed = tmp_path / "pretraining-embedded", [], []

    def chains(run, many, few, epochs, place):
        assert place.parent.parent.name == "pretraining"
        if run.seed == 2 and not killed:
            killed.append(run)
            raise KeyboardInterrupt
        seen.append((run, len(few["train"])))
        return [{"chain": chain, "seed": run.seed, "top1": run.seed / 3, "top5": 0} for chain in pretraining.CHAINS]

    monkeypatch.setattr(pretraining, "chains", chains)
    monkeypatch.setattr(pretraining, "folder_of", lambda dataset, folder=tmp_path: folder / f"pretraining-{dataset}")
    command = [*COMMAND, "--keep", "--epochs", "1", "2", "--seeds"]
    with pytest.raises(SystemExit):
        pretraining.main([*command, "0", "1", "2"])
    assert pretraining.kept_errors(folder=tmp_path)["seed"].unique().tolist() == [0, 1]
    pretraining.main([*command, "0", "1", "2"])
    assert [(run.seed, run.width, run.batch_size, images) for run, images in seen] == [
        (seed, 0.1, 8, 9) for seed in (0, 1, 2)
    ]
    told = " ".join(["python -m alexnet_lib.experiments.pretraining", *command, "0 1 2"])
    assert read_json(folder / "about.json")["command"] == told
    before = (folder / "chains.csv").read_bytes()
    pretraining.main([*command, "0", "1", "2"])  # which says what is kept
    assert len(seen) == 3 and (folder / "chains.csv").read_bytes() == before
    assert capsys.readouterr().out.count("from scratch, as long as both") == 2 + 3 + 3


def test_seeds_that_another_process_keeps_meanwhile_stay(tmp_path):
    for seed, command in ((3, "b"), (0, "a"), (1, "a"), (0, "a")):
        rows = [{"chain": chain, "seed": seed, "top1": seed / 3, "top5": 0} for chain in pretraining.CHAINS]
        pretraining.keep_rows(tmp_path, rows, command, {"settings": {}, "data": {}})
    table = pd.read_csv(tmp_path / "chains.csv")
    assert sorted(table["seed"]) == [0] * 3 + [1] * 3 + [3] * 3 and table["top1"].max() == 1
    assert read_json(tmp_path / "about.json")["command"] == "a --seeds 3 1 0"


@pytest.fixture
def quick(place, tmp_path, monkeypatch):
    """Chains that train nothing, and a folder of their own that keeps them: the seeds of which there were any."""
    seen = []

    def chains(run, *_):
        seen.append(run.seed)
        return [{"chain": chain, "seed": run.seed, "top1": 0.5, "top5": 0} for chain in pretraining.CHAINS]

    monkeypatch.setattr(pretraining, "chains", chains)
    monkeypatch.setattr(pretraining, "folder_of", lambda dataset: tmp_path / f"pretraining-{dataset}")
    return seen


FAST = [*COMMAND, "--speed", "fast", "--keep", "--seeds"]


def test_machines_of_two_precisions_do_not_fill_one_table(quick, tmp_path, monkeypatch, capsys):
    """What "fast" means is the machine's."""
    monkeypatch.setattr("alexnet_lib.runs.settings.computes_in_bf16", lambda device: True)
    pretraining.main([*FAST, "0"])
    kept = tmp_path / "pretraining-embedded"
    about, table = read_json(kept / "about.json"), (kept / "chains.csv").read_bytes()
    assert about["settings"]["precision"] == "bf16" and "seed" not in about["settings"]
    monkeypatch.setattr("alexnet_lib.runs.settings.computes_in_bf16", lambda device: False)
    with pytest.raises(SystemExit):
        pretraining.main([*FAST, "0", "1"])
    assert "other runs than those asked for: precision = 'bf16' there, and 'fp32' here" in capsys.readouterr().err
    with pytest.raises(ValueError, match="precision = 'bf16' there"):  # where the other has kept its own meanwhile
        rows = [{"chain": "pre-trained", "seed": 1, "top1": 0, "top5": 0}]
        asked = about | {"settings": about["settings"] | {"precision": "fp32"}}
        pretraining.keep_rows(kept, rows, about["command"], asked)
    assert quick == [0] and (kept / "chains.csv").read_bytes() == table


def test_stores_that_were_prepared_anew_do_not_fill_one_table(quick, place, monkeypatch, capsys):
    pretraining.main([*FAST, "0"])
    anew = {s: dataclasses.replace(store, meta=store.meta | {"fingerprint": "other"}) for s, store in place[0].items()}
    monkeypatch.setattr(pretraining, "load_dataset", lambda name: anew)
    with pytest.raises(SystemExit):
        pretraining.main([*FAST, "0", "1"])
    assert re.search("data of train = '.*' there, and 'other' here", capsys.readouterr().err) and quick == [0]


def test_a_table_from_before_settings_were_kept_with_it_stays_usable(quick, tmp_path):
    """And is not said to be of settings that nobody knows."""
    pretraining.main([*FAST, "0"])
    path = tmp_path / "pretraining-embedded" / "about.json"
    write_json(path, {"command": read_json(path)["command"]})
    pretraining.main([*FAST, "0", "1"])
    assert quick == [0, 1] and "settings" not in read_json(path) and read_json(path)["command"].endswith("0 1")


def test_pictures_of_two_sizes_are_no_chain(place, monkeypatch, capsys):
    stores, _ = place
    larger = {
        s: dataclasses.replace(store, images=np.zeros((len(store), 99, 99, 3), np.uint8)) for s, store in stores.items()
    }
    monkeypatch.setattr(pretraining, "load_dataset", lambda name: larger if name == "larger" else stores)
    monkeypatch.setattr(pretraining, "chains", lambda *_: pytest.fail("trained"))
    with pytest.raises(SystemExit):
        pretraining.main(["--many", "larger", "--few", NAME])
    assert re.search(r"--many is stored at \d+ pixels a side, --few at \d+", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--many", NAME], "--keep says nothing with --many"),
        (["--width", "0.5"], "made, and `.* --width 0.5 --keep --epochs 12 60 .*` would overwrite it"),
        (["--epochs", "1", "2", "--seeds", "0", "1", "2"], "made, and `.* --epochs 1 2 .*` would overwrite it"),
        (["--seeds", "0"], "made, and `.* --seeds 0` would overwrite it"),
    ],
)
def test_what_is_kept_is_not_overwritten_with_less_or_with_other_runs(more, said, place, monkeypatch, capsys):
    monkeypatch.setattr(pretraining, "chains", lambda *_: pytest.fail("trained"))
    with pytest.raises(SystemExit):
        pretraining.main(["--keep", *more])
    assert re.search(said, capsys.readouterr().err)
