"""§2, whole pictures of a store in the order in which they are asked for, read ahead by several threads.

A thread asks the system for one picture at a time, which reads just its bytes and leaves Python's lock meanwhile, so a
cold disk has as many requests to serve as there are threads. Read through a map it would serve one, and read the
pages around it, too.
"""

import mmap
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .pieces import Rows

THREADS = 16  # a disk of 7 GB a second that takes 0.2 ms for a request has seven pictures on their way
SLOTS = 3  # batches: one that is used, one that is copied, one that is read


def place_in_file(images) -> int | None:
    """Where in the file that they are a map of the pictures (N, S, S, 3) begin; None where they lie elsewhere."""
    base = images
    while isinstance(base, np.ndarray):
        base = base.base
    base = base.obj if isinstance(base, memoryview) else base
    if not isinstance(base, mmap.mmap) or not images.flags.c_contiguous or not hasattr(os, "preadv"):
        return None
    return images.ctypes.data - np.frombuffer(base, np.uint8).ctypes.data


def whole_pictures(
    images, parts: Iterable[np.ndarray], device: str = "cpu", path: Path | None = None, threads: int = THREADS
) -> Iterator[Tensor]:
    """For each part its pictures, (n, S, S, 3) uint8 on a device, valid until the next ones are asked for.

    To a GPU they are copied from pinned memory, by a stream of their own, while the part before is used.

    Args:
        images: uint8 (N, S, S, 3), of a store, or some `Rows` of it.
        parts: the rows of each, in the order in which they are wanted.
        path: the file that holds the images, if `place_in_file` knows where; otherwise they are indexed.

    Raises:
        EOFError: the file has become shorter.
    """
    if isinstance(images, Rows):
        parts, images = map(images.rows.__getitem__, parts), images.images
    start = None if path is None or not images.shape[0] else place_in_file(images)
    with ExitStack() as stack:
        descriptor = None
        if start is not None:
            descriptor = os.open(path, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            if os.pread(descriptor, images[0].nbytes, start) != images[0].tobytes():  # not the file of this map
                descriptor = None
            elif hasattr(os, "posix_fadvise"):  # nothing around a picture is wanted soon
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        read = partial(_index, images) if descriptor is None else partial(_read, descriptor, start)
        pool = ThreadPoolExecutor(threads)
        stack.callback(pool.shutdown, cancel_futures=True)
        copying = torch.cuda.Stream(torch.device(device)) if device.startswith("cuda") else None
        free = deque(_Slot(device, copying) for _ in range(SLOTS))
        ahead: deque[_Slot] = deque()
        waiting = iter(parts)
        while True:
            while free and (rows := next(waiting, None)) is not None:
                ahead.append(free.popleft())
                ahead[-1].begin(pool, read, images.shape, rows, threads)
            if not ahead:
                return
            slot = ahead.popleft()
            for one in (slot, *list(ahead)[:1]):
                one.send(wait=one is slot)
            yield slot.ready()
            slot.used()
            free.append(slot)


class _Slot:
    """Memory for a part: where it is read to and, for a GPU, where it is copied to."""

    def __init__(self, device: str, copying):
        self.device, self.copying, self.here, self.there = device, copying, None, None
        if copying is not None:
            self.copied, self.free = torch.cuda.Event(), torch.cuda.Event()

    def begin(self, pool, read: Callable, shape: tuple[int, ...], rows: np.ndarray, threads: int) -> None:
        """Have the threads `read` these rows of pictures of such a shape."""
        self.count, self.sent = len(rows), False
        if self.here is None or len(self.here) < len(rows):
            self.here = torch.empty((len(rows), *shape[1:]), dtype=torch.uint8, pin_memory=self.copying is not None)
            self.there = self.here
            if self.copying is not None:
                self.there = torch.empty_like(self.here, device=self.device)
                self.there.record_stream(self.copying)  # whose copy may still go on when it is let go
                self.used()  # what had this memory before may still be at work
        if self.copying is not None:
            self.copied.synchronize()  # what was read here before has gone
        pixels, order = self.here.numpy(), np.argsort(rows)  # in the order of the file
        shares = [places for places in np.array_split(order, threads) if len(places)]
        self.reading = [pool.submit(read, rows, pixels, places) for places in shares]

    def send(self, wait: bool) -> None:
        """Copy what has been read to the device; one that is read still, only if it is waited for."""
        if self.sent or not (wait or all(future.done() for future in self.reading)):
            return
        for future in self.reading:
            future.result()
        self.sent = True
        if self.copying is not None:
            with torch.cuda.stream(self.copying):
                self.copying.wait_event(self.free)
                self.there[: self.count].copy_(self.here[: self.count], non_blocking=True)
                self.copied.record(self.copying)

    def ready(self) -> Tensor:
        """The pictures, for what the current stream does from now on."""
        if self.copying is not None:
            torch.cuda.current_stream(self.device).wait_event(self.copied)
        return self.there[: self.count]

    def used(self) -> None:
        """The current stream has been given all that it does with them."""
        if self.copying is not None:
            self.free.record(torch.cuda.current_stream(self.device))


def _read(descriptor: int, start: int, rows: np.ndarray, pixels: np.ndarray, places: np.ndarray) -> None:
    for place in places:
        rest, at = memoryview(pixels[place]).cast("B"), start + int(rows[place]) * pixels[place].nbytes
        while rest:  # a disk of the network may give a part of what is asked for
            if not (count := os.preadv(descriptor, [rest], at)):
                raise EOFError(f"picture {rows[place]} of a store is not there: its file has become shorter")
            rest, at = rest[count:], at + count


def _index(images, rows: np.ndarray, pixels: np.ndarray, places: np.ndarray) -> None:
    pixels[places] = images[rows[places]]
