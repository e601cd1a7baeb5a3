"""The runs that decide what each part of the paper is worth: which are kept, which are missing, and what they say.

    python -m alexnet_lib.experiments.evidence                       lists what is missing, and how long it takes
    python -m alexnet_lib.experiments.evidence --run --minutes 600   makes it, run after run, while time is left
    python -m alexnet_lib.experiments.evidence --effects             what the kept runs say, one row for each part

A run that is kept is skipped, and one that was cut off goes on: every command here can be stopped and given again.
"""

import math
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from scipy import stats

from ..paths import REFERENCE
from .ablations import QUESTIONS, SILENCED, VARIANTS, gains, name_of
from .common import RISK, command, command_line, holm, refuse_options
from .lrn_records import LRN_NETS, LRN_PAIRS
from .sequel import SHORT_NAMES, folder_of

DATASET, SEEDS = "tiny_imagenet", (0, 1, 2)
# the paper's batch size and rate, and as many epochs as a pilot run of its own seed asked for: the net must err less on
# the pictures that it learns from than on new ones, or there would be nothing to regularise
TINY = f"--dataset {DATASET} --width 0.5 --recipe small --batch-size 128 --learning-rate 0.01 --epochs 30 --speed fast"
PUBLISHED_EPOCHS = 520  # of the nets of 13 and 11 % on CIFAR-10
# a run on one core with bfloat16 units, as those that are kept took beside other work; a free core is twice as fast
MINUTES = {"ablations": 90, "cifar_experiments": 180, "sequel": 8}


@dataclass(frozen=True)
class Wanted:
    """A run that shall be kept: its name under results/reference/, and the experiment and options that make it."""

    about: str
    record: str
    experiment: str
    options: str

    @property
    def command(self) -> str:
        return f"python -m alexnet_lib.experiments.{self.experiment} {self.options} --threads 1"


def wanted() -> list[Wanted]:
    """Every run, in the order in which they are worth having."""
    runs = []
    for seed in SEEDS:
        for variant in QUESTIONS["worth"]:
            options = f"worth {TINY} --only {variant} --seeds {seed}"
            runs.append(Wanted(f"200 classes: {variant}", name_of(variant, DATASET, seed), "ablations", options))
    for net, seed in [(net, seed) for seed in SEEDS for net in LRN_PAIRS["clean"]] + [(LRN_NETS[-1], 0)]:
        options = f"lrn --epochs {PUBLISHED_EPOCHS} --compiled --precision bf16 --only {net} --seeds {seed}"
        record = f"lrn-{net}-{PUBLISHED_EPOCHS}epochs-seed{seed}"
        runs.append(Wanted(f"CIFAR-10: {net}", record, "cifar_experiments", options))
    for run, name in SHORT_NAMES.items():
        for seed in SEEDS if name.endswith("short") or run == "GoogLeNet" else ():
            options = f"--dataset embedded --only {name} --seeds {seed}"
            record = folder_of(run, "embedded", seed).name
            runs.append(Wanted(f"built-in pictures: {run}", record, "sequel", options))
    return runs


def missing(folder: Path = REFERENCE) -> list[Wanted]:
    """The runs that are not kept yet, or not with the table that their command writes last."""
    last = {"ablations": SILENCED}
    return [run for run in wanted() if not (folder / run.record / last.get(run.experiment, "summary.json")).is_file()]


def overview(folder: Path = REFERENCE) -> pd.DataFrame:
    """What there is of each kind of run: columns kept, wanted, minutes (of one core, for what is missing), command."""
    lacking, rows = {run.record for run in missing(folder)}, {}
    for run in wanted():
        row = rows.setdefault(run.about, {"kept": 0, "wanted": 0, "minutes": 0, "command": ""})
        row["wanted"] += 1
        row["kept"] += run.record not in lacking
        if run.record in lacking:
            row["minutes"] += MINUTES[run.experiment]
            row["command"] = row["command"] or run.command
    return pd.DataFrame.from_dict(rows, orient="index")


def interval(values: pd.Series) -> tuple[float, float]:
    """The 95 % interval of a mean by Student's distribution; NaN for fewer than two values."""
    if len(values) < 2:
        return math.nan, math.nan
    half = stats.t.ppf(0.975, len(values) - 1) * values.std() / math.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def p_alone(values: pd.Series) -> float:
    """How likely a mean this far from zero would be if the true one were zero, by Student's t; NaN under three values.

    Two can agree by luck, and a series counts from three seeds on.
    """
    return float(stats.ttest_1samp(values, 0).pvalue) if len(values) > 2 else math.nan


def effects(dataset: str = DATASET, column: str = "ten views, top-1", folder: Path = REFERENCE) -> pd.DataFrame:
    """By how many points each part lowers an error, a column of `ablations.final_errors`, paired by seed.

    One row for each part of which a run is kept. Columns: section, part, paper, log2012, ours, low and high (of the
    95 % interval), n, alone, which is p by chance, and p, the same corrected for all rows (`common.holm`).
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
            | {"alone": p_alone(points)}
        )
    table = pd.DataFrame(rows)
    return table.assign(p=holm(table["alone"])) if rows else table


def by_chance(p: pd.Series, none: str = "zero", risk: float = RISK) -> str:
    """How many comparisons, given the p of each, NaN for too few runs, differ from none; how many would by chance."""
    count, (alone, of_all) = p.notna().sum(), [(values < risk).sum() for values in (p, holm(p))]
    differ = f"{alone} {'differs' if alone == 1 else 'differ'} from {none} at the {100 * risk:.0f} % level"
    return (
        f"{count} comparisons: taken singly, {differ}, where chance alone would give about {risk * count:.1f}; "
        f"Holm's correction, which is stricter the more comparisons there are, leaves {of_all}"
    )


def main(arguments=None) -> None:
    parser = command_line("evidence", __doc__)
    parser.add_argument("--run", action="store_true", help="make what is missing")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no run that would end later")
    parser.add_argument("--effects", action="store_true", help="print what the kept runs say")
    with command(parser, arguments) as given:
        if not given.run:
            refuse_options(parser, given, ("minutes",), "without --run")
        if given.effects:
            print(effects().round(2).to_string(index=False))
        elif given.run:
            began = time.monotonic()
            for run in missing():
                if (time.monotonic() - began) / 60 + MINUTES[run.experiment] <= given.minutes:
                    code = subprocess.run([sys.executable, *run.command.split()[1:]]).returncode
                    if code:  # it has said why; a signal's number is negative
                        parser.exit(code if code > 0 else 128 - code, f"{parser.prog}: `{run.command}` has failed\n")
        else:
            table = overview()
            print(table.drop(columns="command").to_string())
            every, hours = table["wanted"].sum(), table["minutes"].sum() / 60
            lacking = every - table["kept"].sum()
            print(f"\n{lacking} of {every} runs are missing: {hours:.0f} hours of one core. Their commands:")
            print(*table["command"][table["minutes"] > 0], sep="\n")


if __name__ == "__main__":
    main()
