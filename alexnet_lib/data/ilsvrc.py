"""§2, ImageNet itself: ILSVRC-2010 and ILSVRC-2012 from the archives of image-net.org or from unpacked folders.

The archives are read in place and never unpacked, so a preparation that was killed goes on as from folders, and both
make the same store. Classes are in the order of their WordNet numbers (WNIDs), which all stores of a contest share. The
development kit's own numbers serve only to read its truth files.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from .archives import list_place, read_texts
from .sources import SourceFile, Split, is_junk, list_files

CLASSES = 1000
PER_CLASS = {"val": 50, "test": 150}
WNID = re.compile(r"n\d{8}")
# sha256 of the sorted WNIDs, one a line; for 2010 none was at hand
CLASSES_SHA256 = {2012: "385e0240499426c022b773be1ae4da780f057b89c9694c7f47199f62746b6edd"}
PATCHES = "patch_images.tar"  # of 2010: whole copies of pictures that are broken in its other archives
HOW_TO_GET = "sign in at image-net.org, fetch what is missing, and put it there as it is"


@dataclass(frozen=True)
class Contest:
    """What the files of a year's contest are called."""

    year: int
    archives: dict[str, str]
    kits: tuple[str, ...]  # the development kit, and the folders that it may be unpacked to

    def truth(self, split: str) -> str:
        """The file that names the class of each picture of "val" or "test", by the development kit's numbers."""
        return f"ILSVRC{self.year}_{'validation' if split == 'val' else 'test'}_ground_truth.txt"


CONTESTS = {
    "ilsvrc2010": Contest(
        2010,
        {split: f"ILSVRC2010_images_{split}.tar" for split in ("train", "val", "test")},
        ("ILSVRC2010_devkit-1.0.tar.gz", "ILSVRC2010_devkit-1.0", "devkit-1.0"),
    ),
    "ilsvrc2012": Contest(
        2012,
        {split: f"ILSVRC2012_img_{split}.tar" for split in ("train", "val")},
        ("ILSVRC2012_devkit_t12.tar.gz", "ILSVRC2012_devkit_t12"),
    ),
}


@dataclass(frozen=True)
class Devkit:
    """A development kit: its classes, with their numbers of training pictures, and its text files."""

    wnids: dict[int, str]
    words: dict[str, str]
    train_counts: dict[str, int]
    texts: dict[str, bytes]


def splits(name: str, folder: Path) -> tuple[str, ...]:
    """The splits to prepare: train and val, and test where its pictures are."""
    return tuple(_places(CONTESTS[name], folder))


def list_split(name: str, folder: Path, split: str, lists: Path, progress=True) -> Split:
    """The pictures of a split from what `folder` holds. The lists of the archives are kept in the folder `lists`.

    Raises:
        FileNotFoundError: names each file that is missing, and where it belongs.
        ValueError: a damaged archive, the development kit of another year, other classes, too few pictures of a class.
    """
    contest = CONTESTS[name]
    places = _places(contest, folder)
    _check_complete(name, folder, places)
    place = places[split]
    about, refused = {"source": place.name}, []
    if _is_by_class(place):
        classes, files, *_ = list_files(place)
        # a development kit tells whether all was unpacked; where there is none, nobody can
        wanted = _read_devkit(contest, folder).train_counts if split == "train" and _kit(contest, folder) else {}
    else:
        devkit = _read_devkit(contest, folder)
        classes, wanted = sorted(devkit.wnids.values()), devkit.train_counts
        wnid_of = _truth(contest, folder, devkit, split) if split in PER_CLASS else _folder_of
        members, refused = list_place(place, lists, progress)
        files, unknown = _labelled(members, classes, wnid_of)
        refused = sorted(refused + unknown, key=lambda entry: entry["file"])
        about["words"] = [devkit.words[wnid] for wnid in classes]
    about["classes_sha256"] = _check_classes(contest, classes, place)
    if split in PER_CLASS:
        wanted = dict.fromkeys(classes, PER_CLASS[split])
    counts = Counter(file.label for file in files)
    for label, wnid in enumerate(classes):
        count, right = counts[label], wanted.get(wnid, 0)
        if count < right or count > right and split != "train":  # in training, more than the kit counts will do
            raise ValueError(f"{place} has {count} files of class {wnid}, a whole copy {right}")
    if (folder / PATCHES).is_file():
        patches = {_name(patch): patch for patch in list_place(folder / PATCHES, lists, progress=False)[0]}
        about["patched"] = sum(_name(file) in patches for file in files)
        files = [patches.get(_name(file), file)._replace(name=file.name, label=file.label) for file in files]
    return Split(classes, files, about, refused)


def _places(contest: Contest, folder: Path) -> dict[str, Path | None]:
    """Where the pictures of each split are: the archive, or the folder that it was unpacked to."""
    found = {}
    for split, archive in contest.archives.items():
        places = (folder / archive, folder / archive.removesuffix(".tar"), folder / split)
        held = (p for p in places if p.is_file() or p.is_dir() and any(not is_junk(q.name) for q in p.iterdir()))
        found[split] = next(held, None)
    return {split: place for split, place in found.items() if place or split != "test"}


def _is_by_class(place: Path | None) -> bool:
    """Whether this is a folder with a folder for each class, which needs no development kit."""
    return bool(place and place.is_dir() and any(WNID.fullmatch(c.name) and c.is_dir() for c in place.iterdir()))


def _check_complete(name: str, folder: Path, places: dict[str, Path | None]) -> None:
    contest = CONTESTS[name]
    missing = [f"{contest.archives[s]} (or its pictures in a folder {s})" for s, place in places.items() if not place]
    unlabelled = [split for split, place in places.items() if not _is_by_class(place)]
    kit = _kit(contest, folder) if unlabelled else None
    if unlabelled and not kit:
        others = sorted(path for path in folder.glob("*devkit*") if not is_junk(path.name))
        if others:
            raise ValueError(_wrong_devkit(contest, others[0], "its name is another's"))
        missing.append(contest.kits[0])
    truth = contest.truth("test")
    if "test" in unlabelled and not (folder / truth).is_file() and not (kit and truth in read_texts(kit, "data")):
        missing.append(truth)
    if missing:
        raise FileNotFoundError(f"data set {name!r} lacks {', '.join(missing)} in {folder}: {HOW_TO_GET}")


def _check_classes(contest: Contest, classes: list[str], place: Path) -> str:
    """The hash of the classes, which must be the contest's."""
    digest = hashlib.sha256("\n".join(classes).encode()).hexdigest()
    if len(classes) != CLASSES or not all(WNID.fullmatch(name) for name in classes):
        raise ValueError(
            f"{place} has {len(classes)} classes; ILSVRC-{contest.year} has {CLASSES}, named by WNID. Other classes, "
            "or a part of these, are prepared by the path of their folder"
        )
    if digest != CLASSES_SHA256.get(contest.year, digest):
        raise ValueError(f"the WNIDs of {place} are not the classes of ILSVRC-{contest.year}: their hash is {digest}")
    return digest


def _labelled(members: list[SourceFile], classes: list[str], wnid_of) -> tuple[list[SourceFile], list[dict]]:
    """The members in the order of a folder with a folder for each class, and those that belong nowhere."""
    labels, files, unknown = {wnid: label for label, wnid in enumerate(classes)}, {}, []
    for member in members:
        wnid = wnid_of(member.name)
        name = f"{wnid}/{_name(member)}"
        if wnid not in labels:
            unknown.append({"file": member.name, "reason": "neither its name nor its folder is that of a class"})
        elif name in files:
            unknown.append({"file": member.name, "reason": "a second file of this name"})
        else:
            files[name] = member._replace(name=name, label=labels[wnid])
    return sorted(files.values(), key=lambda file: (file.label, file.name)), unknown


def _name(file: SourceFile) -> str:
    """A file's own name, without its folder."""
    return file.name.rsplit("/", 1)[-1]


def _folder_of(name: str) -> str:
    """The folder, or the inner archive, that a training picture is in: its class."""
    return name.split("/")[-2] if "/" in name else ""


def _truth(contest: Contest, folder: Path, devkit: Devkit, split: str) -> Callable[[str], str | None]:
    """A function from a picture's name to its class: the number in the name is that of a line in the truth file."""
    name, wanted = contest.truth(split), PER_CLASS[split] * CLASSES
    text = (folder / name).read_bytes() if (folder / name).is_file() else devkit.texts.get(name, b"")
    by_number = {str(number).encode(): wnid for number, wnid in devkit.wnids.items()}
    lines = [by_number.get(line) for line in text.split()]
    if len(lines) != wanted or None in lines or set(Counter(lines).values()) != {PER_CLASS[split]}:
        raise ValueError(
            f"{name} has {len(lines)} lines, {lines.count(None)} of them not the number of a class; it wants {wanted}, "
            f"{PER_CLASS[split]} of each class"
        )
    pattern = re.compile(rf"ILSVRC{contest.year}_{split}_(\d{{8}})\.JPEG", re.ASCII)

    def wnid(path: str) -> str | None:
        found = pattern.fullmatch(path.split("/")[-1])
        return lines[int(found[1]) - 1] if found and 1 <= int(found[1]) <= wanted else None

    return wnid


# ------------------------------------------------------------------------------------------------ the development kit


def _kit(contest: Contest, folder: Path) -> Path | None:
    """Where the development kit is, packed or unpacked."""
    return next((folder / name for name in contest.kits if (folder / name).exists()), None)


def _read_devkit(contest: Contest, folder: Path) -> Devkit:
    """The development kit in `folder`; a ValueError says if it is another year's, or not a whole one."""
    from scipy.io import loadmat  # here, because few need it

    place, number = _kit(contest, folder), f"ILSVRC{contest.year}_ID"
    texts = read_texts(place, "data")
    if "meta.mat" not in texts:
        raise ValueError(_wrong_devkit(contest, place, "it has no data/meta.mat"))
    try:
        synsets = np.atleast_1d(loadmat(BytesIO(texts["meta.mat"]), squeeze_me=True)["synsets"])
        fields = synsets.dtype.names or ()
        leaves = [synset for synset in synsets if number in fields and int(synset["num_children"]) == 0]
        kit = Devkit(
            {int(synset[number]): str(synset["WNID"]) for synset in leaves},
            {str(synset["WNID"]): str(synset["words"]) for synset in leaves},
            {str(synset["WNID"]): int(synset["num_train_images"]) for synset in leaves},
            texts,
        )
    except Exception as error:  # scipy raises nearly anything on damaged bytes
        raise ValueError(f"meta.mat of {place} cannot be read: {error}") from None
    if number not in fields:
        raise ValueError(_wrong_devkit(contest, place, f"its meta.mat has no {number}"))
    return kit


def _wrong_devkit(contest: Contest, place: Path, why: str) -> str:
    return (
        f"{place} is not {contest.kits[0]}, the development kit of ILSVRC-{contest.year}: {why}. Those of 2014 and "
        "later number a list of their own and ask to leave out 1,762 of the 50,000 validation pictures, which the "
        "paper's error rates count"
    )
