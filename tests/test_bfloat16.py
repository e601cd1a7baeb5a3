"""runs/bfloat16: on a processor without units for bfloat16 its products are computed in float32 and rounded."""

import numpy as np
import pytest
import small_runs
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet_lib import LocalResponseNorm, alexnet
from alexnet_lib.learning import PaperSGD
from alexnet_lib.runs import bfloat16
from alexnet_lib.runs.bfloat16 import MultipliedInFloat32, arithmetic_in
from alexnet_lib.study import probes
from alexnet_lib.training import train

HALF_A_PLACE = 2.0**-8  # what rounding to eight binary digits may cost, as a share


@pytest.fixture
def without_units(monkeypatch):
    monkeypatch.setattr(bfloat16, "computes_in_bf16", lambda device: False)


@pytest.fixture
def dtypes(monkeypatch):
    """The kinds of number that products were computed in, as they come."""
    seen = []

    class Watched(MultipliedInFloat32):
        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            found = super().__torch_dispatch__(operation, types, args, kwargs)
            if operation in bfloat16.PRODUCTS:
                seen.append(str(operation))
            return found

    monkeypatch.setattr(bfloat16, "MultipliedInFloat32", Watched)
    return seen


def bf16(rng, *shape):
    return torch.from_numpy(rng.standard_normal(shape)).bfloat16()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 300), st.integers(1, 40))
def test_a_product_is_that_of_float64_rounded_once(seed, rows, inner, columns):
    rng = np.random.default_rng(seed)
    a, b, bias = bf16(rng, rows, inner), bf16(rng, inner, columns), bf16(rng, columns)
    exact, size = a.double() @ b.double() + bias.double(), a.double().abs() @ b.double().abs() + bias.double().abs()
    with MultipliedInFloat32():
        found = {"addmm": torch.addmm(bias, a, b), "linear": F.linear(a, b.T, bias), "matmul": a @ b + 0 * bias}
    for name in ("addmm", "linear"):
        assert found[name].dtype == torch.bfloat16
        slack = HALF_A_PLACE * exact.abs() + inner * 2.0**-23 * size  # the sums are of float32
        assert ((found[name].double() - exact).abs() <= slack).all()
    assert torch.equal(found["matmul"], (a.float() @ b.float()).bfloat16())


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([1, 2]), st.integers(1, 3), st.integers(0, 2), st.booleans())
def test_a_convolution_and_its_gradients_are_those_of_float32_rounded(seed, groups, stride, padding, biased):
    rng = np.random.default_rng(seed)
    x, weight = bf16(rng, 2, 4, 7, 7).requires_grad_(), bf16(rng, 6, 4 // groups, 3, 3).requires_grad_()
    bias = bf16(rng, 6).requires_grad_() if biased else None
    operands = [each for each in (x, weight, bias) if each is not None]
    wide = [each.detach().float().requires_grad_() for each in operands]
    with MultipliedInFloat32():
        y = F.conv2d(x, weight, bias, stride, padding, groups=groups)
        grad = bf16(rng, *y.shape)
        y.backward(grad)
    expected = F.conv2d(*wide, *[None] * (not biased), stride, padding, groups=groups)
    expected.backward(grad.float())
    assert torch.equal(y, expected.bfloat16())
    for found, exact in zip(operands, wide, strict=True):
        assert torch.equal(found.grad, exact.grad.bfloat16())


def test_what_is_not_bfloat16_is_left_alone():
    rng = np.random.default_rng(0)
    a, b = (torch.from_numpy(rng.standard_normal((5, 5))) for _ in range(2))
    expected = [a @ b, a.float() @ b.float(), a.half() + b.half()]
    with MultipliedInFloat32():
        found = [a @ b, a.float() @ b.float(), a.half() + b.half()]
    for ours, own in zip(found, expected, strict=True):
        assert ours.dtype == own.dtype and torch.equal(ours, own)


def test_a_step_of_alexnet_is_near_that_of_torchs_own_bfloat16():
    rng, found = np.random.default_rng(0), {}
    x, labels = torch.from_numpy(rng.standard_normal((4, 3, 64, 64))).float(), torch.arange(4)
    for precision, within in (("fp32", None), ("bf16", None), ("bf16", MultipliedInFloat32())):
        net = alexnet("paper", 4, seed=0, width=0.125, image_size=64, dropout=0.0)
        with within or arithmetic_in("cpu", "fp32"):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                logits = net(x)
            F.cross_entropy(logits.float(), labels).backward()
        found[precision, within is None] = torch.cat([p.grad.flatten() for p in net.parameters()])
    exact, own, ours = found["fp32", True], found["bf16", True], found["bf16", False]
    error = (own - exact).norm()
    assert 0 < (ours - exact).norm() < 1.5 * error  # rounded no more than torch rounds
    assert not torch.equal(ours, exact)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("grad", [False, True])
def test_the_normalisation_is_rounded_once(without_units, compiled, grad):
    """As with the units, where torch.compile leaves nothing between its products in bfloat16."""
    x = (60 * bf16(np.random.default_rng(0), 2, 96, 5, 5)).relu().requires_grad_(grad)
    norm, wide = LocalResponseNorm(compiled=compiled), x.detach().double().requires_grad_(grad)
    with MultipliedInFloat32(), torch.autocast("cpu", torch.bfloat16):
        found = norm(x)
    exact = LocalResponseNorm()(wide)
    assert found.dtype == torch.bfloat16
    assert torch.allclose(found.double(), exact, rtol=1.01 * HALF_A_PLACE, atol=0)
    if grad:
        found.backward(torch.ones_like(found))
        exact.backward(torch.ones_like(exact))
        assert torch.allclose(x.grad.double(), wide.grad, rtol=1.01 * HALF_A_PLACE, atol=1e-4)


@pytest.mark.parametrize(
    ("capabilities", "units"),
    [
        ({"avx2": True}, False),
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"architecture": "arm64", "bf16": False}, False),
        ({"architecture": "arm64", "bf16": True}, True),
    ],
)
def test_units_are_known_by_the_names_of_their_processors(monkeypatch, capabilities, units):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert bfloat16.computes_in_bf16("cpu") == units


@pytest.mark.parametrize("units", [False, True])
def test_it_is_used_only_where_there_are_no_units(monkeypatch, units):
    monkeypatch.setattr(bfloat16, "computes_in_bf16", lambda device: units)
    asked = [arithmetic_in("cpu", "bf16"), arithmetic_in("cpu", "fp32"), arithmetic_in("cuda:0", "bf16")]
    assert [isinstance(each, MultipliedInFloat32) for each in asked] == [not units, False, False]


def test_a_run_in_bfloat16_has_all_its_products_that_way(place, without_units, dtypes):
    record = train(small_runs.settings(epochs=1, precision="bf16"))
    assert record.config["precision"] == "bf16"
    assert {"aten.convolution.default", "aten.convolution_backward.default", "aten.addmm.default"} <= set(dtypes)
    again = train(small_runs.settings(epochs=1, precision="bf16", experiment="again"))
    assert again.history.equals(record.history)
    dtypes.clear()
    train(small_runs.settings(epochs=1))
    assert not dtypes


def test_nothing_is_called_compiled_where_torchs_compiler_steps_aside(place, without_units, monkeypatch):
    monkeypatch.setattr("alexnet_lib.runs.launch.has_allocator", lambda: True)
    assert train(small_runs.settings(epochs=1, speed="fast", precision="bf16")).summary["compiled"] is False


def test_a_probes_update_too(without_units, dtypes):
    net = alexnet("paper", 4, seed=0, width=0.125, image_size=64)
    probes.update(net, PaperSGD(net.parameters(), 0.01), torch.ones(2, 3, 64, 64), torch.arange(2), bf16=True)
    assert "aten.convolution_backward.default" in dtypes
