"""§2, opening a prepared store: its files are checked against each other, and the images are mapped, not read."""

import math
import mmap
import sys
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from ..colours import ColourPCA
from ..files import Stored, damage, read_json, read_table, sha256, short
from .jpeg_store import IMAGES, OFFSETS, JpegImages
from .pieces import Rows, evenly
from .sources import printable

FORMS, RAW = ("raw", "jpeg"), "images.npy"
SHOWN = 50  # rejected files; the rest is counted
SAMPLED = 32  # images whose bytes are compared with their digest when a store is opened
NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)  # Python knows the name from 3.13 on; the number is Linux's


class Rejected(Stored):
    """A file that is no picture of the store, and why."""

    file: str
    reason: str


class Meta(Stored):
    """meta.json, as far as anything depends on it."""

    classes: Annotated[list[str], Field(min_length=1)]
    images: Annotated[int, Field(ge=1)]
    size: Annotated[int, Field(ge=1)]
    files: Annotated[int, Field(ge=1)]
    colour_pca: dict
    rejected: list[Rejected]
    fingerprint: str
    form: Literal["raw", "jpeg"] = "raw"
    digests: dict[str, str] = {}  # of the other files, and of some of the images


def read_store(folder: Path):
    """(images, labels, mean, colour axes, classes, meta) of a store; `dataset` gives the shapes.

    Raises:
        FileNotFoundError: no store there.
        ValueError: a file that is damaged, or does not belong with the others.
    """
    meta = read_meta(folder)
    count, size = meta["images"], meta["size"]
    labels = _read(folder / "labels.npy", np.int64, (count,), meta).copy()
    least, most, last = labels.min(), labels.max(), len(meta["classes"]) - 1
    _require(least >= 0 and most <= last, folder / "labels.npy", f"labels from {least} to {most}", f"0 to {last}")
    mean = _read(folder / "mean.npy", np.float32, (size, size, 3), meta).copy()
    grey = bool(np.isfinite(mean).all() and mean.min() >= 0 and mean.max() <= 255)
    _require(grey, folder / "mean.npy", "a mean that is not of grey levels", "0 to 255")
    if meta.get("form") == "jpeg":
        images = _open_jpeg(folder, meta)
    else:
        images = _read(folder / RAW, np.uint8, (count, size, size, 3))
        each, end = size * size * 3, (folder / RAW).stat().st_size
        require_digest(meta, folder / RAW, *samples(folder / RAW, range(end - count * each, end + 1, each)))
    return images, labels, mean, _colour_axes(meta, folder), meta["classes"], meta


def read_meta(folder: Path) -> dict:
    """What a store says of itself; raises as `read_store` does."""
    path = folder / "meta.json"
    if not path.is_file():
        raise FileNotFoundError(f"no prepared store in {folder}; `prepare(source, {str(folder)!r})` makes one")
    return read_json(path, Meta, f"Delete the folder {folder} and prepare it again")


def read_index(folder: Path, meta: dict):
    """The table of a store's index.csv, a row an image: file, class, sha256.

    Raises:
        ValueError: not the index of these images.
    """
    path, remedy = folder / "index.csv", f"Delete the folder {folder} and prepare it again"
    require_digest(meta, path, path.read_bytes())
    index = read_table(path, "file", "class", "sha256", remedy=remedy, keep_default_na=False, dtype=str)
    if len(index) != meta["images"]:
        raise damage(path, f"{len(index)} lines", f"{meta['images']}", remedy)
    return index


def digests_in(index) -> dict[str, str]:
    """The sha256 of the file that each image came from, "" where it came from none, by the file's name."""
    return dict(zip(index["file"], index["sha256"], strict=True))


def _colour_axes(meta: dict, folder: Path) -> ColourPCA:
    try:
        values, axes = (np.array(meta["colour_pca"][name], float) for name in ("eigenvalues", "eigenvectors"))
        fits = values.shape == (3,) and axes.shape == (3, 3) and np.isfinite(values).all()
        fits = fits and (np.diff(values) <= 0).all() and values[2] >= 0 and np.allclose(axes.T @ axes, np.eye(3))
    except (KeyError, TypeError, ValueError):
        fits = False
    accepted = "three numbers, descending from the largest, and three axes at right angles"
    _require(fits, folder / "meta.json", f"colour_pca is {short(meta['colour_pca'])}", accepted)
    return ColourPCA(values, axes)


def _open_jpeg(folder: Path, meta: dict) -> Rows:
    path, count, size = folder / IMAGES, meta["images"], meta["size"]
    offsets = _read(folder / OFFSETS, np.int64, (count + 1,), meta)
    grows = offsets[0] == 0 and bool((np.diff(offsets) > 0).all())
    _require(grows, folder / OFFSETS, "offsets that do not grow", "0 and then larger from picture to picture")
    length = path.stat().st_size if path.is_file() else 0
    _require(length == offsets[-1], path, f"{length:,} bytes", f"{offsets[-1]:,}, by {OFFSETS}")
    require_digest(meta, path, *samples(path, offsets))
    return Rows(JpegImages(path, _map(path), offsets, size), np.arange(count))


def described(store: Path) -> str:
    """For a person: how many images and classes a store has, and which files aren't in it, the first SHOWN by name."""
    meta = read_meta(store)
    rejected, images, classes = meta["rejected"], meta["images"], len(meta["classes"])
    lines = [f"{meta['files']} files: {images} images of {classes} classes, {len(rejected)} rejected"]
    lines += [f"  {printable(entry['file'])}: {printable(entry['reason'])}" for entry in rejected[:SHOWN]]
    if len(rejected) > SHOWN:
        lines.append(f"  and {len(rejected) - SHOWN:,} more, listed in {store / 'meta.json'}")
    return "\n".join(lines)


def samples(path: Path, places) -> list[bytes]:
    """The bytes of SAMPLED images, evenly spaced, of which each begins at its place in a file and ends at the next."""
    with open(path, "rb") as file:
        found = []
        for row in evenly(len(places) - 1, SAMPLED):
            file.seek(places[row])
            found.append(file.read(places[row + 1] - places[row]))
        return found


def require_digest(meta: dict, path: Path, *data) -> None:
    """Make sure that a file holds the bytes that were written, all of them or samples; older stores don't tell."""
    fits = meta.get("digests", {}).get(path.name) in (None, sha256(*data))
    _require(fits, path, "other bytes than were written", "those of its digest in meta.json")


def _read(path: Path, dtype, shape: tuple[int, ...], meta: dict | None = None) -> np.ndarray:
    """The array in an .npy file, mapped, if by header, size and the digest in `meta` the file holds just this."""
    dtype, accepted = np.dtype(dtype), f"{np.dtype(dtype)} {shape}, as meta.json says"
    _require(path.is_file(), path, "no such file", accepted)
    with open(path, "rb") as file:
        try:
            if np.lib.format.read_magic(file) != (1, 0):
                raise ValueError("of another version")
            found_shape, by_columns, found = np.lib.format.read_array_header_1_0(file)
        except Exception as error:  # numpy parses the header as Python, and hostile bytes raise nearly anything
            found_shape, by_columns, found = None, False, f"no .npy file ({short(str(error))})"
        start, length = file.tell(), path.stat().st_size
    fits = found_shape == shape and found == dtype and not by_columns
    _require(fits, path, f"{found} {found_shape or ''}{', by columns' * by_columns}", accepted)
    wanted = start + dtype.itemsize * math.prod(shape)
    _require(length == wanted, path, f"{length:,} bytes", f"{wanted:,}, by its header")
    data = _map(path)
    if meta is not None:
        require_digest(meta, path, data)
    return data[start:].view(dtype).reshape(shape)


def _map(path: Path) -> np.ndarray:
    """The bytes of a file, read as they are asked for.

    The map can be written to in memory, never on disk, so torch shares the pages without a warning. Linux refuses such
    a map if it is larger than memory, unless told to reserve nothing. A system that still refuses gets a read-only one.
    """
    private = {"access": mmap.ACCESS_COPY}
    if sys.platform == "linux":
        private = {"flags": mmap.MAP_PRIVATE | NO_RESERVE, "prot": mmap.PROT_READ | mmap.PROT_WRITE}
    with open(path, "rb") as file:
        try:
            return np.frombuffer(mmap.mmap(file.fileno(), 0, **private), np.uint8)
        except OSError:
            return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)


def _require(fits: bool, path: Path, found: str, accepted: str) -> None:
    if not fits:
        raise damage(path, found, accepted, f"Delete the folder {path.parent} and prepare it again")
