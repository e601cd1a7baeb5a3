"""§2, preparation: threads share the memory for large pictures, of which a small file may hold one.

While it is decoded a picture takes some ten bytes a pixel. Large ones wait until few enough others are at work.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

LARGE = 2**24  # pixels; smaller pictures, as nearly all are, wait for nothing
AT_ONCE = 100_000_000  # pixels of large pictures, unless it is one alone
_at_work: dict[int, int] = {}  # pixels by thread, of all that are in a block of `one_picture`; 0 of a small one
_CHANGED = threading.Condition()  # of that


@contextmanager
def one_picture() -> Iterator[None]:
    """A large picture that this thread begins in the block is at work until its end."""
    me = threading.get_ident()
    with _CHANGED:
        _at_work[me] = 0
    try:
        yield
    finally:
        with _CHANGED:
            if _at_work.pop(me):
                _CHANGED.notify_all()


def wait_for_room(pixels: int) -> None:
    """Called before a picture is decoded; returns when so large a one may begin, outside of a block at once."""
    me = threading.get_ident()
    if pixels > LARGE and me in _at_work:
        with _CHANGED:
            _at_work[me] = 0  # a torn JPEG, which two decoders try, would wait for itself
            _CHANGED.notify_all()
            _CHANGED.wait_for(lambda: not any(_at_work.values()) or sum(_at_work.values()) + pixels <= AT_ONCE)
            _at_work[me] = pixels
