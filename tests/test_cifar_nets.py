"""§3.1 and §3.3: the CIFAR nets against their files, their layers against the formulas in float64."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet_lib.cifar_nets import (
    ACTIVATIONS,
    NETS,
    LocallyConnected2d,
    cifar_net,
    cifar_parameter_groups,
    differing_share,
    saturation,
)
from alexnet_lib.learning import PaperSGD, learned_layers


def outputs(net, x):
    """The output of every layer, by name."""
    found = {}
    for name, layer in net.named_children():
        x = found[name] = layer(x)
    return found


def pixels(count, side, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 60, (count, 3, side, side)))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("19pct", 89_578),
        ("18pct", 89_578),
        ("conv-local-13pct", 1_116_490),
        ("conv-local-11pct-first", 1_116_490),
        ("conv-local-11pct-final", 2_112_970),
    ],
)
def test_parameters_are_those_of_the_files(name, parameters):
    assert sum(p.numel() for p in cifar_net(name).parameters()) == parameters


def test_every_net_is_counted():
    assert len(NETS) == 5


@pytest.mark.parametrize(
    ("name", "sides"),
    [("19pct", {"conv1": 32, "max1": 16, "avg2": 8, "avg3": 4}), ("conv-local-13pct", {"max1": 12, "local4": 6})],
)
def test_windows_that_hang_over_the_edge_count(name, sides):
    found = outputs(cifar_net(name), pixels(1, NETS[name].image_size).float())
    assert {layer: found[layer].shape[-1] for layer in sides} == sides
    assert found["fc"].shape == (1, 10)


@pytest.mark.parametrize("side", [5, 6, 8])
def test_average_pooling_divides_by_the_part_inside(side):
    x = torch.from_numpy(np.random.default_rng(side).normal(size=(1, 2, side, side)))
    pooled = cifar_net("19pct").avg2(x)
    for row in range(pooled.shape[2]):
        for column in range(pooled.shape[3]):
            window = x[:, :, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
            torch.testing.assert_close(pooled[:, :, row, column], window.mean((2, 3)))


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_the_gradient_of_the_last_maps_has_their_layout(layout):
    generator = np.random.default_rng(0)
    maps, weights = (torch.from_numpy(generator.normal(size=(3, 64, 4, 4))) for _ in range(2))
    maps = maps.contiguous(memory_format=layout).requires_grad_()
    seen, gradients = maps.clone(), []
    flat = cifar_net("19pct").flatten(seen)
    seen.register_hook(gradients.append)
    assert torch.equal(flat, maps.reshape(3, -1))
    (flat * weights.flatten(1)).sum().backward()
    assert gradients[0].is_contiguous(memory_format=layout) and torch.equal(gradients[0], weights)


# ------------------------------------------------------------------------------------------- locally connected layers


@given(
    kernel=st.integers(1, 4),
    padding=st.integers(0, 2),
    size=st.integers(4, 6),
    maps=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    channels_last=st.booleans(),
)
@settings(max_examples=25)
def test_each_position_has_a_kernel_of_its_own(kernel, padding, size, maps, channels_last):
    local = LocallyConnected2d(*maps, kernel, size, padding).double()
    generator = np.random.default_rng(kernel)
    with torch.no_grad():
        local.bias.copy_(torch.from_numpy(generator.normal(size=local.bias.shape)))
    x = torch.from_numpy(generator.normal(size=(2, maps[0], size, size)))
    y = local(x.to(memory_format=torch.channels_last) if channels_last else x)
    around, side = F.pad(x, (padding,) * 4), size + 2 * padding - kernel + 1
    assert y.shape == (2, maps[1], side, side)
    for row in range(side):
        for column in range(side):
            seen = around[:, :, row : row + kernel, column : column + kernel].permute(0, 2, 3, 1).flatten(1)
            position = row * side + column
            torch.testing.assert_close(y[:, :, row, column], seen @ local.weight[position] + local.bias[position])


def test_with_one_kernel_everywhere_it_is_a_convolution():
    local = LocallyConnected2d(3, 4, 3, 6, padding=1).double()
    kernel = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 3, 3, 3)))
    with torch.no_grad():
        local.weight.copy_(kernel.permute(2, 3, 1, 0).reshape(1, 27, 4).expand(36, 27, 4))
    x = torch.from_numpy(np.random.default_rng(1).normal(size=(2, 3, 6, 6)))
    torch.testing.assert_close(local(x), F.conv2d(x, kernel, padding=1))


def test_gradients_of_a_locally_connected_layer():
    local = LocallyConnected2d(2, 2, 3, 4, padding=1).double()
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 2, 4, 4))).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, w, b: torch.func.functional_call(local, {"weight": w, "bias": b}, x), (x, *local.parameters())
    )


def test_a_kernel_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="a kernel of 9 for 6 × 6 units with padding 1"):
        LocallyConnected2d(3, 4, 9, 6, padding=1)


@pytest.mark.parametrize("shape", [(1, 2, 6, 9), (1, 2, 9, 6), (1, 2, 7, 7)])
def test_a_kernel_for_each_place_has_none_for_other_places(shape):
    with pytest.raises(ValueError, match="accepted are 6 × 6"):
        LocallyConnected2d(2, 3, 3, 6)(torch.zeros(shape))


# ----------------------------------------------------------------------------------------------- normalisation, order


def test_the_first_11_percent_net_is_the_13_percent_net_with_normalisation():
    x = pixels(2, 24).float()
    bare, first = cifar_net("conv-local-13pct"), cifar_net("conv-local-11pct-first")
    added, removed = (
        cifar_net("conv-local-13pct", normalization="lrn"),
        cifar_net("conv-local-11pct-first", normalization=None),
    )
    for one, other in ((first, added), (bare, removed)):
        assert list(dict(one.named_children())) == list(dict(other.named_children()))
        assert torch.equal(one(x), other(x))
    assert all(torch.equal(value, first.state_dict()[key]) for key, value in bare.state_dict().items())
    assert not torch.equal(bare(x), first(x))


def test_normalisations_are_those_of_the_files():
    first, final, spatial = (cifar_net(n) for n in ("conv-local-11pct-first", "conv-local-11pct-final", "18pct"))
    for net, window in ((first, 5), (final, 9)):
        for norm in (net.lrn1, net.lrn2):
            assert (norm.n, norm.k, norm.alpha, norm.beta, norm.convention) == (window, 1, 0.001, 0.75, "caffe")
    assert (spatial.rnorm1.size, spatial.rnorm2.k, spatial.rnorm1.alpha) == (3, 1, 0.00005)
    names = [list(dict(net.named_children())) for net in (first, final)]
    assert [order.index("lrn1") < order.index("max1") for order in names] == [True, False]
    assert all(order.index("neuron2") < order.index("lrn2") < order.index("max2") for order in names)


@pytest.mark.parametrize("name", ["19pct", "conv-local-13pct"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_layers_compute_what_the_published_order_computes(name, activation):
    """The maximum is taken before an activation that never falls; the numbers and gradients are those of after."""
    net = cifar_net(name, activation=activation, initialisation="fan_in", image_size=16).double()
    x = pixels(2, 16).div(60).requires_grad_()
    y, expected = net(x), x
    for layer in NETS[name].order.split():
        expected = getattr(net, layer)(expected)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad(z.square().sum(), x, retain_graph=True)[0] for z in (y, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)


def test_abs_tanh_rises_on_both_sides():
    x = torch.tensor([-2.0, 0.0, 0.5], dtype=torch.float64)
    expected = torch.from_numpy(np.abs(np.tanh(x.numpy())))
    torch.testing.assert_close(ACTIVATIONS["abs_tanh"]()(x), expected)


# ------------------------------------------------------------------------------------- initial weights, rates, decays

PUBLISHED = {  # initial deviations and decays, by hand from the table of the files
    "19pct": ([0.0001, 0.01, 0.01, 0.01], [0.004, 0.004, 0.004, 3]),
    "18pct": ([0.0001, 0.01, 0.01, 0.01], [0.004, 0.004, 0.004, 1]),
    "conv-local-13pct": ([0.0001, 0.01, 0.04, 0.04, 0.01], [0, 0, 0.004, 0.004, 0.004]),
    "conv-local-11pct-first": ([0.0001, 0.01, 0.04, 0.04, 0.01], [0, 0, 0.004, 0.004, 0.004]),
    "conv-local-11pct-final": ([0.0001, 0.01, 0.04, 0.04, 0.01], [0, 0, 0.004, 0.004, 0.01]),
}


@pytest.mark.parametrize("name", NETS)
def test_published_weights_rates_and_decays(name):
    net, (deviations, decays) = cifar_net(name), PUBLISHED[name]
    layers = learned_layers(net).values()
    np.testing.assert_allclose([layer.weight.std().item() for layer in layers], deviations, rtol=0.05)
    assert all((layer.bias == 0).all() for layer in layers)
    *weights, biases = cifar_parameter_groups(net, name)
    assert [group["weight_decay"] for group in weights] == decays and biases["weight_decay"] == 0
    assert {group["lr"] for group in weights} == {0.001} and biases["lr"] == 0.002
    grouped = [p for group in (*weights, biases) for p in group["params"]]
    assert sorted(map(id, grouped)) == sorted(map(id, net.parameters()))
    assert [group["weight_decay"] for group in cifar_parameter_groups(net, name, weight_decay=0.0)] == [0] * (
        len(decays) + 1
    )


@pytest.mark.parametrize(("activation", "gain"), [("relu", 2), ("tanh", 1)])
def test_fan_in_weights(activation, gain):
    layers = learned_layers(cifar_net("conv-local-13pct", activation=activation, initialisation="fan_in"))
    expected = [(gain / fan_in) ** 0.5 for fan_in in (3 * 25, 64 * 25, 64 * 9, 32 * 9, 32 * 36)]
    np.testing.assert_allclose([layer.weight.std().item() for layer in layers.values()], expected, rtol=0.05)


def test_seeds_make_the_weights():
    first, again, other = (cifar_net("19pct", seed=seed).conv2.weight for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_step_is_that_of_the_2012_program():
    net = cifar_net("19pct", image_size=8).double()
    optimizer = PaperSGD(cifar_parameter_groups(net, "19pct"), 0.001)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    F.cross_entropy(net(pixels(4, 8)), torch.arange(4)).backward()
    optimizer.step()
    expected = before["fc.weight"] - 0.001 * net.fc.weight.grad - 0.001 * 3 * before["fc.weight"]
    torch.testing.assert_close(net.fc.weight.detach(), expected)
    torch.testing.assert_close(net.fc.bias.detach(), before["fc.bias"] - 0.002 * net.fc.bias.grad)


# ------------------------------------------------------------------------------------------------ saturation, mistakes


@pytest.mark.parametrize(
    ("activation", "before", "share"),
    [
        ("relu", [-1.0, 0.0, 0.1, 5.0], 0.5),
        ("tanh", [-3.0, 0.5, 2.0, 2.2], 0.5),
        ("abs_tanh", [-3.0, 0.5, 2.0, 2.2], 0.5),
        ("logistic", [-5.0, 0.0, 4.0, 4.3], 0.5),
    ],
)
def test_saturation_is_the_share_of_units_without_slope(activation, before, share):
    net = torch.nn.Sequential()
    net.add_module("neuron1", ACTIVATIONS[activation]())
    net.add_module("neuron2", torch.nn.Identity())
    shares = saturation(net, torch.tensor([before]), activation)
    assert shares == {"saturated1": share, "saturated2": share}


def test_the_differing_share_is_what_tells_pictures_apart():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(2, 1))
    assert differing_share(net, torch.tensor([[3.0, 4.0], [3.0, 4.0]])) == 0
    assert differing_share(net, torch.tensor([[1.0, -2.0], [-1.0, 2.0]])) == 1
    assert differing_share(net, torch.zeros(2, 2)) == 0  # nothing reaches the last layer
    # 3 and 5 have the mean 4: deviations of 1 in a signal of the size √17
    assert differing_share(net, torch.tensor([[3.0, 0.0], [5.0, 0.0]])) == pytest.approx(17**-0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "17pct"}, "net = '17pct'; accepted are 19pct, 18pct, conv-local-13pct"),
        ({"activation": "sigmoid"}, "'sigmoid'; accepted are relu, tanh, logistic, abs_tanh"),
        ({"initialisation": "printed"}, "'printed'; accepted are published, fan_in"),
        ({"normalization": "batch"}, "'batch'; accepted are published, lrn, None"),
        ({"image_size": 0}, "image_size = 0"),
        ({"num_classes": 0}, "num_classes = 0"),
    ],
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        cifar_net(**{"name": "19pct"} | changes)
