"""§6 and §6.1, measured on trained nets and kept as tables: averages, kernels, nearest neighbours and codes.

    python -m alexnet_lib.experiments.trained --seeds 0 1 2 3 4
    python -m alexnet_lib.experiments.trained --dataset embedded --epochs 45 --seeds 0 1 2

The nets are the baselines of `ablations` with the same options, trained first where a run isn't finished. The tables
lie in results/reference/trained-<dataset>/:

    ensemble.csv    errors of single nets, of the average of several, and of weighted averages
    kernels.csv     colourfulness of the first layer's kernels by column
    retrieval.csv   precision among the six nearest training images, by features, by pixels and by codes
    labels.csv      how often the best wrong guess shares a word with the true class (built-in pictures)
"""

import dataclasses
import os
import time
from collections.abc import Sequence
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from .. import qualitative as ask
from ..architecture import NETS
from ..dataset import HOW_TO_GET, Store, load_dataset
from ..evaluation import mean_of, top_k_error
from ..files import read_array, write_json
from ..paths import REFERENCE, runs_dir
from ..runs.fields import check
from ..runs.provenance import provenance
from ..runs.records import Record, write_table
from ..runs.settings import TrainSettings, resolve
from ..study.log2012 import averaged, fit_weights, probabilities
from ..training import load_net, train
from .ablations import any_kept, run_variant
from .common import (
    PHOTOGRAPHS,
    about_of,
    add_settings,
    as_options,
    command,
    command_line,
    kept_table,
    made_of,
    options_of,
    refuse_less,
    settings_given,
    spread_of,
    whole,
)

EPOCHS = {PHOTOGRAPHS: 15, "embedded": 45}  # of the kept runs
BITS = (16, 64, 256)
NEAREST = 6
SMALL_SIDE = 16  # pixels, of the pictures whose pixels are coded
QUERIES, KNOWN = 1000, 10_000  # the most validation and training images


def folder_of(dataset: str, folder: Path = REFERENCE) -> Path:
    return folder / f"trained-{Path(dataset).name}"


def table(name: str, dataset: str = PHOTOGRAPHS, folder: Path = REFERENCE) -> pd.DataFrame:
    """A kept table; see `kept_table`."""
    path = folder_of(dataset, folder) / f"{name}.csv"
    return kept_table(path, "" if path.is_file() else command_for(dataset, folder))


def command_for(dataset: str, folder: Path = REFERENCE) -> str:
    """The command that makes the tables, but for its seeds; with the settings of the kept baselines, if there are any.

    Of tables that are kept, the one that made them.
    """
    alike = any_kept(dataset, folder)
    command = f"python -m alexnet_lib.experiments.trained --dataset {dataset}{options_of(alike) if alike else ''}"
    return about_of(folder_of(dataset, folder)).get("command", command).partition(" --seeds ")[0]


def ensemble(nets: dict[int, np.ndarray], labels: np.ndarray) -> list[dict]:
    """Errors in per cent of single nets and averages; nets: probabilities (N, classes) by seed.

    Kinds: "single", each net; "average", every choice of two nets or more; "fitted", with weights fitted as in 2012 on
    every second image, and "equal", with equal ones, each on these images ("same half") and the others ("other half").
    """
    rows = []
    for count in range(1, len(nets) + 1):
        for chosen in combinations(nets, count):
            p = averaged([nets[seed] for seed in chosen])
            rows.append(_errors("single" if count == 1 else "average", chosen, p, labels))
    weights = fit_weights([p[::2] for p in nets.values()], labels[::2], k=1)
    for half, part in {"same half": slice(0, None, 2), "other half": slice(1, None, 2)}.items():
        those = [p[part] for p in nets.values()]
        rows.append(_errors(f"equal, {half}", tuple(nets), averaged(those), labels[part]))
        rows.append(_errors(f"fitted, {half}", tuple(nets), averaged(those, weights), labels[part]))
    return rows


def _errors(kind: str, chosen: Sequence[int], p: np.ndarray, labels: np.ndarray) -> dict:
    errors = {f"top{k}": round(100 * e, 4) for k, e in top_k_error(p, labels).items()}
    return {"kind": kind, "nets": len(chosen), "seeds": " ".join(map(str, chosen)), **errors}


def kernels(record: Record, seed: int) -> list[dict]:
    """Colourfulness of each kernel of a run's first layer."""
    weights = load_net(record).conv1.weight.detach().numpy()
    values, half = ask.colourfulness(weights), len(weights) // 2
    rows = enumerate(values.round(5).tolist())
    return [{"seed": seed, "map": i, "column": 1 + (i >= half), "colourfulness": value} for i, value in rows]


def retrieval(record: Record, seed: int, stores: dict[str, Store]) -> list[dict]:
    """Precision among the nearest of KNOWN training images to QUERIES validation images, one row a way to compare."""
    from ..study.baselines import small_pixels  # loads scikit-learn

    train, val, crop = stores["train"].spread(KNOWN), stores["val"].spread(QUERIES), record.config["image_size"]
    images, net, mean = (val.images, train.images), load_net(record), mean_of(train, crop)
    features = [ask.hidden_features(net, x, mean) for x in images]
    near = ask.neighbours(*features, NEAREST)
    near_by_pixels = ask.neighbours(*images, NEAREST, partial(ask.pixel_features, crop=crop))
    found = {("features", "none", 0): near, ("pixels", "none", 0): near_by_pixels}
    small = [small_pixels(x, SMALL_SIDE) for x in images]
    for of, (queries, known) in {"features": features, "pixels": small}.items():
        for bits in BITS:
            coder = ask.train_autoencoder(known, bits, seed=seed)
            codes = {"autoencoder": (ask.codes_of(coder, queries), ask.codes_of(coder, known))}
            codes["random planes"] = ask.random_codes(queries, known, bits, seed)
            found |= {(of, code, bits): ask.hamming_neighbours(*pair, NEAREST) for code, pair in codes.items()}
    rows = [{"seed": seed, "of": of, "code": code, "bits": bits} for of, code, bits in found]
    for row, each in zip(rows, found.values(), strict=True):
        row["precision"] = round(ask.precision(each, val.labels, train.labels), 5)
    shared = round(ask.shared(near, near_by_pixels), 5)
    return [*rows, {"seed": seed, "of": "both", "code": "none", "bits": 0, "shared": shared}]


def measure(
    dataset: str,
    epochs: int | str,
    seeds: Sequence[int],
    device: str = "auto",
    folder: Path = REFERENCE,
    **changes,
):
    """Measure the nets of all seeds, and keep the tables.

    changes: further settings of the runs, of `common.SETTINGS`.

    Raises:
        ValueError: tables of other epochs, settings or pictures, or of more seeds, are kept already.
    """
    stores, kept = load_dataset(dataset), folder_of(dataset, folder)
    asked = f"python -m alexnet_lib.experiments.trained --dataset {dataset} --epochs {epochs}{as_options(changes)}"
    asked_of = {"dataset": dataset, "epochs": epochs, "device": device, "experiment": "ablations"} | changes
    of_seeds = {seed: check(TrainSettings, asked_of | {"seed": seed}) for seed in seeds}
    made = made_of(resolve(of_seeds[seeds[0]], stores["train"]), stores)
    refuse_less(kept, "kernels.csv", asked, seeds, made)
    kept.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[dict]] = {"kernels": [], "retrieval": [], "labels": []}
    nets = {}
    for seed, settings in of_seeds.items():
        record = run_variant(settings, "baseline")
        nets[seed] = probabilities(record)
        rows["kernels"] += kernels(record, seed)
        rows["retrieval"] += retrieval(record, seed, stores)
        if all("_" in name for name in stores["val"].classes):
            times = ask.plausibility(nets[seed], stores["val"].labels, stores["val"].classes)
            rows["labels"].append({"seed": seed, "times_chance": round(times, 5)})
    rows["ensemble"] = ensemble(nets, stores["val"].labels)
    for name, each in rows.items():
        if each:
            write_table(kept / f"{name}.csv", each)
    config = {k: v for k, v in dataclasses.asdict(settings).items() if k not in ("seed", "device")}
    command = f"{asked} --seeds {' '.join(map(str, seeds))}"
    write_json(kept / "about.json", {"command": command, "config": config, **made, **provenance()})


def run_to_look_at(dataset: str, name: str = "auto", epochs: int = 10, seed: int = 0, device: str = "auto") -> Record:
    """A finished run of the reader's: one by its name, or one of notebook 07; if there is none, a short one is trained.

    Of notebook 07's runs, that of its defaults, or the longest of at least `epochs` on these pictures whose net has
    the hidden layer that is asked for features.

    Raises:
        FileNotFoundError: no finished run of that name.
        ValueError: it is of another data set, or its net does not have that layer.
    """
    if name != "auto":
        record = Record.open(runs_dir() / "train" / name)
        of = record.config["dataset"]
        if dataset != "auto" and _pictures(dataset) != _pictures(of):
            raise ValueError(f"the run {name} is of {of!r}, and dataset = {dataset!r}")
        if not _has_last_hidden(record.config):
            raise ValueError(
                f"run = {name!r}, whose net has no layer {ask.LAST_HIDDEN}; accepted are runs of {', '.join(NETS)}, "
                "with activation = 'relu' and with fc7 left in"
            )
        return record
    settings = check(TrainSettings, {"dataset": dataset, "seed": seed, "device": device})
    store = load_dataset(dataset)["train"]
    run = resolve(settings, store)
    if (run.folder / "summary.json").is_file():
        return train(settings)  # which checks that the run is what its name says
    finished = [Record.open(path.parent) for path in sorted(run.folder.parent.glob("*/summary.json"))]
    others = [r for r in finished if r.summary["dataset"]["train"] == store.meta["fingerprint"]]
    others = [r for r in others if _has_last_hidden(r.config) and r.config.get("epochs", 0) >= epochs]
    if others:
        return max(others, key=lambda r: r.config["epochs"])
    return train(dataclasses.replace(settings, epochs=epochs))


def _pictures(dataset: str) -> str:
    """A data set's name, or the folder that a path leads to, however it is written."""
    return dataset if dataset in HOW_TO_GET else os.path.realpath(os.path.expanduser(dataset))


def _has_last_hidden(config: dict) -> bool:
    """Whether the net of a run with this configuration has the layer `qualitative.LAST_HIDDEN`."""
    return config.get("net") in NETS and config.get("activation", "relu") == "relu" and config.get("without") != "fc7"


def by_product(queries: np.ndarray, known: np.ndarray) -> torch.Tensor:
    """The rows of `known` nearest to each query, by one product in float32.

    What is quickest; `qualitative.neighbours` also tells apart numbers that are large and alike.
    """
    asked, known = torch.from_numpy(queries), torch.from_numpy(known)
    return ((known**2).sum(1) - 2 * asked @ known.T).topk(NEAREST, largest=False).indices


def search_seconds(queries: np.ndarray, known: np.ndarray, codes: dict[int, list[np.ndarray]]) -> pd.DataFrame:
    """How long each search for the nearest of `known` (N, F) to all queries takes, and the bytes it keeps of an image.

    Only a hundred queries go to the tree. codes: by number of bits, the codes of the queries and of the known.
    """
    from sklearn.neighbors import BallTree  # half a second to load

    tree = BallTree(known)
    searches = {f"{known.shape[1]} numbers, matrix product": (lambda: by_product(queries, known), known)}
    searches[f"{known.shape[1]} numbers, ball tree"] = (lambda: tree.query(queries[:100], NEAREST), known)
    for bits, pair in codes.items():
        searches[f"{bits} bits"] = (lambda pair=pair: ask.hamming_neighbours(*pair), pair[1])
    rows = []
    for name, (search, stored) in searches.items():
        began = time.perf_counter()
        search()
        seconds = (time.perf_counter() - began) * (len(queries) / min(100, len(queries)) if "tree" in name else 1)
        rows.append({"search": name, "milliseconds": 1000 * seconds, "bytes an image": stored[0].nbytes})
    return pd.DataFrame(rows)


def ensemble_gain(column: str = "top1", dataset: str = PHOTOGRAPHS, folder: Path = REFERENCE) -> tuple:
    """How many points the average of all nets is better than a single one: mean, standard deviation, number.

    Raises:
        FileNotFoundError: fewer than five nets are kept.
    """
    errors = table("ensemble", dataset, folder)
    single = errors.query("kind == 'single'")[column]
    if len(single) < 5:
        command = f"{command_for(dataset, folder)} --seeds 0 1 2 3 4"
        raise FileNotFoundError(f"{len(single)} nets are kept; `{command}` makes more")
    together = errors[(errors["kind"] == "average") & (errors["nets"] == len(single))]
    return spread_of(single - together[column].item())


def column_differences(dataset: str = PHOTOGRAPHS, folder: Path = REFERENCE) -> pd.DataFrame:
    """For each seed the mean colourfulness of both columns' kernels, their difference, and its p by chance."""
    rows = []
    for seed, of_seed in table("kernels", dataset, folder).groupby("seed"):
        values = of_seed.sort_values("map")["colourfulness"].to_numpy()
        first, second = (half.mean() for half in np.split(values, 2))
        difference, p = ask.column_difference(values)
        rows.append({"seed": seed, "first column": first, "second column": second, "difference": difference, "p": p})
    return pd.DataFrame(rows)


def full_size_kernels(name: str = "imagenette-code2012", folder: Path = REFERENCE) -> np.ndarray:
    """The first layer of a kept run of the full-size net, (96, 3, 11, 11) float32."""
    return read_array(folder / name / "conv1.npy", np.float16, (96, 3, 11, 11)).astype(np.float32)


def precisions(dataset: str = PHOTOGRAPHS, folder: Path = REFERENCE) -> pd.DataFrame:
    """Precision in per cent, one row a way to compare (of, code, bits), one column a seed."""
    rows = table("retrieval", dataset, folder).query("of != 'both'")
    return 100 * rows.pivot(index=["of", "code", "bits"], columns="seed", values="precision")


def main(arguments=None) -> None:
    parser = command_line("trained", __doc__, seeds=[0, 1, 2, 3, 4])
    parser.add_argument("--dataset", default=PHOTOGRAPHS, help=f"a name or a folder ({PHOTOGRAPHS})")
    of = ", ".join(f"{epochs} of {dataset}" for dataset, epochs in EPOCHS.items())
    parser.add_argument("--epochs", type=whole(1), help=f"those of the kept runs unless given: {of}; else 15")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps; auto: the best there is (auto)")
    add_settings(parser)
    with command(parser, arguments) as given:
        epochs = EPOCHS.get(given.dataset, 15) if given.epochs is None else given.epochs
        measure(given.dataset, epochs, given.seeds, given.device, **settings_given(given))


if __name__ == "__main__":
    main()
