"""§4.2: averages over all sub-networks by counting, and nets whose hidden units are silenced."""

import copy
from collections import OrderedDict

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from alexnet_lib import alexnet
from alexnet_lib.figures import comparisons
from alexnet_lib.learning import initialise
from alexnet_lib.study.sub_networks import (
    approximation,
    correlation,
    distance,
    every_mask,
    every_sub_network,
    extra_loss,
    extra_squared_loss,
    geometric_mean,
    hidden_layers,
    sampled_sub_networks,
    silenced,
    small_net,
)


def inputs(count=4, width=5, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((count, width)))


def features_of(net, images_nchw):
    """What the layers with dropout are given, (N, units)."""
    names = [name for name, _ in net.named_children()]
    with torch.no_grad():
        return nn.Sequential(*list(net.children())[: names.index("flatten") + 1])(images_nchw)


@pytest.fixture(scope="module")
def net():
    return initialise(alexnet("paper", 3, width=0.05, image_size=64), "fan_in", seed=0).eval()


@pytest.fixture(scope="module")
def features(net):
    return features_of(net, torch.from_numpy(np.random.default_rng(0).uniform(-90, 90, (20, 3, 64, 64))).float())


def test_every_mask_is_there_once():
    masks = every_mask(5)
    assert masks.shape == (32, 5) and len(masks.unique(dim=0)) == 32 and set(masks.flatten().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("units", [0, 17])
def test_too_many_units_are_refused(units):
    with pytest.raises(ValueError, match=f"{units} units; accepted are 1 to 16"):
        every_mask(units)


def test_sub_networks_are_nets_without_those_units():
    whole, x = small_net(5, [3, 2], 4, seed=7), inputs()
    first, second, last = (layer for layer in whole if isinstance(layer, nn.Linear))
    expected = []
    for mask in every_mask(5).bool():
        one, two = mask[:3], mask[3:]
        h = F.relu(F.linear(x, first.weight[one], first.bias[one]))
        h = F.relu(F.linear(h, second.weight[two][:, one], second.bias[two]))
        expected.append(F.linear(h, last.weight[:, two], last.bias).log_softmax(-1))
    torch.testing.assert_close(every_sub_network(whole, x), torch.stack(expected), rtol=1e-12, atol=1e-12)


def test_geometric_mean_is_the_root_of_the_product():
    p = torch.rand(4, 3, 5, dtype=torch.float64).softmax(-1)
    root = p.prod(0) ** 0.25
    torch.testing.assert_close(geometric_mean(p.log()), root / root.sum(-1, keepdim=True))


@settings(max_examples=20)
@given(st.integers(0, 1000), st.floats(0.1, 4), st.integers(1, 8))
def test_halving_is_the_geometric_mean_for_one_layer(seed, strength, units):
    whole, x = small_net(5, [units], 3, strength, seed), inputs(seed=seed)
    torch.testing.assert_close(whole(x).softmax(-1), geometric_mean(every_sub_network(whole, x)), rtol=0, atol=1e-12)


def test_halving_is_an_approximation_beyond():
    measured = approximation([3, 3], strength=1.5, nets=5)
    assert 1e-3 < measured["geometric"] < measured["one sub-network"]


def test_distance_is_what_must_be_moved():
    p, q = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0, 0]]), torch.tensor([[0.25, 0.5, 0.25], [0, 0.5, 0.5]])
    torch.testing.assert_close(distance(p, q), torch.tensor([0.25, 1.0]))


@given(st.integers(0, 1000))
def test_dropout_on_the_inputs_of_a_linear_regression_is_weight_decay(seed):
    generator = np.random.default_rng(seed)
    x, y, w = generator.standard_normal((6, 4)), generator.standard_normal(6), generator.standard_normal(4)
    assert np.isclose(*extra_squared_loss(x, y, w), rtol=1e-9)


def test_extra_loss_is_none_where_nothing_falls_silent():
    whole = small_net(5, [4], 3)
    with torch.no_grad():
        whole[3].weight.zero_()  # the hidden units say nothing
    assert extra_loss(whole, inputs(), torch.tensor([0, 1, 2, 0])) == pytest.approx(0, abs=1e-12)
    assert extra_loss(small_net(5, [4], 3, 2.0), inputs(), torch.tensor([0, 1, 2, 0])) > 0


def test_hidden_layers_are_the_end_of_the_net(net, features):
    x = torch.from_numpy(np.random.default_rng(0).uniform(-90, 90, (20, 3, 64, 64))).float()
    torch.testing.assert_close(hidden_layers(net, features, lambda h, _: h / 2), net(x))


def test_sampled_sub_networks_average_to_the_counted_ones(net, features):
    drawn = sampled_sub_networks(net, features, 200)
    assert drawn.shape == (200, 20, 3)
    torch.testing.assert_close(drawn.exp().sum(-1), torch.ones(200, 20))
    assert len(drawn[:, 0].unique(dim=0)) == 200


@pytest.mark.parametrize("changes", [{}, {"dropout": 0.2}, {"name": "owt2014"}])
def test_sub_networks_are_those_that_the_nets_own_dropout_draws(changes):
    """As often as the net draws in training, to a tenth; PyTorch's dropout scales what is left."""
    own = {"name": "paper", "width": 0.125, "image_size": 96, "seed": 0} | changes
    whole = initialise(alexnet(own.pop("name"), 10, **own), "fan_in", 0)
    x = torch.from_numpy(np.random.default_rng(0).normal(0, 60, (8, 3, 96, 96))).float()
    given = features_of(whole, x)
    names = [name for name, _ in whole.named_children()]
    end = nn.Sequential(*list(whole.children())[names.index("flatten") + 1 :]).train()
    with torch.no_grad():
        expected = torch.stack([end(given).softmax(-1).amax(-1).mean() for _ in range(200)]).mean().item()
    drawn = sampled_sub_networks(whole, given, 200).exp().amax(-1).mean().item()
    assert drawn == pytest.approx(expected, rel=0.1)


def test_silencing_nobody_changes_nothing(net, features):
    labels = torch.arange(20) % 3
    table = silenced(net, features, labels, shares=(0.0, 0.9), draws=3).set_index("share")
    expected = F.cross_entropy(hidden_layers(net, features, lambda h, _: h / 2), labels).item()
    assert table.loc[0.0, "loss"] == pytest.approx(expected, rel=1e-5) and table.loc[0.9, "loss"] != expected


def test_silencing_keeps_the_sums_on_average(net, features):
    once = hidden_layers(net, features, lambda h, _: h / 2)
    draws = sampled_sub_networks(net, features[:1], 400)
    assert distance(draws.exp().mean(0), once[:1].softmax(-1)).item() < 0.05


def test_correlation_of_copies_is_one(net, features):
    copied = copy.deepcopy(net)
    assert 0 < correlation(copied, features) < 1
    with torch.no_grad():
        copied.fc7.weight[:] = copied.fc7.weight[0].abs()
    assert correlation(copied, features) == pytest.approx(1, abs=1e-6)


def test_the_picture_of_prices_shows_every_net_where_it_is_paid_for():
    place = comparisons.price({1: [48.0, 47.0], 2: [46.0]}, {2: [43.0, 42.0, 44.0]}).axes[0]
    dots = [
        (line.get_marker(), *line.get_xydata().T.tolist()) for line in place.lines if line.get_linestyle() == "None"
    ]
    assert dots == [("o", [1, 1], [48, 47]), ("o", [2], [46]), ("D", [2, 2, 2], [43, 42, 44])]
    means = [line.get_ydata()[0] for line in place.lines if line.get_linewidth() == 2]
    assert means == [47.5, 46, 43]


def test_nets_are_compared_by_their_training_error_from_high_to_low():
    table = pd.DataFrame({0: [3.0, 1.0], 1: [5.0, 3.0]}, index=[0.1, 0.5])
    place = comparisons.by_training_error({"points": {"with dropout": table}}).axes[0]
    assert place.get_xlim()[0] > 50 > 10 > place.get_xlim()[1]
    assert place.lines[-1].get_xydata().tolist() == [[10, 4], [50, 2]]  # the mean of the seeds


def test_distances_of_the_halved_net_stand_on_one_scale():
    table = pd.DataFrame({"geometric": [0.0, 0.1], "arithmetic": [0.1, 0.4]}, index=[1.0, 3.0])
    figure = comparisons.halving({"one": table, "two": table})
    assert [place.get_ylim() for place in figure.axes] == [(-0.02, 0.52)] * 2
    assert figure.axes[1].lines[1].get_xydata().tolist() == [[1, 0.1], [3, 0.4]]


def test_correlation_is_of_the_last_hidden_layer_wherever_dropout_stands():
    net = alexnet("owt2014", 3, width=0.1, image_size=64, seed=0).eval()
    assert [name for name, _ in net.named_children()][-2:] != ["drop7", "fc8"]
    inputs = torch.randn(40, net.fc6.in_features, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        hidden = hidden_layers(nn.Sequential(OrderedDict(list(net.named_children())[:-1])), inputs, lambda x, d: x / 2)
    used = hidden[:, hidden.std(0) > 1e-6].double().numpy()
    expected = np.abs(np.corrcoef(used.T))[np.triu_indices(used.shape[1], 1)].mean()
    assert correlation(net, inputs) == pytest.approx(expected)
