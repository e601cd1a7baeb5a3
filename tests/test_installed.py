"""The library by itself: installed without the repository, from another folder, it works and says what it lacks."""

import os
import shutil
import subprocess
import sys
from zipfile import ZipFile

import pytest

from alexnet_lib.paths import NOTEBOOKS, REPOSITORY

MAKE = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A home, and a function that runs Python there with the installed library alone."""
    home, source = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("source")
    shutil.copytree(REPOSITORY / "alexnet_lib", source / "alexnet_lib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    subprocess.run([*MAKE, "--target", str(home / "packages"), str(source)], check=True)
    own = {name: value for name, value in os.environ.items() if not name.startswith(("ALEXNET_", "PYTHON"))}
    own |= {"PYTHONPATH": str(home / "packages"), "HOME": str(home), "ALEXNET_PROGRESS": "none"}

    def run(*arguments, **variables):
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=home, env=own | variables, capture_output=True, text=True)

    return home, run


WORKS = """
import alexnet_lib, torch
from alexnet_lib import dataset
from alexnet_lib.paths import data_dir, runs_dir
from alexnet_lib.runs import reference
assert "packages" in alexnet_lib.__file__
dataset.EMBEDDED32_COUNTS = {"train": 48, "val": 24}
stores = alexnet_lib.load_dataset("embedded32")
print(len(stores["train"]), stores["train"].folder)
print(tuple(alexnet_lib.alexnet("code2012", 5, width=0.05, seed=0)(torch.zeros(1, 3, 224, 224)).shape))
print(runs_dir())
from alexnet_lib.live.page import HERE, SCRIPTS
assert all((HERE / name).is_file() for name in ("page.html", "style.css", *SCRIPTS))
for ask in (lambda: alexnet_lib.load_dataset("embedded"), lambda: reference("x"), alexnet_lib.claims):
    try:
        ask()
    except FileNotFoundError as error:
        print(error)
"""


def test_it_works_and_says_what_it_lacks(installed):
    home, run = installed
    done = run("-c", WORKS)
    assert done.returncode == 0, done.stderr
    stored, shape, runs, *lacking = done.stdout.splitlines()
    assert stored == f"48 {home}/alexnet-walkthrough/data/prepared/embedded32-32/train" and shape == "(1, 5)"
    assert runs == f"{home}/alexnet-walkthrough/runs"
    folder = f"{home}/alexnet-walkthrough/data/embedded"
    assert f"is not in {folder}: " in lacking[0] and f"`python -m alexnet_lib.data.embedded {folder}` dr" in lacking[0]
    assert lacking[1].startswith("the record 'x': part of the repository") and "pip install -e ." in lacking[1]
    assert lacking[2].startswith("the records that the ledger measures: part of the repository")
    written = [path.name for path in home.iterdir()]
    assert sorted(written) == ["alexnet-walkthrough", "packages"]


def test_the_notebooks_are_named_as_missing(installed):
    _, run = installed
    done = run("-m", "alexnet_lib.walkthrough")
    assert done.returncode == 2 and "the notebooks: part of the repository" in done.stderr


def test_nbconvert_as_typed_keeps_the_descriptions_of_pictures(installed):
    """`pip install --target` lays the environment's etc/jupyter into the target, so that is named in its place."""
    home, run = installed
    shutil.copy(NOTEBOOKS / "03_lrn.ipynb", home)
    (given,) = (home / "packages" / "etc" / "jupyter").glob("*config*")
    for variables, undescribed in (
        ({"JUPYTER_NO_CONFIG": "1"}, True),  # nor that of the environment of these tests
        ({"JUPYTER_CONFIG_PATH": str(given.parent)}, False),
    ):
        done = run("-m", "nbconvert", "--to", "html", "03_lrn.ipynb", **variables)
        assert done.returncode == 0, done.stderr
        assert ("Alternative text is missing" in done.stderr) == undescribed


def test_an_editable_install_brings_the_same_files(tmp_path):
    """`make` installs so; setuptools by itself leaves data files out. The wheel is only looked into: pip would take the
    project that is there away, to put this one in its place."""
    source = tmp_path / "source"
    shutil.copytree(REPOSITORY / "alexnet_lib", source / "alexnet_lib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    build = f"from setuptools.build_meta import build_editable; build_editable({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", build], check=True, cwd=source, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert [name for name in ZipFile(wheel).namelist() if name.endswith(".data/data/etc/jupyter/jupyter_config.py")]
