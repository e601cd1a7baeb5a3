"""§5, does the printed recipe train? The first steps of narrow nets from several initial weights, many times over.

A run has left the start when the mean loss of WINDOW steps in a row is LEFT below that of a guess, ln(classes); then it
is not continued. One that has not after the given number of steps has stalled. All is as in recipe "paper" (rate 0.01,
batch 128) but the initial weights: a rule of `learning.initialise` as it is, or with the weights of a narrow layer
enlarged as it has fewer inputs to sum over, so that the net starts with the signal of the full-size one.

    python -m alexnet_lib.stalls    repeats what is in results/reference/stalls/; goes on where it was
"""

import argparse
import dataclasses
import itertools
import math
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from .dataset import Store, load_dataset
from .evaluation import mean_of
from .learning import PaperSGD, parameter_groups, recipe, rescaling
from .loader import make_batches
from .paths import REFERENCE
from .probes import update
from .records import provenance, write_json, write_table
from .settings import TrainSettings, resolve
from .training import build_net

RULES = ("printed", "code2012", "caffe")
STEPS, WINDOW, LEFT = 600, 50, 0.1  # none that left took more than 500 steps
WIDTH = 0.125
KEPT = REFERENCE / "stalls"
WHICH = ["dataset", "rule", "rescaled", "seed"]


def rescale(net: nn.Sequential) -> nn.Sequential:
    """Enlarge the initial weights of a narrow net, in place, for the signal of the full-size one."""
    with torch.no_grad():
        for name, layer in net.named_children():
            if hasattr(layer, "weight"):
                layer.weight.mul_(rescaling(name, layer.weight[0].numel()))
    return net


def first_losses(run: TrainSettings, store: Store, rescaled: bool, steps: int = STEPS) -> list[float]:
    """The mean losses of windows of WINDOW steps from the start, until the net has left it or the steps are done.

    Args:
        run: resolved; decides net, batch, initial weights and seed.
    """
    net = build_net(run, len(store.classes)).train()
    net = rescale(net) if rescaled else net
    optimizer, mean = (
        PaperSGD(parameter_groups(net, recipe(run.recipe)), run.learning_rate),
        mean_of(store, run.image_size),
    )
    torch.manual_seed(run.seed)  # of the dropout masks
    means, losses, epoch = [], [], 0
    while len(means) < steps // WINDOW:
        for x, labels in make_batches(run, store, mean, epoch):
            losses.append(update(net, optimizer, x, labels))
            if len(losses) == WINDOW:
                means.append(sum(losses) / WINDOW)
                losses = []
                if not means[-1] >= math.log(len(store.classes)) - LEFT or len(means) == steps // WINDOW:
                    return means
        epoch += 1
    return means


def run_all(datasets, seeds, rules=RULES, steps: int = STEPS, folder: Path = KEPT) -> None:
    """Every rule, as it is and rescaled, on each data set and from each seed that is not in the table yet."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "losses.csv"
    for rescaled, seed, dataset, rule in itertools.product((True, False), seeds, datasets, rules):
        rows = pd.read_csv(path).to_dict("records") if path.is_file() else []
        which = dict(zip(WHICH, (dataset, rule, rescaled, seed), strict=True))
        if any(all(row[k] == v for k, v in which.items()) for row in rows):
            continue
        store = load_dataset(dataset)["train"]
        settings = TrainSettings(dataset=dataset, recipe="paper", initialisation=rule, width=WIDTH, seed=seed)
        run = resolve(dataclasses.replace(settings, device="cpu", devices=1), store)
        means = first_losses(run, store, rescaled, steps)
        new = [
            which | {"classes": len(store.classes), "step": WINDOW * (i + 1), "loss": round(m, 4)}
            for i, m in enumerate(means)
        ]
        write_table(path, rows + new)
        about = {
            "command": "python -m alexnet_lib.stalls",
            "steps": steps,
            "width": run.width,
            "batch_size": run.batch_size,
        }
        write_json(folder / "summary.json", about | {"learning_rate": run.learning_rate, **provenance()})


def outcomes(folder: Path = KEPT) -> pd.DataFrame:
    """What became of each kept run: its dataset, rule, rescaled, seed, and "left", the step by which it had left.

    "left" is NaN for a run that stalled; "steps" is how many it was given.
    """
    table = pd.read_csv(folder / "losses.csv")
    last = table.groupby(WHICH).last().reset_index()
    learned = last["loss"] < last["classes"].map(math.log) - LEFT
    return last.assign(steps=last["step"], left=last["step"].where(learned)).drop(columns=["step", "loss", "classes"])


def stalled(folder: Path = KEPT) -> pd.DataFrame:
    """How many runs of each kind stalled, and by how many steps the others had left, the median, or NaN."""
    groups = outcomes(folder).groupby(["rescaled", "dataset", "rule"])
    table = groups["left"].agg(runs="size", stalled=lambda left: int(left.isna().sum()), left="median")
    return table.reset_index().sort_values(["rescaled", "dataset", "left"], ascending=[False, True, True])


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(prog="python -m alexnet_lib.stalls", description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", nargs="+", default=["embedded", "imagenette73"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--folder", type=Path, default=KEPT)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    run_all(given.datasets, given.seeds, steps=given.steps, folder=given.folder)


if __name__ == "__main__":
    main()
