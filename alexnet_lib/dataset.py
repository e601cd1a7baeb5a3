"""§2, the dataset: prepared stores, the names of the data sets, and where they are found.

A prepared store is a folder that `prepare` makes from a folder of pictures:

    images.npy   uint8 (N, 256, 256, 3), read without loading it; or, in a tenth of the room, images.jpegs and
                 offsets.npy: the same pictures as JPEG, one after the other (`jpeg_store`)
    labels.npy   int64 (N,)
    index.csv    where each image came from: file, class, sha256
    mean.npy     float32 (256, 256, 3), the mean image
    meta.json    classes in order, colour axes, counts, versions, fingerprint, and every rejected file with its reason
"""

import argparse
import hashlib
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from .colours import ColourPCA
from .data import cifar10, ilsvrc, tiny_imagenet
from .data.download import through_torchvision
from .data.jpeg_store import JpegImages
from .data.pieces import Rows, evenly
from .data.preparation import FORMS, prepare_files, prepare_folder, write_store
from .data.sources import SourceFile, check_classes, find_splits, list_files
from .data.store_files import read_meta, read_store, require_one_size
from .data.unchanged import require_unchanged
from .paths import REPOSITORY, data_dir

SPLITS = ("train", "val")
SHOWN = 50  # rejected files; the rest is counted
EMBEDDED32_COUNTS = {"train": 5120, "val": 1024}
# the side of the stored images, where it is not the paper's 256
STORE_SIZES = {"embedded": 73, "embedded32": 32, "cifar10": 32, "imagenette73": 73, "tiny_imagenet": 73}
JPEG = "-jpeg"  # at the end of a name: the same pictures, stored as JPEG
AS_JPEG = tuple(name + JPEG for name in ("imagenette", *ilsvrc.CONTESTS))
# the same pictures as another's, stored small or as JPEG
SOURCES = {"imagenette73": "imagenette"} | {name: name.removesuffix(JPEG) for name in AS_JPEG}
ONE_FOLDER_EACH = "so that {folder}/train and {folder}/val hold one folder for each class"
IMAGENETTE = f"`python -m alexnet_lib.dataset download imagenette` fetches it; or unpack its pictures {ONE_FOLDER_EACH}"
HOW_TO_GET = {
    "embedded": "it comes with the repository; `git checkout data/embedded` restores it",
    "embedded32": "it is generated",
    "cifar10": cifar10.HOW_TO_GET,
    "imagenette": IMAGENETTE,
    "imagenette73": IMAGENETTE,
    "tiny_imagenet": tiny_imagenet.HOW_TO_GET,
    "ilsvrc2010": ilsvrc.HOW_TO_GET,
    "ilsvrc2012": ilsvrc.HOW_TO_GET,
}
HOW_TO_GET |= {name: HOW_TO_GET[SOURCES[name]] for name in AS_JPEG}


@dataclass(frozen=True)
class Store:
    """A prepared split, open for reading. The module's docstring gives the shapes."""

    folder: Path
    images: np.ndarray | JpegImages
    labels: np.ndarray
    mean: np.ndarray
    pca: ColourPCA
    classes: list[str]
    meta: dict

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def size(self) -> int:
        """Side of the stored images in pixels."""
        return self.images.shape[1]

    @property
    def crop(self) -> int:
        """Side of the crops that a net sees: in proportion to the paper's 224 of 256."""
        return round(self.size * 224 / 256)

    def spread(self, count: int) -> "Store":
        """A store of `count` of these images, evenly spaced over all classes; itself if there are no more.

        The images are read when they are used. What is said of the whole (index, mean, pca, meta) stays as it is.
        """
        if count >= len(self):
            return self
        rows = evenly(len(self), count)
        return replace(self, images=Rows(self.images, rows), labels=self.labels[rows])

    @cached_property
    def index(self) -> pd.DataFrame:
        """Where each image came from: file, class, sha256.

        Raises:
            ValueError: it is not the index of these images.
        """
        path = self.folder / "index.csv"
        index = pd.read_csv(path, keep_default_na=False)
        if list(index) != ["file", "class", "sha256"] or len(index) != len(self):
            raise ValueError(
                f"{path}: {len(index)} lines of {', '.join(index)}; accepted: {len(self)} of file, class, sha256. "
                f"Delete the folder {self.folder} and prepare it again"
            )
        return index


def prepare(source, destination, size=256, workers=None, progress=True, part=None, form="raw") -> Store:
    """Turn a folder with one sub-folder for each class into a prepared store (§2).

    Each picture is scaled until its shorter side has `size` pixels and the central square is kept. Killed at any
    moment and called again, it goes on where it was and ends with the same bytes. A destination that is already
    prepared from the same files is opened, not made again. Files that cannot be images are listed with their reasons
    in `meta["rejected"]`, and the run goes on.

    Args:
        source: the folder; classes are its sub-folders in sorted order, files are taken from any depth below them.
            Hidden files and folders, and those that systems leave behind, count as nothing.
        destination: the store's folder; it appears whole or not at all.
        size: side of the stored images in pixels.
        workers: threads that decode; one a core unless given.
        progress: whether to show a progress bar.
        part: None takes all files, "train" nine tenths and "val" the other tenth, chosen by a hash of their names, but
            at least one picture of each class.
        form: "raw", or "jpeg" for a tenth of the room and slower reading.

    Raises:
        FileNotFoundError: no source folder.
        ValueError: no class folders but perhaps splits, a class left without an image, or an impossible size.
        FileExistsError: the destination holds something else.
    """
    folders = Path(source), Path(destination)
    return open_store(prepare_folder(*folders, size, workers, progress, part, form=form))


def open_store(folder) -> Store:
    """Open a prepared store; the images stay on disk until they are read.

    Raises:
        FileNotFoundError: no store there.
        ValueError: a file of it is damaged, or does not belong with the others.
    """
    folder = Path(folder)
    return Store(folder, *read_store(folder))


def load_dataset(name="auto", data_dir=None) -> dict[str, Store]:
    """The training and validation stores of a data set, prepared on first use: {"train": store, "val": store}.

    For "ilsvrc2010" there is {"test": store} too, where its pictures are.

    Args:
        name: "embedded", "embedded32", "cifar10", "imagenette", "imagenette73" (the same photographs, stored as small
            as the built-in pictures), "tiny_imagenet" (200 classes of ImageNet, stored as small), "ilsvrc2010",
            "ilsvrc2012", "auto" (the largest that is prepared), or the path of a folder that has one sub-folder for
            each class, itself or in its train/ and val/ (or test/ and other names, see `sources.find_splits`). With
            "-jpeg" after "imagenette", "ilsvrc2010" or "ilsvrc2012", the same stored as JPEG.
        data_dir: where data sets lie; $ALEXNET_DATA or `data/` unless given.

    Raises:
        ValueError: an unknown name; a folder that is no data set; classes that differ between the splits; stores that
            are damaged, do not belong together, or were made from other files than their folders hold now.
        FileNotFoundError: the data set is not there, with how to get it. It is never replaced by another.
    """
    root = _root(data_dir)
    name = choose_dataset(name, root)[0]
    prepared = _prepared_folder(name, root)
    if fresh := not is_prepared(name, root):
        _prepare(name, root, prepared)
    stores = {split: open_store(prepared / split) for split in _splits(name, root)}
    where = f"{prepared} (remove it to prepare anew)"
    check_classes({split: store.classes for split, store in stores.items()}, where)
    require_one_size(stores)
    if not fresh:
        _require_unchanged(stores, name, root)
    return stores


def _prepare(name: str, root: Path, prepared: Path) -> None:
    """Make the stores of a data set. All splits are listed and compared before any work."""
    source, form = SOURCES.get(name, name), "jpeg" if name in AS_JPEG else "raw"
    if source in ilsvrc.CONTESTS:
        return ilsvrc.prepare_contest(source, root / source, prepared, form=form)
    if name == "embedded32":
        for split in SPLITS:
            _generate_small(prepared / split, split)
        return None
    if name == "tiny_imagenet":
        return tiny_imagenet.prepare_tiny(root / name, prepared, STORE_SIZES[name])
    if name == "cifar10" and cifar10.is_official(root / name):
        return cifar10.prepare_official(root / name, prepared)
    found = _sources(name, root)
    listed = {split: list_files(*place) for split, place in found.items()}
    where = Path(os.path.commonpath([folder for folder, _ in found.values()]))
    check_classes({split: classes for split, (classes, _) in listed.items()}, where)
    for split, (classes, files) in listed.items():
        about = {"source": found[split][0].name} | ({"lossy": cifar10.is_lossy(files)} if name == "cifar10" else {})
        prepare_files(files, classes, prepared / split, STORE_SIZES.get(name, 256), about=about, form=form)


def is_prepared(name: str, data_dir=None) -> bool:
    """Are all stores of a data set there already?"""
    root = _root(data_dir)
    name = choose_dataset(name, root)[0]
    folder = _prepared_folder(name, root)
    return all((folder / split / "meta.json").is_file() for split in _splits(name, root))


def choose_dataset(name="auto", data_dir=None) -> tuple[str, str]:
    """Which data set a name means, and why in a sentence; "auto" means the largest prepared one for AlexNet.

    Raises:
        ValueError: an unknown name.
    """
    if name != "auto":
        if name not in HOW_TO_GET and not _is_folder(name):
            raise ValueError(f"dataset = {name!r}; accepted are auto, {', '.join(HOW_TO_GET)}, or a folder's path")
        return name, f"{name}, as asked"
    sizes = {}
    for known in HOW_TO_GET:
        store = _root(data_dir) / "prepared" / f"{known}-{STORE_SIZES.get(known, 256)}" / "train"
        if (store / "meta.json").is_file() and STORE_SIZES.get(known, 256) > 32:  # what AlexNet's first layers can take
            sizes[known] = read_meta(store)["images"]
    largest = max(sizes, key=sizes.get, default="embedded")
    if largest == "embedded":
        return largest, "embedded, the built-in collection: no larger data set is prepared here"
    return (
        largest,
        f"{largest}: with {sizes[largest]:,} training images the largest data set that is prepared here",
    )


def _is_folder(name: str) -> bool:
    try:
        return bool(name) and Path(name).expanduser().is_dir()
    except (OSError, RuntimeError, ValueError):  # too long a name, the home of nobody, a null byte
        return False


def _root(folder) -> Path:
    return data_dir() if folder is None else Path(folder).expanduser().resolve()


def _prepared_folder(name: str, root: Path) -> Path:
    return root / "prepared" / f"{_folder_name(name)}-{STORE_SIZES.get(name, 256)}"


def _folder_name(name: str) -> str:
    """What a data set is called under prepared/: its name, or a path's last part and a hash of the whole."""
    if name in HOW_TO_GET:
        return name
    path = Path(name).expanduser().resolve()
    return f"{path.name}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def source_files(name: str, split: str, count: int, data_dir=None) -> list[SourceFile]:
    """What `count` evenly spaced images of a store were made from, in order; `.read_bytes()` gives the content.

    Raises:
        FileNotFoundError: the data set's pictures are not there.
        ValueError: they are no longer those that the store was made from.
    """
    root = _root(data_dir)
    name = choose_dataset(name, root)[0]
    prepared, source = _prepared_folder(name, root), SOURCES.get(name, name)
    if source in ilsvrc.CONTESTS:
        files = ilsvrc.list_split(source, root / source, split, prepared, progress=False)[0]
    elif name == "tiny_imagenet":
        tree = tiny_imagenet.unpacked(root / name)
        files = tiny_imagenet.list_split(tree, split, tiny_imagenet.read_classes(tree)[0])
    else:
        files = list_files(*_sources(name, root)[split])[1]
    index = open_store(prepared / split).index["file"]
    names = index.iloc[evenly(len(index), count)].tolist()
    wanted = set(names)
    by_name = {file.name: file for file in files if file.name in wanted}
    try:
        return [by_name[name] for name in names]
    except KeyError as error:
        raise ValueError(f"{error}, which {prepared / split} was made from, is no longer there") from None


def _splits(name: str, root: Path) -> tuple[str, ...]:
    """The splits of a data set. The test pictures of ILSVRC-2010 are there or not, and may be removed once prepared."""
    source = SOURCES.get(name, name)
    if source not in ilsvrc.CONTESTS:
        return SPLITS
    prepared = (_prepared_folder(name, root) / "test" / "meta.json").is_file()
    return (*SPLITS, "test") if prepared else ilsvrc.splits(source, root / source)


def _sources(name: str, root: Path) -> dict[str, tuple[Path, str | None]]:
    """For each split its folder of class folders, and which part of it is meant."""
    if name not in HOW_TO_GET:
        folder = Path(name).expanduser().resolve()
    else:
        folder = REPOSITORY / "data" / name if name == "embedded" else root / SOURCES.get(name, name)
    found = find_splits(folder) if folder.is_dir() else None
    if name in HOW_TO_GET and (not found or found["train"][1]):
        how = HOW_TO_GET[name].format(folder=folder)
        raise FileNotFoundError(f"data set {name!r} is not in {folder}: {how}")
    return found


def _require_unchanged(stores: dict[str, Store], name: str, root: Path) -> None:
    """Refuse stores that were made from folders which hold other files by now. Archives are what they are."""
    archived = (*ilsvrc.CONTESTS, "tiny_imagenet", "embedded32")
    if SOURCES.get(name, name) in archived or name == "cifar10" and cifar10.is_official(root / name):
        return
    with suppress(FileNotFoundError):  # removed, for it is not needed any more
        for split, (folder, part) in _sources(name, root).items():
            require_unchanged(stores[split], folder, part)


def _generate_small(destination: Path, split: str) -> Path:
    """The 32-pixel collection: the two splits have seeds of their own."""
    from .data.embedded import CLASSES, small_pictures

    images, labels = small_pictures(SPLITS.index(split), EMBEDDED32_COUNTS[split])
    return write_store(destination, images, labels, CLASSES, {"source": "embedded32"})


def main(arguments=None) -> None:
    """`python -m alexnet_lib.dataset prepare SOURCE DESTINATION`, `prepare NAME`, or `download NAME`."""
    parser = argparse.ArgumentParser(prog="python -m alexnet_lib.dataset", description=(__doc__ or " ").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("prepare", help="make a store from a folder of pictures, or those of a data set")
    command.add_argument("source", help="a folder with one sub-folder for each class; by itself, a data set's name")
    command.add_argument("destination", type=Path, nargs="?", help="the store to make")
    command.add_argument("--size", type=int, default=256, help="side of the stored images (256)")
    command.add_argument("--form", choices=FORMS, default="raw", help="jpeg: a tenth of the room, slower to read")
    command.add_argument("--workers", type=int, help="decoding threads (one a core)")
    command = commands.add_parser("download", help="fetch a data set from its official host")
    command.add_argument("name", choices=list(DOWNLOADS))
    given = parser.parse_args(arguments)
    try:
        if given.command == "download":
            _download(given.name)
        elif given.destination is None:
            for store in load_dataset(given.source).values():
                _print_store(store)
        else:
            _print_store(prepare(given.source, given.destination, given.size, given.workers, form=given.form))
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    except KeyboardInterrupt:
        parser.exit(130, f"{parser.prog}: stopped; the same command goes on where it was\n")


def _download_imagenette(folder: Path) -> None:
    """Through torchvision, which verifies the archive and unpacks it; then where `load_dataset` looks for it."""
    from torchvision.datasets import Imagenette  # here, because importing torchvision takes seconds

    if any((folder / split).is_dir() for split in SPLITS):
        return
    fetched = folder / ".fetched"
    shutil.rmtree(fetched / "imagenette2", ignore_errors=True)  # perhaps half unpacked; the archive beside it is kept
    with through_torchvision("Imagenette", f"unpack its pictures {ONE_FOLDER_EACH}".format(folder=folder)):
        Imagenette(fetched, download=True)
    for split in SPLITS:
        os.replace(fetched / "imagenette2" / split, folder / split)
    shutil.rmtree(fetched)


DOWNLOADS = {"cifar10": cifar10.download, "imagenette": _download_imagenette, "tiny_imagenet": tiny_imagenet.download}


def _download(name: str) -> None:
    DOWNLOADS[name](data_dir() / name)
    counts = " and ".join(f"{len(store):,}" for store in load_dataset(name).values())
    print(f"{name}: {counts} images are ready")


def _print_store(store: Store) -> None:
    rejected = store.meta["rejected"]
    print(f"{store.meta['files']} files: {len(store)} images of {len(store.classes)} classes, {len(rejected)} rejected")
    for entry in rejected[:SHOWN]:
        print(f"  {entry['file']}: {entry['reason']}")
    if len(rejected) > SHOWN:
        print(f"  and {len(rejected) - SHOWN:,} more, listed in {store.folder / 'meta.json'}")


if __name__ == "__main__":
    main()
