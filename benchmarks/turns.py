"""Work that is timed in turns, each kind in a process of its own, so that what one does to its memory is its own."""

import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from unittest.mock import patch

from alexnet_lib import ALLOCATOR


def start(make, *choices, allocator: bool = True) -> ProcessPoolExecutor:
    """A process that has the work ready which `make(*choices)` returns, a function, and has done it once.

    allocator: whether it starts with the settings of `ALLOCATOR`, which a reader's own loop would not have.
    """
    with patch.dict(os.environ, ALLOCATOR):
        if not allocator:
            for name in ALLOCATOR:
                del os.environ[name]
        process = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        process.submit(get_ready, make, *choices).result()
    return process


def get_ready(make, *choices) -> None:
    """In such a process: make the work, and warm the caches."""
    get_ready.work = make(*choices)
    get_ready.work()


def seconds() -> tuple[float, float]:
    """In such a process: how long the work takes, by the clock, and of the processor, without other processes."""
    began, used = time.perf_counter(), time.process_time()
    get_ready.work()
    return time.perf_counter() - began, time.process_time() - used
