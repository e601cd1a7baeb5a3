"""GoogLeNet's layers and modules, read from the live model, beside the numbers of its paper."""

from math import prod

import pandas as pd
from torch import nn

from ..architecture import RGB, shape_after, side_of
from ..architecture import skeleton as alexnet_skeleton
from ..inception import HEADS, INCEPTIONS, POOLS, TORCHVISION_FIVE, Branches, GoogLeNet, Inception, skeleton
from .anatomy import summarise, times

# Table 1, where the two layers of conv2 are one row
PRINTED = pd.DataFrame(
    {
        "thousand parameters": (2.7, 112, 159, 380, 364, 437, 463, 580, 840, 1072, 1388, 1000),
        "million multiply-adds": (34.0, 360, 128, 304, 73, 88, 100, 119, 170, 54, 71, 1),
    },
    index=["conv1", "conv2", *INCEPTIONS, "fc"],
)
KIBI = 1024  # Table 1 counts weights, without biases, in units of 1024


def dissect(net: GoogLeNet, image_size: int = 224) -> pd.DataFrame:
    """Every learned layer of a net (a `skeleton` will do), including its auxiliary classifiers; one row a layer.

    Columns: module (a name of ORDER, or "auxiliary <module below it>"), layer (inside it), input and output (shapes for
    one image), weights (without biases), parameters, multiply_adds for one image.
    """
    rows, shape = [], (RGB, image_size, image_size)
    for name in net.layers:
        layer = getattr(net, name)
        if isinstance(layer, Inception):
            for branch, inside in layer.named_children():
                _follow(rows, name, branch, inside, shape)
            shape = (layer.maps, *shape[1:])
        else:
            shape = _follow(rows, name, name, layer, shape)
        if name in net.heads:
            seen = shape
            for inner, part in net.heads[name].named_children():
                seen = _follow(rows, f"auxiliary {name}", inner, part, seen)
    return pd.DataFrame(rows)


def _follow(rows: list[dict], module: str, name: str, layer: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Add a row for each learned layer of a layer or sequence; return the shape behind it."""
    parts = list(layer) if isinstance(layer, nn.Sequential) else [layer]
    for part in parts:
        seen, shape = shape, shape_after(part, shape)
        if isinstance(part, nn.Conv2d | nn.Linear):
            narrows = len(parts) > 3 and name != "pool" and part is parts[0]
            weights = part.weight.numel()
            row = {"module": module, "layer": f"{name}, narrowing" if narrows else name, "input": seen, "output": shape}
            row |= {"weights": weights, "parameters": weights + part.bias.numel()}
            rows.append(row | {"multiply_adds": weights * prod(shape[1:])})
        elif isinstance(part, nn.BatchNorm2d):
            rows[-1]["parameters"] += sum(p.numel() for p in part.parameters())
    return shape


def modules(net: GoogLeNet, image_size: int = 224) -> pd.DataFrame:
    """Table 1 from the live model: a row a module; output, parameters, multiply_adds for one image."""
    parts = dissect(net, image_size).groupby("module", sort=False)
    table = parts.agg({"output": "last", "parameters": "sum", "multiply_adds": "sum"})
    for name, layer in net.named_children():
        if isinstance(layer, Inception):
            table.at[name, "output"] = (layer.maps, *table.at[name, "output"][1:])
    return table.assign(output=table["output"].map(times))


def parameters_of(part: str = "main", **changes) -> int:
    """Parameters of the "main" net, or for "training" with its auxiliary classifiers."""
    net = skeleton(aux=part == "training", **changes)
    return sum(p.numel() for p in net.parameters())


def depth(net: GoogLeNet, path=max) -> int:
    """How many learned layers lie on the longest path (the shortest, with `min`) from the picture to the answer."""
    parts = (getattr(net, name) for name in net.layers)
    return sum(
        path(map(_learned, part.children())) if isinstance(part, Inception) else _learned(part) for part in parts
    )


def _learned(layer: nn.Module) -> int:
    """How many convolutions and fully connected layers a layer is, or has one after another."""
    return sum(isinstance(part, nn.Conv2d | nn.Linear) for part in layer.modules())


def towards_inception(name: str = "inception3a") -> pd.DataFrame:
    """Four candidates for a module's place, a row each: maps, weights, multiply_adds.

    A 3 × 3 convolution; the same with a 1 × 1 convolution behind it, as in Network in Network; the naive module; the
    module.
    """
    table = dissect(skeleton(aux=False))
    seen, side = table[table["module"] == name]["input"].iloc[0][:2]
    branches = INCEPTIONS[name]
    naive = naive_weights(seen, branches)
    weights = {
        "one 3 × 3 convolution": (branches.maps, 9 * seen * branches.maps),
        "3 × 3, then 1 × 1 (Network in Network)": (branches.maps, (9 * seen + branches.maps) * branches.maps),
        "naive Inception": (branches.maps - branches.pool + seen, naive.sum()),
        "Inception": (branches.maps, table[table["module"] == name]["weights"].sum()),
    }
    rows = [(way, maps, int(count), int(count) * side**2) for way, (maps, count) in weights.items()]
    return pd.DataFrame(rows, columns=["", "maps", "weights", "multiply_adds"])


def naive_weights(seen: int, branches: Branches) -> pd.Series:
    """Weights of the branches of a naive module with this many input maps."""
    return seen * pd.Series({"one": branches.one, "three": 9 * branches.three, "five": 25 * branches.five})


def reductions() -> pd.DataFrame:
    """Weights of the wide branches with and without the narrowing layers, a row a module.

    Columns: 3 × 3 and 5 × 5 as "naive" and "narrowed"; "times", the ratio for the whole module; "maps"; and "maps, pool
    unprojected", those of the module without the projection of the pool.
    """
    table, rows = dissect(skeleton(aux=False)), {}
    for name, branches in INCEPTIONS.items():
        own = table[table["module"] == name]
        seen = own["input"].iloc[0][0]
        naive = naive_weights(seen, branches)
        count = {b: int(own[own["layer"].str.startswith(b)]["weights"].sum()) for b in ("one", "three", "five", "pool")}
        rows[name] = {
            "3 × 3, naive": naive["three"],
            "3 × 3, narrowed": count["three"],
            "5 × 5, naive": naive["five"],
            "5 × 5, narrowed": count["five"],
            "times": naive.sum() / sum(count.values()),
            "maps": branches.maps,
            "maps, pool unprojected": branches.maps - branches.pool + seen,
        }
    return pd.DataFrame(rows).T.astype({name: int for name in next(iter(rows.values())) if name != "times"})


def beside_table_1() -> pd.DataFrame:
    """Table 1 as printed and as computed, a row a module; weights in units of KIBI."""
    layers = dissect(skeleton(aux=False))
    layers["module"] = layers["module"].replace("conv2_reduce", "conv2")
    sums = layers.groupby("module", sort=False)[["weights", "multiply_adds"]].sum()
    return PRINTED.assign(**{"weights / 1024": sums["weights"] / KIBI, "computed": sums["multiply_adds"] / 1e6})


def wide_share() -> pd.Series:
    """The share of each module's maps that comes from its 3 × 3 and 5 × 5 windows."""
    return pd.Series({name: (b.three + b.five) / b.maps for name, b in INCEPTIONS.items()})


def torchvision_parameters(aux: bool = False) -> int:
    """Parameters of torchvision's googlenet: batch normalisation instead of biases, 3 × 3 windows instead of 5 × 5."""
    layers = dissect(skeleton(aux=aux))
    convolutions = layers[layers["output"].map(len) == 3]
    wide = convolutions["layer"] == "five"
    weights = convolutions["weights"].where(~wide, convolutions["weights"] * TORCHVISION_FIVE**2 // 25).sum()
    norms = 2 * convolutions["output"].map(lambda shape: shape[0]).sum()
    return int(weights + norms + layers[layers["output"].map(len) == 1]["parameters"].sum())


def times_fewer(part: str = "main") -> float:
    """AlexNet's parameters over GoogLeNet's: "main", "training", or "no classifier" (of the main net)."""
    table = dissect(skeleton(aux=part == "training"))
    own = table["parameters"].sum() - (table.iloc[-1]["parameters"] if part == "no classifier" else 0)
    return float(sum(p.numel() for p in alexnet_skeleton("paper").parameters()) / own)


def layers_deep(pools: str = "without") -> int:
    """Learned layers on the longest path, "with" or "without" the pools between and behind the modules."""
    return depth(skeleton()) + (len(POOLS) + 1 if pools == "with" else 0)


def building_blocks() -> int:
    """Convolutions, pools, norms, concatenations, dropout and classifier of the main net, without ReLUs."""
    kinds = (nn.Conv2d, nn.Linear, nn.MaxPool2d, nn.AvgPool2d, Inception)
    named = ("norm1", "norm2", "drop5")
    return sum(isinstance(m, kinds) or name in named for name, m in skeleton(aux=False).named_modules())


def billion_multiply_adds() -> float:
    """Multiply-adds of the main net for one image, in billions."""
    return float(modules(skeleton(aux=False))["multiply_adds"].sum() / 1e9)


def times_the_work() -> float:
    """Multiply-adds of GoogLeNet over those of AlexNet, for one image of 224 pixels."""
    return 1e9 * billion_multiply_adds() / float(summarise(alexnet_skeleton("paper"))["multiply_adds"].sum())


def pooled_units(head: str) -> int:
    """The inputs of the first or second auxiliary classifier behind its pool: maps × side × side."""
    table = dissect(skeleton()).set_index(["module", "layer"])
    return prod(table.loc[(f"auxiliary {HEADS[int(head) - 1]}", "conv"), "input"])


def narrower_modules() -> int:
    """How many modules have a smaller share of wide windows than the one before."""
    return int((wide_share().diff() < 0).sum())


def saved_by_averaging() -> float:
    """Weights, in millions, of one fully connected layer of 1024 units on the last maps."""
    side = side_of(skeleton(aux=False).mean5.kernel_size)
    return (INCEPTIONS["inception5b"].maps * side) ** 2 / 1e6


def naive_growth() -> float:
    """The parameters of a net of naive modules over those of the net."""
    return parameters_of(reduced=False) / parameters_of()
