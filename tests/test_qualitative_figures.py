"""Figures of trained nets: what is drawn is what was given."""

import numpy as np
import pandas as pd

from alexnet_lib.figures import qualitative as figures


def picture(seed):
    return np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)


def test_answers_show_five_bars_an_image_and_hatch_the_true_one():
    p = np.array([[0.5, 0.2, 0.1, 0.1, 0.06, 0.04], [0.0, 0.1, 0.2, 0.3, 0.4, 0.0]])
    figure = figures.answers([picture(0), picture(1)], p, [1, 0], list("abcdef"))
    bars = [place.patches for place in figure.axes if place.patches]
    assert [len(each) for each in bars] == [5, 5]
    assert [round(bar.get_width(), 2) for bar in bars[0]] == [0.5, 0.2, 0.1, 0.1, 0.06]
    assert [bool(bar.get_hatch()) for bar in bars[0]] == [False, True, False, False, False]


def test_neighbours_of_the_same_class_have_a_frame():
    rows = {"one way": [[picture(i) for i in range(3)]] * 2, "another": [[picture(i) for i in range(3)]] * 2}
    right = {"one way": np.array([[True, False, True], [False] * 3]), "another": np.zeros((2, 3), bool)}
    figure = figures.neighbours([picture(7), picture(8)], rows, right)
    framed = [place for place in figure.axes if place.spines["left"].get_visible()]
    assert len([place for place in figure.axes if place.images]) == 2 * (1 + 3 + 3) and len(framed) == 2


def test_a_map_lies_where_the_middles_of_the_patches_were():
    probability = np.linspace(0, 1, 25).reshape(5, 5)
    figure = figures.occlusion([picture(0), picture(1)], [probability] * 2, ["a: fish?", "b: jar?"], patch=4)
    shown = [place for place in figure.axes if place.images]
    assert [place.get_title(loc="center") for place in shown[::2]] == ["a: fish?", "b: jar?"]
    shades = shown[1].images[0]
    assert shades.get_array().tolist() == probability.tolist() and shades.get_clim() == (0, 1)
    assert shades.get_extent() == [1, 6, 6, 1]  # of 8 pixels, whose middles are 0 to 7
    figure = figures.occlusion([np.zeros((224, 224, 3))], [np.eye(13)], ["a: fish?"], patch=56, step=14)
    assert figure.axes[1].images[0].get_extent() == [20.5, 202.5, 202.5, 20.5]  # the first middle 27.5, the last 195.5


def test_each_kernel_is_a_dot_and_each_column_a_bar():
    table = pd.DataFrame({"seed": [0] * 4 + [3] * 4, "column": [1, 1, 2, 2] * 2, "colourfulness": np.linspace(0, 1, 8)})
    place = figures.colours_by_column({"runs": table}).axes[0]
    dots = [line for line in place.lines if line.get_linestyle() == "None"]
    assert sum(len(line.get_xdata()) for line in dots) == 8 and len(place.lines) == 9
    assert set(place.lines[-1].get_ydata()) == {2 / 3}  # what random weights have


def test_a_frequency_and_its_mirror_image_are_one_dot():
    place = figures.strongest_frequencies({"learned": (np.array([0.1, -0.2]), np.array([0.3, 0.4]))}).axes[0]
    assert place.lines[0].get_xydata().tolist() == [[0.1, 0.3], [0.2, -0.4]]


def test_lines_and_levels_of_precision():
    lines = {"codes": pd.Series([40.0, 50.0], index=[16, 64])}
    place = figures.precision_by_bits({"here": (lines, {"numbers": 55.0})}).axes[0]
    assert place.lines[0].get_ydata().tolist() == [40, 50] and place.lines[1].get_ydata()[0] == 55
