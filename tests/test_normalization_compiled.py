"""§3.3 through torch.compile: the same numbers where there is a compiler, and where there is none."""

import numpy as np
import pytest
import torch

from alexnet_lib import LocalResponseNorm, normalization


@pytest.fixture(autouse=True)
def forget():
    """Whether the compiler works is asked anew by each test."""
    normalization._compiled_functions.cache_clear()
    yield
    normalization._compiled_functions.cache_clear()


def both_ways(norm, dtype=torch.float32, memory=torch.contiguous_format):
    x = torch.from_numpy(np.random.default_rng(0).normal(0, 60, (2, 12, 5, 4))).to(dtype, memory_format=memory)
    y = norm(x.requires_grad_())
    return y.double(), torch.autograd.grad(y.square().sum(), x)[0].double()


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize(("convention", "n"), [("paper", 4), ("code2012", 4), ("caffe", 5)])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_compiled_and_plain_agree_with_float64(columns, convention, n, memory, monkeypatch):
    """What is given to the compiler, without it: it takes long. benchmarks/lrn.py has it, and its errors."""
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: function)
    choices = {"convention": convention, "n": n, "columns": columns, "alpha": 0.01}
    compiled = both_ways(LocalResponseNorm(**choices, compiled=True), memory=memory)
    exact = both_ways(LocalResponseNorm(**choices), torch.float64)
    for found, expected in zip(compiled, exact, strict=True):
        assert (found - expected).abs().max() < 1e-6 * expected.abs().max()
    assert normalization.can_compile("cpu", torch.float32)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("columns", [1, 2])
def test_bfloat16_is_as_exact_as_it_can_be(compiled, columns, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: function)
    found = both_ways(LocalResponseNorm("code2012", columns=columns, alpha=0.01, compiled=compiled), torch.bfloat16)
    x = torch.from_numpy(np.random.default_rng(0).normal(0, 60, (2, 12, 5, 4))).bfloat16().double().requires_grad_()
    assert not compiled or normalization.can_compile("cpu", torch.bfloat16)  # else it would be the plain one
    y = LocalResponseNorm("code2012", columns=columns, alpha=0.01)(x)
    # the gradient of what was handed on, which is rounded to eight bits
    expected = y, torch.autograd.grad(y, x, 2 * found[0])[0]
    for own, exact in zip(found, expected, strict=True):
        assert (own - exact).norm() < 2**-6 * exact.norm()


@pytest.mark.parametrize("which", ["_response", "_share", "_gradient"])
def test_without_a_compiler_it_is_the_plain_one_and_says_so_once(which, monkeypatch, recwarn, capfd):
    """One function of three that it can't compile is as good as none."""

    def broken(function, **options):
        def call(*arguments):
            raise RuntimeError("no compiler")

        return call if function.__name__ == which else function

    monkeypatch.setattr(torch, "compile", broken)
    compiled, plain = (both_ways(LocalResponseNorm("code2012", compiled=way)) for way in (True, False))
    assert all(torch.equal(a, b) for a, b in zip(compiled, plain, strict=True))
    (said,) = recwarn.list
    assert "torch.compile does not work here (RuntimeError: no compiler)" in str(said.message)
    assert not normalization.can_compile("cpu", torch.float32)
    assert capfd.readouterr() == ("", "")


def test_nothing_is_compiled_unless_asked_or_to_evaluate(monkeypatch):
    monkeypatch.setattr(torch, "compile", None)
    both_ways(LocalResponseNorm("code2012"))
    with torch.no_grad():
        LocalResponseNorm("code2012", compiled=True)(torch.ones(1, 6, 2, 2))
    assert normalization._compiled_functions.cache_info().currsize == 0
