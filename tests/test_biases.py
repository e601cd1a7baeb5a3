"""§5: the first steps from biases of 1, 0.1 and 0."""

import math

import pandas as pd
import pytest

from alexnet_lib import load_dataset
from alexnet_lib.experiments import biases
from alexnet_lib.experiments.biases import WINDOW, first_losses, run_all, sooner, steps_below
from alexnet_lib.runs.settings import resolve
from tests.small_runs import NAME, settings


def a_run(**changes):
    store = load_dataset(NAME)["train"]
    changes = {"initialisation": "rescaled", "learning_rate": 0.01} | changes
    return resolve(settings(recipe="paper", **changes), store), store


def test_only_the_biases_differ(place):
    """With large ones the first answers are far from a guess; with none they aren't."""
    starts = {bias: first_losses(*a_run(), bias, steps=WINDOW)[0] for bias in biases.BIASES}
    assert starts[1.0] > starts[0.1] and abs(starts[0.0] - math.log(3)) < 0.3
    assert first_losses(*a_run(), 0.0, steps=WINDOW) == [starts[0.0]]


def test_a_run_ends_when_it_has_learned_or_has_had_its_steps(place):
    assert len(first_losses(*a_run(), 0.0, steps=3 * WINDOW)) <= 3
    learned = first_losses(*a_run(initialisation="fan_in"), 0.0, steps=100 * WINDOW)
    assert len(learned) < 100 and learned[-1] < math.log(3) - max(biases.LEVELS)
    assert all(loss >= math.log(3) - max(biases.LEVELS) for loss in learned[:-1])


def test_a_net_that_diverges_is_an_error(place):
    with pytest.raises(ArithmeticError, match="the loss is nan at step "):
        first_losses(*a_run(learning_rate=1e9), 1.0, steps=WINDOW)


def test_what_is_kept_is_not_run_again(tmp_path, place, monkeypatch):
    done = []
    monkeypatch.setattr(biases, "first_losses", lambda run, store, bias: done.append((run.seed, bias)) or [1.1, 0.9])
    run_all([NAME], [0], tmp_path)
    run_all([NAME], [0, 1], tmp_path)
    assert done == [(seed, bias) for seed in (0, 1) for bias in biases.BIASES]
    table = pd.read_csv(tmp_path / "losses.csv")
    assert len(table) == 12 and set(table["step"]) == {WINDOW, 2 * WINDOW} and set(table["classes"]) == {3}


def test_a_run_that_ended_barely_below_a_level_has_got_there(tmp_path, place, monkeypatch):
    """Its loss is kept rounded."""
    level = math.log(3) - 0.10005
    assert round(level - 1e-5, biases.DIGITS) > level
    monkeypatch.setattr(biases, "first_losses", lambda *_: [1.1, level - 1e-5])
    run_all([NAME], [0], tmp_path)
    assert steps_below(0.10005, NAME, tmp_path).loc[0].tolist() == pytest.approx([2 * WINDOW] * len(biases.BIASES))


def test_two_at_once_keep_each_other_s_rows(tmp_path, place, monkeypatch):
    def slowly(run, store, bias):
        if run.seed == 0 and bias == 1.0:  # meanwhile another process keeps the other seed
            run_all([NAME], [1], tmp_path)
        return [1.1]

    monkeypatch.setattr(biases, "first_losses", slowly)
    run_all([NAME], [0], tmp_path)
    assert sorted(pd.read_csv(tmp_path / "losses.csv")["seed"]) == [0, 0, 0, 1, 1, 1]


def test_steps_are_compared_by_seed(tmp_path, monkeypatch):
    guess = math.log(24)
    rows = [
        {"dataset": "x", "bias": bias, "seed": seed, "classes": 24, "step": 10 * i, "loss": guess - 0.01 * slope * i}
        for seed, slopes in enumerate([(4, 2), (5, 1), (2, 2)])
        for bias, slope in zip((1.0, 0.0), slopes, strict=True)
        for i in range(1, 21)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "losses.csv", index=False)
    steps = steps_below(0.1, "x", tmp_path)
    assert steps[1.0].tolist() == pytest.approx([25, 20, 50]) and steps[0.0].tolist() == pytest.approx([50, 100, 50])
    monkeypatch.setattr(biases, "steps_below", lambda level, dataset: steps_below(level, dataset, tmp_path))
    assert sooner("x", "0.1") == pytest.approx(((2 + 5 + 1) / 3, pd.Series([2, 5, 1]).std(), 3))
    with pytest.raises(FileNotFoundError, match="--datasets y"):
        steps_below(0.1, "y", tmp_path)
