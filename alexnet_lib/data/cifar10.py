"""CIFAR-10, the data of Figure 1 and of §3.3's second claim: 60,000 pictures of 32 × 32 pixels in ten classes.

Two sources are read. The official archive holds the pixels themselves; torchvision fetches it on an explicit call and
verifies it by its hash, so does every later reading. A copy as folders of pictures is read as any other data set; if
its pictures are JPEG files, then its pixels are not the official ones, and the store says so: `meta["lossy"]`.
"""

import hashlib
from pathlib import Path

import numpy as np

from .download import through_torchvision
from .preparation import write_store
from .sources import SourceFile

ARCHIVE, ARCHIVE_MD5 = "cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"
SPLITS = {"train": True, "val": False}  # True: torchvision's training set
FROM_ELSEWHERE = (
    f"put the file {ARCHIVE} (md5 {ARCHIVE_MD5}) into {{folder}}, or unpack pictures so that {{folder}}/train and "
    "{folder}/val (or test) hold one folder for each class"
)
HOW_TO_GET = f"`python -m alexnet_lib.dataset download cifar10` fetches it; or {FROM_ELSEWHERE}"


def download(folder: Path) -> None:
    """Fetch the official archive through torchvision into `folder` and verify it; what is there already is kept.

    Raises:
        ConnectionError: the host refused, fell silent or sent something else, with the ways out.
    """
    from torchvision.datasets import CIFAR10  # here, because importing torchvision takes seconds

    with through_torchvision("CIFAR-10", FROM_ELSEWHERE.format(folder=folder)):
        CIFAR10(folder, download=True)


def is_official(folder: Path) -> bool:
    """Whether the official archive lies here, packed or unpacked."""
    return (folder / ARCHIVE).is_file() or (folder / "cifar-10-batches-py").is_dir()


def prepare_official(folder: Path, destination: Path) -> None:
    """Make the stores destination/train and destination/val from the official archive in `folder`.

    The files are pickles, so nothing is opened before its hash is right.

    Raises:
        ValueError: the hash of the archive, or of a file unpacked from it, is wrong.
    """
    from torchvision.datasets import CIFAR10

    packed = folder / ARCHIVE
    if packed.is_file():
        found = hashlib.md5(packed.read_bytes()).hexdigest()
        if found != CIFAR10.tgz_md5:
            raise ValueError(
                f"{packed} has md5 {found}, the official archive {CIFAR10.tgz_md5}: not a whole copy of it"
            )
    for split, training in SPLITS.items():
        if (destination / split / "meta.json").is_file():
            continue  # an earlier call was cut off after the first
        try:
            data = CIFAR10(folder, training, download=packed.is_file())  # unpacks what is there, fetches nothing
        except RuntimeError:
            unpacked = folder / CIFAR10.base_folder
            raise ValueError(f"files are missing from {unpacked} or not the official ones: remove it") from None
        about = {"source": "official archive", "lossy": False}
        write_store(destination / split, data.data, np.array(data.targets), data.classes, about)


def is_lossy(files: list[SourceFile]) -> bool:
    """Whether any of these pictures is a JPEG, by its first bytes and not its name."""
    return any(file.read_bytes().startswith(b"\xff\xd8\xff") for file in files)
