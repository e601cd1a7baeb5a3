"""§3.4: windows that overlap, windows that don't, and the sizes of the maps after them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from alexnet_lib import alexnet
from alexnet_lib.architecture import POOLINGS, Pooling, layer_shapes, skeleton
from alexnet_lib.figures import pooling as figures
from alexnet_lib.ledger.measures import MEASURES
from alexnet_lib.study import pooling
from alexnet_lib.study.anatomy import trace
from alexnet_lib.study.pooling import side_after, sides, unseen


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
    assert MEASURES["equal_sides"]() == 3
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


@pytest.mark.parametrize("name", POOLINGS)
def test_live_nets_have_the_computed_shapes(name):
    net = alexnet("code2012", 3, width=0.05, image_size=64, pooling=name, seed=0).eval()
    outputs = trace(net, torch.zeros(1, 3, 64, 64))
    assert {n: tuple(x.shape[1:]) for n, x in outputs.items() if n != "input"} == layer_shapes(net, 64)


@pytest.mark.parametrize(("window", "across", "blind", "over"), [(3, 3, 0, 0), (2, 3, 13, 0), (2, 4, 0, 7)])
def test_edges_shows_what_is_unseen_and_what_hangs_over(window, across, blind, over):
    (place,) = figures.edges(7, {"a title": (window, across)}).axes
    assert sum(patch.get_hatch() is not None for patch in place.patches) == blind
    assert sum(patch.get_linestyle() == "--" for patch in place.patches) == over


def test_the_headline_says_how_many_units_are_kept():
    grid = np.arange(49).reshape(7, 7)  # the last unit of each window is its largest
    won = np.zeros((7, 7), bool)
    won[2::2, 2::2] = True
    figure = figures.kept(grid, {3: won}, {3: grid[2::2, 2::2]})
    assert figure.axes[0].get_title("left") == "windows of 3 keep 9 of 49"
    out = "16", "18", "20", "30", "32", "34", "44", "46", "48", "3 × 3 come out"
    assert tuple(text.get_text() for text in figure.axes[1].texts) == out


def test_saved_draws_an_interval_where_there_is_one():
    rows = {"paper": {"mean": 0.4}, "ours": {"mean": 1.0, "low": -1.0, "high": 3.0, "seeds": [0.0, 2.0]}}
    (place,) = figures.saved({"top-1": rows}).axes
    assert [list(line.get_xdata()) for line in place.lines if len(line.get_xdata()) == 2] == [[0, 0], [-1, 3], [0, 2]]
