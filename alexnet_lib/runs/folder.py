"""A run's folder: it answers for one configuration and one set of data, and one process at a time works there."""

import dataclasses
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout
from torch import Tensor
from tqdm import tqdm

from ..dataset import Store, load_dataset
from ..progress import say
from .job import ALONE, POLL_SECONDS, Job, JobFailed
from .records import DamagedCheckpoint, Record, differences, read_json, refuse_differences

AT_WORK = "at_work"  # a file that is locked while a process trains there
LOOK_SECONDS = 0.5  # longer than anybody takes to look whether one does


def require_same(run, stores: dict[str, Store], folder: Path | None = None) -> None:
    """Make sure that a folder, where there is one, was made with these settings and data; nothing is written.

    Args:
        run: resolved settings.
        folder: where the run was kept, if not in its own folder.

    Raises:
        ValueError: the fields that differ, as found and as asked for, or a config.json or summary.json that is damaged.
    """
    folder = folder or run.folder
    if not (folder / "config.json").is_file():
        return
    defaults = {field.name: field.default for field in dataclasses.fields(run)}
    unlike = differences(read_json(folder / "config.json"), dataclasses.asdict(run), defaults)
    if (folder / "summary.json").is_file():
        unlike |= data_differences(read_json(folder / "summary.json").get("dataset"), fingerprints(stores))
    refuse_differences(folder, unlike)


def fingerprints(stores: dict[str, Store]) -> dict[str, str]:
    """What data a run is of, by split."""
    return {split: store.meta["fingerprint"] for split, store in stores.items()}


def data_differences(found: dict | None, asked: dict[str, str]) -> dict[str, tuple]:
    """The splits whose pictures differ, as far as both are known, {"data of <split>": (found, asked)}."""
    found = found if isinstance(found, dict) else {}
    return {f"data of {k}": (found[k], asked[k]) for k in asked if k in found and found[k] != asked[k]}


def data_of(record: Record) -> dict[str, Store]:
    """The splits that a finished run was trained and tested on.

    Raises:
        ValueError: what is prepared under that name now are other pictures.
    """
    stores = load_dataset(record.config["dataset"])
    refuse_differences(record.folder, data_differences(record.summary.get("dataset"), fingerprints(stores)))
    return stores


def require_fit(folder: Path, saved: dict[str, Tensor], own: dict[str, Tensor], every: bool = True) -> None:
    """Make sure that a checkpoint's tensors are a net's; `every`: all of them.

    Raises:
        DamagedCheckpoint: names a tensor that differs.
    """
    shapes = [{name: tuple(tensor.shape) for name, tensor in tensors.items()} for tensors in (saved, own)]
    names = [n for n in {**shapes[1], **shapes[0]} if shapes[0].get(n) != shapes[1].get(n) and (every or n in saved)]
    if names:
        there, here = (shape.get(names[0], "not there") for shape in shapes)
        raise DamagedCheckpoint(
            f"the checkpoint in {folder} is of another net: {names[0]} is {there} in it, and {here} in the net that is "
            "asked for. Move or delete the folder to begin anew"
        )


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
        raise AtWork(f"another process is training this run: {_who(folder)}") from None
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


def _who(folder: Path) -> str:
    """The process that has marked a folder."""
    try:
        return (folder / AT_WORK).read_text(encoding="utf-8") or "another process"
    except OSError:  # Windows lets nobody read a file that is locked
        return "another process"


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


@contextmanager
def sole(folder: Path, job: Job = ALONE) -> Iterator[bool]:
    """Whether this process is the one to work in a run's folder, which it then is until the end of the block."""
    with ExitStack() as stack:
        mine = True
        try:
            stack.enter_context(at_work(folder, job))
        except AtWork:
            if job.mesh is not None:  # the others of the job are waiting for this one
                raise
            mine = False
        yield mine


def follow(run, stores: dict[str, Store], on_epoch: Callable[[pd.DataFrame], None] | None) -> Record:
    """Wait for the process that is training this very run, and show its history as it grows.

    An interruption ends the waiting, not the training.

    Raises:
        ValueError: it trains another run in the same folder.
        JobFailed: the process ended before the run did.
    """
    require_same(run, stores)
    say(tqdm, f"This run is being trained by {_who(run.folder)}, in {run.folder}; it is followed here.")
    history = History(run.folder, on_epoch)
    while in_work(run.folder):
        history.show()
        time.sleep(POLL_SECONDS)
    history.show()
    if not (run.folder / "summary.json").is_file():
        raise JobFailed(f"the process that trained this run has ended; the same call goes on from {run.folder}")
    return Record.open(run.folder)


class History:
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
