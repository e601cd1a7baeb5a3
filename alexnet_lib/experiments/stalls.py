"""§5, does the printed recipe train? The first steps of a net from several initial weights, many times over.

A run has left the start when the mean loss of WINDOW steps in a row is LEFT below that of a guess, ln(classes); then it
is not continued. One that has not after the given number of steps has stalled. All is as in recipe "paper" (rate 0.01,
batch 128) but the initial weights: a rule of `learning.initialise` as it is, or with the weights of a narrow layer
enlarged as it has fewer inputs to sum over, so that the net starts with the signal of the full-size one. The full-size
net itself computes in bfloat16 where the processor does.

    python -m alexnet_lib.experiments.stalls                                             of narrow nets, five seeds
    python -m alexnet_lib.experiments.stalls --width 1 --datasets imagenette --seeds 0   of the full-size net

Both repeat what is in results/reference/stalls/, and go on where they were.
"""

import argparse
import dataclasses
import itertools
import math
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from .. import keep_memory
from ..dataset import Store, load_dataset
from ..evaluation import mean_of
from ..learning import PaperSGD, parameter_groups, recipe, rescaling
from ..loader import make_batches
from ..paths import REFERENCE
from ..runs.records import differences, provenance, read_json, refuse_differences, write_json, write_table
from ..runs.settings import TrainSettings, resolve
from ..study.probes import update
from ..training import NonFiniteLoss, build_net

RULES = ("printed", "code2012", "caffe")
STEPS, WINDOW, LEFT = 2000, 50, 0.1
NARROW, FULL = 0.125, 1.0
KEPT = REFERENCE / "stalls"
WHICH = ["dataset", "rule", "width", "rescaled", "seed"]


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

    Raises:
        NonFiniteLoss: the net has diverged, which is not the same as a stall.
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
            with torch.autocast("cpu", torch.bfloat16, enabled=run.precision == "bf16"):
                losses.append(update(net, optimizer, x, labels))
            if not math.isfinite(losses[-1]):
                raise NonFiniteLoss(f"the loss is {losses[-1]} at step {len(means) * WINDOW + len(losses)}")
            if len(losses) == WINDOW:
                means.append(sum(losses) / WINDOW)
                losses = []
                if not means[-1] >= math.log(len(store.classes)) - LEFT or len(means) == steps // WINDOW:
                    return means
        epoch += 1
    return means


def run_all(datasets, seeds, rules=RULES, steps=STEPS, width=NARROW, folder: Path = KEPT) -> None:
    """Every rule, as it is and for narrow nets rescaled, on each data set and from each seed that is not kept yet.

    Raises:
        ValueError: what is kept was given another number of steps.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, summary = folder / "losses.csv", folder / "summary.json"
    if summary.is_file():
        refuse_differences(folder, differences({"steps": read_json(summary).get("steps", "auto")}, {"steps": steps}))
    full = width == FULL
    for rescaled, seed, dataset, rule in itertools.product((False,) if full else (True, False), seeds, datasets, rules):
        rows = pd.read_csv(path).to_dict("records") if path.is_file() else []
        which = dict(zip(WHICH, (dataset, rule, width, rescaled, seed), strict=True))
        if any(all(row[k] == v for k, v in which.items()) for row in rows):
            continue
        store = load_dataset(dataset)["train"]
        settings = TrainSettings(dataset=dataset, recipe="paper", initialisation=rule, width=width, seed=seed)
        speed = "fast" if full else "repeatable"
        run = resolve(dataclasses.replace(settings, device="cpu", devices=1, speed=speed), store)
        means = first_losses(run, store, rescaled, steps)
        new = [
            which | {"classes": len(store.classes), "step": WINDOW * (i + 1), "loss": round(m, 4)}
            for i, m in enumerate(means)
        ]
        write_table(path, rows + new)
        about = {
            "command": "python -m alexnet_lib.experiments.stalls",
            "steps": steps,
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
    groups = outcomes(folder).groupby(["width", "rescaled", "dataset", "rule"])
    table = groups["left"].agg(runs="size", stalled=lambda left: int(left.isna().sum()), left="median")
    return table.reset_index().sort_values(
        ["width", "rescaled", "dataset", "left"], ascending=[False, False, True, True]
    )


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m alexnet_lib.experiments.stalls", description=(__doc__ or " ").splitlines()[0]
    )
    parser.add_argument("--datasets", nargs="+", default=["embedded", "imagenette73"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--width", type=float, default=NARROW, help="1: the full-size net")
    parser.add_argument("--folder", type=Path, default=KEPT)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    keep_memory()
    try:
        run_all(given.datasets, given.seeds, steps=given.steps, width=given.width, folder=given.folder)
    except (ValueError, OSError, ArithmeticError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


if __name__ == "__main__":
    main()
