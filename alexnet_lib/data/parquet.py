"""§2, Hugging Face's copies: parquet files of one row a picture, image {bytes, path} and label, read in place.

A row can't be had without its whole row group, so a store has the pictures in the order of the files, not by class.
"""

import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from ..files import Stored, damage, named_values
from .sources import SourceFile, Split, is_junk, readable, split_of

WANTED = {"image.bytes": ("BYTE_ARRAY",), "image.path": ("BYTE_ARRAY",), "label": ("INT32", "INT64")}
PART = re.compile(r".*-(\d+)-of-(\d+)(?:-[0-9a-f]+)?")
ROOM, TIMES = 2**26, 16  # bytes that are read at once from any file, and how many times its size from a large one
BATCH = 64  # rows
LONGEST_NAME = 1_000  # characters of a class, which each of its rows repeats; ImageNet's have up to a hundred or so
_LOCK = threading.Lock()  # otherwise each thread would read the same row group


def _not_long(name: str) -> str:
    if len(name) > LONGEST_NAME:
        raise ValueError(f"a name of at most {LONGEST_NAME:,} characters")
    return name


class Label(Stored):
    """What Hugging Face's metadata say of the column of labels; nothing, where it is of numbers alone."""

    names: list[Annotated[str, AfterValidator(_not_long)]] = []


class Features(Stored):
    label: Label = Label()


class Info(Stored):
    features: Features = Features()


class Metadata(Stored):
    info: Info = Info()


class Row(SourceFile):
    """A picture of a parquet file; `offset`: its row group, and its row in it; `size`: the mean of that group's."""

    def read_bytes(self) -> bytes:
        """Its bytes, none where the row has none; a ValueError for a damaged file, or far too large a row group."""
        group, row = self.offset
        with _LOCK:
            images = _group(self.path, group)
        return images[row] or b""


def shards(folder: Path) -> dict[str, list[Path]]:
    """The parquet files of "train" and "val" in a folder or its `data`, or in folders of theirs; {} without any.

    A test split counts as validation if there is none.
    """
    found = {}
    places = [folder, *(p for p in folder.iterdir() if p.is_dir())] if folder.is_dir() else []
    for place in (place for place in places if place in (folder, folder / "data") or split_of(place.name)):
        for path in sorted(place.glob("*.parquet")):
            if not is_junk(path.name) and (split := split_of(path.stem.split("-")[0]) or split_of(place.name)):
                found.setdefault(split, []).append(path)
    if "test" in found:
        found.setdefault("val", found["test"])
    return {split: found[split] for split in ("train", "val") if split in found}


def list_split(folder: Path, split: str) -> Split:
    """The pictures of a split in the order of its files, each named by its class and its own name; reads no picture.

    Raises:
        ImportError: pyarrow isn't installed; says what to install.
        ValueError: damaged files, other columns, a file or a split that is missing, a class without a picture.
    """
    found = shards(folder)
    if split not in found:
        raise ValueError(
            f"{folder} has parquet files of {', '.join(found)} alone; accepted are train-… and validation-…"
        )
    parts = [PART.fullmatch(path.stem) for path in found[split]]
    if any(parts) and (missing := int(next(filter(None, parts))[2]) - len(parts)):
        less = "few" if missing > 0 else "many"
        raise ValueError(f"{folder} has {len(parts)} parquet files of {split}, {abs(missing)} too {less}")
    numbers = sorted(int(part[1]) for part in parts if part)
    if any(parts) and numbers != list(range(len(parts))):
        raise ValueError(f"{folder} has the parquet files {numbers} of {split}, and not each of them once")
    columns = [_read_index(path) for path in found[split]]
    said = {path: names for path, (names, *_) in zip(found[split], columns, strict=True) if names}
    first = next(iter(said), None)
    if other := next((path for path, names in said.items() if names != said[first]), None):
        raise ValueError(f"{other} names its classes otherwise than {first}: the labels of the two don't mean the same")
    classes = said.get(first) or _numbered(found[split], [labels for _, labels, *_ in columns])
    own = Counter(Path(name).name for _, _, names, _ in columns for name in names if name)
    files, refused = [], []
    for path, (_, labels, names, rows) in zip(found[split], columns, strict=True):
        for number, (label, name, (place, size)) in enumerate(zip(labels, names, rows, strict=True)):
            name = Path(name).name if name and own[Path(name).name] == 1 else f"{path.stem}-{number:06}"
            if 0 <= label < len(classes):
                files.append(Row(readable(f"{classes[label]}/{name}"), label, path, size, place))
            else:
                refused.append({"file": name, "reason": f"label {label}, not 0 to {len(classes) - 1}"})
    if empty := sorted(set(range(len(classes))) - {file.label for file in files}):
        raise ValueError(f"{folder}: class {classes[empty[0]]!r} of {split} is left without an image")
    return Split(classes, files, {"source": f"{folder.name} {split}"}, refused)


def _numbered(paths: list[Path], labels: list[list[int]]) -> list[str]:
    """Names for classes that have none."""
    largest, rows = [max(each, default=-1) for each in labels], sum(map(len, labels))
    if (last := max(largest)) >= rows:  # before a list of so many names is made
        path = paths[largest.index(last)]
        raise ValueError(f"{path} has label {last} among {rows} rows; accepted are numbers from 0 on, none left out")
    return [str(i) for i in range(last + 1)]


@contextmanager
def _open(path: Path) -> Iterator:
    """An open file; a ValueError says if it is damaged, as far as it is read in the block."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile  # here, because few need it
    except ImportError:
        raise ImportError(
            f"{path} is read with pyarrow, which isn't installed: `python -m pip install pyarrow`, or the extra "
            "alexnet-walkthrough[parquet]"
        ) from None
    try:
        with ParquetFile(path) as file:
            yield file
    except (ArrowException, OSError, UnicodeError, KeyError) as error:
        raise ValueError(f"{path} is damaged or not a whole copy: {error}") from None


def _read_index(path: Path) -> tuple[list[str], list[int], list[str], Iterator[tuple]]:
    """Of a file: the names of its classes, and of each row the label, the picture's name, and `offset` and `size`."""
    with _open(path) as file:
        schema, metadata = file.schema, file.metadata
        kinds = {schema.column(i).path: (i, schema.column(i).physical_type) for i in range(len(schema))}
        if wrong := [name for name, accepted in WANTED.items() if kinds.get(name, (0, ""))[1] not in accepted]:
            raise ValueError(
                f"{path} has columns {', '.join(kinds)}, and no {wrong[0]}; accepted: image {{bytes, path}}, label"
            )
        if metadata.num_rows > path.stat().st_size:  # a few bytes can stand for any number of empty rows
            raise ValueError(f"{path} is damaged or not a whole copy: {metadata.num_rows:,} rows in fewer bytes")
        groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
        labels, paths = [], []
        for batch, names in _batches(path, file, [*range(len(groups))], "path", ("label",)):
            labels += [-1 if label is None else label for label in batch["label"].cast("int64").to_pylist()]
            paths += names.cast("string").to_pylist()
        said = file.schema_arrow.metadata or {}
    if (count := sum(group.num_rows for group in groups)) != len(labels):
        raise ValueError(f"{path} is damaged or not a whole copy: {len(labels)} rows, and {count} by its row groups")
    sizes = [g.column(kinds["image.bytes"][0]).total_uncompressed_size // max(1, g.num_rows) for g in groups]
    about, names = said.get(b"huggingface"), []
    if about is not None:
        where, remedy = f"{path}, its metadata", "Download it again"
        names = Metadata(**named_values(where, about, Metadata, remedy)).info.features.label.names
        try:
            names = [readable(name) for name in names]
        except UnicodeEncodeError as error:  # half of a pair, which JSON can escape
            raise damage(where, f"a class {error.object!a}", "names that can be written", remedy) from None
    places = (((i, row), sizes[i]) for i, g in enumerate(groups) for row in range(g.num_rows))
    return names, labels, paths, places


@lru_cache(maxsize=4)
def _group(path: Path, group: int) -> list[bytes | None]:
    """The bytes of the pictures of a row group."""
    with _open(path) as file:
        return [data for _, images in _batches(path, file, [group], "bytes") for data in images.to_pylist()]


def _batches(path: Path, file, groups: list[int], field: str, others: tuple[str, ...] = ()) -> Iterator[tuple]:
    """A field of `image` in some row groups, a few rows at a time: each batch, with other columns, and the field in it.

    One value may stand for any number of rows, so the size that a file tells is no limit: what comes out of it is
    counted. No batch takes more than the limit, either, as none of its values is larger than its column.
    """
    from pyarrow.compute import struct_field

    name, size = f"image.{field}", path.stat().st_size
    room, taken = max(ROOM, TIMES * size), 0
    columns = [file.metadata.row_group(i).column(j) for i in groups for j in range(file.metadata.num_columns)]
    stored = sum(column.total_uncompressed_size for column in columns if column.path_in_schema == name)
    where = f"row group {groups[0]}" if len(groups) == 1 else "its row groups"
    too_much = ValueError(
        f"{path} has {size:,} bytes, and {where} more than {room:,} of {name}; accepted are at most {ROOM:,}, or "
        f"{TIMES} times the file. Download it again; a file of your own wants smaller row groups, or shorter names"
    )
    if stored > room:
        raise too_much
    for batch in file.iter_batches(min(room // max(stored, 1), BATCH), groups, [*others, name]):
        values = struct_field(batch["image"], field).cast("large_binary")
        taken += values.nbytes
        if taken > room:
            raise too_much
        yield batch, values
