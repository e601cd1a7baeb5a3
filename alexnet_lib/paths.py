"""Where things are. Paths start at this file: JupyterLab and Papermill run in different working directories."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
IN_CHECKOUT = (REPOSITORY / "pyproject.toml").is_file()  # or installed without the repository, beside other packages
HOME = REPOSITORY if IN_CHECKOUT else Path(os.path.expanduser("~/alexnet-walkthrough"))
NOTEBOOKS = HOME / "notebooks"
REFERENCE = HOME / "results" / "reference"


def require_checkout(what: str) -> None:
    """
    Raises:
        FileNotFoundError: the library was installed without the repository, which `what` comes with.
    """
    if not IN_CHECKOUT:
        raise FileNotFoundError(
            f"{what}: part of the repository, and this library was installed without it. Clone the repository and run "
            "`python -m pip install -e .` there"
        )


def data_dir() -> Path:
    """The folder of source pictures: $ALEXNET_DATA, or `data/` of the repository (~/alexnet-walkthrough without it)."""
    return Path(os.environ.get("ALEXNET_DATA") or HOME / "data").expanduser().resolve()


def stores_dir(data: Path) -> Path:
    """The folder of prepared stores: $ALEXNET_STORES, or `prepared/` in the folder of source pictures."""
    return Path(os.environ.get("ALEXNET_STORES") or data / "prepared").expanduser().resolve()


def runs_dir() -> Path:
    """The folder that runs write to: $ALEXNET_RUNS, or `runs/` of the repository (~/alexnet-walkthrough without it)."""
    return Path(os.environ.get("ALEXNET_RUNS") or HOME / "runs").expanduser().resolve()


def absolute_folders() -> dict[str, str]:
    """Those of the three variables that are set, as absolute paths: a process elsewhere then uses the same folders."""
    folders = {"ALEXNET_DATA": data_dir, "ALEXNET_STORES": lambda: stores_dir(data_dir()), "ALEXNET_RUNS": runs_dir}
    return {name: str(folder()) for name, folder in folders.items() if os.environ.get(name)}
