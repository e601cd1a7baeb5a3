"""§3.3, a closer look at the normalisation: its conventions, its bump, lateral inhibition, and the logs of 2012."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ..architecture import skeleton
from ..normalization import K_OF_CONVENTION, LocalResponseNorm, window_band
from .log2012 import logged

N, ALPHA, BETA = 5, 1e-4, 0.75  # §3.3, and the same in all conventions
NAMES = ("paper: as printed", "code2012: the program", "caffe: Caffe's AlexNet", "torch without further arguments")
# by run: the epochs after which a person divided the rate by ten, and the difference from 145, which is the paper's net
RUNS_2012 = {
    "145": ("25, 51, 79", "the paper's net"),
    "145, longer": ("", "rate raised again at epoch 91, on to epoch 135"),
    "148": ("22, 44, 86", "no LRN, and no normalisation within maps either"),
    "166": ("", "layer 2: LRN before the ReLU; schedule of 2013"),
    "167": ("", "layer 2: no normalisation at all; schedule of 2013"),
    "170": ("", "nothing but the schedule of 2013"),
}
LOGGED = {run: (logged(run).top1, logged(run).top5, *about) for run, about in RUNS_2012.items()}


def window_size(convention: str, n: int = N) -> int:
    """How many maps are in the window of a map in the middle."""
    return int(window_band(2 * n + 1, n, convention)[:, n].sum())


def square_weight(convention: str, n: int = N, alpha: float = ALPHA) -> float:
    """The factor of each squared activation in the window."""
    return alpha if convention == "paper" else alpha / n


def torch_arguments(convention: str, n: int = N, alpha: float = ALPHA) -> dict:
    """The arguments for torch.nn.LocalResponseNorm, which divides alpha by its size, that give a convention."""
    size = window_size(convention, n)
    return {"size": size, "alpha": size * square_weight(convention, n, alpha), "k": K_OF_CONVENTION[convention]}


def conventions() -> pd.DataFrame:
    """The formula and three programs in each other's units, one row each, with §3.3's constants.

    Columns: k; the weight of each square, the printed formula's α; n times that, the alpha of files of 2012, Caffe and
    torch; the maps of a window for n = 5 and n = 4, which Caffe refuses (lrn_layer.cpp); torch's arguments for n = 5.
    """
    rows = []
    for (convention, k), name in zip(K_OF_CONVENTION.items(), NAMES, strict=False):
        weight, arguments = square_weight(convention), torch_arguments(convention)
        units = {"k": f"{k:g}", "α in the formula": f"{weight:g}", "alpha in a file": f"{N * weight:g}"}
        windows = {"maps, n = 5": window_size(convention, 5)}
        windows["maps, n = 4"] = "not allowed" if convention == "caffe" else f"{window_size(convention, 4)}"
        written = ", ".join(f"{name}={value:g}" for name, value in arguments.items())
        rows.append({"convention": name, **units, **windows, "torch.nn.LocalResponseNorm": f"({written})"})
    torchs = {"convention": NAMES[-1], "maps, n = 4": rows[1]["maps, n = 4"], "torch.nn.LocalResponseNorm": "(size=5)"}
    rows.append(rows[-1] | torchs)
    return pd.DataFrame(rows)


def lone_response(a, convention: str, neighbours: float = 0.0, beta: float = BETA):
    """The response of a unit of activation a, whose neighbours' squares sum to `neighbours`, with §3.3's constants."""
    return a * (K_OF_CONVENTION[convention] + square_weight(convention) * (a**2 + neighbours)) ** -beta


def bump_peak(k: float, weight: float) -> tuple[float, float]:
    """Where b(a) = a·(k + weight·a²)^(−β) peaks, which is at k = (2β − 1)·weight·a², and its height."""
    a = (k / (weight * (2 * BETA - 1))) ** 0.5
    return a, a * (k + weight * a * a) ** -BETA


def gaussian_gain(norm: nn.Module, deviation: float, before_relu: bool = False) -> float:
    """The sum of responses over that of activations: 96 maps of normal values, with a ReLU before or after `norm`."""
    x = torch.from_numpy(deviation * np.random.default_rng(0).standard_normal((2000, 96)))
    responses = norm(x).relu() if before_relu else norm(x.relu())
    return (responses.sum() / x.relu().sum()).item()


def window_of(maps: int, norm: LocalResponseNorm) -> Tensor:
    """A layer's windows, (maps, maps) float64, as in `normalization.window_band`, but cut between the columns."""
    return torch.block_diag(*[window_band(maps // norm.columns, norm.n, norm.convention)] * norm.columns)


def kept(x: Tensor, norm: LocalResponseNorm, own: bool = True) -> Tensor:
    """The response of each unit of x (N, C, ...) over its response in a silent window, from 0 to 1.

    own: count the unit's own energy too, and not only its neighbours'.
    """
    band = window_of(x.shape[1], norm).to(x.dtype)
    energy = torch.einsum("nc...,cd->nd...", x * x, band if own else band.fill_diagonal_(0))
    return (1 + square_weight(norm.convention, norm.n, norm.alpha) / norm.k * energy) ** -norm.beta


def competition(x: Tensor, norm: LocalResponseNorm) -> pd.DataFrame:
    """Which map inhibits which at one position, with the activations x of all maps there, (C,); one row a map.

    Columns: before, after, kept; rival, the map with most of the window's energy, or the map itself in a silent window;
    share, the rival's part of that energy (NaN in a silent window).
    """
    x = x.double()
    energy = (x * x)[:, None] * window_of(len(x), norm)  # (of, on)
    table = pd.DataFrame({"before": x.numpy(), "after": norm(x[None])[0].numpy()}).rename_axis("map")
    loudest = torch.where(energy.sum(0) > 0, energy.argmax(0), torch.arange(len(x)))
    table["kept"], table["rival"] = kept(x[None], norm)[0].numpy(), loudest.numpy()
    return table.assign(share=(energy.amax(0) / energy.sum(0)).numpy())


def most_inhibited(x: Tensor, norm: LocalResponseNorm) -> tuple[int, int, int, int]:
    """The unit of x (N, C, H, W) whose neighbours inhibit it most, of those above a tenth of the largest activation.

    Returns picture, map, row and column.
    """
    left = torch.where(x > x.max() / 10, kept(x, norm, own=False), 1)
    return tuple(int(i) for i in np.unravel_index(left.argmin().item(), left.shape))


def first_layer(net: nn.Sequential, x: Tensor, normalised: bool = True) -> Tensor:
    """The output of a CIFAR net's first layer for pictures of any size, after its ReLU and, if asked, its LRN."""
    with torch.no_grad():
        maps = net.neuron1(net.conv1(x))
        return net.lrn1(maps) if normalised else maps


def relative_change(before: Tensor, after: Tensor, margin: int = 2) -> float:
    """The norm of the difference of two outputs over that of the first, without the units near the edge."""
    before, after = (y[..., margin:-margin, margin:-margin] for y in (before, after))
    return ((after - before).norm() / before.norm()).item()


def doubled(deviation: float = 60.0) -> float:
    """The factor by which the responses of the 2012 program grow when all (normal) activations double."""
    norm = LocalResponseNorm("code2012")
    return 2 * gaussian_gain(norm, 2 * deviation) / gaussian_gain(norm, deviation)


def cut_windows(maps: int, columns: int = 2, n: int = N) -> dict[int, list[int]]:
    """The maps of a layer with neighbours in another column, which they don't see, and these neighbours."""
    inside = window_of(maps, LocalResponseNorm("paper", n=n, columns=columns))
    missing = window_band(maps, n) > inside  # (of, on)
    return {i: missing[:, i].nonzero().flatten().tolist() for i in missing.any(0).nonzero().flatten().tolist()}


def cut_maps() -> int:
    """How many of the 96 and 256 maps of the two normalised layers miss a neighbour because of the columns."""
    return sum(len(cut_windows(maps)) for maps in (96, 256))


def after_relu(name: str = "code2012") -> int:
    """In how many layers of a named net the normalisation comes after the ReLU."""
    order = [layer for layer, _ in skeleton(name).named_children()]
    return sum(order.index(f"relu{i}") < order.index(f"norm{i}") for i in (1, 2))


def logged_table() -> pd.DataFrame:
    """The runs of LOGGED with their errors in per cent, and the differences from run 145 in points."""
    rows = []
    for run, (top1, top5, drops, change) in LOGGED.items():
        errors = {"top-1 / top-5 error (%)": f"{100 * top1:.2f} / {100 * top5:.2f}"}
        away = [f"{100 * (error - own):+.2f}" for error, own in zip((top1, top5), LOGGED["145"], strict=False)]
        errors["from run 145 (points)"] = " / ".join(away) if run != "145" else ""
        rows.append({"run": run, "against run 145": change, **errors, "rate ÷ 10 after epochs": drops})
    return pd.DataFrame(rows)
