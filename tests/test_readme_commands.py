"""README's commands, as they are printed, in a fresh shell: those that end within seconds are run.

The others are read, and begin as they would, for the reasons given in READ.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from alexnet_lib.paths import REPOSITORY
from tests.small_runs import prepare_place

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
ACTIVATE = Path(sys.prefix) / "bin" / "activate"
# what ends at once, and how: without ImageNet's pictures a command says how to get them
RUN = {
    "source .venv/bin/activate": 0,
    "papermill --help-notebook notebooks/07_train.ipynb": 0,
    "python -m alexnet_lib.dataset prepare ilsvrc2012": 2,
    "python -m alexnet_lib.dataset prepare ilsvrc2012-jpeg": 2,
    """echo '{"dataset": "ilsvrc2012", "net": "paper", "recipe": "paper", "speed": "fast"}' > paper.json""": 0,
    "python -m alexnet_lib.training paper.json": 2,
}
# what `make` would do, which a shell shows without doing it
MADE = {
    "make lab": "docs/lab.py",  # a server, which test_lab_first_hour starts
    "make lab PYTHON=/path/to/python3.11": "docs/lab.py",  # where .venv is there, that Python is not looked for
    "make walkthrough": "-m alexnet_lib.walkthrough --profile",  # minutes
    "make test": "-m pytest",  # these tests
    "make book": "docs/book.py",  # a minute; test_book builds it
    "make evidence": "-m alexnet_lib.experiments.evidence",  # test_evidence
    "make bench": "benchmarks/step.py",  # a quarter of an hour
    "make gpu-check": "benchmarks/gpu.py",  # wants a GPU
}
READ = {
    "papermill notebooks/07_train.ipynb out.ipynb -p dataset /path/to/folder -p epochs 90": "hours of training",
    "python -m alexnet_lib.dataset download cifar10": "needs the network",
    "python -m alexnet_lib.dataset download tiny_imagenet": "needs the network",
    "python -m alexnet_lib.dataset download imagenette": "needs the network",
    "python -m alexnet_lib.claims --html ledger.html": "test_claims writes the page",
    "python -m alexnet_lib.runs.export RUN": "RUN stands for a folder; run below with one",
    "python -m alexnet_lib.live RUN": "RUN stands for a folder; test_live writes the page",
    "sbatch docs/imagenet.sbatch paper.json": "needs Slurm; test_slurm puts stand-ins in its place",
}
pytestmark = pytest.mark.skipif(not ACTIVATE.is_file(), reason="this Python is not of a virtual environment")


def printed() -> list[str]:
    """The commands of README: the lines of its blocks of shell, and those within sentences and tables."""
    blocks = re.findall(r"(?ms)^```\n(.*?)^```", README)
    lines = [line for block in blocks for line in block.splitlines()]
    rest = re.sub(r"(?ms)^```.*?^```", "", README)
    return lines + re.findall(r"`((?:make|python|papermill|sbatch) [^`]+)`", rest)


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """A function that gives lines to a fresh shell in a checkout, with pictures of a few bytes as the built-in ones."""
    home = tmp_path_factory.mktemp("checkout")
    for name in ("alexnet_lib", "notebooks", "docs", "benchmarks", "tests"):
        shutil.copytree(REPOSITORY / name, home / name, ignore=shutil.ignore_patterns("__pycache__", "_build"))
    for name in ("README.md", "Makefile", "pyproject.toml", "setup.py", "requirements.lock"):
        shutil.copy2(REPOSITORY / name, home / name)
    (home / "results").symlink_to(REPOSITORY / "results")
    (home / ".venv").symlink_to(sys.prefix)
    with pytest.MonkeyPatch.context() as patch:
        prepare_place(home, patch)

    def run(*lines: str) -> subprocess.CompletedProcess:
        own = {"HOME": str(home), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
        options = {"cwd": home, "env": own, "capture_output": True, "text": True, "timeout": 300}
        return subprocess.run(["bash", "--noprofile", "--norc", "-c", "\n".join(lines)], **options)

    return run


def test_every_command_is_run_or_read_for_a_reason():
    found = set(printed())
    known = RUN.keys() | MADE.keys() | READ.keys()
    assert found - known == set() and (RUN.keys() | READ.keys()) - found == set()


def test_what_ends_within_seconds_does_what_is_printed(shell):
    """One shell for all of them, in README's order, as somebody has who follows it."""
    lines = [line for line in dict.fromkeys(printed()) if line in RUN]
    done = shell(*(f'{line}; echo "=== $? {i}"' for i, line in enumerate(lines)))
    codes = re.findall(r"=== (\d+) (\d+)", done.stdout)
    assert {lines[int(i)]: int(code) for code, i in codes} == {line: RUN[line] for line in lines}, done.stderr
    assert done.stderr.count("ilsvrc2012") >= 3 and "image-net.org" in done.stderr and "Traceback" not in done.stderr
    assert 'epochs: Unknown type (default "auto")' in done.stdout


def test_a_run_is_trained_and_exported_as_it_is_printed(shell):
    """The commands of "Training for real" and "The library" on few pictures."""
    small = '{"dataset": "embedded", "width": 0.05, "epochs": 1, "batch_size": 12, "device": "cpu"}'
    lines = [f"echo '{small}' > paper.json", "source .venv/bin/activate", "set -e"]
    lines += ["RUN=$(python -m alexnet_lib.training paper.json | tail -1)", 'echo "$RUN"']
    done = shell(*lines, 'python -m alexnet_lib.runs.export "$RUN"')
    assert done.returncode == 0, done.stderr
    exported = Path(done.stdout.splitlines()[-1])
    assert {"model.safetensors", "net.pt2", "README.md"} <= {path.name for path in exported.iterdir()}


def test_the_example_of_the_library_runs_as_it_is_printed(shell):
    (example,) = re.findall(r"(?ms)^```python\n(.*?)^```", README)
    count = re.search(r"# ([\d,]+) parameters", example)[1].replace(",", "")
    more = f"assert sum(p.numel() for p in net.parameters()) == {count}\n"
    more += "assert len(next_net.train()(torch.zeros(2, 3, 224, 224))) == 3"
    done = shell("source .venv/bin/activate", f"python - <<'END'\n{example}\nimport torch\n{more}\nEND")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", MADE)
def test_make_would_begin_what_is_printed(shell, command):
    done = shell(command.replace("make ", "make --dry-run "))
    assert done.returncode == 0 and MADE[command] in done.stdout, done.stderr
