"""The next paper: GoogLeNet, "Going deeper with convolutions" (Szegedy et al. 2014, CVPR 2015), as published.

Nine Inception modules: four branches see the same maps through windows of 1, 3 and 5 and through pooling, and 1 × 1
convolutions narrow what the wide windows see. LRN after the first pool and the second convolution, no batch
normalisation unless asked for, no hidden fully connected layer, two auxiliary classifiers in training only. Sections
are those of that paper; where it is silent, the model released for Caffe decides (bvlc_googlenet).
"""

from collections import OrderedDict
from dataclasses import astuple, dataclass
from functools import partial
from math import prod

import torch
from torch import Tensor, nn

from .architecture import changes_of, check_sizes, check_weights, scaled, shape_after, stacked, with_initial_weights
from .dropout import Dropout
from .normalization import LocalResponseNorm


@dataclass(frozen=True)
class Branches:
    """Maps of an Inception module, a row of Table 1: 1 × 1; 3 × 3 and 5 × 5 with what narrows them; after the pool."""

    one: int
    reduce3: int
    three: int
    reduce5: int
    five: int
    pool: int

    @property
    def maps(self) -> int:
        """What the module gives: its branches side by side."""
        return self.one + self.three + self.five + self.pool


INCEPTIONS = {
    "inception3a": Branches(64, 96, 128, 16, 32, 32),
    "inception3b": Branches(128, 128, 192, 32, 96, 64),
    "inception4a": Branches(192, 96, 208, 16, 48, 64),
    "inception4b": Branches(160, 112, 224, 24, 64, 64),
    "inception4c": Branches(128, 128, 256, 24, 64, 64),
    "inception4d": Branches(112, 144, 288, 32, 64, 64),
    "inception4e": Branches(256, 160, 320, 32, 128, 128),
    "inception5a": Branches(256, 160, 320, 32, 128, 128),
    "inception5b": Branches(384, 192, 384, 48, 128, 128),
}
ORDER = (
    "conv1 relu1 pool1 norm1   conv2_reduce relu2_reduce conv2 relu2 norm2 pool2   inception3a inception3b pool3   "
    "inception4a inception4b inception4c inception4d inception4e pool4   inception5a inception5b   "
    "mean5 flatten drop5 fc"
)
# maps, window, stride
STEM = {"conv1": (64, 7, 2), "conv2_reduce": (64, 1, 1), "conv2": (192, 3, 1)}
POOLS = ("pool1", "pool2", "pool3", "pool4")
AUXILIARIES = "auxiliaries"  # both together, for `without`
HEADS = ("inception4a", "inception4d")  # what the auxiliary classifiers look at
HEAD_WINDOW, HEAD_STRIDE, HEAD_MAPS, HEAD_UNITS, HEAD_DROPOUT = 5, 3, 128, 1024, 0.7
DROPOUT = 0.4
OTHER_SIZE = "the maps that reach the last pool have another side than its window: pictures of another size"
TORCHVISION_FIVE = 3  # the window that torchvision's "5 × 5" branch has


class Inception(nn.Module):
    """One module (Figure 2b): (N, C, side, side) to (N, maps, side, side), the branches side by side.

    Args:
        seen: C.
        branches: maps of the branches.
        reduced: False for the naive module (Figure 2a): the wide windows see all maps, the pooled ones go through.
        batch: whether a batch normalisation stands between each convolution and its ReLU.
    """

    def __init__(self, seen: int, branches: Branches, reduced: bool = True, batch: bool = False):
        super().__init__()
        b, convolutions = branches, partial(_convolutions, batch=batch)
        if reduced:
            self.one = convolutions((seen, b.one, 1))
            self.three = convolutions((seen, b.reduce3, 1), (b.reduce3, b.three, 3))
            self.five = convolutions((seen, b.reduce5, 1), (b.reduce5, b.five, 5))
            self.pool = nn.Sequential(nn.MaxPool2d(3, 1, padding=1), *convolutions((seen, b.pool, 1)))
        else:
            self.one, self.three = convolutions((seen, b.one, 1)), convolutions((seen, b.three, 3))
            self.five, self.pool = convolutions((seen, b.five, 5)), nn.MaxPool2d(3, 1, padding=1)
        self.maps = b.one + b.three + b.five + (b.pool if reduced else seen)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pool(x)], 1)


def _convolutions(*sizes: tuple[int, int, int], batch: bool) -> nn.Sequential:
    """Convolutions that keep the side, each with its ReLU; (maps in, maps out, window)."""
    layers = []
    for seen, maps, k in sizes:
        layers += [nn.Conv2d(seen, maps, k, padding=k // 2), *([nn.BatchNorm2d(maps)] if batch else []), nn.ReLU()]
    return nn.Sequential(*layers)


class GoogLeNet(nn.Module):
    """The layers in their order, and the auxiliary classifiers by the layer that they look at.

    (N, 3, image_size, image_size) to logits (N, classes); in training with auxiliaries, to (logits, aux1, aux2).
    Pictures of another size are an AssertionError.
    """

    def __init__(self, layers: OrderedDict, heads: dict[str, nn.Module]):
        super().__init__()
        self.layers = list(layers)
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.heads = nn.ModuleDict(heads)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        extra = []
        for name in self.layers:
            layer = getattr(self, name)
            if name == "mean5":  # it would leave out what lies beyond its window; an assertion can be traced
                torch._assert(x.shape[2] * x.shape[3] == layer.kernel_size**2, OTHER_SIZE)
            x = layer(x)
            if self.training and name in self.heads:
                extra.append(self.heads[name](x))
        return (x, *extra) if extra else x


def googlenet(num_classes: int = 1000, aux: bool = True, *, seed: int | None = None, **changes) -> GoogLeNet:
    """Build the network as published, with initial weights by `initial_std`'s "fan_in", as the paper doesn't give any.

    Dropout is AlexNet's (dropout.py).

    Args:
        num_classes: outputs of the last layer, and of the auxiliary classifiers.
        aux: whether to have the auxiliary classifiers, which take no part in the answers of a trained net.
        seed: of the initial weights; drawn from torch's generator unless given.

    Changes:
        width: a factor on the maps and units of every layer but the last.
        image_size: side of the square input in pixels.
        without: a pool to leave out, "pool1" to "pool4", so that small pictures last through all layers; "auxiliaries";
            or both, separated by a space.
        normalization: "own" for the two LRNs as published, "batch" for a batch normalisation behind every convolution
            instead (Ioffe & Szegedy 2015). Replicas of a job each take the statistics of their own part of a batch.
        reduced: False for naive modules, without the 1 × 1 convolutions that narrow (§4).

    Raises:
        ValueError: an unknown change, pictures too small for the net, or sizes beyond those that `alexnet` accepts.
    """
    return with_initial_weights(skeleton(num_classes, aux, **changes), "fan_in", seed)


@dataclass(frozen=True)
class Changes:
    """What may differ from the published net; `googlenet` says what each means."""

    width: float = 1.0
    image_size: int = 224
    without: str | None = None
    normalization: str | None = "own"
    reduced: bool = True


def skeleton(num_classes: int = 1000, aux: bool = True, **changes) -> GoogLeNet:
    """The net that `googlenet` builds, with its layers and shapes but without memory for its weights."""
    changes = changes_of(Changes, changes)
    left_out = (changes.without or "").split()
    if not {*left_out} <= {*POOLS, AUXILIARIES}:
        accepted = ", ".join((*POOLS, AUXILIARIES))
        raise ValueError(f"without = {changes.without!r}; accepted for googlenet are None, {accepted}")
    if changes.normalization not in ("own", "batch"):
        raise ValueError(f"normalization = {changes.normalization!r}; accepted for googlenet are own, batch")
    check_sizes(num_classes, changes)
    names = [name for name in ORDER.split() if name not in left_out]
    if changes.normalization == "batch":
        pairs = [(name, f"batch_{name}") if name in STEM else (name,) for name in names if not name.startswith("norm")]
        names = [name for pair in pairs for name in pair]
    make = partial(_layer, num_classes=num_classes, changes=changes)
    with torch.device("meta"):
        layers, shapes = stacked(names, make, changes.image_size)
        looked_at = HEADS if aux and AUXILIARIES not in left_out else ()
        heads = {name: _auxiliary(shapes[name], num_classes, changes) for name in looked_at}
        net = GoogLeNet(layers, heads)
    check_weights(net, num_classes, changes)
    return net


def _layer(name: str, shape: tuple[int, ...], num_classes: int, changes: Changes) -> nn.Module:
    """One layer by its name, for an input of this shape."""
    if name in STEM:
        maps, kernel, stride = STEM[name]
        return nn.Conv2d(shape[0], scaled(maps, changes.width), kernel, stride, kernel // 2)
    if name in INCEPTIONS:
        branches = Branches(*(scaled(maps, changes.width) for maps in astuple(INCEPTIONS[name])))
        return Inception(shape[0], branches, changes.reduced, changes.normalization == "batch")
    if name in POOLS:
        return nn.MaxPool2d(3, 2, ceil_mode=True)
    if name.startswith("norm"):
        return LocalResponseNorm("caffe")
    if name.startswith("batch"):
        return nn.BatchNorm2d(shape[0])
    return {
        "mean5": lambda: nn.AvgPool2d(shape[1]),
        "flatten": nn.Flatten,
        "drop5": lambda: Dropout(DROPOUT),
        "fc": lambda: nn.Linear(shape[0], num_classes),
    }.get(name, nn.ReLU)()


def _auxiliary(shape: tuple[int, ...], num_classes: int, changes: Changes) -> nn.Sequential:
    """An auxiliary classifier (§5) for maps of this shape."""
    if shape[1] < HEAD_WINDOW:
        raise ValueError(
            f"image_size = {changes.image_size}: {shape[1]} × {shape[1]} units reach an auxiliary classifier, "
            f"whose window has {HEAD_WINDOW}; leave out a pool (without = 'pool1') or the auxiliaries"
        )
    maps, units = scaled(HEAD_MAPS, changes.width), scaled(HEAD_UNITS, changes.width)
    pool = nn.AvgPool2d(HEAD_WINDOW, HEAD_STRIDE)
    seen = prod(shape_after(pool, (maps, *shape[1:])))
    batch = {"batch": nn.BatchNorm2d(maps)} if changes.normalization == "batch" else {}
    return nn.Sequential(
        OrderedDict(
            pool=pool,
            conv=nn.Conv2d(shape[0], maps, 1),
            **batch,
            relu=nn.ReLU(),
            flatten=nn.Flatten(),
            hidden=nn.Linear(seen, units),
            relu_hidden=nn.ReLU(),
            drop=Dropout(HEAD_DROPOUT),
            fc=nn.Linear(units, num_classes),
        )
    )


# ------------------------------------------------------------------------------------------------------- learning

HEAD_WEIGHT = 0.3  # of an auxiliary classifier's loss beside the main one (its §5)


def each_output(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The logits of a net in training: its own first, then those of its auxiliary classifiers, if it has any."""
    return (outputs,) if isinstance(outputs, Tensor) else outputs


def four_per_cent_less(epochs_done: int, every: int = 8) -> float:
    """The factor on the rate in its schedule: 4 % less after every 8 epochs (§6)."""
    return 0.96 ** (epochs_done // every)
