"""The list of runs that decide: what is kept is told from what is missing, and the effects are paired means."""

import json
import math
import re
import shlex
import subprocess
import sys
from importlib import import_module
from types import SimpleNamespace

import pandas as pd
import pytest
from scipy import stats

from alexnet_lib.experiments import evidence, trained
from alexnet_lib.experiments.ablations import QUESTIONS, VARIANTS
from alexnet_lib.experiments.evidence import DATASET, MINUTES, interval, missing, overview, wanted
from alexnet_lib.experiments.sequel import folder_of
from alexnet_lib.ledger.claims import read_claims


def test_every_run_is_wanted_once():
    records = [run.record for run in wanted()]
    assert len(records) == len(set(records))


def test_every_part_is_a_variant_and_those_that_200_classes_can_tell_are_wanted():
    parts = {name: variant.lacks for name, variant in VARIANTS.items() if variant.lacks}
    assert {*QUESTIONS["worth"]} < {"baseline", *parts}
    assert {f"200 classes: {name}" for name in QUESTIONS["worth"]} < {run.about for run in wanted()}
    assert len({*parts.values()}) == len(parts)


def test_what_a_command_computes_in_is_not_the_processors_to_choose():
    """Speed fast alone is bfloat16 on one and float32 on another, which would refuse to go on with what is kept."""
    told = {row.how for row in read_claims()} | {run.command for run in wanted()}
    fast = [command for command in told if "--speed fast" in command]
    assert len(fast) > 10 and all("--precision" in command for command in fast)


def test_what_is_kept_is_not_missing(tmp_path):
    first = wanted()[0]
    (tmp_path / first.record).mkdir()
    (tmp_path / first.record / "summary.json").write_text("{}")
    assert first in missing(tmp_path)  # its command was stopped before the last of its tables
    (tmp_path / first.record / "silenced.csv").touch()
    assert first not in missing(tmp_path) and len(missing(tmp_path)) == len(wanted()) - 1
    row = overview(tmp_path).loc[first.about]
    assert (row["kept"], row["wanted"], row["minutes"]) == (1, 5, 4 * MINUTES["ablations"])


@pytest.mark.parametrize("experiment", ["pretraining", "trained"])
def test_a_table_of_several_seeds_is_kept_when_it_has_all(experiment, tmp_path):
    """Pre-training writes it after every seed."""
    run = next(run for run in wanted() if run.experiment == experiment)
    (tmp_path / run.record).mkdir()
    for seeds, lacking in (([0, 1], True), ([0, 1, 2, 3, 4], False)):
        pd.DataFrame({"seed": seeds}).to_csv(tmp_path / run.record / run.last, index=False)
        assert (run in missing(tmp_path)) == lacking


@pytest.mark.parametrize("run", {run.about: run for run in wanted()}.values(), ids=lambda run: run.about)
def test_its_command_is_accepted_and_makes_that_record(run, monkeypatch):
    _, _, module, *options = shlex.split(run.command)
    asked = {}
    monkeypatch.setattr("alexnet_lib.experiments.common.report_kept", lambda *_: None)  # it wants the pictures
    if run.experiment == "ablations":
        monkeypatch.setattr(
            f"{module}.run_all",
            lambda question, settings, seeds, only, folder: asked.update(
                name=f"{folder.name}/ablation-{only[0]}-{settings.dataset}-seed{seeds[0]}"
            ),
        )
    elif run.experiment == "trained":
        monkeypatch.setattr(
            f"{module}.measure", lambda dataset, *_, **changes: asked.update(name=trained.folder_of(dataset).name)
        )
    elif run.experiment == "pretraining":
        store = SimpleNamespace(classes=range(200))
        monkeypatch.setattr(f"{module}.load_dataset", lambda dataset: asked.update(name=dataset) or {"train": store})
        monkeypatch.setattr(f"{module}.divided", lambda stores, *few: (stores, few))
        monkeypatch.setattr(f"{module}.run_of", lambda *_, **changes: changes)
        monkeypatch.setattr(f"{module}.checkpoints_of", lambda *_: "nowhere")
        monkeypatch.setattr(f"{module}.shutil.rmtree", lambda *_, **__: None)
        monkeypatch.setattr(f"{module}.chains", lambda run, *_: [{"chain": "pre-trained", "seed": None}])
        monkeypatch.setattr(f"{module}.made_of", lambda *_: {})
        monkeypatch.setattr(f"{module}.keep_rows", lambda folder, rows, command, made: asked.update(command=command))
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
    assert f"reference/{run.record}".endswith(asked["name"])
    assert asked.get("command", run.command) in run.command  # what is kept is what is wanted


@pytest.mark.parametrize(("status", "begun"), [(3, 2), (130, 1)])
def test_a_run_that_fails_is_told_and_gives_its_status_one_that_was_stopped_is_the_last(
    monkeypatch, capfd, status, begun
):
    failing = wanted()[0]
    monkeypatch.setattr(evidence, "missing", lambda: [failing, failing])
    monkeypatch.setattr(type(failing), "command", f"python -c raise(SystemExit({status}))")
    with pytest.raises(SystemExit) as end:
        evidence.main(["--run"])
    assert end.value.code == status
    said = f"python -m alexnet_lib.experiments.evidence: `python -c raise(SystemExit({status}))` has failed\n"
    assert capfd.readouterr().err == begun * said


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


def test_what_it_took_are_minutes_of_one_core(monkeypatch):
    def kept_runs(dataset, variant, folder):
        seconds = {"baseline": 600, "no-lrn": 1200}[variant]
        return {seed: SimpleNamespace(summary={"seconds": seconds, "threads": 2}) for seed in (0, 1, 2)}

    monkeypatch.setattr(evidence, "kept_runs", kept_runs)
    assert evidence.core_minutes(DATASET, ("no-lrn", "baseline"), [0, 2, 7]) == 2 * 2 * (10 + 20)


def test_effects_are_printed_for_both_data_sets(monkeypatch, capsys):
    monkeypatch.setattr(evidence, "effects", lambda dataset: pd.DataFrame({"part": [f"of {dataset}"], "ours": [1.234]}))
    evidence.main(["--effects"])
    told = capsys.readouterr().out
    assert re.findall(r"(?m)^(\w+): .*\n.*\n *of (\w+) +1.23$", told) == [
        (name, name) for name in (DATASET, "imagenette73")
    ]


class Child:
    """A process that takes ten minutes; those that were ended early are in `ended`."""

    began, ended, clock = [], [], 0.0

    def __init__(self, command):
        self.began.append(command)
        self.done = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def wait(self, timeout):
        if timeout is not None and timeout < 600:
            Child.clock += timeout
            raise subprocess.TimeoutExpired(self.began[-1], timeout)
        Child.clock += 600
        self.done = True
        return 0

    def terminate(self):
        if not self.done:
            self.ended.append(self.began[-1])


@pytest.mark.parametrize(("gpu", "begun", "ended"), [(True, 2, 1), (False, 0, 0)])
def test_a_gpu_begins_whatever_its_length_and_stops_when_the_time_is_over(gpu, begun, ended, monkeypatch):
    """MINUTES are of a core."""
    Child.began, Child.ended, Child.clock = [], [], 0.0
    monkeypatch.setattr(evidence, "missing", lambda: wanted()[:3])
    monkeypatch.setattr(evidence.torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(evidence.time, "monotonic", lambda: Child.clock)
    monkeypatch.setattr(evidence.subprocess, "Popen", Child)
    monkeypatch.setattr(evidence.subprocess, "run", lambda *_, **__: pytest.fail("it begins what would end too late"))
    evidence.main(["--run", "--minutes", "15"])
    assert (len(Child.began), len(Child.ended)) == (begun, ended)
    assert all("--threads" not in command for command in Child.began)
    assert ("--threads 1" in wanted()[0].command) != gpu


def test_a_run_that_fails_on_a_gpu_is_an_error():
    with pytest.raises(subprocess.CalledProcessError):
        evidence.make_within([sys.executable, "-c", "raise SystemExit(2)"], math.inf)


def test_it_is_said_how_many_chance_would_tell():
    p = pd.Series([0.001, 0.04] + [0.5] * 18 + [math.nan])
    assert evidence.by_chance(p) == (
        "20 comparisons: taken singly, 2 differ from zero at the 5 % level, where chance alone would give about 1.0; "
        "Holm's correction, which is stricter the more comparisons there are, leaves 1"
    )
    assert "1 differs from no effect at" in evidence.by_chance(p[:1], "no effect")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--run", "--minutes", "nan"], "invalid minutes value: 'nan'"),
        (["--run", "--minutes", "-5"], "invalid minutes value: '-5'"),
        (["--effects", "--run"], "not allowed with argument"),
        (["--threads", "3000000000"], "accepted are whole numbers from 1 to 4,096"),
    ],
)
def test_what_would_do_nothing_is_refused(options, said, capsys):
    with pytest.raises(SystemExit) as end:
        evidence.main(options)
    assert end.value.code == 2 and said in capsys.readouterr().err


@pytest.mark.parametrize("command", ["stalls --width nan", "cifar_experiments lrn --epochs 20000"])
def test_settings_that_no_run_accepts_are_named_in_one_line(command, capsys):
    name, *options = command.split()
    with pytest.raises(SystemExit) as end:
        import_module(f"alexnet_lib.experiments.{name}").main(options)
    said = capsys.readouterr().err
    assert end.value.code == 2 and "pydantic" not in said and len(said.splitlines()) == 1
