"""What the ledger measures beyond the library's own functions: the table MEASURES, in the order of the paper.

Arguments come from claims.toml, as text. Each measure gives a number, or a mean with standard deviation and count.
"""

import math
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from .. import columns, inception, learning
from ..architecture import NETS, POOLINGS, alexnet, skeleton
from ..augmentation import COPIED_EIGENVALUES, IMAGENET_PCA, add_colour_noise, colour_shifts, ten_views
from ..data.embedded import CLASSES, small_pictures
from ..data.preparation import fit
from ..distortions import SCALES, draw_areas
from ..dropout import Dropout
from ..evaluation import to_input, top_k_error
from ..experiments import ablations, cifar_experiments, trained
from ..experiments.cifar_experiments import figure1_reference
from ..experiments.common import RISK, spread_of
from ..normalization import LocalResponseNorm
from ..qualitative import colourfulness, column_difference, oriented, related
from ..study import anatomy, googlenet, log2012, pooling, responses, sub_networks
from ..study.probes import update
from . import counts
from .counts import layers, net_table, weight_of

POOLED_AFTER = ("norm1 pool1", "norm2 pool2", "conv5 relu5 pool5")  # where §3.5 says that there is pooling
COMPARED = (("145-half", "145-2010", "2010 test"), ("148", "145"), ("147", "145"))  # the logs of §3.2 to §3.4
FIRST_AXIS = np.array([[1.0, 0.0, 0.0]])  # α = 1 along the first colour axis
RATES = [0.01] * 20 + [0.001] * 20  # learning rates of forty steps under a constant gradient


def slope(function, at: float) -> float:
    """The derivative of a function at one place."""
    return torch.func.grad(function)(torch.tensor(at, dtype=torch.float64)).item()


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
    """The share of fc7's weights that are zero while a narrow net in training, with dropout before it, sees noise."""
    net, shares = alexnet("paper", 10, width=0.125, image_size=64, seed=0).train(), []
    nn.init.ones_(net.fc7.weight)  # random weights are exactly zero now and then
    net.fc7.register_forward_hook(lambda layer, *_: shares.append((layer.weight == 0).double().mean().item()))
    with torch.random.fork_rng(devices=[]):
        net(torch.zeros(2, 3, 64, 64))
    return shares[0]


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

    A net with the printed initial weights, on crops of 64 pixels of noise.
    """
    net = learning.initialise(alexnet("paper", 10, image_size=64, seed=0), "printed", seed=0).eval()
    x = torch.from_numpy(np.random.default_rng(0).normal(0, 60, (16, 3, 64, 64)).astype(np.float32))
    biased = [name for name in layers("conv") if name in learning.BIASED_LAYERS]
    for name in biased:
        nn.init.constant_(getattr(net, name).bias, float(bias))
    outputs = anatomy.trace(net, x)
    return float(np.mean([(outputs[name] > 0).double().mean().item() for name in biased]))


def worst_placed(dataset: str, column: str, *variants: str) -> tuple[float, float, int]:
    """How much more a net loses without one variant's part than without the next one's, paired by seed: the least."""
    lost = [ablations.gains(dataset, variant)[column] for variant in variants]
    return min(spread_of((one - other).dropna()) for one, other in pairwise(lost))


def less_harm(dataset: str) -> tuple[float, float, int]:
    """Points that a net with dropout loses less than one without when half of its hidden units are silenced in test."""
    tables = (100 * ablations.silenced_errors(dataset, variant) for variant in ("no-dropout", "baseline"))
    without, with_dropout = (table.loc[0.5] - table.loc[0.0] for table in tables)
    return spread_of((without - with_dropout).dropna())


def plausible() -> tuple[float, float, int]:
    """Per cent of the best wrong guesses that are related to the true class, on the built-in pictures (§6.1)."""
    kin = related([name.replace(" ", "_") for name in CLASSES])
    by_chance = kin.sum(1).mean() / (len(kin) - 1)
    return spread_of(100 * by_chance * trained.table("labels", "embedded")["times_chance"])


def specialised_runs() -> tuple[float, float, int]:
    """The share of runs whose columns differ in colour by more than chance; a share of runs has no spread over them."""
    differ = trained.column_differences()["p"] < RISK
    return float(differ.mean()), math.nan, len(differ)


def spread_of_mean_image() -> float:
    """By how many grey levels the mean of the built-in pictures varies from place to place, less sampling noise."""
    images = small_pictures(0, 480)[0].astype(np.float32)
    varies = images.mean(0).var((0, 1)) - images.var(0).mean((0, 1)) / len(images)
    return float(np.sqrt(varies.clip(0)).mean())


def better_features(code: str, bits: str) -> tuple[float, float, int]:
    """Points of precision by which retrieval by features, or their codes, is better than by pixels (§6.1)."""
    found = trained.precisions()
    return spread_of(found.loc["features", code, int(bits)] - found.loc["pixels", code, int(bits)])


def objective_error() -> float:
    """How far the loss that is minimised is from the mean of −log p of the right labels (§3.5)."""
    generator = np.random.default_rng(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Linear(8, 5).double()
    images = torch.from_numpy(generator.standard_normal((16, 8)))
    labels = torch.from_numpy(generator.integers(0, 5, 16))
    p = torch.exp(net(images)) / torch.exp(net(images)).sum(1, keepdim=True)
    by_hand = -torch.log(p[range(16), labels]).mean().item()
    return abs(update(net, torch.optim.SGD(net.parameters(), 0.1), images, labels) - by_hand)


def own_shifts() -> int:
    """Of 32 grey images seen twice, the showings with one colour shift for all pixels that no other showing has."""
    images, generator = np.full((32, 4, 4, 3), 128, np.uint8), np.random.default_rng(0)
    shown = np.concatenate([add_colour_noise(images, IMAGENET_PCA, generator=generator) for _ in range(2)])
    even = (shown == shown[:, :1, :1]).all((1, 2, 3))
    return len(np.unique(shown[even][:, 0, 0], axis=0))


def first_column_kept() -> float:
    """Which column of a picture 512 wide and 256 high is the first that is kept of it (§2)."""
    picture = torch.arange(512).div(2, rounding_mode="floor").to(torch.uint8).expand(3, 256, 512)  # two of each value
    return 2.0 * fit(picture, 256)[:, 0].float().mean().item()


def selective_kernels() -> float:
    """The share of the full-size net's first kernels whose power lies in one direction, more than noise's would."""
    return float(oriented(trained.full_size_kernels()).mean())


def crops_drawn(what: str) -> float:
    """Of 20,000 drawn crops of a picture of 256 × 256: the smallest or largest area, the largest aspect, or the largest
    difference of a filter's share from one quarter."""
    drawn = draw_areas(np.random.default_rng(0), 20_000, (256, 256))
    areas, aspects = drawn.height * drawn.width / 256**2, drawn.width / drawn.height
    filters = np.bincount(drawn.filter.astype(int), minlength=4) / len(drawn)
    named = {"smallest": areas.min(), "largest": areas.max(), "aspect": aspects.max()}
    return float((named | {"filter": np.abs(filters - 1 / 4).max()})[what])


def table_1(model: str, column) -> float:
    """A number of Table 1."""
    return next(row for row in log2012.TABLE_1 if row[0] == model)[int(column)]


MEASURES = {
    # abstract, §1, §3.5 and the caption of Figure 2: counts
    "parameters": counts.parameters,
    "parameter_ratio": lambda name, other: counts.parameters(name) / counts.parameters(other),
    "neurons": lambda layer: int(net_table()["neurons"][layer]),
    "all_neurons": lambda: int(net_table()["neurons"].sum()),
    "layers": lambda kind: len(layers(kind)),
    "learned_layers": lambda: len(layers("conv") + layers("fc")),
    "input_values": lambda: skeleton().conv1.in_channels * 224**2,
    "inputs_of": lambda layer: getattr(skeleton(), layer).in_features,
    "channels_seen": lambda layer: weight_of(layer).shape[1],
    "kernel_inputs": lambda layer: weight_of(layer)[0].numel(),
    "maps": lambda layer: len(weight_of(layer)),
    "kernels": lambda: sum(len(weight_of(layer)) for layer in layers("conv")),
    "kernels_of_a_column": lambda: len(weight_of("conv1")) // 2,  # Figure 3
    "largest_share": lambda: 100 * net_table()["share"].filter(like="conv").max(),  # §7, per cent
    "stride_of_conv1": lambda: int(net_table()["stride"]["conv1"]),
    "side_without_padding": lambda: nn.Conv2d(3, 1, 11, stride=4)(torch.zeros(1, 3, 224, 224)).shape[-1],
    "between_last_convolutions": counts.between_last_convolutions,
    "dense_ratio": lambda: counts.dense_ratio("parameters"),
    "dense_work_ratio": lambda: counts.dense_ratio("multiply_adds"),
    "bits_of_a_label": lambda: math.log2(1000),
    # §2
    "first_column_kept": first_column_kept,
    "share_on_2010": lambda: float(np.mean(["2010 test" in pair for pair in COMPARED])),
    "top5_by_sorting": top5_by_sorting,
    "left_of_mean": left_of_mean,
    "spread_of_mean_image": spread_of_mean_image,
    # §3: the order of sections 3.2 to 3.4
    "out_of_order_logged": lambda: int((np.diff([log2012.logged_gain(*pair)[0] for pair in COMPARED]) > 0).sum()),
    "worst_placed": worst_placed,
    "objective_error": objective_error,
    # §3.1
    "rectified": counts.rectified,
    "slope_of_relu": lambda: slope(torch.relu, 100.0),
    "slope_kept": lambda: slope(torch.relu, 255.0) / slope(torch.relu, 1.0),
    "slope_of_tanh": lambda: slope(torch.tanh, 10.0),
    "relu_speedup": lambda name, *kind: cifar_experiments.speedup(figure1_reference(name), *kind),
    "smallest_speedup": lambda name: cifar_experiments.smallest_speedup(figure1_reference(name)),
    # §3.2
    "connected": lambda layer: float(counts.connections(layer).mean()),
    "both_columns": lambda: sum(counts.connections(layer).all() for layer in layers("conv")[1:]),
    "fewer_crossing": counts.fewer_crossing,
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
    # in how many of the three pooling layers windows of 2 and of 3 give maps of one size when torch rounds down
    "equal_sides": lambda: sum(
        pooling.sides(POOLINGS["overlapping"])[pool] == pooling.sides(POOLINGS["non_overlapping"])[pool]
        for pool in ("pool1", "pool2", "pool5")
    ),
    "pooled_after": lambda: sum(place in " ".join(layers()) for place in POOLED_AFTER),
    # §4.1
    "patches": patches,
    "own_shifts": own_shifts,
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
    "recipe_value": lambda name: getattr(learning.recipe("paper"), name),
    "rule_error": partial(rule_error, learning.PaperSGD),
    "torch_rule_error": lambda: (
        rule_error(torch.optim.SGD) / np.abs(printed_path() - 1).max()
    ),  # over how far the weight moves
    "largest_std": lambda rule: max(learning.initial_std(n, weight_of(n)[0].numel(), rule) for n in layers("conv")),
    "layers_with_bias": counts.layers_with_bias,
    "positive_inputs": positive_inputs,
    "share_of_peak": counts.share_of_peak,
    "logged_drops": lambda: len(learning.LOGGED_2012),
    "logged_last_rate_of_conv1": lambda: learning.group_factor(
        learning.recipe("code2012"), "conv1 weights", learning.LOGGED_FROZEN / learning.LOGGED_END
    ),
    "logged_cycles": lambda: learning.LOGGED_END,  # epochs of run 145
    # §6, §6.1 and §7
    "table_1": table_1,
    # the largest difference of top-5 errors between validation and test images, in points
    "validation_less_test": lambda: round(max(abs(a - b) for *_, a, b, _ in log2012.TABLE_2 if a and b), 6),
    "rows_with_both_errors": lambda: sum(None not in (row[2], row[3]) for row in log2012.TABLE_2),
    "selective_kernels": selective_kernels,
    "data_layers": lambda: NETS["code2012"].columns,  # conv1a and conv1b in layers-145.cfg
    # what two of three classes with equal logits lose when the third's rises by one
    "taken_from_others": lambda: (torch.zeros(3).softmax(0) - torch.eye(3)[0].softmax(0))[1:].sum().item(),
    "specialised_runs": specialised_runs,
    # the probability that chance alone makes that net's columns differ as much in colourfulness
    "full_size_chance": lambda: column_difference(colourfulness(trained.full_size_kernels()))[1],
    "bits_ratio": lambda units, bits: int(units) * 32 / int(bits),  # a real number is kept in 32 bits
    "better_features": better_features,
    "shared_neighbours": lambda: spread_of(trained.table("retrieval").query("of == 'both'")["shared"]),
    "plausible": plausible,
    "precision_of": lambda *way: spread_of(trained.precisions().loc[way[0], way[1], int(way[2])]),
    # GoogLeNet
    "table_1_sum": lambda: float(googlenet.PRINTED["million multiply-adds"].sum()),
    "least_reduced": lambda: float(googlenet.reductions()["times"].min()),
    "inception_growth": counts.inception_growth,
    "head_weight": lambda: inception.HEAD_WEIGHT,
    "head": lambda layer, name: getattr(getattr(inception.skeleton().heads["inception4a"], layer), name),
    "dropout_before_classifier": lambda: inception.skeleton().drop5.p,
    "heads_after_training": counts.heads_after_training,
    "rate_after": lambda epochs: inception.four_per_cent_less(int(epochs)),
    "iterations_to_first_drop": lambda: (
        next(n for n in range(99) if inception.four_per_cent_less(n) < 1) * counts.IMAGES_2010 // 128
    ),
    "recipe_of": lambda name, value: getattr(learning.recipe(name), value),
    "crops_drawn": crops_drawn,
    "norms_of_googlenet": lambda: sum("norm" in name for name in inception.skeleton().layers),
    "beside_table_1": lambda module, column: float(googlenet.beside_table_1().loc[module, column]),
    "views_counted": lambda: len(SCALES) * 3 * 6 * 2,  # scales × squares × crops × reflections
}
