"""§2, ImageNet itself: ILSVRC-2010 and ILSVRC-2012 in each form in which people have them.

These are the archives of image-net.org, read in place and never unpacked; what they unpack to; Kaggle's tree, whose
LOC_val_solution.csv has the labels of the validation pictures; Hugging Face's parquet files; and flat folders whose
files carry the class in their names. All but the parquet files, which have an order of their own, make the same store.
Classes are in the order of their WordNet numbers (WNIDs), which all stores of a contest share. The development kit's
own numbers serve only to read its truth files.
"""

import csv
import hashlib
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

from . import parquet
from .archives import list_place, read_texts
from .sources import SourceFile, Split, is_junk, list_files, sub_folders

CLASSES = 1000
PER_CLASS = {"val": 50, "test": 150}
WNID = re.compile(r"n\d{8}")
NAMED = re.compile(r"(?:.*_)?(n\d{8})(?:_\d+)?\.(?!tar)\w+", re.ASCII)  # ILSVRC2012_val_00000293_n01440764.JPEG
LOOK = 100  # at so many files of a folder, whether their names tell the class
KAGGLE, SOLUTION = "ILSVRC/Data/CLS-LOC", "LOC_val_solution.csv"
# sha256 of the sorted WNIDs, one a line; for 2010 none was at hand
CLASSES_SHA256 = {2012: "385e0240499426c022b773be1ae4da780f057b89c9694c7f47199f62746b6edd"}
PATCHES = "patch_images.tar"  # of 2010: whole copies of pictures that are broken in its other archives
HOW_TO_GET = (
    "sign in at image-net.org, fetch what is missing, and put it there as it is. Kaggle's copy, with ILSVRC and "
    f"{SOLUTION}, and Hugging Face's, train-*.parquet and validation-*.parquet, are read as they are, too"
)

ROOM = 2**28  # bytes that a meta.mat may take beside its reader; a whole one takes some 2**22
READER = """
import io, json, sys
from numpy import atleast_1d
from scipy.io import loadmat
room, *wanted = sys.argv[1:]
try:
    import resource
    with open("/proc/self/statm") as file:
        has = int(file.read().split()[5]) * resource.getpagesize()  # the more, the more cores numpy has threads for
    resource.setrlimit(resource.RLIMIT_DATA, (has + int(room), resource.getrlimit(resource.RLIMIT_DATA)[1]))
except (ImportError, OSError, ValueError):
    pass  # the system has no such limit, or is already at a lower one
try:
    synsets = atleast_1d(loadmat(io.BytesIO(sys.stdin.buffer.read()), squeeze_me=True)["synsets"])
    fields = set(wanted) & set(synsets.dtype.names or ())
    said = json.dumps([{field: str(synset[field]) for field in fields} for synset in synsets])
except MemoryError:
    sys.exit(f"it takes more than {int(room):,} bytes of memory, which is accepted at most; download it again")
print(said)
"""


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


def found_in(folder: Path) -> str | None:
    """The contest that a folder holds in a form that only this module reads; None for a folder of class folders."""
    for name, contest in CONTESTS.items():
        if any((folder / archive).is_file() for archive in contest.archives.values()):
            return name
    train, val = (_home(folder) / split for split in ("train", "val"))
    if not train.is_dir() or sum(bool(WNID.fullmatch(c.name)) for c in sub_folders(train)) != CLASSES:
        return None
    labelled = _is_by_class(val) or _labels_known("val", val) or _kit(CONTESTS["ilsvrc2012"], folder)
    return "ilsvrc2012" if labelled and (_home(folder) != folder or not _is_by_class(val)) else None


def splits(name: str, folder: Path) -> tuple[str, ...]:
    """The splits to prepare: train and val, and test where its pictures are."""
    return tuple(parquet.shards(folder) or _places(CONTESTS[name], folder))


def by_class(name: str, folder: Path) -> dict[str, Path]:
    """The splits that `list_split` takes as `sources.list_files` lists their folder of class folders, and the folders.

    None where patches may replace some of the files.
    """
    if parquet.shards(folder) or (folder / PATCHES).is_file():
        return {}
    return {split: place for split, place in _places(CONTESTS[name], folder).items() if _is_by_class(place)}


def list_split(name: str, folder: Path, split: str, lists: Path, progress=True) -> Split:
    """The pictures of a split from what `folder` holds. The lists of the archives are kept in the folder `lists`.

    Raises:
        FileNotFoundError: names each file that is missing, and where it belongs.
        ValueError: a damaged archive, the development kit of another year, other classes, too few pictures of a class.
    """
    contest = CONTESTS[name]
    place, (classes, files, about, refused), wanted = _listed(contest, name, folder, split, lists, progress)
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


def _listed(contest: Contest, name: str, folder: Path, split: str, lists: Path, progress) -> tuple[Path, Split, dict]:
    """Where the pictures of a split are, what is there, and how many of each class there should be at least."""
    if parquet.shards(folder):
        return folder, _list_shards(contest, folder, split), {}
    places = _places(contest, folder)
    _check_complete(name, folder, places)
    place = places[split]
    known = not _is_by_class(place) and _labels_known(split, place)
    devkit = None
    if _kit(contest, folder) and (split == "train" or not known and not _is_by_class(place)):
        devkit = _read_devkit(contest, folder)  # it also tells whether all was unpacked; without one, nobody can
    wanted, about = devkit.train_counts if devkit else {}, {"source": place.name}
    if _is_by_class(place):
        return place, list_files(place)._replace(about=about), wanted
    members, refused = list_place(place, lists, progress)
    if known:
        wnids = [known.get(_name(file)) if isinstance(known, dict) else _in_name(_name(file)) for file in members]
        classes = sorted({wnid for wnid in wnids if wnid})
    else:
        wnid_of = _truth(contest, folder, devkit, split) if split in PER_CLASS else _folder_of
        wnids, classes = [wnid_of(file.name) for file in members], sorted(devkit.wnids.values())
        about["words"] = [devkit.words[wnid] for wnid in classes]
    files, unknown = _labelled(members, classes, wnids)
    return place, Split(classes, files, about, sorted(refused + unknown, key=lambda entry: entry["file"])), wanted


def _home(folder: Path) -> Path:
    """The folder of the splits: itself, or in Kaggle's tree a deeper one."""
    homes = (folder / KAGGLE, folder / KAGGLE.partition("/")[2])
    return next((home for home in homes if (home / "train").is_dir()), folder)


def _labels_known(split: str, place: Path) -> dict[str, str] | bool:
    """Where the classes of flat pictures stand: Kaggle's list, {file: WNID}; True for the files' own names."""
    if not place.is_dir():
        return False
    if any(NAMED.fullmatch(path.name) for path in islice(place.iterdir(), LOOK)):
        return True
    lists = (parent / SOLUTION for parent in place.parents[:4]) if split == "val" else ()
    return next((_read_solution(path) for path in lists if path.is_file()), False)


def _read_solution(path: Path) -> dict[str, str]:
    """The class of each validation picture by its name; a ValueError says if the list is not whole."""
    with open(path, encoding="utf-8", errors="replace", newline="") as file:
        rows = {row[0]: row[1].split()[:1] for row in csv.reader(file) if len(row) == 2}
    found = {f"{name}.JPEG": wnid[0] for name, wnid in rows.items() if wnid and WNID.fullmatch(wnid[0])}
    wanted = PER_CLASS["val"] * CLASSES
    if len(found) != wanted or set(Counter(found.values()).values()) != {PER_CLASS["val"]}:
        raise ValueError(
            f"{path} has classes of {len(found)} pictures; it wants {wanted}, {PER_CLASS['val']} of each class"
        )
    return found


def _in_name(name: str) -> str | None:
    """The class that a picture's own name carries."""
    found = NAMED.fullmatch(name)
    return found[1] if found else None


def _list_shards(contest: Contest, folder: Path, split: str) -> Split:
    """The pictures of parquet files, if their classes are numbered in the order of the WNIDs in their names."""
    words, files, about, refused = parquet.list_split(folder, split)
    pairs = sorted({(file.label, _in_name(_name(file)) or "") for file in files})
    classes = [wnid for _, wnid in pairs]
    if [label for label, _ in pairs] != list(range(len(words))) or not all(classes) or classes != sorted(classes):
        raise ValueError(
            f"in {folder} the pictures' names don't give each class the WNID of ILSVRC-{contest.year}, in their order; "
            "this folder can be prepared by its path"
        )
    named = {file: f"{classes[file.label]}/{_plain(_name(file), classes[file.label])}" for file in files}
    return Split(classes, [file._replace(name=name) for file, name in named.items()], about | {"words": words}, refused)


def _plain(name: str, wnid: str) -> str:
    """A picture's name as image-net.org has it, without the class at its end."""
    return name.replace(f"_{wnid}.", ".")


def _places(contest: Contest, folder: Path) -> dict[str, Path | None]:
    """Where the pictures of each split are: the archive, or the folder that it was unpacked to."""
    found = {}
    for split, archive in contest.archives.items():
        places = (folder / archive, folder / archive.removesuffix(".tar"), _home(folder) / split)
        held = (p for p in places if p.is_file() or p.is_dir() and any(not is_junk(q.name) for q in p.iterdir()))
        found[split] = next(held, None)
    return {split: place for split, place in found.items() if place or split != "test"}


def _is_by_class(place: Path | None) -> bool:
    """Whether this is a folder with a folder for each class, which needs no development kit."""
    return bool(place and place.is_dir() and any(WNID.fullmatch(c.name) and c.is_dir() for c in place.iterdir()))


def _check_complete(name: str, folder: Path, places: dict[str, Path | None]) -> None:
    contest = CONTESTS[name]
    missing = [f"{contest.archives[s]} (or its pictures in a folder {s})" for s, place in places.items() if not place]
    unlabelled = [s for s, place in places.items() if not (place and (_is_by_class(place) or _labels_known(s, place)))]
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


def _labelled(members: list[SourceFile], classes: list[str], wnids) -> tuple[list[SourceFile], list[dict]]:
    """The members in the order of a folder with a folder for each class, and those that belong nowhere."""
    labels, files, unknown = {wnid: label for label, wnid in enumerate(classes)}, {}, []
    for member, wnid in zip(members, wnids, strict=True):
        name = f"{wnid}/{_plain(_name(member), wnid)}"
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
    place, number = _kit(contest, folder), f"ILSVRC{contest.year}_ID"
    texts = read_texts(place, "data")
    if "meta.mat" not in texts:
        raise ValueError(_wrong_devkit(contest, place, "it has no data/meta.mat"))
    try:
        synsets = _synsets(texts["meta.mat"], number)
        leaves = [synset for synset in synsets if number in synset and int(synset["num_children"]) == 0]
        kit = Devkit(
            {int(synset[number]): synset["WNID"] for synset in leaves},
            {synset["WNID"]: synset["words"] for synset in leaves},
            {synset["WNID"]: int(synset["num_train_images"]) for synset in leaves},
            texts,
        )
    except (ValueError, KeyError) as error:
        raise ValueError(f"meta.mat of {place} cannot be read: {error}") from None
    if not any(number in synset for synset in synsets):
        raise ValueError(_wrong_devkit(contest, place, f"its meta.mat has no {number}"))
    return kit


@lru_cache(maxsize=4)
def _synsets(data: bytes, number: str) -> list[dict[str, str]]:
    """The synsets in a meta.mat.

    Another process reads them, for on some damaged bytes scipy ends its process, and a few may unpack to gigabytes.
    """
    command = [sys.executable, "-c", READER, str(ROOM), number, "num_children", "WNID", "words", "num_train_images"]
    done = subprocess.run(command, input=data, capture_output=True)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").splitlines() or [f"its reader ended with code {done.returncode}"]
        raise ValueError(lines[-1])
    return json.loads(done.stdout)


def _wrong_devkit(contest: Contest, place: Path, why: str) -> str:
    return (
        f"{place} is not {contest.kits[0]}, the development kit of ILSVRC-{contest.year}: {why}. Those of 2014 and "
        "later number a list of their own and ask to leave out 1,762 of the 50,000 validation pictures, which the "
        "paper's error rates count"
    )
