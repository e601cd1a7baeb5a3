"""§5, what the files of a run must hold, as far as anything depends on it."""

from typing import Annotated, Literal

from pydantic import Field

from ..files import Stored

HISTORY = ("epoch", "split", "loss", "top1")  # columns of history.csv
Whole = Annotated[int, Field(ge=0)]


class Summary(Stored):
    """summary.json."""

    metrics: dict[str, dict[str, dict[str, float]]]
    epochs: Whole
    classes: Annotated[int, Field(ge=1)]
    dataset: dict[str, str]
    digests: dict[str, str] = {}


class Progress(Stored):
    """The plain part of a checkpoint, of this version and of older ones."""

    epoch: Whole = 0
    step: Whole = 0
    sums: Annotated[list[float], Field(min_length=3, max_length=3)] = [0.0] * 3
    history: list[dict[str, float | str | None]] = []
    rates: list[Annotated[dict[Literal["lr", "buffer_lr"], float], Field(min_length=2)]] = []
    rule: Annotated[dict[Literal["best", "waited", "dropped"], float], Field(min_length=3)] | None = None
    data: dict[str, str] | None = None
    settings: dict | None = None


class Exported(Stored):
    """config.json of an exported folder: settings, and these beside them."""

    net: str
    classes: Annotated[list[str], Field(min_length=1)]
    words: list[str] | None = None
