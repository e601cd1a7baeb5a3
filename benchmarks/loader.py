"""The loader against what one would otherwise write: torchvision's ImageFolder with transforms, in a DataLoader.

Both make batches of 128: a random crop of 224 from 256 × 256, a reflection for half, the colour noise of §4.1, float
numbers less a mean. The pictures are generated; the folder holds them as JPEG files of 256 × 256, our stores as raw
pixels and as JPEG. In turns, in one run, all with the allocator's settings of `speed = "fast"`, and each in a process
of its own: workers that are forked make all memory of the process that starts them dearer to write to. Printed are
medians by the clock, and of processor time against the plain loader without workers: of these two the one to trust on
a machine with other work.

Then how many whole pictures a second threads read, as they do for a GPU, by their number: from memory (the page cache),
and from the disk, from which the file was dropped before; beside them the ceiling of each, one copy of the memory and
one reading of the file from its beginning to its end. A store in a folder of memory has no disk's figure.

--threads-only          measures this alone
--photographs FOLDER    measures the bytes of the JPEG store on these pictures, in class folders; without it they are
                        those of noise, and nothing is said of disks
--keep                  also writes results/reference/loader/, from which README reads
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from turns import seconds, start

BATCH, BATCHES, ROUNDS = 128, 16, 11
ALL = 1_331_167  # pictures of ILSVRC-2012, those of validation included


class ColourNoise:
    """§4.1 as a transform of one image, a float tensor (3, H, W)."""

    def __init__(self, pca):
        self.axes = torch.from_numpy(pca.eigenvectors * np.sqrt(pca.eigenvalues)).float()

    def __call__(self, image):
        return (image + (self.axes @ (0.1 * torch.randn(3)))[:, None, None]) / 1.1


def usual(folder: Path, workers: int):
    """An epoch of a DataLoader, as a function."""
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    store, _, mean = what_to_make(folder / "raw")
    chain = [transforms.RandomCrop(224), transforms.RandomHorizontalFlip(), transforms.PILToTensor()]
    chain += [lambda x: x.float().sub_(mean), ColourNoise(store.pca)]
    pictures = ImageFolder(folder / "pictures", transforms.Compose(chain))
    loader = torch.utils.data.DataLoader(
        pictures, BATCH, shuffle=True, num_workers=workers, multiprocessing_context="fork" if workers else None
    )
    return lambda: [None for _ in loader]


def own(folder: Path, form: str):
    """An epoch of ours, as a function."""
    from alexnet_lib.loader import make_batches

    store, run, mean = what_to_make(folder / form)
    return lambda: [None for _ in make_batches(run, store, mean, 0)]


def what_to_make(folder: Path):
    """A prepared store, a run of such batches, and the mean."""
    from alexnet_lib.dataset import open_store
    from alexnet_lib.evaluation import mean_of
    from alexnet_lib.runs.settings import TrainSettings, resolve

    store = open_store(folder)
    given = {"dataset": "embedded", "recipe": "small", "width": 1.0, "image_size": 224, "batch_size": BATCH}
    return store, resolve(TrainSettings(device="cpu", devices=1, **given), store), mean_of(store, 224)


def write_pictures(folder: Path) -> None:
    """JPEG files of 256 × 256 with the smoothness and detail of photographs, in two class folders."""
    generator = np.random.default_rng(0)
    for number in range(BATCH * BATCHES):
        coarse = Image.fromarray(generator.integers(0, 256, (20, 20, 3), np.uint8)).resize((256, 256))
        noisy = np.asarray(coarse, np.int16) + generator.integers(-10, 11, (256, 256, 1))
        path = folder / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=90)


def measure(folder: Path) -> list[dict]:
    """Images per second of each way, and how many times the plain loader's; of that the better one by the clock."""
    from alexnet_lib import prepare

    write_pictures(folder / "pictures")
    for form in ("raw", "jpeg"):
        prepare(folder / "pictures", folder / form, progress=False, form=form)
    ways = {f"ImageFolder, {workers} workers": start(usual, folder, workers) for workers in (0, 2)}
    ways |= {f"{form} store": start(own, folder, form) for form in ("raw", "jpeg")}
    rounds = [[process.submit(seconds).result() for process in ways.values()] for _ in range(ROUNDS)]
    for process in ways.values():
        process.shutdown()
    rows = []
    for number, way in enumerate(ways):
        clock = statistics.median(min(times[0][0], times[1][0]) / times[number][0] for times in rounds)
        rate, processor_rate = (
            BATCH * BATCHES / statistics.median(times[number][kind] for times in rounds) for kind in (0, 1)
        )
        row = {"way": way, "images_per_second": round(rate), "ratio": round(clock, 2)}
        if "2 workers" not in way:
            ratio = statistics.median(times[0][1] / times[number][1] for times in rounds)
            row |= {"images_per_processor_second": round(processor_rate), "processor_ratio": round(ratio, 2)}
        rows.append(row)
    return rows


def by_threads(folder: Path, counts=(1, 2, 4, 8, 16)) -> list[dict]:
    """Whole pictures a second of a raw store that threads read, warm and cold, and the ceilings: the best of ROUNDS."""
    from alexnet_lib.data.reading import whole_pictures
    from alexnet_lib.dataset import open_store

    store, path = open_store(folder), folder / "images.npy"
    order = np.random.default_rng(0).permutation(len(store))
    parts = np.array_split(order, -(-len(order) // BATCH))
    pixels = np.array(store.images)

    def read(threads: int) -> None:
        for _ in whole_pictures(store.images, parts, path=path, threads=threads):
            pass

    def in_a_row() -> None:
        with open(path, "rb", buffering=0) as file:
            while file.read(1 << 22):
                pass

    ways = {f"{count} threads": lambda count=count: read(count) for count in counts}
    rows = []
    for kind in ("warm", "cold"):
        best = ways | ({"ceiling": pixels.copy} if kind == "warm" else {"ceiling": in_a_row})
        for way, work in best.items():
            seconds = min(timed(work, path if kind == "cold" else None) for _ in range(3))
            rows.append({"way": way, "pages": kind, "pictures_per_second": round(len(store) / seconds)})
    return rows


def timed(work, cold: Path | None) -> float:
    """Seconds of some work; before it, a file is dropped from memory."""
    if cold is not None:
        with open(cold, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def bytes_of_photographs(source: Path, count: int = 300) -> float:
    """Bytes of one picture in a JPEG store: the mean over evenly chosen files.

    Photographs that are smaller than the stored size are scaled up and compress better than larger ones would.
    """
    from alexnet_lib.data.jpeg_store import encode
    from alexnet_lib.data.preparation import decode, fit
    from alexnet_lib.data.sources import list_files

    files = list_files(source)[1]
    chosen = files[:: max(1, len(files) // count)]
    return float(np.mean([len(encode(fit(decode(file.read_bytes()), 256).numpy())) for file in chosen]))


def main(arguments=None) -> None:
    from alexnet_lib import cores, prepare
    from alexnet_lib.files import write_json
    from alexnet_lib.paths import REFERENCE
    from alexnet_lib.runs.launch import has_allocator, with_allocator
    from alexnet_lib.runs.provenance import provenance
    from alexnet_lib.runs.records import write_table

    parser = argparse.ArgumentParser(description=(__doc__ or " ").splitlines()[0])
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--threads-only", action="store_true")
    parser.add_argument("--keep", action="store_true", help="write the reference")
    given = parser.parse_args(arguments)
    if given.keep and (given.threads_only or not given.photographs):
        parser.error("--keep writes the whole record, with the size of --photographs")
    if not has_allocator():
        with_allocator()
    # what is given is looked at before minutes of work
    photographs = round(bytes_of_photographs(given.photographs)) if given.photographs else None
    with tempfile.TemporaryDirectory() as folder:
        if given.threads_only:
            store = Path(folder) / "raw"
            write_pictures(Path(folder) / "pictures")
            prepare(Path(folder) / "pictures", store, progress=False)
        else:
            rows = measure(Path(folder))
        threads = by_threads(Path(folder) / "raw") if hasattr(os, "preadv") else []
        for row in threads:
            print("{way}, {pages}: {pictures_per_second:,} pictures a second".format(**row))
    if given.threads_only:
        return
    about = {"cores": cores(), "batch_size": BATCH, "raw_gigabytes": round(ALL * 256 * 256 * 3 / 1e9, 1)}
    if photographs:
        about |= {"bytes_a_photograph": photographs, "jpeg_gigabytes": round(ALL * photographs / 1e9, 1)}
    for row in rows:
        print(", ".join(f"{name} {value}" for name, value in row.items()))
    print(about)
    if given.keep:
        (REFERENCE / "loader").mkdir(exist_ok=True)
        write_table(REFERENCE / "loader" / "loader.csv", rows)
        write_table(REFERENCE / "loader" / "threads.csv", threads)
        command = "python benchmarks/loader.py --photographs FOLDER --keep"
        write_json(REFERENCE / "loader" / "summary.json", {"command": command} | about | provenance())


if __name__ == "__main__":
    sys.exit(main())
