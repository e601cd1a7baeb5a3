"""CIFAR-10, the data of Figure 1 and of §3.3's second claim: 60,000 pictures of 32 × 32 pixels in ten classes.

Two sources are read. The official archive holds the pixels themselves; torchvision reads it and verifies each file by
its hash. A copy as folders of pictures is read as any other data set; if its pictures are JPEG files, its pixels are
not the official ones, and the store says so: `meta["lossy"]`.
"""

from pathlib import Path

import numpy as np

from .download import fetch, verify
from .preparation import write_store
from .sources import SourceFile

ARCHIVE, ARCHIVE_MD5 = "cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"
UNPACKED = "cifar-10-batches-py"
FROM_ELSEWHERE = (
    f"put the file {ARCHIVE} (md5 {ARCHIVE_MD5}) into {{folder}}, or unpack pictures so that {{folder}}/train and "
    "{folder}/val (or test) hold one folder for each class"
)
HOW_TO_GET = f"`python -m alexnet_lib.dataset download cifar10` fetches it; or {FROM_ELSEWHERE}"


def download(folder: Path) -> None:
    """Fetch the official archive into `folder` and verify it; see `fetch`."""
    from torchvision.datasets import CIFAR10  # here, because importing torchvision takes seconds

    fetch(CIFAR10.url, folder / ARCHIVE, CIFAR10.tgz_md5, FROM_ELSEWHERE.format(folder=folder))


def is_official(folder: Path) -> bool:
    """Whether the official archive lies here, packed or unpacked."""
    return (folder / ARCHIVE).is_file() or (folder / UNPACKED).is_dir()


def prepare_official(folder: Path, destination: Path) -> None:
    """Make the stores destination/train and destination/val from the official archive in `folder`.

    The files are pickles, so nothing is opened before its hash is right.

    Raises:
        ValueError: the hash of the archive, or of a file unpacked from it, is wrong.
    """
    from torchvision.datasets import CIFAR10

    if packed := (folder / ARCHIVE).is_file():
        verify(folder / ARCHIVE, CIFAR10.tgz_md5)
    for split in ("train", "val"):
        try:
            data = CIFAR10(folder, split == "train", download=packed)  # unpacks what is there, fetches nothing
        except RuntimeError:
            raise ValueError(
                f"files are missing from {folder / UNPACKED} or not the official ones: remove it"
            ) from None
        about = {"source": "official archive", "lossy": False}
        write_store(destination / split, data.data, np.array(data.targets), data.classes, about)


def is_lossy(files: list[SourceFile]) -> bool:
    """Whether any of these pictures is a JPEG, by its first bytes and not its name."""
    return any(file.read_bytes().startswith(b"\xff\xd8\xff") for file in files)
