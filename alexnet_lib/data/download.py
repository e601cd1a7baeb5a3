"""The data sets that anybody can fetch: downloaded on an explicit call, resumed after a break, verified by hash."""

import hashlib
import os
import shutil
import tarfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

from ..files import at_work, in_work, publish, sync
from ..progress import progress_bar
from .preparation import require_room
from .unfinished import lock_of, work_of

SILENCE = 60.0  # seconds without a byte after which we give up on a host
PIECE = 2**20  # bytes
LARGER = 3  # times as much room as these archives, at most, take what they unpack to and the blocks of the disk


class Archive(NamedTuple):
    """A file on its official host, and the folder that it unpacks to."""

    url: str
    md5: str
    inner: str

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[1]


ARCHIVES = {
    "cifar10": Archive(
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        "c58f30108f718f92721af3b95e74349a",
        "cifar-10-batches-py",
    ),
    "imagenette": Archive(
        "https://s3.amazonaws.com/fast-ai-imageclas/imagenette2.tgz", "fe2fc210e6bb7c5664d602c3cd71e612", "imagenette2"
    ),
    "tiny_imagenet": Archive(
        "http://cs231n.stanford.edu/tiny-imagenet-200.zip", "90528d7ca1a48142e341f4ef8d21d0de", "tiny-imagenet-200"
    ),
}


def by_hand(name: str) -> str:
    """What a person can do without the host; {folder} stands for where the data set belongs."""
    return f"put the file {ARCHIVES[name].name} (md5 {ARCHIVES[name].md5}) into {{folder}}, or what it unpacks to"


def how_to_get(name: str) -> str:
    return f"`python -m alexnet_lib.dataset download {name}` fetches it; or {by_hand(name)}"


def fetch(name: str, folder: Path) -> None:
    """Fetch the archive of a data set into `folder` and verify it, unless it, or what it unpacks to, is there already.

    The unfinished file is called ARCHIVE.part: the next call resumes it. It gets its name when its hash is right.

    Raises:
        ConnectionError: the host refused, fell silent, or sent something else.
        ValueError: the file that is there is not the official one.
    """
    archive = ARCHIVES[name]
    destination = folder / archive.name
    if (folder / archive.inner).is_dir() or name != "cifar10" and (folder / "train").is_dir():
        return
    with at_work(folder, f".{archive.name}.lock", patience=-1):
        if destination.is_file():
            return verify(destination, archive.md5)
        part, instead = folder / f"{archive.name}.part", f"Try again later, or {by_hand(name).format(folder=folder)}"
        try:
            _resume(archive.url, part)
        except (OSError, ValueError) as error:
            kept = f"; {part.stat().st_size:,} bytes of it are kept" if part.is_file() else ""
            raise ConnectionError(f"{archive.url} was not delivered: {error}{kept}. {instead}") from None
        try:
            verify(part, archive.md5)
        except ValueError as error:
            part.unlink()  # nothing of it can be trusted
            raise ConnectionError(f"{archive.url} sent something else: {error}. {instead}") from None
        with open(part, "rb+") as file:
            sync(file)
        publish(part, destination)


def verify(path: Path, md5: str) -> None:
    """Compare a file with its official hash.

    Raises:
        ValueError: another file, or not the whole of it.
    """
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != md5:
        raise ValueError(
            f"{path} ({path.stat().st_size:,} bytes) has md5 {found}, the official file {md5}: not a whole copy of it. "
            "Remove it and fetch it again"
        )


def unpacked(name: str, folder: Path, stores: Path) -> Path:
    """The folder that the archive of a data set unpacks to; into `stores` if only the archive is in `folder`.

    Raises:
        FileNotFoundError: neither is there, with how to get it.
        ValueError: the archive is not the official one.
        OSError: there is no room, or nothing can be written there.
    """
    archive = ARCHIVES[name]
    if (folder / archive.inner).is_dir():
        return folder / archive.inner
    packed, inner = folder / archive.name, stores / archive.inner
    work, lock = work_of(inner), lock_of(inner)
    if not inner.is_dir():
        if not packed.is_file():
            raise FileNotFoundError(f"data set {name!r} is not in {folder}: {how_to_get(name).format(folder=folder)}")
        verify(packed, archive.md5)
        require_room(stores, LARGER * packed.stat().st_size, f"{packed.name} unpacks to up to ")
        with at_work(stores, lock, patience=-1):
            if not inner.is_dir():  # by another process meanwhile
                shutil.rmtree(work, ignore_errors=True)  # of a run that was killed
                filters = packed.suffix != ".zip" and hasattr(tarfile, "data_filter")  # Python has it since 3.11.4
                shutil.unpack_archive(packed, work, **({"filter": "data"} if filters else {}))
                if hasattr(os, "sync"):  # all its files at once; else the name may outlive what they hold
                    os.sync()
                publish(work / archive.inner, inner)
    shutil.rmtree(work, ignore_errors=True)  # also of one that was killed when it had just published
    in_work(stores, lock)
    return inner


def _resume(url: str, part: Path) -> None:
    """Add to `part` what it lacks of the file at `url`."""
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=SILENCE)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing lies beyond what is here; the hash tells whether it is whole
            return
        raise
    with answer:
        if answer.status != 206:  # the host sends the whole file, whatever it was asked for
            have = 0
        total = have + int(answer.headers.get("Content-Length") or 0)
        bar = progress_bar(total // PIECE, f"fetching {part.stem}", "megabyte", initial=have // PIECE)
        with open(part, "r+b" if have else "wb") as file, bar:
            file.seek(have)
            while piece := answer.read(PIECE):
                file.write(piece)
                bar.update(file.tell() // PIECE - bar.n)
            file.truncate()
            if file.tell() < total:
                raise ConnectionError(f"the connection ended after {file.tell():,} of {total:,} bytes")
