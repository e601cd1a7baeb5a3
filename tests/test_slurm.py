"""The Slurm script starts what suits the machines, hands signals on, and goes back into the queue."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from alexnet_lib.paths import REPOSITORY
from alexnet_lib.runs.records import load_checkpoint
from tests.small_runs import NAME
from tests.test_launch import wait_for
from tests.test_processes import alive
from tests.test_training import done_epochs

SCRIPT = REPOSITORY / "docs" / "imagenet.sbatch"
SLURM = {"SLURM_NNODES": "3", "SLURM_GPUS_ON_NODE": "8", "SLURM_JOB_ID": "77", "SLURM_JOB_NODELIST": "node[4-6]"}
SCONTROL = 'if [ "$1" = show ]; then printf "node4\\nnode5\\nnode6\\n"; else echo "told: $*"; fi'


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Stand-ins for Slurm's programs; what srun does can be chosen, and is to repeat what it was told to start."""

    def write(**bodies):
        for name, body in bodies.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
            (tmp_path / name).chmod(0o755)

    write(scontrol=SCONTROL, srun='printf "%s\\n" "$@"')
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return write


def script(*arguments, **environment):
    command = ["bash", str(SCRIPT), *arguments]
    return subprocess.run(command, env=os.environ | SLURM | environment, capture_output=True, text=True)


def test_torchrun_is_told_of_the_machines_and_devices(cluster):
    done = script("paper.json")
    told = done.stdout.split()
    options = dict(zip(told, told[1:], strict=False))
    assert done.returncode == 0 and told[told.index("torchrun") - 1] == "--kill-on-bad-exit=1"
    assert options["--nnodes"] == "3" and options["--nproc-per-node"] == "8"
    host, port = options["--rdzv-endpoint"].split(":")
    assert host == "node4" and 1024 < int(port) < 65536 and options["--rdzv-id"] == "77"
    assert told[-3:] == ["-m", "alexnet_lib.training", "paper.json"]
    other = script("paper.json").stdout.split()
    assert other[other.index("--rdzv-endpoint") + 1] != f"node4:{port}"  # a port that is free, not one for all jobs


def test_the_program_gets_the_cores_that_the_head_asks_for(cluster):
    """Of srun's own accord it would get one, since version 22.05."""
    cluster(srun='echo "${SRUN_CPUS_PER_TASK:-none}"')
    for cores in ("16", ""):
        assert script("paper.json", SLURM_CPUS_PER_TASK=cores).stdout == f"{cores or 'none'}\n"


def test_one_machine_needs_no_port(cluster):
    told = script("paper.json", SLURM_NNODES="1").stdout.split()
    assert told == ["--kill-on-bad-exit=1", "python", "-m", "alexnet_lib.training", "paper.json"]


def test_it_asks_for_what_a_batch_of_128_can_keep_busy():
    lines = [line for line in SCRIPT.read_text().splitlines() if line.startswith("#SBATCH --") and "=" in line]
    asked = dict(line.split()[1].split("=") for line in lines)
    assert (asked["--nodes"], asked["--gpus-per-node"], asked["--signal"]) == ("1", "2", "B:USR1@180")
    assert "#SBATCH --requeue" in SCRIPT.read_text()


def test_without_a_configuration_it_says_what_it_wants(cluster):
    done = script()
    assert done.returncode and "usage: sbatch docs/imagenet.sbatch CONFIG.json" in done.stderr


@pytest.mark.parametrize(("code", "requeued"), [(0, False), (2, False), (75, True)])
def test_a_run_that_wants_to_go_on_is_put_back_into_the_queue(cluster, code, requeued):
    cluster(srun=f"exit {code}")
    done = script("paper.json", SLURM_NNODES="1")
    assert done.returncode == code and ("told: requeue 77" in done.stdout) == requeued


def test_the_warning_signal_reaches_the_run_and_is_waited_for(cluster):
    cluster(srun='trap "echo checkpoint; exit 75" USR1; echo begun; while :; do sleep 0.05; done')
    command, environment = ["bash", str(SCRIPT), "paper.json"], os.environ | SLURM | {"SLURM_NNODES": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "begun\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGUSR1)
    said = process.communicate(timeout=30)[0]
    assert process.returncode == 75 and said.splitlines() == [
        "checkpoint",
        "the run goes back into the queue",
        "told: requeue 77",
    ]


STAGING = 'case "$1" in --ntasks*) shift; exec "$@";; *) echo "stores in $ALEXNET_STORES";; esac'
FAKE_RSYNC = 'echo "$@" >> "$RSYNC_LOG"; exec cp -r "$3." "$4"'  # its arguments: -a --delete FROM/ TO/


@pytest.fixture
def shared(cluster, tmp_path, monkeypatch):
    """A disk of all machines with the stores of two data sets, a run of one of them, and a disk of this machine."""
    for name in ("ilsvrc2012-256", "imagenette-256"):
        (store := tmp_path / "shared" / "prepared" / name / "train").mkdir(parents=True)
        (store / "meta.json").write_text(name)
        (store / "images.npy").write_bytes(b"0123")
    (tmp_path / "paper.json").write_text('{"dataset": "ilsvrc2012"}')
    monkeypatch.setenv("ALEXNET_DATA", str(tmp_path / "shared"))
    monkeypatch.setenv("ALEXNET_STAGE", str(tmp_path / "local disk"))
    monkeypatch.setenv("RSYNC_LOG", str(tmp_path / "rsync.log"))
    cluster(srun=STAGING, python=f'exec {sys.executable} "$@"')
    return tmp_path / "local disk" / "prepared"


@pytest.mark.parametrize("copier", ["rsync", "cp"])
def test_the_stores_of_the_data_set_are_staged_where_asked(cluster, shared, monkeypatch, copier):
    if copier == "rsync":
        shared.mkdir(parents=True)
        cluster(rsync='mkdir -p "$4"; ' + FAKE_RSYNC)
    else:
        without(monkeypatch, "rsync")
        for left in ("ilsvrc2012-256", "ilsvrc2012-256.part"):  # by jobs that were cut off
            (shared / left / "train").mkdir(parents=True)
            (shared / left / "train" / "images.npy").write_bytes(b"01")
    done = script(str(shared.parents[1] / "paper.json"), SLURM_NNODES="1")
    assert (done.returncode, done.stdout) == (0, f"stores in {shared}\n"), done.stderr
    (store,) = shared.iterdir()
    assert {f.name: f.read_bytes() for f in (store / "train").iterdir()} == {
        "meta.json": b"ilsvrc2012-256",
        "images.npy": b"0123",
    }
    assert (shared.parents[1] / "rsync.log").exists() == (copier == "rsync")


def test_a_copy_that_is_not_whole_is_not_trained_on(cluster, shared):
    cluster(rsync='mkdir -p "$4/train"; echo no > "$4/train/meta.json"')
    done = script(str(shared.parents[1] / "paper.json"), SLURM_NNODES="1")
    assert done.returncode == 1 and done.stdout == "" and "is not what" in done.stderr


def without(monkeypatch, name):
    """A path on which this program is not found."""
    folders = [f for f in os.environ["PATH"].split(os.pathsep) if not (Path(f) / name).exists()]
    monkeypatch.setenv("PATH", os.pathsep.join(folders))


def test_torchrun_hands_the_warning_on_and_waits_for_the_checkpoint(cluster, place):
    """The whole way: the script, torchrun as it is told to start it, and two processes that train."""
    given = {"dataset": NAME, "width": 0.05, "epochs": 400, "batch_size": 12, "name": "warned", "device": "cpu"}
    (place / "two.json").write_text(json.dumps(given))
    torchrun = f'exec {sys.executable} -m torch.distributed.run "$@"'
    # srun begins the program; of the machines there is one, which torchrun is told as "from one to one"
    cluster(
        srun='shift; exec "$@"', torchrun=torchrun, scontrol='case "$1" in show) echo 127.0.0.1;; *) echo "$@";; esac'
    )
    environment = os.environ | SLURM | {"SLURM_NNODES": "1:1", "SLURM_GPUS_ON_NODE": "2", "MARK": str(place)}
    command = ["bash", str(SCRIPT), str(place / "two.json")]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, env=environment, **options)
    folder = place / "runs" / "train" / "warned"
    try:
        wait_for(lambda: done_epochs(folder) >= 1)
        process.send_signal(signal.SIGUSR1)
        said, errors = process.communicate(timeout=120)
    finally:
        for pid in alive(place):  # none, unless the warning was not handed on
            os.kill(pid, signal.SIGKILL)
    assert said.splitlines()[-2:] == ["the run goes back into the queue", "requeue 77"], errors
    assert errors.count("Stopped by SIGUSR1: the last whole checkpoint is of") == 2
    progress = json.loads(load_checkpoint(folder)["progress"])
    assert progress["step"] > 0 or progress["epoch"] > 1
