"""Much at once, in small; `python -m tests.load` has it at length."""

import sys

import pytest

from tests.load import main

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into Linux' /proc")


def test_what_is_much_at_once_ends_within_its_memory(capsys):
    main(["--small"])
    said = capsys.readouterr().out
    assert "20 classes of 5 pictures" in said and "240 steps" in said and "growth of" in said
