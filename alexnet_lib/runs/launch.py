"""§3.2 and §5, many processes: columns × replicas as one job, and how a notebook starts it and watches.

The processes form a grid. Those of a row are the columns of one replica of the net: they see the same images and own
different maps. Those of a column own the same maps and see different images of every batch; their gradients are
averaged by torch's DistributedDataParallel.
"""

import dataclasses
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pandas as pd
import torch
import torch.distributed as dist
from filelock import FileLock, Timeout
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from .. import ALLOCATOR, cores
from ..dataset import is_prepared
from ..progress import PIPE, progress_bar
from .processes import FOLDER
from .processes import command as job_command
from .records import Record, whereabouts, write_json

PATIENCE = timedelta(minutes=5)  # a process that is silent for longer is taken for dead
POLL_SECONDS = 0.2
MOST_PROCESSES = 8  # on a machine of fewer cores
AT_WORK = "at_work"  # a file that is locked while a process trains there
LOOK_SECONDS = 0.5  # longer than anybody takes to look whether one does


@dataclass
class Job:
    """A process's place in a job of replicas × columns processes. `batch`, of all replicas, is set at each step."""

    replica: int = 0
    replicas: int = 1
    column: int = 0
    columns: int = 1
    device: str = "cpu"
    mesh: DeviceMesh | None = None
    batch: int = 0

    @property
    def leader(self) -> bool:
        """The one process that writes and shows anything."""
        return self.replica == 0 and self.column == 0

    @property
    def images_of_batch(self) -> slice:
        """Which images of the whole batch are this replica's."""
        return self.share(self.batch)

    def share(self, count: int) -> slice:
        """This replica's part of `count` things: shares differ by at most one."""
        return slice(self.replica * count // self.replicas, (self.replica + 1) * count // self.replicas)

    def group(self, dimension: str):
        """The processes of this one's row ("column") or column ("replica") of the grid."""
        return self.mesh.get_group(dimension)

    def synchronised(self, net: nn.Module) -> nn.Module:
        """A net whose gradients are averaged over the replicas."""
        return net if self.replicas == 1 else DistributedDataParallel(net, process_group=self.group("replica"))

    def sum(self, values: Tensor) -> Tensor:
        """The sum over the replicas, for all of them."""
        if self.replicas == 1:
            return values
        values = values.to(self.device)
        dist.all_reduce(values, group=self.group("replica"))
        return values

    def every_image(self, values: Tensor) -> Tensor:
        """The rows of all replicas' images, (batch, ...), from those of each."""
        rows = values.new_zeros((self.batch, *values.shape[1:]))
        rows[self.images_of_batch] = values
        return self.sum(rows)

    def as_leader_says(self, value):
        """The leader's value, for all."""
        if self.mesh is None:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=torch.device(self.device))
        return box[0]

    def leaders_tensor(self, tensor: Tensor | None, shape, dtype=torch.float32) -> Tensor:
        """A tensor of the leader's, for all; the others give None."""
        if self.mesh is None:
            return tensor
        here = torch.empty(shape, dtype=dtype) if tensor is None else tensor
        here = here.to(self.device).contiguous()
        dist.broadcast(here, src=0)
        return here


ALONE = Job()


class JobFailed(RuntimeError):
    """A process of a job ended before its work was done."""


def inside_job() -> bool:
    """Was this process started as one of several, by `torchrun` here or by PyTorch's of that name?"""
    return FOLDER in os.environ or "TORCHELASTIC_RUN_ID" in os.environ


def in_notebook() -> bool:
    """Does this process run the cells of a notebook?"""
    return getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)() is not None


def wait_until_prepared(dataset: str) -> None:
    """On every machine of a job the first process prepares the data; the others wait for it here."""
    while inside_job() and os.environ["LOCAL_RANK"] != "0" and not is_prepared(dataset):
        time.sleep(POLL_SECONDS)


@contextmanager
def join(columns: int = 1, device: str = "auto") -> Iterator[Job]:
    """Join the job that this process was started for, or work alone if there is none.

    NCCL carries the messages between GPUs and gloo those between CPU processes.

    Args:
        columns: how many processes share one replica of the net; neighbours by rank, so that they are on one machine.
        device: "cpu" for processes without GPUs; any other takes one GPU for each process of a machine, where there
            are as many.

    Raises:
        ValueError: processes that do not divide into columns.
    """
    if not inside_job():
        yield Job(device="cpu" if device == "auto" else device)
        return
    processes = int(os.environ["WORLD_SIZE"])
    if processes % columns:
        raise ValueError(f"{processes} processes do not divide into {columns} columns")
    local = int(os.environ["LOCAL_RANK"])
    gpus = device != "cpu" and torch.cuda.device_count() >= int(os.environ["LOCAL_WORLD_SIZE"])
    if gpus:
        torch.cuda.set_device(local)
    here = torch.device("cuda", local) if gpus else None
    if FOLDER in os.environ:
        store, rank = dist.FileStore(f"{os.environ[FOLDER]}/store", processes), int(os.environ["RANK"])
    else:
        store, rank, _ = next(rendezvous("env://", timeout=PATIENCE))
        # after a restart, torchrun's store still holds the addresses of the processes that are gone
        store = dist.PrefixStore(f"attempt {os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    options = {"store": store, "rank": rank, "world_size": processes, "timeout": PATIENCE, "device_id": here}
    dist.init_process_group("nccl" if gpus else "gloo", **options)
    grid = (processes // columns, columns)
    mesh = init_device_mesh("cuda" if gpus else "cpu", grid, mesh_dim_names=("replica", "column"))
    replica, column = mesh.get_coordinate()
    yield Job(replica, grid[0], column, columns, f"cuda:{local}" if gpus else "cpu", mesh)
    dist.destroy_process_group()  # not after an error: it would wait for those that are gone


# ------------------------------------------------------------------------------------------ one process for each run


class AtWork(RuntimeError):
    """Another process is training this run."""


def _lock(folder: Path, patience: float) -> FileLock:
    # where a file system cannot lock, filelock would put up a file that outlives a process which is killed
    return FileLock(folder / AT_WORK, timeout=patience, poll_interval=0.002, fallback_to_soft=False)


@contextmanager
def at_work(folder: Path, job: Job = ALONE) -> Iterator[None]:
    """Mark a run's folder as being worked on, for as long as this process lives at most; the leader of a job does.

    Once let in, look again whether the run is finished: another process may just have done so. Where files cannot be
    locked (some Lustre and NFS), it warns, and nothing keeps a second process out.

    Raises:
        AtWork: another process is at work there.
    """
    if not job.leader:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    path, lock = folder / AT_WORK, _lock(folder, LOOK_SECONDS)
    try:
        lock.acquire()
    except Timeout:
        who = path.read_text(encoding="utf-8") if path.is_file() else "it has just ended"
        raise AtWork(f"another process is training this run: {who}") from None
    except (OSError, NotImplementedError):
        warnings.warn(
            f"files in {folder} cannot be locked, so nothing keeps a second process from training this run at the "
            "same time, which would spoil it; see that there is none",
            stacklevel=3,
        )
    with suppress(OSError):  # Windows lets nobody write into a file that is locked
        path.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no file that is open
            path.unlink()
        lock.release()


def in_work(folder: Path) -> bool:
    """Whether a process is at work in a run's folder. Where files cannot be locked, nobody can tell: False."""
    if not (folder / AT_WORK).is_file():
        return False
    try:
        with _lock(folder, LOOK_SECONDS / 5):  # others who look hold it for a moment
            return False
    except Timeout:
        return True
    except (OSError, NotImplementedError):
        return False


def follow(run, on_epoch: Callable[[pd.DataFrame], None] | None) -> Record:
    """Wait for the process that is training a run, and show its history as it grows.

    An interruption ends the waiting, not the training.

    Raises:
        JobFailed: the process ended before the run did.
    """
    history = _History(run.folder, on_epoch)
    while in_work(run.folder):
        history.show()
        time.sleep(POLL_SECONDS)
    history.show()
    if not (run.folder / "summary.json").is_file():
        raise JobFailed(f"the process that trained this run has ended; the same call goes on from {run.folder}")
    return Record.open(run.folder)


class _History:
    """A run's table of epochs, shown whenever it has grown."""

    def __init__(self, folder: Path, on_epoch: Callable[[pd.DataFrame], None] | None):
        self.path, self.on_epoch, self.changed, self.rows = folder / "history.csv", on_epoch, 0.0, 0

    def show(self) -> None:
        if self.on_epoch is None or not self.path.is_file() or self.path.stat().st_mtime == self.changed:
            return
        self.changed = self.path.stat().st_mtime
        history = pd.read_csv(self.path)
        if len(history) != self.rows:  # a file can be written again as it was
            self.rows = len(history)
            self.on_epoch(history)


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
) -> list[str]:
    """Run a module of this library on several processes of this machine, and return what the first one printed.

    What torchrun is for, without its ports: nothing listens beyond the loopback interface.

    Args:
        processes: how many; each gets its share of the cores.
        module: its name within the library.
        arguments: of its command line.
        tell: called with every state of its progress, as it comes.
        outlives: the job goes on when this process is ended from outside.
        config: settings; a file with them becomes the last argument.

    Raises:
        JobFailed: with the process that failed first and its last lines.
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
        command = job_command(folder, processes, outlives, module, *arguments)
        with open(folder / "log", "w+", encoding="utf-8") as log:
            # a session of its own: Ctrl-C in a notebook's terminal and the end of its kernel do not reach the job
            options = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "start_new_session": True}
            job = subprocess.Popen(command, env=environment, **options)
            try:
                printed = _follow(job, folder / "0.out", tell)
            finally:
                if job.poll() is None:  # the caller was interrupted
                    job.terminate()
                    job.wait()
        if job.returncode:
            raise JobFailed(
                (folder / "log").read_text(encoding="utf-8").strip() or f"the job ended with code {job.returncode}"
            )
        return printed


def _follow(job: subprocess.Popen, path: Path, tell) -> list[str]:
    """The lines that the first process prints until the job ends; states of its progress go to `tell`."""
    printed, position, ended = [], 0, False
    while not ended:
        ended = job.poll() is not None
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


def watch(description: str, warning: type[Warning] = UserWarning) -> tuple[Callable[[dict], None], Callable[[], None]]:
    """A progress bar for a job: a function for `torchrun`'s `tell`, and one that ends it."""
    bars = []

    def tell(state: dict) -> None:
        if "warning" in state:
            warnings.warn(state["warning"], warning, stacklevel=2)
            return
        if not bars:
            bars.append(progress_bar(state["total"], description, "step", initial=state["initial"]))
        bars[0].set_postfix_str(state["postfix"], refresh=False)
        bars[0].update(state["n"] - bars[0].n)

    return tell, lambda: [bar.close() for bar in bars]


def train_on_devices(run, on_epoch: Callable[[pd.DataFrame], None] | None, warning: type[Warning]) -> Record:
    """Train on run.devices processes, and show their progress and warnings as if they were this one's.

    Args:
        run: resolved settings.
        on_epoch: called with the history when it has grown.
        warning: the kind of warning that a process's words become.

    Raises:
        JobFailed: says which process, its last lines, and where the last checkpoint is.
    """
    if (run.folder / "summary.json").is_file():
        return Record.open(run.folder)
    history = _History(run.folder, on_epoch)

    def look(state: dict) -> None:
        tell(state)
        history.show()

    tell, close = watch("training", warning)
    options = {"tell": look, "outlives": in_notebook(), "config": dataclasses.asdict(run)}
    try:
        torchrun(run.devices, "training", **options)
    except JobFailed as failure:
        if in_work(run.folder):  # another process had begun before
            return follow(run, on_epoch)
        if not (run.folder / "summary.json").is_file():
            raise JobFailed(f"{failure}\n{whereabouts(run.folder)}") from None
    finally:
        close()
    history.show()
    return Record.open(run.folder)
