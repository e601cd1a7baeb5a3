"""The commands that records, README and the contract give are there, and accept the options that they are given."""

import argparse
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from importlib import import_module

import nbformat
import pytest

from alexnet_lib.claims import claims
from alexnet_lib.experiments import cifar_experiments, evidence, pretraining
from alexnet_lib.paths import NOTEBOOKS, REFERENCE, REPOSITORY


class Parsed(Exception):
    """The options are accepted."""


@pytest.fixture(autouse=True)
def no_work(monkeypatch):
    """Commands end when they have read their options."""
    parse, parse_known = argparse.ArgumentParser.parse_args, argparse.ArgumentParser.parse_known_args
    within = []

    def parse_and_stop(parser, arguments=None, namespace=None):
        within.append(parser)
        parse(parser, arguments, namespace)
        raise Parsed

    def refuse(parser, *arguments, **options):  # what is left over would be accepted, and the work would begin
        assert within, "a command that accepts options which it doesn't know"
        return parse_known(parser, *arguments, **options)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", refuse)


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


def told() -> set[str]:
    """The commands that pages, notebooks and rows of the ledger tell their readers."""
    pages = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *REPOSITORY.glob("docs/*.md")]
    texts = [page.read_text(encoding="utf-8") for page in pages]
    for path in NOTEBOOKS.glob("*.ipynb"):
        texts += [cell["source"] for cell in nbformat.read(path, as_version=4)["cells"]]
    rows = [command for how in claims()["how"] for command in re.split("; | \\(", how)]
    texts += [command for command in rows if command.startswith("python -m")]
    texts = [text.replace("--only NET", "--only conv-local-13pct") for text in texts]
    found = (re.findall(r"python -m alexnet_lib[^`#\n|\\\"]*", text) for text in texts)
    return {command.strip().removesuffix("…").strip() for commands in found for command in commands}


TOLD = sorted(told())


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
def test_the_benchmark_of_a_record_is_there_and_accepts_its_options(command, monkeypatch):
    _, path, *arguments = shlex.split(command)
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    script = runpy.run_path(str(REPOSITORY / path))
    with pytest.raises(Parsed):
        script["main"](arguments)


def test_every_record_says_how_it_is_made():
    """But series of runs, whose folders each do."""
    for folder in (path for path in REFERENCE.iterdir() if path.is_dir()):
        abouts = [*folder.glob("summary.json"), *folder.glob("about.json")]
        assert abouts or all(list(run.glob("summary.json")) for run in folder.iterdir()), folder.name
        assert all(json.loads(path.read_text(encoding="utf-8"))["command"] for path in abouts)


@pytest.mark.parametrize("script", ["benchmarks/lrn.py", "benchmarks/cifar_step.py", "docs/start.py"])
def test_a_script_refuses_options_that_it_does_not_have(script, monkeypatch, capsys):
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    with pytest.raises(SystemExit):
        runpy.run_path(str(REPOSITORY / script))["main"](["--hepl"])
    assert "--hepl" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "arguments", "told"),
    [
        ("load", ["opening", "--keep"], "all parts"),
        ("load", ["--small", "--keep"], "all parts"),
        ("load", ["openin"], "no part openin"),
        ("fuzz", ["archive", "--keep"], "all targets"),
        ("fuzz", ["archiv"], "no target archiv"),
        ("fuzz", ["--atheris"], "one target"),
        ("kill_matrix", ["--parts", "raw", "--moments", "2", "--keep"], "all parts"),
        ("kill_matrix", ["--keep"], "--moments"),
    ],
)
def test_a_record_of_the_whole_is_not_replaced_by_one_of_a_part(monkeypatch, capsys, module, arguments, told):
    monkeypatch.undo()  # they read their options, and look at them
    with pytest.raises(SystemExit):
        import_module(f"tests.{module}").main(arguments)
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "arguments", "told"),
    [
        (cifar_experiments, ["lrn", "--small"], "--small says nothing to lrn"),
        (cifar_experiments, ["figure1", "--again"], "--again says nothing to figure1"),
        (cifar_experiments, ["figure1", "--epochs", "3"], "--epochs says nothing to figure1"),
        (cifar_experiments, ["crossed", "--precision", "bf16"], "--precision says nothing to crossed"),
        (cifar_experiments, ["summary", "--only", "relu"], "--only says nothing to summary"),
        (evidence, ["--minutes", "9"], "--minutes says nothing without --run"),
        (pretraining, ["--few", "cifar10"], "--few says nothing without --many"),
        (pretraining, ["--many", "cifar10", "--few-classes", "3"], "--few-classes says nothing with --many"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(monkeypatch, capsys, module, arguments, told):
    monkeypatch.undo()  # they read their options, and look at them
    with pytest.raises(SystemExit):
        module.main(arguments)
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("script", ["tests/alone.py", "tests/baseline.py", "docs/book.py"])
def test_a_script_starts_from_a_plain_shell(script):
    """Python puts a script's own folder on its path, and not the one that it is called in."""
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, script, "--help"]
    told = subprocess.run(command, cwd=REPOSITORY, env=own, capture_output=True, text=True)
    assert told.returncode == 0 and "usage" in told.stdout, told.stderr


def test_every_option_says_what_it_is(monkeypatch):
    """Of each module of the library that README, the notebooks or the records tell people to call."""
    seen = {}

    def looked_at(parser, arguments=None, namespace=None):
        options = (action for action in parser._actions if not isinstance(action, argparse._SubParsersAction))
        seen[parser.prog] = [option.dest for option in options if not option.help]
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", looked_at)
    modules = {shlex.split(command)[2] for command in [*MODULES, *TOLD]}
    for module in sorted(module for module in modules if module.startswith("alexnet_lib")):
        with pytest.raises(Parsed):
            import_module(module).main([])
    assert len(seen) > 10 and {prog: silent for prog, silent in seen.items() if silent} == {}


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
    told = subprocess.run(
        [sys.executable, "-OO", "-c", program], cwd=REPOSITORY, capture_output=True, text=True, timeout=300
    )
    assert [line for line in told.stdout.splitlines() if line.startswith("ended ")] == [
        f"ended {name} 0" for name in modules
    ], told.stderr
