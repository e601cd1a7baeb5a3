"""§3.1 and §3.3, the CIFAR-10 nets: those of the files that the paper's footnotes point to, by the files' names.

The paper says of Figure 1's net that it has four layers, and of §3.3's that normalisation took a "four-layer CNN" from
13 % to 11 %; it prints neither. The nets are in the files layers-19pct, -18pct, -conv-local-13pct and -conv-local-11pct
of the program of 2012. A net here is a plain `nn.Sequential` whose children carry the names of the table: net.conv1,
net.neuron1, … net.fc. `neuron` stands for the activation, which is a choice (Figure 1).

    name                    test error that its file claims
    19pct                   19 %
    18pct                   18 %    19pct with normalisation within each map
    conv-local-13pct        13 %    two convolutions, two locally connected layers
    conv-local-11pct-first  11 %    conv-local-13pct with §3.3's normalisation, and no other change
    conv-local-11pct-final  11 %    another window and place of the normalisation, and a third layer twice as wide
"""

import re
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .architecture import LARGEST
from .normalization import LocalResponseNorm, SpatialResponseNorm


@dataclass(frozen=True)
class Learned:
    """A layer with weights: maps, side of its kernel, padding; deviation of the initial weights and their decay."""

    maps: int
    kernel: int
    padding: int
    std: float
    decay: float


@dataclass(frozen=True)
class CifarNet:
    """A net of the table below: the order of its layers, those with weights, the last one's std and decay.

    image_size: side of its input in pixels; 24 are crops of the 32. window: maps that its normalisation sums.
    """

    order: str
    learned: dict[str, Learned]
    last: tuple[float, float]
    image_size: int
    window: int = 5


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
        last=(0.01, 3.0),
        image_size=32,
    ),
    "18pct": CifarNet(
        "conv1 neuron1 max1 rnorm1   conv2 neuron2 avg2 rnorm2   conv3 neuron3 avg3   flatten fc",
        THREE_CONVOLUTIONS,
        last=(0.01, 1.0),
        image_size=32,
    ),
    "conv-local-13pct": CifarNet(
        "conv1 neuron1 max1   conv2 neuron2 max2   local3 neuron3   local4 neuron4   flatten fc",
        TWO_AND_TWO,
        last=(0.01, 0.004),
        image_size=24,
    ),
    "conv-local-11pct-first": CifarNet(
        "conv1 neuron1 lrn1 max1   conv2 neuron2 lrn2 max2   local3 neuron3   local4 neuron4   flatten fc",
        TWO_AND_TWO,
        last=(0.01, 0.004),
        image_size=24,
    ),
    "conv-local-11pct-final": CifarNet(
        "conv1 neuron1 max1 lrn1   conv2 neuron2 lrn2 max2   local3 neuron3   local4 neuron4   flatten fc",
        WIDER_THIRD,
        last=(0.01, 0.01),
        image_size=24,
        window=9,
    ),
}


class AbsTanh(nn.Module):
    """|tanh(x)|, the activation of Jarrett et al. 2009, with which §3.1 compares."""

    def forward(self, x: Tensor) -> Tensor:
        return x.tanh().abs()


class _Flatten(nn.Flatten):
    """torch's, but the gradient has the layout of the input; pooling is several times slower if it has another one."""

    def forward(self, x: Tensor) -> Tensor:
        if x.requires_grad and x.is_contiguous(memory_format=torch.channels_last):
            x.register_hook(lambda grad: grad.contiguous(memory_format=torch.channels_last))
        return super().forward(x)


ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "logistic": nn.Sigmoid, "abs_tanh": AbsTanh}
# y where less than a seventeenth of the slope at 0 is left (tanh, logistic), and where none is (ReLU)
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
        initialisation: "published", or "fan_in": deviations √(2 / fan-in) for ReLU (He et al. 2015) and √(1 / fan-in)
            for the others (LeCun et al. 1998), which suit inputs of unit variance. Biases are 0.
        normalization: "published", None (none at all), or "lrn": §3.3's across five maps after the first two
            activations, in place of the net's own. conv-local-13pct with "lrn" is conv-local-11pct-first.
        image_size: side of the square input in pixels; the net's own unless given.
        compiled: whether the normalisation may use torch.compile.
        seed: of the weights. A layer's weights do not depend on the other layers' kinds.

    Returns:
        An `nn.Sequential`: float (N, 3, image_size, image_size) to (N, num_classes) logits.

    Raises:
        ValueError: an unknown name or choice, or a size with which no net can be built.
    """
    _check(name, activation, initialisation, normalization)
    spec, layers = NETS[name], OrderedDict()
    side, maps = spec.image_size if image_size is None else image_size, 3
    if not (8 <= side <= 256 and 1 <= num_classes <= LARGEST["num_classes"]):
        raise ValueError(f"image_size = {side} and num_classes = {num_classes}; accepted are 8 to 256, 1 to 1,000,000")
    for layer in _order(spec.order, activation, normalization):
        window = 5 if normalization == "lrn" else spec.window
        layers[layer] = _layer(layer, spec, maps, side, num_classes, activation, window, compiled)
        if layer.startswith(("max", "avg")):
            side = -(-(side - 3) // 2) + 1  # windows hang over the edge
        maps = spec.learned[layer].maps if layer in spec.learned else maps
    return _initialise(nn.Sequential(layers), name, activation, initialisation, seed)


def _check(name, activation, initialisation, normalization) -> None:
    asked = {"net": (name, NETS), "activation": (activation, ACTIVATIONS)}
    asked |= {"initialisation": (initialisation, INITIALISATIONS), "normalization": (normalization, NORMALIZATIONS)}
    for what, (value, accepted) in asked.items():
        if value not in accepted:
            raise ValueError(f"{what} = {value!r}; accepted are {', '.join(map(str, accepted))}")


def _order(order: str, activation: str, normalization: str | None) -> list[str]:
    """The names of the layers in the order in which they are computed."""
    if normalization != "published":
        order = re.sub(r"(lrn|rnorm)\d", "", order)
    if normalization == "lrn":
        order = re.sub(r"neuron([12])", r"neuron\1 lrn\1", order)
    if activation != "abs_tanh":
        # a maximum commutes with what never falls: the same numbers with a quarter of the work
        order = re.sub(r"(neuron\d)\s+(max\d)", r"\2 \1", order)
    return order.split()


def _layer(name, spec, maps, side, num_classes, activation, window, compiled) -> nn.Module:
    """One layer by its name, for an input of `maps` maps of side × side units."""
    match name.rstrip("0123456789"):
        case "conv":
            conv = spec.learned[name]
            return nn.Conv2d(maps, conv.maps, conv.kernel, padding=conv.padding)
        case "local":
            local = spec.learned[name]
            return LocallyConnected2d(maps, local.maps, local.kernel, side, padding=local.padding)
        case "fc":
            return nn.Linear(maps * side * side, num_classes)
        case "max":
            return nn.MaxPool2d(3, 2, ceil_mode=True)
        case "avg":
            return nn.AvgPool2d(3, 2, ceil_mode=True, count_include_pad=False)
        case "lrn":
            return LocalResponseNorm("caffe", n=window, alpha=0.001, compiled=compiled)
        case "rnorm":
            return SpatialResponseNorm(3, alpha=0.00005)
        case "flatten":
            return _Flatten()
    return ACTIVATIONS[activation]()


def learned_layers(net: nn.Sequential) -> dict[str, nn.Module]:
    """The layers with weights, by name, in order."""
    return {name: layer for name, layer in net.named_children() if hasattr(layer, "weight")}


def _initialise(net: nn.Sequential, name: str, activation: str, rule: str, seed: int) -> nn.Sequential:
    """Normal weights from numpy's generator, one stream a layer, so that they are the same on every processor."""
    gain = 2.0 if activation == "relu" else 1.0
    for number, (layer_name, layer) in enumerate(learned_layers(net).items()):
        fan_in = layer.weight.shape[1] if layer_name.startswith("local") else layer.weight[0].numel()
        published = NETS[name].learned[layer_name].std if layer_name in NETS[name].learned else NETS[name].last[0]
        std = published if rule == "published" else (gain / fan_in) ** 0.5
        normal = np.random.default_rng([seed, number]).standard_normal(tuple(layer.weight.shape), dtype=np.float32)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(normal * np.float32(std)))
            layer.bias.zero_()
    return net


def cifar_parameter_groups(net, name: str, learning_rate=0.001, bias_rate=0.002, weight_decay=1.0) -> list[dict]:
    """The groups of an optimiser as the files have them: rates of weights and of biases, and each layer's decay.

    Args:
        net: what `cifar_net` gave for `name`.
        learning_rate, bias_rate: epsW and epsB of the files; the schedules lower the first only.
        weight_decay: a factor on the published decays of the weights; 0 for none. Biases have none.

    Returns:
        One group for the weights of each layer and one for all biases, each with its layer's name under "layer".
    """
    spec, layers = NETS[name], learned_layers(net)
    decays = {layer: learned.decay for layer, learned in spec.learned.items()} | {"fc": spec.last[1]}
    groups = [
        {"params": [layer.weight], "lr": learning_rate, "weight_decay": weight_decay * decays[key], "layer": key}
        for key, layer in layers.items()
    ]
    biases = [layer.bias for layer in layers.values()]
    return [*groups, {"params": biases, "lr": bias_rate, "weight_decay": 0.0, "layer": "biases"}]


@torch.no_grad()
def saturation(net: nn.Sequential, x: Tensor, activation: str) -> dict[str, float]:
    """The share of saturated hidden units after each activation, {"saturated1": …}, over the inputs x.

    Saturated is y = 0 for ReLU, |y| > 0.97 for tanh and |tanh|, y < 0.015 or y > 0.985 for the logistic function: 0.97
    and 0.985 are where both have a seventeenth of their steepest slope left.
    """
    shares = {}
    for name, layer in net.named_children():
        x = layer(x)
        if name.startswith("neuron"):
            shares[name.replace("neuron", "saturated")] = SATURATED[activation](x).float().mean().item()
    return shares


def differing_share(net: nn.Sequential, x: Tensor) -> float:
    """Of what reaches the last layer, the part that differs between the pictures x, from 0 to 1.

    The root mean square of the deviations from the pictures' mean, over the root mean square of it all.
    """
    signal = net[:-1](x)
    return ((signal - signal.mean(0)).square().mean() / signal.square().mean()).sqrt().item()


# ------------------------------------------------------------------------------------------- locally connected layers


class _Patches(torch.autograd.Function):
    """(N, C, S, S) to (positions, N, kernel·kernel·C): what each position of the output sees.

    Autograd's own gradient of the slices would fill as many zeroed copies of the input as a kernel has units.
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
    """For each unit of a kernel, the inputs that it meets as the kernel goes over a square."""
    reach = [slice(i, i + side - kernel + 1) for i in range(kernel)]
    return [(rows, columns) for rows in reach for columns in reach]


class LocallyConnected2d(nn.Module):
    """A convolution whose kernel is another one at each position ("local" in the files of 2012).

    (N, in_channels, size, size) to (N, out_channels, S, S) with S = size + 2·padding − kernel_size + 1.

    weight: (S·S, kernel_size·kernel_size·in_channels, out_channels), positions by row, inputs by row, column, map.
    bias: (S·S, out_channels).

    Raises:
        ValueError: a kernel that does not fit into the input.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, size: int, padding: int = 0):
        super().__init__()
        side = size + 2 * padding - kernel_size + 1
        if min(in_channels, out_channels, kernel_size, side) < 1 or padding < 0:
            raise ValueError(f"a kernel of {kernel_size} for {size} × {size} units with padding {padding}")
        self.in_channels, self.out_channels, self.size = in_channels, out_channels, size
        self.kernel_size, self.padding, self.side = kernel_size, padding, side
        fan_in = kernel_size**2 * in_channels
        self.weight = nn.Parameter(torch.empty(side**2, fan_in, out_channels).uniform_(-1, 1) / fan_in**0.5)
        self.bias = nn.Parameter(torch.zeros(side**2, out_channels))

    def forward(self, x: Tensor) -> Tensor:
        patches = _Patches.apply(x, self.kernel_size, self.padding)
        y = torch.baddbmm(self.bias[:, None], patches, self.weight)
        return y.unflatten(0, (self.side, self.side)).permute(2, 3, 0, 1)

    def extra_repr(self) -> str:
        kernel = f"kernel_size={self.kernel_size}, padding={self.padding}"
        return f"{self.in_channels}, {self.out_channels}, {kernel}, {self.size} × {self.size} units"
