"""One list of dependencies, and every other file in step with it."""

import re
import subprocess
import tomllib

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from alexnet_lib.paths import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
# all but what nobody needs, and only who wants it installs
EXTRAS = {n: wanted for n, wanted in PROJECT["project"]["optional-dependencies"].items() if n != "tensorboard"}
LOCK = (REPOSITORY / "requirements.lock").read_text()
REGISTRIES = ("pypi", "files.pythonhosted", "download.pytorch", "conda.anaconda", "registry.npmjs")
ADDRESS = re.compile("|".join(rf"\b{re.escape(name)}\.(org|com)\b" for name in REGISTRIES) + "|index-url[ =]")


def locked() -> list[tuple[Requirement, int]]:
    """The lock's pins, each with its number of hashes."""
    entries = re.split(r"\n(?=\S)", LOCK.strip())
    return [(Requirement(e.split("\\")[0].strip()), e.count("--hash=sha256:")) for e in entries]


def pins_here() -> dict[str, Version]:
    """The locked versions for this Python and this machine."""
    here = [pin for pin, _ in locked() if pin.marker is None or pin.marker.evaluate(default_environment())]
    return {canonicalize_name(pin.name): Version(next(iter(pin.specifier)).version) for pin in here}


def tracked_texts() -> list:
    """The text files that git knows or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    found = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    paths = [REPOSITORY / line for line in found.splitlines()]
    return [p for p in paths if p.is_file() and p.suffix not in (".jpg", ".png", ".npy", ".npz", ".pt")]


def test_every_pin_of_the_lock_has_a_hash_and_no_address():
    assert len(locked()) > 100
    assert [str(pin) for pin, hashes in locked() if not hashes] == []
    assert {operator.operator for pin, _ in locked() for operator in pin.specifier} == {"=="}
    assert "://" not in LOCK


@pytest.mark.parametrize(
    "wanted", [*PROJECT["project"]["dependencies"], *(line for extra in EXTRAS.values() for line in extra)]
)
def test_the_lock_satisfies_the_ranges(wanted):
    wanted = Requirement(wanted)
    assert pins_here()[canonicalize_name(wanted.name)] in wanted.specifier


def test_what_nobody_needs_is_not_locked_and_said_to_be_installed_by_its_name():
    assert PROJECT["project"]["optional-dependencies"]["tensorboard"] and "tensorboard" not in pins_here()
    assert 'pip install -e ".[tensorboard]"' in (REPOSITORY / "docs" / "imagenet.md").read_text()


def test_the_lock_can_build_the_project_without_isolation():
    for requirement in map(Requirement, PROJECT["build-system"]["requires"]):
        assert pins_here()[canonicalize_name(requirement.name)] in requirement.specifier


def test_conda_lists_nothing_of_its_own():
    listed = yaml.safe_load((REPOSITORY / "environment.yml").read_text())
    *conda, last = listed["dependencies"]
    python, pip = map(Requirement, [conda[0].replace("=", "=="), conda[1]])
    assert (python.name, pip.name, len(conda)) == ("python", "pip", 2)
    supported = SpecifierSet(PROJECT["project"]["requires-python"])
    assert next(iter(python.specifier)).version in supported
    assert listed["channels"] == ["conda-forge", "nodefaults"]
    (line,) = last["pip"]
    extras = re.fullmatch(r"-e \.\[([a-z,]+)\]", line)
    assert extras and set(extras[1].split(",")) == set(EXTRAS)


def test_every_file_of_the_library_is_installed():
    library = REPOSITORY / "alexnet_lib"
    folders = [path.parent.relative_to(REPOSITORY) for path in sorted(library.rglob("__init__.py"))]
    packages = [".".join(folder.parts) for folder in folders]
    assert PROJECT["tool"]["setuptools"]["packages"] == packages
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["alexnet_lib"]
    installed = {path for pattern in patterns for path in library.glob(pattern)}
    installed |= {path for folder in folders for path in (REPOSITORY / folder).glob("*.py")}
    files = {path for path in tracked_texts() if library in path.parents}
    assert files - installed == set()


def test_the_licence_is_one_wherever_it_is_named():
    assert (REPOSITORY / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert PROJECT["project"]["license"] == citation["license"] == "MIT"


def test_the_version_is_one_wherever_it_is_named():
    version = Version(PROJECT["project"]["version"])
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    newest = re.search(r"(?m)^## ([\d.]+)(, unreleased)?$", (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert citation["version"] == str(version) and newest[1] == version.base_version
    assert bool(newest[2]) == version.is_prerelease


def test_no_file_names_a_registry():
    texts = {path: path.read_text(encoding="utf-8") for path in tracked_texts()}
    assert len(texts) > 10
    assert [str(path) for path, text in texts.items() if ADDRESS.search(text)] == []


def test_the_readme_speaks_of_targets_that_exist():
    targets = set(re.findall(r"^([a-z-]+):(?! export)", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)", (REPOSITORY / "README.md").read_text()))
    assert {"walkthrough", "test"} <= named <= targets
