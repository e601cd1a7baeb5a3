"""What can be asked of a training run, and what "auto" means for its data and its machine."""

import dataclasses
import hashlib
import json
import os
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from .. import cores, inception
from ..architecture import ACTIVATIONS, GEOMETRIES, NETS, POOLINGS, Changes, alexnet, skeleton
from ..augmentation import AUGMENTATIONS
from ..data.sources import printable
from ..dataset import HOW_TO_GET, Store, choose_dataset
from ..evaluation import evaluate_views
from ..learning import (
    INITIALISATIONS,
    RECIPES,
    PlateauRule,
    Recipe,
    initialise,
    parameter_groups,
    rate_factor,
    recipe,
    set_rates,
)
from ..normalization import LocalResponseNorm
from ..paths import runs_dir
from .bfloat16 import computes_in_bf16
from .fields import LONGEST_NAME, Auto, Count, Dataset, Epochs, FolderName, Positive, Seed, Width, checked
from .job import usable_gpus
from .stored import OLDER_DEFAULTS

FEW = 100_000  # training images
FEW_EPOCHS = 45
SMALL = 128  # pixels
SPEEDS = ("repeatable", "fast")
FEWEST_CORES = 4  # processes that a machine with fewer cores may start nevertheless
# where a run lies and who does the work, which decides nothing
NOT_HASHED = ("name", "experiment", "devices", "columns")


class Run:
    """What `training` wants to know of a run: `TrainSettings`, or `cifar_settings.CifarSettings`."""

    devices = columns = 1
    input_divisor = 1.0
    keeps_images_in_memory = False
    warns_of_a_stall = True
    speed = "repeatable"

    @property
    def folder(self) -> Path:
        """Where a resolved run is recorded."""
        return runs_dir() / self.experiment / self.name

    def views(self, store: Store) -> tuple[int, ...]:
        """How many views of an image the final tests take, one test each; `evaluation.predict` knows them."""
        return (1, 10)

    def as_recorded(self, loss: Tensor, images: int) -> Tensor:
        """The sum of the losses of a batch, as the history adds it up."""
        return loss

    def measure(self, net: nn.Module, store: Store, mean: Tensor, views: tuple[int, ...], job) -> dict[int, dict]:
        """Loss, top-1 and top-5 error of the net for each number of views; "fast" tests in the run's precision."""
        return evaluate_views(net, store, mean, views, job, self.speed == "fast" and self.precision == "bf16")

    def ending(self, history: list[dict], classes: int) -> str:
        """Why a run with this history ends before its schedule does; "" where it does not."""
        return ""

    def look_at(self, net: nn.Module, store: Store):
        """A function that gives more columns for the training rows of the history, {name: number}."""
        return dict


@checked
class TrainSettings(Run):
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
    normalization: Literal["own", "lrn", "batch"] | None = "own"
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
    def named(self) -> Recipe:
        return recipe(self.recipe)

    @property
    def cropped(self) -> bool:
        return self.augmentation in ("all", "crops")

    @property
    def coloured(self) -> bool:
        return self.augmentation in ("all", "colours")

    @property
    def title(self) -> str:
        return f"{self.net}-{self.recipe}-{self.epochs}epochs"

    def chosen_dataset(self) -> str:
        """The data set that "auto" means."""
        return choose_dataset(self.dataset)[0]

    def filled(self, store: Store) -> "TrainSettings":
        """Small pictures get a narrow net, and up to FEW images the recipe for small collections."""
        few = len(store) <= FEW
        run = with_auto(
            self,
            width=0.25 if store.size < SMALL else 1.0,
            image_size=store.crop,
            recipe="small" if few else {"code2012": "code2012", "googlenet": "googlenet"}.get(self.net, "paper"),
        )
        run = with_auto(
            run,
            batch_size=run.named.batch_size,
            learning_rate=run.named.learning_rate,
            initialisation=run.own_initialisation(made_narrow=self.width == "auto" and run.width < 1),
            epochs=FEW_EPOCHS if few else run.named.epochs,
        )
        if run.named.average_last and run.normalization == "batch":  # torch.optim.swa_utils.update_bn would have to run
            others = ", ".join(name for name, each in RECIPES.items() if not each.average_last)
            raise ValueError(
                f"recipe = {run.recipe!r} tests averaged weights, of which normalization = 'batch' has no statistics; "
                f"accepted with it are {others}"
            )
        require_size(run, store)
        net = run.skeleton(len(store.classes))  # refuses what cannot be built
        bf16 = run.speed == "fast" and computes_in_bf16(run.device)
        run = share_out(with_auto(run, precision="bf16" if bf16 else "fp32"))
        if run.normalization == "batch":
            require_statistics(run, len(store), net)
        return run

    def own_initialisation(self, made_narrow: bool) -> str:
        """The recipe's initial weights; those of 2012 enlarged for a net that was made narrow, which wouldn't learn."""
        if self.net == "googlenet":
            return "fan_in"  # the other rules name layers that it doesn't have
        own = self.named.initialisation
        return "rescaled" if made_narrow and own in ("printed", "code2012") else own

    def changes(self) -> dict:
        """What a run changes in its named net.

        Raises:
            ValueError: what GoogLeNet has of its own.
        """
        changes = {field.name: getattr(self, field.name) for field in dataclasses.fields(Changes)}
        if self.net != "googlenet":
            return changes
        its_own = {field.name for field in dataclasses.fields(inception.Changes)}
        asked = {name: changes.pop(name) for name in list(changes) if name not in its_own}
        for name, value in asked.items():
            if value != (accepted := getattr(TrainSettings, name)):
                raise ValueError(
                    f"{name} = {value!r}; googlenet has its own, and accepts only the default {accepted!r}"
                )
        return changes

    def skeleton(self, classes: int) -> nn.Module:
        """The net, without memory for its weights."""
        build = inception.skeleton if self.net == "googlenet" else partial(skeleton, self.net)
        return build(classes, **self.changes())

    def new_net(self, classes: int) -> nn.Module:
        """The untrained net, on its device."""
        build = inception.googlenet if self.net == "googlenet" else partial(alexnet, self.net)
        net = initialise(build(classes, seed=self.seed, **self.changes()), self.initialisation, self.seed)
        for layer in net.children():
            if isinstance(layer, LocalResponseNorm):
                layer.compiled = self.speed == "fast"
        return net.to(self.device, memory_format=torch.channels_last)

    def parameter_groups(self, net: nn.Module) -> list[dict]:
        return parameter_groups(net, self.named)

    def set_rates(self, optimizer, rule: PlateauRule, epoch: int, done: float) -> None:
        """Give each group of parameters the rate of the next step, when this fraction of the run is done."""
        if self.named.schedule == "plateau":
            rate = rule.rate
        elif self.named.schedule == "four_per_cent":
            rate = self.learning_rate * inception.four_per_cent_less(epoch)
        else:
            rate = self.learning_rate * rate_factor(self.named, done)
        set_rates(optimizer, self.named, rate, done)


def with_auto(settings, **values):
    """The settings with these values wherever they say "auto"."""
    return dataclasses.replace(settings, **{k: v for k, v in values.items() if getattr(settings, k) == "auto"})


def require_size(run, store: Store) -> None:
    if run.image_size > store.size:
        raise ValueError(f"image_size = {run.image_size}; the stored images have {store.size} pixels")


def require_statistics(run: TrainSettings, images: int, net: nn.Module) -> None:
    """See that every batch of an epoch of so many images can be normalised.

    Raises:
        ValueError: a device would get one image, and a layer one number of it: it has no deviation.
    """
    replicas, fewest = run.devices // run.columns, images % run.batch_size or run.batch_size
    if fewest >= 2 * replicas:
        return
    try:
        net.train()(torch.empty(1, 3, run.image_size, run.image_size, device="meta"))
    except ValueError:
        raise ValueError(
            f"batch_size = {run.batch_size}: of {images} images an epoch's last batch has {fewest}, for {replicas} "
            f"device{'s' * (replicas > 1)}, and normalization = 'batch' finds no deviation in a single image whose "
            f"maps are one unit large, as some are for image_size = {run.image_size}; accepted is a number that leaves "
            f"at least {2 * replicas}"
        ) from None


def resolve(settings, store: Store):
    """Replace every "auto" in a `TrainSettings` or a `CifarSettings` by its value for this training store.

    The path of a folder becomes absolute: a run is one, and finds its data, however and wherever it was typed.

    Raises:
        ValueError: a device that is not there, a net that cannot be built, a crop larger than the stored images, or a
            batch that batch normalisation has no statistics of.
    """
    name = settings.chosen_dataset()
    dataset = name if name in HOW_TO_GET else str(Path(name).expanduser().resolve())
    run = dataclasses.replace(settings, dataset=dataset, device=find_device(settings.device)).filled(store)
    return with_auto(run, name=_name(run, store))


def _name(run, store: Store) -> str:
    """A name for people, and a hash of everything that decides the result: its data set's whole path, too."""
    decides = {k: v for k, v in dataclasses.asdict(run).items() if k not in NOT_HASHED}
    decides = {k: v for k, v in decides.items() if k not in OLDER_DEFAULTS or v != OLDER_DEFAULTS[k]}
    digest = hashlib.sha256(json.dumps([decides, store.meta["fingerprint"]], sort_keys=True).encode()).hexdigest()
    rest = f"-{run.title}-seed{run.seed}-{digest[:8]}"
    of_set = os.fsencode(printable(Path(run.dataset).name))  # a folder may have a name that a run's may not have
    return of_set[: LONGEST_NAME - len(os.fsencode(rest))].decode("utf-8", "ignore") + rest


def share_out(run: TrainSettings) -> TrainSettings:
    """Decide how many devices work on a run, and how many columns its net is divided into.

    "auto" gives two columns to two GPUs, where there are two, and otherwise takes one device. Inside a job, torchrun
    has decided how many.

    Raises:
        ValueError: devices that are not there, or that do not divide into the net's columns.
    """
    divisible = run.net in NETS and NETS[run.net].columns == 2
    gpus = len(usable_gpus()) if run.device.startswith("cuda") else 0
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


def find_device(name: str = "auto") -> str:
    """A device by name, or the best one here for "auto": cuda, mps, cpu.

    Raises:
        ValueError: unknown, or not on this machine.
    """
    here = ["cpu"]
    if torch.backends.mps.is_available():
        here.insert(0, "mps")
    here[:0] = [f"cuda:{number}" for number in usable_gpus()]
    if name == "auto":
        return here[0]
    name = "cuda:0" if name == "cuda" else name
    if name not in here:
        raise ValueError(f"device = {name!r}; on this machine are auto, {', '.join(here)}")
    return name
