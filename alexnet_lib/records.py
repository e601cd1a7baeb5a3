"""Run records: what a run writes to its folder, and how it is read again.

config.json     the settings, every one of them; a run can be repeated from it
history.csv     loss, top-1 and top-5 error of every epoch and split; the same bytes when a run is repeated
timing.csv      seconds, images per second and the share of time spent waiting for data, of every epoch
summary.json    the final errors by split and views, and where they come from: versions, device, data, commit
checkpoint.pt   tensors and plain values; checkpoint.previous.pt is the one before

python -m alexnet_lib.records RUN NAME    keeps a finished run as results/reference/NAME, without its weights
"""

import argparse
import io
import json
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from .paths import REFERENCE, REPOSITORY

CHECKPOINTS = ("checkpoint.pt", "checkpoint.previous.pt")


@dataclass(frozen=True)
class Record:
    """A finished run, or one of the committed reference runs."""

    folder: Path
    config: dict
    history: pd.DataFrame
    timing: pd.DataFrame
    summary: dict

    @classmethod
    def open(cls, folder) -> "Record":
        """Read a record.

        Raises:
            FileNotFoundError: no finished run there.
        """
        folder = Path(folder)
        if not (folder / "summary.json").is_file():
            raise FileNotFoundError(f"no finished run in {folder}")
        config, summary = (json.loads((folder / name).read_text()) for name in ("config.json", "summary.json"))
        history, timing = (pd.read_csv(folder / name) for name in ("history.csv", "timing.csv"))
        return cls(folder, config, history, timing, summary)


def reference(name: str) -> Record:
    """One of the committed runs, results/reference/<name>/."""
    return Record.open(REFERENCE / name)


def write_atomically(path: Path, data: bytes) -> None:
    """Give a file its contents all at once: after a crash it holds the old or the new, never a part."""
    temporary = path.with_name(f"{path.name}.tmp")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_json(path: Path, values: dict) -> None:
    write_atomically(path, (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode())


def write_table(path: Path, rows: list[dict]) -> None:
    write_atomically(path, pd.DataFrame(rows).to_csv(index=False, lineterminator="\n").encode())


def save_checkpoint(folder: Path, state: dict) -> None:
    """Write the state of a run and keep the one before."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    newest, previous = (folder / name for name in CHECKPOINTS)
    if newest.exists():
        os.replace(newest, previous)
    write_atomically(newest, buffer.getbuffer())


def load_checkpoint(folder: Path) -> dict | None:
    """The newest whole state of a run, or None: a damaged file gives way to the one before it."""
    for name in CHECKPOINTS:
        try:
            return torch.load(folder / name, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            continue
        except Exception:  # torch raises many kinds for a torn file
            continue
    return None


def provenance() -> dict:
    """What the numbers of a run depend on beside its settings."""
    return {
        "commit": _git_commit(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "threads": torch.get_num_threads(),
        "processor": platform.machine(),
    }


def _git_commit() -> str | None:
    """The commit of the checkout that runs, or None where there is none."""
    command = ["git", "-C", str(REPOSITORY), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def keep(run: Path, name: str, folder: Path = REFERENCE, kernels: bool = False) -> Record:
    """Copy a finished run's tables, without its weights, to where they are committed, with how to repeat it.

    kernels: and the weights of its first layer, in float16, as conv1.npy.

    Raises:
        ValueError: a name that leads elsewhere.
    """
    if Path(name).name != name or name in ("", ".."):
        raise ValueError(f"name = {name!r}; accepted is the name of one folder, without a path")
    record, kept = Record.open(run), folder / name
    kept.mkdir(parents=True, exist_ok=True)
    for file in ("config.json", "history.csv", "timing.csv"):
        write_atomically(kept / file, (record.folder / file).read_bytes())
    module = record.summary.get("module", "alexnet_lib.training")
    where = kept.relative_to(REFERENCE).as_posix() if kept.is_relative_to(REFERENCE) else name
    command = f"python -m {module} results/reference/{where}/config.json"
    if kernels:
        state = load_checkpoint(record.folder)
        np.save(kept / "conv1.npy", state.get("averaged", state["net"])["conv1.weight"].half().numpy())
    write_json(kept / "summary.json", record.summary | {"command": command})
    return Record.open(kept)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m alexnet_lib.records", description="Keep a run as a reference.")
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    parser.add_argument("name", help="what it is called under results/reference/")
    parser.add_argument("--kernels", action="store_true", help="keep the weights of the first layer, too")
    given = parser.parse_args()
    print(keep(given.run, given.name, kernels=given.kernels).folder)
