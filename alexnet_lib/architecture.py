"""§3, the network: Figure 2 as a table of layers, and the nets beside it, made by one builder.

Five convolutions and three fully connected layers, split over two columns (GPUs). A layer of two columns is one
`nn.Conv2d` with groups=2, so a state dict loads on one device, on two, and on a laptop. A net is a plain
`nn.Sequential` whose children carry the paper's names: net.conv1, net.norm1, … net.fc8.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from functools import partial
from math import prod
from numbers import Integral, Real

import torch
from torch import nn

from .dropout import Dropout
from .learning import initialise
from .normalization import LocalResponseNorm, SpatialResponseNorm

RGB = 3
COLUMNS = 2


@dataclass(frozen=True)
class Convolution:
    """A convolution; `maps` counts those of all columns."""

    maps: int
    kernel: int
    stride: int = 1
    padding: int = 0
    own_column_only: bool = False


CONVOLUTIONS = {
    "conv1": Convolution(96, 11, stride=4),  # "96 kernels of size 11 × 11 × 3 with a stride of 4 pixels"
    "conv2": Convolution(256, 5, padding=2, own_column_only=True),  # "256 kernels of size 5 × 5 × 48"
    "conv3": Convolution(384, 3, padding=1),  # "384 kernels of size 3 × 3 × 256"
    "conv4": Convolution(384, 3, padding=1, own_column_only=True),  # "384 kernels of size 3 × 3 × 192"
    "conv5": Convolution(256, 3, padding=1, own_column_only=True),  # "256 kernels of size 3 × 3 × 192"
}


def with_maps(*maps: int) -> dict[str, Convolution]:
    """The convolutions with other numbers of maps."""
    return {name: replace(conv, maps=n) for (name, conv), n in zip(CONVOLUTIONS.items(), maps, strict=True)}


HIDDEN_UNITS = 4096  # "the fully-connected layers have 4096 neurons each"
PRINTED_ORDER = (
    "conv1 relu1 norm1 pool1   conv2 relu2 norm2 pool2   conv3 relu3   conv4 relu4   conv5 relu5 pool5   flatten "
    "fc6 relu6 drop6   fc7 relu7 drop7   fc8"
)


@dataclass(frozen=True)
class NamedNet:
    """A named net: the order of its layers, its convolutions, its size, and the habits of its program."""

    order: str
    convolutions: dict[str, Convolution]
    parameters: int  # with 1000 classes
    columns: int = COLUMNS  # each has the same share of every layer
    lrn: str | None = "paper"  # a convention of LocalResponseNorm, None where there is no such layer
    initialisation: str = "printed"
    geometry: str = "ceil"
    dropout: str = "masked"  # as in §4.2, or "inverted", as torch.nn.Dropout


NETS = {
    # the network in the text: "60 million parameters"
    "paper": NamedNet(PRINTED_ORDER, CONVOLUTIONS, 60_965_224),
    # the network whose logs hold the paper's numbers (layers-145.cfg): ReLU after pooling in layers 1 and 5, and a
    # second norm, within each map, in layer 2
    "code2012": NamedNet(
        "conv1 norm1 pool1 relu1   conv2 relu2 norm2 mapnorm2 pool2   conv3 relu3   conv4 relu4   conv5 pool5 relu5 "
        "flatten   fc6 relu6 drop6   fc7 relu7 drop7   fc8",
        CONVOLUTIONS,
        60_965_224,
        lrn="code2012",
        initialisation="code2012",
    ),
    # "One weird trick" (Krizhevsky 2014) as torchvision builds it. Its classifier's bias of −7 is left out: adding the
    # same number to every logit changes nothing after a softmax.
    "owt2014": NamedNet(
        "conv1 relu1 pool1   conv2 relu2 pool2   conv3 relu3   conv4 relu4   conv5 relu5 pool5   flatten "
        "drop5 fc6 relu6   drop6 fc7 relu7   fc8",
        with_maps(64, 192, 384, 256, 256),
        61_100_840,
        columns=1,
        lrn=None,
        initialisation="code2012",
        geometry="padding2",
        dropout="inverted",
    ),
    # §3.2's net with half as many kernels in all but the last convolution (layers-145-half.cfg; footnote 2)
    "one_gpu": NamedNet(PRINTED_ORDER, with_maps(48, 128, 192, 192, 256), 59_798_312, columns=1),
    # §6's net for pre-training: a sixth convolution over the last pooling layer, which sees both columns
    "six_conv": NamedNet(
        PRINTED_ORDER.replace("pool5", "pool5   conv6 relu_conv6"),
        CONVOLUTIONS | {"conv6": Convolution(256, 3, padding=1)},
        61_555_304,
    ),
}


@dataclass(frozen=True)
class Pooling:
    """Windows at every second unit."""

    window: int  # its side
    ceil: bool = False  # may the last window hang over the edge?
    less_padding: tuple[str, ...] = ()  # convolutions with one padding less


POOLINGS = {
    "overlapping": Pooling(3),  # §3.4: "s = 2 and z = 3"
    "non_overlapping": Pooling(2),  # "s = 2, z = 2"
    "run147": Pooling(2, ceil=True, less_padding=("conv2", "conv5")),  # layers-147.cfg
}
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "logistic": nn.Sigmoid}
GEOMETRIES = ("ceil", "padding2")
LARGEST = {"num_classes": 10**6, "image_size": 10**4, "width": 100}
MOST_WEIGHTS = 2 * 10**9  # 8 GB in float32
TORCHVISION = {
    **{f"features.{i}": f"conv{n}" for n, i in enumerate((0, 3, 6, 8, 10), start=1)},
    **{f"classifier.{i}": f"fc{n}" for n, i in enumerate((1, 4, 6), start=6)},
}


@dataclass(frozen=True)
class Changes:
    """What is asked to differ from the named net; `alexnet` says what each means."""

    width: float = 1.0
    image_size: int = 224
    dropout: float = 0.5
    normalization: str | None = "own"
    pooling: str = "overlapping"
    activation: str = "relu"
    without: str | None = None
    geometry: str = "own"


def alexnet(name="paper", num_classes=1000, *, seed=None, **changes):
    """Build a named net, initialised as its source says (§3.5, Figure 2).

    Args:
        name: "paper", the one in the text; "code2012", the one that made its numbers; "owt2014", torchvision's, which
            loads torchvision's state dict as it is (`from_torchvision` brings its preprocessing, too); "one_gpu" and
            "six_conv", those of §3.2 and §6.
        num_classes: outputs of the last layer.
        seed: of the initial weights; drawn from torch's generator unless given.

    Changes:
        width: a factor on the maps and units of every layer but the last; each stays divisible by two columns.
        image_size: side of the square input in pixels; decides how many inputs the layer fc6 has.
        dropout: probability of silence in the two hidden fully connected layers (§4.2).
        normalization: "lrn", or None for a net without any normalisation layer (§3.3); "own" leaves it to the net.
        pooling: "overlapping", windows of 3 at every second unit, or "non_overlapping", windows of 2 (§3.4); "run147",
            windows of 2 as in the program of 2012, where the last hangs over the edge and so conv2 and conv5 have one
            padding less.
        activation: "relu", "tanh" or "logistic" (§3.1).
        without: a convolution or hidden layer to leave out, with its activation and normalisation (§7). Pooling stays,
            and without conv1 the mean of its window stands in, so that the layers above keep their sides.
        geometry: how 224 pixels become 55: "ceil", with three zeros on the right and below as in 2012 (layer.py), or
            "padding2", two on every side as in torchvision; "own" leaves it to the net.

    Returns:
        An `nn.Sequential`: float (N, 3, image_size, image_size), pixels on the 0-255 scale less the mean image,
        to (N, num_classes) logits.

    Raises:
        ValueError: an unknown name or change, a combination with which no net can be built, or a net of more than
            MOST_WEIGHTS weights; before memory is asked for.
    """
    net = skeleton(name, num_classes, **changes)
    if name == "owt2014":
        net.register_load_state_dict_pre_hook(_rename_torchvision)
    return with_initial_weights(net, NETS[name].initialisation, seed)


def with_initial_weights(net: nn.Module, rule: str, seed: int | None) -> nn.Module:
    """Give a skeleton's weights memory, and initial values by a rule of `initialise`.

    `to_empty` would give memory too, and load torch's symbolic shapes for it: five hundred modules.
    """
    for layer in net.modules():
        for name, weight in list(layer.named_parameters(recurse=False)):
            setattr(layer, name, nn.Parameter(torch.empty(weight.shape)))
        if isinstance(layer, nn.BatchNorm2d):
            layer.to_empty(device="cpu").reset_parameters()
    return initialise(net, rule, int(torch.randint(2**31, ())) if seed is None else seed)


def skeleton(name="paper", num_classes=1000, **changes) -> nn.Sequential:
    """The net that `alexnet` builds, with its layers and shapes but without memory for its weights."""
    if name not in NETS:
        raise ValueError(f"net = {name!r}; accepted are {', '.join(NETS)}")
    spec, checked = NETS[name], _checked(name, num_classes, changes)
    with torch.device("meta"):
        make = partial(_layer, spec=spec, num_classes=num_classes, changes=checked)
        net = nn.Sequential(stacked(_layer_order(spec, checked), make, checked.image_size)[0])
    check_weights(net, num_classes, checked)
    if num_classes == 1000 and not changes:
        assert sum(p.numel() for p in net.parameters()) == spec.parameters
    return net


def _checked(name: str, num_classes: int, asked: dict) -> Changes:
    """The changes, if a net can be built with them; otherwise a ValueError that names the choices."""
    changes = changes_of(Changes, asked)
    for what, accepted in {
        "normalization": ("own", "lrn", None),
        "pooling": tuple(POOLINGS),
        "activation": tuple(ACTIVATIONS),
        "without": (None, *NETS[name].convolutions, "fc6", "fc7"),
        "geometry": ("own", *GEOMETRIES),
    }.items():
        if getattr(changes, what) not in accepted:
            choices = ", ".join(map(str, accepted))
            raise ValueError(f"{what} = {getattr(changes, what)!r}; accepted for {name} are {choices}")
    if changes.normalization == "lrn" and NETS[name].lrn is None:
        raise ValueError(f"normalization = 'lrn'; {name} has no such layers; accepted are own, None")
    if not (isinstance(changes.dropout, Real) and 0 <= changes.dropout < 1):
        raise ValueError(f"dropout = {changes.dropout!r}; accepted is a probability from 0 up to, but not including, 1")
    check_sizes(num_classes, changes)
    return replace(changes, geometry=NETS[name].geometry) if changes.geometry == "own" else changes


def changes_of(kind: type, asked: dict):
    """The dataclass `kind` with what is asked, or a ValueError that names its fields."""
    known = [field.name for field in fields(kind)]
    if unknown := sorted(set(asked) - set(known)):
        raise ValueError(f"unknown change {', '.join(map(repr, unknown))}; accepted are {', '.join(known)}")
    return kind(**asked)


def check_sizes(num_classes: int, changes) -> None:
    """Refuse, with a ValueError, sizes that no layer can have."""
    for what, most in LARGEST.items():
        size = num_classes if what == "num_classes" else getattr(changes, what)
        kind, name = (Real, "numbers") if what == "width" else (Integral, "whole numbers")
        if not (isinstance(size, kind) and 0 < size <= most):
            raise ValueError(f"{what} = {size!r}; accepted are {name} above 0, up to {most:,}")


def check_weights(net: nn.Module, num_classes: int, changes) -> None:
    """Refuse, with a ValueError, a skeleton of more than MOST_WEIGHTS weights."""
    if (weights := sum(p.numel() for p in net.parameters())) > MOST_WEIGHTS:
        sizes = f"width = {changes.width}, image_size = {changes.image_size}, num_classes = {num_classes}"
        raise ValueError(f"{sizes}: a net of {weights:.1e} weights; accepted are up to {MOST_WEIGHTS:.0e}")


def _layer_order(spec: NamedNet, changes: Changes) -> list[str]:
    """The names of a net's layers in their order, with the changes made."""
    order = spec.order.split()
    if changes.without is not None:
        start = order.index(changes.without)
        end = next(i for i in range(start + 1, len(order)) if kind_of(order[i]) in ("conv", "fc", "flatten"))
        pools = [layer for layer in order[start:end] if kind_of(layer) == "pool"]
        order[start:end] = ["mean1", *pools] if changes.without == "conv1" else pools
    if changes.normalization is None:
        order = [layer for layer in order if not kind_of(layer).endswith("norm")]
    order = [layer.replace("relu", changes.activation) for layer in order]
    return ["pad1", *order] if changes.geometry == "ceil" else order


def kind_of(name: str) -> str:
    """A layer's name without its number: "conv", "relu", "norm"."""
    return name.split("_conv")[0].rstrip("0123456789")


def stacked(names: Iterable[str], layer_for: Callable, image_size: int) -> tuple[OrderedDict, dict]:
    """Layers by name in their order, and the shapes of their outputs, (C, side, side) or (units,).

    layer_for: makes a layer from its name and the shape of its input.
    """
    layers, shapes, shape = OrderedDict(), {}, (RGB, image_size, image_size)
    for name in names:
        layers[name] = layer_for(name, shape)
        shapes[name] = shape_after(layers[name], shape)
        if min(shapes[name]) < 1:
            raise ValueError(f"image_size = {image_size}: only {shape[1]} × {shape[1]} units reach {name}, too few")
        shape = shapes[name]
    return layers, shapes


def _layer(name: str, shape: tuple[int, ...], spec: NamedNet, num_classes: int, changes: Changes) -> nn.Module:
    """One layer by its name, for an input of this shape."""
    first, pooling = spec.convolutions["conv1"], POOLINGS[changes.pooling]
    padding = 2 if changes.geometry == "padding2" else 0
    match kind_of(name):
        case "pad":
            rest = (first.kernel - shape[1]) % first.stride
            return nn.ZeroPad2d((0, rest, 0, rest))
        case "mean":
            return nn.AvgPool2d(first.kernel, first.stride, padding)
        case "conv":
            conv = spec.convolutions[name]
            split = conv.own_column_only and shape[0] != RGB
            padding = padding if name == "conv1" else conv.padding - (name in pooling.less_padding)
            maps, groups = scaled(conv.maps, changes.width), spec.columns if split else 1
            return nn.Conv2d(shape[0], maps, conv.kernel, conv.stride, padding, groups=groups)
        case "fc":
            return nn.Linear(shape[0], num_classes if name == "fc8" else scaled(HIDDEN_UNITS, changes.width))
        case "norm":
            return LocalResponseNorm(spec.lrn, columns=spec.columns)
        case "mapnorm":
            return SpatialResponseNorm(5, alpha=1e-3)
        case "pool":
            return nn.MaxPool2d(pooling.window, 2, ceil_mode=pooling.ceil)
        case "drop":
            return (Dropout if spec.dropout == "masked" else nn.Dropout)(changes.dropout)
        case "flatten":
            return nn.Flatten()
    return ACTIVATIONS[changes.activation]()


def shape_after(layer: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of one image's output; windows that don't fit whole are left out, unless the layer rounds up.

    Raises:
        ValueError: a layer whose output this doesn't know, or one that takes another number of units.
    """
    match layer:
        case nn.ZeroPad2d():
            return (shape[0], *(side + sum(layer.padding[:2]) for side in shape[1:]))
        case nn.Module(kernel_size=_, stride=_, padding=_):
            kernel, stride, padding = window_of(layer)
            room = shape[1] + 2 * padding - kernel
            side = room // stride + 1
            # a window more, if it begins on the picture or on the padding before it
            if getattr(layer, "ceil_mode", False) and room % stride and side * stride < shape[1] + padding:
                side += 1
            return (getattr(layer, "out_channels", shape[0]), side, side)
        case nn.Flatten(start_dim=1, end_dim=-1):
            return (prod(shape),)
        case nn.Flatten() | nn.Module(output_size=_) | nn.Module(scale_factor=_):  # adaptive pools, larger maps
            raise ValueError(f"{layer}: its output's shape isn't known here")
        case nn.Linear():
            if prod(shape) != layer.in_features:
                raise ValueError(
                    f"a layer takes {layer.in_features} units and gets {prod(shape)}: pictures of another size"
                )
            return (layer.out_features,)
        case nn.Module(maps=int(maps)):  # an Inception module keeps the side
            return (maps, *shape[1:])
    return shape


def layer_shapes(net: nn.Sequential, image_size: int = 224) -> dict[str, tuple[int, ...]]:
    """The shape of each layer's output for one image, (C, side, side) or (units,), from the layers' sizes alone."""
    shape, shapes = (RGB, image_size, image_size), {}
    for name, layer in net.named_children():
        shapes[name] = shape = shape_after(layer, shape)
    return shapes


def window_of(layer: nn.Module) -> tuple[int, int, int]:
    """Side, stride and padding of a convolution's or a pool's window.

    Raises:
        ValueError: a window that isn't a square, has gaps, or belongs to a transposed convolution.
    """
    sizes = [layer.kernel_size, layer.stride, layer.padding]
    square = all(isinstance(size, int) or size[0] == size[-1] != "s" for size in sizes)
    if not square or getattr(layer, "dilation", 1) not in (1, (1, 1)) or getattr(layer, "transposed", False):
        raise ValueError(f"{layer}; accepted are square windows without dilation, and no transposed convolutions")
    return tuple(map(side_of, sizes))


def side_of(size) -> int:
    """The one number of a square (k, k) or k."""
    return size if isinstance(size, int) else size[0]


def scaled(units: int, width: float) -> int:
    """A layer's size at this width: the nearest multiple of two columns, and at least one unit a column."""
    return max(COLUMNS, COLUMNS * round(units * width / COLUMNS))


def _rename_torchvision(net, state_dict, prefix, *_) -> None:
    """Give the tensors of torchvision's AlexNet the paper's names, before they are loaded."""
    for theirs, ours in TORCHVISION.items():
        for tensor in ("weight", "bias"):
            if f"{prefix}{theirs}.{tensor}" in state_dict:
                state_dict[f"{prefix}{ours}.{tensor}"] = state_dict.pop(f"{prefix}{theirs}.{tensor}")
