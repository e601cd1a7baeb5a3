"""§5: the first steps from several initial weights: when a run has left the start, and what is kept of it."""

import dataclasses
import math

import pandas as pd
import pytest
import torch

from alexnet_lib import load_dataset
from alexnet_lib.experiments import stalls
from alexnet_lib.experiments.stalls import WINDOW, first_losses, outcomes, rescale, run_all
from alexnet_lib.runs.settings import resolve
from alexnet_lib.training import build_net
from tests.small_runs import NAME, settings


def a_run(rule, **changes):
    store = load_dataset(NAME)["train"]
    return resolve(settings(recipe="paper", initialisation=rule, learning_rate=0.01, **changes), store), store


def test_rescaled_weights_of_2012_are_those_of_the_rule_of_that_name(place):
    nets = [build_net(a_run(rule)[0], 3) for rule in ("code2012", "rescaled")]
    for one, other in zip(rescale(nets[0]).parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_a_run_ends_when_it_has_left_the_start_and_not_before(place):
    learns = first_losses(*a_run("fan_in"), rescaled=False, steps=10 * WINDOW)
    assert len(learns) < 10 and learns[-1] < math.log(3) - stalls.LEFT
    assert all(loss >= math.log(3) - stalls.LEFT for loss in learns[:-1])
    stays = first_losses(*a_run("printed"), rescaled=False, steps=2 * WINDOW)
    assert len(stays) == 2 and stays[-1] >= math.log(3) - stalls.LEFT


def test_the_full_size_net_computes_in_its_precision(place, monkeypatch):
    run, store = a_run("fan_in")
    seen, build = [], stalls.build_net

    def watched(*given):
        net = build(*given)
        net.conv1.register_forward_hook(lambda layer, inputs, output: seen.append(output.dtype))
        return net

    monkeypatch.setattr(stalls, "build_net", watched)
    for precision in ("fp32", "bf16"):
        first_losses(dataclasses.replace(run, precision=precision), store, rescaled=False, steps=WINDOW)
    assert list(dict.fromkeys(seen)) == [torch.float32, torch.bfloat16]


def test_only_what_is_missing_is_run(tmp_path, place, monkeypatch):
    done = []
    monkeypatch.setattr(stalls, "first_losses", lambda run, *_: done.append(run.initialisation) or [1.0, 0.9])
    run_all([NAME], [0], ("printed",), width=0.05, folder=tmp_path)
    run_all([NAME], [0], ("printed", "caffe"), width=0.05, folder=tmp_path)
    assert done == ["printed"] * 2 + ["caffe"] * 2
    run_all([NAME], [0], ("printed",), width=1.0, folder=tmp_path)
    assert done[4:] == ["printed"]
    table = pd.read_csv(tmp_path / "losses.csv")
    assert len(table) == 10 and set(table["step"]) == {WINDOW, 2 * WINDOW}
    assert table["rescaled"].groupby(table["width"]).nunique().to_dict() == {0.05: 2, 1.0: 1}


@pytest.mark.parametrize("units", [False, True])
def test_all_rows_of_a_width_are_of_one_precision_on_every_processor(tmp_path, place, monkeypatch, units):
    """The kept ones of the full-size net are of bfloat16."""
    monkeypatch.setattr("alexnet_lib.runs.settings.computes_in_bf16", lambda device: units)
    seen = []
    monkeypatch.setattr(stalls, "first_losses", lambda run, *_: seen.append((run.width, run.precision)) or [1.0])
    for width in (0.05, 1.0):
        run_all([NAME], [0], ("printed",), width=width, folder=tmp_path)
    assert list(dict.fromkeys(seen)) == [(0.05, "fp32"), (1.0, "bf16")]


def test_what_is_kept_answers_for_its_number_of_steps_alone(tmp_path, place, monkeypatch):
    monkeypatch.setattr(stalls, "first_losses", lambda *_: [1.0])
    run_all([NAME], [0], ("printed",), steps=50, width=0.05, folder=tmp_path)
    with pytest.raises(ValueError, match="steps = 50 there, and 100 asked for"):
        run_all([NAME], [0], ("printed",), steps=100, width=0.05, folder=tmp_path)


def test_a_net_that_diverges_has_not_stalled(place):
    run, store = a_run("fan_in")
    with pytest.raises(ArithmeticError, match="the loss is nan at step "):
        first_losses(dataclasses.replace(run, learning_rate=1e9), store, rescaled=False, steps=WINDOW)


def test_outcomes(tmp_path):
    row = {"dataset": "embedded", "rule": "printed", "width": 0.125, "rescaled": True, "classes": 24, "step": 100}
    rows = [row | {"seed": seed, "loss": loss} for seed, loss in enumerate((3.178, 3.0, 2.9, float("nan")))]
    rows += [row | {"seed": 4, "step": step, "loss": loss} for step, loss in ((50, 3.2), (100, 3.1), (150, 3.0))]
    pd.DataFrame(rows).to_csv(tmp_path / "losses.csv", index=False)
    table = outcomes(tmp_path)
    assert table["left"].tolist()[1:3] + table["left"].tolist()[4:] == [100, 100, 150]
    assert table["left"].isna().tolist() == [True, False, False, True, False]


def test_a_run_that_ended_barely_below_the_level_has_not_stalled(tmp_path, place, monkeypatch):
    """Its loss is kept rounded."""
    monkeypatch.setattr(stalls, "LEFT", 0.10005)
    level = math.log(3) - stalls.LEFT
    assert round(level - 1e-5, stalls.DIGITS) > level
    monkeypatch.setattr(stalls, "first_losses", lambda *_: [1.1, level - 1e-5])
    run_all([NAME], [0], ("printed",), width=1.0, folder=tmp_path)
    assert outcomes(tmp_path)["left"].tolist() == [2 * WINDOW]


def test_the_record_is_whole():
    table = outcomes()
    assert not table.duplicated(stalls.WHICH).any() and set(table["rule"]) == set(stalls.RULES)
    assert (table["left"].fillna(table["steps"]) <= stalls.STEPS).all()


def test_settings_are_those_of_the_paper(place):
    run, _ = a_run("printed", batch_size="auto")
    assert (run.learning_rate, run.batch_size) == (0.01, 128)
    assert dataclasses.asdict(run)["recipe"] == "paper"
