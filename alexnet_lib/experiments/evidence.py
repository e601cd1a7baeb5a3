"""The runs that decide what each part of the paper is worth: which are kept, which are missing, and what they say.

    python -m alexnet_lib.experiments.evidence                       lists what is missing, and how long it takes
    python -m alexnet_lib.experiments.evidence --run --minutes 600   makes it, run after run, while time is left
    python -m alexnet_lib.experiments.evidence --effects             what the kept runs say, one row for each part

A run that is kept is skipped, and one that was cut off goes on: every command here can be stopped and given again.
"""

import itertools
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from scipy import stats

from ..files import read_table
from ..paths import REFERENCE
from . import pretraining, trained
from .ablations import AVERAGED, QUESTIONS, SILENCED, VARIANTS, gains, kept_runs, name_of
from .common import PHOTOGRAPHS, PICTURES, RISK, command, command_line, holm, long_folder, refuse_options
from .lrn_records import LRN_NETS, LRN_PAIRS
from .sequel import SHORT_NAMES, folder_of

DATASET, SEEDS = "tiny_imagenet", (0, 1, 2)
# three seeds leave these undecided, and the paper's value lies within the reach of five
FIVE, FIVE_SEEDS = ("baseline", "run147", "crops-only"), range(5)
# the paper's batch size and rate, and as many epochs as a pilot run of its own seed asked for: the net must err less on
# the pictures that it learns from than on new ones, or there would be nothing to regularise
NET = "--width 0.5 --recipe small --batch-size 128 --learning-rate 0.01 --speed fast --precision bf16"
TINY = f"--dataset {DATASET} {NET} --epochs 30"
PUBLISHED_EPOCHS = 520  # of the nets of 13 and 11 % on CIFAR-10
# a run on one core with bfloat16 units, as those that are kept took beside other work; a free core is twice as fast
MINUTES = {"ablations": 90, "cifar_experiments": 180, "sequel": 8}
# estimates, for nobody has measured them: three seeds of pre-training, five nets, and a run of --long on each data set
MINUTES |= {"pretraining": 3 * 130, "trained": 10 + 5 * 90, "embedded": 5, PHOTOGRAPHS: 15}
SEVERAL = ("chains.csv", "kernels.csv")  # tables of several seeds


@dataclass(frozen=True)
class Wanted:
    """A run that shall be kept: its name under results/reference/, and the experiment and options that make it.

    last: the last of the tables that its command writes.
    """

    about: str
    record: str
    experiment: str
    options: str
    minutes: int
    last: str = "summary.json"

    @property
    def command(self) -> str:
        threads = "" if torch.cuda.is_available() else " --threads 1"  # a GPU is fed by all cores
        return f"python -m alexnet_lib.experiments.{self.experiment} {self.options}{threads}"

    def is_kept(self, folder: Path) -> bool:
        """Whether its last table is there, with each of its seeds."""
        path = folder / self.record / self.last
        if not path.is_file() or self.last not in SEVERAL:
            return path.is_file()
        seeds = map(int, self.options.partition("--seeds ")[2].split())
        return set(seeds) <= set(read_table(path, "seed")["seed"])


def wanted() -> list[Wanted]:
    """Every run, in the order in which they are worth having."""
    return [*on_200_classes(), *on_cifar10(), *long_ones(), *of_sequel()]


def on_200_classes() -> Iterator[Wanted]:
    """What each part is worth, what five nets are worth together, and pre-training on 190 of the classes."""
    for seed in FIVE_SEEDS:
        for variant in QUESTIONS["worth"] if seed in SEEDS else FIVE:
            about, record = f"200 classes: {variant}", name_of(variant, DATASET, seed)
            options = f"worth {TINY} --only {variant} --seeds {seed}"
            yield Wanted(about, record, "ablations", options, MINUTES["ablations"], SILENCED)
    about, record = "200 classes: five nets", trained.folder_of(DATASET).name
    options = f"{TINY} --seeds {' '.join(map(str, FIVE_SEEDS))}"
    yield Wanted(about, record, "trained", options, MINUTES["trained"], "kernels.csv")
    about, record = "190 classes against 10: pre-training", pretraining.folder_of(DATASET).name
    options = f"--dataset {DATASET} --few-classes 10 --few-images 500 {NET} --keep --epochs 15 30 --seeds 0 1 2"
    yield Wanted(about, record, "pretraining", options, MINUTES["pretraining"], "chains.csv")


def on_cifar10() -> Iterator[Wanted]:
    """The nets with and without normalisation, as long as they were published."""
    for net, seed in [(net, seed) for seed in SEEDS for net in LRN_PAIRS["clean"]] + [(LRN_NETS[-1], 0)]:
        options = f"lrn --epochs {PUBLISHED_EPOCHS} --compiled --precision bf16 --only {net} --seeds {seed}"
        record = f"lrn-{net}-{PUBLISHED_EPOCHS}epochs-seed{seed}"
        yield Wanted(f"CIFAR-10: {net}", record, "cifar_experiments", options, MINUTES["cifar_experiments"])


def long_ones() -> Iterator[Wanted]:
    """Crops and colour noise where a net has more time to overfit."""
    for dataset, epochs in (("embedded", 90), (PHOTOGRAPHS, 45)):
        for seed, variant in itertools.product(SEEDS, QUESTIONS["augmentation"]):
            about = f"{PICTURES[dataset]}, {epochs} epochs: {variant}"
            record = f"{long_folder(epochs).name}/{name_of(variant, dataset, seed)}"
            options = f"augmentation --long --dataset {dataset} --epochs {epochs} --only {variant} --seeds {seed}"
            yield Wanted(about, record, "ablations", options, MINUTES[dataset], AVERAGED)


def of_sequel() -> Iterator[Wanted]:
    """GoogLeNet and AlexNet."""
    for run, name in SHORT_NAMES.items():
        for seed in SEEDS if name.endswith("short") or run == "GoogLeNet" else ():
            options = f"--dataset embedded --only {name} --seeds {seed}"
            record = folder_of(run, "embedded", seed).name
            yield Wanted(f"built-in pictures: {run}", record, "sequel", options, MINUTES["sequel"])


def missing(folder: Path = REFERENCE) -> list[Wanted]:
    """The runs that are not kept yet, or not with the table that their command writes last."""
    return [run for run in wanted() if not run.is_kept(folder)]


def overview(folder: Path = REFERENCE) -> pd.DataFrame:
    """What there is of each kind of run: columns kept, wanted, minutes (of one core, for what is missing), command."""
    rows: dict[str, dict] = {}
    for run in wanted():
        row = rows.setdefault(run.about, {"kept": 0, "wanted": 0, "minutes": 0, "command": ""})
        kept = run.is_kept(folder)
        row["wanted"] += 1
        row["kept"] += kept
        if not kept:
            row["minutes"] += run.minutes
            row["command"] = row["command"] or run.command
    return pd.DataFrame.from_dict(rows, orient="index")


def interval(values: pd.Series) -> tuple[float, float]:
    """The 95 % interval of a mean by Student's distribution; NaN for fewer than two values, NaN counting as none."""
    values = values.dropna()  # a seed that only one of two series has
    if len(values) < 2:
        return math.nan, math.nan
    half = stats.t.ppf(0.975, len(values) - 1) * values.std() / math.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def p_alone(values: pd.Series) -> float:
    """How likely a mean this far from zero would be if the true one were zero, by Student's t; NaN under three values.

    Two can agree by luck, and a series counts from three seeds on.
    """
    values = values.dropna()
    return float(stats.ttest_1samp(values, 0).pvalue) if len(values) > 2 else math.nan


def effects(dataset: str = DATASET, column: str = "ten views, top-1", folder: Path = REFERENCE) -> pd.DataFrame:
    """By how many points each part lowers an error, a column of `ablations.final_errors`, paired by seed.

    One row for each part of which a run is kept. Columns: section, part, paper, log2012, ours, low and high (of the
    95 % interval), n, alone, which is p by chance, p, the same corrected for all rows (`common.holm`), and minutes,
    which the runs of the pairs took together on one core.
    """
    rows = []
    for name, variant in VARIANTS.items():
        if not variant.lacks:
            continue
        try:
            points = gains(dataset, name, folder=folder)[column]
        except FileNotFoundError:
            continue
        low, high = interval(points)
        which = "top-5" in column
        rows.append(
            {"section": variant.section, "part": variant.lacks}
            | {"paper": variant.paper[which], "log2012": variant.log2012[which]}
            | {"ours": points.mean(), "low": low, "high": high, "n": len(points)}
            | {"alone": p_alone(points), "minutes": core_minutes(dataset, (name, "baseline"), points.index, folder)}
        )
    table = pd.DataFrame(rows)
    if rows:
        table.insert(len(table.columns) - 1, "p", holm(table["alone"]))
    return table


def core_minutes(dataset: str, variants: tuple[str, ...], seeds, folder: Path = REFERENCE) -> int:
    """The minutes of one core that the kept runs of some variants took together, with these seeds."""
    by_seed = [kept_runs(dataset, variant, folder) for variant in variants]
    summaries = [runs[seed].summary for runs, seed in itertools.product(by_seed, seeds) if seed in runs]
    return round(sum(summary["seconds"] * summary["threads"] for summary in summaries) / 60)


def make_within(command: list[str], minutes: float) -> None:
    """Run a command for so many minutes, or not at all if none are left; SIGTERM ends it, and it can be given again.

    Raises:
        subprocess.CalledProcessError: it has failed within that time.
    """
    if minutes <= 0:
        return
    with subprocess.Popen(command) as child:
        try:
            code = child.wait(None if math.isinf(minutes) else 60 * minutes)
        except subprocess.TimeoutExpired:
            return
        finally:
            child.terminate()  # also where this process is stopped; one that has ended feels nothing
    if code:
        raise subprocess.CalledProcessError(code, command)


def by_chance(p: pd.Series, none: str = "zero", risk: float = RISK) -> str:
    """How many comparisons, given the p of each, NaN for too few runs, differ from none; how many would by chance."""
    count, (alone, of_all) = p.notna().sum(), [(values < risk).sum() for values in (p, holm(p))]
    differ = f"{alone} {'differs' if alone == 1 else 'differ'} from {none} at the {100 * risk:.0f} % level"
    return (
        f"{count} comparisons: taken singly, {differ}, where chance alone would give about {risk * count:.1f}; "
        f"Holm's correction, which is stricter the more comparisons there are, leaves {of_all}"
    )


def minutes(text: str) -> float:
    """A duration on the command line: a number from 0 on, or inf."""
    if not float(text) >= 0:  # ValueError, and not a number
        raise ValueError
    return float(text)


def main(arguments=None) -> None:
    parser = command_line("evidence", __doc__)
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--run", action="store_true", help="make what is missing")
    parser.add_argument(
        "--minutes", type=minutes, default=math.inf, help="begin no run that would end later; a GPU's is stopped"
    )
    either.add_argument("--effects", action="store_true", help="print what the kept runs say")
    with command(parser, arguments) as given:
        if not given.run:
            refuse_options(parser, given, ("minutes",), "without --run")
        if given.effects:
            for dataset in (DATASET, PHOTOGRAPHS):
                print(f"{dataset}: points of top-1 error, ten views; minutes of one core for all runs of a row's pairs")
                print(effects(dataset).round(2).to_string(index=False), end="\n\n")
        elif given.run:
            began, status = time.monotonic(), 0
            for run in missing():
                left, made = given.minutes - (time.monotonic() - began) / 60, run.command.split()[1:]
                try:
                    if torch.cuda.is_available():  # MINUTES are of a core, and say nothing here
                        make_within([sys.executable, *made], left)
                    elif run.minutes <= left:
                        subprocess.run([sys.executable, *made], check=True)
                except subprocess.CalledProcessError as failed:  # it has said why; a signal's number is negative
                    status = failed.returncode if failed.returncode > 0 else 128 - failed.returncode
                    print(f"{parser.prog}: `{run.command}` has failed", file=sys.stderr)
                    if status > 128:  # it was stopped, and so is this; otherwise the next may be possible here
                        break
            if status:
                parser.exit(status)
        else:
            table = overview()
            print(table.drop(columns="command").to_string())
            every, hours = table["wanted"].sum(), table["minutes"].sum() / 60
            lacking = every - table["kept"].sum()
            print(f"\n{lacking} of {every} runs are missing: {hours:.0f} hours of one core. Their commands:")
            print(*table["command"][table["minutes"] > 0], sep="\n")


if __name__ == "__main__":
    main()
