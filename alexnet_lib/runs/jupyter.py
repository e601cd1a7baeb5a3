"""Kernels that run notebooks: what they start with, the channels to them, and that none is left."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest import mock

import psutil
from traitlets.config import Config

from .. import ALLOCATOR
from ..paths import absolute_folders
from .processes import ENDS

# With pytest's variable a kernel would not record what subprocesses print; MPLBACKEND would hide figures.
UNWANTED = {"PYTEST_CURRENT_TEST": None, "MPLBACKEND": None}
# otherwise each kernel warns that other users of the machine could listen to it, and one that is ended shows how it was
QUIET = "--IPKernelApp.log_level=CRITICAL"
LONGEST_SOCKET = 100  # bytes of a path, to which each channel adds two: macOS takes 103, Linux 107
SHUTDOWN_SECONDS = 2.0  # for a kernel to end by itself; `walkthrough.in_parallel` gives a process a little longer


def kernel_environment(**changes: str | None) -> dict:
    """The environment that kernels start in; None removes a variable.

    A kernel runs in its notebook's folder, where a relative path would mean another folder than here.
    """
    wanted = os.environ | absolute_folders() | ALLOCATOR | UNWANTED | {ENDS: "1"} | changes
    return {name: value for name, value in wanted.items() if value is not None}


def kernel_channels(folder: str | Path) -> dict:
    """Options of a KernelManager that keep its channels in files of a folder, one folder a kernel.

    By default Jupyter chooses ports before the kernel takes them. A kernel that starts at the same time may take one
    first, and then the other kernel dies before its first cell. Ports remain where a system has no such files, or
    where the path is too long.
    """
    files = Path(folder, "kernel")
    usable = os.name != "nt" and len(os.fsencode(files)) <= LONGEST_SOCKET
    return {"transport": "ipc", "ip": str(files)} if usable else {}


@contextmanager
def one_kernel() -> Iterator[dict]:
    """Options of `papermill.execute_notebook` for a kernel that ends with the block, however that is left.

    When Papermill is stopped while a kernel starts, it leaves that kernel alone. The kernel would then look in vain for
    the folder of its channels, which is removed here, and show a traceback.
    """
    before = _kernels()
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, kernel_environment(), clear=True):
        manager = kernel_channels(folder) | {"shutdown_wait_time": SHUTDOWN_SECONDS}
        try:
            yield {"config": Config(KernelManager=manager), "extra_arguments": [QUIET]}
        finally:
            left = [kernel for kernel in _kernels() if kernel not in before]
            for kernel in left:
                with suppress(psutil.Error):  # it has ended meanwhile
                    kernel.kill()
            psutil.wait_procs(left, SHUTDOWN_SECONDS)


def _kernels() -> list[psutil.Process]:
    """Those that this process has started, of which Papermill may not know yet."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if any("ipykernel_launcher" in word for word in child.cmdline()):
                found.append(child)
    return found
