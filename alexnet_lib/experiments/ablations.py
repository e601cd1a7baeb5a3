"""§3 to §5 and §7 by training: the same run with and without a part of the net or of its training.

Each of `variants.QUESTIONS` compares some of `variants.VARIANTS`, which say what they change. Everything else is equal:
data, order, crops, rates, and the initial weights, except behind a layer that is left out: there the draws differ. A
variant that would change more than its part, or nothing, is refused. After each epoch the net is also tested, with
dropout off, on centre crops of training images: the history's training error, with random crops, colour noise and
dropout, can't show overfitting.

    python -m alexnet_lib.experiments.ablations pooling --seeds 0 1 2
    python -m alexnet_lib.experiments.ablations dropout --dataset imagenette73 --epochs 15 --seeds 0 1 2
    python -m alexnet_lib.experiments.ablations augmentation --long
    python -m alexnet_lib.experiments.ablations parts --dataset imagenette73 --epochs 15 --only no-lrn one-gpu

Finished runs are skipped, and interrupted ones go on; --again trains kept ones anew. Each run is kept as
results/reference/ablation-<variant>-<dataset>-seed<k>/, with `as_they_are.csv`, the errors on training images, and
`silenced.csv`, the errors on validation images when hidden units are silenced at test time. The question augmentation
adds `averaged.csv`, the errors with one view and with ten, and `tinted.csv`, the errors in other lights.
"""

import dataclasses
import itertools
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ..augmentation import in_light, recoloured
from ..dataset import Store, load_dataset
from ..evaluation import evaluate, mean_of, predict, top_k_error
from ..files import read_table
from ..paths import REFERENCE
from ..qualitative import hidden_features
from ..runs.fields import check
from ..runs.folder import data_of, require_same
from ..runs.records import Record, keep, load_checkpoint, write_table
from ..runs.settings import TrainSettings, resolve
from ..runs.stored import digests_of
from ..study.sub_networks import silenced
from ..training import build_net, load_net, train
from . import common
from .common import LONG, command, command_line, crossing, long_folder, rows_of, settings_given, spread_of, whole
from .variants import QUESTIONS, VARIANTS, changes, variant_of

TESTED = 1024  # training images
AS_THEY_ARE, SILENCED, AVERAGED, TINTED = "as_they_are.csv", "silenced.csv", "averaged.csv", "tinted.csv"
# what red, green and blue are multiplied by
LIGHTS = {"as it is": (1, 1, 1), "dim": (0.6,) * 3, "bright": (1.5,) * 3, "warm": (1.2, 1, 0.8), "cold": (0.8, 1, 1.2)}
NOISES = (0.1, 0.3)  # deviations of α
# enough to overfit within ten epochs: a narrow net without dropout, at a high rate
SHORT_RUN = {"width": 0.125, "epochs": 10, "dropout": 0.0, "learning_rate": 0.008}


def name_of(variant: str, dataset: str, seed: int | str) -> str:
    """A run's name under results/reference/; dataset: a name, or a folder, whose own name counts."""
    return f"ablation-{variant}-{Path(dataset).name}-seed{seed}"


def run_variant(settings: TrainSettings, variant: str) -> Record:
    """Train one variant, test it on training images after every epoch, and return its record; see `require_same`."""
    stores = load_dataset(settings.dataset)
    run = variant_of(settings, variant, stores["train"])
    require_same(run, stores)  # before the table of another run is touched
    test = tester(run, stores["train"])
    test()  # an earlier call may have been stopped between an epoch and its test
    record = train(run, on_epoch=test)
    test()  # where another process trains, its last epochs may follow each other unseen
    return record


def tester(run: TrainSettings, store: Store) -> Callable[..., None]:
    """A callback that tests a run's last checkpoint on TESTED training images, and adds a row to its table.

    The epoch is the checkpoint's own: the history is written before it, and may be of an epoch more. A checkpoint of
    the middle of an epoch is not tested.
    """
    part = store.spread(TESTED)
    mean, path = mean_of(store, run.image_size), run.folder / AS_THEY_ARE
    net = build_net(run, len(store.classes))

    def test(history: pd.DataFrame | None = None) -> None:
        state = load_checkpoint(run.folder)
        reached = json.loads(state["progress"]) if state else {"epoch": 0, "step": 0}
        if reached["step"] or not (epoch := reached["epoch"]):
            return
        net.load_state_dict(state.get("averaged", state["net"]))  # those that validation tests
        row = {"epoch": epoch, **evaluate(net, part, mean)}
        with common.rows_at_work(run.folder):  # another process may train or follow this run, too
            others = [each for each in rows_of(path) if each["epoch"] != epoch]
            write_table(path, sorted([*others, row], key=lambda each: each["epoch"]))

    return test


def last_table(question: str) -> str:
    """The table that a run of a question writes last."""
    return AVERAGED if question == "augmentation" else SILENCED


def run_all(question: str, settings: TrainSettings, seeds, only=(), folder: Path = REFERENCE) -> None:
    """Train every variant of a question with every seed, and keep the records.

    A run that another question has kept gets the tables that it lacks, if its weights are here.

    Raises:
        ValueError: a run of these pictures is kept already that has other settings, also one of a variant or a seed
            that isn't asked for, or lacks tables that can't be made; a variant isn't the baseline less its part, or
            the question doesn't ask for it.
    """
    if unasked := set(only) - set(QUESTIONS[question]):
        of_it = ", ".join(QUESTIONS[question])
        raise ValueError(f"{question} doesn't ask for {', '.join(sorted(unasked))}; its variants are {of_it}")
    variants = [variant for variant in QUESTIONS[question] if variant in (only or VARIANTS)]
    stores = load_dataset(settings.dataset)
    of_seeds = [dataclasses.replace(settings, seed=seed, experiment="ablations") for seed in seeds]
    each = [(variant_of(asked, v, stores["train"]), v) for asked, v in itertools.product(of_seeds, variants)]
    for run, variant in each:  # before the first run, also where a folder holds no more than settings
        kept = folder / name_of(variant, settings.dataset, run.seed)
        require_same(run, stores, kept)
        require_weights(run.folder, kept, question)
    for variant in VARIANTS:  # all are compared, the baseline with each, and each with its other seeds
        for seed, record in kept_runs(settings.dataset, variant, folder).items():
            asked = dataclasses.replace(settings, seed=seed, experiment="ablations")
            require_same(variant_of(asked, variant, stores["train"]), stores, record.folder)
    for asked in of_seeds:
        for variant in variants:
            kept = folder / name_of(variant, settings.dataset, asked.seed)
            if (kept / last_table(question)).is_file():
                continue
            record = run_variant(asked, variant)
            require_weights(record.folder, kept, question)  # another may have been kept meanwhile
            keep_tables(record, kept, question)


def require_weights(run: Path, kept: Path, question: str) -> None:
    """See that what a kept run lacks for a question can be measured: that its weights are a run's in runs/.

    Raises:
        ValueError: there is no finished run, or another one.
    """
    if not (kept / "summary.json").is_file() or (kept / last_table(question)).is_file():
        return
    found = "no finished run"
    if (run / "summary.json").is_file():
        records, found = [Record.open(folder) for folder in (kept, run)], "another one"
        digests = [digests_of(r.folder, r.config, r.summary) for r in records]
        if all(digests[0][name] == digests[1][name] for name in ("history.csv", "summary.json")):
            return  # `require_same` compares the settings
    raise ValueError(
        f"{kept} is kept without {last_table(question)}, which is measured with the weights of that run; {run} holds "
        f"{found}. Put that run there, leave it out with --only, or move {kept} away first to train it anew"
    )


def keep_tables(record: Record, kept: Path, question: str) -> None:
    """Keep a run with the tables of a question, or add to a kept one those that it lacks."""
    anew = not (kept / "summary.json").is_file()

    def add(name: str, rows: Callable[[], list[dict]]) -> None:
        if anew or not (kept / name).is_file():
            write_table(kept / name, rows())

    kept.mkdir(parents=True, exist_ok=True)  # its errors come first: from its summary on it counts as kept
    add(AS_THEY_ARE, lambda: read_table(record.folder / AS_THEY_ARE).round(5).to_dict("records"))
    if anew:
        keep(record.folder, kept.name, kept.parent)
    add(SILENCED, lambda: silencing(record).round(5).to_dict("records"))
    if question == "augmentation":
        add(TINTED, lambda: tinting(record))
        add(AVERAGED, lambda: averaging(record))


def silencing(record: Record) -> pd.DataFrame:
    """`sub_networks.silenced` of a finished run, on its validation images."""
    stores, net = data_of(record), load_net(record)
    mean, val = mean_of(stores["train"], record.config["image_size"]), stores["val"]
    features = torch.from_numpy(hidden_features(net, val.images, mean, "flatten"))
    return silenced(net, features, torch.from_numpy(val.labels))


def averaging(record: Record) -> list[dict]:
    """The validation errors of a finished run: with one view, and with the probabilities or logits of ten averaged."""
    stores, net = data_of(record), load_net(record)
    mean, labels = mean_of(stores["train"], record.config["image_size"]), stores["val"].labels
    rows = []
    for views, average in ((1, "probabilities"), (10, "probabilities"), (10, "logits")):
        errors = top_k_error(predict(net, stores["val"].images, mean, views, average=average), labels)
        rows.append({"views": views, "average": average, "top1": round(errors[1], 5), "top5": round(errors[5], 5)})
    return rows


def tinting(record: Record) -> list[dict]:
    """The top-1 validation errors of a finished run, one view, in each of LIGHTS and with colour noise of NOISES."""
    stores, net = data_of(record), load_net(record)
    mean, val, pca = mean_of(stores["train"], record.config["image_size"]), stores["val"], stores["train"].pca
    pictures = {light: in_light(val.images, gains) for light, gains in LIGHTS.items()}
    normals = np.random.default_rng(0).standard_normal((len(val), 3))
    for std in NOISES:
        pictures[f"noise {std}"] = recoloured(val.images, 0, pca, normals, std, "deviation")
    errors = {light: top_k_error(predict(net, images, mean), val.labels)[1] for light, images in pictures.items()}
    return [{"light": light, "top1": round(error, 5)} for light, error in errors.items()]


def final_errors(record: Record) -> dict[str, float]:
    """The final errors of a run in per cent.

    "validation", top-1 with one view; "training", top-1 on TESTED training images as they are; "gap", the first less
    the second; "ten views, top-1" and "ten views, top-5", on the validation images.
    """
    val, training = record.summary["metrics"]["val"], read_table(record.folder / AS_THEY_ARE)["top1"].iloc[-1]
    errors = {"validation": val["1 view"]["top1"], "training": training, "gap": val["1 view"]["top1"] - training}
    errors |= {f"ten views, top-{k}": val["10 views"][f"top{k}"] for k in (1, 5)}
    return {name: 100 * error for name, error in errors.items()}


def kept_runs(dataset: str, variant: str, folder: Path = REFERENCE) -> dict[int, Record]:
    """The kept runs of a variant by seed."""
    return common.kept_runs(name_of(variant, dataset, ""), folder)


def require_kept(dataset: str, variant: str, folder: Path = REFERENCE) -> dict[int, Record]:
    """`kept_runs`.

    Raises:
        FileNotFoundError: there is none; with the command that trains them, beside those of the series that are kept.
    """
    if runs := kept_runs(dataset, variant, folder):
        return runs
    long = folder.name.startswith(LONG.name)
    questions = [question for question, variants in QUESTIONS.items() if variant in variants]
    question = "augmentation" if long and "augmentation" in questions else questions[0]
    command = f"python -m alexnet_lib.experiments.ablations {question} --dataset {dataset}{' --long' * long}"
    if alike := any_kept(dataset, folder):
        command += f"{common.options_of(alike)} --only {variant}"
    raise FileNotFoundError(f"no run of {variant} on {dataset} is kept; `{command}` trains them")


def any_kept(dataset: str, folder: Path = REFERENCE) -> Record | None:
    """A kept run that has the epochs and `common.SETTINGS` of the baseline on these pictures; None for none."""
    same = [v for v in VARIANTS if not {"epochs", *common.SETTINGS} & changes(v, 2).keys()]
    runs = (record for variant in same for record in kept_runs(dataset, variant, folder).values())
    return next(runs, None)


def results(dataset: str, variants=tuple(VARIANTS), folder: Path = REFERENCE) -> pd.DataFrame:
    """`final_errors` of the kept runs, one row a variant and seed; see `require_kept`."""
    runs = {v: require_kept(dataset, v, folder) for v in variants}
    rows = {(v, seed): final_errors(run) for v, of_seeds in runs.items() for seed, run in of_seeds.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["variant", "seed"])


def gains(dataset: str, against: str, variant: str = "baseline", folder: Path = REFERENCE) -> pd.DataFrame:
    """How many points lower each error is in a variant than in another, for each seed that both have."""
    table = results(dataset, (variant, against), folder)
    return (table.loc[against] - table.loc[variant]).dropna()


def gain(dataset: str, against: str, column: str, variant: str = "baseline") -> tuple[float, float, int]:
    """One column of `gains`: its mean, its standard deviation over the seeds, and their number."""
    return spread_of(gains(dataset, against, variant)[column])


def averaged_errors(dataset: str = "embedded", variant: str = "baseline", folder: Path = REFERENCE) -> pd.DataFrame:
    """Validation errors of the kept runs in per cent by views and average: columns seed, views, average, top1, top5."""
    runs = require_kept(dataset, variant, folder).items()
    tables = [read_table(run.folder / AVERAGED).assign(seed=seed) for seed, run in runs]
    return pd.concat(tables, ignore_index=True).assign(top1=lambda t: 100 * t["top1"], top5=lambda t: 100 * t["top5"])


def tinted_errors(dataset: str = "embedded", variant: str = "baseline", folder: Path = LONG) -> pd.DataFrame:
    """Top-1 validation errors of the kept runs in per cent, one row a light, one column a seed; see `tinting`."""
    runs = require_kept(dataset, variant, folder).items()
    tables = {seed: read_table(run.folder / TINTED).set_index("light")["top1"] for seed, run in runs}
    return 100 * pd.DataFrame(tables)


def ten_views_gain(dataset: str = "embedded", column: str = "top1", folder: Path = REFERENCE):
    """How many points ten views, averaged as in 2012, lower an error: mean, standard deviation, number of seeds."""
    tested = [record.summary["metrics"]["val"] for record in require_kept(dataset, "baseline", folder).values()]
    return spread_of(pd.Series([100 * (each["1 view"][column] - each["10 views"][column]) for each in tested]))


def histories(dataset: str, variant: str, folder: Path = REFERENCE) -> pd.DataFrame:
    """The kept runs of a variant by epoch, a row an epoch and seed: both, "training loss" and "training error" of
    training images as they are, "validation loss" and "validation error"."""
    tables = []
    for seed, record in require_kept(dataset, variant, folder).items():
        clean = read_table(record.folder / AS_THEY_ARE).set_index("epoch")
        val = record.history.query("split == 'val'").set_index("epoch")
        table = pd.DataFrame({"seed": seed, "training loss": clean["loss"], "training error": clean["top1"]})
        table["validation loss"], table["validation error"] = val["loss"], val["top1"]
        tables.append(table.reset_index())
    return pd.concat(tables, ignore_index=True)


def silenced_errors(dataset: str, variant: str, folder: Path = REFERENCE) -> pd.DataFrame:
    """The validation errors (0 to 1) of the kept runs by the share of hidden units silenced, one column a seed."""
    runs = require_kept(dataset, variant, folder)
    return pd.DataFrame({s: read_table(r.folder / SILENCED).set_index("share")["error"] for s, r in runs.items()})


# ------------------------------------------------------------------------------------------------- how many epochs


def epochs_to(table: pd.DataFrame, column: str, level: float) -> pd.Series:
    """For each seed of a table of `histories`, the epoch at which a column first falls to a level; see `crossing`."""
    return pd.Series({seed: crossing(rows["epoch"], rows[column], level) for seed, rows in table.groupby("seed")})


def slowdowns(with_dropout: pd.DataFrame, without: pd.DataFrame, column: str, step=0.02) -> pd.DataFrame:
    """How many times as many epochs dropout takes to each level of an error that all runs reach, after their first.

    Tables as `histories` gives them. One row a level, one column a seed.
    """
    with_dropout, without = common.of_common_seeds(with_dropout, without)
    ends = [table.groupby("seed")[column] for table in (with_dropout, without)]
    lowest, highest = max(end.min().max() for end in ends), min(end.first().min() for end in ends)
    levels = np.arange(np.ceil(lowest / step), np.floor(highest / step) + 1) * step
    ratios = {level: epochs_to(with_dropout, column, level) / epochs_to(without, column, level) for level in levels}
    return pd.DataFrame(ratios).T


def epochs_ratio(dataset: str, column: str, level) -> tuple[float, float, int]:
    """How many times as many epochs the kept runs with dropout take to a level: mean, standard deviation, seeds."""
    reached = [epochs_to(histories(dataset, v), column, float(level)) for v in ("baseline", "no-dropout")]
    return spread_of((reached[0] / reached[1]).dropna())


def main(arguments=None) -> None:
    parser = command_line("ablations", __doc__, seeds=[0, 1, 2])
    parser.add_argument("question", choices=list(QUESTIONS), help="which runs are compared; worth: each part's")
    parser.add_argument("--dataset", default="embedded", help="a name or a folder (embedded)")
    parser.add_argument("--epochs", type=whole(1), help="unless given, 45 up to 100,000 images, else the recipe's")
    parser.add_argument("--only", nargs="+", default=[], choices=list(VARIANTS), help="these (all of the question)")
    common.add_settings(parser)
    common.add_again(parser)
    parser.add_argument("--long", action="store_true", help=f"keep them apart, in {LONG.name}…, all of one machine")
    with command(parser, arguments) as given:
        settings = check(TrainSettings, {"dataset": given.dataset} | settings_given(given, "epochs"))
        folder = REFERENCE
        if given.long:
            folder = long_folder(given.epochs or resolve(settings, load_dataset(given.dataset)["train"]).epochs)
        kept = {
            path: partial(variant_of, dataclasses.replace(settings, seed=seed), variant)
            for seed, variant in itertools.product(given.seeds, given.only or QUESTIONS[given.question])
            if ((path := folder / name_of(variant, given.dataset, seed)) / last_table(given.question)).is_file()
        }
        run_all(given.question, settings, given.seeds, given.only, folder)
        common.report_kept(kept, given.again, given.dataset)


if __name__ == "__main__":
    main()
