"""What sessions there are on a cluster, and which of them nobody needs any more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from dyff_dagster.sessions.kubernetes.api import KubernetesApi, Object
from dyff_dagster.sessions.kubernetes.names import ACCOUNT, ENTITY_ID, EXPIRES, KIND, RUN, selector
from dyff_dagster.sessions.kubernetes.signals import failed_job, is_suspended, look, parse_time

_NEVER_ARMED = timedelta(hours=1)
"""After which a session that nobody has armed is what a crash left."""


@dataclass(frozen=True)
class ClusterSession:
    """A session that lives until it expires, as its Job shows it.

    Attributes:
        name: Of its Job.
        entity_id: The InferenceSession or Evaluation.
        run_id: The Dagster run that it belongs to.
        account: Who pays.
        phase: ``queued``, ``starting``, ``serving`` or why it has ended.
        ready: Replicas that serve.
        replicas: Those that are wanted.
        expires: When it ends by itself, as far as that is known.
        created: When its Job was made.
        gpus: Accelerators of each replica, in words.
        kind: Whether it is an Evaluation's or an InferenceSession's.
        queue: Kueue's LocalQueue that it waits in; empty where there is none.
        uid: Of its Job.
        version: Of its Job, as it was seen: another one has been changed since.
    """

    name: str
    entity_id: str
    run_id: str
    account: str
    phase: str
    ready: int
    replicas: int
    expires: datetime | None
    created: datetime
    gpus: str = ""
    kind: str = ""
    queue: str = ""
    uid: str = ""
    version: str = ""

    @property
    def ended(self) -> bool:
        """Whether it spends nothing more."""
        return self.phase not in ("queued", "starting", "serving")


def shown(api: KubernetesApi, job: Object, ready: int | None = None) -> ClusterSession:
    """A session as its Job, and its pods where ``ready`` is not given, show it."""
    metadata, status = job["metadata"], job.get("status") or {}
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    if ready is None:
        pods = api.find("pods", selector(session=metadata["name"]))
        ready = sum(look(pod).serves for pod in pods)
    reason = failed_job(job)
    if reason is not None:
        phase = {"DeadlineExceeded": "expired", "BackoffLimitExceeded": "failed"}.get(reason, "ended")
    elif metadata.get("deletionTimestamp"):
        phase = "terminating"
    elif is_suspended(job):
        phase = "queued"
    else:
        phase = "serving" if ready >= job["spec"]["parallelism"] else "starting"
    begun = parse_time(status.get("startTime"))
    limits = job["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    expires = parse_time(annotations.get(EXPIRES))
    if begun is not None and (seconds := job["spec"].get("activeDeadlineSeconds")) is not None:
        expires = begun + timedelta(seconds=seconds)
    created = parse_time(metadata["creationTimestamp"])
    assert created is not None  # noqa: S101 - the API server sets it
    return ClusterSession(
        name=metadata["name"],
        entity_id=annotations.get(ENTITY_ID, ""),
        run_id=labels.get(RUN, ""),
        account=labels.get(ACCOUNT, ""),
        kind=labels.get(KIND, ""),
        queue=labels.get("kueue.x-k8s.io/queue-name", ""),
        uid=metadata["uid"],
        version=metadata.get("resourceVersion", ""),
        phase=phase,
        ready=ready,
        replicas=job["spec"]["parallelism"],
        expires=expires,
        created=created,
        gpus=", ".join(f"{count} × {name}" for name, count in limits.items() if "/" in name),
    )


def why_orphan(session: ClusterSession, now: datetime, run_is_over: Callable[[str], bool | None]) -> str:
    """Why nobody needs a session any more, as a clause; empty where somebody may.

    What is ended for this reason would have ended by itself, at its lease: this is for comfort.

    Args:
        session: The session.
        now: The time.
        run_is_over: Whether a Dagster run has ended; None for one that is not known here.
    """
    if session.ended:
        return ""
    if session.phase == "queued" and not session.queue and now - session.created > _NEVER_ARMED:
        return "nobody has armed it"
    if session.kind == "Evaluation" and session.run_id and run_is_over(session.run_id):
        return f"the run {session.run_id} is over"
    return ""
