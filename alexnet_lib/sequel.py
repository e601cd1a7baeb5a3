"""GoogLeNet against AlexNet: the same recipe, pictures and seeds for both, at equal epochs and at equal compute.

Both nets have a quarter of their width and see crops of 64 pixels. There an image costs GoogLeNet about four times the
multiply-adds that it costs AlexNet, so at equal compute it has a quarter of the epochs.

    python -m alexnet_lib.sequel --dataset embedded --seeds 0 1 2
    python -m alexnet_lib.sequel --dataset imagenette73 --epochs 15 --seeds 0

What is finished is skipped, and what was cut off goes on. Each run is kept as
results/reference/sequel-<run>-<dataset>-seed<k>/; AlexNet's on the built-in pictures are those of `ablations.py`.
"""

import argparse
import dataclasses
from pathlib import Path

import pandas as pd
import torch

from .ablations import name_of as ablation_name
from .anatomy import summarise
from .architecture import skeleton as alexnet_skeleton
from .dataset import load_dataset
from .googlenet import modules, skeleton
from .paths import REFERENCE
from .records import Record, keep
from .settings import TrainSettings, resolve
from .training import train

# without pool3 the maps of 64 pixels still have 8 × 8 units where the auxiliary classifiers look, and 4 × 4 at the end
SMALL = {"width": 0.25, "image_size": 64, "without": "pool3"}
RUNS = ("AlexNet", "GoogLeNet, equal epochs", "GoogLeNet, equal compute")
SHORT_NAMES = dict(zip(RUNS, ("alexnet", "equal-epochs", "equal-compute"), strict=True))


def work_of(net: str, classes: int = 24, **changes) -> int:
    """Multiply-adds of a net of RUNS for one image of 64 pixels, without auxiliary classifiers."""
    if net == "AlexNet":
        small = {name: SMALL[name] for name in ("width", "image_size")} | changes
        return int(summarise(alexnet_skeleton("paper", classes, **small), small["image_size"])["multiply_adds"].sum())
    small = SMALL | changes
    return int(modules(skeleton(classes, aux=False, **small), small["image_size"])["multiply_adds"].sum())


def settings_of(run: str, dataset: str, epochs: int, seed: int) -> TrainSettings:
    """The settings of one of RUNS, where AlexNet has this many epochs."""
    common = TrainSettings(dataset=dataset, width=SMALL["width"], recipe="small", seed=seed, experiment="sequel")
    if run == "AlexNet":
        return dataclasses.replace(common, epochs=epochs)
    if run == "GoogLeNet, equal compute":
        epochs = max(1, round(epochs * work_of("AlexNet") / work_of("GoogLeNet")))
    return dataclasses.replace(common, net="googlenet", without=SMALL["without"], epochs=epochs)


def folder_of(run: str, dataset: str, seed: int, folder: Path = REFERENCE) -> Path:
    """Where a run is kept."""
    ablation = folder / ablation_name("baseline", dataset, seed)
    if run == "AlexNet" and dataset == "embedded":
        return ablation
    return folder / f"sequel-{SHORT_NAMES[run]}-{dataset}-seed{seed}"


def run_all(dataset: str, epochs: int, seeds, only=RUNS, folder: Path = REFERENCE) -> None:
    """Every run with every seed, kept as records."""
    for seed in seeds:
        for run in only:
            kept = folder_of(run, dataset, seed, folder)
            if not (kept / "summary.json").is_file():
                settings = resolve(settings_of(run, dataset, epochs, seed), load_dataset(dataset)["train"])
                keep(train(settings).folder, kept.name, folder)


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(prog="python -m alexnet_lib.sequel", description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="embedded")
    parser.add_argument("--epochs", type=int, default=45, help="of AlexNet (45)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", default=list(SHORT_NAMES.values()), choices=list(SHORT_NAMES.values()))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of the processor")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    try:
        run_all(given.dataset, given.epochs, given.seeds, [run for run in RUNS if SHORT_NAMES[run] in given.only])
    except (ValueError, OSError, ArithmeticError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


if __name__ == "__main__":
    main()
