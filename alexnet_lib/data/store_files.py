"""§2, opening a prepared store: its files are checked against each other, and the images are mapped, not read."""

import json
import math
import mmap
import sys
from pathlib import Path

import numpy as np

from ..colours import ColourPCA
from .jpeg_store import IMAGES, OFFSETS, JpegImages
from .pieces import Rows

FORMS, RAW = ("raw", "jpeg"), "images.npy"
COUNT = "a whole number from 1 on", lambda value: type(value) is int and value >= 1
TEXTS = "a list of names", lambda value: isinstance(value, list) and value and all(isinstance(v, str) for v in value)
META = {"classes": TEXTS, "images": COUNT, "size": COUNT, "files": COUNT} | {
    "colour_pca": ("a table", lambda value: isinstance(value, dict)),
    "rejected": ("a list", lambda value: isinstance(value, list)),
    "fingerprint": ("a text", lambda value: isinstance(value, str)),
    "form": (" or ".join(FORMS), lambda value: value in (None, *FORMS)),  # None: raw
}
NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)  # Python knows the name from 3.13 on; the number is Linux's


def read_store(folder: Path):
    """(images, labels, mean, colour axes, classes, meta) of a store; `dataset` gives the shapes.

    Raises:
        FileNotFoundError: no store there.
        ValueError: a file that is damaged, or does not belong with the others.
    """
    meta = read_meta(folder)
    count, size = meta["images"], meta["size"]
    labels = _read(folder / "labels.npy", np.int64, (count,)).copy()
    least, most, last = labels.min(), labels.max(), len(meta["classes"]) - 1
    _require(least >= 0 and most <= last, folder / "labels.npy", f"labels from {least} to {most}", f"0 to {last}")
    mean = _read(folder / "mean.npy", np.float32, (size, size, 3)).copy()
    grey = bool(np.isfinite(mean).all() and mean.min() >= 0 and mean.max() <= 255)
    _require(grey, folder / "mean.npy", "a mean that is not of grey levels", "0 to 255")
    if meta.get("form") == "jpeg":
        images = _open_jpeg(folder, count, size)
    else:
        images = _read(folder / RAW, np.uint8, (count, size, size, 3))
    return images, labels, mean, _colour_axes(meta, folder), meta["classes"], meta


def read_meta(folder: Path) -> dict:
    """What a store says of itself; raises as `read_store` does."""
    path = folder / "meta.json"
    if not path.is_file():
        raise FileNotFoundError(f"no prepared store in {folder}; `prepare(source, {str(folder)!r})` makes one")
    try:
        meta = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"no JSON ({error})", "what `prepare` writes") from None
    _require(isinstance(meta, dict), path, f"a {type(meta).__name__}", "a table of names and values")
    for name, (accepted, fits) in META.items():
        _require(fits(meta.get(name)), path, f"{name} is {_short(meta.get(name))}", accepted)
    return meta


def _colour_axes(meta: dict, folder: Path) -> ColourPCA:
    try:
        values, axes = (np.array(meta["colour_pca"][name], float) for name in ("eigenvalues", "eigenvectors"))
        fits = values.shape == (3,) and axes.shape == (3, 3) and np.isfinite(values).all()
        fits = fits and (np.diff(values) <= 0).all() and values[2] >= 0 and np.allclose(axes.T @ axes, np.eye(3))
    except (KeyError, TypeError, ValueError):
        fits = False
    accepted = "three numbers, descending from the largest, and three axes at right angles"
    _require(fits, folder / "meta.json", f"colour_pca is {_short(meta['colour_pca'])}", accepted)
    return ColourPCA(values, axes)


def _open_jpeg(folder: Path, count: int, size: int) -> Rows:
    path, offsets = folder / IMAGES, _read(folder / OFFSETS, np.int64, (count + 1,))
    grows = offsets[0] == 0 and bool((np.diff(offsets) > 0).all())
    _require(grows, folder / OFFSETS, "offsets that do not grow", "0 and then larger from picture to picture")
    length = path.stat().st_size if path.is_file() else 0
    _require(length == offsets[-1], path, f"{length:,} bytes", f"{offsets[-1]:,}, by {OFFSETS}")
    return Rows(JpegImages(path, _map(path), offsets, size), np.arange(count))


def _read(path: Path, dtype, shape: tuple[int, ...]) -> np.ndarray:
    """The array in an .npy file, mapped, if by its header and its size the file holds just this."""
    dtype, accepted = np.dtype(dtype), f"{np.dtype(dtype)} {shape}, as meta.json says"
    _require(path.is_file(), path, "no such file", accepted)
    with open(path, "rb") as file:
        try:
            if np.lib.format.read_magic(file) != (1, 0):
                raise ValueError("of another version")
            found_shape, by_columns, found = np.lib.format.read_array_header_1_0(file)
        except Exception as error:  # numpy parses the header as Python, and hostile bytes raise nearly anything
            raise _damaged(path, f"no .npy file ({_short(str(error))})", accepted) from None
        start, length = file.tell(), path.stat().st_size
    fits = found == dtype and found_shape == shape and not by_columns
    _require(fits, path, f"{found} {found_shape}{', by columns' * by_columns}", accepted)
    wanted = start + dtype.itemsize * math.prod(shape)
    _require(length == wanted, path, f"{length:,} bytes", f"{wanted:,}, by its header")
    return _map(path)[start:].view(dtype).reshape(shape)


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
        raise _damaged(path, found, accepted)


def _damaged(path: Path, found: str, accepted: str) -> ValueError:
    return ValueError(f"{path}: {found}; accepted: {accepted}. Delete the folder {path.parent} and prepare it again")


def _short(value) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
