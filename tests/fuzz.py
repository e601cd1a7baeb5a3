"""Whatever the bytes say that a stranger or a disk has left, an answer or a named error comes of it, and nothing else.

A target takes bytes for one file that the library reads. Its whole files are altered: bits, lengths, words, numbers,
headers whose checksums are made right again. Named is an error of one of NAMED, exactly, whose text names the file.
Nothing may be written outside of the target's folder, or take more than MEMORY beyond what the process had, or more
than SECONDS of the processor.

    python -m tests.fuzz [--inputs N] [TARGET ...]     so many inputs of each target
    python -m tests.fuzz --atheris TARGET              one target, its inputs led by the lines that they reach
    make fuzz                                          at least 100,000 inputs; atheris too where it is installed
"""

import argparse
import contextlib
import gzip
import json
import os
import re
import shutil
import signal
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from alexnet_lib.paths import REPOSITORY

NAMED = {"ValueError", "Damaged", "FileNotFoundError", "FileExistsError", "DamagedCheckpoint", "NotNumbers"}
MEMORY, SECONDS = 1_500_000_000, 20
FEW = 8  # inputs of a target, in the tests
WRITES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "os.symlink", "shutil.rmtree")
# what stands where a word or a number was: in JSON, TOML, CSV and the headers of .npy files
ODD = [b"-1", b"0", b"1", b"1e300", b"1e9", b"1000000000000", b"NaN", b"Infinity", b"null", b"None", b"true", b"[]"]
ODD += [b"{}", b'""', b'"../../x"', b'"auto"', b"[[[[1]]]]", b"9" * 400, b'"\\u0000"', b"[" * 3000, b"x" * 300, b"0.5"]
ODD += [b'"~"', b"-0.0", b"2147483648", b"18446744073709551616", b"\xff", b"'", b'"', b",", b"=", b"\n", b"|O", b"<i8"]
TOKEN = re.compile(rb'"[^"\n]*"|[-+.\w]+|[{}\[\],:=()]')
BYTES = [b"\0", b"\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x80", b"7" * 11, b"\x01\0\0\0"]


@dataclass
class Target:
    """A file that the library reads.

    make: the folder's other files, and whole contents for this one; read: what reads it, given the folder; path: of
    the file in the folder; right: makes checksums right again. weight: how many times fewer inputs it gets, as it is
    slow; loose: its errors may speak of settings, and not name the file.
    """

    make: Callable[[Path], list[bytes]]
    read: Callable[[Path], object]
    path: str
    right: Callable[[bytes], bytes] = bytes
    weight: int = 1
    loose: bool = False


# ------------------------------------------------------------------------------------------------ whole files


def pictures(place: Path) -> list[bytes]:
    """Small pictures in every format and of many kinds."""
    from PIL import Image

    generator, kinds = np.random.default_rng(0), []
    colours = Image.fromarray(generator.integers(0, 256, (9, 13, 3), np.uint8))
    deep = Image.fromarray(generator.integers(0, 2**16, (9, 13), np.uint16))
    for form, mode, options in [
        ("JPEG", "RGB", {}),
        ("JPEG", "RGB", {"progressive": True, "subsampling": 2}),
        ("JPEG", "L", {}),
        ("JPEG", "CMYK", {}),
        ("PNG", "RGB", {}),
        ("PNG", "RGBA", {}),
        ("PNG", "P", {"transparency": 3}),
        ("PNG", "1", {}),
        ("GIF", "P", {"save_all": True, "append_images": [colours.convert("P")] * 2}),
        ("BMP", "RGB", {}),
        ("BMP", "P", {}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}),
        ("TIFF", "RGB", {"compression": "jpeg"}),
        ("TIFF", "1", {"compression": "group4"}),
        ("WEBP", "RGB", {}),
        ("WEBP", "RGBA", {"lossless": True}),
        ("PPM", "RGB", {}),
    ]:
        colours.convert(mode).save(file := BytesIO(), form, **options)
        kinds.append(file.getvalue())
    for form in ("PNG", "TIFF", "PPM"):
        deep.save(file := BytesIO(), form)
        kinds.append(file.getvalue())
    return kinds


def tars(place: Path) -> list[bytes]:
    """Archives with every kind of member that tar knows."""
    from tests.small_ilsvrc import member, tar, train

    kinds = [tar(train(2, 1)), tar([("a/b.JPEG", b"content"), ("flat.JPEG", b"")])]
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT):
        with tarfile.open(fileobj=(file := BytesIO()), mode="w", format=form) as archive:
            for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE):
                archive.addfile(member("k", type=kind, linkname="../../etc/passwd"))
            long = "long/" * 30 if form != tarfile.USTAR_FORMAT else "long/"
            archive.addfile(member(f"{long}é.JPEG", size=3), BytesIO(b"abc"))
            if form == tarfile.PAX_FORMAT:
                given = {"path": "../out", "size": "3", "GNU.sparse.major": "1", "comment": "x" * 600}
                archive.addfile(member("p", size=3, pax_headers=given), BytesIO(b"abc"))
        kinds.append(file.getvalue())
    return kinds


def kits(place: Path) -> list[bytes]:
    from tests.small_ilsvrc import kit2012

    return [gzip.decompress(kit2012())]


def kit_matrix(place: Path) -> list[bytes]:
    from tests.small_ilsvrc import meta_mat

    (place / "ILSVRC2012_devkit_t12" / "data").mkdir(parents=True)
    return [meta_mat(2012)]


def solution(place: Path) -> list[bytes]:
    rows = [f"ILSVRC2012_val_{i:08d},n{10_000_000 + i % 4} 1 2 3 4" for i in range(8)]
    return ["\n".join(["ImageId,PredictionString", *rows, ""]).encode()]


def store(form: str, name: str) -> Callable[[Path], list[bytes]]:
    def make(place: Path) -> list[bytes]:
        from alexnet_lib import prepare
        from tests.test_preparation import fill

        prepare(fill(place / "pictures"), place / "store", 8, 1, False, form=form)
        return [(place / "store" / name).read_bytes()]

    return make


def unfinished(name: str) -> Callable[[Path], list[bytes]]:
    """A preparation that has found no room, and the store that it should end with."""

    def make(place: Path) -> list[bytes]:
        from pytest import MonkeyPatch

        from alexnet_lib import prepare
        from tests.test_preparation import fill, run_out_of_room

        source, patch = fill(place / "pictures", 4), MonkeyPatch()
        work = run_out_of_room(source, place / "store", "raw", patch)
        shutil.copytree(work, place / "left")
        prepare(source, place / "whole", 8, 1, False)
        shutil.rmtree(work)
        return [(place / "left" / name).read_bytes()]

    return make


def listing(place: Path) -> list[bytes]:
    """The list of an archive that is kept."""
    from alexnet_lib.data.archives import list_place

    (place / "archive.tar").write_bytes(tars(place)[0])
    list_place(place / "archive.tar", place / "lists", progress=False)
    return [(place / "lists" / "archive.tar.json").read_bytes()]


def shard(place: Path) -> list[bytes]:
    import pyarrow as pa
    from pyarrow import parquet

    rows = [{"image": {"bytes": data, "path": f"{i}.png"}, "label": i % 2} for i, data in enumerate(pictures(place))]
    table, kinds = pa.Table.from_pylist(rows), []
    for about in ({}, {"huggingface": '{"info": {"features": {"label": {"names": ["a", "b"]}}}}'}):
        parquet.write_table(table.replace_schema_metadata(about), file := BytesIO())
        kinds.append(file.getvalue())
    (place / "shards").mkdir()
    return kinds


def configurations(place: Path) -> list[bytes]:
    """Every field of every kind of settings."""
    import dataclasses

    from alexnet_lib.runs.cifar_settings import CifarSettings
    from alexnet_lib.runs.settings import TrainSettings

    tests_stores(place)
    kinds = [
        TrainSettings(),
        TrainSettings(net="googlenet", dataset="ilsvrc2012"),
        CifarSettings(),
        CifarSettings(net="18pct"),
    ]
    kinds += [TrainSettings(dataset="embedded", width=0.05, epochs=2, batch_size=4, device="cpu", image_size=64)]
    return [json.dumps(dataclasses.asdict(kind), indent=1).encode() for kind in kinds]


def tests_stores(place: Path) -> None:
    from tests.kill_matrix import stores

    stores(place)
    stores(place, "embedded32", 32)


def run(name: str) -> Callable[[Path], list[bytes]]:
    """A finished run."""

    def make(place: Path) -> list[bytes]:
        from alexnet_lib.runs.settings import TrainSettings
        from alexnet_lib.training import train

        tests_stores(place)
        asked = TrainSettings(dataset="embedded", width=0.02, epochs=2, batch_size=24, device="cpu", image_size=64)
        train(asked).folder.rename(place / "run")
        (place / "run" / "checkpoint.previous.pt").unlink()
        return [(place / "run" / name).read_bytes()]

    return make


def ledger(place: Path) -> list[bytes]:
    whole = (REPOSITORY / "alexnet_lib" / "ledger" / "claims.toml").read_bytes()
    rows = re.split(rb"(?=^\[\[claim\]\])", whole, flags=re.MULTILINE)
    return [b"".join(rows[i : i + 3]) for i in (0, 1, 60, 150)]


def verdicts(place: Path) -> list[bytes]:
    return [b'{\n "a": "exact",\n "b": "holds"\n}\n']


def profiles(place: Path) -> list[bytes]:
    from tests.small_notebooks import write_notebook

    for path in (REPOSITORY / "notebooks").glob("*.ipynb"):
        write_notebook(place / "notebooks" / path.name, parameters="epochs = 1\ndataset = 'a'\nnet = 'b'\nrecipe = 'c'")
    return [path.read_bytes() for path in (REPOSITORY / "alexnet_lib" / "profiles").glob("*.toml")] + [
        b'description = "own"\njobs = 2\n[parameters]\ndataset = "a"\n[notebooks.07_train]\nepochs = 3\n'
    ]


def state(place: Path) -> list[bytes]:
    return [b'{\n "a": "0123456789abcdef",\n "b": "not finished"\n}']


# ------------------------------------------------------------------------------------------------ what reads them


def decode_and_fit(place: Path) -> None:
    from alexnet_lib.data.preparation import decode, fit

    image = fit(decode((place / "picture").read_bytes()), 32)
    assert image.shape == (32, 32, 3)


def list_archive(place: Path) -> None:
    """All that is listed lies in the archive."""
    from alexnet_lib.data.archives import list_place

    files, refused = list_place(place / "archive.tar", place / "lists", progress=False)
    length = (place / "archive.tar").stat().st_size
    assert all(0 <= file.offset <= file.offset + file.size <= length for file in files)
    assert not any(file.name.startswith("/") or ".." in file.name.split("/") for file in files)
    json.dumps(refused).encode()


def read_kit(place: Path) -> None:
    from alexnet_lib.data.archives import read_texts

    (place / "kit.tar.gz").write_bytes(gzip.compress((place / "kit.tar").read_bytes(), 1))
    read_texts(place / "kit.tar.gz", "data")


def read_zipped_kit(place: Path) -> None:
    from alexnet_lib.data.archives import read_texts

    read_texts(place / "kit.tar.gz", "data")


def read_matrix(place: Path) -> None:
    from alexnet_lib.data import ilsvrc

    ilsvrc._read_devkit(ilsvrc.CONTESTS["ilsvrc2012"], place)


def read_solution(place: Path) -> None:
    from alexnet_lib.data import ilsvrc

    ilsvrc.CLASSES, ilsvrc.PER_CLASS = 4, {"val": 2}
    ilsvrc._read_solution(place / "LOC_val_solution.csv")


def open_and_look(place: Path) -> None:
    from alexnet_lib import open_store
    from alexnet_lib.evaluation import mean_of

    opened = open_store(place / "store")
    assert len(opened.index) == len(opened) == len(opened.images) and opened.labels.max() < len(opened.classes)
    assert np.asarray(opened.images[[0, len(opened) - 1]]).shape == (2, 8, 8, 3)
    assert mean_of(opened, opened.crop).isfinite().all() and np.isfinite(opened.pca.eigenvectors).all()


def go_on(place: Path) -> None:
    """With whatever is left of it, a preparation ends with the same bytes."""
    from alexnet_lib import prepare
    from tests.test_dataset import contents
    from tests.test_preparation import left_of

    shutil.rmtree(place / "store", ignore_errors=True)
    shutil.rmtree(left_of(place / "store"), ignore_errors=True)
    shutil.copytree(place / "left", left_of(place / "store"))
    assert contents(prepare(place / "pictures", place / "store", 8, 1, False).folder) == contents(place / "whole")


def list_again(place: Path) -> None:
    """A damaged list gives way to a new one."""
    from alexnet_lib.data.archives import list_place

    whole = list_place(place / "archive.tar", place / "other", progress=False)
    assert list_place(place / "archive.tar", place / "lists", progress=False) == whole


def source_times(place: Path) -> list[bytes]:
    """The times of a source's folders that are kept beside its store."""
    from alexnet_lib import prepare
    from alexnet_lib.data import sources
    from tests.test_preparation import fill

    sources.FRESH = 0
    sources.require_unchanged(prepare(fill(place / "pictures"), place / "store", 8, 1, False), place / "pictures")
    return [(place / ".store.source.json").read_bytes()]


def look_again(place: Path) -> None:
    """Damaged times give way to new ones, and no picture has changed."""
    from alexnet_lib import open_store
    from alexnet_lib.data.sources import require_unchanged

    require_unchanged(open_store(place / "store"), place / "pictures")


def read_shard(place: Path) -> None:
    from alexnet_lib.data import parquet

    parquet._group.cache_clear()
    for file in parquet.list_split(place / "shards", "train").files[:3]:
        file.read_bytes()


def settle(place: Path) -> None:
    """As far as the net, for which there is no memory yet."""
    from alexnet_lib import load_dataset
    from alexnet_lib.files import read_json
    from alexnet_lib.runs.fields import check
    from alexnet_lib.runs.settings import resolve
    from alexnet_lib.training import kind_of

    config = read_json(place / "config.json")
    asked = check(kind_of(config), config)
    assert "\0" not in asked.name and "/" not in asked.name + asked.experiment
    name = asked.chosen_dataset()
    if name in ("embedded", "embedded32"):
        chosen = resolve(asked, load_dataset(name)["train"])
        assert chosen.folder.is_relative_to(place / "runs") and json.dumps(vars(chosen))


def exported(name: str) -> Callable[[Path], list[bytes]]:
    """A model as it leaves the library, without its programs; it need not have learned."""

    def make(place: Path) -> list[bytes]:
        from dataclasses import asdict

        from safetensors.torch import save_model

        from alexnet_lib import load_dataset
        from alexnet_lib.runs.settings import TrainSettings, resolve

        tests_stores(place)
        asked = TrainSettings(dataset="embedded", width=0.02, batch_size=24, device="cpu", image_size=64)
        settings = resolve(asked, load_dataset("embedded")["train"])
        (place / "model").mkdir()
        save_model(settings.new_net(3), str(place / "model" / "model.safetensors"))
        config = asdict(settings) | {"classes": ["a", "b", "c"]}
        (place / "model" / "config.json").write_text(json.dumps(config, indent=1))
        return [(place / "model" / name).read_bytes()]

    return make


def load_export(place: Path) -> None:
    from alexnet_lib.runs.export import load

    load(place / "model")


def use_run(place: Path) -> None:
    from alexnet_lib.runs.records import Record
    from alexnet_lib.training import load_net

    record = Record.open(place / "run")
    load_net(record)


def read_tables(place: Path) -> None:
    from alexnet_lib.runs.records import Record

    Record.open(place / "run")


def read_checkpoint(place: Path) -> None:
    from alexnet_lib.runs.records import load_checkpoint, whereabouts

    whereabouts(place / "run")
    load_checkpoint(place / "run")


def read_claims(place: Path) -> None:
    from alexnet_lib.ledger import claims

    for claim in claims.read_claims(place / "claims.toml"):
        claims.verdict(claim, claim.paper, *claims.interval(claim, claim.paper, 1.0, 3))


def read_verdicts(place: Path) -> None:
    from alexnet_lib.ledger import claims

    claims.VERDICTS = place / "verdicts.json"
    claims.accepted_verdicts()


def plan_profile(place: Path) -> None:
    from alexnet_lib import walkthrough

    walkthrough.plan(place / "notebooks", walkthrough.load_profile(str(place / "own.toml")), {})


def read_state(place: Path) -> None:
    from alexnet_lib import walkthrough

    walkthrough.walk(place, {}, place, place)


# ------------------------------------------------------------------------------------------------ checksums


def right_tar(data: bytes) -> bytes:
    """Headers whose checksum does not deny what was altered."""
    data = bytearray(data)
    for start in range(0, len(data) - 511, 512):
        if data[start + 257 : start + 262] == b"ustar":
            data[start + 148 : start + 156] = b" " * 8
            data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + 512])
    return bytes(data)


def right_picture(data: bytes) -> bytes:
    """A PNG whose chunks have the checks of what is in them."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    data, at = bytearray(data), 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data):
            break
        data[end : end + 4] = zlib.crc32(data[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(data)


TARGETS = {
    "picture": Target(pictures, decode_and_fit, "picture", right_picture),
    "archive": Target(tars, list_archive, "archive.tar", right_tar),
    "kit": Target(kits, read_kit, "kit.tar", right_tar),
    "zipped kit": Target(lambda place: [gzip.compress(kits(place)[0])], read_zipped_kit, "kit.tar.gz"),
    "meta.mat": Target(kit_matrix, read_matrix, "ILSVRC2012_devkit_t12/data/meta.mat", weight=20),
    "Kaggle's list": Target(solution, read_solution, "LOC_val_solution.csv"),
    "archive's list": Target(listing, list_again, "lists/archive.tar.json"),
    "source's times": Target(source_times, look_again, ".store.source.json"),
    "parquet": Target(shard, read_shard, "shards/train-00000-of-00001.parquet"),
    "configuration": Target(configurations, settle, "config.json", loose=True),
    "claims.toml": Target(ledger, read_claims, "claims.toml"),
    "verdicts.json": Target(verdicts, read_verdicts, "verdicts.json"),
    "profile": Target(profiles, plan_profile, "own.toml", loose=True),
    "walkthrough's state": Target(state, read_state, "state.json"),
    "checkpoint": Target(run("checkpoint.pt"), read_checkpoint, "run/checkpoint.pt", weight=5),
    "history.csv": Target(run("history.csv"), read_tables, "run/history.csv"),
    "timing.csv": Target(run("timing.csv"), read_tables, "run/timing.csv"),
    "summary.json": Target(run("summary.json"), use_run, "run/summary.json", weight=5),
    "run's config.json": Target(run("config.json"), use_run, "run/config.json", weight=5, loose=True),
    "exported config.json": Target(exported("config.json"), load_export, "model/config.json", weight=5, loose=True),
    "safetensors": Target(exported("model.safetensors"), load_export, "model/model.safetensors", weight=5),
    "state.npz": Target(unfinished("state.npz"), go_on, "left/state.npz", weight=20),
    "records.jsonl": Target(unfinished("records.jsonl"), go_on, "left/records.jsonl", weight=20),
} | {
    f"{form} {name}": Target(store(form, name), open_and_look, f"store/{name}")
    for form, names in {
        "raw": ("meta.json", "labels.npy", "mean.npy", "images.npy", "index.csv"),
        "jpeg": ("offsets.npy", "images.jpegs"),
    }.items()
    for name in names
}


# ------------------------------------------------------------------------------------------------ one input


class Watch:
    """What happens on the way: files that are written outside of a folder."""

    def __init__(self, folder: Path):
        self.folder, self.outside, self.on = str(folder), [], False
        sys.addaudithook(self.see)

    def see(self, event: str, arguments: tuple) -> None:
        if not self.on or event not in (*WRITES, "open"):
            return
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        if event in ("os.remove", "os.rmdir") and arguments[1] != -1:  # below a folder that shutil.rmtree has named
            return
        path = os.path.realpath(arguments[0]) if isinstance(arguments[0], str | bytes | os.PathLike) else ""
        if isinstance(path, str) and path and not path.startswith((self.folder, "/dev/")):
            self.outside.append((event, path))


def put(path: Path, data: bytes) -> None:
    """In the place of the file before, which may still be mapped."""
    path.with_name("new").write_bytes(data)
    os.replace(path.with_name("new"), path)


def attempt(target: Target, place: Path, watch: Watch, data: bytes) -> str:
    """The name of the error that these bytes end in, or "read"."""
    data = target.right(data)
    put(place / target.path, data)
    began, watch.on = time.process_time(), True
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.read(place)
        kind = "read"
    except Exception as error:
        kind = type(error).__name__
        assert kind in NAMED, f"{kind}: {str(error)[:300]}"
        text = str(error)
        assert text and (target.path == "picture" or Path(target.path).name in text or target.loose and named(text)), (
            text
        )
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        watch.on = False
    assert time.process_time() - began < SECONDS
    assert not watch.outside, f"written outside: {watch.outside}"
    return kind


def named(text: str) -> bool:
    """Whether a message says what was found and what is accepted, in words of settings."""
    return re.search(r"^\w+ = |accepted|wants|is of another net", text) is not None


def altered(whole: list[bytes]) -> st.SearchStrategy[bytes]:
    """A whole content after some changes."""
    share = st.integers(0, 10**6).map(lambda part: part / 10**6)
    change = st.one_of(
        st.tuples(st.just("bit"), share, st.integers(0, 7)),
        st.tuples(st.just("put"), share, st.sampled_from(BYTES) | st.binary(max_size=8)),
        st.tuples(st.just("insert"), share, st.sampled_from(ODD + BYTES) | st.binary(max_size=600)),
        st.tuples(st.just("word"), share, st.sampled_from(ODD) | st.binary(max_size=6)),
        st.tuples(st.just("word"), share, st.sampled_from(ODD)),
        st.tuples(st.just("cut"), share, st.none()),
        st.tuples(st.just("leave out"), share, share),
        st.tuples(st.just("double"), share, share),
        st.tuples(st.just("splice"), share, st.sampled_from(whole)),
    )
    return st.builds(alter, st.sampled_from(whole), st.lists(change, min_size=1, max_size=5))


def alter(data: bytes, changes: list[tuple]) -> bytes:
    for kind, share, value in changes:
        at = min(int(share * (len(data) + 1)), len(data))
        if kind == "bit" and at < len(data):
            data = data[:at] + bytes([data[at] ^ 1 << value]) + data[at + 1 :]
        elif kind == "put":
            data = data[:at] + value + data[at + len(value) :]
        elif kind == "insert":
            data = data[:at] + value + data[at:]
        elif kind == "word" and (words := [m.span() for m in TOKEN.finditer(data[:20_000])]):
            start, end = words[int(share * (len(words) - 1))]
            data = data[:start] + value + data[end:]
        elif kind == "cut":
            data = data[:at]
        elif kind == "leave out":
            data = data[:at] + data[at + int(value * 100) :]
        elif kind == "double":
            data = data[:at] + data[max(0, at - int(value * 1000)) :]
        elif kind == "splice":
            data = data[:at] + value[at:]
    return data[: 2**20]


# ------------------------------------------------------------------------------------------------ many inputs


@contextlib.contextmanager
def ready(name: str):
    """(target, its folder, the watch, whole contents), with the memory of this process bounded."""
    import resource

    preload()
    target = TARGETS[name]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        place = Path(folder).resolve()
        os.environ |= {f"ALEXNET_{name}": str(place / name.lower()) for name in ("DATA", "RUNS")}
        os.environ |= {"ALEXNET_PROGRESS": "none", "TMPDIR": folder}
        os.environ.pop("ALEXNET_STORES", None)
        tempfile.tempdir = None
        whole = target.make(place)
        watch = Watch(place)
        for data in whole:  # and what is imported on the way
            put(place / target.path, data)
            target.read(place)
        signal.signal(signal.SIGPROF, too_long)
        if sys.platform == "linux":
            has = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_DATA, (has + MEMORY, resource.RLIM_INFINITY))
        yield target, place, watch, whole


def too_long(*_):
    raise TimeoutError(f"more than {SECONDS} s")


def fuzz(name: str, inputs: int, begin: int) -> dict:
    """So many inputs for a target, in this process; how many there were, and what became of them."""
    import resource

    counts: dict[str, int] = {}
    with ready(name) as (target, place, watch, whole):
        began, slowest = time.perf_counter(), 0.0

        @seed(begin)
        @settings(
            max_examples=max(1, inputs // target.weight),
            database=None,
            deadline=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )
        @given(altered(whole))
        def many(data):
            nonlocal slowest
            at = time.perf_counter()
            kind = attempt(target, place, watch, data)
            counts[kind] = counts.get(kind, 0) + 1
            slowest = max(slowest, time.perf_counter() - at)

        many()
        seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000  # of kibibytes, on Linux
    read, inputs = counts.get("read", 0), sum(counts.values())
    found = {"target": name, "inputs": inputs, "read": read, "refused": inputs - read}
    return found | {"slowest input, s": round(slowest, 2), "peak memory, MB": round(peak), "seconds": round(seconds)}


def follow(name: str, inputs: int) -> None:
    """The same target, its inputs chosen by atheris by the lines of the library that they reach."""
    import atheris

    with atheris.instrument_imports(include=["alexnet_lib", "tarfile", "tomllib", "json", "gzip"]):
        import alexnet_lib.data.archives
        import alexnet_lib.ledger.claims
        import alexnet_lib.training  # noqa: F401
    with ready(name) as (target, place, watch, whole):
        (corpus := place / "corpus").mkdir()
        for i, data in enumerate(whole):
            (corpus / str(i)).write_bytes(data)
        words = place / "words"
        words.write_text("".join('"' + "".join(f"\\x{b:02x}" for b in word[:60]) + '"\n' for word in ODD + BYTES))
        options = [f"-runs={inputs // target.weight}", f"-dict={words}", "-max_len=65536", "-rss_limit_mb=4000"]
        options += ["-print_final_stats=1", f"-artifact_prefix={REPOSITORY}/build/", str(corpus)]
        atheris.Setup([sys.argv[0], *options], lambda data: attempt(target, place, watch, data) and None)
        atheris.Fuzz()


def keep(rows: list[dict], command: str) -> None:
    from alexnet_lib.files import write_json
    from alexnet_lib.paths import REFERENCE
    from alexnet_lib.runs.provenance import provenance
    from alexnet_lib.runs.records import write_table

    (folder := REFERENCE / "fuzz").mkdir(exist_ok=True)
    write_table(folder / "inputs.csv", rows)
    write_json(folder / "summary.json", {"command": command} | provenance())


def preload() -> None:
    """What every fork would import otherwise."""
    import simplejpeg  # noqa: F401
    import torch
    import torchvision.transforms.v2  # noqa: F401

    from alexnet_lib import training, walkthrough  # noqa: F401
    from alexnet_lib.ledger import claims  # noqa: F401

    torch.set_num_threads(1)  # a fork of a process with threads may hang


def apart(name: str, inputs: int, begin: int) -> dict | None:
    """`fuzz` in a fork of this process, which may end as it likes; None where it has found a fault."""
    reads, writes = os.pipe()
    sys.stdout.flush()
    if not (pid := os.fork()):
        code = 1
        try:
            os.write(writes, json.dumps(fuzz(name, inputs, begin)).encode())
            code = 0
        except BaseException:
            traceback.print_exc(limit=-3)
        finally:
            os._exit(code)
    os.close(writes)
    with open(reads, "rb") as pipe:
        said = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        print(f"{name}: a fault, code {code}; --seed {begin} {name!r} shows it again", file=sys.stderr, flush=True)
    return json.loads(said) if not code else None


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=(__doc__ or " ").splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--inputs", type=int, default=FEW, help="of each target; of a slow one, fewer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--atheris", action="store_true", help="let atheris choose the inputs of one target")
    parser.add_argument("--keep", action="store_true", help="write results/reference/fuzz/")
    given = parser.parse_args(arguments)
    if unknown := set(given.targets) - set(TARGETS):
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    if given.keep and (given.targets or given.atheris):
        parser.error("--keep writes the record of all targets")
    if given.atheris and len(given.targets) != 1:
        parser.error("--atheris follows one target")
    if given.atheris:
        return follow(*given.targets, given.inputs)
    preload()
    rows = []
    for name in given.targets or TARGETS:
        rows.append(row := apart(name, given.inputs, given.seed))
        if row:
            print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    found = [row for row in rows if row]
    print(f"{sum(row['inputs'] for row in found):,} inputs, {len(rows) - len(found)} targets with faults", flush=True)
    if given.keep and len(found) == len(rows):
        keep(found, f"python -m tests.fuzz --inputs {given.inputs} --seed {given.seed} --keep")
    return int(len(found) < len(rows))


if __name__ == "__main__":
    sys.exit(main())
