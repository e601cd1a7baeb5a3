"""§3.4, overlapping pooling: what windows of 3 at every second unit do that windows of 2 do not.

The layers themselves are torch's, chosen by `architecture.POOLINGS`.
"""

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from ..architecture import CONVOLUTIONS, POOLINGS, Pooling
from ..dataset import Store
from ..evaluation import predict
from ..runs.records import Record
from ..training import load_net

STRIDE = 2
FIRST_SIDE = 55  # of conv1's map
POOLED = ("conv1", "conv2", "conv5")  # the convolutions that a pooling layer follows
UNPADDED_2012 = Pooling(2, ceil=True)  # run 147 without what it did to the paddings
# what the program of 2012 counted on the 50,000 validation images of ILSVRC-2012, ten views (layer-params-145, -147)
LOGGED = pd.DataFrame({"overlapping": (0.406640, 0.182100), "run147": (0.410580, 0.185100)}, index=["top1", "top5"])
VALIDATION_2012 = 50_000
# run 145 again, with its rate raised once more after the 91 epochs, at epoch 135 (layer-params-145.cfg)
CONTINUED_2012 = 0.402500


def side_after(side: int, pooling: Pooling) -> int:
    """Side of the map that pooling makes of one of this side; what `nn.MaxPool2d` gives, by arithmetic."""
    room = side - pooling.window
    return (-(-room // STRIDE) if pooling.ceil else room // STRIDE) + 1


def sides(pooling: Pooling, first: int = FIRST_SIDE) -> dict[str, int]:
    """The side of every map of the net with this pooling, when conv1's has `first` units a side."""
    after, side = {"conv1": first}, first
    for name, conv in CONVOLUTIONS.items():
        if name != "conv1":
            padding = conv.padding - (name in pooling.less_padding)
            after[name] = side = side + 2 * padding - conv.kernel + 1
        if name in POOLED:
            after[name.replace("conv", "pool")] = side = side_after(side, pooling)
    return after


def unseen(side: int, pooling: Pooling) -> float:
    """The share of a map's units that lie in no window at all, because the last windows would not fit."""
    reach = STRIDE * (side_after(side, pooling) - 1) + pooling.window
    return 1 - min(reach / side, 1) ** 2


def equal_sides() -> int:
    """In how many of the three pooling layers windows of 2 and of 3 give maps of one size, rounding down as torch."""
    of_three, of_two = (sides(POOLINGS[name]) for name in ("overlapping", "non_overlapping"))
    return sum(of_three[name] == of_two[name] for name in ("pool1", "pool2", "pool5"))


def pool(maps: Tensor, window: int) -> Tensor:
    """The largest unit of each window, at every second unit, of a map (H, W) or several (C, H, W)."""
    return F.max_pool2d(maps[None], window, STRIDE)[0]


def credit(grid: np.ndarray, window: int) -> np.ndarray:
    """How many windows chose each unit of a map (H, W): the gradient of the sum of what comes out."""
    units = torch.tensor(grid, dtype=torch.float64, requires_grad=True)
    pool(units, window).sum().backward()
    return units.grad.numpy().astype(int)


def credits(maps: Tensor, window: int) -> np.ndarray:
    """`credit` of each of several maps (C, H, W), as far as it passes a ReLU: a window of zeros teaches nobody."""
    maps = maps.detach().double().numpy()
    return np.stack([credit(grid, window) * (grid > 0) for grid in maps])


# ----------------------------------------------------------------------------------------- is a difference a difference


def standard_error(error: float, images: int) -> float:
    """Binomial standard error of an error rate that was counted on this many images."""
    return (error * (1 - error) / images) ** 0.5


def paired_standard_error(wrong_a: np.ndarray, wrong_b: np.ndarray) -> float:
    """Standard error of the difference of two nets' error rates on the same images; boolean (N,), one an image.

    Only images count on which one of the two is right and the other wrong (McNemar).
    """
    return float((wrong_a.astype(float) - wrong_b).std() / len(wrong_a) ** 0.5)


def wrong_images(record: Record, store: Store, mean: Tensor) -> np.ndarray:
    """Whether a finished run's first guess is wrong, for each image of a store, centre crops; boolean (N,)."""
    guesses = predict(load_net(record), store.images, mean).argmax(1)
    return guesses.numpy() != store.labels
