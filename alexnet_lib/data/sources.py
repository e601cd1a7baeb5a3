"""§2, the sources: which classes and which pictures a folder holds. All of it is listed before any picture is read.

A class is a folder, and its pictures are the files below it at any depth. Hidden files and files that systems leave
behind don't count. Links to folders below a class may lead in a circle: they are refused and listed.
"""

import hashlib
import os
import re
import stat
import time
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from ..files import read_json, sha256, write_json
from .pieces import evenly

# left behind by systems, in lower case; what begins with a dot needs no mention
JUNK = {"__macosx", "__pycache__", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "@eadir", "#recycle"}
JUNK |= {"$recycle.bin", "lost+found", "system volume information"}
SUFFIX = r"(?:[-_ ]?(?:set|split|data|images|\d{4}))?"
SPLIT_NAMES = {
    "train": re.compile("train(?:ing)?" + SUFFIX, re.I),
    "val": re.compile("val(?:id(?:ation)?)?" + SUFFIX, re.I),
    "test": re.compile("test(?:ing)?" + SUFFIX, re.I),
}
ACCEPTED = {"train": "train or training", "val": "val, valid, validation, test or testing"}
HEADS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II", b"MM", b"RIFF", *(b"P%d" % kind for kind in range(1, 7)))
FRESH = 2e9  # nanoseconds in which a folder may change twice and keep one time
COMPARED, COMPARED_NEWER = 32, 1000  # files whose content is compared: of all, and of those newer than their store
LOOK = 10_000  # one of so many files of a class must be a picture; so a home folder is refused at once


class SourceFile(NamedTuple):
    """A file to prepare: a file of its own, or a range of an archive."""

    name: str  # as the store's index gives it; sorts below its class
    label: int
    path: Path | str  # of a million, a Path takes longer to make than a small picture to decode
    size: int  # bytes
    offset: int | tuple[int, int] | None = None  # where it is in the archive at `path`; None: `path` is the file

    def read_bytes(self) -> bytes:
        """The file's content."""
        # without Python's file objects, which take longer than decoding a small picture
        file = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            if self.offset is not None:
                os.lseek(file, self.offset, os.SEEK_SET)
                return os.read(file, self.size)
            data = os.read(file, self.size + 1)
        finally:
            os.close(file)
        return data if len(data) == self.size else Path(self.path).read_bytes()  # it has changed since it was listed


class Split(NamedTuple):
    """What the store of a split is made from."""

    classes: list[str]
    files: list[SourceFile]  # in the order of the store
    about: dict  # what the store's meta.json says besides; "source" is its name on the progress bar
    refused: Sequence[dict] = ()  # what isn't even read, each {"file": …, "reason": …}

    def hash(self, size: int, form: str) -> str:
        """Of these files at this size: it decides whether a preparation goes on, and whether a store is up to date.

        Names, labels and sizes, since reading a million files takes an hour; `other_content` reads a few.
        """
        digest = hashlib.sha256(f"{size}{'' if form == 'raw' else form}".encode())
        for file in self.files:
            digest.update(f"{file.name}\0{file.label}\0{file.size}\n".encode())
        return digest.hexdigest()


def readable(name: str) -> str:
    """A file's name as text that can be written: bytes that are not UTF-8 become escapes such as \\xe9."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def printable(name) -> str:
    """A name or a path as text for a terminal: control characters, which would steer it, become escapes such as \\x1b.

    For people alone: a store keeps the names of its files as they are.
    """
    return "".join(ascii(c)[1:-1] if unicodedata.category(c) == "Cc" else c for c in readable(str(name)))


def is_junk(name: str) -> bool:
    """Whether this names something hidden, or something that a system leaves behind."""
    return name.startswith(".") or name.lower() in JUNK


def is_picture(path) -> bool:
    """Whether a file begins as a picture of a known format does."""
    with open(path, "rb") as file:
        return file.read(4).startswith(HEADS)


def sub_folders(folder: Path) -> list[Path]:
    """The folders in a folder, links included, in sorted order."""
    return sorted(path for path in folder.iterdir() if not is_junk(path.name) and path.is_dir())


# ------------------------------------------------------------------------------------------------ a folder of classes


def list_files(source: Path, part: str | None = None) -> Split:
    """The class folders of `source` in sorted order, and every file below them, named by its path from `source`.

    part: "val" keeps one file in ten, by a hash of its path; "train" the other nine; None all. A class with two
    pictures or more has at least one in each part.

    Raises:
        FileNotFoundError, ValueError: no such folder, no classes in it, splits instead, a class without pictures, or
            two classes that are one folder.
    """
    if part not in (None, "train", "val"):
        raise ValueError(f"part = {part!r}; accepted are None, 'train' and 'val'")
    if not source.is_dir():
        raise FileNotFoundError(f"no folder {source}")
    folders = sub_folders(source)
    if not folders:
        has = "has pictures, but " if _has_pictures(source) else "has "
        raise ValueError(f"{source} {has}no sub-folders; it wants one for each class{_labels_beside(source)}")
    classes = [readable(folder.name) for folder in folders]
    if _are_splits(classes) or all(map(split_of, classes)):
        raise ValueError(f"{source} has {_some(classes)}, which are splits, not classes; prepare each by itself")
    _require_different(folders)
    for folder in folders:
        _check_class(folder)
    files, links, start = [], [], len(os.path.join(source, ""))
    for label, folder in enumerate(folders):
        named = sorted((readable(path[start:].replace(os.sep, "/")), path, size) for path, size in _walk(folder, links))
        inner = {name.split("/", 2)[1] for name, *_ in named if name.count("/") > 1}
        if _are_splits(inner):
            raise ValueError(
                f"{printable(folder)} holds {_some(sorted(inner))}: that is a data set, not a class. Name it alone"
            )
        found = [SourceFile(name, label, path, size) for name, path, size in named]
        files += _part(found, part, folder) if part else found
    reason, named = "a link to a folder below a class, which isn't followed", part != "val"  # once, of both parts
    refused = [{"file": readable(path[start:].replace(os.sep, "/")), "reason": reason} for path in links if named]
    return Split(classes, files, {"source": source.name}, refused)


def _require_different(folders: Sequence[Path]) -> None:
    """
    Raises:
        ValueError: two of these folders are one and the same, by a link.
    """
    known = {}
    for folder in folders:
        status = os.stat(folder)
        if (first := known.setdefault((status.st_dev, status.st_ino), folder)) is not folder:
            raise ValueError(f"{printable(first)} and {printable(folder)} are one folder; remove the link")


def _walk(folder: Path, links: list[str] | None = None) -> Iterator[tuple[str, int]]:
    """Every file below a folder, and its size; of a million, each question to the system counts.

    links: gets the links to folders, which aren't followed.
    """
    for at, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not is_junk(name)]
        if links is not None:
            links += (path for name in sorted(folders) if os.path.islink(path := os.path.join(at, name)))
        for path in (os.path.join(at, name) for name in names if not is_junk(name)):
            with suppress(OSError):  # a link to nothing
                status = os.stat(path)
                if stat.S_ISREG(status.st_mode):
                    yield path, status.st_size


def _check_class(folder: Path) -> None:
    """Whether one of the first files of a class is a picture."""
    if folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{printable(folder)} is a link to a folder that it lies in, not a class; remove it")
    first = ""
    for path, _ in islice(_walk(folder), LOOK):
        if is_picture(path):
            return
        first = first or path
    shown = printable(os.path.relpath(first, folder.parent)) if first else ""
    why = f"; {shown}: not a picture" if first else ": its folder holds no file"
    raise ValueError(
        f"class {readable(folder.name)!r} is left without an image{why}. {folder.parent} should hold one folder of "
        "pictures for each class, itself or in train and val: remove what is no class, or name a folder in it"
    )


def _labels_beside(source: Path) -> str:
    """What to do with flat pictures whose labels are in a list, as in Kaggle's copy of ILSVRC."""
    places = [folder / "LOC_val_solution.csv" for folder in (source, *source.parents[:5])]
    found = next((place for place in places if place.is_file()), None)
    return f". {found} says which: move ID.JPEG to WNID/ID.JPEG for each of its lines" if found else ""


def _part(files: list[SourceFile], part: str, folder: Path) -> list[SourceFile]:
    """The files of a class that are in a part: each one's name decides. A part without a picture gets the nearest."""
    hashes = {file: hashlib.sha256(file.name.encode()).digest() for file in files}
    parts = {"train": [], "val": []}
    for file in files:
        parts["val" if hashes[file][0] < 26 else "train"].append(file)
    for lacking, other in (("val", "train"), ("train", "val")):
        if not any(is_picture(file.path) for file in parts[lacking]):
            nearest = sorted(parts[other], key=hashes.get, reverse=lacking == "train")
            pictures = [file for file in nearest if is_picture(file.path)]
            if len(pictures) < 2:
                raise ValueError(
                    f"class {readable(folder.name)!r} has one picture. It takes two, one to train and one to validate; "
                    f"or divide {folder.parent} into train and val yourself"
                )
            parts[other].remove(pictures[0])
            parts[lacking] = sorted([*parts[lacking], pictures[0]])
    return parts[part]


# ------------------------------------------------------------------------------------------------ splits


def find_splits(folder: Path) -> dict[str, tuple[Path, str | None]]:
    """The folder of classes for "train" and for "val", and which part of it is meant if it is the same for both.

    Names of splits are read in any case. A test split counts as validation if there is none. A folder that holds only
    one folder, of folders, stands for that one.

    Raises:
        ValueError: one split without the other, two that may be the same or are, or a folder that is no data set.
    """
    if folder in (Path(os.path.expanduser("~")).resolve(), Path(folder.anchor)):
        raise ValueError(f"{folder} is no data set; name the folder in it that has one sub-folder for each class")
    folder = _unwrapped(folder)
    inside = sub_folders(folder)
    train, val = _split(inside, "train"), _split(inside, "val") or _split(inside, "test")
    if train and val:
        places = [_unwrapped(split, of_split=True) for split in (train, val)]
        _require_different(places)
        return {split: (place, None) for split, place in zip(("train", "val"), places, strict=True)}
    if found := train or val:
        raise ValueError(
            f"{folder} has {found.name!r} but no folder {ACCEPTED['val' if train else 'train']} (in any case). Put it "
            f"there; or if {found.name!r} is a class, rename it"
        )
    return {split: (folder, split) for split in ("train", "val")}


def _split(folders: list[Path], split: str) -> Path | None:
    found = [folder for folder in folders if split_of(folder.name) == split]
    exact = [folder for folder in found if folder.name == split]
    if len(found) > 1 and not exact:
        names = _some([folder.name for folder in found])
        raise ValueError(f"{found[0].parent} has {names}; call the one that is meant {split!r}")
    return (exact or found or [None])[0]


def _unwrapped(folder: Path, of_split=False) -> Path:
    """What a folder stands for if all it holds is a folder of folders, as photos/photos/train does."""
    inside = sub_folders(folder)
    if len(inside) != 1 or inside[0].is_symlink() or not of_split and split_of(inside[0].name):
        return folder
    if _has_pictures(folder) or _has_pictures(inside[0]) or not sub_folders(inside[0]):
        return folder
    return _unwrapped(inside[0], of_split)


def _has_pictures(folder: Path) -> bool:
    """Whether pictures lie in the folder itself."""
    files = (path for path in folder.iterdir() if not is_junk(path.name) and path.is_file())
    return any(map(is_picture, islice(files, LOOK)))


def split_of(name: str) -> str | None:
    """The split that a name names, if any."""
    return next((kind for kind, pattern in SPLIT_NAMES.items() if pattern.fullmatch(name)), None)


def _are_splits(names) -> bool:
    """Whether a training and another split are among these names."""
    kinds = {*map(split_of, names)} - {None}
    return "train" in kinds and len(kinds) > 1


# ------------------------------------------------------------------------------------------------ classes of splits


def check_classes(classes_of: dict[str, list[str]], where: Path | str) -> None:
    """Whether these are classes, and whether every split has those of "train": labels count those of their own split.

    Raises:
        ValueError: they are not, with those that differ.
    """
    train = classes_of["train"]
    if len(train) < 2:
        has = f"one class, {train[0]!r}" if train else "no class"
        raise ValueError(f"{where} has {has}; a net needs at least two to tell apart")
    if junk := [name for name in train if is_junk(name)]:
        raise ValueError(f"{where} takes {_some(junk)} for a class, but that is a hidden or a system's folder")
    if _are_splits(train) or all(map(split_of, train)):
        raise ValueError(f"{where} has the classes {_some(train)}, but these are names of splits")
    if len(set(train)) < len(train):
        raise ValueError(f"{where} has several classes of the name {max(train, key=train.count)!r}")
    for split, classes in classes_of.items():
        if classes != train:
            differ = "; ".join(_differences(train, classes, split))
            raise ValueError(f"in {where} the classes of {split} are not those of train: {differ}")


def _differences(train: list[str], classes: list[str], split: str) -> list[str]:
    of_train, of_split = set(train), set(classes)
    missing = [name for name in train if name not in of_split]
    more = [name for name in classes if name not in of_train]
    one, other = ({unicodedata.normalize("NFC", name) for name in names} for names in (missing, more))
    shown = ascii if one & other else repr  # an accent is coded in two ways, which look the same
    said = [f"{split} lacks {_some(missing, shown)}"] if missing else []
    said += [f"{split} has {_some(more, shown)}, which train lacks"] if more else []
    return said or [f"they stand in another order, {_some(classes)} instead of {_some(train)}"]


def _some(names: list[str], shown=repr) -> str:
    """Names for a message: at most five."""
    rest = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    return ", ".join(map(shown, names[:5])) + rest


# ------------------------------------------------------------------------------------------------ prepared before


def other_content(files: Sequence[SourceFile], known: dict[str, str]) -> str | None:
    """The name of the first of these files whose content isn't of the known sha256; None where all are.

    Files without one, which weren't pictures, aren't compared.
    """
    return next((f.name for f in files if known.get(f.name) and known[f.name] != sha256(f.read_bytes())), None)


def some_of(files: Sequence[SourceFile], count: int = COMPARED) -> list[SourceFile]:
    """So many evenly spaced files, or all if there are no more."""
    return [files[row] for row in evenly(len(files), count)] if files else []


def require_unchanged(store, source: Path, part: str | None = None) -> None:
    """Refuse a `dataset.Store` whose source has changed since. A source that is empty or gone says nothing.

    Listing a million files takes minutes, so the times at which the source's folders last changed are kept beside the
    store. While they are the same, nothing was added or taken away, and a new folder changes the one that it is in;
    otherwise (as in a copy) the files are compared, by name and size, and those newer than the store by content. A file
    that is overwritten in place goes unnoticed while the folders' times are the same.

    Raises:
        ValueError: names a file that is new or missing, or why the source can't be prepared now, and how to go on.
    """
    listing, seen = store.meta.get("listing"), store.folder.with_name(f".{store.folder.name}.source.json")
    if listing is None:
        return
    with suppress(OSError, ValueError, KeyError, AttributeError):  # not seen yet, damaged, or a folder is gone
        known = read_json(seen)
        same = all(os.stat(at).st_mtime_ns == changed for at, changed in known["folders"].items())
        if same and known["listing"] == listing and str(source) in known["folders"]:
            return
    # first, lest a later change be missed; os.walk passes by the classes that are links
    tops = (source, *(folder for folder in sub_folders(source) if folder.is_symlink())) if source.is_dir() else ()
    times = {str(at): os.stat(at).st_mtime_ns for top in tops for at, *_ in os.walk(top)}
    try:
        listed = list_files(source, part)
    except (ValueError, FileNotFoundError) as error:
        if not source.is_dir() or not any(any(_walk(folder)) for folder in sub_folders(source)):
            return  # no file is left
        raise ValueError(
            f"{store.folder} was made when other files were in {source}, which can't be prepared now: {error}. Mend "
            f"that, or delete {store.folder.parent} and what is there then is prepared anew"
        ) from None
    if not listed.files:
        return
    if listed.hash(store.size, store.meta.get("form", "raw")) != listing:
        new, refused = {f.name for f in listed.files}, {entry["file"] for entry in listed.refused}
        old = {*store.index["file"], *(entry["file"] for entry in store.meta["rejected"])} - refused
        changed = [f"{printable(name)} is new" for name in sorted(new - old)]
        changed += [f"{printable(name)} is gone" for name in sorted(old - new)]
        counts = f"{store.meta['files']:,} then, {len(new | refused):,} now"
        raise ValueError(
            f"{store.folder} was made when other files were in {source}: {counts}, and "
            f"{[*changed, 'some of another size'][0]}. Delete {store.folder.parent} and they are prepared "
            'anew; to go on with the pictures of then, delete the line "listing" in the store\'s meta.json'
        )
    made = os.stat(store.folder / "meta.json").st_mtime_ns
    newer = [file for file in listed.files if os.stat(file.path).st_mtime_ns > made]
    if newer and (name := other_content(some_of(newer, COMPARED_NEWER), store.digests)):
        raise ValueError(
            f"{store.folder} was made when {printable(name)} in {source} was another picture. Delete "
            f"{store.folder.parent} and they are prepared anew"
        )
    if max(times.values()) < time.time_ns() - FRESH:
        with suppress(OSError):  # read-only, or full: the next time takes as long as this
            write_json(seen, {"listing": listing, "folders": times})
