"""Files: written whole, checked when they are read, and by one process at a time.

What a file holds is on disk before it has its name: after a crash there is the old file or the new one, never a part.
What a person or a disk has spoilt is named: the file, what was found in it, what is accepted, and what to do.
"""

import hashlib
import json
import os
import re
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from glob import escape
from io import BytesIO
from pathlib import Path

import psutil
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

REMEDY = "Mend, restore or remove it"
STREAM = re.compile(r"/dev/(stdout|stderr|fd/\d+)|/proc/(self|\d+)/fd/\d+")
AT_WORK = "at_work"  # a file that is locked while a process works in its folder
LOOK_SECONDS = 2.0  # longer than anybody takes to look whether one does, also where many share the cores


class Damaged(ValueError):
    """A file that a person or a disk has spoilt; `damage` makes the message."""


class Repeated(ValueError):
    """A name that a file of named values has more than once."""


class Stored(BaseModel):
    """What a file of named values must hold; it may hold more."""

    model_config = ConfigDict(strict=True, extra="allow")


def damage(path, found: str, accepted: str, remedy: str = REMEDY) -> Damaged:
    return Damaged(f"{path}: {short(found)}; accepted: {accepted}. {remedy}".removesuffix(". "))


def short(value) -> str:
    text = " ".join((value if isinstance(value, str) else repr(value)).split())
    return text if len(text) <= 80 else f"{text[:80]}…"


# ----------------------------------------------------------------------------------------------------------- reading


def read_json(path: Path, kind: type[Stored] | None = None, remedy: str = REMEDY) -> dict:
    """The named values of a JSON file; see `named_values`, which raises too.

    Raises:
        FileNotFoundError: there is none.
    """
    return named_values(path, path.read_bytes(), kind, remedy)


def _each_once(pairs: list[tuple]) -> dict:
    """Named values as a dictionary; of a name that is there twice Python's own reader would take the last value."""
    values = dict(pairs)
    if len(values) < len(pairs):
        seen = set()
        raise Repeated(next(name for name, _ in pairs if name in seen or seen.add(name)))
    return values


_loads = partial(json.loads, object_pairs_hook=_each_once)


def named_values(where, text: str | bytes, kind: type[Stored] | None = None, remedy: str = REMEDY, loads=_loads):
    """The dictionary that a text holds, and that lies at a place; `kind` says what it must be, `loads` reads it.

    Raises:
        Damaged: it holds something else; the remedy is what a person should do.
    """
    try:
        values = loads(text)
    except Repeated as error:
        raise damage(where, f"{short(repr(str(error)))} is there more than once", "each name once", remedy) from None
    except json.JSONDecodeError as error:
        raise _no_json(where, error, remedy) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise damage(where, f"it can't be read ({error})", "named values", remedy) from None
    if not isinstance(values, dict):
        raise damage(where, f"a {type(values).__name__}", "named values", remedy)
    try:
        if kind is not None:
            kind.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name, wanted = ".".join(map(str, first["loc"])), re.sub("^(Input should be|Value error,) ", "", first["msg"])
        missing = first["type"] == "missing"
        found = "missing" if missing else short(repr(first["input"]))
        raise damage(where, f"{name} is {found}", wanted.replace("Field required", "a value"), remedy) from None
    return values


def _no_json(where, error: json.JSONDecodeError, remedy: str) -> Damaged:
    """The error of a text that isn't JSON, whole and with the place; perhaps a person has written it by hand."""
    here, of_name = error.doc[error.pos : error.pos + 1], "property name" in error.msg
    if here == "'" or of_name and here not in ("}", ""):
        accepted = "names and texts in double quotes"
    elif of_name and here == "}":
        accepted = "no comma after the last value"
    elif here == "\\":
        accepted = "a backslash in a text written twice"
    elif here in tuple("TFN"):
        accepted = "true, false and null, so written"
    else:
        accepted = "named values"
    found = f"{error.msg[0].lower()}{error.msg[1:]} (line {error.lineno}, column {error.colno})"
    return Damaged(f"{where}: it isn't valid JSON: {found}; accepted: {accepted}. {remedy}".removesuffix(". "))


def read_table(path: Path, *columns: str, remedy: str = REMEDY, **options):
    """A CSV file with at least these columns, as a pandas DataFrame; the options are pandas'.

    Raises:
        FileNotFoundError: there is none.
        Damaged: it holds something else.
    """
    import pandas as pd  # half a second, which a command without tables should not cost

    try:
        table = pd.read_csv(path, **options)
    except ValueError as error:  # pandas' own kinds and Unicode's are of it
        raise damage(path, f"no table ({error})", "a CSV file", remedy) from None
    if not {*columns} <= {*table}:
        raise damage(path, f"columns {', '.join(map(str, table))}", f"columns {', '.join(columns)}", remedy)
    return table


def read_array(path: Path, dtype, shape: tuple[int, ...], remedy: str = REMEDY):
    """The array in an .npy file.

    Raises:
        FileNotFoundError: there is none.
        Damaged: it holds something else.
    """
    import numpy as np

    accepted = f"{np.dtype(dtype)} {shape}"
    with open(path, "rb") as file:
        try:
            array = np.lib.format.read_array(file, allow_pickle=False)
        except Exception as error:  # numpy parses the header as Python, and hostile bytes raise nearly anything
            raise damage(path, f"no array ({type(error).__name__})", accepted, remedy) from None
    if array.dtype != dtype or array.shape != shape:
        raise damage(path, f"{array.dtype} {array.shape}", accepted, remedy)
    return array


def sha256(*data) -> str:
    digest = hashlib.sha256()
    for part in data:
        digest.update(part)
    return digest.hexdigest()


# ----------------------------------------------------------------------------------------------------------- writing


def write_file(path: Path, *data) -> None:
    """Give a file its contents, bytes, all at once.

    A link stays, and the file that it leads to has the contents. What is no file, but a pipe or a device, gets them
    written into it.

    Raises:
        OSError: the disk is full, or it cannot be written to; what was there before is there still.
    """
    try:
        if path.exists() and not path.is_file() or STREAM.fullmatch(str(path)):
            with open(path, "ab") as file:  # a stream may lead to a file, into which others write, too
                file.writelines(data)
        else:
            _replace_file(Path(os.path.realpath(path)) if path.is_symlink() else path, data)
    except OSError as error:  # a full disk does not say where it is full
        raise OSError(error.errno, error.strerror, str(path)) from error


def _replace_file(path: Path, data) -> None:
    """Put a new file in the place of one, or of none."""
    here = f"{path.name}.{socket.gethostname()}."
    temporary = path.with_name(f"{here}{os.getpid()}.tmp")
    for left in path.parent.glob(f"{escape(here)}*.tmp"):  # by processes of this machine, if they were killed
        pid = left.name.removeprefix(here).removesuffix(".tmp")
        if pid.isdigit() and len(pid) < 10 and not psutil.pid_exists(int(pid)):
            left.unlink(missing_ok=True)
    try:
        with open(temporary, "wb") as file:
            file.writelines(data)
            sync(file)
        publish(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def write_json(path: Path, values: dict) -> None:
    write_file(path, (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode())


def npy_bytes(array) -> bytes:
    """An array as an .npy file; numpy itself doesn't say why a write failed."""
    import numpy as np

    file = BytesIO()
    np.save(file, array)
    return file.getvalue()


def publish(work: Path, destination: Path) -> None:
    """Give a file or folder its name, for good: also the folder that lists it is on disk."""
    os.replace(work, destination)
    _sync_folder(destination.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, for good: also each that lists a new one is on disk."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        _sync_folder(made.parent)


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # Windows opens no folders
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def sync(file) -> None:
    """Have all that was written to an open file on disk."""
    file.flush()
    os.fsync(file.fileno())


# ------------------------------------------------------------------------------------------------ one process at a time


class AtWork(RuntimeError):
    """Another process is at work there."""


def _lock(path: Path, patience: float) -> FileLock:
    # where a file system cannot lock, filelock would put up a file that outlives a process which is killed
    return FileLock(path, timeout=patience, poll_interval=0.002 if patience >= 0 else 0.1, fallback_to_soft=False)


@contextmanager
def at_work(folder: Path, name: str = AT_WORK, patience: float = LOOK_SECONDS) -> Iterator[None]:
    """Mark a folder as being worked in, for as long as this process lives at most.

    Once let in, look again whether the work is done: another process may just have done it. Where files cannot be
    locked (some Lustre and NFS), it warns, and nothing keeps a second process out.

    The file `name` is locked there; `patience` is for another process, in seconds, below 0 for ever.

    Raises:
        AtWork: another process is at work there.
    """
    make_folder(folder)
    path = folder / name
    lock = _lock(path, patience)
    try:
        lock.acquire()
    except Timeout:
        raise AtWork(f"another process is at work in {folder}: {worker(folder, name)}") from None
    except (OSError, NotImplementedError) as error:
        if isinstance(error, PermissionError):
            raise
        warnings.warn(
            f"files in {folder} cannot be locked, so nothing keeps a second process from doing the same work there at "
            "the same time, which would spoil it; see that there is none",
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


def worker(folder: Path, name: str = AT_WORK) -> str:
    """The process that has marked a folder, in words."""
    try:
        return (folder / name).read_text(encoding="utf-8", errors="replace") or "another process"
    except OSError:  # it has just ended; and Windows lets nobody read a file that is locked
        return "another process"


def in_work(folder: Path, name: str = AT_WORK) -> bool:
    """Whether a process is at work in a folder. Where files cannot be locked, nobody can tell: False.

    The file `name` of one that was killed is removed.
    """
    if not (folder / name).is_file():
        return False
    try:
        with _lock(folder / name, LOOK_SECONDS / 20):  # others who look hold it for a moment
            (folder / name).unlink(missing_ok=True)  # of one that was killed, or made by looking
            return False
    except Timeout:
        return True
    except (OSError, NotImplementedError):
        return False


def tidy(folder: Path, *names: str) -> None:
    """Remove what a process that was killed has left in a folder: parts of files, and files of these names."""
    for path in (*folder.glob("*.tmp"), *(folder / name for name in names)):
        path.unlink(missing_ok=True)
