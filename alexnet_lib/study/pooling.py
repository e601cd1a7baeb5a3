"""§3.4, overlapping pooling: the sizes of maps after windows of 3 or of 2, two units apart.

The layers themselves are torch's, chosen by `architecture.POOLINGS`.
"""

from torch import nn

from ..architecture import CONVOLUTIONS, Pooling, shape_after

STRIDE = 2
POOLED = ("conv1", "conv2", "conv5")  # the convolutions that a pooling layer follows
UNPADDED_2012 = Pooling(2, ceil=True)  # run 147 without what it did to the paddings


def side_after(side: int, pooling: Pooling) -> int:
    """The side of a map of this side after pooling."""
    return shape_after(nn.MaxPool2d(pooling.window, STRIDE, ceil_mode=pooling.ceil), (1, side, side))[1]


def sides(pooling: Pooling, first: int = 55) -> dict[str, int]:
    """The side of every map of the net with this pooling, given that of conv1."""
    after, side = {}, first
    for name, conv in CONVOLUTIONS.items():
        if name != "conv1":
            side += 2 * (conv.padding - (name in pooling.less_padding)) - conv.kernel + 1
        after[name] = side
        if name in POOLED:
            after[name.replace("conv", "pool")] = side = side_after(side, pooling)
    return after


def unseen(side: int, pooling: Pooling) -> float:
    """The share of a map's units that lie in no window, because another window wouldn't fit."""
    reach = STRIDE * (side_after(side, pooling) - 1) + pooling.window
    return 1 - min(reach / side, 1) ** 2
