"""§5, does the printed recipe train? The first steps of a net from several initial weights, with several seeds.

A run ends when it has left the start: when the mean loss of WINDOW consecutive steps is LEFT below that of a guess,
ln(classes). One that hasn't after the given number of steps has stalled. All but the initial weights is as in the
recipe "paper" (learning rate 0.01, batch size 128). They follow a rule of `learning.initialise`, also rescaled, for a
narrow layer sums over fewer inputs. The full-size net computes in bfloat16, whatever the processor.

    python -m alexnet_lib.experiments.stalls                                             narrow nets, five seeds
    python -m alexnet_lib.experiments.stalls --width 1 --datasets imagenette --seeds 0   the full-size net

Both skip the runs that results/reference/stalls/ keeps: five seeds of the rescaled narrow nets, three of the others,
which were tried on the built-in pictures alone, and three of the full-size net. They make what is missing.
"""

import itertools
import math
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from .. import keep_memory
from ..dataset import Store, load_dataset
from ..files import read_json, write_json
from ..learning import rescaling
from ..paths import REFERENCE
from ..runs.fields import check
from ..runs.provenance import provenance
from ..runs.records import differences, refuse_differences
from ..runs.settings import TrainSettings, resolve
from ..study.probes import losses_until
from ..training import build_net
from .common import add_rows, command, command_line, kept_table, rows_of, whole

RULES = ("printed", "code2012", "caffe")
STEPS, WINDOW, LEFT = 2000, 50, 0.1
DIGITS = 4  # of a kept loss after the point
NARROW, FULL = 0.125, 1.0
KEPT = REFERENCE / "stalls"
WHICH = ["dataset", "rule", "width", "rescaled", "seed"]


def rescale(net: nn.Sequential) -> nn.Sequential:
    """Enlarge the initial weights of a narrow net, in place, to give it the signal of the full-size one."""
    with torch.no_grad():
        for name, layer in net.named_children():
            if hasattr(layer, "weight"):
                layer.weight.mul_(rescaling(name, layer.weight[0].numel()))
    return net


def first_losses(run: TrainSettings, store: Store, rescaled: bool, steps: int = STEPS) -> list[float]:
    """The mean losses of windows of WINDOW steps, until the net of a resolved run has left the start.

    Raises:
        NonFiniteLoss: the net has diverged, which is not the same as a stall.
    """
    net = build_net(run, len(store.classes)).train()
    net = rescale(net) if rescaled else net
    return losses_until(net, run, store, math.log(len(store.classes)) - LEFT, WINDOW, steps)


def run_all(datasets, seeds, rules=RULES, steps=STEPS, width=NARROW, folder: Path = KEPT) -> None:
    """Run every rule, for narrow nets also rescaled, on each data set and with each seed, unless it is kept.

    Raises:
        ValueError: the kept runs had another number of steps.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, summary = folder / "losses.csv", folder / "summary.json"
    if summary.is_file():
        refuse_differences(folder, differences({"steps": read_json(summary).get("steps", "auto")}, {"steps": steps}))
    full = width == FULL
    for rescaled, seed, dataset, rule in itertools.product((False,) if full else (True, False), seeds, datasets, rules):
        rows = rows_of(path)
        which = dict(zip(WHICH, (dataset, rule, width, rescaled, seed), strict=True))
        if any(all(row[k] == v for k, v in which.items()) for row in rows):
            continue
        store = load_dataset(dataset)["train"]
        asked = {"dataset": dataset, "initialisation": rule, "width": width, "seed": seed, "recipe": "paper"}
        asked |= {"device": "cpu", "devices": 1, "speed": "fast" if full else "repeatable"}
        asked |= {"precision": "bf16" if full else "fp32"}  # one for all rows of a width, on every processor
        run = resolve(check(TrainSettings, asked), store)
        which |= {"classes": len(store.classes)}
        means = enumerate(first_losses(run, store, rescaled, steps), start=1)
        add_rows(path, [which | {"step": WINDOW * i, "loss": round(mean, DIGITS)} for i, mean in means])
        about = {"command": "python -m alexnet_lib.experiments.stalls", "steps": steps, "batch_size": run.batch_size}
        write_json(summary, about | {"learning_rate": run.learning_rate, **provenance()})


def outcomes(folder: Path = KEPT) -> pd.DataFrame:
    """Each kept run: columns WHICH, "steps", how many it took, and "left", the step by which it had left, or NaN.

    What ended below the level is kept rounded, and may be equal to the rounded level.
    """
    table = kept_table(folder / "losses.csv", "python -m alexnet_lib.experiments.stalls")
    last = table.groupby(WHICH).last().reset_index()
    learned = last["loss"] <= (last["classes"].map(math.log) - LEFT).round(DIGITS)
    return last.assign(steps=last["step"], left=last["step"].where(learned)).drop(columns=["step", "loss", "classes"])


def main(arguments=None) -> None:
    parser = command_line("stalls", __doc__, seeds=[0, 1, 2, 3, 4])
    parser.add_argument(
        "--datasets",
        nargs="+",
        default=["embedded", "imagenette73"],
        help="one after the other (embedded imagenette73)",
    )
    parser.add_argument(
        "--steps", type=whole(1), default=STEPS, help=f"updates before a run counts as stalled ({STEPS})"
    )
    parser.add_argument(
        "--width", type=float, default=NARROW, help=f"a factor on every layer; 1: the full-size net ({NARROW})"
    )
    keep_memory()
    with command(parser, arguments) as given:
        run_all(given.datasets, given.seeds, steps=given.steps, width=given.width)


if __name__ == "__main__":
    main()
