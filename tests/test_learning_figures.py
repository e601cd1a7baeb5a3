"""The figures of §5: what is drawn is what was given."""

import numpy as np
import pandas as pd
import pytest

from alexnet_lib.figures import curves, learning


def drawn(figure, panel=0):
    """The lines of a panel, by their labels."""
    return {line.get_label(): line for line in figure.axes[panel].lines}


def test_a_first_run_beside_longer_ones():
    errors = {"short": ([1, 2], [0.9, 0.5]), "long": (range(1, 41), np.linspace(0.9, 0.2, 40))}
    figure = learning.first_minutes([3.0, 2.0, 1.0], 3.2, errors, ("2012", 91, 40.7))
    assert drawn(figure)["mean of 20"].get_ydata().tolist() == [3, 2.5, 2]
    right = drawn(figure, 1)
    assert right["short"].get_ydata().tolist() == [90, 50] and right["2012"].get_xydata().tolist() == [[91, 40.7]]
    assert right["short"].get_marker() == "o" and right["long"].get_marker() == ""


def test_a_stalled_run_is_hollow_and_in_the_band():
    rows = {"wide": {"printed": [100, 150], "2012": [50]}, "narrow": {"printed": [np.nan], "2012": [np.nan]}}
    figure = learning.starts(rows, 2000)
    hollow = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "white"]
    assert [x for line in hollow for x in line.get_xdata()] == [3000, 3000]
    assert sum(len(line.get_xdata()) for line in figure.axes[0].lines) == 5


def test_a_rate_is_drawn_in_steps():
    rows = pd.DataFrame({"epoch": [1, 2, 3], "learning_rate": [0.1, 0.1, 0.01], "top1": [0.9, 0.5, 0.4]})
    figure = learning.schedules({"rule": rows})
    (steps,) = figure.axes[0].patches
    assert steps.get_data().edges.tolist() == [0, 1, 2, 3] and steps.get_data().values.tolist() == [0.1, 0.1, 0.01]
    assert drawn(figure, 1)["rule"].get_ydata().tolist() == pytest.approx([90, 50, 40])


def test_every_seed_is_a_dot_and_every_part_has_its_number():
    figure = learning.decay({"a": [1, 2], "b": [-3.0]}, {"short": 0.98, "long": 2e-6})
    dots = [x for line in figure.axes[0].lines if line.get_marker() == "o" for x in line.get_xdata()]
    assert dots == [1, 2, -3]
    assert [text.get_text().strip() for text in figure.axes[1].texts] == ["98 %", "0.0002 %"]


def test_the_other_pictures_have_a_panel_for_each():
    walk, after = np.array([[1.0, 1.0], [0.0, 0.0]]), {"conv1": 1.0, "fc8": 1e-3}
    seeds = pd.DataFrame({0: np.arange(20.0), 1: np.arange(20.0)})
    assert len(learning.valley({"a": walk, "b": walk}, (1, 30)).axes) == 2
    signals = learning.signals({"wide": {"printed": after}, "narrow": {"printed": after, "2012": after}})
    assert [len(axes.lines) for axes in signals.axes] == [1, 2]
    assert drawn(learning.first_steps({"bias": seeds}, 3.2, window=5))["bias"].get_ydata()[0] == 2
    twins = learning.twins({"one bit": np.array([1e-8, 1e-2])}, {"one seed": [17, 20], "seeds": [16]})
    assert "one seed; seeds" in twins.alt and [len(axes.lines) for axes in twins.axes] == [1, 2]


@pytest.mark.parametrize("epochs", [1, 2, 4])
def test_epochs_are_whole_and_the_first_is_a_point(epochs):
    rows = [
        {"epoch": epoch, "split": split, "loss": 1.0, "top1": 0.5, "learning_rate": 0.01}
        for epoch in range(1, epochs + 1)
        for split in ("train", "val")
    ]
    for place in curves.learning_curves(pd.DataFrame(rows), 3).axes:
        low, high = place.get_xlim()
        ticks = [tick for tick in place.get_xticks() if low <= tick <= high]
        assert ticks == [round(tick) for tick in ticks] and 1 in ticks
        assert {line.get_marker() for line in place.lines[:2]} == {"o" if epochs == 1 else ""}


def upright(rates):
    rows = [
        {"epoch": epoch, "split": split, "loss": 1.0, "top1": 0.5, "learning_rate": rate}
        for epoch, rate in enumerate(rates, 1)
        for split in ("train", "val")
    ]
    return [
        line.get_xdata()[0]
        for line in curves.learning_curves(pd.DataFrame(rows), 3).axes[0].lines
        if len(set(line.get_xdata())) == 1 and len(line.get_xdata()) == 2
    ]


def test_a_rate_that_falls_little_by_little_has_no_drops():
    """The last epoch of a linear schedule ends near zero, at a tenth of the rate before it or less."""
    assert upright([0.01, 0.01, 0.001, 0.001, 0.0001]) == [2.5, 4.5]
    assert upright([0.005, 0.0038, 0.0025, 0.00128, 0.000075]) == []


@pytest.mark.parametrize(("count", "columns"), [(36, 2), (96, 2), (12, 2), (24, 1), (64, 1)])
def test_kernels_lie_in_the_rows_of_their_own_column(count, columns):
    """Each kernel has a grey level of its own, by which it is found again on the wall."""
    side = 3
    weights = np.ones((count, 3, side, side)) * np.arange(count)[:, None, None, None]
    wall = curves.kernels(weights, columns).axes[0].images[0].get_array()
    rows = [np.flatnonzero(np.isclose(wall[..., 0], i / (count - 1)).any(1)).min() for i in range(count - 1)]
    assert rows == sorted(rows)
    first = np.isclose(wall[..., 0], (count // columns) / (count - 1)).any(0)  # of the second column
    assert columns == 1 or np.flatnonzero(first).min() == 0
    if columns == 2:
        assert rows[count // 2 - 1] < len(wall) / 2 - 1 < rows[count // 2]
