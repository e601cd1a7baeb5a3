"""Figures of §6 and §7: each claim, each part and each average is drawn where its numbers are."""

import math

import numpy as np
import pandas as pd
import pytest

from alexnet_lib.figures import results as figures

CLAIM = {
    "relation": "=",
    "bound": "paper",
    "paper": 2.0,
    "measured": 2.0,
    "low": math.nan,
    "high": math.nan,
    "verdict": "exact",
}
CLAIM |= {"times": 1.0, "times_low": math.nan, "times_high": math.nan, "kind": "value"}


def ledger(*rows: dict) -> pd.DataFrame:
    return pd.DataFrame([CLAIM | {"id": f"claim-{i}"} | row for i, row in enumerate(rows)])


def marks(axes, marker: str) -> list[tuple[float, float]]:
    """Where marks of a kind stand, those of the legend left out."""
    lines = [line for line in axes.lines if line.get_marker() == marker]
    return [(float(x), float(y)) for line in lines for x, y in zip(*line.get_data(), strict=True)]


def test_every_claim_has_one_mark_and_misfits_have_names():
    effect = {"kind": "effect", "measured": 1.0, "low": -1.0, "high": 3.0, "verdict": "undecided"}
    table = ledger(
        {},
        {"verdict": "differs", "times": 3.0},
        {"verdict": "refuted", "times": math.inf},
        {"kind": "log", "verdict": "needs ILSVRC"},
        {"kind": "none", "verdict": "needs ILSVRC", "times": math.nan},
        {"kind": "none", "verdict": "not yet measured", "times": math.nan},
        effect,
        effect | {"relation": ">=", "verdict": "differs", "paper": 5.0},
    )
    left, right = figures.every_claim(table).axes
    assert [x for x, _ in marks(left, "o")] == [1] and [x for x, _ in marks(left, "_")] == [1]
    assert [x for x, _ in marks(left, "X")] == [figures.MOST]  # beyond the scale, at its edge
    words = [text.get_text() for text in left.texts]
    assert words == ["claim-1", "claim-2", "2 more: not measured, and without a log"]
    squares = marks(left, "s")
    assert [x for x, y in squares if y > 0.1] == [3.0] and len([y for _, y in squares if y == 0.035]) == 2
    assert marks(right, "o") == [(1.0, 0.0)] and marks(right, "s") == [(1.0, 1.0)]
    assert marks(right, "D") == [(2.0, 0.0)] and marks(right, ">") == [(5.0, 1.0)]
    assert [label.get_text() for label in right.get_yticklabels()] == ["claim-6", "claim-7"]
    bars = [[float(x) for x in line.get_xdata()] for line in right.lines if line.get_marker() == "None"]
    assert bars.count([-1.0, 3.0]) == 2


def test_a_bound_of_ours_is_not_shown_as_the_papers():
    effect = {"kind": "effect", "measured": 1.0, "low": -1.0, "high": 3.0, "verdict": "undecided", "relation": ">="}
    words = []
    for bound in ("paper", "ours"):
        left, right = figures.every_claim(ledger({}, effect | {"bound": bound})).axes
        words.append([text.get_text() for text in right.figure.legends[0].get_texts()])
        (edge,) = {line.get_mec() for line in right.lines if line.get_marker() == ">" and len(line.get_xdata())}
        assert edge == {"paper": figures.ACCENT, "ours": figures.GREY}[bound]
        assert "(or our bound)" in left.get_xlabel()
    assert "our bound: more than this" in words[1] and "our bound: more than this" not in words[0]


def test_parts_without_a_run_say_so_and_one_seed_has_no_bar():
    columns = ["paper", "log2012", "ours", "low", "high"]
    few = pd.DataFrame([[1.4, 1.37, 0.8, math.nan, math.nan]], ["normalisation"], columns)
    many = pd.DataFrame(
        [[1.4, 1.37, 0.8, 0.1, 1.5], [math.nan, math.nan, 15.0, 14.0, 16.0]], ["normalisation", "conv"], columns
    )
    figure = figures.worth({"200": few, "ten": many}, ["normalisation", "conv"])
    first, second = figure.axes
    assert [text.get_text() for text in first.texts] == [" no run yet"] and not second.texts
    assert [line.get_mfc() for line in first.lines if line.get_marker() == "o"][0] == "white"
    assert first.get_xscale() == "linear" and second.get_xscale() == "symlog"
    assert [label.get_text() for label in first.get_yticklabels()] == ["normalisation", "conv"]


def test_chance_and_what_the_paper_reports():
    place = figures.chance(np.linspace(-1, 1, 100), {"a gain": 1.4, "another": 0.4}).axes[0]
    assert [line.get_xdata()[0] for line in place.lines] == [1.4, 0.4]
    assert [text.get_text().strip() for text in place.texts][1:] == ["a gain", "another"]


def test_who_errs_together_and_what_averages_err():
    left, right = figures.agreement(np.array([3, 2, 1]), np.array([1, 4, 1]), {"nets": {1: [30, 32], 2: [29]}}).axes
    assert [bar.get_height() for bar in left.patches[:6]] == [3, 2, 1, 1, 4, 1]
    assert right.lines[-1].get_ydata().tolist() == pytest.approx([31, 29])
