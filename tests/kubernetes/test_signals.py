"""What keeps a session from answering, provoked for real, and the sentence that is made of it."""

from __future__ import annotations

import http.server
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dyff_dagster.sessions.kubernetes import KubernetesError
from dyff_dagster.sessions.kubernetes.api import KubernetesApi
from dyff_dagster.sessions.kubernetes.names import selector
from tests.kubernetes.cluster_support import KINDS, RawApi, Small
from tests.kubernetes.conftest import own_namespace

PROMPT = "a prompt that stays in the log"
PATIENT = {
    "lease": 120,
    "requestTimeout": 60,
    "timeouts": {"admission": 100, "scheduling": 100, "pull": 100, "ready": 100},
}
"""On a slow machine a phase that is not the one to fail may take its time."""


@dataclass(frozen=True)
class Failing:
    """A session that must fail.

    Attributes:
        arguments: Of the program.
        settings: Over those of the tests.
        fields: Of the session.
        sentence: A pattern of what is said.
        reason: The platform's word for it.
        expires_in: Seconds until it expires.
        image: Of the registry that the test runs: ``REPOSITORY:TAG``.
        meanwhile: What somebody does to it, told its name.
        logged: Whether a pod of it wrote something, which must be kept.
    """

    sentence: str
    arguments: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None
    expires_in: int | None = None
    image: str | None = None
    meanwhile: Callable[[RawApi, KubernetesApi, str], None] | None = None
    logged: bool = False


def lose_its_secret(raw: RawApi, api: KubernetesApi, session: str) -> None:
    """Delete the session's Secret before its pod has a node, and then let it have one."""
    (node, *_) = raw("GET", "/api/v1/nodes")["items"]
    path = f"/api/v1/nodes/{node['metadata']['name']}"
    while not api.find("secrets", selector(session=session)) or not api.find(
        "pods", selector(session=session)
    ):
        time.sleep(0.1)
    api.delete("secrets", session)
    raw("PATCH", path, {"metadata": {"labels": {api.namespace: "here"}}})
    while not any(pod["spec"].get("nodeName") for pod in api.find("pods", selector(session=session))):
        time.sleep(0.1)
    raw("PATCH", path, {"metadata": {"labels": {api.namespace: None}}})


CASES: dict[str, Failing] = {
    "no node has such a GPU": Failing(
        r"no node has room for it \(0/\d+ nodes are available: .*\) within 4 s; each replica asks for 1 × "
        r"nvidia\.com/gpu where nvidia\.com/gpu\.product in \(NVIDIA-H200, .*\), cpu 20m and memory 64Mi; "
        r"the nodes have: .*cpu \d+, memory \w+.*: add such a node, ask for something else, or wait longer",
        fields={
            "accelerator": {"kind": "GPU", "gpu": {"hardwareTypes": ["nvidia.com/gpu-h200"], "count": 1}}
        },
        settings={"timeouts": {"scheduling": 4}},
    ),
    "no node has so much memory": Failing(
        r"no node has room for it \(.*Insufficient memory.*\) within 4 s; each replica asks for any node, .*memory 9Ti",
        fields={"runner": {"resources": {"storage": "1Gi", "memory": "9Ti"}}},
        settings={"timeouts": {"scheduling": 4}},
    ),
    "an image's name cannot be": Failing(
        r"its image cannot be pulled \(InvalidImageName: .*\): correct the image",
        settings={"images": {"project": "No::Image"}},
    ),
    "a registry does not have the image": Failing(
        r"its image cannot be pulled \(ErrImagePull: .*not found\): correct the image, or the registry's credentials",
        image="missing/denied:1",
    ),
    "a registry wants to know who asks": Failing(
        r"its image cannot be pulled \(ErrImagePull: .*401.*\): correct the image, or the registry's credentials",
        image="private/model:1",
    ),
    "a registry is slow": Failing(
        r"its image is still being pulled, or its volumes mounted, after 6 s: wait longer \(timeouts\.pull\)",
        image="slow/model:1",
        settings={"timeouts": {"pull": 6}},
    ),
    "there is no such registry": Failing(
        r"its image cannot be pulled \((ErrImagePull|ImagePullBackOff): .*\), after 45 s: wait longer",
        settings={"images": {"project": "registry.invalid/denied:1"}, "timeouts": {"pull": 45}},
    ),
    "its Secret is gone": Failing(
        r"its pod cannot be prepared \(FailedMount: .*secret \"dyff-session-\S+\" not found\), after 30 s: wait longer",
        settings={"timeouts": {"pull": 30}, "nodeSelector": {"NAMESPACE": "here"}},
        meanwhile=lose_its_secret,
    ),
    "it expires while it starts": Failing(
        r"its session dyff-session-\S+ reached its deadline before it was ready, in the phase ready: give it longer "
        r"\(expires, or lease in the settings\); its log is",
        arguments=("--start", "100", "--say", PROMPT),
        expires_in=30,
        reason="Expired",
        logged=True,
    ),
    "it ends at once, and well": Failing(
        r"service container of pod \S+ never came to answer: it ended with exit code 0 \(3 pods ended\); its log is",
        arguments=("--fail", "0", "--say", PROMPT),
        logged=True,
    ),
    "it takes too much memory": Failing(
        r"never came to answer: it was killed because it took more than its memory limit of 64Mi: raise "
        r"runner\.resources\.memory",
        arguments=("--eat", "300", "--say", PROMPT),
        logged=True,
    ),
    "it crashes again and again": Failing(
        r"service container of pod \S+ never came to answer: it ended with exit code 3 \(2 pods ended\); its log is",
        arguments=("--fail", "3", "--say", PROMPT),
        logged=True,
        settings={"crashes": 2},
    ),
    "its command is not in the image": Failing(
        r"never came to answer: its command cannot be run \(.*no-such-program.*\): correct runner\.args",
        fields={"runner": {"args": ["no-such-program", "--port", "{port}"]}},
    ),
    "it never listens": Failing(
        r"its service did not answer on port 8000 within 4 s of its start: it must listen on the port that DYFF_PORT "
        r"and \{port\} say, on all addresses; or wait longer \(timeouts\.ready\); its log is",
        arguments=("--never-listen", "--say", PROMPT),
        logged=True,
        settings={"timeouts": {"ready": 4}},
    ),
    "it listens on loopback": Failing(
        r"its service did not answer on port 8000 within 4 s of its start: .* on all addresses",
        arguments=("--host", "127.0.0.1", "--say", PROMPT),
        logged=True,
        settings={"timeouts": {"ready": 4}},
    ),
    "it answers 500 for ever": Failing(
        r"its service answers GET /health with 500, 4 s after its start: that must be below 500 once it is ready; or "
        r"wait longer \(timeouts\.ready\); its log is",
        arguments=("--health", "500", "--say", PROMPT),
        logged=True,
        settings={"timeouts": {"ready": 4}},
    ),
}


@dataclass
class Outcome:
    """What came of one."""

    error: KubernetesError | None
    progress: list[str]
    logs: Path
    left: list[str]
    seconds: float


class Registry(http.server.BaseHTTPRequestHandler):
    """What a registry says that lacks an image, wants to know who asks, or does not hurry."""

    def do_GET(self) -> None:
        if self.path.startswith("/v2/slow/"):
            time.sleep(15)  # no longer: a node pulls one image after the other
        status = 401 if self.path.startswith("/v2/private/") else 404
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="the tests\'"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


def is_of_this_machine(address: str) -> bool:
    try:
        socket.create_server((address, 0)).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def registry(raw_api: RawApi) -> Iterator[str | None]:
    """Host and port of a registry that the node can reach; None where the node is another machine than this."""
    nodes = raw_api("GET", "/api/v1/nodes")["items"]
    if not any(is_of_this_machine(item["address"]) for node in nodes for item in node["status"]["addresses"]):
        yield None
        return
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"localhost:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def fail(small: Small, raw: RawApi, api: KubernetesApi, registry: str | None, name: str) -> Outcome:
    """Start a session that must not come to answer."""
    case = CASES[name]
    settings = {**PATIENT, **case.settings}
    settings["timeouts"] = {**PATIENT["timeouts"], **case.settings.get("timeouts", {})}
    if "nodeSelector" in settings:
        settings["nodeSelector"] = {api.namespace: "here"}
    if case.image is not None:
        settings["images"] = {"project": f"{registry}/{case.image}"}
    fields = dict(case.fields)
    if case.expires_in is not None:
        fields["expires"] = datetime.now(UTC) + timedelta(seconds=case.expires_in)
    cluster = small.cluster(api, **settings)
    entity, said, error = re.sub(r"\W+", "-", name), [], None
    session = cluster.plans.name(entity)
    others = (
        [] if case.meanwhile is None else [threading.Thread(target=case.meanwhile, args=(raw, api, session))]
    )
    for thread in others:
        thread.start()
    begun = time.monotonic()
    try:
        with small.open(
            cluster,
            *case.arguments,
            entity_id=entity,
            progress=lambda text, *_: said.append(f"{time.monotonic() - begun:.1f} {text}"),
            **fields,
        ):
            pass
    except KubernetesError as raised:
        error = raised
    seconds = time.monotonic() - begun
    for thread in others:
        thread.join()
    return Outcome(error, said, small.logs(entity), left_of(api, session), seconds)


def left_of(api: KubernetesApi, session: str) -> list[str]:
    """What there is of a session once the garbage collector has had its time."""
    end = time.monotonic() + 120
    while True:
        left = [
            f"{kind}/{item['metadata']['name']}"
            for kind in KINDS
            for item in api.find(kind, selector(session=session))
        ]
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.5)


@pytest.fixture(scope="module")
def outcomes(
    cluster_client: Any,
    raw_api: RawApi,
    registry: str | None,
    python_image: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Outcome]]:
    """All of them, at once: each waits for the cluster most of its time."""
    directory = tmp_path_factory.mktemp("failing")
    with own_namespace(cluster_client, raw_api) as namespace, ThreadPoolExecutor(8) as pool:
        small = Small(namespace, python_image, directory, KubernetesApi(cluster_client, namespace))
        _ = small.code
        futures = {
            name: pool.submit(fail, small, raw_api, KubernetesApi(cluster_client, namespace), registry, name)
            for name, case in CASES.items()
            if case.image is None or registry is not None
        }
        yield {name: future.result() for name, future in futures.items()}


def outcome_of(outcomes: dict[str, Outcome], name: str) -> Outcome:
    if name not in outcomes:
        pytest.skip("the node cannot reach a registry on this machine")
    return outcomes[name]


@pytest.mark.parametrize("name", CASES)
def test_it_is_said_in_a_sentence_that_one_can_act_on(outcomes: dict[str, Outcome], name: str) -> None:
    found = outcome_of(outcomes, name)
    error = found.error
    assert error is not None, found.progress
    print(f"{found.seconds:.1f} s: {error}\n   progress: {found.progress}\n {list(found.logs.glob('*'))}")
    assert re.search(CASES[name].sentence, str(error)), str(error)
    assert error.reason == CASES[name].reason
    assert "\n" not in str(error)


@pytest.mark.parametrize("name", CASES)
def test_what_its_pods_wrote_is_kept_and_said_nowhere_else(outcomes: dict[str, Outcome], name: str) -> None:
    found = outcome_of(outcomes, name)
    texts = [path.read_text() for path in found.logs.glob("*.log")]
    assert all(PROMPT in text for text in texts)
    assert bool(texts) == CASES[name].logged
    assert PROMPT not in str(found.error) + str(found.progress)
    if texts:
        assert PROMPT in found.error.log_tail()


@pytest.mark.parametrize("name", CASES)
def test_nothing_of_it_is_left(outcomes: dict[str, Outcome], name: str) -> None:
    assert outcome_of(outcomes, name).left == []
