"""What pods and Jobs say of themselves: recorded as servers from 1.31 on say it, which no test here can provoke."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dyff_dagster.sessions.kubernetes.signals import (
    failed_job,
    is_suspended,
    look,
    own_container,
    refusal,
    sign_in_log,
    unprepared,
)

AT = "2025-03-04T05:06:07Z"
RECORDED: dict[str, Any] = json.loads(Path(__file__).with_name("pod_statuses.json").read_text())
"""Statuses of pods, as Kubernetes 1.31 gives them."""


def pod(
    status: Any = "{}", *, node: str | None = "gpu-1", image: str = "acme/serve:1", **metadata: Any
) -> Any:
    """A pod whose status is the JSON of a server."""
    return {
        "metadata": {"name": "s-x7k2p", "creationTimestamp": AT, **metadata},
        "spec": {"containers": [{"name": "service", "image": image}], **({"nodeName": node} if node else {})},
        "status": json.loads(status) if isinstance(status, str) else status,
    }


def container(state: str, last: str = "{}", name: str = "service") -> str:
    return (
        f'{{"name": "{name}", "state": {state}, "lastState": {last}, "ready": false, "started": false, '
        '"restartCount": 0, "image": "acme/serve:1", "imageID": ""}'
    )


def conditions(**statuses: str) -> str:
    found = {"PodReadyToStartContainers": "True", "Initialized": "True", "PodScheduled": "True", **statuses}
    return json.dumps(
        [{"type": kind, "status": status, "lastTransitionTime": AT} for kind, status in found.items()]
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("evicted for disk",
         "it was evicted (Pod ephemeral local storage usage exceeds the total limit of containers 20Gi); mount its "
         "model instead of having it fetched, or use nodes with more disk"),
        ("evicted for memory",
         "it was evicted (The node was low on resource: memory. Threshold quantity: 100Mi, available: 85Mi. Container "
         "service was using 9Gi, request is 8Gi, has larger consumption of memory)"),
        ("a spot node shut down",
         "it was taken away (TerminationByKubelet: Pod was terminated in response to imminent node shutdown.)"),
        ("a taint", "it was taken away (DeletionByTaintManager: Taint manager: deleting due to NoExecute taint)"),
    ],
)  # fmt: skip
def test_what_the_cluster_takes_away_is_no_crash(name: str, said: str) -> None:
    view = look(pod(RECORDED[name]), "8Gi")
    assert view.why == said
    assert (view.phase, view.disrupted, view.crashed, view.fatal) == (None, True, False, False)


def test_one_that_is_preempted_says_by_whom_while_it_goes() -> None:
    serving = look(pod(RECORDED["preempted"]))
    assert serving.serves  # it answers until it is told to end
    going = look(pod(RECORDED["preempted"], deletionTimestamp=AT))
    assert (going.phase, going.disrupted) == (None, True)
    assert going.why == (
        "it was taken away (PreemptionByScheduler: default-scheduler: preempting to accommodate a higher priority pod)"
    )


def test_one_whose_node_has_no_device_after_all_says_so() -> None:
    view = look(pod(RECORDED["rejected by the kubelet"]))
    assert (view.phase, view.crashed) == (None, True)
    assert view.why.startswith(
        "it ended: UnexpectedAdmissionError: Pod was rejected: Allocate failed due to requested"
    )


@pytest.mark.parametrize(
    ("state", "said", "fatal"),
    [
        ('{"terminated": {"exitCode": 137, "reason": "OOMKilled"}}',
         "it was killed because it took more than its memory limit of 8Gi: raise runner.resources.memory", True),
        ('{"terminated": {"exitCode": 137, "reason": "Error"}}',
         "it was killed (exit code 137), as happens at its memory limit of 8Gi or when a node is short of memory",
         False),
        ('{"terminated": {"exitCode": 128, "reason": "StartError", "message": "exec: \\"vllm\\": not found in $PATH"}}',
         'its command cannot be run (exec: "vllm": not found in $PATH): correct runner.args', True),
        ('{"terminated": {"exitCode": 1, "reason": "Error", "message": "a prompt"}}',
         "it ended with exit code 1", False),
    ],
    ids=["memory limit", "137", "no command", "status 1"],
)  # fmt: skip
def test_how_a_container_ended_is_said_without_its_words(state: str, said: str, fatal: bool) -> None:
    view = look(pod(f'{{"phase": "Failed", "containerStatuses": [{container(state)}]}}'), "8Gi")
    assert (view.why, view.crashed, view.fatal) == (said, True, fatal)


def waiting(reason: str, message: str, image: str = "acme/serve:1") -> Any:
    state = json.dumps({"waiting": {"reason": reason, "message": message}})
    text = f'{{"phase": "Pending", "conditions": {conditions()}, "containerStatuses": [{container(state)}]}}'
    return look(pod(text, image=image))


@pytest.mark.parametrize(
    ("reason", "message", "fatal"),
    [
        ("ErrImagePull", 'rpc error: code = NotFound desc = failed to pull and unpack image "r.example/acme/serve:1": '
         'failed to resolve reference "r.example/acme/serve:1": r.example/acme/serve:1: not found',
         True),
        ("ErrImagePull", 'failed to pull image "acme/serve:1": pull access denied, repository does not exist or may '
         "require authorization: server message: insufficient_scope: authorization failed", True),
        ("ErrImagePull", "failed to authorize: failed to fetch anonymous token: unexpected status: 401 Unauthorized",
         True),
        ("ErrImagePull", "unexpected status from HEAD request to https://r.example/v2/a: 403 Forbidden", True),
        ("ErrImagePull", "no match for platform in manifest: not found", True),
        ("ErrImagePull", "reading manifest 1 in r.example/acme/serve: manifest unknown", True),
        ("ImagePullBackOff", 'Back-off pulling image "acme/serve:1"', False),
        ("ImagePullBackOff", 'Back-off pulling image "acme/serve:1": ErrImagePull: rpc error: code = NotFound desc = '
         'failed to pull: failed to resolve reference "r.example/acme/serve:1": r.example/acme/serve:1: not found',
         True),
        ("ErrImagePull", "failed to do request: Head: dial tcp 10.0.0.1:443: i/o timeout", False),
        ("ErrImagePull", "429 Too Many Requests - Server message: toomanyrequests: You have reached your rate limit",
         False),
        ("ErrImagePull", "write /var/lib/containerd/x: no space left on device", False),
        ("RegistryUnavailable", "the registry is unavailable: connection refused", False),
        ("InvalidImageName", 'Failed to apply default image tag "No::Image": invalid reference format', True),
        ("ErrImageNeverPull", 'Container image "acme/serve:1" is not present with pull policy of Never', True),
    ],
)  # fmt: skip
def test_an_image_that_never_comes_is_told_from_one_that_is_slow(
    reason: str, message: str, fatal: bool
) -> None:
    view = waiting(reason, message)
    assert (view.phase, view.fatal) == ("pull", fatal)
    assert view.why.startswith(f"its image cannot be pulled ({reason}: {message[:40]}")


@pytest.mark.parametrize(
    "image", ["acme/denied:1", "not-found/forbidden:1", "localhost:5000/unauthorized@sha256:00"]
)
@pytest.mark.parametrize("quote", ['"', ""])
def test_the_name_of_an_image_decides_nothing(image: str, quote: str) -> None:
    message = (
        f"failed to resolve reference {quote}{image}{quote}: failed to do request: Head "
        f'"https://registry/v2/{image.partition(":")[0]}/manifests/1": dial tcp: i/o timeout'
    )
    assert not waiting("ErrImagePull", message, image).fatal


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("CreateContainerConfigError", 'secret "dyff-session-a" not found'),
        ("CreateContainerConfigError", "couldn't find key token in Secret audits/dyff-session-a"),
        (
            "CreateContainerConfigError",
            'failed to prepare subPath for volumeMount "model" of container "service"',
        ),
        ("CreateContainerError", 'failed to reserve container name "service_0"'),
    ],
)
def test_what_is_missing_for_a_container_might_come(reason: str, message: str) -> None:
    view = waiting(reason, message)
    assert (view.phase, view.misconfigured, view.fatal) == ("pull", True, False)
    assert view.why == f"its container cannot be made ({reason}: {message})"


def test_what_the_scheduler_says_is_quoted() -> None:
    message = (
        "0/3 nodes are available: 1 Insufficient nvidia.com/gpu, 2 node(s) didn't match Pod's node affinity/selector. "
        "preemption: 0/3 nodes are available: 1 No preemption victims found for incoming pod, 2 Preemption is not "
        "helpful for scheduling."
    )
    text = json.dumps({
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}],
    })  # fmt: skip
    view = look(pod(text, node=None))
    assert (view.phase, view.why) == ("scheduling", f"no node has room for it ({message})")
    held_back = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                 "message": "Scheduling is blocked due to non-empty scheduling gates"}  # fmt: skip
    view = look(pod(json.dumps({"phase": "Pending", "conditions": [held_back]}), node=None))
    assert view.why == "no node has room for it (Scheduling is blocked due to non-empty scheduling gates)"
    assert look(pod('{"phase": "Pending"}', node=None)).why == "it waits for a node"


def test_a_long_message_is_cut_and_has_no_lines() -> None:
    view = waiting("ErrImagePull", "a\nb " * 1000)
    assert "\n" not in view.why and len(view.why) < 500


@pytest.mark.parametrize("first", [True, False])
def test_containers_that_others_put_beside_ours_are_not_looked_at(first: bool) -> None:
    ours = container(
        '{"terminated": {"exitCode": 3, "reason": "Error", "finishedAt": "2025-03-04T05:09:00Z"}}'
    )
    mesh = container('{"running": {"startedAt": "2025-03-04T05:06:20Z"}}', name="istio-proxy")
    both = f"{mesh}, {ours}" if first else f"{ours}, {mesh}"
    found = pod(f'{{"phase": "Failed", "containerStatuses": [{both}]}}')
    assert look(found).why == "it ended with exit code 3"
    assert own_container(found)["name"] == "service"


def test_a_pod_goes_through_its_phases() -> None:
    running = container('{"running": {"startedAt": "2025-03-04T05:06:20Z"}}')
    creating = container('{"waiting": {"reason": "ContainerCreating"}}')
    said = [
        pod('{"phase": "Pending"}', node=None),
        pod(f'{{"phase": "Pending", "conditions": {conditions()}}}'),
        pod(f'{{"phase": "Pending", "conditions": {conditions()}, "containerStatuses": [{creating}]}}'),
        pod(
            f'{{"phase": "Running", "conditions": {conditions(Ready="False")}, "containerStatuses": [{running}]}}'
        ),
        pod(
            f'{{"phase": "Running", "conditions": {conditions(Ready="True")}, "containerStatuses": [{running}]}}'
        ),
        pod(
            f'{{"phase": "Succeeded", "containerStatuses": [{container(json.dumps({"terminated": {"exitCode": 0}}))}]}}'
        ),
    ]
    assert [look(item).phase for item in said] == ["scheduling", "pull", "pull", "ready", "serving", None]
    assert look(said[-1]).why == "it ended with exit code 0"
    assert not look(said[-1]).crashed


# Jobs


def job(*conditions: dict[str, str], **spec: Any) -> Any:
    return {"metadata": {"name": "s"}, "spec": spec, "status": {"conditions": list(conditions)}}


@pytest.mark.parametrize(
    ("conditions", "ended"),
    [
        ([], None),
        ([{"type": "Suspended", "status": "True", "reason": "JobSuspended"}], None),
        ([{"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}], "DeadlineExceeded"),
        ([{"type": "FailureTarget", "status": "True", "reason": "DeadlineExceeded"}], "DeadlineExceeded"),
        ([{"type": "FailureTarget", "status": "True", "reason": "BackoffLimitExceeded"},
          {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}], "BackoffLimitExceeded"),
        ([{"type": "FailureTarget", "status": "True", "reason": "PodFailurePolicy",
           "message": "Container service for pod audits/s-x7k2p failed with exit code 42 matching FailJob rule"
           }], "PodFailurePolicy"),
        ([{"type": "SuccessCriteriaMet", "status": "True", "reason": "CompletionsReached"}], "Complete"),
        ([{"type": "Complete", "status": "True", "reason": "CompletionsReached"}], "Complete"),
        ([{"type": "Failed", "status": "False"}], None),
        ([{"type": "Failed", "status": "True"}], "Failed"),
    ],
)  # fmt: skip
def test_how_a_job_ended(conditions: list[dict[str, str]], ended: str | None) -> None:
    assert failed_job(job(*conditions)) == ended


def test_a_job_that_a_queue_holds_back_has_not_ended() -> None:
    held = job(
        {"type": "Suspended", "status": "True", "reason": "JobSuspended", "message": "Job suspended"},
        suspend=True,
    )
    assert is_suspended(held) and failed_job(held) is None
    assert not is_suspended(job(suspend=False)) and not is_suspended(job())


# Events


def event(reason: str, message: str, at: str | None = AT, **more: Any) -> Any:
    return {
        "metadata": {"creationTimestamp": AT},
        "reason": reason,
        "message": message,
        "lastTimestamp": at,
        **more,
    }


@pytest.mark.parametrize(
    ("message", "quota"),
    [
        ('Error creating: pods "s-x7k2p" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=2, '
         "used: requests.nvidia.com/gpu=4, limited: requests.nvidia.com/gpu=4", True),
        ('Error creating: pods "s-x7k2p" is forbidden: failed quota: all: must specify limits.cpu for: service', False),
        ('Error creating: pods "s-x7k2p" is forbidden: violates PodSecurity "restricted:latest": seccomp', False),
        ('Error creating: pods "s-x7k2p" is forbidden: no PriorityClass with name audits was found', False),
        ("Error creating: pods is forbidden: error looking up service account audits/default: not found", False),
    ],
)  # fmt: skip
def test_why_a_job_gets_no_pods_is_quoted(message: str, quota: bool) -> None:
    events = [
        event("SuccessfulCreate", "Created pod", "2025-03-04T05:00:00Z"),
        event("FailedCreate", message),
    ]
    assert refusal(events) == (message, quota)
    assert refusal(events[:1]) is None


def test_the_latest_event_counts_however_its_time_is_written() -> None:
    old = event("FailedCreate", "old", "2025-03-04T05:00:00Z")
    new = event("FailedCreate", "new", None, eventTime="2025-03-04T06:00:00.123456Z")
    assert refusal([new, old]) == ("new", False)


@pytest.mark.parametrize(
    ("reason", "message", "missing"),
    [
        ("FailedMount", 'MountVolume.SetUp failed for volume "token" : secret "s" not found', True),
        ("FailedMount", 'MountVolume.SetUp failed for volume "code" : configmap "s" not found', True),
        ("FailedMount", 'Unable to attach or mount volumes: unmounted volumes=[model]: timed out waiting', False),
        ("FailedAttachVolume", 'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) a', False),
        ("FailedCreatePodSandBox", "Failed to create pod sandbox: plugin type=calico failed: no addresses left", False),
    ],
)  # fmt: skip
def test_what_a_pod_waits_for_before_its_image_is_quoted(reason: str, message: str, missing: bool) -> None:
    scheduled = event("Scheduled", "Successfully assigned", "2025-03-04T05:00:00Z")
    assert unprepared([event(reason, message), scheduled]) == (f"{reason}: {message}", missing)
    assert (
        unprepared([event(reason, message), event("Pulling", "Pulling image", "2025-03-04T05:10:00Z")])
        is None
    )
    assert unprepared([event("Pulled", "in the same second"), event(reason, message)]) is None
    assert unprepared([scheduled]) is None and unprepared([]) is None


# Logs


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
            "the GPU's memory is full",
        ),
        (
            "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`",
            "GPU's memory",
        ),
        (
            "huggingface_hub.errors.GatedRepoError: 403 Client Error.",
            "the Hub refused the model (401 or 403)",
        ),
        ("OSError: You are trying to access a gated repo on huggingface.co", "the Hub refused the model"),
        (
            "requests.HTTPError: 401 Client Error: Unauthorized for url: https://huggingface.co/api/models/a",
            "the Hub refused",
        ),
        (
            "HTTPError: 429 Client Error: Too Many Requests for url: https://huggingface.co/a",
            "takes no more requests (429)",
        ),
        ("ModuleNotFoundError: No module named 'fastapi'", "something is not in the image"),
        (
            "python3: can't open file '/dyff/code/serve.py': [Errno 2] No such file or directory",
            "not in the image",
        ),
        ("PermissionError: [Errno 13] Permission denied: '/root/.cache'", "only /tmp is writable"),
    ],
)
def test_a_log_is_read_for_what_is_known_and_not_quoted(line: str, said: str) -> None:
    clause = sign_in_log(f"starting\n{line}\nTraceback: a prompt\n")
    assert said in clause
    assert line not in clause and "prompt" not in clause


@pytest.mark.parametrize("line", ["", "INFO 401 tokens", "GET /health 403", "all is well", "a 429th row"])
def test_a_log_that_says_nothing_known_has_no_sign(line: str) -> None:
    assert sign_in_log(line) == ""


@pytest.mark.parametrize("name", RECORDED)
def test_a_sentence_is_one_line(name: str) -> None:
    assert "\n" not in look(pod(RECORDED[name])).why
