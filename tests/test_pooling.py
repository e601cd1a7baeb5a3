"""§3.4: windows that overlap, windows that do not, and how sure a small difference is."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_runs import NAME, prepare_place, settings

from alexnet_lib import alexnet
from alexnet_lib.architecture import POOLINGS, Pooling, layer_shapes, skeleton
from alexnet_lib.dataset import load_dataset
from alexnet_lib.evaluation import mean_of
from alexnet_lib.study import pooling
from alexnet_lib.study.anatomy import trace
from alexnet_lib.study.pooling import credit, paired_standard_error, side_after, sides, standard_error, unseen
from alexnet_lib.training import train


@given(st.integers(3, 60), st.sampled_from([2, 3]), st.booleans())
def test_sides_are_those_of_torch(side, window, ceil):
    made = torch.nn.MaxPool2d(window, 2, ceil_mode=ceil)(torch.zeros(1, side, side))
    assert side_after(side, Pooling(window, ceil)) == made.shape[-1]


@pytest.mark.parametrize("name", POOLINGS)
@pytest.mark.parametrize("image_size", [224, 64])
def test_sides_are_those_of_the_builder(name, image_size):
    shapes = layer_shapes(skeleton(pooling=name, image_size=image_size), image_size)
    expected = {layer: shape[1] for layer, shape in shapes.items() if layer.startswith(("conv", "pool"))}
    assert sides(POOLINGS[name], expected["conv1"]) == expected


def test_equal_sizes_rounding_down_and_unequal_rounding_up():
    assert [sides(POOLINGS["non_overlapping"])[layer] for layer in ("pool1", "pool2", "pool5")] == [27, 13, 6]
    assert pooling.equal_sides() == 3
    assert sides(pooling.UNPADDED_2012)["pool5"] == 7


def test_run_147_is_as_logged():
    assert list(sides(POOLINGS["run147"]).values()) == [55, 28, 26, 13, 13, 13, 11, 6]


@pytest.mark.parametrize("side", [3, 4, 7, 13, 55])
@pytest.mark.parametrize("name", POOLINGS)
def test_unseen_units_get_no_credit_in_any_order(side, name):
    chosen, generator = np.zeros((side, side)), np.random.default_rng(0)
    made = torch.nn.MaxPool2d(POOLINGS[name].window, 2, ceil_mode=POOLINGS[name].ceil)
    for _ in range(60):
        units = torch.tensor(generator.permutation(side**2).reshape(1, side, side) + 1.0, requires_grad=True)
        made(units).sum().backward()
        chosen += units.grad[0].numpy()
    margin = side - round(side * (1 - unseen(side, POOLINGS[name])) ** 0.5)
    assert not chosen[side - margin :].any() and chosen[: side - margin, 0].sum() > 0


@given(st.integers(0, 10_000), st.sampled_from([2, 3, 4]))
def test_credit_is_one_for_each_window(seed, window):
    grid = np.random.default_rng(seed).permutation(81).reshape(9, 9)
    shares = credit(grid, window)
    assert shares.sum() == ((9 - window) // 2 + 1) ** 2 and shares.min() == 0
    assert shares.max() <= (1 if window == 2 else 4)


def test_credit_by_hand():
    grid = np.zeros((5, 5), int)
    grid[2, 2] = 9  # in all four windows of 3, and in the last one of 2
    assert credit(grid, 3)[2, 2] == 4 and credit(grid, 2)[2, 2] == 1


def test_pooling_any_number_of_maps():
    maps = torch.rand(4, 7, 7)
    assert torch.equal(pooling.pool(maps, 3), torch.nn.functional.max_pool2d(maps, 3, 2))
    assert torch.equal(pooling.pool(maps[0], 2), torch.nn.functional.max_pool2d(maps[:1], 2, 2)[0])


def test_standard_error_is_that_of_many_draws():
    draws = np.random.default_rng(0).binomial(500, 0.4, 20_000) / 500
    assert standard_error(0.4, 500) == pytest.approx(draws.std(), rel=0.02)


def test_paired_standard_error_counts_disagreements_only():
    a = np.array([True] * 30 + [False] * 70)
    b = np.array([True] * 25 + [False] * 65 + [True] * 10)
    discordant, difference = 5 + 10, (30 - 35) / 100
    assert paired_standard_error(a, b) == pytest.approx((discordant / 100 - difference**2) ** 0.5 / 10)
    assert paired_standard_error(a, a) == 0


@pytest.mark.parametrize("name", POOLINGS)
def test_live_nets_have_the_computed_shapes(name):
    net = alexnet("code2012", 3, width=0.05, image_size=64, pooling=name, seed=0).eval()
    outputs = trace(net, torch.zeros(1, 3, 64, 64))
    assert {n: tuple(x.shape[1:]) for n, x in outputs.items() if n != "input"} == layer_shapes(net, 64)


def test_wrong_images_are_counted_as_in_the_summary(tmp_path, monkeypatch):
    prepare_place(tmp_path, monkeypatch)
    record, stores = train(settings(epochs=1)), load_dataset(NAME)
    wrong = pooling.wrong_images(record, stores["val"], mean_of(stores["train"], 64))
    assert wrong.mean() == pytest.approx(record.summary["metrics"]["val"]["1 view"]["top1"])


def test_credits_stop_at_a_relu():
    maps = torch.zeros(2, 5, 5)
    maps[1, 2, 2] = 1.0
    assert pooling.credits(maps, 3).sum(axis=(1, 2)).tolist() == [0, 4]
