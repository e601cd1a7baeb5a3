"""GoogLeNet against AlexNet: the same recipe, pictures and seeds for both, at equal epochs and at equal compute.

Both nets have a quarter of their width and see crops of 64 pixels, where an image costs GoogLeNet about four times as
many multiply-adds. So each has a long run, and a short one with a quarter of the epochs: two short or two long runs
compare equal epochs, GoogLeNet's short and AlexNet's long one equal compute. What held GoogLeNet back shows where it is
trained without auxiliary classifiers, and with batch normalisation, at the same rate and at a higher one.

    python -m alexnet_lib.experiments.sequel --dataset embedded --seeds 0 1 2
    python -m alexnet_lib.experiments.sequel --dataset imagenette73 --epochs 15 --seeds 0

Finished runs are skipped, and interrupted ones go on; --again trains kept ones anew. Each run is kept as
results/reference/sequel-<run>-<dataset>-seed<k>/; AlexNet's long ones are those of `ablations.py`.
"""

import itertools
from functools import partial
from pathlib import Path

import pandas as pd

from ..architecture import skeleton as alexnet_skeleton
from ..dataset import Store, load_dataset
from ..inception import AUXILIARIES, skeleton
from ..paths import REFERENCE
from ..runs.fields import check
from ..runs.folder import require_same
from ..runs.records import Record, keep
from ..runs.settings import TrainSettings, resolve
from ..study.anatomy import summarise
from ..study.googlenet import modules
from ..training import train
from . import common
from .ablations import name_of as ablation_name
from .ablations import run_all as run_ablations
from .common import PICTURES, command, command_line, error_of, rounded, spread_of, whole

# without pool3 the maps of 64 pixels still have 8 × 8 units where the auxiliary classifiers look, and 4 × 4 at the end
SMALL = {"width": 0.25, "image_size": 64, "without": "pool3"}
EPOCHS = 45  # of AlexNet's long run, unless asked otherwise
# what is asked of each net beyond width, recipe, seed and epochs
NETS = {
    "AlexNet": {},
    "GoogLeNet": {"net": "googlenet", "without": SMALL["without"]},
    "GoogLeNet, no auxiliaries": {"net": "googlenet", "without": f"{SMALL['without']} {AUXILIARIES}"},
    "GoogLeNet, batch norm": {"net": "googlenet", "without": SMALL["without"], "normalization": "batch"},
}
# batch normalisation was published with five and thirty times the rate of the plain net; two controls have it without
for _net in ("GoogLeNet, batch norm", "GoogLeNet", "AlexNet"):
    NETS[f"{_net}, 5 × rate"] = NETS[_net] | {"learning_rate": 0.03}
# "long": the epochs of AlexNet; "short": as many as make GoogLeNet cost the same
RUNS = {f"{net}{more}": (net, length) for net in NETS for more, length in (("", "long"), (", fewer epochs", "short"))}
SHORT_NAMES = {
    name: f"{net.lower().replace(',', '').replace(' × ', '-').replace(' ', '-')}-{length}"
    for name, (net, length) in RUNS.items()
}


def is_alexnet(net: str) -> bool:
    """Whether one of NETS is AlexNet, at whichever rate."""
    return "net" not in NETS[net]


def work_of(net: str, classes: int = 24, side: int = SMALL["image_size"]) -> int:
    """Multiply-adds of a net of NETS for an image of `side` pixels, without auxiliary classifiers and normalisation."""
    if is_alexnet(net):
        table = summarise(alexnet_skeleton("paper", classes, width=SMALL["width"], image_size=side), side)
    else:
        table = modules(skeleton(classes, aux=False, **SMALL | {"image_size": side}), side)
    return int(table["multiply_adds"].sum())


def settings_of(run: str, dataset: str, epochs: int, seed: int, side: int = SMALL["image_size"]) -> TrainSettings:
    """The settings of one of RUNS on crops of `side` pixels, with this many epochs for the long ones."""
    net, length = RUNS[run]
    if length == "short":
        epochs = max(1, round(epochs * work_of("AlexNet", side=side) / work_of("GoogLeNet", side=side)))
    asked = {"dataset": dataset, "width": SMALL["width"], "epochs": epochs, "seed": seed} | NETS[net]
    return check(TrainSettings, asked | {"recipe": "small", "experiment": "sequel"})


def run_on(run: str, dataset: str, epochs: int, seed: int, store: Store) -> TrainSettings:
    """`settings_of`, resolved for a training store."""
    return resolve(settings_of(run, dataset, epochs, seed, store.crop), store)


def folder_of(run: str, dataset: str, seed: int | str, folder: Path = REFERENCE) -> Path:
    """Where a run is kept."""
    if run == "AlexNet" and dataset in PICTURES:
        return folder / ablation_name("baseline", dataset, seed)
    return folder / f"sequel-{SHORT_NAMES[run]}-{Path(dataset).name}-seed{seed}"


def run_all(dataset: str, epochs: int, seeds, only=tuple(RUNS), folder: Path = REFERENCE) -> None:
    """Train every run with every seed, and keep the records.

    Raises:
        ValueError: a run of these pictures is kept already that has other settings, asked for or not, of any seed.
    """
    stores = load_dataset(dataset)
    for run, by_seed in kept_runs(dataset, folder).items():  # before the first run: all are compared
        for seed, record in by_seed.items():
            require_same(run_on(run, dataset, epochs, seed, stores["train"]), stores, record.folder)
    for seed, run in itertools.product(seeds, only):  # also where a folder holds no more than settings
        require_same(run_on(run, dataset, epochs, seed, stores["train"]), stores, folder_of(run, dataset, seed, folder))
    for seed, run in itertools.product(seeds, only):
        kept = folder_of(run, dataset, seed, folder)
        if (kept / "summary.json").is_file():
            continue
        if kept.name == ablation_name("baseline", dataset, seed):  # which `ablations` compares, by tables of its own
            run_ablations("dropout", settings_of(run, dataset, epochs, seed), [seed], ["baseline"], folder)
        else:
            keep(train(run_on(run, dataset, epochs, seed, stores["train"])).folder, kept.name, folder)


def race(dataset: str, epochs: int, seed: int = 0, device: str = "auto") -> dict[str, TrainSettings]:
    """The settings of short runs of the NETS for these pictures; small ones get narrow nets, without a pool."""
    small, runs = load_dataset(dataset)["train"].crop < 2 * SMALL["image_size"], {}
    every = {"dataset": dataset, "epochs": epochs, "seed": seed, "device": device, "experiment": "sequel"}
    every |= {"width": 0.125 if small else 1.0, "batch_size": 16, "recipe": "small"}
    for name, asked in NETS.items():
        asked = every | asked | {"learning_rate": 0.02 if "5 ×" in name else 0.004}
        if "without" in asked and not small:
            asked["without"] = asked["without"].removeprefix(SMALL["without"]).strip() or None
        runs[name] = TrainSettings(**asked)
    return runs


def kept_runs(dataset: str, folder: Path = REFERENCE) -> dict[str, dict[int, Record]]:
    """The kept runs by name and seed; a name without runs is left out."""
    paths = {run: folder_of(run, dataset, "", folder) for run in RUNS}
    found = {run: common.kept_runs(path.name, path.parent) for run, path in paths.items()}
    return {run: by_seed for run, by_seed in found.items() if by_seed}


def compared(folder: Path = REFERENCE) -> dict[str, dict[str, dict[int, Record]]]:
    """`kept_runs` of the data sets with kept runs of both nets, by the name of their pictures."""
    runs = {title: kept_runs(dataset, folder) for dataset, title in PICTURES.items()}
    return {title: kept for title, kept in runs.items() if {"AlexNet", "GoogLeNet"} <= {RUNS[name][0] for name in kept}}


def curve(record: Record) -> pd.DataFrame:
    """A run by epoch: epoch, work (multiply-adds of all images so far, in units of 10¹²), error (validation, %).

    An update costs three forward passes. The auxiliary classifiers, a part in a thousand, are left out.
    """
    val = record.history.query("split == 'val'")
    net = "AlexNet" if record.config["net"] == "paper" else "GoogLeNet"
    an_image = work_of(net, record.summary["classes"], record.config["image_size"])
    work = 3 * an_image * record.summary["images"]["train"] * val["epoch"] / 1e12
    return pd.DataFrame({"epoch": val["epoch"], "work": work, "error": 100 * val["top1"]})


def errors_by_epoch(dataset: str, length: str, folder: Path = REFERENCE) -> dict[str, pd.DataFrame]:
    """The validation errors in per cent of the kept runs of each net, "long" or "short": by epoch, a column a seed."""
    tables = {}
    for run, by_seed in kept_runs(dataset, folder).items():
        net, of_run = RUNS[run]
        if of_run == length:
            tables[net] = pd.DataFrame({s: curve(record).set_index("epoch")["error"] for s, record in by_seed.items()})
    return tables


def comparison(runs: dict[str, dict[int, Record]]) -> pd.DataFrame:
    """Runs of one data set in a table, one row a name: sizes, work, images a second, errors with their spread.

    images/s were measured while the runs shared a machine, so they say little beside each other.
    """
    rows = []
    for name, by_seed in runs.items():
        one, errors, net = next(iter(by_seed.values())), {}, RUNS[name][0]
        work = work_of(net, one.summary["classes"], one.config["image_size"])
        for k in (1, 5):
            values = pd.Series([error_of(run, k=k) for run in by_seed.values()])
            errors[f"top-{k} error (%)"] = rounded(spread_of(values))
        rows.append(
            {"": name, "epochs": one.summary["epochs"], "seeds": len(by_seed), "parameters": parameters_of(net, one)}
            | {"million multiply-adds": f"{work / 1e6:.1f}"}
            | {"10¹² in all": f"{curve(one)['work'].iloc[-1]:.1f}"}
            | {"images/s": round(one.summary["images_per_second"]), **errors}
        )
    return pd.DataFrame(rows)


def parameters_of(net: str, record: Record) -> int:
    """Parameters of a run's net without auxiliary classifiers."""
    if is_alexnet(net):
        return record.summary["parameters"]
    changes = SMALL | {"normalization": record.config["normalization"]}
    return sum(p.numel() for p in skeleton(record.summary["classes"], aux=False, **changes).parameters())


def long_epochs(runs: dict[str, dict[int, Record]]) -> int:
    """The epochs of AlexNet's long run in a series of `kept_runs`, also where a short run alone is kept."""
    by_length = {RUNS[name][1]: next(iter(by_seed.values())).config for name, by_seed in runs.items()}
    if "long" in by_length:
        return by_length["long"]["epochs"]
    epochs, side = by_length["short"]["epochs"], by_length["short"]["image_size"]
    usual = settings_of("GoogLeNet, fewer epochs", "embedded", EPOCHS, 0, side).epochs
    if usual == epochs:
        return EPOCHS
    return round(epochs * work_of("GoogLeNet", side=side) / work_of("AlexNet", side=side))


def gain(ours: str, theirs: str, dataset: str = "embedded", folder: Path = REFERENCE) -> tuple[float, float, int]:
    """How many points the top-1 error of one of RUNS is below another's: mean, standard deviation, number of seeds.

    Raises:
        FileNotFoundError: no run of one of them is kept; with the command that trains them, beside those that are.
    """
    runs = kept_runs(dataset, folder)
    if lacking := [name for name in (ours, theirs) if name not in runs]:
        command = f"python -m alexnet_lib.experiments.sequel --dataset {dataset}"
        if runs:
            command += f" --epochs {long_epochs(runs)}"
        command += f" --only {SHORT_NAMES[lacking[0]]}"
        raise FileNotFoundError(f"no run of {lacking[0]} on {dataset} is kept; `{command}` trains them")
    low, high = (pd.Series({seed: error_of(run) for seed, run in runs[name].items()}) for name in (ours, theirs))
    return spread_of((high - low).dropna())


def main(arguments=None) -> None:
    parser = command_line("sequel", __doc__, seeds=[0, 1, 2])
    parser.add_argument("--dataset", default="embedded", help="a name or a folder (embedded)")
    parser.add_argument("--epochs", type=whole(1), default=EPOCHS, help=f"of AlexNet's long run ({EPOCHS})")
    names = list(SHORT_NAMES.values())
    parser.add_argument("--only", nargs="+", default=names, choices=names, help="these runs (all)")
    common.add_again(parser)
    with command(parser, arguments) as given:
        asked = [run for run in RUNS if SHORT_NAMES[run] in given.only]
        kept = {
            path: partial(run_on, run, given.dataset, given.epochs, seed)
            for seed, run in itertools.product(given.seeds, asked)
            if ((path := folder_of(run, given.dataset, seed)) / "summary.json").is_file()
        }
        run_all(given.dataset, given.epochs, given.seeds, asked)
        common.report_kept(kept, given.again, given.dataset)


if __name__ == "__main__":
    main()
