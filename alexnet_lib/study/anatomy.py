"""§3.5 and Figure 2: the shapes, sizes, receptive fields and connections of a net, read from the live model."""

from math import prod

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..architecture import NETS, RGB, layer_shapes, shape_after, side_of, skeleton
from ..cifar_nets import LocallyConnected2d
from ..learning import BIASED_LAYERS, initial_std
from ..normalization import SpatialResponseNorm

LISTED = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.Linear, LocallyConnected2d)

# neurons by layer, from the caption of Figure 2
PRINTED = dict(conv1=253_440, conv2=186_624, conv3=64_896, conv4=64_896, conv5=43_264, fc6=4096, fc7=4096, fc8=1000)


def trace(net: nn.Sequential, images: Tensor) -> dict[str, Tensor]:
    """The output of every layer, by name, for these images (N, 3, H, W)."""
    outputs = {"input": images}
    with torch.no_grad():
        for name in getattr(net, "layers", dict(net.named_children())):
            outputs[name] = images = getattr(net, name)(images)
    return outputs


def summarise(net: nn.Sequential, image_size: int = 224) -> pd.DataFrame:
    """Each learned layer and pool of a net (a `skeleton` will do), one row a layer.

    Columns: layer, output (C × H × W), neurons, kernel (of one filter), parameters, share of all parameters,
    multiply_adds for one image, and field / stride: the side of the receptive field and the step between neighbouring
    units, both in input pixels, and no wider than the image. A normalisation within maps has no row, but widens the
    fields behind it.

    Raises:
        ValueError: a layer with parameters of another kind, such as GoogLeNet's modules.
    """
    total, rows, field, stride = sum(p.numel() for p in net.parameters()), [], 1, 1
    for (name, layer), shape in zip(net.named_children(), layer_shapes(net, image_size).values(), strict=True):
        if isinstance(layer, SpatialResponseNorm):
            field += (layer.size - 1) * stride
        if not isinstance(layer, LISTED):
            if any(True for _ in layer.parameters()):
                kinds = ", ".join(kind.__name__ for kind in LISTED)
                raise ValueError(f"{name} is {type(layer).__name__}; accepted are layers with parameters of {kinds}")
            continue
        row = {"layer": name, "output": times(shape), "neurons": 0, "kernel": "", "parameters": 0, "share": 0.0}
        row |= {"multiply_adds": 0, "field": image_size, "stride": image_size}
        if hasattr(layer, "weight"):
            parameters = sum(p.numel() for p in layer.parameters())
            row |= {"neurons": prod(shape), "parameters": parameters, "share": parameters / total}
            if isinstance(layer, LocallyConnected2d):  # a kernel for each position
                k, kernels = layer.kernel_size, 1
                row["kernel"] = times((k, k, layer.weight.shape[1] // k**2))
            else:
                kernels, row["kernel"] = prod(shape[1:]), times(reversed(layer.weight.shape[1:]))
            row["multiply_adds"] = layer.weight.numel() * kernels
        if hasattr(layer, "kernel_size"):
            field, stride = field + (side_of(layer.kernel_size) - 1) * stride, stride * side_of(layer.stride)
            row |= {"field": min(field, image_size), "stride": stride}
        rows.append(row)
    return pd.DataFrame(rows).set_index("layer")


def times(sizes) -> str:
    """Sizes as text: "96 × 55 × 55"."""
    return " × ".join(map(str, sizes))


def dependence(net: nn.Sequential, name: str) -> np.ndarray:
    """Which input maps each output map of a convolution depends on, by its gradient: (outputs, inputs), 1 for yes."""
    layer = getattr(net, name)
    side = 2 * side_of(layer.kernel_size)
    x = torch.zeros(1, layer.in_channels, side, side, requires_grad=True)
    sums = layer(x).sum((0, 2, 3))
    rows = [torch.autograd.grad(total, x, retain_graph=True)[0].abs().sum((0, 2, 3)) > 0 for total in sums]
    return torch.stack(rows).float().numpy()


def specification(name: str = "paper", num_classes: int = 1000, **changes) -> pd.DataFrame:
    """A named net as a table, one row a layer.

    Columns: layer, sees, kernel / stride / padding, maps (a + b for two columns), weights / biases (the initial
    standard deviation and value), output, and the layer in PyTorch.
    """
    spec, net = NETS[name], skeleton(name, num_classes, **changes)
    rows, shape = [], (RGB, *2 * [changes.get("image_size", 224)])
    for layer_name, layer in net.named_children():
        row = {"layer": layer_name, "sees": "", "kernel / stride / padding": "", "maps": "", "weights / biases": ""}
        if hasattr(layer, "weight"):
            maps, two = layer.weight.shape[0], spec.columns > 1 and layer_name != "fc8"
            row["maps"] = f"{maps // 2} + {maps // 2}" if two else str(maps)
            row["sees"] = _sees(layer, shape, spec.columns)
            std = initial_std(layer_name, layer.weight[0].numel(), spec.initialisation)
            row["weights / biases"] = f"{std:g} / {int(layer_name in BIASED_LAYERS)}"
        if hasattr(layer, "kernel_size"):
            sizes = map(side_of, (layer.kernel_size, layer.stride, layer.padding))
            row["kernel / stride / padding"] = " / ".join(map(str, sizes))
        shape = shape_after(layer, shape)
        rows.append(row | {"output": times(shape), "in PyTorch": repr(layer)})
    return pd.DataFrame(rows).set_index("layer")


def _sees(layer: nn.Module, shape: tuple[int, ...], columns: int) -> str:
    if shape[0] == RGB:
        return "the image"
    if getattr(layer, "groups", 1) > 1:
        return "its own column"
    return "both columns" if columns > 1 else "all maps"


def zeros_read(net: nn.Sequential, image_size: int = 224) -> np.ndarray:
    """How many of the pixels under each window of conv1 lie outside the image: (55, 55) for 224 pixels."""
    image = torch.ones(1, 1, image_size, image_size)
    image = net.pad1(image) if hasattr(net, "pad1") else image
    window = torch.ones(1, 1, *net.conv1.kernel_size)
    inside = F.conv2d(image, window, stride=net.conv1.stride, padding=net.conv1.padding)
    return (window.numel() - inside[0, 0]).int().numpy()
