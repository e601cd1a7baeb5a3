"""§5, the details of learning: initial weights, the update rule, the schedule, and recipes that name them together."""

import inspect
from dataclasses import dataclass, replace
from math import inf

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
STD_CAFFE = {"fc6": 0.005, "fc7": 0.005}
INITIALISATIONS = ("printed", "code2012", "caffe", "rescaled", "fan_in")


def initial_std(name: str, fan_in: int, rule: str) -> float:
    """Standard deviation of a layer's initial weights.

    printed   0.01 everywhere (§5).
    code2012  0.03 from the third convolution on, else 0.01 (every layers-*.cfg of the 2012 program).
    caffe     0.005 in the hidden fully connected layers, else 0.01 (models/bvlc_alexnet/train_val.prototxt).
    rescaled  code2012 times √(fan-in of the full-size net / fan-in here): a narrow net starts with the signal of the
              wide one.
    fan_in    √(2 / fan-in) but for conv1 and the last layer, which keep 0.01 (He et al. 2015).
    """
    own = {"code2012": STD_2012, "rescaled": STD_2012, "caffe": STD_CAFFE}.get(rule, {})
    std = own.get(name, PRINTED_STD)
    if rule == "rescaled":
        return std * rescaling(name, fan_in)
    if rule == "fan_in" and name not in ("conv1", "fc8", "fc"):
        return (2 / fan_in) ** 0.5
    return std


def rescaling(name: str, fan_in: int) -> float:
    """√(fan-in of the full-size net / fan-in here): what a narrow layer's weights lack in numbers."""
    return (FAN_IN_2012.get(name, 4096) / fan_in) ** 0.5


def initial_bias(name: str, rule: str) -> float:
    """Of BIASED_LAYERS 1, for "caffe" 0.1; of the others, and everywhere for "fan_in", 0."""
    if name not in BIASED_LAYERS:
        return 0.0
    return {"fan_in": 0.0, "caffe": 0.1}.get(rule, 1.0)


def initialise(net: nn.Module, rule: str = "printed", seed: int = 0) -> nn.Module:
    """Set all weights and biases of `net` in place and return it.

    Weights are normal, from numpy's generator, one stream a layer, so that they are the same on every processor
    (torch.randn is not). Biases are those of `initial_bias`.

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
            layer.bias.fill_(initial_bias(name, rule))
    return net


# ------------------------------------------------------------------------------------------------ the update rule


def without_compiler(optimizer: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    """The same optimiser, whose methods do not load torch's compiler at their first call: 900 modules, some seconds."""
    methods = {name: inspect.unwrap(getattr(optimizer, name)) for name in ("add_param_group", "zero_grad")}
    methods["step"] = torch.no_grad()(inspect.unwrap(optimizer.step))
    return type(optimizer.__name__, (optimizer,), methods)


class PaperSGD(without_compiler(torch.optim.SGD)):
    """The update rule of §5, with the velocity in units of weight:

        v ← momentum·v − weight_decay·ε·w − ε·g
        w ← w + v

    `torch.optim.SGD` keeps its buffer without the rate, b = −v/ε. The two take the same path while ε stays, and part
    when it changes: torch's next step shrinks at once with the rate, the paper's velocity lives on and decays. This
    rides on torch's fused kernel and rescales the buffer whenever a group's rate has changed. A group whose rate is 0
    is left alone, decay and momentum included, as in the 2012 program (src/weights.cu). A rate may be a tensor.
    """

    def __init__(self, params, lr, momentum=0.9, weight_decay=5e-4):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)

    def add_param_group(self, param_group: dict) -> None:
        super().add_param_group(param_group)
        self._complete(self.param_groups[-1])

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            self._complete(group)

    @staticmethod
    def _complete(group: dict) -> None:
        group["fused"] = all(p.device.type in ("cpu", "cuda") for p in group["params"])
        group.setdefault("buffer_lr", float(group["lr"]))  # of torch.optim.SGD's state, the rate that it was saved with

    @torch.no_grad()
    def step(self, closure=None):
        held, loss = [], None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if group["lr"] == 0:
                held += [(p, p.grad) for p in group["params"]]
                for p in group["params"]:
                    p.grad = None
            elif float(group["lr"]) != group["buffer_lr"]:
                self._rescale(group)
        for group in self.param_groups:  # torch keeps no buffer without momentum, where v is the update alone
            for p in group["params"] if not group["momentum"] else ():
                if p.grad is not None:
                    self.state[p]["momentum_buffer"] = p.grad.add(p, alpha=group["weight_decay"])
        super().step()
        for p, grad in held:
            p.grad = grad
        return loss

    def _rescale(self, group: dict) -> None:
        """Express the velocity of a group in its new rate."""
        rate = float(group["lr"])  # a tensor would follow when the rate is changed in place
        if group["buffer_lr"]:
            for p in group["params"]:
                buffer = self.state[p].get("momentum_buffer")
                if buffer is not None:
                    buffer.mul_(group["buffer_lr"] / rate)
        group["buffer_lr"] = rate

    def velocity(self, p: torch.Tensor) -> torch.Tensor:
        """v of one parameter, in units of its weights."""
        for group in self.param_groups:
            if any(p is other for other in group["params"]):
                buffer = self.state.get(p, {}).get("momentum_buffer")
                return torch.zeros_like(p) if buffer is None else buffer * -group["buffer_lr"]
        raise ValueError("the parameter is in none of the optimiser's groups")


# --------------------------------------------------------------------------------------------------- the schedule


# the epochs after which a person divided the rate of run 145 by ten (layer-params-145.cfg); it ended at LOGGED_END.
# The rate of conv1 was divided once more, and with that the colour noise switched off; then conv1 was frozen.
LOGGED_2012 = (25, 51, 79)
LOGGED_END, LOGGED_NOISE_OFF, LOGGED_FROZEN = 91, 67, 72
PATIENCE = 5  # epochs of 90


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

    def __init__(self, learning_rate=0.01, factor=10.0, drops=3, patience=PATIENCE, least_gain=0.0):
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
    """Everything about learning that is not the net or the data. Times are fractions of the run.

    schedule: "plateau" for the rule above; after a warm-up, "steps" divides by ten at each of `drops_at`, and "linear"
        falls to zero at the end; "four_per_cent" less every eight epochs (`four_per_cent_less`).
    bias_rate: by what the rate of the biases is larger; they take part in the first `bias_drops` of the drops.
    bias_decay: whether biases decay, too.
    conv1_drops_at, conv1_frozen_at: when the first layer's rate is divided once more, and when it stops learning.
    views_shared_by: how many images in a row get the same crop and reflection.
    noise_units: a reading of the colour noise (augmentation.colour_shifts), which is there until `noise_until`.
    distorted: crops of any size and shape and photometric distortion, as in `distortions.py`.
    average_last: the share of the run over whose steps the weights are averaged at its end; 0 for the last ones.
    """

    name: str
    initialisation: str
    learning_rate: float
    batch_size: int
    schedule: str
    epochs: int = 90
    warm_up: float = 0.0
    drops_at: tuple[float, ...] = ()
    momentum: float = 0.9
    weight_decay: float = 5e-4
    bias_rate: float = 1.0
    bias_drops: int = 99
    bias_decay: bool = True
    conv1_drops_at: tuple[float, ...] = ()
    conv1_frozen_at: float = inf
    crop_offsets: str = "printed"
    views_shared_by: int = 1
    noise_std: float = 0.1
    noise_units: str = "torch"
    noise_until: float = inf
    distorted: bool = False
    average_last: float = 0.0


RECIPES = {
    # the eigenvalues of the printed colour formula make sense for pixels on the 0-1 scale only: units "torch"
    "paper": Recipe("paper", "printed", 0.01, 128, "plateau"),
    # what made the paper's numbers: convdata_jpeg.py, and run 145 as its file tells it (facts that the paper leaves
    # out: the biases, conv1, the noise). Of the biases' rate the last state of that file says that it was never
    # divided; but it was changed after the end, and the files of each stage of a sister run say that it was, once.
    "code2012": Recipe(
        "code2012",
        initialisation="code2012",
        learning_rate=0.01,
        batch_size=128,
        schedule="steps",
        epochs=LOGGED_END,
        drops_at=tuple(epoch / LOGGED_END for epoch in LOGGED_2012),
        bias_rate=2.0,
        bias_drops=1,
        bias_decay=False,
        conv1_drops_at=(LOGGED_NOISE_OFF / LOGGED_END,),
        conv1_frozen_at=LOGGED_FROZEN / LOGGED_END,
        crop_offsets="code2012",
        views_shared_by=32,
        noise_units="code2012",
        noise_until=LOGGED_NOISE_OFF / LOGGED_END,
    ),
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
# what §5 says of weight decay and of the falling rate can be asked of a run without them
RECIPES["undecayed"] = replace(RECIPES["small"], name="undecayed", weight_decay=0.0)
RECIPES["steady"] = replace(RECIPES["small"], name="steady", schedule="steps")


def recipe(name: str) -> Recipe:
    """A recipe by its name: "paper" (as printed), "code2012" (as done), "googlenet"; for small nets "small", "stepped",
    "undecayed", "steady".

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
    return warm * 0.1 ** _passed(recipe.drops_at, done)


def four_per_cent_less(epochs_done: int, every: int = 8) -> float:
    """By what GoogLeNet's schedule multiplies the rate: 4 % less for every 8 epochs that are done (§6)."""
    return 0.96 ** (epochs_done // every)


def averaging(net: nn.Module):
    """Polyak's average of a net's weights (GoogLeNet, §6), beside the net: a `torch.optim.swa_utils.AveragedModel`."""
    from torch.optim.swa_utils import AveragedModel  # few runs want it

    return AveragedModel(net)


def _passed(times: tuple[float, ...], done: float) -> int:
    return sum(done >= time for time in times)


def group_factor(recipe: Recipe, group: str, done: float) -> float:
    """By what the rate of a group of `parameter_groups` differs from the recipe's; 0 when it has stopped to learn."""
    if group.startswith("conv1") and done >= recipe.conv1_frozen_at:
        return 0.0
    if group.endswith("biases"):
        missed = max(0, _passed(recipe.drops_at, done) - recipe.bias_drops)
        return recipe.bias_rate * 10.0**missed
    return 0.1 ** _passed(recipe.conv1_drops_at, done) if group.startswith("conv1") else 1.0


def set_rates(optimizer: PaperSGD, recipe: Recipe, rate: float, done: float) -> None:
    """Give each group of `parameter_groups` its rate, when that of the recipe's schedule is `rate`."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group_factor(recipe, group["name"], done)


def parameter_groups(net: nn.Module, recipe: Recipe) -> list[dict]:
    """A net's parameters for PaperSGD, by how the recipe treats them: each group has a "name" for `group_factor`.

    One group, "weights", where all are treated alike.
    """
    groups: dict[str, list[nn.Parameter]] = {"weights": []}
    alike = recipe.bias_rate == 1 and recipe.bias_decay and not recipe.conv1_drops_at and recipe.conv1_frozen_at == inf
    for name, parameter in net.named_parameters():
        kind = "biases" if name.endswith("bias") else "weights"
        group = "weights" if alike else f"conv1 {kind}" if name.startswith("conv1.") else kind
        groups.setdefault(group, []).append(parameter)
    decays = {name: recipe.weight_decay * (recipe.bias_decay or not name.endswith("biases")) for name in groups}
    return [{"name": n, "params": parameters, "weight_decay": decays[n]} for n, parameters in groups.items()]


def patience_for(epochs: int) -> int:
    """How many epochs PlateauRule waits in a run of so many: five of the paper's ninety, and never fewer than two."""
    return max(2, round(PATIENCE * epochs / 90))
