"""deploy/, applied: a run launched by K8sRunLauncher, its steps as pods, sessions beside them as Jobs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dyff_dagster.catalog import Catalog
from tests import servers
from tests.kubernetes.deployment_support import (
    DEPLOY,
    LITTLE,
    Deployment,
    Web,
    deployed,
    kubectl,
    not_here,
    objects,
    until,
)

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(1500)]

EVALUATION = "evaluations/wdbc-logreg-eval"
LEASE = 600
"""Seconds: long enough for a second run to take over what a first one left."""
KINDS = ("Audit", "Dataset", "Evaluation", "Measurement", "Model", "SafetyCase")
"""Whose ``resource_allocation()`` is more than a small node has."""
EVALUATIONS = ["wdbc-bayes-eval", "wdbc-logreg-eval"]
SETTINGS: dict[str, Any] = {
    "steps": {
        "serviceAccount": "dyff-steps",
        "sessionsServiceAccount": "dyff-session-steps",
        "resources": dict.fromkeys(KINDS, LITTLE),
    },
    "cpu": LITTLE["cpu"],
    "memory": LITTLE["memory"],
    "lease": LEASE,
    "requestTimeout": 8,
    "timeouts": dict.fromkeys(("admission", "scheduling", "pull", "ready"), LEASE - 1),
}
SLOW = """
{kind: DataSource, id: questions-file, account: ward-7, name: Questions, sourceKind: upload, source: questions.jsonl}
---
kind: Dataset
id: questions
account: ward-7
name: Questions
annotations: {dyff-dagster/from: questions-file, dyff-dagster/withhold: ""}
artifacts: [{path: data.parquet}]
schema: {arrow: {question: string!}}
---
kind: InferenceService
id: slow
account: ward-7
name: Slow
runner:
  kind: standalone
  args: [python, slow.py, "{port}"]
  resources: {storage: 1Mi}
interface: {endpoint: answer, outputSchema: {arrow: {answer: string!}}}
---
kind: Evaluation
id: asked
account: ward-7
dataset: questions
workersPerReplica: 1
inferenceSession: {inferenceService: slow}
"""
SERVER = """
import http.server, json, sys, time
class Slow(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(1)
        body = json.dumps({"answer": asked["question"].upper()}).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Slow).serve_forever()
"""
ROWS = 30


@pytest.fixture(scope="module")
def cluster() -> None:
    """A cluster that answers."""
    if not os.environ.get("KUBECONFIG"):
        not_here("KUBECONFIG is not set: no cluster to test on")
    if kubectl("get", "--raw", "/readyz", check=False).returncode != 0:
        not_here("the cluster of KUBECONFIG does not answer")


@pytest.fixture(scope="module")
def deployment(cluster: None) -> Iterator[Deployment]:
    """All of deploy/, ready."""
    with deployed(SETTINGS) as made:
        yield made


@pytest.fixture(scope="module")
def web(deployment: Deployment) -> Iterator[Web]:
    """Dagster's web server."""
    with deployment.webserver() as found:
        yield found


@pytest.mark.parametrize(
    "path",
    ["cluster", "dagster", "postgres", "storage/one-node.yaml", "storage/nfs.yaml", "storage/class.yaml"],
)
def test_the_server_accepts_what_lies_in_deploy(deployment: Deployment, path: str) -> None:
    documents = deployment.documents(path)
    if path in ("storage/nfs.yaml", "storage/class.yaml"):  # a claim that is bound cannot get another volume
        documents = json.loads(json.dumps(documents).replace("-storage", "-other"))
    assert deployment.apply(documents, "--dry-run=server").count("(server dry run)") == len(documents)


def test_every_file_of_deploy_is_applied_or_named_as_not_tried() -> None:
    listed = {path.relative_to(DEPLOY).as_posix() for path in DEPLOY.rglob("*") if path.is_file()}
    kustomized = set()
    for name in ("cluster", "dagster", "postgres"):
        said = yaml.safe_load((DEPLOY / name / "kustomization.yaml").read_text())
        generated = said.get("configMapGenerator", [])
        files = [
            *said["resources"],
            *(f for g in generated for f in [*g.get("files", []), *g.get("envs", [])]),
        ]
        kustomized |= {f"{name}/{file}" for file in ["kustomization.yaml", *files]}
    storage = {"storage/one-node.yaml", "storage/nfs.yaml", "storage/class.yaml"}
    assert listed - kustomized - storage == {"Containerfile", "README.md", "helm/values.yaml"}


def test_pods_of_dagster_are_restricted(deployment: Deployment) -> None:
    pods = objects("pods", deployment.dagster)
    assert {pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in pods} >= {
        "code", "daemon", "webserver", "postgres",
    }  # fmt: skip
    for pod in pods:
        assert_restricted(pod)


def test_the_demo_ends_in_its_safety_case_with_steps_as_pods(deployment: Deployment, web: Web) -> None:
    web.loaded(EVALUATION)
    demo = web.materializable()
    run_id = web.launch(*demo)
    jobs: dict[str, dict[str, Any]] = {}
    session_pods: dict[str, dict[str, Any]] = {}

    def look() -> str | None:
        for job in objects("jobs", deployment.sessions):
            jobs[job["metadata"]["uid"]] = job
        for pod in objects("pods", deployment.sessions):
            session_pods[pod["metadata"]["uid"]] = pod
        status = web.status(run_id)
        return status if status in ("SUCCESS", "FAILURE", "CANCELED") else None

    status = until("the end of the demo", 1200, look)
    assert status == "SUCCESS", logs_of(deployment, run_id)

    case = deployment.read("wdbc-safety-case/.dyff/commit.json")
    assert case["facts"]["conclusion"]
    assert "index.html" in deployment.names("wdbc-safety-case")
    assert "wdbc-safety-case" in deployment.execute("dyff-dagster", "status")
    for evaluation in EVALUATIONS:
        evaluated = deployment.read(f"{evaluation}/.dyff/commit.json")["facts"]
        assert evaluated["completeness"]["answered"] == evaluated["completeness"]["expected"] == 380

    # The sessions: a Job for each evaluation, in their own namespace, and nothing of them left.
    assert sorted(
        job["metadata"]["annotations"]["dyff-dagster/entity-id"] for job in jobs.values()
    ) == sorted(EVALUATIONS)
    for job in jobs.values():
        labels = job["metadata"]["labels"]
        assert labels["dyff-dagster/account"] == "clinical-ai"
        assert labels["dagster/run-id"] == run_id
    assert session_pods
    for pod in session_pods.values():
        assert_restricted(pod)
        claims = [
            v["persistentVolumeClaim"]["claimName"]
            for v in pod["spec"]["volumes"]
            if "persistentVolumeClaim" in v
        ]
        assert claims == ["dyff-storage"]
        assert not pod["spec"].get("automountServiceAccountToken", True)
    assert objects("jobs,pods,services,configmaps,secrets", deployment.sessions, "dyff-dagster/session") == []

    # The steps: a pod for each, with what its kind asks for, and only the evaluation's let in to sessions.
    steps = objects(
        "pods", deployment.dagster, f"dagster/run-id={run_id},app.kubernetes.io/component=step_worker"
    )
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for pod in steps:
        by_kind.setdefault(pod["metadata"]["labels"]["dyff-dagster/kind"], []).append(pod)
        assert pod["spec"]["containers"][0]["image"] == deployment.image
        assert_restricted(pod)
    catalog = Catalog.load(servers.REPOSITORY / "examples" / "breast_cancer")
    kinds = Counter(catalog.get(asset.split("/")[-1]).kind for asset in demo)
    assert {kind: len(pods) for kind, pods in by_kind.items()} == kinds
    assert kinds["Evaluation"] == len(EVALUATIONS) and set(KINDS) <= set(kinds)
    for kind, pods in by_kind.items():
        for pod in pods:
            asks = kind == "Evaluation"
            assert pod["metadata"]["labels"].get("dyff-dagster/client") == ("true" if asks else None)
            assert pod["spec"]["serviceAccountName"] == ("dyff-session-steps" if asks else "dyff-steps")
            if kind in KINDS:
                assert pod["spec"]["containers"][0]["resources"] == {"requests": LITTLE}
    owners = {
        job["metadata"]["ownerReferences"][0]["kind"]
        for job in objects(
            "jobs", deployment.dagster, f"dagster/run-id={run_id},app.kubernetes.io/component=step_worker"
        )
    }
    assert owners == {"Pod"}


def test_steps_that_ask_no_session_may_do_nothing_on_the_cluster(deployment: Deployment) -> None:
    who = f"--as=system:serviceaccount:{deployment.dagster}:dyff-steps"
    for namespace in (deployment.dagster, deployment.sessions):
        for verb, kind in (("create", "pods"), ("create", "jobs"), ("get", "secrets"), ("list", "pods")):
            said = kubectl("auth", "can-i", verb, kind, "-n", namespace, who, check=False).stdout.strip()
            assert said == "no", f"{verb} {kind} in {namespace}"


def test_nobody_of_ours_may_read_a_secret(deployment: Deployment) -> None:
    for account in ("dyff-dagster", "dyff-session-steps", "dyff-steps"):
        who = f"--as=system:serviceaccount:{deployment.dagster}:{account}"
        for namespace in (deployment.dagster, deployment.sessions):
            for verb in ("get", "list", "watch"):
                said = kubectl(
                    "auth", "can-i", verb, "secrets", "-n", namespace, who, check=False
                ).stdout.strip()
                assert said == "no", f"{account} {verb} in {namespace}"


@pytest.fixture(scope="module")
def slow(deployment: Deployment, web: Web, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The deployment over a catalog of its own, mounted from a ConfigMap: an evaluation of half a minute."""
    directory = tmp_path_factory.mktemp("catalog")
    (directory / "audit.yaml").write_text(SLOW)
    (directory / "slow.py").write_text(SERVER)
    (directory / "questions.jsonl").write_text("".join(f'{{"question": "q{n}"}}\n' for n in range(ROWS)))
    kubectl("create", "configmap", "dyff-catalog", "-n", deployment.dagster, f"--from-file={directory}")
    kubectl(
        "patch", "configmap", "dyff-environment", "-n", deployment.dagster, "--type=merge",
        "-p", json.dumps({"data": {"DYFF_CATALOG": "/catalog"}}),
    )  # fmt: skip
    kubectl("rollout", "restart", "-n", deployment.dagster, "deploy/dyff-code")
    deployment.ready("dyff-code")
    web.loaded("evaluations/asked")
    run_id = web.launch("datasources/questions-file", "datasets/questions")
    assert web.ended(run_id) == "SUCCESS", logs_of(deployment, run_id)
    return "evaluations/asked"


def test_a_cancelled_run_takes_its_steps_and_its_session_with_it(
    deployment: Deployment, web: Web, slow: str
) -> None:
    run_id = web.launch(slow)
    serving(deployment)
    answers(deployment)
    web.terminate(run_id)
    assert web.ended(run_id, 120) == "CANCELED"
    until("the session's end", 60, lambda: objects("jobs,pods", deployment.sessions) == [])
    running = f"dagster/run-id={run_id}"
    until(
        "the steps' end",
        60,
        lambda: all(
            pod["status"]["phase"] in ("Succeeded", "Failed")
            for pod in objects("pods", deployment.dagster, running)
        ),
    )


@pytest.mark.parametrize("how", ["killed", "deleted"])
def test_a_step_that_ends_in_its_midst_is_gone_on_with(
    deployment: Deployment, web: Web, slow: str, how: str
) -> None:
    """Killed, it says nothing to anybody: its session lives, and the next run takes it over.

    Of a pod that is deleted, even by force, the kubelet tells the step to end, which then ends its session.
    """
    deployment.execute("rm", "-rf", "/storage/asked")  # what other tests left
    first = web.launch(slow)
    job = serving(deployment)
    answers(deployment)
    (step,) = objects("pods", deployment.dagster, f"dagster/run-id={first},dyff-dagster/kind=Evaluation")
    if how == "killed":
        kill(step)
    else:
        name = step["metadata"]["name"]
        kubectl("delete", "pod", name, "-n", deployment.dagster, "--grace-period=0", "--force")
    # Servers before 1.26 make another pod for a Job whose pod was deleted; that one sees that its step has begun,
    # and ends with status 0, whereupon Dagster waits for ever. Somebody has to cancel the run.
    if not over(web, first, 120 if how == "killed" else 20):
        assert how == "deleted"
        web.terminate(first)
        web.ended(first, 120)
    assert web.status(first) in ("FAILURE", "CANCELED")
    if how == "killed":
        assert [found["metadata"]["uid"] for found in objects("jobs", deployment.sessions)] == [job]
    else:
        until("the session's end", 60, lambda: objects("jobs,pods", deployment.sessions) == [])
    second = web.launch(slow)
    seen: set[str] = set()

    def look() -> bool:
        seen.update(found["metadata"]["uid"] for found in objects("jobs", deployment.sessions))
        return web.status(second) in ("SUCCESS", "FAILURE", "CANCELED")

    until("the end of the second run", 420, look)
    assert web.status(second) == "SUCCESS", logs_of(deployment, second)
    assert len(seen) == 1
    assert (seen == {job}) == (how == "killed")
    facts = deployment.read("asked/.dyff/commit.json")["facts"]
    assert facts["completeness"]["answered"] == ROWS
    assert facts["notes"]["takenUp"] > 0
    until("the session's end", 60, lambda: objects("jobs,pods", deployment.sessions) == [])


def kill(pod: dict[str, Any]) -> None:
    """``kill -9`` all processes of a pod, where its node is this machine."""
    uid = pod["metadata"]["uid"]
    names = (uid, uid.replace("-", "_"))
    ours = [
        int(entry.parent.name)
        for entry in Path("/proc").glob("[0-9]*/cgroup")
        if any(name in text_of(entry) for name in names)
    ]
    if not ours:
        pytest.skip("the pod's node is another machine, where nothing can be killed from here")
    for process in ours:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def text_of(path: Path) -> str:
    """What a file of a process holds; nothing where that has ended."""
    try:
        return path.read_text()
    except OSError:
        return ""


def over(web: Web, run_id: str, seconds: float) -> bool:
    """Whether a run ends within some time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if web.status(run_id) in ("SUCCESS", "FAILURE", "CANCELED"):
            return True
        time.sleep(1)
    return False


def serving(deployment: Deployment) -> str:
    """Wait for a session's pod that serves; its Job's uid."""

    def look() -> str | None:
        for pod in objects("pods", deployment.sessions):
            conditions = {c["type"]: c["status"] for c in pod["status"].get("conditions", ())}
            if conditions.get("Ready") == "True":
                return str(pod["metadata"]["ownerReferences"][0]["uid"])
        return None

    return until("a session that serves", 180, look)


def answers(deployment: Deployment) -> None:
    """Wait until answers are on the disk."""
    until("answers on the disk", 60, lambda: deployment.names("asked/.dyff/parts"))


def logs_of(deployment: Deployment, run_id: str) -> str:
    """What the pods of a run said last."""
    return kubectl(
        "logs",
        "-n",
        deployment.dagster,
        "-l",
        f"dagster/run-id={run_id}",
        "--tail=25",
        "--prefix",
        check=False,
    ).stdout[-6000:]


def assert_restricted(pod: dict[str, Any]) -> None:
    """What the Pod Security level "restricted" asks; this server may be too old to ask it itself."""
    spec = pod["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
    kinds = {kind for volume in spec["volumes"] for kind in volume if kind != "name"}
    assert kinds <= {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
    assert not spec.get("hostNetwork") and not spec.get("hostPID") and not spec.get("hostIPC")
