"""§6.1, looking at a trained net: its kernels, its answers, what its features find alike, and short codes for them.

`experiments/trained.py` asks these questions of finished runs and keeps the answers.
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
HIDDEN = 256  # units of the encoder and of the decoder
AT_ONCE = 256  # pictures whose pixels are compared at once; 300 MB at 224 pixels

# ------------------------------------------------------------------------------------------------- kernels (Figure 3)


def colourfulness(kernels: np.ndarray) -> np.ndarray:
    """How much of each kernel is colour: (N, 3, k, k) to (N,), from 0, grey, to 1, no brightness at all.

    The share of a kernel's energy that is left without, at each place, the mean of red, green and blue.
    """
    kernels = np.asarray(kernels, np.float64)
    coloured = kernels - kernels.mean(1, keepdims=True)
    return (coloured**2).sum((1, 2, 3)) / (kernels**2).sum((1, 2, 3))


def oriented(kernels: np.ndarray, draws: int = 200, seed: int = 0) -> np.ndarray:
    """Which kernels (N, 3, s, s), in grey, are selective for an orientation: (N,) bool.

    A kernel is if its power lies more in one direction than that of 95 % of isotropic noise with its own power at each
    frequency. The direction of a power P at the angle θ counts as P·e^(2iθ), so that opposite ones are the same; the
    length of the sum, over all power, is 1 for stripes and small for blobs.
    """
    size = kernels.shape[-1]
    frequency = np.fft.fftfreq(size, 1 / size)
    angle = np.arctan2(frequency[:, None], frequency)
    ring = np.hypot(frequency[:, None], frequency).round().astype(int)
    power = np.abs(np.fft.fft2(kernels.mean(1))) ** 2
    power[:, 0, 0] = 0  # the mean has no direction

    def one_sided(power):
        return np.abs((power * np.exp(2j * angle)).sum((-2, -1))) / power.sum((-2, -1))

    noise = np.abs(np.fft.fft2(np.random.default_rng(seed).standard_normal((draws, size, size)))) ** 2
    by_ring = np.stack([power[:, ring == r].mean(1) for r in range(ring.max() + 1)], 1)[:, ring]
    limits = [np.quantile(one_sided(each * noise), 0.95) for each in by_ring]
    return one_sided(power) > limits


def column_difference(values: np.ndarray, draws: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """The mean of the second half of some values less that of the first, and how likely chance gives as much.

    The likelihood is from a permutation test: the share of `draws` random divisions into halves whose difference is at
    least as large in size, and at least 1 / (draws + 1).

    Raises:
        ValueError: fewer than two values, or some that aren't finite: a kernel of zeros has no colourfulness.
    """
    values, half = np.asarray(values, float), len(values) // 2
    if not half or not np.isfinite(values).all():
        unlike = (~np.isfinite(values)).sum()
        raise ValueError(f"{len(values)} values, {unlike} of them not finite; accepted are two finite ones or more")
    difference = values[half:].mean() - values[:half].mean()
    generator = np.random.default_rng(seed)
    shuffled = generator.permuted(np.tile(values, (draws, 1)), axis=1)
    by_chance = np.abs(shuffled[:, half:].mean(1) - shuffled[:, :half].mean(1))
    return float(difference), float((1 + (by_chance >= abs(difference) - 1e-12).sum()) / (draws + 1))


# ------------------------------------------------------------------------------------------ answers (Figure 4, left)


def related(classes: list[str]) -> np.ndarray:
    """Which other built-in classes share an outline or a surface, as "striped_fish" and "striped_jar" do.

    (classes, classes) boolean.
    """
    parts = [set(name.split("_")) for name in classes]
    return np.array([[bool(a & b) and a != b for b in parts] for a in parts])


def plausibility(probabilities: np.ndarray, labels: np.ndarray, classes: list[str]) -> float:
    """How many times as often as a random wrong guess the best wrong guess is related to the true class."""
    others = np.array(probabilities, float)
    others[np.arange(len(labels)), labels] = -np.inf
    wrong = others.argmax(1)
    kin = related(classes)
    return float(kin[labels, wrong].mean() / (kin[labels].sum(1) / (len(classes) - 1)).mean())


# --------------------------------------------------------------------------------------- neighbours (Figure 4, right)


@torch.no_grad()
def hidden_features(net: nn.Sequential, images, mean: Tensor, layer: str = LAST_HIDDEN) -> np.ndarray:
    """A layer's output for the centre crops of images (N, S, S, 3): (N, units) float32."""
    names, device = [name for name, _ in net.named_children()], next(net.parameters()).device
    if layer not in names:
        raise ValueError(f"layer = {layer!r}; the net has {', '.join(names)}")
    below = net[: names.index(layer) + 1]

    def answers(few: np.ndarray) -> np.ndarray:
        x = to_input(np.ascontiguousarray(centre_crops(few, mean.shape[1])), mean, device)
        return below(x).flatten(1).cpu().numpy()

    with in_evaluation(net):
        return in_pieces(answers, images, 128)


def pixel_features(images: np.ndarray, crop: int) -> np.ndarray:
    """The pixels of the same crops, (N, crop · crop · 3) float32 from 0 to 1."""
    return centre_crops(images, crop).reshape(len(images), -1).astype(np.float32) / 255


def neighbours(queries, known, count: int = 6, features: Callable | None = None) -> np.ndarray:
    """The rows of `known` nearest to each query by Euclidean distance, the nearest first: (N, count).

    features: makes features of a part of either, where all of them would be too large, as pixels are.

    Raises:
        ValueError: features that are NaN or infinite.
    """
    nearest = np.empty((len(queries), count), np.int64)
    for rows, asked in _parts(queries, features, AT_ONCE):
        distances = torch.empty(len(asked), len(known), dtype=torch.float64)
        own = (asked**2).sum(1, keepdim=True)
        for columns, part in _parts(known, features, AT_ONCE // 4):
            distances[:, columns] = own + (part**2).sum(1) - 2 * asked @ part.T
        nearest[rows] = distances.topk(count, largest=False).indices
    return nearest


def _parts(of, features: Callable | None, size: int) -> Iterator[tuple[slice, Tensor]]:
    for start in range(0, len(of), size):
        rows = slice(start, min(start + size, len(of)))
        part = features(of[rows]) if features else of[rows]
        # in float32 only roundings would be left of numbers that are large and alike
        part = torch.from_numpy(np.ascontiguousarray(part, np.float64))
        if not part.isfinite().all():
            raise ValueError("the features are not all finite; nothing can be said to be near to NaN or infinity")
        yield rows, part


def precision(found: np.ndarray, labels: np.ndarray, known_labels: np.ndarray) -> float:
    """The share of the rows found (N, count) whose class is that of the query."""
    return float((known_labels[found] == labels[:, None]).mean())


def shared(found: np.ndarray, others: np.ndarray) -> float:
    """The share of each query's rows in `found` that are in `others` too, (N, count) each."""
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


def train_autoencoder(features: np.ndarray, bits: int, epochs: int = 10, seed: int = 0, rate=0.002) -> nn.ModuleDict:
    """Train a net that gives back features (N, F) from codes of so many bits: the signs of its encoder's outputs.

    The features are brought to mean 0, and to unit variance all together; the loss is the mean squared error.

    Raises:
        ValueError: features that are not finite, or all alike.
    """
    if not (np.isfinite(features).all() and len(features) > 1 and np.ptp(features, axis=0).max() > 0):
        raise ValueError("features from which no code can be learned: they must be finite, and not all alike")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        x, units = torch.from_numpy(features), features.shape[1]
        encoder = nn.Sequential(nn.Linear(units, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, bits), nn.BatchNorm1d(bits))
        decoder = nn.Sequential(nn.Linear(bits, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, units))
        net = nn.ModuleDict({"encoder": encoder, "decoder": decoder})
        net.register_buffer("centre", x.mean(0))
        net.register_buffer("scale", x.std())
        optimizer = Adam(net.parameters(), lr=rate)
        for _ in range(epochs):
            for rows in torch.randperm(len(x)).split(128):
                if len(rows) > 1:  # batch normalisation needs two
                    inputs = (x[rows] - net.centre) / net.scale
                    loss = F.mse_loss(decoder(_Sign.apply(encoder(inputs))), inputs)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
    return net.eval()


@torch.no_grad()
def codes_of(net: nn.ModuleDict, features: np.ndarray) -> np.ndarray:
    """The codes of features (N, F): (N, bits / 64) uint64, eight bytes to a number."""
    with in_evaluation(net):  # batch normalisation would otherwise look at these features, and keep what it saw
        bits = net["encoder"]((torch.from_numpy(features) - net.centre) / net.scale) > 0
    return packed(bits.numpy())


def packed(bits: np.ndarray) -> np.ndarray:
    """Boolean (N, bits) as (N, ⌈bits / 64⌉) uint64, filled up with 0."""
    filled = np.zeros((len(bits), -(-bits.shape[1] // 64) * 64), bool)
    filled[:, : bits.shape[1]] = bits
    return np.packbits(filled, axis=1).view(np.uint64)


def random_codes(features: np.ndarray, known: np.ndarray, bits: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Codes without learning, for comparison: the sides of random planes through the mean of the known features."""
    planes = np.random.default_rng(seed).standard_normal((known.shape[1], bits)).astype(np.float32)
    centre = known.mean(0)
    return packed((features - centre) @ planes > 0), packed((known - centre) @ planes > 0)


def hamming_neighbours(queries: np.ndarray, known: np.ndarray, count: int = 6) -> np.ndarray:
    """The rows of `known` whose codes differ in fewest bits from each query's: (N, count); of equals the first."""
    found = np.empty((len(queries), count), np.int64)
    for i, query in enumerate(queries):
        differing = np.bitwise_count(known ^ query).sum(1, dtype=np.uint16)
        found[i] = np.argsort(differing, kind="stable")[:count]
    return found
