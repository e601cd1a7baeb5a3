"""AlexNet, executable: the library behind the notebooks. One module a section of the paper.

The names below are importable from here. Each is fetched from its module when it is first asked for, so that a
command that needs no network does not wait for torch.
"""

import os
from importlib import import_module

# OpenMP reads it when torch is loaded. Threads that wait by spinning make every step several times as slow where the
# cores are shared, and no faster where they are not.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# What a process should have in its environment before it starts, for glibc on Linux: large pages, and no return of
# large blocks to the system. Page faults on fresh tensors otherwise cost memory-bound layers several times over.
ALLOCATOR = {
    "THP_MEM_ALLOC_ENABLE": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "-1",
    "MALLOC_TOP_PAD_": str(1 << 28),
}

MODULE_OF = {
    "LocalResponseNorm": "normalization",
    "PaperSGD": "learning",
    "PlateauRule": "learning",
    "add_colour_noise": "augmentation",
    "alexnet": "architecture",
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


def __getattr__(name: str):
    if name not in MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{MODULE_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
