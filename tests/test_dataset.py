"""§2: preparation against Pillow, against hand-computed statistics, and against kill -9."""

import io
import json
import os
import shutil
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from alexnet_lib import load_dataset, open_store, prepare
from alexnet_lib.data.preparation import CHUNK_SMALL, decode, fit, write_store
from alexnet_lib.dataset import choose_dataset, main


def photograph(seed, width, height):
    """Smooth noise, which JPEG and scaling treat as they treat photographs."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def jpeg(picture, **options):
    file = io.BytesIO()
    picture.save(file, "JPEG", **options)
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Two classes, four pictures: tall, wide, grey, and large."""
    source = tmp_path / "pictures"
    for name, seed, size, mode in [("cat/a b.jpg", 0, (90, 140), "RGB"), ("cat/ü.jpg", 1, (140, 90), "L")] + [
        ("dog/x/1.jpg", 2, (64, 64), "RGB"),
        ("dog/2.png", 3, (300, 200), "RGB"),
    ]:
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        photograph(seed, *size).convert(mode).save(path)
    return source


def test_preparation_leaves_torch_its_threads(folder, tmp_path):
    """Asked in a thread of a new process, as the number is one for all that have not computed yet."""
    program = (
        "import sys, torch, alexnet_lib\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "torch.set_num_threads(3)\n"
        "alexnet_lib.prepare(sys.argv[1], sys.argv[2], size=32, progress=False)\n"
        "print(torch.get_num_threads(), ThreadPoolExecutor(1).submit(torch.get_num_threads).result())"
    )
    command = [sys.executable, "-c", program, str(folder), str(tmp_path / "store")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3", "3"]


@pytest.mark.parametrize(("width", "height"), [(500, 375), (375, 500), (256, 300), (100, 260), (257, 256), (1000, 999)])
def test_pixels_are_those_of_pillow_within_one_level(width, height):
    data = jpeg(photograph(width, width, height), quality=90)
    theirs = Image.open(io.BytesIO(data)).convert("RGB")
    shorter = min(width, height)
    theirs = theirs.resize((256 * width // shorter, 256 * height // shorter), Image.Resampling.BILINEAR)
    left, top = (theirs.width - 256) // 2, (theirs.height - 256) // 2
    theirs = np.asarray(theirs.crop((left, top, left + 256, top + 256)), int)
    ours = fit(decode(data), 256).numpy()
    assert ours.shape == (256, 256, 3) and ours.dtype == np.uint8
    assert np.abs(ours - theirs).max() <= 1


def test_a_store_holds_what_the_contract_says(folder, tmp_path):
    store = prepare(folder, tmp_path / "store", size=32, progress=False)
    assert store.images.shape == (4, 32, 32, 3) and store.images.dtype == np.uint8
    assert store.classes == ["cat", "dog"] and store.labels.tolist() == [0, 0, 1, 1]
    assert store.index["file"].tolist() == ["cat/a b.jpg", "cat/ü.jpg", "dog/2.png", "dog/x/1.jpg"]
    np.testing.assert_allclose(store.mean, store.images.astype(float).mean(0), rtol=1e-6)
    pixels = store.images.reshape(-1, 3).astype(float)
    covariance = np.cov(pixels.T, bias=True)
    rebuilt = store.pca.eigenvectors * store.pca.eigenvalues @ store.pca.eigenvectors.T
    np.testing.assert_allclose(rebuilt, covariance, rtol=1e-9, atol=1e-8)
    assert store.crop == 28 and len(store) == 4 and store.meta["rejected"] == []
    assert sorted(p.name for p in store.folder.iterdir()) == sorted(
        ["images.npy", "labels.npy", "index.csv", "mean.npy", "meta.json"]
    )


def test_the_mean_of_white_pictures_is_white(tmp_path):
    """Of more than fill a chunk, whose sum must hold them all."""
    (tmp_path / "white" / "a").mkdir(parents=True)
    white = saved(Image.new("RGB", (4, 4), "white"), "PNG")
    for number in range(CHUNK_SMALL + 5):
        (tmp_path / "white" / "a" / f"{number}.png").write_bytes(white)
    store = prepare(tmp_path / "white", tmp_path / "store", size=4, progress=False)
    assert len(store) == CHUNK_SMALL + 5 and (store.mean == 255).all() and not store.pca.eigenvalues.any()


def test_grey_pictures_have_three_equal_channels(folder, tmp_path):
    grey = prepare(folder, tmp_path / "store", size=32, progress=False).images[1]
    assert (grey == grey[..., :1]).all() and grey.std() > 0


def test_what_cannot_be_a_picture_is_listed_and_the_run_goes_on(folder, tmp_path, capsys):
    whole = (folder / "cat" / "a b.jpg").read_bytes()
    (folder / "cat" / "empty.jpg").touch()
    (folder / "cat" / "notes.jpg").write_text("not a picture")
    (folder / "dog" / "torn.jpg").write_bytes(whole[: len(whole) // 2])
    main(["prepare", str(folder), str(tmp_path / "store"), "--size", "32"])
    store = open_store(tmp_path / "store")
    reasons = {entry["file"]: entry["reason"] for entry in store.meta["rejected"]}
    assert set(reasons) == {"cat/empty.jpg", "cat/notes.jpg", "dog/torn.jpg"}
    assert reasons["cat/empty.jpg"] == "empty file" and "known format" in reasons["cat/notes.jpg"]
    assert "truncated" in reasons["dog/torn.jpg"]
    assert store.meta["files"] == len(store) + len(reasons) == 7
    printed = capsys.readouterr().out
    assert "7 files: 4 images of 2 classes, 3 rejected" in printed and "cat/notes.jpg" in printed


def test_rejected_files_are_told_once_where_a_store_is_made(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ALEXNET_PROGRESS", "lines")
    told = lambda: [line for line in capsys.readouterr().out.splitlines() if "aren't in the store" in line]  # noqa: E731
    prepare(folder, tmp_path / "whole", size=8)
    assert not told()
    for name in ("a.avif", "b.avif"):
        (folder / "cat" / name).write_text("not a picture")
    prepare(folder, tmp_path / "store", size=8)
    listed = tmp_path / "store" / "meta.json"
    first = "cat/a.avif: not a picture of a known format"
    assert told() == [f"2 of 6 files of {folder.name} aren't in the store (first: {first}); all are listed in {listed}"]
    prepare(folder, tmp_path / "store", size=8)
    prepare(folder, tmp_path / "quiet", size=8, progress=False)
    main(["prepare", str(folder), str(tmp_path / "command"), "--size", "8"])
    assert not told()


def test_of_many_rejected_files_some_are_printed(folder, tmp_path, capsys):
    for number in range(60):
        (folder / "cat" / f"{number}.txt").write_text("text")
    main(["prepare", str(folder), str(tmp_path / "store"), "--size", "4"])
    printed = capsys.readouterr().out
    assert (
        printed.count("not a picture") == 50 and f"and 10 more, listed in {tmp_path / 'store' / 'meta.json'}" in printed
    )


STEERING = "\x1b[2J\n1.jpg"  # it would clear the screen and begin a line
ESCAPED = r"\x1b[2J\n1.jpg"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_names_that_would_steer_a_terminal_are_escaped_where_they_are_read(folder, tmp_path, capsys):
    (folder / "cat" / STEERING).write_text("not a picture")
    main(["prepare", str(folder), str(tmp_path / "store"), "--size", "4"])
    printed = capsys.readouterr().out
    assert f"  cat/{ESCAPED}: not a picture" in printed and "\x1b" not in printed
    store = open_store(tmp_path / "store")
    assert [entry["file"] for entry in store.meta["rejected"]] == [f"cat/{STEERING}"]  # the store keeps the name
    (folder / "eel").mkdir()
    (folder / "eel" / STEERING).write_text("not a picture")
    with pytest.raises(SystemExit):
        main(["prepare", str(folder), str(tmp_path / "other"), "--size", "4"])
    said = capsys.readouterr().err
    assert f"eel/{ESCAPED}: not a picture" in said and "\x1b" not in said


ABOVE, BELOW = (200, 40, 90), (30, 120, 220)


def halves(width=40, height=30):
    """A picture that shows its colours and which way up it is."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[: height // 2], pixels[height // 2 :] = ABOVE, BELOW
    return Image.fromarray(pixels)


def saved(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def png(width, height, depth, colour_type, rows):
    """A PNG by hand, for what Pillow cannot write; `rows` are its raw bytes, as many as one likes."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def deep_rgb():
    pixels = np.asarray(halves()).astype(">u2") * 257
    return png(40, 30, 16, 2, b"".join(b"\0" + row.tobytes() for row in pixels))


def ycck():
    """A CMYK file of Pillow whose first three channels are, and say that they are, luminance and colour."""
    channels = [*halves().convert("YCbCr").split(), Image.new("L", (40, 30), 0)]
    data = bytearray(saved(Image.merge("CMYK", channels), "JPEG", quality=95))
    data[data.index(b"Adobe") + 11] = 2
    return bytes(data)


def rotated():
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(halves(), "JPEG", quality=95, subsampling=0, exif=exif)


def half(tail):
    """The first half of a JPEG, and something after it."""
    data = saved(photograph(0, 90, 90), "JPEG", quality=95)
    return data[: len(data) // 2] + tail


GREY = tuple((c, c, c) for c in (round(0.299 * r + 0.587 * g + 0.114 * b) for r, g, b in (ABOVE, BELOW)))
TRAPS = {
    "a PNG that is called JPEG": (lambda: saved(halves(), "PNG"), (ABOVE, BELOW)),
    "CMYK": (lambda: saved(halves().convert("CMYK"), "JPEG", quality=95), (ABOVE, BELOW)),
    "YCCK": (ycck, (ABOVE, BELOW)),
    "grey JPEG": (lambda: saved(halves().convert("L"), "JPEG", quality=95), GREY),
    "grey PNG": (lambda: saved(halves().convert("L"), "PNG"), GREY),
    "grey with alpha": (lambda: saved(halves().convert("LA"), "PNG"), GREY),
    "16 bits, grey": (lambda: saved(Image.fromarray(np.asarray(halves().convert("L"), np.uint16) * 257), "PNG"), GREY),
    "16 bits, grey, PGM": (lambda: b"P5 1 2 65535 " + np.array([[40 * 257], [80 * 257]], ">u2").tobytes(), None),
    "16 bits, RGB": (deep_rgb, (ABOVE, BELOW)),
    "alpha": (
        lambda: saved(Image.merge("RGBA", [*halves().split(), Image.new("L", (40, 30), 9)]), "PNG"),
        (ABOVE, BELOW),
    ),
    "palette": (lambda: saved(halves().quantize(4), "PNG", transparency=0), (ABOVE, BELOW)),
    "black and white": (
        lambda: saved(halves().convert("L").point(lambda v: 255 * (v > 100)).convert("1"), "PNG"),
        None,
    ),
    "progressive": (lambda: saved(halves(), "JPEG", quality=95, subsampling=0, progressive=True), (ABOVE, BELOW)),
    "rotation tag": (rotated, (ABOVE, BELOW)),
    "bytes before the end": (
        lambda: saved(halves(), "JPEG", quality=95, subsampling=0)[:-2] + b"stray\xff\xd9",
        (ABOVE, BELOW),
    ),
    "bytes after the end": (lambda: saved(halves(), "JPEG", quality=95, subsampling=0) + b"trailer", (ABOVE, BELOW)),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_odd_pictures_are_read_as_what_they_show(trap):
    make, wanted = TRAPS[trap]
    pixels = decode(make()).permute(1, 2, 0).numpy().astype(int)
    if wanted is None:
        assert pixels.shape[2] == 3 and sorted(np.unique(pixels)) in ([40, 80], [0, 255])
    else:
        assert pixels.shape == (30, 40, 3)
        assert np.abs(pixels[[5, 25], 20] - wanted).max() <= 4


REJECTED = {
    "truncated": (lambda: rotated()[:-40], "truncated"),
    "truncated and padded": (lambda: rotated()[:-40] + bytes(100), "truncated"),
    "half, padded with zeros": (lambda: half(bytes(100_000)), "not a whole picture, but truncated: .* of one colour"),
    "half, with an end": (lambda: half(b"\xff\xd9"), "not a whole picture, but truncated: .* of one colour"),
    "truncated PNG": (lambda: saved(photograph(0, 90, 90), "PNG")[:4000], "truncated"),
    "only a header": (lambda: rotated()[:30], "cannot be decoded|known format"),
    "empty": (lambda: b"", "^empty file$"),
    "text": (lambda: b"sign in to see this picture", "known format"),
    "zeros": (lambda: bytes(5000), "known format"),
    "a program for Ghostscript": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "known format"),
    "bomb": (lambda: png(12_000, 12_000, 8, 2, bytes(99)), "12000 × 12000 pixels, more than 100,000,000"),
    "larger bomb": (lambda: png(60_000, 60_000, 8, 2, bytes(99)), "decompression bomb"),
    "too thin": (lambda: saved(Image.new("L", (1, 20_000)), "PNG"), "1 × 20000 pixels, too thin"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("trap", REJECTED)
def test_what_is_no_whole_picture_is_rejected_with_the_reason(trap):
    make, reason = REJECTED[trap]
    with pytest.raises(ValueError, match=reason):
        fit(decode(make()), 256)


def test_a_jpeg_that_lacks_a_line_is_a_picture():
    """As a few of ImageNet's do, which the program of 2012 had."""
    data = saved(photograph(0, 400, 400), "JPEG", quality=95)
    whole, torn = decode(data), decode(data[:-300] + b"\xff\xd9")
    assert torch.equal(decode(data[:-2] + bytes(512)), whole)  # only its end is missing
    assert torn.shape == whole.shape and torch.equal(torn[:, :370], whole[:, :370]) and not torch.equal(torn, whole)


def test_random_damage_is_a_picture_or_a_reason():
    """Decoders raise nearly anything on damaged bytes; preparation knows only ValueError."""
    random, sources = np.random.default_rng(0), [rotated(), ycck(), saved(halves(), "PNG"), saved(halves(), "TIFF")]
    for round in range(200):
        data = bytearray(sources[round % len(sources)])
        for _ in range(6):
            data[int(random.integers(min(len(data), 700)))] = int(random.integers(256))
        try:
            picture = fit(decode(bytes(data)), 16)
            assert picture.shape == (16, 16, 3)
        except ValueError as error:
            assert str(error)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_torchvision_that_does_not_fit_torch_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.transforms.v2.functional", None)
    with pytest.raises(ImportError, match="torchvision can't be loaded beside torch 2.*: install both from the same"):
        fit(decode(jpeg(photograph(0, 9, 9))), 8)


def test_no_file_is_lost(tmp_path):
    """Counts in are counts out and listed rejections, whatever the files are and are called, but for hidden ones."""
    odd = [
        b"a b",
        b'comma, "quote"',
        b"line\nbreak",
        b"return\r",
        "ü ß 猫".encode(),
        b"caf\xe9",
        b"back\\slash",
    ]
    folder = tmp_path / "pictures" / os.fsdecode("é ".encode() + b"\xe9")
    folder.mkdir(parents=True)
    makers = [make for make, _ in TRAPS.values()] + [make for make, _ in REJECTED.values()]
    for i, make in enumerate(makers):
        (folder / f"{i} trap.JPEG").write_bytes(make())
    for name in [*odd, b".hidden"]:
        with open(os.path.join(os.fsencode(folder), name + b".jpg"), "wb") as file:
            file.write(rotated())
    store = prepare(tmp_path / "pictures", tmp_path / "store", size=256, workers=1, progress=False)
    assert len(store) == len(TRAPS) + len(odd) and len(store.meta["rejected"]) == len(REJECTED)
    assert store.meta["files"] == len(makers) + len(odd)
    names = set(store.index["file"])
    assert len(names) == len(store) and not names & {entry["file"] for entry in store.meta["rejected"]}
    wanted = {"a b", 'comma, "quote"', "line\nbreak", "return\r", "ü ß 猫", "caf\\xe9", "back\\slash"}
    assert {f"é \\xe9/{name}.jpg" for name in wanted} <= names and store.classes == ["é \\xe9"]


def test_a_file_too_large_to_be_a_picture_is_not_read(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("alexnet_lib.data.preparation.LARGEST_FILE", 100_000)
    with open(folder / "cat" / "huge.jpg", "wb") as file:
        file.truncate(2**40)
    store = prepare(folder, tmp_path / "store", size=32, progress=False)
    assert store.meta["rejected"] == [{"file": "cat/huge.jpg", "reason": "1,099,511,627,776 bytes, more than 100,000"}]


def test_a_class_left_without_an_image_is_an_error(folder, tmp_path):
    (folder / "eel").mkdir()
    (folder / "eel" / "1.jpg").write_text("eel")
    with pytest.raises(ValueError, match="class 'eel' is left without an image; eel/1.jpg: not a picture"):
        prepare(folder, tmp_path / "store", size=32, progress=False)
    assert not (tmp_path / "store").exists()


def test_preparing_twice_opens_and_another_source_is_refused(folder, tmp_path):
    first = prepare(folder, tmp_path / "store", size=32, progress=False)
    changed = os.stat(first.folder / "images.npy").st_mtime_ns
    prepare(folder, tmp_path / "store", size=32, progress=False)
    assert os.stat(first.folder / "images.npy").st_mtime_ns == changed
    with pytest.raises(FileExistsError, match="not prepared from these files at this size"):
        prepare(folder, tmp_path / "store", size=16, progress=False)


@pytest.mark.parametrize("workers", [1, 3])
def test_bytes_do_not_depend_on_the_workers(folder, tmp_path, workers):
    prepare(folder, tmp_path / "one", size=32, workers=2, progress=False)
    prepare(folder, tmp_path / "two", size=32, workers=workers, progress=False)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


PREPARE = """
import sys
from alexnet_lib import prepare
prepare(*sys.argv[1:], size=32, progress=False)
"""


def test_two_that_prepare_the_same_store_at_once_do_it_once(tmp_path):
    source = tmp_path / "pictures"
    for i in range(20):
        path = source / "ab"[i % 2] / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(photograph(i, 40 + i, 50)))
    command = [sys.executable, "-c", PREPARE, str(source), str(tmp_path / "store")]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[1] for process in both] == ["", ""]
    assert [process.returncode for process in both] == [0, 0]
    assert len(open_store(tmp_path / "store").images) == 20


def test_a_folder_without_splits_is_divided_by_name(tmp_path, folder):
    for i in range(80):
        (folder / "cat" / f"{i}.jpg").write_bytes((folder / "cat" / "a b.jpg").read_bytes())
        (folder / "dog" / f"{i}.jpg").write_bytes((folder / "cat" / "a b.jpg").read_bytes())
    stores = load_dataset(str(folder), tmp_path / "data")
    files = {split: set(store.index["file"]) for split, store in stores.items()}
    assert not files["train"] & files["val"] and len(files["train"] | files["val"]) == 164
    assert 4 <= len(files["val"]) <= 40
    assert stores["train"].images.shape[1:] == (256, 256, 3)


def test_auto_takes_the_largest_prepared(tmp_path, folder):
    name, why = choose_dataset("auto", tmp_path)
    assert name == "embedded" and "no larger" in why
    prepare(folder, tmp_path / "prepared" / "imagenette-256" / "train", progress=False)
    name, why = choose_dataset("auto", tmp_path)
    assert name == "imagenette" and "4 training images" in why


def test_a_missing_data_set_says_how_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="'imagenette' is not in .*imagenette: .*or pictures so that"):
        load_dataset("imagenette", tmp_path)
    with pytest.raises(ValueError, match="'imagenet'; accepted are auto, embedded, embedded32, cifar10"):
        load_dataset("imagenet", tmp_path)


def test_the_built_in_collection_prepares(tmp_path):
    stores = load_dataset("embedded", tmp_path)
    assert {split: len(store) for split, store in stores.items()} == {"train": 2016, "val": 600}
    assert len(stores["train"].classes) == 24 and stores["train"].crop == 64
    assert (np.bincount(stores["train"].labels) == 84).all()
    assert json.loads((stores["val"].folder / "meta.json").read_text())["rejected"] == []


def test_a_data_set_is_prepared_by_its_name(tmp_path, folder, monkeypatch, capsys):
    for split in ("train", "val"):
        shutil.copytree(folder, tmp_path / "imagenette" / split)
    monkeypatch.setenv("ALEXNET_DATA", str(tmp_path))
    monkeypatch.setenv("ALEXNET_PROGRESS", "none")
    main(["prepare", "imagenette"])
    assert capsys.readouterr().out.count("4 files: 4 images of 2 classes, 0 rejected") == 2
    assert (tmp_path / "prepared" / "imagenette-256" / "val" / "images.npy").is_file()
    with pytest.raises(SystemExit):
        main(["prepare", "imagenet"])
    assert "dataset = 'imagenet'; accepted are" in capsys.readouterr().err


@pytest.mark.parametrize("option", [("--size", "64"), ("--form", "jpeg"), ("--workers", "1")])
def test_what_only_a_destination_takes_is_refused_without_one(folder, tmp_path, monkeypatch, capsys, option):
    monkeypatch.setenv("ALEXNET_DATA", str(tmp_path / "data"))
    with pytest.raises(SystemExit) as end:
        main(["prepare", str(folder), *option])
    assert end.value.code == 2 and "are of a named destination" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_names_of_digits_are_read_as_they_were_written(tmp_path):
    for name in ("007", "010"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        photograph(0, 9, 9).save(tmp_path / "pictures" / name / "1.png")
    store = prepare(tmp_path / "pictures", tmp_path / "store", 8)
    assert store.index["class"].tolist() == store.classes == ["007", "010"]


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("deep", [False, True])
def test_a_tiff_is_not_turned_by_its_tag(turn, deep):
    generator, exif = np.random.default_rng(0), Image.Exif()
    pixels = (
        generator.integers(0, 65536, (4, 6), np.uint16) if deep else generator.integers(0, 256, (4, 6, 3), np.uint8)
    )
    exif[274] = turn
    found = decode(saved(Image.fromarray(pixels), "TIFF", exif=exif)).permute(1, 2, 0)
    assert np.array_equal(found, np.repeat((pixels >> 8)[..., None], 3, 2) if deep else pixels)


def test_a_tiff_whose_zero_is_white_is_no_negative():
    data = saved(Image.fromarray(np.full((4, 4), 60000, np.uint16)), "TIFF", tiffinfo={262: 0})
    assert (decode(data) == 255 - (60000 >> 8)).all()


def test_a_spread_store_has_all_classes_however_its_pictures_lie(tmp_path):
    labels = np.random.default_rng(0).integers(0, 24, 1000)
    images = np.arange(1000, dtype=np.uint16).view(np.uint8).reshape(1000, 1, 2).repeat(2, 1)[..., None].repeat(3, 3)
    write_store(tmp_path / "store", images.copy(), labels, [f"c{i}" for i in range(24)], {"source": "test"})
    store = open_store(tmp_path / "store")
    for count in (24, 100, 500):
        some = store.spread(count)
        found, whole = (np.bincount(each.labels, minlength=24) for each in (some, store))
        assert len(some) == count and np.abs(found - whole * count / len(store)).max() <= 1
        rows = np.ascontiguousarray(some.images[:, 0, :, 0]).view(np.uint16)[:, 0]  # each picture bears its number
        assert np.array_equal(labels[rows], some.labels) and (np.diff(rows.astype(int)) > 0).all()
