"""§2, the dataset: prepared stores, the names of the data sets, and where they are found.

A prepared store is a folder that `prepare` makes from a folder of pictures:

    images.npy   uint8 (N, 256, 256, 3), mapped, not loaded; or, in a tenth of the space, images.jpegs and offsets.npy:
                 the same pictures as JPEG, one after the other (`jpeg_store`)
    labels.npy   int64 (N,)
    index.csv    where each image came from: file, class, sha256
    mean.npy     float32 (256, 256, 3), the mean image
    meta.json    classes in order, colour axes, counts, versions, fingerprint, digests of the files and of a sample of
                 the images, and every rejected file with its reason

From a JPEG file to a store: `sources` (or `ilsvrc`, `tiny_imagenet`) lists the files of a split, `preparation` decodes,
scales and cuts them, `unfinished` writes them, `store_files` opens what came of it.
"""

import argparse
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from .colours import ColourPCA
from .commands import ends_well
from .data import cifar10, ilsvrc, parquet, sources, tiny_imagenet
from .data.download import ARCHIVES, fetch, how_to_get, unpacked
from .data.pieces import Rows, evenly
from .data.preparation import FORMS, prepare_files, require_writable, room_for, say_rejected, write_store
from .data.sources import SourceFile, Split, check_classes, list_files
from .data.store_files import described, digests_in, read_index, read_meta, read_store
from .data.unfinished import clear_up, require_place
from .files import sha256
from .paths import IN_CHECKOUT, REPOSITORY, data_dir, stores_dir

SPLITS = ("train", "val")
EMBEDDED32_COUNTS = {"train": 5120, "val": 1024}
# the side of the stored images, where it is not the paper's 256
STORE_SIZES = {"embedded": 73, "embedded32": 32, "cifar10": 32, "imagenette73": 73, "tiny_imagenet": 73}
JPEG = "-jpeg"  # at the end of a name: the same pictures, stored as JPEG
AS_JPEG = tuple(name + JPEG for name in ("imagenette", *ilsvrc.CONTESTS))
# the same pictures as another's, stored small or as JPEG
SOURCES = {"imagenette73": "imagenette"} | {name: name.removesuffix(JPEG) for name in AS_JPEG}
ONE_FOLDER_EACH = "pictures so that {folder}/train and {folder}/val hold one folder for each class"
HOW_TO_GET = {
    "embedded": "it comes with the repository, where `git checkout data/embedded` restores it; elsewhere "
    "`python -m alexnet_lib.data.embedded {folder}` draws it",
    "embedded32": "it is generated",
    "cifar10": f"{how_to_get('cifar10')}, or {ONE_FOLDER_EACH}",
    "imagenette": f"{how_to_get('imagenette')}, or {ONE_FOLDER_EACH}",
    "tiny_imagenet": how_to_get("tiny_imagenet"),
    "ilsvrc2010": ilsvrc.HOW_TO_GET,
    "ilsvrc2012": ilsvrc.HOW_TO_GET,
}
HOW_TO_GET |= {name: HOW_TO_GET[source] for name, source in SOURCES.items()}


@dataclass(frozen=True)
class Store:
    """A prepared split, open for reading. The module's docstring gives the shapes."""

    folder: Path
    images: np.ndarray | Rows
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

        The images are read when they are used. Index, mean, pca and meta remain those of the whole.
        """
        if count >= len(self):
            return self
        rows = np.sort(np.argsort(self.labels, kind="stable")[evenly(len(self), count)])
        return replace(self, images=Rows(self.images, rows), labels=self.labels[rows])

    @property
    def digests(self) -> dict[str, str]:
        """The sha256 of the file that each image came from, "" where it came from none, by the file's name."""
        return digests_in(self.index)

    @cached_property
    def index(self) -> pd.DataFrame:
        """Where each image came from: file, class, sha256.

        Raises:
            ValueError: not the index of these images.
        """
        return read_index(self.folder, self.meta)


def prepare(source, destination, size=256, workers=None, progress=True, form="raw") -> Store:
    """Turn a folder with one sub-folder for each class into a prepared store (§2).

    Each picture is scaled until its shorter side has `size` pixels, and the central square is kept. Killed at any
    moment and called again, it goes on where it was and ends with the same bytes. A destination that is already
    prepared from the same files is opened, not made again. Files that cannot be images are listed with their reasons
    in `meta["rejected"]`, and the run goes on.

    Args:
        source: the folder; classes are its sub-folders in sorted order, files are taken from any depth below them.
        destination: the store's folder; it appears whole or not at all.
        workers: threads that decode; one a core unless given.
        form: "raw", or "jpeg" for a tenth of the space and slower reading.

    Raises:
        FileNotFoundError, ValueError: no source folder, no classes in it, a class without an image, or a destination
            that lies in the source.
        FileExistsError: the destination holds something else, or is a link to nothing.
        OSError: nothing can be written there, or there is not enough room; says how much there is.
    """
    require_place(Path(destination), Path(source))
    _make({Path(destination): list_files(Path(source))}, size, form, workers, progress)
    return open_store(destination)


def _make(stores: dict[Path, Split], size=256, form="raw", workers=None, progress=True, say=None) -> None:
    """Prepare the stores of these splits, once it is known, and said, that there is room for all of them."""
    if (said := room_for(stores, size, form)) and say is not None:
        say(said)
    for destination, split in stores.items():
        new = not destination.exists()
        prepare_files(split, destination, size, workers, progress, form)
        if new and progress and say is None:  # whoever has `say` lists them all
            say_rejected(destination, split.about["source"])


def open_store(folder) -> Store:
    """Open a prepared store; the images stay on disk until they are read. Raises as `read_store` does."""
    return Store(Path(folder), *read_store(Path(folder)))


def load_dataset(name="auto", data_dir=None) -> dict[str, Store]:
    """The training and validation stores of a data set, prepared on first use: {"train": store, "val": store}.

    For "ilsvrc2010" there is {"test": store} too, where its pictures are.

    Args:
        name: "embedded", "embedded32", "cifar10", "imagenette", "imagenette73" (the same photographs at 73 pixels, as
            the built-in ones), "tiny_imagenet" (200 classes of ImageNet), "ilsvrc2010", "ilsvrc2012", "auto" (the
            largest that is prepared), or the path of a folder that has one sub-folder for each class, itself or in its
            train/ and val/, or that holds parquet files, or ImageNet as in `data.ilsvrc`. With "-jpeg" after
            "imagenette", "ilsvrc2010" or "ilsvrc2012", the same stored as JPEG.
        data_dir: where data sets lie; $ALEXNET_DATA or `data/` unless given. It is written to in `prepared/` alone, or
            not at all where $ALEXNET_STORES names another folder for the stores.

    Raises:
        ValueError: an unknown name; a folder that is no data set; classes that differ between the splits; stores that
            are damaged, do not belong together, or were made from other files than their folders hold now.
        FileNotFoundError: the data set is not there, with how to get it. It is never replaced by another.
        OSError: there is no room for the stores, or nothing can be written there; before any work.
        ImportError: parquet files, and no pyarrow.
    """
    name, root = choose_dataset(name, data_dir)[0], _root(data_dir)
    prepared = _prepared_folder(name, root)
    if not is_prepared(name, root):
        _prepare(name, root)
    for split in _splits(name, root):  # all may have been there already
        clear_up(prepared / split)
    stores = {split: open_store(prepared / split) for split in _splits(name, root)}
    check_classes({s: store.classes for s, store in stores.items()}, f"{prepared} (remove it to prepare anew)")
    if len({store.size for store in stores.values()}) > 1:
        found = ", ".join(f"{store.folder} has {store.size} pixels a side" for store in stores.values())
        raise ValueError(f"{found}; the splits of a data set have one size: delete one of them and prepare it again")
    with suppress(FileNotFoundError):  # the source was removed, for it is not needed any more
        for split, place in _watched(name, root).items():
            if "patched" not in stores[split].meta:  # what then replaced some of the files may be gone
                sources.require_unchanged(stores[split], *place)
    return stores


def _prepare(name: str, root: Path, say: Callable[[str], None] | None = None) -> None:
    """Make the stores of a data set. All splits are listed and compared, and their room is said, before any work."""
    prepared = _prepared_folder(name, root)
    require_writable(prepared)
    if name == "embedded32":
        from .data.embedded import CLASSES, small_pictures

        for seed, split in enumerate(SPLITS):
            images, labels = small_pictures(seed, EMBEDDED32_COUNTS[split])
            write_store(prepared / split, images, labels, CLASSES, {"source": name})
    elif name == "cifar10" and _is_archive(name, root):
        cifar10.prepare_official(root / name, prepared)
    else:
        listed = {split: _list_split(name, root, split) for split in _splits(name, root)}
        check_classes({split: of.classes for split, of in listed.items()}, _source_folder(name, root))
        for split, (place, _) in _watched(name, root).items():
            require_place(prepared / split, place)
        if name == "cifar10":
            for of in listed.values():
                of.about["lossy"] = cifar10.is_lossy(of.files)
        form, stores = "jpeg" if name in AS_JPEG else "raw", {prepared / split: of for split, of in listed.items()}
        _make(stores, STORE_SIZES.get(name, 256), form, say=say)


def _list_split(name: str, root: Path, split: str, progress=True) -> Split:
    """The files of a split, in the order of its store."""
    folder = _source_folder(name, root)
    if contest := _contest(name, root):
        return ilsvrc.list_split(contest, folder, split, _prepared_folder(name, root) / ".lists", progress)
    if name == "tiny_imagenet":
        return tiny_imagenet.list_split(folder, split, stores_dir(root))
    if parquet.shards(folder):
        return parquet.list_split(folder, split)
    return list_files(*_class_folders(name, root)[split])


def source_files(name: str, split: str, count: int, data_dir=None) -> list[SourceFile]:
    """What `count` evenly spaced images of a store were made from, in order; `.read_bytes()` gives the content.

    Raises:
        FileNotFoundError: the data set's pictures are not there.
        ValueError: they are no longer those that the store was made from.
    """
    name, root = choose_dataset(name, data_dir)[0], _root(data_dir)
    store = _prepared_folder(name, root) / split
    by_name = {file.name: file for file in _list_split(name, root, split, progress=False).files}
    digests = open_store(store).digests
    names = list(digests)
    try:
        files = [by_name[names[row]] for row in evenly(len(names), count)]
    except KeyError as error:
        raise ValueError(f"{error}, which {store} was made from, is no longer there") from None
    if changed := sources.other_content(files, digests):
        raise ValueError(f"{changed!r}, which {store} was made from, is another picture now")
    return files


def example_files(name: str, count: int) -> tuple[str, list[SourceFile]]:
    """Files of training pictures to show, and whose they are: the built-in ones' where the data set's are not here."""
    try:
        return choose_dataset(name)[0], source_files(name, "train", count)
    except FileNotFoundError:
        load_dataset("embedded")
        return "embedded", source_files("embedded", "train", count)


def is_prepared(name: str, data_dir=None) -> bool:
    """Whether all stores of a data set are there already."""
    name, root = choose_dataset(name, data_dir)[0], _root(data_dir)
    return all((_prepared_folder(name, root) / split / "meta.json").is_file() for split in _splits(name, root))


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
        store = _prepared_folder(known, _root(data_dir)) / "train"
        if (store / "meta.json").is_file() and STORE_SIZES.get(known, 256) > 32:  # what AlexNet's first layers can take
            sizes[known] = read_meta(store)["images"]
    largest = max(sizes, key=sizes.get, default="embedded")
    if largest == "embedded":
        return largest, "embedded, the built-in collection: no larger data set is prepared here"
    count = f"{sizes[largest]:,} training images"
    return largest, f"{largest}: with {count} the largest data set that is prepared here"


# ------------------------------------------------------------------------------------------------ where things lie


def _is_folder(name: str) -> bool:
    try:
        return bool(name) and Path(name).expanduser().is_dir()
    except (OSError, RuntimeError, ValueError):  # too long a name, the home of nobody, a null byte
        return False


def _root(folder) -> Path:
    return data_dir() if folder is None else Path(folder).expanduser().resolve()


def _prepared_folder(name: str, root: Path) -> Path:
    """NAME-SIZE among the stores; of a path, its last part and a hash of the whole stand for the name."""
    size = STORE_SIZES.get(name, 256)
    if name not in HOW_TO_GET:
        path = Path(name).expanduser().resolve()
        name = f"{path.name}-{sha256(str(path).encode())[:8]}"
    return stores_dir(root) / f"{name}-{size}"


def _source_folder(name: str, root: Path) -> Path:
    if name not in HOW_TO_GET:
        return Path(name).expanduser().resolve()
    return REPOSITORY / "data" / name if name == "embedded" and IN_CHECKOUT else root / SOURCES.get(name, name)


def _contest(name: str, root: Path) -> str | None:
    """The contest whose pictures a data set is, by its name or by what lies in its folder."""
    source = SOURCES.get(name, name)
    return (
        ilsvrc.found_in(_source_folder(name, root)) if name not in HOW_TO_GET else source * (source in ilsvrc.CONTESTS)
    )


def _is_archive(name: str, root: Path) -> bool:
    """Whether the source, not that of a contest, is no folder of pictures that may change."""
    if name in ("tiny_imagenet", "embedded32") or name == "cifar10" and cifar10.is_official(root / name):
        return True
    return bool(parquet.shards(_source_folder(name, root)))


def _watched(name: str, root: Path) -> dict[str, tuple[Path, str | None]]:
    """`_class_folders` of the splits that are such folders, and not archives: their pictures may change."""
    if contest := _contest(name, root):
        return {split: (place, None) for split, place in ilsvrc.by_class(contest, _source_folder(name, root)).items()}
    return {} if _is_archive(name, root) else _class_folders(name, root)


def _splits(name: str, root: Path) -> tuple[str, ...]:
    """The splits of a data set. The test pictures of ILSVRC-2010 are there or not, and may be removed once prepared."""
    if (_prepared_folder(name, root) / "test" / "meta.json").is_file():
        return (*SPLITS, "test")
    contest = _contest(name, root)
    return ilsvrc.splits(contest, _source_folder(name, root)) if contest else SPLITS


def _class_folders(name: str, root: Path) -> dict[str, tuple[Path, str | None]]:
    """For each split its folder of class folders, and which part of it is meant."""
    folder = _source_folder(name, root)
    if (folder / ARCHIVES["imagenette"].name).is_file():
        folder = unpacked("imagenette", folder, stores_dir(root))
    found = sources.find_splits(folder) if folder.is_dir() else None
    if name in HOW_TO_GET and (not found or found["train"][1]):
        how = HOW_TO_GET[name].format(folder=folder)
        raise FileNotFoundError(f"data set {name!r} is not in {folder}: {how}")
    return found


# ------------------------------------------------------------------------------------------------ the command


def main(arguments=None) -> None:
    """`python -m alexnet_lib.dataset prepare SOURCE DESTINATION`, `prepare NAME`, or `download NAME`."""
    parser = argparse.ArgumentParser(prog="python -m alexnet_lib.dataset", description=(__doc__ or " ").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("prepare", help="make a store from a folder of pictures, or those of a data set")
    command.add_argument("source", help="a folder with one sub-folder for each class; by itself, a data set's name")
    command.add_argument("destination", type=Path, nargs="?", help="the store to make")
    command.add_argument("--size", type=int, help="side of the stored images (256)")
    command.add_argument("--form", choices=FORMS, help="jpeg: a tenth of the space, slower to read (raw)")
    command.add_argument("--workers", type=int, help="decoding threads (one a core)")
    command = commands.add_parser("download", help="fetch a data set from its official host")
    command.add_argument("name", choices=list(ARCHIVES))
    given = parser.parse_args(arguments)
    with ends_well(parser, "what is fetched and prepared so far is kept"):
        if given.command == "download":
            fetch(given.name, data_dir() / given.name)
            counts = " and ".join(f"{len(store):,}" for store in _load(given.name).values())
            print(f"{given.name}: {counts} images are ready")
        elif given.destination is None:
            if (given.size, given.form, given.workers) != (None, None, None):
                parser.error("--size, --form and --workers are of a named destination; NAME-jpeg stores a set as JPEG")
            for store in _load(given.source).values():
                print(described(store.folder))
        else:
            require_place(given.destination, Path(given.source))
            stores = {given.destination: list_files(Path(given.source))}
            size = 256 if given.size is None else given.size
            _make(stores, size, given.form or "raw", given.workers, say=print)
            print(described(given.destination))


def _load(name: str) -> dict[str, Store]:
    """The stores of a data set; prints what they will take, where they are still to be made."""
    if not is_prepared(name):
        _prepare(choose_dataset(name)[0], data_dir(), print)
    return load_dataset(name)


if __name__ == "__main__":
    main()
