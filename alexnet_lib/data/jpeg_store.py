"""§2, a store of a tenth of the size: the prepared pictures as JPEG, one after the other in one file.

The program of 2012 kept its pictures as JPEG, too (convdata_jpeg.py), at quality 85 by the names of its folders. A
photograph that was a JPEG before has then been compressed twice, and is some grey levels from what the raw store holds.
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
    """The pictures between `offsets` (N + 1) of a file's bytes: an index of whole numbers decodes them, on all cores.

    Raises:
        ValueError: a picture that is asked for is damaged.
    """

    def __init__(self, path: Path, data: np.ndarray, offsets: np.ndarray, size: int):
        self.path, self.data, self.offsets = path, data, offsets
        self.shape = len(offsets) - 1, size, size, 3

    def __getitem__(self, rows) -> np.ndarray:
        rows = np.asarray(rows)
        images = np.empty((rows.size, *self.shape[1:]), np.uint8)
        list(_threads(os.getpid()).map(self._decode, rows.ravel(), images))
        return images.reshape(*rows.shape, *self.shape[1:])

    def _decode(self, row: int, image: np.ndarray) -> None:
        from simplejpeg import decode_jpeg  # here, because a raw store needs no decoder

        start, end = self.offsets[row : row + 2]
        try:
            picture = decode_jpeg(self.data[start:end])
            if picture.shape != image.shape:
                raise ValueError(f"{picture.shape[1]} × {picture.shape[0]} pixels, not {len(image)} a side")
        except ValueError as error:
            raise ValueError(
                f"{self.path}: the picture at byte {start:,} is damaged ({error}). Delete the folder "
                f"{self.path.parent} and prepare it again"
            ) from None
        image[:] = picture


@cache
def _threads(process: int) -> ThreadPoolExecutor:
    """Decoding releases Python's lock, so threads use all cores. Each process has its own: a fork drops them."""
    return ThreadPoolExecutor(cores(), "decode")


def encode(image: np.ndarray) -> bytes:
    """A picture (S, S, 3) uint8 as JPEG."""
    from simplejpeg import encode_jpeg

    return encode_jpeg(image, QUALITY, colorsubsampling="420")
