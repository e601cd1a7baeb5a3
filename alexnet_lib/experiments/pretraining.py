"""§6, the last rows of Table 2 in miniature: a net with a sixth convolution is pre-trained on many classes.

The chain of run 146: train on many classes; keep all weights but those of the last layer; train on a few others, with
a tenth of the learning rate for the first layer. It is compared with the same net trained on the few classes from
scratch, for as many epochs as the fine-tuning (the paper's comparison), and for as many steps as both together. The
recipe is that of the pictures; in place of "paper", whose schedule needs validation errors, it is "code2012".

A chain that is interrupted goes on from its last whole epoch; once its errors are known, its weights are removed.

    python -m alexnet_lib.experiments.pretraining --keep
    python -m alexnet_lib.experiments.pretraining --dataset tiny_imagenet --few-classes 10 --few-images 500
    python -m alexnet_lib.experiments.pretraining --many FOLDER_OF_FALL_2011 --few ilsvrc2012 --epochs 8 54
"""

import dataclasses
import hashlib
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from ..data.pieces import Rows
from ..dataset import Store, load_dataset
from ..evaluation import evaluate, mean_of
from ..files import write_json
from ..learning import PaperSGD, parameter_groups, rate_factor, recipe, set_rates
from ..loader import batches
from ..paths import REFERENCE
from ..run_state import has_finite_weights
from ..runs.fields import check
from ..runs.provenance import provenance
from ..runs.records import load_checkpoint, save_checkpoint, write_table
from ..runs.settings import TrainSettings, resolve
from ..study.probes import update
from ..training import NonFiniteLoss, build_net
from .common import (
    about_of,
    add_settings,
    as_options,
    command,
    command_line,
    kept_table,
    made_of,
    refuse_less,
    refuse_options,
    refuse_others,
    rows_at_work,
    rows_of,
    settings_given,
    spread_of,
    whole,
)

FIRST_LAYER_RATE = 0.1  # over that of the others, in fine-tuning (layer-params-146-2012.cfg)
FEW_CLASSES, FEW_IMAGES = 6, 20
EMBEDDED = {"width": 0.125}  # of the built-in pictures' nets, unless asked otherwise
CHAINS = ("pre-trained", "from scratch", "from scratch, as long as both")


def of_classes(store: Store, classes: Sequence[int], images: int | None = None) -> Store:
    """A part of a store: these classes, renumbered in this order, with at most `images` of each.

    The images are read when they are used.
    """
    rows = [np.flatnonzero(store.labels == label)[:images] for label in classes]
    labels = np.repeat(np.arange(len(classes)), [len(each) for each in rows])
    rows = np.concatenate(rows)
    names = [store.classes[label] for label in classes]
    return dataclasses.replace(store, images=Rows(store.images, rows), labels=labels, classes=names)


def divided(stores: dict[str, Store], few: int = FEW_CLASSES, images: int | None = FEW_IMAGES):
    """The stores of most classes, and those of every n-th class with few training images: two dicts of stores.

    Raises:
        ValueError: so many classes that none would be left.
    """
    classes = np.arange(len(stores["train"].classes))
    if not 0 < few < len(classes):
        raise ValueError(f"few = {few} of {len(classes)} classes; accepted are 1 to {len(classes) - 1}")
    chosen = classes[:: max(1, len(classes) // few)][:few]
    many = {split: of_classes(store, np.setdiff1d(classes, chosen)) for split, store in stores.items()}
    return many, {s: of_classes(store, chosen, images if s == "train" else None) for s, store in stores.items()}


def require_equal_size(many: Store, few: Store) -> None:
    """
    Raises:
        ValueError: data sets with pictures of different sizes, of which a net would see different parts.
    """
    if many.size != few.size:
        raise ValueError(
            f"--many is stored at {many.size} pixels a side, --few at {few.size}; accepted are equal sizes"
        )


def fit(
    net: nn.Module, run: TrainSettings, store: Store, epochs: int, first_rate: float = 1.0, folder: Path | None = None
) -> nn.Module:
    """Train a net in place by the recipe of a run, with the learning rate of the first layer times `first_rate`.

    folder: where a checkpoint is written after every epoch. A call that finds one goes on from it with the same bits.

    Raises:
        ValueError: a recipe whose schedule is not by the epoch alone.
        NonFiniteLoss: names the epoch after which the weights are no longer finite.
    """
    named, mean = recipe(run.recipe), mean_of(store, run.image_size)
    steps = math.ceil(len(store) / run.batch_size)
    if named.schedule not in ("steps", "linear"):
        raise ValueError(f"recipe = {run.recipe!r}; its schedule, {named.schedule!r}, is neither 'steps' nor 'linear'")
    optimizer = PaperSGD(parameter_groups(net, named, apart=True), run.learning_rate, named.momentum)
    run = dataclasses.replace(run, epochs=epochs)
    with torch.random.fork_rng([run.device] if run.device.startswith("cuda") else []):
        torch.manual_seed(run.seed)
        for epoch in range(_taken_up(net, optimizer, run.device, folder), epochs):
            net.train()
            for step, (images, labels) in enumerate(batches(run, store, mean, epoch, 0)):
                done = (epoch + step / steps) / epochs
                set_rates(optimizer, named, run.learning_rate * rate_factor(named, done), done)
                for group in optimizer.param_groups:
                    group["lr"] *= first_rate if group["name"].startswith("conv1") else 1.0
                update(net, optimizer, images, labels, run.precision == "bf16")
            if not has_finite_weights(net):
                raise NonFiniteLoss(f"the weights are no longer finite after epoch {epoch + 1} of {epochs}")
            if folder:
                folder.mkdir(parents=True, exist_ok=True)
                learned = {name: optimizer.state[p] for name, p in net.named_parameters() if p in optimizer.state}
                velocity = {name: state["momentum_buffer"] for name, state in learned.items()}
                state = {"net": net.state_dict(), "velocity": velocity, "generators": _generators(run.device)}
                rates = [{name: group[name] for name in ("lr", "buffer_lr")} for group in optimizer.param_groups]
                save_checkpoint(folder, state | {"progress": json.dumps({"epoch": epoch + 1, "rates": rates})})
    return net


def _generators(device: str) -> dict[str, torch.Tensor]:
    """The states of the generators that draw the silent units."""
    on_gpu = {"cuda": torch.cuda.get_rng_state(device)} if device.startswith("cuda") else {}
    return {"cpu": torch.get_rng_state()} | on_gpu


def _taken_up(net: nn.Module, optimizer: PaperSGD, device: str, folder: Path | None) -> int:
    """Take up what the checkpoint in a folder holds, if there is one, and return its epoch."""
    saved = load_checkpoint(folder) if folder else None
    if saved is None:
        return 0
    net.load_state_dict(saved["net"])
    for name, p in net.named_parameters():
        if name in saved["velocity"]:
            optimizer.state[p]["momentum_buffer"] = torch.empty_like(p).copy_(saved["velocity"][name])
    torch.set_rng_state(saved["generators"]["cpu"])
    if "cuda" in saved["generators"]:
        torch.cuda.set_rng_state(saved["generators"]["cuda"], device)
    progress = json.loads(saved["progress"])
    for group, rates in zip(optimizer.param_groups, progress["rates"], strict=True):
        group.update(rates)
    return progress["epoch"]


def with_new_classes(net: nn.Sequential, run: TrainSettings, classes: int) -> nn.Sequential:
    """A net with the weights of another and a new last layer."""
    fresh = build_net(run, classes)
    kept = {name: value for name, value in net.state_dict().items() if not name.startswith("fc8")}
    fresh.load_state_dict(kept, strict=False)
    return fresh


def checkpoints_of(run: TrainSettings, many: dict[str, Store], few: dict[str, Store], epochs: tuple[int, int]) -> Path:
    """The folder of the checkpoints of `chains`, another one for other settings, images or epochs."""
    digest = hashlib.sha256(json.dumps(epochs).encode())
    for store in (many["train"], few["train"]):
        digest.update(json.dumps([store.meta["fingerprint"], store.classes, store.labels.tolist()]).encode())
    return run.folder / digest.hexdigest()[:8]


def chains(
    run: TrainSettings, many: dict[str, Store], few: dict[str, Store], epochs: tuple[int, int], folder: Path
) -> list[dict]:
    """Errors on the validation images of the few classes, from 0 to 1, one row a chain of CHAINS.

    epochs: on the many classes, and on the few. "As long as both" takes as many steps as both together.
    folder: of the checkpoints, from which an interrupted call goes on.
    """
    train, classes = few["train"], len(few["train"].classes)
    taught = fit(build_net(run, len(many["train"].classes)), run, many["train"], epochs[0], folder=folder / "many")
    steps = [math.ceil(len(store) / run.batch_size) for store in (many["train"], train)]
    longer = epochs[1] + round(epochs[0] * steps[0] / steps[1])
    nets = (
        fit(with_new_classes(taught, run, classes), run, train, epochs[1], FIRST_LAYER_RATE, folder / "fine-tuned"),
        fit(build_net(run, classes), run, train, epochs[1], folder=folder / "scratch"),
        fit(build_net(run, classes), run, train, longer, folder=folder / "longer"),
    )
    errors = [evaluate(net, few["val"], mean_of(train, run.image_size)) for net in nets]
    rows = zip(CHAINS, errors, strict=True)
    return [{"chain": chain, "seed": run.seed, "top1": e["top1"], "top5": e["top5"]} for chain, e in rows]


def settings_of(dataset: str, seed: int = 0, **changes) -> TrainSettings:
    """A run of the net with six convolutions; ValueError where a change says what no run accepts."""
    asked = {"dataset": dataset, "net": "six_conv", "seed": seed, "experiment": "pretraining"}
    return check(TrainSettings, asked | changes)


def run_of(store: Store, dataset: str, seed: int, **changes) -> TrainSettings:
    """`settings_of`, resolved for a training store, with a recipe whose schedule goes by the epoch."""
    run = resolve(settings_of(dataset, seed, **changes), store)
    if recipe(run.recipe).schedule == "plateau":  # the program's own divides the rate at fixed epochs
        return resolve(settings_of(dataset, seed, **changes | {"recipe": "code2012"}), store)
    return run


def folder_of(dataset: str, folder: Path = REFERENCE) -> Path:
    """Where the errors on a data set that was divided are kept."""
    return folder / f"pretraining-{Path(dataset).name}"


def kept_errors(dataset: str = "embedded", folder: Path = REFERENCE) -> pd.DataFrame:
    """The kept errors in per cent, one row a chain and seed; see `kept_table`."""
    of = as_options({"dataset": dataset} if dataset != "embedded" else {})
    command = f"python -m alexnet_lib.experiments.pretraining{of} --keep"
    table = kept_table(folder_of(dataset, folder) / "chains.csv", command)
    return table.assign(top1=100 * table["top1"], top5=100 * table["top5"])


def gain(
    against: str = "from scratch", dataset: str = "embedded", folder: Path = REFERENCE
) -> tuple[float, float, int]:
    """How many points lower the top-1 error of the pre-trained net is than that of the same net from scratch."""
    errors = kept_errors(dataset, folder).pivot(index="seed", columns="chain", values="top1")
    return spread_of(errors[against] - errors["pre-trained"])


def keep_rows(folder: Path, of_seed: list[dict], asked: str, made: dict) -> None:
    """Add the rows of `chains` to those of other seeds, which another process may keep, and write the command of all.

    made: see `made_of`; not written beside older rows of which it isn't known. The table comes last, for it counts.

    Raises:
        ValueError: another process has kept rows of other settings meanwhile; see `refuse_others`.
    """
    with rows_at_work(folder):
        refuse_others(folder, "chains.csv", made)
        rows = [row for row in rows_of(folder / "chains.csv") if row["seed"] != of_seed[0]["seed"]]
        known = made if not rows or "settings" in about_of(folder) else {}
        rows += [row | {k: round(row[k], 5) for k in ("top1", "top5")} for row in of_seed]
        seeds = " ".join(map(str, dict.fromkeys(row["seed"] for row in rows)))
        write_json(folder / "about.json", {"command": f"{asked} --seeds {seeds}"} | known | provenance())
        write_table(folder / "chains.csv", rows)


def main(arguments=None) -> None:
    parser = command_line("pretraining", __doc__, seeds=[0, 1, 2, 3, 4])
    parser.add_argument("--dataset", default="embedded", help="the data set whose classes are divided (embedded)")
    parser.add_argument(
        "--few-classes", type=whole(1), default=FEW_CLASSES, help=f"how many of its classes are the few ({FEW_CLASSES})"
    )
    parser.add_argument(
        "--few-images", type=whole(1), default=FEW_IMAGES, help=f"training images of each of the few ({FEW_IMAGES})"
    )
    parser.add_argument("--many", help="a data set of many classes; as in 2011 they may hold those of --few")
    parser.add_argument("--few", default="ilsvrc2012", help="the data set of fewer classes, with --many (ilsvrc2012)")
    parser.add_argument(
        "--epochs", type=whole(1), nargs=2, default=[12, 60], help="on the many classes, and on the few (12 60)"
    )
    add_settings(parser)
    parser.add_argument(
        "--keep", action="store_true", help="keep the errors, seed by seed, and go on with the seeds that are missing"
    )
    dividing = ("dataset", "few_classes", "few_images")
    with command(parser, arguments) as given:
        unused, where = (("few",), "without --many") if given.many is None else ((*dividing, "keep"), "with --many")
        refuse_options(parser, given, unused, where)
        dataset = given.dataset if given.many is None else given.few
        unusual = {name: value for name in dividing if (value := getattr(given, name)) != parser.get_default(name)}
        changes, rows, kept = settings_given(given), [], folder_of(dataset)
        asked = f"{parser.prog}{as_options(unusual | changes)} --keep --epochs {' '.join(map(str, given.epochs))}"
        if given.many is None and dataset == "embedded":
            changes = EMBEDDED | changes
        stores = load_dataset(dataset)
        made = made_of(run_of(stores["train"], dataset, given.seeds[0], **changes), stores)
        if given.keep:
            refuse_less(kept, "chains.csv", asked, given.seeds, made)
            rows = rows_of(kept / "chains.csv")
        if given.many is None:
            many, few = divided(stores, given.few_classes, given.few_images)
        else:
            many, few = load_dataset(given.many), stores
            require_equal_size(many["train"], few["train"])
        for seed in given.seeds:
            if not (of_seed := [row for row in rows if row["seed"] == seed]):
                run = run_of(stores["train"], dataset, seed, **changes)
                place = checkpoints_of(run, many, few, tuple(given.epochs))
                of_seed = chains(run, many, few, tuple(given.epochs), place)
                if given.keep:
                    keep_rows(kept, of_seed, asked, made)
                shutil.rmtree(place, ignore_errors=True)
            print(pd.DataFrame(of_seed).to_string(index=False), flush=True)


if __name__ == "__main__":
    main()
