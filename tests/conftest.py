"""Fixtures that more than one test file uses."""

import pytest

from tests.small_runs import prepare_place

LONGEST = ("test_profiles.py", "test_book.py")  # begun first, so that no process waits for the last one at the end


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A private folder with tiny data, where runs may leave what they like."""
    return prepare_place(tmp_path, monkeypatch)


@pytest.fixture(autouse=True)
def stores_beside_their_data(monkeypatch):
    """Wherever a developer keeps prepared stores, tests make their own."""
    monkeypatch.delenv("ALEXNET_STORES", raising=False)
