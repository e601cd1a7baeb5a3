"""§5, what the files of a run, and notebooks, must hold, as far as anything depends on it."""

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from ..files import Stored, sha256

HISTORY = ("epoch", "split", "loss", "top1")  # columns of history.csv
Whole = Annotated[int, Field(ge=0)]


def _are_rates(errors: dict[str, float]) -> dict[str, float]:
    if any(errors.get(name, 0) > 1 for name in ("top1", "top5")):
        raise ValueError("error rates from 0 to 1")
    return errors


Errors = Annotated[dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]], AfterValidator(_are_rates)]


class Versions(Stored):
    """What a run was computed with; torch is named where its net goes to others."""

    torch: str


class Chosen(Stored):
    """config.json: what every run has of its settings."""

    dataset: str
    net: str
    image_size: Annotated[int, Field(ge=1)]
    seed: int
    precision: str


class Summary(Stored):
    """summary.json."""

    metrics: dict[str, dict[str, Errors]]
    epochs: Whole
    classes: Annotated[int, Field(ge=1)]
    dataset: dict[str, str]
    images: dict[str, Whole]
    parameters: Whole
    versions: Versions
    commit: str | None  # None where the run was made without a checkout
    warnings: list[str] = []  # not in records from before there were some
    digests: dict[str, str] = {}


# where a run lies and what does the work; none of it decides what is computed
WHERE = ("name", "experiment", "device", "devices", "columns")
# what a run did before there was a choice, which its name leaves out
OLDER_DEFAULTS = {"augmentation": "all", "speed": "repeatable"}
# what a kept config.json that lacks a field means by that
NOT_RECORDED = OLDER_DEFAULTS | {"normalization": "own", "pooling": "overlapping", "activation": "relu"}
NOT_RECORDED |= {"without": None, "geometry": "own", "compiled": False}
# of summary.json, what numbers are taken from; the rest tells of clocks, warnings and machines
RESULTS = ("metrics", "epochs", "classes", "dataset", "images", "parameters", "seed")


def digests_of(folder: Path, config: dict, summary: dict) -> dict[str, str]:
    """SHA-256 of a finished run: of its history, of the settings that decide what is computed, and of RESULTS.

    A data set may have been moved: RESULTS hold the fingerprints of its pictures.
    """
    decides = {name: value for name, value in config.items() if name not in (*WHERE, "dataset")}
    results = {name: summary.get(name) for name in RESULTS}
    texts = {"history.csv": (folder / "history.csv").read_bytes().replace(b"\r\n", b"\n")}  # as git may give it
    for name, values in {"config.json": decides, "summary.json": results}.items():
        texts[name] = json.dumps(values, sort_keys=True).encode()
    return {name: sha256(text) for name, text in texts.items()}


class Progress(Stored):
    """The plain part of a checkpoint, of this version and of older ones."""

    epoch: Whole = 0
    step: Whole = 0
    sums: Annotated[list[float], Field(min_length=3, max_length=3)] = [0.0] * 3
    history: list[dict[str, float | str | None]] = []
    recent: list[float] = []
    rates: list[Annotated[dict[Literal["lr", "buffer_lr"], float], Field(min_length=2)]] = []
    rule: Annotated[dict[Literal["best", "waited", "dropped"], float], Field(min_length=3)] | None = None
    data: dict[str, str] | None = None
    settings: dict | None = None


class Exported(Stored):
    """config.json of an exported folder: settings, and these beside them."""

    net: str
    classes: Annotated[list[str], Field(min_length=1)]
    words: list[str] | None = None


class Cell(Stored):
    cell_type: str
    source: str | list[str]
    metadata: dict


class Notebook(Stored):
    """What a notebook must hold."""

    nbformat: Annotated[int, Field(ge=4)]
    nbformat_minor: int
    metadata: dict
    cells: list[Cell]
