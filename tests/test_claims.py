"""The ledger: every row can be read and measured, and the verdicts are what the rules say."""

import math

import pandas as pd
import pytest

from alexnet_lib import claims
from alexnet_lib.claims import COLUMNS, LEDGER, Claim, main, measure, read_claims, verdict
from alexnet_lib.notebook import ledger
from alexnet_lib.paths import NOTEBOOKS
from alexnet_lib.settings import check


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
    accepted = {"exact", "holds", "differs", "refuted", "shown at small scale", "needs ILSVRC"}
    assert list(table.columns) == COLUMNS and len(table) == len(read_claims()) > 0
    assert set(table["verdict"]) <= accepted and table["id"].is_unique
    measured = table["verdict"] != "needs ILSVRC"
    assert (table["measured"].notna() == measured).all() and ((table["n"] > 0) == measured).all()
    assert [row.measure is not None for row in read_claims()] == measured.tolist()


def test_every_claim_is_shown_in_its_notebook(table):
    for notebook in table["notebook"].unique():
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
        ({"relation": "<="}, 10.1, "refuted"),
        ({"relation": ">=", "tolerance": 1.0}, 9.5, "holds"),
        ({"relation": ">="}, 9.5, "refuted"),
        ({"relation": ">=", "scale": "small"}, 11.0, "shown at small scale"),
        ({"relation": ">=", "scale": "small"}, 9.0, "differs"),
        ({"tolerance": 0.5, "scale": "small"}, 10.2, "shown at small scale"),
        ({}, math.nan, "needs ILSVRC"),
    ],
)
def test_verdicts(stated, measured, expected):
    assert verdict(claim(**stated), measured) == expected


def test_a_measurement_is_a_number_or_a_mean_with_spread(monkeypatch):
    from alexnet_lib import cifar_experiments

    monkeypatch.setattr(cifar_experiments, "one", lambda name: len(name), raising=False)
    monkeypatch.setattr(cifar_experiments, "three", lambda: (2.0, 0.5, 3), raising=False)
    mean, spread, n = measure(claim(measure="cifar_experiments.one", arguments=["abc"]))
    assert (mean, n) == (3.0, 1) and math.isnan(spread)
    assert measure(claim(measure="cifar_experiments.three")) == (2.0, 0.5, 3)


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


def test_the_command_prints_the_ledger(table, monkeypatch, capsys):
    monkeypatch.setattr(claims, "claims", lambda notebook=None: table)
    main([])
    printed = capsys.readouterr().out
    assert all(name in printed for name in table["id"]) and table["verdict"].iloc[0] in printed


def test_a_notebook_shows_spread_and_number_of_runs(table, monkeypatch):
    from alexnet_lib import notebook

    shown = pd.DataFrame([row(log2012=math.nan, measured=2.0, n=3, spread=0.25, tolerance=0.5, verdict="differs")])
    monkeypatch.setattr(notebook, "claims", lambda name: shown)
    assert "2 ± 0.25 (3 runs)" in ledger("x").data and "differs" in ledger("x").data
    rounding = shown.assign(measured=3e-16, n=1)
    monkeypatch.setattr(notebook, "claims", lambda name: rounding)
    assert "below 1e-12" in ledger("x").data


def test_the_file_is_part_of_the_package():
    assert LEDGER.is_file() and LEDGER.parent.name == "alexnet_lib"
