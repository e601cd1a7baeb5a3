"""Every net as an ordinary module: compiled, exported, traced, transformed, taken apart and differentiated twice."""

import os
import shutil
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad

from alexnet_lib import LocalResponseNorm, alexnet, googlenet
from alexnet_lib.architecture import NETS

COMPILER = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")
each_net = pytest.mark.parametrize("name", [*NETS, "googlenet"])


@pytest.fixture(autouse=True)
def forget():
    torch._dynamo.reset()


def small(name):
    if name == "googlenet":
        return googlenet(5, width=0.02, image_size=64, without="pool3", seed=0).eval()
    return alexnet(name, 5, width=0.02, image_size=67, seed=0).eval()


def pixels(name, count=3):
    side = 64 if name == "googlenet" else 67
    return torch.from_numpy(np.random.default_rng(count).normal(0, 60, (count, 3, side, side))).float()


def gradients(net, loss):
    return torch.autograd.grad(loss, list(net.parameters()), allow_unused=True)


@each_net
def test_compiled_it_learns_the_same_from_any_number_of_images(name):
    """Without the C++ compiler, which is not what differs between the nets."""
    net = small(name)
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    for count in (3, 1, 4):
        x = pixels(name, count)
        found, expected = (gradients(net, way(x).square().sum()) for way in (compiled, net))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not COMPILER, reason="torch.compile wants a C++ compiler")
@pytest.mark.parametrize("compiled", [False, True])
def test_through_the_compiler_normalisation_takes_other_shapes(compiled):
    norm = LocalResponseNorm("code2012", columns=2, compiled=compiled)
    fast = torch.compile(norm)
    for shape in ((2, 12, 5, 4), (3, 12, 5, 4), (5, 12, 7, 7)):
        x = torch.from_numpy(np.random.default_rng(0).normal(0, 60, shape)).float().requires_grad_()
        results = [(y, torch.autograd.grad(y.square().sum(), x)[0]) for y in (fast(x), norm(x))]
        torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


@each_net
def test_exported_with_a_free_number_of_images(name):
    net = small(name)
    exported = torch.export.export(net, (pixels(name),), dynamic_shapes=({0: torch.export.Dim("images")},)).module()
    for count in (1, 5):
        torch.testing.assert_close(exported(pixels(name, count)), net(pixels(name, count)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["code2012", "googlenet"])
def test_onnx_with_a_free_number_of_images(name, tmp_path):
    pytest.importorskip("onnxscript", reason="ONNX is not installed")
    from onnx.reference import ReferenceEvaluator

    net = small(name)
    free = ({0: torch.export.Dim("images")},)
    torch.onnx.export(net, (pixels(name),), tmp_path / "net.onnx", dynamic_shapes=free, dynamo=True, verbose=False)
    model = ReferenceEvaluator(str(tmp_path / "net.onnx"))
    for count in (1, 4):
        (found,) = model.run(None, {model.input_names[0]: pixels(name, count).numpy()})
        torch.testing.assert_close(torch.from_numpy(found), net(pixels(name, count)), rtol=1e-3, atol=1e-5)


@each_net
@pytest.mark.parametrize("trace", [lambda net, x: torch.jit.trace(net, x), lambda net, x: torch.fx.symbolic_trace(net)])
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_traced(name, trace):
    net = small(name)
    traced = trace(net, pixels(name))
    for count in (1, 4):
        torch.testing.assert_close(traced(pixels(name, count)), net(pixels(name, count)))


@each_net
@pytest.mark.filterwarnings("ignore:NOTE. The nodes obtained by tracing")
def test_layers_by_name_through_torchvision(name):
    from torchvision.models.feature_extraction import create_feature_extractor

    net, x = small(name), pixels(name)
    wanted = [layer for layer in ("norm1", "norm2", "mapnorm2", "conv2", "inception3a") if hasattr(net, layer)]
    found, expected = create_feature_extractor(net, wanted).eval()(x), {}
    for layer in (layer for layer, _ in net.named_children() if layer != "heads"):
        x = expected[layer] = getattr(net, layer)(x)
    torch.testing.assert_close(found, {layer: expected[layer] for layer in wanted})


@each_net
def test_shapes_without_numbers_and_numbers_afterwards(name):
    net, x = small(name), pixels(name)
    expected = net(x)
    assert deepcopy(net).to("meta")(x.to("meta")).shape == expected.shape
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert net(mode.from_tensor(x)).shape == expected.shape
    torch.testing.assert_close(net(x), expected, rtol=0, atol=0)


@each_net
def test_function_transforms(name):
    net, x = small(name), pixels(name)
    weights = {key: value.detach() for key, value in net.named_parameters() if key.startswith(("conv", "fc8"))}

    def loss(weights, image):
        return torch.func.functional_call(net, weights, (image[None],)).square().sum()

    torch.testing.assert_close(torch.func.vmap(net)(x[:, None])[:, 0], net(x), rtol=1e-4, atol=1e-5)
    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(weights, x)
    total = torch.func.grad(lambda w: torch.func.functional_call(net, w, (x,)).square().sum())(weights)
    for key, value in total.items():
        torch.testing.assert_close(each[key].sum(0), value, rtol=1e-3, atol=1e-4 * value.abs().max().item())


@each_net
def test_forward_mode_agrees_with_backward_mode(name):
    net = small(name).double()
    x, tangent, direction = pixels(name, 2).double(), pixels(name, 2).double().flip(2), torch.eye(5)[:2].double()
    _, along = torch.func.jvp(net, (x,), (tangent,))
    with forward_ad.dual_level():
        again = forward_ad.unpack_dual(net(forward_ad.make_dual(x, tangent))).tangent
    (back,) = torch.autograd.grad(net(x.requires_grad_()), x, direction)
    torch.testing.assert_close(again, along)
    torch.testing.assert_close((along * direction).sum(), (back * tangent).sum())


@pytest.mark.parametrize("name", ["code2012", "googlenet"])
def test_second_derivatives(name):
    net, x = small(name).double(), pixels(name, 1).double()

    def loss(factor):
        return net(x * factor).square().sum()

    def slope(factor):
        factor = torch.tensor(factor, dtype=torch.float64, requires_grad=True)
        return torch.autograd.grad(loss(factor), factor)[0]

    one = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(loss(one), one, create_graph=True)
    (second,) = torch.autograd.grad(first, one)
    torch.testing.assert_close(second, (slope(1 + 1e-6) - slope(1 - 1e-6)) / 2e-6, rtol=1e-4, atol=1e-8)
    torch.testing.assert_close(second, torch.func.hessian(loss)(one.detach()))


@pytest.mark.parametrize("name", ["code2012", "googlenet"])
def test_all_gradients_at_once(name):
    net, x = small(name), pixels(name, 2).requires_grad_()
    y = net(x).sum(0)
    (together,) = torch.autograd.grad(y, x, torch.eye(5), retain_graph=True, is_grads_batched=True)
    for row, one in zip(together, torch.eye(5), strict=True):
        torch.testing.assert_close(row, torch.autograd.grad(y, x, one, retain_graph=True)[0], rtol=1e-4, atol=1e-7)
