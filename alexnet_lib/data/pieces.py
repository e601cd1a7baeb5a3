"""§2, stores that don't fit into memory: pictures that stay on disk, some of their rows, a few at a time."""

from collections.abc import Callable

import numpy as np

PIECE = 32  # pictures; 25 MB as float32 at 256 pixels


def evenly(total: int, count: int) -> np.ndarray:
    """`count` of the rows from 0 to `total` - 1, evenly spaced from the first to the last; all if there are no more."""
    return np.linspace(0, total - 1, min(count, total)).astype(int)


class Rows:
    """Some rows of a store's images, which stay on disk until they are used. It stands for uint8 (N, S, S, 3).

    `images` has a shape, and gives an array for an index of whole numbers. A slice of these rows is another `Rows` and
    reads nothing; other indices give arrays.
    """

    dtype, ndim = np.dtype(np.uint8), 4

    def __init__(self, images, rows: np.ndarray):
        self.images, self.rows = images, rows

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.rows), *self.images.shape[1:]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return Rows(self.images, self.rows[index])
        first, *rest = index if isinstance(index, tuple) else (index,)
        if first is None or first is Ellipsis:
            return np.asarray(self)[index]
        rows = self.rows[first]
        place = slice(None) if isinstance(first, slice) else np.arange(rows.size).reshape(rows.shape)
        return np.asarray(self.images[rows.ravel()])[(place, *rest)]

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self.images[self.rows], dtype)


def in_pieces(function: Callable[[np.ndarray], np.ndarray], images, size: int = PIECE) -> np.ndarray:
    """What a function makes of pictures (N, S, S, 3), one row for each; it is given `size` pictures at a time."""
    first = function(np.asarray(images[:size]))
    # allocated at once: what is kept between the pieces would keep their memory from being used again
    found = np.empty((len(images), *first.shape[1:]), first.dtype)
    found[:size] = first
    for start in range(size, len(images), size):
        found[start : start + size] = function(np.asarray(images[start : start + size]))
    return found
