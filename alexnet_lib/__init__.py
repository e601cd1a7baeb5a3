"""AlexNet, executable: the library behind the notebooks. One module a section of the paper.

The names below are importable from here. Each is fetched from its module when it is first asked for, so that a
command that needs no network does not wait for torch.
"""

import ctypes
import os
import sys
from importlib import import_module

# OpenMP reads them when torch is loaded. Threads that spin for long while they wait make a step up to a hundred times
# as slow where the cores are shared; those that sleep at once make short operations half as fast where they are not.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # some microseconds

# What a process should have in its environment before it starts, for glibc on Linux: large pages, and no return of
# large blocks to the system. Page faults on fresh tensors otherwise cost memory-bound layers several times over.
ALLOCATOR = {
    "THP_MEM_ALLOC_ENABLE": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "-1",
    "MALLOC_TOP_PAD_": str(1 << 28),
}

# The same but for the large pages, for a process that has started: parameters of mallopt, by their numbers in malloc.h.
MALLOPT = {"M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, -1), "M_TOP_PAD": (-2, 1 << 28)}

MODULE_OF = {
    "LocalResponseNorm": "normalization",
    "PaperSGD": "learning",
    "PlateauRule": "learning",
    "add_colour_noise": "augmentation",
    "alexnet": "architecture",
    "claims": "ledger.claims",
    "colour_pca": "colours",
    "googlenet": "inception",
    "load_dataset": "dataset",
    "open_store": "dataset",
    "prepare": "dataset",
    "random_crops": "augmentation",
    "recipe": "learning",
    "ten_views": "augmentation",
    "top_k_error": "evaluation",
}
__all__ = list(MODULE_OF)


def cores() -> int:
    """How many cores this process may use, which Slurm, taskset or a container may have made fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def keep_memory() -> bool:
    """Have this process keep large blocks that are freed, where its C library is glibc; elsewhere False."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return mallopt is not None and all(mallopt(*setting) for setting in MALLOPT.values())


def __getattr__(name: str):
    if name not in MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{MODULE_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
