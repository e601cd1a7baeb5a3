"""More at once, and for longer, than anybody is patient enough for: it ends, within the memory that it may take.

notebooks    eight of the walkthrough at a time, on whatever cores there are, all end
one seed     four of the notebook that trains, at once and with one seed: one trains, the others follow it
pictures     1,000 classes of 130 pictures are prepared by a process that never has more than a gigabyte
members      an archive of a million empty members is listed within a gigabyte, too
opening      a store of as many pictures as ImageNet has opens within a second, raw or JPEG
steps        as many steps as a run of the whole net takes in an hour, of a tiny one: memory does not grow

    python -m tests.load [PART ...] [--small] [--keep]      keep writes results/reference/load/
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np

from alexnet_lib.paths import NOTEBOOKS, REFERENCE, REPOSITORY

GIGABYTE = 2**30
AT_ONCE = 8
STEPS = 3600  # an hour of steps of a second, which is what 128 pictures take the whole net on a few cores
MOST_GROWTH = 1024  # bytes a step, which is 4 MB an hour
FORGOTTEN = 0.3  # of the steps: at the beginning memory is taken that is then used again


def run(command: list[str], **changes: str) -> tuple[float, float]:
    """Seconds of a command that must end well, and the most memory of its own, in bytes: not that of shared libraries.

    Memory is looked at 50 times a second.
    """
    began, peak, own = time.perf_counter(), 0, os.environ | {"PYTHONPATH": str(REPOSITORY)} | changes
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, env=own, stdout=said, stderr=subprocess.STDOUT)
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak = max([peak, *(1024 * int(kb) for kb in re.findall(r"RssAnon:\s*(\d+) kB", status))])
            time.sleep(0.02)
        said.seek(0)
        what = f"{' '.join(command)} ended with {process.returncode}:\n{said.read()[-3000:]}"
    require(process.returncode == 0, what)
    return time.perf_counter() - began, peak


def require(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(what)


def notebooks(folder: Path, small: bool) -> dict:
    """As the walkthrough runs them."""
    command = [sys.executable, "-m", "alexnet_lib.walkthrough", "--output", str(folder), "--jobs", str(AT_ONCE)]
    seconds, _ = run(command, **{f"ALEXNET_{name}": str(folder / name.lower()) for name in ("DATA", "RUNS")})
    state = json.loads(next(folder.rglob("state.json")).read_text())
    require("failed" not in state.values() and len(state) >= AT_ONCE, f"not all have ended: {state}")
    return {"what": f"{len(state)} notebooks, {AT_ONCE} at a time", "seconds": round(seconds), "limit": "all end"}


def one_seed(folder: Path, small: bool) -> dict:
    """Of one run, whose history all of them show."""
    began, own = time.perf_counter(), {f"ALEXNET_{name}": str(folder / name.lower()) for name in ("DATA", "RUNS")}
    own |= {"PYTHONPATH": str(REPOSITORY), "ALEXNET_PROGRESS": "lines"}
    copies = [folder / f"{number}.ipynb" for number in range(4)]
    command = [sys.executable, "-m", "papermill", "--log-level", "ERROR", "--no-progress-bar", "-p", "epochs", "5"]
    started = [
        subprocess.Popen([*command, NOTEBOOKS / "07_train.ipynb", copy], env=os.environ | own, cwd=REPOSITORY)
        for copy in copies
    ]
    require([process.wait() for process in started] == [0] * 4, "one of them has failed")
    trained = [*(folder / "runs" / "train").glob("*-5epochs-*")]
    require(len(trained) == 1, f"they have trained {trained}")
    said = ["".join(re.findall(r"it is followed here|This run is finished", copy.read_text())) for copy in copies]
    require(sum(map(bool, said)) == 3, f"of the others, three, some have said nothing: {said}")
    return {"what": "four of notebook 07 with one seed: one run", "seconds": round(time.perf_counter() - began)}


def pictures(folder: Path, small: bool) -> dict:
    """Pictures as large as most of ImageNet's, at the default size; each class is one picture under many names."""
    from PIL import Image

    classes, each = (20, 5) if small else (1000, 130)
    for number in range(classes):
        (place := folder / "pictures" / f"{number:04}").mkdir(parents=True)
        noise = np.random.default_rng(number).integers(0, 256, (8, 10, 3), np.uint8)
        Image.fromarray(noise).resize((500, 375)).save(place / "0.jpg")
        for copy in range(1, each):
            os.link(place / "0.jpg", place / f"{copy}.jpg")
    command = [sys.executable, "-m", "alexnet_lib.dataset", "prepare", str(folder / "pictures"), str(folder / "store")]
    seconds, peak = run([*command, "--form", "jpeg"])
    labels = np.load(folder / "store" / "labels.npy")
    require(np.array_equal(np.bincount(labels), np.full(classes, each)), "pictures are missing")
    require(peak < GIGABYTE, f"preparation had {peak / 1e6:.0f} MB")
    side = json.loads((folder / "store" / "meta.json").read_text())["size"]
    what = f"{classes:,} classes of {each} pictures of 500 x 375 pixels prepared at {side}, as JPEG"
    return {"what": what, "seconds": round(seconds), "peak, MB": round(peak / 1e6), "limit": "1 GiB"}


LIST = """
import sys
from pathlib import Path
from alexnet_lib.data.archives import list_place
print(*map(len, list_place(Path(sys.argv[1]), Path(sys.argv[2]), progress=False)))
"""


def members(folder: Path, small: bool) -> dict:
    """Half of them are refused, each with its reason."""
    count = 20_000 if small else 1_000_000
    with open(folder / "x.tar", "wb") as file:
        for number in range(count // 2):
            for name in (f"a/{number}.JPEG", f"../{number}.JPEG"):
                file.write(tarfile.TarInfo(name).tobuf(tarfile.GNU_FORMAT))
        file.write(bytes(1024))
    seconds, peak = run([sys.executable, "-c", LIST, str(folder / "x.tar"), str(folder / "lists")])
    require(peak < GIGABYTE, f"the list had {peak / 1e6:.0f} MB")
    row = {"what": f"{count:,} members listed", "seconds": round(seconds), "peak, MB": round(peak / 1e6)}
    return row | {"limit": "1 GiB"}


def opening(folder: Path, small: bool) -> dict:
    """All of them are one small picture; opened a second time, as the first loads modules and fills the cache."""
    from PIL import Image

    from alexnet_lib.dataset import open_store, prepare

    count, seconds = 1000 if small else 1_281_167, {}
    (folder / "pictures" / "class").mkdir(parents=True)
    Image.new("RGB", (20, 20), "teal").save(folder / "pictures" / "class" / "0.png")
    for form in ("raw", "jpeg"):
        grow(prepare(folder / "pictures", folder / form, 16, 1, False, form=form).folder, count)
        for _ in range(2):
            began = time.perf_counter()
            store = open_store(folder / form)
            seconds[form] = time.perf_counter() - began
        require(
            len(store) == count and (store.images[count - 1] == store.images[0]).all(), f"{form}: not all are there"
        )
        require(small or seconds[form] < 1, f"{form}: opened in {seconds[form]:.2f} s")
    what = ", ".join(f"{form} in {each:.2f} s" for form, each in seconds.items())
    return {"what": f"stores of {count:,} pictures opened, {what}", "limit": "1 s"}


def grow(store: Path, count: int) -> None:
    """Have the one picture of a store there so many times."""
    from alexnet_lib.data.store_files import samples
    from alexnet_lib.files import read_json, sha256, write_json

    images = next(path for path in store.iterdir() if path.name in ("images.npy", "images.jpegs"))
    before = images.stat().st_size
    np.save(store / "labels.npy", np.zeros(count, np.int64))
    if images.suffix == ".npy":
        np.save(images, np.repeat(np.load(images), count, 0))
    else:
        images.write_bytes(images.read_bytes() * count)
    each = (images.stat().st_size - before) // (count - 1)
    places = images.stat().st_size + np.arange(-count, 1) * each
    if images.suffix == ".jpegs":
        np.save(store / "offsets.npy", places)
    meta = read_json(store / "meta.json")
    digests = {name: sha256((store / name).read_bytes()) for name in meta["digests"].keys() - {images.name}}
    digests |= {images.name: sha256(*samples(images, places))}
    write_json(store / "meta.json", meta | {"images": count, "files": count, "digests": digests})


def steps(folder: Path, small: bool) -> dict:
    """Training, validation, records and checkpoints, twelve steps an epoch."""
    from alexnet_lib import training
    from tests.kill_matrix import stores
    from tests.small_runs import settings

    count, memory = 240 if small else STEPS, []
    stores(folder)
    before = dict(os.environ)
    os.environ |= {f"ALEXNET_{name}": str(folder / name.lower()) for name in ("DATA", "RUNS")}
    os.environ["ALEXNET_PROGRESS"] = "none"
    began = time.perf_counter()
    try:
        asked = settings(epochs=count // 12, batch_size=4, seed=1)
        training.train(asked, on_epoch=lambda history: memory.append(resident()))
    finally:
        os.environ.clear()
        os.environ.update(before)
    settled = np.array(memory[int(FORGOTTEN * len(memory)) :])
    slope = float(np.polyfit(12 * np.arange(len(settled)), settled, 1)[0])
    # a short run hardly tells a page that is taken once from growth
    most = MOST_GROWTH if not small else 50 * MOST_GROWTH
    require(slope < most, f"memory grows by {slope:.0f} bytes a step")
    what = f"{count} steps in {count // 12} epochs: growth of {slope:.0f} bytes a step"
    row = {"what": what, "seconds": round(time.perf_counter() - began), "peak, MB": round(max(memory) / 1e6)}
    return row | {"limit": f"{MOST_GROWTH} bytes a step"}


def resident() -> int:
    """What this process has in memory now of its own, in bytes."""
    import gc

    gc.collect()
    return 1024 * int(re.search(r"RssAnon:\s*(\d+) kB", Path("/proc/self/status").read_text())[1])


PARTS = {
    "notebooks": notebooks,
    "one seed": one_seed,
    "pictures": pictures,
    "members": members,
    "opening": opening,
    "steps": steps,
}


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=(__doc__ or " ").splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--small", action="store_true", help="a few seconds of each but the notebooks and one seed")
    parser.add_argument("--keep", action="store_true", help="write the reference")
    given, rows = parser.parse_args(arguments), []
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if given.keep and (given.parts or given.small):
        parser.error("--keep writes the record of all parts at full size")
    for name in given.parts or [name for name in PARTS if not (given.small and name in ("notebooks", "one seed"))]:
        with tempfile.TemporaryDirectory(prefix="load-") as folder:
            rows.append({"part": name} | PARTS[name](Path(folder), given.small))
            print(json.dumps(rows[-1], ensure_ascii=False), flush=True)
    if given.keep:
        from alexnet_lib.files import write_json
        from alexnet_lib.runs.provenance import provenance
        from alexnet_lib.runs.records import write_table

        (kept := REFERENCE / "load").mkdir(exist_ok=True)
        write_table(kept / "load.csv", rows)
        write_json(kept / "summary.json", {"command": "python -m tests.load --keep"} | provenance())


if __name__ == "__main__":
    main()
