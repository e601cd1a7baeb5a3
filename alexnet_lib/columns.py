"""§3.2, training on two devices: one column of the net on each, and the little that they tell each other.

A layer's maps are divided evenly: column c has the c-th half of every tensor's first dimension, so the two halves of
a weight, laid end to end, are the weight of the one-device net. The columns exchange their maps only where a layer sees
both: before conv3 and before the fully connected layers.

    python -m alexnet_lib.columns    compares both ways on this machine, in float64
"""

import argparse
import json
import sys
from collections import OrderedDict
from copy import deepcopy
from functools import partial
from math import prod

import pandas as pd
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from .architecture import NETS, RGB, alexnet, layer_shapes
from .commands import ends_well
from .dropout import Dropout
from .inception import HEAD_WEIGHT, GoogLeNet, each_output, googlenet
from .learning import PaperSGD, initialise, learned_layers
from .normalization import LocalResponseNorm
from .runs.job import ALONE, Job, JobFailed, inside_job, join
from .runs.launch import torchrun

# -------------------------------------------------------------------------------------------------- one column of a net


def own_column(net: nn.Module, job: Job) -> nn.Module:
    """This process's column of a whole net, with copies of its weights under their names.

    Raises:
        ValueError: the net is not divided into as many columns as the job.
    """
    if job.columns == 1 and job.replicas == 1:
        return net
    net = _divided(net, job) if job.columns > 1 else deepcopy(net)
    for parent in list(net.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, Dropout | nn.Dropout):
                setattr(parent, name, ColumnDropout(layer.p, job, inverted=isinstance(layer, nn.Dropout)))
    return net


def _divided(net: nn.Sequential, job: Job) -> nn.Sequential:
    """The layers of one column, with a `Gather` before each that sees all columns."""
    if isinstance(net, GoogLeNet):
        raise ValueError(f"columns = {job.columns}; GoogLeNet is not divided into columns")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    joined = _joined(net)
    for name, layer in net.named_children():
        if name in joined:
            layers[f"gather_{name}"] = Gather(job.group("column"))
        match layer:
            case nn.Conv2d() | nn.Linear():
                layers[name] = _own_half(layer, job)
            case LocalResponseNorm():
                if layer.columns != job.columns:
                    raise ValueError(f"{name} spans {layer.columns} columns; wants {job.columns}, one for each device")
                layers[name] = deepcopy(layer)
                layers[name].columns = 1
            case _:
                layers[name] = layer
    layers["gather"] = GatherLogits(job.group("column"), layer.out_features, job.columns)
    return nn.Sequential(layers)


def _joined(net: nn.Sequential) -> list[str]:
    """The layers that see both columns: all with weights and a single group but the first, which sees the image."""
    _, *others = learned_layers(net).items()
    return [name for name, layer in others if getattr(layer, "groups", 1) == 1]


def _own_half(layer: nn.Conv2d | nn.Linear, job: Job) -> nn.Conv2d | nn.Linear:
    """The part of a layer that belongs to this column."""
    weight, bias = (tensor.detach().chunk(job.columns)[job.column].clone() for tensor in (layer.weight, layer.bias))
    if isinstance(layer, nn.Conv2d):
        if layer.groups not in (1, job.columns):
            raise ValueError(f"a convolution of {layer.groups} groups; wants 1 or {job.columns}, one for each device")
        maps, seen = weight.shape[:2]
        own = nn.Conv2d(seen, maps, layer.kernel_size, layer.stride, layer.padding, device="meta")
    else:
        own = nn.Linear(layer.in_features, len(weight), device="meta")
    own.weight, own.bias = nn.Parameter(weight), nn.Parameter(bias)
    return own


def own_part(tensor: Tensor, job: Job) -> Tensor:
    """This column's part of a parameter of the one-device net."""
    return tensor.chunk(job.columns)[job.column] if job.columns > 1 else tensor


def whole(own: dict[str, Tensor], job: Job) -> dict[str, Tensor]:
    """The one-device net's tensors from each column's, on the CPU of every process. All columns must call this."""
    if job.columns == 1:
        return {name: tensor.detach().cpu() for name, tensor in own.items()}
    group, result = job.group("column"), {}
    for name, tensor in own.items():
        rows = torch.zeros(job.columns, dtype=torch.long, device=tensor.device)
        rows[job.column] = len(tensor)
        dist.all_reduce(rows, group=group)
        parts = [tensor.new_empty((int(count), *tensor.shape[1:])) for count in rows]
        parts[job.column].copy_(tensor.detach())
        for column, part in enumerate(parts):
            dist.broadcast(part, group=group, group_src=column)
        result[name] = torch.cat([part.cpu() for part in parts])
    return result


# ------------------------------------------------------------------------------------- what the columns tell each other

# the current names, and those of older releases
_all_gather = getattr(dist, "all_gather_single", dist.all_gather_into_tensor)
_reduce_scatter = getattr(dist, "reduce_scatter_single", dist.reduce_scatter_tensor)


class _Gather(torch.autograd.Function):
    """Own maps (N, C, ...) to those of all columns (N, columns · C, ...), in the columns' order.

    Each column goes on to compute something of its own from them, so a map's gradient is the sum of all columns'.
    """

    @staticmethod
    def forward(ctx, own: Tensor, group) -> Tensor:
        ctx.group, columns = group, dist.get_world_size(group)
        last = own.movedim(1, -1).contiguous()  # no copy for channels-last memory
        parts = last.new_empty((columns, *last.shape))
        _all_gather(parts.flatten(0, 1), last, group=group)
        return parts.movedim(0, -2).flatten(-2).movedim(-1, 1)

    @staticmethod
    def backward(ctx, grad: Tensor):
        columns = dist.get_world_size(ctx.group)
        parts = grad.movedim(1, -1).unflatten(-1, (columns, -1)).movedim(-2, 0).contiguous()
        own = torch.empty_like(parts[0])
        _reduce_scatter(own, parts.flatten(0, 1), group=ctx.group)
        return own.movedim(-1, 1), None


class Gather(nn.Module):
    """Before a layer that sees all columns: (N, C, ...) of each to (N, columns · C, ...) on each."""

    def __init__(self, group):
        super().__init__()
        self.group = group

    def forward(self, own: Tensor) -> Tensor:
        return _Gather.apply(own, self.group)


class GatherLogits(nn.Module):
    """The end of the net: the logits of each column's classes to those of all (N, classes), the same on each.

    With an odd number of classes the first column has one more; the other is padded, and the padding cut off.
    """

    def __init__(self, group, classes: int, columns: int):
        super().__init__()
        self.group, self.classes, self.columns, self.most = group, classes, columns, -(-classes // columns)

    def forward(self, own: Tensor) -> Tensor:
        filled = F.pad(own, (0, self.most - own.shape[1]))
        parts = list(_Gather.apply(filled.detach(), self.group).chunk(self.columns, 1))
        # all columns go on with the same computation, so each already has the whole gradient of its own logits
        parts[dist.get_rank(self.group)] = filled
        return torch.cat(parts, 1)[:, : self.classes]


class ColumnDropout(nn.Module):
    """Dropout (§4.2) that draws the one-device net's mask and takes the part for its own column and images.

    inverted: as in `nn.Dropout`, which multiplies what is left by 1/(1 − p) in training and changes nothing in tests.
    """

    def __init__(self, p: float, job: Job, inverted: bool = False):
        super().__init__()
        self.p, self.job, self.inverted = p, job, inverted

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x if self.inverted else x * (1 - self.p)
        images, column, units = self.job.images_of_batch, self.job.column, x.shape[1]
        shape = self.job.batch, units * self.job.columns
        mask = F.dropout(x.new_ones(shape), self.p) if self.inverted else torch.rand(shape, device=x.device) >= self.p
        return x * mask[images, column * units : (column + 1) * units]


# ------------------------------------------------------------------------------------------- what the paper counts


BYTES = 4  # of a number in float32


def crossings(net: nn.Sequential, image_size: int = 224, columns: int = 2) -> pd.DataFrame:
    """What each column sends to the other for an image; one row for each layer that sees both.

    Columns: layer, values (of one column), forward and backward (bytes: of the maps, then of their gradients).
    """
    shapes = layer_shapes(net, image_size)
    before = dict(zip(shapes, [(RGB, image_size, image_size), *shapes.values()], strict=False))
    table = pd.DataFrame({"values": {name: prod(before[name]) // columns for name in _joined(net)}})
    return table.assign(forward=table["values"] * BYTES, backward=table["values"] * BYTES).rename_axis("layer")


def memory(net: nn.Sequential, batch: int = 128, image_size: int = 224, columns: int = 1) -> dict[str, int]:
    """Bytes that training keeps on the device of one column, by kind.

    Outputs are counted as the 2012 program kept them: those of every layer, as values and as gradients (src/layer.cu).
    What a convolution needs while it works is not counted.

    Raises:
        ValueError: a layer has layers inside, whose outputs would not be counted.
    """
    if nested := [name for name, layer in net.named_children() if next(layer.children(), None) is not None]:
        raise ValueError(f"{nested[0]} has layers inside; accepted are nets whose layers have none, such as AlexNet's")
    weights = sum(p.numel() for p in net.parameters()) * BYTES // columns
    shapes = layer_shapes(net, image_size)
    kept = [shape for name, shape in shapes.items() if not name.startswith(("pad", "flatten"))]
    outputs = sum(prod(shape) for shape in kept) * batch * BYTES // columns
    if columns > 1:  # what the others have sent
        outputs += int(crossings(net, image_size, columns)["values"].sum()) * (columns - 1) * batch * BYTES
    return {
        "weights": weights,
        "their gradients": weights,
        "their velocities": weights,
        "images": RGB * image_size**2 * batch * BYTES,
        "outputs of the layers": outputs,
        "the gradients of the outputs": outputs,
    }


# --------------------------------------------------------------------------------------------- both ways, compared


def compare(job: Job, net: nn.Sequential, images: Tensor, labels: Tensor, steps: int, lr: float = 0.001) -> dict:
    """Train a net on this job's processes, and again on one alone with the same dropout.

    Returns the largest differences of the first step's outputs and gradients and of the last step's weights, each
    divided by the largest value of its tensor.
    """
    runs = []
    for part in (job, ALONE):
        own = own_column(deepcopy(net), part)
        forward = part.synchronised(own)
        optimizer = PaperSGD(own.parameters(), lr)
        part.batch = len(images)
        rows = part.images_of_batch
        for step in range(steps):
            torch.manual_seed(step)
            logits, *others = each_output(forward(images[rows]))
            total = F.cross_entropy(logits, labels[rows], reduction="sum")
            extra = [HEAD_WEIGHT * F.cross_entropy(other, labels[rows], reduction="sum") for other in others]
            loss = sum(extra, total) / len(images)
            optimizer.zero_grad()
            (loss * part.replicas).backward()
            if step == 0:
                outputs = {"logits": part.every_image(logits.detach())}
                gradients = whole({name: p.grad.clone() for name, p in own.named_parameters()}, part)
            optimizer.step()
        runs.append({"outputs": outputs, "gradients": gradients, "weights": whole(dict(own.named_parameters()), part)})
    return {what: max(map(_difference, runs[0][what].values(), runs[1][what].values())) for what in runs[0]}


def _difference(one: Tensor, other: Tensor) -> float:
    return ((one.cpu() - other.cpu()).abs().max() / other.abs().max().cpu()).item()


def divides(name: str) -> bool:
    """Whether a named net can be divided: in `one_gpu`, normalisation would have to see across the columns."""
    return name in NETS and (NETS[name].columns == 2 or NETS[name].lrn is None)


def main(arguments=None) -> None:
    """Compare the columns on their devices with the net on one device, and print the differences."""
    parser = argparse.ArgumentParser("python -m alexnet_lib.columns", description=(__doc__ or " ").splitlines()[0])
    parser.add_argument(
        "--net",
        nargs="+",
        choices=[*NETS, "googlenet"],
        default=["paper"],
        help="which named nets, one after the other (paper)",
    )
    parser.add_argument("--width", type=float, default=0.125, help="a factor on every layer (0.125)")
    parser.add_argument("--image-size", type=int, default=96, help="side of the input (96)")
    parser.add_argument("--batch", type=int, default=8, help="images of a step, of all devices together (8)")
    parser.add_argument("--steps", type=int, default=20, help="updates (20)")
    parser.add_argument("--devices", type=int, default=2, help="processes, unless torchrun has started them (2)")
    parser.add_argument("--columns", type=int, choices=(1, 2), default=2, help="1: replicas of the whole net only (2)")
    parser.add_argument(
        "--dtype", choices=("float64", "float32"), default="float64", help="of all numbers that are compared (float64)"
    )
    given = parser.parse_args(arguments)
    whole_nets = [name for name in given.net if not divides(name)]
    if given.columns == 2 and whole_nets:
        parser.error(f"{', '.join(whole_nets)} can't be divided into columns; add --columns 1")
    if not inside_job():
        if given.devices % given.columns:
            parser.error(f"--devices {given.devices}; wants a multiple of --columns, which is {given.columns}")
        with ends_well(parser, "it keeps nothing", (JobFailed,)):
            print(*torchrun(given.devices, "columns", *(sys.argv[1:] if arguments is None else arguments)), sep="\n")
        return
    with join(given.columns) as job:
        for name in given.net:
            build = googlenet if name == "googlenet" else partial(alexnet, name)
            net = build(7, width=given.width, image_size=given.image_size, seed=0)
            net = initialise(net, "fan_in", 0).to(job.device, getattr(torch, given.dtype))
            generator = torch.Generator().manual_seed(0)
            images = torch.rand(given.batch, RGB, given.image_size, given.image_size, generator=generator) * 255 - 128
            labels = (torch.arange(given.batch) % 7).to(job.device)
            found = compare(job, net, images.to(job.device, next(net.parameters()).dtype), labels, given.steps)
            if job.leader:
                job_line = {"net": name, "columns": job.columns, "replicas": job.replicas, "steps": given.steps}
                print(json.dumps(job_line | found))


if __name__ == "__main__":
    main()
