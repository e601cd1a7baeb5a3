"""§6.1, looking at a trained net: what its kernels are for, what it answers, what lies near what, and short codes.

Nothing here trains an AlexNet; `trained.py` asks these questions of finished runs and keeps the answers.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .augmentation import centre_crops
from .data.pieces import in_pieces
from .evaluation import in_evaluation, to_input
from .runs.optimizers import Adam

LAST_HIDDEN = "relu7"
BITS_OF_A_NUMBER = 32
AT_ONCE = 256  # pictures of which all pixels are compared; 150 MB at 224 pixels

# ------------------------------------------------------------------------------------------------- kernels (Figure 3)


def colourfulness(kernels: np.ndarray) -> np.ndarray:
    """How much of each kernel is colour: (N, 3, k, k) to (N,) from 0, grey, to 1, no brightness at all.

    The share of a kernel's energy that is left when at each place the mean of red, green and blue is taken off.
    """
    kernels = np.asarray(kernels, np.float64)
    coloured = kernels - kernels.mean(1, keepdims=True)
    return (coloured**2).sum((1, 2, 3)) / (kernels**2).sum((1, 2, 3))


def column_difference(values: np.ndarray, draws: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """By how much the mean of the second half of some values is above that of the first, and how likely chance does.

    Returns:
        The difference, and the share of `draws` random divisions into halves whose difference is at least as large in
        size: a permutation test, whose smallest answer is 1 / (draws + 1).
    """
    values, half = np.asarray(values, float), len(values) // 2
    difference = values[half:].mean() - values[:half].mean()
    generator = np.random.default_rng(seed)
    shuffled = generator.permuted(np.tile(values, (draws, 1)), axis=1)
    by_chance = np.abs(shuffled[:, half:].mean(1) - shuffled[:, :half].mean(1))
    return float(difference), float((1 + (by_chance >= abs(difference) - 1e-12).sum()) / (draws + 1))


# ------------------------------------------------------------------------------------------ answers (Figure 4, left)


def best_labels(probabilities: np.ndarray, count: int = 5) -> np.ndarray:
    """The most probable classes of each image, the first first: (N, classes) to (N, count)."""
    return np.argsort(-np.asarray(probabilities), axis=1, kind="stable")[:, :count]


def related(classes: list[str]) -> np.ndarray:
    """Which of the built-in classes share an outline or a surface, as "striped_fish" and "striped_jar"; not themselves.

    (classes, classes) boolean.
    """
    parts = [set(name.split("_")) for name in classes]
    return np.array([[bool(a & b) and a != b for b in parts] for a in parts])


def plausibility(probabilities: np.ndarray, labels: np.ndarray, classes: list[str]) -> float:
    """How many times as often as by chance the best wrong guess is related to the true class.

    By chance: any of the other classes, with one probability.
    """
    ranked = best_labels(probabilities, len(classes))
    wrong = np.array([next(c for c in row if c != label) for row, label in zip(ranked, labels, strict=True)])
    kin = related(classes)
    return float(kin[labels, wrong].mean() / (kin[labels].sum(1) / (len(classes) - 1)).mean())


# --------------------------------------------------------------------------------------- neighbours (Figure 4, right)


@torch.no_grad()
def hidden_features(net: nn.Sequential, images, mean: Tensor, layer: str = LAST_HIDDEN) -> np.ndarray:
    """What a layer answers to the centre crops of images (N, S, S, 3): (N, units) float32, after its ReLU."""
    device = next(net.parameters()).device

    def answers(few: np.ndarray) -> np.ndarray:
        x = to_input(np.ascontiguousarray(centre_crops(few, mean.shape[1])), mean, device)
        for name, module in net.named_children():
            x = module(x)
            if name == layer:
                return x.flatten(1).cpu().numpy()
        raise ValueError(f"layer = {layer!r}; the net has {', '.join(n for n, _ in net.named_children())}")

    with in_evaluation(net):
        return in_pieces(answers, images, 128)


def pixel_features(images: np.ndarray, crop: int) -> np.ndarray:
    """The same images as their pixels, (N, crop · crop · 3) float32 from 0 to 1."""
    return centre_crops(images, crop).reshape(len(images), -1).astype(np.float32) / 255


def neighbours(queries, known, count: int = 6, features: Callable | None = None) -> np.ndarray:
    """The rows of `known` nearest to each query by Euclidean distance, the nearest first: (N, count).

    features: what makes features of a part of either, where they are too large to be kept, such as all pixels.
    """
    nearest = np.empty((len(queries), count), np.int64)
    for rows, asked in _parts(queries, features, AT_ONCE):
        distances = torch.empty(len(asked), len(known))
        for columns, part in _parts(known, features, AT_ONCE // 4):
            distances[:, columns] = (part**2).sum(1) - 2 * asked @ part.T
        nearest[rows] = distances.topk(count, largest=False).indices
    return nearest


def _parts(of, features: Callable | None, size: int) -> Iterator[tuple[slice, Tensor]]:
    for start in range(0, len(of), size):
        rows = slice(start, min(start + size, len(of)))
        yield rows, torch.from_numpy(np.ascontiguousarray(features(of[rows]) if features else of[rows], np.float32))


def precision(found: np.ndarray, labels: np.ndarray, known_labels: np.ndarray) -> float:
    """The share of what was found, rows of the known images (N, count), that has the class of the query."""
    return float((known_labels[found] == labels[:, None]).mean())


def shared(found: np.ndarray, others: np.ndarray) -> float:
    """The share of each query's finds that are among its others, (N, count) each."""
    return float(np.mean([np.isin(a, b).mean() for a, b in zip(found, others, strict=True)]))


# ------------------------------------------------------------------------------------------------------------- codes


class _Sign(torch.autograd.Function):
    """1 above zero and 0 below; its gradient is that of the identity."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return grad


def autoencoder(inputs: int, bits: int, hidden: int = 256) -> nn.ModuleDict:
    """An encoder to `bits` numbers, whose signs are the code, and a decoder back."""
    encoder = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, bits), nn.BatchNorm1d(bits))
    decoder = nn.Sequential(nn.Linear(bits, hidden), nn.ReLU(), nn.Linear(hidden, inputs))
    return nn.ModuleDict({"encoder": encoder, "decoder": decoder})


def train_autoencoder(features: np.ndarray, bits: int, epochs: int = 10, seed: int = 0, rate=0.002) -> nn.ModuleDict:
    """Train it to give back features (N, F), each brought to mean 0, from codes of so many bits.

    What is lost is measured in squares, over the mean square of the features.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        x = torch.from_numpy(features)
        centre, scale = x.mean(0), x.std()
        net = autoencoder(x.shape[1], bits)
        net.register_buffer("centre", centre)
        net.register_buffer("scale", scale)
        optimizer = Adam(net.parameters(), lr=rate)
        for _ in range(epochs):
            for rows in torch.randperm(len(x)).split(128):
                if len(rows) > 1:
                    _step(net, optimizer, (x[rows] - centre) / scale)
    return net.eval()


def _step(net: nn.ModuleDict, optimizer: torch.optim.Optimizer, x: Tensor) -> None:
    loss = F.mse_loss(net["decoder"](_Sign.apply(net["encoder"](x))), x)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@torch.no_grad()
def codes_of(net: nn.ModuleDict, features: np.ndarray) -> np.ndarray:
    """The codes of features (N, F): (N, bits / 64) uint64, eight bytes to a number."""
    bits = net["encoder"]((torch.from_numpy(features) - net.centre) / net.scale) > 0
    return packed(bits.numpy())


def packed(bits: np.ndarray) -> np.ndarray:
    """Boolean (N, bits) as (N, ⌈bits / 64⌉) uint64; what is over is 0."""
    filled = np.zeros((len(bits), -(-bits.shape[1] // 64) * 64), bool)
    filled[:, : bits.shape[1]] = bits
    return np.packbits(filled, axis=1).view(np.uint64)


def random_codes(features: np.ndarray, known: np.ndarray, bits: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Codes without learning, for comparison: the sides of random planes through the mean of the known features."""
    planes = np.random.default_rng(seed).standard_normal((known.shape[1], bits)).astype(np.float32)
    centre = known.mean(0)
    return packed((features - centre) @ planes > 0), packed((known - centre) @ planes > 0)


def hamming_neighbours(queries: np.ndarray, known: np.ndarray, count: int = 6) -> np.ndarray:
    """The rows of `known` whose codes differ in fewest bits from each query's: (N, count); the first of equals."""
    found = np.empty((len(queries), count), np.int64)
    for i, query in enumerate(queries):
        differing = np.bitwise_count(known ^ query).sum(1, dtype=np.uint16)
        found[i] = np.argsort(differing, kind="stable")[:count]
    return found


def bits_ratio(units: str | int, bits: str | int) -> float:
    """How many times as many bits so many real numbers take as a code."""
    return int(units) * BITS_OF_A_NUMBER / int(bits)
