"""§3 on a GPU, for speed = "fast": the same net and weights, by ways that suit its units. Equal but for rounding."""

import warnings
from collections.abc import Callable
from copy import copy
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..normalization import LocalResponseNorm, SpatialResponseNorm, reach_and_scale

MOST_MAPS = 128  # of a column, for the kernel of three: their band fits in a multiprocessor's own memory
BY_COLUMN = nn.ReLU, nn.Tanh, nn.Sigmoid, nn.MaxPool2d, LocalResponseNorm, SpatialResponseNorm


class Fast(nn.Module):
    """A net of `architecture`, or a column of one, by other ways; any other net is called as it is.

    The strided first convolution sees blocks of pixels as maps. What knows its own column only is computed column by
    column, without slices of a joint tensor. ReLU, normalisation and overlapping pooling in a row are one kernel where
    Triton works, after which `normalises` is True. Input (N, 3, S, S), output (N, classes).
    """

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net, self.normalises = net, False

    def forward(self, x: Tensor):
        if not isinstance(self.net, nn.Sequential):
            return self.net(x)
        layers, parts = list(self.net), [x]
        while layers:
            layer = layers.pop(0)
            if isinstance(layer, nn.Conv2d):
                # in as many columns as the layers behind it want their input
                after = next((other for other in layers if not isinstance(other, BY_COLUMN)), None)
                parts = convolved(layer, parts, getattr(after, "groups", 1))
            elif isinstance(layer, BY_COLUMN):
                row = [_alone(layer, len(parts)), *(_alone(other, len(parts)) for other in layers[:2])]
                done = next((count for count in (3, 2) if _is_one_kernel(row[:count], parts[0])), 1)
                parts = [pooled_response(part, row[:done]) if done > 1 else row[0](part) for part in parts]
                self.normalises |= done > 1
                del layers[: done - 1]
            else:
                parts = [layer(_joint(parts))]
        return _joint(parts)


def _joint(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def _alone(layer: nn.Module, parts: int) -> nn.Module:
    """A layer as it is for each of so many parts of its maps."""
    if parts > 1 and isinstance(layer, LocalResponseNorm):
        layer = copy(layer)
        layer.columns //= parts
    return layer


# ------------------------------------------------------------------------------------------------- convolutions


def convolved(layer: nn.Conv2d, parts: list[Tensor], wanted: int = 1) -> list[Tensor]:
    """A convolution's maps (N, C, …), from its input in one part or in columns, each column's by itself if wanted."""
    columns = max(wanted, layer.groups)
    if layer.groups == 1:
        parts = [_joint(parts)]
    elif len(parts) == 1:
        parts = list(parts[0].chunk(columns, 1))
    weight, padding = layer.weight, layer.padding
    if torch.is_autocast_enabled(parts[0].device.type):  # once, not for each column
        weight, parts = weight.to(torch.bfloat16), [part.to(torch.bfloat16) for part in parts]
    if layer.stride[0] > 1 and layer.groups == 1:
        parts, weight, padding = [as_blocks(parts[0], layer)], kernels_of_blocks(weight, layer.stride[0]), 0
    parts = parts * columns if layer.groups == 1 else parts
    stride = 1 if layer.groups == 1 else layer.stride
    shares = zip(parts, weight.chunk(columns), layer.bias.chunk(columns), strict=True)
    return [F.conv2d(part, own, bias, stride, padding) for part, own, bias in shares]


def as_blocks(x: Tensor, layer: nn.Conv2d) -> Tensor:
    """Pixels (N, C, S, S) as blocks of stride × stride, (N, C · stride², S', S'), padded for a convolution's windows.

    With `kernels_of_blocks` a convolution with a stride is one without. For the paper's first layer this is 3 × 3 over
    48 maps in place of 11 × 11 over 3, for which a GPU's units are too wide.
    """
    stride, kernel, before = layer.stride[0], layer.kernel_size[0], layer.padding[0]
    places = (x.shape[-1] + 2 * before - kernel) // stride + 1
    blocks = places - 1 + -(-kernel // stride)
    after = stride * blocks - x.shape[-1] - before  # below 0 where no window reaches the last pixels
    return F.pixel_unshuffle(F.pad(x, (before, after) * 2), stride).contiguous(memory_format=torch.channels_last)


def kernels_of_blocks(weight: Tensor, stride: int) -> Tensor:
    """Kernels (maps, C, K, K) for `as_blocks`, (maps, C · stride², ⌈K / stride⌉, ⌈K / stride⌉), filled with zeros."""
    rest = -weight.shape[-1] % stride
    filled = F.pixel_unshuffle(F.pad(weight, (0, rest, 0, rest)), stride)
    return filled.contiguous(memory_format=torch.channels_last)


# ------------------------------------------------------------------------------------------------- one kernel of three


def _is_one_kernel(row: list[nn.Module], x: Tensor) -> bool:
    """Whether `pooled_response` can do these layers: a normalisation and a pooling, perhaps after a ReLU."""
    *relu, norm, pool = row if len(row) > 1 else [None, None]
    if not isinstance(norm, LocalResponseNorm) or not isinstance(pool, nn.MaxPool2d):
        return False
    usual = norm.columns == 1 and norm.beta == 0.75 and (pool.kernel_size, pool.stride, pool.padding) == (3, 2, 0)
    known = all(isinstance(layer, nn.ReLU) for layer in relu) and not pool.ceil_mode
    kind = x.dtype == torch.bfloat16 and min(x.shape[2:]) >= 3 and x.shape[1] <= MOST_MAPS
    return bool(usual and known and kind and pools_at_once(x.device, x.shape[1]))


def pooled_response(x: Tensor, row: list[nn.Module]) -> Tensor:
    """What these layers make of x, (N, C, H, W), by one kernel."""
    from .kernels import PooledResponse

    norm = row[-2]
    return PooledResponse.apply(x, len(row) == 3, *reach_and_scale(norm))


# ----------------------------------------------------------------------------------------- whether Triton works here


@cache
def pools_at_once(device: torch.device, maps: int) -> bool:
    """Whether the kernel of three runs on a device for so many maps; where it should and does not, it warns."""

    def attempt() -> None:
        from .kernels import PooledResponse

        x = torch.ones(1, maps, 3, 3, device=device, dtype=torch.bfloat16, requires_grad=True)
        PooledResponse.apply(x, True, 2, 2, 2.0, 1e-4).sum().backward()

    return _works(device, attempt, f"ReLU, normalisation and pooling of {maps} maps are three steps")


@cache
def cuts_at_once(device: torch.device) -> bool:
    """Whether `evaluation.input_at_once` runs on a device; where it should and does not, it warns."""

    def attempt() -> None:
        from .kernels import cut

        places, mean, shifts = torch.zeros(4, 1, dtype=torch.int64), torch.zeros(3, 2, 2), torch.zeros(1, 3)
        images = torch.zeros(1, 2, 2, 3, dtype=torch.uint8, device=device)
        cut(images, *(given.to(device) for given in (places, mean, shifts)), 1.0, 1.0).sum().item()

    return _works(device, attempt, "crops, mean and colours are several steps")


def _works(device: torch.device, attempt: Callable[[], None], otherwise: str) -> bool:
    if device.type != "cuda":
        return False
    try:
        attempt()
    except Exception as error:  # no Triton, no C compiler beside it, a GPU that it does not know, or too small a one
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        warnings.warn(
            f"Triton does not work here ({reason}), so {otherwise}; a C compiler and Python's headers are what it "
            "usually lacks",
            stacklevel=3,
        )
        return False
    return True
