"""deploy/ on a real cluster, under names of a test's own: what is applied is what an administrator would apply."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import select
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

from tests import servers

DEPLOY = servers.REPOSITORY / "deploy"
CLUSTER_SCRIPT = servers.REPOSITORY.parent / "shared" / "cluster" / "cluster"
OURS = "dyff-dagster:dev"
POSTGRES = "postgres:16"
LITTLE = {"cpu": "50m", "memory": "256Mi"}
"""What steps and sessions ask for here: a cluster for tests may have two cores for everything."""

_T = TypeVar("_T")


def not_here(reason: str) -> None:
    """Skip, or fail where the tests on Kubernetes are required."""
    if os.environ.get("DYFF_TEST_KUBERNETES") == "required":
        pytest.fail(reason)
    pytest.skip(reason)


def kubectl(
    *arguments: str, stdin: str | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run kubectl; where it is checked and fails, so does the test, with what it said."""
    done = subprocess.run(["kubectl", *arguments], input=stdin, capture_output=True, text=True)
    if check:
        assert done.returncode == 0, (
            f"kubectl {' '.join(arguments)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        )
    return done


def objects(kind: str, namespace: str, selector: str = "") -> list[dict[str, Any]]:
    """What there is of a kind in a namespace."""
    found: dict[str, Any] = json.loads(
        kubectl("get", kind, "-n", namespace, "-l", selector, "-o", "json").stdout
    )
    return list(found["items"])


def until(what: str, seconds: float, look: Callable[[], _T | None]) -> _T:
    """Look now and then, until there is something to see."""
    end = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < end, f"{what}: not within {seconds:g} s"
        time.sleep(0.5)


def node_images() -> set[str]:
    """Names of the images that nodes have already."""
    nodes = json.loads(kubectl("get", "nodes", "-o", "json").stdout)["items"]
    return {
        name for node in nodes for image in node["status"].get("images", ()) for name in image["names"] or ()
    }


def image_of_this_source() -> str:
    """An image of the source as it stands: DYFF_TEST_PROJECT_IMAGE, else one that is built where that can be done."""
    if named := os.environ.get("DYFF_TEST_PROJECT_IMAGE"):
        return named
    digest = hashlib.sha256()
    folders = ("dyff_dagster", "examples", "notebooks")
    for path in sorted(
        [
            *(p for name in folders for p in (servers.REPOSITORY / name).rglob("*") if p.is_file()),
            *(servers.REPOSITORY / name for name in ("pyproject.toml", "constraints.txt", "definitions.py")),
            DEPLOY / "Containerfile",
        ]
    ):
        if "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(servers.REPOSITORY)}\n".encode() + path.read_bytes())
    name = f"localhost/dyff-dagster:test-{digest.hexdigest()[:12]}"
    if name not in node_images():
        if not CLUSTER_SCRIPT.exists():
            not_here("DYFF_TEST_PROJECT_IMAGE names no image of deploy/Containerfile that the nodes can pull")
        built = subprocess.run(
            [CLUSTER_SCRIPT, "build", name, servers.REPOSITORY, DEPLOY / "Containerfile"],
            capture_output=True,
            text=True,
        )
        assert built.returncode == 0, built.stderr[-4000:]
    return name


def image_of_postgres() -> str:
    """An image of PostgreSQL: DYFF_TEST_POSTGRES, else the official one, or a stand-in where that cannot be pulled."""
    named = os.environ.get("DYFF_TEST_POSTGRES", POSTGRES)
    official = f"docker.io/library/{POSTGRES}"
    if named == POSTGRES and CLUSTER_SCRIPT.exists() and official not in node_images():
        subprocess.run(
            [CLUSTER_SCRIPT, "build", official, Path(__file__).with_name("postgres")],
            check=True,
            capture_output=True,
        )
    return named


@dataclass
class Deployment:
    """Dagster and what sessions need, in two namespaces of its own.

    Attributes:
        dagster: Namespace of Dagster, its runs and steps.
        sessions: Namespace of what answers.
        directory: Of the storage root on the node.
        image: The project's.
        settings: What is said otherwise than in deploy/cluster/settings.yaml.
    """

    dagster: str
    sessions: str
    directory: str
    image: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def documents(self, *paths: str) -> list[dict[str, Any]]:
        """What lies under deploy/, renamed.

        Args:
            paths: Directories with a kustomization, or files.
        """
        found: list[dict[str, Any]] = []
        for path in paths:
            whole = DEPLOY / path
            text = kubectl("kustomize", str(whole)).stdout if whole.is_dir() else whole.read_text()
            found += [document for document in yaml.safe_load_all(text) if document]
        return [self._renamed(document) for document in found]

    def _renamed(self, value: Any) -> Any:
        if isinstance(value, dict):
            renamed = {key: self._renamed(item) for key, item in value.items()}
            if "settings.yaml" in renamed:
                said = {**yaml.safe_load(renamed["settings.yaml"]), **self.settings}
                renamed["settings.yaml"] = yaml.safe_dump(self._renamed(said))
            return renamed
        if isinstance(value, list):
            return [self._renamed(item) for item in value]
        names = {
            "dyff": self.dagster,
            "dyff-sessions": self.sessions,
            "dyff-nodes": f"{self.dagster}-nodes",
            "dyff-storage-dagster": f"{self.dagster}-storage",
            "dyff-storage-sessions": f"{self.sessions}-storage",
            "/var/lib/dyff-storage": self.directory,
            OURS: self.image,
        }
        return names.get(value, value) if isinstance(value, str) else value

    def apply(self, documents: Sequence[Mapping[str, Any]], *flags: str) -> str:
        """Apply documents; what the server said of each."""
        return kubectl("apply", *flags, "-f", "-", stdin=yaml.safe_dump_all(documents)).stdout

    def execute(self, *command: str) -> str:
        """Run a command where the code location runs."""
        return kubectl("exec", "-n", self.dagster, "deploy/dyff-code", "--", *command).stdout

    def read(self, path: str) -> Any:
        """A JSON file below the storage root; None where there is none."""
        program = f"import pathlib; p = pathlib.Path('/storage/{path}'); print(p.read_text() if p.exists() else 'null')"
        return json.loads(self.execute("python3", "-c", program))

    def names(self, path: str) -> list[str]:
        """What lies in a directory below the storage root."""
        listed = f"[p.name for p in pathlib.Path('/storage/{path}').glob('*')]"
        program = f"import json, pathlib; print(json.dumps({listed}))"
        return list(json.loads(self.execute("python3", "-c", program)))

    def ready(self, *deployments: str) -> None:
        """Wait until deployments are as they should be."""
        for name in deployments:
            done = kubectl(
                "rollout", "status", "-n", self.dagster, f"deploy/{name}", "--timeout=300s", check=False
            )
            if done.returncode != 0:
                logs = kubectl(
                    "logs", "-n", self.dagster, f"deploy/{name}", "--all-containers", "--tail=30", check=False
                )
                pytest.fail(f"{name}: {done.stdout}\n{done.stderr}\n{logs.stdout}")

    @contextmanager
    def webserver(self) -> Iterator[Web]:
        """Dagster's web server, by a forwarded port."""
        line = ["kubectl", "port-forward", "-n", self.dagster, "svc/dyff-webserver", ":80"]
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            assert process.stdout is not None
            readable, _, _ = select.select([process.stdout], [], [], 60)
            said = process.stdout.readline().decode() if readable else ""
            assert "Forwarding from 127.0.0.1:" in said, said
            port = said.split("127.0.0.1:")[1].split()[0]
            yield Web(servers.Webserver(f"http://127.0.0.1:{port}", Path(os.devnull)), self)
        finally:
            process.terminate()
            process.wait()


@dataclass(frozen=True)
class Web:
    """Dagster's web server, as its UI uses it."""

    server: servers.Webserver
    deployment: Deployment

    def loaded(self, asset: str) -> None:
        """Wait until the code location has an asset; reload it now and then."""

        def look() -> bool:
            with contextlib.suppress(OSError, AssertionError, ValueError):
                self.server.graphql(
                    """mutation { reloadWorkspace { __typename ... on PythonError { message } } }"""
                )
                found = self.server.graphql("{ assetNodes { assetKey { path } } }")["assetNodes"]
                return asset.split("/") in [node["assetKey"]["path"] for node in found]
            return False

        until(f"the asset {asset}", 180, look)

    def launch(self, *assets: str) -> str:
        """Materialize assets as the UI's button does; the run's id."""
        data = self.server.graphql(
            """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {
                 __typename ... on LaunchRunSuccess { run { runId } } ... on Error { message } } }""",
            params={
                "mode": "default",
                "runConfigData": "{}",
                "selector": {
                    **self.server.selector(),
                    "pipelineName": "__ASSET_JOB",
                    "assetSelection": [{"path": asset.split("/")} for asset in assets],
                },
            },
        )
        assert data["launchRun"]["__typename"] == "LaunchRunSuccess", data
        return str(data["launchRun"]["run"]["runId"])

    def materializable(self) -> list[str]:
        """All assets that have an op."""
        nodes = self.server.graphql("{ assetNodes { isMaterializable assetKey { path } } }")["assetNodes"]
        return ["/".join(node["assetKey"]["path"]) for node in nodes if node["isMaterializable"]]

    def status(self, run_id: str) -> str:
        """Of a run, in Dagster's words."""
        data = self.server.graphql(
            "query($id: ID!) { runOrError(runId: $id) { ... on Run { status } ... on Error { message } } }",
            id=run_id,
        )
        return str(data["runOrError"]["status"])

    def ended(self, run_id: str, seconds: float = 420) -> str:
        """Wait for a run's end; its status."""
        over = ("SUCCESS", "FAILURE", "CANCELED")
        return until(
            f"the end of run {run_id}", seconds, lambda: s if (s := self.status(run_id)) in over else None
        )

    def terminate(self, run_id: str) -> None:
        """Cancel a run, as the UI's button does."""
        data = self.server.graphql(
            """mutation($id: String!) { terminateRun(runId: $id) {
                 __typename ... on TerminateRunFailure { message } ... on Error { message } } }""",
            id=run_id,
        )
        assert data["terminateRun"]["__typename"] == "TerminateRunSuccess", data


@contextmanager
def deployed(settings: Mapping[str, Any]) -> Iterator[Deployment]:
    """All of deploy/ for a cluster of one node, on names of its own; nothing of it is left."""
    suffix = secrets.token_hex(3)
    made = Deployment(
        dagster=f"dyff-test-{suffix}",
        sessions=f"dyff-test-{suffix}-s",
        directory=f"/var/lib/dyff-test-{suffix}",
        image=image_of_this_source(),
        settings=settings,
    )
    postgres = image_of_postgres()
    on_node(made, f"install -d -o 65532 -g 65532 /host/{Path(made.directory).name}")
    everything = made.documents("cluster", "storage/one-node.yaml")
    try:
        made.apply(everything)
        for name, key in (
            ("dyff-instance", "DYFF_INSTANCE_KEY"),
            ("dagster-postgresql-secret", "postgresql-password"),
        ):
            kubectl(
                "create", "secret", "generic", name, "-n", made.dagster,
                f"--from-literal={key}={secrets.token_hex(32)}",
            )  # fmt: skip
        documents = made.documents("postgres", "dagster")
        text = yaml.safe_dump_all(documents).replace(f"image: {POSTGRES}", f"image: {postgres}")
        made.apply(list(yaml.safe_load_all(text)))
        made.ready("postgres", "dyff-code", "dyff-daemon", "dyff-webserver")
        yield made
    finally:
        for namespace in (made.dagster, made.sessions):
            kubectl("delete", "namespace", namespace, "--timeout=120s", check=False)
        rest = [d for d in everything if d["kind"].startswith("Cluster") or d["kind"] == "PersistentVolume"]
        kubectl("delete", "-f", "-", "--timeout=60s", stdin=yaml.safe_dump_all(rest), check=False)
        on_node(made, f"rm -rf /host/{Path(made.directory).name}")


def on_node(made: Deployment, command: str) -> None:
    """Run a command on a node, as root, with /var/lib of the node at /host."""
    name = f"{made.dagster}-{secrets.token_hex(3)}"
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "containers": [
                {
                    "name": "command",
                    "image": made.image,
                    "command": ["sh", "-c", command],
                    "securityContext": {"runAsUser": 0},
                    "volumeMounts": [{"name": "host", "mountPath": "/host"}],
                }
            ],
            "volumes": [{"name": "host", "hostPath": {"path": "/var/lib"}}],
        },
    }
    kubectl("apply", "-f", "-", stdin=json.dumps(pod))
    try:
        until(
            f"the end of {command!r}",
            120,
            lambda: (
                kubectl("get", "pod", name, "-n", "default", "-o", "jsonpath={.status.phase}").stdout
                == "Succeeded"
            ),
        )
    finally:
        kubectl("delete", "pod", name, "-n", "default", "--grace-period=0", "--force", check=False)
