"""§3.3 against the formula, written out in float64, and against torch's own operator."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from alexnet_lib import LocalResponseNorm, normalization
from alexnet_lib.normalization import K_OF_CONVENTION, SpatialResponseNorm


def by_formula(x, convention, n, k, alpha, beta, columns=1):
    """One map at a time, as printed; x is float64 (N, C, H, W)."""
    x = x.numpy()
    result, width = np.empty_like(x), x.shape[1] // columns
    scale = alpha if convention == "paper" else alpha / n
    for i in range(x.shape[1]):
        column = i // width
        last = i + n // 2 if convention == "paper" else i - n // 2 + n - 1
        window = range(max(column * width, i - n // 2), min((column + 1) * width - 1, last) + 1)
        energy = sum((x[:, j] ** 2 for j in window), np.zeros_like(x[:, i]))
        result[:, i] = x[:, i] / (k + scale * energy) ** beta
    return torch.from_numpy(result)


@given(
    convention=st.sampled_from(list(K_OF_CONVENTION)),
    n=st.integers(1, 8),
    columns=st.integers(1, 3),
    width=st.integers(1, 7),
    alpha=st.floats(0, 2),
    beta=st.sampled_from([0.5, 0.75, 1.0, 1.75]),
    seed=st.integers(0, 99),
)
@settings(max_examples=60)
def test_output_is_the_formula(convention, n, columns, width, alpha, beta, seed):
    x = torch.from_numpy(np.random.default_rng(seed).normal(0, 3, (2, columns * width, 2, 3)))
    norm = LocalResponseNorm(convention, n=n, alpha=alpha, beta=beta, columns=columns)
    expected = by_formula(x, convention, n, K_OF_CONVENTION[convention], alpha, beta, columns)
    torch.testing.assert_close(norm(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("convention", K_OF_CONVENTION)
@pytest.mark.parametrize("n", [4, 5])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_gradient_is_that_of_the_formula(convention, n, memory):
    x = torch.from_numpy(np.random.default_rng(0).normal(0, 2, (2, 6, 3, 2))).to(memory_format=memory)
    norm = LocalResponseNorm(convention, n=n, alpha=0.3, columns=2)
    assert torch.autograd.gradcheck(norm, x.requires_grad_())


@pytest.mark.parametrize("convention", K_OF_CONVENTION)
@pytest.mark.parametrize(("n", "maps"), [(1, 70), (4, 75), (5, 96), (40, 150)])
def test_many_maps_are_summed_in_blocks(convention, n, maps):
    x = torch.from_numpy(np.random.default_rng(4).normal(0, 2, (2, 2 * maps, 2, 1))).requires_grad_()
    norm = LocalResponseNorm(convention, n=n, alpha=0.3, columns=2)
    assert maps > 2 * normalization.BLOCK
    expected = by_formula(x.detach(), convention, n, K_OF_CONVENTION[convention], 0.3, 0.75, columns=2)
    torch.testing.assert_close(norm(x), expected, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(norm, x, fast_mode=True)


@pytest.mark.parametrize(
    ("convention", "torch_alpha", "torch_k"), [("paper", 5e-4, 2), ("code2012", 1e-4, 2), ("caffe", 1e-4, 1)]
)
def test_torch_computes_the_paper_only_with_five_times_its_alpha(convention, torch_alpha, torch_k):
    x = torch.from_numpy(np.random.default_rng(1).normal(0, 60, (2, 12, 4, 4))).requires_grad_()
    theirs = torch.nn.LocalResponseNorm(5, alpha=torch_alpha, beta=0.75, k=torch_k)(x)
    ours = LocalResponseNorm(convention)(x)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    direction = torch.from_numpy(np.random.default_rng(2).normal(size=x.shape))
    gradients = [torch.autograd.grad(y, x, direction)[0] for y in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)


def test_even_windows_tell_the_paper_from_the_program():
    x = torch.ones(1, 9, 1, 1, dtype=torch.float64)
    middle = {c: LocalResponseNorm(c, n=4, alpha=1.0, beta=1.0)(x)[0, 4].item() for c in ("paper", "code2012")}
    assert middle == {"paper": pytest.approx(1 / (2 + 5)), "code2012": pytest.approx(1 / (2 + 4 / 4))}


def test_a_small_signal_shrinks_by_two_to_minus_three_quarters():
    x = torch.full((1, 8, 1, 1), 1e-6, dtype=torch.float64)
    torch.testing.assert_close(LocalResponseNorm()(x) / x, torch.full_like(x, 2**-0.75))


def test_a_column_does_not_see_the_other():
    x = torch.zeros(1, 96, 1, 1)
    x[0, 48] = 1000.0
    x[0, 47] = 1.0
    apart, together = LocalResponseNorm(columns=2)(x), LocalResponseNorm(columns=1)(x)
    assert apart[0, 47].item() == pytest.approx(2**-0.75, rel=1e-4)
    assert together[0, 47].item() < 0.1


def test_float32_is_as_exact_as_float32_can_be():
    x = torch.from_numpy(np.random.default_rng(3).normal(0, 50, (2, 96, 9, 9)))
    single = LocalResponseNorm(columns=2)(x.float()).double()
    assert ((single - LocalResponseNorm(columns=2)(x)).abs() / x.abs().clamp(min=1)).max() < 1e-6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"convention": "torch"}, "'torch'; accepted are paper, code2012, caffe"),
        ({"n": 0}, "n = 0"),
        ({"k": -1.0}, "k = -1.0"),
        ({"columns": 0}, "columns = 0"),
    ],
)
def test_impossible_constants_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        LocalResponseNorm(**arguments)


def test_maps_that_do_not_divide_into_columns_are_refused():
    with pytest.raises(ValueError, match=r"\(1, 5, 2, 2\).*divisible by 2 columns"):
        LocalResponseNorm(columns=2)(torch.zeros(1, 5, 2, 2))


@pytest.mark.parametrize("way", ["products", "compiled", "mapped"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("convention", "n", "columns", "maps"), [("paper", 5, 2, 12), ("code2012", 4, 1, 80)])
@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan"), 1e25])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_what_is_not_finite_stays_in_its_windows(way, dtype, convention, n, columns, maps, bad, monkeypatch):
    """Image i has it in map i."""
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: function)
    monkeypatch.setattr(normalization, "_compiled_functions", normalization._compiled_functions.__wrapped__)
    clean = torch.from_numpy(np.random.default_rng(0).normal(0, 9, (1, maps, 1, 2))).to(dtype).repeat(maps, 1, 1, 1)
    x = clean.clone()
    x[range(maps), range(maps), 0, 1] = bad
    norm = LocalResponseNorm(convention, n=n, columns=columns, alpha=0.01, compiled=way == "compiled")
    if way == "mapped":
        norm = torch.func.vmap(norm, in_dims=3, out_dims=3)
    (y, slope), (clean_y, clean_slope) = (
        (y.detach(), torch.autograd.grad(y, x, torch.ones_like(x))[0])
        for x in (x.requires_grad_(), clean.requires_grad_())
        for y in [norm(x)]
    )
    expected = by_formula(x.detach().double(), convention, n, K_OF_CONVENTION[convention], 0.01, 0.75, columns)
    close = {"rtol": 2.0 * torch.finfo(dtype).eps ** 0.9, "atol": 1e-6, "equal_nan": True}
    torch.testing.assert_close(y.double(), expected, **close)
    place, width = np.arange(maps), maps // columns
    far = (abs(place[:, None] - place) > 2 * n) | (place[:, None] // width != place // width)
    torch.testing.assert_close(slope[far], clean_slope[far], rtol=0, atol=2 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("maps", [12, 80, 150])
def test_what_is_not_finite_in_the_last_map_alone_stays_in_its_window(maps):
    x = torch.ones(1, maps, 1, 1)
    x[0, -1] = float("inf")
    y = LocalResponseNorm("paper", n=5, alpha=1.0)(x)[0, :, 0, 0]
    assert y[: maps - 3].isfinite().all() and (y[maps - 3 : maps - 1] == 0).all() and y[-1].isnan()


def test_vectors_of_maps_are_normalised_as_maps_of_one_unit():
    x = torch.from_numpy(np.random.default_rng(5).normal(0, 9, (3, 8)))
    norm = LocalResponseNorm(columns=2, alpha=0.1)
    assert torch.equal(norm(x), norm(x[:, :, None, None])[:, :, 0, 0])


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("norm", [LocalResponseNorm("code2012", columns=2), SpatialResponseNorm(3, 1e-3)])
def test_float16_is_as_exact_as_it_can_be(norm, compiled, monkeypatch):
    """Squares of more than 255 are beyond its range: they were infinite, and the outputs 0 or NaN."""
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: function)
    monkeypatch.setattr(norm, "compiled", compiled, raising=False)
    x = torch.from_numpy(np.random.default_rng(0).normal(0, 2000, (2, 12, 5, 4))).half()
    for way in (norm, lambda x: torch.func.vmap(norm)(x[:, None])[:, 0]):
        half, exact = (x.clone().to(dtype).requires_grad_() for dtype in (torch.float16, torch.float64))
        found, expected = way(half), norm(exact)
        assert found.dtype == torch.float16 and (found != 0).all()
        torch.testing.assert_close(found.double(), expected, rtol=2**-10, atol=0)
        slopes = [torch.autograd.grad(y, z, torch.ones_like(y))[0] for y, z in ((found, half), (expected, exact))]
        torch.testing.assert_close(slopes[0].double(), slopes[1], rtol=2**-10, atol=2**-20)


@pytest.mark.parametrize(
    "norm",
    [
        LocalResponseNorm("paper", n=4, alpha=0.3, columns=2),
        LocalResponseNorm("code2012", n=4, alpha=0.3, beta=0.5),
        LocalResponseNorm("caffe", n=5, alpha=0.3, columns=2, compiled=True),
        SpatialResponseNorm(3, 0.7),
    ],
)
def test_second_derivatives_are_those_of_the_formula(norm, monkeypatch):
    """They were zero, without a word."""
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: function)
    x = torch.from_numpy(np.random.default_rng(0).normal(0, 2, (2, 6, 2, 3))).requires_grad_()
    assert torch.autograd.gradcheck(norm, x, fast_mode=True)
    assert torch.autograd.gradgradcheck(norm, x, fast_mode=True)
    (slope,) = torch.autograd.grad(norm(x).pow(2).sum(), x, create_graph=True)
    assert torch.autograd.grad(slope.sum(), x)[0].abs().min() > 0


@pytest.mark.parametrize("constant", ["k", "alpha", "beta"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_constants_are_finite(constant, value):
    for norm in (LocalResponseNorm, lambda **given: SpatialResponseNorm(3, **{"alpha": 1.0} | given)):
        with pytest.raises(ValueError, match=f"{constant} = {value}"):
            norm(**{constant: value})


@given(size=st.sampled_from([1, 3, 5]), alpha=st.floats(0, 2), k=st.sampled_from([1.0, 2.0]), seed=st.integers(0, 99))
@settings(max_examples=30)
def test_same_map_norm_is_its_formula(size, alpha, k, seed):
    """One unit at a time; the sum over the part of the square inside the map is divided by all of the square."""
    x = np.random.default_rng(seed).normal(0, 3, (1, 2, 4, 6))
    expected = np.empty_like(x)
    for row in range(4):
        for column in range(6):
            rows = slice(max(0, row - size // 2), row + size // 2 + 1)
            window = x[:, :, rows, max(0, column - size // 2) : column + size // 2 + 1]
            energy = (window**2).sum((2, 3))
            expected[:, :, row, column] = x[:, :, row, column] / (k + alpha / size**2 * energy) ** 0.75
    norm = SpatialResponseNorm(size, alpha, k=k)
    torch.testing.assert_close(norm(torch.from_numpy(x)), torch.from_numpy(expected), rtol=1e-12, atol=1e-12)


def test_same_map_norm_adds_one_to_the_energy_unless_told_otherwise():
    x = torch.full((1, 1, 1, 1), 3.0, dtype=torch.float64)
    assert SpatialResponseNorm(1, 2.0)(x).item() == pytest.approx(3 / (1 + 2 * 9) ** 0.75, rel=1e-12)


def test_same_map_norm_has_the_gradient_of_its_formula():
    x = torch.from_numpy(np.random.default_rng(2).normal(0, 2, (2, 3, 6, 5))).requires_grad_()
    assert torch.autograd.gradcheck(SpatialResponseNorm(5, 0.7), x)
    assert torch.autograd.gradcheck(SpatialResponseNorm(3, 0.2, beta=0.5, k=2.0), x)


@pytest.mark.parametrize("changes", [{"size": 4}, {"size": 0}, {"alpha": -1.0}, {"k": 0.0}])
def test_impossible_same_map_norms_are_refused(changes):
    with pytest.raises(ValueError, match="accepted are odd|k above 0 and alpha not below 0"):
        SpatialResponseNorm(**{"size": 5, "alpha": 1e-3} | changes)


@pytest.mark.parametrize(
    ("convention", "n", "reach"), [("paper", 4, (2, 2)), ("code2012", 4, (2, 1)), ("caffe", 5, (2, 2))]
)
def test_what_a_kernel_is_told_is_what_the_formula_takes(convention, n, reach):
    """The window around a map in the middle, and the factor on its energy, read from an output."""
    norm = LocalResponseNorm(convention, n=n, alpha=0.8, beta=1.0)
    *found, k, scale = normalization.reach_and_scale(norm)
    assert tuple(found) == reach and k == K_OF_CONVENTION[convention]
    y = norm(torch.ones(1, 11, 1, 1, dtype=torch.float64))[0, 5]
    assert 1 / y.item() == pytest.approx(k + scale * (1 + sum(reach)), rel=1e-12)


def test_a_printed_net_names_its_columns_where_it_has_some():
    assert repr(LocalResponseNorm("paper")) == "LocalResponseNorm(paper, n=5, k=2, alpha=0.0001, beta=0.75)"
    assert repr(LocalResponseNorm("caffe", columns=2)).endswith("k=1, alpha=0.0001, beta=0.75, columns=2)")
    assert repr(SpatialResponseNorm(5, 1e-3)) == "SpatialResponseNorm(5 × 5, alpha=0.001, beta=0.75, k=1)"


class Asked(TorchDispatchMode):
    """Counts what is asked of torch: operations by name, such as "mm" for the product of two matrices."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.counts[operation.overloadpacket.__name__] += 1
        return operation(*args, **(kwargs or {}))


def asked(x, norm=None, gradient=False):
    """What one pass over x asks of torch, or its gradient."""
    norm = norm or LocalResponseNorm("code2012")
    x = x.requires_grad_(gradient)
    with torch.set_grad_enabled(gradient), Asked() as forward:
        y = norm(x)
    if not gradient:
        return forward.counts
    with Asked() as backward:
        torch.autograd.grad(y, x, torch.ones_like(y))
    return backward.counts


@pytest.fixture
def threads():
    """Sets their number for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def with_units(monkeypatch):
    """As on a processor that computes in bfloat16; tests/test_bfloat16.py has the others."""
    monkeypatch.setattr(normalization, "emulates_bf16", lambda *_: False)


@pytest.mark.usefixtures("with_units")
@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize(
    ("images", "units", "count", "pieces"),
    [(45, 729, 1, 3), (45, 729, 2, 2), (44, 729, 2, 1), (16, 4096, 1, 4), (2, 32768, 1, 2), (3, 9000, 1, 3)],
)
def test_a_cpu_is_given_as_many_images_at_a_time_as_stay_in_its_cache(images, units, count, pieces, gradient, threads):
    """4 MiB for each thread. An image has 64 maps, of 4 bytes a unit; the sums of a piece are one product."""
    threads(count)
    assert asked(torch.ones(images, 64, units, 1), gradient=gradient)["mm"] == pieces
    assert asked(torch.ones(images, 64, units, 1, dtype=torch.bfloat16), gradient=gradient)["mm"] == 1


@pytest.mark.parametrize(("maps", "products"), [(64, 1), (65, 3), (96, 3), (97, 4)])
def test_of_many_maps_each_32_are_summed_by_a_product(maps, products):
    assert asked(torch.ones(1, maps, 2, 2))["mm"] == products


def test_three_quarters_are_taken_by_roots_and_other_powers_by_pow():
    """Which is many times slower. benchmarks/lrn.py has the times."""
    x = torch.ones(1, 4, 2, 2)
    for gradient in (False, True):
        assert asked(x, gradient=gradient).keys() >= {"rsqrt", "sqrt"}
        assert "pow" not in asked(x, gradient=gradient)
        assert asked(x, LocalResponseNorm(beta=0.5), gradient)["pow"] == 1


@pytest.mark.usefixtures("with_units")
@pytest.mark.parametrize(("dtype", "products"), [(torch.float32, 0), (torch.bfloat16, 1), (torch.float64, 0)])
def test_what_is_compiled_sums_by_shifted_copies_and_bfloat16_by_a_product(dtype, products, monkeypatch):
    """Once forward, where there is a gradient to come, and once back."""
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: function)
    functions = normalization._compiled_functions.__wrapped__("cpu", dtype)
    monkeypatch.setattr(normalization, "_compiled_functions", lambda *_: functions)
    x = torch.ones(1, 80, 2, 2, dtype=dtype).requires_grad_()
    with Asked() as forward:
        y = LocalResponseNorm("code2012", compiled=True)(x)
    with Asked() as backward:
        torch.autograd.grad(y, x, torch.ones_like(y))
    assert (forward.counts["mm"], backward.counts["mm"]) == (products, products)
