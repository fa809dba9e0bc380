"""What is expensive and shared: the example, audited once for all tests that look at it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from dyff_dagster.store import Store
from tests import servers
from tests.integration import small_catalog, small_safety_case

# Every run tries the same examples, however slow the machine is: what fails, fails for everybody. (Hypothesis' plugin
# would import the package when all is over, at which Python 3.11.7 may fail, gh-106905; here it is there already.)
settings.register_profile(
    "project", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("project")


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


@dataclass(frozen=True)
class LaunchedAudit:
    """A small audit with a safety case, launched from Dagster's web server.

    Attributes:
        project: A directory with a definitions.py, in which it ran.
        server: The web server.
        run_id: The run.
    """

    project: Path
    server: servers.Webserver
    run_id: str


@pytest.fixture(scope="session")
def launched_audit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LaunchedAudit]:
    """Every computable asset of the small audit, materialized as the UI's button does it."""
    directory = tmp_path_factory.mktemp("launched")
    project = small_project(directory / "project")
    environment = servers.environment(directory / "home", DYFF_CATALOG="catalog", DYFF_EXECUTOR="in_process")
    with servers.webserver(project, environment, directory / "webserver.log", launches=True) as server:
        data = server.graphql("{ assetNodes { isMaterializable assetKey { path } } }")
        assets = [node["assetKey"]["path"] for node in data["assetNodes"] if node["isMaterializable"]]
        yield LaunchedAudit(project, server, server.launch(assets))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory with this repository's definitions.py and pyproject.toml over the small audit."""
    return small_project(tmp_path / "project")


def small_project(directory: Path) -> Path:
    """The three files that a project is made of, and the small audit beside them."""
    directory.mkdir()
    for name in ("definitions.py", "pyproject.toml", "workspace.yaml"):
        (directory / name).write_bytes((servers.REPOSITORY / name).read_bytes())
    small_safety_case.add(small_catalog.write(directory / "catalog"))
    return directory
