"""Files are whole or not there, damage has a name, and of two processes one works, where files can be locked or not."""

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from alexnet_lib import walkthrough
from alexnet_lib.files import (
    REMEDY,
    Damaged,
    Stored,
    at_work,
    named_values,
    npy_bytes,
    read_array,
    read_json,
    read_table,
    tidy,
    write_file,
    write_json,
)
from alexnet_lib.runs.records import Record
from tests.small_notebooks import write_notebook
from tests.small_runs import NAME
from tests.test_book import script
from tests.test_dataset import contents
from tests.test_preparation import fill


class Point(Stored):
    x: int
    names: list[str] = []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "it isn't valid JSON: expecting value (line 1, column 1); accepted: named values"),
        (b"\xff\xfe\0", "it can't be read"),
        (b"[" * 100_000, "it can't be read"),
        (b"[]", "a list; accepted: named values"),
        (b"null", "a NoneType; accepted: named values"),
        (b"{}", "x is missing; accepted: a value"),
        (b'{"x": "1"}', "x is '1'; accepted: a valid integer"),
        (b'{"x": true}', "x is True; accepted: a valid integer"),
        (b'{"x": 1, "names": ["a", 2]}', "names.1 is 2; accepted: a valid string"),
        (b'{"x": 1, "y": 2, "x": 2}', "'x' is there more than once; accepted: each name once"),
        (b'{"x": 1, "of": [{"deep": 1, "deep": 1}]}', "'deep' is there more than once; accepted: each name once"),
        (b'{"x": "%s"}' % (b"1" * 1000), "1…; accepted: a valid integer"),
    ],
)
def test_damage_says_where_what_was_found_what_is_accepted_and_what_to_do(tmp_path, text, said):
    (tmp_path / "point.json").write_bytes(text)
    with pytest.raises(Damaged) as damaged:
        read_json(tmp_path / "point.json", Point, "Draw it again")
    message = str(damaged.value)
    assert message.startswith(f"{tmp_path / 'point.json'}: ") and message.endswith(". Draw it again")
    assert said in message and len(message) < 400


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{'x': 1}", "expecting property name enclosed in double quotes (line 1, column 2); accepted: {quotes}"),
        ("{x: 1}", "expecting property name enclosed in double quotes (line 1, column 2); accepted: {quotes}"),
        ("{\"x\": 'a'}", "expecting value (line 1, column 7); accepted: {quotes}"),
        ('{"x": None}', "expecting value (line 1, column 7); accepted: true, false and null, so written"),
        (
            '{"x": "C:\\pictures"}',
            "invalid \\escape (line 1, column 10); accepted: a backslash in a text written twice",
        ),
        ('{"x": 1\n "y": 2}', "expecting ',' delimiter (line 2, column 2); accepted: named values"),
        ('{"x": 1', "expecting ',' delimiter (line 1, column 8); accepted: named values"),
        ("{", "expecting property name enclosed in double quotes (line 1, column 2); accepted: named values"),
    ],
)
def test_what_was_written_by_hand_and_is_no_json_is_told_whole(tmp_path, text, said):
    (tmp_path / "mine.json").write_text(text)
    with pytest.raises(Damaged) as damaged:
        read_json(tmp_path / "mine.json")
    said = said.format(quotes="names and texts in double quotes")
    assert str(damaged.value) == f"{tmp_path / 'mine.json'}: it isn't valid JSON: {said}. {REMEDY}"


def test_a_comma_after_the_last_value_is_told(tmp_path):
    """Python 3.13 says it in words of its own."""
    (tmp_path / "mine.json").write_text('{"x": 1,\n}')
    with pytest.raises(Damaged, match="isn't valid JSON: .*; accepted: no comma after the last value|railing comma"):
        read_json(tmp_path / "mine.json")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_whatever_an_editor_has_made_of_it_is_read(tmp_path, encoding):
    (tmp_path / "point.json").write_text('{"x": 1, "name": "é"}', encoding=encoding)
    assert read_json(tmp_path / "point.json", Point) == {"x": 1, "name": "é"}


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b"\0\0", b'"' * 5, b"a,b\n1,2,3\n1,2,3,4\n", b"a,c\n1,2\n"])
def test_a_damaged_table_is_named(tmp_path, text):
    (tmp_path / "table.csv").write_bytes(text)
    with pytest.raises(Damaged, match=r"table.csv: .*; accepted: .*\. Mend, restore or remove it"):
        read_table(tmp_path / "table.csv", "a", "b")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no array (ValueError)"),
        (b"text", "no array (ValueError)"),
        (npy_bytes(np.zeros((2, 3), np.float16))[:-1], "no array (ValueError)"),
        (npy_bytes(np.array([None])), "no array (ValueError)"),
        (npy_bytes(np.zeros((2, 3))), "float64 (2, 3)"),
        (npy_bytes(np.zeros((2, 4), np.float16)), "float16 (2, 4)"),
        (npy_bytes(np.zeros(3, np.float16)), "float16 (3,)"),
    ],
)
def test_a_damaged_array_is_named(tmp_path, data, said):
    (tmp_path / "array.npy").write_bytes(data)
    with pytest.raises(Damaged) as damaged:
        read_array(tmp_path / "array.npy", np.float16, (2, 3))
    assert str(damaged.value) == f"{tmp_path / 'array.npy'}: {said}; accepted: float16 (2, 3). {REMEDY}"


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError(errno.ENOSPC, "No space left on device")])
def test_a_write_that_is_cut_off_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, stop):
    path = tmp_path / "file"
    write_file(path, b"old")

    def cut_off(number):
        raise stop

    monkeypatch.setattr(os, "fsync", cut_off)
    with pytest.raises((KeyboardInterrupt, OSError)) as raised:
        write_file(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    assert isinstance(raised.value, KeyboardInterrupt) or raised.value.filename == str(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such links and pipes")
def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "file").write_text("old")
    for name, target in {"link": "far/file", "twice": "link", "to nothing": "far/new"}.items():
        (tmp_path / name).symlink_to(target)
        write_file(tmp_path / name, name.encode())
        assert (tmp_path / name).is_symlink() and (tmp_path / name).read_text() == name
    assert (tmp_path / "far" / "file").read_text() == "twice" and (tmp_path / "far" / "new").read_text() == "to nothing"
    assert len([*tmp_path.rglob("*")]) == 6
    (tmp_path / "nowhere").symlink_to("no folder/file")
    with pytest.raises(FileNotFoundError) as refused:
        write_file(tmp_path / "nowhere", b"new")
    assert refused.value.filename == str(tmp_path / "nowhere")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such links and pipes")
def test_a_pipe_gets_what_is_written_and_stays_one(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
        try:
            write_file(tmp_path / name, b"a,b\n", b"1,2\n")
            assert os.read(reader, 99) == b"a,b\n1,2\n"
        finally:
            os.close(reader)
    assert (tmp_path / "pipe").is_fifo() and (tmp_path / "link").is_symlink() and len([*tmp_path.iterdir()]) == 2


def test_a_folder_is_no_file_to_write(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises((IsADirectoryError, PermissionError)) as refused:
        write_file(tmp_path / "folder", b"new")
    assert refused.value.filename == str(tmp_path / "folder")


def test_a_file_and_then_its_folder_are_on_disk(tmp_path, monkeypatch):
    """Otherwise a name may be lost with the power, and what it stands for."""
    synced, fsync = [], os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda number: synced.append(os.readlink(f"/proc/self/fd/{number}")) or fsync(number)
    )
    write_json(tmp_path / "file", {"a": 1})
    first, second = synced
    assert first.startswith(f"{tmp_path}/file.") and first.endswith(".tmp") and second == str(tmp_path)
    synced.clear()
    with at_work(tmp_path / "runs" / "mine"):
        assert synced == [f"{tmp_path}/runs", str(tmp_path)]


def test_what_a_killed_process_has_left_is_removed_by_the_next(tmp_path):
    (tmp_path / "file.77.tmp").write_text("part")
    (tmp_path / "note").write_text("to go on")
    (tmp_path / "kept").write_text("kept")
    tidy(tmp_path, "note")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_writing_a_file_removes_what_killed_writers_of_it_have_left(tmp_path):
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    here = f"file.{socket.gethostname()}."
    names = f"{here}{done.stdout.strip()}.tmp", f"{here}{os.getppid()}.tmp", "file.elsewhere.1.tmp", f"{here}x.tmp"
    for name in names:
        (tmp_path / name).write_text("part")
    write_file(tmp_path / "file", b"whole")
    assert {path.name for path in tmp_path.iterdir()} == {"file", *names[1:]}


@pytest.mark.parametrize("record", [b"", b"[]", b"[" * 100_000, b"\xff"])
def test_a_damaged_list_of_copies_overwrites_nobodys_notebook(tmp_path, record):
    lab = script("lab")
    write_notebook(tmp_path / "notebooks" / "a.ipynb", "1")
    lab.refresh(tmp_path / "notebooks", tmp_path / "lab")
    mine = record or b"mine"  # which may be damaged, too
    (tmp_path / "lab" / "a.ipynb").write_bytes(mine)
    (tmp_path / "lab" / ".copied.json").write_bytes(record)
    assert lab.refresh(tmp_path / "notebooks", tmp_path / "lab") == ["a.ipynb"]
    assert (tmp_path / "lab" / "a.ipynb").read_bytes() == mine


# ---------------------------------------------------------------------------------------------------------- two at once

# All are children of one process, so that torch is imported once; they begin when the file "go" is there.
TOGETHER = """
import os, sys, time
from pathlib import Path
import torchvision.transforms.v2
from alexnet_lib import dataset, training
place, jobs = Path(sys.argv[1]), [line.split() for line in sys.argv[2:]]
def begin(number, module, arguments):
    if child := os.fork():
        return child
    try:
        for target, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(place / f"{number}.{name}", os.O_CREAT | os.O_WRONLY), target)
        while not (place / "go").exists():
            time.sleep(0.001)
        module.main(arguments)
        sys.stdout.flush()
        os._exit(0)
    except SystemExit as end:
        os._exit(end.code)
    finally:
        os._exit(1)
children = [begin(i, {"dataset": dataset, "training": training}[name], own) for i, (name, *own) in enumerate(jobs)]
(place / "go").touch()
codes = {}
while len(codes) < len(children):
    child, status = os.wait()
    codes[children.index(child)] = os.waitstatus_to_exitcode(status)
sys.exit(str(codes) if any(codes.values()) else 0)
"""
NO_LOCKS = """
#include <errno.h>
int flock(int file, int how) { errno = ENOLCK; return -1; }
"""


def together(place, *jobs, **changes):
    """Run commands at the same time; gives what each said."""
    command = [sys.executable, "-c", TOGETHER, str(place), *jobs]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | changes)
    said = [((place / f"{i}.out").read_text(), (place / f"{i}.err").read_text()) for i in range(len(jobs))]
    assert done.returncode == 0, (done.stderr, said)
    return said


@pytest.fixture
def jobs(place):
    """Commands that prepare a store, and that train a run."""
    fill(place / "pictures", 40)
    given = {"dataset": NAME, "width": 0.05, "batch_size": 12, "device": "cpu", "epochs": 2, "name": "r"}
    (place / "config.json").write_text(json.dumps(given))
    return f"dataset prepare {place / 'pictures'} {place / 'store'} --size 8", f"training {place / 'config.json'}"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has none")
def test_four_preparations_of_a_store_and_four_trainings_of_a_seed_make_one_each(place, jobs):
    prepare, train = jobs
    said = together(place, *[prepare] * 4, *[train] * 4)
    assert len({out.splitlines()[-1] for out, _ in said[:4]}) == 1 == len({out for out, _ in said[4:]})
    assert sorted(contents(place / "store")) == ["images.npy", "index.csv", "labels.npy", "mean.npy", "meta.json"]
    assert Record.open(place / "runs" / "train" / "r").timing["epoch"].tolist() == [1, 2]
    assert [path for path in place.rglob("*") if path.suffix in (".tmp", ".partial") or path.name == "at_work"] == []


@pytest.mark.skipif(shutil.which("cc") is None or sys.platform != "linux", reason="takes a C compiler, and Linux")
def test_on_a_file_system_that_cannot_lock_it_is_said_and_the_work_is_done(place, jobs):
    (place / "no_locks.c").write_text(NO_LOCKS)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", place / "no_locks.so", place / "no_locks.c"], check=True)
    said = together(place, *jobs, LD_PRELOAD=str(place / "no_locks.so"))
    assert all("cannot be locked, so nothing keeps a second process" in errors for _, errors in said)
    assert (place / "store" / "meta.json").is_file()
    assert Record.open(place / "runs" / "train" / "r").summary["epochs"] == 2


def test_a_second_walkthrough_in_a_folder_is_refused(tmp_path, capsys):
    write_notebook(tmp_path / "notebooks" / "a.ipynb")
    (tmp_path / "own.toml").write_text("")
    arguments = ["--profile", str(tmp_path / "own.toml"), "--output", str(tmp_path / "out")]
    with at_work(tmp_path / "out"), pytest.raises(SystemExit):
        walkthrough.main(arguments, tmp_path / "notebooks", {})
    assert f"another process is at work in {tmp_path / 'out'}: process {os.getpid()} on" in capsys.readouterr().err
    assert not (tmp_path / "out" / "a.ipynb").exists()


def test_a_text_that_is_no_file_is_checked_alike():
    assert named_values("here", '{"x": 1}', Point) == {"x": 1}
    with pytest.raises(Damaged, match="^here: a int"):
        named_values(Path("here"), "3", Point)


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="no such device here")
def test_what_is_printed_stays_where_a_file_is_written_to_the_standard_output(tmp_path):
    code = "from pathlib import Path; from alexnet_lib.files import write_file; print('before', flush=True); "
    code += "write_file(Path('/dev/stdout'), b'table\\n')"
    with open(tmp_path / "all.txt", "w") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
    assert (tmp_path / "all.txt").read_text() == "before\ntable\n"


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no such folder here")
def test_a_file_in_memory_is_a_file_like_others():
    """Under /dev, where stores and runs may lie: written twice, it holds the second text alone."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        for text in (b"first", b"second"):
            write_file(Path(folder) / "a.json", text)
        assert (Path(folder) / "a.json").read_bytes() == b"second"
