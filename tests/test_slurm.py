"""The Slurm script starts what suits the machines, hands signals on, and goes back into the queue."""

import os
import signal
import subprocess
import time

import pytest

from alexnet_lib.paths import REPOSITORY

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


def test_the_store_is_staged_where_asked(cluster, tmp_path):
    store = tmp_path / "shared" / "prepared" / "ilsvrc2012-256"
    store.mkdir(parents=True)
    (store / "meta.json").write_text("{}")
    cluster(srun='case "$1" in --ntasks*) shift; exec "$@";; *) echo "data in $ALEXNET_DATA";; esac')
    own = {"ALEXNET_DATA": str(tmp_path / "shared"), "ALEXNET_STAGE": str(tmp_path / "local disk")}
    done = script("paper.json", SLURM_NNODES="1", **own)
    assert done.stdout == f"data in {tmp_path / 'local disk'}\n", done.stderr
    assert (tmp_path / "local disk" / "prepared" / "ilsvrc2012-256" / "meta.json").read_text() == "{}"
