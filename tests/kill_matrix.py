"""Work that is killed at any moment and begun again ends with every byte of work that was left alone.

Each part does its work undisturbed first. Then it is ended at random moments by SIGKILL or SIGTERM, and begun again by
the same call until it ends by itself. Every file that lasts is compared, names included, so nothing that was only on
its way may stay behind; no process may outlive its starter for ENDED seconds; nobody who ends work is shown a
traceback.

    python -m tests.kill_matrix                 a handful of moments, within a minute
    make kill-matrix                            50 moments of each part: an hour or two
    ... --keep                                  also writes results/reference/kill-matrix/
"""

import argparse
import contextlib
import io
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alexnet_lib.paths import REPOSITORY

ENDED, BUSY = 10, 60  # seconds after which an ended process must be gone; BUSY where tests share the machine
FEW, SEED = 3, 0
TELLS_THE_TIME = {"seconds", "images_per_second", "waiting_for_data", "commit"}  # of summary.json
OF_THE_CLOCK = {".source.json"}  # names of files that say when, and are made anew
SIGNALS = (signal.SIGKILL, signal.SIGTERM)


@dataclass
class Part:
    """One kind of work. make: its input, once, in a folder; work: the call that is killed and given again."""

    make: Callable[[Path], None]
    work: Callable[[Path], None]
    kills: int = 1  # one after another, before it may end
    several: bool = False  # of processes, and so of many seconds: only where --moments or --parts asks for it
    between: Callable[[Path], None] = lambda place: None  # what must be so after each kill


# ------------------------------------------------------------------------------------------------ what is killed


def pictures(place: Path) -> None:
    from tests.test_preparation import fill

    fill(place / "pictures", 40)


def prepare(form: str, place: Path) -> None:
    from alexnet_lib import dataset
    from alexnet_lib.data import preparation

    preparation.CHUNK_SMALL = 4
    dataset.main(["prepare", str(place / "pictures"), str(place / "store"), "--size", "16", "--form", form])


def archives(place: Path) -> None:
    from tests import small_ilsvrc as small

    (folder := place / "data" / "ilsvrc2012").mkdir(parents=True)
    (folder / "ILSVRC2012_img_train.tar").write_bytes(small.tar(small.train(pictures=10)))
    val = small.flat(2012, "val", small.truth(small.FEW, 5)[0])
    (folder / "ILSVRC2012_img_val.tar").write_bytes(small.tar(val))
    (folder / f"{small.KIT2012}.tar.gz").write_bytes(small.kit2012(each=5, pictures=10))


def prepare_archives(place: Path) -> None:
    from alexnet_lib import dataset
    from alexnet_lib.data import ilsvrc, preparation
    from tests import small_ilsvrc as small

    preparation.CHUNK_SMALL, ilsvrc.CLASSES, ilsvrc.PER_CLASS = 4, small.FEW, {"val": 5}
    ilsvrc.CLASSES_SHA256, dataset.STORE_SIZES["ilsvrc2012"] = {}, 16
    dataset.main(["prepare", "ilsvrc2012"])


def stores(place: Path, name="embedded", size=73, val=24) -> None:
    """Pictures of three plain colours and noise."""
    from alexnet_lib.data.preparation import write_store

    for seed, (split, count) in enumerate({"train": 48, "val": val}.items()):
        generator, labels = np.random.default_rng(seed), np.arange(count) % 3
        images = generator.integers(0, 90, (count, size, size, 3), np.uint8)
        images[np.arange(count), :, :, labels] += 120
        folder = place / "data" / "prepared" / f"{name}-{size}" / split
        write_store(folder, images, labels, ["red", "green", "blue"], {"source": "test", "lossy": True})


def configured(place: Path, **changes) -> None:
    config = {"dataset": "embedded", "width": 0.05, "epochs": 2, "batch_size": 4, "device": "cpu", "name": "r"}
    stores(place)
    (place / "config.json").write_text(json.dumps(config | changes))


def cifar(place: Path) -> None:
    stores(place, "embedded32", 32)
    config = {"dataset": "embedded32", "net": "19pct", "stages": [[1, 1.0], [2, 0.1]], "image_size": 12}
    config |= {"batch_size": 4, "learning_rate": 0.01, "input_divisor": 64.0, "initialisation": "fan_in", "name": "r"}
    (place / "config.json").write_text(json.dumps(config | {"device": "cpu"}))


def train(place: Path) -> None:
    train_often(str(place / "config.json"))


def train_often(config: str) -> None:
    """A checkpoint every other step, in the processes of a job, too."""
    from alexnet_lib import training
    from alexnet_lib.runs import processes

    training.CHECK_EVERY, training.CHECKPOINT_SECONDS = 2, 0
    processes.PROGRAM = [sys.executable, "-m", "tests.kill_matrix", "--process"]
    training.main([config])


def work_as_process(arguments: list[str]) -> None:
    """Watch over a job, or be one of its processes."""
    import runpy

    from alexnet_lib.runs import processes

    processes.PROGRAM = [sys.executable, "-m", "tests.kill_matrix", "--process"]
    runpy.run_module = lambda name, **_: train_often(sys.argv[1])
    sys.argv[1:] = arguments
    processes.main()


def trained(place: Path) -> None:
    """All of a run but its final tests, of many pictures."""
    configured(place)
    shutil.rmtree(place / "data")
    stores(place, val=150)
    if code := begin(train, place, place / "said").wait():
        raise RuntimeError(f"ended with code {code}: {(place / 'said').read_text()}")
    for path in [place / "said", *place.glob("runs/*/*/summary.json")]:
        path.unlink()


def no_ledger_yet(place: Path) -> None:
    (place / "verdicts.json").write_text("{}\n")


def export(place: Path) -> None:
    from alexnet_lib.ledger import claims

    claims.VERDICTS = place / "verdicts.json"
    claims.main(["--accept", *(word for kind in KINDS for word in (f"--{kind}", str(place / f"ledger.{kind}")))])


KINDS = ("csv", "json", "html")


def is_no_torn_ledger(place: Path) -> None:
    """A file that others may be reading is there as a whole, or not at all."""
    ends = {"ledger.csv": b"\n", "ledger.json": b"]\n", "ledger.html": b"</html>\n", "verdicts.json": b"}\n"}
    for name, end in ends.items():
        data = (place / name).read_bytes() if (place / name).exists() else end
        if not data.endswith(end):
            raise AssertionError(f"{name} is torn, at {len(data)} bytes")


TRAINED = """
from alexnet_lib.training import train
from alexnet_lib.runs.settings import TrainSettings
asked = TrainSettings(dataset="embedded", width=0.05, epochs=2, batch_size=4, device="cpu", name="r")
print(train(asked).summary["metrics"]["val"])
"""
READ = """
from alexnet_lib.paths import runs_dir
from alexnet_lib.runs.records import Record
print(Record.open(runs_dir() / "train" / "r").history.to_csv())
"""


def notebooks(place: Path) -> None:
    from tests.small_notebooks import write_notebook

    stores(place)
    for name, cells in {"a": [TRAINED], "b": [READ], "c": ["import time\ntime.sleep(2)", "print(x)"]}.items():
        write_notebook(place / "notebooks" / f"{name}.ipynb", *cells)
    (place / "own.toml").write_text("jobs = 2\n")


def walk(place: Path) -> None:
    from alexnet_lib import walkthrough

    walkthrough.ledger_in_short = lambda: "no ledger"
    options = ["--profile", str(place / "own.toml"), "--output", str(place / "executed")]
    sys.exit(walkthrough.main(options, place / "notebooks", {"b": ("a",)}))


PARTS = {
    "raw": Part(pictures, lambda place: prepare("raw", place)),
    "JPEG": Part(pictures, lambda place: prepare("jpeg", place)),
    "archives": Part(archives, prepare_archives),
    "one device": Part(configured, train),
    "resume of a resume": Part(configured, train, kills=3),
    "CIFAR run": Part(cifar, train, kills=2),
    "evaluation": Part(trained, train),
    "ledger": Part(no_ledger_yet, export, between=is_no_torn_ledger),
    "two columns": Part(lambda place: configured(place, devices=2, columns=2), train, kills=2, several=True),
    "walkthrough": Part(notebooks, walk, several=True),
}


# ------------------------------------------------------------------------------------------------ how it is killed


class Worker:
    """A fork of this process, which has torch loaded, at work in a session of its own."""

    def __init__(self, pid: int):
        self.pid, self.code = pid, None

    def poll(self) -> int | None:
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code

    def wait(self) -> int:
        while self.poll() is None:
            time.sleep(0.002)
        return self.code


def begin(work: Callable[[Path], None], place: Path, said: Path) -> Worker:
    """Start work whose words go to a file."""
    sys.stdout.flush()
    if pid := os.fork():
        return Worker(pid)
    code = 1
    try:
        os.setsid()
        out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        code = 0
        work(place)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def alive() -> list[int]:
    """The processes that were started by what was killed: all carry a mark in their environment."""
    from tests.test_processes import alive

    return [pid for pid in alive(os.environ["MARK"]) if pid != os.getpid()]


def shown(pid: int) -> str:
    """A process for people: its number, state and command."""
    with contextlib.suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        return f"{pid} ({state}) {Path(f'/proc/{pid}/cmdline').read_bytes().replace(bytes(1), b' ').decode()[:300]}"
    return f"{pid} (gone)"


def lasting(place: Path) -> dict[str, bytes]:
    """Everything that must be the same, by its path: all but clocks."""
    found = {}
    for path in sorted(path for path in place.rglob("*") if path.is_file() and path.name not in OF_THE_CLOCK):
        data = path.read_bytes()
        if path.name == "summary.json":
            data = json.dumps({k: v for k, v in json.loads(data).items() if k not in TELLS_THE_TIME}).encode()
        elif path.name == "timing.csv":
            data = b"\n".join(line.split(b",")[0] for line in data.splitlines())
        elif path.suffix == ".ipynb":
            cells = json.loads(data)["cells"]
            data = json.dumps([[cell["source"], cell.get("outputs")] for cell in cells]).encode()
        found[str(path.relative_to(place))] = data
    return found


class Matrix:
    """One part in a folder: its input, and what it ends with when nobody disturbs it."""

    def __init__(self, name: str, folder: Path, ended: float):
        self.ended = ended
        self.name, self.part, self.place, self.input = name, PARTS[name], folder / "place", folder / "input"
        self.said = folder / "said"
        self.place.mkdir()
        self.part.make(self.place)
        shutil.copytree(self.place, self.input)
        for _ in range(2):  # the first is slower, and two that differ would prove nothing
            self.renew()
            began = time.perf_counter()
            self.end()
            self.seconds, whole = time.perf_counter() - began, lasting(self.place)
            require(getattr(self, "whole", whole) == whole, f"{name}: left alone, it ends in two ways")
            self.whole = whole

    def renew(self) -> None:
        shutil.rmtree(self.place)
        shutil.copytree(self.input, self.place)

    def end(self) -> None:
        code = begin(self.part.work, self.place, self.said).wait()
        require(code == 0, f"{self.name}: ended with {code}: {self.said.read_text(errors='replace')[-2000:]}")

    def kill(self, share: float, number: int) -> float | None:
        """End it after this share of its time; how long that took, or None if it was done before."""
        worker = begin(self.part.work, self.place, self.said)
        due = time.perf_counter() + share * self.seconds
        while (began := time.perf_counter()) < due:
            if worker.poll() is not None:
                return None
            time.sleep(0.002)
        os.kill(worker.pid, number)
        while worker.poll() is None or alive():
            time.sleep(0.01 if worker.code is None else 0.1)
            if time.perf_counter() - began > self.ended:
                raise AssertionError(f"{self.name}: {', '.join(map(shown, alive()))} outlive their starter")
        said = self.said.read_text(errors="replace") if self.said.is_file() else ""  # it may be killed before it begins
        require("Traceback" not in said or number == signal.SIGKILL, f"{self.name}: ended with a traceback: {said}")
        self.part.between(self.place)
        return time.perf_counter() - began

    def moment(self, random: np.random.Generator, number: int) -> dict:
        """Kill it, as often as its part says, have it end, and compare; a row of the record."""
        took, places = [], []
        while not took:  # it may be quicker than the kill
            self.renew()
            left = 1.0
            for _ in range(self.part.kills):
                share = float(random.uniform(0, left))
                if (seconds := self.kill(share, number)) is not None:
                    took, places, left = [*took, seconds], [*places, round(share, 3)], left - share
                elif left == 1.0:  # begun anew, it ended first: the machine was busier when it was timed
                    self.seconds *= share
                    break  # what is finished has nothing left to kill
        self.end()
        found = lasting(self.place)
        unlike = sorted(n for n in {**found, **self.whole} if found.get(n) != self.whole.get(n))
        what = f"{', '.join(unlike)}: {found.get(unlike[-1], b'')[-2000:]}" if unlike else ""
        require(not unlike, f"{self.name}: killed at {places} by {number}, it differs in {what}")
        return {
            "part": self.name,
            "signal": signal.Signals(number).name,
            "kills": len(took),
            "seconds to end": max(took),
        }


def require(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(what)


def run(parts, moments: int, seed: int, folder: Path, report=print, ended=BUSY) -> list[dict]:
    """The rows of every moment of these parts; a line of each part is reported. ended: seconds, as ENDED."""
    rows = []
    for name in parts:
        began, random = time.perf_counter(), np.random.default_rng([seed, [*PARTS].index(name)])
        (folder / name).mkdir()
        with environment(folder / name):
            matrix = Matrix(name, folder / name, ended)
            own = [matrix.moment(random, SIGNALS[i % 2]) for i in range(moments)]
        rows += own
        slowest = max(row["seconds to end"] for row in own)
        kills = sum(row["kills"] for row in own)
        report(
            f"{name}: {kills} kills in {len(own)} rounds of {matrix.seconds:.2f} s, each with the same "
            f"{len(matrix.whole)} files; ended within {slowest:.2f} s; {time.perf_counter() - began:.0f} s"
        )
    return rows


@contextlib.contextmanager
def environment(folder: Path):
    """Everything below a private folder, for this process and what it starts."""
    before, temporary = dict(os.environ), folder / "tmp"
    temporary.mkdir()
    os.environ |= {f"ALEXNET_{name}": str(folder / "place" / name.lower()) for name in ("DATA", "RUNS")}
    os.environ |= {"ALEXNET_PROGRESS": "none", "MARK": str(folder), "TMPDIR": str(temporary)}
    os.environ["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    os.environ.pop("ALEXNET_STORES", None)
    tempfile.tempdir = None
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        tempfile.tempdir = None


def preload() -> None:
    """What every fork would import otherwise; and the ledger's measurements, for its export alone is killed."""
    import simplejpeg  # noqa: F401
    import torch
    import torchvision.transforms.v2  # noqa: F401

    from alexnet_lib import dataset, training, walkthrough  # noqa: F401

    torch.set_num_threads(1)  # a fork of a process with threads may hang


def keep(rows: list[dict], arguments: str) -> None:
    import pandas as pd

    from alexnet_lib.files import write_json
    from alexnet_lib.paths import REFERENCE
    from alexnet_lib.runs.provenance import provenance
    from alexnet_lib.runs.records import write_table

    table = pd.DataFrame(rows).assign(rounds=1).groupby(["part", "signal"], sort=False)
    table = table.agg({"rounds": "sum", "kills": "sum", "seconds to end": "max"}).round(2).reset_index()
    (folder := REFERENCE / "kill-matrix").mkdir(exist_ok=True)
    write_table(folder / "kills.csv", table.to_dict("records"))
    write_json(folder / "summary.json", {"command": f"python -m tests.kill_matrix {arguments}"} | provenance())


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.kill_matrix", description=(__doc__ or " ").splitlines()[0])
    parser.add_argument("--moments", type=int, help=f"of each part; {FEW} where it isn't given")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--parts", nargs="+", choices=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--keep", action="store_true", help="write the reference")
    given = parser.parse_args(arguments)
    if given.keep and (given.parts or not given.moments):
        parser.error("--keep writes the record of all parts, each at the --moments that you give")
    parts = given.parts or [name for name in PARTS if given.moments or not PARTS[name].several]
    preload()
    if "ledger" in parts:
        from alexnet_lib.ledger import claims

        with contextlib.redirect_stdout(io.StringIO()):
            table = claims.claims()
        claims.claims = lambda *_: table
    count, ended = given.moments or FEW, ENDED if given.moments else BUSY
    with tempfile.TemporaryDirectory(prefix="kill-matrix-") as folder:
        rows = run(parts, count, given.seed, Path(folder), ended=ended)
    if given.keep:
        keep(rows, f"--moments {count} --seed {given.seed} --keep")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--process"]:
        work_as_process(sys.argv[2:])
    else:
        main()
