"""AlexNet, executable: the library behind the notebooks. One module a section of the paper.

The names below can be imported from here, and those of each folder from the folder. A module is loaded when one of its
names is first asked for, so that a command that needs no network does not wait for torch.
"""

import ctypes
import os
import signal
import sys
from importlib import import_module

# OpenMP reads these when torch is loaded. Waiting threads that spin for long make a step up to a hundred times slower
# where cores are shared; threads that sleep at once halve the speed of short operations where cores are not shared.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # some microseconds
# Without it a product on a GPU may differ when repeated. cuBLAS reads it once, when it is first used.
WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
IN_TIME = WORKSPACE in os.environ or not ("torch" in sys.modules and sys.modules["torch"].cuda.is_initialized())
os.environ.setdefault(WORKSPACE, ":4096:8")

# For the environment of a process before it starts, with glibc on Linux: large pages, and freed large blocks are kept.
# Otherwise page faults on new tensors make memory-bound layers several times slower.
ALLOCATOR = {
    "THP_MEM_ALLOC_ENABLE": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "-1",
    "MALLOC_TOP_PAD_": str(1 << 28),
}

# The same, without the large pages, for a running process: parameters of mallopt by their numbers in malloc.h.
MALLOPT = {"M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, -1), "M_TOP_PAD": (-2, 1 << 28)}

# the names to import from here, by module
NAMES = {
    "architecture": "CONVOLUTIONS GEOMETRIES NETS POOLINGS alexnet layer_shapes skeleton",
    "augmentation": "AUGMENTATIONS COPIED_EIGENVALUES IMAGENET_PCA NOISE_UNITS OFFSETS add_colour_noise centre_crops "
    "colour_shifts cut_views draw_views in_light offset_count random_crops recoloured ten_views views_drawn",
    "cifar_nets": "activation_table cifar_net differing_share",
    "colours": "colour_pca",
    "columns": "crossings memory",
    "data.embedded": "small_pictures",
    "data.pieces": "evenly in_pieces",
    "data.preparation": "decode fit",
    "dataset": "choose_dataset example_files load_dataset open_store prepare source_files",
    "distortions": "cut_areas distort draw_areas draw_distortions many_views scales_for",
    "dropout": "Dropout",
    "evaluation": "AVERAGES mean_of mean_of_views predict to_input top_k_error",
    "inception": "INCEPTIONS Inception four_per_cent_less googlenet",
    "learning": "LOGGED_2012 PaperSGD PlateauRule RECIPES initial_std rate_factor recipe",
    "ledger.claims": "Claim MEANING MET OPEN accepted_verdicts changes claims compared measure verdict",
    "ledger.page": "READERS",
    "loader": "ahead make_batches",
    "normalization": "K_OF_CONVENTION LocalResponseNorm",
    "qualitative": "codes_of colourfulness neighbours pixel_features shared train_autoencoder",
    "runs.cifar_settings": "choose_pictures",
    "runs.torchvision": "from_torchvision",
    "training": "STALL_STEPS build_net load_net train",
}
# what another module calls by the same name
RENAMED = {
    "CIFAR_NETS": "cifar_nets.NETS",
    "draw_picture": "data.embedded.picture",
    "googlenet_skeleton": "inception.skeleton",
    "train_cifar": "training.train",
}


def while_it_loads(number, frame) -> None:
    """End a command to which a signal comes before it has begun, without a traceback."""
    os.write(2, b"\nStopped: nothing was begun.\nGive the same command again to begin.\n")
    os._exit(130)


# It takes seconds to load torch, and `commands` takes over then. A process of a job ends as whoever started it wants.
if sys.argv[:1] == ["-m"] and "alexnet_lib.runs.processes" not in sys.orig_argv:
    for _name in {"SIGINT", "SIGTERM", "SIGHUP"} & set(dir(signal)):
        if signal.getsignal(getattr(signal, _name)) != signal.SIG_IGN:
            signal.signal(getattr(signal, _name), while_it_loads)


def lazily(package: str, names: dict[str, str], renamed: dict[str, str] | None = None):
    """`__getattr__`, `__dir__` and `__all__` of a package whose names are imported when somebody asks for them.

    Args:
        package: its full name.
        names: the names that each of its modules gives, separated by spaces.
        renamed: further names, and the "module.name" that each stands for.
    """
    places = {name: f"{module}.{name}" for module, given in names.items() for name in given.split()} | (renamed or {})

    def fetch(name: str):
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, _, original = places[name].rpartition(".")
        return getattr(import_module(f"{package}.{module}"), original)

    return fetch, lambda: sorted({*vars(sys.modules[package]), *places}), list(places)


__getattr__, __dir__, __all__ = lazily(__name__, NAMES, RENAMED)


def cores() -> int:
    """How many cores this process may use; Slurm, taskset or a container may allow fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def keep_memory() -> bool:
    """Make this process keep freed large blocks; False where its C library isn't glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return mallopt is not None and all(mallopt(*setting) for setting in MALLOPT.values())
