"""Every exercise of a notebook has a solution, and every solution runs by itself and holds."""

import ast
import re
import subprocess
import sys
import tempfile

import nbformat
import pytest

from alexnet_lib.paths import NOTEBOOKS

WIDTH = 100  # characters that fit beside the margins of a page
LONGEST = 25  # lines
FOLDED = re.compile(r"<details><summary>A solution</summary>\n\n```python\n(.*?\n)```\n.*?\n</details>", re.DOTALL)


def exercises_of(path) -> str:
    """What stands under the last heading of a notebook."""
    return nbformat.read(path, 4).cells[-1].source.rpartition("## Exercises")[2]


PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
SOLUTIONS = {f"{p.stem}-{i}": code for p in PATHS for i, code in enumerate(FOLDED.findall(exercises_of(p)), 1)}


def solve(code: str) -> None:
    """Run a solution in a namespace of its own, as somebody would who pastes it into a new notebook."""
    exec(compile(code, "solution", "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_notebook_ends_with_two_or_three_exercises_each_with_its_solution(path):
    text = exercises_of(path)
    questions = re.findall(r"^(\d)\. ", text, re.MULTILINE)
    assert questions in (["1", "2"], ["1", "2", "3"])
    pieces = re.split(r"^\d\. ", text, flags=re.MULTILINE)[1:]
    assert [len(FOLDED.findall(piece)) for piece in pieces] == [1] * len(questions)


@pytest.mark.parametrize("name", SOLUTIONS)
def test_a_solution_is_short_and_claims_something(name):
    code = SOLUTIONS[name]
    assert len(code.splitlines()) <= LONGEST
    assert any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(code)))


def test_solutions_are_formatted_and_linted(tmp_path):
    for name, code in SOLUTIONS.items():
        (tmp_path / f"{name.replace('-', '_')}.py").write_text(code)
    for command in (["format", "--diff"], ["check"]):
        options = ["-q", "--isolated", "--line-length", str(WIDTH), str(tmp_path)]
        done = subprocess.run([sys.executable, "-m", "ruff", *command, *options], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", SOLUTIONS)
def test_a_solution_holds(name, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("ALEXNET_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("ALEXNET_DATA", str(tmp_path / "data"))
    solve(SOLUTIONS[name])


def test_a_wrong_solution_fails():
    with pytest.raises(AssertionError):
        solve("import math\n\nassert math.pi == 3\n")
