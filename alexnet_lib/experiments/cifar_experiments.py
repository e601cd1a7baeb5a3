"""§3.1 and §3.3 on CIFAR-10: the runs behind Figure 1, and behind "13 % without normalisation, 11 % with it".

Every run is a record under runs/. A command that was stopped goes on when it is given again: finished runs are skipped.
Several commands can run side by side, each with its own --only.

    python -m alexnet_lib.experiments.cifar_experiments figure1 --only 19pct tanh
    python -m alexnet_lib.experiments.cifar_experiments figure1 --small
    python -m alexnet_lib.experiments.cifar_experiments crossed
    python -m alexnet_lib.experiments.cifar_experiments lrn --epochs 50 --compiled --precision bf16 --seeds 0 1 2
    python -m alexnet_lib.experiments.cifar_experiments summary
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
import pandas as pd

from ..cifar_nets import ACTIVATIONS, NETS
from ..dataset import load_dataset
from ..files import read_json, write_json
from ..paths import REFERENCE, runs_dir
from ..runs.cifar_settings import CifarSettings, choose_pictures, published_stages
from ..runs.fields import check
from ..runs.folder import require_same
from ..runs.provenance import provenance
from ..runs.records import Record, keep, write_table
from ..runs.settings import resolve
from ..runs.stored import Chosen
from ..training import NonFiniteLoss
from ..training import train as train_cifar
from .common import (
    add_again,
    command,
    command_line,
    crossing,
    kept_table,
    refuse_options,
    report_kept,
    rounded,
    spread_of,
    whole,
)
from .lrn_records import LRN_NETS

KIND = ["net", "initialisation", "activation"]
RUN = [*KIND, "learning_rate", "seed", "precision"]  # the run that a row of a table belongs to
TARGET = 0.25  # training error, the dotted line of Figure 1
LONGEST = 40  # epochs, the width of Figure 1
BEYOND = 100  # epochs at the rate that came nearest, where no rate reaches the target in LONGEST
LEARNS = 0.8  # a run with a training error below this has learned something; a guess has 0.9
PACE = 5  # epochs over which a run is judged by whether it will reach the target
SEEDS = (0, 1, 2)
FIGURE1_NETS = ("19pct", "conv-local-13pct")
# each initialisation with the inputs that suit it, and the rate at which the search begins
REGIMES = {
    "published": {"initialisation": "published", "input_divisor": 1.0, "learning_rate": 0.001},
    "fan_in": {"initialisation": "fan_in", "input_divisor": 64.0, "learning_rate": 0.01},
}
CIFAR10 = "cifar10"  # generated pictures only where one asks for them
SMALL = {"dataset": "embedded32", "image_size": 16, "batch_size": 32}  # for a laptop: centres of generated pictures
RATES = (0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)
CROSSED = ["initialisation", "input_divisor", "activation"]  # what a run of `crossed` is besides its rate and seed
# rates at which the searches of `crossed` begin; the fourth combination is in the table of `figure1(small=True)`
BEGIN = {("published", 1.0, "relu"): 0.003, ("published", 1.0, "tanh"): 0.03}
BEGIN |= {("published", 64.0, "relu"): 0.03, ("published", 64.0, "tanh"): 0.03}
BEGIN |= {("fan_in", 1.0, "relu"): 0.00001, ("fan_in", 1.0, "tanh"): 0.01}
CROSSED_EPOCHS, CROSSED_RATES = 4, (0.000001, 0.000003, 0.00001, *RATES, 0.3)
CROSSED_COMMAND = "python -m alexnet_lib.experiments.cifar_experiments crossed"


def figure1(only=(), small: bool = False, **common) -> None:
    """For each net, initialisation and activation: search for the fastest rate with one seed, then train more seeds.

    As for the figure, runs have no regularisation and end at TARGET. Where no rate gets there in LONGEST epochs, all
    seeds get BEYOND at the rate that came nearest.
    """
    common = (SMALL if small else {"dataset": CIFAR10}) | common | {"experiment": experiment(small)}
    for net, regime, activation in having(itertools.product(FIGURE1_NETS, REGIMES, ACTIVATIONS), only):
        settings = check(CifarSettings, unregularised(net, regime, activation) | common)
        rate, epochs = fastest_rate(settings)
        print(f"{net} {regime} {activation}: rate {rate:g}, {epochs:.1f} epochs", flush=True)
        limit, seeds = (LONGEST, SEEDS[1:]) if math.isfinite(epochs) else (BEYOND, SEEDS)
        for seed in seeds:
            epochs_needed(dataclasses.replace(settings, learning_rate=rate, seed=seed), limit)


def having(kinds: Iterable[tuple], only) -> list[tuple]:
    """Those of several kinds of run that have all the words.

    Raises:
        ValueError: none has.
    """
    if not (found := [kind for kind in kinds if set(only) <= set(kind)]):
        raise ValueError(f"--only {' '.join(only)}: no run has all of these")
    return found


def unregularised(net: str, regime: str, activation: str) -> dict:
    """The settings of a run of Figure 1: no regularisation of any kind."""
    fixed = {"net": net, "activation": activation, "normalization": None, "weight_decay": 0.0}
    return fixed | {"augmentation": False, "target_error": TARGET, "give_up_epochs": PACE} | REGIMES[regime]


def crossed(only=(), **common) -> None:
    """Initial weights and pixel scale in the combinations of BEGIN, on the generated pictures: their table is kept.

    A run has CROSSED_EPOCHS and one seed; from BEGIN, rates go up and down until one does worse than one that learns.
    """
    rows = []

    def last_error(run: CifarSettings, _limit=None) -> tuple[float, float]:
        run, about = resolve(run, load_dataset(run.dataset)["train"]), [*CROSSED, "learning_rate", "seed"]
        rows.append({name: getattr(run, name) for name in about} | {"epoch": 0})
        try:
            history = training_curves(train_cifar(run).history)
        except NonFiniteLoss:
            return math.inf, math.inf
        rows[-1:] = [rows[-1] | row for row in history.to_dict("records")]
        error = rows[-1]["training_error"]
        return error if error < LEARNS else math.inf, error

    for kind in having(BEGIN, only):
        fixed = unregularised("19pct", kind[0], kind[2]) | SMALL | {"experiment": "figure1-crossed"}
        fixed |= {"stages": ((CROSSED_EPOCHS, 1.0),), "target_error": None, "give_up_epochs": None}
        fixed |= {"input_divisor": kind[1], "learning_rate": BEGIN[kind]}
        rate, _ = fastest_rate(CifarSettings(**fixed | common), last_error, CROSSED_RATES)
        print(f"{kind[0]}, pixels ÷ {kind[1]:g}, {kind[2]}: rate {rate:g}", flush=True)
    if not only:
        folder = REFERENCE / "figure1-crossed"
        folder.mkdir(parents=True, exist_ok=True)
        order = [*CROSSED, "learning_rate", "epoch"]
        table = pd.DataFrame(rows).sort_values(order, ignore_index=True).dropna(axis=1, how="all")
        write_table(folder / "runs.csv", table.round(dict.fromkeys(table.columns[5:], 5)).to_dict("records"))
        write_json(folder / "about.json", {"command": CROSSED_COMMAND, "dataset": SMALL["dataset"]} | provenance())


def crossed_reference() -> pd.DataFrame:
    """The error after CROSSED_EPOCHS of all four combinations, from two committed tables, one row a rate."""
    regime = REGIMES["fan_in"]
    fourth = figure1_reference("figure1-small").query("net == '19pct' and seed == 0 and initialisation == 'fan_in'")
    fourth = fourth[fourth["activation"].isin(["relu", "tanh"])].assign(input_divisor=regime["input_divisor"])
    others = kept_table(REFERENCE / "figure1-crossed" / "runs.csv", CROSSED_COMMAND)
    columns = [*CROSSED, "learning_rate", "epoch", "training_error"]
    table = pd.concat([others[columns], fourth[columns]])
    return table[table["epoch"] == CROSSED_EPOCHS].drop(columns="epoch").reset_index(drop=True)


def experiment(small: bool) -> str:
    """The name of the folders of Figure 1's runs."""
    return "figure1-small" if small else "figure1"


def pictures_of(small: bool) -> str:
    """The name of the pictures of Figure 1's runs."""
    return SMALL["dataset"] if small else CIFAR10


def fastest_rate(settings: CifarSettings, measure: Callable | None = None, grid=None) -> tuple[float, float]:
    """The rate that reaches the target in the fewest epochs, or comes nearest, and these epochs; inf if none does.

    The search goes from settings.learning_rate up, then down, each way until a rate does worse than the best so far;
    while none has reached the target, until two in a row do worse than one that learns. No run is longer than the best.
    """
    measure, grid = measure or epochs_needed, grid or RATES
    start = grid.index(settings.learning_rate)
    best, above = (math.inf, math.inf, settings.learning_rate), grid[start:]
    for rates in (above, grid[:start][::-1]):
        worse = 0
        for rate in rates:
            limit = math.ceil(min(LONGEST, best[0]))
            found = (*measure(dataclasses.replace(settings, learning_rate=rate), limit), rate)
            best, worse = (found, 0) if found[:2] < best[:2] else (best, worse + 1)
            enough = 1 if math.isfinite(best[0]) else 2 if best[1] < LEARNS else math.inf
            if worse >= enough or rates is above and math.isinf(found[1]):
                break
    return best[2], best[0]


def epochs_needed(settings: CifarSettings, limit: int) -> tuple[float, float]:
    """Epochs to the target, inf if `limit` aren't enough, and the last error, inf if the loss was not a number."""
    store = load_dataset(choose_pictures(settings.dataset))["train"]
    run = resolve(dataclasses.replace(settings, stages=((limit, 1.0),)), store)
    diverged = run.folder / "diverged.json"
    if diverged.is_file():
        return math.inf, math.inf
    try:
        history = train_cifar(run).history.query("split == 'train'")
    except NonFiniteLoss as error:
        write_json(diverged, dataclasses.asdict(run) | {"message": str(error)})
        return math.inf, math.inf
    return crossing(history["epoch"], history["top1"], TARGET, never=math.inf), history["top1"].iloc[-1]


def figure1_table(small: bool = False) -> pd.DataFrame:
    """One row for each epoch of each run on the pictures that are here; a run that diverged has one, of epoch 0.

    Of runs that differ only in their number of epochs, the longest.
    """
    runs, about, dataset = {}, [*RUN, "ended", "epoch"], pictures_of(small)
    pictures = load_dataset(dataset)["train"].meta["fingerprint"]
    for folder in sorted((runs_dir() / experiment(small)).iterdir()):
        rows = []
        if (folder / "diverged.json").is_file():
            found = read_json(folder / "diverged.json")
            rows = [found | {"ended": "diverged", "epoch": 0}] if found["dataset"] == dataset else []
        elif (folder / "summary.json").is_file():
            record = Record.open(folder)
            if record.summary["dataset"]["train"] != pictures:
                continue
            train, val = (record.history.query(f"split == '{split}'").set_index("epoch") for split in ("train", "val"))
            table = train.filter(like="saturated")
            table = table.assign(training_loss=train["loss"], training_error=train["top1"], error=val["top1"])
            ended = {"ended": record.summary["ended"]}
            rows = [record.config | ended | row for row in table.reset_index().to_dict("records")]
        if rows:
            run = tuple(rows[0][name] for name in RUN)
            runs[run] = max(runs.get(run, []), rows, key=len)
    measured = ["training_loss", "training_error", "error", *(f"saturated{i}" for i in (1, 2, 3, 4))]
    rows = itertools.chain.from_iterable(runs.values())
    return pd.DataFrame(rows, columns=[*about, *measured]).sort_values(about, kind="stable", ignore_index=True)


def figure1_reference(name: str = "figure1") -> pd.DataFrame:
    """The committed table of "figure1" (CIFAR-10) or "figure1-small" (the generated pictures), as `figure1_table`."""
    small = " --small" * name.endswith("small")
    return kept_table(
        REFERENCE / name / "runs.csv", f"python -m alexnet_lib.experiments.cifar_experiments figure1{small}"
    )


def epochs_by_run(table: pd.DataFrame) -> pd.DataFrame:
    """One row a run of `figure1_table`: its epochs to TARGET, inf for never, those that it had, and its last error."""
    keys, rows = [*RUN, "ended"], []
    for run, epochs in table.groupby(keys, sort=False):
        reached = crossing(epochs["epoch"], epochs["training_error"], TARGET, never=math.inf)
        rows.append([*run, reached, epochs["epoch"].max(), epochs["training_error"].iloc[-1]])
    return pd.DataFrame(rows, columns=[*keys, "epochs", "seen", "last_error"])


def at_best_rate(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of `epochs_by_run` at the best rate of each kind with seed 0, in one precision, or at the nearest."""
    first = table[(table["seed"] == 0) & (table["ended"] != "diverged")]
    best = first.sort_values(["epochs", "last_error"]).groupby(KIND).head(1)[[*KIND, "learning_rate", "precision"]]
    order = [*NETS, *REGIMES, *ACTIVATIONS]

    def places(column: pd.Series) -> pd.Series:
        return column.map(order.index) if column.name in KIND else column

    return table.merge(best).sort_values([*KIND, "seed"], key=places, ignore_index=True)


def speedup(table: pd.DataFrame, net: str, initialisation: str, slow: str = "tanh") -> tuple[float, float, int]:
    """How many times as many epochs as ReLU another activation needs: mean, deviation and number over the seeds.

    A run of the other that didn't get there counts as the epochs that it had, and LONGEST at least: the mean is then
    too small rather than too large, and its deviation NaN.

    Raises:
        ValueError: runs are lacking, or one with ReLU didn't get there.
    """
    rows = at_best_rate(epochs_by_run(table))
    rows = rows[(rows["net"] == net) & (rows["initialisation"] == initialisation)]
    missed = ~np.isfinite(rows["epochs"])
    rows = rows.assign(epochs=rows["epochs"].where(~missed, rows["seen"].clip(lower=LONGEST)), missed=missed)
    epochs, missed = (rows.pivot(index="seed", columns="activation", values=name) for name in ("epochs", "missed"))
    if not {slow, "relu"} <= set(epochs):
        found = f"{', '.join(epochs)} with net {net} and initialisation {initialisation}"
        raise ValueError(f"runs of {found}; want {slow}, relu")
    ratios = (epochs[slow] / epochs["relu"]).dropna()
    missed = missed.loc[ratios.index].astype(bool)
    if missed["relu"].any():
        raise ValueError(f"a run with ReLU of net {net} and initialisation {initialisation} didn't get to {TARGET}")
    mean, deviation, count = spread_of(ratios)
    return mean, math.nan if missed[slow].any() else deviation, count


def speedup_table(table: pd.DataFrame) -> pd.DataFrame:
    """For people: epochs to TARGET at the best rate and the ratio to ReLU's; a row a net, initialisation, activation.

    Spreads are standard deviations over the seeds; "more than" where a run didn't get there in LONGEST epochs.
    """
    rows, best = [], at_best_rate(epochs_by_run(table))
    for (net, initialisation, activation), runs in best.groupby(KIND, sort=False):
        row = {"net": net, "weights": initialisation, "units": activation, "runs": len(runs)}
        row["precision"] = ", ".join(sorted(set(runs["precision"])))
        missed = not np.isfinite(runs["epochs"]).all()
        row["best rate"] = "" if missed else f"{runs['learning_rate'].iloc[0]:g}"
        row["epochs"] = f"more than {LONGEST}" if missed else rounded(spread_of(runs["epochs"]))
        others = best[(best["net"] == net) & (best["initialisation"] == initialisation)]["activation"]
        compared = activation != "relu" and "relu" in set(others)
        ratio = rounded(speedup(table, net, initialisation, activation)) if compared else ""
        rows.append(row | {"times ReLU's": "more than " * (missed and compared) + ratio})
    return pd.DataFrame(rows)


def training_curves(history: pd.DataFrame) -> pd.DataFrame:
    """A record's history as in `figure1_table`: epoch, training_error, and the shares of saturated units."""
    rows = history[history["split"] == "train"]
    return rows.filter(like="saturated").assign(epoch=rows["epoch"], training_error=rows["top1"])


def smallest_speedup(table: pd.DataFrame) -> tuple[float, float, int]:
    """The smallest speed-up over tanh of all nets and initialisations."""
    kinds = at_best_rate(epochs_by_run(table)).groupby(["net", "initialisation"])["activation"].agg(set)
    return min(speedup(table, *kind) for kind, activations in kinds.items() if {"relu", "tanh"} <= activations)


def lrn(epochs: int, seeds, only=(), again: bool = False, **common) -> None:
    """Train and keep the 13 % net, the same with only normalisation added, and the final 11 % net; or some of them.

    What is kept already is left as it is; see `report_kept`.

    Raises:
        ValueError: `only` names another net, or a run of as many epochs is kept that has other settings, of any net
            and seed: all are compared.
    """
    common = {"dataset": CIFAR10} | common  # never the generated pictures that "auto" would take in its place
    if unknown := set(only) - set(LRN_NETS):
        raise ValueError(f"lrn has no run of {', '.join(sorted(unknown))}; its nets are {', '.join(LRN_NETS)}")
    common |= {"stages": published_stages(epochs), "experiment": "lrn"}
    there = sorted(REFERENCE.glob(f"lrn-*-{epochs}epochs-seed*/config.json"))
    stores = load_dataset(common["dataset"]) if there else {}
    for path in there:  # before the first run
        config = read_json(path, Chosen, "Move its folder away")
        run = check(CifarSettings, {"net": config["net"], "seed": config["seed"]} | common)
        require_same(resolve(run, stores["train"]), stores, path.parent)
    for seed, net in itertools.product(seeds, only or LRN_NETS):
        settings = check(CifarSettings, {"net": net, "seed": seed} | common)
        kept = REFERENCE / f"lrn-{net}-{epochs}epochs-seed{seed}"
        if (kept / "summary.json").is_file():
            report_kept({kept: partial(resolve, settings)}, again, settings.chosen_dataset())
            continue
        record = train_cifar(settings)
        keep(record.folder, kept.name)
        errors = ", ".join(f"{views}: {row['top1']:.2%}" for views, row in record.summary["metrics"]["val"].items())
        print(f"{net} seed {seed}: {errors}", flush=True)


def summary(small: bool = False) -> None:
    """Write the table of Figure 1's runs to results/reference/; runs that are only there stay.

    Raises:
        ValueError: it is kept of other pictures.
    """
    folder, dataset = REFERENCE / experiment(small), pictures_of(small)
    store = load_dataset(dataset)["train"]
    pictures = {"dataset": dataset, "images": len(store), "lossy_pictures": store.meta.get("lossy", False)}
    if (folder / "about.json").is_file():
        kept = read_json(folder / "about.json")
        if unlike := {name: kept.get(name) for name, value in pictures.items() if kept.get(name) != value}:
            raise ValueError(f"{folder} is of other pictures: {unlike} there, and {pictures} here; move it away first")
    folder.mkdir(parents=True, exist_ok=True)
    table = figure1_table(small)
    if (folder / "runs.csv").is_file():
        kept, again = figure1_reference(experiment(small)), pd.MultiIndex.from_frame(table[RUN])
        table = pd.concat([kept[~pd.MultiIndex.from_frame(kept[RUN]).isin(again)], table])
        table = table.sort_values([*RUN, "ended", "epoch"], kind="stable", ignore_index=True)
    write_table(folder / "runs.csv", table.round(dict.fromkeys(table.columns[8:], 5)).to_dict("records"))
    about = {"command": "python -m alexnet_lib.experiments.cifar_experiments figure1" + " --small" * small}
    write_json(folder / "about.json", about | pictures | provenance())


def main(arguments=None) -> None:
    takes = {  # the options of each command
        "figure1": (figure1, ("only", "small", "precision", "compiled")),
        "crossed": (crossed, ("only",)),
        "lrn": (lrn, ("only", "epochs", "seeds", "precision", "compiled", "again")),
        "summary": (summary, ("small",)),
    }
    parser = command_line("cifar_experiments", __doc__, seeds=[0], of="of the runs of lrn (0)")
    parser.add_argument("command", choices=takes, help="what to run; summary writes Figure 1's table from its runs")
    words = [*NETS, *REGIMES, *ACTIVATIONS]
    parser.add_argument("--small", action="store_true", help="Figure 1 on generated pictures, for a laptop")
    parser.add_argument(
        "--only", nargs="+", default=[], choices=words, help="the runs that have all of these; of lrn, these"
    )
    parser.add_argument("--epochs", type=whole(1), default=50, help="of a run of lrn (50; the published net had 520)")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="of a step (fp32)")
    parser.add_argument("--compiled", action="store_true", help="normalisation through torch.compile")
    add_again(parser)
    with command(parser, arguments) as given:
        run, taken = takes[given.command]
        unused = [name for name in vars(given) if name not in ("command", "threads", *taken)]
        refuse_options(parser, given, unused, f"to {given.command}")
        run(**{name: getattr(given, name) for name in taken})


if __name__ == "__main__":
    main()
