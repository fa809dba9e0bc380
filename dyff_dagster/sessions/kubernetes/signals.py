"""What pods and Jobs say of themselves, in words that somebody can act on.

Nothing here asks the cluster: these are functions of objects as the API server shows them. Lines of a service's log
are never part of what they say; what is known by a pattern of its log is said in our own words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from dyff_dagster.sessions.kubernetes.api import Object

Phase = Literal["admission", "scheduling", "pull", "ready", "serving"]
PHASES: tuple[Phase, ...] = ("admission", "scheduling", "pull", "ready", "serving")
"""What a replica goes through, in this order."""

OUR_CONTAINERS = frozenset({"service", "analysis"})
"""What the containers of our pods are called: others are put beside them by meshes and monitors."""
_PERMANENT = re.compile(
    r"not found|does not exist|manifest unknown|denied|unauthorized|authentication required|forbidden|"
    r"no match for platform|invalid reference|failed to resolve reference .*: (?:not found|pull access)",
    re.IGNORECASE,
)
_PULLS = frozenset({"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError"})
_NEVER = frozenset({"InvalidImageName", "ErrImageNeverPull"})
_TAKEN_AWAY = frozenset({"Evicted", "NodeLost", "NodeShutdown", "Shutdown", "Preempting", "Terminated"})
_CANNOT_RUN = frozenset({"ContainerCannotRun", "StartError", "ContainerCannotStart"})
_HOPELESS = _CANNOT_RUN | {"OOMKilled"}
"""Ends that a second try would come to as well."""
_UNPREPARED = frozenset({"FailedMount", "FailedAttachVolume", "FailedMapVolume", "FailedCreatePodSandBox"})
_MISSING = re.compile(r'\b(?:secret|configmap|persistentvolumeclaim) "[^"]+" not found', re.IGNORECASE)
_CONFIG = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_LOG_SIGNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"CUDA out of memory|OutOfMemoryError|No available memory for the cache blocks", re.IGNORECASE),
        "its log says that the GPU's memory is full: lower --max-model-len in runner.args, or ask for more GPUs",
    ),
    (
        re.compile(r"(?=.*hugging ?face)(?:.*\b(?:401|403)\b|.*gated repo)|GatedRepoError", re.IGNORECASE),
        "its log says that the Hub refused the model (401 or 403): fetch the model first, with a token that may read "
        "it, so that it is mounted",
    ),
    (
        re.compile(r"(?=.*hugging ?face).*\b429\b", re.IGNORECASE),
        "its log says that the Hub takes no more requests (429): fetch the model first, so that it is mounted",
    ),
    (
        re.compile(r"ModuleNotFoundError|No module named|executable file not found|No such file or directory"),
        "its log says that something is not in the image: build an image with all that it needs",
    ),
    (re.compile(r"Permission denied"), "its log says that it may not read or write a file: images run as a user of "
     "their own here, and only /tmp is writable"),
)  # fmt: skip


@dataclass(frozen=True)
class View:
    """What is to be known of one pod.

    Attributes:
        name: Of the pod.
        phase: How far it is; None for one that serves no more.
        why: What it waits for, or what ended it, as a clause; may be empty.
        fatal: Whether it can never come to serve, nor would another in its place.
        misconfigured: Whether it waits for something that is not there and might come: a Secret, a volume.
        crashed: Whether its container ended with an error.
        disrupted: Whether the cluster took it away.
        was_ready: Whether it has served before.
        ip: Its address, once it has one.
    """

    name: str
    phase: Phase | None
    why: str = ""
    fatal: bool = False
    misconfigured: bool = False
    crashed: bool = False
    disrupted: bool = False
    was_ready: bool = False
    ip: str = ""

    @property
    def serves(self) -> bool:
        """Whether requests may be sent to it."""
        return self.phase == "serving"


def look(pod: Object, memory: str = "") -> View:
    """What a pod says of itself.

    Args:
        pod: As the API server shows it.
        memory: The limit of its container, for messages.
    """
    status = pod.get("status") or {}
    name, ip = pod["metadata"]["name"], status.get("podIP") or ""
    conditions = {item["type"]: item for item in status.get("conditions") or ()}
    container = own_container(pod)
    state, last = container.get("state") or {}, container.get("lastState") or {}
    disrupted = conditions.get("DisruptionTarget", {}).get("status") == "True"
    ended = state.get("terminated") or last.get("terminated")
    if status.get("phase") in ("Failed", "Succeeded"):
        failed = status["phase"] == "Failed"
        why = _ending(status, ended, conditions.get("DisruptionTarget") if disrupted else None, memory)
        evicted = status.get("reason") in _TAKEN_AWAY
        taken = disrupted or evicted
        hopeless = (ended or {}).get("reason") in _HOPELESS
        return View(
            name, None, why, hopeless and not taken, crashed=failed and not taken, disrupted=taken, ip=ip
        )
    if pod["metadata"].get("deletionTimestamp"):
        why = _taken_away(conditions["DisruptionTarget"]) if disrupted else f"pod {name} is being removed"
        return View(name, None, why, disrupted=True, ip=ip)
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") != "True" and not pod["spec"].get("nodeName"):
        text = scheduled.get("message", "")
        return View(
            name, "scheduling", f"no node has room for it ({text})" if text else "it waits for a node"
        )
    waiting = state.get("waiting") or {}
    reason, message = waiting.get("reason", ""), _short(waiting.get("message", ""))
    if reason in _NEVER:
        return View(name, "pull", f"its image cannot be pulled ({reason}: {message})", fatal=True)
    if reason in _PULLS:
        fatal = bool(_PERMANENT.search(_without_image(waiting.get("message", ""), pod)))
        return View(name, "pull", f"its image cannot be pulled ({reason}: {message})", fatal=fatal)
    if reason in _CONFIG:
        return View(name, "pull", f"its container cannot be made ({reason}: {message})", misconfigured=True)
    if "running" not in state:
        return View(name, "pull", "its image is still being pulled, or its volumes mounted")
    if conditions.get("Ready", {}).get("status") == "True":
        return View(name, "serving", ip=ip, was_ready=True)
    return View(name, "ready", "its service has started and does not answer yet", ip=ip)


def _ending(status: Object, ended: Object | None, disruption: Object | None, memory: str) -> str:
    if status.get("reason") == "Evicted":
        message = _short(status.get("message", "")).rstrip(". ")
        disk = "ephemeral" in message or "EmptyDir" in message
        hint = "; mount its model instead of having it fetched, or use nodes with more disk" if disk else ""
        return f"it was evicted ({message}){hint}"
    if disruption is not None:
        return _taken_away(disruption)
    if status.get("reason") == "DeadlineExceeded":
        return "its time was up"
    if status.get("reason"):
        return f"it ended: {status['reason']}: {_short(status.get('message', ''))}"
    if ended is None:
        return "it ended, and nothing says how"
    if ended.get("reason") == "OOMKilled" or ended.get("exitCode") == 137:
        limit = f" of {memory}" if memory else ""
        if ended.get("reason") == "OOMKilled":
            return f"it was killed because it took more than its memory limit{limit}: raise runner.resources.memory"
        return f"it was killed (exit code 137), as happens at its memory limit{limit} or when a node is short of memory"
    if ended.get("reason") in _CANNOT_RUN:
        return f"its command cannot be run ({_short(ended.get('message', ''))}): correct runner.args"
    return f"it ended with exit code {ended.get('exitCode')}"


def _taken_away(disruption: Object) -> str:
    return f"it was taken away ({disruption.get('reason', '')}: {_short(disruption.get('message', ''))})"


def own_container(pod: Object) -> Object:
    """The status of the container that is ours: meshes put others beside it, or before."""
    found = (pod.get("status") or {}).get("containerStatuses") or ()
    return next((status for status in found if status["name"] in OUR_CONTAINERS), next(iter(found), {}))


def _without_image(message: str, pod: Object) -> str:
    """A message without what it quotes, and without the image's name: that may be ``denied/not-found``."""
    message = re.sub(r'"[^"]*"', "", message)
    for container in pod["spec"].get("containers") or ():
        image = str(container.get("image", ""))
        for said in (image, image.partition("@")[0], image.rpartition(":")[0]):
            message = message.replace(said, "") if said else message
    return message


def sign_in_log(text: str) -> str:
    """What is known by a pattern in a service's log, as a clause of our own; empty where nothing is."""
    for pattern, said in _LOG_SIGNS:
        for line in reversed(text.splitlines()):
            if pattern.search(line):
                return said
    return ""


def failed_job(job: Object) -> str | None:
    """Why a Job has ended, as Kubernetes' word (``BackoffLimitExceeded`` …); None while it goes on.

    Servers from 1.31 on say so before its last pods have gone (``FailureTarget``, ``SuccessCriteriaMet``).
    """
    for condition in (job.get("status") or {}).get("conditions") or ():
        if condition["type"] in ("Failed", "FailureTarget") and condition["status"] == "True":
            return str(condition.get("reason") or "Failed")
        if condition["type"] in ("Complete", "SuccessCriteriaMet") and condition["status"] == "True":
            return "Complete"
    return None


def is_suspended(job: Object) -> bool:
    """Whether a Job waits to be armed, or a queue holds it back."""
    return bool(job["spec"].get("suspend"))


def refusal(events: Sequence[Object]) -> tuple[str, bool] | None:
    """Why a Job gets no pods, and whether a quota is the reason; None where nothing says so."""
    for event in sorted(events, key=_moment, reverse=True):
        if event.get("reason") == "FailedCreate":
            message = str(event.get("message", ""))
            return _short(message), "exceeded quota" in message
    return None


def unprepared(events: Sequence[Object]) -> tuple[str, bool] | None:
    """Why a pod that has a node does not get to pull its image, and whether something that it names is missing.

    None where another thing has happened since: before Kubernetes 1.21 a pod is there before what it mounts.
    """
    latest = max(
        events, key=lambda event: (_moment(event), event.get("reason") not in _UNPREPARED), default=None
    )
    if latest is None or latest.get("reason") not in _UNPREPARED:
        return None
    message = str(latest.get("message", ""))
    return f"{latest['reason']}: {_short(message)}", bool(_MISSING.search(message))


def _moment(event: Object) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"])


def started(pod: Object) -> datetime | None:
    """When a node took it in."""
    return parse_time((pod.get("status") or {}).get("startTime"))


def lives(pod: Object) -> bool:
    """Whether any of it may be running, and holds what it was given of a node."""
    return (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")


def belongs_to(pod: Object, uid: str) -> bool:
    """Whether a pod is of the Job with this uid."""
    return any(owner["uid"] == uid for owner in pod["metadata"].get("ownerReferences") or ())


def ended(pod: Object) -> datetime | None:
    """When its container ended, if it has."""
    terminated = (own_container(pod).get("state") or {}).get("terminated") or {}
    return parse_time(terminated.get("finishedAt"))


def parse_time(text: str | None) -> datetime | None:
    """A time as Kubernetes writes it."""
    return None if not text else datetime.fromisoformat(text.replace("Z", "+00:00"))


def _short(text: str, most: int = 400) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"
