"""What can be asked of a run or a notebook: names, types and ranges, checked before any work begins."""

import dataclasses
import difflib
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Annotated, Literal, get_args

import torch
from pydantic import AfterValidator, ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from .. import cores, inception
from ..architecture import ACTIVATIONS, GEOMETRIES, NETS, POOLINGS, Changes, skeleton
from ..augmentation import AUGMENTATIONS
from ..dataset import Store, choose_dataset
from ..learning import INITIALISATIONS, RECIPES, recipe
from ..paths import runs_dir
from .cells import said

Auto = Literal["auto"]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Epochs = Annotated[int, Field(ge=1, le=10_000)]
Width = Annotated[float, Field(gt=0, le=16, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
FEW = 100_000  # training images
FEW_EPOCHS = 45
SMALL = 128  # pixels
SPEEDS = ("repeatable", "fast")
LAYOUT = ("devices", "columns")  # how the work is shared out, which does not change what is computed
# what no parameters cell has to begin with, though a reader may add it, and Papermill inject it
OF_NO_NOTEBOOK = ("augmentation", "experiment", "geometry", "name")
FEWEST_CORES = 4  # processes that a machine with fewer cores may start nevertheless
checked = dataclass(frozen=True, config=ConfigDict(strict=True))


def _dataset(name: str) -> str:
    if not name.strip():
        raise ValueError("a data set's name or the path of a folder")
    return name


def _folder(name: str) -> str:
    if name in ("", "..") or Path(name).name != name or "\0" in name:
        raise ValueError("the name of one folder, without a path")
    return name


def _in_float32(value: float) -> float:
    if value > 1e36:
        raise ValueError("at most 1e36")
    return value


Finite = Annotated[float, Field(allow_inf_nan=False), AfterValidator(_in_float32)]
Positive = Annotated[Finite, Field(gt=0)]
Dataset = Annotated[str, AfterValidator(_dataset)]
FolderName = Annotated[str, AfterValidator(_folder)]


@checked
class TrainSettings:
    """A training run, from §2 to §6. "auto" means what suits the data set; `resolve` says what that is.

    speed: "repeatable" gives the same bits again on one machine; "fast" gives that up for what makes a step faster:
        bfloat16 where the device computes in it, compiled normalisation, and on Linux an allocator that keeps memory.
    """

    dataset: Dataset = "auto"
    net: Literal[(*NETS, "googlenet")] = "paper"
    width: Auto | Width = "auto"
    image_size: Auto | Count = "auto"
    recipe: Auto | Literal[tuple(RECIPES)] = "auto"
    epochs: Auto | Epochs = "auto"
    batch_size: Auto | Count = "auto"
    learning_rate: Auto | Positive = "auto"
    initialisation: Auto | Literal[INITIALISATIONS] = "auto"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    normalization: Literal["own", "lrn"] | None = "own"
    pooling: Literal[tuple(POOLINGS)] = "overlapping"
    activation: Literal[tuple(ACTIVATIONS)] = "relu"
    without: str | None = None
    geometry: Literal["own", *GEOMETRIES] = "own"
    augmentation: Literal[AUGMENTATIONS] = "all"
    seed: Seed = 0
    device: str = "auto"
    devices: Auto | Annotated[int, Field(ge=1, le=4096)] = "auto"
    columns: Auto | Annotated[int, Field(ge=1, le=2)] = "auto"
    speed: Literal[SPEEDS] = "repeatable"
    precision: Auto | Literal["fp32", "bf16"] = "auto"
    experiment: FolderName = "train"
    name: FolderName = "auto"

    @property
    def folder(self) -> Path:
        """Where a resolved run is recorded."""
        return runs_dir() / self.experiment / self.name


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
    """Notebook 02. target: the training error at which a run ends; rates: "auto" are the best of the committed runs."""

    dataset: Auto | Literal["embedded32", "cifar10"] = "auto"
    net: Literal["19pct", "18pct", "conv-local-13pct"] = "19pct"
    target: Auto | Share = "auto"
    epochs: Auto | Epochs = "auto"
    published_rate: Auto | Positive = "auto"
    fan_in_rate: Auto | Positive = "auto"
    seed: Seed = 0
    device: str = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"


@checked
class LrnSettings:
    """Notebook 03: its two small nets. The rest of a CIFAR net's settings are in `cifar_training.CifarSettings`."""

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
    epochs: Epochs = 4
    seed: Seed = 0
    device: str = "auto"


@checked
class AugmentationSettings:
    """Notebook 05. epochs: of two short runs, 0 for none; noise_std: deviation of α; steps: of the full-size net."""

    dataset: Dataset = "auto"
    epochs: Annotated[int, Field(ge=0, le=10_000)] = 0
    noise_std: Annotated[float, Field(ge=0.0001, le=100)] = 0.1
    steps: Annotated[int, Field(ge=1, le=100)] = 2
    seed: Seed = 0
    device: str = "auto"


@checked
class DropoutSettings:
    """Notebook 06."""

    dataset: Dataset = "auto"
    epochs: Epochs = 4
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


@checked
class QualitativeSettings:
    """Notebook 09. run: a folder in runs/train; epochs: of the run that is made where there is none."""

    dataset: Dataset = "auto"
    run: FolderName = "auto"
    epochs: Epochs = 10
    seed: Seed = 0
    device: str = "auto"


@checked
class GoogLeNetSettings:
    """Notebook 10. epochs: of two short runs, one of each net."""

    dataset: Dataset = "auto"
    epochs: Epochs = 2
    seed: Seed = 0
    device: str = "auto"


def check(kind: type, values: dict):
    """Make settings of a kind from named values.

    Raises:
        ValueError: every unknown name, missing or impossible value, with what was found and what is accepted.
    """
    fields = {field.name: field.type for field in dataclasses.fields(kind)}
    if unknown := sorted(values.keys() - fields):
        close = [repr(name) for word in unknown for name in difflib.get_close_matches(word, fields, 1)]
        meant = f"did you mean {', '.join(close)}? " if close else ""
        raise ValueError(f"unknown parameter {', '.join(map(repr, unknown))}; {meant}accepted are {', '.join(fields)}")
    optional = {name for name, annotation in fields.items() if type(None) in get_args(annotation)}
    wanted = {name: [] for name in sorted(optional & values.keys()) if values[name] in ("None", "none", "null")}
    try:
        made = kind(**values)
    except ValidationError as error:
        for problem in error.errors():
            want = re.sub("^(Input should be|Value error,) ", "", problem["msg"])
            wanted.setdefault(str(problem["loc"][0]), []).append(want)
    if not wanted:
        return made
    lines = []
    for name, wants in wanted.items():
        accepted = ", or ".join([*wants, "None"] if name in optional else wants)
        found = f"{name} = {values[name]!r}; accepted is {accepted}" if name in values else f"{name} is missing"
        lines.append(found + _hint(values.get(name), accepted))
    raise ValueError("\n".join(lines))


def _hint(value, accepted: str) -> str:
    """How to write what was probably meant, where Papermill or YAML has made something else of it."""
    if value in ("None", "none", "null"):
        return f" (not the word {value!r}: None in Python and after Papermill's -p, null in YAML and JSON)"
    if "string" in accepted and isinstance(value, int | float):
        return (
            f" (a word, not a number: after Papermill's -p {value} is a number, after -r a word; elsewhere quotes help)"
        )
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(e[-+]?\d+)?", value, re.IGNORECASE):
        return f" (a number, not a word: {re.sub('e', '.0e', value, flags=re.IGNORECASE)} in YAML)"
    return ""


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


def resolve(settings: TrainSettings, store: Store) -> TrainSettings:
    """Replace every "auto" by its value for this training store.

    Small pictures get a narrow net, and fewer than FEW images the recipe for small collections; else the net's own.

    Raises:
        ValueError: a device that is not there, a net that cannot be built, or a crop larger than the stored images.
    """
    few = len(store) < FEW
    chosen = {
        "dataset": choose_dataset(settings.dataset)[0],
        "width": 0.25 if store.size < SMALL else 1.0,
        "image_size": store.crop,
        "recipe": "small" if few else {"code2012": "code2012", "googlenet": "googlenet"}.get(settings.net, "paper"),
        "device": find_device(settings.device),
    }
    run = dataclasses.replace(settings, **{k: v for k, v in chosen.items() if getattr(settings, k) == "auto"})
    named = recipe(run.recipe)
    chosen = {name: getattr(named, name) for name in ("batch_size", "learning_rate", "initialisation")}
    chosen["epochs"] = FEW_EPOCHS if few else named.epochs
    if run.net == "googlenet":  # whose layers are not those that the other rules name
        chosen["initialisation"] = "fan_in"
    run = dataclasses.replace(run, **{k: v for k, v in chosen.items() if getattr(run, k) == "auto"})
    if run.image_size > store.size:
        raise ValueError(f"image_size = {run.image_size}; the stored images have {store.size} pixels")
    net_skeleton(run, len(store.classes))  # refuses what cannot be built
    if run.precision == "auto":
        bf16 = run.speed == "fast" and computes_in_bf16(run.device)
        run = dataclasses.replace(run, precision="bf16" if bf16 else "fp32")
    run = share_out(run)
    return dataclasses.replace(run, name=_name(run, store)) if run.name == "auto" else run


def net_changes(run: TrainSettings) -> dict:
    """What a run changes in its named net.

    Raises:
        ValueError: what GoogLeNet has of its own.
    """
    changes = {field.name: getattr(run, field.name) for field in dataclasses.fields(Changes)}
    if run.net != "googlenet":
        return changes
    asked = {name: changes.pop(name) for name in list(changes) if name not in ("width", "image_size", "without")}
    for name, value in asked.items():
        if value != getattr(TrainSettings, name):
            accepted = getattr(TrainSettings, name)
            raise ValueError(f"{name} = {value!r}; googlenet has its own, and accepts only the default {accepted!r}")
    return changes


def net_skeleton(run: TrainSettings, classes: int) -> torch.nn.Module:
    """The net of a run, without memory for its weights."""
    if run.net == "googlenet":
        return inception.skeleton(classes, **net_changes(run))
    return skeleton(run.net, classes, **net_changes(run))


def share_out(run: TrainSettings) -> TrainSettings:
    """Decide how many devices work on a run, and how many columns its net is divided into.

    "auto" gives two columns to two GPUs, where there are two, and otherwise takes one device. Inside a job, torchrun
    has decided how many.

    Raises:
        ValueError: devices that are not there, or that do not divide into the net's columns.
    """
    divisible = run.net in NETS and NETS[run.net].columns == 2
    gpus = torch.cuda.device_count() if run.device.startswith("cuda") else 0
    devices = 2 if run.devices == "auto" and gpus > 1 and divisible and run.columns != 1 else run.devices
    devices = int(os.environ.get("WORLD_SIZE", 1 if devices == "auto" else devices))
    columns = (2 if divisible and devices % 2 == 0 else 1) if run.columns == "auto" else run.columns
    if columns == 2 and not divisible:
        two = ", ".join(name for name, net in NETS.items() if net.columns == 2)
        raise ValueError(f"columns = 2; {run.net} is not divided into columns, as {two} are")
    if devices % columns:
        raise ValueError(f"devices = {devices}, which do not divide into {columns} columns")
    fit = max(cores(), FEWEST_CORES)
    if run.device == "cpu" and "WORLD_SIZE" not in os.environ and devices > fit:
        raise ValueError(f"devices = {devices}; on this machine there are cores for {fit} processes")
    if devices > 1 and run.device == "mps" or gpus and "WORLD_SIZE" not in os.environ and devices > gpus:
        raise ValueError(f"devices = {devices}; on this machine there are {max(gpus, 1)} of kind {run.device}")
    return dataclasses.replace(run, devices=devices, columns=columns)


def _name(run: TrainSettings, store: Store) -> str:
    """A name for people, and a hash of everything that decides the result."""
    decides = {k: v for k, v in dataclasses.asdict(run).items() if k not in ("name", "experiment", *LAYOUT)}
    for field, before in (("augmentation", "all"), ("speed", "repeatable")):
        if decides[field] == before:  # runs from before there was a choice keep their names
            del decides[field]
    digest = hashlib.sha256(json.dumps([decides, store.meta["fingerprint"]], sort_keys=True).encode()).hexdigest()
    return f"{Path(run.dataset).name}-{run.net}-{run.recipe}-{run.epochs}epochs-seed{run.seed}-{digest[:8]}"


def find_device(name: str = "auto") -> str:
    """A device by name, or the best one here for "auto": cuda, mps, cpu.

    Raises:
        ValueError: unknown, or not on this machine.
    """
    here = ["cpu"]
    if torch.backends.mps.is_available():
        here.insert(0, "mps")
    if torch.cuda.is_available():
        here[:0] = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if name == "auto":
        return here[0]
    name = "cuda:0" if name == "cuda" else name
    if name not in here:
        raise ValueError(f"device = {name!r}; on this machine are auto, {', '.join(here)}")
    return name


def computes_in_bf16(device: str) -> bool:
    """Whether a device has units for bfloat16. Others only emulate it, and take longer than for float32."""
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    has = torch.cpu.get_capabilities() if device == "cpu" else {}
    return bool(has.get("amx_bf16") or has.get("avx512_bf16"))
