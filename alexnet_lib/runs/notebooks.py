"""What each notebook can be asked: the parameters of its settings cell, checked before any work begins."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from ..architecture import NETS
from ..data.preparation import decode
from .cells import said
from .fields import Auto, Count, Dataset, Epochs, FolderName, Positive, Seed, check, checked

# what no parameters cell has to begin with, though a reader may add it, and Papermill inject it
OF_NO_NOTEBOOK = ("augmentation", "experiment", "geometry", "name")


@checked
class DatasetSettings:
    """Notebook 00. pictures: of training, for the two classifiers without a network."""

    dataset: Dataset = "auto"
    pictures: Annotated[int, Field(ge=2, le=1_000_000)] = 4000
    seed: Seed = 0


@checked
class ArchitectureSettings:
    """Notebook 01."""

    net: Literal[tuple(NETS)] = "paper"
    width: Annotated[float, Field(gt=0, le=4, allow_inf_nan=False)] = 1.0
    num_classes: Annotated[int, Field(ge=1, le=100_000)] = 1000
    image_size: Annotated[int, Field(ge=64, le=1024)] = 224  # with fewer pixels nothing reaches pool5
    seed: Seed = 0


@checked
class ReluSettings:
    """Notebook 02. epochs, and learning rates, of the races that it runs itself."""

    dataset: Auto | Literal["embedded32", "cifar10"] = "auto"
    epochs: Epochs = 4
    relu_rate: Positive = 0.003
    tanh_rate: Positive = 0.03
    seed: Seed = 0
    device: str = "auto"


@checked
class LrnSettings:
    """Notebook 03: its two small nets. The rest of a CIFAR net's settings are in `cifar_settings.CifarSettings`."""

    dataset: Auto | Literal["embedded32", "cifar10"] = "auto"
    image_size: Auto | Annotated[int, Field(ge=8, le=32)] = "auto"
    epochs: Auto | Epochs = "auto"
    batch_size: Auto | Count = "auto"
    learning_rate: Positive = 0.001
    seed: Seed = 0
    device: str = "auto"


@checked
class PoolingSettings:
    """Notebook 04."""

    dataset: Dataset = "auto"
    epochs: Epochs = 16
    seed: Seed = 0
    device: str = "auto"


@checked
class AugmentationSettings:
    """Notebook 05. epochs: of the net that is tested in other lights; noise_std: of α; steps: of the full-size net."""

    dataset: Dataset = "auto"
    epochs: Epochs = 10
    noise_std: Annotated[float, Field(ge=0.0001, le=100)] = 0.1
    steps: Annotated[int, Field(ge=1, le=100)] = 2
    seed: Seed = 0
    device: str = "auto"


@checked
class DropoutSettings:
    """Notebook 06. epochs: of its small nets without dropout; those with dropout take twice as many."""

    dataset: Dataset = "auto"
    epochs: Epochs = 20
    seed: Seed = 0
    device: str = "auto"


@checked
class ResultsSettings:
    """Notebook 08. epochs: of a short chain of pre-training, on the many classes and on the few."""

    dataset: Dataset = "auto"
    many_epochs: Epochs = 5
    few_epochs: Epochs = 24
    seed: Seed = 0
    device: str = "auto"


def _picture(path: str) -> str:
    try:
        decode(Path(path).expanduser().read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"the path of a picture ({error})") from None
    return path


@checked
class QualitativeSettings:
    """Notebook 09. run: a folder in runs/train; picture: of the reader's; epochs: of a run, where there is none."""

    dataset: Dataset = "auto"
    run: FolderName = "auto"
    picture: Annotated[str, AfterValidator(_picture)] | None = None
    epochs: Epochs = 10
    seed: Seed = 0
    device: str = "auto"


@checked
class GoogLeNetSettings:
    """Notebook 10. epochs: of short runs, one of each net, of 126 batches an epoch at most."""

    dataset: Dataset = "auto"
    epochs: Epochs = 1
    seed: Seed = 0
    device: str = "auto"


def parameters(kind: type, namespace: dict):
    """The settings that a notebook's parameters cell and Papermill's injected cell ask for.

    Papermill only warns about a name that it does not know, and a misspelt one would then train the wrong thing. What
    other cells assign does not matter, and neither does the order in which cells ran.

    Args:
        kind: the dataclass of the notebook's parameters.
        namespace: the notebook's `globals()`.

    Raises:
        ValueError: as `check`, and as `cells.said`.
    """
    names = [field.name for field in dataclasses.fields(kind) if field.name not in OF_NO_NOTEBOOK]
    values = said(namespace.get("In", []), names, namespace, OF_NO_NOTEBOOK)
    if values is None:  # a script, or %run, which keep no history
        values = {name: namespace[name] for name in names if name in namespace}
    return check(kind, values)
