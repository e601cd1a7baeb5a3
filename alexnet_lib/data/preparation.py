"""§2, preparation: from files of any size and kind to the arrays of a store, once, with every core, safe to interrupt.

The images are appended in the order of the files, a chunk at a time; after each chunk the state is written down. A run
that is killed loses at most a chunk. The finished store doesn't depend on interruptions, chunks or the number of
workers: everything that is summed over images is an integer, exact in any order.
"""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
import torch
from PIL import Image
from tqdm import tqdm

from .. import cores, keep_memory
from ..colours import colour_products, pca_of_sums
from ..files import npy_bytes, sha256, write_file, write_json
from ..progress import progress_bar, say
from .jpeg_store import IMAGES, OFFSETS, QUALITY, encode
from .large_pictures import one_picture, wait_for_room
from .sources import SourceFile, Split, other_content, printable, some_of
from .store_files import FORMS, RAW, digests_in, read_index, read_meta, samples
from .torn import require_enough, with_end
from .unfinished import Unfinished, clear_up, make_store, npy_header, word_sum, work_of

CHUNK, GROUP = 256, 8  # files
SMALL, CHUNK_SMALL, GROUP_SMALL = 128, 1024, 32  # pixels a side, and files: where calls take longer than their work
LARGEST_SIZE = 10_000  # pixels a side
NOTED = 512  # bytes that a store, and the work on it, keep of each file
AS_JPEG = 10  # how many times smaller than its pixels a picture is; photographs of 256 pixels, on average
LARGEST_PICTURE = 100_000_000  # pixels; beyond it a small file is an attack on memory, not a photograph
LARGEST_FILE = 2**28  # bytes; the largest photographs of ImageNet have some 2**24
TO_QUOTE = re.compile('[,"\n\r]')  # in a csv field
ORIENTATION, INVERTED = 274, 262  # tags of a TIFF: how to turn it; and 0 where its zero is white
UNTURNED = dict(enumerate(map(Image.Transpose, (0, 3, 1, 5, 2, 6, 4)), start=2))  # what undoes each turn
# no EPS among them: Pillow hands that to another program
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM")


# --------------------------------------------------------------------------------------------------- one picture


def decode(data: bytes) -> torch.Tensor:
    """The picture in these bytes as uint8 (3, H, W) RGB.

    Rotation tags and alpha are ignored, as in 2012. The content counts, not the name: a PNG may be called JPEG. Of 16
    bits a pixel the upper eight are kept.

    Raises:
        ValueError: not a whole picture, or one whose numbers don't say what is white, with the reason.
    """
    from simplejpeg import decode_jpeg, decode_jpeg_header  # here, because a machine that only trains needs no decoder

    torn = False
    if data.startswith(b"\xff\xd8\xff") and b"MPF\0" not in data:  # of several pictures Pillow takes the first
        try:
            height, width, colours, _ = decode_jpeg_header(data)
            if width * height <= LARGEST_PICTURE:
                wait_for_room(width * height)
                pixels = decode_jpeg(data)
                if colours in ("YCbCr", "Gray", "RGB"):  # Pillow knows the others; here one learns if they are whole
                    return torch.from_numpy(pixels).permute(2, 0, 1)
        except ValueError as error:  # Pillow decides whether enough is left of a damaged file
            torn = "remature end" in str(error)
            if "Premature end of JPEG file" in str(error):
                data = with_end(data)
    try:
        picture = Image.open(BytesIO(data), formats=FORMATS)
        if picture.width * picture.height > LARGEST_PICTURE:
            raise ValueError(f"{picture.width} × {picture.height} pixels, more than {LARGEST_PICTURE:,}")
        wait_for_room(picture.width * picture.height)
        turned = UNTURNED.get(getattr(picture, "tag_v2", {}).get(ORIENTATION))  # Pillow turns a TIFF by its tag
        if picture.mode[0] in "IF":  # grey of more than 8 bits, which Pillow would clip to white
            picture = Image.fromarray(_upper_bits(picture))
        if turned is not None:
            picture = picture.transpose(turned)
        pixels = np.array(picture.convert("RGB"))
        if torn:
            require_enough(data, pixels, "progressive" in picture.info)
        return torch.from_numpy(pixels).permute(2, 0, 1)
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
    tags = getattr(picture, "tag_v2", {})  # of a TIFF; in other formats there are 16 bits
    bits, signed = tags.get(258, (16,)), 2 in tags.get(339, ())
    if picture.mode == "F" or bits != (16,) or signed:
        kind = "fractions" if picture.mode == "F" else f"signed or {bits[0]}-bit whole numbers"
        raise ValueError(f"its pixels are {kind}, which do not say what is white; save it with 8 or 16 bits a pixel")
    upper = (np.asarray(picture) >> 8).astype(np.uint8)
    return 255 - upper if tags.get(INVERTED) == 0 else upper


def fit(picture: torch.Tensor, size: int) -> torch.Tensor:
    """Scale until the shorter side is `size` pixels and keep the centre: (…, 3, H, W) to (…, size, size, 3) uint8 (§2).

    Bilinear with antialiasing: Pillow's rule, within one grey level nearly everywhere and two at most. A picture so
    thin that it would become enormous is a ValueError; without a torchvision that fits torch, an ImportError.
    """
    height, width = picture.shape[-2:]
    shorter = min(height, width)
    if size * size * max(height, width) // shorter > LARGEST_PICTURE:
        raise ValueError(f"{width} × {height} pixels, too thin: scaled to {size} it has more than {LARGEST_PICTURE:,}")
    if shorter != size:
        try:
            from torchvision.transforms.v2.functional import resize  # here, because importing torchvision takes seconds
        except (ImportError, RuntimeError) as error:  # the second, where one of the two is for CUDA and the other not
            raise ImportError(
                f"torchvision can't be loaded beside torch {torch.__version__} ({error}): install both "
                "from the same place"
            ) from error
        picture = resize(picture, [size * height // shorter, size * width // shorter], antialias=True)
    top, left = (picture.shape[-2] - size) // 2, (picture.shape[-1] - size) // 2
    return picture[..., top : top + size, left : left + size].movedim(-3, -1).contiguous()


class Group(NamedTuple):
    """What became of some files, and the sums over their images, which are exact in any order."""

    records: list[dict]  # of each file, as `Unfinished.records` gives them again
    stored: list[bytes | memoryview]  # of each image; nothing of a file that is rejected
    total: np.ndarray  # of the images, uint16, which holds 256 of them
    products: np.ndarray  # of their colours


def _prepare_group(files: list[SourceFile], size: int, form: str) -> Group:
    records, images, waiting = [], {}, {}
    contents = (file.read_bytes() if file.size <= LARGEST_FILE else None for file in files)
    if size < SMALL:
        contents = list(contents)  # with no work between them, reading takes less time
    for i, (file, data) in enumerate(zip(files, contents, strict=True)):
        records.append({"file": file.name, "label": file.label, "sha256": None, "reason": None})
        with one_picture():
            try:
                if data is None:
                    raise ValueError(f"{file.size:,} bytes, more than {LARGEST_FILE:,}")
                records[i]["sha256"] = sha256(data)
                picture = decode(data)
                if size < SMALL and max(picture.shape) < SMALL:
                    waiting.setdefault(picture.shape, []).append((i, picture))
                else:
                    images[i] = fit(picture, size).numpy()
            except ValueError as error:
                records[i]["reason"] = str(error)
            picture = None  # before another begins
    for alike in waiting.values():  # of one shape, and so small that a call takes longer than its work
        places, pictures = zip(*alike, strict=True)
        together = torch.stack([picture.permute(1, 2, 0) for picture in pictures])  # as they lie in memory
        images |= zip(places, fit(together.permute(0, 3, 1, 2), size).numpy(), strict=True)
    total, products = _sums([*images.values()], size)
    stored = [b""] * len(files)
    for i in [*images]:
        image = images.pop(i)
        stored[i] = encode(image) if form == "jpeg" else image.reshape(-1).data
    for record, data in zip(records, stored, strict=True):
        record |= {"bytes": len(data), "check": word_sum(data)}
    return Group(records, stored, total, products)


def _sums(images: list[np.ndarray], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Over images of this size: their sum, and that of the products of their colours."""
    if size < SMALL and images:
        together = np.stack(images)
        return together.sum(0, dtype=np.uint16), colour_products(together.reshape(len(images) * size, size, 3))
    total, products = np.zeros((size, size, 3), np.uint16), np.zeros((3, 3))
    for image in images:
        total += image
        products += colour_products(image)
    return total, products


# ------------------------------------------------------------------------------------------------ from files to a store


def room_for(stores: dict[Path, Split], size=256, form="raw") -> str:
    """What the stores of these splits will take, and what is free there, in a sentence; "" where all are made.

    Of JPEG it is an estimate. What an earlier run has left to go on with counts.

    Raises:
        ValueError: an impossible size or form.
        OSError: there is less room, or nothing can be written there.
    """
    if not 1 <= size <= LARGEST_SIZE:
        raise ValueError(f"size = {size}; accepted is a side of 1 to {LARGEST_SIZE:,} pixels")
    if form not in FORMS:
        raise ValueError(f"form = {form!r}; accepted are {', '.join(FORMS)}")
    made = {place: len(split.files) for place, split in stores.items() if not place.exists()}
    if not made:
        return ""
    each = size * size * 3 // (AS_JPEG if form == "jpeg" else 1) + NOTED
    needed, count, folder = sum(made.values()) * each, sum(made.values()), next(iter(made)).absolute().parent
    needed -= sum(file.stat().st_size for place in made for file in work_of(place).glob("*"))
    about, smaller = ("about ", "") if form == "jpeg" else ("", ", take the form jpeg, of a tenth of that,")
    return require_room(folder, max(needed, 0), f"{count:,} pictures take {about}", smaller)


def require_room(folder: Path, needed: int, what: str, smaller: str = "") -> str:
    """How many bytes are needed for `what` and how many are free in a folder, in a sentence.

    Raises:
        OSError: there are fewer, or nothing can be written there.
    """
    free = shutil.disk_usage(require_writable(folder)).free
    said = f"{what}{_gigabytes(needed)} in {folder}, where {_gigabytes(free)} are free"
    if needed > free:
        raise OSError(errno.ENOSPC, f"{said}. Make room{smaller} or set $ALEXNET_STORES to a folder on another disk")
    return said


def require_writable(folder: Path) -> Path:
    """The folder, or the nearest above it that is there, if it can be written to; otherwise a PermissionError."""
    there = next(place for place in (folder, *folder.parents) if place.is_dir())
    if not os.access(there, os.W_OK | os.X_OK):
        why = "prepared stores cannot be written there; set $ALEXNET_STORES to a folder where they can"
        raise PermissionError(errno.EACCES, why, str(there))
    return there


def _gigabytes(count: int) -> str:
    """A number of bytes for people."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def prepare_files(split: Split, destination: Path, size=256, workers=None, progress=True, form="raw") -> Path:
    """Make a store of these files in their order, go on with it, or find it done; see `dataset.prepare`."""
    listing = split.hash(size, form)

    def fill(work: Path) -> None:
        so_far = Unfinished(work, listing, len(split.files), size, form)
        known = {record["file"]: record["sha256"] for record in so_far.records()}
        if other_content(some_of(split.files[: so_far.state["files"]]), known):
            shutil.rmtree(work)  # it was begun with other pictures of the same names and sizes
            so_far = Unfinished(work, listing, len(split.files), size, form)
        _append_all(so_far, split, workers, progress)
        _finish(so_far, split, listing)

    there = destination.exists()
    if not there:
        make_store(destination, fill, "what is prepared so far is kept there")
    same = (destination / "meta.json").is_file() and read_meta(destination).get("listing") == listing
    if (
        not same
        or there
        and other_content(some_of(split.files), digests_in(read_index(destination, read_meta(destination))))
    ):
        raise FileExistsError(
            f"{destination} exists and was not prepared from these files at this size; remove it or name another folder"
        )
    clear_up(destination)
    return destination


def say_rejected(store: Path, source: str) -> None:
    """A line for a person about the files of a source that aren't in its store, if there are any."""
    meta = read_meta(store)
    if rejected := meta["rejected"]:
        count = f"{len(rejected):,} of {meta['files']:,} files of {printable(source)}"
        first = printable(f"{rejected[0]['file']}: {rejected[0]['reason']}")
        say(tqdm, f"{count} aren't in the store (first: {first}); all are listed in {store / 'meta.json'}")


def _append_all(so_far: Unfinished, split: Split, workers: int | None, progress: bool) -> None:
    """Prepare the files that are still missing."""
    keep_memory()
    start, files = so_far.state["files"], split.files
    size, count = (CHUNK_SMALL, GROUP_SMALL) if so_far.size < SMALL else (CHUNK, GROUP)
    bar = progress_bar(len(files), f"preparing {split.about['source']}", "file", progress, initial=start)
    with bar, _single_threads(workers or cores()) as pool:

        def begin(chunk: list[SourceFile]) -> Iterator[Group]:
            """Some files at a time, because each result wakes the thread that waits."""
            groups = [chunk[i : i + count] for i in range(0, len(chunk), count)]
            return pool.map(lambda group: _prepare_group(group, so_far.size, so_far.form), groups)

        chunks = [files[i : i + size] for i in range(start, len(files), size)]
        ahead = [begin(chunk) for chunk in chunks[:1]]
        for chunk, following in zip_longest(chunks, chunks[1:], fillvalue=[]):
            done = list(ahead.pop())
            ahead.append(begin(following))  # the cores go on while a chunk is written
            so_far.append(done)
            bar.update(len(chunk))


@contextmanager
def _single_threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that each compute alone. Not processes, as decoding and scaling release Python's lock."""
    of_process = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)  # who is interrupted does not wait for two chunks
        torch.set_num_threads(of_process)  # a thread's setting is that of all threads that begin to compute later


def _finish(so_far: Unfinished, split: Split, listing: str) -> None:
    """Write what follows from the images."""
    records, classes, meta = so_far.records(), split.classes, split.about | {"listing": listing}
    accepted = [r for r in records if r["reason"] is None]
    rejected = [{"file": r["file"], "reason": r["reason"]} for r in records if r["reason"] is not None]
    rejected = [*split.refused, *rejected]
    labels = np.array([r["label"] for r in accepted], np.int64)
    counts = np.bincount(labels, minlength=len(classes))
    if not counts.all():
        empty = classes[int(counts.argmin())]
        why = next((f"; {r['file']}: {r['reason']}" for r in rejected if r["file"].startswith(f"{empty}/")), "")
        raise ValueError(f"class {empty!r} is left without an image{printable(why)}")
    so_far.write_count()
    places = None
    if so_far.form == "jpeg":
        places = np.cumsum([0, *(r["bytes"] for r in accepted)])
        meta |= {"form": so_far.form, "quality": QUALITY}
    lines = [f"{_quoted(r['file'])},{_quoted(classes[r['label']])},{r['sha256']}" for r in accepted]
    index = "\n".join(["file,class,sha256", *lines])
    fingerprint = sha256(f"{index}{so_far.size}".encode())
    meta |= {"files": len(records) + len(split.refused), "rejected": rejected, "fingerprint": fingerprint}
    sums = so_far.state["sum"], so_far.state["products"]
    _write_rest(so_far.folder, index + "\n", labels, classes, *sums, meta, places)


def write_store(destination: Path, images: np.ndarray, labels: np.ndarray, classes: list[str], meta: dict) -> Path:
    """Publish images that are in memory, uint8 (N, S, S, 3), as a store."""

    def fill(work: Path) -> None:
        shutil.rmtree(work, ignore_errors=True)  # of a run that was killed
        work.mkdir()
        write_file(work / "images.npy", npy_header(images.shape), np.ascontiguousarray(images).data)
        index = "".join(["file,class,sha256\n", *(f"{i},{classes[label]},\n" for i, label in enumerate(labels))])
        fingerprint = sha256(images.tobytes(), labels.astype(np.int64).tobytes())
        about = meta | {"files": len(images), "rejected": [], "fingerprint": fingerprint}
        products = sum(colour_products(image) for image in images)
        _write_rest(work, index, labels, classes, images.sum(0, dtype=np.int64), products, about)

    make_store(destination, fill, "nothing that counts is there")
    return destination


def _write_rest(folder: Path, index: str, labels, classes, image_sum, products, meta: dict, places=None) -> None:
    """The files beside the images; places: where in their file the images lie, unless they are one array."""
    count, size = len(labels), len(image_sum)
    pca = pca_of_sums(products, image_sum.sum((0, 1)), count * size * size)
    arrays = {"labels.npy": labels.astype(np.int64), "mean.npy": (image_sum / count).astype(np.float32)}
    if places is not None:
        arrays[OFFSETS] = places
    files = {"index.csv": index.encode()} | {name: npy_bytes(array) for name, array in arrays.items()}
    for name, data in files.items():
        write_file(folder / name, data)
    images = folder / (RAW if places is None else IMAGES)
    if places is None:
        start, each = len(npy_header((count, size, size, 3))), size * size * 3
        places = range(start, start + count * each + 1, each)
    digests = {name: sha256(data) for name, data in files.items()} | {images.name: sha256(*samples(images, places))}
    write_json(
        folder / "meta.json",
        meta
        | {
            "classes": classes,
            "images": count,
            "size": size,
            "colour_pca": {"eigenvalues": pca.eigenvalues.tolist(), "eigenvectors": pca.eigenvectors.tolist()},
            "digests": digests,
            "versions": {"numpy": np.__version__, "pillow": PIL.__version__, "torch": torch.__version__},
        },
    )


def _quoted(text: str) -> str:
    """A csv field."""
    return '"' + text.replace('"', '""') + '"' if TO_QUOTE.search(text) else text
