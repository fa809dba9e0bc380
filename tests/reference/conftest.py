"""One process of each version for all tests: importing the reference takes seconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.reference.asking import Reference, start


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test that asks for a reference waits until its environment is made."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(1200))


@pytest.fixture(scope="session")
def older() -> Iterator[Reference]:
    """dyff-schema 0.12.0, whose types are those of the page."""
    reference = start("0.12.0")
    yield reference
    reference.close()


@pytest.fixture(scope="session")
def newer() -> Iterator[Reference]:
    """dyff-schema 0.46.17 with dyff-audit and dyff-client."""
    reference = start("0.46.17")
    yield reference
    reference.close()
