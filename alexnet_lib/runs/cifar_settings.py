"""§3.1 and §3.3, what can be asked of a run of a CIFAR net, and its schedule."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BeforeValidator, Field

from ..cifar_nets import ACTIVATIONS, INITIALISATIONS, NETS
from ..dataset import Store, is_prepared
from ..paths import runs_dir
from .settings import Auto, Count, Dataset, Epochs, Finite, FolderName, Positive, Seed, Share, checked, find_device


def _as_tuples(stages):  # JSON knows lists only
    return tuple(tuple(stage) for stage in stages) if isinstance(stages, list) else stages


@checked
class CifarSettings:
    """A training run of a CIFAR net. "auto" means what suits the data and the net; `resolve` says what that is.

    input_divisor: the mean is taken off the pixels and the rest divided by this; 1 as in 2012, and 64 brings them
        close to unit variance. augmentation: random crops, where the net takes less than 32 pixels, and reflections.
    stages: (epochs, factor on the rate of the weights), one after the other; the rate of the biases stays.
    weight_decay: a factor on the decays of the net's file. target_error: training error that ends the run.
    give_up_epochs: from this epoch on a run ends that would miss the target at its pace over so many epochs; one that
        has not begun to learn, after three times as many, unless its loss shows that it never will.
    compiled: the normalisation may use torch.compile.
    """

    dataset: Dataset = "auto"
    net: Literal[tuple(NETS)] = "19pct"
    activation: Literal[tuple(ACTIVATIONS)] = "relu"
    initialisation: Literal[INITIALISATIONS] = "published"
    normalization: Literal["published", "lrn"] | None = "published"
    image_size: Auto | Count = "auto"
    input_divisor: Positive = 1.0
    augmentation: bool = True
    stages: Annotated[tuple[tuple[Epochs, Positive], ...], BeforeValidator(_as_tuples), Field(min_length=1)] = (
        (20, 1.0),
    )
    batch_size: Count = 128
    learning_rate: Positive = 0.001
    bias_rate: Auto | Positive = "auto"
    weight_decay: Annotated[Finite, Field(ge=0)] = 1.0
    target_error: Share | None = None
    give_up_epochs: Epochs | None = None
    seed: Seed = 0
    device: str = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    compiled: bool = False
    experiment: FolderName = "cifar"
    name: FolderName = "auto"

    @property
    def folder(self) -> Path:
        """Where a resolved run is recorded."""
        return runs_dir() / self.experiment / self.name

    @property
    def epochs(self) -> int:
        return sum(epochs for epochs, _ in self.stages)

    def rate(self, epoch: int) -> float:
        """The rate of the weights in an epoch, counted from 0."""
        ends = np.cumsum([epochs for epochs, _ in self.stages])
        return self.learning_rate * self.stages[int(np.searchsorted(ends, epoch, side="right"))][1]


def published_stages(epochs: int) -> tuple[tuple[int, float], ...]:
    """The schedule of the 11 % net in so many epochs: at the end a tenth of the rate, and a tenth of that.

    The file has 500, 10 and 10; here each of the last two gets a twenty-fifth, and at least one.
    """
    tail = max(1, round(epochs / 25))
    if epochs < 3:
        raise ValueError(f"epochs = {epochs}; accepted are 3 and more")
    return ((epochs - 2 * tail, 1.0), (tail, 0.1), (tail, 0.01))


def resolve(settings: CifarSettings, store: Store) -> CifarSettings:
    """Replace every "auto" by its value for this training store.

    Raises:
        ValueError: a device that is not there, or a crop larger than the stored images.
    """
    chosen = {
        "dataset": choose_pictures(settings.dataset),
        "image_size": NETS[settings.net].image_size,
        "bias_rate": 2 * settings.learning_rate,
        "device": find_device(settings.device),
    }
    run = dataclasses.replace(settings, **{k: v for k, v in chosen.items() if getattr(settings, k) == "auto"})
    if run.image_size > store.size:
        raise ValueError(f"image_size = {run.image_size}; the stored images have {store.size} pixels")
    return dataclasses.replace(run, name=_name(run, store)) if run.name == "auto" else run


def choose_pictures(name: str) -> str:
    """What "auto" means: CIFAR-10 where it is prepared, else the generated collection of its size."""
    if name != "auto":
        return name
    return "cifar10" if is_prepared("cifar10") else "embedded32"


def _name(run: CifarSettings, store: Store) -> str:
    """A name for people, and a hash of everything that decides the result."""
    decides = {k: v for k, v in dataclasses.asdict(run).items() if k not in ("name", "experiment")}
    digest = hashlib.sha256(json.dumps([decides, store.meta["fingerprint"]], sort_keys=True).encode()).hexdigest()
    parts = (Path(run.dataset).name, run.net, run.activation, f"rate{run.learning_rate:g}", f"seed{run.seed}")
    return "-".join((*parts, digest[:8]))
