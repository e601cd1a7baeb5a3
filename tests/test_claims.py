"""The ledger: every row can be read and measured, and the verdicts are what the rules say."""

import dataclasses
import html
import json
import math
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from alexnet_lib.cifar_nets import NETS
from alexnet_lib.data.embedded import CLASSES
from alexnet_lib.experiments import ablations, evidence
from alexnet_lib.ledger import claims, measures, page
from alexnet_lib.ledger.claims import COLUMNS, LEDGER, OPEN, Claim, main, measure, read_claims, verdict
from alexnet_lib.ledger.measures import MEASURES
from alexnet_lib.ledger.page import READERS
from alexnet_lib.notebook import ledger
from alexnet_lib.paths import NOTEBOOKS
from alexnet_lib.runs.fields import check
from alexnet_lib.runs.settings import TrainSettings
from alexnet_lib.study.log2012 import logged, logged_gain

STRENGTH = ("tiny_imagenet", "imagenette73", "embedded")  # of pictures, by the rule at the head of claims.toml


@pytest.fixture(scope="module")
def table():
    return claims.claims()


def row(**changes) -> dict:
    """A row of claims.toml as it is read."""
    usual = {"id": "a", "section": "1", "statement": "s", "paper": 10.0, "notebook": "02_relu_vs_tanh", "how": "h"}
    return usual | changes


def claim(**changes) -> Claim:
    return check(Claim, row(**changes))


def test_every_claim_has_a_verdict(table):
    assert list(table.columns) == COLUMNS and len(table) == len(read_claims()) > 0
    assert set(table["verdict"]) <= set(claims.MEANING) and set(OPEN) < set(claims.MEANING) and table["id"].is_unique
    measured = ~table["verdict"].isin(OPEN)
    assert (table["measured"].notna() == measured).all() and ((table["n"] > 0) == measured).all()


def test_nothing_holds_without_a_measurement(table):
    can_be = [row.measure is not None for row in read_claims()]
    assert [verdict not in ("needs ILSVRC", "out of reach") for verdict in table["verdict"]] == can_be


def test_what_is_out_of_reach_is_not_measured(table):
    """And what needs ILSVRC alone is not called so."""
    lost = table[table["verdict"] == "out of reach"]
    assert [row.id for row in read_claims() if row.out_of_reach] == list(lost["id"]) and len(lost) > 15
    assert not lost["how"].str.contains("-p dataset ilsvrc").any()


def test_a_tolerance_is_smaller_than_the_effect(table):
    """Else what is no effect would be as claimed."""
    effects = table[(table["relation"] == "=") & table["no_effect"].notna()]
    assert len(effects) > 10 and ((effects["paper"] - effects["no_effect"]).abs() > effects["tolerance"]).all()


def test_one_claim_has_one_tolerance(table):
    """That a middle layer is worth two points, on ImageNet and on less."""
    depth = table[table["id"].isin(["depth-conv2", "depth-conv3", "depth-conv4", "depth-imagenet"])]
    assert len(depth) == 4 and depth["tolerance"].nunique() == 1 and depth["paper"].nunique() == 1


def test_a_control_that_the_paper_does_not_have_is_held_to_our_bound(table):
    controls = table[table["statement"].str.contains("the paper doesn't have")]
    assert len(controls) and set(controls["bound"]) == {"ours"}


def test_the_paper_is_covered_from_abstract_to_discussion(table):
    sections = table["section"].value_counts()
    own = sections.drop(READERS)
    assert len(table) >= 225 and own.sum() >= 80 and sections[READERS] >= 20
    assert {"abstract", "1", "2", "3.1", "3.2", "3.3", "3.4", "3.5", "4", "4.1", "4.2", "5", "6", "6.1", "7"} <= set(
        own.index
    )


def test_what_needs_imagenet_says_how(table):
    """A command with known parameters, a row that has it, or what would have to be at hand."""
    open_rows = table[table["verdict"] == "needs ILSVRC"]
    known = {field.name for field in dataclasses.fields(TrainSettings)}
    for how in open_rows["how"]:
        assert set(re.findall(r"-p (\w+) ", how)) <= known
        named = re.findall(r"python -m (alexnet_lib\.\w+)", how)
        assert all(find_spec(module) for module in named)
    referred = open_rows["how"].str.extract(r"^as ([\w-]+)")[0].dropna()
    assert set(referred) <= set(table["id"])


def test_logged_values_are_those_of_the_logs(table):
    log = table.set_index("id")["log2012"]
    for name, run, column in (
        ("error-2010-top1", ("145-2010", "2010 test"), "top1"),
        ("error-2010-top5", ("145-2010", "2010 test"), "top5"),
        ("one-view-top1", ("145-2010", "2010 test", 1), "top1"),
        ("one-view-top5", ("145-2010", "2010 test", 1), "top5"),
        ("error-2012-top1", ("145",), "top1"),
        ("error-2012-top5", ("145",), "top5"),
        ("pretrained-top1", ("146-2012-2011",), "top1"),
        ("pretrained-top5", ("146-2012-2011",), "top5"),
    ):
        assert log[name] == pytest.approx(100 * getattr(logged(*run), column), abs=0.006)
    for names, pair in (
        (("gpu-gain-top1", "gpu-gain-top5"), ("145-half", "145-2010", "2010 test")),
        (("lrn-imagenet-top1", "lrn-imagenet-top5"), ("148", "145")),
        (("pooling-top1", "pooling-top5"), ("147", "145")),
    ):
        assert [log[name] for name in names] == pytest.approx(logged_gain(*pair), abs=0.006)


def test_the_log_that_has_both_errors_is_where_they_differ_most(table):
    of_both = [logged("137-2010", f"2010 {split}").top1 for split in ("validation", "test")]
    assert table.set_index("id")["log2012"]["validation-near-test"] == pytest.approx(100 * (of_both[0] - of_both[1]))


def test_a_difference_of_error_rates_has_a_standard_error(table):
    by_id = table.set_index("id")["standard_error"]
    one = (0.41 * 0.59 / 50_000) ** 0.5
    assert by_id["lrn-imagenet-top1"] == pytest.approx(100 * math.hypot(one, one))
    assert math.isnan(by_id["parameters"])


def test_every_claim_is_shown_in_its_notebook(table):
    """Each in the ledger of its own, and all of them in the one about results."""
    assert "browse(table)" in (NOTEBOOKS / "08_results.ipynb").read_text()
    for notebook in set(table["notebook"]) - {"08_results"}:
        assert f'ledger(\\"{notebook}\\")' in (NOTEBOOKS / f"{notebook}.ipynb").read_text()
        assert (claims.claims(notebook)["notebook"] == notebook).all()


@pytest.mark.parametrize(
    ("stated", "measured", "expected"),
    [
        ({}, 10.0, "exact"),
        ({}, 10.1, "refuted"),
        ({"tolerance": 0.5}, 10.5, "holds"),
        ({"tolerance": 0.5}, 9.4, "differs"),
        ({"tolerance": 0.1, "paper": 0.3}, 0.4, "holds"),  # 0.4 - 0.3 is more than 0.1 in binary
        ({"relation": "<="}, 9.0, "holds"),
        ({"relation": "<=", "paper": 0.0}, 0.0, "holds"),  # no more than nothing
        ({"paper": 0.0}, 0.0, "exact"),
        ({"relation": "<="}, 10.1, "refuted"),
        ({"relation": ">=", "tolerance": 1.0}, 9.5, "holds"),
        ({"relation": ">="}, 9.5, "refuted"),
        ({"relation": ">=", "scale": "small"}, 11.0, "shown at small scale"),
        ({"relation": ">=", "scale": "small"}, 9.0, "differs"),
        ({"scale": "small"}, 9.0, "differs"),
        ({"tolerance": 0.5, "scale": "small"}, 10.2, "shown at small scale"),
        ({"relation": ">=", "bound": "ours"}, 9.5, "differs"),  # a bound of ours cannot refute the paper
        ({"built": True}, 10.0, "as built"),
        ({"built": True}, 10.1, "refuted"),
        ({}, math.nan, "needs ILSVRC"),
        ({"out_of_reach": True}, math.nan, "out of reach"),
        ({"undecided": "a reason"}, 10.0, "undecided"),
        ({"measure": "experiments.ablations.gain"}, math.nan, "not yet measured"),
    ],
)
def test_verdicts(stated, measured, expected):
    assert verdict(claim(**stated), measured) == expected


@pytest.mark.parametrize(
    ("stated", "low", "high", "expected"),
    [
        ({}, -1.0, 3.0, "undecided"),  # both the claim, 2, and nothing, 0
        ({}, 0.6, 3.4, "shown at small scale"),  # what the tolerance takes for the claim, and no more
        ({}, 0.1, 2.5, "undecided"),  # partly less than that
        ({}, 0.6, 3.6, "undecided"),  # partly more
        ({}, -1.0, 1.9, "undecided"),  # nothing, and what the tolerance still takes for the claim
        ({"tolerance": 0.5}, -1.0, 1.4, "differs"),  # nothing, and not the claim
        ({"tolerance": 0.5}, 0.2, 1.4, "differs"),
        ({"tolerance": 0.5}, 0.2, 1.8, "undecided"),  # an effect, perhaps of this size
        ({"tolerance": 0.5, "no_effect": None}, 0.2, 1.8, "undecided"),
        ({"tolerance": 0.0}, -1.0, 1.9, "differs"),
        ({"no_effect": None}, -1.0, 3.0, "undecided"),
        ({"no_effect": None}, 0.5, 3.5, "shown at small scale"),
        ({"tolerance": 0.5}, 2.4, 4.0, "undecided"),  # the mirror image
        ({"tolerance": 0.5}, 2.6, 4.0, "differs"),
        ({}, math.nan, math.nan, "shown at small scale"),
        ({"relation": ">=", "paper": 0.0}, -0.5, 2.5, "undecided"),  # that there is an effect, at all
        ({"relation": ">=", "paper": 0.0}, 0.5, 1.5, "shown at small scale"),
        ({"relation": ">=", "paper": 1.5, "tolerance": 0.0}, -0.5, 2.5, "undecided"),
        ({"relation": ">=", "paper": 3.0, "tolerance": 0.0}, -0.5, 2.5, "differs"),
        ({"relation": "<=", "paper": -1.0}, -1.5, 3.5, "undecided"),
        ({"relation": ">=", "paper": 2.5, "tolerance": 0.0}, -0.5, 2.5, "differs"),  # which it only touches
        ({"relation": "<=", "paper": -1.5, "tolerance": 0.0}, -1.5, 3.5, "differs"),
        ({"relation": ">=", "tolerance": 0.0, "no_effect": -9.0}, 0.5, 3.5, "undecided"),  # both sides of a bound
        ({"relation": "<=", "tolerance": 0.0, "no_effect": None}, 0.5, 3.5, "undecided"),
    ],
)
def test_too_few_runs_to_tell_are_undecided(stated, low, high, expected):
    usual = {"paper": 2.0, "tolerance": 1.5, "scale": "small", "no_effect": 0.0}
    assert verdict(claim(**usual | stated), 1.0, low, high) == expected


def test_p_is_student_s_from_three_runs_on():
    values = np.array([1.0, 2.0, 4.0])
    stated = claim(no_effect=0.5, relation=">=")
    expected = stats.ttest_1samp(values, 0.5).pvalue
    assert claims.p_alone(stated, values.mean(), values.std(ddof=1), 3) == pytest.approx(expected)
    assert claims.p_alone(stated, 2.0, 0.0, 3) == 0 and claims.p_alone(stated, 0.5, 1.0, 3) == 1
    assert math.isnan(claims.p_alone(stated, 2.0, 0.1, 2))  # two agree by luck
    assert math.isnan(claims.p_alone(claim(), 2.0, 0.1, 3)) and math.isnan(claims.p_alone(stated, 2.0, math.nan, 1))


def test_the_interval_is_student_s_over_runs_and_binomial_over_images():
    assert claims.interval(claim(), 1.0, 0.5, 4) == pytest.approx((1 - 3.1824 * 0.25, 1 + 3.1824 * 0.25), abs=1e-4)
    of_two = claims.interval(claim(), 1.0, 0.5 * 2**0.5, 2)
    assert of_two == pytest.approx((1 - 12.7062 * 0.5, 1 + 12.7062 * 0.5), abs=1e-4)
    of_one = claims.interval(claim(images=50_000, error=40.0), 1.0, math.nan, 1)
    assert of_one == pytest.approx((1 - 1.96 * 0.30984, 1 + 1.96 * 0.30984), abs=1e-3)
    assert math.isnan(claims.interval(claim(), 1.0, math.nan, 1)[0])


def test_the_strongest_data_are_taken():
    """By the rule at the head of claims.toml: of the series with three seeds, photographs of many classes first."""

    def seeds(dataset: str, *variants: str) -> int:
        return min(len(ablations.kept_runs(dataset, variant)) for variant in variants)

    checked = 0
    for row in read_claims():
        named = [value for value in row.arguments if value in STRENGTH]
        if row.measure in ("less_harm", "worst_placed") or (row.measure or "").startswith("experiments.ablations."):
            others = [value for value in row.arguments if value in ablations.VARIANTS]
            others += ["no-dropout"] if row.measure.endswith(("less_harm", "epochs_ratio")) else []
            strongest = next(data for data in STRENGTH if seeds(data, "baseline", *others) >= 3)
            assert named == [strongest], row.id
            checked += 1
    assert checked >= 20


def test_what_is_no_effect_meets_no_claim():
    """Half of the inputs are positive without biases, and doubled activations double without normalisation."""
    rows = {row.id: row for row in read_claims()}
    assert claims.verdict(rows["bias-positive"], measures.positive_inputs("0")) not in claims.MET
    assert claims.verdict(rows["lrn-brightness"], 2.0) not in claims.MET


def test_verdicts_are_no_bolder_than_what_they_rest_on(table):
    rows = table.set_index("id")
    assert rows.loc["trained-longer", "verdict"] == "undecided"  # one difference of two logs
    assert rows.loc["trained-longer", "low"] < 0 < rows.loc["trained-longer", "high"]
    assert rows.loc["logistic-published", ["low", "high", "spread"]].isna().all()  # no run got there
    crops = evidence.effects("tiny_imagenet").set_index("part").loc["crops and reflections", ["ours", "low", "high"]]
    assert rows.loc["crops-photographs", ["measured", "low", "high"]].tolist() == crops.tolist()


def test_a_statement_is_read_by_itself(table):
    """The table is sorted and filtered: no row points to the one above it."""
    leaning = r"^(?:The same|And |As |So |Also)|\bthere\b(?! (?:is|are))|\b(?:row|one) above\b|^[a-z]"
    assert table.loc[table["statement"].str.contains(leaning), "statement"].tolist() == [
        statement for statement in table["statement"] if statement.startswith(("tanh", "torch."))
    ]
    assert (table["statement"].str.split().map(len) >= 4).all() and table["statement"].is_unique


def prose_of(path) -> str:
    """What a page says, or a notebook: its words, and those that its cells have computed and saved."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    said = []
    for cell in json.loads(text)["cells"]:
        if cell["cell_type"] == "markdown":
            said.append("".join(cell["source"]))
        said += ["".join(out["data"].get("text/markdown", "")) for out in cell.get("outputs", []) if "data" in out]
    return "\n\n".join(said)


def test_what_prose_says_of_a_row_is_its_verdict(table):
    """Every row that a notebook or a page cites exists, and a verdict that a sentence gives it is the row's."""
    verdicts, checked = dict(zip(table["id"], table["verdict"], strict=True)), 0
    for path in (*NOTEBOOKS.glob("*.ipynb"), *NOTEBOOKS.parent.glob("*.md"), *NOTEBOOKS.parent.glob("docs/*.md")):
        text = prose_of(path)
        assert contradictions(text, verdicts) == [], path.name
        checked += sum(name in verdicts for name in re.findall(CITED, text))
    assert checked >= 25


CITED = r"`([a-z0-9]+(?:-[a-z0-9]+)+)`"
# by another name than a row's: nets, variants, commands
OTHERS = {*NETS, *ablations.VARIANTS}
ONLY_VERDICTS = ("refuted", "undecided")  # words that nothing else is called by, and need no italics


def contradictions(text: str, verdicts: dict[str, str]) -> list[str]:
    """Sentences that cite a row that doesn't exist, or give one another verdict than its own.

    A verdict in italics is that of the rows cited before it in the sentence, since the verdict before; where there are
    none, of those after it.
    """
    said = "|".join([rf"\*(?:{'|'.join(map(re.escape, claims.MEANING))})\*", *(rf"\b{w}\b" for w in ONLY_VERDICTS)])
    found = []
    for sentence in re.split(r"(?<=[.!?;])\s+|\n\n", text):
        if re.search(r"\b(?:rows?|claims?|ledger)\b", re.sub(CITED, "", sentence)):
            found += [sentence for name in re.findall(CITED, sentence) if name not in {*verdicts, *OTHERS}]
        pieces = re.split(f"({said})", sentence)
        if "in the ledger" in sentence and len(pieces) > 1 and not re.search(CITED, sentence):
            found.append(sentence)  # a verdict that nothing can be compared with
        cited = [[name for name in re.findall(CITED, piece) if name in verdicts] for piece in pieces[::2]]
        for place, word in enumerate(piece.strip("*") for piece in pieces[1::2]):
            rows = cited[place] or (cited[place + 1] if place == 0 else [])
            found += [sentence] * any(verdicts[name] != word for name in rows)
    return found


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("`a-row` *holds*. `another-row` *differs* from it, and `a-row` is cited.", False),
        ("`a-row` *holds*, and `another-row` *differs*.", False),
        ("`a-row` *differs*, and `another-row` *holds*.", True),  # each the other's
        ("Both `a-row` and `another-row` *hold*.", False),  # not the word of a verdict
        ("Both `a-row` and `another-row` are *holds*.", True),
        ("*Differs*, and *differs*: `another-row`.", False),
        ("*holds* is what `another-row` does.", True),
        ("All well. `a-row` is *refuted*.", True),
        ("`another-row` is undecided.", True),
        ("Their mean is low, hence *differs* in the ledger.", True),
        ("See the row `no-such-row`.", True),
        ("The net `conv-local-13pct` has a row.", False),
        ("`no-such-row` is something else.", False),
    ],
)
def test_a_contradiction_is_found(text, wrong):
    found = contradictions(text, {"a-row": "holds", "another-row": "differs"})
    assert bool(found) == wrong


def test_whatever_differs_or_is_refuted_is_discussed(table):
    """Notebook 08 gives a reason for each of AlexNet's rows that isn't met."""
    apart = table[table["verdict"].isin(["differs", "refuted"])]
    apart = apart[~apart["section"].str.startswith(("GoogLeNet", READERS))]
    said = prose_of(NOTEBOOKS / "08_results.ipynb")
    assert [name for name in apart["id"] if f"`{name}` " not in said] == [] and "Not discussed" not in said


def test_claims_are_compared_for_one_picture():
    columns = ["id", "paper", "measured", "low", "high", "log2012", "no_effect", "verdict"]
    nothing = math.nan
    rows = [
        ("twice", 2.0, 4.0, 3.0, 5.0, nothing, 1.0, "differs"),
        ("gain", 1.4, 0.5, -0.5, 1.5, nothing, 0.0, "undecided"),
        ("larger", 1.4, 2.5, 1.5, 3.5, nothing, 0.0, "differs"),
        ("logged", 40.0, nothing, nothing, nothing, 41.0, nothing, "needs ILSVRC"),
        ("open", 40.0, nothing, nothing, nothing, nothing, nothing, "not yet measured"),
        ("nothing-left", 0.0, 0.0, nothing, nothing, nothing, nothing, "exact"),
        ("something-left", 0.0, 8.0, nothing, nothing, nothing, nothing, "refuted"),
    ]
    shown = claims.compared(pd.DataFrame(rows, columns=columns)).set_index("id")
    kinds = {"twice": "value", "gain": "effect", "larger": "effect", "logged": "log", "open": "none"}
    assert shown["kind"].to_dict() == kinds | {"nothing-left": "value", "something-left": "value"}
    assert shown.loc["twice", ["times", "times_low", "times_high"]].tolist() == [2, 1.5, 2.5]
    assert shown["times"].drop(["gain", "larger", "open"]).tolist() == [1, 41 / 40, 2, math.inf]  # sorted
    assert [name for name in shown.index if kinds.get(name) == "effect"] == ["larger", "gain"]


def test_effects_say_what_no_effect_would_be(table):
    """Whatever is a mean over runs, but for shares and distances."""
    several = set(table.loc[table["n"] > 1, "id"])
    given = {row.id for row in read_claims() if row.no_effect is not None}
    others = {"neighbours-not-by-pixels", "pixel-codes", "reader-relu-not-much", "columns-specialise"}
    others |= {"relu-consistently-faster"}  # the smallest of several ratios, each of which has a row
    assert several - given == others


def test_a_measurement_is_a_number_or_a_mean_with_spread(monkeypatch):
    monkeypatch.setitem(MEASURES, "one", lambda name: len(name))
    monkeypatch.setitem(MEASURES, "three", lambda: (2.0, 0.5, 3))
    mean, spread, n = measure(claim(measure="one", arguments=["abc"]))
    assert (mean, n) == (3.0, 1) and math.isnan(spread)
    assert measure(claim(measure="three")) == (2.0, 0.5, 3)


def test_a_record_that_is_not_there_leaves_a_claim_open(monkeypatch):
    def missing():
        raise FileNotFoundError("no record; `python -m …` makes it")

    monkeypatch.setitem(MEASURES, "one", missing)
    stated = claim(measure="one")
    mean, _, n = measure(stated)
    assert math.isnan(mean) and n == 0 and verdict(stated, mean) == "not yet measured"


def test_the_committed_verdicts_stand(table):
    found = claims.changes(table, claims.accepted_verdicts())
    assert not found["lost"].any(), found[found["lost"]].to_string()


def test_what_has_changed_is_named(table):
    now = dict(zip(table["id"], table["verdict"], strict=True))
    exact, opened = (
        table.query("verdict == 'exact'")["id"].iloc[0],
        table.query("verdict == 'needs ILSVRC'")["id"].iloc[0],
    )
    assert claims.changes(table, now).empty
    before = now | {exact: "holds", opened: "not yet measured", "gone": "holds"}
    del before["parameters"]
    found = claims.changes(table, before).set_index("id")
    assert set(found.index) == {exact, opened, "gone", "parameters"}
    assert found["lost"].to_dict() == {exact: True, opened: False, "gone": True, "parameters": False}


def test_the_command_fails_when_a_verdict_is_lost(table, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(claims, "claims", lambda *_: table)
    monkeypatch.setattr(claims, "VERDICTS", tmp_path / "verdicts.json")
    assert main(["--accept"]) == 0 and main(["--check"]) == 0
    kept = json.loads((tmp_path / "verdicts.json").read_text())
    assert len(kept) == len(table)
    (tmp_path / "verdicts.json").write_text(json.dumps(kept | {"parameters": "refuted"}))
    assert main([]) == 0 and main(["--check"]) == 1
    assert "parameters" in capsys.readouterr().out.split("other verdicts than the committed ones")[1]


@pytest.mark.parametrize("text", [None, "[]", "null", "3", '{"a": 1}', "{", "[" * 100_000])
def test_without_committed_verdicts_nothing_is_compared(table, monkeypatch, tmp_path, capsys, text):
    path = tmp_path / "verdicts.json"
    monkeypatch.setattr(claims, "claims", lambda *_: table)
    monkeypatch.setattr(claims, "VERDICTS", path)
    if text is not None:
        path.write_text(text)
    with pytest.raises(SystemExit) as end:
        main(["--check"])
    assert end.value.code == 2 and "verdicts.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["", "claim = 3", "[claim]\nid = 'a'", "claim = [3]", "[[claim", "claim = " + "[" * 9999]
)
def test_a_file_without_claims_is_an_error(tmp_path, text):
    path = tmp_path / "claims.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match="claims.toml: "):
        claims.read_claims(path)


@pytest.mark.parametrize("measure", ["nowhere", "no_module.count", "budget.no_function", "."])
def test_a_claim_that_nothing_measures_is_an_error(measure):
    with pytest.raises(ValueError, match="measure = "):
        claims.measure(claim(measure=measure))


@pytest.mark.parametrize("seed", [1, 2])
def test_no_row_depends_on_what_was_drawn_before(table, seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        again = claims.claims()
    pd.testing.assert_frame_equal(again, table, check_exact=True)


def test_the_ledger_is_exported(table, monkeypatch, tmp_path):
    monkeypatch.setattr(claims, "claims", lambda *_: table)
    main(["--csv", str(tmp_path / "a.csv"), "--json", str(tmp_path / "a.json")])
    read = pd.read_csv(tmp_path / "a.csv")
    assert list(read.columns) == COLUMNS and read["id"].tolist() == table["id"].tolist()
    rows = json.loads((tmp_path / "a.json").read_text())
    whole = claims.claims().set_index("id")
    for row in rows:  # to the last digit
        assert row["tolerance"] == whole.loc[row["id"], "tolerance"]
        assert row["measured"] is None or row["measured"] == whole.loc[row["id"], "measured"]
    assert [row["verdict"] for row in rows] == table["verdict"].tolist()
    assert rows[0]["measured"] is None  # the first needs ImageNet


@pytest.mark.parametrize("kind", ["csv", "json", "html"])
def test_an_export_is_whole_or_not_there(table, monkeypatch, tmp_path, capsys, kind):
    """Others may be reading the file that is there."""
    monkeypatch.setattr(claims, "claims", lambda *_: table)
    (tmp_path / f"a.{kind}").write_text("old")
    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", lambda number: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(SystemExit):
            main([f"--{kind}", str(tmp_path / f"a.{kind}")])
    assert f"a.{kind}" in capsys.readouterr().err
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(f"a.{kind}", "old")]


def test_a_page_needs_nothing_but_itself(table, monkeypatch, tmp_path):
    monkeypatch.setattr(claims, "claims", lambda *_: table)
    main(["--html", str(tmp_path / "a.html")])
    text = html.unescape((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert all(f'<tr id="{name}"' in text for name in table["id"]) and all(
        what in text for what in claims.MEANING.values()
    )
    assert "src=" not in text and "://" not in text
    assert f"of {len(CLASSES)} classes" in page.WORDS["built-in pictures"]
    assert all(f"<dt>{word}</dt>" in text for word in page.WORDS) and re.search(r"version \d.*, \d+ \w+ 20\d\d", text)
    reasons = [reason for reason in table["undecided"] if reason]
    assert len(reasons) >= 4 and text.count("Undecided, because: ") == len(reasons)
    assert evidence.by_chance(table["p"], "no effect") in text
    assert text.count("<br>p ") == table["p"].notna().sum() > 30
    assert set(re.findall('href="([^"]*)"', text)) == {f"#{name}" for name in table["id"]}  # rows are cited by name


def test_a_page_has_a_column_for_whatever_a_verdict_rests_on(table):
    """The relation, the value, its tolerance, whose bound it is, and the number of runs, each to sort by."""
    row = table.set_index("id", drop=False).loc["ensemble-gain"].to_dict()
    given = {"relation": ">=", "tolerance": 1.5, "bound": "ours", "n": 5}
    text = page.page(pd.DataFrame([row | given]), claims.MEANING)
    heads = re.findall(r'<th [^>]*><button type="button">([^<]*)<', text)
    cells = dict(zip(heads, re.findall(r"<td [^>]*>(.*?)</td>", text), strict=True))
    assert (cells["is"], cells["stated"], cells["±"], cells["bound"], cells["n"]) == ("≥", "2.6", "1.5", "ours", "5")
    assert cells["claim"].endswith('<a class="name" href="#ensemble-gain">ensemble-gain</a>')
    owners = [("paper", "5"), ("paper", READERS), ("ours", READERS)]
    assert [page.whose({"bound": b, "section": s}) for b, s in owners] == ["paper", "reader", "ours"]


def test_a_page_shows_the_digits_that_a_spread_allows():
    row = {"measured": -46.5556, "spread": 1.7347, "n": 3}
    assert page.measured(row) == "-46.6 ± 1.7 (3 runs)"
    assert page.measured(row | {"measured": 0.013632, "spread": 0.001489}) == "0.0136 ± 0.0015 (3 runs)"
    assert page.measured(row | {"n": 1}) == "-46.56"
    assert page.measured(row | {"measured": 0.0, "spread": math.nan, "n": 5}) == "0 (5 runs)"
    ends = {"low": 26.6738, "high": 27.3003, "spread": 0.2523, "p": math.nan}
    assert page.interval(ends) == "<br><small>95 %: 26.67 to 27.30</small>" and page.interval({"low": math.nan}) == ""
    assert "27.30<br>p below 0.001; corrected 0.02<" in page.interval(ends | {"p": 0.0004, "corrected": 0.0203})
    assert [page.number(x) for x in (650_000.0, 55.0, 2e-5, math.nan)] == ["650,000", "55", "2.0e-5", ""]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(relation="<")], "a: relation = '<'"),
        ([row(tolerance=-1.0)], "a: tolerance = -1.0"),
        ([row(colour="red")], "a: unknown parameter 'colour'; accepted are id, section"),
        ([row(), row()], "two rows have the id a"),
        ([{"section": "1"}], "a row without an id: id is missing"),
    ],
)
def test_a_bad_row_is_named(tmp_path, rows, message):
    lines = [f"{key} = {value!r}" for one in rows for key, value in [("[[claim]]", None), *one.items()]]
    text = "\n".join("[[claim]]" if line.startswith("[[claim]]") else line for line in lines)
    (tmp_path / "claims.toml").write_text(text)
    with pytest.raises(ValueError) as error:
        read_claims(tmp_path / "claims.toml")
    assert message in str(error.value)


def test_a_notebook_without_claims_is_an_error(capsys):
    with pytest.raises(ValueError, match="notebook = '99'; claims are in "):
        claims.claims("99")
    with pytest.raises(SystemExit) as exit_:
        main(["--notebook", "99"])
    assert exit_.value.code == 2 and "claims are in" in capsys.readouterr().err


def test_one_row_is_repeated_by_its_command(table, capsys):
    """As most rows say under `how`."""
    assert main(["--only", "parameters", "gpu-memory"]) == 0
    printed = capsys.readouterr().out
    assert "60.965" in printed and table.set_index("id").loc["parameters", "statement"] in printed
    assert "undecided: Working space" in printed and "neurons" not in printed
    for how, name in zip(table["how"], table["id"], strict=True):
        assert "--only" not in how or not how.startswith("python -m alexnet_lib.claims") or how.endswith(f" {name}")
    with pytest.raises(SystemExit):
        main(["--only", "parameter"])
    assert "no row is called parameter; near to it are parameters" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--check", "--accept"], "not allowed with argument --check"),
        (["--only", "parameters", "--notebook", "04_pooling"], "04_pooling shows none of parameters"),
    ],
)
def test_what_would_do_nothing_is_refused(options, said, capsys):
    with pytest.raises(SystemExit) as end:
        main(options)
    assert end.value.code == 2 and said in capsys.readouterr().err


def test_accepting_one_row_keeps_the_others(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(claims, "VERDICTS", tmp_path / "verdicts.json")
    (tmp_path / "verdicts.json").write_text('{"neurons": "differs", "parameters": "refuted"}')
    main(["--only", "parameters", "--accept"])
    assert json.loads((tmp_path / "verdicts.json").read_text()) == {"neurons": "differs", "parameters": "holds"}
    assert main(["--only", "neurons", "--check"]) == 0


def test_the_command_prints_the_ledger(table, monkeypatch, capsys):
    monkeypatch.setattr(claims, "claims", lambda *_: table)
    main([])
    printed = capsys.readouterr().out
    assert all(name in printed for name in table["id"]) and table["verdict"].iloc[0] in printed


def test_a_notebook_shows_relation_tolerance_bound_spread_and_runs_in_columns(table, monkeypatch):
    from alexnet_lib import notebook

    measured = {"measured": 2.0, "n": 3, "spread": 0.25, "verdict": "differs"}
    stated = {"log2012": math.nan, "relation": ">=", "tolerance": 0.5, "bound": "ours"}
    shown = pd.DataFrame([row(**stated, **measured)])
    monkeypatch.setattr(notebook, "claims", lambda name: shown)
    expected = {"relation": "≥", "paper": "10", "tolerance": "0.5", "bound": "ours"}
    expected |= {"measured": "2.00 ± 0.25", "n": "3"}
    found = notebook.readable(shown).iloc[0]
    assert found[[*expected]].to_dict() == expected and found["verdict"] == "differs"
    assert all(f">{name}</th>" in ledger("x").data for name in found.index)
    rounding = shown.assign(measured=3e-16, n=1)
    monkeypatch.setattr(notebook, "claims", lambda name: rounding)
    assert "below 1e-12" in ledger("x").data


def test_the_file_is_part_of_the_package():
    assert LEDGER.is_file() and LEDGER.parent.name == "ledger"


def test_the_ledger_is_a_function_of_the_library():
    from alexnet_lib import claims as ledger_of

    pd.testing.assert_frame_equal(ledger_of("04_pooling"), claims.claims("04_pooling"))


def test_the_command_is_that_of_the_library():
    command = [sys.executable, "-m", "alexnet_lib.claims", "--notebook", "04_pooling"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    assert "pooling-top1" in done.stdout


@pytest.mark.parametrize("how", sorted({row.how for row in read_claims() if row.how.startswith("python -c ")}))
def test_a_command_that_prints_a_number_prints_it(how, capsys):
    python, option, code = shlex.split(how)
    exec(compile(code, how, "exec"), {})
    assert capsys.readouterr().out.strip()
