"""What only a card can show, where one is: that what is fast there is right, and that a repeated run is the same."""

import json
import subprocess
import sys

import pytest

from alexnet_lib.paths import REPOSITORY
from alexnet_lib.runs.job import usable_gpus

PARTS = ("equality", "repeatability", "training", "two_devices")


@pytest.mark.skipif(not usable_gpus(), reason="there is no GPU here")
@pytest.mark.parametrize("part", PARTS)
def test_a_card_reaches_what_has_nothing_to_do_with_its_speed(tmp_path, part):
    command = [sys.executable, REPOSITORY / "benchmarks" / "gpu.py", "--only", part, "--into", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    record = json.loads((tmp_path / f"{part}.json").read_text(encoding="utf-8"))
    missed = [row for row in record["rows"] if row["verdict"] == "missed" and not row["what"].endswith("one device")]
    assert missed == [] and record["rows"], done.stderr + record["traceback"]
