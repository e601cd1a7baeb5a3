"""A run's folder: it answers for one configuration and one set of data, and one process at a time works there."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pandas as pd
from torch import Tensor
from tqdm import tqdm

from ..commands import heard
from ..dataset import Store, load_dataset
from ..files import AtWork, at_work, in_work, read_json, read_table, tidy, worker
from ..progress import say
from . import stopping
from .job import ALONE, POLL_SECONDS, Job, JobFailed
from .records import DamagedCheckpoint, Record, data_differences, differences, refuse_differences
from .stopping import Stopped


def require_same(run, stores: dict[str, Store], folder: Path | None = None) -> None:
    """Make sure that a folder, the run's own unless given, was made with these settings and data, if it is there.

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


def data_of(record: Record) -> dict[str, Store]:
    """The splits that a finished run was trained and tested on.

    Raises:
        ValueError: what is prepared under that name now are other pictures.
    """
    stores = load_dataset(record.config["dataset"])
    refuse_differences(record.folder, data_differences(record.summary["dataset"], fingerprints(stores)))
    return stores


def require_fit(
    where: Path,
    saved: dict[str, Tensor],
    own: dict[str, Tensor],
    every: bool = True,
    again: str = "Move or delete the folder to begin anew",
) -> None:
    """Make sure that saved tensors are a net's; `every`: all of them. `where` they are saved, and what to do `again`.

    Raises:
        DamagedCheckpoint: names a tensor that differs.
    """
    shapes = [{name: tuple(tensor.shape) for name, tensor in tensors.items()} for tensors in (saved, own)]
    names = [n for n in {**shapes[1], **shapes[0]} if shapes[0].get(n) != shapes[1].get(n) and (every or n in saved)]
    if names:
        there, here = (shape.get(names[0], "not there") for shape in shapes)
        raise DamagedCheckpoint(
            f"what is saved in {where} is of another net: {names[0]} is {there} in it, and {here} in the net that is "
            f"asked for. {again}"
        )


# ------------------------------------------------------------------------------------------ one process for each run


@contextmanager
def sole(folder: Path, job: Job = ALONE) -> Iterator[bool]:
    """Whether this process is the one to work in a run's folder, which it then is until the end of the block."""
    with ExitStack() as stack:
        mine = True
        try:
            if job.leader:
                stack.enter_context(at_work(folder))
                tidy(folder)
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
    say(tqdm, f"This run is being trained by {worker(run.folder)}, in {run.folder}; it is followed here.")
    history = History(run.folder, on_epoch)
    left = "another process trains this run, and goes on.\nRun it again, with the same settings, to follow it."
    try:
        with heard(Stopped), stopping.looking():
            while in_work(run.folder):
                if stopping.asked:
                    raise Stopped(f"Stopped by {stopping.asked[0]}: {left}")
                history.show()
                time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        raise stopping.Interrupted(f"Stopped: {left}") from None
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
        history = read_table(self.path)
        if len(history) != self.rows:  # a file can be written again as it was
            self.rows = len(history)
            self.on_epoch(history)
