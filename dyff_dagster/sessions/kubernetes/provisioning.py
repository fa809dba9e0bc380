"""A session brought into being: a suspended Job, what belongs to it, and then its arming.

A crash between two steps costs no GPU where the server knows ``suspend``: nothing runs before the last step. Where
it does not know it (before Kubernetes 1.21), pods start at once and wait for what they need. Names are the same in
every run, so that the next one takes over what it finds instead of making a second.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from dyff_dagster.sessions.kubernetes import manifests
from dyff_dagster.sessions.kubernetes.api import KubernetesApi, Object
from dyff_dagster.sessions.kubernetes.errors import ApiError, KubernetesError
from dyff_dagster.sessions.kubernetes.manifests import SessionPlan
from dyff_dagster.sessions.kubernetes.names import (
    ARMED,
    ATTEMPT,
    FINGERPRINT,
    MANAGED_BY,
    MANAGER,
    RUN,
    SESSION,
)
from dyff_dagster.sessions.kubernetes.signals import belongs_to, failed_job, is_suspended, lives, parse_time
from dyff_dagster.store import Progress, no_progress

_SECONDS_TO_GO = 120.0
"""After which an old session of the same name, which was deleted, must be gone."""
_SECONDS_FOR_SECRET = 3.0
_SECONDS_FOR_OTHERS_SECRET = 20.0
"""In which a Secret of that name goes, if it is of an earlier session; one that stays is ours."""
_SECONDS_TO_RENEW = 2.0
"""That a session which is taken over must have left: at its deadline, it would be gone before it is renewed."""


@dataclass(frozen=True)
class Provisioned:
    """A session's Job, armed.

    Attributes:
        job: As the API server showed it last.
        adopted: Whether it was there before.
        token: What clients must send; None where none is asked for.
        suspends: Whether the server knows ``suspend``.
    """

    job: Object
    adopted: bool
    token: str | None
    suspends: bool

    @property
    def uid(self) -> str:
        """The Job's."""
        return str(self.job["metadata"]["uid"])


def provision(
    api: KubernetesApi,
    plan: SessionPlan,
    *,
    seconds: int,
    expires: datetime | None,
    token_for: Callable[[str], str] | None,
    shared: bool = False,
    progress: Progress = no_progress,
) -> Provisioned:
    """Create a session's objects, or take over those that an earlier run left.

    Args:
        api: The cluster.
        plan: What is wanted.
        seconds: Until it ends by itself, from its arming on.
        expires: When it must have ended in any case.
        token_for: The token of the session whose Job has this uid; None: no token.
        shared: Whether others may be using one that is there: where this fails, it is left as it was.
        progress: Told what is done.

    Raises:
        KubernetesError: The cluster refuses one of the objects, or has something else of that name.
    """
    text = expires.isoformat(timespec="seconds") if expires is not None else None
    first = seconds
    if expires is not None:
        first = max(1, min(seconds, int((expires - api.now()).total_seconds())))
    _must_be_able_to_end(api, plan)
    body = manifests.job(plan, first, text, uuid.uuid4().hex)
    made: Object | None = None
    adopted = False
    try:
        made, adopted = _job(api, plan, body, progress)
        token = token_for(made["metadata"]["uid"]) if token_for is not None else None
        _children(api, plan, made, token, adopted)
        armed = _arm(api, plan, made, seconds, expires, adopted)
    except BaseException as error:
        if not (adopted and shared):
            # What cannot be completed must not stay, and spends nothing that anybody has asked for.
            _quietly_delete(api, body, made)
        if isinstance(error, ApiError):
            raise _of(plan.entity_id, error) from None
        raise
    return Provisioned(armed, adopted, token, suspends="suspend" in armed["spec"])


def _must_be_able_to_end(api: KubernetesApi, plan: SessionPlan) -> None:
    """Refuse to start what could not be ended before its lease is over."""
    try:
        may = api.may("delete", "jobs")
    except ApiError as error:
        if error.status not in (403, 404):
            raise _of(plan.entity_id, error) from None
        return  # nobody tells
    if not may:
        raise KubernetesError(
            f"{plan.entity_id}: its session could not be ended once it has answered: we may not delete jobs in the "
            f"namespace {api.namespace}: add the verb delete on jobs to our Role (docs/kubernetes.md has all of it)",
            session_id=plan.entity_id,
        )


def _job(api: KubernetesApi, plan: SessionPlan, body: Object, progress: Progress) -> tuple[Object, bool]:
    """The Job of that name, made or taken over; and whether it was taken over."""
    end = time.monotonic() + _SECONDS_TO_GO
    while True:
        try:
            made = api.create("jobs", body)
            progress(f"session {plan.name}: created", None, None)
            return made, False
        except ApiError as error:
            if error.code != "AlreadyExists":
                raise _of(plan.entity_id, error) from None
        found = api.get("jobs", plan.name)
        if found is None:
            continue
        if (found["metadata"].get("labels") or {}).get(MANAGED_BY) != MANAGER:
            raise KubernetesError(
                f"{plan.entity_id}: the namespace {api.namespace} has a Job {plan.name} that is not ours: remove it",
                session_id=plan.entity_id,
            )
        if _attempt_of(found) == _attempt_of(body):
            return found, False  # the answer to our own request was lost
        if _may_be_adopted(found, plan, api.now()):
            taken = _taken_over(api, plan)
            if taken is not None:
                progress(
                    f"session {plan.name}: found one that an earlier run left, and took it over", None, None
                )
                return taken, True
        elif not found["metadata"].get("deletionTimestamp"):
            progress(f"session {plan.name}: ending one that does not fit any more", None, None)
            api.delete("jobs", plan.name, uid=found["metadata"]["uid"])
        if time.monotonic() >= end:
            raise KubernetesError(
                f"{plan.entity_id}: an earlier session {plan.name} was deleted and does not go: look at its pods in "
                f"the namespace {api.namespace}",
                session_id=plan.entity_id,
            )
        time.sleep(0.5)


def _taken_over(api: KubernetesApi, plan: SessionPlan) -> Object | None:
    """The Job of that name, which belongs to this run now; None where somebody has ended it meanwhile."""
    try:
        taken = api.patch("jobs", plan.name, {"metadata": {"labels": {RUN: dict(plan.labels).get(RUN)}}})
    except ApiError as error:
        if error.status == 404:
            return None
        raise _of(plan.entity_id, error) from None
    return None if taken["metadata"].get("deletionTimestamp") else taken


def _may_be_adopted(found: Object, plan: SessionPlan, now: datetime) -> bool:
    annotations = found["metadata"].get("annotations") or {}
    return (
        not found["metadata"].get("deletionTimestamp")
        and failed_job(found) is None
        and annotations.get(FINGERPRINT) == plan.fingerprint
        and _has_time(found, plan, now)
    )


def _has_time(found: Object, plan: SessionPlan, now: datetime) -> bool:
    """Whether it lives long enough to be renewed, and may live long enough to be of use."""
    begun = parse_time((found.get("status") or {}).get("startTime"))
    if begun is None:
        return True  # its time has not begun
    lived = (now - begun).total_seconds()
    left = found["spec"].get("activeDeadlineSeconds", 0) - lived
    return left >= _SECONDS_TO_RENEW and plan.settings.maxLifetime - lived >= plan.settings.lease / 2


def _attempt_of(job: Object) -> str:
    return str((job["metadata"].get("annotations") or {}).get(ATTEMPT, ""))


def _children(api: KubernetesApi, plan: SessionPlan, owner: Object, token: str | None, adopted: bool) -> None:
    wanted: list[tuple[str, Object]] = []
    if token is not None:
        wanted.append(("secrets", manifests.secret(plan, owner, token)))
    if plan.files:
        wanted.append(("configmaps", manifests.config_map(plan, owner)))
    wanted += [
        ("networkpolicies", manifests.network_policy(plan, owner)),
        ("services", manifests.service(plan, owner)),
    ]
    for kind, body in wanted:
        create_child(api, plan.entity_id, kind, body, adopted)


def create_child(api: KubernetesApi, entity_id: str, kind: str, body: Object, adopted: bool = False) -> None:
    """Create an object that a Job owns; one of its name that is there may be of an earlier Job, and just going.

    Args:
        api: The cluster.
        entity_id: Whose it is, for messages.
        kind: Plural of its kind.
        body: The object, with its owner.
        adopted: Whether the Job was there before, and so perhaps this.

    Raises:
        KubernetesError: The cluster refuses it, or has something else of that name.
    """
    name = body["metadata"]["name"]
    begun = time.monotonic()
    lost = False  # whether an answer to an earlier try may have been
    while True:
        try:
            api.create(kind, body)
            return
        except ApiError as error:
            if error.code != "AlreadyExists":
                raise _of(entity_id, error) from None
            lost = lost or error.tries > 1
        waited = time.monotonic() - begun
        if kind == "secrets":
            # We may not read it. One that is older than its Job goes within seconds; one that stays was made by a try
            # of ours whose answer was lost.
            if adopted or waited >= (_SECONDS_FOR_SECRET if lost else _SECONDS_FOR_OTHERS_SECRET):
                return
        elif _is_of(api.get(kind, name), body):
            return
        if waited >= _SECONDS_TO_GO:
            raise KubernetesError(
                f"{entity_id}: the namespace {api.namespace} has {kind} {name} of something else: remove it",
                session_id=entity_id,
            )
        time.sleep(0.5)


def _is_of(found: Object | None, body: Object) -> bool:
    if found is None:
        return False
    owners = found["metadata"].get("ownerReferences") or ()
    return any(owner["uid"] == body["metadata"]["ownerReferences"][0]["uid"] for owner in owners)


def _arm(
    api: KubernetesApi,
    plan: SessionPlan,
    made: Object,
    seconds: int,
    expires: datetime | None,
    adopted: bool,
) -> Object:
    """Let it run, for ``seconds`` from now on, never past ``expires``; one that was taken over keeps what it had."""
    begun = parse_time((made.get("status") or {}).get("startTime"))
    now = api.now()
    deadline = now + timedelta(seconds=seconds)
    if adopted and begun is not None:
        deadline = max(deadline, begun + timedelta(seconds=made["spec"].get("activeDeadlineSeconds", 0)))
    if expires is not None:
        deadline = min(deadline, expires)
    limit = max(1, int((deadline - (begun or now)).total_seconds()))
    limit = min(limit, plan.settings.maxLifetime)
    change: dict[str, Any] = {
        "metadata": {"annotations": {ARMED: now.isoformat(timespec="seconds")}},
        "spec": {"activeDeadlineSeconds": limit},
    }
    if is_suspended(made) and plan.placement.queue is None:
        change["spec"]["suspend"] = False  # a queue does that itself
    return api.patch("jobs", plan.name, change)


def end(
    api: KubernetesApi,
    name: str,
    uid: str | None,
    *,
    wait: float,
    grace: int | None = None,
    wholly: bool = False,
) -> bool:
    """Delete a session with all that belongs to it, and wait until its pods have ended; whether there was one.

    Args:
        api: The cluster.
        name: Of the session.
        uid: Of its Job, so that a later one of the same name is left alone; None: whichever there is.
        wait: Seconds to wait for its pods.
        grace: Seconds that pods get; default their own.
        wholly: Wait until the cluster has forgotten it, too, so that there can be another of its name.

    Raises:
        KubernetesError: It is still there after that time.
    """
    was_there = api.delete("jobs", name, uid=uid, grace=grace)
    until = time.monotonic() + wait
    labels = f"{SESSION}={name}"
    pause = 0.1
    while True:
        job = api.get("jobs", name)
        pods = [
            pod
            for pod in api.find("pods", labels)
            if (wholly or lives(pod)) and (uid is None or belongs_to(pod, uid))
        ]
        if job is not None and uid is not None and job["metadata"]["uid"] != uid:
            job = None
        going = job is None or (not wholly and job["metadata"].get("deletionTimestamp"))
        if not pods and going:
            return was_there
        if time.monotonic() >= until:
            raise KubernetesError(
                f"session {name} was deleted, and after {wait:g} s pods of it are still there: look at the namespace "
                f"{api.namespace}; at the latest they end at their deadline"
            )
        time.sleep(pause)
        pause = min(1.0, pause * 1.5)


def _quietly_delete(api: KubernetesApi, body: Object, made: Object | None) -> None:
    """Delete what was made, also where nobody heard that it was; else it ends by itself at its deadline."""
    name = body["metadata"]["name"]
    with suppress(ApiError):
        found = made or api.get("jobs", name)
        if found is not None and (made is not None or _attempt_of(found) == _attempt_of(body)):
            api.delete("jobs", name, uid=found["metadata"]["uid"], grace=0)


def _of(entity_id: str, error: ApiError) -> KubernetesError:
    return KubernetesError(f"{entity_id}: {error}", session_id=entity_id, reason=error.reason)
