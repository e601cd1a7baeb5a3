"""CIFAR-10, the data of Figure 1 and of §3.3's second claim: 60,000 pictures of 32 × 32 pixels in ten classes.

Two sources are read. The official archive holds the pixels themselves; torchvision reads it and verifies each file by
its hash. A copy as folders of pictures is read as any other data set; if its pictures are JPEG files, its pixels are
not the official ones, and the store says so: `meta["lossy"]`.
"""

from pathlib import Path

import numpy as np

from .download import ARCHIVES, unpacked
from .preparation import write_store
from .sources import SourceFile


def is_official(folder: Path) -> bool:
    """Whether the official archive lies here, packed or unpacked."""
    archive = ARCHIVES["cifar10"]
    return (folder / archive.name).is_file() or (folder / archive.inner).is_dir()


def prepare_official(folder: Path, destination: Path) -> None:
    """Make the stores destination/train and destination/val from the official archive in `folder`.

    The files are pickles, so nothing is opened before its hash is right.

    Raises:
        ValueError: the hash of the archive, or of a file unpacked from it, is wrong.
    """
    from torchvision.datasets import CIFAR10  # here, because importing torchvision takes seconds

    batches = unpacked("cifar10", folder, destination.parent)
    for split in ("train", "val"):
        try:
            data = CIFAR10(batches.parent, split == "train")
        except RuntimeError:
            raise ValueError(f"files are missing from {batches} or not the official ones: remove it") from None
        about = {"source": "official archive", "lossy": False}
        write_store(destination / split, data.data, np.array(data.targets), data.classes, about)


def is_lossy(files: list[SourceFile]) -> bool:
    """Whether any of these pictures is a JPEG, by its first bytes and not its name."""
    return any(file.read_bytes().startswith(b"\xff\xd8\xff") for file in files)
