"""What is many passes over memory elsewhere, in one pass each, in Triton.

§3.1, §3.3 and §3.4: ReLU, normalisation across maps and overlapping pooling. Written one after the other, the three
read and write the largest tensors of the net seven times, and backwards twelve.

§4.1: from whole pictures to the input of a net: crop, reflection, mean, colour and scale.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

SIDE, STRIDE = 3, 2  # of the pooling
BLOCK = 32  # places of a program
UNITS = 1024  # of an input, of a program
# whether a product and a sum are rounded once is said with each kernel, since versions of Triton have other defaults


@triton.jit
def _band(WIDTH: tl.constexpr, BEFORE: tl.constexpr, AFTER: tl.constexpr):
    """(WIDTH, WIDTH): 1 where the map of the row is in the window of the column's."""
    distance = tl.arange(0, WIDTH)[:, None] - tl.arange(0, WIDTH)[None, :]
    return ((distance >= -BEFORE) & (distance <= AFTER)).to(tl.float32)


@triton.jit
def _sums(values, band, kind: tl.constexpr):
    """Of each window; for bfloat16 with 11 bits of each value, which are more than it holds."""
    return tl.dot(values, band, input_precision="tf32" if kind == tl.bfloat16 else "ieee")


@triton.jit
def _respond(
    x, y, chosen, places, height, width, out_height, out_width, k, scale,
    MAPS: tl.constexpr, WIDTH: tl.constexpr, BEFORE: tl.constexpr, AFTER: tl.constexpr, RELU: tl.constexpr,
    SIZE: tl.constexpr,
):  # fmt: skip
    """y, and which of its nine units each pooled unit comes from, for SIZE places of the output."""
    kind: tl.constexpr = x.dtype.element_ty
    place, maps = tl.program_id(0) * SIZE + tl.arange(0, SIZE), tl.arange(0, WIDTH)
    there = (place < places)[:, None] & (maps < MAPS)[None, :]
    column, row, image = place % out_width, place // out_width % out_height, place // (out_width * out_height)
    band = _band(WIDTH, BEFORE, AFTER)
    best, unit = tl.full((SIZE, WIDTH), float("-inf"), tl.float32), tl.zeros((SIZE, WIDTH), tl.uint8)
    for i in range(9):
        seen = (image.to(tl.int64) * height + row * 2 + i // 3) * width + column * 2 + i % 3
        a = tl.load(x + seen[:, None] * MAPS + maps[None, :], mask=there, other=0.0).to(tl.float32)
        a = tl.maximum(a, 0.0, propagate_nan=tl.PropagateNan.ALL) if RELU else a
        root = 1 / tl.sqrt(k + scale * _sums(a * a, band, kind))
        response = (a * root * tl.sqrt(root)).to(kind).to(tl.float32)
        more = (response > best) | (response != response)
        best, unit = tl.where(more, response, best), tl.where(more, i, unit).to(tl.uint8)
    to = place.to(tl.int64)[:, None] * MAPS + maps[None, :]
    tl.store(y + to, best.to(kind), mask=there)
    tl.store(chosen + to, unit, mask=there)


@triton.jit
def _gradient(
    x, grad, chosen, result, places, height, width, out_height, out_width, k, scale,
    MAPS: tl.constexpr, WIDTH: tl.constexpr, BEFORE: tl.constexpr, AFTER: tl.constexpr, RELU: tl.constexpr,
    SIZE: tl.constexpr,
):  # fmt: skip
    """The gradient of x, for SIZE places of the input; `normalization._normalised` has the formula."""
    kind: tl.constexpr = x.dtype.element_ty
    place, maps = tl.program_id(0) * SIZE + tl.arange(0, SIZE), tl.arange(0, WIDTH)
    there = (place < places)[:, None] & (maps < MAPS)[None, :]
    column, row, image = place % width, place // width % height, place // (width * height)
    handed_down = tl.zeros((SIZE, WIDTH), tl.float32)
    for i in tl.static_range(4):  # the windows that hold a unit
        out_row, out_column = row // 2 - i // 2, column // 2 - i % 2
        own_row, own_column = row - 2 * out_row, column - 2 * out_column
        inside = (out_row >= 0) & (out_row < out_height) & (out_column >= 0) & (out_column < out_width)
        inside = inside & (own_row < 3) & (own_column < 3)
        window = (image.to(tl.int64) * out_height + out_row) * out_width + out_column
        of, held = window[:, None] * MAPS + maps[None, :], there & inside[:, None]
        unit = tl.load(chosen + of, mask=held, other=255).to(tl.int32)
        passed = tl.load(grad + of, mask=held, other=0.0).to(tl.float32)
        handed_down += tl.where(unit == (own_row * 3 + own_column)[:, None], passed, 0.0)
    at = place.to(tl.int64)[:, None] * MAPS + maps[None, :]
    given = tl.load(x + at, mask=there, other=0.0).to(tl.float32)
    a = tl.maximum(given, 0.0, propagate_nan=tl.PropagateNan.ALL) if RELU else given
    denominator = k + scale * _sums(a * a, _band(WIDTH, BEFORE, AFTER), kind)
    root = 1 / tl.sqrt(denominator)
    direct = handed_down * root * tl.sqrt(root)
    share = _sums(direct * a / denominator, _band(WIDTH, AFTER, BEFORE), kind)
    slope = direct - 1.5 * scale * a * share  # 2 · β
    tl.store(result + at, (tl.where(given > 0, slope, 0.0) if RELU else slope).to(kind), mask=there)


class PooledResponse(torch.autograd.Function):
    """(N, C, H, W) float32 or bfloat16 to (N, C, ⌊(H − 3) / 2⌋ + 1, …), both channels last in memory; β = 3/4.

    relu: whether x goes through a ReLU first. before, after: maps of a window beside a unit's own. k, scale: as in
    `normalization`, scale being what the sum is multiplied by.
    """

    @staticmethod
    def forward(ctx, x: Tensor, relu: bool, before: int, after: int, k: float, scale: float) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        images, maps, *sides = x.shape
        out = [(side - SIDE) // STRIDE + 1 for side in sides]
        y = torch.empty((images, maps, *out), dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        chosen = torch.empty_like(y, dtype=torch.uint8)
        ctx.more = *sides, *out, k, scale, maps, max(16, triton.next_power_of_2(maps)), before, after, relu
        ctx.save_for_backward(x, chosen)
        _launch(_respond, images * out[0] * out[1], (x, y, chosen), ctx.more)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):
        x, chosen = ctx.saved_tensors
        result, grad = torch.empty_like(x), grad.contiguous(memory_format=torch.channels_last)
        _launch(_gradient, len(x) * x.shape[2] * x.shape[3], (x, grad, chosen, result), ctx.more)
        return result, *[None] * 5


def _launch(kernel, places: int, tensors: tuple[Tensor, ...], more: tuple) -> None:
    with torch.cuda.device_of(tensors[0]):
        kernel[(triton.cdiv(places, BLOCK),)](*tensors, places, *more, BLOCK, enable_fp_fusion=True)


@triton.jit
def _cut(images, places, mean, shifts, x, count, height, width, side, noise, divisor, SIZE: tl.constexpr):
    """SIZE units of the input that is made of one view; the operations and their order are those of a CPU."""
    view, unit = tl.program_id(0), tl.program_id(1) * SIZE + tl.arange(0, SIZE)
    there = unit < side * side * 3
    channel, column, line = unit % 3, unit // 3 % side, unit // 3 // side
    row, top = tl.load(places + view), tl.load(places + count + view)
    left, mirrored = tl.load(places + 2 * count + view), tl.load(places + 3 * count + view)
    across = left + tl.where(mirrored != 0, side - 1 - column, column)
    pixels = tl.load(images + ((row * height + top + line) * width + across) * 3 + channel, mask=there, other=0)
    value = pixels.to(tl.float32) - tl.load(mean + (channel * side + line) * side + column, mask=there, other=0.0)
    value = value + tl.load(shifts + view * 3 + channel, mask=there, other=0.0)
    value = tl.div_rn(tl.div_rn(value, noise), divisor)
    tl.store(x + view.to(tl.int64) * side * side * 3 + unit, value, mask=there)


def cut(images: Tensor, places: Tensor, mean: Tensor, shifts: Tensor, noise: float, divisor: float) -> Tensor:
    """Inputs (V, 3, side, side) float32, channels last in memory, of V views of images (N, H, W, 3) uint8.

    places: (4, V) int64: the image of each view, where it begins above and to the left, and whether it is mirrored.
    mean: (3, side, side), taken off; shifts: (V, 3), then added; the rest is divided by `noise` and by `divisor`.
    """
    count, side = places.shape[1], mean.shape[-1]
    x = torch.empty((count, side, side, 3), device=images.device)
    grid = count, triton.cdiv(side * side * 3, UNITS)
    given = images.contiguous(), places, mean.contiguous(), shifts.contiguous(), x
    with torch.cuda.device_of(images):
        _cut[grid](*given, count, *images.shape[1:3], side, noise, divisor, UNITS, enable_fp_fusion=False)
    return x.permute(0, 3, 1, 2)
