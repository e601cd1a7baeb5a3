"""Opens JupyterLab on copies of the notebooks, which a reader may change at will.

python docs/lab.py                   copies into lab/ what is missing or was left unchanged there, and opens START_HERE
python docs/lab.py --port 9999       whatever follows goes to JupyterLab

The committed notebooks, which the tests compare with, stay as they are. A copy that was changed is never overwritten.
"""

import hashlib
import json
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

from alexnet_lib.files import read_json, write_file, write_json
from alexnet_lib.paths import NOTEBOOKS, REPOSITORY, absolute_folders

HERE = Path(__file__).parent
COPIES = REPOSITORY / "lab"
PAGE = "START_HERE.md"


def refresh(source: Path, folder: Path) -> list[str]:
    """`put` the notebooks of `source` into `folder`."""
    return put({original.name: original.read_bytes() for original in sorted(source.glob("*.ipynb"))}, folder)


def start_page(folder: Path) -> list[str]:
    """`put` START_HERE.md there, with its pictures; its links to notebooks lead to those of the folder."""
    page = (HERE / PAGE).read_text(encoding="utf-8").replace("](../notebooks/", "](")
    kept = put({PAGE: page.encode()}, folder)
    shutil.copytree(HERE / "start", folder / "start", dirs_exist_ok=True)
    return kept


def put(originals: dict[str, bytes], folder: Path) -> list[str]:
    """Write the files that are missing in `folder`, or were not changed there since they were written.

    Returns:
        the names of copies that were changed, and whose originals have changed since: they stay as they are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / ".copied.json"
    copied = {}
    with suppress(OSError, ValueError):  # without it every copy that isn't its original's counts as changed, and stays
        copied = read_json(record)
        if (folder / PAGE).exists():  # it was written at each start before it was recorded
            copied.setdefault(PAGE, digest(folder / PAGE))
    kept = []
    for name, data in originals.items():
        copy, now = folder / name, digest_of(data)
        if not copy.exists() or digest(copy) in (now, copied.get(name)):
            write_file(copy, data)
            copied[name] = now
        elif copied.get(name) != now:
            kept.append(name)
    write_json(record, copied)
    return kept


def digest(path: Path) -> str:
    """`digest_of` a file."""
    return digest_of(path.read_bytes())


def digest_of(data: bytes) -> str:
    """Changes with what a notebook says and shows; JupyterLab writes other things about it when it is only opened."""
    try:
        cells = [[cell["source"], cell.get("outputs")] for cell in json.loads(data)["cells"]]
        data = json.dumps(cells, sort_keys=True).encode()
    except (ValueError, TypeError, KeyError, RecursionError):  # no notebook, or a damaged one
        pass
    return hashlib.sha256(data).hexdigest()


def command(options: list[str]) -> list[str]:
    """JupyterLab on the start page, for this machine alone unless the options say otherwise."""
    settings = {
        "ServerApp.root_dir": REPOSITORY,
        "LabApp.default_url": f"/lab/tree/{COPIES.relative_to(REPOSITORY).as_posix()}/{PAGE}",
        "LabApp.app_settings_dir": HERE / "lab",
    }
    return [sys.executable, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in settings.items()), *options]


def main(options: list[str]) -> None:
    if {"-h", "--help", "--help-all", "--version"} & set(options):  # JupyterLab tells, and nothing is copied
        os.execv(sys.executable, command(options))
    kept = refresh(NOTEBOOKS, COPIES) + start_page(COPIES)
    print(f"The notebooks are copies in {COPIES}: change them as you like.")
    for name in kept:
        print(f"{name} is your version, and there is a newer one: delete lab/{name} to get that.")
    sys.stdout.flush()
    os.environ.update(absolute_folders())  # a kernel runs in its notebook's folder, and terminals start elsewhere
    os.execv(sys.executable, command(options))


if __name__ == "__main__":
    main(sys.argv[1:])
