"""What leaves the library: an exported run answers as the run's net does, and its card says how to ask it."""

import dataclasses
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from alexnet_lib import centre_crops, decode, fit, load_dataset, load_net, mean_of, to_input
from alexnet_lib.files import read_json, write_json
from alexnet_lib.runs import export as exporting
from alexnet_lib.runs.cifar_settings import CifarSettings
from alexnet_lib.runs.export import export, load, main
from alexnet_lib.runs.records import Record
from alexnet_lib.runs.settings import resolve
from alexnet_lib.training import train
from tests.small_runs import NAME, prepare_place, settings
from tests.test_dataset import photograph

FILES = {"README.md", "config.json", "mean.npy", "model.safetensors", "net.pt2"}
NETS = {
    "code2012": lambda: settings(net="code2012", epochs=1),
    "19pct": lambda: CifarSettings(dataset=NAME, net="19pct", stages=((1, 1.0),), input_divisor=64.0, device="cpu"),
}


@pytest.fixture(scope="module", params=NETS)
def exported(request, tmp_path_factory):
    """A finished run and its exported folder."""
    with pytest.MonkeyPatch.context() as patched:
        prepare_place(tmp_path_factory.mktemp("place"), patched)
        record = train(NETS[request.param]())
        yield record, export(record)


def inputs(record, count=3):
    side = record.config["image_size"]
    return torch.from_numpy(np.random.default_rng(count).normal(0, 60, (count, 3, side, side))).float()


def test_every_form_answers_as_the_runs_net(exported):
    record, folder = exported
    net = load_net(record)
    program = torch.export.load(folder / "net.pt2").module()
    for count in (1, 3, 5):
        x = inputs(record, count)
        with torch.no_grad():
            torch.testing.assert_close(load(folder)(x), net(x), rtol=0, atol=0)
            torch.testing.assert_close(program(x), net(x), rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(program(x), program(x), rtol=0, atol=0)


def test_a_run_on_a_folder_is_the_same_however_it_is_typed_and_can_be_exported(tmp_path, monkeypatch):
    prepare_place(tmp_path, monkeypatch)
    own = tmp_path / "own"
    for name in ("train/a/1", "train/b/1", "val/a/2", "val/b/2"):
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        photograph(len(name), 60, 60).save(own / f"{name}.png")
    monkeypatch.chdir(own)
    store = load_dataset(str(own))["train"]
    asked = settings(dataset=".", net="code2012", image_size=64, epochs=1)
    typed = [str(own), f"{own}/", "../own", f"{own}/train/.."]
    runs = [resolve(dataclasses.replace(asked, dataset=name), store) for name in typed]
    record = train(asked)
    assert {run.name for run in runs} == {record.folder.name} and record.config["dataset"] == str(own)
    assert record.folder.name.startswith("own-code2012-")
    monkeypatch.chdir(tmp_path)
    folder = export(record)
    assert read_json(folder / "config.json")["dataset"] == "own" and load(folder)


def other_weights(change):
    def damage(folder):
        from safetensors.torch import load_file, save_file

        save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors")

    return damage


def other_config(**changes):
    return lambda folder: write_json(folder / "config.json", read_json(folder / "config.json") | changes)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: write_json(folder / "config.json", {}), "config.json: net is missing; accepted: a value"),
        (other_config(classes=3), "config.json: classes is 3; accepted: a valid list"),
        (other_config(seed="x"), "config.json: seed = 'x'; accepted is a valid integer"),
        (other_config(classes=["a"] * 4), "model.safetensors is of another net: .*Export the run again"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 99), "model.safetensors: it can't be read"),
        (lambda folder: os.truncate(folder / "model.safetensors", 999), "model.safetensors: it can't be read"),
        (other_weights(lambda w: dict(list(w.items())[1:])), "model.safetensors is of another net: "),
        (other_weights(lambda w: {n: t * np.nan for n, t in w.items()}), "model.safetensors: weights that are not fin"),
        (other_weights(lambda w: {n: t.half() for n, t in w.items()}), "model.safetensors: .* of another type"),
    ],
)
def test_a_damaged_export_is_named(exported, tmp_path, damage, said):
    for name in ("config.json", "model.safetensors"):
        shutil.copy(exported[1] / name, tmp_path / name)
    damage(tmp_path)
    with pytest.raises(ValueError, match=said):
        load(tmp_path)


def test_a_run_of_settings_that_nobody_knows_is_named(exported):
    record, _ = exported
    strange = dataclasses.replace(record, config=record.config | {"epohcs": 3})
    with pytest.raises(ValueError, match="config.json: unknown parameter 'epohcs'; "):
        load_net(strange)


def test_onnx_answers_as_the_runs_net(exported):
    record, folder = exported
    if not exporting.has_onnx():
        pytest.skip("ONNX is not installed")
    from onnx.reference import ReferenceEvaluator

    model, net = ReferenceEvaluator(str(folder / "net.onnx")), load_net(record)
    for count in (1, 4):
        x = inputs(record, count)
        (found,) = model.run(None, {model.input_names[0]: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), net(x).detach(), rtol=1e-3, atol=1e-5)


def test_nothing_but_weights_and_a_mean_is_written(exported):
    record, folder = exported
    onnx = {"net.onnx"} if exporting.has_onnx() else set()
    assert {path.name for path in folder.iterdir()} == FILES | onnx
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "pt") as file:
        assert set(file.keys()) == set(load_net(record).state_dict())
    assert json.loads((folder / "config.json").read_text())["classes"] == ["red", "green", "blue"]


def test_the_card_says_what_the_run_found(exported):
    record, folder = exported
    text = (folder / "README.md").read_text(encoding="utf-8")
    header = yaml.safe_load(text.split("---\n")[1])
    assert header["license"] == "mit" and header["pipeline_tag"] == "image-classification"
    tested = record.summary["metrics"]["val"]
    values = [1 - errors[f"top{k}"] for errors in tested.values() for k in (1, 5)]
    metrics = header["model-index"][0]["results"][0]["metrics"]
    assert [metric["value"] for metric in metrics] == pytest.approx(values, abs=1e-6)
    assert {"1 view", "10 views"} <= set(tested)
    for views, errors in tested.items():
        assert f"| val | {views} | {errors['top1']:.2%} | {errors['top5']:.2%} |" in text
    assert f"learning_rate {record.config['learning_rate']}" in text and "48 pictures of train" in text


def test_the_cards_program_prepares_a_picture_as_the_library_does(exported, monkeypatch, capsys):
    record, folder = exported
    (code,) = re.findall("```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(folder)
    store, side = load_dataset(NAME)["train"], record.config["image_size"]
    net, mean = load_net(record), mean_of(store, side)
    for seed in range(3):
        photograph(seed, 200, 146).save("picture.jpg", quality=95)
        prepared = fit(decode(Path("picture.jpg").read_bytes()), store.size).numpy()[None]
        names = {}
        exec(code, names)
        divisor = record.config.get("input_divisor", 1.0)
        ours = to_input(centre_crops(prepared, side), mean) / divisor
        assert (names["x"] - ours).abs().max() <= 1.001 / divisor  # a grey level between Pillow and the library
        expected = net(names["x"]).softmax(1)[0]
        torch.testing.assert_close(names["probabilities"], expected, rtol=1e-4, atol=1e-6)
        assert capsys.readouterr().out.strip() == store.classes[int(expected.argmax())]


def test_a_folder_that_is_there_is_left_alone_and_so_is_what_is_no_run(exported, tmp_path, capsys):
    record, folder = exported
    (tmp_path / "mine").mkdir()
    with pytest.raises(FileExistsError, match="mine is there already; remove it, or name another folder"):
        export(record, tmp_path / "mine")
    for run, said in [(tmp_path, "no finished run in"), (folder.parent, f"{folder} is there already")]:
        with pytest.raises(SystemExit):
            main([str(run)])
        assert said in capsys.readouterr().err
    assert list((tmp_path / "mine").iterdir()) == []


def test_a_path_of_the_readers_stays_at_home(exported, tmp_path, monkeypatch):
    """Of a data set that was given by its path, the name alone is told; its terms are not ours to give."""
    record, _ = exported
    config = record.config | {"dataset": "/home/me/secret/photos"}
    stores = load_dataset(NAME)
    stores["train"].meta["words"] = ["a red one", "a green one", "a blue one"]
    monkeypatch.setattr(exporting, "data_of", lambda record: stores)
    monkeypatch.setattr(exporting, "_write_programs", lambda *_: None)
    folder = export(Record(record.folder, config, record.history, record.timing, record.summary), tmp_path / "out")
    texts = [(folder / name).read_text(encoding="utf-8") for name in ("README.md", "config.json")]
    assert all("photos" in text and "secret" not in text for text in texts) and "license: other" in texts[0]
    assert json.loads(texts[1])["words"][1] == "a green one" and len(load(folder)) == len(load_net(record))
