"""The count of covered lines; `python -m tests.covered` makes it."""

import json

import pytest

from tests import covered

ENDED = {"code": 0, "tests": 3, "failures": 0, "errors": 0, "skipped": 1}


@pytest.mark.parametrize(("run", "code", "ends"), [(96, 0, 0), (94, 0, 1), (96, 1, 1)])
def test_it_ends_well_with_enough_lines_and_tests_that_pass(monkeypatch, tmp_path, capsys, run, code, ends):
    rows = [{"module": "a.py", "lines": 60, "run": run - 40}, {"module": "b.py", "lines": 40, "run": 40}]
    monkeypatch.setattr(covered, "run", lambda arguments: (rows, ENDED | {"code": code}))
    monkeypatch.setattr(covered, "REFERENCE", tmp_path)
    assert covered.main(["--keep", "--", "-x"]) == ends
    assert f"{run} of 100 lines" in capsys.readouterr().out
    assert (tmp_path / "coverage" / "lines.csv").is_file() == (not ends)
    if not ends:
        about = json.loads((tmp_path / "coverage" / "summary.json").read_text())
        assert about["percent"] == 96 and about["skipped"] == 1 and about["command"].endswith("--keep -- -x")
