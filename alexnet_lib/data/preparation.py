"""§2, preparation: from files of any size and kind to the arrays of a store, once, with every core, safe to interrupt.

The images are appended in the order of the files, a chunk at a time; after each chunk the state is written down. A
run that is killed loses at most a chunk, and the finished store does not depend on where it was interrupted, on the
chunks, or on the number of workers: all that is summed over images are integers, exact in any order.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from io import BytesIO
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
import torch
from filelock import FileLock
from PIL import Image

from .. import cores, keep_memory
from ..colours import colour_products, pca_of_sums
from ..progress import progress_bar
from .jpeg_store import OFFSETS, QUALITY, encode
from .sources import SourceFile, list_files
from .store_files import FORMS, read_meta
from .unfinished import Unfinished, npy_bytes, npy_header, publish, room_for, tidy, word_sum, write_file

CHUNK, GROUP = 256, 8  # files
LARGEST_PICTURE = 100_000_000  # pixels; beyond it a small file is an attack on memory, not a photograph
LARGEST_FILE = 2**28  # bytes; the largest photographs of ImageNet have some 2**24
# no EPS among them: Pillow hands that to another program
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM")


# --------------------------------------------------------------------------------------------------- one picture


def decode(data: bytes) -> torch.Tensor:
    """The picture in these bytes as uint8 (3, H, W) RGB.

    Rotation tags and alpha are ignored, as in 2012. What counts is the content, not the name: a PNG may be called JPEG.
    Of 16 bits a pixel the upper eight are kept.

    Raises:
        ValueError: not a whole picture, or one whose numbers do not say what is white, with the reason.
    """
    from simplejpeg import decode_jpeg  # here, because a machine that only trains needs no decoder

    try:
        picture = Image.open(BytesIO(data), formats=FORMATS)
        if picture.width * picture.height > LARGEST_PICTURE:
            raise ValueError(f"{picture.width} × {picture.height} pixels, more than {LARGEST_PICTURE:,}")
        if picture.format == "JPEG" and picture.mode in ("RGB", "L"):
            with suppress(ValueError):  # whether enough is left of what is damaged, Pillow decides
                return torch.from_numpy(decode_jpeg(data)).permute(2, 0, 1)
        if picture.mode[0] in "IF":  # grey of more than 8 bits, which Pillow would clip to white
            grey = torch.from_numpy(_upper_bits(picture))
            return grey.expand(3, *grey.shape)
        return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
    except PIL.UnidentifiedImageError:
        raise ValueError("not a picture of a known format" if data else "empty file") from None
    except (ValueError, Image.DecompressionBombError) as error:
        raise ValueError(str(error)) from None
    except MemoryError:
        raise
    except Exception as error:  # decoders raise nearly anything on hostile bytes, and one file must not end the run
        raise ValueError(f"cannot be decoded: {(str(error) or type(error).__name__).splitlines()[0]}") from None


def _upper_bits(picture: Image.Image) -> np.ndarray:
    """The upper 8 of 16 bits a pixel, (H, W) uint8."""
    bits = getattr(picture, "tag_v2", {}).get(258, (16,))  # of a TIFF; in other formats they are 16
    if picture.mode == "F" or bits != (16,) or 2 in getattr(picture, "tag_v2", {}).get(339, ()):
        kind = "fractions" if picture.mode == "F" else f"signed or {bits[0]}-bit whole numbers"
        raise ValueError(f"its pixels are {kind}, which do not say what is white; save it with 8 or 16 bits a pixel")
    numbers = np.asarray(picture)
    return (numbers >> 8).astype(np.uint8)


def fit(picture: torch.Tensor, size: int) -> torch.Tensor:
    """Scale until the shorter side is `size` pixels and keep the centre: (3, H, W) to (size, size, 3) uint8 (§2).

    Bilinear with antialiasing: Pillow's rule, within one grey level nearly everywhere and two at most.

    Raises:
        ValueError: so thin that it would become enormous.
    """
    from torchvision.transforms.v2.functional import resize  # here, because importing torchvision takes seconds

    height, width = picture.shape[1:]
    shorter = min(height, width)
    if size * size * max(height, width) // shorter > LARGEST_PICTURE:
        raise ValueError(
            f"{width} × {height} pixels, too thin to be scaled to {size} and stay under {LARGEST_PICTURE:,}"
        )
    if shorter != size:
        picture = resize(picture, [size * height // shorter, size * width // shorter], antialias=True)
    top, left = (picture.shape[1] - size) // 2, (picture.shape[2] - size) // 2
    return picture[:, top : top + size, left : left + size].permute(1, 2, 0).contiguous()


class Prepared(NamedTuple):
    """What became of a file: an image, or the reason why not."""

    sha256: str | None
    reason: str | None = None
    image: np.ndarray | None = None
    products: np.ndarray | None = None  # of its colours
    stored: bytes | memoryview = b""  # of the image
    check: int = 0  # of these bytes


def _prepare_file(file: SourceFile, size: int, form: str) -> Prepared:
    if file.size > LARGEST_FILE:
        return Prepared(None, f"{file.size:,} bytes, more than {LARGEST_FILE:,}")
    data = file.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    try:
        image = fit(decode(data), size).numpy()
    except ValueError as error:
        return Prepared(digest, str(error))
    stored = encode(image) if form == "jpeg" else image.reshape(-1).data
    return Prepared(digest, None, image, colour_products(image), stored, word_sum(stored))


@contextmanager
def _single_threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """So many threads that compute alone; not processes, as decoding and scaling leave Python's lock."""
    of_process = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(of_process)  # what one thread set holds for all that begin to compute later


def _begin(pool: ThreadPoolExecutor, files: list[SourceFile], size: int, form: str):
    """Have files prepared, some at a time, because each result wakes the thread that waits: an iterator of lists."""
    groups = [files[start : start + GROUP] for start in range(0, len(files), GROUP)]
    return pool.map(lambda group: [_prepare_file(file, size, form) for file in group], groups)


# ------------------------------------------------------------------------------------------------ from files to a store


def prepare_folder(
    source: Path, destination: Path, size=256, workers=None, progress=True, part=None, about=None, form="raw"
) -> Path:
    """The work of `dataset.prepare`; see there. `about` is what the store's meta shall say beside."""
    (classes, files), about = list_files(source, part), {"source": source.name} | (about or {})
    return prepare_files(files, classes, destination, size, workers, progress, about, form=form)


def prepare_files(
    files: list[SourceFile],
    classes: list[str],
    destination: Path,
    size=256,
    workers=None,
    progress=True,
    about: dict | None = None,
    refused: list[dict] | None = None,
    form: str = "raw",
) -> Path:
    """Make a store of these files in their order, or go on with it, or find it done; `dataset.prepare` says the rest.

    Args:
        about: what the store's meta shall say beside; "source" is the name on the progress bar.
        refused: files of the source that are not even to be read, each {"file": …, "reason": …}.
    """
    if size < 1:
        raise ValueError(f"size = {size}; accepted is a side of 1 pixel and more")
    if form not in FORMS:
        raise ValueError(f"form = {form!r}; accepted are {', '.join(FORMS)}")
    about, refused = about or {}, refused or []
    listing = listing_hash(files, size, form)
    if destination.exists():
        return _already_prepared(destination, listing)
    with alone_at(destination):
        if destination.exists():
            return _already_prepared(destination, listing)
        work = destination.with_name(f".{destination.name}.partial")
        with room_for(work, "what is prepared so far is kept there"):
            state = Unfinished.load(work, listing, len(files), size, form)
            _append_all(state, files, workers, progress, f"preparing {about.get('source', '')}")
            return _finish(state, destination, classes, about | {"listing": listing}, refused)


def _append_all(state: Unfinished, files: list[SourceFile], workers, progress, title: str) -> None:
    """Prepare the files that the state lacks."""
    keep_memory()
    bar = progress_bar(len(files), title, "file", progress, initial=state.files)
    with bar, _single_threads(workers or cores()) as pool:
        chunks = [files[start : start + CHUNK] for start in range(state.files, len(files), CHUNK)]
        ahead = [_begin(pool, chunk, state.size, state.form) for chunk in chunks[:1]]
        for chunk, following in zip_longest(chunks, chunks[1:], fillvalue=[]):
            done = [row for group in ahead.pop() for row in group]
            ahead.append(_begin(pool, following, state.size, state.form))  # the cores go on while a chunk is written
            state.append(chunk, done)
            bar.update(len(chunk))


def alone_at(destination: Path) -> FileLock:
    """A lock on making this store. Who comes second waits, and finds the store made; a killed process holds nothing."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(destination.with_name(f".{destination.name}.lock"))


def listing_hash(files: list[SourceFile], size: int, form: str) -> str:
    """Which files at which sizes: what decides whether a preparation goes on or is already done."""
    digest = hashlib.sha256(f"{size}{'' if form == 'raw' else form}".encode())
    for file in files:
        digest.update(f"{file.name}\0{file.label}\0{file.size}\n".encode())
    return digest.hexdigest()


def _already_prepared(destination: Path, listing: str) -> Path:
    if (destination / "meta.json").is_file() and read_meta(destination).get("listing") == listing:
        tidy(destination)
        return destination
    raise FileExistsError(
        f"{destination} exists and was not prepared from these files at this size; remove it or name another folder"
    )


def _finish(state: Unfinished, destination: Path, classes: list[str], meta: dict, refused: list[dict]) -> Path:
    """Write what follows from the images and give the store its name."""
    records = state.records()
    accepted = [r for r in records if r["reason"] is None]
    rejected = refused + [{"file": r["file"], "reason": r["reason"]} for r in records if r["reason"] is not None]
    counts = np.bincount([r["label"] for r in accepted], minlength=len(classes))
    if not counts.all():
        empty = classes[int(counts.argmin())]
        why = next((f"; {r['file']}: {r['reason']}" for r in rejected if r["file"].startswith(f"{empty}/")), "")
        raise ValueError(f"class {empty!r} is left without an image{why}")
    state.write_count()
    if state.form == "jpeg":
        offsets = np.cumsum([0, *(r["bytes"] for r in accepted)])
        write_file(state.folder / OFFSETS, npy_bytes(offsets))
        meta = meta | {"form": state.form, "quality": QUALITY}
    lines = ["file,class,sha256"]
    lines += [f"{_quoted(r['file'])},{_quoted(classes[r['label']])},{r['sha256']}" for r in accepted]
    write_file(state.folder / "index.csv", ("\n".join(lines) + "\n").encode())
    fingerprint = hashlib.sha256("\n".join(lines).encode() + str(state.size).encode()).hexdigest()
    meta = meta | {"files": len(records) + len(refused), "rejected": rejected, "fingerprint": fingerprint}
    _write_statistics(state.folder, np.array([r["label"] for r in accepted]), classes, state.sum, state.products, meta)
    publish(state.folder, destination)
    return destination


def write_store(destination: Path, images: np.ndarray, labels: np.ndarray, classes: list[str], meta: dict) -> Path:
    """Publish images that are in memory, uint8 (N, S, S, 3), as a store."""
    with alone_at(destination):
        if destination.exists():
            return destination
        work = destination.with_name(f".{destination.name}.partial")
        if work.exists():
            shutil.rmtree(work)  # of a run that was killed
        with room_for(work, "nothing that counts is there"):
            work.mkdir(parents=True)
            write_file(work / "images.npy", npy_header(images.shape), np.ascontiguousarray(images).data)
            names = "".join(f"{i},{classes[label]},\n" for i, label in enumerate(labels))
            write_file(work / "index.csv", f"file,class,sha256\n{names}".encode())
            fingerprint = hashlib.sha256(images.tobytes() + labels.astype(np.int64).tobytes()).hexdigest()
            meta = meta | {"files": len(images), "rejected": [], "fingerprint": fingerprint}
            products = sum(colour_products(image) for image in images)
            _write_statistics(work, labels, classes, images.sum(0, dtype=np.int64), products, meta)
            publish(work, destination)
        return destination


def _write_statistics(folder: Path, labels, classes, image_sum, products, meta: dict) -> None:
    """labels.npy, mean.npy and meta.json."""
    pca = pca_of_sums(products, image_sum.sum((0, 1)), len(labels) * image_sum[..., 0].size)
    write_file(folder / "labels.npy", npy_bytes(labels.astype(np.int64)))
    write_file(folder / "mean.npy", npy_bytes((image_sum / len(labels)).astype(np.float32)))
    meta = meta | {
        "classes": classes,
        "images": len(labels),
        "size": len(image_sum),
        "colour_pca": {"eigenvalues": pca.eigenvalues.tolist(), "eigenvectors": pca.eigenvectors.tolist()},
        "versions": {"numpy": np.__version__, "pillow": PIL.__version__, "torch": torch.__version__},
    }
    write_file(folder / "meta.json", (json.dumps(meta, indent=1, ensure_ascii=False) + "\n").encode())


def _quoted(text: str) -> str:
    """A csv field."""
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\n\r') else text
