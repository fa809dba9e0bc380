"""What is expensive and shared: the example, audited once for all tests that look at it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dyff_dagster.store import Store
from tests import servers


@dataclass(frozen=True)
class MaterializedExample:
    """The example audit, run by `make demo`'s command.

    Attributes:
        storage: Its storage root.
        environment: Variables with which further commands see the same Dagster instance and storage.
        pages_url: Where `dyff-dagster serve-pages` serves its pages, as its metadata says too.
    """

    storage: Path
    environment: dict[str, str]
    pages_url: str

    @property
    def store(self) -> Store:
        return Store(self.storage)


@pytest.fixture(scope="session")
def materialized_example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MaterializedExample]:
    """Every asset of examples/breast_cancer, and the server of its pages."""
    directory = tmp_path_factory.mktemp("example")
    storage = directory / "storage"
    environment = servers.environment(directory / "home", DYFF_STORAGE_ROOT=storage)
    with servers.pages(storage, servers.REPOSITORY, environment, directory / "pages.log") as url:
        environment["DYFF_PAGES_URL"] = url
        servers.run(
            servers.command(
                "dagster", "asset", "materialize", "--select", "*",
                "-f", "definitions.py", "-c", "examples/run-config.yaml",
            ),
            servers.REPOSITORY,
            environment,
        )  # fmt: skip
        yield MaterializedExample(storage, environment, url)


@pytest.fixture(scope="session")
def example_webserver(
    materialized_example: MaterializedExample, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[servers.Webserver]:
    """Dagster's web server over the materialized example."""
    log = tmp_path_factory.mktemp("webserver") / "stderr.log"
    with servers.webserver(servers.REPOSITORY, materialized_example.environment, log) as server:
        yield server
