"""§§3 to 7, what each part of the system is worth: the paper's number, the log's, and that of our own runs.

A row of PARTS is a part of the net or of its training. Its worth is how many points of top-1 error the runs with it are
better than those without, over the seeds that both have.
"""

import math
from dataclasses import dataclass

import pandas as pd
from scipy.stats import t

from ..architecture import skeleton
from ..study.anatomy import summarise
from ..study.log2012 import gain_of_training_on, logged_gain
from . import ablations, pretraining, trained
from .common import PHOTOGRAPHS, holm, spread_of, stated

NOTHING = math.nan, math.nan, 0
RISK = 0.05  # of a yes by chance


@dataclass(frozen=True)
class Part:
    """What is left out, the section of the paper, its number in points, and the log's.

    variant: of `ablations`; without_runs: what a table says where there are no runs.
    """

    name: str
    section: str
    paper: float = math.nan
    log: float = math.nan
    variant: str | None = None
    without_runs: str = "no runs yet"


TWO_GPUS = logged_gain("145-half", "145-2010", "2010 test")[0]
PRE_TRAINING = logged_gain("145", "146-2012-2011")[0]
PARTS = [
    Part("two GPUs, not half the kernels on one", "3.2", 1.7, TWO_GPUS, "one-gpu"),
    Part("normalisation", "3.3", 1.4, logged_gain("148", "145")[0], "no-lrn"),
    Part("overlapping windows", "3.4", 0.4, logged_gain("147", "145")[0], "non-overlapping"),
    Part("crops, reflections and colour noise", "4.1", variant="no-augmentation"),
    Part("crops and reflections alone", "4.1", variant="colours-only"),
    Part("colour noise alone (paper: over 1)", "4.1", 1.0, variant="crops-only"),
    Part("dropout", "4.2", variant="no-dropout"),
    Part("weight decay", "5", variant="no-decay"),
    Part("a falling rate, not a constant one", "5", variant="steady-rate"),
    Part("training half as long again", "7", log=gain_of_training_on(), variant="shorter"),
    Part("first weights rescaled, not as printed", "5", variant="init-printed"),
    Part("first weights rescaled, not those of 2012", "5", variant="init-2012"),
    Part("the printed order, not the program's", "3", variant="net-2012"),
    Part("first convolution", "7", variant="without-conv1"),
    Part("second convolution (paper: about 2)", "7", 2.0, variant="without-conv2"),
    Part("third convolution (about 2)", "7", 2.0, variant="without-conv3"),
    Part("fourth convolution (about 2)", "7", 2.0, variant="without-conv4"),
    Part("fifth convolution", "7", variant="without-conv5"),
    Part("ten views, not one", "4.1", 1.5, 1.55),
    Part("average of five nets, not one", "6", 2.6),
    Part("training on many classes first", "6", 1.7, PRE_TRAINING, without_runs="in miniature, below"),
]


def worth(part: Part, dataset: str) -> tuple[float, float, int]:
    """What a part is worth in our kept runs, with ten views: mean, standard deviation, seeds; NOTHING without runs."""
    try:
        if part.variant is not None:
            return ablations.gain(dataset, part.variant, "ten views, top-1")
        if part.name == "ten views, not one":
            errors = ablations.results(dataset, ("baseline",))
            return spread_of(errors["validation"] - errors["ten views, top-1"])
        if part.name == "average of five nets, not one":
            return trained.ensemble_gain(dataset=dataset)
        return pretraining.gain() if dataset == "embedded" else NOTHING
    except FileNotFoundError:
        return NOTHING


def budget(dataset: str = PHOTOGRAPHS) -> pd.DataFrame:
    """One row a part: section, paper, log, measured, spread, n, p, corrected, told, told_of_all and enough.

    p: how often chance takes a mean as far from 0 as ours (Student's t); NaN with one seed. corrected: `holm` of it.
    told, told_of_all: whether p, and corrected, are below RISK; None with one seed.
    enough: whether the paper's number exceeds the margin of p = RISK, so that as many runs could have shown it.
    """
    rows = []
    for part in PARTS:
        mean, spread, n = worth(part, dataset)
        margin = t.ppf(0.975, n - 1) * spread / math.sqrt(n) if n > 1 else math.nan
        row = {"part": part.name, "section": part.section, "paper": part.paper, "log": part.log}
        row |= {"measured": mean, "spread": spread, "n": n}
        row["p"] = 2 * t.sf(abs(mean) * math.sqrt(n) / spread, n - 1) if n > 1 else math.nan
        row["enough"] = None if math.isnan(margin) or math.isnan(part.paper) else part.paper > margin
        rows.append(row)
    table = pd.DataFrame(rows).set_index("part")
    table["corrected"] = holm(table["p"])
    for told, p in (("told", table["p"]), ("told_of_all", table["corrected"])):
        table[told] = [None if math.isnan(value) else value < RISK for value in p]
    return table


def by_chance(table: pd.DataFrame) -> str:
    """How many parts of a table of `budget` are told from chance, and how many would be if none were worth anything."""
    count = table["p"].notna().sum()
    one_by_one, of_all = ((table[p] < RISK).sum() for p in ("p", "corrected"))
    return (
        f"{count} comparisons at {100 * RISK:.0f} %: {one_by_one} are more than chance, and about {RISK * count:.1f} "
        f"would be if no part were worth anything; after Holm's correction {of_all} are."
    )


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """A table of `budget` for people."""
    answer = {True: "yes", False: "no", None: ""}
    rows, without_runs = [], {part.name: part.without_runs for part in PARTS}
    for part, row in table.iterrows():
        measured = stated((row["measured"], row["spread"], row["n"])) if row["n"] else without_runs[part]
        measured = f"{row['measured']:.2f} (1 seed)" if row["n"] == 1 else measured
        numbers = {name: "" if math.isnan(row[name]) else f"{row[name]:.2f}" for name in ("paper", "log")}
        told = {"more than chance": answer[row["told"]], "of all (Holm)": answer[row["told_of_all"]]}
        told |= {"enough runs for the paper's number": answer[row["enough"]]}
        rows.append({"part": part, "§": row["section"], **numbers, "our runs": measured, **told})
    return pd.DataFrame(rows).rename(columns={"log": "log of 2012"})


def commands(table: pd.DataFrame, dataset: str = PHOTOGRAPHS) -> list[str]:
    """The commands that train the runs missing from a table of `budget`."""
    by_question: dict[str, list[str]] = {}
    for variant in [p.variant for p in PARTS if p.variant and not table.loc[p.name, "n"]]:
        question = next(q for q, named in ablations.QUESTIONS.items() if variant in named)
        by_question.setdefault(question, []).append(variant)
    start = "python -m alexnet_lib.experiments.ablations"
    end = f"--dataset {dataset} --epochs 15 --seeds 0 1 2 --only baseline"
    return [f"{start} {question} {end} {' '.join(variants)}" for question, variants in by_question.items()]


def without_each(name: str = "paper") -> pd.DataFrame:
    """The net without each convolution in turn: parameters and multiply-adds, and their share of the whole net's."""
    left_out = {"none": None, **{f"conv{i}": f"conv{i}" for i in range(1, 6)}}
    sums = {k: summarise(skeleton(name, without=v))[["parameters", "multiply_adds"]].sum() for k, v in left_out.items()}
    table = pd.DataFrame(sums).T.rename_axis("left out")
    shares = 100 * table / table.loc["none"]
    return table.assign(**{f"{name}, % of the whole": shares[name].round(1) for name in table})
