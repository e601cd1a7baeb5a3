"""§3.1 and §3.3: what can be asked of a run of a CIFAR net, its schedule, and when it gives up."""

import math
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import AfterValidator, BeforeValidator, Field
from torch import nn

from ..cifar_nets import ACTIVATIONS, INITIALISATIONS, NETS, cifar_net, cifar_parameter_groups, saturation
from ..dataset import Store, is_prepared
from ..evaluation import answers, input_of, mean_of, top_k_error
from ..learning import Recipe
from .fields import MOST_EPOCHS, Auto, Count, Dataset, Epochs, Finite, FolderName, Positive, Seed, Share, checked
from .settings import Run, require_size, with_auto

CIFAR = Recipe("cifar", "published", 0.001, 128, "stages", noise_std=0.0, crop_offsets="code2012")
LIKE_A_GUESS, PLATEAU = 0.95, 3  # so close to a guess's error a run is given three times as long
BURST = 3.0  # times the loss of a guess; a net that is that sure of wrong answers has weights that are far too large
TESTED_AT_ONCE = 500
LOOKED_AT = 512  # training images whose hidden units are looked at for saturation


def _as_tuples(stages):  # JSON knows lists only
    return tuple(tuple(stage) for stage in stages) if isinstance(stages, list) else stages


def _as_long_as_a_run(stages):
    if (epochs := sum(epochs for epochs, _ in stages)) > MOST_EPOCHS:
        raise ValueError(f"at most {MOST_EPOCHS} epochs in all stages together, not {epochs}")
    return stages


Stages = Annotated[
    tuple[tuple[Epochs, Positive], ...],
    BeforeValidator(_as_tuples),
    Field(min_length=1),
    AfterValidator(_as_long_as_a_run),
]


@checked
class CifarSettings(Run):
    """A training run of a CIFAR net. "auto" means what suits the data and the net; `resolve` says what that is.

    input_divisor: the mean is taken off the pixels and the rest divided by this; 1 as in 2012, and 64 brings them
        close to unit variance. augmentation: random crops, where the net takes less than 32 pixels, and reflections.
    stages: (epochs, factor on the rate of the weights), one after the other; the rate of the biases stays.
    weight_decay: a factor on the decays of the net's file. target_error: training error that ends the run.
    give_up_epochs: from this epoch on a run ends if, at its pace over the last `give_up_epochs`, it would miss the
        target. A run that has not begun to learn gets three times as long, unless its loss shows that it never will.
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
    stages: Stages = ((20, 1.0),)
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

    named = CIFAR
    coloured = False
    keeps_images_in_memory = True
    warns_of_a_stall = False  # a search over learning rates tries hopeless ones, and gives up by itself

    @property
    def cropped(self) -> bool:
        return self.augmentation

    @property
    def epochs(self) -> int:
        return sum(epochs for epochs, _ in self.stages)

    @property
    def title(self) -> str:
        return f"{self.net}-{self.activation}-rate{self.learning_rate:g}"

    def chosen_dataset(self) -> str:
        return choose_pictures(self.dataset)

    def filled(self, store: Store) -> "CifarSettings":
        run = with_auto(self, image_size=NETS[self.net].image_size, bias_rate=2 * self.learning_rate)
        require_size(run, store)
        return run

    def views(self, store: Store) -> tuple[int, ...]:
        return (1, 9, 10) if self.image_size < store.size else (1,)

    def new_net(self, classes: int) -> nn.Sequential:
        """The untrained net, on its device."""
        names = ("activation", "initialisation", "normalization", "image_size", "compiled", "seed")
        options = {name: getattr(self, name) for name in names}
        return cifar_net(self.net, classes, **options).to(self.device, memory_format=torch.channels_last)

    skeleton = new_net

    def parameter_groups(self, net: nn.Module) -> list[dict]:
        return cifar_parameter_groups(net, self.net, self.learning_rate, self.bias_rate, self.weight_decay)

    def rate(self, epoch: int) -> float:
        """The rate of the weights in an epoch, counted from 0."""
        ends = np.cumsum([epochs for epochs, _ in self.stages])
        return self.learning_rate * self.stages[int(np.searchsorted(ends, epoch, side="right"))][1]

    def set_rates(self, optimizer, rule, epoch: int, done: float) -> None:
        for group in optimizer.param_groups:
            group["lr"] = self.bias_rate if group["name"] == "biases" else self.rate(epoch)

    def as_recorded(self, loss, images: int):
        """The mean times their number, which may differ from the sum in the last bit: so in all kept histories.

        A process of a job may have none of a batch's images, and then adds nothing.
        """
        return loss / max(images, 1) * images

    def measure(self, net: nn.Module, store: Store, mean, views: tuple[int, ...], job) -> dict[int, dict]:
        """Loss, top-1 and top-5 error, one less the mean credit, which rounds as all kept histories do."""
        labels, found = torch.from_numpy(store.labels).long(), {}
        scored = answers(net, store.images, mean, views, TESTED_AT_ONCE, divisor=self.input_divisor)
        for count, scores in scored.items():
            errors = top_k_error(scores, store.labels)
            loss = -scores.gather(1, labels[:, None]).double().clamp(min=1e-30).log().mean().item()
            found[count] = {"loss": loss, "top1": errors[1], "top5": errors[5]}
        return found

    def look_at(self, net: nn.Module, store: Store):
        """The shares of saturated units, over LOOKED_AT training images."""
        rows = np.random.default_rng(self.seed).permutation(len(store))[:LOOKED_AT]
        mean = mean_of(store, self.image_size)
        inputs = input_of(store.images[rows], mean, 1, self.device, self.input_divisor)
        return lambda: saturation(net, inputs, self.activation)

    def ending(self, history: list[dict], classes: int) -> str:
        """ "target" where the training error is low enough, "gave up" where it will not be in time."""
        if self.target_error is None:
            return ""
        trained = [row for row in history if row["split"] == "train"]
        if trained[-1]["top1"] <= self.target_error:
            return "target"
        return "gave up" if self.is_hopeless(trained, classes) else ""

    def is_hopeless(self, trained: list[dict], classes: int) -> bool:
        """Whether neither the pace of the last epochs nor that of the last one alone leads to the target in time.

        Errors fall ever more slowly once they fall, so this pace flatters the run. Before they fall it says nothing.
        """
        done, over = len(trained), self.give_up_epochs
        if over is None or done < over:
            return False
        guess = 1 - 1 / classes
        errors = [guess] + [row["top1"] for row in trained]
        if errors[-1] > LIKE_A_GUESS * guess:
            burst = min(row["loss"] for row in trained[-over:]) > BURST * math.log(classes)
            return burst or done >= PLATEAU * over
        pace = max((errors[-1 - over] - errors[-1]) / over, errors[-2] - errors[-1])
        return errors[-1] - pace * (self.epochs - done) > self.target_error


def published_stages(epochs: int) -> tuple[tuple[int, float], ...]:
    """The schedule of the 11 % net, squeezed into `epochs`: at the end a tenth of the rate, then a tenth of that.

    The file has 500, 10 and 10, and so have 520 here; of others each of the last two gets a twenty-fifth, and at least
    one.
    """
    if epochs == 520:
        return ((500, 1.0), (10, 0.1), (10, 0.01))
    tail = max(1, round(epochs / 25))
    if epochs < 3:
        raise ValueError(f"epochs = {epochs}; accepted are 3 and more")
    return ((epochs - 2 * tail, 1.0), (tail, 0.1), (tail, 0.01))


def choose_pictures(name: str) -> str:
    """What "auto" means: CIFAR-10 where it is prepared, else the generated collection of its size."""
    if name != "auto":
        return name
    return "cifar10" if is_prepared("cifar10") else "embedded32"
