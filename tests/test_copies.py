"""§2: ImageNet in the forms in which people have it, where it cannot be written to, and where there is no room."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from alexnet_lib import load_dataset, prepare, training
from alexnet_lib.data import ilsvrc, parquet, preparation
from alexnet_lib.dataset import STORE_SIZES, main, source_files
from tests.small_ilsvrc import FEW, colour, make_2012, picture, truth, unpacked, wnids

LABELS = truth(FEW, 2)[0]


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Four classes with two validation pictures each, and stores of 8 pixels a side."""
    monkeypatch.setattr(ilsvrc, "CLASSES", FEW)
    monkeypatch.setattr(ilsvrc, "PER_CLASS", {"val": 2, "test": 3})
    monkeypatch.setattr(ilsvrc, "CLASSES_SHA256", {})
    monkeypatch.setitem(STORE_SIZES, "ilsvrc2012", 8)
    monkeypatch.setenv("ALEXNET_PROGRESS", "none")


def number(i):
    return f"ILSVRC2012_val_{i:08d}"


def train_of(home):
    for label, name in enumerate(wnids()):
        (home / "train" / name).mkdir(parents=True)
        for i in range(2):
            (home / "train" / name / f"{name}_{i}.JPEG").write_bytes(picture(label, i))


def kaggle(root):
    """The tree of imagenet-object-localization-challenge; its test pictures have no labels."""
    home = root / "ILSVRC" / "Data" / "CLS-LOC"
    train_of(home)
    for split in ("val", "test"):
        (home / split).mkdir()
    (root / "ILSVRC" / "Annotations" / "CLS-LOC" / "val").mkdir(parents=True)
    (root / "ILSVRC" / "ImageSets" / "CLS-LOC").mkdir(parents=True)
    (home / "test" / "ILSVRC2012_test_00000001.JPEG").write_bytes(picture(0))
    lines = [f"{number(i)},{wnids()[label]} 1 2 3 4 {wnids()[label]} 5 6 7 8 \n" for i, label in enumerate(LABELS, 1)]
    (root / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + "".join(reversed(lines)))
    (root / "LOC_synset_mapping.txt").write_text("".join(f"{name} thing\n" for name in wnids()))
    for i, label in enumerate(LABELS, 1):
        (home / "val" / f"{number(i)}.JPEG").write_bytes(picture(label))
    return root


def named(root, train=False):
    """Flat validation pictures whose names carry the class, as in Hugging Face's archives; training alike or not."""
    if train:
        (root / "train").mkdir(parents=True)
        for label, name in enumerate(wnids()):
            for i in range(2):
                (root / "train" / f"{name}_{i}_{name}.JPEG").write_bytes(picture(label, i))
    else:
        train_of(root)
    (root / "val").mkdir()
    for i, label in enumerate(LABELS, 1):
        (root / "val" / f"{number(i)}_{wnids()[label]}.JPEG").write_bytes(picture(label))
    return root


def contents(stores, without=("meta.json",)):
    return {
        split: {path.name: path.read_bytes() for path in store.folder.iterdir() if path.name not in without}
        for split, store in stores.items()
    }


@pytest.fixture
def official(tmp_path):
    """The stores of the archives of image-net.org."""
    make_2012(tmp_path / "official" / "ilsvrc2012")
    return contents(load_dataset("ilsvrc2012", tmp_path / "official"))


@pytest.fixture(autouse=True)
def folders(tmp_path):
    (tmp_path / "official").mkdir()


def names_below(folder):
    return sorted(str(path) for path in folder.rglob("*"))


def moved(root):
    """Kaggle's tree with its list in another of the folders around the pictures."""
    (kaggle(root) / "LOC_val_solution.csv").rename(root / "ILSVRC" / "LOC_val_solution.csv")
    return root


COPIES = {
    "Kaggle's": kaggle,
    "Kaggle's, its list moved": moved,
    "names": named,
    "names, of training too": lambda root: named(root, True),
}


@pytest.mark.parametrize("copy", COPIES)
def test_every_copy_makes_the_store_of_the_archives(copy, official, tmp_path):
    root = COPIES[copy](tmp_path / "data" / "ilsvrc2012")
    before = names_below(root)
    assert contents(load_dataset("ilsvrc2012", tmp_path / "data")) == official
    assert names_below(root) == before
    files = source_files("ilsvrc2012", "val", 2, tmp_path / "data")
    assert [file.read_bytes() for file in files] == [picture(0), picture(FEW - 1)]


@pytest.mark.parametrize("inner", ["", "ILSVRC", "ILSVRC/Data/CLS-LOC"])
def test_kaggles_tree_is_read_by_its_path_too(inner, official, tmp_path):
    place = kaggle(tmp_path / "kaggle") / inner
    stores = load_dataset(str(place), tmp_path / "data")
    assert [store.labels.tolist() for store in stores.values()] == [sorted([*range(FEW), *range(FEW)])] * 2
    assert stores["val"].classes == wnids()
    assert contents(stores)["val"]["index.csv"] == official["val"]["index.csv"]


def test_archives_are_read_by_the_path_of_their_folder(official, tmp_path):
    stores = load_dataset(str(tmp_path / "official" / "ilsvrc2012"), tmp_path / "data")
    assert contents(stores)["train"]["index.csv"] == official["train"]["index.csv"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: lines[:-1], r"has classes of 7 pictures; it wants 8, 2 of each class"),
        (lambda lines: [lines[0].replace(wnids()[0], wnids()[1])] + lines[1:], "it wants 8, 2 of each class"),
        (lambda lines: ["\0\xff"], "has classes of 0 pictures"),
    ],
)
def test_a_list_of_labels_that_is_not_whole_is_refused_before_any_work(change, said, tmp_path):
    root = kaggle(tmp_path / "ilsvrc2012")
    path = root / "LOC_val_solution.csv"
    lines = sorted(path.read_text().splitlines()[1:], key=lambda line: line.split(",")[1])
    path.write_text("\n".join(change(lines)), encoding="latin-1")
    with pytest.raises(ValueError, match=said):
        load_dataset("ilsvrc2012", tmp_path)
    assert not (tmp_path / "prepared").exists()


def test_names_that_miss_a_picture_or_a_class_are_refused(tmp_path):
    root = named(tmp_path / "ilsvrc2012")
    first = root / "val" / f"{number(1)}_{wnids()[LABELS[0]]}.JPEG"
    first.rename(root / "val" / f"{number(1)}_n99999999.JPEG")
    with pytest.raises(ValueError, match="val has 5 classes; ILSVRC-2012 has 4"):
        load_dataset("ilsvrc2012", tmp_path)
    (root / "val" / f"{number(1)}_n99999999.JPEG").unlink()
    with pytest.raises(ValueError, match=f"val has 1 files of class {wnids()[LABELS[0]]}, a whole copy 2"):
        load_dataset("ilsvrc2012", tmp_path)


# ------------------------------------------------------------------------------------------------------ parquet files


WORDS = [f"thing {i}, stuff" for i in range(FEW)]


def write_shard(path, rows, words=WORDS, said=None, **options):
    """rows: (label, name, bytes); said: the names of the classes as text, which need not be whole."""
    pa = pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
    from pyarrow.parquet import write_table

    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    labels, names, data = ([row[i] for row in rows] for i in range(3))
    images = pa.array([{"bytes": b, "path": n} for b, n in zip(data, names, strict=True)], image)
    features = {"image": {"_type": "Image"}, "label": {"names": words, "_type": "ClassLabel"}}
    about = {b"huggingface": json.dumps({"info": {"features": features}}).encode()} if words else {}
    about |= {b"huggingface": b'{"info": {"features": {"label": {"names": %s}}}}' % said} if said else {}
    table = pa.table({"image": images, "label": pa.array(labels, pa.int64())}).replace_schema_metadata(about)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(table, path, **({"row_group_size": 3} | options))


def shards(root, names=True, words=WORDS):
    """ImageNet as on Hugging Face: shuffled, in several files of several row groups, test pictures without labels."""
    order = np.random.default_rng(3).permutation(2 * FEW)
    which = [(label, i, f"{wnids()[label]}_{i}_{wnids()[label]}.JPEG") for label in range(FEW) for i in (0, 1)]
    training = [(label, name, picture(label, i)) for label, i, name in which]
    training = [training[i] for i in order]
    held = [(int(label), f"{number(i)}_{wnids()[label]}.JPEG", picture(label)) for i, label in enumerate(LABELS, 1)]
    for split, rows in (("train", training), ("validation", held)):
        rows = rows if names else [(label, None, data) for label, _, data in rows]
        for part in range(2):
            write_shard(root / "data" / f"{split}-{part:05d}-of-00002.parquet", rows[part * 4 : part * 4 + 4], words)
    write_shard(root / "data" / "test-00000-of-00001.parquet", [(-1, None, picture(0))], words)
    return root


def shown(store):
    return np.abs(store.images[:, 4, 4].astype(int) - [colour(label) for label in store.labels]).max() <= 6


def test_parquet_files_are_read_in_their_order(official, tmp_path):
    root = shards(tmp_path / "data" / "ilsvrc2012")
    before = names_below(root)
    stores = load_dataset("ilsvrc2012", tmp_path / "data")
    assert list(stores) == ["train", "val"] and names_below(root) == before
    for split, store in stores.items():
        assert store.classes == wnids() and shown(store) and store.meta["words"] == WORDS
        lines = official[split]["index.csv"].decode().splitlines()
        assert sorted((store.folder / "index.csv").read_text().splitlines()) == sorted(lines)
    assert stores["train"].labels.tolist() != sorted(stores["train"].labels)
    files = source_files("ilsvrc2012", "train", 8, tmp_path / "data")
    made_from = [picture(label, i) for label in range(FEW) for i in (0, 1)]
    assert sorted(file.read_bytes() for file in files) == sorted(made_from)


@pytest.mark.parametrize("names", [True, False])
def test_any_data_set_in_parquet_files_is_read_by_its_path(names, tmp_path):
    stores = load_dataset(str(shards(tmp_path / "set", names)), tmp_path / "data")
    assert all(store.classes == WORDS for store in stores.values())
    index = stores["train"].index["file"]
    assert index.is_unique and index.str.startswith("thing").all()
    if not names:
        assert index[0].endswith("/train-00000-of-00002-000000")
        with pytest.raises(ValueError, match="names don't give each class the WNID of ILSVRC-2012"):
            load_dataset("ilsvrc2012", shards(tmp_path / "more" / "ilsvrc2012", False).parent)


def test_folders_of_splits_hold_parquet_files_too(tmp_path):
    rows = [(label, None, picture(label)) for label in range(FEW)]
    write_shard(tmp_path / "set" / "train" / "0000.parquet", rows, words=())
    write_shard(tmp_path / "set" / "test" / "0000.parquet", rows, words=())
    assert load_dataset(str(tmp_path / "set"), tmp_path / "data")["val"].classes == [*"0123"]


def test_a_row_that_is_no_picture_is_listed(tmp_path):
    rows = [(label, f"{label}-{i}.jpg", picture(label)) for label in range(FEW) for i in (0, 1)]
    odd = [(0, "none.jpg", None), (1, "text.jpg", b"text"), (None, "unknown.jpg", picture(0)), (9, "far.jpg", b"")]
    for split in ("train", "val"):
        write_shard(tmp_path / "set" / f"{split}.parquet", rows + odd)
    store = load_dataset(str(tmp_path / "set"), tmp_path / "data")["train"]
    reasons = {entry["file"].split("/")[-1]: entry["reason"] for entry in store.meta["rejected"]}
    assert reasons["none.jpg"] == "empty file" and "known format" in reasons["text.jpg"]
    assert reasons["unknown.jpg"] == "label -1, not 0 to 3" and reasons["far.jpg"] == "label 9, not 0 to 3"
    assert len(store) == len(rows) and store.meta["files"] == len(rows) + len(odd)


def test_shards_that_name_their_classes_otherwise_or_stand_there_twice_are_refused(tmp_path):
    rows = [(label, f"{label}.jpg", picture(label)) for label in range(2)]
    for place, second in (("names", "train-00001-of-00002"), ("twice", "data/train-00000-of-00002")):
        for name in ("validation-00000-of-00001", "train-00000-of-00002", second):
            words = ["dog", "cat"] if place == "names" and name == second else ["cat", "dog"]
            write_shard(tmp_path / place / f"{name}.parquet", rows, words)
    with pytest.raises(ValueError, match="names its classes otherwise than"):
        load_dataset(str(tmp_path / "names"), tmp_path / "data")
    with pytest.raises(ValueError, match=r"the parquet files \[0, 0\] of train, and not each of them once"):
        load_dataset(str(tmp_path / "twice"), tmp_path / "data")


def empty(root):
    for split in ("train", "validation"):
        for part in range(2):
            write_shard(root / "data" / f"{split}-{part:05d}-of-00002.parquet", [], words=())


def cut(root):
    path = root / "data" / "train-00001-of-00002.parquet"
    path.write_bytes(path.read_bytes()[:-20])


def lose(root):
    (root / "data" / "train-00001-of-00002.parquet").unlink()


def lose_split(root):
    for path in root.glob("data/[vt]*-of-0000[12].parquet"):
        if not path.name.startswith("train"):
            path.unlink()


def other_columns(root):
    import pyarrow as pa
    from pyarrow.parquet import write_table

    write_table(pa.table({"img": [b"x"], "label": [0]}), root / "data" / "train-00000-of-00002.parquet")


def other_words(root):
    rows = [(label, None, picture(label)) for label in range(FEW)]
    for part in range(2):
        write_shard(root / "data" / f"validation-{part:05d}-of-00002.parquet", rows, ["x", *WORDS[1:]])


def empty_class(root):
    for part in range(2):
        write_shard(root / "data" / f"validation-{part:05d}-of-00002.parquet", [(0, None, picture(0))])


def rows_of(*rows, **options):
    """Training files of these rows alone."""

    def damage(root):
        for part in range(2):
            write_shard(root / "data" / f"train-{part:05d}-of-00002.parquet", rows, words=(), **options)

    return damage


def durations(root):
    import pyarrow as pa
    from pyarrow.parquet import write_table

    image = pa.array([{"bytes": b"x", "path": "x"}])
    labels = pa.array([2**33], pa.time64("us"))
    for part in range(2):
        table = pa.Table.from_arrays([image, labels, labels], ["image", "label", "label"])
        write_table(table, root / "data" / f"train-{part:05d}-of-00002.parquet")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (rows_of((2**62, None, b"")), "00000-of-00002.parquet has label 4611686018427387904 among 2 rows"),
        (
            rows_of(*[(0, None, None)] * 20_000, row_group_size=20_000),
            "00000-of-00002.parquet is damaged .* 20,000 rows",
        ),
        (durations, "00000-of-00002.parquet is damaged"),
        *(
            (rows_of((0, None, b""), said=names), f"00000-of-00002.parquet, its metadata: {found}")
            for names, found in [
                (b"5", "info.features.label.names is 5; accepted: a valid list"),
                (b'{"a": 1}', "info.features.label.names is {'a': 1}; accepted: a valid list"),
                (b'["\\ud800"]', r"a class '\\ud800'; accepted: names that can be written"),
                (b"[" * 10**5, "it can't be read"),
                (b"[1, 2]", "info.features.label.names.0 is 1; accepted: a valid string"),
                (b'["a", null]', "info.features.label.names.1 is None; accepted: a valid string"),
                (
                    b'["%s"]' % (b"a" * 1001),
                    ".*names.0 is 'a+…; accepted: a name of at most 1,000 characters",
                ),
            ]
        ),
        (empty, "set has no class; a net needs at least two"),
        (cut, "train-00001-of-00002.parquet is damaged or not a whole copy"),
        (lose, "has 1 parquet files of train, 1 too few"),
        (lose_split, "has parquet files of train alone; accepted are train-… and validation-…"),
        (other_columns, r"has columns img, label, and no image.bytes; accepted: image \{bytes, path\}, label"),
        (other_words, "val lacks 'thing 0, stuff'; val has 'x'"),
        (empty_class, "class 'thing 1, stuff' of val is left without an image"),
    ],
)
def test_parquet_files_are_checked_before_any_work(damage, said, tmp_path, monkeypatch):
    root = shards(tmp_path / "set")
    damage(root)
    monkeypatch.setattr(preparation, "_prepare_group", None)
    with pytest.raises(ValueError, match=said):
        load_dataset(str(root), tmp_path / "data")


def test_damage_within_a_shard_is_an_error_that_names_it(tmp_path):
    root = shards(tmp_path / "set")
    path = root / "data" / "train-00000-of-00002.parquet"
    data = bytearray(path.read_bytes())
    start = data.index(b"\xff\xd8\xff")
    data[start - 30 : start + 400] = bytes(430)
    path.write_bytes(data)
    with pytest.raises(ValueError, match="train-00000-of-00002.parquet is damaged"):
        load_dataset(str(root), tmp_path / "data")


LARGE = "a" * 10**6
PLAIN = {"compression": "zstd", "write_statistics": False, "use_dictionary": False}


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        ([(0, LARGE, b"")] * 200, {"row_group_size": 200}, "row group 0 more than 67,108,864 of image.path"),
        ([(0, LARGE, b"")] * 200, {"row_group_size": 100}, "its row groups more than 67,108,864 of image.path"),
        ([(0, None, LARGE.encode())] * 200, {"row_group_size": 200}, "row group 0 more than 67,108,864 of image.bytes"),
        ([(0, None, bytes(2**26 + 1))], {"use_dictionary": False}, "row group 0 more than 67,108,864 of image.bytes"),
    ],
)
def test_a_few_bytes_that_stand_for_many_do_not_take_their_memory(tmp_path, rows, options, said):
    path = tmp_path / "set" / "train.parquet"
    write_shard(path, rows, (), compression="zstd", write_statistics=False, **options)
    import pyarrow as pa

    assert path.stat().st_size < 10_000
    taken = pa.proxy_memory_pool(pa.default_memory_pool())  # which counts anew
    before = pa.default_memory_pool()
    pa.set_memory_pool(taken)
    try:
        with pytest.raises(ValueError, match=rf"train.parquet has [\d,]+ bytes, and {said}; accepted are at most"):
            [file.read_bytes() for file in parquet.list_split(path.parent, "train").files]
    finally:
        pa.set_memory_pool(before)
    assert taken.max_memory() < 2**28


def zigzag(number):
    """A positive integer as Thrift's compact protocol writes it."""
    digits = [2 * number >> shift & 127 for shift in range(0, 7 * -(-(2 * number).bit_length() // 7), 7)]
    return bytes([digit | 128 for digit in digits[:-1]] + digits[-1:])


@pytest.mark.skipif(sys.platform != "linux", reason="looks into Linux' /proc")
def test_a_page_that_tells_of_two_gigabytes_does_not_take_them(tmp_path):
    path = tmp_path / "set" / "train.parquet"
    write_shard(path, [(i % 7, None, b"-" * 50) for i in range(5000)], (), **PLAIN | {"row_group_size": 5000})
    import pyarrow.parquet

    labels, data = pyarrow.parquet.read_metadata(path).row_group(0).column(2), path.read_bytes()
    page, footer = labels.data_page_offset, len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    told = zigzag(8 * 5000 + 7)  # 8 bytes a label, and what says that none is missing
    before, after = data[page:footer].split(told, 1)
    assert labels.path_in_schema == "label" and len(before) < 5
    larger, own = zigzag(2**31 - 4096), labels.total_compressed_size
    lie, size = before + larger + after, zigzag(own + len(larger) - len(told))
    assert data[footer:].count(zigzag(own)) == 1 and len(size) == len(zigzag(own))
    path.write_bytes(data[:page] + lie + data[footer:].replace(zigzag(own), size))
    code = """
import sys
from pathlib import Path
import pyarrow.parquet
from alexnet_lib.data.parquet import list_split
try:
    list_split(Path(sys.argv[1]), "train")
except ValueError as error:
    print(error)
print(*[line for line in open("/proc/self/status") if line.startswith("VmHWM")])
"""
    said = subprocess.run([sys.executable, "-c", code, path.parent], capture_output=True, text=True, check=True).stdout
    assert "train.parquet is damaged or not a whole copy" in said
    assert int(re.search(r"VmHWM:\s+(\d+) kB", said)[1]) < 2**18  # 256 MB


def test_many_pictures_of_one_row_group_are_read(tmp_path):
    """More rows than a batch has, and more bytes than any file may have that is small."""
    data = [np.random.default_rng(i).bytes(10**6) for i in range(70)]
    rows = [(0, f"{i}.jpg", each) for i, each in enumerate(data)]
    write_shard(tmp_path / "set" / "train.parquet", rows, (), row_group_size=70)
    assert [file.read_bytes() for file in parquet.list_split(tmp_path / "set", "train").files] == data


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch, capsys):
    (tmp_path / "set").mkdir()
    for split in ("train", "val"):
        (tmp_path / "set" / f"{split}.parquet").touch()
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(SystemExit):
        main(["prepare", str(tmp_path / "set")])
    assert "python -m pip install pyarrow`, or the extra alexnet-walkthrough[parquet]" in capsys.readouterr().err
    (tmp_path / "run.json").write_text(json.dumps({"dataset": str(tmp_path / "set")}))
    with pytest.raises(SystemExit):
        training.main([str(tmp_path / "run.json")])
    assert "the extra alexnet-walkthrough[parquet]" in capsys.readouterr().err


def test_a_row_group_is_read_once_for_its_pictures(tmp_path):
    root = shards(tmp_path / "set")
    files = parquet.list_split(root, "train").files
    parquet._group.cache_clear()
    assert all(file.read_bytes().startswith(b"\xff\xd8\xff") for file in files)
    assert parquet._group.cache_info().misses == 4 and parquet._group.cache_info().hits == 4


# ------------------------------------------------------------------------------------------------- where stores go


def test_a_folder_that_cannot_be_written_to_has_its_stores_elsewhere(tmp_path, monkeypatch, capsys):
    root = unpacked_tree(tmp_path)
    data = root.parent
    monkeypatch.setenv("ALEXNET_DATA", str(data))
    read_only = lambda path, mode: not (mode & os.W_OK and Path(path).is_relative_to(data))  # noqa: E731
    monkeypatch.setattr(os, "access", read_only)
    before = names_below(data)
    with pytest.raises(PermissionError, match="cannot be written there; set .ALEXNET_STORES to") as error:
        load_dataset("ilsvrc2012")
    assert error.value.filename == str(data) and names_below(data) == before
    monkeypatch.setenv("ALEXNET_STORES", str(tmp_path / "stores"))
    main(["prepare", "ilsvrc2012"])
    said = capsys.readouterr().out.splitlines()[0]
    assert said.startswith("16 pictures take 0.0 MB in ") and str(tmp_path / "stores") in said and "free" in said
    assert load_dataset("ilsvrc2012")["train"].folder == tmp_path / "stores" / "ilsvrc2012-8" / "train"
    assert names_below(data) == before


def unpacked_tree(tmp_path):
    make_2012(tmp_path / "official" / "ilsvrc2012")
    return unpacked(tmp_path / "official" / "ilsvrc2012")


Disk = namedtuple("Disk", "total used free")


@pytest.mark.parametrize("form", ["raw", "jpeg"])
def test_what_does_not_fit_is_refused_with_its_numbers_before_any_work(form, tmp_path, monkeypatch):
    root = kaggle(tmp_path / "ilsvrc2012")
    name = "ilsvrc2012" if form == "raw" else "ilsvrc2012-jpeg"
    each = (8 * 8 * 3 if form == "raw" else 256 * 256 * 3 // 10) + 512
    said = f"16 pictures take .*{16 * each / 1e6:.1f} MB in .*, where 0.0 MB are free. Make room.* set .ALEXNET_STORES"
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda path: Disk(0, 0, 16 * each - 1))
        patched.setattr(preparation, "_prepare_group", None)
        with pytest.raises(OSError, match=said.replace("0.0 MB are", r"\d.\d MB are")):
            load_dataset(name, tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Disk(0, 0, 16 * each))
    assert len(load_dataset(name, tmp_path)["train"]) == 8
    monkeypatch.setattr(shutil, "disk_usage", None)  # nothing is asked once all is there
    assert len(load_dataset(name, tmp_path)["train"]) == 8 and root.is_dir()


def test_what_an_earlier_run_has_left_needs_no_room_again(tmp_path, monkeypatch):
    monkeypatch.setattr(preparation, "CHUNK_SMALL", 2)
    source = unpacked_tree(tmp_path) / "train"
    before, done = preparation.decode, []

    def stop(data):
        done.append(data)
        if len(done) > 4:
            raise KeyboardInterrupt
        return before(data)

    with monkeypatch.context() as patched:
        patched.setattr(preparation, "decode", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(source, tmp_path / "store", 64, 1, False)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Disk(0, 0, 8 * (64 * 64 * 3 + 512) - 3 * 64 * 64 * 3))
    assert len(prepare(source, tmp_path / "store", 64, 1, False)) == 8


@pytest.mark.parametrize("size", [0, -3, 10**6])
def test_sizes_that_no_store_can_have(size, tmp_path):
    with pytest.raises(ValueError, match=rf"size = {size}; accepted is a side of 1 to 10,000 pixels"):
        prepare(unpacked_tree(tmp_path) / "train", tmp_path / "store", size)
