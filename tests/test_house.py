"""The plan of the library: the paper's sections at the top, everything else in folders that look one way."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from importlib import import_module

import nbformat
import pytest

from alexnet_lib.paths import NOTEBOOKS, REPOSITORY

LIBRARY = REPOSITORY / "alexnet_lib"
MODULES = sorted(LIBRARY.rglob("*.py"))
# from the ground up; a module at the top of the package may use the first two, whatever uses the paper stands above it
WINGS = ("data", "runs", "study", "experiments", "ledger", "live")
FRONT = ("walkthrough", "notebook", "claims")  # they run, show and check what all of the others do
MOST_LINES = 400
MOST_IMPORTS = 6
PACKAGES = ["alexnet_lib", *(f"alexnet_lib.{name}" for name in (*WINGS, "figures"))]
LAZY = ("alexnet_lib", "alexnet_lib.experiments", "alexnet_lib.runs", "alexnet_lib.study")  # they name what they give


def name_of(path) -> str:
    """A module below the package: "training", "runs.records"."""
    return ".".join(path.relative_to(LIBRARY).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path) -> set[str]:
    """The modules of the package that a file imports, wherever in the file."""
    known = {name_of(other) for other in MODULES}
    package, found = list(path.relative_to(LIBRARY).parts[:-1]), set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - (node.level - 1)] + (node.module.split(".") if node.module else [])
            inside = {".".join([*base, alias.name]) for alias in node.names} & known
            found |= inside or {".".join(base)} & known
    return found - {name_of(path)}


GRAPH = {name_of(path): imports_of(path) for path in MODULES}


def wing(module: str) -> str | None:
    """Its folder; None for the paper's modules."""
    return module.split(".")[0] if (LIBRARY / module.split(".")[0]).is_dir() else None


def test_no_module_needs_itself():
    assert list(TopologicalSorter(GRAPH).static_order())


@pytest.mark.parametrize("module", GRAPH)
def test_no_import_climbs(module):
    here = wing(module)
    allowed = set(WINGS[:2]) if here is None else {*WINGS[: WINGS.index(here) + 1]} if here in WINGS else {here}
    if module in FRONT:
        allowed = {*WINGS, "figures"}
    used = {other: wing(other) for other in GRAPH[module]}
    assert [other for other, folder in used.items() if folder is not None and folder not in allowed] == []
    assert module in FRONT or not {other for other in used if other in FRONT}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_text_is_read_and_written_as_utf_8_wherever(path):
    """Windows' own encoding, and that of LC_ALL=C, know neither every class's name nor our own files."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        name = getattr(getattr(node, "func", None), "attr", getattr(getattr(node, "func", None), "id", ""))
        if not isinstance(node, ast.Call) or name not in ("open", "read_text", "write_text"):
            continue
        said = ast.unparse(node)
        elsewhere = re.search(r"b\+?'", said) or re.match(r"(os|gzip|tarfile|Image|Record|opener)\.open|open_\w+", said)
        assert elsewhere or "utf-8" in said, said


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_file_is_longer_than_one_can_read(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("package", LAZY)
def test_every_name_that_a_package_gives_is_there(package):
    given = import_module(package)
    assert [name for name in given.__all__ if not hasattr(given, name)] == []


@pytest.mark.parametrize("package", LAZY)
def test_no_name_is_given_twice_nor_hides_a_module(package):
    given = import_module(package)
    names = " ".join(given.NAMES.values()).split()
    assert sorted({*names}) == sorted(names)
    hidden = {name for name in given.__all__ if f"{package}.{name}".removeprefix("alexnet_lib.") in GRAPH}
    assert hidden <= {"claims"}  # a module that can be called, too


def test_the_ledger_can_be_called_by_whichever_name_it_was_imported():
    code = "import alexnet_lib.claims; from alexnet_lib import claims; assert len(claims('05_augmentation'))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr == ""


def test_packages_load_nothing_heavy():
    """A command that needs no network starts without waiting for torch."""
    heavy = "{'torch', 'pandas', 'matplotlib'} & set(sys.modules)"
    code = f"import sys, {', '.join(PACKAGES)}; sys.exit(str({heavy}) if {heavy} else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr == ""


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_imports_from_few_modules(path):
    text = "\n".join(cell.source for cell in nbformat.read(path, 4).cells)
    lines = re.findall(r"^\s*(?:from|import) +(alexnet_lib[\w.]*)", text, re.MULTILINE)
    assert 0 < len(set(lines)) <= MOST_IMPORTS, sorted(set(lines))
