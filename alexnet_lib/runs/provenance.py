"""What the numbers of a run depend on beside its settings."""

import platform
import subprocess
from functools import cache

import numpy as np
import torch

from ..paths import REPOSITORY


def provenance() -> dict:
    """The commit, versions, threads and processor that this process computes with."""
    return {
        "commit": code_commit(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "threads": torch.get_num_threads(),
        "processor": platform.machine(),
    }


@cache
def code_commit() -> str | None:
    """The commit of the checkout when it was first asked for, or None where there is none.

    Runs ask as they begin: another may be checked out before they end, and what they have loaded stays.
    """
    command = ["git", "-C", str(REPOSITORY), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
