"""Fixtures that more than one test file uses."""

import signal

import pytest
import torch
from hypothesis import settings

from tests.small_runs import prepare_place

# begun first, so that no process waits for the last one at the end
LONGEST = ("test_lab_first_hour.py", "test_profiles.py", "test_lab.py", "test_book.py")

settings.register_profile("own", deadline=None)  # how long an example takes says how busy the machine is
settings.load_profile("own")

# A script's background ignores SIGINT, nohup SIGHUP. What a test starts would ignore them, too, and not end by them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)  # unlike SIG_IGN, no program that is started inherits it


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A private folder with tiny data, where runs may leave what they like."""
    return prepare_place(tmp_path, monkeypatch)


@pytest.fixture(autouse=True)
def seeded():
    """What a test draws without a generator of its own is the same each time."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def stores_beside_their_data(monkeypatch):
    """Wherever a developer keeps prepared stores, tests make their own."""
    monkeypatch.delenv("ALEXNET_STORES", raising=False)
