"""What the ledger measures beyond the library's own functions: the table MEASURES, in the order of the paper.

Sizes are asked of the live model: a `skeleton`, which has no memory for weights. Arguments come from claims.toml, as
text. Each measure gives a number, or a mean with standard deviation and count.
"""

import math
from functools import cache, partial

import numpy as np
import pandas as pd
import torch
from torch import nn

from .. import columns
from ..architecture import POOLINGS, alexnet, kind_of, skeleton
from ..augmentation import COPIED_EIGENVALUES, IMAGENET_PCA, colour_shifts, ten_views
from ..data.embedded import small_pictures
from ..distortions import SCALES
from ..dropout import Dropout
from ..evaluation import to_input, top_k_error
from ..experiments import ablations, cifar_experiments, trained
from ..experiments.cifar_experiments import figure1_reference
from ..experiments.common import spread_of
from ..learning import BIASED_LAYERS, LOGGED_2012, LOGGED_END, PaperSGD, initial_std, initialise, recipe
from ..normalization import LocalResponseNorm
from ..study import googlenet, log2012, responses, sub_networks
from ..study.anatomy import dependence, summarise

GTX580 = 1.58e12  # operations per second at most, by its data sheet
IMAGES_2010, CYCLES, DAYS = 1.2e6, 90, 5.5  # §5
POOLED_AFTER = ("norm1 pool1", "norm2 pool2", "conv5 relu5 pool5")  # where §3.5 says that there is pooling
FIRST_AXIS = np.array([[1.0, 0.0, 0.0]])  # α = 1 along the first colour axis
RATES = [0.01] * 20 + [0.001] * 20  # learning rates of forty steps under a constant gradient


@cache
def net_table(name: str = "paper") -> pd.DataFrame:
    """`summarise` of a named net at full size."""
    return summarise(skeleton(name))


def layers(kind: str = "") -> list[str]:
    """The net's layers in order, or those of one kind, such as "conv"."""
    names = [layer for layer, _ in skeleton().named_children()]
    return [layer for layer in names if kind in ("", kind_of(layer))]


def parameters(name: str = "paper", unit: str = "1") -> float:
    """Weights and biases of a net, in multiples of `unit`."""
    return net_table(name)["parameters"].sum() / float(unit)


def weight_of(layer: str) -> torch.Tensor:
    """A layer's weight: (maps, inputs of one kernel, …)."""
    return getattr(skeleton(), layer).weight


def rectified() -> int:
    """How many learned layers a ReLU follows (§3.1)."""
    order = [layer for layer in layers() if kind_of(layer) != "norm"]
    pairs = zip(order, order[1:], strict=False)
    return sum(kind_of(name) in ("conv", "fc") and kind_of(after) == "relu" for name, after in pairs)


def between_last_convolutions() -> int:
    """Pooling and normalisation layers between the third, fourth and fifth convolution (§3.5)."""
    order = layers()
    return sum(kind_of(name) in ("pool", "norm") for name in order[order.index("conv3") : order.index("conv5")])


@cache
def connections(layer: str) -> np.ndarray:
    """Which maps of a convolution (rows) depend on which maps of the layer before; 1 for yes."""
    return dependence(alexnet("paper", width=0.125, seed=0), layer)


def other_column() -> float:
    """The share of the maps seen by a map of conv3 that come from the other GPU (§3.2)."""
    seen = connections("conv3")[0]
    return float(seen[len(seen) // 2 :].sum() / seen.sum())


def share_of_peak() -> float:
    """The share of two GTX 580 that training needs in the time of §5: three passes, two operations each."""
    operations = IMAGES_2010 * CYCLES * 3 * 2 * net_table()["multiply_adds"].sum()
    return operations / (DAYS * 86400) / (2 * GTX580)


def slope(function, at: float) -> float:
    """The derivative of a function at one place."""
    x = torch.tensor(at, dtype=torch.float64, requires_grad=True)
    function(x).backward()
    return x.grad.item()


def top5_by_sorting() -> float:
    """The largest difference between `top_k_error` and counting in sorted scores, which are random and have no ties."""
    generator = np.random.default_rng(0)
    scores, labels = generator.random((500, 100)), generator.integers(0, 100, 500)
    best = np.argsort(-scores, axis=1)
    by_hand = {k: np.mean([label not in row[:k] for label, row in zip(labels, best, strict=True)]) for k in (1, 5)}
    return max(abs(error - by_hand[k]) for k, error in top_k_error(scores, labels).items())


def left_of_mean() -> float:
    """The largest mean over images, in grey levels, of any pixel after the mean image was subtracted (§2)."""
    images = np.random.default_rng(0).integers(0, 256, (32, 16, 16, 3), np.uint8)
    mean = torch.from_numpy(images.mean(0, dtype=np.float64).astype(np.float32)).permute(2, 0, 1)
    return to_input(images, mean).double().mean(0).abs().max().item()


def torch_norm_error() -> float:
    """How far, relatively, torch's LocalResponseNorm with the printed constants is from the printed formula at most."""
    x = torch.from_numpy(np.random.default_rng(0).normal(0, 60, (4, 96, 3, 3))).clamp(min=0)
    printed, torchs = LocalResponseNorm("paper")(x), nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2)(x)
    return ((torchs - printed).abs() / printed.clamp(min=1e-9)).max().item()


def patches() -> int:
    """Different patches of an image at test time (§4.1)."""
    image = np.random.default_rng(0).integers(0, 256, (1, 256, 256, 3), np.uint8)
    return len({view.tobytes() for view in ten_views(image)[0]})


def dropped(x: torch.Tensor) -> torch.Tensor:
    """The output of dropout in training (§4.2)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Dropout()(x)


def taught_when_silent() -> int:
    """Weights into silent units that have a gradient, in one layer for one image."""
    generator = np.random.default_rng(0)
    weights = torch.from_numpy(generator.random((64, 16))).requires_grad_()
    hidden = dropped(weights @ torch.from_numpy(generator.random(16)))
    hidden.sum().backward()
    return int(weights.grad[hidden == 0].count_nonzero())


def silenced_weights() -> float:
    """The share of a layer's weights that are zero after a forward pass in training with dropout before it."""
    layer = nn.Linear(64, 64)
    nn.init.ones_(layer.weight)  # random weights are exactly zero now and then
    layer(dropped(torch.ones(8, 64)))
    return (layer.weight == 0).double().mean().item()


def halving_one_layer() -> float:
    """The largest difference of any probability between the halved net and the geometric mean: one hidden layer."""
    net = sub_networks.small_net(8, [12], 5, strength=2.0)
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((16, 8)))
    with torch.no_grad():
        mean = sub_networks.geometric_mean(sub_networks.every_sub_network(net, x))
        return (net(x).softmax(-1) - mean).abs().max().item()


def penalty_error(unit) -> float:
    """How far the extra loss of dropout, over all masks, is from its L2 penalty, relatively: regression with a unit."""
    generator = np.random.default_rng(0)
    x, weights = generator.standard_normal((32, 8)), generator.standard_normal(8)
    outputs = unit(sub_networks.every_mask(8).numpy()[:, None] * x @ weights)
    extra = np.mean((outputs - unit(x @ weights / 2)) ** 2)
    penalty = float((weights**2 * (x**2).mean(0)).sum() / 4)
    return abs(extra - penalty) / penalty


def printed_path() -> np.ndarray:
    """A weight that starts at 1, after each step of RATES by the printed rule (§5) under a gradient of 1."""
    weight, velocity, path = 1.0, 0.0, []
    for rate in RATES:
        velocity = 0.9 * velocity - 0.0005 * rate * weight - rate * 1.0
        weight += velocity
        path.append(weight)
    return np.array(path)


def rule_error(rule) -> float:
    """The largest difference between the path of an optimizer and the printed one."""
    weight, path = nn.Parameter(torch.ones(1, dtype=torch.float64)), []
    optimizer = rule([weight], lr=RATES[0], momentum=0.9, weight_decay=5e-4)
    for rate in RATES:
        optimizer.param_groups[0]["lr"] = rate
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        path.append(weight.item())
    return float(np.abs(printed_path() - path).max())


def positive_inputs(bias: str = "1") -> float:
    """The share of positive inputs of the ReLUs after the biased convolutions, with their biases set to `bias` (§5).

    A net of a quarter of the width with the printed initial weights, which sees noise.
    """
    net = initialise(alexnet("paper", 10, width=0.25, image_size=64, seed=0), "printed", seed=0).eval()
    x = torch.from_numpy(np.random.default_rng(0).normal(0, 60, (16, 3, 64, 64)).astype(np.float32))
    shares = []
    with torch.no_grad():
        for name, layer in net.named_children():
            if name in BIASED_LAYERS:
                layer.bias.fill_(float(bias))
            x = layer(x)
            if name in BIASED_LAYERS and name.startswith("conv"):
                shares.append((x > 0).double().mean().item())
    return float(np.mean(shares))


def less_harm() -> tuple[float, float, int]:
    """Points that a net with dropout loses less than one without when half of its hidden units are silenced in test."""
    tables = (100 * ablations.silenced_errors("embedded", variant) for variant in ("no-dropout", "baseline"))
    without, with_dropout = (table.loc[0.5] - table.loc[0.0] for table in tables)
    return spread_of((without - with_dropout).dropna())


def better_features(code: str, bits: str) -> tuple[float, float, int]:
    """Points of precision by which retrieval by features, or their codes, is better than by pixels (§6.1)."""
    found = trained.precisions()
    return spread_of(found.loc["features", code, int(bits)] - found.loc["pixels", code, int(bits)])


MEASURES = {
    # abstract, §1, §3.5 and the caption of Figure 2: counts
    "parameters": parameters,
    "parameter_ratio": lambda name, other: parameters(name) / parameters(other),
    "neurons": lambda layer: int(net_table()["neurons"][layer]),
    "all_neurons": lambda: int(net_table()["neurons"].sum()),
    "layers": lambda kind: len(layers(kind)),
    "learned_layers": lambda: len(layers("conv") + layers("fc")),
    "input_values": lambda: skeleton().conv1.in_channels * 224**2,
    "inputs_of": lambda layer: getattr(skeleton(), layer).in_features,
    "kernel_inputs": lambda layer: weight_of(layer)[0].numel(),
    "maps": lambda layer: len(weight_of(layer)),
    "kernels": lambda: sum(len(weight_of(layer)) for layer in layers("conv")),
    "kernels_of_a_column": lambda: len(weight_of("conv1")) // 2,  # Figure 3
    "largest_share": lambda: 100 * net_table()["share"].filter(like="conv").max(),  # §7, per cent
    "stride_of_conv1": lambda: int(net_table()["stride"]["conv1"]),
    "side_without_padding": lambda: nn.Conv2d(3, 1, 11, stride=4)(torch.zeros(1, 3, 224, 224)).shape[-1],
    "between_last_convolutions": between_last_convolutions,
    "bits_of_a_label": lambda: math.log2(1000),
    # §2
    "top5_by_sorting": top5_by_sorting,
    "left_of_mean": left_of_mean,
    "spread_of_mean_image": lambda: float(small_pictures(0, 24)[0].mean(0).std((0, 1)).mean()),
    # §3.1
    "rectified": rectified,
    "slope_of_relu": lambda: slope(torch.relu, 100.0),
    "slope_of_tanh": lambda: slope(torch.tanh, 10.0),
    "relu_speedup": lambda name, *kind: cifar_experiments.speedup(figure1_reference(name), *kind),
    "smallest_speedup": lambda name: cifar_experiments.smallest_speedup(figure1_reference(name)),
    "raw_against_scaled": lambda name, *kind: cifar_experiments.raw_against_scaled(figure1_reference(name), *kind),
    # §3.2
    "connected": lambda layer: float(connections(layer).mean()),
    "both_columns": lambda: sum(connections(layer).all() for layer in layers("conv")[1:]),
    "other_column": other_column,
    "forgotten_split": lambda: sum(layer.weight.numel() for layer in skeleton() if getattr(layer, "groups", 1) == 2),
    "gpu_work": lambda: net_table()["multiply_adds"].sum() / 2 / net_table("one_gpu")["multiply_adds"].sum(),
    "memory_gib": lambda: sum(columns.memory(skeleton(), 128).values()) / 2**30,  # a batch of 128, no working space
    # §3.3
    "norm_constant": lambda name: getattr(skeleton("code2012").norm1, name),
    "norms_before_relu": lambda: 2 - responses.after_relu("code2012"),
    "torch_norm_error": torch_norm_error,
    # §3.4
    "overlapping_pools": lambda: sum(
        (layer.kernel_size, layer.stride) == (3, 2) for layer in skeleton() if isinstance(layer, nn.MaxPool2d)
    ),
    "window_of": lambda name: POOLINGS[name].window,
    "pooled_after": lambda: sum(place in " ".join(layers()) for place in POOLED_AFTER),
    # §4.1
    "patches": patches,
    "shift_of_first_axis": lambda: float(np.linalg.norm(colour_shifts(IMAGENET_PCA, FIRST_AXIS, std=1.0))),
    "copied_constants": lambda: float(COPIED_EIGENVALUES[0] / (np.sqrt(IMAGENET_PCA.eigenvalues[0]) / 255)),
    # §4.2
    "silent_share": lambda: (dropped(torch.ones(1000, 1000)) == 0).double().mean().item(),
    "test_factor": lambda: Dropout().eval()(torch.ones(1)).item(),
    "different_masks": lambda: len(dropped(torch.ones(128, 4096)).unique(dim=0)),
    "taught_when_silent": taught_when_silent,
    "silenced_weights": silenced_weights,
    "factor_of_inverted_dropout": lambda: nn.Dropout().train()(torch.ones(64)).max().item(),
    "halving_one_layer": halving_one_layer,
    "halving_two_layers": lambda: sub_networks.approximation([6, 6])["geometric"],
    "penalty_of_linear_dropout": partial(penalty_error, lambda sums: sums),
    "penalty_of_relu_dropout": partial(penalty_error, lambda sums: np.maximum(sums, 0)),
    "less_harm": less_harm,
    # §5
    "recipe_value": lambda name: getattr(recipe("paper"), name),
    "rule_error": partial(rule_error, PaperSGD),
    "torch_rule_error": lambda: (
        rule_error(torch.optim.SGD) / np.abs(printed_path() - 1).max()
    ),  # over how far the weight moves
    "largest_std": lambda rule: max(initial_std(n, weight_of(n)[0].numel(), rule) for n in layers("conv")),
    "layers_with_bias": lambda: sum(name in BIASED_LAYERS for name in layers()),
    "positive_inputs": positive_inputs,
    "share_of_peak": share_of_peak,
    "logged_drops": lambda: len(LOGGED_2012),
    "logged_bias_rate": lambda: 0.02 / 0.01,  # of the biases over the weights: epsB and epsW in layer-params-145.cfg
    "logged_cycles": lambda: LOGGED_END,  # epochs of run 145
    # §6, §6.1 and §7
    "table_1": lambda model, column: next(row for row in log2012.TABLE_1 if row[0] == model)[int(column)],
    "table_2": lambda model, column: next(row for row in log2012.TABLE_2 if row[0] == model)[int(column)],
    # what two of three classes with equal logits lose when the third's rises by one
    "taken_from_others": lambda: (torch.zeros(3).softmax(0) - torch.eye(3)[0].softmax(0))[1:].sum().item(),
    "specialised_runs": lambda: float((trained.column_differences()["p"] < trained.BY_CHANCE).mean()),
    "better_features": better_features,
    "shared_neighbours": lambda: spread_of(trained.table("retrieval").query("of == 'both'")["shared"]),
    "plausible": lambda: spread_of(trained.table("labels", "embedded")["times_chance"]),
    # GoogLeNet
    "beside_table_1": lambda module, column: float(googlenet.beside_table_1().loc[module, column]),
    "views_counted": lambda: len(SCALES) * 3 * 6 * 2,  # scales × squares × crops × reflections
}
