"""Evaluations of one hosted service, run by Dagster's command line, and the service, which holds its answers back."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from tests import servers

POOL = "services/hosted"
PATIENCE = 240.0
"""Seconds for what takes three on an idle machine."""

_SERVICE = """
kind: InferenceService
id: hosted
account: acme
name: Answers elsewhere
interface: {endpoint: URL, outputSchema: {arrow: {y: int64!}}}
"""

_EVALUATION = """
---
kind: Dataset
id: rows-NAME
account: acme
name: Rows of NAME
annotations: {dyff-dagster/withhold: "", dyff-dagster/files: NAME}
artifacts: [{path: data.parquet}]
schema: {arrow: {name: string!, x: int64!}}
---
kind: Evaluation
id: NAME
account: acme
labels: LABELS
dataset: rows-NAME
workersPerReplica: 2
inferenceSession: {inferenceService: hosted}
"""


@dataclass
class Service:
    """The hosted service.

    Attributes:
        asked: Names of the evaluations of all requests, in order of arrival.
        open: Set: it answers. Else requests wait.
    """

    asked: list[str] = field(default_factory=list)
    open: threading.Event = field(default_factory=threading.Event)

    @property
    def order(self) -> list[str]:
        """Evaluations by turns: one that is asked for again after another stands twice."""
        names = list(self.asked)
        return [name for at, name in enumerate(names) if at == 0 or names[at - 1] != name]


@contextmanager
def hosted() -> Iterator[tuple[Service, str]]:
    """The service on loopback, and its URL."""
    service = Service()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            row = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            service.asked.append(row["name"])
            service.open.wait(PATIENCE)
            body = json.dumps({"y": 2 * row["x"]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def handle(self) -> None:
            with suppress(ConnectionError):  # of a run that was killed
                super().handle()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield service, f"http://127.0.0.1:{server.server_port}/answer"
    finally:
        service.open.set()
        server.shutdown()
        server.server_close()


@dataclass
class HostedAudit:
    """A project with some evaluations of the service.

    Attributes:
        directory: Its definitions.py and catalog.
        service: What answers.
        environment: Of commands.
    """

    directory: Path
    service: Service
    environment: dict[str, str]

    @classmethod
    def write(
        cls,
        directory: Path,
        service: Service,
        url: str,
        evaluations: Mapping[str, Mapping[str, str]],
        instance: Mapping[str, Any],
    ) -> HostedAudit:
        """Write a project.

        Args:
            directory: Where.
            service: What answers.
            url: Where it does.
            evaluations: Labels of each, by id.
            instance: What dagster.yaml says besides the repository's own.
        """
        catalog = directory / "catalog"
        catalog.mkdir(parents=True)
        text = _SERVICE.replace("URL", url)
        schema = pa.schema(
            [
                pa.field("_index_", pa.int64(), nullable=False),
                pa.field("name", pa.string(), nullable=False),
                pa.field("x", pa.int64(), nullable=False),
            ]
        )
        for name, labels in evaluations.items():
            text += _EVALUATION.replace("NAME", name).replace("LABELS", json.dumps(dict(labels)))
            (catalog / name).mkdir()
            rows = [{"_index_": i, "name": name, "x": i} for i in range(6)]
            pq.write_table(pa.Table.from_pylist(rows, schema=schema), catalog / name / "data.parquet")
        (catalog / "audit.yaml").write_text(text)
        (directory / "definitions.py").write_text((servers.REPOSITORY / "definitions.py").read_text())
        (directory / "in-process.yaml").write_text("execution: {config: {in_process: {}}}\n")
        environment = servers.environment(directory / "home", DYFF_CATALOG=catalog)
        said = yaml.safe_load((directory / "home" / "dagster.yaml").read_text())
        for key, value in instance.items():
            said[key] = {**said.get(key, {}), **value}
        (directory / "home" / "dagster.yaml").write_text(yaml.safe_dump(said))
        return cls(directory, service, environment)

    def datasets(self) -> None:
        """Materialize all data sets, in one process."""
        servers.run(
            [*self._command("kind:dataset"), "-c", "in-process.yaml"], self.directory, self.environment
        )

    @contextmanager
    def evaluation(self, name: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """A run of an evaluation on the command line; nothing of it is left when the context is over."""
        log = self.directory / f"{name}.log"
        command = [*self._command(f'key:"evaluations/{name}"'), *arguments]
        quiet = ["/bin/sh", "-c", 'exec "$0" "$@" >/dev/null', *command]
        with servers.background(quiet, self.directory, self.environment, log) as process:
            yield process

    def _command(self, selection: str) -> list[str]:
        return servers.command(
            "dagster", "asset", "materialize", "--select", selection, "-f", "definitions.py"
        )

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        """The instance of these runs."""
        with dg.DagsterInstance.from_config(str(self.directory / "home")) as instance:
            yield instance

    def waiting(self, instance: dg.DagsterInstance) -> int:
        """How many evaluations wait for a place in the pool of the service."""
        return instance.event_log_storage.get_concurrency_info(POOL).pending_step_count

    def taken(self, instance: dg.DagsterInstance) -> int:
        """How many places are taken."""
        return len(instance.event_log_storage.get_concurrency_info(POOL).claimed_slots)


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Wait until it comes to pass; a slow machine is no failure."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"it did not come to pass that {what}"
        time.sleep(0.05)
