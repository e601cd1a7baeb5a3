"""§3.1 and §3.3, the CIFAR-10 nets, from the files of 2012 that the paper's footnotes point to, by the files' names.

The paper says that Figure 1's net has four layers, and that normalisation took a "four-layer CNN" from 13 % to 11 %
(§3.3); it prints neither. A net here is a plain `nn.Sequential` whose children carry the names of the table: net.conv1,
net.neuron1, … net.fc. `neuron` stands for the activation, which is a choice (Figure 1).

    name                    test error that its file claims
    19pct                   19 %
    18pct                   18 %    19pct with normalisation within each map
    conv-local-13pct        13 %    two convolutions, two locally connected layers
    conv-local-11pct-first  11 %    conv-local-13pct with §3.3's normalisation, and no other change
    conv-local-11pct-final  11 %    another window and place of the normalisation, and a third layer twice as wide
"""

import re
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .architecture import LARGEST, stacked
from .learning import draw_weights, grouped, learned_layers
from .normalization import LocalResponseNorm, SpatialResponseNorm


@dataclass(frozen=True)
class Learned:
    """A layer with weights: maps, kernel, padding; standard deviation of its initial weights, and their decay."""

    maps: int
    kernel: int
    padding: int
    std: float
    decay: float


@dataclass(frozen=True)
class CifarNet:
    """A net of the table: the order of its layers, and those with weights.

    image_size: side of its input in pixels; 24 are crops of the 32. last_decay: of the fully connected layer's weights.
    window: maps that the normalisation sums.
    """

    order: str
    learned: dict[str, Learned]
    image_size: int = 24
    last_decay: float = 0.004
    window: int = 5


LAST_STD = 0.01  # of the fully connected layer
THREE_CONVOLUTIONS = {
    "conv1": Learned(32, 5, padding=2, std=0.0001, decay=0.004),
    "conv2": Learned(32, 5, padding=2, std=0.01, decay=0.004),
    "conv3": Learned(64, 5, padding=2, std=0.01, decay=0.004),
}
TWO_AND_TWO = {
    "conv1": Learned(64, 5, padding=2, std=0.0001, decay=0.0),
    "conv2": Learned(64, 5, padding=2, std=0.01, decay=0.0),
    "local3": Learned(32, 3, padding=1, std=0.04, decay=0.004),
    "local4": Learned(32, 3, padding=1, std=0.04, decay=0.004),
}
WIDER_THIRD = TWO_AND_TWO | {"local3": Learned(64, 3, padding=1, std=0.04, decay=0.004)}

NETS = {
    "19pct": CifarNet(
        "conv1 neuron1 max1   conv2 neuron2 avg2   conv3 neuron3 avg3   flatten fc",
        THREE_CONVOLUTIONS,
        image_size=32,
        last_decay=3.0,
    ),
    "18pct": CifarNet(
        "conv1 neuron1 max1 rnorm1   conv2 neuron2 avg2 rnorm2   conv3 neuron3 avg3   flatten fc",
        THREE_CONVOLUTIONS,
        image_size=32,
        last_decay=1.0,
    ),
    "conv-local-13pct": CifarNet(
        "conv1 neuron1 max1   conv2 neuron2 max2   local3 neuron3   local4 neuron4   flatten fc", TWO_AND_TWO
    ),
    "conv-local-11pct-first": CifarNet(
        "conv1 neuron1 lrn1 max1   conv2 neuron2 lrn2 max2   local3 neuron3   local4 neuron4   flatten fc", TWO_AND_TWO
    ),
    "conv-local-11pct-final": CifarNet(
        "conv1 neuron1 max1 lrn1   conv2 neuron2 lrn2 max2   local3 neuron3   local4 neuron4   flatten fc",
        WIDER_THIRD,
        last_decay=0.01,
        window=9,
    ),
}


class AbsTanh(nn.Module):
    """|tanh(x)|, the activation of Jarrett et al. 2009, with which §3.1 compares."""

    def forward(self, x: Tensor) -> Tensor:
        return x.tanh().abs()


class _Flatten(nn.Flatten):
    """torch's, with the gradient in the memory layout of the input: with another, pooling is several times slower."""

    def forward(self, x: Tensor) -> Tensor:
        if x.requires_grad and x.is_contiguous(memory_format=torch.channels_last):
            x.register_hook(lambda grad: grad.contiguous(memory_format=torch.channels_last))
        return super().forward(x)


ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "logistic": nn.Sigmoid, "abs_tanh": AbsTanh}
# where tanh and the logistic function have a seventeenth of their steepest slope left, and ReLU has none
SATURATED = {
    "relu": lambda y: y == 0,
    "tanh": lambda y: y.abs() > 0.97,
    "logistic": lambda y: (y < 0.015) | (y > 0.985),
    "abs_tanh": lambda y: y > 0.97,
}

INITIALISATIONS = ("published", "fan_in")
NORMALIZATIONS = ("published", "lrn", None)


def activation_table(x: Tensor) -> pd.DataFrame:
    """Each activation's value and slope at the places x, by autograd: columns x, activation, value, slope."""
    tables = []
    for name, activation in ACTIVATIONS.items():
        at = x.clone().requires_grad_()
        value = activation()(at)
        (slope,) = torch.autograd.grad(value.sum(), at)
        tables.append(pd.DataFrame({"x": x, "activation": name, "value": value.detach(), "slope": slope}))
    return pd.concat(tables, ignore_index=True)


def cifar_net(
    name: str,
    num_classes: int = 10,
    *,
    activation: str = "relu",
    initialisation: str = "published",
    normalization: str | None = "published",
    image_size: int | None = None,
    compiled: bool = False,
    seed: int = 0,
) -> nn.Sequential:
    """Build a net of the table, with its initial weights.

    Args:
        name: which net, a key of NETS.
        num_classes: outputs of the last layer.
        activation: a key of ACTIVATIONS; the files have ReLU everywhere.
        initialisation: "published", or "fan_in", for inputs of unit variance: standard deviations √(2 / fan-in) with
            ReLU (He et al. 2015) and √(1 / fan-in) with the others (LeCun et al. 1998). Biases are 0.
        normalization: "published", None, or "lrn": in place of the net's own, §3.3's across five maps after the first
            two activations. conv-local-13pct with "lrn" is conv-local-11pct-first.
        image_size: side of the square input in pixels; the net's own unless given.
        compiled: whether the normalisation may use torch.compile.
        seed: of the weights, which depend on it and on the layer's number alone.

    Returns:
        An `nn.Sequential`: float (N, 3, image_size, image_size) to (N, num_classes) logits.

    Raises:
        ValueError: an unknown name or choice, or a size with which no net can be built.
    """
    asked = {"net": (name, NETS), "activation": (activation, ACTIVATIONS)}
    asked |= {"initialisation": (initialisation, INITIALISATIONS), "normalization": (normalization, NORMALIZATIONS)}
    for what, (value, accepted) in asked.items():
        if value not in accepted:
            raise ValueError(f"{what} = {value!r}; accepted are {', '.join(map(str, accepted))}")
    spec = NETS[name]
    side = spec.image_size if image_size is None else image_size
    if not (8 <= side <= 256 and 1 <= num_classes <= LARGEST["num_classes"]):
        raise ValueError(f"image_size = {side} and num_classes = {num_classes}; accepted are 8 to 256, 1 to 1,000,000")
    window = 5 if normalization == "lrn" else spec.window
    lrn = LocalResponseNorm("caffe", window, alpha=0.001, compiled=compiled)
    make = partial(_layer, learned=spec.learned, num_classes=num_classes, activation=activation, lrn=lrn)
    net = nn.Sequential(stacked(_order(spec.order, activation, normalization), make, side)[0])
    return draw_weights(net, initial_stds(net, spec, activation, initialisation), {}, seed)


def _order(order: str, activation: str, normalization: str | None) -> list[str]:
    """The names of the layers in the order of their computation."""
    if normalization != "published":
        order = re.sub(r"(lrn|rnorm)\d", "", order)
    if normalization == "lrn":
        order = re.sub(r"neuron([12])", r"neuron\1 lrn\1", order)
    if activation != "abs_tanh":
        # a maximum commutes with what never falls: the same numbers for a quarter of the work
        order = re.sub(r"(neuron\d)\s+(max\d)", r"\2 \1", order)
    return order.split()


def _layer(name, shape, learned, num_classes, activation, lrn) -> nn.Module:
    """One layer by its name, for an input of this shape."""
    match name.rstrip("0123456789"):
        case "conv":
            return nn.Conv2d(shape[0], learned[name].maps, learned[name].kernel, padding=learned[name].padding)
        case "local":
            own = learned[name]
            return LocallyConnected2d(shape[0], own.maps, own.kernel, shape[1], own.padding)
        case "fc":
            return nn.Linear(shape[0], num_classes)
        case "max":
            return nn.MaxPool2d(3, 2, ceil_mode=True)
        case "avg":
            return nn.AvgPool2d(3, 2, ceil_mode=True, count_include_pad=False)
        case "lrn":
            return deepcopy(lrn)
        case "rnorm":
            return SpatialResponseNorm(3, alpha=0.00005)
        case "flatten":
            return _Flatten()
    return ACTIVATIONS[activation]()


def initial_stds(net: nn.Sequential, spec: CifarNet, activation: str, rule: str) -> dict[str, float]:
    """The standard deviation of each layer's initial weights, by a rule of INITIALISATIONS."""
    if rule == "published":
        return {name: layer.std for name, layer in spec.learned.items()} | {"fc": LAST_STD}
    gain, stds = 2.0 if activation == "relu" else 1.0, {}
    for name, layer in learned_layers(net).items():
        fan_in = layer.weight.shape[1] if name.startswith("local") else layer.weight[0].numel()
        stds[name] = (gain / fan_in) ** 0.5
    return stds


def cifar_parameter_groups(net, name: str, learning_rate=0.001, bias_rate=0.002, weight_decay=1.0) -> list[dict]:
    """The groups of an optimiser as in the files: rates of weights and of biases, and each layer's decay.

    One group for the weights of each layer, under its name, and one for all "biases", which have no decay. The rates
    are epsW and epsB of the files, whose schedules lower the first only; `weight_decay` is a factor on their decays.
    """
    published = {layer: learned.decay for layer, learned in NETS[name].learned.items()} | {"fc": NETS[name].last_decay}
    decays = {layer: weight_decay * decay for layer, decay in published.items()} | {"biases": 0.0}
    groups = grouped(net, lambda p: "biases" if p.endswith("bias") else p.removesuffix(".weight"), decays)
    return [g | {"lr": bias_rate if g["name"] == "biases" else learning_rate} for g in groups]


@torch.no_grad()
def saturation(net: nn.Sequential, x: Tensor, activation: str) -> dict[str, float]:
    """The share of units that are SATURATED after each activation, for inputs x: {"saturated1": …}.

    Where max pooling comes first, as it does with rising activations (see `_order`), its maxima are counted, fewer of
    which are silent.
    """
    shares = {}
    for name, layer in net.named_children():
        x = layer(x)
        if name.startswith("neuron"):
            shares[name.replace("neuron", "saturated")] = SATURATED[activation](x).float().mean().item()
    return shares


def differing_share(net: nn.Sequential, x: Tensor) -> float:
    """How much of the last layer's input differs between the pictures x, from 0 to 1.

    The root mean square of its deviations from the mean over the pictures, divided by its own root mean square; 0 where
    nothing reaches that layer.
    """
    signal = net[:-1](x)
    whole = signal.square().mean()
    return ((signal - signal.mean(0)).square().mean() / whole).sqrt().item() if whole else 0.0


# ------------------------------------------------------------------------------------------- locally connected layers


class _Patches(torch.autograd.Function):
    """(N, C, S, S) to (positions, N, kernel·kernel·C): what each position of the output sees.

    F.unfold gives the same numbers in ten times the time. Autograd's own gradient of the slices would fill a zeroed
    copy of the input for each unit of a kernel.
    """

    @staticmethod
    def forward(ctx, x: Tensor, kernel: int, padding: int) -> Tensor:
        ctx.shape, ctx.kernel, ctx.padding = x.shape, kernel, padding
        by_place = F.pad(x.permute(2, 3, 0, 1), (0, 0, 0, 0) + (padding,) * 4)
        return torch.cat([by_place[window] for window in _windows(by_place.shape[0], kernel)], -1).flatten(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        batch, maps, side, _ = ctx.shape
        padded, edge = side + 2 * ctx.padding, slice(ctx.padding, ctx.padding + side)
        total = grad.new_zeros(padded, padded, batch, maps)
        positions = padded - ctx.kernel + 1
        parts = grad.unflatten(0, (positions, positions)).split(maps, -1)
        for window, part in zip(_windows(padded, ctx.kernel), parts, strict=True):
            total[window] += part
        return total[edge, edge].permute(2, 3, 0, 1), None, None


def _windows(side: int, kernel: int) -> list[tuple[slice, slice]]:
    """For each unit of a kernel, the inputs that it meets as the kernel slides over a square."""
    reach = [slice(i, i + side - kernel + 1) for i in range(kernel)]
    return [(rows, columns) for rows in reach for columns in reach]


class LocallyConnected2d(nn.Module):
    """A convolution with a kernel of its own at each position ("local" in the files of 2012).

    (N, in_channels, size, size) to (N, out_channels, S, S) with S = size + 2·padding − kernel_size + 1. The weight is
    (S·S, kernel_size·kernel_size·in_channels, out_channels), positions by row, inputs by row, column, map; the bias is
    (S·S, out_channels). A kernel that doesn't fit, and an input of another size, raise a ValueError.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, size: int, padding: int = 0):
        super().__init__()
        side = size + 2 * padding - kernel_size + 1
        if min(in_channels, out_channels, kernel_size, side) < 1 or padding < 0:
            raise ValueError(f"a kernel of {kernel_size} for {size} × {size} units with padding {padding}")
        self.out_channels, self.size, self.side = out_channels, size, side
        self.kernel_size, self.stride, self.padding = kernel_size, 1, padding
        fan_in = kernel_size**2 * in_channels
        self.weight = nn.Parameter(torch.empty(side**2, fan_in, out_channels).uniform_(-1, 1) / fan_in**0.5)
        self.bias = nn.Parameter(torch.zeros(side**2, out_channels))

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] != (self.size, self.size):
            found = " × ".join(map(str, x.shape[2:]))
            raise ValueError(f"{found} units; accepted are {self.size} × {self.size}, for each place has a kernel")
        patches = _Patches.apply(x, self.kernel_size, self.padding)
        y = torch.baddbmm(self.bias[:, None], patches, self.weight)
        return y.unflatten(0, (self.side, self.side)).permute(2, 3, 0, 1)
