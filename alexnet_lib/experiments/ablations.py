"""§3 to §5 and §7 by training: the same run with and without a part of the net or of its training.

The questions: "pooling" (§3.4), "augmentation" (§4.1), "dropout" (§4.2), and "parts": half the kernels (§3.2), no
normalisation (§3.3), no crops (§4.1), each convolution left out (§7), the first weights as printed and as in 2012 (§5),
the net of 2012; "decay": no weight decay (§5); "schedule" (§5): a rate that does not fall, two thirds of the epochs;
"worth": every part of the net and of its training in turn, for a data set that is large enough to tell.

Everything else is equal: data, order, crops, initial weights, rates. After each epoch the net is also tested, with
dropout off, on centre crops of training images: what the history calls training error is measured while the crops,
the colours and the silent units are at work, and says little about overfitting.

    python -m alexnet_lib.experiments.ablations pooling --seeds 0 1 2
    python -m alexnet_lib.experiments.ablations dropout --dataset imagenette73 --epochs 12 --seeds 0 1 2
    python -m alexnet_lib.experiments.ablations augmentation --short
    python -m alexnet_lib.experiments.ablations parts --dataset imagenette73 --epochs 15 --only no-lrn one-gpu

What is finished is skipped, and what was cut off goes on. Each run is kept as
results/reference/ablation-<variant>-<dataset>-seed<k>/, with `as_they_are.csv`, the errors on training images, and
`silenced.csv`, the errors on validation images when hidden units are silenced at test time; those of the question
augmentation also with `averaged.csv`, the errors with one view and with ten.
"""

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..augmentation import centre_crops
from ..dataset import Store, load_dataset
from ..evaluation import evaluate, mean_of, predict, to_input, top_k_error
from ..learning import RECIPES
from ..paths import REFERENCE
from ..runs.folder import data_of, require_same
from ..runs.records import Record, keep, load_checkpoint, write_table
from ..runs.settings import SPEEDS, TrainSettings, resolve
from ..study.sub_networks import features_of, silenced
from ..training import build_net, load_net, train

VARIANTS = {
    "baseline": {},
    "non-overlapping": {"pooling": "non_overlapping"},
    "run147": {"pooling": "run147"},
    "no-dropout": {"dropout": 0.0},
    "crops-only": {"augmentation": "crops"},
    "colours-only": {"augmentation": "colours"},
    "no-augmentation": {"augmentation": "none"},
    "no-lrn": {"normalization": None},
    "one-gpu": {"net": "one_gpu"},
    **{f"without-conv{i}": {"without": f"conv{i}"} for i in range(1, 6)},
    "init-printed": {"initialisation": "printed"},
    "init-2012": {"initialisation": "code2012"},
    "net-2012": {"net": "code2012"},
    "no-decay": {"recipe": "undecayed"},
    "steady-rate": {"recipe": "steady"},
    "shorter": {},  # see `changes`
}
PARTS = (
    "no-lrn",
    "one-gpu",
    "colours-only",
    *(f"without-conv{i}" for i in range(1, 6)),
    "init-printed",
    "init-2012",
    "net-2012",
)
# each part of the net and of its training that a run of 200 classes can tell the worth of
WORTH = (
    *("no-lrn", "no-dropout", "colours-only", "crops-only", "one-gpu", "run147", "no-decay"),
    *("without-conv3", "without-conv4", "without-conv5", "init-printed", "init-2012"),
)
QUESTIONS = {
    "pooling": ("baseline", "non-overlapping", "run147"),
    "dropout": ("baseline", "no-dropout"),
    "augmentation": ("baseline", "crops-only", "no-augmentation"),
    "parts": ("baseline", *PARTS),
    "decay": ("baseline", "no-decay"),
    "schedule": ("baseline", "steady-rate", "shorter"),
    "worth": ("baseline", *WORTH),
}
PICTURES = {"embedded": "built-in pictures", "imagenette73": "photographs"}
TESTED = 1024  # training images
AS_THEY_ARE = "as_they_are.csv"
SILENCED = "silenced.csv"
AVERAGED = "averaged.csv"
# enough to overfit within ten epochs: a narrow net without dropout, at a high rate
SHORT_RUN = {"width": 0.125, "epochs": 10, "dropout": 0.0, "learning_rate": 0.008}
SHORT = REFERENCE / "augmentation-short"
LEVELS = {"embedded": (0.5, 0.25), "imagenette73": (0.6, 0.4)}  # of top-1 error, to which all runs come


def name_of(variant: str, dataset: str, seed: int) -> str:
    """What a run is called under results/reference/."""
    return f"ablation-{variant}-{dataset}-seed{seed}"


def run_variant(settings: TrainSettings, variant: str) -> Record:
    """Train one variant, test it on training images after every epoch, and return its record."""
    store = load_dataset(settings.dataset)["train"]
    run = variant_of(settings, variant, store)
    return train(run, on_epoch=tester(run, store))


def variant_of(settings: TrainSettings, variant: str, store: Store) -> TrainSettings:
    """The resolved settings of a variant."""
    epochs = resolve(settings, store).epochs
    return resolve(dataclasses.replace(settings, **changes(variant, epochs)), store)


def changes(variant: str, epochs: int) -> dict:
    """The settings that a variant changes, beside a baseline of so many epochs."""
    if variant == "shorter":  # of which the baseline is half as long again
        return {"epochs": max(1, epochs * 2 // 3)}
    return VARIANTS[variant]


def tester(run: TrainSettings, store: Store) -> Callable[[pd.DataFrame], None]:
    """A callback that tests a run's last checkpoint on TESTED training images, and adds a row to its table."""
    part = store.spread(TESTED)
    mean, path = mean_of(store, run.image_size), run.folder / AS_THEY_ARE
    net = build_net(run, len(store.classes))

    def test(history: pd.DataFrame) -> None:
        net.load_state_dict(load_checkpoint(run.folder)["net"])
        epoch = int(history["epoch"].max())
        rows = pd.read_csv(path).to_dict("records") if path.is_file() and epoch > 1 else []
        rows = [row for row in rows if row["epoch"] < epoch]
        write_table(path, [*rows, {"epoch": epoch, **evaluate(net, part, mean)}])

    return test


def run_all(question: str, settings: TrainSettings, seeds, only=(), folder: Path = REFERENCE) -> None:
    """Every variant of a question with every seed, kept as records.

    Raises:
        ValueError: a run is kept already that has other settings.
    """
    for seed in seeds:
        for variant in QUESTIONS[question]:
            kept = folder / name_of(variant, settings.dataset, seed)
            last = AVERAGED if question == "augmentation" else SILENCED
            if only and variant not in only:
                continue
            asked = dataclasses.replace(settings, seed=seed, experiment="ablations")
            if (kept / "config.json").is_file():
                stores = load_dataset(settings.dataset)
                require_same(variant_of(asked, variant, stores["train"]), stores, kept)
            if (kept / last).is_file():
                continue
            record = run_variant(asked, variant)
            keep(record.folder, kept.name, folder)
            write_table(kept / AS_THEY_ARE, pd.read_csv(record.folder / AS_THEY_ARE).round(5).to_dict("records"))
            write_table(kept / SILENCED, silencing(record).round(5).to_dict("records"))
            if question == "augmentation":
                write_table(kept / AVERAGED, averaging(record))


def inputs_of(record: Record, count: int | None = None) -> tuple[Tensor, Tensor]:
    """What the net of a finished run is given in validation, centre crops (N, 3, crop, crop), and the labels (N,).

    count: of so many evenly spaced images, where all do not fit into memory: 0.6 MB each at 224 pixels.
    """
    stores, crop = data_of(record), record.config["image_size"]
    val = stores["val"].spread(count or len(stores["val"]))
    inputs = to_input(np.ascontiguousarray(centre_crops(val.images, crop)), mean_of(stores["train"], crop))
    return inputs, torch.from_numpy(val.labels)


def silencing(record: Record) -> pd.DataFrame:
    """`sub_networks.silenced` of a finished run, on its validation images."""
    net, (inputs, labels) = load_net(record), inputs_of(record)
    return silenced(net, features_of(net, inputs), labels)


def averaging(record: Record) -> list[dict]:
    """The validation errors of a finished run with one view, and with ten by what of them is averaged."""
    stores, net = data_of(record), load_net(record)
    mean, labels = mean_of(stores["train"], record.config["image_size"]), stores["val"].labels
    rows = []
    for views, average in ((1, "probabilities"), (10, "probabilities"), (10, "logits")):
        errors = top_k_error(predict(net, stores["val"].images, mean, views, average=average), labels)
        rows.append({"views": views, "average": average, "top1": round(errors[1], 5), "top5": round(errors[5], 5)})
    return rows


def final_errors(record: Record) -> dict[str, float]:
    """The final errors of a run in per cent.

    "validation", top-1 with one view; "training", top-1 on TESTED training images as they are; "gap", the first less
    the second; "ten views, top-1" and "ten views, top-5", on the validation images.
    """
    val = record.summary["metrics"]["val"]
    training = pd.read_csv(record.folder / AS_THEY_ARE)["top1"].iloc[-1]
    errors = {"validation": val["1 view"]["top1"], "training": training, "gap": val["1 view"]["top1"] - training}
    errors |= {f"ten views, top-{k}": val["10 views"][f"top{k}"] for k in (1, 5)}
    return {name: 100 * error for name, error in errors.items()}


def kept_runs(dataset: str, variant: str, folder: Path = REFERENCE) -> dict[int, Record]:
    """The kept runs of a variant by seed."""
    paths = sorted(folder.glob(name_of(variant, dataset, 0)[:-1] + "*"))
    return {record.config["seed"]: record for record in map(Record.open, paths)}


def answered(question: str, folder: Path = REFERENCE) -> dict[str, list[str]]:
    """For each data set the variants of a question of which two runs or more are kept, where there is more than one."""
    kept = {d: [v for v in QUESTIONS[question] if len(kept_runs(d, v, folder)) > 1] for d in PICTURES}
    return {dataset: variants for dataset, variants in kept.items() if len(variants) > 1}


def results(dataset: str, variants=tuple(VARIANTS), folder: Path = REFERENCE) -> pd.DataFrame:
    """`final_errors` of the kept runs, one row a variant and seed.

    Raises:
        FileNotFoundError: a variant of which no run is kept, with the command that trains it.
    """
    runs = {v: kept_runs(dataset, v, folder) for v in variants}
    if missing := [v for v, of_seeds in runs.items() if not of_seeds]:
        question = next(q for q, named in QUESTIONS.items() if missing[0] in named)
        command = f"python -m alexnet_lib.experiments.ablations {question} --dataset {dataset}"
        raise FileNotFoundError(f"no run of {', '.join(missing)} on {dataset} is kept; `{command}` trains them")
    rows = {(v, seed): final_errors(run) for v, of_seeds in runs.items() for seed, run in of_seeds.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["variant", "seed"])


def paired_results(dataset: str, variants, folder: Path = REFERENCE) -> pd.DataFrame:
    """`results` of the seeds that all of these variants have."""
    table = results(dataset, variants, folder)
    seeds = table.groupby("seed").size()
    return table[table.index.get_level_values("seed").isin(seeds.index[seeds == len(variants)])]


def gains(dataset: str, against: str, variant: str = "baseline", folder: Path = REFERENCE) -> pd.DataFrame:
    """By how many points each error is lower in a variant than in another, for each seed that both have."""
    table = results(dataset, (variant, against), folder)
    return (table.loc[against] - table.loc[variant]).dropna()


def gain(dataset: str, against: str, column: str, variant: str = "baseline") -> tuple[float, float, int]:
    """One column of `gains`: its mean, its standard deviation over the seeds, and their number."""
    return spread_of(gains(dataset, against, variant)[column])


def short_gain(variant: str, against: str, column: str, folder: Path = SHORT) -> tuple[float, float, int]:
    """The same of the short runs on the built-in pictures."""
    return spread_of(gains("embedded", against, variant, folder)[column])


def averaged_errors(dataset: str = "embedded", variant: str = "baseline", folder: Path = REFERENCE) -> pd.DataFrame:
    """Validation errors of the kept runs in per cent by views and average: columns seed, views, average, top1, top5."""
    runs = kept_runs(dataset, variant, folder).items()
    tables = [pd.read_csv(run.folder / AVERAGED).assign(seed=seed) for seed, run in runs]
    table = pd.concat(tables, ignore_index=True)
    table[["top1", "top5"]] *= 100
    return table


def ten_views_gain(dataset: str = "embedded", column: str = "top1", folder: Path = REFERENCE):
    """By how many points ten views, averaged as in 2012, lower an error: mean, deviation, number of seeds."""
    table = averaged_errors(dataset, folder=folder).query("average == 'probabilities'")
    errors = table.pivot(index="seed", columns="views", values=column)
    return spread_of(errors[1] - errors[10])


def spread_of(values: pd.Series) -> tuple[float, float, int]:
    """Mean, standard deviation and number."""
    return float(values.mean()), float(values.std()), len(values)


def histories(dataset: str, variant: str, folder: Path = REFERENCE) -> pd.DataFrame:
    """The kept runs of a variant by epoch, one row an epoch and seed.

    Columns: seed, epoch, "training loss" and "training error" of training images as they are, "validation loss" and
    "validation error".
    """
    tables = []
    for seed, record in kept_runs(dataset, variant, folder).items():
        clean = pd.read_csv(record.folder / AS_THEY_ARE).set_index("epoch")
        val = record.history.query("split == 'val'").set_index("epoch")
        table = pd.DataFrame({"seed": seed, "training loss": clean["loss"], "training error": clean["top1"]})
        table["validation loss"], table["validation error"] = val["loss"], val["top1"]
        tables.append(table.reset_index())
    return pd.concat(tables, ignore_index=True)


def stated(values: tuple[float, float, int]) -> str:
    """A mean with its spread, for people."""
    mean, deviation, count = values
    return f"{mean:.2f} ± {deviation:.2f} ({count} seeds)"


def silenced_errors(dataset: str, variant: str, folder: Path = REFERENCE) -> pd.DataFrame:
    """The validation errors (0 to 1) of the kept runs by the share of hidden units silenced, one column a seed."""
    runs = kept_runs(dataset, variant, folder)
    return pd.DataFrame({s: pd.read_csv(r.folder / SILENCED).set_index("share")["error"] for s, r in runs.items()})


def less_harm(dataset: str, share=0.5) -> tuple[float, float, int]:
    """How many points less a net with dropout loses when this share of its hidden units is silenced at test time."""
    tables = (100 * silenced_errors(dataset, variant) for variant in ("no-dropout", "baseline"))
    without, with_dropout = (table.loc[share] - table.loc[0.0] for table in tables)
    return spread_of((without - with_dropout).dropna())


# ------------------------------------------------------------------------------------------------- how many epochs


def epochs_to(table: pd.DataFrame, column: str, level: float) -> pd.Series:
    """For each seed of a table of `histories`, the epoch at which a column first falls to a level.

    Between two epochs by a straight line; NaN where the level is not reached.
    """
    return pd.Series({seed: crossing(rows["epoch"], rows[column], level) for seed, rows in table.groupby("seed")})


def crossing(epochs, values, level: float) -> float:
    """The epoch at which values first fall to a level, by a straight line between epochs; NaN if they do not."""
    epochs, values = np.asarray(epochs, float), np.asarray(values, float)
    below = np.flatnonzero(values <= level)
    if not len(below):
        return float("nan")
    if (i := below[0]) == 0:
        return epochs[0]
    return epochs[i - 1] + (values[i - 1] - level) / (values[i - 1] - values[i]) * (epochs[i] - epochs[i - 1])


def slowdowns(with_dropout: pd.DataFrame, without: pd.DataFrame, column: str, step=0.02) -> pd.DataFrame:
    """How many times as many epochs dropout takes to each level of an error that all runs reach, after their first.

    Tables as `histories` gives them. One row a level, one column a seed.
    """
    ends = [table.groupby("seed")[column] for table in (with_dropout, without)]
    lowest, highest = max(end.min().max() for end in ends), min(end.first().min() for end in ends)
    levels = np.arange(np.ceil(lowest / step), np.floor(highest / step) + 1) * step
    ratios = {level: epochs_to(with_dropout, column, level) / epochs_to(without, column, level) for level in levels}
    return pd.DataFrame(ratios).T


def epochs_ratio(dataset: str, column: str, level) -> tuple[float, float, int]:
    """How many times as many epochs the kept runs take with dropout to a level: mean, deviation, number of seeds."""
    reached = [epochs_to(histories(dataset, v), column, float(level)) for v in ("baseline", "no-dropout")]
    return spread_of((reached[0] / reached[1]).dropna())


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(
        "python -m alexnet_lib.experiments.ablations", description=(__doc__ or " ").splitlines()[0]
    )
    parser.add_argument("question", choices=list(QUESTIONS))
    parser.add_argument("--dataset", default="embedded")
    parser.add_argument("--epochs", type=int, help="those of the recipe unless given")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", default=[], choices=list(VARIANTS))
    parser.add_argument("--width", type=float, help="of the net; that of the pictures unless given")
    parser.add_argument("--batch-size", type=int, help="that of the recipe unless given")
    parser.add_argument("--learning-rate", type=float, help="that of the recipe unless given")
    parser.add_argument("--recipe", choices=list(RECIPES), help="that of the pictures unless given")
    parser.add_argument("--speed", choices=SPEEDS, default="repeatable", help="fast: in bfloat16 where there are units")
    parser.add_argument("--short", action="store_true", help=f"runs of seconds, kept in {SHORT.name}: {SHORT_RUN}")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of the processor")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    try:
        asked = ("epochs", "width", "batch_size", "learning_rate", "recipe")
        chosen = {name: getattr(given, name) or "auto" for name in asked}
        settings = TrainSettings(dataset=given.dataset, speed=given.speed, **chosen)
        if given.short:
            settings = dataclasses.replace(settings, **SHORT_RUN)
        run_all(given.question, settings, given.seeds, given.only, SHORT if given.short else REFERENCE)
    except (ValueError, OSError, ArithmeticError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


if __name__ == "__main__":
    main()
