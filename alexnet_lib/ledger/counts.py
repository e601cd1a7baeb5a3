"""What the ledger counts in the live nets: layers, sizes, connections and work.

Sizes are asked of a `skeleton`, which has no memory for weights.
"""

import math
from functools import cache

import numpy as np
import pandas as pd
import torch

from .. import inception
from ..architecture import alexnet, kind_of, skeleton
from ..inception import each_output
from ..study import googlenet
from ..study.anatomy import dependence, summarise

GTX580 = 1.58e12  # operations per second at most, by its data sheet
IMAGES_2010, CYCLES, DAYS = 1.2e6, 90, 5.5  # §5


@cache
def net_table(name: str = "paper") -> pd.DataFrame:
    """`summarise` of a named net at full size."""
    return summarise(skeleton(name))


def layers(kind: str = "") -> list[str]:
    """The net's layers in order, or those of one kind, such as "conv"."""
    names = [layer for layer, _ in skeleton().named_children()]
    return [layer for layer in names if kind in ("", kind_of(layer))]


def parameters(name: str = "paper", unit: str = "1") -> float:
    """Weights and biases of a net, in multiples of `unit`."""
    return net_table(name)["parameters"].sum() / float(unit)


def weight_of(layer: str) -> torch.Tensor:
    """A layer's weight: (maps, inputs of one kernel, …)."""
    return getattr(skeleton(), layer).weight


def layers_with_bias() -> int:
    """How many layers of a fresh net begin with biases of one (§5)."""
    net = alexnet("paper", 10, width=0.05, seed=0)
    return sum(name.endswith("bias") and bool((p == 1).all()) for name, p in net.named_parameters())


def rectified() -> int:
    """How many learned layers a ReLU follows (§3.1)."""
    order = [layer for layer in layers() if kind_of(layer) != "norm"]
    pairs = zip(order, order[1:], strict=False)
    return sum(kind_of(name) in ("conv", "fc") and kind_of(after) == "relu" for name, after in pairs)


def between_last_convolutions() -> int:
    """Pooling and normalisation layers between the third, fourth and fifth convolution (§3.5)."""
    order = layers()
    return sum(kind_of(name) in ("pool", "norm") for name in order[order.index("conv3") : order.index("conv5")])


@cache
def connections(layer: str) -> np.ndarray:
    """Which maps of a convolution (rows) depend on which maps of the layer before; 1 for yes."""
    return dependence(alexnet("paper", width=0.125, seed=0), layer)


def share_of_peak() -> float:
    """The share of two GTX 580 that training needs in the time of §5: three passes, two operations each."""
    operations = IMAGES_2010 * CYCLES * 3 * 2 * net_table()["multiply_adds"].sum()
    return operations / (DAYS * 86400) / (2 * GTX580)


def dense_ratio(of: str) -> float:
    """The smallest factor by which a dense layer between a convolution's maps has more (conv2 to conv5).

    of: "parameters", or "multiply_adds", which are its connections.
    """
    table, ratios = net_table(), []
    for layer in layers("conv")[1:]:  # of stride 1: as many positions in as out
        conv = getattr(skeleton(), layer)
        inputs = table["neurons"][layer] / conv.out_channels * conv.in_channels
        ratios.append(inputs * table["neurons"][layer] / table[of][layer])
    return float(min(ratios))


def fewer_crossing() -> float:
    """How many times as many values would cross between the GPUs if every layer after the first saw both (§3.2)."""
    values = {name: math.prod(map(int, size.split(" × "))) for name, size in net_table()["output"].items()}
    seen = ["pool1", "pool2", "conv3", "conv4", "pool5", "fc6", "fc7"]  # what the layers after the first see
    crossing = [values[name] for name in seen if name in ("pool2", "pool5", "fc6", "fc7")]
    return sum(values[name] for name in seen) / sum(crossing)


def inception_growth() -> float:
    """How many times the multiply-adds of module 3b, which sees a module, has a GoogLeNet of half the width doubled."""
    work = [googlenet.modules(inception.skeleton(width=w, aux=False))["multiply_adds"] for w in (0.5, 1.0)]
    return float(work[1]["inception3b"] / work[0]["inception3b"])


def heads_after_training() -> int:
    """The auxiliary answers of a narrow GoogLeNet in evaluation (GoogLeNet 5)."""
    net = inception.googlenet(10, width=0.125, seed=0).eval()
    with torch.no_grad():
        return len(each_output(net(torch.zeros(1, 3, 224, 224)))) - 1
