"""§5, starting several processes on this machine, and watching them from a notebook or a shell."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from .. import ALLOCATOR, cores
from ..dataset import Store
from ..files import in_work, write_json
from ..progress import PIPE, progress_bar, say
from . import stopping
from .folder import History, follow, require_same
from .job import POLL_SECONDS, JobFailed
from .processes import ENDS, GO_ON, command
from .records import Record, whereabouts
from .stopping import Stopped

MOST_PROCESSES = 8  # on a machine of fewer cores

NCCL_REMEDIES = (
    "NCCL carries the messages between GPUs. NCCL_DEBUG=INFO in the environment makes it say more; NCCL_P2P_DISABLE=1 "
    "helps where GPUs cannot reach each other's memory, NCCL_SHM_DISABLE=1 or a larger /dev/shm in a container, "
    'NCCL_SOCKET_IFNAME where a machine has several networks; "devices": 1 does without it'
)


def with_remedies(said: str) -> str:
    """An error, and what helps where it is NCCL's."""
    return f"{said}\n{NCCL_REMEDIES}" if "NCCL" in said and NCCL_REMEDIES not in said else said


def in_notebook() -> bool:
    """Does this process run the cells of a notebook?"""
    return getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)() is not None


def has_allocator() -> bool:
    """Whether this process was started with the allocator's settings, or on a system that has none."""
    return sys.platform != "linux" or all(name in os.environ for name in ALLOCATOR)


def with_allocator() -> None:
    """Start this program again in the same process, with the allocator's settings."""
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], ALLOCATOR | os.environ)


# ----------------------------------------------------------------------------------------- starting and watching a job


def torchrun(
    processes: int,
    module: str,
    *arguments: str,
    tell: Callable[[dict], None] | None = None,
    outlives: bool = False,
    config: dict | None = None,
    logs: Path | None = None,
) -> list[str]:
    """Run a module of this library in several processes on this machine, and return what the first one printed.

    What torchrun is for, without its ports: nothing listens beyond the loopback interface.

    Args:
        processes: how many; each gets its share of the cores.
        module: its name within the library.
        arguments: of its command line.
        tell: called with every state of its progress, as it comes.
        outlives: the job goes on when this process is ended from outside.
        config: settings; a file with them becomes the last argument.
        logs: a folder for all that each process has printed, where one fails.

    Raises:
        JobFailed: with the process that failed first and its last lines.
        Stopped: a signal has ended it.
        ValueError: more processes than would ever get on.
    """
    if not 1 <= processes <= max(MOST_PROCESSES, cores()):
        raise ValueError(f"{processes} processes; accepted here are 1 to {max(MOST_PROCESSES, cores())}")
    with tempfile.TemporaryDirectory(prefix="alexnet-job-") as folder:
        folder = Path(folder)
        if config is not None:
            write_json(folder / "config.json", config)
            arguments = (*arguments, str(folder / "config.json"))
        threads = str(max(1, cores() // processes))
        environment = {"OMP_NUM_THREADS": threads} | ALLOCATOR | os.environ | {"ALEXNET_PROGRESS": PIPE}
        with open(folder / "log", "w+", encoding="utf-8") as log:
            # a session of its own: Ctrl-C in a notebook's terminal and the end of its kernel do not reach the job
            options = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "start_new_session": True}
            job = subprocess.Popen(command(folder, processes, outlives, module, *arguments), env=environment, **options)
            try:
                with stopping.looking():
                    printed = _follow(job, folder / "0.out", tell)
            finally:
                if job.poll() is None:  # the caller was interrupted
                    job.terminate()
                    job.wait()
        said = (folder / "log").read_text(encoding="utf-8").strip()
        if job.returncode == GO_ON or stopping.asked and job.returncode and not said:  # it may not have begun to listen
            raise Stopped("stopped by a signal")
        if job.returncode:
            said = said or f"the job ended with code {job.returncode}"
            if logs is not None:
                shutil.copytree(folder, logs, ignore=shutil.ignore_patterns("store"), dirs_exist_ok=True)
                said += f"\nAll that the processes said is in {logs}"
            raise JobFailed(with_remedies(said))
        return printed


def _follow(job: subprocess.Popen, path: Path, tell) -> list[str]:
    """The lines that the first process prints until the job ends; states of its progress go to `tell`."""
    printed, position, ended, told_to_stop = [], 0, False, False
    while not ended:
        ended = job.poll() is not None
        if stopping.asked and not ended and not told_to_stop:
            job.send_signal(getattr(signal, stopping.asked[0]))
            told_to_stop = True
        time.sleep(0 if ended else POLL_SECONDS)
        if not path.exists():
            continue
        with open(path, "rb") as file:
            file.seek(position)
            new = file.read()
        complete = new[: new.rfind(b"\n") + 1]
        position += len(complete)
        for line in complete.decode(errors="replace").splitlines():
            if line.startswith(PIPE):
                if tell is not None:
                    tell(json.loads(line.removeprefix(PIPE)))
            else:
                printed.append(line)
    return printed


def train_on_devices(run, stores: dict[str, Store], on_epoch, warning: type[Warning]) -> Record:
    """Train on run.devices processes, and show their progress, and their warnings as `warning`, as if they were ours.

    Raises:
        JobFailed: says which process, its last lines, and where the last checkpoint is.
    """
    history, bars = History(run.folder, on_epoch), []

    def tell(state: dict) -> None:
        if "line" in state:
            say(bars[0] if bars else tqdm, state["line"], state["only_to_logs"])
        elif "warning" in state:
            warnings.warn(state["warning"], warning, stacklevel=2)
        else:
            if not bars:
                bars.append(progress_bar(state["total"], "training", "step", initial=state["initial"], says=True))
            bars[0].set_postfix_str(state["postfix"], refresh=False)
            bars[0].update(state["n"] - bars[0].n)
        history.show()

    outlives = in_notebook() and ENDS not in os.environ
    options = {"tell": tell, "outlives": outlives, "config": dataclasses.asdict(run)}
    options["logs"] = run.folder / "logs"
    try:
        torchrun(run.devices, "training", **options)
    except JobFailed as failure:
        if in_work(run.folder):  # another process had begun before
            return follow(run, stores, on_epoch)
        if not (run.folder / "summary.json").is_file():
            raise JobFailed(f"{failure}\n{whereabouts(run.folder)}") from None
    finally:
        for bar in bars:
            bar.close()
    history.show()
    require_same(run, stores)
    return Record.open(run.folder)
