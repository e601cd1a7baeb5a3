"""What each part is worth: every row can be measured, trained, and told from chance by the rule that is stated."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from alexnet_lib.experiments import ablations, budget, common


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
    assert table["p"].tolist() == pytest.approx([p] * len(table))
    margin = stats.t.interval(0.95, 2, 0, gains.sem())[1]
    for _, row in table.iterrows():
        assert row["enough"] is None if math.isnan(row["paper"]) else row["enough"] == (row["paper"] > margin)


def test_several_comparisons_are_corrected_for_as_holm_does():
    p = pd.Series([0.04, 0.001, math.nan, 0.02], list("abcd"))
    assert common.holm(p).to_dict() == pytest.approx({"a": 0.04, "b": 0.003, "c": math.nan, "d": 0.04}, nan_ok=True)
    assert common.holm(pd.Series([0.03, 0.02, 0.6])).tolist() == pytest.approx([0.06, 0.06, 0.6])
    assert common.holm(pd.Series([0.9, 0.8])).tolist() == [1, 1]  # a probability, still


def test_the_correction_is_as_wrong_as_it_says():
    """Of tables in which nothing is worth anything, one in twenty has a yes; uncorrected most of them have."""
    chance = pd.DataFrame(np.random.default_rng(0).random((1000, 21)))
    assert (chance.apply(common.holm, axis=1) < 0.05).any(axis=1).mean() == pytest.approx(0.05, abs=0.015)
    assert (chance < 0.05).any(axis=1).mean() > 0.6 and (chance < 0.05).sum(axis=1).mean() == pytest.approx(1, abs=0.2)


def test_the_budget_says_how_many_chance_would_tell(monkeypatch):
    values = iter([(3.0, 0.1, 5)] + [(0.1, 0.09, 5)] + [(0.0, 1.0, 5)] * 18 + [(9.0, math.nan, 1)])
    monkeypatch.setattr(budget, "worth", lambda part, dataset: next(values))
    table = budget.budget("embedded")
    assert table["told"].tolist()[:3] == [True, False, False] and table["told"].iloc[-1] is None
    assert budget.by_chance(table) == (
        "20 comparisons at 5 %: 1 are more than chance, and about 1.0 would be if no part were worth anything; "
        "after Holm's correction 1 are."
    )


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
