"""§5, do biases of one "accelerate the early stages of learning"? The first steps of one net from equal weights.

Only the biases of `learning.BIASED_LAYERS` differ: 1 as printed, 0.1 as in Caffe, or 0. Weights, order and crops are
equal for a seed, and so is the rest, the recipe "paper" with rescaled weights, since a narrow net stalls on others. A
run ends when the mean loss of WINDOW steps is the largest of LEVELS below that of a guess, ln(classes), or after STEPS.

    python -m alexnet_lib.experiments.biases                                  built-in pictures and 200 classes
    python -m alexnet_lib.experiments.biases --datasets embedded --seeds 0    one seed of the first

Runs that results/reference/biases/ keeps are skipped.
"""

import itertools
import math
from pathlib import Path

import pandas as pd
import torch

from .. import keep_memory
from ..dataset import Store, load_dataset
from ..files import write_json
from ..learning import BIASED_LAYERS
from ..paths import REFERENCE
from ..runs.provenance import provenance
from ..runs.settings import TrainSettings, resolve
from ..study.probes import losses_until
from ..training import build_net
from .common import add_rows, command, command_line, crossing, kept_table, rows_of, spread_of

BIASES = (1.0, 0.1, 0.0)
DATASETS = ("embedded", "tiny_imagenet")
WIDTH, STEPS, WINDOW, LEVELS = 0.25, 1500, 10, (0.1, 0.5)
DIGITS = 4  # of a kept loss after the point
KEPT = REFERENCE / "biases"
COMMAND = "python -m alexnet_lib.experiments.biases"
WHICH = ["dataset", "bias", "seed"]


def first_losses(run: TrainSettings, store: Store, bias: float, steps: int = STEPS) -> list[float]:
    """The mean losses of windows of WINDOW steps of a resolved run, until it has learned or has had so many steps.

    Raises:
        NonFiniteLoss: the net has diverged.
    """
    net = build_net(run, len(store.classes)).train()
    with torch.no_grad():
        for name in BIASED_LAYERS:
            if hasattr(net, name):
                getattr(net, name).bias.fill_(bias)
    return losses_until(net, run, store, math.log(len(store.classes)) - max(LEVELS), WINDOW, steps)


def run_all(datasets, seeds, folder: Path = KEPT) -> None:
    """Run each of BIASES on each data set and with each seed, unless it is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "losses.csv"
    for dataset, seed, bias in itertools.product(datasets, seeds, BIASES):
        rows = rows_of(path)
        which = dict(zip(WHICH, (dataset, bias, seed), strict=True))
        if any(all(row[k] == v for k, v in which.items()) for row in rows):
            continue
        store = load_dataset(dataset)["train"]
        asked = {"dataset": dataset, "seed": seed, "width": WIDTH, "initialisation": "rescaled"}
        run = resolve(TrainSettings(**asked, recipe="paper", device="cpu", devices=1, speed="repeatable"), store)
        which |= {"classes": len(store.classes)}
        means = enumerate(first_losses(run, store, bias), start=1)
        add_rows(path, [which | {"step": WINDOW * i, "loss": round(mean, DIGITS)} for i, mean in means])
        about = {"command": COMMAND, "width": WIDTH, "steps": STEPS, "batch_size": run.batch_size}
        write_json(folder / "summary.json", about | {"learning_rate": run.learning_rate, **provenance()})


def steps_below(level: float, dataset: str, folder: Path = KEPT) -> pd.DataFrame:
    """After how many steps the loss of each kept run is so far below a guess's: a row a seed, a column a bias.

    NaN where it hasn't got there. A kept loss is rounded; one that is the rounded level is at the level.

    Raises:
        FileNotFoundError: no run on these pictures is kept; with the command that makes them.
    """
    table = kept_table(folder / "losses.csv", COMMAND).query("dataset == @dataset")
    if table.empty:
        raise FileNotFoundError(f"no run on {dataset} is kept; `{COMMAND} --datasets {dataset}` makes them")
    steps = {}
    for run, rows in table.groupby(["seed", "bias"]):
        low = math.log(rows["classes"].iloc[0]) - level
        steps[run] = crossing(rows["step"], rows["loss"].mask(rows["loss"] == round(low, DIGITS), low), low)
    return pd.Series(steps).unstack()


def sooner(dataset: str, level: str = "0.1", bias: float = 0.0) -> tuple[float, float, int]:
    """How many times as many steps as with biases of 1 the net takes to a level with another: see `steps_below`."""
    steps = steps_below(float(level), dataset)
    return spread_of((steps[bias] / steps[1.0]).dropna())


def main(arguments=None) -> None:
    parser = command_line("biases", __doc__, seeds=[0, 1, 2, 3, 4])
    parser.add_argument(
        "--datasets", nargs="+", default=list(DATASETS), help=f"one after the other ({' '.join(DATASETS)})"
    )
    keep_memory()
    with command(parser, arguments) as given:
        run_all(given.datasets, given.seeds)


if __name__ == "__main__":
    main()
