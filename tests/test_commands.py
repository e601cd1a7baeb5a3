"""The commands that records, README and the contract give are there, and accept the options that they are given."""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from importlib import import_module

import pytest

from alexnet_lib.paths import REFERENCE, REPOSITORY


class Parsed(Exception):
    """The options are accepted."""


@pytest.fixture(autouse=True)
def no_work(monkeypatch):
    """Commands end when they have read their options."""
    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(parser, arguments=None, namespace=None):
        parse(parser, arguments, namespace)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)


def kept() -> dict[str, list[str]]:
    """The commands of all records, each with the file that gives it."""
    found = {}
    for path in sorted([*REFERENCE.rglob("summary.json"), *REFERENCE.rglob("about.json")]):
        command = json.loads(path.read_text(encoding="utf-8")).get("command")
        if command is not None:
            found.setdefault(command, path)
    return found


KEPT = kept()
MODULES = sorted(command for command in KEPT if command.startswith("python -m") and "/config.json" not in command)
TOLD = sorted(
    {
        command.strip().removesuffix("…").strip()
        for page in ("README.md", "CONTRIBUTING.md", "docs/START_HERE.md", "docs/imagenet.md")
        for command in re.findall(
            r"python -m alexnet_lib[^`#\n|\\\"]*", (REPOSITORY / page).read_text(encoding="utf-8")
        )
    }
)


@pytest.mark.parametrize("command", [*MODULES, *TOLD])
def test_a_command_is_there_and_accepts_its_options(command, monkeypatch):
    def works(*arguments, **options):  # it has read its options in another way, and would run for hours
        raise AssertionError(f"{command} goes past argparse")

    monkeypatch.setattr(subprocess, "Popen", works)
    _, _, module, *arguments = shlex.split(command)
    main = import_module(module).main
    if not arguments and command in TOLD:  # only mentioned
        assert callable(main)
        return
    with pytest.raises(Parsed):
        main(arguments)


def test_every_run_is_repeated_by_the_configuration_beside_it():
    of_runs = {command: path for command, path in KEPT.items() if "/config.json" in command}
    for command, path in of_runs.items():
        assert command == f"python -m alexnet_lib.training {(path.parent / 'config.json').relative_to(REPOSITORY)}"
        assert (path.parent / "config.json").is_file()


@pytest.mark.parametrize("command", sorted(c for c in KEPT if not c.startswith("python -m")))
def test_the_benchmark_of_a_record_is_there(command):
    assert (REPOSITORY / shlex.split(command)[1]).is_file()


@pytest.mark.parametrize("script", ["tests/alone.py", "tests/baseline.py", "docs/book.py"])
def test_a_script_starts_from_a_plain_shell(script):
    """Python puts a script's own folder on its path, and not the one that it is called in."""
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, script, "--help"]
    told = subprocess.run(command, cwd=REPOSITORY, env=own, capture_output=True, text=True)
    assert told.returncode == 0 and "usage" in told.stdout, told.stderr


def test_commands_do_not_need_the_documentation_that_oo_drops():
    """Each module of README's and the records' commands says its help in one process under `python -OO`."""
    modules = sorted({shlex.split(command)[2] for command in [*MODULES, *TOLD]})
    program = f"""
import importlib
for name in {modules}:
    try:
        importlib.import_module(name).main(["--help"])
    except SystemExit as ended:
        print("ended", name, ended.code)
"""
    told = subprocess.run([sys.executable, "-OO", "-c", program], cwd=REPOSITORY, capture_output=True, text=True)
    assert [line for line in told.stdout.splitlines() if line.startswith("ended ")] == [
        f"ended {name} 0" for name in modules
    ], told.stderr
