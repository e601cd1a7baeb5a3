"""Large files from their official hosts: fetched on an explicit call, resumed after a break, verified by hash."""

import hashlib
import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path

from ..progress import progress_bar

SILENCE = 60.0  # seconds without a byte after which we give up on a host
PIECE = 2**20  # bytes


def fetch(url: str, destination: Path, md5: str, ways_out: str) -> None:
    """Fetch `url` to `destination`, unless it is there already; what an earlier call left unfinished is resumed.

    The unfinished file is called DESTINATION.part, and gets its name only when its hash is right.

    Args:
        md5: the hash of the official file, in hexadecimal.
        ways_out: what a person can do if the host fails; ends the message.

    Raises:
        ConnectionError: the host refused, fell silent, or sent something else.
        ValueError: the file that is there is not the official one.
    """
    if destination.is_file():
        return verify(destination, md5)
    destination.parent.mkdir(parents=True, exist_ok=True)
    part = destination.with_name(f"{destination.name}.part")
    try:
        _resume(url, part)
    except (OSError, ValueError) as error:
        kept = f"; {part.stat().st_size:,} bytes of it are kept" if part.is_file() else ""
        raise ConnectionError(f"{url} was not delivered: {error}{kept}. Try again later, or {ways_out}") from None
    try:
        verify(part, md5)
    except ValueError as error:
        part.unlink()  # nothing of it can be trusted
        raise ConnectionError(f"{url} delivered something else: {error}. Try again later, or {ways_out}") from None
    os.replace(part, destination)


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


def unpack(archive: Path, inner: str) -> Path:
    """Unpack a verified archive beside itself: its folder `inner`, which appears whole or not at all."""
    work, destination = archive.with_name(f".{inner}.partial"), archive.with_name(inner)
    shutil.rmtree(work, ignore_errors=True)  # of a run that was killed
    shutil.unpack_archive(archive, work, **({} if archive.suffix == ".zip" else {"filter": "data"}))
    os.replace(work / inner, destination)
    shutil.rmtree(work)
    return destination


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
