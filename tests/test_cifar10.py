"""CIFAR-10 from the official archive and from folders of pictures; a small imitation of each."""

import hashlib
import pickle
import shutil
import tarfile
import urllib.error

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import CIFAR10, Imagenette

from alexnet_lib import load_dataset
from alexnet_lib.data.download import ARCHIVES
from alexnet_lib.dataset import choose_dataset, main

ARCHIVE = "cifar-10-python.tar.gz"
CLASSES, LISTS = ["airplane", "automobile"], ("train_list", "test_list")


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def official(tmp_path, monkeypatch):
    """An archive of six batches of four pictures in the official form, whose hashes torchvision is told to expect."""
    batches = tmp_path / "made" / CIFAR10.base_folder
    batches.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name, _ in CIFAR10.train_list + CIFAR10.test_list:
        data = generator.integers(0, 256, (4, 3072), np.uint8)
        (batches / name).write_bytes(pickle.dumps({"data": data, "labels": [0, 1, 1, 0]}))
    (batches / "batches.meta").write_bytes(pickle.dumps({"label_names": CLASSES}))
    (tmp_path / "cifar10").mkdir()
    archive = tmp_path / "cifar10" / ARCHIVE
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(batches, CIFAR10.base_folder)
    hashes = {name: [[file, md5(batches / file)] for file, _ in getattr(CIFAR10, name)] for name in LISTS}
    monkeypatch.setitem(ARCHIVES, "cifar10", ARCHIVES["cifar10"]._replace(md5=md5(archive)))
    hashes |= {"meta": CIFAR10.meta | {"md5": md5(batches / "batches.meta")}}
    for name, value in hashes.items():
        monkeypatch.setattr(CIFAR10, name, value)
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    return batches, archive


def refuse(*arguments, **options):
    raise urllib.error.URLError("no route to host")


def pictures_of(batches, name):
    return pickle.loads((batches / name).read_bytes())["data"].reshape(4, 3, 32, 32).transpose(0, 2, 3, 1)


def test_official_archives_are_torchvisions():
    assert ARCHIVES["cifar10"] == (CIFAR10.url, CIFAR10.tgz_md5, CIFAR10.base_folder)
    assert ARCHIVES["imagenette"][:2] == Imagenette._ARCHIVES["full"]


def test_the_official_archive_is_read_without_the_network(official, tmp_path):
    batches, _ = official
    stores = load_dataset("cifar10", tmp_path)
    assert [len(stores[split]) for split in ("train", "val")] == [20, 4]
    assert stores["train"].classes == CLASSES and stores["train"].labels.tolist() == [0, 1, 1, 0] * 5
    np.testing.assert_array_equal(stores["train"].images[4:8], pictures_of(batches, "data_batch_2"))
    np.testing.assert_array_equal(stores["val"].images, pictures_of(batches, "test_batch"))
    assert stores["val"].meta["lossy"] is False and stores["val"].meta["source"] == "official archive"
    again = load_dataset("cifar10", tmp_path)
    assert again["train"].meta == stores["train"].meta


def test_a_preparation_that_was_cut_off_goes_on(official, tmp_path):
    shutil.rmtree(load_dataset("cifar10", tmp_path)["val"].folder)
    assert [len(store) for store in load_dataset("cifar10", tmp_path).values()] == [20, 4]


def test_the_unpacked_archive_is_read(official, tmp_path):
    batches, archive = official
    archive.unlink()
    batches.rename(tmp_path / "cifar10" / CIFAR10.base_folder)
    assert len(load_dataset("cifar10", tmp_path)["train"]) == 20


def test_a_wrong_archive_is_not_opened(official, tmp_path):
    _, archive = official
    archive.write_bytes(archive.read_bytes()[:-9])
    with pytest.raises(ValueError, match=f"{ARCHIVE} .* has md5 {md5(archive)}, the official file"):
        load_dataset("cifar10", tmp_path)
    assert not (tmp_path / "cifar10" / CIFAR10.base_folder).exists()


def test_a_changed_file_of_the_archive_is_not_opened(official, tmp_path):
    batches, archive = official
    archive.unlink()
    (batches / "data_batch_3").write_bytes(pickle.dumps({"data": np.zeros((4, 3072), np.uint8), "labels": [0] * 4}))
    batches.rename(tmp_path / "cifar10" / CIFAR10.base_folder)
    with pytest.raises(ValueError, match="files are missing from .*cifar-10-batches-py or not the official ones"):
        load_dataset("cifar10", tmp_path)


def test_a_host_that_fails_is_an_error_with_the_ways_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ALEXNET_DATA", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(SystemExit) as exit_:
        main(["download", "cifar10"])
    said = capsys.readouterr().err
    assert exit_.value.code == 2 and "was not delivered: <urlopen error no route to host>" in said
    assert f"{ARCHIVE} (md5 {CIFAR10.tgz_md5}) into {tmp_path / 'cifar10'}" in said


def test_what_was_downloaded_is_not_downloaded_again(official, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ALEXNET_DATA", str(tmp_path))
    main(["download", "cifar10"])
    assert capsys.readouterr().out == "cifar10: 20 and 4 images are ready\n"


@pytest.mark.parametrize(("suffix", "lossy"), [("jpg", True), ("png", False)])
def test_folders_of_pictures_say_whether_they_are_lossy(tmp_path, suffix, lossy):
    generator = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in CLASSES:
            folder = tmp_path / "cifar10" / split / name
            folder.mkdir(parents=True)
            for i in range(2):
                Image.fromarray(generator.integers(0, 256, (32, 32, 3), np.uint8)).save(folder / f"{i}.{suffix}")
    stores = load_dataset("cifar10", tmp_path)
    assert {split: len(store) for split, store in stores.items()} == {"train": 4, "val": 4}
    assert stores["train"].classes == CLASSES and stores["train"].images.shape == (4, 32, 32, 3)
    assert {store.meta["lossy"] for store in stores.values()} == {lossy}
    assert choose_dataset("auto", tmp_path)[0] == "embedded"  # AlexNet wants larger pictures


@pytest.mark.parametrize(("name", "kind", "lossy"), [("1.png", "JPEG", True), ("1.jpg", "PNG", False)])
def test_whether_pictures_are_lossy_their_content_says(tmp_path, name, kind, lossy):
    for path in [f"{split}/{name}" for split in ("train", "val") for name in CLASSES]:
        (tmp_path / "cifar10" / path).mkdir(parents=True)
        Image.new("RGB", (32, 32), "red").save(tmp_path / "cifar10" / path / name, kind)
    assert load_dataset("cifar10", tmp_path)["train"].meta["lossy"] is lossy


def test_folders_with_other_classes_in_test_are_refused(tmp_path):
    for path in ["train/airplane", "train/automobile", "test/airplane", "test/car"]:
        (tmp_path / "cifar10" / path).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(tmp_path / "cifar10" / path / "1.png")
    with pytest.raises(ValueError, match="val lacks 'automobile'; val has 'car', which train lacks"):
        load_dataset("cifar10", tmp_path)


def test_no_pictures_at_all_says_how_to_get_them(tmp_path):
    with pytest.raises(FileNotFoundError, match="download cifar10` fetches it; or put the file cifar-10-python.tar.gz"):
        load_dataset("cifar10", tmp_path)
