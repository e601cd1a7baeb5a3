"""§2: which classes and pictures a folder has, whatever lies in it, and that splits agree before any work begins."""

import hashlib
import io
import json
import re
import shutil
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from PIL import Image

from alexnet_lib import dataset, load_dataset, prepare
from alexnet_lib.data import preparation, sources
from alexnet_lib.data.sources import check_classes, find_splits, is_junk, list_files
from alexnet_lib.dataset import example_files, source_files

NFC, NFD = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
JUNK = [".ipynb_checkpoints", "__MACOSX", "@eaDir", "$RECYCLE.BIN", "lost+found", "System Volume Information", ".git"]
JUNK += ["._1.png", "Thumbs.db", "desktop.ini", ".DS_Store", ".hidden.png"]


def picture(seed=0):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


PICTURE = picture()


def fill(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(PICTURE)
    return root


def tree(root, classes):
    """Two pictures of each class of each split: {"train": "ab", "val": "ab"}."""
    return fill(root, *(f"{split}/{name}/{i}.png" for split, names in classes.items() for name in names for i in "12"))


@pytest.fixture
def unprepared(monkeypatch):
    """Makes any work on pictures a failure of the test: what is refused is refused before."""

    def work(*arguments):
        raise AssertionError("a picture was prepared")

    monkeypatch.setattr(preparation, "_prepare_group", work)


def classes_of(folder):
    return {split: list_files(*place)[0] for split, place in find_splits(folder).items()}


# ------------------------------------------------------------------------------------------------ classes of the splits


@pytest.mark.parametrize(
    ("train", "val", "said"),
    [
        ("abc", "ac", "val lacks 'b'$"),
        ("ac", "abc", "val has 'b', which train lacks$"),
        (["Cat", "dog"], ["cat", "dog"], "val lacks 'Cat'; val has 'cat', which train lacks$"),
        ([NFC, "pug"], [NFD, "pug"], r"val lacks '\\xe9'; val has 'e\\u0301', which train lacks$"),
        (["n02085620", "n01440764"], ["n02085621", "n01440764"], "val has 'n02085621', which train lacks$"),
        (map(str, range(10)), map(str, range(3, 10)), "val lacks '0', '1', '2'$"),
        (map(str, range(10)), ["images"], "val lacks '0', '1', '2', '3', '4' and 5 more; val has 'images', which"),
        ("a", "a", "has one class, 'a'; a net needs at least two"),
    ],
)
def test_other_classes_in_val_are_refused_before_any_work(tmp_path, unprepared, train, val, said):
    folder = tree(tmp_path / "photos", {"train": list(train), "val": list(val)})
    with pytest.raises(ValueError, match=said):
        load_dataset(str(folder), tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ({"train": ["a", "b"], "val": ["b", "a"]}, "another order, 'b', 'a' instead of 'a', 'b'"),
        ({"train": ["a", "b"], "val": ["a", "b"], "test": ["a"]}, "the classes of test are not those of train"),
        ({"train": [".ipynb_checkpoints", "a"]}, "takes '.ipynb_checkpoints' for a class"),
        ({"train": ["train", "validation"]}, "these are names of splits"),
        ({"train": ["a", "b", "a"]}, "several classes of the name 'a'"),
        ({"train": []}, "has no class"),
    ],
)
def test_what_cannot_be_the_classes_of_a_store_is_refused(tmp_path, classes, said):
    with pytest.raises(ValueError, match=said):
        check_classes(classes, tmp_path)


def test_stores_that_were_prepared_before_are_compared_too(tmp_path):
    folder = tree(tmp_path / "photos", {"train": "ab", "val": "ab"})
    store = load_dataset(str(folder), tmp_path / "data")["val"]
    meta = store.folder / "meta.json"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"classes": ["b", "a"]}))
    with pytest.raises(ValueError, match="remove it to prepare anew.* the classes of val are not those of train"):
        load_dataset(str(folder), tmp_path / "data")


# ------------------------------------------------------------------------------------------------ what lies in folders


@pytest.mark.parametrize("name", JUNK)
def test_what_systems_leave_behind_is_no_class_and_no_picture(tmp_path, name):
    folder = tree(tmp_path, {"train": "ab", "val": "ab"})
    is_file = "." in name[1:]
    places = ["", "train/a/"] if is_file else ["", "train/", "train/a/"]
    fill(folder, *(f"{place}{name}" if is_file else f"{place}{name}/1.png" for place in places))
    assert classes_of(folder) == {"train": ["a", "b"], "val": ["a", "b"]} and is_junk(name)
    assert [file.name for file in list_files(folder / "train")[1]] == ["a/1.png", "a/2.png", "b/1.png", "b/2.png"]


def test_a_class_without_a_picture_is_refused_before_any_work(tmp_path, unprepared):
    folder = tree(tmp_path / "photos", {"train": "ab", "val": "ab"})
    (folder / "train" / "c").mkdir()
    with pytest.raises(ValueError, match="class 'c' is left without an image: its folder holds no file"):
        load_dataset(str(folder), tmp_path / "data")
    (folder / "train" / "c" / "x.txt").write_text("x")
    with pytest.raises(ValueError, match="class 'c' is left without an image; c/x.txt: not a picture"):
        load_dataset(str(folder), tmp_path / "data")


def test_links_are_followed_to_classes_and_files_but_in_no_circle(tmp_path):
    folder = tree(tmp_path / "real", {"x": "ab"})
    (folder / "x" / "a" / "again").symlink_to(folder / "x" / "a")
    (folder / "linked").mkdir()
    (folder / "linked" / "b").symlink_to(folder / "x" / "a")
    (folder / "linked" / "a").mkdir()
    (folder / "linked" / "a" / "1.png").symlink_to(folder / "x" / "a" / "1.png")
    assert [file.name for file in list_files(folder / "linked")[1]] == ["a/1.png", "b/1.png", "b/2.png"]
    (folder / "linked" / "c").symlink_to(folder)
    with pytest.raises(ValueError, match="c is a link to a folder that it lies in"):
        list_files(folder / "linked")


def test_links_to_folders_below_a_class_are_rejected_and_listed(tmp_path):
    folder, plain = (tree(tmp_path / name, {"x": "ab"}) / "x" for name in ("linked", "plain"))
    fill(tmp_path / "more", "deep/3.png")
    (folder / "b" / "more").symlink_to(tmp_path / "more")
    (folder / "a" / "again").symlink_to(folder / "a")
    reason = "a link to a folder below a class, which isn't followed"
    listed = list_files(folder)
    assert listed.refused == [{"file": name, "reason": reason} for name in ("a/again", "b/more")]
    assert listed.hash(8, "raw") == list_files(plain).hash(8, "raw")  # stores of older versions stay
    store = prepare(folder, tmp_path / "store", 8, progress=False)
    assert store.meta["rejected"] == listed.refused and (store.meta["files"], len(store)) == (6, 4)
    (folder / "a" / "again").unlink()
    sources.require_unchanged(store, folder)
    (folder / "a" / "1.png").unlink()
    (folder / "a" / "again").symlink_to(folder / "a")
    with pytest.raises(ValueError, match="6 then, 5 now, and a/1.png is gone"):
        sources.require_unchanged(store, folder)
    fill(folder, "a/1.png")
    assert [len(list_files(folder, part).refused) for part in ("train", "val")] == [2, 0]  # told once


def test_what_counts_twice_by_a_link_is_refused(tmp_path):
    folder = tree(tmp_path / "photos", {"train": "ab"})
    (folder / "val").symlink_to(folder / "train")
    with pytest.raises(ValueError, match="photos/train and .*photos/val are one folder; remove the link"):
        find_splits(folder)
    (folder / "train" / "c").symlink_to(folder / "train" / "a")
    with pytest.raises(ValueError, match="train/a and .*train/c are one folder; remove the link"):
        list_files(folder / "train")


def test_a_folder_of_anything_is_refused_without_being_walked(tmp_path, monkeypatch):
    """As a home folder would be: the first folder without a picture among its first files ends it."""
    for number in range(40):
        (tmp_path / "Documents" / "old" / str(number)).mkdir(parents=True)
        (tmp_path / "Documents" / "old" / str(number) / "letter.txt").write_text("Dear")
    fill(tmp_path, "Documents/old/zz.png", "Pictures/1.png")
    monkeypatch.setattr(sources, "LOOK", 10)
    seen, before = [], sources.is_picture
    monkeypatch.setattr(
        sources, "is_picture", lambda path: seen.append(path) or str(path)[-4:] != ".png" and before(path)
    )
    with pytest.raises(ValueError, match="class 'Documents' is left without an image"):
        load_dataset(str(tmp_path), tmp_path / "data")
    assert len(seen) <= 10


@pytest.mark.parametrize("name", ["~", "/", "", "~nobody/photos", "a\0b", "x" * 5000])
def test_what_is_no_data_set_is_refused_at_once(tmp_path, monkeypatch, name):
    fill(tree(tmp_path / "home", {"train": "ab", "val": "ab"}), "c/1.png")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "home")
    with pytest.raises(ValueError, match=r"is no data set; name the folder in it|^dataset = '.*'; accepted are auto"):
        load_dataset(name, tmp_path / "data")


# ------------------------------------------------------------------------------------------------ names of splits


@pytest.mark.parametrize(
    ("train", "val"),
    [("train", name) for name in ("val", "validation", "valid", "test", "testing", "Val", "TEST", "test_set")]
    + [("Train", "Validation"), ("training", "validation"), ("training_set", "test_set"), ("train2012", "val2012")],
)
def test_names_of_splits_are_read_in_any_case(tmp_path, train, val):
    folder = tree(tmp_path, {train: "ab", val: "ab", "other": "c"})
    assert find_splits(folder) == {"train": (folder / train, None), "val": (folder / val, None)}


def test_test_pictures_are_left_alone_where_there_is_validation(tmp_path):
    folder = tree(tmp_path, {"train": "ab", "valid": "ab", "test": "xyz"})
    assert find_splits(folder)["val"] == (folder / "valid", None)


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        (["train/a/1.png", "train/b/1.png"], "has 'train' but no folder val, valid, validation, test or testing"),
        (["Validation/a/1.png", "Validation/b/1.png"], "has 'Validation' but no folder train or training"),
        (["bus/1.png", "car/1.png", "train/1.png"], "if 'train' is a class, rename it"),
        (
            ["train/a/1.png", "valid/a/1.png", "validation/a/1.png"],
            "has 'valid', 'validation'; call the one that is me",
        ),
        (["train/1.png", "val/a/1.png"], "train has pictures, but no sub-folders; it wants one for each class"),
        (["train/a/1.png", "train/b/1.png", "val/1.png"], "val has pictures, but no sub-folders"),
        (["1.png"], "has pictures, but no sub-folders"),
        (["images/train/a/1.png", "images/val/a/1.png", "labels/x.png"], "images holds 'train', 'val': that is a data"),
        (["cat/train/1.png", "cat/test/1.png", "dog/train/1.png", "dog/test/1.png"], "cat holds 'test', 'train'"),
    ],
)
def test_splits_are_never_classes(tmp_path, unprepared, paths, said):
    with pytest.raises(ValueError, match=said):
        load_dataset(str(fill(tmp_path / "photos", *paths)), tmp_path / "data")


def test_a_folder_of_splits_is_not_prepared_as_classes(tmp_path, unprepared):
    folder = tree(tmp_path / "photos", {"train": "ab", "validation": "ab"})
    with pytest.raises(ValueError, match="has 'train', 'validation', which are splits, not classes"):
        prepare(folder, tmp_path / "store", progress=False)


@pytest.mark.parametrize("wrapper", ["photos", "photos/data"])
def test_a_folder_around_the_data_set_is_seen_through(tmp_path, wrapper):
    inner = tree(tmp_path / wrapper, {"training_set/training_set": "ab", "test_set/test_set": "ab"})
    fill(tmp_path, "__MACOSX/photos/._1.png")
    places = find_splits(tmp_path)
    assert places["train"] == (inner / "training_set" / "training_set", None)
    assert places["val"] == (inner / "test_set" / "test_set", None)
    classes = tree(tmp_path / "flat", {"flowers": "ab"})
    assert find_splits(classes) == {"train": (classes / "flowers", "train"), "val": (classes / "flowers", "val")}
    assert find_splits(classes / "flowers")["train"] == (classes / "flowers", "train")


def test_trees_of_others_are_refused_with_what_to_do(tmp_path, unprepared):
    """Tiny ImageNet by its path, and Kaggle's copy of ILSVRC by its root, from inside, and by its innermost folder."""
    tiny = fill(tmp_path / "tiny", *(f"train/n0{i}/images/n0{i}_1.JPEG" for i in "123"), "val/images/val_1.JPEG")
    (tiny / "val" / "val_annotations.txt").write_text("val_1.JPEG\tn01\n")
    with pytest.raises(ValueError, match="val lacks 'n01', 'n02', 'n03'; val has 'images', which train lacks"):
        load_dataset(str(tiny), tmp_path / "data")
    root = tmp_path / "kaggle"
    inner = fill(
        root / "ILSVRC" / "Data" / "CLS-LOC", "train/n01/1.JPEG", "train/n02/2.JPEG", "val/3.JPEG", "test/4.JPEG"
    )
    (root / "ILSVRC" / "Annotations" / "CLS-LOC").mkdir(parents=True)
    (root / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n3,n01 0 0 1 1\n")
    for folder in (root, root / "ILSVRC"):
        with pytest.raises(ValueError, match="'Annotations' is left without an image.*name a folder in it"):
            load_dataset(str(folder), tmp_path / "data")
    with pytest.raises(ValueError, match="val has pictures, but no sub-.*LOC_val_solution.csv says which: move"):
        load_dataset(str(inner), tmp_path / "data")


# ------------------------------------------------------------------------------------------------ parts of a folder


def parts_of(folder):
    return {part: [file.name for file in list_files(folder, part)[1]] for part in ("train", "val")}


def by_hash(names):
    """The rule for classes that are large enough."""
    return {name for name in names if hashlib.sha256(name.encode()).digest()[0] < 26}


@settings(max_examples=60)
@given(
    some.dictionaries(some.sampled_from("abc"), some.sets(some.integers(0, 999), min_size=2, max_size=30), min_size=1)
)
def test_every_class_has_a_picture_in_each_part(tmp_path_factory, numbers):
    """And which, its own names alone decide."""
    folder = tmp_path_factory.mktemp("photos")
    fill(folder, *(f"{name}/{i}.png" for name, of in numbers.items() for i in sorted(of)))
    parts = parts_of(folder)
    for name, of in numbers.items():
        every = {f"{name}/{i}.png" for i in of}
        train, val = ({file for file in parts[part] if file.startswith(f"{name}/")} for part in ("train", "val"))
        assert train and val and not train & val and train | val == every
        usual = by_hash(every)
        assert val == usual if usual and usual != every else 1 in (len(train), len(val))
        alone = fill(tmp_path_factory.mktemp("alone"), *every)
        assert set(parts_of(alone)["val"]) == val


def test_parts_do_not_change_where_each_had_a_picture(tmp_path):
    names = [f"{name}/{i}.png" for name in "ab" for i in range(60)]
    parts = parts_of(fill(tmp_path, *names))
    assert set(parts["val"]) == by_hash(names) and parts["train"] == sorted(set(names) - by_hash(names))


def test_text_beside_the_pictures_counts_for_no_part(tmp_path):
    folder = fill(tmp_path, "a/1.png", "a/2.png")
    texts = [f"a/{i}.txt" for i in range(60)]
    for path in texts:
        (folder / path).write_text("text")
    parts = parts_of(folder)
    assert by_hash(texts) and not by_hash(["a/1.png", "a/2.png"])
    assert (
        {Path(name).suffix for name in parts["val"]}
        == {Path(name).suffix for name in parts["train"]}
        == {".txt", ".png"}
    )


def test_a_class_of_one_picture_cannot_be_divided(tmp_path, unprepared):
    folder = fill(tmp_path / "photos", "a/1.png", "a/2.png", "b/1.png")
    with pytest.raises(ValueError, match="class 'b' has one picture. It takes two"):
        load_dataset(str(folder), tmp_path / "data")


# ------------------------------------------------------------------------------------------------ prepared before


def test_a_store_whose_pictures_have_changed_says_so(tmp_path):
    folder = tree(tmp_path / "photos", {"train": "ab", "val": "ab"})
    for split in ("train", "val"):
        fill(folder, f"{split}/b/._1.png")
    load_dataset(str(folder), tmp_path / "data")
    (folder / "train" / "a" / ".DS_Store").touch()
    assert len(load_dataset(str(folder), tmp_path / "data")["train"]) == 4
    fill(folder, *(f"train/a/more{i}.png" for i in range(20)))
    with pytest.raises(ValueError, match=r"4 then, 24 now, and a/more0.png is new\. Delete"):
        load_dataset(str(folder), tmp_path / "data")


@pytest.mark.parametrize(
    ("new", "gone", "why"),
    [
        ("c/", "", "class 'c' is left without an image: its folder holds no file"),
        ("c/x.txt", "", "class 'c' is left without an image; c/x.txt: not a picture"),
        ("c/1.png", "", "class 'c' has one picture"),
        ("", "a/?.png", "class 'a' is left without an image"),
    ],
)
def test_a_store_whose_source_cannot_be_prepared_any_more_says_why(tmp_path, new, gone, why):
    folder = fill(tmp_path / "photos", *(f"{name}/{i}.png" for name in "ab" for i in "123"))
    load_dataset(str(folder), tmp_path / "data")
    if new:
        (folder / new).mkdir(parents=True) if new.endswith("/") else fill(folder, new)
    if new.endswith(".txt"):
        (folder / new).write_text("x")
    for path in folder.glob(gone) if gone else ():
        path.unlink()
    with pytest.raises(ValueError, match=f"made when other files were in .*, which can't be prepared now: {why}"):
        load_dataset(str(folder), tmp_path / "data")


@pytest.mark.parametrize("left", ["classes", "splits", "nothing"])
def test_a_store_outlives_pictures_whose_folders_stay(tmp_path, left):
    folder = tree(tmp_path / "photos", {"train": "ab", "val": "ab"})
    load_dataset(str(folder), tmp_path / "data")
    shutil.rmtree(folder)
    for split in ("train", "val"):
        (folder / {"classes": f"{split}/a", "splits": split, "nothing": ""}[left]).mkdir(parents=True, exist_ok=True)
    assert len(load_dataset(str(folder), tmp_path / "data")["train"]) == 4


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_a_changed_name_that_would_steer_a_terminal_is_escaped(tmp_path):
    folder = tree(tmp_path / "photos", {"train": "ab", "val": "ab"})
    load_dataset(str(folder), tmp_path / "data")
    fill(folder, "train/a/\x1b[2J\r.png")
    with pytest.raises(ValueError, match=r"5 now, and a/\\x1b\[2J\\r\.png is new"):
        load_dataset(str(folder), tmp_path / "data")


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b"null", b"\xff", b'{"listing": 1}', b'{"folders": []}', b"OTHER"]
)
def test_damaged_times_of_a_source_are_noted_anew(tmp_path, monkeypatch, damage):
    monkeypatch.setattr(sources, "FRESH", 0)
    source = fill(tmp_path / "photos", "a/1.png", "b/1.png")
    store = prepare(source, tmp_path / "store", 8, progress=False)
    sources.require_unchanged(store, source)
    noted, looked = (tmp_path / ".store.source.json"), []
    whole = noted.read_bytes()
    monkeypatch.setattr(sources, "list_files", lambda *given: looked.append(given) or list_files(*given))
    sources.require_unchanged(store, source)
    assert not looked
    noted.write_bytes(whole.replace(b'"folders": {', b'"folders": 3, "other": {') if damage == b"OTHER" else damage)
    sources.require_unchanged(store, source)
    assert len(looked) == 1 and noted.read_bytes() == whole


def bitmaps(folder, greys: dict[str, int]):
    """Pictures of one size in pixels and bytes, which only their grey levels tell apart."""
    for name, grey in greys.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), 3 * (grey,)).save(folder / name)
    return folder


def test_other_pictures_of_the_same_names_and_sizes_are_not_taken_for_these(tmp_path):
    dark, light = (bitmaps(tmp_path / str(g), {"x/0.bmp": g, "y/0.bmp": g}) for g in (10, 200))
    store = prepare(dark, tmp_path / "store", 20, progress=False)
    assert prepare(dark, tmp_path / "store", 20, progress=False).meta == store.meta
    with pytest.raises(FileExistsError, match="was not prepared from these files"):
        prepare(light, tmp_path / "store", 20, progress=False)


def test_a_preparation_that_was_begun_with_other_pictures_begins_again(tmp_path, monkeypatch):
    dark, light = (bitmaps(tmp_path / str(g), {"x/0.bmp": g, "y/0.bmp": g}) for g in (10, 200))
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(preparation, "_finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        prepare(dark, tmp_path / "store", 20, progress=False)
    assert (prepare(light, tmp_path / "store", 20, progress=False).images == 200).all()


def test_pictures_that_have_changed_places_are_noticed(tmp_path):
    folder = bitmaps(tmp_path / "photos", {f"{s}/{g}/0.bmp": g for s in ("train", "val") for g in (10, 200)})
    load_dataset(str(folder), tmp_path / "data")
    assert len(source_files(str(folder), "train", 2, tmp_path / "data")) == 2
    for grey, other in ((10, 200), (200, 10)):
        (folder / f"train/{grey}/0.bmp").unlink()
        bitmaps(folder, {f"train/{grey}/0.bmp": other})
    with pytest.raises(ValueError, match="'10/0.bmp', which .* is another picture now"):
        source_files(str(folder), "train", 2, tmp_path / "data")
    with pytest.raises(ValueError, match="was made when 10/0.bmp in .* was another picture"):
        load_dataset(str(folder), tmp_path / "data")


def test_a_store_outlives_its_pictures(tmp_path):
    folder = tree(tmp_path / "photos", {"train": "ab", "val": "ab"})
    load_dataset(str(folder), tmp_path / "data")
    for split in ("train", "val"):
        (folder / split).rename(tmp_path / split)
    assert len(load_dataset(str(folder), tmp_path / "data")["val"]) == 4
    with pytest.raises(ValueError, match="no sub-folders"):
        source_files(str(folder), "train", 2, tmp_path / "data")


def test_where_the_files_are_gone_those_of_the_built_in_pictures_are_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("ALEXNET_DATA", str(tmp_path / "data"))
    folder = tmp_path / "own"
    for split in ("train", "val"):
        for name in ("a", "b"):
            (folder / split / name).mkdir(parents=True)
            (folder / split / name / "1.png").write_bytes(picture())
    load_dataset(str(folder))
    whose, files = example_files(str(folder), 400)
    assert whose == str(folder) and [file.name for file in files] == ["a/1.png", "b/1.png"]
    whose, files = example_files("cifar10", 3)
    assert whose == "embedded" and len(files) == 3


def test_a_picture_more_is_noticed_in_a_class_that_is_a_link(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "FRESH", 0)
    tree(tmp_path / "real", {"train": "ab", "val": "ab"})
    for split in ("train", "val"):
        (tmp_path / "set" / split).mkdir(parents=True)
        for name in "ab":
            (tmp_path / "set" / split / name).symlink_to(tmp_path / "real" / split / name)
    for _ in range(2):  # prepared, then opened
        load_dataset(str(tmp_path / "set"), tmp_path / "data")
    (tmp_path / "real" / "train" / "a" / "9.png").write_bytes(picture(9))
    with pytest.raises(ValueError, match="a/9.png is new"):
        load_dataset(str(tmp_path / "set"), tmp_path / "data")


# --------------------------------------------------------------------------------------------------------- destinations


@pytest.mark.parametrize("destination", ["pictures/store", "pictures/a/store", "pictures", "link/store"])
def test_a_store_among_its_own_pictures_is_refused_before_they_are_listed(tmp_path, monkeypatch, capsys, destination):
    """The next call would take it for a class."""
    source = fill(tmp_path / "pictures", "a/1.png", "b/1.png")
    (tmp_path / "link").symlink_to("pictures")
    monkeypatch.setattr(dataset, "list_files", None)
    said = f"{tmp_path / destination} lies in {source}, where it would be taken for a class or for part of one"
    with pytest.raises(ValueError, match=re.escape(said)):
        prepare(source, tmp_path / destination, progress=False)
    with pytest.raises(SystemExit):
        dataset.main(["prepare", str(source), str(tmp_path / destination)])
    assert said in capsys.readouterr().err and len([*source.rglob("*")]) == 4


def test_one_in_a_hidden_folder_or_beside_the_pictures_is_no_class(tmp_path):
    source = fill(tmp_path / "pictures", "a/1.png", "b/1.png")
    for destination in (source / ".stores" / "4", tmp_path / "pictures 4"):
        for _ in range(2):
            assert prepare(source, destination, 4, progress=False).classes == ["a", "b"]


def test_stores_of_a_data_set_among_its_own_pictures_are_refused(tmp_path, monkeypatch, unprepared):
    source = fill(tmp_path / "mine", *(f"{name}/{i}.png" for name in "ab" for i in "1234"))
    monkeypatch.setenv("ALEXNET_STORES", str(source / "stores"))
    with pytest.raises(ValueError, match=r"train lies in .*mine, where .* \$ALEXNET_STORES"):
        load_dataset(str(source), tmp_path / "data")


def test_a_destination_that_is_a_link_to_nothing_is_refused_before_any_work(tmp_path, unprepared):
    source = fill(tmp_path / "pictures", "a/1.png", "b/1.png")
    (tmp_path / "store").symlink_to("nowhere")
    with pytest.raises(FileExistsError, match="store is a link to nowhere, where nothing is; remove the link or name"):
        prepare(source, tmp_path / "store", progress=False)
    with pytest.raises(FileExistsError, match="store is a link to nowhere"):
        preparation.prepare_files(list_files(source), tmp_path / "store", progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures", "store"]
