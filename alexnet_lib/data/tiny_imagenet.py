"""§2, Tiny ImageNet: 200 of ImageNet's classes, 64 × 64 pixels, without a sign-up.

The course that made it (Stanford's CS231n) distributes one archive: 500 training pictures of each class in
train/WNID/images, 10,000 validation pictures in one folder with val_annotations.txt, and a test folder without labels,
which we leave alone. Classes are in the order of their WordNet numbers (WNIDs); words.txt has their names.
"""

from pathlib import Path

from .download import ARCHIVES, unpacked
from .sources import SourceFile, Split, is_junk

CLASSES, PER_CLASS = 200, {"train": 500, "val": 50}
ARCHIVE = ARCHIVES["tiny_imagenet"].name


def list_split(folder: Path, split: str, stores: Path) -> Split:
    """The pictures of "train" or "val" in `folder`, class by class, named WNID/FILE; unpacks the archive into `stores`.

    Raises:
        FileNotFoundError: nothing of it is there.
        ValueError: a damaged archive, or a copy that is not whole: says what is missing.
    """
    tree = folder if (folder / "train").is_dir() else unpacked("tiny_imagenet", folder, stores)
    classes = sorted(set(_lines(tree / "wnids.txt")))
    if len(classes) != CLASSES:
        raise ValueError(f"{tree / 'wnids.txt'} names {len(classes)} classes; Tiny ImageNet has {CLASSES}")
    words = dict(line.split("\t", 1) for line in _lines(tree / "words.txt") if "\t" in line)
    if missing := [wnid for wnid in classes if wnid not in words]:
        raise ValueError(f"{tree / 'words.txt'} has no words for {missing[0]} and {len(missing) - 1} other classes")
    if split == "train":
        paths = {wnid: _pictures(tree / "train" / wnid / "images") for wnid in classes}
    else:
        lines = [line.split("\t") for line in _lines(tree / "val" / "val_annotations.txt")]
        class_of = {fields[0]: fields[1] for fields in lines if len(fields) > 1}
        pictures = _pictures(tree / "val" / "images")
        paths = {wnid: [path for path in pictures if class_of.get(path.name) == wnid] for wnid in classes}
    for wnid, of_class in paths.items():
        if len(of_class) != PER_CLASS[split]:
            raise ValueError(
                f"{tree / split} has {len(of_class)} pictures of class {wnid}, a whole copy {PER_CLASS[split]}: unpack "
                f"{ARCHIVE} again"
            )
    files = [
        SourceFile(f"{wnid}/{path.name}", label, path, path.stat().st_size)
        for label, wnid in enumerate(classes)
        for path in paths[wnid]
    ]
    return Split(classes, files, {"source": f"tiny_imagenet {split}", "words": [words[w].strip() for w in classes]})


def _lines(path: Path) -> list[str]:
    """The lines of a list; a ValueError says if it is not there, or not text."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is missing or damaged ({type(error).__name__}): unpack {ARCHIVE} again") from None


def _pictures(folder: Path) -> list[Path]:
    """The pictures of a folder by name; whatever systems and people leave beside them is skipped."""
    entries = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in entries if path.suffix == ".JPEG" and not is_junk(path.name))
