"""Preparation against what one would otherwise write: a loop over the files with Pillow, one process a core.

All decode, scale and cut the same JPEG files to 256 × 256 and leave the pixels on disk, in turns, in one run:

bare       a loop with Pillow that does no more
pixels     the same loop with our two functions, `decode` and `fit`
plain      the loop with Pillow that also takes what training needs, the mean image and the products of the colours
prepare    `prepare`, which does all that, and digests and an index, and can be interrupted

Printed are images per second and the medians of the ratios, by the clock and of processor time: like with like, bare to
pixels (pixels_ratio) and plain to prepare (plain_ratio); and bare to prepare (bare_ratio), which does more. The files
are generated at the usual size of ImageNet's, 500 × 375, unless a folder of class folders is named.

--folder FOLDER    its JPEG files instead, evenly chosen
--keep             also writes results/reference/preparation/, or preparation-FOLDER/; README reads the first
"""

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

FILES, ROUNDS, SIZE = 1024, 7, 256
RATIOS = {"pixels_ratio": ("bare", "pixels"), "plain_ratio": ("plain", "prepare"), "bare_ratio": ("bare", "prepare")}


def write_pictures(folder: Path) -> list[Path]:
    """JPEG files with the smoothness and detail of photographs, in two class folders."""
    generator = np.random.default_rng(0)
    for number in range(FILES):
        coarse = Image.fromarray(generator.integers(0, 256, (30, 40, 3), np.uint8)).resize((500, 375))
        noisy = np.asarray(coarse, np.int16) + generator.integers(-20, 21, (375, 500, 1))
        path = folder / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=92)
    return sorted(folder.rglob("*.jpg"))


def choose_pictures(source: Path, folder: Path) -> list[Path]:
    """Links to FILES of the JPEG files in a folder of class folders, in folders of the same names."""
    every = sorted(path for path in source.resolve().rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    if len(every) < FILES:
        raise SystemExit(f"{source} has {len(every)} JPEG files; accepted are {FILES} and more")
    for path in every[:: len(every) // FILES][:FILES]:
        link = folder / path.parent.name / path.name
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(path)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def with_pillow(path: Path) -> np.ndarray:
    """What §2 asks for, in the plainest way."""
    picture = Image.open(path).convert("RGB")
    width, height = (SIZE * side // min(picture.size) for side in picture.size)
    left, top = (width - SIZE) // 2, (height - SIZE) // 2
    picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(picture.crop((left, top, left + SIZE, top + SIZE)))


def with_ours(path: Path) -> np.ndarray:
    """The same picture, with the functions that `prepare` uses."""
    from alexnet_lib.data.preparation import decode, fit

    return fit(decode(path.read_bytes()), SIZE).numpy()


def with_colours(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The same picture, and the products of its colours (3, 3), of which the principal axes are made."""
    picture = with_pillow(path)
    pixels = picture.reshape(-1, 3).astype(np.float32)
    return picture, pixels.T @ pixels


def bare_loop(files: list[Path], store: Path, pool: Executor | None = None, read=with_pillow) -> None:
    """All files in the plainest way, and what came of them in one array on disk, which is what `prepare` leaves."""
    images = pool.map(read, files, chunksize=16) if pool else map(read, files)
    np.save(store, np.stack(list(images)))


def plain_loop(files: list[Path], store: Path, pool: Executor | None = None) -> None:
    """The same, with the sums of what §2 and §4.1 need: the mean image, and the covariance of the colours."""
    images, total, products = [], np.zeros((SIZE, SIZE, 3), np.int64), np.zeros((3, 3))
    for image, of_image in pool.map(with_colours, files, chunksize=16) if pool else map(with_colours, files):
        images.append(image)
        total += image
        products += of_image
    np.save(store, np.stack(images))


def seconds(work) -> tuple[float, float]:
    """By the clock, and of this process's processor time, which other work on the machine disturbs less."""
    began, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - used


def row_of(cores: int, rounds: list[dict[str, tuple]]) -> dict:
    """Images per second and ratios, by the clock and, on one core, of processor time."""
    row = {"cores": cores}
    for kind, name in ((0, ""), (1, "processor_"))[: 1 + (cores == 1)]:
        for way in rounds[0]:
            row[f"{name}{way}"] = round(FILES / statistics.median(times[way][kind] for times in rounds))
        for ratio, (slow, fast) in RATIOS.items():
            row[f"{name}{ratio}"] = round(statistics.median(t[slow][kind] / t[fast][kind] for t in rounds), 2)
    return row


def main(arguments=None) -> None:
    import torch

    from alexnet_lib import cores, prepare
    from alexnet_lib.files import write_json
    from alexnet_lib.paths import REFERENCE
    from alexnet_lib.runs.provenance import provenance
    from alexnet_lib.runs.records import write_table

    parser = argparse.ArgumentParser(description=(__doc__ or " ").splitlines()[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--keep", action="store_true", help="write the reference")
    given, rows = parser.parse_args(arguments), []
    torch.set_num_threads(1)  # for our functions on one core; `prepare` sees to itself
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "pictures"
        source.mkdir()
        files = choose_pictures(given.folder, source) if given.folder else write_pictures(source)
        store = Path(folder) / "store"
        prepare(source, store, progress=False)  # the first call imports the decoder
        count, alone = cores(), {"initializer": torch.set_num_threads, "initargs": (1,)}
        with ProcessPoolExecutor(count, get_context("spawn")) as pool, ThreadPoolExecutor(count, **alone) as own_pool:
            array = Path(folder) / "loop.npy"
            bare_loop(files, array, pool)
            # ours are threads, because decoding and scaling leave Python's lock
            for cores, processes, threads in ((count, pool, own_pool), (1, None, None)):
                ways = {
                    "bare": partial(bare_loop, files, array, processes),
                    "pixels": partial(bare_loop, files, array, threads, with_ours),
                    "plain": partial(plain_loop, files, array, processes),
                    "prepare": partial(prepare, source, store, workers=cores, progress=False),
                }
                rounds = []
                for _ in range(ROUNDS):
                    shutil.rmtree(store)  # the other array is written over, so neither waits for old pages to be saved
                    rounds.append({way: seconds(work) for way, work in ways.items()})
                row = row_of(cores, rounds)
                print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
                rows.append(row)
    if given.keep:
        name = f"-{given.folder.name}" if given.folder else ""
        kept = REFERENCE / f"preparation{name}"
        kept.mkdir(exist_ok=True)
        write_table(kept / "preparation.csv", rows)
        option = f"--folder {given.folder.name} " if given.folder else ""
        command = {"command": f"python benchmarks/preparation.py {option}--keep"}
        write_json(kept / "summary.json", command | provenance())


if __name__ == "__main__":
    sys.exit(main())
