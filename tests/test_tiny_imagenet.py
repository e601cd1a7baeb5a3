"""Tiny ImageNet from its archive and unpacked; a small imitation with the official layout, and a host to fetch from."""

import hashlib
import http.server
import io
import os
import shutil
import tarfile
import threading
import types
import zipfile

import numpy as np
import pytest
from PIL import Image

from alexnet_lib import load_dataset
from alexnet_lib.data import download, tiny_imagenet
from alexnet_lib.data.download import ARCHIVES, fetch
from alexnet_lib.dataset import main
from alexnet_lib.files import publish

ARCHIVE, UNPACKED = ARCHIVES["tiny_imagenet"].name, ARCHIVES["tiny_imagenet"].inner
WNIDS = ["n00000003", "n00000001", "n00000002"]  # wnids.txt is in no order
PER_CLASS = {"train": 4, "val": 2}
COLOURS = {"n00000001": (255, 0, 0), "n00000002": (0, 255, 0), "n00000003": (0, 0, 255)}


def picture(wnid):
    file = io.BytesIO()
    Image.new("RGB", (64, 64), COLOURS[wnid]).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """The content of the archive, as distributed, with three classes."""
    monkeypatch.setattr(tiny_imagenet, "CLASSES", 3)
    monkeypatch.setattr(tiny_imagenet, "PER_CLASS", PER_CLASS)
    tree = tmp_path / "made" / UNPACKED
    for wnid in WNIDS:
        (tree / "train" / wnid / "images").mkdir(parents=True)
        (tree / "train" / wnid / f"{wnid}_boxes.txt").write_text("")
        for i in range(PER_CLASS["train"]):
            (tree / "train" / wnid / "images" / f"{wnid}_{i}.JPEG").write_bytes(picture(wnid))
    for folder in ("val/images", "test/images"):
        (tree / folder).mkdir(parents=True)
    lines = []
    for i in range(6):
        wnid = WNIDS[i % 3]
        (tree / "val" / "images" / f"val_{i}.JPEG").write_bytes(picture(wnid))
        lines.append(f"val_{i}.JPEG\t{wnid}\t0\t0\t63\t63\n")
    (tree / "val" / "val_annotations.txt").write_text("".join(lines))
    (tree / "test" / "images" / "test_0.JPEG").write_bytes(picture(WNIDS[0]))
    (tree / "wnids.txt").write_text("\n".join(WNIDS))
    (tree / "words.txt").write_text("n00000001\tone, first\nn00000002\ttwo\nn00000003\tthree\nn00000004\tfour\n")
    return tree


def official(monkeypatch, name="tiny_imagenet", **changes):
    monkeypatch.setitem(ARCHIVES, name, ARCHIVES[name]._replace(**changes))


@pytest.fixture
def archive(tree, tmp_path, monkeypatch):
    """The archive of it, in the data folder, whose hash is taken for the official one."""
    (tmp_path / "tiny_imagenet").mkdir()
    path = tmp_path / "tiny_imagenet" / ARCHIVE
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in sorted(tree.rglob("*")):
            packed.write(file, file.relative_to(tree.parent))
    official(monkeypatch, md5=hashlib.md5(path.read_bytes()).hexdigest())
    return path


def check(stores):
    for split, per_class in PER_CLASS.items():
        store = stores[split]
        assert store.classes == sorted(WNIDS)
        assert store.labels.tolist() == [label for label in range(3) for _ in range(per_class)]
        assert store.meta["words"] == ["one, first", "two", "three"]
        for label, wnid in enumerate(store.classes):
            of_class = store.images[np.flatnonzero(store.labels == label)]
            assert np.abs(of_class.astype(int) - COLOURS[wnid]).max() < 8


def test_the_archive_is_read_as_it_is_distributed(archive, tmp_path):
    check(load_dataset("tiny_imagenet", tmp_path))
    assert (tmp_path / "prepared" / UNPACKED / "train").is_dir()
    assert [path.name for path in (tmp_path / "tiny_imagenet").iterdir()] == [ARCHIVE]


def test_what_is_unpacked_is_on_disk_before_it_has_its_name(archive, tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr(os, "sync", lambda: order.append("on disk"))
    monkeypatch.setattr(download, "publish", lambda *places: order.append("named") or publish(*places))
    load_dataset("tiny_imagenet", tmp_path)
    assert order[:2] == ["on disk", "named"]


def test_an_archive_is_not_unpacked_where_it_does_not_fit(archive, tmp_path, monkeypatch):
    needed = 3 * archive.stat().st_size
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=needed - 1))
    with pytest.raises(OSError, match=rf"{ARCHIVE} unpacks to up to .* in {tmp_path / 'prepared'}, where .* are free"):
        load_dataset("tiny_imagenet", tmp_path)
    assert not (tmp_path / "prepared").exists()


def test_so_is_what_it_unpacks_to(tree, tmp_path):
    shutil.copytree(tree, tmp_path / "tiny_imagenet" / UNPACKED)
    check(load_dataset("tiny_imagenet", tmp_path))


def test_a_folder_that_holds_train_and_val_itself_will_do(tree, tmp_path):
    shutil.copytree(tree, tmp_path / "tiny_imagenet")
    check(load_dataset("tiny_imagenet", tmp_path))


def test_what_systems_leave_is_passed_over(tree, tmp_path):
    for place in ("train/n00000001/images/._n00000001_0.JPEG", "val/images/Thumbs.db", "train/.DS_Store"):
        (tree / place).write_bytes(b"junk")
    (tree / "train" / "__MACOSX").mkdir()
    shutil.copytree(tree, tmp_path / "tiny_imagenet")
    check(load_dataset("tiny_imagenet", tmp_path))


def test_a_killed_unpacking_is_begun_again(archive, tmp_path):
    half = tmp_path / "prepared" / f".{UNPACKED}.partial" / UNPACKED / "train"
    half.mkdir(parents=True)
    check(load_dataset("tiny_imagenet", tmp_path))


def test_what_one_killed_after_unpacking_left_is_cleared_up(archive, tmp_path):
    prepared, names = tmp_path / "prepared", (f".{UNPACKED}.partial", f".{UNPACKED}.lock")
    with zipfile.ZipFile(next((tmp_path / "tiny_imagenet").glob("*.zip"))) as packed:
        packed.extractall(prepared)
    (prepared / names[0]).mkdir()
    (prepared / names[1]).write_text("process 1 on a machine")
    check(load_dataset("tiny_imagenet", tmp_path))
    assert not [name for name in names if (prepared / name).exists()]


def remove(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize(
    "missing, message",
    [
        ("train/n00000002", "train has 0 pictures of class n00000002, a whole copy 4"),
        ("train/n00000002/images/n00000002_3.JPEG", "train has 3 pictures of class n00000002, a whole copy 4"),
        ("val/val_annotations.txt", "val_annotations.txt is missing or damaged"),
        ("val/images/val_4.JPEG", "val has 1 pictures of class n00000001, a whole copy 2"),
        ("words.txt", "words.txt is missing or damaged"),
        ("wnids.txt", "wnids.txt is missing or damaged"),
    ],
)
def test_a_half_unpacked_copy_says_what_is_missing(tree, tmp_path, missing, message):
    remove(tree / missing)
    shutil.copytree(tree, tmp_path / "tiny_imagenet")
    with pytest.raises(ValueError, match=message):
        load_dataset("tiny_imagenet", tmp_path)
    assert not list((tmp_path / "prepared").rglob("*.npy"))


@pytest.mark.parametrize(
    "file, text, message",
    [
        ("wnids.txt", "n00000001\nn00000002\n", "names 2 classes; Tiny ImageNet has 3"),
        ("words.txt", "n00000001\tone\n", "no words for n00000002 and 1 other classes"),
        ("val/val_annotations.txt", "val_0.JPEG\tn99999999\n", "val has 0 pictures of class n00000001, a whole copy 2"),
        ("val/val_annotations.txt", "val_0.JPEG\tn00000001\n", "val has 1 pictures of class n00000001, a whole copy 2"),
        ("val/val_annotations.txt", "\n\0\n", "val has 0 pictures of class n00000001"),
    ],
)
def test_lists_that_are_not_the_official_ones_are_refused(tree, tmp_path, file, text, message):
    (tree / file).write_text(text)
    shutil.copytree(tree, tmp_path / "tiny_imagenet")
    with pytest.raises(ValueError, match=message):
        load_dataset("tiny_imagenet", tmp_path)


def test_another_archive_is_refused_before_it_is_opened(archive, tmp_path):
    archive.write_bytes(archive.read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a whole copy"):
        load_dataset("tiny_imagenet", tmp_path)
    assert not (tmp_path / "tiny_imagenet" / UNPACKED).exists()


def test_where_nothing_is_there_the_message_says_how_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="download tiny_imagenet` fetches it; or put the file"):
        load_dataset("tiny_imagenet", tmp_path)


# ------------------------------------------------------------------------------------------------ fetching


@pytest.fixture
def host(archive, monkeypatch):
    """A host on this machine with the archive; `host.ends_after` cuts a connection, `host.asked` lists the ranges."""
    content = archive.read_bytes()
    archive.unlink()

    class Handler(http.server.BaseHTTPRequestHandler):
        ends_after, asked, ranges, delivers = None, [], True, content

        def do_GET(self):
            start = int(self.headers.get("Range", "bytes=0-")[6:-1]) if self.ranges else 0
            self.asked.append(start)
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(self.delivers) - start))
            self.end_headers()
            self.wfile.write(self.delivers[start : self.ends_after])

        def log_message(self, *arguments):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    Handler.url = f"http://127.0.0.1:{server.server_port}"
    official(monkeypatch, url=f"{Handler.url}/{ARCHIVE}")
    monkeypatch.setattr(download, "PIECE", 1000)
    monkeypatch.setenv("ALEXNET_DATA", str(archive.parents[1]))
    yield Handler
    server.shutdown()
    server.server_close()


def test_the_command_fetches_verifies_and_prepares(host, archive, capsys):
    main(["download", "tiny_imagenet"])
    assert "12 and 6 images are ready" in capsys.readouterr().out
    assert archive.read_bytes() == host.delivers
    main(["download", "tiny_imagenet"])
    assert host.asked == [0]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_connection_is_taken_up_where_it_ended(host, archive, ranges):
    host.ends_after, host.ranges = 1500, ranges
    with pytest.raises(ConnectionError, match="1,500 bytes of it are kept. Try again later, or put the file"):
        fetch("tiny_imagenet", archive.parent)
    host.ends_after = None
    fetch("tiny_imagenet", archive.parent)
    assert archive.read_bytes() == host.delivers
    assert host.asked == ([0, 1500] if ranges else [0, 0])


def test_a_host_that_sends_something_else_leaves_nothing(host, archive):
    host.delivers = b"<html>sign in</html>"
    with pytest.raises(ConnectionError, match="sent something else"):
        fetch("tiny_imagenet", archive.parent)
    assert not list(archive.parent.iterdir())


def test_a_host_that_is_not_there_is_named_with_the_ways_out(host, archive, monkeypatch, capsys):
    official(monkeypatch, url=f"http://127.0.0.1:9/{ARCHIVE}")
    with pytest.raises(SystemExit):
        main(["download", "tiny_imagenet"])
    assert "was not delivered" in (said := capsys.readouterr().err) and "or put the file" in said


def test_imagenette_is_fetched_and_unpacked(host, tmp_path, monkeypatch, capsys):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for split in ("train", "val"):
            for wnid in WNIDS:
                member = tarfile.TarInfo(f"imagenette2/{split}/{wnid}/0.JPEG")
                member.size = len(picture(wnid))
                tar.addfile(member, io.BytesIO(picture(wnid)))
    host.delivers = made.getvalue()
    md5 = hashlib.md5(host.delivers).hexdigest()
    official(monkeypatch, "imagenette", url=f"{host.url}/imagenette2.tgz", md5=md5)
    half = tmp_path / "prepared" / ".imagenette2.partial" / "imagenette2" / "train"
    half.mkdir(parents=True)  # of an unpacking that was killed
    for _ in range(2):
        main(["download", "imagenette"])
        assert "3 and 3 images are ready" in capsys.readouterr().out
    assert host.asked == [0]
    assert {path.name for path in (tmp_path / "imagenette").iterdir()} == {"imagenette2.tgz"}


def test_imagenettes_host_that_fails_is_named_with_the_ways_out(host, tmp_path, monkeypatch):
    official(monkeypatch, "imagenette", url="http://127.0.0.1:9/imagenette2.tgz")
    with pytest.raises(SystemExit):
        main(["download", "imagenette"])
    with pytest.raises(FileNotFoundError, match="download imagenette` fetches it; or put the file"):
        load_dataset("imagenette", tmp_path)
