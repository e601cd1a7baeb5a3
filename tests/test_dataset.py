"""§2: preparation against Pillow, against hand-computed statistics, and against kill -9."""

import io
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from alexnet_lib import load_dataset, open_store, prepare
from alexnet_lib.dataset import choose_dataset, main
from alexnet_lib.preparation import decode, fit


def photograph(seed, width, height):
    """Smooth noise, which JPEG and scaling treat as they treat photographs."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def jpeg(picture, **options):
    file = io.BytesIO()
    picture.save(file, "JPEG", **options)
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Two classes, four pictures: tall, wide, grey, and large."""
    source = tmp_path / "pictures"
    for name, seed, size, mode in [("cat/a b.jpg", 0, (90, 140), "RGB"), ("cat/ü.jpg", 1, (140, 90), "L")] + [
        ("dog/x/1.jpg", 2, (64, 64), "RGB"),
        ("dog/2.png", 3, (300, 200), "RGB"),
    ]:
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        photograph(seed, *size).convert(mode).save(path)
    return source


@pytest.mark.parametrize(("width", "height"), [(500, 375), (375, 500), (256, 300), (100, 260), (257, 256), (1000, 999)])
def test_pixels_are_those_of_pillow_within_one_level(width, height):
    data = jpeg(photograph(width, width, height), quality=90)
    theirs = Image.open(io.BytesIO(data)).convert("RGB")
    shorter = min(width, height)
    theirs = theirs.resize((256 * width // shorter, 256 * height // shorter), Image.Resampling.BILINEAR)
    left, top = (theirs.width - 256) // 2, (theirs.height - 256) // 2
    theirs = np.asarray(theirs.crop((left, top, left + 256, top + 256)), int)
    ours = fit(decode(data), 256).numpy()
    assert ours.shape == (256, 256, 3) and ours.dtype == np.uint8
    assert np.abs(ours - theirs).max() <= 1


def test_a_store_holds_what_the_contract_says(folder, tmp_path):
    store = prepare(folder, tmp_path / "store", size=32, progress=False)
    assert store.images.shape == (4, 32, 32, 3) and store.images.dtype == np.uint8
    assert store.classes == ["cat", "dog"] and store.labels.tolist() == [0, 0, 1, 1]
    assert store.index["file"].tolist() == ["cat/a b.jpg", "cat/ü.jpg", "dog/2.png", "dog/x/1.jpg"]
    np.testing.assert_allclose(store.mean, store.images.astype(float).mean(0), rtol=1e-6)
    pixels = store.images.reshape(-1, 3).astype(float)
    covariance = np.cov(pixels.T, bias=True)
    rebuilt = store.pca.eigenvectors * store.pca.eigenvalues @ store.pca.eigenvectors.T
    np.testing.assert_allclose(rebuilt, covariance, rtol=1e-9, atol=1e-8)
    assert store.crop == 28 and len(store) == 4 and store.meta["rejected"] == []
    assert sorted(p.name for p in store.folder.iterdir()) == sorted(
        ["images.npy", "labels.npy", "index.csv", "mean.npy", "meta.json"]
    )


def test_grey_pictures_have_three_equal_channels(folder, tmp_path):
    grey = prepare(folder, tmp_path / "store", size=32, progress=False).images[1]
    assert (grey == grey[..., :1]).all() and grey.std() > 0


def test_what_cannot_be_a_picture_is_listed_and_the_run_goes_on(folder, tmp_path, capsys):
    whole = (folder / "cat" / "a b.jpg").read_bytes()
    (folder / "cat" / "empty.jpg").touch()
    (folder / "cat" / "notes.jpg").write_text("not a picture")
    (folder / "dog" / "torn.jpg").write_bytes(whole[: len(whole) // 2])
    main(["prepare", str(folder), str(tmp_path / "store"), "--size", "32"])
    store = open_store(tmp_path / "store")
    reasons = {entry["file"]: entry["reason"] for entry in store.meta["rejected"]}
    assert set(reasons) == {"cat/empty.jpg", "cat/notes.jpg", "dog/torn.jpg"}
    assert reasons["cat/empty.jpg"] == "empty file" and "known format" in reasons["cat/notes.jpg"]
    assert "truncated" in reasons["dog/torn.jpg"]
    assert store.meta["files"] == len(store) + len(reasons) == 7
    printed = capsys.readouterr().out
    assert "7 files: 4 images of 2 classes, 3 rejected" in printed and "cat/notes.jpg" in printed


def test_a_class_left_without_an_image_is_an_error(folder, tmp_path):
    (folder / "eel").mkdir()
    (folder / "eel" / "1.jpg").write_text("eel")
    with pytest.raises(ValueError, match="class 'eel' is left without an image; eel/1.jpg: not a picture"):
        prepare(folder, tmp_path / "store", size=32, progress=False)
    assert not (tmp_path / "store").exists()


def test_preparing_twice_opens_and_another_source_is_refused(folder, tmp_path):
    first = prepare(folder, tmp_path / "store", size=32, progress=False)
    changed = os.stat(first.folder / "images.npy").st_mtime_ns
    prepare(folder, tmp_path / "store", size=32, progress=False)
    assert os.stat(first.folder / "images.npy").st_mtime_ns == changed
    with pytest.raises(FileExistsError, match="not prepared from these files at this size"):
        prepare(folder, tmp_path / "store", size=16, progress=False)


@pytest.mark.parametrize("workers", [1, 3])
def test_bytes_do_not_depend_on_the_workers(folder, tmp_path, workers):
    prepare(folder, tmp_path / "one", size=32, workers=2, progress=False)
    prepare(folder, tmp_path / "two", size=32, workers=workers, progress=False)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


PREPARE = """
import sys, time
import alexnet_lib.preparation as p
p.CHUNK = 4
before = p._prepare_file
def slowly(*arguments):
    time.sleep(0.05)
    return before(*arguments)
p._prepare_file = slowly
p.prepare_folder(*map(p.Path, sys.argv[1:]), size=32, progress=False)
"""


def test_killed_preparation_goes_on_and_ends_with_the_same_bytes(tmp_path):
    source = tmp_path / "pictures"
    for i in range(60):
        path = source / "ab"[i % 2] / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(photograph(i, 40 + i, 50)) if i % 7 else b"no picture")
    command = [sys.executable, "-c", PREPARE, str(source)]
    subprocess.run([*command, str(tmp_path / "whole")], check=True)
    state, kills = tmp_path / ".killed.partial" / "state.npz", 0
    for wanted in (8, 30):
        process = subprocess.Popen([*command, str(tmp_path / "killed")])
        while process.poll() is None and not (state.exists() and done_files(state) >= wanted):
            time.sleep(0.01)
        assert process.poll() is None, "the run ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    left = done_files(state)
    assert kills == 2 and 30 <= left < 60
    with open(state.parent / "images.npy", "ab") as file:  # a torn chunk after the last that counts
        file.write(b"torn")
    subprocess.run([*command, str(tmp_path / "killed")], check=True)
    assert contents(tmp_path / "whole") == contents(tmp_path / "killed")
    assert not state.parent.exists()


def done_files(state):
    try:
        with np.load(state) as values:
            return int(values["files"])
    except (OSError, ValueError):
        return 0


def test_a_folder_without_splits_is_divided_by_name(tmp_path, folder):
    for i in range(80):
        (folder / "cat" / f"{i}.jpg").write_bytes((folder / "cat" / "a b.jpg").read_bytes())
        (folder / "dog" / f"{i}.jpg").write_bytes((folder / "cat" / "a b.jpg").read_bytes())
    stores = load_dataset(str(folder), tmp_path / "data")
    files = {split: set(store.index["file"]) for split, store in stores.items()}
    assert not files["train"] & files["val"] and len(files["train"] | files["val"]) == 164
    assert 4 <= len(files["val"]) <= 40
    assert stores["train"].images.shape[1:] == (256, 256, 3)


def test_auto_takes_the_largest_prepared(tmp_path, folder):
    name, why = choose_dataset("auto", tmp_path)
    assert name == "embedded" and "no larger" in why
    prepare(folder, tmp_path / "prepared" / "imagenette-256" / "train", progress=False)
    name, why = choose_dataset("auto", tmp_path)
    assert name == "imagenette" and "4 training images" in why


def test_a_missing_data_set_says_how_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="'imagenette' is not in .*imagenette: unpack its pictures so that"):
        load_dataset("imagenette", tmp_path)
    with pytest.raises(ValueError, match="'imagenet'; accepted are auto, embedded, embedded32, cifar10"):
        load_dataset("imagenet", tmp_path)


def test_the_built_in_collection_prepares(tmp_path):
    stores = load_dataset("embedded", tmp_path)
    assert {split: len(store) for split, store in stores.items()} == {"train": 2016, "val": 600}
    assert len(stores["train"].classes) == 24 and stores["train"].crop == 64
    assert (np.bincount(stores["train"].labels) == 84).all()
    assert json.loads((stores["val"].folder / "meta.json").read_text())["rejected"] == []
