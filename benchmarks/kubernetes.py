"""Sessions on a cluster against the same objects made by hand with kubectl: starting, ending, twenty at once.

Needs a cluster that KUBECONFIG names, kubectl, and an image with python3 on it (DYFF_TEST_IMAGE, default
localhost/python:3.11). Without a cluster it says so and measures nothing.
"""

from __future__ import annotations

import http.client
import json
import os
import statistics
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.pairing import Claim, Ratio, arguments, compare, report
from dyff_dagster.schema.platform import (
    DataSchema,
    ForeignInferenceService,
    InferenceInterface,
    InferenceServiceRunner,
    InferenceServiceRunnerKind,
    InferenceSessionSpec,
    ModelResources,
)
from dyff_dagster.sessions.kubernetes import Cluster, KubernetesSettings, Owner, manifests
from dyff_dagster.sessions.kubernetes.api import KubernetesApi
from dyff_dagster.sessions.kubernetes.manifests import SessionPlan
from dyff_dagster.sessions.kubernetes.names import SESSION

MANY = 20
GRACE = 5
SERVICE = """
import http.server, os
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200); self.end_headers(); self.wfile.write(b'{"text": "yes"}')
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("0.0.0.0", int(os.environ["DYFF_PORT"])), Answer).serve_forever()
"""


@dataclass
class Bench:
    """A namespace, a service, and two ways to have it answer."""

    directory: Path
    namespace: str
    image: str
    teardowns: list[float] = field(default_factory=list)
    calls: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.directory / "serve.py").write_text(SERVICE)
        self.settings = KubernetesSettings(
            namespace=self.namespace, images={"project": self.image}, cpu="10m", memory="64Mi", grace=GRACE
        )
        self.cluster = Cluster(self.settings, self.directory)

    def session(self) -> InferenceSessionSpec:
        """One replica of the service."""
        resources = ModelResources(storage="1Mi", memory="64Mi")
        service = ForeignInferenceService(
            id="answers",
            account="bench",
            name="answers",
            runner=InferenceServiceRunner(
                kind=InferenceServiceRunnerKind.STANDALONE, args=["python", "serve.py"], resources=resources
            ),
            interface=InferenceInterface(endpoint="ask", outputSchema=DataSchema(arrowSchema="")),
        )
        return InferenceSessionSpec(inferenceService=service)

    @contextmanager
    def opened(self, name: str) -> Iterator[str]:
        """The session as we make it, from nothing to its URL."""
        with self.cluster.open(
            self.session(),
            Owner(name, "Evaluation", "bench", ""),
            directory=self.directory,
            model=None,
            service_digest="bench",
            logs=self.directory / "logs" / name,
        ) as session:
            yield session.urls[0]

    def ours(self) -> float:
        """Seconds from nothing to the first answer."""
        calls, started = self.cluster.api.calls, time.perf_counter()
        with self.opened(f"ours-{uuid.uuid4().hex[:6]}") as url:
            ask(url)
            seconds = time.perf_counter() - started
            self.calls.append((self.cluster.api.calls - calls) / seconds)
            ending = time.perf_counter()
        self.teardowns.append(time.perf_counter() - ending)
        return seconds

    def by_hand(self) -> float:
        """Seconds from ``kubectl apply`` of the same objects to the first answer."""
        plan = self.plan(f"hand-{uuid.uuid4().hex[:6]}")
        path = self.written([plan])
        started = time.perf_counter()
        kubectl("apply", "--validate=false", "-f", str(path), namespace=self.namespace)
        ip = self.wait_for([plan])[0]
        ask(f"http://{ip}:8000/ask")
        seconds = time.perf_counter() - started
        kubectl("delete", "-f", str(path), "--wait=true", namespace=self.namespace)
        return seconds

    def many_of_ours(self) -> float:
        """Seconds until twenty sessions answer that are opened at once, each by a run of its own."""
        batch = uuid.uuid4().hex[:6]
        started = time.perf_counter()
        done: list[float] = []

        def one(number: int) -> None:
            with self.opened(f"many-{batch}-{number}"):
                done.append(time.perf_counter())

        with ThreadPoolExecutor(MANY) as threads:
            for finished in [threads.submit(one, number) for number in range(MANY)]:
                finished.result()
        return max(done) - started

    def many_by_hand(self) -> float:
        """Seconds until the same twenty Jobs, applied at once, are ready."""
        batch = uuid.uuid4().hex[:6]
        plans = [self.plan(f"hands-{batch}-{number}") for number in range(MANY)]
        path = self.written(plans)
        started = time.perf_counter()
        kubectl("apply", "--validate=false", "-f", str(path), namespace=self.namespace)
        self.wait_for(plans)
        seconds = time.perf_counter() - started
        kubectl("delete", "-f", str(path), "--wait=true", namespace=self.namespace)
        return seconds

    def plan(self, name: str) -> SessionPlan:
        """The plan that ours would follow."""
        return self.cluster.plans.plan(
            self.session(),
            Owner(name, "Evaluation", "bench", ""),
            directory=self.directory,
            model=None,
            service_digest="bench",
        )

    def written(self, plans: list[SessionPlan]) -> Path:
        """All objects of some sessions in a file, without owners, which kubectl cannot know."""
        items = []
        for plan in plans:
            job = manifests.job(plan, 600, None)
            job["spec"]["suspend"] = False
            owner = {"metadata": {"name": plan.name, "uid": ""}}
            children = [
                manifests.secret(plan, owner, "token"),
                manifests.config_map(plan, owner),
                manifests.service(plan, owner),
                manifests.network_policy(plan, owner),
            ]
            for child in children:
                del child["metadata"]["ownerReferences"]
            items += [*children, job]
        path = self.directory / f"{plans[0].name}.json"
        path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
        return path

    def wait_for(self, plans: list[SessionPlan]) -> list[str]:
        """The addresses of the sessions' pods, once all are ready; looked for as people do, with ``kubectl wait``."""
        names = ",".join(plan.name for plan in plans)
        chosen = f"{SESSION} in ({names})"
        while not kubectl("get", "pods", "-l", chosen, "-o", "name", namespace=self.namespace).strip():
            time.sleep(0.05)
        while True:
            kubectl(
                "wait",
                "--for=condition=ready",
                "pod",
                "-l",
                chosen,
                "--timeout=120s",
                namespace=self.namespace,
            )
            found = json.loads(kubectl("get", "pods", "-l", chosen, "-o", "json", namespace=self.namespace))[
                "items"
            ]
            # Those that came after kubectl wait had made its list are waited for in the next round.
            if len(found) >= len(plans) and all(ready(pod) for pod in found):
                return [pod["status"]["podIP"] for pod in found]


def ready(pod: dict[str, Any]) -> bool:
    """Whether a pod is."""
    conditions = pod["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def ask(url: str) -> None:
    """Post once, and read the answer."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    connection.request("POST", parts.path, b"{}")
    assert connection.getresponse().read()
    connection.close()


def kubectl(*words: str, namespace: str) -> str:
    """What kubectl prints."""
    done = subprocess.run(["kubectl", "-n", namespace, *words], check=True, capture_output=True, text=True)
    return done.stdout


def claims(bench: Bench, repeats: int) -> list[Claim]:
    """One session, and twenty at once."""
    one = compare({"ours": bench.ours, "by hand": bench.by_hand}, repeats=repeats)
    more = [a - b for a, b in zip(one.by_name["ours"], one.by_name["by hand"], strict=True)]
    many = compare(
        {"ours": bench.many_of_ours, "by hand": bench.many_by_hand}, repeats=max(1, repeats // 2), warm_up=0
    )
    note = f"{one.median('ours'):.1f} s against {one.median('by hand'):.1f} s"
    crowd = f"{many.median('ours'):.1f} s against {many.median('by hand'):.1f} s"
    return [
        Claim(
            "from nothing to the first answer, beside kubectl apply and kubectl wait",
            _of(more),
            "seconds more",
            at_most=1.5,
            note=note,
        ),
        Claim(
            "teardown, beyond its grace", _of([t - GRACE for t in bench.teardowns]), "seconds", at_most=2.0
        ),
        Claim(
            f"{MANY} sessions at once, beside the same {MANY} Jobs by kubectl apply",
            many.ratio("ours", "by hand"),
            "×",
            at_most=1.3,
            note=crowd,
        ),
        Claim("API calls of a waiting session", _of(steady_calls(bench)), "per second", at_most=0.5),
    ]


def steady_calls(bench: Bench) -> list[float]:
    """API calls per second of a session that waits for a node that does not come."""
    api = bench.cluster.api
    waiting = bench.settings.model_copy(update={"nodeSelector": {"no": "such-node"}})
    timeouts = waiting.timeouts.model_copy(update={"scheduling": 40})
    cluster = Cluster(waiting.model_copy(update={"timeouts": timeouts}), bench.directory, connect=lambda: api)
    calls, started = api.calls, time.perf_counter()
    try:
        with cluster.open(
            bench.session(),
            Owner("waits", "Evaluation", "bench", ""),
            directory=bench.directory,
            model=None,
            service_digest="bench",
            logs=bench.directory / "logs",
        ):
            raise AssertionError("there is no such node")
    except Exception as error:
        if isinstance(error, AssertionError):
            raise
    return [(api.calls - calls) / (time.perf_counter() - started)]


def _of(values: list[float]) -> Ratio:
    return Ratio(statistics.median(values), min(values), max(values))


def main() -> None:
    """Measure and report."""
    options = arguments(__doc__)
    if not os.environ.get("KUBECONFIG"):
        print("kubernetes\n\nKUBECONFIG is not set: nothing is measured\n")
        return
    namespace = f"dyff-bench-{uuid.uuid4().hex[:6]}"
    image = os.environ.get("DYFF_TEST_IMAGE", "localhost/python:3.11")
    subprocess.run(["kubectl", "create", "namespace", namespace], check=True, capture_output=True)
    try:
        with tempfile.TemporaryDirectory() as directory:
            bench = Bench(Path(directory), namespace, image)
            KubernetesApi.connect(namespace=namespace).version()
            report("kubernetes", claims(bench, options.repeats), write=options.write)
    finally:
        subprocess.run(["kubectl", "delete", "namespace", namespace], check=True, capture_output=True)


if __name__ == "__main__":
    main()
