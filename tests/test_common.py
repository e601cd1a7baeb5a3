"""What all series of runs share: kept tables, levels that curves reach, a mean for people, the command line."""

import math
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from alexnet_lib.experiments import ablations, cifar_experiments, sequel
from alexnet_lib.experiments.common import (
    command,
    command_line,
    crossing,
    holm,
    kept_runs,
    kept_table,
    of_common_seeds,
    spread_of,
)
from alexnet_lib.experiments.evidence import interval, p_alone
from alexnet_lib.paths import REFERENCE


def test_a_level_is_crossed_between_epochs():
    reached = [crossing([1, 2, 3, 4], [0.9, 0.5, 0.6, 0.1], level) for level in (0.95, 0.7, 0.5, 0.2)]
    np.testing.assert_allclose(reached, [1, 1.5, 2, 3.8])


def test_a_level_that_is_not_reached_is_nan_or_what_is_asked_for():
    assert np.isnan(crossing([1, 2], [0.9, 0.5], 0.05))
    assert crossing([1, 2], [0.9, 0.5], 0.05, never=math.inf) == math.inf
    assert crossing([1], [math.nan], 0.05, never=math.inf) == math.inf


def test_series_are_compared_by_the_seeds_that_both_have():
    long, short = pd.DataFrame({"seed": [0, 0, 1, 4], "error": range(4)}), pd.DataFrame({"seed": [0, 1, 2], "error": 5})
    one, other = of_common_seeds(long, short)
    assert one["error"].tolist() == [0, 1, 2] and other["seed"].tolist() == [0, 1]


def test_a_seed_without_a_partner_does_not_count_in_an_interval():
    paired = pd.Series([1.0, 2.0, 4.0])
    with_gaps = pd.concat([paired, pd.Series([math.nan] * 3)], ignore_index=True)
    assert interval(with_gaps) == interval(paired) and p_alone(with_gaps) == p_alone(paired)


def test_a_spread_is_that_of_a_sample():
    assert spread_of(pd.Series([1.0, 3.0])) == (2.0, pytest.approx(2**0.5), 2)


def test_every_kept_series_differs_in_its_seed_alone():
    folders = [path.parent for path in REFERENCE.rglob("config.json")]
    series = {(path.parent, re.sub(r"\d+$", "", path.name)) for path in folders if "-seed" in path.name}
    assert len(series) > 50
    for folder, prefix in series:
        seeds = kept_runs(prefix, folder)
        assert seeds and all(f"{prefix}{seed}" == record.folder.name for seed, record in seeds.items())


def test_a_run_from_before_there_was_a_choice_is_no_seed_of_a_series_of_another(tmp_path):
    """The older baselines don't say that they had all of the augmentation."""
    for of, name in (("baseline-imagenette73-seed0", "seed0"), ("no-augmentation-imagenette73-seed3", "seed3")):
        shutil.copytree(REFERENCE / f"ablation-{of}", tmp_path / f"ablation-baseline-imagenette73-{name}")
    with pytest.raises(ValueError, match="differ in more than the seed: augmentation = 'all' there, and 'none' in the"):
        kept_runs("ablation-baseline-imagenette73-seed", tmp_path)


def test_a_table_that_is_not_kept_is_named_with_its_command(tmp_path):
    with pytest.raises(FileNotFoundError, match="no runs.csv is kept in .*; `make it` makes it"):
        kept_table(tmp_path / "runs.csv", "make it")


def test_an_error_ends_a_command_with_one_line(capsys):
    with pytest.raises(SystemExit) as end, command(command_line("sequel", "What it does."), []):
        raise ValueError("epochs = -1")
    assert end.value.code == 2
    assert capsys.readouterr().err == "python -m alexnet_lib.experiments.sequel: epochs = -1\n"


@pytest.mark.parametrize(
    ("experiment", "given"), [(ablations, ["dropout"]), (cifar_experiments, ["lrn"]), (sequel, [])]
)
def test_a_seed_that_is_given_twice_is_refused(experiment, given, monkeypatch, capsys):
    work = "lrn" if experiment is cifar_experiments else "run_all"
    monkeypatch.setattr(experiment, work, lambda *_, **__: pytest.fail("begun"))
    with pytest.raises(SystemExit) as end:
        experiment.main([*given, "--seeds", "3", "0", "3"])
    assert end.value.code == 2
    assert "argument --seeds: 3 more than once; accepted is each once" in capsys.readouterr().err


def test_a_command_is_described_without_documentation():
    assert "--threads" in command_line("sequel", None).format_help()


def test_several_comparisons_are_corrected_for_as_holm_does():
    p = pd.Series([0.04, 0.001, math.nan, 0.02], list("abcd"))
    assert holm(p).to_dict() == pytest.approx({"a": 0.04, "b": 0.003, "c": math.nan, "d": 0.04}, nan_ok=True)
    assert holm(pd.Series([0.03, 0.02, 0.6])).tolist() == pytest.approx([0.06, 0.06, 0.6])
    assert holm(pd.Series([0.9, 0.8])).tolist() == [1, 1]  # a probability, still


def test_the_correction_is_as_wrong_as_it_says():
    """Of tables in which nothing is worth anything, one in twenty has a yes; uncorrected most of them have."""
    chance = pd.DataFrame(np.random.default_rng(0).random((1000, 21)))
    assert (chance.apply(holm, axis=1) < 0.05).any(axis=1).mean() == pytest.approx(0.05, abs=0.015)
    assert (chance < 0.05).any(axis=1).mean() > 0.6 and (chance < 0.05).sum(axis=1).mean() == pytest.approx(1, abs=0.2)
