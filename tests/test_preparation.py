"""§2: preparation ends with the same bytes wherever it is killed, refused, out of room or damaged in between."""

import errno
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
import zipfile
from contextlib import suppress

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from alexnet_lib import load_dataset, prepare
from alexnet_lib.commands import Interrupted
from alexnet_lib.data import large_pictures, preparation, sources, unfinished
from alexnet_lib.data.preparation import decode, write_store
from alexnet_lib.data.unfinished import NOTES, lock_of, make_store
from alexnet_lib.files import at_work
from tests.test_dataset import contents, jpeg, photograph, saved


def fill(folder, count=6, start=0):
    """So many small pictures in two classes, one of them no picture."""
    for i in range(start, start + count):
        path = folder / "ab"[i % 2] / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(photograph(i, 20 + i, 16)) if i != 3 else b"no picture")
    return folder


ON_FILES = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate")
kill = {}  # what to do before which of the operations on files below a folder; empty outside of the tests


class Killed(BaseException):
    """As if the process were gone."""


def before_each(event, arguments):
    if kill and event in ON_FILES and kill["below"] in str(arguments[0]):
        kill["left"] -= 1
        if kill["left"] < 0:
            kill["how"]()


def raise_killed():
    kill.clear()
    raise Killed


sys.addaudithook(before_each)


@pytest.mark.parametrize("form", ["raw", "jpeg"])
def test_stopped_before_any_operation_on_a_file_it_ends_with_the_same_bytes(tmp_path, monkeypatch, form):
    source, at, stopped = fill(tmp_path / "pictures", 5), 0, True
    monkeypatch.setattr("alexnet_lib.data.preparation.CHUNK_SMALL", 4)
    monkeypatch.setattr("os.fsync", lambda number: None)  # what is written stays, and the disk is slow
    whole = contents(prepare(source, tmp_path / "whole", 8, 1, False, form=form).folder)
    while stopped:
        store = tmp_path / f"store {at}"
        kill.update(below=str(store.name), left=at, how=raise_killed)
        try:
            prepare(source, store, 8, 1, False, form=form)
            stopped = False
        except Killed:
            at += 1
        kill.clear()
        prepare(source, store, 8, 1, False, form=form)
        assert contents(store) == whole, f"stopped at operation {at}"
        assert not left_of(store).exists()
    assert at > 20


# Children of one process, so that torch is imported once.
KILLED = """
import os, signal, sys
from pathlib import Path
import torchvision.transforms.v2, simplejpeg
from tests.test_preparation import contents, kill
from alexnet_lib.data import preparation
from alexnet_lib.dataset import prepare
preparation.CHUNK_SMALL = 4
source, place = Path(sys.argv[1]), Path(sys.argv[2])
def ends(store, at=None):
    if not (child := os.fork()):
        try:
            if at is not None:
                kill.update(below=store.name, left=at, how=lambda: os.kill(os.getpid(), signal.SIGKILL))
            prepare(source, store, 8, 1, False)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
for at in map(int, sys.argv[3:]):
    assert ends(place / f"store {at}", at) == -signal.SIGKILL
    assert ends(place / f"store {at}") == 0, f"never ends after a kill at operation {at}"
"""


def test_killed_for_good_it_ends_with_the_same_bytes(tmp_path):
    source, points = fill(tmp_path / "pictures", 5), (10, 15, 19, 23)  # in the second chunk, and while it is finished
    command = [sys.executable, "-c", KILLED, str(source), str(tmp_path), *map(str, points)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    whole = contents(prepare(source, tmp_path / "whole", 8, 1, False).folder)
    assert all(contents(tmp_path / f"store {at}") == whole for at in points)


def test_what_one_killed_at_its_last_step_left_is_cleared_up(tmp_path):
    source, store = fill(tmp_path / "pictures", 5), tmp_path / "store"
    prepare(source, store, 8, 1, False)
    whole, lock = contents(store), tmp_path / ".store.lock"
    lock.write_text("process 1 on a machine")
    for note in NOTES:
        (store / note).write_text("{}")
    prepare(source, store, 8, 1, False)
    assert contents(store) == whole and not lock.exists()


def test_and_beside_the_stores_of_a_data_set_that_are_all_there(tmp_path, monkeypatch):
    monkeypatch.setenv("ALEXNET_STORES", str(tmp_path / "stores"))
    for split in ("train", "val"):
        fill(tmp_path / "mine" / split, 4)
    folder = load_dataset(str(tmp_path / "mine"))["val"].folder
    whole, lock = contents(folder), folder.parent / f".{folder.name}.lock"
    lock.write_text("process 1 on a machine")
    (folder / NOTES[0]).write_text("{}")
    load_dataset(str(tmp_path / "mine"))
    assert contents(folder) == whole and not lock.exists()


def test_one_who_waits_for_another_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ALEXNET_PROGRESS", "lines")
    store, told, say = tmp_path / "store", threading.Event(), unfinished.say
    monkeypatch.setattr(unfinished, "say", lambda *said: (say(*said), told.set()))
    waits = threading.Thread(target=make_store, args=(store, lambda work: work.mkdir(), "nothing is there"))
    with at_work(tmp_path, lock_of(store)):
        waits.start()
        assert told.wait(120)  # to read again and again would lose what is written between reading and emptying
    waits.join()
    other = f"process {os.getpid()} on {socket.gethostname()}"
    said = f"{store} is being made by {other}, for which this process waits.\n"
    assert capsys.readouterr().out == said and store.is_dir()


def test_somebody_who_stops_it_reads_two_lines(tmp_path):
    def stopped(work):
        raise KeyboardInterrupt

    with pytest.raises(Interrupted) as stop:
        make_store(tmp_path / "store", stopped, "what is prepared so far is kept there")
    kept = f"Stopped while {tmp_path / 'store'} was made; what is prepared so far is kept there."
    assert stop.value._render_traceback_() == [kept, "Run it again to go on."]  # what a notebook shows
    assert [*tmp_path.iterdir()] == []


@pytest.fixture
def in_turn(monkeypatch):
    """Pictures of 2,080 pixels are large, and one may be decoded at a time."""
    monkeypatch.setattr(large_pictures, "LARGE", 2079)
    monkeypatch.setattr(large_pictures, "AT_ONCE", 2080)


@pytest.mark.parametrize(
    ("large", "at_once", "most"), [(2079, 1, 1), (2079, 4159, 1), (2079, 4160, 2), (2080, 2080, 4)]
)
def test_threads_share_the_memory_for_large_pictures(tmp_path, monkeypatch, large, at_once, most):
    at_work, seen, reached = [], [], threading.Event()
    decode_jpeg, fit = simplejpeg.decode_jpeg, preparation.fit

    def slow_decode(data):
        at_work.append(data)
        seen.append(len(at_work))
        if len(at_work) == most:
            reached.set()
        reached.wait(60)
        time.sleep(0.02)  # in which another would begin
        return decode_jpeg(data)

    def last_of_it(*arguments):
        at_work.pop()
        return fit(*arguments)

    for i in range(12):
        path = tmp_path / "pictures" / "ab"[i % 2] / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(photograph(i, 130, 16)))
    whole = contents(prepare(tmp_path / "pictures", tmp_path / "whole", 8, 1, False).folder)
    monkeypatch.setattr(large_pictures, "LARGE", large)
    monkeypatch.setattr(large_pictures, "AT_ONCE", at_once)
    monkeypatch.setattr(preparation, "GROUP_SMALL", 1)
    monkeypatch.setattr(preparation, "fit", last_of_it)
    monkeypatch.setattr(simplejpeg, "decode_jpeg", slow_decode)
    assert contents(prepare(tmp_path / "pictures", tmp_path / "store", 8, 4, False).folder) == whole
    assert max(seen) == most


@pytest.mark.parametrize("kind", ["whole", "torn", "palette", "16 bits"])
def test_a_large_picture_waits_for_the_one_before_and_for_no_other(in_turn, kind):
    """A torn JPEG is tried by two decoders, of which the second must not wait for the first."""
    whole = jpeg(photograph(0, 130, 16))
    data = {
        "whole": whole,
        "torn": whole[:-200],
        "palette": saved(photograph(0, 130, 16).quantize(4), "PNG"),
        "16 bits": saved(Image.new("I;16", (130, 16)), "PNG"),
    }[kind]
    done = threading.Event()

    def work():
        with large_pictures.one_picture(), suppress(ValueError):
            decode(data)
        done.set()

    with large_pictures.one_picture():
        decode(whole)
        threading.Thread(target=work, daemon=True).start()
        assert not done.wait(0.1)
    assert done.wait(60)


@pytest.fixture(scope="module")
def wholes(tmp_path_factory):
    """Pictures, and the bytes of their store in each form."""
    source = fill(tmp_path_factory.mktemp("of") / "pictures")
    stores = {form: prepare(source, source.parent / form, 8, 1, False, form=form) for form in ("raw", "jpeg")}
    return source, {form: contents(store.folder) for form, store in stores.items()}


def run_out_of_room(source, destination, form, monkeypatch):
    """Have a preparation fail at its last operation; gives what is left of it."""

    def replace(work, target):
        if str(target) == str(destination):
            raise OSError(errno.ENOSPC, "No space left on device")
        return os.rename(work, target)

    with monkeypatch.context() as patched:
        patched.setattr("alexnet_lib.data.unfinished.os.replace", replace)
        with pytest.raises(OSError, match="No space left.*what is prepared so far is kept.*same command again") as full:
            prepare(source, destination, 8, 1, False, form=form)
    assert full.value.errno == errno.ENOSPC and full.value.filename == str(work := left_of(destination))
    return work


def left_of(destination):
    return destination.with_name(f".{destination.name}.partial")


def images_of(work):
    return next(path for path in work.iterdir() if path.name in ("images.npy", "images.jpegs"))


def cut(path, keep):
    os.truncate(path, int(path.stat().st_size * keep))


def cut_and_filled(path):
    size = path.stat().st_size
    os.truncate(path, size // 2)
    os.truncate(path, size)


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 1
    path.write_bytes(data)


def alter_state(work, **changes):
    with np.load(work / "state.npz") as saved:
        values = dict(saved) | changes
    np.savez(work / "state.npz", **values)


def huge_state(work):
    """Its arrays say that they have 10¹² numbers."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<i8", "fortran_order": False, "shape": (10**12,)})
    with zipfile.ZipFile(work / "state.npz", "w") as file:
        file.writestr("files.npy", header.getvalue())


DAMAGE = {
    "none": lambda work: None,
    "torn chunk after it": lambda work: images_of(work).open("ab").write(b"torn"),
    "images cut": lambda work: cut(images_of(work), 0.5),
    "images cut and filled with zeros": lambda work: cut_and_filled(images_of(work)),
    "a bit of the images": lambda work: flip(images_of(work), 0.6),
    "images of another picture": lambda work: flip(images_of(work), 0.3),
    "images empty": lambda work: images_of(work).write_bytes(b""),
    "no images": lambda work: images_of(work).unlink(),
    "records cut": lambda work: cut(work / "records.jsonl", 0.5),
    "a bit of the records": lambda work: flip(work / "records.jsonl", 0.5),
    "no records": lambda work: (work / "records.jsonl").unlink(),
    "state empty": lambda work: (work / "state.npz").write_bytes(b""),
    "state cut": lambda work: cut(work / "state.npz", 0.5),
    "a bit of the state": lambda work: flip(work / "state.npz", 0.5),
    "state of text": lambda work: (work / "state.npz").write_text("{}"),
    "state of another version": lambda work: np.savez(work / "state.npz", listing="", files=3),
    "state of other files": lambda work: alter_state(work, listing="others"),
    "state that is huge": huge_state,
    "no state": lambda work: (work / "state.npz").unlink(),
}


@pytest.mark.parametrize("form", ["raw", "jpeg"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_left_is_gone_on_from_or_begun_again(tmp_path, monkeypatch, wholes, damage, form):
    source, whole = wholes
    work, decoded = run_out_of_room(source, tmp_path / "store", form, monkeypatch), []
    DAMAGE[damage](work)
    monkeypatch.setattr("alexnet_lib.data.preparation.decode", lambda data: decoded.append(data) or decode(data))
    prepare(source, tmp_path / "store", 8, 1, False, form=form)
    assert contents(tmp_path / "store") == whole[form] and not work.exists()
    assert len(decoded) == (0 if damage in ("none", "torn chunk after it") else 6)


LAST = {name: DAMAGE[name] for name in ("a bit of the state", "no state")}
LAST["records cut"] = lambda work: cut(work / "records.jsonl", 0.95)
LAST |= {"images cut": lambda work: cut(images_of(work), 0.95), "a bit of it": lambda work: flip(images_of(work), 0.95)}


@pytest.mark.parametrize("form", ["raw", "jpeg"])
@pytest.mark.parametrize("damage", LAST)
def test_where_the_last_chunk_is_damaged_it_goes_on_from_the_one_before(tmp_path, monkeypatch, wholes, damage, form):
    source, whole = wholes
    monkeypatch.setattr("alexnet_lib.data.preparation.CHUNK_SMALL", 4)
    work, decoded = run_out_of_room(source, tmp_path / "store", form, monkeypatch), []
    LAST[damage](work)
    monkeypatch.setattr("alexnet_lib.data.preparation.decode", lambda data: decoded.append(data) or decode(data))
    prepare(source, tmp_path / "store", 8, 1, False, form=form)
    assert contents(tmp_path / "store") == whole[form] and not work.exists()
    assert len(decoded) == 2


@pytest.mark.parametrize("pictures", [0, 4])
def test_what_was_refused_is_refused_again_and_ends_once_mended(tmp_path, pictures):
    source = fill(tmp_path / "pictures", pictures)
    (source / "eel").mkdir(parents=True)
    (source / "eel" / "notes.txt").write_text("no picture")
    if not pictures:
        (source / "eel" / "notes.txt").unlink()
    said = []
    for _ in range(3):
        with pytest.raises(ValueError, match="class 'eel' is left without an image") as refused:
            prepare(source, tmp_path / "store", 8, 1, False)
        said.append(str(refused.value))
    assert len(set(said)) == 1
    (source / "eel" / "1.png").write_bytes(saved(photograph(0, 9, 9), "PNG"))
    assert "eel" in prepare(source, tmp_path / "store", 8, 1, False).classes


def test_images_in_memory_that_found_no_room_are_written_once_there_is(tmp_path, monkeypatch):
    images, labels = np.zeros((2, 4, 4, 3), np.uint8), np.array([0, 1])

    def full(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("alexnet_lib.data.unfinished.os.fsync", full)
        with pytest.raises(OSError, match="No space left.*store.partial"):
            write_store(tmp_path / "store", images, labels, ["a", "b"], {})
    write_store(tmp_path / "store", images, labels, ["a", "b"], {})
    assert sorted(contents(tmp_path / "store")) == ["images.npy", "index.csv", "labels.npy", "mean.npy", "meta.json"]


# --------------------------------------------------------------------------------------------- grey of more than 8 bits


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        (np.arange(12, dtype=np.int32).reshape(3, 4) * 20, "32-bit whole numbers, which do not say what is white"),
        (np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4), "fractions, which do not say what is white"),
    ],
)
def test_numbers_that_do_not_say_what_is_white_are_no_black_picture(numbers, reason):
    with pytest.raises(ValueError, match=reason):
        decode(saved(Image.fromarray(numbers), "TIFF"))


def test_deep_grey_takes_a_few_bytes_a_pixel():
    side = 1500
    data = saved(Image.fromarray(np.full((side, side), 77 * 257, np.uint16)), "PNG")
    tracemalloc.start()
    assert (decode(data) == 77).all()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * side**2


# ------------------------------------------------------------------------------------------------ a source that changes


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """A folder of pictures whose stores are made, and a function that opens them."""
    monkeypatch.setenv("ALEXNET_PROGRESS", "none")
    for split, start in (("train", 0), ("val", 10)):
        fill(tmp_path / "pictures" / split, 4, start)
    opens = lambda: load_dataset(str(tmp_path / "pictures"), tmp_path / "data")  # noqa: E731
    opens()
    return tmp_path / "pictures", opens


def put_20_more(source):
    fill(source / "train", 20, start=20)


def take_one(source):
    (source / "val" / "a" / "10.jpg").unlink()


def replace_folder(source):
    shutil.rmtree(source)
    for split, start in (("train", 40), ("val", 50)):
        fill(source / split, 4, start)


@pytest.mark.parametrize("change", [put_20_more, take_one, replace_folder])
def test_stores_of_a_source_that_has_changed_are_refused(opened, change):
    source, opens = opened
    opens()
    change(source)
    with pytest.raises(ValueError, match=r"when other files were in .* (is new|is gone)\. Delete .*anew") as refused:
        opens()
    assert "pictures" in str(refused.value)
    shutil.rmtree(source.parent / "data")
    opens()


def test_stores_of_a_source_that_is_the_same_or_gone_are_opened(opened, monkeypatch):
    source, opens = opened
    for folder in [source, *source.rglob("*")]:
        os.utime(folder, (1e9, 1e9))  # as in a copy
    opens()
    with monkeypatch.context() as patched:  # a second look at an unchanged source lists nothing
        patched.setattr(sources, "list_files", None)
        opens()
    shutil.rmtree(source)
    source.mkdir()
    assert len(opens()["train"]) == 3


def test_stores_of_old_pictures_are_kept_on_purpose(opened):
    source, opens = opened
    put_20_more(source)
    for meta in (source.parent / "data").rglob("meta.json"):
        meta.write_text(json.dumps({k: v for k, v in json.loads(meta.read_text()).items() if k != "listing"}))
    assert len(opens()["train"]) == 3
