"""Where things are. Paths start at this file: JupyterLab and Papermill run in different working directories."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
NOTEBOOKS = REPOSITORY / "notebooks"
REFERENCE = REPOSITORY / "results" / "reference"


def data_dir() -> Path:
    """The folder of source pictures and prepared stores: $ALEXNET_DATA, or `data/` of the repository."""
    return Path(os.environ.get("ALEXNET_DATA") or REPOSITORY / "data").expanduser().resolve()


def runs_dir() -> Path:
    """The folder that runs write to: $ALEXNET_RUNS, or `runs/` of the repository."""
    return Path(os.environ.get("ALEXNET_RUNS") or REPOSITORY / "runs").expanduser().resolve()
