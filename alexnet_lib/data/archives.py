"""Tar archives read in place: a list of their members, each with its place, and nothing written to disk.

An archive comes from a stranger. A member that is not a plain file under a plain name is refused with a reason, and an
archive that ends early or is damaged in the middle is an error; Python's tarfile would stop without a word.
"""

import gzip
import json
import math
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from ..files import Damaged, sha256, write_file
from ..progress import progress_bar
from .sources import SourceFile, is_junk, readable

MEGABYTE = 2**20
LARGEST_TEXT = 2**26  # bytes of a kit's file, or of its wanted files together; those of the contests have a few 2**20
LARGEST_KIT = 2**30  # bytes that a kit may unpack to
LARGEST_HEADER = 2**20  # bytes before a member: its header, long names and PAX records
MOST_GLOBALS = 1000  # PAX records that hold for all members to come; git and pax write two or three
BLOCK = 512  # bytes; a tar ends with blocks of zeros
DAMAGE = (tarfile.TarError, ValueError, OverflowError, RecursionError, OSError, EOFError, zlib.error)


def list_place(place: Path, lists: Path, progress=True) -> tuple[list[SourceFile], list[dict]]:
    """The files of an archive or an unpacked folder, and what is refused, as {"file": …, "reason": …}.

    Files are named by their path; an inner tar counts as a folder: a.tar in the archive holds a/…. Their label is -1.
    The list of an archive takes minutes to make and is kept in the folder `lists`.

    Raises:
        ValueError: not a whole tar.
    """
    if place.is_dir():
        return _list_folder(place)
    saved, status = lists / f"{place.name}.json", place.stat()
    stamp = [str(place), status.st_size, status.st_mtime_ns]
    with suppress(OSError):  # no list yet
        digest, _, text = saved.read_bytes().partition(b"\n")
        if digest == sha256(text).encode() and (known := json.loads(text))["stamp"] == stamp:
            return [SourceFile(name, -1, place, size, start) for name, size, start in known["files"]], known["refused"]
    files, refused = _list_archive(place, progress)
    lists.mkdir(parents=True, exist_ok=True)
    listed = {"stamp": stamp, "refused": refused, "files": [(file.name, file.size, file.offset) for file in files]}
    text = json.dumps(listed).encode()
    write_file(saved, sha256(text).encode() + b"\n" + text)
    return files, refused


def read_texts(kit: Path, folder: str) -> dict[str, bytes]:
    """The files in each folder called `folder` of a compressed tar, or of what it was unpacked to, by their names.

    Raises:
        ValueError: not a whole archive.
    """
    if kit.is_dir():
        paths = [path for path in kit.glob(f"**/{folder}/*") if not is_junk(path.name) and path.is_file()]
        return {path.name: path.read_bytes() for path in paths if path.stat().st_size <= LARGEST_TEXT}
    texts, total = {}, 0
    with _whole(str(kit)), gzip.open(kit) as opened:
        for name, member, tar in _members(opened, str(kit)):
            path = PurePosixPath(name)
            wanted = path.parent.name == folder and member.isreg() and not refusal(member)
            total += member.size * wanted
            if total > LARGEST_TEXT or member.offset_data + member.size > LARGEST_KIT:
                raise Damaged(f"{kit} holds more than a development kit holds, from {name!r} on")
            if wanted:
                texts[path.name] = tar.extractfile(member).read()
    return texts


def refusal(member: tarfile.TarInfo) -> str | None:
    """Why a member of an archive is not read; None for a folder or a plain file under a plain name."""
    parts = PurePosixPath(member.name).parts
    if member.name.startswith("/") or ".." in parts:
        return "its path leads out of the archive"
    if member.issym() or member.islnk():
        return "a link"
    if member.isdir():
        return None
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
        return "not a plain file"
    return "a hidden or a system's file" if any(map(is_junk, parts)) else None


def _list_folder(folder: Path) -> tuple[list[SourceFile], list[dict]]:
    files, refused = [], []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if any(map(is_junk, path.relative_to(folder).parts)):
            continue
        name = readable(path.relative_to(folder).as_posix())
        if path.suffix == ".tar":  # only the outer archive was unpacked
            inner, out = _list_archive(path, progress=False, nested=False, inside=name)
            files, refused = files + inner, refused + out
        else:
            files.append(SourceFile(name, -1, path, path.stat().st_size))
    return files, refused


def _list_archive(archive: Path, progress=True, nested=True, inside="") -> tuple[list[SourceFile], list[dict]]:
    """The members of a tar; where `nested`, those of the tars in it too."""
    files, refused, told, total = [], [], 0, archive.stat().st_size // MEGABYTE

    def add(tar_name: str, name: str, member: tarfile.TarInfo, start: int) -> None:
        name = f"{tar_name.removesuffix('.tar')}/{name}" if tar_name else name
        if reason := refusal(member):
            refused.append({"file": name, "reason": reason})
        elif not member.isdir():
            files.append(SourceFile(name, -1, archive, member.size, start + member.offset_data))

    with open(archive, "rb") as opened, progress_bar(total, f"listing {archive.name}", "megabyte", progress) as bar:
        for name, member, tar in _members(opened, str(archive)):
            bar.update(member.offset // MEGABYTE - told)
            told = member.offset // MEGABYTE
            if nested and name.endswith(".tar") and member.isreg() and not refusal(member):
                for inner, found, _ in _members(tar.extractfile(member), f"{name} in {archive}"):
                    add(name, inner, found, member.offset_data)
            else:
                add(inside, name, member, 0)
        bar.update(total - told)
    return files, refused


def _members(opened, label: str) -> Iterator[tuple[str, tarfile.TarInfo, tarfile.TarFile]]:
    """(name, member, tar) of each member of an open tar; a ValueError says if it is none, is cut off or is damaged."""
    with _whole(label), tarfile.open(fileobj=_Bounded(opened), mode="r:") as tar:
        while (member := tar.fileobj.before(tar.next)) is not None:
            if member.size < 0:
                raise tarfile.ReadError("a member of negative size")
            tar.members.clear()  # tarfile would keep them all
            given = tar.pax_headers
            if len(given) > MOST_GLOBALS or sum(map(len, (*given, *given.values()))) > LARGEST_HEADER:
                raise tarfile.ReadError(f"{len(given):,} long or many records that hold for all members")
            parts = [part for part in member.name.split("/") if part not in ("", ".")]
            yield readable("/".join(parts)), member, tar
        tar.fileobj.seek(tar.offset)
        rest = tar.fileobj.read(LARGEST_HEADER)  # zeros up to a whole record; more than that, or else, is a hole
        if len(rest) not in range(BLOCK, LARGEST_HEADER) or any(rest):
            raise tarfile.ReadError(f"no end where one should be, at byte {tar.offset:,}")


@contextmanager
def _whole(label: str) -> Iterator[None]:
    """Turn what tarfile and gzip raise on damaged bytes into a ValueError that says where; one that does stays."""
    try:
        yield
    except Damaged:
        raise
    except DAMAGE as error:
        raise Damaged(f"{label} is damaged or not a whole copy: {error}") from None


class _Bounded:
    """A file for tarfile, which would read at once as many bytes as a header calls a name's length, even gigabytes."""

    def __init__(self, file):
        self.file, self.left = file, LARGEST_HEADER

    def __getattr__(self, name):
        return getattr(self.file, name)

    def before(self, read: Callable):
        """What is read before a member; what it holds may be longer."""
        self.left = LARGEST_HEADER
        try:
            return read()
        finally:
            self.left = math.inf

    def read(self, size: int) -> bytes:
        if size > self.left:
            raise tarfile.ReadError(f"a header of {size:,} bytes or several of more than {LARGEST_HEADER:,}")
        self.left -= size
        return self.file.read(size)
