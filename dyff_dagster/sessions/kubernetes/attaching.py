"""A session that runs already, found and used by somebody who did not start it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dyff_dagster.schema.platform import InferenceSession
from dyff_dagster.sessions.kubernetes.api import KubernetesApi, Object
from dyff_dagster.sessions.kubernetes.errors import KubernetesError
from dyff_dagster.sessions.kubernetes.logs import LogKeeper
from dyff_dagster.sessions.kubernetes.names import SERVICE_DIGEST, selector
from dyff_dagster.sessions.kubernetes.running import Running
from dyff_dagster.sessions.kubernetes.settings import KubernetesSettings
from dyff_dagster.sessions.kubernetes.signals import failed_job
from dyff_dagster.sessions.kubernetes.tokens import INSTANCE_KEY, token_maker
from dyff_dagster.sessions.kubernetes.watching import Watched
from dyff_dagster.store import Progress

_AGAIN = "materialize the InferenceSession again"


def running_job(api: KubernetesApi, name: str, entity: InferenceSession, service_digest: str) -> Object:
    """The Job of a session that runs.

    Args:
        api: The cluster.
        name: Of the session.
        entity: The InferenceSession.
        service_digest: Digest of what its service is now.

    Raises:
        KubernetesError: It was not started, has ended, or runs a service that has changed since.
    """
    job = api.get("jobs", name)
    if job is None:
        raise KubernetesError(
            f"{entity.id}: no session of it runs in the namespace {api.namespace}: {_AGAIN}",
            session_id=entity.id,
            reason="UnsatisfiedDependency",
        )
    if (reason := failed_job(job)) is not None or job["metadata"].get("deletionTimestamp"):
        expired = reason == "DeadlineExceeded"
        how = "ended at its deadline" if expired else f"ended ({reason or 'it was deleted'})"
        raise KubernetesError(
            f"{entity.id}: the session {how}: {_AGAIN}",
            session_id=entity.id,
            reason="Expired" if expired else None,
        )
    if job["metadata"]["annotations"].get(SERVICE_DIGEST) != service_digest:
        raise KubernetesError(
            f"{entity.id}: the session runs service '{entity.inferenceService.name}' as it was when it started, and "
            f"its spec, code or model has changed since: {_AGAIN}",
            session_id=entity.id,
        )
    return job


def token_of(job: Object, entity_id: str, environment: Mapping[str, str]) -> str:
    """The token of a session that others started.

    Raises:
        KubernetesError: There is no instance key to make it of.
    """
    token_for, known = token_maker(job["metadata"]["name"], environment)
    if not known:
        raise KubernetesError(
            f"{entity_id}: set {INSTANCE_KEY} to what it was when the session was started: its token is made of it",
            session_id=entity_id,
        )
    return token_for(job["metadata"]["uid"])


def running_of(
    api: KubernetesApi,
    job: Object,
    entity: InferenceSession,
    settings: KubernetesSettings,
    logs: Path,
    progress: Progress,
) -> Running:
    """A session as its Job shows it, to be used; nobody here renews it."""
    container = job["spec"]["template"]["spec"]["containers"][0]
    name = job["metadata"]["name"]
    return Running(
        api=api,
        owner=entity.id,
        name=name,
        uid=job["metadata"]["uid"],
        endpoint=entity.inferenceService.interface.endpoint,
        port=container["ports"][0]["containerPort"],
        memory=container["resources"]["limits"].get("memory", ""),
        gpus=0,
        watched=Watched(api, selector(session=name), "jobs", "pods"),
        lease=None,
        logs=LogKeeper(api, logs),
        grace=settings.grace,
        patience=settings.lease,
        progress=progress,
    )
