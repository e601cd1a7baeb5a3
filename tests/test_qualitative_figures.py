"""Figures of trained nets: what is drawn is what was given."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from alexnet_lib.figures import comparisons, curves, dataset, views
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


NO_FORMULA = ["a$\\x$b", "$x_{$", "$5", "$1$"]


FIGURES = {  # at which names of classes, files and runs stand: titles, words, legends, rows and columns
    "answers": lambda names: figures.answers([picture(0)] * 4, np.full((4, 4), 0.25), range(4), names),
    "neighbours": lambda names: figures.neighbours(
        [picture(0)], {name: [[picture(1)]] for name in names}, {name: np.ones((1, 1)) for name in names}
    ),
    "occlusion": lambda names: figures.occlusion([picture(0)] * 4, [np.eye(3)] * 4, names, 2),
    "pictures": lambda names: curves.pictures([picture(0)] * 4, names, 2),
    "picture rows": lambda names: views.picture_rows({name: [picture(0)] * 4 for name in names}, names),
    "differences": lambda names: comparisons.differences({name: [1, 2] for name in names}, names[0], {names[1]: 2}),
    "precision": lambda names: figures.precision_by_bits(
        {names[0]: ({name: pd.Series({16: 50.0, 64: 60.0}) for name in names}, {names[1]: 40.0})}
    ),
    "error bars": lambda names: dataset.error_bars(
        pd.DataFrame({"top-1 error": [0.2] * 4, "top-5 error": [0.1] * 4}, index=names)
    ),
}


@pytest.mark.parametrize("draw", FIGURES.values(), ids=list(FIGURES))
def test_a_name_with_dollars_is_drawn_as_it_is_written(draw):
    """Matplotlib takes what is between two of them for a formula, and ends with an error where it is none."""
    figure = draw(NO_FORMULA)
    FigureCanvasAgg(figure).draw()
    found = {text.get_text().strip(): text for text in figure.findobj(Text) if "$" in text.get_text()}
    assert set(NO_FORMULA) & set(found)
    for shown, text in found.items():
        drawn = text.get_window_extent().size
        text.set(text=shown.replace("$", r"\$"), parse_math=True)  # so matplotlib is told that no formula is meant
        np.testing.assert_allclose(text.get_window_extent().size, drawn, atol=1)


def test_powers_of_ten_at_an_axis_stay_formulas():
    figure = curves.curves({"a": ([1, 2], [1.0, 1e5])}, "x", "y", log=True)
    FigureCanvasAgg(figure).draw()
    powers = [text for text in figure.axes[0].get_yticklabels() if "10^" in text.get_text()]
    assert powers and all(text.get_parse_math() for text in powers)


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
