"""What each part is worth: every row can be measured, trained, and told from chance by the rule that is stated."""

import math

import pandas as pd
import pytest
from scipy import stats

from alexnet_lib.experiments import ablations, budget


def test_every_part_names_a_variant_or_is_measured_otherwise():
    for part in budget.PARTS:
        assert part.variant is None or part.variant in ablations.VARIANTS
    assert len({part.name for part in budget.PARTS}) == len(budget.PARTS) >= 15


def test_chance_is_students(monkeypatch):
    gains = pd.Series([1.0, 2.0, 4.0])
    monkeypatch.setattr(budget, "worth", lambda part, dataset: ablations.spread_of(gains))
    table = budget.budget("embedded")
    p = stats.ttest_1samp(gains, 0).pvalue
    assert set(table["told"]) == {p < 0.05}
    margin = stats.t.interval(0.95, 2, 0, gains.sem())[1]
    for _, row in table.iterrows():
        assert row["enough"] is None if math.isnan(row["paper"]) else row["enough"] == (row["paper"] > margin)


def test_one_run_tells_nothing(monkeypatch):
    monkeypatch.setattr(budget, "worth", lambda part, dataset: (1.0, math.nan, 1))
    table = budget.budget("embedded")
    assert set(table["told"]) == {None}
    assert budget.shown(table)["our runs"].iloc[0] == "1.00 (1 seed)"


def test_what_has_no_runs_has_a_command(monkeypatch):
    monkeypatch.setattr(budget, "worth", lambda part, dataset: budget.NOTHING)
    table = budget.budget("imagenette73")
    commands = " ".join(budget.commands(table))
    assert all(part.variant in commands for part in budget.PARTS if part.variant)
    shown = budget.shown(table).set_index("part")["our runs"]
    assert (shown.iloc[:-1] == "no runs yet").all() and shown.iloc[-1] == "in miniature, below"


def test_without_each_convolution():
    table = budget.without_each()
    assert table.loc["none", "parameters"] == 60_965_224
    more = 6 * 6 * (384 - 256) * 4096 - (384 // 2 * 9 * 256 + 256)  # fc6 sees 384 maps, conv5 is gone
    assert table.loc["conv5", "parameters"] == 60_965_224 + more
    assert table.loc["conv3", "multiply_adds, % of the whole"] == pytest.approx(74.2)
