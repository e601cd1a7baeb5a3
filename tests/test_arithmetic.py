"""What the paper says that needs no training: the counts against numbers known otherwise, the rules against torch."""

import numpy as np
import pytest
import torch

from alexnet_lib.architecture import alexnet
from alexnet_lib.ledger import arithmetic
from alexnet_lib.study import seen_by_data


def test_sizes_are_those_of_the_fact_sheet():
    assert [arithmetic.parameters(n) for n in ("paper", "one_gpu", "six_conv")] == [60_965_224, 59_798_312, 61_555_304]
    assert arithmetic.parameters("paper", "1e6") == pytest.approx(60.965224)
    assert arithmetic.neurons() == 659_272 and arithmetic.neurons("conv1") == 290_400
    kernels = [arithmetic.kernel_inputs(f"conv{i}") for i in range(1, 6)]
    assert kernels == [363, 1200, 2304, 1728, 1728] and arithmetic.kernel_count() == 1376
    assert arithmetic.fc6_inputs() == 256 * 6 * 6 and arithmetic.input_values() == 150_528
    assert arithmetic.largest_share() == pytest.approx(100 * 885_120 / 60_965_224)
    assert arithmetic.layer_count("learned") == 8 and arithmetic.rectified() == 7


def test_parameters_are_counted_as_the_live_net_has_them():
    net = alexnet("paper", seed=0)
    assert sum(p.numel() for p in net.parameters()) == arithmetic.parameters()


def test_work_and_memory():
    assert arithmetic.gpu_work() == pytest.approx(362.2 / 391.5, abs=2e-4)
    assert arithmetic.share_of_peak() == pytest.approx(0.31, abs=0.005)
    assert 2.4 < arithmetic.memory_gib() < 3
    assert arithmetic.parameter_ratio("one_gpu", "paper") == pytest.approx(0.981, abs=5e-4)


def test_who_sees_whom():
    assert [arithmetic.connected(f"conv{i}") for i in range(2, 6)] == [0.5, 1, 0.5, 0.5]
    assert arithmetic.both_columns() == 1 and seen_by_data() == 1


def test_the_rule_is_printed_and_torchs_is_torchs():
    weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = torch.optim.SGD([weight], lr=0.01, momentum=0.9, weight_decay=5e-4)
    theirs = []
    for rate in arithmetic.RATES:
        optimizer.param_groups[0]["lr"] = rate
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        theirs.append(weight.item())
    np.testing.assert_allclose(arithmetic.path_of_rule(as_torch=True), theirs, rtol=1e-12)
    assert arithmetic.rule_error() < 1e-12 < 0.1 < arithmetic.torch_rule_error()


def test_dropout_counts():
    assert arithmetic.dropout_layers() == 2 and arithmetic.different_masks() == 128
    assert arithmetic.silent_share() == pytest.approx(0.5, abs=0.002)
    assert arithmetic.test_factor() == 0.5 and arithmetic.taught_when_silent() == 0


def test_biases_of_one_switch_the_units_on():
    assert arithmetic.positive_inputs("1") > 0.85
    assert arithmetic.positive_inputs("0") == pytest.approx(0.5, abs=0.05)
    assert arithmetic.layers_with_bias() == 5


def test_schedule_and_first_weights():
    assert arithmetic.rate_drops() == arithmetic.logged_drops() == 3
    assert (arithmetic.largest_std("printed"), arithmetic.largest_std("code2012")) == (0.01, 0.03)


def test_measuring_leaves_the_random_numbers_alone():
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    arithmetic.silent_share(), arithmetic.different_masks(), arithmetic.taught_when_silent()
    assert torch.equal(before, torch.random.get_rng_state())


def test_views_errors_and_colours():
    assert arithmetic.patches() == 10 and arithmetic.top5_by_sorting() < 1e-12
    assert arithmetic.left_of_mean() < 0.01
    assert arithmetic.shift_of_first_axis() ** 2 == pytest.approx(arithmetic.printed_shift(), rel=0.001)
