"""§4.2, the paper's claims about dropout: an average over all sub-networks, and no co-adaptation."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..architecture import kind_of
from ..dropout import Dropout

MOST_UNITS = 16  # 65,536 sub-networks
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)  # of the hidden units, silenced


def small_net(inputs: int, hidden: Sequence[int], classes: int, strength=1.0, seed=0) -> nn.Sequential:
    """Hidden ReLU layers, each followed by dropout, then logits; float64.

    strength: a factor on the weights. The larger it is, the more confident the net.
    """
    generator, layers, sizes = np.random.default_rng(seed), [], [inputs, *hidden, classes]
    for before, after in zip(sizes, sizes[1:], strict=False):
        layer = nn.Linear(before, after, dtype=torch.float64)
        with torch.no_grad():
            weights = generator.standard_normal((after, before)) * strength * (2 / before) ** 0.5
            layer.weight.copy_(torch.from_numpy(weights))
            layer.bias.copy_(torch.from_numpy(generator.standard_normal(after) * 0.1))
        layers += [layer, nn.ReLU(), Dropout(0.5)]
    return nn.Sequential(*layers[:-2]).eval()


def every_mask(units: int) -> Tensor:
    """All dropout masks of some units: (2^units, units) of 0 and 1.

    Raises:
        ValueError: too many units to enumerate.
    """
    if not 1 <= units <= MOST_UNITS:
        raise ValueError(f"{units} units; accepted are 1 to {MOST_UNITS}, since all 2^units sub-networks are visited")
    return torch.from_numpy(np.arange(2**units)[:, None] >> np.arange(units) & 1).double()


def every_sub_network(net: nn.Sequential, x: Tensor) -> Tensor:
    """Log-probabilities of each sub-network for each input: x (N, inputs) to (2^n, N, classes).

    net: ends in logits; n is the number of units that its dropout layers can silence.
    """
    places = [i for i, layer in enumerate(net) if isinstance(layer, Dropout)]
    widths = [next(layer for layer in reversed(net[:i]) if isinstance(layer, nn.Linear)).out_features for i in places]
    masks = dict(zip(places, every_mask(sum(widths)).split(widths, 1), strict=True))
    out = x[None]
    for i, layer in enumerate(net):
        out = out * masks[i][:, None] if i in masks else layer(out)
    return out.log_softmax(-1)


def geometric_mean(log_probabilities: Tensor) -> Tensor:
    """The geometric mean of distributions (M, N, classes), normalised for each input: (N, classes)."""
    return log_probabilities.mean(0).softmax(-1)


def distance(p: Tensor, q: Tensor) -> Tensor:
    """Total variation distance of two distributions over classes, from 0 to 1."""
    return (p - q).abs().sum(-1) / 2


@torch.no_grad()
def approximation(hidden: Sequence[int], strength=1.0, nets=10, inputs=8, classes=5, seed=0) -> dict[str, float]:
    """The mean `distance` between the halved net and averages over its sub-networks, over random nets and inputs.

    "geometric" and "arithmetic": from these means of all sub-networks; "one sub-network": the distance between a single
    sub-network and the geometric mean.
    """
    rows = []
    for number in range(nets):
        net = small_net(inputs, hidden, classes, strength, seed=1000 * seed + number)
        x = torch.from_numpy(np.random.default_rng([seed, number]).standard_normal((16, inputs)))
        halved, every = net(x).softmax(-1), every_sub_network(net, x)
        mean = geometric_mean(every)
        pairs = {"geometric": (halved, mean), "arithmetic": (halved, every.exp().mean(0))}
        pairs["one sub-network"] = every.exp(), mean
        rows.append({name: distance(*pair).mean().item() for name, pair in pairs.items()})
    return pd.DataFrame(rows).mean().to_dict()


@torch.no_grad()
def extra_loss(net: nn.Sequential, x: Tensor, labels: Tensor) -> float:
    """The loss (nats) averaged over all sub-networks less that of the halved net."""
    losses = -every_sub_network(net, x)[:, torch.arange(len(labels)), labels]
    return losses.mean().item() - F.cross_entropy(net(x), labels).item()


def extra_squared_loss(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """The same for linear regression with dropout on its inputs x (N, units): by enumeration, and as an L2 penalty.

    The penalty is ¼ Σ_j w_j² mean(x_j²): weight decay, stronger for stronger inputs.
    """
    masked = every_mask(x.shape[1]).numpy()[:, None] * x @ weights
    enumerated = np.mean((masked - y) ** 2) - np.mean((x @ weights / 2 - y) ** 2)
    return float(enumerated), float((weights**2 * (x**2).mean(0)).sum() / 4)


@torch.no_grad()
def hidden_layers(net: nn.Sequential, features: Tensor, mask) -> Tensor:
    """Logits (N, classes) from the layers after "flatten", with `mask(x, layer)` in place of each dropout layer."""
    names = [name for name, _ in net.named_children()]
    for name, layer in list(net.named_children())[names.index("flatten") + 1 :]:
        features = mask(features, layer) if kind_of(name) == "drop" else layer(features)
    return features


def test_factor(layer: nn.Module) -> float:
    """What a dropout layer multiplies its units by at test time: PyTorch's has scaled them in training."""
    return 1.0 if isinstance(layer, nn.Dropout) else 1 - layer.p


def sampled_sub_networks(net: nn.Sequential, features: Tensor, count=100, seed=0) -> Tensor:
    """Log-probabilities of `count` random sub-networks, one mask for all inputs: (count, N, classes).

    Masks are drawn as the net's own dropout layers draw them in training, and PyTorch's scale what is left.
    """
    generator = torch.Generator().manual_seed(seed)

    def kept(x, layer):
        scale = 1 / (1 - layer.p) if isinstance(layer, nn.Dropout) else 1
        return scale * x * (torch.rand(x.shape[1], generator=generator) >= layer.p)

    return torch.stack([hidden_layers(net, features, kept).log_softmax(-1) for _ in range(count)])


def silenced(net: nn.Sequential, features: Tensor, labels: Tensor, shares=SHARES, draws=5, seed=0) -> pd.DataFrame:
    """The loss and error of a trained net when a random share of its hidden units is silenced at test time.

    The others are scaled by 1/(1 − share), so that the next layer's sums stay the same on average: what suffers is
    units that rely on particular others. One row a share: loss (nats), error (0 to 1), means over draws.
    """
    generator, rows = torch.Generator().manual_seed(seed), []
    for share in shares:

        def mask(x, layer, share=share):
            return x * test_factor(layer) / (1 - share) * (torch.rand(x.shape[1], generator=generator) >= share)

        logits = [hidden_layers(net, features, mask) for _ in range(draws)]
        losses = [F.cross_entropy(each, labels).item() for each in logits]
        errors = [(each.argmax(1) != labels).double().mean().item() for each in logits]
        rows.append({"share": share, "loss": np.mean(losses), "error": np.mean(errors)})
    return pd.DataFrame(rows)


def correlation(net: nn.Sequential, features: Tensor) -> float:
    """The mean |correlation| between units of the last hidden layer, over pairs of units that aren't always silent."""
    seen = []
    with list(net.children())[-1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])):
        hidden_layers(net, features, lambda x, layer: x * test_factor(layer))
    (units,) = seen
    active = units[:, units.std(0) > 1e-6].double()
    matrix = torch.corrcoef(active.T).abs()
    return ((matrix.sum() - len(matrix)) / (len(matrix) * (len(matrix) - 1))).item()
