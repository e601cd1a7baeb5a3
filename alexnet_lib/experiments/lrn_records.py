"""§3.3's claim on CIFAR-10, "13 % without normalisation, 11 % with it", in the kept runs of `cifar_experiments.lrn`."""

import math
from pathlib import Path

import pandas as pd

from ..paths import REFERENCE
from ..runs.cifar_settings import CifarSettings, choose_pictures
from ..runs.notebooks import LrnSettings
from ..runs.records import Record
from .common import require_alike, spread_of

VIEWS = ("1 view", "9 shifts", "10 views")
LRN_NETS = ("conv-local-13pct", "conv-local-11pct-first", "conv-local-11pct-final")
# without and with normalisation: nothing else changed, and the final files of 2012
LRN_PAIRS = {"clean": LRN_NETS[:2], "published": (LRN_NETS[0], LRN_NETS[2])}


def _records(folder: Path) -> list[tuple[dict, Record]]:
    """The kept records, each with its net, schedule and seed.

    Raises:
        ValueError: two of one number of epochs differ in more than these, in their precision or what was compiled.
    """
    records = [Record.open(path.parent) for path in sorted(Path(folder).glob("lrn-*/summary.json"))]
    for epochs in {record.summary["epochs"] for record in records}:
        require_alike([record for record in records if record.summary["epochs"] == epochs], ("net", "seed"))
    return [({"net": r.config["net"]} | {key: r.summary[key] for key in ("epochs", "seed")}, r) for r in records]


def lrn_table(folder: Path = REFERENCE) -> pd.DataFrame:
    """One row a record: net, epochs, seed, precision, parameters, pictures, and the top-1 error (0 to 1) by VIEWS."""
    rows = []
    for run, record in _records(folder):
        seen = record.summary["metrics"]["val"]
        copy = ", a lossy copy" if record.summary.get("lossy_pictures") else ""
        about = {"precision": record.config["precision"], "parameters": record.summary["parameters"]}
        about |= {"pictures": record.config["dataset"] + copy}
        rows.append(run | about | {views: seen[views]["top1"] if views in seen else math.nan for views in VIEWS})
    columns = ["net", "epochs", "seed", "precision", "parameters", "pictures", *VIEWS]
    return pd.DataFrame(rows, columns=columns).sort_values(columns[:3], kind="stable", ignore_index=True)


def lrn_gains(folder: Path = REFERENCE) -> pd.DataFrame:
    """How many points lower the error of a net with normalisation is, over the seeds that both nets of a pair have.

    Columns: pair (of LRN_PAIRS), views (of VIEWS), epochs, points, deviation (over seeds; NaN for one), seeds.
    """
    errors = lrn_table(folder).melt(["net", "epochs", "seed"], VIEWS, "views", "error").astype({"error": float})
    errors = errors.pivot(index=["views", "epochs", "seed"], columns="net", values="error").reindex(columns=LRN_NETS)
    points = {pair: 100 * (errors[without] - errors[with_it]) for pair, (without, with_it) in LRN_PAIRS.items()}
    gains = pd.DataFrame(points).melt(ignore_index=False, var_name="pair", value_name="points").dropna()
    gains = gains.groupby(["pair", "views", "epochs"])["points"].agg(points="mean", deviation="std", seeds="size")
    return gains.reset_index()


def lrn_gain(views: str, pair: str, epochs: int | str, folder: Path = REFERENCE) -> tuple[float, float, int]:
    """Points, deviation and seeds of `lrn_gains` for a pair, on a schedule of so many epochs; NaN, NaN and 0 for none.

    Raises:
        ValueError: no such views or pair.
    """
    if views not in VIEWS or pair not in LRN_PAIRS:
        raise ValueError(f"views {views!r} of pair {pair!r}; accepted are {', '.join(VIEWS)} of {', '.join(LRN_PAIRS)}")
    epochs = int(epochs)
    gains = lrn_gains(folder).query("views == @views and pair == @pair and epochs == @epochs")
    rows = gains[["points", "deviation", "seeds"]].itertuples(index=False, name=None)
    return next(rows, (math.nan, math.nan, 0))


def lrn_error(net: str, views: str, epochs: int | str, folder: Path = REFERENCE) -> tuple[float, float, int]:
    """Test error in per cent of a net, on a schedule of so many epochs: mean, deviation over seeds, seeds."""
    epochs = int(epochs)
    return spread_of(100 * lrn_table(folder).query("net == @net and epochs == @epochs")[views].astype(float))


def lrn_curves(folder: Path = REFERENCE) -> pd.DataFrame:
    """Errors from 0 to 1 by epoch. Columns: net, epochs (of its schedule), seed, epoch, train, test.

    train: of the random crops of an epoch, each before the net learns from it. test: after the epoch, with one view.
    """
    columns = ["net", "epochs", "seed", "epoch", "train", "test"]
    curves = [pd.DataFrame(columns=columns)]
    for run, record in _records(folder):
        errors = record.history.pivot(index="epoch", columns="split", values="top1").rename(columns={"val": "test"})
        curves.append(errors.reset_index().assign(**run)[columns])
    return pd.concat(curves[1:] or curves, ignore_index=True)


def lrn_pair(asked: LrnSettings) -> dict[str, CifarSettings]:
    """Notebook 03's two small nets, which differ only in the normalisation: {"without": …, "with": …}.

    On the generated pictures they train just long enough to have kernels to look at.
    """
    dataset = choose_pictures(asked.dataset)
    auto = {"image_size": 16, "batch_size": 16, "epochs": 1}
    if dataset != "embedded32":
        auto = {"image_size": 24, "batch_size": 128, "epochs": 20}
    chosen = {name: auto[name] if getattr(asked, name) == "auto" else getattr(asked, name) for name in auto}
    common = {"dataset": dataset, "stages": ((chosen.pop("epochs"), 1.0),), "experiment": "lrn-pair", **chosen}
    common |= {name: getattr(asked, name) for name in ("learning_rate", "seed", "device")}
    nets = dict(zip(("without", "with"), LRN_PAIRS["clean"], strict=True))
    return {name: CifarSettings(net=net, **common) for name, net in nets.items()}
