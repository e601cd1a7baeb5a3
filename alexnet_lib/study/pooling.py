"""§3.4, overlapping pooling: windows of 3 with a stride of 2, against windows of 2.

The layers themselves are torch's, chosen by `architecture.POOLINGS`.
"""

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..architecture import CONVOLUTIONS, POOLINGS, Pooling, shape_after
from ..dataset import Store
from ..evaluation import predict
from ..runs.records import Record
from ..training import load_net
from .log2012 import VALIDATION_2012 as VALIDATION_2012
from .log2012 import logged

STRIDE = 2
FIRST_SIDE = 55  # of conv1's map
POOLED = ("conv1", "conv2", "conv5")  # the convolutions that a pooling layer follows
RUNS_2012 = {"overlapping": "145", "run147": "147"}
UNPADDED_2012 = Pooling(2, ceil=True)  # run 147 without what it did to the paddings
# errors from 0 to 1 in the log of 2012
LOGGED = pd.DataFrame({name: {k: getattr(logged(run), k) for k in ("top1", "top5")} for name, run in RUNS_2012.items()})
CONTINUED_2012 = logged("145, longer").top1


def side_after(side: int, pooling: Pooling) -> int:
    """The side of a map of this side after pooling."""
    layer = nn.MaxPool2d(pooling.window, STRIDE, ceil_mode=pooling.ceil)
    return shape_after(layer, (1, side, side))[1]


def sides(pooling: Pooling, first: int = FIRST_SIDE) -> dict[str, int]:
    """The side of every map of the net with this pooling, given that of conv1."""
    after, side = {"conv1": first}, first
    for name, conv in CONVOLUTIONS.items():
        if name != "conv1":
            padding = conv.padding - (name in pooling.less_padding)
            after[name] = side = side + 2 * padding - conv.kernel + 1
        if name in POOLED:
            after[name.replace("conv", "pool")] = side = side_after(side, pooling)
    return after


def unseen(side: int, pooling: Pooling) -> float:
    """The share of a map's units that lie in no window, because another window wouldn't fit."""
    reach = STRIDE * (side_after(side, pooling) - 1) + pooling.window
    return 1 - min(reach / side, 1) ** 2


def equal_sides() -> int:
    """In how many of the three pooling layers windows of 2 and of 3 give maps of one size when torch rounds down."""
    of_three, of_two = (sides(POOLINGS[name]) for name in ("overlapping", "non_overlapping"))
    return sum(of_three[name] == of_two[name] for name in ("pool1", "pool2", "pool5"))


def pool(maps: Tensor, window: int) -> Tensor:
    """Max pooling of a map (H, W) or several (C, H, W) with a stride of 2."""
    return F.max_pool2d(maps[None], window, STRIDE)[0]


def credit(grid: np.ndarray, window: int) -> np.ndarray:
    """How many windows chose each unit of a map (H, W): the gradient of the sum of what comes out."""
    units = torch.tensor(grid, dtype=torch.float64, requires_grad=True)
    pool(units, window).sum().backward()
    return units.grad.numpy().astype(int)


def credits(maps: Tensor, window: int) -> np.ndarray:
    """`credit` of each of several maps (C, H, W) that passes a ReLU: a window of zeros has no gradient."""
    maps = maps.detach().double().numpy()
    return np.stack([credit(grid, window) * (grid > 0) for grid in maps])


def standard_error(error: float, images: int) -> float:
    """Binomial standard error of an error rate that was counted on this many images."""
    return (error * (1 - error) / images) ** 0.5


def paired_standard_error(wrong_a: np.ndarray, wrong_b: np.ndarray) -> float:
    """Standard error of the difference of two nets' error rates on the same images; wrong or not, (N,).

    Only images that one net gets right and the other wrong count (McNemar).
    """
    return float((wrong_a.astype(float) - wrong_b).std() / len(wrong_a) ** 0.5)


def wrong_images(record: Record, store: Store, mean: Tensor) -> np.ndarray:
    """Whether a finished run's first guess is wrong on the centre crop of each image of a store; (N,)."""
    guesses = predict(load_net(record), store.images, mean).argmax(1)
    return guesses.numpy() != store.labels
