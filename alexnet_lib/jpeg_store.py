"""§2, a store of a tenth of the size: the prepared pictures as JPEG files in one, decoded when they are asked for.

The 2012 program kept its pictures so, too (convdata_jpeg.py), at quality 85 by the names of its folders. A photograph
that was a JPEG before has been through it twice then, and is some grey levels from what the raw store holds.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np

from . import cores

QUALITY = 90
IMAGES, OFFSETS = "images.jpegs", "offsets.npy"


class JpegImages:
    """Stands for the array of a raw store, uint8 (N, S, S, 3).

    A slice is another one of these, and reads nothing; whole numbers, lists and arrays of them give arrays, decoded by
    all cores. Further indices are those of the decoded arrays.
    """

    dtype, ndim = np.dtype(np.uint8), 4

    def __init__(self, data: np.ndarray, starts: np.ndarray, ends: np.ndarray, size: int):
        self.data, self.starts, self.ends, self.size = data, starts, ends, size

    @classmethod
    def open(cls, folder: Path, size: int) -> "JpegImages":
        """The pictures of a store; they stay on disk until they are decoded."""
        offsets = np.load(folder / OFFSETS)
        # "c": writable in memory and never on disk, so that torch shares the pages without a warning
        return cls(np.asarray(np.memmap(folder / IMAGES, np.uint8, "c")), offsets[:-1], offsets[1:], size)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self), self.size, self.size, 3

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, rows):
        if isinstance(rows, tuple):
            images = np.asarray(self[rows[0]])
            return images[(slice(None),) * (images.ndim == 4) + rows[1:]]
        if isinstance(rows, slice):
            return JpegImages(self.data, self.starts[rows], self.ends[rows], self.size)
        chosen = np.arange(len(self))[rows]
        return self._decode(chosen) if chosen.ndim else self._decode(chosen[None])[0]

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self._decode(np.arange(len(self))).astype(dtype or self.dtype, copy=False)

    def _decode(self, rows: np.ndarray) -> np.ndarray:
        """Some of the pictures, (len(rows), S, S, 3)."""
        from simplejpeg import decode_jpeg  # here, because a raw store needs no decoder

        images = np.empty((len(rows), self.size, self.size, 3), np.uint8)

        def decode(place: int) -> None:
            row = rows[place]
            images[place] = decode_jpeg(self.data[self.starts[row] : self.ends[row]])

        for _ in _threads().map(decode, range(len(rows))):
            pass
        return images


@cache
def _threads() -> ThreadPoolExecutor:
    """Decoding leaves Python's lock, so threads use all cores."""
    return ThreadPoolExecutor(cores(), "decode")


def encode(image: np.ndarray) -> bytes:
    """A picture (S, S, 3) uint8 as JPEG."""
    from simplejpeg import encode_jpeg

    return encode_jpeg(image, QUALITY, colorsubsampling="420")
