"""What readers have made of the paper: each number that refutes them, against another way to get it."""

import pytest
import torch

from alexnet_lib.architecture import skeleton
from alexnet_lib.ledger import misreadings


def test_tables_are_read_by_row_and_column():
    assert misreadings.tables("2", "1 CNN", "2") == 18.2 and misreadings.tables("1", "CNN", "1") == 37.5


def test_a_forgotten_split_costs_the_difference_of_the_nets():
    assert misreadings.forgotten_split() == 62_378_344 - 60_965_224


def test_counts_of_the_live_nets():
    assert misreadings.maps("conv3") == 384 and misreadings.maps("fc8") == 1000
    assert misreadings.layers_with("norm") == 2 and misreadings.norms_before_relu("paper") == 0
    assert misreadings.norms_before_relu("code2012") == 1
    assert [misreadings.norm_constant(name) for name in ("k", "n", "beta")] == [2, 5, 0.75]


def test_half_of_what_conv3_sees_is_the_other_towers():
    assert misreadings.other_column() == 0.5 and skeleton().conv3.groups == 1


def test_dropout_is_a_penalty_for_a_linear_unit_only():
    assert misreadings.penalty_of_linear_dropout() < 1e-9 < 0.05 < misreadings.penalty_of_relu_dropout()
    assert misreadings.silenced_weights() == 0 and misreadings.factor_of_inverted_dropout() == 2


def test_a_softmax_takes_from_the_others():
    e = torch.tensor(1.0).exp().item()
    assert misreadings.taken_from_others() == pytest.approx(2 / 3 - 2 / (2 + e), rel=1e-5)


def test_the_mean_image_is_not_one_number():
    assert misreadings.spread_of_mean_image() > 2


def test_constants_that_are_passed_around():
    assert misreadings.torch_norm_error() > 0.1
    assert misreadings.copied_constants() == pytest.approx(0.2175 / (121.78 / 255), rel=1e-3)
