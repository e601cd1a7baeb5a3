"""Much at once, in small; `python -m tests.load` has it at length."""

import sys

import pytest

from tests.load import main

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into Linux' /proc")


def test_what_is_much_at_once_ends_within_its_memory(capsys):
    main(["--small"])
    said = capsys.readouterr().out
    assert all(
        part in said for part in ("20 classes of 5 pictures", "20,000 members", "1,000 pictures opened", "240 steps")
    )
