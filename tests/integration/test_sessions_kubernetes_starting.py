"""Starts of sessions that no cluster here can provoke: queues that take back, pods as newer servers show them.

The API server is a small one that shows what a test puts into it; the calls to it, and the services that answer, are
real.
"""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dyff_dagster.schema.platform import InferenceSessionSpec
from dyff_dagster.sessions.kubernetes import Cluster, KubernetesError, KubernetesSettings, Owner
from dyff_dagster.sessions.kubernetes.api import KubernetesApi
from dyff_dagster.sessions.kubernetes.lease import Lease
from dyff_dagster.sessions.kubernetes.logs import LogKeeper
from dyff_dagster.sessions.kubernetes.manifests import SessionPlan
from dyff_dagster.sessions.kubernetes.names import selector
from dyff_dagster.sessions.kubernetes.provisioning import Provisioned, provision
from dyff_dagster.sessions.kubernetes.starting import Start
from dyff_dagster.sessions.kubernetes.watching import Watched
from tests.integration.api_server import ApiServer, connected, done_and_dropped, refused
from tests.unit.session_plans import IMAGES, gpus, plan
from tests.unit.test_sessions_kubernetes_runners import service
from tests.unit.test_sessions_kubernetes_signals import RECORDED, conditions, container

pytest.importorskip("kubernetes")
RUNNING = '{"running": {"startedAt": "2025-03-04T05:06:20Z"}}'


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer().running() as running:
        yield running


class Started:
    """A session that is started in a thread, and what is said of it.

    Attributes:
        clock: Seconds that are added to the time that it goes by.
    """

    def __init__(
        self, server: ApiServer, planned: SessionPlan, tmp_path: Path, adopted: bool = False
    ) -> None:
        self.server, self.plan = server, planned
        self.api = connected(server)
        self.said: list[str] = []
        self.error: KubernetesError | None = None
        self.clock = 0.0
        self.made = provision(self.api, planned, seconds=1800, expires=None, token_for=lambda _: "token")
        self.watched = Watched(self.api, selector(session=planned.name), "jobs", "pods")
        self.start = Start(
            self.api,
            planned,
            self.watched,
            Lease(self.api, planned.name, self.made.uid, 1800, None, 86_400),
            LogKeeper(self.api, tmp_path / "logs"),
            lambda text, *_: self.said.append(text),
            clock=lambda: time.monotonic() + self.clock,
            adopted=adopted,
        )
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.start.wait()
        except KubernetesError as error:
            self.error = error
        finally:
            self.watched.close()

    def job(self, suspend: bool | None = None, *conditions: dict[str, str]) -> None:
        """Change the Job."""
        found = dict(self.server.objects["jobs"][self.plan.name])
        if suspend is not None:
            found["spec"] = {**found["spec"], "suspend": suspend}
        if conditions:
            found["status"] = {"conditions": list(conditions)}
        self.server.put("jobs", found)

    def pod(self, name: str, status: Any) -> None:
        """Show a pod."""
        self.server.put("pods", {
            "metadata": {
                "name": name, "labels": dict(self.plan.labels),
                "ownerReferences": [{"kind": "Job", "name": self.plan.name, "uid": self.made.uid}],
            },
            "spec": {"nodeName": "gpu-1", "containers": [{"name": "service", "image": "r.example/a:1"}]},
            "status": status,
        })  # fmt: skip

    def until(self, text: str, times: int = 1) -> None:
        end = time.monotonic() + 20
        while sum(text in said for said in self.said) < times:
            assert time.monotonic() < end and self.thread.is_alive(), (self.said, self.error)
            time.sleep(0.02)

    def refused(self) -> str:
        """What it fails with."""
        self.thread.join(20)
        assert self.error is not None, self.said
        assert str(self.error).startswith("asked: ") and "\n" not in str(self.error)
        return str(self.error).removeprefix("asked: ")

    def ready(self) -> None:
        """It comes to answer."""
        self.thread.join(20)
        assert not self.thread.is_alive() and self.error is None, (self.said, self.error)


@contextmanager
def answering() -> Iterator[int]:
    """The port of a service on loopback that answers."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def status(phase: str, state: str, ready: str = "False", ip: str = "") -> dict[str, Any]:
    return json.loads(
        f'{{"phase": "{phase}", "podIP": "{ip}", "conditions": {conditions(Ready=ready)}, '
        f'"containerStatuses": [{container(state)}]}}'
    )


# Queues


def test_a_queue_is_waited_for(server: ApiServer, tmp_path: Path) -> None:
    started = Started(server, plan(tmp_path, queue="gpus"), tmp_path)
    assert server.objects["jobs"][started.plan.name]["spec"]["suspend"] is True  # the queue arms it
    started.until("admission: queued")
    started.clock += 700
    assert started.refused() == (
        "it got no pods within 600 s (the queue gpus has not admitted it); it asks for 1 × (any node, memory 512Mi): "
        "wait until others have ended, or ask for less"
    )
    assert started.error is not None and started.error.reason == "QuotaLimit"


def test_a_queue_that_takes_back_what_it_let_run_is_given_up(server: ApiServer, tmp_path: Path) -> None:
    started = Started(server, plan(tmp_path, queue="gpus"), tmp_path)
    for turn in range(3):
        started.until("admission: queued", turn + 1)
        started.job(suspend=False)
        name = f"pod-{turn}"
        started.pod(name, status("Pending", '{"waiting": {"reason": "ContainerCreating"}}'))
        started.until("pull: its image is still being pulled", turn + 1)
        server.remove("pods", name)
        started.job(True, {"type": "Suspended", "status": "True", "reason": "JobSuspended"})
    assert started.refused().startswith(
        "the queue gpus let it run and held it back again, 3 times, before it was ready, as Kueue does with pods that "
        "take longer than its waitForPodsReady: "
    )
    assert {"admission", "pull"} <= set(started.start.timings)


# Pods


def test_what_is_missing_may_come_for_a_minute(server: ApiServer, tmp_path: Path) -> None:
    missing = '{"waiting": {"reason": "CreateContainerConfigError", "message": "secret \\"s\\" not found"}}'
    started = Started(server, plan(tmp_path), tmp_path)
    started.pod("pod-0", status("Pending", missing))
    started.until("its container cannot be made (CreateContainerConfigError")
    started.clock += 50
    started.pod("pod-0", status("Pending", '{"waiting": {"reason": "ContainerCreating"}}'))
    started.until("its image is still being pulled")
    started.pod("pod-0", status("Pending", missing))
    started.until("its container cannot be made", 2)
    started.clock += 50
    started.pod("pod-0", status("Pending", missing))
    time.sleep(0.3)
    assert started.thread.is_alive()
    started.clock += 11
    assert started.refused() == (
        'its container cannot be made (CreateContainerConfigError: secret "s" not found): create what is missing, or '
        "correct the settings"
    )


def test_a_volume_that_is_not_there_is_looked_for_in_the_events(server: ApiServer, tmp_path: Path) -> None:
    started = Started(server, plan(tmp_path), tmp_path)
    started.pod("pod-0", status("Pending", '{"waiting": {"reason": "ContainerCreating"}}'))
    server.put("events", {
        "metadata": {"name": "e"}, "involvedObject": {"name": "pod-0", "kind": "Pod"}, "reason": "FailedMount",
        "message": 'MountVolume.SetUp failed for volume "token" : secret "s" not found',
    })  # fmt: skip
    started.until("its image is still being pulled")
    started.clock += 6
    started.until(
        'its pod cannot be prepared (FailedMount: MountVolume.SetUp failed for volume "token" : secret "s"'
    )
    started.clock += 61
    assert started.refused().endswith(
        'secret "s" not found): create what is missing, or correct the settings'
    )


def test_pods_that_are_evicted_until_the_job_gives_up_say_why(server: ApiServer, tmp_path: Path) -> None:
    started = Started(server, plan(tmp_path), tmp_path)
    for turn in range(4):
        started.pod(f"pod-{turn}", RECORDED["evicted for disk"])
    started.until("its pods are being made")
    assert started.thread.is_alive()  # what the cluster takes away is no crash of the service's
    started.job(None, {"type": "FailureTarget", "status": "True", "reason": "BackoffLimitExceeded"})
    said = started.refused()
    assert said.startswith(
        "service container of pod pod-3 never came to answer: it was evicted (Pod ephemeral local "
    )
    assert said.endswith("; mount its model instead of having it fetched, or use nodes with more disk (4 pods ended); "
                         "it wrote nothing")  # fmt: skip


def test_the_log_of_a_pod_that_failed_is_kept_and_not_quoted(server: ApiServer, tmp_path: Path) -> None:
    server.logs["pod-0"] = "a prompt\nhuggingface_hub.errors.GatedRepoError: 403 Client Error.\n"
    started = Started(server, plan(tmp_path, crashes=1), tmp_path)
    started.pod(
        "pod-0", status("Failed", '{"terminated": {"exitCode": 1, "reason": "Error", "message": "a prompt"}}')
    )
    assert started.refused() == (
        "service container of pod pod-0 never came to answer: it ended with exit code 1; its log says that the Hub "
        "refused the model (401 or 403): fetch the model first, with a token that may read it, so that it is mounted; "
        f"its log is {tmp_path}/logs/pod-0.log"
    )
    assert started.error is not None and "a prompt" in started.error.log_tail()
    assert server.count("GET", "/pods/pod-0/log .*'container': 'service'") >= 1


def test_what_never_came_to_answer_says_what_it_took_of_the_accelerators(
    server: ApiServer, tmp_path: Path
) -> None:
    asked = service("container")
    session = InferenceSessionSpec.model_validate(
        {"inferenceService": asked, "accelerator": gpus("l4", count=2)}
    )
    settings = KubernetesSettings.model_validate({"images": IMAGES, "preset": "nvidia", "crashes": 1})
    cluster = Cluster(settings, tmp_path / "store", connect=lambda: connected(server))
    name = cluster.plans.name("asked")

    def crash() -> None:
        """A pod that its node took in a minute ago, and whose service ends at once."""
        while not (job := server.objects.get("jobs", {}).get(name)):
            time.sleep(0.05)
        begun = (datetime.now(UTC) - timedelta(seconds=60)).strftime("%Y-%m-%dT%H:%M:%SZ")
        failed = status("Failed", '{"terminated": {"exitCode": 1, "reason": "Error"}}') | {"startTime": begun}
        labels = job["spec"]["template"]["metadata"]["labels"]
        owner = {"kind": "Job", "name": name, "uid": job["metadata"]["uid"]}
        server.put("pods", {
            "metadata": {"name": "pod-0", "labels": labels, "ownerReferences": [owner]},
            "spec": {"nodeName": "gpu-1", "containers": []}, "status": failed,
        })  # fmt: skip

    threading.Thread(target=crash, daemon=True).start()
    opening = cluster.open(
        session, Owner("asked", "Evaluation", "acme", "run-1"), directory=tmp_path, model=None,
        service_digest="digest", logs=tmp_path / "logs",
    )  # fmt: skip
    with (
        pytest.raises(KubernetesError, match="never came to answer: it ended with exit code 1") as raised,
        opening,
    ):
        pass
    assert 120 <= raised.value.notes["gpuSeconds"] < 480
    assert server.objects["jobs"] == {}


def test_pods_that_ended_before_a_session_was_taken_over_do_not_count(
    server: ApiServer, tmp_path: Path
) -> None:
    with answering() as port:
        planned = plan(tmp_path, "vllm", "--port", str(port), crashes=1)
        first = connected(server)
        made = provision(first, planned, seconds=1800, expires=None, token_for=lambda _: "token")
        old = {"metadata": {"name": "old", "labels": dict(planned.labels)},
               "spec": {"nodeName": "gpu-1", "containers": []},
               "status": status("Failed", '{"terminated": {"exitCode": 7, "reason": "Error"}}')}  # fmt: skip
        server.put("pods", old)
        started = Started(server, planned, tmp_path, adopted=True)
        assert started.made.adopted and started.made.uid == made.uid
        time.sleep(1.2)
        started.pod("new", status("Running", RUNNING, "True", "127.0.0.1"))
        started.ready()


def test_a_session_that_somebody_deletes_while_it_starts_says_so(server: ApiServer, tmp_path: Path) -> None:
    started = Started(server, plan(tmp_path), tmp_path)
    started.until("its pods are being made")
    server.remove("jobs", started.plan.name)
    assert started.refused() == f"its Job {started.plan.name} was deleted by somebody else"


def test_a_start_is_not_disturbed_by_an_api_server_that_goes_and_comes(
    server: ApiServer, tmp_path: Path
) -> None:
    with answering() as port:
        started = Started(server, plan(tmp_path, "vllm", "--port", str(port)), tmp_path)
        started.until("its pods are being made")
        server.stop()
        time.sleep(1.5)
        server.start()
        started.pod("new", status("Running", RUNNING, "True", "127.0.0.1"))
        started.ready()
    assert started.start.timings.keys() == {"admission", "ready"}


def test_waiting_costs_few_calls(server: ApiServer, tmp_path: Path) -> None:
    """The most that a waiting session asks: what a quota refuses is looked at, and asked for again."""
    started = Started(server, plan(tmp_path), tmp_path)
    for kind, name in (("Job", started.plan.name), ("Pod", "pod-0")):
        server.put("events", {
            "metadata": {"name": kind.lower()}, "involvedObject": {"name": name, "kind": kind},
            "reason": "FailedCreate" if kind == "Job" else "FailedMount", "message": "exceeded quota: gpus",
        })  # fmt: skip
    started.until("exceeded quota")
    before, begun = len(server.requests), time.monotonic()
    time.sleep(14)
    waited = [request for request in server.requests[before:] if request[2].get("watch") != "true"]
    assert len(waited) <= 0.5 * (time.monotonic() - begun), waited
    assert any(method == "PATCH" for method, *_ in waited)
    server.remove("jobs", started.plan.name)
    started.refused()


# What is made


def made(server: ApiServer, api: KubernetesApi, planned: SessionPlan) -> Provisioned:
    return provision(api, planned, seconds=1800, expires=None, token_for=lambda uid: f"token of {uid}")


KINDS = ("jobs", "secrets", "configmaps", "networkpolicies", "services")


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_that_is_lost_makes_nothing_twice(server: ApiServer, tmp_path: Path, kind: str) -> None:
    planned = plan(tmp_path)
    server.cue("POST", f"/{kind}$", done_and_dropped)
    found = made(server, connected(server), planned)
    assert not found.adopted
    assert {of: list(server.objects[of]) for of in KINDS} == {of: [planned.name] for of in KINDS}
    owners = {server.objects[of][planned.name]["metadata"]["ownerReferences"][0]["uid"] for of in KINDS[1:]}
    assert owners == {found.uid}


@pytest.mark.parametrize("kind", KINDS[1:])
def test_what_cannot_be_completed_does_not_stay(server: ApiServer, tmp_path: Path, kind: str) -> None:
    planned = plan(tmp_path)
    no = f'{kind} is forbidden: User "system:serviceaccount:a:b" cannot create resource "{kind}" in API group ""'
    server.cue("POST", f"/{kind}$", refused(403, "Forbidden", no))
    with pytest.raises(
        KubernetesError, match=rf'^asked: User "system:serviceaccount:a:b" may not create {kind}'
    ):
        made(server, connected(server), planned)
    assert server.objects["jobs"] == {}


def test_a_job_of_somebody_else_is_left_alone(server: ApiServer, tmp_path: Path) -> None:
    planned = plan(tmp_path)
    server.put("jobs", {"metadata": {"name": planned.name}, "spec": {}})
    with pytest.raises(
        KubernetesError, match=f"default has a Job {planned.name} that is not ours: remove it"
    ):
        made(server, connected(server), planned)
    assert list(server.objects["jobs"]) == [planned.name]


def test_a_session_of_another_service_makes_room(server: ApiServer, tmp_path: Path) -> None:
    api = connected(server)
    first = made(server, api, plan(tmp_path))
    second = made(server, api, plan(tmp_path, memory="1Gi"))
    assert not second.adopted and second.uid != first.uid


def test_what_is_left_of_an_earlier_session_is_waited_for(server: ApiServer, tmp_path: Path) -> None:
    planned = plan(tmp_path)
    other = {
        "name": planned.name,
        "ownerReferences": [{"kind": "Job", "name": planned.name, "uid": "earlier"}],
    }
    server.put("configmaps", {"metadata": other})
    threading.Timer(0.7, lambda: server.remove("configmaps", planned.name)).start()
    found = made(server, connected(server), planned)
    owner = server.objects["configmaps"][planned.name]["metadata"]["ownerReferences"][0]
    assert owner["uid"] == found.uid


def test_a_session_that_could_not_be_ended_is_not_started(server: ApiServer, tmp_path: Path) -> None:
    server.may = lambda verb, resource: (verb, resource) != ("delete", "jobs")
    with pytest.raises(KubernetesError, match="we may not delete jobs in the namespace default"):
        made(server, connected(server), plan(tmp_path))
    assert server.objects == {}


def test_a_session_that_is_ended_while_it_is_taken_over_is_made_anew(
    server: ApiServer, tmp_path: Path
) -> None:
    api, planned = connected(server), plan(tmp_path)
    first = made(server, api, planned)

    def ended(_: Any) -> bool:
        server.remove("jobs", planned.name)
        return False

    server.cue("PATCH", "/jobs/", ended)
    second = made(server, api, planned)
    assert not second.adopted and second.uid != first.uid
    assert server.objects["secrets"][planned.name]["metadata"]["ownerReferences"][0]["uid"] == second.uid


@pytest.mark.parametrize("taken_over", [False, True])
def test_nobody_ends_an_orphan_that_a_run_has_just_taken_over(
    server: ApiServer, tmp_path: Path, taken_over: bool
) -> None:
    api, planned = connected(server), plan(tmp_path)
    cluster = Cluster(KubernetesSettings(images=IMAGES), tmp_path / "store", connect=lambda: api)
    made(server, api, planned)

    def is_over(run_id: str) -> bool:
        if taken_over:  # between the look and the deed
            assert made(server, connected(server), planned).adopted
        return True

    ended = cluster.reap(is_over)
    assert [session.entity_id for session, _ in ended] == ([] if taken_over else ["asked"])
    assert len(server.objects["jobs"]) == taken_over
