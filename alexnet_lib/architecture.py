"""§3, the network. One builder makes every named net from a line that says the order of its layers.

Figure 2 as a list: five convolutions and three fully connected layers, split over two columns (GPUs). A layer of two
columns is one `nn.Conv2d` with groups=2, so a state dict loads on one device, on two, and on a laptop. The model is a
plain `nn.Sequential` whose children carry the paper's names: net.conv1, net.norm1, … net.fc8.
"""

from collections import OrderedDict
from dataclasses import dataclass
from math import prod

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from .dropout import Dropout
from .learning import initialise
from .normalization import LocalResponseNorm

COLUMNS = 2


@dataclass(frozen=True)
class Convolution:
    """One convolution of §3.5: maps of both columns together, kernel, stride, padding, and what it sees."""

    maps: int
    kernel: int
    stride: int = 1
    padding: int = 0
    own_column_only: bool = False


CONVOLUTIONS = {
    "conv1": Convolution(96, 11, stride=4),
    "conv2": Convolution(256, 5, padding=2, own_column_only=True),
    "conv3": Convolution(384, 3, padding=1),
    "conv4": Convolution(384, 3, padding=1, own_column_only=True),
    "conv5": Convolution(256, 3, padding=1, own_column_only=True),
}
HIDDEN_UNITS = 4096
# the caption of Figure 2: how many neurons each layer has
PRINTED = {
    "conv1": 253_440,
    "conv2": 186_624,
    "conv3": 64_896,
    "conv4": 64_896,
    "conv5": 43_264,
    "fc6": 4096,
    "fc7": 4096,
    "fc8": 1000,
}

ORDERS = {
    "paper": (
        "pad1 conv1 relu1 norm1 pool1   conv2 relu2 norm2 pool2   conv3 relu3   conv4 relu4   conv5 relu5 pool5 "
        "flatten   fc6 relu6 drop6   fc7 relu7 drop7   fc8"
    ),
}


def alexnet(name="paper", num_classes=1000, *, width=1.0, image_size=224, dropout=0.5, seed=None):
    """Build a named net, initialised as its source says (§3.5, Figure 2).

    Args:
        name: which net; "paper" is the one in the text.
        num_classes: outputs of the last layer.
        width: a factor on the maps and units of every layer but the last; each stays divisible by two columns.
        image_size: side of the square input in pixels; decides how many inputs the layer fc6 has.
        dropout: probability of silence in the two hidden fully connected layers (§4.2).
        seed: of the initial weights; drawn from torch's generator unless given.

    Returns:
        An `nn.Sequential`: float (N, 3, image_size, image_size), pixels on the 0-255 scale less the mean image,
        to (N, num_classes) logits.

    Raises:
        ValueError: an unknown name, or a size with which no net can be built.
    """
    if name not in ORDERS:
        raise ValueError(f"net = {name!r}; accepted are {', '.join(ORDERS)}")
    if num_classes < 1 or width <= 0:
        raise ValueError(f"num_classes = {num_classes} and width = {width}; both must be above 0")
    with torch.device("meta"):  # sixty million weights are drawn once, by our rule, not first by torch's
        net = _assemble(ORDERS[name].split(), num_classes, width, image_size, dropout)
    net.to_empty(device="cpu")
    seed = int(torch.randint(2**31, ())) if seed is None else seed
    return initialise(net, "printed", seed)


def _assemble(order, num_classes, width, image_size, dropout) -> nn.Sequential:
    """The layers in their order; `shape` is what has come out of them so far, (C, side, side) or (units,)."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    shape = (3, image_size, image_size)
    for name in order:
        layers[name] = layer = _layer(name, shape, num_classes, width, dropout)
        if name.startswith(("conv", "pool")) and shape[1] + 2 * _side(layer.padding) < _side(layer.kernel_size):
            raise ValueError(f"image_size = {image_size}: only {shape[1]} × {shape[1]} pixels reach {name}")
        shape = _shape_after(layer, shape)
    return nn.Sequential(layers)


def _layer(name: str, shape: tuple[int, ...], num_classes: int, width: float, dropout: float) -> nn.Module:
    """One layer by its name, for an input of this shape."""
    kind = name.rstrip("0123456789")
    if kind == "pad":
        conv1 = CONVOLUTIONS["conv1"]
        rest = (conv1.kernel - shape[1]) % conv1.stride
        return nn.ZeroPad2d((0, rest, 0, rest))
    if kind == "conv":
        conv = CONVOLUTIONS[name]
        maps, groups = scaled(conv.maps, width), COLUMNS if conv.own_column_only else 1
        return nn.Conv2d(shape[0], maps, conv.kernel, conv.stride, conv.padding, groups=groups)
    if kind == "fc":
        return nn.Linear(shape[0], num_classes if name == "fc8" else scaled(HIDDEN_UNITS, width))
    if kind == "norm":
        return LocalResponseNorm("paper", columns=COLUMNS)
    simple = {"relu": nn.ReLU, "flatten": nn.Flatten, "drop": lambda: Dropout(dropout)}
    return nn.MaxPool2d(3, 2) if kind == "pool" else simple[kind]()


def _shape_after(layer: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of one image's output; windows that do not fit whole are left out, as torch does."""
    match layer:
        case nn.ZeroPad2d():
            return (shape[0], *(side + sum(layer.padding[:2]) for side in shape[1:]))
        case nn.Conv2d() | nn.MaxPool2d():
            kernel, stride, padding = map(_side, (layer.kernel_size, layer.stride, layer.padding))
            side = (shape[1] + 2 * padding - kernel) // stride + 1
            return (getattr(layer, "out_channels", shape[0]), side, side)
        case nn.Flatten():
            return (prod(shape),)
        case nn.Linear():
            return (layer.out_features,)
    return shape


def _side(size) -> int:
    """The one number of a square (k, k) or k."""
    return size if isinstance(size, int) else size[0]


def scaled(units: int, width: float) -> int:
    """A layer's size at this width: the nearest multiple of two columns, and at least one unit a column."""
    return max(COLUMNS, COLUMNS * round(units * width / COLUMNS))


def trace(net: nn.Sequential, images: Tensor) -> OrderedDict[str, Tensor]:
    """The output of every layer, by name, for these images (N, 3, H, W)."""
    outputs = OrderedDict(input=images)
    with torch.no_grad():
        for name, layer in net.named_children():
            images = layer(images)
            outputs[name] = images
    return outputs


def summarise(net: nn.Sequential, image_size: int = 224) -> pd.DataFrame:
    """What each learned layer and pool is, computed from the live model; one row a layer.

    Columns: layer, output (C × H × W), neurons, kernel (of one filter), parameters, share of all parameters,
    multiply_adds for one image, and field / stride: the side of the receptive field and the step between neighbouring
    units, both in input pixels.
    """
    device = next(net.parameters()).device
    outputs = trace(net.eval(), torch.zeros(1, 3, image_size, image_size, device=device))
    total = sum(p.numel() for p in net.parameters())
    rows, field, stride = [], 1, 1
    for name, layer in net.named_children():
        if not isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.Linear):
            continue
        shape = tuple(outputs[name].shape[1:])
        parameters = sum(p.numel() for p in layer.parameters())
        spatial = not isinstance(layer, nn.Linear)
        if spatial:
            size, step = _side(layer.kernel_size), _side(layer.stride)
            field, stride = field + (size - 1) * stride, stride * step
        rows.append(
            {
                "layer": name,
                "output": " × ".join(map(str, shape)),
                "neurons": outputs[name].numel() if parameters else 0,
                "kernel": " × ".join(map(str, reversed(layer.weight.shape[1:]))) if parameters else "",
                "parameters": parameters,
                "share": parameters / total,
                "multiply_adds": layer.weight.numel() * (shape[-1] * shape[-2] if len(shape) > 1 else 1)
                if parameters
                else 0,
                "field": field if spatial else image_size,
                "stride": stride if spatial else image_size,
            }
        )
    return pd.DataFrame(rows).set_index("layer")


def dependence(net: nn.Sequential, name: str) -> np.ndarray:
    """Which input maps each output map of a convolution depends on: (outputs, inputs), 1 for yes.

    Asked of the layer itself: the gradient of an output map's sum with respect to its inputs.
    """
    layer = getattr(net, name)
    side = 2 * _side(layer.kernel_size)
    x = torch.zeros(1, layer.in_channels, side, side, requires_grad=True)
    sums = layer(x).sum((0, 2, 3))
    rows = [torch.autograd.grad(total, x, retain_graph=True)[0].abs().sum((0, 2, 3)) > 0 for total in sums]
    return torch.stack(rows).float().numpy()
