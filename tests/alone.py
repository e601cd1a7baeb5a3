"""Runs notebooks one at a time, each as on a fresh clone, and prints a table of the cells that fail.

python tests/alone.py                                     all: defaults, least parameters, seeds 1, 2 and 3
python tests/alone.py 04_pooling --seeds 1 2 --epochs 1   one of them, with these
python tests/alone.py --only seeds                        of the three ways of running them one

What has succeeded is kept in build/alone.json and not run again; --again forgets it.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

from nbclient import NotebookClient
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from traitlets.config import Config

from alexnet_lib.paths import NOTEBOOKS, REPOSITORY
from alexnet_lib.runs.jupyter import QUIET, kernel_channels, kernel_environment
from alexnet_lib.walkthrough import declared_parameters

sys.path.insert(0, str(REPOSITORY))  # run as a script, it would see its own folder only
from tests.baseline import CHECKED_ENVIRONMENT, private_folders  # noqa: E402

DONE = REPOSITORY / "build" / "alone.json"
WAYS = ("defaults", "least", "seeds")
LEAST = {"01_architecture": {"width": 0.05, "num_classes": 1}}  # where it is not the epochs and steps that cost


def ways(notebook: Path, seeds, epochs: int) -> dict[str, dict[str, dict]]:
    """The parameters to run it with, under a name for each."""
    short = {name: epochs for name in declared_parameters(notebook) if name.endswith(("epochs", "steps"))}
    least = short | LEAST.get(notebook.stem, {})
    return {
        "defaults": {"defaults": {}},
        "least": {", ".join(f"{name} = {value}" for name, value in least.items()): least},
        "seeds": {f"seed = {seed}": {"seed": seed} for seed in seeds},
    }


def failures(notebook: Path, parameters: dict) -> list[str]:
    """What goes wrong in it with empty folders of data and runs, cell by cell."""
    filled = parameterize_notebook(load_notebook_node(str(notebook)), parameters)
    with tempfile.TemporaryDirectory() as folder:
        variables = kernel_environment(**CHECKED_ENVIRONMENT, **private_folders(Path(folder)))
        with mock.patch.dict(os.environ, variables, clear=True):
            options = {"resources": {"metadata": {"path": str(notebook.parent)}}, "timeout": None}
            options["config"] = Config(KernelManager=kernel_channels(folder))
            options |= {"allow_errors": True, "kernel_name": "python3", "extra_arguments": [QUIET]}
            NotebookClient(filled, **options).execute()
    errors = [(c, o) for c in filled.cells for o in c.get("outputs", []) if o.output_type == "error"]
    return [f"{cell.id}: {error.ename}: {error.evalue}" for cell, error in errors]


def main(arguments: list[str] | None = None) -> int:
    """The command; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", default=sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")))
    parser.add_argument("--seeds", nargs="*", type=int, default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=1, help="of the short run, and its steps")
    parser.add_argument("--only", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--again", action="store_true", help="also what has succeeded before")
    chosen = parser.parse_args(arguments)
    done = json.loads(DONE.read_text()) if DONE.is_file() and not chosen.again else {}
    failed = 0
    print("| notebook | parameters | seconds | what fails |\n|---|---|---|---|")
    for name in chosen.notebooks:
        notebook = NOTEBOOKS / f"{name}.ipynb"
        of_each = ways(notebook, chosen.seeds, chosen.epochs)
        for way, parameters in [pair for kind in chosen.only for pair in of_each[kind].items()]:
            key = f"{name}, {way}"
            if key not in done:
                began = time.monotonic()
                found = failures(notebook, parameters)
                done[key] = [round(time.monotonic() - began), found]
            seconds, found = done[key]
            failed += bool(found)
            print(f"| {name} | {way} | {seconds} | {'; '.join(found) or 'nothing'} |", flush=True)
            DONE.parent.mkdir(exist_ok=True)
            DONE.write_text(json.dumps({key: kept for key, kept in done.items() if not kept[1]}, indent=1))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
