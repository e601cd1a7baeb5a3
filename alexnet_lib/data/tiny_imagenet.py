"""§2, Tiny ImageNet: 200 of ImageNet's classes, 64 × 64 pixels, without a sign-up.

The course that made it (Stanford's CS231n) distributes one archive: 500 training pictures of each class in
train/WNID/images, 10,000 validation pictures in one folder with val_annotations.txt, and a test folder without labels,
which is left alone. Classes are in the order of their WordNet numbers (WNIDs); words.txt says what people call them.
"""

import os
import shutil
import zipfile
from pathlib import Path, PurePosixPath

from .download import fetch, verify
from .preparation import prepare_files
from .sources import SourceFile, is_junk

URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
ARCHIVE, ARCHIVE_MD5 = "tiny-imagenet-200.zip", "90528d7ca1a48142e341f4ef8d21d0de"
UNPACKED = "tiny-imagenet-200"
CLASSES, PER_CLASS = 200, {"train": 500, "val": 50}
PICTURE = ".JPEG"
LARGEST = 2**31  # bytes that the archive may unpack to; the official one has a fifth of that
FROM_ELSEWHERE = (
    f"put the file {ARCHIVE} (248 MB, md5 {ARCHIVE_MD5}), from whoever has a copy, into {{folder}}, or what it unpacks "
    f"to, the folder {UNPACKED}"
)
HOW_TO_GET = f"`python -m alexnet_lib.dataset download tiny_imagenet` fetches it; or {FROM_ELSEWHERE}"


def download(folder: Path) -> None:
    """Fetch the official archive into `folder` and verify it; what is there already is kept.

    Raises:
        ConnectionError: the host failed, with the ways out.
        ValueError: an archive is there that is not the official one.
    """
    fetch(URL, folder / ARCHIVE, ARCHIVE_MD5, FROM_ELSEWHERE.format(folder=folder))


def prepare_tiny(folder: Path, destination: Path, size: int, workers=None, progress=True) -> None:
    """Make the stores destination/train and destination/val from what lies in `folder`: the archive, or its content.

    Raises:
        FileNotFoundError: nothing of it is there.
        ValueError: a damaged archive, or a copy that is not whole: says what is missing.
    """
    tree = unpacked(folder)
    classes, words = read_classes(tree)
    files = {split: list_split(tree, split, classes) for split in PER_CLASS}  # all is checked before any work
    for split, of_split in files.items():
        about = {"source": f"tiny_imagenet {split}", "words": words}
        prepare_files(of_split, classes, destination / split, size, workers, progress, about)


def is_here(folder: Path) -> bool:
    """Whether the archive or what it unpacks to lies in a folder, or is this folder."""
    return (folder / ARCHIVE).is_file() or _tree(folder) is not None


def unpacked(folder: Path) -> Path:
    """The folder that holds train/ and val/ as they are distributed; unpacks the archive where there is none.

    Raises:
        FileNotFoundError: neither is there.
        ValueError: the archive is not the official one.
    """
    if tree := _tree(folder):
        return tree
    archive = folder / ARCHIVE
    if not archive.is_file():
        raise FileNotFoundError(f"data set 'tiny_imagenet' is not in {folder}: {HOW_TO_GET.format(folder=folder)}")
    try:
        verify(archive, ARCHIVE_MD5)
    except ValueError as error:
        raise ValueError(f"{error}: not a whole copy of it. Remove it and fetch it again") from None
    _unpack(archive, folder)
    return folder / UNPACKED


def read_classes(tree: Path) -> tuple[list[str], list[str]]:
    """The 200 WNIDs in order, and what people call them.

    Raises:
        ValueError: other than 200 classes, a list that is damaged, or a class without a name.
    """
    classes = sorted(_lines(tree / "wnids.txt"))
    if len(set(classes)) != CLASSES:
        raise ValueError(f"{tree / 'wnids.txt'} names {len(set(classes))} classes; Tiny ImageNet has {CLASSES}")
    words = dict(line.split("\t", 1) for line in _lines(tree / "words.txt") if "\t" in line)
    if missing := [wnid for wnid in classes if wnid not in words]:
        raise ValueError(f"{tree / 'words.txt'} has no words for {missing[0]} and {len(missing) - 1} other classes")
    return classes, [words[wnid].strip() for wnid in classes]


def list_split(tree: Path, split: str, classes: list[str]) -> list[SourceFile]:
    """The pictures of "train" or "val", class by class, as WNID/FILE.

    Raises:
        ValueError: a picture that is missing or belongs nowhere, or a class without all of its pictures.
    """
    if split == "train":
        _check_folders(tree / "train", classes)
        paths = {wnid: _pictures(tree / "train" / wnid / "images") for wnid in classes}
    else:
        paths = _labelled(tree / "val", classes)
    wanted = PER_CLASS[split]
    for wnid in classes:
        if len(paths[wnid]) != wanted:
            raise ValueError(
                f"{tree / split} has {len(paths[wnid])} pictures of class {wnid}, a whole copy {wanted}: unpack "
                f"{ARCHIVE} again"
            )
    return [
        SourceFile(f"{wnid}/{path.name}", label, path, path.stat().st_size)
        for label, wnid in enumerate(classes)
        for path in paths[wnid]
    ]


def _tree(folder: Path) -> Path | None:
    """The folder of the unpacked archive: this one, or the one in it."""
    return next((t for t in (folder / UNPACKED, folder) if (t / "train").is_dir() and (t / "val").is_dir()), None)


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack train, val and the lists; under a name of its own until all of it is there."""
    work = folder / f".{UNPACKED}.partial"
    shutil.rmtree(work, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as packed:
            members = [m for m in packed.infolist() if PurePosixPath(m.filename).parts[1:2] != ("test",)]
            total = sum(member.file_size for member in members)
            if total > LARGEST:
                raise ValueError(f"it would unpack to {total:,} bytes, more than {LARGEST:,}")
            packed.extractall(work, members)  # zipfile keeps what it writes below this folder
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError) as error:
        shutil.rmtree(work, ignore_errors=True)
        raise ValueError(f"{archive} is damaged or not a whole copy: {error}") from None
    if not (work / UNPACKED).is_dir():
        raise ValueError(f"{archive} holds no folder {UNPACKED}")
    os.replace(work / UNPACKED, folder / UNPACKED)
    shutil.rmtree(work)


def _lines(path: Path) -> list[str]:
    """The lines of a list.

    Raises:
        ValueError: not there, or not text.
    """
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is missing or damaged ({type(error).__name__}): unpack {ARCHIVE} again") from None


def _pictures(folder: Path) -> list[Path]:
    """The pictures of a folder by name; what systems and people leave beside them is passed over."""
    entries = folder.iterdir() if folder.is_dir() else ()
    return sorted(p for p in entries if p.suffix == PICTURE and not is_junk(p.name))


def _check_folders(train: Path, classes: list[str]) -> None:
    others = {p.name for p in train.iterdir() if p.is_dir() and not is_junk(p.name)} - {*classes}
    if others:
        raise ValueError(
            f"{train} has a folder {min(others)!r}, which is not one of the {CLASSES} classes of wnids.txt"
        )


def _labelled(val: Path, classes: list[str]) -> dict[str, list[Path]]:
    """The validation pictures by class, as val_annotations.txt says."""
    lines = [line.split("\t") for line in _lines(val / "val_annotations.txt")]
    named = {fields[0]: fields[1] for fields in lines if len(fields) > 1}
    pictures = {path.name: path for path in _pictures(val / "images")}
    if unknown := sorted(set(named.values()) - {*classes}):
        raise ValueError(f"val_annotations.txt in {val} names class {unknown[0]!r}, which is not one of wnids.txt")
    for found, wanted, what in ((named, pictures, "no line for"), (pictures, named, "a line for the missing")):
        if lacking := sorted(wanted.keys() - found.keys()):
            raise ValueError(f"val_annotations.txt in {val} has {what} {lacking[0]}, and {len(lacking) - 1} like it")
    return {wnid: sorted(pictures[name] for name, of in named.items() if of == wnid) for wnid in classes}
