"""Processes of one machine: nobody else reaches them, they end together, and one of them trains a run."""

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from alexnet_lib import cores
from alexnet_lib.files import AT_WORK, AtWork, at_work, in_work
from alexnet_lib.runs import launch
from alexnet_lib.runs.records import Record
from alexnet_lib.training import train
from tests.small_notebooks import write_notebook
from tests.small_runs import NAME, settings
from tests.test_book import script
from tests.test_launch import wait_for

pytestmark = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="looks into Linux' /proc")
ENDED = 10  # seconds after which nothing may be left
WALK = """
import runpy, sys
from pathlib import Path
from alexnet_lib import paths
paths.NOTEBOOKS = Path(sys.argv.pop(1))
runpy.run_module("alexnet_lib.walkthrough", run_name="__main__", alter_sys=True)
"""


@pytest.fixture
def begun(place, monkeypatch):
    """Starts processes whose temporary folders lie in a private one; they and all their children carry a mark."""
    (place / "tmp").mkdir()
    started = []

    def begin(*command, **changes):
        own = os.environ | {"TMPDIR": str(place / "tmp"), "MARK": str(place)} | changes
        own.pop("PYTEST_CURRENT_TEST", None)
        process = subprocess.Popen(command, env=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield begin
    for pid in alive(place):
        os.kill(pid, signal.SIGKILL)
    for process in started:
        process.communicate()


def alive(place) -> list[int]:
    """The processes with the mark."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"MARK={place}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def listening(pids) -> set[str]:
    """The addresses that processes listen on."""
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                inodes.add(os.readlink(link))
            except OSError:
                continue
    found = set()
    for family, name in ((socket.AF_INET, "tcp"), (socket.AF_INET6, "tcp6")):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                words = bytes.fromhex(fields[1].split(":")[0])
                swapped = b"".join(words[i : i + 4][::-1] for i in range(0, len(words), 4))
                found.add(socket.inet_ntop(family, swapped if sys.byteorder == "little" else words))
    return found


def nameless() -> list[str]:
    """What stands before a command to give it a host name that nobody knows; nothing where that is not allowed."""
    prefix = ["unshare", "--user", "--map-root-user", "--uts", "sh", "-c", 'hostname nowhere.invalid && exec "$@"', "-"]
    try:
        return prefix if subprocess.run([*prefix, "true"], capture_output=True).returncode == 0 else []
    except FileNotFoundError:
        return []


def test_a_job_on_one_machine_listens_on_loopback_alone_under_whatever_name(begun, place):
    seen = set()
    job = begun(*nameless(), sys.executable, "-m", "alexnet_lib.columns", "--image-size", "80", "--steps", "8")
    while job.poll() is None:
        seen |= listening(alive(place))
        time.sleep(0.05)
    said, errors = job.communicate()
    assert job.returncode == 0, errors
    assert json.loads(said)["columns"] == 2
    assert seen and seen <= {"127.0.0.1", "::1"}
    assert list((place / "tmp").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL])
def test_what_ends_a_walkthrough_ends_its_kernels(begun, place, number):
    for name in ("one", "other"):
        cell = f"from pathlib import Path\nimport time\nPath({str(place / name)!r}).touch()\ntime.sleep(100)"
        write_notebook(place / "notebooks" / f"{name}.ipynb", cell)
    (place / "own.toml").write_text("jobs = 2")
    options = ["--profile", str(place / "own.toml")]
    walk = begun(sys.executable, "-c", WALK, str(place / "notebooks"), *options)
    wait_for(lambda: (place / "one").exists() and (place / "other").exists())
    assert len(alive(place)) >= 5  # the command, two that watch, two kernels
    assert listening(alive(place)) <= {"127.0.0.1", "::1"}  # or at files alone
    walk.send_signal(number)
    wait_for(lambda: not alive(place), ENDED)
    said = walk.communicate()[1].strip()
    assert walk.returncode == (130 if number == signal.SIGHUP else -number)
    assert list((place / "tmp").iterdir()) == []
    if number == signal.SIGHUP:
        *_, kept, how = said.splitlines()
        assert kept.endswith(f"Stopped: the notebooks that are finished are kept in {place}/runs/walkthrough/own.")
        assert how == "Give the same command again to go on."


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_jupyterlab_is_on_loopback_alone_wants_its_token_and_takes_its_kernels_along(begun, place, number):
    """As `make lab` starts it; what a person has configured is theirs."""
    own = {f"JUPYTER_{part}_DIR": str(place / part.lower()) for part in ("CONFIG", "RUNTIME")}
    server = begun(*script("lab").command(["--no-browser", "--allow-root"]), **own)
    wait_for(lambda: [*(place / "runtime").glob("jpserver-*.json")] and listening(alive(place)))
    said = json.loads(next((place / "runtime").glob("jpserver-*.json")).read_text())
    api = f"{said['url']}api/kernels"
    for wrong in ({}, {"Authorization": "token guessed"}):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(urllib.request.Request(api, headers=wrong), timeout=60)
    right = {"Authorization": f"token {said['token']}"}
    assert len(said["token"]) >= 32
    started = urllib.request.urlopen(urllib.request.Request(api, b"{}", right, method="POST"), timeout=60)
    assert started.status == 201
    wait_for(lambda: len(alive(place)) >= 2 and len(listening(alive(place))) >= 1)
    assert listening(alive(place)) <= {"127.0.0.1", "::1"}
    server.send_signal(number)
    wait_for(lambda: not alive(place), ENDED)


def config_file(place, **changes) -> str:
    path = place / "config.json"
    path.write_text(json.dumps({"dataset": NAME, "width": 0.05, "batch_size": 12, "device": "cpu"} | changes))
    return str(path)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL])
def test_a_job_ends_with_the_command_that_started_it(begun, place, number):
    config = config_file(place, epochs=5000, devices=2, name="long")
    job = begun(sys.executable, "-m", "alexnet_lib.training", config)
    folder = place / "runs" / "train" / "long"
    wait_for(lambda: in_work(folder))
    job.send_signal(number)
    wait_for(lambda: not alive(place), ENDED)
    if number == signal.SIGHUP:
        *_, kept, how = job.communicate()[1].strip().splitlines()
        assert "Stopped by SIGHUP: " in kept and how == "Run it again, with the same settings, to go on."
    assert not in_work(folder) and list((place / "tmp").iterdir()) == []


FROM_A_NOTEBOOK = (
    "import json, sys\nfrom alexnet_lib.runs.launch import torchrun\ntorchrun(2, 'training', outlives=True, config="
)


def test_a_job_of_a_notebook_outlives_the_kernel_and_is_followed(begun, place):
    given = settings(epochs=60, devices=2, name="outlives")
    values = json.loads(Path(config_file(place, epochs=60, devices=2, name="outlives")).read_text())
    kernel = begun(sys.executable, "-c", f"{FROM_A_NOTEBOOK}{values!r})")
    wait_for(lambda: in_work(place / "runs" / "train" / "outlives"))
    kernel.kill()
    kernel.wait()
    assert train(given).summary["epochs"] == 60
    wait_for(lambda: not alive(place), ENDED)
    assert list((place / "tmp").iterdir()) == []


@pytest.mark.parametrize("devices", [1, 2])
def test_of_two_that_begin_at_once_one_trains_and_the_other_follows(begun, place, devices):
    config = config_file(place, epochs=4, devices=devices, name="both")
    both = [begun(sys.executable, "-m", "alexnet_lib.training", config) for _ in range(2)]
    said = [job.communicate() for job in both]
    assert [job.returncode for job in both] == [0, 0], said
    assert said[0][0] == said[1][0] and said[0][0].splitlines()[-1].endswith("/both")
    record = Record.open(place / "runs" / "train" / "both")
    assert record.timing["epoch"].tolist() == [1, 2, 3, 4]


# --------------------------------------------------------------------------------------------------------------- locks


def test_who_looks_keeps_nobody_from_training(tmp_path):
    """And two who look at once do not take each other for one at work."""
    stop, seen = threading.Event(), set()
    (tmp_path / AT_WORK).touch()

    def look():
        while not stop.is_set():
            seen.add(in_work(tmp_path))

    lookers = [threading.Thread(target=look) for _ in range(2)]
    for looker in lookers:
        looker.start()
    time.sleep(0.2)
    seen_before = set(seen)
    try:
        for _ in range(20):
            with at_work(tmp_path):
                pass
    finally:
        stop.set()
        for looker in lookers:
            looker.join()
    assert seen_before == {False}


def test_a_file_that_is_removed_before_it_is_locked_is_nobodys_lock(tmp_path, monkeypatch):
    """The one before removes it at its end; a third would make another file, and two would train."""
    flock, removed = fcntl.flock, []

    def flock_late(*arguments):
        if not removed:
            removed.append((tmp_path / AT_WORK).unlink())
        return flock(*arguments)

    monkeypatch.setattr(fcntl, "flock", flock_late)
    with at_work(tmp_path):
        assert in_work(tmp_path)
        with pytest.raises(AtWork, match=f"process {os.getpid()} on"), at_work(tmp_path):
            pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_where_files_cannot_be_locked_it_is_said_and_training_goes_on(place, monkeypatch, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    (place / "runs" / "train" / "lustre").mkdir(parents=True)
    (place / "runs" / "train" / "lustre" / AT_WORK).touch()  # of one that was killed
    with pytest.warns(UserWarning, match="cannot be locked, so nothing keeps a second process"):
        record = train(settings(epochs=1, name="lustre"))
    assert record.summary["epochs"] == 1 and not in_work(record.folder)


def test_more_processes_than_would_get_on_are_refused():
    for count in (0, 49_000, 10**30):
        with pytest.raises(ValueError, match=f"{count} processes; accepted here are 1 to"):
            launch.torchrun(count, "columns")


def test_cores_are_those_that_the_process_may_use():
    first = min(os.sched_getaffinity(0))
    program = f"import os; os.sched_setaffinity(0, [{first}]); from alexnet_lib import cores; print(cores())"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert int(said) == 1 <= cores() <= os.cpu_count()
