"""§2, a store that is being made: what of it is on disk, how much of that counts, and whether it still is what it was.

A run goes on only from what was written whole. Where a state is torn or foreign, or images or records are not the ones
it tells of, it goes on from the state of the chunk before, if that one's are, and else begins the store again: that
takes longer and ends with the same bytes.
"""

import errno
import json
import os
import shutil
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..commands import Interrupted, heard
from ..files import at_work, in_work, make_folder, publish, sync, tidy, worker, write_file
from ..progress import say
from .jpeg_store import IMAGES
from .sources import is_junk, printable

STATE, PREVIOUS, RECORDS = "state.npz", "state.previous.npz", "records.jsonl"
NOTES = (STATE, PREVIOUS, RECORDS)  # what serves to go on; a run that is killed while publishing leaves it in the store
WRITERS, SHARE = 4, 2**22  # threads, and bytes that each writes at a time
BUFFER = 2**17  # bytes, for pictures that are smaller
FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


class Unfinished:
    """What an earlier run left for these very files, or a fresh start; `state` says how much of it counts."""

    def __init__(self, folder: Path, listing: str, count: int, size: int, form: str):
        self.folder, self.size, self.form = folder, size, form
        self.images, self.records_file = folder / ("images.npy" if form == "raw" else IMAGES), folder / RECORDS
        self.header = npy_header((count, size, size, 3)) if form == "raw" else b""
        self.state = {"listing": listing, "sum": np.zeros((size, size, 3), np.int64), "products": np.zeros((3, 3))}
        self.state |= dict.fromkeys(("files", "rows", "record_bytes", "record_check", "written"), 0)
        self.state["image_bytes"] = len(self.header)
        fresh = self.state
        if not (self._take_up(STATE) or self._take_up(PREVIOUS)):
            self.state = fresh
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            self.images.write_bytes(self.header)
            self.records_file.touch()

    def _take_up(self, name: str) -> bool:
        """Read a state and check what it tells of; False where there is nothing to go on from."""
        try:
            with np.load(self.folder / name, allow_pickle=False) as saved:
                arrays = {name: saved[name] for name in self.state}
        except Exception:  # numpy and zipfile raise nearly anything on damaged bytes
            return False
        if arrays["listing"].item() != self.state["listing"]:
            return False
        self.state = {name: array if array.ndim else array.item() for name, array in arrays.items()}
        if not self._is_whole():
            return False
        for path, name in ((self.images, "image_bytes"), (self.records_file, "record_bytes")):
            if path.stat().st_size > self.state[name]:
                os.truncate(path, self.state[name])  # a torn chunk after the last that counts
        return True

    def _is_whole(self) -> bool:
        """Whether the files hold what was written; all of the images is read only if they were written to since."""
        length, records = self.state["image_bytes"], self.state["record_bytes"]
        try:
            found, lines = self.images.stat(), self.records_file.read_bytes()[:records]
        except OSError:
            return False
        if len(lines) < records or zlib.crc32(lines) != self.state["record_check"] or found.st_size < length:
            return False
        if found.st_mtime_ns == self.state["written"]:
            return True
        with open(self.images, "rb") as file:
            file.seek(len(self.header))
            return all(word_sum(file.read(record["bytes"])) == record["check"] for record in self.records())

    def append(self, groups: list) -> None:
        """Add one chunk, as `preparation.Group`s: data first, then the note that it counts."""
        state, records = self.state, [record for group in groups for record in group.records]
        stored = [data for group in groups for data in group.stored]
        state["image_bytes"] = _put(self.images, state["image_bytes"], stored)
        lines = "".join(map(_line, records)).encode()
        state["record_bytes"] = _put(self.records_file, state["record_bytes"], [lines])
        state["record_check"] = zlib.crc32(lines, state["record_check"])
        for group in groups:
            state["sum"] += group.total
            state["products"] += group.products
        state["rows"] += sum(record["reason"] is None for record in records)
        state["files"] += len(records)
        with suppress(FileNotFoundError):
            os.replace(self.folder / STATE, self.folder / PREVIOUS)
        self._save()

    def write_count(self) -> None:
        """Put the number of images into their file, where they are one array."""
        if self.form == "raw":
            with open(self.images, "r+b") as file:
                file.write(npy_header((self.state["rows"], self.size, self.size, 3)))
                sync(file)
            self._save()

    def _save(self) -> None:
        self.state["written"] = self.images.stat().st_mtime_ns
        file = BytesIO()
        np.savez(file, **self.state)
        write_file(self.folder / STATE, file.getbuffer())

    def records(self) -> list[dict]:
        """What became of each file so far."""
        lines = self.records_file.read_bytes()[: self.state["record_bytes"]].splitlines()
        return json.loads(b"[" + b",".join(lines) + b"]")


def require_place(destination: Path, source: Path) -> None:
    """Whether a store of the pictures in `source` can have this place; asked before they are listed.

    Raises:
        FileExistsError: a link to nothing, in whose place no folder can be put.
        ValueError: it lies among the pictures, and would be taken for a class, or for part of one.
    """
    _require_no_dead_link(destination)
    place, pictures = (Path(os.path.realpath(path)) for path in (destination, source))
    if place.is_relative_to(pictures) and not any(map(is_junk, place.relative_to(pictures).parts)):
        raise ValueError(
            f"{printable(destination)} lies in {printable(source)}, where it would be taken for a class or for part of "
            "one; accepted is a place outside of it, for the stores of a data set by $ALEXNET_STORES"
        )


def _require_no_dead_link(destination: Path) -> None:
    if destination.is_symlink() and not destination.exists():
        to = f"a link to {printable(os.readlink(destination))}, where nothing is"
        raise FileExistsError(f"{printable(destination)} is {to}; remove the link or name another folder")


def make_store(destination: Path, fill: Callable[[Path], None], left: str) -> None:
    """Have `fill` make a store's files in a working folder, and give that folder its name, unless it is there already.

    A second process waits for the first, and finds the store made; a process that was killed holds nothing.

    Raises:
        OSError: the disk is full; says where, what is `left` of the work, and how to go on.
        FileExistsError: the destination is a link to nothing.
        Interrupted: in place of KeyboardInterrupt, with the same in two lines.
    """
    _require_no_dead_link(destination)
    make_folder(destination.parent)
    work, lock = work_of(destination), lock_of(destination)
    if in_work(destination.parent, lock):
        say(tqdm, f"{destination} is being made by {worker(destination.parent, lock)}, for which this process waits.")
    with at_work(destination.parent, lock, patience=-1):
        if destination.exists():
            return
        try:
            with heard():
                fill(work)
                tidy(work)
                publish(work, destination)
        except OSError as error:
            if error.errno not in FULL:
                raise
            why = f"{os.strerror(error.errno)}; {left}. Make room there and give the same command again"
            raise OSError(error.errno, why, str(work)) from None
        except KeyboardInterrupt:
            raise Interrupted(f"Stopped while {destination} was made; {left}.\nRun it again to go on.") from None
        tidy(destination, *NOTES)


def clear_up(destination: Path) -> None:
    """Remove what a process that was killed when it had just published a store has left in it and beside it."""
    with suppress(OSError):  # where nothing can be removed it stays, and does no harm
        tidy(destination, *NOTES)
    in_work(destination.parent, lock_of(destination))


def lock_of(destination: Path) -> str:
    """The name of the file that is locked, beside a store, while it is made."""
    return f".{destination.name}.lock"


def work_of(destination: Path) -> Path:
    """The folder in which a store is being made."""
    return destination.with_name(f".{destination.name}.partial")


def npy_header(shape: tuple[int, ...]) -> bytes:
    """The head of an .npy file of uint8 in a fixed 128 bytes, so that the count can be changed in place."""
    file = BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    header = file.getvalue()
    assert len(header) == 128, f"numpy wrote a header of {len(header)} bytes"
    return header


def word_sum(data) -> int:
    """A check of some bytes that takes microseconds: the sum of their 64-bit words, and of the bytes left over."""
    words = len(data) // 8
    return int(np.frombuffer(data, np.uint64, words).sum()) + sum(data[8 * words :])


def _line(record: dict) -> str:
    """A record as a line of JSON; to give json.dumps the whole of it takes a tenth of the time of a small picture."""
    name, reason = json.dumps(record["file"]), "null" if record["reason"] is None else json.dumps(record["reason"])
    digest = f'"{record["sha256"]}"' if record["sha256"] else "null"
    return (
        f'{{"file": {name}, "label": {record["label"]}, "sha256": {digest}, "reason": {reason}, '
        f'"bytes": {record["bytes"]}, "check": {record["check"]}}}\n'
    )


def _put(path: Path, start: int, parts: list) -> int:
    """Write to a file from byte `start` on, in the place of all that follows; the new length.

    By several threads: one copies 8,000 pictures of 256 pixels a second, and sixteen cores prepare more.
    """
    lengths = [len(part) for part in parts]
    ends = np.cumsum([start, *lengths]).tolist()
    shares = [part for part in np.array_split(np.arange(len(parts)), max(1, sum(lengths) // SHARE)) if len(part)]
    with open(path, "r+b") as file, ThreadPoolExecutor(WRITERS) as pool:
        file.truncate(start)

        def write(share: np.ndarray) -> None:
            with open(path, "r+b", buffering=BUFFER) as own:
                own.seek(ends[share[0]])
                own.writelines(parts[i] for i in share)

        list(pool.map(write, shares))
        sync(file)
    return ends[-1]
