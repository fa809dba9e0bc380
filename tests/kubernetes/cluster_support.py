"""What the tests on a cluster share: settings, sessions of a small service, and a catalog that uses them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from dyff_dagster.schema.platform import DataSchema, Evaluation, InferenceSession
from dyff_dagster.sessions.kubernetes import Cluster, KubernetesSettings, Owner
from dyff_dagster.sessions.kubernetes.api import KubernetesApi
from dyff_dagster.sessions.kubernetes.names import MANAGED_BY, MANAGER
from tests.integration import small_catalog

PROGRAM = Path(__file__).with_name("pod_service.py")
OUTPUT = DataSchema.make_output_schema(pa.schema([pa.field("y", pa.int64(), nullable=False)]))
OURS = f"{MANAGED_BY}={MANAGER}"
KINDS = ("jobs", "pods", "services", "secrets", "configmaps", "networkpolicies")
GPU = "nvidia.com/gpu-l4"
KEY = "instance-key-of-the-tests"


class RawApi:
    """Calls of the official client to any path of the API server, for what the sessions' own API has no need of."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __call__(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        """The JSON of an answer; kubernetes.client.ApiException where it is an error."""
        content = "application/strategic-merge-patch+json" if method == "PATCH" else "application/json"
        response = self._client.call_api(
            path, method, query_params=list(query.items()), body=body, auth_settings=["BearerToken"],
            header_params={"Accept": "application/json", "Content-Type": content},
            _preload_content=False, _return_http_data_only=True, _request_timeout=30,
        )  # fmt: skip
        return json.loads(response.data)


def left_of_ours(api: KubernetesApi) -> list[str]:
    """What there is in the namespace with our label, as ``kind/name``."""
    return [f"{kind}/{item['metadata']['name']}" for kind in KINDS for item in api.find(kind, OURS)]


def settings_of(namespace: str, image: str, **changes: Any) -> dict[str, Any]:
    """Settings under which nothing waits long, as the YAML of DYFF_KUBERNETES says them."""
    said: dict[str, Any] = {
        "namespace": namespace,
        "images": {"project": image},
        "preset": "nvidia",
        "cpu": "20m",
        "memory": "64Mi",
        "lease": 20,
        "requestTimeout": 8,
        "maxLifetime": 300,
        "grace": 2,
        "keepFinished": 5,
        "timeouts": {"admission": 19, "scheduling": 19, "pull": 19, "ready": 19},
    }
    timeouts = {**said["timeouts"], **changes.pop("timeouts", {})}
    return {**said, **changes, "timeouts": timeouts}


@dataclass(frozen=True)
class Small:
    """Sessions of the small service in a namespace.

    Attributes:
        namespace: Where.
        image: An image with python3.
        directory: A temporary one.
        api: Of the namespace.
    """

    namespace: str
    image: str
    directory: Path
    api: KubernetesApi = field(repr=False)

    def settings(self, **changes: Any) -> KubernetesSettings:
        """Settings of this namespace, some of them changed."""
        return KubernetesSettings.model_validate(settings_of(self.namespace, self.image, **changes))

    def settings_file(self, **changes: Any) -> Path:
        """The same in a file, for DYFF_KUBERNETES."""
        path = self.directory / "settings.yaml"
        path.write_text(yaml.safe_dump(settings_of(self.namespace, self.image, **changes)))
        return path

    def cluster(self, api: KubernetesApi | None = None, **changes: Any) -> Cluster:
        """The sessions of one storage root, with an instance key."""
        return Cluster(
            self.settings(**changes),
            self.directory / "store",
            environment={"DYFF_INSTANCE_KEY": KEY},
            connect=lambda: api or self.api,
        )

    @property
    def code(self) -> Path:
        """A directory with the program in it, as of a service's manifest."""
        directory = self.directory / "code"
        if not (directory / "serve.py").exists():  # not written anew while another thread reads it
            directory.mkdir()
            shutil.copy(PROGRAM, directory / "serve.py")
        return directory

    def logs(self, entity_id: str) -> Path:
        """Where the logs of an entity's pods go in these tests."""
        return self.directory / "logs" / entity_id

    def open(
        self,
        cluster: Cluster,
        *arguments: str,
        entity_id: str = "answers",
        progress: Any = None,
        **fields: Any,
    ) -> Any:
        """``Cluster.open`` for an evaluation whose service is the program with these arguments."""
        more = {} if progress is None else {"progress": progress}
        return cluster.open(
            evaluation(*arguments, id=entity_id, **fields).inferenceSession,
            Owner(entity_id, "Evaluation", "acme", "run-of-a-test"),
            directory=self.code,
            model=None,
            service_digest=f"digest of {arguments}",
            logs=self.logs(entity_id),
            **more,
        )


def service(*arguments: str, **runner: Any) -> dict[str, Any]:
    """The service that runs the program with these arguments."""
    return {
        "id": "doubler",
        "account": "acme",
        "name": "doubler",
        "interface": {"endpoint": "double", "outputSchema": OUTPUT},
        "runner": {
            "kind": "standalone",
            "args": ["python", "serve.py", *arguments],
            "resources": {"storage": "1Gi", "memory": "64Mi"},
            **runner,
        },
    }


def session_fields(*arguments: str, replicas: int = 1, gpus: int = 0, **fields: Any) -> dict[str, Any]:
    """What an InferenceSession says."""
    runner = fields.pop("runner", {})
    if gpus:
        fields["accelerator"] = {"kind": "GPU", "gpu": {"hardwareTypes": [GPU], "count": gpus}}
    return {"replicas": replicas, "inferenceService": service(*arguments, **runner), **fields}


def evaluation(*arguments: str, id: str = "answers", **fields: Any) -> Evaluation:
    """An evaluation with a session of its own."""
    return Evaluation.model_validate(
        {
            "id": id,
            "account": "acme",
            "dataset": "rows",
            "inferenceSession": session_fields(*arguments, **fields),
        }
    )


def session(*arguments: str, id: str = "running", **fields: Any) -> InferenceSession:
    """A session that lives until it expires."""
    return InferenceSession.model_validate(
        {"id": id, "account": "acme", **session_fields(*arguments, **fields)}
    )


def write_catalog(
    directory: Path,
    *arguments: str,
    rows: int = 10,
    service_fields: Mapping[str, Any] | None = None,
    session_fields: Mapping[str, Any] | None = None,
    evaluation_fields: Mapping[str, Any] | None = None,
) -> Path:
    """The small audit with a service that can run in a pod; returns its directory.

    Its entities are those of :mod:`tests.integration.small_catalog`: ``rows``, ``doubler``, ``doubled``, ``judged``,
    ``scores``.

    Args:
        directory: Made.
        arguments: Of the program.
        rows: Of the data set.
        service_fields: Of the service's runner, over what is there.
        session_fields: Of the evaluation's session: ``replicas``, ``accelerator`` …
        evaluation_fields: Of the evaluation: ``replications``, ``workersPerReplica`` …
    """
    small_catalog.write(directory, rows)
    shutil.copy(PROGRAM, directory / "serve.py")
    documents = list(yaml.safe_load_all((directory / "audit.yaml").read_text()))
    for document in documents:
        if document["kind"] == "InferenceService":
            document["runner"] = service(*arguments, **(service_fields or {}))["runner"]
        elif document["kind"] == "Evaluation":
            document["inferenceSession"].update(session_fields or {})
            document.update(evaluation_fields or {})
    (directory / "audit.yaml").write_text(yaml.safe_dump_all(documents))
    return directory


def tail(messages: Sequence[str]) -> str:
    """For an assertion's message."""
    return "\n".join(messages[-20:])
