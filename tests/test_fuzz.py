"""A few altered files of every kind; `make fuzz` has at least 100,000.

What is made to be too much: test_archives.py, test_copies.py and, of pictures, test_dataset.py.
"""

import subprocess
import sys

import pytest

from alexnet_lib.paths import REPOSITORY
from tests.fuzz import FEW, TARGETS


@pytest.mark.skipif(sys.platform != "linux", reason="bounds memory as Linux does")
def test_altered_files_end_in_answers_or_named_errors():
    command = [sys.executable, "-m", "tests.fuzz", "--inputs", str(FEW)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(",")[0] for line in lines[:-1]] == [f"target {name}" for name in TARGETS]
