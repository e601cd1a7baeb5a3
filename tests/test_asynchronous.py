"""Stale gradients and averaged weights, against what can be computed."""

import numpy as np
import pytest

from alexnet_lib.study.asynchronous import (
    gain_of_averaging,
    largest_rate,
    noisy_descent,
    parameter_server,
    stale_descent,
)


@pytest.mark.parametrize("staleness", [0, 1, 3, 10])
def test_the_largest_rate_divides_shrinking_from_growing(staleness):
    limit = largest_rate(staleness, curvature=3.0)
    below, above = (np.abs(stale_descent(f * limit, staleness, 4000, 3.0)) for f in (0.99, 1.01))
    assert below[-50:].max() < 0.2 and above[-50:].max() > 2
    roots = np.roots([1, -1, *[0] * (staleness - 1), 3 * limit] if staleness else [1, -1 + 3 * limit])
    assert np.abs(roots).max() == pytest.approx(1, abs=1e-9)


def test_one_worker_is_ordinary_descent():
    table = parameter_server(1, 0.3, 50)
    assert (table["staleness"] == 0).all()
    np.testing.assert_allclose(table["weight"], 0.7 ** np.arange(1, 51))


def test_staleness_is_the_number_of_the_others():
    table = parameter_server(8, 0.01, 4000)
    assert table["staleness"].iloc[100:].mean() == pytest.approx(7, abs=0.05)
    assert parameter_server(8, 0.01, 400, spread=0.0)["staleness"].iloc[8:].eq(7).all()


def test_the_average_is_that_of_the_second_half():
    table = noisy_descent(0.2, 100)
    assert table["average"].iloc[-1] == pytest.approx(table["weight"].iloc[50:].mean())
    assert table["average"].iloc[:50].equals(table["weight"].iloc[:50])


def test_the_variance_without_averaging_is_the_known_one():
    ends = [noisy_descent(0.2, 200, seed=seed)["weight"].iloc[-1] for seed in range(400)]
    assert np.var(ends) == pytest.approx(0.2 / (2 - 0.2), rel=0.2)


def test_averaging_gains_much():
    assert gain_of_averaging(runs=40) > 20
