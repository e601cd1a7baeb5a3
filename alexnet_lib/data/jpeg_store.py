"""§2, a store of a tenth of the size: the prepared pictures as JPEG files in one, decoded when they are asked for.

The 2012 program kept its pictures so, too (convdata_jpeg.py), at quality 85 by the names of its folders. A photograph
that was a JPEG before has been through it twice then, and is some grey levels from what the raw store holds.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np

from .. import cores

QUALITY = 90
IMAGES, OFFSETS = "images.jpegs", "offsets.npy"


class JpegImages:
    """Stands for the array of a raw store, uint8 (N, S, S, 3).

    A slice is another one of these, and reads nothing; whole numbers, lists and arrays of them give arrays, decoded by
    all cores. Further indices are those of the decoded arrays.

    Raises:
        ValueError: when a picture is asked for that is damaged.
    """

    dtype, ndim = np.dtype(np.uint8), 4

    def __init__(self, path: Path, data: np.ndarray, starts: np.ndarray, ends: np.ndarray, size: int):
        self.path, self.data, self.starts, self.ends, self.size = path, data, starts, ends, size

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self), self.size, self.size, 3

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, rows):
        if isinstance(rows, tuple):
            images = np.asarray(self[rows[0]])
            return images[(slice(None),) * (images.ndim == 4) + rows[1:]]
        starts, ends = self.starts[rows], self.ends[rows]
        if isinstance(rows, slice):
            return JpegImages(self.path, self.data, starts, ends, self.size)
        return self._decode(starts.ravel(), ends.ravel()).reshape(*starts.shape, *self.shape[1:])

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self._decode(self.starts, self.ends).astype(dtype or self.dtype, copy=False)

    def _decode(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """The pictures between these bytes, (len(starts), S, S, 3)."""
        from simplejpeg import decode_jpeg  # here, because a raw store needs no decoder

        images = np.empty((len(starts), *self.shape[1:]), np.uint8)

        def decode(place: int) -> None:
            try:
                picture = decode_jpeg(self.data[starts[place] : ends[place]])
                if picture.shape != images.shape[1:]:
                    raise ValueError(f"{picture.shape[1]} × {picture.shape[0]} pixels, not {self.size} a side")
            except ValueError as error:
                raise ValueError(
                    f"{self.path}: the picture at byte {starts[place]:,} is damaged ({error}). Delete the folder "
                    f"{self.path.parent} and prepare it again"
                ) from None
            images[place] = picture

        for _ in _threads(os.getpid()).map(decode, range(len(starts))):
            pass
        return images


@cache
def _threads(process: int) -> ThreadPoolExecutor:
    """Decoding leaves Python's lock, so threads use all cores. Each process has its own: a fork leaves them behind."""
    return ThreadPoolExecutor(cores(), "decode")


def encode(image: np.ndarray) -> bytes:
    """A picture (S, S, 3) uint8 as JPEG."""
    from simplejpeg import encode_jpeg

    return encode_jpeg(image, QUALITY, colorsubsampling="420")
