"""§2: a store is checked when it is opened, whatever its size, and one of ImageNet's size is trained on."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from alexnet_lib import load_dataset, open_store, prepare
from alexnet_lib.augmentation import cut_views, draw_views
from alexnet_lib.data.jpeg_store import encode
from alexnet_lib.dataset import Store
from alexnet_lib.evaluation import mean_of
from alexnet_lib.learning import PaperSGD
from alexnet_lib.loader import make_batches
from alexnet_lib.runs.settings import resolve
from alexnet_lib.training import build_net
from tests.small_runs import settings
from tests.test_preparation import cut, fill

IMAGENET = 1_281_167


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """The folders of a small store in each form."""
    source = fill(tmp_path_factory.mktemp("of") / "pictures")
    return {form: prepare(source, source.parent / form, 8, 1, False, form=form).folder for form in ("raw", "jpeg")}


def meta(**changes):
    def change(folder):
        said = json.loads((folder / "meta.json").read_text()) | changes
        kept = {name: value for name, value in said.items() if value is not None}
        (folder / "meta.json").write_text(json.dumps(kept))

    return "meta.json", change


def text(name, content):
    return name, lambda folder: (folder / name).write_bytes(content)


def array(name, change):
    return name, lambda folder: np.save(folder / name, change(np.load(folder / name, allow_pickle=True)))


def huge(name, dtype):
    """A header of 10¹² numbers, which must not be allocated, over nothing."""

    def change(folder):
        with open(folder / name, "wb") as file:
            head = {"descr": dtype, "fortran_order": False, "shape": (10**12,)}
            np.lib.format.write_array_header_1_0(file, head)

    return name, change


def zipped(name):
    def change(folder):
        np.savez(folder / "other.npz", labels=np.zeros(5))
        os.replace(folder / "other.npz", folder / name)

    return name, change


def remove(name):
    return name, lambda folder: (folder / name).unlink()


def shorten(name, keep=0.9):
    return name, lambda folder: cut(folder / name, keep)


def longer(name):
    return name, lambda folder: (folder / name).open("ab").write(b"\0")


def labelled(value, dtype=np.int64):
    return array("labels.npy", lambda labels: np.array([*labels[:-1], value], dtype))


NAN = float("nan")
AXES = {"eigenvalues": [3.0, 2.0, 1.0], "eigenvectors": np.eye(3).tolist()}
DAMAGE = {
    "meta empty": text("meta.json", b""),
    "meta a list": text("meta.json", b"[]"),
    "meta null": text("meta.json", b"null"),
    "meta torn": shorten("meta.json", 0.5),
    "meta deep": text("meta.json", b"[" * 100_000),
    "meta no text": text("meta.json", b"\xff\xfe{}"),
    "meta without classes": meta(classes=None),
    "meta without size": meta(size=None),
    "meta without axes": meta(colour_pca=None),
    "meta without fingerprint": meta(fingerprint=None),
    "no classes": meta(classes=[]),
    "one class fewer": ("labels.npy", meta(classes=["a"])[1]),
    "classes of numbers": meta(classes=[1, 2]),
    "another count": ("labels.npy", meta(images=4)[1]),
    "a count of none": meta(images=0),
    "a count that is no number": meta(images="5"),
    "another size": ("mean.npy", meta(size=9)[1]),
    "a form that is none": meta(form="png"),
    "rejected a number": meta(rejected=[3]),
    "rejected null": meta(rejected=[None]),
    "rejected without a reason": meta(rejected=[{"file": "x"}]),
    "rejected without a file": meta(rejected=[{"file": "x", "reason": "empty file"}, {"reason": "empty file"}]),
    "rejected for a number": meta(rejected=[{"file": "x", "reason": 3}]),
    "axes of two": meta(colour_pca=AXES | {"eigenvalues": [2.0, 1.0]}),
    "axes not at right angles": meta(colour_pca=AXES | {"eigenvectors": np.ones((3, 3)).tolist()}),
    "axes of NaN": meta(colour_pca=AXES | {"eigenvalues": [NAN, 1.0, 0.0]}),
    "axes ascending": meta(colour_pca=AXES | {"eigenvalues": [1.0, 2.0, 3.0]}),
    "axes of words": meta(colour_pca=AXES | {"eigenvalues": "abc"}),
    "axes without values": meta(colour_pca={}),
    "fewer labels": array("labels.npy", lambda labels: labels[:-1]),
    "a label too high": labelled(2),
    "a label of -1": labelled(-1),
    "a label of -100": labelled(-100),
    "labels that are fractions": labelled(0, np.float64),
    "labels that are objects": labelled(0, object),
    "labels an .npz": zipped("labels.npy"),
    "labels huge": huge("labels.npy", "<i8"),
    "labels empty": text("labels.npy", b""),
    "labels with more behind": longer("labels.npy"),
    "no labels": remove("labels.npy"),
    "mean of another size": array("mean.npy", lambda mean: mean[:-1]),
    "mean of other numbers": array("mean.npy", lambda mean: mean.astype(np.float64)),
    "mean of NaN": array("mean.npy", lambda mean: mean * np.float32(NAN)),
    "mean beyond white": array("mean.npy", lambda mean: mean * 0 + np.float32(256)),
    "mean by columns": array("mean.npy", np.asfortranarray),
    "no mean": remove("mean.npy"),
}
DAMAGE_OF = {
    "raw": DAMAGE
    | {
        "images empty": text("images.npy", b""),
        "images cut": shorten("images.npy"),
        "images with more behind": longer("images.npy"),
        "images that are fractions": array("images.npy", lambda images: images.astype(np.float32)),
        "fewer images": array("images.npy", lambda images: images[:-1]),
        "images huge": huge("images.npy", "|u1"),
        "no images": remove("images.npy"),
    },
    "jpeg": {
        "no offsets": remove("offsets.npy"),
        "fewer offsets": array("offsets.npy", lambda offsets: offsets[:-1]),
        "offsets that go back": array("offsets.npy", lambda offsets: offsets[[0, 2, 1, 3, 4, 5]]),
        "offsets that begin late": array("offsets.npy", lambda offsets: np.maximum(offsets, 1)),
        "offsets beyond the file": ("images.jpegs", lambda folder: shorten("images.jpegs")[1](folder)),
        "offsets of fractions": array("offsets.npy", lambda offsets: offsets.astype(float)),
        "no images": remove("images.jpegs"),
        "images empty": text("images.jpegs", b""),
        "called raw": ("images.npy", meta(form=None)[1]),
    },
}


@pytest.mark.parametrize(("form", "damage"), [(form, name) for form, of in DAMAGE_OF.items() for name in of])
def test_a_store_whose_files_do_not_belong_together_is_refused(tmp_path, stores, form, damage):
    shutil.copytree(stores[form], tmp_path / "store")
    name, change = DAMAGE_OF[form][damage]
    change(tmp_path / "store")
    with pytest.raises(ValueError, match=f"{name}: .*; accepted: .*Delete the folder .*store and prepare it again"):
        open_store(tmp_path / "store")


def test_an_index_of_other_images_is_named(tmp_path, stores):
    shutil.copytree(stores["raw"], tmp_path / "store")
    store = open_store(tmp_path / "store")
    with open(tmp_path / "store" / "index.csv", "a") as file:
        file.write("more,a,\n")
    with pytest.raises(ValueError, match=r"index.csv: other bytes than were written; .*Delete the folder"):
        store.index  # noqa: B018
    store.meta["digests"].pop("index.csv")  # as in stores of older versions
    with pytest.raises(ValueError, match=r"index.csv: 6 lines; accepted: 5"):
        store.index  # noqa: B018
    (tmp_path / "store" / "index.csv").write_text("name,of\n")
    with pytest.raises(ValueError, match=r"index.csv: columns name, of; accepted: columns file, class, sha256"):
        store.index  # noqa: B018


FLIPPED = [("raw", "labels.npy", 128), ("raw", "mean.npy", 131), ("jpeg", "offsets.npy", 136)]
FLIPPED += [("raw", "images.npy", 128 + 2 * 192 + 17), ("jpeg", "images.jpegs", 1000)]


@pytest.mark.parametrize(("form", "name", "at"), FLIPPED)
def test_a_bit_that_has_flipped_is_noticed_though_all_fits(tmp_path, stores, form, name, at):
    """A label becomes that of another class, a grey level another one."""
    shutil.copytree(stores[form], tmp_path / "store")
    data = bytearray((tmp_path / "store" / name).read_bytes())
    data[at] ^= 1
    (tmp_path / "store" / name).write_bytes(data)
    with pytest.raises(
        ValueError, match=f"{name}: other bytes than were written; .*Delete the folder .*store and prep"
    ):
        open_store(tmp_path / "store")


def test_stores_of_older_versions_have_no_digests_and_open(tmp_path, stores):
    shutil.copytree(stores["jpeg"], tmp_path / "store")
    meta(digests=None)[1](tmp_path / "store")
    with open(tmp_path / "store" / "images.jpegs", "r+b") as file:
        file.write(b"no picture")
    store = open_store(tmp_path / "store")
    assert len(store.index) == 5
    with pytest.raises(ValueError, match=r"images.jpegs: the picture at byte 0 is damaged"):
        store.images[[1, 0]]


def test_splits_of_two_sizes_are_refused(tmp_path):
    source = fill(tmp_path / "pictures" / "train").parent
    fill(source / "val")
    train = load_dataset(str(source), tmp_path / "data")["train"].folder
    shutil.rmtree(train)
    prepare(source / "train", train, 8, 1, False)
    with pytest.raises(ValueError, match="train has 8 pixels a side, .*val has 256 pixels a side; .*one size"):
        load_dataset(str(source), tmp_path / "data")


# --------------------------------------------------------------------------------------------------- of ImageNet's size


def sparse(path, size):
    try:
        with open(path, "ab") as file:
            file.truncate(size)
    except OSError as error:
        pytest.skip(f"this file system has no room for {size:,} bytes of nothing: {error}")


def make_imagenet(folder, form, pictures):
    """A store of ImageNet's size: nothing but the given pictures, {row: (256, 256, 3) uint8}, is on the disk."""
    folder.mkdir()
    np.save(folder / "labels.npy", np.arange(IMAGENET) % 1000)
    np.save(folder / "mean.npy", np.full((256, 256, 3), 100, np.float32))
    said = {"classes": [f"n{i:08d}" for i in range(1000)], "images": IMAGENET, "size": 256, "files": IMAGENET}
    said |= {"colour_pca": AXES, "rejected": [], "fingerprint": "of nothing"}
    if form == "raw":
        with open(folder / "images.npy", "wb") as file:
            head = {"descr": "|u1", "fortran_order": False, "shape": (IMAGENET, 256, 256, 3)}
            np.lib.format.write_array_header_1_0(file, head)
        start, each, name, stored = 128, 256 * 256 * 3, "images.npy", lambda image: image.tobytes()
    else:
        said["form"] = "jpeg"
        start, each, name, stored = 0, 20_732, "images.jpegs", encode
        np.save(folder / "offsets.npy", np.arange(IMAGENET + 1) * each)
    sparse(folder / name, start + IMAGENET * each)
    with open(folder / name, "r+b") as file:
        for row, image in pictures.items():
            file.seek(start + row * each)
            file.write(stored(image))
    names = ("labels.npy", "mean.npy", *(["offsets.npy"] if form == "jpeg" else []))
    said["digests"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    (folder / "meta.json").write_text(json.dumps(said))
    return folder


@pytest.fixture(params=["as it is", "a tenth of the store"])
def memory(request):
    """What this process may map for itself, beyond what it has: a function of the size of a store."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_DATA)

    def limit(size):
        if request.param != "as it is" and sys.platform == "linux":
            has = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_DATA, (has + size // 10, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_DATA, before)


@pytest.mark.parametrize("form", ["raw", "jpeg"])
def test_imagenet_opens_and_is_trained_on(tmp_path, memory, form):
    """252 GB and 27 GB that are mostly holes in the file."""
    order = np.random.default_rng([0, 0]).permutation(IMAGENET)[:12]  # as every epoch 0 of seed 0 draws it
    pictures = {int(row): np.full((256, 256, 3), 20 * place, np.uint8) for place, row in enumerate(order)}
    folder = make_imagenet(tmp_path / "store", form, pictures)
    memory(max(path.stat().st_size for path in folder.iterdir()))
    store = open_store(folder)
    assert isinstance(store, Store) and len(store) == IMAGENET and store.images.shape == (IMAGENET, 256, 256, 3)
    run = resolve(settings(image_size=64, batch_size=4, augmentation="crops"), store)
    net = build_net(run, 1000)
    optimizer, seen, before = PaperSGD(net.parameters(), 0.01), [], [p.clone() for p in net.parameters()]
    for _, (x, labels) in zip(range(3), make_batches(run, store, mean_of(store, 64), 0), strict=False):
        torch.nn.functional.cross_entropy(net(x), labels).backward()
        optimizer.step()
        seen += [*zip(x.mean((1, 2, 3)).round().int().tolist(), labels.tolist(), strict=True)]
    assert seen == [(20 * place - 100, row % 1000) for place, row in enumerate(order)]
    assert any((p != q).any() for p, q in zip(before, net.parameters(), strict=True))
    assert (np.asarray(store.images[int(order[3])]) == 60).all()


def test_what_cannot_be_written_to_is_cut_without_a_copy_of_it_all():
    images = np.random.default_rng(0).integers(0, 256, (6, 12, 12, 3), np.uint8)
    views = draw_views(np.random.default_rng(1), 6, (4, 4))
    locked = np.lib.stride_tricks.as_strided(images, (10**9, 12, 12, 3), images.strides, writeable=False)
    assert views.mirrored.any()
    assert np.array_equal(cut_views(locked, views, 8, np.arange(6)), cut_views(images, views, 8))


FORKED = """
import os, sys
from pathlib import Path
from alexnet_lib.data.store_files import read_store
images = read_store(Path(sys.argv[1]))[0]
first = images[[0, 1]]  # its threads run by now
if not (child := os.fork()):
    os._exit(0 if (images[[0, 1]] == first).all() else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_process_decodes(stores):
    process = subprocess.Popen([sys.executable, "-c", FORKED, str(stores["jpeg"])], start_new_session=True)
    try:
        assert process.wait(30) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, 9)
