"""§2, a store that is being made: what of it is on disk, how much of that counts, and whether it still is what it was.

Only what was written whole is gone on from. A state that is torn, foreign or of another version of this file, and
images or records that are not the ones it tells of, are removed, and the store is begun again: it takes longer, and
ends with the same bytes.
"""

import errno
import json
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np

from .jpeg_store import IMAGES

STATE, RECORDS = "state.npz", "records.jsonl"
COUNTS = ("files", "rows", "image_bytes", "record_bytes", "record_check", "written")
FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


class Unfinished:
    """The images and records of a store so far."""

    def __init__(self, folder: Path, listing: str, count: int, size: int, form: str):
        self.folder, self.listing, self.count, self.size, self.form = folder, listing, count, size, form
        self.files = self.rows = self.record_bytes = self.record_check = self.written = 0
        self.sum = np.zeros((size, size, 3), np.int64)
        self.products = np.zeros((3, 3))
        self.header = npy_header((count, size, size, 3)) if form == "raw" else b""
        self.images, self.image_bytes = folder / ("images.npy" if form == "raw" else IMAGES), len(self.header)

    @classmethod
    def load(cls, folder: Path, listing: str, count: int, size: int, form: str) -> "Unfinished":
        """What an earlier run left for these very files, or a fresh start."""
        left = cls(folder, listing, count, size, form)
        if left._take_up():
            return left
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        fresh = cls(folder, listing, count, size, form)
        fresh.images.write_bytes(fresh.header)
        (folder / RECORDS).touch()
        return fresh

    def _take_up(self) -> bool:
        """Read the state and what it tells of; False where there is nothing to go on from."""
        try:
            with np.load(self.folder / STATE, allow_pickle=False) as saved:
                values = {name: saved[name] for name in (*COUNTS, "listing", "sum", "products")}
            for name in COUNTS:
                setattr(self, name, int(values[name]))
        except Exception:  # what numpy and zipfile raise on damaged bytes is nearly anything
            return False
        alike = all(
            values[name].shape == now.shape and values[name].dtype == now.dtype
            for name, now in (("sum", self.sum), ("products", self.products))
        )
        if str(values["listing"]) != self.listing or not alike or not self._is_whole():
            return False
        self.sum, self.products = values["sum"], values["products"]
        for path, length in ((self.images, self.image_bytes), (self.folder / RECORDS, self.record_bytes)):
            if path.stat().st_size > length:
                os.truncate(path, length)  # a torn chunk after the last that counts
        return True

    def _is_whole(self) -> bool:
        """Whether the files hold what was written; all of the images is read only if they were written to since."""
        try:
            found, records = self.images.stat(), (self.folder / RECORDS).read_bytes()[: self.record_bytes]
        except OSError:
            return False
        whole = len(records) == self.record_bytes and zlib.crc32(records) == self.record_check
        if not whole or found.st_size < self.image_bytes:
            return False
        if found.st_mtime_ns == self.written:
            return True
        with open(self.images, "rb") as file:
            file.seek(len(self.header))
            return all(word_sum(file.read(record["bytes"])) == record["check"] for record in self.records())

    def append(self, chunk: list, done: list) -> None:
        """Add one chunk: data first, then the note that it counts."""
        with open(self.images, "r+b") as file:
            file.seek(self.image_bytes)
            file.truncate()
            for one in done:
                file.write(one.stored)
            self.image_bytes = file.tell()
            _sync(file)
        records = [
            {"file": source.name, "label": source.label, "sha256": one.sha256, "reason": one.reason}
            | {"bytes": len(one.stored), "check": one.check}
            for source, one in zip(chunk, done, strict=True)
        ]
        lines = b"".join(json.dumps(record).encode() + b"\n" for record in records)
        with open(self.folder / RECORDS, "r+b") as file:
            file.seek(self.record_bytes)
            file.truncate()
            file.write(lines)
            self.record_bytes = file.tell()
            _sync(file)
        self.record_check = zlib.crc32(lines, self.record_check)
        total = np.zeros_like(self.sum, np.uint16)  # holds a chunk: 256 times 255 is less than 2¹⁶
        for one in done:
            if one.image is not None:
                total += one.image
                self.products += one.products
                self.rows += 1
        self.sum += total
        self.files += len(chunk)
        self._save()

    def write_count(self) -> None:
        """Have the images say how many they are, where they are one array."""
        if self.form == "raw":
            with open(self.images, "r+b") as file:
                file.write(npy_header((self.rows, self.size, self.size, 3)))
                _sync(file)
            self._save()

    def _save(self) -> None:
        self.written = self.images.stat().st_mtime_ns
        temporary, numbers = self.folder / "state.tmp", {name: getattr(self, name) for name in (*COUNTS, "listing")}
        with open(temporary, "wb") as file:
            np.savez(file, sum=self.sum, products=self.products, **numbers)
            _sync(file)
        os.replace(temporary, self.folder / STATE)

    def records(self) -> list[dict]:
        """What became of each file so far."""
        lines = (self.folder / RECORDS).read_bytes()[: self.record_bytes].splitlines()
        return [json.loads(line) for line in lines]


def publish(work: Path, destination: Path) -> None:
    """Give a whole store its name; only then is removed what it takes to go on."""
    os.replace(work, destination)
    tidy(destination)


def tidy(store: Path) -> None:
    """Remove what a run that was killed while publishing left in the finished store."""
    for name in (STATE, RECORDS):
        (store / name).unlink(missing_ok=True)


@contextmanager
def room_for(work: Path, left: str) -> Iterator[None]:
    """Say of a full disk where it is full, what is `left` of the work, and how to go on.

    Raises:
        OSError: with the folder and the system's number.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        why = f"{os.strerror(error.errno)}; {left}. Make room there and give the same command again"
        raise OSError(error.errno, why, str(work)) from None


def write_file(path: Path, data: bytes, more=b"") -> None:
    """A file whole on disk."""
    with open(path, "wb") as file:
        file.write(data)
        file.write(more)
        _sync(file)


def npy_bytes(array: np.ndarray) -> bytes:
    """An array as an .npy file; numpy itself does not say why a write failed."""
    file = BytesIO()
    np.save(file, array)
    return file.getvalue()


def npy_header(shape: tuple[int, ...]) -> bytes:
    """The head of an .npy file of uint8 in a fixed 128 bytes, so that the count can be mended in place."""
    file = BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    header = file.getvalue()
    assert len(header) == 128, f"numpy wrote a header of {len(header)} bytes"
    return header


def word_sum(data) -> int:
    """A check of some bytes that takes microseconds: the sum of their 64-bit words, and of the bytes left over."""
    numbers = np.frombuffer(data, np.uint8)
    whole = len(numbers) // 8 * 8
    return int(numbers[:whole].view(np.uint64).sum()) + int(numbers[whole:].sum())


def _sync(file) -> None:
    file.flush()
    os.fsync(file.fileno())
