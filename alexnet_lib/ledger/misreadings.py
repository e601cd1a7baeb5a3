"""What readers' notes make of the paper, each as a number that a program can refute: the rows "readers" of the ledger.

One function a row. Most answers are one line away in the library; those that need more are here.
"""

import numpy as np
import torch
from torch import nn

from ..architecture import alexnet, skeleton
from ..augmentation import COPIED_EIGENVALUES, IMAGENET_PCA
from ..data.embedded import small_pictures
from ..dropout import Dropout
from ..normalization import LocalResponseNorm
from ..study.anatomy import dependence
from ..study.log2012 import TABLE_1, TABLE_2
from ..study.sub_networks import every_mask, extra_squared_loss
from .arithmetic import layers


def tables(table: str, model: str, column: str) -> float:
    """An error that the paper prints, in per cent: table "1" or "2", a row's model, and the column's number."""
    rows = {"1": TABLE_1, "2": TABLE_2}[table]
    return next(row for row in rows if row[0] == model)[int(column)]


def maps(layer: str) -> int:
    """Maps of a convolution, or units of a fully connected layer, in both columns together."""
    return getattr(skeleton(), layer).weight.shape[0]


def layers_with(kind: str, net: str = "paper") -> int:
    """How many layers of a kind a net has, such as "norm" or "drop"."""
    return len(layers(net, kind))


def norms_before_relu(net: str = "code2012") -> int:
    """In how many of the first two layers of a net the normalisation comes before the ReLU."""
    order = layers(net)
    return sum(order.index(f"norm{i}") < order.index(f"relu{i}") for i in (1, 2))


def forgotten_split() -> float:
    """How many parameters more the net has when every layer sees both columns."""
    whole = skeleton()
    split = [m for m in whole.modules() if isinstance(m, nn.Conv2d) and m.groups == 2]
    return sum(layer.weight.numel() for layer in split)


def other_column() -> float:
    """The share of the maps that a map of conv3 sees which come from the other GPU."""
    seen = dependence(alexnet("paper", width=0.125, seed=0), "conv3")[0] > 0
    return float(seen[len(seen) // 2 :].sum() / seen.sum())


def taken_from_others() -> float:
    """What the probabilities of two classes lose when the logit of a third, equal to theirs, rises by one."""
    before, after = torch.zeros(3), torch.tensor([1.0, 0.0, 0.0])
    return (before.softmax(0) - after.softmax(0))[1:].sum().item()


def penalty_of_linear_dropout() -> float:
    """Linear regression: the relative difference of dropout's extra loss, over all masks, from its L2 penalty."""
    generator = np.random.default_rng(0)
    x, weights = generator.standard_normal((32, 8)), generator.standard_normal(8)
    enumerated, penalty = extra_squared_loss(x, x @ weights / 2, weights)
    return abs(enumerated - penalty) / penalty


def penalty_of_relu_dropout() -> float:
    """The same for a ReLU after the masked sum, where it is no penalty on the weights alone."""
    generator = np.random.default_rng(0)
    x, weights = generator.standard_normal((32, 8)), generator.standard_normal(8)
    target = np.maximum(x @ weights / 2, 0)
    outputs = np.maximum(every_mask(8).numpy()[:, None] * x @ weights, 0)
    extra = np.mean((outputs - target) ** 2)
    penalty = float((weights**2 * (x**2).mean(0)).sum() / 4)
    return abs(extra - penalty) / penalty


def spread_of_mean_image(count: int = 24) -> float:
    """Grey levels by which the mean image of some built-in pictures differs from place to place: its deviation."""
    return float(small_pictures(0, count)[0].mean(0).std((0, 1)).mean())


def torch_norm_error() -> float:
    """How far torch's LocalResponseNorm with the printed constants is from the printed formula, at most, relatively."""
    x = torch.from_numpy(np.random.default_rng(0).normal(0, 60, (4, 96, 3, 3))).clamp(min=0)
    printed, torchs = LocalResponseNorm("paper")(x), nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2)(x)
    return ((torchs - printed).abs() / printed.clamp(min=1e-9)).max().item()


def copied_constants() -> float:
    """The copied eigenvalues of colour, of pixels from 0 to 1, over the deviation that the program used: first axis."""
    return float(COPIED_EIGENVALUES[0] / (np.sqrt(IMAGENET_PCA.eigenvalues[0]) / 255))


def norm_constant(name: str) -> float:
    """A constant of the normalisation layers of the 2012 program: k, n or beta."""
    return getattr(skeleton("code2012").norm1, name)


def silenced_weights() -> float:
    """The share of a layer's weights that are zero after a training step's forward pass with dropout before it."""
    layer = nn.Sequential(Dropout(), nn.Linear(64, 64)).train()
    nn.init.ones_(layer[1].weight)  # random ones are exactly zero now and then
    layer(torch.ones(8, 64))
    return (layer[1].weight == 0).double().mean().item()


def factor_of_inverted_dropout() -> float:
    """By how much `torch.nn.Dropout` multiplies the units that are left, in training."""
    return nn.Dropout().train()(torch.ones(64)).max().item()
