"""The Slurm script calls torchrun on each machine with what Slurm says of the job."""

import os
import subprocess

import pytest

from alexnet_lib.paths import REPOSITORY

SCRIPT = REPOSITORY / "docs" / "imagenet.sbatch"
SLURM = {"SLURM_NNODES": "3", "SLURM_GPUS_ON_NODE": "8", "SLURM_JOB_ID": "77", "SLURM_JOB_NODELIST": "node[4-6]"}


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Stand-ins for Slurm's programs: one names the machines, the other repeats what it was told to start."""
    for name, body in (("scontrol", "printf 'node4\\nnode5\\nnode6\\n'"), ("srun", 'printf "%s\\n" "$@"')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")


def test_torchrun_is_told_of_the_machines_and_devices(cluster):
    done = subprocess.run(
        ["bash", str(SCRIPT), "paper.json"], env=os.environ | SLURM, capture_output=True, text=True, check=True
    )
    told = done.stdout.split()
    options = dict(zip(told, told[1:], strict=False))
    assert told[told.index("torchrun") - 1] == "--kill-on-bad-exit=1"
    assert options["--nnodes"] == "3" and options["--nproc-per-node"] == "8"
    assert options["--rdzv-endpoint"] == "node4:29500" and options["--rdzv-id"] == "77"
    assert told[-3:] == ["-m", "alexnet_lib.training", "paper.json"]


def test_without_a_configuration_it_says_what_it_wants(cluster):
    done = subprocess.run(["bash", str(SCRIPT)], env=os.environ | SLURM, capture_output=True, text=True)
    assert done.returncode and "usage: sbatch docs/imagenet.sbatch CONFIG.json" in done.stderr
