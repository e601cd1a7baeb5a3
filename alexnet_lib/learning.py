"""§5, the details of learning: the update rule, initial weights, the learning rate, and recipes that combine them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import inf, isfinite

import numpy as np
import torch
from torch import nn

from .runs.optimizers import SGD

# ------------------------------------------------------------------------------------------------ the update rule


class PaperSGD(SGD):
    """Stochastic gradient descent as printed in §5. The velocity v has the units of the weights:

        v ← momentum·v − weight_decay·ε·w − ε·g
        w ← w + v

    `torch.optim.SGD` keeps b = −v/ε, without the learning rate. Both take the same path until ε drops: torch's next
    step shrinks at once, while the paper's velocity lives on and decays. So this is torch's fused kernel, with b
    rescaled whenever a group's ε has changed. A group whose ε is 0 is left alone, decay and momentum included, as in
    the 2012 program (src/weights.cu). ε may be a tensor.
    """

    _fixed = False  # of the class, since torch copies and pickles an optimiser without its own attributes

    def __init__(self, params, lr, momentum=0.9, weight_decay=5e-4):
        if not all(isfinite(value) for value in (lr, momentum, weight_decay)):
            raise ValueError(f"lr = {lr}, momentum = {momentum}, weight_decay = {weight_decay}; all must be finite")
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)

    @torch.no_grad()
    def step(self, closure=None):
        loss = None if closure is None else torch.enable_grad()(closure)()
        self._rescale()
        groups = self.param_groups
        for group in groups:
            for p in group["params"] if group["lr"] else ():
                self._prepare(p, group["momentum"])
        self.param_groups = [
            {**group, "lr": group["fixed"]} if self._fixed else group for group in groups if group["lr"] != 0
        ]
        try:
            super().step()
        finally:
            self.param_groups = groups
        return loss

    def _prepare(self, p: torch.Tensor, momentum: float) -> None:
        """Bring a gradient and its velocity into the form that torch's fused kernel takes for granted."""
        if p.grad is None:
            return
        p.grad = in_memory_as(p, p.grad)
        if momentum:  # the kernel asks for all velocities, or for none; that of a thawed layer begins here
            velocity = self.state[p].get("momentum_buffer")
            self.state[p]["momentum_buffer"] = torch.zeros_like(p) if velocity is None else in_memory_as(p, velocity)

    def _rescale(self) -> None:
        """Keep v when ε has changed since the last step: b is multiplied by old ε / new ε."""
        for group in self.param_groups:
            rate = float(group["lr"])  # a copy: a tensor may be changed in place
            if rate and rate != group["buffer_lr"]:
                for p in group["params"]:
                    buffer = self.state.get(p, {}).get("momentum_buffer")
                    if buffer is not None:
                        buffer.mul_(group["buffer_lr"] / rate)
                group["buffer_lr"] = rate

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            group.setdefault("buffer_lr", float(group["lr"]))  # a state of torch.optim.SGD comes without it

    @contextmanager
    def fixed_rates(self) -> Iterator[None]:
        """Have `step` read each ε from a tensor that stays, for a CUDA graph; here it is brought up to date."""
        with torch.no_grad():
            self._rescale()
            for group, p in ((group, group["params"][0]) for group in self.param_groups):
                group.setdefault("fixed", torch.empty((), device=p.device)).fill_(group["lr"])
        self._fixed = True
        try:
            yield
        finally:
            self._fixed = False

    def add_param_group(self, param_group: dict) -> None:
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        # the kernel walks through memory, and a part of a larger tensor has gaps
        whole = (in_memory_as(torch.empty_like(p), p) is p for p in group["params"])
        group["fused"] = all(whole) and all(p.device.type in ("cpu", "cuda") for p in group["params"])
        group["buffer_lr"] = float(group["lr"])


def in_memory_as(other: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """x, of the same shape, or where its numbers follow each other otherwise in memory, a copy laid out as `other`."""
    strides = zip(x.shape, x.stride(), other.stride(), strict=True)
    alike = all(ours == theirs for count, ours, theirs in strides if count > 1)
    return x if alike else torch.empty_like(other).copy_(x)


def grouped(net: nn.Module, group_of: Callable[[str], str], decays: dict[str, float]) -> list[dict]:
    """A net's parameters for an optimiser, in the groups that `decays` lists with their weight decay.

    group_of: from a parameter's name to the name of its group. Groups without parameters are left out.
    """
    groups = {name: {"name": name, "params": [], "weight_decay": decay} for name, decay in decays.items()}
    for name, parameter in net.named_parameters():
        groups[group_of(name)]["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]


# ---------------------------------------------------------------------------------------------- initial weights

PRINTED_STD = 0.01  # "a zero-mean Gaussian distribution with standard deviation 0.01"
# "the second, fourth, and fifth convolutional layers, as well as [...] the fully-connected hidden layers" start with
# biases of 1, so that their ReLUs have positive inputs; conv6 is of the net for pre-training (§6)
BIASED_LAYERS = ("conv2", "conv4", "conv5", "conv6", "fc6", "fc7")
STD_2012 = {"conv3": 0.03, "conv4": 0.03, "conv5": 0.03, "conv6": 0.03}  # every layers-*.cfg
STD_CAFFE = {"fc6": 0.005, "fc7": 0.005}  # models/bvlc_alexnet/train_val.prototxt
FAN_IN_2012 = {"conv1": 363, "conv2": 1200, "conv3": 2304, "conv4": 1728, "conv5": 1728, "conv6": 2304, "fc6": 9216}
INITIALISATIONS = ("printed", "code2012", "caffe", "rescaled", "fan_in")


def initial_std(name: str, fan_in: int, rule: str) -> float:
    """Standard deviation of a layer's initial weights.

    printed   0.01 everywhere (§5).
    code2012  0.03 from the third convolution on, else 0.01.
    caffe     0.005 in the hidden fully connected layers, else 0.01.
    rescaled  code2012 times `rescaling`: a narrow net starts with the signal of the full-size one.
    fan_in    √(2 / fan-in) but for conv1 and the last layer of each classifier, which keep 0.01 (He et al. 2015).

    Raises:
        ValueError: an unknown rule.
    """
    if rule not in INITIALISATIONS:
        raise ValueError(f"initialisation = {rule!r}; accepted are {', '.join(INITIALISATIONS)}")
    if rule == "fan_in" and name != "conv1" and name.rpartition(".")[2] not in ("fc8", "fc"):
        return (2 / fan_in) ** 0.5
    own = {"code2012": STD_2012, "rescaled": STD_2012, "caffe": STD_CAFFE}.get(rule, {})
    return own.get(name, PRINTED_STD) * (rescaling(name, fan_in) if rule == "rescaled" else 1)


def rescaling(name: str, fan_in: int) -> float:
    """√(fan-in in the full-size net / fan-in here): larger weights make up for fewer inputs.

    The full-size net is that of two GPUs for all nets. So the third convolution of the net for one GPU, which sees half
    as many maps, starts √2 times as large as in code2012, at full width, too.
    """
    return (FAN_IN_2012.get(name, 4096) / fan_in) ** 0.5


def initial_bias(name: str, rule: str) -> float:
    """1 in BIASED_LAYERS, with "caffe" 0.1; 0 in the others, and everywhere with "fan_in"."""
    return {"fan_in": 0.0, "caffe": 0.1}.get(rule, 1.0) if name in BIASED_LAYERS else 0.0


def initialise(net: nn.Module, rule: str = "printed", seed: int = 0) -> nn.Module:
    """Set all weights and biases of `net` in place, by `initial_std` and `initial_bias`, and return it.

    Raises:
        ValueError: an unknown rule.
    """
    layers = learned_layers(net)
    stds = {name: initial_std(name, layer.weight[0].numel(), rule) for name, layer in layers.items()}
    return draw_weights(net, stds, {name: initial_bias(name, rule) for name in layers}, seed)


def learned_layers(net: nn.Module) -> dict[str, nn.Module]:
    """The layers with weights, by name, in order; a batch normalisation, with a factor a map, is none of them."""
    return {name: layer for name, layer in net.named_modules() if hasattr(layer, "weight") and layer.weight.dim() > 1}


def draw_weights(net: nn.Module, stds: dict[str, float], biases: dict[str, float], seed: int) -> nn.Module:
    """Draw normal weights with each layer's standard deviation, set its biases (0 unless given), and return `net`.

    numpy's generator, one stream a layer, gives the same weights on every processor; torch.randn does not.
    """
    for number, (name, layer) in enumerate(learned_layers(net).items()):
        normal = np.random.default_rng([seed, number]).standard_normal(tuple(layer.weight.shape), dtype=np.float32)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(normal * np.float32(stds[name])))
            layer.bias.fill_(biases.get(name, 0.0))
    return net


# ---------------------------------------------------------------------------------------------- the learning rate

PATIENCE = 5  # epochs of 90


class PlateauRule:
    """The heuristic of §5: divide the rate by ten when the validation error stops improving; after three times, stop.

    The paper doesn't say when an error has stopped improving. Here: after `patience` epochs in a row that didn't lower
    the best error by more than `least_gain`. The plateau after the last of the `drops` ends the run.
    """

    def __init__(self, learning_rate=0.01, factor=10.0, drops=3, patience=PATIENCE, least_gain=0.0):
        whole = isinstance(drops, int) and drops >= 0  # half a drop would never come, and the run never end
        if not 0 < learning_rate < inf or not 1 < factor < inf or not whole or not patience >= 1:
            raise ValueError(
                f"learning_rate = {learning_rate}, factor = {factor}, drops = {drops}, patience = {patience}; "
                "accepted are a rate above 0, a factor above 1, a whole number of drops and a patience of 1 and more"
            )
        if not 0 <= least_gain < inf:
            raise ValueError(f"least_gain = {least_gain}; accepted are finite numbers from 0 on")
        self.first_rate, self.factor, self.drops = learning_rate, factor, drops
        self.patience, self.least_gain = patience, least_gain
        self.best, self.waited, self.dropped = inf, 0, 0

    @property
    def rate(self) -> float:
        """The rate in force."""
        return self.first_rate / self.factor**self.dropped

    def step(self, error: float) -> float | None:
        """Take an epoch's validation error; return the rate to use next, or None to stop."""
        if error < self.best - self.least_gain:
            self.best, self.waited = error, 0
            return self.rate
        self.waited += 1
        if self.waited < self.patience:
            return self.rate
        if self.dropped == self.drops:
            return None
        self.dropped, self.waited = self.dropped + 1, 0
        return self.rate

    def state_dict(self) -> dict:
        return {"best": self.best, "waited": self.waited, "dropped": self.dropped}

    def load_state_dict(self, state: dict) -> None:
        self.best, self.waited, self.dropped = state["best"], state["waited"], state["dropped"]


def patience_for(epochs: int) -> int:
    """The patience of a run of so many epochs: five of the paper's ninety, in proportion, and at least two."""
    return max(2, round(PATIENCE * epochs / 90))


# ---------------------------------------------------------------------------------------------------------- recipes


@dataclass(frozen=True)
class Recipe:
    """Everything about learning that is not the net or the data. Times are fractions of the run."""

    name: str
    initialisation: str
    learning_rate: float
    batch_size: int
    # "plateau": the rule above. After a warm-up, "steps" divides by ten at each of `drops_at`, and "linear" falls to
    # zero at the end. "four_per_cent": less every eight epochs.
    schedule: str
    epochs: int = 90
    warm_up: float = 0.0
    drops_at: tuple[float, ...] = ()
    momentum: float = 0.9
    weight_decay: float = 5e-4
    bias_rate: float = 1.0  # a factor on the biases' rate, which takes part in the first `bias_drops` of the drops
    bias_drops: int = 99
    bias_decay: bool = True
    conv1_drops_at: tuple[float, ...] = ()  # when the first layer's rate is divided once more
    conv1_frozen_at: float = inf  # when the first layer stops learning
    crop_offsets: str = "printed"
    views_shared_by: int = 1  # how many images in a row get the same crop and reflection
    noise_std: float = 0.1
    noise_units: str = "torch"  # a reading of the colour noise (augmentation.colour_shifts)
    noise_until: float = inf
    distorted: bool = False  # crops of any size and shape, distorted colours (distortions.py)
    average_last: float = 0.0  # weights are averaged over the steps of this last part; 0 for no average


# run 145, whose logs hold the paper's numbers, as layer-params-145.cfg tells it
LOGGED_2012 = (25, 51, 79)  # the epochs after which a person divided the rate by ten
LOGGED_NOISE_OFF = 67  # here the colour noise ended, and the rate of conv1 was divided once more
LOGGED_FROZEN = 72  # here conv1 stopped learning
LOGGED_END = 91

RECIPES = {
    # as printed; the eigenvalues of the printed colour formula make sense for pixels on the 0-1 scale only: "torch"
    "paper": Recipe("paper", initialisation="printed", learning_rate=0.01, batch_size=128, schedule="plateau"),
    # as done: what the paper leaves out about biases, conv1, crops and noise is in convdata_jpeg.py and the file of
    # run 145
    "code2012": Recipe(
        "code2012",
        initialisation="code2012",
        learning_rate=0.01,
        batch_size=128,
        schedule="steps",
        epochs=LOGGED_END,
        drops_at=tuple(epoch / LOGGED_END for epoch in LOGGED_2012),
        bias_rate=2.0,  # epsB = 2 · epsW
        # The file's last state says that the biases' rate was never divided, but it was edited after the end. The
        # files of each stage of a sister run say that it was, once.
        bias_drops=1,
        bias_decay=False,  # wc = 0
        conv1_drops_at=(LOGGED_NOISE_OFF / LOGGED_END,),
        conv1_frozen_at=LOGGED_FROZEN / LOGGED_END,
        crop_offsets="code2012",
        views_shared_by=32,
        noise_units="code2012",  # standard deviations, then ÷ 1.1
        noise_until=LOGGED_NOISE_OFF / LOGGED_END,
    ),
    # ours: trains a narrow net on a small collection within a minute or two
    "small": Recipe(
        "small",
        initialisation="rescaled",
        learning_rate=0.006,
        batch_size=64,
        schedule="linear",
        warm_up=0.05,
        crop_offsets="code2012",
        noise_units="code2012",
    ),
    # §6 of GoogLeNet's paper, which gives neither the initial rate, the batch size, the weight decay nor the start of
    # the average: those are ours
    "googlenet": Recipe(
        "googlenet",
        initialisation="fan_in",
        learning_rate=0.01,
        batch_size=128,
        schedule="four_per_cent",
        weight_decay=2e-4,
        noise_units="code2012",
        distorted=True,
        average_last=0.25,
    ),
}
# the same with drops about where those of 2012 were
RECIPES["stepped"] = replace(
    RECIPES["small"], name="stepped", learning_rate=0.003, batch_size=32, schedule="steps", drops_at=(0.6, 0.85)
)
# to ask what weight decay and the falling rate are worth (§5)
RECIPES["undecayed"] = replace(RECIPES["small"], name="undecayed", weight_decay=0.0)
RECIPES["steady"] = replace(RECIPES["small"], name="steady", schedule="steps")


def recipe(name: str) -> Recipe:
    """The recipe of this name, a key of RECIPES; a ValueError names them where there is none."""
    if name not in RECIPES:
        raise ValueError(f"recipe = {name!r}; accepted are {', '.join(RECIPES)}")
    return RECIPES[name]


def rate_factor(recipe: Recipe, done: float) -> float:
    """The factor on the rate in a "steps" or "linear" schedule when this fraction of the run is done."""
    warm = min(1.0, 0.1 + 0.9 * done / recipe.warm_up) if recipe.warm_up else 1.0
    return warm * (1 - done if recipe.schedule == "linear" else 0.1 ** _passed(recipe.drops_at, done))


def _passed(times: tuple[float, ...], done: float) -> int:
    return sum(done >= time for time in times)


def group_factor(recipe: Recipe, group: str, done: float) -> float:
    """The factor between the recipe's rate and that of a group of `parameter_groups`; 0 when it no longer learns."""
    if group.startswith("conv1") and done >= recipe.conv1_frozen_at:
        return 0.0
    if group.endswith("biases"):
        missed = max(0, _passed(recipe.drops_at, done) - recipe.bias_drops)
        return recipe.bias_rate * 10.0**missed
    return 0.1 ** _passed(recipe.conv1_drops_at, done) if group.startswith("conv1") else 1.0


def set_rates(optimizer: PaperSGD, recipe: Recipe, rate: float, done: float) -> None:
    """Give each group of `parameter_groups` its rate, when the schedule's rate is `rate`."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group_factor(recipe, group["name"], done)


def parameter_groups(net: nn.Module, recipe: Recipe, apart: bool = False) -> list[dict]:
    """A net's parameters for PaperSGD, in groups that the recipe treats alike, by the names that `group_factor` takes.

    One group, "weights", where the recipe treats all alike, unless they are wanted `apart`.
    """
    decay, of_biases = recipe.weight_decay, recipe.weight_decay * recipe.bias_decay
    alike = recipe.bias_rate == 1 and recipe.bias_decay and not recipe.conv1_drops_at and recipe.conv1_frozen_at == inf
    if alike and not apart:
        return grouped(net, lambda name: "weights", {"weights": decay})

    def group_of(name: str) -> str:
        return ("conv1 " if name.startswith("conv1.") else "") + ("biases" if name.endswith("bias") else "weights")

    decays = {"weights": decay, "conv1 weights": decay, "conv1 biases": of_biases, "biases": of_biases}
    return grouped(net, group_of, decays)
