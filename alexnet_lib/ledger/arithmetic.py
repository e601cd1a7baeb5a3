"""§§1 to 5, what the paper says that needs no training: counts, sizes, shares and rules, each asked of the library.

One function a claim of claims.toml. What is counted is the live model: a `skeleton`, which has no memory for weights.
"""

import math
from functools import cache

import numpy as np
import pandas as pd
import torch
from torch import nn

from .. import columns
from ..architecture import POOLINGS, alexnet, kind_of, skeleton
from ..augmentation import IMAGENET_PCA, colour_shifts, ten_views
from ..dropout import Dropout
from ..evaluation import to_input, top_k_error
from ..learning import BIASED_LAYERS, LOGGED_2012, PaperSGD, PlateauRule, initial_std, initialise, recipe
from ..study.anatomy import dependence, summarise

GTX580 = 1.58e12  # operations per second at most, by its data sheet
IMAGES_2010, CYCLES, DAYS = 1.2e6, 90, 5.5  # §5
# of forty steps under a constant gradient
RATES = [0.01] * 20 + [0.001] * 20


@cache
def net_table(name: str = "paper") -> pd.DataFrame:
    """`summarise` of a named net at full size."""
    return summarise(skeleton(name))


def layers(name: str = "paper", kind: str = "") -> list[str]:
    """A net's layers in order, or those of a kind, such as "conv"."""
    names = [layer for layer, _ in skeleton(name).named_children()]
    return [layer for layer in names if kind in ("", kind_of(layer))]


# ------------------------------------------------------------------------------------------- sizes (§1, §3.5, Fig. 2)


def parameters(name: str = "paper", unit: str = "1") -> float:
    """Weights and biases of a net, in units of so many."""
    return net_table(name)["parameters"].sum() / float(unit)


def parameter_ratio(name: str, other: str) -> float:
    return parameters(name) / parameters(other)


def neurons(layer: str = "all") -> int:
    """Units of a layer, or of all layers that learn."""
    table = net_table()["neurons"]
    return int(table.sum() if layer == "all" else table[layer])


def layer_count(kind: str) -> int:
    """How many layers of a kind the net has; "learned": convolutions and fully connected ones."""
    return sum(len(layers(kind=each)) for each in (("conv", "fc") if kind == "learned" else (kind,)))


def input_values() -> int:
    """Numbers in an input of 224 × 224 pixels."""
    return skeleton().conv1.in_channels * 224**2


def fc6_inputs() -> int:
    """What the first fully connected layer sees: all units of the last pooling layer."""
    return skeleton().fc6.in_features


def kernel_inputs(layer: str) -> int:
    """Weights of one kernel: its height times its width times the maps that it sees."""
    return getattr(skeleton(), layer).weight[0].numel()


def kernel_count() -> int:
    """Kernels of the five convolutions together."""
    return sum(getattr(skeleton(), layer).weight.shape[0] for layer in layers(kind="conv"))


def kernels_of_a_column() -> int:
    """Kernels of the first layer on each GPU (Figure 3)."""
    return skeleton().conv1.weight.shape[0] // 2


def largest_share() -> float:
    """Per cent of the parameters in that convolution which has most."""
    shares = net_table()["share"]
    return 100 * shares[shares.index.str.startswith("conv")].max()


def stride_of_conv1() -> int:
    """Pixels between the centres of neighbouring units of the first layer."""
    return int(net_table()["stride"]["conv1"])


def side_without_padding() -> int:
    """The side of conv1's map of 224 pixels where, as in torch, windows that do not fit are left out."""
    return nn.Conv2d(3, 1, 11, stride=4)(torch.zeros(1, 3, 224, 224)).shape[-1]


def rectified() -> int:
    """Learned layers that a ReLU follows."""
    order = layers()
    following = {name: next((o for o in order[i + 1 :] if kind_of(o) != "norm"), "") for i, name in enumerate(order)}
    return sum(kind_of(name) in ("conv", "fc") and kind_of(following[name]) == "relu" for name in order)


def overlapping_pools() -> int:
    """Pooling layers with windows of 3 at every second unit."""
    pools = [getattr(skeleton(), name) for name in layers(kind="pool")]
    return sum((pool.kernel_size, pool.stride) == (3, 2) for pool in pools)


def between_last_convolutions() -> int:
    """Pooling and normalisation layers between the third, fourth and fifth convolution."""
    order = layers()
    return sum(kind_of(name) in ("pool", "norm") for name in order[order.index("conv3") : order.index("conv5")])


def pooled_after() -> int:
    """Of the places that §3.5 names for pooling, both normalisations and the fifth convolution, those that have it."""
    text = " ".join(layers())
    return sum(place in text for place in ("norm1 pool1", "norm2 pool2", "conv5 relu5 pool5"))


# ---------------------------------------------------------------------------------------- two GPUs (§3.2), time (§5)


@cache
def connected(layer: str) -> float:
    """The share of pairs of maps, one of this convolution and one of the layer before, that are connected."""
    return float(dependence(alexnet("paper", width=0.125, seed=0), layer).mean())


def both_columns() -> int:
    """Convolutions after the first that see the maps of both GPUs."""
    return sum(connected(layer) == 1 for layer in layers(kind="conv")[1:])


def gpu_work() -> float:
    """Multiply-adds of each GPU of the pair over those of the half net on one GPU."""
    pair, half = (net_table(name)["multiply_adds"].sum() for name in ("paper", "one_gpu"))
    return pair / 2 / half


def memory_gib() -> float:
    """GiB that the whole net and a batch of 128 fill on one GPU: weights, outputs, gradients; no working space."""
    return sum(columns.memory(skeleton(), 128).values()) / 2**30


def share_of_peak() -> float:
    """The share of two GTX 580 that 90 cycles in five and a half days take: three passes, two operations each."""
    operations = IMAGES_2010 * CYCLES * 3 * 2 * net_table()["multiply_adds"].sum()
    return operations / (DAYS * 86400) / (2 * GTX580)


def bits_of_a_label(classes: str = "1000") -> float:
    return math.log2(int(classes))


def slope_of_relu(at: str = "100") -> float:
    """The slope of a ReLU far from zero."""
    x = torch.tensor(float(at), requires_grad=True)
    nn.ReLU()(x).backward()
    return x.grad.item()


def slope_of_tanh(at: str = "10") -> float:
    """The slope of tanh far from zero."""
    x = torch.tensor(float(at), dtype=torch.float64, requires_grad=True)
    x.tanh().backward()
    return x.grad.item()


# --------------------------------------------------------------------------------------- errors (§2), views (§4.1)


def top5_by_sorting() -> float:
    """The largest difference of `top_k_error` from counting in sorted scores, on random ones without ties."""
    generator = np.random.default_rng(0)
    scores, labels = generator.random((500, 100)), generator.integers(0, 100, 500)
    best = np.argsort(-scores, axis=1)
    by_hand = {k: np.mean([label not in row[:k] for label, row in zip(labels, best, strict=True)]) for k in (1, 5)}
    return max(abs(error - by_hand[k]) for k, error in top_k_error(scores, labels).items())


def left_of_mean() -> float:
    """The largest mean over images that any pixel has after the mean image was taken off, in grey levels."""
    images = np.random.default_rng(0).integers(0, 256, (32, 16, 16, 3), np.uint8)
    mean = torch.from_numpy(images.mean(0, dtype=np.float64).astype(np.float32)).permute(2, 0, 1)
    return to_input(images, mean).double().mean(0).abs().max().item()


def patches() -> int:
    """Different patches of an image at test time."""
    image = np.random.default_rng(0).integers(0, 256, (1, 256, 256, 3), np.uint8)
    return len({view.tobytes() for view in ten_views(image)[0]})


def shift_of_first_axis() -> float:
    """Grey levels that α = 1 adds along the first colour axis in the program of 2012, of ImageNet's pixels."""
    return float(np.linalg.norm(colour_shifts(IMAGENET_PCA, np.array([[1.0, 0, 0]]), std=1.0)))


def printed_shift() -> float:
    """The same as the formula is printed: the eigenvalue."""
    return float(IMAGENET_PCA.eigenvalues[0])


# ------------------------------------------------------------------------------------------------------- dropout (§4.2)


def dropout_layers() -> int:
    return len(layers(kind="drop"))


def silent_share() -> float:
    """The share of units that are silent in training, of a million."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return (Dropout()(torch.ones(1000, 1000)) == 0).double().mean().item()


def test_factor() -> float:
    """What a unit is multiplied by at test time."""
    return Dropout().eval()(torch.ones(1)).item()


def taught_when_silent() -> int:
    """Weights into silent units that have a gradient, of one layer and one image."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weights = torch.rand(64, 16, dtype=torch.float64, requires_grad=True)
        hidden = Dropout()(weights @ torch.rand(16, dtype=torch.float64))
    hidden.sum().backward()
    return int(weights.grad[hidden == 0].count_nonzero())


def different_masks() -> int:
    """Different sub-networks among a batch of 128 images."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return len(Dropout()(torch.ones(128, 4096)).unique(dim=0))


# ------------------------------------------------------------------------------------------------------ learning (§5)


def recipe_value(name: str) -> float:
    """A number of the recipe "paper"."""
    return getattr(recipe("paper"), name)


def rule_error() -> float:
    """The largest difference of PaperSGD's path from the printed rule, in float64, across a drop of the rate."""
    return float(np.abs(path_of_rule() - _printed_path()).max())


def torch_rule_error() -> float:
    """The largest difference of the path that torch.optim.SGD takes, over how far the weight has moved."""
    printed = _printed_path()
    return float(np.abs(printed - path_of_rule(as_torch=True)).max() / np.abs(printed - 1).max())


def path_of_rule(as_torch: bool = False) -> np.ndarray:
    """A weight that starts at 1, after each step of RATES under a gradient of 1.

    as_torch: without rescaling the velocity when the rate changes, which is what torch.optim.SGD does.
    """
    weight = nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = PaperSGD([weight], lr=RATES[0], momentum=0.9, weight_decay=5e-4)
    (group,), path = optimizer.param_groups, []
    for rate in RATES:
        group["lr"] = rate
        group["buffer_lr"] = rate if as_torch else group["buffer_lr"]
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        path.append(weight.item())
    return np.array(path)


def _printed_path() -> np.ndarray:
    weight, velocity, path = 1.0, 0.0, []
    for rate in RATES:
        velocity = 0.9 * velocity - 0.0005 * rate * weight - rate * 1.0
        weight += velocity
        path.append(weight)
    return np.array(path)


def largest_std(rule: str = "code2012") -> float:
    """The largest deviation that a rule gives the first weights of a convolution at full size."""
    return max(initial_std(layer, kernel_inputs(layer), rule) for layer in layers(kind="conv"))


def layers_with_bias() -> int:
    """Layers of the net whose biases start at one."""
    return sum(name in BIASED_LAYERS for name in layers())


def positive_inputs(bias: str = "1") -> float:
    """The share of positive inputs of the ReLUs after the biased convolutions, in an untrained net of noise.

    A quarter of the width, printed weights; with their biases replaced by `bias`.
    """
    net = initialise(alexnet("paper", 10, width=0.25, image_size=64, seed=0), "printed", seed=0).eval()
    x = torch.from_numpy(np.random.default_rng(0).normal(0, 60, (16, 3, 64, 64)).astype(np.float32))
    shares = []
    with torch.no_grad():
        for name, layer in net.named_children():
            if name in BIASED_LAYERS:
                layer.bias.fill_(float(bias))
            x = layer(x)
            if name in BIASED_LAYERS and name.startswith("conv"):
                shares.append((x > 0).double().mean().item())
    return float(np.mean(shares))


def rate_drops() -> int:
    """How often the plateau rule divides the rate before it ends a run that does not improve."""
    rule = PlateauRule()
    rates = [rule.rate]
    while (rate := rule.step(1.0)) is not None:
        rates.append(rate)
    return len(set(rates)) - 1


def logged_drops() -> int:
    """How often a person divided the rate of run 145."""
    return len(LOGGED_2012)


def windows_of(pooling: str) -> int:
    """The side of a pooling window, by the name of the pooling."""
    return POOLINGS[pooling].window
