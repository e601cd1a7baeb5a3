"""What the ledger computes: the counts against numbers known otherwise, the rules against torch."""

import numpy as np
import pandas as pd
import pytest
import torch

from alexnet_lib import learning
from alexnet_lib.architecture import alexnet
from alexnet_lib.augmentation import IMAGENET_PCA
from alexnet_lib.learning import PlateauRule
from alexnet_lib.ledger import measures
from alexnet_lib.ledger.counts import parameters
from alexnet_lib.ledger.measures import MEASURES
from alexnet_lib.study.probes import search_speedup


def measured(name, *arguments):
    return MEASURES[name](*arguments)


def test_parameters_are_those_of_the_fact_sheet_and_of_the_live_net():
    assert [parameters(n) for n in ("paper", "one_gpu", "six_conv")] == [60_965_224, 59_798_312, 61_555_304]
    assert parameters("paper", "1e6") == pytest.approx(60.965224)
    assert measured("parameter_ratio", "one_gpu", "paper") == pytest.approx(0.981, abs=5e-4)
    assert sum(p.numel() for p in alexnet("paper", seed=0).parameters()) == parameters()


def test_sizes_are_those_of_the_fact_sheet():
    assert measured("all_neurons") == 659_272 and measured("neurons", "conv1") == 290_400
    assert [measured("kernel_inputs", f"conv{i}") for i in range(1, 6)] == [363, 1200, 2304, 1728, 1728]
    assert measured("kernels") == 1376 and measured("maps", "conv3") == 384 and measured("maps", "fc8") == 1000
    assert measured("inputs_of", "fc6") == 256 * 6 * 6 and measured("input_values") == 150_528
    assert measured("largest_share") == pytest.approx(100 * 885_120 / 60_965_224)


def test_layers_are_counted():
    assert [measured("layers", kind) for kind in ("conv", "fc", "norm", "drop")] == [5, 3, 2, 2]
    assert measured("learned_layers") == 8 and measured("rectified") == 7 and measured("norms_before_relu") == 1
    assert [measured("norm_constant", name) for name in ("k", "n", "beta")] == [2, 5, 0.75]


def test_work_and_memory():
    assert measured("gpu_work") == pytest.approx(362.2 / 391.5, abs=2e-4)
    assert measured("share_of_peak") == pytest.approx(0.31, abs=0.005)
    assert 2.4 < measured("memory_gib") < 3


def test_which_column_sees_which():
    assert [measured("connected", f"conv{i}") for i in range(2, 6)] == [0.5, 1, 0.5, 0.5]
    assert measured("both_columns") == 1 and measured("data_layers") == 2
    assert measured("forgotten_split") == 62_378_344 - 60_965_224


def test_our_rule_is_the_printed_one_and_torchs_is_not():
    assert measured("rule_error") < 1e-12 < 0.1 < measured("torch_rule_error")


def test_the_printed_path_starts_with_a_step_by_hand():
    np.testing.assert_allclose(measures.printed_path()[0], 1 - 0.0005 * 0.01 - 0.01, rtol=1e-15)


def test_dropout_counts():
    assert measured("different_masks") == 128 and measured("test_factor") == 0.5
    assert measured("silent_share") == pytest.approx(0.5, abs=0.002)
    assert measures.taught_when_silent() == measures.silenced_weights() == 0
    assert measured("factor_of_inverted_dropout") == 2


def test_dropout_is_a_penalty_for_a_linear_unit_only():
    assert measured("penalty_of_linear_dropout") < 1e-9 < 0.05 < measured("penalty_of_relu_dropout")


def test_halving_is_exact_for_one_layer_and_close_for_two():
    assert measures.halving_one_layer() < 1e-12 < measured("halving_two_layers") < 0.05


def test_biases_of_one_switch_the_units_on(monkeypatch):
    assert measures.positive_inputs("1") > 0.8
    assert measures.positive_inputs("0") == pytest.approx(0.5, abs=0.05)
    assert measured("layers_with_bias") == 5
    monkeypatch.setattr(learning, "initial_bias", lambda *_: 0.0)
    assert measured("layers_with_bias") == 0


def test_the_plateau_rule_drops_the_rate_as_often_as_the_log():
    rule = PlateauRule()
    rates = {rule.rate}
    while (rate := rule.step(1.0)) is not None:
        rates.add(rate)
    assert len(rates) - 1 == measured("logged_drops") == 3


def test_first_weights():
    assert [measured("largest_std", rule) for rule in ("printed", "code2012")] == [0.01, 0.03]


def test_measuring_leaves_the_random_numbers_alone():
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    measured("silent_share"), measured("different_masks"), measures.taught_when_silent()
    assert torch.equal(before, torch.random.get_rng_state())


def test_views_and_errors():
    assert measures.patches() == 10 and measures.top5_by_sorting() < 1e-12


def test_means_and_colours():
    assert measures.left_of_mean() < 0.01 and 4 < measured("spread_of_mean_image") < 11
    assert measured("shift_of_first_axis") ** 2 == pytest.approx(IMAGENET_PCA.eigenvalues[0], rel=0.001)
    assert measured("copied_constants") == pytest.approx(0.2175 / (121.78 / 255), rel=1e-3)


def test_a_softmax_takes_from_the_others():
    e = torch.tensor(1.0).exp().item()
    assert measured("taken_from_others") == pytest.approx(2 / 3 - 2 / (2 + e), rel=1e-5)


def test_torchs_normalisation_with_the_printed_constants_is_far_off():
    assert measures.torch_norm_error() > 0.1


def test_a_kept_search_is_read_by_its_bits(tmp_path):
    (tmp_path / "seconds.csv").write_text("bits,times\n64,6.5\n256,5.0\n")
    assert [search_speedup(bits, tmp_path / "seconds.csv") for bits in ("64", "256")] == [6.5, 5.0]


def test_readers_slips_are_counted_where_they_point():
    assert MEASURES["channels_seen"]("conv4") == 192 and MEASURES["channels_seen"]("conv3") == 256
    assert MEASURES["rows_with_both_errors"]() == 2  # five nets, and seven


def test_printed_errors_are_read_by_row_and_column():
    assert measured("table_1", "CNN", "1") == 37.5


def test_what_convolutions_and_columns_save():
    assert measured("dense_ratio") == pytest.approx(64_896 * 64_896 / 885_120 * 256 / 384)  # conv3
    values = {"pool1": 96 * 27**2, "pool2": 256 * 13**2, "conv3": 64_896, "conv4": 64_896, "pool5": 9216, "fc": 8192}
    crossing = values["pool2"] + values["pool5"] + values["fc"]
    assert measured("fewer_crossing") == pytest.approx(sum(values.values()) / crossing)


def test_the_input_and_the_objective():
    assert measured("first_column_kept") == 128 and measured("own_shifts") == 64
    assert measured("objective_error") < 1e-12


def test_logs_are_counted():
    assert measured("share_on_2010") == pytest.approx(1 / 3)
    assert measured("out_of_order_logged") == 0


def test_the_neighbours_that_stand_worst_are_compared_seed_by_seed(monkeypatch):
    lost = {"a": [3.0, 5.0, 4.0], "b": [1.0, 1.0, 1.0], "c": [2.0, 1.5, 0.5, 9.0]}  # the last has a seed more
    monkeypatch.setattr(measures.ablations, "gains", lambda dataset, variant: pd.DataFrame({"top-1": lost[variant]}))
    assert measures.worst_placed("imagenette73", "top-1", *"abc") == pytest.approx((-1 / 3, 0.7638, 3), abs=1e-3)
    assert measures.worst_placed("imagenette73", "top-1", *"ab") == pytest.approx((3.0, 1.0, 3))


def test_kernels_are_selective_for_an_orientation_where_noise_and_blobs_are_not(monkeypatch):
    """Also where the noise is blurred, whose spectrum is sharper than that of white noise."""
    assert 0.2 < measured("selective_kernels") < 0.5
    generator, (y, x) = np.random.default_rng(1), np.mgrid[-5:6, -5:6]
    noise = generator.standard_normal((96, 3, 11, 11))
    blurred = sum(np.roll(noise, shift, (2, 3)) for shift in [(0, 0), (0, 1), (1, 0), (1, 1)])
    blobs = np.exp(-((x**2 + y**2)[None, None] / generator.uniform(4, 16, (96, 1, 1, 1)))).repeat(3, 1)
    stripes = np.cos(2 * np.pi * 2 * np.arange(11) / 11) + np.zeros((96, 3, 11, 11))
    edges = np.sign(np.cos(angle := 0.4) * x + np.sin(angle) * y) + np.zeros((96, 3, 11, 11))
    for kernels, least, most in ((noise, 0, 0.15), (blurred, 0, 0.25), (blobs, 0, 0), (stripes, 1, 1), (edges, 1, 1)):
        monkeypatch.setattr(measures.trained, "full_size_kernels", lambda kernels=kernels: kernels)
        assert least <= measured("selective_kernels") <= most


def test_googlenet_is_counted():
    assert measured("inception_growth") == 4 and measured("least_reduced") == pytest.approx(2.37, abs=0.01)
    assert measured("table_1_sum") == 1502 and measured("iterations_to_first_drop") == 75_000
    assert measured("head", "drop", "p") == 0.7 and measured("dropout_before_classifier") == 0.4
    assert measured("heads_after_training") == 0 and measured("norms_of_googlenet") == 2
    assert measured("crops_drawn", "filter") < 0.01 and measured("crops_drawn", "smallest") == pytest.approx(
        0.08, abs=0.005
    )
