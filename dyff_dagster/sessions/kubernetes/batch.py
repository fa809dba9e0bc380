"""One command in a locked-down pod: no network, no credentials, and nothing writable but what it is given."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dyff_dagster.sessions.kubernetes.api import KubernetesApi, Object
from dyff_dagster.sessions.kubernetes.errors import ApiError, KubernetesError
from dyff_dagster.sessions.kubernetes.logs import LogKeeper
from dyff_dagster.sessions.kubernetes.manifests import RESTRICTED, owned_by, restricted_pod
from dyff_dagster.sessions.kubernetes.names import ENTITY_ID, SESSION, selector
from dyff_dagster.sessions.kubernetes.provisioning import create_child, end
from dyff_dagster.sessions.kubernetes.settings import KubernetesSettings
from dyff_dagster.sessions.kubernetes.signals import View, failed_job, look, own_container, refusal
from dyff_dagster.sessions.kubernetes.watching import Watched

_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_FOR_CONFIG = 60.0


@dataclass(frozen=True)
class Mount:
    """A directory of the storage volume, in the pod under the path that it has here.

    Attributes:
        directory: Absolute path on this machine, below the storage root.
        writable: Whether the command may write there.
    """

    directory: Path
    writable: bool = False


@dataclass(frozen=True)
class Batch:
    """A command to run once in a pod.

    Attributes:
        name: Of its objects.
        entity_id: Whose it is.
        labels: Of its objects.
        command: The command line.
        environment: All variables that it gets; none is secret.
        cwd: Where it runs.
        mounts: What it sees of the storage volume.
        seconds: After which it is ended.
        memory: Limit, as a Kubernetes quantity.
    """

    name: str
    entity_id: str
    labels: Mapping[str, str]
    command: Sequence[str]
    environment: Mapping[str, str]
    cwd: Path
    mounts: Sequence[Mount]
    seconds: int
    memory: str


@dataclass(frozen=True)
class BatchEnd:
    """How a command ended.

    Attributes:
        status: Its exit status; None where it was ended from outside.
        why: In words.
        timed_out: Whether its time was up.
        out_of_memory: Whether it was killed at its memory limit.
    """

    status: int | None
    why: str = ""
    timed_out: bool = False
    out_of_memory: bool = False


def run_batch(
    api: KubernetesApi,
    batch: Batch,
    settings: KubernetesSettings,
    store_root: Path,
    log: Path,
    tick: Callable[[], None],
) -> BatchEnd:
    """Run a command in a pod of its own and wait for its end; nothing of it is left afterwards.

    Args:
        api: The cluster.
        batch: What to run.
        settings: The administrator's; its ``storage`` says where the storage root is on the cluster.
        store_root: The storage root on this machine.
        log: Where the pod's output goes.
        tick: Called twice a second meanwhile.

    Raises:
        KubernetesError: The pod cannot be started.
    """
    made = _create(api, batch, settings, store_root)
    uid = made["metadata"]["uid"]
    try:
        with Watched(api, selector(session=batch.name), "jobs", "pods") as watched:
            watched.synced()
            return _wait(api, batch, settings, watched, log, tick)
    finally:
        # What has ended is worth no less, and a failure is not to be hidden, because the cluster is slow to forget it.
        # Its own deadline ends it at the latest, and the next of its name waits for it.
        with suppress(KubernetesError):
            end(api, batch.name, uid, wait=settings.grace + 30.0, grace=1)


def _create(api: KubernetesApi, batch: Batch, settings: KubernetesSettings, store_root: Path) -> Object:
    body = batch_job(batch, settings, store_root)
    while True:
        try:
            made = api.create("jobs", body)
            break
        except ApiError as error:
            if error.code != "AlreadyExists":
                raise KubernetesError(f"{batch.entity_id}: {error}", reason=error.reason) from None
        # The lock of the entity is ours: what is there was left by a run that was killed.
        end(api, batch.name, None, wait=settings.grace + 120.0, grace=1, wholly=True)
    try:
        create_child(api, batch.entity_id, "networkpolicies", _no_network(batch, made))
        change: Object = {"spec": {"suspend": False}}
        return api.patch("jobs", batch.name, change)
    except BaseException:
        api.delete("jobs", batch.name, uid=made["metadata"]["uid"], grace=0)
        raise


def _wait(
    api: KubernetesApi,
    batch: Batch,
    settings: KubernetesSettings,
    watched: Watched,
    log: Path,
    tick: Callable[[], None],
) -> BatchEnd:
    keeper = LogKeeper(api, log.parent, "analysis")
    since = time.monotonic()
    running: float | None = None
    while True:
        tick()
        pod = next(iter(watched.objects("pods")), None)
        view = None if pod is None else look(pod, batch.memory)
        job = next(iter(watched.objects("jobs")), None)
        if job is None:
            raise KubernetesError(
                f"{batch.entity_id}: its Job {batch.name} was deleted by somebody", reason="TerminateCommand"
            )
        if pod is not None and pod["status"].get("phase") in ("Succeeded", "Failed") and view is not None:
            _keep(keeper, view, log)
            return _ending(pod, view, batch)
        now = time.monotonic()
        if view is not None and view.phase in ("ready", "serving"):
            running = running or now
            if now - running >= batch.seconds:
                _keep(keeper, view, log)  # at the Job's own deadline it would go with its pod
                return BatchEnd(None, f"it took longer than {batch.seconds} s", timed_out=True)
        elif (reason := failed_job(job)) is not None:
            if reason == "DeadlineExceeded":
                return BatchEnd(None, f"it took longer than {batch.seconds} s", timed_out=True)
            return BatchEnd(None, f"its pod was taken away ({reason}): run it again")
        else:
            _refuse(api, batch, settings, view, now - since)
        watched.wait(_SECONDS_BETWEEN_LOOKS)


def _keep(keeper: LogKeeper, view: View, log: Path) -> None:
    kept = keeper.keep_now(view.name)
    if kept is not None:
        kept.replace(log)


def _ending(pod: Object, view: View, batch: Batch) -> BatchEnd:
    terminated = (own_container(pod).get("state") or {}).get("terminated") or {}
    if pod["status"].get("reason") == "DeadlineExceeded":
        return BatchEnd(None, f"it took longer than {batch.seconds} s", timed_out=True)
    starved = terminated.get("reason") == "OOMKilled"
    status = terminated.get("exitCode")
    return BatchEnd(status, "" if status == 0 else view.why, out_of_memory=starved)


def _refuse(
    api: KubernetesApi, batch: Batch, settings: KubernetesSettings, view: View | None, waited: float
) -> None:
    """Say what keeps a pod from starting, if it never will or has been given its time."""
    limits = settings.timeouts
    if view is None:
        if waited >= limits.admission:
            fields = f"involvedObject.name={batch.name},involvedObject.kind=Job"
            why, quota = refusal(api.find("events", fields=fields)) or ("nothing says why", False)
            raise KubernetesError(
                f"{batch.entity_id}: its analysis got no pod within {limits.admission} s ({why})",
                reason="QuotaLimit" if quota else None,
            )
        return
    allowed = limits.scheduling if view.phase == "scheduling" else limits.pull
    stuck = view.misconfigured and waited >= _SECONDS_FOR_CONFIG
    if view.fatal or stuck or (view.phase in ("scheduling", "pull") and waited >= allowed):
        raise KubernetesError(f"{batch.entity_id}: the pod of its analysis does not start: {view.why}")


def batch_job(batch: Batch, settings: KubernetesSettings, store_root: Path) -> Object:
    """The Job of a command.

    Raises:
        KubernetesError: No volume or no image is known.
    """
    storage, image = settings.storage, settings.images.get("project")
    if storage is None or image is None:
        missing = (
            "storage.claim, the volume that the storage root lies on" if storage is None else "images.project"
        )
        raise KubernetesError(
            f"{batch.entity_id}: an analysis in a pod needs {missing}: set it in the file that DYFF_KUBERNETES names"
        )
    mounts: list[dict[str, Any]] = [
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - in the container
        {"name": "tmp", "mountPath": "/dev/shm", "subPath": "shm"},  # noqa: S108
    ]
    for mount in sorted(batch.mounts, key=lambda item: item.directory):
        within = mount.directory.resolve().relative_to(store_root.resolve())
        mounts.append(
            {
                "name": "storage",
                "mountPath": str(mount.directory),
                "subPath": "/".join(part for part in (storage.path.strip("/"), within.as_posix()) if part),
                "readOnly": not mount.writable,
            }
        )
    environment = {**batch.environment, "HOME": "/tmp"}  # noqa: S108
    pod: Object = {
        **restricted_pod(settings),
        "terminationGracePeriodSeconds": 1,
        "containers": [
            {
                "name": "analysis",
                "image": image,
                "imagePullPolicy": settings.imagePullPolicy,
                "command": list(batch.command),
                "workingDir": str(batch.cwd),
                "env": [{"name": key, "value": value} for key, value in sorted(environment.items())],
                "resources": {
                    "requests": {"cpu": settings.cpu, "memory": batch.memory},
                    "limits": {"memory": batch.memory},
                },
                "securityContext": {**RESTRICTED, "readOnlyRootFilesystem": True},
                "volumeMounts": mounts,
            }
        ],
        "volumes": [
            {"name": "tmp", "emptyDir": {}},
            {"name": "storage", "persistentVolumeClaim": {"claimName": storage.claim}},
        ],
    }
    if settings.tolerations:
        pod["tolerations"] = [item.model_dump(exclude_none=True) for item in settings.tolerations]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": batch.name,
            "labels": dict(batch.labels),
            "annotations": {ENTITY_ID: batch.entity_id},
        },
        "spec": {
            "suspend": True,
            "backoffLimit": 0,
            "activeDeadlineSeconds": batch.seconds + settings.lease,  # with whoever waits dead, this ends it
            "ttlSecondsAfterFinished": settings.keepFinished,
            "template": {
                "metadata": {"labels": dict(batch.labels), "annotations": {ENTITY_ID: batch.entity_id}},
                "spec": pod,
            },
        },
    }


def _no_network(batch: Batch, owner: Object) -> Object:
    """Nobody reaches it, and it reaches nobody."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": batch.name, "labels": dict(batch.labels), "ownerReferences": owned_by(owner)},
        "spec": {
            "podSelector": {"matchLabels": {SESSION: batch.name}},
            "policyTypes": ["Ingress", "Egress"],
        },
    }
