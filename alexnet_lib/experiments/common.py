"""What all series of runs share: kept runs, means over seeds, the levels that curves reach, the command line."""

import argparse
import dataclasses
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ..commands import ends_well
from ..dataset import Store, load_dataset
from ..files import at_work, read_json, read_table
from ..learning import RECIPES
from ..paths import HOME, REFERENCE
from ..runs.folder import fingerprints, require_same
from ..runs.job import JobFailed
from ..runs.provenance import code_commit
from ..runs.records import Record, data_differences, differences, in_words, what_decides, write_table
from ..runs.settings import FEW_EPOCHS, SPEEDS, TrainSettings, resolve
from ..runs.stored import NOT_RECORDED
from ..training import train

PHOTOGRAPHS = "imagenette73"
RISK = 0.05  # of calling chance an effect
# of a run, that `add_settings` offers
SETTINGS = ("width", "recipe", "batch_size", "learning_rate", "speed", "precision")
LONG = REFERENCE / "augmentation-long"
PICTURES = {"embedded": "built-in pictures", PHOTOGRAPHS: "photographs"}


def long_folder(epochs: int) -> Path:
    """Where runs of `--long` are kept: LONG for FEW_EPOCHS, which its tables are of, and beside it for others."""
    return LONG if epochs == FEW_EPOCHS else LONG.with_name(f"{LONG.name}-{epochs}epochs")


def kept_runs(prefix: str, folder: Path = REFERENCE) -> dict[int, Record]:
    """The kept runs whose names are this prefix and a seed, by seed, but for what is still being kept.

    Raises:
        ValueError: they differ in more than the seed, so no mean of them means anything.
    """
    named = (path for path in folder.glob("*") if re.fullmatch(re.escape(prefix) + r"\d+", path.name))
    records = [Record.open(path) for path in sorted(named) if (path / "summary.json").is_file()]
    require_alike(records, ("seed",))
    return {record.config["seed"]: record for record in records}


def require_alike(records: list[Record], but_for: tuple[str, ...]) -> None:
    """
    Raises:
        ValueError: kept runs differ in more than these settings, so they are no series; with the first two that do.
    """
    for record in records[1:]:
        first, own = records[0], {name: record.config[name] for name in but_for}
        unlike = differences(first.config | own, record.config, NOT_RECORDED)
        unlike |= data_differences(first.summary["dataset"], record.summary["dataset"])
        if unlike:
            raise ValueError(
                f"{first.folder.name} and {record.folder.name} differ in more than the {' and '.join(but_for)}: "
                f"{in_words(unlike, 'in the second')}. Move one of them out of {record.folder.parent}"
            )


def of_common_seeds(*tables: pd.DataFrame) -> list[pd.DataFrame]:
    """Those rows of tables with a column `seed` whose seeds all of them have, so that they can be compared in pairs."""
    common = set.intersection(*(set(table["seed"]) for table in tables))
    return [table[table["seed"].isin(common)] for table in tables]


def kept_table(path: Path, command: str) -> pd.DataFrame:
    """A kept table.

    Raises:
        FileNotFoundError: there is none; with the command that makes it, that of the tables beside it if they say one.
    """
    if not path.is_file():
        command = about_of(path.parent).get("command", command)
        raise FileNotFoundError(f"no {path.name} is kept in {path.parent.name}; `{command}` makes it")
    return read_table(path)


def add_rows(path: Path, rows: list[dict]) -> None:
    """Add rows to a kept table as it is now, since another process may have added its own meanwhile."""
    with rows_at_work(path.parent):
        write_table(path, [*rows_of(path), *rows])


def rows_at_work(folder: Path):
    """Keep other processes from the tables in a folder; they wait."""
    return at_work(folder, ".rows.lock", patience=-1)


def rows_of(path: Path) -> list[dict]:
    """The rows of a table; none where it isn't there."""
    return read_table(path).to_dict("records") if path.is_file() else []


def about_of(folder: Path) -> dict:
    """What about.json says of the tables in a folder; nothing where there is none."""
    return read_json(folder / "about.json") if (folder / "about.json").is_file() else {}


def made_of(run, stores: dict[str, Store]) -> dict:
    """For about.json: what a resolved run, but for its seed, and the fingerprints of its pictures decide of a table."""
    settings = {name: value for name, value in what_decides(run).items() if name != "seed"}
    return {"settings": settings, "data": fingerprints(stores)}


def refuse_others(folder: Path, table: str, made: dict) -> None:
    """
    Raises:
        ValueError: a folder keeps this table of other settings or pictures than `made_of` says. Of older tables no
            more than their command is known.
    """
    about = about_of(folder)
    if not isinstance(about.get("settings"), dict) or not (folder / table).is_file():
        return
    unlike = differences(about["settings"], made["settings"]) | data_differences(about.get("data"), made["data"])
    if unlike:
        raise ValueError(
            f"{folder} keeps {table} of other runs than those asked for: {in_words(unlike, 'here')}; ask for the same, "
            "or move the folder away first"
        )


def refuse_less(folder: Path, table: str, asked: str, seeds, made: dict) -> None:
    """
    Raises:
        ValueError: a folder keeps this table as another command made it, or with more seeds, which would be lost, or
            see `refuse_others`.
    """
    if not (folder / table).is_file():
        return
    command = str(about_of(folder).get("command", "a command that isn't recorded"))
    more = sorted(set(read_table(folder / table, "seed")["seed"]) - set(seeds))
    if command.partition(" --seeds ")[0] != asked or more:
        by = f"{asked} --seeds {' '.join(map(str, seeds))}"
        raise ValueError(
            f"{folder} keeps what `{command}` made, and `{by}` would overwrite it with less or with other runs; move "
            "the folder away first"
        )
    refuse_others(folder, table, made)


def error_of(record: Record, k: int = 1) -> float:
    """The final top-k validation error of a run in per cent, with one view."""
    return 100 * record.summary["metrics"]["val"]["1 view"][f"top{k}"]


def report_kept(kept: dict[Path, Callable], again: bool, dataset: str) -> None:
    """Say where runs are kept; or train them `again`, under runs/ alone, and say how the two end.

    kept: by folder, what gives the resolved run for a training store.

    Raises:
        ValueError: what is kept there is of other settings or pictures.
    """
    stores = load_dataset(dataset) if kept else {}
    for folder, run_of in kept.items():
        run = run_of(stores["train"])
        require_same(run, stores, folder)
        if not again:
            where = folder.parent.relative_to(HOME) if folder.is_relative_to(HOME) else folder.parent
            print(f"{folder.name} is kept in {where}; --again trains it anew, into runs/ only", flush=True)
            continue
        record = train(dataclasses.replace(run, experiment="again"))  # apart from the run that was kept, if it is here
        was, now = (error_of(each) for each in (Record.open(folder), record))
        said = f"top-1 error {was:.2f} % as it is kept, {now:.2f} % again, in {record.folder}"
        print(f"{folder.name}: {said}", flush=True)


def spread_of(values: pd.Series) -> tuple[float, float, int]:
    """Mean, standard deviation and number."""
    return float(values.mean()), float(values.std()), len(values)


def holm(p: pd.Series) -> pd.Series:
    """Holm's correction of the p-values of several comparisons; NaN, where nothing was compared, stays NaN.

    The i-th smallest of m is multiplied by m − i + 1 and is never smaller than one before it. Below 0.05 stays what is
    told from chance, at a risk of one in twenty that anything in the whole table is told wrongly.
    """
    known = p.dropna().sort_values()
    return (known * np.arange(len(known), 0, -1)).cummax().clip(upper=1).reindex(p.index)


def rounded(values: tuple[float, float, int]) -> str:
    """A mean to one decimal, with its standard deviation where it has one."""
    mean, deviation, _ = values
    return f"{mean:.1f}" if math.isnan(deviation) else f"{mean:.1f} ± {deviation:.1f}"


def crossing(epochs, values, level: float, never: float = math.nan) -> float:
    """The epoch at which values first fall to a level, by a straight line between epochs; `never` if they don't."""
    epochs, values = np.asarray(epochs, float), np.asarray(values, float)
    below = np.flatnonzero(values <= level)
    if not len(below):
        return never
    if (i := below[0]) == 0:
        return epochs[0]
    return epochs[i - 1] + (values[i - 1] - level) / (values[i - 1] - values[i]) * (epochs[i] - epochs[i - 1])


def whole(least: int, most: int = 2**32 - 1) -> Callable[[str], int]:
    """What a command line takes for a whole number from the one to the other, which is the largest seed."""

    def number(text: str) -> int:
        if not text.removeprefix("-").isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text}; accepted are whole numbers from {least} to {most:,}")
        return int(text)

    return number


class Different(argparse.Action):
    """Of several values none may be given twice: a run of the same seed would count as two."""

    def __call__(self, parser, namespace, values, option_string=None):
        if twice := [value for value in dict.fromkeys(values) if values.count(value) > 1]:
            raise argparse.ArgumentError(self, f"{' '.join(map(str, twice))} more than once; accepted is each once")
        setattr(namespace, self.dest, values)


def command_line(name: str, about: str | None, seeds: list[int] | None = None, of="") -> argparse.ArgumentParser:
    """A parser for `python -m alexnet_lib.experiments.<name>`, described by the first line of its module.

    of: whose seeds these are, in the help.
    """
    described = (about or " ").splitlines()[0]
    parser = argparse.ArgumentParser(f"python -m alexnet_lib.experiments.{name}", description=described)
    parser.add_argument("--threads", type=whole(1, 4096), default=torch.get_num_threads(), help="CPU threads (all)")
    if seeds is not None:  # those of the command unless given
        said = of or f"one run of each for every seed ({' '.join(map(str, seeds))})"
        parser.add_argument("--seeds", type=whole(0), nargs="+", action=Different, default=seeds, help=said)
    return parser


def add_again(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--again", action="store_true", help="train what is kept anew, into runs/ only, and compare")


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Options for SETTINGS."""
    parser.add_argument("--width", type=float, help="a factor on every layer; that of the pictures unless given")
    parser.add_argument("--recipe", choices=list(RECIPES), help="that of the data set unless given")
    parser.add_argument("--batch-size", type=whole(1), help="that of the recipe unless given")
    parser.add_argument("--learning-rate", type=float, help="that of the recipe unless given")
    parser.add_argument("--speed", choices=SPEEDS, help="fast: bfloat16 where the device has units for it (repeatable)")
    parser.add_argument("--precision", choices=["fp32", "bf16"], help="of products; that of the speed unless given")


def settings_given(given: argparse.Namespace, *more: str) -> dict:
    """Those of SETTINGS, and of `more`, that a command was given."""
    return {name: value for name in (*SETTINGS, *more) if (value := getattr(given, name)) is not None}


def as_options(values: dict) -> str:
    """Values by name as a command line says them, each after a space."""
    return "".join(f" --{name.replace('_', '-')} {value}" for name, value in values.items())


def options_of(record: Record) -> str:
    """What a command must say to ask for a kept run: its epochs, and those of SETTINGS that no default run has.

    Settings hang on each other, so each is compared with what those before it decide.
    """
    config, images = record.config, record.summary["images"]["train"]
    side = round(config["image_size"] * 256 / 224)
    labels, classes = np.zeros(images, np.uint8), [str(i) for i in range(record.summary["classes"])]
    blank = np.broadcast_to(np.uint8(0), (images, side, side, 3))  # as large as the record's pictures, without memory
    store = Store(Path(), blank, labels, blank[0], None, classes, {"fingerprint": ""})
    said = {"epochs": config["epochs"]}
    for name in SETTINGS:
        value = config.get(name, NOT_RECORDED.get(name))
        if value != getattr(resolve(TrainSettings(dataset="embedded", device="cpu", **said), store), name):
            said[name] = value
    if "speed" in said:  # which means another precision on another machine
        said["precision"] = config["precision"]
    return as_options(said)


def refuse_options(parser: argparse.ArgumentParser, given: argparse.Namespace, unused, where: str) -> None:
    """End the command if options are given that it would ignore: one of these whose value isn't the default."""
    for name in unused:
        if getattr(given, name) != parser.get_default(name):
            parser.error(f"--{name.replace('_', '-')} says nothing {where}")


@contextmanager
def command(parser: argparse.ArgumentParser, arguments=None) -> Iterator[argparse.Namespace]:
    """The parsed arguments of a command, which errors and signals in the block end in a few lines."""
    given = parser.parse_args(arguments)
    with ends_well(parser, "the runs that are finished are kept, and of the last one its checkpoint", (JobFailed,)):
        torch.set_num_threads(given.threads)
        code_commit()  # of what runs, for its records
        yield given
