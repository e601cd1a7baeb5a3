"""A few random moments of the kill matrix; `make kill-matrix` has more, and the parts that take many seconds."""

import subprocess
import sys

import pytest

from alexnet_lib.paths import REPOSITORY
from tests.kill_matrix import FEW, PARTS


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="forks")
def test_what_is_killed_at_random_ends_with_the_same_bytes():
    command = [sys.executable, "-m", "tests.kill_matrix"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == [name for name, part in PARTS.items() if not part.several]
    assert all(f"in {FEW} rounds" in line for line in lines)
