"""§6, Tables 1 and 2: the paper's numbers, the logs of 2012, and the errors of finished runs.

    python -m alexnet_lib.study.log2012 RUN...             errors with one view and ten, and of the runs' average
    python -m alexnet_lib.study.log2012 RUN --split test   on the test images of ILSVRC-2010, for Table 1

The logs are the comments at the end of the files layers/layer-params-<run>.cfg of the 2012 program.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..commands import ends_well
from ..dataset import load_dataset
from ..evaluation import mean_of, predict, top_k_error
from ..paths import runs_dir
from ..runs.folder import data_of
from ..runs.records import Record
from ..training import load_net


@dataclass(frozen=True)
class Logged:
    """A result in the logs of 2012: the run, the images, the number of views, and the errors from 0 to 1."""

    run: str
    images: str
    views: int
    top1: float
    top5: float
    about: str = ""


LOGS = [
    Logged("145-2010", "2010 test", 10, 0.374727, 0.169987, "the net of Table 1"),
    Logged("145-2010", "2010 test", 1, 0.390247, 0.182953, "the same, centre crops"),
    Logged("145-half", "2010 test", 10, 0.391680, 0.182287, "half the kernels on one GPU"),
    Logged("137-2010", "2010 validation", 10, 0.377960, 0.171020, "a predecessor"),
    Logged("137-2010", "2010 test", 10, 0.376170, 0.171250, "the same predecessor"),
    Logged("145", "2012 validation", 10, 0.406640, 0.182100, "the single net of Table 2"),
    Logged("145, longer", "2012 validation", 10, 0.402500, 0.179940, "its rate raised again at epoch 91, to epoch 135"),
    Logged("148", "2012 validation", 10, 0.420340, 0.193620, "no normalisation"),
    Logged("147", "2012 validation", 10, 0.410580, 0.185100, "windows of 2 for pooling"),
    Logged("150", "2012 validation", 10, 0.418280, 0.193300, "two columns that never talk"),
    Logged("166", "2012 validation", 10, 0.410960, 0.186740, "layer 2: LRN before the ReLU; schedule of 2013"),
    Logged("167", "2012 validation", 10, 0.404880, 0.181180, "layer 2: no normalisation at all; schedule of 2013"),
    Logged("170", "2012 validation", 10, 0.405280, 0.180480, "nothing but the schedule of 2013"),
    Logged("120-2012", "2012 validation", 10, 0.410440, 0.187140, "one of five before the deadline of 2012"),
    Logged("131", "2012 validation", 10, 0.409340, 0.185740, "another"),
    Logged("135", "2012 validation", 10, 0.410700, 0.184160, "another"),
    Logged("137", "2012 validation", 10, 0.407820, 0.183440, "another"),
    Logged("146-2012-2011", "2012 validation", 10, 0.389900, 0.166220, "six convolutions, pre-trained on Fall 2011"),
    Logged("146-2012-2009", "2012 validation", 10, 0.391000, 0.168760, "six convolutions, pre-trained on Fall 2009"),
    Logged("101-2009", "2009 validation", 10, 0.693820, 0.436470, "five convolutions, 10,184 classes"),
]
# top-1 and top-5 error in per cent, and the run of LOGS behind a row
TABLE_1 = [
    ("sparse coding", 47.1, 28.2, None),
    ("SIFT + Fisher vectors", 45.7, 25.7, None),
    ("CNN", 37.5, 17.0, ("145-2010", "2010 test", 10)),
    ("CNN, one view (footnote)", 39.0, 18.3, ("145-2010", "2010 test", 1)),
]
# top-1 and top-5 on validation images, top-5 on test images; None where the paper has none
TABLE_2 = [
    ("SIFT + Fisher vectors", None, None, 26.2, None),
    ("1 CNN", 40.7, 18.2, None, ("145", "2012 validation", 10)),
    ("5 CNNs", 38.1, 16.4, 16.4, None),
    ("1 CNN*", 39.0, 16.6, None, ("146-2012-2011", "2012 validation", 10)),
    ("7 CNNs*", 36.7, 15.4, 15.3, None),
]


def logged(run: str, images: str = "2012 validation", views: str | int = 10) -> Logged:
    """A result of LOGS.

    Raises:
        ValueError: there is no such result.
    """
    for log in LOGS:
        if (log.run, log.images, log.views) == (run, images, int(views)):
            return log
    raise ValueError(f"no log of run {run}, {images}, {views} views; runs are {', '.join(log.run for log in LOGS)}")


def logged_gain(worse: str, better: str, images: str = "2012 validation") -> tuple[float, float]:
    """How many points lower the top-1 and top-5 error of one logged run is than another's."""
    first, second = logged(worse, images), logged(better, images)
    return 100 * (first.top1 - second.top1), 100 * (first.top5 - second.top5)


def table_1() -> pd.DataFrame:
    """Table 1, ILSVRC-2010 test images: model, top-1, top-5, and the log beside each of the paper's own."""
    return _with_logs(TABLE_1, ("top-1 (%)", "top-5 (%)"))


def table_2() -> pd.DataFrame:
    """Table 2, ILSVRC-2012: model, top-1 and top-5 on validation and top-5 on test images, and the log."""
    return _with_logs(TABLE_2, ("top-1, validation (%)", "top-5, validation (%)", "top-5, test (%)"))


def _with_logs(printed: list[tuple], columns: Sequence[str]) -> pd.DataFrame:
    rows = []
    for model, *errors, key in printed:
        shown = ["–" if error is None else f"{error:.1f}" for error in errors]
        row = {"model": model, **dict(zip(columns, shown, strict=True)), "log of 2012 (%)": "", "file": ""}
        if key:
            log = logged(*key)
            row["log of 2012 (%)"] = f"{100 * log.top1:.2f} / {100 * log.top5:.2f}"
            row["file"] = f"layer-params-{log.run}.cfg"
        rows.append(row)
    return pd.DataFrame(rows)


def log_error() -> float:
    """The largest difference, in points, between a number of Tables 1 and 2 and the log behind it."""
    rows = [(top1, top5, logged(*key)) for _, top1, top5, *_, key in TABLE_1 + TABLE_2 if key]
    return max(abs(printed - 100 * log) for a, b, run in rows for printed, log in ((a, run.top1), (b, run.top5)))


def gain_of_training_on() -> float:
    """Points of top-1 error that run 145 gained by more training after its 91 epochs."""
    return logged_gain("145", "145, longer")[0]


def row_of(record: Record) -> dict:
    """A finished run in a row: run, data, net, width, epochs, and its errors in per cent.

    A dash stands for what it lacks: CIFAR nets have no width, and those that see whole pictures no ten views.
    """
    config, val = record.config, record.summary["metrics"]["val"]
    row = {"run": record.folder.name, "data": config["dataset"], "net": config["net"]}
    row["width"] = config.get("width", "–")
    row["epochs"] = record.summary["epochs"]
    for views in ("1 view", "10 views"):
        errors = [f"{100 * val[views][name]:.1f}" for name in ("top1", "top5")] if views in val else ["–"]
        row[f"{views}, top-1 / top-5 (%)"] = " / ".join(errors)
    return row


def reader_runs(experiment: str = "train") -> pd.DataFrame:
    """`row_of` the finished runs in the reader's own folder; empty if there are none."""
    found = sorted((runs_dir() / experiment).glob("*/summary.json"))
    return pd.DataFrame([row_of(Record.open(summary.parent)) for summary in found])


def probabilities(record: Record, split: str = "val", views: int = 10) -> np.ndarray:
    """The probabilities of a finished run's net for the images of a split, (N, classes) float32.

    Raises:
        ValueError: the data set has no such split, or isn't the one that the run was trained on.
    """
    stores = data_of(record)
    if split not in stores:
        raise ValueError(f"split = {split!r}; {record.config['dataset']} has {', '.join(stores)}")
    mean, divisor = mean_of(stores["train"], record.config["image_size"]), record.config.get("input_divisor", 1.0)
    return predict(load_net(record), stores[split].images, mean, views, divisor=divisor).numpy()


def averaged(nets: Sequence[np.ndarray], weights: Sequence[float] | None = None) -> np.ndarray:
    """The weighted mean of the probabilities of several nets, (N, classes) each; equal weights unless given."""
    weights = np.ones(len(nets)) if weights is None else np.asarray(weights, float)
    if weights.sum() <= 0:
        raise ValueError("the weights of the nets sum to nothing")
    if not all(np.isfinite(net).all() for net in nets):
        raise ValueError("probabilities hold NaN or infinities; they would spoil the average")
    return np.tensordot(weights / weights.sum(), np.asarray(nets), axes=1)


def equal_nets(labels: np.ndarray, count: int = 5, strength: float = 1.5, classes: int = 10, seed: int = 0):
    """Probabilities (N, classes) of imagined nets that are equally good and err independently."""
    generator = np.random.default_rng(seed)
    logits = strength * np.eye(classes)[labels] + generator.standard_normal((count, len(labels), classes))
    exponents = np.exp(logits)
    return list(exponents / exponents.sum(2, keepdims=True))


def fitted_on_chance(images: Sequence[int], draws: int = 10, k: int = 1) -> pd.DataFrame:
    """What fitted weights gain over equal ones, in points, for nets that deserve equal weights.

    One row for each number of images that they are fitted on: "on the same images" and "on 2000 others", means over
    draws of imagined nets.
    """
    rows = []
    for count in images:
        gains = []
        for seed in range(draws):
            labels = np.random.default_rng([seed, count]).integers(0, 10, count + 2000)
            nets = equal_nets(labels, seed=seed)
            weights = fit_weights([p[:count] for p in nets], labels[:count], k)
            for part in (slice(0, count), slice(count, None)):
                those = [p[part] for p in nets]
                equal, fitted = (top_k_error(averaged(those, w), labels[part], (k,))[k] for w in (None, weights))
                gains.append(equal - fitted)
        own, others = 100 * np.mean(np.reshape(gains, (draws, 2)), axis=0)
        rows.append({"images": count, "on the same images": own, "on 2000 others": others})
    return pd.DataFrame(rows)


def fit_weights(nets: Sequence[np.ndarray], labels: np.ndarray, k: int = 5, step: float = 0.05, rounds: int = 5):
    """Weights of nets that make the error of their average smallest on these images, by the search of avg-valid.py.

    All begin at one half. Each in turn moves to the place on a grid from 0 to 1 with the smallest error, until a round
    changes nothing. They gain more on the images that they were fitted on than on others.
    """
    weights, grid = np.full(len(nets), 0.5), np.arange(0, 1 + step / 2, step)

    def error(i: int, value: float) -> float:
        tried = weights.copy()
        tried[i] = value
        return top_k_error(averaged(nets, tried), labels, (k,))[k] if tried.sum() > 0 else 1.0

    for _ in range(rounds):
        before = weights.copy()
        for i in range(len(nets)):
            errors = [error(i, value) for value in grid]
            if min(errors) < error(i, weights[i]):
                weights[i] = grid[int(np.argmin(errors))]
        if (weights == before).all():
            break
    return weights


def main(arguments=None) -> None:
    """Print the errors of finished runs, and of the average of their probabilities."""
    parser = argparse.ArgumentParser(
        "python -m alexnet_lib.study.log2012", description=(__doc__ or " ").splitlines()[0]
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="the folder of a finished run")
    parser.add_argument("--split", default="val", help="val, or test if the data set has it")
    given = parser.parse_args(arguments)
    with ends_well(parser, "it only reads"):
        records = [Record.open(run) for run in given.runs]
        if len({record.config["dataset"] for record in records}) > 1:
            raise ValueError("the runs are of different data sets; an average needs nets that answer the same question")
        for views, named in ((1, "1 view"), (10, "10 views")):
            nets = [(record.folder.name, probabilities(record, given.split, views)) for record in records]
            if len(nets) > 1:
                nets.append(("their average", averaged([p for _, p in nets])))
            labels = load_dataset(records[0].config["dataset"])[given.split].labels
            for name, p in nets:
                errors = top_k_error(p, labels)
                print(f"{name}: {named}, top-1 {100 * errors[1]:.2f} %, top-5 {100 * errors[5]:.2f} %")


if __name__ == "__main__":
    main()
