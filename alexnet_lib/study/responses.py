"""§3.3, looking at the normalisation: its units, its bump, who inhibits whom, and what the logs of 2012 say of it."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ..architecture import skeleton
from ..normalization import K_OF_CONVENTION, LocalResponseNorm, window_band

N, ALPHA, BETA = 5, 1e-4, 0.75  # §3.3, and the same in all conventions
NAMES = ("paper: as printed", "code2012: the program", "caffe: Caffe's AlexNet", "torch without further arguments")
# On the validation images of 2012 with ten views, top-1 and top-5 error; after which epochs a person divided the rate
# by ten; what tells the run from 145, which is the paper's net. From the comments at the end of layer-params-145.cfg,
# -148.cfg, -166.cfg, -167.cfg and -170.cfg of the 2012 program.
LOGGED = {
    "145": (0.406640, 0.182100, "25, 51, 79", "the paper's net"),
    "145, longer": (0.402500, 0.179940, "", "rate raised again at epoch 91, on to epoch 135"),
    "148": (0.420340, 0.193620, "22, 44, 86", "no LRN, and no normalisation within maps either"),
    "166": (0.410960, 0.186740, "", "layer 2: LRN before the ReLU; schedule of 2013"),
    "167": (0.404880, 0.181180, "", "layer 2: no normalisation at all; schedule of 2013"),
    "170": (0.405280, 0.180480, "", "nothing but the schedule of 2013"),
}
GAIN_PRINTED = (1.4, 1.2)  # points of top-1 and top-5 error, §3.3


# ------------------------------------------------------------------------------------------------------------- units


def window_size(convention: str, n: int = N) -> int:
    """How many maps the window of a map in the middle has."""
    return int(window_band(2 * n + 1, n, convention)[:, n].sum())


def square_weight(convention: str, n: int = N, alpha: float = ALPHA) -> float:
    """What each squared activation of the window is multiplied by."""
    return alpha if convention == "paper" else alpha / n


def torch_arguments(convention: str, n: int = N, alpha: float = ALPHA) -> dict:
    """The arguments with which torch.nn.LocalResponseNorm, which divides alpha by its size, computes a convention."""
    size = window_size(convention, n)
    return {"size": size, "alpha": size * square_weight(convention, n, alpha), "k": K_OF_CONVENTION[convention]}


def conventions() -> pd.DataFrame:
    """The four conventions in each other's units, one row each, with §3.3's constants.

    Columns: k; the weight of each square, which is the printed formula's α; n times that, which is what files of 2012,
    Caffe and torch call alpha; the maps of a window for n = 5 and n = 4; torch's arguments for n = 5.
    """
    rows = []
    for (convention, k), name in zip(K_OF_CONVENTION.items(), NAMES, strict=False):
        weight, arguments = square_weight(convention), torch_arguments(convention)
        units = {"k": f"{k:g}", "α in the formula": f"{weight:g}", "alpha in a file": f"{N * weight:g}"}
        windows = {f"maps, n = {n}": window_size(convention, n) for n in (5, 4)}
        written = ", ".join(f"{name}={value:g}" for name, value in arguments.items())
        rows.append({"convention": name, **units, **windows, "torch.nn.LocalResponseNorm": f"({written})"})
    rows.append(rows[-1] | {"convention": NAMES[-1], "torch.nn.LocalResponseNorm": "(size=5)"})
    return pd.DataFrame(rows)


# ----------------------------------------------------------------------------------------------------- one unit, many


def lone_response(a, convention: str, neighbours: float = 0.0, beta: float = BETA):
    """The response of a unit of activation a, whose neighbours' squares sum to `neighbours`, with §3.3's constants."""
    return a * (K_OF_CONVENTION[convention] + square_weight(convention) * (a**2 + neighbours)) ** -beta


def bump_peak(k: float, weight: float, beta: float = BETA) -> tuple[float, float]:
    """Where b(a) = a·(k + weight·a²)^(−β) is largest, and how large: there k = (2β − 1)·weight·a².

    Raises:
        ValueError: no peak, since for β ≤ 1/2 the response never falls.
    """
    if beta <= 0.5:
        raise ValueError(f"beta = {beta}; a response has a peak only for beta above 1/2")
    a = (k / (weight * (2 * beta - 1))) ** 0.5
    return a, a * (k + weight * a * a) ** -beta


def gaussian_gain(norm: nn.Module, deviation: float, before_relu: bool = False) -> float:
    """Sum of the responses over that of the activations: 96 maps of normal values, a ReLU before `norm` or after it."""
    x = torch.from_numpy(deviation * np.random.default_rng(0).standard_normal((2000, 96)))
    responses = norm(x).relu() if before_relu else norm(x.relu())
    return (responses.sum() / x.relu().sum()).item()


def kept(x: Tensor, norm: LocalResponseNorm) -> Tensor:
    """What share of its response in a silent window each unit of x (N, C, ...) still has, from 0 to 1."""
    band = window_band(x.shape[1], norm.n, norm.convention).to(x.dtype)
    energy = torch.einsum("nc...,cd->nd...", x * x, band)
    return (1 + square_weight(norm.convention, norm.n, norm.alpha) / norm.k * energy) ** -norm.beta


def competition(x: Tensor, norm: LocalResponseNorm) -> pd.DataFrame:
    """Who inhibits whom at one place: the activations x of all maps there, (C,); one row a map.

    Columns: before, after, kept; rival, the map with most of the window's energy, perhaps the map itself, as always in
    a silent window; share, the rival's part of that energy (NaN in a silent window).
    """
    x = x.double()
    energy = (x * x)[:, None] * window_band(len(x), norm.n, norm.convention)  # (of, on)
    table = pd.DataFrame({"before": x.numpy(), "after": norm(x[None])[0].numpy()}).rename_axis("map")
    loudest = torch.where(energy.sum(0) > 0, energy.argmax(0), torch.arange(len(x)))
    table["kept"], table["rival"] = kept(x[None], norm)[0].numpy(), loudest.numpy()
    return table.assign(share=(energy.amax(0) / energy.sum(0)).numpy())


def most_inhibited(x: Tensor, norm: LocalResponseNorm) -> tuple[int, int, int, int]:
    """Where in x (N, C, H, W) a unit that is not silent is inhibited most: picture, map, row, column."""
    left = torch.where(x > 0, kept(x, norm), 1)
    return tuple(int(i) for i in np.unravel_index(left.argmin().item(), left.shape))


def first_layer(net: nn.Sequential, x: Tensor, normalised: bool = True) -> Tensor:
    """What a CIFAR net's first layer makes of pictures of any size, after its ReLU and, if it has one, its LRN."""
    with torch.no_grad():
        maps = net.neuron1(net.conv1(x))
        return net.lrn1(maps) if normalised else maps


def relative_change(before: Tensor, after: Tensor, margin: int = 2) -> float:
    """The size of the difference of two layers' outputs over the first one's, without the units near the edge."""
    before, after = (y[..., margin:-margin, margin:-margin] for y in (before, after))
    return ((after - before).norm() / before.norm()).item()


def doubled(deviation: float = 60.0) -> float:
    """How many times as large the responses of the 2012 program are when all activations, normal ones, are doubled."""
    norm = LocalResponseNorm("code2012")
    return 2 * gaussian_gain(norm, 2 * deviation) / gaussian_gain(norm, deviation)


# ----------------------------------------------------------------------------------------------------------- columns


def cut_windows(maps: int, columns: int = 2, n: int = N) -> dict[int, list[int]]:
    """The maps of a layer that miss some of the printed formula's neighbours, as those are in another column."""
    inside = torch.block_diag(*[window_band(maps // columns, n)] * columns)
    missing = window_band(maps, n) > inside  # (of, on)
    return {i: missing[:, i].nonzero().flatten().tolist() for i in missing.any(0).nonzero().flatten().tolist()}


def cut_maps() -> int:
    """How many maps of the two normalised layers, with 96 and 256 maps, miss a neighbour because of the columns."""
    return sum(len(cut_windows(maps)) for maps in (96, 256))


def after_relu(name: str = "code2012") -> int:
    """In how many layers of a named net the normalisation comes after the ReLU."""
    order = [layer for layer, _ in skeleton(name).named_children()]
    return sum(order.index(f"relu{i}") < order.index(f"norm{i}") for i in (1, 2))


# ---------------------------------------------------------------------------------------------------------- the logs


def logged_gains() -> tuple[float, float]:
    """By how many points of top-1 and top-5 error run 148 is worse than 145."""
    return tuple(100 * (LOGGED["148"][i] - LOGGED["145"][i]) for i in (0, 1))


def logged_table() -> pd.DataFrame:
    """The runs of LOGGED, errors in per cent, and their distance from run 145 in points."""
    rows = []
    for run, (top1, top5, drops, change) in LOGGED.items():
        errors = {"top-1 / top-5 error (%)": f"{100 * top1:.2f} / {100 * top5:.2f}"}
        away = [f"{100 * (error - own):+.2f}" for error, own in zip((top1, top5), LOGGED["145"], strict=False)]
        errors["from run 145 (points)"] = " / ".join(away) if run != "145" else ""
        rows.append({"run": run, "against run 145": change, **errors, "rate ÷ 10 after epochs": drops})
    return pd.DataFrame(rows)
