"""What the tests of endurance share: an audit whose sessions run on the cluster, and a watch over all pods there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from dyff_dagster.schema.arrow import open_dataset
from dyff_dagster.schema.content import digest_dataset
from dyff_dagster.sessions.kubernetes import ApiError
from dyff_dagster.sessions.kubernetes.api import KubernetesApi, Object
from dyff_dagster.sessions.kubernetes.names import ENTITY
from dyff_dagster.store import Store, local_path
from tests import servers
from tests.integration import small_catalog
from tests.kubernetes.cluster_support import KEY, Small, write_catalog
from tests.kubernetes.step_child import Run, child

LEASE = 20
GRACE = 2
SECONDS_ENOUGH = 90.0
"""For something that must come to pass, on a machine that has much else to do."""


def until(what: Callable[[], Any], why: str = "", seconds: float = SECONDS_ENOUGH) -> Any:
    """Wait until it is true; what it is."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, why or "it did not come to pass"
        time.sleep(0.1)
    return found


def pod_lives(pod: Object) -> bool:
    """Whether anything of it may be running."""
    status = pod.get("status") or {}
    if status.get("phase") in ("Succeeded", "Failed"):
        return False
    states = [each.get("state") or {} for each in status.get("containerStatuses") or ()]
    return not states or not all("terminated" in state for state in states)


@dataclass
class Overseer:
    """Sees every pod and every Job of a namespace, from its beginning to its end.

    Attributes:
        pods: By uid, as they were seen last.
        jobs: By uid, as they were seen last.
        apart: Label by which sessions are told apart that may run beside one another.
        faults: Moments at which two of the others had pods.
        deadlines: The longest life that each Job was given, in seconds, by uid.
    """

    api: KubernetesApi
    apart: str = ENTITY
    pods: dict[str, Object] = field(default_factory=dict)
    jobs: dict[str, Object] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    deadlines: dict[str, int] = field(default_factory=dict)
    _gone: set[str] = field(default_factory=set)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> None:
        for kind in ("pods", "jobs"):
            threading.Thread(target=self._follow, args=(kind,), daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    @property
    def living(self) -> list[Object]:
        """Pods of which something may be running."""
        with self._lock:
            return [pod for uid, pod in self.pods.items() if uid not in self._gone and pod_lives(pod)]

    def serving(self, entity_id: str) -> list[str]:
        """Names of the pods of an entity that take requests."""
        return [
            pod["metadata"]["name"]
            for pod in self.living
            if pod["metadata"]["labels"].get(ENTITY) == entity_id
            and not pod["metadata"].get("deletionTimestamp")
            and any(
                condition["type"] == "Ready" and condition["status"] == "True"
                for condition in (pod.get("status") or {}).get("conditions") or ()
            )
        ]

    def sessions_of(self, entity_id: str) -> list[Object]:
        """The Jobs that an entity has had, oldest first."""
        with self._lock:
            found = [job for job in self.jobs.values() if job["metadata"]["labels"].get(ENTITY) == entity_id]
        return sorted(found, key=lambda job: job["metadata"]["creationTimestamp"])

    def nothing_lives(self, seconds: float = LEASE + GRACE + 25.0) -> None:
        """Wait until no pod runs: a lease, what ending takes, and what a busy machine adds to it."""
        until(lambda: not self.living, f"alive: {self.living}", seconds)

    def _follow(self, kind: str) -> None:
        while not self._stopped.is_set():
            seen: set[str] = set()
            try:
                for what, item in self.api.watch(kind, "", seconds=30):
                    if self._stopped.is_set():
                        return
                    if what == "SYNCED":
                        with self._lock:
                            self._gone |= (self.pods.keys() if kind == "pods" else set()) - seen
                        continue
                    seen.add(item["metadata"]["uid"])
                    self._see(kind, what, item)
            except ApiError:
                time.sleep(0.5)

    def _see(self, kind: str, what: str, item: Object) -> None:
        uid = item["metadata"]["uid"]
        with self._lock:
            if kind == "jobs":
                self.jobs[uid] = item
                self.deadlines[uid] = max(
                    self.deadlines.get(uid, 0), item["spec"].get("activeDeadlineSeconds", 0)
                )
                return
            self.pods[uid] = item
            if what == "DELETED":
                self._gone.add(uid)
        owners: dict[str, set[str]] = {}
        for pod in self.living:
            for owner in pod["metadata"].get("ownerReferences") or ():
                owners.setdefault(pod["metadata"]["labels"].get(self.apart, ""), set()).add(owner["uid"])
        self.faults += [
            f"{entity} has {len(of)} sessions at once" for entity, of in owners.items() if len(of) > 1
        ]


@contextmanager
def overseen(api: KubernetesApi, apart: str = ENTITY) -> Iterator[Overseer]:
    """An overseer of a namespace; no entity may have two sessions at once as long as it looks."""
    overseer = Overseer(KubernetesApi(api._client, api.namespace), apart)
    overseer.start()
    try:
        yield overseer
    finally:
        overseer.stop()
    assert overseer.faults == []


@dataclass(frozen=True)
class Site:
    """The small audit with its sessions on the cluster, and a Dagster instance of its own.

    Attributes:
        run: Materializes the evaluation.
        rows: Of the data set.
        replications: Of the evaluation.
    """

    run: Run
    rows: int
    replications: int

    @property
    def store(self) -> Store:
        return Store(self.run.storage)

    def with_(self, **changes: Any) -> Run:
        """The run, some of it changed."""
        return replace(self.run, **changes)

    def materialize(self, **changes: Any) -> dict[str, Any]:
        """Run it undisturbed; the evaluation's metadata."""
        with child(self.with_(**changes)) as process:
            return process.succeeded().metadata["doubled"]

    @property
    def durable(self) -> int:
        """Answers in whole parts."""
        parts = local_path(self.store.working("doubled")).glob("parts/*/*.parquet")
        return sum(pq.read_metadata(part).num_rows for part in parts)

    def environment(self) -> dict[str, str]:
        """Of commands that are to see the same storage, cluster and Dagster instance."""
        return servers.environment(
            self.run.home,
            DYFF_CATALOG=self.run.catalog,
            DYFF_STORAGE_ROOT=self.run.storage,
            DYFF_SESSIONS="kubernetes",
            DYFF_KUBERNETES=self.run.settings,
            DYFF_INSTANCE_KEY=self.run.key,
        )

    def check_answers(self, entity_id: str = "doubled") -> str:
        """Each row in each replication has its one right answer; the content's digest."""
        commit = self.store.current(entity_id)
        assert commit is not None
        data = open_dataset(local_path(commit.path))
        answers = data.to_table().to_pylist()
        assert len(answers) == self.rows * self.replications
        assert all(row["responses"][0]["y"] == 2 * row["_index_"] for row in answers)
        digest = digest_dataset(data)
        assert digest == commit.data_version
        return digest


def make_site(
    small: Small,
    name: str,
    *arguments: str,
    rows: int = 40,
    replications: int = 2,
    workers: int = 4,
    assets: tuple[str, ...] = ("datasets/rows", "evaluations/doubled"),
    key: str = KEY,
    settings: dict[str, Any] | None = None,
    manifests: str = "",
    **fields: Any,
) -> Site:
    """A site of its own in the test's namespace.

    Args:
        small: The namespace, and where files go.
        name: Of its directory.
        arguments: Of the service's program.
        rows: Of the data set.
        replications: Of the evaluation.
        workers: For each replica.
        assets: What its run materializes.
        key: The instance key.
        settings: Changes to what DYFF_KUBERNETES names.
        manifests: More of them.
        fields: Of the session: ``replicas``, ``accelerator`` …
    """
    directory = small.directory / name
    catalog = write_catalog(
        directory / "catalog",
        *arguments,
        rows=rows,
        session_fields=fields,
        evaluation_fields={"replications": replications, "workersPerReplica": workers},
    )
    (catalog / "more.yaml").write_text(manifests or "# nothing\n")
    path = small.settings_file(**(settings or {}))
    own = directory / "settings.yaml"
    own.write_bytes(path.read_bytes())
    run = Run(
        catalog=catalog,
        storage=directory / "store",
        settings=own,
        home=directory / "home",
        assets=assets,
        key=key,
    )
    return Site(run, rows, replications)


def kill_service(client: Any, namespace: str, pod: str) -> None:
    """``kill -9`` the service in a pod, from within."""
    from kubernetes import client as kubernetes
    from kubernetes.stream import stream

    program = (
        "import os\n"
        "for p in os.listdir('/proc'):\n"
        "    if p.isdigit() and p != str(os.getpid()) and b'serve.py' in open(f'/proc/{p}/cmdline', 'rb').read():\n"
        "        os.kill(int(p), 9)\n"
    )
    # The client's stream() changes the client that it is given.
    own = kubernetes.ApiClient(client.configuration)
    core = kubernetes.CoreV1Api(own)
    stream(
        core.connect_get_namespaced_pod_exec,
        pod,
        namespace,
        command=["python3", "-c", program],
        stdout=True,
        stderr=True,
    )


def local_digest(directory: Path, rows: int, replications: int) -> str:
    """What the same audit comes to where nothing is on a cluster: the digest of its answers."""
    import dagster as dg

    from dyff_dagster import Catalog, DyffStorage, build_definitions

    catalog = Catalog.load(small_catalog.write(directory / "catalog", rows))
    catalog_file = directory / "catalog" / "audit.yaml"
    catalog_file.write_text(
        catalog_file.read_text().replace("replications: 2", f"replications: {replications}")
    )
    catalog = Catalog.load(directory / "catalog")
    definitions = build_definitions(catalog, storage=DyffStorage(root=str(directory / "store")))
    selection = dg.AssetSelection.assets(["datasets", "rows"], ["evaluations", "doubled"])
    job = dg.define_asset_job("audit", selection)
    whole = dg.Definitions.merge(definitions, dg.Definitions(jobs=[job]))
    with dg.instance_for_test() as instance:
        assert whole.resolve_job_def("audit").execute_in_process(instance=instance).success
    commit = Store(directory / "store").current("doubled")
    assert commit is not None
    return commit.data_version
