"""§5, what the files of a run must hold, as far as anything depends on it."""

from typing import Annotated

from pydantic import Field

from ..files import Stored

HISTORY = ("epoch", "split", "loss", "top1")  # columns of history.csv


class Summary(Stored):
    """summary.json."""

    metrics: dict[str, dict[str, dict[str, float]]]
    epochs: Annotated[int, Field(ge=0)]
    classes: Annotated[int, Field(ge=1)]
    dataset: dict[str, str]
    digests: dict[str, str] = {}


class Rule(Stored):
    """Where a plateau rule was."""

    best: float
    waited: int
    dropped: int


class Rates(Stored):
    """The learning rates of a group of parameters: of the next step, and the one that its velocities are of."""

    lr: float
    buffer_lr: float


class Progress(Stored):
    """The plain part of a checkpoint, of this version and of older ones."""

    epoch: Annotated[int, Field(ge=0)] = 0
    step: Annotated[int, Field(ge=0)] = 0
    sums: Annotated[list[float], Field(min_length=3, max_length=3)] = [0.0] * 3
    history: list[dict[str, float | str | None]] = []
    rates: list[Rates] = []
    rule: Rule | None = None
    data: dict[str, str] | None = None
    settings: dict | None = None
