"""§2, ImageNet itself: ILSVRC-2010 and ILSVRC-2012 from the archives of image-net.org or from unpacked folders.

The archives are read in place and never unpacked, so a preparation that was killed goes on as from folders, and both
make the same store. Classes are in the order of their WordNet numbers (WNIDs), which all stores of a contest share.
The development kit's own numbers serve only to read its truth files.
"""

import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from .archives import list_place, read_texts
from .preparation import prepare_files
from .sources import SourceFile, check_classes, is_junk, list_files

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
    devkit: str
    devkit_folder: str

    def truth(self, split: str) -> str:
        """The file that names the class of each picture of "val" or "test", by the development kit's numbers."""
        return f"ILSVRC{self.year}_{'validation' if split == 'val' else 'test'}_ground_truth.txt"


CONTESTS = {
    "ilsvrc2010": Contest(
        2010,
        {split: f"ILSVRC2010_images_{split}.tar" for split in ("train", "val", "test")},
        "ILSVRC2010_devkit-1.0.tar.gz",
        "devkit-1.0",
    ),
    "ilsvrc2012": Contest(
        2012,
        {split: f"ILSVRC2012_img_{split}.tar" for split in ("train", "val")},
        "ILSVRC2012_devkit_t12.tar.gz",
        "ILSVRC2012_devkit_t12",
    ),
}


@dataclass(frozen=True)
class Devkit:
    """A development kit: its classes, with their numbers of training pictures, and its text files."""

    wnids: dict[int, str]
    words: dict[str, str]
    train_counts: dict[str, int]
    texts: dict[str, bytes]


def prepare_contest(
    name: str, folder: Path, destination: Path, size=256, workers=None, progress=True, form="raw"
) -> None:
    """Make the stores destination/<split> from what `folder` holds. All of it is listed and checked before any work.

    Raises:
        FileNotFoundError: names each file that is missing, and where it belongs.
        ValueError: a damaged archive, the development kit of another year, other classes, too few pictures of a class.
    """
    found = {split: list_split(name, folder, split, destination, progress) for split in splits(name, folder)}
    check_classes({split: classes for split, (_, classes, *_) in found.items()}, folder)
    for split, (files, classes, about, refused) in found.items():
        prepare_files(files, classes, destination / split, size, workers, progress, about, refused, form)


def splits(name: str, folder: Path) -> tuple[str, ...]:
    """The splits to prepare: train and val, and test where its pictures are."""
    contest = CONTESTS[name]
    return tuple(split for split in contest.archives if split != "test" or _place(contest, folder, split))


def list_split(name: str, folder: Path, split: str, destination: Path, progress=True):
    """(files, classes, what the store shall say of itself, refused files) of a split; see `prepare_files`.

    destination: where the stores are to be; the lists of the archives are kept there.
    """
    contest, lists = CONTESTS[name], destination / ".lists"
    _check_complete(name, contest, folder)
    place = _place(contest, folder, split)
    about = {"source": place.name}
    if _is_by_class(place):
        (classes, files), refused = list_files(place), []
        kit = split == "train" and _kit(contest, folder)  # where there is one, it tells whether all was unpacked
        wanted = read_devkit(contest, folder).train_counts if kit else {}
    else:
        devkit = read_devkit(contest, folder)
        classes, wanted = sorted(devkit.wnids.values()), devkit.train_counts
        known = _wnids_of_truth(contest, folder, devkit, split) if split in PER_CLASS else _wnid_of_train
        members, refused = list_place(place, lists, progress)
        files, unknown = _labelled(members, classes, known)
        refused = sorted(refused + unknown, key=lambda entry: entry["file"])
        about["words"] = [devkit.words[wnid] for wnid in classes]
    about["classes_sha256"] = _check_classes(contest, classes, place)
    if split in PER_CLASS:
        wanted = dict.fromkeys(classes, PER_CLASS[split])
    _check_counts(files, classes, wanted, split, place)
    if (folder / PATCHES).is_file():
        files, about["patched"] = _patched(files, folder, lists)
    return files, classes, about, refused


def _place(contest: Contest, folder: Path, split: str) -> Path | None:
    """Where the pictures of a split are: the archive, or the folder that it was unpacked to."""
    archive = contest.archives[split]
    places = [folder / archive, folder / archive.removesuffix(".tar"), folder / split]
    return next((place for place in places if place.is_file() or place.is_dir() and _entries(place)), None)


def _is_by_class(place: Path | None) -> bool:
    """Whether this is a folder with a folder for each class, which needs no development kit."""
    return bool(place and place.is_dir() and any(WNID.fullmatch(c.name) and c.is_dir() for c in place.iterdir()))


def _entries(place: Path) -> list[Path]:
    return [path for path in place.iterdir() if not is_junk(path.name)]


def _check_complete(name: str, contest: Contest, folder: Path) -> None:
    places = {split: _place(contest, folder, split) for split in splits(name, folder)}
    missing = [
        f"{contest.archives[split]} (or its pictures in a folder {split})" for split in places if not places[split]
    ]
    kit = None
    if not all(_is_by_class(place) for place in places.values()):
        kit = _devkit_place(contest, folder)
        missing += [] if kit else [contest.devkit]
    if places.get("test") and not _is_by_class(places["test"]):
        truth = contest.truth("test")
        missing += [] if (folder / truth).is_file() or kit and truth in read_texts(kit, "data") else [truth]
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


def _check_counts(files: list[SourceFile], classes: list[str], wanted: dict[str, int], split: str, place: Path) -> None:
    """Whether each class has its pictures. More in train than the kit counts are in the store too."""
    counts = Counter(file.label for file in files)
    for label, wnid in enumerate(classes):
        count, right = counts[label], wanted.get(wnid, 0)
        if count < right or count > right and split != "train":
            raise ValueError(f"{place} has {count} files of class {wnid}, a whole copy {right}")


def _labelled(members: list[SourceFile], classes: list[str], wnid_of) -> tuple[list[SourceFile], list[dict]]:
    """The members as a folder for each class would hold them, in its order, and those that belong nowhere."""
    labels, files, unknown = {wnid: label for label, wnid in enumerate(classes)}, {}, []
    for member in members:
        wnid = wnid_of(member.name)
        name = f"{wnid}/{member.name.split('/')[-1]}"
        if wnid not in labels:
            unknown.append({"file": member.name, "reason": "neither its name nor its folder is that of a class"})
        elif name in files:
            unknown.append({"file": member.name, "reason": "a second file of this name"})
        else:
            files[name] = member._replace(name=name, label=labels[wnid])
    return sorted(files.values(), key=lambda file: (file.label, file.name)), unknown


def _wnid_of_train(name: str) -> str:
    """The folder, or the inner archive, that a training picture is in."""
    return name.split("/")[-2] if "/" in name else ""


def _wnids_of_truth(contest: Contest, folder: Path, devkit: Devkit, split: str):
    """A function from a picture's name to its class, by the number in the name: that of a line in the truth file."""
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


def _patched(files: list[SourceFile], folder: Path, lists: Path) -> tuple[list[SourceFile], int]:
    """The files with those of `patch_images.tar` in the place of their namesakes, and how many these are."""
    patches = {patch.name.split("/")[-1]: patch for patch in list_place(folder / PATCHES, lists, progress=False)[0]}
    mended = [patches.get(file.name.split("/")[-1], file)._replace(name=file.name, label=file.label) for file in files]
    return mended, sum(new != old for new, old in zip(mended, files, strict=True))


# ------------------------------------------------------------------------------------------------ the development kit


def read_devkit(contest: Contest, folder: Path) -> Devkit:
    """The development kit in `folder`, packed or unpacked.

    Raises:
        ValueError: that of another year, or not a whole one.
    """
    from scipy.io import loadmat  # here, because few need it

    place, number = _devkit_place(contest, folder), f"ILSVRC{contest.year}_ID"
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


def _kit(contest: Contest, folder: Path) -> Path | None:
    names = [contest.devkit, contest.devkit.removesuffix(".tar.gz"), contest.devkit_folder]
    return next((folder / name for name in names if (folder / name).exists()), None)


def _devkit_place(contest: Contest, folder: Path) -> Path | None:
    """Where the development kit is; where there is only another's, the reason why it will not do."""
    place = _kit(contest, folder)
    others = [] if place else sorted(path for path in folder.glob("*devkit*") if not is_junk(path.name))
    if others:
        raise ValueError(_wrong_devkit(contest, others[0], "its name is another's"))
    return place


def _wrong_devkit(contest: Contest, place: Path, why: str) -> str:
    return (
        f"{place} is not {contest.devkit}, the development kit of ILSVRC-{contest.year}: {why}. Those of 2014 and "
        "later number a list of their own and ask to leave out 1,762 of the 50,000 validation pictures, which the "
        "paper's error rates count"
    )
