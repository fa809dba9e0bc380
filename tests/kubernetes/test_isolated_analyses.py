"""Analyses in pods: shut in, with the same results as in a process, and with the same words where they fail."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dyff_dagster import Catalog
from dyff_dagster.orchestration.selection import is_declared_only
from dyff_dagster.orchestration.steps import Step
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.sessions.kubernetes import Cluster, KubernetesSettings
from dyff_dagster.sessions.kubernetes.api import KubernetesApi
from dyff_dagster.store import Commit, Store, local_path, no_progress
from tests.integration import small_catalog
from tests.kubernetes.cluster_support import RawApi, settings_of
from tests.kubernetes.deployment_support import image_of_this_source

pytestmark = pytest.mark.timeout(1500)  # an image may have to be built first

PODS = """
import os, socket, time
import pyarrow as pa

SCHEMA = pa.schema([
    pa.field("score", pa.string(), nullable=False), pa.field("value", pa.float64(), nullable=False),
    ("low", pa.float64()), ("high", pa.float64()), pa.field("n", pa.int64(), nullable=False),
])

def found(**scores):
    rows = [{"score": k, "value": float(v), "low": None, "high": None, "n": 1} for k, v in scores.items()]
    yield from pa.Table.from_pylist(rows, schema=SCHEMA).to_batches()

def look_around(arguments, judged):
    def can_write(path):
        try:
            with open(os.path.join(path, "written"), "w"):
                return 1
        except OSError:
            return 0
    root = os.environ["DYFF_AUDIT_LOCAL_STORAGE_ROOT"]
    store = os.path.realpath(os.path.join(root, "judged"))
    above = store.split("/judged/")[0]
    yield from found(
        secrets=sum("KEY" in k or "TOKEN" in k or v == "of-the-parent" for k, v in os.environ.items()),
        account=os.path.exists("/var/run/secrets/kubernetes.io/serviceaccount/token"),
        writes_input=can_write(os.path.join(root, "judged")),
        writes_home_of_others=can_write(above),
        sees_others=len(os.listdir(above)),
        writes_system=can_write("/usr"),
        root=os.geteuid() == 0,
    )

def hang(arguments, judged):
    print("about to hang", flush=True)
    time.sleep(600)
    yield

def fill(arguments, judged):
    held = []
    while True:
        held.append(bytearray(16 << 20))
    yield

def fail(arguments, judged):
    print("a line of the log", flush=True)
    raise ValueError("no such thing")
    yield
"""

METHODS = """
kind: Method
id: do-{name}
account: acme
name: Do
scope: Evaluation
implementation: {{kind: PythonFunction, pythonFunction: {{fullyQualifiedName: in_pods.{function}}}}}
modules: [in-pods]
inputs: [{{keyword: judged, kind: Measurement}}]
output:
  kind: Measurement
  measurement:
    name: Found
    level: Dataset
    schema: {{arrow: {{score: string!, value: float64!, low: float64, high: float64, n: int64!}}}}
---
kind: Measurement
id: {name}
account: acme
method: do-{name}
annotations: {{dyff-dagster/isolation: pod{annotations}}}
scope: {{evaluation: doubled, inferenceService: doubler, dataset: rows}}
inputs: [{{keyword: judged, entity: judged}}]
"""
MODULE = """
kind: Module
id: in-pods
account: acme
name: What is tried in pods
annotations: {dyff-dagster/files: pods}
artifacts: [{path: in_pods.py}]
"""


@dataclass(frozen=True)
class Site:
    """A catalog whose store lies on a volume of the cluster."""

    directory: Path
    store: Store
    cluster: Cluster

    def compute(self, entity_id: str, cluster: bool = True) -> Commit:
        catalog = Catalog.load(self.directory)
        entity = catalog.get(entity_id)
        step = Step(catalog, self.store, entity, no_progress, cluster=self.cluster if cluster else None)
        return step.compute()[0]

    def compute_behind(self, entity_id: str) -> None:
        """Everything that an analysis is made of, on this machine."""
        catalog = Catalog.load(self.directory)
        for each in catalog.entities:
            if each == entity_id:
                return
            isolated = catalog.annotation(each, "isolation") == "pod"
            if not is_declared_only(catalog.get(each)) and not isolated and each != "scores":
                self.compute(each, cluster=False)

    def add(self, name: str, function: str, annotations: str = "") -> None:
        text = METHODS.format(name=name, function=function, annotations=annotations)
        (self.directory / f"{name}.yaml").write_text(text)

    def log(self, entity_id: str) -> str:
        return (local_path(self.store.working(entity_id)) / "logs.txt").read_text()


@pytest.fixture(scope="module")
def project_image() -> str:
    return image_of_this_source()


@pytest.fixture
def site(
    namespace: str, api: KubernetesApi, raw_api: RawApi, project_image: str, tmp_path: Path
) -> Iterator[Site]:
    root = tmp_path / "store"
    root.mkdir()
    for path in (root, *list(root.parents)[:4]):
        if path.owner() == "root" and os.geteuid() == 0:
            path.chmod(0o755)  # the pod's user goes through them
    volume = f"{namespace}-storage"
    raw_api("POST", "/api/v1/persistentvolumes", _volume(volume, namespace, root))
    raw_api("POST", f"/api/v1/namespaces/{namespace}/persistentvolumeclaims", _claim())
    settings = KubernetesSettings.model_validate(
        {
            **settings_of(namespace, project_image),
            "storage": {"claim": "storage"},
            "lease": 120,
            "timeouts": {"admission": 60, "scheduling": 60, "pull": 60, "ready": 60},
        }
    )
    directory = small_catalog.write(tmp_path / "catalog")
    (directory / "pods").mkdir()
    (directory / "pods" / "in_pods.py").write_text(textwrap.dedent(PODS))
    (directory / "module.yaml").write_text(MODULE)
    try:
        yield Site(directory, Store(root), Cluster(settings, root, connect=lambda: api))
    finally:
        raw_api("DELETE", f"/api/v1/persistentvolumes/{volume}")


def _volume(name: str, namespace: str, root: Path) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "",
            "hostPath": {"path": str(root)},
            "claimRef": {"namespace": namespace, "name": "storage"},
        },
    }


def _claim() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "storage"},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }


def test_the_same_rows_come_out_of_a_pod_as_out_of_a_process(site: Site) -> None:
    site.compute_behind("scores")
    here = site.compute("judged", cluster=False)
    path = site.directory / "audit.yaml"
    text = path.read_text()
    assert "id: judged\naccount: acme\n" in text
    path.write_text(
        text.replace(
            "id: judged\naccount: acme\n",
            "id: judged\naccount: acme\nannotations: {dyff-dagster/isolation: pod}\n",
        )
    )
    catalog = Catalog.load(site.directory)
    step = Step(catalog, site.store, catalog.get("judged"), no_progress, cluster=site.cluster)
    there, reused = step.compute(force=True)
    assert not reused
    assert there.data_version == here.data_version
    assert there.sequence == here.sequence or there.sequence == here.sequence + 1


def test_in_a_pod_there_is_nothing_to_be_had_but_the_inputs(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DYFF_INSTANCE_KEY", "of-the-parent")
    monkeypatch.setenv("SOME_API_KEY", "of-the-parent")
    site.add("looked", "look_around")
    site.compute_behind("looked")
    scores = {score.name: score.value for score in site.compute("looked").facts.scores}
    assert scores.pop("sees_others") <= 4  # mount points on the way to what it reads, and no other entity
    assert scores == dict.fromkeys(
        ("secrets", "account", "writes_input", "writes_home_of_others", "writes_system", "root"), 0.0
    )


def test_a_function_that_raises_is_told_with_its_place_and_its_log_kept(site: Site) -> None:
    site.add("failed", "fail")
    site.compute_behind("failed")
    with pytest.raises(DyffError, match=r"in_pods\.fail raised ValueError .*in_pods\.py:\d+") as error:
        site.compute("failed")
    assert "no such thing" not in str(error.value)
    assert "a line of the log" in site.log("failed")
    assert site.store.current("failed") is None


def test_one_that_hangs_is_ended_at_its_limit_with_its_log_kept(site: Site) -> None:
    site.add("hung", "hang", ", dyff-dagster/max-seconds: 15")
    site.compute_behind("hung")
    with pytest.raises(DyffError, match=r"dyff-dagster/max-seconds") as error:
        site.compute("hung")
    assert re.search(r"\b15\b", str(error.value))
    assert "about to hang" in site.log("hung")


def test_one_that_takes_too_much_memory_is_ended_at_its_limit(site: Site) -> None:
    site.add("full", "fill", ", dyff-dagster/max-memory: 400Mi")
    site.compute_behind("full")
    with pytest.raises(DyffError, match=r"dyff-dagster/max-memory"):
        site.compute("full")


def test_without_a_volume_it_says_what_to_set(site: Site) -> None:
    site.add("looked", "look_around")
    site.compute_behind("looked")
    bare = site.cluster.settings.model_copy(update={"storage": None})
    other = Site(
        site.directory, site.store, Cluster(bare, site.cluster.store_root, connect=site.cluster.connect)
    )
    with pytest.raises(DyffError, match=r"storage\.claim"):
        other.compute("looked")


def test_without_a_cluster_it_is_refused(site: Site) -> None:
    site.add("looked", "look_around")
    site.compute_behind("looked")
    with pytest.raises(DyffError, match="DYFF_SESSIONS=kubernetes"):
        site.compute("looked", cluster=False)
