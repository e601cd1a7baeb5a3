"""§2: ILSVRC-2010 and 2012 from generated archives of the same layout, whole, hostile and damaged."""

import gzip
import hashlib
import io
import json
import os
import shutil
import sys
import tarfile

import numpy as np
import pytest
from scipy.io import savemat

from alexnet_lib import load_dataset
from alexnet_lib.data import archives, ilsvrc, preparation, sources
from alexnet_lib.data.ilsvrc import list_split
from alexnet_lib.dataset import STORE_SIZES, source_files
from tests.small_ilsvrc import (
    FEW,
    KIT2012,
    colour,
    flat,
    inner,
    make_2010,
    make_2012,
    member,
    meta_mat,
    picture,
    tar,
    train,
    truth,
    unpacked,
    wnids,
)


@pytest.fixture
def few(monkeypatch):
    """Four classes with two validation and three test pictures each."""
    monkeypatch.setattr(ilsvrc, "CLASSES", FEW)
    monkeypatch.setattr(ilsvrc, "PER_CLASS", {"val": 2, "test": 3})
    monkeypatch.setattr(ilsvrc, "CLASSES_SHA256", {})


@pytest.fixture
def tiny(monkeypatch):
    """Stores of 8 pixels a side."""
    for name in ilsvrc.CONTESTS:
        monkeypatch.setitem(STORE_SIZES, name, 8)


@pytest.fixture
def of2012(tmp_path, few):
    make_2012(tmp_path / "ilsvrc2012")
    return tmp_path / "ilsvrc2012"


@pytest.fixture
def of2010(tmp_path, few):
    make_2010(tmp_path / "ilsvrc2010")
    return tmp_path / "ilsvrc2010"


def listed(folder, split="train"):
    return list_split(folder.name, folder, split, folder.parent / "lists", progress=False)


def prepared(folder):
    """The bytes of each file of each store."""
    stores = load_dataset(folder.name, folder.parent)
    return {split: {path.name: path.read_bytes() for path in store.folder.iterdir()} for split, store in stores.items()}


def rejected(store):
    return {entry["file"]: entry["reason"] for entry in json.loads(store["meta.json"])["rejected"]}


# ------------------------------------------------------------------------------------------------------ whole archives


def test_labels_come_from_the_kit_and_classes_are_in_the_order_of_their_wnids(of2012, tmp_path):
    stores = load_dataset("ilsvrc2012", tmp_path)
    assert list(stores) == ["train", "val"]
    for split, store in stores.items():
        assert store.classes == wnids() and store.images.shape == (2 * FEW, 256, 256, 3)
        assert store.meta["classes_sha256"] == hashlib.sha256("\n".join(wnids()).encode()).hexdigest()
        assert store.meta["words"][1] == "thing 1, stuff"
        assert store.meta["files"] == len(store) == 2 * FEW and store.labels.tolist() == sorted(store.labels)
        shown = store.images[:, 128, 128].astype(int)
        assert np.abs(shown - [colour(label) for label in store.labels]).max() <= 3, split
    assert stores["val"].index["file"][0].startswith(f"{wnids()[0]}/ILSVRC2012_val_")
    again = os.stat(stores["train"].folder / "images.npy").st_mtime_ns
    assert os.stat(load_dataset("ilsvrc2012", tmp_path)["train"].folder / "images.npy").st_mtime_ns == again


@pytest.mark.parametrize("year", ["of2010", "of2012"])
def test_archives_and_folders_make_the_same_stores(year, request):
    folder = request.getfixturevalue(year)
    from_archives, from_folders = prepared(folder), prepared(unpacked(folder))
    assert set(from_archives) == set(from_folders) == {"train", "val"} | ({"test"} if year == "of2010" else set())
    for split, store in from_archives.items():
        metas = [json.loads(s.pop("meta.json")) for s in (store, from_folders[split])]
        assert store == from_folders[split]
        assert all(metas[0][key] == metas[1][key] for key in ("classes_sha256", "fingerprint", "listing", "colour_pca"))


@pytest.mark.parametrize("year", ["of2010", "of2012"])
def test_stores_of_class_folders_are_compared_with_them(year, request, tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(sources, "FRESH", 0)
    folder = unpacked(request.getfixturevalue(year))
    for name in (folder.name, f"{folder.name}-jpeg", str(folder)):
        again = lambda: load_dataset(name, folder.parent)  # noqa: B023, E731
        again()
        with monkeypatch.context() as patched:  # a second look at an unchanged source lists nothing
            patched.setattr(sources, "list_files", None)
            again()
        for at in folder.rglob("*"):
            os.utime(at, (1e9, 1e9))  # as in a copy
        again()
        new = folder / "train" / wnids()[1] / "more.JPEG"
        new.write_bytes(picture(1))
        with pytest.raises(ValueError, match=f"8 then, 9 now, and {wnids()[1]}/more.JPEG is new"):
            again()
        new.unlink()
        again()
    shutil.rmtree(folder)
    assert len(load_dataset(folder.name, folder.parent)["train"]) == 8


@pytest.mark.parametrize("year", ["of2010", "of2012"])
def test_archives_that_are_unpacked_later_are_the_same_source(year, request, tmp_path, tiny):
    folder = request.getfixturevalue(year)
    load_dataset(folder.name, tmp_path)
    tree = unpacked(folder)
    shutil.rmtree(folder)
    tree.rename(folder)
    load_dataset(folder.name, tmp_path)
    (folder / "val" / wnids()[0] / "more.JPEG").write_bytes(picture(0))
    with pytest.raises(ValueError, match="8 then, 9 now"):
        load_dataset(folder.name, tmp_path)


def test_class_folders_with_patches_are_not_compared(of2010, tiny):
    folder = unpacked(of2010)
    patch = tar([(f"patch_images/train/{wnids()[2]}_1.JPEG", picture(24))])
    (folder / "patch_images.tar").write_bytes(patch)
    assert load_dataset("ilsvrc2010", folder.parent)["train"].meta["patched"] == 1
    load_dataset("ilsvrc2010", folder.parent)
    (folder / "patch_images.tar").unlink()
    load_dataset("ilsvrc2010", folder.parent)


def test_pictures_may_be_half_unpacked(of2012):
    packed = prepared(of2012)
    for archive, to in [("ILSVRC2012_img_train", "train"), ("ILSVRC2012_img_val", "ILSVRC2012_img_val")]:
        with tarfile.open(of2012 / f"{archive}.tar") as outer:
            outer.extractall(of2012 / to, filter="data")
        (of2012 / f"{archive}.tar").unlink()
    with tarfile.open(of2012 / f"{KIT2012}.tar.gz") as kit:
        kit.extractall(of2012, filter="data")
    (of2012 / f"{KIT2012}.tar.gz").unlink()
    (of2012.parent / "prepared").rename(of2012.parent / "before")
    again = prepared(of2012)
    for split in ("train", "val"):
        assert {name: data for name, data in again[split].items() if name != "meta.json"} == {
            name: data for name, data in packed[split].items() if name != "meta.json"
        }


def test_a_contest_at_full_size(tmp_path, monkeypatch):
    monkeypatch.setattr(ilsvrc, "ROOM", ilsvrc.ROOM // 8)  # of which a whole meta.mat takes a small part
    folder = tmp_path / "ilsvrc2010"
    folder.mkdir()
    labels, text = truth(1000, 50)
    kinds = [picture(label % 125) for label in range(1000)]
    (folder / "ILSVRC2010_images_val.tar").write_bytes(tar(flat(2010, "val", labels, kinds)))
    (folder / "ILSVRC2010_images_train.tar").write_bytes(tar(train(1000, 1)))
    files = {"meta.mat": meta_mat(2010, 1000, 1), "ILSVRC2010_validation_ground_truth.txt": text}
    for name, data in files.items():
        (folder / "devkit-1.0" / "data").mkdir(parents=True, exist_ok=True)
        (folder / "devkit-1.0" / "data" / name).write_bytes(data)
    classes, files, about, refused = listed(folder, "val")
    assert len(files) == 50_000 and not refused and classes == wnids(1000) and len(about["words"]) == 1000
    assert [file.label for file in files] == np.repeat(np.arange(1000), 50).tolist()
    for file in files[::4999]:
        assert labels[int(file.name[-13:-5]) - 1] == file.label and file.read_bytes() == kinds[file.label]
    files = listed(folder).files
    assert [file.name for file in files] == [f"{name}/{name}_0.JPEG" for name in wnids(1000)]
    assert files[777].read_bytes() == picture(777)


def test_2010_has_test_pictures_and_patches(of2010, tmp_path):
    with tarfile.open(of2010 / "patch_images.tar", "w") as archive:
        name = f"{wnids()[2]}_1.JPEG"
        data = picture(24)
        archive.addfile(member(f"patch_images/train/{name}", size=len(data)), io.BytesIO(data))
    (of2010 / "ILSVRC2010_images_test.tar").rename(of2010 / "later")
    assert list(load_dataset("ilsvrc2010", tmp_path)) == ["train", "val"]
    (of2010 / "later").rename(of2010 / "ILSVRC2010_images_test.tar")
    stores = load_dataset("ilsvrc2010", tmp_path)
    assert {split: len(store) for split, store in stores.items()} == {"train": 8, "val": 8, "test": 12}
    assert [store.meta["patched"] for store in stores.values()] == [1, 0, 0]
    shown = stores["train"].images[:, 128, 128].astype(int)
    wanted = [colour(24 if i == 5 else label) for i, label in enumerate(stores["train"].labels)]
    assert np.abs(shown - wanted).max() <= 3


def test_the_files_behind_the_images_can_be_read(of2012, tmp_path):
    load_dataset("ilsvrc2012", tmp_path)
    files = source_files("ilsvrc2012", "train", 3, tmp_path)
    assert [file.read_bytes() for file in files] == [picture(0, 0), picture(1, 1), picture(3, 1)]  # of all classes


# ----------------------------------------------------------------------------------------------- what is not accepted


def hostile():
    """Members that are refused, with what the reason says."""
    link = {"linkname": "/etc/passwd"}
    return [
        (member("/etc/absolute.JPEG"), "leads out"),
        (member("../../outside.JPEG"), "leads out"),
        (member("a/../../outside.JPEG"), "leads out"),
        (member("symbolic.JPEG", type=tarfile.SYMTYPE, **link), "a link"),
        (member("hard.JPEG", type=tarfile.LNKTYPE, **link), "a link"),
        (member("device.JPEG", type=tarfile.CHRTYPE, devmajor=1, devminor=5), "not a plain file"),
        (member("block.JPEG", type=tarfile.BLKTYPE), "not a plain file"),
        (member("pipe.JPEG", type=tarfile.FIFOTYPE), "not a plain file"),
    ]


def test_hostile_members_are_refused_and_listed(of2012, monkeypatch):
    monkeypatch.setattr(preparation, "LARGEST_FILE", 50_000)
    name = wnids()[0]
    traps = [(info, b"") for info, _ in hostile()]
    more = [(f"{name}_0.JPEG", picture(0)), ("big.JPEG", bytes(60_000)), ("notes.txt", b"no picture")]
    entries = train()
    entries[0] = (entries[0][0], tar([(f"{name}_{i}.JPEG", picture(0, i)) for i in range(2)] + traps + more))
    entries += traps + [
        ("n99999999.tar", inner(0, "n99999999")),
        ("README", b"x"),
        (member("d", type=tarfile.DIRTYPE), b""),
    ]
    (of2012 / "ILSVRC2012_img_train.tar").write_bytes(tar(entries))
    before = set(of2012.parent.rglob("*"))
    store = prepared(of2012)["train"]
    reasons = rejected(store)
    for info, reason in hostile():
        plain = info.name.lstrip("/")
        assert reason in reasons[plain] and reason in reasons[f"{name}/{plain}"]
    assert "second file" in reasons[f"{name}/{name}_0.JPEG"]
    assert reasons[f"{name}/big.JPEG"] == "60,000 bytes, more than 50,000"
    assert "known format" in reasons[f"{name}/notes.txt"]
    assert {reasons[f"n99999999/n99999999_{i}.JPEG"] for i in (0, 1)} == {reasons["README"]}
    meta = json.loads(store["meta.json"])
    assert meta["images"] == 2 * FEW and len(meta["rejected"]) == 2 * len(traps) + 3 + 3
    assert meta["files"] == meta["images"] + len(meta["rejected"])
    new = {path.relative_to(of2012.parent).parts[0] for path in set(of2012.parent.rglob("*")) - before}
    assert new == {"prepared"}


def wrong(data, kind):
    """A damaged copy of an archive."""
    third = len(data) // 3 // 512 * 512
    return {
        "cut in a member": data[: third + 700],
        "cut between members": data[: 512 * 12],
        "without an end": data.rstrip(b"\0") + bytes(-len(data.rstrip(b"\0")) % 512),
        "empty": b"",
        "compressed": gzip.compress(data),
        "a page of the web": b"<html>" + b"please sign in " * 99,
    }[kind]


@pytest.mark.parametrize("archive", ["ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"])
@pytest.mark.parametrize(
    "kind", ["cut in a member", "cut between members", "without an end", "empty", "compressed", "a page of the web"]
)
def test_a_damaged_archive_is_an_error_that_names_it(of2012, archive, kind):
    path = of2012 / archive
    path.write_bytes(wrong(path.read_bytes(), kind))
    with pytest.raises(ValueError, match=f"{archive} is damaged or not a whole copy"):
        prepared(of2012)
    assert not list(of2012.parent.glob("prepared/*/meta.json"))


def test_damage_inside_an_inner_archive_is_seen(of2012):
    entries = train()
    broken = bytearray(entries[2][1])
    with tarfile.open(fileobj=io.BytesIO(entries[2][1])) as whole:
        broken[whole.getmembers()[1].offset] ^= 7  # the second member's name no longer fits its checksum
    entries[2] = (entries[2][0], bytes(broken))
    (of2012 / "ILSVRC2012_img_train.tar").write_bytes(tar(entries))
    with pytest.raises(ValueError, match=f"{entries[2][0]} in .*img_train.tar is damaged"):
        listed(of2012)


def test_what_is_missing_is_named_with_its_place(of2012, of2010, tmp_path):
    for folder, name, file in [
        (of2012, "ilsvrc2012", "ILSVRC2012_img_train.tar"),
        (of2012, "ilsvrc2012", "ILSVRC2012_img_val.tar"),
        (of2012, "ilsvrc2012", f"{KIT2012}.tar.gz"),
        (of2010, "ilsvrc2010", "ILSVRC2010_test_ground_truth.txt"),
        (of2010, "ilsvrc2010", "ILSVRC2010_devkit-1.0.tar.gz"),
    ]:
        (folder / file).rename(tmp_path / "away")
        with pytest.raises(FileNotFoundError) as error:
            load_dataset(name, tmp_path)
        assert f"data set {name!r} lacks {file}" in str(error.value) and f"in {folder}: " in str(error.value)
        assert "image-net.org" in str(error.value)
        others = {path.name for path in folder.iterdir()} - {file}
        assert not any(other in str(error.value) for other in others)
        (tmp_path / "away").rename(folder / file)
    with pytest.raises(FileNotFoundError, match=r"lacks ILSVRC2012_img_train.*, ILSVRC2012_img_val.*, .*t12.tar.gz in"):
        load_dataset("ilsvrc2012", tmp_path / "elsewhere")


def test_the_kit_of_another_year_is_refused(of2012):
    kit = of2012 / f"{KIT2012}.tar.gz"
    kit.rename(of2012 / "ILSVRC2014_devkit.tgz")
    with pytest.raises(ValueError, match="ILSVRC2014_devkit.tgz is not ILSVRC2012_devkit_t12.* leave out 1,762 of"):
        listed(of2012)
    text = truth(FEW, 2)[1]
    for files, why in [
        (
            {"meta_clsloc.mat": meta_mat(2014), "ILSVRC2014_clsloc_validation_ground_truth.txt": text},
            "no data/meta.mat",
        ),
        ({"meta.mat": meta_mat(2014), "ILSVRC2012_validation_ground_truth.txt": text}, "has no ILSVRC2012_ID"),
        ({"meta.mat": meta_mat(2010), "ILSVRC2012_validation_ground_truth.txt": text}, "has no ILSVRC2012_ID"),
    ]:
        kit.write_bytes(tar([(f"kit/data/{name}", data) for name, data in files.items()], True))
        with pytest.raises(ValueError, match=f"{why}.* leave out 1,762"):
            listed(of2012)


@pytest.mark.parametrize("how", ["cut", "text", "not a mat"])
def test_a_damaged_kit_is_an_error(of2012, how):
    kit = of2012 / f"{KIT2012}.tar.gz"
    whole = kit.read_bytes()
    no_mat = tar([(f"{KIT2012}/data/meta.mat", b"MATLAB 5.0 " * 40)], True)
    kit.write_bytes({"cut": whole[: len(whole) // 2], "text": b"sign in", "not a mat": no_mat}[how])
    with pytest.raises(ValueError, match="devkit_t12.tar.gz"):
        listed(of2012)


def test_truth_is_checked(of2012):
    text = truth(FEW, 2)[1]
    numbers = text.decode().split()
    for wrong_text in [
        b"",
        text[:-2],
        text + b"1\n",
        text.replace(b"1", b"5"),
        text.replace(b"1", b"2"),
        b"x\n" * 8,
        b"9" * 5000,
    ]:
        files = {"meta.mat": meta_mat(2012), "ILSVRC2012_validation_ground_truth.txt": wrong_text}
        kit = tar([(f"{KIT2012}/data/{name}", data) for name, data in files.items()], True)
        (of2012 / f"{KIT2012}.tar.gz").write_bytes(kit)
        with pytest.raises(ValueError, match="validation_ground_truth.txt has . lines.* it wants 8, 2 of each class"):
            listed(of2012, "val")
    assert sorted(numbers) == sorted("11223344")


@pytest.mark.parametrize(
    ("field", "value"),
    [(field, value) for field in ("num_children", "num_train_images") for value in (None, "x", [])]
    + [("WNID", None), ("words", None)],
)
def test_a_kit_with_damaged_fields_is_an_error_that_names_it(of2012, field, value):
    row = {"ILSVRC2012_ID": 1, "WNID": "n1", "words": "w", "num_children": 0, "num_train_images": 2} | {field: value}
    if value is None:
        del row[field]
    synsets = np.empty((2, 1), [(name, object) for name in row])
    synsets[:, 0] = [tuple(row.values())] * 2
    file = io.BytesIO()
    savemat(file, {"synsets": synsets})
    (of2012 / f"{KIT2012}.tar.gz").write_bytes(tar([(f"{KIT2012}/data/meta.mat", file.getvalue())], True))
    with pytest.raises(ValueError, match=f"meta.mat of .*{KIT2012}.tar.gz cannot be read"):
        listed(of2012)


def test_a_meta_mat_on_which_scipy_ends_its_process_is_an_error(of2012):
    damaged = bytearray(meta_mat(2012))
    damaged[384] = 14  # it says that a matrix follows
    (of2012 / f"{KIT2012}.tar.gz").write_bytes(tar([(f"{KIT2012}/data/meta.mat", bytes(damaged))], True))
    with pytest.raises(ValueError, match=f"meta.mat of .*{KIT2012}.tar.gz cannot be read"):
        listed(of2012)


@pytest.mark.skipif(sys.platform != "linux", reason="no limit of memory for one process")
def test_a_meta_mat_that_unpacks_to_more_than_its_reader_may_have_is_an_error(of2012, monkeypatch):
    monkeypatch.setattr(ilsvrc, "ROOM", 2**25)
    savemat(file := io.BytesIO(), {"synsets": np.zeros(2**26, np.uint8)}, do_compression=True)
    assert file.tell() < 100_000
    (of2012 / f"{KIT2012}.tar.gz").write_bytes(tar([(f"{KIT2012}/data/meta.mat", file.getvalue())], True))
    said = f"meta.mat of .*{KIT2012}.tar.gz cannot be read: it takes more than 33,554,432 bytes of memory"
    with pytest.raises(ValueError, match=said):
        listed(of2012)


def test_as_many_pictures_as_the_contest_has(of2012):
    pictures = flat(2012, "val", truth(FEW, 2)[0])
    for entries in (pictures[1:], [*pictures[1:], ("val/ILSVRC2012_val_00000009.JPEG", picture(0))]):
        (of2012 / "ILSVRC2012_img_val.tar").write_bytes(tar(entries))
        with pytest.raises(ValueError, match="img_val.tar has 1 files of class n10000.*, a whole copy 2"):
            listed(of2012, "val")
    thin = train()
    thin[3] = (thin[3][0], inner(3, wnids()[3], 1))
    (of2012 / "ILSVRC2012_img_train.tar").write_bytes(tar(thin))
    with pytest.raises(ValueError, match=f"img_train.tar has 1 files of class {wnids()[3]}, a whole copy 2"):
        listed(of2012)
    tree = unpacked(of2012)
    next((tree / "val" / wnids()[1]).iterdir()).unlink()
    with pytest.raises(ValueError, match=f"val has 1 files of class {wnids()[1]}, a whole copy 2"):
        listed(tree, "val")
    next((tree / "train" / wnids()[2]).iterdir()).unlink()
    assert len(listed(tree).files) == 2 * FEW - 1  # without a kit nobody can tell
    (of2012 / f"{KIT2012}.tar.gz").rename(tree / f"{KIT2012}.tar.gz")
    with pytest.raises(ValueError, match=f"train has 1 files of class {wnids()[2]}, a whole copy 2"):
        listed(tree)


def test_other_classes_are_refused(of2012, monkeypatch):
    tree = unpacked(of2012)
    (tree / "val" / wnids()[0]).rename(tree / "val" / "n90000000")
    with pytest.raises(ValueError, match="the classes of val are not those of train"):
        prepared(tree)
    (tree / "train" / wnids()[0]).rename(tree / "train" / "goldfish")
    with pytest.raises(ValueError, match="train has 4 classes; ILSVRC-2012 has 4, named by WNID"):
        listed(tree)
    monkeypatch.setattr(ilsvrc, "CLASSES_SHA256", {2012: "385e"})
    with pytest.raises(ValueError, match="img_train.tar are not the classes of ILSVRC-2012"):
        listed(of2012)


def test_files_that_cannot_be_decoded_are_counted(of2012):
    entries = train()
    name = wnids()[1]
    odd = [('ü b,"c".JPEG', picture(1)), (os.fsdecode(b"caf\xe9.JPEG"), picture(1)), ("torn.JPEG", picture(1)[:-50])]
    entries[1] = (
        entries[1][0],
        tar([*odd, ("empty.JPEG", b""), ("text.JPEG", b"text"), (f"{name}_0.JPEG", picture(1))]),
    )
    (of2012 / "ILSVRC2012_img_train.tar").write_bytes(tar(entries))
    store = prepared(of2012)["train"]
    assert set(rejected(store)) == {f"{name}/{file}.JPEG" for file in ("torn", "empty", "text")}
    meta = json.loads(store["meta.json"])
    assert (meta["files"], meta["images"], len(meta["rejected"])) == (3 * 2 + 6, 3 * 2 + 3, 3)
    assert "caf\\xe9.JPEG" in store["index.csv"].decode() and 'ü b,""c"".JPEG' in store["index.csv"].decode()


# ---------------------------------------------------------------------------------------------------------- stopped


def test_a_stopped_preparation_from_archives_goes_on_with_the_lists_that_it_has(of2012, tiny, monkeypatch):
    monkeypatch.setattr(preparation, "CHUNK_SMALL", 4)
    whole = prepared(of2012)
    shutil.rmtree(of2012.parent / "prepared")
    before, done = preparation.decode, []

    def stop(data):
        done.append(data)
        if len(done) > 6:
            raise KeyboardInterrupt
        return before(data)

    with monkeypatch.context() as patched:
        patched.setattr(preparation, "decode", stop)
        with pytest.raises(KeyboardInterrupt):
            prepared(of2012)
    monkeypatch.setattr(archives, "progress_bar", None)  # no archive is listed again
    assert prepared(of2012) == whole
