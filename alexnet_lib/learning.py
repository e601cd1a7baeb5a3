"""§5, the details of learning: initial weights, the update rule, the schedule, and recipes that name them together."""

import inspect
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

# ---------------------------------------------------------------------------------------------- initial weights

# "the second, fourth and fifth convolution and the hidden fully connected layers" start with their units switched on
BIASED_LAYERS = ("conv2", "conv4", "conv5", "conv6", "fc6", "fc7")
PRINTED_STD = 0.01
STD_2012 = {"conv3": 0.03, "conv4": 0.03, "conv5": 0.03, "conv6": 0.03}
FAN_IN_2012 = {
    "conv1": 363,
    "conv2": 1200,
    "conv3": 2304,
    "conv4": 1728,
    "conv5": 1728,
    "conv6": 2304,
    "fc6": 9216,
    "fc7": 4096,
}
INITIALISATIONS = ("printed", "code2012", "rescaled", "fan_in")


def initial_std(name: str, fan_in: int, rule: str) -> float:
    """Standard deviation of a layer's initial weights.

    printed   0.01 everywhere (§5).
    code2012  0.03 from the third convolution on, else 0.01 (every layers-*.cfg of the 2012 program).
    rescaled  code2012 times √(fan-in of the full-size net / fan-in here): a narrow net starts with the signal of the
              wide one.
    fan_in    √(2 / fan-in) but for conv1 and the last layer, which keep 0.01 (He et al. 2015).
    """
    std = PRINTED_STD if rule in ("printed", "fan_in") else STD_2012.get(name, PRINTED_STD)
    if rule == "rescaled":
        return std * (FAN_IN_2012.get(name, 4096) / fan_in) ** 0.5
    if rule == "fan_in" and name not in ("conv1", "fc8", "fc"):
        return (2 / fan_in) ** 0.5
    return std


def initialise(net: nn.Module, rule: str = "printed", seed: int = 0) -> nn.Module:
    """Set all weights and biases of `net` in place and return it.

    Weights are normal, from numpy's generator, one stream a layer, so that they are the same on every processor
    (torch.randn is not). Biases are 1 in BIASED_LAYERS and 0 elsewhere; 0 everywhere for "fan_in".

    Raises:
        ValueError: an unknown rule.
    """
    if rule not in INITIALISATIONS:
        raise ValueError(f"initialisation = {rule!r}; accepted are {', '.join(INITIALISATIONS)}")
    layers = [(n, m) for n, m in net.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    for number, (name, layer) in enumerate(layers):
        generator = np.random.default_rng([seed, number])
        std = initial_std(name, layer.weight[0].numel(), rule)
        weights = generator.standard_normal(tuple(layer.weight.shape), dtype=np.float32) * np.float32(std)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(weights))
            layer.bias.fill_(1.0 if name in BIASED_LAYERS and rule != "fan_in" else 0.0)
    return net


# ------------------------------------------------------------------------------------------------ the update rule


class PaperSGD(torch.optim.SGD):
    """The update rule of §5, with the velocity in units of weight:

        v ← momentum·v − weight_decay·ε·w − ε·g
        w ← w + v

    `torch.optim.SGD` keeps its buffer without the rate, b = −v/ε. The two take the same path while ε stays, and part
    when it changes: torch's next step shrinks at once with the rate, the paper's velocity lives on and decays. This
    rides on torch's fused kernel and rescales the buffer whenever a group's rate has changed. A group whose rate is 0
    is left alone altogether, decay and momentum included, as in the 2012 program (src/weights.cu).
    """

    # torch wraps these for its compiler, and the wrappers load it at the first call: nine hundred modules, some seconds
    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)

    def __init__(self, params, lr, momentum=0.9, weight_decay=5e-4):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        for group in self.param_groups:
            group["fused"] = all(p.device.type in ("cpu", "cuda") for p in group["params"])
            group["buffer_lr"] = group["lr"]

    @torch.no_grad()
    def step(self, closure=None):
        held = []
        for group in self.param_groups:
            if group["lr"] == 0:
                held += [(p, p.grad) for p in group["params"]]
                for p in group["params"]:
                    p.grad = None
            elif group["lr"] != group["buffer_lr"]:
                self._rescale(group)
        loss = inspect.unwrap(torch.optim.SGD.step)(self, closure)
        for p, grad in held:
            p.grad = grad
        return loss

    def _rescale(self, group: dict) -> None:
        """Express the velocity of a group in its new rate."""
        if group["buffer_lr"]:
            for p in group["params"]:
                buffer = self.state[p].get("momentum_buffer")
                if buffer is not None:
                    buffer.mul_(group["buffer_lr"] / group["lr"])
        group["buffer_lr"] = group["lr"]

    def velocity(self, p: torch.Tensor) -> torch.Tensor:
        """v of one parameter, in units of its weights."""
        for group in self.param_groups:
            if any(p is other for other in group["params"]):
                buffer = self.state[p].get("momentum_buffer")
                return torch.zeros_like(p) if buffer is None else buffer * -group["buffer_lr"]
        raise ValueError("the parameter is in none of the optimiser's groups")


# --------------------------------------------------------------------------------------------------- the schedule


# the epochs after which a person divided the rate of run 145 by ten (layer-params-145.cfg); it ended at 91
LOGGED_2012 = (25, 51, 79)


class PlateauRule:
    """§5's heuristic: divide the rate by ten when the validation error stops improving; after three times, stop.

    The paper does not say what "stops improving" is: here, `patience` epochs in a row without a new best error that
    is better by at least `least_gain`.

    Args:
        learning_rate: the rate to begin with.
        factor: what it is divided by.
        drops: how many times; the next plateau ends the run.
        patience: epochs without improvement that make a plateau.
        least_gain: the smallest fall of the error that counts.
    """

    def __init__(self, learning_rate=0.01, factor=10.0, drops=3, patience=5, least_gain=0.0):
        if learning_rate <= 0 or factor <= 1 or drops < 0 or patience < 1:
            raise ValueError(
                f"learning_rate = {learning_rate}, factor = {factor}, drops = {drops}, patience = {patience}; "
                "accepted are a rate above 0, a factor above 1, no negative drops and a patience of 1 and more"
            )
        self.first_rate, self.factor, self.drops = learning_rate, factor, drops
        self.patience, self.least_gain = patience, least_gain
        self.best, self.waited, self.dropped = float("inf"), 0, 0

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


# ---------------------------------------------------------------------------------------------------------- recipes


@dataclass(frozen=True)
class Recipe:
    """Everything about learning that is not the net or the data.

    schedule: "plateau" for the rule above; after a warm-up, "steps" divides by ten at each of `drops_at`, fractions of
    the run, and "linear" falls to zero at its end; "four_per_cent" less every eight epochs (`four_per_cent_less`).
    noise_units is a reading of the colour noise (augmentation.colour_shifts). distorted: crops of any size and shape
    and photometric distortion, as in `distortions.py`. average_last: the share of the run over whose steps the
    weights are averaged at its end; 0 for the last weights as they are.
    """

    name: str
    initialisation: str
    learning_rate: float
    batch_size: int
    schedule: str
    warm_up: float = 0.0
    drops_at: tuple[float, ...] = ()
    momentum: float = 0.9
    weight_decay: float = 5e-4
    crop_offsets: str = "printed"
    noise_std: float = 0.1
    noise_units: str = "torch"
    distorted: bool = False
    average_last: float = 0.0


RECIPES = {
    # the eigenvalues of the printed colour formula make sense for pixels on the 0-1 scale only: units "torch"
    "paper": Recipe("paper", "printed", 0.01, 128, "plateau"),
    # neither is of the paper: what trains a narrow net on a small collection within a minute or two, with the rate
    # falling evenly to zero, and the same with drops where those of 2012 were
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
    "stepped": Recipe(
        "stepped",
        initialisation="rescaled",
        learning_rate=0.003,
        batch_size=32,
        schedule="steps",
        warm_up=0.05,
        drops_at=(0.6, 0.85),
        crop_offsets="code2012",
        noise_units="code2012",
    ),
    # §6 of GoogLeNet's paper, which does not give the first rate, the batch, the weight decay, or where the average
    # begins: those are ours
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


def recipe(name: str) -> Recipe:
    """A recipe by its name: "paper" (as printed), "small" or "stepped" (for small nets and collections), "googlenet".

    Raises:
        ValueError: an unknown name.
    """
    if name not in RECIPES:
        raise ValueError(f"recipe = {name!r}; accepted are {', '.join(RECIPES)}")
    return RECIPES[name]


def rate_factor(recipe: Recipe, done: float) -> float:
    """By what a "steps" or "linear" schedule multiplies the rate when this fraction of the run is done."""
    warm = min(1.0, 0.1 + 0.9 * done / recipe.warm_up) if recipe.warm_up else 1.0
    if recipe.schedule == "linear":
        return warm * (1 - done)
    return warm * 0.1 ** sum(done >= drop for drop in recipe.drops_at)


def four_per_cent_less(epochs_done: int, every: int = 8) -> float:
    """By what GoogLeNet's schedule multiplies the rate: 4 % less for every 8 epochs that are done (§6)."""
    return 0.96 ** (epochs_done // every)


def averaging(net: nn.Module):
    """Polyak's average of a net's weights (GoogLeNet, §6), beside the net: a `torch.optim.swa_utils.AveragedModel`."""
    from torch.optim.swa_utils import AveragedModel  # few runs want it

    return AveragedModel(net)
