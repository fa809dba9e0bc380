"""A small audit with a second team, a service that answers nonsense and one entity that starts by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import servers
from tests.conftest import small_project
from tests.integration import small_catalog

MORE = """
kind: InferenceService
id: garbler
account: second-team
name: Answers no JSON
runner: {kind: standalone, args: [python, garble.py], resources: {storage: 1Mi}}
interface: {endpoint: answer, outputSchema: {arrow: {y: int64!}}}
---
kind: Evaluation
id: garbled
account: second-team
dataset: rows
inferenceSession: {inferenceService: garbler}
---
kind: Measurement
id: garbled-judged
account: second-team
method: judge
scope: {evaluation: garbled, inferenceService: garbler, dataset: rows}
inputs: [{keyword: rows, entity: rows}, {keyword: answers, entity: garbled}]
---
kind: Module
id: by-itself
account: second-team
name: Starts by itself
annotations: {dyff-dagster/files: code, dyff-dagster/automation: eager}
artifacts: [{path: small_functions.py}]
"""

DROPPED = """
kind: Module
id: dropped-in
account: second-team
name: Dropped into the folder while Dagster runs
annotations: {dyff-dagster/files: code}
artifacts: [{path: small_functions.py}]
"""


@dataclass(frozen=True)
class Site:
    """Where `dagster dev` runs over it.

    Attributes:
        server: Dagster's web server, with its daemon.
        pages_url: Where the pages are served.
        catalog: The directory of manifests.
    """

    server: servers.Webserver
    pages_url: str
    catalog: Path

    def url(self, path: str = "") -> str:
        """Of a page of Dagster's."""
        return f"{self.server.url}/{path}"


@contextmanager
def site(directory: Path) -> Iterator[Site]:
    """`dagster dev` and the server of pages, on free ports, with a DAGSTER_HOME of their own."""
    directory.mkdir(exist_ok=True)
    project = small_project(directory / "project")
    catalog = project / "catalog"
    (catalog / "garble.py").write_text(small_catalog.SERVICE.replace('os.path.exists("garbage")', "True"))
    (catalog / "second.yaml").write_text(MORE)
    port = servers.free_port()
    env = servers.environment(
        directory / "home",
        DYFF_CATALOG="catalog",
        DYFF_EXECUTOR="in_process",
        DYFF_STORAGE_ROOT=directory / "storage",
        DYFF_WEBSERVER_URL=f"http://127.0.0.1:{port}",
    )
    with servers.pages(directory / "storage", project, env, directory / "pages.log") as pages_url:
        env["DYFF_PAGES_URL"] = pages_url
        with servers.webserver(project, env, directory / "dev.log", launches=True, port=port) as server:
            yield Site(server, pages_url, catalog)
