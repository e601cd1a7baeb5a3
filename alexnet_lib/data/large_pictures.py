"""§2, preparation: threads share the memory for large pictures, of which a small file may hold one.

While it is decoded a picture takes some ten bytes a pixel. Large ones wait until few enough others are at work.
"""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

LARGE = 2**24  # pixels; smaller pictures, as nearly all are, wait for nothing
AT_ONCE = 100_000_000  # pixels of large pictures, unless it is one alone
_at_work: list[int] = []  # the pixels of each
_CHANGED = threading.Condition()  # of that list


class _Thread(threading.local):
    picture: ExitStack | None = None


_THREAD = _Thread()


@contextmanager
def one_picture() -> Iterator[None]:
    """A large picture that this thread begins in the block is at work until its end."""
    try:
        with ExitStack() as _THREAD.picture:
            yield
    finally:
        _THREAD.picture = None


def wait_for_room(pixels: int) -> None:
    """Called before a picture is decoded; returns when so large a one may begin, outside of a block at once."""
    if pixels > LARGE and _THREAD.picture is not None:
        _THREAD.picture.close()  # a torn JPEG, which two decoders try, would wait for itself
        with _CHANGED:
            _CHANGED.wait_for(lambda: not _at_work or sum(_at_work) + pixels <= AT_ONCE)
            _at_work.append(pixels)
        _THREAD.picture.callback(_end, pixels)


def _end(pixels: int) -> None:
    with _CHANGED:
        _at_work.remove(pixels)
        _CHANGED.notify_all()
