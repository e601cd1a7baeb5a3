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
class _Common:
    """What every notebook that trains can be asked."""

    dataset: Dataset = "auto"
    seed: Seed = 0
    device: str = "auto"


@checked
class ReluSettings(_Common):
    """Notebook 02. epochs, and learning rates, of the races that it runs itself."""

    dataset: Auto | Literal["embedded32", "cifar10"] = "auto"
    epochs: Epochs = 4
    relu_rate: Positive = 0.003
    tanh_rate: Positive = 0.03


@checked
class LrnSettings(_Common):
    """Notebook 03: its two small nets. The rest of a CIFAR net's settings are in `cifar_settings.CifarSettings`."""

    dataset: Auto | Literal["embedded32", "cifar10"] = "auto"
    image_size: Auto | Annotated[int, Field(ge=8, le=32)] = "auto"
    epochs: Auto | Epochs = "auto"
    batch_size: Auto | Count = "auto"
    learning_rate: Positive = 0.001


@checked
class PoolingSettings(_Common):
    """Notebook 04."""

    epochs: Epochs = 16


@checked
class AugmentationSettings(_Common):
    """Notebook 05. epochs: of the net that is tested in other lights; noise_std: of α; steps: of the full-size net."""

    epochs: Epochs = 10
    noise_std: Annotated[float, Field(ge=0.0001, le=100)] = 0.1
    steps: Annotated[int, Field(ge=1, le=100)] = 2


@checked
class DropoutSettings(_Common):
    """Notebook 06. epochs: of its small nets without dropout; those with dropout take twice as many."""

    epochs: Epochs = 20


@checked
class ResultsSettings(_Common):
    """Notebook 08. epochs: of a short chain of pre-training, on the many classes and on the few."""

    many_epochs: Epochs = 5
    few_epochs: Epochs = 24


def _picture(path: str) -> str:
    try:
        decode(Path(path).expanduser().read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"the path of a picture ({error})") from None
    return path


@checked
class QualitativeSettings(_Common):
    """Notebook 09. run: a folder in runs/train; picture: of the reader's; epochs: of a run, where there is none."""

    run: FolderName = "auto"
    picture: Annotated[str, AfterValidator(_picture)] | None = None
    epochs: Epochs = 10


@checked
class GoogLeNetSettings(_Common):
    """Notebook 10. epochs: of short runs, one of each net, of 126 batches an epoch at most."""

    epochs: Epochs = 1


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
