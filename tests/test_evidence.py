"""The list of runs that decide: what is kept is told from what is missing, and the effects are paired means."""

import json
import math
import shlex
from importlib import import_module

import pandas as pd
import pytest
from scipy import stats

from alexnet_lib.experiments import evidence
from alexnet_lib.experiments.ablations import QUESTIONS, VARIANTS
from alexnet_lib.experiments.evidence import DATASET, MINUTES, interval, missing, overview, wanted
from alexnet_lib.experiments.sequel import folder_of


def test_every_run_is_wanted_once():
    records = [run.record for run in wanted()]
    assert len(records) == len(set(records))


def test_every_part_is_a_variant_and_those_that_200_classes_can_tell_are_wanted():
    parts = {name: variant.lacks for name, variant in VARIANTS.items() if variant.lacks}
    assert {*QUESTIONS["worth"]} < {"baseline", *parts}
    assert {f"200 classes: {name}" for name in QUESTIONS["worth"]} < {run.about for run in wanted()}
    assert len({*parts.values()}) == len(parts)


def test_what_is_kept_is_not_missing(tmp_path):
    first = wanted()[0]
    (tmp_path / first.record).mkdir()
    (tmp_path / first.record / "summary.json").write_text("{}")
    assert first in missing(tmp_path)  # its command was stopped before the last of its tables
    (tmp_path / first.record / "silenced.csv").touch()
    assert first not in missing(tmp_path) and len(missing(tmp_path)) == len(wanted()) - 1
    row = overview(tmp_path).loc[first.about]
    assert (row["kept"], row["wanted"], row["minutes"]) == (1, 3, 2 * MINUTES["ablations"])


@pytest.mark.parametrize("run", {run.about: run for run in wanted()}.values(), ids=lambda run: run.about)
def test_its_command_is_accepted_and_makes_that_record(run, monkeypatch):
    _, _, module, *options = shlex.split(run.command)
    asked = {}
    if run.experiment == "ablations":
        monkeypatch.setattr(
            f"{module}.run_all",
            lambda question, settings, seeds, only, folder: asked.update(
                name=f"{only[0]}-{settings.dataset}-seed{seeds[0]}"
            ),
        )
    elif run.experiment == "sequel":
        monkeypatch.setattr(
            f"{module}.run_all",
            lambda dataset, epochs, seeds, only: asked.update(name=folder_of(only[0], dataset, seeds[0]).name),
        )
    else:
        monkeypatch.setattr(
            f"{module}.lrn",
            lambda epochs, seeds, only, **_: asked.update(name=f"lrn-{only[0]}-{epochs}epochs-seed{seeds[0]}"),
        )
    import_module(module).main(options)
    assert run.record.endswith(asked["name"])


def test_a_run_that_fails_ends_the_command_with_its_status_and_no_traceback(monkeypatch, capfd):
    failing = wanted()[0]
    monkeypatch.setattr(evidence, "missing", lambda: [failing, None])
    monkeypatch.setattr(type(failing), "command", "python -c raise(SystemExit(3))")
    with pytest.raises(SystemExit) as end:
        evidence.main(["--run"])
    assert end.value.code == 3
    said = "python -m alexnet_lib.experiments.evidence: `python -c raise(SystemExit(3))` has failed\n"
    assert capfd.readouterr().err == said


def test_an_interval_is_students():
    low, high = interval(pd.Series([1.0, 2.0, 3.0]))
    assert (low, high) == pytest.approx((2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)))
    assert all(map(math.isnan, interval(pd.Series([1.0]))))


def test_effects_are_paired_by_seed(monkeypatch):
    points = {"no-lrn": [1.0, 2.0, 3.0], "one-gpu": [0.5]}

    def gains(dataset, against, folder):
        if against not in points:
            raise FileNotFoundError
        return pd.DataFrame({"ten views, top-1": points[against]})

    monkeypatch.setattr(evidence, "gains", gains)
    table = evidence.effects(DATASET).set_index("part")
    assert list(table.index) == ["half its kernels", "normalisation"]
    assert table["ours"].tolist() == [0.5, 2.0] and table["n"].tolist() == [1, 3]
    assert table["paper"].tolist() == [1.7, 1.4]
    assert table.loc["normalisation", "low"] < 0 < table.loc["normalisation", "high"]
    assert json.loads(table.loc["half its kernels"].to_json())["low"] is None


def test_chance_is_students_and_corrected_over_all_parts(monkeypatch):
    points = {"no-lrn": [1.0, 2.0, 4.0], "no-dropout": [3.0, 3.1, 2.9], "one-gpu": [0.5, 0.5001]}
    monkeypatch.setattr(
        evidence, "gains", lambda dataset, against, folder: pd.DataFrame({"ten views, top-1": given(points, against)})
    )
    table = evidence.effects(DATASET).set_index("part")
    alone = {variant: stats.ttest_1samp(values, 0).pvalue for variant, values in points.items()}
    assert table.loc["normalisation", "alone"] == pytest.approx(alone["no-lrn"])
    assert table.loc["dropout", "p"] == pytest.approx(2 * alone["no-dropout"])
    assert math.isnan(table.loc["half its kernels", "p"])  # two, which agree by luck


def given(points: dict, name: str):
    if name not in points:
        raise FileNotFoundError
    return points[name]


def test_it_is_said_how_many_chance_would_tell():
    p = pd.Series([0.001, 0.04] + [0.5] * 18 + [math.nan])
    assert evidence.by_chance(p) == (
        "20 comparisons: taken singly, 2 differ from zero at the 5 % level, where chance alone would give about 1.0; "
        "Holm's correction, which is stricter the more comparisons there are, leaves 1"
    )
    assert "1 differs from no effect at" in evidence.by_chance(p[:1], "no effect")
