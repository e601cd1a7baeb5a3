"""Run records: what a run writes to its folder, and how it is read again.

config.json     the settings, every one of them; a run can be repeated from it
history.csv     loss, top-1 and top-5 error of every epoch and split; the same bytes when a run is repeated
timing.csv      seconds, images per second and the share of time spent waiting for data, of every epoch
                (of one that was interrupted, since it was taken up again)
losses.csv      the mean loss of every few steps; events/ the same for TensorBoard, where that is installed
summary.json    the final errors by split and views, and where they come from: versions, device, data, commit
checkpoint.pt   tensors and plain values; checkpoint.previous.pt is the one before, and checkpoint.epochN.pt the one of
                the end of epoch N, before a fall of the rate
logs/           all that the processes of a job have printed, where one has failed

python -m alexnet_lib.runs.records RUN NAME    keeps a finished run as results/reference/NAME, without its weights
"""

import argparse
import dataclasses
import hashlib
import io
import json
import math
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from ..commands import ends_well, undivided
from ..files import Damaged, damage, named_values, npy_bytes, read_json, read_table, write_file, write_json
from ..paths import REFERENCE, require_checkout
from .stored import HISTORY, NOT_RECORDED, WHERE, Chosen, Progress, Summary, digests_of

CHECKPOINTS = ("checkpoint.pt", "checkpoint.previous.pt")
ANEW = (
    "Where the checkpoint is whole, remove summary.json there and give the run's command again, which writes both anew"
)
TIMED = {"epoch": int, "seconds": float, "images_per_second": float}


class DamagedCheckpoint(Damaged):
    """What is left of a run's state can't be gone on with."""


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
            ValueError: a file that is damaged; timing.csv may be, or be missing: then `timing` has no rows.
        """
        folder = Path(folder)
        if not (folder / "summary.json").is_file():
            raise FileNotFoundError(f"no finished run in {folder}")
        config = read_json(folder / "config.json", Chosen, ANEW)
        summary = read_json(folder / "summary.json", Summary, ANEW)
        history = _read_history(folder, summary)
        written = summary.get("digests", {})  # not in records from before there were some
        for name, digest in digests_of(folder, config, summary).items():
            if written.get(name) not in (None, digest):
                raise damage(folder / name, "other content than was written", "that of its digest", ANEW)
        return cls(folder, config, history, read_timing(folder), summary)


def _read_history(folder: Path, summary: dict) -> pd.DataFrame:
    path, epochs = folder / "history.csv", summary["epochs"]
    if not path.is_file():
        raise damage(path, "no such file", f"{epochs} epochs", ANEW)
    history = read_table(path, *HISTORY, remedy=ANEW)
    numbers = all(pd.api.types.is_numeric_dtype(history[name]) for name in HISTORY if name != "split")
    if len(history) != 2 * epochs or not numbers or not path.read_bytes().endswith(b"\n"):
        raise damage(path, f"{len(history)} rows, the last perhaps cut off", f"numbers of {epochs} epochs", ANEW)
    return history


def differences(found: dict, asked: dict, defaults: dict | None = None) -> dict[str, tuple]:
    """The fields in which two configurations differ, {field: (found, asked)}; a field that came later has its default.

    "auto" is no value that could differ: a run was recorded before there was this choice. Two paths of one folder are
    one data set.
    """
    asked, defaults = json.loads(json.dumps(asked)), defaults or {}
    found, asked = (c | {"dataset": place_of(c.get("dataset", "auto"))} for c in (found, asked))
    pairs = {k: tuple(c.get(k, defaults.get(k, "auto")) for c in (found, asked)) for k in {**asked, **found}}
    return {k: pair for k, pair in pairs.items() if k not in WHERE and pair[0] != pair[1] and "auto" not in pair}


def place_of(dataset):
    """A data set by its name, or by its folder's path, however that was typed; what is no text as it is."""
    if not isinstance(dataset, str):
        return dataset
    return os.path.realpath(os.path.expanduser(dataset)) if os.sep in dataset or os.path.isdir(dataset) else dataset


def data_differences(found: dict | None, asked: dict[str, str]) -> dict[str, tuple]:
    """The splits whose pictures differ, as far as both are known, {"data of <split>": (found, asked)}."""
    found = found if isinstance(found, dict) else {}
    return {f"data of {k}": (found[k], asked[k]) for k in asked if k in found and found[k] != asked[k]}


def what_decides(run) -> dict:
    """The settings of a run that decide what is computed."""
    return {name: value for name, value in dataclasses.asdict(run).items() if name not in WHERE}


def in_words(unlike: dict[str, tuple], second: str) -> str:
    """Differences for people; second: what the second value of each is."""
    return "; ".join(f"{name} = {found!r} there, and {value!r} {second}" for name, (found, value) in unlike.items())


def refuse_differences(folder: Path, unlike: dict[str, tuple]) -> None:
    """
    Raises:
        ValueError: there are differences between what a folder holds and what is asked for.
    """
    if unlike:
        fields = in_words(unlike, "asked for")
        raise ValueError(
            f"{folder} holds another run than the one that is asked for: {fields}. Choose another name, ask for the "
            "same, or move or delete that folder"
        )


def reference(name: str) -> Record:
    """One of the committed runs, results/reference/<name>/."""
    require_checkout(f"the record {name!r}")
    return Record.open(REFERENCE / name)


def read_timing(folder: Path, until: float = math.inf) -> pd.DataFrame:
    """timing.csv up to an epoch, or no rows where it is missing or damaged: what it tells is not worth a run."""
    try:
        return pd.read_csv(folder / "timing.csv").astype(TIMED).query("epoch <= @until")
    except (OSError, ValueError, KeyError, OverflowError):
        return pd.DataFrame(columns=list(TIMED))


def write_table(path: Path, rows: list[dict]) -> None:
    write_file(path, _as_csv(rows))


def _as_csv(rows: list[dict]) -> bytes:
    return pd.DataFrame(rows).to_csv(index=False, lineterminator="\n").encode()


def restore_tables(folder: Path, state) -> None:
    """`write_tables` where history.csv is not what it should be; else those who follow the run would see it twice."""
    path = folder / "history.csv"
    if not path.is_file() or path.read_bytes() != _as_csv(state.history):
        write_tables(folder, state)


def write_tables(folder: Path, state) -> None:
    """history.csv and timing.csv of a run, from where it is."""
    write_table(folder / "timing.csv", state.timing)
    write_table(folder / "history.csv", state.history)


# ------------------------------------------------------------------------------------------------------- checkpoints


def digest_of(state: dict) -> str:
    """SHA-256 of the tensors, by kind and name, and the texts of a state, with their names, in their order."""
    digest = hashlib.sha256()
    for kind, content in state.items():
        if isinstance(content, str):
            digest.update(f"/{kind} {content!r}\n".encode())
            continue
        for name, tensor in content.items():
            tensor = tensor.detach().cpu().contiguous()
            digest.update(f"/{kind}/{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def are_finite(tensors) -> Tensor:
    """Whether all numbers of some tensors are finite: one truth value on their device, which nothing waits for.

    A sum is the cheapest thing that a NaN or an infinity always spoils.
    """
    return torch.stack([tensor.detach().sum() for tensor in tensors]).isfinite().all()


def _read_checkpoint(path: Path) -> dict:
    """A checkpoint as it was saved.

    Raises:
        FileNotFoundError: there is none.
        ValueError: what is wrong with it.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # torch raises many kinds for a torn file
        raise ValueError(f"it can't be read ({type(error).__name__})") from None
    if not isinstance(state, dict) or not state or not all(map(_is_tensors_or_text, state.values())):
        raise ValueError("it holds no state of a run")
    if state.pop("digest", None) not in (None, digest_of(state)):  # None: from before there were digests
        raise ValueError("its content is not what was written")
    groups = [group.values() for group in state.values() if isinstance(group, dict)]
    numbers = [value for group in groups for value in group if isinstance(value, Tensor) and value.is_floating_point()]
    if numbers and not are_finite(numbers):
        raise ValueError("it holds weights that are not finite")
    named_values("its progress", state.get("progress", "{}"), Progress, remedy="")
    return state


def _is_tensors_or_text(value) -> bool:
    return isinstance(value, str) or isinstance(value, dict) and all(isinstance(v, Tensor) for v in value.values())


@undivided()
def save_checkpoint(folder: Path, state: dict) -> None:
    """Write the state of a run with its digest, and keep the one before; a damaged one isn't worth keeping."""
    newest, previous = (folder / name for name in CHECKPOINTS)
    try:
        _read_checkpoint(newest)
        os.replace(newest, previous)
    except (FileNotFoundError, ValueError):
        pass
    buffer = io.BytesIO()
    torch.save(state | {"digest": digest_of(state)}, buffer)
    write_file(newest, buffer.getbuffer())


def load_checkpoint(folder: Path) -> dict | None:
    """The newest whole state of a run, or None where there is no checkpoint.

    A damaged file gives way to the one before it, with a warning.

    Raises:
        DamagedCheckpoint: there are checkpoints, and none is whole.
    """
    damaged = []
    for name in CHECKPOINTS:
        try:
            state = _read_checkpoint(folder / name)
        except FileNotFoundError:
            continue
        except ValueError as error:
            damaged.append(f"{name} is damaged: {error}")
            continue
        if damaged:
            warnings.warn(
                f"in {folder}, {damaged[0]}. The run goes on from {name}, of {_time_of(state)}; what was "
                f"trained after that is lost and is done again{_recorded(folder)}",
                stacklevel=2,
            )
        return state
    if damaged:
        raise DamagedCheckpoint(
            f"no checkpoint in {folder} is whole: {'; '.join(damaged)}. Put a whole one there, or move or delete the "
            "folder to begin anew"
        )
    return None


def _time_of(state: dict) -> str:
    progress = json.loads(state.get("progress", "{}"))
    return moment(progress.get("epoch", 0), progress.get("step", 0))


def moment(epoch: int, step: int) -> str:
    """Where a run is after so many epochs, and steps of the next, for people."""
    return f"epoch {epoch + 1}, step {step}" if step else f"the end of epoch {epoch}"


def _recorded(folder: Path) -> str:
    """How far a run's history goes, for people."""
    try:
        return f" (history.csv goes to epoch {read_table(folder / 'history.csv', 'epoch')['epoch'].max():.0f})"
    except (OSError, ValueError):
        return ""


def whereabouts(folder: Path) -> str:
    """What is left of a run that failed, for its error message: it never names a checkpoint that isn't there."""
    try:
        state = load_checkpoint(folder)
    except DamagedCheckpoint as error:
        return str(error)
    if state is None:
        return "there is no checkpoint yet"
    return f"the last whole checkpoint is of {_time_of(state)}, in {folder}; the same call goes on from it"


def final_weights(record: Record) -> dict[str, Tensor]:
    """The weights with which a finished run was tested.

    Raises:
        FileNotFoundError: no checkpoint, as with the committed records.
        DamagedCheckpoint: those of the end are damaged, or another run's.
    """
    state = load_checkpoint(record.folder)
    if state is None:
        raise FileNotFoundError(f"no checkpoint in {record.folder}")
    progress = json.loads(state.get("progress", "{}"))
    settings = {**(progress.get("settings") or {}), "dataset": "auto"}  # its pictures are compared, not where they lay
    unlike = differences(settings, record.config)
    unlike |= data_differences(progress.get("data"), record.summary["dataset"])
    if unlike:
        fields = in_words(unlike, "here")
        raise DamagedCheckpoint(f"the checkpoint in {record.folder} is another run's: {fields}; put its own back")
    epoch = progress.get("epoch")
    if epoch != record.summary["epochs"]:
        raise DamagedCheckpoint(
            f"the whole checkpoint in {record.folder} is of epoch {epoch}, and the run's errors are of epoch "
            f"{record.summary['epochs']}; remove summary.json there and give the run's command again, which "
            "trains the rest once more"
        )
    return state.get("averaged", state["net"])


def keep(run: Path, name: str, folder: Path = REFERENCE, kernels: bool = False) -> Record:
    """Copy a finished run's tables, without its weights, to where they are committed, with how to repeat it.

    kernels: and the weights of its first layer, in float16, as conv1.npy; those of an earlier record are removed.

    Raises:
        ValueError: a name that leads elsewhere, or under which a run of other settings or other data is kept.
    """
    if Path(name).name != name or name in ("", ".."):
        raise ValueError(f"name = {name!r}; accepted is the name of one folder, without a path")
    record, kept = Record.open(run), folder / name
    if (kept / "config.json").is_file():
        unlike = differences(read_json(kept / "config.json"), record.config, NOT_RECORDED)
        if (kept / "summary.json").is_file():
            unlike |= data_differences(read_json(kept / "summary.json").get("dataset"), record.summary["dataset"])
        refuse_differences(kept, unlike)
    weights = final_weights(record) if kernels else {}
    if kernels and "conv1.weight" not in weights:
        raise ValueError(f"the net of {record.folder} has no conv1, and begins with {next(iter(weights))}")
    if kernels and not are_finite([weights["conv1.weight"].half()]):
        raise ValueError(f"the first layer of {record.folder} has weights that float16 can't hold")
    kept.mkdir(parents=True, exist_ok=True)
    for file in ("config.json", "history.csv", "timing.csv"):
        if (record.folder / file).is_file():
            write_file(kept / file, (record.folder / file).read_bytes())
        else:  # older runs have no timing, and what is there is an earlier run's
            (kept / file).unlink(missing_ok=True)
    where = kept.relative_to(REFERENCE).as_posix() if kept.is_relative_to(REFERENCE) else name
    command = f"python -m alexnet_lib.training results/reference/{where}/config.json"
    (kept / "conv1.npy").unlink(missing_ok=True)  # it may be an earlier run's
    if kernels:
        write_file(kept / "conv1.npy", npy_bytes(weights["conv1.weight"].half().numpy()))
    summary = record.summary | {"command": command}
    write_json(kept / "summary.json", summary | {"digests": digests_of(kept, record.config, summary)})
    return Record.open(kept)


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m alexnet_lib.runs.records", description="Keep a run as a reference."
    )
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    parser.add_argument("name", help="what it is called under results/reference/")
    parser.add_argument("--kernels", action="store_true", help="keep the weights of the first layer, too")
    given = parser.parse_args(arguments)
    with ends_well(parser, "the run is as it was"):
        print(keep(given.run, given.name, kernels=given.kernels).folder)


if __name__ == "__main__":
    main()
